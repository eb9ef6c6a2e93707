#include "energy/nvml.hpp"

#include <dlfcn.h>
#include <fmt/format.h>

#include <cmath>

#include "core/log.hpp"

namespace spillway {
namespace {

// nvml.h's types and values, which its ABI fixes.
using Handle = void*;
using Result = int;
constexpr Result kSuccess = 0;

class GpuCounter final : public EnergyCounter {
 public:
  explicit GpuCounter(NvmlGpu gpu) : gpu_(std::move(gpu)) {}
  std::string name() const override { return "GPU " + gpu_.bus_id(); }
  Component component() const override { return Component::gpu; }
  std::optional<double> read_j() override { return gpu_.energy_j(); }

 private:
  NvmlGpu gpu_;
};

}  // namespace

struct Nvml::Functions {
  Result (*init)() = nullptr;
  Result (*shutdown)() = nullptr;
  const char* (*error_string)(Result) = nullptr;
  Result (*by_bus_id)(const char*, Handle*) = nullptr;
  Result (*energy_mj)(Handle, unsigned long long*) = nullptr;
  Result (*limit_mw)(Handle, unsigned*) = nullptr;
  Result (*limit_range_mw)(Handle, unsigned*, unsigned*) = nullptr;
  Result (*set_limit_mw)(Handle, unsigned) = nullptr;

  // The name of the first function that the library lacks; empty: it has them all.
  std::string load(void* library) {
    std::string missing;
    const auto find = [&](const char* name, auto& function) {
      function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(library, name));
      if (function == nullptr && missing.empty()) missing = name;
    };
    find("nvmlInit_v2", init);
    find("nvmlShutdown", shutdown);
    find("nvmlErrorString", error_string);
    find("nvmlDeviceGetHandleByPciBusId_v2", by_bus_id);
    find("nvmlDeviceGetTotalEnergyConsumption", energy_mj);
    find("nvmlDeviceGetPowerManagementLimit", limit_mw);
    find("nvmlDeviceGetPowerManagementLimitConstraints", limit_range_mw);
    find("nvmlDeviceSetPowerManagementLimit", set_limit_mw);
    return missing;
  }
};

std::shared_ptr<const Nvml> Nvml::open(std::string* reason, const std::string& file) {
  const auto refuse = [&](const std::string& text) {
    if (reason != nullptr) *reason = text;
    return nullptr;
  };
  std::shared_ptr<Nvml> nvml(new Nvml);
  nvml->library_ = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (nvml->library_ == nullptr) return refuse(file + " is not installed");
  nvml->functions_ = std::make_unique<Functions>();
  const std::string missing = nvml->functions_->load(nvml->library_);
  if (!missing.empty()) return refuse(file + " has no " + missing);
  if (const Result result = nvml->functions_->init(); result != kSuccess)
    return refuse(fmt::format("nvmlInit: {}", nvml->functions_->error_string(result)));
  nvml->started_ = true;
  return nvml;
}

Nvml::~Nvml() {
  if (started_) functions_->shutdown();
  if (library_ != nullptr) dlclose(library_);
}

std::optional<NvmlGpu> Nvml::gpu(const std::string& bus_id) const {
  Handle handle = nullptr;
  if (functions_->by_bus_id(bus_id.c_str(), &handle) != kSuccess) return std::nullopt;
  return NvmlGpu(shared_from_this(), handle, bus_id);
}

std::optional<double> NvmlGpu::energy_j() const {
  unsigned long long millijoules = 0;
  if (library_->functions_->energy_mj(handle_, &millijoules) != kSuccess) return std::nullopt;
  return static_cast<double>(millijoules) * 1e-3;
}

std::optional<double> NvmlGpu::power_limit_w() const {
  unsigned milliwatts = 0;
  if (library_->functions_->limit_mw(handle_, &milliwatts) != kSuccess) return std::nullopt;
  return milliwatts * 1e-3;
}

std::optional<double> NvmlGpu::least_power_limit_w() const {
  unsigned low = 0, high = 0;
  if (library_->functions_->limit_range_mw(handle_, &low, &high) != kSuccess) return std::nullopt;
  return low * 1e-3;
}

std::string NvmlGpu::set_power_limit(double watts) const {
  const Result result =
      library_->functions_->set_limit_mw(handle_, static_cast<unsigned>(std::lround(watts * 1e3)));
  return result == kSuccess ? "" : library_->functions_->error_string(result);
}

std::vector<std::unique_ptr<EnergyCounter>> find_nvml(const std::vector<std::string>& bus_ids,
                                                      const std::string& library) {
  std::vector<std::unique_ptr<EnergyCounter>> counters;
  std::string reason;
  const auto nvml = bus_ids.empty() ? nullptr : Nvml::open(&reason, library);
  if (nvml == nullptr) {
    if (!reason.empty()) log_info("GPUs are not metered: {}", reason);
    return counters;
  }
  for (const std::string& bus_id : bus_ids) {
    auto gpu = nvml->gpu(bus_id);
    if (!gpu || !gpu->energy_j()) {
      log_warning("GPU {}: NVML has no energy counter of it: GPUs are not metered", bus_id);
      return {};
    }
    counters.push_back(std::make_unique<GpuCounter>(std::move(*gpu)));
  }
  return counters;
}

}  // namespace spillway
