"""What a task is: rows become tokens that know their words, and metrics are scikit-learn's, as functions of sums."""

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trivium import seeds
from trivium.core import Task
from trivium.errors import ConfigError
from trivium.kinds import KINDS, Batch, Classify, Cut, Encoded, kind_of, text
from trivium.kinds.metrics import CLASSIFICATION, Counts, Metric, classification_counts
from trivium.kinds.text import tokenize

# gold and predicted labels out of six, of which some never occur
JUDGED = st.lists(st.tuples(st.integers(0, 4), st.integers(1, 5)), min_size=1, max_size=30).map(np.array)
LINES = st.lists(st.sampled_from(["rook", "rudder", "the", "oven", "gambits", "xylophone"]), max_size=30).map(" ".join)
METRICS = pytest.mark.parametrize("name", [name for name in CLASSIFICATION if name != "f1"])  # f1 is of two labels


def counts_of(judged: npt.NDArray[np.int64], labels: int = 6) -> Counts:
    return classification_counts(judged[:, 0], judged[:, 1], labels)


def learned(name: str, gold: npt.NDArray[np.int64], predicted: npt.NDArray[np.int64]) -> float:
    """The metric as scikit-learn computes it."""
    from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

    if name == "accuracy":
        return float(accuracy_score(gold, predicted))
    if name == "mcc":
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="A single label was found")
            return float(matthews_corrcoef(gold, predicted))
    return float(f1_score(gold, predicted, average=name.removesuffix("_f1"), zero_division=0))


@METRICS
@given(JUDGED)
@settings(max_examples=40, deadline=None)
def test_a_metric_is_what_scikit_learn_says(name: str, judged: npt.NDArray[np.int64]) -> None:
    found = CLASSIFICATION[name](counts_of(judged).sum(0))
    assert found.shape == ()
    assert float(found) == pytest.approx(learned(name, *judged.T), abs=1e-12)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("accuracy", 2 / 4),
        ("micro_f1", 2 / 4),
        ("macro_f1", (2 / 3 + 2 / 4 + 0) / 3),
        ("weighted_f1", (2 * 2 / 3 + 2 / 4 + 0) / 4),
        ("mcc", (2 * 4 - (1 * 2 + 3 * 1)) / (6 * 10) ** 0.5),
    ],
)
def test_metrics_by_hand(name: str, value: float) -> None:
    counts = counts_of(np.array([[0, 0], [0, 1], [1, 1], [2, 1]]), 4)  # nobody ever speaks of label 3
    assert float(CLASSIFICATION[name](counts.sum(0))) == pytest.approx(value)


@METRICS
def test_no_rows_and_one_label_are_no_division_by_zero(name: str) -> None:
    metric = CLASSIFICATION[name]
    assert float(metric(np.zeros(6))) == 0.0
    assert float(metric(counts_of(np.array([[1, 1]] * 3), 2).sum(0))) == (0.0 if name == "mcc" else 1.0)


@given(JUDGED, st.integers(0, 9))
@settings(max_examples=40, deadline=None)
def test_counts_add_up_in_any_order(judged: npt.NDArray[np.int64], seed: int) -> None:
    counts = counts_of(judged)
    assert (counts[:, :6] + counts[:, 12:]).sum(1).tolist() == [1] * len(judged)  # a truth is found or missed
    assert (counts[:, :6] + counts[:, 6:12]).sum(1).tolist() == [1] * len(judged)  # what was said is right or wrong
    shuffled = seeds.numpy_rng(seed).permutation(judged)
    assert (counts_of(shuffled).sum(0) == counts.sum(0)).all()
    parts = np.array_split(judged, 3)
    assert (sum(counts_of(part).sum(0) for part in parts) == counts.sum(0)).all()


@METRICS
@given(JUDGED, st.integers(0, 9))
@settings(max_examples=30, deadline=None)
def test_resampling_rows_is_a_matrix_product(name: str, judged: npt.NDArray[np.int64], seed: int) -> None:
    metric: Metric = CLASSIFICATION[name]
    times = seeds.numpy_rng(seed).multinomial(len(judged), np.full(len(judged), 1 / len(judged)), size=(2, 3))
    found = metric(times @ counts_of(judged))
    again = [[metric(counts_of(np.repeat(judged, n, axis=0)).sum(0)) for n in row] for row in times]
    assert found.shape == (2, 3)
    assert (found == np.array(again)).all()


