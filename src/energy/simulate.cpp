#include "energy/simulate.hpp"

#include <algorithm>
#include <limits>

#include "core/error.hpp"
#include "core/rng.hpp"

namespace spillway {
namespace {

enum class Activity { off, startup, train, drain };

struct Event {
  double at_unix_s = 0;
  std::size_t site = 0;
  Activity activity = Activity::off;
  bool is_start = false;
  double part = 1;
};

// What one site does and when, from its windows.
void add_events(const SiteModel& site, const std::vector<Window>& windows, std::size_t index,
                std::vector<Event>* events) {
  double ready = 0, drained = -std::numeric_limits<double>::infinity();
  for (const Window& window : windows) {
    const bool running = window.open_unix_s <= drained && ready < drained;
    if (running) events->pop_back();  // reopened: the end of the drain does not come
    if (!running) {
      ready = window.open_unix_s + site.start_delay_s;
      events->push_back({window.open_unix_s, index, Activity::startup, true, window.part});
    }
    drained = window.close_unix_s;
    if (ready < window.close_unix_s) {
      events->push_back({std::max(ready, window.open_unix_s), index, Activity::train, false, window.part});
      events->push_back({window.close_unix_s, index, Activity::drain, false, window.part});
      drained += site.grace_s;
    }
    events->push_back({drained, index, Activity::off, false});
  }
}

class Replay {
 public:
  Replay(const std::vector<SiteModel>& sites, const RunModel& run)
      : sites_(sites), run_(run), activities_(sites.size(), Activity::off), parts_(sites.size(), 1) {
    outcome_.sites.resize(sites.size());
  }

  RunOutcome play(const std::vector<Event>& events) {
    double now = run_.start_unix_s;
    for (const Event& event : events) {
      const double until = std::min(event.at_unix_s, run_.end_unix_s);
      if (until > now) {
        now = advance(now, until);
        if (outcome_.finished) break;
      }
      activities_[event.site] = event.activity;
      parts_[event.site] = event.part;
      count_start(event);
    }
    if (!outcome_.finished && now < run_.end_unix_s) now = advance(now, run_.end_unix_s);
    outcome_.runtime_s = now - run_.start_unix_s;
    return std::move(outcome_);
  }

 private:
  void count_start(const Event& event) {
    if (event.is_start && event.at_unix_s >= run_.start_unix_s && event.at_unix_s < run_.end_unix_s)
      ++outcome_.sites[event.site].starts;
  }

  // Nothing changes in [from, to), unless the tokens are complete before: returns how far it came.
  double advance(double from, double to) {
    const auto training = std::count(activities_.begin(), activities_.end(), Activity::train);
    const double share = training > 1 ? 1 - run_.round_loss : 1;
    double speed = 0;
    for (std::size_t i = 0; i < sites_.size(); ++i)
      if (activities_[i] == Activity::train) speed += sites_[i].tokens_per_s * parts_[i] * share;
    const double left = run_.tokens - outcome_.tokens;
    if (speed > 0 && speed * (to - from) >= left) {
      to = from + left / speed;
      outcome_.finished = true;
    }
    const double length_s = to - from;
    (training == 0 ? outcome_.paused_s : training == 1 ? outcome_.solo_s : outcome_.federated_s) += length_s;
    outcome_.tokens = outcome_.finished ? run_.tokens : outcome_.tokens + speed * length_s;
    for (std::size_t i = 0; i < sites_.size(); ++i) account(i, from, to, training > 1, share);
    return to;
  }

  void account(std::size_t index, double from, double to, bool federated, double share) {
    const SiteModel& site = sites_[index];
    SiteOutcome& outcome = outcome_.sites[index];
    Phase phase = Phase::idle;
    const double part = parts_[index];
    double power_w = 0;  // of the nodes that run
    switch (activities_[index]) {
      case Activity::off:
        break;
      case Activity::startup:
        phase = Phase::startup;
        power_w = site.idle_power_w;
        break;
      case Activity::train:
        phase = federated ? Phase::federated : Phase::solo;
        power_w = site.train_power_w * share + site.idle_power_w * (1 - share);
        (federated ? outcome.federated_s : outcome.solo_s) += to - from;
        outcome.tokens += site.tokens_per_s * part * share * (to - from);
        break;
      case Activity::drain:
        phase = Phase::drain;
        power_w = site.train_power_w;
        break;
    }
    const bool off = activities_[index] == Activity::off;
    power_w *= part;
    if (site.idle_outside) power_w += site.idle_power_w * (off ? 1 : 1 - part);
    if (power_w <= 0) return;
    const double joules = power_w * site.pue * (to - from), before_g = outcome.energy.emissions_g();
    outcome.energy.add(phase, joules, from, to, site.intensity, site.open);
    outcome.phase_g[static_cast<std::size_t>(phase)] += outcome.energy.emissions_g() - before_g;
    if (site.average != nullptr) outcome.by_average.add(phase, joules, from, to, site.average, site.open);
  }

