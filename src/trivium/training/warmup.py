"""A head that fills gaps, for encoders that came without one: learned once on a frozen backbone, then kept.

Sentence encoders, ELECTRA's discriminators and most models that were trained for a task lack it, and transformers then
fills in random weights. Here the backbone stays as it is, and only the head learns: its dense layer, its norm and the
bias of its output, while the output's matrix is the embeddings, as in the models that have one. Since nothing below the
head learns, the backbone runs without gradients, and this is not the training loop in another place.

What is learned lies in the cache folder, named by the encoder's weights, the texts and the settings: like a pretrained
head, it is the same for every arm, seed and study that starts from them.
"""

import json
import logging
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import xxhash
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import trivium
from trivium import seeds
from trivium.core import JSON, Stage, digest
from trivium.encoders.encoder import Encoder
from trivium.encoders.streams import MULTIPLE, BatchStream
from trivium.errors import ArtifactError, DataError, TrainingError
from trivium.kinds import Batch, Encoded
from trivium.kinds.text import tokenize
from trivium.masking import RandomTokens, corrupt
from trivium.store import Artifact, Store, cache_folder
from trivium.training.loop import Watch
from trivium.training.parts import Work

_WEIGHTS, _ABOUT = "head.safetensors", "head.json"
_SHARE = 0.1  # of the updates: the rate climbs in the first, and the loss after them is the mean of the last
_LOG = logging.getLogger("trivium")


@dataclass(frozen=True)
class Warmup:
    """How a head is warmed up.

    Attributes:
        updates: Updates of the head.
        lr: Peak learning rate: up in a tenth of the updates, then down to 0, in straight lines.
        batch_tokens: Tokens, padding included, in a batch.
        max_length: Longest input in tokens; longer texts are cut into windows.
        rate: Share of the tokens to hide.
        texts: Most texts to learn from, drawn from those given.
        seed: Of first weights, draw, order and masks. It is no seed of a study: a head that is part of what somebody
            starts from does not change from run to run.
    """

    updates: int = 500
    lr: float = 3e-3
    batch_tokens: int = 1024
    max_length: int = 128
    rate: float = 0.15
    texts: int = 10_000
    seed: int = 0


@dataclass(frozen=True)
class WarmHead:
    """A head that was warmed up, and where it is kept.

    Attributes:
        folder: Where.
        key: Changes when the encoder's weights, the texts or the settings do.
        reused: Whether it was there already.
        texts: How many texts it learned from.
        updates: For how many updates.
        before: Mean loss of a hidden token in the first update, in nats.
        after: The same over the last tenth of the updates.
    """

    folder: Path
    key: str
    reused: bool
    texts: int
    updates: int
    before: float
    after: float

    def note(self) -> str:
        """What a user should know of it, in a sentence or two."""
        return (
            "The encoder came without a head for masked language modelling; one was warmed up on its frozen backbone: "
            f"{self.updates} updates on {self.texts} texts, loss of a hidden token from {self.before:.2f} to "
            f"{self.after:.2f}."
        )


def masks(stages: Iterable[Stage]) -> bool:
    """Whether any of the stages hides tokens, and so needs a head that fills gaps.

    >>> masks([Stage("tune", {"task": 1}, epochs=1)]), masks([Stage("adapt", {"documents": 1}, updates=9)])
    (False, True)
    """
    return any(stage.masks for stage in stages)


def head_weights(encoder: Encoder) -> dict[str, nn.Parameter]:
    """The weights of the gap-filling head by name; those it shares with the backbone (tied embeddings) are left out."""
    shared = {id(weight) for weight in encoder.backbone.parameters()}
    return {name: weight for name, weight in encoder.mlm.named_parameters() if id(weight) not in shared}


def lacks_head(encoder: Encoder) -> bool:
    """Whether weights of the gap-filling head are random because the encoder came without them."""
    return not encoder.unlearned.isdisjoint(head_weights(encoder))


