#!/usr/bin/env python3
"""run.py - the benchmark: the same work for every stage, and where each model breaks.

Usage: run.py [--full | --smoke] [--only NAME ...] [--stages PROGRAM ...] [--save DIR]
       run.py --render DIR     draw the report of a saved run anew, without measuring
Prints tables, and writes index.html, a picture for each experiment, results.json and
environment.json. Ends with 0 if all went well, 1 if a server died, hung, or answered wrongly
(the page says which), 2 for a wrong command line. Does not: talk to anything but loopback.

results.json, format 1 (what is there stays; more may be added; results.py has the types):
  format, form ("short", "full", "smoke"), ok, seconds, main_clients, depth, deadline_seconds
  headline     [{candidate, label, keep_alive_us, keep_alive_ratio, keep_alive_ratio_min,
               keep_alive_ratio_max, the same for pipelined_ and short_, req_per_s, p50_us,
               p99_us, served, generator_bound, idle_bytes}]; what was not measured is absent
  models       [{candidate, label, model, holds, places, processes, req_per_s, offered_per_s,
               bytes_per_waiting, ratio_to_nginx, ratio_to_stage4 (each with _min, _max),
               p99_waits_ms, p99_computes_ms, own_lines, changed_lines}]; from slow-upstream,
               proxy-cost, keep-alive and slow-among-fast; models.py
  noise        {quiet, why, idle_share, steal_share, run_queue, floor_us_min, floor_us_max,
               floor_spread, before, after}: noise.py; the last two hold what was read
  instructions [{candidate, label, user_instructions_per_request}], or null
  experiments  {name: {
      name, title, question, command   to run it again
      prediction   {text, value}       value: its numbers by name; null if it was skipped
      rows         [{candidate, label, ...}]   units are in the names; null: not measured.
                   failure-matrix: {..., cells: {fault: {state, predicted, factor, wait_us,
                   base_us, answered, lost, lost_share}}}
                   proxy-matrix: {..., cells: {case: {status, end, body_bytes, saw, asked, again,
                   as_predicted}}}; null: a peer's, or nobody counts
      finding      one sentence, made from rows
      checks       [{what, predicted, measured, low, high, tolerance, state, why}]; checks.py
      tolerance    of all checks, in words
      agrees       whether all checks hold; null: one could not be measured, or there is none
      not_measured   null, or which check was not, and why: "spread 0.12, effect 0.01"
      ok           false if anything in `problems` happened
      problems, notes   [text]
      skipped      null, or why it could not be run
      figure       what pictures.py draws, or null
      seconds, kernel_counters   how long it took, and what the kernel counted meanwhile
  }}
candidate: floor, evhttp, nginx, php, stage1, stage2, stage3-select, stage3-poll, stage4,
stage4-edge, stage4-shared, stage4-exclusive, stage5, stage6, stage7, stage7-shared.
"""
import sys

sys.dont_write_bytecode = True  # no files next to the sources

import argparse  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import resource  # noqa: E402
import shutil  # noqa: E402
import subprocess  # noqa: E402
import textwrap  # noqa: E402
import time  # noqa: E402
import traceback  # noqa: E402
from collections.abc import Callable  # noqa: E402
from typing import Any, NamedTuple, cast  # noqa: E402

from experiments import among, costs, matrix, proxy, reload, throughput  # noqa: E402
from experiments import upstream, waiting, workers  # noqa: E402
from lib import context, environment, lines, measure, noise, processes  # noqa: E402
from lib.context import Context  # noqa: E402
from report import checks, models, pictures, report, tables  # noqa: E402
from results import Findings, Result, Results, Row  # noqa: E402

COUNTS_SECONDS = 120  # that counting instructions may take
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
NO_GNUPLOT = "gnuplot is not installed (package gnuplot-nox)"


class Experiment(NamedTuple):
    name: str
    title: str
    question: str
    measure: Callable[[Context], Findings]


