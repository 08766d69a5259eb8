"""Runs in words: a line per stage, and the summary at the end."""

from __future__ import annotations

import math
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from tasks.choice import Choice
from tasks.records import (
    Candidate,
    Comparison,
    Dataset,
    Evaluation,
    FeatureSet,
    Inspection,
    Preprocessed,
    Record,
    RegisteredModel,
    Report,
)
from tasks.register.card import chosen_how
from tasks.target import LABEL, Target
from tasks.wording import figure_text, shorten, signed

ACCURACY, AVERAGE_PRECISION, ERROR = "accuracy", "average_precision_macro", "mae"
JUDGED = {"class": ACCURACY, "labels": AVERAGE_PRECISION, "number": ERROR}
"""What runs are judged by: with one label an image, with several, and with a number."""
SHOWN = (ACCURACY, AVERAGE_PRECISION, "f1_macro", "exact_match", "roc_auc_macro", ERROR, "rmse", "r2", "coverage_90")
"""Figures of a summary, those that there are."""
BESIDE = {
    "class": {ACCURACY: "accuracy", "f1_macro": "F1"},
    "labels": {AVERAGE_PRECISION: "average precision", "f1_macro": "F1"},
    "number": {ERROR: "MAE", "r2": "R²"},
}  # fmt: skip
"""Figures of a further task, by its kind, and how they are called."""


class Outcome(BaseModel):
    """What a run of the pipeline leaves behind: the records of its stages and the id of its MLflow run."""

    model_config = ConfigDict(frozen=True)

    run_id: str
    dataset: Dataset
    features: FeatureSet
    candidate: Candidate
    evaluation: Evaluation
    comparison: Comparison | None = None
    inspection: Inspection | None = None
    model: RegisteredModel
    report: Report
    choice: Choice | None = None
    new: int
    """Images whose features this run computed."""

    @property
    def reused(self) -> int:
        """Images whose features were there."""
        return self.features.new + self.features.reused - self.new

    @property
    def headline(self) -> str:
        """Name of the figure that the run is judged by, on images that nothing was chosen on."""
        return f"{self.dataset.report_on}/{JUDGED[self.dataset.target.kind]}"


def describe(record: Record, cached: bool) -> str:
    """A stage's result as ``stage<TAB>sentence``; ``cached`` when it was found, not made."""
    match record:
        case Dataset():
            return f"ingest\t{_dataset(record)}"
        case Preprocessed():
            views = {"one": "", "mirrored": ", and its mirror image", "ten": ", ten views"}[record.views]
            return f"preprocess\t{record.size}×{record.size} pixels, {record.fit}{views}"
        case FeatureSet():
            new = 0 if cached else record.new
            rate = f", {new / record.seconds:,.0f} img/s" if new else ""
            return f"extract\t{_backbones(record)}: {new:,} new, {record.new + record.reused - new:,} reused{rate}"
        case Candidate():
            return f"train\t{_candidate(record)}"
        case Evaluation():
            leading = {name: value for name, (value, *_) in record.metrics.items() if name.count("/") == 1}
            there = {name.partition("/")[2] for name in leading}
            judged = next((f"/{figure}" for figure in JUDGED.values() if figure in there), "/")
            shown = {name: value for name, value in leading.items() if name.endswith(judged)}
            told = (f"{name} {figure_text(value, judged.removeprefix('/'))}" for name, value in shown.items())
            return f"evaluate\t{', '.join(told)}"
        case Inspection():
            return f"inspect\t{_inspection(record)}"
        case Comparison():
            return f"compare\t{_comparison(record)}"
        case RegisteredModel():
            return f"register\t{record.name} version {record.version}, {_alias(record)}"
        case Choice():
            return f"auto\t{_choice(record)}"
        case Report():
            return f"report\ta page of {record.page.stat().st_size / 1e6:.1f} MB"
    raise TypeError(f"no words for {type(record).__name__}")


