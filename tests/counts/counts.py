#!/usr/bin/env python3
"""Count what one request costs each stage: system calls, allocations, instructions, memory of
an idle client.

Counts are exact, so they are asserted; times are not, and are left to the benchmark.
Usage: counts.py BUILD_DIR         print them, and say what is dearer than it may be
       counts.py --json BUILD_DIR  instructions alone, for the benchmark
"""
import collections
import json
import mmap
import os
import re
import resource
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

import instructions

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
sys.path += [os.path.join(ROOT, "common", "setup"), os.path.join(ROOT, "bench")]
import stages  # noqa: E402
from lib import candidates, processes  # noqa: E402

IDLE_CLIENTS = {  # select's sets end at 1024; poll would look at 10,000 fds for each of 10,000
    "--multiplexer=select": 900, "--multiplexer=poll": 2000}
MANY_IDLE_CLIENTS = 10000
REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
FEW, MANY = 200, 1200  # requests of the two runs whose difference is counted
MAX_IDLE_BYTES = 256   # of the process's memory, for an idle connection
# A library's loop has records of its own: 128 bytes of struct event, 40 for the descriptor.
MAX_LIBRARY_BYTES = MAX_IDLE_BYTES + 128 + 40
# One that waits in a coroutine: a page of its own stack, and what is written down besides; or what
# it has on the shared stack, copied.
MAX_COROUTINE_BYTES, MAX_SHARED_BYTES = 4096 + 512, 1280
# Instructions of a request: some 3 % above what gcc 12 makes of it with -O2. Another compiler
# makes something else of it, though nothing much dearer. Stage 5's are stage 4's, and the way to
# the thread and back: three times a lock, a condition variable, and who owns the connection.
MAX_INSTRUCTIONS = {"stage4": {"bare": 1510, "h2load": 1745, "pipelined": 910},
                    "stage5": {"bare": 2800, "h2load": 3030, "pipelined": 990}}
MEASURED_WITH = ("gcc", "12", "-O2")
OTHER_COMPILER = 1.2
# What a model needs besides a recv, a send and a wait. With threads: the loop wakes one; that one
# goes to sleep, and unlocks a mutex which pthread_cond_wait(3) has locked as if others waited for
# it; and the connection is watched again. Rarely one more: who is woken meets a lock.
MORE_CALLS: dict[str, dict[str, float]] = {"threads": {"futex": 3.1, "epoll_ctl": 1}}
WAITS = {"select", "pselect6", "poll", "ppoll", "epoll_wait", "epoll_pwait"}


def command_of(mode: stages.Mode) -> list[str]:
    """The words to start it with one worker."""
    return [mode.stage, *(["-w1"] if mode.workers else []), *mode.options]


def counted_modes() -> list[stages.Mode]:
    """How clients are accepted is no matter to one that is there: one way to do it will do."""
    return [mode for mode in stages.modes()
            if not any(option.startswith("--accept") for option in mode.options)]


def start(build: str, command: list[str], wrapper: Sequence[str] = (),
          env: dict[str, str] | None = None) -> tuple[subprocess.Popen[str], int]:
    """Start a stage; returns (process, port)."""
    server = subprocess.Popen(
        [*wrapper, os.path.join(build, command[0]), *command[1:], "-p0", "-q", "-k600"],
        stdout=subprocess.PIPE, text=True, env=env, start_new_session=True)
    assert server.stdout is not None
    line = server.stdout.readline()
    match = re.search(r":(\d+) \(", line)
    if not match:
        sys.exit(f"{command[0]} did not start: {line!r}")
    return server, int(match.group(1))


def stop(server: subprocess.Popen[str]) -> None:
    """SIGTERM to the server itself, which may run under strace; it must exit with 0."""
    os.killpg(server.pid, signal.SIGTERM)
    if server.wait(timeout=20) != 0:
        sys.exit(f"the server ended with {server.returncode}")
    assert server.stdout is not None
    server.stdout.close()


def ask(client: socket.socket, times: int) -> None:
    """One keep-alive request after the other on a connection."""
    for _ in range(times):
        client.sendall(REQUEST)
        answer = b""
        while not answer.endswith(b"\r\n\r\nhello world!"):
            piece = client.recv(4096)
            if not piece:
                sys.exit("the server closed a keep-alive connection")
            answer += piece


