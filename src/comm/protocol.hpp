// The control protocol between hub and members (sites, the vault, observers), and between a site's leader and
// its courier.
//
// One JSON object per line over TCP (hub ↔ courier) or a socket pair (courier ↔ leader). The courier relays
// what concerns rounds and data, and itself acts on what concerns epochs (gateways). Lines are at most
// kMaxLine bytes.
//
//   epoch   a membership of gateways that share one MPI communicator; a change of membership makes a new
//   epoch round   local training of all members of an epoch on one committed model version, ended by one
//   merge version number of the committed model: 0 is the initialization from the seed; each committed round
//   adds one
//
//   member                                   hub
//   hello ─────────────────────────────────▶ (or refuse)
//          ◀─────────────────────────────── welcome
//   lease_request ─────────────────────────▶
//          ◀─────────────────────────────── lease
//          ◀─────────────────────────────── epoch         courier starts its gateway
//   formed ────────────────────────────────▶
//          ◀─────────────────────────────── sync          members behind the newest version receive it
//   synced ────────────────────────────────▶
//          ◀─────────────────────────────── finish        end the round at the next step boundary
//   ready ─────────────────────────────────▶
//          ◀─────────────────────────────── go            leaders fill their mailbox (prepared),
//                                                         gateways exchange, leaders compute the candidate
//   done (hash of the candidate) ──────────▶              all equal → journal, fsync
//          ◀─────────────────────────────── commit
//          ◀─────────────────────────────── stop | abort  the epoch ends, planned | by failure
//   stopped | fail ────────────────────────▶
//   window, heartbeat, bye ────────────────▶ ◀─ heartbeat, outcome, complete, status
#pragma once

#include <nlohmann/json.hpp>

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "core/clock.hpp"

