"""Errors a user can act on. Each message says what is wrong, where, and what to do about it.

The command line prints any `HeadstartError` as one line and exits with code 2; every other exception is a bug
and keeps its traceback.
"""

from __future__ import annotations

from tasks.wording import brief


class HeadstartError(Exception):
    """Base of every error that the user, not the code, has to mend. Its message is never longer than a screen."""

    def __str__(self) -> str:
        return brief(super().__str__())


class ConfigurationError(HeadstartError):
    """The configuration names something that does not exist or has the wrong type."""


class DataError(HeadstartError):
    """A dataset or an image is missing, unreadable or cannot be learned from."""


class TooLarge(DataError):
    """An image has more pixels, or a file more bytes, than allowed."""


class WeightsError(HeadstartError):
    """Backbone weights are missing, unreachable or belong to another architecture."""


class StorageError(HeadstartError):
    """Something computed cannot be kept (a full disk, a quota, no locks), or what was kept is damaged."""


class RegistryError(HeadstartError):
    """A registered model, version or alias is missing, or the registry cannot be reached or written."""


class UnchangeableError(RegistryError):
    """The registry takes no changes now, or none of this user's."""


class ServerError(HeadstartError):
    """A server that a run needs could not be started or reached."""
