"""What a choice rests on: rows kept back, trainings that are done once, trials, and what is put aside."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import make_task
from trivium.auxiliary import (
    SELECTORS,
    AllTasks,
    Choice,
    GradTS,
    NoTasks,
    Pairwise,
    RandomTasks,
    Rating,
    Trial,
    select_auxiliary,
)
from trivium.auxiliary import jobs as work
from trivium.auxiliary.bank import keep_back
from trivium.auxiliary.choose import _stable, screen
from trivium.auxiliary.choosers import Chooser, RowChooser, prefixes
from trivium.auxiliary.protocol import Beside
from trivium.auxiliary.saved import load_choice, save_choice
from trivium.core import Floats, Task
from trivium.errors import ArtifactError, ConfigError, DataError
from trivium.study.beside_text import agreement


def others(*names: str, rows: int = 24) -> list[Task]:
    return [replace(make_task(rows, seed=7 + i), name=name) for i, name in enumerate(names)]


QUICK: dict[str, Any] = {"seeds": 2, "epochs": 1, "trial_epochs": 1, "max_length": 32}


@dataclass
class Formula:
    """A bank whose trials come out as a formula says, and which remembers what was tried."""

    worth: Mapping[str, float]
    task: Task = field(default_factory=lambda: keep_back(make_task(30), 0.2, 100, 0))
    seed: int = 0
    seeds: tuple[int, ...] = (0,)
    tried: list[tuple[str, ...]] = field(default_factory=list)

    @property
    def candidates(self) -> tuple[Task, ...]:
        return tuple(others(*self.worth, rows=10))

    def trials(self, sets: Sequence[Beside]) -> list[Trial]:
        found = []
        for beside in sets:
            self.tried.append(tuple(beside))
            rows = {name: 10 if kept is None else len(kept) for name, kept in beside.items()}
            value = sum(self.worth[name] * rows[name] / 10 for name in beside)
            found.append(Trial(rows, (value,), (-value,), 0.0, 1, np.zeros((1, 1, 1))))
        return found


@dataclass(frozen=True)
class ByList(Chooser):
    """Ranks candidates in the order in which they stand."""

    def rank(self, bank: Any) -> list[Rating]:
        return [Rating(task.name, -float(i)) for i, task in enumerate(bank.candidates)]


@dataclass(frozen=True)
class ByRow(RowChooser):
    """The same, and rows by their number: the last is best."""

    def rank(self, bank: Any) -> list[Rating]:
        return [Rating(task.name, -float(i)) for i, task in enumerate(bank.candidates)]

    def rate_rows(self, bank: Any, candidate: Task) -> Floats:
        return np.arange(len(candidate.rows("train")), dtype=np.float64)


# -- from ratings to a choice -----------------------------------------------------------------------------------------


def test_trials_stop_when_patience_is_at_its_end_and_the_best_prefix_is_taken() -> None:
    bank = Formula({"a": 0.1, "b": 0.2, "c": -0.1, "d": 0.5})
    choice = ByList().choose(bank)
    assert choice.names == ("a", "b")
    assert bank.tried == [(), ("a",), ("a", "b"), ("a", "b", "c")]
    assert ByList(patience=2).choose(bank).names == ("a", "b", "c", "d"), "one more trial finds what is worth most"
    assert ByList(patience=None).choose(bank).names == ("a", "b", "c", "d")


def test_the_task_alone_is_a_legal_answer() -> None:
    bank = Formula({"a": -0.1, "b": 0.5})
    assert ByList().choose(bank).names == ()
    assert bank.tried == [(), ("a",)]


def test_of_equal_prefixes_the_shortest_is_taken() -> None:
    assert ByList(patience=3).choose(Formula({"a": 0.0, "b": 0.3, "c": 0.0})).names == ("a", "b")


@pytest.mark.parametrize(("patience", "tried"), [(1, 3), (2, 4), (None, 4)])
def test_prefixes(patience: int | None, tried: int) -> None:
    assert len(prefixes(Formula({"a": 1.0, "b": -1.0, "c": 1.0}), ["a", "b", "c"], patience)) == tried


def test_thresholds_and_the_best_few() -> None:
    bank = Formula({"a": 0.0, "b": 0.0, "c": 0.0})
    assert ByList(decide="threshold", threshold=-1.0).choose(bank).names == ("a", "b")
    assert ByList(decide="threshold", threshold=1.0).choose(bank).names == ()
    assert ByList(decide="top", top=1).choose(bank).names == ("a",)
    assert bank.tried == []


def test_rows_are_kept_by_share_or_threshold_and_controls_keep_as_many() -> None:
    bank = Formula({"a": 1.0})
    top = {"decide": "top", "top": 1}

    def rows(**changes: Any) -> list[int]:
        return list(ByRow(**{**top, **changes}).choose(bank).rows["a"].tolist())

    assert rows(keep=0.3) == [7, 8, 9]
    assert rows(keep=0.3, which="lowest") == [0, 1, 2]
    assert rows(keep=None, row_threshold=8.0) == [8, 9]
    drawn = rows(keep=0.3, which="random")
    assert len(drawn) == 3
    assert drawn == sorted(drawn) == rows(keep=0.3, which="random")
    choice = ByRow(**top, keep=0.3).choose(bank)
    assert choice[0].rows("train") == bank.candidates[0].rows("train").slice(7)


def test_no_row_above_the_threshold_takes_the_task_off_the_list() -> None:
    choice = ByRow(decide="top", top=1, keep=None, row_threshold=99.0).choose(Formula({"a": 1.0}))
    assert choice.names == ()
    assert len(choice.rows["a"]) == 0


def test_of_several_shares_the_best_is_tried_for() -> None:
    choice = ByRow(decide="top", top=1, keep=(0.2, 0.7, 0.4)).choose(Formula({"a": 1.0}))
    assert len(choice.rows["a"]) == 7
    assert len(choice.trials) == 3


@pytest.mark.parametrize("wrong", [{"top": 0}, {"seeds": 0}, {"kept": 1.0}, {"keep": 0.0}, {"keep": ()}, {"rows": 0}])
def test_keys_that_cannot_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        ByRow(**wrong)


# -- what is known of a task ------------------------------------------------------------------------------------------


def test_rows_about_the_same_text_are_kept_back_together() -> None:
    task = make_task(40)
    rows = task.rows("train")
    twice = replace(task, tables={"train": rows.take(list(range(40)) * 2)})
    parted = keep_back(twice, 0.25, 1000, 0)
    learn, judge = (set(parted.rows(split)["text"].to_pylist()) for split in ("train", "dev"))
    assert not learn & judge
    assert len(learn | judge) == len(set(rows["text"].to_pylist()))
    assert len(parted.rows("train")) + len(parted.rows("dev")) == 80
    few = keep_back(twice, 0.25, 5, 0)
    learn, judge = (set(few.rows(split)["text"].to_pylist()) for split in ("train", "dev"))
    assert len(few.rows("dev")) == 4, "two texts of two rows: a third would be too many"
    assert not learn & judge


def test_too_few_texts_to_keep_any_back() -> None:
    with pytest.raises(DataError, match="expected enough training texts to keep 20% back"):
        keep_back(make_task(2), 0.2, 10, 0)


def test_candidates_lose_rows_that_give_a_held_out_text_away() -> None:
    task = make_task(30)
    stolen = task.rows("test").slice(0, 3).select(["text", "label", "file", "row"])
    other = replace(make_task(20, seed=9), name="other")
    import pyarrow as pa

    leaky = replace(other, tables={"train": pa.concat_tables([other.rows("train"), stolen])})
    clean, left_out = screen(task, leaky)
    assert left_out == 3
    assert clean.rows("train") == other.rows("train")
    with pytest.raises(DataError, match="auxiliary task 'other': expected training rows that do not give"):
        screen(task, replace(other, tables={"train": stolen}))


def test_names_are_demanded(pretrained: str) -> None:
    task = make_task(30)
    with pytest.raises(ConfigError, match="found 'topics' twice"):
        select_auxiliary(task, [make_task(20)], AllTasks(), encoder=pretrained)
    with pytest.raises(ConfigError, match="expected some to choose from, found none"):
        select_auxiliary(task, [], AllTasks(), encoder=pretrained)


# -- trainings --------------------------------------------------------------------------------------------------------


def test_trials_are_judged_by_kept_rows_alone_and_never_made_twice(
    pretrained: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, candidates = make_task(40), others("a", "b")
    first = select_auxiliary(task, candidates, Pairwise(**QUICK), encoder=pretrained, folder=tmp_path, workers=1)
    assert [sorted(trial.rows) for trial in first.trials] == [[], ["a"], ["b"]]
    assert first.how["trainings"] == 6, "alone, beside a, beside b; two seeds each"
    trained = []
    monkeypatch.setattr(work, "run_stage", lambda *args, **more: trained.append(args))
    again = select_auxiliary(task, candidates, Pairwise(**QUICK), encoder=pretrained, folder=tmp_path, workers=1)
    assert not trained
    assert again.ratings == first.ratings
    seen = {len(load["counts"]) for load in map(np.load, tmp_path.glob("artifacts/trial-*/rows.npz"))}
    assert seen == {first.how["kept_back"]}


def test_how_trainings_are_made_is_up_to_the_user(pretrained: str, tmp_path: Path) -> None:
    selector = Pairwise(**QUICK, lr=3e-3, batch_rows=8, freeze=1)
    choice = select_auxiliary(make_task(40), others("a"), selector, encoder=pretrained, folder=tmp_path, workers=1)
    assert [trial.updates for trial in choice.trials] == [4, 7], "32 rows, then 24 others beside them, 8 at a time"
    usual = select_auxiliary(make_task(40), others("a"), Pairwise(**QUICK), encoder=pretrained, folder=tmp_path)
    assert [trial.updates for trial in usual.trials] == [1, 2]
    assert usual.trials[0].losses != choice.trials[0].losses


@pytest.mark.slow
def test_two_workers_find_what_one_finds(pretrained: str, tmp_path: Path) -> None:
    task, candidates = make_task(40), others("a")
    found = [
        select_auxiliary(
            task, candidates, Pairwise(**QUICK), encoder=pretrained, folder=tmp_path / str(workers), workers=workers
        )
        for workers in (1, 2)
    ]
    assert found[0].ratings == found[1].ratings


@pytest.mark.ray
@pytest.mark.enable_socket
@pytest.mark.filterwarnings("default")
def test_trials_on_a_cluster_are_those_made_here(pretrained: str, tmp_path: Path) -> None:
    from trivium import engine

    def ask(folder: str) -> Choice:
        task, candidates = make_task(40), others("a")
        return select_auxiliary(task, candidates, Pairwise(**QUICK), encoder=pretrained, folder=tmp_path / folder)

    here = ask("here")
    with engine.using(engine.Ray(None)):
        assert ask("there").ratings == here.ratings


@pytest.mark.parametrize("damaged", [False, True])
def test_a_measurement_that_was_killed_goes_on_and_trains_nothing_again_but_what_was_damaged(
    damaged: bool, pretrained: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def ask(folder: Path) -> Choice:
        one = GradTS(decide="top", **{**QUICK, "seeds": 1})
        return select_auxiliary(make_task(40), others("a"), one, encoder=pretrained, folder=folder, workers=1)

    undisturbed = ask(tmp_path / "whole")

    def killed(*_args: Any, **_more: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(work, "measure", killed)
        with pytest.raises(KeyboardInterrupt):
            ask(tmp_path / "cut")
    if damaged:
        (victim,) = tmp_path.glob("cut/artifacts/.partial-importance-*/learned/*/mlm/model-00001-of-00002.safetensors")
        content = bytearray(victim.read_bytes())
        content[-1] ^= 1
        victim.write_bytes(content)
    trained: list[str] = []
    real = work.run_stage

    def watched(encoder: Any, stage: Any, task: Task, **more: Any) -> Any:
        trained.append(task.name)
        return real(encoder, stage, task, **more)

    monkeypatch.setattr(work, "run_stage", watched)
    assert ask(tmp_path / "cut").ratings == undisturbed.ratings
    assert trained == (["topics"] if damaged else []) + ["a"], "the task itself had been learned"
    assert ("is damaged and is passed over" in caplog.text) == damaged
    assert not list(tmp_path.glob("cut/artifacts/.partial-*"))


def test_more_candidates_leave_trials_as_they_are(pretrained: str, tmp_path: Path) -> None:
    task, (a, b) = make_task(40), others("a", "b")
    few = select_auxiliary(task, [a], Pairwise(**QUICK), encoder=pretrained, folder=tmp_path, workers=1)
    before = {path.name for path in tmp_path.glob("artifacts/trial-*")}
    more = select_auxiliary(task, [a, b], Pairwise(**QUICK), encoder=pretrained, folder=tmp_path, workers=1)
    new = {path.name for path in tmp_path.glob("artifacts/trial-*")} - before
    assert len(new) == 2, "those beside b, for two seeds"
    assert {r.name: r.score for r in more.ratings}["a"] == few.ratings[0].score


def test_an_encoder_from_scratch_knows_the_language_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from trivium.training.models import StudyModels

    monkeypatch.setattr(work, "StudyModels", partial(StudyModels, updates=3))
    task = make_task(40)
    choice = select_auxiliary(
        task, others("a"), Pairwise(**{**QUICK, "seeds": 1}), encoder="tiny", folder=tmp_path, workers=1
    )
    assert len(list(tmp_path.glob("artifacts/language-*"))) == 1
    assert choice.how["trainings"] == 3, "the language, alone, beside a"


def test_how_much_seeds_agree_on_a_ranking() -> None:
    """Two seeds that order three candidates alike, then oppositely."""
    up, down = np.arange(6.0).reshape(2, 3), np.arange(6.0)[::-1].reshape(2, 3)
    half = np.array([[0.0, 1, 2], [5, 4, 3]])
    bank = Formula({"a": 0.0, "b": 0.0, "c": 0.0})
    alike = {"topics": [up, up], "a": [up, up], "b": [half, half], "c": [down, down]}
    opposed = {**alike, "a": [up, down], "c": [down, up]}
    told = []
    for measured in (alike, opposed):
        vars(bank)["measured"] = {name: np.stack(each) for name, each in measured.items()}
        told.append(_stable(bank))  # type: ignore[arg-type]
    assert told[0] == {"tau": 1.0, "overlap": {"1": 1.0, "2": 1.0}}
    assert told[1]["tau"] == -1.0
    assert told[1]["overlap"]["1"] == 0.0
    assert agreement(told[0]) == "Rankings of two seeds agree with a tau of 1, the best is the same in 100 % of pairs."
    assert agreement(None) == ""


# -- controls, and what is put aside ----------------------------------------------------------------------------------


def test_controls(pretrained: str, tmp_path: Path) -> None:
    task, (small, large) = make_task(40), [*others("small", rows=10), *others("large", rows=30)]

    def chosen(selector: Any, seed: int = 0) -> tuple[str, ...]:
        return select_auxiliary(task, [small, large], selector, encoder=pretrained, folder=tmp_path, seed=seed).names

    assert chosen(AllTasks()) == ("small", "large")
    assert chosen(NoTasks()) == ()
    assert chosen(SELECTORS["size"](top=1)) == ("large",)
    drawn = [chosen(RandomTasks(top=1), seed) for seed in range(8)]
    assert set(drawn) == {("small",), ("large",)}
    assert drawn == [chosen(RandomTasks(top=1), seed) for seed in range(8)]


def test_a_choice_comes_back_as_it_was(tmp_path: Path) -> None:
    bank = Formula({"a": 0.3, "b": 0.1})
    choice = ByRow(keep=(0.3, 0.5)).choose(bank)
    save_choice(replace(choice, how={"seconds": 1.5}), tmp_path)
    again = load_choice(tmp_path)
    assert again.names == choice.names
    assert [task.fingerprint for task in again] == [task.fingerprint for task in choice]
    assert repr(again.ratings) == repr(choice.ratings)
    assert [trial.rows for trial in again.trials] == [trial.rows for trial in choice.trials]
    assert again.rows["a"].tolist() == choice.rows["a"].tolist()
    assert again.how == {"seconds": 1.5}
    told = json.loads((tmp_path / "choice.json").read_text())
    assert told["ratings"][0]["low"] is None
    (tmp_path / "arrays.npz").unlink()
    with pytest.raises(ArtifactError, match="expected a choice of auxiliary tasks"):
        load_choice(tmp_path)


def test_a_choice_is_a_sequence_of_tasks() -> None:
    tasks = tuple(others("a", "b"))
    choice = Choice(tasks, ())
    assert (len(choice), choice[0], list(choice), choice[1:]) == (2, tasks[0], list(tasks), tasks[1:])
