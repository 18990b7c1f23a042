"""The nouns: Task, Corpus, Queries, Selection, Stage, Score.

Frozen, small, and free of torch, so that every room can speak of them. What is *done* with them stands in the rooms.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self, get_args

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from trivium.errors import ArtifactError, ConfigError, LeakError

Split = Literal["train", "dev", "test"]
SPLITS: tuple[Split, ...] = ("train", "dev", "test")
Stream = Literal["task", "documents", "texts", "auxiliary"]
Combine = Literal["alternate", "pcgrad", "cosine"]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
JSON = Any  # what json.dumps takes


def digest(value: JSON) -> str:
    """A short, stable name for anything that JSON can say.

    >>> digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    True
    """
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return xxhash.xxh3_128_hexdigest(text.encode())[:20]


@dataclass(frozen=True)
class Task:
    """A labelled task.

    Attributes:
        name: How it is called in reports and as the name of its head.
        kind: What it is, a key of ``trivium.kinds.KINDS``, for example ``"classify"``.
        metric: The metric that the verdict is about, one of its kind's.
        labels: What the logits of its head stand for: label names, tags, ``score``, or ``start`` and ``end``.
        tables: One Arrow table per split. Columns: ``text``, perhaps ``text_pair``, ``label``, and where the row came
            from: ``file`` and ``row`` (counted from 1, header not counted). What ``label`` is depends on the kind:
            classify int64, an index into ``labels``; multilabel a list of such; regress float64; rank, with a column
            ``choices`` (list of string), int64, which of them is right; tag, with a column ``tokens`` (list of string),
            an index for each; span, where ``text`` asks and ``text_pair`` is the context, a list of
            ``{text, start}``, the accepted answers and the character of the context where each begins.
        notes: What was decided while loading and must be said aloud: a dev split carved from train, rows dropped.
        variant: ``"module:Class"`` of a user's kind that learns, or is judged, in a way of its own; its rows and
            answers are those of ``kind``.
    """

    name: str
    kind: str
    metric: str
    labels: tuple[str, ...]
    tables: Mapping[Split, pa.Table]
    notes: tuple[str, ...] = ()
    variant: str | None = None

    def rows(self, split: Split) -> pa.Table:
        """The rows of a split.

        Raises:
            LeakError: the task is sealed and somebody asked for its test rows.
        """
        if split not in self.tables:
            raise LeakError(
                f"task '{self.name}': the {split} split was asked for, but this task has only "
                f"{', '.join(self.tables)}. Only `evaluate` may open the test split; give it the task that "
                "`load_task` returned, not a sealed one."
            )
        return self.tables[split]

    def texts(self, split: Split) -> list[str]:
        """The text of every row of a split; of a pair, or a question and its choices, all with line breaks between."""
        rows = self.rows(split)
        first: list[str] = rows["text"].to_pylist()
        if "choices" in rows.column_names:
            return ["\n".join([text, *more]) for text, more in zip(first, rows["choices"].to_pylist(), strict=True)]
        if "text_pair" not in rows.column_names:
            return first
        return [f"{a}\n{b}" for a, b in zip(first, rows["text_pair"].to_pylist(), strict=True)]

    def passages(self) -> tuple[list[str], Ints]:
        """The training texts without their labels, each once: what gaps are filled in, and what maskers learn from.

        Of questions over contexts these are the contexts, many of which serve several questions; of other tasks what
        ``texts`` returns.

        Returns:
            The distinct texts in the order in which they first appear, and which of them each training row has, int64
            ``[rows]``.
        """
        rows = self.rows("train")
        texts: list[str] = rows["text_pair"].to_pylist() if self.kind == "span" else self.texts("train")
        place = {text: i for i, text in enumerate(dict.fromkeys(texts))}
        return list(place), np.array([place[text] for text in texts], np.int64)

    def sealed(self) -> "Task":
        """The same task without its test split: what selection, masking and training are given."""
        return replace(self, tables={split: rows for split, rows in self.tables.items() if split != "test"})

    @cached_property
    def fingerprint(self) -> str:
        """Changes when anything that a result depends on changes: rows, labels, kind, metric; not where files lie."""
        rows = {split: _table_digest(table) for split, table in self.tables.items()}
        variant = [] if self.variant is None else [self.variant]
        return digest([self.name, self.kind, self.metric, self.labels, rows, *variant])


@dataclass(frozen=True)
class Corpus:
    """Documents that lie in a memory-mapped file; a document's id is its position, from 0.

    Attributes:
        name: How it is called in reports.
        fingerprint: Changes when any document, its order or the window changes.
        table: Columns ``text`` (large_string), ``source`` (dictionary of string), ``words`` (int32: how many words
            retrieval's analyzer counts in it), ``file`` (dictionary of string) and ``row`` (int64, counted from 1).
        notes: What was decided while loading: rows dropped, documents cut into windows.
    """

    name: str
    fingerprint: str
    table: pa.Table
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def texts(self, ids: Sequence[int] | Ints) -> list[str]:
        """The documents with these ids, in this order."""
        column = self.table["text"]  # one by one: `take` would first copy the whole column into memory
        return [column[int(i)].as_py() for i in ids]

    def sources(self, ids: Sequence[int] | Ints) -> list[str]:
        """Where these documents came from, in this order."""
        return list(self.table["source"].take(pa.array(ids, pa.int64())).to_pylist())

    @cached_property
    def words(self) -> npt.NDArray[np.int32]:
        """How many words each document has, int32 ``[documents]``."""
        return np.asarray(self.table["words"].to_numpy(), np.int32)


@dataclass(frozen=True)
class Queries:
    """What a selector may know of a task: its training texts, nothing else.

    A selector is typed to take this and not a Task, so that no dev or test text can become a query.
    """

    task: str
    texts: tuple[str, ...]

    @classmethod
    def of(cls, task: Task) -> Self:
        """The training texts of a task, query i being training row i."""
        return cls(task.name, tuple(task.texts("train")))


@dataclass(frozen=True)
class Selection:
    """What was chosen, best first, why, and how.

    Attributes:
        ids: What was chosen, ``[n]``, in the order of choice.
        scores: How good each is in the eyes of the selector, ``[n]``; nan where the selector does not score.
        ranks: Position in the ranking that each came from (0 is best), ``[n]``.
        queries: The training row that asked for each, ``[n]``; -1 where none did.
        terms: For each, the words it shares with that row, weightiest first; empty where words played no part.
        how: The selector's settings, fingerprints of what it saw, and counts of what was left out.
        corpus: Where the ids point, if the selection is of documents; not saved with it.
        audit: What was left out because it gives a held-out text away, each with the evidence, as JSON.
    """

    ids: Ints
    scores: Floats
    ranks: Ints
    queries: Ints
    terms: tuple[tuple[str, ...], ...]
    how: Mapping[str, JSON] = field(default_factory=dict)
    corpus: "Corpus | None" = field(default=None, repr=False, compare=False)
    audit: tuple[Mapping[str, JSON], ...] = field(default=(), repr=False)

    def texts(self) -> list[str]:
        """The chosen documents, best first."""
        assert self.corpus is not None, "a selection of documents remembers its corpus"
        return self.corpus.texts(self.ids)

    def __len__(self) -> int:
        return len(self.ids)

    def save(self, folder: Path) -> None:
        """Write ``selection.parquet``, ``selection.json`` and ``audit.jsonl`` into a folder."""
        table = pa.table(
            {
                "id": self.ids,
                "score": self.scores,
                "rank": self.ranks,
                "query": self.queries,
                "terms": pa.array(self.terms, pa.list_(pa.string())),
            }
        )
        pq.write_table(table, folder / "selection.parquet")
        (folder / "selection.json").write_text(json.dumps(self.how, indent=2, ensure_ascii=False), encoding="utf-8")
        lines = (json.dumps(entry, ensure_ascii=False) + "\n" for entry in self.audit)
        (folder / "audit.jsonl").write_text("".join(lines), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, corpus: "Corpus | None" = None) -> Self:
        """Read what ``save`` wrote.

        Args:
            folder: Where it was written.
            corpus: The corpus it was chosen from, if its texts will be asked for.

        Raises:
            ArtifactError: the folder does not hold a whole selection.
        """
        try:
            table = pq.read_table(folder / "selection.parquet")
            how = json.loads((folder / "selection.json").read_text(encoding="utf-8"))
            lines = (folder / "audit.jsonl").read_text(encoding="utf-8").split("\n")
            return cls(
                table["id"].to_numpy(),
                table["score"].to_numpy(),
                table["rank"].to_numpy(),
                table["query"].to_numpy(),
                tuple(map(tuple, table["terms"].to_pylist())),
                how,
                corpus,
                tuple(json.loads(line) for line in lines if line),
            )
        except (OSError, pa.ArrowException, KeyError, ValueError) as error:
            raise ArtifactError(
                f"{folder}: expected a selection (selection.parquet, selection.json and audit.jsonl), found {error}. "
                "Delete the folder and run again: it is made anew."
            ) from error


COUNT, LENGTH = "at least 1", "at least 8 tokens and at most 1,048,576"
PASSES = "a number above 0 and up to 1,000,000"
POSITIVE, FROM_ZERO, SHARE, FINITE = "a number above 0", "a number from 0", "a share from 0 to 1", "a number"

_RANGES: Mapping[str, Callable[[float], bool]] = {
    COUNT: lambda n: n >= 1,
    LENGTH: lambda n: 8 <= n <= 1 << 20,  # two texts, three special tokens, and something to read
    PASSES: lambda x: 0 < x <= 1_000_000,
    POSITIVE: lambda x: 0 < x < math.inf,
    FROM_ZERO: lambda x: 0 <= x < math.inf,
    SHARE: lambda x: 0 <= x <= 1,
    FINITE: lambda x: -math.inf < x < math.inf,
}


def demand(settings: object, where: str, ranges: Mapping[str, Sequence[str]]) -> None:
    """Refuse settings that are out of range; none is always in it, and nan never.

    Args:
        settings: What has them as attributes.
        where: What the message begins with, before the name of a setting.
        ranges: For each range (``COUNT``, …), the settings that must be in it.

    Raises:
        ConfigError: one is not.

    >>> demand(Stage("tune", {"task": 1}, epochs=3), "stage 'tune', ", {COUNT: ["epochs", "updates"]})
    """
    for expected, names in ranges.items():
        for name in names:
            value = getattr(settings, name)
            if value is not None and not _RANGES[expected](value):
                raise ConfigError(f"{where}{name}: expected {expected}, found {value}.")


@dataclass(frozen=True)
class Stage:
    """One stretch of training over named streams.

    Attributes:
        name: How it is called in logs and the report.
        mix: Batches of each stream in one cycle. ``{"documents": 3, "task": 1}`` is TLM's ratio ρ1 = 3: three batches
            of documents, then one of the task. ``texts`` are batches of the task's own training texts without labels,
            each once in a pass, to fill gaps in (TAPT, Gururangan et al. 2020). ``auxiliary`` are batches of the tasks
            that are learned beside it.
        updates: How long, in updates of the weights; or
        epochs: how long, in passes over the task, where it takes part; else over the auxiliary tasks, the texts, or the
            documents.
        lr: Peak learning rate.
        warmup: Share of the updates in which the rate climbs from 0; after it, it falls to 0 in a straight line.
        mlm_weight: ρ2, the weight of the masked-language-model loss on batches of tasks; 0 leaves their text whole.
        loss_norm: ``paper``: ρ2·mlm + task. ``code``: the same divided by 1 + ρ2, as TLM's code computes it.
        batch_rows: Task rows in a batch.
        batch_tokens: Tokens, padding included, in a batch of documents or texts.
        max_length: Longest input in tokens. Documents and texts are cut into windows of this, task rows as
            ``long_text`` says.
        long_text: What is read of a longer row: ``head``, its beginning; ``head+tail``, beginning and end; ``windows``,
            all of it in several inputs whose logits are averaged. Contexts of questions are always read in windows.
        stride: Tokens that neighbouring windows of a row share; none is a quarter of ``max_length``.
        class_weight: ``none``; ``balanced``, every label counts the same in the loss however rare it is; or a weight by
            label, 1 for those not named.
        sampling: How turns are shared where ``mix`` has auxiliary tasks. None: as ``mix`` says, and the auxiliary turns
            by size. Otherwise all turns of task and auxiliary go to the tasks by ``proportional`` (size: a pass over
            each in an epoch, as MT-DNN), ``temperature`` (size to the power of 1 / ``temperature``), ``uniform``, or a
            ratio by name of task, as AUTOSEM learns it.
        temperature: Of ``sampling: temperature``.
        auxiliary_cap: Rows of an auxiliary task that count as its size (Raffel et al. 2020, section 3.5.2).
        combine: What becomes of an auxiliary task's gradient on the weights that tasks share. ``alternate``: it is
            followed as it is, in that task's turn. ``cosine``: only if its cosine with the gradient of the task itself
            is not below 0; otherwise the shared weights rest, and only the auxiliary head learns (Du et al. 2018).
            ``pcgrad``: if the cosine is below 0, the part along the task's gradient is taken off (Yu et al. 2020). Both
            read a further batch of the task in each auxiliary turn: such a turn takes about twice the time and tokens,
            and memory for a second gradient.
        micro_tokens: Tokens, padding included, that are computed at once; a larger batch is computed in parts whose
            gradients add up (dropout is drawn part by part). Halved by itself where memory does not suffice.
        compile: Compile the backbone (``torch.compile``): minutes before the first update, for long stages on a GPU.
        weight_decay: AdamW's, on matrices only.
        clip: Largest norm of the gradient.
        dropout: In place of the encoder's own rate, in every dropout layer it has; none keeps its own.
        evaluate_every: Updates between two looks at dev, when the stage has a task; none looks ten times.
        gradients_every: Updates between two comparisons of what the masked-language-model loss and the task's loss ask
            of the backbone: the cosine of their gradients, layer by layer, for the report. No weight depends on it. One
            takes the time of two updates, one with each loss, and memory for a second gradient; none never compares.
        patience: Stop after this many looks at dev without a better one, but not in the first half of the updates,
            where the rate is high and dev goes up and down; none never stops early.
        keep_best: End with the weights of the best look at dev, not with the last.
        reset_head: Start with a fresh task head.
        freeze: Leave the lowest so many layers, and the embeddings, as they are.
        layer_decay: Learning rate of each layer relative to the one above it; 1 is the same everywhere.
    """

    name: str
    mix: Mapping[Stream, int]
    updates: int | None = None
    epochs: float | None = None
    lr: float = 1e-4
    warmup: float = 0.1
    mlm_weight: float = 0.0
    loss_norm: Literal["paper", "code"] = "paper"
    batch_rows: int = 32
    batch_tokens: int = 4096
    max_length: int = 128
    long_text: Literal["head", "head+tail", "windows"] = "head"
    stride: int | None = None
    class_weight: Literal["none", "balanced"] | Mapping[str, float] = "none"
    sampling: Literal["proportional", "temperature", "uniform"] | Mapping[str, float] | None = None
    temperature: float = 2.0
    auxiliary_cap: int | None = None
    combine: Combine = "alternate"
    micro_tokens: int = 32768
    compile: bool = False
    weight_decay: float = 0.01
    clip: float = 1.0
    dropout: float | None = None
    evaluate_every: int | None = None
    gradients_every: int | None = None
    patience: int | None = None
    keep_best: bool = True
    reset_head: bool = False
    freeze: int = 0
    layer_decay: float = 1.0

    def __post_init__(self) -> None:
        """Refuse what no loop could run."""
        if (self.updates is None) == (self.epochs is None):
            raise ConfigError(f"stage '{self.name}': give exactly one of 'updates' and 'epochs'.")
        if not self.mix or any(n < 1 for n in self.mix.values()):
            raise ConfigError(
                f"stage '{self.name}': 'mix' needs at least one stream, each at least once in a cycle, for example "
                f"{{documents: 3, task: 1}}; found {dict(self.mix)}."
            )
        unknown = set(self.mix) - set(get_args(Stream))
        if unknown:
            raise ConfigError(
                f"stage '{self.name}': unknown stream {sorted(unknown)}; known are {', '.join(get_args(Stream))}."
            )
        if self.sampling is not None and "auxiliary" in self.mix and "task" not in self.mix:
            raise ConfigError(
                f"stage '{self.name}': 'sampling' shares turns out between the task and others, and 'mix' leaves the "
                "task out. Add task: 1, or leave 'sampling' out."
            )
        if self.combine not in get_args(Combine):
            raise ConfigError(
                f"stage '{self.name}', combine: expected one of {', '.join(get_args(Combine))}; found {self.combine!r}."
            )
        if self.combine != "alternate" and not {"task", "auxiliary"} <= set(self.mix):
            raise ConfigError(
                f"stage '{self.name}': 'combine: {self.combine}' compares gradients of auxiliary tasks with the task's "
                f"own and needs both in 'mix', found {', '.join(self.mix)}. Add the other one, or leave 'combine' out."
            )
        if self.gradients_every and not ("task" in self.mix and self.masks):
            raise ConfigError(
                f"stage '{self.name}': 'gradients_every' compares the gradient of hidden words with the task's own "
                f"and needs both in the stage, found the mix {', '.join(self.mix)} mlm_weight {self.mlm_weight:g}. "
                "Add documents: 1 or task: 1 to 'mix', or leave 'gradients_every' out."
            )
        for key in ("class_weight", "sampling"):
            given = getattr(self, key)
            for name, value in given.items() if isinstance(given, Mapping) else ():
                if not _RANGES[FROM_ZERO](value):
                    raise ConfigError(f"stage '{self.name}', {key}.{name}: expected {FROM_ZERO}, found {value}.")
        demand(
            self,
            f"stage '{self.name}', ",
            {
                COUNT: (
                    *("updates", "batch_rows", "batch_tokens", "evaluate_every", "gradients_every", "patience"),
                    *("auxiliary_cap", "micro_tokens"),
                ),
                LENGTH: ("max_length",),
                PASSES: ("epochs",),
                POSITIVE: ("clip", "layer_decay", "temperature"),
                FROM_ZERO: ("lr", "mlm_weight", "weight_decay", "freeze", "stride"),
                SHARE: ("warmup", "dropout"),
            },
        )

    @property
    def masks(self) -> bool:
        """Whether it hides tokens.

        >>> Stage("tune", {"task": 1}, epochs=1).masks, Stage("tapt", {"texts": 1}, epochs=1).masks
        (False, True)
        """
        return "documents" in self.mix or "texts" in self.mix or self.mlm_weight > 0


@dataclass(frozen=True)
class Score:
    """How well a model did on one split of a task.

    Attributes:
        task: Name of the task.
        split: Which split.
        metric: The task's metric.
        values: Every metric of the task's kind by name, in [0, 1] or as the metric is defined.
        gold: What the rows are labelled with, one value for each row: an array, or a list where rows differ in length.
        predicted: What the model said, likewise.
        probabilities: How sure it was, likewise; for classification ``[rows, labels]``.
    """

    task: str
    split: Split
    metric: str
    values: Mapping[str, float]
    gold: Any
    predicted: Any
    probabilities: Any

    @property
    def value(self) -> float:
        """The value of the task's own metric."""
        return self.values[self.metric]


def _table_digest(table: pa.Table) -> str:
    """Content of a table: values and column names, however it is chunked, and wherever its rows came from."""
    hasher = xxhash.xxh3_128()
    for name in [name for name in table.column_names if name not in ("file", "row")]:
        column = table[name].combine_chunks()
        hasher.update(name.encode())
        hasher.update(json.dumps(column.to_pylist(), ensure_ascii=False).encode())
    return hasher.hexdigest()
