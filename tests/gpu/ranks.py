#!/usr/bin/env python3
"""Two ranks on two GPUs against one: usage: ranks.py SPILLWAY WORK_DIR [--steps 12] [--depth 20]

- A model of --depth at the default batch, random tokens: tokens per second and the losses of the same steps.
- A d4 on the data of make_data.py, deterministic: suspended on two ranks and resumed on two, byte for byte; and resumed on one.
Exit code 1 where losses or bytes differ by more than they may; the speed is only printed.
"""
import argparse
import re
import shutil
import statistics
import sys

import numpy as np
from checkpoints import AT, STEPS, Runs

LOSS_NATS = 0.02       # of a step: sums in bf16 and another order
RESUMED_NATS = 1e-3    # of the validation after a change of the number of ranks


def on(ranks, command):
    return ["mpirun", "-n", ranks, "--bind-to", "none", *command]


def speed(runs, depth, steps):
    data = runs.random_data()
    rates, losses = {}, {}
    for ranks in (1, 2):
        log = runs.run(0, on(ranks, [
            runs.spillway, "train", "--data.dir", data, "--run.dir", runs.work / f"fast-{ranks}", "--train.device", "cuda",
            "--model.depth", depth, "--train.micro-batch", 16, "--train.val-every", 0, "--train.val-tokens", 65536,
            "--train.log-every", 1, "--train.checkpoint-every", 0, "--train.steps", steps]), "stderr")
        lines = re.findall(r"step \d+/\d+ +loss ([\d.]+) .*? (\d+) tokens/s", log)
        if len(lines) != steps:
            sys.exit(f"{ranks} ranks: {len(lines)} lines of {steps} steps:\n{log[-3000:]}")
        losses[ranks] = np.array([float(loss) for loss, _ in lines])
        rates[ranks] = statistics.median(float(rate) for _, rate in lines[2:])
        shutil.rmtree(runs.work / f"fast-{ranks}")
    apart = np.abs(losses[1] - losses[2]).max()
    good = apart < LOSS_NATS
    print(f"d{depth}: {rates[1]:.0f} tokens/s on one GPU, {rates[2]:.0f} on two: {rates[2] / rates[1]:.3f} times (median of "
          f"{steps - 2} steps); losses {losses[1][-1]:.4f} and {losses[2][-1]:.4f}, apart by {apart:.4f} nats at most"
          f"{'' if good else '  FAILED'}", flush=True)
    return good


def resumes(runs):
    runs.run(0, on(2, runs.d4("whole", "cuda", STEPS)))
    runs.run(75, on(2, runs.d4("parts", "cuda", STEPS, "--train.stop-after", AT)))
    shutil.copytree(runs.work / "parts", runs.work / "fewer", symlinks=True)
    runs.run(0, on(2, runs.d4("parts", "cuda", STEPS)))
    runs.run(0, on(1, runs.d4("fewer", "cuda", STEPS)))
    (whole, digest), (parts, found), (fewer, _) = (runs.state(name) for name in ("whole", "parts", "fewer"))
    different = [path for path in whole.keys() | parts.keys() if whole.get(path) != parts.get(path)]
    last = [np.frombuffer(state["validation/loss_nats"])[-1] for state in (whole, fewer)]
    good = not different and digest == found and abs(last[0] - last[1]) < RESUMED_NATS
    print(f"d4 suspended at {AT} of {STEPS} steps: 2 → 2 ranks: {len(whole)} datasets, {len(different)} differ, digests {digest} "
          f"and {found}; 2 → 1: validation {last[0]:.5f} and {last[1]:.5f}{'' if good else '  FAILED'}", flush=True)
    return good


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("spillway")
    parser.add_argument("work")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--depth", type=int, default=20)
    options = parser.parse_args()
    runs = Runs(options.spillway, options.work)
    results = [resumes(runs), speed(runs, options.depth, options.steps)]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
