"""What files, names and models of others can make trivium do: read them, and nothing else; and nothing goes out."""

import ast
import json
import os
import socket
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from conftest import OFFLINE, TOPICS, sentence
from test_layers import SOURCES, dotted, imported
from trivium import engine
from trivium.config import load_config
from trivium.encoders.encoder import Pretrained, from_pretrained, load_head
from trivium.errors import ArtifactError, ConfigError
from trivium.masking import ScoredMasker
from trivium.store import read_array
from trivium.study import manifest

SCRIPT = "<script>alert(1)</script><img src=x onerror=alert(2)>"
SECRETS = {
    "HF_TOKEN": "hf_" + "s" * 34,
    "AWS_SECRET_ACCESS_KEY": "aws-" + "k" * 40,
    "PIP_INDEX_URL": "https://ada:pass-word-of-ada@packages.example/simple",
    "WANDB_API_KEY": "wandb-" + "w" * 40,
}

# What no source file may do; ``test_layers.forbidden`` has the rest: pickle, eval, torch.load, a shell, code of models.

REACHES = {"socket", "ssl", "http", "urllib.request", "requests", "httpx", "aiohttp", "ftplib", "smtplib", "webbrowser"}
UNPACKS = {"tarfile", "zipfile", "shutil.unpack_archive"}
HUB = {"huggingface_hub", "datasets"}
MAY = {  # who may reach the hub, when it is asked to; and what reaches nothing
    "training/push.py": {"huggingface_hub"},
    "data/hub.py": {"datasets"},
    "study/card.py": {"huggingface_hub.ModelCardData", "huggingface_hub.EvalResult"},
    "documents/union.py": {"zipfile.BadZipFile"},
}
LOADERS = {"AutoConfig", "AutoModel", "AutoModelForMaskedLM", "AutoTokenizer"}


def of(name: str, modules: set[str]) -> bool:
    """Whether a name is one of some modules, or in one."""
    return any(f"{name}.".startswith(f"{module}.") for module in modules)


def careless(name: str, tree: ast.AST) -> list[str]:
    """Imports and calls of a file by which it could reach the network, unpack an archive, or trust a file's words."""
    bad = {one for one in imported(tree) if of(one, REACHES | UNPACKS | HUB) and not of(one, MAY.get(name, set()))}
    wrong = [f"{name}: {one}" for one in sorted(bad)]
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        path = dotted(node.func)
        given = {word.arg: getattr(word.value, "value", None) for word in node.keywords}
        if path in {"np.load", "numpy.load"} and given.get("allow_pickle") is not False:
            wrong.append(f"{name}:{node.lineno}: np.load without allow_pickle=False")
        if path.endswith(".from_pretrained") and path.split(".")[-2] in LOADERS:
            spread = [dotted(word.value.func) for word in node.keywords if isinstance(word.value, ast.Call)]
            if "safely" not in spread and given.get("trust_remote_code") is not False:
                wrong.append(f"{name}:{node.lineno}: {path} may run a model's code")
    return wrong


def test_no_file_reaches_out_or_trusts_what_it_reads() -> None:
    assert [one for name, tree in SOURCES.items() for one in careless(name, tree)] == []


@pytest.mark.parametrize(
    "source",
    [
        "import socket", "from urllib.request import urlopen", "import urllib.request", "import tarfile",
        "from zipfile import ZipFile, BadZipFile", "np.load(path)", "np.load(path, mmap_mode='r')", "import datasets",
        "AutoTokenizer.from_pretrained(place)", "transformers.AutoModel.from_pretrained(place, **options)",
        "from huggingface_hub import HfApi",
    ],
)  # fmt: skip
def test_nothing_careless_hides_from_that(source: str) -> None:
    assert careless("study/new.py", ast.parse(source))


def test_that_leaves_careful_code_alone() -> None:
    good = "from urllib.parse import quote\nnp.load(p, allow_pickle=False)\n"
    assert careless("a.py", ast.parse(good + "AutoTokenizer.from_pretrained(p, **safely(p))")) == []


# Models and maskers of others.


