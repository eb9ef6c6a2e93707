// NVIDIA's management library, loaded when it is there: energy counters and power limits of GPUs. Builds and runs without a GPU or a driver.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "energy/counters.hpp"

namespace spillway {

// A GPU as NVML sees it. Functions that NVML does not permit or support here give nothing.
class NvmlGpu {
 public:
  const std::string& bus_id() const { return bus_id_; }
  std::optional<double> energy_j() const;  // since the driver was loaded
  std::optional<double> power_limit_w() const;
  std::optional<double> least_power_limit_w() const;
  // Empty where it was set, else NVML's reason.
  std::string set_power_limit(double watts) const;

 private:
  friend class Nvml;
  NvmlGpu(std::shared_ptr<const class Nvml> library, void* handle, std::string bus_id)
      : library_(std::move(library)), handle_(handle), bus_id_(std::move(bus_id)) {}

  std::shared_ptr<const Nvml> library_;
  void* handle_;
  std::string bus_id_;
};

class Nvml : public std::enable_shared_from_this<Nvml> {
 public:
  // Null where the library is not there or does not start; reason, if given, says why.
  static std::shared_ptr<const Nvml> open(std::string* reason = nullptr,
                                          const std::string& file = "libnvidia-ml.so.1");
  ~Nvml();
  Nvml(const Nvml&) = delete;
  Nvml& operator=(const Nvml&) = delete;

  // By PCI bus id, e.g. "0000:1A:00.0"; nothing where NVML does not know it.
  std::optional<NvmlGpu> gpu(const std::string& bus_id) const;

 private:
  friend class NvmlGpu;
  struct Functions;
  Nvml() = default;

  void* library_ = nullptr;
  bool started_ = false;
  std::unique_ptr<Functions> functions_;
};

// The energy counters of these GPUs; empty unless all of them have one, since a part of a node's GPUs is no measurement
// of it.
std::vector<std::unique_ptr<EnergyCounter>> find_nvml(const std::vector<std::string>& bus_ids,
                                                      const std::string& library = "libnvidia-ml.so.1");

}  // namespace spillway
