"""How much of a GPU training uses, beside what people use: BERT-base with random weights, no network needed.

    python bench/gpu.py                        on the first CUDA device, under 8 minutes
    python bench/gpu.py --device cpu --quick   the same path on a tiny model, to see that it runs

The ways of ``training.py`` take turns in bfloat16 (autocast), ours as it is and with a compiled backbone. Beside tokens
per second stands how much of the device's speed was put to use: what the model needs to learn from a token, against a
large matrix product timed in the same run.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from training import SHORT, Found, Pace, best, compare, lay_out, make_up, ratio, save_model, spread, told
from trivium import seeds
from trivium.encoders.tokenizer import train_tokenizer
from trivium.kinds import Encoded
from trivium.training import Scratch, new_encoder
from ways import MASKED, HuggingFace, Ours, Padded, Way, Work

LR = 1e-4
GOAL = 0.45  # of the matrix product's speed, at 128 tokens
HEADINGS = f"\n{'texts':9} {'way':36} {'tokens/s':>28} " + "{:>7} {:>7} {:>6} {:>6} {:>7} {:>7}".format(
    "× (a)", "× (b)", "MFU", "6N", "MB", "loss"
)
EXPLAINED = """
tokens/s       tokens learned from in a second; padding is not counted
× (a), × (b)   how many times as many as (a), and as the quickest (b)
MFU            model FLOPs used: tokens/s times FLOPs per token, over the matrix product's FLOPs/s. A token needs
               6·(weights of the layers) + 6·(weights of the head)·(share of tokens that are masked)
               + 12·layers·width·(length of the text it is in);
               padding, and the head where nothing is masked, are not needed and do not count
