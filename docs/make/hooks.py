"""What MkDocs needs of the repository beyond the folder of pages."""

from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

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
    """Take the README as the first page, and what else stands outside of `docs`."""
    for name, target in (("README.md", "index.md"), *((n, n.lower()) for n in OUTSIDE)):
        text = (ROOT / name).read_text("utf-8").replace("](docs/", "](")
        for outside in OUTSIDE:
            text = text.replace(f"]({outside})", f"]({outside.lower()})")
        files.append(File.generated(config, target, content=text.replace("](LICENSE)", "](#)")))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Lead links out of `docs` to where those pages are on the site."""
    for outside in OUTSIDE:
        for up in ("../../", "../"):
            inside = up.removeprefix("../") + outside.lower()
            markdown = markdown.replace(f"]({up}{outside}", f"]({inside}")
    return markdown
