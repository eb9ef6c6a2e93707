// Live progress of several sites: one line per site, redrawn in place on a terminal, plain lines elsewhere.
#pragma once

#include <cstdint>
#include <cstdio>
#include <optional>
#include <string>
#include <vector>

namespace spillway {

// What is known of one site at a moment. Absent values are shown as "–".
struct SiteProgress {
  std::string site;
  std::string
      state;  // "closed", "starting", "solo", "federated", "merging", "suspending", "complete", "failed"
  std::optional<std::int64_t> step;
  std::optional<double> loss_nats;
  std::optional<double> tokens_per_s;
  std::optional<double> window_left_s;  // simulated time until the window closes
  std::optional<double> next_window_s;  // simulated time until the next one opens
  std::optional<bool> live_open;  // of live signals, whose future is not known: whether a window is open
  std::optional<double> intensity_g_per_kwh;
};

struct RunProgress {
  double now_unix_s = 0;     // simulated
  std::int64_t blocks = 0;   // optimizer steps merged into the committed model
  std::int64_t target = 0;   // of so many
  std::int64_t version = 0;  // of the committed model
  std::vector<SiteProgress> sites;
};

// The lines of one picture: a headline and one line per site, without newlines.
std::vector<std::string> progress_lines(const RunProgress& progress);

// Draws to a stream. On a terminal each picture replaces the one before; elsewhere a site's line is printed when its
// state changes, and all lines every `quiet_interval_s`.
class ProgressDisplay {
 public:
  explicit ProgressDisplay(std::FILE* stream, double quiet_interval_s = 20);

  void show(const RunProgress& progress);

 private:
  void redraw(const std::vector<std::string>& lines);
  void print_changes(const RunProgress& progress, const std::vector<std::string>& lines);

  std::FILE* stream_;
  bool terminal_;
  double quiet_interval_s_;
  double last_full_s_ = -1e300;  // monotonic
  std::size_t drawn_ = 0;        // lines of the picture on the terminal
  std::vector<std::string> last_states_;
};

}  // namespace spillway
