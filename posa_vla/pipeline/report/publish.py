"""The page and MLflow: the report among a run's artifacts, and words on the pages of run, version and model."""

from __future__ import annotations

from pathlib import Path

from posa_vla.pipeline.report.facts import RetrainingFacts
from posa_vla.pipeline.report.page import ARTIFACTS, PICTURE, REPORT, write_report
from posa_vla.pipeline.report.words import Links, model_description, retraining_description
from posa_vla.promotion.registry import describe_model
from posa_vla.tracking import TrackedRun


def publish_report(run: TrackedRun, facts: RetrainingFacts, folder: Path) -> Path:
    """Writes a retraining's report, logs it to its MLflow run, and describes run, version and model with its words.

    A second call with the same facts leaves everything as it is.

    Args:
        run: The retraining's.
        facts: See `gather_facts`.
        folder: Folder of this retraining, where the page is kept.

    Returns:
        The page's path.

    Raises:
        PosaError: MLflow refused.
    """
    page = write_report(folder, facts)
    run.log_bytes(page.read_bytes(), f"{ARTIFACTS}/{REPORT}")
    picture = folder / PICTURE
    if picture.is_file():
        run.log_picture(picture.read_bytes(), "success")
    links = Links(run=run.page(), report=run.page(f"{ARTIFACTS}/{REPORT}"), videos=run.page("videos"))
    about = retraining_description(facts, links)
    run.describe(about)
    describe_model(run.client, facts.target, facts.candidate.model_version, model_description(facts, links), about)
    return page
