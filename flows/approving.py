"""`headstart approve` and `headstart reject`: a person's word on a version that waits for it."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.opening import open_workspace

Name = Annotated[str, typer.Argument(metavar="NAME", help="Registered model.")]
Version = Annotated[str, typer.Argument(metavar="VERSION", help="Version or alias.")]
Why = Annotated[str, typer.Option("--why", "-m", help="Reason, kept with the version.")]


def approve(name: Name, version: Version, why: Why) -> None:
    """Make a version champion that waits for approval.

    Example: headstart approve digits 3 --why "the night images were mislabelled"
    """
    workspace = open_workspace()
    from flows.approvals import settle
    from flows.console import out, shown
    from tasks.register import approval
    from tasks.register.store import open_registry

    with shown():
        made = approval.approve(open_registry(workspace), name, version, why)
    settle(workspace)
    before = f" (was version {made.previous})" if made.previous else ""
    out.print(f"{name}: champion is version {made.version}{before}, approved by {made.who}", markup=False)


def reject(name: Name, version: Version, why: Why) -> None:
    """Leave the champion where it is, and a version that waits for approval without an alias.

    Example: headstart reject digits 3 --why "too slow for the belt"
    """
    workspace = open_workspace()
    from flows.approvals import settle
    from flows.console import out, shown
    from tasks.register import approval
    from tasks.register.registry import get_version
    from tasks.register.store import open_registry

    with shown():
        registry = open_registry(workspace)
        number = get_version(registry, name, version).version
        decision = approval.reject(registry, name, number, why)
    settle(workspace)
    out.print(f"{name}: version {number} was {decision}", markup=False)
