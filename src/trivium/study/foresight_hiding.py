"""What it would take that a masker learns first: tried on some of the texts, with encoders that were not trained."""

import math
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from trivium.core import Stage, Task
from trivium.encoders import Encoder, Pretrained
from trivium.kinds import Cut
from trivium.masking import Fits, Known
from trivium.nmg import NMG
from trivium.nmg.learn import Learning
from trivium.study.arms import Arm
from trivium.study.bands import Aside, Band, growing, timed
from trivium.study.foresight import Scene, some_rows, taken, tolerant
from trivium.study.timing import Timing
from trivium.training import StudyModels, compares, make_ready, new_encoder, torch_device
from trivium.training.recipes import make_stage
from trivium.training.turns import planned_updates

_FEWEST_EPISODES = 20  # no look before that can settle anything (nmg.settled)
_FIRST = 48  # texts that are tried first
_CONTEXTS = 8  # texts of the smallest episode
_PARTS = 3  # texts that must be there for each of an episode: some are kept to judge by


def masker(scene: Scene, arm: Arm) -> Band:
    """What an arm's masker learns before it hides anything; nothing where it follows a rule."""
    own = arm.recipe.masker
    if not isinstance(own, Fits):
        return Band.exactly(0.0)
    passages = len(scene.timing.task.passages()[0])
    reads = int(taken(scene, arm).value) if arm.recipe.reads() else 0
    models = DryModels(scene.timing, passages + reads, max(stage.max_length for stage in arm.recipe.stages))
    if isinstance(own, NMG):
        return _episodes(scene, own, models) + models.seconds
    line = growing(lambda many: _fitted(scene, own, models, many, passages, reads), passages + reads, start=_FIRST)
    return line.at(passages + reads) + models.seconds


def _fitted(scene: Scene, own: Fits, models: "DryModels", many: int, passages: int, reads: int) -> float:
    """Seconds of learning from so many texts, of the task's and of the documents' as many as there will be of each."""
    mine = max(1, round(many * passages / (passages + reads)))
    task = some_rows(scene.timing.task, mine)
    texts = [*task.passages()[0], *scene.timing.texts[: many - mine]]
    general = scene.timing.texts if compares(own) else []
    known = Known.of(task, texts, scene.timing.tokenizer, models, background=general)
    begun = models.aside.seconds
    seconds = timed(lambda: tolerant(lambda: make_ready(own, known)))
    return max(0.0, seconds - (models.aside.seconds - begun))


def _episodes(scene: Scene, own: NMG, models: "DryModels") -> Band:
    """All episodes of learned masking and those of its verdict, from some that are played with fewer texts.

    Patience may end it after 20 episodes, or never.
    """
    rows, (texts, _) = len(scene.timing.task.rows("train")), scene.timing.task.passages()
    each = rows / max(1, len(texts))
    contexts = min(own.contexts, math.ceil(len(texts) / 2))

    def episode(many: int) -> float:
        share = many / own.contexts
        small = replace(
            own,
            contexts=many,
            rows=max(2, round(own.rows * share)),
            validation_rows=max(2, round(own.validation_rows * share)),
            actors=1,
            warm_start="none",
        )
        task = some_rows(scene.timing.task, max(64, math.ceil(_PARTS * many * each)))
        known = Known.of(task, task.passages()[0], scene.timing.tokenizer, models)
        with tempfile.TemporaryDirectory() as scratch:
            learning = Learning(known, small, Path(scratch))
            learning.round()  # works features out, once for all
            return timed(learning.round)

    ways = own.sets if own.versus == "others" else 3
    played = Band.between(min(_FEWEST_EPISODES, own.episodes) if own.patience else own.episodes, own.episodes)
    whole = replace(played, value=float(own.episodes)) + Band.exactly(own.assess * 2 / ways)
    return growing(episode, contexts, start=_CONTEXTS).at(contexts) * whole


@dataclass
class DryModels:
    """Encoders for a masker that asks some, untrained: what would have been trained is counted (``masking.Models``).

    Attributes:
        timing: How an encoder is made, and what steps take.
        texts: How many texts will be hidden in.
        max_length: Longest input in tokens.
        asked: Seconds of each training that was asked for, by what it is.
        aside: What making untrained ones and timing steps took.
    """

    timing: Timing
    texts: float
    max_length: int
    asked: dict[str, Band] = field(default_factory=dict)
    aside: Aside = field(default_factory=Aside)

    def language(self) -> Encoder:
        """One that would have filled gaps, if it is from scratch."""
        if not isinstance(self.timing.spec, Pretrained):
            self.asked["language"] = self._training(self.stage("adapt", updates=StudyModels.updates))
        return self._encoder()

    def adapted(self) -> Encoder:
        """One that would have filled gaps in the texts."""
        found = self.language()
        passages = len(self.timing.task.passages()[0])
        tokens = int(self.texts / passages * self.timing.tokens_of_texts(self.max_length))
        whole = planned_updates(self.stage("adapt", epochs=StudyModels.epochs), 1, {"documents": tokens})
        self.asked["adapted"] = self._training(self.stage("adapt", updates=min(whole, StudyModels.updates)))
        return found

    def finetuned(self, task: Task) -> Encoder:
        """One that would have learned a task."""
        found, rows = self.language(), len(self.timing.task.rows("train"))
        stage = self.stage("finetune", epochs=StudyModels.epochs, patience=None)
        updates = planned_updates(stage, rows, {})
        self.asked[f"finetuned {task.kind}"] = self._training(replace(stage, updates=updates, epochs=None))
        found.add_head(task)
        found.keep_cut(task, Cut(stage.max_length, stage.long_text, stage.stride))
        return found

    def stage(self, preset: str, **changes: Any) -> Stage:
        """As the models of a study have it."""
        return make_stage({"preset": preset, "max_length": self.max_length, **changes}, self.timing.spec, preset)

    @property
    def seconds(self) -> Band:
        """Of all trainings that were asked for."""
        return Band.sum(self.asked.values()).off()

    def _training(self, stage: Stage) -> Band:
        """Its looks at dev are not made: nobody's dev rows steer it."""
        read = replace(stage, mix={"texts": 1}) if stage.masks else stage  # whatever is read, a step takes as long
        with self.aside():
            return self.timing.update(read, self.timing.steps(read), ()) * float(stage.updates or 0)

    def _encoder(self) -> Encoder:
        with self.aside():
            found = new_encoder(self.timing.spec, self.timing.tokenizer, self.max_length, seed=0)
            return (found.cuda() if torch_device() == "cuda" else found).eval()
