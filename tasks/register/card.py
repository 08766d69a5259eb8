"""What a version is, on one page of Markdown: MLflow shows it as the version's description."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tasks.records import Candidate, Comparison, Dataset, Evaluation, FeatureSet, Inspection, Preprocessed
from tasks.ruling import Ruling
from tasks.target import LABEL, Target
from tasks.wording import IN_UNITS, REASON, brief, figure_text, quantity, shorten

FIGURES = (
    "accuracy", "average_precision_macro", "f1_macro", "exact_match", "roc_auc_macro", "log_loss", "ece", "mae", "rmse",
    "r2", "coverage_90", "calibration_error",
)  # fmt: skip
"""Those of a table, in its order, as far as they are there."""

NAMED = 20
"""Classes that are listed."""

MOST = 5_000
"""Letters that MLflow keeps of a description; parts beyond are left out, from the end."""

HALF = MOST // 2
"""Letters of a table of facts at most, so that there is room for what the gates say."""

GAP, BELOW = "\n\n", "\n\n---\n\n"
"""Between parts of a card, and between what the gates say and the rest."""

WELCOME = """Image models, trained by headstart. The alias `champion` is the version to use. The page of each
version says what it learned from, how good it is, and how it stood against the champion of its time.

```
headstart models {name}
headstart predict {name}@champion FOLDER
headstart promote {name} VERSION --why "..."
headstart rollback {name} --why "..."
```"""
"""Of the registered model."""


def card(
    run_id: str, keeper: str, dataset: Dataset, preprocessed: Preprocessed, features: FeatureSet,
    candidate: Candidate, evaluation: Evaluation, comparison: Comparison | None, inspection: Inspection | None = None,
) -> str:  # fmt: skip
    """The card of a version that is about to be made; what the gates say of it comes before it (`with_verdict`).

    Args:
        keeper: the run that keeps the evaluation's figures, which may be an earlier one.
    """
    parts = [_facts(dataset, preprocessed, features, candidate), _figures(evaluation), *_further(dataset, evaluation)]
    parts += _attacked(inspection)
    if comparison and comparison.images:
        parts.append(_compared(comparison))
    ends = [
        _picture(keeper, dataset),
        f"```\nheadstart data checkout {dataset.version[:12]}   # the images that it learned from\n"
        f"mlflow artifacts download --run-id {run_id} --artifact-path config.yaml   # the configuration\n```",
    ]
    parts += _findings(evaluation, comparison, MOST - len(GAP.join([*parts, *ends])) - len(GAP))
    return _fitting([*parts, *ends])


def with_verdict(about: str, verdict: str, rulings: Iterable[Ruling]) -> str:
    """A card, and before it the verdict with what each gate said: of many that say much, the first; parts at the end
    that do not fit are left out."""
    about = about.rpartition(BELOW)[2]  # a version that is judged once more has one already
    rows = (
        (ruling.gate, ruling.outcome, ruling.threshold or "–", ruling.measured or "–", brief(ruling.reason, REASON))
        for ruling in rulings
    )
    heading = f"### {_literal(brief(verdict, REASON))}{GAP}"
    facts = min(HALF, len(about.partition(GAP)[0]))
    room = MOST - len(heading) - len(BELOW) - facts
    top = f"{heading}{_table(('gate', 'says', 'asked', 'measured', 'why'), rows, room, ', in the tags')}{BELOW}"
    return top + _fitting(about.split(GAP), MOST - len(top))


def _fitting(parts: Iterable[str], room: int = MOST) -> str:
    """The first of the parts, up to the one that does not fit."""
    text = ""
    for part in parts:
        longer = f"{text}{GAP}{part}" if text else part
        if len(longer) > room:
            break
        text = longer
    return text


def _facts(dataset: Dataset, preprocessed: Preprocessed, features: FeatureSet, candidate: Candidate) -> str:
    splits = ", ".join(f"{count:,} {split}" for split, count in dataset.counts.items())
    chosen = ", ".join(f"{what} {value:g}" for what, value in candidate.chosen.items())
    trained = "head and backbone" if candidate.backbone else "head"
    leading, told = _told(dataset.target)
    rows = {
        "data": f"{dataset.source}: {splits}; version `{dataset.version[:12]}`",
        leading: told,
        "images": f"{preprocessed.size}×{preprocessed.size} pixels, {preprocessed.fit}, "
        f"views: {preprocessed.views}, {preprocessed.interpolation}, crop: {preprocessed.crop:g}",
        "backbone": f"{features.backbone}, {features.weights}, layer {' + '.join(features.layers)}",
        **{
            f"beside it, {place}": f"{other.backbone}, {other.weights}, layer {' + '.join(other.layers)}, "
            f"{other.geometry['size']} pixels"
            for place, other in enumerate(features.beside, 1)
        },
        "method": f"{candidate.method} ({trained}), {chosen} {chosen_how(candidate, dataset)}",
    }
    if candidate.teachers:
        rows["teachers"] = ", ".join(candidate.teachers)
    told_of_all = [*rows.items(), *map(_told, dataset.further)]  # those last, of which some may not fit
    return _table(("", ""), ((f"**{what}**", value) for what, value in told_of_all), HALF)


def chosen_how(candidate: Candidate, dataset: Dataset | None) -> str:
    """How a candidate was chosen; empty where that is not known."""
    if candidate.cross_validated:
        return "chosen by cross-validation"
    if dataset is None:
        return ""
    return "chosen on validation" if dataset.choose_on == "val" else f"chosen on {dataset.choose_on}"


def _told(target: Target) -> tuple[str, str]:
    """What a task is, and what it tells."""
    if target.kind == "number":
        return target.name, f"a number, in {target.unit}" if target.unit else "a number"
    what = f"{len(target.classes):,}: {brief(shorten(target.classes, NAMED), REASON)}"
    named = target.name if target.name != LABEL else "classes"
    return named, f"{what}; an image may have several" if target.kind == "labels" and target.name != LABEL else what


def held_out(dataset: Dataset, evaluation: Evaluation) -> str:
    """The leading task's figure on held-out images, as lists show it."""
    split, target = dataset.report_on, dataset.target
    if target.kind == "number":
        mae, r2 = (evaluation.metrics[f"{split}/{name}"][0] for name in ("mae", "r2"))
        return f"MAE {quantity(mae, target.unit)}, R² {r2:.4f} ({split})"
    figure = "average_precision_macro" if dataset.multi_label else "accuracy"
    return f"{evaluation.metrics[f'{split}/{figure}'][0]:.4f} ({split})"


