// One funnel for the errors of CUDA's libraries: every call goes through a *_CHECK macro, and all of them end in
// cuda_fail(). Macros, because the message names the failing expression and its place.
#pragma once

namespace spillway {

// Throws std::runtime_error "<library>: <message> in <expression> at <file>:<line>".
[[noreturn]] void cuda_fail(const char* library, const char* message, const char* expression,
                            const char* file, int line);

}  // namespace spillway

#define CUDA_CHECK(call)                                                                     \
  do {                                                                                       \
    const cudaError_t status_ = (call);                                                      \
    if (status_ != cudaSuccess)                                                              \
      ::spillway::cuda_fail("CUDA", cudaGetErrorString(status_), #call, __FILE__, __LINE__); \
  } while (false)

// After a kernel launch: a bad configuration shows here, a failing kernel at the next synchronization.
#define LAUNCH_CHECK() CUDA_CHECK(cudaGetLastError())

#define CUBLAS_CHECK(call)                                                                            \
  do {                                                                                                \
    const cublasStatus_t status_ = (call);                                                            \
    if (status_ != CUBLAS_STATUS_SUCCESS)                                                             \
      ::spillway::cuda_fail("cuBLASLt", cublasLtGetStatusString(status_), #call, __FILE__, __LINE__); \
  } while (false)

#define CUDNN_CHECK(call)                                                                      \
  do {                                                                                         \
    const cudnnStatus_t status_ = (call);                                                      \
    if (status_ != CUDNN_STATUS_SUCCESS)                                                       \
      ::spillway::cuda_fail("cuDNN", cudnnGetErrorString(status_), #call, __FILE__, __LINE__); \
  } while (false)

// What an op requires of its sizes and pointers; `message` says it in words.
#define SHAPE_CHECK(condition, message)                                                           \
  do {                                                                                            \
    if (!(condition)) ::spillway::cuda_fail("spillway", message, #condition, __FILE__, __LINE__); \
  } while (false)
