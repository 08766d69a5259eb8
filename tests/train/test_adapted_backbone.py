"""Domain adaptation through the backbone: what a batch is, what it costs, whose statistics stay, and what is kept."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pandas as pd
import pytest
import torch
from lightning.pytorch.callbacks import Callback

from tasks.errors import ConfigurationError
from tasks.extract.config import ExtractConfig
from tasks.extract.door import extract_features
from tasks.preprocess.pictures import Squares
from tasks.train.adaptation.images import Adapting, adapting, answers, restated, some_of_target, trusted
from tasks.train.adaptation.midway import _alike, midway
from tasks.train.adaptation.terms import (
    TERMS,
    Activations,
    ConditionalAdversary,
    Correlation,
    Nothing,
    Term,
)
from tasks.train.further import settle_head
from tasks.train.heads import Head
from tasks.train.methods.adabn_tuned import AdaBnTuned
from tasks.train.methods.adapt_tuned import AdaptTuned
from tasks.train.methods.full import Full
from tasks.train.methods.linear import Linear
from tasks.train.solvers import Fit
from tasks.train.task import Task
from tasks.train.tuning.batches import Batches, HeldOut
from tasks.train.tuning.blocks import Block, blocks_of
from tasks.train.tuning.network import Loss, Tuning
from tasks.train.tuning.run import tune
from tasks.workspace import Workspace
from tests.train.killed import assert_same, kill
from tests.train.prepared import Prepared


@pytest.fixture(scope="module")
def dusk(night: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """A few digits by day and by night, the latter's features included."""
    rows = night.dataset.read_manifest()
    few = night.with_rows(rows.groupby("split").head(60), tmp_path_factory.mktemp("dusk"))
    workspace = Workspace(night.features.store.parents[2])
    extract = ExtractConfig.model_validate(night.features.extraction)
    extract_features(extract, few.dataset, few.preprocessed, workspace, ("pool",))
    return few


@pytest.fixture
def task(dusk: Prepared, tmp_path: Path) -> Task:
    return dusk.task(tmp_path)


def batches_of(task: Task, **keys: Any) -> Batches:
    pictures, targets, _ = adapting(AdaptTuned(), task, "mcc", 1.0)
    given = {
        "batch_size": 16, "epochs": 4, "sizes": (32,), "augment": "none", "least": 0.4, "balance": "none", "seed": 0,
    }  # fmt: skip
    return Batches(pictures, targets, task.classes, **given | keys)


def test_a_batch_has_as_many_images_of_the_target_as_labelled_ones(task: Task) -> None:
    batches = batches_of(task)
    count = len(batches.targets)
    pictures = [batches.pictures.whole(index, 32).numpy().tobytes() for index in range(len(batches.pictures))]
    theirs = []
    for images, targets in batches:
        assert len(images) == 32 and len(targets) == 16
        numbers = [pictures.index(image.numpy().tobytes()) for image in images]
        assert torch.equal(batches.targets[numbers[:16]], targets) and min(numbers[16:]) >= count
        theirs += numbers[16:]
    assert len(set(theirs)) == len(theirs) == 48


def test_a_small_pool_comes_round_again_once_all_of_it_was_there(task: Task, dusk: Prepared, tmp_path: Path) -> None:
    rows = dusk.dataset.read_manifest()
    kept = rows.drop(rows.query("split == 'pool'").index[5:])
    batches = batches_of(dusk.with_rows(kept, tmp_path).task(tmp_path))
    order = [index for images in batches._order(0) for index in images[16:].tolist()]
    assert all(len(set(order[start : start + 5])) == 5 for start in range(0, 45, 5)) and len(order) == 48


def test_processes_that_share_batches_of_two_domains_see_the_views_of_one(task: Task) -> None:
    whole = list(batches_of(task, augment="crop"))
    shares = [list(batches_of(task, augment="crop", share=(rank, 3))) for rank in range(3)]
    for number, (images, targets) in enumerate(whole):
        for rank, share in enumerate(shares):
            seen, told = share[number]
            assert torch.equal(seen, torch.cat([images[:16][rank::3], images[16:][rank::3]]))
            assert torch.equal(told, targets[rank::3])


def tuning_of(task: Task, term: Term, frozen: bool = False) -> Tuning:
    network, backbone = task.network()
    head = Head(task.features.width, task.classes).standardise_like(task.plain[0])
    criterion = Adapting(Loss("class"), term, 1.0)
    tuning = Tuning(network, backbone, head, blocks_of(network, backbone.trunk), criterion, [], frozen)
    tuning.set_rates([1.0] * len(tuning.blocks))
    return tuning


