"""How a masking policy is learned: every choice is a key, and the presets are two ways to set them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from trivium.core import COUNT, FROM_ZERO, LENGTH, POSITIVE, demand
from trivium.errors import ConfigError
from trivium.masking import Known
from trivium.masking.policy import PolicyKind, PolicyMasker
from trivium.masking.scored import Draw

Opponent = Literal["none", "random", "frozen", "learning"]


@dataclass(frozen=True)
class NMG(Draw):
    """Learn by reinforcement which words to hide (NMG, Kang et al. 2020), on the training rows alone.

    An episode samples some training texts and hides words in them in several ways. For each way it fills the gaps,
    fine-tunes on the rows of these texts, and looks how well rows are answered that are kept for that. Ways that do
    better than the others of their episode become likelier. The defaults are the preset ``modern``; ``NMG.paper()`` has
    the settings of the paper's code where it is right.

    Attributes:
        rate: Share of the units to hide.
        unit: What is hidden or shown as a whole: ``word`` or ``token``.
        temperature: Of the policy once it has learned: 1 draws as it learned to, 0 takes its favourites.
        policy: ``linear``: a weight for each of some thirty features of words. ``neural``: the paper's network, over
            the states of the encoder.
        features: What the neural policy looks at: the ``initial`` encoder, or the ``current`` one of the episode.
        episodes: How many at most.
        contexts: Training texts of an episode.
        rows: Most rows that are fine-tuned on in an episode.
        sets: Ways to hide that are compared in an episode; with ``versus: others`` at least 3: the policy's, random
            ones, and the policy with perturbed weights, in pairs that mirror each other.
        explore: How far weights are perturbed: standard deviation of the change in logits.
        versus: What a way is measured against: ``others``, the mean of the other ways of its episode (leave one out);
            or ``rivals``, an opponent and a random masker, in self-play (the paper).
        opponent: With ``versus: rivals``: ``learning``, a second policy; ``frozen``, the player's favourites of earlier
            on; ``random``, none but the random masker.
        reward: ``likelihood``: by how much rows become likelier on the mean, in units of its usual spread; ``sign``:
            which is better by the task's metric, and no more.
        credit: ``all`` hidden units; or ``unshared``, those that the rival did not hide.
        validation: Share of the training texts whose rows are kept for the reward, and as many for the verdict.
        validation_rows: Most rows of either.
        fill_epochs: Passes over the texts of an episode that fill gaps.
        fill_rate: Peak learning rate of it; none is that of the preset ``adapt``.
        finetune_epochs: Passes over its rows.
        finetune_rate: Peak learning rate; none is that of the preset ``finetune``.
        batch_rows: Texts, and rows, in a batch of either.
        max_length: Longest input in tokens.
        freeze: Leave the lowest so many layers as they are; what they say of a text is computed once.
        continual: Let the encoder go on from where the player's gaps have brought it, episode after episode.
        memory: Draws that are kept to learn from again; 0: those of the episode alone.
        memory_contexts: Texts that they may come from at most.
        memory_start: Draws that must be there before anything is learned.
        steps: Gradient steps after an episode.
        batch: Draws in a step; none takes all.
        priority: How draws are picked from memory: ``none``, evenly; ``advantage``, by how far the critic was off and
            by how seldom the token is in its text (the paper).
        sequential: Whether a draw's probability is given those before it (Plackett and Luce) or as if it were the
            first.
        critic: Subtract what the critic expects of a text.
        clip: How far a draw's probability may move in an episode before it no longer counts (PPO); none: any.
        entropy: How much it counts that the policy stays undecided: what chance did to its weights fades again.
        lr: Learning rate of the policy.
        warm_start: ``none``, or ``gradalign``: begin with weights that prefer what first-order credit prefers.
        actors: Episodes that are played before the policy learns from them together; on ``engine: ray``, side by side.
        patience: Stop when the interval of policy minus random has settled: it excludes 0, or the episodes that are
            left could not make it.
        assess: Fresh episodes, after learning, that the verdict on the policy rests on.
    """

    seeded: ClassVar[bool] = True

    policy: PolicyKind = "linear"
    features: Literal["initial", "current"] = "initial"
    episodes: int = 100
    contexts: int = 200
    rows: int = 1000
    sets: int = 4
    explore: float = 1.0
    versus: Literal["others", "rivals"] = "others"
    opponent: Opponent = "none"
    reward: Literal["likelihood", "sign"] = "likelihood"
    credit: Literal["all", "unshared"] = "all"
    validation: float = 0.2
    validation_rows: int = 500
    fill_epochs: int = 3
    fill_rate: float | None = None
    finetune_epochs: int = 3
    finetune_rate: float | None = None
    batch_rows: int = 16
    max_length: int = 128
    freeze: int = 0
    continual: bool = False
    memory: int = 0
    memory_contexts: int = 5000
    memory_start: int = 0
    steps: int = 4
    batch: int | None = None
    priority: Literal["none", "advantage"] = "none"
    sequential: bool = True
    critic: bool = False
    clip: float | None = 0.2
    entropy: float = 0.1
    lr: float = 0.01
    warm_start: Literal["none", "gradalign"] = "none"
    actors: int = 1
    patience: bool = True
    assess: int = 12

    def __post_init__(self) -> None:
        """Refuse what cannot be played."""
        super().__post_init__()
        ranges = {
            COUNT: (
                *("episodes", "contexts", "rows", "validation_rows", "batch_rows", "steps", "actors", "sets", "batch"),
                *("fill_epochs", "finetune_epochs", "memory_contexts"),
            ),
            LENGTH: ("max_length",),
            POSITIVE: ("clip",),
            FROM_ZERO: (
                *("explore", "fill_rate", "finetune_rate", "freeze", "memory", "memory_start", "entropy", "lr"),
            ),
        }
        demand(self, "nmg, ", ranges)
        if not 0 < self.validation < 0.5:
            raise ConfigError(
                f"nmg, validation: expected a share above 0 and below 0.5, since as many texts again are kept for the "
                f"verdict; found {self.validation}."
            )
        if self.versus == "others" and (self.sets < 3 or self.opponent != "none" or self.credit != "all"):
            raise ConfigError(
                f"nmg: with versus: others, expected at least 3 sets, opponent: none and credit: all; found "
                f"{self.sets}, {self.opponent} and {self.credit}."
            )
        if self.versus == "rivals" and self.opponent == "none":
            raise ConfigError("nmg: versus: rivals needs an opponent: random, frozen or learning.")
        if self.continual and self.actors > 1:
            raise ConfigError("nmg: with continual: true every episode goes on from the last, so expected actors: 1.")
        if self.assess < 3:
            raise ConfigError(f"nmg, assess: expected at least 3 episodes for an interval, found {self.assess}.")

    def fit(
        self, known: Known, *, resume: Path | None = None, watch: Callable[[int, int], None] | None = None
    ) -> PolicyMasker:
        """Learn a policy. Looks at training rows alone, and keeps some of them to reward it and to judge it."""
        from trivium.nmg.learn import learn

        return learn(known, self, resume=resume, watch=watch)

    @classmethod
    def paper(cls, **changes: Any) -> "NMG":
        """The preset ``paper`` with changes: self-play, one-bit rewards, replay, 5 % of the tokens.

        >>> NMG.paper(episodes=10).credit
        'unshared'
        """
        return cls(**{**PRESETS["paper"](), **changes})


def _paper() -> dict[str, Any]:
    """What the reference's training script sets for classification (sections 1 and 6 of its description)."""
    return {
        "rate": 0.05, "unit": "token", "temperature": 0.0, "policy": "neural", "features": "current",
        "episodes": 1000, "contexts": 200, "rows": 1000, "sets": 1, "explore": 0.0,
        "versus": "rivals", "opponent": "learning", "reward": "sign", "credit": "unshared",
        "validation": 0.1, "validation_rows": 10_000, "max_length": 256, "batch_rows": 8,
        "fill_epochs": 3, "fill_rate": 2e-5, "finetune_epochs": 5, "finetune_rate": 2e-5,
        "continual": True, "memory": 50_000, "memory_contexts": 5000, "memory_start": 500, "steps": 10, "batch": 64,
        "priority": "advantage", "sequential": False, "critic": True, "clip": None, "entropy": 0.01, "lr": 1e-4,
        "patience": False,
    }  # fmt: skip


def _paper_qa() -> dict[str, Any]:
    """What it sets for questions over a context."""
    changed = {"max_length": 384, "batch_rows": 4, "finetune_epochs": 1, "finetune_rate": 3e-5, "memory_start": 2000}
    return {**_paper(), **changed}


PRESETS: Mapping[str, Callable[[], dict[str, Any]]] = {"modern": dict, "paper": _paper, "paper-qa": _paper_qa}
