"""The frozen forward pass: images in, features out, as fast as the machine goes."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import islice
from typing import Literal

import torch

from tasks.errors import HeadstartError
from tasks.extract.backbones import Backbone
from tasks.extract.hardware import decode_on
from tasks.extract.inference import Forward, compiled, compiling_pays, flops, matrix_rate, prepared
from tasks.ingest.decode import ImageLike
from tasks.machine import usable_cores
from tasks.preprocess.loading import made_ahead
from tasks.preprocess.recipe import Recipe
from tasks.progress import tell
from tasks.wording import first_line

Compile = Literal["auto", "always", "never"]
Decode = Literal["exact", "device"]

GPU_STREAMS = 4

FED_BY_PROCESSES = 2048
"""Images from which on processes decode for a GPU; their start takes a second."""

PIXELS_AT_ONCE = {"cpu": 8 * 224 * 224, "cuda": 256 * 224 * 224}
"""Input pixels of a batch, by kind of device: enough to keep its arithmetic busy, few enough for its caches."""

AHEAD = 2
"""Batches that every stream may be ahead of the reader."""


class OutOfMemory(HeadstartError):
    """Not even one image fits into the device's memory."""


class Engine:
    """Runs images through a frozen backbone.

    The work is done by *streams*, threads that read, decode, fit and forward whole batches. On a CPU each core is a
    stream that computes alone: cores never wait for each other in the middle of a layer, and while one decodes, the
    others multiply. A GPU is fed by processes that decode (see `tasks.preprocess.loading`) or, where the images are
    few or it decodes itself, by streams. A batch too large for the memory is halved, and nothing is computed twice.

    Attributes:
        batch: images of a batch.
        share: of the device's matrix rate that the forward pass reached, once `run` has measured it.
    """

    def __init__(
        self, backbone: Backbone, recipe: Recipe, device: torch.device, precision: torch.dtype,
        batch_size: int | None = None, compile: Compile = "auto", cores: int | None = None,
        decode: Decode = "exact",
    ) -> None:  # fmt: skip
        self.backbone = prepared(backbone, device, precision)
        self.recipe, self.device, self.precision, self.compile = recipe, device, precision, compile
        self.batch = max(1, batch_size // recipe.count) if batch_size else default_batch(recipe, device)
        self.cores, self.decode = cores or usable_cores(), decode
        self.share: float | None = None
        self._forward: Forward = self.backbone
        self._most = self.batch * recipe.count
        self._settled = compile == "never"

    @property
    def is_compiled(self) -> bool:
        """Whether full batches go through a compiled forward pass by now, which rounds otherwise."""
        return self._forward is not self.backbone

    def run(self, images: Iterable[ImageLike], total: int) -> Iterator[torch.Tensor]:
        """Features of images in their order, a batch at a time: float32 ``[n, width]`` on the CPU.

        Of several views of an image, the mean is taken.

        Args:
            images: taken from as they are needed.
            total: about how many there are.

        Raises:
            DataError: an image cannot be decoded.
            OutOfMemory: not even one image fits into the device's memory.
        """
        if self.device.type == "cuda" and self.decode == "exact" and total >= FED_BY_PROCESSES:
            yield from self._fed(iter(images), total)
        else:
            yield from self._streamed(images, total)

    def _fed(self, images: Iterator[ImageLike], total: int) -> Iterator[torch.Tensor]:
        """As `run`: processes decode, and the device computes a batch while the one before is handed on."""
        orders = iter(lambda: list(islice(images, self.batch)), [])
        size = 3 * self.recipe.size**2 * self.recipe.count * self.batch
        waiting: deque[torch.Tensor] = deque()
        done, started = 0, time.perf_counter()
        for pixels in made_ahead(self._decoded, orders, self.cores, size):
            views = pixels.to(self.device, non_blocking=True)
            waiting.append(self.forward(views))
            if len(waiting) == AHEAD:
                features = self._averaged(waiting.popleft())
                done += len(features)
                yield features
                if not self._settled and done >= AHEAD * AHEAD * self.cores * self.batch:
                    self._settle(done / (time.perf_counter() - started), total - done, partial(torch.as_tensor, views))
        yield from (self._averaged(each) for each in waiting)

    def _streamed(self, images: Iterable[ImageLike], total: int) -> Iterator[torch.Tensor]:
        """As `run`, by streams."""
        streams, threads = _streams(total, self.device, self.cores)
        batch = max(1, min(self.batch, -(-total // streams)))
        coming = iter(images)
        waiting: deque[Future[torch.Tensor]] = deque()
        done, started = 0, time.perf_counter()
        with _computing_threads(threads), ThreadPoolExecutor(streams, initializer=_begin, initargs=(threads,)) as pool:
            try:
                while taken := list(islice(coming, batch)):
                    waiting.append(pool.submit(self._features, taken))
                    if len(waiting) < AHEAD * streams:
                        continue
                    features = waiting.popleft().result()
                    done += len(features)
                    yield features
                    if not self._settled and done >= AHEAD * streams * batch:
                        self._settle(done / (time.perf_counter() - started), total - done, partial(self._views, taken))
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()

    def _features(self, images: Sequence[ImageLike]) -> torch.Tensor:
        return self._averaged(self.forward(self._views(images)))

    def _averaged(self, features: torch.Tensor) -> torch.Tensor:
        """Features ``[n, width]``, on the CPU, of those of ``[n * views, width]``."""
        return features.reshape(-1, self.recipe.count, features.shape[-1]).mean(1).cpu()

    def _decoded(self, images: Sequence[ImageLike]) -> torch.Tensor:
        """All views of all images: uint8 ``[N, 3, S, S]``."""
        pixels = torch.stack([self.recipe(image) for image in images])
        return pixels.reshape(-1, *pixels.shape[-3:])

    def _views(self, images: Sequence[ImageLike]) -> torch.Tensor:
        """All views of all images on the device: uint8 ``[N, 3, S, S]``."""
        if self.decode == "device":
            pixels = torch.stack(
                [self.recipe.fitted(image) for image in decode_on(self.device, images, self.recipe.limits)]
            )
            views = pixels.reshape(-1, *pixels.shape[-3:])
        else:
            views = self._decoded(images)
        if self.device.type == "cuda" and views.device.type == "cpu":
            views = views.pin_memory()
        return views.to(self.device, non_blocking=True)

    @torch.inference_mode()
    def forward(self, views: torch.Tensor) -> torch.Tensor:
        """Features ``[N, width]`` of uint8 images ``[N, 3, S, S]`` on the device, in as many parts as its memory
        asks for."""
        while True:
            try:
                return torch.cat([self._part(part) for part in views.split(self._most)])
            except RuntimeError as error:
                if not _is_out_of_memory(error):
                    raise
                self._halve(len(views))

    def _part(self, views: torch.Tensor) -> torch.Tensor:
        # What was compiled was so for full batches.
        is_full = len(views) == self.batch * self.recipe.count
        return self._forward(views) if is_full else self.backbone(views)

    def _halve(self, count: int) -> None:
        smaller = min(self._most, count) // 2
        if smaller < 1:
            raise OutOfMemory(
                f"one image of {self.recipe.size}×{self.recipe.size} pixels does not fit into the memory of "
                f"{self.device}: take a smaller preprocess.size or extract.backbone, or extract.device: cpu"
            )
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        if smaller < self._most:
            self._most = smaller
            tell(f"extract\tout of memory: goes on with {smaller:,} images at once")

    def _settle(self, rate: float, remaining: int, sample: Callable[[], torch.Tensor]) -> None:
        """Compile, once the work left is known to outweigh it and the machine's limit is not reached anyway.

        Args:
            rate: images a second.
            sample: gives the views of a batch on the device, where they are needed.
        """
        self._settled = True
        if self.compile == "auto":
            if self.device.type != "cpu" and self._waits_for_images(rate, sample()):
                return
            needed = rate * flops(self.backbone, self.recipe.size) * self.recipe.count
            if not compiling_pays(remaining / rate, 0.0):
                return
            with _computing_threads(self.cores):
                self.share = needed / matrix_rate(self.device, self.precision)
            if not compiling_pays(remaining / rate, self.share):
                return
        try:
            views = sample()
            forward = compiled(self.backbone, views)
            self._forward = self._faster(forward, views) if self.compile == "auto" else forward
        except Exception as error:  # no compiler, or one that this network is too much for
            tell(f"extract\tgoes on without compiling: {first_line(error)}")

    @torch.inference_mode()
    def _waits_for_images(self, rate: float, views: torch.Tensor) -> bool:
        """Whether the device spends less than half of the time on its forward pass, which compiling could shorten."""
        return rate * self.recipe.count < len(views) / _seconds(self.backbone, views) / 2

    @torch.inference_mode()
    def _faster(self, candidate: Forward, pixels: torch.Tensor) -> Forward:
        return candidate if _seconds(candidate, pixels) < _seconds(self.backbone, pixels) else self.backbone


def forward_all(
    backbone: Backbone, images: Sequence[ImageLike], recipe: Recipe, *, device: torch.device,
    precision: torch.dtype, batch_size: int | None = None,
) -> Iterator[torch.Tensor]:  # fmt: skip
    """Features of images in their order, a batch at a time; see `Engine.run`."""
    yield from Engine(backbone, recipe, device, precision, batch_size).run(images, len(images))


def default_batch(recipe: Recipe, device: torch.device) -> int:
    """Images of a batch where the configuration does not say: by their pixels and what the device likes."""
    most = PIXELS_AT_ONCE.get(device.type, PIXELS_AT_ONCE["cpu"])
    return max(1, min(128 if device.type == "cpu" else 1024, most // (recipe.size**2 * recipe.count)))


def _streams(images: int, device: torch.device, cores: int) -> tuple[int, int]:
    """Streams, and computing threads of each. On a GPU a few keep it busy, and more would wait for each other."""
    streams = max(1, min(cores if device.type == "cpu" else GPU_STREAMS, images))
    return streams, (cores // streams if device.type == "cpu" else 1)


def _begin(threads: int) -> None:
    torch.set_num_threads(threads)


@contextmanager
def _computing_threads(count: int) -> Iterator[None]:
    """The number of threads that one operation is spread over; the streams share the cores among themselves."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _is_out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _seconds(forward: Forward, pixels: torch.Tensor) -> float:
    """Of one pass, the faster of two."""
    times = []
    for _ in range(2):
        started = time.perf_counter()
        forward(pixels)[0, 0].item()
        times.append(time.perf_counter() - started)
    return min(times)
