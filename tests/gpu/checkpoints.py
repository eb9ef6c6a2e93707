#!/usr/bin/env python3
"""Checkpoints on a GPU: suspends, changes of the device, export, text, and the times of a d20.

usage: checkpoints.py SPILLWAY WORK_DIR [--suspends 20] [--depth 20]
- A d4 on the data of make_data.py, deterministic: suspended at random steps against the uninterrupted run, byte for byte.
- Its checkpoints CUDA → CPU and CPU → CUDA: what a finished run loads and writes again has the same digest; both go on.
- Its export in transformers (skipped without it): the loss on the held-out text that spillway validated with; and text.
- A model of --depth: sizes, how long training waits for a checkpoint, time to suspend, time to the first step of a resume.
"""
import argparse
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent / "reference"))
STEPS, AT = 60, 20  # of the d4; where it changes the device


class Runs:
    def __init__(self, spillway, work):
        self.spillway, self.work = spillway, Path(work)
        self.data = self.work / "d4-data"
        subprocess.run([sys.executable, Path(__file__).parent / "make_data.py", self.data], check=True)

    def d4(self, name, device, steps, *more):
        return [self.spillway, "train", "--data.dir", self.data, "--run.dir", self.work / name, "--train.device", device,
                "--model.depth", 4, "--model.sequence", 256, "--model.scalars", "off", "--train.tokens-per-step", 2048,
                "--train.val-tokens", 65536, "--train.val-every", 0, "--train.threads", 6, "--train.checkpoint-every", 0,
                "--train.deterministic", "on", "--train.steps", steps, *more]

    def run(self, expected, command, stream="stdout"):
        result = subprocess.run([str(part) for part in command], capture_output=True, text=True)
        if result.returncode != expected:
            sys.exit(f"{command}: exit {result.returncode} instead of {expected}\n{result.stdout}{result.stderr}")
        return getattr(result, stream)

    def random_data(self):
        """A folder of tokens without structure, with the full vocabulary."""
        data = self.work / "random-data"
        data.mkdir()
        rng = np.random.default_rng(3)
        for name, count in (("train", 2_200_000), ("val", 70_000)):
            header = np.zeros(256, "<i4")
            header[:3] = 20240520, 1, count
            tokens = rng.integers(0, 65536, count, dtype=np.uint16)
            tokens[0] = 65535
            (data / f"{name}_000000.bin").write_bytes(header.tobytes() + tokens.astype("<u2").tobytes())
        return data

    def state(self, name):
        """Bytes of all datasets of the newest checkpoint, and its digest."""
        datasets = {}
        with h5py.File((self.work / name / "local" / "latest").resolve(), "r") as file:
            file.visititems(lambda path, item: datasets.update({path: item[()].tobytes()})
                            if isinstance(item, h5py.Dataset) else None)
            digest = file.attrs["digest"]
            return datasets, digest.decode() if isinstance(digest, bytes) else digest


def suspends(runs, count):
    rng = random.Random(7)
    stops = sorted(rng.sample(range(1, STEPS), count))
    runs.run(0, runs.d4("whole", "cuda", STEPS))
    done = 0
    for stop in stops:
        runs.run(75, runs.d4("parts", "cuda", STEPS, "--train.stop-after", stop - done))
        done = stop
    runs.run(0, runs.d4("parts", "cuda", STEPS))
    (expected, digest), (found, found_digest) = runs.state("whole"), runs.state("parts")
    different = [path for path in expected.keys() | found.keys() if expected.get(path) != found.get(path)]
    good = not different and digest == found_digest and len(expected) > 40
    print(f"{count} suspends in {STEPS} steps of a d4 on CUDA at {stops}: {len(expected)} datasets, {len(different)} differ, "
          f"digests {digest} and {found_digest}{'' if good else '  FAILED'}", flush=True)
    return good


def devices(runs):
    good = True
    for first, second in (("cuda", "cpu"), ("cpu", "cuda")):
        name, on = f"from-{first}", f"on-{second}"
        runs.run(0, runs.d4(name, first, AT))
        shutil.copytree(runs.work / name, runs.work / on, symlinks=True)
        before = runs.state(name)
        runs.run(0, runs.d4(name, second, AT))  # loads, has nothing to do, writes
        same = runs.state(name) == before and len(list((runs.work / name / "local").glob("*.h5"))) == 2
        for device in (first, second):
            shutil.copytree(runs.work / on, runs.work / f"{on}-{device}", symlinks=True)
            runs.run(0, runs.d4(f"{on}-{device}", device, AT + 10))
        losses = [np.frombuffer(runs.state(f"{on}-{device}")[0]["history/loss_nats"])[AT:] for device in (first, second)]
        apart = np.abs(losses[0] - losses[1]).max()
        same = same and len(losses[0]) == 10 and apart < 0.02
        print(f"{first} → {second}: digest {before[1]} {'kept' if same else 'FAILED'}; 10 more steps on both differ by at most "
              f"{apart:.4f} nats", flush=True)
        good = good and same
    return good


