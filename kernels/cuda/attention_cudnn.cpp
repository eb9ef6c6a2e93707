#include "kernels/cuda/attention_cudnn.hpp"

#include <stdexcept>
#include <string>

#include "kernels/cuda/check.hpp"

#ifdef SPILLWAY_HAVE_CUDNN

#define CUDNN_FRONTEND_SKIP_JSON_LIB
#include <cudnn_frontend.h>

#include <algorithm>
#include <cmath>
#include <new>
#include <unordered_map>
#include <vector>

namespace spillway {

bool AttentionPlans::has_cudnn() { return true; }

namespace {

namespace fe = cudnn_frontend;

// Names of the tensors at execution.
enum Tensor : std::int64_t { kQ = 1, kK, kV, kO, kLse, kDo, kDq, kDk, kDv };

void check(fe::error_t status, const char* expression, int line) {
  if (status.is_bad()) cuda_fail("cuDNN", status.get_message().c_str(), expression, __FILE__, line);
}
#define FRONTEND_CHECK(call) check((call), #call, __LINE__)

using TensorPointer = std::shared_ptr<fe::graph::Tensor_attributes>;

fe::graph::Graph new_graph() {
  fe::graph::Graph graph;
  graph.set_io_data_type(fe::DataType_t::BFLOAT16)
      .set_intermediate_data_type(fe::DataType_t::FLOAT)
      .set_compute_data_type(fe::DataType_t::FLOAT);
  return graph;
}

// Dimensions in cuDNN's order (B, H, T, D), strides in elements.
std::vector<std::int64_t> dims(const AttentionShape& s) { return {s.B, s.H, s.T, s.D}; }
std::vector<std::int64_t> strides(const AttentionShape& s, int matrices) {
  const std::int64_t row = static_cast<std::int64_t>(matrices) * s.H * s.D;
  return {s.T * row, s.D, row, 1};
}

TensorPointer input(fe::graph::Graph& graph, Tensor name, const AttentionShape& shape, int matrices) {
  return graph.tensor(
      fe::graph::Tensor_attributes().set_uid(name).set_dim(dims(shape)).set_stride(strides(shape, matrices)));
}

void set_output(const TensorPointer& tensor, Tensor name, const AttentionShape& shape, int matrices) {
  tensor->set_output(true).set_uid(name).set_dim(dims(shape)).set_stride(strides(shape, matrices));
}

// lse: (B, H, T, 1) float.
void set_lse(fe::graph::Tensor_attributes& tensor, const AttentionShape& s) {
  const std::int64_t head = s.T;
  tensor.set_uid(kLse)
      .set_dim({s.B, s.H, s.T, 1})
      .set_stride({s.H * head, head, 1, 1})
      .set_data_type(fe::DataType_t::FLOAT);
}

float score_scale(const AttentionShape& shape) { return 1.0f / std::sqrt(static_cast<float>(shape.D)); }

void build(fe::graph::Graph& graph, cudnnHandle_t handle, std::int64_t& workspace_bytes) {
  FRONTEND_CHECK(graph.validate());
  FRONTEND_CHECK(graph.build_operation_graph(handle));
  FRONTEND_CHECK(graph.create_execution_plans({fe::HeurMode_t::A}));
  FRONTEND_CHECK(graph.check_support(handle));
  FRONTEND_CHECK(graph.build_plans(handle));
  FRONTEND_CHECK(graph.get_workspace_size(workspace_bytes));
}

}  // namespace

struct CudnnAttention::Graphs {
  Graphs(Cuda& where, const AttentionShape& s) : device(where), shape(s) {}
  ~Graphs() {
    if (scratch != nullptr) device.release(scratch);
    if (handle != nullptr) cudnnDestroy(handle);
  }
  Graphs(const Graphs&) = delete;
  Graphs& operator=(const Graphs&) = delete;

  void build_forward() {
    const auto q = input(forward, kQ, shape, 3), k = input(forward, kK, shape, 3),
               v = input(forward, kV, shape, 3);
    auto options = fe::graph::SDPA_attributes();
    options.set_generate_stats(true).set_causal_mask(true).set_attn_scale(score_scale(shape));
    const auto [o, lse] = forward.sdpa(q, k, v, options);
    set_output(o, kO, shape, 1);
    set_lse(lse->set_output(true), shape);
    build(forward, handle, forward_bytes);
  }

