"""A packaged model, loaded as a server loads it, on a golden batch: images whose answers the evaluation wrote down."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd

from tasks.model.bundle import backbones_in
from tasks.model.decisions import THRESHOLD
from tasks.register.gating import Evidence, Finding
from tasks.target import Target
from tasks.wording import REASON, brief, first_line

EXACT, ROUGH = 0.01, 0.1
"""Most that a probability may differ by, in fp32 and in lower precisions; or a number, in units of half the interval
within which nine of ten lie."""

SURE = 0.5
"""Probability above which no two classes can be the likeliest."""

CODE = "headstart_"
"""How the packages begin that models carry their code as."""


def largest_difference(evidence: Evidence, images: int, tolerance: float | None) -> Finding:
    """By how much the packaged model's answers differ from the evaluated ones, at most: those of the leading task and
    of further ones."""
    batch = golden_batch(evidence, images)
    contents = [evidence.dataset.image(content).read_bytes() for content in batch["hash"]]
    try:
        precise = all(about["precision"] == "float32" for about, _ in backbones_in(evidence.bundle))
        most = (EXACT if precise else ROUGH) if tolerance is None else tolerance
        answers = served_answers(evidence.files, contents, max(1, len(evidence.dataset.classes)))
        apart = apart_by_image(evidence, batch, answers)
    except Exception as error:  # whatever a broken package raises; a server would, too
        return Finding(False, f"the packaged model cannot be used: {brief(first_line(error), REASON)}")
    worst = int(np.argmax(apart))
    off = sum(not each <= most for each in apart)  # what is no number, too
    what = "numbers, in halves of their intervals," if evidence.dataset.target.kind == "number" else "probabilities"
    by = f"{what} differ by {apart[worst]:.4f} at most" if np.isfinite(apart[worst]) else "some answers are no numbers"
    told = f"of {len(apart)} held-out images served from its files, {by}"
    asked, found = f"at most {most:g}", f"{apart[worst]:.4f}"
    if not off:
        return Finding(True, told, asked, found)
    name = batch["path"].iloc[worst]
    return Finding(False, f"the packaged model is not the evaluated one: {off} of {told[3:]} ({name})", asked, found)


def golden_batch(evidence: Evidence, images: int) -> pd.DataFrame:
    """Held-out images and their evaluated answers: every other one by chance, and those least sure."""
    dataset = evidence.dataset
    answers = pd.read_parquet(evidence.evaluation.report / f"{dataset.report_on}_predictions.parquet")
    if dataset.target.kind == "number":
        sureness = (answers["low"] - answers["high"]).to_numpy()
    else:
        sureness = np.array([np.abs(np.asarray(p) - 0.5).min() if np.ndim(p) else p for p in answers["probability"]])
    unsure = answers.iloc[np.argsort(sureness, kind="stable")[: images // 2]]
    others = answers.drop(index=unsure.index)
    return pd.concat([unsure, others.sample(min(images - len(unsure), len(others)), random_state=0)])


def apart_by_image(evidence: Evidence, batch: pd.DataFrame, answers: Sequence[dict[str, Any]]) -> list[float]:
    """How far each served answer is from the evaluated one: that of the task that is furthest; NaN where one of the two
    is no number."""
    dataset = evidence.dataset
    far = [_leading(dataset.target, row, served) for row, served in zip(batch.to_dict("records"), answers, strict=True)]
    for target in dataset.further:
        file = evidence.evaluation.report / f"{dataset.report_on}_{target.name}_predictions.parquet"
        if not file.is_file():  # too few of its images have a label
            continue
        known = pd.read_parquet(file).set_index("path").to_dict("index")
        for place, path in enumerate(batch["path"]):
            if path in known:
                far[place] = _furthest((far[place], _beside(target, known[path], answers[place])))
    return far


def served_answers(files: Path, contents: Sequence[bytes], classes: int) -> list[dict[str, Any]]:
    """What the model in a folder of MLflow's says of images: a row for each, with so many classes in ``top_k``."""
    with _own_code():
        model = mlflow.pyfunc.load_model(str(files))
        answers = model.predict(pd.DataFrame({"image": list(contents)}), params={"top_k": classes})
    if (failed := answers["error"].dropna()).size:
        raise ValueError(str(failed.iloc[0]))
    return [dict(row) for row in answers.to_dict("records")]


@contextmanager
def _own_code() -> Iterator[None]:
    """Let a model import the code in its own files, not what was imported when it was packaged."""
    path, known = list(sys.path), _forget_code()
    try:
        yield
    finally:
        _forget_code()
        sys.path[:] = path
        sys.modules.update(known)


def _forget_code() -> dict[str, Any]:
    return {name: sys.modules.pop(name) for name in list(sys.modules) if name.startswith(CODE)}


def _leading(target: Target, row: dict[Any, Any], served: dict[str, Any]) -> float:
    if target.kind == "number":
        return _off(row, [served[name] for name in ("value", "low", "high")])
    probabilities = {top["label"]: top["probability"] for top in served["top_k"]}
    return _apart(_probabilities(row, target.classes), probabilities)


def _beside(target: Target, row: dict[Any, Any], served: dict[str, Any]) -> float:
    name = target.name
    if target.kind == "number":
        return _off(row, [served[name], served[f"{name}_low"], served[f"{name}_high"]])
    if target.kind == "class":
        probability = float(row["probability"])
        if served[name] != row["predicted"] and probability > SURE:
            return 1.0
        return abs(served[f"{name}_probability"] - probability)
    known = _probabilities(row, target.classes)
    # Which labels are given is all that is served: one that should not be is as far off as it was from the threshold.
    wrong = [abs(value - THRESHOLD) for each, value in known.items() if (value >= THRESHOLD) != (each in served[name])]
    return max(wrong, default=0.0)


def _off(row: dict[Any, Any], served: Sequence[float]) -> float:
    """By how much a number or one of its bounds differs, in units of half the interval."""
    known = [float(row[name]) for name in ("predicted", "low", "high")]
    half = max((known[2] - known[1]) / 2, sys.float_info.min)
    return _furthest(abs(mine - theirs) for mine, theirs in zip(known, served, strict=True)) / half


def _furthest(distances: Iterable[float]) -> float:
    """The largest one; NaN where any is, which Python's ``max`` passes over."""
    return float(np.max(list(distances)))


def _probabilities(row: dict[Any, Any], classes: Sequence[str]) -> dict[str, float]:
    """What the evaluation wrote down: of the likeliest class or, with several labels an image, of each."""
    if np.ndim(row["probability"]):
        return dict(zip(classes, map(float, row["probability"]), strict=True))
    return {row["predicted"]: float(row["probability"])}


def _apart(known: dict[str, float], served: dict[str, float]) -> float:
    missing = [name for name in known if name not in served]
    if missing:
        raise ValueError(f"it does not know the class {json.dumps(missing[0], ensure_ascii=False)}")
    return _furthest(abs(value - served[name]) for name, value in known.items())
