"""The loop: resuming equals never stopping, saving equals having, batches equal rows, and both forms of the loss."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from conftest import Spy
from trivium import seeds
from trivium.core import Stage, Task
from trivium.encoders.streams import BatchStream, collate, plan
from trivium.errors import ArtifactError, ConfigError, LeakError, TrainingError
from trivium.kinds import Cut, Encoded, kind_of
from trivium.masking import RandomTokens
from trivium.training import Encoder, Recipe, Scratch, evaluate, loop, run_stage
from trivium.training.checkpoint import weights_of
from trivium.training.evaluation import answers
from trivium.training.loop import StageRun
from trivium.training.optimizer import rate_at
from trivium.training.turns import DOCUMENTS, planned_updates

Fresh = Callable[[Scratch], Encoder]
JOINT = Stage("joint", {"documents": 2, "task": 1}, updates=9, lr=1e-3, mlm_weight=2.0, batch_tokens=256, dropout=0.1)
TUNE = Stage("tune", {"task": 1}, updates=12, lr=1e-3, batch_rows=8, evaluate_every=3, dropout=0.1)


def run(encoder: Encoder, stage: Stage, task: Task, documents: Encoded, **more: Any) -> Any:
    return run_stage(encoder, stage, task, documents=documents, masker=RandomTokens(), seed=0, **more)


def encoded_rows(encoder: Encoder, task: Task, rows: Any) -> Encoded:
    return kind_of(task).encode(encoder.tokenizer, rows, task.labels, Cut(64))


@pytest.mark.parametrize("stage", [JOINT, TUNE], ids=["joint", "tune"])
def test_resuming_equals_never_stopping(
    spec: Scratch, fresh: Fresh, task: Task, documents: Encoded, stage: Stage, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", -1.0)  # a checkpoint after every update
    whole = fresh(spec)
    told = run(whole, stage, task, documents)

    class KilledError(Exception):
        pass

    def kill(done: int, total: int) -> None:
        if done == 7:
            raise KilledError

    with pytest.raises(KilledError):
        run(fresh(spec), stage, task, documents, resume=tmp_path / "checkpoint", watch=kill)
    again = fresh(spec)
    retold = run(again, stage, task, documents, resume=tmp_path / "checkpoint")
    assert retold.events == told.events
    assert (retold.updates, retold.tokens) == (told.updates, told.tokens)
    for name, value in weights_of(whole).items():
        assert torch.equal(value, weights_of(again)[name]), name


def test_the_same_seed_gives_the_same_weights_and_another_gives_others(
    fresh: Fresh, task: Task, documents: Encoded
) -> None:
    spec = Scratch("tiny", vocabulary=512)
    first, second, third = fresh(spec), fresh(spec), fresh(spec)
    run(first, JOINT, task, documents)
    torch.rand(7)  # somebody else draws in between
    run(second, JOINT, task, documents)
    run_stage(third, JOINT, task, documents=documents, masker=RandomTokens(), seed=1)
    weights, others = weights_of(first), weights_of(third)
    assert all(torch.equal(value, weights_of(second)[name]) for name, value in weights.items())
    assert not all(torch.equal(value, others[name]) for name, value in weights.items())


def test_training_leaves_the_global_generator_alone(fresh: Fresh, task: Task, documents: Encoded) -> None:
    with seeds.torch_scope(3):
        before = torch.get_rng_state()
        run(fresh(Scratch("tiny", vocabulary=512)), JOINT, task, documents)
        assert torch.equal(before, torch.get_rng_state())


def test_what_is_saved_is_what_was_trained(
    spec: Scratch, fresh: Fresh, task: Task, documents: Encoded, tmp_path: Path
) -> None:
    encoder = fresh(spec)
    run(encoder, JOINT, task, documents)
    encoder.save(tmp_path)
    loaded = Encoder.load(tmp_path)
    assert evaluate(encoder, task).probabilities == pytest.approx(evaluate(tmp_path, task).probabilities, abs=1e-6)
    run(encoder, replace(TUNE, dropout=0.0), task, documents)
    run(loaded, replace(TUNE, dropout=0.0), task, documents)
    for name, value in weights_of(encoder).items():
        assert torch.equal(value, weights_of(loaded)[name]), name


def test_plain_transformers_loads_it_with_label_names_and_the_same_answers(
    spec: Scratch, fresh: Fresh, task: Task, documents: Encoded, tmp_path: Path
) -> None:
    from transformers import AutoModelForMaskedLM, AutoModelForSequenceClassification, AutoTokenizer, pipeline

    encoder = fresh(spec)
    run(encoder, TUNE, task, documents)
    encoder.save(tmp_path)
    folder = tmp_path / "tasks" / task.name
    ours = evaluate(encoder, task, max_length=64)

    model, info = AutoModelForSequenceClassification.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    tokens = AutoTokenizer.from_pretrained(folder)(task.texts("test"), padding=True, return_tensors="pt")
    with torch.inference_mode():
        theirs = model.eval()(**tokens).logits.softmax(-1).numpy()
    assert theirs == pytest.approx(ours.probabilities, abs=1e-5)

    said = pipeline("text-classification", model=str(folder))(task.texts("test"))
    assert [answer["label"] for answer in said] == [task.labels[i] for i in ours.predicted]

    _, info = AutoModelForMaskedLM.from_pretrained(tmp_path / "mlm", output_loading_info=True)
    assert not info["missing_keys"]


def test_answers_do_not_depend_on_who_shares_the_batch(spec: Scratch, fresh: Fresh, task: Task) -> None:
    encoder = fresh(spec)
    encoder.add_head(task)
    rows = task.rows("test")
    together = answers(encoder, task, encoded_rows(encoder, task, rows), rows)[1]
    for i in range(5):
        one = rows.slice(i, 1)
        alone = answers(encoder, task, encoded_rows(encoder, task, one), one)[1]
        assert alone[0] == pytest.approx(together[i], abs=1e-5)


def test_the_gap_filling_head_equals_transformers_own_loss(spec: Scratch, fresh: Fresh, documents: Encoded) -> None:
    encoder = fresh(spec)
    batch = collate(documents, np.arange(6), encoder.tokenizer.pad_token_id, types=encoder.wants_types)
    from trivium.masking import corrupt

    rng = seeds.torch_rng(0)
    gaps = corrupt(
        batch.ids, RandomTokens().choose(batch, rng), encoder.tokenizer.mask_token_id, len(encoder.tokenizer), rng
    )
    encoder.eval()
    ours = torch.nn.functional.cross_entropy(
        encoder.fill(encoder.hidden(batch, gaps.ids), gaps.positions), gaps.targets
    )
    with encoder._whole(encoder.mlm):
        theirs = encoder.mlm(input_ids=gaps.ids, attention_mask=batch.attention, labels=gaps.labels()).loss
    assert_close(ours, theirs)


@pytest.mark.parametrize(("norm", "divisor"), [("paper", 1.0), ("code", 3.0)])
def test_both_forms_of_the_joint_loss(fresh: Fresh, task: Task, documents: Encoded, norm: Any, divisor: float) -> None:
    """TLM's paper adds ρ2·mlm and task; its code divides the sum by 1 + ρ2 (specification 2.1, 2.2)."""
    encoder = fresh(Scratch("tiny", vocabulary=512))
    stage = StageRun(encoder, replace(JOINT, loss_norm=norm), task.sealed(), documents, RandomTokens(), 0)
    encoder.eval()
    work = stage._work(task.name, stage.streams[task.name].batch(0), seeds.torch_rng(0))
    loss = stage._loss(work)
    mlm, answer = stage.sums["mlm"].clone(), stage.sums["task"].clone()
    assert_close(loss, (2.0 * mlm + answer) / divisor)
    reading = stage._work(DOCUMENTS, stage.streams[DOCUMENTS].batch(0), seeds.torch_rng(0))
    assert_close(stage._loss(reading), stage.sums["mlm"] - mlm)  # ρ2 does not weigh documents, in either form