  void build_backward(bool deterministic) {
    const auto q = input(backward, kQ, shape, 3), k = input(backward, kK, shape, 3),
               v = input(backward, kV, shape, 3);
    const auto o = input(backward, kO, shape, 1), d_o = input(backward, kDo, shape, 1);
    auto lse_attributes = fe::graph::Tensor_attributes();
    set_lse(lse_attributes, shape);
    const auto lse = backward.tensor(lse_attributes);
    auto options = fe::graph::SDPA_backward_attributes();
    options.set_causal_mask(true)
        .set_attn_scale(score_scale(shape))
        .set_deterministic_algorithm(deterministic);
    const auto [dq, dk, dv] = backward.sdpa_backward(q, k, v, o, d_o, lse, options);
    set_output(dq, kDq, shape, 3);
    set_output(dk, kDk, shape, 3);
    set_output(dv, kDv, shape, 3);
    build(backward, handle, backward_bytes);
  }

  void* ensure_scratch() {
    if (scratch != nullptr) return scratch;
    const auto bytes = static_cast<std::size_t>(std::max(forward_bytes, backward_bytes));
    try {
      scratch = device.allocate(bytes);
    } catch (const std::bad_alloc&) {
      throw std::runtime_error("cuDNN: no memory for its attention's scratch of " +
                               std::to_string(bytes >> 20) +
                               " MiB: use a smaller micro-batch or our own attention");
    }
    return scratch;
  }

  Cuda& device;
  AttentionShape shape;
  void* scratch = nullptr;
  cudnnHandle_t handle = nullptr;
  fe::graph::Graph forward = new_graph(), backward = new_graph();
  std::int64_t forward_bytes = 0, backward_bytes = 0;
};

CudnnAttention::CudnnAttention(Cuda& device, const AttentionShape& shape)
    : graphs_(std::make_unique<Graphs>(device, shape)) {
  CUDNN_CHECK(cudnnCreate(&graphs_->handle));
  CUDNN_CHECK(cudnnSetStream(graphs_->handle, device.stream()));
  graphs_->build_forward();
  graphs_->build_backward(device.deterministic);
}
CudnnAttention::~CudnnAttention() = default;

std::size_t CudnnAttention::scratch_bytes() const {
  return static_cast<std::size_t>(std::max(graphs_->forward_bytes, graphs_->backward_bytes));
}

void CudnnAttention::forward(bf16* o, float* lse, const bf16* qkv) {
  bf16* q = const_cast<bf16*>(qkv);  // the variant pack has one pointer type; inputs are only read
  const std::int64_t C = static_cast<std::int64_t>(graphs_->shape.H) * graphs_->shape.D;
  std::unordered_map<std::int64_t, void*> tensors = {
      {kQ, q}, {kK, q + C}, {kV, q + 2 * C}, {kO, o}, {kLse, lse}};
  FRONTEND_CHECK(graphs_->forward.execute(graphs_->handle, tensors, graphs_->ensure_scratch()));
}

void CudnnAttention::backward(bf16* dqkv, const bf16* d_o, const bf16* o, const float* lse, const bf16* qkv) {
  bf16* q = const_cast<bf16*>(qkv);
  const std::int64_t C = static_cast<std::int64_t>(graphs_->shape.H) * graphs_->shape.D;
  std::unordered_map<std::int64_t, void*> tensors = {{kQ, q},
                                                     {kK, q + C},
                                                     {kV, q + 2 * C},
                                                     {kO, const_cast<bf16*>(o)},
                                                     {kDo, const_cast<bf16*>(d_o)},
                                                     {kLse, const_cast<float*>(lse)},
                                                     {kDq, dqkv},
                                                     {kDk, dqkv + C},
                                                     {kDv, dqkv + 2 * C}};
  FRONTEND_CHECK(graphs_->backward.execute(graphs_->handle, tensors, graphs_->ensure_scratch()));
}

}  // namespace spillway

#else  // without cuDNN

namespace spillway {

bool AttentionPlans::has_cudnn() { return false; }

struct CudnnAttention::Graphs {};

CudnnAttention::CudnnAttention(Cuda&, const AttentionShape&) {
  throw std::runtime_error(
      "cuDNN: its attention was asked for, but this build has none: CMake did not find cuDNN and the "
      "cudnn-frontend "
      "headers (./run fetches them; then configure again)");
}
CudnnAttention::~CudnnAttention() = default;
// Never reached: no object of this class exists in such a build.
std::size_t CudnnAttention::scratch_bytes() const { return 0; }
void CudnnAttention::forward(bf16*, float*, const bf16*) {}
void CudnnAttention::backward(bf16*, const bf16*, const bf16*, const float*, const bf16*) {}

}  // namespace spillway

#endif
