"""Ways to train the same masked language model on the same texts, each in a process of its own.

They take turns: a way makes as many updates as it is told, says how long they took and waits. So a busy machine slows
all alike, and the memory of each is its own. ``training.py`` and ``gpu.py`` compare them.
"""

import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple, Protocol

import numpy as np
import pyarrow as pa
import torch
import torch.nn.functional as F

from trivium import seeds
from trivium.core import Stage, Task
from trivium.encoders.encoder import from_pretrained
from trivium.encoders.streams import plan
from trivium.kinds import Batch, Encoded
from trivium.masking import Corrupted, RandomTokens
from trivium.training import Encoder, Pretrained
from trivium.training.loop import StageRun
from trivium.training.optimizer import rate_at

MASKED = 0.15
ADAM: dict[str, Any] = {"betas": (0.9, 0.98), "eps": 1e-6}  # as training.optimizer has it
_IMPORTS = ["__main__", "torch", "transformers.trainer", "transformers.models.bert.modeling_bert"]


@dataclass(frozen=True)
class Work:
    """What every way is given.

    Attributes:
        model: Folder of the model to start from and its tokenizer.
        texts: What to read, tokenised.
        longest: Most tokens in a text: what the padding way pads to.
        tokens: Tokens to learn from in an update, padding not counted, as nearly as a way can.
        updates: How many updates the learning rate's schedule has.
        lr: Peak learning rate.
        device: ``cpu`` or ``cuda``.
        threads: Of torch.
        seed: Of order, masks and dropout.
    """

    model: str
    texts: Encoded
    longest: int
    tokens: int
    updates: int
    lr: float
    device: str
    threads: int
    seed: int = 0

    @property
    def rows(self) -> int:
        """Texts in a batch that has a fixed number of them."""
        return max(1, round(self.tokens / float(self.texts.lengths.mean())))

    @property
    def stage(self) -> Stage:
        """The stage that ours runs; its schedule and rates are everybody's."""
        budget = batch_tokens(self.texts, self.tokens, self.seed)
        return Stage(
            "bench",
            {"documents": 1},
            updates=self.updates,
            lr=self.lr,
            batch_tokens=budget,
            max_length=self.longest,
        )


def batch_tokens(texts: Encoded, tokens: int, seed: int) -> int:
    """The budget, padding included, whose batches have ``tokens`` tokens without it, on average."""

    def found(budget: int) -> float:
        return float(texts.lengths.sum()) / len(plan(texts, seeds.numpy_rng(seed, "budget"), None, budget))

    low, high = tokens // 2, 4 * tokens
    while high - low > 16:
        middle = (low + high) // 2
        low, high = (middle, high) if found(middle) < tokens else (low, middle)
    return min(low, high, key=lambda budget: abs(found(budget) - tokens))


class Turn(NamedTuple):
    """What some updates took.

    Attributes:
        seconds: Time, from the first batch's making to the last update's end.
        processor: The same of processor time, of all threads.
        tokens: Tokens learned from.
        padded: The same with padding.
    """

    seconds: float
    processor: float
    tokens: int
    padded: int


class End(NamedTuple):
    """How a way ended.

    Attributes:
        updates: Updates it made.
        loss: Its model's loss on held-out texts, in nats for a masked token.
        memory: Most memory it held beyond what it began with, in MB; of the GPU, if it is on one.
    """

    updates: int
    loss: float
    memory: float


class Failed(NamedTuple):
    """Why a way could not go on."""

    reason: str


class Held(NamedTuple):
    """Held-out texts, with the gaps that every way's model is asked to fill at the end."""

    batch: Batch
    gaps: Corrupted


class Baton:
    """In a way's process: says when to go on, and how long it took."""

    def __init__(self, pipe: Any, device: str) -> None:
        self.pipe, self.device = pipe, device
        self.left = self.updates = 0
        self.counted: list[tuple[Any, int]] = []

    def begin(self) -> bool:
        """Wait for a turn; false where no more are wanted."""
        self.left, self.counted = self.pipe.recv(), []
        self.begun, self.used = time.perf_counter(), time.process_time()
        return self.left > 0

    def done(self, tokens: Any, padded: int) -> bool:
        """An update is done, over so many tokens (a tensor will do); false where no more are wanted."""
        self.updates += 1
        self.left -= 1
        self.counted.append((tokens, padded))
        if self.left > 0:
            return True
        if self.device == "cuda":
            torch.cuda.synchronize()
        seconds, processor = time.perf_counter() - self.begun, time.process_time() - self.used
        self.pipe.send(Turn(seconds, processor, *(sum(map(int, column)) for column in zip(*self.counted, strict=True))))
        return self.begin()


class Way(Protocol):
    """A way to train."""

    def train(self, work: Work, baton: Baton) -> Encoder:
        """Train until the baton says no, or the updates are spent."""
        ...


