"""When a pipeline is due, read before a server is started."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest.mock import Mock
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pytest
from prefect.server.schemas.schedules import RRuleSchedule

from flows.schedules.timetable import Timetable, read_timetable
from tasks.errors import ConfigurationError

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("cron", ["61 * * * *", "0 24 * * *", "0 3 * *", "", "H 3 * * *", "every night", "0 0 30 2 *"])
def test_a_cron_expression_that_names_no_time_is_one_line(cron: str) -> None:
    with pytest.raises(ConfigurationError, match=r"names no time.*'0 3 \* \* \*'") as told:
        read_timetable(cron, None, None, None)
    assert len(str(told.value).splitlines()) == 1


@pytest.mark.parametrize("cron", ["0 0 3 * * *", "0 0 3 * * ? 2027"])
def test_fields_for_seconds_or_years_are_refused_in_one_line(cron: str) -> None:
    with pytest.raises(
        ConfigurationError, match=r"has [67] fields, not five: it takes minute .*'0 3 \* \* \*'"
    ) as told:
        read_timetable(cron, None, None, None)
    assert len(str(told.value).splitlines()) == 1


def test_a_time_is_of_the_zone_that_is_named_and_the_next_three_are_shown() -> None:
    table = read_timetable("30 2 29 2 *", None, None, "Europe/Berlin")
    assert (table.expression, table.zone) == ("30 2 29 2 *", "Europe/Berlin")
    words = table.in_words
    assert words.count(" 29 Feb ") == words.count(" 02:30") == 3 and words.endswith("(Europe/Berlin)")


@pytest.mark.slow
def test_a_time_is_the_machines_own_by_default() -> None:
    code = "from flows.schedules import timetable; print(timetable.read_timetable('0 3 * * *', None, None, None).zone)"
    there = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, env=os.environ | {"TZ": "Asia/Tokyo"}
    )
    assert there.stdout.strip() == "Asia/Tokyo"


def test_a_rule_for_the_clock_in_place_of_a_zones_name_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "CET-1CEST")
    with pytest.raises(ConfigurationError, match=r"^TZ=CET-1CEST is no zone's name: give --timezone, as"):
        read_timetable("0 3 * * *", None, None, None)
    assert read_timetable("0 3 * * *", None, None, "Europe/Berlin").zone == "Europe/Berlin"
    assert read_timetable(None, 15, None, None).in_words == "every 15 s"
    monkeypatch.setenv("TZ", ":America/New_York")
    assert read_timetable("0 3 * * *", None, None, None).zone == "America/New_York"


@contextmanager
def nameless(clock: str) -> Iterator[None]:
    """A machine whose clock goes by this rule, and whose zone has no name, as where /etc/localtime is a copy."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("tzlocal.get_localzone_name", lambda: None)
        patched.setenv("TZ", clock)
        time.tzset()
        patched.delenv("TZ")
        yield
    time.tzset()


def test_a_machine_whose_zone_has_no_name_is_told_to_give_one() -> None:
    told = r"has no name .*: give --timezone, as --timezone Europe/Berlin"
    with nameless("CET-1CEST"), pytest.raises(ConfigurationError, match=told):
        read_timetable("0 3 * * *", None, None, None)
    with nameless("CET-1CEST"):
        assert read_timetable("0 3 * * *", None, None, "Europe/Berlin").zone == "Europe/Berlin"
        assert read_timetable(None, 15, None, None).in_words == "every 15 s"
    with nameless("UTC0"):
        assert read_timetable("0 3 * * *", None, None, None).zone == "UTC"


def test_zones_of_a_machine_that_contradict_each_other_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    told = "Multiple conflicting time zone configurations found:\n/etc/timezone: A\n/etc/localtime: B\n"
    monkeypatch.setattr("tzlocal.get_localzone_name", Mock(side_effect=ZoneInfoNotFoundError(told)))
    monkeypatch.delenv("TZ", raising=False)
    with pytest.raises(ConfigurationError, match=r"give --timezone.*conflicting .* /etc/localtime: B") as raised:
        read_timetable("0 3 * * *", None, None, None)
    assert len(str(raised.value).splitlines()) == 1


