"""Whether a version may take the champion's place: what it was measured on, and how it stood on the same images."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from tasks.register.client import Version
from tasks.register.duels import ERROR, Duel
from tasks.register.gating import Finding, Standing
from tasks.register.merits import ACCURACY, EXPLAINED, FIGURE, FIGURES, LOW, Merit
from tasks.register.moves import GATE, Move
from tasks.register.registry import gates_of
from tasks.register.tags import ADAPTED, CANDIDATE, LEARNED_FROM, PARTIAL, SCORE
from tasks.target import BLIND
from tasks.train.methods import METHODS
from tasks.wording import signed

NAMED = 3
"""Classes of each kind that are named."""

FEWEST = 20
"""Images from which on a comparison on the same images decides; below, it sees nothing but the largest differences."""

WIDEST = 2.0
"""Width of an interval that says nothing of a difference of shares, which lies between -1 and 1; errors have no such
bounds."""

TASKS = "tasks"
"""The gate of further tasks."""


def beats_chance(standing: Standing) -> Finding:
    """Whether a version is better than an answer that has not looked at the image."""
    merit = Merit.of(standing.version)
    if merit is None:
        return Finding(True, "it does not say what it was measured on")
    asked, found = f"above {merit.chance:.4f}", f"{merit.score:.4f} [{merit.low:.4f}, {merit.high:.4f}]"
    blind = {figure: BLIND[kind] for kind, (_, figure) in FIGURES.items()}
    what = blind.get(merit.figure, BLIND["labels"])
    better = merit.low > merit.chance
    told = f"validation {merit.figure} {found} is {'better' if better else 'no better'} than {what}, {merit.chance:.4f}"
    if not better and _is_adapted(standing.version):
        told += "; but a model that is adapted is for a domain that no validation image is of"
        return Finding(None, told, asked, found)
    return Finding(better, told, asked, found)


def succeeds(standing: Standing, must_be_better: bool = False, margin: float | None = None) -> Finding:
    """Whether a version may take the champion's place.

    It may where no person has taken the choice upon them, by a roll-back or by removing the alias; and it is not worse
    than the champion, by the 95% interval of the difference on the same images, and knows all of its classes; and
    neither is adapted to a domain without labels, for which those images say little. Where the champion was not at hand
    and has further tasks, a person decides. Where the two could not be compared so, it has to have been measured on the
    champion's images and classes, none of which may be nearly one that either learned from. And its score must be no
    less than the lower end of the interval of the champion and of those before it on the same images, back to the one
    that a person chose: so a lucky score shuts the gate for nobody who is as good, and many small steps down add up to
    no large one.

    Args:
        must_be_better: the whole interval of the difference has to lie above 0.
        margin: the whole interval has to lie above minus this; of errors, above minus this share of the champion's.
    """
    version, versions, moves = standing.version, standing.versions, standing.moves
    merit = Merit.of(version)
    if merit is None:
        return Finding(None, "cannot be compared: it does not say what it was measured on")
    if not moves:
        return _first(int(version.version), versions)
    last = moves[-1]
    if last.version is None:
        return Finding(None, "cannot be compared: there is no champion any more, its alias was removed")
    if last.action == "rollback":
        return Finding(None, f"{last.who} rolled back to version {last.version}, so a person chooses the next one")
    champion = versions[last.version]
    if _is_adapted(version) or _is_adapted(champion):
        return Finding(
            None, "cannot be compared: a model that is adapted is for a domain that no validation image is of"
        )
    duel = Duel.of(version)
    if duel and duel.version != last.version:
        was = f"cannot be compared: it was held against version {duel.version}, and champion is {last.version} now"
        return Finding(None, was)
    if duel and duel.images >= FEWEST:
        return _held_against(duel, merit, _bar(merit, versions, moves), champion, must_be_better, margin)
    if duel and duel.near:
        return Finding(None, f"cannot be compared: {_leaked(duel)}")
    if not duel and (unseen := _unseen(version, champion)):
        return Finding(None, f"cannot be compared: {unseen}")
    if unlike := _unlike(merit, champion):
        return Finding(None, f"cannot be compared: {unlike}")
    bar = _bar(merit, versions, moves)
    assert bar is not None  # the champion is one
    found = _compared(merit, bar, champion)
    if found.passed and (must_be_better or margin is not None):
        return Finding(None, f"{found.reason}; nothing is known of both on the same {FEWEST} images or more")
    return found


def _unseen(version: Version, champion: Version) -> str | None:
    """That nobody has looked at the champion's further tasks, in words; None where somebody has, or it has none.

    Whoever looks writes down the gate `tasks`."""
    if PARTIAL not in champion.tags.get(LEARNED_FROM, "").split(",") or TASKS in gates_of(version):
        return None
    return f"champion (version {champion.version}) has further tasks, and was not at hand to be compared with"


def _is_adapted(version: Version) -> bool:
    """Whether a version is served with what was learned from images of a domain without labels, and so of other ones
    than it was measured on."""
    if kept := version.tags.get(ADAPTED):
        return kept == "yes"
    method = METHODS.get(version.tags.get("method", ""))
    return method is not None and method.unlabelled


def _first(number: int, versions: Mapping[int, Version]) -> Finding:
    """There has been no champion. Versions that did not get through may be there, but none of other means."""
    if all(CANDIDATE in version.tags for other, version in versions.items() if other != number):
        return Finding(True, "the first version")
    return Finding(None, "cannot be compared: there are versions made by other means, and none is champion")


def _held_against(
    duel: Duel, merit: Merit, bar: Version | None, champion: Version, must_be_better: bool,
    margin: float | None,
) -> Finding:  # fmt: skip
    gain, low, high = duel.gain
    scale = duel.theirs if duel.figure == ERROR else 1.0
    least = 0.0 if must_be_better else -margin * scale if margin is not None else None
    asked = "interval not below 0" if least is None else f"interval above {least:.4g}"
    if duel.figure == ERROR:
        asked = f"of how much less it is, {asked}"
    gained, lower, upper = (signed(duel.spelt(each)) for each in (gain, low, high))
    found = f"{gained} [{lower}, {upper}]"
    if duel.gone:
        gone = _few(duel.gone, duel.more_gone)
        return Finding(False, f"classes are gone ({gone}); of the others, {duel}", asked, found)
    known = math.isfinite(low) and math.isfinite(high)
    if not known or (duel.figure != ERROR and high - low >= WIDEST):
        return Finding(None, "cannot be compared: all images are of one group, so that chance is not known", asked)
    if high < 0:
        return Finding(False, f"worse, {duel}", asked, found)
    if least is not None and low <= least:
        short = "not shown to be better" if must_be_better else f"not shown to be within {margin:g}"
        return Finding(False, f"{short}, {duel}", asked, found)
    if bar and merit.score < float(bar.tags[LOW]):
        return _compared(merit, bar, champion)
    return Finding(True, f"{'better' if low > 0 else 'not worse'}, {duel}", asked, found)


def _leaked(duel: Duel) -> str:
    return (
        f"of {duel.images + duel.near:,} {duel.split} images, one of the two has learned from nearly the same as "
        f"{duel.near:,}"
    )


def _compared(merit: Merit, bar: Version, champion: Version) -> Finding:
    theirs = Merit.of(bar)
    assert theirs is not None
    whose = f"{'champion' if bar is champion else 'an earlier champion'} (version {bar.version})"
    figures = f"validation {merit.figure} {merit.score:.4f}, {whose} {theirs.score:.4f}"
    asked, found = f"at least {theirs.low:.4f}", f"{merit.score:.4f}"
    if merit.score >= theirs.score:
        return Finding(True, figures, asked, found)
    return Finding(merit.score >= theirs.low, f"{figures}, whose interval begins at {theirs.low:.4f}", asked, found)


def _bar(merit: Merit, versions: Mapping[int, Version], moves: Sequence[Move]) -> Version | None:
    """The best of the champion and those that it followed by itself, among those that can be compared."""
    reigned = []
    for move in reversed(moves):
        version = versions.get(move.version or 0)
        if version and _unlike(merit, version) is None:
            reigned.append(version)
        if move.who != GATE:
            break
    return max(reigned, key=lambda version: float(version.tags[SCORE]), default=None)


def _unlike(merit: Merit, champion: Version) -> str | None:
    """What differs in what two scores were measured on, in words; None where nothing does."""
    theirs = Merit.of(champion)
    figure = champion.tags.get(FIGURE, ACCURACY if SCORE in champion.tags else merit.figure)
    if figure != merit.figure:
        return f"{merit.figure} with {figure}"
    if theirs is None:
        return f"champion (version {champion.version}) does not say what it was measured on"
    if theirs.classes != merit.classes and merit.figure == EXPLAINED:
        return f"{_few(merit.class_names or ())} with {_few(theirs.class_names or ())}"
    if theirs.classes != merit.classes:
        return f"other classes ({_class_changes(theirs, merit)})"
    return None if theirs.images == merit.images else "other validation images"


def _class_changes(theirs: Merit, ours: Merit) -> str:
    before, now = theirs.class_names, ours.class_names
    if before is None or now is None:
        return f"{ours.class_count:,} where there were {theirs.class_count:,}"
    changes = {"gone": sorted({*before} - {*now}), "new": sorted({*now} - {*before})}
    return ", ".join(f"{_few(names)} {what}" for what, names in changes.items() if names)


def _few(names: Sequence[str], unnamed: int = 0) -> str:
    """The first of some names, of which more may be than are kept."""
    more = len(names[NAMED:]) + unnamed
    return ", ".join(names[:NAMED]) + (f" and {more:,} more" if more else "")
