// Causal attention, our own kernels and cuDNN's.
#include "kernels/cuda/attention_own.hpp"
#include "tests/kernels/attention_check.hpp"

using namespace spillway;
using namespace spillway::test;

TEST_CASE("own attention") {
  // Around the sizes of the tiles: 64, 128 and 192 queries, 128 keys.
  const int T = GENERATE(1, 17, 64, 65, 127, 128, 129, 193, 300, 449);
  const int D = GENERATE(32, 64, 128);
  INFO("T " << T << " D " << D);
  device().attention = AttentionChoice::own;
  check_attention(2, T, 3, D);
}

TEST_CASE("own attention with more heads than one group") {
  device().attention = AttentionChoice::own;
  check_attention(3, 140, 7, 64);
}

TEST_CASE(
    "own attention with more items than multiprocessors: blocks take several, and slots are used again") {
  const int D = GENERATE(64, 128);
  INFO("D " << D);
  device().attention = AttentionChoice::own;
  check_attention(4, 270, 20, D);
}

TEST_CASE("own attention gives the same bits every time") {
  const int B = 1, T = 515, H = 2, D = 128;
  const std::int64_t rows = std::int64_t{B} * T;
  DeviceArray<act> qkv(normalized_qkv(1, B, T, H, D)), d_o(random(2, rows * H * D));
  std::vector<Vector> results;
  for (int run = 0; run < 2; ++run) {
    DeviceArray<act> o(rows * H * D), dqkv(rows * 3 * H * D);
    DeviceArray<float> lse(rows * H), workspace(attention_workspace(B, T, H));
    own_attention_forward(device(), o.data(), lse.data(), qkv.data(), B, T, H, D);
    own_attention_backward(device(), dqkv.data(), d_o.data(), o.data(), lse.data(), qkv.data(),
                           workspace.data(), B, T, H, D);
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
  device().attention = AttentionChoice::cudnn;
  check_attention(2, T, 3, D);
  device().attention = AttentionChoice::automatic;
}

TEST_CASE("automatic attention measures in a rehearsal, and says what it chose", "[cudnn]") {
  device().attention = AttentionChoice::automatic;
  device().rehearsing = true;
  check_attention(1, 192, 2, 128);
  device().rehearsing = false;
  check_attention(1, 192, 2, 128);
  check_attention(1, 193, 2, 128);  // a shape that was not rehearsed
  const std::string plans = device().describe_plans();
  INFO(plans);
  CHECK(plans.find("attention forward B1 T192 H2 D128: ") != std::string::npos);
  CHECK(plans.find("attention backward B1 T192 H2 D128: ") != std::string::npos);
}
