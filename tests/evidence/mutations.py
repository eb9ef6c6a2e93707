#!/usr/bin/python3
"""Mutated checkpoints through inspect, verify, diff, export and resume: a clear error or a true answer, never a crash.

usage: mutations.py SPILLWAY [--files 2000] [--seed 1] [--workers 2] [--writers 1 2]
Best with a program built with -DSPILLWAY_SANITIZE=address,undefined: then an over-allocation (more than 1 GiB) and
undefined behaviour end it too. Half of the structural mutations get a right seal and right digests again, so that they
reach what lies behind those. Bad are: a signal, a sanitizer's report, a time limit, an exit code that is neither 0 nor
65, an error of no or several lines, a verified file with another digest than the original's unless it was forged, and
an answer of `diff` (the original on one side) that h5py's reading of both files contradicts, or that verify's does.
"""
import argparse
import collections
import concurrent.futures
import os
import random
import re
import shutil
import struct
import subprocess
import tempfile
from pathlib import Path

# Before h5py: a program that another thread starts meanwhile would hold h5py's lock on a file for a moment.
os.environ["HDF5_USE_FILE_LOCKING"] = "FALSE"

import h5py
import numpy as np

import runs
import sealing

runs.ENVIRONMENT.pop("HDF5_USE_FILE_LOCKING")  # the programs under test lock as always

LIMIT_S = 120
STEPS = 6
ENVIRONMENT = dict(runs.ENVIRONMENT, OMPI_MCA_ess_singleton_isolated="1", OPENBLAS_NUM_THREADS="1",
                   ASAN_OPTIONS="detect_leaks=0:max_allocation_size_mb=1024:allocator_may_return_null=0",
                   UBSAN_OPTIONS="print_stacktrace=1")
runs.ENVIRONMENT.update(ENVIRONMENT)


# Of bytes: what broken disks and copies do.
def truncated(data, rng):
    return data[:rng.randrange(len(data))]


def flipped(data, rng):
    data = bytearray(data)
    for _ in range(rng.randint(1, 8)):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(data)


def zeroed_page(data, rng):
    page = rng.randrange(len(data)) // 4096 * 4096
    size = min(4096, len(data) - page)
    return data[:page] + bytes(size) + data[page + size:]


def noise(data, rng):
    at = rng.randrange(len(data))
    return data[:at] + rng.randbytes(min(rng.randint(1, 64), len(data) - at)) + data[at + 64:]


def moved_piece(data, rng):
    size = rng.randint(1, 2048)
    at, source = rng.randrange(len(data) - size), rng.randrange(len(data) - size)
    return data[:at] + data[source:source + size] + data[at + size:]


def huge_integer(data, rng):
    at = rng.randrange(len(data) - 8) // 8 * 8
    return data[:at] + struct.pack("<Q", rng.choice((2**60, 2**63, 2**64 - 1, 2**31))) + data[at + 8:]


def extended(data, rng):
    return data + rng.randbytes(rng.randint(1, 10000))


BYTES = (truncated, flipped, zeroed_page, noise, moved_piece, huge_integer, extended)


# Of structure: what programs and people do.
def datasets(file):
    found = []
    file.visititems(lambda name, item: found.append(name) if isinstance(item, h5py.Dataset) else None)
    return found


def swapped_names(file, rng):
    a, b = rng.sample(datasets(file), 2)
    file.move(a, "spare")
    file.move(b, a)
    file.move("spare", b)


def swapped_values(file, rng):
    shapes = collections.defaultdict(list)
    for name in datasets(file):
        shapes[file[name].shape, file[name].dtype].append(name)
    a, b = rng.sample(rng.choice([names for names in shapes.values() if len(names) > 1]), 2)
    file[a][...], file[b][...] = file[b][()], file[a][()]


def replaced(file, name, shape, dtype, rng):
    """An empty dataset in the place of one, with its checksum."""
    checksum = file[name].attrs["xxh3"]
    del file[name]
    size = np.prod(shape, dtype=float)
    chunked = size > 0 and (rng.random() < 0.5 or size > 1e9)
    chunks = tuple(min(extent, 64) for extent in shape) if chunked else None
    item = file.create_dataset(name, shape=shape, dtype=dtype, chunks=chunks)
    sealing.set_text(item, "xxh3", checksum if isinstance(checksum, str) else checksum.decode())


def hostile_size(file, rng):
    name = rng.choice(datasets(file))
    shape = rng.choice(((2**60,), (2**31, 2**29), (2**40, 1), (1, 2**60), (2**20, 2**20, 2**20)))
    replaced(file, name, shape, file[name].dtype, rng)


def other_shape(file, rng):
    name = rng.choice(datasets(file))
    shape = rng.choice(((0,), (7,), file[name].shape + (1,), file[name].shape[:0:-1] or (1,), (1,) * 9))
    replaced(file, name, shape, file[name].dtype, rng)


def other_type(file, rng):
    name = rng.choice(datasets(file))
    replaced(file, name, file[name].shape, rng.choice(("<f8", "<i8", ">f4", "<f2", "S16", "u1")), rng)


