#!/usr/bin/python3
"""The whole forward pass in NumPy (float64), written from the model's definition alone, against the C++ program.

usage: forward.py REFERENCE_DUMP
Compares softcapped logits and summed loss of several sizes to 1e-5.
"""
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

EPS = 1.1920929e-7
TOLERANCE = 1e-5


def to_bf16(x):
    """float32 values rounded to bfloat16, ties to even."""
    bits = np.asarray(x, np.float32).view(np.uint32).astype(np.uint64)
    bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
    return bits.astype(np.uint32).view(np.float32)


def norm(x):
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + EPS)


def rope(x):
    """x: (T, H, D). Half-split pairs, rotated by -theta; the tables are rounded to bf16."""
    T, _, D = x.shape
    inv_freq = 10000.0 ** (-2.0 * np.arange(D // 2) / D)
    angle = np.outer(np.arange(T), inv_freq)
    cos = to_bf16(np.cos(angle)).astype(np.float64)[:, None, :]
    sin = to_bf16(np.sin(angle)).astype(np.float64)[:, None, :]
    x1, x2 = x[..., : D // 2], x[..., D // 2 :]
    return np.concatenate([x1 * cos + x2 * sin, -x1 * sin + x2 * cos], axis=-1)


def attention(h, weights, block, heads):
    T, C = h.shape
    D = C // heads
    q, k, v = (
        (h @ weights[f"{block}.attn.{part}.weight"].T).reshape(T, heads, D) for part in ("c_q", "c_k", "c_v")
    )
    q, k = norm(rope(q)), norm(rope(k))
    scores = np.einsum("thd,shd->hts", q, k) / np.sqrt(D)
    scores = np.where(np.tril(np.ones((T, T), bool)), scores, -np.inf)
    scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
    scores /= scores.sum(axis=-1, keepdims=True)
    return np.einsum("hts,shd->thd", scores, v).reshape(T, C)


def forward(weights, tokens, layers, heads):
    x = x0 = norm(weights["transformer.wte.weight"][tokens])
    for i in range(layers):
        block = f"transformer.h.{i}"
        if "resid_lambdas" in weights:
            x = weights["resid_lambdas"][i] * x + weights["x0_lambdas"][i] * x0
        x = x + attention(norm(x), weights, block, heads) @ weights[f"{block}.attn.c_proj.weight"].T
        hidden = norm(x) @ weights[f"{block}.mlp.c_fc.weight"].T
        x = x + np.square(np.maximum(hidden, 0)) @ weights[f"{block}.mlp.c_proj.weight"].T
    return 15 * np.tanh(norm(x) @ weights["lm_head.weight"].T / 15)


def summed_loss(logits, targets):
    rows = np.flatnonzero(targets >= 0)
    top = logits.max(axis=-1, keepdims=True)
    log_total = np.log(np.exp(logits - top).sum(axis=-1)) + top[:, 0]
    return np.sum(log_total[rows] - logits[rows, targets[rows]])


def check(tool, layers, width, heads, vocab, T, scalars):
    with tempfile.TemporaryDirectory(prefix="spillway-reference-") as folder:
        sizes = [str(n) for n in (layers, width, heads, vocab, T)]
        subprocess.run([tool, "forward", folder, *sizes, "scalars" if scalars else "plain", "noisy"], check=True)
        arrays = {path.name[: -len(".npy")]: np.load(path) for path in Path(folder).glob("*.npy")}
    weights = {name: a.astype(np.float64) for name, a in arrays.items() if a.dtype == np.float32}
    assert ("resid_lambdas" in weights) == scalars
    logits = forward(weights, arrays["tokens"], layers, heads)
    loss = summed_loss(logits, arrays["targets"])
    assert arrays["logits"].shape == (T, vocab)
    logit_error = np.abs(arrays["logits"] - logits).max()
    loss_error = abs(float(arrays["loss"]) - loss) / loss
    print(
        f"L={layers} C={width} H={heads} V={vocab} T={T} scalars={scalars}: logits up to {np.abs(logits).max():.2f}, "
        f"largest error {logit_error:.1e}; "
        f"loss {loss / np.sum(arrays['targets'] >= 0):.4f}, relative error {loss_error:.1e}"
    )
    return logit_error < TOLERANCE and loss_error < TOLERANCE


def main():
    tool = sys.argv[1]
    results = [
        check(tool, layers=2, width=32, heads=2, vocab=50, T=16, scalars=True),
        check(tool, layers=3, width=64, heads=2, vocab=300, T=40, scalars=True),
        check(tool, layers=2, width=128, heads=2, vocab=97, T=33, scalars=False),
        check(tool, layers=4, width=256, heads=2, vocab=128, T=70, scalars=True),
    ]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
