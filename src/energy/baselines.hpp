// What the same energy would have emitted under a simpler rule: the yardsticks of a run.
#pragma once

#include <optional>
#include <vector>

#include "energy/gate.hpp"
#include "energy/signal.hpp"

namespace spillway {

// Grams that a site always on from start_unix_s emits while it uses energy_kwh at a constant power_w; nothing where the
// signal ends before or is unknown on the way. The baseline of one site that trains the same tokens without pausing.
std::optional<double> always_on_emissions_g(const Signal& signal, double start_unix_s, double energy_kwh,
                                            double power_w);

// The same for a site that runs in its windows only and is off between them: the lone site that waits for a while.
// Nothing where the windows end before the energy is used.
struct WaitAwhile {
  double emissions_g = 0;
  double end_unix_s = 0;  // when the energy is used up
};
std::optional<WaitAwhile> wait_awhile(const Signal& signal, const std::vector<Window>& windows,
                                      double start_unix_s, double energy_kwh, double power_w);

}  // namespace spillway
