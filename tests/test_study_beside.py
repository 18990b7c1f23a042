"""A study whose arms learn other tasks beside their own: choosing, training, telling, and the warning."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from conftest import make_task, tiny_study, write_files
from trivium import cli
from trivium.auxiliary import Choice, Trial
from trivium.config import load_config, parse_config
from trivium.core import Stage
from trivium.errors import ConfigError
from trivium.study.arms import questions, resolve, settled
from trivium.study.beside import effects
from trivium.study.runner import choose_tasks, run
from trivium.training.turns import planned_updates

QUICK = {"seeds": 1, "epochs": 1, "trial_epochs": 1, "max_length": 32}
MULTITASK = {"preset": "multitask", "updates": 6, "batch_rows": 8, "max_length": 32, "patience": None}
TUNE = {"preset": "finetune", "updates": 4, "batch_rows": 8, "max_length": 32, "patience": None}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> Path:
    """The usual files, and two tasks that may be learned beside."""
    folder = tmp_path_factory.mktemp("files")
    write_files(folder, make_task(60), texts)
    for i, name in enumerate(("near", "far")):
        write_files(folder / name, make_task(40, dev=3, test=3, seed=20 + i), texts[:3])
    return folder


def study(files: Path, encoder: str, **arms: Any) -> dict[str, Any]:
    made = tiny_study(files)
    made["name"], made["encoder"], made["linear"] = "beside", encoder, False
    made["auxiliary_tasks"] = [{"path": str(files / name / "reviews"), "name": name} for name in ("near", "far")]
    made["arms"] = {"finetune": {"stages": [TUNE]}} | {
        name: {"auxiliary": about, "stages": [MULTITASK, TUNE]} for name, about in arms.items()
    }
    del made["corpus"]
    return made


def test_arms_choose_for_themselves_train_and_are_told_of(files: Path, pretrained: str, tmp_path: Path) -> None:
    made = study(
        files,
        pretrained,
        all={"kind": "all"},
        trial={"kind": "gradts-trial", **QUICK, "seeds": 2},
        rows={"kind": "gradts-fg", "decide": "top", "top": 1, "keep": 0.5, **QUICK},
        alone={"kind": "none"},
    )
    made["arms"]["all"]["stages"][0] |= {"combine": "cosine"}
    config = parse_config(made, "study.yaml")
    found = run(config, runs=tmp_path)
    arms = found.verdict.to_json()["arms"]
    assert set(arms) == {"finetune", "all", "trial", "rows", "alone"}
    assert {arm["updates"] for arm in arms.values()} == {10}, "all spend alike"
    about = json.loads((found.folder / "manifest.json").read_text())["arms"]
    assert about["finetune"]["auxiliary"] == {}
    assert len({*about["rows"]["auxiliary"].values()}) == 1, "both seeds share the choice"
    stages = [json.loads(path.read_text())["inputs"] for path in found.folder.glob("artifacts/stage-*/done.json")]
    mixes = {tuple(one["stage"]["mix"]) for one in stages}
    assert ("task",) in mixes, "the arm that chose none learns the task alone"
    assert ("task", "auxiliary") in mixes
    page, text = found.report.read_text(), (found.folder / "report.md").read_text()
    for word in ("What was learned beside", "gradts-fg", "rows kept", "Rank correlation of head importances"):
        assert word in page
    assert "## What was learned beside" in text
    assert re.search(r"all: gradients conflicted with the task&#39;s for (near|far) in \d+ % of its turns", page)
    made = len(list(found.folder.glob("artifacts/*")))
    again = run(config, runs=tmp_path)
    assert again.verdict.to_json() == found.verdict.to_json()
    assert len(list(found.folder.glob("artifacts/*"))) == made


def test_an_encoder_from_scratch_has_words_of_what_is_learned_beside(files: Path, tmp_path: Path) -> None:
    made = study(files, "tiny", all={"kind": "all"})
    made["encoder"], made["seeds"] = {"scratch": "tiny", "vocabulary": 512}, 1
    found = run(parse_config(made, "study.yaml"), runs=tmp_path)
    assert found.verdict.to_json()["arms"]["all"]["failed"] is None
    readings = [json.loads(p.read_text())["inputs"] for p in found.folder.glob("artifacts/reading-*/done.json")]
    assert sum("auxiliary" in one for one in readings) == 1


def test_the_verb_tells_and_run_finds_it_chosen(
    files: Path, pretrained: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    path = tmp_path / "study.yaml"
    path.write_text(json.dumps(study(files, pretrained, trial={"kind": "gradts", **QUICK})))
    shown = CliRunner().invoke(cli.app, ["auxiliary", str(path), "--runs", str(tmp_path / "runs")])
    assert shown.exit_code == 0, shown.output
    for word in ("trial: gradts-trial", "near", "far", "tried beside", "nothing", "trainings with 1 seed"):
        assert word in shown.output
    told = CliRunner().invoke(cli.app, ["auxiliary", str(path), "--runs", str(tmp_path / "runs"), "--json"])
    about = json.loads(told.stdout)["trial"]
    assert {one["name"] for one in about["ratings"]} == {"near", "far"}
    assert np.asarray(about["importance"]["near"]).shape == (2, 2)
    assert about["cost"]["trainings"] == 3 + len(about["trials"])
    before = {p.name for p in (tmp_path / "runs").glob("beside/artifacts/auxiliary-*")}
    run(load_config(path), runs=tmp_path / "runs")
    assert {p.name for p in (tmp_path / "runs").glob("beside/artifacts/auxiliary-*")} == before


def test_random_tasks_differ_by_seed(files: Path, pretrained: str, tmp_path: Path) -> None:
    made = study(files, pretrained, random={"kind": "random", "top": 1})
    made["seeds"] = 4
    config = parse_config(made, "study.yaml")
    found = choose_tasks(config, runs=tmp_path)
    assert sum(bool(one["chosen"]) for one in found["random"]["ratings"]) == 1
    run(config, runs=tmp_path)
    chosen = [
        json.loads(p.read_text())["names"] for p in (tmp_path / "beside").glob("artifacts/auxiliary-*/choice.json")
    ]
    assert sorted(map(tuple, chosen))[0] != sorted(map(tuple, chosen))[-1]


@pytest.mark.parametrize(
    ("arm", "tasks", "message"),
    [
        (
            {"auxiliary": {"kind": "all"}, "stages": [TUNE]},
            True,
            "it chooses auxiliary tasks, but no stage learns them",
        ),
        ({"stages": [MULTITASK, TUNE]}, False, "stage 'multitask' learns auxiliary tasks, but the study has no"),
        ({"auxiliary": {"kind": "gradt"}, "stages": [MULTITASK, TUNE]}, True, "did you mean 'gradts'"),
        ({"auxiliary": {"kind": "gradts", "tops": 1}, "stages": [MULTITASK, TUNE]}, True, "unknown key 'tops'"),
    ],
)
def test_arms_that_cannot_be(files: Path, pretrained: str, arm: dict[str, Any], tasks: bool, message: str) -> None:
    made = study(files, pretrained)
    made["arms"]["odd"] = arm
    if not tasks:
        del made["auxiliary_tasks"]
    with pytest.raises(ConfigError, match=message):
        resolve(parse_config(made, "study.yaml"))


def test_random_twins_are_asked_about(files: Path, pretrained: str) -> None:
    arms = resolve(
        parse_config(
            study(
                files,
                pretrained,
                trial={"kind": "gradts"},
                random={"kind": "random"},
                rows={"kind": "gradts-fg", "keep": 0.5},
                rows_random={"kind": "gradts-fg", "keep": 0.5, "which": "random"},
                all={"kind": "all"},
            ),
            "study.yaml",
        )
    )
    pairs = questions(arms, "finetune")
    assert ("trial", "random") in pairs
    assert ("rows", "rows_random") in pairs
    assert ("all", "random") not in pairs
    assert ("random", "trial") not in pairs


def test_lengths_count_what_is_learned_beside() -> None:
    stage = Stage("m", {"task": 1, "auxiliary": 1}, epochs=2, batch_rows=10, sampling="proportional")
    assert planned_updates(stage, 30, {}, {"a": 40, "b": 20}) == 2 * (3 + 4 + 2)
    assert planned_updates(settled(stage, None), 30, {}) == 6


# -- the warning ------------------------------------------------------------------------------------------------------


def trial(right: float, *names: str, seeds: int = 3, rows: int = 400) -> Trial:
    """A trial in which each seed answers about a share of the rows right."""
    hits = np.random.default_rng(len(names)).random((seeds, rows)) < right
    gold = np.zeros(rows, int)
    from trivium.kinds import kind_of

    kind = kind_of(make_task(3))
    counts = np.stack([kind.counts(gold, np.where(hit, 0, 1), make_task(3).labels) for hit in hits])
    return Trial(dict.fromkeys(names, 10), tuple(hits.mean(1)), (1.0,) * seeds, 1.0, 5, counts)


def test_a_candidate_that_hurts_is_named_and_swapped_signs_help() -> None:
    task = replace(make_task(30), metric="accuracy")
    tried = (trial(0.6), trial(0.4, "bad"), trial(0.8, "good"), trial(0.6, "bad", "good"), trial(0.6, "idle"))
    found = {(one["name"], *one["beside"]): one for one in effects(Choice((), (), trials=tried), task)}
    assert {key: one["says"] for key, one in found.items()} == {
        ("bad",): "hurts",
        ("good",): "helps",
        ("bad", "good"): "hurts",
        ("good", "bad"): "helps",
        ("idle",): "no evidence",
    }
    assert found[("bad",)]["delta"] == pytest.approx(-0.2, abs=0.05)
    assert found[("bad",)]["high"] < 0


def test_a_choice_whose_trainings_diverge_sets_its_arm_aside(files: Path, pretrained: str, tmp_path: Path) -> None:
    made = study(files, pretrained, heads={"kind": "gradts", "lr": 1e30, **QUICK}, all={"kind": "all"})
    made["seeds"] = 1
    found = run(parse_config(made, "study.yaml"), runs=tmp_path)
    arms = found.verdict.to_json()["arms"]
    assert re.match(
        r"with seed 0: choosing what to learn beside \(.*auxiliary\.lr\): stage 'finetune', "
        r".* no number any more in update \d+ of \d+ .*"
        r"It read task '\w+', train\.csv rows \d+",
        arms["heads"]["failed"],
    )
    assert {name: arms[name]["failed"] for name in ("finetune", "all")} == {"finetune": None, "all": None}
    assert arms["heads"]["failed"] in found.report.read_text().replace("&#39;", "'")
