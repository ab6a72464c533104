#!/usr/bin/env python3
"""test_bench.py - the parts of the benchmark that need no server: reading what tools say,
statistics, tables, pictures and the page from a fixed results.json.

Does not: measure. The last line is like Check's, for tests/run.sh.
"""
import sys

sys.dont_write_bytecode = True

import contextlib  # noqa: E402
import html.parser  # noqa: E402
import io  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import re  # noqa: E402
import resource  # noqa: E402
import shutil  # noqa: E402
import socket  # noqa: E402
import tempfile  # noqa: E402
import unittest  # noqa: E402
import xml.etree.ElementTree  # noqa: E402
from unittest import mock  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "bench"))

import axes  # noqa: E402
import context  # noqa: E402
import costs  # noqa: E402
import environment  # noqa: E402
import matrix  # noqa: E402
import measure  # noqa: E402
import pictures  # noqa: E402
import processes  # noqa: E402
import reload  # noqa: E402
import report  # noqa: E402
import run  # noqa: E402
import tables  # noqa: E402
import throughput  # noqa: E402
import workers  # noqa: E402

WRK = """Running 10m test @ http://127.0.0.1:1/
  1 threads and 8 connections
  3316 requests in 499.63ms, 411.26KB read
  Socket errors: connect 0, read 3, write 0, timeout 0
Requests/sec:   6636.87
{"requests":3316,"duration_us":500000,"bytes":421130,"connect_errors":0,"read_errors":3,\
"write_errors":1,"non_2xx":16,"timeouts":2,"p50_us":74,"p90_us":80,"p99_us":8191,"max_us":9000}
"""

STRACE = """    calls    errors syscall
--------- --------- ----------------
      200           sendto
      402       201 recvfrom
        2         1 accept4
--------- --------- ----------------
      604       202 total
"""


def fixture():
    with open(os.path.join(HERE, "data", "results.json"), encoding="utf-8") as file:
        return json.load(file)


class Reading(unittest.TestCase):
    def test_wrk(self):
        found = measure.parse_wrk(WRK)
        self.assertEqual(found["requests"], 3316)
        self.assertEqual(found["p99_us"], 8191)

    def test_wrk_that_failed(self):
        with self.assertRaisesRegex(measure.ToolError, "unable to connect"):
            measure.parse_wrk("unable to connect to 127.0.0.1:1 Connection refused\n")

    def test_errors_are_not_served(self):
        found = {**measure.parse_wrk(WRK), "generator_cpu_share": 0.97}
        usage = {"cpu_us": 33000, "system_share": 0.9, "voluntary_switches": 330,
                 "involuntary_switches": 0}
        row = measure.load_row(found, usage, 8, {"accepted": 1, "queued": 7})
        self.assertEqual(row["requests"], 3300)
        self.assertEqual((row["failed"], row["socket_errors"], row["non_2xx"]), (20, 4, 16))
        self.assertEqual((row["offered_clients"], row["served_clients"]), (8, 1))
        self.assertEqual(row["late"], 2)
        self.assertAlmostEqual(row["req_per_s"], 6600)
        self.assertAlmostEqual(row["cpu_us_per_request"], 10)
        self.assertTrue(row["generator_bound"])

    def test_nothing_served_costs_nothing(self):
        found = {**measure.parse_wrk(WRK), "requests": 0, "non_2xx": 0, "generator_cpu_share": 0}
        row = measure.load_row(found, {"cpu_us": 5, "system_share": None, "voluntary_switches": 0,
                                       "involuntary_switches": 0}, 8)
        self.assertIsNone(row["cpu_us_per_request"])
        self.assertIsNone(row["served_clients"])

    def test_strace(self):
        calls, errors = costs.parse_strace(STRACE)
        self.assertEqual((calls["sendto"], calls["recvfrom"], calls["accept4"]), (200, 402, 2))
        self.assertEqual((errors["recvfrom"], errors["sendto"]), (201, 0))
        self.assertNotIn("total", calls)
        groups = costs.in_groups({"recvfrom": 1.0, "sendto": 1.0, "epoll_wait": 0.9, "brk": 0.1})
        self.assertAlmostEqual(sum(groups.values()), 3.0)
        self.assertAlmostEqual(groups["other"], 0.1)

    def test_sockets_in_the_queue_are_not_accepted(self):
        line = "  1: 0100007F:1F90 0100007F:{:04X} {} 0:0 00:0 0 0 0 {} 1 0 20 4 30 10 -1\n"
        text = "head\n" + line.format(1, "01", 0) + line.format(2, "01", 77) \
            + line.format(3, "06", 0) + line.format(2, "01", 77)
        with mock.patch("measure.read", return_value=text):
            self.assertEqual(measure.server_sockets(0x1F90), {"accepted": 1, "queued": 1})

    def test_kernel_counters(self):
        text = "TcpExt: A ListenOverflows ListenDrops TCPSynRetrans\nTcpExt: 1 2 3 4\n"
        with mock.patch("measure.read", return_value=text):
            found = measure.kernel_counters()
        self.assertEqual(found, {"ListenOverflows": 2, "ListenDrops": 3, "TCPSynRetrans": 4})

    def test_body_length(self):
        self.assertEqual(measure.body_length(b"HTTP/1.1 200 OK\r\ncontent-length: 12"), 12)
        self.assertIsNone(measure.body_length(b"HTTP/1.1 200 OK\r\nX-Content-Length: 12"))


