"""`headstart rank`: which backbone suits a pipeline's images, told on a sample in minutes."""

# No postponed annotations here: Prefect builds the form of a flow's parameters from the real types.

import tempfile
from pathlib import Path

import pandas as pd
from prefect import flow, runtime

from flows.config import PipelineConfig
from flows.contenders import UNSUITED, by_name, reason
from flows.runs.leased import leased
from flows.runs.tracking import tracked
from tasks.errors import StorageError
from tasks.evaluate.transferability.ranking import Rated, ranking, ranking_figure
from tasks.evaluate.transferability.rating import rate_backbone
from tasks.evaluate.transferability.sample import draw_sample
from tasks.extract.stage import extract
from tasks.groups import group_numbers
from tasks.ingest.stage import ingest
from tasks.preprocess.stage import preprocess
from tasks.progress import tell
from tasks.workspace import Workspace


@flow(name="rank")
def rank(configs: list[PipelineConfig], images: int = 2_000) -> pd.DataFrame:
    """Score the features of several backbones on a sample of the training images; returns the table, the best first."""
    workspace, first = Workspace.find(), configs[0]
    with leased(workspace) as lease, tracked(_named(first), workspace, runtime.flow_run.name, lease) as run:
        dataset = ingest(first.ingest)
        sample = draw_sample(dataset, images, workspace)
        tell(f"sample\t{sample.counts['train']:,} of {sum(dataset.counts.values()):,} images")
        rated: list[Rated] = []
        unsuited: list[Exception] = []
        for name, config in by_name(configs).items():
            try:
                preprocessed = preprocess(config.preprocess, dataset)
                features = extract(config.extract, sample, preprocessed, ("train",))
                rated.append(rate_backbone(name, sample, preprocessed, features, workspace))
            except StorageError:  # which would meet the next one, too
                raise
            except UNSUITED as error:
                # What is wrong with one does not lose what the others have shown.
                tell(f"rank\t{name} is left out: {reason(error)}")
                unsuited.append(error)
                continue
            tell(f"rank\t{rated[-1].name}: {rated[-1].probe.value:.4f} {rated[-1].merit} of a linear probe")
        if not rated:
            raise unsuited[0]
        table = ranking(rated, group_numbers(sample.read_manifest()))
        with tempfile.TemporaryDirectory() as folder:
            table.to_csv(Path(folder) / "ranking.csv", index=False, float_format="%.4f")
            ranking_figure(table, f"Backbones for {first.name}").savefig(Path(folder) / "ranking.png")
            run.client.log_artifacts(run.id, folder)
        run.set_tags(data_version=dataset.version, sample=sample.fingerprint)
    return table


def _named(config: PipelineConfig) -> PipelineConfig:
    """Under a name of its own: these are no runs of the pipeline."""
    return config.model_copy(update={"name": f"{config.name}.rank"})
