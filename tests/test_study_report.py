"""The report of a run: what it says is what the run folder says, in one file that asks nobody for anything."""

import base64
import hashlib
import html
import json
import math
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from trivium.core import Score, Task
from trivium.errors import ArtifactError
from trivium.kinds.metrics import CLASSIFICATION, accuracy, classification_counts
from trivium.study.judging import score_line
from trivium.study.report import write_report
from trivium.study.report_markdown import _columns
from trivium.study.report_run import read_run
from trivium.study.report_text import interval, marked, points, signed, spread
from trivium.study.report_verdict import cautions, headline
from trivium.study.verdict import ArmResult, decide
from trivium.training.recipes import Scratch, make_stage

LABELS = ("background", "method", "result", "motivation", "extension", "future work")
ARMS = {"finetune": 0.62, "random": 0.68, "tlm": 0.75, "tlm-whole-word": 0.745}  # how often they are right
HOSTILE = '<script src="//x.example/y.js"></script><img src=x onerror=alert(1)>"\'&amp; {{ 7 * 7 }} </style></pre>'

TEXTS = (
    "We extract relations between chemicals and proteins from abstracts, and find that inhibitors are confused with "
    "antagonists more often than with any other relation.",
    "The enzyme was purified in three steps; its activity fell by half when the inhibitor was added to the medium, "
    "which is what earlier work on related enzymes had led us to expect.",
    "Future work will extend the method to longer documents, in which the two entities seldom share a sentence.",
)


