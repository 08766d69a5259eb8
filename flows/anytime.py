"""`train.method: auto`: a registered model at once, and by the end of its budget the best that there was time to find.

What is done next is decided by `tasks.train.anytime.plan`; here it is carried out, by the stages that any pipeline has.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from flows.checks import TASKS, check_classes, check_once
from flows.clock import Budget
from flows.config import PipelineConfig
from flows.contenders import UNSUITED, contenders, passed_over, reason, reckoned, with_section
from flows.runs.summary import Outcome
from flows.runs.tracking import TrackedRun, tracked
from tasks.choice import Choice
from tasks.errors import StorageError
from tasks.extract.check import weights_state
from tasks.extract.stage import extract
from tasks.fingerprint import code_version, fingerprint
from tasks.ingest.stage import ingest
from tasks.preprocess.kinds import VIEWS
from tasks.preprocess.stage import preprocess
from tasks.progress import tell
from tasks.record import Record
from tasks.records import Dataset, FeatureSet, Preprocessed
from tasks.train.anytime.notes import Notes
from tasks.train.anytime.plan import RANKED, next_step, winner
from tasks.train.anytime.recipe import section_of
from tasks.train.anytime.situation import Contender, Situation
from tasks.train.anytime.step import Step
from tasks.train.check import begins_from, check_pool
from tasks.train.methods import METHODS
from tasks.train.methods.auto import Auto
from tasks.train.stage import attempt, train
from tasks.train.tuning.clock import ending_after
from tasks.train.tuning.config import TuningConfig
from tasks.wording import shorten
from tasks.workspace import Workspace

OVERHEAD, EACH_JUDGED = 25.0, 0.002
"""Seconds from a head to its registered version, and of each image that it is evaluated on, until they are measured."""

CarryThrough = Callable[[PipelineConfig, TrackedRun, Choice | None], Outcome]
"""The stages of a pipeline, one after another."""


def anytime(config: PipelineConfig, run: TrackedRun, carry_through: CarryThrough) -> Outcome:
    """Carry a linear probe through to a registered version, find something better, and carry that through.

    Both are runs of their own inside this one, with the configuration that anyone could have written: so they are
    reported, compared and made again like all others. Killed, a second start takes up what has been noted.
    """
    course = Course(config, run, carry_through)
    while step := course.next():
        course.take(step)
    return course.finish()


class Course:
    """The way of a run within its budget.

    Attributes:
        pipelines: with each of the backbones that compete, by name.
        probed: what the probe came to, where it was this process that carried it through.
    """

    def __init__(self, config: PipelineConfig, run: TrackedRun, carry_through: CarryThrough) -> None:
        assert isinstance(config.train, Auto)
        began = time.time()
        self.config, self.auto, self.run, self.carry_through = config, config.train, run, carry_through
        self.pipelines = contenders(config)
        if left := passed_over(config):
            tell(f"auto\tdo not compete, as others are cheaper: {shorten(left)}; train.backbones names what does")
        self.probed: Outcome | None = None
        self.dataset = ingest(config.ingest)
        run.log(self.dataset)
        check_classes(config, self.dataset)
        check_pool(self.auto, self.dataset)
        self.notes = Notes(_place_of_notes(config, self.pipelines, self.dataset, run.workspace), self.auto.seconds)
        self.budget = Budget(self.auto.seconds, self.notes.spent, began)
        self.situation = situation_of(config, self.pipelines, self.dataset, run.workspace)
        for step in self.notes.done:
            self._learn(step)

    def next(self) -> Step | None:
        """The step that a kill interrupted, or the one that comes next."""
        step = self.notes.unfinished
        if step and (room := self._room(step)) is not None and room <= 0:
            return replace(step, state="left out", why="it was interrupted, and there is no time to go on with it")
        return step or next_step(self.situation, self.notes.done, self.budget.left)

    def take(self, step: Step) -> None:
        """Carry a step out, and note what came of it. What is wrong with a single contender does not end the run; a
        full disk does, and a second start takes the step up again."""
        if step.state == "left out":
            self.notes.end([step], self.budget.spent)
            tell(f"auto\t{in_words(step)}")
            return
        begun, began = self.notes.begin(step, self.budget.spent), time.monotonic()
        before = 0.0 if math.isnan(step.took) else step.took  # of starts that were killed

        def took() -> float:
            return before + time.monotonic() - began

        try:
            with self.notes.kept_up(lambda: self.budget.spent, took), ending_after(self._room(begun)):
                came = getattr(self, f"_{step.kind}")(begun)
        except UNSUITED as error:
            if step.kind == "probe" or isinstance(error, StorageError):
                raise
            came = [replace(begun, state="failed", why=reason(error))]
        each = took() / max(1, len(came))
        came = [replace(part, took=each, predicted=step.predicted / max(1, len(came))) for part in came]
        for part in came:
            self._learn(part)
            tell(f"auto\t{in_words(part)}\t{each:.1f} s")
        self.notes.end(came, self.budget.spent)

    def finish(self) -> Outcome:
        """Carry the winner through, and say so in the run that it was found by."""
        chosen = winner(self.notes.done)
        choice = self.run.record(self.notes.choice(chosen, self.run.workspace.cache))
        if chosen.kind == "probe" and self.probed:  # there was time for nothing else
            outcome = self.probed.model_copy(update={"choice": choice})
        else:
            outcome = self._carry(chosen, "chosen", choice)
        for record in _records(outcome):
            self.run.log(record)
        return outcome.model_copy(update={"run_id": self.run.id})

    def _probe(self, step: Step) -> list[Step]:
        began = time.time()
        outcome = self.probed = self._carry(step, "probe")
        took, score = time.time() - began, outcome.candidate.score
        fresh = sum(record.took for record in _records(outcome) if record.made >= began)
        after = [outcome.evaluation, outcome.inspection, outcome.comparison, outcome.model, outcome.report]
        # What was found in a cache has to be reckoned with all the same: the winner's will not be there.
        overhead = sum(record.took for record in after if record) + max(0.0, took - fresh)
        return [replace(step, state="done", score=score, overhead=overhead)]

    def _rank(self, step: Step) -> list[Step]:
        from tasks.evaluate.transferability.ranking import ranking
        from tasks.evaluate.transferability.rating import rate_backbone
        from tasks.evaluate.transferability.sample import draw_sample
        from tasks.groups import group_numbers

        workspace, unsuited, rated = self.run.workspace, [], []
        sample = draw_sample(self.dataset, min(step.images, RANKED), workspace)
        for name, pipeline in self.pipelines.items():
            try:
                check_once(pipeline, workspace)
                preprocessed = preprocess(pipeline.preprocess, self.dataset)
                features = extract(pipeline.extract, sample, preprocessed, ("train",))
                rated.append(rate_backbone(name, sample, preprocessed, features, workspace))
            except StorageError:  # which would meet the next one, too
                raise
            except UNSUITED as error:
                unsuited.append(replace(step, backbone=name, state="failed", why=reason(error)))
        if not rated:
            return unsuited
        table = ranking(rated, group_numbers(sample.read_manifest()))
        return [
            replace(
                step, backbone=row["backbone"], state="done", score=row["probe"], may_be_best=bool(row["ties"]),
                judged=sample.counts["train"], milliseconds=row["ms"],
            )
            for row in table.to_dict("records")
        ] + unsuited  # fmt: skip

    def _head(self, step: Step) -> list[Step]:
        ready, began = self._ready(step), time.monotonic()
        trial = attempt(self._pipeline(step).train, *ready, step.images, step.judged)
        came = replace(step, state="done", score=trial.score, frozen=trial.frozen, judged=trial.judged)
        return [replace(came, fitted=time.monotonic() - began)]

    def _tune(self, step: Step) -> list[Step]:
        trial = attempt(self._pipeline(step).train, *self._ready(step), step.images, step.judged)
        came = replace(step, state="done", score=trial.score, frozen=trial.frozen, judged=trial.judged)
        return [replace(came, epochs=len(trial.curve), passed=trial.seen)]

    def _final(self, step: Step) -> list[Step]:
        candidate = train(self._pipeline(step).train, *self._ready(step))
        return [replace(step, state="done", score=candidate.score)]

    def _ready(self, step: Step) -> tuple[Dataset, Preprocessed, FeatureSet]:
        """What a step's backbone makes of the images: found, or made now."""
        pipeline = self.pipelines[step.backbone]
        preprocessed = seen = preprocess(pipeline.preprocess, self.dataset)
        if step.kind == "final":  # as its configuration does by itself; trials go on from what heads have seen
            seen = begins_from(self._pipeline(step).train, preprocessed)
        return self.dataset, preprocessed, extract(pipeline.extract, self.dataset, seen)

    def _pipeline(self, step: Step) -> PipelineConfig:
        """What a step does, as a configuration."""
        section = section_of(step, self.auto, self.situation.train)
        return with_section(self.pipelines[step.backbone], section)

    def _carry(self, step: Step, what: str, choice: Choice | None = None) -> Outcome:
        pipeline, run = self._pipeline(step), self.run
        name = f"{run.client.get_run(run.id).info.run_name}-{what}"
        with tracked(pipeline, run.workspace, name, inside=run.id) as inner:
            return self.carry_through(pipeline, inner, choice)

    def _room(self, step: Step) -> float | None:
        """Seconds that a step may take at the most: one that a kill interrupted has less than it was given. The first
        model is made in any case."""
        if step.kind == "probe":
            return None
        return self.budget.left - self.situation.reserve(step.backbone, tuned=step.kind in ("tune", "final"))

    def _learn(self, step: Step) -> None:
        """Take what a step has measured of the machine for what is known."""
        if not math.isnan(step.milliseconds):
            self.situation = self.situation.at_speed(step.backbone, step.milliseconds)
        if not math.isnan(step.overhead):
            self.situation = replace(self.situation, overhead=step.overhead)
        if not math.isnan(step.fitted):
            self.situation = self.situation.with_head(step.method, step.fitted)


