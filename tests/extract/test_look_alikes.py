"""Pairs that look alike are confirmed or not by what the backbone sees in them."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics.pairwise import cosine_similarity

from tasks.extract import door
from tasks.extract.config import ExtractConfig
from tasks.extract.door import extract_features
from tasks.extract.look_alikes import similarities
from tasks.extract.store import FeatureStore
from tasks.ingest.config import IngestConfig
from tasks.ingest.door import ingest_images
from tasks.records import Dataset, FeatureSet, Preprocessed
from tasks.workspace import Workspace

RECIPE = Preprocessed(
    fingerprint="recipe", size=32, fit="crop", preview=Path("preview.png"), mean=(0, 0, 0), std=(1, 1, 1)
)
COPIES = 6


def scene(seed: int) -> Image.Image:
    """A picture of large soft shapes in colour."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), np.uint8)
    return Image.fromarray(coarse).resize((64, 64), Image.Resampling.BICUBIC)


def recoloured(image: Image.Image, seed: int) -> Image.Image:
    """The same brightness as seen by a perceptual hash, other colours and a texture."""
    grey = np.asarray(image.convert("L"), dtype=np.float32)
    noise = np.random.default_rng(seed).normal(0, 60, (64, 64, 3))
    return Image.fromarray(np.clip(grey[..., None] * (0.2, 1.2, 1.4) + noise, 0, 255).astype(np.uint8))


def jpeg(image: Image.Image, quality: int) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return file.getvalue()


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[Dataset, FeatureSet]:
    """Sixty scenes; six of them once more in the test split, recompressed."""
    workspace = Workspace(tmp_path_factory.mktemp("workspace"))
    for index in range(60):
        path = workspace.root / "photos" / ("train", "val", "test")[index % 3] / "ab"[index % 2] / f"{index}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg(scene(index), 95))
    for copy in range(COPIES):
        again = workspace.root / "photos" / "test" / "ab"[copy % 2] / f"again {3 * copy}.jpg"
        again.write_bytes(jpeg(scene(3 * copy), 80))
    dataset = ingest_images(IngestConfig.model_validate({"source": {"folder": "photos"}}), workspace)
    config = ExtractConfig(precision="fp32", device="cpu")
    return dataset, extract_features(config, dataset, RECIPE, workspace)


def test_recompressed_copies_across_splits_are_confirmed(found: tuple[Dataset, FeatureSet]) -> None:
    dataset, features = found
    assert features.look_alikes is not None
    table = pd.read_csv(features.look_alikes / "look_alikes.csv")
    across = table[table["confirmed"] & (table["first_split"] != table["second_split"])]
    told = {
        tuple(sorted(Path(path).stem for path in pair)) for pair in zip(across["first"], across["second"], strict=True)
    }
    assert told >= {tuple(sorted((f"again {3 * copy}", str(3 * copy)))) for copy in range(COPIES)}
    assert (features.straddling, features.confirmed) == (len(across), int(table["confirmed"].sum()))
    assert len(table) == len(pd.read_csv(dataset.report / "near_duplicates.csv"))
    assert table["cosine"].is_monotonic_decreasing
    assert Image.open(features.look_alikes / "look_alikes.png").size[0] > 300


def test_where_all_images_look_alike_nothing_is_confirmed(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    for index in range(12):  # a camera that does not move
        path = workspace.root / "photos" / ("train", "val", "test")[index % 3] / "ab"[index % 2] / f"{index}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg(scene(0), 84 + index))
    dataset = ingest_images(IngestConfig.model_validate({"source": {"folder": "photos"}}), workspace)
    assert len(pd.read_csv(dataset.report / "near_duplicates.csv")) == 12 * 11 / 2
    config = ExtractConfig(precision="fp32", device="cpu")
    assert extract_features(config, dataset, RECIPE, workspace).confirmed == 0


@pytest.mark.slow
def test_what_only_looks_alike_in_brightness_is_not_confirmed(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    for index in range(40):
        path = workspace.root / "photos" / ("train", "val", "test")[index % 3] / "ab"[index % 2] / f"{index}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg(scene(index), 95))
        if index % 3 == 0:
            other = workspace.root / "photos" / "test" / "ab"[index % 2] / f"other {index}.png"
            other.parent.mkdir(parents=True, exist_ok=True)
            recoloured(scene(index), index).save(other)
    config = IngestConfig.model_validate({"source": {"folder": "photos"}, "checks": {"near_bits": 3}})
    dataset = ingest_images(config, workspace)
    assert len(pd.read_csv(dataset.report / "near_duplicates.csv")) >= 3
    features = extract_features(ExtractConfig(precision="fp32", device="cpu"), dataset, RECIPE, workspace)
    assert features.look_alikes is not None and features.confirmed == 0


def test_changed_code_writes_its_own_files(found: tuple[Dataset, FeatureSet], monkeypatch: pytest.MonkeyPatch) -> None:
    dataset, features = found
    assert features.look_alikes is not None
    workspace = Workspace(features.look_alikes.parents[2])
    monkeypatch.setattr(door, "code_version", lambda folder: f"changed {folder.name}")
    again = extract_features(ExtractConfig(precision="fp32", device="cpu"), dataset, RECIPE, workspace)
    assert again.fingerprint == features.fingerprint and again.new == 0
    assert again.look_alikes not in (None, features.look_alikes)


def test_similarity_is_the_cosine_of_the_features(found: tuple[Dataset, FeatureSet]) -> None:
    dataset, features = found
    store = FeatureStore(features.store)
    hashes = dataset.read_manifest()["hash"].to_numpy()
    oracle = cosine_similarity(store.read(hashes[:10].tolist()), store.read(hashes[10:20].tolist())).diagonal()
    np.testing.assert_allclose(similarities(store, hashes[:10], hashes[10:20]), oracle, rtol=1e-5)
