// What a site has done so far, kept in its checkpoints: the histories and the lineage of windows.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace spillway {

// One optimizer step of this site.
struct StepRow {
  std::int64_t step = 0;   // global step before it
  std::int64_t block = 0;  // the data it was trained on
  double loss_nats = 0;
  double gradient_norm = 0;
};

struct ValidationRow {
  std::int64_t step = 0;     // global step of the model that was measured
  double loss_nats = 0;      // per token
  double bits_per_byte = 0;  // NaN where the data does not say how many bytes a token stands for
};

// One job of this site: usually one window.
struct LineageRow {
  std::string site;
  double started_unix_s = 0, ended_unix_s = 0;  // simulated
  std::int64_t first_step = 0, last_step = 0;   // global steps
  std::int64_t tokens = 0;
  double energy_kwh = 0, emissions_g = 0;
  std::string parent_digest;  // of the checkpoint it resumed from; empty for a fresh start
};

struct TrainingRecord {
  std::vector<StepRow> steps;
  std::vector<ValidationRow> validations;
  std::vector<LineageRow> lineage;
  std::int64_t tokens = 0;   // trained by this site
  std::int64_t skipped = 0;  // steps whose gradient was not finite
  std::int64_t suspends = 0;
  std::int64_t rounds_solo = 0, rounds_federated = 0;  // merges this site took part in
  double trained_s = 0;                                // real seconds inside optimizer steps
};

}  // namespace spillway
