"""How an encoder learns: streams of batches, one loop, checkpoints, and the judging of the result.

What is read, hidden and learned beside is decided in other rooms; this one only does what a stage says.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from trivium import seeds
from trivium.core import Selection, Stage, Task
from trivium.encoders.encoder import (
    Encoder,
    Pretrained,
    Scratch,
    from_pretrained,
    from_scratch,
    load_tokenizer,
    torch_device,
)
from trivium.encoders.tokenizer import train_tokenizer
from trivium.errors import ConfigError
from trivium.kinds import Encoded
from trivium.kinds.text import tokenize
from trivium.masking import Masker
from trivium.training import recipes
from trivium.training.evaluation import evaluate
from trivium.training.loop import Trace, run_stage
from trivium.training.parallel import world
from trivium.training.recipes import Recipe
from trivium.training.warmup import WarmHead, Warmup, masks, put_head, warm_up

__all__ = [
    "Encoder",
    "Pretrained",
    "Recipe",
    "Scratch",
    "Trace",
    "WarmHead",
    "Warmup",
    "encode_documents",
    "evaluate",
    "make_tokenizer",
    "masks",
    "new_encoder",
    "recipes",
    "run_stage",
    "torch_device",
    "train",
    "warm_up",
]


def make_tokenizer(spec: Scratch | Pretrained, task: Task, documents: list[str], auxiliary: Sequence[Task] = ()) -> Any:
    """The tokenizer of an encoder: its own, or one trained on the tasks' training texts and the documents."""
    if isinstance(spec, Pretrained):
        return load_tokenizer(spec.pretrained, spec.revision)
    texts = [text for one in (task, *auxiliary) for text in one.texts("train")]
    return train_tokenizer([*texts, *documents], spec.vocabulary, lower=spec.lower)


def new_encoder(
    spec: Scratch | Pretrained, tokenizer: Any, max_length: int, seed: int, head: Path | None = None
) -> Encoder:
    """An encoder to start from; from scratch, its weights are a function of the seed.

    ``head`` is the folder of a gap-filling head that ``warm_up`` keeps, for a pretrained encoder that has none.
    """
    with seeds.torch_scope(seed, "encoder"):
        if isinstance(spec, Scratch):
            return from_scratch(spec, tokenizer, max_length)
        encoder = from_pretrained(spec)
    if head is not None:
        put_head(encoder, head)
    return encoder


def encode_documents(tokenizer: Any, texts: list[str], max_length: int) -> Encoded:
    """Tokenise documents into windows of at most ``max_length`` tokens, losing nothing."""
    return tokenize(tokenizer, texts, max_length, windows=True)


def train(
    task: Task,
    recipe: Recipe,
    *,
    encoder: Scratch | Pretrained | str | None = None,
    documents: Selection | None = None,
    auxiliary: Sequence[Task] = (),
    masker: Masker | None = None,
    seed: int = 0,
    watch: Callable[[str, int, int], None] | None = None,
) -> Encoder:
    """Train an encoder for a task.

    A pretrained encoder that came without a head for gaps gets one before a recipe that hides tokens: warmed up on the
    documents and the task's training texts once, and kept (``warm_up``).

    Args:
        task: The task; its test split is not looked at.
        recipe: The stages, for example ``recipes.tlm()``.
        encoder: From scratch: a size such as ``"mini"``, or a ``Scratch``. Pretrained: a folder or a hub name. None
            takes the one that the recipe was made for.
        documents: What to read: a selection that remembers its corpus.
        auxiliary: Tasks to learn beside it, of any kind; only their training rows are looked at.
        masker: Where to hide tokens, in place of the recipe's.
        seed: Of everything random.
        watch: Told the stage (or ``warm-up``), how many updates are done and how many there are.

    Returns:
        The encoder; ``encoder.save(folder)`` writes plain transformers folders. Started by ``torchrun``, several
        processes train one encoder together, each on its part of every batch, and all return it.

    Raises:
        ConfigError: a stage reads documents or learns auxiliary tasks, and there are none.
        TrainingError: the loss is no number any more.
    """
    spec = recipes.spec_of(encoder) if encoder is not None else recipe.encoder or Scratch()
    if recipe.encoder is not None and type(spec) is not type(recipe.encoder):
        raise ConfigError(
            f"encoder: the recipe's rates suit {recipe.encoder}, and the encoder is {spec}. Make the recipe for it, "
            "for example recipes.tlm(encoder)."
        )
    if recipe.reads() and documents is None:
        raise ConfigError("the recipe has a stage that reads documents: give documents=select_documents(…).")
    sealed = task.sealed()
    texts = documents.texts() if documents is not None else []
    tokenizer = make_tokenizer(spec, sealed, texts, auxiliary)
    longest = max(stage.max_length for stage in recipe.stages)
    model = new_encoder(spec, tokenizer, longest, seed)
    world()  # of several processes, each has a GPU of its own from here on
    if torch_device() == "cuda":
        model = model.cuda()
    if masks(recipe.stages):
        warm_up(model, [*sealed.texts("train"), *texts], watch=None if watch is None else _named(watch, "warm-up"))
    for stage in recipe.stages:
        run_stage(
            model,
            stage,
            sealed,
            documents=_encoded(tokenizer, texts, stage),
            auxiliary=auxiliary,
            masker=masker or recipe.masker,
            seed=seed,
            watch=None if watch is None else _named(watch, stage.name),
        )
    return model


def _encoded(tokenizer: Any, texts: list[str], stage: Stage) -> Encoded | None:
    return encode_documents(tokenizer, texts, stage.max_length) if "documents" in stage.mix else None


def _named(watch: Callable[[str, int, int], None], stage: str) -> Callable[[int, int], None]:
    return lambda done, total: watch(stage, done, total)
