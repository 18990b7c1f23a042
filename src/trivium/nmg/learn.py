"""Learn a masking policy: play, learn, look whether it is settled, and at the end ask fresh episodes."""

import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

from trivium.core import JSON
from trivium.masking import Known
from trivium.masking.policy import PolicyMasker, PolicyScorer
from trivium.masking.scored import Draw
from trivium.nmg.actor import Actor, Played
from trivium.nmg.learner import Learner
from trivium.nmg.parallel import name_of, play_all
from trivium.nmg.replay import Draws
from trivium.nmg.settings import NMG
from trivium.nmg.settled import settled, verdict_on
from trivium.nmg.warm import warm_up
from trivium.training import checkpoint
from trivium.training.checkpoint import put_slots, slots_of

Watch = Callable[[int, int], None]

_SAVE_SECONDS = 60.0
_LOOK_EVERY = 10  # episodes


class Learning:
    """A policy that is being learned, episode after episode; all that it is can be saved and gone on from."""

    def __init__(self, known: Known, settings: NMG, folder: Path) -> None:
        self.known, self.settings, self.seed = known, settings, known.seed
        self.actor = Actor(known, settings, folder)
        names = ["player", "opponent"] if settings.opponent in ("learning", "frozen") else ["player"]
        width = len(self.actor.features.names)
        self.learners = {name: Learner.fresh(settings, width, known.seed, name) for name in names}
        self.history: list[JSON] = []
        self.verdicts: list[JSON] = []
        self.settled: str | None = None
        if settings.warm_start == "gradalign":
            warm_up(self.learners["player"].policy, self.actor, known)

    def round(self) -> None:
        """Play as many episodes as there are actors, with the policies as they are, and learn from all of them."""
        start = len(self.history)
        many = min(self.settings.actors, self.settings.episodes - start)
        policies = {name: learner.policy for name, learner in self.learners.items()}
        self._learn(play_all(self.actor, self.known, range(start, start + many), policies, self._mode()))
        if self.settings.patience and len(self.history) // _LOOK_EVERY > start // _LOOK_EVERY:
            self.settled = settled([one["difference"] for one in self.history], self.settings.episodes, _LOOK_EVERY)

    def _learn(self, played: list[Played]) -> None:
        self.history += [one.record for one in played]
        scale = self._scale()
        for name, learner in self.learners.items():
            new = [_scaled(draws, scale) for one in played for draws in one.draws.get(name, [])]
            if new:
                told = learner.learn(new, self.actor.look, self.seed, played[-1].episode)
                self.history[-1] = {**self.history[-1], **{f"{name}_{key}": value for key, value in told.items()}}
        if self.settings.opponent == "frozen" and played[-1].record.get("beat") and self._warm():
            self.learners["opponent"].policy.load_state_dict(self.learners["player"].policy.state_dict())

    def _scale(self) -> float:
        """What a reward is divided by: how far the ways of an episode are apart, on the mean over episodes."""
        if self.settings.reward == "sign":
            return 1.0
        spreads = [one["spread"] for one in self.history if one["spread"] > 0]
        return sum(spreads) / len(spreads) if spreads else 1.0

    def _warm(self) -> bool:
        memory = self.learners["player"].memory
        return memory is not None and len(memory) >= max(1, self.settings.memory_start)

    def _mode(self) -> str:
        """How the opponent plays: by chance until there is something to learn from."""
        return self.settings.opponent if self._warm() else "random"

    @property
    def done(self) -> bool:
        """Whether all episodes are played, or it is settled."""
        return self.settled is not None or len(self.history) >= self.settings.episodes

    def assess(self) -> None:
        """Play one more of the episodes that the verdict rests on."""
        episode = f"verdict {len(self.verdicts)}"
        self.verdicts.append(self.actor.compare_with_chance(episode, self.learners["player"].policy))

    def masker(self, seconds: float) -> PolicyMasker:
        """What has been learned."""
        own = self.settings
        policy = self.learners["player"].policy.eval()
        rows = [one["rows"] for one in self.verdicts]
        about = {
            "verdict": verdict_on([one["difference"] for one in self.verdicts], rows),
            "settled": self.settled,
            "history": self.history,
            "verdicts": [{name: value for name, value in one.items() if name != "rows"} for one in self.verdicts],
            "rows": {"reward": len(self.actor.arena.parts.reward), "verdict": len(self.actor.arena.parts.verdict)},
            "contexts": len(self.actor.arena.parts.learn),
            "settings": asdict(own),
            "seconds": round(seconds, 1),
        }
        scorer = PolicyScorer(own.policy, policy, self.actor.features)
        return PolicyMasker(Draw(own.rate, own.unit, own.temperature), scorer, about)

    def save(self, folder: Path, seconds: float) -> None:
        """Write all that it is as a checkpoint, which appears in one rename; the one before it stays."""
        tensors: dict[str, Tensor] = {}
        for name, learner in self.learners.items():
            tensors |= {f"{name}/policy/{key}": value for key, value in learner.policy.state_dict().items()}
            tensors |= {f"{name}/slot/{key}": value for key, value in slots_of(learner.optimizer).items()}
            if learner.memory is not None:
                tensors |= {f"{name}/memory/{key}": value for key, value in learner.memory.tensors().items()}
        if self.settings.continual:
            tensors |= {f"start/{i}": kept for i, (_, kept) in enumerate(self.actor.arena.start.kept)}
        state = {
            "history": self.history,
            "verdicts": self.verdicts,
            "settled": self.settled,
            "seconds": seconds,
            "of": name_of(self.known, self.settings),
        }

        def fill(scratch: Path, _before: Path | None) -> None:
            kept = {name: value.detach().cpu().clone() for name, value in tensors.items()}
            save_file(kept, scratch / "learning.safetensors")
            (scratch / "learning.json").write_text(json.dumps(state))

        checkpoint.write(folder, len(self.history) + len(self.verdicts), fill)

    def restore(self, folder: Path) -> float:
        """Go to where ``save`` was last called, if it was for the same learning; the seconds spent until then.

        A damaged checkpoint is passed over for the one before it, or for the beginning, and that is told.
        """
        found = checkpoint.newest(folder)
        if found is None:
            return 0.0
        state = json.loads((found / "learning.json").read_text())
        if state["of"] != name_of(self.known, self.settings):
            return 0.0
        tensors = load_file(found / "learning.safetensors")
        self.history, self.verdicts, self.settled = state["history"], state["verdicts"], state["settled"]
        for name, learner in self.learners.items():
            learner.policy.load_state_dict(_below(tensors, f"{name}/policy/"))
            put_slots(learner.optimizer, _below(tensors, f"{name}/slot/"))
            memory = _below(tensors, f"{name}/memory/")
            learner.memory = Draws(**memory) if memory else None
        start = self.actor.arena.start
        start.kept = [(tensor, tensors.get(f"start/{i}", kept)) for i, (tensor, kept) in enumerate(start.kept)]
        start.restore()
        return float(state["seconds"])


def learn(known: Known, settings: NMG, *, resume: Path | None = None, watch: Watch | None = None) -> PolicyMasker:
    """Learn a policy from what may be known.

    Args:
        known: The task's training rows, the texts and the encoders.
        settings: How.
        resume: Folder to keep the state in, and to go on from.
        watch: Told how many episodes are played and how many there are.
    """
    if resume is not None:
        resume.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".tmp-", dir=resume) as scratch:  # where a killed run's are swept
        learning = Learning(known, settings, Path(scratch))
        before = 0.0 if resume is None else learning.restore(resume)
        begun = saved = time.monotonic()
        total = settings.episodes + settings.assess

        def tell() -> None:
            nonlocal saved
            if watch is not None:
                watch(len(learning.history) + len(learning.verdicts), total)
            if resume is not None and time.monotonic() - saved > _SAVE_SECONDS:
                learning.save(resume, before + time.monotonic() - begun)
                saved = time.monotonic()

        while not learning.done:
            learning.round()
            tell()
        while len(learning.verdicts) < settings.assess:
            learning.assess()
            tell()
        return learning.masker(before + time.monotonic() - begun)


def _scaled(draws: Draws, scale: float) -> Draws:
    return replace(draws, rewards=draws.rewards / scale)


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