def test_the_task_closes_every_cycle(fresh: Fresh, task: Task, documents: Encoded) -> None:
    """TLM's code trains on the task at update s iff (s + 1) % (ρ1 + 1) == 0."""
    encoder = fresh(Scratch("tiny", vocabulary=512))
    stage = replace(JOINT, mix={"task": 1, "documents": 3})
    turns = StageRun(encoder, stage, task.sealed(), documents, RandomTokens(), 0).turns
    assert [turns.turn(update) for update in range(8)] == [
        *((DOCUMENTS, n) for n in range(3)), (task.name, 0), *((DOCUMENTS, n) for n in range(3, 6)), (task.name, 1)
    ]  # fmt: skip


def test_a_text_with_nothing_to_hide_gives_no_nan(fresh: Fresh, task: Task, tokenizer: Any) -> None:
    from trivium.training import encode_documents

    trace = run(fresh(Scratch("tiny", vocabulary=512)), JOINT, task, encode_documents(tokenizer, ["rook"] * 4, 32))
    assert all(math.isfinite(e["mlm"]) for e in trace.events if e["event"] == "loss")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # torch's own, of torch
def test_a_compiled_backbone_learns_the_same(fresh: Fresh, task: Task, documents: Encoded) -> None:
    plain, compiled = fresh(Scratch("tiny", vocabulary=512)), fresh(Scratch("tiny", vocabulary=512))
    stage = replace(JOINT, dropout=0.0)
    run(plain, stage, task, documents)
    run(compiled, replace(stage, compile=True), task, documents)
    assert compiled.backbone._compiled_call_impl is None  # only for the stage that asked for it
    for name, value in weights_of(plain).items():
        assert_close(value, weights_of(compiled)[name], atol=2e-4, rtol=1e-3, msg=name)


