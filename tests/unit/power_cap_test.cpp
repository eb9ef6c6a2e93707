// Power caps: what must be paused, and the limits of GPUs, set and put back.
#include "energy/power_cap.hpp"

#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>

#include "core/config.hpp"
#include "core/error.hpp"
#include "energy/meter.hpp"
#include "energy/site_windows.hpp"
#include "tests/catch.hpp"
#include "tests/run_spillway.hpp"
#include "tests/temporary_folder.hpp"

using namespace spillway;

namespace {

// The stand-in's GPUs, of 650 W each.
class FakeGpus {
 public:
  FakeGpus() {
    setenv("SPILLWAY_FAKE_NVML", folder_.path().c_str(), 1);
    for (const std::string& id : ids) {
      set(id + ".limit", 650000);
      set(id + ".energy", 0);
    }
  }
  ~FakeGpus() { unsetenv("SPILLWAY_FAKE_NVML"); }
  void set(const std::string& name, long value) const { std::ofstream(folder_.path() / name) << value; }
  long get(const std::string& name) const {
    long value = -1;
    std::ifstream(folder_.path() / name) >> value;
    return value;
  }
  const std::vector<std::string> ids = {"0000:1A:00.0", "0000:2B:00.0"};

 private:
  TemporaryFolder folder_;
};

}  // namespace

TEST_CASE("pauses bring the mean power to the cap, by declared and by metered powers") {
  PowerBalance balance(2000, 400);
  CHECK(balance.pause_ratio(2000) == 0);
  CHECK(balance.pause_ratio(2500) == 0);
  CHECK(balance.pause_ratio(1200) == Approx(1));  // (2000 + 400) / 2
  CHECK(balance.pause_ratio(400) == PowerBalance::kMostPause);
  // A meter that sees other powers; energy of another node comes later, without time of its own.
  for (int i = 0; i < 100; ++i) {
    balance.add(false, 2500, 1);
    balance.add(false, 500, 0);
    balance.add(true, 600, 1);
  }
  const double ratio = balance.pause_ratio(1800);
  CHECK(ratio == Approx(1));  // (3000 + 600) / 2
  // What was long ago is forgotten.
  for (int i = 0; i < 1000; ++i) balance.add(false, 1000, 1);
  CHECK(balance.pause_ratio(1100) == 0);
}

TEST_CASE("random powers: work and pauses in the given ratio use what the cap allows") {
  for (int i = 1; i < 50; ++i) {
    const double idle_w = 10.0 * i, train_w = idle_w + 37.0 * i, cap_w = idle_w + (train_w - idle_w) * i / 50;
    const double ratio = PowerBalance(train_w, idle_w).pause_ratio(cap_w);
    INFO(train_w << " W, " << idle_w << " W, cap " << cap_w << " W");
    CHECK((train_w + ratio * idle_w) / (1 + ratio) == Approx(cap_w));
  }
}

TEST_CASE("NVML: one counter for each GPU, or none at all") {
  const FakeGpus gpus;
  auto counters = find_nvml(gpus.ids, SPILLWAY_FAKE_NVML);
  REQUIRE(counters.size() == 2);
  gpus.set("0000:2B:00.0.energy", 12345);
  CHECK(counters[0]->read_j() == 0.0);
  CHECK(counters[1]->read_j() == 12.345);
  CHECK(find_nvml({"0000:1A:00.0", "0000:FF:00.0"}, SPILLWAY_FAKE_NVML).empty());
  SiteConfig site;
  site.host_share = 0.5;
  const auto meter = make_counter_meter(site, std::move(counters), true);
  CHECK(meter->source() == "nvml");
  gpus.set("0000:1A:00.0.energy", 7000);
  const EnergySample sample = meter->sample(Phase::solo, 1);
  CHECK(sample.power_w[static_cast<std::size_t>(Component::gpu)] == Approx(7));
  CHECK(sample.power_w[static_cast<std::size_t>(Component::rest)] == Approx(7));
}

TEST_CASE("limits of GPUs are set within what they allow, and put back") {
  const FakeGpus gpus;
  std::string reason;
  {
    const auto limits = GpuPowerLimits::open(gpus.ids, &reason, SPILLWAY_FAKE_NVML);
    REQUIRE(limits);
    CHECK(gpus.get("0000:1A:00.0.limit") == 650000);
    CHECK(limits->set_w(431.9) == 431);
    CHECK(gpus.get("0000:1A:00.0.limit") == 431000);
    CHECK(gpus.get("0000:2B:00.0.limit") == 431000);
    CHECK(limits->set_w(50) == 200);    // the least
    CHECK(limits->set_w(5000) == 650);  // never above what the site had set
    limits->set_w(300);
  }
  CHECK(gpus.get("0000:1A:00.0.limit") == 650000);
  CHECK(gpus.get("0000:2B:00.0.limit") == 650000);
}

