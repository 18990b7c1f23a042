"""NMG's inner loop as its code has it, in today's transformers: what ``nmg.py`` measures ours beside.

An episode has three agents: a random one, an opponent and a player. Each chooses where to hide, one text at a time,
from the states of the language model; the model fills the gaps, is written to disk, read again below a fresh head,
fine-tuned, and asked about every row that is kept to judge by. All texts are padded to the longest there may be.

It is straightforward and no slower than that: texts are tokenised once, judging needs no gradients and takes larger
batches, the optimiser is the fused one, and what the code does in vain (copies of states for every action, tokenizers
read again and again) is left out. What the policies learn from an episode is not part of it.
"""

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from trivium import seeds
from trivium.core import Ints
from trivium.pretrained import quietly

AGENTS = ("random", "opponent", "player")
Row = dict[str, Tensor]


class Clock:
    """Seconds spent, by name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def of(self, name: str) -> Iterator[None]:
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] += time.perf_counter() - begun


@dataclass(frozen=True)
class Data:
    """What is played with.

    Attributes:
        contexts: Texts in which gaps are filled.
        rows: Texts with labels about them.
        labels: Their labels.
        about: Which context each is about, int64 ``[rows]``.
        kept: Texts to judge by.
        kept_labels: Their labels.
        classes: How many labels there are.
    """

    contexts: list[str]
    rows: list[str]
    labels: list[int]
    about: Ints
    kept: list[str]
    kept_labels: list[int]
    classes: int


@dataclass(frozen=True)
class Sizes:
    """How much is done in an episode: NMG's script for classification.

    Attributes:
        rate: Share of the tokens to hide.
        block: Tokens of a context, padding and special ones counted.
        longest: The same of a row.
        fill_epochs: Passes over the contexts.
        finetune_epochs: Passes over the rows.
        batch: Contexts, and rows, in a batch.
        judged: Rows in a batch that is judged.
        lr: Peak learning rate of both.
    """

    rate: float = 0.05
    block: int = 256
    longest: int = 128
    fill_epochs: int = 3
    finetune_epochs: int = 5
    batch: int = 8
    judged: int = 32
    lr: float = 2e-5


class Policy(nn.Module):
    """An attention block as BERT's, then a head of 128 units: logits of hiding each token."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, max(1, width // 64), batch_first=True)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Sequential(nn.Linear(width, 128), nn.GELU(), nn.Linear(128, 1))

    def forward(self, states: Tensor, there: Tensor) -> Tensor:
        mixed, _ = self.attention(states, states, states, key_padding_mask=~there, need_weights=False)
        logits: Tensor = self.head(self.norm(states + mixed)).squeeze(-1)
        return logits.masked_fill(~there, -torch.inf)


