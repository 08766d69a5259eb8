"""What teachers answer about images: their heads on what their backbones see, which is computed once and kept."""

from __future__ import annotations

import pandas as pd
import torch

from tasks.errors import ConfigurationError
from tasks.extract.joined import JoinedStore
from tasks.extract.keys import keys_of
from tasks.records import Dataset, FeatureSet
from tasks.teachers import Teachers, name_of
from tasks.train.distillation.check import check_classes
from tasks.train.heads import Head, as_probabilities

TOGETHER = 8192
"""Images whose features are in memory at a time."""


@torch.inference_mode()
def answers(
    teachers: Teachers, dataset: Dataset, rows: pd.DataFrame, temperature: float = 1.0, view: int = 0
) -> torch.Tensor:
    """Mean probabilities float32 ``[N, C]`` of the teachers, at a temperature, of some rows of a manifest.

    Classes that only a teacher knows are left out, so that those of the dataset sum to 1.

    Args:
        view: 0, or the number of an augmented one.

    Raises:
        ConfigurationError: a teacher does not know a class, or gives several labels an image where the data have one,
            or the other way round.
    """
    mean = torch.zeros(len(rows), len(dataset.classes))
    for version, file, features in zip(teachers.versions, teachers.heads, teachers.features, strict=True):
        check_classes(version, dataset)
        head = Head.load(file)
        if head.multi_label != dataset.multi_label:
            raise ConfigurationError(
                f"of the teacher {name_of(version)} (train.teacher) and the images of {dataset.source} "
                "one has several labels an image and the other one: name another teacher"
            )
        places = [version.classes.index(name) for name in dataset.classes]
        for start in range(0, len(rows), TOGETHER):
            part = slice(start, start + TOGETHER)
            logits = head(seen(features, rows[part], view))[:, places]
            mean[part] += as_probabilities(logits / temperature, dataset.multi_label)
    return mean / len(teachers.versions)


def seen(features: FeatureSet, rows: pd.DataFrame, view: int = 0) -> torch.Tensor:
    """What a teacher's backbone sees in some rows of a manifest: float32 ``[N, width]``."""
    return torch.from_numpy(JoinedStore(features, view).read(keys_of(rows["hash"])))