# In the order of the report.
EXPERIMENTS = [
    Experiment("keep-alive", "Requests on connections that stay open",
        "What does one more request cost, and who is served at all?", throughput.keep_alive),
    Experiment("short", "One request per connection",
        "What does it cost to come, ask once, and go?", throughput.short),
    Experiment("pipelined", "Requests in batches of 16",
        "How cheap does a request get when many share a system call?", throughput.pipelined),
    Experiment("silent-clients", "Clients that say nothing",
        "How long does a fresh client wait behind clients that are silent?",
        waiting.silent_clients),
    Experiment("idle-herd", "One active client among many idle ones",
        "Who pays for clients that do nothing?", waiting.idle_herd),
    Experiment("fd-cliff", "More clients than descriptors",
        "Many clients come and stay: who is served, who is refused, and by which stage?",
        waiting.fd_cliff),
    Experiment("slow-handler", "A handler that waits 50 ms",
        "Does multiplexing clients multiplex the waiting of handlers?", waiting.slow_handler),
    Experiment("busy-handler", "A handler that computes 5 ms",
        "How many workers help when handlers compute?", waiting.busy_handler),
    Experiment("accept-balance", "Three ways to share new clients among workers",
        "Who gets the clients, how many workers wake for one, and who waits when work is uneven?",
        workers.accept_balance),
    Experiment("level-edge", "Level-triggered and edge-triggered",
        "Is edge-triggered epoll cheaper?", costs.level_edge),
    Experiment("slow-readers", "Clients that read slowly",
        "Large answers to slow clients: does anybody else wait, and what is held for them?",
        waiting.slow_readers),
    Experiment("worker-killed", "A worker is killed every 200 ms",
        "What does a crash cost the clients, and how soon is there a new worker?",
        workers.worker_killed),
    Experiment("reload", "The program is replaced",
        "Does a client notice when the program is replaced?", reload.reload),
    Experiment("cost", "The price list",
        "What do a request and an idle connection cost, in system calls, switches and bytes?",
        costs.cost),
    Experiment("failure-matrix", "The failure matrix",
        "Which fault stops which model?", matrix.failure_matrix),
    Experiment("proxy-matrix", "The failure matrix of the gateway",
        "An upstream misbehaves: what does the client see, and how often was the upstream asked?",
        proxy.proxy_matrix),
    Experiment("proxy-cost", "A request that is handed on",
        "What does it cost to ask another server instead of answering?", proxy.proxy_cost),
    Experiment("slow-upstream", "800 clients, an upstream of 2 s",
        "How many can wait at the same time, and what does each of them cost?",
        upstream.slow_upstream),
    Experiment("many-waiting", "9,900 clients wait at once",
        "How late is the last of them answered, and what memory does one take?",
        upstream.many_waiting),
    Experiment("generator-timeout", "A generator without patience",
        "Are answers that a generator counts as time-outs lost?", upstream.generator_timeout),
    Experiment("slow-among-fast", "One in ten is slow",
        "Who else waits when one client in ten makes its handler wait, or compute?",
        among.slow_among_fast),
]
# Short connections leave thousands of sockets in TIME_WAIT, which make a look into the kernel's
# table of sockets slow: they come after those who look.
MODEL_KEYS = ("stage2", "stage4")  # in the table of models, beside those that are WAITERS
RUN_LATE = ("short", "fd-cliff", "reload", "failure-matrix")


