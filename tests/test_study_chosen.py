"""What `trivium documents` shows."""

from typing import Any

from trivium.study.chosen import chosen_text


def about(**changes: Any) -> dict[str, Any]:
    example = {
        "id": 7,
        "source": "web",
        "text": "The  enzyme\nbinds.",
        "score": 12.345,
        "rank": 0,
        "query_row": 3,
        "query_text": "an enzyme",
        "label": "YES",
        "terms": ["enzyme", "binds"],
    }
    counts = {"queries": 1200, "hits": 60_000, "recall": 0.9876, "candidates": 41_230, "heldout_equal": 3,
              "contaminated": 7, "duplicates": 120, "near_duplicates": 41, "documents": 18_400, "words": 1_999_950,
              "bytes": 12_000_000}  # fmt: skip
    usual = {
        "folder": "runs/x/artifacts/documents-0",
        "counts": counts,
        "sources": {"web": 18_000, "books": 400},
        "source_words": {"web": 1_900_000, "books": 99_950},
        "kl_reduction": 0.0973,
        "examples": [example],
    }
    return usual | changes


def test_everything_that_was_counted_is_said() -> None:
    assert chosen_text({"tlm": about()}).splitlines() == [
        "tlm: 18,400 documents, 2.0 M words",
        "  found      1,200 queries, 60,000 hits, 98.8% of what an exact search finds, 41,230 candidates",
        "  left out   3 equal to held-out text, 7 overlapping held-out text, 120 duplicates, 41 near-duplicates",
        "  nearness   +0.097 nats per n-gram: KL reduction, 0 for the corpus itself",
        "  folder     runs/x/artifacts/documents-0: selection.parquet, audit.jsonl",
        "  web       18,000 documents        1.9 M words",
        "  books        400 documents       99,950 words",
        "  [7] The enzyme binds.",
        "      hit 1 of row 3 (YES), score 12.3: enzyme, binds",
    ]


def test_what_no_row_asked_for_has_another_reason() -> None:
    drawn = about()["examples"][0] | {"rank": None, "query_row": None, "query_text": None, "label": None}
    assert "      score 12.3: enzyme, binds" in chosen_text({"dsir": about(examples=[drawn])})
    random = drawn | {"score": None, "terms": []}
    assert "      without a score" in chosen_text({"random": about(examples=[random])})


def test_of_many_examples_and_sources_some_are_shown() -> None:
    one = about()["examples"][0]
    many = {f"source {n:02}": 100 - n for n in range(20)}
    shown = chosen_text({"tlm": about(examples=[one | {"id": n} for n in range(20)], sources=many, source_words=many)})
    assert [f"[{n}]" in shown for n in (0, 5, 10, 14, 19)] == [True] * 5
    assert shown.count("score 12.3") == 5
    assert "source 11" in shown
    assert "source 12" not in shown
    assert "and 8 more sources" in shown


def test_arms_stand_apart() -> None:
    assert "\n\nrandom: " in chosen_text({"tlm": about(), "random": about()})
