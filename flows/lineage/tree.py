"""Where a model comes from: what it was made of, by which code, on which machine, and who decided what about it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from rich.tree import Tree

from flows.console import WIDEST, out, plain_console
from flows.lineage.origin import CHANGES, ENVIRONMENT, LOCK, read_lock
from flows.lineage.subject import Subject, find_subject
from tasks.register.gate import VERDICT
from tasks.register.ledger import told
from tasks.register.moves import history
from tasks.register.registry import aliases_of, get_model, rulings_of
from tasks.register.store import look_into
from tasks.register.tags import CANDIDATE, DATA, HELD_OUT, TEACHERS
from tasks.workspace import Workspace

LIBRARIES = ("torch", "torchvision", "numpy", "scikit-learn", "pillow", "lightning", "mlflow", "prefect", "dvc")
"""Those that a figure may depend on; the lock has them all."""

Facts = dict[str, Any]


def facts_of(workspace: Workspace, which: str) -> Facts:
    """All that is known of where a version or a run comes from, as JSON-like values, by what it tells of.

    Raises:
        RegistryError: there is no such version or run.
    """
    subject = find_subject(look_into(workspace), which)
    facts = {
        "model": _model(subject), "run": _run(subject), "candidate": _candidate(subject),
        "features": _features(subject), "dataset": _dataset(subject), "code": _code(subject),
        "environment": _environment(subject),
        "evaluation": _evaluation(subject), "gates": _gates(subject), "moves": _moves(subject),
    }  # fmt: skip
    return {about: _known(told) if isinstance(told, dict) else told for about, told in facts.items()}


def show(facts: Facts) -> None:
    """Print them as a tree; in a file each fact is a line."""
    console = out if out.is_terminal else plain_console(file=out.file, width=WIDEST)
    console.print(tree(facts))


def tree(facts: Facts) -> Tree:
    """Facts as a tree: each thing below what was made of it."""
    model, run = facts["model"], facts["run"]
    title = f"{model['name']} version {model['version']}" if model else f"run {run.get('id', '')[:8]}"
    root = Tree(title)
    _leaves(root, model, ("aliases", "registered", "held_out", "fingerprint"))
    candidate = _branch(root, "candidate", facts["candidate"])
    features = _branch(candidate, "features", facts["features"])
    _branch(features, "dataset", facts["dataset"])
    made = _branch(root, "run", run)
    _branch(made, "code", facts["code"])
    _branch(made, "environment", facts["environment"])
    _branch(root, "evaluation", {name: _figure(each) for name, each in facts["evaluation"].items()})
    _branch(root, "gates", facts["gates"])
    _branch(root, "moves", {str(index): move for index, move in enumerate(facts["moves"], 1)})
    return root


def _model(subject: Subject) -> Facts:
    if (version := subject.version) is None:
        return {}
    aliases = aliases_of(get_model(subject.client, version.name)).get(int(version.version), [])
    return {
        "name": version.name, "version": int(version.version), "aliases": ", ".join(aliases),
        "registered": _time(version.creation_timestamp), "fingerprint": version.tags.get(CANDIDATE),
        "held_out": version.tags.get(HELD_OUT), "run": version.run_id,
    }  # fmt: skip


def _run(subject: Subject) -> Facts:
    if (run := subject.run) is None:
        return {}
    return {
        "id": run.info.run_id, "name": run.info.run_name, "user": subject.tags.get("mlflow.user"),
        "status": run.info.status, "started": _time(run.info.start_time), "ended": _time(run.info.end_time),
        "deleted": True if run.info.lifecycle_stage == "deleted" else None,
    }  # fmt: skip


def _candidate(subject: Subject) -> Facts:
    version = subject.version.tags if subject.version else {}
    chosen = {name[7:]: value for name, value in subject.metrics.items() if name.startswith("chosen/")}
    return {
        "method": version.get("method") or subject.config.get("train", {}).get("method"),
        "fingerprint": subject.tags.get("candidate") or version.get(CANDIDATE),
        "teachers": version.get(TEACHERS) or subject.tags.get(TEACHERS),
        "settings": subject.config.get("train"), "chosen": chosen or None,
    }  # fmt: skip


def _features(subject: Subject) -> Facts:
    tags = subject.tags
    names = ("backbone", "weights", "digest", "layer", "precision", "device", "tuned.digest")
    facts: Facts = {name: tags.get(f"backbone.{name}") for name in names}
    if not facts["backbone"] and subject.version:
        facts["backbone"] = subject.version.tags.get("backbone")
    return facts | {"preprocessing": subject.config.get("preprocess")}


def _dataset(subject: Subject) -> Facts:
    version = subject.tags.get("data.version") or (subject.version.tags.get(DATA) if subject.version else None)
    splits = {name[7:]: int(value) for name, value in subject.metrics.items() if name.startswith("images/")}
    quarantined = splits.pop("quarantined", None)
    return {
        "version": version, "source": subject.tags.get("data.source"), "images": sum(splits.values()) or None,
        "splits": splits or None, "quarantined": quarantined,
        "fetch": f"headstart data checkout {version.removesuffix('.dir')}" if version else None,
    }  # fmt: skip


def _code(subject: Subject) -> Facts:
    kept = _kept(subject).get("code", {})
    commit = kept.get("commit") or subject.tags.get("mlflow.source.git.commit")
    changes = CHANGES if kept.get("dirty") and not kept.get("changes") else kept.get("changes")
    return {"version": subject.tags.get("code.version")} | kept | {"commit": commit, "changes": changes}


def _environment(subject: Subject) -> Facts:
    kept = {key: value for key, value in _kept(subject).items() if key != "code"}
    installed = read_lock(subject.text(LOCK) or "")
    machine = {key[8:]: value for key, value in subject.tags.items() if key.startswith("machine.")}
    libraries = {name: installed[name] for name in LIBRARIES if name in installed}
    device = subject.tags.get("backbone.device")
    return kept | machine | {"device": device, "libraries": libraries or None, "lock": LOCK if installed else None}


def _evaluation(subject: Subject) -> dict[str, Facts]:
    """Figures with an interval."""
    metrics = subject.metrics
    return {
        name: {"value": value, "low": metrics[f"{name}_low"], "high": metrics[f"{name}_high"]}
        for name, value in sorted(metrics.items())
        if f"{name}_low" in metrics
    }


def _gates(subject: Subject) -> Facts:
    if subject.version is None:
        return {}
    said = {ruling.gate: f"{ruling.outcome}: {ruling.reason}" for ruling in rulings_of(subject.version)}
    return {"verdict": subject.version.tags.get(VERDICT)} | said


def _moves(subject: Subject) -> list[str]:
    """Those that made the version champion, and those that ended it."""
    if subject.version is None:
        return []
    number = int(subject.version.version)
    moves = history(subject.client, subject.version.name)
    return [told(move) for move in moves if number in (move.version, move.previous)]


def _kept(subject: Subject) -> Facts:
    return dict(json.loads(subject.text(ENVIRONMENT) or "{}"))


def _known(facts: Facts) -> Facts:
    return {key: value for key, value in facts.items() if value not in (None, "", {}, [])}


def _time(milliseconds: int | None) -> str | None:
    return None if milliseconds is None else datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat()


def _figure(each: Mapping[str, float]) -> str:
    value, low, high = (round(each[name], 4) + 0.0 for name in ("value", "low", "high"))  # no -0.0000
    return f"{value:.4f} [{low:.4f}, {high:.4f}]"


def _branch(above: Tree, title: str, facts: Facts) -> Tree:
    branch = above.add(title if facts else f"{title}: not kept")
    _leaves(branch, facts, facts)
    return branch


def _leaves(branch: Tree, facts: Facts, names: Any) -> None:
    for name in names:
        if name not in facts:
            continue
        value = facts[name]
        if isinstance(value, dict):
            value = ", ".join(
                f"{key} {json.dumps(each) if isinstance(each, (dict, list)) else each}" for key, each in value.items()
            )
        branch.add(f"{name}: {value}")
