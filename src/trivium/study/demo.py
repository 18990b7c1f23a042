"""The demo: an ordinary study, on text that is on every machine that has trivium.

It writes data and a study file and then does what ``trivium run`` does; there is no other path through the code. What
the study file says was chosen on dev (docs/design-notes.md).
"""

import shlex
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import trivium
from trivium.store import Store, atomic_write
from trivium.study.docstrings import versions, write_docstrings
from trivium.study.progress import Reporter, Silent
from trivium.study.runner import Study, run

NAME = "demo"


def run_demo(runs: Path | str = "runs", overrides: Sequence[str] = (), reporter: Reporter | None = None) -> Study:
    """Gather docstrings, then run the study that asks which library a docstring comes from.

    Args:
        runs: Where run folders lie. The study file is ``demo/study.yaml`` there, the data an artifact beside it.
        overrides: ``key=value`` pairs that win over the study file.
        reporter: Who is told how it goes; nobody, if not given.

    Raises:
        DataError: one of the libraries is not installed whole.
    """
    reporter = reporter or Silent()
    store = Store(Path(runs) / NAME)

    def write(folder: Path) -> None:
        with reporter.phase("gathering docstrings") as bar:
            write_docstrings(folder / "data", progress=bar)

    made = store.make("docstrings", {"trivium": trivium.__version__, "versions": versions()}, write)
    study = files("trivium.study").joinpath("demo.yaml").read_text(encoding="utf-8")
    file = store.root / "study.yaml"
    atomic_write(file, study.replace("DATA", (made.folder / "data").as_posix()))
    elsewhere = [] if Path(runs) == Path("runs") else ["--runs", str(runs)]
    command = shlex.join(["trivium", "demo", *overrides, *elsewhere])
    return run(file, overrides, runs=runs, reporter=reporter, command=command)
