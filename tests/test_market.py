from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest

from deploycost.costing.alternatives import Alternatives, own_machine
from deploycost.costing.returns import ApiRequest
from deploycost.errors import UserError
from deploycost.experiment import QuoteSpec
from deploycost.market import alternatives_for, policy_for, request_for, site_finder, traffic_for
from deploycost.records import Variant
from pricing.book import load_book
from pricing.owned import load_owned

REQUEST = ApiRequest(110)


def named(*clouds: str, **question: object) -> Alternatives:
    return alternatives_for(QuoteSpec(clouds=clouds, **question), REQUEST)  # type: ignore[arg-type]


def test_names_of_every_kind_beside_one_another() -> None:
    found = named("aws-c7i.large", "aws-lambda", "cloud-run", "api:gpt-5-nano", "owned:raspberry-pi-5-8gb")
    assert [machine.offer.instance_type for machine in found.machines] == ["c7i.large", "raspberry-pi-5-8gb"]
    assert [machine.bought for machine in found.machines] == ["on-demand", "owned"]
    assert {(rate.service, rate.region) for rate in found.services} == {
        ("lambda", "us-east-1"),
        ("cloud-run", "us-central1"),
    }
    assert [(option.api.model, option.price) for option in found.apis] == [
        ("gpt-5-nano", "list"),
        ("gpt-5-nano", "batch"),
    ]


def test_a_service_that_bills_instances_is_a_machine() -> None:
    found = named("cloud-run-instance")
    assert not found.services
    machine = found.machines[0].offer
    # One vCPU and 2 GiB by the second: 0.000018 + 2 x 0.000002 USD, for 3,600 s; at least a minute each time.
    assert (machine.instance_type, machine.usd_per_hour) == ("cloud-run-instance-1", Decimal("0.0792"))
    assert (machine.billing_granularity_s, machine.billing_minimum_s) == (1, 60)


def test_the_whole_book_in_all_regions_and_ways() -> None:
    everything = named("all", region="all", purchase_option="all").machines
    assert len(everything) == len(load_book().offers)
    assert len(named("all").machines) < len(everything)


def test_the_name_of_a_cloud_is_not_that_of_a_service() -> None:
    found = named("lambda")
    assert {machine.offer.cloud for machine in found.machines} == {"lambda"}
    assert len(found.machines) == 25
    assert not found.services
    assert found.warnings == ["lambda is the cloud of that name; the service is called aws-lambda"]
    assert not named("lambda", region="all").services
    service = named("aws-lambda")
    assert ({rate.service for rate in service.services}, service.warnings) == ({"lambda"}, [])


@pytest.mark.parametrize("wide", [{"region": "all"}, {"purchase_option": "all"}])
def test_a_name_without_any_price_is_told_however_wide_the_question(wide: dict[str, object]) -> None:
    with pytest.raises(UserError, match="'aws-typoo'"):
        named("aws-g4dn", "aws-typoo", **wide)
    # Where only some places or ways of paying have a price, those are found.
    options = {machine.bought for machine in named("aws-g4dn", "aws-c7i", **wide).machines}
    assert "on-demand" in options


def test_a_way_of_paying_that_no_region_has_is_told() -> None:
    with pytest.raises(UserError, match="no spot price is known for 'aws-c7i'; known for it: on-demand"):
        named("aws-g4dn", "aws-c7i", region="all", purchase_option="spot")


def test_a_mix_joins_the_prices_of_one_machine() -> None:
    found = named(
        "aws-c6i", region="eu-central-1", traffic="spiky", mix={"base": "on-demand", "peak": "spot"}
    )  # fmt: skip
    assert {machine.bought for machine in found.machines} == {"on-demand+spot"}
    for machine in found.machines:
        assert machine.base
        assert machine.base.instance_type == machine.offer.instance_type
        assert machine.offer.usd_per_hour < machine.base.usd_per_hour


