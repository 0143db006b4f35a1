"""What MkDocs needs of the repository beyond the folder of pages, and what notebooks say."""

import os
import re
import sys
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nbformat
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from nbclient import NotebookClient
from nbconvert import MarkdownExporter

ROOT = Path(__file__).parents[2]
OUTSIDE = ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")
"""Pages at the top of the repository, which GitHub and PyPI look for there."""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """List every method's page."""
    nav: list[Any] = config.nav or []
    methods = sorted(path.name for path in (ROOT / "docs" / "methods").glob("*.md"))
    for entry in nav:
        if "Methods" in entry:
            entry["Methods"] = [f"methods/{name}" for name in methods]
    nav.append({"The house": ["contributing.md", "changelog.md", "security.md"]})
    config.nav = nav
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Take the README as the first page, what else stands outside of `docs`, and notebooks."""
    for name, target in (("README.md", "index.md"), *((n, n.lower()) for n in OUTSIDE)):
        text = (ROOT / name).read_text("utf-8").replace("](docs/", "](")
        for outside in OUTSIDE:
            text = text.replace(f"]({outside})", f"]({outside.lower()})")
        files.append(
            File.generated(
                config, target, content=re.sub(r"\]\((LICENSE|CITATION\.cff)\)", "](#)", text)
            )
        )
    for notebook in sorted((ROOT / "docs" / "notebooks").glob("*.ipynb")):
        for name, content in _executed(notebook.stem, notebook.read_text("utf-8")).items():
            files.append(File.generated(config, f"notebooks/{name}", content=content))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Lead links to pages of the repository to where these are on the site."""
    for outside in OUTSIDE:
        for up in ("../../", "../"):
            inside = up.removeprefix("../") + outside.lower()
            markdown = markdown.replace(f"]({up}{outside}", f"]({inside}")
    return re.sub(r"(\]\([./]*notebooks/[\w-]+)\.ipynb\)", r"\1.md)", markdown)


@cache  # `mkdocs serve` builds anew whenever a page is saved
def _executed(name: str, notebook: str) -> dict[str, str | bytes]:
    """Run a notebook in an empty folder; gives its page and the pictures in it by file name.

    Raises:
        CellExecutionError: a cell fails; shows it.
    """
    book = nbformat.reads(notebook, as_version=4)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with TemporaryDirectory() as folder:
        NotebookClient(
            book,
            timeout=600,
            kernel_name="python3",
            extra_arguments=["--log-level=ERROR"],
            resources={"metadata": {"path": folder}},
        ).execute(env={**os.environ, "PATH": path})
    page, found = MarkdownExporter().from_notebook_node(book, resources={"unique_key": name})
    download = f"*This page is a [notebook]({name}.ipynb), executed when the site is built.*\n\n"
    title, _, rest = page.partition("\n")
    pictures = {file: content for file, content in found["outputs"].items() if file in page}
    body = f'<div class="notebook" markdown>\n{rest}\n</div>\n'  # for site.css
    return {f"{name}.md": f"{title}\n\n{download}{body}", **pictures}
