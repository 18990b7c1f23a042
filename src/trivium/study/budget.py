"""A study that may take so long and no longer: how many seeds, and how much of every stage, fit.

What is given up, in this order: seeds beyond three, then updates of all stages of all arms alike, down to a tenth, then
the second and third seed. A study fits if the upper end of what it is planned to take does. The decision rests on a
clock, so a run makes it once: it is an artifact of the run folder, and a run that goes on finds it there.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from trivium.config import StudyConfig
from trivium.core import JSON
from trivium.errors import ConfigError
from trivium.store import Artifact, Store
from trivium.study.arms import resolve
from trivium.study.progress import Reporter
from trivium.training.recipes import make_stage

_FEWEST = 3  # seeds, if it can be
_LEAST = 0.1  # of the lengths in the file
_HALVINGS = 7  # of what is not known of the share
_FILE = "budget.json"


@dataclass(frozen=True)
class Decision:
    """What fits a budget.

    Attributes:
        budget: As the study file says it.
        seconds: What the study is planned to take so.
        seconds_low: The lower end of that.
        seconds_high: The upper end, which fits.
        seeds: The seeds.
        asked: How many seeds the file asks for, or adds at most.
        share: Which part of every stage's updates or epochs is left.
    """

    budget: str
    seconds: float
    seconds_low: float
    seconds_high: float
    seeds: tuple[int, ...]
    asked: int
    share: float

    def told(self) -> str:
        """The decision in a sentence or two.

        >>> print(Decision("30m", 1500.0, 1200.0, 1750.0, (0, 1, 2), 5, 0.5).told())
        budget 30m: 3 of 5 seeds, and every stage at 50 % of its length.
        """
        seeds = f"{len(self.seeds)} of {self.asked} seeds" if len(self.seeds) < self.asked else "all seeds"
        length = "its whole length" if self.share == 1 else f"{100 * self.share:.3g} % of its length"
        few = " Fewer than three seeds say little." if len(self.seeds) < min(_FEWEST, self.asked) else ""
        return f"budget {self.budget}: {seeds}, and every stage at {length}.{few}"

    def apply(self, config: StudyConfig) -> StudyConfig:
        """The study as it fits, with lengths and seeds written out and no budget any more.

        One that adds seeds begins with as many as before, and adds none beyond those that fit.
        """
        adaptive, first = config.adaptive_config, len(config.seed_list)
        adds = adaptive is not None and len(self.seeds) > first
        more = adaptive.model_copy(update={"most": len(self.seeds)}) if adaptive is not None and adds else False
        kept = shortened(config, list(self.seeds[:first] if adds else self.seeds), self.share)
        return kept.model_copy(update={"budget": None, "adaptive": more})


def shortened(config: StudyConfig, seeds: list[int], share: float) -> StudyConfig:
    """A study with some seeds, and a part of every stage; a stage makes one update at least.

    >>> arms = {"a": {"stages": [{"preset": "finetune", "epochs": 20}]}}
    >>> study = StudyConfig(name="s", task={"path": "t"}, arms=arms)
    >>> shortened(study, [0, 1], 0.5).arms["a"].stages
    [{'preset': 'finetune', 'epochs': 10.0}]
    """
    arms = {}
    for name, arm in resolve(config).items():
        options = []
        for i, given in enumerate(config.arms[name].stages):
            stage = make_stage(given, arm.spec, f"arms.{name}.stages.{i}")
            if share == 1:
                options.append(given)
            elif stage.updates is not None:
                options.append({**given, "updates": max(1, round(share * stage.updates))})
            else:
                assert stage.epochs is not None
                options.append({**given, "epochs": share * stage.epochs})
        arms[name] = config.arms[name].model_copy(update={"stages": options})
    return config.model_copy(update={"arms": arms, "seeds": seeds})


def decide(config: StudyConfig, planned: Callable[[StudyConfig], tuple[float, float, float]]) -> Decision:
    """What fits the study's budget.

    Args:
        config: The study, with a budget.
        planned: What a study takes, in seconds: expected, and both ends; each is more with more seeds and updates.

    Raises:
        ConfigError: nothing fits; it says what would.
    """
    limit, seeds = config.budget_seconds, config.most_seeds
    assert limit is not None

    def taking(many: int, share: float) -> Decision:
        seconds = planned(shortened(config, seeds[:many], share))
        return Decision(config.budget or "", *seconds, tuple(seeds[:many]), len(seeds), share)

    for many, share in _wishes(len(seeds)):
        found = taking(many, share)
        if found.seconds_high > limit:
            continue
        return found if share == 1 else _longest(taking, found, limit)
    raise ConfigError(
        f"budget: expected time for one seed and a tenth of every stage, about {_rounded(found.seconds_high)}, found "
        f"{config.budget}. Give budget: {_rounded(found.seconds_high)} or more, fewer arms, shorter stages, or choices "
        "that train less."
    )


def _wishes(seeds: int) -> Iterator[tuple[int, float]]:
    """What is tried, in order: how many seeds, and the least part of every stage."""
    enough = min(_FEWEST, seeds)
    yield from ((many, 1.0) for many in range(seeds, enough - 1, -1))
    yield from ((many, _LEAST) for many in range(enough, 0, -1))


def _longest(taking: Callable[[int, float], Decision], found: Decision, limit: float) -> Decision:
    """With as many seeds, the largest part of every stage that fits, to a hundredth or so."""
    low, high = found.share, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        tried = taking(len(found.seeds), middle)
        if tried.seconds_high <= limit:
            low, found = middle, tried
        else:
            high = middle
    return found


def _rounded(seconds: float) -> str:
    """A duration as the study file has it, rounded up.

    >>> _rounded(61.0), _rounded(5.2)
    ('2m', '6s')
    """
    return f"{int(seconds) + 1}s" if seconds < 60 else f"{int(seconds / 60) + 1}m"


def within_budget(config: StudyConfig, store: Store, reporter: Reporter) -> tuple[Decision, Artifact] | None:
    """What fits a study's budget, as it was decided before or is decided now; none where it has no budget.

    Args:
        config: The study.
        store: Its run folder, where the decision is kept, by all that the study file says but where work is done.
        reporter: Who is told.

    Raises:
        ConfigError: nothing fits.
    """
    if config.budget is None:
        return None

    def write(folder: Path) -> None:
        from trivium.study.plan import Planner

        planner = Planner.of(config, reporter)
        with reporter.phase("timing a few steps, to fit the budget"):
            found = decide(config, planner.takes)
        (folder / _FILE).write_text(json.dumps(asdict(found)), encoding="utf-8")

    inputs: JSON = config.model_dump(mode="json", exclude={"engine"})
    made = store.make("budget", inputs, write)
    about = json.loads((made.folder / _FILE).read_text(encoding="utf-8"))
    return Decision(**{**about, "seeds": tuple(about["seeds"])}), made
