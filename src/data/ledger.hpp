// Which blocks of data are free, leased to a member, or merged into the committed model. Pure: no files, no clock.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

namespace spillway {

// A set of block numbers as ordered, disjoint, half-open ranges that do not touch.
class RangeSet {
 public:
  using Ranges = std::vector<std::pair<std::int64_t, std::int64_t>>;

  RangeSet() = default;
  explicit RangeSet(
      const Ranges& ranges);  // any order; throws Error(bad_data) for empty, negative or overlapping ranges

  void add(std::int64_t first, std::int64_t end);     // union
  void remove(std::int64_t first, std::int64_t end);  // difference
  bool contains(std::int64_t first, std::int64_t end) const;
  // Takes the lowest `count` blocks out, or all there are.
  RangeSet take(std::int64_t count);

  std::int64_t count() const;
  bool empty() const { return ranges_.empty(); }
  const Ranges& ranges() const { return ranges_; }
  bool operator==(const RangeSet&) const = default;

 private:
  Ranges ranges_;
};

// "[3, 7) [9, 10)", for messages.
std::string to_string(const RangeSet& set);

// Every block of [0, total) is free, leased to exactly one member, or committed, and committed blocks stay so: that is
// how every token of the run counts once. Calls that would break this throw Error(internal) naming member and blocks,
// and change nothing.
class Ledger {
 public:
  explicit Ledger(std::int64_t total);

  // Up to `count` of the lowest free blocks, now leased to the member; empty if none is free.
  RangeSet lease(const std::string& member, std::int64_t count);
  // The member's leased blocks are merged.
  void commit(const std::string& member, const RangeSet& blocks);
  // Leased blocks become free again.
  void release(const std::string& member, const RangeSet& blocks);
  void release_all(const std::string& member);
  // Leases just these blocks to the member if all of them are free or its own already.
  bool adopt(const std::string& member, const RangeSet& blocks);

  std::int64_t total() const { return total_; }
  std::int64_t committed() const { return committed_.count(); }
  std::int64_t available() const { return free_.count(); }
  RangeSet leased(const std::string& member) const;
  const RangeSet& committed_blocks() const { return committed_; }
  bool complete() const { return committed() == total_; }

  // {"total": …, "committed": [[a, b], …]}: leases do not outlive the hub, members bring theirs along.
  nlohmann::json to_json() const;
  static Ledger from_json(const nlohmann::json& document);  // throws Error(bad_data)

 private:
  void require_leased(const std::string& member, const RangeSet& blocks, const char* verb) const;

  std::int64_t total_;
  RangeSet free_, committed_;
  std::map<std::string, RangeSet> leased_;
};

}  // namespace spillway
