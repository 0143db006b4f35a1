import csv
import subprocess
import sys

import pytest

from onlygood.evaluation.records import Line
from onlygood.evaluation.tables import (
    Sheet,
    as_csv,
    as_latex,
    claims_sheet,
    page,
    sheets,
    spread,
)
from tests.evaluation.lines import line, setting


def rows(sheet: Sheet) -> list[dict[str, str]]:
    return [dict(zip(sheet.columns, row, strict=True)) for row in sheet.rows]


def overall(
    lines: list[Line], dataset: str = "toy", protocol: str = "gpnd"
) -> list[dict[str, str]]:
    return rows(sheets(lines)[dataset, protocol][0])


def test_mean_and_deviation() -> None:
    assert spread([0.5, 0.7]) == "0.600 ± 0.141"
    assert (spread([0.5]), spread([])) == ("0.500", "")
    assert spread([1.0, 0.9992]) == "0.9996 ± 0.001"
    assert spread([0.99996]) == "0.99996" and spread([1.0]) == "1.000"


def test_times_of_a_shared_device_are_marked() -> None:
    [row] = overall([line(), line(seed=1, shared="0.25 of a GPU and 1 core")])
    assert row["device"] == "a processor, 2 threads; a processor, 2 threads, shared"


def test_a_seed_counts_with_its_mean_over_classes() -> None:
    lines = [
        line(auroc, seed=seed, **{"class": normal})
        for seed, normal, auroc in [
            (0, "round", 0.4),
            (0, "long", 0.6),
            (1, "round", 0.6),
            (1, "long", 0.8),
            (2, "round", 0.9),  # not run on all classes
        ]
    ]
    [row] = overall(lines)
    assert (row["AUROC"], row["seeds"], row["classes"]) == ("0.600 ± 0.141", "2", "2")
    assert row["AUROC of parts"] == "pixels 0.600 ± 0.141, features 0.250 ± 0.000"
    assert (row["training, min"], row["device"]) == ("1.5", "a processor, 2 threads")
    [row] = rows(sheets(lines)["toy", "gpnd"][1])
    assert (row["round"], row["long"]) == ("0.633 ± 0.252 (3)", "0.700 ± 0.141 (2)")


def test_of_a_score_of_one_part_there_is_nothing_more_to_say() -> None:
    [one], [two] = overall([line(parts={"pixels": 0.5})]), overall([line()])
    assert "AUROC of parts" not in one
    assert two["AUROC of parts"] == "pixels 0.500, features 0.250"


def test_where_no_seed_has_all_classes_there_is_no_mean() -> None:
    lines = [line(0.4), line(0.6, seed=1, **{"class": "long"})]
    [row] = overall(lines)
    assert row["seeds"] == "differ by class"
    assert "AUROC" not in row


def test_a_metric_of_later_records_alone_says_so() -> None:
    lines = [line(), line(seed=1, f1_max=0.7), line(seed=2, f1_max=0.8)]
    [row] = overall(lines)
    assert row["F1, best threshold"] == "0.750 ± 0.071 (2 of 3 seeds)"
    [row] = overall(lines[1:])
    assert row["F1, best threshold"] == "0.750 ± 0.071"
    assert "F1, best threshold" not in overall(lines[:1])[0]


def test_settings_are_told_apart() -> None:
    lines = [line(0.1), line(0.2, preset="paper"), line(0.3, settings={"steps": "9"})]
    lines += [line(0.4, schedule="9 steps"), line(0.5, method="pca")]
    assert len(overall(lines)) == 5
    assert [row["settings"] for row in overall([line(), line(config_hash="bbbb")])] == [
        "small (aaaa)",
        "small (bbbb)",
    ]


def test_seeds_before_and_after_a_default_changed_are_no_mean() -> None:
    """The hash is of what is not at its default, and so the same on both sides."""
    before, after = (line(0.5, resolved={"size": size}) for size in (32, 64))
    newer = line(0.7, seed=1, resolved={"size": 64, "lately": 1})
    found = overall([before | {"seed": 2}, after, newer])
    assert [(row["settings"], row["AUROC"]) for row in found] == [
        ("small, size=64", "0.600 ± 0.141"),
        ("small, size=32", "0.500"),
    ]


