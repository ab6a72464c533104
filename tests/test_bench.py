#!/usr/bin/env python3
"""test_bench.py - the parts of the benchmark that need no server: reading what tools say,
statistics, tables, pictures and the page from a fixed results.json.

Does not: measure. The last line is like Check's, for tests/run.sh.
"""
import sys

sys.dont_write_bytecode = True

import contextlib  # noqa: E402
import copy  # noqa: E402
import html.parser  # noqa: E402
import io  # noqa: E402
import json  # noqa: E402
import math  # noqa: E402
import os  # noqa: E402
import random  # noqa: E402
import re  # noqa: E402
import resource  # noqa: E402
import shutil  # noqa: E402
import signal  # noqa: E402
import socket  # noqa: E402
import struct  # noqa: E402
import subprocess  # noqa: E402
import tempfile  # noqa: E402
import threading  # noqa: E402
import types  # noqa: E402
import typing  # noqa: E402
import unittest  # noqa: E402
import xml.etree.ElementTree  # noqa: E402
from collections.abc import Callable, Iterator  # noqa: E402
from typing import Any, cast  # noqa: E402
from unittest import mock  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "bench"))

import results  # noqa: E402
import run  # noqa: E402
from experiments import among, costs, matrix, proxy, reload, switch  # noqa: E402
from experiments import throughput, upstream, waiting, workers  # noqa: E402
from lib import answers, blackbox, candidates, context, environment, lines  # noqa: E402
from lib import measure, noise, processes  # noqa: E402
from report import axes, checks, models, pictures, report, tables  # noqa: E402

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


def fixture() -> Any:
    with open(os.path.join(HERE, "data", "results.json"), encoding="utf-8") as file:
        return json.load(file)


class Reading(unittest.TestCase):
    def test_wrk(self) -> None:
        found = measure.parse_wrk(WRK)
        self.assertEqual(found["requests"], 3316)
        self.assertEqual(found["p99_us"], 8191)

    def test_wrk_that_failed(self) -> None:
        with self.assertRaisesRegex(measure.ToolError, "unable to connect"):
            measure.parse_wrk("unable to connect to 127.0.0.1:1 Connection refused\n")

    def test_errors_are_not_served(self) -> None:
        found = {**measure.parse_wrk(WRK), "generator_cpu_share": 0.97}
        usage: measure.Usage = {
            "cpu_us": 33000, "system_share": 0.9, "voluntary_switches": 330,
            "involuntary_switches": 0}
        row = measure.load_row(found, usage, 8, {"accepted": 1, "queued": 7})
        self.assertEqual(row["requests"], 3300)
        self.assertEqual((row["failed"], row["socket_errors"], row["non_2xx"]), (20, 4, 16))
        self.assertEqual((row["offered_clients"], row["served_clients"]), (8, 1))
        self.assertEqual(row["late"], 2)
        self.assertAlmostEqual(row["req_per_s"], 6600)
        self.assertAlmostEqual(row["cpu_us_per_request"], 10)
        self.assertTrue(row["generator_bound"])

    def test_nothing_served_costs_nothing(self) -> None:
        found = {**measure.parse_wrk(WRK), "requests": 0, "non_2xx": 0, "generator_cpu_share": 0}
        row = measure.load_row(found, {"cpu_us": 5, "system_share": None, "voluntary_switches": 0,
                                       "involuntary_switches": 0}, 8)
        self.assertIsNone(row["cpu_us_per_request"])
        self.assertIsNone(row["served_clients"])

    def test_strace(self) -> None:
        calls, errors = costs.parse_strace(STRACE)
        self.assertEqual((calls["sendto"], calls["recvfrom"], calls["accept4"]), (200, 402, 2))
        self.assertEqual((errors["recvfrom"], errors["sendto"]), (201, 0))
        self.assertNotIn("total", calls)
        groups = costs.in_groups({"recvfrom": 1.0, "sendto": 1.0, "epoll_wait": 0.9, "brk": 0.1})
        self.assertAlmostEqual(sum(groups.values()), 3.0)
        self.assertAlmostEqual(groups["other"], 0.1)

    def test_sockets_in_the_queue_are_not_accepted(self) -> None:
        line = "  1: 0100007F:1F90 0100007F:{:04X} {} 0:0 00:0 0 0 0 {} 1 0 20 4 30 10 -1\n"
        text = "head\n" + line.format(1, "01", 0) + line.format(2, "01", 77) \
            + line.format(3, "06", 0) + line.format(2, "01", 77)
        with mock.patch("lib.measure.read", return_value=text):
            self.assertEqual(measure.server_sockets(0x1F90), {"accepted": 1, "queued": 1})

    def test_kernel_counters(self) -> None:
        text = "TcpExt: A ListenOverflows ListenDrops TCPSynRetrans\nTcpExt: 1 2 3 4\n"
        with mock.patch("lib.measure.read", return_value=text):
            found = measure.kernel_counters()
        self.assertEqual(found, {"ListenOverflows": 2, "ListenDrops": 3, "TCPSynRetrans": 4})

    def test_body_length(self) -> None:
        self.assertEqual(measure.body_length(b"HTTP/1.1 200 OK\r\ncontent-length: 12"), 12)
        self.assertIsNone(measure.body_length(b"HTTP/1.1 200 OK\r\nX-Content-Length: 12"))


class Processes(unittest.TestCase):
    def test_high_descriptors_are_waited_for(self) -> None:
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


    def test_signals_that_are_caught(self) -> None:
        status = "Name:\twrk\nSigCgt:\t0000000000000002\n"
        with mock.patch("lib.measure.read", return_value=status):
            self.assertTrue(measure.catches(1, signal.SIGINT))
            self.assertFalse(measure.catches(1, signal.SIGTERM))
        with mock.patch("lib.measure.read", return_value=""):
            self.assertFalse(measure.catches(1, signal.SIGINT))


class Statistics(unittest.TestCase):
    def test_spread(self) -> None:
        self.assertEqual(measure.spread([3, 1, 2]),
                         {"median": 2, "min": 1, "max": 3, "rounds": 3})
        self.assertEqual(measure.spread([])["median"], None)

    def test_percentile(self) -> None:
        values = list(range(1, 101))
        self.assertEqual(measure.percentile(values, 50), 50)
        self.assertEqual(measure.percentile(values, 99), 99)
        self.assertEqual(measure.percentile([7], 99), 7)
        self.assertIsNone(measure.percentile([], 50))

    def test_ratios_are_paired(self) -> None:
        self.assertEqual(measure.paired_ratios([2, 8], [1, 4]), [2, 2])
        self.assertEqual(measure.paired_ratios([2, None], [1, 4]), [2])

    def test_merge(self) -> None:
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

    def test_dead_workers_cost_is_counted(self) -> None:
        before = {1: [1e9, 0, 0, 5, 0, 0.0], 2: [3e9, 0, 0, 0, 0, 0.0]}
        after = {1: [2e9, 0, 1, 7, 1, 4.5], 3: [5e8, 0, 0, 0, 0, 0.0]}
        used = measure.usage_between(before, after)
        self.assertAlmostEqual(used["cpu_us"], (1 + 0.5 + 4.5 - 3) * 1e6)
        self.assertEqual((used["voluntary_switches"], used["involuntary_switches"]), (2, 1))
        self.assertEqual(used["system_share"], 1)

    def test_binomial_share(self) -> None:
        self.assertAlmostEqual(workers.expected_top_share(200, 4), 0.28, places=2)
        self.assertEqual(workers.expected_top_share(200, 1), 1)


def samples(*accounts: Any) -> list[dict[str, int]]:
    """100 ms apart: (served, failed)."""
    return [{"monotonic_ms": 5000 + 100 * i, "served": served, "failed": failed,
             "not_connected": 0} for i, (served, failed) in enumerate(accounts)]


class Reload(unittest.TestCase):
    ROW = {"requests": 1000, "failed": 0, "not_connected": 0,
           **{f"failed_{name}": 0 for name in reload.REASONS}}

    def rows(self, *keys: str, **change: Any) -> list[dict[str, Any]]:
        return [{**self.ROW, "candidate": key, "label": key, "load": load, "reloads": 4,
                 "during_share": 0.9, **change} for key in keys for load in reload.LOADS]

    def test_curve(self) -> None:
        line = reload.curve(samples((0, 0), (10, 0), (10, 2), (30, 2)),
                            [{"told": 5.12, "replaced": 5.18}])
        rounded = [(round(x, 3), round(y)) for x, y in line["points"]]
        self.assertEqual(rounded, [(0.05, 100), (0.15, 0), (0.25, 200)])
        self.assertEqual([(round(x, 3), n) for x, _, n in line["failed"]], [(0.15, 2)])
        self.assertAlmostEqual(line["reloads"][0], 0.12)

    def test_curve_of_two_samples_in_one_millisecond(self) -> None:
        twice = samples((0, 0), (10, 0))
        twice.append({**twice[-1], "served": 12})
        self.assertEqual([round(y) for _, y in reload.curve(twice, [])["points"]], [120])

    def test_rate_while_reloading(self) -> None:
        accounts = [(0, 0), (10, 0), (20, 0), (25, 0), (35, 0), (45, 0)]
        line = reload.curve(samples(*accounts), [{"told": 5.22, "replaced": 5.28}])
        found = reload.around(line)
        self.assertAlmostEqual(found["during_share"], 0.5)
        self.assertAlmostEqual(found["lowest_share"], 0.5)

    def test_reasons(self) -> None:
        row = {**self.ROW, "failed": 3, "failed_raced": 2, "failed_after_close": 1}
        self.assertEqual(reload.reasons(row), "3 failed of 1,000 (2 raced, 1 after close)")
        self.assertEqual(reload.reasons({**self.ROW, "not_connected": 1}),
                         "1 failed of 1,000 (1 not connected)")

    def test_a_stage_that_fails_is_against_the_prediction(self) -> None:
        self.assertTrue(reload.reload_result(self.rows("stage4"), {})["agrees"])
        result = reload.reload_result(self.rows("stage4", failed=1, failed_reset=1), {})
        self.assertFalse(result["agrees"])
        self.assertIn("1 failed of 1,000 (1 reset)", result["finding"])

    def test_nginx_may_lose_what_is_on_its_way(self) -> None:
        rows = self.rows("nginx", failed=4 * reload.CLIENTS)
        off = reload.reload_result(rows, {})
        self.assertEqual([row["predicted_failed_max"] for row in rows], [128, 0, 2048])
        self.assertTrue(off["finding"].endswith(
            "Against the prediction: nginx short, failed (128, predicted 0 exact)."))

    def test_crowd_samples(self) -> None:
        crowd = measure.Crowd.__new__(measure.Crowd)
        crowd.text = 'sample {"monotonic_ms":1.5,"served":2}\n{"served":3}\n'
        self.assertEqual(crowd.samples(), [{"monotonic_ms": 1.5, "served": 2}])


