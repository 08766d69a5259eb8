"""What one stage hands to the next: small frozen records of paths, fingerprints and counts, never arrays.

Heavy things lie in the files that a record names. Their schemas:

========================  ==========================================================================
manifest (Parquet)        path (str, relative to ``data/``), label (str; list of str where an image may have
                          several; float64 where it is a number; null where it has none), split (str: train,
                          tune, val, test, pool, which is not learned from, or partial, which only further
                          tasks are learned from), domain and group (str or null), hash (str, MD5 of the file
                          as DVC computes it), size (int64, bytes), width and height (int32, pixels, upright),
                          label:NAME (as label, of each further task), dhash (int64 or null, difference hash).
                          In ``data/`` as CSV, without dhash
classes (CSV)             class (str), and a column of counts for each split
quarantine (CSV)          path, label, kind, reason
checks (CSV)              finding, policy, count, what, example
near_duplicates (CSV)     first, first_split, second, second_split, bits (that differ); in look_alikes, also
                          cosine (of the features) and confirmed (bool)
checks (JSON)             items, images, quarantined, findings, classes, imbalance, splits, domains, formats, sizes
curves (Parquet)          step (int64) and any of l2, k, images (int64, that a training has passed by then), and loss
                          and accuracy or average_precision of train, tune and val, such as val/accuracy (float64)
rates (Parquet)           epoch (int64, from 1), block (str), rate (float64, of the full learning rate)
held_out (Parquet)        path, probability (list of float32, of each class)
trials (Parquet)          trial (int64), method (str), settings (JSON), state (str), score (float64), epochs (int64),
                          started and ended (float64, seconds since the epoch)
steps (Parquet)           what `tasks.train.anytime.step.Step` has; times are float64, in seconds
stored (Parquet)          name (str, of an object), size (int64, bytes), time (int64, nanoseconds since the epoch)
predictions (Parquet)     path, label, predicted (str), probability (float32), hash, group (as in the manifest); numbers
                          with low and high (float64) in place of probability
mistakes (CSV)            path, hash, label, predicted, probability (of several labels an image, of wrong, the one that
                          is; numbers: low, high, error), and of each of the three nearest images learned from
                          neighbour_1, neighbour_1_hash, neighbour_1_label, neighbour_1_similarity...; several labels
                          are a JSON list
confusions (CSV)          true, predicted, images, share (of the true class), example_1, example_1_hash... of up to 3
near (CSV)                path, hash, neighbour, neighbour_hash, neighbour_split, similarity (cosine), bits (that differ
                          in perceptual hashes; -1 where there are none), chance (that an unrelated image is as near)
metrics (JSON)            ``{"test/f1_macro": {"value": 0.98, "low": 0.96, "high": 0.99}, ...}``, null where it is
                          undefined; also groups (that the interval is over), where images come in groups, and
                          classes (that the mean is over) of macro figures
========================  ==========================================================================
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from tasks.fingerprint import fingerprint
from tasks.leak import Leak
from tasks.limits import ALLOWED, Limits
from tasks.place import Place
from tasks.record import Record
from tasks.ruling import Ruling
from tasks.target import Target

if TYPE_CHECKING:
    import pandas as pd

Split = Literal["train", "tune", "val", "test", "pool", "partial"]
Alias = Literal["champion", "challenger"]

STORED = "stored.parquet"
"""Name of the file that notes the objects of a version."""


class Dataset(Record):
    """A version of a labelled image set.

    Attributes:
        version: DVC's MD5 of the ``data/`` folder, as in ``data.dvc``.
        manifest: one row per image (Parquet).
        report: folder with ``checks.json``, ``checks.csv``, ``checks.png``, ``classes.csv``, ``quarantine.csv`` (what
            was kept out, and why) and ``near_duplicates.csv``.
        images: DVC's content-addressed store. Reading from it, not from ``data/``, a run keeps its images even
            while another pipeline replaces ``data/``.
        targets: the tasks, the leading one first.
        counts: images per split.
        choose_on: the split that every choice is made on.
        report_on: the split that only the final figure is read from.
        limits: what each image was taken in under; whoever decodes them does so under these.
        findings: one line per thing worth knowing about the data.
    """

    source: str
    version: str
    manifest: Place
    report: Place
    images: Place
    targets: tuple[Target, ...]
    counts: dict[Split, int]
    choose_on: Split
    report_on: Split
    limits: Limits = ALLOWED
    quarantined: int
    findings: tuple[str, ...] = ()

    @property
    def target(self) -> Target:
        """The leading task."""
        return self.targets[0]

    @property
    def further(self) -> tuple[Target, ...]:
        """The tasks beside it."""
        return self.targets[1:]

    @property
    def classes(self) -> tuple[str, ...]:
        """Of the leading task, in the order of the model's outputs."""
        return self.target.classes

    @property
    def multi_label(self) -> bool:
        """Whether an image may have several of them."""
        return self.target.kind == "labels"

    def read_manifest(self) -> pd.DataFrame:
        """The manifest, in the order of ``path``."""
        import pandas as pd  # which those who only hand records on can do without

        return pd.read_parquet(self.manifest)

    def image(self, hash: str) -> Path:
        """The stored file of an image."""
        return self.images / hash[:2] / hash[2:]

    def is_complete(self) -> bool:
        """Whether, beside the record's own files, the store has every object of the version, unchanged in size and
        time: a damaged one must not be learned from under its old name."""
        import pandas as pd

        try:
            stored = pd.read_parquet(self.report.parent / STORED)
            return super().is_complete() and all(
                (there.st_size, there.st_mtime_ns) == (size, time)
                for name, size, time in stored.itertuples(index=False, name=None)
                for there in [os.stat(f"{self.images}/{name[:2]}/{name[2:]}")]
            )
        except FileNotFoundError:
            return False


