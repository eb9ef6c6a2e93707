#include "train/membership.hpp"

#include <algorithm>
#include <bit>
#include <cmath>

#include "core/error.hpp"

namespace spillway {
namespace {

// The first failure of a pair costs as long as the couriers' probes need to notice a cut; a member's own failure, such
// as a gateway that was killed, is most often over when its courier has said so. Its pause is shorter than the hub's
// settle_s, so that the member is in the next epoch and keeps its round.
constexpr double kFirstPairPause_s = 5, kFirstOwnPause_s = 0.25;
constexpr double kLongestPause_s = 60;

std::pair<std::string, std::string> pair_of(const std::string& a, const std::string& b) {
  return a < b ? std::pair(a, b) : std::pair(b, a);
}

// Branch and bound over all cliques (Bron and Kerbosch, CACM 16, 1973, without pivot).
struct Search {
  const std::vector<std::uint64_t>& adjacency;
  std::uint64_t one_of, preferred;
  std::uint64_t best = 0;

  bool better(std::uint64_t group) const {
    const int size = std::popcount(group), best_size = std::popcount(best);
    if (size != best_size) return size > best_size;
    return std::popcount(group & preferred) > std::popcount(best & preferred);
  }

  void extend(std::uint64_t group, std::uint64_t candidates) {
    if ((group & one_of) != 0 && better(group)) best = group;
    while (candidates != 0 && better(group | candidates)) {
      const int node = std::countr_zero(candidates);
      candidates &= candidates - 1;
      extend(group | std::uint64_t{1} << node, candidates & adjacency[static_cast<std::size_t>(node)]);
    }
  }
};

}  // namespace

std::uint64_t largest_group(const std::vector<std::uint64_t>& adjacency, std::uint64_t one_of,
                            std::uint64_t preferred) {
  SPILLWAY_CHECK(adjacency.size() <= 64);
  Search search{adjacency, one_of, preferred};
  const auto nodes = static_cast<int>(adjacency.size());
  search.extend(0, nodes == 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << nodes) - 1);
  return search.best;
}

void Blame::add(double now_s, const std::string& a, const std::string& b) {
  Entry& entry = entries_[pair_of(a, b)];
  const double first_s = a == b ? kFirstOwnPause_s : kFirstPairPause_s;
  entry.until_s = now_s + std::min(std::ldexp(first_s, std::min(entry.failures, 10)), kLongestPause_s);
  ++entry.failures;
}

bool Blame::blamed(double now_s, const std::string& a, const std::string& b) const {
  const auto found = entries_.find(pair_of(a, b));
  return found != entries_.end() && now_s < found->second.until_s;
}

void Blame::forgive(const std::vector<std::string>& members) {
  const auto present = [&](const std::string& name) {
    return std::find(members.begin(), members.end(), name) != members.end();
  };
  std::erase_if(entries_,
                [&](const auto& entry) { return present(entry.first.first) && present(entry.first.second); });
}

void Blame::forget(const std::string& member) {
  std::erase_if(entries_, [&](const auto& entry) {
    return entry.first.first == member || entry.first.second == member;
  });
}

}  // namespace spillway
