#include "energy/counters.hpp"

#include <cstdint>
#include <filesystem>
#include <fstream>

#include "core/log.hpp"

namespace spillway {
namespace {

// No single package or GPU draws more: what would need more power than this was no wrap but a reset.
constexpr double kMostPlausible_w = 5000;

template <class Value>
std::optional<Value> read_value(const std::filesystem::path& file) {
  std::ifstream stream(file);
  Value value{};
  if (stream >> value) return value;
  return std::nullopt;
}

// Microjoules, wrapping after max_energy_range_uj.
class RaplCounter final : public EnergyCounter {
 public:
  RaplCounter(std::filesystem::path file, double range_j) : file_(std::move(file)), range_j_(range_j) {}
  std::string name() const override { return file_.string(); }
  Component component() const override { return Component::cpu; }
  double range_j() const override { return range_j_; }
  std::optional<double> read_j() override {
    const auto value = read_value<std::uint64_t>(file_);
    return value ? std::optional(static_cast<double>(*value) * 1e-6) : std::nullopt;
  }

 private:
  std::filesystem::path file_;
  double range_j_;
};

}  // namespace

std::vector<std::unique_ptr<EnergyCounter>> find_rapl(const std::string& folder) {
  std::vector<std::unique_ptr<EnergyCounter>> counters;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    if (!entry.path().filename().string().starts_with("intel-rapl:")) continue;
    const std::string domain = read_value<std::string>(entry.path() / "name").value_or("");
    if (!domain.starts_with("package") && domain != "dram") continue;
    const auto energy = read_value<std::uint64_t>(entry.path() / "energy_uj");
    const auto range = read_value<std::uint64_t>(entry.path() / "max_energy_range_uj");
    if (energy && range)
      counters.push_back(
          std::make_unique<RaplCounter>(entry.path() / "energy_uj", static_cast<double>(*range) * 1e-6));
  }
  return counters;
}

CounterTracker::CounterTracker(std::unique_ptr<EnergyCounter> counter)
    : counter_(std::move(counter)), last_j_(counter_->read_j()) {}

CounterTracker::Advance CounterTracker::estimate(double seconds, const char* reason) {
  if (!reported_)
    log_warning("{}: the energy counter {}: its last power stands in for it", counter_->name(), reason);
  reported_ = true;
  if (!last_power_w_) return {0, Kind::unknown};
  return {*last_power_w_ * seconds, Kind::estimated};
}

CounterTracker::Advance CounterTracker::advance(double seconds) {
  const std::optional<double> now_j = counter_->read_j();
  if (!now_j) {
    last_j_.reset();
    return estimate(seconds, "cannot be read any more");
  }
  const std::optional<double> before_j = std::exchange(last_j_, now_j);
  if (!before_j) return estimate(seconds, "could not be read before");
  double used_j = *now_j - *before_j;
  if (used_j < 0) {
    used_j += counter_->range_j();
    const bool wrapped = used_j >= 0 && used_j <= kMostPlausible_w * seconds;
    if (!wrapped) return estimate(seconds, "was reset");
  }
  if (seconds > 0) last_power_w_ = used_j / seconds;
  return {used_j, Kind::measured};
}

}  // namespace spillway
