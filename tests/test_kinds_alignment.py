"""Labels of words and stretches of text find their tokens and come back whole, whatever cut the text into pieces."""

from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trivium.encoders.streams import collate
from trivium.encoders.tokenizer import train_tokenizer
from trivium.errors import ConfigError
from trivium.kinds import KINDS, Batch, Cut, Encoded, Rank, Span, Tag
from trivium.kinds.kind import LongText

WORDS = [
    "rook",
    "rudder",
    "the",
    "Oven",
    "gambits",
    "naïve",
    "x²",
    "(see",
    "U.S.",
    "東京",
    "e-mail",
    "don't",
    "!",
    "ﬁne",
]
LINES = st.lists(st.sampled_from(WORDS), min_size=1, max_size=30)
PIECES = pytest.mark.parametrize("pieces", ["wordpiece", "bpe", "unigram", "template"])


@cache
def tokenizer(pieces: str) -> Any:
    """Of BERT's kind, of RoBERTa's, of DeBERTa-v3's, or of sentence-transformers', which cuts at 128 if it may."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    texts = [" ".join(WORDS[i:] + WORDS[:i]) for i in range(len(WORDS))] * 2
    if pieces == "wordpiece":
        return train_tokenizer(texts, 512)
    if pieces == "template":
        known = train_tokenizer(texts, 512)
        backend = known.backend_tokenizer
        ends = [(name, known.convert_tokens_to_ids(name)) for name in ("[CLS]", "[SEP]")]
        backend.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ends
        )
        backend.enable_truncation(128)
        return known
    special = ["<pad>", "<unk>", "<s>", "</s>", "<mask>"]
    if pieces == "bpe":
        trained = Tokenizer(models.BPE(unk_token="<unk>"))
        trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        letters = pre_tokenizers.ByteLevel.alphabet()
        trained.train_from_iterator(
            texts, trainers.BpeTrainer(special_tokens=special, initial_alphabet=letters, show_progress=False)
        )
        trained.post_processor = processors.RobertaProcessing(("</s>", 3), ("<s>", 2), trim_offsets=True)
        trained.decoder = decoders.ByteLevel()
    else:
        trained = Tokenizer(models.Unigram())
        trained.pre_tokenizer = pre_tokenizers.Metaspace()
        trained.train_from_iterator(
            texts,
            trainers.UnigramTrainer(vocab_size=80, special_tokens=special, unk_token="<unk>", show_progress=False),
        )
        trained.post_processor = processors.BertProcessing(("</s>", 3), ("<s>", 2))
    names = {
        "pad_token": "<pad>",
        "unk_token": "<unk>",
        "cls_token": "<s>",
        "sep_token": "</s>",
        "mask_token": "<mask>",
    }
    return PreTrainedTokenizerFast(tokenizer_object=trained, **names)


class Config:
    """Of a head."""

    def __init__(self, labels: tuple[str, ...], *, unanswerable: bool = True) -> None:
        self.label2id = {name: i for i, name in enumerate(labels)}
        self.unanswerable = unanswerable


def whole(encoded: Encoded) -> Batch:
    return collate(encoded, np.arange(len(encoded)), 0, types=False)


TAGS = ("O", "B-X", "I-X")


@PIECES
@given(st.lists(LINES, min_size=1, max_size=4), st.integers(0, 9), st.sampled_from(["head", "windows"]))
@settings(max_examples=40, deadline=None)
def test_the_tag_of_every_word_that_is_read_comes_back(
    pieces: str, lines: list[list[str]], seed: int, long_text: LongText
) -> None:
    rng = np.random.default_rng(seed)
    gold = [rng.integers(0, 3, len(line)).tolist() for line in lines]
    rows = pa.table({"text": [" ".join(line) for line in lines], "tokens": lines, "label": gold})
    encoded = Tag().encode(tokenizer(pieces), rows, TAGS, Cut(12 if long_text == "windows" else 400, long_text))
    batch = whole(encoded)
    assert batch.labels is not None
    logits = torch.nn.functional.one_hot(batch.labels.clamp(min=0), 3).float() * 9
    said = Tag().read(Tag().decode(logits, batch)[0], rows, Config(TAGS))
    each = [(batch.labels[text] >= 0).sum().item() for text in range(len(batch.labels))]
    if long_text == "head":
        assert [row.tolist() for row in said] == gold
        assert each == [len(line) for line in lines]  # one piece speaks for a word
    assert Tag().loss(logits, batch, None).max() < 1e-2 * max(each)
    assert Tag().weight(batch).sum() == sum(each)


def test_words_beyond_the_head_are_outside() -> None:
    rows = pa.table({"text": ["the " * 9], "tokens": [["the"] * 9], "label": [[1] * 9]})
    encoded = Tag().encode(tokenizer("wordpiece"), rows, TAGS, Cut(6))
    batch = whole(encoded)
    logits = torch.nn.functional.one_hot(batch.labels.clamp(min=0), 3).float()  # type: ignore[union-attr]
    (said,) = Tag().read(Tag().decode(logits, batch)[0], rows, Config(TAGS))
    assert said.tolist() == [1] * 4 + [0] * 5
    (unknown,) = Tag().read([np.array([2])], rows, Config(("X", "Y", "Z")))
    assert unknown.tolist() == [2] + [-1] * 8


def test_a_window_says_less_of_a_word_than_two_that_agree() -> None:
    """A word in two windows gets the mean of their logits."""
    rows = pa.table({"text": ["the " * 6], "tokens": [["the"] * 6], "label": [[0] * 6]})
    encoded = Tag().encode(tokenizer("wordpiece"), rows, TAGS, Cut(6, "windows", stride=2))
    batch = whole(encoded)
    assert batch.words.tolist() == [[-1, 0, 1, 2, 3, -1, *[-1] * 10], [-1, 2, 3, 4, 5, -1, *[-1] * 10]]
    logits = torch.zeros(2, 16, 3)
    logits[0, 3:5, 1], logits[1, 1, 2], logits[1, 2, 2] = 4.0, 6.0, 2.0
    ((said,), (sure,)) = Tag().decode(logits, batch)
    assert said.tolist() == [0, 0, 2, 1, 0, 0]
    assert sure[2] == pytest.approx(torch.tensor([0.0, 2.0, 3.0]).softmax(0)[2].item())


@PIECES
@given(st.lists(st.sampled_from(WORDS), min_size=3, max_size=40), st.data())
@settings(max_examples=60, deadline=None)
def test_an_answer_in_a_context_comes_back_letter_by_letter(pieces: str, words: list[str], data: Any) -> None:
    context = " ".join(words)
    begin = data.draw(st.integers(0, len(words) - 1))
    end = data.draw(st.integers(begin + 1, min(len(words), begin + 3)))
    start = len(" ".join(words[:begin])) + (begin > 0)
    answer = " ".join(words[begin:end])
    assert context[start : start + len(answer)] == answer
    labels = [[{"text": answer, "start": start}], []]
    rows = pa.table({"text": ["the rook", "the"], "text_pair": [context, context], "label": labels})
    cut = Cut(data.draw(st.sampled_from([48, 64, 400])), stride=20)
    batch = whole(Span().encode(tokenizer(pieces), rows, ("start", "end"), cut))
    assert batch.labels is not None
    logits = torch.nn.functional.one_hot(batch.labels, batch.ids.shape[1]).float().transpose(1, 2) * 20
    said, sure = Span().decode(logits, batch)
    assert Span().read(said, rows, Config(("start", "end"))) == [answer, ""]
    assert sure[0] > 0.99
    assert (Span().loss(logits, batch, None) < 1e-3).all()
    assert Span().gold(rows, ()) == [[answer], []]
    always = Span().read(said, rows, Config((), unanswerable=False))
    assert always[1] != ""  # a model that never saw an unanswerable question always answers


def test_an_answer_is_never_backwards_nor_too_long_nor_in_the_question() -> None:
    rows = pa.table({"text": ["rook rook"], "text_pair": [" ".join(["the"] * 60)]})
    batch = whole(Span().encode(tokenizer("wordpiece"), rows, (), Cut(400)))
    logits = torch.zeros(1, batch.ids.shape[1], 2)
    logits[0, 1, :] = 50.0  # in the question
    logits[0, 40, 0], logits[0, 20, 1], logits[0, 63, 1] = 9.0, 9.0, 3.0
    ((begin, end, _),), _ = Span().decode(logits, batch)
    assert 0 <= begin < end <= begin + 30 * 4


@given(st.lists(st.lists(st.floats(-5, 5, width=32), min_size=2, max_size=5), min_size=1, max_size=6))
@settings(max_examples=60, deadline=None)
def test_choices_are_ranked_by_their_scores_however_many_a_row_has(scores: list[list[float]]) -> None:
    owners = torch.tensor([row for row, each in enumerate(scores) for _ in each])
    logits = torch.tensor([score for each in scores for score in each])[:, None]
    right = torch.tensor([i == 0 for each in scores for i in range(len(each))])
    ids = torch.zeros(len(owners), 16, dtype=torch.long)
    batch = Batch(ids, ids == 0, ids, labels=right, owners=owners)
    orders, chances = Rank().decode(logits, batch)
    losses = Rank().loss(logits, batch, None)
    for row, each in enumerate(scores):
        expected = torch.tensor(each).softmax(0)
        assert chances[row] == pytest.approx(expected.numpy(), abs=1e-6)
        assert [each[i] for i in orders[row]] == sorted(each, reverse=True)
        assert losses[row].item() == pytest.approx(-expected[0].log().item(), abs=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_stride_that_gets_nowhere_is_refused(kind: str) -> None:
    if kind == "rank":
        return  # its rows are never read in windows
    text = "the " * 40
    rows = pa.table({"text": [text], "text_pair": [text], "tokens": [text.split()]})
    with pytest.raises(ConfigError, match="stride: expected fewer tokens than a window has room for"):
        KINDS[kind].encode(tokenizer("wordpiece"), rows, (), Cut(16, "windows", stride=16))


@given(st.integers(20, 60), st.integers(0, 200), st.integers(0, 200))
@settings(max_examples=40, deadline=None)
def test_head_and_tail_are_of_the_text_that_is_too_long(longest: int, first: int, second: int) -> None:
    one, two = ([f"w{i}" for i in range(n)] for n in (first, second))
    known = train_tokenizer([" ".join(f"w{i}" for i in range(200))] * 3, 1024)
    rows = pa.table({"text": [" ".join(one)], "text_pair": [" ".join(two)], "label": [0]})
    encoded = KINDS["classify"].encode(known, rows, ("a",), Cut(longest, "head+tail"))
    assert len(encoded.ids) <= longest
    words = encoded.words[encoded.words >= 0]
    assert (np.diff(words) >= 0).all()
    if len(encoded.ids) < longest:
        assert len(set(words.tolist())) == first + second
    one_words, two_words = (encoded.words[(encoded.types == which) & (encoded.words >= 0)] for which in (0, 1))
    assert first == 0 or one_words[0] == 0  # each text keeps its beginning
    assert second == 0 or two_words[0] == one_words.max(initial=-1) + 1


@pytest.mark.parametrize("tokens", [[], [""], ["​"]])
def test_rows_without_a_piece_are_answered_too(tokens: list[str]) -> None:
    """Words that a tokenizer drops, and no words at all."""
    rows = pa.table({"text": [" ".join(tokens), "the"], "tokens": [tokens, ["the"]], "label": [[1] * len(tokens), [2]]})
    batch = whole(Tag().encode(tokenizer("wordpiece"), rows, TAGS, Cut(16)))
    logits = torch.nn.functional.one_hot(batch.labels.clamp(min=0), 3).float()  # type: ignore[union-attr]
    said = Tag().read(Tag().decode(logits, batch)[0], rows, Config(TAGS))
    assert [row.tolist() for row in said] == [[0] * len(tokens), [2]]
    asked = pa.table({"text": [""], "text_pair": [""], "label": pa.array([[]], pa.list_(pa.null()))})
    empty = whole(Span().encode(tokenizer("wordpiece"), asked, (), Cut(32)))
    assert Span().read(Span().decode(torch.zeros(*empty.ids.shape, 2), empty)[0], asked, Config(())) == [""]


def test_weights_of_labels_by_hand() -> None:
    from trivium.kinds.sequence import class_weights

    labels = ["a", "b", "unseen"]
    balanced = class_weights(np.array([3, 1, 0]), labels, "balanced")
    assert balanced is not None
    assert balanced[:2].tolist() == pytest.approx([4 / 6, 2.0])  # 1 in the mean over the rows that there are
    named = class_weights(np.array([3, 1, 0]), labels, {"b": 3.0})
    assert named is not None
    assert named.tolist() == pytest.approx([4 / 6, 2.0, 4 / 6])
    rows = pa.table({"label": [[0], [0, 1], [0], [0]]})
    always = KINDS["multilabel"].weights(rows, ["a", "b"], "balanced")
    assert always is not None
    assert always.tolist() == pytest.approx([1 / 4, 3.0])
    same = KINDS["regress"].weights(pa.table({"label": [0.1] * 3}), ["score"], "none")
    assert same is not None
    assert same.tolist() == [1.0]
