"""Plays episodes: draws ways to hide by the policies as they are, tries them, and credits each draw."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trivium import seeds
from trivium.core import JSON
from trivium.encoders.streams import collate, subset
from trivium.masking import Known
from trivium.masking.features import StateFeatures, WordFeatures
from trivium.masking.policy import Features, log_probabilities, take
from trivium.masking.units import Units, budget, gumbel
from trivium.masking.words import keys_in
from trivium.nmg.bank import Bank, single
from trivium.nmg.credit import against_others, against_rivals, compare
from trivium.nmg.episodes import Arena, Outcome, Texts
from trivium.nmg.replay import Draws
from trivium.nmg.settings import NMG


@dataclass(frozen=True)
class Hand:
    """What an episode begins with, the same for all who play it.

    Attributes:
        texts: The texts.
        units: What may be hidden in them.
        count: How many units are hidden in each, int64 ``[texts]``.
        rng: Of the draws.
    """

    texts: Texts
    units: Units
    count: Tensor
    rng: torch.Generator


@dataclass(frozen=True)
class Played:
    """An episode that was played.

    Attributes:
        episode: Which.
        draws: What each learner is to learn from, by its name.
        record: What is known of it, as JSON.
    """

    episode: str
    draws: dict[str, list[Draws]]
    record: JSON


class Actor:
    """Plays, with policies whose weights it is given."""

    def __init__(self, known: Known, settings: NMG, folder: Path) -> None:
        self.settings, self.seed, self.folder = settings, known.seed, folder
        self.arena = Arena(known, settings)
        self.features: Features = _features(known, settings, self.arena)

    @cached_property
    def bank(self) -> Bank:
        """Features of all texts that are played with, worked out when they are first asked for."""
        encoder, unit = self.arena.encoder, self.settings.unit
        pad, types = encoder.tokenizer.pad_token_id, encoder.wants_types
        return Bank.fill(self.folder / "features.npy", self.features, self.arena.encoded, pad, unit, types=types)

    def deal(self, episode: str) -> Hand:
        """The texts of an episode, and how much of each is hidden."""
        texts = self.arena.deal(episode)
        rng = seeds.torch_rng(self.seed, "nmg", "draws", episode)
        units = Units.in_batch(texts.batch, self.settings.unit)
        return Hand(texts, units, budget(units.count, self.settings.rate, rng), rng)

    def look(self, windows: Tensor) -> tuple[Tensor, Tensor]:
        """What the policies see of some windows: as they were, or with the encoder of now."""
        if self.settings.features == "initial":
            return self.bank.look(windows)
        return self._look_now(windows)

    def play(self, episode: int, policies: Mapping[str, Any], opponent: str) -> Played:
        """Play an episode and say what the draws are credited with.

        Args:
            episode: Which.
            policies: The learners' policies by name: ``player``, and ``opponent`` if there is one.
            opponent: How the opponent plays for now: ``random``, ``learning`` or ``frozen``.
        """
        hand = self.deal(f"{episode}")
        if self.settings.versus == "others":
            return self._among_others(hand, policies["player"])
        return self._self_play(hand, policies, opponent)

    def _among_others(self, hand: Hand, policy: Any) -> Played:
        """The policy, chance, and the policy with perturbed weights; all of them are learned from."""
        with torch.no_grad():
            features, there = self.look(torch.from_numpy(hand.texts.windows))
            logits, values = policy(features, there)
            ways = [logits, torch.zeros_like(logits).masked_fill(~there, -torch.inf)]
            for _ in range(math.ceil((self.settings.sets - 2) / 2)):
                change = self._perturbation(features, hand)
                ways += [logits + change, logits - change]
        noise = gumbel(logits.shape, hand.rng)
        picks = [take(way, hand.count, noise) for way in ways[: self.settings.sets]]
        outcomes = self._outcomes(hand, picks)
        rewards = against_others(outcomes, self.settings)
        draws = [
            self._draws(hand, mine, logits, values, torch.where(mine >= 0, reward, torch.nan), way)
            for mine, reward, way in zip(picks, rewards, ways, strict=False)
        ]
        spread = float(np.std([outcome.likelihood for outcome in outcomes]))
        return Played(hand.texts.episode, {"player": draws}, self._record(hand, outcomes[0], outcomes[1], spread))

    def _self_play(self, hand: Hand, policies: Mapping[str, Any], mode: str) -> Played:
        """The player against an opponent and against chance (NMG, Algorithm in section 1.4 of the specification)."""
        own = self.settings
        with torch.no_grad():
            features, there = self.look(torch.from_numpy(hand.texts.windows))
            seen = {name: policy(features, there) for name, policy in policies.items()}
        logits = {"random": torch.zeros(there.shape).masked_fill(~there, -torch.inf)}
        logits |= {name: one for name, (one, _) in seen.items()}
        if mode == "random":
            logits["opponent"] = logits["random"]
        picks: dict[str, Tensor] = {}
        for name in ("random", "opponent", "player"):
            if name == "opponent" and mode == "random":
                picks[name] = picks["random"]
                continue
            frozen = name == "opponent" and mode == "frozen"
            picks[name] = take(logits[name], hand.count, None if frozen else gumbel(there.shape, hand.rng))
        *others, player = self._outcomes(hand, list(picks.values()), keep=own.continual)
        outcomes = dict(zip(picks, [*others, player], strict=True))
        draws = {}
        for name in policies:
            if name == "opponent" and mode != "learning":
                continue
            rivals = [other for other in picks if other != name]
            rewards = [compare(outcomes[name], outcomes[other], own) for other in rivals]
            if own.credit == "all":
                credited = torch.where(picks[name] >= 0, min(rewards), torch.nan)
            else:
                hidden = [self._hidden(hand.units, picks[other]) for other in rivals]
                credited = against_rivals(picks[name], hidden, rewards)
            draws[name] = [self._draws(hand, picks[name], seen[name][0], seen[name][1], credited)]
        spread = float(np.std([outcome.likelihood for outcome in outcomes.values()]))
        record = self._record(hand, outcomes["player"], outcomes["random"], spread)
        return Played(
            hand.texts.episode, draws, {**record, "beat": outcomes["player"].value > outcomes["opponent"].value}
        )

    def compare_with_chance(self, episode: str, policy: Any) -> JSON:
        """Play a fresh episode with the policy as it will be used, beside chance, judged by rows that it never met."""
        hand = self.deal(episode)
        with torch.no_grad():
            features, there = self.look(torch.from_numpy(hand.texts.windows))
            logits, _ = policy(features, there)
        noise, warmth = gumbel(logits.shape, hand.rng), self.settings.temperature
        chance = torch.zeros_like(logits).masked_fill(~there, -torch.inf)
        picks = [
            take(logits if warmth == 0 else logits / warmth, hand.count, None if warmth == 0 else noise),
            take(chance, hand.count, noise),
        ]
        one, other = self._outcomes(hand, picks, on="verdict")
        rows = [mine - theirs for mine, theirs in zip(one.rows, other.rows, strict=True)]
        return {**self._record(hand, one, other, 0.0), "rows": rows}

    def _outcomes(self, hand: Hand, picks: list[Tensor], *, on: str = "reward", keep: bool = False) -> list[Outcome]:
        """What came of each way; of two that hide the same, the same. The last may be kept."""
        found: list[Outcome] = []
        for i, mine in enumerate(picks):
            hidden = self._hidden(hand.units, mine)
            last = keep and i == len(picks) - 1
            same = [j for j in range(i) if torch.equal(self._hidden(hand.units, picks[j]), hidden)]
            if same and not last:
                found.append(found[same[0]])
            else:
                found.append(self.arena.play(hand.texts, hand.units.spread(hidden), on=on, keep=last))
        return found

    @staticmethod
    def _hidden(units: Units, picks: Tensor) -> Tensor:
        """What was drawn, as bool ``[texts, width]``."""
        hidden = torch.zeros(len(units.there), units.width + 1, dtype=torch.bool)
        hidden[torch.arange(len(hidden))[:, None], torch.where(picks >= 0, picks, units.width)] = True
        return hidden[:, :-1]

    def _perturbation(self, features: Tensor, hand: Hand) -> Tensor:
        """A change of logits in a random direction of the features, whose standard deviation is ``explore``."""
        direction = torch.randn(features.shape[-1], generator=hand.rng)
        scaled = ((features - self.bank.mean) / self.bank.spread).clamp(-3, 3)
        size: float = self.settings.explore / features.shape[-1] ** 0.5
        return (scaled @ direction) * size

    def _draws(
        self, hand: Hand, picks: Tensor, logits: Tensor, values: Tensor, rewards: Tensor, way: Tensor | None = None
    ) -> Draws:
        """Draws of a policy, or by the logits of another ``way`` that it is to learn from."""
        with torch.no_grad():
            logs = log_probabilities(logits, picks, sequential=self.settings.sequential)
            made = logs if way is None else log_probabilities(way, picks, sequential=self.settings.sequential)
        keys = keys_in(hand.texts.batch, hand.units)
        often = torch.from_numpy((keys[:, :, None] == keys[:, None, :]).sum(2))
        seldom = often.gather(1, picks.clamp(min=0)).float().rsqrt()
        trust = (logs - made).clamp(max=0).exp()
        return Draws(torch.from_numpy(hand.texts.windows), picks, logs, rewards, values.clone(), seldom, trust)

    def _record(self, hand: Hand, policy: Outcome, chance: Outcome, spread: float) -> JSON:
        return {
            "episode": hand.texts.episode,
            "policy": policy.likelihood,
            "random": chance.likelihood,
            "difference": policy.likelihood - chance.likelihood,
            "policy_value": policy.value,
            "random_value": chance.value,
            "spread": spread,
        }

    def _look_now(self, windows: Tensor) -> tuple[Tensor, Tensor]:
        """With the encoder as it is now: of another one at every episode where it goes on learning."""
        unique, back = torch.unique(windows, return_inverse=True)
        encoded = subset(single(self.arena.encoded), unique.numpy())
        encoder = self.arena.encoder
        batch = collate(encoded, np.arange(len(unique)), encoder.tokenizer.pad_token_id, types=encoder.wants_types)
        units = Units.in_batch(batch, self.settings.unit)
        return self.features.of(batch, units)[back], units.there[back]


def _features(known: Known, settings: NMG, arena: Arena) -> Features:
    """What the policy looks at; labels of rows that are kept to judge by do not enter."""
    if settings.policy == "neural":
        return StateFeatures(arena.encoder if settings.features == "current" else known.models.language())
    rows = np.flatnonzero(np.isin(arena.of_row, arena.parts.learn))
    learned = Known.of(arena.rows(rows), known.texts, known.tokenizer, known.models, seed=known.seed)
    return WordFeatures.of_texts(learned, settings.unit)
