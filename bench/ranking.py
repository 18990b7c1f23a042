"""Which way to choose auxiliary tasks ranks them right, where it is known which help, harm or do neither.

    python bench/ranking.py                     every way, five made-up targets; half an hour
    python bench/ranking.py --quick             two targets
    python bench/ranking.py --only gradts gradtag --layers 4

For each target of ``planted_tasks.py`` every way rates two helpful, two harmful and two irrelevant candidates. AUC is
the share of pairs of a helpful and another candidate that it orders right, ties counted half: 0.5 is chance. What it
took is told in seconds, all trainings included: those that several ways need are done once and count for each.
"""

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

from planted_tasks import Models, Planted, planted
from trivium import seeds
from trivium.auxiliary import (
    AutoSem,
    GradCos,
    GradTag,
    GradTS,
    LargestTasks,
    Pairwise,
    Projected,
    RandomTasks,
    Tag,
    TextEmb,
    Trial,
)
from trivium.auxiliary.bank import keep_back
from trivium.auxiliary.choosers import Chooser
from trivium.auxiliary.importance import Estimator, Importance, measure
from trivium.auxiliary.protocol import Beside
from trivium.core import Stage, Task
from trivium.encoders import Encoder
from trivium.kinds import kind_of
from trivium.masking import RandomTokens
from trivium.training.evaluation import answers, score
from trivium.training.loop import run_stage

GOAL = 0.9
WAYS: Mapping[str, Callable[[], Chooser]] = {
    "gradts, gate": GradTS,
    "gradts, kv_weight": lambda: GradTS(estimator="kv_weight"),
    "gradts, legacy": lambda: GradTS(estimator="kv_weight_legacy"),
    "textemb": TextEmb,
    "gradcos": GradCos,
    "projected": Projected,
    "tag": Tag,
    "autosem": AutoSem,
    "gradtag": GradTag,
    "pairwise": Pairwise,
    "size": LargestTasks,
    "random": RandomTasks,
}
LEGEND = """
AUC              mean over targets, and in brackets the least and the most; goal {goal}
helpful over …   the same against harmful and irrelevant candidates alone
seconds          median over targets
"""


