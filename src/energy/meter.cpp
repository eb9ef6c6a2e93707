#include "energy/meter.hpp"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <iterator>

#include "core/error.hpp"
#include "core/log.hpp"
#include "energy/nvml.hpp"

namespace spillway {
namespace {

constexpr std::size_t at(Component component) { return static_cast<std::size_t>(component); }

// What the node's parts draw, with the building's share on top.
void add_facility(EnergySample& sample, double pue) {
  double node_w = 0;
  for (const double part : sample.power_w) node_w += part;
  sample.power_w[at(Component::facility)] = node_w * (pue - 1);
}

class ModelledMeter final : public EnergyMeter {
 public:
  explicit ModelledMeter(const SiteConfig& site) : site_(site) {}

  EnergySample sample(Phase phase, double) override {
    EnergySample sample;
    sample.declared = true;
    sample.known = site_.train_power_w > 0;
    sample.power_w[at(Component::node)] = phase == Phase::idle ? site_.idle_power_w : site_.train_power_w;
    add_facility(sample, site_.pue);
    return sample;
  }

  std::string source() const override { return site_.train_power_w > 0 ? "modelled" : "unknown"; }

 private:
  SiteConfig site_;
};

class CounterMeter final : public EnergyMeter {
 public:
  CounterMeter(const SiteConfig& site, std::vector<std::unique_ptr<EnergyCounter>> counters, bool on_gpus)
      : site_(site) {
    for (auto& counter : counters) {
      (counter->component() == Component::gpu ? gpus_ : cpus_) = true;
      trackers_.emplace_back(std::move(counter));
    }
    if (on_gpus && !cpus_ && !site.host_share)
      log_warning(
          "site {}: its CPUs have no readable counter and site.host-share is not set: only its GPUs are "
          "counted, and the energy is a lower bound",
          site.name);
  }

  EnergySample sample(Phase, double seconds) override {
    EnergySample sample;
    sample.measured[at(Component::gpu)] = sample.measured[at(Component::cpu)] = true;
    sample.known = cpus_ || site_.host_share.has_value();
    double seen_w = 0;
    for (CounterTracker& tracker : trackers_) {
      const CounterTracker::Advance advance = tracker.advance(seconds);
      // An estimate is no measurement: it stands with the node's modelled part.
      const bool measured = advance.kind == CounterTracker::Kind::measured;
      const double power_w = advance.joules / seconds;
      sample.power_w[at(measured ? tracker.counter().component() : Component::node)] += power_w;
      sample.known = sample.known && advance.kind != CounterTracker::Kind::unknown;
      seen_w += power_w;
    }
    const double share = site_.host_share.value_or(0);
    sample.power_w[at(Component::rest)] = seen_w * share / (1 - share);
    add_facility(sample, site_.pue);
    return sample;
  }

  std::string source() const override { return gpus_ && cpus_ ? "nvml+rapl" : gpus_ ? "nvml" : "rapl"; }

 private:
  SiteConfig site_;
  std::vector<CounterTracker> trackers_;
  bool gpus_ = false, cpus_ = false;
};

void check_site(const SiteConfig& site) {
  if (!(site.pue >= 1)) fail(ExitCode::usage, "site.pue = {}: must be at least 1", site.pue);
  if (site.host_share && !(*site.host_share >= 0 && *site.host_share < 1))
    fail(ExitCode::usage, "site.host-share = {}: must be at least 0 and below 1", *site.host_share);
  if (site.meter != "auto" && site.meter != "counters" && site.meter != "model")
    fail(ExitCode::usage, "site.meter = {}: must be auto, counters or model", site.meter);
}

}  // namespace

EnergyFlow EnergySample::flow(Phase phase, double from_unix_s, double to_unix_s) const {
  EnergyFlow flow;
  flow.phase = phase;
  flow.from_unix_s = from_unix_s;
  flow.to_unix_s = to_unix_s;
  flow.power_w = power_w;
  flow.measured = measured;
  flow.declared = declared;
  flow.known = known;
  return flow;
}

std::unique_ptr<EnergyMeter> make_counter_meter(const SiteConfig& site,
                                                std::vector<std::unique_ptr<EnergyCounter>> counters,
                                                bool on_gpus) {
  check_site(site);
  return std::make_unique<CounterMeter>(site, std::move(counters), on_gpus);
}

SiteConfig site_of_job(SiteConfig site) {
  const char* text = std::getenv("SLURM_JOB_NUM_NODES");
  int nodes = 0;
  if (text == nullptr || std::from_chars(text, text + std::strlen(text), nodes).ec != std::errc() ||
      nodes < 1 || nodes >= site.nodes)
    return site;
  const double share = static_cast<double>(nodes) / site.nodes;
  site.train_power_w *= share;
  site.idle_power_w *= share;
  site.nodes = nodes;
  return site;
}

std::unique_ptr<EnergyMeter> make_meter(const SiteConfig& site, bool real_time, const MeteredNode& node) {
  check_site(site);
  const bool wanted = site.meter == "counters";
  if (wanted && !real_time)
    fail(ExitCode::usage,
         "site.meter = counters: replayed time has no counters; set clock.mode = real or site.meter = model");
  if (real_time && site.meter != "model") {
    auto counters = node.on_gpus ? find_nvml(node.gpu_bus_ids) : find_rapl(node.powercap_folder);
    const bool covered = !counters.empty();
    if (node.on_gpus && covered) {
      auto cpus = find_rapl(node.powercap_folder);
      std::move(cpus.begin(), cpus.end(), std::back_inserter(counters));
    }
    if (covered) return make_counter_meter(site, std::move(counters), node.on_gpus);
    if (wanted)
      fail(ExitCode::io, "site.meter = counters: {}",
           node.on_gpus ? "NVML has no energy counter of the GPUs"
                        : node.powercap_folder + " has no counter of a CPU package that may be read");
  }
  if (site.train_power_w <= 0)
    log_warning("site {}: no energy counter is used and site.train-power is not set: its energy is unknown",
                site.name);
  return std::make_unique<ModelledMeter>(site);
}

}  // namespace spillway
