"""environment.py - the machine and the tools of a run, as far as they matter to its numbers.

Does not: name the machine, its user or its folders.
"""
import datetime
import os
import platform
import re
import resource
import shutil
import subprocess
from typing import Any

from lib import candidates
from lib.measure import read

SYSCTLS = ("net/core/somaxconn", "net/ipv4/tcp_max_syn_backlog", "net/ipv4/ip_local_port_range",
           "net/ipv4/tcp_tw_reuse", "net/ipv4/tcp_rmem", "net/ipv4/tcp_wmem",
           "net/ipv4/tcp_migrate_req", "net/ipv4/tcp_congestion_control",
           "net/core/busy_poll", "kernel/sched_rt_runtime_us")


def first_line(program: str | None, *arguments: str) -> str | None:
    """What a tool says about itself; None if it is not there."""
    if not program or not shutil.which(program):
        return None
    try:
        done = subprocess.run([program, *arguments], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=10, check=False,
                              stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines = [line.strip() for line in done.stdout.decode(errors="replace").splitlines()]
    return next((line for line in lines if line), None)


def cpu_model() -> str:
    text = read("/proc/cpuinfo")
    match = re.search(r"^(?:model name|Model|Hardware)\s*:\s*(.+)$", text, re.M)
    return match.group(1) if match else platform.machine()


def mitigations() -> dict[str, str]:
    """{vulnerability: what the kernel does against it}, without those that do not concern it."""
    folder = "/sys/devices/system/cpu/vulnerabilities"
    names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    found = {name: read(os.path.join(folder, name)).strip() for name in names}
    return {name: text for name, text in found.items() if text and text != "Not affected"}


def git(root: str, *words: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", root, *words], capture_output=True, timeout=20,
                              check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode().strip()


def commit(root: str) -> tuple[str | None, bool | None]:
    """(short hash or None, whether files differ from it)."""
    changed = git(root, "status", "--porcelain")
    dirty = None if changed is None else changed != ""
    return git(root, "rev-parse", "--short=12", "HEAD"), dirty


def stamp(root: str, server_cpus: list[int], generator_cpus: list[int],
          form: str) -> dict[str, Any]:
    """The whole stamp, as environment.json holds it."""
    revision, dirty = commit(root)
    memory = re.search(r"MemTotal:\s+(\d+)", read("/proc/meminfo"))
    flags = re.search(r"^flags\s*:(.*)$", read("/proc/cpuinfo"), re.M)
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "form": form,
        "commit": revision,
        "tree_dirty": dirty,
        "kernel": platform.release(),
        "kernel_version": platform.version(),
        "machine": platform.machine(),
        "distribution": distribution(),
        "cpu_model": cpu_model(),
        "cpus": os.cpu_count(),
        "virtual_machine": "hypervisor" in flags.group(1).split() if flags else None,
        "memory_mib": int(memory.group(1)) // 1024 if memory else None,
        "load_average": read("/proc/loadavg").split()[:3],
        "server_cpus": server_cpus,
        "generator_cpus": generator_cpus,
        "mitigations": mitigations(),
        "sysctls": {name.replace("/", "."): " ".join(read(f"/proc/sys/{name}").split())
                    for name in SYSCTLS if os.path.exists(f"/proc/sys/{name}")},
        "descriptor_limit": descriptor_limit(),
        "tools": {
            "compiler": first_line(os.environ.get("CC", "gcc"), "--version"),
            "wrk": (first_line("wrk", "-v") or "").split(" Copyright")[0] or None,
            "nginx": first_line(candidates.nginx_program(), "-v"),
            "php": first_line(candidates.php_program(), "-v"),
            "gnuplot": first_line("gnuplot", "--version"),
            "strace": first_line("strace", "-V"),
            "python": platform.python_version(),
        },
    }


def distribution() -> str | None:
    match = re.search(r'^PRETTY_NAME="?([^"\n]+)', read("/etc/os-release"), re.M)
    return match.group(1) if match else None


def descriptor_limit() -> int:
    return resource.getrlimit(resource.RLIMIT_NOFILE)[1]