@pytest.mark.parametrize("zone", ["Mars", "../etc/passwd", "/etc/localtime", "Europe", "localtime", "Factory"])
def test_an_unknown_zone_is_one_line(zone: str) -> None:
    with pytest.raises(ConfigurationError, match="no such zone; give one as Europe/Berlin"):
        read_timetable("0 3 * * *", None, None, zone)


def test_one_way_of_saying_when_is_wanted() -> None:
    assert read_timetable(None, 15, None, None).in_words == "every 15 s"
    for given in ((None, None, None), ("0 3 * * *", 15, None), (None, 15, "FREQ=DAILY")):
        with pytest.raises(ConfigurationError, match="one of --cron, --interval and --rrule"):
            read_timetable(*given, None)


@pytest.mark.parametrize(
    ("rule", "zone", "hour", "last"),
    [
        ("FREQ=DAILY;UNTIL=20291231T220000Z;BYHOUR=23;BYMINUTE=0", "Europe/Berlin", 22, "2029-12-31T22:00"),
        ("FREQ=DAILY;UNTIL=20291231T215959Z;BYHOUR=23;BYMINUTE=0", "Europe/Berlin", 22, "2029-12-30T22:00"),
        ("DTSTART;TZID=Asia/Tokyo:20290101T030000\nRRULE:FREQ=DAILY", None, 18, None),
        ("DTSTART;VALUE=DATE-TIME;TZID=Asia/Tokyo:20290101T030000\nRRULE:FREQ=DAILY", "Asia/Tokyo", 18, None),
        ("DTSTART;VALUE=DATE:20290101\nRRULE:FREQ=DAILY;UNTIL=99991231T235959Z", "Europe/Berlin", 23, None),
        ("DTSTART;TZID=Asia/Tokyo:20290101\nRRULE:FREQ=DAILY;BYHOUR=3", None, 18, None),
        ("DTSTART:20290101T030000Z\nRRULE:FREQ=DAILY;UNTIL=20291231T030000Z", None, 3, "2029-12-31T03:00"),
    ],
)
def test_calendars_rules_mean_the_zone_that_they_say(rule: str, zone: str | None, hour: int, last: str | None) -> None:
    table = read_timetable(None, None, rule, zone)
    [first] = table.next_times(1, datetime(2029, 12, 1, 12, tzinfo=UTC))
    assert first.hour == hour
    times = table.next_times(5, datetime(2029, 12, 29, 23, tzinfo=UTC))
    assert last is None or times[-1] == datetime.fromisoformat(last).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("dates", "times"),
    [
        ("EXDATE:20291202T020000Z", ["01", "03", "04"]),
        ("EXDATE:20291201T030000,20291202T020000Z", ["03", "04", "05"]),
        ("EXDATE;TZID=America/New_York:20291201T210000", ["01", "03", "04"]),
        ("exdate;value=date-time;tzid=America/New_York:20291130T210000,20291201T210000", ["03", "04", "05"]),
        ("EXDATE;TZID=Europe/Berlin:20291202T030000", ["01", "03", "04"]),
        ("RDATE:20291201T060000Z", ["01", "01 07:00:00", "02"]),
        ("RDATE;TZID=Asia/Tokyo:20291202T000000\nEXDATE:20291202T020000Z", ["01", "01 16:00:00", "03"]),
    ],
)
def test_single_dates_of_a_rule_mean_the_zone_that_they_say(dates: str, times: list[str]) -> None:
    table = read_timetable(None, None, f"RRULE:FREQ=DAILY;BYHOUR=3\n{dates}", "Europe/Berlin")
    nights = [time if " " in time else f"{time} 03:00:00" for time in times]
    assert told(table, 3, datetime(2029, 11, 30, 12, tzinfo=UTC)) == nights


