"""Checks Prometheus' text format on standard input, as far as a scraper cares."""

from __future__ import annotations

import re
import sys

SAMPLE = re.compile(r"^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)$")
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(?:,|$)')
KINDS = {"counter", "gauge", "histogram", "summary", "untyped"}


def family_of(name: str, kinds: dict[str, str]) -> str:
    for suffix in ("_bucket", "_sum", "_count"):
        base = name.removesuffix(suffix)
        if base != name and kinds.get(base) in ("histogram", "summary"):
            return base
    return name


def check(text: str) -> int:
    assert text.endswith("\n"), "the last line does not end"
    kinds: dict[str, str] = {}
    helped: set[str] = set()
    seen: set[tuple] = set()
    finished: set[str] = set()
    current = None
    buckets: dict[tuple, list[tuple[float, float]]] = {}
    counts: dict[tuple, float] = {}
    for line in text.splitlines():
        if line.startswith("# HELP "):
            name = line.split(" ", 3)[2]
            assert name not in helped, f"two HELP lines for {name}"
            helped.add(name)
            continue
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert kind in KINDS, line
            assert name not in kinds, f"two TYPE lines for {name}"
            kinds[name] = kind
            continue
        found = SAMPLE.match(line)
        assert found, f"not a sample: {line!r}"
        name, inside, value = found.group(1), found.group(2) or "", float(found.group(3))
        labels = LABEL.findall(inside)
        assert "".join(f'{k}="{v}",' for k, v in labels).rstrip(",") == inside.rstrip(","), line
        series = (name, tuple(sorted(labels)))
        assert series not in seen, f"twice: {line}"
        seen.add(series)
        family = family_of(name, kinds)
        assert family in kinds and family in helped, f"no TYPE or HELP before {line}"
        if family != current:
            assert family not in finished, f"{family} is in two places"
            finished.add(family)
            current = family
        if kinds[family] == "counter":
            assert family.endswith("_total"), f"the counter {family} does not end in _total"
            assert value >= 0, line
        if kinds[family] == "histogram":
            others = tuple(label for label in sorted(labels) if label[0] != "le")
            if name.endswith("_bucket"):
                bound = float(dict(labels)["le"])
                buckets.setdefault((family, others), []).append((bound, value))
            elif name.endswith("_count"):
                counts[family, others] = value
    for key, bounds in buckets.items():
        assert bounds == sorted(bounds), f"the buckets of {key} do not rise"
        assert bounds[-1] == (float("inf"), counts[key]), f"the last bucket of {key}"
    return len(seen)


if __name__ == "__main__":
    print(f"{check(sys.stdin.read())} series")
