"""Images that one of two models knows: it has learned from them, or from ones that are nearly the same.

A model that has learned from a resized copy of a validation image is right about it without having become any better:
so what is left out of a comparison is what `tasks.evaluate.neighbours.leaks` finds near to the training images of
either.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from tasks.errors import DataError
from tasks.evaluate.neighbours.leaks import find_near
from tasks.evaluate.neighbours.nearest import Learned, directions
from tasks.extract.joined import JoinedStore
from tasks.extract.keys import keys_of
from tasks.ingest.versioning import read_manifest
from tasks.records import Candidate, Dataset, Evaluation, FeatureSet
from tasks.rival import Rival
from tasks.train.task import LEARNED
from tasks.workspace import Workspace


@dataclass(frozen=True)
class Known:
    """Contents that are left out of a comparison.

    Attributes:
        learned: that one of the two has learned from; near: others, that have a near neighbour among those.
        findings: a line where this could not be told of all.
    """

    learned: frozenset[str]
    near: frozenset[str]
    findings: tuple[str, ...] = ()

    def among(self, rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        """Of rows of a manifest, those that are near and those that are left: bool ``[N]`` each."""
        near = rows["hash"].isin(self.near).to_numpy()
        return near, ~(near | rows["hash"].isin(self.learned).to_numpy())


def known_images(
    dataset: Dataset, candidate: Candidate, evaluation: Evaluation, rival: Rival, their_rows: pd.DataFrame | None,
    spaces: tuple[FeatureSet, ...], splits: Sequence[str], seed: int,
) -> Known:  # fmt: skip
    """What is left out of the comparison of a candidate with a registered version.

    Args:
        evaluation: of the candidate, which knows what is near to its own training images.
        their_rows: the manifest of the version's data; None where it is not in this workspace.
        spaces: features that may hold the version's training images: of the candidate's backbone before training, and
            of the version's.
    """
    rows = dataset.read_manifest()
    ours = set(
        rows.loc[rows["split"].isin((*LEARNED, "partial", *[dataset.choose_on] * candidate.cross_validated)), "hash"]
    )
    near = {content for split in splits for content in _near_ours(evaluation.report / f"{split}_near.csv")}
    if their_rows is None:
        return Known(frozenset(ours), frozenset(near - ours), (_elsewhere(rival),))
    theirs = their_rows[their_rows["split"].isin(rival.learned_from)].drop_duplicates("hash")
    known = ours | set(theirs["hash"])
    findings: tuple[str, ...] = ()
    if not set(theirs["hash"]) <= ours:  # else what is near to theirs is near to ours
        found, findings = _near_theirs(rows[rows["split"].isin(splits)], rows, theirs, spaces, rival, seed)
        near |= found
    return Known(frozenset(known), frozenset(near - known), findings)


def manifest_of(rival: Rival, workspace: Workspace) -> pd.DataFrame | None:
    """The rows of the data that a version learned from; None where it is not in this workspace, or nobody knows it."""
    if not rival.data:
        return None
    try:
        return read_manifest(rival.data, workspace)
    except DataError:
        return None


def _near_ours(file: Path) -> list[str]:
    return (
        pd.read_csv(file, lineterminator="\n", usecols=["hash"], dtype=str)["hash"].tolist() if file.is_file() else []
    )


def _near_theirs(
    rows: pd.DataFrame, ours: pd.DataFrame, theirs: pd.DataFrame, spaces: tuple[FeatureSet, ...], rival: Rival,
    seed: int,
) -> tuple[set[str], tuple[str, ...]]:  # fmt: skip
    """Contents of ``rows`` that are near to what the version learned from, as far as its features are at hand."""
    keys = keys_of(theirs["hash"])
    there = [~JoinedStore(space).missing(keys) for space in spaces]
    features, held = max(zip(spaces, there, strict=True), key=lambda each: int(each[1].sum()))
    findings = () if held.all() else (_unseen(rival, int((~held).sum())),)
    if not held.any():
        return set(), findings
    # A version's manifest has no perceptual hashes; those of images that are in our data, too, are known.
    hashes = ours.drop_duplicates("hash").set_index("hash")["dhash"] if "dhash" in ours else pd.Series(dtype="Int64")
    learned = theirs[held].assign(dhash=lambda table: table["hash"].map(hashes)).reset_index(drop=True)
    contents = learned["hash"].tolist()
    near = find_near(
        rows.reset_index(drop=True), Learned(learned, features, directions(features, contents, contents)), seed
    )
    return set(rows["hash"].to_numpy()[np.flatnonzero(near.near)]), findings


def _elsewhere(rival: Rival) -> str:
    return (
        f"version {rival.version} may have learned from some of these images: its data is not in this workspace; "
        f"`headstart data pull {rival.name}@{rival.version}` fetches it"
    )


def _unseen(rival: Rival, count: int) -> str:
    return (
        f"version {rival.version} may have learned from images like some of these: {count:,} that it learned from are "
        "not in the data any more, and their features are not kept"
    )
