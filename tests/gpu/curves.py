#!/usr/bin/env python3
"""Training on the CPU and on a GPU: loss curves, checkpoints that change the device, repeats.

usage: curves.py SPILLWAY WORK_DIR [--steps 200] [--other cuda] [--threads N] [--cpu-only | --cpu-from FOLDER]
A d4 (4 layers, width 256) on the data of make_data.py, 2,048 tokens per step.
- Without the learned residual scalars both devices train the same steps from the same weights.
- With them, from a checkpoint of step 20. Not from step 0: there the true gradients of all lambdas are zero (the blocks' outputs
  are zero and the final norm hides the stream's scale), AdamW divides rounding noise by its own size, and every lambda_0 moves by
  0.5 in a direction that rounding draws. The difference that this makes is printed, not checked.
- A CUDA checkpoint goes on on the CPU.
- Two deterministic CUDA runs, one of them suspended in the middle, leave the same digest.
The CPU's curves take longest and need no GPU: --cpu-only makes them in WORK_DIR, --cpu-from takes them from there.
"""
import argparse
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import h5py

TOLERANCE = 0.02  # nats at every step
WARM_STEPS = 20
WARM = "--train.stop-after", str(WARM_STEPS)
SCALARS_OFF, NO_VALIDATION = ("--model.scalars", "off"), ("--train.val-every", "0")


class Runs:
    def __init__(self, arguments):
        self.program, self.work, self.steps = arguments.spillway, Path(arguments.work), arguments.steps
        self.threads = arguments.threads
        self.work.mkdir(parents=True, exist_ok=True)
        if not (self.work / "data").is_dir():
            script = Path(__file__).parent / "make_data.py"
            subprocess.run([sys.executable, script, self.work / "data"], check=True)

    def start(self, name, device, *options):
        """Starts `spillway train`, which goes on from what the run's folder holds."""
        command = ["mpirun", "-n", "1", "--bind-to", "none", self.program, "train", "--data.dir", self.work / "data",
                   "--run.dir", self.work / name, "--train.device", device, "--model.depth", "4",
                   "--model.sequence", "256", "--train.tokens-per-step", "2048", "--train.val-tokens", "65536",
                   "--train.threads", str(self.threads), "--train.checkpoint-every", "0",
                   "--train.steps", str(self.steps + WARM_STEPS), *options]
        log = open(self.work / f"{name}.log", "a")
        return subprocess.Popen([str(part) for part in command], stdout=log, stderr=subprocess.STDOUT)

    def finish(self, name, process, expected):
        status = process.wait()
        if status != expected:
            sys.exit(f"{name}: exit code {status} instead of {expected}\n" + (self.work / f"{name}.log").read_text())

    def run(self, name, device, expected, *options):
        self.finish(name, self.start(name, device, *options), expected)

    def copy(self, name, to):
        shutil.copytree(self.work / name, self.work / to, symlinks=True)

    def losses(self, name):
        with h5py.File((self.work / name / "local" / "latest").resolve(), "r") as file:
            return file["history/loss_nats"][()].tolist()

    def digest(self, name):
        return re.findall(r"digest (\w+)", (self.work / f"{name}.log").read_text())[-1]


def compare(what, left, right, first, last, tolerance=TOLERANCE):
    """Prints the largest difference of two curves over steps [first, last); whether it is within the tolerance."""
    differences = [abs(a - b) for a, b in zip(left[first:last], right[first:last])]
    good = len(differences) == last - first and max(differences) < tolerance
    worst = max(differences)
    print(f"{what}: steps {first} to {last - 1}, loss {left[first]:.3f} to {left[last - 1]:.3f}, largest difference "
          f"{worst:.4f} nats at step {first + differences.index(worst)}{'' if good else '  FAILED'}", flush=True)
    return good