def exported(runs):
    runs.run(0, runs.d4("export", "cuda", AT))
    checkpoint, folder = runs.work / "export" / "local" / "latest", runs.work / "exported"
    text = runs.run(0, [runs.spillway, "sample", "--checkpoint", checkpoint, "--prompt-ids", "1 2 3", "--tokens", 24,
                        "--temperature", 0, "--device", "cuda"])
    on_cpu = runs.run(0, [runs.spillway, "sample", "--checkpoint", checkpoint, "--prompt-ids", "1 2 3", "--tokens", 24,
                          "--temperature", 0])
    equal = sum(a == b for a, b in zip(text.split(), on_cpu.split()))
    print(f"sample on CUDA: {' '.join(text.split())}; on the CPU: {' '.join(on_cpu.split())}")
    runs.run(0, [runs.spillway, "export", checkpoint, "--out", folder])
    try:
        import torch
        from transformers import NanoChatForCausalLM
    except ImportError as error:
        print(f"export: not checked: {error}")
        return True
    from spillway_files import read_shard
    model = NanoChatForCausalLM.from_pretrained(folder, dtype=torch.float32).cuda()
    tokens = np.concatenate([read_shard(file) for file in sorted(runs.data.glob("val_*.bin"))]).astype(np.int64)
    total, sequences = 0.0, 65536 // 256
    with torch.no_grad():
        for i in range(sequences):
            part = torch.from_numpy(tokens[i * 256:(i + 1) * 256 + 1]).cuda()
            logits = model(part[None, :-1]).logits[0].double()
            total += torch.nn.functional.cross_entropy(logits, part[1:]).item()
    with h5py.File(checkpoint.resolve(), "r") as file:
        recorded = file["validation/loss_nats"][-1]
    good = abs(total / sequences - recorded) < 2e-3 and equal >= 12
    print(f"exported model in transformers: validation loss {total / sequences:.5f}, spillway's own {recorded:.5f}"
          f"{'' if good else '  FAILED'}", flush=True)
    return good


class Follower:
    """A run and its log, as it grows."""

    def __init__(self, command, log):
        self.start_s, self.log = time.monotonic(), Path(log)
        with open(self.log, "w") as out:
            self.process = subprocess.Popen([str(part) for part in command], stdout=out, stderr=subprocess.STDOUT)

    def lines(self, pattern):
        return [line for line in self.log.read_text(errors="replace").splitlines() if re.search(pattern, line)]

    def wait_for(self, pattern, count=1, limit_s=60):
        """Seconds from the start until there are so many such lines."""
        begin = time.monotonic()
        while time.monotonic() - begin < limit_s and self.process.poll() is None:
            if len(self.lines(pattern)) >= count:
                return time.monotonic() - self.start_s
            time.sleep(0.02)
        self.process.kill()
        sys.exit(f"{count} lines {pattern} did not come:\n{self.log.read_text(errors='replace')[-4000:]}")

    def end(self, signal_number, limit_s=60):
        """Exit status, and seconds from the signal to the end."""
        told = time.monotonic()
        self.process.send_signal(signal_number)
        try:
            status = self.process.wait(limit_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            sys.exit(f"no end after signal {signal_number}:\n{self.log.read_text(errors='replace')[-4000:]}")
        return status, time.monotonic() - told

    def show(self, pattern):
        print("\n".join("  " + line for line in self.lines(pattern)), flush=True)


def times(runs, depth):
    data = runs.random_data()
    command = [runs.spillway, "train", "--data.dir", data, "--run.dir", runs.work / "large", "--train.device", "cuda",
               "--model.depth", depth, "--train.micro-batch", 32, "--train.val-every", 0, "--train.steps", 1000,
               "--train.val-tokens", 65536]
    first = Follower([*command, "--train.checkpoint-every", "6s"], runs.work / "large.log")
    started = first.wait_for(r"step 1/")
    print(f"d{depth}: start to the end of the first step {started:.1f} s", flush=True)
    first.wait_for(r"\(periodic\), digest", 2)
    status, seconds = first.end(signal.SIGUSR1)
    first.show(r"checkpoint .*digest|suspended")
    newest = (runs.work / "large" / "local" / "latest").resolve()
    print(f"d{depth}: SIGUSR1 → exit {status} after {seconds:.2f} s; "
          f"{newest.stat().st_size / 1e9:.3f} GB", flush=True)
    begin = time.monotonic()
    with open(runs.work / "probe", "wb") as out:
        for _ in range(64):
            out.write(bytes(32 << 20))
        out.flush()
        os.fsync(out.fileno())
    print(f"the disk takes 2 GiB with fsync at {2.147 / (time.monotonic() - begin):.2f} GB/s", flush=True)
    (runs.work / "probe").unlink()
    again = Follower([*command, "--train.checkpoint-every", "0"], runs.work / "again.log")
    step = again.wait_for(r" step \d+/")
    again.end(signal.SIGKILL)
    again.show("resuming from")
    print(f"d{depth}: resume, start to the end of its first step {step:.1f} s", flush=True)
    return status == 75


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("spillway")
    parser.add_argument("work")
    parser.add_argument("--suspends", type=int, default=20)
    parser.add_argument("--depth", type=int, default=20)
    parser.add_argument("--parts", nargs="+", default=["suspends", "devices", "export", "times"])
    options = parser.parse_args()
    runs = Runs(options.spillway, options.work)
    parts = {"suspends": lambda: suspends(runs, options.suspends), "devices": lambda: devices(runs),
             "export": lambda: exported(runs), "times": lambda: times(runs, options.depth)}
    return 0 if all([parts[part]() for part in options.parts]) else 1


if __name__ == "__main__":
    sys.exit(main())
