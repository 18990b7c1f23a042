"""How quickly tasks are compared by their attention heads.

    python bench/auxiliary.py                   rows and taus a second, beside straightforward ways; 20 minutes
    python bench/auxiliary.py --quick           few rows; minutes

Rows: how much each head of an encoder matters to rows of 64 tokens, (a) as GradTS's code does it, row by row, and (b)
as trivium does. Taus: of tasks with rows, (a) by scipy, pair by pair, and (b) by trivium. They take turns, round by
round, with the same rows and the same weights.
"""

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from scipy.stats import kendalltau

from nmg import made_up, spread
from trivium import seeds
from trivium.auxiliary.affinity import kendall
from trivium.auxiliary.importance import measure
from trivium.core import Floats, Task
from trivium.encoders import Encoder, Scratch, collate
from trivium.encoders.encoder import SIZES, Size
from trivium.kinds import Cut, kind_of
from trivium.training import make_tokenizer, torch_device

LENGTH = 64  # tokens of a row
VOCABULARY: dict[Size, int] = {"base": 28_996}  # of bert-base-cased; others have that of encoders from scratch
ROWS: dict[Size, int] = {"base": 64, "mini": 512}
QUICK: dict[Size, int] = {"base": 8, "mini": 64}
TASKS = 8  # whose importances are compared with those of rows
COMPARED = 500  # rows that they are compared with
REFERENCE = "(a) as GradTS's code does it"
OURS = "(b) trivium, {}"
SCIPY = "(a) scipy"
TAUS = "(b) trivium"
GOALS: Mapping[str, float] = {"base": 3.0, "mini": 10.0, "taus of 144 heads": 15.0}
GPU_GOAL = 30.0  # of rows
HEADINGS = f"{'what':20} {'way':28} {'ms each':>24} {'a second':>10} {'× (a)':>22}"
LEGEND = """
ms each, × (a)   medians over the rounds, and in brackets the least and the most
a second         rows, or taus
"""
Way = Callable[[], Any]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Measure how quickly tasks are compared by their attention heads.")
    parser.add_argument("what", nargs="?", choices=["speed"], default="speed")
    parser.add_argument("--encoders", nargs="+", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--length", type=int, default=LENGTH, help=f"tokens of a row, a multiple of 16 ({LENGTH})")
    parser.add_argument("--rounds", type=int, help="in which all take turns (5; 3 with --quick)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--quick", action="store_true", help="few rows")
    given = parser.parse_args(arguments)
    given.rounds = given.rounds or (3 if given.quick else 5)
    torch.set_num_threads(given.threads)
    begun = time.perf_counter()
    speed(given)
    print(f"\n{time.perf_counter() - begun:.0f} s in all")


def speed(given: argparse.Namespace) -> None:
    """Measure all there is to measure, and say which goals were reached."""
    print(f"{given.length} tokens, {given.rounds} rounds, {given.threads} threads, {torch_device()}\n{HEADINGS}")
    said = []
    for size in given.encoders:
        rows = (QUICK if given.quick else ROWS)[size]
        said += judged(size, take_turns(size, importance_ways(size, rows, given.length), rows, given.rounds))
    for heads in (144, 16):
        compared = COMPARED // 5 if given.quick else COMPARED
        what = f"taus of {heads} heads"
        said += judged(what, take_turns(what, tau_ways(heads, compared), TASKS * compared, given.rounds))
    print(LEGEND + "\n".join(said))


def take_turns(what: str, ways: dict[str, Way], many: int, rounds: int) -> dict[str, list[float]]:
    """Let all ways take turns; print how long each took, and return how many times as quick as the first it was.

    Args:
        what: The first column.
        ways: By name; the first is what the others are measured beside.
        many: What a way does of it at once.
        rounds: How often.
    """
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            begun = time.perf_counter()
            way()
            taken[name].append((time.perf_counter() - begun) / many)
    reference, *others = ways
    times = {name: [a / b for a, b in zip(taken[reference], taken[name], strict=True)] for name in others}
    for name, each in taken.items():
        ratio = spread(times[name], ".2f") if name in times else ""
        milliseconds = spread([1000 * one for one in each], ".3f")
        print(f"{what:20} {name:28} {milliseconds:>24} {1 / np.median(each):10.1f} {ratio:>22}", flush=True)
    return times


def judged(what: str, times: Mapping[str, list[float]]) -> list[str]:
    """Whether a goal was reached, for each way that has one."""
    if what not in GOALS:
        return []
    on_gpu = torch_device() == "cuda" and what in ROWS
    goal, found = (
        GPU_GOAL if on_gpu else GOALS[what],
        {name: float(np.median(ratios)) for name, ratios in times.items()},
    )
    return [
        f"{what}, {name}: at least {goal:g} × (a) was to be reached; {ratio:.2f} ×: "
        f"{'reached' if ratio >= goal else 'MISSED'}"
        for name, ratio in found.items()
    ]


def importance_ways(size: Size, rows: int, length: int) -> dict[str, Way]:
    """Ways to find out how much each head of an encoder matters to rows of a task."""
    task = long_rows(rows, length)
    encoder = encoder_for(task, size)
    encoder.keep_cut(task, Cut(length))

    def ours(estimator: Any) -> Way:
        return lambda: measure(encoder, task, estimator=estimator)

    return {
        REFERENCE: lambda: reference_loop(encoder, task),
        **{OURS.format(estimator): ours(estimator) for estimator in ("gate", "kv_weight")},
    }


def long_rows(rows: int, length: int) -> Task:
    """Made-up rows that are all longer than what is read of them."""
    task = made_up(rows, labels=3)
    table = task.rows("train")
    texts = [" ".join([text, *["and"] * length]) for text in table["text"].to_pylist()]
    return replace(task, tables={"train": table.set_column(0, "text", pa.array(texts))})


def encoder_for(task: Task, size: Size) -> Encoder:
    """A BERT with random weights and a head for the task."""
    from transformers import BertConfig, BertForMaskedLM

    layers, width, heads = SIZES[size]
    config = BertConfig(
        vocab_size=VOCABULARY.get(size, Scratch().vocabulary),
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=4 * width,
    )
    tokenizer = make_tokenizer(Scratch(size, architecture="bert"), task, [])
    with seeds.torch_scope(0, "bench", "encoder"):
        encoder = Encoder(BertForMaskedLM(config), tokenizer)
        encoder.add_head(task)
    return encoder.to(torch_device())


def reference_loop(encoder: Encoder, task: Task) -> list[list[list[float]]]:
    """Row by row, by gradients of all weights, of which those of attention are copied, as GradTS's code has it.

    Dropout is on, queries are copied for nothing, and weights are cut into heads along their inputs.
    """
    kind, config = kind_of(task), encoder.backbone.config
    heads, layers = config.num_attention_heads, config.num_hidden_layers
    encoded = kind.encode(encoder.tokenizer, task.rows("train"), task.labels, encoder.cut_of(task.name))
    encoder.train()
    found = []
    for row in range(len(encoded)):
        batch = collate(encoded, np.array([row]), encoder.tokenizer.pad_token_id, types=encoder.wants_types)
        batch = batch.to(encoder.device)
        logits = encoder.answer(task.name, encoder.hidden(batch), batch)
        kind.loss(logits, batch, None).mean().backward()
        grads = {}
        for name, weight in encoder.backbone.named_parameters():
            if "attention.self" in name and "weight" in name:
                width = len(weight)
                grads[name] = weight.grad.view(width, heads, width // heads).permute(1, 0, 2).abs().cpu()
        encoder.zero_grad()
        found.append([layer_of(grads, layer) for layer in range(layers)])
    return found


def layer_of(grads: Mapping[str, torch.Tensor], layer: int) -> list[float]:
    """How much the heads of a layer matter, in GradTS's code."""
    key, value = (grads[f"encoder.layer.{layer}.attention.self.{part}.weight"] for part in ("key", "value"))
    means: list[float] = torch.stack([(k + v).mean() for k, v in zip(key, value, strict=True)]).tolist()
    return means


def tau_ways(heads: int, rows: int) -> dict[str, Way]:
    """Ways to compare what matters to tasks with what matters to rows."""
    rng = seeds.numpy_rng(0, "bench", "taus", heads)
    tasks, each = rng.random((TASKS, heads)), rng.random((rows, heads))
    kendall(tasks, each)  # the first time, it may have to be compiled
    return {SCIPY: lambda: scipy_taus(tasks, each), TAUS: lambda: kendall(tasks, each)}


def scipy_taus(tasks: Floats, each: Floats) -> Floats:
    return np.array([[kendalltau(one, row).statistic for row in each] for one in tasks])


if __name__ == "__main__":
    main()
