// How two checkpoints differ, as a JSON document: what `spillway diff` prints.
#pragma once

#include <nlohmann/json.hpp>

#include "io/checkpoint.hpp"

namespace spillway {

// Keys:
//   identical   same digest: all datasets are the same
//   lineage     "same", "a continues b", "b continues a", "common ancestor",
//               "same run, no common checkpoint" or "unrelated"
//   config      {key: [a, b]} of the lines that differ, null where one has no such key
//   progress    {attribute: [a, b]} of those that differ; sizes likewise
//   tensors     [{name, relative, max_abs}] of those that differ: ‖a − b‖ / ‖a‖ and max |a − b| over all elements, in
//               float64, null where not finite; or {name, unlike: [type and shape of a, of b]}; or {name, only_in: "a"}; largest first
//   tensors_equal   how many are the same
// Equal tensors are known by their checksums: only others are read. Throws Error(bad_data).
nlohmann::json compare_checkpoints(const CheckpointReader& a, const CheckpointReader& b);

}  // namespace spillway