def situation_of(
    config: PipelineConfig, pipelines: dict[str, PipelineConfig], dataset: Dataset, workspace: Workspace
) -> Situation:
    """What is known before the first step: the first backbone's speed is measured, and so are those that cannot be
    reckoned from it."""
    assert isinstance(config.train, Auto)
    tuned = tuple(name for name in config.train.methods if issubclass(METHODS[name], TuningConfig))
    heads = tuple(dict.fromkeys(("linear", *(name for name in config.train.methods if name not in tuned))))
    first = next(iter(pipelines.values()))
    milliseconds = _measured(first, dataset, workspace)
    counts = dataset.counts
    judged, held_out = counts.get(dataset.choose_on, 0), counts.get(dataset.report_on, 0)

    def speed(pipeline: PipelineConfig) -> float:
        if (known := reckoned(pipeline, first, milliseconds)) is not None:
            return known
        try:
            return _measured(pipeline, dataset, workspace)
        except UNSUITED:  # its own step will say so
            return milliseconds

    return Situation(
        tuple(Contender(name, speed(each)) for name, each in pipelines.items()), heads, tuned,
        counts.get("train", 0), judged, held_out, OVERHEAD + EACH_JUDGED * (judged + held_out),
        counts.get("partial", 0), config.preprocess.augmented, VIEWS[config.preprocess.views],
    )  # fmt: skip