  const std::vector<SiteModel>& sites_;
  const RunModel& run_;
  std::vector<Activity> activities_;
  std::vector<double> parts_;
  RunOutcome outcome_;
};

template <class Value>
double sum_over(const std::vector<SiteOutcome>& sites, Value value) {
  double sum = 0;
  for (const SiteOutcome& site : sites) sum += value(site);
  return sum;
}

}  // namespace

RunOutcome simulate(const std::vector<SiteModel>& sites, const std::vector<std::vector<Window>>& windows,
                    const RunModel& run) {
  SPILLWAY_CHECK(sites.size() == windows.size());
  std::vector<Event> events;
  for (std::size_t i = 0; i < sites.size(); ++i) add_events(sites[i], windows[i], i, &events);
  // Stable: of a site's events at one instant the last one holds.
  std::stable_sort(events.begin(), events.end(),
                   [](const Event& a, const Event& b) { return a.at_unix_s < b.at_unix_s; });
  return Replay(sites, run).play(events);
}

std::vector<Window> always_on(const RunModel& run) { return {{run.start_unix_s, run.end_unix_s}}; }

std::vector<Window> random_windows(const std::vector<Window>& windows, const RunModel& run,
                                   std::uint64_t seed, std::uint64_t draw) {
  const std::size_t count = windows.size();
  double closed_s = run.end_unix_s - run.start_unix_s;
  std::vector<double> lengths;
  for (const Window& window : windows) {
    lengths.push_back(window.length_s());
    closed_s -= window.length_s();
  }
  // The order of the windows, and the closed time cut at uniform places.
  std::uint64_t index = 0;
  const auto uniform = [&] { return static_cast<double>(uniform01(seed, draw, index++)); };
  for (std::size_t i = count; i > 1; --i)
    std::swap(lengths[i - 1],
              lengths[std::min(i - 1, static_cast<std::size_t>(uniform() * static_cast<double>(i)))]);
  std::vector<double> cuts;
  for (std::size_t i = 0; i < count; ++i) cuts.push_back(uniform() * std::max(0.0, closed_s));
  std::sort(cuts.begin(), cuts.end());
  std::vector<Window> result;
  double open_s = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const double open = run.start_unix_s + cuts[i] + open_s;
    open_s += lengths[i];
    result.push_back({open, open + lengths[i]});
  }
  return result;
}

double RunOutcome::energy_kwh() const {
  return sum_over(sites, [](const SiteOutcome& site) { return site.energy.energy_kwh(); });
}
double RunOutcome::emissions_g() const {
  return sum_over(sites, [](const SiteOutcome& site) { return site.energy.emissions_g(); });
}
double RunOutcome::unknown_kwh() const {
  return sum_over(sites, [](const SiteOutcome& site) { return site.energy.unknown_kwh(); });
}
std::optional<double> RunOutcome::average_g() const {
  double sum = 0;
  for (const SiteOutcome& site : sites) {
    if (site.by_average.energy_kwh() < site.energy.energy_kwh() || site.by_average.unknown_kwh() > 0)
      return std::nullopt;
    sum += site.by_average.emissions_g();
  }
  return sum;
}
double RunOutcome::inside_kwh() const {
  return sum_over(sites, [](const SiteOutcome& site) { return site.energy.inside_kwh(); });
}
double RunOutcome::phase_kwh(Phase phase) const {
  return sum_over(sites, [phase](const SiteOutcome& site) { return site.energy.phase_kwh(phase); });
}
double RunOutcome::phase_g(Phase phase) const {
  return sum_over(sites,
                  [phase](const SiteOutcome& site) { return site.phase_g[static_cast<std::size_t>(phase)]; });
}
int RunOutcome::starts() const {
  return static_cast<int>(sum_over(sites, [](const SiteOutcome& site) { return site.starts; }));
}

}  // namespace spillway
