// How much power a node draws: by its counters where they cover what computes, else as declared.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/config.hpp"
#include "energy/counters.hpp"
#include "energy/energy_ledger.hpp"

namespace spillway {

// What a meter saw over some time: mean powers by component, and how they are known.
struct EnergySample {
  std::array<double, kComponents> power_w = {};
  std::array<bool, kComponents> measured = {};
  bool declared = false;  // constant declared powers
  bool known = true;      // false: something has neither counter nor declaration

  // As a flow over [from, to).
  EnergyFlow flow(Phase phase, double from_unix_s, double to_unix_s) const;
};

class EnergyMeter {
 public:
  virtual ~EnergyMeter() = default;
  // Since the last call; seconds: how long that is, more than 0.
  virtual EnergySample sample(Phase phase, double seconds) = 0;
  // "nvml+rapl", "nvml", "rapl", "modelled" or "unknown"
  virtual std::string source() const = 0;
};

// The hardware under a site's process.
struct MeteredNode {
  bool on_gpus = false;                  // the site computes on GPUs
  std::vector<std::string> gpu_bus_ids;  // those that this node's ranks use
  std::string powercap_folder = "/sys/class/powercap";
};

// The part of the site that this job runs on: where Slurm gave it fewer nodes than site.nodes (SLURM_JOB_NUM_NODES), the
// declared powers are those nodes' share. Outside Slurm a job is taken to have them all.
SiteConfig site_of_job(SiteConfig site);

// The meter of this node by site.meter:
//   counters  NVML for the node's GPUs and RAPL for its CPUs, or an error naming what is missing
//   model     the declared power of [site] (train-power, idle-power)
//   auto      counters where the clock runs in real time and they cover what computes, else the model
// To what counters see, site.host-share adds the rest of the node and site.pue the building, both modelled.
std::unique_ptr<EnergyMeter> make_meter(const SiteConfig& site, bool real_time, const MeteredNode& node = {});
// The same over given counters.
std::unique_ptr<EnergyMeter> make_counter_meter(const SiteConfig& site,
                                                std::vector<std::unique_ptr<EnergyCounter>> counters,
                                                bool on_gpus);

}  // namespace spillway
