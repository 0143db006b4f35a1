import pytest

from onlygood.evaluation import published
from onlygood.evaluation.protocols import PROTOCOLS
from onlygood.evaluation.published import MEANS, REMARKS, beside, remarks


def value(dataset: str, protocol: str, method: str, normal: str) -> float:
    [figure] = [
        f
        for f in beside(dataset, protocol)
        if (f.method, f.normal) == (method, normal) and f.table != "Fig. 5"
    ]
    return figure.value


@pytest.mark.parametrize(
    ("dataset", "protocol", "method", "normal", "printed"),
    [
        ("fashion-mnist", "gpnd", "PIAD", "mean", 0.949),
        ("coil100", "gpnd", "OCGAN", "mean", 0.995),
        ("fashion-mnist-vs-mnist", "ood", "AMA", "all", 0.987),
        ("cifar10", "one-vs-rest", "PIAD", "automobile", 0.876),
        ("celeba", "celeba-attributes", "PIAD", "Wearing_Hat", 0.916),
        ("lsun", "lsun-pair", "PIAD", "conference_room", 0.781),
        ("mvtec", "mvtec", "BiGAN projection + consistency (CE-BiGAN)", "metal_nut", 0.84),
    ],
)
def test_figures_are_as_printed(
    dataset: str, protocol: str, method: str, normal: str, printed: float
) -> None:
    assert value(dataset, protocol, method, normal) == printed


def test_every_figure_belongs_to_a_protocol() -> None:
    figures = published._figures()
    assert len(figures) == 688
    assert {figure.protocol for figure in figures} <= set(PROTOCOLS)
    assert {figure.metric for figure in figures} == {"auroc", "max_balanced_accuracy_by_kind"}
    assert all(0 <= figure.value <= 1 for figure in figures)


def test_means_are_those_of_the_classes_but_for_one_misprint() -> None:
    wrong = []
    rows: dict[tuple[str, ...], dict[str, float]] = {}
    for f in published._figures():
        rows.setdefault((f.paper, f.table, f.dataset, f.method), {})[f.normal] = f.value
    for name, row in rows.items():
        classes = [v for k, v in row.items() if k not in MEANS]
        if "mean" in row and len(classes) >= 10:
            # CBiGAN prints two digits.
            if abs(sum(classes) / len(classes) - row["mean"]) > 0.006:
                wrong.append(name)
    assert wrong == [("AMA", "Table 2", "cifar10", "FGAN")]


def test_parts_of_a_data_set_and_variants_of_a_protocol_are_compared_as_well() -> None:
    assert beside("fashion-mnist-vs-mnist-5k", "ood-full") == beside(
        "fashion-mnist-vs-mnist", "ood"
    )
    assert beside("celeba", "celeba-five") == beside("celeba", "celeba-attributes") != []
    assert beside("elpv-mono", "elpv") == []


@pytest.mark.parametrize("remark", REMARKS, ids=lambda remark: remark.words)
def test_every_remark_is_about_something(remark: published.Remark) -> None:
    about = [figure for figure in published._figures() if remark.is_about(figure)]
    assert about
    for field, names in (
        ("method", remark.methods),
        ("table", remark.tables),
        ("dataset", remark.datasets),
        ("normal", remark.classes),
    ):
        assert set(names) <= {getattr(figure, field) for figure in about}


def test_other_rules_are_marked() -> None:
    def words(dataset: str, protocol: str, method: str) -> str:
        return remarks(f for f in beside(dataset, protocol) if f.method == method)

    assert "chosen with about 50 labelled anomalous" in words("cifar10-vs-svhn", "ood", "AMA")
    assert "another split" in words("fashion-mnist", "gpnd", "OCGAN")
    assert "AUROC of pixels" in words("mvtec", "mvtec", "AnoGAN (copied from MVTec paper)")
    assert "threshold chosen on the test" in words("mvtec", "mvtec", "CBiGAN")
    assert "whose anomalous share is 20 %" in words("mnist", "one-vs-rest", "FGAN")
    assert words("mnist", "one-vs-rest", "OCGAN") == "copied from its paper"


def test_a_remark_about_one_class_is_of_rows_that_have_it() -> None:
    row = [f for f in beside("mvtec", "mvtec") if f.method.startswith("EGBAD")]
    assert {f.normal for f in row} > {"toothbrush", "carpet"}
    assert "toothbrush: below 0.5, which" in remarks(row)
    assert "toothbrush" not in remarks(f for f in row if f.normal != "toothbrush")