def test_divergence_is_an_error_with_a_way_out(fresh: Fresh, task: Task, documents: Encoded) -> None:
    with pytest.raises(TrainingError, match="Lower the rate"):
        run(fresh(Scratch("tiny", vocabulary=512)), replace(TUNE, lr=1e30, updates=60), task, documents)


def test_only_evaluate_sees_test(fresh: Fresh, task: Task, documents: Encoded) -> None:
    encoder = fresh(Scratch("tiny", vocabulary=512))
    spy = Spy.on(task)
    run(encoder, TUNE, spy, documents)
    assert set(spy.opened) == {"train", "dev"}
    with pytest.raises(LeakError, match="evaluate"):
        evaluate(encoder, task.sealed())


def test_the_best_look_at_dev_is_kept_and_patience_ends_a_stage(fresh: Fresh, task: Task, documents: Encoded) -> None:
    encoder = fresh(Scratch("tiny", vocabulary=512))
    stage = replace(TUNE, updates=400, lr=3e-3, evaluate_every=4, patience=3)
    trace = run(encoder, stage, task, documents)
    looks = [event for event in trace.events if event["event"] == "look"]
    assert 200 <= trace.updates < 400  # patience does not count before half of the way
    best = max(looks, key=lambda look: (look["value"], -look["loss"]))
    stale = len(looks) - 1 - looks.index(best)
    assert stale == 3 or (stale > 3 and trace.updates == 200)
    assert evaluate(encoder, task, split="dev", max_length=stage.max_length).value == best["value"]


def test_it_learns_what_words_give_away(fresh: Fresh, task: Task, documents: Encoded) -> None:
    encoder = fresh(Scratch("tiny", vocabulary=512))
    run(encoder, replace(TUNE, updates=60, lr=2e-3), task, documents)
    assert evaluate(encoder, task).value > 0.8


def test_every_weight_learns(spec: Scratch, fresh: Fresh, task: Task, documents: Encoded) -> None:
    encoder = fresh(spec)
    before = weights_of(encoder)
    run(encoder, replace(JOINT, lr=1e-2), task, documents)
    still = {name for name, value in before.items() if torch.equal(value, weights_of(encoder)[name])}
    assert not {name for name in still if "pooler" not in name}


def test_freezing_and_layer_decay(fresh: Fresh, task: Task, documents: Encoded) -> None:
    encoder = fresh(Scratch("tiny", vocabulary=512))
    before = weights_of(encoder)
    run(encoder, replace(TUNE, freeze=1, weight_decay=0.1), task, documents)
    moved = {
        name for name, value in weights_of(encoder).items() if name in before and not torch.equal(value, before[name])
    }
    assert not any("embeddings" in name or "layers.0." in name for name in moved)
    assert any("layers.1." in name for name in moved)
    run(encoder, replace(TUNE, freeze=9), task, documents)  # more than there are: the head learns all the same
    run(encoder, TUNE, task, documents)  # a later stage thaws them
    assert all(p.requires_grad for p in encoder.parameters())


