"""Which images a model is adapted to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasks.errors import ConfigurationError
from tasks.wording import counted

if TYPE_CHECKING:
    import pandas as pd

FEWEST = 2
"""Images that can be adapted to, at least."""


def target_rows(manifest: pd.DataFrame, report_on: str) -> pd.DataFrame:
    """Of the manifest, the images of the domain that is adapted to: those of the pool that are of the domains that are
    tested on, where nothing of these is learned from; else those of a domain that nothing is learned from; or all of
    the pool, where domains do not tell.

    Raises:
        ConfigurationError: there are fewer than two of the domain that is tested on.
    """
    pool = manifest[manifest["split"] == "pool"]
    learned, tested = (
        set(manifest.loc[manifest["split"] == split, "domain"].fillna("")) for split in ("train", report_on)
    )
    domains = pool["domain"].fillna("")
    if learned.isdisjoint(tested):  # what has no domain is of the target where nothing like it is learned from
        chosen = pool[domains.isin(tested | ({""} - learned))]
        if len(chosen) < FEWEST:
            raise ConfigurationError(
                f"of the domain that is adapted to, the pool has {counted(len(chosen), 'image')}, and {FEWEST} are the "
                "least: raise ingest.split.unlabelled, or add images of it without labels"
            )
        return chosen
    chosen = pool[~domains.isin(learned | {""})]
    return chosen if len(chosen) >= FEWEST else pool
