#!/usr/bin/env python3
"""website.py - make build/docs/ from docs/, README.md, and whatever they link to.

Usage: website.py
pandoc turns Markdown into its syntax tree, and the tree into HTML; between the two, links to
other documents are led to their pages, and sessions are coloured. A source that is linked gets a
page, too. Then every local link and id of the site is followed; status 1 if one leads nowhere.
Does not: run or compare anything; that is check.py's.
"""
import sys

sys.dont_write_bytecode = True  # no files next to the sources

import functools  # noqa: E402
import html  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import re  # noqa: E402
import shutil  # noqa: E402
import string  # noqa: E402
import subprocess  # noqa: E402
from collections.abc import Iterator  # noqa: E402
from typing import Any  # noqa: E402
from urllib.parse import unquote  # noqa: E402

import book  # noqa: E402
from session import PROMPT  # noqa: E402

OUT = os.path.join(book.ROOT, "build", "docs")
SITE = os.path.join(book.ROOT, "docs", "site")
INDEX, PROJECT = "docs/README.md", "README.md"
LANGUAGES = {".c": "c", ".h": "c", ".sh": "bash", ".py": "python", ".md": "markdown",
             "Makefile": "makefile", ".html": "html", ".css": "css"}
TERMINALS = 6  # colours in style.css
LONG_CELL = 20  # letters; three columns with such cells have no room on a phone
GONE = object()
Node = dict[str, Any]  # of a document, as pandoc writes its tree


def in_tree(path: str) -> str:
    return os.path.join(book.ROOT, path)


# ---- Pandoc's tree -----------------------------------------------------------------------------

def pandoc(text: str, *options: str) -> str:
    return subprocess.run(["pandoc", *options], input=text, stdout=subprocess.PIPE,
                          encoding="utf-8", check=True).stdout


@functools.lru_cache(maxsize=None)
def tree_of(path: str) -> Node:
    # Without that extension: with it, pandoc 2.17 loses code that follows a link in a sentence.
    text = book.read(in_tree(path))
    return json.loads(pandoc(text, "-f", "gfm-autolink_bare_uris", "-t", "json"))


def plain(node: Any) -> str:
    """The text in a part of a tree."""
    if isinstance(node, list):
        return "".join(plain(part) for part in node)
    if not isinstance(node, dict):
        return ""
    if node["t"] == "Str":
        return node["c"]
    if node["t"] == "Code":
        return node["c"][1]
    return " " if node["t"] in ("Space", "SoftBreak") else plain(node.get("c"))


def headings(blocks: list[Node], level: int) -> list[tuple[str, str]]:
    return [(block["c"][1][0], plain(block["c"][2])) for block in blocks
            if block["t"] == "Header" and block["c"][0] == level]


def title_of(path: str) -> str:
    found = headings(tree_of(path)["blocks"], 1)
    return found[0][1] if found else path


def raw(text: str) -> Node:
    return {"t": "RawBlock", "c": ["html", text]}


def link_to(words: str, url: str) -> Node:
    return {"t": "Link", "c": [["", [], []], [{"t": "Str", "c": words}], [url, ""]]}


def in_div(cls: str, block: Node) -> Node:
    attributes = [["tabindex", "0"]] if "scroll" in cls else []  # for those who scroll by key
    return {"t": "Div", "c": [["", cls.split(), attributes], [block]]}


def cells_of(row: list[Any]) -> list[tuple[list[Any], list[Node]]]:
    """(attributes, blocks) of each cell."""
    return [(cell[0], cell[4]) for cell in row[1]]


