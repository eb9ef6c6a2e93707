#!/usr/bin/python3
"""Runs of several ranks, each writing its part of every checkpoint, killed at random moments.

usage: kills.py SPILLWAY [--kills 20] [--ranks 2] [--seed 1]
After each kill every checkpoint under its final name must be whole, and the newest at most one save behind the log.
"""
import argparse
import os
import random
import re
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import runs


def start(arguments, log):
    return subprocess.Popen(arguments, env=runs.ENVIRONMENT, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)


def kill_all(process):
    """mpirun and its ranks, which are in process groups of their own, all at about the same moment."""
    ranks = [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
    for pid in (*ranks, process.pid):
        os.kill(pid, signal.SIGKILL)
    process.wait()
    while any(alive(pid) for pid in ranks):
        time.sleep(0.01)


def alive(pid):
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def logged(text):
    """Number of the last checkpoint that a log says is on disk; 0: none."""
    numbers = re.findall(r"checkpoint_(\d{8})\.h5 \(\w+\), digest", text)
    return int(numbers[-1]) if numbers else 0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("spillway")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    random.seed(options.seed)
    durable, between, bad = 0, 0, 0
    with tempfile.TemporaryDirectory(prefix="spillway-kills-") as name:
        folder = Path(name)
        runs.write_data(folder / "data")
        site = folder / "run" / "local"
        command = runs.command(options.spillway, options.ranks, folder / "data", folder / "run", "--train.steps", 10**6,
                               "--train.checkpoint-writers", options.ranks, "--train.checkpoint-every", "0.02s")
        for _ in range(options.kills):
            log = folder / "log"
            with open(log, "w") as out:
                process = start(command, out)
                while process.poll() is None and not logged(log.read_text()):
                    time.sleep(0.05)
                if process.poll() is not None:
                    raise SystemExit(f"the run ended by itself: {log.read_text()}")
                time.sleep(random.random())
                kill_all(process)
            durable = max(durable, logged(log.read_text()))
            masters = {file.stem for file in site.glob("checkpoint_????????.h5")}
            between += any(file.suffix == ".tmp" or file.name.split(".part")[0] not in masters
                           for file in site.glob("checkpoint_*part*"))
            result = subprocess.run([options.spillway, "verify", str(site)], capture_output=True, text=True)
            newest = max(int(master[-8:]) for master in masters)
            if result.returncode != 0 or newest < durable:
                bad += 1
                print(f"BAD: newest {newest}, logged {durable}: {result.stdout}{result.stderr}")
    print(f"{options.kills} kills of {options.ranks} ranks with as many writers, seed {options.seed}: {durable} checkpoints "
          f"written, {between} kills between the parts and their master, {bad} bad")
    return 1 if bad or durable < options.kills else 0


if __name__ == "__main__":
    raise SystemExit(main())
