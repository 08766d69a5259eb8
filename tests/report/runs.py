"""Runs that are over, made by hand: small images and tables in the places where the stages leave them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from tasks.evaluate.config import EvaluateConfig
from tasks.evaluate.numbers.answers import Numbers
from tasks.evaluate.numbers.report import largest_errors, report_numbers
from tasks.evaluate.numbers.slices import error_table
from tasks.evaluate.scores.metrics import score
from tasks.evaluate.slices.parts import Part
from tasks.model.latency import Latency
from tasks.records import (
    Candidate,
    Comparison,
    Dataset,
    Evaluation,
    FeatureSet,
    Inspection,
    Preprocessed,
    RegisteredModel,
)
from tasks.report.facts import Facts
from tasks.ruling import Ruling
from tasks.target import Target, one_task

IMAGES = 40


def facts(
    folder: Path,
    classes: tuple[str, ...] = ("ant", "bee", "wasp"),
    compared: bool = False,
    inspection: Inspection | None = None,
) -> Facts:
    """A run on noise in classes, of whose test images every seventh is answered wrongly."""
    random = np.random.default_rng(0)
    labels = np.arange(IMAGES) % len(classes)
    predicted = np.where(np.arange(IMAGES) % 7, labels, (labels + 1) % len(classes))
    rows = pd.DataFrame({
        "path": [f"{i:03d}.png" for i in range(IMAGES)],
        "label": pd.Series([classes[c] for c in labels], dtype="string"),
        "split": "test", "group": None, "hash": [f"{i:032x}" for i in range(IMAGES)],
    })  # fmt: skip
    for number, content in enumerate(rows["hash"]):
        (place := folder / "images" / content[:2]).mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 255, (200, 300, 3), np.uint8)
        Image.fromarray(pixels if number % 2 else pixels[:20, :20]).save(place / content[2:], "PNG")
    report = folder / "report"
    report.mkdir()
    rows.to_parquet(report / "manifest.parquet")
    probabilities = np.full((IMAGES, len(classes)), 0.1 / (len(classes) - 1))
    probabilities[np.arange(IMAGES), predicted] = 0.9
    scores = score(labels, probabilities, classes, resamples=100)
    scores.per_class.to_csv(report / "test_per_class.csv", index=False)
    given = rows[["path", "label", "hash"]].assign(predicted=[classes[c] for c in predicted], probability=0.9)
    given.to_parquet(report / "test_predictions.parquet")
    pd.DataFrame({"class": classes, "train": 9, "test": [list(labels).count(c) for c in range(len(classes))]}).to_csv(
        report / "classes.csv", index=False
    )
    (report / "checks.json").write_text(json.dumps({"images": IMAGES}))
    curves = pd.DataFrame({"step": [0, 1], "l2": [0.1, 1.0], "train/loss": [0.5, 0.6], "val/accuracy": [0.8, 0.7]})
    curves.to_parquet(report / "curves.parquet")
    Image.new("RGB", (64, 64)).save(report / "preview.png")
    dataset = Dataset(
        fingerprint="d", source="folder:insects", version="0123456789abcdef.dir", manifest=report / "manifest.parquet",
        report=report, images=folder / "images", targets=one_task(classes),
        counts={"train": 27, "val": 9, "test": IMAGES}, choose_on="val", report_on="test", quarantined=2,
        findings=("2 files are no images",),
    )  # fmt: skip
    return Facts(
        config={"name": "insects", "train": {"method": "linear"}},
        dataset=dataset,
        preprocessed=Preprocessed(
            fingerprint="p", size=32, fit="crop", preview=report / "preview.png", mean=(0, 0, 0), std=(1, 1, 1)
        ),
        features=FeatureSet(
            fingerprint="f", store=report, backbone="resnet_32px", weights="builtin", digest="0", layers=("blocks.1",),
            pool="avg", width=8, precision="float32", device="cpu", new=76, reused=0, seconds=2, took=2.5,
        ),
        candidate=Candidate(
            fingerprint="c", method="linear", head=report, curves=report / "curves.parquet", chosen={"l2": 0.1},
            score=0.8,
        ),
        evaluation=Evaluation(
            fingerprint="e", report=report, metrics={f"test/{name}": each for name, each in scores.metrics.items()}
        ),
        comparison=_comparison(folder / "comparison", rows) if compared else None,
        inspection=inspection,
        model=RegisteredModel(
            fingerprint="insects/3", name="insects", version=3, alias="challenger", verdict="nothing changed", new=True,
            rulings=(
                Ruling(gate="champion", outcome="needs approval", threshold="interval not below 0",
                       measured="-0.1000", reason="worse than the champion"),
                Ruling(gate="leak", outcome="pass", reason="none"),
            ),
        ),
        verdict="needs approval: worse than the champion (gate champion)",
        latency=Latency(2.5, 3.5, 100, 3_000_000, "2 CPU cores"),
    )  # fmt: skip


def _comparison(folder: Path, rows: pd.DataFrame) -> Comparison:
    folder.mkdir()
    changed = rows.head(5).assign(before=rows["label"], after="wasp", change=["lost"] * 4 + ["gained"])
    changed[["path", "label", "before", "after", "change"]].to_csv(folder / "test_changes.csv", index=False)
    return Comparison(
        fingerprint="x", report=folder, version=2, judged_on=None, images={"test": IMAGES}, left_out={"test": 3},
        metrics={"test/accuracy": (0.85, 0.95, -0.1, -0.19, -0.01), "test/log_loss": (0.5, 0.3, 0.2, 0.1, 0.3)},
        p_values={"test": 0.04}, detectable={"test": 0.09}, gained={"test": 1}, lost={"test": 4},
        gone=("hornet",), renamed={"honeybee": "bee"},
    )  # fmt: skip


def facts_of_numbers(folder: Path) -> Facts:
    """A run whose leading task is an age, with a class and a number beside it, against a champion."""
    made = facts(folder)
    report, rows = folder / "report", made.dataset.read_manifest()
    ages = np.linspace(20, 80, IMAGES)
    random = np.random.default_rng(0)
    answers = Numbers("test", rows.assign(label=ages), ages, ages + random.normal(0, 2, IMAGES), np.full(IMAGES, 2.0))
    species = {f"test/species/{name}": each for name, each in made.evaluation.metrics.items() for name in [name[5:]]}
    for old in report.glob("test_*"):
        old.rename(report / old.name.replace("test_", "test_species_"))
    scores = report_numbers(answers, EvaluateConfig(resamples=100), report)
    worst = largest_errors(answers).drop(columns="caption").head(3)
    worst.assign(
        neighbour_1="x", neighbour_1_hash=rows["hash"][10], neighbour_1_label=31.25, neighbour_1_similarity=0.9
    ).to_csv(report / "test_mistakes.csv", index=False)
    parts = [Part("domain night", "domain", np.arange(IMAGES) < 12)]
    error_table(parts, answers.errors).to_csv(report / "test_slices.csv", index=False)
    targets = (
        Target(name="age", kind="number", unit="years", images={"test": IMAGES}),
        Target(name="species", column="label:species", classes=made.dataset.classes, images={"test": 12, "partial": 3}),
        Target(name="weight", column="label:weight", kind="number", unit="kg"),
    )
    metrics = {f"test/{name}": each for name, each in scores.metrics.items()}
    weight = {"test/weight/mae": (12345.678, 11000.0, 14000.0), "test/weight/r2": (0.25, 0.1, 0.4)}
    (folder / "comparison").mkdir()
    comparison = Comparison(
        fingerprint="x", report=folder / "comparison", version=2, judged_on="val", images={"test": IMAGES},
        left_out={"test": 0}, metrics={"test/mae": (1.5, 2.5, -1.0, -1.5, -0.5), "test/r2": (0.9, 0.8, 0.1, 0.05, 0.2),
                                       "test/species/accuracy": (0.5, 0.9, -0.4, -0.6, -0.2)},
        p_values={"test": 0.0004, "test/species": 0.002}, detectable={"test": 0.25}, gained={"test": 30},
        lost={"test": 10}, further={"test/species": 12},
    )  # fmt: skip
    return replace(
        made, comparison=comparison, dataset=made.dataset.model_copy(update={"targets": targets}),
        evaluation=made.evaluation.model_copy(update={"metrics": metrics | species | weight}),
    )  # fmt: skip