def fake_run(
    folder: Path,
    *,
    arms: Mapping[str, float] = ARMS,
    seeds: Sequence[int] = (0, 1, 2),
    labels: Sequence[str] = LABELS,
    failed: Mapping[str, str] | None = None,
    linear: float | None = 0.66,
    half_width: float = 0.03,
    updates: Mapping[str, int] | None = None,
    text: str = "",
) -> Path:
    """A run folder like those that ``trivium run`` leaves, with numbers that agree with each other.

    Args:
        folder: Where.
        arms: How often each arm is right; the first is the baseline, all others read documents.
        seeds: The seeds.
        labels: The labels.
        failed: Arms that could not be trained, and why.
        linear: How often the linear model is right.
        half_width: Of every interval.
        updates: Planned updates of an arm, where they are not 600.
        text: Put into every place that holds text of the user's.
    """
    failed = failed or {}
    rng = np.random.default_rng(0)
    gold = rng.choice(len(labels), 400, p=(share := np.linspace(3, 1, len(labels))) / share.sum())
    table = pa.table({"text": ["-"] * len(gold), "label": gold})
    task = Task("citations", "classify", "macro_f1", tuple(labels), {"dev": table, "test": table})
    lines = []
    for arm, right in [*arms.items(), *([("linear", linear)] if linear is not None else [])]:
        for seed in () if arm in failed else seeds[:1] if arm == "linear" else seeds:
            scores = (_score(task, gold, right, split, rng) for split in ("dev", "test"))
            lines += [score_line(arm, seed, score, task) for score in scores]
    verdict = _verdict(task, list(arms), seeds, lines, failed, half_width, linear is not None)
    folder.mkdir(parents=True)
    _write(folder / "verdict.json", verdict)
    _write(folder / "manifest.json", _manifest(arms, seeds, updates or {}, text))
    (folder / "scores.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    events = [event for arm in arms if arm not in failed for seed in seeds for event in _events(arm, seed, rng)]
    (folder / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    config = {"name": "citations", "seeds": list(seeds), "task": {"path": f"data/citations{text}"}}
    config |= {"encoder": {"scratch": "mini"}, "baseline": next(iter(arms))}
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
    for kind in ("random-0", "random-1", "bm25"):
        place = folder / "artifacts" / f"documents-{kind}"
        place.mkdir(parents=True)
        _write(place / "examples.json", _chosen(kind == "bm25", text))
        (place / "audit.jsonl").write_text("".join(json.dumps(leak) + "\n" for leak in _left_out(text)))
    return folder


def _score(task: Task, gold: np.ndarray, right: float, split: Any, rng: np.random.Generator) -> Score:
    wrong = (gold + rng.integers(1, max(2, len(task.labels)), len(gold))) % len(task.labels)
    said = np.where(rng.random(len(gold)) < right, gold, wrong)
    sure = np.random.default_rng(int(1000 * said.mean())).uniform(0.75, 1, len(gold))  # surer than it may be
    chances = np.repeat((1 - sure)[:, None] / max(1, len(task.labels) - 1), len(task.labels), 1)
    chances[np.arange(len(gold)), said] = sure
    counts = classification_counts(gold, said, len(task.labels)).sum(0)
    values = {name: float(metric(counts)) for name, metric in CLASSIFICATION.items()}
    return Score(task.name, split, task.metric, values, gold, said, chances)


def _verdict(
    task: Task, arms: list[str], seeds: Sequence[int], lines: Any, failed: Any, half: float, linear: bool
) -> dict[str, Any]:
    about: dict[str, Any] = {}
    for arm in [*arms, *(["linear"] if linear else [])]:
        scores = [s["values"][task.metric] for s in lines if s["arm"] == arm and s["split"] == "test"]
        trained = arm != "linear" and arm not in failed
        about[arm] = {
            "mean": float(np.mean(scores)) if scores else None,
            "sd": float(np.std(scores, ddof=1)) if len(scores) > 1 else None,
            "per_seed": scores,
            "updates": 540 if trained else 0,
            "tokens": (310_000 if arm == arms[0] else 2_140_000) if trained else 0,
            "seconds": 310.2 if trained else 0.0,
            "failed": failed.get(arm),
        }
    pairs = [(arm, arms[0]) for arm in arms[1:]]
    pairs += [("tlm", "random")] if {"tlm", "random"} <= set(arms) else []
    pairs += [(arm, "linear") for arm in arms] if linear else []
    comparisons = []
    for arm, other in pairs:
        if arm not in failed and other not in failed:
            comparisons.append(compared(arm, other, about[arm]["mean"] - about[other]["mean"], half))
    top = {"study": "citations", "task": task.name, "metric": task.metric, "split": "test", "baseline": arms[0]}
    return {**top, "seeds": list(seeds), "arms": about, "comparisons": comparisons}


def compared(arm: str, other: str, delta: float, half: float = 0.02) -> dict[str, Any]:
    """A comparison as ``verdict.json`` has it."""
    low, high = delta - half, delta + half
    verdict = "helped" if low > 0 else "hurt" if high < 0 else "no evidence"
    return {
        "arm": arm,
        "baseline": other,
        "delta": delta,
        "low": low,
        "high": high,
        "p_holm": 0.2 if verdict == "no evidence" else 0.0004,
        "verdict": verdict,
        "smallest_detectable": 1.2 * half,
        "sentence": f"{arm} {verdict}: {signed(delta)} points of macro-F1 {interval(low, high)}",
    }


def _manifest(arms: Mapping[str, float], seeds: Sequence[int], updates: Mapping[str, int], text: str) -> dict[str, Any]:
    described = {}
    for i, arm in enumerate(arms):
        chosen = "none" if i == 0 else "random" if arm == "random" else "bm25"
        stages = [{"preset": "finetune", "updates": updates.get(arm, 600) - 400 * (i > 0)}]
        stages = [{"preset": "tlm-joint", "updates": 400}, *stages] if i else stages
        folders = {"none": [None], "random": ["documents-random-0", "documents-random-1"], "bm25": ["documents-bm25"]}
        described[arm] = {
            "documents": {str(seed): folders[chosen][n % len(folders[chosen])] for n, seed in enumerate(seeds)},
            "selector": {"kind": chosen, **({"max_tokens": 2_000_000, "per_query": 50} if i else {})},
            "masker": {"kind": "whole_word" if "whole" in arm else "random", "rate": 0.15},
            "stages": [asdict(make_stage(options, Scratch(), arm)) for options in stages],
            "budget": {"updates": updates.get(arm, 600)},
        }
    return {
        "trivium": "0.1.0",
        "revision": "1d95eb1",
        "python": "3.12.1",
        "packages": {"torch": "2.9.0", "numpy": "2.3.1"},
        "hardware": {"cpu": "An Ordinary Processor @ 2.40GHz", "cores": 2, "memory_gb": 15.6, "gpu": None},
        "started": "2026-03-01T10:00:00+00:00",
        "inputs": {"task": "5f0c3b2e9d8a71460b1c", "corpus": "90aa17c4e35b22d81f06"},
        "notes": [f"citations: there was no dev split; 10 % of train (412 rows) were set aside as dev.{text}"],
        "command": f"trivium run citations.yaml seeds={len(seeds)}{text}",
        "arms": described,
        "status": "finished",
        "seconds": 4321.0,
        "finished": "2026-03-01T11:12:01+00:00",
        "artifacts": [{"folder": "documents-bm25", "kind": "documents", "seconds": 12.25, "status": "made"}],
    }


def _events(arm: str, seed: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    about = {"arm": arm, "seed": seed, "stage": "finetune"}
    events: list[dict[str, Any]] = []
    for update in range(12, 541, 12):
        noise = 0.02 * rng.standard_normal()
        mlm = None if arm == "finetune" else 6.5 - 2.5 * (1 - np.exp(-update / 200)) + noise
        task = 1.8 * np.exp(-update / 150) + abs(noise)
        events.append({**about, "event": "loss", "update": update, "mlm": mlm, "task": task})
        if update % 60 == 0:
            value = ARMS.get(arm, 0.6) * (1 - np.exp(-update / 120)) + noise
            tokens = (9 if arm == "finetune" else 60) * update
            events.append({**about, "event": "look", "update": update, "tokens": tokens, "value": value, "loss": 1})
            if arm != "finetune":
                layers = {"embeddings": 0.1 + noise, "1": 0.05 - noise, "2": -0.1 + noise, "top": 0.3}
                events.append(
                    {**about, "event": "gradients", "update": update, "cosine": 0.1 + noise, "layers": layers}
                )
    return events


def _chosen(matched: bool, text: str) -> dict[str, Any]:
    shown = [
        {
            "id": 1000 + i,
            "source": f"abstracts{text}" if i else "web",
            "text": f"{document}{text}",
            "score": 21.5 - i if matched else None,
            "rank": i if matched else None,
            "query_row": 17 + i if matched else None,
            "query_text": f"The inhibitor was added to three enzymes.{text}" if matched else None,
            "label": "method" if matched else None,
            "terms": ["inhibitor", "enzymes", "three", "was"] if matched else [],
        }
        for i, document in enumerate(TEXTS[:2] + TEXTS)
    ]
    left_out = {"heldout_equal": 3, "contaminated": 7, "duplicates": 120, "near_duplicates": 41}
    counts = {"candidates": 41_230, **left_out, "documents": 18_400, "words": 1_999_950}
    sources = {f"abstracts{text}": 12_000, "web": 6_400}
    return {"counts": counts, "sources": sources, "kl_reduction": 0.0973, "examples": shown}


def _left_out(text: str) -> list[dict[str, Any]]:
    about = {"split": "test", "shared": 4, "start": 12, "end": 96}
    whole = {"document": 77, "row": 12, "rule": "equal", "text": TEXTS[0] + text}
    part = {"document": 4711, "row": 3, "rule": "13-gram", "text": TEXTS[1]}
    return [{**about, **whole}, {**about, **part}]


def _write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False), encoding="utf-8")


def change(folder: Path, name: str, edit: Callable[[Any], None]) -> None:
    """Edit a JSON file in place."""
    value = json.loads((folder / name).read_text())
    edit(value)
    _write(folder / name, value)


class Page(HTMLParser):
    """A page's elements, its tables by caption, and all its text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.tables: list[list[list[str]]] = []
        self._words: list[str] = []
        self._open: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._open.append(tag)
        if tag == "caption":
            self.tables.append([[""]])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self._open):
            self._words.append(data)
        if {"td", "th", "caption"} & set(self._open):
            self.tables[-1][-1][-1] += data

    @property
    def text(self) -> str:
        """What a reader sees, in one line."""
        return " ".join("".join(self._words).split())

    def table(self, caption: str) -> list[list[str]]:
        """The table with such a caption; the caption is its first row."""
        found = next(table for table in self.tables if caption in table[0][0])
        return [[" ".join(cell.split()) for cell in row] for row in found]

    def rows(self, caption: str) -> dict[str, list[str]]:
        """The rows of the table with such a caption, by what stands in their first cell."""
        return {row[0]: row[1:] for row in self.table(caption)[1:]}


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = fake_run(tmp_path_factory.mktemp("runs") / "citations")
    write_report(folder)
    return folder


def report(folder: Path) -> tuple[Page, str]:
    """Write a report; the page, and the Markdown."""
    page = write_report(folder)
    return Page(page), (folder / "report.md").read_text(encoding="utf-8")


def test_the_same_folder_gives_the_same_bytes(usual: Path, tmp_path: Path) -> None:
    first = [(usual / name).read_bytes() for name in ("report.html", "report.md")]
    copy = shutil.copytree(usual, tmp_path / "elsewhere")
    write_report(copy)
    assert [(copy / name).read_bytes() for name in ("report.html", "report.md")] == first


def test_the_page_asks_nobody_for_anything(usual: Path) -> None:
    page = Page(usual / "report.html")
    for tag, attributes in page.elements:
        assert tag not in ("iframe", "object", "embed", "base", "form", "img")
        for name, value in attributes.items():
            assert name not in ("src", "srcset", "action", "ping")
            assert not name.startswith("on")
            assert "//" not in (value or ""), (tag, name, value)
            if name in ("href", "xlink:href"):
                assert value in ("report.md", "verdict.json", "scores.jsonl", "data:,") or (value or "").startswith("#")
    style = (usual / "report.html").read_text().partition("<style>")[2].partition("</style>")[0]
    assert "@import" not in style
    assert "url(" not in style


def test_the_policy_lets_its_own_script_run_and_nothing_else(usual: Path) -> None:
    source = (usual / "report.html").read_text()
    scripts = re.findall(r"<script([^>]*)>(.*?)</script>", source, re.DOTALL)
    assert [attributes for attributes, _ in scripts] == [""]
    digest = base64.b64encode(hashlib.sha256(scripts[0][1].encode()).digest()).decode()
    policy = next(a["content"] for _, a in Page(usual / "report.html").elements if a.get("http-equiv"))
    assert policy is not None
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == f"'sha256-{digest}'"
    assert not {"connect-src", "frame-src", "font-src", "object-src"} & set(rules)


def test_every_table_has_a_caption_and_heads_with_a_scope(usual: Path) -> None:
    page = Page(usual / "report.html")
    tags = [tag for tag, _ in page.elements]
    assert tags.count("caption") == tags.count("table") > 10
    assert {a.get("scope") for tag, a in page.elements if tag == "th"} == {"col", "row", "rowgroup"}
    levels = [int(tag[1]) for tag in tags if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_calibration_is_that_of_the_scores(usual: Path) -> None:
    lines = [json.loads(line) for line in (usual / "scores.jsonl").read_text().splitlines()]
    errors = [s["calibration"]["ece"] for s in lines if (s["arm"], s["split"]) == ("tlm", "test")]
    row = Page(usual / "report.html").rows("How sure each arm is")["tlm"]
    reach = 4.302653 * np.std(errors, ddof=1) / math.sqrt(3)
    assert row[0] == points(float(np.mean(errors)))
    assert row[1] == interval(max(0.0, np.mean(errors) - reach), np.mean(errors) + reach)
    assert row[5] == "too sure"


def test_at_equal_tokens_arms_stand_where_all_had_read_as_much(usual: Path) -> None:
    """finetune reads 4,860 tokens in all; by then the others, with 60 an update, had one look, at 3,600."""
    page = Page(usual / "report.html")
    rows = page.rows("had read 4,860 tokens")
    events = [json.loads(line) for line in (usual / "events.jsonl").read_text().splitlines()]
    looks = [e for e in events if e["event"] == "look"]
    first = [e["value"] for e in looks if e["arm"] == "tlm" and e["update"] == 60]
    best = [max(e["value"] for e in looks if (e["arm"], e["seed"]) == ("finetune", seed)) for seed in (0, 1, 2)]
    assert rows["tlm"][:2] == [points(np.mean(first)), interval(min(first), max(first))]
    assert rows["finetune"][:2] == [points(np.mean(best)), interval(min(best), max(best))]
    assert rows["tlm"][3] == "32,400"


def test_leaks_are_shown_with_the_words_that_gave_them_away(usual: Path) -> None:
    page, text = Page(usual / "report.html"), (usual / "report.md").read_text()
    rows = page.rows("Documents that were left out because")
    assert rows["4711"] == ["test 3", "13 words in a row", TEXTS[1]]
    assert rows["77"][:2] == ["test 12", "the whole text"]
    said = "At most, these were 3 that equal one and 7 that hold parts of one."
    assert said in page.text
    assert said in " ".join(text.split())


def test_cosines_are_means_over_seeds_and_updates(usual: Path) -> None:
    events = [json.loads(line) for line in (usual / "events.jsonl").read_text().splitlines()]
    found = [e["layers"]["2"] for e in events if e["event"] == "gradients" and e["arm"] == "random"]
    table = Page(usual / "report.html").table("Cosine of the two gradients")
    row = next(row for row in table if row[:2] == ["random", "2"])
    assert row[2] == f"{np.mean(found):+.2f}".replace("-", "−")


def test_likely_causes_stand_where_there_is_no_gain_and_nowhere_else(usual: Path, tmp_path: Path) -> None:
    assert "Likely causes" not in Page(usual / "report.html").text
    page, text = report(fake_run(tmp_path / "open", half_width=0.2))
    for said in (page.text, " ".join(text.split())):
        assert "Likely causes" in said
        assert "this study would have seen 24.0 or more" in said


def test_ids_are_unique_and_what_points_to_one_finds_it(usual: Path) -> None:
    page = Page(usual / "report.html")
    ids = Counter(attributes["id"] for _, attributes in page.elements if "id" in attributes)
    pointed = set(re.findall(r'(?:href="|url\()#([^")]+)', (usual / "report.html").read_text()))
    assert max(ids.values()) == 1
    assert pointed
    assert pointed <= set(ids)


def test_numbers_are_those_of_the_verdict(usual: Path) -> None:
    verdict = json.loads((usual / "verdict.json").read_text())
    page, text = Page(usual / "report.html"), (usual / "report.md").read_text()
    scores, answers = page.rows("each seed"), [row for row in page.table("First what was asked")[2:] if len(row) > 1]
    roles = {"finetune": " baseline", "linear": " reference"}
    for arm, about in verdict["arms"].items():
        of_seeds = list(map(points, about["per_seed"] if arm != "linear" else 3 * about["per_seed"]))
        assert scores[arm + roles.get(arm, "")][:4] == [spread(about["mean"], about["sd"]), *of_seeds]
        assert re.search(rf"\| {arm} .*\| +{spread(about['mean'], about['sd'])} \| +{' . +'.join(of_seeds)} \|", text)
    for c, row in zip(verdict["comparisons"], answers, strict=True):
        said = [signed(c["delta"]), interval(c["low"], c["high"]), points(c["smallest_detectable"])]
        assert row[0].split()[0] == c["arm"]
        assert row[1:4] == said
        assert re.search(rf"{c['arm']} +\| +{re.escape(said[0])} \| +{re.escape(said[1])} .*{said[2]} \|", text)


def test_each_question_has_its_answers(usual: Path) -> None:
    assert [row[0] for row in Page(usual / "report.html").table("First what was asked")[2:]] == [
        "Did it help? Against the baseline, finetune",
        "random ▲ helped",
        "tlm ▲ helped",
        "tlm-whole-word ▲ helped",
        "Did the choice matter? Against random",
        "tlm ▲ helped",
        "Is an encoder worth it? Against a linear model of words",
        "finetune ○ no evidence",
        "random ▲ better",
        "tlm ▲ better",
        "tlm-whole-word ▲ better",
    ]


def test_it_says_what_was_compared_and_how_to_repeat_it(usual: Path) -> None:
    page, text = Page(usual / "report.html"), (usual / "report.md").read_text()
    for part in ("trivium run citations.yaml seeds=3", "5f0c3b2e9d8a71460b1c", "0.1.0 (revision 1d95eb1)", "2 cores"):
        assert part in page.text
        assert part in text
    assert "there was no dev split" in page.text
    assert "Task citations · macro-F1 on test (400 rows) · mini encoder from scratch · 3 seeds" in page.text
    arms = page.rows("What each arm reads")
    assert arms["tlm"][2] == "tlm-joint (400 updates, documents 4 : task 1) → finetune (200 updates)"
    assert arms["finetune baseline"] == [
        "the task alone",
        "–",  # fine-tuning hides nothing, whatever the masker
        "finetune (600 updates)",
        "540 of 600",
        "310,000",
        "–",
        "5 min 10 s",
    ]
    assert "random read 7 times the tokens of finetune" in page.text


def test_choices_are_shown_once_with_their_readers_and_marked_words(usual: Path) -> None:
    page, source = Page(usual / "report.html"), (usual / "report.html").read_text()
    assert page.rows("What was chosen") == {
        "read by": ["chosen", "words", "KL reduction", "candidates", "held-out", "overlapping", "duplicates",
                    "near-duplicates"],
        "tlm; tlm-whole-word": ["18,400", "2.0 M", "+0.097", "41,230", "3", "7", "120", "41"],
        "random, seeds 0, 2": ["18,400", "2.0 M", "+0.097", "41,230", "3", "7", "120", "41"],
        "random, seed 1": ["18,400", "2.0 M", "+0.097", "41,230", "3", "7", "120", "41"],
    }  # fmt: skip
    left_out = "left out 3 equal to held-out text, 7 overlapping held-out text, 120 duplicates, 41 near-duplicates"
    assert " ".join((usual / "report.md").read_text().split()).count(left_out) == 3
    assert page.text.count("2 more examples") == 2  # those of a second seed are more of the same
    assert "<mark>enzymes</mark>" in source
    assert "The <mark>enzyme</mark>" not in source  # whole words, as retrieval saw them
    assert "Training row 17 (method) asked for it" in page.text


def test_many_sources_end_in_a_sum(usual: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(usual, tmp_path / "run")
    sources = {f"site {i:02}": 50 - i for i in range(30)}
    change(folder, "artifacts/documents-bm25/examples.json", lambda chosen: chosen.update(sources=sources))
    bars = {name: row[0] for name, row in report(folder)[0].rows("Documents by source").items()}
    assert len(bars) == 1 + 12
    assert bars["site 00"] == "50"
    assert bars["19 others"] == str(sum(list(sources.values())[11:]))


@pytest.mark.parametrize(
    ("comparisons", "said"),
    [
        ([compared("tlm", "finetune", 0.05)], "tlm helped: +5.0 points of macro-F1 [3.0, 7.0]"),
        ([compared("tlm", "finetune", -0.05)], "tlm hurt: −5.0 points of macro-F1 [−7.0, −3.0]"),
        ([compared("tlm", "finetune", 0.01)], "tlm no evidence: +1.0 points of macro-F1 [−1.0, 3.0]"),
        (
            [compared("tlm", "finetune", 0.05), compared("random", "finetune", -0.03), compared("x", "finetune", 0)],
            "Against finetune: tlm (+5.0) helped; random (−3.0) hurt; no evidence for x.",
        ),
        (
            [compared("tlm", "finetune", 0.01), compared("x", "finetune", 0.0), compared("tlm", "linear", 0.2)],
            "Against finetune: no evidence for tlm and x.",
        ),
        ([], "None of the other arms could be trained, so nothing can be compared with finetune."),
    ],
)
def test_the_headline_is_the_verdict(usual: Path, tmp_path: Path, comparisons: Any, said: str) -> None:
    folder = shutil.copytree(usual, tmp_path / "run")
    change(folder, "verdict.json", lambda verdict: verdict.update(comparisons=comparisons))
    change(folder, "verdict.json", lambda verdict: verdict["arms"].update(x=verdict["arms"]["tlm"]))
    assert headline(read_run(folder).verdict) == said


@pytest.mark.parametrize(
    ("right", "said"),
    [
        (0.9, r"x helped: \+\d+\.\d points of accuracy \["),
        (0.3, "x hurt: −"),
        (0.6, "no evidence that x differs from base"),
    ],
)
def test_a_real_verdict_is_told_as_it_was_decided(tmp_path: Path, right: float, said: str) -> None:
    rng = np.random.default_rng(0)

    def arm(name: str, right: float) -> ArmResult:
        hits = rng.random((3, 300)) < right
        outcomes = np.stack([classification_counts(np.zeros(300, int), (~hit).astype(int), 2) for hit in hits])
        return ArmResult(name, outcomes, 10, 1000, 1.0, None)

    arms = [arm("base", 0.6), arm("x", right)]
    seeds, pairs = (0, 1, 2), [("x", "base")]
    verdict = decide("s", "t", "accuracy", accuracy, "test", "base", seeds, arms, pairs, np.random.default_rng(0))
    _write(tmp_path / "verdict.json", verdict.to_json())
    page, text = report(tmp_path)
    assert re.match(said, headline(verdict.to_json()))
    assert verdict.comparisons[0].sentence in page.text
    assert verdict.comparisons[0].sentence in " ".join(text.split())
    assert page.rows("each seed")["x"][0] == spread(verdict.arms["x"].mean, verdict.arms["x"].sd)


def test_both_reports_begin_with_the_headline(usual: Path) -> None:
    said = headline(read_run(usual).verdict)
    page, text = Page(usual / "report.html"), (usual / "report.md").read_text()
    assert page.text.startswith(f"citations: {said} citations {said} Task citations")
    assert " ".join(text.split()).partition("**")[2].startswith(f"{said}**")


@pytest.mark.parametrize(
    ("options", "warning"),
    [
        ({"seeds": [7]}, "One seed"),
        ({"linear": 0.99}, "A linear model of words does better than finetune, random, tlm and tlm-whole-word"),
        ({"linear": 0.99}, "No arm is shown to do better than a linear model"),
        ({"linear": 0.75, "half_width": 0.2}, "No arm is shown to do better than a linear model"),
        ({"failed": {"random": "the loss is no number"}}, "Not every arm could be trained: random"),
        ({"updates": {"tlm": 2400}}, "unequal budgets, from 600 updates (finetune) to 2,400 (tlm)"),
        ({"arms": ARMS | {"random": 0.74}}, "no evidence that it is better than random"),
    ],
)
def test_what_weakens_a_result_is_said(tmp_path: Path, options: Any, warning: str) -> None:
    assert any(warning in line for line in cautions(read_run(fake_run(tmp_path / "run", **options))))


def test_warnings_come_first(usual: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(usual, tmp_path / "run")
    assert cautions(read_run(folder)) == []
    change(folder, "verdict.json", lambda verdict: verdict.update(split="dev"))
    change(folder, "manifest.json", lambda manifest: manifest.update(status="running"))
    page, text = report(folder)
    assert len(cautions(read_run(folder))) == 2
    for line in cautions(read_run(folder)):
        assert page.text.index(line) < page.text.index("How to read this")
        assert line in " ".join(text.partition("## ")[0].split())


def test_a_study_of_one_arm_is_compared_with_the_linear_model(tmp_path: Path) -> None:
    alone = read_run(fake_run(tmp_path / "alone", arms={"finetune": 0.6}, linear=None))
    assert headline(alone.verdict) == "There is nothing to compare: the study has one arm."
    with_linear = read_run(fake_run(tmp_path / "linear", arms={"finetune": 0.9}))
    assert headline(with_linear.verdict) == with_linear.verdict["comparisons"][0]["sentence"]


def test_a_failed_baseline_is_the_headline(tmp_path: Path) -> None:
    folder = fake_run(tmp_path / "run", failed={"finetune": "the loss is no number any more"})
    page, text = report(folder)
    said = "The baseline, finetune, could not be trained, so nothing can be compared with it."
    assert headline(read_run(folder).verdict) == said
    assert page.rows("each seed")["finetune baseline"] == ["failed: the loss is no number any more"]
    assert "- finetune failed: the loss is no number any more" in text


def test_text_stays_text(tmp_path: Path, usual: Path) -> None:
    """Whatever the user's files hold, the page has the same kinds of elements and shows the text as it is."""
    folder = fake_run(
        tmp_path / "run",
        arms={"finetune": 0.5, HOSTILE: 0.7},
        labels=["a", HOSTILE],
        text=HOSTILE,
    )
    page, text = report(folder)
    assert {tag for tag, _ in page.elements} <= {tag for tag, _ in Page(usual / "report.html").elements}
    for place in ("set aside as dev.", "seldom share a sentence.", "three enzymes.", "seeds=3", "data/citations"):
        assert " ".join(f"{place}{HOSTILE}".split()) in page.text
    assert not re.search(r"(?<!\\)<(script|img)", text.partition("## Run it again")[0])


@given(st.text(max_size=60), st.lists(st.text(max_size=8), max_size=4))
@settings(max_examples=60, deadline=None)
def test_marking_changes_no_letter(text: str, terms: list[str]) -> None:
    said = str(marked(text, terms))
    assert html.unescape(re.sub("</?mark>", "", said)) == text
    assert "<" not in re.sub("</?mark>", "", said)


def test_many_labels_seeds_and_long_names_fit(tmp_path: Path) -> None:
    long = {"finetune": 0.6} | {f"read-{'very-' * 12}much-and-{what}": 0.7 for what in ("well", "badly")}
    labels = [f"label {i} of a long and winding classification scheme" for i in range(40)]
    folder = fake_run(tmp_path / "run", arms=long, seeds=range(20), labels=labels)
    page, text = report(folder)
    assert "10 labels with fewer rows left out" in page.text
    assert len(page.rows("F1 of each label")) == 1 + 30
    assert len(page.rows("A line is a true label")) == 1 + 15
    assert len(page.rows("each seed")["finetune baseline"]) == 1 + 20 + 1
    assert max(map(_columns, text.splitlines())) <= 120
    assert "12 more seeds stand in report.html" in text


def test_markdown_tables_line_up(tmp_path: Path) -> None:
    folder = fake_run(tmp_path / "run", arms={"基线": 0.5, "a|b `c`": 0.7})
    _, text = report(folder)
    tables = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    assert len(tables) >= 4
    for lines in tables:
        assert len({_columns(line) for line in lines}) == 1
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1


@pytest.mark.parametrize("keep", [(), ("manifest.json",), ("scores.jsonl", "events.jsonl")])
def test_what_is_missing_is_said(usual: Path, tmp_path: Path, keep: tuple[str, ...]) -> None:
    for name in ("verdict.json", *keep):
        shutil.copy(usual / name, tmp_path / name)
    page, text = report(tmp_path)
    for name in {"manifest.json", "scores.jsonl", "events.jsonl", "config.yaml"}:
        assert (f"{name} is missing" in page.text) == (name not in keep)
        assert (f"{name} is missing" in text) == (name not in keep)


def test_damaged_lines_are_counted_and_numbers_that_are_none_are_dashes(usual: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(usual, tmp_path / "run")
    with (folder / "events.jsonl").open("a") as log:
        log.write('{"event": "look", "arm": "tlm", "seed": 0, "update": 541, "value": NaN}\n{"event": "lo')
    (folder / "manifest.json").write_text("[]")
    (folder / "config.yaml").write_text("a: [")

    def spoil(verdict: Any) -> None:
        verdict["arms"]["tlm"].update(mean=float("nan"), sd=float("inf"))
        verdict["arms"]["tlm"]["per_seed"][1] = float("nan")
        verdict["comparisons"][0].update(low=float("-inf"), p_holm=float("nan"), smallest_detectable=None)

    change(folder, "verdict.json", spoil)
    page, text = report(folder)
    assert "events.jsonl: 1 line could not be read" in page.text
    assert "manifest.json holds no JSON object" in page.text
    assert "config.yaml could not be read" in page.text
    assert page.rows("each seed")["tlm"][0] == "–"
    assert page.rows("each seed")["tlm"][2] == "–"
    assert page.rows("First what was asked")["random ▲ helped"][1:] == ["–"] * 4
    assert not re.search(r"\b(nan|inf|None)\b", page.text + text)


def test_a_folder_without_a_verdict_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"verdict.json: expected the verdict of a finished run"):
        write_report(tmp_path)
    (tmp_path / "verdict.json").write_text('{"study": "x"}')
    with pytest.raises(ArtifactError, match="one without task, metric"):
        write_report(tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_writing_a_report_needs_no_torch() -> None:
    code = "import sys, trivium.study.report; sys.exit('torch' in sys.modules or 'matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
