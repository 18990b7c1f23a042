"""How quickly a masked language model learns here, beside what people use.

    python bench/training.py                                        made-up text, some minutes
    python bench/training.py --texts data/tasks/sciie/train.jsonl.gz    yours
    python bench/training.py --quick                                a minute

Three ways train the same BERT from the same weights on the same texts, with the same rates: (a) as TLM's reference code
does, every text padded to the longest and the head over all positions; (b) transformers.Trainer with its collator
(pip install accelerate); (c) trivium. They take turns, a few updates each; what is printed are medians over the rounds,
and in brackets the middle half of the rounds.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

import trivium as tv
from trivium import seeds
from trivium.encoders.encoder import from_pretrained
from trivium.encoders.precision import precision
from trivium.encoders.streams import collate
from trivium.encoders.tokenizer import train_tokenizer
from trivium.kinds import Batch, Encoded
from trivium.masking import RandomTokens, corrupt
from trivium.training import Encoder, Pretrained, Scratch, encode_documents, new_encoder
from ways import MASKED, End, Held, HuggingFace, Ours, Padded, Runner, Turn, Way, Work

SHORT = "sentences"
LR = 1e-3
BY_LENGTH = "(b) Trainer, by length"
BF16 = "(b) Trainer, by length, bf16"
WAYS: Mapping[str, Way] = {
    "(a) padded to the longest, full head": Padded(),
    "(b) Trainer": HuggingFace(),
    BY_LENGTH: HuggingFace(grouped=True),
    BF16: HuggingFace(grouped=True, bf16=True),
    "(c) trivium": Ours(),
}
PACES = {"tiny": (2, 12, 2), "mini": (1, 8, 1)}  # warm-up, rounds, updates in a round
GOALS = {(SHORT, "a"): 4.0, (SHORT, "b"): 2.0, ("128", "b"): 1.2}
HEADINGS = (
    f"{'model':6} {'texts':9} {'way':38} {'tokens/s':>22} {'of CPU':>7} {'× (a)':>18} {'× best of (b)':>18} "
    f"{'padding':>8} {'an update':>9} {'MB':>6} {'loss':>6}"
)
LEGEND = """
tokens/s       tokens learned from in a second; padding is not counted
of CPU         the same in a second of processor time, of all threads
× (a), × best  how many times as many as (a), and as the quickest (b)
padding        share of what was computed that was padding
an update      tokens learned from in an update of the weights; equal for all, as nearly as whole texts allow:
               (a) and (b) take as many texts as have that many on average, (c) the budget that comes to it
