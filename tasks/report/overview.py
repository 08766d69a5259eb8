"""What a reader wants first: the verdict, what to act on, and what changed against the champion."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tasks.report.facts import JUDGED, Facts, rows, table

SHOWN = 12
"""Images of each kind."""


def verdict(facts: Facts) -> dict[str, Any]:
    """The gate's word, the headline figure on images that nothing was chosen on, and all findings."""
    name = f"{facts.dataset.report_on}/{facts.judged_by}"
    sources = (facts.dataset, facts.evaluation, facts.comparison, facts.inspection)
    return {
        "headline": (name, facts.evaluation.metrics[name]),
        "images": facts.dataset.counts[facts.dataset.report_on],
        "groups": facts.evaluation.groups.get(facts.dataset.report_on),
        "gain": facts.comparison.metrics.get(name) if facts.comparison else None,
        "findings": [line for source in sources if source for line in source.findings],
    }


def comparison(facts: Facts) -> dict[str, Any] | None:
    """The candidate against the champion on the same images."""
    found = facts.comparison
    if found is None:
        return None
    splits = sorted(found.images, key=lambda split: split != facts.dataset.report_on)
    return {
        "splits": [_split(facts, split) for split in splits],
        "renamed": [f"{old} → {new}" for old, new in found.renamed.items()],
        "further": list(_further(facts)),
    }


def _further(facts: Facts) -> Iterator[tuple[str, str, tuple[float, ...], int, float]]:
    """Of each split and further task: ``split/task``, the figure that it is judged by, that of both with the
    difference, images and p."""
    assert facts.comparison is not None
    for target in facts.dataset.further:
        for split in facts.splits:
            if (named := f"{split}/{target.name}") in facts.comparison.further:
                figure = JUDGED[target.kind]
                values = facts.comparison.metrics[f"{named}/{figure}"]
                yield named, figure, values, facts.comparison.further[named], facts.comparison.p_values[named]


def _split(facts: Facts, split: str) -> dict[str, Any]:
    assert facts.comparison is not None
    of = {
        name.partition("/")[2]: each
        for name, each in facts.comparison.metrics.items()
        if name.startswith(f"{split}/") and name.count("/") == 1
    }
    widest = max((abs(bound) for *_, low, high in of.values() for bound in (low, high) if bound == bound), default=0)
    return {
        "name": split, "figures": of, "most": max(widest, 1e-6), "slices": _slices(facts, split),
        "changes": _changes(facts, split),
    }  # fmt: skip


def _slices(facts: Facts, split: str) -> list[dict[str, Any]]:
    """Those in which the two differ, the most certain first."""
    assert facts.comparison is not None
    slices = table(facts.comparison.report, f"{split}_slices.csv")
    return [] if slices is None else rows(slices[slices["difference"] != 0].nsmallest(SHOWN, "p"))


def _changes(facts: Facts, split: str) -> dict[str, list[dict[str, Any]]]:
    assert facts.comparison is not None
    changed = table(facts.comparison.report, f"{split}_changes.csv")
    if changed is None:
        return {}
    manifest = facts.dataset.read_manifest().set_index("path")["hash"]
    return {
        kind: [
            row | {"picture": facts.picture(manifest[row["path"]])}
            for row in rows(changed[changed["change"] == kind], SHOWN)
        ]
        for kind in ("lost", "gained")
    }