class Checks(unittest.TestCase):
    def states(self, make: Callable[..., Any], *values: float | None) -> list[str]:
        return [make(value)["state"] for value in values]

    def test_both_sides(self) -> None:
        off, holds = checks.OFF, checks.HOLDS
        self.assertEqual(self.states(lambda x: checks.within("x", x, 10, 0.2), 7.9, 8.1, 11.9,
                                     12.1, None), [off, holds, holds, off, off])
        self.assertEqual(self.states(lambda x: checks.near("x", x, 0, 1), -1.1, -0.9, 0.9, 1.1),
                         [off, holds, holds, off])
        self.assertEqual(self.states(lambda x: checks.exactly("x", x, 3), 2, 3, 4),
                         [off, holds, off])

    def test_ratio_that_the_noise_hides(self) -> None:
        quiet = checks.ratio("x", 1.20, 1.18, 1.23, 1.2, 0.05)
        self.assertEqual((quiet["state"], quiet["why"]), (checks.HOLDS, None))
        noisy = checks.ratio("x", 0.99, 0.93, 1.05, 1.0, 0.05)
        self.assertEqual((noisy["state"], noisy["why"]),
                         (checks.NOT_MEASURED, "spread 0.12, effect 0.01"))
        self.assertEqual(self.states(lambda x: checks.ratio("x", x, x - 0.01, x + 0.01, 1.2, 0.05),
                                     1.14, 1.26), [checks.OFF, checks.OFF])
        self.assertEqual(checks.ratio("x", 1.2, 1.2, 1.2, 1.2, 0.05)["state"],
                         checks.NOT_MEASURED)  # one round

    def test_ratio_within_bounds(self) -> None:
        self.assertEqual(self.states(lambda x: checks.band("x", x, x and x - 0.01, x and x + 0.01,
                                                           0.9, 1.1), 0.89, 0.91, 1.09, 1.11,
                                     None),
                         [checks.OFF, checks.HOLDS, checks.HOLDS, checks.OFF, checks.OFF])
        noisy = checks.band("x", 1.0, 0.85, 1.06, 0.9, 1.1)
        self.assertEqual((noisy["state"], noisy["why"]),
                         (checks.NOT_MEASURED, "spread 0.21, band 0.20"))

    def test_ratio_in_words(self) -> None:
        self.assertEqual(checks.ratio_words(1.2, 1.18, 1.23, " the floor"),
                         "1.20 × the floor (1.18 to 1.23)")
        self.assertIn("not measured against the floor: spread 0.12, effect 0.01",
                      checks.ratio_words(0.99, 0.93, 1.05, " the floor"))

    def test_badges_say_their_tolerance(self) -> None:
        good, bad = checks.within("a", 10, 10, 0.2), checks.within("b", 20, 10, 0.2)
        hidden = checks.ratio("c", 0.99, 0.93, 1.05, 1, 0.05)
        self.assertEqual(checks.badge_words(checks.verdict([good])), "as predicted: ±20 %")
        self.assertEqual(checks.badge_words(checks.verdict([good, bad])),
                         "against the prediction: ±20 %")
        self.assertEqual(checks.badge_words(checks.verdict([good, hidden])),
                         "not measured: c: spread 0.12, effect 0.01")
        self.assertIs(checks.verdict([good, hidden])["agrees"], None)
        self.assertIs(checks.verdict([])["agrees"], None)
        self.assertEqual(checks.sentence([good, bad]),
                         "Against the prediction: b (20, predicted 10 ±20 %).")


