"""What an answer gets that has not looked at the image, by the kind of the task."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, average_precision_score, r2_score

from tasks.target import chance


def test_of_a_class_it_is_the_share_of_the_commonest() -> None:
    labels = np.repeat([0, 1, 2], [10, 25, 15])
    wanted = accuracy_score(labels, np.ones_like(labels))
    assert chance("class", np.bincount(labels).tolist(), 50) == pytest.approx(wanted)


def test_of_labels_it_is_the_average_precision_of_images_in_any_order_over_the_classes_that_occur() -> None:
    targets = np.random.default_rng(0).random((40, 3)) < (0.1, 0.5, 0.0)
    wanted = average_precision_score(targets[:, :2], np.zeros((40, 2)), average="macro")
    assert chance("labels", targets.sum(0).tolist(), 40) == pytest.approx(wanted)


def test_of_a_number_and_of_no_image_it_is_nothing() -> None:
    values = np.random.default_rng(0).normal(size=20)
    assert chance("number", (), 20) == r2_score(values, np.full(20, values.mean())) == 0
    assert chance("class", (), 0) == chance("labels", [0, 0], 5) == 0
