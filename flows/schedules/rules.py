"""Rules of calendars (RFC 5545), brought to what Prefect and dateutil make of them."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import datetime, timedelta
from itertools import takewhile
from math import lcm, prod
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from flows.schedules.zones import is_zone
from tasks.errors import ConfigurationError

if TYPE_CHECKING:
    from dateutil.rrule import rrule

LAST_ROUND = datetime(9599, 1, 1)
"""The Gregorian calendar repeats itself after 400 years; these are the last that dateutil knows."""

LONG_AGO = datetime(2020, 1, 1)
"""The first day of a rule of which nobody knows when it was made: Prefect's."""

SECOND, CHANGE = timedelta(seconds=1), timedelta(hours=3)
"""The second is more than summer time ever sets clocks by."""

STAMP = "%Y%m%dT%H%M%S"
START = re.compile(r"(DTSTART)(?:;(?:TZID=([^:;]+)|[^:;]*))*:(\d{8}(?:T\d{6})?)(Z?)", re.IGNORECASE)
END = re.compile(r"(UNTIL=)(\d{8}T\d{6})Z", re.IGNORECASE)
DATES = re.compile(r"\b(EXDATE|RDATE)((?:;[^:;\s]*)*):(\S+)", re.IGNORECASE)
NAMED = re.compile(r"TZID=([^;]+)", re.IGNORECASE)
COUNT = re.compile(r"(COUNT=)(\d+)", re.IGNORECASE)


def zone_of_start(rule: str) -> str | None:
    """The zone that a rule says itself, where its first day has one."""
    start = START.search(rule)
    return start and (start[2] or ("UTC" if start[4] else None))


def by_the_clock(rule: str, zone: str) -> str:
    """A rule whose first and last day, and single dates, are times of day in a zone, as Prefect takes them whatever
    they say.

    Raises:
        ConfigurationError: the rule begins in another zone; a date is none of the times that a rule names.
    """
    if (said := zone_of_start(rule)) and said != zone:
        raise ConfigurationError(f"--rrule begins in {said}, and --timezone is {zone}: leave one of them out")
    rule = END.sub(lambda end: end[1] + _moved(end[2], "UTC", zone), START.sub(r"\1:\3", rule))
    return DATES.sub(lambda dates: _dates(dates, zone), rule)


def _dates(dates: re.Match[str], zone: str) -> str:
    """A line of single dates by the clock of a zone."""
    what, parameters, stamps = dates.groups()
    named = NAMED.search(parameters)
    said = named[1] if named else zone
    if not is_zone(said):
        raise ConfigurationError(f"--rrule: {what} is in {said}, which is no zone; name one as Europe/Berlin")
    return f"{what}:{','.join(_date(what, stamp, said, zone) for stamp in stamps.split(','))}"


def _date(what: str, stamp: str, said: str, zone: str) -> str:
    if re.fullmatch(r"\d{8}Z?", stamp):
        raise ConfigurationError(
            f"--rrule: {what} names the day {stamp} without a time, which no time of a rule equals: write the time at "
            f"which it comes that day, as {what}:{stamp[:8]}T030000"
        )
    in_utc = stamp[-1:] in ("Z", "z")
    return _moved(stamp.rstrip("Zz"), "UTC" if in_utc else said, zone)


def _moved(stamp: str, said: str, zone: str) -> str:
    """A time of day of one zone as another has it; what is no time is left to dateutil, which refuses it."""
    with suppress(ValueError, OverflowError):  # such as the end of all days
        time = datetime.strptime(stamp, STAMP).replace(tzinfo=ZoneInfo(said))
        return time.astimezone(ZoneInfo(zone)).strftime(STAMP)
    return stamp


