"""What of MLflow's client looking versions up and moving an alias needs, and how either store says no.

Two answer to it: `mlflow.MlflowClient`, for every store that there is, and `tasks.register.own`, for a workspace's own
file. Their exceptions have a code in common; MLflow's is looked for only where MLflow has been imported, which takes
seconds.
"""

from __future__ import annotations

import sys
from typing import Any, Protocol


class Version(Protocol):
    """A registered model's version; ``creation_timestamp`` is in milliseconds since the epoch."""

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> Any: ...
    @property
    def creation_timestamp(self) -> Any: ...
    @property
    def description(self) -> str | None: ...
    @property
    def run_id(self) -> str | None: ...
    @property
    def tags(self) -> dict[str, str]: ...


class Model(Protocol):
    """A registered model; ``aliases`` are versions by the alias that they have."""

    @property
    def name(self) -> str: ...
    @property
    def creation_timestamp(self) -> Any: ...
    @property
    def tags(self) -> dict[str, str]: ...
    @property
    def aliases(self) -> dict[str, Any]: ...


class Registry(Protocol):
    """MLflow's client, as far as it is needed here."""

    @property
    def tracking_uri(self) -> str: ...
    def get_registered_model(self, name: str) -> Model: ...
    def search_registered_models(self, *, page_token: str | None = None) -> Any: ...
    def create_registered_model(self, name: str, *, description: str | None = None) -> Any: ...
    def set_registered_model_tag(self, name: str, key: str, value: str) -> None: ...
    def delete_registered_model_tag(self, name: str, key: str) -> None: ...
    def set_registered_model_alias(self, name: str, alias: str, version: str) -> None: ...
    def delete_registered_model_alias(self, name: str, alias: str) -> None: ...
    def get_model_version(self, name: str, version: str) -> Version: ...
    def get_model_version_by_alias(self, name: str, alias: str) -> Version: ...
    def get_model_version_download_uri(self, name: str, version: str) -> str: ...
    def search_model_versions(
        self, filter_string: str, *, max_results: int = ..., page_token: str | None = None
    ) -> Any: ...
    def create_model_version(
        self, name: str, source: str, *, tags: dict[str, Any], description: str | None = None,
        await_creation_for: int = 0,
    ) -> Version: ...  # fmt: skip
    def update_model_version(self, name: str, version: str, description: str) -> Any: ...
    def set_model_version_tag(self, name: str, version: str, key: str, value: str) -> None: ...
    def delete_model_version(self, name: str, version: str) -> None: ...


class Declined(Exception):
    """A workspace's own store says no, or does not answer; ``error_code`` is what MLflow's exception would have."""

    def __init__(self, message: str, error_code: str) -> None:
        super().__init__(message)
        self.error_code = error_code


def refusals() -> tuple[Any, ...]:
    """The exceptions by which a registry says no.

    >>> try:
    ...     registry.get_registered_model("digits")
    ... except refusals() as error:
    ...     print(error.error_code)
    """
    mlflow = sys.modules.get("mlflow.exceptions")
    return (Declined, mlflow.MlflowException) if mlflow else (Declined,)
