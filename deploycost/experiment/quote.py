"""What is to be priced: machines, traffic, and what goes together of them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from deploycost.experiment.base import Frozen, comma_list


class QuoteSpec(Frozen):
    """What is to be priced: machines, and the traffic they must carry."""

    clouds: tuple[str, ...] = ("aws-c7i", "aws-c7a", "gcp-c3", "azure-fsv2", "aws-g4dn")
    region: str | None = None
    purchase_option: str = "on-demand"
    requests_per_month: int = Field(default=100_000_000, ge=1)
    peak_to_mean_ratio: float = Field(default=3.0, ge=1)
    utilisation_ratio: float = Field(default=0.7, gt=0, le=1)
    spare_replicas: int = Field(default=1, ge=0)
    max_accuracy_drop: float = Field(default=0.01, ge=0, le=1)
    llm_api: str = "gpt-5-nano"
    traffic: str | None = Field(default=None, description="shape of the week: a preset or a file of 168 weights")
    autoscale: bool = Field(default=False, description="machines by the hour, not for the peak")
    scale_step: int = Field(default=1, ge=1)
    cold_start_s: float = Field(default=180.0, ge=0, description="that a machine is started, and paid, before its hour")
    mix: dict[Literal["base", "peak"], str] = Field(
        default_factory=dict, description="as in base: reserved-1y, peak: spot"
    )
    spot_interruption_ratio: float = Field(default=0.05, ge=0, lt=1)
    cold_start_ratio: float = Field(default=0.01, ge=0, le=1)
    storage_gib: float = Field(default=0.0, ge=0)
    storage_usd_per_gib_month: float = Field(default=0.0, ge=0)
    response_bytes: int = Field(default=0, ge=0)
    egress_usd_per_gib: float = Field(default=0.0, ge=0)
    horizon_months: int | None = Field(default=None, ge=1)
    prompt_template: str | None = None
    output_tokens: int = Field(default=5, ge=1)

    @field_validator("clouds", mode="before")
    @classmethod
    def _split_commas(cls, value: Any) -> Any:  # noqa: ANN401 - raw user input
        return comma_list(value)

    @field_validator("mix", mode="before")
    @classmethod
    def _split_mix(cls, value: Any) -> Any:  # noqa: ANN401 - raw user input
        if not isinstance(value, str):
            return value
        parts = [part.partition("=") for part in value.split(",")]
        mix = {part.strip(): option.strip() for option, _, part in parts}
        if sorted(mix) != ["base", "peak"] or len(parts) != 2 or not all(mix.values()):
            raise ValueError("expected two purchase options, as in reserved-1y=base,spot=peak")
        return mix

    @model_validator(mode="after")
    def _agrees(self) -> QuoteSpec:
        if self.mix and sorted(self.mix) != ["base", "peak"]:
            raise ValueError("a mix has a base and a peak, as in reserved-1y=base,spot=peak")
        if self.traffic is None and (self.autoscale or self.mix):
            asked = "autoscaling" if self.autoscale else "a mix of base and peak"
            raise ValueError(f"{asked} needs the traffic by the hour (--traffic flat, business-hours, spiky or a file)")
        if self.traffic is not None and self.peak_to_mean_ratio != 3.0:
            raise ValueError("traffic and peak_to_mean_ratio both say how high the peak is: give one of the two")
        for rate, amount in (("storage_usd_per_gib_month", "storage_gib"), ("egress_usd_per_gib", "response_bytes")):
            if bool(getattr(self, rate)) != bool(getattr(self, amount)):
                raise ValueError(f"{rate} and {amount} are of use only together: give both")
        return self