class CpuHalf:
    """The CPU's curves, started here or taken from the folder of an earlier --cpu-only."""

    def __init__(self, runs, taken_from):
        self.runs, self.processes = runs, []
        self.file = runs.work / "cpu_losses.json"
        if taken_from:
            shutil.copytree(Path(taken_from) / "warm_cpu", runs.work / "warm_cpu", symlinks=True)
            shutil.copy(Path(taken_from) / "cpu_losses.json", self.file)
            return
        plain = runs.start("plain_cpu", "cpu", *SCALARS_OFF, *NO_VALIDATION, "--train.stop-after", str(runs.steps))
        runs.run("warm_cpu", "cpu", 75, *NO_VALIDATION, *WARM)
        runs.copy("warm_cpu", "scalars_cpu")
        scalars = runs.start("scalars_cpu", "cpu", *NO_VALIDATION)
        self.processes = [("plain_cpu", plain, 75), ("scalars_cpu", scalars, 0)]

    def finish(self):
        """Waits for the curves. Returns them by name."""
        for name, process, expected in self.processes:
            self.runs.finish(name, process, expected)
        if self.processes:
            curves = {name: self.runs.losses(name) for name in ("plain_cpu", "warm_cpu", "scalars_cpu")}
            self.file.write_text(json.dumps(curves))
        return json.loads(self.file.read_text())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("spillway")
    parser.add_argument("work")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--other", default="cuda")
    parser.add_argument("--threads", type=int, default=6)
    parser.add_argument("--cpu-only", action="store_true")
    parser.add_argument("--cpu-from")
    arguments = parser.parse_args()
    other, steps = arguments.other, arguments.steps
    if arguments.cpu_from:
        shutil.copytree(Path(arguments.cpu_from) / "data", Path(arguments.work) / "data")
    runs = Runs(arguments)
    cpu = CpuHalf(runs, arguments.cpu_from)
    if arguments.cpu_only:
        cpu.finish()
        return 0

    runs.copy("warm_cpu", "scalars_other")
    runs.run("plain_other", other, 0, *SCALARS_OFF, "--train.val-every", str(steps))
    runs.run("scalars_other", other, 0, *NO_VALIDATION)
    runs.run("warm_other", other, 75, *NO_VALIDATION, *WARM)
    runs.copy("warm_other", "back_cpu")
    runs.copy("warm_other", "back_other")
    back = ("--train.stop-after", "10")
    back_cpu = runs.start("back_cpu", "cpu", *NO_VALIDATION, *back)
    runs.run("back_other", other, 75, *NO_VALIDATION, *back)
    deterministic = ("--train.deterministic", "on", *NO_VALIDATION)
    runs.run("once", other, 75, *deterministic, "--train.stop-after", "20")
    for _ in range(2):
        runs.run("twice", other, 75, *deterministic, "--train.stop-after", "10")
    runs.finish("back_cpu", back_cpu, 75)
    on_cpu = cpu.finish()

    end = steps + WARM_STEPS
    good = compare(f"cpu and {other}, scalars off", on_cpu["plain_cpu"], runs.losses("plain_other"), 0, steps)
    good &= compare(f"cpu and {other}, scalars on, from one CPU checkpoint", on_cpu["scalars_cpu"],
                    runs.losses("scalars_other"), WARM_STEPS, end)
    good &= compare(f"{other} checkpoint goes on on cpu and on {other}", runs.losses("back_cpu"), runs.losses("back_other"),
                    WARM_STEPS, WARM_STEPS + 10)
    compare(f"cpu and {other}, scalars on, from step 0 (not checked)", on_cpu["warm_cpu"], runs.losses("warm_other"),
            0, WARM_STEPS, float("inf"))
    same = runs.digest("once") == runs.digest("twice")
    print(f"deterministic {other}: 20 steps {runs.digest('once')}, 10 and 10 steps {runs.digest('twice')}"
          f"{'' if same else '  FAILED'}")
    return 0 if good and same else 1


if __name__ == "__main__":
    sys.exit(main())
