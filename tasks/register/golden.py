"""A packaged model, loaded as a server loads it, on a golden batch: images whose answers the evaluation wrote down."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd

from tasks.model.bundle import backbones_in
from tasks.register.gating import Evidence, Finding
from tasks.wording import REASON, brief

EXACT, ROUGH = 0.01, 0.1
"""Most that a probability may differ by, in fp32 and in lower precisions."""

CODE = "headstart_"
"""How the packages begin that models carry their code as."""


def largest_difference(evidence: Evidence, images: int, tolerance: float | None) -> Finding:
    """By how much the packaged model's probabilities differ from the evaluated ones, at most."""
    batch = golden_batch(evidence, images)
    contents = [evidence.dataset.image(content).read_bytes() for content in batch["hash"]]
    try:
        precise = all(about["precision"] == "float32" for about, _ in backbones_in(evidence.bundle))
        most = (EXACT if precise else ROUGH) if tolerance is None else tolerance
        answers = served_answers(evidence.files, contents, len(evidence.dataset.classes))
        known = [_probabilities(row, evidence.dataset.classes) for row in batch.to_dict("records")]
        apart = [_apart(*pair) for pair in zip(known, answers, strict=True)]
    except Exception as error:  # whatever a broken package raises; a server would, too
        return Finding(False, f"the packaged model cannot be used: {brief(str(error).splitlines()[0], REASON)}")
    worst = int(np.argmax(apart))
    off = sum(each > most for each in apart)
    told = f"of {len(apart)} held-out images served from its files, probabilities differ by {apart[worst]:.4f} at most"
    asked, found = f"at most {most:g}", f"{apart[worst]:.4f}"
    if not off:
        return Finding(True, told, asked, found)
    name = batch["path"].iloc[worst]
    return Finding(False, f"the packaged model is not the evaluated one: {off} of {told[3:]} ({name})", asked, found)


def golden_batch(evidence: Evidence, images: int) -> pd.DataFrame:
    """Held-out images and their evaluated answers: every other one by chance, and those least sure."""
    dataset = evidence.dataset
    answers = pd.read_parquet(evidence.evaluation.report / f"{dataset.report_on}_predictions.parquet")
    sureness = np.array([np.abs(np.asarray(p) - 0.5).min() if np.ndim(p) else p for p in answers["probability"]])
    unsure = answers.iloc[np.argsort(sureness, kind="stable")[: images // 2]]
    others = answers.drop(index=unsure.index)
    return pd.concat([unsure, others.sample(min(images - len(unsure), len(others)), random_state=0)])


def served_answers(files: Path, contents: Sequence[bytes], classes: int) -> list[dict[str, float]]:
    """What the model in a folder of MLflow's says of images: the probability of each class by its name."""
    with _own_code():
        model = mlflow.pyfunc.load_model(str(files))
        answers = model.predict(pd.DataFrame({"image": list(contents)}), params={"top_k": classes})
    if (failed := answers["error"].dropna()).size:
        raise ValueError(str(failed.iloc[0]))
    return [{top["label"]: top["probability"] for top in row} for row in answers["top_k"]]


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


def _probabilities(row: dict[Any, Any], classes: Sequence[str]) -> dict[str, float]:
    """What the evaluation wrote down: of the likeliest class or, with several labels an image, of each."""
    if np.ndim(row["probability"]):
        return dict(zip(classes, map(float, row["probability"]), strict=True))
    return {row["predicted"]: float(row["probability"])}


def _apart(known: dict[str, float], served: dict[str, float]) -> float:
    missing = [name for name in known if name not in served]
    if missing:
        raise ValueError(f"it does not know the class {json.dumps(missing[0], ensure_ascii=False)}")
    return max(abs(value - served[name]) for name, value in known.items())
