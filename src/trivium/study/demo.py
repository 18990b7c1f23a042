"""The demo: an ordinary study, on text that is on every machine that has trivium.

It writes data and a study file and then does what ``trivium run`` does; there is no other path through the code. What
the study file says was chosen on dev (docs/design-notes.md).
"""

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from trivium.store import atomic_write
from trivium.study.docstrings import write_docstrings
from trivium.study.progress import Reporter, Silent
from trivium.study.runner import Study, run

NAME = "demo"


def run_demo(runs: Path | str = "runs", overrides: Sequence[str] = (), reporter: Reporter | None = None) -> Study:
    """Gather docstrings, then run the study that asks which library a docstring comes from.

    Args:
        runs: Where run folders lie. Data and study file are put into ``demo/data`` and ``demo/study.yaml`` there.
        overrides: ``key=value`` pairs that win over the study file.
        reporter: Who is told how it goes; nobody, if not given.

    Raises:
        DataError: one of the libraries is not installed whole.
    """
    reporter = reporter or Silent()
    folder = Path(runs) / NAME
    data, study = folder / "data", folder / "study.yaml"
    with reporter.phase("gathering docstrings") as bar:
        write_docstrings(data, progress=bar)
    text = files("trivium.study").joinpath("demo.yaml").read_text(encoding="utf-8")
    atomic_write(study, text.replace("DATA", str(data)))
    command = " ".join(["trivium demo", *overrides])
    return run(study, overrides, runs=runs, reporter=reporter, command=command)
