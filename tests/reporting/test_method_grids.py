from __future__ import annotations

from typing import Any

import pytest
from rich.cells import cell_len

from deploycost.records import Figure, TrainingMemory
from deploycost.reporting.tables import advice_panel, method_facts_table, outlooks_table, render
from deploycost.units import GIB, MIB
from deploycost.verdicts import MethodAdvice, MethodFacts, MethodOutlook


def _facts(**changes: Any) -> MethodFacts:
    fields: dict[str, Any] = {
        "method": "stacked",
        "summary": "QLoRA and virtual tokens, trained together",
        "serving_cost": "none: folded into the weights",
        "flags": {"--rank": "8", "--targets": "", "--eva": "off"},
        "batch_size": 8,
        "learning_rate": 1e-3,
        "prompt_learning_rate": 5e-3,
        "singular_value_learning_rate": None,
        "bits": 4,
        "trainable_parameters": 230_788,
        "head_parameters": 149_380,
        "predicted_memory": TrainingMemory(
            weights=100 * MIB, gradients=MIB, optimiser=2 * MIB, activations=300 * MIB, workspace=122 * MIB
        ),
    }
    return MethodFacts(**fields | changes)


def _outlook(slug: str = "lora-r8", **changes: Any) -> MethodOutlook:
    fields: dict[str, Any] = {
        "method": slug.partition("-")[0],
        "slug": slug,
        "trainable_parameters": 223_108,
        "batch_size": 8,
        "gradient_checkpointing": False,
        "adapted": False,
        "fits": True,
        "memory_bytes": Figure(value=400 * MIB, low=380 * MIB, high=440 * MIB, basis="projected"),
        "memory_source": "memory model; 9 trainings took 0.95 to 1.10 times what it predicts",
        "accuracy_drop": Figure(value=0.0076, low=-0.001, high=0.016),
        "accuracy_source": f"{slug} in own study methods",
        "training_speed_ratio": Figure(value=1.25),
        "training_source": f"{slug} in own study methods",
        "serving_cost_ratio": Figure(value=1.0, basis="projected"),
        "serving_source": "the very graph of full once merged",
    }
    return MethodOutlook(**fields | changes)


def _advice(**changes: Any) -> MethodAdvice:
    unknown = Figure(value=None, basis="assumed")
    fields: dict[str, Any] = {
        "base_model": "minilm",
        "dataset": "tickets",
        "device": "cpu",
        "memory_budget_bytes": GIB,
        "max_accuracy_drop": 0.01,
        "outlooks": (
            _outlook(),
            _outlook(
                "stacked-r128-p100-early", accuracy_drop=unknown, training_speed_ratio=unknown, adapted=True,
                batch_size=4, gradient_checkpointing=True, fits=False, serving_cost_ratio=Figure(value=1.4),
            ),
        ),
        "choice": "lora-r8",
        "reason": "1 of 2 methods trains within 1 GiB.",
        "doubts": ("The interval of its accuracy drop reaches 1.60 points: the limit may be missed.",),
        "evidence": ("own study methods: minilm on tickets, 4,000 training rows, 2 epochs, 3 seeds",),
    }  # fmt: skip
    return MethodAdvice(**fields | changes)


@pytest.mark.parametrize("width", [80, 120])
def test_tables_fit_the_terminal(width: int) -> None:
    facts = render(method_facts_table([_facts(), _facts(method="full", flags={}, bits=None)], "minilm", "cpu", width))
    outlooks = render(outlooks_table(_advice(), width), width)
    for text in (facts, outlooks):
        assert max(cell_len(line) for line in text.splitlines()) <= width


def test_what_a_method_is() -> None:
    text = render(method_facts_table([_facts(), _facts(method="full", flags={})], "minilm", "cpu"))
    flat = " ".join(text.split())
    assert "--rank 8, --targets, --eva off" in text
    assert "no flags of its own" in text
    assert "serving costs nothing more (folded" in text
    assert "81,408" in text  # 230,788 less the head's 149,380
    assert " 525" in text  # 100 + 1 + 2 + 300 + 122
    assert "virtual tokens learn at 0.005." in flat


def test_outlooks_with_basis_interval_and_evidence() -> None:
    lines = render(outlooks_table(_advice(), 120), 120).splitlines()
    first = next(line for line in lines if line.startswith("lora-r8 *"))
    assert first.split()[:9] == ["lora-r8", "*", "400", "p", "yes", "0.76", "m", "1.25", "m"]
    assert first.split()[9:] == ["1.00", "p", "own", "study", "methods"]
    flat = " ".join(" ".join(lines).split())
    assert "380-440" in flat
    assert "-0.10 to 1.60" in flat
    assert "batch 4, checkpointing" in flat
    assert "Evidence: own study methods: minilm on tickets" in flat
    assert "Evidence: none" in " ".join(render(outlooks_table(_advice(evidence=()))).split())


def test_the_choice_in_words() -> None:
    text = " ".join(render(advice_panel(_advice(), "deploycost build --method lora")).replace("│", "").split())
    assert "Fine-tune with lora-r8" in text
    assert "Memory: 400 MiB (380 MiB to 440 MiB, projected: memory model; 9 trainings took" in text
    assert "Accuracy lost to full: 0.76 points (-0.10 points to 1.60 points, measured: lora-r8 in own study" in text
    assert "Training speed: 1.25 x full (measured:" in text
    assert "Train it: deploycost build --method lora" in text
    assert "may be missed" in text


def test_no_choice_says_why() -> None:
    none = _advice(choice=None, reason="no method trains within 10 MiB", doubts=())
    text = render(advice_panel(none, ""))
    assert "No method" in text
    assert "no method trains within 10 MiB" in text
