"""report.py - results as one page of HTML that needs nothing else: no network, no script.

Does not: measure or draw; pictures come in as SVG text.
"""
import html
from collections.abc import Sequence
from typing import Any

from report import checks, models, tables
from results import Result, Results, Row

STYLE = """
:root { color-scheme: light dark; --fg: #1c2024; --bg: #ffffff; --soft: #5f6870; --line: #d5dae0;
  --panel: #f5f7f9; --good: #d9f0e1; --goodfg: #0b5129; --mid: #fcebc8; --midfg: #6b4400;
  --bad: #f9d8d3; --badfg: #7c1c10; --link: #0b5cad; }
@media (prefers-color-scheme: dark) { :root { --fg: #dfe4e9; --bg: #14181c; --soft: #98a2ac;
  --line: #343b43; --panel: #1c2228; --good: #163d28; --goodfg: #a5e3bf; --mid: #4a3610;
  --midfg: #f4d596; --bad: #521f19; --badfg: #f7b9b0; --link: #7db8f0; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem clamp(0.8rem, 3vw, 2rem) 4rem; max-width: 80rem;
  background: var(--bg); color: var(--fg); font: 16px/1.5 system-ui, sans-serif;
  overflow-wrap: break-word; }
p, nav, dl.story, ul { max-width: 62rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0.6rem 0; }
h2 { font-size: 1.25rem; margin: 2.6rem 0 0.4rem; padding-top: 0.8rem;
  border-top: 1px solid var(--line); }
a { color: var(--link); } nav { line-height: 2; } nav a { margin-right: 0.9rem; white-space: nowrap; }
.soft { color: var(--soft); } .small { font-size: 0.85rem; }
.question { font-size: 1.08rem; font-style: italic; margin: 0.3rem 0 0.8rem; }
dl.story { display: grid; grid-template-columns: 6.5rem 1fr; gap: 0.4rem 1rem; margin: 0.8rem 0; }
dl.story dt { color: var(--soft); } dl.story dd { margin: 0; }
@media (max-width: 36rem) { dl.story { grid-template-columns: 1fr; gap: 0.1rem; }
  dl.story dd { margin-bottom: 0.6rem; } }
.scroll { overflow-x: auto; max-width: 100%; border: 1px solid var(--line); border-radius: 6px;
  margin: 0.8rem 0; background: linear-gradient(to left, var(--bg) 1rem, transparent) right / 2rem
  100% no-repeat local, linear-gradient(to left, var(--line), transparent) right / 0.8rem 100%
  no-repeat; } /* a shadow at the right edge until the table's end is reached */
:focus-visible { outline: 2px solid var(--link); outline-offset: 2px; }
table { border-collapse: separate; border-spacing: 0; width: 100%; font-size: 0.84rem;
  font-variant-numeric: tabular-nums; }
th, td { padding: 0.28rem 0.5rem; text-align: right; white-space: nowrap;
  border-bottom: 1px solid var(--line); }
tr:last-child td { border-bottom: 0; }
thead th { background: var(--panel); font-weight: 600; }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0;
  background: var(--bg); } thead th:first-child { background: var(--panel); }
.cases td:nth-child(-n+4), .cases th:nth-child(-n+4) { text-align: left; }
.pairs td { text-align: left; white-space: normal; overflow-wrap: anywhere; }
.pairs td:first-child { overflow-wrap: normal; min-width: 7rem; }
tr.ours td:first-child { font-weight: 600; }
.headline thead th { white-space: normal; vertical-align: bottom; }
.headline small { color: var(--soft); } .headline b { color: var(--fg); }
.matrix td { text-align: center; line-height: 1.25; white-space: normal; }
.matrix td:first-child { text-align: left; white-space: nowrap; }
.matrix thead th { white-space: normal; text-align: center; vertical-align: bottom;
  padding: 0.28rem 0.4rem; min-width: 6.1rem; }
.matrix td { padding: 0.28rem 0.3rem; } .matrix thead th:first-child { min-width: 0; }
td.unaffected { background: var(--good); color: var(--goodfg); }
td.degraded { background: var(--mid); color: var(--midfg); }
td.stopped { background: var(--bad); color: var(--badfg); }
td small { display: block; font-size: 0.9em; } td .odd { text-decoration: underline dotted; }
figure { margin: 1rem 0; }
figure svg { display: block; width: 100%; max-width: 32.5rem; height: auto; }
@media (min-width: 70rem) { .pictured { display: grid; column-gap: 2rem;
  grid-template: auto 1fr / minmax(0, 1fr) 30rem; } figure { grid-area: 1 / 2 / 3; } }
@media (max-width: 40rem) { th:first-child, td:first-child { white-space: normal;
  min-width: 5.8rem; }
  .matrix td:first-child { white-space: normal; } .matrix { font-size: 0.78rem; }
  .matrix thead th { min-width: 4.7rem; } }
@media print { .scroll { overflow: visible; } h2, .question { break-after: avoid; }
  figure, tr, p { break-inside: avoid; } figure svg { max-width: 24rem; } }
code { background: var(--panel); padding: 0.1rem 0.35rem; border-radius: 4px; font-size: 0.9em; }
.badge { display: inline-block; border-radius: 4px; padding: 0 0.5rem; font-size: 0.85rem;
  vertical-align: middle; margin-left: 0.5rem; font-weight: 400; }
.badge.good { background: var(--good); color: var(--goodfg); }
.badge.mid { background: var(--mid); color: var(--midfg); }
.badge.bad, .problems { background: var(--bad); color: var(--badfg); }
.problems { padding: 0.5rem 1rem; border-radius: 6px; } .problems ul { margin: 0.2rem 0; }
details { margin: 0.6rem 0; } summary { cursor: pointer; color: var(--soft); }
ul.plain { padding-left: 1.2rem; }
"""

