#!/usr/bin/env python3
"""Token shards of a text with structure, for training on any machine: usage: make_data.py FOLDER [TOKENS]

A walk over 2,048 tokens where each has four likely successors: a model learns it within some hundred steps.
"""
import sys
from pathlib import Path

import numpy as np


def write_shard(file, tokens):
    header = np.zeros(256, dtype="<i4")
    header[:3] = 20240520, 1, len(tokens)
    with open(file, "wb") as out:
        out.write(header.tobytes())
        out.write(tokens.astype("<u2").tobytes())


def main():
    folder, count = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 2_000_000
    folder.mkdir(parents=True)
    vocab, choices = 2048, 4
    random = np.random.default_rng(1)
    successors = random.integers(0, vocab, (vocab, choices))
    picks = random.choice(choices, size=count, p=[0.6, 0.25, 0.1, 0.05])
    jumps = random.random(count) < 0.02
    anywhere = random.integers(0, vocab, count)
    tokens = np.empty(count, dtype=np.int64)
    token = 0
    for i in range(count):
        token = anywhere[i] if jumps[i] else successors[token, picks[i]]
        tokens[i] = token
    write_shard(folder / "train_000000.bin", tokens[: count * 9 // 10])
    write_shard(folder / "val_000000.bin", tokens[count * 9 // 10 :])


if __name__ == "__main__":
    main()