class Preprocessed(Record):
    """How images become the backbone's input, and a picture of it.

    Attributes:
        size, fit, views, crop, interpolation: see `tasks.preprocess.recipe.Recipe`.
        augmented: how many augmented views of a training image are learned from, beside the plain one.
        preview: a sheet of images as the network sees them (PNG).
        mean, std: per channel over a sample of training images, in units of 1/255.
    """

    size: int
    fit: Literal["crop", "squash", "pad"]
    views: Literal["one", "mirrored", "ten"] = "one"
    crop: float = 1.0
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    augmented: int = 0
    preview: Place
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @property
    def geometry(self) -> dict[str, Any]:
        """What of a `tasks.preprocess.recipe.Recipe` the configuration settles."""
        return {key: getattr(self, key) for key in ("size", "fit", "views", "crop", "interpolation")}

    def seen_as(self, geometry: dict[str, Any]) -> Preprocessed:
        """The same images by another `geometry`, without augmented views."""
        name = fingerprint(self.fingerprint, geometry)
        return self.model_copy(update={"fingerprint": name, "augmented": 0, **geometry})

    @property
    def by_one_view(self) -> Preprocessed:
        """The same images and augmented views, each looked at once."""
        seen = self.seen_as(self.geometry | {"views": "one"}).model_copy(update={"augmented": self.augmented})
        return self if self.views == "one" else seen


class FeatureSet(Record):
    """A backbone's features of every image of a dataset.

    Attributes:
        store: folder of the feature space (see `tasks.extract.store`).
        weights: the backbone's weights as the configuration names them; ``digest`` is their SHA-256.
        variants: folders of the spaces of augmented views of the training images.
        width: features per image; of them, those of each layer, of all backbones: widths.
        compiled: whether they are of a compiled forward pass, which rounds otherwise (see `FeatureStore.compiled`).
        geometry: how the backbone looks at images (see `Preprocessed.geometry`).
        beside: what further backbones see, whose features follow; counts are of all. ``sets``: this one, and those.
        new, reused: images computed by this extraction, and found in the store.
        extraction: the section of the configuration that asked for it, by which a tuned backbone is looked at, too.
        look_alikes: folder with ``look_alikes.csv`` and ``look_alikes.png``; None where ingestion found none.
        confirmed, straddling: pairs of look-alikes that the features confirm, and those of them across splits.
    """

    store: Place
    variants: tuple[Place, ...] = ()
    backbone: str
    weights: str
    digest: str
    layers: tuple[str, ...]
    pool: Literal["avg", "flatten", "token"]
    width: int
    widths: tuple[int, ...] = ()
    compiled: bool | None = None
    geometry: dict[str, Any] = Field(default={})
    beside: tuple[FeatureSet, ...] = ()
    precision: str
    device: str
    new: int
    reused: int
    seconds: float
    extraction: dict[str, Any] = Field(default={})
    look_alikes: Place | None = None
    confirmed: int = 0
    straddling: int = 0

    @property
    def sets(self) -> tuple[FeatureSet, ...]:
        return self, *self.beside

    @property
    def spaces(self) -> list[Path]:
        return [folder for each in self.sets for folder in (each.store, *each.variants)]


