"""The benchmark of learned masking: the rival does what it says, on the texts that ours has; both run to the end."""

import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from trivium.masking import Known
from trivium.nmg import NMG
from trivium.nmg import actor as acting
from trivium.nmg import episodes as arenas
from trivium.nmg.actor import Actor
from trivium.nmg.episodes import Arena

BENCH = Path(__file__).parents[1] / "bench"
CONTEXTS = 6


@pytest.fixture(scope="module")
def bench() -> Iterator[dict[str, ModuleType]]:
    """The modules of the benchmark, which is not a package."""
    sys.path.insert(0, str(BENCH))
    import nmg
    import reference_loop

    yield {"nmg": nmg, "reference": reference_loop}
    sys.path.remove(str(BENCH))


@pytest.fixture(scope="module")
def known(bench: Any) -> Known:
    found: Known = bench["nmg"].ready("tiny", bench["nmg"].made_up(80, labels=3))
    return found


@pytest.fixture(scope="module")
def arena(known: Known) -> Arena:
    return Arena(known, NMG.paper(contexts=CONTEXTS, validation_rows=1000))


@pytest.fixture
def loop(bench: Any, known: Known, arena: Arena, tmp_path: Path) -> Any:
    """The rival, with texts padded to 64 and rows to 32."""
    known.models.language().save(tmp_path)
    sizes = bench["reference"].Sizes(block=64, longest=32, fill_epochs=2, finetune_epochs=3)
    data = bench["nmg"].data_of(arena)
    return bench["reference"].ReferenceLoop(tmp_path / "mlm", known.tokenizer, data, sizes, tmp_path / "between")


