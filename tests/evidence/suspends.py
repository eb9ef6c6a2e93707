#!/usr/bin/python3
"""Many suspends at random steps against the uninterrupted run: byte-identical final state.

usage: suspends.py SPILLWAY [--suspends 50] [--ranks 1] [--writers 1] [--seed 1]
The uninterrupted run writes its checkpoint in one file, the other one in as many as there are writers.
"""
import argparse
import random
import tempfile
from pathlib import Path

import runs


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("spillway")
    parser.add_argument("--suspends", type=int, default=50)
    parser.add_argument("--ranks", type=int, default=1)
    parser.add_argument("--writers", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    random.seed(options.seed)
    steps = 4 * options.suspends + 10
    stops = sorted(random.sample(range(1, steps), options.suspends))
    with tempfile.TemporaryDirectory(prefix="spillway-suspends-") as name:
        folder = Path(name)
        runs.write_data(folder / "data")
        common, writers = ("--train.steps", steps), ("--train.checkpoint-writers", options.writers)
        run = (options.spillway, options.ranks, folder / "data")
        runs.run(0, *run, folder / "whole", *common)
        done = 0
        for stop in stops:
            runs.run(75, *run, folder / "parts", *common, *writers, "--train.stop-after", stop - done)
            done = stop
        runs.run(0, *run, folder / "parts", *common, *writers)
        (expected, digest), (found, found_digest) = runs.state(folder / "whole"), runs.state(folder / "parts")
    different = [path for path in expected.keys() | found.keys() if expected.get(path) != found.get(path)]
    print(f"{options.suspends} suspends in {steps} steps on {options.ranks} ranks, {options.writers} writers, seed {options.seed}, at {stops}: "
          f"{len(expected)} datasets, {len(different)} differ, digests {digest} and {found_digest}")
    return 1 if different or digest != found_digest or len(expected) < 40 else 0


if __name__ == "__main__":
    raise SystemExit(main())
