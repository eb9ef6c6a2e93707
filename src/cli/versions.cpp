#include "cli/versions.hpp"

#include <fmt/core.h>

#include <boost/version.hpp>

namespace spillway::cli {

nlohmann::json versions() {
  nlohmann::json versions = {{"spillway", SPILLWAY_VERSION},
                             {"compiler", fmt::format("g++ {}", __VERSION__)},
                             {"boost", fmt::format("{}.{}.{}", BOOST_VERSION / 100000,
                                                   BOOST_VERSION / 100 % 1000, BOOST_VERSION % 100)}};
#ifdef SPILLWAY_HAVE_CUDA
  versions["backend"] = "CPU and CUDA";
#else
  versions["backend"] = "CPU";
#endif
  return versions;
}

}  // namespace spillway::cli
