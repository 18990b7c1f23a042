"""Run a study: prepare, train every arm with every seed, judge once on test, and write the verdict down.

Everything that takes time is an artifact, so a second run does nothing twice, and a changed choice redoes only what
depends on it. Training sees a sealed task; the test split is opened when all training is over.
"""

import json
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

import trivium
from trivium import engine, seeds
from trivium.auxiliary import SELECTORS as BESIDE
from trivium.auxiliary.saved import chosen_folders, load_choice
from trivium.config import StudyConfig, build, load_config
from trivium.core import JSON, Corpus, Score, Selection, Split, Task, digest
from trivium.data.columns import block_yaml
from trivium.data.saved import save_task
from trivium.documents import SELECTORS, NoDocuments, RandomDocuments, examples, select_documents
from trivium.documents.screens import Screens
from trivium.encoders.encoder import Pretrained, Scratch, head_folder, origin
from trivium.errors import ArtifactError, TrainingError, TriviumError
from trivium.kinds import kind_of
from trivium.kinds.metrics import Counts
from trivium.store import Artifact, Store, atomic_write, explaining, mark_done, mark_undone
from trivium.study import beside
from trivium.study.arms import (
    Arm,
    equalise,
    questions,
    resolve,
    settled,
    spelled,
    spelled_arm,
    spelled_encoder,
    spelled_masker,
    spelled_stage,
)
from trivium.study.beside import Candidates, rows_beside
from trivium.study.budget import Decision, within_budget
from trivium.study.factors import Question, factor_questions
from trivium.study.fitting import Ground, Shared, fit_masker
from trivium.study.hiding_arms import Hider, look, overlaps, told, worth_a_look
from trivium.study.inputs import load_candidates, load_inputs, worker_count
from trivium.study.job import in_turn
from trivium.study.judging import judge_linear, judge_model, score_line
from trivium.study.lengths import update_costs
from trivium.study.linear import LINEAR_MODELS
from trivium.study.looks import Look, plan_looks
from trivium.study.manifest import now, provenance
from trivium.study.models import publish
from trivium.study.progress import Jobs, Reporter, Silent
from trivium.study.reading import reading_tokens, save_reading, window_lengths
from trivium.study.report import write_report
from trivium.study.report_run import RECORDS
from trivium.study.report_text import listed, plural
from trivium.study.report_verdict import LINEAR
from trivium.study.statistics import ALPHA
from trivium.study.verdict import ArmResult, Verdict, decide
from trivium.training import WarmHead, Warmup, make_tokenizer, masks, new_encoder, torch_device, warm_up
from trivium.training.recipes import Spec, make_spec
from trivium.training.software import software
from trivium.training.warmup import lacks_head


@dataclass(frozen=True)
class Study:
    """A study that was run.

    Attributes:
        folder: The run folder.
        verdict: What came out.
        report: The report, a single HTML file.
    """

    folder: Path
    verdict: Verdict
    report: Path


@dataclass(frozen=True)
class Prepared:
    """What training needs of the choices before it, for one arm and one seed."""

    documents: Artifact | None
    auxiliary: Artifact | None
    reading: Artifact


def run(
    study: StudyConfig | Path | str,
    overrides: Sequence[str] = (),
    *,
    runs: Path | str = "runs",
    reporter: Reporter | None = None,
    command: str | None = None,
) -> Study:
    """Run a study, or finish one that was interrupted.

    Args:
        study: The study file, or what ``load_config`` made of one.
        overrides: ``key=value`` pairs that win over the file.
        runs: Where run folders lie.
        reporter: Who is told how it goes; nobody, if not given.
        command: How to run it again, for the report.

    Returns:
        The verdict and where things are.

    Raises:
        ArtifactError: the disk is full or cannot be written to, or another process runs this study.
        TriviumError: the study file or the data is not what it should be, or no arm could be trained.
    """
    with _begun("run", study, overrides, runs, reporter, command) as run:
        return run.go()


