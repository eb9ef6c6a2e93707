// Causal attention, our own kernels and cuDNN's.
#include "kernels/cuda/attention_own.hpp"
#include "tests/gpu/support.hpp"

using namespace spillway;
using namespace spillway::test;

namespace {

// (rows, 3, H, D) with RMS-normalized q and k, as the ops require.
Vector normalized_qkv(std::uint64_t seed, int B, int T, int H, int D) {
  const std::int64_t rows = std::int64_t{B} * T;
  Vector qkv = random(seed, rows * 3 * H * D), rstd;
  const Vector cosine(static_cast<std::size_t>(T * D / 2), 1.0),
      sine(static_cast<std::size_t>(T * D / 2), 0.0);
  reference::rope_qk_norm_forward(qkv, rstd, cosine, sine, B, T, H, D);
  return qkv;
}

void check_attention(int B, int T, int H, int D) {
  const std::int64_t rows = std::int64_t{B} * T;
  DeviceArray<bf16> qkv(normalized_qkv(1, B, T, H, D)), o(rows * H * D), d_o(random(2, rows * H * D));
  DeviceArray<bf16> dqkv(rows * 3 * H * D);
  DeviceArray<float> lse(rows * H), workspace(attention_workspace(B, T, H, D));
  Vector expected, expected_lse;
  attention_forward(gpu(), o.data(), lse.data(), qkv.data(), B, T, H, D);
  reference::attention_forward(expected, expected_lse, qkv.values(), B, T, H, D);
  CHECK(relative_error(o.values(), expected) < kBf16Tolerance);
  CHECK(relative_error(lse.values(), expected_lse) < 1e-4);  // sums of exponentials of bf16 products in fp32

  attention_backward(gpu(), dqkv.data(), d_o.data(), o.data(), lse.data(), qkv.data(), workspace.data(), B, T,
                     H, D);
  const Vector gradient = reference::attention_backward(d_o.values(), qkv.values(), B, T, H, D);
  const Vector actual = dqkv.values();
  for (int which = 0; which < 3; ++which) {
    Vector part, expected_part;
    for (std::int64_t row = 0; row < rows; ++row)
      for (int i = 0; i < H * D; ++i) {
        const auto place = static_cast<std::size_t>((row * 3 + which) * H * D + i);
        part.push_back(actual[place]);
        expected_part.push_back(gradient[place]);
      }
    INFO("gradient of "
         << "qkv"[which]);
    // A sequence of one token has no gradient at q and k: what is left is the rounding of o.
    if (T == 1 && which < 2)
      CHECK(relative_error(part, reference::zeros(rows * H * D)) <
            0.05 * std::sqrt(static_cast<double>(rows * H * D)));
    else
      CHECK(relative_error(part, expected_part) < kBf16Tolerance);
  }
}

}  // namespace

TEST_CASE("own attention") {
  const int T = GENERATE(1, 17, 64, 65, 128, 300);
  const int D = GENERATE(32, 64, 128);
  INFO("T " << T << " D " << D);
  gpu().attention = AttentionChoice::own;
  check_attention(2, T, 3, D);
}

TEST_CASE("own attention with more heads than one group") {
  gpu().attention = AttentionChoice::own;
  check_attention(3, 140, 7, 64);
}

TEST_CASE("own attention gives the same bits every time") {
  const int B = 1, T = 515, H = 2, D = 128;
  const std::int64_t rows = std::int64_t{B} * T;
  DeviceArray<bf16> qkv(normalized_qkv(1, B, T, H, D)), d_o(random(2, rows * H * D));
  std::vector<Vector> results;
  for (int run = 0; run < 2; ++run) {
    DeviceArray<bf16> o(rows * H * D), dqkv(rows * 3 * H * D);
    DeviceArray<float> lse(rows * H), workspace(attention_workspace(B, T, H, D));
    own_attention_forward(gpu(), o.data(), lse.data(), qkv.data(), B, T, H, D);
    own_attention_backward(gpu(), dqkv.data(), d_o.data(), o.data(), lse.data(), qkv.data(), workspace.data(),
                           B, T, H, D);
    results.push_back(o.values());
    results.push_back(dqkv.values());
  }
  CHECK(results[0] == results[2]);
  CHECK(results[1] == results[3]);
}

TEST_CASE("cuDNN attention", "[cudnn]") {
  if (!Cuda::has_cudnn_attention()) {
    WARN("skipped: built without cuDNN's attention");
    return;
  }
  const int T = GENERATE(64, 300);
  const int D = GENERATE(64, 128);
  INFO("T " << T << " D " << D);
  gpu().attention = AttentionChoice::cudnn;
  check_attention(2, T, 3, D);
  gpu().attention = AttentionChoice::automatic;
}

TEST_CASE("automatic attention measures and says what it chose", "[cudnn]") {
  gpu().attention = AttentionChoice::automatic;
  check_attention(1, 192, 2, 128);
  const std::string plans = gpu().describe_plans();
  INFO(plans);
  CHECK(plans.find("attention forward B1 T192 H2 D128: ") != std::string::npos);
  CHECK(plans.find("attention backward B1 T192 H2 D128: ") != std::string::npos);
}
