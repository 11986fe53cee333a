"""The documents hold together: links and anchors lead somewhere, every page is in the navigation of the site."""

from __future__ import annotations

import ast
import re
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
TOP = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CODE_OF_CONDUCT.md", "CHANGELOG.md", "models/README.md")
PAGES = [*(ROOT / name for name in TOP), *sorted((ROOT / "docs").rglob("*.md"))]
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
ELSEWHERE = ("http://", "https://", "mailto:")


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def prose(text: str) -> str:
    """The text without what is shown as it stands: fenced blocks, blocks indented by four, and code spans."""
    text = re.sub(r"^(```|~~~).*?^\1[ \t]*$", "", text, flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"(`+)(?:(?!\1).)+?\1", "", text, flags=re.DOTALL)


def slug(heading: str) -> str:
    """The anchor that GitHub and the site make of a heading."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)|[`*]", r"\1", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


def anchors(path: Path) -> set[str]:
    text = re.sub(r"^(```|~~~).*?^\1[ \t]*$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    headings = [slug(found) for found in re.findall(r"^#{1,6} (.+)$", text, re.MULTILINE)]
    return {*headings, *re.findall(r'<a id="([^"]+)"', text)}


def broken_links(page: Path) -> Iterator[str]:
    for target in LINK.findall(prose(page.read_text(encoding="utf-8"))):
        if target.startswith(ELSEWHERE):
            continue
        file, _, anchor = target.partition("#")
        path = (page.parent / file).resolve() if file else page
        if not path.exists():
            yield f"{target}: there is no such file"
        elif anchor and anchor not in anchors(path):
            yield f"{target}: that page has no such anchor"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_link_leads_somewhere(page: Path) -> None:
    assert list(broken_links(page)) == []


@pytest.mark.parametrize(("page", "least"), [("SECURITY.md", 9), ("docs/reliability.md", 11), ("docs/pairing.md", 1)])
def test_every_test_that_a_page_names_is_there(page: str, least: int) -> None:
    named = re.findall(r"`(?:test/(?:\w+/)?)?(test_\w+\.py)(?:::(\w+))?`", (ROOT / page).read_text(encoding="utf-8"))
    assert len(named) >= least
    for file, function in named:
        found = list((ROOT / "test").rglob(file))
        assert found, f"there is no {file}"
        assert not function or f"def {function}(" in found[0].read_text(encoding="utf-8"), f"{file} has no {function}"


def test_the_link_check_itself_sees(tmp_path: Path) -> None:
    (tmp_path / "b.md").write_text('# A `b` c!\n<a id="x"></a>\n```bash\n# no heading\n```\n')
    page = tmp_path / "a.md"
    page.write_text(
        "[ok](b.md) [ok](b.md#a-b-c) [ok](b.md#x) [ok](https://x.org/y) ![gone](c.png)\n"
        "[none](b.md#no-heading) [own](#there) `[code](d.md)`\n```\n[code](e.md)\n```\n"
    )
    assert [finding.partition(":")[0] for finding in broken_links(page)] == ["c.png", "b.md#no-heading", "#there"]


def site() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    return loaded


@pytest.fixture(scope="module")
def hooks() -> dict[str, Any]:
    """What scripts/mkdocs_hooks.py defines."""
    (path,) = site()["hooks"]
    return runpy.run_path(str(ROOT / path))


def pages_in(navigation: list[Any]) -> Iterator[str]:
    for entry in navigation:
        for target in entry.values():
            if isinstance(target, list):
                yield from pages_in(target)
            else:
                yield target


def test_every_page_is_in_the_navigation_once() -> None:
    listed = list(pages_in(site()["nav"]))
    assert len(listed) == len(set(listed))
    assert {str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md")} - set(listed) == set()


def test_every_page_of_the_navigation_exists(hooks: dict[str, Any]) -> None:
    brought = set(hooks["PLACES"].values())
    for source in hooks["PLACES"]:
        assert (ROOT / source).is_file()
    listed = set(pages_in(site()["nav"]))
    assert {page for page in listed - brought if not (ROOT / "docs" / page).is_file()} == set()
    assert brought <= listed, "a document from outside is a page that nobody finds"


def test_every_module_on_a_page_of_the_reference_exists() -> None:
    shown = re.findall(r"^::: (\S+)$", "\n".join(page.read_text() for page in PAGES), re.MULTILINE)
    assert len(shown) > 10
    for module in shown:
        path = ROOT / module.replace(".", "/")
        source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        assert source.is_file(), module
        assert ast.get_docstring(ast.parse(source.read_text())), f"{module} has nothing to show"


@pytest.mark.parametrize(
    ("page", "written", "shown"),
    [
        ("index.md", "[d](docs/data.md#x) ![i](docs/images/demo.jpg)", "[d](data.md#x) ![i](images/demo.jpg)"),
        ("index.md", "[w](models/README.md), [l](LICENSE)", "[w](models.md), l"),
        ("models.md", "[r](../docs/registration.md)", "[r](registration.md)"),
        (
            "tracking.md",
            "[r](../README.md#measured) [w](https://x.org) [a](#b)",
            "[r](index.md#measured) [w](https://x.org) [a](#b)",
        ),
        ("api/core.md", "[t](../tracking.md) [n](none.md)", "[t](../tracking.md) [n](none.md)"),
    ],
)
def test_links_of_the_site_lead_to_its_pages(hooks: dict[str, Any], page: str, written: str, shown: str) -> None:
    assert hooks["relink"](written, page) == shown
