"""The shape of the house: who imports whom, what is loaded when, and what no room may do."""

import ast
import importlib
import inspect
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

import trivium

ROOT = Path(trivium.__file__).parent
ROOMS = [
    "errors", "seeds", "core", "config", "store", "engine", "pretrained", "data", "kinds", "documents",
    "encoders", "masking", "training", "nmg", "auxiliary", "study", "cli", "__main__",
]  # fmt: skip
SOURCES = {str(path.relative_to(ROOT)): ast.parse(path.read_text("utf-8")) for path in sorted(ROOT.rglob("*.py"))}
FRONT = "__init__.py"  # the front door names everybody, and loads nobody until asked
OWN = {"__version__", "__file__"}  # what the front door knows without opening another


def imported(tree: ast.AST) -> Iterator[str]:
    """Everything that a module imports, wherever in it, spelled in full."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ("." * node.level + f"{node.module or ''}.{alias.name}" for alias in node.names)


def dotted(node: ast.AST) -> str:
    """``a.b.c`` of an expression that is only names and dots; what is before a call is left out."""
    if isinstance(node, ast.Name):
        return node.id
    return f"{dotted(node.value)}.{node.attr}" if isinstance(node, ast.Attribute) else ""


def complaints(tree: ast.AST, room: str) -> list[str]:
    """Imports of a module that its room must not make."""
    wrong = []
    for name in imported(tree):
        package, _, rest = name.partition(".")
        target = rest.partition(".")[0]
        if not package:
            wrong.append(f"{name} (relative)")
        elif package == "trivium" and target in ROOMS:
            if ROOMS.index(target) > ROOMS.index(room):
                wrong.append(name)
        elif package == "trivium" and target and target not in OWN:
            wrong.append(f"{name} (through the front door)")
    asked = {
        node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and dotted(node.value) == "trivium"
    }
    return wrong + [f"trivium.{name} (through the front door)" for name in sorted(asked - OWN - set(ROOMS))]


def forbidden(tree: ast.AST) -> list[str]:
    """Imports and calls by which a file could run code, or a result depend on anything but its seed."""
    names = [name for name in imported(tree) if name != "pickle.UnpicklingError"]  # which runs nothing
    wrong = [name for name in names if name.partition(".")[0] in STRANGERS or "numpy.random" in name]
    for node in ast.walk(tree):
        path = dotted(node)
        if path.startswith(("np.random.", "numpy.random.")) and not path.endswith(".Generator"):
            wrong.append(path)
        if not isinstance(node, ast.Call):
            continue
        path, words = dotted(node.func), {word.arg: getattr(word.value, "value", None) for word in node.keywords}
        name = node.func.attr if isinstance(node.func, ast.Attribute) else path
        if path in RUNS_CODE or name in SEEDS:
            wrong.append(f"{path or name}()")
        if name in DRAWS and (path.startswith("torch.") or name.endswith("_")) and "generator" not in words:
            wrong.append(f"{path or name}() without a generator")
        wrong += [f"{path}({word}=True)" for word in UNSAFE if words.get(word)]
    return wrong


STRANGERS = {"pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "random", "secrets"}
RUNS_CODE = {"eval", "exec", "compile", "__import__", "yaml.load", "yaml.unsafe_load", "torch.load", "os.system"}
UNSAFE = {"shell", "allow_pickle", "trust_remote_code"}
SEEDS = {"seed", "manual_seed", "manual_seed_all", "set_seed", "default_rng", "RandomState", "SeedSequence"}
DRAWS = {"rand", "randn", "randint", "randperm", "normal", "bernoulli", "multinomial", "rand_like", "randn_like"} | {
    "random_", "normal_", "uniform_", "bernoulli_", "exponential_",
}  # fmt: skip


def test_a_room_imports_only_rooms_above_it() -> None:
    wrong = []
    for name, tree in SOURCES.items():
        if name != FRONT:
            room = Path(name).parts[0].removesuffix(".py")
            assert room in ROOMS, f"{name}: a room that is not in the order"
            wrong += [f"{name}: {complaint}" for complaint in complaints(tree, room)]
    assert wrong == []


@pytest.mark.parametrize(
    ("source", "wrong"),
    [
        ("import trivium.seeds\nfrom trivium import errors, __version__", 0),
        ("def f():\n    from trivium.training import loop", 1),
        ("if TYPE_CHECKING:\n    from trivium import study", 1),
        ("import trivium.training.loop as l, trivium.study", 2),
        ("from . import core", 1),
        ("from trivium import train", 1),
        ("import trivium\ntrivium.__version__\ntrivium.train(task)", 1),
    ],
)
def test_no_import_hides_from_that(source: str, wrong: int) -> None:
    assert len(complaints(ast.parse(source), "data")) == wrong


def test_only_seeds_seeds_and_no_file_can_run_code() -> None:
    """``seeds.py`` is the one exception, being the place that seeds."""
    wrong = [f"{name}: {what}" for name, tree in SOURCES.items() if name != "seeds.py" for what in forbidden(tree)]
    assert wrong == []
    assert forbidden(SOURCES["seeds.py"])


@pytest.mark.parametrize(
    "source",
    [
        "import random", "from numpy.random import default_rng", "np.random.shuffle(x)", "np.random.default_rng(0)",
        "torch.manual_seed(0)", "torch.Generator().manual_seed(0)", "torch.rand(3)", "weight.normal_(0, 1)",
        "import pickle", "eval('1')", "torch.load(path)", "np.load(path, allow_pickle=True)", "yaml.load(text)",
        "from_pretrained(name, trust_remote_code=True)", "subprocess.run(line, shell=True)",
    ],
)  # fmt: skip
def test_no_draw_and_no_code_hides_from_that(source: str) -> None:
    assert forbidden(ast.parse(source))


def test_that_leaves_good_code_alone() -> None:
    good = "model.eval()\nre.compile('x')\ntorch.rand(3, generator=rng)\nrng.normal()\nx: np.random.Generator"
    assert forbidden(ast.parse(good)) == []


def test_heavy_libraries_wait_until_they_are_needed() -> None:
    """``import trivium``, ``trivium --help`` and everything above ``kinds`` load none of them."""
    code = """
