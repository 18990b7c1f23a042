"""The model card: what a reader of a model's folder, or of its page on the Hugging Face hub, has to know.

Everything in it was read from the run folder; nothing is measured or judged here. Names and texts come from data of
others, so in Markdown they are escaped, and the metadata is written by a YAML library.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from trivium.core import JSON
from trivium.pretrained import locate
from trivium.study.report_markdown import plain, table, wrapped
from trivium.study.report_run import Run
from trivium.study.report_tables import ArmRow, arm_rows, origin_of
from trivium.study.report_text import NOTHING, count, metric_name, number, plural, points, short
from trivium.study.report_verdict import cautions, headline

CARD = "README.md"
MOST_LABELS = 100
PIPELINES = {  # kind of task: how the hub calls it
    "classify": "text-classification",
    "multilabel": "text-classification",
    "regress": "text-classification",
    "rank": "multiple-choice",
    "tag": "token-classification",
    "span": "question-answering",
}
METRICS = {  # ours: how the hub calls it, where that differs
    "macro_f1": "f1",
    "micro_f1": "f1",
    "weighted_f1": "f1",
    "samples_f1": "f1",
    "entity_f1": "f1",
    "entity_macro_f1": "f1",
    "token_macro_f1": "f1",
    "mcc": "matthews_correlation",
    "pearson": "pearsonr",
    "spearman": "spearmanr",
    "r2": "r_squared",
}
ANSWERS = {
    "classify": "gives a text (or a pair of texts) one of {n} labels",
    "multilabel": "gives a text (or a pair of texts) any of {n} labels",
    "regress": "gives a text (or a pair of texts) a number",
    "rank": "says which of several choices is right",
    "tag": "gives every word of a text one of {n} tags",
    "span": "finds the stretch of a text that answers a question",
}
_MARKS = re.compile(r"^(?=[#>+=~\[-])|(?<=^\d)(?=[.)])|(?=\*)|(?<!\w)(?=_)|(?=_(?!\w))")  # before what would be markup


def card(run: Run, arm: str, seed: int, config: JSON) -> str:
    """The card of the model that one arm made with one seed.

    Args:
        run: The run that it is from.
        arm: The arm's name.
        seed: The seed.
        config: The model's ``config.json``.

    Returns:
        Markdown with metadata as the Hugging Face hub has it: its ``model-index`` holds the scores of these weights,
        one for each metric. The language of a text and the licence of data are not known, and left out.
    """
    from huggingface_hub import ModelCardData

    kind = str((config.get("trivium") or {}).get("kind") or "classify")
    base = _base_model(run)
    results = _results(run, arm, seed, kind)
    data = ModelCardData(
        library_name="transformers",
        pipeline_tag=PIPELINES[kind],
        tags=["trivium", "task-adaptation", kind],
        base_model=base,
        metrics=list(dict.fromkeys(result.metric_type for result in results)) or None,
        model_name=f"{short(run.verdict['study'])}-{short(arm)}-seed-{seed}" if results else None,
        eval_results=results or None,
    )
    return f"---\n{data.to_yaml()}\n---\n\n{_body(run, arm, seed, kind, config)}"


def _base_model(run: Run) -> str | None:
    """The hub's name of the encoder that training began with, if it has one."""
    name = (run.settings.get("encoder") or {}).get("pretrained")
    if not isinstance(name, str) or not re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", name) or Path(name).exists():
        return None
    return name if locate(name) == name else None


def _results(run: Run, arm: str, seed: int, kind: str) -> list[JSON]:
    """What was measured of these weights, in the words of the hub."""
    from huggingface_hub import EvalResult

    split, task = run.verdict["split"], " ".join(run.verdict["task"].split())
    values = _values(run, arm, seed, split)
    return [
        EvalResult(
            task_type=PIPELINES[kind],
            dataset_type=re.sub(r"[^\w.-]+", "-", task) or "task",
            dataset_name=task,
            dataset_split="validation" if split == "dev" else split,
            metric_type=METRICS.get(metric, metric),
            metric_name=metric_name(metric),
            metric_value=round(value, 6),
        )
        for metric, value in values.items()
    ]


