#ifdef SPILLWAY_HAVE_CUDA

#include "kernels/cuda/device.hpp"
#include "optim/optimizer_impl.hpp"

namespace spillway {

template class Optimizer<Cuda>;

}  // namespace spillway

#endif
