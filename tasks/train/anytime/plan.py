"""What to do next within a budget, told from what is known, by nothing else: so it can be told beforehand, too.

A linear probe first, registered; the ranking of backbones; heads on the best few; of these, trainings through the
backbone by successive halving (Jamieson & Talwalkar 2016), each on as many images as its share of the time allows; and
one on all images for what is left, where the gain over frozen features, followed along its learning curve, is beyond
chance. Where trials would leave no time for it, there is that one alone, and validation tells whether it was right.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from tasks.train.anytime.situation import BEGIN, Situation
from tasks.train.anytime.step import Step

AT_ONCE = 30.0
"""Seconds of extraction up to which the first model is that of the configured backbone, not of the cheapest."""
FOR_RANKING, FOR_FEATURES, FOR_TRIALS = 0.2, 0.4, 0.3
"""Shares of the time left that a ranking, a backbone's features, and all short trainings may take."""
RANKED, FEWEST = 2_000, 100
"""Images of a ranking, at most and at least, where there are as many."""
LOAD = 2.0
"""Seconds to load a backbone and to score its features."""
FEW = 3
"""Backbones that are looked at closely, at most."""
RIVALS = 4
"""Trainings that begin the halving, at most."""
LEAST_SLICE, LEAST_SEEN = 10.0, 128
"""Seconds of a short training, and images that it passes, at least."""
MOST_EPOCHS = 20
UNTRIED = 1_500
"""Images that a training passes at least where there is no time to try it: on PACS (`lp_ft`, seed 0) as many make up
for what the first steps spoil."""
LONGER = 2.0
"""How many times as long as the last one a further training on all images has to be, where a budget was raised."""
SCREENED, FOR_LOOKS = 1_000, 1 / 3
"""Images that short trainings are judged by, at most, and the share of their time that this may take."""
LOOKS = 2
"""Epochs of a short training, each with a look at those images, unless the images are few."""


def next_step(situation: Situation, done: Sequence[Step], left: float) -> Step | None:
    """What to do next, or, as ``left out``, what there is no time or reason for; None: carry the winner through.

    Args:
        done: steps that are over, those that were left out among them.
        left: seconds of the budget.
    """
    for propose in (_probe, _rank, _head, _tune, _final):
        if step := propose(situation, done, left):
            return step
    return None


def winner(done: Sequence[Step]) -> Step:
    """The tuned backbone where it is better than every head on frozen features; else the best head of the simplest
    method that comes within half a standard error of the best of all, methods being tried the simplest first. Its `why`
    is the reason for the choice."""
    heads = _over(done, "head")
    if not heads:
        return replace(_over(done, "probe")[0], why="there was no time to try anything else")
    best = max(heads, key=lambda step: step.score)
    tuned = max(_over(done, "final"), key=lambda step: step.score, default=None)
    if tuned and tuned.score > best.score:
        return replace(
            tuned, why=f"tuned {tuned.score:.4f} on the images of the choice, frozen {best.score:.4f} at best"
        )
    near = [step for step in heads if step.score >= best.score - chance(best.score, best.judged) / 2]
    order = list(dict.fromkeys(step.method for step in heads))
    chosen = min(near, key=lambda step: (order.index(step.method), -step.score))
    alike = f"the simplest of the heads that are as good as the best ({best.score:.4f})"
    of = "the best head" if chosen is best else alike
    behind = f"; tuned {tuned.score:.4f}" if tuned else ""
    return replace(chosen, why=f"{of}: {chosen.score:.4f} on {chosen.judged:,} images of the choice{behind}")


def chance(score: float, images: int) -> float:
    """Standard error of a share over so many images, with two more of each kind, so that none is sure (Agresti & Coull
    1998)."""
    share = (score * images + 2) / (images + 4)
    return math.sqrt(share * (1 - share) / (images + 4))


