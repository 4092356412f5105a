import dataclasses
import tomllib
from fractions import Fraction
from pathlib import Path

import pytest
from bargain_eval.llm.prices import read_prices
from test_llm_request import ANSWER

FILE = """
date = "2026-01-01"
source = "a price list"
[models.small]
input = 1
cached_input = 0.25
output = 3
prefixes = ["small-", "small-new-"]
[models."small-new"]
input = 10
output = 30
prefixes = ["small-new-x"]
[models.free]
input = 0
output = 0
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "prices.toml"
    path.write_text(FILE, encoding="utf-8")
    return path


def test_a_call_costs_its_tokens_at_the_price_of_the_file(file: Path) -> None:
    prices = read_prices(file)
    assert (prices.date, prices.source, prices.path) == ("2026-01-01", "a price list", file)
    answer = dataclasses.replace(ANSWER, input_tokens=1000, cached_tokens=400, output_tokens=70, reasoning_tokens=50)
    expected = Fraction(600 * 1 + 100 + 70 * 3, 1_000_000)
    assert prices.cost("small", answer) == pytest.approx(float(expected))
    assert prices.cost("small-new", answer) == pytest.approx((1000 * 10 + 70 * 30) / 1e6)
    uncached = dataclasses.replace(answer, cached_tokens=None)
    assert prices.cost("small", uncached) == pytest.approx((1000 * 1 + 70 * 3) / 1e6)
    assert prices.cost("free", answer) == 0


def test_what_is_unknown_costs_none_and_never_0(file: Path) -> None:
    prices = read_prices(file)
    assert prices.cost("large", ANSWER) is None
    assert prices.cost("smal", ANSWER) is None
    assert prices.cost("small", dataclasses.replace(ANSWER, output_tokens=None)) is None
    assert prices.cost("free", dataclasses.replace(ANSWER, input_tokens=None)) is None


def test_the_longest_declared_prefix_decides(file: Path) -> None:
    prices = read_prices(file)
    inputs = {"small": 1, "small-2026": 1, "small-new-2026": 1, "small-new": 10, "small-new-x1": 10}
    found = {name: price.input for name in inputs if (price := prices.find(name))}
    assert found == inputs
    assert prices.find("free-2026") is None


def test_the_shipped_prices_are_dated_and_plausible() -> None:
    prices = read_prices()
    assert prices.date >= "2026-01"
    assert prices.source.startswith("https://")
    for name, price in prices.models.items():
        assert 0 < price.input < price.output < 1000, name
        assert price.cached_input is None or 0 < price.cached_input < price.input, name
        assert all(prefix.startswith(name) for prefix in price.prefixes), name
    named = {"gpt-5.2-pro": (21, 168), "o3": (2, 8), "gpt-4o": (2.5, 10), "gpt-4o-2024-08-06": (2.5, 10)}
    for name, pair in named.items():
        found = prices.find(name)
        assert found is not None
        assert (found.input, found.output) == pair
    assert prices.find("gpt-4o-audio-preview") is None
    assert tomllib.loads(prices.path.read_text(encoding="utf-8"))["currency"] == "USD"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[models", "is no TOML"),
        ("input = 1", "needs tables"),
        ('currency = "EUR"\n[models.a]\ninput=1\noutput=1', "in US dollars"),
        ("[models.a]\ninput = 1", "the price of a in .* needs input and output"),
        ("[models.a]\ninput = 1\noutput = 1\nspeed = 3", "may have input, output, cached_input, prefixes"),
        ("models.a = 3", "needs input and output"),
        ("[models.a]\ninput = -1\noutput = 1", "numbers of at least 0"),
        ("[models.a]\ninput = nan\noutput = 1", "numbers of at least 0"),
        ('[models.a]\ninput = "1"\noutput = 1', "numbers of at least 0"),
        ('[models.a]\ninput = 1\noutput = 1\nprefixes = "a-"', "must be a list of texts"),
        ('[models.a]\ninput = 1\noutput = 1\nprefixes = [""]', "must be a list of texts"),
    ],
)
def test_a_bad_file_is_refused_in_a_sentence(file: Path, text: str, message: str) -> None:
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message) as caught:
        read_prices(file)
    assert str(caught.value).endswith(".")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none\.toml cannot be read: No such file"):
        read_prices(tmp_path / "none.toml")
