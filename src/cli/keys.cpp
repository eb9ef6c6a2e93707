#include "cli/keys.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <sstream>
#include <stdexcept>

#include "core/time.hpp"

namespace spillway::cli {
namespace {

[[noreturn]] void expected(const std::string& what) { throw std::invalid_argument(what); }

double read_number(const std::string& text) {
  try {
    std::size_t used = 0;
    const double value = std::stod(text, &used);
    if (used == text.size()) return value;
  } catch (const std::logic_error&) {
  }
  expected("a number");
}

std::int64_t read_integer(const std::string& text) {
  try {
    std::size_t used = 0;
    const std::int64_t value = std::stoll(text, &used);
    if (used == text.size()) return value;
  } catch (const std::logic_error&) {
  }
  expected("a whole number");
}

// How a value of each type is read and printed. Durations are doubles read by duration_key().
void read(std::string& value, const std::string& text) { value = text; }
void read(double& value, const std::string& text) { value = read_number(text); }
void read(std::optional<double>& value, const std::string& text) { value = read_number(text); }
void read(std::int64_t& value, const std::string& text) { value = read_integer(text); }
void read(int& value, const std::string& text) {
  const std::int64_t wide = read_integer(text);
  value = static_cast<int>(wide);
  if (value != wide) expected("a whole number below 2^31");
}
void read(std::uint64_t& value, const std::string& text) {
  const std::int64_t wide = read_integer(text);
  if (wide < 0) expected("a whole number, not negative");
  value = static_cast<std::uint64_t>(wide);
}
void read(bool& value, const std::string& text) {
  if (text == "on" || text == "true" || text == "yes" || text == "1")
    value = true;
  else if (text == "off" || text == "false" || text == "no" || text == "0")
    value = false;
  else
    expected("on or off");
}
void read(std::vector<std::string>& value, const std::string& text) {
  value.clear();
  std::stringstream stream(text);
  for (std::string part; std::getline(stream, part, ',');) {
    const auto first = part.find_first_not_of(" \t");
    if (first == std::string::npos) continue;
    value.push_back(part.substr(first, part.find_last_not_of(" \t") - first + 1));
  }
}

std::string print(const std::string& value) { return value; }
std::string print(double value) { return fmt::format("{}", value); }
std::string print(const std::optional<double>& value) { return value ? print(*value) : ""; }
std::string print(std::int64_t value) { return fmt::format("{}", value); }
std::string print(int value) { return fmt::format("{}", value); }
std::string print(std::uint64_t value) { return fmt::format("{}", value); }
std::string print(bool value) { return value ? "on" : "off"; }
std::string print(const std::vector<std::string>& value) { return fmt::format("{}", fmt::join(value, ",")); }

template <class Section, class Value>
Key key(const char* name, Section Config::*section, Value Section::*member, const char* help) {
  return {name, help, [=](Config& c, const std::string& text) { read(c.*section.*member, text); },
          [=](const Config& c) { return print(c.*section.*member); }};
}

template <class Section>
Key duration_key(const char* name, Section Config::*section, double Section::*member, const char* help) {
  return {name, help,
          [=](Config& c, const std::string& text) {
            const auto seconds = parse_duration(text);
            if (!seconds || *seconds < 0) expected("a duration such as 90s, 15m or 2h");
            c.*section.*member = *seconds;
          },
          [=](const Config& c) { return format_duration(c.*section.*member); }};
}

Key micro_batch_key() {
  return {"train.micro-batch", "sequences per rank and forward pass; auto: as many as memory holds",
          [](Config& c, const std::string& text) {
            if (text == "auto")
              c.train.micro_batch = 0;
            else if (read(c.train.micro_batch, text); c.train.micro_batch < 1)
              expected("auto or a positive whole number");
          },
          [](const Config& c) {
            return c.train.micro_batch == 0 ? std::string("auto") : print(c.train.micro_batch);
          }};
}

// A power: 1.5kW, 800W; a bare number is kW.
double read_power_w(std::string text) {
  double unit_w = 1000;
  if (text.ends_with("kW")) {
    text.resize(text.size() - 2);
  } else if (text.ends_with("W")) {
    text.resize(text.size() - 1);
    unit_w = 1;
  }
  const double power_w = read_number(text) * unit_w;
  if (!(power_w > 0) || power_w > 1e9) expected("a power such as 1.5kW or 800W, more than 0");
  return power_w;
}

Key power_cap_key() {
  return {"site.power-cap",
          "most power while training, at the site's meter: 1.5kW, 800W, or excess: that of [excess]",
          [](Config& c, const std::string& text) {
            c.site.power_cap_excess = text == "excess";
            c.site.power_cap_w.reset();
            if (!text.empty() && text != "excess") c.site.power_cap_w = read_power_w(text);
          },
          [](const Config& c) {
            if (c.site.power_cap_excess) return std::string("excess");
            return c.site.power_cap_w ? print(*c.site.power_cap_w) + "W" : std::string();
          }};
}

Key min_power_key() {
  return {
      "site.min-power", "power-cap = excess: a window needs so much; default: half of the training power",
      [](Config& c, const std::string& text) { c.site.min_power_w = text.empty() ? 0 : read_power_w(text); },
      [](const Config& c) {
        return c.site.min_power_w > 0 ? print(c.site.min_power_w) + "W" : std::string();
      }};
}

// The keys of a section [signal], [average] …
Key signal_key(const std::string& section, SignalConfig Config::*signal, const char* name,
               std::string SignalConfig::*member, const std::string& help) {
  Key added = key("", signal, member, "");
  added.name = section + "." + name;
  added.help = help;
  return added;
}

// How a live signal is asked for; the same for every signal of a site.
void add_provider_keys(const std::string& section, SignalConfig Config::*signal, std::vector<Key>* table) {
  const auto add = [&](const char* name, std::string SignalConfig::*member, const char* help) {
    table->push_back(signal_key(section, signal, name, member, help));
  };
  const auto add_duration = [&](const char* name, double SignalConfig::*member, const char* help) {
    Key added = duration_key("", signal, member, help);
    added.name = section + "." + name;
    table->push_back(std::move(added));
  };
  add("provider", &SignalConfig::provider,
      "live: file, watttime, watttime-index, electricity-maps, uk-carbon-intensity or http");
  add("url", &SignalConfig::url, "http: what to get; else another host of the provider's API");
  add("type", &SignalConfig::type, "watttime: co2_moer, co2_aoer or health_damage");
  add("pointer", &SignalConfig::pointer, "http: JSON pointer to the value, e.g. /data/0/value");
  add("time-pointer", &SignalConfig::time_pointer,
      "http: JSON pointer to the value's instant; default: when it came");
  add("key-file", &SignalConfig::key_file, "file with the API's key; watttime: USER:PASSWORD");
  add("key-env", &SignalConfig::key_env, "environment variable with the same");
  add("key-header", &SignalConfig::key_header, "http: header before the key, e.g. X-Api-Key:");
  add("ca-file", &SignalConfig::ca_file, "certificates to trust instead of the system's");
  add_duration("poll", &SignalConfig::poll_s, "live: time between two questions");
  add_duration("hold", &SignalConfig::hold_s,
               "live: a value counts this long after its interval, then it is unknown");
}

// The keys of a signal that is read beside the gate's.
void add_signal_keys(const std::string& section, SignalConfig Config::*signal, const std::string& help,
                     std::vector<Key>* table) {
  const auto add = [&](const char* name, std::string SignalConfig::*member, const std::string& text) {
    table->push_back(signal_key(section, signal, name, member, text));
  };
  add("file", &SignalConfig::file, help);
  add("region", &SignalConfig::region, "its region");
  add("column", &SignalConfig::column, "its column");
  add("unit", &SignalConfig::unit, "its unit");
  add("timezone", &SignalConfig::timezone, "zone of its stamps");
}

// The keys of a section one after the other: an INI file with a section twice is refused by other programs.
void group_by_section(std::vector<Key>* table) {
  std::map<std::string, std::size_t> places;
  for (const Key& k : *table) places.emplace(k.section(), places.size());
  std::stable_sort(table->begin(), table->end(), [&](const Key& a, const Key& b) {
    return places.at(a.section()) < places.at(b.section());
  });
}

std::vector<Key> make_keys() {
  using C = Config;
  std::vector<Key> table = {
      key("model.depth", &C::model, &ModelConfig::depth,
          "layers; width and heads follow (nanochat's dN presets)"),
      key("model.layers", &C::model, &ModelConfig::layers, "layers, instead of depth"),
      key("model.width", &C::model, &ModelConfig::width, "width, instead of 64 x depth"),
      key("model.heads", &C::model, &ModelConfig::heads, "attention heads, instead of width/128 rounded up"),
      key("model.vocab", &C::model, &ModelConfig::vocab, "vocabulary size; 0: from the data"),
      key("model.sequence", &C::model, &ModelConfig::sequence, "sequence length in tokens"),
      key("model.scalars", &C::model, &ModelConfig::scalars, "learned residual scalars: on or off"),
      key("data.dir", &C::data, &DataConfig::dir, "folder with token shards train_*.bin and val_*.bin"),
      key("train.device", &C::train, &TrainConfig::device, "cpu or cuda"),
      key("train.steps", &C::train, &TrainConfig::steps,
          "optimizer steps of the whole run, all sites together"),
      key("train.tokens-per-step", &C::train, &TrainConfig::tokens_per_step, "tokens of one optimizer step"),
      micro_batch_key(),
      key("train.seed", &C::train, &TrainConfig::seed, "seed of initialization and data order"),
      key("train.threads", &C::train, &TrainConfig::threads,
          "threads per rank; 0: OMP_NUM_THREADS or all cores"),
      key("train.log-every", &C::train, &TrainConfig::log_every, "steps between progress lines"),
      key("train.val-every", &C::train, &TrainConfig::val_every, "steps between validations; 0: never"),
      key("train.val-tokens", &C::train, &TrainConfig::val_tokens, "held-out tokens of one validation"),
      duration_key("train.checkpoint-every", &C::train, &TrainConfig::checkpoint_every_s,
                   "real time between checkpoints; 0: only at suspend and end"),
      key("train.keep-last", &C::train, &TrainConfig::keep_last, "checkpoints kept: the newest so many"),
      key("train.keep-every", &C::train, &TrainConfig::keep_every,
          "and each whose number is a multiple of this, for ever; 0: no others"),
      key("train.checkpoint-writers", &C::train, &TrainConfig::checkpoint_writers,
          "ranks that write a checkpoint, each a file of its own; at most all of them"),
      key("train.resume", &C::train, &TrainConfig::resume,
          "auto (newest valid checkpoint), never, or a file"),
      key("train.stop-after", &C::train, &TrainConfig::stop_after,
          "suspend after this many steps of this process; 0: no limit"),
      duration_key("train.suspend-deadline", &C::train, &TrainConfig::suspend_deadline_s,
                   "real time to wait for the federation's last merge when suspending"),
      key("train.deterministic", &C::train, &TrainConfig::deterministic,
          "bit-identical repeats on CUDA: on or off"),
      key("train.attention", &C::train, &TrainConfig::attention,
          "attention on CUDA: own, cudnn, or auto, the faster of the two"),
      key("train.precision", &C::train, &TrainConfig::precision,
          "products of the blocks on CUDA: bf16, or fp8 (faster, less precise)"),
      key("optim.muon-lr", &C::optim, &OptimConfig::muon_lr, "learning rate of Muon (block matrices)"),
      key("optim.embedding-lr", &C::optim, &OptimConfig::embedding_lr, "AdamW, wte, at width 768"),
      key("optim.unembedding-lr", &C::optim, &OptimConfig::unembedding_lr, "AdamW, lm_head, at width 768"),
      key("optim.lambda-r-lr", &C::optim, &OptimConfig::lambda_r_lr, "AdamW, resid_lambdas"),
      key("optim.lambda-0-lr", &C::optim, &OptimConfig::lambda_0_lr, "AdamW, x0_lambdas"),
      key("optim.weight-decay", &C::optim, &OptimConfig::weight_decay,
          "cautious weight decay of Muon, at 12 layers"),
      key("optim.cooldown", &C::optim, &OptimConfig::cooldown,
          "last part of the steps with falling learning rate"),
      key("optim.momentum-warmup", &C::optim, &OptimConfig::momentum_warmup,
          "steps over which Muon's momentum rises from 0.85 to muon-momentum"),
      key("optim.muon-momentum", &C::optim, &OptimConfig::muon_momentum,
          "momentum of Muon; closer to 1 for steps of few tokens"),
      key("optim.muon-beta2", &C::optim, &OptimConfig::muon_beta2,
          "decay of the variances that Muon divides by"),
      key("optim.adam-beta1", &C::optim, &OptimConfig::adam_beta1, "decay of AdamW's first moment"),
      key("optim.adam-beta2", &C::optim, &OptimConfig::adam_beta2, "decay of AdamW's second moment"),
      key("site.name", &C::site, &SiteConfig::name, "this site's name; selects the section [site.NAME]"),
      key("site.ranks", &C::site, &SiteConfig::ranks, "MPI ranks that `spillway local` starts for the site"),
      key("site.train-power", &C::site, &SiteConfig::train_power_w, "declared power while training, W"),
      key("site.idle-power", &C::site, &SiteConfig::idle_power_w, "declared power while waiting, W"),
      key("site.pue", &C::site, &SiteConfig::pue, "power usage effectiveness of the site"),
      key("site.nodes", &C::site, &SiteConfig::nodes, "nodes that the declared powers are of"),
      key("site.min-nodes", &C::site, &SiteConfig::min_nodes,
          "a window needs excess power for so many nodes"),
      power_cap_key(),
      min_power_key(),
      key("site.meter", &C::site, &SiteConfig::meter,
          "counters (NVML, RAPL), model (declared power), or auto"),
      key("site.host-share", &C::site, &SiteConfig::host_share,
          "part of a node's power that its counters do not see, e.g. 0.25"),
      key("site.idle-outside", &C::site, &SiteConfig::idle_outside,
          "nodes idle while no job runs (reported apart): on or off"),
      key("site.embodied", &C::site, &SiteConfig::embodied_g_per_h,
          "declared CO2 of making the hardware, g per hour of a job"),
      key("site.network-energy", &C::site, &SiteConfig::network_kwh_per_gb,
          "declared energy of traffic between sites, kWh per GB"),
      key("site.peak-tflops", &C::site, &SiteConfig::peak_tflops,
          "peak of all devices of the site, for the MFU; 0: H100's for CUDA, else unknown"),
      duration_key("site.telemetry-every", &C::site, &SiteConfig::telemetry_s,
                   "real time between lines of the energy log"),
      key("signal.file", &C::signal, &SignalConfig::file, "file with the grid signal"),
      key("signal.region", &C::signal, &SignalConfig::region, "region (column) of the signal"),
      key("signal.format", &C::signal, &SignalConfig::format,
          "auto, or a name that `spillway signal formats` lists"),
      key("signal.timezone", &C::signal, &SignalConfig::timezone,
          "zone of stamps that carry none: UTC, +10:00, Europe/Berlin"),
      key("signal.column", &C::signal, &SignalConfig::column,
          "column, where the file has several for a region"),
      key("signal.unit", &C::signal, &SignalConfig::unit, "unit of the values, e.g. lb/MWh or EUR/MWh"),
      key("signal.stamp", &C::signal, &SignalConfig::stamp,
          "stamps are the start or the end of an interval; auto: as the format says"),
      key("signal.duplicates", &C::signal, &SignalConfig::duplicates,
          "of several samples of one instant: first, last, mean or error"),
      key("signal.ambiguous", &C::signal, &SignalConfig::ambiguous,
          "an hour that the clock shows twice and the file has once: first or second"),
      key("signal.date-order", &C::signal, &SignalConfig::date_order, "dmy or mdy; auto: from the dates"),
      key("gate.open-below", &C::gate, &GateConfig::open_below,
          "a window opens where the signal is below this"),
      key("gate.close-above", &C::gate, &GateConfig::close_above,
          "and closes above this; default: open-below"),
      key("gate.percentile", &C::gate, &GateConfig::percentile,
          "open-below as this percentile of the signal"),
      key("gate.open-above", &C::gate, &GateConfig::open_above,
          "instead of open-below: a window opens where the signal is above this"),
      key("gate.close-below", &C::gate, &GateConfig::close_below,
          "and closes below this; default: open-above"),
      key("gate.average-below", &C::gate, &GateConfig::average_below,
          "windows need the signal of [average] below this, too"),
      duration_key("gate.min-length", &C::gate, &GateConfig::min_length_s, "shorter windows are left out"),
      duration_key("gate.grace", &C::gate, &GateConfig::grace_s,
                   "stay open this long after the signal closes"),
      key("gate.enforce", &C::gate, &GateConfig::enforce,
          "the trainer suspends when the signal closes; off where a batch system ends windows"),
      key("simulate.tokens", &C::simulate, &SimulateConfig::tokens, "tokens to train, e.g. 12.3e9"),
      key("simulate.tokens-per-s", &C::simulate, &SimulateConfig::tokens_per_s, "speed of one site"),
      duration_key("simulate.start-delay", &C::simulate, &SimulateConfig::start_delay_s,
                   "from a window's opening to the first step, at idle power"),
      key("simulate.round-loss", &C::simulate, &SimulateConfig::round_loss,
          "part of the time that sites training together lose, at idle power"),
      key("simulate.outside", &C::simulate, &SimulateConfig::outside, "nodes outside windows: off or idle"),
      key("simulate.policy", &C::simulate, &SimulateConfig::policy,
          "reactive, hysteresis, forecast, foresight or oracle"),
      key("simulate.forecast", &C::simulate, &SimulateConfig::forecast,
          "of policy forecast: yesterday, or file (columns f1, f2 … of SGIP's files)"),
      key("simulate.confidence", &C::simulate, &SimulateConfig::confidence,
          "part of the forecast that must promise an open window"),
      key("simulate.baseline-sites", &C::simulate, &SimulateConfig::baseline_sites,
          "sites to compare with that take no part"),
      key("simulate.seed", &C::simulate, &SimulateConfig::seed, "seed of random windows"),
      key("clock.mode", &C::clock, &ClockConfig::mode, "real or replay"),
      key("clock.start", &C::clock, &ClockConfig::start, "replay: first instant, ISO 8601"),
      key("clock.speed", &C::clock, &ClockConfig::speed, "replay: simulated seconds per second"),
      key("federation.hub", &C::federation, &FederationConfig::hub,
          "HOST:PORT of the hub; empty: train alone"),
      key("federation.interface", &C::federation, &FederationConfig::interface,
          "network interface of the inter-site traffic"),
      key("federation.port-min", &C::federation, &FederationConfig::port_min,
          "first TCP port of the gateways"),
      key("federation.port-count", &C::federation, &FederationConfig::port_count, "number of those ports"),
      duration_key("federation.round-length", &C::federation, &FederationConfig::round_length_s,
                   "real time of local training between two averages"),
      key("federation.round-steps", &C::federation, &FederationConfig::round_steps,
          "and at most so many local steps"),
      duration_key("federation.round-deadline", &C::federation, &FederationConfig::round_deadline_s,
                   "real time to wait for all members of a round"),
      key("federation.lease-steps", &C::federation, &FederationConfig::lease_steps,
          "steps' worth of data that a site leases at a time"),
      key("federation.outer-lr", &C::federation, &FederationConfig::outer_lr, "outer (DiLoCo) learning rate"),
      key("federation.outer-momentum", &C::federation, &FederationConfig::outer_momentum,
          "outer Nesterov momentum"),
      key("federation.average-last", &C::federation, &FederationConfig::average_last,
          "last part of the steps, merged by plain average"),
      key("federation.compression", &C::federation, &FederationConfig::compression,
          "hub: how changes of parameters travel between sites: fp32, bf16 or int8"),
      key("federation.overlap", &C::federation, &FederationConfig::overlap,
          "train on while a round is merged; what it changes is added afterwards: on or off"),
      key("federation.average-optimizer", &C::federation, &FederationConfig::average_optimizer,
          "merges average the optimizers' states, too: better, 2.3 times the traffic; not with overlap"),
      key("federation.streams", &C::federation, &FederationConfig::streams,
          "hub: parallel connections from site to site, where one does not fill the link (two cores each)"),
      duration_key("federation.heartbeat", &C::federation, &FederationConfig::heartbeat_s,
                   "time between heartbeats"),
      duration_key("federation.hub-deadline", &C::federation, &FederationConfig::hub_deadline_s,
                   "a site that meets no hub within this gives up"),
      duration_key("federation.lost-after", &C::federation, &FederationConfig::lost_after_s,
                   "a peer silent for this long is lost"),
      duration_key("federation.exchange-deadline", &C::federation, &FederationConfig::exchange_deadline_s,
                   "an exchange without progress for this long fails"),
      key("federation.delta-limit", &C::federation, &FederationConfig::delta_limit,
          "hub: refuse a delta beyond this multiple of the running median norm; 0: never"),
      key("federation.key-file", &C::federation, &FederationConfig::key_file,
          "file with the key that hub and members share, mode 0600; empty: no authentication"),
      key("federation.metrics", &C::federation, &FederationConfig::metrics,
          "hub: loopback HOST:PORT for Prometheus metrics and the status page; empty: none"),
      key("run.dir", &C::run, &RunConfig::dir, "folder of the run: checkpoints, journal, logs"),
      key("local.sites", &C::local, &LocalConfig::sites, "names of the sites, separated by commas"),
      duration_key("local.suspend-lead", &C::local, &LocalConfig::suspend_lead_s,
                   "real time before a window's close at which a site is told to suspend"),
      duration_key("local.start-lead", &C::local, &LocalConfig::start_lead_s,
                   "real time before a window's opening at which a site's job is started"),
  };
  add_provider_keys("signal", &C::signal, &table);
  add_signal_keys("emissions", &C::emissions, "signal to account emissions with; default: the gate's",
                  &table);
  add_provider_keys("emissions", &C::emissions, &table);
  add_signal_keys("average", &C::average, "average intensity, beside the marginal one", &table);
  add_provider_keys("average", &C::average, &table);
  add_signal_keys("excess", &C::excess, "power that the site may use at most", &table);
  add_provider_keys("excess", &C::excess, &table);
  add_signal_keys("forecast", &C::forecast, "plan: forecast of the gate's signal, from its start on", &table);
  group_by_section(&table);
  return table;
}

}  // namespace

const std::vector<Key>& keys() {
  static const std::vector<Key> table = make_keys();
  return table;
}

const Key* find_key(const std::string& name) {
  for (const Key& candidate : keys())
    if (candidate.name == name) return &candidate;
  return nullptr;
}

}  // namespace spillway::cli
