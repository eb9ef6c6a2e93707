#!/usr/bin/env python3
"""Logits and loss against transformers' NanoChatForCausalLM, an implementation by other people.

usage: transformers_forward.py REFERENCE_DUMP [cuda]
Needs torch and transformers; exit code 77 without them. Weights of d4 and d20 (--model.scalars off), as training starts
from them and with noise on all of them. transformers computes in float32, and once more in bfloat16: what its own bfloat16
differs from its float32 is the measure for ours.
"""
import subprocess
import sys
import tempfile

import numpy as np

try:
    import torch
    from transformers import NanoChatConfig, NanoChatForCausalLM
except ImportError as error:
    print(f"transformers_forward: skipped: {error}")
    sys.exit(77)

from spillway_files import read_dump, transformers_name

VOCAB = 65536
LOSS_TOLERANCE = 1e-3  # nats per token
# Of the norm of the logits, where spillway computes in float32: it rounds the tables of cosines and sines to bfloat16, as
# nanochat does, and transformers in float32 does not.
FLOAT32_TOLERANCE = 1e-3


def make_model(layers, width, heads, vocab, length):
    return NanoChatForCausalLM(
        NanoChatConfig(
            vocab_size=vocab,
            hidden_size=width,
            intermediate_size=4 * width,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=heads,
            max_position_embeddings=length,
            rms_norm_eps=1.1920929e-07,
            final_logit_softcapping=15.0,
            hidden_act="relu2",
            pad_token_id=None,
            bos_token_id=None,
            eos_token_id=None,
        )
    )


def load_weights(model, weights):
    state = {transformers_name(name): torch.from_numpy(array) for name, array in weights.items()}
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not missing and not unexpected, (missing, unexpected)
    return model.eval()


@torch.no_grad()
def logits_and_loss(model, tokens, targets):
    logits = model(input_ids=tokens).logits[0].float()
    loss = torch.nn.functional.cross_entropy(logits, targets, ignore_index=-1)
    return logits, loss.item()


def relative(found, expected):
    return (torch.linalg.vector_norm(found - expected) / torch.linalg.vector_norm(expected)).item()


def check(tool, device, name, layers, width, heads, length, kind):
    with tempfile.TemporaryDirectory(prefix="spillway-transformers-") as folder:
        sizes = [str(n) for n in (layers, width, heads, VOCAB, length)]
        on = ["cuda"] if device == "cuda" else []
        subprocess.run([tool, "forward", folder, *sizes, "plain", kind, *on], check=True)
        arrays = read_dump(folder)
    tokens = torch.from_numpy(arrays.pop("tokens")).long()[None].to(device)
    targets = torch.from_numpy(arrays.pop("targets")).long().to(device)
    ours = torch.from_numpy(arrays.pop("logits")).to(device)
    our_loss = float(arrays.pop("loss")) / (targets >= 0).sum().item()
    model = load_weights(make_model(layers, width, heads, VOCAB, length), arrays).to(device)
    expected, loss = logits_and_loss(model, tokens, targets)
    rounded, rounded_loss = logits_and_loss(model.bfloat16(), tokens, targets)
    error, bf16_error = relative(ours, expected), relative(rounded, expected)
    limit = 1.25 * bf16_error if device == "cuda" else FLOAT32_TOLERANCE
    # Noise on all weights makes a deep network that magnifies rounding: there transformers' own bfloat16 is the measure.
    loss_limit = LOSS_TOLERANCE if kind == "initial" else max(LOSS_TOLERANCE, abs(rounded_loss - loss))
    good = error < limit and abs(our_loss - loss) < loss_limit
    print(
        f"{name} {kind}, {length} tokens: logits {error:.2e} from transformers in float32 (its own bfloat16: "
        f"{bf16_error:.2e}); loss {our_loss:.5f}, transformers {loss:.5f} (bfloat16 {rounded_loss:.5f})"
        f"{'' if good else '  FAILED'}",
        flush=True,
    )
    return good


def main():
    tool, device = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "cpu"
    cases = [("d4", 4, 256, 2, 512)]
    if device == "cuda":
        cases.append(("d20", 20, 1280, 10, 1024))
    good = [check(tool, device, *case, kind) for case in cases for kind in ("initial", "noisy")]
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
