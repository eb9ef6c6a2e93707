// Which rank of a site writes which tensor of a checkpoint.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "core/layout.hpp"

namespace spillway {

// Deals whole tensors out to writers, the largest first and each to the one that has least: the same on every rank.
class WriterShares {
 public:
  // writers: as many as asked for, at least one and at most all ranks; they are spread evenly over the ranks, so over
  // the machines. leader_floats: what the leader's part holds besides, in elements.
  WriterShares(const ParameterLayout& layout, int writers, int ranks, std::int64_t leader_floats);

  int writers() const { return static_cast<int>(ranks_.size()); }
  // Of a parameter "/model/…" or a tensor of the optimizer "/optimizer/…".
  int rank_of(const std::string& path) const { return rank_of_.at(path); }
  // The number of a rank's part, from 1; 0 where it writes none.
  int part_of(int rank) const;
  // Elements of the tensors that a rank writes, without leader_floats.
  std::int64_t floats_of(int rank) const;

 private:
  std::vector<int> ranks_;  // of the writers; the first is the leader
  std::map<std::string, int> rank_of_;
  std::map<int, std::int64_t> floats_;  // by rank
};

}  // namespace spillway
