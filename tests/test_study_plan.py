"""The plan: bands, what choices are foreseen to take, and the budget that makes a study fit."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from conftest import make_task, tiny_study
from trivium.auxiliary import SELECTORS as BESIDE
from trivium.auxiliary import GradTS
from trivium.auxiliary.protocol import Effort
from trivium.config import StudyConfig, choose, parse_config
from trivium.core import Stage, Task
from trivium.documents.screens import Screens
from trivium.encoders import Scratch
from trivium.engine import cores
from trivium.errors import ConfigError
from trivium.store import room
from trivium.study import budget, foresight, timing
from trivium.study.arms import Arm, resolve
from trivium.study.bands import Band, Line, growing, makespan, spread_out
from trivium.study.budget import decide, shortened
from trivium.study.foresight import Scene
from trivium.study.foresight_beside import DryBank, auxiliary
from trivium.study.foresight_hiding import masker
from trivium.study.plan import Planner, make_plan
from trivium.study.progress import Silent
from trivium.study.rehearsal import Rehearsal, rehearsed
from trivium.study.runner import run
from trivium.study.timing import Timing, least_updates

ONE = Band.exactly(1.0)
QUIET = Rehearsal(Band.exactly(0.0), Band.exactly(0.0), ONE, ONE, 1.0)


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiny encoders are no faster on two, and tests run side by side."""
    monkeypatch.setattr(timing, "cores", lambda: 1)


def config(data: Path, **changes: Any) -> StudyConfig:
    return parse_config({**tiny_study(data), **changes}, "tiny.yaml")


# -- bands -------------------------------------------------------------------------------------------------------------

ENDS = st.lists(st.floats(0, 1e6), min_size=3, max_size=3).map(sorted)
BANDS = ENDS.map(lambda ends: Band(ends[1], ends[0], ends[2]))


@given(BANDS, BANDS)
def test_a_band_keeps_its_order(one: Band, other: Band) -> None:
    for band in (one + other, one * other, one.off(), spread_out([{0: one}, {1: other}, {0: one, 2: one}], 2)):
        assert band.low <= band.value <= band.high


def test_bands_add_up_end_by_end_and_have_a_name_in_json() -> None:
    assert Band(2, 1, 4) + Band(3, 3, 5) == Band(5, 4, 9)
    assert Band(2, 1, 4) * 2.0 == Band(4, 2, 8)
    assert Band(2, 1, 4) * Band(2, 1, 3) == Band(4, 1, 12)
    assert Band(4, 2, 8).off(2) == Band(4, 1, 16)
    assert Band(2, 1, 4).named("seconds") == {"seconds": 2, "seconds_low": 1, "seconds_high": 4}


def test_jobs_go_to_whoever_is_free() -> None:
    for seconds, workers, end in (([2, 2, 2], 2, 4), ([5, 1, 1, 1], 2, 5), ([1, 2, 3], 1, 6), ([], 3, 0)):
        assert makespan([{i: each} for i, each in enumerate(seconds)], workers) == end


def test_what_is_shared_is_done_once_and_waited_for() -> None:
    assert makespan([{"a": 5, "b": 1}, {"a": 5, "c": 1}, {"a": 5, "d": 1}], 1) == 8
    assert makespan([{"a": 5, "b": 1}, {"a": 5, "c": 1}], 2) == 6, "the other one waits"
    assert makespan([{"x": 9}, {"a": 5, "b": 1}, {"a": 5, "c": 1}], 2) == 9, "it is there by then"


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3)), max_size=8), st.integers(1, 4))
def test_sharing_never_takes_longer_and_never_less_than_the_work(jobs: list[tuple[int, int]], workers: int) -> None:
    lengths = {("first", first): 2 + first for first, _ in jobs} | {(first, last): 1 + last for first, last in jobs}
    shared = makespan([{part: lengths[part] for part in (("first", f), (f, k))} for f, k in jobs], workers)
    alone = makespan(
        [{(i, part): lengths[part] for part in (("first", f), (f, k))} for i, (f, k) in enumerate(jobs)], workers
    )
    assert shared <= alone
    assert shared * workers >= sum(lengths.values())
    if workers == 1:
        assert shared == sum(lengths.values())


