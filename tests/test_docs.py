#!/usr/bin/env python3
"""test_docs.py - do the tools of docs/ find what is wrong with a document? Each is given small
documents, with one thing wrong in each.

Does not: look at the documents of this project; docs/tools/check.py does. The last line is like
Check's, for tests/run.sh.
"""
import sys

sys.dont_write_bytecode = True

import contextlib  # noqa: E402
import glob  # noqa: E402
import io  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import shutil  # noqa: E402
import signal  # noqa: E402
import subprocess  # noqa: E402
import tempfile  # noqa: E402
import unittest  # noqa: E402
from collections.abc import Callable  # noqa: E402
from typing import Any  # noqa: E402
from unittest import mock  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TOOLS = os.path.join(ROOT, "docs", "tools")
sys.path.insert(0, TOOLS)

import book  # noqa: E402
import check  # noqa: E402
import pictures  # noqa: E402
import predict  # noqa: E402
import saved  # noqa: E402
import session  # noqa: E402
import terminal  # noqa: E402
import website  # noqa: E402

RUN = {
    "headline": [{"candidate": "stage1", "keep_alive_us": 12.5}],
    "experiments": {
        "herd": {"seconds": 7, "ok": True, "skipped": None, "problems": [], "rows": [
            {"candidate": "stage1", "clients": 1, "us": 2.5, "state": "stopped", "each": [1, 2]},
            {"candidate": "stage4", "clients": 1, "us": 5.0, "none": 0},
            {"candidate": "stage4", "clients": 8, "us": 1234.5, "none": 0}]}}}
KNOWN = {"a.one": [("x.c", "int one;\nint two;")], "a.empty": [("x.c", "")],
         "a.same": [("x.c", "int x;"), ("y.c", "int x;")],
         "a.twice": [("x.c", "int x;"), ("y.c", "int y;")]}
LINK = '[{}](results/index.html#herd "{}")'


def console(*lines: Any, rules: Any = "") -> Any:
    return "\n".join([*([f"<!-- check: {rules} -->"] if rules else []), "```console", *lines,
                      "```", ""])


def excerpt(name: str, *lines: Any) -> Any:
    return "\n".join([f"<!-- excerpt {name} -->", "```c", *lines, "```", ""])


