import pytest

from onlygood.core import errors

OWN = [errors.__dict__[name] for name in dir(errors) if isinstance(errors.__dict__[name], type)]


@pytest.mark.parametrize("error", OWN)
def test_one_clause_catches_all(error: type[Exception]):
    assert issubclass(error, errors.OnlygoodError)


@pytest.mark.parametrize("error", set(OWN) - {errors.OnlygoodError})
def test_code_that_knows_only_python_can_catch_them_too(error: type[Exception]):
    assert issubclass(error, ValueError | RuntimeError)