def test_a_line_is_found_again_and_is_less_sure_further_out() -> None:
    line = growing(lambda size: 2.0 + 0.003 * size, most=100_000, start=16)
    assert line == Line(2.0, 0.003, 256)
    near, far = line.at(100), line.at(100_000)
    assert far.value == pytest.approx(302)
    assert far.high / far.value > near.high / near.value
    calls: list[int] = []
    whole = growing(lambda size: calls.append(size) or 0.0, most=50, start=16)  # type: ignore[func-returns-value]
    assert (calls, whole.reached) == ([16, 16, 32, 50], 50)


def test_early_stopping_leaves_half_or_its_patience() -> None:
    tune = Stage("tune", {"task": 1}, updates=100, patience=4)
    assert least_updates(tune, looks=True) == 50
    assert least_updates(replace(tune, patience=7), looks=True) == 80
    assert least_updates(replace(tune, patience=50), looks=True) == 100
    assert least_updates(replace(tune, patience=None), looks=True) == 100


# -- the whole plan ----------------------------------------------------------------------------------------------------


def test_arms_with_encoders_of_their_own_are_planned_each_with_its_own(data: Path) -> None:
    stages = [{"preset": "tapt", "updates": 4}, {"preset": "finetune", "updates": 8}]
    arms = {"tiny": {"stages": stages}, "bert": {"stages": stages, "encoder": {"scratch": "mini"}}}
    raw = tiny_study(data)
    plan = make_plan(parse_config({**raw, "arms": arms, "baseline": "tiny", "linear": False}, "s.yaml"))
    tiny, bert = ([stage.flops.value / stage.tokens for stage in plan.arms[name]] for name in ("tiny", "bert"))
    assert min(bert) > 2 * max(tiny)
    assert plan.encoders == 2
    assert plan.parameters == pytest.approx(bert[-1] / 6, rel=0.1)  # heads of tasks are not counted
    assert sum(choice.what == "reading" for choice in plan.choices) == 2  # a vocabulary for each
    assert "2 encoders, the largest of" in plan.to_text()


def test_a_stage_that_arms_share_is_counted_once(data: Path, tmp_path: Path) -> None:
    """As it is trained: as many stages as the run makes, for as many updates."""
    tapt, tune = {"preset": "tapt", "updates": 40}, {"preset": "finetune", "updates": 8}
    arms = {
        "one": {"stages": [tapt, tune]},
        "other": {"stages": [tapt, {**tune, "lr": 0.01}]},
        "words": {"stages": [tapt, tune], "masker": {"kind": "whole_word"}},
    }
    raw = {
        **tiny_study(data),
        "arms": arms,
        "baseline": "one",
        "linear": False,
        "equal": "nothing",
        "engine": {"workers": 1},
    }
    config = parse_config(raw, "s.yaml")
    plan, alone = (
        make_plan(config),
        make_plan(parse_config({**raw, "arms": {**arms, "other": arms["words"]}}, "s.yaml")),
    )
    assert {name: [stage.trained_for for stage in stages] for name, stages in plan.arms.items()} == {
        "one": [None, None],
        "other": ["one", None],
        "words": [None, None],
    }
    assert alone.arms["words"][1].trained_for == "other"
    whole = sum(stage.flops.value for stages in plan.arms.values() for stage in stages)
    assert plan.flops.value == pytest.approx((whole - plan.arms["one"][0].flops.value) * plan.seeds)
    assert "trained for 'one'" in plan.to_text()
    made = run(config, runs=tmp_path).folder.glob("artifacts/stage-*")
    own = sum(stage.trained_for is None for stages in plan.arms.values() for stage in stages)
    assert len([*made]) == own * plan.seeds