class Processes(unittest.TestCase):
    def test_high_descriptors_are_waited_for(self):
        high = 1500  # more than select(2) can take
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        if before[1] <= high:
            self.skipTest("the limit of descriptors is too low")
        resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, before)
        out, into = os.pipe()
        for fd in (out, into, os.dup2(out, high)):
            self.addCleanup(os.close, fd)
        self.assertFalse(processes.readable(high, 0))
        os.write(into, b"x")
        self.assertTrue(processes.readable(high, 5))


class Statistics(unittest.TestCase):
    def test_spread(self):
        self.assertEqual(measure.spread([3, 1, 2]),
                         {"median": 2, "min": 1, "max": 3, "rounds": 3})
        self.assertEqual(measure.spread([])["median"], None)

    def test_percentile(self):
        values = list(range(1, 101))
        self.assertEqual(measure.percentile(values, 50), 50)
        self.assertEqual(measure.percentile(values, 99), 99)
        self.assertEqual(measure.percentile([7], 99), 7)
        self.assertIsNone(measure.percentile([], 50))

    def test_ratios_are_paired(self):
        self.assertEqual(measure.paired_ratios([2, 8], [1, 4]), [2, 2])
        self.assertEqual(measure.paired_ratios([2, None], [1, 4]), [2])

    def test_merge(self):
        rows = [{"candidate": key, "label": key, "clients": 64, "cpu_us_per_request": cost,
                 "offered_clients": 64, "established_clients": 64, "served_clients": 64,
                 "requests": 10, "failed": 1, "socket_errors": 1, "non_2xx": 0, "late": 0,
                 "req_per_s": 1, "p50_us": 1, "p99_us": 1, "system_share": None,
                 "voluntary_switches_per_request": 0, "involuntary_switches_per_request": 0,
                 "generator_cpu_share": 1, "generator_bound": True}
                for cost_floor, cost_it in ((4, 5), (8, 8), (5, 10))
                for key, cost in (("floor", cost_floor), ("it", cost_it))]
        it = next(row for row in throughput.merge(rows) if row["candidate"] == "it")
        self.assertEqual((it["ratio_to_floor_min"], it["ratio_to_floor_median"],
                          it["ratio_to_floor_max"]), (1, 1.25, 2))
        self.assertEqual((it["cpu_us_per_request"], it["failed"], it["rounds"]), (8, 3, 3))
        self.assertIsNone(it["system_share"])

    def test_dead_workers_cost_is_counted(self):
        before = {1: [1e9, 0, 0, 5, 0, 0.0], 2: [3e9, 0, 0, 0, 0, 0.0]}
        after = {1: [2e9, 0, 1, 7, 1, 4.5], 3: [5e8, 0, 0, 0, 0, 0.0]}
        used = measure.usage_between(before, after)
        self.assertAlmostEqual(used["cpu_us"], (1 + 0.5 + 4.5 - 3) * 1e6)
        self.assertEqual((used["voluntary_switches"], used["involuntary_switches"]), (2, 1))
        self.assertEqual(used["system_share"], 1)

    def test_binomial_share(self):
        self.assertAlmostEqual(workers.expected_top_share(200, 4), 0.28, places=2)
        self.assertEqual(workers.expected_top_share(200, 1), 1)


