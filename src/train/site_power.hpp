// How a site keeps its power cap: limits of its GPUs where they may be set, and pauses.
#pragma once

#include <memory>

#include "comm/site.hpp"
#include "core/config.hpp"
#include "energy/meter.hpp"
#include "energy/power_cap.hpp"
#include "train/leader.hpp"
#include "train/pacer.hpp"

namespace spillway {

// One rank's part. The leader's decisions carry the cap, and its pacer says when all ranks pause and for how long: were each
// to count its own work, it would count its waiting for another's pause too, and both would pause ever longer.
class SitePower {
 public:
  // Collective. Without a cap in the configuration it does nothing ever. leader: null on other ranks.
  SitePower(const Config& config, SiteComm& site, const MeteredNode& node, Leader* leader);

  // One optimizer step under the decision's cap. Collective.
  StepOutcome train(Engine& engine, const Decision& decision);
  // A validation, which pauses of the steps after it pay for. Collective.
  double validate(Engine& engine, const Decision& decision);

 private:
  void limit_gpus(double cap_w);
  void begin_work(const Decision& decision);
  void pause();  // collective

  const SiteConfig& site_config_;
  SiteComm& site_;
  Pacer pacer_;                             // the leader's counts
  std::unique_ptr<GpuPowerLimits> limits_;  // on a node's first rank, where all nodes may set them
  int gpus_ = 0;                            // of the site
};

}  // namespace spillway
