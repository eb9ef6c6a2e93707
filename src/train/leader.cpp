#include "train/leader.hpp"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdlib>
#include <limits>
#include <numbers>
#include <thread>
#include <utility>

#include "core/error.hpp"
#include "core/hash.hpp"
#include "core/log.hpp"
#include "core/stop.hpp"
#include "core/time.hpp"

namespace spillway {
namespace {

constexpr double kPoll_s = 0.02;
constexpr int kBackgroundNice = 5;  // a third of the weight of a training thread
constexpr double kAnnounce_s = 0.5;

MemberOptions member_options(const Config& config, const ParameterLayout& layout) {
  MemberOptions options;
  for (const Parameter& parameter : layout.parameters)
    options.tensor_ends.push_back(parameter.offset + parameter.count);
  options.tokens_per_step = config.train.tokens_per_step;
  options.lease_steps = config.federation.lease_steps;
  options.round_steps = config.federation.round_steps;
  options.overlap = config.federation.overlap;
  options.outer.learning_rate = static_cast<float>(config.federation.outer_lr);
  options.outer.momentum = static_cast<float>(config.federation.outer_momentum);
  return options;
}

// Model version 0: the parameters as they were initialized.
MemberState initial_member_state(Engine& engine, const ParameterLayout& layout) {
  MemberState state;
  state.base.resize(static_cast<std::size_t>(layout.total));
  state.velocity.resize(static_cast<std::size_t>(layout.total), 0.0f);
  engine.read_parameters(state.base);
  return state;
}

const char* signal_name(int signal_number) {
  switch (signal_number) {
    case SIGUSR1:
      return "SIGUSR1";
    case SIGTERM:
      return "SIGTERM";
    default:
      return "SIGINT";
  }
}

}  // namespace

Leader::Leader(const Config& config, const RunSetup& setup, const Loader& loader, Engine& engine,
               Federation* federation, CheckpointFolder& folder, Checkpointer& checkpointer,
               TrainingState state, const std::string& parent_digest, NodeMeter meter)
    : config_(config),
      setup_(setup),
      loader_(loader),
      engine_(engine),
      federation_(federation),
      folder_(folder),
      checkpointer_(checkpointer),
      state_(std::move(state)),
      context_(config),
      started_s_(monotonic_s()),
      saved_s_(started_s_) {
  if (federation_ != nullptr) {
    MemberState member_state =
        state_.member ? std::move(*state_.member) : initial_member_state(engine_, setup.layout);
    state_.member.reset();
    member_ = std::make_unique<Member>(
        MemberIdentity{config.site.name, "site", setup.digest, setup.data_digest},
        member_options(config, setup.layout), std::move(member_state), static_cast<MemberHost&>(*this));
  }
  require_free_space(folder_.next_file(), training_state_bytes(setup.layout, member_ != nullptr, 0));
  start_metering(std::move(meter));
  lineage_.site = config.site.name;
  lineage_.parent_digest = parent_digest;
  if (!member_) {
    lineage_.started_unix_s = context_.now_unix_s();
    log_energy("start");
  }
  lineage_.first_step = lineage_.last_step = global_step();
  lineage_.tokens = state_.record.tokens;
  lineage_.energy_kwh = state_.energy.energy_kwh();
  lineage_.emissions_g = state_.energy.emissions_g();
  if (!state_.record.validations.empty()) validated_step_ = state_.record.validations.back().step;
  if (member_) member_->announce(true);
}

// The log of energy goes on where it ended, also after a crash: then it knows more than the checkpoint.
void Leader::start_metering(NodeMeter meter) {
  telemetry_.emplace(folder_.path() / TelemetryLog::kFileName, config_.train.resume == "never");
  const auto& logged = telemetry_->last_energy();
  const bool newer = logged && logged->total_mj() > state_.energy.total_mj();
  context_.start_metering(std::move(meter), newer ? *logged : state_.energy, !member_);
}

void Leader::enter(Phase phase) {
  if (phase == context_.phase()) return;
  log_energy("sample");
  context_.enter(phase);
  worked_until_s_ = 0;
}

// Nothing is said of a job before the hub has told the run's time.
EnergyLedger Leader::log_energy(const std::string& event) {
  if (member_ && !member_->welcomed() && event == "sample") return {};
  TelemetryLine line;
  line.event = event;
  line.energy = context_.energy();
  line.unix_s = context_.energy_until_unix_s();
  line.phase = context_.phase();
  line.step = global_step();
  line.tokens = state_.record.tokens;
  line.trained_s = state_.record.trained_s;
  if (event == "validation") {
    line.loss_nats = state_.record.validations.back().loss_nats;
    line.bits_per_byte = state_.record.validations.back().bits_per_byte;
  } else if (loss_count_ > 0) {
    line.loss_nats = loss_sum_ / static_cast<double>(loss_count_);
    loss_sum_ = 0;
    loss_count_ = 0;
  }
  line.live = context_.live_values();
  line.power_cap_w = context_.power_cap_w();
  const char* job = std::getenv("SLURM_JOB_ID");
  if (event == "start" && job != nullptr) line.job = job;
  telemetry_->append(line);
  logged_s_ = monotonic_s();
  return line.energy;
}

std::int64_t Leader::global_step() const { return member_ ? member_->global_step() : state_.next_block; }

Decision Leader::decide() {
  if (exit_code_) return exit_loop();
  for (;;) {
    if (member_) pump();
    watch_for_stop();
    if (parameters_changed_) {
      parameters_changed_ = false;
      return {Decision::Action::load_parameters};
    }
    if (optimizer_action_) return {*std::exchange(optimizer_action_, std::nullopt)};
    announce_progress();
    if (monotonic_s() - logged_s_ >= config_.site.telemetry_s) log_energy("sample");
    if (checkpointer_.awaits_parts()) return {Decision::Action::collect_parts};
    if (auto decision = member_ ? next_federated() : next_alone()) {
      decision->pause_ratio = context_.pause_ratio();
      if (worked_until_s_ > 0) decision->gap_s = monotonic_s() - worked_until_s_;
      decision->power_cap_w = context_.power_cap_w().value_or(0);
      return *decision;
    }
    std::this_thread::sleep_for(std::chrono::duration<double>(kPoll_s));
  }
}

void Leader::watch_for_stop() {
  if (stopping_) return;
  const bool clock_known = !member_ || member_->welcomed();
  if (stop_signal() != 0)
    leave(std::string("signal ") + signal_name(stop_signal()));
  else if (config_.train.stop_after > 0 && steps_here_ >= config_.train.stop_after)
    leave(fmt::format("train.stop-after = {} steps", config_.train.stop_after));
  else if (clock_known && !context_.may_train())
    leave(context_.window_open() || !config_.gate.enforce ? "no power may be used" : "the window is closed");
}

void Leader::leave(const std::string& reason) {
  stopping_ = true;
  stop_reason_ = reason;
  stopping_since_s_ = monotonic_s();
  enter(Phase::drain);
  if (member_) member_->leave(reason);
}

std::optional<Decision> Leader::next_alone() {
  if (stopping_) return finish(ExitCode::suspended);
  const std::int64_t step = global_step();
  if (step != validated_step_ && (validation_due(step) || step >= config_.train.steps))
    return validation(step);
  if (step >= config_.train.steps) return finish(ExitCode::complete);
  if (checkpoint_due()) return checkpoint("periodic");
  enter(Phase::solo);
  return Decision{Decision::Action::train, 0, state_.next_block, step, step};
}

std::optional<Decision> Leader::next_federated() {
  const std::int64_t committed = member_->state().model.blocks;
  const bool at_committed = member_->state().consumed.empty();
  if (member_->complete() && at_committed) {
    if (validated_step_ != committed) return validation(committed);
    return finish(ExitCode::complete);
  }
  member_->advance();
  if (stopping_) {
    if (member_->left()) return finish(ExitCode::suspended);
    // The hub or the other sites may be gone: then this round's work waits in the checkpoint.
    if (monotonic_s() - stopping_since_s_ > config_.train.suspend_deadline_s) {
      log_warning("suspending without the federation's last merge: {} steps stay in the checkpoint",
                  count_blocks(member_->state().consumed));
      return finish(ExitCode::suspended);
    }
    member_->advance();
    return std::nullopt;
  }
  if (checkpoint_due()) return checkpoint("periodic");
  const Phase phase_at_work = member_->federated() ? Phase::federated : Phase::solo;
  if (!member_->may_train()) {
    enter(member_->merging() ? phase_at_work : Phase::idle);
    return std::nullopt;
  }
  // Only committed models are validated: those are what the run is about.
  if (at_committed && validated_step_ != committed && validation_due(committed)) return validation(committed);
  enter(phase_at_work);
  return Decision{Decision::Action::train, 0, member_->next_block(), member_->global_step(),
                  member_->schedule_step()};
}

bool Leader::validation_due(std::int64_t step) const {
  const int every = config_.train.val_every;
  if (every <= 0) return false;
  return validated_step_ < 0 || step / every != validated_step_ / every;
}

Decision Leader::validation(std::int64_t step) const { return {Decision::Action::validate, 0, 0, step}; }

Decision Leader::checkpoint(const std::string& reason) {
  save_ = {reason, monotonic_s(), exit_code_.has_value()};
  context_.enter(Phase::checkpoint);
  return {Decision::Action::checkpoint};
}

// The last checkpoint; the next decision is exit_loop().
Decision Leader::finish(ExitCode code) {
  if (code == ExitCode::suspended) ++state_.record.suspends;
  exit_code_ = code;
  return checkpoint(code == ExitCode::complete ? "complete" : stop_reason_);
}

Decision Leader::exit_loop() {
  log_energy("end");
  const bool complete = *exit_code_ == ExitCode::complete;
  if (member_ && complete) federation_->send(Bye{"the run is complete"});
  log_info("{} at step {} of {}: {}", complete ? "complete" : "suspended", global_step(), config_.train.steps,
           complete ? "all steps are done" : stop_reason_);
  return {Decision::Action::finish, static_cast<std::int32_t>(*exit_code_)};
}

void Leader::trained(const Decision& decision, const StepOutcome& outcome, double seconds) {
  worked_until_s_ = monotonic_s();
  TrainingRecord& record = state_.record;
  record.steps.push_back({decision.global_step, decision.block, outcome.loss_nats, outcome.gradient_norm});
  record.tokens += config_.train.tokens_per_step;
  record.trained_s += seconds;
  if (!outcome.applied) {
    ++record.skipped;
    log_warning("step {}: the gradient is not finite: no update", decision.global_step);
  }
  last_loss_ = outcome.loss_nats;
  loss_sum_ += outcome.loss_nats;
  ++loss_count_;
  const double rate = static_cast<double>(config_.train.tokens_per_step) / seconds;
  tokens_per_s_ = tokens_per_s_ == 0 ? rate : 0.9 * tokens_per_s_ + 0.1 * rate;
  ++steps_here_;
  if (member_)
    member_->block_done();
  else
    ++state_.next_block;
  if (config_.train.log_every > 0 && (decision.global_step + 1) % config_.train.log_every == 0) {
    const auto left_s = context_.window_left_s();
    const auto intensity = context_.intensity_g_per_kwh();
    log_info("step {}/{}  loss {:.4f}  gradient norm {:.3f}  {:.0f} tokens/s{}{}", decision.global_step + 1,
             config_.train.steps, outcome.loss_nats, outcome.gradient_norm, rate,
             left_s ? "  window closes in " + format_duration(std::floor(*left_s)) : "",
             intensity ? fmt::format("  {:.0f} g/kWh", *intensity) : "");
  }
}

void Leader::paused(bool pausing) {
  if (pausing) phase_of_work_ = context_.phase();
  context_.enter(pausing ? Phase::idle : phase_of_work_);
}

void Leader::validated(const Decision& decision, double loss_nats) {
  worked_until_s_ = monotonic_s();
  const auto bytes_per_token = loader_.validation_bytes_per_token();
  const double bits_per_byte = bytes_per_token ? loss_nats / std::numbers::ln2 / *bytes_per_token
                                               : std::numeric_limits<double>::quiet_NaN();
  state_.record.validations.push_back({decision.global_step, loss_nats, bits_per_byte});
  validated_step_ = decision.global_step;
  log_energy("validation");
  log_info("validation at step {}: loss {:.4f} nats per token{}", decision.global_step, loss_nats,
           bytes_per_token ? fmt::format(", {:.4f} bits per byte", bits_per_byte) : "");
}

bool Leader::checkpoint_due() {
  return !checkpointer_.busy() && config_.train.checkpoint_every_s > 0 &&
         monotonic_s() - saved_s_ >= config_.train.checkpoint_every_s;
}

void Leader::fill(TrainingState& to) {
  to.optimizer_updates = engine_.optimizer_updates();
  to.next_block = state_.next_block;
  if (member_) to.member = member_->state();
  log_energy("checkpoint");
  to.energy = context_.ledger();
  to.energy_source = context_.energy_source();
  to.record = state_.record;
  // This job's row so far; the next checkpoint has it anew.
  LineageRow row = lineage_;
  row.ended_unix_s = context_.now_unix_s();
  row.last_step = global_step();
  row.tokens = state_.record.tokens - lineage_.tokens;
  row.energy_kwh = to.energy.energy_kwh() - lineage_.energy_kwh;
  row.emissions_g = to.energy.emissions_g() - lineage_.emissions_g;
  to.record.lineage.push_back(row);
}

void Leader::saved() {
  saved_s_ = monotonic_s();
  enter(stopping_ ? Phase::drain : Phase::solo);
}

const char* Leader::activity() const {
  if (stopping_) return "suspending";
  if (!member_) return "solo";
  if (member_->complete()) return "complete";
  if (!member_->connected()) return member_->may_train() ? "hub away" : "waiting";
  if (!member_->may_train()) return "merging";
  return member_->federated() ? "federated" : "solo";
}

void Leader::announce_progress() {
  if (!member_ || monotonic_s() - announced_s_ < kAnnounce_s) return;
  announced_s_ = monotonic_s();
  nlohmann::json progress = {{"state", activity()},
                             {"step", global_step()},
                             {"tokens_per_s", tokens_per_s_},
                             {"energy_kwh", context_.energy().energy_kwh()},
                             {"emissions_g", context_.energy().emissions_g()},
                             {"tokens", state_.record.tokens}};
  if (last_loss_) progress["loss_nats"] = *last_loss_;
  if (const auto left_s = context_.window_left_s()) progress["window_left_s"] = *left_s;
  if (const auto intensity = context_.intensity_g_per_kwh()) progress["intensity_g_per_kwh"] = *intensity;
  federation_->send(MemberHeartbeat{{}, progress});
}

void Leader::pump() {
  const bool before = member_->welcomed();
  while (background_done() && !optimizer_action_) {
    const auto message = federation_->poll();
    if (!message) break;
    member_->handle(*message);
  }
  if (!before && member_->welcomed()) {
    context_.set_clock(*member_->clock());
    lineage_.started_unix_s = context_.now_unix_s();
    log_energy("start");
  }
  if (!member_->welcomed() && monotonic_s() - started_s_ > config_.federation.hub_deadline_s)
    fail(ExitCode::io, "no hub at {} within {}: is it running, and can its port be reached from here?",
         config_.federation.hub, format_duration(config_.federation.hub_deadline_s));
}

void Leader::send(const Message& message) { federation_->send(message); }
std::span<float> Leader::contribution() { return federation_->contribution(); }
std::span<float> Leader::mailbox_velocity() { return federation_->velocity(); }
std::span<float> Leader::mailbox_feedback() { return federation_->feedback(); }
void Leader::read_parameters(std::span<float> to) { engine_.read_parameters(to); }

void Leader::write_parameters(std::span<const float> from) {
  engine_.write_parameters(from);
  parameters_changed_ = true;
}

void Leader::add_to_parameters(std::span<const float> difference) {
  engine_.add_to_parameters(difference);
  parameters_changed_ = true;
}

void Leader::read_optimizer_state() {
  if (config_.federation.average_optimizer) optimizer_action_ = Decision::Action::read_optimizer;
}

// All members see the same bits here, so all of them take the average or none does. The log's hash shows that they do.
void Leader::write_optimizer_state() {
  if (!config_.federation.average_optimizer) return;
  const auto merged = federation_->optimizer_state();
  if (!std::all_of(merged.begin(), merged.end(), [](float value) { return std::isfinite(value); })) {
    log_warning("the members' mean optimizer state is not finite: this site's own stays");
    return;
  }
  optimizer_action_ = Decision::Action::write_optimizer;
  log_info("optimizer state averaged over the sites, hash {}",
           xxh3_hex({bytes_of(std::span<const float>(merged))}).substr(0, 12));
}

void Leader::run(const std::function<void()>& work, const std::function<void()>& done) {
  if (!config_.federation.overlap) {
    work();
    return done();
  }
  SPILLWAY_CHECK(!background_.valid());
  after_background_ = done;
  background_ = std::async(std::launch::async, [work] {
    // Training goes first. OpenMP's threads of this thread inherit its priority.
    (void)setpriority(PRIO_PROCESS, static_cast<id_t>(gettid()), kBackgroundNice);
    work();
  });
}

// Whether messages may be handled. Ends what ran beside training, once it is done.
bool Leader::background_done() {
  if (!background_.valid()) return true;
  if (background_.wait_for(std::chrono::seconds(0)) != std::future_status::ready) return false;
  background_.get();
  after_background_();
  return !background_.valid();
}

void Leader::candidate_ready(const MemberState&) {}

void Leader::model_committed(const MemberState& state, const std::string& how) {
  if (how == "adopt") ++state_.record.rounds_solo;
  if (how == "nesterov" || how == "average") ++state_.record.rounds_federated;
  log_info("model version {} ({}): {} of {} steps", state.model.version, how, state.model.blocks,
           config_.train.steps);
}

}  // namespace spillway