METHOD = [
    "A badge says whether all checks of an experiment hold, and how far off they may be; each "
    "has two sides, and stands in the list below its experiment. A ratio of two costs is taken "
    "round by round. Where its rounds are further apart than it is from 1, it was not measured, "
    "and the badge says that instead.",
    "How quiet the machine was is said above: idle and stolen time and the run queue while this "
    "benchmark did nothing, before and after, and how far apart the floor's costs were then.",
    "PHP select is a server of some 40 lines, as tutorials in PHP write them "
    "(bench/servers/select.php): one read is taken for one request, and nothing is parsed.",
    "All on one machine, over loopback. Where there are two cpus, a server runs on the first and "
    "whoever loads it on the last; the experiments with several workers give servers all cpus, "
    "and say so. Nothing is compared that was not measured in the same run.",
    "The candidates of keep-alive, pipelined and short are all running before the first load, "
    "and take turns: A B C, A B C. Numbers are medians over the rounds. Ratios to the floor are "
    "taken round by round, then their median, least and greatest are shown.",
    "The floor is a server that parses nothing: a recv and a send for what has come, epoll_wait "
    "shared by all that are ready. It is what the kernel costs. nginx and evhttp answer the same "
    "twelve bytes.",
    "CPU per request is the server's own account: nanoseconds on a cpu from schedstat of all its "
    "processes, workers that died among them, divided by the answers that wrk counted. The "
    "opening of connections is in it.",
    "Before and after each load an answer is checked, status and body. Answers with another "
    "status than 2xx and broken connections count as failed; where the model promises to answer, "
    "one failure makes the whole run fail.",
    "served is how many of the offered clients the server had accepted when it was looked at, "
    "two thirds through a load of the first round: wrk by itself does not tell that nobody ever "
    "answered some of its clients.",
    "wrk waits 10 s for an answer (its default of 2 s would call slow answers lost), and corrects "
    "its latencies for requests that it could not send in time. With pipelining it takes one time "
    "a batch and miscounts them: no latency is shown there. If wrk uses 95 % of its cpu or more, "
    "requests per second are its limit, and the row says generator-bound.",
    "While a program is replaced the load is that of a client of ours, for wrk does not tell a "
    "request that was lost from a connection that was closed between two. It counts each request "
    "under one heading, and what it has counted is read off many times a second. raced: a "
    "request was written to an open connection, which ended without a byte of an answer; cut "
    "off: it stood behind an answer that said Connection: close.",
    "What the client of a gateway sees is read by a parser of ours that takes nothing for whole "
    "whose end did not come, and how often the upstream was asked is the upstream's own count "
    "(bench/servers/slow_upstream.c). nginx is a gateway with keepalive, proxy_http_version 1.1, "
    "time-outs of 1 s, and its own defaults for all else; it is shown, and not judged.",
    "System calls are counted by strace, in two runs of different length whose difference is "
    "taken, and never timed. Memory of idle connections is the private memory of the server with "
    "all of a herd less that with a tenth of it.",
]


def esc(text: object) -> str:
    return html.escape(str(text), quote=True)


def scrolling(table_text: str, name: str) -> str:
    """A table in a box of its own, in which it scrolls where it is too wide, by key as well."""
    return (f'<div class="scroll" tabindex="0" role="region" aria-label="{esc(name)}">'
            f"{table_text}</div>")