def warm_up(
    encoder: Encoder,
    texts: Sequence[str],
    settings: Warmup | None = None,
    *,
    watch: Watch | None = None,
) -> WarmHead | None:
    """Give an encoder that came without a gap-filling head a warm one, in place: the one that is kept, or a new one.

    Of several processes that want the same head at once, one makes it and the others wait for it.

    Args:
        encoder: A pretrained encoder, on the device that is to do the work.
        texts: What to learn from; no dev or test text may be among them.
        settings: How.
        watch: Told, after every update, how many are done and how many there are.

    Returns:
        Where the head is kept and what is known of it; none where the encoder has a head of its own, or was warmed up
        before.

    Raises:
        DataError: there is no word in the texts.
        TrainingError: the loss is no number any more.
    """
    if not lacks_head(encoder):
        return None
    settings = settings or Warmup()
    sample = _sample(texts, settings)
    inputs = {
        "trivium": trivium.__version__,
        "encoder": _content(encoder),
        "texts": digest(sample),
        "settings": asdict(settings),
    }

    def write(folder: Path) -> None:
        for scratch in folder.parent.glob(f"{folder.name[:-12]}*"):  # a crash left it; the lock is ours
            if scratch != folder:
                shutil.rmtree(scratch)
        _LOG.warning("no head for masked language modelling: warming one up on %d texts, once", len(sample))
        losses = _learn(encoder, sample, settings, watch or (lambda done, total: None))
        last = losses[-max(1, round(_SHARE * len(losses))) :]
        about = {"texts": len(sample), "updates": settings.updates, "before": losses[0], "after": float(np.mean(last))}
        weights = {name: weight.detach().cpu().contiguous() for name, weight in head_weights(encoder).items()}
        save_file(weights, folder / _WEIGHTS)
        (folder / _ABOUT).write_text(json.dumps({**about, "losses": losses}), encoding="utf-8")

    kept = Store(cache_folder() / "heads").make("head", inputs, write)
    put_head(encoder, kept.folder)
    return _describe(kept)


