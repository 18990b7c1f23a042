"""What the arms of a study learn beside the task: chosen once for all that choose alike, and kept as artifacts."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import trivium
from trivium import seeds
from trivium.auxiliary import SELECTORS, Choice, Trial
from trivium.auxiliary.bank import Ground
from trivium.auxiliary.choose import choose_auxiliary
from trivium.auxiliary.saved import load_choice, save_choice
from trivium.core import JSON, Floats, Ints, Task, digest
from trivium.errors import while_doing
from trivium.kinds import kind_of
from trivium.store import Artifact, Store
from trivium.study.arms import Arm, spelled
from trivium.study.progress import Reporter
from trivium.study.statistics import bootstrap

ABOUT = "beside.json"
_BINS = 24


@dataclass(frozen=True)
class Candidates:
    """What a study's arms choose from, and with what.

    Attributes:
        task: The task with its held-out splits, whose texts alone are looked at.
        tasks: The tasks that may be learned beside it.
        workers: Trainings side by side.
    """

    task: Task
    tasks: tuple[Task, ...]
    workers: int

    def chosen(self, store: Store, arm: Arm, origin: JSON, seed: int, reporter: Reporter) -> Artifact | None:
        """What an arm learns beside the task, chosen or found chosen; none where no stage of it learns any other.

        Trainings on the way are artifacts too, so that arms share them and a killed study goes on.

        Args:
            store: Where they are kept.
            arm: Which arm.
            origin: What the weights of its encoder depend on, as JSON.
            seed: Which seed.
            reporter: Who is told how it goes.

        Raises:
            TrainingError: a training that the choice rests on diverged.
        """
        if arm.auxiliary is None:
            return None
        selector = arm.auxiliary
        own = seed if getattr(selector, "seeded", False) else 0
        inputs = {
            "trivium": trivium.__version__,
            "origin": origin,
            "selector": spelled(selector, SELECTORS),
            "task": self.task.sealed().fingerprint,
            "held_out": digest(self.task.texts("test")) if "test" in self.task.tables else None,
            "candidates": [task.fingerprint for task in self.tasks],
            "seed": own,
        }

        def write(folder: Path) -> None:
            with reporter.phase(f"choosing what {arm.name} learns beside") as bar:
                ground = Ground(arm.spec, origin, store, workers=self.workers, watch=_told(bar))
                with while_doing(
                    "choosing what to learn beside (its trainings have a rate of their own, auxiliary.lr)"
                ):
                    choice = choose_auxiliary(self.task, self.tasks, selector, ground, seed=own)
            save_choice(choice, folder)
            about = describe(choice, spelled(selector, SELECTORS), self.task)
            (folder / ABOUT).write_text(json.dumps(about, ensure_ascii=False), encoding="utf-8")

        return store.make("auxiliary", inputs, write)


def _told(bar: Callable[[int, int], None]) -> Callable[[str, int, int], None]:
    return lambda _what, done, total: bar(done, total)


def rows_beside(chosen: Artifact | None) -> dict[str, int]:
    """Training rows of the tasks that were chosen, by name."""
    return {} if chosen is None else {task.name: len(task.rows("train")) for task in load_choice(chosen.folder)}


def effects(choice: Choice, task: Task) -> list[dict[str, JSON]]:
    """What each candidate did to the task where trials tell: with it and without it, all else the same.

    Rows that were kept back from training judge; interval and smallest detectable difference are those of the verdict,
    over seeds and rows. Several comparisons are made, and none is corrected for the others: this is a warning, not a
    verdict.

    Args:
        choice: What was chosen, and the trials that were made for it.
        task: The task.

    Returns:
        For each candidate that was added to or left out of something tried: ``name``; ``beside``, the others that were
        there both times; ``delta``, ``low``, ``high`` in the task's metric; and ``says``: ``helps``, ``hurts``, or
        ``no evidence``.
    """
    metric = kind_of(task).metrics[task.metric]
    found = []
    for name, without, with_it in _steps(choice.trials):
        effect = bootstrap(with_it.counts, without.counts, metric, seeds.numpy_rng(0, "beside", name))
        says = "helps" if effect.low > 0 else "hurts" if effect.high < 0 else "no evidence"
        ends = {"delta": effect.delta, "low": effect.low, "high": effect.high, "says": says}
        found.append({"name": name, "beside": sorted(without.rows), **ends})
    return found


def _steps(trials: Sequence[Trial]) -> list[tuple[str, Trial, Trial]]:
    """Pairs of trials that differ in one candidate: its name, without it and with it."""
    by_rows = {tuple(sorted(trial.rows.items())): trial for trial in trials}
    found = []
    for rows, trial in by_rows.items():
        for i, (name, _) in enumerate(rows):
            without = by_rows.get(rows[:i] + rows[i + 1 :])
            if without is not None:
                found.append((name, without, trial))
    return found


def told(chosen: Artifact) -> dict[str, JSON]:
    """What ``describe`` says of a choice that was put aside."""
    about: dict[str, JSON] = json.loads((chosen.folder / ABOUT).read_text(encoding="utf-8"))
    return {"folder": str(chosen.folder), **about}


def describe(choice: Choice, selector: JSON, task: Task) -> dict[str, JSON]:
    """A choice as the report, the terminal and ``--json`` tell of it.

    Args:
        choice: What was chosen.
        selector: How, as the study file writes it.
        task: The task.

    Returns:
        ``ratings``, best first; ``trials``; ``effects``, of each candidate that was tried with and without; ``rows``,
        how the scores of each chosen task's rows are spread and how many of them were kept; ``importance``,
        ``affinity`` and ``stability`` where heads were measured; ``cost``.
    """
    taken = {one.name: len(one.rows("train")) for one in choice}
    return {
        "selector": selector,
        "task": task.name,
        "metric": task.metric,
        "ratings": [
            {
                "name": rating.name,
                "score": None if np.isnan(rating.score) else rating.score,
                **({} if np.isnan(rating.low) else {"low": rating.low, "high": rating.high}),
                "rows": choice.how["candidates"][rating.name],
                "left_out": choice.how["left_out"][rating.name],
                "chosen": taken.get(rating.name, 0),
            }
            for rating in choice.ratings
        ],
        "trials": [_told_trial(trial) for trial in choice.trials],
        "effects": effects(choice, task),
        "rows": {name: _spread(scores, choice.rows[name]) for name, scores in choice.row_scores.items()},
        "importance": choice.how.get("importance"),
        "affinity": choice.how.get("affinity"),
        "stability": choice.how.get("stability"),
        "cost": {name: choice.how[name] for name in ("trainings", "seconds", "seeds", "kept_back")},
    }


def _spread(scores: Floats, kept: Ints) -> dict[str, JSON]:
    """A histogram of row scores, and of those of the rows that were kept."""
    edges = np.histogram_bin_edges(scores, _BINS)
    both = (np.histogram(part, edges)[0].tolist() for part in (scores, scores[kept]))
    return dict(zip(("edges", "all", "kept"), (edges.tolist(), *both), strict=True))


def _told_trial(trial: Trial) -> Mapping[str, Any]:
    return {
        "rows": dict(trial.rows),
        "values": trial.values,
        "mean": trial.value,
        "loss": float(np.mean(trial.losses)),
        "updates": trial.updates,
    }