def table(name: str, heads: Sequence[str], rows: Sequence[Sequence[Any]], classes: str = "",
          row_classes: Sequence[str] = (), raw: bool = False) -> str:
    """Cells are escaped unless raw."""
    def show(value: object) -> str:
        return str(value) if raw else esc(value)
    lines = [f'<table class="{classes}"><thead><tr>']
    lines += [f'<th scope="col">{esc(head)}</th>' for head in heads] + ["</tr></thead><tbody>"]
    for i, row in enumerate(rows):
        name = row_classes[i] if i < len(row_classes) else ""
        lines.append(f'<tr class="{name}">' + "".join(f"<td>{show(value)}</td>" for value in row)
                     + "</tr>")
    return scrolling("".join([*lines, "</tbody></table>"]), name)


def ours(rows: list[Row]) -> list[str]:
    return ["ours" if str(row.get("candidate", "")).startswith("stage") else "" for row in rows]


# ---- The parts -----------------------------------------------------------------------------

def cost_cell(row: Row, name: str) -> str:
    """What a request costs, and below it the ratio to the floor with its range."""
    cost, median = row.get(f"{name}_us"), row.get(f"{name}_ratio")
    if cost is None or median is None:
        return "–"
    words = tables.ratio_of(f"{name}_ratio")(row)
    return (f"{cost:.2f} µs<small><b>{words} ×</b> {row[f'{name}_ratio_min']:.2f} to "
            f"{row[f'{name}_ratio_max']:.2f}</small>")


def headline_part(results: Results) -> str:
    rows = results["headline"]
    if not rows:
        return ""
    heads = ["server", "keep-alive", "pipelined", "one per connection", "requests/s", "p50 ms",
             "p99 ms", "clients served", "bytes per idle connection"]
    lines = []
    for row in rows:
        bound = " *" if row.get("generator_bound") else ""
        lines.append([
            esc(row["label"]),
            *[cost_cell(row, name) for name in ("keep_alive", "pipelined", "short")],
            tables.cell(row.get("req_per_s"), tables.whole) + bound,
            tables.cell(row.get("p50_us"), tables.milliseconds),
            tables.cell(row.get("p99_us"), tables.milliseconds),
            esc(row.get("served", "–")), tables.cell(row.get("idle_bytes"), tables.whole)])
    note = ("<p class=\"small soft\">CPU time of the whole server per request, and how many times "
            "the floor's that is: the median over the rounds, least to greatest; in "
            "brackets, and not measured, where these are further apart than it is from 1. "
            f"{results['main_clients']} clients, {results['depth']} requests a batch when "
            "pipelining; requests/s, p50 and p99 of keep-alive. Who serves 1 of "
            f"{results['main_clients']} clients has good latencies, for that one."
            + (" * wrk's cpu was full: this is its limit, not the server's."
               if any(row.get("generator_bound") for row in rows) else "") + "</p>")
    return ('<h2 id="headline">The servers side by side</h2>'
            + table("the servers side by side", heads, lines, "headline", ours(rows), True) + note)


def models_part(results: Results) -> str:
    """The table of models: beside each other what many experiments measured."""
    rows = results.get("models")
    if not rows:
        return ""
    heads, cells = tables.grid(models.PAGE, rows, page=True)
    note = ("<p class=\"small soft\">The same handler everywhere: it hands a request on to an "
            "upstream, and answers when that does. Requests/s of 800 clients before an upstream "
            "of 2 s, with so many places to wait in; memory of the server for one more that "
            "waits; CPU of a request whose upstream answers at once; the p99 of nine in ten "
            "clients while the tenth is slow. Code: lines of the stage's folder that are "
            "no comment, and how many it changes in the stage that it is compared with.</p>")
    return ('<h2 id="models">One handler that waits, five models</h2>'
            + table("one handler, five models", heads, cells, "headline", ours(rows)) + note)


def instructions_part(results: Results) -> str:
    """What tests/counts/counts.py counted, if it did."""
    rows = results.get("instructions")
    if not rows:
        return ""
    lines = [[row["label"], tables.whole(row["user_instructions_per_request"])] for row in rows]
    return ('<h2 id="instructions">User-space instructions per request</h2>'
            "<p class=\"small soft\">Counted, not timed: the same on every machine, and without "
            "what the kernel does.</p>"
            + table("instructions per request", ["server", "instructions"], lines))


