// From a file to a signal, and what was understood on the way.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "core/config.hpp"
#include "energy/signal.hpp"
#include "energy/stamps.hpp"

namespace spillway {

// A signal with the choices that were made to read it.
struct Import {
  Signal signal;
  std::string name;    // the file, and its member where it is a zip
  std::string format;  // "aemo-price-demand"
  std::string kind;    // "price"
  std::string packed;  // "", "gzip" or "zip"
  std::string column;
  std::vector<std::string> columns;  // that could be the signal
  std::vector<std::string> regions;  // of files with several
  std::string written_unit;          // "lb/MWh"
  double scale = 1;                  // value in the file × scale = value of the signal
  std::string zone;                  // of the stamps
  bool stamps_end = false;           // stamps are ends of intervals
  std::size_t rows = 0, blanks = 0, doubles = 0, phantoms = 0, filled = 0;
  // What was ambiguous: the choice, and the option that changes it.
  std::vector<std::string> warnings;
};

// Reads config.file. Throws as read_signal() does.
Import import_signal(const SignalConfig& config);

// The forecasts in the columns f1, f2, … of config.file, one import each: fK holds, at the instant at which it was issued, the
// value for K steps later. Throws Error(bad_data) where there are none.
std::vector<Import> import_forecasts(const SignalConfig& config);

// One value as read, before instants are known.
struct RawSample {
  Stamp stamp;
  std::optional<Stamp> end;      // of its interval
  double since_midnight_s = -1;  // real seconds after the stamp, for half hours and the 25th hour; < 0: none
  std::size_t line = 0;
  double value = 0;
};

// What the last part of an import needs to know about the file.
struct SampleRules {
  std::string zone;         // of stamps without one; empty: such stamps are refused
  std::string time_column;  // for messages
  std::string cell_hint;    // an example stamp as written, for messages
  bool stamps_end = false;
  bool sort = false;
  double step_s = 0;       // where the file says it; 0: the most frequent distance
  bool zero_fill = false;  // no sample means zero, between the first and the last
};

// Turns samples into import->signal: instants, doubles, interval ends, step. Fills counts and warnings.
void finish_import(std::vector<RawSample> samples, const SampleRules& rules, const SignalConfig& config,
                   Import* import);

// The importers. Each throws Error(bad_data) or Error(usage).
class Table;
void import_table(const Table& table, const SignalConfig& config, Import* import);
void import_json(const std::string& text, const SignalConfig& config, Import* import);

}  // namespace spillway
