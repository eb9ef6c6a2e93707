// What checkpoints of format version 1 held in another form.
#pragma once

#include "energy/energy_ledger.hpp"
#include "io/checkpoint.hpp"

namespace spillway {

// /energy of version 1: kWh by phase, and kWh and g in and out of windows, but not both at once. Each phase is taken to
// have been inside and outside as the whole was; sums are kept to half a millijoule and a microgram a phase. Error(bad_data)
// naming an attribute that is missing.
EnergyLedger energy_of_version_1(const CheckpointReader& reader);

}  // namespace spillway
