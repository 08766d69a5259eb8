"""Where images come from. Every source ends as a folder tree: one folder per class, perhaps below train/val/test."""

from __future__ import annotations

import lzma
import tarfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from tasks.errors import ConfigurationError, DataError
from tasks.fingerprint import fingerprint
from tasks.ingest.config import SourceConfig
from tasks.progress import progress
from tasks.workspace import Workspace


def fetch(source: SourceConfig, workspace: Workspace, scratch: Path) -> Path:
    """Make a source's images available as a folder tree.

    Returns:
        The tree's root: the user's own folder, which is only read, or one below ``scratch``.

    Raises:
        DataError: the source is missing, corrupt or tries to write outside its folder.
        ConfigurationError: torchvision has no such dataset.
    """
    if source.folder is not None:
        return _existing(workspace.resolve(source.folder), "folder")
    if source.archive is not None:
        return _unpacked(_existing(workspace.resolve(source.archive), "archive"), scratch)
    if source.torchvision is not None:
        return _torchvision(source.torchvision, workspace.cache / "downloads", scratch)
    return _digits(scratch)


def source_state(source: SourceConfig, workspace: Workspace) -> str:
    """Fingerprint that changes when the source's files do; reads names, sizes and times, never content."""
    named = source.folder or source.archive
    if named is None:
        return fingerprint(str(source))
    path = workspace.resolve(named)
    files = sorted(entry for entry in path.rglob("*") if entry.is_file()) if path.is_dir() else [path]
    states = [
        (str(file.relative_to(path)), file.stat().st_size, file.stat().st_mtime_ns) for file in files if file.exists()
    ]
    return fingerprint(states)


def _existing(path: Path, kind: str) -> Path:
    present = path.is_dir() if kind == "folder" else path.is_file()
    if not present:
        what = "is not a " + kind if path.exists() else "does not exist"
        raise DataError(
            f"{path} {what}: ingest.source.{kind} must name "
            + ("a folder of images" if kind == "folder" else "a .tar.gz, .tar or .zip file")
        )
    return path


_UNPACKING = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    OSError,
    ValueError,
    RuntimeError,
)
"""What reading a damaged, hostile or encrypted archive raises."""


def _unpacked(archive: Path, scratch: Path) -> Path:
    target = scratch / "unpacked"
    target.mkdir(parents=True)
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as opened:
                _extract(opened, ((member, member.filename) for member in opened.infolist()), target)
        else:
            with tarfile.open(archive) as opened:
                # The data filter refuses links that leave the folder, and devices (PEP 706).
                _extract(opened, ((member, member.name) for member in opened), target, filter="data")
                while opened.fileobj.read(1 << 20):  # type: ignore[union-attr]
                    pass  # up to the checksum that stands at the end of a compressed archive
    except _UNPACKING as error:
        if isinstance(error, OSError) and error.errno is not None and not isinstance(error, tarfile.TarError):
            raise  # the disk, not the archive
        raise DataError(
            f"{archive} cannot be unpacked: {' '.join(str(error).split())}. Is it a whole .tar.gz, .tar or .zip file?"
        ) from error
    return target


def _extract(archive: Any, members: Any, target: Path, **options: Any) -> None:
    done = 0
    with progress("unpack", total=0, unit="file") as advance:
        for member, name in members:
            if name.startswith("/") or ".." in PurePosixPath(name).parts:
                raise ValueError(f"its member {name} lies outside it")
            archive.extract(member, target, **options)
            done += 1
            if done % 500 == 0:
                advance(500)
        advance(done % 500)


def _digits(scratch: Path) -> Path:
    """scikit-learn's test part of the UCI optical digits, 8×8 pixels with 17 grey levels, scaled to 0..255."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    for index, (grey, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        path = scratch / "digits" / str(label) / f"{index:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        # Stored without compression, the file's bytes do not depend on the version of the compressor, and so
        # the dataset's version is the same everywhere.
        Image.fromarray((grey * 255 / 16).round().astype(np.uint8)).save(path, compress_level=0)
    return scratch / "digits"


def _torchvision(name: str, downloads: Path, scratch: Path) -> Path:
    import torchvision.datasets as zoo

    dataset_type = getattr(zoo, name, None)
    if not isinstance(dataset_type, type):
        from difflib import get_close_matches

        names = {known.lower(): known for known in zoo.__all__}
        near = get_close_matches(name.lower(), names, n=1, cutoff=0.4)
        raise ConfigurationError(
            f"ingest.source.torchvision: torchvision has no dataset {name!r}"
            + (f"; did you mean {names[near[0]]!r}?" if near else "")
        )
    root = scratch / "torchvision"
    for split, options in _torchvision_splits(dataset_type).items():
        try:
            dataset: Any = dataset_type(str(downloads), download=True, **options)
        except Exception as error:  # every dataset fails in its own way when its host cannot be reached
            raise DataError(
                f"torchvision dataset {name} could not be downloaded: {error}. Where its host cannot be reached, "
                f"put its files into {downloads} as torchvision's documentation of {name} lays out"
            ) from error
        _write_out(dataset, root / split)
    return root


def _torchvision_splits(dataset_type: type) -> dict[str, dict[str, Any]]:
    """How this dataset names its splits: by ``train=True/False``, by ``split=...``, or not at all."""
    from inspect import signature

    parameters = signature(dataset_type).parameters
    if "train" in parameters:
        return {"train": {"train": True}, "test": {"train": False}}
    if "split" in parameters:
        return {"train": {"split": "train"}, "test": {"split": "test"}}
    return {"": {}}


def _write_out(dataset: Any, root: Path) -> None:
    names = getattr(dataset, "classes", None)
    with progress("write", total=len(dataset), unit="img") as advance:
        for index in range(len(dataset)):
            image, target = dataset[index]
            label = str(names[target]) if names else str(target)
            path = root / label.replace("/", "-") / f"{index:06d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save(path)
            advance(1)
