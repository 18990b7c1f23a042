"""Where attention heads are: what is found is what the model computes with, in every family."""

from typing import Any

import pytest
import torch
from torch.testing import assert_close

from trivium import seeds
from trivium.auxiliary.heads import FAMILIES, AttentionHeads
from trivium.errors import ConfigError

LAYERS, HEADS, WIDTH = 2, 4, 32
BERT = {
    "vocab_size": 60, "hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
    "intermediate_size": 48, "max_position_embeddings": 130,
}  # fmt: skip
POSITIONS = {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "max_relative_positions": -1}
SHAPES: dict[str, dict[str, Any]] = {
    "bert": BERT,
    "roberta": BERT,
    "xlm-roberta": BERT,
    "electra": {**BERT, "embedding_size": 16},
    "distilbert": {
        "vocab_size": 60, "dim": WIDTH, "n_layers": LAYERS, "n_heads": HEADS, "hidden_dim": 48,
        "max_position_embeddings": 130,
    },
    "deberta": {**BERT, **POSITIONS},
    "deberta-v2": {**BERT, **POSITIONS, "position_buckets": 16},
    "deberta-v2, keys of positions": {
        **BERT, **POSITIONS, "position_buckets": 16, "share_att_key": True, "norm_rel_ebd": "layer_norm",
    },
    "modernbert": {
        **BERT, "pad_token_id": 0, "cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3,
        "local_attention": 16, "layer_types": ["full_attention", "sliding_attention"],
    },
    "mpnet": BERT,
    "albert": {**BERT, "embedding_size": 16},
    "albert, two groups": {**BERT, "embedding_size": 16, "num_hidden_groups": 2},
}  # fmt: skip
EVERY_FAMILY = pytest.mark.parametrize("shape", SHAPES)


def backbone(shape: str, **changes: Any) -> Any:
    """A random model without a head."""
    from transformers import AutoConfig, AutoModel

    config = AutoConfig.for_model(shape.split(",")[0], **{**SHAPES[shape], **changes})
    with seeds.torch_scope(0, shape):
        model = AutoModel.from_config(config).eval()
        for weight in model.parameters():  # nothing may vanish because it began as 0
            torch.nn.init.normal_(weight, 1.0 if weight.dim() == 1 else 0.0, 0.15)
    return model


def states(model: Any, length: int = 12) -> torch.Tensor:
    ids = 8 + torch.arange(2 * length).view(2, length) * 7 % 50
    hidden: torch.Tensor = model(input_ids=ids).last_hidden_state
    return hidden


def test_every_family_is_tried() -> None:
    assert {shape.split(",")[0] for shape in SHAPES} == set(FAMILIES)


@EVERY_FAMILY
def test_numbers_are_the_models(shape: str) -> None:
    names = {"distilbert": ("n_layers", "n_heads")}.get(shape, ("num_hidden_layers", "num_attention_heads"))
    changes = {names[0]: 3, names[1]: 2} | ({"layer_types": ["full_attention"] * 3} if shape == "modernbert" else {})
    heads = AttentionHeads.of(backbone(shape, **changes))
    assert heads.shape == (3, 2)
    for layer in heads.layers:
        assert layer.out.in_features == layer.key.of.numel() == layer.value.of.numel() == WIDTH
        assert layer.key.of.shape == (2, WIDTH // 2)


@EVERY_FAMILY
def test_a_head_whose_values_are_cut_says_nothing(shape: str) -> None:
    """Zero its rows of the value weight, and what the output projection reads of it, and of nobody else, is 0."""
    model = backbone(shape)
    heads = AttentionHeads.of(model)
    for linear in {layer.value.linear for layer in heads.layers}:
        torch.nn.init.zeros_(linear.bias) if linear.bias is not None else None
    if shape == "deberta":  # its biases are no linear layer's
        for layer in model.encoder.layer:
            torch.nn.init.zeros_(layer.attention.self.v_bias)
    rows = heads.layers[1].value
    with torch.no_grad():
        rows.linear.weight[rows.of[2]] = 0.0
    with heads.watch("out") as uses:
        states(model)
    assert [use.layer for use in uses] == [0, 1]
    sizes = uses[1].read.detach().abs().mean((0, 1)).view(HEADS, -1).mean(-1)
    assert sizes[2] == 0
    assert (sizes[[0, 1, 3]] > 1e-3).all()


@EVERY_FAMILY
def test_keys_decide_whom_a_head_looks_at(shape: str) -> None:
    """Other keys of one head change what it says, and what no other head of its layer says."""
    model = backbone(shape)
    heads = AttentionHeads.of(model)
    rows = heads.layers[0].key
    with heads.watch("out") as before:
        states(model)
    with torch.no_grad():
        rows.linear.weight[rows.of[1]] *= -3.0
    with heads.watch("out") as after:
        states(model)
    moved = (after[0].read - before[0].read).detach().abs().mean((0, 1)).view(HEADS, -1).mean(-1)
    assert moved[1] > 1e-3
    assert (moved[[0, 2, 3]] == 0).all()


@EVERY_FAMILY
def test_what_is_watched_is_what_was_computed(shape: str) -> None:
    model = backbone(shape)
    heads = AttentionHeads.of(model)
    plain = states(model)
    with heads.watch("key", "value", "out") as uses:
        assert_close(states(model), plain, atol=0, rtol=0)
    for use in uses:
        assert use.linear in {heads.layers[use.layer].linear(part) for part in ("key", "value", "out")}
        assert_close(use.linear(use.read), use.made)
        assert use.read.requires_grad
    lengths = {use.read.shape[0] for use in uses}
    assert lengths == ({2} if heads.apart else {1, 2})  # keys of positions are made once for all texts
    count = len(uses)
    states(model)
    assert len(uses) == count, "nobody listens any more"


def test_a_shared_layer_is_every_layer() -> None:
    one, two = (AttentionHeads.of(backbone(shape)) for shape in ("albert", "albert, two groups"))
    assert len({layer.out for layer in one.layers}) == 1
    assert len({layer.out for layer in two.layers}) == 2


def test_an_unknown_architecture_is_refused() -> None:
    from transformers import AutoModel, GPT2Config

    model = AutoModel.from_config(GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=20))
    with pytest.raises(ConfigError, match=r"bert, roberta, .*albert.*found 'gpt2'"):
        AttentionHeads.of(model)
