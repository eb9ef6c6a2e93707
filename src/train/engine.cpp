#include "train/engine.hpp"

#include <algorithm>
#include <cmath>
#include <sstream>

#include "core/error.hpp"
#include "model/gpt.hpp"
#include "model/init.hpp"
#include "optim/optimizer.hpp"
#ifdef SPILLWAY_HAVE_CUDA
#include "comm/nccl.hpp"
#include "core/log.hpp"
#include "train/gpu.hpp"
#include "train/rehearsal.hpp"
#endif

namespace spillway {
namespace {

// How a step's sequences are divided over ranks and micro-batches.
struct BatchPlan {
  int sequences_per_rank = 0;  // of one optimizer step
  int micro_batch = 0;         // of one forward and backward pass
};

BatchPlan plan_batches(const TrainConfig& config, int sequence, int ranks) {
  if (config.tokens_per_step <= 0 || config.tokens_per_step % sequence != 0)
    fail(ExitCode::usage, "train.tokens-per-step = {}: must be a positive multiple of model.sequence = {}",
         config.tokens_per_step, sequence);
  const std::int64_t sequences = config.tokens_per_step / sequence;
  if (sequences % ranks != 0)
    fail(ExitCode::usage,
         "train.tokens-per-step = {} is {} sequences of {} tokens, which {} ranks cannot share equally",
         config.tokens_per_step, sequences, sequence, ranks);
  BatchPlan plan;
  plan.sequences_per_rank = static_cast<int>(sequences / ranks);
  plan.micro_batch = config.micro_batch == 0 ? plan.sequences_per_rank : config.micro_batch;
  if (plan.micro_batch < 0 || plan.sequences_per_rank % plan.micro_batch != 0)
    fail(ExitCode::usage, "train.micro-batch = {}: must divide a rank's {} sequences per step",
         config.micro_batch, plan.sequences_per_rank);
  return plan;
}

// How a device averages its gradients over the site, and what it does before the first step.
template <class Dev>
class Backend;

template <>
class Backend<Cpu> {
 public:
  Backend(Cpu&, SiteComm& site) : site_(site) {}
  void average(float* values, std::int64_t count) {
    site_.average(std::span(values, static_cast<std::size_t>(count)));
  }
  void start(Parameters<Cpu>&, Gpt<Cpu>&, const std::vector<float>&, int) {}

 private:
  SiteComm& site_;
};

#ifdef SPILLWAY_HAVE_CUDA
template <>
class Backend<Cuda> {
 public:
  Backend(Cuda& device, SiteComm& site) : device_(device), average_(site, device.stream()) {}
  void average(float* values, std::int64_t count) { average_.average(values, count); }
  // Chooses GEMM and attention plans, and logs them once.
  void start(Parameters<Cuda>& parameters, Gpt<Cuda>& model, const std::vector<float>& initial,
             int micro_batch) {
    rehearse(device_, parameters, model, initial, micro_batch);
    std::istringstream plans(device_.describe_plans());
    for (std::string line; std::getline(plans, line);) log_info("{}", line);
  }

 private:
  Cuda& device_;
  GpuAverage average_;
};
#endif

template <class Dev>
class DeviceEngine final : public Engine {
 public:
  DeviceEngine(const Config& config, const GptSpec& spec, const ParameterLayout& layout, const Loader& loader,
               SiteComm& site, Dev device)
      : config_(config.train),
        spec_(spec),
        loader_(loader),
        site_(site),
        plan_(plan_batches(config.train, spec.sequence, site.size())),
        device_(std::move(device)),
        backend_(device_, site),
        parameters_(device_, layout, true),
        model_(device_, spec, plan_.micro_batch, Purpose::train),
        optimizer_(device_, layout, config.optim, config.train.steps),
        totals_(device_, "step totals") {
    totals_.reserve(loss_total_, 1);
    totals_.reserve(gate_total_, 1);
    totals_.allocate();
    std::vector<float> initial(static_cast<std::size_t>(layout.total));
    initialize_parameters(initial, layout, config.train.seed);
    backend_.start(parameters_, model_, initial, plan_.micro_batch);
    parameters_.load(initial);
    const auto rows = static_cast<std::size_t>(plan_.micro_batch) * static_cast<std::size_t>(spec.sequence);
    tokens_.resize(rows);
    targets_.resize(rows);
  }

