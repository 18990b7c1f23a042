"""What to hide, in a study: maskers that learn first, equal budgets, random twins, and what is counted."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from conftest import tiny_study, write_files
from trivium.config import parse_config
from trivium.core import Task
from trivium.data import load_task
from trivium.errors import ConfigError
from trivium.masking import Draw, Known, Masker, RandomTokens, ScoredMasker, Spans, WholeWord
from trivium.masking.words import Occurrences, WordTable
from trivium.study.arms import Arm, questions, random_maskers, resolve, spelled_masker
from trivium.study.fitting import _contents
from trivium.study.plan import make_plan
from trivium.study.progress import Silent
from trivium.study.runner import Study, run
from trivium.training.loop import Watch

HERE = "test_study_masking"
TUNE = {"preset": "finetune", "updates": 4, "batch_rows": 8}
TAPT = {"preset": "tapt", "epochs": 2, "batch_tokens": 512, "max_length": 32}
COMMON = {"kind": f"{HERE}:Common", "rate": 0.3}
KNOWN: list[Known] = []


@dataclass(frozen=True)
class Common(Draw):
    """Hides common words, but for those that it is told to spare. Remembers what it was told."""

    spare: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def fit(self, known: Known) -> Masker:
        KNOWN.append(known)
        return self.by(WordTable.of(*self.counted(known)))

    def counted(self, known: Known) -> tuple[dict[int, float], dict[int, str], float]:
        counts, words = np.unique(Occurrences.of(known.encoded, self.unit).keys, return_counts=True)[::-1]
        scores = {int(word): float(np.log(n)) for word, n in zip(words, counts, strict=True)}
        return scores, dict.fromkeys(scores, ""), 0.0


@dataclass(frozen=True)
class Compared(Common):
    """The same, with a look at general text."""

    compares: ClassVar[bool] = True


@dataclass(frozen=True)
class Drawn(Common):
    """The same, and says that chance plays a part."""

    seeded: ClassVar[bool] = True


@dataclass(frozen=True)
class Nothing(Draw):
    """Becomes something that cannot be kept."""

    def fit(self, known: Known) -> Masker:
        return WholeWord(self.rate)


class StopError(Exception):
    """Stands for a power cut."""


@dataclass(frozen=True)
class Slow(Common):
    """Takes ten steps, and keeps each."""

    taken: ClassVar[list[int]] = []
    fails_at: ClassVar[int | None] = None

    def fit(self, known: Known, *, resume: Path | None = None, watch: Watch | None = None) -> Masker:
        assert resume is not None
        assert watch is not None
        kept = resume / "steps"
        resume.mkdir(exist_ok=True)
        done = len(kept.read_text()) if kept.exists() else 0
        for step in range(done, 10):
            if step == type(self).fails_at:
                raise StopError
            self.taken.append(step)
            kept.write_text("x" * (step + 1))
            watch(step + 1, 10)
        return super().fit(known)


@pytest.fixture(autouse=True)
def _forget() -> None:
    KNOWN.clear()


def study_of(data: Path, arms: Mapping[str, Any], **changes: Any) -> Any:
    raw = {**tiny_study(data), "arms": {"finetune": {"stages": [TUNE]}, **arms}, "linear": False, **changes}
    return parse_config(raw, "tiny.yaml")


ARMS: dict[str, Any] = {
    "tapt": {"masker": {"kind": "whole_word", "rate": 0.3}, "stages": [TAPT, TUNE]},
    "common": {"masker": {**COMMON, "spare": {"words": {"the": 1.0}}}, "stages": [TAPT, TUNE]},
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def study(data: Path, runs: Path) -> Study:
    return run(study_of(data, ARMS, corpus=None), runs=runs)


def manifest(folder: Path) -> Any:
    return json.loads((folder / "manifest.json").read_text())


def made(folder: Path) -> list[str]:
    """Kinds of the artifacts that the last run made."""
    return [artifact["kind"] for artifact in manifest(folder)["artifacts"] if artifact["status"] == "made"]


def traces(folder: Path) -> list[Any]:
    return [json.loads(path.read_text()) for path in (folder / "artifacts").glob("stage-*/trace.json")]


def test_a_study_of_maskers_ends_with_a_verdict_about_choosing(study: Study) -> None:
    verdict = study.verdict.to_json()
    asked = [(c["arm"], c["baseline"]) for c in verdict["comparisons"]]
    assert asked == [("tapt", "finetune"), ("common", "finetune"), ("common", "tapt")]
    assert all(arm["failed"] is None for arm in verdict["arms"].values())
    assert "Common" in study.report.read_text()


def test_a_masker_is_learned_once_for_all_seeds_and_kept(study: Study) -> None:
    (folder,) = (study.folder / "artifacts").glob("masker-*")
    masker = ScoredMasker.from_pretrained(folder)
    assert masker.draw == Draw(0.3)
    assert isinstance(masker.scorer, WordTable)
    assert len(masker.scorer.keys) > 20
    about = manifest(study.folder)["arms"]
    assert about["common"]["fitted"] == {"0": folder.name, "1": folder.name}
    assert about["tapt"]["fitted"] == {}
    assert about["common"]["masker"] == {
        "kind": f"{HERE}:Common",
        "rate": 0.3,
        "unit": "word",
        "temperature": 1.0,
        "spare": {"words": {"the": 1.0}},
    }


def test_all_arms_spend_alike_and_the_plan_says_so_before(study: Study, data: Path) -> None:
    budgets = {name: arm["budget"]["updates"] for name, arm in manifest(study.folder)["arms"].items()}
    assert len(set(budgets.values())) == 1
    stages = manifest(study.folder)["arms"]["common"]["stages"]
    assert stages == manifest(study.folder)["arms"]["tapt"]["stages"]
    assert stages[0]["updates"] > 2, "two passes over the texts"
    plan = make_plan(study_of(data, ARMS, corpus=None, engine={"workers": os.cpu_count()}))  # a thread each
    planned = {name: [stage.updates for stage in stages] for name, stages in plan.arms.items()}
    assert planned["common"] == [stage["updates"] for stage in stages]
    assert {sum(updates) for updates in planned.values()} == set(budgets.values())


def test_what_each_arm_hid_is_written_down(study: Study) -> None:
    found = {name: [t for t in traces(study.folder) if t["stage"] == name] for name in ("tapt", "finetune")}
    assert len(found["tapt"]) == 4
    for trace in found["tapt"]:
        assert 0.2 < trace["hidden"] / trace["maskable"] < 0.4
        assert trace["maskable"] < trace["tokens"] <= trace["padded"]
    assert {trace["hidden"] for trace in found["finetune"]} == {0}


def test_a_second_run_does_nothing_twice_and_the_spelled_study_is_the_same(
    data: Path, runs: Path, study: Study
) -> None:
    run(study_of(data, ARMS, corpus=None), runs=runs)
    assert made(study.folder) == []
    run(study.folder / "config.yaml", runs=runs)
    assert made(study.folder) == []
    assert KNOWN == []


def test_a_changed_key_redoes_the_masker_and_what_was_trained_with_it(data: Path, runs: Path, study: Study) -> None:
    arms = json.loads(json.dumps(ARMS))
    arms["common"]["masker"]["temperature"] = 0
    run(study_of(data, arms, corpus=None), runs=runs)
    assert sorted(made(study.folder)) == sorted(["masker", "hiding", *["stage"] * 4, *["score"] * 4])
    assert len(KNOWN) == 1
    run(study_of(data, ARMS, corpus=None), runs=runs)
    assert made(study.folder) == [], "nothing was lost"


def test_a_masker_knows_the_training_rows_alone(data: Path, tmp_path: Path) -> None:
    """Dev and test texts lie in the corpus too, and get neither into the texts nor into the background."""
    task = load_task(data / "reviews")
    held_out = {*task.texts("dev"), *task.texts("test")} - set(task.texts("train"))
    (tmp_path / "more.txt").write_text("\n".join(sorted(held_out)))
    arms = {name: {"masker": {"kind": f"{HERE}:{name}"}, "stages": [TAPT, TUNE]} for name in ("Common", "Compared")}
    corpus = [str(data / "corpus.jsonl"), str(tmp_path / "more.txt")]
    run(study_of(data, arms, corpus=corpus, seeds=1), runs=tmp_path)
    plain, known = KNOWN
    assert list(plain.background) == []
    assert plain.models is known.models, "encoders to ask are made once"
    assert set(known.task.tables) == {"train"}
    assert known.task.texts("train") == task.texts("train")
    assert list(known.texts) == task.passages()[0]
    assert len(known.background) > 50, "no arm reads, but the masker compares"
    assert held_out.isdisjoint([*known.texts, *known.background])


def test_labels_of_held_out_rows_change_no_masker(data: Path, tmp_path: Path, task: Task) -> None:
    keys = []
    arms = {"compared": {"masker": {"kind": f"{HERE}:Compared"}, "stages": [TAPT, TUNE]}}
    for turn in (0, 1):
        rows = task.rows("test")
        moved = np.roll(rows["label"].to_numpy(), turn)
        tables = {**task.tables, "test": rows.set_column(rows.column_names.index("label"), "label", [moved])}
        folder = tmp_path / str(turn)
        texts = [json.loads(line)["text"] for line in (data / "corpus.jsonl").read_text().splitlines()]
        write_files(folder, Task(task.name, task.kind, task.metric, task.labels, tables), texts)
        made_here = run(study_of(folder, arms, seeds=1), runs=folder).folder / "artifacts"
        keys.append({path.name for kind in ("masker", "stage") for path in made_here.glob(f"{kind}-*")})
    assert keys[0] == keys[1]


def test_a_folder_that_a_masker_names_counts_by_what_is_in_it(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Trained(Common):
        folder: Path | None = None

    (tmp_path / "weights").write_text("one")
    assert _contents(Trained()) == {}
    before = _contents(Trained(folder=tmp_path))
    assert before == _contents(Trained(folder=tmp_path))
    (tmp_path / "weights").write_text("two")
    assert set(before) == {"folder"}
    assert before != _contents(Trained(folder=tmp_path))
    assert spelled_masker(Trained(folder=tmp_path))["folder"] == str(tmp_path)


def test_maskers_of_the_house_that_learn_first(data: Path, tmp_path: Path) -> None:
    arms = {kind: {"masker": {"kind": kind}, "stages": [TAPT, TUNE]} for kind in ("tficf", "pmi")}
    done = run(study_of(data, arms, seeds=1), runs=tmp_path)
    assert all(arm["failed"] is None for arm in done.verdict.to_json()["arms"].values())
    kept = {name: about["fitted"] for name, about in manifest(done.folder)["arms"].items()}
    assert [len(kept[name]) for name in ("finetune", "tficf", "pmi")] == [0, 1, 1]
    for name in ("tficf", "pmi"):
        ScoredMasker.from_pretrained(done.folder / "artifacts" / kept[name]["0"])


def test_where_chance_plays_a_part_every_seed_has_its_own(data: Path, tmp_path: Path) -> None:
    drawn = {"kind": f"{HERE}:Drawn"}
    arms = {
        "drawn": {"masker": drawn, "stages": [TAPT, TUNE]},
        "best": {"masker": {**drawn, "temperature": 0}, "stages": [TAPT, TUNE]},
    }
    done = run(study_of(data, arms, corpus=None), runs=tmp_path)
    assert [known.seed for known in KNOWN] == [0, 0, 1, 1]
    assert [known.models is KNOWN[0].models for known in KNOWN] == [True, True, False, False], "encoders by seed"
    assert len(set(manifest(done.folder)["arms"]["drawn"]["fitted"].values())) == 2


def test_arms_that_read_other_documents_have_maskers_of_their_own(data: Path, tmp_path: Path) -> None:
    read = {"kind": "bm25", "per_query": 5, "max_tokens": 300}
    both = {**TAPT, "mix": {"documents": 2, "texts": 1}, "updates": 3}
    both.pop("epochs")
    arms = {
        "reads": {"documents": read, "masker": COMMON, "stages": [both, TUNE]},
        "alone": {"masker": COMMON, "stages": [TAPT, TUNE]},
    }
    run(study_of(data, arms, seeds=1), runs=tmp_path)
    reads, alone = KNOWN
    assert list(alone.texts) == list(reads.texts)[: len(alone.texts)]
    assert len(reads.texts) > len(alone.texts)
    assert len(list((tmp_path / "tiny" / "artifacts").glob("masker-*"))) == 2


class Watching(Silent):
    """Remembers the bars of learning."""

    def __init__(self) -> None:
        self.moves: list[float] = []

    @contextmanager
    def phase(self, name: str) -> Iterator[Any]:
        yield lambda done, total: self.moves.append(done / total) if name.startswith("learning what to hide") else None


def test_a_killed_masker_goes_on_where_it_was(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arms = {"slow": {"masker": {"kind": f"{HERE}:Slow"}, "stages": [TAPT, TUNE]}}
    reporter = Watching()
    monkeypatch.setattr(Slow, "fails_at", 6)
    with pytest.raises(StopError):
        run(study_of(data, arms, corpus=None, seeds=1), runs=tmp_path)
    assert Slow.taken == list(range(6))
    artifacts = tmp_path / "tiny" / "artifacts"
    assert len(list(artifacts.glob(".partial-masker-*"))) == 1
    monkeypatch.setattr(Slow, "fails_at", None)
    run(study_of(data, arms, corpus=None, seeds=1), runs=tmp_path, reporter=reporter)
    assert Slow.taken == list(range(10)), "no step twice"
    assert reporter.moves == [step / 10 for step in range(7, 11)]
    assert not list(artifacts.glob(".partial-*"))


@pytest.mark.parametrize(
    ("arm", "told"),
    [
        (
            {"masker": {"kind": f"{HERE}:Compared"}, "stages": [TAPT, TUNE]},
            "arms.a.masker: test_study_masking:Compared compares the texts with general ones, but the study has no",
        ),
        (
            {"masker": COMMON, "stages": [TUNE]},
            "arms.a: it has a masker, but no stage hides anything; add {preset: tap",
        ),
        ({"masker": {**COMMON, "rat": 1}, "stages": [TAPT, TUNE]}, "arms.a.masker: unknown key 'rat'; did you mean"),
    ],
)
def test_a_masker_that_cannot_work_is_refused_before_anything_is_done(arm: Any, told: str, data: Path) -> None:
    with pytest.raises(ConfigError) as error:
        make_plan(study_of(data, {"a": arm}, corpus=None))
    assert str(error.value).startswith(told)


def test_what_cannot_be_kept_is_refused(data: Path, tmp_path: Path) -> None:
    arms = {"a": {"masker": {"kind": f"{HERE}:Nothing"}, "stages": [TAPT, TUNE]}}
    with pytest.raises(ConfigError, match=r"arms.a.masker: expected that 'fit' of Nothing returns a ScoredMasker"):
        run(study_of(data, arms, corpus=None), runs=tmp_path)


def arms_of(**arms: Any) -> dict[str, Arm]:
    raw = {"name": "s", "task": {"path": "t"}, "corpus": "c", "arms": {"finetune": {"stages": [TUNE]}, **arms}}
    return resolve(parse_config(raw, "study.yaml"))


def tapt(kind: str, **options: Any) -> dict[str, Any]:
    return {"masker": {"kind": kind, **options}, "stages": [TAPT, TUNE]}


def test_a_masker_is_asked_against_one_that_hides_as_much_at_random() -> None:
    arms = arms_of(
        words=tapt("whole_word", rate=0.3),
        tokens=tapt("random", rate=0.3),
        less=tapt("whole_word", rate=0.15),
        span=tapt("span", rate=0.3),
        pieces=tapt("span", rate=0.3, unit="token"),
        common=tapt(f"{HERE}:Common"),
        longer={**tapt("span", rate=0.3), "stages": [{**TAPT, "epochs": 9}, TUNE]},
    )
    found = [pair for pair in questions(arms, "finetune") if pair[1] != "finetune"]
    assert found == [("span", "words"), ("pieces", "tokens"), ("common", "less")]
    assert [pair for pair in questions(arms, "words") if pair[1] != "words"] == [
        ("pieces", "tokens"),
        ("common", "less"),
    ]


def test_documents_and_maskers_have_twins_of_their_own() -> None:
    best, chance = {"kind": "bm25", "max_tokens": 900}, {"kind": "random", "max_tokens": 900}
    both = {**TAPT, "mix": {"documents": 1, "texts": 1}}

    def arm(documents: Any, kind: str) -> dict[str, Any]:
        return {"documents": documents, "masker": {"kind": kind}, "stages": [both, TUNE]}

    arms = arms_of(
        full=arm(best, "span"), hides=arm(best, "whole_word"), reads=arm(chance, "span"), none=arm(chance, "whole_word")
    )
    found = {pair for pair in questions(arms, "finetune") if pair[1] != "finetune"}
    assert found == {("full", "hides"), ("full", "reads"), ("reads", "none"), ("hides", "none")}


def test_random_maskers_hide_as_much_of_the_same_units() -> None:
    @dataclass(frozen=True)
    class Unitless:
        rate: float = 0.2

    odd: Any = Unitless()
    assert random_maskers(Spans(0.4, "token")) == (RandomTokens(0.4),)
    assert random_maskers(Common(0.4)) == (WholeWord(0.4),)
    assert random_maskers(odd) == (WholeWord(0.2), RandomTokens(0.2))
    assert random_maskers(RandomTokens()) == random_maskers(WholeWord()) == ()


def test_nested_settings_are_spelled_as_json_can_say_them() -> None:
    masker = Common(spare={"words": {"the": 1.0}})
    told = spelled_masker(masker)
    assert json.loads(json.dumps(told)) == told
    assert told["spare"] == {"words": {"the": 1.0}}
