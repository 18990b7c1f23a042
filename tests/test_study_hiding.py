"""What is hidden, looked at: probabilities, lifts and overlaps are right, and the report shows them safely."""

import io
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from typer.testing import CliRunner

from conftest import make_task, tiny_study
from test_study_report import ARMS, Page, change, fake_run, report
from trivium import seeds
from trivium.cli import app
from trivium.encoders import train_tokenizer
from trivium.masking import Batch, Draw, Known, Masker, RandomTokens, ScoredMasker, WholeWord
from trivium.masking.features import WordFeatures
from trivium.masking.language import Unsure
from trivium.masking.linguistic import Punctuation
from trivium.masking.policy import PolicyScorer, fresh_policy
from trivium.masking.words import WordTable, keys_of, spelled
from trivium.nmg.settled import interval, verdict_on
from trivium.study.hiding import COMPARED, Hidden, _affordable, chance_overlap, describe, overlap
from trivium.study.hiding_sample import COARSE, SHOWN, Sample, coarse_class, installed_pipeline
from trivium.study.hiding_text import print_hiding
from trivium.study.report_hiding import hiding_rows, policy_sentence
from trivium.study.runner import choose_maskers, run
from trivium.training import Encoder, Scratch

NAMES = ["Ada", "Bob", "the", "of", "mast", "rudder", "harbour", "keel", "<b>bold</b>", "1815", "42", "7,000", ".", ","]
EVERY = {"words": 0.2, "tokens": 0.2}


def lines(many: int = 300, seed: int = 0) -> list[str]:
    rng = seeds.numpy_rng(seed, "lines")
    return [" ".join(rng.choice(NAMES, int(rng.integers(4, 30)))) for _ in range(many)]


@pytest.fixture(scope="module")
def pieces() -> Any:
    """A tokenizer that cuts longer words into pieces."""
    return train_tokenizer(lines(), 70)


@pytest.fixture(scope="module")
def sample(pieces: Any) -> Sample:
    return Sample.of(pieces, lines(), length=64)


@dataclass(frozen=True)
class Digits:
    """Hides the words that are numbers, always, and nothing else."""

    tokenizer: Any

    def choose(self, batch: Batch, rng: torch.Generator) -> torch.Tensor:
        numbers = [i for i in range(len(self.tokenizer)) if spelled(self.tokenizer, [i]).lstrip("#").isdigit()]
        return torch.isin(batch.ids, torch.tensor(numbers)) & batch.maskable


def row(rows: Any, name: str) -> Any:
    return next(each for each in rows if each["name"] == name)


def test_words_are_those_of_the_texts(sample: Sample) -> None:
    rebuilt = [""] * len(sample.encoded)
    for text, before, word in zip(sample.texts, sample.before, sample.written, strict=True):
        rebuilt[text] += before + word
    texts = set(lines())
    assert all(any(text.startswith(found) for text in texts) for found in rebuilt)
    assert sum(found in texts for found in rebuilt) > 100
    assert sample.pieces.sum() == (sample.encoded.words >= 0).sum()
    assert sample.pieces.max() > 1
    assert sample.shown == SHOWN
    assert all(6 <= n <= 40 for n in np.bincount(sample.texts)[:SHOWN])


def test_the_same_seed_draws_the_same_sample(pieces: Any, sample: Sample) -> None:
    assert Sample.of(pieces, lines(), length=64).written == sample.written
    assert Sample.of(pieces, lines(), seed=1, length=64).written != sample.written


@pytest.mark.parametrize("masker", [RandomTokens(0.2), WholeWord(0.2)])
def test_random_masking_hides_its_rate_and_prefers_nothing(masker: Masker, sample: Sample) -> None:
    told, _ = describe(masker, sample)
    assert told["share"] == pytest.approx(EVERY, abs=0.01)
    assert all(lift == pytest.approx(1, abs=0.06) for lift in (r["lift"] for r in [*told["classes"], *told["bands"]]))
    assert told["lifted"] == told["avoided"] == []
    assert told["random"]
    shown = [p for text in told["texts"] for _, _, p in text["words"]]
    assert np.mean(shown) == pytest.approx(0.2, abs=0.02)
    assert np.std(shown) < 0.05
    assert (told["weights"], told["learning"], told["verdict"]) == ({}, None, None)


