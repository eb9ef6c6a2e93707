#include "train/engine.hpp"

#include <algorithm>
#include <cmath>

#include "core/error.hpp"
#include "model/gpt.hpp"
#include "model/init.hpp"
#include "optim/optimizer.hpp"
#include "train/backend.hpp"
#include "train/memory_plan.hpp"
#include "train/optimizer_tensors.hpp"
#include "train/precision.hpp"
#include "train/rehearsal.hpp"
#include "train/snapshot_memory.hpp"
#include "train/writer_shares.hpp"
#ifdef SPILLWAY_HAVE_CUDA
#include "train/gpu.hpp"
#endif

namespace spillway {
namespace {

// Sequences of one optimizer step and rank, and what the configuration says of micro-batches checked against them.
int sequences_per_rank(const TrainConfig& config, int sequence, int ranks) {
  if (config.tokens_per_step <= 0 || config.tokens_per_step % sequence != 0)
    fail(ExitCode::usage, "train.tokens-per-step = {}: must be a positive multiple of model.sequence = {}",
         config.tokens_per_step, sequence);
  const std::int64_t sequences = config.tokens_per_step / sequence;
  if (sequences % ranks != 0)
    fail(ExitCode::usage,
         "train.tokens-per-step = {} is {} sequences of {} tokens, which {} ranks cannot share equally",
         config.tokens_per_step, sequences, sequence, ranks);
  const auto mine = static_cast<int>(sequences / ranks);
  if (config.micro_batch < 0 || (config.micro_batch > 0 && mine % config.micro_batch != 0))
    fail(ExitCode::usage, "train.micro-batch = {}: must divide a rank's {} sequences per step",
         config.micro_batch, mine);
  return mine;
}

const HostTensor& find_tensor(const std::vector<HostTensor>& tensors, const NamedTensor& wanted) {
  const auto found =
      std::find_if(tensors.begin(), tensors.end(), [&](const auto& t) { return t.name == wanted.name; });
  if (found == tensors.end()) fail(ExitCode::bad_data, "the checkpoint lacks {}", wanted.name);
  if (found->shape != wanted.shape)
    fail(ExitCode::bad_data, "the checkpoint's {} has another shape", wanted.name);
  return *found;
}

template <class Dev>
class DeviceEngine final : public Engine {
 public:
  DeviceEngine(const Config& config, const GptSpec& spec, const ParameterLayout& layout, const Loader& loader,
               SiteComm& site, Dev device)
      : config_(config.train),
        spec_(spec),
        layout_(layout),
        loader_(loader),
        site_(site),
        sequences_per_rank_(sequences_per_rank(config.train, spec.sequence, site.size())),
        share_{site.rank(), site.size()},
        device_(std::move(device)),
        backend_(device_, site, layout),
        plan_(plan_memory(device_, spec, layout, config.optim, share_, config.train.micro_batch,
                          sequences_per_rank_, site.node_size())),
        parameters_(device_, layout, true),
        model_(device_, spec, plan_.micro_batch, Purpose::train),
        optimizer_(device_, layout, config.optim, config.train.steps, share_),
        totals_(device_, "step totals") {
    totals_.reserve(step_totals_, 2);
    totals_.allocate();
    std::vector<float> initial(static_cast<std::size_t>(layout.total));
    initialize_parameters(initial, layout, config.train.seed);
    if constexpr (!std::is_same_v<Dev, Cpu>) {
      rehearse(device_, parameters_, model_, optimizer_, initial, plan_.micro_batch);
      backend_.describe_start();
    }
    parameters_.load(initial);
    const auto rows = static_cast<std::size_t>(plan_.micro_batch) * static_cast<std::size_t>(spec.sequence);
    tokens_.resize(rows);
    targets_.resize(rows);
  }

