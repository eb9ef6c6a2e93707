#include "optim/optimizer_impl.hpp"

namespace spillway {

template class Optimizer<Cpu>;

}  // namespace spillway
