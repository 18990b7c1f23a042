"""The docs are run: snippets, study files, commands; and the generated page is fresh."""

import importlib.util
import json
import re
import shlex
import shutil
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from trivium.auxiliary import SELECTORS as BESIDE
from trivium.auxiliary import jobs
from trivium.cli import app
from trivium.config import choose, parse_config
from trivium.documents import SELECTORS
from trivium.masking import MASKERS
from trivium.study.arms import resolve
from trivium.training import StudyModels, models
from trivium.training.recipes import Scratch, make_stage

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TINY = "encoder={scratch: tiny, vocabulary: 512}"
LENGTHS = [f"arms.{arm}.stages.{i}.updates=8" for arm in ("random", "tlm") for i in (0, 1)]
SMALL = {
    "run": [TINY, *LENGTHS, "arms.finetune.stages.0.updates=8", "engine.workers=1", "seeds=1"],
    "check": [TINY, "engine.workers=1"],
    "documents": ["seeds=1"],
}


def provide(data: Path) -> None:
    """What the pages name, beside a task and a corpus."""
    if not (data / "new.csv").exists():
        (data / "new.csv").write_text("text\nthe rook takes the bishop\n")
        sentences = [{"tokens": ["Ada", "met", f"Bob{i}"], "labels": ["B-PER", "O", "B-PER"]} for i in range(30)]
        (data / "names.jsonl").write_text("".join(f"{json.dumps(sentence)}\n" for sentence in sentences))
        shutil.copytree(data / "reviews", data / "subjects")


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_commands_and_snippets_run(
    page: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").symlink_to(data)
    provide(data)
    commands = [line for block in blocks(page, "sh") for line in block.splitlines() if line.startswith("trivium ")]
    for command in commands:
        _, verb, *rest = shlex.split(command.partition("#")[0])
        if verb == "demo":
            continue  # the slow tests run it
        result = CliRunner().invoke(app, [verb, *rest, *SMALL.get(verb, [])], catch_exceptions=False)
        assert result.exit_code == 0, f"{command}\n{result.output}"
    module = type(sys)("my_module")
    monkeypatch.setitem(sys.modules, "my_module", module)
    for block in blocks(page, "python"):
        exec(compile(block, str(page), "exec"), vars(module))


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_yaml_is_understood(page: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    module = type(sys)("my_module")
    monkeypatch.setitem(sys.modules, "my_module", module)
    for block in blocks(page, "python") if page.name == "extending.md" else []:
        if "@dataclass" in block:
            exec(compile(block, str(page), "exec"), vars(module))
    for block in blocks(page, "yaml"):
        found = yaml.safe_load(block)
        if "arms" in found:
            resolve(parse_config(found, page.name))
        for i, stage in enumerate(found.get("stages", [])):
            make_stage(stage, Scratch("base", architecture="bert"), f"{page.name}.{i}")
        if ":" in str(found.get("task", {}).get("kind")):
            assert found["task"]["metric"] in choose({}, {"kind": found["task"]["kind"]}, page.name).metrics
        if "masker" in found:
            choose(MASKERS, found["masker"], page.name)
        if "documents" in found:
            choose(SELECTORS, found["documents"], page.name)
        if "auxiliary" in found:
            choose(BESIDE, found["auxiliary"], page.name)


QUICK: dict[str, dict[str, Any]] = {
    "nmg": {"episodes": 2, "contexts": 10, "rows": 10, "assess": 3, "max_length": 32},
    "gradts-trial": {"seeds": 1, "epochs": 1, "trial_epochs": 1, "max_length": 32},
}


def shortened(value: Any) -> Any:
    """A study's settings, with short stages and little effort for every choice."""
    if isinstance(value, list):
        return [shortened(one) for one in value]
    if not isinstance(value, dict):
        return value
    length = {"updates": 4, "max_length": 32} if "preset" in value else {}
    return {key: shortened(one) for key, one in value.items()} | QUICK.get(str(value.get("kind")), {}) | length


@pytest.mark.parametrize("recipe", blocks(ROOT / "docs" / "recipes.md", "yaml"), ids=lambda r: r.split()[1])
def test_recipes_run(recipe: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for module in (jobs, models):
        monkeypatch.setattr(module, "StudyModels", partial(StudyModels, updates=3))
    (tmp_path / "data").symlink_to(data)
    provide(data)
    little = {"encoder": {"scratch": "tiny", "vocabulary": 512}, "seeds": 1, "engine": {"workers": 1}, "budget": None}
    (tmp_path / "recipe.yaml").write_text(json.dumps(shortened(yaml.safe_load(recipe)) | little))
    result = CliRunner().invoke(app, ["run", "recipe.yaml", "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    verdict = json.loads(result.stdout)
    assert not any(arm["failed"] for arm in verdict["arms"].values())
    assert verdict["comparisons"]


def test_the_config_reference_is_fresh() -> None:
    spec = importlib.util.spec_from_file_location("make_config", ROOT / "docs" / "make_config.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.PAGE.read_text() == module.render(), "docs/config.md is stale: run `make docs`"


@pytest.mark.parametrize("page", [*PAGES, ROOT / "ARCHITECTURE.md", ROOT / "CONTRIBUTING.md"], ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_changelog_knows_this_version() -> None:
    from trivium import __version__

    assert f"## [{__version__}]" in (ROOT / "CHANGELOG.md").read_text()
    assert f'version = "{__version__}"' in (ROOT / "pyproject.toml").read_text()
    assert f"version: {__version__}" in (ROOT / "CITATION.cff").read_text()
