"""The study file: every mistake names its key and a way out, ``key=value`` goes anywhere, defaults are written out."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from trivium.config import CorpusConfig, StudyConfig, build, choose, load_config, parse_config
from trivium.core import Stage
from trivium.data.columns import block_yaml
from trivium.errors import ConfigError
from trivium.masking import MASKERS, WholeWord

STUDY: dict[str, Any] = {
    "name": "demo",
    "task": {"path": "reviews"},
    "corpus": ["a.txt", "b.txt"],
    "seeds": [3, 5],
    "arms": {
        "finetune": {"stages": [{"preset": "finetune"}]},
        "tlm": {"documents": {"kind": "bm25"}, "stages": [{"preset": "tlm-joint"}, {"preset": "finetune"}]},
    },
}


def write(folder: Path, text: str) -> Path:
    path = folder / "study.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def study(tmp_path: Path) -> Path:
    return write(tmp_path, yaml.safe_dump(STUDY))


FINETUNE = {"stages": [{"preset": "finetune"}]}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"taks": 1}, "study.yaml, taks: unknown key; did you mean 'task'?"),
        ({"task": {"path": "x", "knid": "tag"}}, "study.yaml, task.knid: unknown key; did you mean 'kind'?"),
        ({"task": {}}, "study.yaml, task.path: this key is missing"),
        ({"task": None}, "study.yaml, task: expected a mapping, found None"),
        ({"task": "x.csv"}, "study.yaml, task: expected a mapping, found 'x.csv'"),
        (
            {"corpus": {"path": "x", "window": 3}},
            "study.yaml, corpus.window: expected greater than or equal to 16, found 3",
        ),
        (
            {"corpus": {"paht": "x"}},
            "study.yaml, corpus.path: this key is missing\nstudy.yaml, corpus.paht: unknown key; did you mean 'path'?",
        ),
        (
            {"corpus": 3},
            "study.yaml, corpus: expected a mapping, found 3; or expected a valid string, found 3; "
            "or expected a valid list, found 3",
        ),
        ({"corpus": ["a", 1]}, "study.yaml, corpus.1: expected a valid string, found 1"),
        ({"seeds": [1, 1]}, "study.yaml, seeds: expected one or more different numbers, found [1, 1]."),
        ({"seeds": []}, "study.yaml, seeds: expected one or more different numbers, found []."),
        (
            {"seeds": 0},
            "study.yaml, seeds: expected greater than or equal to 1, found 0; or expected a valid list, found 0",
        ),
        (
            {"arms": {"finetune": {**FINETUNE, "document": {}}}},
            "study.yaml, arms.finetune.document: unknown key; did you mean 'documents'?",
        ),
        (
            {"arms": {"finetune": {"stages": ["x"]}}},
            "study.yaml, arms.finetune.stages.0: expected a mapping, found 'x'",
        ),
        ({"baseline": "tuned"}, "study.yaml, baseline: expected one of the arms (finetune, tlm), found 'tuned'."),
        ({"equal": "rows"}, "study.yaml, equal: expected 'updates', 'tokens', 'flops' or 'nothing', found 'rows'"),
        ({"budget": "soon"}, "study.yaml, budget: expected a time such as 90s, 30m or 2h, found 'soon'"),
        ({"engine": {"kind": "spark"}}, "study.yaml, engine.kind: expected 'local' or 'ray', found 'spark'"),
        ({"engine": "spark"}, "study.yaml, engine.kind: expected 'local' or 'ray', found 'spark'"),
        ({"linear": "maybe"}, "study.yaml, linear: expected a valid boolean, unable to interpret input, found 'maybe'"),
    ],
)
def test_a_mistake_is_told_with_its_key(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_config({**STUDY, **changes}, "study.yaml")
    assert str(error.value) == told


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"arms": {}}, "arms: expected one or more arms, or a grid; found neither"),
        ({"arms": {"finetune": {"stages": []}}}, "arms.finetune.stages: .*at least 1 item"),
        ({"arms": {"finetune": None}}, "arms.finetune: expected a mapping"),
        ({"arms": {**STUDY["arms"], "linear": FINETUNE}}, "arms: the name 'linear' is taken"),
        ({"arms": {**STUDY["arms"], "../up": FINETUNE}}, "arms: .*folder.*'../up'"),
        ({"arms": {**STUDY["arms"], ".hidden": FINETUNE}}, "arms: .*folder.*'.hidden'"),
        ({"arms": {1: FINETUNE}}, "arms.1: expected a valid string"),
        ({"arms": {"finetune": {"stages": [{1: 2}]}}}, "arms.finetune.stages.0.1: expected a valid string"),
        ({"name": "../up"}, "name: .*pattern"),
        ({"name": ".up"}, "name: .*pattern"),
        ({"zzz": 1}, "zzz: unknown key; known are name, task, auxiliary_tasks, corpus, .*engine"),
        ({"str": 1}, "unknown key"),
        ({"a[b]": 1}, "unknown key"),
        ({1: 1}, "1: Keys should be strings"),
        ({"seeds": 1.5}, "seeds: .*integer.*1.5"),
        ({"seeds": [0, "x"]}, r"seeds\.1: .*integer.*'x'"),
        ({"encoder": 3}, "encoder: expected a mapping, found 3; or expected a valid string"),
        ({"engine": {"workers": 0}}, "engine.workers: .*1, found 0"),
    ],
)
def test_no_mistake_gets_past(changes: dict[Any, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=f"^study.yaml, {told}|^study.yaml: {told}"):
        parse_config({**STUDY, **changes}, "study.yaml")


JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-1, 3)
    | st.integers()
    | st.floats()
    | st.sampled_from(["", "a", "kind", "stages", "path"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["path", "stages", 1, None]), inner),
    max_leaves=4,
)


@given(st.sampled_from(sorted(StudyConfig.model_fields)), JUNK)
@settings(max_examples=150, deadline=None)
def test_whatever_stands_in_a_study_it_is_read_or_explained(key: str, junk: Any) -> None:
    told = ""
    try:
        parse_config({**STUDY, key: junk}, "study.yaml")
    except ConfigError as error:
        told = str(error)
    assert all(line.startswith((f"study.yaml, {key}", "study.yaml, baseline")) for line in told.splitlines())


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "expected keys such as 'name', 'task' and 'arms', found NoneType"),
        ("- a\n- b", "expected keys .*found list"),
        ("name: [", "expected a YAML file, found: while parsing"),
        ("name: demo\n\ttask: x", "expected a YAML file"),
        ("name: !!python/object:os.system x", "expected a YAML file.*could not determine a constructor"),
    ],
)
def test_a_file_that_is_no_study_is_refused(tmp_path: Path, text: str, told: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigError, match=f"(?s)^{re.escape(str(path))}: {told}"):
        load_config(path)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no such study file. `trivium new DATA -o .*study.yaml` writes one"):
        load_config(tmp_path / "study.yaml")
    with pytest.raises(ConfigError, match="expected a YAML file"):
        load_config(tmp_path)
    (tmp_path / "latin.yaml").write_bytes("name: naïve".encode("latin-1"))
    with pytest.raises(ConfigError, match="expected a YAML file"):
        load_config(tmp_path / "latin.yaml")


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    assert load_config(write(tmp_path, "\ufeff" + yaml.safe_dump(STUDY))).name == "demo"


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("seeds=5", "seeds", 5),
        ("seeds=[1, 2]", "seeds", [1, 2]),
        ("seeds.1=9", "seeds", [3, 9]),
        ("linear=no", "linear", False),
        ("corpus=null", "corpus", None),
        ("corpus.0=c.txt", "corpus", ["c.txt", "b.txt"]),
        ("task.path=a=b.csv", "task.path", "a=b.csv"),
        ("task.columns={text: body}", "task.columns", {"text": "body"}),
        ("task.columns.text=body", "task.columns", {"text": "body"}),
        ("encoder.scratch=tiny", "encoder", {"scratch": "tiny"}),
        ("engine.workers=2", "engine.workers", 2),
        ("engine=local", "engine.kind", "local"),
        ("engine={kind: ray, address: null}", "engine.address", None),
        ("arms.tlm.documents.max_tokens=1_000_000", "arms.tlm.documents", {"kind": "bm25", "max_tokens": 1_000_000}),
        ("arms.tlm.masker.kind=whole_word", "arms.tlm.masker", {"kind": "whole_word"}),
        (
            "arms.tlm.stages.1.lr=1e-3",
            "arms.tlm.stages",
            [{"preset": "tlm-joint"}, {"preset": "finetune", "lr": "1e-3"}],
        ),
        ("arms.new.stages=[{preset: finetune}]", "arms.new.stages", [{"preset": "finetune"}]),
    ],
)
def test_an_override_goes_anywhere_and_wins(study: Path, override: str, key: str, value: Any) -> None:
    found: Any = load_config(study, ["seeds=7", "seeds=[3, 5]", override])
    for part in key.split("."):
        found = found[part] if isinstance(found, Mapping) else getattr(found, part)
    assert found == value


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("seeds", "'seeds': expected key=value, for example seeds=5"),
        ("seeds=[1", r"'seeds=\[1': the value is no YAML"),
        ("sedes=3", "sedes: unknown key; did you mean 'seeds'"),
        ("=3", "unknown key; known are"),
        ("name=a=b", "name: .*pattern.*'a=b'"),
        ("name.x=3", r"'name': holds a plain value \('demo'\) in the study file and nothing below it"),
        ("corpus.0.x=3", r"'corpus.0': holds a plain value \('a.txt'\)"),
        ("seeds.0.x.y=3", r"'seeds.0': holds a plain value \(3\)"),
        ("corpus.2=c.txt", "'corpus.2': expected a number from 0 to 1, found '2'"),
        ("corpus.x=c.txt", "'corpus.x': expected a number from 0 to 1, found 'x'"),
        ("corpus.-1=c.txt", "'corpus.-1': expected a number from 0 to 1, found '-1'"),
        ("arms.tlm.stages.2.lr=1", "'arms.tlm.stages.2': expected a number from 0 to 1, found '2'"),
        ("arms.tml.documents.kind=bm25", "arms.tml.stages: this key is missing"),
    ],
)
def test_an_override_that_goes_nowhere_is_refused(study: Path, override: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        load_config(study, [override])


def test_an_override_of_what_is_written_once_for_two_arms_changes_one(tmp_path: Path) -> None:
    """YAML's anchors make one list of the two; a person reads two."""
    text = "arms: {finetune: {stages: &s [{preset: finetune}]}, tlm: {stages: *s}}"
    path = write(tmp_path, yaml.safe_dump({**STUDY, "arms": None}).replace("arms: null", text))
    arms = load_config(path, ["arms.tlm.stages.0.lr=1", "arms.tlm.stages.0.clip=2"]).arms
    assert arms["tlm"].stages == [{"preset": "finetune", "lr": 1, "clip": 2}]
    assert arms["finetune"].stages == [{"preset": "finetune"}]