def test_what_hides_digits_alone_is_found_out(pieces: Any, sample: Sample) -> None:
    told, _ = describe(Digits(pieces), sample)
    numbers = row(told["classes"], "number")
    assert numbers["hidden"] == pytest.approx(sum(r["hidden"] for r in told["classes"]))
    assert numbers["lift"] == pytest.approx(1 / numbers["share"])
    assert {r["lift"] for r in told["classes"] if r["name"] not in ("number", "other word")} == {0}
    assert {r["word"] for r in told["lifted"]} == {"1815", "42", "7", "000"}
    assert {"mast", "ada"} <= {r["word"] for r in told["avoided"]}
    assert all(r["lift"] < 0.3 and not r["word"].isdigit() for r in told["avoided"])
    for text in told["texts"]:
        for _, word, chance in text["words"]:
            assert chance == float(word.isdigit()), word


def test_shares_add_up_in_every_grouping(pieces: Any, sample: Sample) -> None:
    masker = Punctuation(0.3).fit(Known(make_task(6), lines(), pieces, models=None))  # type: ignore[arg-type]
    told, _ = describe(masker, sample)
    for rows in (told["classes"], told["bands"]):
        assert sum(r["words"] for r in rows) == told["sample"]["words"] == len(sample.written)
        assert sum(r["share"] for r in rows) == pytest.approx(1)
        assert sum(r["hidden"] for r in rows) == pytest.approx(1)
        assert sum(r["lift"] * r["share"] for r in rows) == pytest.approx(1)
    assert told["share"]["words"] == pytest.approx(0.3, abs=0.01)
    assert told["share"]["tokens"] < 0.27, "signs are short"
    assert row(told["classes"], "punctuation")["lift"] > 1.5


def test_long_words_show_in_the_share_of_tokens(pieces: Any, sample: Sample) -> None:
    ids = pieces("harbour", add_special_tokens=False)["input_ids"]
    assert len(ids) > 3
    key = int(keys_of(np.array(ids), np.array([0]))[0])
    long = Draw(0.1, temperature=0).by(WordTable.of({key: 1.0}, {key: "harbour"}, 0.0))
    share = describe(long, sample)[0]["share"]
    assert share["tokens"] > 1.2 * share["words"]


def test_bands_hold_a_quarter_each_and_rarer_words_come_first() -> None:
    words = [f"w{i}" for i in range(60) for _ in range(i + 1)]
    texts = [" ".join(words[i : i + 30]) for i in range(0, len(words), 30)]
    found = Sample.of(train_tokenizer(texts, 500), texts)
    names, band, examples = found.bands()
    assert len(names) == 4
    assert names[-1].endswith("to 60 times")
    assert np.bincount(band) / len(band) == pytest.approx([0.25] * 4, abs=0.03)
    times = np.array([int(word[1:]) + 1 for word in found.written])
    assert all(times[band == b].max() < times[band == b + 1].min() for b in range(3))
    assert examples[names[-1]][0] == "w59"


def test_classes_need_no_model() -> None:
    words = {"The": "function word", "mast": "other word", "1,000": "number", "20%": "number", "...": "punctuation"}
    assert {word: coarse_class(word) for word in words} == words
    assert coarse_class("") == "punctuation"


