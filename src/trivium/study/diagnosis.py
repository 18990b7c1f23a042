"""Likely causes of a `hurt` or a `no evidence`: what to look at before concluding that a method does not work.

Every rule is a pure function of what the run folder holds. It says what was measured, why that matters and what to try,
about arms that take part in such a comparison. A rule that fires has found something that often goes with a bad result;
it is likely, and never shown, to be the cause: only another study can show that. The thresholds stand here, each with
its reason. To add a rule: a function and a line in ``RULES``, and a row in docs/report.md.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from trivium.study.diagnosis_measures import (
    LOSSES,
    asked,
    best_at,
    fell,
    late_gain,
    layer_name,
    looks_of,
    losses_of,
    mean_and_error,
    mean_layers,
    needed,
    one_label,
    paired,
    quarters_of,
    read_tokens,
    reads,
    rise_of,
    stage_of,
)
from trivium.study.report_judged import cosine
from trivium.study.report_run import Run
from trivium.study.report_text import count, listed, metric_name, number, plural, points, short, signed

RISE = 1.1  # of a loss over its beginning; the means over a tenth of a stage scatter by less
STILL = 0.99  # of a loss over its second quarter; gap filling that learns falls by more
MOST_PASSES = 4.0  # repeating text up to so often is nearly as good as new text (Muennighoff et al. 2023)
COARSE = 0.03  # an effect of 3 points is more than most ways to adapt an encoder bring
WITHIN = 4.0  # an effect 4 times too small to see asks for 16 times the rows: that is still a study
BY_HEART = 0.05  # nats: nearly every training row is right, with a probability of 95 %
STOPPED = 0.7  # of the planned updates
LATE_GAIN = 0.01  # a point in the last quarter of the looks: dev was still rising
CONFLICT = 0.5  # of the comparisons in which gradients point apart


@dataclass(frozen=True)
class Finding:
    """Something that often goes with a bad result, as it was found in a run.

    Attributes:
        rule: Key of the rule in ``RULES``.
        title: What it is, in a few words.
        arms: Whom it is about; empty if it is about the study.
        measured: What was measured, with numbers.
        matters: Why that may lie behind the result.
        advice: What to try.
    """

    rule: str
    title: str
    arms: tuple[str, ...]
    measured: str
    matters: str
    advice: str


Rule = Callable[[Run, Sequence[str]], Iterable[Finding]]


def diagnose(run: Run) -> list[Finding]:
    """What may lie behind each `hurt` and `no evidence` of a run, in the order of ``RULES``.

    Comparisons with the linear model are left aside: they ask another question.
    """
    arms = troubled(run)
    return [finding for rule in RULES.values() for finding in rule(run, arms)] if arms else []


def troubled(run: Run) -> list[str]:
    """The trained arms of comparisons without a gain, both sides: a baseline that collapsed explains as much."""
    unclear = [c for c in asked(run) if c.get("verdict") != "helped"]
    named = {c[side] for c in unclear for side in ("arm", "baseline")}
    return [arm for arm, about in run.verdict["arms"].items() if arm in named and not about.get("failed")]


# learning


def learning_rate(run: Run, arms: Sequence[str]) -> Iterator[Finding]:
    """A loss that rises while a stage warms up: the rate throws away what the encoder knew."""
    for (arm, stage), curves in losses_of(run, arms).items():
        for loss, seeds in curves.items():
            risen = [r for r in map(rise_of, seeds) if r is not None]
            if risen and 2 * sum(peak > RISE * first for first, peak in risen) > len(risen):
                first, peak = (fmean(column) for column in zip(*risen, strict=True))
                rate = number(stage_of(run, arm, stage).get("lr"))
                yield Finding(
                    "learning_rate",
                    "Learning rate too high",
                    (arm,),
                    f"In stage '{stage}' the {LOSSES[loss]} rose from {first:.2f} to {peak:.2f} in the first half"
                    + (f", with a peak rate of {rate:g}." if rate else "."),
                    "A loss that rises as the rate warms up means steps too large for these weights; what the encoder "
                    "knew before is partly lost, and the rest of the stage is spent on getting it back.",
                    (f"lr: {rate / 3:.1g} for this stage" if rate else "A third of the rate for this stage")
                    + ", or a longer warmup.",
                )
                break


def mlm_stands_still(run: Run, arms: Sequence[str]) -> Iterator[Finding]:
    """A masked-language-model loss that stopped falling early: reading taught nothing more."""
    for (arm, stage), curves in losses_of(run, arms).items():
        found = [quarters for curve in curves.get("mlm", ()) if (quarters := quarters_of(curve)) is not None]
        if found and 2 * sum(last >= STILL * second for second, last in found) > len(found):
            second, last = (fmean(column) for column in zip(*found, strict=True))
            yield Finding(
                "mlm_stands_still",
                "Filling gaps was not learned further",
                (arm,),
                f"In stage '{stage}' the masked-language-model loss was {second:.2f} in the second quarter of the "
                f"stage and {last:.2f} in the last.",
                "What reading can do for a task it does by learning to fill gaps. A small encoder from scratch may sit "
                "on the plateau where it knows how frequent words are and nothing else; a pretrained one may know this "
                "text already.",
                "More updates or a higher lr for an encoder from scratch, or a pretrained one; for a pretrained "
                "encoder, text nearer to the task.",
            )


def few_documents(run: Run, arms: Sequence[str]) -> Iterator[Finding]:
    """Documents that were read again and again."""
    for arm in arms:
        about = (run.manifest.get("arms") or {}).get(arm) or {}
        there = number((about.get("tokens") or {}).get("documents"))
        read = sum(map(read_tokens, about.get("stages") or []))
        if there and read > MOST_PASSES * there:
            yield Finding(
                "few_documents",
                "Too few documents for the updates",
                (arm,),
                f"Its documents have {count(there)} tokens, and its stages read {count(read)}: each document about "
                f"{read / there:.0f} times.",
                f"Text that is repeated up to {MOST_PASSES:g} times is worth nearly as much as new text; after that, "
                "less and less is learned from it, and more is learned by heart.",
                "A larger max_tokens or per_query, a larger corpus, or fewer updates of the stages that read.",
            )


def by_heart(run: Run, arms: Sequence[str]) -> Iterator[Finding]:
    """A training loss near zero while dev was at its best long before."""
    for (arm, stage), curves in losses_of(run, arms).items():
        looks = looks_of(run, arm, stage)
        ends = [fmean(v for _, v in curve[-max(1, len(curve) // 10) :]) for curve in curves.get("task", ())]
        early = [best for seed in looks.values() if (best := best_at(seed)) is not None]
        stood = [best for best in early if best[0] <= 0.5 and best[1] >= best[2]]
        if ends and fmean(ends) < BY_HEART and 2 * len(stood) > len(looks):
            yield Finding(
                "by_heart",
                "Rows learned by heart",
                (arm,),
                f"In stage '{stage}' the loss on training rows ended at {fmean(ends):.3f}, and dev was best after "
                f"{100 * fmean(at for at, _, _ in stood):.0f} % of the stage.",
                "When every training row is right, nothing is left to learn from them; what differs after that between "
                "arms is mostly chance.",
                "Fewer updates, more dropout or weight_decay, patience, or more labelled rows.",
            )


def stopped_early(run: Run, arms: Sequence[str]) -> Iterator[Finding]:
    """Early stopping that left much of the budget unused."""
    for arm in arms:
        made = number(run.verdict["arms"][arm].get("updates"))
        planned = number((((run.manifest.get("arms") or {}).get(arm) or {}).get("budget") or {}).get("updates"))
        if made and planned and made < STOPPED * planned:
            yield Finding(
                "stopped_early",
                "Stopped far before the end",
                (arm,),
                f"It made {count(made)} of {count(planned)} updates, the mean over seeds.",
                "Early stopping ended it while the rate was still high, where dev goes up and down; the other arms may "
                "have had more training.",
                "patience: null, or a larger one, so that all arms spend what they were given.",
            )


def undertrained(run: Run, arms: Sequence[str]) -> Iterator[Finding]:
    """A best look at dev at the very end, with dev still rising."""
    for arm in arms:
        stages = [str(stage["name"]) for stage in ((run.manifest.get("arms") or {}).get(arm) or {}).get("stages") or []]
        looks = looks_of(run, arm, stages[-1]) if stages else {}
        gains = [late_gain([value for _, value in seed]) for seed in looks.values() if len(seed) >= 4]
        rising = [gain for gain in gains if gain > LATE_GAIN]
        if gains and 2 * len(rising) > len(gains):
            yield Finding(
                "undertrained",
                "Still getting better at the end",
                (arm,),
                f"Dev was best at the very last look with {len(rising)} of {plural(len(gains), 'seed')}, and rose by "
                f"{points(fmean(rising))} points in the last quarter of stage '{stages[-1]}'.",
                "An arm that is cut off while it learns is judged by how fast it learns, not by how far it gets.",
                "More updates for all arms.",
            )


def collapsed_seed(run: Run, arms: Sequence[str]) -> Iterator[Finding]:
    """A seed that answers with one label only, or far below the others."""
    split = run.verdict["split"]
    for arm in arms:
        lines = [line for line in run.scores if line["arm"] == arm and line.get("split") == split]
        values = {line["seed"]: number((line.get("values") or {}).get(run.verdict["metric"])) for line in lines}
        known = {seed: value for seed, value in values.items() if value is not None}
        fallen = [seed for seed in known if fell(known, seed)]
        fallen += [line["seed"] for line in lines if one_label(line) and line["seed"] not in fallen]
        if fallen and len(lines) > 1:
            said = listed([f"seed {seed} ({points(values.get(seed))})" for seed in fallen])
            others = [value for seed, value in known.items() if seed not in fallen]
            yield Finding(
                "collapsed_seed",
                "Seeds that collapsed",
                (arm,),
                f"{said} answered with one label, or far below the others"
                + (f" ({points(fmean(others))} on the mean)." if others else "."),
                "A training that collapses says little about what was read or hidden, and a single one widens the "
                "interval so far that no ordinary effect can be seen.",
                "A lower lr or a longer warmup for the last stage, or more updates: small data sets need them.",
            )


def gradients_conflict(run: Run, arms: Sequence[str]) -> Iterator[Finding]:
    """Gradients of the two losses that point apart."""
    for arm in arms:
        found = [e for e in run.events if e["arm"] == arm and e.get("event") == "gradients"]
        cosines = [value for event in found if (value := number(event.get("cosine"))) is not None]
        if cosines and sum(value < 0 for value in cosines) > CONFLICT * len(cosines):
            layers = mean_layers(found)
            worst = min(layers, key=layers.__getitem__) if layers else ""
            yield Finding(
                "gradients_conflict",
                "Filling gaps and the task pull apart",
                (arm,),
                f"In {100 * sum(v < 0 for v in cosines) / len(cosines):.0f} % of {plural(len(cosines), 'comparison')} "
                f"the two losses' gradients on the backbone pointed apart (mean cosine {cosine(fmean(cosines))}"
                + (f"; {layer_name(worst)} most, {cosine(layers[worst])})." if worst else ")."),
                "Where an update for one loss raises the other, learning both in one stage costs each of them.",
                "A smaller mlm_weight, fewer documents in the mix, or reading first and the task after it (adapt, then "
                "finetune).",
            )


# judging


def leaks(run: Run, arms: Sequence[str]) -> Iterator[Finding]:
    """Held-out text that an arm could read, or that was looked at before."""
    screens = run.settings.get("screens")
    readers = tuple(arm for arm in arms if reads(run, arm))
    if isinstance(screens, dict) and screens.get("contamination") is False and readers:
        yield Finding(
            "leaks",
            "Held-out text may have been read",
            readers,
            "The screen for documents that hold parts of dev or test texts was off.",
            "An arm that reads the texts it is judged by is flattered; so may be its rival, and the difference between "
            "them then says nothing about reading.",
            "screens: {contamination: true}, the default.",
        )
    before = [str(n) for n in run.manifest.get("notes") or () if "test rows were looked at before" in str(n)]
    if before:
        yield Finding(
            "leaks",
            "The test rows were looked at before",
            (),
            before[0],
            "Whoever tries settings until the test rows like them measures luck, for the baseline as for the others.",
            "Choose settings on dev, and open the test split once, in a new run folder or with fresh rows.",
        )


def small_test(run: Run, arms: Sequence[str]) -> Iterator[Finding]:
    """A study too small for the effect that it saw, or for any but large ones."""
    rows = next((number(s.get("rows")) for s in run.scores if s.get("split") == run.verdict["split"]), None)
    seeds = len(run.verdict["seeds"])
    for c in asked(run):
        delta, smallest = number(c.get("delta")), number(c.get("smallest_detectable"))
        if c.get("verdict") != "no evidence" or delta is None or smallest is None:
            continue
        if smallest > abs(delta) and (WITHIN * abs(delta) >= smallest or smallest >= COARSE):
            yield Finding(
                "small_test",
                "Too small for the effect",
                (c["arm"], c["baseline"]),
                f"{short(c['arm'])} − {short(c['baseline'])} was {signed(delta)} points of "
                f"{metric_name(run.verdict['metric'])}; this study would have seen "
                + (f"{points(smallest)} or more" if smallest < 1 else "hardly any difference")
                + (f", with {count(rows)} rows and {plural(seeds, 'seed')}." if rows else "."),
                "“No evidence” then means that the question is open, not that nothing was gained.",
                needed(c),
            )


def dev_disagrees(run: Run, arms: Sequence[str]) -> Iterator[Finding]:
    """Dev and the split of the verdict that see a difference with opposite signs."""
    split, metric = run.verdict["split"], run.verdict["metric"]
    for c in asked(run) if split != "dev" else ():
        seen = [paired(run, c, part, metric) for part in ("dev", split)]
        if c.get("verdict") == "helped" or not all(seen):
            continue
        (dev, dev_se), (test, test_se) = (mean_and_error(differences) for differences in seen)
        if dev * test < 0 and abs(dev) > dev_se and abs(test) > test_se:
            yield Finding(
                "dev_disagrees",
                f"Dev and {split} disagree",
                (c["arm"], c["baseline"]),
                f"{short(c['arm'])} − {short(c['baseline'])} was {signed(dev)} points on dev and {signed(test)} on "
                f"{split}.",
                "Weights and settings are chosen on dev. If it differs in kind from the rows of the verdict, the "
                "choice is for the wrong rows; if it is small, the choice is luck.",
                "A larger dev split, drawn from the same source as the test rows.",
            )


RULES: Mapping[str, Rule] = {
    "learning_rate": learning_rate,
    "mlm_stands_still": mlm_stands_still,
    "few_documents": few_documents,
    "gradients_conflict": gradients_conflict,
    "by_heart": by_heart,
    "stopped_early": stopped_early,
    "undertrained": undertrained,
    "collapsed_seed": collapsed_seed,
    "dev_disagrees": dev_disagrees,
    "leaks": leaks,
    "small_test": small_test,
}