@dataclass(frozen=True)
class Ham:
    slices: int
    cured: bool = False
    spices: Mapping[str, float] | None = None

    def __post_init__(self) -> None:
        if self.slices < 0:
            raise ConfigError(f"slices: expected at least 0, found {self.slices}.")
        if self.slices > 9:
            raise ValueError("too many slices")


class Food(Protocol):
    @property
    def slices(self) -> int: ...


FOODS: dict[str, type[Food]] = {"ham": Ham}


def test_a_strategy_is_built_of_its_keys() -> None:
    built = build(Ham, {"slices": "3", "spices": {"salt": "1e-4"}}, "here")
    assert built == Ham(3, spices={"salt": 1e-4})
    assert choose(FOODS, {"kind": "ham", "slices": 1}, "here") == Ham(1)
    assert choose(MASKERS, {"kind": "whole_word"}, "here") == WholeWord()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, "breakfast: expected 'kind', one of ham or \"module:Class\"."),
        ({"kind": ["ham"]}, "breakfast: expected 'kind', one of ham or \"module:Class\"."),
        ({"kind": "hma"}, "breakfast: unknown kind 'hma'; did you mean 'ham'? Your own is \"module:Class\"."),
        ({"kind": "eggs"}, "breakfast: unknown kind 'eggs'; known are ham. Your own is \"module:Class\"."),
        ({"kind": ":Ham"}, "breakfast: unknown kind ':Ham'; known are ham. Your own is \"module:Class\"."),
        ({"kind": ".ham:Ham"}, "breakfast: unknown kind '.ham:Ham'; known are ham. Your own is \"module:Class\"."),
        ({"kind": "ham"}, "breakfast, slices: this key is missing"),
        ({"kind": "ham", "slice": 1}, "breakfast: unknown key 'slice'; did you mean 'slices'?"),
        ({"kind": "ham", "x": 1}, "breakfast: unknown key 'x'; known are slices, cured, spices."),
        ({"kind": "ham", "slices": -1}, "breakfast: slices: expected at least 0, found -1."),
        ({"kind": "ham", "slices": 10}, "breakfast: Value error, too many slices, found {'slices': 10}"),
        (
            {"kind": "ham", "slices": "few"},
            "breakfast, slices: expected a valid integer, unable to parse string as an integer, found 'few'",
        ),
        (
            {"kind": "ham", "slices": 1, "spices": {"salt": "much"}},
            "breakfast, spices.salt: expected a valid number, unable to parse string as a number, found 'much'",
        ),
        (
            {"kind": "no_such_module:Ham"},
            "breakfast: cannot load 'no_such_module:Ham': No module named 'no_such_module'. "
            "Is the module on PYTHONPATH?",
        ),
        (
            {"kind": "json:Ham"},
            "breakfast: cannot load 'json:Ham': module 'json' has no attribute 'Ham'. Is the module on PYTHONPATH?",
        ),
        (
            {"kind": "json:JSONDecoder", "strict": True},
            "breakfast: expected a dataclass, whose fields are its keys; found <class 'json.decoder.JSONDecoder'>.",
        ),
    ],
)
def test_a_strategys_mistake_is_told_with_its_place(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError) as error:
        choose(FOODS, options, "breakfast")
    assert str(error.value) == told


