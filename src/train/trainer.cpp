#include "train/trainer.hpp"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <optional>

#include "comm/federation.hpp"
#include "comm/site.hpp"
#include "core/clock.hpp"
#include "core/log.hpp"
#include "core/stop.hpp"
#include "core/time.hpp"
#include "train/checkpoint_check.hpp"
#include "train/leader.hpp"
#include "train/memory_plan.hpp"
#include "train/optimizer_tensors.hpp"
#include "train/site_context.hpp"
#include "train/site_power.hpp"
#ifdef SPILLWAY_HAVE_CUDA
#include "train/gpu.hpp"
#endif

namespace spillway {
namespace {

// The rank that the launcher gave this process; known before MPI is initialized.
int launcher_rank() {
  for (const char* name : {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "SLURM_PROCID"})
    if (const char* text = std::getenv(name)) return std::atoi(text);
  return 0;
}

std::filesystem::path site_folder(const Config& config) {
  return std::filesystem::path(config.run.dir) / config.site.name;
}

// The checkpoint that train.resume asks for: whole, by the same rules as `spillway verify`.
std::optional<CheckpointReader> find_checkpoint(const Config& config, const CheckpointFolder& folder) {
  if (config.train.resume == "never") return std::nullopt;
  if (config.train.resume == "auto") return folder.newest_valid(require_complete);
  CheckpointReader reader(config.train.resume);
  reader.verify();
  require_complete(reader);
  return reader;
}

// A window that is already closed needs neither hub nor MPI; that is the usual end of a job that Slurm started late. Of live
// signals ranks may hear different things: there the leader decides.
bool window_has_passed(const Config& config) {
  if (!config.federation.hub.empty() || config.signal.file.empty() || has_live_signal(config)) return false;
  const SiteContext context(config);
  if (context.may_train()) return false;
  const auto next = context.next_window();
  log_info("no window is open at {}; {}", format_utc(context.now_unix_s()),
           next && *next != nullptr ? "the next one opens at " + format_utc((*next)->open_unix_s)
                                    : "none is left in the signal");
  return true;
}

// Gives all ranks' engines what the leader has read from a checkpoint.
void load_engine_state(Engine& engine, SiteComm& site, const ParameterLayout& layout, TrainingState& state) {
  state.parameters.resize(static_cast<std::size_t>(layout.total));
  site.broadcast_bytes(std::as_writable_bytes(std::span(state.parameters)));
  engine.write_parameters(state.parameters);
  engine.load_optimizer_state(state.optimizer, state.optimizer_updates);
  state.parameters.clear();
  state.optimizer.clear();
}

// The hardware of this rank's node as its meter sees it; only the node's first rank needs the answer. Collective.
MeteredNode metered_node(const Config& config, SiteComm& site) {
  MeteredNode node;
  node.on_gpus = config.train.device == "cuda";
  std::string bus_id;
#ifdef SPILLWAY_HAVE_CUDA
  if (node.on_gpus) bus_id = gpu_bus_id(site.rank());
#endif
  node.gpu_bus_ids = site.gather_on_node(bus_id);
  std::sort(node.gpu_bus_ids.begin(), node.gpu_bus_ids.end());
  node.gpu_bus_ids.erase(std::unique(node.gpu_bus_ids.begin(), node.gpu_bus_ids.end()),
                         node.gpu_bus_ids.end());
  std::erase(node.gpu_bus_ids, "");
  return node;
}

// The meter of a node besides the leader's; other ranks have none. A declared power is the whole site's and is counted at
// the leader: here only counters count.
class RemoteMeter {
 public:
  RemoteMeter(const Config& config, const MeteredNode& node, bool reads) : reads_(reads) {
    if (!reads || config.site.meter == "model" || config.clock.mode != "real") return;
    meter_ = make_meter(config.site, true, node);
    if (meter_->source() == "modelled" || meter_->source() == "unknown") meter_.reset();
    last_s_ = monotonic_s();
  }

  RemoteEnergy since_last() {
    RemoteEnergy energy;
    energy.unmetered_nodes = reads_ && !meter_ ? 1 : 0;
    const double now_s = monotonic_s(), seconds = now_s - last_s_;
    if (!meter_ || seconds <= 0) return energy;
    last_s_ = now_s;
    const EnergySample sample = meter_->sample(Phase::solo, seconds);
    for (std::size_t i = 0; i < kComponents; ++i)
      (sample.measured[i] ? energy.measured_j : energy.modelled_j)[i] = sample.power_w[i] * seconds;
    energy.unmetered_nodes = sample.known ? 0 : 1;
    return energy;
  }

