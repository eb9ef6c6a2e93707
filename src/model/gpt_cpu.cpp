#include "model/backward.hpp"
#include "model/forward.hpp"

namespace spillway {

template class Gpt<Cpu>;

}  // namespace spillway