def rows_of(texts: list[str], pairs: list[str] | None = None, labels: list[int] | None = None) -> pa.Table:
    columns: dict[str, Any] = {"text": texts, "text_pair": pairs, "label": labels}
    return pa.table({name: values for name, values in columns.items() if values is not None})


def parts(encoded: Encoded) -> list[tuple[list[int], list[int], list[int]]]:
    """Tokens, words and types, text by text."""
    places = [slice(a, b) for a, b in zip(encoded.offsets[:-1], encoded.offsets[1:], strict=True)]
    return [(encoded.ids[p].tolist(), encoded.words[p].tolist(), encoded.types[p].tolist()) for p in places]


@given(texts=st.lists(LINES, min_size=1, max_size=5), longest=st.integers(8, 40))
@settings(max_examples=40, deadline=None)
def test_a_row_is_cut_and_its_tokens_know_their_words(tokenizer: Any, texts: list[str], longest: int) -> None:
    encoded = Classify().encode(tokenizer, rows_of(texts), (), Cut(longest))
    assert len(encoded) == len(texts)
    assert encoded.labels is None
    for line, (ids, words, types) in zip(texts, parts(encoded), strict=True):
        whole = [tokenizer(word, add_special_tokens=False)["input_ids"] for word in line.split()]
        pieces = [piece for word in whole for piece in word][: longest - 2]
        assert ids == [tokenizer.cls_token_id, *pieces, tokenizer.sep_token_id]
        assert words == [-1, *[i for i, word in enumerate(whole) for _ in word][: longest - 2], -1]
        assert set(types) == {0}


@given(first=LINES, second=LINES, longest=st.integers(8, 40))
@settings(max_examples=60, deadline=None)
def test_the_words_of_a_pair_are_counted_through(tokenizer: Any, first: str, second: str, longest: int) -> None:
    ((ids, words, types),) = parts(Classify().encode(tokenizer, rows_of([first], [second]), (), Cut(longest)))
    assert len(ids) == min(longest, len(tokenizer([first], [second])["input_ids"][0]))
    assert ids.count(tokenizer.sep_token_id) == 2
    there = ids.index(tokenizer.sep_token_id) + 1
    assert types == [0] * there + [1] * (len(ids) - there)
    assert words[0] == words[there - 1] == words[-1] == -1
    assert words[1 : there - 1] + words[there:-1] == sorted(words[1 : there - 1] + words[there:-1])
    assert set(words[1 : there - 1]).isdisjoint(words[there:-1])
    if len(ids) < longest:
        assert set(words) == {-1, *range(len(first.split()) + len(second.split()))}


def test_a_long_text_does_not_push_the_other_out_of_a_pair(tokenizer: Any) -> None:
    for pair in (["rook " * 99, "the oven"], ["the oven", "rook " * 99]):
        ((ids, _, _),) = parts(Classify().encode(tokenizer, rows_of(pair[:1], pair[1:]), (), Cut(32)))
        assert len(ids) == 32
        assert {*tokenizer("the oven", add_special_tokens=False)["input_ids"]} < set(ids)


