"""The gate: whether a version becomes champion by itself, and what becomes of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mlflow.entities.model_registry import ModelVersion

from tasks.register.duels import Duel
from tasks.register.merits import ACCURACY, FIGURE, LOW, SCORE, Merit
from tasks.register.moves import GATE, Move, history, move_to
from tasks.register.registry import CANDIDATE, CHALLENGER, all_versions, get_model
from tasks.register.turns import Turn

VERDICT, PROMOTE = "verdict", "promote"
"""Tags of a version: what was decided, and whether the gate may do more than decide (``register.promote``)."""

LEAK = "leak"
"""Tag of a version whose figures are not to be believed: why, and what would end it."""

NAMED = 3
"""Classes of each kind that a verdict names."""

FEWEST = 20
"""Images from which on a comparison on the same images decides; below, it sees nothing but the largest differences."""


def decide(mine: Turn) -> None:
    """Judge the versions that have no verdict yet, the oldest first: a new one, and those whose run was ended before.
    What passes becomes champion, unless its configuration has it wait; what does not is the challenger."""
    versions = all_versions(mine.client, mine.name)
    for number, version in versions.items():
        if CANDIDATE in version.tags and VERDICT not in version.tags:
            verdict = _decided(mine, number, versions)
            mine.client.set_model_version_tag(mine.name, str(number), VERDICT, verdict)


def _decided(mine: Turn, number: int, versions: Mapping[int, ModelVersion]) -> str:
    moves = history(mine.client, mine.name)
    if moves and moves[-1].version == number:
        return moves[-1].why if moves[-1].who == GATE else f"promoted by {moves[-1].who}"
    passed, verdict = judge(versions[number], versions, moves)
    if passed and versions[number].tags.get(PROMOTE) != "never":
        move_to(mine, "promote", number, verdict, GATE)
        return verdict
    mine.check()
    if number > int(get_model(mine.client, mine.name).aliases.get(CHALLENGER, 0)):
        mine.client.set_registered_model_alias(mine.name, CHALLENGER, str(number))
    return f"{verdict}; waits, since register.promote is never" if passed else verdict


def judge(version: ModelVersion, versions: Mapping[int, ModelVersion], moves: Sequence[Move]) -> tuple[bool, str]:
    """Whether a version may take the champion's place, and why.

    It may where it is better than an answer that has not looked at the image; its figure is not inflated by images much
    like those that were learned from (`tasks.records.Leak.is_material`); no person has taken the choice upon
    them, by a roll-back or by removing the alias; and it is not worse than the champion, by the 95% interval of the
    difference on the same images, and knows all of its classes. Where the two could not be compared so, it has to have
    been measured on the champion's images and classes. And its score must be no less than the lower end of the interval
    of the champion and of those before it on the same images, back to the one that a person chose: so a lucky score
    shuts the gate for nobody who is as good, and many small steps down add up to no large one.

    Args:
        versions: all of the model, by number.
        moves: of the alias, the last one where it is now.
    """
    merit = Merit.of(version)
    if merit is None:
        return False, "held back, cannot be compared: it does not say what it was measured on"
    if not merit.low > merit.chance:
        return False, f"held back: {_no_better_than_chance(merit)}"
    if LEAK in version.tags:
        return False, f"held back: {version.tags[LEAK]}"
    if not moves:
        return _first(int(version.version), versions)
    last = moves[-1]
    if last.version is None:
        return False, "held back, cannot be compared: there is no champion any more, its alias was removed"
    if last.action == "rollback":
        return False, f"held back: {last.who} rolled back to version {last.version}, so a person chooses the next one"
    champion = versions[last.version]
    duel = Duel.of(version)
    if duel and duel.version == last.version and duel.images >= FEWEST:
        return _held_against(duel, merit, _bar(merit, versions, moves), champion)
    if unlike := _unlike(merit, champion):
        return False, f"held back, cannot be compared: {unlike}"
    bar = _bar(merit, versions, moves)
    assert bar is not None  # the champion is one
    return _compared(merit, bar, champion)


def _no_better_than_chance(merit: Merit) -> str:
    what = "always naming the commonest class" if merit.figure == ACCURACY else "images in any order"
    return (
        f"validation {merit.figure} {merit.score:.4f} [{merit.low:.4f}, {merit.high:.4f}] is no better than {what}, "
        f"{merit.chance:.4f}"
    )


def _first(number: int, versions: Mapping[int, ModelVersion]) -> tuple[bool, str]:
    """There has been no champion. Versions that did not get through may be there, but none of other means."""
    if all(CANDIDATE in version.tags for other, version in versions.items() if other != number):
        return True, "passed: the first version"
    return False, "held back, cannot be compared: there are versions made by other means, and none is champion"


def _held_against(duel: Duel, merit: Merit, bar: ModelVersion | None, champion: ModelVersion) -> tuple[bool, str]:
    if duel.gone:
        return False, f"held back: classes are gone ({_few(duel.gone)}); of the others, {duel}"
    if duel.high < 0:
        return False, f"held back: worse, {duel}"
    if bar and merit.score < float(bar.tags[LOW]):
        return _compared(merit, bar, champion)
    return True, f"passed: {'better' if duel.low > 0 else 'not worse'}, {duel}"


def _compared(merit: Merit, bar: ModelVersion, champion: ModelVersion) -> tuple[bool, str]:
    theirs = Merit.of(bar)
    assert theirs is not None
    whose = f"{'champion' if bar is champion else 'an earlier champion'} (version {bar.version})"
    figures = f"validation {merit.figure} {merit.score:.4f}, {whose} {theirs.score:.4f}"
    if merit.score >= theirs.score:
        return True, f"passed: {figures}"
    if merit.score >= theirs.low:
        return True, f"passed: {figures}, whose interval begins at {theirs.low:.4f}"
    return False, f"held back: {figures}, whose interval begins at {theirs.low:.4f}"


def _bar(merit: Merit, versions: Mapping[int, ModelVersion], moves: Sequence[Move]) -> ModelVersion | None:
    """The best of the champion and those that it followed by itself, among those that can be compared."""
    reigned = []
    for move in reversed(moves):
        version = versions.get(move.version or 0)
        if version and _unlike(merit, version) is None:
            reigned.append(version)
        if move.who != GATE:
            break
    return max(reigned, key=lambda version: float(version.tags[SCORE]), default=None)


def _unlike(merit: Merit, champion: ModelVersion) -> str | None:
    """What differs in what two scores were measured on, in words; None where nothing does."""
    theirs = Merit.of(champion)
    figure = champion.tags.get(FIGURE, ACCURACY if SCORE in champion.tags else merit.figure)
    if figure != merit.figure:
        return f"{merit.figure} with {figure}"
    if theirs is None:
        return f"champion (version {champion.version}) does not say what it was measured on"
    if theirs.classes != merit.classes:
        return f"other classes ({_class_changes(theirs, merit)})"
    return None if theirs.images == merit.images else "other validation images"


def _class_changes(theirs: Merit, ours: Merit) -> str:
    before, now = theirs.class_names, ours.class_names
    if before is None or now is None:
        return f"{ours.class_count:,} where there were {theirs.class_count:,}"
    changes = {"gone": sorted({*before} - {*now}), "new": sorted({*now} - {*before})}
    return ", ".join(f"{_few(names)} {what}" for what, names in changes.items() if names)


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
