"""What a network looks at is found where it was planted, and an inspection leaves its tables and pictures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from tasks.evaluate.config import EvaluateConfig
from tasks.evaluate.inspection.explanations import choose_answers
from tasks.evaluate.inspection.faithfulness import deletion_and_insertion, measure_faithfulness
from tasks.evaluate.inspection.inspect import inspect_candidate
from tasks.evaluate.inspection.looking import Looker, draw, goodness
from tasks.evaluate.inspection.robustness import fragile, measure_robustness, robustness_figure
from tasks.evaluate.inspection.saliency import Saliency, enlarged
from tasks.evaluate.inspection.together import saliency_of
from tasks.evaluate.scores.intervals import Sample
from tasks.extract.backbones import load_backbone
from tasks.extract.engine import Engine
from tasks.extract.store import FeatureStore, keys_of
from tasks.extract.weights import read_weights
from tasks.preprocess.recipe import Recipe
from tasks.records import Candidate, Dataset, FeatureSet, Preprocessed
from tasks.train.fusion.parts import Part
from tasks.train.heads import Head, Kind
from tasks.train.solvers import fit_linear
from tasks.wording import quantity
from tasks.workspace import Workspace
from tests.evaluate.test_door import make_dataset

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def engine() -> Engine:
    backbone, _ = load_backbone("resnet_32px", read_weights("resnet_32px", "builtin", Path("nowhere")), ["blocks.1"])
    return Engine(backbone, Recipe(32), CPU, torch.float32, compile="never")


def patched(count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Grey images of some noise with a patch in a random place, checked where the label is 1 and plain where it is 0:
    pixels, labels, and where the patch is, bool ``[N, 32, 32]``."""
    random = np.random.default_rng(seed)
    pixels = random.integers(110, 140, (count, 3, 32, 32))
    where = np.zeros((count, 32, 32), bool)
    labels = random.integers(0, 2, count)
    checks = 255 * (np.indices((8, 8)).sum(0) // 2 % 2)
    for number, (y, x) in enumerate(random.integers(0, 24, (count, 2))):
        where[number, y : y + 8, x : x + 8] = True
        pixels[number][:, y : y + 8, x : x + 8] = checks if labels[number] else 200
    return torch.from_numpy(pixels.astype(np.uint8)), torch.from_numpy(labels), torch.from_numpy(where)


def fitted(engine: Engine, kind: Kind) -> Head:
    """A head that tells patches apart."""
    pixels, labels, _ = patched(300, seed=1)
    features = engine.forward(pixels).clone()
    head = Head(features.shape[1], 2, 16 if kind == "mlp" else None, kind=kind, examples=300 * (kind == "neighbours"))
    head.standardise_like(features)
    if kind == "neighbours":
        head.layers.examples.copy_(torch.nn.functional.normalize(head.standardised(features), dim=1))
        head.layers.targets.copy_(torch.nn.functional.one_hot(labels, 2))
        head.layers.count.fill_(5)
        return head.eval()
    torch.manual_seed(0)
    for weights in head.parameters():
        torch.nn.init.normal_(weights, std=0.1)
    optimiser = torch.optim.Adam(head.parameters(), 0.02)
    for _ in range(100):
        optimiser.zero_grad()
        (torch.nn.functional.cross_entropy(head(features) * (8 if kind == "cosine" else 1), labels)).backward()
        optimiser.step()
    return head.eval().requires_grad_(False)


@pytest.mark.parametrize("kind", ["linear", "mlp", "cosine", "neighbours"])
def test_the_map_is_where_the_patch_is_that_decides(engine: Engine, kind: Kind) -> None:
    head = fitted(engine, kind)
    pixels, labels, where = patched(40)
    has = labels == 1  # what speaks for a patch of checks is there
    assert (head(engine.forward(pixels)).argmax(1) == labels).float().mean() > 0.9
    maps = enlarged(Saliency(engine.backbone, head).maps(pixels[has], labels[has]), 32).clamp(min=0)
    inside = (maps * where[has]).sum((1, 2)) / maps.sum((1, 2))
    assert inside.mean() > 4 * 64 / 1024, inside.mean()  # four times its share of the image


def test_maps_of_several_networks_add_up_to_what_all_of_them_say() -> None:
    weights = read_weights("resnet_32px", "builtin", Path("nowhere"))
    recipes = Recipe(32), Recipe(32, crop=0.8)
    backbones = [load_backbone("resnet_32px", weights, [layer])[0] for layer in ("blocks.1", "blocks.2")]
    first, other = (
        Engine(backbone, recipe, CPU, torch.float32, compile="never")
        for backbone, recipe in zip(backbones, recipes, strict=True)
    )
    pixels, labels, where = patched(120)
    looker = Looker(first, Head(1, 1), Recipe(40), (other,))
    large = torch.nn.functional.interpolate(pixels.float(), size=[40, 40], mode="nearest").to(torch.uint8)
    features = looker.features(large)
    parts = [Part(engine.forward(pixels[:1]).shape[1]) for engine in looker.engines]
    head = fit_linear((features, labels), (features, labels), 2, parts=parts).head.requires_grad_(False)
    looker = replace(looker, head=head)
    assert looker.part(first, large).shape[-1] == looker.part(other, large).shape[-1] == 32
    ones = torch.ones(120, dtype=torch.int64)
    maps = saliency_of(looker).maps(large, ones)
    slope = (head.layers.weight[1] - head.layers.weight[0]) / head.std
    torch.testing.assert_close(maps.sum((1, 2)), features @ slope, rtol=1e-2, atol=1e-2)
    has = labels == 1
    found = enlarged(maps[has], 32).clamp(min=0)
    inside = (found * where[has]).sum((1, 2)) / found.sum((1, 2))
    assert inside.mean() > 3 * 64 / 1024, inside.mean()


def test_good_maps_are_told_from_random_ones(engine: Engine) -> None:
    head = fitted(engine, "linear")
    looker = Looker(engine, head, Recipe(32))
    pixels, labels, where = patched(24)
    pixels, where = pixels[labels == 1], where[labels == 1].float()
    ones = torch.ones(len(pixels), dtype=torch.int64)
    deletion, insertion = deletion_and_insertion(looker, pixels, ones, where)
    late, early = deletion_and_insertion(looker, pixels, ones, -where)
    assert deletion.mean() < insertion.mean() and deletion.mean() < late.mean() and insertion.mean() > early.mean()
    sample = Sample(len(pixels))
    small = torch.nn.functional.avg_pool2d(where, 2)
    table, gain = measure_faithfulness(looker, pixels, ones, small, sample)
    assert gain.low > 0 and len(table) == 6 and (table["images"] == len(pixels)).all()
    noise = torch.rand(small.shape, generator=torch.Generator().manual_seed(5))
    _, none = measure_faithfulness(looker, pixels, ones, noise, sample)
    assert none.low < 0 < none.high


@pytest.mark.parametrize(("name", "layers", "side"), [("vit_b_16", (), 14), ("swin_t", (), 7), ("mobilenet_v2", (), 7)])
@pytest.mark.slow
def test_any_network_is_mapped_at_its_last_layer_that_has_places(name: str, layers: tuple[str, ...], side: int) -> None:
    backbone, _ = load_backbone(name, read_weights(name, "random", Path("nowhere")), layers)
    engine = Engine(backbone, Recipe(224), CPU, torch.float32, compile="never")
    pixels = torch.randint(0, 256, (2, 3, 224, 224), dtype=torch.uint8)
    head = Head(engine.forward(pixels).shape[1], 3).eval()
    torch.nn.init.normal_(head.layers.weight)
    maps = Saliency(engine.backbone, head).maps(pixels, torch.tensor([0, 2]))
    assert maps.shape == (2, side, side) and (maps != 0).float().mean() > 0.9


def test_samples_have_each_label_as_often_as_all_images() -> None:
    rows = pd.DataFrame({"label": ["ant"] * 60 + ["bee"] * 30 + ["cat"] * 10})
    chosen = draw(rows, 20, seed=0)
    assert rows["label"].iloc[chosen].value_counts().to_dict() == {"ant": 12, "bee": 6, "cat": 2}
    assert list(chosen) == sorted(set(chosen)) and list(chosen) != list(draw(rows, 20, seed=1))
    assert list(draw(rows, 500, seed=0)) == list(range(100)) and not len(draw(rows, 0, seed=0))


def test_right_and_wrong_answers_are_chosen_in_turn() -> None:
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.4, 0.6], [0.95, 0.05]])
    chosen = choose_answers(np.array([0, 0, 1, 0, 1]), probabilities, 3)
    assert chosen["row"].tolist() == [0, 2, 4] and chosen["right"].tolist() == [True, True, False]
    assert len(choose_answers(np.array([0, 0, 1, 0, 1]), probabilities, 60)) == 5
    several = choose_answers(np.array([[1, 0], [0, 0], [0, 1]]), np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.1]]), 4)
    assert several[["row", "predicted", "true"]].values.tolist() == [[0, 0, 0], [2, -1, 1], [1, 0, -1]]
    assert goodness(np.array([[1, 0], [0, 0], [0, 1]]), np.array([[0.9, 0.1], [0, 0], [0.9, 0.9]]), 0.5).tolist() == (
        pytest.approx([1, 1, 2 / 3])
    )


