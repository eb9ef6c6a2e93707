#include "train/setup.hpp"

#include "core/error.hpp"
#include "core/time.hpp"
#include "data/identity.hpp"
#include "data/loader.hpp"
#include "model/layout.hpp"
#include "train/run_digest.hpp"

namespace spillway {
namespace {

int vocab_of_data(const Config& config) {
  if (!config.data.dir.empty()) return data_vocab(config.data.dir);
  if (config.model.vocab > 0) return 0;
  fail(ExitCode::usage, "data.dir is not set: make the data with spillway tokenize and name its folder");
}

}  // namespace

RunSetup make_setup(const Config& config) {
  RunSetup setup;
  setup.spec = make_spec(config.model, vocab_of_data(config));
  setup.layout = make_layout(setup.spec);
  setup.digest = run_digest(config, setup.spec);
  if (!config.data.dir.empty()) setup.data_digest = data_digest(config.data.dir);
  return setup;
}

ClockSpec make_clock(const ClockConfig& config) {
  const double now = system_unix_s();
  if (config.mode == "real") return {now, now, 1};
  if (config.mode != "replay") fail(ExitCode::usage, "clock.mode = {}: must be real or replay", config.mode);
  const auto start = parse_utc(config.start);
  if (!start)
    fail(ExitCode::usage, "clock.start = '{}': replay needs an instant such as 2026-01-11T17:00:00Z",
         config.start);
  if (!(config.speed > 0)) fail(ExitCode::usage, "clock.speed = {}: must be positive", config.speed);
  return {*start, now, config.speed};
}

}  // namespace spillway