def test_each_domain_is_normalised_by_itself_and_the_targets_statistics_stay(task: Task) -> None:
    images = next(iter(batches_of(task)))[0]
    ours, theirs = images[:16], images[16:]
    both, alone, other = (tuning_of(task, Nothing()) for _ in range(3))
    seen = both._seen(images, 16)
    torch.testing.assert_close(seen[:16], alone.backbone(ours), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(seen[16:], other.backbone(theirs), rtol=1e-4, atol=1e-4)
    state, expected, source = (dict(each.backbone.named_buffers()) for each in (both, other, alone))
    means = [name for name in state if name.endswith("running_mean")]
    assert means
    for name in state:
        torch.testing.assert_close(state[name], expected[name])
    assert not torch.allclose(state[means[0]], source[means[0]])
    # A batch that has targets throughout is one domain's.
    assert torch.equal(tuning_of(task, Nothing())._seen(ours, 16), alone.backbone(ours))
    assert not both.eval()._seen(images, 16).equal(seen)


def test_a_batch_costs_what_its_labels_do_and_how_far_the_domains_are_apart() -> None:
    seen: list[tuple[Activations, Activations, float]] = []

    class Far(Term):
        def forward(self, source: Activations, target: Activations, over: float) -> torch.Tensor:
            seen.append((source, target, over))
            return torch.tensor(3.0)

    features, logits = 5 + 3 * torch.randn(6, 7), torch.randn(6, 10)
    targets = torch.tensor([0, 1, 2])
    cost = Adapting(Loss("class"), Far(), 2.0)(logits, targets, features, 0.25)
    torch.testing.assert_close(cost, torch.nn.functional.cross_entropy(logits[:3], targets) + 6.0)
    ((source, target, over),) = seen
    expected = (features - features.mean(0)) / features.std(0, correction=0)
    torch.testing.assert_close(torch.cat([source.hidden, target.hidden]), expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(torch.cat([source.logits, target.logits]), logits) and over == 0.25


def test_many_pairs_of_units_and_classes_are_drawn_and_lie_to_each_other_as_they_would() -> None:
    torch.manual_seed(0)
    term = ConditionalAdversary(400, 50)
    term.of_hidden, term.of_answers = (
        torch.randn(size, 40_000) / scale for size, scale in ((400, 40_000**0.5), (50, 1.0))
    )
    hidden, answers = torch.randn(3, 400), torch.randn(3, 50)
    exact = (hidden @ hidden.T) * (answers @ answers.T)
    drawn = term.together(hidden, answers)
    torch.testing.assert_close(drawn @ drawn.T, exact, rtol=0.1, atol=0.02 * exact.max().item())
    width = ConditionalAdversary.DRAWN
    assert ConditionalAdversary(400, 50).layers[0].in_features == width and not ConditionalAdversary(40, 50).several


def test_one_image_has_no_covariance() -> None:
    one = Activations(torch.randn(1, 5), torch.randn(1, 3))
    assert Correlation()(one, one, 0.5).item() == 0


class Parts(Callback):
    """What criterion and clock were in a training."""

    def __init__(self) -> None:
        self.over: list[float] = []
        self.learned: list[torch.Tensor] = []

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, *_: Any) -> None:
        self.over.append(pl_module.tuning.over)
        self.learned.append(pl_module.tuning.criterion.term.layers[0].weight.detach().clone())


def test_the_last_epoch_is_kept_and_the_adversary_learns_through_the_whole_training(task: Task) -> None:
    section = AdaptTuned(term="dann", epochs=3, batch_size=20, cautious=False)
    fit = tune(section, task, watch := Parts())
    assert fit.chosen["epoch"] == 3 and fit.backbone is not None
    assert np.allclose(watch.over, np.arange(9) / 9)
    assert not torch.equal(watch.learned[0], watch.learned[-1])


def answering(task: Task, sure: float = 1.0, always: bool = False) -> Fit:
    """The pretrained backbone under a head that was solved on its features or, always, calls everything a 3."""
    head = copy.deepcopy(AdaptTuned().probe(task))
    for parameter in head.layers.parameters():
        parameter.data *= sure
    if always:
        head.layers.bias.data[3] = 1e4  # type: ignore[union-attr,operator]
    whole = replace(task.weights, state=task.network()[0].state_dict())
    return Fit(head, 0.1, {"epoch": 1.0}, pd.DataFrame(), backbone=whole)


def test_what_is_not_trusted_gives_way_to_what_has_not_seen_the_target(task: Task) -> None:
    plain = answering(task)
    kept = trusted(answering(task, always=True), plain, task, follow=False)
    assert kept.head is plain.head and kept.chosen["adapted"] == 0 and kept.chosen["information"] < 1e-3
    surer = answering(task, sure=1.5)
    kept = trusted(surer, plain, task, follow=False)
    assert kept.chosen["adapted"] == 1 and kept.chosen["agreement"] > 0.99
    assert kept.head is not surer.head and kept.mixed is not None and kept.mixed["share"].tolist() == [0.5]


def test_what_is_served_is_the_mean_of_both_networks_with_the_targets_statistics(task: Task) -> None:
    plain, changed = answering(task), answering(task)
    assert changed.backbone is not None and plain.backbone is not None
    weight = next(key for key, tensor in changed.backbone.state.items() if tensor.ndim == 4)
    changed.backbone.state[weight] = changed.backbone.state[weight] * 1.2
    changed.head.layers.weight.data *= 2  # type: ignore[union-attr,operator]
    target = Squares(task.paths(task.target_rows), task.recipe).load("decode")
    halfway = midway(plain, changed, 0.5, task, target, follow=False)
    assert halfway.backbone is not None
    torch.testing.assert_close(halfway.backbone.state[weight], plain.backbone.state[weight] * 1.1)
    torch.testing.assert_close(halfway.head.layers.weight, plain.head.layers.weight * 1.5)  # type: ignore[union-attr]
    following = midway(plain, changed, 0.5, task, target, follow=True).backbone
    assert following is not None
    network, backbone = task.network()
    network.load_state_dict(following.state)
    norm = next(module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d))
    seen: list[torch.Tensor] = []
    norm.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].mean((0, 2, 3))))
    with torch.inference_mode():
        for images, _ in HeldOut(target, torch.zeros(len(target))):
            backbone(images)
    torch.testing.assert_close(norm.running_mean, torch.stack(seen).mean(0), rtol=0.05, atol=0.01)
    network.load_state_dict(halfway.backbone.state)
    assert not torch.allclose(norm.running_mean, torch.stack(seen).mean(0), rtol=0.05, atol=0.01)  # type: ignore[arg-type]


