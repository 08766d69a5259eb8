"""Several tasks at once: weights move as published, labels that are missing cost nothing, a kill changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch.nn.functional import cross_entropy

from tasks.errors import ConfigurationError
from tasks.train.check import check_labels, check_tasks
from tasks.train.heads import Head, predict_numbers
from tasks.train.joint.criterion import Joint, pack, places_in
from tasks.train.joint.weighing import Fixed, GradNorm, Uncertainty
from tasks.train.methods import METHODS
from tasks.train.methods.mlp import Mlp
from tasks.train.methods.partial import Partial
from tasks.train.tuning.run import tune
from tests.train.killed import assert_same, kill
from tests.train.prepared import SHORT, Prepared


def test_uncertainty_comes_to_what_a_task_s_loss_stays_at() -> None:
    weighing, losses = Uncertainty(2), torch.tensor([0.05, 3.0])
    optimiser = torch.optim.Adam(weighing.parameters(), lr=1e-3)
    for _ in range(800):
        optimiser.zero_grad()
        weighing(losses, torch.zeros(1)).backward()
        optimiser.step()
    assert weighing.weights.tolist() == pytest.approx((1 / (2 * losses)).tolist(), rel=0.05)


@pytest.mark.parametrize("alpha", [0.0, 1.5])
def test_gradnorm_has_tasks_of_unlike_scale_move_shared_features_alike(alpha: float) -> None:
    """Two tasks that tell the same, one in units a tenth as large (as in 4.1 of the paper)."""
    draw = torch.Generator().manual_seed(0)
    inputs = torch.randn(256, 6, generator=draw)
    wanted = torch.tanh(inputs @ torch.randn(6, 1, generator=draw))
    torch.manual_seed(0)
    shared = torch.nn.Linear(6, 8)
    tops = [torch.nn.Linear(8, 1), torch.nn.Linear(8, 1)]
    weighing = GradNorm(2, alpha)
    modules = torch.nn.ModuleList([shared, *tops, weighing])
    optimiser = torch.optim.Adam(modules.parameters(), lr=2e-3)
    for _ in range(300):
        features = shared(inputs)
        answers = [top(torch.tanh(features)) for top in tops]
        losses = torch.stack([(answers[0] - wanted).square().mean(), (answers[1] - 10 * wanted).square().mean()])
        slopes = torch.stack([torch.autograd.grad(loss, features, retain_graph=True)[0].norm() for loss in losses])
        optimiser.zero_grad()
        weighing(losses, features).backward()
        optimiser.step()
    assert weighing.weights.sum().item() == pytest.approx(2)
    norms = (weighing.weights * slopes).detach()
    left = losses.detach() / weighing.first
    assert left[1] > left[0]  # what is told in large units is left behind
    if alpha:
        assert norms[1] > 1.5 * norms[0]
    else:
        assert weighing.weights[0] > weighing.weights[1]
        assert (norms / norms.mean()).tolist() == pytest.approx([1, 1], abs=0.2)


def test_a_batch_without_labels_of_a_task_teaches_it_nothing() -> None:
    weighing = GradNorm(2, 1.5)
    features = torch.randn(4, 3).requires_grad_()
    losses = torch.stack([features.square().mean(), 0 * features.sum()])
    weighing(losses, features).backward()
    assert weighing.logs.grad is not None and weighing.logs.grad.tolist() == [0, 0]
    assert weighing.first.isnan().tolist() == [False, True]


@pytest.mark.filterwarnings("error:The given NumPy array is not writable")
def test_missing_labels_cost_nothing_and_all_losses_are_means_over_what_has_one(some: Prepared) -> None:
    rows = some.dataset.read_manifest()
    rows = rows[rows["split"].isin(["train", "partial"])]
    torch.set_warn_always(True)  # else torch warns once in a process
    try:
        packed = pack(some.dataset, rows)
    finally:
        torch.set_warn_always(False)
    places = places_in(packed, some.dataset.targets)
    assert packed.shape == (len(rows), 1 + 1 + 3) and packed[:, 0].isnan().sum() == (rows["split"] == "partial").sum()
    torch.manual_seed(0)
    features, heads = torch.randn(len(rows), 5), [torch.nn.Linear(5, 10), torch.nn.Linear(5, 3)]
    outputs = torch.randn(len(rows), 2)
    joint = Joint(places, heads, Fixed([0.0, 1.0, 0.0]))
    known = ~packed[:, 1].isnan()
    expected = cross_entropy(heads[0](features[known]), packed[known, 1].long())
    beside = joint(outputs, packed, features) - expected
    twice = Joint(places, heads, Fixed([0.0, 2.0, 0.0]))(outputs, packed, features) - beside
    torch.testing.assert_close(twice, 2 * expected, rtol=1e-4, atol=1e-4)
    parts = [slice(0, 50), slice(50, len(rows))]
    whole = sum(
        (joint(outputs[part], packed[part], features[part]) * len(packed[part]) for part in parts), torch.zeros(())
    )
    torch.testing.assert_close(whole / len(rows), joint(outputs, packed, features), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("weights", ["uncertainty", "gradnorm", {"digit": 3}])
def test_tasks_share_a_hidden_layer_of_which_each_head_has_a_copy(
    weights: Any, inked: Prepared, tmp_path: Path
) -> None:
    candidate = inked.train(Mlp(tasks={"weights": weights}, epochs=8, hidden=64), tmp_path)
    ink, digit, shapes = map(Head.load, (candidate.head, candidate.further["digit"], candidate.further["shapes"]))
    for other in (digit, shapes):
        assert torch.equal(ink.layers[0].weight, other.layers[0].weight) and torch.equal(ink.mean, other.mean)
    task = inked.task(tmp_path)
    inputs, digits = task.on(inked.dataset.further[0]).validation
    assert (digit(inputs).argmax(1) == digits).float().mean() > 0.85 and candidate.score > 0.6
    features, inks = task.validation
    answers, spreads = predict_numbers(ink, features)
    assert ((answers - inks).abs() < 1.645 * spreads).float().mean().item() == pytest.approx(0.9, abs=0.06)
    files = {name: candidate.curves.with_name(f"curves_{name}.parquet") for name in candidate.further}
    curves = {name: pd.read_parquet(file) for name, file in {"ink": candidate.curves, **files}.items()}
    asked = {"ink": 1.0, "digit": 3.0, "shapes": 1.0} if isinstance(weights, dict) else None
    last = {name: each["weight"].iloc[-1] for name, each in curves.items()}
    assert last == asked if asked else len({round(weight, 3) for weight in last.values()}) == 3
    assert set(curves["digit"]) == {"step", "weight", "val/loss", "val/accuracy"}
    assert set(curves["ink"]) == {"step", "weight", "train/loss", "val/loss", "val/r2"}


@pytest.mark.parametrize(
    ("weights", "head"), [pytest.param("uncertainty", "zero", marks=pytest.mark.slow), ("gradnorm", "probe")]
)
def test_a_joint_training_that_was_killed_ends_with_the_same_weights(
    weights: str, head: str, some: Prepared, tmp_path: Path
) -> None:
    method = METHODS["full" if head == "zero" else "partial"].model_validate(
        {key: value for key, value in SHORT.items() if key != "blocks"} | {"tasks": {"weights": weights}, "head": head}
    )
    unbroken = tune(method, some.task(tmp_path / "unbroken"))
    kill(method, some.task(tmp_path / "killed"))
    resumed = tune(method, some.task(tmp_path / "killed"))
    assert_same(unbroken, resumed)
    assert set(unbroken.further) == set(resumed.further) == {"digit", "shapes"}
    for name, mine in unbroken.further.items():
        theirs = resumed.further[name].state_dict()
        assert all(torch.equal(tensor, theirs[key]) for key, tensor in mine.state_dict().items()), name
    assert unbroken.curves["weight/digit"].nunique() == 2


@pytest.mark.slow
def test_heads_that_were_learned_through_the_backbone_are_kept_calibrated(some: Prepared, tmp_path: Path) -> None:
    candidate = some.train(Partial(**SHORT | {"epochs": 1}, tasks={}, ema=0.5), tmp_path)
    digit, shapes = Head.load(candidate.further["digit"]), Head.load(candidate.further["shapes"])
    assert digit.temperature != 1 and shapes.tells == "labels" and candidate.backbone is not None
    averaged = some.train(Partial(**SHORT, tasks={}, wise_ft=True), tmp_path / "averaged")
    assert averaged.chosen["digit/l2"] > 0 and "digit/l2" not in candidate.chosen


def test_tasks_that_cannot_be_learned_at_once_are_refused(inked: Prepared) -> None:
    refused = {
        "train.mixup goes by the classes of one task": METHODS["full"](tasks={}, mixup=0.2),
        "train.balance: sampling goes by": Mlp(tasks={}, balance="sampling"),
        "train.attack goes by": METHODS["full"](tasks={}, attack={}),
    }
    for told, method in refused.items():
        with pytest.raises(ConfigurationError) as caught:
            check_labels(method, "photos", "class")
        assert told in str(caught.value)
    with pytest.raises(ConfigurationError, match=r"ingest\.source\.label names one"):
        check_tasks(Mlp(tasks={}), inked.dataset.targets[:1])
    with pytest.raises(ConfigurationError, match=r"there is no task 'age'.* there are ink, digit, shapes"):
        check_tasks(Mlp(tasks={"weights": {"age": 2}}), inked.dataset.targets)
    check_tasks(Mlp(), inked.dataset.targets[:1])