def laid(lengths: list[int], widths: list[int]) -> Encoded:
    """Rows of so many texts, each as long as its row's entry."""
    texts = np.repeat(np.array(lengths), widths)
    ids = np.arange(texts.sum(), dtype=np.int32)
    firsts = np.concatenate([[0], np.cumsum(widths)]).astype(np.int64)
    return Encoded(ids, ids, ids.astype(np.uint8), np.concatenate([[0], np.cumsum(texts)]), None, firsts)


@given(
    st.lists(st.tuples(st.integers(1, 200), st.integers(1, 4)), min_size=1, max_size=80),
    st.integers(1, 9),
    st.integers(0, 3),
)
@settings(max_examples=60, deadline=None)
def test_a_pass_reads_every_row_once_within_the_budget(shapes: list[tuple[int, int]], rows: int, seed: int) -> None:
    encoded = laid(*map(list, zip(*shapes, strict=True)))
    for max_rows, max_tokens in ((rows, None), (None, rows * 64), (rows, rows * 64)):
        batches = plan(encoded, np.random.default_rng(seed), max_rows, max_tokens)
        assert sorted(np.concatenate(batches).tolist()) == list(range(len(shapes)))
        for batch in batches:
            assert max_rows is None or len(batch) <= max_rows
            area = encoded.widths[batch].sum() * (-(-encoded.lengths[batch].max() // 16) * 16)
            assert max_tokens is None or area <= max_tokens or len(batch) == 1
        if max_tokens is None:
            assert len(batches) == math.ceil(len(shapes) / rows)


def test_a_batch_is_padded_to_a_multiple_of_sixteen_and_holds_the_texts(documents: Encoded) -> None:
    rows = np.array([3, 0, 7])
    batch = collate(documents, rows, 0, types=False)
    assert batch.ids.shape[1] % 16 == 0
    for i, row in enumerate(rows):
        there = documents.ids[documents.offsets[row] : documents.offsets[row + 1]]
        assert batch.ids[i][batch.attention[i]].tolist() == there.tolist()
        assert (batch.words[i][~batch.attention[i]] == -1).all()


def test_the_nth_batch_is_a_function_of_seed_and_n(documents: Encoded) -> None:
    forward, jump = (BatchStream(documents, "d", 5, 0, max_tokens=256) for _ in range(2))
    seen = [forward.batch(n).ids for n in range(60)]
    for n in (59, 3, 30, 0):
        assert torch.equal(jump.batch(n).ids, seen[n])


def test_windows_lose_nothing(tokenizer: Any, texts: list[str]) -> None:
    from trivium.training import encode_documents

    cut = encode_documents(tokenizer, texts, 16)
    assert cut.lengths.max() <= 16
    special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    kept = [i for i in cut.ids.tolist() if i not in special]
    assert kept == [i for text in texts for i in tokenizer(text, add_special_tokens=False)["input_ids"]]


def test_the_rate_climbs_and_falls_to_the_budget() -> None:
    stage = replace(TUNE, warmup=0.1)
    rates = [rate_at(stage, update, 100) for update in range(100)]
    assert rates[:11] == sorted(rates[:11])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert max(rates) == 1.0
    assert 0 < rates[-1] < 0.02


def test_a_stage_is_as_long_as_it_says() -> None:
    assert planned_updates(Stage("s", {"task": 1}, epochs=2, batch_rows=8), 20, {}) == 6
    assert planned_updates(Stage("s", {"documents": 9, "task": 1}, epochs=2, batch_rows=8), 20, {}) == 60
    assert planned_updates(Stage("s", {"documents": 1}, epochs=0.5, batch_tokens=100), 20, {"documents": 1000}) == 5
    with pytest.raises(ConfigError, match="exactly one"):
        Stage("s", {"task": 1})
    with pytest.raises(ConfigError, match="leaves the task out"):
        Stage("s", {"auxiliary": 1}, updates=3, sampling="uniform")
    with pytest.raises(ConfigError, match="unknown stream"):
        Stage("s", {"tasks": 1}, updates=3)  # type: ignore[dict-item]


def test_a_tokenizer_depends_on_its_texts_alone(texts: list[str]) -> None:
    """Ties between pieces are many in so few texts; whoever breaks them by chance fails here."""
    from trivium.encoders.tokenizer import train_tokenizer

    rare = [*texts, "naïve café 東京 Ωmega x²"] * 2
    known = train_tokenizer(rare, 600).get_vocab()
    assert all(train_tokenizer(rare[::-1], 600).get_vocab() == known for _ in range(3))
    assert train_tokenizer(rare, 600).tokenize("CAFE", add_special_tokens=False)[0] == "cafe"


TINY = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
SHAPES: dict[str, dict[str, Any]] = {
    "bert": TINY,
    "roberta": {**TINY, "max_position_embeddings": 130, "pad_token_id": 0, "type_vocab_size": 1},
    "electra": {**TINY, "embedding_size": 16},
    "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64},
    "deberta": TINY,
    "deberta-v2": TINY,
    "deberta-v2 ": {**TINY, "legacy": False},
    "albert": {**TINY, "embedding_size": 16},
    "mpnet": TINY,
    "modernbert": {
        **TINY,
        "pad_token_id": 0,
        "cls_token_id": 2,
        "sep_token_id": 3,
        "bos_token_id": 2,
        "eos_token_id": 3,
    },
}


def pretrained(kind: str, shape: dict[str, Any], tokenizer: Any, folder: Path) -> Path:
    """A random masked language model of somebody's architecture, in a folder as from the hub."""
    from transformers import AutoConfig, AutoModelForMaskedLM

    config = AutoConfig.for_model(kind.strip(), vocab_size=len(tokenizer), **shape)
    AutoModelForMaskedLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", SHAPES)
def test_pretrained_encoders_of_many_architectures(kind: str, tokenizer: Any, task: Task, tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    from trivium.training import train

    folder = pretrained(kind, SHAPES[kind], tokenizer, tmp_path / "hub")
    recipe = Recipe((replace(TUNE, updates=2, max_length=32),))
    encoder = train(task, recipe, encoder=str(folder))
    encoder.save(tmp_path / "saved")
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "saved" / "tasks" / task.name).eval()
    inputs = encoder.tokenizer(task.texts("dev")[:4], return_tensors="pt", padding=True)
    if kind in {"distilbert", "roberta", "mpnet", "modernbert"}:
        inputs.pop("token_type_ids", None)
    found = evaluate(encoder, task, split="dev").probabilities[:4]
    with torch.no_grad():
        assert_close(plain(**inputs).logits.softmax(-1), torch.from_numpy(found), atol=1e-4, rtol=1e-3)


def test_an_architecture_that_cannot_share_its_backbone_is_refused(tokenizer: Any, task: Task, tmp_path: Path) -> None:
    from trivium.training import train

    folder = pretrained("bart", {"d_model": 32, "encoder_layers": 1, "decoder_layers": 1}, tokenizer, tmp_path)
    with pytest.raises(ConfigError, match="architecture 'bart'"):
        train(task, Recipe((TUNE,)), encoder=str(folder))


@pytest.mark.parametrize("name", ["train", "reviews.v2", "org/reviews"])
def test_a_task_may_have_any_name(name: str, fresh: Fresh, task: Task, documents: Encoded, tmp_path: Path) -> None:
    encoder, named = fresh(Scratch("tiny", vocabulary=512)), replace(task, name=name)
    run(encoder, replace(TUNE, updates=1), named, documents)
    encoder.save(tmp_path)
    assert evaluate(tmp_path, named).value == pytest.approx(evaluate(encoder, named).value)


def test_a_model_is_judged_with_its_own_labels_in_their_order(fresh: Fresh, task: Task, documents: Encoded) -> None:
    encoder = fresh(Scratch("tiny", vocabulary=512))
    run(encoder, replace(TUNE, updates=1), task, documents)
    with pytest.raises(ArtifactError, match="labels that the model was trained with"):
        evaluate(encoder, replace(task, labels=task.labels[::-1]))
    with pytest.raises(ArtifactError, match=f"no head for task 'other'; it has: {task.name}"):
        evaluate(encoder, replace(task, name="other"))


def test_longer_than_the_encoder_reads(fresh: Fresh, task: Task, documents: Encoded) -> None:
    with pytest.raises(ConfigError, match="max_length up to 512"):
        run(fresh(Scratch("tiny", vocabulary=512)), replace(TUNE, max_length=513), task, documents)


def test_a_recipe_made_for_another_encoder_is_refused(task: Task, tmp_path: Path) -> None:
    from trivium.training import recipes, train

    with pytest.raises(ConfigError, match="Make the recipe for it"):
        train(task, recipes.finetune("tiny"), encoder=str(tmp_path))