class Case(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory(prefix="test-docs.")
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.write("results/index.html", '<h2 id="herd">x</h2>')

    def write(self, name: str, text: str) -> str:
        path = os.path.join(self.folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def quietly(self, function: Callable[..., Any], *arguments: Any) -> tuple[Any, str]:
        """(what it returns, what it prints)."""
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            result = function(*arguments)
        return result, out.getvalue()


class Static(Case):
    """What is pulled, and links."""

    def check(self, text: str, update: bool = False) -> tuple[str, str]:
        """(what was found wrong, the document afterwards)."""
        path, report = self.write("x.md", text), check.Report(False)
        printed = self.quietly(check.check_static, report, path, KNOWN, RUN, update)[1]
        self.assertEqual(report.failures > 0, "x.md: " in printed, printed)
        self.assertGreater(report.checks, 0)
        return printed, book.read(path)

    def good(self, text: str) -> None:
        self.assertEqual(self.check(text)[0], "")

    def bad(self, text: str, message: Any) -> None:
        """It is found, and --update does not hide it."""
        for update in (False, True):
            found, after = self.check(text, update)
            self.assertIn(message, found)
            self.assertEqual(after, text)

    def stale(self, text: str, mended: Any) -> None:
        """It is found, and --update mends it."""
        found, after = self.check(text)
        self.assertIn("make docs-update", found)
        self.assertEqual(after, text)
        found, after = self.check(text, update=True)
        self.assertEqual((found.count("updated"), found.count("\n")), (1, 1), found)
        self.assertEqual(after, mended)
        self.good(mended)

    def test_excerpts(self) -> None:
        now = excerpt("a.one", "int one;", "int two;")
        olds: list[list[str]] = [["int one;"], ["int one;", "int 2;"],
                                 ["int one;", "int two;", "more"], []]
        for old in olds:
            self.stale(f"a\n\n{excerpt('a.one', *old)}\nb\n", f"a\n\n{now}\nb\n")
        self.good(excerpt("a.same", "int x;"))
        self.bad(excerpt("a.none", "x"), "no anchor [a.none]")
        self.bad(excerpt("a.twice", "int x;"), "different code in x.c and y.c")
        self.bad(excerpt("a.empty", "x"), "names nothing")

    def test_anchors_in_sources(self) -> None:
        self.write("common/room/a.c", "\n".join([
            "/* [a.one] */", "int f(void)", "{", '    g("{");', "", "    /* [a.in] */", "    h();",
            "    i(); /* { */", "}", "", "int after;", "/* [a.end] */", ""]))
        self.write("stage1_x/main.c", "/* [a.one] */\nint other;\n")
        with mock.patch.object(book, "ROOT", self.folder):
            known = book.anchors()
        self.assertEqual(known["a.one"], [
            ("common/room/a.c", 'int f(void)\n{\n    g("{");\n\n    h();\n    i(); /* { */\n}'),
            ("stage1_x/main.c", "int other;")])
        self.assertEqual(known["a.in"], [("common/room/a.c", "h();\ni(); /* { */")])
        self.assertEqual(known["a.end"], [("common/room/a.c", "")])

    def test_brackets_before_a_number_are_left_alone(self) -> None:
        text = "b[0 .. n), a[1] and " + LINK.format("2.5", "herd stage1 us")
        self.good(text)
        self.stale(text.replace("2.5", "9.9"), text)

    def test_pictures(self) -> None:
        report = check.Report(False)
        shutil.copytree(pictures.FOLDER, os.path.join(self.folder, "pictures"))
        with mock.patch.object(pictures, "FOLDER", os.path.join(self.folder, "pictures")):
            self.quietly(check.check_pictures, report)
            self.assertEqual(report.failures, 0)
            self.write("pictures/sets.svg", "<svg/>")
            self.write("pictures/sheep.svg", "<svg/>")
            printed = self.quietly(check.check_pictures, report)[1]
        self.assertEqual(report.failures, 2)
        self.assertIn("sets.svg: not what is drawn", printed)
        self.assertIn("sheep.svg: picture: no script", printed)

    def test_diff(self) -> None:
        found, after = self.check("<!-- diff select poll -->\n```diff\nold\n```\n", update=True)
        self.assertIn("updated", found)
        self.assertIn("--- stage3_select/wait_select.c\n+++ stage3_select/wait_poll.c\n", after)
        self.good(after)
        self.bad("<!-- diff 1 nonsense -->\n```diff\nx\n```\n", "printed nothing")

    def test_numbers(self) -> None:
        for text, selector in (
                ("2.5 µs", "herd stage1 clients=1 us"), ("1,234 µs", "herd clients=8 us"),
                ("0.0025", "herd stage1 us / 1000"), ("0.50", "herd stage1 us / herd clients=1 "
                                                     "candidate=stage4 us"),
                ("stopped", "herd stage1 state"), ("12.5", "headline stage1 keep_alive_us"),
                ("about 1,200", "herd stage4 clients=8 us"),
                ("5, or so", "herd stage4 clients=1 us")):
            self.good(f"So {LINK.format(text, selector)}.\n")
        self.stale(LINK.format("a 2 b", "herd clients=8 us / 10"),
                   LINK.format("a 123 b", "herd clients=8 us / 10"))
        self.stale("[2.4](docs/results/index.html#herd \"herd stage1 us\") [x](x.md)\n".replace(
            "docs/", ""), '[2.5](results/index.html#herd "herd stage1 us") [x](x.md)\n')

    def test_numbers_of_the_file_above(self) -> None:
        self.write("docs/results/index.html", '<h2 id="herd">x</h2>')
        self.stale('[2.4](docs/results/index.html#herd "herd stage1 us")',
                   '[2.5](docs/results/index.html#herd "herd stage1 us")')

    def test_numbers_that_are_none(self) -> None:
        for selector, message in (
                ("nonsense stage1 us", "no experiment 'nonsense'"),
                ("herd stage9 us", "no row 'stage9'"), ("herd stage1 clients=2 us", "no row"),
                ("herd stage1 ms", "no ms was measured"), ("herd stage4 us", "fits 2 rows"),
                ("herd", "is no selector"), ("herd stage1 each", "is no number"),
                ("herd stage1 state / 10", "unsupported"), ("herd stage1 us / 0", "zero"),
                ("herd stage1 us / herd stage4 us", "fits 2 rows")):
            self.bad(LINK.format("1", selector), message)
        self.bad(LINK.format("one", "herd stage1 us"), "has no number")
        self.bad('[1](results/index.html#herd\n"herd stage1 us")', "stand on one line")

    def test_tables(self) -> None:
        ask = '<!-- table herd stage4 clients=8: candidate "who", us "µs", none "a", no "b" -->\n'
        head = "| who | µs | a | b |\n|---|---:|---:|---:|\n"
        row = "| stage4 | 1,234 | 0 | - |\n"
        self.good(f"{ask}{head}{row}\nb\n")
        for old in (head, head + row.replace("0", "1"), head + row + row, "| |\n"):
            self.stale(f"{ask}{old}\nb\n", f"{ask}{head}{row}\nb\n")
        self.stale(f"{ask}\n{head}", f"{ask}\n{head}{row}".rstrip("\n") + "\n")
        self.assertIn("lengths differ", self.check(f"{ask}{head[:-1]}")[0])
        self.bad('<!-- table herd stage9: us "x" -->\n| |\n', "has nothing in it")
        self.bad('<!-- table herd clients=9: us "x" -->\n| |\n', "no row")
        self.bad("<!-- table herd stage1: us -->\n| |\n", "has nothing in it")
        self.bad(f"{ask}\nProse is not written over.\n", "stands no table")

    def test_links(self) -> None:
        self.write("y.md", "# A `title` of *y*, [or](z.md)\n\n```\n# no heading\n```\n")
        self.good("# Top\n[a](y.md) [b](y.md#a-title-of-y-or) [c](#top) [d](https://x/y#z)\n"
                  "![e](results/index.html#herd) `[f](none.md)`\n\n```\n[g](none.md)\n```\n")
        for target in ("z.md", "results", "y.md#no-heading", "#none", "results/index.html#none"):
            wrong = target != "results"
            self.assertEqual(self.check(f"[a]({target})")[0] != "", wrong, target)
        self.bad("[a](z.md)", "z.md leads nowhere")
        self.bad("![a](z.svg)", "z.svg leads nowhere")
        self.bad('[a](z.md\n"with a title")', "z.md leads nowhere")
        self.bad("[a](y.md#none)", "there is no such heading")
        self.bad("# Top\n[a](#top) [b](#bottom)", "#bottom: there is no such heading")

    def test_directives(self) -> None:
        self.bad("a\n\n```console\na$ true\n", "line 3: the block has no end")
        self.bad("<!-- exerpt a.one -->\n```c\n```\n", "line 1: no directive")
        self.bad("<!--excerpt a.one-->\n```c\n```\n", "line 1: no directive")
        self.bad("a\n\n<!-- excerpt a.one -->\n", "stands nothing")
        self.bad("<!-- excerpt a.one -->\nProse.\n", "wrong kind of block")
        self.bad("<!-- check: vary -->\nProse.\n", "wrong kind of block")
        self.bad("<!-- ask herd stage1 us -->\n```c\n```\n", "wrong kind of block")

    def test_questions_are_checked(self) -> None:
        self.good("<!-- ask herd stage1 us -->\n1. How many?\n")
        self.bad("<!-- ask herd stage1 us -->\n1. How many?\n2. Why?\n", "has 2 items")
        self.bad("<!-- ask herd stage9 us -->\n1. How many?\n", "no row 'stage9'")

    def test_program(self) -> None:
        good, bad = (self.write(name, f"# {name}\n[a](#{name})\n\n" + console("a$ echo a", "a"))
                     for name in ("good", "bad"))
        self.write("bad", "[a](none)\n\n" + console("a$ echo a", "b"))
        for arguments, status, sums in (
                ([good], 0, "100%: Checks: 4, Failures: 0, Errors: 0"),
                ([bad, good], 1, "Failures: 2,"), (["--static", good, bad], 1, "Failures: 1,")):
            result, printed = self.quietly(check.main, arguments)
            self.assertEqual(result, status, printed)
            self.assertIn(sums, printed.splitlines()[-1])


class Sessions(Case):
    """Documents whose commands are run."""

    def run_document(self, text: str) -> Any:
        """What was wrong, or None. It is never said twice, and nothing is left running."""
        chapter = session.Chapter(lambda _: None)
        try:
            chapter.run(book.blocks(text))
            return None
        except book.Wrong as error:
            return str(error)
        finally:
            chapter.end()
            self.assertEqual(terminal.marked_pids(chapter.mark), [])
            self.assertFalse(os.path.exists(chapter.folder))

    def good(self, *blocks: Any) -> None:
        self.assertIsNone(self.run_document("\n".join(blocks)))

    def bad(self, message: Any, *blocks: Any) -> None:
        self.assertIn(message, self.run_document("\n".join(blocks)) or "nothing is wrong")

    def test_output(self) -> None:
        self.good(console("a$ echo a; echo b", "a", "b", "a$ true"),
                  console("b$ printf 'a  b \\n\\nc\\n\\n'", "a b", "", "c"),
                  console("c$ for i in 1 2; do", ">   echo a; done", "a", "a"))
        wrong: list[list[str]] = [
            ["aa"], ["bb"], [], ["aa", "c"], ["aa", "bb", "c"], ["bb", "aa"], ["aaa", "bb"],
            ["a", "bb"], ["aa", "b"], ["aa bb"], ["aa", "", "bb"]]
        for shown in wrong:
            self.bad("line 2: a$ echo aa; echo bb\n  printed something else",
                     console("a$ echo aa; echo bb", *shown))
        self.bad("printed something else", console("a$ printf 'a\\n\\nb\\n'", "a", "b"))
        self.good(console("a$ printf 'A\\nB!'", "A", "B!a$"),
                  console("b$ printf A; true", "Ab$", "b$ echo 5$", "5$"))
        self.bad("ends in a newline", console("a$ echo B", "Ba$"))
        self.bad("printed something else", console("a$ printf B", "Bb$"))
        self.bad("begins with a prompt", console("echo", "a$ true"))
        self.bad("without a prompt", console())

    def test_what_always_varies(self) -> None:
        line = "x (pid {}) stage1_blocking[{}]: Sat, {} Nov 2026 09:35:39 GMT {}"
        for number, same in (("1", True), ("2", False)):
            text = console(f"a$ echo '{line.format(1, 2, '01', 1)}'",
                           line.format(3, 4, "02", number))
            self.assertEqual(self.run_document(text) is None, same)

    def test_dots(self) -> None:
        command = "a$ printf 'one two\\nthree\\nfour\\n'"
        for shown in (["..."], ["one ...", "...", "four"], ["...two", "three", "..."],
                      ["one two", "three", "four", "..."], ["o...o", "th...ee", "four"]):
            self.good(console(command, *shown))
        for shown in (["...", "five"], ["... three", "...", "four"], ["one ...", "four"],
                      ["one...", "...", "three"], ["four", "..."]):
            self.bad("printed something else", console(command, *shown))

    def test_varying_numbers(self) -> None:
        command = "a$ echo 'took 1.5ms, 1,234 of 2k, 7 µs, 3MB'"
        shown = "took 20s, 1 of 5, 0.3 µs, 1"
        numbers = "n == [0.0015, 1234, 2000, 7, 3000000]"
        self.good(console(command, shown, rules=f"vary; {numbers}; n[1] < n[2]"))
        self.good(console(command, shown, rules="vary"),
                  console("b$ echo 8", "9", rules="vary; n[0] == 8; n == [8]"))
        self.bad("printed something else", console(command, shown))
        self.bad("printed something else",
                 console(command, shown.replace("took", "in"), rules="vary"))
        self.bad("printed something else", console(command, shown + " 2", rules="vary"))
        for line in ("12345 2", "  1 2"):
            self.good(console(f"a$ echo '{line}'", "  1     2", rules="vary"))

    def test_conditions(self) -> None:
        for rule, message in (("n[0] > n[1]", "'n[0] > n[1]' does not hold; n = [1.0, 2.0]"),
                              ("n[2] > 0", "index out of range"), ("m > 0", "not defined"),
                              ("n[0] >", "invalid syntax"), ("n.x", "no attribute"),
                              ("seconds x", "invalid syntax")):
            self.bad(message, console("a$ echo 1 2", "3 4", rules=f"vary; n[1] > n[0]; {rule}"))

    def test_time_limit(self) -> None:
        self.bad("is not over after 1 s", console("a$ sleep 60", rules="seconds 1"))
        self.bad("is not over after 1 s", console("server$ cat", "client$ true", rules="seconds 1"))
        self.bad("did not print what is shown",
                 console("a$ cat", "up", "a$ ^C", rules="seconds 1"))

    def test_status(self) -> None:
        self.good(console("a$ (exit 28)", rules="status 28"), console("a$ false", rules="status 1"))
        self.bad("ended with status 28", console("a$ (exit 28)"))
        self.good(console("a$ kill -KILL $$", rules="status 137"))
        self.bad("ended with status 0", console("a$ true", rules="status 1"))
        self.bad("a$ false\n  ended with status 1", console("a$ false", "a$ true"))
        self.bad("a$ false\n  ended with status 1",
                 console("a$ false", "a$ false", rules="status 1"))

    def test_servers(self) -> None:
        self.good(console("server$ trap 'echo bye; exit' INT; echo up; while :; do read; done",
                          "up", "client$ echo x", "x", "server$ ^C", "bye", "server$ echo y", "y"))
        self.bad("server$ ^C\n  printed something else",
                 console("server$ trap 'echo bye; exit' INT; echo up; while :; do read; done",
                         "up", "server$ ^C", "good bye"))
        self.bad("is not over after 1 s",
                 console("server$ trap '' INT; echo up; exec cat", "up", "server$ ^C",
                         rules="seconds 1"))
        self.bad("had ended before", console("server$ echo up", "up", "server$ ^C"))
        self.bad("printed something else, or ended",
                 console("server$ echo down", "up", "server$ ^C"))
        self.good(console("a$ cat", "a$ ^D"))
        self.good(console("a$ printf 'up\\nx\\n'; exec cat", "up", "x", "a$ ^C"))
        self.bad("a$ ^C\n  printed something else",
                 console("a$ printf 'up\\nx\\n'; exec cat", "up", "a$ ^C"))
        self.bad("no command was typed there", console("a$ true", "b$"))

    def test_looking_again(self) -> None:
        fifo = os.path.join(self.folder, "fifo")
        os.mkfifo(fifo)
        for last, same in (("third", True), ("fourth", False)):
            text = console(f"a$ echo first; cat {fifo}; echo third", "first",
                           f"b$ echo second >{fifo}") + console("a$", "second", last)
            self.assertEqual(self.run_document(text) is None, same)

    def test_server_left_behind(self) -> None:
        with mock.patch.object(session, "END_S", 0.2):
            self.bad("leaves 1 processes behind", console("a$ trap '' HUP; setsid -f sleep 60"))
        self.good(console("a$ trap '' HUP; setsid -f sleep 0.3"))

    def test_signals_are_a_terminals(self) -> None:
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            self.good(console("a$ cat", "a$ ^C"), console("a$ yes | head -n 1", "y"))
        finally:
            signal.signal(signal.SIGINT, before)

    def test_long_output(self) -> None:
        text = "aµ×" * 3000
        self.good(console("a$ python3 -c 'print(\"aµ×\" * 3000)'", text))

    def test_ports(self) -> None:
        self.good(console("a$ echo 8080 and 8081, 127.0.0.1:8080", "8080 and 8081, 127.0.0.1:8080"),
                  console("a$ test 8080 -ne 8081 -a 8080 -ne $((8079 + 1))"),
                  console("a$ test 18080 -eq $((18079 + 1)) -a 80800 -eq $((80799 + 1))"))
        self.bad("--- came out\nport 8080", console("a$ echo port 8080", "port 8081"))
        used = "import socket; socket.create_server((\"127.0.0.1\", 8080))"
        self.good(console(f"a$ python3 -c '{used}'"))

    def test_scripts(self) -> None:
        self.good("```sh\ntrue\necho x\n```", "<!-- not run: x -->\n```sh\nfalse\n```",
                  "```\nfalse\n```")
        self.bad("ended with status 1", "```sh\nfalse\ntrue\n```")
        self.bad("ended with status 7", "```sh\nexit 7\n```")


@unittest.skipUnless(shutil.which("pandoc"), "pandoc is not installed")
class WebSite(Case):
    """Pages of small documents, in a tree of their own."""

    def setUp(self) -> None:
        super().setUp()
        for module, name, value in ((book, "ROOT", self.folder),
                                    (website, "OUT", os.path.join(self.folder, "build"))):
            patch = mock.patch.object(module, name, value)
            patch.start()
            self.addCleanup(patch.stop)
        website.tree_of.cache_clear()
        self.addCleanup(website.tree_of.cache_clear)
        self.write("README.md", "# Project\n")
        self.write("docs/README.md", "# Book\n\n- [First](one.md)\n")
        self.write("docs/pictures/x.svg", "<svg/>")
        self.write("docs/results/index.html", '<a href="../README.md">back</a>')

    def page(self, text: str) -> Any:
        self.write("docs/one.md", "# One, in full\n\n" + text)
        website.Site().build()
        return book.read(os.path.join(website.OUT, "one.html"))

    def test_tables_scroll_by_themselves(self) -> None:
        numbers = "| a | b | c |\n|---|---|---|\n| 1 | 2 | 3 |\n\n"
        words = f"| a | b & | c |\n|---|---|---|\n| 1 | {'long ' * 9}| 3 |\n\n"
        two = f"| a | b |\n|---|---|\n| 1 | {'long ' * 9}|\n\n"  # wraps where it is narrow
        page = self.page(numbers + words + two)
        boxes = page.count('<div class="scroll')
        self.assertEqual((boxes, page.count("<table")), (3, 3))
        for part in ('<div class="scroll numbers" tabindex="0">',
                     '<div class="scroll cards" tabindex="0">', 'data-label="b &amp;"'):
            self.assertEqual(page.count(part), 1, part)

    def test_links_have_words(self) -> None:
        page = self.page("[one.md](one.md#x), [the file](one.md), [README.md](README.md), "
                         "[docs/README.md](https://x/docs/README.md)")
        for words in (">First</a>", ">the file</a>", ">Contents</a>", ">docs/README.md</a>"):
            self.assertIn(words, page.split("<main>")[1].split("<nav")[0])

    def test_way_back_from_the_report(self) -> None:
        self.page("")
        self.assertEqual(list(website.dead_links()), [])
        self.assertIn('href="../index.html"',
                      book.read(os.path.join(website.OUT, "results", "index.html")))


class Questions(Case):
    def ask(self, text: str, run: Any = None) -> Any:
        return predict.questions(self.write("x.md", text), run or RUN)

    def test_reading(self) -> None:
        found = self.ask("# The `title`\n\n<!-- ask herd stage1 us / 10 -->\n"
                         "<!-- ask herd clients=8 us -->\n"
                         "1. How *many*\n   [are](x.md \"y\") **there** in `a * b * c`?\n"
                         "2. And\n   now?\n\n3. Is not asked.\n")
        self.assertEqual([one[:4] for one in found], [
            (1, "How many are there in a * b * c?", "herd stage1 us / 10", "The title"),
            (2, "And now?", "herd clients=8 us", "The title")])
        self.assertEqual(self.ask("# None\n\n1. Is not asked.\n"), [])

    def test_what_is_wrong(self) -> None:
        one = "<!-- ask herd stage1 us -->\n"
        for text, kind, message in (
                (f"{one}1. a\n2. b\n", book.Wrong, "1 lines ask, .* has 2 items"),
                (f"{one}{one}1. a\n\n2. b\n", book.Wrong, "2 lines ask, .* has 1 items"),
                (f"{one}Prose.\n", book.Wrong, "no numbered list"),
                (one, book.Wrong, "stands nothing"),
                ("<!-- ask nothing x us -->\n1. a\n", saved.Unknown, "no experiment"),
                ("<!-- ask herd stage4 us -->\n1. a\n", saved.Unknown, "fits 2 rows"),
                ("<!-- ask herd stage1 state -->\n1. a\n", saved.Unknown, "is no number"),
                ("<!-- ask herd stage1 each -->\n1. a\n", saved.Unknown, "is no number")):
            with self.assertRaisesRegex(kind, message):
                self.ask(text)

    def test_numbers_that_are_typed(self) -> None:
        text = "How many seconds or system calls, at 5 %?"
        for line, number in (("1", 1), ("1.5", 1.5), (".5", 0.5), ("1,000", 1000), ("2k", 2000),
                             ("0", 0), ("1,234,567.5", 1234567.5), ("3 M", 3e6), ("2 s", 2),
                             ("2 seconds", 2), ("2 second", 2), ("1 call", 1), ("5%", 5)):
            self.assertEqual(predict.number_in(line, text), number, line)
        for line in ("x", "1,5", "1 2", "-1", "1.2.3", "nan", "2 ms", "5 bytes", "1k2", ",", "1_0"):
            self.assertIsNone(predict.number_in(line, text), line)
        for line in ("252", "252 ns", "252 nanoseconds"):
            self.assertEqual(predict.number_in(line, "how many nanoseconds of cpu"), 252, line)

    def test_scores(self) -> None:
        for answer, number, points in (
                (100, 100, 3), (125, 100, 3), (80, 100, 3), (126, 100, 2), (200, 100, 2),
                (50, 100, 2), (201, 100, 1), (1000, 100, 1), (10, 100, 1), (1001, 100, 0),
                (9.9, 100, 0), (0, 0, 3), (0.1, 0, 0), (0, 1, 0)):
            self.assertEqual(predict.judge(answer, number)[1], points, (answer, number))

    def test_what_is_measured(self) -> None:
        for selector, experiments, programs in (
                ("herd stage3-poll us / 1000", ["herd"], ["stage3_select"]),
                ("a stage4 x / b nginx y", ["a", "b"], ["nginx", "stage4_epoll_reuseport"]),
                ("a clients=1 x", ["a"], []), ("a stage1 x / b x=1 y", ["a", "b"], []),
                ("headline floor short_us", ["keep-alive", "short"], ["floor"]),
                ("headline stage1 idle_bytes", ["keep-alive", "cost"], ["stage1_blocking"])):
            self.assertEqual(predict.experiments_of(selector), experiments)
            self.assertEqual(predict.programs_of([selector]), programs)


class Predict(Case):
    """The program, with chapters, a saved run and a benchmark of the test's own."""

    CHAPTER = ("# One\n\n<!-- ask herd stage1 us -->\n<!-- ask herd clients=8 us -->\n"
               "1. How many µs?\n2. How many then?\n\n## Why\n")

    def setUp(self) -> None:
        super().setUp()
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(self.folder)  # paths are told from here
        paths = [self.write("1-one.md", self.CHAPTER),
                 self.write("http.md", "# Http\n\n<!-- ask herd stage4 clients=8 none -->\n"
                            "1. How many?\n"),
                 self.write("quiet.md", "# Asks nothing\n")]
        shutil.copytree(os.path.join(ROOT, "bench", "lib"),
                        os.path.join(self.folder, "bench", "lib"))
        for name in ("common/setup/stages.py", *glob.glob("stage*/facts", root_dir=ROOT)):
            self.write(name, book.read(os.path.join(ROOT, name)))
        for where, name, value in (
                (book, "chapters", lambda: paths), (book, "ROOT", self.folder),
                (saved, "SAVED_RUN", self.write("saved.json", json.dumps(RUN))),
                (predict, "BENCH", os.path.join(self.folder, "bench"))):
            patch = mock.patch.object(where, name, value)
            patch.start()
            self.addCleanup(patch.stop)
        self.report = os.path.join(self.folder, "build", "predict")

    def predict(self, typed: str, *arguments: str) -> tuple[int, str]:
        """(status, what it printed)."""
        typed_too = [*arguments, "--build", os.path.join(self.folder, "build")]
        with mock.patch.object(sys, "stdin", io.StringIO(typed)):
            status, printed = self.quietly(predict.main, typed_too)
        self.assertLessEqual(max(map(len, printed.split("\n"))), 80)
        return status, printed

    def benchmark(self, result: dict[str, Any] | None, status: int = 0) -> None:
        """The next benchmark writes this, unless it is None."""
        self.write("bench/result.json", json.dumps(result))
        self.write("bench/run.py", f"""import json, os, shutil, sys
report = sys.argv[sys.argv.index("--report") + 1]
with open(os.path.join(report, "arguments"), "w") as file:
    file.write(" ".join(sys.argv[1:]))
print("the last line")
if {result is not None}:
    shutil.copy("{self.folder}/bench/result.json", os.path.join(report, "results.json"))
sys.exit({status})
""")

    def table(self, printed: Any) -> Any:
        """Rows of the tables, without their first columns."""
        return [line.split()[1:] for line in printed.split("\n")
                if line[:8].strip().isdigit() and len(line) > 60]

    def test_saved(self) -> None:
        status, printed = self.predict("2.5\n5k\n1\n", "--saved")
        self.assertEqual(status, 0)
        self.assertEqual(self.table(printed), [
            ["2.5", "-", "2.5", "exact", "3"], ["5,000", "-", "1,234", "4.05", "times", "1"],
            ["1", "-", "0", "-", "0"]])
        self.assertIn("\n4 of 9 points.\nPoints: 3 within a factor of 1.25", printed)
        self.assertIn("Nothing was measured on this machine.", printed)
        self.assertIn('\nWhy: question 2: 1-one.md, section "Why".\n', printed)
        self.assertIn("\nWhy: question 1: http.md.\n", printed)
        self.assertEqual(printed.count("Why: "), 2)
        self.assertIn("One (1-one.md)\n\n 1. How many µs?\n  > 2.5\n", printed)
        self.assertFalse(os.path.exists(self.report))

    def test_nonsense_is_asked_again(self) -> None:
        status, printed = self.predict("x\n1,5\n 2.5 µs \n\n0\n", "--saved")
        self.assertEqual(status, 0)
        self.assertEqual(printed.count("A number, please"), 2)
        self.assertIn("6 of 6 points", printed)

    def test_end_of_answers(self) -> None:
        for typed, asked, told in (
                ("2.5\n", 2, "3 of 3 points"), ("2.5\nq\n0\n", 2, "3 of 3 points"),
                ("2.5\n1234", 3, "6 of 6 points"), ("", 1, "No answers"),
                ("q\n", 1, "No answers"), ("\n\n\n", 3, "No answers")):
            status, printed = self.predict(typed, "--saved")
            self.assertEqual(status, 0)
            self.assertIn(told, printed, typed)
            self.assertEqual(printed.count("  > "), asked, typed)

    def test_chapters(self) -> None:
        for words, titles in (("1", "One"), ("http", "Http"), ("http.md,1", "One Http"),
                              ("docs/1-one.md", "One"), ("one http", "One Http"), ("", "One Http")):
            self.assertEqual(" ".join(dict.fromkeys(
                question.title for path in predict.chosen(words)
                for question in predict.questions(path, RUN))), titles, words)
        for arguments in (("--chapter", "9"), ("--chapter", "quiet"), ("--nonsense",)):
            with self.assertRaises(SystemExit) as end:
                self.predict("", *arguments)
            self.assertEqual(end.exception.code, 2)
        self.write("1-one.md", self.CHAPTER.replace("2. ", "   "))
        status, printed = self.predict("", "--saved")
        self.assertEqual(status, 1)
        self.assertIn("2 lines ask", printed)

    def test_measured(self) -> None:
        here = json.loads(json.dumps(RUN))
        here["experiments"]["herd"]["rows"][0]["us"] = 4
        self.benchmark(here)
        status, printed = self.predict("2\n", "--chapter", "1")
        self.assertEqual(status, 0, printed)
        self.assertEqual(self.table(printed), [["2", "4", "2.5", "2", "times", "2"]])
        self.assertIn("Measuring herd: 7 s at most", printed)
        arguments = book.read(os.path.join(self.report, "arguments"))
        self.assertRegex(arguments, f"--report {self.report} --only herd --stages stage1_blocking$")
        self.predict("2\n2\n", "--chapter", "1")
        self.assertRegex(book.read(os.path.join(self.report, "arguments")), "--only herd$")

    def test_row_is_missing(self) -> None:
        here = json.loads(json.dumps(RUN))
        del here["experiments"]["herd"]["rows"][2]
        self.benchmark(here)
        status, printed = self.predict("2.5\n5\n", "--chapter", "1")
        self.assertEqual(status, 1)
        self.assertEqual(self.table(printed), [["2.5", "2.5", "2.5", "exact", "3"],
                                               ["5", "-", "1,234", "-", "-"]])
        self.assertIn("3 of 3 points", printed)
        self.assertIn('Question 2 of "One" was not measured: no row', printed)

    def test_benchmark_failed(self) -> None:
        failed, skipped = (json.loads(json.dumps(RUN)) for _ in range(2))
        failed["experiments"]["herd"].update(ok=False, problems=["stage 1 died"])
        skipped["experiments"]["herd"].update(rows=[], skipped="there is no wrk")
        cases: list[tuple[Any, int, str]] = [
            (failed, 1, "herd: stage 1 died"), (skipped, 0, "herd: there is no wrk"),
            (None, 1, "ended with status 1;"), (None, 1, "the last line"),
            ({"experiments": {}}, 0, "herd has no result")]
        for result, exit_status, told in cases:
            self.benchmark(RUN)
            self.assertEqual(self.predict("2.5\n")[0], 0)  # leaves a result that is not this one's
            self.benchmark(result, exit_status)
            status, printed = self.predict("2.5\n")
            self.assertEqual(status, 1)
            self.assertIn(told, " ".join(printed.split()))
            self.assertIn("0 of 0 points", printed)

    def test_interrupted(self) -> None:
        self.write("bench/run.py", """import os, signal, sys, time
def end(*_):
    open(sys.argv[sys.argv.index("--report") + 1] + "/ended", "w").close()
    sys.exit(130)
signal.signal(signal.SIGTERM, end)
os.kill(os.getppid(), signal.SIGINT)
while True:  # the signal may come before a signal.pause(), which would then sleep on
    time.sleep(0.01)
""")
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            status, printed = self.predict("2.5\n")
        finally:
            signal.signal(signal.SIGINT, before)
        self.assertEqual(status, 130)
        self.assertIn("stopped", printed)
        self.assertTrue(os.path.exists(os.path.join(self.report, "ended")))

    def test_as_a_program(self) -> None:
        done = subprocess.run([sys.executable, os.path.join(TOOLS, "predict.py"), "--saved",
                               "--chapter", "1"], input="nonsense\n2\n", text=True,
                              capture_output=True, timeout=30, check=False)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertIn(" of 3 points.", done.stdout)


def main() -> Any:
    suite = unittest.defaultTestLoader.loadTestsFromModule(sys.modules[__name__])
    done = unittest.TextTestRunner(stream=sys.stdout).run(suite)
    bad = len(done.failures) + len(done.errors)
    for test, why in done.skipped:
        print(f"note: {test.id()}: skipped, {why}")
    print(f"{100 * (done.testsRun - bad) // max(1, done.testsRun)}%: Checks: {done.testsRun}, "
          f"Failures: {len(done.failures)}, Errors: {len(done.errors)}")
    return 1 if bad or not done.testsRun else 0


if __name__ == "__main__":
    sys.exit(main())
