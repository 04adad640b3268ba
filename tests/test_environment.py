"""The machine as a record tells it: what a reader needs, and nothing that names a host."""

import platform
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pynvml
import pytest

from deploycost.environment import MachineFacts, machine_facts, named_cpu, now, usable_cores


def test_facts_are_this_machine() -> None:
    facts = machine_facts("c7i.large")
    assert facts.cpu_cores == len(usable_cores()) >= 1
    assert facts.memory_bytes == psutil.virtual_memory().total
    assert facts.python == platform.python_version()
    assert facts.instance_type == "c7i.large"
    assert {"torch", "transformers", "onnxruntime"} <= facts.packages.keys()
    assert facts.cpu_model
    assert MachineFacts.model_validate_json(facts.model_dump_json()) == facts


def test_facts_name_no_host_and_no_place() -> None:
    facts = machine_facts()
    assert platform.node() not in facts.model_dump(exclude={"packages"}).values()
    assert str(Path.home()) not in facts.model_dump_json()


def test_cores_are_those_that_this_process_may_use() -> None:
    cores = usable_cores()
    assert cores == sorted(set(cores))
    code = "import os; os.sched_setaffinity(0, {%d}); from deploycost.environment import *; print(usable_cores())"
    pinned = subprocess.run([sys.executable, "-c", code % cores[-1]], capture_output=True, text=True, check=True)
    assert pinned.stdout.strip() == f"[{cores[-1]}]"


def test_now_is_utc_to_the_second() -> None:
    moment = datetime.fromisoformat(now())
    assert moment.tzinfo == UTC
    assert moment.microsecond == 0
    assert abs(datetime.now(UTC) - moment) < timedelta(seconds=3)


def test_telling_the_machine_loads_no_framework() -> None:
    code = (
        "import sys; from deploycost.environment import machine_facts; machine_facts();"
        "print(sorted({'torch', 'transformers', 'onnxruntime', 'locust'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def _machine_of_two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    names = {0: "first", 1: "second", "GPU-1": "second"}
    answers: dict[str, Any] = {
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: None,
        "nvmlDeviceGetHandleByIndex": lambda index: index,
        "nvmlDeviceGetHandleByUUID": lambda uuid: uuid,
        "nvmlDeviceGetName": lambda handle: names[handle],
    }
    for name, answer in answers.items():
        monkeypatch.setattr(pynvml, name, answer)


@pytest.mark.parametrize(
    ("visible", "uuid", "told"),
    [
        (None, None, "first"),
        ("1,0", None, "second"),
        ("GPU-1", None, "second"),
        ("0", "GPU-1", "second"),
        ("", None, None),
        ("-1", None, None),
    ],
)
def test_the_gpu_told_is_the_one_that_is_used(
    monkeypatch: pytest.MonkeyPatch, visible: str | None, uuid: str | None, told: str | None
) -> None:
    _machine_of_two_gpus(monkeypatch)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert machine_facts(gpu_uuid=uuid).gpu_model == told


@pytest.mark.parametrize(
    ("told", "name"),
    [
        (("AMD EPYC", "26", "2"), "AMD EPYC Turin (name masked; family 26, model 2)"),
        (("AMD EPYC Processor", "23", "49"), "AMD EPYC Processor Rome (name masked; family 23, model 49)"),
        (("AMD EPYC", "99", "1"), "AMD EPYC"),
        (("AMD EPYC 9R14", "25", "17"), "AMD EPYC 9R14"),
        (("Intel(R) Xeon(R) Platinum 8488C", "6", "143"), "Intel(R) Xeon(R) Platinum 8488C"),
    ],
)
def test_a_masked_name_is_told_by_its_generation(told: tuple[str, str, str], name: str) -> None:
    core = "processor\t: 0\nvendor_id\t: x\ncpu family\t: {1}\nmodel\t\t: {2}\nmodel name\t: {0}\nstepping\t: 1\n\n"
    assert named_cpu(core.format(*told) * 2) == name


def test_a_machine_that_says_nothing_has_no_named_cpu() -> None:
    assert named_cpu("") == ""
