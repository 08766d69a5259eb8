"""The gate: whether a version becomes champion by itself, and what becomes of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from tasks.register.approval import APPROVAL, PENDING, decision_on
from tasks.register.card import with_verdict
from tasks.register.client import Version
from tasks.register.gating import Standing
from tasks.register.moves import GATE, Move, history, move_to
from tasks.register.registry import CANDIDATE, CHALLENGER, all_versions, get_model, rulings_of
from tasks.register.rulings import rule, with_outcome
from tasks.register.turns import Turn
from tasks.ruling import Outcome, Ruling, worst

VERDICT, PROMOTE = "verdict", "promote"
"""Tags of a version: what was decided, and whether the gate may do more than decide (``register.promote``)."""

WAITS = "waits, since register.promote is never"


def decide(mine: Turn) -> None:
    """Judge the versions that have no verdict yet, the oldest first: a new one, and those whose run was ended before.

    What passes becomes champion, unless its configuration has it wait; what needs approval is the challenger until a
    person decides; what is rejected gets no alias."""
    versions = all_versions(mine.client, mine.name)
    for number, version in versions.items():
        if CANDIDATE in version.tags and VERDICT not in version.tags:
            verdict = _decided(mine, number, versions)
            mine.client.set_model_version_tag(mine.name, str(number), VERDICT, verdict)


def _decided(mine: Turn, number: int, versions: Mapping[int, Version]) -> str:
    version, moves = versions[number], history(mine.client, mine.name)
    # A run may have been ended after it decided; what persons have made of that since is not touched.
    if reigned := next((move for move in moves if move.version == number), None):
        return reigned.why if reigned.who == GATE else f"promoted by {reigned.who}"
    if APPROVAL in version.tags:
        if decision_on(version, moves) is None:
            _offer(mine, number)
        return _said_of(version)
    outcome, verdict, rulings = judge(version, versions, moves)
    if outcome == "pass" and version.tags.get(PROMOTE) == "never":
        outcome, verdict = "needs approval", f"{verdict}; {WAITS}"
    mine.check()
    _write_down(mine, version, rulings, verdict)
    match outcome:
        case "pass":
            move_to(mine, "promote", number, verdict, GATE)
        case "needs approval":
            mine.client.set_model_version_tag(mine.name, str(number), APPROVAL, PENDING)
            _offer(mine, number)
    return verdict


def _offer(mine: Turn, number: int) -> None:
    """Make a version that waits the challenger, unless a newer one is."""
    if number > int(get_model(mine.client, mine.name).aliases.get(CHALLENGER, 0)):
        mine.client.set_registered_model_alias(mine.name, CHALLENGER, str(number))


def _said_of(version: Version) -> str:
    """The verdict by which a version was left waiting, as its gates' words tell it."""
    rulings = rulings_of(version)
    outcome = worst(ruling.outcome for ruling in rulings)
    verdict = _in_words(outcome, rulings)
    return f"{verdict}; {WAITS}" if outcome == "pass" else verdict


def judge(
    version: Version, versions: Mapping[int, Version], moves: Sequence[Move]
) -> tuple[Outcome, str, dict[str, Ruling]]:
    """What becomes of a version, why, and what each gate says, by its tag: the worst word of all counts.

    Args:
        versions: all of the model, by number.
        moves: of the alias, the last one where it is now.
    """
    rulings = rule(Standing(version, versions, moves))
    outcome = worst(ruling.outcome for ruling in rulings.values())
    return outcome, _in_words(outcome, rulings.values()), rulings


def _in_words(outcome: Outcome, rulings: Iterable[Ruling]) -> str:
    """What passes is said by the gate that held it against the champion; what does not, by those that stopped it, the
    most severe first."""
    if outcome == "pass":
        told = [ruling.reason for ruling in rulings if ruling.gate == "champion"]
        return f"passed: {'; '.join(told)}"
    stopped = [ruling for ruling in rulings if ruling.outcome != "pass"]
    stopped.sort(key=lambda ruling: ruling.outcome != outcome)
    reasons = "; ".join(f"{ruling.reason} (gate {ruling.gate})" for ruling in stopped)
    return f"{'rejected' if outcome == 'reject' else outcome}: {reasons}"


def _write_down(mine: Turn, version: Version, rulings: Mapping[str, Ruling], verdict: str) -> None:
    number = str(version.version)
    for key, ruling in rulings.items():
        mine.client.set_model_version_tag(mine.name, number, key, with_outcome(version, key, ruling))
    about = with_verdict(version.description or "", verdict, rulings.values())
    mine.client.update_model_version(mine.name, number, about)
