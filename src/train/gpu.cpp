#ifdef SPILLWAY_HAVE_CUDA

#include "train/gpu.hpp"

#include "core/error.hpp"
#include "kernels/cuda/bus_id.hpp"
#include "train/precision.hpp"

namespace spillway {
namespace {

AttentionChoice attention_choice(const std::string& name) {
  if (name == "auto") return AttentionChoice::automatic;
  if (name == "own") return AttentionChoice::own;
  if (name != "cudnn") fail(ExitCode::usage, "train.attention = {}: must be own, cudnn or auto", name);
  if (!Cuda::has_cudnn_attention())
    fail(ExitCode::usage,
         "train.attention = cudnn: this build has none, because CMake did not find cuDNN or the "
         "cudnn-frontend headers");
  return AttentionChoice::cudnn;
}

int gpu_index(int rank) {
  const int gpus = Cuda::count();
  if (gpus == 0)
    fail(ExitCode::usage,
         "train.device = cuda: this machine has no usable NVIDIA GPU (no device or no driver)");
  return rank % gpus;
}

}  // namespace

std::string gpu_bus_id(int rank) { return gpu_bus_id_of(gpu_index(rank)); }

Cuda open_gpu(const TrainConfig& config, int rank) {
  const AttentionChoice attention = attention_choice(config.attention);
  const bool fp8 = precision_is_fp8(config);
  Cuda device(gpu_index(rank));
  device.deterministic = config.deterministic;
  device.attention = attention;
  device.fp8 = fp8;
  return device;
}

}  // namespace spillway

#endif