def choose_documents(
    study: StudyConfig | Path | str,
    overrides: Sequence[str] = (),
    *,
    runs: Path | str = "runs",
    reporter: Reporter | None = None,
) -> dict[str, JSON]:
    """Choose every arm's documents and do nothing else; ``run`` will find them chosen.

    Returns:
        For each arm that reads, with the first seed: counts, documents and words per source, KL reduction, and
        examples with reasons.
    """
    with _begun("documents", study, overrides, runs, reporter) as run:
        return run.choose()


def choose_maskers(
    study: StudyConfig | Path | str,
    overrides: Sequence[str] = (),
    *,
    runs: Path | str = "runs",
    reporter: Reporter | None = None,
) -> JSON:
    """Make every arm's masker ready, look at what it hides, and do nothing else; ``run`` will find them ready.

    Returns:
        ``arms``: for each that hides, with the first seed, its ``masker`` as the study file writes it, the ``folder``
        and what ``study.hiding.describe`` says; ``overlap``: how much each two of them hide of the same.
    """
    with _begun("masker", study, overrides, runs, reporter) as run:
        return run.hide()


def choose_tasks(
    study: StudyConfig | Path | str,
    overrides: Sequence[str] = (),
    *,
    runs: Path | str = "runs",
    reporter: Reporter | None = None,
) -> dict[str, JSON]:
    """Choose what every arm learns beside the task, and do nothing else; ``run`` will find it chosen.

    Returns:
        For each arm that learns other tasks, with the first seed, its ``folder`` and what ``study.beside.describe``
        says.
    """
    with _begun("auxiliary", study, overrides, runs, reporter) as run:
        return run.beside()


@contextmanager
def _begun(
    verb: str,
    study: StudyConfig | Path | str,
    overrides: Sequence[str],
    runs: Path | str,
    reporter: Reporter | None,
    command: str | None = None,
) -> Iterator["_Run"]:
    """A study about to do something, alone in its run folder, and on its cluster if it names one."""
    config = study if isinstance(study, StudyConfig) else load_config(study, overrides)
    store = Store(Path(runs) / config.name)
    with explaining(store.root), store.owned(), engine.using(_cluster(config)):
        store.sweep()
        decided = within_budget(config, store, reporter or Silent()) if verb == "run" else None
        told = command or _command(verb, study, overrides, runs)
        yield _Run(config, store, reporter or Silent(), told, decided)


def _cluster(config: StudyConfig) -> engine.Ray | None:
    """Where the corpus is searched, if not here; a cluster that is not there is said so before any work."""
    if config.engine.kind == "local":
        return None
    cluster = engine.Ray(config.engine.address)
    cluster.connect()
    return cluster


