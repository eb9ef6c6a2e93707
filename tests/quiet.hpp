// No log lines while it lives: for tests that inject many faults.
#pragma once

#include "core/log.hpp"

class Quiet {
 public:
  Quiet() { spillway::set_log_level(spillway::LogLevel::none); }
  ~Quiet() { spillway::set_log_level(spillway::LogLevel::info); }
  Quiet(const Quiet&) = delete;
  Quiet& operator=(const Quiet&) = delete;
};