def cell_words(one: Row, deadline_seconds: float) -> str:
    """State, and the number that says so."""
    if one["state"] == "stopped":
        return f"> {deadline_seconds:g} s"
    words = f"× {one['factor']:.1f}" if one["factor"] < 9.95 else f"× {one['factor']:,.0f}"
    if one["lost"]:
        words += f", {one['lost']} of {one['lost'] + one['answered']} lost"
    return words


def matrix_part(result: Result, results: Results) -> str:
    heads = ["stage", *[fault["head"] for fault in result["faults"]]]
    lines = ['<table class="matrix"><thead><tr>',
             *[f'<th scope="col">{esc(head)}</th>' for head in heads], "</tr></thead><tbody>"]
    for row in result["rows"]:
        lines.append(f"<tr><td>{esc(row['label'])}</td>")
        for fault in result["faults"]:
            one = row["cells"][fault["key"]]
            odd = one["state"] != one["predicted"]
            words = f'<span class="odd">{one["state"]}</span>' if odd else one["state"]
            title = f"predicted: {one['predicted']}; {fault['what']}"
            lines.append(f'<td class="{one["state"]}" title="{esc(title)}">{words}<small>'
                         f'{esc(cell_words(one, results["deadline_seconds"]))}</small></td>')
        lines.append("</tr>")
    lines.append("</tbody></table>")
    legend = "".join(f"<li>{esc(fault['head'])}: {esc(fault['what'])}</li>"
                     for fault in result["faults"])
    return (scrolling("".join(lines), result["title"])
            + '<p class="small soft">How much longer a fresh client waits than without the fault. '
            "Underlined: not as predicted.</p><details><summary>what is done in each column"
            f'</summary><ul class="plain small">{legend}</ul></details>')


def cases_part(result: Result) -> str:
    """The failure matrix of the gateway: one line a case, the servers side by side."""
    heads, cells = tables.grid(tables.case_columns(tables.alike(result["rows"])),
                              result["cases"], page=True)
    return (table(result["title"], heads, cells, "cases")
            + '<p class="small soft">Under a server\'s name: what its client saw, status and '
            "bytes of the body, or after how many of them it breaks off. asked: how often the "
            "upstream was. again: whether the client's connection then served another request."
            "</p>")


def badge(result: Result) -> str:
    if result["skipped"]:
        return '<span class="badge mid">skipped</span>'
    if not result["ok"]:
        return '<span class="badge bad">failed</span>'
    words = checks.badge_words(result)
    kind = "good" if result["agrees"] else "mid"
    return f'<span class="badge {kind}">{esc(words)}</span>' if words else ""


def problem_list(problems: list[str]) -> str:
    items = "".join(f"<li>{esc(problem)}</li>" for problem in problems)
    return f'<div class="problems"><b>This went wrong</b><ul>{items}</ul></div>'


def checks_part(result: Result) -> str:
    """Every check with both its sides."""
    found = result.get("checks") or []
    if not found:
        return ""
    lines = [[check["what"], *(checks.number(number) for number in
                               (check["predicted"], check["measured"], check["low"],
                                check["high"])),
              check["tolerance"], check["why"] or check["state"]] for check in found]
    heads = ["checked", "predicted", "measured", "from", "to", "tolerance", "verdict"]
    rows = table(f"{result['name']}, all checks", heads, lines)
    return f"<details><summary>all checks, {len(lines)}</summary>{rows}</details>"


def counters_text(result: Result) -> str:
    counters = result.get("kernel_counters") or {}
    if not counters:
        return ""
    told = ", ".join(f"{name} +{count}" for name, count in counters.items())
    return f"{result['seconds']:.0f} s; the kernel counted {told}."


def story(result: Result) -> str:
    """What was asked, predicted and found."""
    parts = [f'<p class="question">{esc(result["question"])}</p>']
    if result["problems"]:
        parts.append(problem_list(result["problems"]))
    if result["skipped"]:
        parts.append(f"<p>Skipped: {esc(result['skipped'])}.</p>")
    elif result["finding"] and result["prediction"]:
        parts.append('<dl class="story"><dt>predicted</dt><dd>'
                     f'{esc(result["prediction"]["text"])}</dd><dt>found</dt><dd><b>'
                     f'{esc(result["finding"])}</b></dd></dl>')
    return "".join(parts)


