"""What is written about thresholds and costs: tables, pictures, and what was chosen."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from tasks.evaluate.config import EvaluateConfig
from tasks.evaluate.decisions.figures import operating_point_figure, risk_coverage_figure
from tasks.evaluate.decisions.thresholds import Chosen, as_json, choose, state
from tasks.evaluate.report import Answers
from tasks.evaluate.scores.intervals import Interval
from tasks.evaluate.scores.selective import rightness, risk_coverage, sureness
from tasks.records import Dataset


def report_choices(
    config: EvaluateConfig, dataset: Dataset, choosing: Answers, found: Sequence[Answers], folder: Path
) -> dict[str, Interval]:
    """Choose on one split, write the files of each, and return ``split/name`` of what the choices give.

    Args:
        choosing: answers on the images to choose on, none of which the answering model has learned from.
        found: answers on the splits that are reported.
    """
    chosen = choose(config, dataset, choosing)
    (folder / "decisions.json").write_text(json.dumps(as_json(chosen, config, dataset), indent=2))
    given: dict[str, Interval] = {}
    for answers in found:
        _draw(chosen, config, dataset, answers, folder)
        figures = state(chosen, config, dataset, answers)
        given |= {f"{answers.split}/{name}": interval for name, interval in figures.items()}
    return given


def _draw(chosen: Chosen, config: EvaluateConfig, dataset: Dataset, answers: Answers, folder: Path) -> None:
    split, targets, probabilities = answers.split, answers.targets, answers.probabilities
    curve = risk_coverage(sureness(targets, probabilities), rightness(targets, probabilities))
    curve.to_csv(folder / f"{split}_risk_coverage.csv", index=False)
    title = f"{split}: the surest answers"
    picture = risk_coverage_figure(curve, chosen.abstain, config.abstain.accuracy, title)
    picture.savefig(folder / f"{split}_risk_coverage.png", dpi=120)
    if chosen.positive is not None:
        name, scored = dataset.classes[chosen.positive], probabilities[:, chosen.positive]
        title = f"{split}: operating point"
        picture = operating_point_figure(targets == chosen.positive, scored, chosen.threshold, name, title)
        picture.savefig(folder / f"{split}_operating_point.png", dpi=120)
