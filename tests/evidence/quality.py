#!/usr/bin/python3
"""What training over several sites costs in quality: validation losses after equal numbers of tokens.

Each run is `mpirun -n SITES federated_rounds`: training, deltas, ring, compression and outer steps are Spillway's, without
hub and couriers. A run's sites share a GPU, and runs are dealt out to --gpus. Runs that do not fit into --limit are named.
With --parallel above 1 NVIDIA's MPS daemon (`nvidia-cuda-mps-control -d`, stopped by `echo quit | nvidia-cuda-mps-control`)
makes them several times faster.

usage: quality.py FEDERATED_ROUNDS DATA [options]   DATA is a folder that `spillway tokenize` has written
"""
import argparse
import concurrent.futures
import dataclasses
import os
import queue
import re
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

RESULT = re.compile(r"^loss ([0-9.]+) merges (\d+) seconds ([0-9.]+)$", re.MULTILINE)
ENVIRONMENT = dict(os.environ, OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1", OMP_NUM_THREADS="1")
LEARNING_RATE = re.compile(r"^((?!outer-).*-lr) = (.+)$", re.MULTILINE)
DECAY = re.compile(r"^(muon-momentum|muon-beta2|adam-beta1|adam-beta2) = (.+)$", re.MULTILINE)
MPIRUN = ["mpirun", "--oversubscribe", "--bind-to", "none", "--mca", "mpi_yield_when_idle", "1", "--mca", "btl", "self,vader"]


@dataclasses.dataclass(frozen=True)
class Run:
    sites: int
    h: int = 100
    wire: str = "bf16"
    lr: float = 1.0  # of the outer step
    momentum: float = 0.0
    average: str = "on"  # of the optimizers' states
    seed: int = 1

    def setting(self):
        return dataclasses.replace(self, seed=0)

    def options(self):
        values = {"train.seed": self.seed, "federation.round-steps": self.h, "federation.compression": self.wire,
                  "federation.outer-lr": self.lr, "federation.outer-momentum": self.momentum,
                  "federation.average-optimizer": self.average}
        return [word for key, value in values.items() for word in (f"--{key}", str(value))]


def plan(seeds, parts):
    """In order of importance: what does not fit into the time is left out from the end."""
    every = range(1, seeds + 1)
    own = ((1.0, 0.0), (0.9, 0.3), (0.9, 0.6))
    runs = {"sites": [Run(sites, seed=s) for sites in (1, 2, 3) for s in every],
            "h": [Run(sites, h=h, seed=s) for h in (50, 200) for sites in (2, 3) for s in every],
            "wire": [Run(3, wire=wire, seed=s) for wire in ("fp32", "int8") for s in every],
            "own": [Run(3, lr=lr, momentum=m, average="off", seed=s) for lr, m in own for s in every],
            "outer": [Run(sites, lr=0.9, momentum=m, seed=s) for m in (0.3, 0.6) for sites in (2, 3) for s in every]}
    return [run for part in parts for run in runs[part]]


def optimizer(options, sites):
    """Options of the sites' own optimizers: the default learning rates times the factor for so many sites, and memories
    --memory times as long as the default ones."""
    defaults = subprocess.run([options.program, "--print-config"], env=ENVIRONMENT, check=True, capture_output=True, text=True)
    factor = options.learning_rates[min(sites, len(options.learning_rates)) - 1]
    rates = {f"optim.{name}": float(value) * factor for name, value in LEARNING_RATE.findall(defaults.stdout)}
    return rates | {f"optim.{name}": 1 - (1 - float(value)) / options.memory for name, value in DECAY.findall(defaults.stdout)}


def outcome(options, run, gpus, end):
    """(loss in nats per token, merges, seconds); None where the time was up."""
    names = ("device", "steps", "tokens-per-step", "micro-batch", "val-tokens")
    values = {f"train.{name}": getattr(options, name.replace("-", "_")) for name in names}
    values |= {f"model.{name}": getattr(options, name) for name in ("layers", "width", "heads", "sequence")}
    values |= {"data.dir": options.data, "train.threads": 1, "train.deterministic": "on" if options.deterministic else "off"}
    values |= optimizer(options, run.sites)
    words = [word for key, value in values.items() for word in (f"--{key}", str(value))]
    left_s = end - time.monotonic()
    if left_s <= 0:
        return None
    gpu = gpus.get()
    # Without a terminal or a file, mpirun's children would share this process's standard input.
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen([*MPIRUN, "-n", str(run.sites), options.program, *words, *run.options()],
                                   env=ENVIRONMENT | {"CUDA_VISIBLE_DEVICES": str(gpu)}, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
        try:
            status = process.wait(left_s)
        except subprocess.TimeoutExpired:
            process.terminate()
            process.wait()
            return None
        finally:
            gpus.put(gpu)
        output.seek(0)
        text = output.read()
    if status != 0:
        raise SystemExit(f"{run}: exit {status}\n{text[-3000:]}")
    loss, merges, seconds = RESULT.search(text).groups()
    return float(loss), int(merges), float(seconds)


def table(results):
    by_setting = {}
    for run, result in results.items():
        by_setting.setdefault(run.setting(), {})[run.seed] = result
    alone = {seed: result[0] for seed, result in by_setting.get(Run(1, seed=0), {}).items()}
    lines = ["| sites | H | wire | outer lr | momentum | optimizers averaged | rounds | seeds | loss, nats | minus one site's, same seeds |",
             "|---|---|---|---|---|---|---|---|---|---|"]
    for setting, by_seed in by_setting.items():
        losses = [result[0] for result in by_seed.values()]
        apart = [result[0] - alone[seed] for seed, result in by_seed.items() if seed in alone]
        spread = f" ± {statistics.stdev(losses):.4f}" if len(losses) > 1 else ""
        loss = f"{len(losses)} | {statistics.mean(losses):.4f}{spread}"
        if setting.sites == 1:
            lines.append(f"| 1 | | | | | | | {loss} | |")
            continue
        merges = next(iter(by_seed.values()))[1]
        difference = f"{statistics.mean(apart):+.4f}" if apart else ""
        lines.append(f"| {setting.sites} | {setting.h} | {setting.wire} | {setting.lr} | {setting.momentum} | {setting.average} | {merges} | "
                     f"{loss} | {difference} |")
    return "\n".join(lines)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=lambda name: str(Path(name).resolve()))
    parser.add_argument("data", type=lambda name: Path(name).resolve())
    for name, kind, default in (("device", str, "cuda"), ("layers", int, 4), ("width", int, 256), ("heads", int, 2),
                                ("sequence", int, 256), ("steps", int, 24000), ("tokens-per-step", int, 1024),
                                ("micro-batch", int, 4), ("val-tokens", int, 131072), ("seeds", int, 3)):
        parser.add_argument(f"--{name}", type=kind, default=default)
    parser.add_argument("--learning-rates", type=float, nargs="+", default=[0.07, 0.12, 0.15], metavar="FACTOR",
                        help="of the sites' own optimizers, for one, two and more sites; the default rates are for steps of half "
                             "a million tokens")
    parser.add_argument("--memory", type=float, default=18.0, metavar="FACTOR",
                        help="how much longer the optimizers' memories are than the default ones, likewise")
    parser.add_argument("--gpus", type=int, default=1)
    parser.add_argument("--deterministic", action="store_true",
                        help="sums in a fixed order: what differs between two runs of a seed is their setting's doing")
    parser.add_argument("--parallel", type=int, default=3, help="runs side by side, on all GPUs together")
    parser.add_argument("--limit", type=float, default=3600, help="seconds for all runs")
    parser.add_argument("--runs", type=int, help="only the first so many of the plan")
    parser.add_argument("--parts", nargs="+", default=["sites", "h", "wire", "own", "outer"], choices=["sites", "h", "wire", "own", "outer"])
    return parser.parse_args()


def main():
    options = arguments()
    end = time.monotonic() + options.limit
    runs = plan(options.seeds, options.parts)[:options.runs]
    results = {}
    gpus = queue.Queue()
    for index in range(max(options.parallel, options.gpus)):
        gpus.put(index % options.gpus)
    with concurrent.futures.ThreadPoolExecutor(options.parallel) as pool:
        futures = {pool.submit(outcome, options, run, gpus, end): run for run in runs}
        for future in concurrent.futures.as_completed(futures):
            try:
                result = future.result()
            except SystemExit:
                end = 0  # the others would fail likewise
                for other in futures:
                    other.cancel()
                raise
            if result is not None:
                results[futures[future]] = result
                print(f"{futures[future]}: loss {result[0]:.4f}, {result[1]} merges, {result[2]:.1f} s", flush=True)
    print(f"\n{options.steps} steps of {options.tokens_per_step} tokens on {options.device}, "
          f"learning rates × {options.learning_rates}, memories × {options.memory}\n\n"
          + table({run: results[run] for run in runs if run in results}))
    left_out = [run for run in runs if run not in results]
    for run in left_out:
        print(f"left out: {run}")
    return 1 if left_out else 0


if __name__ == "__main__":
    raise SystemExit(main())
