"""The encoder: one shared backbone, a head that fills gaps, and a head per task, each a plain transformers model.

Every head is a whole ``AutoModelFor…`` whose backbone was taken out and replaced by a stand-in that hands on hidden
states computed once. So a joint step runs the backbone once for all losses, the masked-language-model head sees masked
positions only, and saving puts the backbone back and calls ``save_pretrained``: what comes out is what anybody's
transformers loads.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import quote, unquote

import torch
from torch import Tensor, nn

from trivium.core import Task
from trivium.encoders.frozen import Below
from trivium.encoders.packing import Packing
from trivium.encoders.precision import precision
from trivium.encoders.shared import share
from trivium.errors import ArtifactError, ConfigError
from trivium.kinds import Batch, Cut, Kind, kind_of
from trivium.pretrained import UNREADABLE, content, locate, quietly, reason, safely
from trivium.store import demand_unchanged

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


PACKED_ON = ("cuda",)  # devices on which texts are read end to end, without padding
_POOLING = ("pooler", "pooler_activation")  # the parts of a backbone that belong to a head
_FLOAT32_ONLY = frozenset({"deberta"})  # its first version masks scores by a number that bfloat16 does not have


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
        if not 512 <= self.vocabulary <= 1 << 20:
            raise ConfigError(
                f"encoder.vocabulary: expected at least 512 and at most 1,048,576 entries, found {self.vocabulary}."
            )


@dataclass(frozen=True)
class Pretrained:
    """An encoder that somebody trained: anything ``AutoModelForMaskedLM`` loads, with or without a head for gaps.

    Attributes:
        pretrained: A folder, a name on the Hugging Face hub, or ``minilm``, which ships inside a package.
        revision: Which version of a hub model.
    """

    pretrained: str
    revision: str | None = None

    def __post_init__(self) -> None:
        if not self.pretrained.strip():
            raise ConfigError("encoder.pretrained: expected a folder or a hub name, found nothing.")


class HeadOnly(nn.Module):
    """Stands where a head model had its backbone, and hands on hidden states that are already there.

    It keeps the backbone's pooler, where the head has one: the pooler belongs to the head and not to the shared part.
    """

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.pooler: nn.Module | None = getattr(backbone, "pooler", None)
        self.pooler_activation: nn.Module | None = getattr(backbone, "pooler_activation", None)
        self.hidden: Tensor | None = None

    def forward(self, *_args: Any, **_kwargs: Any) -> Any:
        """The hidden states, whatever is asked."""
        from transformers.modeling_outputs import BaseModelOutputWithPooling

        assert self.hidden is not None
        pooled = None
        if self.pooler is not None:  # ALBERT's is a plain layer, others' look for the first token themselves
            squash = self.pooler_activation
            pooled = self.pooler(self.hidden) if squash is None else squash(self.pooler(self.hidden[:, 0]))
        return BaseModelOutputWithPooling(last_hidden_state=self.hidden, pooler_output=pooled)


class Encoder(nn.Module):
    """A backbone with its heads.

    Attributes:
        tokenizer: A fast transformers tokenizer.
        backbone: The shared part: tokens to hidden states.
        mlm: The masked-language-model head.
        heads: A head per task, by name.
        unlearned: Names of weights of ``mlm`` that the pretrained encoder came without: random until ``warm_up``.
    """

    unlearned: frozenset[str] = frozenset()

    def __init__(self, mlm: Any, tokenizer: Any) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.prefix: str = mlm.base_model_prefix
        self.backbone: Any = getattr(mlm, self.prefix)
        stand_in = HeadOnly(nn.Identity())
        if hasattr(self.backbone, "embeddings"):  # DeBERTa's newer head looks there; kept out of the stand-in's weights
            stand_in.__dict__["embeddings"] = self.backbone.embeddings
        setattr(mlm, self.prefix, stand_in)
        self.mlm: Any = mlm
        self.heads = nn.ModuleDict()
        self._dropped: float | None = None
        self._below: Below | None = None
        self._packings: dict[tuple[bool, float | None], Packing | None] = {}

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        device: torch.device = next(self.backbone.parameters()).device
        return device

    @property
    def wants_types(self) -> bool:
        """Whether the backbone asks which of two texts a token belongs to."""
        return getattr(self.backbone.config, "type_vocab_size", 0) > 1

    def add_head(self, task: Task) -> None:
        """Give a task a fresh head, or replace the one it has.

        What the head has in common with the masked-language-model head (ModernBERT's dense layer) starts from there, as
        it does when transformers loads a masked language model for classification. A pooler starts afresh.

        Raises:
            ConfigError: the architecture has no such head, or keeps something in its backbone that the head needs.
        """
        kind = kind_of(task)
        about = {name: value for name, value in self.mlm.config.to_dict().items() if name != "trivium_unlearned"}
        config = type(self.mlm.config).from_dict(about)
        kind.configure(config, task.labels)
        head = _fresh_head(kind, config, self.prefix).to(self.device)
        known, own = self.mlm.state_dict(), head.state_dict()
        shared = {name: value for name, value in known.items() if name in own and own[name].shape == value.shape}
        head.load_state_dict(shared, strict=False)
        kind.start(head, task.rows("train"))
        self._demand_same(head)
        self.heads[_key(task.name)] = head

    def has_head(self, task: str) -> bool:
        """Whether there is a head for a task."""
        return _key(task) in self.heads

    def labels(self, task: str) -> tuple[str, ...]:
        """The label names of a task's head, in the order of its logits.

        Raises:
            ArtifactError: there is no such head.
        """
        names = self.head_config(task).id2label
        return tuple(names[i] for i in range(len(names)))

    def head_config(self, task: str) -> Any:
        """The config of a task's head.

        Raises:
            ArtifactError: there is no such head.
        """
        if _key(task) not in self.heads:
            known = ", ".join(unquote(key.removeprefix("task-")) for key in self.heads) or "none"
            raise ArtifactError(f"the encoder has no head for task '{task}'; it has: {known}. Train it on the task.")
        return self.heads[_key(task)].config

    def keep_cut(self, task: Task, cut: Cut) -> None:
        """Remember with a head how its inputs were cut: who predicts cuts as training did."""
        self.tokenizer.model_max_length = cut.max_length  # saved with it, for whoever is not us
        self.head_config(task.name).trivium = {"kind": task.kind, **asdict(cut)}

    def cut_of(self, task: str) -> Cut:
        """How the inputs of a task's head were cut in training."""
        return read_cut(self.head_config(task), self.tokenizer)[1]

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
        self._dropped = rate
        try:
            yield
        finally:
            self._dropped = None
            for layer, p in zip(layers, own, strict=True):
                layer.p = p

    def autocast(self) -> AbstractContextManager[Any]:
        """Compute as exactly as training on this device does, inside the ``with`` block."""
        if precision(self.device) == "float32" or self.backbone.config.model_type in _FLOAT32_ONLY:
            return nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16)

    @contextmanager
    def compiled(self, wanted: bool) -> Iterator[None]:
        """Let the backbone be compiled for a while; for shapes of any size, since batches differ in theirs."""
        if wanted:
            self.backbone.compile(dynamic=True)
        try:
            yield
        finally:
            self.backbone._compiled_call_impl = None  # torch knows no way back

    def remember(self, layers: int) -> None:
        """Compute what the lowest layers say of a text once, from now on; for whoever leaves their weights alone.

        They are run without dropout. An architecture that cannot be cut there goes on computing it every time; so does
        every one with 0 layers.
        """
        self._below = Below.of(self.backbone, layers)

    def hidden(self, batch: Batch, ids: Tensor | None = None) -> Tensor:
        """Hidden states ``[rows, length, width]``, of ``ids`` in place of the batch's own where given."""
        if self._below is not None:
            return self._below.hidden(batch, ids)
        if self.device.type in PACKED_ON:
            packed = self._packed(batch, batch.ids if ids is None else ids)
            if packed is not None:
                return packed
        given = inputs_of(batch)
        states: Tensor = self.backbone(**(given if ids is None else {**given, "input_ids": ids})).last_hidden_state
        return states

    def _packed(self, batch: Batch, ids: Tensor) -> Tensor | None:
        """Hidden states without the cost of padding; none where this backbone, as it is just now, cannot be packed."""
        now = self.training, self._dropped
        if now not in self._packings:
            self._packings[now] = Packing.of(self.backbone)
        packing = self._packings[now]
        return None if packing is None else packing.hidden(batch, ids)

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
            return logits_of(model, {} if batch is None else inputs_of(batch))
        finally:
            stand_in.hidden = None

    def save(self, folder: Path) -> None:
        """Write plain transformers folders: ``mlm/``, and ``tasks/<name>/`` for every head, each with its tokenizer.

        The backbone's weights lie in all of them and take room once (``encoders.shared``).
        """
        self.mlm.config.trivium_unlearned = sorted(self.unlearned)  # or a random head would pass for a learned one
        heads = ((head, folder / "tasks" / key.removeprefix("task-")) for key, head in self.heads.items())
        models = {folder / "mlm": self.mlm, **{place: head for head, place in heads}}
        for place, model in models.items():
            with self._whole(model), quietly():
                model.save_pretrained(place)
            self.tokenizer.save_pretrained(place)
        share(list(models))

    def _demand_same(self, model: Any) -> None:
        """Compare a model with its stand-in to the same model as a whole, on a few tokens.

        Raises:
            ConfigError: they differ.
        """
        ids = 8 + torch.arange(8, device=self.device)[None] % max(1, len(self.tokenizer) - 8)  # none that is special
        types = torch.zeros_like(ids) if self.wants_types else None
        batch = Batch(ids, torch.ones_like(ids, dtype=torch.bool), ids, types)
        training = (self.training, model.training)
        self.eval(), model.eval()
        try:
            with torch.no_grad():
                ours = self._head(model, self.backbone(**inputs_of(batch)).last_hidden_state, batch)
                with self._whole(model):
                    theirs = logits_of(model, inputs_of(batch))
            same = ours.shape == theirs.shape and torch.allclose(ours, theirs, atol=1e-4, rtol=1e-3)
        except (AttributeError, TypeError, ValueError, RuntimeError, IndexError):
            same = False
        self.train(training[0]), model.train(training[1])
        if not same:
            raise ConfigError(
                f"encoder: heads of the architecture '{self.backbone.config.model_type}' need more of the backbone "
                "than its last hidden states, so they cannot share one here. Those of BERT, RoBERTa, DeBERTa, ELECTRA, "
                "DistilBERT, ALBERT, MPNet and ModernBERT can."
            )

    @contextmanager
    def _whole(self, model: Any) -> Iterator[None]:
        """Put the shared backbone, and the head's own pooler, where the stand-in is."""
        stand_in = getattr(model, self.prefix)
        own = {name: getattr(self.backbone, name, None) for name in _POOLING}
        setattr(model, self.prefix, self.backbone)
        if stand_in.pooler is not None:
            self._set_pooling({name: getattr(stand_in, name) for name in _POOLING})
        try:
            yield
        finally:
            setattr(model, self.prefix, stand_in)
            if stand_in.pooler is not None:
                self._set_pooling(own)

    def _set_pooling(self, layers: dict[str, Any]) -> None:
        for name, layer in layers.items():
            if hasattr(self.backbone, name):
                setattr(self.backbone, name, layer)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what ``save`` wrote, heads and all."""
        mlm, missing = _load_mlm(str(folder / "mlm"))
        encoder = cls(mlm, load_tokenizer(str(folder / "mlm")))
        encoder.unlearned = missing
        for place in sorted((folder / "tasks").glob("*")):
            head = load_head(place)
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
    """An encoder and its tokenizer from a folder, the hub or a package.

    Raises:
        ConfigError: it cannot be loaded, lacks a part of its backbone, or has no fast tokenizer with a mask token.
        ArtifactError: the folder is a study's, and not as the study wrote it.
    """
    demand_unchanged(Path(spec.pretrained))
    mlm, missing = _load_mlm(spec.pretrained, spec.revision)
    _demand_backbone(spec.pretrained, mlm, missing)
    encoder = Encoder(mlm, load_tokenizer(spec.pretrained, spec.revision))
    encoder._demand_same(encoder.mlm)
    encoder.unlearned = missing
    return encoder


def origin(spec: Scratch | Pretrained) -> dict[str, Any]:
    """What the weights of a new encoder depend on beside the seed: its settings, and for a folder what is in it."""
    settings = asdict(spec)
    if isinstance(spec, Pretrained) and (folder := Path(locate(spec.pretrained))).is_dir():
        settings["content"] = content(folder)
    return settings


def inputs_of(batch: Batch) -> dict[str, Tensor]:
    """A batch in the words of transformers."""
    types = {} if batch.types is None else {"token_type_ids": batch.types}
    return {"input_ids": batch.ids, "attention_mask": batch.attention.long(), **types}


def logits_of(model: Any, inputs: dict[str, Tensor]) -> Tensor:
    """The logits of a transformers model, whatever its head.

    A multiple choice is asked about one choice at a time, ``[texts, 1]``, since rows may differ in how many they have.
    Where an answer begins and where it ends are the last dimension, ``[texts, length, 2]``.
    """
    if type(model).__name__.endswith("ForMultipleChoice"):
        inputs = {name: value[:, None] for name, value in inputs.items()}
    output = model(**inputs)
    if hasattr(output, "start_logits"):
        return torch.stack([output.start_logits, output.end_logits], -1)
    logits: Tensor = output.logits
    return logits


def load_head(folder: Path | str) -> Any:
    """A model with the head that its config names, from a folder.

    Raises:
        ArtifactError: there is none.
    """
    import transformers

    try:
        config = transformers.AutoConfig.from_pretrained(  # nosec B615  # a folder
            folder, trust_remote_code=False, local_files_only=True
        )
        name = (config.architectures or ["none"])[0]
        model = getattr(transformers, name, None)
        if not (isinstance(model, type) and issubclass(model, transformers.PreTrainedModel)):
            raise ArtifactError(f"{folder}/config.json: expected a model class of transformers, found '{name}'.")
        with quietly():
            return model.from_pretrained(folder, local_files_only=True)
    except UNREADABLE as error:
        raise ArtifactError(f"{folder}: expected a model with a head, found: {reason(error)}") from None


def read_cut(config: Any, tokenizer: Any) -> tuple[str | None, Cut]:
    """The kind of task that a model's head was trained for, and how its inputs were cut; as far as its config says."""
    kept = dict(getattr(config, "trivium", None) or {})
    kind = kept.pop("kind", None)
    positions = getattr(config, "max_position_embeddings", None) or 512
    usable = positions // 16 * 16  # RoBERTa has 514, and counts from 2
    return kind, Cut(**kept) if kept else Cut(min(tokenizer.model_max_length, usable))


