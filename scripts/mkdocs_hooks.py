"""Hooks of the documentation site (``mkdocs.yml``): documents from outside ``docs/`` become pages of it.

The links of every page are rewritten to where their target lies in the site; of a file that the site does not hold,
such as a configuration, the text of the link stays.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
# document -> page of the site
PLACES = {
    "README.md": "index.md",
    "models/README.md": "models.md",
    "CONTRIBUTING.md": "contributing.md",
    "CODE_OF_CONDUCT.md": "conduct.md",
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
}
_LINK = re.compile(r"\[([^\]]*)\]\(([^)\s#]+)(#[^)\s]*)?\)")


def on_files(files: Any, config: Any) -> Any:
    """Add the documents from outside."""
    from mkdocs.structure.files import File

    for source, page in PLACES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Any) -> str:
    """Rewrite the links of a page."""
    return relink(markdown, page.file.src_uri)


def relink(markdown: str, page: str) -> str:
    """The text of a page with its links as the site needs them.

    Args:
        markdown: the text, with links relative to the document's place in the repository.
        page: the page's path in the site, such as ``index.md``.
    """
    documents = {target: source for source, target in PLACES.items()}
    source = documents.get(page, f"docs/{page}")

    def place(match: re.Match[str]) -> str:
        text, target, anchor = match[1], match[2], match[3] or ""
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        if not (ROOT / path).exists():
            return match[0]
        if path in PLACES:
            path = PLACES[path]
        elif path.startswith("docs/"):
            path = path.removeprefix("docs/")
        else:
            return text
        return f"[{text}]({posixpath.relpath(path, posixpath.dirname(page) or '.')}{anchor})"

    return _LINK.sub(place, markdown)
