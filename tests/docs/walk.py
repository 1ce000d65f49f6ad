"""The walk of docs/guide.md, done by a machine: its commands in their order, and what they print.

    walk.py script          a script of bash with all of its commands, for a machine that may be changed
    walk.py check FILE      compares what that script printed with what the page shows

  ```sh      commands, of one shell; after prose that says "terminal of its own", in the background;
             after "Ctrl-C", when that one was stopped
  ```text    lines that the commands before it print, in any order: … is anything, a number any number

What wants a network (other than the loopback) or a compiler is left out: Python's and Node's clients are
tests/interop's, the build is CI's. The last line of `check` counts.
"""

import re
import shlex
import sys
from dataclasses import dataclass, field

import links

PAGE = links.ROOT / "docs/guide.md"
MARK = "@@@ block"
ELSEWHERE = ("pip install", "npm install")
BLOCKS_MIN = 25
# Seconds until what is begun in a terminal of its own has done what the next block looks for.
BEGUN_S, SCRAPED_S = 3, 30


@dataclass
class Block:
    line: int
    prose: str
    commands: str
    shown: list[tuple[int, str]] = field(default_factory=list)

    @property
    def in_background(self) -> bool:
        return "terminal of its own" in self.prose


def blocks() -> list[Block]:
    """The page's blocks of commands, each with the output that follows it."""
    found: list[Block] = []
    language, began, held, prose = None, 0, [], []
    for number, line in enumerate(PAGE.read_text().splitlines(), 1):
        fence = re.match(r"^```(\w*)$", line)
        if fence is None:
            (prose if language is None else held).append(line)
        elif language is None:
            language, began, held = fence[1], number, []
        else:
            if language == "sh":
                found.append(Block(began, " ".join(prose), "\n".join(held)))
            elif language == "text" and found:
                found[-1].shown = [(began + n, shown) for n, shown in enumerate(held, 1)]
            language, prose = None, []
    return found


def script() -> str:
    """All commands as one script: every block is announced, and none reads what is typed."""
    lines = ["exec 2>&1 </dev/null"]
    for number, block in enumerate(blocks()):
        lines.append(f"echo; echo '{MARK} {number}'")
        if any(word in block.commands for word in ELSEWHERE):
            continue
        if "Ctrl-C" in block.prose:
            lines += ["pkill --signal INT --newest --exact daybook", "sleep 2"]
        commands = re.sub(r"^cargo .*$", ":", block.commands, flags=re.M)
        if block.in_background:
            # With a terminal, because what is shown to a person is.
            lines.append(f"setsid script --quiet --flush --command {shlex.quote(commands)} terminal-{number} >/dev/null &")
            lines.append(f"sleep {SCRAPED_S if 'alertmanager' in commands else BEGUN_S}; cat terminal-{number}")
        else:
            lines.append(commands)
    return "\n".join([*lines, f"echo; echo '{MARK} {len(blocks())}'"]) + "\n"


def pattern(shown: str) -> re.Pattern[str]:
    """What a line that the page shows may be on another day, on another machine."""
    kinds = {"hash": "[0-9a-f]{16,}", "number": r"\d+", "space": r"\s+", "any": "…"}
    said = {"hash": "[0-9a-f]+", "number": r"\d+", "space": r"\s+", "any": ".*"}
    token = re.compile("|".join(f"(?P<{name}>{kind})" for name, kind in kinds.items()) + "|(?P<letter>.)")
    found = token.finditer(shown.strip())
    return re.compile("".join(said.get(one.lastgroup or "", re.escape(one[0])) for one in found))


def check(path: str) -> int:
    printed: dict[int, list[str]] = {}
    number = -1
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", file.read()).splitlines():
            if line.startswith(MARK):
                number = int(line.removeprefix(MARK))
            printed.setdefault(number, []).append(line)
    passed = failed = 0
    if number != len(blocks()) or number < BLOCKS_MIN:
        failed += 1
        print(f"FAILED  guide: it ended at block {number} of {len(blocks())}")
    for number, block in enumerate(blocks()):
        if not block.shown or any(word in block.commands for word in ELSEWHERE):
            continue
        # Frames of tables are as wide as what is in them.
        wanted = [(line, said) for line, said in block.shown if re.search(r"\w", said)]
        found = printed.get(number, [])
        missing = [f"{line}: {said}" for line, said in wanted if not any(map(pattern(said).search, found))]
        passed, failed = passed + (not missing), failed + bool(missing)
        print(f"{'FAILED' if missing else 'ok':<8}guide: the commands at line {block.line} print what is shown")
        if missing:
            print("\n".join(["        not printed:", *missing, "        but:", *found]))
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    if sys.argv[1:] == ["script"]:
        print(script())
    else:
        sys.exit(check(sys.argv[2]))
