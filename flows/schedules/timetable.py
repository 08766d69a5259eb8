"""When a pipeline is due: by Cron, at an interval, or by a rule of calendars (RFC 5545)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from flows.schedules.rules import begun, by_the_clock, can_come, zone_of_start
from flows.schedules.zones import zone_of
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
        anchor: when it was made, in seconds since the epoch: an interval is counted from then, and a rule that says
            no first day begins on that day. 0: nobody knows.
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
        rule = self._rule(moment)
        # Of an hour that a change of clocks leaves out, Prefect gives the one before, even where that is over.
        for more in (0, 8, 4 * 60):
            times: Sequence[datetime] = asyncio.run(rule.get_dates(count + more, start=moment + SHORTEST))
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
        return f"{self.kind} {self.expression}, next {shown or 'never'} ({self.zone})"

    def _rule(self, moment: datetime) -> CronSchedule | IntervalSchedule | RRuleSchedule:
        from prefect.server.schemas.schedules import CronSchedule, IntervalSchedule, RRuleSchedule

        if self.kind == "interval":
            anchor = datetime.fromtimestamp(self.anchor, UTC)
            return IntervalSchedule(interval=timedelta(seconds=int(self.expression)), anchor_date=anchor)  # type: ignore[arg-type]
        if self.kind == "cron":
            return CronSchedule(cron=self.expression, timezone=self.zone)
        return RRuleSchedule(rrule=begun(self.expression, self.zone, self.anchor, moment), timezone=self.zone)


@lru_cache(64)  # whoever waits for a time asks twice a second
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
    zone = zone_of(timezone or zone_of_start(expression)) if timezone or of_day else "UTC"
    if kind == "rrule":
        expression = by_the_clock(expression, zone)
    table = Timetable(kind, expression, zone, round(datetime.now(UTC).timestamp()))
    if of_day:
        _check(table)
    return table


def _check(table: Timetable) -> None:
    # Others, and croniter, take six and seven, and differ on which of them is of seconds.
    if table.kind == "cron" and (fields := len(table.expression.split())) > 5:
        raise ConfigurationError(f"--cron '{table.expression}' has {fields} fields, not five: {MEANT['cron']}")
    try:
        # dateutil would look for the first time of a rule that has none for hours, or for ever.
        never = table.kind == "rrule" and not can_come(table.expression)
        comes = None if never else table.after(datetime.now(UTC))
    except (ValueError, TypeError):  # croniter's, dateutil's and pydantic's; where no FREQ is said
        comes = None
    if comes is None:
        said = " ".join(table.expression.split())
        raise ConfigurationError(f"--{table.kind} '{said}' names no time: {MEANT[table.kind]}")
