// One rank's share of a site's training: model, gradients and optimizer on a device. The only place where the device is
// chosen at run time; everything above it is the same for CPU and CUDA.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "comm/site.hpp"
#include "core/arena.hpp"
#include "core/config.hpp"
#include "core/layout.hpp"
#include "data/loader.hpp"
#include "model/spec.hpp"

namespace spillway {

// What one optimizer step gave, the same on every rank.
struct StepOutcome {
  double loss_nats = 0;      // mean over the step's tokens
  double gradient_norm = 0;  // Euclidean norm of the whole gradient
  bool applied = false;      // false: the gradient was not finite and the parameters did not change
};

// A tensor of the optimizer's state in host memory, by name and shape.
struct HostTensor {
  std::string name;
  std::vector<std::int64_t> shape;
  std::vector<float> values;
};

// A tensor of a checkpoint in host memory that someone else keeps.
struct TensorView {
  std::string path;  // "/model/lm_head.weight"
  std::vector<std::int64_t> shape;
  std::span<const float> values;
};

class WriterShares;

class Engine {
 public:
  virtual ~Engine() = default;

  // Forward, backward, gradient sum over the site's ranks and optimizer update on one block of data.
  // Collective over the site. schedule_step: what the schedules read. between, if any, is called before each
  // micro-batch, when the device has finished what came before.
  virtual StepOutcome train(std::int64_t block, std::int64_t schedule_step,
                            const std::function<void()>& between = {}) = 0;

  // Mean loss in nats per token over the validation batches. Collective over the site.
  virtual double validate() = 0;

  // The fp32 master parameters, in layout order, from and to host memory; all of them on every rank. Not collective.
  virtual void read_parameters(std::span<float> to) = 0;
  virtual void write_parameters(std::span<const float> from) = 0;
  virtual void add_to_parameters(std::span<const float> difference) = 0;
  // All ranks' parameters become the leader's. Collective over the site.
  virtual void share_parameters() = 0;
  // Host memory that parameters will be copied to and from often, and that outlives the engine: pinned on CUDA.
  virtual void prepare_copies(std::span<float> host) = 0;

  // Copies parameters and optimizer state to the host memory of the ranks that write them, and gives each rank its
  // own. What it gave before is overwritten: the memory is used again, pinned on CUDA. Collective over the site.
  virtual std::vector<TensorView> snapshot(const WriterShares& shares) = 0;
  // The optimizer's state from the leader; collective over the site. What other ranks give does not count. Throws
  // Error(bad_data) where a tensor is missing or has another shape.
  virtual void load_optimizer_state(const std::vector<HostTensor>& tensors, std::int64_t updates) = 0;
  virtual std::int64_t optimizer_updates() const = 0;
  // The same state as one vector of optimizer_state_count(layout) floats, to and from the leader's memory; other ranks give
  // an empty span. Both are collective over the site.
  virtual void read_optimizer_state(std::span<float> to) = 0;
  virtual void write_optimizer_state(std::span<const float> from) = 0;

  // Sequences of a forward pass, and the memory planned for that.
  virtual int micro_batch() const = 0;
  virtual std::vector<MemoryUse> memory_use() const = 0;
};

// Validates sizes against each other (Error(usage) naming the keys): the ranks must divide a step's sequences, the
// micro-batch a rank's share, and fit the device's memory (choose_micro_batch). Collective. Parameters are those of initialize_parameters(seed) afterwards.
std::unique_ptr<Engine> make_engine(const Config& config, const GptSpec& spec, const ParameterLayout& layout,
                                    const Loader& loader, SiteComm& site);

}  // namespace spillway
