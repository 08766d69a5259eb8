"""The door of the ingest stage."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as parquet

from tasks.errors import ConfigurationError, DataError
from tasks.fingerprint import RunningFingerprint, code_version, fingerprint
from tasks.ingest import relations
from tasks.ingest.checkout import DamagedObject, check_out
from tasks.ingest.classes import UNLABELLED, check_learnable, note_classes, what_is_kept_out
from tasks.ingest.config import IngestConfig, SplitConfig
from tasks.ingest.corrections import Correction, Key, correct_labels, read_corrections
from tasks.ingest.grouping import group_images, join_spellings
from tasks.ingest.intake import take_in
from tasks.ingest.journal import USED, DamagedJournal, Journal, scratch_folder
from tasks.ingest.kinds import KINDS, NAMED
from tasks.ingest.manifest import BATCH, MANIFEST, TABLE, write_manifest
from tasks.ingest.naming import is_split_list, splits_without_classes
from tasks.ingest.objects import keep_file, object_path, tidy
from tasks.ingest.pointer import claim
from tasks.ingest.report import write_report
from tasks.ingest.repository import object_store
from tasks.ingest.splits import assign_splits, keep_given
from tasks.ingest.told import TOLD
from tasks.ingest.versioning import Entry, write_version
from tasks.records import STORED, Dataset, Split
from tasks.target import Target
from tasks.wording import shorten
from tasks.workspace import Workspace


def ingest_images(config: IngestConfig, workspace: Workspace, into_data: bool = True) -> Dataset:
    """Read a source, keep out what cannot be learned from, split, and add a version of the dataset.

    Args:
        into_data: False leaves ``data/`` and ``data.dvc`` alone; the version is in the store only.

    Raises:
        DataError: the source is missing, empty, corrupt or has one class only, or a finding's policy is ``fail``.
        ConfigurationError: the configuration asks for what the source does not have, or ``data.dvc`` is the user's.
    """
    if into_data:
        claim(workspace)
    try:
        return _ingested(config, workspace, into_data)
    except (DamagedJournal, DamagedObject):  # out of the way now
        return _ingested(config, workspace, into_data)


def _ingested(config: IngestConfig, workspace: Workspace, into_data: bool) -> Dataset:
    store = object_store(workspace)
    tidy(store)
    targets, numbers = config.source.targets(), config.source.tells_numbers
    limits = config.limits.of_an_image
    with (
        scratch_folder(workspace.cache) as scratch,
        Journal.open(workspace.cache / "ingest.db", scratch, limits) as journal,
    ):
        items = config.source.items(workspace, config.limits.bytes)
        take_in(items, config.source.total(workspace), journal, store, config.limits, targets)
        choose_on, report_on, given = _settle(journal, config, read_corrections(workspace))
        _check_labels(journal, config, workspace)
        needed: tuple[Split, ...] = ("train", choose_on, report_on)
        targets = check_learnable(journal, needed, targets, numbers, given)
        note_classes(journal, config.checks, needed[1:], targets, numbers)
        text, table = scratch / MANIFEST, scratch / TABLE
        _write_manifest(journal, targets, text, table)
        entry = Entry(MANIFEST, keep_file(text, store), text.stat().st_size)
        version = write_version(_entries(journal, entry), store)
        final = workspace.cache / "datasets" / version.name / _findings_fingerprint(journal, config)
        if not final.exists():
            _keep_report(journal, config, targets, table, final)
        _write_stored(journal, (entry.hash, version.name), store, scratch / STORED)
        os.replace(scratch / STORED, final.parent / STORED)
        report = json.loads((final / "checks.json").read_text())
        if into_data:
            journal.sql.execute("CREATE INDEX work.by_path ON rows (path)")
            find = f"SELECT hash FROM rows WHERE path = ? AND {USED}"
            check_out(
                version, _entries(journal, entry), lambda path: entry.hash if path == MANIFEST else
                journal.one(find, path), workspace, store,
            )  # fmt: skip
    return Dataset(
        fingerprint=_fingerprint(version.name, choose_on, report_on, config, targets),
        source=str(config.source),
        version=version.name,
        manifest=final / TABLE,
        report=final,
        images=store,
        targets=targets,
        counts=cast(dict[Split, int], report["splits"]),
        choose_on=choose_on,
        report_on=report_on,
        limits=limits,
        quarantined=report["quarantined"],
        findings=_findings(report),
    )


def _fingerprint(
    version: str, choose_on: Split, report_on: Split, config: IngestConfig, targets: tuple[Target, ...]
) -> str:
    """Of all that learning from the dataset goes by: its version, units, and what its splits are for."""
    units = {target.name: target.unit for target in targets if target.unit}
    return fingerprint(version, choose_on, report_on, config.checks.near_bits, *([units] if units else []))


def _keep_report(journal: Journal, config: IngestConfig, targets: tuple[Target, ...], table: Path, final: Path) -> None:
    """Put the report and the manifest into a folder that appears whole or not at all."""
    final.parent.mkdir(parents=True, exist_ok=True)
    folder = table.parent / "report"
    folder.mkdir()
    write_report(journal, config.checks, folder, targets)
    table.rename(folder / TABLE)
    try:
        folder.rename(final)
    except OSError:
        if not final.is_dir():  # else another run was faster, with the same content
            raise


def _settle(
    journal: Journal, config: IngestConfig, corrections: Mapping[Key, Correction] | None = None
) -> tuple[Split, Split, bool]:
    """Labels, relations between images, and splits, in the order in which they depend on each other.

    Returns:
        The split to make choices on, the one to report on, and whether the splits are the source's own.
    """
    leading, *further = config.source.targets()
    relations.place_by_folders(journal, leading.kind == "labels")
    correct_labels(journal, corrections or {}, leading.kind)
    if not journal.one(f"SELECT COUNT(*) FROM rows WHERE {USED}"):
        _refuse_empty(journal, config)
    group_images(journal, config.split.group, config.checks.near_bits, leading.kind)
    join_spellings(journal, config.checks)
    given = keep_given(journal, config.split)
    if not given:
        _check_domains(journal, config.split)
    relations.keep_paths_apart(journal, config.checks)
    relations.check_usable(journal, config.checks)
    relations.note_oddities(journal, config.checks)
    relations.note_ungrouped(journal, config.checks)
    relations.settle_copies(journal, config.checks, further)
    choose_on, report_on = assign_splits(journal, config.split, given, leading.kind)
    relations.note_parted_groups(journal, config.checks)
    relations.settle_look_alikes(journal, config.checks)
    return choose_on, report_on, given


def _check_labels(journal: Journal, config: IngestConfig, workspace: Workspace) -> None:
    """Whether there is a label where they were looked for.

    Raises:
        DataError: there is none, and the source tells what there is in its place.
    """
    if not journal.one(f"SELECT COUNT(*) FROM rows WHERE {TOLD}") and (told := config.source.about_labels(workspace)):
        raise DataError(f"{UNLABELLED}: {told}")


def _check_domains(journal: Journal, config: SplitConfig) -> None:
    """Whether domains are no splits, whose images would be learned from wherever they are cut anew.

    Raises:
        ConfigurationError: they are called so, and nothing says how images are to be split.
    """
    domains = set(journal.counts(f"SELECT domain, COUNT(*) FROM rows WHERE {TOLD} GROUP BY 1")) - {None}
    splits = splits_without_classes(domains)
    if not is_split_list(splits) or config.by != "auto" or config.folds is not None or config.target:
        return
    last = "test" if "test" in splits.values() else "val"
    held_out = ", ".join(sorted(name for name, split in splits.items() if split == last))
    raise ConfigurationError(
        f"the domains {shorten(sorted(splits))} are called as splits are, but no image has a split: images of "
        f"{held_out} would be learned from, too. Give the splits in one source (a folder or archive with train/ and "
        f"test/ in it, a table with a column split), or write ingest.split: {{target: [{held_out}], unlabelled: 0}} to "
        "hold these domains out, or ingest.split.by: hash to cut all of them anew"
    )


def _refuse_empty(journal: Journal, config: IngestConfig) -> None:
    told = what_is_kept_out(journal)
    if not journal.one("SELECT COUNT(*) FROM rows"):
        raise DataError(f"{config.source} is empty: no {config.source.expects}")
    raise DataError(f"{config.source} holds no {config.source.expects}: {told}")


def _write_manifest(journal: Journal, targets: tuple[Target, ...], text: Path, table: Path) -> None:
    rows = journal.sql.execute(
        """SELECT path, label, split, domain, "group", hash, size, width, height, dhash, further
        FROM rows JOIN contents USING (hash) WHERE rows.kind IS NULL ORDER BY path"""
    )
    write_manifest(rows, targets, text, table)


def _entries(journal: Journal, manifest: Entry) -> Iterator[Entry]:
    """All files of the version in the order of their paths."""
    rows = journal.sql.execute(
        "SELECT path, hash, size FROM rows JOIN contents USING (hash) WHERE rows.kind IS NULL "
        "UNION ALL SELECT ?, ?, ? ORDER BY 1",
        manifest,
    )
    return (Entry(*row) for row in rows)


def _write_stored(journal: Journal, others: Iterable[str], store: Path, path: Path) -> None:
    """Note which size and time the objects of a version have, now that they are known to be whole."""
    schema = pa.schema([("name", pa.string()), ("size", pa.int64()), ("time", pa.int64())])
    rows = journal.sql.execute(
        "SELECT DISTINCT hash, size, stored FROM rows JOIN contents USING (hash) WHERE rows.kind IS NULL"
    )
    with parquet.ParquetWriter(path, schema) as writer:
        for status, name in ((object_path(store, name).stat(), name) for name in others):
            writer.write_table(pa.table([[name], [status.st_size], [status.st_mtime_ns]], schema=schema))
        while block := rows.fetchmany(BATCH):
            columns: list[Any] = list(map(list, zip(*block, strict=True)))
            writer.write_table(pa.table(columns, schema=schema))


def _findings_fingerprint(journal: Journal, config: IngestConfig) -> str:
    """Sources of the same images may hold different other things."""
    running = RunningFingerprint(code_version(Path(__file__).parent), config.model_dump(mode="json"))
    for row in journal.sql.execute(
        "SELECT path, label, kind, reason FROM rows WHERE kind IS NOT NULL ORDER BY path, id"
    ):
        running.add(*row)
    for row in journal.sql.execute(
        "SELECT noted.kind, path, noted.reason FROM noted JOIN rows USING (id) ORDER BY 1, 2"
    ):
        running.add(*row)
    for row in journal.sql.execute("SELECT kind, about, reason FROM remarks ORDER BY 1, 2"):
        running.add(*row)
    return running.value


def _findings(report: dict[str, Any]) -> tuple[str, ...]:
    lines = []
    for kind, found in report["findings"].items():
        # Of classes, their names are what one wants to know.
        more = f": {shorten(found['about'])}" if kind in NAMED else ""
        more = ": kept out" if found["policy"] == "quarantine" else more
        lines.append(f"{found['count']:,} {KINDS[kind]}{more}")
    return tuple(lines)