def _further(dataset: Dataset, evaluation: Evaluation) -> Iterator[str]:
    """A row for each further task: how many held-out images have a label, and what it is judged by."""
    split, rows = dataset.report_on, []
    for target in dataset.further:
        known = [(each, evaluation.metrics.get(f"{split}/{target.name}/{each}")) for each in FIGURES]
        shown = [f"{each} {_within(each, value)}" for each, value in known if value][:2]
        images = f"{target.images.get(split, 0):,}" if target.images else "–"
        rows.append((target.name, images, ", ".join(shown) or "not measured"))
    if rows:
        yield f"### Further tasks\n\n{_table(('', f'images of {split}', 'figures with 95% intervals'), iter(rows))}"


def _within(figure: str, interval: tuple[float, float, float]) -> str:
    value, low, high = (figure_text(each, figure) for each in interval)
    return f"{value} [{low}, {high}]"


def _figures(evaluation: Evaluation) -> str:
    """A row for each figure, a column for each split."""
    splits = list(dict.fromkeys(name.partition("/")[0] for name in evaluation.metrics))

    def cell(split: str, figure: str) -> str:
        return _within(figure, evaluation.metrics[f"{split}/{figure}"])

    known = [figure for figure in FIGURES if f"{splits[0]}/{figure}" in evaluation.metrics]
    rows = ((figure, *(cell(split, figure) for split in splits)) for figure in known)
    return f"### Figures\n\n{_table(('with 95% intervals', *splits), rows)}"


def _attacked(inspection: Inspection | None) -> Iterator[str]:
    """What is left of right answers when pixels are moved by so many levels of 255, where that was measured."""
    if inspection is None:
        return
    found = {name.partition("/attacked_")[2]: interval for name, interval in inspection.metrics.items()}
    told = [
        f"{radius.replace('_', '/')}: {value:.4f} [{low:.4f}, {high:.4f}]"
        for radius, (value, low, high) in found.items()
        if radius
    ]
    if told:
        yield f"Right under attack, each pixel moved by at most {', '.join(told)}."


def _compared(comparison: Comparison) -> str:
    rows = (_changed(name, values) for name, values in comparison.metrics.items() if name.partition("/")[2] in FIGURES)
    images = " and ".join(f"{count:,} {split}" for split, count in comparison.images.items())
    head = ("", "champion then", "this one", "difference")
    title = f"### Against version {comparison.version}"
    return f"{title}\n\n{_table(head, rows)}\n\nOn {images} images that neither has learned from."


def _changed(name: str, values: tuple[float, float, float, float, float]) -> tuple[str, ...]:
    figure = name.partition("/")[2]
    ours, theirs, *_ = (figure_text(value, figure) for value in values)
    digits = ".3g" if figure in IN_UNITS else ".4f"
    difference, low, high = (format(value, f"+{digits}") for value in values[2:])
    return name, theirs, ours, f"{difference} [{low}, {high}]"


def _findings(evaluation: Evaluation, comparison: Comparison | None, room: int) -> Iterator[str]:
    lines = [*evaluation.findings, *(comparison.findings if comparison else ())]
    if lines:
        yield _first_of([], [f"- {_literal(line)}" for line in lines], room, "- and {} more, in the report")


def _picture(run_id: str, dataset: Dataset) -> str:
    """MLflow's page gets artifacts of a run by this address."""
    figure = {"class": "confusion", "labels": "precision_recall", "number": "scatter"}[dataset.target.kind]
    return f"![{dataset.report_on}](get-artifact?path=figures%2F{dataset.report_on}_{figure}.png&run_uuid={run_id})"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]], room: int = MOST, where: str = "") -> str:
    """A table of at most ``room`` letters; where rows that are left out can be found is ``where``."""
    above, lines = [_line(head), _line(("---",) * len(head))], [_line(map(_cell, row)) for row in rows]
    return _first_of(above, lines, room, f"| and {{}} more{where} |")


def _first_of(above: list[str], lines: list[str], room: int, more: str) -> str:
    """Lines of at most ``room`` letters: of too many the first, and how many are left out."""
    for shown in range(len(lines), -1, -1):
        left = [more.format(len(lines) - shown)] if shown < len(lines) else []
        text = "\n".join([*above, *lines[:shown], *left])
        if len(text) <= room:
            break
    return text


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(text: str) -> str:
    return _literal(text).replace("|", "\\|").replace("\n", " ")


def _literal(text: str) -> str:
    """Names of classes and files may look like HTML."""
    return text.replace("<", "&lt;")