def favourites(situation: Situation, done: Sequence[Step]) -> list[str]:
    """Backbones to look at closely, the best first: those that may be the best of the ranking or, without one, the
    first of the configuration."""
    ranked = sorted(_over(done, "rank"), key=lambda step: -step.score)
    if not ranked:
        first = [step.backbone for step in _over(done, "probe")]
        return list(dict.fromkeys([*first, *(each.name for each in situation.contenders)]))[:FEW]
    best = [step.backbone for step in ranked if step.may_be_best][:FEW]
    if any(_over(done, "head", backbone) for backbone in best):
        return best
    # For their features there may be no time; those of the first model are there.
    return list(dict.fromkeys([*best, *(step.backbone for step in _over(done, "probe"))]))


def _probe(situation: Situation, done: Sequence[Step], left: float) -> Step | None:
    if _any(done, "probe"):
        return None
    own = situation.contenders[0]
    cheapest = min(situation.contenders, key=lambda each: each.milliseconds)
    after = situation.fitting("linear") + situation.overhead
    quick = situation.seconds_of(own.name, situation.images) <= min(AT_ONCE, left - after)
    first = own if quick or cheapest.name == own.name else cheapest
    why = "a model at once, of the configured backbone" if first is own else "a model at once, of the cheapest backbone"
    predicted = situation.seconds_of(first.name, situation.images) + after
    return Step("probe", first.name, "linear", situation.train, predicted=predicted, why=why)


def _rank(situation: Situation, done: Sequence[Step], left: float) -> Step | None:
    if _any(done, "rank") or len(situation.contenders) < 2:
        return None
    room = left - situation.reserve(situation.contenders[0].name, tuned=False)
    each = sum(contender.milliseconds for contender in situation.contenders) / 1000
    loading = LOAD * len(situation.contenders)
    images = min(RANKED, situation.train, int((FOR_RANKING * room - loading) / each))
    enough = images >= min(FEWEST, situation.train)
    needed = max(images, min(FEWEST, situation.train))
    step = Step("rank", "", "", needed, predicted=loading + needed * each, why="which backbones suit, on a sample")
    return step if enough else _left_out(step, FOR_RANKING * room)


def _head(situation: Situation, done: Sequence[Step], left: float) -> Step | None:
    """The next head on features of all images, the best ranked backbone's first."""
    for backbone in favourites(situation, done):
        room = left - situation.reserve(backbone, tuned=False)
        for method in situation.heads:
            if _any(done, "head", backbone, method):
                continue
            there = any(_over(done, kind, backbone) for kind in ("probe", "head"))
            extraction = 0.0 if there else LOAD + situation.seconds_of(backbone, situation.images)
            seconds = extraction + situation.fitting(method)
            step = Step(
                "head", backbone, method, situation.train, judged=situation.judged, predicted=seconds,
                why="all features are there" if there else "ranked among the best",
            )  # fmt: skip
            # The winner is fitted anew, by its own pipeline.
            room = (room - situation.fitting(method)) * (FOR_FEATURES if extraction else 1.0)
            return step if seconds <= room else _left_out(step, room)
    return None


def _tune(situation: Situation, done: Sequence[Step], left: float) -> Step | None:
    """The next short training: all rivals for one slice of time each, then the better half for twice as long."""
    rivals, tried = _rivals(situation, done), [step for step in done if step.kind == "tune"]
    if not rivals or any(not step.backbone for step in tried):
        return None
    room = _room(situation, done, rivals[0][0], left)
    time = FOR_TRIALS * (room + sum(step.took for step in tried if step.state == "done"))
    needs = [_needs(situation, done, backbone, method) for backbone, method in rivals]
    count = tried[0].rivals if tried else _beginners(needs, time)
    if not count:
        needed = levels_of(1) * needs[0] / FOR_TRIALS
        return _left_out(Step("tune", "", predicted=needed, why="training through a backbone"), room)
    alive = rivals[:count]
    for level in range(levels_of(count)):
        for backbone, method in alive:
            if not any((step.backbone, step.method, step.level) == (backbone, method, level) for step in tried):
                limit = time / levels_of(count) / len(alive)
                step = Step("tune", backbone, method, level=level, rivals=count, limit=limit, predicted=limit)
                return _sized(situation, done, step)
        alive = _better_half([step for step in tried if step.level == level], done)
    return None


