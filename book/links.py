"""Where links go: those inside lead to a page and an anchor that exist, those outside have the form of an address."""

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADED = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src"}
ON_GITHUB = re.compile(
    r"/[\w.-]+/[\w.-]+(/(issues|pull|discussions)/\d+|/commit/[0-9a-f]{7,40}|/(blob|tree|releases)/.*|/?)"
)


class Page(HTMLParser):
    """The links and anchors of a page, and what a browser loads with it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.anchors: set[str] = {""}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.anchors |= {value for key in ("id", "name") if (value := given.get(key))}
        address = given.get(LOADED.get(tag, "href"))
        if address and given.get("rel") not in ("canonical", "next", "prev"):
            (self.loaded if tag in LOADED else self.links).append(address)


def broken(site: Path) -> list[str]:
    """Every link of a site that leads nowhere, and everything that would be loaded from elsewhere."""
    pages = {file: Page(file.read_text()) for file in sorted(site.rglob("*.html")) if file.name != "404.html"}
    found = []
    for file, page in pages.items():
        for address in [*page.links, *page.loaded]:
            wrong = trouble(address, file, pages, loaded=address in page.loaded)
            if wrong:
                found.append(f"{file.relative_to(site)}: {address}: {wrong}")
    return found


def trouble(address: str, file: Path, pages: dict[Path, Page], loaded: bool) -> str:
    """What is wrong with one address, or nothing."""
    parts = urlsplit(address)
    if parts.scheme in ("data", "mailto", "javascript"):
        return ""
    if parts.scheme or parts.netloc:
        if loaded:
            return "is loaded from elsewhere; the site must do without a network"
        if parts.scheme != "https" or "." not in parts.netloc or " " in address:
            return "has not the form of an address"
        if parts.netloc == "github.com" and not ON_GITHUB.fullmatch(parts.path):
            return "has not the form of an address on GitHub"
        return ""
    target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
    target = target / "index.html" if target.is_dir() else target
    if not target.exists():
        return "is no page of the site"
    if parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors:
        return "is no anchor of that page"
    return ""
