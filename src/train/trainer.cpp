#include "train/trainer.hpp"

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
#include "train/leader.hpp"
#include "train/memory_plan.hpp"
#include "train/site_context.hpp"

namespace spillway {
namespace {

// The rank that the launcher gave this process; known before MPI_Init.
int launcher_rank() {
  for (const char* name : {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "SLURM_PROCID"})
    if (const char* text = std::getenv(name)) return std::atoi(text);
  return 0;
}

std::filesystem::path site_folder(const Config& config) {
  return std::filesystem::path(config.run.dir) / config.site.name;
}

// The checkpoint that train.resume asks for.
std::optional<CheckpointReader> find_checkpoint(const Config& config, const CheckpointFolder& folder) {
  if (config.train.resume == "never") return std::nullopt;
  if (config.train.resume == "auto") return folder.newest_valid();
  CheckpointReader reader(config.train.resume);
  reader.verify();
  return reader;
}

// A window that is already closed needs neither hub nor MPI; that is the usual end of a job that Slurm started late.
bool window_has_passed(const Config& config) {
  if (!config.federation.hub.empty() || (config.signal.file.empty() && config.signal.provider.empty()))
    return false;
  const SiteContext context(config, {});
  if (context.may_train()) return false;
  const auto next = context.next_window();
  log_info("no window is open at {}; {}", format_utc(context.now_unix_s()),
           !next              ? "the signal is live, when one opens is not known"
           : *next != nullptr ? "the next one opens at " + format_utc((*next)->open_unix_s)
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

ExitCode train(const Config& config, const RunSetup& setup, Federation* federation, SiteComm& site) {
  const Loader loader(config.data.dir, setup.spec.sequence, config.train.tokens_per_step,
                      config.train.val_tokens, config.train.seed);
  const auto engine = make_engine(config, setup.spec, setup.layout, loader, site);

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

  std::unique_ptr<Leader> leader;
  if (site.leader()) {
    log_info("{} parameters, {} ranks, micro-batch {} x {}, device {}", setup.layout.total, site.size(),
             engine->micro_batch(), setup.spec.sequence, config.train.device);
    log_info("memory of a rank: {}", describe_memory(engine->memory_use()));
    leader = std::make_unique<Leader>(config, setup, loader, *engine, federation, *folder, std::move(state),
                                      parent_digest);
  }
  std::vector<float> received;
  for (;;) {
    Decision decision;
    if (leader) decision = leader->decide();
    site.broadcast(decision);
    switch (decision.action) {
      case Decision::Action::train: {
        const double start_s = monotonic_s();
        const StepOutcome outcome = engine->train(decision.block, decision.global_step);
        if (leader) leader->trained(decision, outcome, monotonic_s() - start_s);
        break;
      }
      case Decision::Action::validate: {
        const double loss_nats = engine->validate();
        if (leader) leader->validated(decision, loss_nats);
        break;
      }
      case Decision::Action::checkpoint: {
        std::vector<HostTensor> optimizer = engine->optimizer_state();
        if (leader) leader->save(std::move(optimizer));
        break;
      }
      case Decision::Action::load_parameters:
        received.resize(static_cast<std::size_t>(setup.layout.total));
        if (leader) received.assign(leader->parameters().begin(), leader->parameters().end());
        site.broadcast_bytes(std::as_writable_bytes(std::span(received)));
        if (!leader) engine->write_parameters(received);
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
  const RunSetup setup = make_setup(config);
  if (window_has_passed(config)) return ExitCode::suspended;
  // Before MPI_Init: the courier must be forked from a process that MPI knows nothing of.
  std::unique_ptr<Federation> federation;
  if (rank == 0 && !config.federation.hub.empty())
    federation = std::make_unique<Federation>(config.federation, config.site.name, setup.layout.total);
  SiteComm site;
  return train(config, setup, federation.get(), site);
}

}  // namespace spillway
