"""The command line: verbs that call the library and print. Exit 0 done, 1 failed, 2 usage or study file."""

import json
import shlex
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from trivium import __version__
from trivium.errors import ConfigError, TriviumError

app = typer.Typer(
    help="Task-driven adaptation of language models: what to read, what to hide, and whether it helped.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

StudyFile = Annotated[Path, typer.Argument(help="The study file (YAML).", show_default=False)]
Overrides = Annotated[list[str] | None, typer.Argument(help="key=value pairs that win over the file.")]
Runs = Annotated[Path, typer.Option(help="Where run folders lie.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print the result and nothing else.")]

GOES_ON = ("run", "demo", "documents", "masker", "auxiliary")  # verbs that go on where they were stopped


def explained(verb: Callable[..., None]) -> Callable[..., None]:
    """Print a mistake that trivium can explain without a traceback, and exit accordingly."""

    @wraps(verb)
    def wrapper(*args: Any, **kwargs: Any) -> None:
        try:
            verb(*args, **kwargs)
        except TriviumError as error:
            said = f"{type(error).__name__}: {error}"  # may quote what no terminal can show: half a surrogate pair
            typer.echo(said.encode("utf-8", "backslashreplace").decode(), err=True)
            raise typer.Exit(2 if isinstance(error, ConfigError) else 1) from None
        except KeyboardInterrupt:
            goes_on = f"; to go on from here: {_command_line()}" if verb.__name__ in GOES_ON else ""
            typer.echo(f"stopped{goes_on}", err=True)
            raise typer.Exit(130) from None
        except Exception as error:
            from trivium.store import refusal

            told = refusal(error, Path.cwd())
            if told is None:
                raise
            typer.echo(f"ArtifactError: {told}", err=True)
            raise typer.Exit(1) from None

    return wrapper


@app.command()
@explained
def demo(
    runs: Runs = Path("runs"),
    overrides: Overrides = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """The whole pipeline on real text that is on this machine: which library does a docstring come from?"""
    from trivium.study.demo import run_demo

    _finish(run_demo(runs, overrides or [], _reporter(as_json, quiet)), as_json)


@app.command()
@explained
def run(
    study: StudyFile,
    overrides: Overrides = None,
    runs: Runs = Path("runs"),
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Run a study, or go on with one that was interrupted."""
    from trivium.study.runner import run as run_study

    _finish(run_study(study, overrides or [], runs=runs, reporter=_reporter(as_json, quiet)), as_json)


@app.command()
@explained
def check(study: StudyFile, overrides: Overrides = None, as_json: AsJson = False, quiet: Quiet = False) -> None:
    """Check a study file and its data, time a few real steps, and print the plan; no run folder is made."""
    from trivium.study.plan import make_plan

    plan = make_plan(study, overrides or [], _reporter(as_json, quiet))
    typer.echo(json.dumps(plan.to_json(), indent=2) if as_json else plan.to_text())


@app.command()
@explained
def new(
    data: Annotated[list[str], typer.Argument(help="Files or folders: a labelled task, and text.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where to write the study file.")] = Path("study.yaml"),
    force: Annotated[bool, typer.Option(help="Overwrite the file if it is there.")] = False,
) -> None:
    """Look at files and write a commented study file for them."""
    from trivium.study.scaffold import write_study

    typer.echo(write_study(data, output, force=force))


@app.command()
@explained
def documents(
    study: StudyFile,
    overrides: Overrides = None,
    runs: Runs = Path("runs"),
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Choose the documents of every arm, and show them before any training."""
    from trivium.study.chosen import chosen_text
    from trivium.study.runner import choose_documents

    chosen = choose_documents(study, overrides or [], runs=runs, reporter=_reporter(as_json, quiet))
    typer.echo(json.dumps(chosen, indent=2, ensure_ascii=False) if as_json else chosen_text(chosen))


@app.command()
@explained
def masker(
    study: StudyFile,
    overrides: Overrides = None,
    runs: Runs = Path("runs"),
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Make the masker of every arm ready, and show what it hides before any training."""
    from trivium.study.hiding_text import print_hiding
    from trivium.study.runner import choose_maskers

    told = choose_maskers(study, overrides or [], runs=runs, reporter=_reporter(as_json, quiet))
    _show(told, as_json, print_hiding)


@app.command()
@explained
def auxiliary(
    study: StudyFile,
    overrides: Overrides = None,
    runs: Runs = Path("runs"),
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Choose what every arm learns beside the task, and show it before the arms are trained."""
    from trivium.study.beside_text import print_beside
    from trivium.study.runner import choose_tasks

    told = choose_tasks(study, overrides or [], runs=runs, reporter=_reporter(as_json, quiet))
    _show(told, as_json, print_beside)


@app.command()
@explained
def report(
    folders: Annotated[list[Path], typer.Argument(help="Run folders.", show_default=False)], as_json: AsJson = False
) -> None:
    """Write the report of finished runs again, and print their verdicts."""
    from trivium.study.report import write_report
    from trivium.study.report_run import read_verdict
    from trivium.study.verdict import Verdict

    verdicts = []
    for folder in folders:
        if not (folder / "verdict.json").exists():
            raise TriviumError(f"{folder}: expected a finished run with verdict.json; `trivium run` makes one.")
        page = write_report(folder)
        verdicts.append(read_verdict(folder))
        if not as_json:
            _print_verdict(Verdict.from_json(verdicts[-1]), page)
    if as_json:
        typer.echo(json.dumps(verdicts[0] if len(verdicts) == 1 else verdicts, indent=2, ensure_ascii=False))


@app.command()
@explained
def predict(
    model: Annotated[Path, typer.Argument(help="A model folder: runs/<study>/models/<arm>/seed-<n>.")],
    file: Annotated[str, typer.Argument(help="A file with rows to answer, or - for one text a line from stdin.")] = "-",
    text: Annotated[str | None, typer.Option(help="Name of the text column, if it is not a usual one.")] = None,
    keep: Annotated[
        list[str] | None, typer.Option(help="A column of the file to hand through, such as id; id=name renames it.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write a .jsonl or .csv file instead of printing.")
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Most rows that are read and answered together.")] = 2048,
) -> None:
    """What a model says of new rows, one JSON object a line.

    What the rows must have, and what comes out, depends on the kind of task that the model was trained for:

    \b
    kind        columns           answer
    classify    text (text_pair)  label, probability, probabilities of all labels
    multilabel  text (text_pair)  labels, probabilities of all labels
    regress     text (text_pair)  score
    rank        text, choices     choice (from 0), probabilities of the choices
    tag         tokens            tags and probabilities, one for each token
    span        text, text_pair   answer (empty: there is none), probability

    Of a span, text is the question and text_pair the context. Other usual names, such as question, context and
    options, are recognised as in a task.
    """  # noqa: D301
    from trivium.data import read_lines, read_texts
    from trivium.training.answers import demand_format, write_answers, write_lines
    from trivium.training.predict import predict as label

    if output is not None:
        demand_format(output)
    names = {old: new or old for old, _, new in (each.partition("=") for each in keep or [])}
    if file == "-" and (names or text):
        raise ConfigError("--keep and --text are about columns; standard input has none, each line is a text.")
    rows = read_lines(sys.stdin.buffer) if file == "-" else read_texts(file, text, keep=names)
    answers = label(model, rows, batch=batch)
    if output is None:
        write_lines(answers, sys.stdout, batch)
    else:
        typer.echo(f"{write_answers(answers, output, batch):,} answers: {output}")


@app.command()
@explained
def export(
    model: Annotated[Path, typer.Argument(help="A model folder: runs/<study>/models/<arm>/seed-<n>.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write it as ONNX into this folder.")] = None,
    tolerance: Annotated[float, typer.Option(help="How far a logit of the ONNX model may be from torch's.")] = 1e-4,
    push: Annotated[
        str | None, typer.Option(metavar="OWNER/NAME", help="Upload it, with its card, to the Hugging Face hub.")
    ] = None,
    private: Annotated[bool, typer.Option(help="Let nobody else see what is uploaded.")] = False,
) -> None:
    """A model for others: as ONNX, checked against torch, or on the Hugging Face hub.

    Nothing is ever uploaded without --push. The hub knows you by HF_TOKEN, or by what `hf auth login` left.
    """
    if output is None and push is None:
        raise ConfigError("expected --output FOLDER (ONNX), --push OWNER/NAME (the hub) or both, found neither.")
    if output is not None:
        from trivium.training.export import export_onnx

        made = export_onnx(model, output, tolerance=tolerance)
        typer.echo(f"{made.folder}: within {made.difference:.1e} of torch (tolerance {tolerance:g})")
    if push is not None:
        from trivium.training.push import push as upload

        typer.echo(upload(model, push, private=private, onnx=output))


@app.command()
@explained
def doctor(as_json: AsJson = False) -> None:
    """Versions, devices and optional parts."""
    from trivium.study.doctor import examine

    found = examine()
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    for section, items in found.items():
        typer.echo(section)
        for name, value in items.items():
            typer.echo(f"  {name:<16} {value}")


@app.callback(invoke_without_command=True)
def root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    """Task-driven adaptation of language models: what to read, hide and learn beside, and whether it helped."""
    if version:
        typer.echo(f"trivium {__version__}")
        raise typer.Exit


def main() -> None:
    """The console script."""
    app()


def _reporter(as_json: bool, quiet: bool) -> Any:
    """With ``--json``, standard output is for the result alone; with ``--quiet``, there is nothing else at all."""
    from trivium.study.progress import Silent, Terminal

    return Silent() if quiet else Terminal(Console(stderr=as_json))


def _command_line() -> str:
    """What was typed, fit to be typed again."""
    program, *arguments = sys.argv
    name = "python -m trivium" if program.endswith(".py") else Path(program).name
    return f"{name} {shlex.join(arguments)}"


def _show(told: Any, as_json: bool, show: Callable[[Any, Console], None]) -> None:
    if as_json:
        typer.echo(json.dumps(told, indent=2, ensure_ascii=False))
    else:
        show(told, Console())


def _finish(study: Any, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(study.verdict.to_json(), indent=2, ensure_ascii=False))
    else:
        _print_verdict(study.verdict, study.report)


def _print_verdict(verdict: Any, page: Path) -> None:
    typer.echo("")
    typer.echo(str(verdict))
    typer.echo(f"\nreport: {page.resolve()}")
