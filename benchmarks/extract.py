"""How near does the extraction of features come to what the machine can do, and how far ahead of what people write?

Every row is measured in this run, decoding and writing included. Peers:

- the loop people write: `ImageFolder`, `DataLoader` with a worker for each core, fp32 ``model(x)`` under ``no_grad``,
  batches of 64, on a GPU of 256;
- the same loop in bf16 and channels_last, which is what a practitioner makes of it;
- timm's feature extraction (``num_classes=0``, its own loader), where timm is installed;
- the article's procedure: the frozen base run again on every image in every epoch, those of the test set included, with
  a head trained on top.

The ceiling is the fastest bf16 matrix product of several sizes, on all cores together and on each core by itself. On a
GPU ours runs twice: images decoded by the cores, and by the device (``extract.decode: device``).
Weights are random: only time counts, and the accuracies of the article's experiment, which start from the same ones.

Command: python benchmarks/extract.py [--only vgg16 photos article cached memory] [--images 60000]
         (15 minutes on two cores; on a machine with torch and torchvision alone it runs what needs no more.
         HEADSTART_SHARED names another folder of datasets)
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Subset
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from tasks.extract.backbones import load_backbone
from tasks.extract.engine import Decode, Engine
from tasks.extract.inference import flops, matrix_rate
from tasks.extract.precision import choose_device, choose_precision
from tasks.extract.weights import IMAGENET_MEAN, IMAGENET_STD, build_network, read_weights
from tasks.preprocess.recipe import Recipe

ROOT = Path(__file__).parents[1]
SHARED = Path(os.environ.get("HEADSTART_SHARED", ROOT.parent / "shared" / "datasets"))
DEVICE = choose_device()
PRECISION = choose_precision("auto", DEVICE)
ON_GPU = DEVICE.type == "cuda"
WORKERS = os.cpu_count() or 1
BATCH = 256 if ON_GPU else 64
"""Of the peers."""
PEER_IMAGES, PEER_PHOTOS = (20_000, 4_000) if ON_GPU else (2_000, 300)
"""Peers are timed on so many images: they are slow, and as slow on the others."""
PHOTOS = 8_000 if ON_GPU else 2_000
PHOTO_NETWORKS = ("resnet50", "mobilenet_v2", "vit_b_16") if ON_GPU else ("resnet18", "mobilenet_v2")


TIMM = {"mobilenet_v2": "mobilenetv2_100", "vit_b_16": "vit_base_patch16_224"}
"""What timm calls networks, where it calls them otherwise."""


def machine() -> str:
    """The machine in a line."""
    name = torch.cuda.get_device_name() if DEVICE.type == "cuda" else torch.backends.cpu.get_cpu_capability()
    return (
        f"{os.cpu_count()} cores, {name}, {PRECISION}, torch {torch.__version__}, Python {platform.python_version()}, "
        f"{platform.system()}"
    )


def ceiling() -> float:
    """Floating-point operations per second of the fastest matrix products."""
    together = matrix_rate(DEVICE, PRECISION, seconds=1.0)
    if DEVICE.type != "cpu":
        return together
    count, rates = os.cpu_count() or 1, []

    def alone() -> None:
        torch.set_num_threads(1)
        rates.append(matrix_rate(DEVICE, PRECISION, seconds=1.0))

    threads = [threading.Thread(target=alone) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    torch.set_num_threads(count)
    return max(together, sum(rates))


def unpack(name: str, folder: Path) -> Path:
    """An archive of shared/ as a folder."""
    with tarfile.open(SHARED / name) as archive:
        archive.extractall(folder, filter="data")
    return folder


def photos(scratch: Path, count: int = PHOTOS) -> Path:
    """A folder of natural photos: hymenoptera and, where it is there, the photo domain of PACS; again under other names
    where more are wanted."""
    chosen = scratch / "photos" / "all"
    chosen.mkdir(parents=True)
    found = sorted(unpack("hymenoptera.tar.gz", scratch / "hymenoptera").rglob("*.jpg"))
    if (SHARED / "pacs-128.tar.gz").is_file():
        pacs = unpack("pacs-128.tar.gz", scratch / "pacs")
        found += sorted(path for path in pacs.rglob("*.jpg") if "photo" in str(path))
    for number in range(count):
        os.link(found[number % len(found)], chosen / f"{number:05d}.jpg")
    return chosen.parent


def ours(
    name: str, images: list[Path], size: int, layer: str | None, out: Path, decode: Decode = "exact"
) -> tuple[float, Engine]:
    """Seconds from files to features on the disk."""
    backbone, _ = load_backbone(name, read_weights(name, "random", Path()), [layer] if layer else [], "avg")
    started = time.perf_counter()
    engine = Engine(backbone, Recipe(size), DEVICE, PRECISION, decode=decode)
    with out.open("wb") as file:
        for features in engine.run(images, len(images)):
            file.write(features.numpy().tobytes())
        os.fsync(file.fileno())
    return time.perf_counter() - started, engine


def loader(folder: Path, size: int, count: int, batch: int = BATCH, shuffle: bool = False) -> DataLoader:
    """What a tutorial writes."""
    transform = v2.Compose([
        v2.Resize(size), v2.CenterCrop(size), v2.ToImage(), v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(IMAGENET_MEAN, IMAGENET_STD),
    ])  # fmt: skip
    images = ImageFolder(str(folder), transform)
    chosen = np.random.default_rng(0).permutation(len(images))[:count].tolist()
    return DataLoader(Subset(images, chosen), batch, num_workers=WORKERS, shuffle=shuffle, pin_memory=ON_GPU)


def headless(name: str) -> nn.Module:
    """A torchvision network whose output are features."""
    network = build_network(name)
    if name == "vgg16":
        return nn.Sequential(network.features, nn.AdaptiveAvgPool2d(1), nn.Flatten())  # type: ignore[attr-defined]
    last = next(attribute for attribute in ("fc", "heads", "classifier") if hasattr(network, attribute))
    setattr(network, last, nn.Identity())
    return network


@torch.no_grad()
def loop(network: nn.Module, batches: DataLoader, precision: torch.dtype = torch.float32) -> float:
    """Images per second of the loop people write."""
    network = network.eval().to(DEVICE)
    if precision != torch.float32:
        network = network.to(precision).to(memory_format=torch.channels_last)
    parts, started = [], time.perf_counter()
    for images, _ in batches:
        images = images.to(DEVICE, precision, non_blocking=True)
        if precision != torch.float32:
            images = images.contiguous(memory_format=torch.channels_last)
        parts.append(network(images).float().cpu())
    return len(torch.cat(parts)) / (time.perf_counter() - started)


def timm_loop(name: str, folder: Path, size: int, count: int) -> float | None:
    """Images per second of timm's feature extraction; None without timm."""
    try:
        import timm
    except ImportError:
        return None
    network = timm.create_model(name, pretrained=False, num_classes=0).eval()
    dataset = ImageFolder(str(folder), timm.data.create_transform(size, is_training=False, crop_pct=1.0))
    pooling = nn.Sequential(_Features(network), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    plain = name.startswith("vit")  # whose forward pass ends with features
    batches = DataLoader(Subset(dataset, range(count)), BATCH, num_workers=WORKERS, pin_memory=ON_GPU)
    return loop(network if plain else pooling, batches)


class _Features(nn.Module):
    """timm's way to a network's last map."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.network.forward_features(images)  # type: ignore[operator]


class Table:
    """Rows of a Markdown table, printed as they come."""

    def __init__(self, *head: str) -> None:
        print(f"\n| {' | '.join(head)} |\n|{'---|' * len(head)}", flush=True)

    def row(self, *cells: str) -> None:
        print(f"| {' | '.join(cells)} |", flush=True)


def speed(scratch: Path, which: str, limit: int) -> None:
    """Images per second of ours and of the peers, and the share of the ceiling."""
    if which == "vgg16":
        folder, works = unpack("cifar10-jpeg.tar.gz", scratch), [("vgg16", 32, "features")]
        folder, count = folder / "train", limit
        images = sorted(scratch.rglob("*.jpg"))[:limit]
    else:
        folder, works = photos(scratch), [(name, 224, None) for name in PHOTO_NETWORKS]
        images = sorted(folder.rglob("*.jpg"))
        count = len(images)
    table = Table("work", "img/s", "GFLOP/s", "of the ceiling", "ours is faster by")
    for name, size, layer in works:
        top = ceiling()
        seconds, engine = ours(name, images, size, layer, scratch / "features.bin")
        needed, rate = flops(engine.backbone, size), count / seconds
        title = f"{name} at {size} px"
        speeded = "compiled" if engine._forward is not engine.backbone else "not compiled"
        table.row(f"**{title}, {count:,} files, {speeded}**", f"{rate:,.0f}", f"{rate * needed / 1e9:,.0f}",
                  f"{rate * needed / top:.0%} of {top / 1e9:,.0f}", "")  # fmt: skip
        if ON_GPU:
            again = count / ours(name, images, size, layer, scratch / "features.bin", "device")[0]
            table.row("**the same, decoded by the device**", f"{again:,.0f}", f"{again * needed / 1e9:,.0f}",
                      f"{again * needed / top:.0%}", "")  # fmt: skip
            rate = max(rate, again)
        some = min(PEER_IMAGES if size == 32 else PEER_PHOTOS, count)
        peers = {
            "DataLoader, fp32": loop(headless(name), loader(folder, size, some)),
            f"DataLoader, {str(PRECISION)[6:]} channels_last": loop(
                headless(name), loader(folder, size, some), PRECISION
            ),
            "timm, fp32": timm_loop(TIMM.get(name, name), folder, size, some),
        }
        for what, peer in peers.items():
            if peer:
                table.row(f"{title}: {what}", f"{peer:,.0f}", f"{peer * needed / 1e9:,.0f}",
                          f"{peer * needed / top:.0%}", f"{rate / peer:.2f}×")  # fmt: skip


def article(scratch: Path, count: int, epochs: int = 10) -> None:
    """The article's experiment, the base run in every epoch, against extracting once; same weights, same images."""
    from tasks.train.solvers import fit_mlp

    unpack("cifar10-jpeg.tar.gz", scratch)
    train, test = (loader(scratch / part, 32, size, 64, shuffle=part == "train")
                   for part, size in (("train", count), ("test", count // 5)))  # fmt: skip
    weights = read_weights("vgg16", "random", Path())
    network = build_network("vgg16")
    network.load_state_dict(weights.state)
    base = nn.Sequential(network.features, nn.Flatten()).eval().to(DEVICE)  # type: ignore[attr-defined]
    torch.manual_seed(0)
    head = nn.Sequential(nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, 10)).to(DEVICE)
    optimiser = torch.optim.Adam(head.parameters())
    started = time.perf_counter()
    for _ in range(epochs):
        for images, labels in train:
            with torch.no_grad():
                features = base(images.to(DEVICE))
            loss = cross_entropy(head(features), labels.to(DEVICE))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        with torch.no_grad():
            right = sum(int((head(base(i.to(DEVICE))).argmax(1) == labels.to(DEVICE)).sum()) for i, labels in test)
    peer, peer_accuracy = time.perf_counter() - started, right / (count // 5)

    sets = [(batches.dataset.dataset, batches.dataset.indices) for batches in (train, test)]  # type: ignore[attr-defined]
    started = time.perf_counter()
    backbone, _ = load_backbone("vgg16", weights, ["features"], "flatten")
    engine = Engine(backbone, Recipe(32), DEVICE, PRECISION)
    parts = []
    for images, chosen in sets:
        paths = [Path(images.samples[index][0]) for index in chosen]
        parts.append(
            (torch.cat(list(engine.run(paths, len(paths)))), torch.tensor([images.targets[i] for i in chosen]))
        )
    extracted = time.perf_counter() - started
    (features, labels), (held_out, truth) = parts
    kept = len(labels) * 9 // 10
    fit = fit_mlp(
        (features[:kept], labels[:kept]), (features[kept:], labels[kept:]), 10, hidden=256, epochs=epochs,
        learning_rate=1e-3, batch_size=64, seed=0,
    )  # fmt: skip
    accuracy = float((fit.head(held_out).argmax(1) == truth).double().mean())
    seconds = time.perf_counter() - started
    table = Table(f"the article's experiment, {count:,} images, {epochs} epochs", "seconds", "test accuracy", "ratio")
    table.row("base run in every epoch, fp32", f"{peer:.1f}", f"{peer_accuracy:.4f}", "1.0×")
    table.row(f"extracted once ({extracted:.1f} s), then trained", f"{seconds:.1f}", f"{accuracy:.4f}",
              f"{peer / seconds:.1f}×")  # fmt: skip


def addressed(folder: Path, images: list[Path], copies: int = 1) -> np.ndarray:
    """Images under the names of their contents, as DVC's store has them; with more copies, under further names."""
    from tasks.extract.store import keys_of

    hashes = []
    for path in images:
        for name in names_of(path, copies):
            target = folder / name[:2] / name[2:]
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.exists():
                os.link(path, target)
            hashes.append(name)
    return keys_of(list(dict.fromkeys(hashes)))


def names_of(path: Path, copies: int = 1) -> list[str]:
    """MD5 of a file's content; of further copies, with that many zeros behind it."""
    content = path.read_bytes()
    return [hashlib.md5(content + bytes(copy)).hexdigest() for copy in range(copies)]


def cached(scratch: Path, limit: int) -> None:
    """What a second head, and one percent of new images, cost where features are kept."""
    from tasks.extract.store import FeatureStore
    from tasks.extract.work import Work, fill
    from tasks.train.solvers import fit_linear, fit_mlp

    found = sorted(unpack("cifar10-jpeg.tar.gz", scratch).rglob("*.jpg"))
    images = [found[index] for index in np.random.default_rng(0).permutation(len(found))[:limit]]
    keys = addressed(scratch / "store", images)
    FeatureStore.open(scratch / "features", {})
    np.save(scratch / "keys.npy", keys[: len(keys) * 100 // 101])
    work = Work("vgg16", "random", Path(), ("features",), "avg", Recipe(32), str(PRECISION)[6:], None, "auto", "exact",
                scratch / "features", scratch / "store", scratch / "keys.npy", 4096)  # fmt: skip
    first = timed(lambda: fill(work, DEVICE))
    again = timed(lambda: fill(work, DEVICE))
    np.save(scratch / "keys.npy", keys)
    more = timed(lambda: fill(work, DEVICE))
    matrix = np.empty((len(keys), 512), np.float32)
    reading = timed(lambda: FeatureStore(scratch / "features").read(keys, matrix))
    copying = timed(lambda: np.copyto(np.empty_like(matrix), matrix))
    features = torch.from_numpy(matrix)
    kept = {key: path.parent.name for key, path in ((names_of(path)[0], path) for path in images)}
    names = sorted(set(kept.values()))
    labels = torch.tensor([names.index(kept[key.hex()]) for key in keys.view("V16").tolist()])
    cut = len(keys) * 9 // 10
    sides = (features[:cut], labels[:cut]), (features[cut:], labels[cut:])
    table = Table(f"VGG16 at 32 px, {len(keys):,} images", "seconds", "of the first time")
    for what, seconds in {
        "features, the first time": first,
        "features, nothing new": again,
        f"features, {len(keys) - len(keys) * 100 // 101:,} new images (1%)": more,
        f"reading all features (copying a matrix of this size: {copying:.2f})": reading,
        "a new linear head, all strengths": timed(lambda: fit_linear(*sides, 10)) + reading,
        "a new MLP head, 10 epochs": reading + timed(
            lambda: fit_mlp(*sides, 10, hidden=256, epochs=10, learning_rate=1e-3, batch_size=64, seed=0)
        ),
    }.items():  # fmt: skip
        table.row(what, f"{seconds:.2f}", f"{seconds / first:.1%}")


def timed(work) -> float:  # type: ignore[no-untyped-def]
    """Seconds of a call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


MEMORY = """
import resource, sys
from pathlib import Path
import torch
from tasks.extract.space import wanted_keys
from tasks.extract.store import FeatureStore
from tasks.extract.work import Work, fill
from tasks.preprocess.recipe import Recipe
import numpy as np
root, manifest = Path(sys.argv[1]), Path(sys.argv[2])
class Dataset: pass
dataset = Dataset(); dataset.manifest = manifest
keys = wanted_keys(dataset)
store = FeatureStore.open(root / "features" / manifest.stem, {})
np.save(root / "keys.npy", keys[store.missing(keys)])
work = Work("shufflenet_v2_x0_5", "random", Path(), (), "avg", Recipe(16), "bfloat16", None, "never", "exact",
            store.folder, root / "store", root / "keys.npy", 4096)
fill(work, torch.device("cpu"))
print(len(keys), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def memory(scratch: Path, rows: int = 600_000) -> None:
    """Peak memory of an extraction over a tenth of the rows, and over all."""
    import pandas as pd

    images = sorted(unpack("cifar10-jpeg.tar.gz", scratch).rglob("*.jpg"))[: rows // 10]
    keys = addressed(scratch / "store", images, 10)
    hashes = [key.hex() for key in keys.view("V16").tolist()]
    table = Table("rows of the manifest", "seconds", "peak MiB")
    for count in (len(hashes) // 10, len(hashes)):
        manifest = scratch / f"{count}.parquet"
        pd.DataFrame({"hash": hashes[:count], "split": "train"}).to_parquet(manifest)
        started = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", MEMORY, str(scratch), str(manifest)], cwd=ROOT, check=True, text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE,
        )  # fmt: skip
        number, peak = done.stdout.split()
        table.row(f"{int(number):,}", f"{time.perf_counter() - started:.1f}", f"{float(peak):,.0f}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sections = ("vgg16", "photos", "article", "cached", "memory")
    parser.add_argument("--only", nargs="*", choices=sections, default=sections)
    parser.add_argument("--images", type=int, default=60_000, help="of CIFAR-10")
    parser.add_argument("--article", type=int, default=5_000, help="training images of the article's experiment")
    options = parser.parse_args()
    print(machine())
    for section in options.only:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
            match section:
                case "article":
                    article(Path(scratch), options.article)
                case "cached":
                    cached(Path(scratch), options.images)
                case "memory":
                    memory(Path(scratch))
                case _:
                    speed(Path(scratch), section, options.images)


if __name__ == "__main__":
    main()