def test_a_pipeline_says_what_words_are(pieces: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spacy = pytest.importorskip("spacy")
    nlp = spacy.blank("en")
    nlp.add_pipe("entity_ruler").add_patterns([{"label": "PERSON", "pattern": "Ada"}])
    nlp.add_pipe("attribute_ruler").add([[{"LOWER": "mast"}]], {"POS": "NOUN"})
    nlp.to_disk(tmp_path / "rules")
    found = Sample.of(pieces, lines(), length=64, pipeline=str(tmp_path / "rules"))
    pairs = set(zip(found.written, found.classes, found.entities, strict=True))
    assert {("mast", "noun", "no name"), ("Ada", "other", "PERSON"), ("the", "other", "no name")} <= pairs
    assert found.classes_by.startswith("spaCy, en_")
    told, _ = describe(WholeWord(), found)
    assert [r["name"] for r in told["entities"]] == ["no name", "PERSON"]
    blank = spacy.blank("en")
    blank.to_disk(tmp_path / "blank")
    without = Sample.of(pieces, lines(), length=64, pipeline=str(tmp_path / "blank"))
    assert (without.classes_by, without.entities) == (COARSE, ())
    monkeypatch.setattr("spacy.util.get_installed_models", lambda: ["de_core_news_sm", "en_x", "en_core_web_sm"])
    assert installed_pipeline() == "en_core_web_sm"
    monkeypatch.setattr("spacy.util.get_installed_models", lambda: ["de_core_news_sm"])
    assert installed_pipeline() is None


def test_a_costly_masker_is_asked_about_some_texts_alone(
    sample: Sample, fresh: Callable[[Scratch], Encoder], monkeypatch: pytest.MonkeyPatch
) -> None:
    masker = Draw().by(Unsure(fresh(Scratch("tiny", vocabulary=512)), 6))
    assert _affordable(WholeWord(), sample) == len(sample.encoded) == 300
    assert _affordable(masker, sample) == 200
    monkeypatch.setattr("trivium.study.hiding._WORK", 4e9)
    some = _affordable(masker, sample)
    assert 16 < some < 200
    assert some < _affordable(Draw().by(Unsure(masker.scorer.encoder, 3)), sample)  # type: ignore[attr-defined]
    monkeypatch.setattr("trivium.study.hiding._WORK", 1)
    assert _affordable(masker, sample) == 16


def test_what_an_encoder_hides_is_compared_on_the_texts_that_it_was_asked_about(
    task: Any, tokenizer: Any, fresh: Callable[[Scratch], Encoder], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trivium.study.hiding._WORK", 1)
    found = Sample.of(tokenizer, task.texts("train"), length=32)
    told, few = describe(Draw(0.3).by(Unsure(fresh(Scratch("tiny", vocabulary=512)), 2)), found)
    assert told["sample"]["texts"] == 16
    assert told["share"]["words"] == pytest.approx(0.3, abs=0.02)
    _, all_of_them = describe(WholeWord(0.3), found)
    both = overlap(few, all_of_them)
    assert both == overlap(few, Hidden(all_of_them.words[:, : few.words.shape[1]], few.texts))
    assert both["chance"] == pytest.approx(0.18, abs=0.04)


def test_a_masker_has_all_in_common_with_itself(sample: Sample) -> None:
    _, random = describe(WholeWord(0.2), sample)
    same = overlap(random, random)
    assert same["jaccard"] == 1
    assert same["apart"] == pytest.approx(same["chance"], abs=0.01)
    assert same["chance"] == pytest.approx(0.2 / 1.8, abs=0.02)


def test_one_that_leaves_nothing_to_chance_agrees_with_itself_in_any_draws(pieces: Any, sample: Sample) -> None:
    _, digits = describe(Digits(pieces), sample)
    same = overlap(digits, digits)
    assert (same["jaccard"], same["apart"]) == (1, 1)
    assert same["chance"] < 0.3
    _, other = describe(WholeWord(0.2), sample)
    assert overlap(digits, other)["apart"] == pytest.approx(overlap(digits, other)["chance"], abs=0.01)


def test_overlap_is_symmetric_and_none_where_nothing_is_hidden(pieces: Any, sample: Sample) -> None:
    (_, a), (_, b) = describe(Digits(pieces), sample), describe(RandomTokens(0.3), sample)
    assert overlap(a, b)["jaccard"] == overlap(b, a)["jaccard"]
    nothing = Hidden(np.zeros_like(a.words), a.texts)
    assert overlap(nothing, nothing) == {"jaccard": None, "apart": None, "chance": None}
    assert overlap(a, nothing)["jaccard"] == 0
    empty = Hidden(np.zeros((COMPARED, 0), bool), np.zeros(0, np.int64))
    assert overlap(empty, a)["jaccard"] is None


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 6), st.data())
def test_chance_is_the_mean_over_all_sets(words: int, data: st.DataObject) -> None:
    a, b = data.draw(st.integers(0, words)), data.draw(st.integers(0, words))
    first = set(range(a))
    every = [len(first & set(s)) / max(1, len(first | set(s))) for s in combinations(range(words), b)]
    assert chance_overlap(words, a, b) == pytest.approx(np.mean(every))


