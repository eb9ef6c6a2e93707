#include "train/site_power.hpp"

#include "core/log.hpp"

namespace spillway {
namespace {

// The part of a site's power at its meter that each GPU may use.
double each_gpu_w(const SiteConfig& site, double cap_w, int gpus) {
  return cap_w / site.pue * (1 - site.host_share.value_or(0)) / gpus;
}

}  // namespace

SitePower::SitePower(const Config& config, SiteComm& site, const MeteredNode& node, Leader* leader)
    : site_config_(config.site),
      site_(site),
      pacer_(leader == nullptr ? Pacer::Watch() : [leader](bool pausing) { leader->paused(pausing); }) {
  if (!site_config_.power_capped()) return;
  std::string reason = "the site's power is modelled";
  const bool wanted = node.on_gpus && config.site.meter != "model" && config.clock.mode == "real";
  if (!node.on_gpus) reason = "it computes on CPUs";
  if (wanted && site.node_leader()) limits_ = GpuPowerLimits::open(node.gpu_bus_ids, &reason);
  // All nodes or none: {nodes without limits, GPUs}.
  std::array<double, 2> sums = {site.node_leader() && !limits_ ? 1.0 : 0.0,
                                site.node_leader() ? static_cast<double>(node.gpu_bus_ids.size()) : 0.0};
  site.sum(sums);
  gpus_ = static_cast<int>(sums[1]);
  if (sums[0] > 0) limits_.reset();
  if (leader == nullptr) return;
  const std::string cap =
      config.site.power_cap_excess ? "the excess power" : fmt::format("{:.0f} W", *config.site.power_cap_w);
  if (limits_)
    log_info(
        "power cap {}: by power limits of {} GPUs, and by pauses between micro-batches where those do not "
        "suffice",
        cap, gpus_);
  else
    log_info("power cap {}: by pauses between micro-batches ({})", cap, reason);
}

void SitePower::limit_gpus(double cap_w) {
  if (limits_ && cap_w > 0) limits_->set_w(each_gpu_w(site_config_, cap_w, gpus_));
}

void SitePower::begin_work(const Decision& decision) {
  pacer_.set_ratio(decision.pause_ratio);
  pacer_.add_work(decision.gap_s);
  pacer_.begin_work();
}

void SitePower::pause() {
  for (;;) {
    double seconds = site_.leader() ? pacer_.nap_s() : 0;
    site_.broadcast(seconds);
    if (seconds <= 0) return;
    pacer_.nap(seconds);
  }
}

StepOutcome SitePower::train(Engine& engine, const Decision& decision) {
  if (!site_config_.power_capped()) return engine.train(decision.block, decision.schedule_step);
  limit_gpus(decision.power_cap_w);
  begin_work(decision);
  const StepOutcome outcome =
      engine.train(decision.block, decision.schedule_step,
                   decision.pause_ratio > 0 ? std::function<void()>([this] { pause(); }) : nullptr);
  pacer_.end_work();
  return outcome;
}

double SitePower::validate(Engine& engine, const Decision& decision) {
  begin_work(decision);
  const double loss_nats = engine.validate();
  pacer_.end_work();
  return loss_nats;
}

}  // namespace spillway
