#ifdef SPILLWAY_HAVE_CUDA

#include "kernels/cuda/device.hpp"
#include "model/backward.hpp"
#include "model/forward.hpp"

namespace spillway {

template class Gpt<Cuda>;

}  // namespace spillway

#endif
