#include "energy/power_cap.hpp"

#include <algorithm>
#include <cmath>

#include "core/log.hpp"

namespace spillway {

void PowerBalance::add(bool pausing, double joules, double seconds) {
  const double kept = std::exp(-seconds / kMemory_s);
  for (Mean* mean : {&working_, &pausing_}) {
    mean->joules *= kept;
    mean->seconds *= kept;
  }
  Mean& mean = pausing ? pausing_ : working_;
  mean.joules += joules;
  mean.seconds += seconds;
}

double PowerBalance::pause_ratio(double cap_w) const {
  const double working_w = working_.power_w(train_w_), idle_w = pausing_.power_w(idle_w_);
  if (working_w <= cap_w) return 0;
  if (idle_w >= cap_w) return kMostPause;
  return std::min(kMostPause, (working_w - cap_w) / (cap_w - idle_w));
}

std::unique_ptr<GpuPowerLimits> GpuPowerLimits::open(const std::vector<std::string>& bus_ids,
                                                     std::string* reason, const std::string& library) {
  const auto nvml = Nvml::open(reason, library);
  if (nvml == nullptr) return nullptr;
  std::unique_ptr<GpuPowerLimits> limits(new GpuPowerLimits);
  for (const std::string& bus_id : bus_ids) {
    const auto gpu = nvml->gpu(bus_id);
    const auto now_w = gpu ? gpu->power_limit_w() : std::nullopt;
    const auto low_w = gpu ? gpu->least_power_limit_w() : std::nullopt;
    if (!now_w || !low_w) {
      *reason = "GPU " + bus_id + ": NVML tells no power limit of it";
      return nullptr;
    }
    if (const std::string refusal = gpu->set_power_limit(*now_w); !refusal.empty()) {
      *reason = "GPU " + bus_id + ": its power limit may not be set: " + refusal;
      return nullptr;
    }
    limits->gpus_.push_back({*gpu, *now_w, *low_w, *now_w});
  }
  return limits;
}

GpuPowerLimits::~GpuPowerLimits() {
  for (const Limited& limited : gpus_)
    if (limited.now_w != limited.before_w) limited.gpu.set_power_limit(limited.before_w);
}

double GpuPowerLimits::set_w(double each_w) {
  double highest_w = 0;
  for (Limited& limited : gpus_) {
    const double wanted_w = std::min(std::max(std::floor(each_w), limited.low_w), limited.before_w);
    if (wanted_w != limited.now_w) {
      const std::string refusal = limited.gpu.set_power_limit(wanted_w);
      if (refusal.empty())
        limited.now_w = wanted_w;
      else if (!std::exchange(refusal_told_, true))
        log_warning("GPU {}: its power limit was not set to {} W: {}", limited.gpu.bus_id(), wanted_w,
                    refusal);
    }
    highest_w = std::max(highest_w, limited.now_w);
  }
  return highest_w;
}

}  // namespace spillway
