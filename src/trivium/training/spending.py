"""What training spends: floating-point operations of a token, and tokens of an update.

Operations are counted as TLM counts them (Yao et al. 2022, section 4.1): 6 for each weight and token, which are 2 on
the way forward and 4 on the way back. A weight that is frozen has no way back: layers are frozen from below, and
nothing is propagated through them.
"""

from collections import Counter
from dataclasses import dataclass

from trivium.encoders.encoder import Encoder
from trivium.encoders.streams import BatchStream
from trivium.training.loop import StageRun
from trivium.training.optimizer import is_frozen

_CYCLES = 100  # over which turns are counted
_BATCHES = 64  # of each stream that stand for all


def flops_per_token(encoder: Encoder, freeze: int = 0) -> float:
    """Floating-point operations of a token in training: 2 for each weight, and 4 for each that learns.

    Heads of tasks are not counted: they are small, and read one token of a text.

    Args:
        encoder: The encoder.
        freeze: As a stage has it: the lowest so many layers, and the embeddings, stay as they are.
    """
    named = [(name, weight.numel()) for name, weight in encoder.named_parameters() if not name.startswith("heads.")]
    learned = sum(many for name, many in named if not is_frozen(name, encoder, freeze))
    return 2.0 * sum(many for _, many in named) + 4.0 * learned


@dataclass(frozen=True)
class Rate:
    """What an update of a stage reads, the mean over its mix.

    Attributes:
        read: Tokens, padding not counted.
        computed: Tokens, padding counted.
    """

    read: float
    computed: float


def cost(equal: str, rate: Rate, flops: float) -> float:
    """What an update takes of what arms spend alike.

    Args:
        equal: ``tokens``, ``flops``, or anything else for the updates themselves.
        rate: What it reads.
        flops: Operations of a token.

    >>> rate = Rate(read=50.0, computed=64.0)
    >>> cost("tokens", rate, 6e6), cost("flops", rate, 6e6), cost("updates", rate, 6e6)
    (50.0, 384000000.0, 1.0)
    """
    return {"tokens": rate.read, "flops": flops * rate.computed}.get(equal, 1.0)


def shares(run: StageRun) -> dict[str, float]:
    """Which share of the updates each stream of a stage has; they sum to 1."""
    turns = Counter(run.turns.turn(update)[0] for update in range(len(run.turns.cycle) * _CYCLES))
    return {name: many / turns.total() for name, many in turns.items()}


def rate_of(run: StageRun) -> Rate:
    """What an update of a stage reads: a function of its rows, its mix and its seed.

    Where gradients of auxiliary tasks are compared with the task's own, such a turn reads a further batch of the task.
    """
    means = {name: _mean_batch(stream) for name, stream in run.streams.items()}
    own = _mean_batch(run.primary) if run.meetings else (0.0, 0.0)
    found = [0.0, 0.0]
    for name, share in shares(run).items():
        for i in (0, 1):
            found[i] += share * (means[name][i] + (own[i] if name in run.meetings else 0.0))
    return Rate(*found)


def _mean_batch(stream: BatchStream) -> tuple[float, float]:
    """Tokens of a batch without padding and with it, the mean over the first batches."""
    batches = [stream.batch(n) for n in range(_BATCHES)]
    return (
        sum(int(batch.attention.sum()) for batch in batches) / _BATCHES,
        sum(batch.ids.numel() for batch in batches) / _BATCHES,
    )