6N             the same by the usual rule: 6·(all weights) in place of the first two terms, which is higher
MB             most memory of the device that the way's process held
loss           after all updates, on the same held-out texts with the same gaps, for all ways
"""


@dataclass(frozen=True)
class Needs:
    """Floating point operations of learning from a token.

    Attributes:
        strict: Those that cannot be done without.
        usual: By the rule of thumb.
    """

    strict: float
    usual: float


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Measure training on a GPU: tokens, memory, share of its speed.")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--model", choices=["tiny", "mini", "small", "base", "large"], default="base")
    parser.add_argument("--lengths", nargs="+", choices=[SHORT, "128", "512"], default=[SHORT, "128", "512"])
    parser.add_argument("--tokens", type=int, default=16384, help="learned from in an update (16384)")
    parser.add_argument("--rounds", type=int, default=8, help="in which all take turns (8)")
    parser.add_argument("--each", type=int, default=5, help="updates of a way in a round (5)")
    parser.add_argument("--no-compile", action="store_true", help="leave out the compiled backbone")
    parser.add_argument("--quick", action="store_true", help="a tiny model, few updates")
    parser.add_argument("--inside", action="store_true", help="all in one process: starts quicker, memory is not told")
    given = parser.parse_args(arguments)
    if given.device == "cuda":  # of several, Trainer would take all
        os.environ["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    if given.device == "cuda" and not torch.cuda.is_available():
        print("Nothing was measured: torch finds no CUDA device here. `--device cpu --quick` shows the path.")
        return
    if given.quick:
        given.model, given.tokens, given.rounds, given.each = "tiny", min(given.tokens, 256), 2, 1
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder), given)
    print(f"\n{time.perf_counter() - begun:.0f} s in all")


def measure(folder: Path, given: argparse.Namespace) -> None:
    """Compare the ways for every length, and print what was found."""
    vocabulary = 1024 if given.quick else 30_522
    texts = make_up(400 if given.quick else 12_000, 2 * vocabulary)
    tokenizer = train_tokenizer(texts, vocabulary)
    spec = Scratch(given.model, "bert", vocabulary)
    model = save_model(folder / given.model, spec, tokenizer)
    pace = Pace(1 if given.quick else 10, given.rounds, given.each)
    speed = matmul_speed(given.device, 256 if given.device == "cpu" else 8192)
    print(f"{name_of(given.device)}; torch {torch.__version__}; BERT-{given.model}, vocabulary {len(tokenizer)}")
    print(f"a large matrix product: {speed / 1e12:.2f} TFLOP/s; {pace.updates} updates of {given.tokens} tokens")
    print(HEADINGS)
    for length in given.lengths:
        reading = lay_out(tokenizer, texts, length, 1024 if given.quick else 8192)
        work = Work(model, *reading.read, given.tokens, pace.updates, LR, given.device, torch.get_num_threads())
        found = compare(ways(given), work, reading.held, pace, {}, inside=given.inside)
        print(told(reading))
        need = needs(spec, tokenizer, reading.texts)
        show(length, found, need, speed)
        if length == "128" and (given.device, given.model) == ("cuda", "base"):
            judge_goal(found, need, speed)
    print(EXPLAINED)


def ways(given: argparse.Namespace) -> Mapping[str, Way]:
    """What is compared, by title."""
    all_ways: dict[str, Way] = {
        "(a) padded to the longest, full head": Padded(bf16=True),
        "(b) Trainer, fp32, by length": HuggingFace(grouped=True),
        "(b) Trainer, bf16": HuggingFace(bf16=True),
        "(b) Trainer, bf16, by length": HuggingFace(grouped=True, bf16=True),
        "(c) trivium": Ours(),
        "(c) trivium, compiled": Ours(compiled=True),
    }
    if given.no_compile:
        del all_ways["(c) trivium, compiled"]
    return all_ways


def needs(spec: Scratch, tokenizer: Any, texts: Encoded) -> Needs:
    """What learning from a token of these texts needs; see the explanation that is printed."""
    encoder = new_encoder(spec, tokenizer, 512, seed=0)
    config = encoder.backbone.config
    layers = sum(p.numel() for p in encoder.backbone.encoder.parameters() if p.dim() > 1)
    head = sum(p.numel() for p in encoder.mlm.parameters() if p.dim() > 1)
    lengths = texts.lengths.astype(float)
    seen = float((lengths**2).sum() / lengths.sum())  # how long the text of a token is, on average over tokens
    attention = 12 * config.num_hidden_layers * config.hidden_size * seen
    masked = MASKED * float((texts.words >= 0).mean())
    return Needs(6 * layers + 6 * head * masked + attention, 6 * encoder.parameter_count + attention)


def show(length: str, found: Mapping[str, Found], need: Needs, speed: float) -> None:
    """Print the lines of the table that belong together."""
    rivals = [best(found, "a"), best(found, "b")]
    for name, one in found.items():
        if one.end is None:
            print(f"{length:9} {name:36} failed: {one.failed}")
            continue
        times = " ".join(f"{np.median(ratio(one, rival)) if rival else np.nan:7.2f}" for rival in rivals)
        used = " ".join(f"{np.median(one.rates) * flops / speed:6.1%}" for flops in (need.strict, need.usual))
        print(
            f"{length:9} {name:36} {spread(one.rates, ',.0f'):>28} {times} {used} "
            f"{one.end.memory:7,.0f} {one.end.loss:7.3f}",
            flush=True,
        )


def judge_goal(found: Mapping[str, Found], need: Needs, speed: float) -> None:
    """Say whether the goal was reached."""
    ours = best(found, "c")
    reached = float(np.median(ours.rates)) * need.strict / speed if ours else 0.0
    said = "reached" if reached >= GOAL else "MISSED"
    print(f"128: MFU of at least {GOAL:.0%} was to be reached; {reached:.1%}: {said}")


def matmul_speed(device: str, size: int) -> float:
    """FLOPs per second of a product of two square matrices, the median of twenty; bfloat16 on a GPU."""
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    rng = seeds.torch_rng(0, "matmul")
    one, other = (torch.randn(size, size, generator=rng).to(device, dtype) for _ in range(2))
    times = []
    for _ in range(25):
        wait(device)
        begun = time.perf_counter()
        for _ in range(4):
            one @ other
        wait(device)
        times.append((time.perf_counter() - begun) / 4)
    return 2 * size**3 / float(np.median(times[5:]))


def wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def name_of(device: str) -> str:
    return torch.cuda.get_device_name() if device == "cuda" else f"CPU, {torch.get_num_threads()} threads"


if __name__ == "__main__":
    main()