def _fresh_head(kind: Kind, config: Any, prefix: str) -> Any:
    """A model of the first class that the architecture has among those that suit a kind, without its backbone.

    A backbone that is thrown away is not worth drawing the weights of, which takes seconds: only the head's are drawn,
    by the model's own rules.

    Raises:
        ConfigError: it has none of them.
    """
    import transformers

    for name in kind.heads:
        try:
            with torch.device("meta"):
                head: Any = getattr(transformers, name).from_config(config)
        except ValueError:  # there is no such class for this config
            continue
        setattr(head, prefix, HeadOnly(getattr(head, prefix)))
        head.to_empty(device="cpu")
        with torch.no_grad():
            for weight in (*head.parameters(), *head.buffers()):
                weight.zero_()
        head.initialize_weights()
        return head
    raise ConfigError(
        f"encoder: expected an architecture with {' or '.join(kind.heads)}, found '{config.model_type}' without."
    )


def head_folder(folder: Path, task: str) -> Path:
    """Where ``Encoder.save`` puts a task's model."""
    return folder / "tasks" / _key(task).removeprefix("task-")


def _key(task: str) -> str:
    """A task's name as torch and the file system can bear it; nothing changes for letters, digits, - and _."""
    return "task-" + quote(task, safe="").replace(".", "%2E")