def put_head(encoder: Encoder, folder: Path) -> None:
    """Give an encoder the gap-filling head that ``warm_up`` keeps in a folder.

    Raises:
        ArtifactError: there is none, or it is another architecture's.
    """
    try:
        kept = load_file(folder / _WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise ArtifactError(
            f"{folder / _WEIGHTS}: expected the weights of a head, found: {error}. Delete the folder and run "
            "again: it is made anew."
        ) from error
    own = head_weights(encoder)
    ours, theirs = ({name: tuple(w.shape) for name, w in weights.items()} for weights in (own, kept))
    if ours != theirs:
        raise ArtifactError(f"{folder}: expected a head of the shape {ours}, found {theirs}. It is another encoder's.")
    with torch.no_grad():
        for name, weight in own.items():
            weight.copy_(kept[name])
    encoder.unlearned = frozenset()


def _describe(kept: Artifact) -> WarmHead:
    about: JSON = json.loads((kept.folder / _ABOUT).read_text(encoding="utf-8"))
    about.pop("losses")
    return WarmHead(kept.folder, kept.key, kept.reused, **about)


def _sample(texts: Sequence[str], settings: Warmup) -> list[str]:
    if len(texts) <= settings.texts:
        return list(texts)
    rng = seeds.numpy_rng(settings.seed, "warm-up", "texts")
    return [texts[i] for i in np.sort(rng.choice(len(texts), settings.texts, replace=False))]


def _content(encoder: Encoder) -> str:
    """A name for what a head depends on: every weight that is not random, the architecture and the tokenizer."""
    hasher = xxhash.xxh3_128(type(encoder.mlm).__name__.encode())
    for part, module in ((f"{encoder.prefix}.", encoder.backbone), ("", encoder.mlm)):
        for name, weight in module.named_parameters():
            if part + name not in encoder.unlearned:
                hasher.update(f"\0{part}{name} {weight.dtype} {list(weight.shape)}\0".encode())
                hasher.update(weight.detach().cpu().contiguous().numpy())
    tokenizer = json.loads(encoder.tokenizer.backend_tokenizer.to_str())
    steps = {key: value for key, value in tokenizer.items() if key not in ("truncation", "padding")}  # set by each call
    return digest([hasher.hexdigest(), steps])


def _learn(encoder: Encoder, texts: list[str], settings: Warmup, watch: Watch) -> list[float]:
    """Learn the head from random weights, in place; the losses of the updates."""
    head = head_weights(encoder)
    encoded = _encode(encoder, texts, settings)
    _start(encoder, head, encoded, settings)
    seed, pad = settings.seed, encoder.tokenizer.pad_token_id
    stream = BatchStream(encoded, "warm-up", seed, pad, max_tokens=settings.batch_tokens, types=encoder.wants_types)
    optimizer = torch.optim.AdamW(head.values(), settings.lr, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.0)
    losses, mode = [], encoder.training
    encoder.eval()  # no dropout: the head learns from what the backbone says, not from a noisy part of it
    for update in range(settings.updates):
        rng = seeds.torch_rng(seed, "warm-up", "mask", update)
        loss = _loss(encoder, stream.batch(update), settings.rate, rng)
        gradients = torch.autograd.grad(loss, list(head.values()))  # of the head alone, not of tied embeddings
        for weight, gradient in zip(head.values(), gradients, strict=True):
            weight.grad = gradient
        for group in optimizer.param_groups:
            group["lr"] = settings.lr * _rate(update, settings.updates)
        optimizer.step()
        losses.append(loss.detach())
        watch(update + 1, settings.updates)
    optimizer.zero_grad(set_to_none=True)
    encoder.train(mode)
    told: list[float] = torch.stack(losses).tolist()
    if not np.isfinite(told).all():
        update = int(np.isfinite(told).argmin())
        rate = settings.lr * _rate(update, settings.updates)
        raise TrainingError(
            f"warm-up of a head for gaps: the loss is no number any more in update {update + 1} of {settings.updates} "
            f"(learning rate {rate:.2g}, at its peak {settings.lr:g}). Lower the rate, or take an encoder that came "
            "with such a head; if it was the first update, look whether the encoder's weights are numbers."
        )
    return told


def _encode(encoder: Encoder, texts: list[str], settings: Warmup) -> Encoded:
    positions = getattr(encoder.backbone.config, "max_position_embeddings", None) or settings.max_length
    length = min(settings.max_length, positions // MULTIPLE * MULTIPLE)
    encoded = tokenize(encoder.tokenizer, [text for text in texts if text.strip()], length, windows=True)
    if not (encoded.words >= 0).any():
        raise DataError(f"warm-up: expected texts to learn a head from, found {len(texts)} without a single word.")
    return encoded


def _start(encoder: Encoder, head: Mapping[str, nn.Parameter], encoded: Encoded, settings: Warmup) -> None:
    """Set what is missing of the head to what the architecture starts from, and its bias to the tokens' frequencies.

    Source: Meister et al. 2023, A Natural Bias for Language Generation Models: log-frequencies are what a bias learns
    first. AdamW would take long to get there, since it moves a weight by about the learning rate in an update.
    """
    from transformers import AutoModelForMaskedLM

    with seeds.torch_scope(settings.seed, "warm-up", "head"):
        fresh: Any = AutoModelForMaskedLM.from_config(encoder.mlm.config)  # type: ignore[no-untyped-call]
    first, vocabulary = dict(fresh.named_parameters()), encoder.mlm.config.vocab_size
    counts = np.bincount(encoded.ids[encoded.words >= 0], minlength=vocabulary) + 1
    with torch.no_grad():
        for name in head.keys() & encoder.unlearned:
            bias = head[name].shape == (vocabulary,)
            head[name].copy_(torch.from_numpy(np.log(counts / counts.sum())) if bias else first[name])


def _loss(encoder: Encoder, batch: Batch, rate: float, rng: torch.Generator) -> Tensor:
    """Mean loss of a batch's hidden tokens, with gradients for the head alone."""
    chosen = RandomTokens(rate).choose(batch, rng)
    if not chosen.any():  # short texts: rather one gap too many than none
        chosen = batch.maskable
    gaps = corrupt(batch.ids, chosen, encoder.tokenizer.mask_token_id, len(encoder.tokenizer), rng)
    work = Work(batch, gaps).to(encoder.device)
    assert work.gaps is not None
    with encoder.autocast():
        with torch.no_grad():
            hidden = encoder.hidden(work.batch, work.gaps.ids)
        logits = encoder.fill(hidden, work.gaps.positions)
    return F.cross_entropy(logits.float(), work.gaps.targets)


def _rate(update: int, updates: int) -> float:
    """Share of the peak rate."""
    return min((update + 1) / max(1.0, _SHARE * updates), (updates - update) / ((1 - _SHARE) * updates), 1.0)