def test_every_number_stands_with_its_band_and_every_choice_is_there(data: Path) -> None:
    raw = tiny_study(data)
    raw["arms"]["pmi"] = {
        "masker": {"kind": "pmi"},
        "stages": [{"preset": "tapt", "updates": 4}, {"preset": "finetune"}],
    }
    plan = make_plan(parse_config({**raw, "budget": "10h"}, "tiny.yaml"))
    told = json.loads(json.dumps(plan.to_json()))
    for name in ("seconds", "training", "memory", "worker_memory", "disk", "flops"):
        assert 0 < told[f"{name}_low"] <= told[name] <= told[f"{name}_high"], name
    assert told["seconds"] > told["training"]
    told_stages = [stage for stages in told["arms"].values() for stage in stages]
    assert all(stage["seconds_low"] <= stage["seconds"] <= stage["seconds_high"] for stage in told_stages)
    made = {(choice["what"], *choice["arms"]): choice["times"] for choice in told["choices"]}
    assert made["documents", "random"] == 2  # every seed draws anew
    assert made["documents", "tlm"] == 1
    assert made["masker", "pmi"] == 1
    assert made["judging",] == 2 * 4
    assert {("linear",), ("verdict",)} <= set(made)
    assert not (data / "runs").exists()
    text = plan.to_text()
    assert "note: budget 10h: all seeds, and every stage at its whole length." in text
    assert "choosing documents" in text
    assert "in all" in text


def test_operations_are_those_that_are_found(data: Path, tmp_path: Path) -> None:
    raw = tiny_study(data) | {"seeds": 1, "linear": False}
    raw["arms"] = {"finetune": raw["arms"]["finetune"]}
    raw["arms"]["finetune"]["stages"][0] |= {"patience": None}
    study = parse_config(raw, "tiny.yaml")
    plan, found = make_plan(study), run(study, runs=tmp_path).verdict.arms["finetune"]
    assert plan.flops.value == pytest.approx(found.flops, rel=0.15)
    assert plan.disk.low < room(tmp_path / "tiny" / "artifacts") < plan.disk.high


# -- choices -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def other() -> Task:
    task = make_task(36, seed=5)
    return replace(task, name="other", tables={"train": task.rows("train")})


@pytest.fixture(scope="module")
def scene(data: Path, other: Task, tmp_path_factory: pytest.TempPathFactory) -> Scene:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRIVIUM_CACHE", str(tmp_path_factory.mktemp("cache")))
        planner = Planner.of(config(data), Silent())
    steps = Timing(Scratch("tiny"), planner.task.sealed(), planner.corpus, cores(), [other])
    return Scene(steps, planner.corpus, planner.task, Screens(), 1)


def arms_of(data: Path, arm: Mapping[str, Any]) -> Arm:
    raw = tiny_study(data) | {"auxiliary_tasks": [{"path": str(data / "reviews"), "name": "other"}], "baseline": "a"}
    return resolve(parse_config({**raw, "arms": {"a": arm}}, "s.yaml"))["a"]


@pytest.mark.parametrize("kind", ["random", "bm25", "dsir"])
def test_documents_are_asked_for_and_no_cache_is_filled(scene: Scene, data: Path, kind: str, tmp_path: Path) -> None:
    arm = arms_of(data, tiny_study(data)["arms"]["tlm"] | {"documents": {"kind": kind, "max_tokens": 800}})
    band = foresight.documents(scene, arm)
    assert 0 <= band.low < band.value < band.high < 600
    assert foresight.taken(scene, arm).high == pytest.approx(800 / 32, rel=0.3)  # 32 words a document
    reading, disk = foresight.reading(scene, arm)
    assert 0 < reading.low <= reading.high
    assert disk.value > 1000


SLOW = [pytest.param(kind, marks=pytest.mark.slow) for kind in ("entropy", "selective")]


@pytest.mark.parametrize("kind", ["pmi", "tficf", "gradalign", *SLOW])
def test_a_masker_that_learns_is_tried_untrained(scene: Scene, data: Path, kind: str) -> None:
    tune, tapt = {"preset": "finetune", "updates": 4}, {"preset": "tapt", "updates": 4}
    arm = arms_of(data, {"masker": {"kind": kind}, "stages": [tapt, tune]})
    band = masker(scene, arm)
    assert 0 < band.low <= band.value <= band.high
    rule = arms_of(data, {"masker": {"kind": "whole_word"}, "stages": [tapt, tune]})
    assert masker(scene, rule) == Band.exactly(0.0)
    if kind in ("pmi", "gradalign"):  # one counts words, the other asks encoders that learned
        step = scene.timing.steps(replace(arm.recipe.stages[0], updates=1)).seconds.values()
        learned = band.value > 100 * next(iter(step)).value
        assert learned == (kind == "gradalign")


