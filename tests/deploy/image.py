"""The Dockerfile, as far as it can be checked without building it.

DAYBOOK_BIN is the server. The last line says how many checks passed and failed.
"""

import json
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import facts
import manifests
from facts import ROOT
from manifests import check

TEXT = (ROOT / "server/deploy/Dockerfile").read_text()
# What gcr.io/distroless/cc has of the C library and the compiler's.
LIBRARIES = {"linux-vdso.so.1", "ld-linux-x86-64.so.2", "libc.so.6", "libm.so.6", "libgcc_s.so.1"}


def instructions():
    """(word, rest) of each instruction."""
    text = re.sub(r"(?m)^\s*#.*\n", "", TEXT)
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        if line.strip():
            word, rest = line.split(None, 1)
            yield word, rest.strip()


def ignored(path, patterns):
    """Whether .dockerignore leaves a file out: the last line that fits it or its parents."""
    out = False
    parents = [Path(*path.parts[: n + 1]) for n in range(len(path.parts))]
    for pattern in patterns:
        keep, pattern = pattern.startswith("!"), pattern.removeprefix("!")
        form = "".join(
            "(.*/)?" if part == "**/" else "[^/]*" if part == "*" else re.escape(part)
            for part in re.split(r"(\*\*/|\*)", pattern)
        )
        if any(re.fullmatch(form, str(each)) for each in parents):
            out = not keep
    return out


def context():
    """The files that are sent to a build: what is in the repository, and not left out."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    patterns = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    files = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return {path for path in map(Path, files.splitlines()) if not ignored(path, patterns)}


def copied(files, into, until=None):
    """Does what the COPY instructions of the first stage do, up to the last one if asked."""
    for word, rest in instructions():
        if word == "COPY" and "--from" not in rest:
            *sources, target = rest.split()
            if sources == ["."] and until == "whole":
                return
            for source in sources:
                place(files, into, source, target)


def place(files, into, source, target):
    found = [f for f in files if source == "." or f == Path(source) or Path(source) in f.parents]
    if not found:
        raise FileNotFoundError(f"COPY {source}: it is not in what is sent to the build")
    for file in found:
        if source == ".":
            to = into / file
        elif file == Path(source):
            to = into / target / file.name if target.endswith("/") else into / target
        else:
            to = into / target / file.relative_to(source)
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, to)


def understood_by_cargo(directory):
    line = ["cargo", "metadata", "--locked", "--offline", "--no-deps", "--format-version=1"]
    ran = subprocess.run(line, cwd=directory, capture_output=True, text=True)
    return [] if ran.returncode == 0 else [ran.stderr[-2000:]]


def dependency_layer(files):
    """The layer of dependencies: every member's manifest, and targets that Cargo takes."""
    with tempfile.TemporaryDirectory() as directory:
        copied(files, Path(directory), until="whole")
        stubs = next(rest for word, rest in instructions() if word == "RUN")
        stubs = stubs.split("&& cargo build")[0]
        ran = subprocess.run(["sh", "-ec", stubs], cwd=directory, capture_output=True, text=True)
        return ([ran.stderr] if ran.returncode else []) + understood_by_cargo(directory)


def sources(files):
    """Everything that the server is compiled from."""
    with tempfile.TemporaryDirectory() as directory:
        copied(files, Path(directory))
        wrong = understood_by_cargo(directory)
    for crate in ("server", "client", "projections"):
        for path in sorted((ROOT / crate).rglob("*")):
            inner = path.relative_to(ROOT)
            built = path.is_file() and "deploy" not in inner.parts and path.suffix != ".md"
            if built and inner not in files:
                wrong.append(f"{inner} is not sent to the build")
    for path in sorted(files):
        if (
            path.parts[0] not in {"server", "client", "projections", "tests", ".cargo"}
            and len(path.parts) > 1
        ):
            wrong.append(f"{path} is sent to the build, and is no part of it")
    return wrong


def last_stage():
    found = list(instructions())
    last = max(n for n, (word, _) in enumerate(found) if word == "FROM")
    return found[last:]


