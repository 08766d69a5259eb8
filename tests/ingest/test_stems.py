"""What names say of images that belong together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tasks.ingest.config import IngestConfig
from tasks.ingest.door import ingest_images
from tasks.ingest.stems import stem_of
from tasks.workspace import Workspace


@pytest.mark.parametrize(
    ("path", "stem"),
    [
        ("stop/00012_00003.png", "stop/00012"), ("stop/video3_000123.jpg", "video3"),
        ("a/IMG_2041 (1).jpg", "IMG_2041"), ("a/IMG_2041.jpg", "IMG_2041"),
        ("a/cat.12.jpg", "cat.12"), ("a/IMG_2041 - Copy.jpg", "IMG_2041"),
        ("a/clip 7 frame 12.png", "clip 7"), ("a/2470492902_3572c90f75.jpg", "2470492902_3572c90f75"),
    ],
)  # fmt: skip
def test_a_stem_is_a_name_without_its_counter(path: str, stem: str) -> None:
    assert stem_of(path, path.split("/")[0]) == stem


@pytest.mark.parametrize("group", ["stem", "near_duplicates"])
def test_frames_of_one_track_are_never_in_two_splits(group: str, tmp_path: Path, workspace: Workspace) -> None:
    random = np.random.default_rng(0)
    for track in range(24):
        folder = tmp_path / "signs" / "ab"[track % 2]
        folder.mkdir(parents=True, exist_ok=True)
        scene = Image.fromarray(random.integers(0, 256, (6, 6, 3), dtype=np.uint8)).resize((48, 48), Image.BICUBIC)
        for frame in range(4):
            scene.point(lambda value, lift=frame: min(255, value + lift)).save(folder / f"{track:05d}_{frame:05d}.png")
    config = {"source": {"folder": str(tmp_path / "signs")}, "split": {"by": "group", "group": group}}
    rows = ingest_images(IngestConfig.model_validate(config), workspace, into_data=False).read_manifest()
    track = rows["path"].str.extract(r"(\d+)_")[0]
    assert rows["split"].nunique() == 3 and rows["group"].nunique() == 24
    assert rows.groupby(track)["split"].nunique().max() == 1