def test_a_record_without_settings_joins_no_two_that_have_changed() -> None:
    lines = [
        line(0.5, seed=seed, resolved=resolved)
        for seed, resolved in enumerate(({}, {"size": 32}, {"size": 64}))
    ]
    found = [(row["settings"], row["seeds"]) for row in overall(lines)]
    assert found == [("small, size=32", "2"), ("small, size=64", "1")]


def test_settings_are_the_same_in_any_order() -> None:
    said = {"steps": "9", "lr": "0.1"}
    turned = dict(reversed(said.items()))
    [row] = overall([line(settings=said), line(seed=1, settings=turned)])
    assert (row["settings"], row["seeds"]) == ("small, steps=9, lr=0.1", "2")


def test_promises_are_shown_where_they_were_made() -> None:
    promised = {
        "promised_fpr": 0.05,
        "false_positive_rate": 0.02,
        "true_positive_rate": 0.5,
    }
    [row] = overall([line(**promised)])
    assert row["false alarms, promised"] == "at most 0.050"
    assert (row["found"], row["defects found"]) == ("0.020", "0.500")
    assert "found" not in overall([line()])[0]
    few = line(**promised | {"promised_fpr": 0.25, "class": "few"})
    [both] = overall([line(**promised), few])
    assert both["false alarms, promised"] == "at most 0.250"


@pytest.mark.parametrize(
    ("promised", "said"), [(0.0644, "0.065"), (0.0001, "0.001"), (1 - 0.95, "0.050")]
)
def test_a_promise_is_never_rounded_down(promised: float, said: str) -> None:
    [row] = overall([line(promised_fpr=promised)])
    assert row["false alarms, promised"] == f"at most {said}"


def test_pixels_count_in_the_classes_that_have_masks() -> None:
    masked = [line(seed=seed, pixel_auroc=0.9, **{"class": "masked"}) for seed in (0, 1)]
    plain = [line(seed=seed, pixel_auroc=None, **{"class": "plain"}) for seed in (0, 1)]
    [row] = overall([*masked, *plain])
    assert (row["pixel AUROC"], row["seeds"]) == ("0.900 ± 0.000 (1 of 2)", "2")


def test_papers_stand_beside_us() -> None:
    ours = line(0.5, dataset="fashion-mnist")
    found = {row["method"]: row for row in overall([ours], "fashion-mnist")}
    assert found["PIAD, as printed"]["AUROC"] == "0.949"
    assert "another split" in found["OCGAN, as printed"]["remark"]
    assert found["cebigan"]["remark"] == ""
    assert found["PIAD, as printed"]["settings"] == "PIAD, Table 3"


def test_papers_stand_beside_us_by_class_and_by_their_measure() -> None:
    ours = line(0.5, dataset="mvtec", protocol="mvtec", **{"class": "tile"})
    whole, by_class, accuracy = sheets([ours])["mvtec", "mvtec"]
    [cbigan] = [r for r in rows(by_class) if r["method"] == "CBiGAN, as printed"]
    assert (cbigan["tile"], cbigan["grid"]) == ("0.910", "0.990")
    [mine] = [r for r in rows(accuracy) if r["method"] == "cebigan"]
    assert (mine["tile"], mine["grid"]) == ("0.600", "")
    figures = {(r["settings"], r["method"]): r for r in rows(whole)}
    auroc = figures["CBiGAN, Table III", "CBiGAN, as printed"]
    found = figures["CBiGAN, Table II", "CBiGAN, as printed"]
    # Of this table each kind of defect weighs the same.
    of_kinds = "max. balanced accuracy by kind"
    assert (auroc["AUROC"], auroc[of_kinds]) == ("0.770", "")
    assert (found["AUROC"], found[of_kinds]) == ("", "0.760")
    assert found["max. balanced accuracy"] == ""


