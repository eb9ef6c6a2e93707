#include "train/vault.hpp"

#include <filesystem>

#include "comm/federation.hpp"
#include "core/log.hpp"
#include "core/stop.hpp"
#include "io/checkpoint_folder.hpp"
#include "model/init.hpp"
#include "train/checkpoint_check.hpp"
#include "train/member.hpp"
#include "train/optimizer_tensors.hpp"
#include "train/setup.hpp"
#include "train/training_state.hpp"

namespace spillway {
namespace {

constexpr double kPoll_s = 0.1;
// The newest committed model, and the candidate of a round whose commit this vault may not have seen.
constexpr Retention kKept;

class Vault final : private MemberHost {
 public:
  explicit Vault(const Config& config)
      : config_(config),
        setup_(make_setup(config)),
        federation_(config.federation, "vault", setup_.layout.total,
                    merged_state_count(config.federation, setup_.layout)),
        folder_(std::filesystem::path(config.run.dir) / "vault"),
        member_({"vault", "vault", setup_.digest, setup_.data_digest}, member_options(config), restore(),
                *this) {}

  ExitCode run() {
    log_info("vault holds model version {}", member_.state().model.version);
    remember_candidate();
    member_.announce(true);
    while (stop_signal() == 0 && !member_.complete()) {
      if (const auto message = federation_.wait(kPoll_s)) member_.handle(*message);
      member_.advance();
    }
    federation_.send(Bye{"the vault ends"});
    return member_.complete() ? ExitCode::complete : ExitCode::suspended;
  }

 private:
  static MemberOptions member_options(const Config& config) {
    MemberOptions options;
    options.tokens_per_step = config.train.tokens_per_step;
    options.outer.learning_rate = static_cast<float>(config.federation.outer_lr);
    options.outer.momentum = static_cast<float>(config.federation.outer_momentum);
    return options;
  }

  // The newest committed model on disk, or the initialization.
  MemberState restore() {
    if (const auto checkpoint = folder_.newest_valid(require_complete))
      return read_committed_model(*checkpoint, setup_);
    MemberState state;
    state.base.resize(static_cast<std::size_t>(setup_.layout.total));
    state.velocity.resize(state.base.size(), 0.0f);
    initialize_parameters(state.base, setup_.layout, config_.train.seed);
    return state;
  }

  // Before a round's commit its result is on disk under a name of its own: a vault that dies in between finds it again.
  void remember_candidate() {
    if (!std::filesystem::exists(candidate_file())) return;
    try {
      const CheckpointReader reader(candidate_file());
      reader.verify();
      require_complete(reader);
      member_.remember_candidate(read_committed_model(reader, setup_));
    } catch (const Error& error) {
      log_warning("{}; it is ignored", error.what());
    }
  }

  std::filesystem::path candidate_file() const {
    return std::filesystem::path(config_.run.dir) / "vault" / "candidate.h5";
  }

  void send(const Message& message) override { federation_.send(message); }
  std::span<float> contribution() override { return federation_.contribution(); }
  std::span<float> mailbox_velocity() override { return federation_.velocity(); }
  std::span<float> mailbox_feedback() override { return federation_.feedback(); }
  void read_parameters(std::span<float>) override { SPILLWAY_CHECK(!"the vault trains nothing"); }
  void write_parameters(std::span<const float>) override {}  // it keeps no local parameters
  void add_to_parameters(std::span<const float>) override { SPILLWAY_CHECK(!"the vault trains nothing"); }

  void candidate_ready(const MemberState& candidate) override {
    write_committed_model(candidate_file(), candidate, config_, setup_);
  }

  void model_committed(const MemberState& state, const std::string& how) override {
    const auto file = folder_.next_file();
    if (how == "sync")
      write_committed_model(file, state, config_, setup_);
    else
      std::filesystem::rename(candidate_file(), file);
    folder_.completed(file, kKept);
  }

  Config config_;
  RunSetup setup_;
  Federation federation_;
  CheckpointFolder folder_;
  Member member_;
};

}  // namespace

ExitCode run_vault(const Config& config) {
  install_stop_handlers();
  set_log_source("vault");
  Vault vault(config);
  return vault.run();
}

}  // namespace spillway
