#include "energy/meter.hpp"

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "core/error.hpp"
#include "core/log.hpp"

namespace spillway {
namespace {

constexpr double kJoulesPerKwh = 3.6e6;

class ModelledMeter final : public EnergyMeter {
 public:
  explicit ModelledMeter(const SiteConfig& site) : site_(site) {}
  double joules_since_last(Phase phase, double seconds) override {
    const double power_w = phase == Phase::idle ? site_.idle_power_w : site_.train_power_w;
    return power_w * seconds * site_.pue;
  }
  std::string source() const override { return "modelled"; }

 private:
  SiteConfig site_;
};

// One package's counter in microjoules, which wraps at max_energy_range_uj.
struct RaplCounter {
  std::filesystem::path energy_file;
  std::uint64_t range_uj = 0, last_uj = 0;
};

std::optional<std::uint64_t> read_number(const std::filesystem::path& file) {
  std::ifstream stream(file);
  std::uint64_t value = 0;
  if (stream >> value) return value;
  return std::nullopt;
}

class RaplMeter final : public EnergyMeter {
 public:
  RaplMeter(std::vector<RaplCounter> counters, double pue) : counters_(std::move(counters)), pue_(pue) {}
  double joules_since_last(Phase, double) override {
    double joules = 0;
    for (RaplCounter& counter : counters_) {
      const auto now = read_number(counter.energy_file);
      if (!now)
        fail(ExitCode::io, "{}: the energy counter cannot be read any more", counter.energy_file.string());
      const std::uint64_t used =
          *now >= counter.last_uj ? *now - counter.last_uj : *now + counter.range_uj - counter.last_uj;
      counter.last_uj = *now;
      joules += static_cast<double>(used) * 1e-6;
    }
    return joules * pue_;
  }
  std::string source() const override { return "rapl"; }

 private:
  std::vector<RaplCounter> counters_;
  double pue_;
};

std::string read_word(const std::filesystem::path& file) {
  std::ifstream stream(file);
  std::string word;
  stream >> word;
  return word;
}

// Packages (intel-rapl:0) and their memory (intel-rapl:0:2), which they do not include. Their other parts, core and
// uncore, they do; psys, the whole board, includes the packages.
std::vector<RaplCounter> find_rapl(const std::string& folder) {
  std::vector<RaplCounter> counters;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    if (!entry.path().filename().string().starts_with("intel-rapl:")) continue;
    const std::string domain = read_word(entry.path() / "name");
    if (!domain.starts_with("package") && domain != "dram") continue;
    const auto energy = read_number(entry.path() / "energy_uj");
    const auto range = read_number(entry.path() / "max_energy_range_uj");
    if (energy && range) counters.push_back({entry.path() / "energy_uj", *range, *energy});
  }
  return counters;
}

// from, to, and every instant between them at which the intensity changes or a window opens or closes; in order.
std::vector<double> cuts_between(double from, double to, const Signal* signal,
                                 const std::vector<Window>& windows) {
  std::vector<double> cuts = {from, to};
  const auto cut = [&](double at) {
    if (at > from && at < to) cuts.push_back(at);
  };
  const Window* past = windows.data() + windows.size();
  for (const Window* window = window_at_or_after(windows, from);
       window != nullptr && window != past && window->open_unix_s < to; ++window) {
    cut(window->open_unix_s);
    cut(window->close_unix_s);
  }
  if (signal != nullptr) {
    const std::vector<double>& times = signal->times_unix_s;
    auto at = std::upper_bound(times.begin(), times.end(), from);
    if (at != times.begin()) --at;
    for (; at != times.end() && *at < to; ++at) {
      cut(*at);
      cut(signal->held_until(static_cast<std::size_t>(at - times.begin())));
    }
  }
  std::sort(cuts.begin(), cuts.end());
  return cuts;
}

}  // namespace