import importlib, sys
heavy = {"torch", "transformers", "datasets", "sklearn", "scipy", "numba", "matplotlib", "pandas"}
def look(at):
    print(at, *sorted(heavy & set(sys.modules)))
for name in sys.argv[1:]:
    importlib.import_module(name)
    look(name)
from trivium.cli import app
try:
    app(["--help"])
except SystemExit as left:
    print("left with", left.code)
look("help")
"""
    modules = ["trivium", "trivium.cli", *(f"trivium.{room}" for room in ROOMS[: ROOMS.index("kinds")])]
    modules.append("trivium.documents")
    told = subprocess.run([sys.executable, "-c", code, *modules], capture_output=True, text=True, check=True).stdout
    lines = told.splitlines()
    assert lines[: len(modules)] == modules
    assert lines[-2:] == ["left with 0", "help"]
    assert "predict" in told


@pytest.mark.parametrize("name", trivium.__all__)
def test_every_public_name_resolves_and_says_what_it_is(name: str) -> None:
    public = getattr(trivium, name)
    assert inspect.getdoc(public), name
    assert isinstance(public, types.ModuleType) or public.__module__.startswith("trivium.")


def test_the_front_door_says_the_same_to_python_to_mypy_and_to_people() -> None:
    checked = [name for node in SOURCES[FRONT].body if isinstance(node, ast.If) for name in imported(node)]
    assert sorted(checked) == sorted(f"{home}.{name}" for name, home in trivium._HOME.items())
    assert sorted(trivium.__all__) == sorted(trivium._HOME)
    assert dir(trivium) == sorted([*trivium.__all__, "__version__"])
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = trivium.nothing


@pytest.mark.parametrize("name", [name for name in SOURCES if name.endswith("__init__.py") and name != FRONT])
def test_what_a_room_names_is_there(name: str) -> None:
    room = importlib.import_module(f"trivium.{Path(name).parent.as_posix().replace('/', '.')}")
    assert room.__doc__
    for public in getattr(room, "__all__", []):
        assert hasattr(room, public), public


def test_every_module_says_first_what_it_is_for() -> None:
    assert [name for name, tree in SOURCES.items() if not ast.get_docstring(tree)] == []