def summary_rows(outcome: Outcome) -> list[tuple[str, str]]:
    """The summary of a run as (what, value) pairs."""
    dataset, features, model = outcome.dataset, outcome.features, outcome.model
    splits = ", ".join(f"{count:,} {split}" for split, count in dataset.counts.items())
    rows = [
        ("dataset", f"{_dataset(dataset)}\n{splits}\nversion {dataset.version}"),
        ("features", f"{outcome.new:,} new, {outcome.reused:,} reused; {features.width} an image\n"
         f"{_backbones(features, layers=True)}, {features.precision} on {features.device}"),
        ("candidate", _candidate(outcome.candidate, dataset)),
    ]  # fmt: skip
    if outcome.choice:
        rows.insert(2, ("choice", f"{_choice(outcome.choice)}\n{outcome.choice.why}"))
    if dataset.findings:
        rows.insert(1, ("findings", "\n".join(dataset.findings)))
    if features.look_alikes:
        across = f"{features.straddling:,} across splits" if features.straddling else "none across splits"
        rows.insert(-1, ("look-alikes", f"{features.confirmed:,} pairs confirmed by their features, {across}"))
    shown = [f"{split}/{name}" for split in (dataset.report_on, dataset.choose_on) for name in SHOWN]
    rows += [(name, figure(outcome, name)) for name in shown if name in outcome.evaluation.metrics]
    rows += [row for split in (dataset.report_on, dataset.choose_on) for row in further_rows(outcome, split)]
    if outcome.comparison:
        rows.append(("comparison", "\n".join(comparison_lines(outcome.comparison))))
    found = outcome.evaluation.findings + (outcome.inspection.findings if outcome.inspection else ())
    if found:
        rows.append(("evidence", "\n".join(found)))
    return [*rows, ("gate", _gates(model)), ("model", f"{model.name} version {model.version}, {_alias(model)}")]


def further_rows(outcome: Outcome, split: str) -> list[tuple[str, str]]:
    """A row for each further task that was measured on a split."""
    found = []
    for target in outcome.dataset.further:
        name = f"{split}/{target.name}"
        names = {f"{name}/{figure}": called for figure, called in BESIDE[target.kind].items()}
        told = [
            f"{called} {figure(outcome, each)}" for each, called in names.items() if each in outcome.evaluation.metrics
        ]
        if told:
            found.append((name, ", ".join(told)))
    return found


def comparison_lines(comparison: Comparison) -> list[str]:
    """A candidate against the champion, a line for each split and each thing worth knowing."""
    lines = [f"with the champion, version {comparison.version}"]
    for split, images in comparison.images.items():
        name = next(figure for figure in JUDGED.values() if f"{split}/{figure}" in comparison.metrics)
        changed = _changed(comparison.metrics[f"{split}/{name}"], name)
        near = f", {comparison.near[split]:,} as look-alikes" if comparison.near.get(split) else ""
        out = f" ({comparison.left_out[split]:,} left out{near})" if comparison.left_out[split] else ""
        least = comparison.detectable[split]
        seen = "" if math.isnan(least) else f"; could have seen {figure_text(least, name)}"
        lines.append(
            f"{split}/{name} {changed} on {images:,} images{out}; {comparison.gained[split]:,} gained, "
            f"{comparison.lost[split]:,} lost, p {comparison.p_values[split]:.2g}{seen}"
        )
    for named in comparison.further:
        figure = next(each for each in JUDGED.values() if f"{named}/{each}" in comparison.metrics)
        lines.append(
            f"{named}/{figure} {_changed(comparison.metrics[f'{named}/{figure}'], figure)} on "
            f"{comparison.further[named]:,} images, p {comparison.p_values[named]:.2g}"
        )
    if not comparison.images:
        lines.append("no image that neither has learned from")
    renamed = tuple(f"{old} → {new}" for old, new in comparison.renamed.items())
    changes = (("new", comparison.new), ("gone", comparison.gone), ("renamed", renamed))
    lines += [f"classes {what}: {shorten(names)}" for what, names in changes if names]
    return [*lines, *comparison.findings]


def _changed(values: tuple[float, float, float, float, float], name: str) -> str:
    ours, theirs, *differences = values
    gain, low, high = (signed(figure_text(each, name)) for each in differences)
    return f"{figure_text(theirs, name)} → {figure_text(ours, name)}: {gain} [{low}, {high}]"