@pytest.mark.parametrize("count", [2, 128, 129, 300, 1025])
def test_no_image_counts_for_more_than_others_in_the_targets_statistics(count: int) -> None:
    sizes = [len(images) for images, _ in _alike([torch.zeros(1)] * count)]  # type: ignore[arg-type]
    assert sum(sizes) == count and max(sizes) <= 128 and min(sizes) > 0.9 * max(sizes)


def test_what_contradicts_the_labels_gives_way_to_the_targets_statistics_alone(task: Task) -> None:
    plain, changed = answering(task), answering(task)
    layer = changed.head.layers
    assert isinstance(layer, torch.nn.Linear) and plain.backbone is not None
    layer.weight.data, layer.bias.data = layer.weight.data.roll(1, 0), layer.bias.data.roll(1, 0)  # sure, and wrong
    kept = trusted(changed, plain, task, least_agreement=0.0)
    assert kept.chosen["share"] == 0 and kept.backbone is not None
    moved = midway(plain, changed, 0.0, task, some_of_target(task), follow=True)
    torch.testing.assert_close(kept.head.state_dict(), moved.head.state_dict())
    assert_statistics_differ(kept.backbone.state, plain.backbone.state)
    assert trusted(moved, plain, task, least_agreement=0.0).chosen["share"] == 0.5


