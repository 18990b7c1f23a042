"""Head importance is what a loop over single rows finds by autograd, however it is batched, cut, killed and kept."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal

from test_auxiliary_heads import EVERY_FAMILY, HEADS, LAYERS, SHAPES
from test_training_kinds import EVERY_KIND, TASKS
from trivium import seeds
from trivium.auxiliary import estimators, importance
from trivium.auxiliary.estimators import ESTIMATORS
from trivium.auxiliary.heads import AttentionHeads
from trivium.auxiliary.importance import NORMALISERS, Estimator, Importance, Normalise, measure, normalised
from trivium.core import Task
from trivium.encoders import encoder as encoders
from trivium.encoders.encoder import inputs_of
from trivium.encoders.streams import collate
from trivium.errors import ArtifactError, ConfigError, DataError, TrainingError
from trivium.kinds import Batch, Cut, kind_of
from trivium.training import Encoder

Found = npt.NDArray[np.float32]
CUT = Cut(24, "windows", 4)
EVERY_ESTIMATOR = pytest.mark.parametrize("estimator", ["gate", "kv_weight", "kv_weight_legacy"])


def some(task: Task, rows: int) -> Task:
    return replace(task, tables={"train": task.rows("train").slice(0, rows)})


def encoder_for(task: Task, tokenizer: Any, shape: str = "bert", **changes: Any) -> Encoder:
    """A random encoder of a family with a random head; dropout is high, for whoever does not turn it off."""
    from transformers import AutoConfig, AutoModelForMaskedLM

    drops = {} if shape == "modernbert" else {"hidden_dropout_prob": 0.3, "attention_probs_dropout_prob": 0.3}
    about = {**SHAPES[shape], **drops, **changes, "vocab_size": len(tokenizer)}
    config = AutoConfig.for_model(shape.split(",")[0], **about)
    with seeds.torch_scope(0, shape):
        encoder = Encoder(AutoModelForMaskedLM.from_config(config), tokenizer)
        encoder.add_head(task)
        for weight in encoder.parameters():  # nothing may vanish because it began as 0
            torch.nn.init.normal_(weight, 1.0 if weight.dim() == 1 else 0.0, 0.15)
    encoder.keep_cut(task, CUT)
    return encoder


def loop(encoder: Encoder, task: Task, estimator: str) -> Found:
    """Row by row, without padding to anything, by gates that are there and gradients that weights have."""
    model, kind = untied(encoder).eval(), kind_of(task)
    heads = AttentionHeads.of(model.backbone)
    encoded = kind.encode(model.tokenizer, task.rows("train"), task.labels, model.cut_of(task.name))
    found = np.empty((len(encoded), *heads.shape), np.float32)
    for row in range(len(encoded)):
        batch = collate(encoded, np.array([row]), model.tokenizer.pad_token_id, types=model.wants_types)
        batch = cropped(batch, int(encoded.lengths[row]))
        gates = torch.ones(heads.shape, requires_grad=True)
        model.zero_grad()
        with gated(heads, gates):
            hidden = model.backbone(**inputs_of(batch)).last_hidden_state
            logits = model.answer(task.name, hidden, batch)
            (kind.loss(logits, batch, None) / kind.weight(batch)).sum().backward()
        assert gates.grad is not None
        found[row] = gates.grad.abs().numpy() if estimator == "gate" else sizes(heads, estimator)
    return found


def cropped(batch: Batch, length: int) -> Batch:
    """Only as long as its longest text."""
    names = ("ids", "attention", "words", "types", "chars")
    cut = {name: value[:, :length] for name in names if (value := getattr(batch, name)) is not None}
    if batch.labels is not None and batch.labels.shape == batch.ids.shape:
        cut["labels"] = batch.labels[:, :length]
    return replace(batch, **cut)


@contextmanager
def gated(heads: AttentionHeads, gates: torch.Tensor) -> Iterator[None]:
    """Gates multiplied into what the output projections read; of untied layers, each of which is run once."""

    def gate(of: torch.Tensor) -> Callable[..., Any]:
        return lambda _module, args: ((args[0].unflatten(-1, (HEADS, -1)) * of[:, None]).flatten(-2), *args[1:])

    hooks = [layer.out.register_forward_pre_hook(gate(gates[i])) for i, layer in enumerate(heads.layers)]
    yield
    for hook in hooks:
        hook.remove()


def sizes(heads: AttentionHeads, estimator: str) -> Found:
    """By gradients of weights; the reference's way of cutting them is written as it writes it."""
    found = np.zeros(heads.shape, np.float32)
    for i, layer in enumerate(heads.layers):
        for rows in (layer.key, layer.value):
            assert rows.linear.weight.grad is not None
            own = rows.linear.weight.grad[rows.of]  # [heads, size, in]
            if estimator == "kv_weight_legacy":
                width = own.shape[-1]
                own = own.view(-1, HEADS, width // HEADS).permute(1, 0, 2)
            found[i] += own.abs().mean((1, 2)).numpy()
    return found


def untied(encoder: Encoder) -> Encoder:
    """A copy in which no two layers share a weight."""
    copy = deepcopy(encoder)
    if copy.backbone.config.model_type == "albert":
        stack, groups = copy.backbone.encoder, copy.backbone.encoder.albert_layer_groups
        stack.albert_layer_groups = torch.nn.ModuleList(deepcopy(groups[i * len(groups) // 2]) for i in range(LAYERS))
        copy.backbone.config.num_hidden_groups = LAYERS
    return copy


def assert_same(found: Found, expected: Found, noise: float = 1e-6) -> None:
    """Up to the rounding of float32; ``noise`` is that of the largest, where much of it cancels out."""
    assert found.dtype == np.float32
    assert (expected > 0).all()
    assert_allclose(found, expected, rtol=1e-5, atol=noise * float(expected.max()))


@EVERY_FAMILY
@EVERY_ESTIMATOR
def test_every_family_is_a_loop_over_rows(estimator: Estimator, shape: str, task: Task, tokenizer: Any) -> None:
    task = lengths(some(task, 5))
    encoder = encoder_for(task, tokenizer, shape)
    found = measure(encoder, task, estimator=estimator, batch_tokens=150)
    assert (found.name, found.estimator, found.instances.shape) == (task.name, estimator, (5, LAYERS, HEADS))
    assert_same(found.instances, loop(encoder, task, estimator))


def lengths(task: Task) -> Task:
    """The same rows, of very different lengths; what is sought or tagged in them stays where it is."""
    rows = task.rows("train")
    for name in {"span": ["text_pair"], "rank": [], "tag": ["tokens", "label"]}.get(task.kind, ["text"]):
        longer = [stretch(value, 4 * i) for i, value in enumerate(rows[name].to_pylist())]
        rows = rows.set_column(rows.column_names.index(name), name, pa.array(longer))
    return replace(task, tables={"train": rows})


def stretch(value: Any, many: int) -> Any:
    """A text with more words, or a list of words or tags with more of these."""
    return " ".join([value, *["and"] * many]) if isinstance(value, str) else value + [value[-1]] * many


@EVERY_KIND
@EVERY_ESTIMATOR
def test_every_kind_is_a_loop_over_rows(
    estimator: Estimator, kind: str, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of several texts, choices or windows, have one gradient each: that of all their texts together."""
    monkeypatch.setattr(estimators, "_FLOATS", 3 * 32 * 32)  # gradients of three rows at once
    task = lengths(some(TASKS[kind], 7))
    encoder = encoder_for(task, tokenizer)
    found = measure(encoder, task, estimator=estimator, batch_tokens=500)
    assert_same(found.instances, loop(encoder, task, estimator), noise=1e-4)
    encoded = kind_of(task).encode(tokenizer, task.rows("train"), task.labels, CUT)
    assert len(set(encoded.widths.tolist())) > 1, "rows differ in how many texts they have"


@EVERY_ESTIMATOR
def test_neither_batches_nor_neighbours_matter(estimator: Estimator, tokenizer: Any) -> None:
    task = some(TASKS["span"], 12)
    encoder = encoder_for(task, tokenizer)
    whole = measure(encoder, task, estimator=estimator, batch_tokens=10_000).instances
    assert_same(measure(encoder, task, estimator=estimator, batch_tokens=1).instances, whole)
    alone = replace(task, tables={"train": task.rows("train").slice(5, 1)})
    assert_same(measure(encoder, alone, estimator=estimator).instances, whole[5:6])


@EVERY_FAMILY
def test_a_head_that_is_cut_off_does_not_matter(shape: str, task: Task, tokenizer: Any) -> None:
    task = some(task, 4)
    encoder = encoder_for(task, tokenizer, shape)
    heads = AttentionHeads.of(encoder.backbone)
    size = heads.layers[1].out.in_features // HEADS
    with torch.no_grad():
        heads.layers[1].out.weight[:, 2 * size : 3 * size] = 0.0
    for estimator in ("gate", "kv_weight"):
        found = measure(encoder, task, estimator=estimator).instances
        assert (found[:, 1, 2] == 0).all()
        assert (found[:, 1, [0, 1, 3]] > 0).all()
    legacy = measure(encoder, task, estimator="kv_weight_legacy").matrix("none")[1]
    assert 0.5 < legacy[2] / legacy.mean() < 2, "the reference does not notice"


@EVERY_ESTIMATOR
def test_the_encoder_is_left_as_it_was(estimator: Estimator, task: Task, tokenizer: Any) -> None:
    task = some(task, 3)
    encoder = encoder_for(task, tokenizer).train()
    encoder.backbone.encoder.layer[0].eval()
    encoder.backbone.embeddings.requires_grad_(False)
    for weight in encoder.parameters():
        weight.grad = torch.full_like(weight, 0.5)

    def state() -> list[Any]:
        weights = [(weight.detach().clone(), weight.requires_grad) for weight in encoder.parameters()]
        hooks = [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in encoder.modules()]
        return [weights, hooks, [module.training for module in encoder.modules()]]

    def interrupt(_done: int, _total: int) -> None:
        raise KeyboardInterrupt

    before = state()
    first = measure(encoder, task, estimator=estimator)
    with pytest.raises(KeyboardInterrupt):
        measure(encoder, task, estimator=estimator, watch=interrupt)
    with torch.no_grad():
        again = measure(encoder, task, estimator=estimator)
    assert_array_equal(first.instances, again.instances)  # nothing is dropped out
    after = state()
    assert before[1:] == after[1:]
    for (one, wanted), (two, still) in zip(before[0], after[0], strict=True):
        assert torch.equal(one, two)
        assert wanted == still
    assert all(weight.grad is not None and (weight.grad == 0.5).all() for weight in encoder.parameters())


@EVERY_ESTIMATOR
def test_bfloat16_is_nearly_the_same(
    estimator: Estimator, task: Task, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = some(task, 6)
    encoder = encoder_for(task, tokenizer)
    exact = measure(encoder, task, estimator=estimator).instances
    monkeypatch.setenv("TRIVIUM_PRECISION", "bfloat16")
    found = measure(encoder, task, estimator=estimator).instances
    assert found.dtype == np.float32
    assert not np.array_equal(found, exact)
    assert np.corrcoef(found.ravel(), exact.ravel())[0, 1] > 0.99


def test_texts_are_padded_and_layers_are_run(task: Task, tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither packing nor states that were remembered come between."""
    task = some(task, 4)
    encoder = encoder_for(task, tokenizer)
    plain = measure(encoder, task).instances
    encoder.remember(1)
    monkeypatch.setattr(encoders, "PACKED_ON", ("cpu",))
    assert_array_equal(measure(encoder, task).instances, plain)


def test_the_benchmark_measures_beside_what_the_reference_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    """But for dropout: its rows are those of the slices along the inputs."""
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "bench")
    import auxiliary as bench

    task = bench.long_rows(3, 32)
    encoder = bench.encoder_for(task, "tiny")
    encoder.keep_cut(task, Cut(32))
    with encoder.dropping(0.0):
        theirs = np.array(bench.reference_loop(encoder, task), np.float32)
    assert_same(theirs, measure(encoder, task, estimator="kv_weight_legacy").instances)
    said = bench.judged("base", {"(b)": [2.0, 3.5, 9.0]}) + bench.judged("mini", {"(b)": [9.0]})
    assert [line.rsplit(" ", 1)[1] for line in said] == ["reached", "MISSED"]
    assert bench.judged("taus of 16 heads", {"(b)": [1.0]}) == []
    ways = bench.tau_ways(16, 5)
    assert_allclose(ways[bench.TAUS](), ways[bench.SCIPY](), atol=1e-12)


class Killed(BaseException):
    """The process is gone."""


def kill_after(rows: int) -> Callable[[int, int], None]:
    def watch(done: int, _total: int) -> None:
        if done >= rows:
            raise Killed

    return watch


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importance, "SHARD", 4)


@pytest.mark.usefixtures("small_shards")
@EVERY_ESTIMATOR
def test_killed_and_gone_on_with_is_undisturbed(
    estimator: Estimator, task: Task, tokenizer: Any, tmp_path: Path
) -> None:
    task = some(task, 14)
    encoder = encoder_for(task, tokenizer)
    how: dict[str, Any] = {"estimator": estimator, "batch_tokens": 80}
    whole = measure(encoder, task, folder=tmp_path / "whole", **how)
    for rows in (6, 11):
        with pytest.raises(Killed):
            measure(encoder, task, folder=tmp_path / "killed", watch=kill_after(rows), **how)
        with pytest.raises(ArtifactError, match="expected 4 shards"):
            Importance.load(tmp_path / "killed")
    seen: list[tuple[int, int]] = []
    found = measure(encoder, task, folder=tmp_path / "killed", watch=lambda *told: seen.append(told), **how)
    assert seen[-1] == (14, 14)
    assert min(seen)[0] > 8, "two shards were there"
    assert_array_equal(found.instances, whole.instances)
    assert_array_equal(measure(encoder, task, **how).instances, whole.instances)
    assert files(tmp_path / "killed") == files(tmp_path / "whole")


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.usefixtures("small_shards")
def test_a_damaged_shard_is_measured_again(task: Task, tokenizer: Any, tmp_path: Path) -> None:
    task = some(task, 10)
    encoder = encoder_for(task, tokenizer)
    whole = measure(encoder, task, folder=tmp_path)
    before = files(tmp_path)
    for name in ("shard-00001.npy", "shard-00002.npy"):
        (tmp_path / name).write_bytes(before[name][:-5] if name.endswith("1.npy") else b"")
    (tmp_path / ".tmp-1-shard-00001.npy").write_bytes(b"half")
    with pytest.raises(ArtifactError, match="expected 3 shards of a measurement, found 1"):
        Importance.load(tmp_path)
    assert_array_equal(measure(encoder, task, folder=tmp_path).instances, whole.instances)
    assert before.items() <= files(tmp_path).items()


def test_a_folder_of_something_else_is_refused(task: Task, tokenizer: Any, tmp_path: Path) -> None:
    task = some(task, 6)
    encoder = encoder_for(task, tokenizer)
    measure(encoder, task, folder=tmp_path / "one")
    before = files(tmp_path / "one")
    with pytest.raises(ArtifactError, match="differs in estimator"):
        measure(encoder, task, estimator="kv_weight", folder=tmp_path / "one")
    with pytest.raises(ArtifactError, match="differs in of, rows"):
        measure(encoder, some(task, 5), folder=tmp_path / "one")
    with torch.no_grad():
        encoder.backbone.encoder.layer[0].output.dense.weight[0, 0] += 1e-3
    with pytest.raises(ArtifactError, match="differs in of"):
        measure(encoder, task, folder=tmp_path / "one")
    assert files(tmp_path / "one") == before
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    with pytest.raises(ArtifactError, match="expected a measurement"):
        measure(encoder, task, folder=tmp_path / "other")


@pytest.mark.usefixtures("small_shards")
def test_saved_is_loaded(tmp_path: Path, rng: np.random.Generator) -> None:
    one = Importance("mrpc", "gate", rng.random((11, 3, 2)).astype(np.float32))
    one.save(tmp_path / "one")
    two = Importance.load(tmp_path / "one")
    assert (two.name, two.estimator) == ("mrpc", "gate")
    assert_array_equal(two.instances, one.instances)
    with pytest.raises(ArtifactError, match="expected a measurement"):
        Importance.load(tmp_path / "two")


def test_what_cannot_be_measured_is_refused(task: Task, tokenizer: Any) -> None:
    task = some(task, 3)
    encoder = encoder_for(task, tokenizer)
    with pytest.raises(ConfigError, match="expected one of gate, kv_weight, kv_weight_legacy, found 'magic'"):
        measure(encoder, task, estimator="magic")  # type: ignore[arg-type]
    with pytest.raises(ArtifactError, match="no head for task 'other'"):
        measure(encoder, replace(task, name="other"))
    with pytest.raises(ArtifactError, match="expected the labels that the encoder's head has"):
        measure(encoder, replace(task, labels=task.labels[::-1]))
    with pytest.raises(DataError, match="expected train rows with labels"):
        measure(encoder, some(task, 0))
    with torch.no_grad():
        encoder.backbone.encoder.layer[1].attention.output.dense.weight[0, 0] = torch.nan
    with pytest.raises(TrainingError, match="is no number"):
        measure(encoder, task)


def test_names_are_those_of_the_types() -> None:
    assert tuple(ESTIMATORS) == get_args(Estimator)
    assert tuple(NORMALISERS) == get_args(Normalise)


def test_normalisers_by_hand() -> None:
    found = np.array([[3.0, 4.0], [0.0, 0.0], [1.0, 1.0]])
    assert_array_equal(normalised(found, "none"), found)
    assert_allclose(normalised(found, "layer_l2"), [[0.6, 0.8], [0, 0], [0.5**0.5, 0.5**0.5]])
    assert_allclose(normalised(found, "global"), [[0.75, 1], [0, 0], [0.25, 0.25]])
    assert_allclose(normalised(found, "layer_sum"), [[0.75, 1], [0, 0], [0.875, 0.875]])
    assert_allclose(normalised(found), normalised(found, "layer_sum"))
    with pytest.raises(ConfigError, match="expected one of none, layer_sum, layer_l2, global, found 'max'"):
        normalised(found, "max")  # type: ignore[arg-type]


ROWS = arrays(np.float32, (5, 3, 4), elements=st.floats(0, 2.0**20, width=32))


@given(ROWS, st.sampled_from(get_args(Normalise)))
@settings(deadline=None)
def test_rows_are_normalised_each_on_its_own(rows: Found, how: Normalise) -> None:
    one = Importance("mrpc", "gate", rows)
    each = one.each(how)
    assert np.isfinite(each).all()
    assert each.dtype == np.float32
    for i in range(len(rows)):
        assert_allclose(each[i], normalised(rows[i].astype(np.float64), how), rtol=1e-6, atol=1e-30)
    matrix = one.matrix(how)
    assert matrix.dtype == np.float64
    assert np.isfinite(matrix).all()
    if how != "none":
        assert (matrix >= 0).all()
        assert (matrix <= 1 + 1e-12).all()


@given(ROWS, st.integers(1, 4))
@settings(deadline=None)
def test_blocks_of_rows_do_not_matter(rows: Found, block: int) -> None:
    one = Importance("mrpc", "gate", rows)
    whole = one.each()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(importance, "_BLOCK", block)
        assert_array_equal(one.each(), whole)


@given(st.lists(st.integers(1, 4), min_size=1, max_size=12), st.integers(1, 5))
@settings(deadline=None)
def test_runs_are_all_rows_in_order(widths: Sequence[int], most: int) -> None:
    owners = torch.repeat_interleave(torch.arange(len(widths)), torch.tensor(widths))
    blank = torch.zeros(len(owners), 1, dtype=torch.long)
    runs = list(estimators._runs(Batch(blank, blank.bool(), blank, owners=owners), most))
    assert [row for rows, _ in runs for row in range(rows.start, rows.stop)] == list(range(len(widths)))
    assert [text for _, texts in runs for text in range(texts.start, texts.stop)] == list(range(len(owners)))
    for rows, texts in runs:
        assert rows.stop - rows.start <= most
        assert owners[texts].tolist() == [row for row in range(rows.start, rows.stop) for _ in range(widths[row])]
        assert len({widths[row] for row in range(rows.start, rows.stop)}) == 1