std::unique_ptr<EnergyMeter> make_meter(const SiteConfig& site, bool real_time,
                                        const std::string& powercap_folder) {
  if (real_time) {
    auto counters = find_rapl(powercap_folder);
    if (!counters.empty()) return std::make_unique<RaplMeter>(std::move(counters), site.pue);
  }
  if (site.train_power_w <= 0)
    log_warning(
        "site {}: no energy counter is readable and site.train-power is not set: energy is counted as 0 W",
        site.name);
  return std::make_unique<ModelledMeter>(site);
}

void EnergyLedger::add(Phase phase, double joules, double from_unix_s, double to_unix_s, const Signal* signal,
                       const std::vector<Window>& windows) {
  const double total_kwh = joules / kJoulesPerKwh;
  phase_kwh_[static_cast<std::size_t>(phase)] += total_kwh;
  const double length_s = to_unix_s - from_unix_s;
  // Energy of an instant flows in one piece.
  const std::vector<double> cuts = length_s > 0 ? cuts_between(from_unix_s, to_unix_s, signal, windows)
                                                : std::vector<double>{from_unix_s, to_unix_s};
  for (std::size_t i = 0; i + 1 < cuts.size(); ++i) {
    const double kwh = length_s > 0 ? total_kwh * (cuts[i + 1] - cuts[i]) / length_s : total_kwh;
    const Window* window = window_at_or_after(windows, cuts[i]);
    const bool inside = window != nullptr && cuts[i] >= window->open_unix_s;
    (inside ? inside_kwh_ : outside_kwh_) += kwh;
    const auto intensity =
        signal != nullptr && signal->is_intensity() ? signal->value_at(cuts[i]) : std::nullopt;
    if (intensity)
      (inside ? inside_g_ : outside_g_) += kwh * *intensity;
    else
      unknown_kwh_ += kwh;
  }
}

double EnergyLedger::energy_kwh() const { return inside_kwh_ + outside_kwh_; }
double EnergyLedger::emissions_g() const { return inside_g_ + outside_g_; }

std::map<std::string, double> EnergyLedger::to_map() const {
  std::map<std::string, double> values = {{"inside_kwh", inside_kwh_},
                                          {"outside_kwh", outside_kwh_},
                                          {"inside_g", inside_g_},
                                          {"outside_g", outside_g_},
                                          {"unknown_kwh", unknown_kwh_}};
  for (std::size_t i = 0; i < kPhaseNames.size(); ++i)
    values[std::string(kPhaseNames[i]) + "_kwh"] = phase_kwh_[i];
  return values;
}

EnergyLedger EnergyLedger::from_map(const std::map<std::string, double>& values) {
  const auto get = [&](const std::string& key) {
    const auto found = values.find(key);
    if (found == values.end()) fail(ExitCode::bad_data, "energy ledger: no value '{}'", key);
    return found->second;
  };
  EnergyLedger ledger;
  ledger.inside_kwh_ = get("inside_kwh");
  ledger.outside_kwh_ = get("outside_kwh");
  ledger.inside_g_ = get("inside_g");
  ledger.outside_g_ = get("outside_g");
  ledger.unknown_kwh_ = get("unknown_kwh");
  for (std::size_t i = 0; i < kPhaseNames.size(); ++i)
    ledger.phase_kwh_[i] = get(std::string(kPhaseNames[i]) + "_kwh");
  return ledger;
}

std::optional<double> always_on_emissions_g(const Signal& signal, double start_unix_s, double energy_kwh,
                                            double power_w) {
  if (power_w <= 0 || !signal.is_intensity()) return std::nullopt;
  double left_s = energy_kwh * kJoulesPerKwh / power_w;
  double grams = 0;
  for (double now = start_unix_s; left_s > 0;) {
    const auto value = signal.value_at(now);
    if (!value) return std::nullopt;
    const auto after = std::upper_bound(signal.times_unix_s.begin(), signal.times_unix_s.end(), now);
    const double until = signal.held_until(static_cast<std::size_t>(after - signal.times_unix_s.begin()) - 1);
    const double piece_s = std::min(left_s, until - now);
    grams += *value * power_w * piece_s / kJoulesPerKwh;
    left_s -= piece_s;
    now = until;
  }
  return grams;
}

}  // namespace spillway