class Models(unittest.TestCase):
    """What each experiment expects, and that values outside of it on either side are seen."""
    CTX: Any = types.SimpleNamespace(p=context.FORMS["short"], problem=lambda text: None,
                                     form="short", notes=[])

    def sides(self, agrees: Callable[..., Any], low: float, high: float, good: float) -> None:
        """agrees(value): of an experiment with this measured value."""
        self.assertIs(agrees(good), True, good)
        self.assertIs(agrees(low), False, low)
        self.assertIs(agrees(high), False, high)

    @staticmethod
    def verdict(found: list[results.Check]) -> bool | None:
        return checks.verdict(found)["agrees"]

    def test_the_oldest_worker_is_the_fullest(self) -> None:
        mean = workers.lost_to_the_oldest(32, 8, 8)
        self.assertAlmostEqual(mean, 4 * ((9 / 8) ** 8 - 1), places=9)
        self.assertAlmostEqual(mean, 6.26, places=2)
        self.assertEqual(workers.lost_to_the_oldest(32, 8, 1), 4)
        self.assertAlmostEqual(workers.lost_to_the_oldest(32, 8, 5000), 64 / 9, places=2)

    def test_the_oldest_worker_when_clients_are_dealt(self) -> None:
        dice, lost, runs = random.Random(1), 0, 3000
        for _ in range(runs):
            held = [0] * 8
            for _ in range(32):
                held[dice.randrange(8)] += 1
            for _ in range(8):
                gone = held.pop(0)
                lost += gone
                held.append(0)
                for _ in range(gone):
                    held[dice.randrange(8)] += 1
        self.assertAlmostEqual(lost / runs / 8, workers.lost_to_the_oldest(32, 8, 8), delta=0.05)

    def test_worker_killed(self) -> None:
        def agrees(reuseport: float, prefork: float = 1.0) -> bool | None:
            row = {"kills": 8, "replacement_ms": 0.2, "zombies": 0, "stopped": False}
            return workers.killed_result([
                {**row, "candidate": key, "label": key, "failed_per_kill": lost,
                 "predicted_failed_per_kill": predicted} for key, lost, predicted in
                (("stage2", prefork, 1.0), ("stage4", reuseport, 6.26),
                 ("stage4-exclusive", 20, None))])["agrees"]
        self.sides(agrees, 4.0, 8.5, 6.5)
        self.sides(lambda lost: agrees(6.26, lost), 0.5, 1.5, 1.0)

    def test_idle_herd(self) -> None:
        def agrees(stage3_ns: int, stage4_ns: float) -> bool | None:
            rows: list[results.Row] = [
                {"candidate": key, "label": key, "idle_clients": n, "connections": n + 1,
                 "cpu_us_per_request": 50 + n * ns / 1000}
                for key, points, slope in (("stage3-select", (0, 300, 1000), stage3_ns),
                                           ("stage4", (0, 10000), stage4_ns))
                for n, ns in zip(points, (0, 200, slope) if key != "stage4" else (0, slope))]
            result = waiting.herd_result(self.CTX, rows)
            self.assertIn(f"stage3-select {stage3_ns} ns", result["finding"])
            self.assertAlmostEqual(rows[2]["ns_per_idle_client"], stage3_ns)
            return result["agrees"]
        self.sides(lambda ns: agrees(ns, 0.1), 130, 270, 210)
        self.sides(lambda ns: agrees(200, ns), -1.5, 1.5, 0.1)

    def test_idle_herd_that_is_not_served(self) -> None:
        one = {"requests": 0, "failed": 0, "req_per_s": 0, "system_share": 0.5, "p50_us": 0}
        for key in ("stage3-select", "stage4"):
            for costs_us in ((None, 80, 150), (50, 110, None), (None, None, None)):
                rows = waiting.merge_herd([
                    {**one, "candidate": key, "label": key, "idle_clients": n,
                     "cpu_us_per_request": cost} for n, cost in zip((0, 300, 1000), costs_us)])
                result = waiting.herd_result(self.CTX, rows)
                self.assertIs(result["agrees"], False, (key, costs_us))
                self.assertIn(f"{key} not served", result["finding"])
                self.assertIsNone(rows[2]["ns_per_idle_client"])
                self.assertIn(" - ", tables.text_table(tables.COLUMNS["idle-herd"], rows))

    def test_silent_clients(self) -> None:
        def agrees(predicted: float) -> Callable[..., Any]:
            return lambda ms: self.verdict(waiting.silent_checks([
                {"label": "x", "silent_clients": 8, "predicted_ms": predicted, "wait_ms": ms}]))
        self.sides(agrees(8000.0), 7500, 8500, 8170)
        self.assertIs(agrees(0.0)(25), False)
        self.assertIs(agrees(0.0)(None), False)
        self.assertIs(agrees(0.0)(5), True)

    def test_handlers(self) -> None:
        def agrees(rate: int) -> bool | None:
            row = {"label": "x", "workers": 4, "predicted_per_s": 80, "req_per_s": rate,
                   "failed": 0}
            return self.verdict(waiting.judge(self.CTX, [row]))
        self.sides(agrees, 71, 89, 78)

    def test_fd_cliff(self) -> None:
        def agrees(served: int) -> bool | None:
            return waiting.cliff_result(1500, [
                {"candidate": "x", "label": "x", "served_clients": served,
                 "predicted_served": 1018, "refused_clients": 482, "waiting_clients": 0,
                 "connect_failed": 0, "cpu_percent_while_full": 0}])["agrees"]
        self.sides(agrees, 1015, 1021, 1018)

    def test_slow_readers(self) -> None:
        def agrees(wait: int = 200, held: int = 224, model: str = "loop",
                   stopped: bool = False) -> bool | None:
            return self.verdict(waiting.readers_checks(
                {"model": model, "label": model, "stopped": stopped, "wait_alone_us": 200,
                 "wait_us": None if stopped else wait, "process_bytes_per_reader": held}))
        self.sides(agrees, 90, 410, 250)
        self.sides(lambda held: agrees(held=held), -100, 600, 250)
        self.assertIs(agrees(stopped=True), False)
        self.assertIs(agrees(model="blocking", stopped=True), True)
        self.assertIs(agrees(model="blocking"), False)
        self.sides(lambda held: agrees(held=held, model="coroutines"), 30000, 90000, 66304)

    def test_accept_balance(self) -> None:
        row: results.Row = {
            "label": "reuseport", "sleeps_per_client": 1.0, "top_share": 0.28,
            "accept_calls_in_vain_per_client": 1.0, "fresh_requests": 350,
            "kept_requests": 350, "fresh_late_share": 0.06, "fresh_late_share_alone": 0.0,
            "kept_late_share": 0.06, "kept_late_share_alone": 0.0}
        predicted = workers.predicted_balance(200)
        for name, low, high in (("sleeps_per_client", 0.4, 1.6), ("top_share", 0.2, 0.35),
                                ("accept_calls_in_vain_per_client", 0.4, 1.6),
                                ("fresh_late_share", -0.01, 0.2), ("kept_late_share", -0.01, 0.2)):
            self.sides(lambda value, name=name: self.verdict(workers.balance_checks(
                [{**row, name: value}], predicted)), low, high, row[name])

    def test_level_edge(self) -> None:
        def agrees(edge_calls: float = 4, level_ctl: int = 2) -> bool | None:
            rows = [{"label": mode, "workload": work, "calls": calls, "predicted_calls": wanted,
                     "epoll_ctl_calls": ctl, "receive_calls": 1, "send_calls": 1, "wait_calls": 1,
                     "other_calls": 0, "accept_calls": 0, "close_calls": 0,
                     "cpu_us_per_request": 9, "edge_to_level_median": 1.1,
                     "edge_to_level_min": 1.09, "edge_to_level_max": 1.12}
                    for mode, work, calls, wanted, ctl in (
                        ("level", "keep-alive", 3, 3, 0), ("edge", "keep-alive", edge_calls, 4, 0),
                        ("level", costs.WORKLOADS[2][0], 72, None, level_ctl),
                        ("edge", costs.WORKLOADS[2][0], 68, None, 0))]
            result = costs.level_edge_result(self.CTX, rows)
            self.assertIn("its choice", result["prediction"]["text"])
            return result["agrees"]
        self.sides(agrees, 2.2, 5, 4.02)
        self.sides(lambda n: agrees(level_ctl=n), 1, 3, 2)

    def test_cost(self) -> None:
        def agrees(calls: float = 3, idle: int = 228) -> bool | None:
            row = {"candidate": "stage4", "label": "x", "calls": calls, "kind": "loop",
                   "idle_bytes_per_connection": idle,
                   **{f"{name}_calls": 1 for name in ("receive", "send", "wait", "epoll_ctl",
                                                      "other", "accept", "close")}}
            return costs.cost_result([row])["agrees"]
        self.sides(lambda n: agrees(calls=n), 2.8, 3.2, 3.01)
        self.sides(lambda n: agrees(idle=n), 180, 270, 228)

    def test_what_holds_an_idle_connection(self) -> None:
        for args, model, program, kind in (((), "loop", "stage4", "loop"), ((), "callbacks",
                                                                            "nginx", ""),
                                           (("--shared-stack",), "coroutines", "stage7", "shared")):
            self.assertEqual(costs.idle_kind(context.Candidate("k", "l", program, args,
                                                               model=model)), kind)

    def test_throughput(self) -> None:
        rows = [{"candidate": "stage4", "clients": 64, "ratio_to_floor_median": 1.2,
                 "ratio_to_floor_min": 1.19, "ratio_to_floor_max": 1.22}]
        self.sides(lambda wanted: self.verdict(throughput.ratio_checks(self.CTX, rows, wanted,
                                                                       0.05)), 1.1, 1.3, 1.18)

    def test_parts_of_a_cost(self) -> None:
        shared, own = context.parts_of(0.3 + 8, 0.3 + 8 / 4, 4)
        self.assertAlmostEqual(shared, 8)
        self.assertAlmostEqual(own, 0.3)

    def test_a_matrix_cell_has_two_sides(self) -> None:
        self.assertEqual([matrix.judge([us] * 20, 0, 100)["state"] for us in (45, 55, 195, 205)],
                         ["faster", "unaffected", "unaffected", "degraded"])

    def test_busy_handlers_leave_a_free_worker(self) -> None:
        for key, state in (("stage4-shared", "unaffected"), ("stage4-exclusive", "unaffected"),
                           ("stage2", "unaffected"), ("stage4", "degraded"),
                           ("stage3-select", "degraded")):
            candidate = context.candidates.stage(key, "build", matrix.WORKERS)
            self.assertEqual(matrix.predicted_state(candidate, "busy-handler"), state, key)
            self.assertEqual(matrix.predicted_state(candidate, "slow-upstream"), state, key)

    def test_who_goes_on_while_a_handler_waits(self) -> None:
        for model, threads, waits, computes in (
                ("threads", 4, "unaffected", "unaffected"), ("threads", 2, "degraded", "degraded"),
                ("callbacks", 1, "unaffected", "degraded"),
                ("coroutines", 1, "unaffected", "degraded")):
            candidate = context.Candidate("x", "x", "stage", model=model, threads=threads,
                                          workers=4)
            self.assertEqual([matrix.predicted_state(candidate, fault) for fault in
                              ("slow-handler", "slow-upstream", "busy-handler")],
                             [waits, waits, computes], model)
            self.assertEqual([matrix.predicted_state(candidate, fault) for fault in
                              ("silent", "idle-herd", "worker-killed")], ["unaffected"] * 3)

    def test_handlers_that_sleep_at_once(self) -> None:
        for model, threads, coroutines, places in (
                ("loop", 1, None, 2), ("threads", 4, None, 8), ("callbacks", 1, None, 32),
                ("coroutines", 1, None, 32), ("coroutines", 1, 3, 6)):
            candidate = context.Candidate("x", "x", "stage", model=model, workers=2,
                                          threads=threads, coroutines=coroutines)
            self.assertEqual(waiting.asleep_at_once(candidate), places)


class Waiting(unittest.TestCase):
    """Clients of an upstream that takes 2 s."""
    MS = 2000

    def rate(self, answers_at: list[float], rounds: int = 2) -> float:
        """What is made of answers at these seconds, sampled every 10 ms, 50 s after the clock
        began."""
        samples = [{"monotonic_ms": 50000.0 + ms,
                    "served": sum(at * 1000 <= ms for at in answers_at)}
                   for ms in range(0, (rounds + 1) * self.MS, 10)]
        return upstream.per_second(upstream.rounds_of(samples, 50.0, self.MS, rounds))

    def places(self, n: int, cycle: float, spread: float = 0.0) -> list[float]:
        return [i * spread / n + cycle * turn for i in range(n) for turn in range(1, 5)]

    def test_rate_does_not_depend_on_where_a_round_ends(self) -> None:
        for n in (4, 100):
            for spread in (0.0, 0.3):
                for cycle, close in ((2.0, 0.005), (2.2, 0.01)):
                    self.assertAlmostEqual(self.rate(self.places(n, cycle, spread)) * cycle / n,
                                           1, delta=close)

    def test_nothing_served_is_no_rate(self) -> None:
        self.assertEqual(self.rate([]), 0)
        self.assertEqual(self.rate([2.0]), 0)

    def candidate(self, model: str, **more: Any) -> context.Candidate:
        return context.Candidate("x", "x", "stage", model=model, **more)

    def test_places(self) -> None:
        cases: list[tuple[int, str, dict[str, Any]]] = [
            (8, "blocking", {"workers": 8}), (8, "loop", {"workers": 8}),
            (8, "threads", {"workers": 2, "threads": 4}), (800, "callbacks", {"workers": 1}),
            (800, "coroutines", {"workers": 1}),
            (128, "coroutines", {"workers": 1, "coroutines": 128}),
            (800, "coroutines", {"workers": 8, "coroutines": 128})]
        for places, model, more in cases:
            self.assertEqual(upstream.places(self.candidate(model, **more), 800), places)

    def test_memory_of_one_that_waits(self) -> None:
        loops = self.candidate("callbacks")
        self.assertEqual(upstream.bytes_each(loops, 800, 1000, None, 801000), 1000)
        threads = self.candidate("threads", threads=5)
        self.assertEqual(upstream.bytes_each(threads, 800, 700, 100, 900), 200)
        self.assertIsNone(upstream.bytes_each(self.candidate("threads"), 800, 1, 1, 1))

    def row(self, rate: float, **more: Any) -> dict[str, Any]:
        return {"candidate": "stage6", "label": "6 async", "processes": 1, "waiting": 800,
                "offered_clients": 800, "offered_per_s": 400.0, "bound_per_s": 400.0,
                "req_per_s": rate, "late_share": 1.0, "bytes_per_waiting": 353.0, **more}

    def agrees(self, rate: float, **more: Any) -> bool | None:
        return upstream.slow_result([self.row(rate, **more)], self.MS)["agrees"]

    def test_bound_has_two_sides(self) -> None:
        self.assertEqual([self.agrees(rate) for rate in (395, 396, 404, 405)],
                         [False, True, True, False])
        self.assertEqual([self.agrees(rate, processes=8) for rate in (391, 393, 407, 409)],
                         [False, True, True, False])
        self.assertEqual([self.agrees(rate, waiting=128, bound_per_s=64.0)
                          for rate in (62, 63, 65, 66)], [False, True, True, False])

    def test_finding_tells_the_bound(self) -> None:
        told = upstream.slow_result([self.row(185)], self.MS)
        self.assertIn("6 async 185.0 of 400", told["finding"])
        self.assertIn("800 / 2 s = 400 requests/s", told["prediction"]["text"])

    def test_slots(self) -> None:
        ctx: Any = types.SimpleNamespace(p={"waiting_clients": 800}, nginx=lambda: [],
                                         stage=lambda key, workers, **more: self.candidate(
                                             key, workers=workers, threads=more["threads"] or 1,
                                             coroutines=more["coroutines"]))
        one = [upstream.Setting("loop", 8), upstream.Setting("callbacks", 1),
               upstream.Setting("callbacks", 8), upstream.Setting("threads", 1, 128),
               upstream.Setting("coroutines", 1, None, 1024)]
        self.assertEqual(upstream.slots(one, ctx), [[one[0], one[3]], [one[2]], [one[1]],
                                                    [one[4]]])

    def many(self, **more: Any) -> bool | None:
        row = {"candidate": "stage6", "label": "6 async", "waiting": 9900,
               "waiting_at_once": 9900, "slowest_ms": 2100.0, "cold_slowest_ms": 2300.0,
               "bytes_per_waiting": 353.0, "least_bytes": 224, "goal_bytes": 400, **more}
        return upstream.many_result([row], self.MS)["agrees"]

    def test_many_waiting(self) -> None:
        self.assertIs(self.many(), True)
        for wrong in ({"slowest_ms": 2201.0}, {"slowest_ms": 1990.0}, {"slowest_ms": None},
                      {"bytes_per_waiting": 401.0}, {"bytes_per_waiting": 200.0},
                      {"waiting_at_once": 9899}):
            self.assertIs(self.many(**cast(Any, wrong)), False, wrong)

    def test_as_many_as_there_are_descriptors_for(self) -> None:
        with mock.patch("experiments.upstream.resource.getrlimit", return_value=(0, 20000)):
            self.assertEqual([upstream.most_clients(n) for n in (300, 9900, 20000)],
                             [300, 9900, 9900])

    def test_patience_is_the_generators(self) -> None:
        def agrees(short: int, patient: int) -> bool | None:
            return upstream.patience_result(
                [{"candidate": "x", "label": f"wrk --timeout {seconds}s", "served": 200,
                  "patience_seconds": seconds, "answers": 200, "late": late,
                  "late_share": late / 200} for seconds, late in ((2, short), (10, patient))]
            )["agrees"]
        self.assertIs(agrees(200, 0), True)
        self.assertIs(agrees(199, 0), False)
        self.assertIs(agrees(200, 1), False)


