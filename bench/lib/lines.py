"""lines.py - how much code a stage is: counted from the tree.

Does not: judge it, or count common/, which all stages share.
"""
import glob
import os
import re
import subprocess

DIFF_SECONDS = 60  # that all diffs between the stages may take


def code_lines(text: str) -> int:
    """Lines of C that are neither blank nor comment alone."""
    text = re.sub(r"/\*.*?\*/", lambda match: "\n" * match[0].count("\n"), text, flags=re.S)
    text = re.sub(r"//[^\n]*", "", text)
    return sum(bool(line.strip()) for line in text.splitlines())


def own_lines(root: str) -> dict[str, int]:
    """{"stage4_epoll_reuseport": lines of code in its folder}"""
    found: dict[str, int] = {}
    for path in glob.glob(os.path.join(root, "stage*", "*.[chS]")):
        with open(path, encoding="utf-8") as file:
            program = os.path.basename(os.path.dirname(path))
            found[program] = found.get(program, 0) + code_lines(file.read())
    return found


def changed_lines(root: str) -> dict[str, int]:
    """{"4": lines that stage 4 changes in its neighbour}, each taken away and each added one, as
    tests/diff.sh counts them for its budgets; {} where it cannot."""
    try:
        said = subprocess.run([os.path.join(root, "tests", "diff.sh")], capture_output=True,
                              timeout=DIFF_SECONDS, check=False, stdin=subprocess.DEVNULL,
                              text=True).stdout
    except (OSError, subprocess.SubprocessError):
        return {}
    return dict(parse_diff(said))


def parse_diff(said: str) -> list[tuple[str, int]]:
    return [(to, int(n)) for to, n in
            re.findall(r"^note: \d+-(\d+): (\d+) of \d+ lines$", said, re.M)]