def test_episodes_are_played_and_multiplied(scene: Scene, data: Path) -> None:
    tune, tapt = {"preset": "finetune", "updates": 4}, {"preset": "tapt", "updates": 4}

    def learning(episodes: int, **keys: Any) -> Band:
        settings = {"kind": "nmg", "episodes": episodes, "contexts": 12, **keys}
        return masker(scene, arms_of(data, {"masker": settings, "stages": [tapt, tune]}))

    few, many = learning(20), learning(2000)
    assert many.value > 5 * few.value
    assert many.low < many.value / 5  # patience may end it soon


def bank(scene: Scene, effort: Effort, rising: bool) -> DryBank:
    return DryBank(scene.timing, effort, QUIET, 1, 30, rising, set())


def test_trials_are_counted_from_least_to_most(scene: Scene) -> None:
    chooser = GradTS(seeds=2)
    few, many = (bank(scene, chooser, rising) for rising in (False, True))
    for one in (few, many):
        chooser.choose(one)
    # one candidate: alone and beside it, whatever patience; so both try as many
    assert (
        sum(name.startswith("trial") for name in few.done) == sum(name.startswith("trial") for name in many.done) == 2
    )
    assert sum(name.startswith("importance") for name in many.done) == 2
    assert few.kept == 2  # an encoder from scratch fills gaps first, with each seed
    again = bank(scene, chooser, rising=True)
    again.done |= many.done
    chooser.choose(again)
    assert again.seconds.value == 0


QUICK = ("random", "textemb", "autosem")


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=[] if kind in QUICK else pytest.mark.slow)
        for kind in BESIDE
        if kind not in ("all", "none", "gradts-trial")
    ],
)
def test_every_way_to_choose_tasks_can_be_tried(scene: Scene, kind: str) -> None:
    keys: dict[str, Any] = {"autosem": {"rounds": 4, "updates": 2}}.get(kind, {})
    keys |= {"dimensions": 64} if kind in ("projected", "gradtag") else {}
    selector = choose(BESIDE, {"kind": kind, **keys}, "auxiliary")
    cost = auxiliary(scene, selector, QUIET, 1)
    assert 0 <= cost.seconds.low <= cost.seconds.value <= cost.seconds.high
    if kind not in ("random", "size"):
        assert cost.seconds.value > 0


def test_an_arm_is_rehearsed_where_nobody_finds_it(scene: Scene, data: Path) -> None:
    found = rehearsed(arms_of(data, tiny_study(data)["arms"]["tlm"]), scene.timing, 1)
    assert found.begin.value == 0
    assert found.crowding == ONE
    assert found.stage.value > 0
    assert found.disk > 4 * scene.timing.parameters  # an encoder in float32, its tokenizer, its trace
    assert found.memory.value > 10 * found.disk


# -- budget ------------------------------------------------------------------------------------------------------------


def costing(fixed: float, update: float) -> Any:
    """A study that takes so many seconds for everything else, and for each update of each seed."""

    def planned(study: StudyConfig) -> tuple[float, float, float]:
        updates = sum(stage["updates"] for arm in study.arms.values() for stage in arm.stages)
        seconds = fixed + update * updates * len(study.seed_list)
        return seconds, seconds / 2, seconds * 2

    return planned


def with_budget(given: str, seeds: int = 5) -> StudyConfig:
    arms = {
        "a": {"stages": [{"preset": "finetune", "updates": 100}]},
        "b": {"stages": [{"preset": "finetune", "updates": 300}]},
    }
    raw = {"name": "s", "task": {"path": "t"}, "baseline": "a", "arms": arms, "budget": given, "seeds": seeds}
    return parse_config(raw, "s.yaml")


@pytest.mark.parametrize(
    ("given", "seeds", "share"),
    [
        ("2h", 5, 1.0),
        ("70m", 5, 1.0),
        ("60m", 4, 1.0),
        ("41m", 3, 1.0),
        ("21m", 3, 0.5),
        ("5m", 3, 0.1),
        ("3m", 2, 0.1),
        ("2m", 1, 0.1),
    ],
)
def test_seeds_beyond_three_go_first_then_updates_then_seeds(given: str, seeds: int, share: float) -> None:
    found = decide(with_budget(given), costing(10.0, 1.0))  # twice 10 + 400 for each seed
    assert len(found.seeds) == seeds
    assert found.share == pytest.approx(share, abs=0.06)
    assert found.seconds_high <= {"2h": 7200}.get(given, 60 * int(given[:-1]) if given.endswith("m") else 0)
    applied = found.apply(with_budget(given))
    assert applied.budget is None
    lengths = [arm.stages[0]["updates"] for arm in applied.arms.values()]
    assert lengths[1] == pytest.approx(3 * lengths[0], abs=2)
    assert ("Fewer than three seeds" in found.told()) == (seeds < 3)


