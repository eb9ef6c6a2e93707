#!/usr/bin/env python3
"""The validation loss that a training run recorded against transformers' NanoChatForCausalLM with the checkpoint's weights.

usage: trained_model.py CHECKPOINT DATA_DIR [cuda]
Checks what training alone would not show to be wrong: the data's shift, the weights' names and shapes in checkpoints, the
loss. Needs torch, transformers and h5py (exit code 77 without them) and a run with --model.scalars off that validated at
its last step.
"""
import sys
from pathlib import Path

import numpy as np

from spillway_files import read_checkpoint, read_shard
from transformers_forward import LOSS_TOLERANCE, load_weights, logits_and_loss, make_model, torch


def main():
    checkpoint, data = sys.argv[1], Path(sys.argv[2])
    device = sys.argv[3] if len(sys.argv) > 3 else "cpu"
    weights, sizes, validation, losses = read_checkpoint(checkpoint)
    assert not sizes["scalars"], "transformers has no learned residual scalars"
    tokens = np.concatenate([read_shard(file) for file in sorted(data.glob("val_*.bin"))]).astype(np.int64)
    length = sizes["sequence"]
    sequences = min(int(sys.argv[4]) if len(sys.argv) > 4 else 262144, len(tokens) - 1) // length
    model = make_model(sizes["layers"], sizes["width"], sizes["heads"], sizes["vocab"], length)
    model = load_weights(model, weights).to(device)
    total = 0.0
    for i in range(sequences):
        part = torch.from_numpy(tokens[i * length : (i + 1) * length + 1]).to(device)
        total += logits_and_loss(model, part[None, :-1], part[1:])[1]
    step, recorded = max(validation.items())
    found = total / sequences
    good = abs(found - recorded) < LOSS_TOLERANCE and found < losses[0] - 0.5
    print(
        f"validation after {step} steps: recorded {recorded:.5f}, transformers {found:.5f}; first training loss {losses[0]:.4f}"
        f"{'' if good else '  FAILED'}"
    )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
