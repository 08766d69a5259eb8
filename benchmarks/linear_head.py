"""How much faster is it to fit the linear head for ten strengths of regularisation together than one by one?

The peer is scikit-learn's `LogisticRegression` with its defaults (L-BFGS, tol 1e-4) and as many iterations as it needs,
on the same standardised float32 features. It fits the ten strengths one after the other: once each from zero, and once
each from the last one's solution (`warm_start`); the ratio is taken to the faster of the two.

The features are synthetic: noise of a decaying spectrum around five centres a class, through a random layer and ReLU,
so that they are correlated and sparse as a network's are. Or they are real ones: ``--features`` float32 ``[N, d]`` and
``--labels`` ``[N]``, of which the last sixth is held out.

Command: env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE python benchmarks/linear_head.py [--quick]
         [--features FEATURES.npy --labels LABELS.npy]   (10 minutes on two cores, nearly all of it the peer's)
"""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import sklearn
import torch
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_info
from torch.nn.functional import cross_entropy

from tasks.train.logistic import solve

STRENGTHS = (1.0, 0.3, 0.1, 0.03, 0.01, 3e-3, 1e-3, 3e-4, 1e-4, 1e-5)


@dataclass
class Data:
    """Standardised features float32 ``[N, d]`` and labels int64 ``[N]``; the last of them are held out."""

    features: torch.Tensor
    labels: torch.Tensor
    held_out: int

    @property
    def train(self) -> tuple[torch.Tensor, torch.Tensor]:
        return self.features[: -self.held_out], self.labels[: -self.held_out]

    def objective(self, weights: torch.Tensor, biases: torch.Tensor, l2: float) -> float:
        """What both minimise, in float64."""
        loss = 0.0
        for features, labels in zip(*(part.split(4096) for part in self.train), strict=True):
            logits = features.double() @ weights.double().T + biases.double()
            loss += cross_entropy(logits, labels, reduction="sum").item()
        return loss / len(self.train[1]) + l2 / 2 * weights.double().square().sum().item()

    def accuracy(self, weights: torch.Tensor, biases: torch.Tensor) -> float:
        """On what is held out."""
        logits = self.features[-self.held_out :] @ weights.T + biases
        return (logits.argmax(1) == self.labels[-self.held_out :]).double().mean().item()


@dataclass
class Result:
    """Seconds in all; per strength weights ``[C, d]``, biases ``[C]`` and iterations."""

    seconds: float
    solutions: list[tuple[torch.Tensor, torch.Tensor]]
    iterations: list[int]


def synthetic(count: int, width: int, classes: int = 10, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Features like a network's, that a linear head gets some 80% of right."""
    generator = torch.Generator().manual_seed(seed)
    spectrum = torch.arange(1, width + 1) ** -0.75
    layer = torch.randn(width, width, generator=generator)
    bias = 0.5 * torch.randn(width, generator=generator) - 0.5
    # Evidence adds up over directions: what 80% takes of each is less the more there are.
    centres = 12 / width**0.5 * spectrum * torch.randn(5 * classes, width, generator=generator)
    clusters = torch.randint(len(centres), (count,), generator=generator)
    features = torch.empty(count, width)
    for chosen in torch.arange(count).split(4096):
        noise = spectrum * torch.randn(len(chosen), width, generator=generator)
        features[chosen] = ((centres[clusters[chosen]] + noise) @ layer + bias).relu()
    return features, clusters // 5


def standardise(features: torch.Tensor, labels: torch.Tensor) -> Data:
    """With the statistics of what is not held out."""
    held_out = len(labels) // 6
    train = features[:-held_out]
    std = train.std(0, correction=0)
    return Data((features - train.mean(0)) / torch.where(std > 1e-6, std, 1.0), labels, held_out)


def ours(data: Data) -> Result:
    """All strengths together."""
    started = time.perf_counter()
    found = solve(*data.train, int(data.labels.max()) + 1, STRENGTHS)
    seconds = time.perf_counter() - started
    return Result(seconds, list(zip(found.weights, found.biases, strict=True)), found.passes.tolist())


def peer(data: Data, warm: bool) -> Result:
    """scikit-learn, one strength after the other."""
    features, labels = (part.numpy() for part in data.train)
    model = LogisticRegression(max_iter=100_000, warm_start=warm)
    seconds, solutions, iterations = 0.0, [], []
    for l2 in STRENGTHS:
        model.set_params(C=1 / (l2 * len(labels)))
        started = time.perf_counter()
        model.fit(features, labels)
        seconds += time.perf_counter() - started
        solutions.append((torch.tensor(model.coef_), torch.tensor(model.intercept_)))
        iterations.append(int(model.n_iter_[0]))
    return Result(seconds, solutions, iterations)


def machine() -> str:
    """What the figures depend on."""
    openblas = {pool["architecture"] for pool in threadpool_info() if pool["internal_api"] == "openblas"}
    set_by_hand = [name for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE") if name in os.environ]
    return (
        f"{os.cpu_count()} cores ({torch.backends.cpu.get_cpu_capability()}), "
        f"{psutil.virtual_memory().total / 2**30:.0f} GiB, load {os.getloadavg()[0]:.1f} at the start; "
        f"torch {torch.__version__}, scikit-learn {sklearn.__version__}, "
        f"OpenBLAS for {', '.join(sorted(openblas))}{''.join(f', {name} is set' for name in set_by_hand)}"
    )


def main() -> None:
    """Fit both, print a row for each strength, and the ratio of the times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="5,000 × 256 instead of 50,000 × 1,280")
    parser.add_argument("--features", type=Path)
    parser.add_argument("--labels", type=Path)
    asked = parser.parse_args()
    print(machine())
    if asked.features:
        raw = np.load(asked.features).astype(np.float32), np.load(asked.labels).astype(np.int64)
        data = standardise(*map(torch.from_numpy, raw))
    else:
        data = standardise(*(synthetic(6_000, 256) if asked.quick else synthetic(60_000, 1_280)))
    count, width = data.train[0].shape
    print(f"{count:,} × {width:,} features, {int(data.labels.max()) + 1} classes, {data.held_out:,} held out\n")
    fast = ours(data)
    results = {"from zero": peer(data, warm=False), "warm start": peer(data, warm=True)}
    best = min(results, key=lambda name: results[name].seconds)
    slow = results[best]
    print("| l2 | objective, ours | scikit-learn | difference | accuracy, ours | scikit-learn | passes | iterations |")
    print("|---|---|---|---|---|---|---|---|")
    for at, l2 in enumerate(STRENGTHS):
        mine, theirs = data.objective(*fast.solutions[at], l2), data.objective(*slow.solutions[at], l2)
        accuracies = data.accuracy(*fast.solutions[at]), data.accuracy(*slow.solutions[at])
        print(
            f"| {l2:g} | {mine:.6f} | {theirs:.6f} | {mine - theirs:+.1e} | {accuracies[0]:.4f} | {accuracies[1]:.4f} "
            f"| {fast.iterations[at]} | {slow.iterations[at]} |"
        )
    print("\n| solver | seconds | ratio |\n|---|---|---|")
    for name, result in results.items():
        print(f"| scikit-learn, {name} | {result.seconds:.1f} | {slow.seconds / result.seconds:.2f}× |")
    print(f"| headstart | {fast.seconds:.1f} | {slow.seconds / fast.seconds:.1f}× |")


if __name__ == "__main__":
    main()
