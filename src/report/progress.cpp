#include "report/progress.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include "core/clock.hpp"
#include "core/time.hpp"

namespace spillway {
namespace {

template <class T>
std::string or_dash(const std::optional<T>& value, const char* format) {
  return value ? fmt::format(fmt::runtime(format), *value) : "–";
}

// "2h05m", "12m", "40s": two units are enough for a glance.
std::string short_duration(double seconds) {
  if (seconds < 0) seconds = 0;
  const auto total = static_cast<long long>(seconds);
  if (total >= 3600) return fmt::format("{}h{:02}m", total / 3600, total % 3600 / 60);
  if (total >= 60) return fmt::format("{}m", total / 60);
  return fmt::format("{}s", total);
}

std::string rate(double tokens_per_s) {
  if (tokens_per_s >= 1e6) return fmt::format("{:.2f}M", tokens_per_s / 1e6);
  if (tokens_per_s >= 1e3) return fmt::format("{:.1f}k", tokens_per_s / 1e3);
  return fmt::format("{:.0f}", tokens_per_s);
}

std::string window_text(const SiteProgress& site) {
  if (site.live_open) return *site.live_open ? "open, live" : "closed, live";
  if (site.window_left_s) return "closes in " + short_duration(*site.window_left_s);
  if (site.next_window_s) return "opens in " + short_duration(*site.next_window_s);
  return "no more windows";
}

std::string site_line(const SiteProgress& site) {
  return fmt::format("{:<16} {:<10} step {:>6}  loss {:>6}  {:>6} tok/s  {:<18} {:>5} g/kWh", site.site,
                     site.state, or_dash(site.step, "{}"), or_dash(site.loss_nats, "{:.3f}"),
                     site.tokens_per_s ? rate(*site.tokens_per_s) : "–", window_text(site),
                     or_dash(site.intensity_g_per_kwh, "{:.0f}"));
}

}  // namespace

std::vector<std::string> progress_lines(const RunProgress& progress) {
  std::vector<std::string> lines;
  const double share = progress.target > 0 ? 100.0 * static_cast<double>(progress.blocks) /
                                                 static_cast<double>(progress.target)
                                           : 0;
  lines.push_back(fmt::format("{}  model version {}, {} of {} steps merged ({:.0f} %)",
                              format_utc(progress.now_unix_s), progress.version, progress.blocks,
                              progress.target, share));
  for (const auto& site : progress.sites) lines.push_back("  " + site_line(site));
  return lines;
}

ProgressDisplay::ProgressDisplay(std::FILE* stream, double quiet_interval_s)
    : stream_(stream), terminal_(isatty(fileno(stream)) != 0), quiet_interval_s_(quiet_interval_s) {}

void ProgressDisplay::show(const RunProgress& progress) {
  const auto lines = progress_lines(progress);
  if (terminal_)
    redraw(lines);
  else
    print_changes(progress, lines);
  std::fflush(stream_);
}

void ProgressDisplay::redraw(const std::vector<std::string>& lines) {
  if (drawn_ > 0) fmt::print(stream_, "\x1b[{}A", drawn_);
  for (const auto& line : lines) fmt::print(stream_, "\x1b[2K{}\n", line);
  drawn_ = lines.size();
}

void ProgressDisplay::print_changes(const RunProgress& progress, const std::vector<std::string>& lines) {
  const bool full = monotonic_s() - last_full_s_ >= quiet_interval_s_;
  if (full) {
    last_full_s_ = monotonic_s();
    for (const auto& line : lines) fmt::print(stream_, "{}\n", line);
  }
  std::vector<std::string> states;
  for (std::size_t i = 0; i < progress.sites.size(); ++i) {
    states.push_back(progress.sites[i].state);
    const bool changed = i >= last_states_.size() || last_states_[i] != states[i];
    if (changed && !full) fmt::print(stream_, "{}{}\n", format_utc(progress.now_unix_s), lines[i + 1]);
  }
  last_states_ = std::move(states);
}

}  // namespace spillway
