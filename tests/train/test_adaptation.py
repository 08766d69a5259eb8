"""Domain adaptation: each term and criterion against its definition, and what comes out of them."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from tasks.errors import ConfigurationError
from tasks.train.adaptation import criteria
from tasks.train.adaptation.criteria import Verdict
from tasks.train.adaptation.domains import Domains
from tasks.train.adaptation.fit import APART, adapt, both, learn, learn_one
from tasks.train.adaptation.fit import activations as activations_of
from tasks.train.adaptation.hedging import shares, together
from tasks.train.adaptation.method import Adaptation, ByTerm
from tasks.train.adaptation.terms import (
    Activations,
    Adversary,
    ConditionalAdversary,
    Confusion,
    Correlation,
    Discrepancy,
    PseudoLabels,
)
from tasks.train.calibration import temperature
from tasks.train.check import check_pool
from tasks.train.door import _preferred
from tasks.train.further import settle_head
from tasks.train.heads import Head
from tasks.train.methods import METHODS
from tasks.train.solvers import Fit
from tasks.train.targets import Labelled, merit
from tests.train.prepared import Prepared

ADAPTATIONS = [name for name, kind in METHODS.items() if issubclass(kind, Adaptation)]


def activations(seed: int, count: int = 12, width: int = 5, classes: int = 3) -> Activations:
    generator = torch.Generator().manual_seed(seed)
    return Activations(*(torch.randn(count, size, generator=generator) for size in (width, classes)))


def test_discrepancy_is_the_mean_discrepancy_over_pairs() -> None:
    one, other = activations(0), activations(1)
    both = torch.cat([one.hidden, other.hidden])
    pairs = [(a, b) for a in range(24) for b in range(24) if a != b]
    spread = sum((both[a] - both[b]).square().sum() for a, b in pairs) / len(pairs)

    def alike(a: torch.Tensor, b: torch.Tensor) -> float:
        distance = (a - b).square().sum() / spread
        return sum(math.exp(-distance / scale) for scale in (0.125, 0.25, 0.5, 1.0, 2.0))

    def mean(left: Activations, right: Activations) -> float:
        return sum(alike(a, b) for a in left.hidden for b in right.hidden) / 144

    expected = mean(one, one) + mean(other, other) - 2 * mean(one, other)
    assert Discrepancy()(one, other, 0.5).item() == pytest.approx(expected, rel=1e-4)
    assert Discrepancy()(one, one, 0.5).item() == pytest.approx(0, abs=1e-6)


def test_correlation_is_the_papers_up_to_the_width() -> None:
    one, other = activations(0), activations(1)
    ours, theirs = (part.hidden - part.hidden.mean(0) for part in (one, other))
    difference = (ours.T @ ours - theirs.T @ theirs) / 11
    assert Correlation()(one, other, 0.5).item() == pytest.approx(5 * difference.square().sum().item() / (4 * 25))


def test_confusion_is_the_papers() -> None:
    target = activations(1)
    answers = (target.logits / 2.5).softmax(1)
    sure = torch.stack([1 + torch.exp(row @ row.log()) for row in answers])
    pairs = torch.zeros(3, 3)
    for row, weight in zip(answers, 12 * sure / sure.sum(), strict=True):
        pairs += weight * torch.outer(row, row)
    shares = pairs / pairs.sum(1, keepdim=True)
    expected = sum(shares[a, b].item() for a in range(3) for b in range(3) if a != b) / 3
    assert Confusion()(activations(0), target, 0.5).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("over", [0.0, 0.1, 1.0])
def test_what_an_adversary_learns_its_input_unlearns(over: float) -> None:
    torch.manual_seed(0)
    adversary, parts = Adversary(5), [activations(seed).hidden.requires_grad_() for seed in (0, 1)]
    source, target = (Activations(part, torch.zeros(12, 3)) for part in parts)
    reversed_ = torch.autograd.grad(adversary(source, target, over), parts)
    logits = adversary.layers(torch.cat(parts))[:, 0]
    told = torch.cat([torch.ones(12), torch.zeros(12)])
    plain = torch.autograd.grad(nn.functional.binary_cross_entropy_with_logits(logits, told), parts)
    factor = 2 / (1 + math.exp(-10 * over)) - 1
    for one, other in zip(reversed_, plain, strict=True):
        assert torch.allclose(one, -factor * other, atol=1e-7)


def test_a_conditional_adversary_sees_every_pair_of_unit_and_class_and_sure_images_more() -> None:
    torch.manual_seed(0)
    adversary, source, target = ConditionalAdversary(5, 3), activations(0), activations(1)
    losses = []
    for part, told in ((source, 1.0), (target, 0.0)):
        answers = part.logits.softmax(1)
        joint = torch.stack([torch.outer(a, h).flatten() for a, h in zip(answers, part.hidden, strict=True)])
        weights = 1 + torch.exp((answers * answers.log()).sum(1))
        logits = adversary.layers(joint)[:, 0]
        loss = nn.functional.binary_cross_entropy_with_logits(logits, torch.full((12,), told), reduction="none")
        losses.append((loss * weights).sum() / weights.sum())
    assert adversary(source, target, 0.5).item() == pytest.approx(sum(loss.item() for loss in losses) / 2, rel=1e-5)


def test_only_sure_answers_are_learned_from_and_none_at_first() -> None:
    logits = torch.tensor([[4.0, 0.0, 0.0], [0.1, 0.0, 0.0]])
    target = Activations(torch.zeros(2, 5), logits)
    term = PseudoLabels(0.8)
    assert term(target, target, 0.2).item() == 0
    expected = cross_entropy(logits[:1], torch.tensor([0])).item() * 0.5
    assert term(target, target, 1.0).item() == pytest.approx(expected)


def test_density_is_the_entropy_of_an_images_similarities() -> None:
    answers = activations(0).logits.softmax(1)
    points = answers / answers.norm(dim=1, keepdim=True)
    found = []
    for one in range(12):
        others = torch.stack([points[one] @ points[other] / 0.05 for other in range(12) if other != one]).softmax(0)
        found.append(-(others * others.log()).sum().item())
    assert criteria.density(answers) == pytest.approx(sum(found) / 12, rel=1e-4)


def test_information_is_none_where_all_answers_are_alike_and_most_where_they_are_sure_and_even() -> None:
    assert criteria.information(torch.tensor([[0.7, 0.3], [0.7, 0.3]])) == pytest.approx(0, abs=1e-6)
    assert criteria.information(torch.tensor([[1.0, 0.0], [1.0, 0.0]])) == pytest.approx(0, abs=1e-6)
    assert criteria.information(torch.tensor([[1.0, 0.0], [0.0, 1.0]])) == pytest.approx(math.log(2))


def test_density_ratios_are_those_of_two_normals() -> None:
    generator = torch.Generator().manual_seed(0)
    source, target = (torch.randn(4000, 1, generator=generator) + shift for shift in (0.0, 1.0))
    asked = torch.tensor([[-1.0], [0.5], [2.0]])
    expected = torch.exp(asked[:, 0] - 0.5)
    assert torch.allclose(criteria.density_ratios(source, target, asked), expected, rtol=0.15)


def test_the_expected_risk_is_the_targets_and_varies_less_than_a_weighted_mean() -> None:
    generator = torch.Generator().manual_seed(0)
    controlled, weighted = [], []
    for _ in range(200):
        points = torch.randn(200, generator=generator)
        losses, weights = (points > 0).float(), torch.exp(points - 0.5)
        controlled.append(criteria.expected_risk(losses, weights))
        weighted.append((losses * weights).mean().item())
    truth = 0.5 * (1 + math.erf(1 / math.sqrt(2)))  # how often a normal about 1 is above 0
    assert abs(sum(controlled) / 200 - truth) < 0.02
    assert torch.tensor(controlled).std() < torch.tensor(weighted).std()


def moved(shift: float = 4.0, mixed: float = 0.0) -> tuple[Domains, Labelled]:
    """Three classes, and images of them that are to be recognised, moved along every feature and mixed with the next
    ones, which no statistics of single features undo."""
    generator = torch.Generator().manual_seed(0)
    centres = 2.0 * torch.randn(3, 8, generator=generator)

    def drawn(count: int) -> Labelled:
        labels = torch.arange(count) % 3
        return centres[labels] + torch.randn(count, 8, generator=generator), labels

    features, labels = drawn(300)
    target = features + mixed * features.roll(1, 1) + shift, labels
    return Domains(drawn(300), drawn(90), target[0], 3), target


def correct(head: Head, images: Labelled) -> float:
    with torch.inference_mode():
        return (head(images[0]).argmax(1) == images[1]).double().mean().item()


def section_of(name: str, **keys: float) -> Adaptation:
    section = METHODS[name].model_validate({"epochs": 8, "hidden": 32, "learning_rate": 0.01} | keys)
    assert isinstance(section, Adaptation)
    return section


@pytest.mark.parametrize("name", ADAPTATIONS)
def test_a_target_that_was_moved_is_recognised_again(name: str) -> None:
    domains, target = moved()
    section = section_of(name, **({"target_epochs": 8} if name == "adda" else {}))
    plain, adapted = both(section, domains, 0)
    assert correct(plain.head, target) < 0.8 and correct(adapted.head, target) > 0.9
    alone = adapt(section.model_copy(update={"cautious": False}), domains, 0)
    assert alone.chosen["adapted"] == 1 and correct(alone.head, target) == correct(adapted.head, target)
    assert alone.score == pytest.approx(alone.curves["validation/accuracy"].iloc[-1])
    hedged = adapt(section, domains, 0)
    assert hedged.chosen["adapted"] == 1 and correct(hedged.head, target) > 0.9 and hedged.score > 0.9


@pytest.mark.parametrize("hidden", [None, 5])
def test_heads_are_one_whose_logits_are_their_sum(hidden: int | None) -> None:
    generator = torch.Generator().manual_seed(0)
    features = [torch.randn(50, 6, generator=generator) * scale + scale for scale in (1.0, 0.5, 3.0)]
    torch.manual_seed(0)
    heads = [Head(6, 3, hidden).standardise_like(each).eval() for each in features]
    weights = (0.3, -1.0, 2.0)
    with torch.inference_mode():
        logits = [weight * head(features[2]) for weight, head in zip(weights, heads, strict=True)]
        one = together(heads, weights)
        torch.testing.assert_close(one(features[2]), sum(logits), rtol=1e-4, atol=1e-4)
    assert one.hidden == (None if hidden is None else 15)


def test_several_heads_are_served_as_their_mean() -> None:
    domains, target = moved()
    section = section_of("cdan", epochs=2, heads=3)
    assert isinstance(section, ByTerm)
    mean = learn(section, domains, 0, section.term)
    apart = [learn_one(section, domains, seed, section.term) for seed in (0, APART, 2 * APART)]
    with torch.inference_mode():
        expected = torch.stack([each.head(domains.target) for each in apart]).mean(0)
        torch.testing.assert_close(mean.head(domains.target), expected, rtol=1e-4, atol=1e-4)
    assert mean.curves["train/loss"].tolist() == pytest.approx(
        sum(each.curves["train/loss"] for each in apart).div(3).tolist()
    )
    served = adapt(section_of("cdan", heads=3), domains, 0)
    assert served.chosen["adapted"] == 1 and served.head.hidden == 2 * 3 * section.hidden
    assert correct(served.head, target) > 0.9


def test_logits_count_by_their_share_however_large_they_are() -> None:
    plain, adapted = torch.randn(40, 3), 20 * torch.randn(40, 3) + 7
    weights = shares(plain, adapted)
    ours, theirs = ((part - part.mean(1, keepdim=True)).std() for part in (plain, adapted))
    assert weights[1] * theirs / (weights[0] * ours) == pytest.approx(2)
    assert shares(plain, 5 * adapted)[0] == pytest.approx(5 * weights[0])


def test_statistics_alone_leave_what_was_learned_as_it_is() -> None:
    plain, adapted = both(section_of("adabn"), moved()[0], 0)
    assert torch.equal(plain.head.layers[0].weight, adapted.head.layers[0].weight)  # type: ignore[index]
    assert not torch.equal(plain.head.mean, adapted.head.mean)


def test_a_branch_of_its_own_hides_the_target_and_leaves_the_sources_alone() -> None:
    domains, _ = moved(mixed=1.0)
    plain = learn(section_of("adda", heads=1), domains, 0)
    section = section_of("adda", learning_rate=0.001, target_epochs=15, target_learning_rate=3e-4)
    before = {key: value.clone() for key, value in plain.head.state_dict().items()}
    branched = section.adapted(plain, domains, 0)
    assert all(torch.equal(value, before[key]) for key, value in plain.head.state_dict().items())
    ours, theirs = plain.head.layers, branched.head.layers
    assert isinstance(ours, nn.Sequential) and isinstance(theirs, nn.Sequential)
    assert torch.equal(ours[2].weight, theirs[2].weight) and not torch.equal(ours[0].weight, theirs[0].weight)

    def apart(layers: nn.Sequential) -> float:
        """Mean discrepancy of the target's hidden layer and the source's."""
        with torch.inference_mode():
            source = activations_of(ours, domains.source[0])
            return Discrepancy()(source, activations_of(layers, domains.target), 0.0).item()

    assert apart(theirs) < 0.7 * apart(ours)
    assert len(branched.curves) == 15


def test_the_seed_decides_and_nothing_that_was_drawn_before() -> None:
    domains, _ = moved()
    section = section_of("cdan", epochs=1)
    assert isinstance(section, ByTerm)
    learned = [learn(section, domains, 0, section.term).head for _ in range(2)]
    assert torch.equal(learned[0].layers[0].weight, learned[1].layers[0].weight)  # type: ignore[index]
    one, again, other = (adapt(section_of("cdan", epochs=2), domains, seed).head.state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(one[key], again[key]) for key in one)
    assert not torch.equal(one["layers.0.weight"], other["layers.0.weight"])


def test_where_criteria_disagree_the_plain_head_is_kept_unless_caution_is_off() -> None:
    domains, _ = moved()
    # Drawn together until nothing else counts, all images get one answer.
    kept, forced = (adapt(section_of("dan", strength=1e4, cautious=on), domains, 0) for on in (True, False))
    assert kept.chosen["adapted"] == 0 and forced.chosen["adapted"] == 1
    assert torch.equal(kept.head.mean, domains.ours.mean) and torch.equal(forced.head.mean, domains.theirs.mean)


def answering(answers: list[int], sure: float) -> torch.Tensor:
    """Images are given these classes, of two, with so high a probability."""
    return torch.tensor([[sure, 1 - sure] if answer == 0 else [1 - sure, sure] for answer in answers])


def test_adapted_answers_are_trusted_that_tell_more_and_are_not_others_altogether() -> None:
    def trusted(answers: list[int], sure: float) -> bool:
        return Verdict.of(answering(answers, sure), answering([0, 1, 0, 1], 0.7)).trusted(0.1)

    assert trusted([0, 1, 0, 1], 0.9) and trusted([0, 1, 0, 0], 0.99)
    assert not trusted([0, 1, 0, 1], 0.6)  # they tell less
    assert not trusted([0, 0, 0, 0], 0.99)  # one answer for all
    assert not trusted([1, 0, 1, 0], 0.99)  # sure, and others altogether
    half_alike = Verdict.of(answering([0, 1, 0, 0], 0.99), answering([0, 1, 0, 1], 0.7))
    assert half_alike.agreement == pytest.approx(0.5)
    assert half_alike.trusted(0.5) and not half_alike.trusted(0.51)


def test_agreement_is_beyond_chance() -> None:
    one, other = (torch.eye(3)[answers] for answers in ([0, 0, 1, 1, 2, 2], [0, 1, 1, 1, 2, 0]))
    observed, chance = 4 / 6, (2 * 2 + 2 * 3 + 2 * 1) / 36
    assert criteria.agreement(one, other) == pytest.approx((observed - chance) / (1 - chance))
    assert criteria.agreement(one[:2], one[:2]) == 1


def home_of(prepared: Prepared) -> Path:
    """Where its features lie, and those of the pool will."""
    return prepared.features.store.parents[2]


def test_a_dataset_with_a_target_domain_is_adapted_to_it(night: Prepared, tmp_path: Path) -> None:
    counts = night.dataset.counts
    assert counts["pool"] > 50 and counts["test"] > 50 and counts["train"] > 100
    candidate = night.train(METHODS["adabn"].model_validate({"epochs": 3, "cautious": False}), home_of(night))
    assert candidate.method == "adabn" and candidate.chosen["adapted"] == 1 and candidate.held_out is not None
    told = pd.read_parquet(candidate.held_out).merge(night.dataset.read_manifest().query("split == 'val'"), on="path")
    answers = np.stack(told["probability"].to_list())
    right = answers.argmax(1) == told["label"].astype(int)
    assert len(told) == counts["val"] and right.mean() == pytest.approx(candidate.score) and right.mean() > 0.8
    assert answers.max(1).mean() == pytest.approx(right.mean(), abs=0.1)  # they mean what they say
    pool = night.task(tmp_path).adapted_to
    assert len(pool) == counts["pool"]
    assert torch.allclose(Head.load(candidate.head).mean, pool.mean(0), atol=1e-5)


def test_images_of_the_labelled_domains_in_the_pool_are_not_adapted_to(night: Prepared, tmp_path: Path) -> None:
    rows = night.dataset.read_manifest()
    ours = rows.index[(rows["split"] == "train") & (rows["domain"] == "day")][:40]
    more = night.with_rows(rows.assign(split=rows["split"].mask(rows.index.isin(ours), "pool")), tmp_path)
    task = more.task(tmp_path)
    assert len(task.rows("pool")) == len(task.target_rows) + 40 and set(task.target_rows["domain"]) == {"night"}
    assert torch.equal(task.adapted_to, night.task(tmp_path).adapted_to)
    nowhere = night.with_rows(rows.assign(domain=None), tmp_path).task(tmp_path)
    assert len(nowhere.target_rows) == len(nowhere.rows("pool"))
    # A domain that is tested on tells the target from others that nothing is learned from.
    another = rows["domain"].mask(rows.index.isin(ours), "dusk")
    moved = rows.assign(split=rows["split"].mask(rows.index.isin(ours), "pool"), domain=another)
    assert set(night.with_rows(moved, tmp_path).task(tmp_path).target_rows["domain"]) == {"night"}
    # One stray image is no domain.
    stray = rows.assign(domain=rows["domain"].replace({"night": "day"}).mask(rows.index == pool_of(rows)[0], "fog"))
    assert len(night.with_rows(stray, tmp_path).task(tmp_path).target_rows) == night.dataset.counts["pool"]
    # Where domains tell, and the pool has none of the target, nothing else is taken for it.
    split = rows["split"].mask(rows.index.isin(pool_of(rows)[1:]), "test").mask(rows.index.isin(ours), "pool")
    gone = rows.assign(split=split)
    with pytest.raises(ConfigurationError, match="the pool has 1 image, and 2 are the least: raise"):
        check_pool(METHODS["mcc"](), night.with_rows(gone, tmp_path).dataset)  # before its features are extracted


def pool_of(rows: pd.DataFrame) -> pd.Index:
    return rows.index[rows["split"] == "pool"]


def test_probabilities_are_calibrated_on_images_as_their_own_domain_has_them(tmp_path: Path) -> None:
    domains, target = moved()
    for cautious in (False, True):
        fit = adapt(section_of("cdan", cautious=cautious), domains, 0)
        assert fit.validated is not None and fit.adapted
        hot = temperature(fit.validated, domains.validation[1])
        settle_head(fit, True, (torch.zeros(0), domains.validation[1]))  # the features are not looked at
        assert float(fit.head.temperature) == pytest.approx(hot)
        assert fit.score == merit(fit.validated, domains.validation[1])
    tuned = replace(fit, validated=None)
    before = float(tuned.head.temperature)
    settle_head(tuned, True, (torch.randn(len(target[1]), domains.source[0].shape[1]), target[1]))
    assert float(tuned.head.temperature) == before  # of a network it is not known


def test_of_several_seeds_one_that_is_adapted_is_kept_by_what_it_tells_of_the_target() -> None:
    def fit(score: float, **chosen: float) -> Fit:
        return Fit(Head(2, 2), score, chosen, pd.DataFrame())

    plain, adapted = fit(0.99, adapted=0.0, information=0.9), fit(0.80, adapted=1.0, information=0.5)
    better = fit(0.75, adapted=1.0, information=0.7)
    sure = fit(0.75, adapted=1.0, information=0.9, agreement=0.01)
    section = section_of("mcc", cautious=False)
    assert max((plain, adapted, better, sure), key=lambda each: _preferred(each, section)) is better
    assert max((fit(0.9), fit(0.91)), key=lambda each: _preferred(each, section)).score == 0.91


@pytest.mark.parametrize("name", ["mcc", "adabn", "coral", "adapt_tuned", "adabn_tuned"])
def test_a_search_would_choose_by_the_wrong_images(name: str) -> None:
    with pytest.raises(ValueError, match="search is not for adaptation"):
        METHODS[name].model_validate({"search": {"trials": 3}})


def test_without_images_to_adapt_to_one_line_says_what_to_do(digits: Prepared, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"cdan \(train.method\) learns from unlabelled.*ingest.split.target"):
        digits.train(METHODS["cdan"].model_validate({}), tmp_path)
