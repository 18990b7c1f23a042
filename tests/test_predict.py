"""Answers for new rows: the same however they are batched, read and written; and which row is wrong."""

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from test_training_kinds import make
from trivium.cli import app
from trivium.data import read_lines, read_texts
from trivium.encoders import from_scratch, train_tokenizer
from trivium.encoders.encoder import Scratch, head_folder
from trivium.errors import ConfigError, DataError
from trivium.kinds import KINDS, Cut
from trivium.seeds import torch_scope
from trivium.training.answers import write_answers, write_lines
from trivium.training.predict import predict

EVERY_KIND = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model of every kind, untrained."""
    folder = tmp_path_factory.mktemp("models")
    tasks = [make(kind, 20) for kind in KINDS]
    tokenizer = train_tokenizer([text for task in tasks for text in task.texts("train")], 512)
    with torch_scope(0, "models"):
        encoder: Any = from_scratch(Scratch("tiny", vocabulary=512), tokenizer, 64)
        for task in tasks:
            encoder.add_head(task)
            encoder.keep_cut(task, Cut(48))
    encoder.save(folder)
    return {task.kind: head_folder(folder, task.name) for task in tasks}


def rows_of(kind: str) -> list[dict[str, Any]]:
    names = ("text", "text_pair", "choices", "tokens")
    return [{k: v for k, v in row.items() if k in names} for row in make(kind, 20).rows("train").to_pylist()]


def call(*arguments: object, code: int = 0, stdin: str | bytes | None = None) -> str:
    result = CliRunner().invoke(app, [str(a) for a in arguments], input=stdin, catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.output if code else result.stdout


def nearly(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(nearly(one[k], other[k]) for k in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(nearly, one, other))
    return bool(one == pytest.approx(other, abs=1e-5, rel=1e-5)) if isinstance(one, float) else bool(one == other)


@EVERY_KIND
def test_a_batch_is_its_rows(kind: str, models: dict[str, Path]) -> None:
    rows = rows_of(kind)
    whole = list(predict(models[kind], rows))
    assert len(whole) == len(rows)
    assert nearly(whole, list(predict(models[kind], rows, batch=3)))


def test_no_more_rows_are_held_than_a_batch(models: dict[str, Path]) -> None:
    taken = 0

    def rows() -> Iterator[dict[str, Any]]:
        nonlocal taken
        for row in rows_of("classify"):
            taken += 1
            yield row

    answers = predict(models["classify"], rows(), batch=4)
    for given in range(1, 9):
        next(answers)
        assert taken == 4 * -(-given // 4)


def test_rows_before_a_bad_one_are_answered(models: dict[str, Path]) -> None:
    answers = predict(models["classify"], read_lines(io.BytesIO(b"rook\nbishop\n\nqueen\n")))
    assert [next(answers)["label"], next(answers)["label"]]
    with pytest.raises(DataError, match=r"standard input \(line 3\): expected a text, found an empty line"):
        next(answers)


def test_the_row_that_lacks_something_is_named(models: dict[str, Path]) -> None:
    rows = rows_of("span")
    rows[5] = {"text": "who?"}
    with pytest.raises(DataError, match=r"row 6: expected text and text_pair.* found no text_pair"):
        list(predict(models["span"], rows, batch=2))


@pytest.mark.parametrize(("bad", "said"), [(b"rook\n\xff\n", "line 2"), (b"rook\n \n", "line 2")])
def test_a_bad_line_of_standard_input_is_named(bad: bytes, said: str, models: dict[str, Path]) -> None:
    told = call("predict", models["classify"], code=1, stdin=bad)
    assert said in told
    assert "Traceback" not in told


def new_file(folder: Path) -> Path:
    path = folder / "new.csv"
    path.write_text('id,text,label\n7,the rook,yes\n8,the keel,no\n9,"salt, and oven",no\n')
    return path


def test_columns_are_handed_through(models: dict[str, Path], tmp_path: Path) -> None:
    model, file = models["classify"], new_file(tmp_path)
    said = [
        json.loads(line) for line in call("predict", model, file, "--keep", "id", "--keep", "label=gold").splitlines()
    ]
    assert [(row["id"], row["gold"]) for row in said] == [("7", "yes"), ("8", "no"), ("9", "no")]
    plain = [json.loads(line) for line in call("predict", model, file).splitlines()]
    assert [{k: v for k, v in row.items() if k not in ("id", "gold")} for row in said] == plain
    assert "--keep label=given" in call("predict", model, file, "--keep", "label", code=1)
    assert "Did you mean 'id'" in call("predict", model, file, "--keep", "idd", code=1)
    assert "standard input" in call("predict", model, "--keep", "id", code=2, stdin="rook\n")
    (kept,) = {row["kept"]["text"] for row in read_texts(file, keep={"text": "text"})} - {"the keel", "salt, and oven"}
    assert kept == "the rook"


@EVERY_KIND
def test_a_table_says_what_the_lines_say(kind: str, models: dict[str, Path], tmp_path: Path) -> None:
    rows = [{**row, "kept": {"id": i}} for i, row in enumerate(rows_of(kind))]
    answers = list(predict(models[kind], rows))
    assert write_answers(iter(answers), tmp_path / "a.jsonl", 7) == write_answers(answers, tmp_path / "a.csv", 7) == 20
    assert [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()] == answers
    with (tmp_path / "a.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [int(row["id"]) for row in table] == list(range(20))
    for line, answer in zip(table, answers, strict=True):
        for name, value in answer.items():
            if name == "probabilities" and isinstance(value, dict):
                assert {label: float(line[f"probabilities.{label}"]) for label in value} == value
            else:
                assert line[name] == (json.dumps(value) if isinstance(value, list) else str(value))


def test_a_file_is_written_whole_or_not_at_all(models: dict[str, Path], tmp_path: Path) -> None:
    file, output = new_file(tmp_path), tmp_path / "out" / "answers.csv"
    assert "3 answers" in call("predict", models["classify"], file, "-o", output)
    before = output.read_text()
    file.write_text(file.read_text() + "10,,no\n")
    assert "row 4" in call("predict", models["classify"], file, "-o", output, "--batch", 1, code=1)
    assert output.read_text() == before
    assert [f.name for f in output.parent.iterdir()] == ["answers.csv"]


def test_another_suffix_is_refused_before_any_work(tmp_path: Path) -> None:
    assert ".jsonl or .csv" in call("predict", "nowhere", "-", "-o", tmp_path / "a.xlsx", code=2)
    with pytest.raises(ConfigError, match="--output"):
        write_answers([], tmp_path / "a.txt", 1)


def test_no_rows_are_no_answers(models: dict[str, Path], tmp_path: Path) -> None:
    assert call("predict", models["classify"], stdin="") == ""
    assert write_answers(predict(models["classify"], []), tmp_path / "a.csv", 1) == 0


def test_what_json_has_no_word_for_is_text() -> None:
    from datetime import date

    written = io.StringIO()
    write_lines([{"day": date(2026, 1, 2), "label": "é"}], written, 1)
    assert written.getvalue() == '{"day": "2026-01-02", "label": "é"}\n'


def test_a_stream_is_answered_as_it_comes_and_may_be_cut_off(models: dict[str, Path]) -> None:
    """With a batch of one, an answer comes before the next line is there; whoever stops reading is not shouted at."""
    with subprocess.Popen(
        [sys.executable, "-m", "trivium", "predict", str(models["classify"]), "--batch", "1"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        for line in ("rook\n", "keel\n"):
            process.stdin.write(line)
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["label"]
        process.stdout.close()
        process.stdin.write("bishop\n" * 3)
        process.stdin.close()
        assert process.stderr.read() == ""
        assert process.wait(60) == 1