namespace spillway {

inline constexpr int kProtocolVersion = 6;
inline constexpr std::size_t kMaxLine = 1 << 20;
inline constexpr std::size_t kMaxMembers = 64;    // entries of any list or map of members
inline constexpr std::size_t kMaxRanges = 8'000;  // of one list of blocks: three such lists fit into a line
inline constexpr std::size_t kMaxNumbers = 4096;  // of one list of measurements
inline constexpr int kMaxStreams = 16;            // of an epoch

using BlockRanges = std::vector<std::pair<std::int64_t, std::int64_t>>;  // half-open, ordered, disjoint

// The committed model as all members agree on it.
struct CommittedModel {
  std::int64_t version = 0;
  std::int64_t blocks = 0;  // optimizer steps' worth of data merged so far = global step of the schedules
  std::string hash;         // xxh3-128, hex, over parameters and outer velocity; empty for version 0
};

// What a member says of its Δ before it is merged (optim/delta.hpp). All 0 where it has not trained.
struct DeltaReport {
  bool finite = true;                // else the norms mean nothing
  double norm = 0;                   // Euclidean, over all parameters
  std::vector<double> tensor_norms;  // per tensor, in layout order
  std::vector<double> sketch;        // for cosines between members
};

// --- member → hub ---

struct Hello {
  int protocol = kProtocolVersion;
  std::string member;  // the site's name; unique among live members
  std::string role;    // "site", "vault" or "observer" (receives status only)
  std::string run;     // digest of what all sites must share: model, data order, schedule, seed
  std::string data;    // digest of the tokens it trains on; empty: it has none (the vault, perhaps)
  std::string probe;   // address:port where the member's courier answers TCP probes; the courier fills it in
  bool open = false;   // window open: wants to train
  CommittedModel model;                           // what this member holds
  BlockRanges consumed;                           // blocks trained on since that version, not yet committed
  BlockRanges pending;                            // those of them that the exchange in doubt is about
  BlockRanges leased;                             // blocks leased and not yet trained on
  std::int64_t doubt_epoch = 0, doubt_round = 0;  // an exchange was done but its commit not seen; 0: none
};
// The member's window opened, or closes: a planned leave ends the round early. Also the answer to Welcome.
struct WindowChange {
  bool open = false;
  double closes_unix_s = 0;  // simulated; 0: unknown
};
struct LeaseRequest {
  std::int64_t blocks = 0;
};
struct Ready {             // the member has ended its local round and written its contribution
  std::int64_t round = 0;  // of Finish; 0 if the member ends its round on its own: it will be asked by Finish
  std::int64_t version = 0;  // the committed version that the round began with
  std::int64_t tokens = 0;   // trained in this round: the weight
  BlockRanges consumed;
  DeltaReport delta;      // with the answer to a Finish
  nlohmann::json energy;  // the site's energy ledger so far, for the journal; null: none
};
struct Formed {
  std::int64_t epoch = 0;
  double seconds = 0;
};
struct Synced {  // model received and checked; epoch 0: found on this member's own disk
  std::int64_t epoch = 0;
  CommittedModel model;
};
struct Done {
  std::int64_t epoch = 0, round = 0;
  std::string hash;         // of the candidate version
  double seconds = 0;       // of the exchange
  bool trained_on = false;  // blocks trained on since the round's end wait for the next merge
};
struct Fail {
  std::int64_t epoch = 0;
  std::string reason;
  std::string peer;  // whom this member suspects; may be empty
};
struct Stopped {
  std::int64_t epoch = 0;
};
struct MemberHeartbeat {
  std::map<std::string, bool> reach;  // TCP probes of the other couriers
  nlohmann::json
      progress;  // for display: state, step, loss, tokens_per_s, window_left_s, intensity_g_per_kwh …
  bool silent =
      false;  // the leader's process gives no sign of life, but the courier does; see Mailbox::beat()
};
struct Bye {  // leaving for good in this window; connection closes next
  std::string reason;
};

// --- hub → member ---

// Answer to Hello; and again, with keep_local = false, where the hub takes back what a member holds.
struct Welcome {
  ClockSpec clock;
  CommittedModel committed;
  bool complete = false;  // the run has reached its target
  bool keep_local =
      false;  // the uncommitted blocks named in hello were re-adopted: go on from the local state
};
struct Refuse {
  int exit_code = 70;  // for the member's process
  std::string reason;
};
// Answer to LeaseRequest, perhaps late. Empty: nothing left at the moment; then a second one follows without having
// been asked for, once there is something.
struct Lease {
  BlockRanges blocks;
};
struct Epoch {
  std::int64_t epoch = 0;
  std::string name_server;           // URI of the epoch's ompi-server
  std::vector<std::string> members;  // in rank order
  int index = 0;                     // the receiver's rank
  // Each member has so many gateways. Those of one number share a communicator, and exchange their part of each vector.
  int streams = 1;
  int stream = 0;  // the receiving gateway's number; the courier fills it in
};
struct Sync {  // root sends parameters and velocity to the targets; others take no part
  std::int64_t epoch = 0;
  CommittedModel model;
  int root = 0;
  std::vector<int> targets;
};
struct Finish {
  std::int64_t round = 0;
};
struct Go {
  std::int64_t epoch = 0, round = 0;
  std::string merge;            // "adopt" (root's parameters), "nesterov" or "average"
  int root = 0;                 // adopt: whose parameters
  std::vector<double> weights;  // per rank, sum 1; 0 for the vault
  bool reset_velocity = false;  // entering federation: v = 0 first
  CommittedModel next;          // version and blocks after the commit (hash still empty)
  std::string wire = "fp32";    // nesterov, average: how Δ travels (comm/wire.hpp)
};
struct Commit {
  std::int64_t epoch = 0, round = 0;
  CommittedModel model;
};
struct Outcome {  // answer to a doubt in hello; or, not committed, of a round without work
  std::int64_t epoch = 0, round = 0;
  bool committed = false;
};
struct Stop {
  std::int64_t epoch = 0;
};
struct Abort {
  std::int64_t epoch = 0;
  std::string reason;
};
struct Complete {
  CommittedModel model;
};
struct HubHeartbeat {
  ClockSpec clock;
  std::map<std::string, std::string> peers;  // couriers to probe: name → address:port
};
struct Status {  // to observers, once a second and at every change: a JSON document for display
  nlohmann::json snapshot;
};

// --- leader → courier only ---

// Answer of the leader to a relayed Go (every member) or Sync (root and targets): the mailbox now holds what
// is to be sent. The courier starts its gateway's exchange only then. What the leader has written:
//   Go "adopt":                root: its parameters into `contribution`; others nothing
//   Go "nesterov", "average":  every member: Δ = base − local into `contribution`
//   Sync:                      root: committed parameters into `contribution`, outer velocity into `velocity`
struct Prepared {
  std::int64_t epoch = 0;
  std::int64_t round = 0;  // 0: for a Sync
};

// --- courier → leader only ---

struct Exchanged {  // the gateway has finished; the mailbox holds the result
  std::int64_t epoch = 0, round = 0;
  double seconds = 0;
};
struct Received {  // a sync has filled the mailbox
  std::int64_t epoch = 0;
  CommittedModel model;
};
struct HubLost {
  std::string reason;
};
struct HubConnected {};

using Message =
    std::variant<Hello, WindowChange, LeaseRequest, Ready, Formed, Synced, Done, Fail, Stopped,
                 MemberHeartbeat, Bye, Welcome, Refuse, Lease, Epoch, Sync, Finish, Go, Commit, Outcome, Stop,
                 Abort, Complete, HubHeartbeat, Status, Prepared, Exchanged, Received, HubLost, HubConnected>;

// One line without its newline. Throws Error(bad_data) naming the field where decode() would refuse the line:
// a sender's bug shows at the sender.
std::string encode(const Message& message);

// Throws Error(bad_data) naming the field where a line is not a message: not JSON, unknown type, missing or
// surplus field, wrong type, number out of range, list too long.
Message decode(std::string_view line);

}  // namespace spillway
