"""How an encoder learns: streams of batches, one loop, checkpoints, and the judging of the result.

What is read, hidden and learned beside is decided in other rooms; this one only does what a stage says.
"""

from collections.abc import Callable, Sequence
from typing import Any

from trivium.core import Selection, Stage, Task
from trivium.encoders.encoder import Encoder, Pretrained, Scratch, torch_device
from trivium.errors import ConfigError
from trivium.kinds import Encoded
from trivium.masking import Fits, Masker, RandomTokens
from trivium.training import recipes
from trivium.training.evaluation import evaluate
from trivium.training.loop import Trace, run_stage
from trivium.training.models import (
    StudyModels,
    background_of,
    compares,
    encode_documents,
    make_ready,
    make_tokenizer,
    new_encoder,
    seed_of,
    what_is_known,
)
from trivium.training.parallel import world
from trivium.training.recipes import Recipe
from trivium.training.warmup import WarmHead, Warmup, masks, warm_up

__all__ = [
    "Encoder",
    "Pretrained",
    "Recipe",
    "Scratch",
    "StudyModels",
    "Trace",
    "WarmHead",
    "Warmup",
    "background_of",
    "compares",
    "encode_documents",
    "evaluate",
    "make_ready",
    "make_tokenizer",
    "masks",
    "new_encoder",
    "recipes",
    "run_stage",
    "seed_of",
    "torch_device",
    "train",
    "warm_up",
    "what_is_known",
]


def train(
    task: Task,
    recipe: Recipe,
    *,
    encoder: Scratch | Pretrained | str | None = None,
    documents: Selection | None = None,
    auxiliary: Sequence[Task] = (),
    masker: Masker | Fits | None = None,
    background: Sequence[str] | None = None,
    seed: int = 0,
    watch: Callable[[str, int, int], None] | None = None,
) -> Encoder:
    """Train an encoder for a task.

    A pretrained encoder that came without a head for gaps gets one before a recipe that hides tokens: warmed up on the
    documents and the task's training texts once, and kept (``warm_up``). A masker that learns first does so next, from
    the task's training rows and the documents (``masking.Known``).

    Args:
        task: The task; its test split is not looked at, but to keep it out of ``background``.
        recipe: The stages, for example ``recipes.tlm()``.
        encoder: From scratch: a size such as ``"mini"``, or a ``Scratch``. Pretrained: a folder or a hub name. None
            takes the one that the recipe was made for.
        documents: What to read: a selection that remembers its corpus.
        auxiliary: Tasks to learn beside it, of any kind; only their training rows are looked at.
        masker: Where to hide tokens, in place of the recipe's.
        background: General text for a masker that compares; none takes a random part of the corpus that the documents
            were chosen from, screened as they were by default, and so without the task's held-out texts.
        seed: Of everything random.
        watch: Told the stage (or ``warm-up``, or ``masker``), how many updates are done and how many there are.

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
    ready: Masker = RandomTokens()
    if masks(recipe.stages):
        told = [None if watch is None else _named(watch, name) for name in ("warm-up", "masker")]
        head = warm_up(model, [*sealed.texts("train"), *texts], watch=told[0])
        hides, corpus = masker or recipe.masker, None if documents is None else documents.corpus
        if background is None:
            background = background_of(corpus, task) if compares(hides) and corpus is not None else ()
        known = what_is_known(
            spec,
            tokenizer,
            sealed,
            texts if recipe.reads() else [],
            background=background,
            seed=seed_of(hides, seed),
            head=None if head is None else head.folder,
            max_length=longest,
        )
        ready = make_ready(hides, known, watch=told[1])
    for stage in recipe.stages:
        run_stage(
            model,
            stage,
            sealed,
            documents=_encoded(tokenizer, documents, texts, stage),
            auxiliary=auxiliary,
            masker=ready,
            seed=seed,
            watch=None if watch is None else _named(watch, stage.name),
        )
    return model


def _encoded(tokenizer: Any, documents: Selection | None, texts: list[str], stage: Stage) -> Encoded | None:
    if documents is None or "documents" not in stage.mix:
        return None
    return encode_documents(tokenizer, texts, stage.max_length, documents.ids)


def _named(watch: Callable[[str, int, int], None], stage: str) -> Callable[[int, int], None]:
    return lambda done, total: watch(stage, done, total)