def samples(*accounts):
    """100 ms apart: (served, failed)."""
    return [{"monotonic_ms": 5000 + 100 * i, "served": served, "failed": failed,
             "not_connected": 0} for i, (served, failed) in enumerate(accounts)]


class Reload(unittest.TestCase):
    ROW = {"requests": 1000, "failed": 0, "not_connected": 0,
           **{f"failed_{name}": 0 for name in reload.REASONS}}

    def rows(self, *keys, **change):
        return [{**self.ROW, "candidate": key, "label": key, "load": load, "reloads": 4,
                 "during_share": 0.9, **change} for key in keys for load in reload.LOADS]

    def test_curve(self):
        line = reload.curve(samples((0, 0), (10, 0), (10, 2), (30, 2)),
                            [{"told": 5.12, "replaced": 5.18}])
        rounded = [(round(x, 3), round(y)) for x, y in line["points"]]
        self.assertEqual(rounded, [(0.05, 100), (0.15, 0), (0.25, 200)])
        self.assertEqual([(round(x, 3), n) for x, _, n in line["failed"]], [(0.15, 2)])
        self.assertAlmostEqual(line["reloads"][0], 0.12)

    def test_rate_while_reloading(self):
        accounts = [(0, 0), (10, 0), (20, 0), (25, 0), (35, 0), (45, 0)]
        line = reload.curve(samples(*accounts), [{"told": 5.22, "replaced": 5.28}])
        found = reload.around(line)
        self.assertAlmostEqual(found["during_share"], 0.5)
        self.assertAlmostEqual(found["lowest_share"], 0.5)

    def test_reasons(self):
        row = {**self.ROW, "failed": 3, "failed_raced": 2, "failed_after_close": 1}
        self.assertEqual(reload.reasons(row), "3 failed of 1,000 (2 raced, 1 after close)")
        self.assertEqual(reload.reasons({**self.ROW, "not_connected": 1}),
                         "1 failed of 1,000 (1 not connected)")

    def test_a_stage_that_fails_is_against_the_prediction(self):
        self.assertTrue(reload.reload_result(self.rows("stage4"), {})["agrees"])
        result = reload.reload_result(self.rows("stage4", failed=1, failed_reset=1), {})
        self.assertFalse(result["agrees"])
        self.assertIn("1 failed of 1,000 (1 reset)", result["finding"])

    def test_nginx_may_lose_what_is_on_its_way(self):
        rows = self.rows("nginx", failed=4 * reload.CLIENTS)
        off = reload.reload_result(rows, {})
        self.assertEqual([row["predicted_failed_max"] for row in rows], [128, 0, 2048])
        self.assertTrue(off["finding"].endswith("Against the prediction: nginx, short."))

    def test_crowd_samples(self):
        crowd = measure.Crowd.__new__(measure.Crowd)
        crowd.text = 'sample {"monotonic_ms":1.5,"served":2}\n{"served":3}\n'
        self.assertEqual(crowd.samples(), [{"monotonic_ms": 1.5, "served": 2}])


class Cells(unittest.TestCase):
    def test_unaffected(self):
        one = matrix.judge([110] * 20, 0, 100)
        self.assertEqual(one["state"], "unaffected")
        self.assertAlmostEqual(one["factor"], 1.1)

    def test_slower(self):
        self.assertEqual(matrix.judge([250] * 20, 0, 100)["state"], "degraded")

    def test_lost_answers(self):
        self.assertEqual(matrix.judge([100] * 20, 1, 100)["state"], "degraded")

    def test_stopped(self):
        one = matrix.judge([], 1, 100)
        self.assertEqual((one["state"], one["factor"]), ("stopped", None))

    def test_one_outlier_is_left_out(self):
        self.assertEqual(matrix.judge([100] * 39 + [9000], 0, 100)["state"], "unaffected")


