// Rounds between sites without hub, couriers and gateways: each rank of this MPI job is a site of its own. Training, Δ, the
// ring with its compression and the outer step are the product's. For experiments on quality on one machine: quality.py.
//
// usage: mpirun -n SITES federated_rounds --config FILE.ini
// Of [federation] it reads round-steps (H), compression, outer-lr, outer-momentum, average-last and average-optimizer.
#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

#include "cli/options.hpp"
#include "comm/exchange.hpp"
#include "comm/site.hpp"
#include "core/clock.hpp"
#include "core/error.hpp"
#include "data/loader.hpp"
#include "optim/outer.hpp"
#include "optim/schedule.hpp"
#include "train/engine.hpp"
#include "train/optimizer_tensors.hpp"
#include "train/setup.hpp"

using namespace spillway;

namespace {

// What all sites agree on, and this site's own part of the compression.
struct Federation {
  std::vector<float> base, velocity, delta, feedback;
  std::vector<float> optimizer_state;  // empty: each site keeps its own
};

// One merge; the engine then has the new common parameters. `next_blocks`: steps of all sites after it.
void merge(const Config& config, Engine& engine, Federation& common, float weight, std::int64_t next_blocks) {
  engine.read_parameters(common.delta);
  outer_delta(common.delta, common.base, common.delta);
  RingWire wire{parse_wire_format(config.federation.compression), {}};
  if (wire.format == WireFormat::int8) wire.feedback = common.feedback;
  ring_weighted_sum(common.delta, weight, MPI_COMM_WORLD, {}, wire);
  const double averaged_from = (1 - config.federation.average_last) * static_cast<double>(config.train.steps);
  const OuterSettings settings{static_cast<float>(config.federation.outer_lr),
                               static_cast<float>(config.federation.outer_momentum)};
  if (static_cast<double>(next_blocks) > averaged_from)
    outer_average(common.base, common.velocity, common.base, common.delta);
  else
    outer_step(common.base, common.velocity, common.base, common.delta, settings);
  engine.write_parameters(common.base);
  if (common.optimizer_state.empty()) return;
  engine.read_optimizer_state(common.optimizer_state);
  ring_weighted_sum(common.optimizer_state, weight, MPI_COMM_WORLD, {},
                    {optimizer_state_format(wire.format), {}});
  engine.write_optimizer_state(common.optimizer_state);
}

// Returns the number of merges.
int train(const Config& config, Engine& engine, const RunSetup& setup, int site, int sites) {
  Federation common;
  common.base.resize(static_cast<std::size_t>(setup.layout.total));
  common.velocity = common.delta = common.feedback = common.base;
  engine.read_parameters(common.base);
  common.optimizer_state.resize(
      static_cast<std::size_t>(merged_state_count(config.federation, setup.layout)));
  int merges = 0;
  for (std::int64_t done = 0; done < config.train.steps;) {
    // The last round shares what is left.
    const std::int64_t left = config.train.steps - done;
    const std::int64_t all = std::min<std::int64_t>(left, config.federation.round_steps * sites);
    const auto begin_of = [&](int which) { return done + all * which / sites; };
    const std::int64_t begin = begin_of(site), own = begin_of(site + 1) - begin;
    const double pace = static_cast<double>(all) / static_cast<double>(own);
    for (std::int64_t i = 0; i < own; ++i) engine.train(begin + i, paced_step(done, i, pace));
    done += all;
    if (sites == 1) continue;
    merge(config, engine, common, static_cast<float>(own) / static_cast<float>(all), done);
    ++merges;
  }
  return merges;
}

}  // namespace

int main(int count, char** words) {
  cli::CommandSpec spec;
  spec.name = "federated_rounds";
  spec.summary = "Rounds between sites that are ranks of one MPI job.";
  spec.usage = "mpirun -n SITES federated_rounds --config FILE.ini";
  spec.sections = {"model", "data", "train", "optim", "federation", "run"};
  try {
    const auto config = cli::parse(spec, std::vector<std::string>(words + 1, words + count));
    if (!config) return 0;
    SiteComm alone(MPI_COMM_SELF);
    int site = 0, sites = 1;
    MPI_Comm_rank(MPI_COMM_WORLD, &site);
    MPI_Comm_size(MPI_COMM_WORLD, &sites);
    const RunSetup setup = make_setup(*config);
    const Loader loader(config->data.dir, setup.spec.sequence, config->train.tokens_per_step,
                        config->train.val_tokens, config->train.seed);
    const auto engine = make_engine(*config, setup.spec, setup.layout, loader, alone);
    const double began_s = monotonic_s();
    const int merges = train(*config, *engine, setup, site, sites);
    const double trained_s = monotonic_s() - began_s;
    if (site == 0) {
      const double loss_nats = engine->validate();
      std::printf("loss %.5f merges %d seconds %.1f\n", loss_nats, merges, trained_s);
    }
    return 0;
  } catch (const Error& error) {
    std::fprintf(stderr, "federated_rounds: %s\n", error.what());
    return static_cast<int>(error.code());
  }
}
