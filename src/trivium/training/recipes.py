"""Named stages, and what an arm is made of.

A preset gives every key of a stage a value that suits the encoder; any key can be changed. The rates for encoders from
scratch were chosen on dev splits (docs/design-notes.md); those for pretrained ones are the field's usual ones.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from trivium.config import build
from trivium.core import Stage
from trivium.encoders.encoder import SIZES, Pretrained, Scratch
from trivium.errors import ConfigError
from trivium.masking import Fits, Masker, RandomTokens

Spec = Scratch | Pretrained

# peak rate of masked language modelling from random weights: smaller encoders bear larger steps
_SCRATCH_RATE: Mapping[str, float] = {"tiny": 3e-3, "mini": 2e-3, "small": 1.2e-3, "base": 6e-4, "large": 3e-4}


@dataclass(frozen=True)
class Recipe:
    """How an encoder is trained: stages in order, and where tokens are hidden.

    Attributes:
        stages: In order.
        masker: Where to hide tokens, in the stages that do; one that learns from texts first is given some by
            ``train`` and by a study.
        encoder: What its rates suit; none where somebody wrote them all.
    """

    stages: tuple[Stage, ...]
    masker: Masker | Fits = field(default_factory=RandomTokens)
    encoder: Spec | None = None

    def reads(self) -> bool:
        """Whether any stage reads documents."""
        return any("documents" in stage.mix for stage in self.stages)


def _finetune(spec: Spec) -> dict[str, Any]:
    if isinstance(spec, Pretrained):
        own: dict[str, Any] = {"lr": 5e-5, "batch_rows": 32}
    else:
        own = {"lr": _SCRATCH_RATE[spec.scratch] / 3, "batch_rows": 16, "dropout": 0.3}
    return {"mix": {"task": 1}, "epochs": 20, "patience": 4, "reset_head": True, **own}


def _adapt(spec: Spec) -> dict[str, Any]:
    if isinstance(spec, Pretrained):
        own = {"lr": 1e-4, "batch_tokens": 4096}
    else:  # from random weights, many small updates bring more than few large ones
        own = {"lr": _SCRATCH_RATE[spec.scratch], "batch_tokens": 1024}
    return {"mix": {"documents": 1}, "updates": 2000, "batch_rows": 16, "keep_best": False, **own}


def _tapt(spec: Spec) -> dict[str, Any]:
    """The rates of ``adapt``. Gururangan et al. (2020) go through the texts 100 times, NMG 3 times."""
    own = _adapt(spec)
    own.pop("updates")
    return {**own, "mix": {"texts": 1}, "epochs": 20}


def _multitask(spec: Spec) -> dict[str, Any]:
    """MT-DNN's mixing: a pass over every task in an epoch, each batch of one task."""
    own = _finetune(spec)
    return {**own, "mix": {"task": 1, "auxiliary": 1}, "sampling": "proportional", "epochs": 7, "reset_head": False}


def _tlm_joint(spec: Spec) -> dict[str, Any]:
    return {**_adapt(spec), "mix": {"documents": 4, "task": 1}, "mlm_weight": 1.0}


def make_spec(options: Mapping[str, Any] | str, where: str = "encoder") -> Spec:
    """An encoder to be made, from its keys, or from a size or name alone.

    Raises:
        ConfigError: it names neither or both of ``scratch`` and ``pretrained``, or a key is wrong.
    """
    if isinstance(options, str):
        options = {"scratch" if options in SIZES else "pretrained": options}
    if ("scratch" in options) == ("pretrained" in options):
        raise ConfigError(
            f"{where}: expected one of 'scratch' (tiny, mini, small, base, large) and 'pretrained' (a folder or a hub "
            f"name), found {', '.join(options) or 'nothing'}."
        )
    return build(Scratch, options, where) if "scratch" in options else build(Pretrained, options, where)


PRESETS: Mapping[str, Callable[[Spec], dict[str, Any]]] = {
    "finetune": _finetune,
    "adapt": _adapt,
    "tapt": _tapt,
    "tlm-joint": _tlm_joint,
    "multitask": _multitask,
}


def make_stage(options: Mapping[str, Any], spec: Spec, where: str) -> Stage:
    """A stage from its keys: all of them, or a ``preset`` and the ones to change.

    Raises:
        ConfigError: no such preset, or a key is wrong.
    """
    given = dict(options)
    name = given.pop("preset", None)
    if name is None:
        return build(Stage, given, where)
    if not isinstance(name, str) or name not in PRESETS:
        raise ConfigError(f"{where}: unknown preset '{name}'; known are {', '.join(PRESETS)}.")
    keys = {"name": name, **PRESETS[name](spec)}
    for length, other in (("updates", "epochs"), ("epochs", "updates")):
        if length in given:
            keys.pop(other, None)
    return build(Stage, {**keys, **given}, where)


def spec_of(encoder: Spec | str | None) -> Spec:
    """What ``encoder=`` means: a size from scratch (``"mini"``), a folder or hub name, or one of the two specs.

    >>> spec_of("tiny").scratch, spec_of("bert-base-uncased").pretrained
    ('tiny', 'bert-base-uncased')
    """
    return make_spec(encoder) if isinstance(encoder, str) else encoder or Scratch()


def finetune(encoder: Spec | str | None = None, **changes: Any) -> Recipe:
    """Fine-tuning alone. Rates suit the encoder; any key of a stage can be changed."""
    spec = spec_of(encoder)
    return Recipe((make_stage({"preset": "finetune", **changes}, spec, "finetune"),), encoder=spec)


def adapt(encoder: Spec | str | None = None, **changes: Any) -> Recipe:
    """Masked language modelling on documents, then fine-tuning (DAPT, Gururangan et al. 2020).

    With ``mix={"documents": 3, "texts": 1}`` the task's own texts are among what is read.
    """
    spec = spec_of(encoder)
    return Recipe((make_stage({"preset": "adapt", **changes}, spec, "adapt"), *finetune(spec).stages), encoder=spec)


def tapt(encoder: Spec | str | None = None, **changes: Any) -> Recipe:
    """Masked language modelling on the task's own training texts, then fine-tuning (TAPT, Gururangan et al. 2020).

    >>> [stage.name for stage in tapt("small", epochs=5).stages]
    ['tapt', 'finetune']
    """
    spec = spec_of(encoder)
    return Recipe((make_stage({"preset": "tapt", **changes}, spec, "tapt"), *finetune(spec).stages), encoder=spec)


def multitask(encoder: Spec | str | None = None, **changes: Any) -> Recipe:
    """The task and others beside it through one encoder, a head each (MT-DNN, Liu et al. 2019), then fine-tuning.

    >>> multitask("small", sampling="temperature").stages[0].temperature
    2.0
    """
    spec = spec_of(encoder)
    joint = make_stage({"preset": "multitask", **changes}, spec, "multitask")
    return Recipe((joint, *finetune(spec).stages), encoder=spec)


def tlm(encoder: Spec | str | None = None, **changes: Any) -> Recipe:
    """TLM (Yao et al. 2022): documents and task together, then fine-tuning with a fresh head.

    >>> [stage.name for stage in tlm("small", updates=100).stages]
    ['tlm-joint', 'finetune']
    """
    spec = spec_of(encoder)
    joint = make_stage({"preset": "tlm-joint", **changes}, spec, "tlm-joint")
    return Recipe((joint, *finetune(spec).stages), encoder=spec)