@dataclass(frozen=True)
class Padded:
    """As TLM's reference code: every text padded to the longest, the head over all positions, plain AdamW.

    Masks are drawn by transformers' collator, and the loss is asked for after every update, as there.

    Attributes:
        bf16: Compute in bfloat16 where that is safe (autocast).
    """

    bf16: bool = False

    def train(self, work: Work, baton: Baton) -> Encoder:
        model, tokenizer = load(work)
        texts: Any = padded_rows(work.texts, work.longest, tokenizer.pad_token_id)
        loader: Any = torch.utils.data.DataLoader(texts, work.rows, shuffle=True, collate_fn=collator(tokenizer))
        stage = work.stage
        optimizer = torch.optim.AdamW(decaying(model, stage.weight_decay), lr=0.0, **ADAM)
        more = baton.begin()
        for update, batch in zip(range(work.updates), endless(loader), strict=False):
            if not more:
                break
            moved = {name: value.to(work.device) for name, value in batch.items()}
            with torch.autocast(work.device, torch.bfloat16) if self.bf16 else nullcontext():
                loss = model(**moved).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), stage.clip)
            for group in optimizer.param_groups:
                group["lr"] = stage.lr * rate_at(stage, update, work.updates)
            optimizer.step()
            optimizer.zero_grad()
            loss.item()
            more = baton.done(batch["attention_mask"].sum(), batch["input_ids"].numel())
        return Encoder(model, tokenizer)


@dataclass(frozen=True)
class HuggingFace:
    """``transformers.Trainer`` with its collator for masked language models, which pads to the longest of a batch.

    Attributes:
        grouped: Put texts of similar length into one batch.
        bf16: Compute in bfloat16 where that is safe (autocast).
    """

    grouped: bool = False
    bf16: bool = False

    def train(self, work: Work, baton: Baton) -> Encoder:
        from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

        model, tokenizer = load(work)
        seen: list[tuple[Any, int]] = []

        def count(_module: Any, _args: Any, inputs: dict[str, Any]) -> None:
            seen.append((inputs["attention_mask"].sum(), inputs["input_ids"].numel()))

        class Turns(TrainerCallback):
            def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                baton.begin()

            def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                control.should_training_stop = not baton.done(*seen.pop())

        hook = model.register_forward_pre_hook(count, with_kwargs=True)
        stage = work.stage
        with tempfile.TemporaryDirectory() as folder:
            settings = TrainingArguments(
                folder,
                max_steps=work.updates,
                per_device_train_batch_size=work.rows,
                learning_rate=stage.lr,
                warmup_steps=round(stage.warmup * work.updates),
                weight_decay=stage.weight_decay,
                adam_beta1=ADAM["betas"][0],
                adam_beta2=ADAM["betas"][1],
                adam_epsilon=ADAM["eps"],
                max_grad_norm=stage.clip,
                train_sampling_strategy="group_by_length" if self.grouped else "random",
                bf16=self.bf16,
                use_cpu=work.device == "cpu",
                dataloader_num_workers=4 if work.device == "cuda" else 0,  # on a CPU they would take it from the model
                dataloader_pin_memory=work.device == "cuda",
                remove_unused_columns=False,
                seed=work.seed,
                save_strategy="no",
                logging_strategy="no",
                report_to="none",
                disable_tqdm=True,
            )
            texts: Any = rows(work.texts)
            trainer = Trainer(model, settings, collator(tokenizer), train_dataset=texts, callbacks=[Turns()])
            trainer.remove_callback(PrinterCallback)
            trainer.train()
        hook.remove()
        return Encoder(model, tokenizer)


@dataclass(frozen=True)
class Ours:
    """trivium's loop over a stream of documents.

    Attributes:
        compiled: Compile the backbone.
    """

    compiled: bool = False

    def train(self, work: Work, baton: Baton) -> Encoder:
        encoder = from_pretrained(Pretrained(work.model)).to(work.device)
        if self.compiled:
            encoder.backbone.compile(dynamic=True)
        run = StageRun(encoder, work.stage, _task(), work.texts, RandomTokens(MASKED), work.seed)
        encoder.train()
        more = baton.begin()
        for update in range(work.updates):
            if not more:
                break
            tokens, padded = run.trace.tokens, run.trace.padded
            run.step(update)
            if baton.left == 1:
                run.log_losses()  # the loop does so fifty times in a stage
            more = baton.done(run.trace.tokens - tokens, run.trace.padded - padded)
        return encoder


