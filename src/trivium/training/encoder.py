"""The encoder: one shared backbone, a head that fills gaps, and a head per task, each a plain transformers model.

Every head is a whole ``AutoModelFor…`` whose backbone was taken out and replaced by a stand-in that hands on hidden
states computed once. So a joint step runs the backbone once for all losses, the masked-language-model head sees masked
positions only, and saving puts the backbone back and calls ``save_pretrained``: what comes out is what anybody's
transformers loads.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import quote, unquote

import torch
import xxhash
from torch import Tensor, nn

from trivium.errors import ArtifactError, ConfigError
from trivium.kinds import Kind
from trivium.masking import Batch

Size = Literal["tiny", "mini", "small", "base", "large"]
Architecture = Literal["modernbert", "bert"]

# layers, width, attention heads: BERT-base and BERT-large (Devlin et al. 2019), below them in the same spirit
SIZES: dict[str, tuple[int, int, int]] = {
    "tiny": (2, 128, 2),
    "mini": (4, 256, 4),
    "small": (6, 384, 6),
    "base": (12, 768, 12),
    "large": (24, 1024, 16),
}


@dataclass(frozen=True)
class Scratch:
    """An encoder with random weights.

    Attributes:
        scratch: How large: tiny 2×128, mini 4×256, small 6×384, base 12×768, large 24×1024 (layers × width).
        architecture: ``modernbert`` (pre-norm; leaves the unigram plateau early at small budgets) or ``bert``
            (post-norm, as in the papers).
        vocabulary: Most entries of the WordPiece vocabulary that is trained on task and chosen documents.
        lower: Fold case before tokenising.
    """

    scratch: Size = "mini"
    architecture: Architecture = "modernbert"
    vocabulary: int = 8192
    lower: bool = True

    def __post_init__(self) -> None:
        """Refuse what no tokenizer could hold."""
        if self.vocabulary < 512:
            raise ConfigError(f"encoder.vocabulary: expected at least 512 entries, found {self.vocabulary}.")


@dataclass(frozen=True)
class Pretrained:
    """An encoder that somebody trained: anything ``AutoModelForMaskedLM`` loads.

    Attributes:
        pretrained: A folder, or a name on the Hugging Face hub.
        revision: Which version of a hub model.
    """

    pretrained: str
    revision: str | None = None


class HeadOnly(nn.Module):
    """Stands where a head model had its backbone, and hands on hidden states that are already there.

    It keeps the backbone's pooler, where the head has one: the pooler belongs to the head and not to the shared part.
    """

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.pooler: nn.Module | None = getattr(backbone, "pooler", None)
        self.hidden: Tensor | None = None

    def forward(self, *_args: Any, **_kwargs: Any) -> Any:
        """The hidden states, whatever is asked."""
        from transformers.modeling_outputs import BaseModelOutputWithPooling

        assert self.hidden is not None
        pooled = self.pooler(self.hidden) if self.pooler is not None else None
        return BaseModelOutputWithPooling(last_hidden_state=self.hidden, pooler_output=pooled)


class Encoder(nn.Module):
    """A backbone with its heads.

    Attributes:
        tokenizer: A fast transformers tokenizer.
        backbone: The shared part: tokens to hidden states.
        mlm: The masked-language-model head.
        heads: A head per task, by name.
    """

    def __init__(self, mlm: Any, tokenizer: Any) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.prefix: str = mlm.base_model_prefix
        self.backbone: Any = getattr(mlm, self.prefix)
        setattr(mlm, self.prefix, HeadOnly(nn.Identity()))
        self.mlm: Any = mlm
        self.heads = nn.ModuleDict()

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        device: torch.device = next(self.backbone.parameters()).device
        return device

    @property
    def wants_types(self) -> bool:
        """Whether the backbone asks which of two texts a token belongs to."""
        return getattr(self.backbone.config, "type_vocab_size", 0) > 1

    def add_head(self, task: str, kind: Kind, labels: Sequence[str]) -> None:
        """Give a task a fresh head, or replace the one it has.

        What the head has in common with the masked-language-model head (ModernBERT's dense layer) starts from there, as
        it does when transformers loads a masked language model for classification. A pooler starts afresh.

        Raises:
            ConfigError: the architecture keeps something in its backbone that its head needs.
        """
        head = kind.head(type(self.mlm.config).from_dict(self.mlm.config.to_dict()), labels).to(self.device)
        setattr(head, self.prefix, HeadOnly(getattr(head, self.prefix)))
        known, own = self.mlm.state_dict(), head.state_dict()
        shared = {name: value for name, value in known.items() if name in own and own[name].shape == value.shape}
        head.load_state_dict(shared, strict=False)
        self._demand_same(head)
        self.heads[_key(task)] = head

    def has_head(self, task: str) -> bool:
        """Whether there is a head for a task."""
        return _key(task) in self.heads

    def labels(self, task: str) -> tuple[str, ...]:
        """The label names of a task's head, in the order of its logits.

        Raises:
            ArtifactError: there is no such head.
        """
        if _key(task) not in self.heads:
            known = ", ".join(unquote(key.removeprefix("task-")) for key in self.heads) or "none"
            raise ArtifactError(f"the encoder has no head for task '{task}'; it has: {known}. Train it on the task.")
        head: Any = self.heads[_key(task)]
        names = head.config.id2label
        return tuple(names[i] for i in range(len(names)))

    @property
    def parameter_count(self) -> int:
        """Weights of backbone and gap-filling head, shared ones counted once."""
        parts = (self.backbone, self.mlm)
        unique = {id(weight): weight.numel() for part in parts for weight in part.parameters()}
        return sum(unique.values())

    @contextmanager
    def dropping(self, rate: float | None) -> Iterator[None]:
        """Train with another rate of dropout wherever the architecture has a dropout layer; none changes nothing."""
        layers = [m for m in self.modules() if isinstance(m, nn.Dropout)] if rate is not None else []
        own = [layer.p for layer in layers]
        for layer in layers:
            layer.p = rate or 0.0
        try:
            yield
        finally:
            for layer, p in zip(layers, own, strict=True):
                layer.p = p

    def hidden(self, batch: Batch, ids: Tensor | None = None) -> Tensor:
        """Hidden states ``[rows, length, width]``, of ``ids`` in place of the batch's own where given."""
        types = {} if batch.types is None else {"token_type_ids": batch.types}
        output = self.backbone(
            input_ids=batch.ids if ids is None else ids, attention_mask=batch.attention.long(), **types
        )
        states: Tensor = output.last_hidden_state
        return states

    def fill(self, hidden: Tensor, positions: Tensor) -> Tensor:
        """Vocabulary logits ``[positions, vocabulary]`` at some positions of ``hidden`` flattened to tokens."""
        chosen = hidden.flatten(0, 1).index_select(0, positions)
        return self._head(self.mlm, chosen[None], None)[0]

    def answer(self, task: str, hidden: Tensor, batch: Batch) -> Tensor:
        """The task head's logits for a batch with these hidden states."""
        return self._head(self.heads[_key(task)], hidden, batch)

    def _head(self, model: Any, hidden: Tensor, batch: Batch | None) -> Tensor:
        stand_in = getattr(model, self.prefix)
        stand_in.hidden = hidden
        try:
            inputs = {} if batch is None else {"input_ids": batch.ids, "attention_mask": batch.attention}
            logits: Tensor = model(**inputs).logits
        finally:
            stand_in.hidden = None
        return logits

    def save(self, folder: Path) -> None:
        """Write plain transformers folders: ``mlm/``, and ``tasks/<name>/`` for every head, each with its tokenizer."""
        heads = ((head, folder / "tasks" / key.removeprefix("task-")) for key, head in self.heads.items())
        for model, place in [(self.mlm, folder / "mlm"), *heads]:
            with self._whole(model), quietly():
                model.save_pretrained(place)
            self.tokenizer.save_pretrained(place)

    def _demand_same(self, model: Any) -> None:
        """Compare a model with its stand-in to the same model as a whole, on a few tokens.

        Raises:
            ConfigError: they differ.
        """
        ids = torch.arange(8, device=self.device)[None] % len(self.tokenizer)
        types = torch.zeros_like(ids) if self.wants_types else None
        batch = Batch(ids, torch.ones_like(ids, dtype=torch.bool), ids, types)
        training = (self.training, model.training)
        self.eval(), model.eval()
        try:
            with torch.no_grad():
                ours = self._head(model, self.hidden(batch), batch)
                with self._whole(model):
                    theirs = model(input_ids=ids, attention_mask=batch.attention.long()).logits
            same = ours.shape == theirs.shape and torch.allclose(ours, theirs, atol=1e-4, rtol=1e-3)
        except (AttributeError, TypeError, ValueError, RuntimeError, IndexError):
            same = False
        self.train(training[0]), model.train(training[1])
        if not same:
            raise ConfigError(
                f"encoder: heads of the architecture '{self.backbone.config.model_type}' need more of the backbone "
                "than its last hidden states, so they cannot share one here. Those of BERT, RoBERTa, DeBERTa, ELECTRA, "
                "DistilBERT, MPNet and ModernBERT can."
            )

    @contextmanager
    def _whole(self, model: Any) -> Iterator[None]:
        """Put the shared backbone, and the head's own pooler, where the stand-in is."""
        stand_in = getattr(model, self.prefix)
        own = getattr(self.backbone, "pooler", None)
        setattr(model, self.prefix, self.backbone)
        if stand_in.pooler is not None:
            self.backbone.pooler = stand_in.pooler
        try:
            yield
        finally:
            setattr(model, self.prefix, stand_in)
            if stand_in.pooler is not None:
                self.backbone.pooler = own

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what ``save`` wrote, heads and all."""
        from transformers import AutoModelForSequenceClassification

        encoder = cls(_load_mlm(str(folder / "mlm")), load_tokenizer(str(folder / "mlm")))
        for place in sorted((folder / "tasks").glob("*")):
            with quietly():
                head = AutoModelForSequenceClassification.from_pretrained(place, local_files_only=True)
            setattr(head, encoder.prefix, HeadOnly(getattr(head, encoder.prefix)))
            encoder.heads[f"task-{place.name}"] = head
        return encoder


def from_scratch(spec: Scratch, tokenizer: Any, max_length: int) -> Encoder:
    """A random encoder for a tokenizer. The caller sets the seed (``seeds.torch_scope``)."""
    from transformers import AutoModelForMaskedLM, BertConfig, ModernBertConfig

    layers, width, heads = SIZES[spec.scratch]
    shape: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "max_position_embeddings": max(512, max_length),
        "pad_token_id": tokenizer.pad_token_id,
    }
    if spec.architecture == "bert":
        config: Any = BertConfig(intermediate_size=4 * width, **shape)
    else:
        config = ModernBertConfig(
            intermediate_size=2 * width,
            initializer_range=(2 / (5 * width)) ** 0.5,  # SmallInit, Nguyen and Salazar 2019; 0.02 is for width 1000
            layer_types=["full_attention"] * layers,  # a window of 128 would hide nothing at these lengths
            classifier_pooling="mean",  # a [CLS] that was never trained for sentences says little
            cls_token_id=tokenizer.cls_token_id,
            sep_token_id=tokenizer.sep_token_id,
            bos_token_id=tokenizer.cls_token_id,
            eos_token_id=tokenizer.sep_token_id,
            **shape,
        )
    return Encoder(AutoModelForMaskedLM.from_config(config), tokenizer)  # type: ignore[no-untyped-call]


def from_pretrained(spec: Pretrained) -> Encoder:
    """An encoder and its tokenizer from a folder or the hub.

    Raises:
        ConfigError: it cannot be loaded, or it has no fast tokenizer with a mask token.
    """
    encoder = Encoder(_load_mlm(spec.pretrained, spec.revision), load_tokenizer(spec.pretrained, spec.revision))
    encoder._demand_same(encoder.mlm)
    return encoder


def origin(spec: Scratch | Pretrained) -> dict[str, Any]:
    """What the weights of a new encoder depend on beside the seed: its settings, and for a folder what is in it."""
    settings = asdict(spec)
    if isinstance(spec, Pretrained) and Path(spec.pretrained).is_dir():
        hasher = xxhash.xxh3_128()
        for file in sorted(f for f in Path(spec.pretrained).iterdir() if f.is_file()):
            hasher.update(file.name.encode())
            with file.open("rb") as opened:
                while block := opened.read(1 << 20):
                    hasher.update(block)
        settings["content"] = hasher.hexdigest()
    return settings


def head_folder(folder: Path, task: str) -> Path:
    """Where ``Encoder.save`` puts a task's model."""
    return folder / "tasks" / _key(task).removeprefix("task-")


def _key(task: str) -> str:
    """A task's name as torch and the file system can bear it; nothing changes for letters, digits, - and _."""
    return "task-" + quote(task, safe="").replace(".", "%2E")


def load_tokenizer(name: str, revision: str | None = None) -> Any:
    """A fast tokenizer from a folder or the hub.

    Raises:
        ConfigError: there is none, or it has no mask token.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(name, revision=revision, **_offline(name))
    except (OSError, ValueError) as error:
        raise ConfigError(_cannot_load(name, "a tokenizer", error)) from error
    if not tokenizer.is_fast or tokenizer.mask_token_id is None:
        raise ConfigError(f"encoder.pretrained: '{name}' has no fast tokenizer with a mask token; masking needs one.")
    return tokenizer


def _load_mlm(name: str, revision: str | None = None) -> Any:
    from transformers import AutoModelForMaskedLM

    try:
        with quietly() if Path(name).is_dir() else nullcontext():  # a download may take long: show its bar
            return AutoModelForMaskedLM.from_pretrained(name, revision=revision, dtype=torch.float32, **_offline(name))
    except (OSError, ValueError) as error:
        raise ConfigError(_cannot_load(name, "a masked language model", error)) from error


@contextmanager
def quietly() -> Iterator[None]:
    """Keep transformers from drawing a bar for every file it reads or writes."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def _offline(name: str) -> dict[str, bool]:
    """A folder is never looked up on the network."""
    return {"local_files_only": True} if Path(name).is_dir() else {}


def _cannot_load(name: str, what: str, error: Exception) -> str:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return (
        f"encoder.pretrained: expected {what} in the folder, or under the hub name, '{name}'; found: {reason} "
        "Give a folder that holds config.json, model.safetensors and tokenizer.json, or train from scratch: "
        "encoder: {scratch: mini}."
    )


def torch_device() -> str:
    """``cuda`` where there is one, else ``cpu``."""
    return "cuda" if torch.cuda.is_available() else "cpu"
