// spillway bench: how fast this machine trains, op by op and as a whole.
#include <fmt/format.h>

#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>

#include "cli/commands.hpp"
#include "cli/options.hpp"
#include "core/error.hpp"
#include "train/bench.hpp"
#include "train/precision.hpp"
#ifdef SPILLWAY_HAVE_CUDA
#include "train/gpu.hpp"
#endif
#include "kernels/cpu/device.hpp"

namespace po = boost::program_options;

namespace spillway::cli {
namespace {

// Dense bf16 of an H100 SXM by its datasheet: what MFU is quoted against.
constexpr double kH100FlopPerS = 989.4e12;
constexpr int kDefaultVocab = 65536;  // without data: nanochat's

struct Options {
  bool ops = false, json = false;
  int steps = 3;
  std::string power, power_by;  // caps in W, separated by commas
  double power_seconds = 10;
};

struct Report {
  std::string device, precision, plans;
  GptSpec spec;
  std::int64_t tokens_per_step = 0;
  double peak_flop_per_s = 0;  // 0: unknown
  Ceilings ceilings;
  StepTiming step;
  std::vector<OpTiming> ops;
  std::vector<PowerPoint> power;
  std::string meter, no_limits;  // of the power caps: what metered, and why limits are not used

  double tokens_per_s() const { return static_cast<double>(tokens_per_step) / step.step_s(); }
  double share(double flops_per_token, double ceiling) const {
    return flops_per_token * tokens_per_s() / ceiling;
  }
};

// Achieved rate and its share of the ceiling: matrix work against the large GEMM of its kind, everything else against the copy.
struct Rate {
  double value, share;
  const char* unit;
};
Rate rate_of(const OpTiming& op, const Ceilings& ceilings) {
  const double gemm = op.fp8 ? ceilings.fp8_gemm_flop_per_s : ceilings.gemm_flop_per_s;
  if (op.flop > 0) return {op.flop / op.seconds * 1e-12, op.flop / op.seconds / gemm, "TFLOP/s"};
  return {op.bytes / op.seconds * 1e-9, op.bytes / op.seconds / ceilings.copy_bytes_per_s, "GB/s"};
}

nlohmann::json to_json(const Report& report) {
  const StepTiming& step = report.step;
  nlohmann::json document = {{"device", report.device},
                             {"precision", report.precision},
                             {"parameters", report.spec.parameters()},
                             {"tokens_per_step", report.tokens_per_step},
                             {"micro_batch", step.micro_batch},
                             {"copy_bytes_per_s", report.ceilings.copy_bytes_per_s},
                             {"gemm_flop_per_s", report.ceilings.gemm_flop_per_s},
                             {"forward_backward_s", step.forward_backward_s},
                             {"gradient_norm_s", step.gradient_norm_s},
                             {"optimizer_s", step.optimizer_s},
                             {"step_s", step.step_s()},
                             {"first_step_s", step.first_step_s},
                             {"tokens_per_s", report.tokens_per_s()},
                             {"gemm_share_nanochat", report.share(report.spec.flops_per_token_nanochat(),
                                                                  report.ceilings.gemm_flop_per_s)},
                             {"gemm_share_causal", report.share(report.spec.flops_per_token_causal(),
                                                                report.ceilings.gemm_flop_per_s)}};
  if (report.ceilings.fp8_gemm_flop_per_s > 0)
    document["fp8_gemm_flop_per_s"] = report.ceilings.fp8_gemm_flop_per_s;
  if (report.peak_flop_per_s > 0) {
    document["mfu_nanochat"] = report.share(report.spec.flops_per_token_nanochat(), report.peak_flop_per_s);
    document["mfu_causal"] = report.share(report.spec.flops_per_token_causal(), report.peak_flop_per_s);
  }
  for (const OpTiming& op : report.ops) {
    const Rate rate = rate_of(op, report.ceilings);
    document["ops"].push_back({{"name", op.name},
                               {"calls_per_step", op.calls_per_step},
                               {"us", op.seconds * 1e6},
                               {"rate", rate.value},
                               {"unit", rate.unit},
                               {"share_of_ceiling", rate.share}});
    if (op.library_s == 0) continue;
    document["ops"].back()["library_us"] = op.library_s * 1e6;
    document["ops"].back()["vs_library"] = op.library_s / op.seconds;
  }
  return document;
}

void print_ops(const Report& report) {
  std::cout << fmt::format("{:<40} {:>9} {:>9} {:>9} {:<8} {:>8} {:>11} {:>11}\n", "op", "calls", "us",
                           "rate", "", "ceiling", "ms per step", "vs library");
  double total_s = 0;
  for (const OpTiming& op : report.ops) {
    const Rate rate = rate_of(op, report.ceilings);
    total_s += op.calls_per_step * op.seconds;
    const std::string versus = op.library_s > 0 ? fmt::format("{:>10.2f} x", op.library_s / op.seconds) : "";
    std::cout << fmt::format("{:<40} {:>9.0f} {:>9.1f} {:>9.1f} {:<8} {:>7.1f}% {:>11.1f}{}\n", op.name,
                             op.calls_per_step, op.seconds * 1e6, rate.value, rate.unit, 100 * rate.share,
                             op.calls_per_step * op.seconds * 1e3, versus);
  }
  std::cout << fmt::format("{:<40} {:>59.1f}\n\n", "sum of the ops", total_s * 1e3);
}

void print(const Report& report) {
  const GptSpec& spec = report.spec;
  const StepTiming& step = report.step;
  std::cout << fmt::format("{}: copy {:.0f} GB/s (read + written), large GEMM {:.1f} TFLOP/s", report.device,
                           report.ceilings.copy_bytes_per_s * 1e-9, report.ceilings.gemm_flop_per_s * 1e-12);
  if (report.ceilings.fp8_gemm_flop_per_s > 0)
    std::cout << fmt::format(", in fp8 {:.1f} TFLOP/s", report.ceilings.fp8_gemm_flop_per_s * 1e-12);
  std::cout << "\n";
  std::cout << fmt::format("model: {} layers, width {}, {} heads of {}, vocabulary {}, {} parameters, {}\n\n",
                           spec.layers, spec.width, spec.heads, spec.head_dim(), spec.vocab,
                           spec.parameters(), report.precision);
  if (!report.ops.empty()) print_ops(report);
  if (!report.plans.empty()) std::cout << report.plans << "\n";
  for (const MemoryUse& use : step.memory)
    std::cout << fmt::format("memory {:<22} {:>9.1f} MiB\n", use.role,
                             static_cast<double>(use.bytes) / (1 << 20));
  std::cout << fmt::format(
      "\nstep of {} tokens, micro-batch {} x {}: {:.1f} ms = forward and backward {:.1f} + gradient norm "
      "{:.2f} + optimizer "
      "{:.1f}; first step after {:.1f} s; loss {:.4f}\n",
      report.tokens_per_step, step.micro_batch, spec.sequence, step.step_s() * 1e3,
      step.forward_backward_s * 1e3, step.gradient_norm_s * 1e3, step.optimizer_s * 1e3, step.first_step_s,
      step.loss_nats);
  const auto shares = [&](const char* what, double ceiling) {
    std::cout << fmt::format("{}: {:.1f} % (nanochat's definition), {:.1f} % (causal)\n", what,
                             100 * report.share(spec.flops_per_token_nanochat(), ceiling),
                             100 * report.share(spec.flops_per_token_causal(), ceiling));
  };
  std::cout << fmt::format("{:.0f} tokens/s\n", report.tokens_per_s());
  shares("share of the large GEMM's rate", report.ceilings.gemm_flop_per_s);
  if (report.peak_flop_per_s > 0)
    shares(report.precision == "fp8"
               ? "MFU against 989.4 TFLOP/s, the peak of bf16, although the blocks multiply in fp8"
               : "MFU against 989.4 TFLOP/s",
           report.peak_flop_per_s);
}

std::vector<double> parse_caps(const std::string& text) {
  std::vector<double> caps_w;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, ',');) {
    std::istringstream number(part);
    double cap_w = 0;
    if (!(number >> cap_w) || !(number >> std::ws).eof() || !(cap_w > 0))
      fail(ExitCode::usage, "--power {}: expected powers in W such as 300,400,500", text);
    caps_w.push_back(cap_w);
  }
  if (caps_w.empty()) fail(ExitCode::usage, "--power: expected powers in W such as 300,400,500");
  return caps_w;
}

