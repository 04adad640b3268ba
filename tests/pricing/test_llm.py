import re
from decimal import Decimal
from pathlib import Path

import pytest

from pricing.errors import PriceError
from pricing.llm import find_llm_api, load_llm_apis
from pricing.table import DATA_FOLDER


def test_a_known_row_by_hand() -> None:
    api = find_llm_api("gpt-5-nano")
    assert api.key == "openai/gpt-5-nano@2026-11-22"
    assert (api.input_usd_per_mtok, api.output_usd_per_mtok) == (Decimal("0.05"), Decimal("0.4"))
    assert (api.cached_input_usd_per_mtok, api.batch_input_usd_per_mtok) == (Decimal("0.005"), Decimal("0.025"))
    assert api.max_input_tokens == 272_000
    assert api.mode == "chat"


@pytest.mark.parametrize("name", ["gemini/gemini-2.5-flash", "gemini-2.5-flash", "Gemini-2.5-Flash "])
def test_the_last_part_of_a_name_will_do(name: str) -> None:
    assert find_llm_api(name).model == "gemini/gemini-2.5-flash"


def test_an_unlisted_price_is_none() -> None:
    assert find_llm_api("deepseek-chat").batch_input_usd_per_mtok is None


def test_a_near_miss_is_suggested() -> None:
    with pytest.raises(PriceError, match=re.escape("unknown LLM API 'gpt5-nano' (did you mean 'gpt-5-nano'")):
        find_llm_api("gpt5-nano")


def test_all_mistakes_at_once(tmp_path: Path) -> None:
    lines = (DATA_FOLDER / "llm_apis.csv").read_text(encoding="utf-8").splitlines()[:2]
    bad = "x,openai,chatty,-1,two,,,,8.5,,,"
    path = tmp_path / "llm_apis.csv"
    path.write_text("\n".join([*lines, bad, lines[1]]) + "\n", encoding="utf-8")
    with pytest.raises(PriceError) as caught:
        load_llm_apis(path)
    for expected in (
        "line 3: ",
        "mode 'chatty' is none of",
        "input_usd_per_mtok '-1'",
        "output_usd_per_mtok 'two'",
        "8.5 is not whole",
        "source is empty",
        "as_of '' is not a date",
        "line 4: gpt-5-nano is priced twice",
    ):
        assert expected in str(caught.value)
