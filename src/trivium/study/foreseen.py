"""What a plan says, for people and for programs: every number that is not known for sure stands with its band."""

from collections.abc import Mapping
from dataclasses import dataclass

from trivium.core import JSON
from trivium.study.bands import Band
from trivium.study.timing import StagePlan
from trivium.training import torch_device

_ANSWERS = {  # what rows have, by kind; others have labels
    "multilabel": "any of {} labels",
    "regress": "a number",
    "rank": "choices",
    "tag": "words of {} tags",
    "span": "answers in a context",
}


@dataclass(frozen=True)
class ChoicePlan:
    """Something that is done before training or after it.

    Attributes:
        what: ``loading``, ``documents``, ``beside``, ``reading``, ``head``, ``masker``, ``judging``, ``linear`` or
            ``verdict``.
        arms: For which arms; empty where it is for all.
        times: How often it is done: for every seed, or once.
        seconds: How long all of it takes.
    """

    what: str
    arms: tuple[str, ...]
    times: int
    seconds: Band

    def to_json(self) -> dict[str, JSON]:
        """As ``trivium check --json`` prints it."""
        return {
            "what": self.what,
            "arms": list(self.arms),
            "times": self.times,
            **self.seconds.named("seconds"),
        }


@dataclass(frozen=True)
class Plan:
    """What a study would do and take.

    Attributes:
        study: Its name.
        rows: Rows of each split.
        kind: What kind of task it is.
        labels: How many logits its head has: labels, tags, or the one or two of kinds without labels.
        documents: Documents of the corpus.
        notes: What loading decided and the screens found.
        arms: The stages of each arm, with one seed.
        choices: What is done before training and after it, with all seeds.
        encoders: How many encoders the arms train.
        parameters: Weights of the largest.
        seeds: How many seeds.
        workers: How many jobs run at a time.
        training: Time in which all arms are trained with all seeds.
        seconds: Time of the whole study.
        worker_memory: The most that one worker takes, in bytes.
        memory: The most that all processes take together, in bytes.
        disk: Size of the run folder, in bytes.
    """

    study: str
    rows: Mapping[str, int]
    kind: str
    labels: int
    documents: int
    notes: tuple[str, ...]
    arms: Mapping[str, tuple[StagePlan, ...]]
    choices: tuple[ChoicePlan, ...]
    encoders: int
    parameters: int
    seeds: int
    workers: int
    training: Band
    seconds: Band
    worker_memory: Band
    memory: Band
    disk: Band

    @property
    def flops(self) -> Band:
        """Of all training of arms."""
        every = [stage for stages in self.arms.values() for stage in stages if stage.trained_for is None]
        return Band.sum(stage.flops for stage in every) * float(self.seeds)

    def to_json(self) -> dict[str, JSON]:
        """All of it, as ``trivium check --json`` prints it; a number with a band has ``_low`` and ``_high`` beside."""
        plain = ("study", "kind", "labels", "documents", "encoders", "parameters", "seeds", "workers")
        told: dict[str, JSON] = {name: getattr(self, name) for name in plain}
        for name in ("training", "seconds", "worker_memory", "memory", "disk", "flops"):
            told |= getattr(self, name).named(name)
        return {
            **told,
            "rows": dict(self.rows),
            "notes": list(self.notes),
            "arms": {name: [stage.to_json() for stage in stages] for name, stages in self.arms.items()},
            "choices": [choice.to_json() for choice in self.choices],
        }

    def to_text(self) -> str:
        """The plan as a person reads it."""
        rows = ", ".join(f"{n:,} {split}" for split, n in self.rows.items())
        answers = _ANSWERS.get(self.kind, "{} labels").format(self.labels)
        lines = [f"{self.study}: {rows} rows with {answers}; {self.documents:,} documents to choose from"]
        lines += [f"note: {note}" for note in self.notes]
        return "\n".join([*lines, "", *self._stage_lines(), "", *self._choice_lines(), "", *self._sums()])

    def _stage_lines(self) -> list[str]:
        width = max(len(name) for name in self.arms)
        lines = [f"{'arm':<{width}}  {'stage':<12} {'updates':>9} {'tokens':>9} {'FLOPs':>8}  time with one seed"]
        for name, stages in self.arms.items():
            for i, s in enumerate(stages):
                takes = _times(s.seconds) if s.trained_for is None else f"trained for '{s.trained_for}'"
                lines.append(
                    f"{name if i == 0 else '':<{width}}  {s.stage:<12} {s.updates:>9,} {_large(s.tokens):>9} "
                    f"{s.flops.value:>8.1e}  {takes}"
                )
        return lines

    def _choice_lines(self) -> list[str]:
        width = max((len(_DOING[choice.what]) for choice in self.choices), default=0)
        lines = [f"{'before and after':<{width}}  time with all seeds"]
        for choice in self.choices:
            who = f"; for {', '.join(choice.arms)}" if choice.arms else ""
            often = f", {choice.times} times" if choice.times > 1 else ""
            lines.append(f"{_DOING[choice.what]:<{width}}  {_times(choice.seconds)}{often}{who}")
        return lines

    def _sums(self) -> list[str]:
        whole, one, disk = self.memory, self.worker_memory, self.disk
        few = "" if self.encoders == 1 else f"{self.encoders} encoders, the largest of "
        return [
            f"encoder   {few}{_large(self.parameters)} parameters, on {torch_device()}",
            f"training  {_times(self.training)} for {len(self.arms)} arms × {self.seeds} seeds, "
            f"{self.workers} at a time",
            f"in all    {_times(self.seconds)}",
            f"memory    about {_gib(whole.value)} GiB ({_gib(whole.low)} to {_gib(whole.high)}), "
            f"{_gib(one.value)} GiB for each worker",
            f"disk      about {_mib(disk.value)} MiB ({_mib(disk.low)} to {_mib(disk.high)}) in the run folder",
            f"compute   {self.flops.value:.1e} FLOPs of training",
            "Ranges are meant to hold nine times in ten; early stopping and patience reach to their lower ends.",
        ]


_DOING = {
    "loading": "reading the data",
    "documents": "choosing documents",
    "beside": "choosing tasks beside",
    "reading": "tokenising",
    "head": "warming up a head",
    "masker": "learning what to hide",
    "judging": "judging",
    "linear": "the linear model",
    "verdict": "verdict and report",
}


def _times(seconds: Band) -> str:
    """A duration with its ends.

    >>> _times(Band(90.0, 60.0, 150.0))
    '90 s (60 s to 2 min)'
    """
    return f"{_time(seconds.value)} ({_time(seconds.low)} to {_time(seconds.high)})"


def _gib(size: float) -> str:
    return f"{size / 2**30:.1f}"


def _mib(size: float) -> str:
    return f"{size / 2**20:,.0f}"


def _large(number: float) -> str:
    """A number in thousands, millions or billions.

    >>> _large(1_230_000)
    '1.2 M'
    """
    for size, sign in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.1f} {sign}"
    return f"{number:.0f}"


def _time(seconds: float) -> str:
    """A duration.

    >>> _time(59), _time(600), _time(7300)
    ('59 s', '10 min', '2.0 h')
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