nlohmann::json power_json(const Report& report) {
  nlohmann::json points = nlohmann::json::array();
  for (const PowerPoint& point : report.power)
    points.push_back({{"cap_w", point.cap_w > 0 ? nlohmann::json(point.cap_w) : nlohmann::json(nullptr)},
                      {"by", point.by},
                      {"tokens_per_s", point.tokens_per_s},
                      {"mean_w", point.mean_w},
                      {"tokens_per_kwh", point.tokens_per_kwh()}});
  return {{"device", report.device},
          {"parameters", report.spec.parameters()},
          {"tokens_per_step", report.tokens_per_step},
          {"meter", report.meter},
          {"power", points}};
}

void print_power(const Report& report) {
  std::cout << fmt::format("{}: {} parameters, steps of {} tokens; power by {}\n", report.device,
                           report.spec.parameters(), report.tokens_per_step, report.meter);
  if (!report.no_limits.empty()) std::cout << "caps by pauses: " << report.no_limits << "\n";
  std::cout << fmt::format("\n{:>8} {:<8} {:>12} {:>8} {:>16} {:>10}\n", "cap, W", "by", "tokens/s", "mean W",
                           "tokens per kWh", "of uncapped");
  for (const PowerPoint& point : report.power)
    std::cout << fmt::format("{:>8} {:<8} {:>12.0f} {:>8.1f} {:>16.4g} {:>9.1f}%\n",
                             point.cap_w > 0 ? fmt::format("{:.0f}", point.cap_w) : "-", point.by,
                             point.tokens_per_s, point.mean_w, point.tokens_per_kwh(),
                             100 * point.tokens_per_kwh() / report.power.front().tokens_per_kwh());
}