def in_box(table: Node) -> Node:
    """A table in a box in which it scrolls. Where columns of words would not fit, a narrow page
    shows each row as a card, so each cell is told the heading of its column."""
    _, _, _, head, bodies, _ = table["c"]
    headings_of = [plain(blocks) for _, blocks in cells_of(head[1][0])]
    cells = [cell for body in bodies for row in body[3] for cell in
             zip(headings_of, cells_of(row))]
    longest = max((len(plain(blocks)) for _, (_, blocks) in cells), default=0)
    if longest <= LONG_CELL:
        return in_div("scroll numbers", table)
    if len(headings_of) < 3:
        return in_div("scroll", table)
    for heading, (attributes, _) in cells:
        attributes[2].append(["data-label", heading])
    return in_div("scroll cards", table)


def console(text: str, terminals: dict[str, int]) -> Node:
    """A session: prompts in the colour of their terminal, commands bold, output dim."""
    lines, typed = [], False
    for line in text.split("\n"):
        match = PROMPT.match(line)
        if match:
            name, rest = match[1], match[2] or ""
            number = terminals.setdefault(name, len(terminals)) % TERMINALS
            prompt = name + "$ "
        elif typed and line.startswith("> "):
            prompt, rest = line[:2], line[2:]
        else:
            typed = False
            lines.append(f'<span class="out">{html.escape(line)}</span>')
            continue
        typed = True
        lines.append(f'<span class="prompt t{number}">{prompt}</span><b>{html.escape(rest)}</b>')
    return raw('<pre class="console" tabindex="0"><code>' + "\n".join(lines) + "</code></pre>")


def diff(text: str) -> Node:
    """Lines that come and lines that go, in colours."""
    kinds = (("+++ ", "hunk"), ("--- ", "hunk"), ("@@", "hunk"), ("+", "added"), ("-", "removed"),
             ("", "kept"))
    lines = []
    for line in text.split("\n"):
        kind = next(kind for start, kind in kinds if line.startswith(start))
        lines.append(f'<span class="{kind}">{html.escape(line)}\n</span>')
    return raw('<pre class="diff" tabindex="0"><code>' + "".join(lines) + "</code></pre>")


# ---- Pages -------------------------------------------------------------------------------------