class Tables(unittest.TestCase):
    def test_terminal_has_80_columns(self):
        results = fixture()
        for result in results["experiments"].values():
            if result.get("faults"):
                text = tables.matrix_lines(result)
            else:
                text = tables.text_table(tables.COLUMNS[result["name"]], result["rows"])
            for line in text.splitlines():
                self.assertLessEqual(len(line), 80, line)
        text = tables.text_table(tables.HEADLINE, results["headline"])
        self.assertLessEqual(max(len(line) for line in text.splitlines()), 80)

    def test_every_experiment_has_columns(self):
        names = {name for name, *_ in run.EXPERIMENTS} - {"failure-matrix"}
        self.assertEqual(names, set(tables.COLUMNS))

    def test_headline_is_made_of_the_experiments(self):
        results = fixture()
        found = tables.headline(results["experiments"], results["main_clients"])
        self.assertEqual(found, results["headline"])


class Axes(unittest.TestCase):
    def test_steps(self):
        self.assertEqual(axes.steps(3, 60), [2, 5, 10, 20, 50, 100])
        self.assertEqual(axes.steps(5, 5), [5, 10])

    def test_round_up(self):
        self.assertEqual([axes.round_up(x) for x in (0, 0.9, 7, 1020, 1500)],
                         [1, 1, 8, 1500, 1500])

    def test_even_ticks(self):
        self.assertEqual(axes.even(1500), [0, 500, 1000, 1500])
        self.assertEqual(axes.even(4), [0, 1, 2, 3, 4])
        self.assertEqual(axes.even(3.87), [0, 1, 2, 3])

    def test_ticks_that_have_no_room_are_left_out(self):
        self.assertEqual(axes.thin([1, 101, 301, 1001], 0.16), [1, 301, 1001])

    def test_labels_do_not_overlap(self):
        placed = axes.spread_labels([0.5, 0.5, 0.51, 0.9], 0.06)
        heights = sorted(placed.values())
        gaps = [b - a for a, b in zip(heights, heights[1:])]
        self.assertGreater(min(gaps), 0.9 * 0.06)
        self.assertLess(placed[0], placed[2])

    def test_labels_inside_a_plot_keep_off_the_lines(self):
        rising = axes.along([(0.1, 0.5), (0.9, 0.95)])
        falling = axes.along([(0.1, 0.5), (0.9, 0.05)])
        self.assertEqual(axes.beside([0.5], [], 0.12, 0.2, 0.1)[0], 0.5)
        self.assertLess(axes.beside([0.5], rising, 0.12, 0.2, 0.1)[0], 0.45)
        self.assertGreater(axes.beside([0.5], falling, 0.12, 0.2, 0.1)[0], 0.55)
        two = axes.beside([0.5, 0.52], rising, 0.12, 0.2, 0.1)
        self.assertAlmostEqual(two[1] - two[0], 0.1)


def texts(svg):
    """What is written in a picture, line by line."""
    root = xml.etree.ElementTree.fromstring(svg)
    return ["".join(one.itertext()) for one in root.iter() if one.tag.endswith("}text")]


def places(svg, words):
    """(x, y) of texts, in units of the picture."""
    found = re.findall(r'translate\(([\d.]+),([\d.]+)\)"[^>]*>\s*<text>([^<]*)</text>', svg)
    return [(float(x), float(y)) for x, y, text in found if text == words]


def line_panel(*series, **more):
    return {"kind": "lines", "x_label": "clients", "y_label": "answers", "series": [
        {"key": "", "label": name, "points": points} for name, points in series], **more}


