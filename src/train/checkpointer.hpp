// Writes the checkpoints of a site: one object on every rank.
//
// In one file: all state goes to the leader, whose thread writes it. In several (train.checkpoint-writers): each writer's
// thread writes its part; when all are on disk, the leader's thread writes the master, whose rename makes the checkpoint.
// Training goes on in between. A rank's part that fails fails the checkpoint, and its parts are removed.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "comm/site.hpp"
#include "core/config.hpp"
#include "io/checkpoint_folder.hpp"
#include "train/background_writer.hpp"
#include "train/engine.hpp"
#include "train/setup.hpp"
#include "train/training_state.hpp"
#include "train/writer_shares.hpp"

namespace spillway {

// What the leader says of a checkpoint that is to be made.
struct SaveRequest {
  std::string reason;
  double since_s = 0;  // monotonic: since when training waits for it
  bool last = false;   // of the job: save() returns when it is on disk
};

class Checkpointer {
 public:
  // folder: on the leader, null on the others. resumed: there is a good checkpoint already.
  Checkpointer(const Config& config, const RunSetup& setup, Engine& engine, SiteComm& site,
               CheckpointFolder* folder, bool resumed);

  // Collective. Copies the state and starts to write it. fill, on the leader, gives all of the state but what the
  // engine has. A checkpoint that cannot be written is a warning; the last one is on disk on return, or Error(io).
  void save(const SaveRequest& request, const std::function<void(TrainingState&)>& fill);
  // Collective, when awaits_parts(): whether all parts are on disk; then the leader starts on the master.
  void collect();

  // On the leader, not collective: whether one is being written (logs it once it is done), and whether collect() is due.
  bool busy();
  bool awaits_parts() const;

 private:
  enum class PartState { absent, busy, written, failed };

  void save_whole(const std::function<void(TrainingState&)>& fill);
  void save_parts(const std::function<void(TrainingState&)>& fill);
  std::int64_t choose_file();
  void collect_parts(bool wait);
  PartState part_state(bool wait);
  void start_master(const Committed& slowest);
  void copied();
  void finish(const BackgroundWriter::Result& result);
  void failed(const std::string& error);

  const Config& config_;
  const RunSetup& setup_;
  Engine& engine_;
  SiteComm& site_;
  CheckpointFolder* folder_;
  WriterShares shares_;
  std::string last_good_;
  SaveRequest request_;
  std::filesystem::path file_;
  double copied_s_ = 0, started_s_ = 0, collected_s_ = 0;  // how long the copy took; monotonic
  bool parts_pending_ = false;                             // the same on all ranks
  std::optional<BackgroundWriter::Result> part_;           // of this rank, once it is there
  TrainingState state_;                                    // what the threads read; its memory is used again
  std::vector<TensorView> tensors_;
  BackgroundWriter writer_, part_writer_;  // last: their threads end before what they read
};

}  // namespace spillway
