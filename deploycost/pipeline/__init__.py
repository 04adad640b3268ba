"""The order of stages: which are done already, which are due, and who does them."""

from deploycost.pipeline.building import build
from deploycost.pipeline.child import WorkerJob, WorkerOutcome, memory_advice, run_worker, worker_environment
from deploycost.pipeline.due import (
    begun_at_step,
    due_stages,
    export_fingerprint,
    export_is_done,
    finished,
    profile_is_done,
    tell_limit,
    tuning_fingerprint,
)
from deploycost.pipeline.load import (
    LoadBench,
    load_bench,
    load_failure,
    load_test,
    measure_service,
    sample_texts,
    soak_failure,
    soak_service,
    soak_test,
)
from deploycost.pipeline.material import Material, Say, gather
from deploycost.variants import variants_of

__all__ = [
    "LoadBench",
    "Material",
    "Say",
    "WorkerJob",
    "WorkerOutcome",
    "begun_at_step",
    "build",
    "due_stages",
    "export_fingerprint",
    "export_is_done",
    "finished",
    "gather",
    "load_bench",
    "load_failure",
    "load_test",
    "measure_service",
    "memory_advice",
    "profile_is_done",
    "run_worker",
    "sample_texts",
    "soak_failure",
    "soak_service",
    "soak_test",
    "tell_limit",
    "tuning_fingerprint",
    "variants_of",
    "worker_environment",
]