class Candidate(Record):
    """A trained head, and the backbone where it was trained with it.

    Attributes:
        head: weights (safetensors) whose metadata says how to build the head; ``further``: those of further tasks, by
            their names.
        backbone: weights of the backbone, under the names that the pretrained ones have; None where they are those.
        curves: how training went (Parquet); rates: how fast each block of the backbone learned in each epoch (Parquet).
        trials: what a search tried (Parquet); mixed: what weights were averaged: mixed (which), share and kept.
        held_out: what images are given by heads of a cross-validation that had not learned from them or, where it is
            served on another domain, what validation images are given as images of their own (Parquet).
        chosen: what was chosen on ``choose_on``, for example ``{"l2": 0.001}``.
        score: accuracy, or average precision, on ``choose_on``, as evaluated and served; where the model has learned
            from these images, too, over the folds that the choice was made by; where it is served on another domain, of
            what ``held_out`` has.
        scores: by seed, where training was repeated; teachers: registered versions that it learned from.
        cross_validated: whether ``score`` is of a cross-validation over all images but the held-out ones.
    """

    method: str
    head: Place
    further: dict[str, Place] = Field(default={})
    backbone: Place | None = None
    curves: Place
    rates: Place | None = None
    trials: Place | None = None
    mixed: Place | None = None
    held_out: Place | None = None
    chosen: dict[str, float]
    score: float
    scores: dict[int, float] = Field(default={})
    cross_validated: bool = False
    teachers: tuple[str, ...] = ()

    def files(self) -> list[Path]:
        return [*super().files(), *self.further.values()]


class Evaluation(Record):
    """Figures of merit of a candidate, and where the tables and pictures lie.

    Attributes:
        report: folder with ``metrics.json``, per-class tables, predictions and figures; ``decisions.json`` (chosen_on,
            abstain, operating_point, costs: the thresholds that were chosen); and of each split, its name before each,
            ``reliability.csv`` (stage: before the temperature or served, low, high, count, confidence, accuracy,
            accuracy_low, accuracy_high), ``risk_coverage.csv`` (threshold, coverage, accuracy), ``slices.csv`` (slice,
            kind, images, accuracy, low, high, rest, difference, p, p_holm, note) and, where slices are named,
            ``slice_images.csv`` (path, hash, label, predicted, right, slice); pictures have the same names, those of
            named slices are ``slice_1.png`` and so on, that of the operating point is ``operating_point.png``; and, of
            all splits, ``suspects.csv`` (path, hash, split, label, suggested, why, score: how sure, from 0 to 1).
        metrics: ``split/name``, of further tasks ``split/task/name``, to (value, low, high): a 95% interval's bounds.
        groups: splits, and ``split/task``, to the number of groups that their intervals are over, where there are any.
        classes: macro figures, as in ``metrics``, to the number of classes that they are means over.
        leaks: splits to what their images with near neighbours in training do to the headline.
        suspects: labels that are likely wrong.
        findings: one line per thing worth knowing about the figures.
    """

    report: Place
    metrics: dict[str, tuple[float, float, float]]
    groups: dict[str, int] = Field(default={})
    classes: dict[str, int] = Field(default={})
    leaks: dict[str, Leak] = Field(default={})
    suspects: int = 0
    findings: tuple[str, ...] = ()


