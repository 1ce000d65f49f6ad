"""The walk of pages of docs/, done by a machine: their commands in their order, and what they print.

    walk.py script PAGE...          a script of bash with all of their commands, for a machine that may be changed
    walk.py check FILE PAGE...      compares what that script printed with what the pages show

A PAGE is `guide.md`, or a section alone: `operations.md#rotate`.

  ```sh      commands, of one shell; after prose that says "terminal of its own", in the background;
             after "Ctrl-C", when that one was stopped
  ```text    lines that the commands before it print, in any order: … is anything, a number any number

A command that fails fails its block, unless the page shows the error, or `timeout` ended it.

What wants a network (other than the loopback), a container or a compiler is left out: Python's and Node's clients
are tests/interop's, the build is CI's. The last line of `check` counts.
"""

import re
import shlex
import sys
from dataclasses import dataclass, field

import links

MARK, FAILED = "@@@ block", "@@@ failed"
ELSEWHERE = ("pip install", "npm install", "docker build")
# What timeout(1) ends with when it ended a command.
ENDED = "124 timeout "
# Seconds until what is begun in a terminal of its own has done what the next block looks for.
BEGUN_S, SCRAPED_S = 3, 30


@dataclass
class Block:
    page: str
    line: int
    prose: str
    commands: str
    shown: list[tuple[int, str]] = field(default_factory=list)

    @property
    def in_background(self) -> bool:
        return "terminal of its own" in self.prose


    @property
    def left_out(self) -> bool:
        return any(word in self.commands for word in ELSEWHERE)

    @property
    def errors(self) -> int:
        """How many commands fail by what is shown."""
        return sum(line.startswith("error") for _, line in self.shown)


def blocks(page: str) -> list[Block]:
    """A page's blocks of commands, or a section's, each with the output that follows it."""
    name, _, wanted = page.partition("#")
    found: list[Block] = []
    language, began, held, prose, section = None, 0, [], [], ""
    for number, line in enumerate((links.ROOT / "docs" / name).read_text().splitlines(), 1):
        fence = re.match(r"^```(\w*)$", line)
        if fence is None:
            (prose if language is None else held).append(line)
            if language is None:
                section = next(iter(links.anchors(line)), section)
        elif language is None:
            language, began, held = fence[1], number, []
        else:
            if wanted not in ("", section):
                pass
            elif language == "sh":
                found.append(Block(name, began, " ".join(prose), "\n".join(held)))
            elif language == "text" and found:
                found[-1].shown = [(began + n, shown) for n, shown in enumerate(held, 1)]
            language, prose = None, []
    return found


def script(walk: list[Block]) -> str:
    """All commands as one script: every block and every failure is announced, and none reads what is typed."""
    lines = [
        "exec 2>&1 </dev/null",
        "set -E -o pipefail",
        f"trap 'echo \"{FAILED} $? $BASH_COMMAND\"' ERR",
    ]
    for number, block in enumerate(walk):
        lines.append(f"echo; echo '{MARK} {number}'")
        if block.left_out:
            continue
        if "Ctrl-C" in block.prose:
            lines += ["pkill --signal INT --newest --exact daybook", "sleep 2"]
        commands = re.sub(r"^cargo .*$", ":", block.commands, flags=re.M)
        if block.in_background:
            # With a terminal, because what is shown to a person is.
            inside = f"setsid script --quiet --flush --return --command {shlex.quote(commands)} terminal-{number}"
            lines.append(f"{{ {inside} >/dev/null; }} &")
            lines.append(f"sleep {SCRAPED_S if 'alertmanager' in commands else BEGUN_S}; cat terminal-{number}")
        else:
            lines.append(commands)
    return "\n".join([*lines, f"echo; echo '{MARK} {len(walk)}'"]) + "\n"


def pattern(shown: str) -> re.Pattern[str]:
    """What a line that the page shows may be on another day, on another machine."""
    kinds = {"hash": "[0-9a-f]{16,}", "number": r"\d+", "space": r"\s+", "any": "…"}
    said = {"hash": "[0-9a-f]+", "number": r"\d+", "space": r"\s+", "any": ".*"}
    token = re.compile("|".join(f"(?P<{name}>{kind})" for name, kind in kinds.items()) + "|(?P<letter>.)")
    found = token.finditer(shown.strip())
    return re.compile("".join(said.get(one.lastgroup or "", re.escape(one[0])) for one in found))


def check(path: str, walk: list[Block]) -> int:
    printed: dict[int, list[str]] = {}
    number = -1
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", file.read()).splitlines():
            if line.startswith(MARK):
                number = int(line.removeprefix(MARK))
            printed.setdefault(number, []).append(line)
    passed = failed = 0
    if number != len(walk) or not walk:
        failed += 1
        print(f"FAILED  walk: it ended at block {number} of {len(walk)}")
    for number, block in enumerate(walk):
        if block.left_out:
            continue
        # Frames of tables are as wide as what is in them.
        wanted = [(line, said) for line, said in block.shown if re.search(r"\w", said)]
        found = printed.get(number, [])
        missing = [f"{line}: {said}" for line, said in wanted if not any(map(pattern(said).search, found))]
        broken = [line for line in found if line.startswith(FAILED) and ENDED not in line]
        bad = bool(missing) or len(broken) > block.errors
        passed, failed = passed + (not bad), failed + bad
        what = "print what is shown" if wanted else "end well"
        print(f"{'FAILED' if bad else 'ok':<8}{block.page}: the commands at line {block.line} {what}")
        if bad:
            print("\n".join(["        not printed:", *missing, "        but:", *found]))
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    PAGES = sys.argv[2:] if sys.argv[1] == "script" else sys.argv[3:]
    # A page that names nothing to type would be walked in no time.
    WALK = [block for page in PAGES for block in blocks(page) or sys.exit(f"{page}: no commands")]
    if sys.argv[1] == "script":
        print(script(WALK))
    else:
        sys.exit(check(sys.argv[2], WALK))
