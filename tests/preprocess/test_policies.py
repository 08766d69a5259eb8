"""Changes of colour and shape: bytes to bytes, and the same ones for the same seed."""

from __future__ import annotations

import pytest
import torch

from tasks.preprocess.kinds import Augment
from tasks.preprocess.policies import GROUP, changed


def images(count: int = 10) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, 24, 24), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("augment", ["trivial", "rand"])
def test_images_stay_bytes_of_their_shape_and_follow_torchs_seed(augment: Augment) -> None:
    before, given = images(), images()
    results = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        results.append(changed(given, augment))
    first, again, other = results
    assert first.shape == before.shape and first.dtype == torch.uint8 and torch.equal(given, before)
    assert torch.equal(first, again) and not torch.equal(first, other)


@pytest.mark.parametrize("augment", ["trivial", "rand"])
def test_a_batch_is_changed_in_more_than_one_way(augment: Augment) -> None:
    torch.manual_seed(0)
    same = images(1).expand(8 * GROUP, -1, -1, -1)
    found = changed(same, augment)
    assert len({image.numpy().tobytes() for image in found}) > 4


@pytest.mark.parametrize("augment", ["none", "flip", "crop"])
def test_other_kinds_leave_images_and_the_seed_alone(augment: Augment) -> None:
    state = torch.random.get_rng_state()
    given = images()
    assert changed(given, augment) is given
    assert torch.equal(torch.random.get_rng_state(), state)