@given(texts=st.lists(LINES, min_size=1, max_size=4), longest=st.integers(8, 20))
@settings(max_examples=40, deadline=None)
def test_windows_lose_nothing_and_go_on_counting_words(tokenizer: Any, texts: list[str], longest: int) -> None:
    cut, whole = (tokenize(tokenizer, texts, n, windows=w) for n, w in ((longest, True), (10_000, False)))
    assert cut.lengths.max() <= longest
    assert cut.ids[cut.words >= 0].tolist() == whole.ids[whole.words >= 0].tolist()
    assert cut.words[cut.words >= 0].tolist() == whole.words[whole.words >= 0].tolist()
    assert len(cut) == sum(max(1, -(-(n - 2) // (longest - 2))) for n in whole.lengths.tolist())
    for ids, words, _ in parts(cut):
        assert (ids[0], ids[-1]) == (tokenizer.cls_token_id, tokenizer.sep_token_id)
        assert [i for i, word in enumerate(words) if word < 0] == [0, len(ids) - 1]


def test_labels_go_through_and_no_rows_are_no_trouble(tokenizer: Any) -> None:
    encoded = Classify().encode(tokenizer, rows_of(["rook", "oven", ""], labels=[2, 0, 1]), (), Cut(16))
    assert encoded.labels is not None
    assert encoded.labels.tolist() == [2, 0, 1]
    nothing = Classify().encode(tokenizer, rows_of(["rook"], labels=[1]).slice(0, 0), (), Cut(16))
    assert (len(nothing), len(nothing.ids), nothing.offsets.tolist()) == (0, 0, [0])


def test_texts_are_tokenised_alike_whichever_block_they_fall_into(
    tokenizer: Any, texts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = texts[::-1]
    whole = [tokenize(tokenizer, texts, 16, windows=True), tokenize(tokenizer, texts, 16, pairs=pairs)]
    monkeypatch.setattr(text, "_BLOCK", 7)
    blocks = [tokenize(tokenizer, texts, 16, windows=True), tokenize(tokenizer, texts, 16, pairs=pairs)]
    assert [parts(each) for each in whole] == [parts(each) for each in blocks]


def test_a_heads_config_knows_the_names_of_the_labels(tmp_path: Path) -> None:
    from transformers import AutoConfig, BertConfig

    labels = ["neg", "neutral", "pos", "naïve: 文"]
    config = BertConfig(vocab_size=8, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
    Classify().configure(config, labels)
    config.save_pretrained(tmp_path)
    for known in (config, AutoConfig.from_pretrained(tmp_path)):
        assert known.id2label == dict(enumerate(labels))
        assert known.label2id == {name: i for i, name in enumerate(labels)}
        assert (known.num_labels, known.problem_type) == (4, "single_label_classification")


def test_loss_and_answer_are_of_each_row() -> None:
    logits = torch.randn(5, 3, generator=seeds.torch_rng(0)).bfloat16()
    labels = torch.tensor([0, 1, 2, 0, 1])
    ids = torch.zeros(5, 16, dtype=torch.long)
    batch = Batch(ids, ids > 0, ids, labels=labels)
    predicted, probabilities = Classify().decode(logits, batch)
    assert probabilities.dtype == np.float32
    assert probabilities.sum(1) == pytest.approx(np.ones(5))
    assert Classify().loss(logits, batch, None).numpy() == pytest.approx(-np.log(probabilities[range(5), labels]))
    assert predicted.tolist() == logits.float().argmax(1).tolist()
    windows = replace(batch, owners=torch.tensor([0, 0, 1, 2, 2]), labels=torch.tensor([0, 0, 2, 1, 1]))
    _, averaged = Classify().decode(logits, windows)
    mean = torch.stack([logits[:2].float().mean(0), logits[2].float(), logits[3:].float().mean(0)]).softmax(-1)
    assert averaged == pytest.approx(mean.numpy(), abs=1e-6)
    assert Classify().loss(logits, windows, None).numpy() == pytest.approx(-np.log(averaged[range(3), [0, 2, 1]]))


def test_a_kind_that_nobody_knows_and_a_metric_that_it_does_not_know_are_refused(task: Task) -> None:
    assert kind_of(task) is KINDS["classify"]
    with pytest.raises(ConfigError, match="task 'topics': unknown kind 'clasify'; known are classify"):
        kind_of(replace(task, kind="clasify"))
    with pytest.raises(ConfigError, match=r"judged by 'bleu'; give task\.metric as one of macro_f1, micro_f1"):
        kind_of(replace(task, metric="bleu"))
    with pytest.raises(ConfigError, match="f1 is that of the second of two labels, and there are 3"):
        kind_of(replace(task, metric="f1"))


def test_the_default_metric_of_a_loaded_task_is_its_kinds_first() -> None:
    from trivium.data.labels import KINDS as READERS

    assert READERS.keys() == KINDS.keys()
    for name, kind in KINDS.items():
        assert READERS[name].metric == next(iter(kind.metrics))
