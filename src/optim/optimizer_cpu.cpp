#include "optim/optimizer_impl.hpp"

namespace spillway {

template class Optimizer<Cpu>;
template Optimizer<PlanOnly<Cpu>>::Optimizer(PlanOnly<Cpu>&, const ParameterLayout&, const OptimConfig&,
                                             std::int64_t, RankShare);

}  // namespace spillway