def parse_arguments(argv: list[str]) -> argparse.Namespace:
    names = [name for name, *_ in EXPERIMENTS]
    parser = argparse.ArgumentParser(
        description="The same work for every stage, and where each model breaks.",
        epilog=textwrap.fill("experiments: " + ", ".join(names), 78),
        formatter_class=argparse.RawDescriptionHelpFormatter)
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--full", dest="form", action="store_const", const="full",
                      default="short", help="the long form: more rounds, more points")
    form.add_argument("--smoke", dest="form", action="store_const", const="smoke",
                      help="every experiment in tiny: is the benchmark itself well?")
    parser.add_argument("--only", nargs="+", metavar="NAME", default=[],
                        help="these experiments; commas may separate them")
    parser.add_argument("--stages", nargs="+", metavar="PROGRAM", default=[],
                        help="these servers and the floor, such as stage3_select")
    parser.add_argument("--build", default=os.path.join(ROOT, "build"), metavar="DIR",
                        help="where the servers are (build)")
    parser.add_argument("--report", metavar="DIR", help="where the report goes (BUILD/report)")
    parser.add_argument("--save", metavar="DIR", help="copy the report there, too")
    parser.add_argument("--render", metavar="DIR",
                        help="measure nothing: draw the report there anew, from its results.json")
    options = parser.parse_args(argv)
    options.only = [name for words in options.only for name in words.replace(",", " ").split()]
    options.stages = [name for words in options.stages
                      for name in words.replace(",", " ").split()]
    options.report = options.report or os.path.join(options.build, "report")
    wrong = [name for name in options.only if name not in names]
    if wrong:
        parser.error(f"no experiment '{wrong[0]}'; there are: {', '.join(names)}")
    known = {row[2] for row in context.candidates.STAGES} | {"floor", "nginx", "evhttp", "php"}
    wrong = [name for name in options.stages if name not in known]
    if wrong:
        parser.error(f"no server '{wrong[0]}'; there are: {', '.join(sorted(known))}")
    return options


def missing_programs(build: str) -> list[str]:
    programs = sorted({row[2] for row in context.candidates.STAGES})
    paths = [os.path.join(build, name) for name in programs]
    paths.append(os.path.join(build, "bench", "floor"))
    return [path for path in paths if not os.access(path, os.X_OK)]


# ---- One experiment ------------------------------------------------------------------------

def command_of(name: str, options: argparse.Namespace) -> str:
    words = [f"make bench ONLY={name}"]
    if options.form == "full":
        words.append("FULL=1")
    if options.stages:
        words.append(f'STAGES="{" ".join(options.stages)}"')
    return " ".join(words)


def run_experiment(ctx: Context, experiment: Experiment, options: argparse.Namespace) -> Result:
    """Its entry in results.json, whatever happens to it."""
    name, title, question, function = experiment
    result: Result = {
        "name": name, "title": title, "question": question, "command": command_of(name, options),
        "prediction": None, "rows": [], "finding": None, "agrees": None, "checks": [],
        "tolerance": None, "not_measured": None, "skipped": None, "figure": None, "problems": [],
        "notes": [], "ok": True, "seconds": 0.0, "kernel_counters": {}}
    ctx.begin(name)
    began, counters = time.monotonic(), measure.kernel_counters()
    try:
        cast(Row, result).update(function(ctx))  # its part of the entry
    except context.Skip as why:
        result["skipped"] = str(why)
    except (processes.ServerError, measure.ToolError, OSError, ValueError) as error:
        ctx.problem(f"{type(error).__name__}: {error}")
    except Exception as error:  # a bug of ours must not hide what was measured so far
        traceback.print_exc()
        ctx.problem(f"the benchmark itself failed: {type(error).__name__}: {error}")
    finally:
        processes.end_all()
    result.update({
        "problems": list(ctx.problems), "notes": list(ctx.notes), "ok": not ctx.problems,
        "seconds": time.monotonic() - began,
        "kernel_counters": measure.counters_between(counters, measure.kernel_counters())})
    return result


def run_all(ctx: Context, options: argparse.Namespace) -> dict[str, Result]:
    chosen = [one for one in EXPERIMENTS if not options.only or one.name in options.only]
    order = sorted(chosen, key=lambda one: one.name in RUN_LATE)
    for i, experiment in enumerate(order):
        ctx.part = f"{i + 1}/{len(order)}"
        result = run_experiment(ctx, experiment, options)
        ctx.results[result["name"]] = result
        print_result(ctx, result)
    return {name: ctx.results[name] for name, *_ in chosen}


# ---- The terminal --------------------------------------------------------------------------

