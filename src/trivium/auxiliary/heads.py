"""Where the attention heads of an encoder are: which layer puts them together, and which weights are keys and values.

transformers has no common name for any of this, so each family of architectures is listed. To add one: an entry in
``FAMILIES``. What is made of it stands in ``importance``.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Self

import torch
from torch import Tensor, nn

from trivium.errors import ConfigError

Part = Literal["out", "key", "value"]


@dataclass(frozen=True)
class Family:
    """Where a family of architectures keeps its attention, as paths of modules.

    Attributes:
        layers: The list of layers, from the backbone.
        out: What heads are put together by, from a layer; likewise ``key`` and ``value``.
        key: See ``out``; the same as ``value`` where one weight makes queries, keys and values.
        value: See ``out``.
        fused: How the rows of that one weight lie: ``by head``, [heads, 3, size], or ``by part``, [3, heads, size].
        groups: Where, in a member of ``layers``, the layers are, if members are groups that are used several times.
    """

    layers: str
    out: str
    key: str
    value: str
    fused: Literal["by head", "by part"] | None = None
    groups: str | None = None


_BERT = Family("encoder.layer", "attention.output.dense", "attention.self.key", "attention.self.value")
FAMILIES: Mapping[str, Family] = {
    "bert": _BERT,
    "roberta": _BERT,
    "xlm-roberta": _BERT,
    "electra": _BERT,
    "distilbert": Family("transformer.layer", "attention.out_lin", "attention.k_lin", "attention.v_lin"),
    "deberta": Family("encoder.layer", _BERT.out, "attention.self.in_proj", "attention.self.in_proj", "by head"),
    "deberta-v2": Family("encoder.layer", _BERT.out, "attention.self.key_proj", "attention.self.value_proj"),
    "modernbert": Family("layers", "attn.Wo", "attn.Wqkv", "attn.Wqkv", "by part"),
    "mpnet": Family("encoder.layer", "attention.attn.o", "attention.attn.k", "attention.attn.v"),
    "albert": Family(
        "encoder.albert_layer_groups", "attention.dense", "attention.key", "attention.value", groups="albert_layers"
    ),
}


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows of a weight that belong to each head.

    Attributes:
        linear: Whose weight, ``[out, in]``.
        of: Which rows, int64 ``[heads, size]``; where these are all the rows there are, they are in order.
    """

    linear: nn.Linear
    of: Tensor


@dataclass(frozen=True, eq=False)
class Layer:
    """The attention of one layer.

    Attributes:
        out: Reads what the heads say, side by side in their order, and puts it together.
        key: Makes the keys.
        value: Makes the values.
    """

    out: nn.Linear
    key: Rows
    value: Rows

    def linear(self, part: Part) -> nn.Linear:
        """The linear layer of a part."""
        return {"out": self.out, "key": self.key.linear, "value": self.value.linear}[part]


class Use(NamedTuple):
    """What a linear layer read and made, once.

    Attributes:
        layer: Position of the layer of attention.
        linear: The linear layer.
        read: ``[texts, length, in]``.
        made: ``[texts, length, out]``.
    """

    layer: int
    linear: nn.Linear
    read: Tensor
    made: Tensor


@dataclass(frozen=True, eq=False)
class AttentionHeads:
    """The attention heads of a backbone.

    Attributes:
        layers: In the order in which they are run; ALBERT's one layer stands there as often as it is used.
        count: Heads of each.
        apart: Whether keys and values are made of texts alone. DeBERTa-v3 makes keys of positions, too, by the same
            weights, once for all texts of a batch.
    """

    layers: tuple[Layer, ...]
    count: int
    apart: bool

    @classmethod
    def of(cls, backbone: Any) -> Self:
        """Find them.

        Args:
            backbone: A transformers model without a head, such as ``Encoder.backbone``.

        Raises:
            ConfigError: nobody has said where this architecture keeps them.

        >>> from transformers import BertConfig, BertModel
        >>> shape = {"vocab_size": 8, "hidden_size": 12, "num_hidden_layers": 2, "intermediate_size": 8}
        >>> heads = AttentionHeads.of(BertModel(BertConfig(num_attention_heads=3, **shape)))
        >>> heads.shape, heads.layers[0].key.of[1].tolist()
        ((2, 3), [4, 5, 6, 7])
        """
        config = backbone.config
        if config.model_type not in FAMILIES:
            raise ConfigError(
                f"encoder: expected an architecture whose attention heads are known ({', '.join(FAMILIES)}), found "
                f"'{config.model_type}'. Take one of these to compare tasks by their heads."
            )
        family, count = FAMILIES[config.model_type], int(config.num_attention_heads)
        layers = [_layer(module, family, count) for module in _modules(backbone, family)]
        return cls(tuple(layers), count, not getattr(config, "share_att_key", False))

    @property
    def shape(self) -> tuple[int, int]:
        """Layers, and heads of each."""
        return len(self.layers), self.count

    @contextmanager
    def watch(self, *parts: Part) -> Iterator[list[Use]]:
        """Note what some parts of every layer read and make, while the model runs.

        Both have gradients, though all weights may be frozen. A linear layer that makes both keys and values is noted
        once.
        """
        places: dict[nn.Linear, list[int]] = {}
        for place, layer in enumerate(self.layers):
            for linear in dict.fromkeys(map(layer.linear, parts)):
                places.setdefault(linear, []).append(place)
        uses, times = list[Use](), Counter[nn.Linear]()

        def before(_linear: nn.Module, read: tuple[Tensor, ...]) -> None:
            if not read[0].requires_grad:  # below it, nothing is learned
                read[0].requires_grad_()

        def after(linear: Any, read: tuple[Tensor, ...], made: Tensor) -> None:
            place = places[linear][times[linear] % len(places[linear])]
            times[linear] += 1
            uses.append(Use(place, linear, read[0], made))

        hooks = [linear.register_forward_pre_hook(before) for linear in places]
        hooks += [linear.register_forward_hook(after) for linear in places]
        try:
            yield uses
        finally:
            for hook in hooks:
                hook.remove()


def _modules(backbone: Any, family: Family) -> list[nn.Module]:
    """The layers in the order in which they are run."""
    found = list(backbone.get_submodule(family.layers))
    if family.groups is None:
        return found
    depth = backbone.config.num_hidden_layers
    groups = [found[int(i / (depth / len(found)))] for i in range(depth)]  # to the letter, for odd depths
    return [layer for group in groups for layer in group.get_submodule(family.groups)]


def _layer(module: nn.Module, family: Family, count: int) -> Layer:
    out: Any = module.get_submodule(family.out)
    key, value = (module.get_submodule(path) for path in (family.key, family.value))
    return Layer(out, _rows(key, family, count, 1), _rows(value, family, count, 2))


def _rows(linear: Any, family: Family, count: int, part: int) -> Rows:
    """The rows of each head, where queries, keys and values are parts 0, 1 and 2."""
    rows = torch.arange(linear.out_features, device=linear.weight.device)
    if family.fused == "by head":
        rows = rows.view(count, 3, -1)[:, part]
    elif family.fused == "by part":
        rows = rows.view(3, count, -1)[part]
    return Rows(linear, rows.reshape(count, -1))
