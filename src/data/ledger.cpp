#include "data/ledger.hpp"

#include <algorithm>

#include "core/error.hpp"

namespace spillway {

RangeSet::RangeSet(const Ranges& ranges) {
  for (const auto& [first, end] : ranges) {
    if (first < 0 || end <= first) fail(ExitCode::bad_data, "[{}, {}) is not a range of blocks", first, end);
    const auto overlaps = [&](const auto& other) { return first < other.second && other.first < end; };
    if (std::any_of(ranges_.begin(), ranges_.end(), overlaps))
      fail(ExitCode::bad_data, "[{}, {}) overlaps another range", first, end);
    add(first, end);
  }
}

void RangeSet::add(std::int64_t first, std::int64_t end) {
  if (first >= end) return;
  Ranges result;
  for (const auto& range : ranges_) {
    if (range.second < first || range.first > end) {
      result.push_back(range);
    } else {  // touches or overlaps: swallowed
      first = std::min(first, range.first);
      end = std::max(end, range.second);
    }
  }
  result.insert(std::upper_bound(result.begin(), result.end(), std::pair(first, end)), {first, end});
  ranges_ = std::move(result);
}

void RangeSet::remove(std::int64_t first, std::int64_t end) {
  if (first >= end) return;
  Ranges result;
  for (const auto& range : ranges_) {
    if (range.first < std::min(first, range.second))
      result.emplace_back(range.first, std::min(first, range.second));
    if (std::max(end, range.first) < range.second)
      result.emplace_back(std::max(end, range.first), range.second);
  }
  ranges_ = std::move(result);
}

bool RangeSet::contains(std::int64_t first, std::int64_t end) const {
  return std::any_of(ranges_.begin(), ranges_.end(),
                     [&](const auto& range) { return range.first <= first && end <= range.second; });
}

RangeSet RangeSet::take(std::int64_t count) {
  RangeSet taken;
  while (count > 0 && !ranges_.empty()) {
    const auto [first, end] = ranges_.front();
    const std::int64_t cut = count < end - first ? first + count : end;
    taken.add(first, cut);
    remove(first, cut);
    count -= cut - first;
  }
  return taken;
}

std::int64_t RangeSet::count() const {
  std::int64_t count = 0;
  for (const auto& [first, end] : ranges_) count += end - first;
  return count;
}

std::string to_string(const RangeSet& set) {
  std::string text;
  for (const auto& [first, end] : set.ranges())
    text += fmt::format("{}[{}, {})", text.empty() ? "" : " ", first, end);
  return text.empty() ? "no blocks" : text;
}

Ledger::Ledger(std::int64_t total) : total_(total) {
  if (total <= 0) fail(ExitCode::usage, "train.steps = {}: must be positive", total);
  free_.add(0, total);
}

RangeSet Ledger::lease(const std::string& member, std::int64_t count) {
  const RangeSet blocks = free_.take(count);
  for (const auto& [first, end] : blocks.ranges()) leased_[member].add(first, end);
  return blocks;
}

void Ledger::require_leased(const std::string& member, const RangeSet& blocks, const char* verb) const {
  const RangeSet own = leased(member);
  for (const auto& [first, end] : blocks.ranges())
    if (!own.contains(first, end))
      fail(ExitCode::internal, "{} cannot {} blocks [{}, {}): it holds {}", member, verb, first, end,
           to_string(own));
}

void Ledger::commit(const std::string& member, const RangeSet& blocks) {
  require_leased(member, blocks, "commit");
  for (const auto& [first, end] : blocks.ranges()) {
    leased_[member].remove(first, end);
    committed_.add(first, end);
  }
}

void Ledger::release(const std::string& member, const RangeSet& blocks) {
  require_leased(member, blocks, "release");
  for (const auto& [first, end] : blocks.ranges()) {
    leased_[member].remove(first, end);
    free_.add(first, end);
  }
}

void Ledger::release_all(const std::string& member) {
  const RangeSet blocks = leased(member);
  for (const auto& [first, end] : blocks.ranges()) free_.add(first, end);
  leased_.erase(member);
}

bool Ledger::adopt(const std::string& member, const RangeSet& blocks) {
  RangeSet possible = leased(member);
  for (const auto& [first, end] : free_.ranges()) possible.add(first, end);
  for (const auto& [first, end] : blocks.ranges())
    if (!possible.contains(first, end)) return false;
  for (const auto& [first, end] : blocks.ranges()) {
    free_.remove(first, end);
    leased_[member].add(first, end);
  }
  return true;
}

RangeSet Ledger::leased(const std::string& member) const {
  const auto found = leased_.find(member);
  return found == leased_.end() ? RangeSet() : found->second;
}

nlohmann::json Ledger::to_json() const { return {{"total", total_}, {"committed", committed_.ranges()}}; }

Ledger Ledger::from_json(const nlohmann::json& document) {
  try {
    const auto total = document.at("total").get<std::int64_t>();
    if (total <= 0) fail(ExitCode::bad_data, "ledger: a total of {} blocks; must be positive", total);
    Ledger ledger(total);
    ledger.committed_ = RangeSet(document.at("committed").get<RangeSet::Ranges>());
    for (const auto& [first, end] : ledger.committed_.ranges()) {
      if (!ledger.free_.contains(first, end))
        fail(ExitCode::bad_data, "committed blocks [{}, {}) lie outside the {} of the run", first, end,
             ledger.total_);
      ledger.free_.remove(first, end);
    }
    return ledger;
  } catch (const nlohmann::json::exception& error) {
    fail(ExitCode::bad_data, "ledger: {}", error.what());
  }
}

}  // namespace spillway
