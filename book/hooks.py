"""What MkDocs calls while it builds the site, in this order."""

import os
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from book import examples, figures, links, prose, tables, variants
from rope_ref.catalogue import CATALOGUE

ROOT = Path(__file__).parents[1]
INCLUDED = {"examples/README.md": "adapters.md", "examples/c/README.md": "languages-c.md", "CHANGELOG.md": "changes.md",
            "CONTRIBUTING.md": "contributing.md"}  # fmt: skip
LINK = re.compile(r"(?<!!)\[([^\[\]]+)\]\((?!\w+:|#)([^()\s#?]+)([#?][^()\s]*)?\)")
CODE = re.compile(r"(^```.*?^```)", re.DOTALL | re.MULTILINE)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Fill the navigation: variants by group, and every page of docs/ that no chapter names."""
    groups: dict[str, list[Any]] = {}
    for name in CATALOGUE:
        groups.setdefault(variants.group(name), []).append({name: f"variants/{name}.md"})
    nav = config.nav or []
    named = set(re.findall(r"[\w/.-]+\.md", repr(nav)))
    rest = sorted(file.name for file in Path(config.docs_dir).glob("*.md") if file.name not in named)
    for entry in nav:
        if "Variants" in entry:
            entry["Variants"] += [{title: pages} for title, pages in groups.items()]
        if "Reference" in entry:
            entry["Reference"] += rest
    config.nav = nav
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that come from elsewhere in the repository, pictures and numbers."""
    made = {f"variants/{name}.md": variants.page(name) for name in CATALOGUE}
    made |= {"variants/index.md": variants.overview(), "explorer/tables.js": tables.script()}
    made |= {page: (ROOT / path).read_text() for path, page in INCLUDED.items()}
    made |= {f"figures/{name}.svg": picture for name, picture in figures.drawn().items()}
    for name, text in made.items():
        files.append(File.generated(config, name, content=text))
    texts = {file.src_uri: file.content_string for file in files.documentation_pages()}
    for path in sorted({path for name, text in texts.items() for path in _sources(name, text)}):
        files.append(File.generated(config, f"source/{path}.md", content=source(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Run the examples, set the equations, follow links out of docs/ to where the site shows them."""
    name = page.file.src_uri
    if name.startswith("source/"):
        return markdown
    try:
        markdown = examples.executed(markdown, name, _home(name).parent)
    except examples.Broken as error:
        raise PluginError(str(error)) from error
    pieces = CODE.split(markdown)
    pieces[::2] = [LINK.sub(lambda match: _followed(match, name, files), piece) for piece in pieces[::2]]
    text = "".join(pieces)
    return re.sub(r"(?<=\n\n)(?:    .*\n)+", lambda match: _equations(match[0]), text + "\n")


def on_post_build(config: MkDocsConfig) -> None:
    """Fail on links that lead nowhere, and on anything that a browser would load from elsewhere."""
    if wrong := links.broken(Path(config.site_dir)):
        raise PluginError("broken links:\n" + "\n".join(wrong))


def source(path: str) -> str:
    """A page that shows a file of the repository."""
    kind = {".py": "python", ".h": "c"}.get(Path(path).suffix, Path(path).suffix[1:])
    code = (ROOT / path).read_text().rstrip()
    return f"---\nsearch: {{exclude: true}}\n---\n\n# {path}\n\n~~~~~~ {{.{kind} linenums=1}}\n{code}\n~~~~~~\n"


def _home(name: str) -> Path:
    """The file of the repository that a page is made of."""
    return ROOT / next((path for path, page in INCLUDED.items() if page == name), f"docs/{name}")


def _target(name: str, link: str) -> str:
    """The path in the repository that a link of a page names; a leading slash is the root."""
    folder = _home(name).parent.relative_to(ROOT).as_posix()
    return link[1:] if link.startswith("/") else posixpath.normpath(posixpath.join(folder, link))


def _sources(name: str, text: str) -> list[str]:
    """Files outside docs/ that a page links to and that are no pages themselves."""
    paths = [_target(name, match[2]) for match in LINK.finditer("".join(CODE.split(text)[::2]))]
    return [path for path in paths if path not in INCLUDED and not path.startswith("docs/")]


def _followed(match: re.Match[str], name: str, files: Files) -> str:
    words, link, rest = match[1], match[2], match[3] or ""
    path = _target(name, link)
    page = INCLUDED.get(path) or (path[len("docs/") :] if path.startswith("docs/") else f"source/{path}.md")
    if files.get_file_from_path(page) is None:
        page = f"source/{path}.md"
    if files.get_file_from_path(page) is None:
        raise PluginError(f"{name} links to {link}, which is neither a page nor a file of the repository")
    if page.startswith("source/") and rest[1:].isdigit():
        rest = f"#__codelineno-0-{rest[1:]}"
    return f"[{words}]({os.path.relpath(page, posixpath.dirname(name) or '.')}{rest})"


def _equations(text: str) -> str:
    """An indented block as mathematics, if that is what it is."""
    if text.startswith("        "):
        return text
    rows = prose.block(text.rstrip())
    return f"{rows}\n" if rows.startswith("<table") else text
