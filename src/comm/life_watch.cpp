#include "comm/life_watch.hpp"

#include <algorithm>

namespace spillway {
namespace {

constexpr double kMostPerLook_s = 0.25;

}  // namespace

void LifeWatch::look(double now_s, std::uint64_t number) {
  if (number == number_)
    unchanged_s_ += std::min(now_s - looked_s_, kMostPerLook_s);
  else
    unchanged_s_ = 0;
  number_ = number;
  looked_s_ = now_s;
}

}  // namespace spillway
