"""What can be the matter with an image, and what is done about it."""

from __future__ import annotations

from typing import Literal, NamedTuple

Action = Literal["fail", "quarantine", "warn"]
Unusable = Literal["fail", "quarantine"]
Telling = Literal["fail", "warn"]

UNUSABLE = {
    "bad_row": "rows of a table that say nothing usable",
    "unsafe_path": "names that lead out of their folder or root, links, devices",
    "missing": "files that a table names and nobody has, or that cannot be read",
    "hidden": "hidden files and the clutter of operating systems",
    "empty": "files of zero bytes",
    "too_large": "files or images beyond the limits (decompression bombs)",
    "not_an_image": "files that are no images",
    "truncated": "images that end too early",
    "undecodable": "images that cannot be decoded",
    "no_scale": "images of more than 8 bits whose brightness nobody can tell",
    "no_label": "images that stand in no class folder",
    "no_split": "images without a split in a source that gives splits",
}
"""Kinds of findings whose images cannot be learned from: kept out, or a reason to stop."""

ODD = {
    "wrong_extension": "files whose name promises another format",
    "rotated": "images that EXIF turns upright",
    "alpha": "images with transparency, laid over white",
    "palette": "palette images",
    "cmyk": "images in CMYK, YCbCr, Lab or HSV",
    "deep": "images of more than 8 bits per channel, scaled to 8",
    "one_colour": "images of a single colour",
    "animated": "images of several frames, of which the first is taken",
}
"""Kinds of findings whose images are right once decoded; see `tasks.ingest.decode`."""

RELATIONS = {
    "ungrouped": "images without a group in a source that gives groups",
    "respelt_group": "images whose group is written in another way elsewhere: taken for one",
    "parted_group": "images whose group is in several splits",
    "conflicting_label": "copies of one image under different labels",
    "straddling": "copies of one image in different splits",
    "duplicate": "exact copies of another image of the same split",
    "near_straddling": "images that look like one of another split",
    "near_duplicate": "images that look like another one of the same split",
}
"""Kinds of findings between images."""

CLASSES = {
    "empty_class": "classes without images",
    "absent_class": "classes without images in the split that choices are made on, or in the one reported on",
    "similar_classes": "class names that differ only in case, spaces or the form of their Unicode, or as 1 and 1.0",
}
"""Kinds of findings about classes, each told of its name."""

TASKS = {
    "deeper_folders": "trees with folders below those of classes",
    "numbers_as_classes": "tasks whose classes look like values of a number",
    "untold_task": "tasks without labels in the split that is reported on",
}
"""Kinds of findings about tasks, each told of its name."""

NAMED = CLASSES | TASKS

CORRECTED = {
    "corrected": "labels corrected by data.labels.csv",
    "left_out": "images that data.labels.csv leaves out",
    "outdated_correction": "images whose label is not the one that data.labels.csv corrects: left as they are",
}
"""Kinds of findings that people have decided on; see `tasks.ingest.corrections`."""

KINDS = UNUSABLE | ODD | RELATIONS | NAMED | CORRECTED


class Problem(NamedTuple):
    """Why an image, file or row is kept out: a key of `UNUSABLE`, and the reason in words."""

    kind: str
    reason: str


EMPTY_FOLDER = Problem("folder", "an empty folder")
"""What a source says of a folder without files. No finding, and nothing that is counted: but it may be a class's."""