  StepOutcome train(std::int64_t block, std::int64_t global_step) override {
    // The mean over this rank's tokens; average() makes it the mean over the step's.
    const float scale = static_cast<float>(site_.size()) / static_cast<float>(config_.tokens_per_step);
    const int first = site_.rank() * plan_.sequences_per_rank;
    for (int done = 0; done < plan_.sequences_per_rank; done += plan_.micro_batch) {
      loader_.fill(block, first + done, plan_.micro_batch, tokens_.data(), targets_.data());
      model_.forward_backward(parameters_.weights(), batch(plan_.micro_batch), parameters_.gradients(),
                              loss_total_, scale, done > 0);
    }
    backend_.average(parameters_.gradients(), parameters_.total());
    sum_of_squares(device_, gate_total_, parameters_.gradients(), parameters_.total(), false);
    const StepResult result = optimizer_.step(parameters_.master(), parameters_.compute_copy(),
                                              parameters_.gradients(), global_step, gate_total_);
    return {total_loss() / static_cast<double>(config_.tokens_per_step), result.gradient_norm,
            result.applied};
  }

  double validate() override {
    // Batches are dealt out to the ranks in turn; a rank may have none.
    const int batches = loader_.validation_batches(plan_.micro_batch);
    bool any = false;
    for (int index = site_.rank(); index < batches; index += site_.size()) {
      const int sequences =
          loader_.fill_validation(index, plan_.micro_batch, tokens_.data(), targets_.data());
      model_.forward_loss(parameters_.weights(), batch(sequences), loss_total_, any);
      any = true;
    }
    if (!any) device_.set_zero(loss_total_, sizeof(float));
    return total_loss() / static_cast<double>(loader_.validation_tokens());
  }

  void read_parameters(std::span<float> to) override { parameters_.store(to); }
  void write_parameters(std::span<const float> from) override { parameters_.load(from); }

  std::vector<HostTensor> optimizer_state() override {
    std::vector<HostTensor> result;
    for (const NamedTensor& tensor : optimizer_.state()) {
      HostTensor& host = result.emplace_back(HostTensor{tensor.name, tensor.shape, {}});
      host.values.resize(static_cast<std::size_t>(tensor.count));
      device_.copy_to_host(host.values.data(), tensor.data, host.values.size() * sizeof(float));
    }
    return result;
  }

  void load_optimizer_state(const std::vector<HostTensor>& tensors, std::int64_t updates) override {
    for (const NamedTensor& own : optimizer_.state()) {
      const auto found =
          std::find_if(tensors.begin(), tensors.end(), [&](const auto& t) { return t.name == own.name; });
      if (found == tensors.end()) fail(ExitCode::bad_data, "the checkpoint lacks {}", own.name);
      if (found->shape != own.shape)
        fail(ExitCode::bad_data, "the checkpoint's {} has another shape", own.name);
      device_.copy_from_host(own.data, found->values.data(), found->values.size() * sizeof(float));
    }
    optimizer_.set_updates(updates);
  }

  std::int64_t optimizer_updates() const override { return optimizer_.updates(); }

  std::vector<MemoryUse> memory_use() const override {
    std::vector<MemoryUse> all = parameters_.memory_use();
    for (const auto& part : {optimizer_.memory_use(), model_.memory_use()})
      all.insert(all.end(), part.begin(), part.end());
    return all;
  }

 private:
  Batch batch(int sequences) const { return {tokens_.data(), targets_.data(), sequences, spec_.sequence}; }

  // Σ of the ranks' loss_total_. In double: the ranks' fp32 sums are added in rank order.
  double total_loss() {
    float mine = 0;
    device_.copy_to_host(&mine, loss_total_, sizeof mine);
    device_.synchronize();
    return site_.sum(static_cast<double>(mine));
  }

  TrainConfig config_;
  GptSpec spec_;
  const Loader& loader_;
  SiteComm& site_;
  BatchPlan plan_;
  Dev device_;
  Backend<Dev> backend_;
  Parameters<Dev> parameters_;
  Gpt<Dev> model_;
  Optimizer<Dev> optimizer_;
  Arena<Dev> totals_;
  float *loss_total_ = nullptr, *gate_total_ = nullptr;
  std::vector<std::int32_t> tokens_, targets_;
};

}  // namespace

std::unique_ptr<Engine> make_engine(const Config& config, const GptSpec& spec, const ParameterLayout& layout,
                                    const Loader& loader, SiteComm& site) {
  if (config.train.device == "cpu")
    return std::make_unique<DeviceEngine<Cpu>>(config, spec, layout, loader, site, Cpu(config.train.threads));
#ifdef SPILLWAY_HAVE_CUDA
  if (config.train.device == "cuda")
    return std::make_unique<DeviceEngine<Cuda>>(config, spec, layout, loader, site,
                                                open_gpu(config.train, site.rank()));
#endif
  fail(ExitCode::usage, "train.device = {}: this build has no such device", config.train.device);
}

}  // namespace spillway
