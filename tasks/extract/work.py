"""An extraction as a piece of work that any thread, process or machine can do a part of."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain
from multiprocessing import get_context
from multiprocessing.context import SpawnContext
from pathlib import Path

import numpy as np
import torch

from tasks.errors import HeadstartError, WeightsError
from tasks.extract.backbones import Pool, load_backbone
from tasks.extract.engine import Compile, Decode, Engine
from tasks.extract.store import FeatureStore
from tasks.extract.weights import read_weights
from tasks.machine import usable_cores
from tasks.preprocess.recipe import Recipe
from tasks.progress import progress

MOST, BYTES = 4096, 64 * 2**20
"""Images, and bytes of features, that are claimed and written at once: what a killed process loses at most."""

POLL = 0.2
"""Seconds between two looks at what others have done."""


@dataclass(frozen=True)
class Work:
    """Which images are to be run through which network, and where the features go; small, and the same everywhere.

    Attributes:
        weights, path: as in `tasks.extract.weights.read_weights`.
        precision: as torch calls it, ``bfloat16``.
        store: folder of the feature space.
        images: folder of the content-addressed store of images.
        keys: file of the contents that are wanted (NumPy, S16 ``[N]``).
        shard: images that are claimed and written at once.
        digest: of the weights when the space was named; empty, whatever they are is taken.
    """

    backbone: str
    weights: str
    path: Path
    layers: tuple[str, ...]
    pool: Pool
    recipe: Recipe
    precision: str
    batch_size: int | None
    compile: Compile
    decode: Decode
    store: Path
    images: Path
    keys: Path
    shard: int
    digest: str = ""

    def read_keys(self, part: slice = slice(None)) -> np.ndarray:
        """The wanted contents, or a part of them."""
        return np.load(self.keys)[part]

    def image(self, key: bytes) -> Path:
        """The stored file of a content."""
        name = key.hex()
        return self.images / name[:2] / name[2:]


def shard_size(width: int) -> int:
    """Images of a shard whose features have a width."""
    return max(1, min(MOST, BYTES // (4 * width)))


def fill(work: Work, device: torch.device, part: slice = slice(None), cores: int | None = None) -> int:
    """Compute what is missing of a part of the work and nobody else is at; wait for what others are at.

    Any number of processes may do this at the same time, on any parts: none computes what another has in hand, and
    what a killed one had in hand is computed again.

    Args:
        cores: of this machine's, how many to use; by default all.

    Returns:
        The number of images computed here.

    Raises:
        DataError: an image cannot be decoded.
        StorageError: the features cannot be written.
    """
    store = FeatureStore(work.store)
    keys = work.read_keys(part)
    missing = keys[store.missing(keys)]
    computed = 0
    with progress("extract", len(keys), "img") as advance:
        advance(len(keys) - len(missing))
        while len(missing):
            with _Shards(work, store, missing) as shards:
                for features in shards.run(device, cores):
                    advance(len(features))
                computed += shards.written
            still = missing[store.missing(missing)]
            advance(len(missing) - len(still) - shards.written)  # others did the rest
            if len(still) == len(missing):
                store.wait(still)
            missing = still
    return computed


class _Shards:
    """Claims shard after shard, computes them as one stream of images so that no core waits between two, and writes
    each as soon as its last image is done."""

    def __init__(self, work: Work, store: FeatureStore, keys: np.ndarray) -> None:
        self.work, self.store, self.keys = work, store, keys
        self.written = 0
        self._claims: deque[tuple[np.ndarray, ExitStack]] = deque()
        self._shard: np.ndarray | None = None
        self._filled = 0

    def __enter__(self) -> _Shards:
        return self

    def __exit__(self, *raised: object) -> None:
        for _, claim in self._claims:
            claim.close()

    def run(self, device: torch.device, cores: int | None) -> Iterator[torch.Tensor]:
        """Compute and write; yields features as they come, for whoever counts."""
        images = self._images()
        if (first := next(images, None)) is None:
            return  # all of it is claimed by others: no network need be built
        engine = _engine(replace(self.work, keys=Path()), device, cores)
        for features in engine.run(chain([first], images), len(self.keys)):
            if engine.is_compiled:
                self.store.note_compiled()
            self._keep(features.numpy())
            yield features

    def _images(self) -> Iterator[Path]:
        for start in range(0, len(self.keys), self.work.shard):
            claim = ExitStack()
            mine = claim.enter_context(self.store.claim(self.keys[start : start + self.work.shard], self.work.shard))
            if not len(mine):
                claim.close()
                continue
            self._claims.append((mine, claim))
            yield from (self.work.image(bytes(key)) for key in mine.view("V16"))

    def _keep(self, features: np.ndarray) -> None:
        # Into one array, used again: batches that wait for their shard to be full would leave the threads' memory
        # in pieces that are never given back.
        if self._shard is None:
            self._shard = np.empty((self.work.shard, features.shape[1]), np.float32)
        while len(features):
            keys, _ = self._claims[0]
            taken = features[: len(keys) - self._filled]
            self._shard[self._filled : self._filled + len(taken)] = taken
            self._filled += len(taken)
            features = features[len(taken) :]
            if self._filled == len(keys):
                self._write(self._shard)

    def _write(self, shard: np.ndarray) -> None:
        keys, claim = self._claims.popleft()
        with claim:
            self.store.append(keys, shard[: len(keys)])
        self._filled = 0
        self.written += len(keys)


@lru_cache(maxsize=2)
def _engine(work: Work, device: torch.device, cores: int | None) -> Engine:
    weights = read_weights(work.backbone, work.weights, work.path)
    if work.digest and weights.digest != work.digest:
        raise WeightsError(f"extract.weights: {work.weights} changed during the extraction: run it again")
    backbone, _ = load_backbone(work.backbone, weights, work.layers, work.pool, work.recipe.size)
    precision = getattr(torch, work.precision)
    return Engine(backbone, work.recipe, device, precision, work.batch_size, work.compile, cores, work.decode)


def fill_on(devices: Sequence[torch.device], work: Work) -> None:
    """As `fill`, by one process for each of several devices; they share the work among themselves as it comes.

    Raises:
        HeadstartError: all processes have ended, and some work is left.
    """
    processes = [_context().Process(target=_fill_alone, args=(work, device, len(devices))) for device in devices]
    store, keys = FeatureStore(work.store), work.read_keys()
    left = keys[store.missing(keys)]
    for process in processes:
        process.start()
    try:
        with progress("extract", len(left), "img") as advance:
            while any(process.is_alive() for process in processes):
                time.sleep(POLL)
                still = left[store.missing(left)]
                advance(len(left) - len(still))
                left = still
    finally:  # whoever ends the run means these, too
        for process in processes:
            process.terminate()
            process.join()
    if len(left := left[store.missing(left)]):
        codes = ", ".join(f"{device}: {process.exitcode}" for device, process in zip(devices, processes, strict=True))
        raise HeadstartError(
            f"the processes that extract features ended before {len(left):,} of {len(keys):,} images were done "
            f"(exit codes {codes}); their messages are above. What is done is kept: run again to go on"
        )


def _context() -> SpawnContext:
    return get_context("spawn")  # CUDA cannot be used in a fork


def _fill_alone(work: Work, device: torch.device, count: int) -> None:
    fill(work, device, cores=max(1, usable_cores() // count))