class Payload:
    """Touches a file when somebody unpickles it."""

    def __init__(self, touched: Path) -> None:
        self.touched = touched

    def __reduce__(self) -> Any:
        return Path.touch, (self.touched,)


def copied(pretrained: str, folder: Path) -> Path:
    folder.mkdir()
    for file in Path(pretrained).iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


def test_a_pickle_among_the_weights_is_not_run(pretrained: str, tmp_path: Path) -> None:
    model, touched = copied(pretrained, tmp_path / "model"), tmp_path / "touched"
    (model / "model.safetensors").unlink()
    torch.save({"bert.embeddings.word_embeddings.weight": Payload(touched)}, model / "pytorch_model.bin")
    with pytest.raises(ConfigError, match=r"encoder\.pretrained: expected a masked language model"):
        from_pretrained(Pretrained(str(model)))
    assert not touched.exists()
    torch.load(model / "pytorch_model.bin", weights_only=False)
    assert touched.exists(), "the payload works where somebody lets it"


def test_weights_that_are_none_are_told(pretrained: str, tmp_path: Path) -> None:
    model = copied(pretrained, tmp_path / "model")
    (model / "model.safetensors").write_bytes(b"\xff" * 64)
    with pytest.raises(ConfigError, match="expected a masked language model"):
        from_pretrained(Pretrained(str(model)))


def test_code_beside_a_model_is_not_run_and_nobody_is_asked(
    pretrained: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, touched = copied(pretrained, tmp_path / "model"), tmp_path / "touched"
    (model / "own.py").write_text(f"import pathlib\npathlib.Path({str(touched)!r}).touch()\n")
    about = json.loads((model / "config.json").read_text())
    classes = {name: f"own.{name}" for name in ("AutoConfig", "AutoModelForMaskedLM", "AutoModel")}
    (model / "config.json").write_text(json.dumps({**about, "model_type": "own", "auto_map": classes}))
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("somebody was asked"))
    with pytest.raises(ConfigError, match="Code that comes with a model is never run"):
        from_pretrained(Pretrained(str(model)))
    with pytest.raises(ArtifactError):
        load_head(model)
    assert not touched.exists()