def numbers(result: Result, results: Results) -> str:
    """The table, and what is to be said of the run."""
    name, parts = result["name"], []
    if result.get("faults") and result["rows"]:
        parts.append(matrix_part(result, results))
    elif result.get("cases") and result["rows"]:
        parts.append(cases_part(result))
    elif result["rows"]:
        heads, cells = tables.grid(tables.COLUMNS[name], result["rows"], page=True)
        open_ = " open" if len(cells) <= 10 else ""
        rows = table(f"{name}, all numbers", heads, cells, row_classes=ours(result["rows"]))
        parts.append(f"<details{open_}><summary>all numbers, {len(cells)} rows</summary>{rows}"
                     "</details>")
    parts.append(checks_part(result))
    for note in result["notes"]:
        parts.append(f'<p class="small soft">{esc(note)}.</p>')
    parts.append(f'<p class="small soft">Again: <code>{esc(result["command"])}</code> '
                 f"{esc(counters_text(result))}</p>")
    return "".join(parts)


def section(result: Result, results: Results, picture: str | None) -> str:
    figure = f"<figure>{picture}</figure>" if picture else ""
    return (f'<section><h2 id="{esc(result["name"])}">{esc(result["title"])}{badge(result)}</h2>'
            f'<div{" class=pictured" if picture else ""}><div>{story(result)}</div>{figure}'
            f"<div>{numbers(result, results)}</div></div></section>")


def flat(value: Any) -> object:
    if isinstance(value, dict):
        return "; ".join(f"{key}: {text}" for key, text in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(str(one) for one in value)
    return {True: "yes", False: "no", None: "unknown"}.get(value, value)


def environment_part(environment: dict[str, Any]) -> str:
    rows = [(key.replace("_", " "), flat(value)) for key, value in environment.items()
            if key not in ("tools", "sysctls")]
    rows += [(tool, version or "not installed")
             for tool, version in environment.get("tools", {}).items()]
    rows += list(environment.get("sysctls", {}).items())
    lines = "".join(f"<tr><td>{esc(key)}</td><td class=\"text\">{esc(value)}"
                    "</td></tr>" for key, value in rows)
    box = scrolling(f'<table class="pairs"><tbody>{lines}</tbody></table>', "environment")
    return f'<h2 id="environment">Where it was measured</h2>{box}'


def summary(results: Results, environment: dict[str, Any]) -> str:
    """The few lines under the title."""
    where = f"{environment.get('cpus')} cpus, {environment.get('cpu_model')}"
    if environment.get("virtual_machine"):
        where += " (virtual machine)"
    dirty = ", with changes that are not in it" if environment.get("tree_dirty") else ""
    return (f"<p>{esc(environment.get('date'))}, {esc(where)}, Linux "
            f"{esc(environment.get('kernel'))}, commit {esc(environment.get('commit'))}{dirty}; "
            f"{esc(results['form'])} form, {results['seconds']:.0f} s. "
            f"{esc(environment.get('noise', ''))} Absolute numbers are this "
            "machine's; the ratios are what to take home.</p>")


def page(results: Results, environment: dict[str, Any], pictures: dict[str, str],
         tutorial: str | None = None) -> str:
    """results.json, environment.json and {name: svg} as the text of index.html. tutorial: a
    link back to it."""
    experiments = results["experiments"].values()
    links = ['<a href="#headline">side by side</a>'] if results["headline"] else []
    links += ['<a href="#models">five models</a>'] if results.get("models") else []
    links += [f'<a href="#{esc(result["name"])}">{esc(result["name"])}</a>'
              for result in experiments]
    links += ['<a href="#environment">environment</a>', '<a href="#method">method</a>']
    bad = [f"{result['name']}: {problem}" for result in experiments
           for problem in result["problems"]]
    skipped = [result for result in experiments if result["skipped"]]
    parts = ['<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">',
             '<meta name="viewport" content="width=device-width, initial-scale=1">',
             "<title>Ways to serve: measured</title>", f"<style>{STYLE}</style></head><body>",
             f'<p><a href="{esc(tutorial)}">← The tutorial</a></p>' if tutorial else "",
             "<h1>Ways to serve, measured</h1>", summary(results, environment),
             problem_list(bad) if bad else ""]
    if skipped:
        parts.append("<p>Skipped: " + "; ".join(
            f"{esc(result['name'])} ({esc(result['skipped'])})" for result in skipped) + ".</p>")
    parts += [f"<nav>{' '.join(links)}</nav>", headline_part(results), models_part(results),
              instructions_part(results)]
    ordered = sorted(experiments, key=lambda result: not result.get("faults"))
    parts += [section(result, results, pictures.get(result["name"])) for result in ordered]
    parts += [environment_part(environment), '<h2 id="method">How it was measured</h2><ul>',
              "".join(f"<li>{esc(text)}</li>" for text in METHOD), "</ul></body></html>"]
    return "\n".join(parts) + "\n"