MB             most memory that the way's process held, beyond what it held before it loaded the model
loss           after all updates, on the same held-out texts with the same gaps, for all ways
"""


class Reading(NamedTuple):
    """Texts of some length, and some that are held out."""

    name: str
    texts: Encoded
    held: Held
    longest: int

    @property
    def read(self) -> tuple[Encoded, int]:
        """What ways are given of it."""
        return self.texts, self.longest


class Pace(NamedTuple):
    """How many updates are made, in which turns.

    Attributes:
        warm: Updates of each way before the clock runs.
        rounds: Rounds after them.
        each: Updates of a way in a round.
    """

    warm: int
    rounds: int
    each: int

    @property
    def updates(self) -> int:
        return self.warm + self.rounds * self.each


@dataclass
class Found:
    """What is known of a way.

    Attributes:
        turns: Its rounds, without the warm-up.
        end: How it ended; none where it failed.
        failed: Why it did.
    """

    turns: list[Turn] = field(default_factory=list)
    end: End | None = None
    failed: str | None = None

    @property
    def rates(self) -> np.ndarray[Any, Any]:
        """Tokens a second, by round."""
        return self.per("seconds")

    def per(self, measure: str) -> np.ndarray[Any, Any]:
        """Tokens in a second of something, by round."""
        return np.array([turn.tokens / getattr(turn, measure) for turn in self.turns])

    def total(self, name: str) -> float:
        """Sum of a field of its turns."""
        return float(sum(getattr(turn, name) for turn in self.turns))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Measure training on masked text, beside what people use.")
    parser.add_argument("--texts", help="a file of texts, for example .jsonl.gz with a field 'text'; else made up")
    parser.add_argument("--models", nargs="+", choices=list(PACES), default=list(PACES))
    parser.add_argument("--lengths", nargs="+", choices=[SHORT, "128", "512"], default=[SHORT, "128", "512"])
    parser.add_argument("--tokens", type=int, default=2048, help="learned from in an update (2048)")
    parser.add_argument("--vocabulary", type=int, default=8192)
    parser.add_argument("--rounds", type=int, help="in which all take turns (12 for tiny, 8 for mini)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--quick", action="store_true", help="the first model, no texts of 512, few rounds")
    parser.add_argument("--inside", action="store_true", help="all in one process: starts quicker, memory is not told")
    given = parser.parse_args(arguments)
    if given.quick:
        given.models, given.lengths = given.models[:1], [name for name in given.lengths if name != "512"]
        given.rounds = given.rounds or 5
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        os.environ.setdefault("TRIVIUM_CACHE", str(Path(folder) / "cache"))
        measure(Path(folder), given)
    print(f"\n{time.perf_counter() - begun:.0f} s in all")


def measure(folder: Path, given: argparse.Namespace) -> None:
    """Compare the ways for every model and length, and print what was found."""
    texts = tv.load_corpus(given.texts).table["text"].to_pylist() if given.texts else make_up(3000, 20_000)
    tokenizer = train_tokenizer(texts, given.vocabulary)
    readings = [lay_out(tokenizer, texts, name, 2 * given.tokens) for name in given.lengths]
    native = precision(torch.device("cpu")) == "bfloat16"
    print(
        f"{given.threads} threads, masks on {MASKED:.0%} of the tokens, vocabulary {len(tokenizer)}, AdamW at {LR:g};"
    )
    print(f"bfloat16 is {'native' if native else 'emulated'} on this processor, and (c) takes it where it is native.")
    print("".join(f"{told(reading)}\n" for reading in readings))
    print(HEADINGS)
    verdicts = []
    for size in given.models:
        model = save_model(folder / size, Scratch(size, "bert"), tokenizer)
        pace = pace_of(size, given.rounds)
        for number, reading in enumerate(readings):
            work = Work(model, *reading.read, given.tokens, pace.updates, LR, "cpu", given.threads)
            ways = dict(WAYS)
            if reading.name != SHORT:
                del ways[BY_LENGTH]  # all texts have the same
            if not native and (size != given.models[0] or number > 0):
                del ways[BF16]  # once is enough to see that it does not pay
            found = compare(ways, work, reading.held, pace, {} if native else {BF16: 1}, inside=given.inside)
            show(size, reading.name, found, pace)
            verdicts += judge_goals(size, reading.name, found)
    print(LEGEND)
    print("\n".join(verdicts))
    print(cliff(Work(model, *readings[0].read, given.tokens, 1, LR, "cpu", given.threads)))


def make_up(many: int, words: int) -> list[str]:
    """Sentences of made-up words as frequent as Zipf's law has them, about as long as those of SciERC."""
    rng = seeds.numpy_rng(0, "bench")
    known = np.array(["".join(rng.choice(list("etaoinshrdlu"), rng.integers(2, 9))) for _ in range(words)])
    chances = np.cumsum(1 / np.arange(1, words + 1))
    lengths = np.clip(rng.lognormal(np.log(33), 0.27, many), 10, 90).astype(int)
    return [" ".join(known[np.searchsorted(chances, rng.random(n) * chances[-1])]) for n in lengths]


def lay_out(tokenizer: Any, texts: list[str], name: str, held_tokens: int) -> Reading:
    """Tokenise texts as they are, cut at 128 tokens, or joined and cut into full windows of ``name`` tokens."""
    longest = 128 if name == SHORT else int(name)
    if name == SHORT:
        encoded = encode_documents(tokenizer, texts, longest)
    else:
        encoded = encode_documents(tokenizer, [" ".join(texts)], longest)
        encoded = some(encoded, 0, len(encoded) - 1)  # the last is not full
    out = max(1, round(held_tokens / float(encoded.lengths.mean())))
    batch = collate(some(encoded, 0, out), np.arange(out), tokenizer.pad_token_id, types=True)
    rng = seeds.torch_rng(0, "held out", name)
    gaps = corrupt(batch.ids, RandomTokens(MASKED).choose(batch, rng), tokenizer.mask_token_id, len(tokenizer), rng)
    return Reading(name, some(encoded, out, len(encoded)), Held(batch, gaps), longest)


def some(texts: Encoded, start: int, end: int) -> Encoded:
    """Some of the texts."""
    first, last = texts.offsets[start], texts.offsets[end]
    ids, words, types = (column[first:last] for column in (texts.ids, texts.words, texts.types))
    return Encoded(ids, words, types, texts.offsets[start : end + 1] - first)  # type: ignore[arg-type]


def told(reading: Reading) -> str:
    """How long texts are, in words."""
    lengths = reading.texts.lengths
    spread = ", ".join(f"{n:.0f}" for n in np.percentile(lengths, [5, 25, 50, 75, 95]))
    return (
        f"{reading.name:9} {len(lengths)} texts of {lengths.mean():.0f} tokens; 5, 25, 50, 75, 95 % have up to {spread}"
    )


def save_model(folder: Path, spec: Scratch, tokenizer: Any) -> str:
    """Write a model with random weights; all ways begin with these."""
    new_encoder(spec, tokenizer, 512, seed=0).save(folder)
    return str(folder / "mlm")


def pace_of(size: str, rounds: int | None) -> Pace:
    warm, usual, each = PACES[size]
    return Pace(warm, rounds or usual, each)