class Runner:
    """A way on its way, seen from outside.

    Attributes:
        failed: Why it ended before its time, if it did.
    """

    def __init__(self, way: Way, work: Work, held: Held, *, inside: bool) -> None:
        """Start it: in a process of its own, or ``inside`` this one, which starts quicker and tells no memory apart."""
        self.failed: str | None = None
        self.pipe, theirs = multiprocessing.Pipe()
        if inside:
            self.job: Any = Thread(target=serve, args=(way, work, held, theirs), daemon=True)
            self.job.start()
            return
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(_IMPORTS)
        self.job = context.Process(target=serve, args=(way, work, held, theirs))  # Trainer starts loaders
        self.job.start()
        theirs.close()

    def turn(self, updates: int) -> Turn | None:
        """Let it make so many updates; none where it has failed."""
        found = self._ask(updates)
        return found if isinstance(found, Turn) else None

    def end(self) -> End | None:
        """Let it end; none where it has failed."""
        found = self._ask(0)
        self.job.join()
        return found if isinstance(found, End) else None

    def _ask(self, updates: int) -> Any:
        if self.failed is not None:
            return None
        try:
            self.pipe.send(updates)
            found = self.pipe.recv()
        except (EOFError, OSError):
            found = Failed("its process was killed: out of memory?")
        if isinstance(found, Failed):
            self.failed = found.reason
        return found


def serve(way: Way, work: Work, held: Held, pipe: Any) -> None:
    """In a way's process: train when told to, then be judged."""
    from transformers.utils import logging

    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    torch.set_num_threads(work.threads)
    pipe.poll(None)  # whose turn it is not yet shall not load its model beside others: transformers cannot, in threads
    before = _held()
    try:
        baton = Baton(pipe, work.device)
        with seeds.torch_scope(work.seed, "bench"):
            encoder = way.train(work, baton)
        most = torch.cuda.max_memory_allocated() / 1e6 if work.device == "cuda" else _most_held() - before
        pipe.send(End(baton.updates, judge(encoder, held), most))
    except Exception as error:  # of whatever kind: the others go on, and the table says why this one did not
        first = (str(error).strip() or "no reason given").splitlines()[0]
        pipe.send(Failed(f"{type(error).__name__}: {first[:150]}"))


def judge(encoder: Encoder, held: Held) -> float:
    """The mean loss over the gaps of held-out texts, in float32, without dropout."""
    encoder.eval()
    batch, (ids, positions, targets) = held.batch.to(encoder.device), (t.to(encoder.device) for t in held.gaps)
    with torch.no_grad():
        return float(F.cross_entropy(encoder.fill(encoder.hidden(batch, ids), positions), targets))


def load(work: Work) -> tuple[Any, Any]:
    """The model as transformers has it, ready to be trained, and its tokenizer."""
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    model = AutoModelForMaskedLM.from_pretrained(work.model, local_files_only=True)
    return model.to(work.device).train(), AutoTokenizer.from_pretrained(work.model, local_files_only=True)


def collator(tokenizer: Any) -> Any:
    from transformers import DataCollatorForLanguageModeling

    return DataCollatorForLanguageModeling(tokenizer, mlm_probability=MASKED)


def rows(texts: Encoded) -> list[dict[str, list[int]]]:
    """Texts as transformers' collator wants them, who is told which tokens are special and need not find out."""
    ids, special = texts.ids.tolist(), (texts.words < 0).astype(int).tolist()
    spans = zip(texts.offsets[:-1].tolist(), texts.offsets[1:].tolist(), strict=True)
    return [{"input_ids": ids[a:b], "special_tokens_mask": special[a:b]} for a, b in spans]


def padded_rows(texts: Encoded, longest: int, pad_id: int) -> list[dict[str, list[int]]]:
    """The same, each padded to the longest that there may be."""
    padded = []
    for row in rows(texts):
        own = len(row["input_ids"])
        more = longest - own
        padded.append(
            {
                "input_ids": row["input_ids"] + [pad_id] * more,
                "attention_mask": [1] * own + [0] * more,
                "special_tokens_mask": row["special_tokens_mask"] + [1] * more,
            }
        )
    return padded


def decaying(model: Any, rate: float) -> list[dict[str, Any]]:
    """Groups for AdamW: matrices decay, biases and norms do not."""
    groups: dict[bool, list[Any]] = {True: [], False: []}
    for parameter in model.parameters():
        groups[parameter.dim() > 1].append(parameter)
    return [{"params": groups[matrix], "weight_decay": rate if matrix else 0.0} for matrix in groups]


def endless(loader: Any) -> Iterator[Any]:
    while True:
        yield from loader


def _task() -> Task:
    """The task that a stage belongs to; a stage that reads documents alone learns nothing of it."""
    two = pa.table({"text": ["one", "two"], "label": np.arange(2), "file": ["made up"] * 2, "row": np.arange(1, 3)})
    return Task("none", "classify", "macro_f1", ("one", "two"), {"train": two})


def _held() -> float:
    """Memory that this process holds, in MB."""
    return _status("VmRSS") or _most_held()


def _most_held() -> float:
    """Most memory that this process ever held, in MB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return _status("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def _status(name: str) -> float:
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith(name)), 0.0)
