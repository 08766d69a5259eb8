"""When a pipeline is due: by Cron, at an interval, or by a rule of calendars (RFC 5545)."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property, lru_cache
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from tasks.errors import ConfigurationError

if TYPE_CHECKING:
    from dateutil.rrule import rrule
    from prefect.server.schemas.schedules import CronSchedule, IntervalSchedule, RRuleSchedule

NONE = "none"
SHOWN = 3
SHORTEST = timedelta(microseconds=1)
LAST_ROUND = datetime(9599, 1, 1)
"""The Gregorian calendar repeats itself after 400 years; these are the last that dateutil knows."""

STAMP = "%Y%m%dT%H%M%S"
START = re.compile(r"(DTSTART)(?:;(?:TZID=([^:;]+)|[^:;]*))*:(\d{8}T\d{6})(Z?)", re.IGNORECASE)
END = re.compile(r"(UNTIL=)(\d{8}T\d{6})Z", re.IGNORECASE)

NAMELESS = "this machine's time zone has no name that can be relied on: give --timezone, as --timezone Europe/Berlin"

MEANT = {
    "cron": "it takes minute (0-59), hour (0-23), day of the month (1-31), month (1-12) and day of the week (0-7), as "
    "in '0 3 * * *': every night at three",
    "rrule": "it takes a rule as in 'FREQ=WEEKLY;BYDAY=MO,TH;BYHOUR=3;BYMINUTE=0': Mondays and Thursdays at three",
}


@dataclass(frozen=True)
class Timetable:
    """Times at which something is due.

    Args:
        kind: ``cron``, ``interval``, ``rrule``, or ``none`` where nothing is due by time.
        expression: five fields; seconds; a rule; or nothing.
        zone: IANA name of the zone in which times of day are meant.
        anchor: of an interval, seconds since the epoch from which it is counted.
    """

    kind: str
    expression: str
    zone: str
    anchor: float = 0.0

    def after(self, moment: datetime) -> datetime | None:
        """The first time later than a moment; None where there is none."""
        return _first_after(self, moment)

    def next_times(self, count: int, moment: datetime) -> list[datetime]:
        """The first times later than a moment, fewer where a rule ends."""
        if self.kind == NONE:
            return []
        # Of an hour that a change of clocks leaves out, Prefect gives the one before, even where that is over.
        for more in (0, 8, 4 * 60):
            times: Sequence[datetime] = asyncio.run(self._rule.get_dates(count + more, start=moment + SHORTEST))
            later = sorted({time.astimezone(UTC) for time in times if time > moment})
            if len(later) >= count or len(times) < count + more:
                break
        return later[:count]

    def __str__(self) -> str:
        alone = {"interval": f"every {self.expression} s", NONE: ""}
        return alone.get(self.kind, f"{self.kind} {self.expression} ({self.zone})")

    @property
    def in_words(self) -> str:
        """As it was said, and the next times, where they are times of day."""
        if self.kind in ("interval", NONE):
            return str(self)
        times = self.next_times(SHOWN, datetime.now(UTC))
        shown = ", ".join(time.astimezone(ZoneInfo(self.zone)).strftime("%a %d %b %Y %H:%M") for time in times)
        return f"{self.kind} {self.expression}, next {shown} ({self.zone})"

    @cached_property
    def _rule(self) -> CronSchedule | IntervalSchedule | RRuleSchedule:
        from prefect.server.schemas.schedules import CronSchedule, IntervalSchedule, RRuleSchedule

        if self.kind == "interval":
            anchor = datetime.fromtimestamp(self.anchor, UTC)
            return IntervalSchedule(interval=timedelta(seconds=int(self.expression)), anchor_date=anchor)  # type: ignore[arg-type]
        if self.kind == "cron":
            return CronSchedule(cron=self.expression, timezone=self.zone)
        return RRuleSchedule(rrule=self.expression, timezone=self.zone)


@lru_cache(64)  # whoever waits for a time asks twice a second, and a rule is worked off from its beginning
def _first_after(table: Timetable, moment: datetime) -> datetime | None:
    return next(iter(table.next_times(1, moment)), None)


def read_timetable(
    cron: str | None, interval: int | None, rrule: str | None, timezone: str | None, watches: bool = False
) -> Timetable:
    """What exactly one of three ways says.

    Args:
        cron: five fields, as ``0 3 * * *``.
        interval: seconds; counted from now.
        rrule: a rule of RFC 5545.
        timezone: IANA name of the zone in which times of day are meant; this machine's own if not given.
        watches: something else than the time makes runs too, so that none of the three may be given.

    Raises:
        ConfigurationError: not exactly one is given, or one that never comes; no such zone.
    """
    given = {"cron": cron, "interval": interval, "rrule": rrule}
    said = [(kind, str(value)) for kind, value in given.items() if value is not None]
    if len(said) > 1 or not (said or watches):
        raise ConfigurationError(
            "headstart schedule needs one of --cron, --interval and --rrule, for example --cron '0 3 * * *'; --watch, "
            "which has it run when the data changes, may stand alone or beside them"
        )
    [(kind, expression)] = said or [(NONE, "")]
    of_day = kind not in ("interval", NONE)
    zone = _zone(timezone or _zone_of_start(expression)) if timezone or of_day else "UTC"
    if kind == "rrule":
        expression = _by_the_clock(expression, zone)
    table = Timetable(kind, expression, zone, round(datetime.now(UTC).timestamp()))
    if of_day:
        _check(table)
    return table


def _zone_of_start(rule: str) -> str | None:
    """The zone that a rule says itself, where its first day has one."""
    start = START.search(rule)
    return start and (start[2] or ("UTC" if start[4] else None))


def _by_the_clock(rule: str, zone: str) -> str:
    """A rule whose first and last day are times of day in a zone, as Prefect takes them whatever they say.

    Raises:
        ConfigurationError: the rule says another zone itself.
    """
    if (said := _zone_of_start(rule)) and said != zone:
        raise ConfigurationError(f"--rrule begins in {said}, and --timezone is {zone}: leave one of them out")

    def local(end: re.Match[str]) -> str:
        last = datetime.strptime(end[2], STAMP).replace(tzinfo=UTC)
        return end[1] + last.astimezone(ZoneInfo(zone)).strftime(STAMP)

    return END.sub(local, START.sub(r"\1:\3", rule))


def _zone(named: str | None) -> str:
    told = os.environ.get("TZ", "").removeprefix(":")
    if not named and told and not Path(told).is_absolute():
        # For rules as CET-1CEST, tzlocal and Prefect have no name, or UTC's.
        if not _is_zone(told):
            raise ConfigurationError(f"TZ={told} is no zone's name: give --timezone, as --timezone Europe/Berlin")
        return told
    zone = named or _own_zone()
    if not _is_zone(zone):
        raise ConfigurationError(f"--timezone {zone}: no such zone; give one as Europe/Berlin")
    return zone


def _own_zone() -> str:
    """The zone of this machine.

    Raises:
        ConfigurationError: it has no name, as where ``/etc/localtime`` is a plain copy, or several.
    """
    from tzlocal import get_localzone_name

    try:
        zone = get_localzone_name()
    except ZoneInfoNotFoundError as error:
        told = " ".join(str(error.args[0]).split())
        raise ConfigurationError(f"{NAMELESS} ({told})") from error
    year = datetime.now().year
    if not zone and any(datetime(year, month, 1).astimezone().utcoffset() for month in (1, 7)):
        raise ConfigurationError(NAMELESS)
    return zone or "UTC"


def _is_zone(name: str) -> bool:
    # Files beside the zones: one of them under another name, and what a machine has before anybody says where it is.
    if name in ("localtime", "posixrules", "Factory"):
        return False
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # such as the folder of a continent
        return False
    return True


def _check(table: Timetable) -> None:
    # Others, and croniter, take six and seven, and differ on which of them is of seconds.
    if table.kind == "cron" and (fields := len(table.expression.split())) > 5:
        raise ConfigurationError(f"--cron '{table.expression}' has {fields} fields, not five: {MEANT['cron']}")
    try:
        # dateutil would look for the first time of a rule that has none for hours, or for ever.
        never = table.kind == "rrule" and not _can_come(table.expression)
        comes = None if never else table.after(datetime.now(UTC))
    except (ValueError, TypeError):  # croniter's, dateutil's and pydantic's; where no FREQ is said
        comes = None
    if comes is None:
        said = " ".join(table.expression.split())
        raise ConfigurationError(f"--{table.kind} '{said}' names no time: {MEANT[table.kind]}")


def _can_come(expression: str) -> bool:
    """Whether each rule of an expression steps forward, and lets some day and some place of a set through.

    Raises:
        ValueError: it is no rule.
    """
    from dateutil.rrule import DAILY, MONTHLY, rruleset, rrulestr

    read = rrulestr(expression, dtstart=datetime(2020, 1, 1))
    rules = [*read._rrule, *read._exrule] if isinstance(read, rruleset) else [read]
    for rule in rules:
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
