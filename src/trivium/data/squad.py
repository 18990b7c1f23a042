"""Question answering in the forms of SQuAD and of MRQA, laid out as one object for each question.

Both keep the questions below the passage they are about. Here every question becomes an object with ``question``,
``context`` and ``answers``, as flat files have it; whether an answer is where it is said to be, ``data.spans`` asks.
"""

from collections.abc import Iterator
from itertools import chain
from typing import Any

from trivium.data.place import Place
from trivium.data.words import normal


def questions(values: Iterator[Any], place: Place) -> Iterator[Any]:
    """One object for each question, if these objects are SQuAD's or MRQA's; any others as they come.

    Args:
        values: Objects of a JSON file, in order.
        place: How far the reader is, for messages.

    Raises:
        DataError: it begins like one of the two and does not go on so.

    Source: SQuAD 1.1 and 2.0 (Rajpurkar et al. 2016, 2018); MRQA 2019 (Fisch et al. 2019), whose files begin with a
    header, and whose spans name the last character of an answer and not the one behind it.
    """
    nothing = object()  # not None, which a file may begin with
    first = next(values, nothing)
    if first is nothing:
        return
    if isinstance(first, dict) and _nested(first.get("data")):
        yield from _explained((_squad(article) for article in first["data"]), place)
    elif isinstance(first, dict) and set(first) == {"header"}:
        yield from _explained(map(_mrqa, values), place)
    elif isinstance(first, dict) and {"context", "qas"} <= set(first):
        yield from _explained(map(_mrqa, chain([first], values)), place)
    else:
        yield from chain([first], values)


def _nested(articles: Any) -> bool:
    return isinstance(articles, list) and any(isinstance(a, dict) and "paragraphs" in a for a in articles)


def _explained(found: Iterator[list[dict[str, Any]]], place: Place) -> Iterator[dict[str, Any]]:
    while True:
        try:
            several = next(found, None)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise place.error(
                expected="questions below their passage, as SQuAD (data, paragraphs, context, qas, question, answers) "
                "or MRQA (context, qas, question, detected_answers) has them",
                found=f"{type(error).__name__}: {error}",
                way_out="Correct it, or write one object for each question: "
                '{"question": ..., "context": ..., "answers": [{"text": ..., "answer_start": ...}]}.',
            ) from error
        if several is None:
            return
        yield from several


def _squad(article: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"question": asked["question"], "context": paragraph["context"], "answers": _possible(asked)}
        for paragraph in article["paragraphs"]
        for asked in paragraph["qas"]
    ]


def _possible(asked: dict[str, Any]) -> Any:
    """Its answers; none at all if there is no word about them, as in a test file without labels."""
    answers = asked.get("answers")
    if asked.get("is_impossible") and answers:
        raise ValueError(f"the question {asked['question']!r} has answers and 'is_impossible'")
    return [] if asked.get("is_impossible") else answers


def _mrqa(passage: dict[str, Any]) -> list[dict[str, Any]]:
    context = passage["context"]
    return [
        {"question": asked["question"], "context": context, "answers": detected(asked.get("detected_answers"), context)}
        for asked in passage["qas"]
    ]


def detected(answers: Any, context: str) -> Any:
    """MRQA's answers as SQuAD has them.

    Args:
        answers: A list of ``{"text": ..., "char_spans": [[first, last], ...]}``; or as the hub has it, lists of texts
            and of ``{"start": [...], "end": [...]}``.
        context: The passage.

    Returns:
        Every place as ``{"text", "answer_start"}``, the text as it stands there, for MRQA may write it otherwise.

    >>> detected([{"text": "egfr", "char_spans": [[4, 7]]}], "The EGFR gene")
    [{'text': 'EGFR', 'answer_start': 4}]
    """
    if answers is None:
        return None
    if isinstance(answers, dict):
        spans = [zip(s["start"], s["end"], strict=True) for s in answers["char_spans"]]
        pairs = list(zip(answers["text"], spans, strict=True))
    else:
        pairs = [(answer["text"], answer["char_spans"]) for answer in answers]
    places = [(text, first, last) for text, spans in pairs for first, last in spans]
    return [{"text": _written(context, *place), "answer_start": place[1]} for place in places]


def _written(context: str, text: str, first: int, last: int) -> str:
    there = context[first : last + 1]
    return there if normal(there) == normal(text) else text
