// How two checkpoints differ, as a JSON document: what `spillway diff` prints.
#pragma once

#include <nlohmann/json.hpp>

#include "io/checkpoint.hpp"

namespace spillway {

// Whether stored checksums are taken for what they are of. Damage of a dataset leaves its checksum as it was.
enum class Checksums {
  compared,  // every dataset of both is read once and compared with its checksum
  trusted,   // datasets with equal checksums are not read: quick, and blind to damage
};

// Keys:
//   identical   all datasets are the same
//   checksums   "compared" or "trusted"
//   lineage     "same", "a continues b", "b continues a", "common ancestor",
//               "same run, no common checkpoint" or "unrelated"
//   config      {key: [a, b]} of the lines that differ, null where one has no such key
//   progress    {attribute: [a, b]} of those that differ; sizes likewise
//   tensors     [{name, relative, max_abs}] of those that differ: ‖a − b‖ / ‖a‖ and max |a − b| over all elements, in
//               float64, null where not finite; or {name, unlike: [type and shape of a, of b]}; or {name, only_in: "a"}; largest first
//   tensors_equal   how many are the same
//   others      names of the datasets that are no tensors and differ: histories, blocks trained on
// Throws Error(bad_data), naming the dataset where one is damaged.
nlohmann::json compare_checkpoints(const CheckpointReader& a, const CheckpointReader& b,
                                   Checksums checksums = Checksums::compared);

}  // namespace spillway