 private:
  bool reads_;
  std::unique_ptr<EnergyMeter> meter_;
  double last_s_ = 0;
};

ExitCode train(const Config& config, const RunSetup& setup, Federation* federation, SiteComm& site) {
  const Loader loader(config.data.dir, setup.spec.sequence, config.train.tokens_per_step,
                      config.train.val_tokens, config.train.seed);
  const MeteredNode node = metered_node(config, site);
  NodeMeter meter;
  meter.since_s = monotonic_s();
  meter.other_nodes = site.nodes() > 1;
  if (site.leader()) {
    const SiteConfig own = site_of_job(config.site);
    if (own.nodes < config.site.nodes)
      log_info(
          "the job has {} of the site's {} nodes: their share of the declared powers counts, {:.0f} W while "
          "training",
          own.nodes, config.site.nodes, own.train_power_w);
    meter.meter = make_meter(own, config.clock.mode == "real", node);
  }
  RemoteMeter remote(config, node, site.node_leader() && !site.leader());
  const auto engine = make_engine(config, setup.spec, setup.layout, loader, site);
  if (federation != nullptr) {
    engine->prepare_copies(federation->contribution());
    if (config.federation.average_optimizer) engine->prepare_copies(federation->optimizer_state());
  }

  std::optional<CheckpointFolder> folder;
  TrainingState state;
  std::string parent_digest;
  if (site.leader()) {
    if (!loader.validation_bytes_per_token())
      log_warning(
          "data.dir {}: no data.json: the vocabulary is taken to be {}, and validation is in nats per token "
          "only",
          config.data.dir, loader.vocab());
    folder.emplace(site_folder(config));
    if (const auto checkpoint = find_checkpoint(config, *folder)) {
      state = read_training_state(*checkpoint, setup);
      parent_digest = checkpoint->digest();
      log_info("resuming from {}", checkpoint->file().string());
    }
  }
  bool resumed = !parent_digest.empty();
  site.broadcast(resumed);
  if (resumed) load_engine_state(*engine, site, setup.layout, state);

  Checkpointer checkpointer(config, setup, *engine, site, folder ? &*folder : nullptr, resumed);
  std::unique_ptr<Leader> leader;
  if (site.leader()) {
    log_info("{} parameters, {} ranks, micro-batch {} x {}, device {}", setup.layout.total, site.size(),
             engine->micro_batch(), setup.spec.sequence, config.train.device);
    log_info("memory of a rank: {}", describe_memory(engine->memory_use()));
    leader = std::make_unique<Leader>(config, setup, loader, *engine, federation, *folder, checkpointer,
                                      std::move(state), parent_digest, std::move(meter));
  }
  SitePower power(config, site, node, leader.get());
  install_stop_handlers();  // MPI, NCCL and CUDA are initialized
  for (;;) {
    if (site.nodes() > 1) {
      RemoteEnergy energy = remote.since_last();
      site.sum(energy.values());
      if (leader) leader->add_remote_energy(energy);
    }
    Decision decision;
    if (leader) decision = leader->decide();
    site.broadcast(decision);
    switch (decision.action) {
      case Decision::Action::train: {
        const double start_s = monotonic_s();
        const StepOutcome outcome = power.train(*engine, decision);
        if (leader) leader->trained(decision, outcome, monotonic_s() - start_s);
        break;
      }
      case Decision::Action::validate: {
        const double loss_nats = power.validate(*engine, decision);
        if (leader) leader->validated(decision, loss_nats);
        break;
      }
      case Decision::Action::checkpoint:
        checkpointer.save(leader ? leader->save_request() : SaveRequest(),
                          [&](TrainingState& to) { leader->fill(to); });
        if (leader) leader->saved();
        break;
      case Decision::Action::collect_parts:
        checkpointer.collect();
        break;
      case Decision::Action::load_parameters:
        engine->share_parameters();
        break;
      case Decision::Action::read_optimizer:
        engine->read_optimizer_state(federation ? federation->optimizer_state() : std::span<float>());
        break;
      case Decision::Action::write_optimizer:
        engine->write_optimizer_state(federation ? federation->optimizer_state() : std::span<float>());
        break;
      case Decision::Action::finish:
        return static_cast<ExitCode>(decision.exit_code);
    }
  }
}

}  // namespace

ExitCode run_training(const Config& config) {
  install_stop_handlers();
  const int rank = launcher_rank();
  set_log_source(fmt::format("{}[{}]", config.site.name, rank));
  if (rank == 0 && launcher_has_llvm())
    log_warning(
        "the launcher has loaded LLVM, which takes SIGUSR1, so that this site may not hear that it is to "
        "suspend: start mpirun with HWLOC_COMPONENTS=-opencl");
  const RunSetup setup = make_setup(config);
  if (window_has_passed(config)) return ExitCode::suspended;
  // Before MPI is initialized: the courier must be forked from a process that MPI knows nothing of.
  std::unique_ptr<Federation> federation;
  if (rank == 0 && !config.federation.hub.empty())
    federation = std::make_unique<Federation>(config.federation, config.site.name, setup.layout.total,
                                              merged_state_count(config.federation, setup.layout));
  SiteComm site;
  return train(config, setup, federation.get(), site);
}

}  // namespace spillway
