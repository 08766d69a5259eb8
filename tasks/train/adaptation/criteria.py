"""How good a model is on images whose labels nobody knows: by its answers alone, and by labelled images of another
domain that count for more where they look like those."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import cohen_kappa_score
from torch.nn.functional import cross_entropy, normalize

from tasks.train.adaptation.terms import entropies
from tasks.train.targets import merit

SHARPNESS = 0.05
"""Temperature of soft neighbourhood density."""

MOST = 4_000
"""Images that are compared with each other: 64 MB of similarities."""


@dataclass(frozen=True)
class Verdict:
    """Whether a model that was adapted is to be trusted, by what it answers on the target and what a plain one does.

    Attributes:
        agreement: of both, Cohen's kappa.
        information, plain_information: of their answers, in nats.
    """

    agreement: float
    information: float
    plain_information: float

    @classmethod
    def of(cls, adapted: torch.Tensor, plain: torch.Tensor) -> Verdict:
        """On answers of both models on the same images, ``[N, C]``."""
        return cls(agreement(adapted, plain), information(adapted), information(plain))

    def trusted(self, least_agreement: float) -> bool:
        """Whether two criteria agree that adapting does no harm: answers tell more of the target's images than before,
        and they are not others altogether.

        The first alone is fooled by answers that are sure and wrong (Musgrave et al. 2022, "Benchmarking validation
        methods for unsupervised domain adaptation"); such answers have little to do with what the labels taught.
        """
        return self.information > self.plain_information and self.agreement >= least_agreement

    def chosen(self, adapted: bool) -> dict[str, float]:
        """What a run records of it, and of which one was kept."""
        return {"adapted": float(adapted), **vars(self)}


@dataclass(frozen=True)
class Criteria:
    """Of one model.

    Attributes:
        source: accuracy on the labelled validation images, of the source domains.
        risk: cross-entropy that those let expect on the target (deep embedded validation); less is better.
        density: soft neighbourhood density on the target, in nats; more is better.
        information: mutual information between images of the target and answers, in nats; more is better.
        entropy: of an answer on the target, on average, in nats; less is better.
    """

    source: float
    risk: float
    density: float
    information: float
    entropy: float


@torch.inference_mode()
def density(answers: torch.Tensor) -> float:
    """Mean entropy of each image's similarities to all others, by answers ``[N, C]`` (SND, Saito et al. 2021, "Tune it
    the right way", 3.1): high where images lie in dense clusters that the answers follow."""
    points = normalize(answers[:MOST], dim=1)
    alike = points @ points.T / SHARPNESS
    alike.fill_diagonal_(-torch.inf)
    return float(entropies(alike.softmax(1)).mean())


@torch.inference_mode()
def information(answers: torch.Tensor) -> float:
    """Entropy of the mean answer less the mean entropy of answers ``[N, C]`` (Bridle et al. 1991; Shi & Sha 2012): low
    where answers are unsure, and where all images get the same."""
    return float(entropies(answers.mean(0, keepdim=True))[0] - entropies(answers).mean())


@torch.inference_mode()
def expected_risk(losses: torch.Tensor, weights: torch.Tensor) -> float:
    """Mean loss of labelled images ``[N]``, each counting for how much more often its like occurs in the target,
    with a control variate that takes off most of what the weights' spread adds (DEV, You et al. 2019, "Towards
    accurate model selection in deep unsupervised domain adaptation", algorithm 1)."""
    weighted = losses * weights
    spread = weights.var()
    eta = -torch.stack([weighted, weights]).cov()[0, 1] / spread if spread > 0 else torch.zeros(())
    return float(weighted.mean() + eta * weights.mean() - eta)


def density_ratios(source: torch.Tensor, target: torch.Tensor, asked: torch.Tensor) -> torch.Tensor:
    """How much more often points like some ``[M, width]`` occur in the target than in the source, by a logistic
    regression that tells points ``[N, width]`` of both apart (Bickel et al. 2007): float32 ``[M]``."""
    source, target = source[:MOST], target[:MOST]
    points = torch.cat([source, target])
    is_target = (torch.arange(len(points)) >= len(source)).numpy()
    regression = LogisticRegression(C=0.01, max_iter=200).fit(points.numpy(), is_target)
    odds = torch.from_numpy(regression.decision_function(asked.numpy())).float().exp()
    return odds * len(source) / len(target)


def agreement(one: torch.Tensor, other: torch.Tensor) -> float:
    """Cohen's kappa (1960) of two models' classes, by answers ``[N, C]`` of both: 1 where they are always the same, 0
    where they are no more often than by chance."""
    answers = [part.argmax(1).numpy() for part in (one, other)]
    return float(cohen_kappa_score(*answers)) if len(set(answers[0]) | set(answers[1])) > 1 else 1.0


@torch.inference_mode()
def judge(
    validation: tuple[torch.Tensor, torch.Tensor], ratios: torch.Tensor, answers: torch.Tensor
) -> Criteria:  # fmt: skip
    """All of a model.

    Args:
        validation: logits ``[V, C]`` and labels of the labelled images.
        ratios: of these, see `density_ratios`.
        answers: probabilities on the target ``[N, C]``.
    """
    logits, labels = validation
    return Criteria(
        source=merit(logits, labels),
        risk=expected_risk(cross_entropy(logits, labels, reduction="none"), ratios),
        density=density(answers), information=information(answers), entropy=float(entropies(answers).mean()),
    )  # fmt: skip