@dataclass
class Here:
    """What ways to choose may ask (``trivium.auxiliary.protocol.Bank``), worked out here and kept in memory.

    Attributes:
        made: The target and its candidates.
        models: Encoders.
        seed: Of all chance.
        seeds: Of the trainings.
        kept: Encoders that were trained, and how long that took.
        saved: Seconds that were not spent again on what was kept.
    """

    made: Planted
    models: Models
    seed: int
    seeds: tuple[int, ...]
    kept: dict[tuple[str, int], tuple[Encoder, float]] = field(default_factory=dict)
    saved: float = 0.0

    def __post_init__(self) -> None:
        """Keep rows back."""
        self.task = keep_back(self.made.task, 0.3, 1000, self.seed)
        self.candidates = self.made.candidates

    def language(self, seed: int) -> Encoder:
        return self.models.language(seed)

    def _once(self, key: tuple[str, int], train: Callable[[], Encoder]) -> Encoder:
        """A copy of what a training gave; it is done once, and its time counts for every way that asks."""
        if key not in self.kept:
            begun = time.perf_counter()
            self.kept[key] = train(), time.perf_counter() - begun
        else:
            self.saved += self.kept[key][1]
        return deepcopy(self.kept[key][0])

    def finetuned(self, task: Task, seed: int) -> Encoder:
        alone = self.sample(task)
        return self._once((task.name, seed), lambda: self._learned(seed, self.stage("finetune"), alone))

    def joint(self, seed: int) -> Encoder:
        task = self.sample(self.task)
        return self._once(("", seed), lambda: self._learned(seed, self.stage("multitask"), task, self.candidates))

    def stage(self, preset: str, **changes: Any) -> Stage:
        return self.models.stage(preset, **changes)

    def sample(self, task: Task) -> Task:
        return replace(task, tables={"train": task.rows("train")})

    def importance(self, tasks: Sequence[Task], estimator: Estimator) -> dict[str, list[Importance]]:
        return {
            task.name: [
                measure(self.finetuned(task, seed), self.sample(task), estimator=estimator) for seed in self.seeds
            ]
            for task in tasks
        }

    def trials(self, sets: Sequence[Beside]) -> list[Trial]:
        known = {task.name: task for task in self.candidates}
        return [self._trial([known[name] for name in beside]) for beside in sets]

    def _trial(self, others: list[Task]) -> Trial:
        begun, values, losses, counts = time.perf_counter(), [], [], []
        rows = self.task.rows("dev")
        for seed in self.seeds:
            stage = self.stage("multitask" if others else "finetune")
            encoder = self._learned(seed, stage, self.sample(self.task), others)
            encoded = kind_of(self.task).encode(
                encoder.tokenizer, rows, self.task.labels, encoder.cut_of(self.task.name)
            )
            said, sure, loss = answers(encoder, self.task, encoded, rows)
            judged = score(self.task, "dev", said, sure)
            values.append(judged.value)
            losses.append(float(loss.mean()))
            counts.append(kind_of(self.task).counts(judged.gold, judged.predicted, self.task.labels))
        names = {task.name: len(task.rows("train")) for task in others}
        return Trial(names, tuple(values), tuple(losses), time.perf_counter() - begun, 0, np.stack(counts))

    def _learned(self, seed: int, stage: Stage, task: Task, others: Sequence[Task] = ()) -> Encoder:
        encoder = self.language(seed)
        run_stage(encoder, stage, task, auxiliary=others, masker=RandomTokens(), seed=seed)
        return encoder


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Rank auxiliary tasks of which it is known whether they help.")
    parser.add_argument("--targets", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=2, help="trainings that every answer is averaged over (2)")
    parser.add_argument("--layers", type=int, default=2, help="of the encoders, with 4 heads each (2)")
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--only", nargs="+", help="ways whose names begin so")
    parser.add_argument("--quick", action="store_true", help="two targets, one training each")
    given = parser.parse_args(arguments)
    if given.quick:
        given.targets, given.seeds = 2, 1
    torch.set_num_threads(1)
    ways = {name: make for name, make in WAYS.items() if not given.only or name.startswith(tuple(given.only))}
    begun = time.perf_counter()
    print(f"{given.targets} targets, {given.seeds} trainings each, {given.layers} layers of 4 heads")
    print(f"{'way':20} {'AUC':>18} {'over harmful':>13} {'over irrelevant':>16} {'seconds':>8}", flush=True)
    banks = [bank_of(target, given) for target in range(given.targets)]
    for name, make in ways.items():
        found = [rank(make(), bank) for bank in banks]
        auc, harmful, irrelevant, taken = (np.array(column) for column in zip(*found, strict=True))
        between = f"{auc.mean():.2f} [{auc.min():.2f}, {auc.max():.2f}]"
        means = f"{harmful.mean():>13.2f} {irrelevant.mean():>16.2f}"
        print(f"{name:20} {between:>18} {means} {np.median(taken):>8.1f}", flush=True)
    print(LEGEND.format(goal=GOAL) + f"\n{time.perf_counter() - begun:.0f} s in all")


def bank_of(target: int, given: argparse.Namespace) -> Here:
    """A target with its candidates, and encoders for them."""
    made = planted(target)
    models = Models.of(made, layers=given.layers, width=given.width)
    return Here(made, models, target, tuple(seeds.child(target, "ranking", i) for i in range(given.seeds)))


def rank(way: Chooser, bank: Here) -> tuple[float, float, float, float]:
    """AUC, the same against harmful and against irrelevant candidates, and seconds."""
    made, bank.saved, begun = bank.made, 0.0, time.perf_counter()
    ratings = {one.name: one.score for one in way.rank(bank)}
    taken = time.perf_counter() - begun + bank.saved

    def auc(others: Sequence[Task]) -> float:
        truth = [True] * 2 + [False] * len(others)
        return float(roc_auc_score(truth, [ratings[task.name] for task in (*made.helpful, *others)]))

    return auc([*made.harmful, *made.irrelevant]), auc(made.harmful), auc(made.irrelevant), taken


if __name__ == "__main__":
    main()
