"""How fast training steps are, and what each trick brings: `python bench/training.py`.

Variants take turns in one process, so that a busy machine slows all alike; what is printed are medians over the rounds,
and ratios of them with the middle half of the rounds' own ratios.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch

from trivium import seeds
from trivium.core import Stage
from trivium.kinds import Encoded
from trivium.masking import Batch, RandomTokens, corrupt
from trivium.training import Encoder, Scratch, encode_documents, new_encoder
from trivium.training.optimizer import make_optimizer
from trivium.training.streams import BatchStream, collate
from trivium.training.tokenizer import train_tokenizer

STAGE = Stage("bench", {"documents": 1}, updates=1)


def texts(many: int, rng: np.random.Generator) -> list[str]:
    """Documents of 10 to 120 words whose frequencies fall as in natural text."""
    words = np.array(["".join(rng.choice(list("etaoinshrdlu"), rng.integers(2, 9))) for _ in range(20_000)])
    weights = 1 / np.arange(1, len(words) + 1)
    return [" ".join(rng.choice(words, rng.integers(10, 120), p=weights / weights.sum())) for _ in range(many)]


def step(encoder: Encoder, optimizer: torch.optim.Optimizer, batch: Batch, *, everywhere: bool = False) -> None:
    """One update of masked language modelling, with the head on masked positions or, as is common, on all."""
    rng = seeds.torch_rng(0, "bench")
    gaps = corrupt(batch.ids, RandomTokens(0.3).choose(batch, rng), encoder.tokenizer.mask_token_id, 4096, rng)
    hidden = encoder.hidden(batch, gaps.ids)
    if everywhere:
        logits = encoder.fill(hidden, torch.arange(batch.ids.numel()))
        loss = torch.nn.functional.cross_entropy(logits, gaps.labels().flatten(), ignore_index=-100)
    else:
        loss = torch.nn.functional.cross_entropy(encoder.fill(hidden, gaps.positions), gaps.targets)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def compare(variants: dict[str, Callable[[int], int]], rounds: int) -> None:
    """Let variants take turns; each returns the tokens it read."""
    rates: dict[str, list[float]] = {name: [] for name in variants}
    for n in range(rounds + 1):
        for name, run in variants.items():
            begun = time.perf_counter()
            tokens = run(n)
            if n > 0:  # the first round warms up
                rates[name].append(tokens / (time.perf_counter() - begun))
    base = np.array(next(iter(rates.values())))
    for name, found in rates.items():
        low, middle, high = np.percentile(np.array(found) / base, [25, 50, 75])
        print(f"  {name:<34} {np.median(found):>9,.0f} tokens/s   × {middle:.2f} [{low:.2f}, {high:.2f}]")


def buckets(encoder: Encoder, documents: Encoded, size: int) -> dict[str, Callable[[int], int]]:
    """Batches of similar length against batches of any, both of about ``size`` tokens."""
    optimizer = make_optimizer(encoder, STAGE)
    stream = BatchStream(documents, "bench", 0, encoder.tokenizer.pad_token_id, max_tokens=size)
    rows = size // 128
    order = seeds.numpy_rng(0, "bench").permutation(len(documents))

    def any_length(n: int) -> int:
        batch = collate(documents, order[n * rows : (n + 1) * rows], encoder.tokenizer.pad_token_id, types=False)
        step(encoder, optimizer, batch)
        return int(batch.attention.sum())

    def alike(n: int) -> int:
        batch = stream.batch(n)
        step(encoder, optimizer, batch)
        return int(batch.attention.sum())

    def everywhere(n: int) -> int:
        batch = stream.batch(n)
        step(encoder, optimizer, batch, everywhere=True)
        return int(batch.attention.sum())

    return {"any length, padded": any_length, "length buckets": alike, "buckets, MLM head everywhere": everywhere}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--sizes", nargs="+", default=["tiny", "mini"])
    arguments = parser.parse_args()
    rng = seeds.numpy_rng(0, "bench")
    some = texts(3000, rng)
    tokenizer = train_tokenizer(some, 4096)
    documents = encode_documents(tokenizer, some, 128)
    for size in arguments.sizes:
        for threads in dict.fromkeys((1, torch.get_num_threads())):
            before = torch.get_num_threads()
            torch.set_num_threads(threads)
            encoder = new_encoder(Scratch(size, vocabulary=4096), tokenizer, 128, 0)
            encoder.train()
            print(f"{size}, {threads} thread{'s' * (threads > 1)}, 2048 tokens a batch")
            compare(buckets(encoder, documents, 2048), arguments.rounds)
            torch.set_num_threads(before)


if __name__ == "__main__":
    main()
