#!/usr/bin/python3
"""What train.precision = fp8 costs in quality: validation losses of `spillway train` in bf16 and FP8, same seeds and data.

Validation is computed in bf16 for both. Prints a table of the losses and of the differences seed by seed.

usage: precision.py SPILLWAY DATA [options] [-- more options of spillway train]
DATA is a folder that `spillway tokenize` has written; the run needs a GPU. Exit code 1 where a run fails.
"""
import argparse
import concurrent.futures
import os
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

VALIDATION = re.compile(r"validation at step (\d+): loss ([0-9.]+)")
PRECISIONS = ("bf16", "fp8")


def losses(options, precision, seed):
    """Validation losses in nats per token by step."""
    values = {"data.dir": options.data, "model.depth": options.depth, "train.device": "cuda", "train.precision": precision,
              "train.seed": seed, "train.steps": options.steps, "train.tokens-per-step": options.tokens_per_step,
              "train.micro-batch": options.micro_batch, "train.val-every": options.steps // 4,
              "train.val-tokens": options.val_tokens, "train.threads": 1}
    words = [word for key, value in values.items() for word in (f"--{key}", str(value))]
    with tempfile.TemporaryDirectory() as run:
        result = subprocess.run([options.program, "train", *words, "--run.dir", run, *options.more],
                                env=dict(os.environ, OMP_NUM_THREADS="1"), stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    found = {int(step): float(loss) for step, loss in VALIDATION.findall(result.stdout)}
    if result.returncode != 0 or options.steps not in found:
        raise SystemExit(f"{precision}, seed {seed}: exit {result.returncode}\n{result.stdout[-3000:]}")
    return found


def spread(values):
    deviation = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):+.4f}{deviation}"


def table(options, results):
    steps = sorted(results[PRECISIONS[0], 1])
    lines = ["| seed | precision | " + " | ".join(f"step {step}" for step in steps) + " |", "|---" * (len(steps) + 2) + "|"]
    for seed in range(1, options.seeds + 1):
        for precision in PRECISIONS:
            values = results[precision, seed]
            lines.append(f"| {seed} | {precision} | " + " | ".join(f"{values[step]:.4f}" for step in steps) + " |")
    apart = [[results["fp8", seed][step] - results["bf16", seed][step] for seed in range(1, options.seeds + 1)]
             for step in steps]
    return "\n".join([*lines, "| all | fp8 − bf16 | " + " | ".join(map(spread, apart)) + " |"])


def arguments():
    words = sys.argv[1:]
    at = words.index("--") if "--" in words else len(words)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=lambda name: str(Path(name).resolve()))
    parser.add_argument("data", type=lambda name: Path(name).resolve())
    for name, default in (("depth", 12), ("steps", 1000), ("tokens-per-step", 8192), ("micro-batch", 2),
                          ("val-tokens", 131072), ("seeds", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--parallel", type=int, default=2, help="runs side by side")
    options = parser.parse_args(words[:at])
    options.more = words[at + 1:]
    return options


def main():
    options = arguments()
    jobs = [(precision, seed) for seed in range(1, options.seeds + 1) for precision in PRECISIONS]
    with concurrent.futures.ThreadPoolExecutor(options.parallel) as pool:
        results = dict(zip(jobs, pool.map(lambda job: losses(options, *job), jobs)))
    print(table(options, results))


if __name__ == "__main__":
    main()