def test_only_what_breaks_under_a_mild_corruption_is_told() -> None:
    columns = ["corruption", "severity", "images", "accuracy", "low", "high", "shift"]
    clean, noisy = ["none", 0, 50, 0.9, 0.8, 0.95, 0], ["noise", 2, 50, 0.4, 0.3, 0.55, 1]
    told = list(fragile(pd.DataFrame([clean, noisy, ["blur", 5, 50, 0.1, 0, 0.2, 1]], columns=columns), "test"))
    assert told == ["test: noise of severity 2 takes accuracy from 0.90 to 0.40 [0.30, 0.55] (50 images)"]


@pytest.mark.parametrize("several", [False, True], ids=["one", "several"])
@pytest.mark.filterwarnings("error")
def test_an_inspection_leaves_its_tables_and_pictures(tmp_path: Path, workspace: Workspace, several: bool) -> None:
    (tmp_path / "images").mkdir()
    dataset = make_dataset(tmp_path / "images", several)
    candidate, features = prepared(dataset, tmp_path)
    seen = Preprocessed(fingerprint="p", size=32, fit="squash", preview=tmp_path, mean=(0, 0, 0), std=(1, 1, 1))
    config = EvaluateConfig(robustness=12, explain=6, faithfulness=9)
    inspection = inspect_candidate(config, dataset, seen, features, candidate, workspace)
    table = pd.read_csv(inspection.report / "robustness.csv")
    assert len(table) == 31 and (table["images"] == 12).all() and table["shift"].iloc[0] == 0
    assert list(table.columns)[3] == ("f1_samples" if several else "accuracy")
    explained = pd.read_csv(inspection.report / "explanations.csv", keep_default_na=False)
    assert len(explained) == inspection.images["explained"] <= 6
    for name in filter(None, [*explained["picture"], *explained["picture_of_label"]]):
        with Image.open(inspection.report / name) as picture:
            assert picture.size == (224, 224) and picture.format == "JPEG"
    for name, speaks in zip(explained["picture"], explained["speaks"], strict=True):
        with Image.open(inspection.report / name) as picture:  # a grey image, and coloured what speaks for the class
            assert (np.ptp(np.asarray(picture).astype(int), axis=2).max() > 40) == speaks
    assert set(inspection.metrics) == {"test/robustness", "test/faithfulness"}
    assert {"robustness.png", "explanations.png", "faithfulness.csv", "inspection.json"} <= {
        path.name for path in inspection.report.iterdir()
    }
    assert inspection.images["faithfulness"] == 9