def missing(file, rng):
    names = datasets(file) + [name for name in file]
    del file[rng.choice(names)]


def added(file, rng):
    item = file.create_dataset(rng.choice(("model/more", "history/more", "more")), data=np.arange(5, dtype="<f4"))
    sealing.set_text(item, "xxh3", sealing.xxh3(item[()].tobytes()))


def attributes_of(file):
    found = [("/", name) for name in file.attrs]
    file.visititems(lambda path, item: found.extend((path, name) for name in item.attrs))
    return found


def changed_attribute(file, rng):
    path, name = rng.choice(attributes_of(file))
    value = rng.choice((2**60, -1, 0, 2**63 - 1, 1.5, float("nan"), "", "x" * 60000, "ÿ\n\x01", 99))
    if isinstance(value, str):
        sealing.set_text(file[path], name, value)
    else:
        del file[path].attrs[name]
        file[path].attrs.create(name, value, dtype="<i8" if isinstance(value, int) else "<f8")


def hostile_sizes(file, rng):
    """Other sizes of the model, which must agree with its tensors."""
    if "sizes" not in file:
        return missing(file, rng)
    name = rng.choice(("layers", "width", "heads", "vocab", "sequence", "scalars", "parameters"))
    file["sizes"].attrs.modify(name, np.int64(rng.choice((2**60, 2**31 - 1, 2**31, 0, -1, 10**6, 3))))


def missing_attribute(file, rng):
    path, name = rng.choice(attributes_of(file))
    del file[path].attrs[name]


def links(file, rng):
    """Links out of the file, to nowhere and round in circles."""
    name = rng.choice(datasets(file))
    del file[name]
    file[name] = rng.choice((h5py.ExternalLink("/etc/passwd", "/"), h5py.SoftLink("/nowhere"), h5py.SoftLink("/")))


def compressed(file, rng):
    name = rng.choice(datasets(file))
    data, checksum = file[name][()], file[name].attrs["xxh3"]
    if data.ndim == 0 or data.size == 0:
        return
    del file[name]
    item = file.create_dataset(name, data=data, chunks=data.shape, compression="gzip")
    sealing.set_text(item, "xxh3", checksum if isinstance(checksum, str) else checksum.decode())


STRUCTURE = (swapped_names, swapped_values, hostile_size, hostile_size, other_shape, other_type, missing, added,
             changed_attribute, changed_attribute, hostile_sizes, missing_attribute, links, compressed)


def foreign(file, rng):
    """An HDF5 file of other people."""
    with h5py.File(file, "w", libver=rng.choice(("earliest", "latest"))) as out:
        out.create_dataset("images", data=np.arange(100.0).reshape(10, 10), compression="gzip")
        out.create_dataset("names", data=["a", "bc"], dtype=h5py.string_dtype())
        if rng.random() < 0.5:
            sealing.set_text(out, "format", "spillway-checkpoint")
            out.attrs["version"] = rng.choice((1, 2, 3))
    if rng.random() < 0.5:
        sealing.seal(file)


def mutate(file, rng):
    """Changes the file in place. Returns (what was done, whether its seal and digests are right all the same)."""
    choice = rng.random()
    if choice < 0.5:
        how = rng.choice(BYTES)
        file.write_bytes(how(file.read_bytes(), rng))
        return how.__name__, False
    if choice < 0.53:
        foreign(file, rng)
        return "foreign", False
    how, forged = rng.choice(STRUCTURE), rng.random()
    sealing.unseal(file)
    with h5py.File(file, "r+") as opened:
        how(opened, rng)
        try:
            if forged < 0.4:
                sealing.digest(opened)
        except (KeyError, TypeError, UnicodeError):  # a mutation that has no digest
            forged = 0.5
    if forged < 0.7:
        sealing.seal(file)
    return how.__name__ + (", forged" if forged < 0.4 else ", sealed" if forged < 0.7 else ""), forged < 0.4


def state(file):
    """Shape, type and bytes of every dataset by path, as h5py reads them; nothing for a file that it cannot read."""
    try:
        with h5py.File(file) as opened:
            return {name: (opened[name].shape, opened[name].dtype.str, opened[name][()].tobytes())
                    for name in datasets(opened)}
    except (OSError, KeyError, MemoryError, RuntimeError, TypeError, ValueError):
        return None


def misjudged(answer, verified, original, file, forged):
    """What is wrong with diff's answer about the original, whose state is given, and the file; verified: verify's result."""
    identical = "state     identical" in answer.stdout
    # Forged attributes can be refused by verify with every dataset the same: diff shows them as other sizes or progress.
    if identical and (answer.returncode != 0 or (verified.returncode != 0 and not forged)):
        return f"exit {answer.returncode}, identical, but verify: {verified.stderr}"
    if answer.returncode != 0:  # h5py reads no file that was refused: HDF5 crashes on some
        return ""
    if "does not match its checksum" in verified.stderr:
        return f"no damage found, but verify: {verified.stderr}"
    same = state(file) == original
    if identical != same:
        return f"not the truth, which is {'the same' if same else 'another'} state: {answer.stdout}"
    return ""