def traced(build: str, command: list[str], times: int) -> collections.Counter[str]:
    """System calls of a whole run with `times` requests on one connection, by name."""
    calls: collections.Counter[str] = collections.Counter()
    with tempfile.NamedTemporaryFile() as out:
        # detach on TERM is strace's habit; -I never keeps it, and the counts, to the end
        server, port = start(build, command,
                             ["strace", "-f", "-c", "-Inever", "-U", "calls,name",
                              "-o", out.name])
        with socket.create_connection(("127.0.0.1", port)) as client:
            ask(client, 1)
            worker = worker_of(worker_of(server.pid))  # server is strace
            for _ in range(times):
                wait_until_asleep(worker)
                ask(client, 1)
        stop(server)
        for line in out.read().decode().splitlines():
            match = re.fullmatch(r"\s*(\d+)\s+(\w+)\s*", line)
            if match and match.group(2) != "total":
                calls[match.group(2)] += int(match.group(1))
    return calls


def wait_until_asleep(pid: int) -> None:
    """Until a server has finished its turn and waits. Edge-triggered, it reads until EAGAIN: if
    the next request were there before, it would find that instead, and save a recv and a wait."""
    deadline = time.monotonic() + 10
    while True:
        states = set()
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/stat", encoding="ascii") as file:
                states.add(file.read().rpartition(") ")[2][0])
        if states == {"S"}:
            return
        if time.monotonic() > deadline:
            sys.exit(f"the server is in state {states} and not at its wait")


def calls_per_request(build: str, command: list[str]) -> dict[str, float]:
    """{name: calls per request}, without those that do not grow with the requests."""
    few, many = traced(build, command, FEW), traced(build, command, MANY)
    per = {name: (many[name] - few[name]) / (MANY - FEW) for name in many}
    return {name: n for name, n in per.items() if abs(n) >= 0.01}


def allocations_per_request(build: str, command: list[str]) -> float:
    """Calls of malloc, calloc and realloc during MANY requests, per request."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(bytes(8))
        file.flush()
        env = dict(os.environ, COUNT_FILE=file.name,
                   LD_PRELOAD=os.path.join(build, "tests/count_malloc.so"))
        server, port = start(build, command, env=env)
        with mmap.mmap(file.fileno(), 8) as counter, \
                socket.create_connection(("127.0.0.1", port)) as client:
            ask(client, 10)
            before = struct.unpack("Q", counter[:8])[0]
            ask(client, MANY)
            after = struct.unpack("Q", counter[:8])[0]
        stop(server)
    if before == 0:
        sys.exit("the counting library counted nothing at all: it was not loaded")
    return (after - before) / MANY


def worker_of(pid: int) -> int:
    """The process that serves: the first child, or the server itself."""
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        children = file.read().split()
    return int(children[0]) if children else pid


def private_bytes(pid: int) -> int:
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
        return 1024 * sum(int(n) for n in re.findall(r"Private_\w+:\s+(\d+) kB", file.read()))


def idle_bytes(build: str, command: list[str], n: int) -> float:
    """Memory of the process per connection that was served once and now idles."""
    server, port = start(build, command)
    clients: list[socket.socket] = []

    def crowd(size: int) -> int:
        while len(clients) < size:
            clients.append(socket.create_connection(("127.0.0.1", port)))
            ask(clients[-1], 1)
        return private_bytes(worker_of(server.pid))

    before = crowd(n // 10)  # the first ones pay for pages that all will use
    after = crowd(n)
    for client in clients:
        client.close()
    stop(server)
    return (after - before) / (n - n // 10)


def instructions_per_request(build: str, command: list[str], form: str) -> float:
    """User-space instructions of a request of the form; see instructions.py. The program is
    counted without what a debugger needs: valgrind does not understand all of clang's."""
    with tempfile.TemporaryDirectory() as plain:
        subprocess.run(["strip", "--strip-debug", "-o", os.path.join(plain, command[0]),
                        os.path.join(build, command[0])], check=True)
        return instructions.per_request(lambda wrapper: start(plain, command, wrapper), stop,
                                        form)


def compiled_with(build: str) -> tuple[str, str, str]:
    """(compiler, its major version, -O level) of what stands in the build folder."""
    with open(os.path.join(build, "obj/flags"), encoding="utf-8") as file:
        words = file.read().split()
    version = subprocess.run([words[0], "-dumpversion"], stdout=subprocess.PIPE, text=True,
                             check=True).stdout
    level = [word for word in words if word.startswith("-O")]
    return os.path.basename(words[0]), version.strip().split(".")[0], level[-1] if level else "-O0"


def check_instructions(build: str) -> list[str]:
    """A stage's price for each form of a request: print it, return what is too dear."""
    made = compiled_with(build)
    spare = 1 if made == MEASURED_WITH else OTHER_COMPILER
    found = []
    for key, limits in MAX_INSTRUCTIONS.items():
        command = command_of(next(mode for mode in stages.modes() if mode.key == key))
        print(f"\n{key}, instructions of a request ({' '.join(made)})")
        for form, limit in limits.items():
            n = instructions_per_request(build, command, form)
            print(f"{form:12}{n:8.0f}, at most {limit * spare:.0f}")
            if n > limit * spare:
                found.append(f"{key}: {n:.0f} instructions for a {form} request, "
                             f"{limit * spare:.0f} allowed")
    return found