class Comparison(Record):
    """A candidate and a registered version on the same images, which neither has learned from.

    Attributes:
        report: folder with ``comparison.json`` and, for each split, ``changes.csv`` (path, label, before, after,
            change), ``slices.csv`` (slice, kind, ``class`` or as of an evaluation, images, champion, candidate,
            difference, low, high, p, p_holm) and a picture of what was gained and lost, each named after it.
        version: that the candidate was compared with.
        judged_on: the split that decides; None where the candidate has learned from all of its images.
        images, left_out: by split, how many were compared, and how many were not since one of the two knows them or,
            with one label an image, only one knows their class; near: of the latter, those that one of the two only
            knows nearly the same of.
        metrics: ``split/name``, of further tasks ``split/task/name``, to (ours, theirs, difference, low, high), the
            bounds of the difference's 95% interval.
        p_values: by split, and ``split/task``, of the difference of the shares of right answers, of average precision
            where an image may have several labels, or of mean errors.
        detectable: by split, the difference that four of five tests on so many images would have found; NaN where that
            is not known.
        gained, lost: by split, images that only we, or only they, have right, or tell more exactly.
        new, gone: classes that only we, or only they, know; renamed: their name to ours; new_tasks, gone_tasks: tasks.
        gone_of_tasks: of further tasks, classes that only they know.
        further: ``split/task`` to how many images were compared.
        findings: a line for each thing that has to be said beside the figures.
    """

    report: Place
    version: int
    judged_on: Split | None
    images: dict[str, int]
    left_out: dict[str, int]
    near: dict[str, int] = Field(default={})
    metrics: dict[str, tuple[float, float, float, float, float]]
    p_values: dict[str, float]
    detectable: dict[str, float]
    gained: dict[str, int]
    lost: dict[str, int]
    new: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()
    renamed: dict[str, str] = Field(default={})
    further: dict[str, int] = Field(default={})
    new_tasks: tuple[str, ...] = ()
    gone_tasks: tuple[str, ...] = ()
    gone_of_tasks: dict[str, tuple[str, ...]] = Field(default={})
    findings: tuple[str, ...] = ()


class Inspection(Record):
    """What a candidate looks at, and how it bears corruptions and attacks: a sample of ``report_on``, by its network.

    Attributes:
        report: folder with ``inspection.json`` and, as far as they were asked for: ``robustness.csv`` (corruption and
            severity, ``none`` and 0 for clean images; images, accuracy, with several labels an image f1_samples, low,
            high, and shift, the distance to the clean images as `tasks.evaluate.shift.two_samples.Shift.effect`) and
            its ``.png``; ``attacks.csv`` (radius, 0 for none, of 0 to 1; images and the same figure);
            ``explanations.csv`` (path, hash, label, predicted, explained, the class that the map speaks of,
            probability, right, picture, and picture_of_label, of wrong answers the map of the true class), the pictures
            (JPEG, 224 pixels) and ``explanations.png``, a sheet; ``faithfulness.csv`` (against, random or centre;
            measure, deletion, insertion or faithfulness, the one less the other; images, map, other, difference, low,
            high).
        metrics: ``split/robustness``, the mean over all corruptions, ``split/faithfulness``, how much heat maps are
            better than random ones, and ``split/attacked_4_255``, under attacks of 4/255, to (value, low, high).
        images: how many each of these stands on by its name without the split, and were ``explained``.
        findings: a line for each thing that has to be said beside the figures.
    """

    report: Place
    metrics: dict[str, tuple[float, float, float]]
    images: dict[str, int]
    findings: tuple[str, ...] = ()


class RegisteredModel(Record):
    """A version of a registered model.

    Attributes:
        version: of the registered model ``name``.
        alias: ``champion``, ``challenger``, or None where it has neither.
        verdict: what the gates decided, in words; rulings: what each gate said.
        pending: whether it waits for a person's approval.
        new: False when this candidate was registered before.
    """

    name: str
    version: int
    alias: Alias | None
    verdict: str
    rulings: tuple[Ruling, ...] = ()
    pending: bool = False
    new: bool


PAGE = "report.html"
"""Name of the page of a `Report`, here and among a run's artifacts."""


class Report(Record):
    """All that a run has found, on one page.

    Attributes:
        page: the file (HTML), which needs nothing else.
    """

    page: Place
