from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

from onlygood.methods import METHODS
from tests.evaluation.lines import line

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def which() -> ModuleType:
    return import_module("which")


@pytest.fixture(scope="module")
def best(which: ModuleType) -> object:
    return which.best(which.records())


def test_the_page_is_what_the_records_say(which: ModuleType, best: object) -> None:
    text = (ROOT / "docs" / "which.md").read_text("utf-8")
    assert text == which.page(best), "make results"


@pytest.mark.parametrize("name", METHODS)
def test_the_page_of_a_method_says_what_the_records_say(
    which: ModuleType, best: object, name: str
) -> None:
    text = (ROOT / "docs" / "methods" / f"{name}.md").read_text("utf-8")
    assert text == which.measured(text, name, best), "make results"


def test_figures_are_means_and_deviations_over_seeds(which: ModuleType) -> None:
    cell = {"dataset": "surfaces", "protocol": "surfaces"}
    found = [
        line(value, method=name, **cell, **{"class": one, "seed": seed, "pixel_auroc": pixels})
        for name, seed, one, value, pixels in (
            ("pca", 0, "soil", 0.5, 0.6),
            ("pca", 0, "road", 0.7, None),
            ("pca", 1, "soil", 0.7, 0.8),
            ("pca", 1, "road", 0.9, None),
            ("mean_picture", 0, "soil", 0.4, None),
            ("mean_picture", 0, "road", 0.6, None),
            ("reflect", 0, "soil", 0.9, 0.8),
            ("reflect", 0, "road", 0.9, 0.9),
        )
    ]
    page = "\n## Measured\n\nMade from the records\n\n| old |\n\nby hand\n"
    *_, row, _, last = which.measured(page, "pca", which.best(found)).splitlines()
    cells = "0.700 ± 0.141 (0.700 ± 0.141) | 0.500 | 0.900 (0.850) |"
    assert row.startswith("| sixteen surfaces | ") and row.endswith(f" | 2 | {cells}")
    assert last == "by hand"


def test_the_best_is_taken_and_what_is_below_the_floor_is_not(which: ModuleType) -> None:
    def records(kind: object, **reached: float) -> list[dict[str, object]]:
        where = {"dataset": kind.dataset, "protocol": kind.protocol, "n_train": 9}
        return [line(v, method=name, **where) for name, v in reached.items()]

    found = [
        record
        for kind in which.KINDS
        for record in records(kind, mean_picture=0.6, pca=0.9, knn=0.7, ama=0.5)
    ]
    two = {"dataset": "elpv-mono", "protocol": "elpv", "n_train": 9}
    found += [line(0.8, method="knn", config_hash="other", **two)]
    rows = which.page(which.best(found)).splitlines()
    [advice] = [row for row in rows if row.startswith("| surfaces (sixteen textures) | [`pca`]")]
    assert "`pca` reaches 0.900, `knn` reaches 0.700, the mean picture 0.600" in advice
    cells = {row.split("`")[1]: row.split(" | ")[1:3] for row in rows if row.startswith("| [`")}
    assert cells == {
        "pca": ["**0.900**", "**0.900**"],
        "knn": ["0.800", "0.700"],
        "mean_picture": ["0.600", "0.600"],
        "ama": ["(0.500)", "(0.500)"],
    }


def test_a_rank_is_a_share_of_the_other_methods(which: ModuleType) -> None:
    found = {name: [line(value, method=name)] for name, value in (("pca", 0.9), ("ama", 0.5))}
    assert which._ranks("pca", [found]) == [1.0]
    assert which._ranks("ama", [found, {}]) == [0.0]


def test_the_floor_is_not_rounded_to_one(which: ModuleType) -> None:
    found = {which.FLOOR: [line(0.99996)], "pca": [line(1.0)]}
    assert which._advice(which.KINDS[0], found).endswith("the mean picture 0.99996 |")


def test_seeds_count_that_have_all_classes(which: ModuleType) -> None:
    [kind, *_] = which.KINDS
    records = [
        line(
            value,
            dataset=kind.dataset,
            protocol=kind.protocol,
            **{"class": name, "seed": seed},
        )
        for name, seed, value in (("bag", 0, 0.5), ("dress", 0, 0.8), ("dress", 1, 1.0))
    ]
    [found] = which._best(records).values()
    assert which.auroc(found) == pytest.approx(0.65)


def test_more_seeds_come_before_a_better_mean(which: ModuleType) -> None:
    [kind, *_] = which.KINDS
    where = {"dataset": kind.dataset, "protocol": kind.protocol, "n_train": 9}
    floors = [
        line(0.1, method="mean_picture", dataset=k.dataset, protocol=k.protocol, n_train=9)
        for k in which.KINDS
    ]
    others = [{**one, "method": "pca"} for one in floors]
    found = [line(value, seed=seed, **where) for seed, value in ((0, 0.6), (1, 0.8))]
    lucky = line(0.9, config_hash="lucky", **where)
    assert "| [`cebigan`](methods/cebigan.md) | **0.700** |" in which.page(
        which.best([*floors, *others, lucky, *found])
    )
