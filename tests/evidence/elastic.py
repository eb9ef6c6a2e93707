#!/usr/bin/python3
"""A checkpoint of one rank on 1, 2, 4 and 8 ranks: the same state when loaded, the same run within rounding after.

usage: elastic.py SPILLWAY
On several ranks all of them write: the checkpoints are in as many parts, and one rank goes on from those.
The digest of what was loaded is that of a checkpoint which a finished run writes without a further step.
"""
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np

import runs

RANKS = (1, 2, 4, 8)
AT, STEPS = 20, 24  # checkpoint, end


def losses(run_folder):
    datasets, _ = runs.state(run_folder)
    return np.frombuffer(datasets["history/loss_nats"])


def saved(run_folder):
    return len(list((run_folder / "local").glob("checkpoint_????????.h5")))


def parts(run_folder):
    return len(list((run_folder / "local").glob("*.part*.h5")))


def main():
    spillway = sys.argv[1]
    good = True
    with tempfile.TemporaryDirectory(prefix="spillway-elastic-") as name:
        folder = Path(name)
        data = folder / "data"
        runs.write_data(data)
        runs.run(0, spillway, 1, data, folder / "done", "--train.steps", AT)
        runs.run(75, spillway, 1, data, folder / "half", "--train.steps", STEPS, "--train.stop-after", AT)
        expected, reference = runs.state(folder / "done"), None
        for ranks in RANKS:
            done, half = folder / f"done-{ranks}", folder / f"half-{ranks}"
            shutil.copytree(folder / "done", done, symlinks=True)
            shutil.copytree(folder / "half", half, symlinks=True)
            writers = ("--train.checkpoint-writers", ranks)
            runs.run(0, spillway, ranks, data, done, "--train.steps", AT, *writers)
            same = runs.state(done) == expected and saved(done) == 2 and parts(done) == (ranks if ranks > 1 else 0)
            runs.run(0, spillway, 1, data, done, "--train.steps", AT)
            same = same and runs.state(done) == expected and saved(done) == 3
            runs.run(0, spillway, ranks, data, half, "--train.steps", STEPS, *writers)
            found = losses(half)
            reference = found if reference is None else reference
            apart = np.abs(found / reference - 1).max()
            print(f"1 → {ranks} → 1 ranks: state on load {'the same' if same else 'DIFFERS'}, digest {expected[1]}; "
                  f"losses of {len(found) - AT} more steps differ by at most {apart:.1e}")
            good = good and same and len(found) == STEPS and apart < 1e-3
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
