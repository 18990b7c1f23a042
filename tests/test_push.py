"""Uploading: only what was asked for, only where it was asked for, and the token in nobody's sight."""

import ast
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError
from huggingface_hub.utils import filter_repo_objects
from typer.testing import CliRunner

import trivium
from test_layers import SOURCES, dotted
from trivium.cli import app
from trivium.errors import ArtifactError, ConfigError, TriviumError
from trivium.store import mark_done
from trivium.training.push import push

TOKEN = "hf_" + "x" * 34


class Hub:
    """Stands for the hub, and remembers what was sent there."""

    def __init__(self, *, public: bool = False, error: Exception | None = None) -> None:
        self.public, self.error = public, error
        self.made: list[dict[str, Any]] = []
        self.sent: dict[str, str] = {}

    def __call__(self, **_: Any) -> "Hub":
        return self

    def create_repo(self, name: str, **options: Any) -> str:
        if self.error is not None:
            raise self.error
        self.made.append({"name": name, **options})
        return f"https://huggingface.co/{name}"

    def repo_info(self, name: str, **_: Any) -> Any:
        return SimpleNamespace(private=not self.public)

    def upload_folder(self, *, folder_path: Path, path_in_repo: str | None, **options: Any) -> None:
        files = [str(f.relative_to(folder_path)) for f in folder_path.rglob("*") if f.is_file()]
        chosen = filter_repo_objects(
            files, allow_patterns=options["allow_patterns"], ignore_patterns=options["ignore_patterns"]
        )
        for name in chosen:
            self.sent[f"{path_in_repo}/{name}" if path_in_repo else name] = (folder_path / name).read_text()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Hub:
    made = Hub()
    monkeypatch.setattr(huggingface_hub, "HfApi", made)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    return made


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "private").mkdir(parents=True)
    for name in ("README.md", "config.json", "model.safetensors", "tokenizer.json", "notes.txt", "private/mine.json"):
        (folder / name).write_text(name)
    return folder


def test_a_model_and_its_card_go_and_nothing_else(hub: Hub, model: Path) -> None:
    mark_done(model, ["config.json", "model.safetensors"])
    assert push(model, "ada/chess") == "https://huggingface.co/ada/chess"
    assert set(hub.sent) == {"README.md", "config.json", "model.safetensors", "tokenizer.json"}
    assert hub.made == [{"name": "ada/chess", "repo_type": "model", "private": False, "exist_ok": True}]


def test_onnx_lies_beside(hub: Hub, model: Path, tmp_path: Path) -> None:
    onnx = tmp_path / "onnx"
    onnx.mkdir()
    for name in ("model.onnx", "onnx.json", "README.md"):
        (onnx / name).write_text("onnx")
    push(model, "ada/chess", onnx=onnx)
    assert hub.sent["README.md"] == "README.md"
    assert {name for name in hub.sent if "/" in name} == {"onnx/model.onnx", "onnx/onnx.json"}


def test_private_is_private_or_nothing(hub: Hub, model: Path) -> None:
    push(model, "ada/chess", private=True)
    assert hub.made[0]["private"] is True
    hub.sent.clear()
    hub.public = True
    with pytest.raises(ConfigError, match="found a public one"):
        push(model, "ada/chess", private=True)
    assert hub.sent == {}


@pytest.mark.parametrize("name", ["chess", "ada/che ss", "a/b/c", "", "-/-"])
def test_a_name_that_is_none_is_refused(name: str, hub: Hub, model: Path) -> None:
    with pytest.raises(ConfigError, match="expected owner/name"):
        push(model, name)
    assert hub.made == []


@pytest.mark.parametrize("lacking", ["README.md", "config.json"])
def test_without_a_card_or_a_model_nothing_goes(lacking: str, hub: Hub, model: Path) -> None:
    (model / lacking).unlink()
    with pytest.raises(ArtifactError, match=lacking):
        push(model, "ada/chess")
    assert hub.made == []


def errors() -> list[Exception]:
    unreachable = HfHubHTTPError.__bases__[0](f"nobody answers {TOKEN}")
    return [LocalTokenNotFoundError(f"no token {TOKEN}"), OSError(f"refused {TOKEN}"), unreachable]


@pytest.mark.parametrize("which", range(3))
def test_a_refusal_is_explained_without_the_token(which: int, hub: Hub, model: Path) -> None:
    hub.error = errors()[which]
    with pytest.raises(TriviumError, match="HF_TOKEN") as found:
        push(model, "ada/chess")
    assert TOKEN not in str(found.value)
    assert hub.sent == {}
    result = CliRunner().invoke(app, ["export", str(model), "--push", "ada/chess"])
    assert result.exit_code == 1
    assert TOKEN not in result.output
    assert "Traceback" not in result.output


def test_the_flag_is_what_it_takes(hub: Hub, model: Path) -> None:
    result = CliRunner().invoke(app, ["export", str(model), "--push", "ada/chess", "--private"])
    assert result.exit_code == 0
    assert result.stdout == "https://huggingface.co/ada/chess\n"
    assert CliRunner().invoke(app, ["export", str(model), "--private"]).exit_code == 2


def test_the_docs_say_how_it_is_asked_for(
    hub: Hub, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (Path(__file__).parents[1] / "docs" / "after.md").read_text()
    (command,) = re.findall(r"^```sh hub\ntrivium (.*?)\n```", page, re.MULTILINE | re.DOTALL)
    monkeypatch.chdir(tmp_path)
    model.rename(tmp_path / "seed-0")
    (tmp_path / "runs/reviews/models/tlm").mkdir(parents=True)
    (tmp_path / "seed-0").rename(tmp_path / "runs/reviews/models/tlm/seed-0")
    assert CliRunner().invoke(app, command.split()).stdout == "https://huggingface.co/ada/chess\n"
    assert hub.made[0]["private"] is True


UPLOADS = {
    "HfApi", "create_branch", "create_commit", "create_repo", "create_tag", "push_to_hub", "upload_file",
    "upload_folder", "upload_large_folder", "HfFileSystem", "Repository", "CommitScheduler", "metadata_update",
}  # fmt: skip


def uploads(tree: ast.AST) -> set[str]:
    """Names of a module, called or mentioned, that can send something to the hub."""
    names = {dotted(node).rpartition(".")[2] for node in ast.walk(tree) if isinstance(node, ast.Attribute | ast.Name)}
    imported = (alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names)
    return (names | set(imported)) & UPLOADS


def test_nothing_else_can_upload() -> None:
    found = {name: sent for name, tree in SOURCES.items() if (sent := uploads(tree))}
    assert found == {"training/push.py": {"HfApi", "create_repo", "upload_folder"}}
    callers = [name for name in SOURCES if "training.push" in (Path(trivium.__file__).parent / name).read_text()]
    assert callers == ["cli.py"]
