"""`headstart approve` and `headstart reject`: a person's word on a version that waits for it."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.commands.arguments import Name
from flows.opening import open_workspace
from tasks.workspace import Workspace

Version = Annotated[str, typer.Argument(metavar="VERSION", help="Version or alias.")]
Why = Annotated[str, typer.Option("--why", "-m", help="Reason, kept with the version.")]


def approve(name: Name, version: Version, why: Why) -> None:
    """Make a version champion that waits for approval.

    Example: headstart approve digits 3 --why "the night images were mislabelled"
    """
    workspace = open_workspace(begins=False)
    from flows.console import out, shown
    from tasks.register import approval
    from tasks.register.store import open_registry

    with shown():
        made = approval.approve(open_registry(workspace), name, version, why)
    before = f" (was version {made.previous})" if made.previous else ""
    out.print(f"{name}: champion is version {made.version}{before}, approved by {made.who}")
    close_question(workspace, name, made.version)


def reject(name: Name, version: Version, why: Why) -> None:
    """Leave the champion where it is, and a version that waits for approval without an alias.

    Example: headstart reject digits 3 --why "too slow for the belt"
    """
    workspace = open_workspace(begins=False)
    from flows.console import out, shown
    from tasks.register import approval
    from tasks.register.registry import get_version
    from tasks.register.store import open_registry

    with shown():
        registry = open_registry(workspace)
        number = get_version(registry, name, version).version
        decision = approval.reject(registry, name, number, why)
    out.print(f"{name}: version {number} was {decision}")
    close_question(workspace, name, int(number))


def close_question(workspace: Workspace, name: str, version: int | None) -> None:
    """Have Prefect's page ask no more about a version that was decided on here, or say that it hears of it later."""
    from flows.console import err
    from flows.schedules.approvals import close_decided

    for line in close_decided(workspace, name, version) if version else []:
        err.print(line, soft_wrap=True)
