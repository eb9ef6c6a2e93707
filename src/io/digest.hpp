// The digests of a checkpoint.
#pragma once

#include <map>
#include <string>

#include "io/checkpoint.hpp"

namespace spillway {

// Over the paths and checksums of all datasets, in order of their paths.
std::string datasets_digest(const std::map<std::string, std::string>& checksums);

// Over all attributes of all groups: group, name, type and value, in order. The digests themselves do not count.
std::string attributes_digest(const std::map<std::string, Attributes>& groups);

}  // namespace spillway
