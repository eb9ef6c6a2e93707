// Proof from a hub's journal that the committed model counts every block of data exactly once.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "comm/protocol.hpp"

namespace spillway {

struct AuditReport {
  std::int64_t starts = 0, rounds = 0;
  std::int64_t steps = 0;          // blocks of the run
  std::int64_t merged_blocks = 0;  // distinct ones
  std::map<std::string, std::int64_t> blocks_of_site;
  CommittedModel committed;
  BlockRanges missing;                  // not merged yet
  std::vector<std::string> violations;  // one sentence each; empty: the journal is sound

  bool complete() const { return missing.empty(); }
};

// Counts anew, without the hub's own bookkeeping (Ledger). Throws Error(bad_data) for entries that are no hub's.
AuditReport audit_entries(const std::vector<nlohmann::json>& entries);
// The same for a journal's file. Throws Error(bad_data) where it is damaged, Error(io) where it cannot be read.
AuditReport audit_journal(const std::filesystem::path& file);

}  // namespace spillway