class Original:
    """A checkpoint in a folder of its own, with the command that resumes from it."""

    def __init__(self, spillway, folder, writers):
        self.spillway, self.folder, self.data = spillway, folder / f"of-{writers}", folder / "data"
        if not self.data.exists():
            runs.write_data(self.data)
        runs.run(75, spillway, writers, self.data, folder / f"run-{writers}", "--train.steps", STEPS, "--train.stop-after", STEPS,
                 *(() if writers == 1 else ("--train.checkpoint-writers", writers)))
        shutil.copytree(folder / f"run-{writers}" / "local", self.folder, ignore=shutil.ignore_patterns("latest", ".lock", "*.jsonl"))
        self.file = next(self.folder.glob("checkpoint_????????.h5"))
        self.state = state(self.file)
        self.digest = re.search("digest ([0-9a-f]{32})", self.run("verify", self.file).stdout).group(1)

    def run(self, *arguments):
        return subprocess.run([self.spillway, *map(str, arguments)], env=ENVIRONMENT, capture_output=True, text=True,
                              errors="replace", timeout=LIMIT_S)

    def commands(self, file, folder, rng):
        """Name and process of everything that reads checkpoints."""
        pair = [self.file, file]
        rng.shuffle(pair)
        yield "inspect", ("inspect", file)
        yield "inspect", ("inspect", file, "--tensors", "--history", "--energy", "--config")
        yield "verify", ("verify", file)
        yield "diff", ("diff", *pair)
        yield "export", ("export", file, "--out", folder / "exported")
        yield "resume", runs.command(self.spillway, 1, self.data, folder / "run", "--train.steps", STEPS,
                                     "--train.resume", file)[1:]


def complaint(result):
    """What is wrong with how a command ended; empty where nothing is."""
    text = result.stdout + result.stderr
    if "Sanitizer" in text or "runtime error" in text or result.returncode < 0 or result.returncode not in (0, 65):
        return f"exit {result.returncode}: {text[-3000:]}"
    errors = [line for line in result.stderr.splitlines() if "error" in line]
    if result.returncode == 65 and len(errors) != 1:
        return f"exit 65 with {len(errors)} lines of error: {text[-1000:]}"
    return ""


def judge(original, seed):
    """One mutation: (kind, {command: exit code}, complaints)."""
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="spillway-mutation-") as name:
        folder = Path(name)
        shutil.copytree(original.folder, folder / "checkpoint")
        victim = rng.choice(sorted((folder / "checkpoint").iterdir()))
        kind, forged = mutate(victim, rng)
        file, codes, complaints, results = folder / "checkpoint" / original.file.name, {}, [], {}
        for command, arguments in original.commands(file, folder, rng):
            try:
                result = original.run(*arguments)
            except subprocess.TimeoutExpired:
                complaints.append(f"{command}: no end after {LIMIT_S} s")
                continue
            results[command] = result
            codes[command] = max(codes.get(command, 0), result.returncode)
            if problem := complaint(result):
                complaints.append(f"{command}: {problem}")
            if command == "verify" and result.returncode == 0 and not forged and original.digest not in result.stdout:
                complaints.append(f"verify: another digest: {result.stdout}")
        if "verify" in results and "diff" in results:
            if problem := misjudged(results["diff"], results["verify"], original.state, file, forged):
                complaints.append(f"diff: {problem}")
        return kind, codes, complaints


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("spillway")
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--writers", type=int, nargs="+", default=[1])
    options = parser.parse_args()
    spillway = str(Path(options.spillway).resolve())
    kinds, ends, bad = collections.Counter(), collections.Counter(), 0
    with tempfile.TemporaryDirectory(prefix="spillway-mutations-") as name:
        originals = [Original(spillway, Path(name), writers) for writers in options.writers]
        with concurrent.futures.ThreadPoolExecutor(options.workers) as pool:
            seeds = [f"{options.seed}-{i}" for i in range(options.files)]
            work = [pool.submit(judge, originals[i % len(originals)], seed) for i, seed in enumerate(seeds)]
            for seed, done in zip(seeds, work):
                kind, codes, complaints = done.result()
                kinds[kind] += 1
                ends.update((command, code) for command, code in codes.items())
                bad += bool(complaints)
                for text in complaints:
                    print(f"BAD {seed} ({kind}): {text}", flush=True)
    for kind, count in sorted(kinds.items()):
        print(f"{count:5} {kind}")
    for command in ("inspect", "verify", "diff", "export", "resume"):
        print(f"{command:8} {ends[command, 0]:5} true answers, {ends[command, 65]:5} refused with 65")
    print(f"{options.files} mutated files, seed {options.seed}: {bad} bad")
    return 1 if bad or not ends["verify", 65] else 0


if __name__ == "__main__":
    raise SystemExit(main())