def print_result(ctx: Context, result: Result) -> None:
    ctx.clear_line()
    print("\n" + textwrap.fill(f"{result['name']}: {result['question']}", 78))
    if result["skipped"]:
        print(f"  SKIPPED: {result['skipped']}")
    elif result.get("faults") and result["rows"]:
        print(tables.matrix_lines(result))
    elif result.get("cases"):
        print(tables.case_lines(result))
    elif result["rows"]:
        print(tables.text_table(tables.COLUMNS[result["name"]],
                                tables.terminal_rows(result, ctx.p["main_clients"])))
    if result["finding"]:
        print(textwrap.fill(result["finding"], 78))
    if result["ok"] and not result["skipped"] and checks.badge_words(result):
        print(textwrap.fill(f"[{checks.badge_words(result)}]", 78))
    for note in result["notes"]:
        print(textwrap.fill(f"note: {note}", 78))
    for problem in result["problems"]:
        print(textwrap.fill(f"FAILED: {problem}", 78))
    sys.stdout.flush()


# ---- The report ----------------------------------------------------------------------------

def write(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def draw_all(experiments: dict[str, Result]) -> dict[str, str]:
    """{name: svg}."""
    found: dict[str, str] = {}
    if not shutil.which("gnuplot"):
        print(f"no pictures: {NO_GNUPLOT}", file=sys.stderr)
        for result in experiments.values():
            result["notes"].append(f"no picture: {NO_GNUPLOT}")
        return found
    for name, result in experiments.items():
        if result["figure"]:
            try:
                found[name] = pictures.draw(result["figure"], name, f"{name}: {result['title']}")
            except (RuntimeError, ArithmeticError, ValueError) as error:
                result["problems"].append(f"the picture: {error}")
                result["ok"] = False
    return found


def write_report(results: Results, stamp: dict[str, Any], folders: list[str]) -> None:
    """The page, its pictures and what they are made of, in each of the folders."""
    drawn = draw_all(results["experiments"])
    results["ok"] = all(result["ok"] for result in results["experiments"].values())
    for folder in folders:
        os.makedirs(folder, exist_ok=True)
        for name in os.listdir(folder):  # pictures of an earlier run
            if name.endswith(".svg"):
                os.unlink(os.path.join(folder, name))
        for name, svg in drawn.items():
            write(os.path.join(folder, f"{name}.svg"), pictures.for_file(svg))
        write(os.path.join(folder, "results.json"), json.dumps(results, indent=1) + "\n")
        write(os.path.join(folder, "environment.json"), json.dumps(stamp, indent=1) + "\n")
        write(os.path.join(folder, "index.html"),
              report.page(results, stamp, drawn, tutorial_from(folder)))


def tutorial_from(folder: str) -> str | None:
    """The way back to the tutorial; None from a folder that is not in this tree."""
    folder = os.path.realpath(folder)
    inside = os.path.commonpath([folder, ROOT]) == ROOT
    return os.path.relpath(os.path.join(ROOT, "docs", "README.md"), folder) if inside else None


def render(folder: str) -> int:
    """The report of a saved run anew; the exit status."""
    if not shutil.which("gnuplot"):
        print(f"run.py: {NO_GNUPLOT}", file=sys.stderr)
        return 1
    found = []
    for name in ("results.json", "environment.json"):
        with open(os.path.join(folder, name), encoding="utf-8") as file:
            found.append(json.load(file))
    results, stamp = found
    write_report(results, stamp, [folder])
    print(f"drawn anew: {os.path.relpath(os.path.join(folder, 'index.html'))}")
    return 0


def prepare(ctx: Context) -> None:
    """This program runs where the generators do, and hands on as many descriptors as it may."""
    os.sched_setaffinity(0, ctx.generator_cpus)
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))


