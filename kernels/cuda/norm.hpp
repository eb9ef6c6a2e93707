// The end of every norm's backward pass with learned scalars.
#pragma once

#include "kernels/cuda/device.hpp"

namespace spillway {

// dλ0 += Σ<g, x0> ;  dλr += (Σ<g, h/rstd> − λ0·Σ<g, x0>)/λr, in a fixed order.
// partial: (2, blocks), <g, x0> and then <g, h/rstd> of each block's rows. All pointers are on the device.
void add_lambda_gradients(Cuda& device, float* dlambda_r, float* dlambda_0, const float* partial, int blocks,
                          const float* lambda_r, const float* lambda_0);

}  // namespace spillway
