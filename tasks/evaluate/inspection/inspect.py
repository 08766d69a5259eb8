"""The door of the inspection: what a candidate looks at, and how it bears corrupted and attacked images."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import torch

from tasks.evaluate.config import EvaluateConfig
from tasks.evaluate.door import answer
from tasks.evaluate.inspection import attacks, faithfulness, robustness
from tasks.evaluate.inspection.explanations import choose_answers, explain_answers
from tasks.evaluate.inspection.looking import Looker, draw
from tasks.evaluate.inspection.together import Mapper, saliency_of
from tasks.evaluate.numbers.answers import Numbers, answer_number
from tasks.evaluate.report import Answers
from tasks.evaluate.scores.intervals import Interval, Sample
from tasks.fingerprint import code_version, fingerprint
from tasks.groups import group_numbers
from tasks.progress import tell
from tasks.records import Candidate, Dataset, FeatureSet, Inspection, Preprocessed
from tasks.wording import quantity
from tasks.workspace import Workspace, fresh_folder

ROBUSTNESS, FAITHFULNESS = 64, 20
"""Images that are corrupted, and that maps are judged on, by default and at most."""

SLOW = (
    "inspect\tthe network is too slow here to pass images through it again: evaluate.robustness: 20 and "
    "evaluate.faithfulness: 20 do so"
)


def inspect_candidate(
    config: EvaluateConfig, dataset: Dataset, preprocessed: Preprocessed, features: FeatureSet, candidate: Candidate,
    workspace: Workspace,
) -> Inspection:  # fmt: skip
    """Look at a candidate through its network, on a sample of the held-out images; see `tasks.records` for the files.
    Of a number, only how it bears corruptions is looked at.

    Raises:
        WeightsError: the backbone's weights are no longer those that the features were computed with.
        ConfigurationError: the network has no layer that could be mapped.
    """
    # Of the whole stage, as the flow's cache has it: what is done here rests on its other folders, too.
    code = code_version(Path(__file__).parents[1])
    name = fingerprint(
        code, config.model_dump(), dataset.fingerprint, preprocessed.fingerprint, features.fingerprint,
        candidate.fingerprint,
    )  # fmt: skip
    final = workspace.cache / "inspections" / name
    number = dataset.target.kind == "number"
    ask = answer_number if number else answer
    answers: Answers | Numbers = ask(dataset.report_on, dataset, features, candidate)
    looker = Looker.load(dataset, preprocessed, features, candidate, workspace)
    metrics: dict[str, Interval] = {}
    images: dict[str, int] = {}
    findings: list[str] = []
    with fresh_folder(final) as folder:
        if places := _drawn(config.robustness, robustness.PASSES, ROBUSTNESS, looker, answers, config.seed):
            images["robustness"] = len(places)
            metrics[f"{dataset.report_on}/robustness"] = _bear(looker, dataset, answers, places, folder, findings)
        elif config.robustness is None and len(answers.rows):
            tell(SLOW)
        if config.attack and isinstance(answers, Answers) and len(answers.rows):
            metrics |= _attack(config, looker, dataset, answers, folder, images, findings)
        if config.explain and isinstance(answers, Answers) and len(answers.rows):
            images["explained"] = _explain(config, looker, dataset, answers, folder, metrics, images, findings)
        inspection = Inspection(
            fingerprint=name, report=final, metrics=metrics, images=images, findings=tuple(findings)
        )
        content = json.loads(inspection.model_dump_json(exclude={"report", "fingerprint", "made"}))
        (folder / "inspection.json").write_text(json.dumps(content, indent=2))
    return inspection


def _drawn(
    asked: int | None, passes: int, most: int, looker: Looker, answers: Answers | Numbers, seed: int
) -> list[int]:
    """Positions of the images to measure with; by default none where a slow network would take too long."""
    count = looker.affordable(passes, most) if asked is None else asked
    return list(map(int, draw(answers.rows, count, seed)))


def _bear(
    looker: Looker, dataset: Dataset, answers: Answers | Numbers, places: list[int], folder: Path, findings: list[str]
) -> Interval:
    rows = answers.rows.iloc[places].reset_index(drop=True)
    sample = Sample(len(rows), group_numbers(rows))
    table, mean = robustness.measure_robustness(looker, looker.see(dataset, rows), answers.targets[places], sample)
    table.to_csv(folder / "robustness.csv", index=False, float_format="%.4f")
    value, low, high = mean
    told = (
        f"{quantity(value)} [{quantity(low)}, {quantity(high)}]"
        if looker.head.number
        else (f"{value:.2f} [{low:.2f}, {high:.2f}]")
    )
    title = f"{answers.split}: corrupted images, mean {told}, {len(rows):,} images"
    robustness.robustness_figure(table, title).savefig(folder / "robustness.png", dpi=110)
    findings += robustness.fragile(table, answers.split)
    return mean


def _attack(
    config: EvaluateConfig, looker: Looker, dataset: Dataset, answers: Answers, folder: Path, images: dict[str, int],
    findings: list[str],
) -> dict[str, Interval]:  # fmt: skip
    assert config.attack is not None
    places = draw(answers.rows, config.attack.images, config.seed)
    rows = answers.rows.iloc[places].reset_index(drop=True)
    sample = Sample(len(rows), group_numbers(rows))
    pixels, targets = looker.see(dataset, rows), answers.targets[places]
    table, figures, flat = attacks.measure_attacks(looker, pixels, targets, sample, config.attack, config.seed)
    table.to_csv(folder / "attacks.csv", index=False, float_format="%.6f")
    findings += attacks.told(table, flat, answers.split)
    images |= dict.fromkeys(figures, len(rows))
    return {f"{answers.split}/{name}": figure for name, figure in figures.items()}


def _explain(
    config: EvaluateConfig, looker: Looker, dataset: Dataset, answers: Answers, folder: Path,
    metrics: dict[str, Interval], images: dict[str, int], findings: list[str],
) -> int:  # fmt: skip
    saliency = saliency_of(looker)
    chosen = choose_answers(answers.targets, answers.probabilities, config.explain)
    rows = answers.rows.iloc[chosen["row"]].reset_index(drop=True)
    if len(rows):
        pixels = looker.see(dataset, rows)
        explain_answers(saliency, chosen, pixels, rows, dataset.classes, answers.split, folder)
    places = _drawn(config.faithfulness, faithfulness.PASSES, FAITHFULNESS, looker, answers, config.seed)
    if len(places) > 1:
        images["faithfulness"] = len(places)
        rows = answers.rows.iloc[places].reset_index(drop=True)
        metrics[f"{answers.split}/faithfulness"] = _judge(
            looker, saliency, dataset, rows, answers, places, folder, findings
        )
    return len(chosen)


def _judge(
    looker: Looker, saliency: Mapper, dataset: Dataset, rows: pd.DataFrame, answers: Answers, places: list[int],
    folder: Path, findings: list[str],
) -> Interval:  # fmt: skip
    pixels = looker.see(dataset, rows)
    classes = torch.from_numpy(answers.probabilities[places].argmax(1))
    sample = Sample(len(rows), group_numbers(rows))
    maps = saliency.maps(pixels, classes)
    table, gain = faithfulness.measure_faithfulness(looker, pixels, classes, maps, sample)
    table.to_csv(folder / "faithfulness.csv", index=False, float_format="%.4f")
    if len(rows) >= robustness.FEWEST and not gain.low > 0:
        findings.append(
            f"{answers.split}: heat maps are no better than random ones, so do not read them: insertion less deletion "
            f"differs by {gain.value:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}] ({len(rows):,} images)"
        )
    return gain.value, gain.low, gain.high
