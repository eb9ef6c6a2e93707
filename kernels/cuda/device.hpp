// One Hopper GPU as a device: a stream, a workspace and cuBLASLt, with bf16 activations. No CUDA syntax: src/ includes this.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "kernels/types.hpp"

struct CUstream_st;  // what cudaStream_t points to
struct CUevent_st;   // what cudaEvent_t points to

namespace spillway {

// Which attention runs: ours, cuDNN's, or the faster of the two, measured at the first call of each shape.
enum class AttentionChoice { own, cudnn, automatic };

// Passed as the first argument of every op that is to run on a GPU. All work goes to one stream, in order.
// A failing CUDA, cuBLASLt or cuDNN call throws std::runtime_error naming library, expression and place.
struct Cuda {
  using Activation = bf16;  // type of activations and of the weights that GEMMs read
  static constexpr const char* name = "cuda";

  // Takes GPU `index` of this process and a workspace on it. Throws std::runtime_error where there is no such GPU, no
  // driver, or one that is not Hopper (compute capability 9.0).
  explicit Cuda(int index = 0);
  ~Cuda();
  Cuda(Cuda&&) noexcept;  // the moved-from device is only good for destruction
  Cuda& operator=(Cuda&&) = delete;

  // GPUs that this process can use; 0 where there is no driver.
  static int count();

  // Results do not depend on timing: GEMMs take cuBLASLt's first choice instead of the fastest in a trial, and `automatic`
  // attention is our own. All other ops are always deterministic. Set it before the first op.
  bool deterministic = false;
  // While true, what the ops write is going to be thrown away: the first call of each shape times cuBLASLt's candidates and
  // the two attentions, on the outputs themselves, and keeps the fastest. Shapes first met at other times take cuBLASLt's
  // first choice, and `automatic` attention our own, which needs no memory. So no step waits or allocates.
  bool rehearsing = false;
  AttentionChoice attention = AttentionChoice::automatic;
  // Whether the blocks of training passes multiply in FP8 (model/fp8_blocks.hpp). Models ask when they are made.
  bool fp8 = false;
  // Whether cuDNN's attention was compiled in (CMake found the cudnn-frontend headers).
  static bool has_cudnn_attention();
  // Bytes that cuDNN's attention takes of device memory at the first call of this shape, where `attention` and
  // `deterministic` let it run; else 0. Compiles its graphs, and keeps them for that call unless `release` says otherwise.
  std::size_t attention_scratch_bytes(int B, int T, int H, int D);
  void release_attention(int B, int T, int H, int D);

  // 256-byte aligned. Throws std::bad_alloc where there is not enough memory.
  void* allocate(std::size_t bytes);
  void release(void* memory) noexcept;
  // In stream order; the host does not wait.
  void set_zero(void* memory, std::size_t bytes);
  void copy_on_device(void* to, const void* from, std::size_t bytes);
  // In stream order through pinned staging buffers: `host` may be reused on return. The host waits only while both
  // staging buffers (1 MiB each) are still being read by earlier copies.
  void copy_from_host(void* device, const void* host, std::size_t bytes);
  // Waits for the stream and the copy.
  void copy_to_host(void* host, const void* device, std::size_t bytes);
  void synchronize();

  // Bytes of device memory that are free now, and all of it.
  std::size_t free_bytes() const;
  std::size_t total_bytes() const;
  // "NVIDIA H100 80GB HBM3"
  std::string model_name() const;

  // Tells a profiler that waits for it (ncu --profile-from-start off) when to record. Nothing happens without one.
  void set_profiled(bool on);

  CUstream_st* stream() const;
  // Multiprocessors of this GPU.
  int multiprocessors() const;
  // Device memory for one op at a time, shared by all ops of the stream. Throws std::runtime_error for more than
  // kWorkspaceBytes.
  void* workspace(std::size_t bytes) const;
  static constexpr std::size_t kWorkspaceBytes = std::size_t{64} << 20;

  // One line per GEMM shape and attention shape seen so far: what was chosen, how fast it is, and cuBLASLt's first
  // choice beside it. For the log, once, after the first step.
  std::string describe_plans() const;

  struct State;
  // For the op implementations in kernels/cuda alone.
  State& state() const { return *state_; }

 private:
  std::unique_ptr<State> state_;
};

// A point in a stream, for timing.
class CudaEvent {
 public:
  CudaEvent();
  ~CudaEvent();
  CudaEvent(const CudaEvent&) = delete;
  CudaEvent& operator=(const CudaEvent&) = delete;
  // Marks what the stream has been given so far.
  void record(const Cuda& device);
  // Waits until this event is reached. Milliseconds on the GPU between `earlier` and this one.
  float ms_since(const CudaEvent& earlier) const;

 private:
  CUevent_st* event_ = nullptr;
};

}  // namespace spillway
