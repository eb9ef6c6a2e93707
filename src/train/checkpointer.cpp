#include "train/checkpointer.hpp"

#include <algorithm>

#include "core/clock.hpp"
#include "core/log.hpp"
#include "core/time.hpp"

namespace spillway {
namespace {

constexpr double kCollect_s = 0.2;

// The committed model, which only the leader has.
std::int64_t leader_floats(const Config& config, const ParameterLayout& layout) {
  return config.federation.hub.empty() ? 0 : 2 * layout.total;
}

}  // namespace

Checkpointer::Checkpointer(const Config& config, const RunSetup& setup, Engine& engine, SiteComm& site,
                           CheckpointFolder* folder, bool resumed)
    : config_(config),
      setup_(setup),
      engine_(engine),
      site_(site),
      folder_(folder),
      shares_(setup.layout, config.train.checkpoint_writers, site.size(),
              leader_floats(config, setup.layout)),
      last_good_(resumed ? "the one this job resumed from" : "") {}

void Checkpointer::save(const SaveRequest& request, const std::function<void(TrainingState&)>& fill) {
  if (parts_pending_) collect_parts(true);
  // What a thread still reads must not change.
  if (writer_.busy()) finish(writer_.wait());
  request_ = request;
  site_.broadcast(request_.last);
  if (shares_.writers() == 1)
    save_whole(fill);
  else
    save_parts(fill);
  if (request_.last && writer_.busy()) finish(writer_.wait());
}

void Checkpointer::save_whole(const std::function<void(TrainingState&)>& fill) {
  tensors_ = engine_.snapshot(shares_);
  if (!site_.leader()) return;
  fill(state_);
  copied();
  writer_.start([this] {
    file_ = folder_->next_file();
    const Committed committed = write_training_state(file_, state_, tensors_, config_, setup_);
    folder_->completed(file_, {config_.train.keep_last, config_.train.keep_every});
    return committed;
  });
}

// The number of the file, 0 where the disk or the folder would not take it.
std::int64_t Checkpointer::choose_file() {
  try {
    file_ = folder_->next_file();
    require_free_space(file_, training_state_bytes(setup_.layout, !config_.federation.hub.empty(), 0));
    return folder_->number_of(file_);
  } catch (const Error& error) {
    failed(error.what());
    return 0;
  }
}

void Checkpointer::save_parts(const std::function<void(TrainingState&)>& fill) {
  std::int64_t number = site_.leader() ? choose_file() : 0;
  site_.broadcast(number);
  if (number == 0) return;
  tensors_ = engine_.snapshot(shares_);
  if (site_.leader()) {
    fill(state_);
    if (state_.member)
      for (TensorView& tensor : member_tensors(*state_.member, setup_.layout))
        tensors_.push_back(std::move(tensor));
    copied();
  }
  parts_pending_ = true;
  part_.reset();
  if (const int part = shares_.part_of(site_.rank()); part > 0) {
    const auto folder = std::filesystem::path(config_.run.dir) / config_.site.name;
    part_writer_.start([this, file = part_file(folder / CheckpointFolder::file_name(number), part)] {
      return write_training_part(file, tensors_);
    });
  }
  collected_s_ = monotonic_s();
  if (request_.last) collect_parts(true);
}

void Checkpointer::copied() {
  started_s_ = monotonic_s();
  copied_s_ = started_s_ - request_.since_s;
}

Checkpointer::PartState Checkpointer::part_state(bool wait) {
  if (shares_.part_of(site_.rank()) == 0) return PartState::absent;
  if (!part_) {
    part_ = wait ? std::optional(part_writer_.wait()) : part_writer_.poll();
    if (part_ && !part_->error.empty()) log_warning("a part of the checkpoint: {}", part_->error);
  }
  if (!part_) return PartState::busy;
  return part_->error.empty() ? PartState::written : PartState::failed;
}

void Checkpointer::collect() { collect_parts(false); }

void Checkpointer::collect_parts(bool wait) {
  const PartState state = part_state(wait);
  collected_s_ = monotonic_s();
  if (site_.any(state == PartState::busy)) return;
  parts_pending_ = false;
  const bool all_written = !site_.any(state == PartState::failed);
  const Committed own = part_ ? part_->committed : Committed();
  const Committed slowest = {"", site_.max(own.write_s), site_.max(own.sync_s), site_.max(own.rename_s)};
  if (!site_.leader()) return;
  if (all_written)
    start_master(slowest);
  else
    failed("a part of it was not written, see above");
}

void Checkpointer::start_master(const Committed& slowest) {
  writer_.start([this, slowest] {
    std::vector<CheckpointReader> parts;
    for (int part = 1; part <= shares_.writers(); ++part)
      parts.push_back(CheckpointReader::of_part(part_file(file_, part)));
    Committed committed = write_training_master(file_, state_, parts, config_, setup_);
    folder_->completed(file_, {config_.train.keep_last, config_.train.keep_every});
    committed.write_s += slowest.write_s;
    committed.sync_s += slowest.sync_s;
    committed.rename_s += slowest.rename_s;
    return committed;
  });
}

bool Checkpointer::busy() {
  if (writer_.busy())
    if (const auto result = writer_.poll()) finish(*result);
  return writer_.busy() || parts_pending_;
}

bool Checkpointer::awaits_parts() const {
  return parts_pending_ && monotonic_s() - collected_s_ >= kCollect_s;
}

void Checkpointer::finish(const BackgroundWriter::Result& result) {
  if (!result.error.empty()) {
    failed(result.error);
    return;
  }
  last_good_ = file_.string();
  const Committed& done = result.committed;
  log_info(
      "checkpoint {} ({}), digest {}, {} {}; training waited {:.3f} s; on disk after {:.2f} s: written "
      "{:.2f} s, "
      "fsync {:.2f} s, rename {:.2f} s",
      last_good_, request_.reason, done.digest.substr(0, 12), shares_.writers(),
      shares_.writers() == 1 ? "writer" : "writers", copied_s_, monotonic_s() - started_s_, done.write_s,
      done.sync_s, done.rename_s);
}

void Checkpointer::failed(const std::string& error) {
  if (shares_.writers() > 1) folder_->remove_orphans();
  if (request_.last)
    fail(ExitCode::io, "the last checkpoint was not written, the work since {} is lost: {}",
         last_good_.empty() ? "the start" : last_good_, error);
  log_warning(
      "CHECKPOINT NOT WRITTEN ({}): {}; training goes on, the last good one is {}; the next try is in {}",
      request_.reason, error, last_good_.empty() ? "none" : last_good_,
      format_duration(config_.train.checkpoint_every_s));
}

}  // namespace spillway
