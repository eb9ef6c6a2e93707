"""Runs of the real program on small data."""
import os
import subprocess
from pathlib import Path

import h5py
import numpy as np

ENVIRONMENT = dict(os.environ, OMP_NUM_THREADS="1", OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1",
                   HWLOC_COMPONENTS="-opencl")  # mpirun forwards signals


def write_data(folder):
    """Shards (llm.c's layout) of a walk over 64 tokens, each mostly followed by its neighbour."""
    folder.mkdir()
    random = np.random.default_rng(12345)
    steps = np.where(random.random(60000) < 0.75, 1, random.integers(0, 64, 60000))
    tokens = np.cumsum(steps) % 64
    for name, part in (("train", tokens[:50000]), ("val", tokens[50000:])):
        header = np.zeros(256, "<i4")
        header[:3] = 20240520, 1, len(part)
        (folder / f"{name}_000000.bin").write_bytes(header.tobytes() + part.astype("<u2").tobytes())


def command(spillway, ranks, data, run, *more):
    """The command line of a run with a model of two layers."""
    mpirun = ["mpirun", "--oversubscribe", "--bind-to", "none", "--mca", "mpi_yield_when_idle", "1", "-n", str(ranks)]
    model = ["--model.layers", "2", "--model.width", "64", "--model.heads", "2", "--model.sequence", "32"]
    train = ["--train.tokens-per-step", "512", "--train.val-every", "20", "--train.val-tokens", "512",
             "--train.threads", "1"]
    return (mpirun if ranks > 1 else []) + [spillway, "train", "--data.dir", str(data), "--run.dir", str(run), *model,
                                            *train, *map(str, more)]


def run(status, *arguments):
    """Runs to the end and insists on the exit status."""
    result = subprocess.run(command(*arguments), env=ENVIRONMENT, capture_output=True, text=True)
    if result.returncode != status:
        raise SystemExit(f"exit {result.returncode} instead of {status}:\n{result.stdout}{result.stderr}")


def state(run_folder):
    """Bytes of all datasets of the newest checkpoint by path, and its digest."""
    datasets = {}
    with h5py.File(Path(run_folder) / "local" / "latest") as file:
        file.visititems(lambda name, item: datasets.update({name: item[()].tobytes()})
                        if isinstance(item, h5py.Dataset) else None)
        digest = file.attrs["digest"]
    return datasets, digest.decode() if isinstance(digest, bytes) else digest
