"""From a folder tree to a manifest: what each image is, what it is called, and which split it belongs to."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from os import cpu_count
from pathlib import Path

import pandas as pd

from tasks.errors import DataError
from tasks.ingest.decode import decode
from tasks.progress import progress
from tasks.records import Split

EXTENSIONS = frozenset([".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"])
SPLITS: dict[str, Split] = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
BLOCK = 512


@dataclass(frozen=True)
class Found:
    """An image file in a tree: where it is (``relative`` to the tree), its class, and its split where the tree
    names one."""

    path: Path
    relative: Path
    label: str
    split: Split | None


def find_images(root: Path) -> tuple[list[Found], list[Path]]:
    """Read a tree's layout, ``class/file`` or ``split/class/file``; deeper folders belong to their class.

    One folder around such a layout is entered, whatever other files lie beside it.

    Returns:
        The images in the order of their paths, and the files that are no images by their extension.

    Raises:
        DataError: there is no image below class folders.
    """
    top = _unwrapped(root)
    files = sorted(path for path in top.rglob("*") if path.is_file() and not _is_hidden(path, top))
    named = {entry.name for entry in _visible(top) if entry.is_dir()}
    split_above = bool(named) and {name.lower() for name in named} <= set(SPLITS)
    depth = 2 if split_above else 1
    images, others = [], []
    for path in files:
        relative = path.relative_to(top)
        parts = relative.parts
        if path.suffix.lower() not in EXTENSIONS or len(parts) <= depth:
            others.append(path)
        else:
            images.append(Found(path, relative, parts[depth - 1], SPLITS[parts[0].lower()] if split_above else None))
    if not images:
        raise DataError(
            f"{root} holds no images in class folders: expected class/*.jpg or train/class/*.jpg "
            f"({len(others)} other files; images end in {' '.join(sorted(EXTENSIONS))})"
        )
    return images, others


def _unwrapped(root: Path) -> Path:
    entries = _visible(root)
    folders = [entry for entry in entries if entry.is_dir()]
    if len(folders) == 1 and folders[0].name.lower() not in SPLITS:
        below = _visible(folders[0])
        if any(entry.is_dir() for entry in below) and not any(map(_is_image, entries + below)):
            return _unwrapped(folders[0])
    return root


def _visible(folder: Path) -> list[Path]:
    return [entry for entry in folder.iterdir() if not _is_hidden(entry, folder)]


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in EXTENSIONS and path.is_file()


def _is_hidden(path: Path, top: Path) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in path.relative_to(top).parts)


def take_in(images: Sequence[Found], target: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Copy every image that can be decoded to the same place below ``target``, reading each file once.

    Returns:
        Manifest without splits made (see `tasks.records`), ``split`` null where the tree names none, and the
        quarantine: images that were kept out, with the reason.

    Raises:
        DataError: no image at all can be decoded.
    """
    rows, refused = [], []
    with ThreadPoolExecutor(cpu_count() or 1) as pool, progress("ingest", len(images), "img") as advance:
        for block in _blocks(images):
            for found, outcome in zip(block, pool.map(lambda found: _take(found, target), block), strict=True):
                if isinstance(outcome, DataError):
                    refused.append({"path": str(found.path), "label": found.label, "reason": str(outcome)})
                else:
                    rows.append(outcome)
            advance(len(block))
    if not rows:
        raise DataError(f"none of the {len(images):,} images can be decoded; the first one: {refused[0]['reason']}")
    columns = ["path", "label", "split", "hash", "size", "width", "height"]
    manifest = pd.DataFrame(rows, columns=columns).astype({"size": "int64", "width": "int32", "height": "int32"})
    quarantine = pd.DataFrame(refused, columns=["path", "label", "reason"])
    return manifest.sort_values("path", ignore_index=True), quarantine


def _blocks(images: Sequence[Found]) -> Iterator[Sequence[Found]]:
    for start in range(0, len(images), BLOCK):
        yield images[start : start + BLOCK]


def _take(found: Found, target: Path) -> dict[str, object] | DataError:
    content = found.path.read_bytes()
    try:
        width, height = decode(content).size
    except DataError as error:
        return error
    path = target / found.relative
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
    return {
        "path": found.relative.as_posix(), "label": found.label, "split": found.split, "hash": digest,
        "size": len(content), "width": width, "height": height,
    }  # fmt: skip


def assign_splits(manifest: pd.DataFrame, val: float, test: float) -> tuple[pd.DataFrame, Split, Split]:
    """Give every image a split, keeping those that the source gave.

    New splits are made by the hash of the content: an image keeps its split when others come or go, and equal
    images never straddle. A source with train and val only keeps val as the held-out figure, and ``tune``, a
    part of train, is what choices are made on; one with train and test only gets a val out of train.

    Returns:
        The manifest, the split to make choices on, and the split to report on.

    Raises:
        DataError: there is no training image, or nothing to choose or report on.
    """
    position = manifest["hash"].str[:8].map(lambda digits: int(digits, 16) / 16**8)
    given = set(manifest["split"].dropna())
    split = manifest["split"].astype(object)
    choose, report = "val", "test"
    if given <= {"train"}:
        split = pd.Series("train", index=manifest.index, dtype=object)
        split[position < test + val] = "val"
        split[position < test] = "test"
    elif "test" not in given:
        choose, report = "tune", "val"
        split[(split == "train") & (position < val)] = "tune"
    elif "val" not in given:
        split[(split == "train") & (position < val)] = "val"
    for needed in ("train", choose, report):
        if not (split == needed).any():
            raise DataError(
                f"no image falls into the split {needed!r} (images per split: {split.value_counts().to_dict()}): "
                "give more images, or raise ingest.val or ingest.test"
            )
    return manifest.assign(split=split.astype(str)), choose, report  # type: ignore[return-value]


def check_labels(manifest: pd.DataFrame) -> tuple[str, ...]:
    """Class names in order; every one has a training image.

    Raises:
        DataError: fewer than two classes, or a class that nothing can be learned of.
    """
    classes = tuple(sorted(manifest["label"].unique()))
    if len(classes) < 2:
        raise DataError(
            f"only one class was found ({', '.join(classes)}): a classifier needs at least two class folders"
        )
    trained = set(manifest.loc[manifest["split"] == "train", "label"])
    if missing := [name for name in classes if name not in trained]:
        raise DataError(f"no training image for {', '.join(missing)}: give more images of it, or remove the class")
    return classes


def findings(manifest: pd.DataFrame) -> list[str]:
    """What a careful reader would want to know: the same image twice, under two labels, in two splits."""
    groups = manifest.groupby("hash").agg(
        copies=("path", "size"), labels=("label", "nunique"), splits=("split", "nunique")
    )
    noted = {
        "images are exact copies of others": int((groups["copies"] - 1).sum()),
        "images stand under two labels": int((groups["labels"] > 1).sum()),
        "images stand in two splits": int((groups["splits"] > 1).sum()),
    }
    return [f"{count:,} {what}" for what, count in noted.items() if count]