def test_what_was_chosen_on_the_test_is_a_row_of_its_own_and_marked() -> None:
    points = [{"steps": 5, "auroc": 0.8}, {"steps": 10, "auroc": 0.6}]
    lines = [line(0.6, seed=seed, curve={"note": "", "points": points}) for seed in (0, 1)]
    ours, best = overall(lines)
    assert (ours["AUROC"], ours["remark"]) == ("0.600 ± 0.000", "")
    assert best["AUROC"] == "0.800 ± 0.000"
    assert "the best of 2 budgets, chosen by the AUROC on the test pictures" in best["remark"]
    longer = lines[1] | {"curve": {"note": "", "points": [*points, points[1] | {"steps": 15}]}}
    assert "the best of 2 or 3 budgets," in overall([lines[0], longer])[1]["remark"]
    curve = rows(sheets(lines)["toy", "gpnd"][-1])
    assert [(r["steps"], r["cells"]) for r in curve] == [("5", "2"), ("10", "2")]
    assert len(overall([lines[0], line(0.6, seed=1)])) == 1
    # Of a single point nothing was chosen.
    assert len(overall([line(0.8, curve={"note": "", "points": points[:1]})])) == 1


def test_claims_are_a_table() -> None:
    lines = [
        setting(0.5 + alpha * (seed + 1) / 10, seed, alpha=alpha)
        for alpha in (0.0, 1.0)
        for seed in (0, 1)
    ]
    lines.append(line(0.4, method="mean_picture"))
    found = {row["claim"]: row for row in rows(claims_sheet(lines))}
    row = found["consistency beats none, projection discriminator"]
    assert (row["ours"], row["each seed"]) == ("+0.150 ± 0.071", "+0.100, +0.200")
    assert (row["both sides"], row["mean picture"]) == ("0.650, 0.500", "0.400")
    assert row["classes"] == "1"
    assert (row["holds?"], row["data"]) == ("holds", "toy gpnd")
    assert found["interpolation beats none"]["holds?"] == "not measured yet"


def test_the_page_has_every_data_set_and_the_claims() -> None:
    text = page([line(), line(dataset="other")])
    for heading in ("# Results", "## toy, gpnd", "## other, gpnd", "## What the papers claim"):
        assert f"{heading}\n" in text
    assert "| cebigan | small | 10 steps of 4 images | 1 | 1 | 0.500 |" in text


def test_markdown() -> None:
    assert Sheet("t", ("a", "b"), [("1", "2")]).markdown() == "| a | b |\n| --- | --- |\n| 1 | 2 |"
    # Names of classes and data sets are those of folders.
    assert Sheet("t", ("a|b",), [("1\n2",)]).markdown() == "| a\\|b |\n| --- |\n| 1 2 |"


def test_tables_need_no_torch() -> None:
    check = "import onlygood.evaluation.tables, sys; assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_latex_is_what_booktabs_takes() -> None:
    sheet = Sheet("a_b:", ("50 %", "x"), [("0.9 ± 0.1", "$\\{<|")])
    assert sheet.latex().splitlines() == [
        r"\begin{table}",
        r"\caption{a\_b:}",
        r"\begin{tabular}{ll}",
        r"\toprule",
        r"50 \% & x \\",
        r"\midrule",
        r"0.9 $\pm$ 0.1 & \$\textbackslash \{\textless \textbar  \\",
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]


def test_a_paper_has_room_for_figures_alone() -> None:
    text = as_latex([line(), line(seed=1)])
    assert text.startswith("% needs \\usepackage{booktabs}")
    assert "max. balanced accuracy & max. balanced accuracy by kind & FPR" in text
    assert "cebigan & small" in text and "a processor" not in text


def test_csv_has_every_digit_and_no_formula() -> None:
    text = as_csv([line(1 / 3), line(method="pca", parts={"residual": 0.5}, preset="=1")])
    first, second = csv.DictReader(text.splitlines())
    assert (float(first["auroc"]), first["part_residual"]) == (1 / 3, "")
    assert (second["part_residual"], second["part_pixels"], second["preset"]) == ("0.5", "", "'=1")


def test_a_paper_is_told_which_rules_printed_figures_follow() -> None:
    text = as_latex([line(**{"class": "toothbrush"}, dataset="mvtec", protocol="mvtec")])
    assert "max. balanced accuracy by kind" in text
    head, _, notes = text.partition("\\end{tabular}")
    assert "toothbrush: below 0.5" not in head
    assert "\\par\\footnotesize EGBAD, as printed" in notes
    assert "toothbrush: below 0.5" in notes
