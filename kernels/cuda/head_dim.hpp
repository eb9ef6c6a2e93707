// The head dimensions that kernels are compiled for.
#pragma once

#include <type_traits>

#include "kernels/cuda/check.hpp"

namespace spillway {

// Calls `launch` with D as an integral_constant. Throws std::runtime_error where D is not 32, 64 or 128.
template <class Launch>
void with_head_dim(int D, const Launch& launch) {
  switch (D) {
    case 32:
      return launch(std::integral_constant<int, 32>());
    case 64:
      return launch(std::integral_constant<int, 64>());
    case 128:
      return launch(std::integral_constant<int, 128>());
    default:
      SHAPE_CHECK(false, "the head dimension must be 32, 64 or 128");
  }
}

}  // namespace spillway