TEST_CASE("limits that may not be set are not, and the reason is told") {
  const FakeGpus gpus;
  std::string reason;
  gpus.set("refuses", 1);
  CHECK(GpuPowerLimits::open(gpus.ids, &reason, SPILLWAY_FAKE_NVML) == nullptr);
  CHECK(reason == "GPU 0000:1A:00.0: its power limit may not be set: Insufficient Permissions");
  CHECK(GpuPowerLimits::open({"0000:FF:00.0"}, &reason, SPILLWAY_FAKE_NVML) == nullptr);
  CHECK(reason == "GPU 0000:FF:00.0: NVML tells no power limit of it");
  CHECK(GpuPowerLimits::open(gpus.ids, &reason, "libnothing-of-that-name.so.1") == nullptr);
  CHECK(reason == "libnothing-of-that-name.so.1 is not installed");
}

TEST_CASE("a cap that follows the excess opens windows with less than the full power") {
  Config config;
  config.site.train_power_w = 4000;
  config.site.idle_power_w = 500;
  config.site.nodes = 4;
  config.excess.file = "excess.csv";
  CHECK(site_limits(config).least_excess_mw() == Approx(0.001));  // one node
  config.site.min_nodes = 4;
  CHECK(site_limits(config).least_excess_mw() == Approx(0.004));
  config.site.power_cap_excess = true;
  const SiteLimits limits = site_limits(config);
  CHECK(limits.least_excess_mw() == Approx(0.002));  // half of the training power
  CHECK(nodes_within(limits, 0.0019) == 0);
  CHECK(nodes_within(limits, 0.002) == 4);  // min-nodes, capped
  CHECK(allowed_at(limits, std::nullopt, 0.002));
  CHECK_FALSE(allowed_at(limits, std::nullopt, 0.0019));
  CHECK_FALSE(allowed_at(limits, std::nullopt, std::nullopt));
  config.site.min_power_w = 500;
  CHECK_THROWS_WITH(
      site_limits(config),
      "site local: site.min-power = 500 W: must be more than idle power (500 W) and at most the training "
      "power (4000 W), PUE included");
  config.excess.file.clear();
  CHECK_THROWS_WITH(site_limits(config),
                    "site local: site.power-cap = excess needs excess.file or excess.provider");
  // A fixed cap: nodes need no more than it.
  config = {};
  config.site.train_power_w = 4000;
  config.site.nodes = 2;
  config.site.min_nodes = 2;
  config.site.power_cap_w = 3000;
  config.excess.file = "excess.csv";
  CHECK(site_limits(config).least_excess_mw() == Approx(0.003));
  config.site.idle_power_w = 3000;
  CHECK_THROWS_WITH(
      site_limits(config),
      "site local: site.power-cap = 3000 W is not more than its idle power, 3000 W with the PUE");
}

TEST_CASE("bench --power: tokens per kWh against the cap, on the declared power model") {
  const std::vector<std::string> small = {"bench", "--model.layers",      "1",  "--model.width",
                                          "64",    "--model.heads",       "1",  "--model.vocab",
                                          "64",    "--model.sequence",    "32", "--train.tokens-per-step",
                                          "512",   "--train.micro-batch", "4",  "--train.threads",
                                          "1",     "--power-seconds",     "0.5"};
  const auto bench = [&](std::vector<std::string> more) {
    more.insert(more.begin(), small.begin(), small.end());
    return run_spillway(more);
  };
  const Outcome outcome =
      bench({"--power", "150,120", "--site.train-power", "200", "--site.idle-power", "100", "--json"});
  INFO(outcome.output);
  REQUIRE(outcome.status == 0);
  const auto power = nlohmann::json::parse(outcome.output.substr(outcome.output.find('{'))).at("power");
  REQUIRE(power.size() == 3);
  CHECK(power[0].at("cap_w").is_null());
  CHECK(power[0].at("mean_w").get<double>() == Approx(200));
  for (const std::size_t i : {1u, 2u}) {
    CHECK(power[i].at("by") == "pauses");
    CHECK(power[i].at("mean_w").get<double>() == Approx(power[i].at("cap_w").get<double>()).epsilon(0.03));
    CHECK(power[i].at("tokens_per_kwh").get<double>() ==
          Approx(power[i].at("tokens_per_s").get<double>() / power[i].at("mean_w").get<double>() * 3.6e6));
  }
  CHECK(bench({"--power", "150"}).output.find("declare site.train-power and site.idle-power") !=
        std::string::npos);
  CHECK(bench({"--power", "150,x"}).output.find("expected powers in W such as 300,400,500") !=
        std::string::npos);
  CHECK(bench({"--power", "1", "--power-by", "magic"}).output.find("must be auto or pauses") !=
        std::string::npos);
}
