"""When a pipeline is due: by Cron, at an interval, or by a rule of calendars (RFC 5545)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from tasks.errors import ConfigurationError

if TYPE_CHECKING:
    from prefect.server.schemas.schedules import CronSchedule, IntervalSchedule, RRuleSchedule

NONE = "none"
SHOWN = 3
SHORTEST = timedelta(microseconds=1)

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
    table = Timetable(kind, expression, _zone(timezone), round(datetime.now(UTC).timestamp()))
    if kind not in ("interval", NONE):
        _check(table)
    return table


def _zone(named: str | None) -> str:
    from tzlocal import get_localzone_name

    zone: str = named or get_localzone_name() or "UTC"
    try:
        ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:  # such as the folder of a continent
        raise ConfigurationError(f"--timezone {zone}: no such zone; give one as Europe/Berlin") from error
    return zone


def _check(table: Timetable) -> None:
    # Others, and croniter, take six and seven, and differ on which of them is of seconds.
    if table.kind == "cron" and (fields := len(table.expression.split())) > 5:
        raise ConfigurationError(f"--cron '{table.expression}' has {fields} fields, not five: {MEANT['cron']}")
    try:
        comes = table.after(datetime.now(UTC))
    except ValueError:  # croniter's, dateutil's and pydantic's
        comes = None
    if comes is None:
        raise ConfigurationError(f"--{table.kind} '{table.expression}' names no time: {MEANT[table.kind]}")
