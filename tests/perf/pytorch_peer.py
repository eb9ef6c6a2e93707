#!/usr/bin/env python3
"""The prototype's training step in PyTorch (torch.compile, bf16 autocast, SDPA), to compare `spillway bench` with.

The model and optimizers are those of the README's "The model", written as a user of PyTorch would write them.
Usage: pytorch_peer.py [--depth 20] [--micro-batch 16] [--steps 3]. Prints one JSON object. Needs torch and a GPU.
"""
import argparse
import json
import time

import torch
import torch.nn.functional as F
from torch import nn

POLAR_EXPRESS = [(8.156554524902461, -22.48329292557795, 15.878769915207462),
                 (4.042929935166739, -2.808917465908714, 0.5000178451051316),
                 (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
                 (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
                 (2.3465413258596377, -1.7097828382687081, 0.42323551169305323)]


def norm(x):
    return F.rms_norm(x, (x.size(-1),))


def rotate(x, cos, sin):
    x1, x2 = x.chunk(2, dim=3)
    return torch.cat([x1 * cos + x2 * sin, x2 * cos - x1 * sin], 3)


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.out = (nn.Linear(width, width, bias=False) for _ in range(4))
        self.fc = nn.Linear(width, 4 * width, bias=False)
        self.proj = nn.Linear(4 * width, width, bias=False)

    def forward(self, x, cos, sin):
        batch, time_steps, width = x.shape
        h = norm(x)
        q, k, v = (w(h).view(batch, time_steps, self.heads, -1) for w in (self.q, self.k, self.v))
        q, k = norm(rotate(q, cos, sin)), norm(rotate(k, cos, sin))
        y = F.scaled_dot_product_attention(*(z.transpose(1, 2) for z in (q, k, v)), is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(batch, time_steps, width))
        return x + self.proj(F.relu(self.fc(norm(x))).square())


class Gpt(nn.Module):
    def __init__(self, layers, width, heads, vocab, length):
        super().__init__()
        self.wte = nn.Embedding(vocab, width, dtype=torch.bfloat16)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.lm_head = nn.Linear(width, vocab, bias=False)
        self.lambda_r = nn.Parameter(torch.ones(layers))
        self.lambda_0 = nn.Parameter(torch.zeros(layers))
        half = width // heads // 2
        angle = torch.outer(torch.arange(length), 10000.0 ** (-torch.arange(half) / half))
        self.register_buffer("cos", angle.cos().bfloat16()[None, :, None])
        self.register_buffer("sin", angle.sin().bfloat16()[None, :, None])

    def forward(self, tokens, targets):
        x = x0 = norm(self.wte(tokens))
        for i, block in enumerate(self.blocks):
            x = block(self.lambda_r[i] * x + self.lambda_0[i] * x0, self.cos, self.sin)
        logits = 15 * torch.tanh(self.lm_head(norm(x)).float() / 15)
        return F.cross_entropy(logits.view(-1, logits.size(-1)), targets.view(-1))


@torch.compile(dynamic=False, fullgraph=True)
def muon_update(params, grads, momentum, variance):
    """One step of a stack of matrices of one shape; returns the new parameters and state."""
    momentum = torch.lerp(momentum, grads, 0.05)
    x = torch.lerp(grads, momentum, 0.95).bfloat16()
    tall = x.size(-2) > x.size(-1)
    if tall:
        x = x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) * 1.02 + 1e-6)
    for a, b, c in POLAR_EXPRESS:
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    if tall:
        x = x.mT
    axis = -1 if x.size(-2) >= x.size(-1) else -2
    mean = x.float().square().mean(dim=axis, keepdim=True)
    variance = torch.lerp(variance, mean, 0.05)
    scale = variance.clamp_min(1e-10).rsqrt()
    size = mean.size(-1) * mean.size(-2)
    before = mean.sum(dim=(-2, -1), keepdim=True).sqrt()
    after = (mean * scale.square()).sum(dim=(-2, -1), keepdim=True).sqrt().clamp_min(1e-10 / size)
    update = x.float() * scale * (before / after)
    rate = 0.02 * max(1, x.size(-2) / x.size(-1)) ** 0.5
    return params - rate * update - rate * 0.05 * params * (update * params >= 0), momentum, variance


class Muon:
    def __init__(self, params):
        shapes = sorted({tuple(p.shape) for p in params})
        self.groups = [[p for p in params if tuple(p.shape) == shape] for shape in shapes]
        self.state = []
        for group in self.groups:
            rows, cols = group[0].shape
            kept = (rows, 1) if rows >= cols else (1, cols)
            self.state.append((torch.zeros(len(group), rows, cols, device="cuda"),
                               torch.zeros(len(group), *kept, device="cuda")))

    @torch.no_grad()
    def step(self):
        for i, group in enumerate(self.groups):
            grads = torch.stack([p.grad for p in group])
            new, *state = muon_update(torch.stack(list(group)), grads, *self.state[i])
            self.state[i] = tuple(state)
            torch._foreach_copy_(list(group), list(new.unbind()))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--depth", type=int, default=20)
    parser.add_argument("--micro-batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--tokens-per-step", type=int, default=524288)
    arguments = parser.parse_args()
    length, width = 2048, 64 * arguments.depth
    start = time.time()
    torch.manual_seed(1)
    torch.set_float32_matmul_precision("high")
    with torch.device("cuda"):
        model = Gpt(arguments.depth, width, -(-width // 128), 65536, length)
    blocks = list(model.blocks.parameters())
    adamw = torch.optim.AdamW([{"params": [model.lm_head.weight], "lr": 0.003},
                               {"params": [model.wte.weight], "lr": 0.2},
                               {"params": [model.lambda_r, model.lambda_0], "lr": 0.005}],
                              betas=(0.8, 0.95), eps=1e-10, weight_decay=0, fused=True)
    muon = Muon(blocks)
    compiled = torch.compile(model, dynamic=False)
    tokens = torch.randint(0, 65536, (arguments.micro_batch, length), device="cuda")
    passes = arguments.tokens_per_step // tokens.numel()

    def step():
        for _ in range(passes):
            with torch.autocast("cuda", torch.bfloat16):
                loss = compiled(tokens, tokens)
            (loss / passes).backward()
        adamw.step()
        muon.step()
        model.zero_grad(set_to_none=True)
        return loss

    step()
    torch.cuda.synchronize()
    start_up = time.time() - start
    times = []
    for _ in range(arguments.steps):
        begin = time.time()
        loss = step()
        torch.cuda.synchronize()
        times.append(time.time() - begin)
    median = sorted(times)[len(times) // 2]
    print(json.dumps({"torch": torch.__version__, "step_s": median,
                      "tokens_per_s": arguments.tokens_per_step / median, "first_step_s": start_up,
                      "loss": loss.item(), "peak_gib": torch.cuda.max_memory_allocated() / 2**30}))


if __name__ == "__main__":
    main()
