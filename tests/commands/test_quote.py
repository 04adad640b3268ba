"""The command on a run whose records were made by code: tables, JSON, exit codes."""

import json
from pathlib import Path

import pytest

from benchmarks.quote import make_run
from deploycost.cli import main
from deploycost.experiment import Experiment, QuoteSpec, write_experiment
from deploycost.records import Quote, read_record
from deploycost.variants import variants_of
from deploycost.verdicts import QuoteSheet
from deploycost.workspace import Run, fingerprint

FIGURES = ("capacity_rps", "monthly_usd", "p95_ms", "accuracy", "energy_kwh_per_million", "grams_co2e_per_million")


@pytest.fixture(scope="module")
def runs_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    make_run(folder / "made", 4)
    return folder


@pytest.fixture
def ask(runs_dir: Path, capsys: pytest.CaptureFixture[str]):  # noqa: ANN201 - a function of strings
    def ask(*flags: str) -> tuple[int, str, str]:
        code = main(["quote", "--runs-dir", str(runs_dir), *flags])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return ask


def test_the_json_that_scripts_rely_on(ask) -> None:  # noqa: ANN001
    code, out, _ = ask("--json", "--cloud", "aws-c7i.large,aws-lambda,api:gpt-5-nano,owned")
    document = json.loads(out)
    assert code == 0
    assert document.keys() >= {"quotes", "traffic", "policy", "warnings"}
    assert {row["kind"] for row in document["quotes"]} == {"machine", "serverless", "api", "owned"}
    for row in document["quotes"]:
        assert row.keys() == set(Quote.model_fields)
        assert row["usd_per_million"].keys() == {"floor", "planned", "per_correct"}
        for figure in (*(row[name] for name in FIGURES), *row["usd_per_million"].values()):
            assert figure.keys() == {"value", "low", "high", "basis"}
            assert figure["basis"] in ("measured", "projected", "assumed")
        assert row["price_source"]
        assert row["price_date"]
    planned = [row["usd_per_million"]["planned"]["value"] for row in document["quotes"]]
    known = [value for value in planned if value is not None]
    assert planned[: len(known)] == sorted(known)


@pytest.mark.parametrize(
    "flags",
    [
        (),
        ("--cloud", "all"),
        ("--cloud", "aws-c7i,cloud-run,api:gpt-5-nano,owned", "--all"),
        ("--cloud", "aws-c6i", "--region", "eu-central-1", "--traffic", "business-hours", "--autoscale",
         "--mix", "on-demand=base,spot=peak", "--horizon-months", "12"),
        ("--cloud", "aws-c7i.large,api:gpt-5-nano", "--crossover", "c7i.large", "api:gpt-5-nano"),
        ("--cloud", "all", "--sort", "carbon"),
    ],
)  # fmt: skip
def test_tables_fit_80_columns(ask, flags: tuple[str, ...]) -> None:  # noqa: ANN001
    code, out, _ = ask(*flags)
    assert code == 0
    assert max(map(len, out.splitlines())) <= 80
    assert "planned $/M" in out


def test_hours_are_told_where_machines_follow_them(ask) -> None:  # noqa: ANN001
    _, out, _ = ask("--cloud", "aws-c7i.large", "--traffic", "business-hours", "--autoscale",
                    "--requests-per-month", "1000000000")  # fmt: skip
    assert "Machines by the hour" in out
    assert "Mon, Tue, Wed, Thu, Fri" in out
    assert "Sat, Sun" in out
    assert "Autoscaled by the hour: each machine is started, and paid, 3 min 00 s ahead." in " ".join(out.split())


def test_crossovers_in_json(ask) -> None:  # noqa: ANN001
    _, out, _ = ask("--json", "--cloud", "aws-c7i.large,api:gpt-5-nano", "--crossover", "c7i.large",
                    "api:gpt-5-nano@list")  # fmt: skip
    (crossing,) = json.loads(out)["crossovers"]
    assert crossing["other"] == "api:gpt-5-nano@list"
    assert crossing["crossing"]["requests_per_month"] > 1_000_000


