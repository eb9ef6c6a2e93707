// The configuration keys: their names, help, and how each is read into and printed from the configuration.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "core/config.hpp"

namespace spillway::cli {

// One configuration key: how it is read and printed.
struct Key {
  std::string name;  // "gate.open-below"
  std::string help;
  std::function<void(Config&, const std::string&)>
      set;                                        // throws std::invalid_argument with what was expected
  std::function<std::string(const Config&)> get;  // empty: not set
  std::string section() const { return name.substr(0, name.find('.')); }
};

// All keys, in the order of --help: section after section.
const std::vector<Key>& keys();

// Null for an unknown name.
const Key* find_key(const std::string& name);

}  // namespace spillway::cli
