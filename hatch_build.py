"""What the package says of where it comes from, as whoever builds it knows it.

The repository's address is that of the workflow that releases; a build elsewhere has none to name.
"""

import os
import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

LINK = re.compile(r"(!?)\[([^]]*)\]\((?!https?:|#)([^)\s]+)\)")


class Metadata(MetadataHookInterface):
    """Project links, and a README whose links lead somewhere outside of the repository, too."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Fill in `urls` and `readme`."""
        repository = _repository()
        text = Path(self.root, "README.md").read_text("utf-8")
        metadata["readme"] = {
            "content-type": "text/markdown",
            "text": absolute(text, repository, os.environ.get("GITHUB_REF_NAME", "main")),
        }
        metadata["urls"] = urls(repository)


def urls(repository: str) -> dict[str, str]:
    """Links by their names on PyPI."""
    if not repository:
        return {}
    return {
        "Source": repository,
        "Documentation": f"{repository}/tree/main/docs",
        "Changes": f"{repository}/blob/main/CHANGELOG.md",
        "Issues": f"{repository}/issues",
    }


def absolute(text: str, repository: str, reference: str) -> str:
    """The text with links into the repository, as PyPI does not have the files beside it."""
    if not repository:
        return text

    def replaced(match: re.Match[str]) -> str:
        picture, words, target = match.groups()
        kind = "raw" if picture else "blob"
        return f"{picture}[{words}]({repository}/{kind}/{reference}/{target})"

    return LINK.sub(replaced, text)


def _repository() -> str:
    server, name = (os.environ.get(f"GITHUB_{part}") for part in ("SERVER_URL", "REPOSITORY"))
    return f"{server}/{name}" if server and name else ""
