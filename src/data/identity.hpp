// Which data a folder holds: sites of one run must train on the same tokens.
#pragma once

#include <filesystem>
#include <string>

namespace spillway {

// xxh3-128, hex, over the training and the held-out stream: their lengths and their tokens, all of them up to 2^24, of
// longer ones 4096 stretches of 1024 tokens at even distances. How the streams are cut into shards makes no difference.
// Finds another text, tokenizer or order, not a single changed token of a long stream. Throws Error(bad_data) where the
// folder has no shards.
std::string data_digest(const std::filesystem::path& folder);

}  // namespace spillway
