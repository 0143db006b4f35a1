"""What the contract asks of what no method of onlygood has: rare updates, no settings."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from onlygood import registry
from onlygood.core.method import Method
from onlygood.testing import cases, contract
from tests.test_registry import denoiser


def test_an_update_that_runs_in_each_third_step_is_seen_to_train(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = denoiser()
    assert source.count("optimizer=adam)") == 1
    (tmp_path / "rare.py").write_text(source.replace("optimizer=adam)", "optimizer=adam, every=3)"))
    monkeypatch.setattr(registry, "_introduced", {})
    name = registry.introduce(f"{tmp_path / 'rare.py'}:Denoiser")
    monkeypatch.setitem(cases.CASES, name, cases.Case({"hidden": 4}, {}, 0.9))
    contract.test_an_update_reaches_exactly_what_it_trains(name)


@dataclass(frozen=True, kw_only=True)
class Nothing:
    """No settings."""


def test_a_method_without_settings_has_none_to_change(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        registry.METHODS, "bare", type("Bare", (Method,), {"config_class": Nothing})
    )
    contract.test_its_settings_are_frozen("bare")