// The GPU's own counter where it has one, else what the configuration declares of the node.
template <class Dev>
void measure_power(Dev& device, const Config& config, const Options& options, const std::string& bus_id,
                   Report& report) {
  PowerBench bench;
  bench.caps_w = parse_caps(options.power);
  bench.seconds = options.power_seconds;
  MeteredNode node;
  node.on_gpus = !bus_id.empty();
  if (node.on_gpus) node.gpu_bus_ids = {bus_id};
  const auto meter = make_meter(config.site, true, node);
  report.meter = meter->source();
  if (report.meter == "unknown")
    fail(ExitCode::usage,
         "--power: no energy counter can be read here; declare site.train-power and site.idle-power");
  bench.meter = meter.get();
  bench.gpu_only = report.meter.starts_with("nvml");
  std::unique_ptr<GpuPowerLimits> limits;
  if (options.power_by == "pauses")
    report.no_limits = "as asked for";
  else if (!bench.gpu_only)
    report.no_limits = "there is no GPU whose power is counted";
  else
    limits = GpuPowerLimits::open(node.gpu_bus_ids, &report.no_limits);
  bench.limits = limits.get();
  report.power = time_power(device, report.spec, config.train, config.optim, bench);
}

template <class Dev>
void measure(Dev& device, const Config& config, const Options& options, const std::string& bus_id,
             Report& report) {
  report.device = device_description(device);
  report.tokens_per_step = config.train.tokens_per_step;
  if (!options.power.empty()) {
    measure_power(device, config, options, bus_id, report);
    return;
  }
  report.ceilings = measure_ceilings(device);
  report.step = time_step(device, report.spec, config.train, config.optim, options.steps);
  if (options.ops)
    report.ops = time_ops(device, report.spec, report.step.micro_batch, report.tokens_per_step);
  report.plans = device_plans(device);
}

void measure_on(const Config& config, const Options& options, Report& report) {
  const bool fp8 = precision_is_fp8(config.train);
  report.precision = fp8 ? "fp8" : config.train.device == "cpu" ? "fp32" : "bf16";
  if (config.train.device == "cpu") {
    Cpu device(config.train.threads);
    measure(device, config, options, "", report);
    return;
  }
#ifdef SPILLWAY_HAVE_CUDA
  if (config.train.device == "cuda") {
    Cuda device = open_gpu(config.train, 0);
    if (device.model_name().find("H100") != std::string::npos ||
        device.model_name().find("H200") != std::string::npos)
      report.peak_flop_per_s = kH100FlopPerS;
    measure(device, config, options, gpu_bus_id(0), report);
    return;
  }
#endif
  fail(ExitCode::usage, "train.device = {}: this build has no such device", config.train.device);
}

}  // namespace

int run_bench(const Arguments& arguments) {
  CommandSpec spec;
  spec.name = "bench";
  spec.summary =
      "Measures training speed on random tokens: whole steps, and with --ops every op against its ceiling.";
  spec.usage =
      "spillway bench [--device cpu|cuda] [--precision bf16|fp8] [--model.depth 20] [--ops] [--json] "
      "[--power 300,400]";
  Options options;
  spec.options.add_options()(
      "ops", po::bool_switch(&options.ops),
      "time every op of a step in its precision, and our kernels against the libraries'")(
      "json", po::bool_switch(&options.json), "print JSON")(
      "steps", po::value(&options.steps)->default_value(options.steps), "optimizer steps to time")(
      "power", po::value(&options.power), "tokens per kWh under power caps in W (of the GPU): 300,400,500")(
      "power-by", po::value(&options.power_by)->default_value("auto"),
      "pauses, or auto: the GPU's power limit where it may be set (put back at the end)")(
      "power-seconds", po::value(&options.power_seconds)->default_value(options.power_seconds),
      "seconds measured at each cap, after half as many to settle");
  spec.aliases = {{"device", "train.device"},
                  {"micro-batch", "train.micro-batch"},
                  {"depth", "model.depth"},
                  {"attention", "train.attention"},
                  {"precision", "train.precision"}};
  spec.sections = {"model", "train", "site"};
  const auto config = parse(spec, arguments);
  if (!config) return 0;
  if (options.steps < 1) fail(ExitCode::usage, "--steps {}: must be at least 1", options.steps);
  if (options.power_by != "auto" && options.power_by != "pauses")
    fail(ExitCode::usage, "--power-by {}: must be auto or pauses", options.power_by);
  if (!(options.power_seconds > 0))
    fail(ExitCode::usage, "--power-seconds {}: must be more than 0", options.power_seconds);
  Report report;
  report.spec = make_spec(config->model, config->model.vocab == 0 ? kDefaultVocab : 0);
  measure_on(*config, options, report);
  const bool power = !options.power.empty();
  if (options.json)
    std::cout << (power ? power_json(report) : to_json(report)).dump(2) << "\n";
  else
    power ? print_power(report) : print(report);
  return 0;
}

}  // namespace spillway::cli