@pytest.mark.parametrize(
    ("clouds", "question", "told"),
    [
        (("aws-lamda",), {}, "or all; services: aws-lambda, gcp-cloud-run, gcp-cloud-run-instance; api:MODEL for"),
        (
            ("aws-lambda",),
            {"region": "mars-1"},
            "no price is known for 'aws-lambda' in mars-1; there is one in us-east-1",
        ),
        (("api:gpt5-nano",), {}, "did you mean 'gpt-5-nano'"),
        (("api:omni-moderation-latest",), {}, "is for moderation and cannot classify by a prompt"),
        (("owned:raspbery",), {}, "did you mean 'raspberry-pi-5-8gb'"),
        (("owned:missing.csv",), {}, "missing.csv"),
        (("aws-c7i",), {"purchase_option": "stolen"}, "unknown purchase option 'stolen'"),
    ],
)
def test_what_is_not_known_is_told_in_one_line(clouds: tuple[str, ...], question: dict[str, object], told: str) -> None:
    with pytest.raises(UserError) as refused:
        named(*clouds, **question)
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("question", "told"),
    [
        ({"autoscale": True}, "autoscaling needs the traffic by the hour"),
        ({"mix": "reserved-1y=base,spot=peak"}, "a mix of base and peak needs the traffic by the hour"),
        ({"mix": "spot"}, "expected two purchase options, as in reserved-1y=base,spot=peak"),
        ({"traffic": "flat", "peak_to_mean_ratio": 2.0}, "both say how high the peak is"),
        ({"storage_gib": 20}, "storage_usd_per_gib_month and storage_gib are of use only together"),
    ],
)
def test_fields_that_do_not_go_together(question: dict[str, object], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        QuoteSpec(**question)  # type: ignore[arg-type]


def test_traffic_and_policy_are_those_asked_for() -> None:
    asked = QuoteSpec(traffic="spiky", autoscale=True, egress_usd_per_gib=0.09, response_bytes=500, mix={})
    traffic, policy = traffic_for(asked), policy_for(asked)
    assert traffic.hourly_weights
    # 24 in one hour of a week of 168 + 23 + 98.
    assert traffic.peak_to_mean_ratio == pytest.approx(24 * 168 / 289)
    assert (policy.autoscale, policy.cold_start_s, policy.egress_usd_per_gib) == (True, 180.0, Decimal("0.09"))
    assert traffic_for(QuoteSpec()).hourly_weights is None


def test_a_prompt_template_is_counted(tmp_path: Path, make_variant: Callable[..., Variant]) -> None:
    path = tmp_path / "prompt.txt"
    # 38 characters around the text with the labels in their place, at four to a token: 10.
    path.write_text("Which of {labels} is the text below?\n{text}\nName:", encoding="utf-8")
    around = len("Which of a, b is the text below?\n\nName:")
    request = request_for(QuoteSpec(prompt_template=str(path), output_tokens=3), [make_variant()])
    # 33 characters of them before the text.
    assert request == ApiRequest(
        50 + -(-around // 4), 3, -(-around // 4), len("Which of a, b is the text below?\n") // 4
    )
    assert request_for(QuoteSpec(), [make_variant()]) == ApiRequest(110, 5, 60)
    path.write_text("{text}\nWhich of {labels} is the text above?", encoding="utf-8")
    assert request_for(QuoteSpec(prompt_template=str(path)), [make_variant()]).beginning_tokens == 0
    path.write_text("no place", encoding="utf-8")
    with pytest.raises(UserError, match="has no place for the text"):
        request_for(QuoteSpec(prompt_template=str(path)), [])
    with pytest.raises(UserError, match="cannot read prompt template"):
        request_for(QuoteSpec(prompt_template=str(tmp_path / "missing")), [])


def test_an_api_is_sent_whole_texts(make_variant: Callable[..., Variant], make_brought: Callable[..., Variant]) -> None:
    # Our own model is fed 50 tokens of the 700 that a text has on the mean.
    for variant in (make_variant(), make_brought()):
        tuning = variant.tuning.model_copy(update={"whole_mean_tokens": 700.0})
        whole = variant.model_copy(update={"tuning": tuning})
        assert request_for(QuoteSpec(), [whole]) == ApiRequest(760, 5, 60)
        # What an earlier version recorded.
        assert request_for(QuoteSpec(), [variant]) == ApiRequest(110, 5, 60)


def test_a_machine_of_ones_own_pays_power_by_its_load() -> None:
    owned = load_owned()[0]
    machine = own_machine(owned)
    peak, base = machine.purchases(policy_for(QuoteSpec()))
    assert base is None
    assert peak.always_on
    idle, full = owned.hourly_usd(Decimal(0)), owned.hourly_usd(Decimal(1))
    assert peak.usd_per_hour == idle
    # An hour at full load of 10/s is 36,000 requests, which together cost what load adds.
    assert machine.usd_per_request(10.0) * 36_000 == Fraction(full) - Fraction(idle)


def test_sites_are_sourced_and_unknown_where_nothing_is_known() -> None:
    found = named("aws-c7i.large", "owned:raspberry-pi-5-8gb")
    site_of = site_finder(found.machines)
    rented, own = (site_of(machine.offer) for machine in found.machines)
    assert rented.watts_idle is not None
    assert rented.watts_load is not None
    assert rented.watts_idle < rented.watts_load
    assert rented.source
    assert own.watts_load == Decimal("9.9")
    assert own.grams_co2e_per_kwh is None
