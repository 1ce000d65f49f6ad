"""What pages say to type is what `daybook` takes: its commands, their flags, and DAYBOOK_… variables.

    DAYBOOK_BIN=… tests/docs/commands.py

A command is what begins with `daybook` in a block of sh, also after `sudo …`, a pipe or a condition, and
`daybook …` in prose. Its values are not looked at. The last line counts.
"""

import functools
import os
import re
import shlex
import subprocess
import sys

import links

BINARY = os.environ["DAYBOOK_BIN"]
# No flag has them: passwords, what a unit reads, what the suites of this repository read.
OTHERS = {"DAYBOOK_PASSWORD", "DAYBOOK_ADMIN_PASSWORD", "DAYBOOK_REPOSITORY", "DAYBOOK_BIN"}
COMMANDS_MIN = 100
LIMIT_S = 20
# Where a command begins in a line of shell.
RUN = re.compile(r"(?:^|[|;(] *|sudo (?:-\S+ (?:daybook )?)*|until |: )(daybook .*)")


@functools.cache
def help_of(*words: str) -> str | None:
    """The help of a command, or None if there is no such."""
    said = subprocess.run([BINARY, *words, "--help"], capture_output=True, text=True, timeout=LIMIT_S, check=False)
    return said.stdout if said.returncode == 0 else None


def takes(text: str, flag: str) -> bool:
    return re.search(rf"(?<![\w-]){re.escape(flag)}(?![\w-])", text) is not None


def subcommands(text: str) -> set[str]:
    """The commands that a help lists."""
    return set(re.findall(r"^  ([a-z][a-z-]*)  +\S", text.split("Options:")[0], re.M))


def every_help(*words: str) -> str:
    """The help of a command and of all below it."""
    text = help_of(*words) or ""
    below = subcommands(text) - {"help"}
    return text + "".join(every_help(*words, name) for name in sorted(below))


def unknown(text: str, variables: set[str]) -> list[tuple[int, str]]:
    """DAYBOOK_… variables that nothing reads, with the lines where they stand."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        names = re.findall(r"\bDAYBOOK_[A-Z_]*[A-Z]\b", line)
        found += [(number, name) for name in names if name not in variables]
    return found


def wrong(command: str) -> str | None:
    """Why `daybook` does not take this, or None."""
    # What stands for a value of the reader's is one word, whatever it has in it.
    try:
        words = shlex.split(re.sub(r"[<>]\(.*?\)|\$\(.*?\)|[<>]\s*\S+", "VALUE", command), comments=True)
    except ValueError:
        return None
    words = words[1:]
    path: list[str] = []
    text = help_of()
    assert text is not None, f"{BINARY} has no help"
    while words:
        word = words.pop(0)
        if word in ("|", "&", ";", "&&", "||", "…"):
            break
        word = word.rstrip(";)")
        if word.startswith("--"):
            # One of several, as --tls-…
            if word.endswith("…"):
                continue
            flag = word.partition("=")[0]
            if not takes(text, flag):
                return f"'daybook {' '.join(path)}' has no {flag}"
        elif word in subcommands(text):
            path.append(word)
            text = help_of(*path)
            if text is None:
                return f"there is no 'daybook {' '.join(path)}'"
        elif not path and re.fullmatch(r"[a-z]+", word) and word != "help":
            return f"there is no 'daybook {word}'"
    return None


def commands(text: str) -> list[tuple[int, str]]:
    """Commands with the lines where they stand."""
    found, language, held, began = [], None, "", 0
    for number, line in enumerate(text.splitlines(), 1):
        fence = re.match(r"^```(\w*)", line)
        if fence:
            language = None if language is not None else fence[1]
        elif language is None:
            found += [(number, code) for code in re.findall(r"`(daybook [a-z-][^`]*)`", line)]
        elif language == "sh":
            began = began if held else number
            held += line.removesuffix("\\")
            if not line.endswith("\\"):
                found += [(began, code) for code in RUN.findall(held)]
                held = ""
    return found


def main() -> int:
    said, passed = [], 0
    variables = OTHERS | set(re.findall(r"\bDAYBOOK_[A-Z_]*[A-Z]\b", every_help()))
    for page in links.pages():
        text = page.read_text()
        where = page.relative_to(links.ROOT)
        said += [f"{where}:{number}: nothing reads {name}" for number, name in unknown(text, variables)]
        for number, command in commands(text):
            reason = wrong(command)
            passed += reason is None
            if reason:
                said.append(f"{where}:{number}: {command}: {reason}")
    if passed < COMMANDS_MIN:
        said.append(f"only {passed} commands were found")
    for reason in said:
        print(f"FAILED  commands: {reason}")
    print(f"{passed} passed, {len(said)} failed")
    return 1 if said else 0


if __name__ == "__main__":
    sys.exit(main())
