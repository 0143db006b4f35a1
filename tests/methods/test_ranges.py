"""Every number that a method takes has a range, which its default is in."""

from dataclasses import fields
from typing import Literal, get_origin, get_type_hints

import pytest

from onlygood.core.errors import ConfigError
from onlygood.core.settings import range_of
from onlygood.methods import METHODS

FAR = (-(10**9), 10**9)
"""No range holds both."""


@pytest.mark.parametrize("name", METHODS)
def test_every_number_has_a_range_and_is_refused_beyond_it(name: str) -> None:
    config = METHODS[name].config_class
    kinds = get_type_hints(config)
    for field in fields(config):
        numbers = field.default if isinstance(field.default, tuple) else (field.default,)
        chosen = get_origin(kinds[field.name]) is Literal
        if chosen or not all(type(number) in (int, float) for number in numbers):
            continue
        within = range_of(field)
        assert within is not None, f"{field.name} needs a range: number({field.default}, RANGE)"
        beyond = type(numbers[0])(next(far for far in FAR if not within.holds(far)))
        given = (*numbers[1:], beyond) if isinstance(field.default, tuple) else beyond
        with pytest.raises(ConfigError) as error:
            config(**{field.name: given})
        assert str(error.value) == f"{field.name} must be {within.words}, got {given}"


@pytest.mark.parametrize(
    ("name", "field", "value", "says"),
    [
        ("gaussian", "regularisation", 0.0, "regularisation must be more than 0, got 0.0"),
        ("gaussian", "top", 1.1, "top must be in [0, 1], got 1.1"),
    ],
)
def test_what_is_said_of_it(name: str, field: str, value: float, says: str) -> None:
    with pytest.raises(ConfigError) as error:
        METHODS[name].config_class(**{field: value})
    assert str(error.value) == says
