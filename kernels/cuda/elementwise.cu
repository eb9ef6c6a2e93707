// Ops without neighbours: relu², AdamW, casts, scaling. kWidth elements per thread and turn; 1 where pointers or sizes
// are not multiples of a vector.
#include "kernels/cuda/common.cuh"
#include "kernels/ops.hpp"

namespace spillway {

namespace {

constexpr int kThreads = 256;
constexpr int kFloats = 4;  // in 16 bytes

__device__ __forceinline__ std::int64_t first_index() {
  return static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
}

template <bool kVectorized, class Function>
__device__ __forceinline__ void map_bf16(bf16* out, const bf16* a, const bf16* b, std::int64_t n,
                                         const Function& function) {
  const std::int64_t i = first_index();
  if constexpr (kVectorized) {
    if (i >= n / kVector) return;
    float left[kVector], right[kVector];
    unpack(left, vectors(a)[i]);
    unpack(right, vectors(b)[i]);
#pragma unroll
    for (int j = 0; j < kVector; ++j) left[j] = function(left[j], right[j]);
    vectors(out)[i] = pack(left);
  } else {
    if (i < n) out[i] = store_bf16(function(load_bf16(a + i), load_bf16(b + i)));
  }
}

template <bool kVectorized>
__global__ void __launch_bounds__(kThreads) relu2_forward_kernel(bf16* a, const bf16* h, std::int64_t n) {
  map_bf16<kVectorized>(a, h, h, n, [](float value, float) {
    const float positive = fmaxf(value, 0.0f);
    return value != value ? value : positive * positive;  // fmaxf would hide a NaN
  });
}

template <bool kVectorized>
__global__ void __launch_bounds__(kThreads)
    relu2_backward_kernel(bf16* dh, const bf16* da, const bf16* a, std::int64_t n) {
  map_bf16<kVectorized>(dh, da, a, n,
                        [](float gradient, float value) { return 2.0f * sqrtf(value) * gradient; });
}

__device__ __forceinline__ float adamw_element(float p, float& m, float& v, float g, const AdamwStep& step) {
  m = step.beta1 * m + (1.0f - step.beta1) * g;
  v = step.beta2 * v + (1.0f - step.beta2) * g * g;
  return p -
         step.learning_rate * (m / step.bias_correction1) / (sqrtf(v / step.bias_correction2) + step.epsilon);
}

template <bool kVectorized>
__global__ void __launch_bounds__(kThreads)
    adamw_kernel(float* p, bf16* compute_copy, float* m, float* v, const float* g, AdamwStep step,
                 const float* gate_total, std::int64_t n) {
  if (!isfinite(*gate_total)) return;
  const std::int64_t i = first_index();
  if constexpr (kVectorized) {
    if (i >= n / kFloats) return;
    float4 param = reinterpret_cast<float4*>(p)[i], first = reinterpret_cast<float4*>(m)[i];
    float4 second = reinterpret_cast<float4*>(v)[i];
    const float4 gradient = reinterpret_cast<const float4*>(g)[i];
    param.x = adamw_element(param.x, first.x, second.x, gradient.x, step);
    param.y = adamw_element(param.y, first.y, second.y, gradient.y, step);
    param.z = adamw_element(param.z, first.z, second.z, gradient.z, step);
    param.w = adamw_element(param.w, first.w, second.w, gradient.w, step);
    reinterpret_cast<float4*>(p)[i] = param;
    reinterpret_cast<float4*>(m)[i] = first;
    reinterpret_cast<float4*>(v)[i] = second;
    if (compute_copy != nullptr)
      reinterpret_cast<uint2*>(compute_copy)[i] =
          make_uint2(ptx::pack_bf16(param.x, param.y), ptx::pack_bf16(param.z, param.w));
  } else {
    if (i >= n) return;
    p[i] = adamw_element(p[i], m[i], v[i], g[i], step);
    if (compute_copy != nullptr) compute_copy[i] = store_bf16(p[i]);
  }
}

template <bool kVectorized>
__global__ void __launch_bounds__(kThreads) cast_kernel(bf16* compute_copy, const float* p, std::int64_t n) {
  const std::int64_t i = first_index();
  if constexpr (kVectorized) {
    if (i >= n / kFloats) return;
    const float4 values = reinterpret_cast<const float4*>(p)[i];
    reinterpret_cast<uint2*>(compute_copy)[i] =
        make_uint2(ptx::pack_bf16(values.x, values.y), ptx::pack_bf16(values.z, values.w));
  } else {
    if (i < n) compute_copy[i] = store_bf16(p[i]);
  }
}

__global__ void __launch_bounds__(kThreads) scale_kernel(float* values, float factor, std::int64_t n) {
  const std::int64_t i = first_index();
  if (i < n) values[i] *= factor;
}

__global__ void __launch_bounds__(kThreads) add_kernel(float* values, const float* addends, std::int64_t n) {
  const std::int64_t i = first_index();
  if (i < n) values[i] += addends[i];
}

}  // namespace

void relu2_forward(Cuda& device, bf16* a, const bf16* h, std::int64_t n) {
  if (n % kVector == 0 && is_aligned(a, 16) && is_aligned(h, 16))
    relu2_forward_kernel<true><<<ceil_div(n / kVector, kThreads), kThreads, 0, device.stream()>>>(a, h, n);
  else
    relu2_forward_kernel<false><<<ceil_div(n, kThreads), kThreads, 0, device.stream()>>>(a, h, n);
  LAUNCH_CHECK();
}

void relu2_backward(Cuda& device, bf16* dh, const bf16* da, const bf16* a, std::int64_t n) {
  if (n % kVector == 0 && is_aligned(dh, 16) && is_aligned(da, 16) && is_aligned(a, 16))
    relu2_backward_kernel<true>
        <<<ceil_div(n / kVector, kThreads), kThreads, 0, device.stream()>>>(dh, da, a, n);
  else
    relu2_backward_kernel<false><<<ceil_div(n, kThreads), kThreads, 0, device.stream()>>>(dh, da, a, n);
  LAUNCH_CHECK();
}

void adamw_update(Cuda& device, float* p, bf16* compute_copy, float* m, float* v, const float* g,
                  const AdamwStep& step, const float* gate_total, std::int64_t n) {
  const bool aligned = is_aligned(p, 16) && is_aligned(m, 16) && is_aligned(v, 16) && is_aligned(g, 16) &&
                       is_aligned(compute_copy, 8);
  if (n % kFloats == 0 && aligned)
    adamw_kernel<true><<<ceil_div(n / kFloats, kThreads), kThreads, 0, device.stream()>>>(
        p, compute_copy, m, v, g, step, gate_total, n);
  else
    adamw_kernel<false><<<ceil_div(n, kThreads), kThreads, 0, device.stream()>>>(p, compute_copy, m, v, g,
                                                                                 step, gate_total, n);
  LAUNCH_CHECK();
}

void cast_parameters(Cuda& device, bf16* compute_copy, const float* p, std::int64_t n) {
  if (n % kFloats == 0 && is_aligned(p, 16) && is_aligned(compute_copy, 8))
    cast_kernel<true><<<ceil_div(n / kFloats, kThreads), kThreads, 0, device.stream()>>>(compute_copy, p, n);
  else
    cast_kernel<false><<<ceil_div(n, kThreads), kThreads, 0, device.stream()>>>(compute_copy, p, n);
  LAUNCH_CHECK();
}

void scale(Cuda& device, float* values, float factor, std::int64_t n) {
  scale_kernel<<<ceil_div(n, kThreads), kThreads, 0, device.stream()>>>(values, factor, n);
  LAUNCH_CHECK();
}

void add(Cuda& device, float* values, const float* addends, std::int64_t n) {
  add_kernel<<<ceil_div(n, kThreads), kThreads, 0, device.stream()>>>(values, addends, n);
  LAUNCH_CHECK();
}

}  // namespace spillway
