#include "kernels/cuda/device.hpp"

#include <cuda_profiler_api.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <new>
#include <stdexcept>

#include "kernels/cuda/attention_plans.hpp"
#include "kernels/cuda/check.hpp"
#include "kernels/cuda/fused_plans.hpp"
#include "kernels/cuda/gemm_plans.hpp"
#include "kernels/cuda/state.hpp"

namespace spillway {

void cuda_fail(const char* library, const char* message, const char* expression, const char* file, int line) {
  throw std::runtime_error(std::string(library) + ": " + message + " in " + expression + " at " + file + ":" +
                           std::to_string(line));
}

namespace {

// Destructors never throw, and an error here leaves nothing to save.
void note(cudaError_t status, const char* what) noexcept {
  if (status != cudaSuccess) std::fprintf(stderr, "CUDA: %s while %s\n", cudaGetErrorString(status), what);
}

}  // namespace

Cuda::State::State() = default;

void Cuda::State::open(int gpu) {
  const int gpus = Cuda::count();
  if (gpus == 0)
    throw std::runtime_error(
        "CUDA: this machine has no usable NVIDIA GPU (no device or no driver); use --device cpu");
  if (gpu < 0 || gpu >= gpus)
    throw std::runtime_error("CUDA: GPU " + std::to_string(gpu) + " was asked for, but this process sees " +
                             std::to_string(gpus) +
                             ": start at most one rank per GPU, or check CUDA_VISIBLE_DEVICES");
  cudaDeviceProp properties;
  CUDA_CHECK(cudaGetDeviceProperties(&properties, gpu));
  model_name = properties.name;
  multiprocessors = properties.multiProcessorCount;
  if (properties.major != 9 || properties.minor != 0)
    throw std::runtime_error("CUDA: GPU " + std::to_string(gpu) + " (" + model_name +
                             ") has compute capability " + std::to_string(properties.major) + "." +
                             std::to_string(properties.minor) +
                             "; the kernels are built for Hopper, 9.0; use --device cpu");
  index = gpu;
  CUDA_CHECK(cudaSetDevice(gpu));
  CUDA_CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  CUBLAS_CHECK(cublasLtCreate(&cublas));
  CUDA_CHECK(cudaMalloc(&workspace, kWorkspaceBytes));
  for (StagingBuffer& buffer : staging) {
    CUDA_CHECK(cudaHostAlloc(&buffer.memory, kStagingBytes, cudaHostAllocDefault));
    CUDA_CHECK(cudaEventCreateWithFlags(&buffer.copied, cudaEventDisableTiming));
  }
  gemm_plans = std::make_unique<GemmPlans>();
  attention_plans = std::make_unique<AttentionPlans>();
  fused_plans = std::make_unique<FusedPlans>();
}

Cuda::State::~State() {
  if (stream != nullptr) note(cudaStreamSynchronize(stream), "waiting for the last kernels");
  for (const StagingBuffer& buffer : staging) {
    if (buffer.copied != nullptr) note(cudaEventDestroy(buffer.copied), "destroying an event");
    if (buffer.memory != nullptr) note(cudaFreeHost(buffer.memory), "freeing pinned memory");
  }
  if (workspace != nullptr) note(cudaFree(workspace), "freeing the workspace");
  if (cublas != nullptr && cublasLtDestroy(cublas) != CUBLAS_STATUS_SUCCESS)
    std::fprintf(stderr, "cuBLASLt: the handle could not be destroyed\n");
  if (stream != nullptr) note(cudaStreamDestroy(stream), "destroying the stream");
}

Cuda::Cuda(int index) : state_(std::make_unique<State>()) { state_->open(index); }
Cuda::~Cuda() = default;
Cuda::Cuda(Cuda&&) noexcept = default;

int Cuda::count() {
  int gpus = 0;
  if (cudaGetDeviceCount(&gpus) == cudaSuccess) return gpus;
  (void)cudaGetLastError();  // "no driver" is an answer here: later calls must not find it as their error
  return 0;
}

bool Cuda::has_cudnn_attention() { return AttentionPlans::has_cudnn(); }

void* Cuda::allocate(std::size_t bytes) {
  void* memory = nullptr;
  const cudaError_t status = cudaMalloc(&memory, std::max<std::size_t>(bytes, 1));
  if (status == cudaErrorMemoryAllocation) {
    (void)cudaGetLastError();  // reported by the exception
    throw std::bad_alloc();
  }
  CUDA_CHECK(status);
  return memory;
}

void Cuda::release(void* memory) noexcept { note(cudaFree(memory), "freeing device memory"); }

void Cuda::set_zero(void* memory, std::size_t bytes) {
  CUDA_CHECK(cudaMemsetAsync(memory, 0, bytes, stream()));
}

void Cuda::copy_on_device(void* to, const void* from, std::size_t bytes) {
  CUDA_CHECK(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream()));
}

void Cuda::copy_from_host(void* device, const void* host, std::size_t bytes) {
  for (std::size_t done = 0; done < bytes;) {
    StagingBuffer& buffer = state_->staging[state_->next_staging];
    state_->next_staging = 1 - state_->next_staging;
    const std::size_t part = std::min(kStagingBytes, bytes - done);
    CUDA_CHECK(cudaEventSynchronize(buffer.copied));
    std::memcpy(buffer.memory, static_cast<const char*>(host) + done, part);
    CUDA_CHECK(cudaMemcpyAsync(static_cast<char*>(device) + done, buffer.memory, part, cudaMemcpyHostToDevice,
                               stream()));
    CUDA_CHECK(cudaEventRecord(buffer.copied, stream()));
    done += part;
  }
}

void Cuda::copy_to_host(void* host, const void* device, std::size_t bytes) {
  CUDA_CHECK(cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, stream()));
  synchronize();
}

void Cuda::set_profiled(bool on) { CUDA_CHECK(on ? cudaProfilerStart() : cudaProfilerStop()); }

void Cuda::synchronize() { CUDA_CHECK(cudaStreamSynchronize(stream())); }

std::size_t Cuda::free_bytes() const {
  std::size_t free = 0, total = 0;
  CUDA_CHECK(cudaMemGetInfo(&free, &total));
  return free;
}

std::size_t Cuda::total_bytes() const {
  std::size_t free = 0, total = 0;
  CUDA_CHECK(cudaMemGetInfo(&free, &total));
  return total;
}

std::string Cuda::model_name() const { return state_->model_name; }
CUstream_st* Cuda::stream() const { return state_->stream; }
int Cuda::multiprocessors() const { return state_->multiprocessors; }

void* Cuda::workspace(std::size_t bytes) const {
  SHAPE_CHECK(bytes <= kWorkspaceBytes,
              "the op needs more workspace than a device holds: use a smaller micro-batch");
  return state_->workspace;
}

std::string Cuda::describe_plans() const {
  return state_->gemm_plans->describe() + state_->fused_plans->describe() +
         state_->attention_plans->describe();
}

CudaEvent::CudaEvent() { CUDA_CHECK(cudaEventCreate(&event_)); }
CudaEvent::~CudaEvent() { note(cudaEventDestroy(event_), "destroying an event"); }
void CudaEvent::record(const Cuda& device) { CUDA_CHECK(cudaEventRecord(event_, device.stream())); }

float CudaEvent::ms_since(const CudaEvent& earlier) const {
  CUDA_CHECK(cudaEventSynchronize(event_));
  float milliseconds = 0;
  CUDA_CHECK(cudaEventElapsedTime(&milliseconds, earlier.event_, event_));
  return milliseconds;
}

}  // namespace spillway
