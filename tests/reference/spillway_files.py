"""What tests/reference and tests/gpu share: reading what reference_dump and spillway wrote, and the names of the weights."""
import json
from pathlib import Path

import numpy as np

# Names in NanoChatForCausalLM of the matrices of layer i, after transformer.h.{i}.
LAYER_NAMES = {
    "attn.c_q": "self_attn.q_proj",
    "attn.c_k": "self_attn.k_proj",
    "attn.c_v": "self_attn.v_proj",
    "attn.c_proj": "self_attn.o_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}


def transformers_name(name):
    """nanochat's name of a weight as transformers' NanoChatForCausalLM calls it."""
    if name == "transformer.wte.weight":
        return "model.embed_tokens.weight"
    if name == "lm_head.weight":
        return name
    _, _, layer, part = name.split(".", 3)
    return f"model.layers.{layer}.{LAYER_NAMES[part.removesuffix('.weight')]}.weight"


def read_dump(folder):
    """The .npy files of a folder by name."""
    return {path.name[: -len(".npy")]: np.load(path) for path in Path(folder).glob("*.npy")}


def read_checkpoint(file):
    """Weights, sizes and recorded losses of a training checkpoint."""
    import h5py

    with h5py.File(file, "r") as checkpoint:
        weights = {name: data[()] for name, data in checkpoint["model"].items()}
        sizes = {name: int(value) for name, value in checkpoint["sizes"].attrs.items()}
        validation = dict(zip(checkpoint["validation/step"][()], checkpoint["validation/loss_nats"][()]))
        losses = checkpoint["history/loss_nats"][()]
    return weights, sizes, validation, losses


def read_shard(file):
    """Tokens of a shard in llm.c's layout: 256 int32 of header, then uint16."""
    return np.fromfile(file, dtype="<u2", offset=1024)


def read_json(file):
    return json.loads(Path(file).read_text())
