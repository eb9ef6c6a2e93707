// libFuzzer on the importers of signals: any bytes end in a sound signal or in one clear error. tests/fuzz/run_import builds it.
#include <sys/mman.h>
#include <unistd.h>

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "core/error.hpp"
#include "energy/import.hpp"

namespace {

// A file in memory with these bytes.
class MemoryFile {
 public:
  MemoryFile(const std::uint8_t* data, std::size_t size) : descriptor_(memfd_create("fuzz", 0)) {
    if (descriptor_ < 0 || write(descriptor_, data, size) != static_cast<ssize_t>(size)) std::abort();
  }
  ~MemoryFile() { close(descriptor_); }
  std::string path() const { return "/proc/self/fd/" + std::to_string(descriptor_); }

 private:
  int descriptor_;
};

void check(const spillway::Signal& signal) {
  bool sound = signal.values.size() == signal.times_unix_s.size() && signal.step_s > 0;
  for (std::size_t i = 0; sound && i < signal.values.size(); ++i)
    sound = std::isfinite(signal.values[i]) && signal.held_until(i) > signal.times_unix_s[i] &&
            (i == 0 || signal.times_unix_s[i] > signal.times_unix_s[i - 1]);
  if (!sound) std::abort();
}

}  // namespace

// The first byte chooses options; the others are the file.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  const MemoryFile file(data + 1, size - 1);
  spillway::SignalConfig config;
  config.file = file.path();
  if (data[0] & 1) config.timezone = "Europe/Berlin";
  if (data[0] & 2) config.region = "A";
  if (data[0] & 4) config.ambiguous = "second";
  if (data[0] & 8) config.stamp = "end";
  try {
    check(spillway::import_signal(config).signal);
    if (data[0] & 16) spillway::import_forecasts(config);
  } catch (const spillway::Error& error) {
    const std::string text = error.what();
    const bool ours =
        error.code() == spillway::ExitCode::bad_data || error.code() == spillway::ExitCode::usage;
    if (!ours || text.find('\n') != std::string::npos || text.size() > 2000) std::abort();
  }
  return 0;
}
