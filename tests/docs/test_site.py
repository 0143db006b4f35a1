import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


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
    first, reference = (
        (tmp_path / name).read_text("utf-8") for name in ("index.html", "reference/index.html")
    )
    # What stands outside of the folder of pages is there, too, and links to it lead there.
    assert 'href="contributing/"' in first
    assert all((tmp_path / name).exists() for name in ("contributing", "changelog", "security"))
    assert 'id="onlygood.Detector.fit"' in reference and 'id="onlygood.compare"' in reference
    assert all((tmp_path / "methods" / page.stem).is_dir() for page in ROOT.glob("docs/methods/*"))