def test_a_class_of_the_users_is_a_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "users_own_masker.py").write_text(
        "from dataclasses import dataclass\n\n\n@dataclass(frozen=True)\nclass Capitals:\n    rate: float = 0.5\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    built: Any = choose(MASKERS, {"kind": "users_own_masker:Capitals", "rate": 0.25}, "arms.a.masker")
    assert (type(built).__name__, built.rate) == ("Capitals", 0.25)
    with pytest.raises(ConfigError, match=r"arms\.a\.masker: unknown key 'rat'; did you mean 'rate'"):
        choose(MASKERS, {"kind": "users_own_masker:Capitals", "rat": 0.25}, "arms.a.masker")
    with pytest.raises(ConfigError, match=r"arms\.a\.masker, rate: expected a valid number"):
        choose(MASKERS, {"kind": "users_own_masker:Capitals", "rate": "half"}, "arms.a.masker")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("updates", 0), ("epochs", 0.0), ("lr", -1.0), ("lr", float("nan")), ("lr", float("inf")), ("warmup", 1.5),
        ("mlm_weight", -1.0), ("batch_rows", 0), ("batch_tokens", 0), ("max_length", 7), ("weight_decay", -0.1),
        ("clip", 0.0), ("dropout", 1.5), ("evaluate_every", 0), ("patience", 0), ("freeze", -1), ("layer_decay", 0.0),
        ("gradients_every", 0),
    ],
)  # fmt: skip
def test_a_stage_that_no_loop_could_run_is_refused(key: str, value: float) -> None:
    length = {} if key in ("updates", "epochs") else {"updates": 1}
    with pytest.raises(ConfigError, match=f"^arms.a.stages.0: stage 's', {key}: expected .*, found {value}"):
        build(Stage, {"name": "s", "mix": {"task": 1}, **length, key: value}, "arms.a.stages.0")