def test_a_budget_that_nothing_fits_says_what_would() -> None:
    with pytest.raises(ConfigError, match=r"about 2m, found 10s. Give budget: 2m or more, fewer arms"):
        decide(with_budget("10s"), costing(10.0, 1.0))


def test_a_budget_is_a_number_and_a_unit() -> None:
    assert [with_budget(given).budget_seconds for given in ("90s", "1.5m", "2h")] == [90, 90, 7200]
    with pytest.raises(ConfigError, match="budget"):
        with_budget("soon")


def test_presets_are_shortened_by_the_lengths_they_have() -> None:
    raw = with_budget("2h").model_dump() | {"arms": {"a": {"stages": [{"preset": "finetune"}]}}}
    (stage,) = shortened(parse_config(raw, "s.yaml"), [0], 0.25).arms["a"].stages
    assert stage == {"preset": "finetune", "epochs": 5.0}


def test_a_stage_that_a_cell_of_a_grid_leaves_out_is_shortened_as_well() -> None:
    stages = [{"preset": "adapt", "updates": 40}, {"preset": "finetune", "updates": 60}]
    grid = {"documents": {"none": None, "some": {"kind": "random", "max_tokens": 99}}, "stages": stages}
    raw = {"name": "s", "task": {"path": "t"}, "corpus": "c.txt", "grid": grid, "budget": "1h"}
    short = shortened(parse_config(raw, "s.yaml"), [0], 0.5)
    assert [[stage["updates"] for stage in arm.stages] for arm in short.arms.values()] == [[20, 30], [20, 30]]
    assert [len(arm.recipe.stages) for arm in resolve(short).values()] == [1, 2]


@pytest.mark.parametrize(
    ("given", "seeds", "most"),
    [("3h", 3, 12), ("2h", 3, 8), ("22m", 3, None), ("2m", 1, None)],
)
def test_a_study_that_adds_seeds_adds_no_more_than_fit(given: str, seeds: int, most: int | None) -> None:
    study = with_budget(given, 3).model_copy(update={"adaptive": True})
    found = decide(study, costing(10.0, 1.0))  # twice 10 + 400 for each seed
    applied = found.apply(study)
    assert applied.seeds == list(range(seeds))
    assert (applied.adaptive_config.most if applied.adaptive_config else None) == most
    assert len(applied.most_seeds) == len(found.seeds)


def test_a_run_decides_once(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = config(data, budget="10m", seeds=4, linear=False)
    timed = []

    def decided(config: StudyConfig, planned: Any) -> budget.Decision:
        timed.append(1)
        return budget.Decision(config.budget or "", 1.0, 1.0, 1.0, (0,), 4, 0.5)

    monkeypatch.setattr(budget, "decide", decided)
    first = run(study, runs=tmp_path).folder
    second = run(study, runs=tmp_path).folder
    assert len(timed) == 1
    manifest = json.loads((second / "manifest.json").read_text())
    assert {artifact["status"] for artifact in manifest["artifacts"]} == {"reused"}
    assert manifest["budget"]["share"] == 0.5
    assert any(note.startswith("budget 10m: 1 of 4 seeds, and every stage at 50 %") for note in manifest["notes"])
    written = yaml.safe_load((first / "config.yaml").read_text())
    assert (written["seeds"], written["budget"]) == ([0], None)
    assert [stage["updates"] for stage in written["arms"]["tlm"]["stages"]] == [4, 4]
    run(parse_config(written, "config.yaml"), runs=tmp_path)
    assert len(timed) == 1
    again = json.loads((second / "manifest.json").read_text())
    assert {artifact["status"] for artifact in again["artifacts"]} == {"reused"}
