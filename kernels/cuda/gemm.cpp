// Row-major D = op(A)·op(B) is column-major Dᵀ = op(B)ᵀ·op(A)ᵀ: cuBLASLt gets our B as its A.
#include "kernels/cuda/gemm.hpp"

#include <algorithm>
#include <array>
#include <cstdio>
#include <vector>

#include "kernels/cuda/check.hpp"
#include "kernels/cuda/gemm_plans.hpp"
#include "kernels/cuda/state.hpp"

namespace spillway {

namespace {

// Asked for; cuBLASLt 13.0 gives 8, the best of which is 0 to 20 % faster than the first (H100, 2026-11-23).
constexpr int kCandidates = 16;
constexpr int kTimings = 3;  // per candidate, after one that warms up; the median counts

int alignment_of(const void* pointer) {
  const auto address = reinterpret_cast<std::uintptr_t>(pointer);
  int alignment = 256;
  while (address % static_cast<std::uintptr_t>(alignment) != 0) alignment /= 2;
  return alignment;
}

cublasLtMatrixLayout_t make_layout(cudaDataType_t type, int rows, int cols, int batch) {
  cublasLtMatrixLayout_t layout = nullptr;
  CUBLAS_CHECK(cublasLtMatrixLayoutCreate(&layout, type, static_cast<std::uint64_t>(rows),
                                          static_cast<std::uint64_t>(cols), rows));
  const auto count = static_cast<std::int32_t>(batch);
  const std::int64_t stride = static_cast<std::int64_t>(rows) * cols;
  CUBLAS_CHECK(
      cublasLtMatrixLayoutSetAttribute(layout, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count, sizeof count));
  CUBLAS_CHECK(cublasLtMatrixLayoutSetAttribute(layout, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &stride,
                                                sizeof stride));
  return layout;
}

// cuBLASLt's candidates for a plan, best first by its own estimate.
std::vector<cublasLtMatmulHeuristicResult_t> candidates_for(cublasLtHandle_t cublas, const GemmPlan& plan,
                                                            const GemmKey& key, int wanted) {
  cublasLtMatmulPreference_t preference = nullptr;
  CUBLAS_CHECK(cublasLtMatmulPreferenceCreate(&preference));
  const auto set = [&](cublasLtMatmulPreferenceAttributes_t attribute, const auto& value) {
    CUBLAS_CHECK(cublasLtMatmulPreferenceSetAttribute(preference, attribute, &value, sizeof value));
  };
  set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, Cuda::kWorkspaceBytes);
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, static_cast<std::uint32_t>(key.alignment_b));
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, static_cast<std::uint32_t>(key.alignment_a));
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, static_cast<std::uint32_t>(key.alignment_c));
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, static_cast<std::uint32_t>(key.alignment_d));
  std::vector<cublasLtMatmulHeuristicResult_t> found(static_cast<std::size_t>(wanted));
  int count = 0;
  const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(
      cublas, plan.product, plan.A, plan.B, plan.C, plan.C, preference, wanted, found.data(), &count);
  CUBLAS_CHECK(cublasLtMatmulPreferenceDestroy(preference));
  CUBLAS_CHECK(status);
  SHAPE_CHECK(count > 0, "cuBLASLt has no algorithm for this matrix product");
  found.resize(static_cast<std::size_t>(count));
  return found;
}

// What cuBLASLt calls A and B is our B and A.
void set_scales(const GemmPlan& plan, const GemmPlans::Operands& operands) {
  CUBLAS_CHECK(cublasLtMatmulDescSetAttribute(plan.product, CUBLASLT_MATMUL_DESC_A_SCALE_POINTER,
                                              &operands.scale_B, sizeof operands.scale_B));
  CUBLAS_CHECK(cublasLtMatmulDescSetAttribute(plan.product, CUBLASLT_MATMUL_DESC_B_SCALE_POINTER,
                                              &operands.scale_A, sizeof operands.scale_A));
}

cublasStatus_t launch(const Cuda& device, const GemmPlan& plan, const cublasLtMatmulAlgo_t& algorithm,
                      const GemmPlans::Operands& operands) {
  if (operands.scale_A != nullptr) set_scales(plan, operands);
  return cublasLtMatmul(device.state().cublas, plan.product, &operands.alpha, operands.B, plan.A, operands.A,
                        plan.B, &operands.beta, operands.C, plan.C, operands.D, plan.C, &algorithm,
                        device.workspace(Cuda::kWorkspaceBytes), Cuda::kWorkspaceBytes, device.stream());
}

// Median time of one candidate, or a negative number where it refuses to run.
float time_candidate(const Cuda& device, const GemmPlan& plan, const cublasLtMatmulAlgo_t& algorithm,
                     const GemmPlans::Operands& operands) {
  if (launch(device, plan, algorithm, operands) != CUBLAS_STATUS_SUCCESS) return -1;
  CudaEvent start, stop;
  std::array<float, kTimings> times{};
  for (float& time : times) {
    start.record(device);
    CUBLAS_CHECK(launch(device, plan, algorithm, operands));
    stop.record(device);
    time = stop.ms_since(start);
  }
  std::sort(times.begin(), times.end());
  return times[kTimings / 2];
}