class Site:
    """All pages; making one may show that more are needed."""

    def __init__(self) -> None:
        self.outputs: dict[str, str] = {}  # path in the tree: path in the site
        self.queue: list[str] = []
        self.anchors = book.anchors()
        with open(os.path.join(SITE, "template.html"), encoding="utf-8") as file:
            self.template = string.Template(file.read())
        self.chapters = self.in_order()  # [(path, label)]
        self.api = tree_of(PROJECT)["pandoc-api-version"]

    def in_order(self) -> list[tuple[str, str]]:
        """As docs/README.md links to them; then the others."""
        order = {INDEX: "Contents"}
        there = [os.path.relpath(path, book.ROOT) for path in book.chapters()]
        links = re.findall(r"\[([^\]]+)\]\(([\w.-]+\.md)\)", book.read(in_tree(INDEX)))
        for label, name in links:
            if "docs/" + name in there:
                order.setdefault("docs/" + name, label)
        for path in there[1:]:
            order.setdefault(path, title_of(path))
        order[PROJECT] = "About the project"
        return list(order.items())

    def output_of(self, path: str) -> str:
        """Where the page, or the copy, of something in the tree is; remembers to make it."""
        if path in self.outputs:
            return self.outputs[path]
        inner = path[len("docs/"):] if path.startswith("docs/") else path
        if inner.startswith(("pictures/", "results")) and inner != path:
            return inner if os.path.splitext(inner)[1] else os.path.join(inner, "index.html")
        if path.endswith(".md"):
            output = {INDEX: "index.html", PROJECT: "project.html"}.get(path, inner[:-3] + ".html")
        elif os.path.isdir(in_tree(path)):
            output = os.path.join("source", path, "index.html")
        else:
            output = os.path.join("source", path + ".html")
        self.outputs[path] = output
        if os.path.exists(in_tree(path)) and not path.startswith(".."):
            self.queue.append(path)
        return output

    def url(self, page: str, target: str) -> str:
        """A link as it stands in a document, to one as it must stand in its page."""
        path, hash_sign, fragment = target.partition("#")
        if not path or re.match(r"[a-z]+:", target):
            return target
        path = os.path.normpath(os.path.join(os.path.dirname(page), unquote(path)))
        return self.url_of(page, path) + hash_sign + fragment

    def url_of(self, page: str, path: str) -> str:
        """From the page of a document to the page of something in the tree."""
        here = os.path.dirname(self.output_of(page))
        return os.path.relpath(self.output_of(path), here or ".")

    def words_of(self, page: str, target: str, words: list[dict[str, str]]) -> list[dict[str, str]]:
        """A link's words; the name of a file is none, its document's title is."""
        path = os.path.normpath(os.path.join(os.path.dirname(page), target.partition("#")[0]))
        if not path.endswith(".md") or plain(words) not in (path, os.path.basename(path)):
            return words
        return [{"t": "Str", "c": dict(self.chapters).get(path) or title_of(path)}]

    def source_of(self, page: str, name: str) -> Any:
        """A link to the line that an excerpt comes from."""
        if name not in self.anchors:
            return GONE
        path = self.anchors[name][0][0]
        lines = [line.strip() for line in book.read(in_tree(path)).split("\n")]
        url = f"{self.url_of(page, path)}#cb1-{lines.index(f'/* [{name}] */') + 2}"
        return in_div("where", {"t": "Plain", "c": [link_to(path, url)]})

    def change(self, node: Any, page: str, terminals: dict[str, int]) -> Any:
        """A part of a document's tree, as the page has it."""
        if isinstance(node, list):
            parts = (self.change(part, page, terminals) for part in node)
            return [part for part in parts if part is not GONE]
        if not isinstance(node, dict) or "c" not in node:
            return node
        kind, content = node["t"], node["c"]
        if kind == "RawBlock" and content[1].startswith("<!--"):
            excerpt = re.match(r"<!-- excerpt ([\w.-]+) -->", content[1])
            return self.source_of(page, excerpt[1]) if excerpt else GONE
        if kind == "CodeBlock" and "console" in content[0][1]:
            return console(content[1], terminals)
        if kind == "CodeBlock" and "diff" in content[0][1]:
            return diff(content[1])
        if kind == "Math":  # later pandocs see it between two prompts
            return {"t": "Str", "c": f"${content[1]}$"}
        content = self.change(content, page, terminals)
        if kind == "Para" and [part["t"] for part in content] == ["Image"]:
            return in_div("figure", {"t": "Plain", "c": content})
        if kind in ("Link", "Image"):
            url, title = content[2]
            content[1] = self.words_of(page, url, content[1])
            content[2] = [self.url(page, url), title and "measured: " + title]
            if title:
                content[0][1].append("measured")
        changed = {"t": kind, "c": content}
        return in_box(changed) if kind == "Table" else changed

    def body_of(self, path: str) -> tuple[str, list[Node]]:
        """The title and the tree of a page."""
        if path.endswith(".md"):
            return title_of(path), self.change(tree_of(path)["blocks"], path, {"server": 0})
        name = {"t": "Code", "c": [["", [], []], path]}
        heading = {"t": "Header", "c": [1, ["", [], []], [name]]}
        if os.path.isdir(in_tree(path)):
            links = [[{"t": "Plain", "c": [link_to(name, self.url_of(path, f"{path}/{name}"))]}]
                     for name in sorted(os.listdir(in_tree(path))) if name[0] not in "._"]
            return path, [heading, {"t": "BulletList", "c": links}]
        ending = os.path.splitext(path)[1] or os.path.basename(path)
        classes = [LANGUAGES.get(ending, "default"), "numberLines"]
        text = book.read(in_tree(path))
        return path, [heading, {"t": "CodeBlock", "c": [["", classes, []], text]}]

    def list_of_chapters(self, page: str) -> str:
        items = "".join(f'<li><a href="{self.url_of(page, path)}"'
                        f'{" aria-current=page" if path == page else ""}>{html.escape(label)}'
                        '</a></li>' for path, label in self.chapters)
        return f"<ul>{items}</ul>"

    def turn(self, page: str) -> str:
        paths = [path for path, _ in self.chapters]
        if page not in paths:
            return ""
        at, links = paths.index(page), []
        for step, rel, words in ((-1, "prev", "← {}"), (1, "next", "{} →")):
            if 0 <= at + step < len(paths):
                path, label = self.chapters[at + step]
                links.append(f'<a rel="{rel}" href="{self.url_of(page, path)}">'
                             f'{html.escape(words.format(label))}</a>')
        return " ".join(links)

    def make(self, path: str) -> None:
        output = self.output_of(path)
        title, blocks = self.body_of(path)
        tree = {"pandoc-api-version": self.api, "meta": {}, "blocks": blocks}
        body = pandoc(json.dumps(tree), "-f", "json", "-t", "html5", "--wrap=none")
        body = re.sub(r"<colgroup>.*?</colgroup>\s*", "", body, flags=re.S)  # let the browser
        body = re.sub(r'<table style="width:[^"]*">', "<table>", body)
        sections = "".join(f'<li><a href="#{name}">{html.escape(words)}</a></li>'
                           for name, words in headings(blocks, 2))
        if sections:
            toc = f'<nav class="toc" aria-label="On this page"><ul>{sections}</ul></nav>'
            body = body.replace("</h1>", "</h1>\n" + toc, 1)
        site = title_of(self.chapters[0][0])
        page = self.template.substitute(
            title=html.escape(title if title == site else f"{title} - {site}"),
            site=html.escape(title_of(PROJECT)), body=body, turn=self.turn(path),
            chapters=self.list_of_chapters(path),
            root=os.path.relpath(".", os.path.dirname(output) or "."))
        os.makedirs(os.path.dirname(os.path.join(OUT, output)), exist_ok=True)
        with open(os.path.join(OUT, output), "w", encoding="utf-8") as file:
            file.write(page)

    def lead_back(self, report: str) -> None:
        """The report's way back to the tutorial is one to the site's first page here."""
        text = book.read(report).replace('href="../README.md"', 'href="../index.html"')
        with open(report, "w", encoding="utf-8") as file:
            file.write(text)

    def build(self) -> None:
        shutil.rmtree(OUT, ignore_errors=True)
        os.makedirs(OUT)
        for folder in ("pictures", "results"):
            shutil.copytree(in_tree("docs/" + folder), os.path.join(OUT, folder))
        shutil.copy(os.path.join(SITE, "style.css"), OUT)
        self.lead_back(os.path.join(OUT, "results", "index.html"))
        for path, _ in self.chapters:
            self.output_of(path)
        while self.queue:
            self.make(self.queue.pop(0))


# ---- Is every link good? -----------------------------------------------------------------------

def dead_links() -> Iterator[str]:
    pages = {}
    for folder, _, names in os.walk(OUT):
        for name in names:
            if name.endswith(".html"):
                path = os.path.join(folder, name)
                pages[path] = book.Links(book.read(path))
    for path, links in sorted(pages.items()):
        for target in sorted(links.targets):
            name, _, fragment = target.partition("#")
            there = os.path.normpath(os.path.join(os.path.dirname(path), unquote(name)))
            there = there if name else path
            if not os.path.exists(there):
                yield f"{os.path.relpath(path, OUT)}: no {target}"
            elif fragment and there in pages and unquote(fragment) not in pages[there].ids:
                yield f"{os.path.relpath(path, OUT)}: no such id, {target}"


def main() -> int:
    Site().build()
    dead = list(dead_links())
    for line in dead:
        print(line)
    count = sum(name.endswith(".html") for _, _, names in os.walk(OUT) for name in names)
    print(f"build/docs/index.html: {count} pages, {len(dead)} dead links")
    return 1 if dead else 0


if __name__ == "__main__":
    sys.exit(main())
