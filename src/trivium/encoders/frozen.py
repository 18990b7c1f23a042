"""Lowest layers that stay as they are say of a text what they said before: it is computed once and remembered.

The backbone is cut in two at a layer. What goes into that layer is kept for each text; from there on, the model of
transformers runs as ever, with fewer layers, and a stand-in for its embeddings that hands on what was kept. Whether an
architecture can be cut so is found out by comparing.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from trivium.kinds import Batch

_MOST = 2**31  # bytes that are remembered
_TOLERANCE = 1e-4


class _ReachedError(Exception):
    """The layer was reached whose input is wanted."""

    def __init__(self, states: Tensor) -> None:
        self.states = states


class _Given(nn.Module):
    """Stands where the embeddings were, and hands on states that are there."""

    def __init__(self, states: Tensor) -> None:
        super().__init__()
        self.states = states

    def forward(self, *_args: Any, **_kwargs: Any) -> Tensor:
        """The states, whatever is asked."""
        return self.states


class Below:
    """The lowest layers of a backbone, in evaluation mode and without gradients, and what they said of texts.

    Attributes:
        backbone: Of transformers.
        layers: How many of its layers.
    """

    def __init__(self, backbone: Any, layers: int) -> None:
        self.backbone, self.layers = backbone, layers
        self._kept: dict[int, Tensor] = {}
        self._bytes = 0

    @classmethod
    def of(cls, backbone: Any, layers: int) -> "Below | None":
        """The lowest layers; none where the backbone cannot be cut there."""
        found = _layers(backbone)
        if found is None or not 0 < layers < len(found[1]):
            return None
        below = cls(backbone, layers)
        return below if below._is_right() else None

    def hidden(self, batch: Batch, ids: Tensor | None = None) -> Tensor:
        """Hidden states ``[texts, length, width]`` of the whole backbone; of ``ids``, which are not remembered."""
        states = self._states(batch, batch.ids if ids is None else ids) if ids is not None else self._remembered(batch)
        return self._above(batch, states)

    def _remembered(self, batch: Batch) -> Tensor:
        names = batch.names()
        new = [i for i, name in enumerate(names) if name not in self._kept]
        fresh: dict[int, Tensor] = {}
        if new:
            rows = torch.tensor(new, device=batch.ids.device)
            part = batch.pick(rows)
            for i, states in zip(new, self._states(part, part.ids), strict=True):
                fresh[names[i]] = states[batch.attention[i]]
        first = next(iter(fresh.values())) if fresh else self._kept[names[0]]
        laid = first.new_zeros(*batch.ids.shape, first.shape[-1])
        laid[batch.attention] = torch.cat([fresh[name] if name in fresh else self._kept[name] for name in names])
        self._keep(fresh)
        return laid

    def _keep(self, fresh: dict[int, Tensor]) -> None:
        for name, states in fresh.items():
            if self._bytes < _MOST:
                self._kept[name] = states.clone()
                self._bytes += states.numel() * states.element_size()

    def _states(self, batch: Batch, ids: Tensor) -> Tensor:
        """What goes into the first layer above, ``[texts, length, width]``."""
        training = self.backbone.training
        self.backbone.eval()

        def stop(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            raise _ReachedError(args[0] if args else kwargs["hidden_states"])

        found = _layers(self.backbone)
        assert found is not None
        hook = found[1][self.layers].register_forward_pre_hook(stop, with_kwargs=True)
        try:
            with torch.no_grad():
                self.backbone(**_inputs(batch, ids))
        except _ReachedError as reached:
            return reached.states
        finally:
            hook.remove()
            self.backbone.train(training)
        raise AssertionError("a backbone runs through its layers")

    def _above(self, batch: Batch, states: Tensor) -> Tensor:
        with self._cut(states):
            output: Tensor = self.backbone(**_inputs(batch, batch.ids)).last_hidden_state
        return output

    @contextmanager
    def _cut(self, states: Tensor) -> Iterator[None]:
        """Let the backbone begin above for a while."""
        found = _layers(self.backbone)
        assert found is not None
        (parent, name), layers = found
        embeddings = self.backbone.embeddings
        setattr(parent, name, layers[self.layers :])
        self.backbone.embeddings = _Given(states)
        try:
            yield
        finally:
            setattr(parent, name, layers)
            self.backbone.embeddings = embeddings

    def _is_right(self) -> bool:
        """Whether two short texts have the same hidden states cut and whole."""
        device = next(self.backbone.parameters()).device
        there = torch.arange(16, device=device)[None] < torch.tensor([[9], [16]], device=device)
        ids = 8 + torch.arange(32, device=device).view(2, 16) * 7 % max(1, self.backbone.config.vocab_size - 8)
        types = torch.zeros_like(ids) if getattr(self.backbone.config, "type_vocab_size", 0) > 1 else None
        batch, training = Batch(ids, there, ids, types), self.backbone.training
        self.backbone.eval()
        try:
            with torch.no_grad():
                cut = self._above(batch, self._states(batch, ids))[there]
                whole = self.backbone(**_inputs(batch, ids)).last_hidden_state[there]
            return torch.allclose(cut, whole, atol=_TOLERANCE, rtol=_TOLERANCE)
        except Exception:  # whatever goes wrong in somebody else's model, the whole is right
            return False
        finally:
            self.backbone.train(training)


def _layers(backbone: Any) -> tuple[tuple[nn.Module, str], nn.ModuleList] | None:
    """The list of a backbone's layers, and who holds it under which name."""
    depth = getattr(backbone.config, "num_hidden_layers", 0)
    for parent in backbone.modules():
        for name, child in parent.named_children():
            if isinstance(child, nn.ModuleList) and len(child) == depth:
                return (parent, name), child
    return None


def _inputs(batch: Batch, ids: Tensor) -> dict[str, Tensor]:
    types = {} if batch.types is None else {"token_type_ids": batch.types}
    return {"input_ids": ids, "attention_mask": batch.attention.long(), **types}