def _final(situation: Situation, done: Sequence[Step], left: float) -> Step | None:
    """The best short training's method on all images, for all the time that is left, if that pays."""
    if not (tried := _over(done, "tune")):
        return _untried(situation, done, left)
    last = max(step.level for step in tried)
    best = max((step for step in tried if step.level == last), key=lambda step: estimate(step, done))
    limit = _room(situation, done, best.backbone, left)
    earlier = [step.limit for step in done if step.kind == "final"]
    if earlier and limit <= LONGER * max(0.0, *earlier):
        return None
    look, rate = situation.looking(best.backbone, situation.judged), situation.rate(best.backbone, best.method, done)
    epoch, begin = situation.train / rate + look, situation.beginning(best.backbone)
    passes = (limit - begin) / epoch
    seen = max(0.0, passes * situation.train if passes >= 1 else (limit - begin - look) * rate)
    epochs = min(MOST_EPOCHS, max(1, math.ceil(passes)))
    takes = min(limit, begin + epochs * epoch)
    gain = foreseen(best, done, min(seen, epochs * situation.train))
    error = chance(_frozen(best.backbone, done), best.judged)
    step = Step(
        "final", best.backbone, best.method, situation.train, epochs, limit=limit, predicted=takes,
        judged=situation.judged, expected=min(1.0, _frozen(best.backbone, done) + gain),
        why=f"{gain:+.4f} over frozen features is expected, and chance is {error:.4f}",
    )  # fmt: skip
    least = max(best.seen, LEAST_SEEN)
    if seen < least:
        return _left_out(replace(step, predicted=begin + look + least / rate), limit)
    return step if gain > error else replace(step, state="left out")


def _untried(situation: Situation, done: Sequence[Step], left: float) -> Step | None:
    """Where trials would leave no time for what they are for: one training on as many images as it can pass."""
    began = any(step.backbone for step in done if step.kind == "tune")
    if _any(done, "final") or began or not (rivals := _rivals(situation, done)):
        return None
    backbone, method = rivals[0]
    limit, look = _room(situation, done, backbone, left), situation.looking(backbone, situation.judged)
    rate, enough = situation.rate(backbone, method, done), max(LEAST_SEEN, min(UNTRIED, 2 * situation.train))
    begin = situation.beginning(backbone)
    passed = int((limit - begin - look) * rate)
    images = max(1, min(situation.train, passed))
    epochs = min(MOST_EPOCHS, max(1, math.ceil(passed / images)))  # the last one is cut off by the limit
    step = Step(
        "final", backbone, method, images, epochs, limit=limit, predicted=limit, judged=situation.judged,
        why="for trials there is no time: validation tells whether it was right",
    )  # fmt: skip
    return step if passed >= enough else _left_out(replace(step, predicted=begin + look + enough / rate), limit)


def _room(situation: Situation, done: Sequence[Step], backbone: str, left: float) -> float:
    """Seconds for trainings through a backbone: the best head, should it win after all, is fitted anew."""
    head = situation.reserve(backbone, tuned=False) + situation.fitting(winner(done).method)
    return left - max(head, situation.reserve(backbone, tuned=True))


def foreseen(step: Step, done: Sequence[Step], seen: float) -> float:
    """The gain of a training that passes so many images: on from its last trial along the logarithm of the images
    passed, with the slope that its trials have shown; never down. Short trainings begin by losing what they had, so it
    is the slope that tells."""
    curve = sorted((each.seen, each.gain) for each in _over(done, "tune", step.backbone, step.method))
    (begin, low), (end, high) = curve[0], curve[-1]
    slope = max(0.0, (high - low) / math.log2(end / begin)) if end > begin else 0.0
    return high + slope * math.log2(max(1.0, seen / end))


