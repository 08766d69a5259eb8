"""What the stages' doors share: how a stage becomes a Prefect task, cached by what it depends on."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast

from prefect import Task, task
from prefect.cache_policies import NO_CACHE, CachePolicy
from prefect.context import TaskRunContext
from prefect.results import ResultRecord
from prefect.settings import PREFECT_LOCAL_STORAGE_PATH
from pydantic import BaseModel

from tasks.fingerprint import code_version, fingerprint
from tasks.record import Record

P = ParamSpec("P")
R = TypeVar("R")

GROUND_FLOOR = Path(__file__).parent

FORM = 2
"""Of the records that are kept. Since 2 the paths in them begin at the workspace's root."""


@dataclass
class StageCache(CachePolicy):
    """A stage's result is good while its section of the configuration, its inputs' fingerprints, its code and
    whatever ``state`` reads from the world stay the same, and the files that it names are there."""

    code: Path = GROUND_FLOOR
    state: Callable[..., Any] | None = None

    def compute_key(
        self, task_ctx: TaskRunContext, inputs: dict[str, Any], flow_parameters: dict[str, Any], **_: Any
    ) -> str | None:
        values = {name: _identity(value) for name, value in inputs.items()}
        world = self.state(**inputs) if self.state else None
        key = fingerprint(task_ctx.task.name, values, world, code_version(self.code), FORM)
        _forget_if_incomplete(Path(PREFECT_LOCAL_STORAGE_PATH.value()) / key)
        return key


def _identity(value: Any) -> Any:
    if isinstance(value, Record):
        return value.fingerprint
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else value


def _forget_if_incomplete(result: Path) -> None:
    """Caches may be deleted at any time; a remembered record whose files are gone must not be believed."""
    if not result.is_file():
        return
    try:
        record: Any = ResultRecord.deserialize(result.read_bytes()).result
        complete = record.is_complete()
    except Exception:  # whatever a killed process or another version left there, it is only a cache
        complete = False
    if complete:
        record.note_use()
    else:
        result.unlink(missing_ok=True)


def _is_worth_retrying(_task: Any, _run: Any, state: Any) -> bool:
    """Disks and networks recover; mistakes in the data, the configuration or the code do not."""
    return isinstance(state.result(raise_on_failure=False), OSError)


def stage(state: Callable[..., Any] | None = None, cached: bool = True) -> Callable[[Callable[P, R]], Task[P, R]]:
    """Make a function a stage of the pipeline: a Prefect task with retries for I/O and a persisted result.

    Args:
        state: called with the task's arguments; what it returns belongs to the cache key. For what lies outside
            the pipeline, such as the files that a source names.
        cached: False for a stage that changes the world.
    """

    def make(function: Callable[P, R]) -> Task[P, R]:
        source = sys.modules[function.__module__].__file__
        assert source is not None
        make_task: Any = task(
            retries=2,
            retry_delay_seconds=[2, 10],
            retry_condition_fn=_is_worth_retrying,
            cache_policy=StageCache(code=Path(source).parent, state=state) if cached else NO_CACHE,
            persist_result=True,
            result_serializer="json",
            cache_result_in_memory=False,
        )
        return cast(Task[P, R], make_task(_timed(function)))

    return make


def _timed(function: Callable[P, R]) -> Callable[P, R]:
    """Note in the record how long it took to make, by which its cost is known wherever it is found again."""

    @wraps(function)
    def timed(*args: P.args, **kwargs: P.kwargs) -> R:
        began = time.monotonic()
        record = function(*args, **kwargs)
        took = {"took": time.monotonic() - began}
        return record.model_copy(update=took) if isinstance(record, Record) else record

    return timed
