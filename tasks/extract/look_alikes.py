"""Look-alike images, confirmed by what the backbone sees in them.

Ingestion finds pairs whose perceptual hashes are nearly equal. Such hashes know brightness only, so two skies may
pass for one; features know content. A pair is confirmed where its cosine similarity is rarer than one in a thousand
among pairs drawn at random: no threshold has to be known for a backbone or a layer.
"""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from tasks.extract.store import FeatureStore
from tasks.ingest.decode import decode
from tasks.records import Dataset

PAIRS = "look_alikes.csv"
RANDOM_PAIRS = 10_000
RARE = 0.999
"""Quantile of the random pairs' similarity from which on a pair is confirmed."""
BLOCK = 4_096
"""Pairs whose features are held at once."""
SHOWN, SIDE = 16, 96
"""Pairs on the sheet, and pixels of an image there."""


def confirm(dataset: Dataset, store: FeatureStore, folder: Path, seed: int = 0) -> tuple[int, int]:
    """Write ``look_alikes.csv`` (the pairs of ``near_duplicates.csv`` with cosine and confirmed, the most similar
    first) and ``look_alikes.png``.

    Returns:
        How many pairs are confirmed, and how many of these lie across splits.
    """
    manifest = dataset.read_manifest()
    manifest = manifest[manifest["split"] != "pool"]
    hashes = manifest.set_index("path")["hash"]
    pairs = pd.read_csv(dataset.report / "near_duplicates.csv")
    pairs = pairs[pairs["first"].isin(hashes.index) & pairs["second"].isin(hashes.index)]
    first, second = (hashes[pairs[side]].to_numpy() for side in ("first", "second"))
    cosine = similarities(store, first, second)
    others = similarities(store, *_random_pairs(hashes, set(zip(first, second, strict=True)), seed))
    # Where all images look alike, nothing is left that their likeness could be held against.
    usual = np.quantile(others, RARE) if len(others) else np.inf
    pairs = pairs.assign(cosine=cosine, confirmed=cosine > usual).sort_values("cosine", ascending=False)
    pairs.to_csv(folder / PAIRS, index=False, float_format="%.4f")
    found = pairs[pairs["confirmed"]]
    # Further tasks learn from both.
    first_split, second_split = (found[f"{side}_split"].replace("partial", "train") for side in ("first", "second"))
    across = found[first_split != second_split]
    _draw(pd.concat([across, found]).drop_duplicates().head(SHOWN), hashes, dataset, folder / "look_alikes.png")
    return len(found), len(across)


def read_look_alikes(folder: Path) -> pd.DataFrame:
    """The pairs that `confirm` wrote; names of files may have what others take for the end of a line."""
    return pd.read_csv(folder / PAIRS, lineterminator="\n")


def similarities(store: FeatureStore, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Cosine similarity float32 ``[P]`` of the features of pairs of images, given by content hash."""
    result = np.empty(len(first), np.float32)
    for start in range(0, len(first), BLOCK):
        rows = slice(start, start + BLOCK)
        one, other = (_unit(store.read(hashes[rows].tolist())) for hashes in (first, second))
        result[rows] = np.einsum("ij,ij->i", one, other)
    return result


def _random_pairs(hashes: pd.Series, known: set[tuple[str, str]], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Contents that are not known to look alike: of a small dataset, those could be among the rarest thousandth."""
    drawn = np.random.default_rng(seed).choice(hashes.to_numpy(), (RANDOM_PAIRS, 2)).tolist()
    kept = [(a, b) for a, b in drawn if a != b and (a, b) not in known and (b, a) not in known]
    return np.array([a for a, _ in kept]), np.array([b for _, b in kept])


def _unit(features: np.ndarray) -> np.ndarray:
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)


def _draw(pairs: pd.DataFrame, hashes: pd.Series, dataset: Dataset, path: Path) -> None:
    """A sheet with the images of each pair side by side."""
    from matplotlib.figure import Figure

    if pairs.empty:
        return
    columns = min(4, len(pairs))
    rows = -(-len(pairs) // columns)
    titles = [_title(pair) for pair in pairs.to_dict("records")]
    figure = Figure(figsize=(3.6 * columns, 2.3 * rows), layout="constrained")
    places = figure.subplots(rows, columns, squeeze=False).flat
    for place, pair, title in zip(places, pairs.to_dict("records"), titles, strict=False):
        images = [
            decode(dataset.image(hashes[pair[side]]), dataset.limits).resize((SIDE, SIDE))
            for side in ("first", "second")
        ]
        sheet = Image.fromarray(np.hstack([np.asarray(image) for image in images]))
        place.imshow(sheet)
        place.set_title(title, fontsize=7)
    for place in figure.axes:
        place.axis("off")
    figure.savefig(path, dpi=110)


def _title(pair: dict[Hashable, Any]) -> str:
    from tasks.lettering import literal

    names = "\n".join(f"{pair[side + '_split']}: {literal(pair[side][-32:])}" for side in ("first", "second"))
    return f"{names}\ncosine {pair['cosine']:.3f}"
