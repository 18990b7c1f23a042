"""Diagnosis: each rule fires where its cause is planted, and keeps silent where it is not."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trivium.study.diagnosis import RULES, Finding, diagnose, troubled
from trivium.study.diagnosis_measures import late_gain, needed
from trivium.study.report_run import Run

ARMS, SEEDS = ("finetune", "tlm"), (0, 1, 2)
JOINT = {"name": "tlm-joint", "mix": {"documents": 3, "task": 1}, "updates": 400, "batch_tokens": 4096, "lr": 1e-3}
TUNE = {"name": "finetune", "mix": {"task": 1}, "updates": 200, "lr": 1e-4}

Edit = Callable[[dict[str, Any]], None]


def healthy() -> dict[str, Any]:
    """A run without evidence in which nothing is wrong: the question was small, and the study large."""
    events, scores = [], []
    for arm in ARMS:
        for seed in SEEDS:
            about = {"arm": arm, "seed": seed}
            for i in range(1, 51):
                falling = 3 + 4 * math.exp(-i / 20)
                task = 0.2 + 1.5 * math.exp(-i / 10)
                at = {**about, "event": "loss"}
                if arm == "tlm":
                    events.append({**at, "stage": "tlm-joint", "update": 8 * i, "mlm": falling, "task": task})
                events.append({**at, "stage": "finetune", "update": 400 + 4 * i, "mlm": None, "task": task})
            for i, value in enumerate([0.3, 0.5, 0.58, 0.6, 0.61, 0.615, 0.614, 0.618, 0.617, 0.618], 1):
                look = {**about, "event": "look", "stage": "finetune", "value": value, "loss": 0.9}
                events.append({**look, "update": 400 + 20 * i, "tokens": 900 * i})
            for update in (0, 100, 200):
                layers = {"embeddings": 0.1, "1": 0.2}
                gradients = {**about, "stage": "tlm-joint", "event": "gradients", "update": update}
                events += [{**gradients, "cosine": 0.15, "layers": layers}] * (arm == "tlm")
            values = {"macro_f1": 0.62 + 0.004 * seed - 0.001 * (arm == "tlm") * (seed != 1)}
            for split in ("dev", "test"):
                confusion = [[400, 100], [120, 380]]
                line = {**about, "split": split, "values": dict(values), "rows": 1000, "confusion": confusion}
                scores.append(line)
    per_seed = {
        arm: [s["values"]["macro_f1"] for s in scores if s["arm"] == arm and s["split"] == "test"] for arm in ARMS
    }
    return {
        "verdict": {
            "metric": "macro_f1",
            "split": "test",
            "baseline": "finetune",
            "seeds": list(SEEDS),
            "arms": {arm: {"updates": 600, "failed": None, "per_seed": per_seed[arm]} for arm in ARMS},
            "comparisons": [
                {
                    "arm": "tlm",
                    "baseline": "finetune",
                    "delta": -0.0007,
                    "low": -0.006,
                    "high": 0.0046,
                    "verdict": "no evidence",
                    "smallest_detectable": 0.008,
                }
            ],
        },
        "manifest": {
            "notes": ["citations: 10 % of train were set aside as dev."],
            "arms": {
                "finetune": {
                    "stages": [{**TUNE, "updates": 600}],
                    "budget": {"updates": 600},
                    "documents": {"0": None},
                },
                "tlm": {
                    "stages": [dict(JOINT), dict(TUNE)],
                    "budget": {"updates": 600},
                    "documents": {"0": "documents-bm25"},
                    "tokens": {"documents": 1_000_000, "texts": 0},
                },
            },
        },
        "scores": scores,
        "events": events,
        "settings": {"screens": {"contamination": True}},
    }


def as_run(about: Mapping[str, Any]) -> Run:
    events = tuple(sorted(about["events"], key=lambda event: event["update"]))
    return Run(
        about["verdict"], about["manifest"], tuple(about["scores"]), events, {}, {}, {}, {}, {}, {}, "",
        about["settings"], (),
    )  # fmt: skip


def found(edit: Edit) -> list[Finding]:
    about = healthy()
    edit(about)
    return diagnose(as_run(about))


def each(about: dict[str, Any], event: str, arm: str, **wanted: Any) -> list[dict[str, Any]]:
    chosen = [e for e in about["events"] if e["event"] == event and e["arm"] == arm]
    return [e for e in chosen if all(e.get(key) == value for key, value in wanted.items())]


def rising(about: dict[str, Any]) -> None:
    """Warm-up takes the loss from 3 to 6, and the rest of the stage brings it back."""
    for e in each(about, "loss", "tlm", stage="tlm-joint"):
        i = e["update"] / 8
        e["mlm"] = 3 + 3 * min(i, 8) / 8 if i <= 12 else 2.8 + 3 * math.exp(-(i - 12) / 12)


def flat(about: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    for e in each(about, "loss", "tlm", stage="tlm-joint"):
        e["mlm"] = 6.4 + 2 * math.exp(-e["update"] / 16) + 0.02 * rng.standard_normal()


def scarce(about: dict[str, Any]) -> None:
    about["manifest"]["arms"]["tlm"]["tokens"]["documents"] = 120_000


def apart(about: dict[str, Any]) -> None:
    for e in each(about, "gradients", "tlm"):
        e["cosine"], e["layers"] = -0.2, {"embeddings": 0.1, "1": -0.4}


def memorised(about: dict[str, Any]) -> None:
    for e in each(about, "loss", "finetune"):
        e["task"] = 1.5 * math.exp(-e["update"] / 60)
    for e in each(about, "look", "finetune"):
        e["value"] = 0.6 if e["update"] > 440 else 0.62


def ended(about: dict[str, Any]) -> None:
    about["verdict"]["arms"]["tlm"]["updates"] = 330


def climbing(about: dict[str, Any]) -> None:
    for e in each(about, "look", "tlm"):
        e["value"] = 0.3 + e["update"] / 2000


def collapsed(about: dict[str, Any]) -> None:
    for line in about["scores"]:
        if (line["arm"], line["seed"]) == ("tlm", 1):
            line["confusion"], line["values"] = [[500, 0], [500, 0]], {"macro_f1": 0.333}


def far_below(about: dict[str, Any]) -> None:
    """A kind without a confusion."""
    for line in about["scores"]:
        line["confusion"] = []
        if (line["arm"], line["seed"]) == ("tlm", 1):
            line["values"] = {"macro_f1": 0.05}


def opposed(about: dict[str, Any]) -> None:
    for line in about["scores"]:
        if line["arm"] == "tlm":
            line["values"]["macro_f1"] += 0.02 if line["split"] == "dev" else -0.02


def unscreened(about: dict[str, Any]) -> None:
    about["settings"]["screens"]["contamination"] = False


def looked(about: dict[str, Any]) -> None:
    note = "The test rows were looked at before, for 4 models of other settings in this run folder."
    about["manifest"]["notes"].append(note)


def tiny(about: dict[str, Any]) -> None:
    about["verdict"]["comparisons"][0].update(delta=0.01, low=-0.03, high=0.05, smallest_detectable=0.06)


PLANTED: Mapping[str, Sequence[tuple[Edit, str]]] = {
    "learning_rate": [
        (rising, r"In stage 'tlm-joint' the masked-language-model loss rose from 3\.\d+ to 6\.00 .* 0\.001")
    ],
    "mlm_stands_still": [(flat, r"was 6\.4\d in the second quarter of the stage and 6\.4\d in the last")],
    "few_documents": [(scarce, r"have 120,000 tokens, and its stages read 1\.2 M: each document about 10 times")],
    "gradients_conflict": [(apart, r"In 100 % of 9 comparisons .* \(mean cosine −0\.20; layer 1 most, −0\.40\)")],
    "by_heart": [(memorised, r"ended at 0\.000, and dev was best after 10 % of the stage")],
    "stopped_early": [(ended, r"It made 330 of 600 updates")],
    "undertrained": [(climbing, r"very last look with 3 of 3 seeds, and rose by 2\.0 points")],
    "collapsed_seed": [
        (collapsed, r"seed 1 \(33\.3\) answered with one label"),
        (far_below, r"seed 1 \(5\.0\) answered .* \(62\.3 on the mean\)"),
    ],
    "dev_disagrees": [(opposed, r"tlm − finetune was \+1\.9 points on dev and −2\.1 on test")],
    "leaks": [(unscreened, r"screen for documents that hold parts of dev or test texts was off"), (looked, "4 models")],
    "small_test": [(tiny, r"was \+1\.0 points of macro-F1; this study would have seen 6\.0 or more, with 1,000 rows")],
}


def test_every_rule_has_a_planted_case_and_a_row_in_the_docs() -> None:
    assert set(PLANTED) == set(RULES)
    page = (Path(__file__).parents[1] / "docs" / "report.md").read_text()
    assert re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE) == list(RULES)


@pytest.mark.parametrize(
    ("rule", "edit", "measured"),
    [(rule, edit, measured) for rule, cases in PLANTED.items() for edit, measured in cases],
)
def test_a_planted_cause_is_found_and_no_other(rule: str, edit: Edit, measured: str) -> None:
    findings = found(edit)
    assert {finding.rule for finding in findings} == {rule}
    assert re.search(measured, findings[0].measured), findings[0].measured
    assert findings[0].matters
    assert findings[0].advice


def test_nothing_is_found_where_nothing_is_planted() -> None:
    assert found(lambda about: None) == []


@pytest.mark.parametrize("edit", [edit for cases in PLANTED.values() for edit, _ in cases])
def test_a_gain_is_not_explained_away(edit: Edit) -> None:
    def helped(about: dict[str, Any]) -> None:
        edit(about)
        about["verdict"]["comparisons"][0]["verdict"] = "helped"

    assert found(helped) == []


def test_both_sides_of_an_open_comparison_are_looked_at_and_the_linear_model_is_not() -> None:
    about = healthy()
    about["verdict"]["arms"] |= {"fine": {"failed": None}, "broken": {"failed": "diverged"}, "linear": {"failed": None}}
    more = [
        {"arm": "fine", "baseline": "finetune", "verdict": "helped"},
        {"arm": "fine", "baseline": "linear", "verdict": "hurt"},
    ]
    about["verdict"]["comparisons"] += more
    assert troubled(as_run(about)) == ["finetune", "tlm"]


@pytest.mark.parametrize("lost", ["events", "scores", "manifest", "settings"])
@pytest.mark.parametrize("edit", [edit for cases in PLANTED.values() for edit, _ in cases])
def test_what_a_folder_lacks_is_no_cause(edit: Edit, lost: str) -> None:
    about = healthy()
    edit(about)
    about[lost] = type(about[lost])()
    assert len(diagnose(as_run(about))) <= 1


@pytest.mark.parametrize(
    ("seeds", "rows", "said"),
    [
        (12, 1600, "To see a difference of this size: about 12 seeds, or about 1,600 test rows."),
        (None, 1600, "To see a difference of this size: about 1,600 test rows."),
        (600, None, "More seeds and more test rows: the difference seen is too small to say how many."),
    ],
)
def test_as_many_seeds_or_rows_are_advised_as_the_verdict_says(seeds: int | None, rows: int | None, said: str) -> None:
    assert needed({"seeds_needed": {"1": 99, "seen": seeds}, "rows_needed": rows}) == said
    assert needed({}).startswith("More seeds and more test rows")


def test_a_last_look_that_only_equals_another_is_no_gain() -> None:
    assert late_gain([0.1, 0.5, 0.4, 0.5]) == 0.0
    assert late_gain([0.1, 0.5, 0.4, 0.6]) == pytest.approx(0.1)
    assert late_gain([0.1, 0.6, 0.4, 0.5]) == 0.0


def test_a_run_without_arms_in_trouble_is_not_looked_at() -> None:
    assert diagnose(replace(as_run(healthy()), verdict={**healthy()["verdict"], "comparisons": []})) == []
