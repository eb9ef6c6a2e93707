#!/usr/bin/python3
"""Greedy text of `spillway sample` against the NumPy forward pass on the weights that h5py reads from the checkpoint.

usage: sample.py SPILLWAY
Trains a small model on a walk over 64 tokens first, with and without scalars.
"""
import subprocess
import sys
import tempfile
from pathlib import Path

import h5py
import numpy as np

from forward import forward

LAYERS, HEADS, SEQUENCE, VOCAB = 2, 2, 32, 64
LENGTH = 48  # beyond the sequence: the context slides


def write_shard(path, tokens):
    """llm.c's layout: 256 int32 of header (magic, version, count), then uint16 tokens."""
    header = np.zeros(256, "<i4")
    header[:3] = 20240520, 1, len(tokens)
    path.write_bytes(header.tobytes() + tokens.astype("<u2").tobytes())


def make_data(folder, random):
    folder.mkdir()
    steps = np.where(random.random(60000) < 0.75, 1, random.integers(0, VOCAB, 60000))
    tokens = np.cumsum(steps) % VOCAB
    write_shard(folder / "train_000000.bin", tokens[:50000])
    write_shard(folder / "val_000000.bin", tokens[50000:])


def greedy(weights, prompt):
    tokens = list(prompt)
    for _ in range(LENGTH):
        logits = forward(weights, np.array(tokens[-SEQUENCE:]), LAYERS, HEADS)[-1]
        tokens.append(int(np.argmax(logits)))
    return tokens[len(prompt) :]


def run(*arguments):
    return subprocess.run(arguments, check=True, capture_output=True, text=True).stdout


def check(spillway, scalars, random):
    with tempfile.TemporaryDirectory(prefix="spillway-sample-") as name:
        folder = Path(name)
        make_data(folder / "data", random)
        run(spillway, "train", "--data.dir", folder / "data", "--run.dir", folder / "run", "--train.steps", "30",
            "--model.layers", str(LAYERS), "--model.width", "64", "--model.heads", str(HEADS),
            "--model.sequence", str(SEQUENCE), "--model.scalars", scalars, "--train.tokens-per-step", "512",
            "--train.val-every", "0", "--train.val-tokens", "512", "--train.threads", "1")
        checkpoint = folder / "run" / "local" / "latest"
        with h5py.File(checkpoint) as file:
            weights = {key: value[:].astype(np.float64) for key, value in file["model"].items()}
        same = True
        for count in (1, 5, 40):
            prompt = random.integers(0, VOCAB, count)
            text = run(spillway, "sample", "--checkpoint", checkpoint, "--prompt-ids", " ".join(map(str, prompt)),
                       "--temperature", "0", "--tokens", str(LENGTH), "--threads", "1")
            found, expected = [int(token) for token in text.split()], greedy(weights, prompt)
            print(f"scalars {scalars}, prompt of {count}: {found == expected}, {len(set(found))} different tokens")
            same = same and found == expected
        return same


def main():
    random = np.random.default_rng(5)
    print("seed 5")
    return 0 if all([check(sys.argv[1], scalars, random) for scalars in ("on", "off")]) else 1


if __name__ == "__main__":
    sys.exit(main())
