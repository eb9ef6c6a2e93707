// Models to safetensors and back; hostile safetensors files and configs.
#include <cstring>
#include <nlohmann/json.hpp>

#include "tests/unit/checkpoint_samples.hpp"
#include "train/model_export.hpp"

using namespace spillway;
using namespace spillway::testing;
using nlohmann::json;

namespace {

std::string write_checkpoint(const std::filesystem::path& file, bool scalars) {
  const RunSetup setup = sample_setup(scalars);
  return write_training_state(file, sample_state(setup, 3), sample_config(), setup).digest;
}

std::string safetensors_bytes(const std::string& header, const std::string& data = "") {
  const auto size = static_cast<std::uint64_t>(header.size());
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &size, 8);
  return bytes + header + data;
}

CheckpointModel model_in(const std::filesystem::path& file) { return model_of(CheckpointReader(file)); }

std::vector<float> weights_in(const std::filesystem::path& file) {
  const CheckpointReader reader(file);
  return read_weights(reader, model_of(reader).layout);
}

}  // namespace

TEST_CASE("export and import give the same weights, bit for bit") {
  const bool scalars = GENERATE(false, true);
  const TemporaryFolder folder;
  const auto from = folder.path() / "from.h5", out = folder.path() / "model",
             back = folder.path() / "back.h5";
  write_checkpoint(from, scalars);
  const auto exported = spillway_command({"export", from.string(), "--out", out.string()});
  INFO(exported.output);
  REQUIRE(exported.status == 0);
  CHECK(contains(exported.output, "transformers' NanoChatForCausalLM cannot hold") == scalars);
  CHECK(contains(exported.output, "no tokenizer was found"));
  const auto imported = spillway_command({"import", out.string(), "--out", back.string()});
  INFO(imported.output);
  REQUIRE(imported.status == 0);
  CHECK(model_in(back).spec == model_in(from).spec);
  const auto before = weights_in(from), after = weights_in(back);
  REQUIRE(before.size() == after.size());
  CHECK(std::memcmp(before.data(), after.data(), before.size() * sizeof(float)) == 0);
  const auto verified = spillway_command({"verify", back.string()});
  INFO(verified.output);
  CHECK(verified.status == 0);
  const auto again = spillway_command({"import", out.string(), "--out", back.string()});
  CHECK(again.status == 64);
  CHECK(contains(again.output, "is there already"));
}

TEST_CASE("without scalars, names and settings are those of NanoChatForCausalLM") {
  const TemporaryFolder folder;
  write_checkpoint(folder.path() / "from.h5", false);
  const CheckpointReader reader(folder.path() / "from.h5");
  export_model(reader, model_of(reader), nullptr, folder.path() / "model");
  const SafetensorsFile file(folder.path() / "model" / "model.safetensors");
  CHECK(file.names() == std::vector<std::string>{
                            "lm_head.weight", "model.embed_tokens.weight", "model.layers.0.mlp.fc1.weight",
                            "model.layers.0.mlp.fc2.weight", "model.layers.0.self_attn.k_proj.weight",
                            "model.layers.0.self_attn.o_proj.weight",
                            "model.layers.0.self_attn.q_proj.weight",
                            "model.layers.0.self_attn.v_proj.weight"});
  std::vector<float> fc1(64 * 16);
  file.read("model.layers.0.mlp.fc1.weight", {64, 16}, fc1);
  CHECK(fc1 == reader.read_floats("/model/transformer.h.0.mlp.c_fc.weight"));
  const json config = json::parse(read_bytes(folder.path() / "model" / "config.json"));
  CHECK(config.at("architectures") == json({"NanoChatForCausalLM"}));
  CHECK(config.at("hidden_size") == 16);
  CHECK(config.at("intermediate_size") == 64);
  CHECK(config.at("rms_norm_eps") == 1.1920929e-07);
  CHECK(config.at("hidden_act") == "relu2");
}

TEST_CASE("bfloat16 weights are imported exactly") {
  const TemporaryFolder folder;
  const auto file = folder.path() / "half.safetensors";
  const std::uint16_t values[] = {0x3f80, 0xc000, 0x0001};  // 1, −2, the smallest subnormal
  write_bytes(file, safetensors_bytes(R"({"w":{"dtype":"BF16","shape":[3],"data_offsets":[0,6]}})",
                                      std::string(reinterpret_cast<const char*>(values), 6)));
  std::vector<float> found(3);
  SafetensorsFile(file).read("w", {3}, found);
  CHECK(found[0] == 1.0f);
  CHECK(found[1] == -2.0f);
  CHECK(found[2] == 0x1p-133f);
}

