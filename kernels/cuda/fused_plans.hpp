// Whether a product and the elementwise op after it run as one kernel of ours or as two, for each shape that a device has
// seen.
#pragma once

#include <compare>
#include <map>
#include <string>

namespace spillway {

enum class FusedOp { relu2_forward, relu2_backward, rope_qk_norm };

struct FusedKey {
  FusedOp op;
  int m, n, k;  // of the product
  friend auto operator<=>(const FusedKey&, const FusedKey&) = default;
};

struct FusedPlan {
  bool own = true;
  float own_ms = 0, separate_ms = 0;  // 0: not timed
};

class FusedPlans {
 public:
  // Null where the shape is new.
  const FusedPlan* find(const FusedKey& key) const {
    const auto known = plans_.find(key);
    return known == plans_.end() ? nullptr : &known->second;
  }
  const FusedPlan* add(const FusedKey& key, const FusedPlan& plan) { return &(plans_[key] = plan); }
  // One line per plan.
  std::string describe() const;

 private:
  std::map<FusedKey, FusedPlan> plans_;
};

}  // namespace spillway
