// Which attention runs for each shape that a device has seen.
#pragma once

#include <compare>
#include <map>
#include <memory>
#include <string>

#include "kernels/cuda/device.hpp"

namespace spillway {

class CudnnAttention;  // attention_cudnn.hpp

struct AttentionShape {
  int B, T, H, D;
  friend auto operator<=>(const AttentionShape&, const AttentionShape&) = default;
};

enum class AttentionPass { forward, backward, rope_backward };  // the last: with rope_qk_norm_backward

// What AttentionChoice::automatic became for one pass of one shape.
struct AttentionPlan {
  bool chosen = false;
  bool use_cudnn = false;
  std::string why;  // in words, for the log
};

class AttentionPlans {
 public:
  AttentionPlans();
  ~AttentionPlans();

  static bool has_cudnn();
  // cuDNN's attention for a shape, made at the first call. Throws std::runtime_error where it was not compiled in or
  // cuDNN supports no such shape.
  CudnnAttention& cudnn(Cuda& device, const AttentionShape& shape);
  // Gives back what cudnn() made for a shape.
  void release_cudnn(const AttentionShape& shape);
  AttentionPlan& plan(const AttentionShape& shape, AttentionPass pass) { return plans_[{shape, pass}]; }
  // One line per plan.
  std::string describe() const;

 private:
  struct Key {
    AttentionShape shape;
    AttentionPass pass;
    friend auto operator<=>(const Key&, const Key&) = default;
  };
  std::map<Key, AttentionPlan> plans_;
  std::map<AttentionShape, std::unique_ptr<CudnnAttention>> cudnn_;
};

}  // namespace spillway
