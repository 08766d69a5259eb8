"""What a training through the backbone can be told, and what it asks of its method."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from tasks.preprocess.kinds import Augment
from tasks.section import Section
from tasks.target import Kind
from tasks.train.joint.config import TasksConfig
from tasks.train.kinds import Balance
from tasks.train.method import Method
from tasks.train.radius import Radius

if TYPE_CHECKING:
    from torch import nn

    from tasks.train.heads import Head
    from tasks.train.solvers import Fit
    from tasks.train.task import Task
    from tasks.train.tuning.blocks import Block
    from tasks.train.tuning.network import Material, Tuning


class AttackConfig(Section):
    """Adversarial training: images are changed within a radius so that the network errs, and learned from so (Madry et
    al. 2018). It costs about as many passes more as there are steps, and accuracy on images that nobody attacks."""

    radius: Radius = Field(default="4/255", validate_default=True)
    """How far every channel of every pixel may be changed (L∞), as a share of its range, 0 to 1, before whatever the
    network does with it."""
    steps: int = Field(default=7, ge=1)
    """Steps of projected gradient ascent from a random start."""
    step: Radius | None = None
    """Length of a step, as a share as well; by default 2.5 · radius / steps."""
    share: float = Field(default=1.0, gt=0, le=1)
    """Share of each batch that is attacked; the others are learned from as they are."""
    trades: float | None = Field(default=None, gt=0)
    """Images are learned from as they are, and answers under attack are drawn to those without, by this weight (TRADES,
    Zhang et al. 2019, 1/λ there, 6 usually); by default they are learned from under attack."""


class TuningConfig(Method):
    """The keys of a training through the backbone, and the rates at which blocks of the network learn."""

    epochs: int = Field(default=5, ge=1)
    """Passes over the training images; the best one on validation is kept."""
    learning_rate: float = Field(default=5e-4, gt=0)
    """Step size of the head and of blocks at the full rate, after warm-up."""
    optimiser: Literal["adamw", "sgd"] = "adamw"
    """`adamw`, or `sgd` with Nesterov momentum 0.9, which takes rates some thirty times as large."""
    weight_decay: float = Field(default=0.02, ge=0)
    """Decay of weights, not of biases and norms."""
    batch_size: int = Field(default=64, ge=1)
    """Images per step."""
    clip: float = Field(default=1.0, ge=0)
    """Norm that the gradient of a step is scaled down to where it is larger; 0: not scaled."""
    warmup: float = Field(default=0.1, ge=0, le=1)
    """Share of all steps over which the rate rises from zero; then it falls along a cosine."""
    layer_decay: float = Field(default=1.0, gt=0, le=1)
    """Discriminative rates: what a block's rate is multiplied by to give that of the block below it."""
    head: Literal["zero", "probe"] = "probe"
    """What the head starts from: zeros, or the logistic regression on the frozen features."""
    batch_norm: Literal["update", "frozen"] = "frozen"
    """Whether statistics of batch norms follow the new images, or stay; those of frozen blocks always stay."""
    l2_sp: float = Field(default=0.0, ge=0)
    """Strength of the pull back to the pretrained weights (L2-SP, Li et al. 2018)."""
    ema: float = Field(default=0.0, ge=0, lt=1)
    """Decay of the running average of the weights that is evaluated and kept instead of the last ones; 0: none."""
    augment: Augment = "crop"
    """`flip` mirrors; `crop` takes random parts, too; `trivial` and `rand` add TrivialAugment or RandAugment."""
    least_area: float = Field(default=0.4, gt=0, le=1)
    """Share of an image that a random part shows at least."""
    mixup: float = Field(default=0.0, ge=0)
    """Images are mixed in pairs, the share drawn from Beta(a, a) with this a (Zhang et al. 2018); 0: not."""
    cutmix: float = Field(default=0.0, ge=0)
    """A rectangle of each image is taken from another (Yun et al. 2019), as with mixup; with both, one is drawn."""
    sizes: list[int] = Field(default=[])
    """Progressive resizing: sides of the images in as many equal parts of the training, of its time where `minutes` end
    it; by default preprocess.size."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Share of the target that is spread over all classes."""
    balance: Balance = "none"
    """Classes of unequal size: `weights` counts every class alike, `sampling` draws from every class as often."""
    tasks: TasksConfig | None = None
    """Several tasks that the backbone is tuned for at once; by default it is tuned for the leading one alone."""
    attack: AttackConfig | None = None
    """Adversarial training, `{radius: 4/255}`; epochs, seeds and trials are then compared by what is right on
    validation under the same attack."""
    patience: int | None = Field(default=None, ge=1)
    """Epochs without a better validation figure after which training ends."""
    wise_ft: bool = False
    """After training, weights are drawn back towards the pretrained ones, and the head to its solution on frozen
    features, as far as is best on validation (WiSE-FT, Wortsman et al. 2022)."""
    soup: bool = False
    """Weights of several epochs are averaged, each further one where the average is no worse on validation (greedy
    soup, Wortsman et al. 2022)."""
    minutes: float | None = Field(default=None, gt=0)
    """When training ends at the latest, decoding and validation included; the rate falls with time where `epochs`
    would take longer (Li et al. 2020, "Budgeted training"). How far it came then depends on the machine."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """`auto`: bf16 where the device computes it natively, weights and their updates staying fp32."""
    devices: int | Literal["auto"] = "auto"
    """Devices that share each batch (DDP); `auto`: every GPU, or the one CPU."""

    @model_validator(mode="after")
    def _check_numbers(self) -> TuningConfig:
        if any(size < 8 for size in self.sizes) or len(self.sizes) > self.epochs:
            raise ValueError(f"sizes must be at least 8 pixels, and no more of them than epochs ({self.epochs})")
        if self.wise_ft and self.head != "probe":
            raise ValueError("wise_ft goes back towards the solved head that training begins from: take head: probe")
        if self.attack and (self.wise_ft or self.soup or (self.search and self.search.soup)):
            raise ValueError("wise_ft and soup choose by images that nobody attacks: leave them out beside attack")
        if self.devices != "auto" and self.devices < 1:
            raise ValueError("devices must be auto or at least 1")
        return self

    @property
    def seconds(self) -> float | None:
        """What this training may take of `minutes`."""
        return 60 * self.minutes if self.minutes else None

    def compared_by(self, kind: Kind) -> str:
        """Column of the curves that tells which epoch is the best."""
        from tasks.train.targets import merit_name

        return f"validation/{'attacked_' * (self.attack is not None)}{merit_name(kind)}"

    def prepare(self, network: nn.Module, blocks: list[Block]) -> None:
        """Change the network before training, such as by adding parameters."""

    @abstractmethod
    def material(self, task: Task) -> Material:
        """What is learned from, and by which loss."""

    @abstractmethod
    def probe(self, task: Task) -> Head:
        """The head that is solved on the frozen features."""

    @abstractmethod
    def rates(self, epoch: int, tuning: Tuning) -> list[float]:
        """How fast each block learns in an epoch, the input's first; 1 is the full learning rate, 0 freezes it.

        Args:
            epoch: from 0.
            tuning: the training so far; its ``blocks`` are meant.
        """

    def by_depth(self, count: int) -> list[float]:
        """Full rate for the last of ``count`` blocks, ``layer_decay`` times as much for each below."""
        return [self.layer_decay ** (count - 1 - depth) for depth in range(count)]

    def epoch_kept(self, merits: Sequence[float]) -> int:
        """Which epoch's weights are kept of those that are over, from 0; the first of the best on validation."""
        return max(range(len(merits)), key=merits.__getitem__)

    def settle(self, fit: Fit, task: Task) -> Fit:
        """What becomes of a training that is over."""
        return fit

    @classmethod
    def space(cls, draw: Any) -> dict[str, Any]:
        return {
            "learning_rate": draw.suggest_float("learning_rate", 5e-5, 5e-3, log=True),
            "layer_decay": draw.suggest_float("layer_decay", 0.6, 1.0),
            "weight_decay": draw.suggest_float("weight_decay", 1e-3, 0.3, log=True),
        }
