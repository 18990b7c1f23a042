"""Choices put aside: what was chosen, what it was chosen by, and the rows that are to be learned."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from trivium.auxiliary.protocol import Choice, Rating, Trial
from trivium.core import JSON, Floats
from trivium.data.saved import load_saved_task, save_task
from trivium.errors import ArtifactError

_ABOUT = "choice.json"


def save_choice(choice: Choice, folder: Path) -> None:
    """Write ``choice.json``, ``arrays.npz`` and a folder of rows for each chosen task."""
    arrays: dict[str, Any] = {}
    for i, name in enumerate(choice.rows):
        arrays[f"rows-{i}"], arrays[f"scores-{i}"] = choice.rows[name], choice.row_scores[name]
    arrays |= {f"counts-{i}": trial.counts for i, trial in enumerate(choice.trials)}
    np.savez(folder / "arrays.npz", **arrays)
    trials = [{key: value for key, value in vars(trial).items() if key != "counts"} for trial in choice.trials]
    about = {
        "names": choice.names,
        "ratings": [_finite(asdict(rating)) for rating in choice.ratings],
        "row_names": list(choice.rows),
        "trials": trials,
        "how": choice.how,
    }
    (folder / _ABOUT).write_text(json.dumps(about, indent=1, ensure_ascii=False), encoding="utf-8")
    for i, task in enumerate(choice.tasks):
        place = folder / f"task-{i}"
        place.mkdir()
        save_task(task, place)


def load_choice(folder: Path) -> Choice:
    """Read what ``save_choice`` wrote.

    Raises:
        ArtifactError: the folder does not hold a whole choice.
    """
    try:
        about = json.loads((folder / _ABOUT).read_text(encoding="utf-8"))
        arrays = np.load(folder / "arrays.npz", allow_pickle=False)
        tasks = tuple(load_saved_task(folder / f"task-{i}") for i in range(len(about["names"])))
        rows = {name: arrays[f"rows-{i}"] for i, name in enumerate(about["row_names"])}
        scores = {name: arrays[f"scores-{i}"] for i, name in enumerate(about["row_names"])}
        trials = tuple(_trial(told, arrays[f"counts-{i}"]) for i, told in enumerate(about["trials"]))
    except (OSError, ValueError, KeyError) as error:
        raise ArtifactError(
            f"{folder}: expected a choice of auxiliary tasks ({_ABOUT}, arrays.npz and task-0, task-1, …), found "
            f"{error}. Delete the folder and run again: it is made anew."
        ) from error
    return Choice(tasks, tuple(_rating(told) for told in about["ratings"]), rows, scores, trials, about["how"])


def chosen_folders(folder: Path) -> list[Path]:
    """Where the rows of each chosen task lie."""
    many = len(json.loads((folder / _ABOUT).read_text(encoding="utf-8"))["names"])
    return [folder / f"task-{i}" for i in range(many)]


def _finite(rating: Mapping[str, JSON]) -> JSON:
    """JSON knows no nan."""
    return {key: None if isinstance(value, float) and math.isnan(value) else value for key, value in rating.items()}


def _rating(told: dict[str, Any]) -> Rating:
    known: dict[str, Any] = {key: math.nan if value is None else value for key, value in told.items()}
    return Rating(**known)


def _trial(told: dict[str, Any], counts: Floats) -> Trial:
    more: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in told.items()}
    return Trial(**more, counts=counts)