class ReferenceLoop:
    """Plays episodes, the language model going on from where the player's gaps have brought it.

    Attributes:
        language: The language model.
        clock: Seconds spent on each part of the episodes.
        folder: Where models are written.
    """

    def __init__(self, model: Path, tokenizer: Any, data: Data, sizes: Sizes, folder: Path, seed: int = 0) -> None:
        from transformers import AutoModelForMaskedLM

        self.data, self.sizes, self.folder, self.seed = data, sizes, folder, seed
        self.tokenizer, self.clock = tokenizer, Clock()
        with quietly(warnings=False):
            self.language: Any = AutoModelForMaskedLM.from_pretrained(model, local_files_only=True)
        with seeds.torch_scope(seed, "policies"):
            self.policies = {name: Policy(self.language.config.hidden_size) for name in AGENTS[1:]}
        self.contexts = self._tokenized(data.contexts, sizes.block)
        self.rows = self._tokenized(data.rows, sizes.longest, data.labels)
        self.kept = self._tokenized(data.kept, sizes.longest, data.kept_labels)

    def _tokenized(self, texts: list[str], length: int, labels: list[int] | None = None) -> list[Row]:
        types = getattr(self.language.config, "type_vocab_size", 0) > 1
        columns: Mapping[str, Tensor] = self.tokenizer(
            texts, padding="max_length", truncation=True, max_length=length, return_tensors="pt",
            return_token_type_ids=types,
        )  # fmt: skip
        if labels is not None:
            columns = {**columns, "labels": torch.tensor(labels)}
        return [{name: values[i] for name, values in columns.items()} for i in range(len(texts))]

    def play(self, episode: int, contexts: Iterable[int]) -> dict[str, float]:
        """Play an episode with some contexts and the rows about them; the accuracy of each agent's model."""
        drawn = list(contexts)
        rows = [self.rows[i] for i, context in enumerate(self.data.about.tolist()) if context in set(drawn)]
        return {agent: self._run(agent, episode, drawn, rows) for agent in AGENTS}

    def _run(self, agent: str, episode: int, drawn: list[int], rows: list[Row]) -> float:
        sizes = self.sizes
        with self.clock.of("masks"), seeds.torch_scope(self.seed, "masks", agent, episode):
            gaps = [self._hidden(self.policies.get(agent), self.contexts[i]) for i in drawn]
        with self.clock.of("copies"):
            language = self.language if agent == "player" else deepcopy(self.language)
        with self.clock.of("fill"), seeds.torch_scope(self.seed, "fill", episode):
            self._train(language, gaps, sizes.fill_epochs)
        with self.clock.of("copies"), seeds.torch_scope(self.seed, "head", episode):
            model = self._through_disk(language)
        with self.clock.of("fine-tune"), seeds.torch_scope(self.seed, "fine-tune", episode):
            self._train(model, rows, sizes.finetune_epochs)
        with self.clock.of("evaluation"):
            return self._accuracy(model)

    def _hidden(self, policy: Policy | None, context: Row) -> Row:
        """A context with gaps: a share of its tokens, at least one; chosen by chance where there is no policy."""
        ids, there = context["input_ids"], context["attention_mask"].bool()
        logits = torch.zeros(len(ids)).masked_fill(~there, -torch.inf)
        if policy is not None:
            self.language.eval()
            with torch.no_grad():
                one = {name: values[None] for name, values in context.items()}
                logits = policy(self.language.base_model(**one).last_hidden_state, there[None])[0]
        count = max(1, int(there.sum() * self.sizes.rate))
        chosen = torch.multinomial(logits.softmax(0).clamp(min=1e-15) * there, count)
        labels = torch.full_like(ids, -100)
        labels[chosen] = ids[chosen]
        return {**context, "input_ids": self._corrupted(ids, chosen), "labels": labels}

    def _corrupted(self, ids: Tensor, chosen: Tensor) -> Tensor:
        """80 % mask, 10 % a random token, 10 % as it was."""
        draw = torch.rand(len(chosen))
        strangers = torch.randint(len(self.tokenizer), chosen.shape)
        ids = ids.clone()
        ids[chosen[draw < 0.8]] = self.tokenizer.mask_token_id
        other = (draw >= 0.8) & (draw < 0.9)
        ids[chosen[other]] = strangers[other]
        return ids

    def _train(self, model: Any, rows: list[Row], epochs: int) -> None:
        """AdamW with a rate that falls to 0 in a straight line."""
        from transformers import get_linear_schedule_with_warmup

        loader: Any = DataLoader(rows, self.sizes.batch, shuffle=True)  # type: ignore[arg-type]
        optimizer = torch.optim.AdamW(model.parameters(), self.sizes.lr, eps=1e-8, weight_decay=0.0, fused=True)
        schedule = get_linear_schedule_with_warmup(optimizer, 0, epochs * len(loader))
        model.train()
        for _ in range(epochs):
            for batch in loader:
                model(**batch).loss.backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()

    def _through_disk(self, language: Any) -> Any:
        """The same model below a fresh head."""
        from transformers import AutoModelForSequenceClassification

        with quietly(warnings=False):
            language.save_pretrained(self.folder)
            return AutoModelForSequenceClassification.from_pretrained(
                self.folder, num_labels=self.data.classes, local_files_only=True
            )

    def _accuracy(self, model: Any) -> float:
        model.eval()
        right = 0
        with torch.no_grad():
            for batch in DataLoader(self.kept, self.sizes.judged):  # type: ignore[arg-type]
                gold = batch.pop("labels")
                right += int((model(**batch).logits.argmax(1) == gold).sum())
        return right / len(self.kept)
