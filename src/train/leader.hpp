// Rank 0 of a site decides what all its ranks do next: window, federation, checkpoints and stops meet here.
#pragma once

#include <cstdint>
#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "comm/federation.hpp"
#include "core/config.hpp"
#include "core/layout.hpp"
#include "data/loader.hpp"
#include "io/checkpoint_folder.hpp"
#include "train/checkpointer.hpp"
#include "train/engine.hpp"
#include "train/member.hpp"
#include "train/setup.hpp"
#include "train/site_context.hpp"
#include "train/telemetry.hpp"
#include "train/training_state.hpp"

namespace spillway {

// What all ranks of the site do next. Broadcast as bytes: plain data only.
struct Decision {
  enum class Action : std::int32_t {
    train,            // one optimizer step on `block`
    validate,         // loss on the held-out text
    checkpoint,       // copy the state and start to write it
    collect_parts,    // say whether one's part of the checkpoint is on disk
    load_parameters,  // take the leader's parameters, which the federation has changed
    read_optimizer,   // the optimizer's state to the leader's mailbox, for a merge
    write_optimizer,  // and the merged one from there
    finish,           // leave the loop with `exit_code`
  };
  Action action = Action::finish;
  std::int32_t exit_code = 0;
  std::int64_t block = 0;
  std::int64_t global_step = 0;
  std::int64_t schedule_step = 0;  // of a training step: what the schedules read
  // Of a step: seconds of pause per second of work, and the most that the site may use, W at its meter; 0: no cap.
  double pause_ratio = 0, power_cap_w = 0;
  // Of a step or validation: seconds since the one before, if the site was in the same phase all that while.
  double gap_s = 0;
};

class Leader final : private MemberHost {
 public:
  // federation: null for a run without hub. The engine holds the parameters of `state` already.
  Leader(const Config& config, const RunSetup& setup, const Loader& loader, Engine& engine,
         Federation* federation, CheckpointFolder& folder, Checkpointer& checkpointer, TrainingState state,
         const std::string& parent_digest, NodeMeter meter);

  // Waits until there is something to do.
  Decision decide();
  void trained(const Decision& decision, const StepOutcome& outcome, double seconds);
  void validated(const Decision& decision, double loss_nats);
  // The checkpoint that a decision is about: what it is for, the state but for the engine's part, and that it is copied.
  const SaveRequest& save_request() const { return save_; }
  void fill(TrainingState& to);
  void saved();
  // A pause between micro-batches begins or ends.
  void paused(bool pausing);
  // Energy of the site's other nodes since the last call.
  void add_remote_energy(const RemoteEnergy& remote) { context_.add_remote(remote); }

 private:
  std::optional<Decision> next_alone();
  std::optional<Decision> next_federated();
  bool checkpoint_due();
  Decision checkpoint(const std::string& reason);
  Decision finish(ExitCode code);
  Decision exit_loop();
  Decision validation(std::int64_t step) const;
  bool validation_due(std::int64_t step) const;
  void watch_for_stop();
  void leave(const std::string& reason);
  void pump();
  bool background_done();
  void announce_progress();
  void enter(Phase phase);
  EnergyLedger log_energy(const std::string& event);  // returns the ledger of the line
  void start_metering(NodeMeter meter);
  std::int64_t global_step() const;
  const char* activity() const;

  // MemberHost
  void send(const Message& message) override;
  nlohmann::json energy_so_far() override { return log_energy("round").to_map(); }
  std::span<float> contribution() override;
  std::span<float> mailbox_velocity() override;
  std::span<float> mailbox_feedback() override;
  void read_parameters(std::span<float> to) override;
  void write_parameters(std::span<const float> from) override;
  void add_to_parameters(std::span<const float> difference) override;
  void read_optimizer_state() override;
  void write_optimizer_state() override;
  void run(const std::function<void()>& work, const std::function<void()>& done) override;
  void candidate_ready(const MemberState& candidate) override;
  void model_committed(const MemberState& state, const std::string& how) override;

  const Config& config_;
  const RunSetup& setup_;
  const Loader& loader_;
  Engine& engine_;
  Federation* federation_;
  CheckpointFolder& folder_;
  Checkpointer& checkpointer_;
  TrainingState state_;  // without parameters, optimizer and member: those are the engine's and member_'s
  SiteContext context_;
  std::unique_ptr<Member> member_;
  std::optional<TelemetryLog> telemetry_;
  double loss_sum_ = 0;  // since its last line
  std::int64_t loss_count_ = 0;
  double logged_s_ = 0;              // monotonic, of its last line
  double worked_until_s_ = 0;        // monotonic, of the last step or validation; 0: none in this phase
  LineageRow lineage_;               // of this job
  bool parameters_changed_ = false;  // the other ranks have not got them yet
  std::optional<Decision::Action> optimizer_action_;  // read_optimizer or write_optimizer is due
  bool stopping_ = false;
  std::string stop_reason_;
  double stopping_since_s_ = 0;
  SaveRequest save_;                   // the checkpoint that is being made
  std::optional<ExitCode> exit_code_;  // set: all that is left is the last checkpoint
  double tokens_per_s_ = 0;            // smoothed
  std::optional<double> last_loss_;
  std::int64_t steps_here_ = 0;        // of this process
  Phase phase_of_work_ = Phase::solo;  // that a pause interrupts
  std::int64_t validated_step_ = -1;
  double started_s_, saved_s_, announced_s_ = 0;  // monotonic
  // The member's work beside training; last, as it ends before what it reads.
  std::function<void()> after_background_;
  std::future<void> background_;
};

}  // namespace spillway
