// spillway bench: how fast this machine trains, op by op and as a whole.
#include <fmt/format.h>

#include <iostream>
#include <nlohmann/json.hpp>

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
};

struct Report {
  std::string device, precision, plans;
  GptSpec spec;
  std::int64_t tokens_per_step = 0;
  double peak_flop_per_s = 0;  // 0: unknown
  Ceilings ceilings;
  StepTiming step;
  std::vector<OpTiming> ops;

  double tokens_per_s() const { return static_cast<double>(tokens_per_step) / step.step_s(); }
  double share(double flops_per_token, double ceiling) const {
    return flops_per_token * tokens_per_s() / ceiling;
  }
};

// Achieved rate and its share of the ceiling: matrix work against the large GEMM, everything else against the copy.
struct Rate {
  double value, share;
  const char* unit;
};
Rate rate_of(const OpTiming& op, const Ceilings& ceilings) {
  if (op.flop > 0)
    return {op.flop / op.seconds * 1e-12, op.flop / op.seconds / ceilings.gemm_flop_per_s, "TFLOP/s"};
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
  }
  return document;
}

void print_ops(const Report& report) {
  std::cout << fmt::format("{:<30} {:>9} {:>9} {:>9} {:<8} {:>8} {:>11}\n", "op", "calls", "us", "rate", "",
                           "ceiling", "ms per step");
  double total_s = 0;
  for (const OpTiming& op : report.ops) {
    const Rate rate = rate_of(op, report.ceilings);
    total_s += op.calls_per_step * op.seconds;
    std::cout << fmt::format("{:<30} {:>9.0f} {:>9.1f} {:>9.1f} {:<8} {:>7.1f}% {:>11.1f}\n", op.name,
                             op.calls_per_step, op.seconds * 1e6, rate.value, rate.unit, 100 * rate.share,
                             op.calls_per_step * op.seconds * 1e3);
  }
  std::cout << fmt::format("{:<30} {:>60.1f}\n\n", "sum of the ops", total_s * 1e3);
}

void print(const Report& report) {
  const GptSpec& spec = report.spec;
  const StepTiming& step = report.step;
  std::cout << fmt::format("{}: copy {:.0f} GB/s (read + written), large GEMM {:.1f} TFLOP/s\n",
                           report.device, report.ceilings.copy_bytes_per_s * 1e-9,
                           report.ceilings.gemm_flop_per_s * 1e-12);
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

template <class Dev>
void measure(Dev& device, const Config& config, const Options& options, Report& report) {
  report.device = device_description(device);
  report.tokens_per_step = config.train.tokens_per_step;
  report.ceilings = measure_ceilings(device);
  report.step = time_step(device, report.spec, config.train, config.optim, options.steps);
  if (options.ops)
    report.ops = time_ops(device, report.spec, report.step.micro_batch, report.tokens_per_step);
  report.plans = device_plans(device);
}

void measure_on(const Config& config, const Options& options, Report& report) {
  const bool fp8 = precision_is_fp8(config.train);
  if (fp8 && options.ops)
    fail(ExitCode::usage, "--ops times the ops of train.precision = bf16 only; leave one of the two out");
  report.precision = fp8 ? "fp8" : config.train.device == "cpu" ? "fp32" : "bf16";
  if (config.train.device == "cpu") {
    Cpu device(config.train.threads);
    measure(device, config, options, report);
    return;
  }
#ifdef SPILLWAY_HAVE_CUDA
  if (config.train.device == "cuda") {
    Cuda device = open_gpu(config.train, 0);
    if (device.model_name().find("H100") != std::string::npos ||
        device.model_name().find("H200") != std::string::npos)
      report.peak_flop_per_s = kH100FlopPerS;
    measure(device, config, options, report);
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
  spec.usage = "spillway bench [--device cpu|cuda] [--model.depth 20] [--ops] [--json]";
  Options options;
  spec.options.add_options()("ops", po::bool_switch(&options.ops), "time every op")(
      "json", po::bool_switch(&options.json), "print JSON")(
      "steps", po::value(&options.steps)->default_value(options.steps), "optimizer steps to time");
  spec.aliases = {{"device", "train.device"},
                  {"micro-batch", "train.micro-batch"},
                  {"depth", "model.depth"},
                  {"attention", "train.attention"},
                  {"precision", "train.precision"}};
  spec.sections = {"model", "train"};
  const auto config = parse(spec, arguments);
  if (!config) return 0;
  if (options.steps < 1) fail(ExitCode::usage, "--steps {}: must be at least 1", options.steps);
  Report report;
  report.spec = make_spec(config->model, config->model.vocab == 0 ? kDefaultVocab : 0);
  measure_on(*config, options, report);
  if (options.json)
    std::cout << to_json(report).dump(2) << "\n";
  else
    print(report);
  return 0;
}

}  // namespace spillway::cli