@pytest.mark.parametrize("texts", [[], [""], ["mast"], ["", "the mast", "…"]])
def test_texts_of_next_to_nothing(texts: list[str], pieces: Any) -> None:
    found = Sample.of(pieces, texts)
    told, hidden = describe(WholeWord(0.2), found)
    assert told["sample"]["words"] == len(found.written) <= 3
    assert json.loads(json.dumps(told)) == told
    overlap(hidden, hidden)
    print_hiding({"arms": {"a": {**told, "masker": {"kind": "x"}}}, "overlap": []}, Console(file=io.StringIO()))
    assert hiding_rows({"a": told}, []) is not None


@pytest.fixture(scope="module")
def learned(pieces: Any) -> ScoredMasker:
    """A policy that prefers long words, as if it had been learned."""
    features = WordFeatures.of_texts(Known(make_task(6), lines(), pieces, models=None))  # type: ignore[arg-type]
    policy = fresh_policy("linear", len(features.names), 0)
    with torch.no_grad():
        policy.weight[list(features.names).index("pieces")] = 1.5
        policy.weight[list(features.names).index("punctuation")] = -0.5
    rng = seeds.numpy_rng(0, "history")
    history = [{"difference": float(d)} for d in rng.normal(0.01, 0.02, 30)]
    about = {"history": history, "verdict": verdict_on(rng.normal(0.02, 0.01, 12).tolist())}
    return Draw(0.2).by(PolicyScorer("linear", policy, features), about)


def test_a_policy_can_be_read(learned: ScoredMasker, sample: Sample) -> None:
    told, _ = describe(learned, sample)
    assert list(told["weights"])[:2] == ["pieces", "punctuation"]
    assert told["weights"]["pieces"] == 1.5
    assert told["share"]["tokens"] > told["share"]["words"]
    history = told["learning"]
    assert history["differences"] == [one["difference"] for one in learned.about["history"]]
    assert history["mean"][:10] == [None] * 10
    assert [history[key][-1] for key in ("mean", "low", "high")] == list(interval(history["differences"][15:]))
    assert told["verdict"] == learned.about["verdict"]
    assert json.loads(json.dumps(told)) == told


def test_a_verdict_is_one_sentence() -> None:
    verdict = {"verdict": "helped", "delta": 0.0123, "low": 0.002, "high": 0.0226, "episodes": 12}
    assert policy_sentence(verdict).startswith("The policy did better than random masking: +0.0123 nats a row in 12 ")
    hurt = policy_sentence({**verdict, "verdict": "hurt", "delta": -0.01, "low": -0.02, "high": -0.001})
    assert "worse than random masking: −0.01 nats" in hurt
    assert "[−0.02, −0.001]" in hurt
    open_ = policy_sentence({**verdict, "verdict": "no evidence", "low": -0.01, "smallest_detectable": 0.0161})
    assert open_.startswith("No evidence that the policy is better or worse")
    assert "an effect of 0.0161 in four of five cases" in open_
    assert policy_sentence(None) == ""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, sample: Sample, pieces: Any, learned: ScoredMasker) -> Path:
    """A run folder whose arms hide in three ways."""
    place = fake_run(tmp_path_factory.mktemp("hidden") / "run")
    maskers: dict[str, Masker] = {"random": WholeWord(0.2), "tlm": Digits(pieces), "tlm-whole-word": learned}
    seen = {arm: describe(masker, sample) for arm, masker in maskers.items()}
    for arm, (told, _) in seen.items():
        (place / "artifacts" / f"hiding-{arm}").mkdir()
        (place / "artifacts" / f"hiding-{arm}" / "hiding.json").write_text(json.dumps(told))
    overlaps = [{"a": a, "b": b, **overlap(seen[a][1], seen[b][1])} for a, b in combinations(seen, 2)]
    hiding = {"arms": {arm: f"hiding-{arm}" for arm in seen}, "overlap": overlaps}
    change(place, "manifest.json", lambda manifest: manifest.update(hiding=hiding))
    return place


