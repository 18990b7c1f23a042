"""Candidates in, a choice out: screened, ranked, decided, and written down."""

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

import trivium
from trivium import seeds
from trivium.auxiliary.affinity import kendall, stability
from trivium.auxiliary.bank import Ground, StoredBank, keep_back
from trivium.auxiliary.jobs import TRAININGS
from trivium.auxiliary.protocol import AuxiliarySelector, Choice, Effort
from trivium.core import JSON, Task
from trivium.documents.screens import Screening, Screens
from trivium.errors import ConfigError, DataError


def choose_auxiliary(
    task: Task, candidates: Sequence[Task], selector: AuxiliarySelector, ground: Ground, *, seed: int = 0
) -> Choice:
    """Choose what to learn beside a task.

    Args:
        task: The task. Of its dev and test splits only the texts are looked at, so that no candidate gives one away.
        candidates: Tasks that could be learned beside it; only their training rows are looked at.
        selector: How to choose.
        ground: What trainings begin from.
        seed: Of all chance.

    Returns:
        The choice; ``how`` has what was left out, the trainings it took, and their seconds.

    Raises:
        ConfigError: there are no candidates, two have the same name, or a key of the selector does not suit them.
        DataError: the task has too few training texts.
    """
    _demand_names(task, candidates)
    screened, left_out = zip(*(screen(task, one) for one in candidates), strict=True)
    begun = time.monotonic()
    own = selector if isinstance(selector, Effort) else Effort()
    bank = StoredBank(
        keep_back(task, own.kept, own.kept_rows, seed),
        tuple(screened),
        seed,
        tuple(seeds.child(seed, "auxiliary", i) for i in range(own.seeds)),
        own,
        ground,
    )
    choice = selector.choose(bank)
    trained = {one.key: one for one in bank.made}
    how = {
        "trivium": trivium.__version__,
        "task": task.sealed().fingerprint,
        "candidates": {one.name: len(one.rows("train")) for one in screened},
        "left_out": {one.name: many for one, many in zip(candidates, left_out, strict=True)},
        "seeds": own.seeds,
        "kept_back": len(bank.task.rows("dev")),
        "trainings": sum(one.folder.name.startswith(TRAININGS) for one in trained.values()),
        "seconds": sum(one.seconds for one in trained.values()),
        "seconds_now": time.monotonic() - begun,
    }
    return replace(choice, trials=tuple(bank.tried), how={**choice.how, **how, **_alike(bank)})


def screen(task: Task, candidate: Task) -> tuple[Task, int]:
    """A candidate's training rows but those whose text gives a dev or test text of the task away, and how many do.

    Raises:
        DataError: none is left.
    """
    screening = Screening(task, Screens(duplicates=False, near_duplicates=None))
    texts, rows = candidate.texts("train"), candidate.rows("train")
    fine = list(screening.may_read(np.arange(len(texts)), texts))
    if not any(fine):
        raise DataError(
            f"auxiliary task '{candidate.name}': expected training rows that do not give texts of the dev and test "
            f"splits of '{task.name}' away, found none among {len(texts)}. Take it off the list."
        )
    return replace(candidate, tables={"train": rows.filter(fine)}), fine.count(False)


def _alike(bank: StoredBank) -> dict[str, JSON]:
    """How much each head matters to each task, and how alike tasks are by that, where heads were measured."""
    if not bank.measured:
        return {}
    means = {name: matrices.mean(0) for name, matrices in bank.measured.items()}
    flat = np.stack([matrix.ravel() for matrix in means.values()])
    affinity = np.nan_to_num(kendall(flat, flat))
    return {
        "importance": {name: matrix.round(4).tolist() for name, matrix in means.items()},
        "affinity": {"tasks": list(means), "kendall": affinity.round(4).tolist()},
        "stability": _stable(bank),
    }


def _stable(bank: StoredBank) -> JSON:
    """How much the order of candidates by affinity is the same with every seed; none where there is nothing to say."""
    own = bank.measured.get(bank.task.name)
    others = [bank.measured[task.name] for task in bank.candidates if task.name in bank.measured]
    if own is None or len(own) < 2 or len(others) < 2:
        return None
    scores = [
        [kendall(a.reshape(1, -1), b.reshape(1, -1))[0, 0] for b in each] for a, *each in zip(own, *others, strict=True)
    ]
    found = stability(np.nan_to_num(np.array(scores)))
    return None if np.isnan(found.tau) else {"tau": found.tau, "overlap": {str(k): v for k, v in found.overlap.items()}}


def _demand_names(task: Task, candidates: Sequence[Task]) -> None:
    """Refuse no candidates at all, and names that two tasks have.

    Raises:
        ConfigError: it is so.
    """
    names = [task.name, *(one.name for one in candidates)]
    if not candidates:
        raise ConfigError(
            "auxiliary tasks: expected some to choose from, found none. Name them in the study file under "
            "auxiliary_tasks, or give select_auxiliary a list."
        )
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(
            f"auxiliary tasks: expected different names, found '{twice}' twice among {', '.join(names)}. Give a task "
            "a name of its own: {path: …, name: …}."
        )