@pytest.mark.parametrize("date", ["EXDATE;VALUE=DATE:20291225", "EXDATE:20291224T030000,20291225", "RDATE:20291225"])
def test_a_date_without_a_time_of_day_is_one_line_with_what_to_write(date: str) -> None:
    with pytest.raises(
        ConfigurationError, match=r"the day 20291225 .*: write the time .*DATE:20291225T030000"
    ) as raised:
        read_timetable(None, None, f"RRULE:FREQ=DAILY;BYHOUR=3\n{date}", "Europe/Berlin")
    assert len(str(raised.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("date", "why"),
    [
        ("EXDATE;TZID=Mars:20291225T030000", "EXDATE is in Mars, which is no zone"),
        ("EXDATE:20291399T030000Z", "names no time"),
        ("RDATE;VALUE=PERIOD:20291225T030000Z/PT1H", "names no time"),
        ("EXDATE:,", "names no time"),
    ],
)
def test_a_date_that_is_none_is_one_line(date: str, why: str) -> None:
    with pytest.raises(ConfigurationError, match=why) as raised:
        read_timetable(None, None, f"RRULE:FREQ=DAILY;BYHOUR=3\n{date}", "Europe/Berlin")
    assert len(str(raised.value).splitlines()) == 1


def test_two_zones_of_one_rule_are_one_line() -> None:
    with pytest.raises(ConfigurationError, match="begins in Asia/Tokyo, and --timezone is Europe/Berlin: leave one"):
        read_timetable(None, None, "DTSTART;TZID=Asia/Tokyo:20290101T030000\nRRULE:FREQ=DAILY", "Europe/Berlin")
    with pytest.raises(ConfigurationError, match="Mars: no such zone"):
        read_timetable(None, None, "DTSTART;TZID=Mars:20290101T030000\nRRULE:FREQ=DAILY", None)


@pytest.mark.parametrize(
    "rule",
    [
        "FREQ=NONSENSE",
        "every night",
        "",
        "FREQ=DAILY;UNTIL=20200101T000000",
        "FREQ=DAILY;UNTIL=20261399T000000Z",
        "FREQ=HOURLY;INTERVAL=1000000000000000",
        "INTERVAL=5",
        "FREQ=HOURLY;INTERVAL=0",
        "FREQ=DAILY;INTERVAL=-1",
        "FREQ=SECONDLY;BYMONTH=2;BYMONTHDAY=30",
        "FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30",
        "FREQ=MINUTELY;BYSETPOS=2",
        "FREQ=DAILY;BYSETPOS=-2",
        "RRULE:FREQ=DAILY\nRRULE:FREQ=HOURLY;BYYEARDAY=1;BYMONTH=2",
    ],
)
def test_a_rule_that_names_no_time_is_one_line(rule: str) -> None:
    with pytest.raises(ConfigurationError, match=r"--rrule .*names no time.*FREQ=WEEKLY") as told:
        read_timetable(None, None, rule, None)
    assert len(str(told.value).splitlines()) == 1


@pytest.mark.parametrize(
    "rule",
    [
        "FREQ=MONTHLY;BYDAY=5MO;BYHOUR=3",
        "FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1",
        "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29",
        "FREQ=YEARLY;BYEASTER=0",
        "FREQ=HOURLY;INTERVAL=6;BYMINUTE=0,30;BYSETPOS=-1;BYDAY=SA",
        "DTSTART:20260101T030000\nRRULE:FREQ=DAILY;INTERVAL=2;COUNT=9999",
        "FREQ=DAILY;BYHOUR=3;BYMINUTE=0;BYSECOND=0;COUNT=5",
    ],
)
def test_rules_that_come_seldom_or_by_their_place_are_taken(rule: str) -> None:
    assert read_timetable(None, None, rule, "Europe/Berlin").expression == rule


MADE = datetime(2026, 11, 25, 14, 30, tzinfo=ZoneInfo("Europe/Berlin"))
"""A Wednesday."""


def ruled(rule: str, made: datetime | None = MADE) -> Timetable:
    return Timetable("rrule", rule, "Europe/Berlin", made.timestamp() if made else 0.0)


def told(table: Timetable, count: int, moment: datetime = MADE) -> list[str]:
    times = table.next_times(count, moment)
    return [time.astimezone(ZoneInfo(table.zone)).strftime("%d %H:%M:%S") for time in times]


@pytest.mark.parametrize(
    ("rule", "times"),
    [
        ("FREQ=DAILY;BYHOUR=3;BYMINUTE=0;COUNT=3", ["26 03:00:00", "27 03:00:00", "28 03:00:00"]),
        ("FREQ=DAILY;BYHOUR=3,15;BYMINUTE=0;COUNT=3", ["25 15:00:00", "26 03:00:00", "26 15:00:00"]),
        ("FREQ=DAILY;COUNT=2", ["26 00:00:00", "27 00:00:00"]),
        ("rrule:freq=hourly;interval=6;count=2", ["25 18:00:00", "26 00:00:00"]),
        ("RRULE:FREQ=DAILY;COUNT=1\nRRULE:FREQ=HOURLY;COUNT=2", ["25 15:00:00", "25 16:00:00", "26 00:00:00"]),
        ("FREQ=DAILY;COUNT=2;BYHOUR=3\nEXDATE:20261126T030000", ["27 03:00:00"]),
        ("FREQ=DAILY;INTERVAL=2;BYHOUR=3", ["27 03:00:00", "29 03:00:00", "01 03:00:00", "03 03:00:00"]),
        ("FREQ=WEEKLY;INTERVAL=2", ["09 00:00:00", "23 00:00:00", "06 00:00:00", "20 00:00:00"]),
        ("DTSTART:20261101T030000\nRRULE:FREQ=DAILY;COUNT=27", ["26 03:00:00", "27 03:00:00"]),
    ],
)
def test_a_rule_that_says_no_first_day_begins_when_it_was_made(rule: str, times: list[str]) -> None:
    assert told(ruled(rule), 4) == times
    assert told(ruled(rule), 4, MADE + timedelta(seconds=1)) == times


def test_a_rule_that_has_come_as_often_as_it_was_to_comes_no_more_and_says_so() -> None:
    over = Timetable("rrule", "FREQ=DAILY;COUNT=2", "Europe/Berlin", datetime(2026, 1, 1, tzinfo=UTC).timestamp())
    assert over.after(datetime(2026, 1, 4, tzinfo=UTC)) is None and over.in_words.endswith("next never (Europe/Berlin)")


def test_a_rule_that_was_made_by_a_clock_that_was_ahead_comes_before_that() -> None:
    assert told(ruled("FREQ=DAILY;BYHOUR=3;COUNT=9"), 1, MADE - timedelta(days=900)) == ["09 03:00:00"]


def test_a_rule_of_which_nobody_knows_when_it_was_made_counts_from_when_it_did() -> None:
    assert told(ruled("FREQ=DAILY;INTERVAL=2", None), 2) == ["27 00:00:00", "29 00:00:00"]


@pytest.mark.parametrize(
    "moment", [MADE, datetime(2027, 3, 28, 0, 59, 59, tzinfo=UTC), datetime(2027, 10, 31, 1, tzinfo=UTC)]
)
@pytest.mark.parametrize(
    "rule",
    [
        "FREQ=SECONDLY;INTERVAL=7",
        "FREQ=MINUTELY;INTERVAL=25;BYHOUR=2,3,4,12",
        "FREQ=HOURLY;INTERVAL=5;BYMINUTE=10,40;BYSETPOS=-1",
        "FREQ=DAILY;INTERVAL=3;BYMONTH=3,11;BYHOUR=2",
        "FREQ=WEEKLY;INTERVAL=2;BYDAY=MO,SU;WKST=SU",
        "FREQ=WEEKLY;BYDAY=MO,WE,FR;BYSETPOS=2",
        "FREQ=DAILY;INTERVAL=4\nRRULE:FREQ=HOURLY;INTERVAL=7\nEXRULE:FREQ=HOURLY;INTERVAL=3",
        "FREQ=MONTHLY;INTERVAL=5;BYDAY=-1FR",
    ],
)  # fmt: skip
def test_what_a_rule_names_is_the_same_from_however_near_it_is_worked_off(rule: str, moment: datetime) -> None:
    first = f"DTSTART:{moment - timedelta(days=20):%Y%m%dT%H%M%S}\n"
    whole = RRuleSchedule(rrule=first + f"RRULE:{rule}", timezone="Europe/Berlin")
    times = asyncio.run(whole.get_dates(6, start=moment + timedelta(microseconds=1)))
    assert ruled(first + f"RRULE:{rule}").next_times(6, moment) == [time for time in times if time > moment]


@pytest.mark.parametrize("rule", ["FREQ=MINUTELY", "FREQ=MINUTELY;INTERVAL=5", "DTSTART:20200101\nRRULE:FREQ=MINUTELY"])
@pytest.mark.parametrize("made", [MADE, None])
def test_the_next_time_of_a_rule_that_began_long_ago_is_soon_found(rule: str, made: datetime | None) -> None:
    table, moment = ruled(rule, made), MADE + timedelta(days=1000)
    began = time.process_time()
    table.next_times(3, moment)
    assert time.process_time() - began < 1  # it was a minute


def test_a_time_is_later_than_the_moment_and_each_comes_once() -> None:
    noon = datetime(2026, 3, 2, 12, tzinfo=UTC)
    every = Timetable("interval", "15", "UTC", noon.timestamp())
    assert every.after(noon) == noon + timedelta(seconds=15)
    assert every.after(noon + timedelta(seconds=14.9)) == noon + timedelta(seconds=15)
    assert Timetable("cron", "0 12 * * *", "UTC").after(noon) == noon + timedelta(days=1)
    mondays = Timetable("rrule", "FREQ=WEEKLY;BYDAY=MO;BYHOUR=13;BYMINUTE=0;BYSECOND=0", "Europe/Berlin")
    assert mondays.after(noon) == noon + timedelta(days=7)


def test_three_in_the_morning_stays_so_when_the_clocks_change() -> None:
    nightly = Timetable("cron", "0 3 * * *", "Europe/Berlin")
    times = nightly.next_times(3, datetime(2026, 3, 27, 12, tzinfo=UTC))
    assert [time.astimezone(UTC).hour for time in times] == [2, 1, 1]


@pytest.mark.parametrize("night", [(2026, 10, 25), (2026, 3, 29)])
@pytest.mark.parametrize("cron", ["30 2 * * *", "0 2 * * *", "0 3 * * *"])
def test_what_is_due_once_a_night_comes_once_in_nights_that_lack_or_repeat_an_hour(
    night: tuple[int, int, int], cron: str
) -> None:
    table, zone = Timetable("cron", cron, "Europe/Berlin"), ZoneInfo("Europe/Berlin")
    begin = datetime(*night, tzinfo=zone) - timedelta(days=1)
    moment, days = begin.astimezone(UTC), []
    while (after := table.after(moment)) and len(days) < 4:
        moment = after
        days.append(after.astimezone(zone).date())
    assert days == [begin.date() + timedelta(days=day) for day in range(4)]


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Australia/Sydney"])
@pytest.mark.parametrize(
    ("kind", "expression", "runs"),
    [("cron", "0 * * * *", 23), ("cron", "30 2 * * *", 1), ("cron", "0 2 * * *", 1), ("cron", "*/15 * * * *", 92),
     ("rrule", "FREQ=HOURLY;BYMINUTE=0;BYSECOND=0", 23)],
)  # fmt: skip
def test_time_goes_on_where_an_hour_is_left_out(zone: str, kind: str, expression: str, runs: int) -> None:
    table = Timetable(kind, expression, zone)
    night = {"Europe/Berlin": (3, 28), "America/New_York": (3, 14), "Australia/Sydney": (10, 3)}[zone]
    moment = datetime(2027, *night, tzinfo=ZoneInfo(zone)).astimezone(UTC)
    end, count = datetime(2027, night[0], night[1] + 1, tzinfo=ZoneInfo(zone)).astimezone(UTC), 0
    while (after := table.after(moment)) and after < end:
        assert after > moment
        moment, count = after, count + 1
    assert runs - 4 <= count <= runs + 1


@pytest.mark.slow
def test_a_bad_schedule_starts_no_server(tmp_path: Path) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "HEADSTART_"))}
    finished = subprocess.run(
        [sys.executable, "-m", "flows.cli", "schedule", str(ROOT / "configs/digits.yaml"), "--cron", "61 * * * *"],
        cwd=ROOT, capture_output=True, text=True, env=kept | {"HEADSTART_WORKSPACE": str(tmp_path)},
    )  # fmt: skip
    assert finished.returncode == 2 and finished.stdout == "" and len(finished.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "mlruns/prefect/server.json").exists()
