"""How much faster is it to run the frozen base once than once an epoch?

The peer is the loop that tutorials write: VGG16 in fp32 with a frozen base, `Flatten → Dense(256) → Dense(classes)` on
top, Adam, batch 64, the base run again on every image in every epoch. Ours extracts features once (bf16 where the
device computes it natively) and trains the same head on them. Same images, same epochs, random weights: only time
counts.

Command: python benchmarks/frozen_once.py [--images 1500] [--epochs 10]
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy

from tasks.extract.backbones import Backbone, load_backbone
from tasks.extract.engine import forward_all
from tasks.extract.precision import choose_device, choose_precision
from tasks.extract.weights import read_weights
from tasks.preprocess.recipe import Recipe, load_pixels
from tasks.train.solvers import fit_mlp


def peer(backbone: Backbone, pixels: torch.Tensor, labels: torch.Tensor, epochs: int) -> float:
    """Seconds of the tutorial's loop."""
    device = choose_device()
    backbone = backbone.to(device).eval()
    head = nn.Sequential(nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, 10)).to(device)
    optimiser = torch.optim.Adam(head.parameters())
    started = time.perf_counter()
    for _ in range(epochs):
        for chosen in torch.randperm(len(labels)).split(64):
            with torch.no_grad():
                features = backbone(pixels[chosen].to(device))
            loss = cross_entropy(head(features), labels[chosen].to(device))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return time.perf_counter() - started


def ours(backbone: Backbone, images: list[np.ndarray], labels: torch.Tensor, epochs: int) -> float:
    """Seconds of decoding, extracting once and training the head."""
    device = choose_device()
    started = time.perf_counter()
    parts = forward_all(
        backbone, images, Recipe(32), device=device, precision=choose_precision("auto", device), batch_size=128
    )
    data = torch.cat(list(parts)), labels
    fit_mlp(data, data, 10, hidden=256, epochs=epochs, learning_rate=1e-3, batch_size=64, seed=0)
    return time.perf_counter() - started


def main() -> None:
    """Measure both, one after the other, and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1500)
    parser.add_argument("--epochs", type=int, default=10)
    asked = parser.parse_args()
    digits = load_digits()
    images = [np.asarray(image * 15.9, np.uint8) for image in digits.images[: asked.images]]
    labels = torch.tensor(digits.target[: asked.images])
    backbone, _ = load_backbone("vgg16", read_weights("vgg16", "random", Path()), ["features"], "flatten")
    slow = peer(backbone, load_pixels(images, Recipe(32)), labels, asked.epochs)
    fast = ours(backbone, images, labels, asked.epochs)
    print(f"{len(images):,} images, {asked.epochs} epochs, VGG16 at 32 px on {choose_device()}")
    print(f"base run every epoch, fp32   {slow:7.1f} s")
    print(f"base run once                {fast:7.1f} s")
    print(f"ratio                        {slow / fast:7.1f}")


if __name__ == "__main__":
    main()
