import html
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted(ROOT.glob("docs/notebooks/*.ipynb"))


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    first, reference = (page(tmp_path, name) for name in ("", "reference"))
    # What stands outside of the folder of pages is there, too, and links to it lead there.
    assert 'href="contributing/"' in first
    assert all((tmp_path / name).exists() for name in ("contributing", "changelog", "security"))
    assert 'id="onlygood.Detector.fit"' in reference and 'id="onlygood.compare"' in reference
    assert all((tmp_path / "methods" / page.stem).is_dir() for page in ROOT.glob("docs/methods/*"))

    # Notebooks were executed: what they say is what this code says.
    assert 'href="notebooks/own-folder/"' in first
    own, sklearn, table = (words(tmp_path, f"notebooks/{path.stem}") for path in NOTEBOOKS)
    assert "at most 5 % of normal pictures are called anomalous" in own
    assert figure(r"\nAUROC ([\d.]+)", own) > 0.95 and own.endswith("True")
    assert list(tmp_path.glob("notebooks/own-folder_*.png"))
    assert figure(r"\npca & .*? & ([\d.]+) \$\\pm\$", table) > 0.9
    assert all(figure(rf"{m} +\{{.*?\}}  (\S+)", sklearn) > 0.8 for m in ("pca", "reflect"))


def test_notebooks_hold_no_outputs() -> None:
    """They are those of one machine, and each run would change them."""
    assert len(NOTEBOOKS) == 3
    for path in NOTEBOOKS:
        cells = json.loads(path.read_text("utf-8"))["cells"]
        run = [cell for cell in cells if cell["cell_type"] == "code"]
        assert all((cell["outputs"], cell["execution_count"]) == ([], None) for cell in run), path


def page(site: Path, name: str) -> str:
    return (site / name / "index.html").read_text("utf-8")


def words(site: Path, name: str) -> str:
    """What a page says, without its markup."""
    [article] = re.findall(r"<article.*?</article>", page(site, name), re.S)
    return html.unescape(re.sub(r"<[^>]+>", "", article)).strip()


def figure(pattern: str, text: str) -> float:
    found = re.search(pattern, text)
    assert found is not None, pattern
    return float(found[1])
