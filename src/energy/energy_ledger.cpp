#include "energy/energy_ledger.hpp"

#include <algorithm>
#include <cmath>

#include "core/error.hpp"

namespace spillway {
namespace {

// from, to, and every instant between them at which an intensity changes or a window opens or closes; in order.
void cut_at_samples(const Signal* signal, double from, double to, std::vector<double>& cuts) {
  if (signal == nullptr) return;
  const std::vector<double>& times = signal->times_unix_s;
  auto at = std::upper_bound(times.begin(), times.end(), from);
  if (at != times.begin()) --at;
  for (; at != times.end() && *at < to; ++at) {
    cuts.push_back(*at);
    cuts.push_back(signal->held_until(static_cast<std::size_t>(at - times.begin())));
  }
}

void cut_at_windows(const std::vector<Window>* windows, double from, double to, std::vector<double>& cuts) {
  if (windows == nullptr) return;
  const Window* window = window_at_or_after(*windows, from);
  if (window == nullptr) return;
  for (; window != windows->data() + windows->size() && window->open_unix_s < to; ++window) {
    cuts.push_back(window->open_unix_s);
    cuts.push_back(window->close_unix_s);
  }
}

std::vector<double> cuts_between(double from, double to, const Grid& grid) {
  std::vector<double> cuts;
  cut_at_samples(grid.marginal, from, to, cuts);
  cut_at_samples(grid.average, from, to, cuts);
  cut_at_windows(grid.windows, from, to, cuts);
  std::erase_if(cuts, [&](double at) { return at <= from || at >= to; });
  cuts.insert(cuts.end(), {from, to});
  std::sort(cuts.begin(), cuts.end());
  cuts.erase(std::unique(cuts.begin(), cuts.end()), cuts.end());
  return cuts;
}

// rate · (to − from) as a difference of one rounded function of time: neighbouring pieces add up to their whole.
std::int64_t piece_of(double rate, double from, double to, double origin) {
  return std::llround(rate * (to - origin)) - std::llround(rate * (from - origin));
}

std::optional<double> intensity_at(const Signal* signal, double unix_s) {
  return signal != nullptr && signal->is_intensity() ? signal->value_at(unix_s) : std::nullopt;
}

constexpr double kWattToMilliwatt = 1e3;
constexpr double kMicrogramsPerJoule = 1e6 / 3.6e6;  // at 1 g/kWh
constexpr std::array<const char*, 2> kPlaces = {"outside", "inside"};

}  // namespace

void EnergyLedger::add_piece(const EnergyFlow& flow, const Grid& grid, double from, double to) {
  // Measured powers are means over their own flow; a declared one is the same function of time in every flow.
  const double origin = flow.declared ? 0 : flow.from_unix_s;
  const Window* window = grid.windows != nullptr ? window_at_or_after(*grid.windows, from) : nullptr;
  const std::size_t place = window != nullptr && from >= window->open_unix_s ? 1 : 0;
  std::int64_t total = 0;
  double power_w = 0;
  for (std::size_t i = 0; i < kComponents; ++i) {
    const std::int64_t part = piece_of(kWattToMilliwatt * flow.power_w[i], from, to, origin);
    component_mj_[i] += part;
    if (flow.measured[i]) measured_mj_ += part;
    total += part;
    power_w += flow.power_w[i];
  }
  phase_mj_[index(flow.phase)][place] += total;
  const std::array<const Signal*, kAccounts> signals = {grid.marginal, grid.average};
  for (std::size_t i = 0; i < kAccounts; ++i) {
    if (const auto intensity = intensity_at(signals[i], from))
      phase_ug_[i][index(flow.phase)][place] +=
          piece_of(power_w * *intensity * kMicrogramsPerJoule, from, to, origin);
    else
      unknown_mj_[i] += total;
  }
  if (!flow.known) unmetered_us_ += piece_of(1e6, from, to, flow.from_unix_s);
}

void EnergyLedger::add(const EnergyFlow& flow, const Grid& grid) {
  if (!(flow.to_unix_s > flow.from_unix_s)) return;
  const std::vector<double> cuts = cuts_between(flow.from_unix_s, flow.to_unix_s, grid);
  for (std::size_t i = 0; i + 1 < cuts.size(); ++i) add_piece(flow, grid, cuts[i], cuts[i + 1]);
}

void EnergyLedger::add(Phase phase, double joules, double from_unix_s, double to_unix_s, const Signal* signal,
                       const std::vector<Window>& windows) {
  EnergyFlow flow;
  flow.phase = phase;
  flow.from_unix_s = from_unix_s;
  // Energy of an instant flows in one piece, as if it took a second from then on.
  const bool instant = !(to_unix_s > from_unix_s);
  flow.to_unix_s = instant ? from_unix_s + 1 : to_unix_s;
  flow.power_w[index(Component::node)] = joules / (flow.to_unix_s - from_unix_s);
  const Grid grid{signal, nullptr, &windows};
  if (instant)
    add_piece(flow, grid, flow.from_unix_s, flow.to_unix_s);
  else
    add(flow, grid);
}

template <class Ledger, class Visit>
void EnergyLedger::each(Ledger& ledger, Visit visit) {
  for (std::size_t phase = 0; phase < kPhases; ++phase)
    for (std::size_t place = 0; place < 2; ++place) {
      const std::string cell = std::string(kPhaseNames[phase]) + "_" + kPlaces[place];
      visit(cell + "_mj", ledger.phase_mj_[phase][place]);
      for (std::size_t account = 0; account < kAccounts; ++account)
        visit(std::string(kAccountNames[account]) + "_" + cell + "_ug",
              ledger.phase_ug_[account][phase][place]);
    }
  for (std::size_t i = 0; i < kComponents; ++i)
    visit(std::string(kComponentNames[i]) + "_mj", ledger.component_mj_[i]);
  for (std::size_t i = 0; i < kAccounts; ++i)
    visit(std::string(kAccountNames[i]) + "_unknown_mj", ledger.unknown_mj_[i]);
  visit(std::string("measured_mj"), ledger.measured_mj_);
  visit(std::string("unmetered_us"), ledger.unmetered_us_);
}

EnergyLedger& EnergyLedger::operator+=(const EnergyLedger& other) {
  std::vector<std::int64_t> values;
  each(other, [&](const std::string&, std::int64_t value) { values.push_back(value); });
  auto next = values.begin();
  each(*this, [&](const std::string&, std::int64_t& value) { value += *next++; });
  return *this;
}

EnergyLedger EnergyLedger::since(const EnergyLedger& before) const {
  EnergyLedger negative = before;
  each(negative, [](const std::string&, std::int64_t& value) { value = -value; });
  EnergyLedger result = *this;
  return result += negative;
}

std::int64_t EnergyLedger::phase_mj(Phase phase) const {
  return phase_mj_[index(phase)][0] + phase_mj_[index(phase)][1];
}

std::int64_t EnergyLedger::total_mj() const {
  std::int64_t sum = 0;
  for (const ByPlace& cells : phase_mj_) sum += cells[0] + cells[1];
  return sum;
}

std::int64_t EnergyLedger::inside_mj() const {
  std::int64_t sum = 0;
  for (const ByPlace& cells : phase_mj_) sum += cells[1];
  return sum;
}

std::int64_t EnergyLedger::unknown_mj(Account account) const { return unknown_mj_[index(account)]; }

std::int64_t EnergyLedger::phase_ug(Phase phase, Account account) const {
  const ByPlace& cells = phase_ug_[index(account)][index(phase)];
  return cells[0] + cells[1];
}

std::int64_t EnergyLedger::emissions_ug(Account account) const {
  std::int64_t sum = 0;
  for (const ByPlace& cells : phase_ug_[index(account)]) sum += cells[0] + cells[1];
  return sum;
}

std::int64_t EnergyLedger::inside_ug(Account account) const {
  std::int64_t sum = 0;
  for (const ByPlace& cells : phase_ug_[index(account)]) sum += cells[1];
  return sum;
}

std::map<std::string, std::int64_t> EnergyLedger::to_map() const {
  std::map<std::string, std::int64_t> values = {{"total_mj", total_mj()}};
  each(*this, [&](const std::string& key, std::int64_t value) {
    if (value != 0) values[key] = value;
  });
  return values;
}

EnergyLedger EnergyLedger::from_map(const std::map<std::string, std::int64_t>& values) {
  EnergyLedger ledger;
  if (values.count("total_mj") == 0) fail(ExitCode::bad_data, "energy ledger: no value 'total_mj'");
  std::map<std::string, std::int64_t> left = values;
  left.erase("total_mj");
  each(ledger, [&](const std::string& key, std::int64_t& value) {
    const auto found = left.find(key);
    if (found == left.end()) return;
    value = found->second;
    left.erase(found);
  });
  if (!left.empty()) fail(ExitCode::bad_data, "energy ledger: unknown value '{}'", left.begin()->first);
  std::int64_t components = 0;
  for (const std::int64_t part : ledger.component_mj_) components += part;
  const std::int64_t total = values.at("total_mj");
  if (ledger.total_mj() != total || components != total)
    fail(ExitCode::bad_data, "energy ledger: total_mj = {}, but phases add up to {} and components to {}",
         total, ledger.total_mj(), components);
  return ledger;
}

}  // namespace spillway