@pytest.mark.parametrize(
    ("sort", "column"), [("carbon", "g CO2e/M"), ("energy", "kWh/M"), ("accuracy", "accuracy"), ("per-correct", "$/M")]
)
def test_what_rows_are_sorted_by_is_shown(ask, sort: str, column: str) -> None:  # noqa: ANN001
    _, out, _ = ask("--cloud", "aws-c7i.large", "--sort", sort)
    assert out.split("─")[0].count(column) > ask("--cloud", "aws-c7i.large")[1].split("─")[0].count(column)


def test_gpu_rows_are_judged_by_their_latency_and_doubted_of_no_load_test(ask) -> None:  # noqa: ANN001
    _, out, _ = ask("--cloud", "aws-g4dn.xlarge", "--json")
    rows = json.loads(out)["quotes"]
    assert len(rows) == 4
    for row in rows:
        figure = row["p95_ms"]
        assert figure["basis"] == "projected"
        assert 0 < figure["low"] <= figure["value"] <= figure["high"] <= 100
        assert row["meets_slo"] is True
    slowest = max(row["p95_ms"]["value"] for row in rows)
    _, out, _ = ask("--cloud", "aws-g4dn.xlarge", "--json", "--max-p95", str(slowest - 1e-6))
    assert 0 < len(json.loads(out)["quotes"]) < 4
    assert "!" not in ask("--cloud", "aws-g4dn.xlarge")[1].partition("m measured")[0]


def test_nothing_fits_is_exit_code_1(ask) -> None:  # noqa: ANN001
    code, out, told = ask("--max-p95", "1", "--max-monthly", "5")
    assert (code, out) == (1, "")
    assert "nothing fits: none of" in told
    assert "p95 within 1 ms, at most $5.00 a month; nearest is lora-r" in told
    assert told.count("\n") == 1


def test_an_objective_below_the_service_time_is_exit_code_1(ask) -> None:  # noqa: ANN001
    code, out, told = ask("--slo-p95", "0.5", "--cloud", "aws-c7i.large")
    assert (code, out) == (1, "")
    assert "below the service time of every variant" in told
    assert told.count("\n") == 1


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--autoscale",), "autoscaling needs the traffic by the hour"),
        (("--traffic", "spikey"), "did you mean 'spiky'?"),
        (("--traffic", "flat", "--peak-to-mean", "3"), "--traffic and --peak-to-mean both say how high the peak is"),
        (
            ("--scale-step", "2", "--cold-start", "9"),
            "--scale-step is of use with --autoscale only; --cold-start is of",
        ),
        (("--cold-start", "9", "--traffic", "flat", "--no-autoscale"), "--cold-start is of use with --autoscale only"),
        (
            ("--spot-interruption", "0.1"),
            "--spot-interruption is of use only where --purchase-option or --mix has spot",
        ),
        (
            ("--traffic", "flat", "--mix", "on-demand=base,spot=peak", "--purchase-option", "spot"),
            "--mix and --purchase-option both say how machines are bought",
        ),
        (("--llm-api", "gpt-5-nano"), "Unknown option: --llm-api"),
        (("--max-accuracy-drop", "0.1"), "Unknown option: --max-accuracy-drop"),
        (("--crossover", "a", "b"), "no row with a price is named 'a'"),
        (("--sort", "price"), "price"),
        (("--max-p95", "nan", "--max-monthly", "-5"), "--max-p95 nan: expected a number above zero; --max-monthly -5"),
        (("--min-accuracy", "93"), "--min-accuracy 93: expected 0 to 1"),
        (("--region", "mars-1"), "unknown region 'mars-1'"),
        (("--cloud", "owned:nope.csv"), "nope.csv"),
        (
            ("--max-p95", "-1", "--min-accuracy", "90", "--max-monthly", "nan"),
            "--max-p95 -1: expected a number above zero; --max-monthly nan: expected a number above zero; "
            "--min-accuracy 90: expected 0 to 1",
        ),
        (("--max-p95", "0"), "--max-p95 0: expected a number above zero"),
        (
            ("--cloud", "aws-c7i", "--purchase-option", "reserved-1y"),
            "known for it: on-demand; fetch them with 'deploycost prices refresh', or add your own",
        ),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(ask, flags: tuple[str, ...], told: str) -> None:  # noqa: ANN001
    code, out, error = ask(*flags)
    assert (code, out) == (2, "")
    assert told in error
    assert error.count("\n") == 1


