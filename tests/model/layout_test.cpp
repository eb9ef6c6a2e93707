#include "model/layout.hpp"

#include <set>

#include "tests/catch.hpp"

using namespace spillway;

namespace {

GptSpec small_spec(bool scalars) {
  GptSpec spec;
  spec.layers = 3;
  spec.width = 32;
  spec.heads = 2;
  spec.vocab = 50;
  spec.sequence = 8;
  spec.scalars = scalars;
  return spec;
}

}  // namespace

TEST_CASE("the layout has no gaps, and nanochat's names once each") {
  const bool scalars = GENERATE(true, false);
  const GptSpec spec = small_spec(scalars);
  const ParameterLayout layout = make_layout(spec);
  std::int64_t next = 0;
  std::set<std::string> names;
  for (const Parameter& parameter : layout.parameters) {
    INFO(parameter.name);
    CHECK(parameter.offset == next);
    next += parameter.count;
    CHECK(names.insert(parameter.name).second);
  }
  CHECK(next == layout.total);
  CHECK(layout.total == spec.parameters());
  CHECK(layout.parameters.size() == std::size_t{2 + 3 * 6} + (scalars ? 2 : 0));
  CHECK((layout.find("resid_lambdas") != nullptr) == scalars);
  CHECK((layout.find("x0_lambdas") != nullptr) == scalars);
  CHECK(layout.find("transformer.h.3.attn.c_q.weight") == nullptr);
}

TEST_CASE("offsets that the model multiplies by are those of the names") {
  const GptSpec spec = small_spec(true);
  const ParameterLayout layout = make_layout(spec);
  const WeightOffsets at(spec);
  const auto offset = [&](const std::string& name) {
    INFO(name);
    const Parameter* parameter = layout.find(name);
    REQUIRE(parameter != nullptr);
    return parameter->offset;
  };
  const std::int64_t square = 32 * 32;
  CHECK(offset("transformer.wte.weight") == at.wte());
  CHECK(offset("lm_head.weight") == at.lm_head());
  for (int i = 0; i < spec.layers; ++i) {
    const std::string block = "transformer.h." + std::to_string(i);
    CHECK(offset(block + ".attn.c_q.weight") == at.qkv(i));
    CHECK(offset(block + ".attn.c_k.weight") == at.qkv(i) + square);
    CHECK(offset(block + ".attn.c_v.weight") == at.qkv(i) + 2 * square);
    CHECK(offset(block + ".attn.c_proj.weight") == at.out(i));
    CHECK(offset(block + ".mlp.c_fc.weight") == at.fc(i));
    CHECK(offset(block + ".mlp.c_proj.weight") == at.proj(i));
    CHECK(offset("resid_lambdas") + i == at.lambda_r(i));
    CHECK(offset("x0_lambdas") + i == at.lambda_0(i));
  }
}

TEST_CASE("Muon's batches cover the block matrices exactly") {
  const ParameterLayout layout = make_layout(small_spec(true));
  std::int64_t in_group = 0, in_batches = 0;
  for (const Parameter& parameter : layout.parameters)
    if (parameter.group == ParameterGroup::muon) in_group += parameter.count;
  for (const MatrixBatch& batch : layout.batches) {
    in_batches += static_cast<std::int64_t>(batch.count) * batch.rows * batch.cols;
    int matrices = 0;
    for (const Parameter& parameter : layout.parameters) {
      const std::int64_t end =
          batch.offset + static_cast<std::int64_t>(batch.count) * batch.rows * batch.cols;
      if (parameter.offset < batch.offset || parameter.offset >= end) continue;
      CHECK(parameter.shape == std::vector<std::int64_t>{batch.rows, batch.cols});
      CHECK(parameter.group == ParameterGroup::muon);
      ++matrices;
    }
    CHECK(matrices == batch.count);
  }
  CHECK(in_batches == in_group);
}
