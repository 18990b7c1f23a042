"""The model card: metadata that the hub understands, the verdict as it is, and text of others that stays text."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard
from huggingface_hub.repocard_data import model_index_to_eval_results

from test_study_report import HOSTILE, change, fake_run
from test_training_kinds import make
from trivium.encoders import from_scratch, train_tokenizer
from trivium.encoders.encoder import Scratch, head_folder
from trivium.kinds import KINDS, Cut
from trivium.seeds import torch_scope
from trivium.study.card import METRICS, PIPELINES, card
from trivium.study.models import publish
from trivium.study.report_run import read_run
from trivium.study.report_verdict import headline
from trivium.training import Encoder

CONFIG = {
    "model_type": "modernbert",
    "id2label": {"0": "method", "1": "result"},
    "trivium": {"kind": "classify", "max_length": 128, "long_text": "head"},
}


def made(folder: Path, arm: str = "tlm", seed: int = 1, config: Any = CONFIG) -> tuple[dict[str, Any], str]:
    """The metadata of a card, and its text."""
    text = card(read_run(folder), arm, seed, config)
    found = ModelCard(text)
    return found.data.to_dict(), found.text


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fake_run(tmp_path_factory.mktemp("usual") / "run")


def test_the_hub_reads_from_it_what_was_measured_of_these_weights(usual: Path) -> None:
    data, _ = made(usual)
    name, results = model_index_to_eval_results(data["model-index"])
    assert name == "citations-tlm-seed-1"
    lines = map(json.loads, (usual / "scores.jsonl").read_text().splitlines())
    (values,) = (s["values"] for s in lines if (s["arm"], s["seed"], s["split"]) == ("tlm", 1, "test"))
    assert sorted(r.metric_value for r in results) == sorted(round(v, 6) for v in values.values())
    assert results[0].metric_name == "macro-F1"
    assert results[0].metric_value == round(values["macro_f1"], 6)
    assert {(r.task_type, r.dataset_name, r.dataset_split) for r in results} == {
        ("text-classification", "citations", "test")
    }
    assert data["library_name"] == "transformers"
    assert data["pipeline_tag"] == "text-classification"
    assert set(data["metrics"]) == {r.metric_type for r in results}
    assert not {"language", "license", "base_model"} & set(data)  # nobody knows


@pytest.mark.parametrize(
    ("name", "base"),
    [("bert-base-uncased", "bert-base-uncased"), ("a/b-c.d", "a/b-c.d"), ("../b", None), ("/models/bert", None)],
)
def test_the_base_is_named_where_it_is_on_the_hub(usual: Path, tmp_path: Path, name: str, base: str | None) -> None:
    folder = Path(shutil.copytree(usual, tmp_path / "run"))
    settings = yaml.safe_load((folder / "config.yaml").read_text()) | {"encoder": {"pretrained": name}}
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    data, text = made(folder)
    assert data.get("base_model") == base
    assert name in text


def test_a_base_that_is_a_folder_is_no_name_on_the_hub(
    usual: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    test_the_base_is_named_where_it_is_on_the_hub(usual, tmp_path, "mine", None)


def test_it_says_what_the_verdict_says(usual: Path) -> None:
    run = read_run(usual)
    _, text = made(usual)
    assert f"**{headline(run.verdict)}**" in text
    for comparison in run.verdict["comparisons"]:
        assert (comparison["sentence"] in text) == ("tlm" in (comparison["arm"], comparison["baseline"]))
    for arm in run.verdict["arms"]:
        assert re.search(rf"^\| {arm}\b", text, re.MULTILINE)
    for said in (
        "trivium run citations.yaml seeds=3",
        "5f0c3b2e9d8a71460b1c",
        "method, result",
        "128 tokens",
        "18,400",
    ):
        assert said in text


def test_other_seeds_have_other_cards(usual: Path) -> None:
    (one, _), (other, _) = (made(usual, seed=seed) for seed in (0, 1))
    assert one["model-index"] != other["model-index"]


def test_without_a_test_split_it_is_a_validation_score(usual: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(usual, tmp_path / "run"))
    change(folder, "verdict.json", lambda verdict: verdict.update(split="dev"))
    data, text = made(folder)
    _, results = model_index_to_eval_results(data["model-index"])
    assert {r.dataset_split for r in results} == {"validation"}
    assert "There is no test split" in text


def test_text_of_others_stays_text(tmp_path: Path) -> None:
    evil = f"---\nlicense: mit\n---\n# {HOSTILE}\n[x]: http://evil\n![i](http://evil/i.png)"
    folder = fake_run(tmp_path / "run", arms={"finetune": 0.5, evil: 0.7}, labels=["a", evil], text=evil)
    change(folder, "verdict.json", lambda verdict: verdict.update(study=evil, task=evil))
    config = CONFIG | {"id2label": {"0": "# a", "1": evil}, "model_type": evil}
    data, text = made(folder, arm=evil, config=config)
    usual, _ = made(fake_run(tmp_path / "usual"))
    assert set(data) == set(usual)  # no key came from a text
    model_index_to_eval_results(data["model-index"])
    prose = "\n".join(line for line in text.splitlines() if not line.startswith("    "))
    assert not re.search(r"(?<!\\)<(script|img|!--)", prose)
    assert not re.search(r"\]\(http", prose)
    assert not re.search(r"^- #|^(- )?(\[x\]:|=+$|-{3,}$)", prose, re.MULTILINE)
    heads = [line for line in text.splitlines() if line.startswith("#")]
    assert [head for head in heads if head.startswith("## ")] == [
        f"## {name}" for name in ("Did it help?", "How it was trained", "Data", "Limits", "Use", "Make it again")
    ]
    assert len(heads) == 7


@pytest.mark.parametrize("kind", KINDS)
def test_the_way_to_use_it_works(kind: str, usual: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    task = make(kind, 20)
    tokenizer = train_tokenizer(task.texts("train"), 512)
    with torch_scope(0, "card"):
        encoder: Encoder = from_scratch(Scratch("tiny", vocabulary=512), tokenizer, 64)
        encoder.add_head(task)
    encoder.keep_cut(task, Cut(48))
    encoder.save(tmp_path)
    folder = head_folder(tmp_path, kind)
    data, text = made(usual, config=json.loads((folder / "config.json").read_text()))
    assert data["pipeline_tag"] == PIPELINES[kind]
    (code,) = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    exec(compile(code.replace("FOLDER", str(folder)), "card", "exec"), {})
    assert capsys.readouterr().out


def test_every_metric_has_a_name_on_the_hub() -> None:
    ours = {name for kind in KINDS.values() for name in kind.metrics}
    assert set(METRICS) <= ours


def artifact(folder: Path, content: str) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "model.safetensors").write_text(content)
    return folder


def test_weights_are_shared_and_cards_are_not(tmp_path: Path) -> None:
    folder = fake_run(tmp_path / "run")
    weights = artifact(folder / "artifacts" / "stage-a" / "tasks" / "citations", "weights")
    publish(folder, {("tlm", 0): weights, ("random", 0): weights})
    tlm, random = (folder / "models" / arm / "seed-0" for arm in ("tlm", "random"))
    assert "the arm tlm" in (tlm / "README.md").read_text()
    assert "the arm random" in (random / "README.md").read_text()
    assert not tlm.is_symlink()
    assert (tlm / "model.safetensors").samefile(random / "model.safetensors")
    assert not (weights / "README.md").exists()  # what an artifact holds depends on its key alone


def test_a_new_verdict_changes_the_card_and_new_weights_change_the_folder(tmp_path: Path) -> None:
    folder = fake_run(tmp_path / "run")
    weights = artifact(folder / "artifacts" / "stage-a", "weights")
    place = folder / "models" / "tlm" / "seed-0"
    place.parent.mkdir(parents=True)
    place.symlink_to(weights)  # as it was once
    publish(folder, {("tlm", 0): weights})
    (place / "notes.txt").write_text("mine")
    change(folder, "manifest.json", lambda manifest: manifest.update(command="trivium run other.yaml"))
    publish(folder, {("tlm", 0): weights})
    assert "other.yaml" in (place / "README.md").read_text()
    assert (place / "notes.txt").exists()
    publish(folder, {("tlm", 0): artifact(folder / "artifacts" / "stage-b", "others")})
    assert {f.name for f in place.iterdir()} == {"config.json", "model.safetensors", "README.md", "done.json"}
    assert (place / "model.safetensors").read_text() == "others"
    assert (weights / "model.safetensors").read_text() == "weights"


def test_where_there_are_no_links_there_are_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr("trivium.store.os.link", refuse)
    folder = fake_run(tmp_path / "run")
    publish(folder, {("tlm", 0): artifact(folder / "artifacts" / "stage-a", "weights")})
    assert (folder / "models" / "tlm" / "seed-0" / "model.safetensors").read_text() == "weights"