def test_a_saved_masker_imports_no_module_that_it_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touched = tmp_path / "touched"
    (tmp_path / "stranger.py").write_text(
        f"import pathlib\npathlib.Path({str(touched)!r}).touch()\nclass Scorer: ...\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    folder = tmp_path / "masker"
    folder.mkdir()
    for name in ("stranger:Scorer", "os:system", "trivium.masking.scored:importlib", "trivium.no_such:Thing"):
        about = {"scorer": name, "draw": {}, "settings": {}, "about": {}}
        (folder / "masker.json").write_text(json.dumps(about))
        with pytest.raises(ArtifactError, match="expected a masker that was saved"):
            ScoredMasker.from_pretrained(folder)
    assert not touched.exists()


def test_arrays_and_study_files_hold_no_objects(tmp_path: Path) -> None:
    touched = tmp_path / "touched"
    np.save(tmp_path / "block.npy", np.array([Payload(touched)], dtype=object), allow_pickle=True)
    assert read_array(tmp_path / "block.npy", (1,), np.int16) is None
    study = tmp_path / "study.yaml"
    study.write_text(f"name: !!python/object/apply:pathlib.Path.touch [{str(touched)!r}]\n")
    with pytest.raises(ConfigError, match="expected a YAML file"):
        load_config(study)
    with pytest.raises(ConfigError, match="no YAML"):
        load_config(_plain(tmp_path), [f"name=!!python/object/apply:os.mkdir [{str(touched)!r}]"])
    assert not touched.exists()


def _plain(folder: Path) -> Path:
    (folder / "plain.yaml").write_text("name: plain\n")
    return folder / "plain.yaml"


@pytest.mark.parametrize("name", ["../up", "/up", "a/b", "..", ".hidden", "a\x00b", "nine\nlives"])
def test_a_study_is_no_path(name: str, tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    arms = {"finetune": {"stages": [{"preset": "finetune"}]}}
    file.write_text(yaml.safe_dump({"name": name, "task": {"path": "x"}, "encoder": "tiny", "arms": arms}))
    with pytest.raises(ConfigError, match="name"):
        load_config(file)


# A whole study of hostile files, in processes that are watched.


@dataclass(frozen=True)
class Watched:
    """What a study did that was run elsewhere.

    Attributes:
        place: The folder in which it ran.
        told: What it printed.
        asked: Whom it asked for a name or a connection.
        opened: Files that it opened, ``r`` or ``w`` and the path.
    """

    place: Path
    told: str
    asked: list[str]
    opened: list[tuple[str, str]]


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory, pretrained: str) -> Watched:
    place = tmp_path_factory.mktemp("hostile")
    write_hostile(place, pretrained)
    (place / "tmp").mkdir()
    known = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    environment = {
        **known,
        **SECRETS,
        "PYTHONPATH": os.pathsep.join([str(OFFLINE), *filter(None, sys.path)]),
        "TRIVIUM_TESTS_WATCH": str(place / "watch.log"),
        "TRIVIUM_CACHE": str(place / "cache"),
        "HF_HOME": str(place / "huggingface"),
        "TMPDIR": str(place / "tmp"),
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "trivium", "run", "study.yaml"]
    done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = (place / "watch.log").read_text().splitlines()
    asked = [line for line in lines if line.startswith("socket.")]
    opened = [(line[5], line[7:]) for line in lines if line.startswith("open ")]
    return Watched(place, done.stdout + done.stderr, asked, opened)


def write_hostile(place: Path, pretrained: str) -> None:
    """A study whose every name and text would be a path or a script if anybody let it."""
    rng = np.random.default_rng(0)
    secret = place / "secret.txt"
    secret.write_text("nobody opens me")
    labels = dict(zip(TOPICS, ("../../up", str(secret), SCRIPT), strict=True))
    texts = [str(secret), f"../../{secret.name}", SCRIPT, "file:///etc/passwd", "https://texts.example/x.txt"]
    for split, many in (("train", 36), ("dev", 12), ("test", 12)):
        rows = [
            {"text": f"{texts[i % 5]} {sentence(rng, [*TOPICS][i % 3])}", "label": [*labels.values()][i % 3]}
            for i in range(many)
        ]
        (place / "data").mkdir(exist_ok=True)
        (place / "data" / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    documents = [
        {
            "id": f"../../{i}",
            "text": f"{texts[i % 5]} {sentence(rng, [*TOPICS][i % 3], 20)}",
            "source": [str(secret), "../../x", SCRIPT][i % 3],
        }
        for i in range(60)
    ]
    (place / "corpus.jsonl").write_text("".join(json.dumps(one) + "\n" for one in documents))
    tune = {"preset": "finetune", "updates": 2, "batch_rows": 8}
    joint = {"preset": "tlm-joint", "updates": 2, "mix": {"documents": 1, "task": 1}, "batch_tokens": 256}
    chosen = {"kind": "bm25", "per_query": 3, "max_tokens": 400}
    study = {
        "name": "hostile",
        "seeds": 1,
        "baseline": "finetune",
        "task": {"path": "data", "name": f"../../{SCRIPT}"},
        "corpus": {"path": "corpus.jsonl"},
        "encoder": {"pretrained": pretrained},
        "arms": {"finetune": {"stages": [tune]}, "<b>tlm": {"documents": chosen, "stages": [joint, tune]}},
        "engine": {"workers": 2},
    }
    (place / "study.yaml").write_text(yaml.safe_dump(study))


def test_a_study_asks_nobody_anything(watched: Watched) -> None:
    assert watched.asked == []
    assert any("stage-" in path for _, path in watched.opened), "and its workers were watched"


def test_no_text_or_name_of_a_file_is_opened(watched: Watched) -> None:
    assert not [
        path
        for _, path in watched.opened
        if "secret.txt" in path or "/etc/passwd" in path or ("script" in Path(path).name.lower() and "<" in path)
    ]
    assert str(watched.place / "data" / "train.jsonl") in {path for _, path in watched.opened}


def test_nothing_is_written_elsewhere(watched: Watched) -> None:
    ours = ("runs", "cache", "huggingface", "tmp", "watch.log")
    caches = str(Path.home() / ".cache")  # of matplotlib's fonts, and of numba where the sources may not be written to
    homes = (*(str(watched.place / one) for one in ours), "/dev/", "/proc/", caches)
    written = {path for how, path in watched.opened if how == "w"}
    assert any(path.startswith(str(watched.place / "runs")) for path in written)
    assert [path for path in sorted(written) if not path.startswith(homes) and "__pycache__" not in path] == []
    assert {one.name for one in watched.place.iterdir()} <= {"data", "corpus.jsonl", "study.yaml", "secret.txt", *ours}
    assert {one.name for one in (watched.place / "runs").iterdir()} == {"hostile"}


def test_names_and_texts_are_shown_and_not_obeyed(watched: Watched) -> None:
    page = (watched.place / "runs/hostile/report.html").read_text()
    assert "<script>alert" not in page
    assert "<img" not in page
    assert "<b>tlm" not in page
    assert "&lt;b&gt;tlm" in page
    assert "&lt;script&gt;alert" in page


def test_no_secret_is_written_down(watched: Watched) -> None:
    hidden = [value.encode() for value in (*SECRETS.values(), "pass-word-of-ada")]
    files = [file for file in (watched.place / "runs").rglob("*") if file.is_file()]
    assert len(files) > 20
    assert [str(file) for file in files if any(secret in file.read_bytes() for secret in hidden)] == []
    about = (watched.place / "runs/hostile/manifest.json").read_text()
    assert json.loads(about)["status"] == "finished"
    assert not [name for name in (*SECRETS, "PATH", "HOME") if f'"{name}"' in about]
    assert str(Path.home()) not in about.replace(str(watched.place), "")
    assert not any(secret.decode() in watched.told for secret in hidden)


@pytest.mark.slow
def test_the_demo_asks_nobody_anything(tmp_path: Path) -> None:
    from test_study_demo import SMALL

    known = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    watch = tmp_path / "watch.log"
    here = {"PYTHONPATH": os.pathsep.join([str(OFFLINE), *filter(None, sys.path)]), "TRIVIUM_TESTS_WATCH": str(watch)}
    command = [sys.executable, "-m", "trivium", "demo", *SMALL, "engine.workers=2"]
    subprocess.run(command, cwd=tmp_path, env={**known, **here}, capture_output=True, check=True)
    assert [line for line in watch.read_text().splitlines() if line.startswith("socket.")] == []


def test_git_is_asked_of_a_checkout_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "project/.venv/lib/python3.11/site-packages/trivium"
    package.mkdir(parents=True)
    (tmp_path / "project/.git").mkdir()  # of the user's project, into which trivium was installed
    monkeypatch.setattr(manifest.trivium, "__file__", str(package / "__init__.py"))
    monkeypatch.setattr(manifest.subprocess, "run", lambda *_, **__: pytest.fail("git was asked"))
    assert manifest.revision() is None


def test_a_machine_without_git_has_no_revision(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    monkeypatch.setattr(manifest.trivium, "__file__", str(tmp_path / "src/trivium/__init__.py"))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert manifest.revision() is None


# The tests themselves have no network, and whatever they start has none.


def test_neither_this_process_nor_a_worker_has_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIVIUM_TESTS_WATCH", str(tmp_path / "watch.log"))
    found = engine.run_all("no_network:reach", [1, 2], workers=2)
    assert all(str(one).startswith(("ConnectionRefusedError: the tests", "gaierror")) for one in found), found
    assert sum("198.51.100.7" in line for line in (tmp_path / "watch.log").read_text().splitlines()) >= 2
    with pytest.raises(UserWarning, match="A test tried to use socket"):  # pytest-socket, and warnings are errors
        socket.getaddrinfo("models.example", 443)


def test_loopback_is_let_through() -> None:
    code = textwrap.dedent("""
        import socket
        server = socket.create_server(("127.0.0.1", 0))
        socket.create_connection(server.getsockname()).close()
        print("met")
    """)
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "met\n"
