"""What was found, for people and for machines: ``checks.json``, ``checks.csv``, ``checks.png``, the classes and
the quarantine."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any, get_args

from tasks.ingest.classes import count_classes
from tasks.ingest.config import ChecksConfig
from tasks.ingest.contradictions import COLUMNS, CONTRADICTIONS, FOUND
from tasks.ingest.journal import USED, Journal
from tasks.ingest.kinds import KINDS, NAMED
from tasks.ingest.relabel import label_text
from tasks.ingest.told import values_of
from tasks.records import Split
from tasks.target import Target

EXAMPLES = 5
SHOWN_CLASSES = 40
LONGEST = 28
"""Signs of a class name on the sheet."""
BINS = 40
"""Of a histogram of numbers."""


def write_report(journal: Journal, checks: ChecksConfig, folder: Path, targets: tuple[Target, ...]) -> None:
    """Write the report's files.

    In ``checks.json``, ``items`` is everything that the source held; it is ``images`` + ``quarantined``, always.
    """
    leading = targets[0]
    report = _summary(journal, checks, targets)
    (folder / "checks.json").write_text(json.dumps(report, indent=2))
    _write_csv(
        folder / "checks.csv", ["finding", "policy", "count", "what", "example"],
        [
            (kind, found["policy"], found["count"], KINDS[kind], _example(kind, found["examples"]))
            for kind, found in report["findings"].items()
        ],
    )  # fmt: skip
    splits = list(report["splits"])
    _write_csv(
        folder / "classes.csv", ["class", *splits],
        [
            (name, *(counts.get(split, 0) for split in splits))
            for name, counts in (count_classes(journal, leading) if leading.kind != "number" else {}).items()
        ],
    )  # fmt: skip
    _write_csv(
        folder / "quarantine.csv", ["path", "label", "kind", "reason"],
        journal.sql.execute("SELECT path, label, kind, reason FROM rows WHERE kind IS NOT NULL ORDER BY path, id"),
    )  # fmt: skip
    _write_csv(
        folder / "near_duplicates.csv", ["first", "first_split", "second", "second_split", "bits"],
        journal.sql.execute(
            """SELECT a.path, a.split, b.path, b.split, bits FROM near JOIN rows a ON a.id = first
            JOIN rows b ON b.id = second WHERE a.kind IS NULL AND b.kind IS NULL ORDER BY a.path, b.path"""
        ),
    )  # fmt: skip
    _write_csv(
        folder / CONTRADICTIONS, COLUMNS,
        (
            (*rest, label_text(json.loads(label)) if leading.kind == "labels" else label)
            for *rest, label in journal.sql.execute(FOUND)
        ),
    )  # fmt: skip
    _draw(report, journal, leading, folder / "checks.png")


def _summary(journal: Journal, checks: ChecksConfig, targets: tuple[Target, ...]) -> dict[str, Any]:
    sql = journal.sql
    quarantined = journal.counts("SELECT kind, COUNT(*) FROM rows WHERE kind IS NOT NULL GROUP BY kind")
    noted = journal.counts("SELECT kind, COUNT(*) FROM noted GROUP BY kind")
    findings: dict[str, dict[str, Any]] = {}
    for kind in KINDS:
        if kind in NAMED:
            remarks = sql.execute("SELECT about, reason FROM remarks WHERE kind = ? ORDER BY about", (kind,)).fetchall()
            if remarks:
                examples = [f"{about}: {reason}" for about, reason in remarks[:EXAMPLES]]
                findings[kind] = {"policy": "warn", "count": len(remarks), "examples": examples}
                findings[kind]["about"] = [about for about, _ in remarks]
            continue
        if not (count := quarantined.get(kind, 0) + noted.get(kind, 0)):
            continue
        found = sql.execute(
            """SELECT path || ': ' || reason FROM (
                SELECT path, reason FROM rows WHERE kind = ?1
                UNION ALL SELECT path, noted.reason FROM noted JOIN rows USING (id) WHERE noted.kind = ?1
            ) ORDER BY path LIMIT ?2""",
            (kind, EXAMPLES),
        )
        policy = "quarantine" if kind in quarantined else getattr(checks, kind, "warn")
        findings[kind] = {"policy": policy, "count": count, "examples": [text for (text,) in found]}
    classes = {} if targets[0].kind == "number" else journal.counts(
        f"SELECT label, COUNT(*) FROM rows WHERE {USED} AND label IS NOT NULL GROUP BY label ORDER BY 2 DESC, 1"
    )  # fmt: skip
    sizes = sql.execute(
        f"""SELECT MIN(width), MIN(height), MAX(width), MAX(height), AVG(width), AVG(height), SUM(size)
        FROM rows JOIN contents USING (hash) WHERE rows.{USED.removeprefix("rows.")}"""
    ).fetchone()
    splits = journal.counts(f"SELECT split, COUNT(*) FROM rows WHERE {USED} GROUP BY split")
    keys = ("min_width", "min_height", "max_width", "max_height", "mean_width", "mean_height", "bytes")
    return {
        "items": journal.one("SELECT COUNT(*) FROM rows"),
        "images": journal.one(f"SELECT COUNT(*) FROM rows WHERE {USED}"),
        "quarantined": sum(quarantined.values()),
        "findings": findings,
        "tasks": {target.name: _task(journal, target) for target in targets},
        "classes": classes,
        "imbalance": max(classes.values()) / min(classes.values()) if classes else None,
        "splits": {split: splits[split] for split in get_args(Split) if split in splits},
        "domains": journal.counts(
            f"SELECT domain, COUNT(*) FROM rows WHERE {USED} AND domain IS NOT NULL GROUP BY domain ORDER BY domain"
        ),
        "formats": journal.counts(
            "SELECT format, COUNT(*) FROM rows JOIN contents USING (hash) WHERE rows.kind IS NULL GROUP BY format"
        ),
        "sizes": dict(zip(keys, sizes, strict=True)),
    }


def _task(journal: Journal, target: Target) -> dict[str, Any]:
    """What there is of a task: labelled images by split, and images of each class, or what numbers there are."""
    value, table, known = values_of(target)
    facts = {"kind": target.kind, "unit": target.unit, "images": target.images}
    if target.kind != "number":
        counts = count_classes(journal, target)
        return facts | {"classes": {name: sum(by_split.values()) for name, by_split in counts.items()}}
    found = journal.sql.execute(
        f"""SELECT MIN({value}), AVG({value}), MAX({value}), COUNT(DISTINCT {value})
        FROM {table} WHERE {USED} AND {known}"""
    ).fetchone()
    return facts | dict(zip(("min", "mean", "max", "values"), found, strict=True))


def _example(kind: str, examples: list[str]) -> str:
    """One image is like the other, but each class has a name of its own."""
    return "; ".join(examples if kind in NAMED else examples[:1])


def _write_csv(path: Path, head: list[str], rows: Any) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(head)
        writer.writerows(rows)


def _draw(report: dict[str, Any], journal: Journal, leading: Target, path: Path) -> None:
    """Classes, or numbers, by split, findings, and image sizes, on one sheet."""
    from matplotlib.figure import Figure

    from tasks.lettering import short

    names = [short(name, LONGEST) for name in list(report["classes"])[:SHOWN_CLASSES]]
    figure = Figure(figsize=(14, 5), layout="constrained")
    by_class, by_finding, by_size = figure.subplots(1, 3)
    if leading.kind == "number":
        _draw_numbers(report, journal, leading, by_class)
    else:
        _draw_classes(report, journal, by_class, names)
    found = {kind: entry["count"] for kind, entry in report["findings"].items()}
    kept_out = [entry["policy"] == "quarantine" for entry in report["findings"].values()]
    by_finding.barh(list(found), list(found.values()), color=["#c44e52" if out else "#dd8452" for out in kept_out])
    by_finding.invert_yaxis()
    by_finding.bar_label(by_finding.containers[0], fmt="{:,.0f}", padding=3) if found else None
    by_finding.margins(x=0.15)
    by_finding.set_title(f"findings (red: kept out, {report['quarantined']:,} of {report['items']:,})")
    widths = journal.sql.execute(
        """SELECT width, height, COUNT(*) FROM rows JOIN contents USING (hash) WHERE rows.kind IS NULL
        GROUP BY width, height ORDER BY 3 DESC LIMIT 5000"""
    ).fetchall()
    across, up, count = zip(*widths, strict=True) if widths else ((), (), ())
    largest = max(count, default=1)
    by_size.scatter(across, up, s=[8 + 120 * entry / largest for entry in count], alpha=0.5)
    by_size.set(title="image sizes", xlabel="width in pixels", ylabel="height in pixels")
    figure.savefig(path, dpi=110)


def _draw_classes(report: dict[str, Any], journal: Journal, axes: Any, names: list[str]) -> None:
    shown = list(report["classes"])[:SHOWN_CLASSES]
    places = range(len(shown))
    left = dict.fromkeys(shown, 0)
    for split in get_args(Split):
        counts = journal.counts(f"SELECT label, COUNT(*) FROM rows WHERE {USED} AND split = ? GROUP BY label", split)
        if split in report["splits"]:
            axes.barh(places, [counts.get(name, 0) for name in shown], left=list(left.values()), label=split)
        left = {name: left[name] + counts.get(name, 0) for name in shown}
    axes.set_yticks(places, names)
    axes.invert_yaxis()
    more = f", {SHOWN_CLASSES} of {len(report['classes'])} shown" if len(report["classes"]) > SHOWN_CLASSES else ""
    ratio = f", largest : smallest {report['imbalance']:.1f}" if report["imbalance"] else ""
    axes.set_title(f"images per class{ratio}{more}")
    axes.legend() if shown else None


def _draw_numbers(report: dict[str, Any], journal: Journal, leading: Target, axes: Any) -> None:
    from tasks.lettering import literal

    value, table, known = values_of(leading)
    rows = f"SELECT {value} FROM {table} WHERE {USED} AND {known} AND split = ?"
    numbers = {split: [number for (number,) in journal.sql.execute(rows, (split,))] for split in report["splits"]}
    numbers = {split: found for split, found in numbers.items() if found}
    axes.hist(list(numbers.values()), bins=BINS, stacked=True, label=list(numbers))
    axes.set(title="images by their number", xlabel=literal(f"{leading.name} {leading.unit and f'({leading.unit})'}"))
    axes.legend()
