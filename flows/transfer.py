"""The main flow: labelled images in, a registered model out."""

# No postponed annotations here: Prefect builds the form of its parameters from the real types.

import os

from prefect import flow, get_run_logger, runtime
from prefect.artifacts import create_link_artifact, create_markdown_artifact

from flows.causes import explained
from flows.checks import check_classes, check_pipeline
from flows.config import PipelineConfig
from flows.runs.leased import check_delivery, leased
from flows.runs.summary import Outcome, one_line, summary_rows
from flows.runs.tracking import TrackedRun, tracked
from flows.runs.views import describe_run, link_to_report
from flows.schedules.approvals import ask
from flows.teaching import teachers_of
from tasks.choice import Choice
from tasks.evaluate.stage import compare, evaluate, inspect
from tasks.extract.stage import extract
from tasks.ingest.stage import ingest
from tasks.preprocess.stage import preprocess
from tasks.records import Candidate, Comparison, Dataset, Evaluation, FeatureSet, Preprocessed
from tasks.register.rivals import find_rival, looks_of
from tasks.register.stage import register
from tasks.report.stage import report
from tasks.train.check import begins_from, check_pool
from tasks.train.methods.auto import Auto
from tasks.train.stage import train
from tasks.workspace import Workspace


def _run_name() -> str:
    # The end of the id: it begins with the time, which runs of one schedule share.
    return f"{runtime.flow_run.parameters['config'].name}-{runtime.flow_run.id[-8:]}"


@flow(name="transfer", flow_run_name=_run_name, log_prints=False)
def transfer(config: PipelineConfig) -> Outcome:
    """Move what a pretrained backbone knows to the team's own classes."""
    workspace = Workspace.find()
    with leased(workspace) as lease:
        check_pipeline(config, workspace)
        with explained(workspace), tracked(config, workspace, runtime.flow_run.name, lease) as run:
            outcome = _within_budget(config, run) if isinstance(config.train, Auto) else _stages(config, run)
            describe_run(run.client, outcome)
            link = link_to_report(run.client, outcome.run_id, workspace.tracking_uri)
    check_delivery(outcome, one_line(outcome), workspace)
    if outcome.model.pending:
        ask(workspace, config.name)
    _announce(outcome, link)
    return outcome


def _within_budget(config: PipelineConfig, run: TrackedRun) -> Outcome:
    """The stages twice: for a model at once, and for the best that there was time to find."""
    from flows.anytime import anytime  # which imports what plans and ranks

    return anytime(config, run, _stages)


def _stages(config: PipelineConfig, run: TrackedRun, choice: Choice | None = None) -> Outcome:
    """One after another, each on record when it is done.

    Args:
        choice: how backbone and method were chosen, where they were.
    """
    run.set_tags(prefect_flow_run=runtime.flow_run.id)
    dataset = run.record(_ingested(config, run.workspace))
    check_classes(config, dataset)
    check_pool(config.train, dataset)
    preprocessed = run.record(preprocess(config.preprocess, dataset))
    teachers = teachers_of(config, dataset, preprocessed, run.workspace)
    features = run.record(extract(config.extract, dataset, begins_from(config.train, preprocessed)))
    candidate = run.record(train(config.train, dataset, preprocessed, features, teachers))
    final = features
    if candidate.backbone:
        # The backbone has changed, and with it its features of the images that are evaluated.
        weights = str(candidate.backbone.relative_to(Workspace.find().root))
        tuned = config.extract.model_copy(update={"weights": weights})
        final = run.record(extract(tuned, dataset, preprocessed, (dataset.choose_on, dataset.report_on)))
    learned_from = teachers if candidate.teachers else None  # a search may have ended with another method
    evaluation = run.record(evaluate(config.evaluate, dataset, final, candidate, features, learned_from))
    inspection = None
    if config.evaluate.inspects:
        inspection = run.record(inspect(config.evaluate, dataset, preprocessed, final, candidate))
    comparison = _held_against_champion(config, run, dataset, preprocessed, final, candidate, evaluation, features)
    made = (dataset, preprocessed, final, candidate, evaluation, comparison, inspection)
    model = run.record(register(config.register_, config.name, run.id, *made))
    settings = config.model_dump(mode="json", by_alias=True)
    told = run.record(report(settings, *made, model, choice))
    new = 0 if run.is_cached(features) else features.new
    return Outcome(
        run_id=run.id, dataset=dataset, features=features, candidate=candidate, evaluation=evaluation,
        comparison=comparison, inspection=inspection, model=model, report=told, choice=choice, new=new,
    )  # fmt: skip


def _ingested(config: PipelineConfig, workspace: Workspace) -> Dataset:
    """The dataset; one that was found in the cache comes back into ``data/`` where ``data.dvc`` was lost since."""
    dataset = ingest(config.ingest)
    if not os.path.lexists(workspace.dvc_file):
        from tasks.ingest.checkout import restore_version  # and what versions are made with

        restore_version(dataset.version, workspace, verify=False)
    return dataset


def _held_against_champion(
    config: PipelineConfig, run: TrackedRun, dataset: Dataset, preprocessed: Preprocessed, features: FeatureSet,
    candidate: Candidate, evaluation: Evaluation, frozen: FeatureSet,
) -> Comparison | None:  # fmt: skip
    """The candidate against the champion, unless there is none, or it is this one."""
    champion = find_rival(config.name, candidate.fingerprint, run.workspace)
    if champion is None:
        return None
    sees = preprocessed.seen_as(champion.geometry)
    theirs = extract(looks_of(champion, config.extract), dataset, sees, (dataset.choose_on, dataset.report_on))
    return run.record(compare(config.evaluate, dataset, features, candidate, champion, theirs, evaluation, frozen))


def _announce(outcome: Outcome, link: str) -> None:
    """Leave the summary where those who look at Prefect find it."""
    get_run_logger().info(one_line(outcome))
    rows = "\n".join(f"| {what} | {value.replace(chr(10), '<br>')} |" for what, value in summary_rows(outcome))
    create_markdown_artifact(f"| | |\n|---|---|\n{rows}\n\nMLflow run `{outcome.run_id}`", key="summary")
    create_link_artifact(
        link, "report.html", key="report",
        description=f"All of the run on one page. `headstart report {outcome.run_id[:8]}` opens it, or this link while "
        "`headstart ui` shows MLflow's page.",
    )  # fmt: skip
