#include "train/checkpoint_difference.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <sstream>

#include "train/checkpoint_description.hpp"
#include "train/training_state.hpp"

namespace spillway {
namespace {

using nlohmann::json;

// {"model.depth": "20", …}; keys that are commented out are not set.
std::map<std::string, std::string> parse_ini(const std::string& text) {
  std::map<std::string, std::string> values;
  std::istringstream stream(text);
  std::string section;
  for (std::string row; std::getline(stream, row);) {
    if (row.starts_with('[')) section = row.substr(1, row.find(']') - 1);
    const auto equals = row.find(" = ");
    if (row.starts_with('#') || equals == std::string::npos) continue;
    values[section + "." + row.substr(0, equals)] = row.substr(equals + 3);
  }
  return values;
}

// {key: [a, b]} where the two differ.
json differing(const json& a, const json& b) {
  json result = json::object();
  const auto value = [](const json& object, const std::string& key) {
    return object.contains(key) ? object.at(key) : json(nullptr);
  };
  for (const json& side : {a, b})
    for (const auto& [key, unused] : side.items())
      if (value(a, key) != value(b, key)) result[key] = {value(a, key), value(b, key)};
  return result;
}

// Digests of the checkpoints that a training state came from, through all of its site's jobs.
std::set<std::string> ancestors(const json& description) {
  std::set<std::string> digests;
  for (const json& row : description.value("lineage", json::array()))
    if (const auto parent = row.at("parent_digest").get<std::string>(); !parent.empty())
      digests.insert(parent);
  return digests;
}

std::string relation(const json& a, const json& b) {
  const auto digest_a = a.at("digest").get<std::string>(), digest_b = b.at("digest").get<std::string>();
  if (digest_a == digest_b) return "same";
  const auto of_a = ancestors(a), of_b = ancestors(b);
  if (of_a.contains(digest_b)) return "a continues b";
  if (of_b.contains(digest_a)) return "b continues a";
  if (std::any_of(of_a.begin(), of_a.end(), [&](const auto& digest) { return of_b.contains(digest); }))
    return "common ancestor";
  return a.value("run", json("a")) == b.value("run", json("b")) ? "same run, no common checkpoint"
                                                                : "unrelated";
}

json number_or_null(double value) { return std::isfinite(value) ? json(value) : json(nullptr); }

// Both files side by side, piece by piece.
json compare_tensor(const CheckpointReader& a, const CheckpointReader& b, const DatasetInfo& info) {
  double squares = 0, reference = 0, largest = 0;
  DatasetStream pieces_a = a.stream(info.path), pieces_b = b.stream(info.path);
  for (;;) {
    const auto piece_a = as_floats(pieces_a.next()), piece_b = as_floats(pieces_b.next());
    if (piece_a.empty()) break;
    for (std::size_t i = 0; i < piece_a.size(); ++i) {
      const double difference = static_cast<double>(piece_a[i]) - piece_b[i];
      squares += difference * difference;
      reference += static_cast<double>(piece_a[i]) * piece_a[i];
      // Not std::max: that would drop a NaN.
      if (!(std::abs(difference) <= largest)) largest = std::abs(difference);
    }
  }
  return {{"name", info.path.substr(1)},
          {"relative", number_or_null(std::sqrt(squares / reference))},
          {"max_abs", number_or_null(largest)}};
}

// Throws where the data of a dataset do not match their checksum.
void read_through(const CheckpointReader& a, const CheckpointReader& b, const std::string& path) {
  for (const CheckpointReader* reader : {&a, &b}) {
    if (!reader->has(path)) continue;
    DatasetStream pieces = reader->stream(path);
    while (!pieces.next().empty()) continue;
  }
}

// Whether both have the dataset with equal contents, as far as shape, type and stored checksum tell.
bool stored_alike(const CheckpointReader& a, const CheckpointReader& b, const std::string& path) {
  if (!a.has(path) || !b.has(path)) return false;
  const DatasetInfo &info_a = a.info(path), &info_b = b.info(path);
  return info_a.shape == info_b.shape && info_a.type == info_b.type && info_a.checksum == info_b.checksum;
}

// The row of a tensor that differs; reads it in both.
json compare_dataset(const CheckpointReader& a, const CheckpointReader& b, const std::string& path) {
  json row = {{"name", path.substr(1)}};
  if (!a.has(path) || !b.has(path)) {
    row["only_in"] = a.has(path) ? "a" : "b";
  } else {
    const DatasetInfo &info_a = a.info(path), &info_b = b.info(path);
    if (info_a.shape == info_b.shape && info_a.type == info_b.type) return compare_tensor(a, b, info_a);
    row["unlike"] = {info_a.type + shape_text(info_a.shape), info_b.type + shape_text(info_b.shape)};
  }
  read_through(a, b, path);
  return row;
}

// Unlike ones first, then by relative difference, not finite ones before all others.
double rank_of(const json& row) {
  if (!row.contains("relative")) return HUGE_VAL;
  return row.at("relative").is_null() ? HUGE_VAL : row.at("relative").get<double>();
}

// Datasets by path, each with whether it is a tensor.
std::map<std::string, bool> datasets_of(const CheckpointReader& a, const CheckpointReader& b) {
  std::map<std::string, bool> tensors;
  for (const CheckpointReader* reader : {&a, &b})
    for (const DatasetInfo& info : reader->datasets()) tensors[info.path] |= info.type == "float32";
  return tensors;
}

void compare_datasets(const CheckpointReader& a, const CheckpointReader& b, Checksums checksums,
                      json& result) {
  std::vector<json> rows;
  json others = json::array();
  int equal = 0;
  for (const auto& [path, tensor] : datasets_of(a, b)) {
    const bool alike = stored_alike(a, b, path);
    if (!alike && tensor) {
      rows.push_back(compare_dataset(a, b, path));
      continue;
    }
    if (!alike) others.push_back(path.substr(1));
    if (alike && tensor) ++equal;
    if (!alike || checksums == Checksums::compared) read_through(a, b, path);
  }
  std::stable_sort(rows.begin(), rows.end(),
                   [](const json& x, const json& y) { return rank_of(x) > rank_of(y); });
  result["identical"] = rows.empty() && others.empty();
  result["tensors"] = rows;
  result["tensors_equal"] = equal;
  result["others"] = others;
}

}  // namespace

json compare_checkpoints(const CheckpointReader& a, const CheckpointReader& b, Checksums checksums) {
  const json description_a = describe_checkpoint(a, {}), description_b = describe_checkpoint(b, {});
  json result = {{"a", a.file().string()}, {"b", b.file().string()}};
  result["checksums"] = checksums == Checksums::trusted ? "trusted" : "compared";
  result["lineage"] = relation(description_a, description_b);
  result["config"] = differing(parse_ini(read_config_text(a)), parse_ini(read_config_text(b)));
  result["progress"] = differing(description_a.at("progress"), description_b.at("progress"));
  result["sizes"] = differing(description_a.at("sizes"), description_b.at("sizes"));
  compare_datasets(a, b, checksums, result);
  return result;
}

}  // namespace spillway