@unittest.skipUnless(shutil.which("gnuplot"), "gnuplot is not installed")
class Pictures(unittest.TestCase):
    def test_every_figure_is_drawn(self):
        for name, result in fixture()["experiments"].items():
            if not result["figure"]:
                continue
            svg = pictures.draw(result["figure"], name, 'a "title" & more <')
            root = xml.etree.ElementTree.fromstring(svg)
            self.assertTrue(root.tag.endswith("svg"), name)
            ids = re.findall(r'\bid="([^"]*)"', svg)
            self.assertTrue(all(one.startswith(f"{name}-") for one in ids), name)
            self.assertIn("a \"title\" &amp; more &lt;", svg)
            self.assertIn("currentColor", svg)
            self.assertNotIn("<style", svg)  # in a page it would be everybody's
            self.assertIn("prefers-color-scheme", pictures.for_file(svg))
            xml.etree.ElementTree.fromstring(pictures.for_file(svg))
            for label in figure_labels(result["figure"]):
                self.assertIn(label, texts(svg), name)

    def test_hover_titles_are_names(self):
        for name, result in fixture()["experiments"].items():
            if result["figure"]:
                svg = pictures.draw(result["figure"], name, name)
                titles = set(re.findall(r"<title>([^<]*)</title>", svg)) - {name}
                known = set(figure_labels(result["figure"])) | {"predicted"}
                known |= {f"{label}, failed" for label in known}
                self.assertFalse(titles - known, name)

    def test_log_axes_say_so(self):
        for name, result in fixture()["experiments"].items():
            for panel in result["figure"]["panels"] if result["figure"] else []:
                svg = pictures.draw({"panels": [panel]}, name, name)
                log = sum(bool(panel.get(axis)) for axis in ("x_log", "y_log"))
                self.assertEqual(" ".join(texts(svg)).count("log scale"), log, name)

    def test_lines_are_named_where_they_end(self):
        """The axis is even, so a place can be told from the numbers."""
        panel = line_panel(("short", [[0, 5], [4, 5]]), ("long", [[0, 9], [10, 1]]))
        svg = pictures.draw({"panels": [panel]}, "x", "x")
        (short_x, short_y), = places(svg, "short")
        (long_x, long_y), = places(svg, "long")
        self.assertLess(short_x, pictures.WIDTH / 2)
        self.assertGreater(long_x, 0.8 * pictures.WIDTH)
        self.assertLess(short_y, long_y)

    def test_many_lines_have_a_plot_each(self):
        def panel(count):
            return line_panel(*[(f"server {i}", [[1, 5 + i], [8, 2]]) for i in range(count)])
        few, many = (pictures.draw({"panels": [panel(pictures.MOST_LINES + more)]}, "x", "x")
                     for more in (0, 1))
        self.assertEqual(len({x for i in range(6) for x, _ in places(few, f"server {i}")}), 1)
        at = [places(many, f"server {i}")[0] for i in range(7)]
        self.assertEqual((len({x for x, _ in at}), len({y for _, y in at})), (3, 3))

    def test_failures_close_together_can_be_read(self):
        panel = line_panel(("a", [[0, 5], [10, 5]]))
        panel["series"][0]["crosses"] = [[4, 5, 1234], [4.2, 5, 5678], [9.9, 5, 90]]
        svg = pictures.draw({"panels": [panel]}, "x", "x")
        (first, second, third) = [places(svg, words)[0] for words in ("1234", "5678", "90")]
        self.assertEqual(first[1], third[1])
        self.assertGreater(second[1], first[1] + pictures.FONT)
        self.assertLess(third[0] + pictures.text_width("90"), places(svg, "a")[0][0])

    def test_endless_is_no_bar(self):
        def boxes(**bar):
            panel = {"kind": "bars", "x_label": "ms", "bars": [
                {"key": "", "label": "a", "value": 5, "text": "5"},
                {"key": "", "label": "b", "text": "none", **bar}]}
            svg = pictures.draw({"panels": [panel]}, "x", "x")
            self.assertIn("none", texts(svg))
            return svg.count("<polygon"), svg.count("stroke-dasharray")
        (bar, _), (arrow, dashes) = boxes(value=5), boxes(value=None, endless=True)
        nothing, _ = boxes(value=None)
        self.assertEqual((bar, nothing), (2, 1))
        self.assertGreater(dashes, 0)
        self.assertEqual(boxes(value=None)[1], 0)

    def test_a_bar_of_nothing_has_no_dash(self):
        panel = {"kind": "bars", "x_label": "ms", "bars": [
            {"key": "", "label": name, "value": value, "text": name}
            for name, value in (("some", 5), ("none", 0))]}
        svg = pictures.draw({"panels": [panel]}, "x", "x")
        strokes = re.findall(r"d='M([\d.]+),([\d.]+) L([\d.]+),([\d.]+) ", svg)
        flat = [float(to) - float(x) for x, y, to, to_y in strokes if y == to_y]
        self.assertFalse([width for width in flat if 0 < width < 20], flat)

    def test_legend_is_broken_where_it_is_narrow(self):
        def lines(*names):
            return [len(line) for line in pictures.legend({"segments": names})]
        self.assertEqual(lines("receive", "send", "wait"), [3])
        self.assertEqual(lines("in the process", "in the kernel's sockets (both ends)"), [1, 1])

    def test_quotes(self):
        self.assertEqual(pictures.quote('a"b\\'), '"a\\"b\\\\"')