class _Run:
    """A study on its way, step by step."""

    def __init__(
        self,
        config: StudyConfig,
        store: Store,
        reporter: Reporter,
        command: str,
        decided: tuple[Decision, Artifact] | None = None,
    ) -> None:
        self.decision = None if decided is None else decided[0]
        self.config = config if self.decision is None else self.decision.apply(config)
        self.store, self.reporter, self.command = store, reporter, command
        self.screens = build(Screens, self.config.screens, "screens")
        self.arms: dict[str, Arm] = resolve(self.config)
        self.origins: dict[Spec, JSON] = {
            spec: {**origin(spec), **software()} for spec in dict.fromkeys(arm.spec for arm in self.arms.values())
        }
        self.asked = questions(self.arms, self.config.baseline)  # before lengths differ
        self.seeds = self.config.seed_list
        self.failed: dict[str, dict[int, str]] = {}  # why, by arm and seed
        self.trained: dict[tuple[str, int], list[Path]] = {}
        self.made: list[Artifact] = [] if decided is None else [decided[1]]
        self.begun = time.monotonic()
        self.manifest: dict[str, JSON] = {}

    def go(self) -> Study:
        self._open()
        looks = self._looks()
        for many in range(1, len(looks) + 1):
            self.seeds = self.config.seeds_up_to(looks[many - 1].seeds)
            verdict = self._until_here(looks[:many], looks[-1])
            if verdict.settled:
                break
            self.reporter.say(f"not settled with {len(self.seeds)} seeds; up to {looks[many].seeds} are trained.")
        self._note_other_looks(self.trained)
        self._write_manifest("finished")
        mark_done(self.store.root, RECORDS)
        publish(self.store.root, {job: head_folder(made[-1], self.task.name) for job, made in self.trained.items()})
        return Study(self.store.root, verdict, write_report(self.store.root))

    def _until_here(self, looks: Sequence[Look], last: Look) -> Verdict:
        """Choose, train and judge with the seeds of a look; what was done for an earlier one is found done."""
        prepared = {}
        for job in [(arm, seed) for arm in self.arms for seed in self.seeds]:
            with self._or_set_aside(*job):
                if job[0] not in self.failed:
                    prepared[job] = self._prepare(self.arms[job[0]], job[1])
        prepared = self._living(prepared)
        if len(looks) == 1:
            self._settle_lengths(prepared)
            self.heads = self._warm_heads()
        self.maskers = self._fit_maskers(prepared)
        prepared = self._living(prepared)
        self._describe(prepared)
        if worth_a_look(self.arms):
            seen = self._look(prepared)
            folders = {name: made.folder.name for name, made in seen.items()}
            self.manifest["hiding"] = {"arms": folders, "overlap": overlaps(seen)}
        known = {job for job in prepared if job in self.trained}
        self.trained |= self._train({job: choices for job, choices in prepared.items() if job not in known})
        self._write_events(self.trained)
        verdict = self._judge(self.trained, looks if len(looks) > 1 or last != looks[0] else (), last)
        atomic_write(self.store.root / "verdict.json", json.dumps(verdict.to_json(), indent=2, ensure_ascii=False))
        return verdict

    @contextmanager
    def _or_set_aside(self, name: str, seed: int) -> Iterator[None]:
        """Set an arm aside if something that it needs diverges inside the ``with`` block; the others go on."""
        try:
            yield
        except TrainingError as error:
            self._set_aside(name, seed, error)

    def _set_aside(self, name: str, seed: int, error: TriviumError) -> None:
        self.failed.setdefault(name, {})[seed] = str(error)
        self.reporter.say(f"{name}, seed {seed} failed: {error}")

    def _living(self, prepared: Mapping[tuple[str, int], Prepared]) -> dict[tuple[str, int], Prepared]:
        """What was prepared for arms that were not set aside.

        Raises:
            TriviumError: all were.
        """
        if len(self.failed) == len(self.arms):
            raise TriviumError("no arm could be trained:\n" + "\n".join(f"{n}: {self._why(n)}" for n in self.failed))
        return {job: choices for job, choices in prepared.items() if job[0] not in self.failed}

    def _why(self, name: str) -> str:
        """Why an arm was set aside: with which seeds, and what the first of them said."""
        why = self.failed[name]
        return f"with seed{'s' * (len(why) > 1)} {listed([str(seed) for seed in sorted(why)])}: {why[min(why)]}"

    def _settle_lengths(self, prepared: Mapping[tuple[str, int], Prepared]) -> None:
        """Write every stage's length in updates, equal among arms if it is to be."""
        first = self.seeds[0]
        arms = {name: arm for name, arm in self.arms.items() if name not in self.failed}
        tokens = {arm: reading_tokens(prepared[arm, first].reading.folder) for arm in arms}
        beside = {arm: rows_beside(prepared[arm, first].auxiliary) for arm in arms}
        costs = {arm: self._costs(arm, prepared[arm, first]) for arm in arms}
        rows = len(self.task.rows("train"))
        self.arms |= equalise(arms, rows, tokens, beside, costs, task=self.task.name, equal=self.config.equal)

    def _looks(self) -> tuple[Look, ...]:
        """When results are looked at; once, if no seeds are to be added."""
        first, adaptive = len(self.config.seed_list), self.config.adaptive_config
        if adaptive is None:
            return (Look(first, ALPHA),)
        return plan_looks(first, adaptive.step, adaptive.most)

    def choose(self) -> dict[str, JSON]:
        self._open()
        chosen = {}
        for name, arm in self.arms.items():
            if not isinstance(arm.selector, NoDocuments):
                made = self._documents(arm, self.seeds[0])
                chosen[name] = {"folder": str(made.folder), **json.loads((made.folder / "examples.json").read_text())}
        return chosen

    def beside(self) -> dict[str, JSON]:
        self._open()
        made = {name: self._auxiliary(arm, self.seeds[0]) for name, arm in self.arms.items()}
        return {name: beside.told(one) for name, one in made.items() if one is not None}

    def hide(self) -> JSON:
        self._open()
        prepared = {(name, self.seeds[0]): self._prepare(arm, self.seeds[0]) for name, arm in self.arms.items()}
        self.heads = self._warm_heads()
        self.maskers = self._fit_maskers(self._living(prepared))
        self._living(prepared)
        return told(self._look(prepared), self.arms)

    def _open(self) -> None:
        """Read the data, and write down what is about to be done."""
        self.task: Task
        self.corpus: Corpus | None
        self.task, self.corpus = load_inputs(self.config, self.arms, self.reporter)
        self.linear = self.config.linear and self.task.kind in LINEAR_MODELS
        notes = [*self.task.notes, *(self.corpus.notes if self.corpus else ())]
        if self.config.linear and not self.linear:
            notes.append(f"linear: no linear model of words answers a {self.task.kind} task, so none stands beside.")
        tasks = load_candidates(self.config, self.arms)
        notes += [f"{one.name}: {note}" for one in tasks for note in one.notes]
        notes += [] if self.decision is None else [self.decision.told()]
        self.candidates = Candidates(self.task, tasks, worker_count(self.config))
        for note in notes:
            self.reporter.say(note)
        written = self.config.model_dump(mode="json") | {
            "seeds": self.seeds,
            "screens": asdict(self.screens),
            "encoder": spelled_encoder(make_spec(self.config.encoder)),
            "arms": {name: spelled_arm(arm) for name, arm in self.arms.items()},
        }
        mark_undone(self.store.root)
        atomic_write(self.store.root / "config.yaml", block_yaml(written))
        self.manifest = {
            **provenance(),
            "inputs": {
                "task": self.task.fingerprint,
                "corpus": self.corpus.fingerprint if self.corpus else None,
                **{f"auxiliary task {one.name}": one.fingerprint for one in tasks},
            },
            "rows": {part: table.num_rows for part, table in self.task.tables.items()},
            "notes": notes,
            "command": self.command,
            **({} if self.decision is None else {"budget": asdict(self.decision)}),
        }
        self._write_manifest("running")
        self.sealed = self._keep(
            self.store.make("task", self.task.sealed().fingerprint, lambda f: save_task(self.task.sealed(), f))
        )

    def _prepare(self, arm: Arm, seed: int) -> Prepared:
        """Choose an arm's documents, train its tokenizer and tokenise them."""
        documents = None if isinstance(arm.selector, NoDocuments) else self._documents(arm, seed)
        auxiliary = self._auxiliary(arm, seed)
        stages = arm.recipe.stages
        inputs = {
            "origin": self.origins[arm.spec],
            "documents": documents.key if documents else None,
            "task": self.sealed.key,
            "lengths": window_lengths(stages, "documents"),
            "texts": window_lengths(stages, "texts"),
            **({"auxiliary": auxiliary.key} if auxiliary is not None and isinstance(arm.spec, Scratch) else {}),
        }

        def write(folder: Path) -> None:
            read = Selection.load(documents.folder, self.corpus) if documents else None
            texts, ids = (read.texts(), read.ids) if read else ([], None)
            with self.reporter.phase(f"tokenising for {arm.name}"):
                beside = [] if auxiliary is None else load_choice(auxiliary.folder)
                save_reading(arm.spec, self.task.sealed(), texts, stages, folder, beside, ids)

        return Prepared(documents, auxiliary, self._keep(self.store.make("reading", inputs, write)))

    def _costs(self, name: str, prepared: Prepared) -> list[float]:
        """What an update of each stage takes of what arms spend alike, by what the first seed reads."""
        chosen = [] if prepared.auxiliary is None else load_choice(prepared.auxiliary.folder)
        task, reading = self.task.sealed(), prepared.reading.folder
        return update_costs(self.config.equal, self.arms[name], task, reading, chosen)

    def _fit_maskers(self, prepared: Mapping[tuple[str, int], Prepared]) -> dict[tuple[str, int], Artifact]:
        """Let maskers that learn first do so, here and not in the workers: arms and seeds share what they can."""
        shared = Shared(self.corpus, self.task, self.screens)
        fitted = {}
        for name, seed in sorted(prepared, key=lambda one: self.seeds.index(one[1])):  # arms share by seed
            choices, spec = prepared[name, seed], self.arms[name].spec
            head, origin = self.heads.get(spec), self._origin_with_head(spec)
            ground = Ground(self.sealed, choices.reading, choices.documents, head, origin, shared)
            with self._or_set_aside(name, seed):
                if name in self.failed:
                    continue
                made = fit_masker(self.store, self.arms[name], ground, seed, self.reporter)
                if made is not None:
                    fitted[name, seed] = self._keep(made)
        return fitted

    def _look(self, prepared: Mapping[tuple[str, int], Prepared]) -> dict[str, Artifact]:
        """Look at what each arm that hides anything hides, with the first seed."""
        seed = self.seeds[0]
        hiders = [
            Hider(arm, prepared[name, seed].reading, self.maskers.get((name, seed)))
            for name, arm in self.arms.items()
            if masks(arm.recipe.stages) and name not in self.failed
        ]
        seen = look(self.store, self.sealed, hiders, self.reporter)
        return {name: self._keep(made) for name, made in seen.items()}

    def _documents(self, arm: Arm, seed: int) -> Artifact:
        assert self.corpus is not None
        corpus = self.corpus
        inputs = {
            "trivium": trivium.__version__,
            "selector": spelled(arm.selector, SELECTORS),
            "corpus": corpus.fingerprint,
            "task": self.task.sealed().fingerprint,
            "held_out": digest(self.task.texts("test")) if "test" in self.task.tables else None,
            "screens": asdict(self.screens),
            "encoder": origin(Pretrained(arm.selector.encoder)) if hasattr(arm.selector, "encoder") else None,
            "seed": seed if arm.selector.seeded else None,
        }

        def write(folder: Path) -> None:
            with self.reporter.phase(f"choosing documents for {arm.name}") as bar:
                selection = select_documents(
                    corpus, self.task, arm.selector, seed=seed, screens=self.screens, progress=bar
                )
            selection.save(folder)
            shown = examples(selection, corpus, self.task)
            about = {key: selection.how[key] for key in ("counts", "sources", "source_words", "kl_reduction")}
            (folder / "examples.json").write_text(
                json.dumps({**about, "examples": shown}, indent=1, ensure_ascii=False)
            )

        return self._keep(self.store.make("documents", inputs, write))

    def _auxiliary(self, arm: Arm, seed: int) -> Artifact | None:
        chosen = self.candidates.chosen(self.store, arm, self.origins[arm.spec], seed, self.reporter)
        return None if chosen is None else self._keep(chosen)

    def _warm_heads(self) -> dict[Spec, WarmHead]:
        """A gap-filling head for every encoder that came without one, if any arm of its hides tokens."""
        hiding = dict.fromkeys(arm.spec for arm in self.arms.values() if masks(arm.recipe.stages))
        made = {}
        for spec in hiding:
            try:
                made[spec] = self._warm_head(spec) if isinstance(spec, Pretrained) else None
            except TrainingError as error:
                for name, arm in self.arms.items():
                    if arm.spec == spec and masks(arm.recipe.stages):
                        self._set_aside(name, self.seeds[0], error)
        return {spec: head for spec, head in made.items() if head is not None}

    def _warm_head(self, spec: Pretrained) -> WarmHead | None:
        """The same for all arms; none if it came with one.

        It learns from the training texts and a random part of the corpus, screened as every selection is.
        """
        task = self.task.sealed()
        encoder = new_encoder(spec, make_tokenizer(spec, task, []), 128, seed=0)
        if not lacks_head(encoder):
            return None
        with self.reporter.phase("warming up a head") as bar:
            texts = task.texts("train")
            if self.corpus is not None:
                some = RandomDocuments(max_documents=Warmup().texts)
                texts += select_documents(self.corpus, self.task, some, seed=0, screens=self.screens).texts()
            made = warm_up(encoder.cuda() if torch_device() == "cuda" else encoder, texts, watch=bar)
        assert made is not None
        self.reporter.say(made.note())
        self.manifest["notes"] = [*self.manifest["notes"], made.note()]
        return made

    def _describe(self, prepared: Mapping[tuple[str, int], Prepared]) -> None:
        """Say in the manifest what each arm is about to do."""
        described = {}
        for name, arm in self.arms.items():
            if name in self.failed:
                continue
            documents = {seed: prepared[name, seed].documents for seed in self.seeds}
            described[name] = {
                "documents": {str(seed): made.folder.name if made else None for seed, made in documents.items()},
                "selector": spelled(arm.selector, SELECTORS),
                "masker": spelled_masker(arm.recipe.masker),
                "auxiliary": {
                    str(seed): made.folder.name for seed in self.seeds if (made := prepared[name, seed].auxiliary)
                },
                "beside": None if arm.auxiliary is None else spelled(arm.auxiliary, BESIDE),
                "fitted": {str(seed): made.folder.name for (arm, seed), made in self.maskers.items() if arm == name},
                "stages": [spelled_stage(stage) for stage in arm.recipe.stages],
                "budget": {"updates": sum(stage.updates or 0 for stage in arm.recipe.stages)},
                "tokens": reading_tokens(prepared[name, self.seeds[0]].reading.folder),
            }
        self.manifest["arms"] = described
        self._write_manifest("running")

    def _train(self, prepared: Mapping[tuple[str, int], Prepared]) -> dict[tuple[str, int], list[Path]]:
        """Train all arms with all seeds; an arm that diverges is set aside, and the others go on."""
        workers, by_seed = worker_count(self.config), sorted(prepared, key=lambda job: self.seeds.index(job[1]))
        seeds = [*dict.fromkeys(seed for _, seed in by_seed)]
        jobs = [job for job in in_turn([*self.arms], seeds, workers) if job in prepared]
        items = [self._item(name, seed, prepared[name, seed]) for name, seed in jobs]
        weights = [[_work(options, self.task) for options in item["stages"]] for item in items]
        done = [[0.0] * len(stages) for stages in weights]
        total = sum(map(sum, weights))
        training = f"training {plural(len({name for name, _ in jobs}), 'arm')} with {plural(len(self.seeds), 'seed')}"
        with self.reporter.phase(training) as bar, closing(Jobs(self.reporter)) as inner:

            def receive(job: int, message: JSON) -> None:
                at, (name, seed) = message["stage"], jobs[job]
                done[job][at] = weights[job][at] * message["done"] / message["total"]
                step = f"{name}, seed {seed}, {items[job]['stages'][at]['name']}"
                inner.at(job, step, message["done"], message["total"])
                bar(sum(map(sum, done)), total)

            log = self.store.root / "workers.log"
            answers = engine.run_all("trivium.study.job:train_arm", items, workers=workers, receive=receive, log=log)
        stages: dict[tuple[str, int], list[Path]] = {}
        said = dict(zip(jobs, answers, strict=True))
        for name, seed in by_seed:
            answer = said[name, seed]
            if isinstance(answer, ArtifactError):  # a full disk is no result of an arm
                raise answer
            if isinstance(answer, TriviumError):
                self._set_aside(name, seed, answer)
            else:
                made = [self._keep(Artifact(**{**stage, "folder": Path(stage["folder"])})) for stage in answer]
                stages[name, seed] = [stage.folder for stage in made]
        self._living(prepared)
        return stages

    def _item(self, name: str, seed: int, prepared: Prepared) -> JSON:
        arm, fitted, chosen = self.arms[name], self.maskers.get((name, seed)), prepared.auxiliary
        recipe, head = arm.recipe, self.heads.get(arm.spec)
        beside = [] if chosen is None else [str(place.resolve()) for place in chosen_folders(chosen.folder)]
        return {
            "root": str(self.store.root.resolve()),
            "task": str(self.sealed.folder.resolve()),
            "reading": str(prepared.reading.folder.resolve()),
            "encoder": spelled_encoder(arm.spec),
            "origin": self._origin_with_head(arm.spec),
            "head": None if head is None else str(head.folder.resolve()),
            "masker": spelled_masker(recipe.masker),
            "fitted": str(fitted.folder.resolve()) if fitted else None,
            "auxiliary": None if chosen is None else {"key": chosen.folder.name, "tasks": beside},
            "stages": [spelled_stage(settled(stage, beside)) for stage in recipe.stages],
            "seed": seed,
        }

    def _origin_with_head(self, spec: Spec) -> JSON:
        head = self.heads.get(spec)
        return self.origins[spec] if head is None else {**self.origins[spec], "head": head.key}

    def _judge(self, stages: Mapping[tuple[str, int], list[Path]], looks: Sequence[Look], last: Look) -> Verdict:
        """Open the test split, once per arm and seed, and compare."""
        split: Split = "test" if "test" in self.task.tables else "dev"
        parts: list[Split] = list(dict.fromkeys(("dev", split)))
        lines: list[JSON] = []
        scores: dict[tuple[str, int], Score] = {}
        pairs = [(name, seed) for name in self.arms if name not in self.failed for seed in self.seeds]
        with self.reporter.phase(f"judging on {split}") as bar:
            for i, (name, seed) in enumerate(pairs):
                for part in parts:
                    made, scores[name, seed] = judge_model(self.store, stages[name, seed][-1], self.task, part)
                    self._keep(made)
                    lines.append(score_line(name, seed, scores[name, seed], self.task))
                bar(i + 1, len(pairs))
        results = [self._result(name, scores, stages) for name in self.arms]
        asked = self.asked
        if self.linear:
            with self.reporter.phase("the linear model"):
                made, linear = judge_linear(self.store, self.task, parts)
            self._keep(made)
            lines += [score_line(LINEAR, self.seeds[0], found, self.task) for found in linear.values()]
            results.append(ArmResult(LINEAR, self._counts(linear[split])[None], 0, 0, 0.0, None))
            asked = [*asked, *((name, LINEAR) for name in self.arms)]
        atomic_write(self.store.root / "scores.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
        return decide(
            self.config.name,
            self.task.name,
            self.task.metric,
            kind_of(self.task).metrics[self.task.metric],
            split,
            self.config.baseline,
            self.seeds,
            results,
            asked,
            seeds.numpy_rng(0, "verdict"),
            questions=self._factor_questions(),
            looks=looks,
            last=last if looks else None,
        )

    def _factor_questions(self) -> list[Question]:
        """What is asked of the grid, if there is one."""
        grid = self.config.grid
        if grid is None:
            return []
        return factor_questions(grid.factors, {name: levels for name, (levels, _) in grid.cells().items()})

    def _note_other_looks(self, stages: Mapping[tuple[str, int], list[Path]]) -> None:
        """Say how often the test rows were looked at for other settings: whoever tunes on them should know."""
        ours = {folders[-1].name for folders in stages.values()}
        models = set()
        for done in self.store.artifacts.glob("score-*/done.json"):
            try:
                inputs = json.loads(done.read_text())["inputs"]
            except (OSError, ValueError, KeyError):  # a damaged one of another study: nobody knows whose it was
                continue
            if inputs["split"] == "test" and inputs["task"] == self.task.fingerprint:
                models.add(inputs["model"])
        if others := len(models - ours):
            note = f"The test rows were looked at before, for {others} models of other settings in this run folder."
            self.manifest["notes"].append(note)
            self.reporter.say(note)

    def _result(
        self, name: str, scores: Mapping[tuple[str, int], Score], stages: Mapping[tuple[str, int], list[Path]]
    ) -> ArmResult:
        """What the verdict needs to know of an arm; updates, tokens and seconds are means over its seeds."""
        if name in self.failed:
            return ArmResult(name, None, 0, 0, 0.0, self._why(name))
        counts = np.stack([self._counts(scores[name, seed]) for seed in self.seeds])
        spent = [[_trace(folder) for folder in stages[name, seed]] for seed in self.seeds]
        updates, tokens, seconds, flops = (
            sum(trace.get(what, 0) for traces in spent for trace in traces) / len(spent)
            for what in ("updates", "tokens", "seconds", "flops")  # artifacts of older versions know of no operations
        )
        return ArmResult(name, counts, round(updates), round(tokens), round(seconds, 1), None, flops)

    def _counts(self, found: Score) -> Counts:
        return kind_of(self.task).counts(found.gold, found.predicted, self.task.labels)

    def _write_events(self, stages: Mapping[tuple[str, int], list[Path]]) -> None:
        """Gather what every stage measured; the stages keep it, so that a resumed run says it once."""
        lines = []
        for (name, seed), folders in stages.items():
            updates = tokens = 0
            for trace in map(_trace, folders):
                for event in trace["events"]:
                    moved = {**event, "update": event["update"] + updates}
                    if "tokens" in event:
                        moved["tokens"] += tokens
                    lines.append({"arm": name, "seed": seed, "stage": trace["stage"], **moved})
                updates, tokens = updates + trace["updates"], tokens + trace["tokens"]
        atomic_write(self.store.root / "events.jsonl", "".join(json.dumps(line) + "\n" for line in lines))

    def _keep(self, artifact: Artifact) -> Artifact:
        self.made.append(artifact)
        return artifact

    def _write_manifest(self, status: str) -> None:
        self.manifest["status"] = status
        self.manifest["seconds"] = round(time.monotonic() - self.begun, 1)
        if status == "finished":
            self.manifest["finished"] = now()
        unique = {artifact.folder.name: artifact for artifact in reversed(self.made)}  # the first mention made it
        self.manifest["artifacts"] = [
            {
                "folder": name,
                "kind": name.rsplit("-", 1)[0],
                "seconds": artifact.seconds,
                "status": "reused" if artifact.reused else "made",
            }
            for name, artifact in reversed(unique.items())
        ]
        text = json.dumps(self.manifest, indent=2, ensure_ascii=False)
        atomic_write(self.store.root / "manifest.json", text)


def _command(verb: str, study: StudyConfig | Path | str, overrides: Sequence[str], runs: Path | str) -> str:
    """How to do it again; a study that was never in a file is in the run folder."""
    file = str(Path(runs) / study.name / "config.yaml") if isinstance(study, StudyConfig) else str(study)
    elsewhere = [] if Path(runs) == Path("runs") else ["--runs", str(runs)]
    return shlex.join(["trivium", verb, file, *overrides, *elsewhere])


def _work(stage: JSON, task: Task) -> float:
    """How much a stage has to do, in tokens: what the bar of training counts."""
    rows = stage["batch_rows"] * min(stage["max_length"], 64)
    read = stage["mix"].get("documents", 0) + stage["mix"].get("texts", 0)
    per_cycle = read * stage["batch_tokens"] + stage["mix"].get("task", 0) * rows
    return float(stage["updates"] * per_cycle / sum(stage["mix"].values()))


def _trace(folder: Path) -> JSON:
    return json.loads((folder / "trace.json").read_text())
