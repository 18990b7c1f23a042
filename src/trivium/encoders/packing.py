"""Texts end to end without padding, each attending to itself alone: for GPUs, where padding costs as much as text.

transformers' models ask a registered function for attention and one for the mask; ours know where each text begins and
ends, and need no mask. Which positions an architecture counts from, and whether it can be packed at all, is found out
by comparing: whatever does not give the hidden states that padding gives is not packed.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trivium.encoders.precision import precision
from trivium.kinds import Batch

_NAME = "trivium_packed"
_TOLERANCE = 0.05  # of hidden states of size 1 in bfloat16, after all layers


class CannotPackError(Exception):
    """Attention is to be dropped out, or to look at neighbours alone, which packed attention does not."""


class Packing:
    """A backbone that reads texts end to end.

    Attributes:
        backbone: Of transformers.
        first: The position of a text's first token.
    """

    def __init__(self, backbone: Any, first: int) -> None:
        self.backbone, self.first = backbone, first

    @classmethod
    def of(cls, backbone: Any) -> "Packing | None":
        """A way to pack for this backbone as it is just now; none where it may not be packed."""
        if not getattr(backbone, "_supports_attention_backend", False) or _refuses(backbone):
            return None
        if backbone.device.type == "cuda" and precision(backbone.device) == "float32":  # attention there is in bfloat16
            return None
        padding = getattr(backbone.config, "pad_token_id", None) or 0
        for first in (0, padding + 1):  # RoBERTa's kin count from after the padding's number
            packing = cls(backbone, first)
            if packing._is_right():
                return packing
        return None

    def hidden(self, batch: Batch, ids: Tensor) -> Tensor:
        """Hidden states ``[texts, length, width]``, 0 where there is padding.

        Raises:
            CannotPackError: the backbone drops attention out just now, or has layers with a window.
        """
        lengths = batch.attention.sum(1)
        ends = F.pad(lengths.cumsum(0), (1, 0)).to(torch.int32)
        there = batch.tokens()
        position = torch.arange(batch.ids.shape[1], device=ids.device).expand_as(batch.ids)
        types = {} if batch.types is None else {"token_type_ids": batch.types.flatten()[there][None]}
        with _attending(self.backbone.config):
            output = self.backbone(
                input_ids=ids.flatten()[there][None],
                position_ids=(position.flatten()[there] + self.first)[None],
                cu_seq_lens_q=ends,
                max_length_q=batch.ids.shape[1],
                **types,
            )
        states: Tensor = output.last_hidden_state[0]
        padded = states.new_zeros(batch.ids.numel(), states.shape[-1])
        return padded.index_copy(0, there, states).view(*batch.ids.shape, -1)

    def _is_right(self) -> bool:
        """Whether three short texts have the same hidden states packed and padded."""
        batch, training = _example(self.backbone), self.backbone.training
        self.backbone.eval()
        try:
            with torch.no_grad():
                packed = self.hidden(batch, batch.ids)[batch.attention]
                types = {} if batch.types is None else {"token_type_ids": batch.types}
                padded = self.backbone(input_ids=batch.ids, attention_mask=batch.attention.long(), **types)
                expected = padded.last_hidden_state[batch.attention]
            return bool((packed - expected).abs().max() < _TOLERANCE * expected.abs().mean())
        except Exception:  # whatever goes wrong in somebody else's model, padding is right
            return False
        finally:
            self.backbone.train(training)


def _refuses(backbone: Any) -> bool:
    """Whether attention is dropped out just now, or has windows; looked at without a draw that training would miss."""
    batch = _example(backbone)
    here = [batch.ids.device] if batch.ids.device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices=here), torch.no_grad():
            Packing(backbone, 0).hidden(batch, batch.ids)
    except CannotPackError:
        return True
    except Exception:  # it cannot be packed at all, as the comparison will find
        return False
    return False


def _example(backbone: Any) -> Batch:
    """Three short texts, none of whose tokens is a special one."""
    device = next(backbone.parameters()).device
    there = torch.arange(16, device=device)[None] < torch.tensor([[5], [16], [9]], device=device)
    ids = 8 + torch.arange(48, device=device).view(3, 16) * 7 % max(1, backbone.config.vocab_size - 8)
    types = torch.zeros_like(ids) if getattr(backbone.config, "type_vocab_size", 0) > 1 else None
    return Batch(ids, there, ids, types)


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    cu_seq_lens_q: Tensor,
    max_length_q: int,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    **_more: Any,
) -> tuple[Tensor, None]:
    """Attention of every text to itself, in the form that transformers asks for.

    Args:
        module: Who asks.
        query: ``[1, heads, tokens, size]``, all texts end to end; likewise ``key`` and ``value``.
        key: See ``query``.
        value: See ``query``.
        attention_mask: Not needed.
        cu_seq_lens_q: Where each text begins, and the end of the last, int32 ``[texts + 1]``.
        max_length_q: At least the longest text.
        scaling: What the products are multiplied by; none is 1 / √size.
        dropout: Must be 0.
        sliding_window: Must be none: whoever attends to neighbours alone is read in a padded rectangle.

    Returns:
        ``[1, tokens, heads, size]``, and no weights.

    Raises:
        CannotPackError: one of the last two is not as it must be.
    """
    if dropout > 0 or sliding_window is not None:
        raise CannotPackError
    if query.device.type == "cuda":
        from torch.nn.attention.varlen import varlen_attn

        half = query.dtype if query.dtype in (torch.bfloat16, torch.float16) else torch.bfloat16
        q, k, v = (states[0].transpose(0, 1).to(half) for states in (query, key, value))
        ends, longest = cu_seq_lens_q, max_length_q
        mixed: Any = varlen_attn(q, k, v, ends, ends, longest, longest, scale=scaling)
        return mixed.to(query.dtype)[None], None
    each = []
    for start, end in pairwise(cu_seq_lens_q.tolist()):
        three = [states[:, :, start:end] for states in (query, key, value)]
        each.append(F.scaled_dot_product_attention(three[0], three[1], three[2], scale=scaling))
    return torch.cat(each, 2).transpose(1, 2), None


@contextmanager
def _attending(config: Any) -> Iterator[None]:
    """Let a model ask ``attend`` for a while."""
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(_NAME, attend)
    AttentionMaskInterface.register(_NAME, lambda *_args, **_more: None)
    before = config._attn_implementation
    config._attn_implementation = _NAME
    try:
        yield
    finally:
        config._attn_implementation = before
