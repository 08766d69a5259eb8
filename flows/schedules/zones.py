"""Zones in which times of day are meant."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from tasks.errors import ConfigurationError

NAMELESS = "this machine's time zone has no name that can be relied on: give --timezone, as --timezone Europe/Berlin"


def zone_of(named: str | None) -> str:
    """The zone of this name, or this machine's own.

    Raises:
        ConfigurationError: there is no such zone, or this machine's has no name.
    """
    told = os.environ.get("TZ", "").removeprefix(":")
    if not named and told and not Path(told).is_absolute():
        # For rules as CET-1CEST, tzlocal and Prefect have no name, or UTC's.
        if not is_zone(told):
            raise ConfigurationError(f"TZ={told} is no zone's name: give --timezone, as --timezone Europe/Berlin")
        return told
    zone = named or _own_zone()
    if not is_zone(zone):
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


def is_zone(name: str) -> bool:
    """Whether there is a zone of this name."""
    # Files beside the zones: one of them under another name, and what a machine has before anybody says where it is.
    if name in ("localtime", "posixrules", "Factory"):
        return False
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # such as the folder of a continent
        return False
    return True
