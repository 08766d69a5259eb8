"""The built-in backbone's network: a residual network for 32-pixel images, small enough to live in the repository.

Four resolutions like a ResNet (He et al. 2016, "Deep residual learning for image recognition"), with an
average-pooled shortcut ("ResNet-D", He et al. 2019, "Bag of tricks for image classification") and a 1×1
expansion before global pooling as in MobileNetV2 (Sandler et al. 2018), which makes a wide feature vector,
what a linear head wants, at the cost of few parameters.
"""

from __future__ import annotations

import itertools

import torch
from torch import nn

WIDTHS = (32, 64, 96, 160)
FEATURES = 512


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions beside a shortcut; halves the resolution."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels_out)
        self.shortcut = nn.Sequential(
            nn.AvgPool2d(2), nn.Conv2d(channels_in, channels_out, 1, bias=False), nn.BatchNorm2d(channels_out)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        residual = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(residual)) + self.shortcut(x))


class ResNet32px(nn.Module):
    """Classifier for ``[N, 3, 32, 32]`` inputs: 0.67 M parameters up to the 512 features, then a linear head.

    Works at other sizes too; 32 px is what it was trained for.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, WIDTHS[0], 3, padding=1, bias=False), nn.BatchNorm2d(WIDTHS[0]), nn.ReLU()
        )
        self.blocks = nn.Sequential(*(ResidualBlock(i, o) for i, o in itertools.pairwise(WIDTHS)))
        self.expand = nn.Sequential(nn.Conv2d(WIDTHS[-1], FEATURES, 1, bias=False), nn.BatchNorm2d(FEATURES), nn.ReLU())
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.head = nn.Linear(FEATURES, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.flatten(self.pool(self.expand(self.blocks(self.stem(x))))))