def assert_statistics_differ(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    """Of all that a network has, only the statistics of its batch norms."""
    apart = {key for key in one if not torch.equal(one[key], other[key])}
    assert apart and all("running_" in key or "num_batches" in key for key in apart)


@pytest.mark.parametrize("cautious", [True, False])
def test_the_target_gives_a_network_that_learned_without_it_its_statistics_alone(
    cautious: bool, dusk: Prepared, tmp_path: Path
) -> None:
    shared = {"epochs": 2, "batch_size": 20, "augment": "none", "batch_norm": "update"}
    task = dusk.task(tmp_path)
    plain = Full.model_validate(shared).fit(replace(task, folder=tmp_path / "plain", known={}))
    fit = AdaBnTuned.model_validate(shared | {"cautious": cautious, "least_agreement": 0.0}).fit(task)
    assert fit.backbone is not None and plain.backbone is not None
    if fit.adapted:
        assert_statistics_differ(fit.backbone.state, plain.backbone.state)
    else:
        assert cautious
        assert_same(fit, plain)
    told = {name: fit.chosen[name] for name in ("information", "plain_information", "agreement")}
    assert fit.adapted == (not cautious or told["information"] >= 1.1 * told["plain_information"])


def test_where_the_target_looks_like_what_was_learned_the_network_is_served_as_it_is(task: Task) -> None:
    at_home = restated(answering(task), task, cautious=False)
    kept = restated(at_home, task)
    assert kept.chosen["adapted"] == 0 and kept.head is at_home.head
    assert restated(at_home, task, cautious=False).chosen["adapted"] == 1


def test_a_network_without_batch_norms_is_told_before_it_is_trained() -> None:
    with pytest.raises(ConfigurationError, match="the backbone has none: take adapt_tuned"):
        AdaBnTuned().prepare(torch.nn.Linear(2, 2), [Block("x", [], [])])


def test_answers_about_the_pool_are_those_of_the_frozen_features_where_nothing_was_tuned(task: Task) -> None:
    plain = answering(task)
    with torch.inference_mode():
        expected = plain.head(task.unlabelled).softmax(1)
    found = answers(plain, task).softmax(1)
    # In another order.
    assert len(found) == len(expected) == task.dataset.counts["pool"]
    torch.testing.assert_close(found.sum(0), expected.sum(0), rtol=1e-2, atol=1e-2)


def test_without_caution_too_it_is_said_that_the_network_is_adapted(night: Prepared, tmp_path: Path) -> None:
    section = AdaptTuned.model_validate({"epochs": 1, "batch_size": 32, "cautious": False, "augment": "none"})
    fit = section.fit(night.task(tmp_path))
    assert fit.adapted and fit.chosen["information"] > 0
    settle_head(fit, True, night.task(tmp_path).validation)
    assert float(fit.head.temperature) == 1  # of its own domain's images nothing is known as they would be served


def test_source_only_is_alike_in_all_but_the_target() -> None:
    section = AdaptTuned(epochs=7, layer_decay=0.8, term="cdan", batch_norm="frozen", head="probe")
    plain = section.source_only
    assert plain.method == "full" and (plain.epochs, plain.layer_decay) == (7, 0.8)
    assert (plain.batch_norm, plain.head) == ("frozen", "probe")
    limited = AdaptTuned(minutes=5)
    assert (limited.seconds, limited.source_only.seconds) == (pytest.approx(200), pytest.approx(100))
    assert AdaptTuned(minutes=5, cautious=False).seconds == 300


@pytest.mark.parametrize(
    "keys",
    [
        {"mixup": 0.2},
        {"attack": {"radius": "4/255"}},
        {"cutmix": 1},
        {"patience": 2},
        {"wise_ft": True, "head": "probe"},
        {"soup": True},
        {"search": {"soup": True}},
    ],
)
def test_nothing_is_chosen_by_images_of_another_domain_nor_mixed_without_labels(keys: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="not for adaptation"):
        AdaptTuned.model_validate(keys)


def test_every_term_has_a_name() -> None:
    assert set(TERMS) == set(AdaptTuned.model_fields["term"].annotation.__args__)  # type: ignore[union-attr]


def test_a_search_among_others_does_not_compare_it_by_the_wrong_images(dusk: Prepared, tmp_path: Path) -> None:
    with pytest.raises(
        ConfigurationError, match=r"adapt_tuned \(train.search.methods\) is for a domain without labels"
    ):
        dusk.train(Linear(search={"methods": ["linear", "adapt_tuned"]}), tmp_path)


def test_images_of_several_labels_are_refused_in_one_line(shapes: Prepared, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"adapt_tuned \(train.method\) gives one"):
        shapes.train(AdaptTuned(), tmp_path)


@pytest.mark.slow
def test_digits_by_night_are_recognised_through_the_backbone(night: Prepared) -> None:
    home = night.features.store.parents[2]
    section = AdaptTuned(epochs=3, batch_size=32, augment="none", cautious=False)
    candidate, alone = night.train(section, home), night.train(Linear(), home)
    assert candidate.method == "adapt_tuned" and candidate.backbone
    assert of_target(night, candidate.head, candidate.backbone) > of_target(night, alone.head, None) + 0.1


def of_target(prepared: Prepared, head: Path, backbone: Path | None) -> float:
    """Accuracy on the test images, which are the target's."""
    from tasks.train.task import labelled

    features = prepared.features
    if backbone:
        config = ExtractConfig.model_validate(features.extraction | {"weights": str(backbone)})
        workspace = Workspace(features.store.parents[2])
        features = extract_features(config, prepared.dataset, prepared.preprocessed, workspace, ("test",))
    rows = prepared.dataset.read_manifest().query("split == 'test'")
    inputs, targets = labelled(prepared.dataset, features, rows)
    with torch.inference_mode():
        return (Head.load(head)(inputs).argmax(1) == targets).double().mean().item()


@pytest.mark.slow
def test_an_adapted_training_that_was_killed_ends_as_an_unbroken_one(dusk: Prepared, tmp_path: Path) -> None:
    section = AdaptTuned(term="cdan", epochs=3, batch_size=20, ema=0.8)
    whole = tune(section, dusk.task(tmp_path / "whole"))
    kill(section, task := dusk.task(tmp_path / "broken"))
    assert_same(tune(section, task), whole)
