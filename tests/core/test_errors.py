import pytest

from onlygood.core import errors

OWN = [
    found
    for found in vars(errors).values()
    if isinstance(found, type) and found.__module__ == errors.__name__
]


@pytest.mark.parametrize("error", OWN)
def test_one_clause_catches_all(error: type[Exception]):
    assert issubclass(error, errors.OnlygoodError)


@pytest.mark.parametrize("error", [error for error in OWN if error is not errors.OnlygoodError])
def test_code_that_knows_only_python_can_catch_them_too(error: type[Exception]):
    assert issubclass(error, ValueError | RuntimeError)


def test_alternatives_name_the_closest_and_all():
    known = ("cbigan", "pca")
    assert errors.alternatives("cbigam", known) == '; did you mean "cbigan"? known: cbigan, pca'
    assert errors.alternatives("xyz", known) == "; known: cbigan, pca"
    assert errors.alternatives("xyz", known, "see the page") == "; known: see the page"
