"""What `trivium documents` shows: how much was found and left out, where it comes from, and why."""

from collections.abc import Callable, Mapping

from trivium.core import JSON
from trivium.study.report_markdown import LEFT_OUT
from trivium.study.report_text import clip, count, nearness, plural

_EXAMPLES = 5
_SOURCES = 12
_KNOWN = {"documents", "words", "bytes", "candidates", *LEFT_OUT}  # said in words of their own


def chosen_text(chosen: Mapping[str, JSON]) -> str:
    """The choices of all arms, as lines for a terminal.

    Args:
        chosen: As ``runner.choose_documents`` returns it.
    """
    return "\n\n".join(_arm(arm, about) for arm, about in chosen.items())


def _arm(arm: str, about: JSON) -> str:
    counts = about["counts"]
    left_out = ", ".join(f"{count(counts[key])} {said}" for key, said in LEFT_OUT.items() if key in counts)
    found = ", ".join(_COUNTED.get(name, _plain)(name, n) for name, n in counts.items() if name not in _KNOWN)
    lines = [
        f"{arm}: {count(counts['documents'])} documents, {count(counts['words'])} words",
        f"  found      {found + ', ' if found else ''}{count(counts['candidates'])} candidates",
        f"  left out   {left_out}",
        f"  nearness   {nearness(about['kl_reduction'])} nats per n-gram: KL reduction, 0 for the corpus itself",
        f"  folder     {about['folder']}: selection.parquet, audit.jsonl",
    ]
    sources = list(about["sources"].items())
    wide = max((len(clip(source, 40)) for source, _ in sources), default=0)
    for source, documents in sources[:_SOURCES]:
        words = count(about["source_words"][source])
        lines.append(f"  {clip(source, 40):{wide}}  {count(documents):>9} documents  {words:>11} words")
    if len(sources) > _SOURCES:
        lines.append(f"  and {plural(len(sources) - _SOURCES, 'more source')}")
    examples = about["examples"]
    some = sorted({round(i * (len(examples) - 1) / (_EXAMPLES - 1)) for i in range(_EXAMPLES)}) if examples else []
    return "\n".join([*lines, *(line for i in some for line in _example(examples[i]))])


def _plain(name: str, value: float) -> str:
    return f"{value:,} {name.replace('_', ' ')}"


_COUNTED: Mapping[str, Callable[[str, float], str]] = {
    "recall": lambda _, value: f"{value:.1%} of what an exact search finds",
    "overlap_with_top": lambda _, value: f"{value} % the same without chance",
}


def _example(shown: JSON) -> list[str]:
    words = ", ".join(shown["terms"])
    if shown["query_row"] is not None:
        label = f" ({shown['label']})" if shown["label"] else ""
        why = f"hit {shown['rank'] + 1} of row {shown['query_row']}{label}, score {shown['score']:.3g}"
    elif shown["score"] is not None:
        why = f"score {shown['score']:.3g}"
    else:
        why = "without a score"
    why += f": {words}" if words else ""
    return [f"  [{shown['id']}] {clip(' '.join(shown['text'].split()), 150)}", f"      {why}"]
