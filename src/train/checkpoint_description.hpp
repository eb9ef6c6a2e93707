// A checkpoint as a JSON document: what `spillway inspect` prints.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "io/checkpoint.hpp"

namespace spillway {

struct DescriptionParts {
  bool tensors = false;  // statistics of every tensor: reads the whole file
  bool history = false;  // every step's row
  bool config = false;   // the configuration's text
};

// Keys: file, bytes, kind, site, run, digest, sizes, progress, data, loss, validation, energy, lineage, tensors; outer
// where the site was in a federation; history and config where asked for. Instants are ISO 8601, values that are not
// finite null. Without parts.tensors no tensor is read. Throws Error(bad_data).
nlohmann::json describe_checkpoint(const CheckpointReader& reader, const DescriptionParts& parts);

// The checkpoint that a user names: a file, or the newest one of a folder. Throws Error(bad_data) where there is none.
CheckpointReader open_checkpoint(const std::string& path);

}  // namespace spillway
