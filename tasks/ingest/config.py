"""The ``ingest`` section of a configuration."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from tasks.fingerprint import fingerprint
from tasks.ingest.kinds import Action, Telling, Unusable
from tasks.ingest.sources import AnySource, DigitsSource
from tasks.limits import ALLOWED, MOST_PIXELS, Limits
from tasks.section import Section
from tasks.workspace import Workspace


class SplitConfig(Section):
    """Which images are learned from, chosen on and held out."""

    by: Literal["auto", "given", "hash", "stratified", "group"] = "auto"
    """How splits come about. ``given``: as the source says. ``hash``: by the image's content, so that adding images
    never moves old ones. ``stratified``: the same share of every class, or of every tenth of the images by their
    number; adding images may move a few. ``group``: by the hash of the group, so that no patient or scene is in two
    splits. ``auto``: given where the source gives
    splits, by group where it gives groups, else by hash."""
    group: Literal["source", "stem", "near_duplicates"] = "source"
    """What groups images. ``source``: what it gives. ``stem``: the names of files without the counter at their end, so
    that ``00012_00000.png`` and ``00012_00001.png`` belong together, and ``IMG_2041 (1).jpg`` and ``IMG_2041.jpg``.
    ``near_duplicates``: chains of images that look alike, by at most ``checks.near_bits`` bits of their hashes. Both
    are for images to which the source gives no group."""
    val: float = Field(default=0.15, ge=0.0, lt=0.5)
    """Share of images that choices are made on."""
    test: float = Field(default=0.2, ge=0.0, lt=0.9)
    """Share of images held out for the final figure."""
    folds: int | None = Field(default=None, ge=3, le=100)
    """Cross-validation: cut into this many parts; ``fold`` is the test split and the next one val."""
    fold: int = Field(default=0, ge=0)
    """Which part is the test split, counted from 0."""
    shots: int | None = Field(default=None, ge=1)
    """Learn from this many images per class only; the other training images go to the pool. Not for numbers."""
    seed: int = 0
    """Draws the ``shots``."""
    target: list[str] = Field(default=[])
    """Domains that the model is to be used on and from whose labels it does not learn: ``unlabelled`` of their images
    go to the pool, the others are the test split. The other domains are cut into train and val."""
    unlabelled: float = Field(default=0.5, ge=0.0, lt=1.0)
    """Share of the target domains' images that goes to the pool, where methods of domain adaptation learn from them
    without their labels."""

    @model_validator(mode="after")
    def _fold_is_one_of_them(self) -> SplitConfig:
        if self.folds is not None and self.fold >= self.folds:
            raise ValueError(f"fold {self.fold} is none of {self.folds} folds, which count from 0")
        if self.folds is not None and self.by == "given":
            raise ValueError("folds make splits anew, so by cannot be given")
        if self.target and self.folds is not None:
            raise ValueError("target domains are the test split, so there cannot be folds")
        if self.target and self.by == "given":
            raise ValueError("target domains make splits anew, so by cannot be given")
        return self


class ChecksConfig(Section):
    """What is done about a finding: ``fail`` stops the run, ``quarantine`` keeps the image out and lists it with the
    reason, ``warn`` takes it in and says so."""

    bad_row: Unusable = "quarantine"
    """Rows of a table that say nothing usable."""
    unsafe_path: Unusable = "quarantine"
    """Names that lead out of their folder or root, links and devices in archives."""
    missing: Unusable = "quarantine"
    """Files that a table names and nobody has, or that cannot be read."""
    hidden: Unusable = "quarantine"
    """Hidden files and the clutter of operating systems."""
    empty: Unusable = "quarantine"
    """Files of zero bytes."""
    too_large: Unusable = "quarantine"
    """Files or images beyond the limits."""
    not_an_image: Unusable = "quarantine"
    """Files that are no images."""
    truncated: Unusable = "quarantine"
    """Images that end too early."""
    undecodable: Unusable = "quarantine"
    """Images that cannot be decoded."""
    no_scale: Unusable = "quarantine"
    """Images of more than 8 bits per channel whose values nobody can tell as brightness: negative ones, floats beyond
    65535, or values so close together that next to nothing is left at 8 bits."""
    no_label: Unusable = "quarantine"
    """Images in no class folder (an unlabelled pool says so: a folder ``unlabelled/``, an empty label)."""
    no_split: Unusable = "quarantine"
    """Images without a split in a source that gives splits."""
    wrong_extension: Action = "warn"
    """Files whose name promises another format."""
    rotated: Action = "warn"
    """Images that EXIF turns upright."""
    alpha: Action = "warn"
    """Images with transparency."""
    palette: Action = "warn"
    """Palette images."""
    cmyk: Action = "warn"
    """Images in CMYK, YCbCr, Lab or HSV."""
    deep: Action = "warn"
    """Images of more than 8 bits per channel."""
    one_colour: Action = "warn"
    """Images all of whose pixels are the same: a lens cap, a blank scan, a failed export."""
    animated: Action = "warn"
    """Images of several frames."""
    ungrouped: Action = "warn"
    """Images without a group in a source that gives groups: they may stand in another split than their like."""
    respelt_group: Telling = "warn"
    """Images whose group others write differently, ``P01``, ``p01`` and ``P 01``, ``3`` and ``3.0``: taken for one, so
    that it is in one split."""
    parted_group: Telling = "warn"
    """Images whose group is in several splits, which the source gives or ``by: hash`` and ``stratified`` make: what is
    held out resembles what is learned from."""
    conflicting_label: Action = "quarantine"
    """Copies of one image under different labels of a task; all of them are kept out."""
    straddling: Unusable = "quarantine"
    """Copies of one image in different splits; the one held out most is kept: test, then val, then train."""
    duplicate: Action = "quarantine"
    """Exact copies of another image of the same split; the first one is kept."""
    near_straddling: Action = "warn"
    """Images that look like one of another split; ``quarantine`` keeps the one held out most."""
    near_duplicate: Action = "warn"
    """Images that look like another one of the same split; ``quarantine`` keeps the first one."""
    empty_class: Telling = "warn"
    """Classes of which there is no image: their folders are empty, or all their images are kept out."""
    absent_class: Telling = "warn"
    """Classes without images in the split that choices are made on, or in the one that is reported on."""
    deeper_folders: Telling = "warn"
    """Folders below those of classes, several a class, in which most images lie: they count as their class, and may be
    groups, ``layout: label/group``, or the classes, ``layout: "*/label"``."""
    similar_classes: Telling = "warn"
    """Class names that differ only in case, spaces or the form of their Unicode, ``Cat``, ``cat`` and ``CAT ``, or as
    ``1`` and ``1.0``."""
    numbers_as_classes: Telling = "warn"
    """Many classes, nine in ten of which are numbers: ``kind: number`` may be meant."""
    untold_task: Telling = "warn"
    """Further tasks of which no image has a label in the split that is reported on."""
    near_bits: int = Field(default=2, ge=0, le=3)
    """Two images look alike when at most this many of the 64 bits of their perceptual hashes differ."""


class LimitsConfig(Section):
    """What is too much to be a photo or a dataset, and would only fill memory or disk."""

    pixels: int = Field(default=ALLOWED.pixels, ge=1, le=MOST_PIXELS)
    """Of one image, at most 178,956,970. A model refuses what it was trained without, too, wherever it predicts."""
    bytes: int = Field(default=ALLOWED.bytes, ge=1)
    """Of one file; of one image that a served model is sent."""
    files: int = Field(default=20_000_000, ge=1)
    """Of one source."""
    total_bytes: int = Field(default=2 * 2**40, ge=1)
    """Of all files of one source together."""

    @property
    def of_an_image(self) -> Limits:
        """Those that hold for each image."""
        return Limits(self.pixels, self.bytes)


class IngestConfig(Section):
    """Which images to learn from, how they are checked, and how they are split."""

    source: AnySource = DigitsSource(embedded="digits")
    """Where the images are; one of the sources in docs/data.md."""
    split: SplitConfig = SplitConfig()
    """Which images are learned from, chosen on and held out."""
    checks: ChecksConfig = ChecksConfig()
    """What is done about findings."""
    limits: LimitsConfig = LimitsConfig()
    """What is too much to be a photo or a dataset."""

    @model_validator(mode="after")
    def _shots_are_of_classes(self) -> IngestConfig:
        leading = self.source.targets()[0]
        if leading.kind == "number" and self.split.shots is not None:
            raise ValueError(f"split.shots are images of each class, and {leading.name} is a number: leave them out")
        return self

    def state(self, workspace: Workspace) -> str:
        """Fingerprint of what ingestion would find, by names, sizes and times: the source's files, what this machine
        can decode of them, and the labels that are corrected.

        Raises:
            HeadstartError: the source cannot be looked at.
        """
        from tasks.ingest.corrections import corrections_state
        from tasks.ingest.formats import extras

        return fingerprint(self.source.state(workspace), extras(), corrections_state(workspace))
