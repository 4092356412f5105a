"""What calls cost, by a file of prices that anybody can edit; a price that is not in it is unknown, never 0."""

from __future__ import annotations

import dataclasses
import tomllib
from pathlib import Path
from typing import Any

from bargain_eval.llm.request import Answer

_SHIPPED = Path(__file__).with_name("prices.toml")
_MILLION = 1_000_000


@dataclasses.dataclass(frozen=True)
class Price:
    """Dollars per million tokens of one model.

    Attributes:
        input: Of the request.
        output: Of the reply, reasoning included.
        cached_input: Of the part of the request that the server had cached; None = as `input`.
        prefixes: Beginnings of names of models that cost the same.
    """

    input: float
    output: float
    cached_input: float | None = None
    prefixes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Prices:
    """A file of prices.

    Attributes:
        path: Where it lies.
        date: When the prices held.
        source: Where they come from.
        models: The prices by the models' names.
    """

    path: Path
    date: str
    source: str
    models: dict[str, Price]

    def find(self, model: str) -> Price | None:
        """Returns the price of the model of this name, else of the longest declared prefix of it, else None."""
        if model in self.models:
            return self.models[model]
        prefixes = {prefix: price for price in self.models.values() for prefix in price.prefixes}
        longest = max(filter(model.startswith, prefixes), key=len, default=None)
        return None if longest is None else prefixes[longest]

    def cost(self, model: str, answer: Answer) -> float | None:
        """Returns what a call of `model` cost in dollars, None if its price or its number of tokens is unknown."""
        if answer.input_tokens is None or answer.output_tokens is None:
            return None
        return self.of_tokens(model, answer.input_tokens, answer.output_tokens, answer.cached_tokens or 0)

    def of_tokens(
        self, model: str, input_tokens: float, output_tokens: float, cached_tokens: float = 0
    ) -> float | None:
        """Returns the cost of so many tokens in dollars, None if the price is unknown; cached ones are input too."""
        price = self.find(model)
        if price is None:
            return None
        cached_price = price.input if price.cached_input is None else price.cached_input
        fresh_tokens = max(0, input_tokens - cached_tokens)
        return (fresh_tokens * price.input + cached_tokens * cached_price + output_tokens * price.output) / _MILLION


def read_prices(path: str | Path | None = None) -> Prices:
    """Returns the prices of a TOML file of the form of the shipped one, which is taken if `path` is None.

    Raises:
        ValueError: If there is no such file, or it is not of this form; says where.
    """
    file = _SHIPPED if path is None else Path(path)
    try:
        with file.open("rb") as opened:
            table = tomllib.load(opened)
    except OSError as error:
        raise ValueError(f"the file of prices {file} cannot be read: {error.strerror}.") from error
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"the file of prices {file} is no TOML: {error}.") from error
    models, currency = table.get("models"), table.get("currency", "USD")
    if not isinstance(models, dict) or currency != "USD":
        raise ValueError(f'the file of prices {file} needs tables [models."NAME"], in US dollars.')
    read = {name: _read_price(file, name, fields) for name, fields in models.items()}
    return Prices(file, str(table.get("date", "")), str(table.get("source", "")), read)


def _read_price(file: Path, name: str, fields: Any) -> Price:
    try:
        price = Price(**fields)
    except TypeError as error:
        names = ", ".join(field.name for field in dataclasses.fields(Price))
        raise ValueError(f"the price of {name} in {file} needs input and output, and may have {names}.") from error
    numbers = [price.input, price.output, price.cached_input or 0]
    if not all(type(number) in (int, float) and 0 <= number < float("inf") for number in numbers):
        raise ValueError(f"the price of {name} in {file} must be made of numbers of at least 0.")
    prefixes = price.prefixes
    if not isinstance(prefixes, list | tuple) or not all(isinstance(prefix, str) and prefix for prefix in prefixes):
        raise ValueError(f"the prefixes of {name} in {file} must be a list of texts.")
    return dataclasses.replace(price, prefixes=tuple(prefixes))
