"""MLflow's store where there is none yet: nothing is in it, and a look at it begins none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NoReturn

from tasks.register.client import Declined
from tasks.register.own import Page


@dataclass(frozen=True)
class EmptyStore:
    """What of `mlflow.MlflowClient` looks things up, all in vain.

    Raises:
        Declined: by whatever is asked for one thing.
    """

    tracking_uri: str

    def _nothing(self, *_: Any, **__: Any) -> Page:
        return Page()

    search_experiments = search_runs = search_registered_models = search_model_versions = _nothing

    def _not_there(self, *_: Any, **__: Any) -> NoReturn:
        raise Declined("nothing has been recorded yet", "RESOURCE_DOES_NOT_EXIST")

    get_run = get_registered_model = get_model_version = get_model_version_by_alias = _not_there