def figure_labels(figure):
    for panel in figure["panels"]:
        for one in panel.get("series", []) + panel.get("bars", []):
            if one["label"] and one.get("points", True):
                yield one["label"]


class Balance(html.parser.HTMLParser):
    """Every tag that is opened is closed, in order."""
    VOID = {"meta", "br", "link", "img", "hr", "path", "use", "circle"}

    def __init__(self):
        super().__init__()
        self.open, self.text, self.links = [], "", []

    def handle_starttag(self, tag, attrs):
        if tag not in self.VOID:
            self.open.append(tag)
        self.links += [value for name, value in attrs if name in ("href", "src", "xlink:href")]

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            if not self.open or self.open.pop() != tag:
                raise AssertionError(f"</{tag}> was not open")

    def handle_data(self, data):
        self.text += data


class Page(unittest.TestCase):
    def page(self, results):
        text = report.page(results, {"date": "today", "cpus": 2, "cpu_model": "x <y>",
                                     "kernel": "6", "commit": "abc", "tree_dirty": True,
                                     "tools": {"wrk": None}, "sysctls": {"a": "1"}}, {})
        parser = Balance()
        parser.feed(text)
        self.assertEqual(parser.open, [])
        return text, parser

    def test_whole_page(self):
        results = fixture()
        text, parser = self.page(results)
        for name, result in results["experiments"].items():
            self.assertIn(f'id="{name}"', text)
            self.assertIn(result["question"], parser.text)
            self.assertIn(result["finding"], parser.text)
            self.assertIn(result["prediction"]["text"], parser.text)
            self.assertIn(result["command"], parser.text)
        for state in ("unaffected", "degraded", "stopped"):
            self.assertIn(f'<td class="{state}"', text)
        self.assertIn("x <y>", parser.text)

    def test_needs_no_network(self):
        text, parser = self.page(fixture())
        self.assertTrue(all(link.startswith("#") for link in parser.links))
        self.assertNotIn("http://", text.replace("http://www.w3.org/", ""))
        self.assertNotIn("https://", text)
        self.assertNotIn("<script", text)

    def test_tables_scroll_by_themselves(self):
        text, _ = self.page(fixture())
        boxes = re.findall(r'<div class="scroll" tabindex="0" [^>]*><table', text)
        self.assertGreater(len(boxes), 10)
        self.assertEqual(len(boxes), text.count("<table"))

    def test_way_back(self):
        results = fixture()
        self.assertNotIn("The tutorial", self.page(results)[1].text)
        text = report.page(results, {}, {}, "../a&b.html")
        self.assertIn('<a href="../a&amp;b.html">← The tutorial</a>', text)

    def test_failure_is_told(self):
        results = fixture()
        results["experiments"]["short"].update(ok=False, problems=["4 epoll <died>"])
        _, parser = self.page(results)
        self.assertIn("short: 4 epoll <died>", parser.text)
        self.assertIn("failed", parser.text)

    def test_skipped_is_told(self):
        results = fixture()
        results["experiments"]["cost"].update(
            skipped="strace is not installed (package strace)", rows=[], finding=None,
            prediction=None, figure=None)
        _, parser = self.page(results)
        self.assertIn("strace is not installed (package strace)", parser.text)