def load_tokenizer(name: str, revision: str | None = None) -> Any:
    """A fast tokenizer from a folder, the hub or a package.

    Raises:
        ConfigError: there is none, or it has no mask token.
    """
    from transformers import AutoTokenizer

    place = locate(name)
    try:
        tokenizer = AutoTokenizer.from_pretrained(place, revision=revision, **safely(place))
    except (OSError, ValueError) as error:
        raise ConfigError(_cannot_load(name, "a tokenizer", error)) from error
    if not tokenizer.is_fast or tokenizer.mask_token_id is None:
        raise ConfigError(f"encoder.pretrained: '{name}' has no fast tokenizer with a mask token; masking needs one.")
    return tokenizer


def _load_mlm(name: str, revision: str | None = None) -> tuple[Any, frozenset[str]]:
    """A masked language model, and the names of its weights that were nowhere to be found; they are random."""
    from transformers import AutoModelForMaskedLM

    place = locate(name)
    folder = Path(place).is_dir()
    try:
        with quietly(warnings=False) if folder else nullcontext():  # a download may take long: show its bar
            model, found = AutoModelForMaskedLM.from_pretrained(
                place, revision=revision, dtype=torch.float32, output_loading_info=True, **safely(place)
            )
    except UNREADABLE as error:
        raise ConfigError(_cannot_load(name, "a masked language model", error)) from error
    return model, frozenset(found["missing_keys"]) | frozenset(getattr(model.config, "trivium_unlearned", ()))


def _demand_backbone(name: str, model: Any, missing: frozenset[str]) -> None:
    """Refuse a checkpoint of something else, which transformers would load as a backbone that is partly random.

    Raises:
        ConfigError: weights of the backbone are missing.
    """
    lost = sorted(key for key in missing if key.startswith(f"{model.base_model_prefix}.") and ".pooler." not in key)
    if lost:
        raise ConfigError(
            f"encoder.pretrained: expected in '{name}' every weight of a {model.config.model_type} backbone, found "
            f"{len(lost)} missing, such as {lost[0]}. Is config.json that of the weights beside it?"
        )


def _cannot_load(name: str, what: str, error: Exception) -> str:
    never = "Code that comes with a model is never run. " if "custom code" in str(error) else ""
    return (
        f"encoder.pretrained: expected {what} in the folder, or under the hub name, '{name}'; found: {reason(error)} "
        f"{never}Give a folder that holds config.json, model.safetensors and tokenizer.json, or train from scratch: "
        "encoder: {scratch: mini}."
    )


def torch_device() -> str:
    """``cuda`` where there is one, else ``cpu``."""
    return "cuda" if torch.cuda.is_available() else "cpu"
