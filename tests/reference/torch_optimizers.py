#!/usr/bin/env python3
"""Three steps of AdamW and Muon against a rewrite in PyTorch, float32, from the definition in the README and ops.hpp.

usage: torch_optimizers.py REFERENCE_DUMP [cuda]
Needs torch; exit code 77 without it. Both start from the same parameters, get the same gradients and go their own ways.
Compared is the distance of the parameters after each step, as a fraction of the step's update. All arithmetic
is float32; X is kept in bfloat16 between the products of the iteration where spillway does so, on the GPU. What the
same steps with X in float32 give is printed beside it. The gradients' singular values are kept away from 0 (reference_dump), because the iteration
magnifies what is there by 10^3, rounding too. The cautious decay jumps where X crosses 0: there, in a few of a hundred
elements, rounding decides, and either value counts as right.
"""
import math
import subprocess
import sys
import tempfile

try:
    import torch
except ImportError as error:
    print(f"torch_optimizers: skipped: {error}")
    sys.exit(77)

from spillway_files import read_dump

STEPS, FIRST_STEP, RUN_STEPS = 3, 77, 120
TOLERANCE = 1e-2
UNDECIDED = 0.05  # of the median of |X|; leaves out 2.7 % of normally distributed elements
POLAR_EXPRESS = [
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
]


class AdamW:
    def __init__(self, p, learning_rate):
        self.learning_rate = learning_rate
        self.m, self.v = torch.zeros_like(p), torch.zeros_like(p)

    def step(self, p, g, t, factor, _it, _found):
        self.m.lerp_(g, 1 - 0.8)
        self.v.lerp_(g * g, 1 - 0.95)
        m, v = self.m / (1 - 0.8**t), self.v / (1 - 0.95**t)
        return p - self.learning_rate * factor * m / (v.sqrt() + 1e-10)


class Muon:
    def __init__(self, p, keep):
        self.keep = keep  # what an intermediate result of the iteration is rounded to
        rows, cols = p.shape
        self.momentum = torch.zeros_like(p)
        self.axis = 1 if rows >= cols else 0
        self.second = torch.zeros_like(p.mean(dim=self.axis, keepdim=True))

    def step(self, p, g, _t, factor, it, found):
        mu = 0.85 + 0.1 * min(it / 300, 1)
        decay = 0.2 * (12 / 20) ** 2 * max(0.0, 1 - it / RUN_STEPS)
        self.momentum.lerp_(g, 1 - mu)
        x = self.orthogonalize(g.lerp(self.momentum, mu).bfloat16().float())
        mean = x.square().mean(dim=self.axis, keepdim=True)
        self.second.lerp_(mean, 0.05)
        scale = self.second.clamp_min(1e-10).rsqrt()
        after = (mean * p.size(self.axis) * scale**2).sum().sqrt().clamp_min(1e-10)
        x = x * scale * x.norm() / after
        rate = 0.02 * factor * math.sqrt(max(1, p.size(0) / p.size(1)))
        plain, decayed = p - rate * x, p - rate * x - rate * decay * p
        undecided = x.abs() < UNDECIDED * x.abs().median()
        assert undecided.float().mean() < 0.05, undecided.float().mean()
        nearer = (found - decayed).abs() < (found - plain).abs()
        return torch.where(torch.where(undecided, nearer, x * p >= 0), decayed, plain)

    def orthogonalize(self, x):
        tall = x.size(0) > x.size(1)
        x = x.T if tall else x
        x = (x / (1.02 * x.norm() + 1e-6)).bfloat16().float()
        for a, b, c in POLAR_EXPRESS:
            gram = self.keep(x @ x.T)
            x = self.keep(a * x + self.keep(b * gram + c * gram @ gram) @ x)
        return x.T if tall else x


def adamw_learning_rate(name, width):
    by_width = (width / 768) ** -0.5
    return {
        "transformer.wte.weight": 0.3 * by_width,
        "lm_head.weight": 0.004 * by_width,
        "resid_lambdas": 0.005,
        "x0_lambdas": 0.5,
    }[name]


def check(arrays, name, width, keep):
    """The largest error over the steps, as a fraction of the step's update."""
    p = arrays[f"p0.{name}"]
    optimizer = Muon(p, keep) if name.startswith("transformer.h.") else AdamW(p, adamw_learning_rate(name, width))
    worst = 0.0
    for step in range(STEPS):
        it = FIRST_STEP + step
        factor = min(1.0, (RUN_STEPS - it) / round(0.4 * RUN_STEPS))
        after = optimizer.step(p, arrays[f"g{step}.{name}"], step + 1, factor, it,
                               arrays[f"p{step + 1}.{name}"])
        error = (arrays[f"p{step + 1}.{name}"] - after).norm() / (after - p).norm()
        worst = max(worst, error.item())
        p = after
    return worst


def main():
    tool, device = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "cpu"
    torch.backends.cuda.matmul.allow_tf32 = False
    good = True
    for layers, width in ((2, 64), (12, 64)) if device == "cpu" else ((4, 256), (12, 256), (2, 1280)):
        with tempfile.TemporaryDirectory(prefix="spillway-optimizers-") as folder:
            on = ["cuda"] if device == "cuda" else []
            subprocess.run([tool, "optimizers", folder, str(layers), str(width), *on], check=True)
            arrays = {name: torch.from_numpy(a).to(device) for name, a in read_dump(folder).items()}
        names = sorted(name[len("p0.") :] for name in arrays if name.startswith("p0."))
        assert len(names) == 2 + 6 * layers + 2, names
        def worst_of(keep):
            errors = {name: check(arrays, name, width, keep) for name in names}
            return [max(e for n, e in errors.items() if n.startswith("transformer.h.") == muon) for muon in (False, True)]

        in_float = worst_of(lambda x: x)
        adamw, muon = worst_of(lambda x: x.bfloat16().float()) if device == "cuda" else in_float
        good = good and max(adamw, muon) < TOLERANCE
        print(
            f"{layers} layers of width {width}, {STEPS} steps, largest difference as a fraction of the update: "
            f"AdamW {adamw:.1e}, Muon {muon:.1e} (X in float32: {in_float[1]:.1e}){'' if good else '  FAILED'}",
            flush=True,
        )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