def test_the_report_says_what_was_hidden(folder: Path) -> None:
    page, text = report(folder)
    assert page.rows("Share of words")["random"] == ["20.0 %", "20.0 %", "none stands out", "none stands out"]
    assert "1815 ×" in page.rows("Share of words")["tlm"][2]
    lifts = page.rows("Lift by class of word")
    assert lifts["class of word"] == ["of all words", *list(ARMS)[1:]]
    assert float(lifts["number"][2]) > 2
    assert lifts["function word"][2] == "0"
    assert set(page.rows("Overlap")) == {
        "arms",
        "random and tlm",
        "random and tlm-whole-word",
        "tlm and tlm-whole-word",
    }
    assert page.rows("The largest weights")["pieces"][0] == "+1.5"
    assert "The policy did better than random masking" in page.text
    assert "## What was hidden" in text
    assert "tlm-whole-word: The policy did better" in text
    assert max(map(len, text.splitlines())) <= 120


def test_the_texts_are_shaded_and_not_by_colour_alone(folder: Path) -> None:
    page, source = Page(write(folder)), (folder / "report.html").read_text()
    spans = [
        about for tag, about in page.elements if tag == "span" and "title" in about and "draws" in str(about["title"])
    ]
    assert {"h5 often"} <= {str(about["class"]) for about in spans}
    assert {about["title"] for about in spans if about["class"] == "h5 often"} >= {"hidden in 100 % of draws"}
    assert "text-decoration: underline" in source
    assert source.count('class="heat"') == 2 * 3, "random masking has no texts to look at"
    for shade in range(1, 6):
        assert f".h{shade} {{ background:" in source


def write(folder: Path) -> Path:
    report(folder)
    return folder / "report.html"


def test_words_stay_text_and_bytes_the_same(folder: Path, tmp_path: Path) -> None:
    report(folder)
    source = (folder / "report.html").read_bytes()
    copy = shutil.copytree(folder, tmp_path / "copy")
    report(copy)
    assert (copy / "report.html").read_bytes() == source
    hostile = "<script>alert(1)</script>"

    def edit(told: Any) -> None:
        told["texts"][0]["words"][:2] = [["<b>", hostile, 0.9], ["\n", f'"{hostile}', 0.0]]
        told["lifted"][:1] = [{"word": hostile, "count": 9, "lift": 3.0}]
        told["weights"] = {hostile: 1.0}
        told["classes"][0]["name"] = hostile

    change(copy, "artifacts/hiding-tlm/hiding.json", edit)
    page, text = report(copy)
    assert [tag for tag, _ in page.elements if tag in ("script", "b")] == ["script"]  # the page's own
    assert page.text.count(hostile) >= 3
    assert "<script>" not in text.replace(r"\<script>", "")


def test_where_all_hide_at_random_the_report_says_nothing_of_it(folder: Path, tmp_path: Path) -> None:
    place = shutil.copytree(folder, tmp_path / "plain")
    grown = len(write(place).read_bytes())
    change(place, "manifest.json", lambda manifest: manifest.pop("hiding"))
    write(place)
    for name in ("report.html", "report.md"):
        assert "hat was hidden" not in (place / name).read_text()
    assert grown - len((place / "report.html").read_bytes()) < 60_000, "nor does the report grow much where it does"


def test_what_is_missing_is_said(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "run")
    shutil.rmtree(copy / "artifacts" / "hiding-tlm")
    page, _ = report(copy)
    assert "hiding.json is missing" in page.text
    assert set(page.rows("Share of words")) == {"arm", "random", "tlm-whole-word"}


def shown(told: Any, **options: Any) -> str:
    file = io.StringIO()
    print_hiding(told, Console(file=file, width=100, **options))
    return file.getvalue()