def start_nginx(wrapper: Sequence[str]) -> tuple[processes.Server, int]:
    """With one worker."""
    server = processes.Server(candidates.nginx(), sorted(os.sched_getaffinity(0)),
                              wrapper=wrapper)
    return server, server.port


def price_list(build: str) -> list[dict[str, object]]:
    """For the benchmark's report: stage 4, and nginx if it is there."""
    command = command_of(next(mode for mode in stages.modes() if mode.key == "stage4"))
    found: list[dict[str, object]] = []
    for form in instructions.FORMS:
        found.append({"label": f"4 epoll, {form}", "user_instructions_per_request":
                      instructions_per_request(build, command, form)})
        if candidates.nginx_program():
            found.append({"label": f"nginx, {form}", "user_instructions_per_request":
                          instructions.per_request(start_nginx, processes.Server.stop, form)})
    return found


def max_idle_bytes(mode: stages.Mode) -> int:
    """Of the process's memory, for an idle connection."""
    if mode.model == "callbacks":
        return MAX_LIBRARY_BYTES
    if mode.model != "coroutines":
        return MAX_IDLE_BYTES
    return MAX_SHARED_BYTES if "--shared-stack" in mode.options else MAX_COROUTINE_BYTES


def complaints(command: list[str], mode: stages.Mode, calls: dict[str, float],
               allocations: float, idle: float | None) -> list[str]:
    """What differs from the promise: one recv, one send, at most one wait, nothing else but what
    the model needs. Edge-triggered, this server reads until EAGAIN: one recv more."""
    receives = 2 if "--trigger=edge" in command else 1
    allowed: dict[str, float] = {"recvfrom": receives, "sendto": 1, **dict.fromkeys(WAITS, 1),
                                 **MORE_CALLS.get(mode.model, {})}
    found = [f"{n:.2f} {name} per request, {allowed.get(name, 0):.2f} allowed"
             for name, n in calls.items() if n > allowed.get(name, 0) + 0.01]
    if calls.get("recvfrom", 0) < receives - 0.01 or calls.get("sendto", 0) < 0.99:
        found.append("the requests were not counted")
    if allocations != 0:
        found.append(f"{allocations:.2f} allocations per request, 0 allowed")
    most = max_idle_bytes(mode)
    if idle is not None and idle > most:
        found.append(f"{idle:.0f} bytes per idle connection, {most} allowed")
    return found


def main() -> int:
    if sys.argv[1] == "--json":
        print(json.dumps({"instructions": price_list(os.path.abspath(sys.argv[2]))}))
        return 0
    build = os.path.abspath(sys.argv[1])
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    passed = failed = 0

    print("per keep-alive request: system calls (strace -c -f), allocations (malloc counted),\n"
          "user-space instructions (callgrind); private memory of the process per idle connection\n")
    print(f"{'stage':34}{'recv':>5}{'send':>6}{'wait':>6}{'other':>7}{'malloc':>8}{'instr':>7}"
          f"{'idle':>12}")
    for mode in counted_modes():
        command = command_of(mode)
        calls = calls_per_request(build, command)
        allocations = allocations_per_request(build, command)
        edge = "--trigger=edge" in command  # how often it meets EAGAIN differs from run to run
        instructed = "varies" if edge else \
            f"{instructions_per_request(build, command, 'bare'):.0f}"
        idle = None
        if mode.model != "blocking":
            n = min(IDLE_CLIENTS.get(command[-1], MANY_IDLE_CLIENTS), limit // 2)
            idle = idle_bytes(build, command, n)
        waits = sum(calls.get(name, 0) for name in WAITS)
        recv, send = calls.get("recvfrom", 0), calls.get("sendto", 0)
        name = " ".join(command).replace("--multiplexer=", "").replace("--trigger=", "")
        shown = "one at a time" if idle is None else f"{idle:.0f} bytes"
        print(f"{name:34}{recv:5.2f}{send:6.2f}{waits:6.2f}"
              f"{sum(calls.values()) - waits - recv - send:7.2f}{allocations:8.2f}{instructed:>7}"
              f"{shown:>14}")
        found = complaints(command, mode, calls, allocations, idle)
        for complaint in found:
            print(f"  FAILED: {complaint}")
        failed += bool(found)
        passed += not found
    found = check_instructions(build)
    for complaint in found:
        print(f"  FAILED: {complaint}")
    failed += bool(found)
    passed += not found
    print(f"\n{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