def begun(rule: str, zone: str, made: float, moment: datetime) -> str:
    """A rule with a first day, so near before a moment that what comes later is soon found and the same: dateutil
    works a rule off from its first day.

    A rule that says no first day begins on the day on which it was made, and counts from then on.

    Args:
        made: seconds since the epoch; 0: nobody knows.

    Raises:
        ValueError: it is no rule.
    """
    here, first = _here(moment.timestamp(), zone), LONG_AGO
    if made and "DTSTART" not in rule.upper():
        then = min(_here(made, zone), here)  # later by a clock that was ahead
        first = then.replace(hour=0, minute=0, second=0, microsecond=0)
        rule = "\n".join(_counting_from(then, part, first) for part in rule.split())
    if not (rules := _parts(rule, first)):
        return rule
    first = rules[0]._dtstart.replace(tzinfo=None)
    if (step := _step(rules)) and (steps := (here - CHANGE - first) // SECOND // step - 1) > 0:
        first += steps * step * SECOND
    return f"DTSTART:{first.strftime(STAMP)}\n" + re.sub(r"DTSTART\S*\s*", "", rule, flags=re.IGNORECASE)


def _here(moment: float, zone: str) -> datetime:
    """A moment, in seconds since the epoch, by the clock of a zone."""
    return datetime.fromtimestamp(moment, ZoneInfo(zone)).replace(tzinfo=None)


def _counting_from(then: datetime, part: str, first: datetime) -> str:
    """A part of a rule whose count leaves out what was over on its first day when it was made."""
    from dateutil.rrule import rrulestr

    if not COUNT.search(part):
        return part
    times = rrulestr(part.rpartition(":")[2], dtstart=first).replace(count=None)
    over = sum(1 for _ in takewhile(lambda time: time <= then, times))
    return COUNT.sub(lambda count: f"{count[1]}{int(count[2]) + over}", part)


def _step(rules: list[rrule]) -> int | None:
    """After how many seconds rules may begin as well, and name the same times from then on; None: after none."""
    from dateutil.rrule import DAILY, HOURLY, MINUTELY, SECONDLY, WEEKLY

    seconds = {WEEKLY: 7 * 24 * 3600, DAILY: 24 * 3600, HOURLY: 3600, MINUTELY: 60, SECONDLY: 1}
    if any(rule._count or rule._freq not in seconds for rule in rules):
        return None
    return lcm(*(rule._interval * seconds[rule._freq] for rule in rules))


def _parts(expression: str, first: datetime) -> list[rrule]:
    """Each rule of an expression: what comes, and what is left out.

    Raises:
        ValueError: it is no rule.
    """
    from dateutil.rrule import rruleset, rrulestr

    read = rrulestr(expression, dtstart=first)
    return [*read._rrule, *read._exrule] if isinstance(read, rruleset) else [read]


def can_come(expression: str) -> bool:
    """Whether each rule of an expression steps forward, and lets some day and some place of a set through.

    Raises:
        ValueError: it is no rule.
    """
    from dateutil.rrule import DAILY, MONTHLY

    for rule in _parts(expression, LONG_AGO):
        if rule._interval < 1 or not _has_place(rule):
            return False
        # The fifth Monday is one of a month or year, and means every Monday by the week or day.
        each = rule._freq if rule._freq <= MONTHLY else DAILY
        days = rule.replace(freq=each, dtstart=LAST_ROUND, until=None, count=None, interval=1, bysetpos=None)
        if next(iter(days), None) is None:
            return False
    return True


def _has_place(rule: rrule) -> bool:
    """Whether ``BYSETPOS`` names a time of each day, hour, minute or second; longer sets are soon looked through."""
    from dateutil.rrule import DAILY, HOURLY, MINUTELY, SECONDLY

    if not rule._bysetpos or rule._freq < DAILY:
        return True
    sets = {
        DAILY: (rule._timeset,), HOURLY: (rule._byminute, rule._bysecond), MINUTELY: (rule._bysecond,), SECONDLY: (),
    }  # fmt: skip
    times = prod(map(len, sets[rule._freq]))
    return any(abs(place) <= times for place in rule._bysetpos)