def test_the_terminal_can_do_without_colour(folder: Path) -> None:
    kinds = {"tlm": {"kind": "digits", "rate": 0.2}, "tlm-whole-word": {"kind": "nmg"}}
    abouts = {arm: json.loads((folder / "artifacts" / f"hiding-{arm}" / "hiding.json").read_text()) for arm in kinds}
    told = {"arms": {arm: {**abouts[arm], "masker": kinds[arm]} for arm in kinds}, "overlap": []}
    plain = shown(told)
    assert "digits (rate 0.2)" in plain
    assert "‹1815›" in plain
    assert "‹the›" not in plain.partition("nmg")[0]
    assert "\x1b" not in plain
    assert "The policy did better than random masking" in " ".join(plain.split())
    assert re.search(r"weights +pieces \+1.5, punctuation −0.5", plain)
    colour = shown(told, force_terminal=True, color_system="truecolor")
    assert "‹" not in colour
    assert re.search("\x1b\\[[0-9;]*4[0-9;]*m1815", colour), "underlined"
    assert shown({"arms": {}, "overlap": []}) == "No arm hides anything: no stage fills gaps.\n"


TUNE = {"preset": "finetune", "updates": 2, "batch_rows": 8}
TAPT = {"preset": "tapt", "epochs": 1, "batch_tokens": 512, "max_length": 32}


def study_file(data: Path, place: Path, **maskers: Any) -> Path:
    arms = {arm: {"masker": masker, "stages": [TAPT, TUNE]} for arm, masker in maskers.items()}
    raw = {
        **tiny_study(data),
        "corpus": None,
        "linear": False,
        "seeds": 1,
        "arms": {"finetune": {"stages": [TUNE]}, **arms},
    }
    file = place / "study.yaml"
    file.write_text(yaml.safe_dump(raw, sort_keys=False))
    return file


KINDS = {
    "whole": {"kind": "whole_word"},
    "signs": {"kind": "punctuation"},
    "informask": {"kind": "informask", "rate": 0.3},
}


def test_the_verb_shows_what_run_finds(data: Path, tmp_path: Path) -> None:
    file = study_file(data, tmp_path, **KINDS)
    runs = tmp_path / "runs"
    call = CliRunner().invoke(app, ["masker", str(file), "--runs", str(runs)], catch_exceptions=False)
    assert call.exit_code == 0, call.output
    for said in ("whole: whole_word (rate 0.15)", "informask: informask (rate 0.3", "lift by class", "overlap:"):
        assert said in call.output
    assert not list((runs / "tiny" / "artifacts").glob("stage-*"))
    told = json.loads(CliRunner().invoke(app, ["masker", str(file), "--runs", str(runs), "--json"]).stdout)
    assert list(told["arms"]) == list(KINDS)
    assert told["arms"]["informask"]["share"]["words"] == pytest.approx(0.3, abs=0.02)
    assert {(pair["a"], pair["b"]) for pair in told["overlap"]} == set(combinations(KINDS, 2))
    assert told == choose_maskers(file, runs=runs)
    done = run(file, runs=runs)
    manifest = json.loads((done.folder / "manifest.json").read_text())
    made = {artifact["kind"] for artifact in manifest["artifacts"] if artifact["status"] == "made"}
    assert made == {"stage", "score"}, "maskers were ready, and what they hide was looked at"
    assert manifest["hiding"]["arms"] == {arm: Path(about["folder"]).name for arm, about in told["arms"].items()}
    assert manifest["hiding"]["overlap"] == told["overlap"]
    assert "informask" in Page(done.report).rows("Share of words")


def test_a_study_that_hides_at_random_is_not_looked_at_unless_one_asks(data: Path, tmp_path: Path) -> None:
    file = study_file(data, tmp_path, whole=KINDS["whole"])
    done = run(file, runs=tmp_path)
    assert "hiding" not in json.loads((done.folder / "manifest.json").read_text())
    assert not list((done.folder / "artifacts").glob("hiding-*"))
    assert list(choose_maskers(file, runs=tmp_path)["arms"]) == ["whole"]