  StepOutcome train(std::int64_t block, std::int64_t schedule_step,
                    const std::function<void()>& between) override {
    const float scale = 1.0f / static_cast<float>(config_.tokens_per_step);
    const int first = site_.rank() * sequences_per_rank_;
    float* gradients = parameters_.gradients();
    const GradientsReady ready = [&](std::int64_t begin, std::int64_t end) {
      backend_.gradients_ready(gradients, begin, end);
    };
    for (int done = 0; done < sequences_per_rank_; done += plan_.micro_batch) {
      if (between) {
        device_.synchronize();
        between();
      }
      const bool last = done + plan_.micro_batch == sequences_per_rank_;
      loader_.fill(block, first + done, plan_.micro_batch, tokens_.data(), targets_.data());
      model_.forward_backward(parameters_.weights(), batch(plan_.micro_batch), gradients, loss_total(), scale,
                              done > 0, last ? ready : GradientsReady());
    }
    backend_.sum_gradients(gradients);
    optimizer_.sum_own_squares(gate_total(), gradients);
    backend_.sum(gate_total());
    optimizer_.queue_step(parameters_.master(), parameters_.compute_copy(), gradients, schedule_step,
                          gate_total());
    backend_.share(parameters_.master(), backend_.parts());
    for (const OwnedPart& part : backend_.parts())
      if (part.owner != site_.rank()) parameters_.refresh_compute_copy(part.begin, part.end);
    // The one place of a step where the host waits for the device.
    const StepTotals totals = read_totals();
    const StepResult result = optimizer_.finish_step(totals.gate);
    return {site_.sum(static_cast<double>(totals.loss)) / static_cast<double>(config_.tokens_per_step),
            result.gradient_norm, result.applied};
  }

  double validate() override {
    // Batches are dealt out to the ranks in turn; a rank may have none.
    const int batches = loader_.validation_batches(plan_.micro_batch);
    bool any = false;
    for (int index = site_.rank(); index < batches; index += site_.size()) {
      const int sequences =
          loader_.fill_validation(index, plan_.micro_batch, tokens_.data(), targets_.data());
      model_.forward_loss(parameters_.weights(), batch(sequences), loss_total(), any);
      any = true;
    }
    if (!any) device_.set_zero(loss_total(), sizeof(float));
    return site_.sum(static_cast<double>(read_totals().loss)) /
           static_cast<double>(loader_.validation_tokens());
  }

  void read_parameters(std::span<float> to) override { parameters_.store(to); }
  void write_parameters(std::span<const float> from) override { parameters_.load(from); }
  void add_to_parameters(std::span<const float> difference) override { parameters_.add(difference); }

  void share_parameters() override {
    const OwnedPart all = {0, layout_.total, 0};
    backend_.share(parameters_.master(), {&all, 1});
    if (!site_.leader()) parameters_.refresh_compute_copy(0, layout_.total);
  }

  void prepare_copies(std::span<float> host) override { backend_.pin(host); }

  std::vector<TensorView> snapshot(const WriterShares& shares) override {
    snapshot_.reserve(shares.floats_of(site_.rank()), largest_foreign_part(shares));
    std::vector<TensorView> mine;
    for (const Parameter& parameter : layout_.parameters) {
      const std::string path = "/model/" + parameter.name;
      if (shares.rank_of(path) != site_.rank()) continue;
      const std::span<float> whole = snapshot_.take(parameter.count);
      device_.copy_to_host(whole.data(), parameters_.master() + parameter.offset, whole.size_bytes());
      mine.push_back({path, parameter.shape, whole});
    }
    for (const NamedTensor& tensor : optimizer_.state()) {
      const std::string path = "/" + tensor.name;
      const int writer = shares.rank_of(path);
      const bool here = writer == site_.rank();
      const auto count = static_cast<std::size_t>(tensor.count);
      const std::span<float> whole = here ? snapshot_.take(element_count(tensor.shape)) : std::span<float>();
      const std::span<float> part =
          here ? whole.subspan(count == 0 ? 0 : static_cast<std::size_t>(tensor.first), count)
               : snapshot_.staging().first(count);
      if (count > 0) device_.copy_to_host(part.data(), tensor.data, part.size_bytes());
      site_.gather(writer, part, tensor.first, whole);
      if (here) mine.push_back({path, tensor.shape, whole});
    }
    return mine;
  }

  void load_optimizer_state(const std::vector<HostTensor>& tensors, std::int64_t updates) override {
    const std::vector<float> none;
    for (const NamedTensor& own : optimizer_.state())
      scatter(site_.leader() ? find_tensor(tensors, own).values : none, own);
    site_.broadcast(updates);
    optimizer_.set_updates(updates);
  }