def estimate(step: Step, done: Sequence[Step]) -> float:
    """What a short training says of a long one: the backbone's best head, and what was gained over frozen features."""
    return _frozen(step.backbone, done) + step.gain


def levels_of(count: int) -> int:
    """Levels of a halving, the last one's winner alone; two at least, for the sake of the learning curve."""
    return max(2, 1 + math.ceil(math.log2(count)))


def _needs(situation: Situation, done: Sequence[Step], backbone: str, method: str) -> float:
    """Seconds below which a short training tells nothing: it has to begin, to pass `LEAST_SEEN` images, and to be
    looked at."""
    learning = (min(LEAST_SEEN, situation.train) + 1) / situation.rate(backbone, method, done)
    looks = LOOKS * situation.looking(backbone, min(situation.judged, SCREENED))
    return max(LEAST_SLICE, BEGIN + min(learning + looks, learning / (1 - FOR_LOOKS)))


def _beginners(needs: Sequence[float], seconds: float) -> int:
    """How many can begin so that each has the seconds that it needs."""
    most = min(len(needs), RIVALS)
    return next((n for n in range(most, 0, -1) if seconds / levels_of(n) / n >= max(needs[:n])), 0)


def _better_half(tried: Sequence[Step], done: Sequence[Step]) -> list[tuple[str, str]]:
    good = sorted((step for step in tried if step.state == "done"), key=lambda step: -estimate(step, done))
    return [(step.backbone, step.method) for step in good[: math.ceil(len(tried) / 2)]]


def _sized(situation: Situation, done: Sequence[Step], step: Step) -> Step:
    """A short training on as many images as it can pass twice in its time; on all of them, more often, where they are
    few. It is judged by no more than leaves it most of that time."""
    time, each = step.limit - BEGIN, situation.looking(step.backbone, 1)
    judged = min(situation.judged, SCREENED, max(1, int(FOR_LOOKS * time / (LOOKS * each))))
    seen = int((time - LOOKS * judged * each) * situation.rate(step.backbone, step.method, done))
    if seen < (least := min(LEAST_SEEN, situation.train)):
        why = f"in {step.limit:.0f} s it would pass {max(0, seen):,} images, and tells nothing below {least:,}"
        return replace(step, state="left out", why=why)
    images = min(situation.train, max(seen // LOOKS, LEAST_SEEN // LOOKS))
    epochs = max(1, min(MOST_EPOCHS, seen // images))
    why = f"{step.rivals} began, level {step.level + 1} of {levels_of(step.rivals)}"
    return replace(step, images=images, epochs=epochs, judged=judged, why=why)


def _rivals(situation: Situation, done: Sequence[Step]) -> list[tuple[str, str]]:
    """Each method through each of the backbones whose features are there, the best backbone first with all of them."""
    tried = dict.fromkeys(step.backbone for step in _over(done, "head"))
    return [
        (backbone, method)
        for backbone in sorted(tried, key=lambda backbone: -_frozen(backbone, done))
        for method in situation.tuned
    ]


def _frozen(backbone: str, done: Sequence[Step]) -> float:
    """The best head's merit on a backbone's features."""
    return max((step.score for step in _over(done, "head", backbone)), default=0.0)


def _left_out(step: Step, room: float) -> Step:
    why = f"{step.why}{': ' if step.why else ''}{step.predicted:.0f} s, and there are {max(0.0, room):.0f} s for it"
    return replace(step, state="left out", why=why)


def _over(done: Sequence[Step], kind: str, backbone: str = "", method: str = "") -> list[Step]:
    """Steps of a kind that came to an end."""
    return [step for step in _such(done, kind, backbone, method) if step.state == "done"]


def _any(done: Sequence[Step], kind: str, backbone: str = "", method: str = "") -> bool:
    """Whether there is such a step, however it ended."""
    return bool(_such(done, kind, backbone, method))


def _such(done: Sequence[Step], kind: str, backbone: str, method: str) -> list[Step]:
    return [
        step
        for step in done
        if step.kind == kind and (not backbone or step.backbone == backbone) and (not method or step.method == method)
    ]
