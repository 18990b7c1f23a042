"""A model on the Hugging Face hub: the one place that sends anything anywhere, and only when it was asked to.

Who may write there is said by a token that huggingface_hub finds: in ``HF_TOKEN``, or where ``hf auth login`` left it.
It is not read here, and in no message.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from trivium.errors import ArtifactError, ConfigError, TriviumError
from trivium.pretrained import reason
from trivium.store import demand_unchanged

FILES = ("README.md", "*.json", "*.safetensors", "vocab.txt", "merges.txt", "*.model")  # what a model is made of
ONNX = ("*.json", "model.onnx", "model.onnx.data")


def push(model: Path | str, name: str, *, private: bool = False, onnx: Path | str | None = None) -> str:
    """Upload a model's folder with its card.

    Args:
        model: A model folder with a card, such as a study makes; files that are none of a model's stay here.
        name: ``owner/name`` on the hub; made if it is not there.
        private: Whether only its owner may see it. One that is there and public is refused then.
        onnx: What ``export_onnx`` wrote of it, to lie beside under ``onnx``.

    Returns:
        The address of the model's page.

    Raises:
        ArtifactError: the folder holds no model, no card, or not what the study wrote there.
        ConfigError: there is no such name, or what is there is public.
        TriviumError: the hub refused, or cannot be reached.
    """
    folder = Path(model)
    _demand_model(folder)
    api, refusals = _hub(name)
    try:
        address = str(api.create_repo(name, repo_type="model", private=private, exist_ok=True))
        if private and not api.repo_info(name, repo_type="model").private:
            raise ConfigError(f"--push {name}: expected a private model, found a public one. Nothing was uploaded.")
        _upload(api, folder, name, FILES)
        if onnx is not None:
            _upload(api, Path(onnx), name, ONNX, inside="onnx")
    except refusals as error:
        raise TriviumError(
            f"--push {name}: expected that the hub takes it, found {type(error).__name__}: {_told(error)}. Is HF_TOKEN "
            "set, or was `hf auth login` run, and may that user write there?"
        ) from None
    return address


def _hub(name: str) -> tuple[Any, tuple[type[Exception], ...]]:
    """Who talks to the hub, and what it raises."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError

    if not re.fullmatch(r"[a-z0-9][\w.-]*/[a-z0-9][\w.-]*", name, re.ASCII | re.IGNORECASE):
        raise ConfigError(f"--push: expected owner/name, in letters, digits, '-', '_' and '.', found '{name}'.")
    http = HfHubHTTPError.__bases__  # what the library that it speaks HTTP with raises where nobody answers
    return HfApi(library_name="trivium"), (*http, HfHubHTTPError, HFValidationError, LocalTokenNotFoundError, OSError)


def _demand_model(folder: Path) -> None:
    if not (folder / "config.json").exists():
        raise ArtifactError(f"{folder}: expected a model folder with config.json, such as a study makes.")
    if not (folder / "README.md").exists():
        raise ArtifactError(
            f"{folder}: expected a model card, README.md, found none. A model of a study has one under "
            "runs/<study>/models/<arm>/seed-<n>; write one for any other."
        )
    demand_unchanged(folder)


def _upload(api: Any, folder: Path, name: str, files: Iterable[str], inside: str | None = None) -> None:
    api.upload_folder(
        repo_id=name,
        repo_type="model",
        folder_path=folder,
        path_in_repo=inside,
        allow_patterns=list(files),
        ignore_patterns=["*/*", "done.json"],  # what lies deeper is somebody else's; what a study wrote is for it
        commit_message="A model of trivium" if inside is None else "The same as ONNX",
    )


def _told(error: Exception) -> str:
    """The first line of what the hub said, without a token, should one stand in it."""
    from huggingface_hub import get_token

    token = get_token()
    return reason(error).replace(token, "…") if token else reason(error)