class Results(unittest.TestCase):
    def test_structure(self):
        results = fixture()
        self.assertEqual(results["format"], 1)
        self.assertEqual(list(results["experiments"]), [name for name, *_ in run.EXPERIMENTS])
        for name, result in results["experiments"].items():
            self.assertEqual(result["name"], name)
            self.assertIsInstance(result["prediction"]["value"], dict)
            for key in ("title", "question", "finding", "command"):
                self.assertIsInstance(result[key], str)
            self.assertIn(result["agrees"], (True, False, None))
            self.assertIsInstance(result["ok"], bool)
            for row in result["rows"]:
                self.assertIn("candidate", row)
                self.assertIn("label", row)

    def test_report_is_written_and_saved(self):
        with tempfile.TemporaryDirectory() as folder:
            one, two = os.path.join(folder, "a"), os.path.join(folder, "b")
            os.makedirs(two)
            open(os.path.join(two, "old.svg"), "w", encoding="ascii").close()
            run.write_report(fixture(), {"date": "today"}, [one, two])
            self.assertEqual(sorted(os.listdir(one)), sorted(os.listdir(two)))
            self.assertTrue({"index.html", "results.json", "environment.json"}
                            <= set(os.listdir(two)))

    @unittest.skipUnless(shutil.which("gnuplot"), "gnuplot is not installed")
    def test_saved_run_is_drawn_anew(self):
        def contents():
            return {name: open(os.path.join(folder, name), encoding="utf-8").read()
                    for name in os.listdir(folder)}
        with tempfile.TemporaryDirectory() as folder:
            run.write_report(fixture(), {"date": "today"}, [folder])
            before = contents()
            for name in before:
                if not name.endswith(".json"):
                    os.unlink(os.path.join(folder, name))
            with contextlib.redirect_stdout(io.StringIO()):
                self.assertEqual(run.main(["--render", folder]), 0)
            self.assertEqual(contents(), before)

    def test_saved_run_is_of_this_kind(self):
        folder = os.path.join(run.ROOT, "docs", "results")
        for name in os.listdir(folder):
            if name.endswith((".svg", ".html")):
                with open(os.path.join(folder, name), encoding="utf-8") as file:
                    self.assertNotIn("gnuplot_plot_1a</title>", file.read(), name)
        with open(os.path.join(folder, "index.html"), encoding="utf-8") as file:
            self.assertIn('href="../README.md"', file.read())

    def test_way_back_from_a_folder(self):
        self.assertEqual(run.tutorial_from(os.path.join(run.ROOT, "docs", "results")),
                         os.path.join("..", "README.md"))
        self.assertIsNone(run.tutorial_from(os.path.dirname(run.ROOT)))

    def test_status(self):
        results = fixture()
        options = run.parse_arguments([])
        with contextlib.redirect_stdout(io.StringIO()):
            self.assertEqual(run.conclude(results, options, "x"), 0)
            results["experiments"]["short"]["ok"] = False
            self.assertEqual(run.conclude(results, options, "x"), 1)


class CommandLine(unittest.TestCase):
    def test_lists(self):
        options = run.parse_arguments(["--only", "short,cost", "--stages", "stage3_select nginx"])
        self.assertEqual(options.only, ["short", "cost"])
        self.assertEqual(options.stages, ["stage3_select", "nginx"])
        self.assertEqual(run.command_of("cost", options),
                         'make bench ONLY=cost STAGES="stage3_select nginx"')

    def test_unknown_names(self):
        for words in (["--only", "nonsense"], ["--stages", "stage9"], ["--smoke", "--full"]):
            with contextlib.redirect_stderr(io.StringIO()), self.assertRaises(SystemExit) as end:
                run.parse_arguments(words)
            self.assertEqual(end.exception.code, 2)

    def test_forms_have_the_same_knobs(self):
        short = set(context.FORMS["short"])
        self.assertTrue(all(set(form) == short for form in context.FORMS.values()))


class Environment(unittest.TestCase):
    def test_stamp_names_no_machine_and_no_folder(self):
        text = json.dumps(environment.stamp(run.ROOT, [0], [1], "short"))
        self.assertNotIn(run.ROOT, text)
        if len(socket.gethostname()) > 4:
            self.assertNotIn(socket.gethostname(), text)
        self.assertIn("kernel", text)


def main():
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
