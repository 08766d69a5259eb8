"""What tests of numbers, and of tasks beside one, share: each file has its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.records import Dataset, FeatureSet
from tests.evaluate.numbered import AGE, SPECIES, TAGS, make_dataset, make_features


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("numbers")


@pytest.fixture(scope="module")
def dataset(home: Path) -> Dataset:
    return make_dataset(home / "images", (AGE, SPECIES, TAGS))


@pytest.fixture(scope="module")
def features(home: Path, dataset: Dataset) -> FeatureSet:
    return make_features(dataset, home / "space")