class Among(unittest.TestCase):
    """An open loop beside a model of queues."""
    def test_schedule_is_always_the_same(self) -> None:
        arrivals = among.schedule(20)
        self.assertEqual(arrivals, among.schedule(20))
        self.assertEqual(arrivals[:100], among.schedule(3)[:100])
        self.assertAlmostEqual(len(arrivals) / 20, among.PER_S, delta=10)
        self.assertAlmostEqual(sum(slow for _, slow in arrivals) / len(arrivals),
                               among.SLOW_SHARE, delta=0.02)

    def test_queue(self) -> None:
        arrivals = [(0.0, True), (0.02, False), (0.03, True), (0.04, False), (0.5, False)]

        def waits(queues: int, handlers: int) -> list[float]:
            found = among.waits_of(arrivals, 100, among.Shape(queues, handlers), random.Random(1))
            return [round(ms, 6) for ms in found]
        self.assertEqual(waits(1, 1), [80, 160, 0])
        self.assertEqual(waits(1, 2), [0, 60, 0])
        self.assertEqual(waits(1, 3), [0, 0, 0])

    def test_queue_is_what_theory_says(self) -> None:
        """Of one queue of each of four processes a quarter of the time is held: 10 a second of
        100 ms, by 4. With Poisson arrivals so many wait."""
        waits = among.waits_of(among.schedule(2000), 100, among.Shape(4, 1), random.Random(1))
        self.assertAlmostEqual(sum(wait > 0 for wait in waits) / len(waits), 0.25, delta=0.01)

    def test_shapes(self) -> None:
        for model, waits, computes in (
                ("blocking", (1, 4), (1, 4)), ("loop", (4, 1), (4, 1)),
                ("callbacks", None, (4, 1)), ("coroutines", None, (4, 1))):
            candidate = context.Candidate("x", "x", "stage", model=model, workers=4)
            self.assertEqual(among.shape(candidate, among.WAITS), waits)
            self.assertEqual(among.shape(candidate, among.COMPUTES), computes)
        threads = context.Candidate("x", "x", "stage", model="threads", workers=1, threads=4)
        self.assertEqual(among.shape(threads, among.COMPUTES), (1, 4))

    def test_who_is_held_up(self) -> None:
        """In the short form the model itself tells who is."""
        arrivals = among.schedule(context.FORMS["short"]["among_seconds"])
        share = {where: among.predicted(arrivals, among.WAITS, where)["late_share"]
                 for where in (None, among.Shape(1, 4), among.Shape(4, 1), among.Shape(1, 1))}
        ordered = list(share.values())
        self.assertEqual(ordered, sorted(ordered))
        self.assertEqual(ordered[0], 0)
        self.assertGreater(ordered[1], 0)
        held = among.predicted(arrivals, among.COMPUTES, among.Shape(1, 1))["late_share"]
        self.assertGreater(held, among.LATE_ROOM)  # so nobody held up would be seen

    def row(self, **more: Any) -> dict[str, Any]:
        return {"candidate": "stage6", "label": "6 async", "load": "computes", "p99_ms": 9.0,
                "late_share": 0.058, "predicted_late_share": 0.058, "predicted_late_spread": 0.0,
                "predicted_p99_ms": 9.1, "predicted_p99_low_ms": 9.1,
                "predicted_p99_high_ms": 9.1, **more}

    def test_checks_have_two_sides(self) -> None:
        for wrong in ({"late_share": 0.0}, {"late_share": 0.1}, {"late_share": None},
                      {"p99_ms": 1.0}, {"p99_ms": 17.0}, {"p99_ms": None}):
            result = among.among_result([self.row(**cast(Any, wrong))])
            self.assertIs(result["agrees"], False, wrong)
        self.assertIs(among.among_result([self.row()])["agrees"], True)

    class Server:
        def __init__(self, listener: socket.socket) -> None:
            self.port = listener.getsockname()[1]

    def test_clients_come_by_the_schedule(self) -> None:
        """A server that answers only once all have come: nobody's request waited for that."""
        arrivals = [(0.01 * i, i == 2) for i in range(5)]
        with socket.create_server(("127.0.0.1", 0)) as listener:
            server: Any = self.Server(listener)

            def answer() -> None:
                came = [listener.accept()[0] for _ in arrivals]
                paths.extend(one.recv(4096).split()[1] for one in came)
                for one in came:
                    one.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                    one.close()
            paths: list[bytes] = []
            thread = threading.Thread(target=answer, daemon=True)
            thread.start()
            found = among.serve([server], arrivals, among.WAITS)
            thread.join(5)
        self.assertEqual(paths.count(b"/upstream?ms=100"), 1)
        waits = found.waits[server]
        self.assertEqual((len(waits), found.slow[server], found.failed[server]), (4, 1, 0))
        self.assertGreater(max(waits), 30)

    def test_who_is_not_answered_has_failed(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener, \
                mock.patch("experiments.among.DRAIN_SECONDS", 0.05):
            server: Any = self.Server(listener)
            found = among.serve([server], [(0.0, False)], among.WAITS)
        self.assertEqual((found.waits[server], found.failed[server]), ([], 1))


class Stages(unittest.TestCase):
    """Who takes part, by what the facts say of a stage."""
    STAGES = [("stage4", "4 epoll", "stage4_epoll", ("--workers",), "loop"),
              ("stage4-edge", "4 edge", "stage4_epoll", ("--trigger=edge", "--workers"), "loop"),
              ("stage5", "5 reactor", "stage5_reactor", ("--workers",), "threads"),
              ("stage7", "7 coroutines", "stage7_coroutines", ("--workers",), "coroutines"),
              ("stage7-shared", "7 shared", "stage7_coroutines", ("--shared-stack", "--workers"),
               "coroutines")]

    def setUp(self) -> None:
        patch = mock.patch.object(candidates, "STAGES", self.STAGES)
        patch.start()
        self.addCleanup(patch.stop)

    def test_by_model(self) -> None:
        self.assertEqual(candidates.keys("coroutines"), ["stage7", "stage7-shared"])
        self.assertEqual(candidates.usual("coroutines", "loop"), ["stage4", "stage7"])
        self.assertEqual(candidates.model_of("stage5"), "threads")
        self.assertEqual(candidates.model_of("nginx"), "")

    def test_how_many_may_wait(self) -> None:
        cases: list[tuple[str, dict[str, Any], str, list[str], int | None]] = [
            ("stage4", {}, "4 epoll (2)", [], 2),
            ("stage5", {}, "5 reactor (2)", ["--threads", "4"], 8),
            ("stage5", {"threads": 128}, "5 reactor (2 x 128)", ["--threads", "128"], 256),
            ("stage7", {"threads": 5}, "7 coroutines (2)", [], None),
            ("stage7-shared", {"coroutines": 9}, "7 shared (2 x 9)", ["--coroutines", "9"], 18)]
        for key, more, label, words, places in cases:
            found = candidates.stage(key, "build", 2, **more)
            self.assertEqual((found.label, found.places), (label, places))
            self.assertEqual(list(found.args[len(found.args) - len(words):]), words)


class Switches(unittest.TestCase):
    def test_parse(self) -> None:
        said = ("ours, ends in pop and jmp          2.80 ns  (2.71 to 3.30)\n"
                "pop and jmp, from 8 calls deep    20.12 ns  (19.9 to 22.0)\nucontext 250\n")
        self.assertEqual([(row["label"], row["ns"], row["ns_min"], row["ns_max"])
                          for row in switch.parse(said)],
                         [("ours, ends in pop and jmp", 2.8, 2.71, 3.3),
                          ("pop and jmp, from 8 calls deep", 20.12, 19.9, 22.0),
                          ("ucontext", 250.0, None, None)])

    def test_goals_have_two_sides(self) -> None:
        def agrees(ns: float, name: str) -> bool | None:
            return switch.switch_result([{"candidate": "switch", "label": name, "ns": ns}])["agrees"]
        for name, low, good, high in (("jmp", 0.4, 2.8, 5.1), ("ret", 4, 13, 31),
                                      ("ucontext", 90, 250, 800), ("thread", 700, 2500, 9000)):
            self.assertEqual([agrees(ns, name) for ns in (low, good, high)],
                             [False, True, False])
        self.assertIs(agrees(1, "something else"), None)
        self.assertIs(agrees(20, "pop and jmp, from 8 calls deep"), None)


class Answers(unittest.TestCase):
    """What a client sees, from the bytes that came."""
    HEAD = b"HTTP/1.1 200 OK\r\n"
    CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"

    def seen(self, text: bytes, method: str = "GET") -> tuple:
        return tuple(answers.parse(text, method).answer)

    def test_whole(self) -> None:
        for text, method, status, size in (
                (self.HEAD + b"Content-Length: 3\r\n\r\nabc", "GET", 200, 3),
                (self.HEAD + b"Content-Length: 3\r\n\r\n", "HEAD", 200, 0),
                (self.CHUNKED + b"3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n", "GET", 200, 13),
                (b"HTTP/1.1 204 x\r\n\r\n", "GET", 204, 0),
                (b"HTTP/1.1 100 x\r\n\r\nHTTP/1.1 103 x\r\nA: b\r\n\r\n" + self.HEAD
                 + b"Content-Length: 1\r\n\r\na", "POST", 200, 1),
                (b"HTTP/1.1 101 x\r\n\r\n", "GET", 101, 0)):
            self.assertEqual(self.seen(text, method), (status, answers.WHOLE, size), text)
            self.assertEqual(answers.parse(text + b"next", method).used, len(text))

    def test_what_is_missing_is_seen(self) -> None:
        whole = self.CHUNKED + b"3\r\nabc\r\n0\r\n\r\n"
        for n in range(len(whole)):
            self.assertEqual(self.seen(whole[:n])[1], answers.BREAKS_OFF, whole[:n])
        for text, size in ((self.CHUNKED + b"5\r\nab", 2), (self.CHUNKED + b"2\r\nab\r\n", 2),
                           (self.HEAD + b"Content-Length: 9\r\n\r\nabc", 3)):
            self.assertEqual(self.seen(text), (200, answers.BREAKS_OFF, size))

    def test_nonsense(self) -> None:
        for text in (b"\x16\x03\x01", b"<html>\r\n\r\n", self.CHUNKED + b"xyz\r\n",
                     self.CHUNKED + b"2\r\nabc\r\n"):
            self.assertEqual(self.seen(text)[1], answers.NONSENSE, text)

    def after(self, text: bytes, reset: bool) -> list:
        """Two answers of a server that sends this and leaves."""
        with socket.create_server(("127.0.0.1", 0)) as server, \
                answers.Client(server.getsockname()[1], 10) as client:
            accepted = server.accept()[0]
            with mock.patch.object(client, "receive", side_effect=self.leaving(
                    accepted, client.receive, text, reset)):
                return [tuple(client.ask("GET", "/")) for _ in range(2)]

    @staticmethod
    def leaving(accepted: socket.socket, receive: typing.Callable, text: bytes,
                reset: bool) -> typing.Callable:
        """A receive() before which the server has read the request, answered and left."""
        def read(deadline: float) -> typing.Optional[bytes]:
            if accepted.fileno() != -1:
                accepted.recv(65536)
                accepted.sendall(text)
                linger = struct.pack("ii", int(reset), 0)
                accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                accepted.close()
            return receive(deadline)
        return read

    def test_ends(self) -> None:
        gone = (0, answers.BREAKS_OFF, 0)
        text = self.HEAD + b"\r\nabc"
        self.assertEqual(self.after(text, False), [(200, answers.WHOLE, 3), gone])
        self.assertEqual(self.after(text, True), [(200, answers.BREAKS_OFF, 3), gone])
        text = self.HEAD + b"Content-Length: 9\r\n\r\nabc"
        self.assertEqual(self.after(text, False), [(200, answers.BREAKS_OFF, 3), gone])

    def test_silence(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server, \
                answers.Client(server.getsockname()[1], 0.05) as client:
            self.assertEqual(tuple(client.ask("GET", "/")), (0, answers.TIME_OUT, 0))


class Gateway(unittest.TestCase):
    """proxy-matrix and proxy-cost: what they make of what was measured."""
    FIELDS = ("status", "end", "body_bytes", "again", "asked")

    def cells(self) -> dict[str, dict[str, Any]]:
        """As predicted."""
        return {case.key: {name: getattr(case, name) for name in self.FIELDS}
                for case in proxy.ALL_CASES}

    def result(self, cells: dict[str, dict[str, Any]], key: str = "stage4") -> results.Gateway:
        return proxy.matrix_result([proxy.row_of(key, key, cells)])

    def test_as_predicted(self) -> None:
        result = self.result(self.cells())
        self.assertIs(result["agrees"], True)
        self.assertEqual(checks.badge_words(result), "as predicted: exact")
        self.assertIn("taken for whole, where that can be told: none", result["finding"])
        self.assertIn("0 of them POST", result["finding"])

    def test_every_wrong_value_loses_the_badge(self) -> None:
        for case in proxy.ALL_CASES:
            for name in self.FIELDS:
                right = getattr(case, name)
                if right is None:
                    continue
                wrong: list[Any]
                if name == "end":
                    wrong = [end for end in (answers.WHOLE, answers.BREAKS_OFF,
                                             answers.TIME_OUT, answers.NONSENSE) if end != right]
                else:
                    wrong = [not right] if name == "again" else [right - 1, right + 1, None]
                for value in wrong:
                    cells = self.cells()
                    cells[case.key][name] = value
                    if value is None and name in ("status", "body_bytes"):
                        continue  # an Answer always has them
                    result = self.result(cells)
                    self.assertIs(result["agrees"], False, (case.key, name, value))
                    self.assertIn(f"Against the prediction: stage4, {case.key}: ",
                                  result["finding"])

    def test_broken_and_taken_for_whole_is_told(self) -> None:
        cells = self.cells()
        cells["chunk-last"].update(end=answers.WHOLE)
        self.assertIn("where that can be told: chunk-last;", self.result(cells)["finding"])

    def test_nginx_is_not_judged(self) -> None:
        wrong = self.cells()
        for cell in wrong.values():
            cell.update(status=599, again=None, asked=7)
        rows = [proxy.row_of("stage4", "4 epoll", self.cells()),
                proxy.row_of("nginx", "nginx", wrong)]
        self.assertIs(proxy.matrix_result(rows)["agrees"], True)
        alone = proxy.matrix_result(rows[1:])
        self.assertEqual((alone["agrees"], checks.badge_words(alone)), (None, ""))

    def test_cases(self) -> None:
        keys = [case.key for case in proxy.ALL_CASES]
        self.assertEqual(len(keys), len(set(keys)))
        for form in context.FORMS.values():
            self.assertLessEqual(set(form["proxy_cases"] or []), set(keys))
        for case in proxy.ALL_CASES:
            self.assertFalse(case.method == "POST" and (case.asked or 0) > 1, case.key)
            self.assertFalse(case.end == answers.BREAKS_OFF and case.again, case.key)

    def test_spoilt_idle_connection(self) -> None:
        line = "  1: 0100007F:1234 0100007F:{:04X} {} 00000000:{:08X} 00:0 0 0 0 7 1 0\n"

        def fresh(*sockets: tuple) -> bool:
            return proxy.fresh_idle("head\n" + "".join(line.format(*one) for one in sockets),
                                    8080)
        self.assertTrue(fresh((8080, "01", 0)))
        self.assertTrue(fresh((8080, "08", 1), (8080, "01", 0)))
        self.assertFalse(fresh((8080, "08", 1)))   # CLOSE_WAIT
        self.assertFalse(fresh((8080, "01", 45)))  # spoken on
        self.assertFalse(fresh((8081, "01", 0)))

    def test_cost(self) -> None:
        rounds = [{"candidate": "stage4", "label": "4 epoll", "load": load, "offered_clients": 64,
                   "requests": 10, "failed": 0, "req_per_s": 5, "p50_us": 7,
                   "voluntary_switches_per_request": 1, "cpu_us_per_request": cost,
                   "model": "loop"}
                  for own, relayed in ((4, 36), (5, 50), (4, 44))
                  for load, cost in (("own", own), ("relayed", relayed))]
        row = proxy.merged(rounds, "stage4")
        self.assertEqual((row["ratio_min"], row["ratio"], row["ratio_max"]), (9, 10, 11))
        self.assertEqual((row["own_us"], row["relayed_us"], row["requests"]), (4, 44, 30))
        result = proxy.cost_result([row])
        self.assertIn("44.0 µs of cpu, 10.00 × an answer of its own (9.00 to 11.00)",
                      result["finding"])
        self.assertIs(result["agrees"], None)
        for one in rounds:
            one["cpu_us_per_request"] = None
        unserved = proxy.cost_result([proxy.merged(rounds, "stage4")])
        self.assertIs(unserved["agrees"], None)
        self.assertIn("4 epoll: nobody was served", unserved["finding"])


    def test_cost_beside_nginx(self) -> None:
        def agrees(cost: float, model: str = "callbacks", spread: float = 0.0) -> bool | None:
            rounds = [{"candidate": key, "label": key, "load": load, "offered_clients": 64,
                       "requests": 10, "failed": 0, "req_per_s": 5, "p50_us": 7, "model": one,
                       "voluntary_switches_per_request": 1, "cpu_us_per_request": us + more}
                      for more in (0.0, spread, spread / 2)
                      for key, one, us in (("stage6", model, cost), ("nginx", "callbacks", 10.0))
                      for load in ("own", "relayed")]
            for one in rounds:
                if one["candidate"] == "nginx":
                    one["cpu_us_per_request"] = 10.0
            rows = [{**proxy.merged(rounds, key), **proxy.beside_nginx(rounds, key)}
                    for key in ("stage6", "nginx")]
            return proxy.cost_result(rows)["agrees"]
        self.assertEqual([agrees(us) for us in (2.9, 3.1, 8.4, 8.6)], [False, True, True, False])
        self.assertIs(agrees(6.0, spread=9.0), None)
        self.assertIs(agrees(20.0, model="threads"), None)


class Clock:
    """Time that passes when somebody waits, and answers that come after 100 us."""

    def __init__(self) -> None:
        self.now = 0.0
        self.keys: list[types.SimpleNamespace] = []

    def monotonic(self) -> float:
        return self.now

    def register(self, fileobj: Any, events: int,
                 data: dict[str, Any] | None = None) -> None:
        self.keys.append(types.SimpleNamespace(fileobj=fileobj, data=data))

    def unregister(self, fileobj: Any) -> None:
        self.keys = [key for key in self.keys if key.fileobj is not fileobj]

    def select(self, seconds: float) -> list[tuple[Any, None]]:
        if self.keys:
            self.now += 1e-4
            return [(self.keys[0], None)]
        self.now += math.ceil(seconds * 1000) / 1000  # as selectors do
        return []

    def __enter__(self) -> "Clock":
        return self

    def __exit__(self, *error: object) -> None:
        return None


class Harness(unittest.TestCase):
    """The benchmark's own delays are nobody's wait."""

    class Client:
        answer = b"HTTP/1.1 200 OK\r\n\r\n" + measure.HELLO

        def __init__(self, on_send: Callable[..., Any] = lambda: None) -> None:
            self.on_send = on_send

        def sendall(self, text: bytes) -> None:
            self.on_send()

        def recv(self, size: int) -> bytes:
            return self.answer

    def test_who_asks_late_does_not_count_it_as_wait(self) -> None:
        clock = Clock()
        with mock.patch("experiments.workers.time", clock), \
                mock.patch("experiments.workers.selectors.DefaultSelector", lambda: clock):
            make: Any = self.Client
            waits = workers.paced(make, 0.05)
        self.assertGreater(len(waits), 20)
        self.assertAlmostEqual(max(waits), 100, places=3)

    def test_silent_rows_are_asked_one_by_one(self) -> None:
        clock, asked = Clock(), []
        rows: list[results.Row] = [{"predicted_ms": ms, "wait_ms": None}
                                   for ms in (0.0, 1000.0, 0.0, 0.0)]
        for i, row in enumerate(rows):
            row["client"] = self.Client(lambda i=i: asked.append(
                (i, [one["wait_ms"] is None for one in rows[:i] if not one["predicted_ms"]])))
        with mock.patch("experiments.waiting.time", clock), \
                mock.patch("experiments.waiting.selectors.DefaultSelector", lambda: clock):
            waiting.ask_all(rows)
        self.assertEqual(asked, [(1, [True]), (0, []), (2, [False]), (3, [False, False])])
        self.assertTrue(all(row["wait_ms"] < 1 for row in rows), rows)


class Rooms(unittest.TestCase):
    """Who may know whom."""
    ROOT = os.path.dirname(HERE)

    def read(self, *path: str) -> str:
        with open(os.path.join(self.ROOT, *path), encoding="utf-8") as file:
            return file.read()

    def test_imports(self) -> None:
        known = {"lib": {"lib"}, "report": {"report"},
                 "experiments": {"lib", "report", "experiments"}}
        for room, may in known.items():
            for name in os.listdir(os.path.join(self.ROOT, "bench", room)):
                if name.endswith(".py"):
                    found = set(re.findall(r"^ *(?:from|import) (lib|report|experiments|run)\b",
                                           self.read("bench", room, name), re.M))
                    self.assertLessEqual(found, may, f"{room}/{name}")

    def test_crowd_calls_one_way(self) -> None:
        """A module is a .c and its .h; no way along the includes leads back to it."""
        uses: dict[str, set[str]] = {}
        for name in os.listdir(os.path.join(self.ROOT, "bench", "crowd")):
            module = name.rpartition(".")[0]
            uses.setdefault(module, set()).update(
                set(re.findall(r'^#include "(crowd\w*)\.h"', self.read("bench", "crowd", name),
                               re.M)) - {module})
        self.assertIn("crowd_read", uses["crowd_client"])
        while uses:
            free = [module for module, others in uses.items() if not others & set(uses)]
            self.assertTrue(free, f"a circle: {uses}")
            for module in free:
                del uses[module]


class Noise(unittest.TestCase):
    LOOK: results.Look = {
        "idle_share": 0.99, "steal_share": 0.0, "run_queue": 0, "pressure_share": 0.0,
        "floor_us": [5.3, 5.4, 5.3]}

    def test_reading(self) -> None:
        self.assertEqual(noise.cpu_ticks("cpu  10 0 5 80 2 0 1 2 7 0\ncpu0 1\n"), (100, 82, 2))
        self.assertEqual(noise.shares((100, 82, 2), (200, 172, 4)),
                         {"idle_share": 0.9, "steal_share": 0.02})
        self.assertEqual(noise.run_queue("0.20 0.18 0.12 3/180 11206\n"), 2)
        self.assertEqual(noise.pressure("some avg10=12.50 avg60=1 avg300=1 total=9\n"), 0.125)
        self.assertIsNone(noise.pressure(""))

    def test_quiet(self) -> None:
        found = noise.stamp(self.LOOK, self.LOOK, 0.001)
        self.assertTrue(found["quiet"], found["why"])
        self.assertIn("The machine was quiet: 99 % idle", noise.words(found))
        self.assertIn("5.30 to 5.40 µs", noise.words(found))

    def test_each_noise_is_named(self) -> None:
        changes: list[tuple[dict[str, Any], float, str]] = [
            ({"idle_share": 0.6}, 0, "only 60 %"), ({}, 0.05, "5.0 % of cpu time was stolen"),
            ({"floor_us": [9.3, 5.3]}, 0, "varied by 75 %")]
        for change, steal, words in changes:
            found = noise.stamp(self.LOOK, cast(results.Look, {**self.LOOK, **change}), steal)
            self.assertFalse(found["quiet"])
            self.assertIn(words, noise.words(found))
            self.assertIn("NOT quiet", noise.words(found))

    def test_without_the_floor(self) -> None:
        bare = cast(results.Look, {**self.LOOK, "floor_us": []})
        found = noise.stamp(bare, bare, 0)
        self.assertTrue(found["quiet"])
        self.assertNotIn("floor", noise.words(found))


class Peer(unittest.TestCase):
    SUITE = """Running suite(s): blackbox
33%: Checks: 4, Failures: 2, Errors: 0
tests/test_blackbox.c:90:P:command:route_root:0: Passed
tests/harness_client.c:394:F:command:refuses:0: status 400 expected; got: HTTP/1.1 200 OK
tests/harness_client.c:394:P:command:refuses:1: Passed
tests/test_blackbox.c:478:F:command:keep_alive_rules:3: 1.1 Connection: close
"""

    def test_black_box_suite(self) -> None:
        self.assertEqual(blackbox.parse(self.SUITE),
                         {"checks": 4, "passed": 2, "refusals": 2, "refused": 1})
        with self.assertRaises(measure.ToolError):
            blackbox.parse("nothing")

    def test_missing_php_is_told(self) -> None:
        ctx = context.Context("smoke", "build", quiet=True)
        with mock.patch("lib.candidates.php_program", return_value=None):
            self.assertEqual(ctx.php(), [])
        self.assertIn("php is not installed (package php-cli)", ctx.notes[0])

    def test_php_beside_stage_3(self) -> None:
        rows = [{**dict.fromkeys(throughput.KEYS, 1), "candidate": key, "label": key,
                 "clients": 64, "offered_clients": 64, "established_clients": 64,
                 "served_clients": 64, "requests": 1, "failed": 0, "socket_errors": 0,
                 "non_2xx": 0, "late": 0, "generator_bound": False, "cpu_us_per_request": cost}
                for stage3, php in ((5, 6), (4, 5), (10, 11)) for key, cost in
                (("floor", 4), ("stage3-select", stage3), ("php", php))]
        row = next(row for row in throughput.merge(rows) if row["candidate"] == "php")
        self.assertEqual([round(row[f"ratio_to_stage3_{part}"], 2)
                          for part in ("min", "median", "max")], [1.1, 1.2, 1.25])


class Cells(unittest.TestCase):
    def test_unaffected(self) -> None:
        one = matrix.judge([110] * 20, 0, 100)
        self.assertEqual(one["state"], "unaffected")
        self.assertAlmostEqual(one["factor"], 1.1)

    def test_slower(self) -> None:
        self.assertEqual(matrix.judge([250] * 20, 0, 100)["state"], "degraded")

    def test_lost_answers(self) -> None:
        self.assertEqual(matrix.judge([100] * 20, 1, 100)["state"], "degraded")

    def test_stopped(self) -> None:
        one = matrix.judge([], 1, 100)
        self.assertEqual((one["state"], one["factor"]), ("stopped", None))

    def test_one_outlier_is_left_out(self) -> None:
        self.assertEqual(matrix.judge([100.0] * 39 + [9000.0], 0, 100)["state"], "unaffected")


class Tables(unittest.TestCase):
    def test_terminal_has_80_columns(self) -> None:
        results = fixture()
        for result in results["experiments"].values():
            if result.get("faults"):
                text = tables.matrix_lines(result)
            elif result.get("cases"):
                text = tables.case_lines(result)
            else:
                text = tables.text_table(tables.COLUMNS[result["name"]], result["rows"])
            for line in text.splitlines():
                self.assertLessEqual(len(line), 80, line)
        text = tables.text_table(tables.HEADLINE, results["headline"])
        self.assertLessEqual(max(len(line) for line in text.splitlines()), 80)

    def test_every_experiment_has_columns(self) -> None:
        names = {name for name, *_ in run.EXPERIMENTS} - {"failure-matrix", "proxy-matrix"}
        self.assertEqual(names, set(tables.COLUMNS))

    def test_ratio_that_is_not_measured_stands_in_brackets(self) -> None:
        def shown(key: str, *ratios: float) -> str | None:
            row = {"candidate": key, "keep_alive_ratio": ratios[0],
                   "keep_alive_ratio_min": ratios[1], "keep_alive_ratio_max": ratios[2]}
            return tables.ratio_of("keep_alive_ratio")(row)
        self.assertEqual(shown("stage4", 0.99, 0.93, 1.05), "(0.99)")
        self.assertEqual(shown("nginx", 1.20, 1.18, 1.23), "1.20")
        self.assertEqual(shown("floor", 1, 1, 1), "1.00")
        self.assertIsNone(tables.ratio_of("short_ratio")({"candidate": "php"}))

    def test_headline_is_made_of_the_experiments(self) -> None:
        results = fixture()
        found = tables.headline(results["experiments"], results["main_clients"])
        self.assertEqual(found, results["headline"])


    def test_models_are_made_of_the_experiments(self) -> None:
        results = fixture()
        known = [models.Contestant(row["candidate"], row["label"], row["model"],
                                   row["own_lines"], row["changed_lines"])
                 for row in results["models"]]
        found = models.models(results["experiments"], known, results["main_clients"])
        self.assertEqual(found, results["models"])
        self.assertEqual(models.models({}, known, 64), [])
        text = tables.text_table(models.TERMINAL, found)
        self.assertLessEqual(max(len(line) for line in text.splitlines()), 80)

    def test_model_that_was_not_measured_has_dashes(self) -> None:
        row = {"candidate": "stage7", "label": "7", "holds": "a coroutine"}
        self.assertEqual(tables.grid(models.PAGE, [row], page=True)[1][0][2:], ["-"] * 9)

    def test_gateways_that_are_alike_share_a_column(self) -> None:
        def server(label: str, **last: Any) -> dict[str, Any]:
            cell = {"saw": "200, 3 B", "asked": 1, "again": True}
            return {"candidate": label, "label": label, "cells": {"a": cell, "b": {**cell, **last}}}
        rows = tables.alike([server("4 epoll"), server("nginx", asked=2), server("5 reactor"),
                             server("6 async")])
        self.assertEqual([row["label"] for row in rows], ["4 epoll, 5, 6", "nginx"])


class Lines(unittest.TestCase):
    def test_code_without_blanks_and_comments(self) -> None:
        self.assertEqual(lines.code_lines("/* a\n * b */\n\nint x; /* c */\n// d\n  y();\n"), 2)

    def test_the_tree(self) -> None:
        own = lines.own_lines(run.ROOT)
        self.assertLess(10, own["stage1_blocking"])
        self.assertLess(own["stage1_blocking"], own["stage4_epoll_reuseport"])

    def test_changes_as_the_budgets_count_them(self) -> None:
        said = "note: 1-2: 22 of 30 lines\nnote: 4-6: 130 of 200 lines\n100%: Checks: 2\n"
        self.assertEqual(lines.parse_diff(said), [("2", 22), ("6", 130)])


class Axes(unittest.TestCase):
    def test_steps(self) -> None:
        self.assertEqual(axes.steps(3, 60), [2, 5, 10, 20, 50, 100])
        self.assertEqual(axes.steps(5, 5), [5, 10])

    def test_round_up(self) -> None:
        self.assertEqual([axes.round_up(x) for x in (0, 0.9, 7, 1020, 1500)],
                         [1, 1, 8, 1500, 1500])

    def test_even_ticks(self) -> None:
        self.assertEqual(axes.even(1500), [0, 500, 1000, 1500])
        self.assertEqual(axes.even(4), [0, 1, 2, 3, 4])
        self.assertEqual(axes.even(3.87), [0, 1, 2, 3])

    def test_ticks_that_have_no_room_are_left_out(self) -> None:
        self.assertEqual(axes.thin([1, 101, 301, 1001], 0.16), [1, 301, 1001])

    def test_labels_do_not_overlap(self) -> None:
        placed = axes.spread_labels([0.5, 0.5, 0.51, 0.9], 0.06)
        heights = sorted(placed.values())
        gaps = [b - a for a, b in zip(heights, heights[1:])]
        self.assertGreater(min(gaps), 0.9 * 0.06)
        self.assertLess(placed[0], placed[2])

    def test_labels_inside_a_plot_keep_off_the_lines(self) -> None:
        rising = axes.along([(0.1, 0.5), (0.9, 0.95)])
        falling = axes.along([(0.1, 0.5), (0.9, 0.05)])
        self.assertEqual(axes.beside([0.5], [], 0.12, 0.2, 0.1)[0], 0.5)
        self.assertLess(axes.beside([0.5], rising, 0.12, 0.2, 0.1)[0], 0.45)
        self.assertGreater(axes.beside([0.5], falling, 0.12, 0.2, 0.1)[0], 0.55)
        two = axes.beside([0.5, 0.52], rising, 0.12, 0.2, 0.1)
        self.assertAlmostEqual(two[1] - two[0], 0.1)


def texts(svg: str) -> list[str]:
    """What is written in a picture, line by line."""
    root = xml.etree.ElementTree.fromstring(svg)
    return ["".join(one.itertext()) for one in root.iter() if one.tag.endswith("}text")]


def places(svg: str, words: str) -> list[tuple[float, float]]:
    """(x, y) of texts, in units of the picture."""
    found = re.findall(r'translate\(([\d.]+),([\d.]+)\)"[^>]*>\s*<text>([^<]*)</text>', svg)
    return [(float(x), float(y)) for x, y, text in found if text == words]


def line_panel(*series: Any, **more: Any) -> dict[str, Any]:
    return {"kind": "lines", "x_label": "clients", "y_label": "answers", "series": [
        {"key": "", "label": name, "points": points} for name, points in series], **more}


@unittest.skipUnless(shutil.which("gnuplot"), "gnuplot is not installed")
class Pictures(unittest.TestCase):
    def test_every_figure_is_drawn(self) -> None:
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

    def test_hover_titles_are_names(self) -> None:
        for name, result in fixture()["experiments"].items():
            if result["figure"]:
                svg = pictures.draw(result["figure"], name, name)
                titles = set(re.findall(r"<title>([^<]*)</title>", svg)) - {name}
                known = set(figure_labels(result["figure"])) | {"predicted"}
                known |= {f"{label}, failed" for label in known}
                self.assertFalse(titles - known, name)

    def test_log_axes_say_so(self) -> None:
        for name, result in fixture()["experiments"].items():
            for panel in result["figure"]["panels"] if result["figure"] else []:
                svg = pictures.draw({"panels": [panel]}, name, name)
                log = sum(bool(panel.get(axis)) for axis in ("x_log", "y_log"))
                self.assertEqual(" ".join(texts(svg)).count("log scale"), log, name)

    def test_lines_are_named_where_they_end(self) -> None:
        """The axis is even, so a place can be told from the numbers."""
        panel = line_panel(("short", [[0, 5], [4, 5]]), ("long", [[0, 9], [10, 1]]))
        svg = pictures.draw({"panels": [panel]}, "x", "x")
        (short_x, short_y), = places(svg, "short")
        (long_x, long_y), = places(svg, "long")
        self.assertLess(short_x, pictures.WIDTH / 2)
        self.assertGreater(long_x, 0.8 * pictures.WIDTH)
        self.assertLess(short_y, long_y)

    def test_many_lines_have_a_plot_each(self) -> None:
        def panel(count: int) -> dict[str, Any]:
            return line_panel(*[(f"server {i}", [[1, 5 + i], [8, 2]]) for i in range(count)])
        few, many = (pictures.draw({"panels": [panel(pictures.MOST_LINES + more)]}, "x", "x")
                     for more in (0, 1))
        self.assertEqual(len({x for i in range(6) for x, _ in places(few, f"server {i}")}), 1)
        at = [places(many, f"server {i}")[0] for i in range(7)]
        self.assertEqual((len({x for x, _ in at}), len({y for _, y in at})), (3, 3))

    def test_failures_close_together_can_be_read(self) -> None:
        panel = line_panel(("a", [[0, 5], [10, 5]]))
        panel["series"][0]["crosses"] = [[4, 5, 1234], [4.2, 5, 5678], [9.9, 5, 90]]
        svg = pictures.draw({"panels": [panel]}, "x", "x")
        (first, second, third) = [places(svg, words)[0] for words in ("1234", "5678", "90")]
        self.assertEqual(first[1], third[1])
        self.assertGreater(second[1], first[1] + pictures.FONT)
        self.assertLess(third[0] + pictures.text_width("90"), places(svg, "a")[0][0])

    def test_endless_is_no_bar(self) -> None:
        def boxes(**bar: Any) -> tuple[int, int]:
            panel = {"kind": "bars", "x_label": "ms", "bars": [
                {"key": "", "label": "a", "value": 5, "text": "5"},
                {"key": "", "label": "b", "text": "none", **bar}]}
            svg = pictures.draw({"panels": [panel]}, "x", "x")
            self.assertIn("none", texts(svg))
            return svg.count("<polygon"), svg.count("stroke-dasharray")
        (bar, _), (_, dashes) = boxes(value=5), boxes(value=None, endless=True)
        nothing, _ = boxes(value=None)
        self.assertEqual((bar, nothing), (2, 1))
        self.assertGreater(dashes, 0)
        self.assertEqual(boxes(value=None)[1], 0)

    def test_a_bar_of_nothing_has_no_dash(self) -> None:
        panel = {"kind": "bars", "x_label": "ms", "bars": [
            {"key": "", "label": name, "value": value, "text": name}
            for name, value in (("some", 5), ("none", 0))]}
        svg = pictures.draw({"panels": [panel]}, "x", "x")
        strokes = re.findall(r"d='M([\d.]+),([\d.]+) L([\d.]+),([\d.]+) ", svg)
        flat = [float(to) - float(x) for x, y, to, to_y in strokes if y == to_y]
        self.assertFalse([width for width in flat if 0 < width < 20], flat)

    def test_legend_is_broken_where_it_is_narrow(self) -> None:
        def lines(*names: str) -> list[int]:
            return [len(line) for line in pictures.legend({"segments": names})]
        self.assertEqual(lines("receive", "send", "wait"), [3])
        self.assertEqual(lines("in the process", "in the kernel's sockets (both ends)"), [1, 1])

    def test_quotes(self) -> None:
        self.assertEqual(pictures.quote('a"b\\'), '"a\\"b\\\\"')


def figure_labels(figure: dict[str, list[dict[str, Any]]]) -> Iterator[str]:
    for panel in figure["panels"]:
        for one in panel.get("series", []) + panel.get("bars", []):
            if one["label"] and one.get("points", True):
                yield one["label"]


class Balance(html.parser.HTMLParser):
    """Every tag that is opened is closed, in order."""
    VOID = {"meta", "br", "link", "img", "hr", "path", "use", "circle"}

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""
        self.links: list[str | None] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)
        self.links += [value for name, value in attrs if name in ("href", "src", "xlink:href")]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            if not self.open or self.open.pop() != tag:
                raise AssertionError(f"</{tag}> was not open")

    def handle_data(self, data: str) -> None:
        self.text += data


class Page(unittest.TestCase):
    def page(self, results: Any) -> tuple[str, Balance]:
        text = report.page(results, {"date": "today", "cpus": 2, "cpu_model": "x <y>",
                                     "kernel": "6", "commit": "abc", "tree_dirty": True,
                                     "tools": {"wrk": None}, "sysctls": {"a": "1"}}, {})
        parser = Balance()
        parser.feed(text)
        self.assertEqual(parser.open, [])
        return text, parser

    def test_whole_page(self) -> None:
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

    def test_needs_no_network(self) -> None:
        text, parser = self.page(fixture())
        self.assertTrue(all(link and link.startswith("#") for link in parser.links))
        self.assertNotIn("http://", text.replace("http://www.w3.org/", ""))
        self.assertNotIn("https://", text)
        self.assertNotIn("<script", text)

    def test_tolerance_is_beside_the_badge(self) -> None:
        results = fixture()
        found = checks.verdict([checks.within("speed <of it>", 10, 10.5, 0.2)])
        results["experiments"]["short"].update(found)
        _, parser = self.page(results)
        self.assertIn("as predicted: ±20 %", parser.text)
        self.assertIn("speed <of it>", parser.text)
        results["experiments"]["short"].update(checks.verdict(
            [checks.ratio("4 epoll", 0.99, 0.93, 1.05, 1, 0.05)]))
        _, parser = self.page(results)
        self.assertIn("not measured: 4 epoll: spread 0.12, effect 0.01", parser.text)

    def test_instructions_have_their_place(self) -> None:
        results = copy.deepcopy(fixture())
        self.assertNotIn('id="instructions"', self.page(results)[0])
        results["instructions"] = [{"candidate": "x", "label": "4 <epoll>",
                                    "user_instructions_per_request": 1234.4}]
        _, parser = self.page(results)
        self.assertIn("4 <epoll>", parser.text)
        self.assertIn("1,234", parser.text)

    def test_models_have_their_place(self) -> None:
        results = fixture()
        text, parser = self.page(results)
        self.assertIn('<h2 id="models">', text)
        self.assertIn('<td data-head="bytes for one that waits">', text)  # for narrow screens
        for row in results["models"]:
            self.assertIn(row["holds"], parser.text)
        del results["models"]  # as in runs that were saved before there was such a table
        self.assertNotIn('id="models"', self.page(results)[0])

    def test_tables_scroll_by_themselves(self) -> None:
        text, _ = self.page(fixture())
        boxes = re.findall(r'<div class="scroll" tabindex="0" [^>]*><table', text)
        self.assertGreater(len(boxes), 10)
        self.assertEqual(len(boxes), text.count("<table"))
        self.assertNotIn('aria-label=""', text)

    def test_way_back(self) -> None:
        results = fixture()
        self.assertNotIn("The tutorial", self.page(results)[1].text)
        text = report.page(results, {}, {}, "../a&b.html")
        self.assertIn('<a href="../a&amp;b.html">← The tutorial</a>', text)

    def test_failure_is_told(self) -> None:
        results = fixture()
        results["experiments"]["short"].update(ok=False, problems=["4 epoll <died>"])
        _, parser = self.page(results)
        self.assertIn("short: 4 epoll <died>", parser.text)
        self.assertIn("failed", parser.text)

    def test_skipped_is_told(self) -> None:
        results = fixture()
        results["experiments"]["cost"].update(
            skipped="strace is not installed (package strace)", rows=[], finding=None,
            prediction=None, figure=None)
        _, parser = self.page(results)
        self.assertIn("strace is not installed (package strace)", parser.text)


class Results(unittest.TestCase):
    def test_structure(self) -> None:
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

    def test_report_is_written_and_saved(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            one, two = os.path.join(folder, "a"), os.path.join(folder, "b")
            os.makedirs(two)
            open(os.path.join(two, "old.svg"), "w", encoding="ascii").close()
            run.write_report(fixture(), {"date": "today"}, [one, two])
            self.assertEqual(sorted(os.listdir(one)), sorted(os.listdir(two)))
            self.assertTrue({"index.html", "results.json", "environment.json"}
                            <= set(os.listdir(two)))

    @unittest.skipUnless(shutil.which("gnuplot"), "gnuplot is not installed")
    def test_saved_run_is_drawn_anew(self) -> None:
        def contents() -> dict[str, str]:
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

    def test_saved_run_is_of_this_kind(self) -> None:
        folder = os.path.join(run.ROOT, "docs", "results")
        for name in os.listdir(folder):
            if name.endswith((".svg", ".html")):
                with open(os.path.join(folder, name), encoding="utf-8") as file:
                    self.assertNotIn("gnuplot_plot_1a</title>", file.read(), name)
        with open(os.path.join(folder, "index.html"), encoding="utf-8") as file:
            self.assertIn('href="../README.md"', file.read())

    def test_way_back_from_a_folder(self) -> None:
        self.assertEqual(run.tutorial_from(os.path.join(run.ROOT, "docs", "results")),
                         os.path.join("..", "README.md"))
        self.assertIsNone(run.tutorial_from(os.path.dirname(run.ROOT)))

    def test_status(self) -> None:
        results = fixture()
        options = run.parse_arguments([])
        with contextlib.redirect_stdout(io.StringIO()):
            self.assertEqual(run.conclude(results, options, "x"), 0)
            results["experiments"]["short"]["ok"] = False
            self.assertEqual(run.conclude(results, options, "x"), 1)


class CommandLine(unittest.TestCase):
    def test_lists(self) -> None:
        options = run.parse_arguments(["--only", "short,cost", "--stages", "stage3_select nginx"])
        self.assertEqual(options.only, ["short", "cost"])
        self.assertEqual(options.stages, ["stage3_select", "nginx"])
        self.assertEqual(run.command_of("cost", options),
                         'make bench ONLY=cost STAGES="stage3_select nginx"')

    def test_unknown_names(self) -> None:
        for words in (["--only", "nonsense"], ["--stages", "stage9"], ["--smoke", "--full"]):
            with contextlib.redirect_stderr(io.StringIO()), self.assertRaises(SystemExit) as end:
                run.parse_arguments(words)
            self.assertEqual(end.exception.code, 2)

    def test_forms_have_the_same_knobs(self) -> None:
        short = set(context.FORMS["short"])
        self.assertTrue(all(set(form) == short for form in context.FORMS.values()))


class Instructions(unittest.TestCase):
    def ask(self, **done: Any) -> list[dict[str, Any]] | None:
        options = run.parse_arguments([])
        with mock.patch("run.subprocess.run", **done):
            return run.instructions(options)

    def test_they_are_taken_from_the_counting_program(self) -> None:
        rows = [{"label": "x", "user_instructions_per_request": 1}]
        said = types.SimpleNamespace(stdout=json.dumps({"instructions": rows}))
        self.assertEqual(self.ask(return_value=said), rows)

    def test_without_them_there_are_none(self) -> None:
        self.assertIsNone(self.ask(side_effect=subprocess.CalledProcessError(1, "counts.py")))
        self.assertIsNone(self.ask(return_value=types.SimpleNamespace(stdout="table")))


class Environment(unittest.TestCase):
    def test_stamp_names_no_machine_and_no_folder(self) -> None:
        text = json.dumps(environment.stamp(run.ROOT, [0], [1], "short"))
        self.assertNotIn(run.ROOT, text)
        if len(socket.gethostname()) > 4:
            self.assertNotIn(socket.gethostname(), text)
        self.assertIn("kernel", text)


def main() -> int:
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
