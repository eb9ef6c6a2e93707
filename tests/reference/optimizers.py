#!/usr/bin/python3
"""AdamW and Muon in NumPy, written from the model's definition alone, against three steps of the C++ program.

usage: optimizers.py REFERENCE_DUMP
g' and X are rounded to bf16 before the Polar Express iteration. Where fp32 rounding falls on either side of such a step
the results differ by one bf16 unit in one element. The iteration magnifies that where singular values are near 0, so the
gradients are well conditioned and the updates are compared in the Frobenius norm.
"""
import math
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from forward import to_bf16

STEPS, FIRST_STEP, RUN_STEPS = 3, 77, 120
LAYERS, WIDTH = 2, 48
BETA1, BETA2, EPS = 0.8, 0.95, 1e-10
POLAR_EXPRESS = [
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
]


def learning_rate_factor(it):
    cooldown = round(0.4 * RUN_STEPS)
    return 1.0 if it < RUN_STEPS - cooldown else max(0.0, (RUN_STEPS - it) / cooldown)


def momentum_at(it):
    return 0.85 + (0.95 - 0.85) * min(it / 300, 1)


def weight_decay_at(it):
    return 0.2 * (12 / 20) ** 2 * max(0.0, 1 - it / RUN_STEPS)


def adamw_learning_rate(name):
    by_width = (WIDTH / 768) ** -0.5
    return {
        "transformer.wte.weight": 0.3 * by_width,
        "lm_head.weight": 0.004 * by_width,
        "resid_lambdas": 0.005,
        "x0_lambdas": 0.5,
    }[name]


def adamw(p, g, state, lr, t):
    state["m"] = BETA1 * state["m"] + (1 - BETA1) * g
    state["v"] = BETA2 * state["v"] + (1 - BETA2) * g * g
    m = state["m"] / (1 - BETA1**t)
    v = state["v"] / (1 - BETA2**t)
    return p - lr * m / (np.sqrt(v) + EPS)


def orthogonalize(g):
    x = g.T if g.shape[0] > g.shape[1] else g
    x = to_bf16(x).astype(np.float64)
    x = to_bf16(x / (1.02 * np.linalg.norm(x) + 1e-6)).astype(np.float64)
    for a, b, c in POLAR_EXPRESS:
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if g.shape[0] > g.shape[1] else x


def muon(p, g, state, it):
    rows, cols = p.shape
    mu, wd = momentum_at(it), weight_decay_at(it)
    state["momentum"] = mu * state["momentum"] + (1 - mu) * g
    x = orthogonalize((1 - mu) * g + mu * state["momentum"])
    axis = 1 if rows >= cols else 0
    mean = np.mean(x * x, axis=axis, keepdims=True)
    state["variance"] = 0.95 * state["variance"] + 0.05 * mean
    scale = 1 / np.sqrt(np.maximum(state["variance"], 1e-10))
    n = p.shape[axis]
    x = x * scale * np.linalg.norm(x) / max(np.sqrt(np.sum(mean * n * scale**2)), 1e-10)
    eta = 0.02 * learning_rate_factor(it) * math.sqrt(max(1, rows / cols))
    after = p - eta * x - eta * wd * p * (x * p >= 0)
    # Where x is 0 to within rounding, its sign, and with it the decay, may be either.
    undecided = np.abs(x) < 1e-4 * np.sqrt(np.mean(x * x))
    assert undecided.sum() <= 0.01 * x.size
    return after, undecided


def zero_state(p, is_muon):
    if not is_muon:
        return {"m": np.zeros_like(p), "v": np.zeros_like(p)}
    kept = (p.shape[0], 1) if p.shape[0] >= p.shape[1] else (1, p.shape[1])
    return {"momentum": np.zeros_like(p), "variance": np.zeros(kept)}


def relative(found, expected):
    assert found.shape == expected.shape, (found.shape, expected.shape)
    return np.linalg.norm(found - expected) / np.linalg.norm(expected)


def check(arrays, name):
    """The largest errors of one parameter's updates and final state, each as a fraction of what is allowed."""
    p = arrays[f"p0.{name}"]
    is_muon = name.startswith("transformer.h.")
    # A bf16 unit in a few of the elements, against fp32 rounding.
    limit = 1e-3 if is_muon else 1e-5
    state = zero_state(p, is_muon)
    update_error = 0.0
    for step in range(STEPS):
        it, g, found = FIRST_STEP + step, arrays[f"g{step}.{name}"], arrays[f"p{step + 1}.{name}"]
        if is_muon:
            after, undecided = muon(p, g, state, it)
            after = np.where(undecided, found, after)
        else:
            after = adamw(p, g, state, adamw_learning_rate(name) * learning_rate_factor(it), step + 1)
        rounding = 2.0**-23 * np.linalg.norm(p) / np.linalg.norm(after - p)  # of p itself
        update_error = max(update_error, relative(found - p, after - p) / (limit + rounding))
        p = found  # each step starts from the program's own weights, so that errors do not add up
    kind = "muon" if is_muon else "adamw"
    state_error = max(relative(arrays[f"optimizer.{kind}.{key}.{name}"], value) for key, value in state.items())
    return update_error, state_error / limit


def main():
    with tempfile.TemporaryDirectory(prefix="spillway-reference-") as folder:
        subprocess.run([sys.argv[1], "optimizers", folder, str(LAYERS), str(WIDTH)], check=True)
        arrays = {path.name[: -len(".npy")]: np.load(path).astype(np.float64) for path in Path(folder).glob("*.npy")}
    names = sorted(name[len("p0.") :] for name in arrays if name.startswith("p0."))
    assert len(names) == 2 + 6 * LAYERS + 2, names
    good = True
    for name in names:
        update_error, state_error = check(arrays, name)
        good = good and update_error < 1 and state_error < 1
        print(f"{name}: update {update_error:.1e}, state {state_error:.1e} of the limit")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
