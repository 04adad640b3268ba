"""The stages that make variants: each method tuned, merged, exported and verified, as far as it is due."""

from __future__ import annotations

from deploycost.errors import NoAnswer
from deploycost.experiment import Experiment, TrackerName
from deploycost.exporting.artifacts import buildable
from deploycost.pipeline.child import WorkerJob, memory_advice, run_worker
from deploycost.pipeline.due import begun_at_step, due_stages, tell_limit, tuning_fingerprint
from deploycost.pipeline.material import Material, Say
from deploycost.units import MIB
from deploycost.workspace import Run, require_space

# A checkpoint and its successor, then the adapter, two bundles and their unfinished copies; a full fine-tune of a large
# encoder needs more.
_SPACE_PER_METHOD_BYTES = 800 * MIB


def build(run: Run, experiment: Experiment, material: Material, say: Say) -> list[str]:
    """Tunes, merges, exports and verifies what is not done yet of each method of the experiment.

    Returns:
        One line for each artifact that was refused.

    Raises:
        UserError: the tracker or an artifact asked for needs what is not here, or a method cannot be built;
            those before it are kept.
    """
    from deploycost.tuning.trackers import require_tracker

    tracker = experiment.telemetry.report_to
    require_tracker(tracker)
    names, left_out = buildable(experiment.artifacts)
    for line in left_out:
        say(line)
    experiment = experiment.model_copy(update={"artifacts": names})
    refused = []
    for method in experiment.methods:
        tuning_mark = tuning_fingerprint(experiment, method, material)
        due = due_stages(run, experiment, method, tuning_mark)
        slug = experiment.method_slug(method)
        tell_limit(run, slug, experiment)
        if not due:
            say(f"{slug}: done before, kept" + _unfollowed(tracker))
            continue
        require_space(run.folder, _SPACE_PER_METHOD_BYTES)
        begun = begun_at_step(run, slug) if "tuning" in due else None
        if "tuning" not in due and tracker != "none":
            say(f"{slug}: trained before, kept" + _unfollowed(tracker))
        say(f"{slug}: {', '.join(due)}" + (f"; found a checkpoint of step {begun}" if begun else ""))
        job = WorkerJob(run_folder=run.folder, experiment=experiment, method=method, tuning_fingerprint=tuning_mark)
        try:
            run_worker(job, method, memory_advice(method, experiment.training))
        except NoAnswer as answer:
            say(str(answer))
            refused.append(str(answer))
    return refused


def _unfollowed(tracker: TrackerName) -> str:
    return "" if tracker == "none" else f"; nothing to follow in {tracker}"