def prepared(dataset: Dataset, folder: Path) -> tuple[Candidate, FeatureSet]:
    """A head of random weights, and the features that it is asked with."""
    weights = read_weights("resnet_32px", "builtin", Path("nowhere"))
    backbone, _ = load_backbone("resnet_32px", weights)
    rows, engine = dataset.read_manifest(), Engine(backbone, Recipe(32, "squash"), CPU, torch.float32, compile="never")
    found = torch.cat(list(engine.run([dataset.image(content) for content in rows["hash"]], len(rows))))
    store = FeatureStore.open(folder / "space", {})
    store.append(keys_of(rows["hash"]), found.numpy())
    torch.manual_seed(0)
    head = Head(512, 3, multi_label=dataset.multi_label).standardise_like(found)
    head.save(folder / "head.safetensors")
    features = FeatureSet(
        fingerprint="f", store=store.folder, backbone="resnet_32px", weights="builtin", digest=weights.digest,
        layers=("flatten",), pool="avg", width=512, precision="float32", device="cpu", new=0, reused=0, seconds=0,
        extraction={"device": "cpu"},
    )  # fmt: skip
    candidate = Candidate(
        fingerprint="c", method="linear", head=folder / "head.safetensors", curves=folder / "none", chosen={}, score=0.3
    )
    return candidate, features


def test_a_number_bears_corruptions_by_its_error(engine: Engine, tmp_path: Path) -> None:
    pixels, _, _ = patched(24)
    features = engine.forward(pixels).clone()
    head = Head(features.shape[1], 2, number=True).standardise_like(features)
    with torch.no_grad():
        head.layers.weight.zero_()
        head.layers.weight[0, :8] = 1.0
        head.layers.bias.zero_()
    truth = head(features)[:, 0].detach().double().numpy() + np.where(np.arange(24) % 2, 0.1, -0.1)
    sample = Sample(24)
    table, (mean, low, high) = measure_robustness(Looker(engine, head, Recipe(32)), pixels, truth, sample)
    clean = table.iloc[0]
    assert clean["mae"] == pytest.approx(0.1, abs=1e-3) and table.columns[3] == "mae"
    assert mean == pytest.approx(table["mae"].iloc[1:].mean()) and low < mean < high and low > clean["high"]
    assert any(f"takes MAE from {quantity(clean['mae'])} to " in line for line in fragile(table, "test"))
    robustness_figure(table, "numbers").savefig(tmp_path / "x.png")