void choose_fastest(const Cuda& device, GemmPlan& plan, const GemmPlans::Operands& operands,
                    const std::vector<cublasLtMatmulHeuristicResult_t>& candidates) {
  plan.candidates = static_cast<int>(candidates.size());
  plan.chosen = -1;
  for (int i = 0; i < plan.candidates; ++i) {
    const cublasLtMatmulAlgo_t& algorithm = candidates[static_cast<std::size_t>(i)].algo;
    const float time = time_candidate(device, plan, algorithm, operands);
    if (time < 0) continue;
    if (i == 0) plan.first_choice_ms = time;
    if (plan.chosen >= 0 && time >= plan.best_ms) continue;
    plan.algorithm = algorithm;
    plan.best_ms = time;
    plan.chosen = i;
  }
  SHAPE_CHECK(plan.chosen >= 0, "no algorithm that cuBLASLt proposed for this matrix product runs");
}

}  // namespace

GemmPlan::GemmPlan(const Gemm& shape) {
  CUBLAS_CHECK(cublasLtMatmulDescCreate(&product, CUBLAS_COMPUTE_32F, CUDA_R_32F));
  const cublasOperation_t transpose_a = shape.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N;
  const cublasOperation_t transpose_b = shape.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N;
  CUBLAS_CHECK(
      cublasLtMatmulDescSetAttribute(product, CUBLASLT_MATMUL_DESC_TRANSA, &transpose_a, sizeof transpose_a));
  CUBLAS_CHECK(
      cublasLtMatmulDescSetAttribute(product, CUBLASLT_MATMUL_DESC_TRANSB, &transpose_b, sizeof transpose_b));
  const auto fast = static_cast<std::int8_t>(shape.fast_accumulation);
  CUBLAS_CHECK(cublasLtMatmulDescSetAttribute(product, CUBLASLT_MATMUL_DESC_FAST_ACCUM, &fast, sizeof fast));
  const cudaDataType_t type_a = shape.input == GemmInput::bf16 ? CUDA_R_16BF : CUDA_R_8F_E4M3;
  const cudaDataType_t type_b = shape.input == GemmInput::e5m2_e4m3 ? CUDA_R_8F_E5M2 : type_a;
  A = shape.transpose_b ? make_layout(type_a, shape.k, shape.n, shape.batch)
                        : make_layout(type_a, shape.n, shape.k, shape.batch);
  B = shape.transpose_a ? make_layout(type_b, shape.m, shape.k, shape.batch)
                        : make_layout(type_b, shape.k, shape.m, shape.batch);
  C = make_layout(shape.fp32_output ? CUDA_R_32F : CUDA_R_16BF, shape.n, shape.m, shape.batch);
}

GemmPlan::~GemmPlan() {
  for (const cublasLtMatrixLayout_t layout : {A, B, C})
    if (layout != nullptr) cublasLtMatrixLayoutDestroy(layout);
  if (product != nullptr) cublasLtMatmulDescDestroy(product);
}

const GemmPlan& GemmPlans::find(Cuda& device, const Gemm& shape, const Operands& operands) {
  const GemmKey key = {shape, alignment_of(operands.A), alignment_of(operands.B), alignment_of(operands.C),
                       alignment_of(operands.D)};
  if (const auto known = plans_.find(key); known != plans_.end()) return *known->second;
  auto plan = std::make_unique<GemmPlan>(shape);
  const bool trial = device.rehearsing && !device.deterministic;
  const auto candidates = candidates_for(device.state().cublas, *plan, key, trial ? kCandidates : 1);
  if (trial) {
    choose_fastest(device, *plan, operands, candidates);
  } else {
    plan->algorithm = candidates.front().algo;
    plan->candidates = 1;
  }
  return *plans_.emplace(key, std::move(plan)).first->second;
}

std::string GemmPlans::describe() const {
  std::string text;
  for (const auto& [key, plan] : plans_) {
    const Gemm& shape = key.shape;
    std::array<char, 200> line{};
    std::snprintf(line.data(), line.size(), "gemm %d x %d x %d %c%c %s%s batch %d: ", shape.m, shape.n,
                  shape.k, shape.transpose_a ? 'T' : 'N', shape.transpose_b ? 'T' : 'N',
                  shape.input == GemmInput::bf16 ? "" : "fp8 -> ", shape.fp32_output ? "fp32" : "bf16",
                  shape.batch);
    text += line.data();
    const double tflop = 2e-12 * shape.m * shape.n * shape.k * shape.batch;
    if (plan->best_ms > 0)
      std::snprintf(line.data(), line.size(), "choice %d of %d, %.0f TFLOP/s (first choice %.0f)\n",
                    plan->chosen + 1, plan->candidates, tflop / plan->best_ms * 1e3,
                    plan->first_choice_ms > 0 ? tflop / plan->first_choice_ms * 1e3 : 0.0);
    else
      std::snprintf(line.data(), line.size(), "cuBLASLt's first choice, not timed\n");
    text += line.data();
  }
  return text;
}

namespace {

void multiply(Cuda& device, const Gemm& shape, const GemmPlans::Operands& operands) {
  const GemmPlan& plan = device.state().gemm_plans->find(device, shape, operands);
  CUBLAS_CHECK(launch(device, plan, plan.algorithm, operands));
}

}  // namespace

void gemm(Cuda& device, const Gemm& shape, float alpha, const bf16* A, const bf16* B, float beta,
          const void* C, void* D) {
  multiply(device, shape, {alpha, beta, A, B, C, D, nullptr, nullptr});
}

void gemm(Cuda& device, const Gemm& shape, Fp8Operand A, Fp8Operand B, float beta, const void* C, void* D) {
  multiply(device, shape, {1.0f, beta, A.values, B.values, C, D, A.inverse_scale, B.inverse_scale});
}

}  // namespace spillway
