"""How an encoder learns: streams of batches, one loop, checkpoints, and the judging of the result.

What is read, hidden and learned beside is decided in other rooms; this one only does what a stage says.
"""

from collections.abc import Callable
from typing import Any

from trivium import seeds
from trivium.core import Selection, Stage, Task
from trivium.errors import ConfigError
from trivium.kinds import Encoded
from trivium.kinds.text import tokenize
from trivium.masking import Masker
from trivium.training import recipes
from trivium.training.encoder import (
    Encoder,
    Pretrained,
    Scratch,
    from_pretrained,
    from_scratch,
    load_tokenizer,
    torch_device,
)
from trivium.training.evaluation import evaluate
from trivium.training.loop import Trace, run_stage
from trivium.training.recipes import Recipe
from trivium.training.tokenizer import train_tokenizer

__all__ = [
    "Encoder",
    "Pretrained",
    "Recipe",
    "Scratch",
    "Trace",
    "encode_documents",
    "evaluate",
    "make_tokenizer",
    "new_encoder",
    "recipes",
    "run_stage",
    "torch_device",
    "train",
]


def make_tokenizer(spec: Scratch | Pretrained, task: Task, documents: list[str]) -> Any:
    """The tokenizer of an encoder: its own, or one trained on the task's training texts and the documents."""
    if isinstance(spec, Pretrained):
        return load_tokenizer(spec.pretrained, spec.revision)
    return train_tokenizer([*task.texts("train"), *documents], spec.vocabulary, lower=spec.lower)


def new_encoder(spec: Scratch | Pretrained, tokenizer: Any, max_length: int, seed: int) -> Encoder:
    """An encoder to start from; from scratch, its weights are a function of the seed."""
    with seeds.torch_scope(seed, "encoder"):
        if isinstance(spec, Scratch):
            return from_scratch(spec, tokenizer, max_length)
        return from_pretrained(spec)


def encode_documents(tokenizer: Any, texts: list[str], max_length: int) -> Encoded:
    """Tokenise documents into windows of at most ``max_length`` tokens, losing nothing."""
    return tokenize(tokenizer, texts, max_length, windows=True)


def train(
    task: Task,
    recipe: Recipe,
    *,
    encoder: Scratch | Pretrained | str | None = None,
    documents: Selection | None = None,
    masker: Masker | None = None,
    seed: int = 0,
    watch: Callable[[str, int, int], None] | None = None,
) -> Encoder:
    """Train an encoder for a task.

    Args:
        task: The task; its test split is not looked at.
        recipe: The stages, for example ``recipes.tlm()``.
        encoder: From scratch: a size such as ``"mini"``, or a ``Scratch``. Pretrained: a folder or a hub name. None
            takes the one that the recipe was made for.
        documents: What to read: a selection that remembers its corpus.
        masker: Where to hide tokens, in place of the recipe's.
        seed: Of everything random.
        watch: Told the stage, how many updates are done and how many there are.

    Returns:
        The encoder; ``encoder.save(folder)`` writes plain transformers folders.

    Raises:
        ConfigError: a stage reads documents and there are none.
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
    tokenizer = make_tokenizer(spec, sealed, texts)
    longest = max(stage.max_length for stage in recipe.stages)
    model = new_encoder(spec, tokenizer, longest, seed)
    if torch_device() == "cuda":
        model = model.cuda()
    for stage in recipe.stages:
        run_stage(
            model,
            stage,
            sealed,
            documents=_encoded(tokenizer, texts, stage),
            masker=masker or recipe.masker,
            seed=seed,
            watch=None if watch is None else _named(watch, stage.name),
        )
    return model


def _encoded(tokenizer: Any, texts: list[str], stage: Stage) -> Encoded | None:
    return encode_documents(tokenizer, texts, stage.max_length) if "documents" in stage.mix else None


def _named(watch: Callable[[str, int, int], None], stage: str) -> Callable[[int, int], None]:
    return lambda done, total: watch(stage, done, total)