def compare(
    ways: Mapping[str, Way], work: Work, held: Held, pace: Pace, slow: Mapping[str, int], *, inside: bool
) -> dict[str, Found]:
    """Let ways take turns.

    Args:
        ways: What to compare, by title.
        work: What each is given.
        held: What each is judged on.
        pace: Updates and rounds.
        slow: In how many rounds some ways take part, an update in each and none to warm up, because they are so slow.
        inside: Whether all run in this process.
    """
    runners = {name: Runner(way, work, held, inside=inside) for name, way in ways.items()}
    found = {name: Found() for name in ways}
    for number in range(pace.rounds + 1):
        for name, runner in runners.items():
            if name in slow and not 0 < number <= slow[name]:
                continue
            turn = runner.turn(1 if name in slow else pace.each if number else pace.warm)
            if turn is not None and number > 0:
                found[name].turns.append(turn)
    for name, runner in runners.items():
        found[name].end = runner.end()
        found[name].failed = runner.failed
    return found


def ratio(ours: Found, theirs: Found) -> np.ndarray[Any, Any]:
    """How many times as quick, by round."""
    both = min(len(ours.turns), len(theirs.turns))
    times: np.ndarray[Any, Any] = ours.rates[:both] / theirs.rates[:both]
    return times


def best(found: Mapping[str, Found], letter: str) -> Found | None:
    """The quickest of the ways with a letter."""
    able = [one for name, one in found.items() if name.startswith(f"({letter})") and one.failed is None]
    return max(able, key=lambda one: float(np.median(one.rates)), default=None)


def spread(values: np.ndarray[Any, Any], form: str) -> str:
    """The median, and in brackets the middle half."""
    low, middle, high = np.percentile(values, [25, 50, 75])
    return f"{middle:{form}} [{low:{form}}, {high:{form}}]"


def show(size: str, reading: str, found: Mapping[str, Found], pace: Pace) -> None:
    """Print the lines of the table that belong together."""
    rivals = [best(found, "a"), best(found, "b")]
    for name, one in found.items():
        if one.end is None:
            print(f"{size:6} {reading:9} {name:38} failed: {one.failed}")
            continue
        ratios = [spread(ratio(one, rival), ".2f") if rival else "" for rival in rivals]
        padding = 1 - one.total("tokens") / one.total("padded")
        updates = len(one.turns) if one.end.updates < pace.updates else len(one.turns) * pace.each
        loss = f"{one.end.loss:6.3f}" if one.end.updates == pace.updates else "     –"
        print(
            f"{size:6} {reading:9} {name:38} {spread(one.rates, ',.0f'):>22} "
            f"{np.median(one.per('processor')):7,.0f} {ratios[0]:>18} {ratios[1]:>18} "
            f"{padding:8.0%} {one.total('tokens') / updates:9,.0f} {one.end.memory:6,.0f} {loss}",
            flush=True,
        )


def judge_goals(size: str, reading: str, found: Mapping[str, Found]) -> list[str]:
    """Say which goals were reached."""
    said = []
    ours = best(found, "c")
    for (of, letter), goal in GOALS.items():
        rival = best(found, letter)
        if of == reading and ours is not None and rival is not None:
            times = float(np.median(ratio(ours, rival)))
            whom = "(a)" if letter == "a" else "the quickest (b)"
            said.append(
                f"{size}, {reading}: at least {goal:g} × {whom} was to be reached; "
                f"{times:.2f} ×: {'reached' if times >= goal else 'MISSED'}"
            )
    return said


def cliff(work: Work) -> str:
    """How long forward and backward take where all texts have some length: multiples of 16, and others beside them.

    Both with a text in the batch that is shorter, so that there is padding to leave out, and without.
    """
    torch.set_num_threads(work.threads)
    encoder = from_pretrained(Pretrained(work.model)).train()
    rng = seeds.torch_rng(0, "cliff")
    lines = ["\nms for forward and backward of the backbone, by length of the batch, about as many tokens in all"]
    for padding in (0, 3):
        for lengths in (16, 32, 48, 64, 128), (17, 31, 41, 63, 127):
            times = [milliseconds(encoder, work.tokens // n, n, padding, rng) for n in lengths]
            row = "  ".join(f"{n}: {time:.0f}" for n, time in zip(lengths, times, strict=True))
            lines.append(f"{'with' if padding else 'without'} padding   {row}")
    return "\n".join(lines)


def milliseconds(encoder: Encoder, rows: int, length: int, padding: int, rng: torch.Generator) -> float:
    ids = torch.randint(5, len(encoder.tokenizer), (rows, length), generator=rng)
    attention = torch.ones_like(ids, dtype=torch.bool)
    attention[1:, length - padding :] = False
    batch = Batch(ids, attention, ids, torch.zeros_like(ids))
    times = []
    for _ in range(6):
        begun = time.perf_counter()
        encoder.hidden(batch).square().mean().backward()  # type: ignore[no-untyped-call]
        times.append(1e3 * (time.perf_counter() - begun))
    return float(np.median(times[1:]))


if __name__ == "__main__":
    main()