TEST_CASE("hostile safetensors files are refused with one line") {
  const TemporaryFolder folder;
  const auto file = folder.path() / "bad.safetensors";
  const std::string four(4, '\0');
  const auto check = [&](const std::string& bytes, const std::string& message) {
    write_bytes(file, bytes);
    try {
      const SafetensorsFile opened(file);
      FAIL("accepted; expected: " << message);
    } catch (const Error& error) {
      INFO(error.what());
      CHECK(error.code() == ExitCode::bad_data);
      CHECK(contains(error.what(), message));
      CHECK_FALSE(contains(error.what(), "\n"));
      CHECK(std::strlen(error.what()) < 600);
    }
  };
  check("", "shorter than a safetensors header");
  check(std::string(7, 'x'), "shorter than a safetensors header");
  check(std::string(8, '\xff'), "claims a header of 18446744073709551615 bytes");
  check(std::string("\x00\x00\x00\x10\x00\x00\x00\x00", 8) + "{}", "claims a header of 268435456 bytes");
  check(safetensors_bytes("{"), "its header is damaged");
  check(safetensors_bytes("[1]"), "not a JSON object");
  check(safetensors_bytes(std::string(100000, '[')), "its header is damaged");
  check(safetensors_bytes("{\"a\nb\":1}"), "its header is damaged");
  check(safetensors_bytes(R"({"w":{"dtype":"F32","shape":[1]}})", four), "its header is damaged");
  check(safetensors_bytes(R"({"w":{"dtype":"F31","shape":[1],"data_offsets":[0,4]}})", four),
        "unknown type \"F31\"");
  check(safetensors_bytes(R"({"w":{"dtype":"F32","shape":[1e300],"data_offsets":[0,4]}})", four),
        "a size is not a whole number");
  check(safetensors_bytes(R"({"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", four),
        "does not fit the file");
  check(safetensors_bytes(R"({"w":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}})", four),
        "does not fit");
  check(safetensors_bytes(R"({"w":{"dtype":"F32","shape":[1],"data_offsets":[-4,0]}})", four),
        "does not fit");
  check(safetensors_bytes(R"({"w":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}})"),
        "does not fit the file");
  check(safetensors_bytes(R"({"w":{"dtype":"F32","shape":[1,1,1,1,1,1,1,1,1],"data_offsets":[0,4]}})", four),
        "does not fit");
  check(safetensors_bytes(R"({"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", four + "x"),
        "bytes that belong to no tensor");
  check(safetensors_bytes(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
                          R"("b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})",
                          four),
        "overlap or leave gaps");
  check(safetensors_bytes(R"({"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},)"
                          R"("a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})",
                          four),
        "the name \"a\" is there twice");
}

TEST_CASE("mutated safetensors files are read as they are or refused") {
  const TemporaryFolder folder;
  write_checkpoint(folder.path() / "from.h5", true);
  const CheckpointReader reader(folder.path() / "from.h5");
  const CheckpointModel model = model_of(reader);
  export_model(reader, model, nullptr, folder.path() / "model");
  const std::string whole = read_bytes(folder.path() / "model" / "model.safetensors");
  std::mt19937 random(11);
  INFO("seed 11");
  const auto file = folder.path() / "mutated.safetensors";
  int refused = 0;
  for (int i = 0; i < 500; ++i) {
    std::string bytes = whole;
    if (i % 3 == 0) bytes.resize(random() % bytes.size());
    for (int flips = i % 3 == 0 ? 0 : 1 + i % 4; flips > 0; --flips)
      bytes[random() % 1500] ^= static_cast<char>(1 << random() % 8);
    write_bytes(file, bytes);
    try {
      const auto weights = read_exported_weights(SafetensorsFile(file), model);
      REQUIRE(weights.size() == static_cast<std::size_t>(model.layout.total));
    } catch (const Error& error) {
      ++refused;
      REQUIRE(error.code() == ExitCode::bad_data);
      REQUIRE_FALSE(contains(error.what(), "\n"));
    }
  }
  CHECK(refused > 400);
}

TEST_CASE("spillway import names what is wrong with a folder") {
  const TemporaryFolder folder;
  write_checkpoint(folder.path() / "from.h5", false);
  const CheckpointReader reader(folder.path() / "from.h5");
  export_model(reader, model_of(reader), nullptr, folder.path() / "model");
  const auto config_file = folder.path() / "model" / "config.json";
  const json config = json::parse(read_bytes(config_file));
  const auto check = [&](const std::string& text, const std::string& message) {
    write_bytes(config_file, text);
    const auto result = spillway_command(
        {"import", (folder.path() / "model").string(), "--out", (folder.path() / "new.h5").string()});
    INFO(result.output);
    CHECK(result.status == 65);
    CHECK(contains(result.output, message));
    CHECK_FALSE(std::filesystem::exists(folder.path() / "new.h5"));
  };
  const auto changed = [&](const char* key, const json& value) {
    json other = config;
    other[key] = value;
    return other.dump();
  };
  check("{", "config.json: not a JSON object");
  check(std::string(2 << 20, ' '), "more than a MiB");
  check("{}", "num_hidden_layers is missing or not a size");
  check(changed("hidden_size", 1e30), "hidden_size is missing or not a size");
  check(changed("hidden_size", 1 << 29), "config.json: ");
  check(changed("num_hidden_layers", 100000), "model.layers = 100000: must be between 1 and 4096");
  check(changed("num_hidden_layers", 4000), "tensor model.layers.1.self_attn.q_proj.weight is missing");
  check(changed("vocab_size", 65),
        "model.embed_tokens.weight is (64, 16) but the model's sizes want (65, 16)");
  check(changed("model_type", "llama"), "model_type = \"llama\"; this program's models have \"nanochat\"");
  check(changed("num_key_value_heads", 7), "num_key_value_heads = 7");
  check(changed("rope_parameters", {{"rope_theta", 5e5}}), "rope_theta = 500000");
  std::filesystem::remove(folder.path() / "model" / "model.safetensors");
  check(config.dump(), "model.safetensors: no such file");
}