def conclude(results: Results, options: argparse.Namespace, folder: str) -> int:
    """The last lines; the exit status."""
    experiments = results["experiments"].values()
    bad = [result["name"] for result in experiments if not result["ok"]]
    skipped = [result["name"] for result in experiments if result["skipped"]]
    if results["headline"]:
        print("\nCPU per request (keep-alive, pipelined, short), x: times the floor, in\n"
              "brackets where it is not measured: spread over effect; idle: bytes per\n"
              "connection; req/s and served: keep-alive")
        print(tables.text_table(tables.HEADLINE, results["headline"]))
    if results["models"]:
        print("\nOne handler that waits 2 s, for 800 clients (req/s of 400, bytes for one that\n"
              "waits); CPU of a request handed on over nginx's, of an answer of its own over\n"
              "stage 4's; p99 of others, ms, beside one in ten that waits, or computes")
        print(tables.text_table(models.TERMINAL, results["models"]))
    print(f"\n{len(results['experiments'])} experiments in {results['seconds']:.0f} s; "
          f"{len(bad)} failed{': ' + ', '.join(bad) if bad else ''}; {len(skipped)} skipped"
          f"{': ' + ', '.join(skipped) if skipped else ''}")
    if results.get("noise"):
        print(textwrap.fill(noise.words(results["noise"]), 78))
    print(f"the page: {os.path.relpath(os.path.join(folder, 'index.html'))}")
    return 1 if bad or (options.form == "smoke" and skipped) else 0


def benchmark(options: argparse.Namespace) -> int:
    ctx = context.Context(options.form, options.build, options.stages or None)
    stamp = environment.stamp(ROOT, ctx.server_cpus, ctx.generator_cpus, options.form)
    prepare(ctx)
    ctx.say("how quiet is the machine?")
    before, began = noise.look(ctx), noise.cpu_ticks(measure.read("/proc/stat"))
    experiments = run_all(ctx, options)
    stolen = noise.shares(began, noise.cpu_ticks(measure.read("/proc/stat")))["steal_share"]
    found = noise.stamp(before, noise.look(ctx), stolen)
    stamp["noise"] = noise.words(found)
    results: Results = {
        "format": 1, "form": options.form, "ok": True,
        "seconds": time.monotonic() - ctx.began, "main_clients": ctx.p["main_clients"],
        "depth": throughput.DEPTH, "deadline_seconds": ctx.p["deadline_seconds"],
        "headline": tables.headline(experiments, ctx.p["main_clients"]),
        "models": models.models(experiments, model_contestants(), ctx.p["main_clients"]),
        "noise": found, "instructions": instructions(options), "experiments": experiments}
    write_report(results, stamp, [folder for folder in (options.report, options.save) if folder])
    return conclude(results, options, options.report)


def model_contestants() -> list[models.Contestant]:
    """The usual modes, the coroutines' other one, and nginx, with how much code they are."""
    own, changed = lines.own_lines(ROOT), lines.changed_lines(ROOT)
    found = [models.Contestant(key, label, model, own.get(program),
                               changed.get(program.removeprefix("stage").partition("_")[0]))
             for key, label, program, _, model in context.candidates.STAGES
             if key in MODEL_KEYS or model in context.candidates.WAITERS]
    return [*found, models.Contestant("nginx", "nginx", "callbacks", None, None)]


def instructions(options: argparse.Namespace) -> list[Row] | None:
    """User-space instructions per request, as counts.py --json counts them: the value of
    "instructions" there. None for a part of a run, and where it cannot tell."""
    if options.form == "smoke" or options.only or options.stages:
        return None
    command = [sys.executable, os.path.join(ROOT, "tests", "counts", "counts.py"), "--json", options.build]
    try:
        done = subprocess.run(command, capture_output=True, timeout=COUNTS_SECONDS, check=True,
                              stdin=subprocess.DEVNULL)
        return json.loads(done.stdout).get("instructions")
    except (OSError, subprocess.SubprocessError, ValueError, AttributeError):
        return None


def ending_all(function: Callable[[argparse.Namespace], int], options: argparse.Namespace) -> int:
    """Its exit status, or that of an interrupted program; all that was started is ended."""
    processes.raise_on_signals()
    try:
        return function(options)
    except KeyboardInterrupt:
        print("\nstopped; all that was started is ended", file=sys.stderr)
        return 130
    finally:
        processes.end_all()


def main(argv: list[str]) -> int:
    options = parse_arguments(argv)
    if options.render:
        return render(options.render)
    missing = missing_programs(options.build)
    if missing:
        print(f"run.py: {os.path.relpath(missing[0])} is missing; make bench builds it",
              file=sys.stderr)
        return 1
    return ending_all(benchmark, options)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
