"""Real data that the tests of this room share."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from tasks.target import Target
from tasks.workspace import Workspace
from tests.train.prepared import Prepared, prepare

SHAPES = {"even": "02468", "small": "01234", "round": "0689"}


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """The embedded digits."""
    return prepare({"embedded": "digits"}, Workspace(tmp_path_factory.mktemp("digits")))


@pytest.fixture(scope="session")
def few(digits: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """Some hundred of them."""
    rows = digits.dataset.read_manifest()
    kept = rows.groupby(["split", "label"]).head(8)
    return digits.with_rows(kept, tmp_path_factory.mktemp("few"))


@pytest.fixture(scope="session")
def inked(digits: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """The digits, of which it is also told how much ink there is (a number, percent, leading), what digit it is, and
    which of two shapes; every third image has no digit, and ten images have nothing but a digit."""
    rows, folder = digits.dataset.read_manifest(), tmp_path_factory.mktemp("inked")
    digit = rows["label"].copy()
    inks = [np.asarray(Image.open(digits.dataset.image(hash)).convert("L")).mean() / 2.55 for hash in rows["hash"]]
    rows["label"] = np.array(inks)
    rows["label:digit"] = digit.where(rows.index % 3 > 0, None)
    rows["label:shapes"] = [[name for name, members in SHAPES.items() if each in members] for each in digit]
    partial = rows.index[(rows["split"] == "train") & rows["label:digit"].notna()][:10]
    rows.loc[partial, "split"] = "partial"
    rows.loc[partial, "label"] = np.nan
    targets = (
        Target(name="ink", kind="number", unit="%"),
        Target(name="digit", column="label:digit", classes=digits.dataset.classes),
        Target(name="shapes", column="label:shapes", kind="labels", classes=tuple(SHAPES)),
    )
    return digits.with_rows(rows, folder, targets=targets)


@pytest.fixture(scope="session")
def some(inked: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """Some hundred of them."""
    rows = inked.dataset.read_manifest()
    return inked.with_rows(rows.groupby("split").head(100), tmp_path_factory.mktemp("some"))


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """Digits from a table that says of each whether it is even, small and round; 5 and 7 are nothing of that."""
    workspace = Workspace(tmp_path_factory.mktemp("shapes"))
    source = load_digits()
    rows = []
    for number, (grey, digit) in enumerate(zip(source.images[:500], source.target[:500], strict=True)):
        path = f"{number}.png"
        Image.fromarray((grey * 255 / 16).round().astype(np.uint8)).save(workspace.root / path)
        rows.append({"path": path} | {name: int(str(digit) in members) for name, members in SHAPES.items()})
    pd.DataFrame(rows).to_csv(workspace.root / "shapes.csv", index=False)
    return prepare({"table": "shapes.csv", "label": list(SHAPES)}, workspace)


@pytest.fixture(scope="session")
def night(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """Digits by day, with labels, and dark ones, to adapt to and to be tested on."""
    workspace = Workspace(tmp_path_factory.mktemp("night"))
    digits = load_digits()
    for number, (grey, digit) in enumerate(zip(digits.images[:400], digits.target[:400], strict=True)):
        domain = "night" if number % 2 else "day"
        values = grey * 255 / 16 * (0.2 if domain == "night" else 1) + (30 if domain == "night" else 0)
        folder = workspace.root / "photos" / domain / str(digit)
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(values.round().astype(np.uint8)).save(folder / f"{number}.png")
    source = {"folder": str(workspace.root / "photos"), "layout": "domain/label"}
    return prepare(source, workspace, split={"target": ["night"]})
