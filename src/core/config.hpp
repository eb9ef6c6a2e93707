// The resolved configuration: plain data, one struct per section. src/cli/keys.cpp is the only place that reads it
// and holds the help text of every key; here are types, units and defaults.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace spillway {

struct ModelConfig {
  int depth = 20;       // nanochat's dial: layers = depth, width = 64·depth, heads = ceil(width / 128)
  int layers = 0;       // 0: from depth
  int width = 0;        // 0: from depth
  int heads = 0;        // 0: from the width
  int vocab = 0;        // 0: from the data
  int sequence = 2048;  // tokens
  bool scalars = true;  // learned λr and λ0
};

struct DataConfig {
  std::string dir;  // token shards train_*.bin, val_*.bin and, where known, tokenizer.model
};

struct TrainConfig {
  std::string device = "cpu";
  std::int64_t steps = 23400;             // optimizer steps of the whole run, over all sites
  std::int64_t tokens_per_step = 524288;  // global batch of one optimizer step, in tokens
  int micro_batch = 0;                    // sequences per rank and forward pass; 0: auto, the most that fit
  std::uint64_t seed = 1;
  int threads = 0;      // per rank; 0: OMP_NUM_THREADS or all cores
  int log_every = 1;    // steps
  int val_every = 250;  // steps; 0: never
  std::int64_t val_tokens = 262144;
  double checkpoint_every_s = 300;  // real seconds; 0: only when suspending and at the end
  int keep_last = 3;                // checkpoints: the newest so many
  int keep_every = 0;               // and those whose number is a multiple of this; 0: no others
  int checkpoint_writers = 1;       // ranks that write a checkpoint, each a file of its own; at most all
  std::string resume = "auto";      // auto | never | a checkpoint file
  std::int64_t stop_after = 0;      // suspend after this many steps of this process; 0: no limit
  double suspend_deadline_s = 30;   // real seconds to wait for the federation's last merge when suspending
  bool deterministic = false;       // CUDA: the same bits in every run, at some cost in speed
  std::string attention = "auto";   // CUDA: own | cudnn | auto, the faster of the two
  std::string precision = "bf16";   // CUDA: bf16 | fp8, of the blocks' products
};

struct OptimConfig {
  double muon_lr = 0.02;
  double embedding_lr = 0.3;      // scaled by (width/768)^-1/2
  double unembedding_lr = 0.004;  // scaled likewise
  double lambda_r_lr = 0.005;
  double lambda_0_lr = 0.5;
  double weight_decay = 0.2;  // Muon, cautious; scaled by (12/layers)²
  double cooldown = 0.4;      // last part of the steps, over which the learning rate falls to 0
  int momentum_warmup = 300;  // steps over which Muon's momentum rises from 0.85 to muon_momentum
  // How much of the past the optimizers keep. The defaults are for steps of half a million tokens: much smaller steps need
  // longer memories ("How good is it" in the README).
  double muon_momentum = 0.95;
  double muon_beta2 = 0.95;  // of the variance reduction (NorMuon)
  double adam_beta1 = 0.8;
  double adam_beta2 = 0.95;
};

struct SiteConfig {
  std::string name = "local";
  int ranks = 1;             // MPI ranks that `spillway local` starts
  double train_power_w = 0;  // declared power model, used where no meter is readable
  double idle_power_w = 0;
  double pue = 1.0;
  int nodes = 1;                     // that the powers above are of
  int min_nodes = 1;                 // fewer are not worth a start, where excess power limits them
  std::string meter = "auto";        // auto | counters | model
  std::optional<double> host_share;  // of a node's power that its counters do not see
  // At the site's meter: at most so much while it trains; the excess power of [excess], or none.
  std::optional<double> power_cap_w;
  bool power_cap_excess = false;
  bool power_capped() const { return power_cap_excess || power_cap_w.has_value(); }
  double min_power_w = 0;  // capped by the excess: less is not worth a window; 0: half of the training power
  bool idle_outside = false;      // nodes stay on, at idle power, while no job runs
  double embodied_g_per_h = 0;    // declared: hardware's CO2 per hour of a job
  double network_kwh_per_gb = 0;  // declared: energy of the traffic between sites
  double peak_tflops = 0;         // of all devices of the site, for the MFU; 0: known for CUDA, else unknown
  double telemetry_s = 10;        // real seconds between lines of the energy log
};

struct SignalConfig {
  std::string section = "signal";  // of the configuration, for messages
  std::string file;
  std::string region;  // column or region name
  std::string format = "auto";
  std::string timezone;              // for stamps without a zone; empty: what the format says
  std::string column;                // of files with several for a region; empty: the format's first
  std::string unit;                  // of the values; empty: what format or header say
  std::string stamp = "auto";        // auto | start | end of the interval
  std::string duplicates = "first";  // of several samples of one instant: first | last | mean | error
  std::string ambiguous =
      "first";  // an hour that the clock shows twice and the file has once: first | second
  std::string date_order = "auto";  // auto | dmy | mdy

