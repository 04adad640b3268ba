"""What the literature printed for AG News, so that a reader can hold this run against it."""

from __future__ import annotations

from dataclasses import dataclass

from deploycost.experiment import MethodName


@dataclass(frozen=True)
class PublishedMethod:
    """One published row: percentages, minutes of training, memory in GB, US dollars for one inference."""

    accuracy_percent: float
    f1_percent: float
    precision_percent: float
    recall_percent: float
    training_min: float
    memory_gb: float
    usd_per_inference: float


# DistilBERT on AG News, one NVIDIA T4: 80/20 split with balanced classes, 5 epochs; batch 16 for the baseline, 8 for
# the others; QLoRA in 4 bits at rank 8; 20 virtual tokens. Plain LoRA was not published.
PUBLISHED: dict[MethodName, PublishedMethod] = {
    "full": PublishedMethod(88.25, 88.17, 88.31, 88.25, 46, 7.45, 0.030),
    "qlora": PublishedMethod(87.50, 87.22, 87.42, 87.50, 38, 5.25, 0.020),
    "prompt": PublishedMethod(88.00, 87.98, 88.11, 88.00, 32, 6.00, 0.025),
    "stacked": PublishedMethod(87.75, 87.68, 87.82, 87.75, 28, 4.75, 0.015),
}
SETTING = (
    "The literature's rows, as printed: DistilBERT, AG News, one T4, 5 epochs (QLoRA in 4 bits at rank 8, 20 virtual "
    "tokens); its baseline stands under full."
)
# The two printed prices of one and the same setting, 20 virtual tokens: methods table, ablation table.
_USD_OF_20_TOKENS, _USD_OF_20_TOKENS_ABLATED = 0.025, 0.0013
DOLLAR_CAVEAT = (
    f"Its dollars contradict each other: 20 virtual tokens cost ${_USD_OF_20_TOKENS} per inference among the methods "
    f"and ${_USD_OF_20_TOKENS_ABLATED} in its ablations, a factor of about "
    f"{_USD_OF_20_TOKENS / _USD_OF_20_TOKENS_ABLATED:.0f}. Compare the order of methods, not the amounts."
)


def published(method: str) -> PublishedMethod | None:
    """The literature's row for one of our methods, or None where it has none."""
    return next((row for name, row in PUBLISHED.items() if name == method), None)
