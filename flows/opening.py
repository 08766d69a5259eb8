"""How a command enters its workspace. Nothing heavy is imported before the environment is settled."""

from __future__ import annotations

from tasks.workspace import Workspace


def open_workspace(reads: bool = False) -> Workspace:
    """Find the workspace, settle the environment, and see to its MLflow store: that it answers, is sound and, if it is
    the workspace's own, knows where that stands now; and say of runs that died that they did, and do what
    was answered on Prefect's page.

    Args:
        reads: whether nothing is going to be written, so that the workspace may be another's.

    Raises:
        ConfigurationError: the workspace cannot be written.
        ServerError: the store does not answer.
        StorageError: the store is damaged, of another version, or cannot be used.
    """
    from flows.approvals import apply_answers
    from flows.databases import check_records
    from flows.environment import settle
    from flows.leases import close_dead
    from flows.relocation import relocate

    workspace = Workspace.find()
    settle(workspace, reads)
    check_records(workspace)
    if former := relocate(workspace):
        from flows.console import err

        places = " and ".join(map(str, former))
        err.print(
            f"this workspace was {places} and is {workspace.root} now: runs and models are looked for here",
            soft_wrap=True, markup=False,
        )  # fmt: skip
    close_dead(workspace)
    for line in apply_answers(workspace):
        from flows.console import err

        err.print(line, soft_wrap=True, markup=False)
    return workspace
