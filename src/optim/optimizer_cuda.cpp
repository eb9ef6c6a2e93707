#ifdef SPILLWAY_HAVE_CUDA

#include "kernels/cuda/device.hpp"
#include "optim/optimizer_impl.hpp"

namespace spillway {

template class Optimizer<Cuda>;
template Optimizer<PlanOnly<Cuda>>::Optimizer(PlanOnly<Cuda>&, const ParameterLayout&, const OptimConfig&,
                                              std::int64_t, RankShare);

}  // namespace spillway

#endif
