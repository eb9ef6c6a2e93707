#!/usr/bin/python3
"""What rounds cost in training throughput: two sites that merge against the same two that train alone, on one machine.

usage: overlap.py SPILLWAY DATA WORK_DIR [--rounds 30] [--round-length 8] [--solo 25] [--overlap on|off] [--devices cuda cuda]
                  [--threads N] [options of `spillway train` after --]
First both sites train for --solo seconds without a hub, at the same time; then through the rounds; then without a hub again. Each
cuda site has a GPU of its own (CUDA_VISIBLE_DEVICES 0 and 1); a cpu site uses --threads cores. Prints tokens per second of each
phase, the share of them that is left, and the rounds' own times. Exit code 1 where the federation's journal is not sound.
"""
import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

SITES = ("california", "texas")
HUB = ("--federation.hub", "127.0.0.1:27077", "--federation.port-min", "27100", "--federation.port-count", "400")
WARM_S = 12     # of a solo phase: start-up and the first steps
FIRST = 3       # rounds that are not counted
PATIENCE_S = 60  # for a round, and for an end


class Overlap:
    def __init__(self, options, more):
        self.options, self.more, self.work = options, more, Path(options.work)
        self.work.mkdir(parents=True)

    def environment(self, index):
        extra = {"CUDA_VISIBLE_DEVICES": str(index)} if self.options.devices[index] == "cuda" else {}
        return dict(os.environ, OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1", **extra)

    def start(self, index, name, *words):
        with open(self.work / f"{name}.log", "w") as log:
            return subprocess.Popen([self.options.spillway, *words], stdout=log, stderr=subprocess.STDOUT,
                                    env=self.environment(index))

    def site(self, index, folder, *words):
        return self.start(index, f"{folder}-{SITES[index]}", "train", *self.common(folder), "--site.name", SITES[index],
                          "--train.device", self.options.devices[index], "--train.threads", str(self.options.threads),
                          "--site.telemetry-every", "500ms", *words)

    def common(self, folder):
        return ("--data.dir", self.options.data, "--run.dir", str(self.work / folder), "--train.steps", "10000000",
                "--train.log-every", "0", "--train.val-every", "0", "--train.checkpoint-every", "0", *self.more)

    def end(self, processes, number):
        for process in processes:
            process.send_signal(number)
        statuses = [process.wait(PATIENCE_S) for process in processes]
        if number == signal.SIGUSR1 and statuses != [75] * len(processes):
            sys.exit(f"exit codes {statuses}: see {self.work}/*.log")

    def lines(self, folder, site):
        """(instant, tokens so far) of the site's energy log; a torn last line is left out."""
        text = (self.work / folder / site / "energy.jsonl").read_text()
        entries = [json.loads(line[33:]) for line in text[:text.rfind("\n") + 1].splitlines()]
        return [(entry["unix_s"], entry["tokens"]) for entry in entries]

    def rate(self, folder, site, begin, end):
        inside = [line for line in self.lines(folder, site) if begin <= line[0] <= end]
        return (inside[-1][1] - inside[0][1]) / (inside[-1][0] - inside[0][0])

    def solo(self, folder):
        processes = [self.site(index, folder) for index in range(len(SITES))]
        time.sleep(WARM_S + self.options.solo)
        now = time.time()
        self.end(processes, signal.SIGUSR1)
        rates = [self.rate(folder, site, now - self.options.solo, now) for site in SITES]
        print(f"{folder}: alone {rates[0]:.0f} and {rates[1]:.0f} tokens/s", file=sys.stderr, flush=True)
        return rates

    def rounds(self):
        file = self.work / "together/hub/rounds.jsonl"
        text = file.read_text() if file.exists() else ""
        entries = [json.loads(line) for line in text[:text.rfind("\n") + 1].splitlines()]
        return [entry for entry in entries if entry["merge"] != "adopt"]

    def together(self):
        federation = (*HUB, "--federation.round-length", f"{self.options.round_length}s", "--federation.overlap",
                      self.options.overlap, "--federation.lease-steps", "400")
        hub = self.start(0, "hub", "hub", *self.common("together"), *federation)
        time.sleep(1)
        processes = [self.site(index, "together", *federation) for index in range(len(SITES))]
        instants, began = [], time.time()
        while len(instants) < FIRST + self.options.rounds:
            late = time.time() - (instants[-1] if instants else began) > PATIENCE_S
            if late or any(process.poll() is not None for process in [hub, *processes]):
                for log in sorted(self.work.glob("*.log")):
                    print(f"==== {log.name}\n{log.read_text(errors='replace')[-2500:]}")
                self.end([*processes, hub], signal.SIGTERM)
                sys.exit("no round in time" if late else "hub or site has ended")
            for _ in range(len(self.rounds()) - len(instants)):
                instants.append(time.time())
                print(f"round {len(instants)} after {instants[-1] - began:.1f} s", file=sys.stderr, flush=True)
            time.sleep(0.1)
        self.end(processes, signal.SIGUSR1)
        self.end([hub], signal.SIGTERM)
        begin, end = instants[FIRST - 1], instants[-1]
        return [self.rate("together", site, begin, end) for site in SITES], end - begin


def main():
    parser = argparse.ArgumentParser(usage=__doc__.split("\n\n")[1])
    for name in ("spillway", "data", "work"):
        parser.add_argument(name)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--round-length", type=float, default=8)
    parser.add_argument("--solo", type=float, default=25)
    parser.add_argument("--overlap", choices=("on", "off"), default="on")
    parser.add_argument("--devices", choices=("cuda", "cpu"), nargs=2, default=("cuda", "cuda"))
    parser.add_argument("--threads", type=int, default=8)
    words = sys.argv[1:]
    split = words.index("--") if "--" in words else len(words)
    options = parser.parse_args(words[:split])
    run = Overlap(options, words[split + 1:])
    before = run.solo("before")
    together, seconds = run.together()
    after = run.solo("after")
    for index, site in enumerate(SITES):
        alone = (before[index] + after[index]) / 2
        print(f"{site}: alone {before[index]:.0f} and {after[index]:.0f} tokens/s, in rounds {together[index]:.0f}: "
              f"{together[index] / alone:.2%}")
    share = sum(together) / (sum(before) + sum(after)) * 2
    print(f"{options.rounds} rounds in {seconds:.0f} s, overlap {options.overlap}: {share:.2%} of training alone")
    counted = run.rounds()[FIRST:FIRST + options.rounds]
    for name in ("train_s", "wait_s", "exchange_s", "apply_s"):
        values = [entry[name] for entry in counted if name in entry]
        if values:
            print(f"  {name}: median {statistics.median(values):.2f}, most {max(values):.2f}")
    audit = subprocess.run([options.spillway, "hub", "--audit", str(run.work / "together"), "--json"], capture_output=True,
                           text=True, check=False)
    print("audit:", "sound" if audit.returncode == 0 else audit.stdout + audit.stderr)
    return audit.returncode != 0


if __name__ == "__main__":
    sys.exit(main())