class Seen:
    """Notes the calls of a model's forward: which class, shape of its input, of its logits, and whether it trains."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from transformers import ModernBertForMaskedLM, ModernBertForSequenceClassification, ModernBertModel

        self.calls: list[tuple[str, tuple[int, ...], tuple[int, ...], bool]] = []
        for model in (ModernBertForMaskedLM, ModernBertForSequenceClassification, ModernBertModel):
            monkeypatch.setattr(model, "forward", self._noting(model.forward, model.__name__))

    def _noting(self, forward: Any, name: str) -> Any:
        def noted(model: Any, *args: Any, **inputs: Any) -> Any:
            output = forward(model, *args, **inputs)
            shape = tuple(inputs["input_ids"].shape)
            logits = tuple(output.logits.shape) if hasattr(output, "logits") else ()
            self.calls.append((name, shape, logits, torch.is_grad_enabled()))
            return output

        return noted

    def of(self, name: str, *, learning: bool) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
        return [(shape, logits) for model, shape, logits, trains in self.calls if model == name and trains == learning]


def test_the_rival_pads_everything_and_computes_all_of_it(loop: Any, arena: Arena, monkeypatch: Any) -> None:
    seen, rows = Seen(monkeypatch), loop.play(0, range(CONTEXTS))
    assert set(rows) == {"random", "opponent", "player"}
    assert all(0 <= value <= 1 for value in rows.values())
    masks = [call for call in seen.calls if call[0] == "ModernBertModel" and not call[3] and call[1] == (1, 64)]
    assert len(masks) == 2 * CONTEXTS, "two policies look at each context alone, padded; chance does not look"
    vocabulary = len(loop.tokenizer)
    fills = seen.of("ModernBertForMaskedLM", learning=True)
    assert fills == [((CONTEXTS, 64), (CONTEXTS, 64, vocabulary))] * (3 * 2), "three agents, two passes, all positions"
    tunes = seen.of("ModernBertForSequenceClassification", learning=True)
    assert tunes == [((CONTEXTS, 32), (CONTEXTS, 3))] * (3 * 3)
    judged = seen.of("ModernBertForSequenceClassification", learning=False)
    assert {shape[1] for shape, _ in judged} == {32}
    assert sum(shape[0] for shape, _ in judged) == 3 * len(arena.parts.reward), "every row that is kept, by each agent"


def test_the_player_alone_moves_the_language_model_and_it_goes_through_disk(loop: Any, monkeypatch: Any) -> None:
    def weights(model: Any) -> list[torch.Tensor]:
        return [p.detach().clone() for p in model.base_model.parameters()]

    moved, through = [], loop._through_disk

    def watched(language: Any) -> Any:
        moved.append(any(not torch.equal(a, b) for a, b in zip(before, weights(loop.language), strict=True)))
        model = through(language)
        assert all(torch.equal(a, b) for a, b in zip(weights(language), weights(model), strict=True))
        assert model.base_model is not language.base_model
        return model

    before = weights(loop.language)
    monkeypatch.setattr(loop, "_through_disk", watched)
    loop.play(0, range(CONTEXTS))
    assert moved == [False, False, True]
    assert (loop.folder / "model.safetensors").stat().st_size > 1e6
    assert set(loop.clock.seconds) == {"masks", "fill", "fine-tune", "evaluation", "copies"}


@pytest.mark.parametrize("agent", ["random", "player"])
def test_the_rival_hides_its_share_and_asks_for_nothing_else(loop: Any, agent: str) -> None:
    hit = 0
    for context in loop.contexts:
        gaps = loop._hidden(loop.policies.get(agent), context)
        chosen = gaps["labels"] >= 0
        there = context["attention_mask"].bool()
        assert int(chosen.sum()) == max(1, int(there.sum() * loop.sizes.rate))
        assert not (chosen & ~there).any()
        assert torch.equal(gaps["labels"][chosen], context["input_ids"][chosen])
        assert torch.equal(gaps["input_ids"][~chosen], context["input_ids"][~chosen])
        hit += int((gaps["input_ids"][chosen] == loop.tokenizer.mask_token_id).sum())
    assert hit > 0.5 * len(loop.contexts)


def test_both_have_the_same_texts_and_the_rival_more_rows(
    bench: Any, known: Known, arena: Arena, tmp_path: Path
) -> None:
    data = bench["nmg"].data_of(arena)
    contexts = bench["nmg"].drawn(arena, 3)
    dealt = arena.deal("3")
    assert sorted(data.contexts[i] for i in contexts) == sorted(dealt.task.passages()[0])
    rows = [row for row, about in zip(data.rows, data.about, strict=True) if about in set(contexts.tolist())]
    assert rows == dealt.task.texts("train")
    assert not {*data.contexts} & {*data.kept}
    few, _ = bench["nmg"].our_way(known, replace(arena.settings, validation_rows=5), tmp_path / "few")
    assert few.once > 0
    part = Arena(known, replace(arena.settings, validation_rows=5)).parts
    assert np.isin(part.reward, arena.parts.reward).all(), "ours is judged by some of the rows that the rival is"
    assert np.array_equal(part.learn, arena.parts.learn)


def test_ours_plays_three_agents_and_the_parts_of_its_time_are_noted(
    bench: Any, known: Known, arena: Arena, tmp_path: Path, monkeypatch: Any
) -> None:
    stages: list[str] = []
    run = arenas.run_stage
    monkeypatch.setattr(
        arenas, "run_stage", lambda e, stage, *a, **k: (stages.append(stage.name), run(e, stage, *a, **k))
    )
    settings = replace(arena.settings, features="initial", fill_epochs=1, finetune_epochs=1, max_length=32)
    way, actor = bench["nmg"].our_way(known, settings, tmp_path / "ours")
    assert isinstance(actor, Actor)
    way.turn(0)
    assert stages == ["fill", "tune"] * 3
    assert len(way.shares) == len(bench["nmg"].PARTS)
    assert sum(way.shares) == pytest.approx(1)
    assert all(0 < share < 1 for share in way.shares)


@pytest.mark.filterwarnings("default")
def test_speed_is_told_to_the_end(bench: Any, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.setattr(bench["nmg"], "TASK", Path("not there"))
    threads = str(torch.get_num_threads())
    bench["nmg"].main(["--encoders", "tiny", "--contexts", "2", "--rounds", "1", "--threads", threads])
    printed = capsys.readouterr().out
    assert "2 contexts of the 42 rows of made up" in printed
    assert "lowest 1 of 2 frozen" in printed
    ratios = [float(found) for found in re.findall(r"to be reached; ([\d.]+) ×: (?:reached|MISSED)", printed)]
    assert len(ratios) == 3
    assert min(ratios) > 0
    lines = [line for line in printed.splitlines() if line.startswith("tiny  ")]
    assert len(lines) == 4
    for line in lines:
        assert sum(map(float, re.findall(r"([\d.]+)%", line))) == pytest.approx(100, abs=0.5)


def test_learning_is_told_to_the_end(bench: Any, monkeypatch: Any, capsys: Any) -> None:
    planted = bench["nmg"].planted
    monkeypatch.setattr(planted, "planted", partial(planted.planted, 150))
    brief = replace(planted.FAST, episodes=1, assess=3, contexts=30, fill_epochs=1, finetune_epochs=1)
    monkeypatch.setattr(planted, "FAST", brief)
    bench["nmg"].learning(1)
    last = capsys.readouterr().out.splitlines()[-1]
    assert re.fullmatch(
        r"planted: lift above 2 in [01] of 1 seeds; planted, shuffled rewards: lift up to 2 in [01] of 1 seeds; "
        r"null: no evidence in [01] of 1 seeds",
        last,
    )


def test_rewards_are_shuffled_for_a_while_and_keep_their_sizes(bench: Any) -> None:
    before = acting.against_others
    outcomes = [arenas.Outcome(float(i), 0.0) for i in range(6)]
    with bench["nmg"].shuffled(0):
        told = [acting.against_others(outcomes, NMG()) for _ in range(5)]
    assert acting.against_others is before
    rewards = before(outcomes, NMG())
    assert all(sorted(one) == pytest.approx(sorted(rewards)) for one in told)
    assert any(one != rewards for one in told)


def test_seeds_that_kept_to_what_is_wanted_are_counted(bench: Any) -> None:
    lesson = bench["nmg"].Lesson

    def some(*lifts: float, verdict: str = "no evidence") -> list[Any]:
        return [lesson(lift, lift, verdict, (0.0, 0.0, 0.0), 1.0) for lift in lifts]

    names = bench["nmg"].LESSONS
    found = dict(zip(names, (some(2.5, 1.9, 3.0), some(1.0, 2.5), some(1.0, verdict="helped")), strict=True))
    said = bench["nmg"].kept_to(found)
    assert said == (
        "planted: lift above 2 in 2 of 3 seeds; planted, shuffled rewards: lift up to 2 in 1 of 2 seeds; "
        "null: no evidence in 0 of 1 seeds"
    )
