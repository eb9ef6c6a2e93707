// Casts to FP8 with what comes before them: relu² and its gradient. Each input crosses memory once (twice where the scale is
// measured), both copies of the output once.
#include <algorithm>

#include "kernels/cuda/fp8.cuh"

namespace spillway {

namespace {

constexpr int kThreads = 256;

// What is cast, from one element of each input; `b` is the first input again where there is one only.
struct Identity {
  static constexpr bool kTwoInputs = false;
  __device__ float operator()(float a, float) const { return a; }
};
struct Relu2 {
  static constexpr bool kTwoInputs = false;
  __device__ float operator()(float a, float) const { return a > 0 || a != a ? a * a : 0.0f; }  // NaN stays
};
struct Relu2Gradient {
  static constexpr bool kTwoInputs = true;
  __device__ float operator()(float da, float h) const { return 2.0f * fmaxf(h, 0.0f) * da; }
};

template <class Function>
__device__ __forceinline__ void load_values(float (&values)[kVector], const bf16* a, const bf16* b,
                                            std::int64_t vector, const Function& function) {
  unpack(values, vectors(a)[vector]);
  float second[kVector];
  if constexpr (Function::kTwoInputs) unpack(second, vectors(b)[vector]);
#pragma unroll
  for (int j = 0; j < kVector; ++j)
    values[j] = function(values[j], Function::kTwoInputs ? second[j] : values[j]);
}

// Largest magnitude, by its bits: those of NaN are above all others. scale->amax starts at 0.
template <class Function>
__global__ void __launch_bounds__(kThreads)
    amax_kernel(Fp8Scale* scale, const bf16* __restrict__ a, const bf16* __restrict__ b, std::int64_t count) {
  std::uint32_t largest = 0;
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * kThreads;
#pragma unroll 4
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < count;
       i += stride) {
    float values[kVector];
    load_values(values, a, b, i, Function());
#pragma unroll
    for (int j = 0; j < kVector; ++j) largest = max(largest, __float_as_uint(values[j]) & 0x7fffffffu);
  }
  largest = __reduce_max_sync(0xffffffffu, largest);
  if (threadIdx.x % kWarp == 0) atomicMax(reinterpret_cast<unsigned*>(&scale->amax), largest);
}

template <Fp8Format kFormat, class Function>
__global__ void __launch_bounds__(kTileThreads)
    cast_kernel(Fp8Matrix out, const bf16* __restrict__ a, const bf16* __restrict__ b, int rows, int cols) {
  __shared__ __align__(16) TransposedTile tile;
  const int first_row = blockIdx.y * kTile, first_col = blockIdx.x * kTile;
  const int row = first_row + kPatch * (threadIdx.x / kPatches);
  const int col = first_col + kPatch * (threadIdx.x % kPatches);
  const float factor = fp8_factor<kFormat>(out.scale->amax);
  Fp8Patch patch = {};
  if (row < rows && col < cols) {
#pragma unroll
    for (int i = 0; i < kPatch; ++i) {
      float v[kVector];
      load_values(v, a, b, (static_cast<std::int64_t>(row + i) * cols + col) / kVector, Function());
#pragma unroll
      for (int j = 0; j < kVector; ++j) v[j] *= factor;
      patch[i] = pack_fp8<kFormat>(v);
    }
  }
  store_tile(out, tile, patch, first_row, first_col, rows, cols);
  if (first_of_grid()) out.scale->inverse = 1.0f / factor;
}

template <class Function>
void cast(Cuda& device, const Fp8Matrix& out, const bf16* a, const bf16* b, int rows, int cols,
          Fp8Scaling scaling) {
  check_fp8_sizes(rows, cols);
  if (scaling == Fp8Scaling::measure) {
    device.set_zero(&out.scale->amax, sizeof(float));
    const std::int64_t count = static_cast<std::int64_t>(rows) * cols / kVector;
    const int blocks = std::min(ceil_div(count, 4 * kThreads), 8 * device.multiprocessors());
    amax_kernel<Function><<<blocks, kThreads, 0, device.stream()>>>(out.scale, a, b, count);
    LAUNCH_CHECK();
  }
  const auto kernel = out.format == Fp8Format::e4m3 ? cast_kernel<Fp8Format::e4m3, Function>
                                                    : cast_kernel<Fp8Format::e5m2, Function>;
  const dim3 tiles(ceil_div(cols, kTile), ceil_div(rows, kTile));
  kernel<<<tiles, kTileThreads, 0, device.stream()>>>(out, a, b, rows, cols);
  LAUNCH_CHECK();
}

}  // namespace

void fp8_cast(Cuda& device, const Fp8Matrix& out, const bf16* x, int rows, int cols, Fp8Scaling scaling) {
  cast<Identity>(device, out, x, x, rows, cols, scaling);
}

void fp8_relu2_forward(Cuda& device, const Fp8Matrix& out, const bf16* h, int rows, int cols,
                       Fp8Scaling scaling) {
  cast<Relu2>(device, out, h, h, rows, cols, scaling);
}

void fp8_relu2_backward(Cuda& device, const Fp8Matrix& out, const bf16* da, const bf16* h, int rows, int cols,
                        Fp8Scaling scaling) {
  cast<Relu2Gradient>(device, out, da, h, rows, cols, scaling);
}

}  // namespace spillway
