// Which members can be in one epoch. Pure: no members, only bits.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace spillway {

// The largest set of nodes of which each is connected with each other and at least one is in `one_of`, as a bit mask;
// 0 where there is none. Among sets of equal size the one with the most nodes of `preferred`, then the one with the
// lowest node numbers. adjacency[i] has bit j set where i and j are connected; at most 64 nodes.
std::uint64_t largest_group(const std::vector<std::uint64_t>& adjacency, std::uint64_t one_of,
                            std::uint64_t preferred);

// Members, and pairs of them, that have failed: kept apart for a time that doubles with each failure in a row.
class Blame {
 public:
  // The fault of a pair shows only in epochs that have both; a == b: that member's own fault.
  void add(double now_s, const std::string& a, const std::string& b);
  bool blamed(double now_s, const std::string& a, const std::string& b) const;
  // The members have done a round together: nothing between them is wrong any more.
  void forgive(const std::vector<std::string>& members);
  // A new process of that member: what the old one did does not count.
  void forget(const std::string& member);

 private:
  struct Entry {
    int failures = 0;
    double until_s = 0;
  };
  std::map<std::pair<std::string, std::string>, Entry> entries_;  // the pair in order
};

}  // namespace spillway