STAGES = st.lists(
    st.fixed_dictionaries({}, optional={"preset": st.just("finetune"), "lr": st.floats(0.1, 1)}), min_size=1
)
STUDIES = st.fixed_dictionaries(
    {
        "name": st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,5}", fullmatch=True),
        "task": st.fixed_dictionaries(
            {"path": st.text(max_size=5) | st.dictionaries(st.sampled_from(["train", "test"]), st.text(max_size=5))},
            optional={"labels": st.lists(st.text(max_size=3), max_size=3), "columns": st.just({"text": "body"})},
        ),
        "arms": st.dictionaries(st.just("finetune"), st.fixed_dictionaries({"stages": STAGES}), min_size=1),
    },
    optional={
        "corpus": st.none() | st.text(max_size=5) | st.just({"path": ["a", "b"], "window": 64}) | st.just(["a"]),
        "seeds": st.integers(1, 5) | st.lists(st.integers(-2, 9), min_size=1, max_size=3, unique=True),
        "linear": st.booleans(),
        "engine": st.just({"workers": 2}),
        "encoder": st.just({"pretrained": "somewhere"}),
    },
)


TUNE = {"stages": [{"preset": "finetune"}]}


@given(STUDIES)
@example({"name": "0", "task": {"path": "t", "labels": ["\x85", "a\u2028b", "\u2029"]}, "arms": {"finetune": TUNE}})
@settings(max_examples=60, deadline=None)
def test_what_is_written_out_is_the_same_study(raw: dict[str, Any]) -> None:
    config = parse_config(raw, "here")
    assert parse_config(yaml.safe_load(block_yaml(config.model_dump(mode="json"))), "there") == config
    for key, value in raw.items():
        assert key == "name" or config.model_dump(mode="json", exclude_unset=True)[key] == value


def test_short_forms_have_a_long_one() -> None:
    assert parse_config(STUDY, "here").corpus_config == CorpusConfig(path=["a.txt", "b.txt"], window=128)
    assert parse_config({**STUDY, "corpus": "a.txt"}, "here").corpus_config == CorpusConfig(path="a.txt")
    assert parse_config({**STUDY, "corpus": {"path": "a", "window": 64}}, "here").corpus_config == CorpusConfig(
        path="a", window=64
    )
    assert parse_config({**STUDY, "corpus": None}, "here").corpus_config is None
    assert parse_config(STUDY, "here").seed_list == [3, 5]
    assert parse_config({**STUDY, "seeds": 2}, "here").seed_list == [0, 1]


def test_a_key_that_stands_twice_is_refused(tmp_path: Path) -> None:
    """Plain YAML would keep the last arm of a name and drop the others without a word."""
    file = tmp_path / "study.yaml"
    file.write_text("name: a\narms:\n  tlm: {stages: []}\n  tlm: {stages: []}\n")
    with pytest.raises(ConfigError, match=r"study\.yaml.*'tlm' a second time in line 4"):
        load_config(file)