def _measured(pipeline: PipelineConfig, dataset: Dataset, workspace: Workspace) -> float:
    """Milliseconds of an image through a pipeline's backbone, on this machine."""
    from tasks.extract.backbones import load_backbone
    from tasks.extract.precision import choose_device, choose_precision
    from tasks.extract.speed import TIMED, milliseconds_of
    from tasks.extract.weights import read_weights
    from tasks.preprocess.recipe import Recipe

    asked = pipeline.extract
    weights = read_weights(asked.backbone, asked.weights, workspace.resolve(asked.weights))
    backbone, _ = load_backbone(asked.backbone, weights, asked.layers, asked.pool, pipeline.preprocess.size)
    geometry = pipeline.preprocess.model_dump(exclude={"augmented"})
    images = [dataset.image(content) for content in dataset.read_manifest()["hash"].sample(frac=1, random_state=0)]
    device = choose_device(asked.device)
    recipe = Recipe(**geometry, limits=dataset.limits)
    return milliseconds_of(backbone, images[:TIMED], recipe, device, choose_precision(asked.precision, device))


def in_words(step: Step) -> str:
    """A step in a line."""
    what = " ".join(filter(None, (step.kind, step.backbone, step.method)))
    if step.state != "done":
        return f"{what} {step.state}: {step.why}"
    score = "" if math.isnan(step.score) else f": {step.score:.4f}"
    gain = f" ({step.gain:+.4f} over frozen)" if step.kind == "tune" else ""
    return f"{what}{score}{gain}; {step.predicted:.0f} s were predicted"


def _place_of_notes(
    config: PipelineConfig, pipelines: dict[str, PipelineConfig], dataset: Dataset, workspace: Workspace
) -> Path:
    """Another budget takes the same notes up; another configuration, dataset or code has its own, and so have other
    backbones or weights."""
    values = config.model_dump(mode="json", by_alias=True)
    values["train"].pop("budget")
    code = code_version(TASKS / "train")
    competing = {name: weights_state(each.extract, workspace) for name, each in pipelines.items()}
    return workspace.cache / "anytime" / f"{fingerprint(values, dataset.fingerprint, code, competing)}.json"


def _records(outcome: Outcome) -> list[Record]:
    made = (
        outcome.dataset, outcome.features, outcome.candidate, outcome.evaluation, outcome.inspection,
        outcome.comparison, outcome.model, outcome.report,
    )  # fmt: skip
    return [record for record in made if record is not None]