  std::int64_t optimizer_updates() const override { return optimizer_.updates(); }

  void read_optimizer_state(std::span<float> to) override {
    SPILLWAY_CHECK(std::ssize(to) == (site_.leader() ? optimizer_state_count(layout_) : 0));
    std::vector<float> staging;
    for (const NamedTensor& tensor : optimizer_.state()) {
      const auto count = static_cast<std::size_t>(tensor.count);
      const std::span<float> whole =
          to.first(site_.leader() ? static_cast<std::size_t>(element_count(tensor.shape)) : 0);
      if (!site_.leader()) staging.resize(count);
      const std::span<float> part =
          site_.leader() ? whole.subspan(count == 0 ? 0 : static_cast<std::size_t>(tensor.first), count)
                         : staging;
      if (count > 0) device_.copy_to_host(part.data(), tensor.data, part.size_bytes());
      site_.gather(0, part, tensor.first, whole);
      to = to.subspan(whole.size());
    }
  }

  void write_optimizer_state(std::span<const float> from) override {
    SPILLWAY_CHECK(std::ssize(from) == (site_.leader() ? optimizer_state_count(layout_) : 0));
    for (const NamedTensor& tensor : optimizer_.state()) {
      const std::span<const float> whole =
          from.first(site_.leader() ? static_cast<std::size_t>(element_count(tensor.shape)) : 0);
      scatter(whole, tensor);
      from = from.subspan(whole.size());
    }
  }

  int micro_batch() const override { return plan_.micro_batch; }
  std::vector<MemoryUse> memory_use() const override { return plan_.roles; }

 private:
  std::int64_t largest_foreign_part(const WriterShares& shares) const {
    std::int64_t largest = 0;
    for (const NamedTensor& tensor : optimizer_.state())
      if (shares.rank_of("/" + tensor.name) != site_.rank()) largest = std::max(largest, tensor.count);
    return largest;
  }

  // Each rank's part of what the leader has, to the device.
  void scatter(std::span<const float> whole, const NamedTensor& tensor) {
    std::vector<float> part(static_cast<std::size_t>(tensor.count));
    site_.scatter_from_leader(whole, tensor.first, part);
    if (tensor.count > 0) device_.copy_from_host(tensor.data, part.data(), part.size() * sizeof(float));
  }

  Batch batch(int sequences) const { return {tokens_.data(), targets_.data(), sequences, spec_.sequence}; }

  // What the host reads back of a step, as it lies on the device.
  struct StepTotals {
    float loss;  // Σ over this rank's tokens
    float gate;  // Σ gradients² over all ranks
  };
  float* loss_total() const { return step_totals_; }
  float* gate_total() const { return step_totals_ + 1; }
  StepTotals read_totals() {
    StepTotals totals{};
    device_.copy_to_host(&totals, step_totals_, sizeof totals);
    return totals;
  }

  TrainConfig config_;
  GptSpec spec_;
  ParameterLayout layout_;
  const Loader& loader_;
  SiteComm& site_;
  int sequences_per_rank_;
  RankShare share_;
  Dev device_;
  Backend<Dev> backend_;
  MemoryPlan plan_;
  Parameters<Dev> parameters_;
  Gpt<Dev> model_;
  Optimizer<Dev> optimizer_;
  Arena<Dev> totals_;
  float* step_totals_ = nullptr;  // StepTotals
  std::vector<std::int32_t> tokens_, targets_;
  SnapshotMemory<Dev> snapshot_;
};

}  // namespace

std::unique_ptr<Engine> make_engine(const Config& config, const GptSpec& spec, const ParameterLayout& layout,
                                    const Loader& loader, SiteComm& site) {
  precision_is_fp8(config.train);  // refuses it on the CPU
  if (config.train.device == "cpu")
    return std::make_unique<DeviceEngine<Cpu>>(config, spec, layout, loader, site, Cpu(config.train.threads));
#ifdef SPILLWAY_HAVE_CUDA
  if (config.train.device == "cuda")
    return std::make_unique<DeviceEngine<Cuda>>(config, spec, layout, loader, site,
                                                open_gpu(config.train, site.node_rank()));
#endif
  fail(ExitCode::usage, "train.device = {}: this build has no such device", config.train.device);
}

}  // namespace spillway
