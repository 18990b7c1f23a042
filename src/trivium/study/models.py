"""Trained models as anybody expects them: a folder for each arm and seed, with plain files and a card of its own.

The weights belong to an artifact, which several arms and later studies in the same run folder may share; a card belongs
to one arm, one seed and one verdict. So a model's folder is a real one: its files are hard links to those of the
artifact (copies, where the file system knows none), which take no room, and its card lies beside them.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from trivium.store import atomic_folder, atomic_write, link, mark_done
from trivium.study.card import CARD, card
from trivium.study.report_run import read_run


def model_folder(run_folder: Path, arm: str, seed: int) -> Path:
    """Where the model of an arm and a seed lies."""
    return run_folder / "models" / arm / f"seed-{seed}"


def publish(run_folder: Path, models: Mapping[tuple[str, int], Path]) -> None:
    """Put every trained model under ``models/<arm>/seed-<n>``, with its card.

    A folder whose weights are still the same keeps whatever somebody put there, and gets the card of this verdict;
    one whose weights have changed is made anew.

    Args:
        run_folder: A finished run: what the cards say is read from it.
        models: By arm and seed, the folder of the model in its artifact.

    Raises:
        ArtifactError: the run folder has no readable verdict.
    """
    run = read_run(run_folder)
    for (arm, seed), source in models.items():
        place = model_folder(run_folder, arm, seed)
        text = card(run, arm, seed, json.loads((source / "config.json").read_text(encoding="utf-8")))
        if _same(source, place):
            atomic_write(place / CARD, text)
            continue
        place.unlink() if place.is_symlink() else place.parent.mkdir(parents=True, exist_ok=True)
        with atomic_folder(place) as scratch:
            for file in _files(source):
                link(file, scratch / file.name)
            mark_done(scratch, [file.name for file in _files(source)])
            (scratch / CARD).write_text(text, encoding="utf-8")


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.name != CARD)


def _same(source: Path, place: Path) -> bool:
    """Whether a folder has all of a model's files, as they are now."""
    if place.is_symlink():
        return False
    return all((place / f.name).exists() and (place / f.name).samefile(f) for f in _files(source))