def figure(outcome: Outcome, name: str) -> str:
    """A figure with its 95% interval, and what both are over where that is not each image and every class."""
    evaluation, of = outcome.evaluation, _task_of(outcome.dataset, name)
    every = len(of.classes)
    value, low, high = evaluation.metrics[name]
    over = []
    split, (where, _, what) = name.partition("/")[0], name.rpartition("/")
    if where in evaluation.groups:
        over.append(f"{evaluation.groups[where]:,} groups")
    if (classes := evaluation.classes.get(name, every)) < every:
        over.append(f"{classes:,} of {every:,} classes")
    bounds = "no interval" if math.isnan(low) else f"[{figure_text(low, what)}, {figure_text(high, what)}]"
    told = f"{figure_text(value, what, of.unit)}  {bounds}" + (f" over {' and '.join(over)}" if over else "")
    leak = evaluation.leaks.get(split) if where == split and what in JUDGED.values() else None
    return f"{told}; inflated: {leak}" if leak and leak.is_material else told


def _task_of(dataset: Dataset, name: str) -> Target:
    """The task that a figure is of: ``split/figure`` or ``split/task/figure``."""
    _, *between, _ = name.split("/")
    return next((target for target in dataset.further if [target.name] == between), dataset.target)


def one_line(outcome: Outcome) -> str:
    """The outcome in one line, for logs."""
    value = figure(outcome, outcome.headline)
    model = outcome.model
    return f"{model.name} version {model.version} ({_alias(model)}): {outcome.headline} {value}"


def _comparison(comparison: Comparison) -> str:
    what = f"champion is version {comparison.version}"
    split = next(filter(None, (comparison.judged_on, *comparison.images)), None)
    if split is None:
        return f"{what}: no image that neither has learned from"
    gained, lost = comparison.gained[split], comparison.lost[split]
    return f"{what}: of {comparison.images[split]:,} {split} images {gained:,} gained, {lost:,} lost"


def _choice(choice: Choice) -> str:
    return f"{choice.method} on {choice.backbone}, chosen {choice.spent:.0f} s into a budget of {choice.budget:.0f} s"


def _inspection(inspection: Inspection) -> str:
    told = [
        f"{name} {value:.4f} on {inspection.images[name.split('/')[1]]:,} images"
        for name, (value, *_) in inspection.metrics.items()
    ]
    explained = inspection.images.get("explained", 0)
    return ", ".join([*told, *[f"{explained} answers explained"] * bool(explained)]) or "nothing measured"


def _gates(model: RegisteredModel) -> str:
    """The verdict, and below it the gates by what they say."""
    said: dict[str, list[str]] = {}
    for ruling in model.rulings:
        said.setdefault(ruling.outcome, []).append(ruling.gate)
    return "\n".join([model.verdict, *(f"{outcome}: {', '.join(gates)}" for outcome, gates in said.items())])


def _alias(model: RegisteredModel) -> str:
    return model.alias or "no alias"


def _dataset(dataset: Dataset) -> str:
    kept_out = f", {dataset.quarantined:,} quarantined" if dataset.quarantined else ""
    images = f"{dataset.source}: {sum(dataset.counts.values()):,} images"
    if dataset.target.name == LABEL:
        return f"{images}, {len(dataset.classes):,} classes{kept_out}"
    return f"{images}, {', '.join(f'{target.name} ({_task(target)})' for target in dataset.targets)}{kept_out}"


def _task(target: Target) -> str:
    if target.kind == "number":
        return f"a number in {target.unit}" if target.unit else "a number"
    return f"{len(target.classes):,} classes" + (", several an image" if target.kind == "labels" else "")


def _backbones(features: FeatureSet, layers: bool = False) -> str:
    return " + ".join(
        f"{_backbone(each)}{', layer ' + ' + '.join(each.layers) if layers else ''}" for each in features.sets
    )


def _backbone(features: FeatureSet) -> str:
    path = Path(features.weights)
    return f"{features.backbone} ({'as tuned' if path.parent.parent.name == 'candidates' else path.name})"


def _candidate(candidate: Candidate, dataset: Dataset | None = None) -> str:
    values = ", ".join(f"{name} {value:g}" for name, value in candidate.chosen.items())
    what = f"{candidate.method} head" if candidate.backbone is None else f"{candidate.method}, head and backbone"
    tried = f"; the best of {len(candidate.scores)} seeds" if candidate.scores else ""
    taught = f"; taught by {', '.join(candidate.teachers)}" if candidate.teachers else ""
    return f"{what}, {values} {chosen_how(candidate, dataset)}".rstrip() + tried + taught
