"""Links of README, of docs/ and of the client's page: what each names is there, heading included, and
each page is named by another.

What stands in code is no link, and other sites are not asked. The last line counts.
"""

import os
import re
import sys
from pathlib import Path
from urllib.parse import unquote

ROOT = Path(__file__).resolve().parents[2]
FENCE = re.compile(r"^(```|~~~)")
CODE = re.compile(r"(`+)(?:(?!\1).)+?\1")
LINK = re.compile(r"!?\[[^\]]*\]\(<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\)")
ELSEWHERE = re.compile(r"^[a-z][a-z0-9+.-]*:", re.IGNORECASE)
# A page that moved without this file would make it agree with nothing.
PAGES_MIN, LINKS_MIN = 15, 100


def lines_of_prose(text: str) -> list[tuple[int, str]]:
    """Lines with their numbers, without fenced code."""
    found, fenced = [], False
    for number, line in enumerate(text.splitlines(), 1):
        if FENCE.match(line):
            fenced = not fenced
        elif not fenced:
            found.append((number, line))
    return found


def anchors(text: str) -> set[str]:
    """What a page's headings may be called in a link, as GitHub makes it of them."""
    found: set[str] = set()
    for _, line in lines_of_prose(text):
        if not re.match(r"^#{1,6} ", line):
            continue
        title = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", line.lstrip("#").strip())
        name = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
        base, count = name, 0
        while name in found:
            count += 1
            name = f"{base}-{count}"
        found.add(name)
    return found


def wrong(page: Path, link: str) -> str | None:
    """Why a link of a page leads nowhere, or None."""
    path, _, anchor = unquote(link).partition("#")
    target = Path(os.path.normpath(page.parent / path)) if path else page
    if not target.is_relative_to(ROOT):
        return "leads out of the repository"
    # As it is spelled: some file systems do not tell SECURITY.md from security.md.
    if target != ROOT and (not target.parent.is_dir() or target.name not in os.listdir(target.parent)):
        return f"there is no {target.relative_to(ROOT)}"
    if anchor and target.suffix == ".md" and anchor not in anchors(target.read_text()):
        return f"{target.relative_to(ROOT)} has no heading #{anchor}"
    return None


def twins() -> list[str]:
    """Pages that are one where case does not count."""
    seen: dict[str, Path] = {}
    found = []
    for page in pages():
        other = seen.setdefault(str(page).lower(), page)
        if other != page:
            found.append(f"{page.relative_to(ROOT)}: is {other.relative_to(ROOT)} on a Mac")
    return found


def pages() -> list[Path]:
    return [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob(".github/*.md")), *sorted(ROOT.glob("docs/**/*.md")), ROOT / "client/README.md"]


def main() -> int:
    said, passed = twins(), 0
    named: set[Path] = {ROOT / "README.md", ROOT / ".github/SECURITY.md"}
    for page in pages():
        for number, line in lines_of_prose(page.read_text()):
            for link in LINK.findall(CODE.sub("", line)):
                if ELSEWHERE.match(link):
                    continue
                reason = wrong(page, link)
                passed += reason is None
                target = Path(os.path.normpath(page.parent / unquote(link).partition("#")[0]))
                named |= {target} if target != page else set()
                if reason:
                    said.append(f"{page.relative_to(ROOT)}:{number}: {link}: {reason}")
    said += [f"{page.relative_to(ROOT)}: no other page names it" for page in pages() if page not in named]
    if len(pages()) < PAGES_MIN or passed < LINKS_MIN:
        said.append(f"only {len(pages())} pages with {passed} links that hold were found in {ROOT}")
    for reason in said:
        print(f"FAILED  links: {reason}")
    print(f"{passed} passed, {len(said)} failed")
    return 1 if said else 0


if __name__ == "__main__":
    sys.exit(main())
