"""How long does it take to check, hash, split and version a folder of images, and how much memory?

Two works: the 60,000 JPEG files of CIFAR-10 (../shared), and a Parquet manifest of a million rows, each naming a
synthetic 16×16 PNG file of its own. Peers in the same run, on the same files:

- the loop people write: torchvision's `ImageFolder`, one thread, every image hashed and decoded. It keeps no copy,
  makes no version and finds no duplicates;
- `dvc add`, which hashes, versions and stores, but looks at no image.

Ours does all of it. Each measurement is a process of its own, timed without its imports; memory is the sum of the
proportional set sizes of its process tree, at its peak.

Command: python benchmarks/ingest.py [--rows 1000000] [--scratch FOLDER]   (25 minutes and 12 GB of disk on two cores)
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
from PIL import Image

ROOT = Path(__file__).parents[1]
CIFAR10 = ROOT.parent / "shared/datasets/cifar10-jpeg.tar.gz"

OURS = """
import json, sys, time
from pathlib import Path
from tasks.ingest.config import IngestConfig
from tasks.ingest.door import ingest_images
from tasks.workspace import Workspace
import pandas, pyarrow.parquet, dvc.repo, loky, matplotlib.figure
source, workspace = json.loads(sys.argv[1]), Workspace(Path(sys.argv[2]))
started = time.perf_counter()
dataset = ingest_images(IngestConfig.model_validate({"source": source}), workspace)
print(json.dumps([time.perf_counter() - started, sum(dataset.counts.values()), dataset.version]))
"""

LOOP = """
import hashlib, io, json, sys, time
from PIL import Image
from torchvision.datasets import ImageFolder
started = time.perf_counter()
seen = {}
for path, label in ImageFolder(sys.argv[1]).samples:
    with open(path, "rb") as file:
        content = file.read()
    seen[hashlib.md5(content).hexdigest()] = (path, label)
    Image.open(io.BytesIO(content)).convert("RGB")
print(json.dumps([time.perf_counter() - started, len(seen), ""]))
"""

DVC = """
import json, subprocess, sys, time
subprocess.run([sys.executable, "-m", "dvc", "init", "--no-scm", "--quiet"], check=True)
subprocess.run([sys.executable, "-m", "dvc", "config", "cache.type", "hardlink"], check=True)
started = time.perf_counter()
subprocess.run([sys.executable, "-m", "dvc", "add", "--quiet", "data"], check=True)
print(json.dumps([time.perf_counter() - started, 0, ""]))
"""


def measure(script: str, *arguments: str, cwd: Path = ROOT) -> tuple[float, int, float]:
    """Seconds, images and peak memory in MiB of a script in a process of its own."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "DVC_NO_ANALYTICS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", script, *arguments], cwd=cwd, env=environment, stdout=subprocess.PIPE, text=True
    )
    peak = 0
    while process.poll() is None:
        peak = max(peak, _memory(process.pid))
        time.sleep(0.25)
    assert process.stdout is not None and process.returncode == 0
    seconds, images, _ = json.loads(process.stdout.read().splitlines()[-1])
    return seconds, images, peak / 2**20


def _memory(pid: int) -> int:
    total = 0
    try:
        parent = psutil.Process(pid)
        for process in (parent, *parent.children(recursive=True)):
            total += process.memory_full_info().pss
    except psutil.Error:
        pass
    return total


def unpack(scratch: Path) -> Path:
    """CIFAR-10 as a folder of files."""
    folder = scratch / "cifar10"
    with tarfile.open(CIFAR10) as archive:
        archive.extractall(folder, filter="data")
    return folder


def synthesise(folder: Path, rows: int) -> Path:
    """A manifest and as many PNG files of 16×16 random pixels, a thousand in a folder, ten classes."""
    generator = np.random.default_rng(0)
    paths = []
    for number in range(rows):
        path = f"class{number // 1000 % 10}/{number // 10_000:04d}/{number:07d}.png"
        if number % 1000 == 0:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
        file = io.BytesIO()
        Image.fromarray(generator.integers(0, 256, (16, 16), np.uint8)).save(file, "PNG", compress_level=0)
        (folder / path).write_bytes(file.getvalue())
        paths.append(path)
    table = folder / "manifest.parquet"
    pd.DataFrame({"path": paths, "label": [path.split("/")[0] for path in paths]}).to_parquet(table)
    return table