def _values(run: Run, arm: str, seed: int, split: str) -> dict[str, float]:
    """Every finite metric of one model on one split, the verdict's first."""
    found = next(
        (s.get("values") or {} for s in run.scores if (s["arm"], s["seed"], s.get("split")) == (arm, seed, split)), {}
    )
    first = run.verdict["metric"]
    names = [first, *(name for name in found if name != first)]
    return {name: value for name in names if (value := number(found.get(name))) is not None}


def _body(run: Run, arm: str, seed: int, kind: str, config: JSON) -> str:
    verdict, metric = run.verdict, metric_name(run.verdict["metric"])
    arms = arm_rows(run)
    labels = list((config.get("id2label") or {}).values())
    about = next(row for row in arms if row.name == arm)
    sentences = [c["sentence"] for c in verdict["comparisons"] if arm in (c["arm"], c["baseline"])]
    parts = [
        f"# {_said(verdict['study'])}: {_said(arm)}, seed {seed}",
        _what(run, arm, seed, kind, config, len(labels)),
        "## Did it help?",
        f"**{_said(headline(verdict))}**",
        _bullets([*sentences, *cautions(run)]),
        wrapped(
            f"Scores of all arms in points of {metric} on {verdict['split']}, mean and standard deviation over "
            f"{plural(len(verdict['seeds']), 'seed')}, and of these weights alone:"
        ),
        table(("arm", metric, "of these weights"), [_score(run, row, arm, seed) for row in arms], "lrr"),
        _measured(run, arm, seed),
        "## How it was trained",
        _bullets(_training(run, about, seed, config)),
        "## Data",
        _bullets(_data(run)),
        _labels(labels, kind),
        "## Limits",
        _bullets(_limits(run, kind, config)),
        "## Use",
        _use(kind),
        "## Make it again",
        f"    {' '.join(str(run.manifest.get('command') or NOTHING).split())}",
        _bullets([f"{name}: {value}" for name, value in origin_of(run).parts]),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _what(run: Run, arm: str, seed: int, kind: str, config: JSON, labels: int) -> str:
    encoder = run.settings.get("encoder") or {}
    start = f"that began as {encoder['pretrained']}" if encoder.get("pretrained") else "trained from scratch"
    return (
        f"This model {ANSWERS[kind].format(n=labels)}: a {_said(str(config.get('model_type', 'transformers')))} "
        f"encoder {_said(start)}, fitted to the task {_said(run.verdict['task'])}. It is what the arm "
        f"{_said(arm)} of the study {_said(run.verdict['study'])} made with seed {seed}."
    )


def _score(run: Run, row: ArmRow, arm: str, seed: int) -> tuple[str, str, str]:
    name = f"{row.name} ({row.role})" if row.role else row.name
    own = _values(run, arm, seed, run.verdict["split"]).get(run.verdict["metric"]) if row.name == arm else None
    return name, "failed" if row.failed else row.score, NOTHING if own is None else points(own)


def _measured(run: Run, arm: str, seed: int) -> str:
    """Every other metric of these weights."""
    splits = list(dict.fromkeys((run.verdict["split"], "dev")))
    found = {split: _values(run, arm, seed, split) for split in splits}
    names = dict.fromkeys(name for values in found.values() for name in values)
    rows = [(metric_name(name), *(points(found[split].get(name)) for split in splits)) for name in names]
    return table(("these weights", *splits), rows, "l" + "r" * len(splits)) if rows else ""


def _training(run: Run, about: ArmRow, seed: int, config: JSON) -> list[str]:
    """The arm: what was read, hidden and learned beside, in which stages, and what it cost."""
    encoder = run.settings.get("encoder") or {}
    said = [
        f"encoder: {', '.join(f'{key} {value}' for key, value in encoder.items() if value is not None) or NOTHING}",
        f"read: {about.reads}",
    ]
    chosen = ((run.manifest.get("arms") or {}).get(about.name) or {}).get("documents") or {}
    counts = (run.examples.get(chosen.get(str(seed)) or "") or {}).get("counts")
    if counts:
        said.append(f"documents read: {count(counts.get('documents'))}, of {count(counts.get('words'))} words")
    said += [f"hidden: {about.hides}"] if about.hides != NOTHING else []
    said += [
        f"stages: {about.stages}",
        f"updates: {about.updates}; tokens: {about.tokens}; time: {about.seconds} (means over seeds)",
    ]
    cut = config.get("trivium") or {}
    return said + ([f"inputs: at most {cut['max_length']} tokens"] if cut.get("max_length") else [])


def _data(run: Run) -> list[str]:
    origin = origin_of(run)
    rows = run.manifest.get("rows") or {}
    said = [f"rows of the task: {', '.join(f'{n:,} {split}' for split, n in rows.items())}"] if rows else []
    said += [f"fingerprint of {name}: {value}" for name, value in origin.fingerprints]
    return [*said, *(f"note: {note}" for note in origin.notes)]


def _labels(labels: Sequence[str], kind: str) -> str:
    if kind in ("regress", "rank", "span"):
        return ""
    more = len(labels) - MOST_LABELS
    named = ", ".join(_said(str(label)) for label in labels[:MOST_LABELS])
    return f"Labels: {named}{f', and {more:,} more in config.json' if more > 0 else ''}."


def _limits(run: Run, kind: str, config: JSON) -> list[str]:
    split = run.verdict["split"]
    cut: Mapping[str, JSON] = config.get("trivium") or {}
    cuts = cut.get("long_text") if kind != "span" else "windows"
    said = [
        f"It was judged on the {split} split of its own task. What it does with texts from elsewhere was not measured.",
        "The verdict is about the arm over all its seeds; these weights are those of one seed, and others differ.",
    ]
    if cut.get("max_length"):
        ways = {"head": "what is beyond is not read", "windows": "longer texts are read in windows, by trivium alone"}
        way = ways.get(str(cuts), "of longer texts, trivium reads the beginning and the end")
        said.append(f"It reads at most {cut['max_length']} tokens at a time; {way}.")
    if kind in ("classify", "rank", "tag"):
        said.append("It always answers, also where no answer fits. Probabilities were not calibrated.")
    if not (run.settings.get("encoder") or {}).get("pretrained"):
        said.append("It was trained from scratch: all it knows is from its training rows and from what it read.")
    said.append("Licence and language are those of the data and of the encoder it began with; trivium knows neither.")
    return said


def _use(kind: str) -> str:
    """How to load it with plain transformers, and how with trivium."""
    return f"```python\n{_CODE[kind]}\n```\n\nFor whole files: `trivium predict FOLDER new.csv`."


_PIPELINE = """from transformers import pipeline

answer = pipeline("{task}", model="FOLDER")
print(answer("a text"{options}))"""
_MODEL = """from transformers import {model}, AutoTokenizer

model, tokenizer = {model}.from_pretrained("FOLDER"), AutoTokenizer.from_pretrained("FOLDER")
"""
_CODE = {
    "classify": _PIPELINE.format(task="text-classification", options=""),
    "multilabel": _PIPELINE.format(task="text-classification", options=", top_k=None")
    + "  # a label is given whose score is above 0.5",
    "regress": _PIPELINE.format(task="text-classification", options=', function_to_apply="none"'),
    "tag": _PIPELINE.format(task="token-classification", options="") + "  # the first piece of a word speaks for it",
    "rank": _MODEL.format(model="AutoModelForMultipleChoice")
    + """inputs = tokenizer(["a question"] * 2, ["one choice", "another"], padding=True, return_tensors="pt")
print(model(**{name: value[None] for name, value in inputs.items()}).logits.softmax(-1))""",
    "span": _MODEL.format(model="AutoModelForQuestionAnswering")
    + """inputs = tokenizer("a question", "the text with its answer", return_tensors="pt")
found = model(**inputs)
first, last = found.start_logits.argmax(), found.end_logits.argmax()
print(tokenizer.decode(inputs["input_ids"][0, first : last + 1]))  # trivium predict looks for the best stretch""",
}


def _bullets(lines: Sequence[str]) -> str:
    """A list; a line that came from data stays one line."""
    return "\n".join(f"- {_said(line)}" for line in lines)


def _said(text: str) -> str:
    r"""Text that stays text at the beginning of a line or in it: no tag, link, heading, list or emphasis.

    >>> print(_said("# <b> [a](b) *x* _y_ a_b"))
    \# \<b> [a]\(b) \*x\* \_y\_ a_b
    >>> print(_said("1. one"), _said("[a]: b"))
    1\. one \[a]: b
    """
    return _MARKS.sub(r"\\", plain(text))