def test_flags_are_read_with_what_they_belong_to(ask) -> None:  # noqa: ANN001
    hourly = (
        "--cloud", "aws-c6i", "--region", "eu-central-1", "--traffic", "spiky", "--autoscale", "--scale-step", "2",
        "--cold-start", "60", "--mix", "on-demand=base,spot=peak", "--spot-interruption", "0.2",
    )  # fmt: skip
    assert ask(*hourly)[0] == 0
    spot = ("--cloud", "aws-g4dn", "--spot-interruption", "0.2", "--purchase-option")
    assert [ask(*spot, option)[0] for option in ("spot", "all")] == [0, 0]


def test_a_peak_is_not_passed_over_where_the_run_has_a_shape(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(tmp_path / "shaped", 1)
    path = tmp_path / "shaped" / "experiment.yaml"
    path.write_text(write_experiment(Experiment(quote=QuoteSpec(traffic="spiky"))), encoding="utf-8")
    for peak in ("3", "5"):
        assert main(["quote", "--runs-dir", str(tmp_path), "--peak-to-mean", peak]) == 2
        assert "both say how high the peak is" in capsys.readouterr().err


def test_a_profile_of_167_hours_and_a_record_of_another_format(ask, tmp_path: Path) -> None:  # noqa: ANN001
    profile, record = tmp_path / "week.csv", tmp_path / "load.json"
    profile.write_text("\n".join(["1"] * 166 + ["nan"]), encoding="utf-8")
    code, _, told = ask("--traffic", str(profile))
    assert code == 2
    assert "line 167: 'nan' is not finite; 167 hours, expected 168" in told
    record.write_text('{"format_version": 9}', encoding="utf-8")
    code, _, told = ask("--record", str(record))
    assert code == 2
    assert "is a record of format 9" in told


def test_a_whole_sheet_is_kept_where_a_report_finds_it(ask, runs_dir: Path) -> None:  # noqa: ANN001
    ask("--cloud", "aws-c7i.large")
    run = Run(runs_dir / "made")
    # The name that earlier versions gave it: what is asked as by default must leave no mark.
    evidence = [[each.name, each.export.bundle_digest, each.load.finished_at] for each in variants_of(run) if each.load]
    question = {
        "clouds": ["aws-c7i.large"], "region": None, "purchase_option": "on-demand", "requests_per_month": 100_000_000,
        "peak_to_mean_ratio": 3.0, "utilisation_ratio": 0.7, "spare_replicas": 1, "max_accuracy_drop": 0.01,
        "llm_api": "gpt-5-nano",
    }  # fmt: skip
    path = run.folder / "quotes" / f"{fingerprint(evidence, question, 100.0)}.json"
    kept = read_record(path, QuoteSheet)
    assert [row.instance_type for row in kept.quotes] == ["c7i.large"] * 4
    before = path.read_bytes()
    ask("--cloud", "aws-c7i.large", "--max-monthly", "100000")
    ask("--cloud", "aws-c7i.large", "--sort", "p95")
    assert path.read_bytes() == before


def test_a_report_of_fleets_by_the_hour(runs_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(runs_dir / "hourly", 2)
    asked = QuoteSpec(clouds=("aws-c6i",), region="eu-central-1", traffic="business-hours", autoscale=True,
                      mix={"base": "on-demand", "peak": "spot"}, horizon_months=12)  # fmt: skip
    path = runs_dir / "hourly" / "experiment.yaml"
    path.write_text(write_experiment(Experiment(quote=asked)), encoding="utf-8")
    assert main(["report", "--runs-dir", str(runs_dir), "--run", "hourly"]) == 0
    capsys.readouterr()
    told = (runs_dir / "hourly" / "report.md").read_text(encoding="utf-8")
    for part in ("machine-hours", "on-demand for what every hour needs, spot for the rest", "on-demand+spot",
                 "making the variant, spread over 12 months"):  # fmt: skip
        assert part in told