def change_one_percent(folder: Path) -> int:
    """Put a new image beside every hundredth."""
    files = sorted(folder.glob("train/*/*"))[::100]
    for file in files:
        image = np.asarray(Image.open(file)).copy()
        image[0, 0] ^= 255
        Image.fromarray(image).save(file.with_name(f"new-{file.stem}.png"))
    return len(files)


class Report:
    """Rows of a Markdown table, printed as they come."""

    def __init__(self) -> None:
        print("\n| work | img/s | seconds | ratio | peak MiB |\n|---|---|---|---|---|")
        self.base: dict[str, float] = {}

    def row(self, work: str, what: str, images: int, result: tuple[float, int, float], base: bool = False) -> None:
        seconds, _, memory = result
        if base:
            self.base[work] = seconds
        ratio = f"{self.base[work] / seconds:.2f}×"
        print(f"| {work}: {what} | {images / seconds:,.0f} | {seconds:.1f} | {ratio} | {memory:,.0f} |", flush=True)


def real(scratch: Path, report: Report) -> None:
    """The 60,000 files."""
    folder = unpack(scratch)
    count = sum(1 for path in folder.rglob("*") if path.is_file())
    work = f"CIFAR-10, {count:,} JPEG files"
    for part in ("train", "test"):  # one reading, so that all find the files in the page cache
        measure(LOOP, str(folder / part))
    train, test = (measure(LOOP, str(folder / part)) for part in ("train", "test"))
    both = train[0] + test[0], train[1] + test[1], max(train[2], test[2])
    report.row(work, "ImageFolder, one thread", count, both, base=True)
    peer = scratch / "dvc"
    peer.mkdir()
    shutil.copytree(folder, peer / "data")
    report.row(work, "dvc add", count, measure(DVC, cwd=peer))
    shutil.rmtree(peer)
    settle()
    home = scratch / "workspace"
    source = json.dumps({"folder": str(folder)})
    report.row(work, "headstart, first time", count, measure(OURS, source, str(home)))
    report.row(work, "headstart, unchanged", count, measure(OURS, source, str(home)))
    new = change_one_percent(folder)
    report.row(work, f"headstart, {new:,} new images", count, measure(OURS, source, str(home)))
    archive = json.dumps({"archive": str(CIFAR10)})
    report.row(work, "headstart, from the archive", count, measure(OURS, archive, str(scratch / "other")))
    report.row(work, "headstart, archive unchanged", count, measure(OURS, archive, str(scratch / "other")))


def synthetic(scratch: Path, rows: int, report: Report) -> None:
    """The manifest of a million rows."""
    folder = scratch / "synthetic"
    table = synthesise(folder, rows)
    work = f"manifest, {rows:,} PNG files"
    report.row(work, "ImageFolder, one thread", rows, measure(LOOP, str(folder)), base=True)
    settle()
    source, home = json.dumps({"table": str(table)}), str(scratch / "workspace")
    report.row(work, "headstart, first time", rows, measure(OURS, source, home))
    report.row(work, "headstart, unchanged", rows, measure(OURS, source, home))


def settle() -> None:
    """Let the file system finish what was written and removed before."""
    os.sync()
    time.sleep(30)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--scratch", type=Path, default=None, help="a folder on a real disk")
    options = parser.parse_args()
    memory = psutil.virtual_memory().total / 2**30
    print(f"{os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()}, Python {platform.python_version()}")
    report = Report()
    for part in (lambda scratch: real(scratch, report), lambda scratch: synthetic(scratch, options.rows, report)):
        with tempfile.TemporaryDirectory(dir=options.scratch, ignore_cleanup_errors=True) as scratch:
            part(Path(scratch))


if __name__ == "__main__":
    main()