  // Of live signals, which are asked for instead of read once.
  // file | watttime | watttime-index | electricity-maps | uk-carbon-intensity | http; empty: not live
  std::string provider;
  std::string url;                // http: what to get; the others: another host of the same API
  std::string type = "co2_moer";  // watttime's signal_type
  std::string pointer;            // http: JSON pointer to the value
  std::string time_pointer;       // http: JSON pointer to its instant; empty: the time of the answer
  std::string key_file;           // first line: the API's key, or USER:PASSWORD
  std::string key_env;            // the same, as the name of an environment variable
  std::string key_header = "Authorization: Bearer";  // http: header before the key
  std::string ca_file;                               // certificates to trust instead of the system's
  double poll_s = 300;                               // time between two questions
  double hold_s = 900;  // a value still counts this long after its interval; then the site is closed

  bool is_live() const { return !provider.empty(); }
  bool is_set() const { return is_live() || !file.empty(); }

  static SignalConfig of(const char* section) {
    SignalConfig config;
    config.section = section;
    return config;
  }
};

struct GateConfig {
  std::optional<double> open_below;   // in the signal's unit
  std::optional<double> close_above;  // default: open_below
  std::optional<double> percentile;   // open_below := this percentile of the signal
  // For signals of which much is good, such as curtailed power: instead of open_below and close_above.
  std::optional<double> open_above;
  std::optional<double> close_below;
  std::optional<double> average_below;  // of the signal of [average]: windows need both
  double min_length_s = 900;
  double grace_s = 0;   // stay open this long after the signal closes
  bool enforce = true;  // the trainer suspends when its window closes; off where a batch system ends windows
};

// What the simulator and the planner assume of a site, besides its powers.
struct SimulateConfig {
  double tokens = 0;                   // goal of the run
  double tokens_per_s = 0;             // of one site while it trains
  double start_delay_s = 0;            // from the window's opening to the first step, at idle power
  double round_loss = 0;               // part of the time that sites training together lose, at idle power
  std::string outside = "off";         // nodes outside windows: off | idle
  std::string policy = "hysteresis";   // reactive | hysteresis | forecast | foresight | oracle
  std::string forecast = "yesterday";  // yesterday | file
  double confidence = 0.5;             // part of the forecast that must promise an open window
  std::vector<std::string> baseline_sites;  // sites that are compared with, but take no part
  std::uint64_t seed = 1;                   // of random windows
};

struct ClockConfig {
  std::string mode = "real";  // real | replay
  std::string start;          // replay: simulated instant of the start, ISO 8601
  double speed = 1;           // replay: simulated seconds per real second
};

struct FederationConfig {
  std::string hub;               // host:port of the hub; empty: train alone
  std::string interface = "lo";  // network interface(s) of the inter-site traffic, as Open MPI's if_include
  int port_min = 21000;          // first of the TCP ports that gateways use
  int port_count = 1000;
  double round_length_s = 600;    // real seconds of local training between two averages
  int round_steps = 200;          // and at most so many local steps
  double round_deadline_s = 120;  // real seconds to wait for all members' results
  int lease_steps = 50;           // optimizer steps' worth of data leased at a time
  // At learning rates that suit one site, better than the plain average (1 and 0): tests/evidence/quality.py.
  double outer_lr = 0.9;
  double outer_momentum = 0.6;
  double average_last = 0.1;         // last part of the steps, merged by plain average
  std::string compression = "bf16";  // of merges on the link: fp32, bf16 or int8
  bool overlap = false;              // a site trains on while its round is merged
  bool average_optimizer = false;    // merges average the optimizers' states, too; every member alike
  int streams = 1;  // hub: gateways per member, each with a connection of its own to the next
  double heartbeat_s = 1;
  double hub_deadline_s = 60;       // a site that meets no hub within this gives up
  double lost_after_s = 5;          // a silent peer is lost after this
  double exchange_deadline_s = 10;  // an exchange without progress fails after this
  double delta_limit =
      10;                // hub: a delta beyond this multiple of the running median norm is refused; 0: none
  std::string key_file;  // shared key of hub and members, mode 0600; empty: nobody authenticates
  std::string metrics;   // hub: loopback HOST:PORT of metrics and status page; empty: none
};

struct RunConfig {
  std::string dir = "checkpoints/run";
};

struct LocalConfig {
  std::vector<std::string> sites;  // names; each has a section [site.NAME]
  double suspend_lead_s = 1.0;     // real seconds before a window's close at which the site is signalled
  double start_lead_s = 0.0;  // real seconds before a window's opening at which the site's job is started
};

struct Config {
  ModelConfig model;
  DataConfig data;
  TrainConfig train;
  OptimConfig optim;
  SiteConfig site;
  SignalConfig signal;
  // Where the gate's signal is not in g/kWh, or not the one to account with.
  SignalConfig emissions = SignalConfig::of("emissions");
  SignalConfig average = SignalConfig::of("average");    // average intensity beside the marginal one
  SignalConfig excess = SignalConfig::of("excess");      // power that the site may use at most
  SignalConfig forecast = SignalConfig::of("forecast");  // of the gate's signal, for plans
  GateConfig gate;
  SimulateConfig simulate;
  ClockConfig clock;
  FederationConfig federation;
  RunConfig run;
  LocalConfig local;
  std::string
      resolved;  // the whole configuration as INI text, as --print-config shows it; kept in checkpoints
};

}  // namespace spillway