def confined():
    """The image: no root, no shell, a health check that the program has."""
    stage = dict(last_stage())
    if not re.fullmatch(r"[1-9]\d*:[1-9]\d*", stage["USER"]):
        yield f"USER {stage['USER']} is no number, or root"
    if "RUN" in stage:
        yield "the last stage runs something, and there is nothing to run it"
    for word in ("ENTRYPOINT", "CMD"):
        if not stage[word].startswith("["):
            yield f"{word} needs a shell"
    program, command = json.loads(stage["ENTRYPOINT"]), json.loads(stage["CMD"])
    asked = json.loads(stage["HEALTHCHECK"].split("CMD", 1)[1])
    if asked[:1] != program or facts.help_of(tuple(asked[1:])) is None:
        yield f"HEALTHCHECK {asked}: there is no such command"
    if facts.help_of(tuple(command)) is None:
        yield f"CMD {command}: there is no such command"
    known = facts.variables(tuple(command))
    env = dict(pair.split("=", 1) for pair in shlex.split(stage["ENV"]))
    for name in env.keys() - known:
        yield f"ENV {name}: daybook {' '.join(command)} does not know it"
    if not env["DAYBOOK_LISTEN"].endswith(f":{stage['EXPOSE']}"):
        yield f"EXPOSE {stage['EXPOSE']}, and it listens on {env['DAYBOOK_LISTEN']}"
    if not env["DAYBOOK_DATA"].startswith(stage["VOLUME"] + "/"):
        yield f"VOLUME {stage['VOLUME']}, and data is in {env['DAYBOOK_DATA']}"
    if stage["STOPSIGNAL"] != "SIGTERM":
        yield "a stop does not drain"


def linked():
    said = subprocess.run(["ldd", facts.BIN], capture_output=True, text=True, check=True).stdout
    needed = {Path(line.split()[0]).name for line in said.splitlines()}
    return [f"the base image has no {name}" for name in sorted(needed - LIBRARIES)]


def toolchain():
    wanted = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"][
        "rust-version"
    ]
    images = [rest.split()[0] for word, rest in instructions() if word == "FROM"]
    if not images[0].startswith(f"rust:{wanted}."):
        yield f"{images[0]} is not Rust {wanted}"
    # A binary of a newer C library does not start on an older one.
    if "bookworm" not in images[0] or "debian12" not in images[1]:
        yield f"{images} are of different Debians"


# (what is wrong, the text, another one in its place)
MUTATIONS = [
    ("a manifest left out", "COPY client/Cargo.toml client/\n", ""),
    ("a target left out", 'touch "$crate/src/lib.rs"', "true"),
    ("root", "USER 65532:65532", "USER 0:0"),
    ("a name", "USER 65532:65532", "USER nonroot"),
    ("a shell", 'CMD ["serve"]', "CMD serve"),
    ("a health check of chance", '"health"]', '"healthy"]'),
    ("a variable of chance", "DAYBOOK_LISTEN=", "DAYBOOK_ADDRESS="),
    ("another port", "EXPOSE 2113", "EXPOSE 8080"),
    ("data outside the volume", "DAYBOOK_DATA=/data/store", "DAYBOOK_DATA=/store"),
    ("a stop without a drain", "STOPSIGNAL SIGTERM", "STOPSIGNAL SIGKILL"),
    ("an older toolchain", "rust:1.95.0", "rust:1.94.0"),
    ("another C library", "cc-debian12", "cc-debian11"),
]


def faults(files):
    """What any check of the text finds; one that ends early has found something."""
    try:
        return dependency_layer(files) + list(confined()) + list(toolchain())
    except (KeyError, FileNotFoundError, ValueError) as error:
        return [repr(error)]


def mistakes(files):
    global TEXT
    whole = TEXT
    for what, old, new in MUTATIONS:
        TEXT = whole.replace(old, new)
        wrong = faults(files) if whole != TEXT else []
        check(f"image: the checks notice: {what}", [] if wrong else ["nothing"])
    TEXT = whole


def main():
    files = context()
    mistakes(files)
    check("image: the layer of dependencies is understood by Cargo", dependency_layer(files))
    check(
        "image: what is sent to the build is the sources, all of them, and nothing else",
        sources(files),
    )
    check("image: no root, no shell, a health check that the program has", list(confined()))
    check("image: the base has the libraries that the server is linked with", linked())
    check("image: the toolchain is that of Cargo.toml", list(toolchain()))
    print(f"{manifests.passed} passed, {manifests.failed} failed")
    return 1 if manifests.failed else 0


if __name__ == "__main__":
    sys.exit(main())
