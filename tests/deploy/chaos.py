"""Chaos experiments: what they name exists, and their steady state holds of a server that is well.

    chaos.py CHAOS=FILE PROD=FILE        rendered manifests of server/deploy/chaos and overlays/prod

Nothing is injected here, for want of a cluster. Probes are asked of a live server, though: URLs
answer as they should, the command prints what is wanted, queries name metrics that there are, and
promtool reads them. The last line says how many checks passed and failed.
"""

import copy
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import facts
import manifests
import policy
import schema
import yaml
from manifests import check

SERVICE = "https://daybook.daybook.svc:2113"
# How a probe of the state may be asked.
MODES = {"throughout": {"Continuous"}, "edges": {"Edge", "SOT", "EOT", "OnChaos", "Continuous"}}
# What the steady state is made of, in any experiment; `ready-during` and the like belong to `ready`.
STATE = {"ready", "trial-balance", "write-p99", "error-rate"}
# When it is to hold, and the modes that ask then.
PHASES = {
    "before": {"SOT", "Edge", "Continuous"},
    "during": {"OnChaos", "Continuous"},
    "after": {"EOT", "Edge", "Continuous"},
}


class Chaos:
    def __init__(self, docs, target, servers):
        self.docs, self.target, self.servers = docs, target, servers

    def of(self, kind):
        return [doc for doc in self.docs if doc["kind"] == kind]

    def engines(self):
        """(name, engine, its experiment as used, that experiment's definition)."""
        kinds = {
            doc["metadata"]["name"]: doc["spec"]["definition"] for doc in self.of("ChaosExperiment")
        }
        for doc in self.of("ChaosEngine"):
            for used in doc["spec"]["experiments"]:
                yield doc["metadata"]["name"], doc, used, kinds.get(used["name"])

    def probes(self):
        for name, doc, used, _ in self.engines():
            for probe in used["spec"]["probe"]:
                yield f"{name}/{probe['name']}", doc, probe


def named(chaos):
    """Engines name experiments, settings, identities and pods that there are."""
    pods = [pod["metadata"]["labels"] for _, pod in chaos.target.workloads()]
    accounts = {doc["metadata"]["name"] for doc in chaos.of("ServiceAccount")}
    for name, doc, used, kind in chaos.engines():
        if kind is None:
            yield f"{name}: there is no experiment {used['name']}"
            continue
        known = {each["name"] for each in kind["env"]}
        for each in used["spec"]["components"]["env"]:
            if each["name"] not in known:
                yield f"{name}: {used['name']} knows no {each['name']}"
            if each["value"] == "":
                yield f"{name}: {each['name']} is not set: a replacement missed it"
        if doc["spec"]["chaosServiceAccount"] not in accounts:
            yield f"{name}: there is no such ServiceAccount"
        labels = dict(pair.split("=") for pair in doc["spec"]["appinfo"]["applabel"].split(","))
        if not any(policy.labels_fit({"matchLabels": labels}, each) for each in pods):
            yield f"{name} finds no pod: {labels}"
        if f"-name {used['name']}" not in kind["args"][1]:
            yield f"{name}: {used['name']} runs {kind['args']}"


def steady(chaos):
    """Each asks for readiness, books, latency and errors before, during and after its fault."""
    for name, doc, used, _ in chaos.engines():
        for each in sorted(STATE):
            modes = {
                probe["mode"]
                for probe in used["spec"]["probe"]
                if probe["name"] in (each, f"{each}-during", f"{each}-after")
            }
            for phase, asking in PHASES.items():
                if not modes & asking:
                    yield f"{name} does not ask for {each} {phase}"
        modes = MODES[doc["metadata"]["labels"]["steady-state"]]
        for probe in used["spec"]["probe"]:
            if probe["mode"] not in modes:
                yield f"{name}/{probe['name']} is asked {probe['mode']}, not {sorted(modes)}"
        if doc["spec"]["engineState"] != "stop":
            yield f"{name} begins as soon as it is made"


def bounded(chaos):
    """Faults are no worse than the steady state allows, by what the pods themselves say."""
    prod = chaos.target.named("StatefulSet", "daybook")["spec"]["template"]["spec"]["containers"][0]
    live = prod["livenessProbe"]
    restart = live["periodSeconds"] * live["failureThreshold"]
    limit = policy.quantity(prod["resources"]["limits"]["memory"])
    for name, _, used, _ in chaos.engines():
        env = {each["name"]: each["value"] for each in used["spec"]["components"]["env"]}
        if name == "network-partition" and int(env["TOTAL_CHAOS_DURATION"]) >= restart:
            yield f"{name} lasts until the kubelet restarts the server, after {restart} s"
        if "MEMORY_CONSUMPTION" in env:
            left = limit - int(env["MEMORY_CONSUMPTION"]) * 10**6
            if left < 2 * policy.SERVER_MEMORY:
                yield f"{name} leaves {left} bytes: the server is killed for want of memory"
        if "NETWORK_LATENCY" in env:
            # A TLS handshake and a request are four ways of ours.
            late = 4 * (int(env["NETWORK_LATENCY"]) + int(env["JITTER"])) / 1000
            ready = policy.seconds(used["spec"]["probe"][0]["runProperties"]["probeTimeout"])
            if late >= ready:
                yield f"{name} makes a probe last {late} s, and it has {ready} s"


def asked(chaos):
    """Probes ask for what the server has: hosts, paths, metrics."""
    server = chaos.servers[("serve",)]
    rules = [
        rule for doc in chaos.target.of("PrometheusRule") for rule in policy.rules_of(doc["spec"])
    ]
    recorded = {rule["record"] for rule in rules if "record" in rule}
    for where, _, probe in chaos.probes():
        if probe["type"] == "httpProbe":
            url = probe["httpProbe/inputs"]["url"]
            wanted = int(probe["httpProbe/inputs"]["method"]["get"]["responseCode"])
            status = facts.ask(url.replace(SERVICE, server.url))[0]
            if not url.startswith(SERVICE) or status != wanted:
                yield f"{where}: {url} answers {status}, not {wanted}"
        if probe["type"] == "promProbe":
            query = probe["promProbe/inputs"]["query"]
            for used in re.findall(r"(?<![\w:])(?:daybook|process)_[a-z0-9_]+", query):
                if used not in server.metrics:
                    yield f"{where}: {used} is not in /metrics"
            for used in re.findall(r"\binstance:[\w:]+", query):
                if used not in recorded:
                    yield f"{where}: nothing records {used}"


def answered(chaos):
    """The command of the trial balance, run as it stands, prints what its comparator wants."""
    server = chaos.servers[("serve",)]
    commands = {
        (probe["cmdProbe/inputs"]["command"], probe["cmdProbe/inputs"]["comparator"]["value"])
        for _, _, probe in chaos.probes()
        if probe["type"] == "cmdProbe"
    }
    with tempfile.TemporaryDirectory() as scratch:
        Path(scratch, "password").write_text("nobody asks")
        for command, wanted in commands:
            here = command.replace(SERVICE, server.url).replace("/etc/daybook-chaos", scratch)
            here = here.replace(f"--cacert {scratch}/ca.crt", "--noproxy '*'")
            ran = subprocess.run(["/bin/bash", "-c", here], capture_output=True, text=True)
            if ran.stdout.strip() != wanted:
                yield f"{command}: prints {ran.stdout!r}, not {wanted!r} {ran.stderr}"
    if not commands:
        yield "no command is asked"


def let_in(chaos):
    """Experiments' pods and their namespace have the label that the server's policy asks for."""
    namespaces = {
        doc["metadata"]["name"]: doc["metadata"]["labels"] for doc in chaos.of("Namespace")
    }
    for name, doc, _, kind in chaos.engines():
        labels = [namespaces.get(doc["metadata"]["namespace"], {}), kind["labels"] if kind else {}]
        if any(each.get("daybook-client") != "true" for each in labels):
            yield f"{name}: its probes do not reach the server"


RULES = (named, steady, bounded, asked, answered, let_in)


def engine(chaos, name):
    return next(
        doc for doc in chaos if doc["kind"] == "ChaosEngine" and doc["metadata"]["name"] == name
    )


def probe_of(docs, name, which):
    probes = engine(docs, name)["spec"]["experiments"][0]["spec"]["probe"]
    return next(probe for probe in probes if probe["name"] == which)


def env_of(docs, name, which):
    env = engine(docs, name)["spec"]["experiments"][0]["spec"]["components"]["env"]
    return next(each for each in env if each["name"] == which)


# (rule, what is wrong, the mistake)
MUTATIONS = [
    (
        named,
        "a setting of chance",
        lambda d: env_of(d, "network-latency", "JITTER").update(name="WOBBLE"),
    ),
    (
        named,
        "a setting left out",
        lambda d: env_of(d, "memory-hog", "MEMORY_CONSUMPTION").update(value=""),
    ),
    (
        named,
        "labels of nobody",
        lambda d: engine(d, "pod-delete")["spec"]["appinfo"].update(applabel="a=b"),
    ),
    (
        named,
        "no experiment",
        lambda d: engine(d, "disk-fill")["spec"]["experiments"][0].update(name="fill"),
    ),
    (
        steady,
        "no books",
        lambda d: probe_of(d, "network-latency", "trial-balance").update(name="x"),
    ),
    (steady, "once only", lambda d: probe_of(d, "memory-hog", "ready").update(mode="SOT")),
    (
        steady,
        "nothing before the fault",
        lambda d: probe_of(d, "network-partition", "write-p99").update(mode="EOT"),
    ),
    (
        steady,
        "nothing during the fault",
        lambda d: probe_of(d, "pod-delete", "error-rate-during").update(mode="EOT"),
    ),
    (
        steady,
        "nothing after the fault",
        lambda d: probe_of(d, "volume-fill", "error-rate-after").update(mode="OnChaos"),
    ),
    (
        steady,
        "begun at once",
        lambda d: engine(d, "pod-delete")["spec"].update(engineState="active"),
    ),
    (
        bounded,
        "a long partition",
        lambda d: env_of(d, "network-partition", "TOTAL_CHAOS_DURATION").update(value="90"),
    ),
    (
        bounded,
        "all memory",
        lambda d: env_of(d, "memory-hog", "MEMORY_CONSUMPTION").update(value="4000"),
    ),
    (
        bounded,
        "a late network",
        lambda d: env_of(d, "network-latency", "NETWORK_LATENCY").update(value="3000"),
    ),
    (
        asked,
        "another path",
        lambda d: probe_of(d, "disk-fill", "ready")["httpProbe/inputs"].update(url=f"{SERVICE}/up"),
    ),
    (
        asked,
        "another metric",
        lambda d: probe_of(d, "disk-fill", "write-p99")["promProbe/inputs"].update(
            query="daybook_p99"
        ),
    ),
    (
        answered,
        "another route",
        lambda d: probe_of(d, "disk-fill", "trial-balance")["cmdProbe/inputs"].update(
            command=f"curl -s {SERVICE}/v1/balance"
        ),
    ),
    (
        let_in,
        "no label",
        lambda d: next(x for x in d if x["kind"] == "Namespace")["metadata"]["labels"].pop(
            "daybook-client"
        ),
    ),
]
# Mistakes that the schema alone notices.
STRUCTURE = [
    (
        "a timeout without a unit",
        lambda d: probe_of(d, "pod-delete", "ready")["runProperties"].update(probeTimeout=5),
    ),
    ("a mode of chance", lambda d: probe_of(d, "pod-delete", "ready").update(mode="Sometimes")),
    ("no inputs", lambda d: probe_of(d, "pod-delete", "ready").pop("httpProbe/inputs")),
    ("a field of chance", lambda d: engine(d, "pod-delete")["spec"].update(monitoring=True)),
    (
        "a number as a value",
        lambda d: env_of(d, "memory-hog", "MEMORY_CONSUMPTION").update(value=500),
    ),
    ("no account", lambda d: engine(d, "pod-delete")["spec"].pop("chaosServiceAccount")),
]


def queries_parse(chaos):
    """promtool reads every query, as the rule of a file."""
    queries = {
        probe["promProbe/inputs"]["query"]
        for _, _, probe in chaos.probes()
        if probe["type"] == "promProbe"
    }
    rules = [{"record": f"probe:{n}", "expr": query} for n, query in enumerate(sorted(queries))]
    for doc in chaos.target.of("PrometheusRule"):
        rules += [dict(rule) for rule in policy.rules_of(doc["spec"]) if "alert" in rule]
    with tempfile.NamedTemporaryFile("w", suffix=".yml") as file:
        yaml.safe_dump({"groups": [{"name": "probes", "rules": rules}]}, file)
        file.flush()
        ran = subprocess.run(
            ["promtool", "check", "rules", file.name], capture_output=True, text=True
        )
    return [] if ran.returncode == 0 else [ran.stdout + ran.stderr]


def main():
    files = dict(argument.split("=") for argument in sys.argv[1:])
    docs, target = (
        list(yaml.safe_load_all(Path(files[name]).read_text())) for name in ("CHAOS", "PROD")
    )
    with facts.servers() as servers:
        overlay = policy.Overlay("prod", target, servers)
        chaos = Chaos(docs, overlay, servers)
        for rule in RULES:
            check(f"chaos: {rule.__doc__.splitlines()[0].rstrip('.')}", list(rule(chaos)))
        if shutil.which("promtool"):
            check("chaos: promtool reads every query", queries_parse(chaos))
        else:
            print("skipped: chaos: there is no promtool")
        for rule, what, change in MUTATIONS:
            mistaken = copy.deepcopy(docs)
            change(mistaken)
            wrong = list(rule(Chaos(mistaken, overlay, servers)))
            check(f"chaos: {rule.__name__} notices: {what}", [] if wrong else ["nothing"])
    for what, change in STRUCTURE:
        mistaken = copy.deepcopy(docs)
        change(mistaken)
        wrong = [
            each for doc in mistaken if doc["kind"] in schema.SCHEMAS for each in schema.faults(doc)
        ]
        check(f"chaos: the schema notices: {what}", [] if wrong else ["nothing"])
    print(f"{manifests.passed} passed, {manifests.failed} failed")
    return 1 if manifests.failed else 0


if __name__ == "__main__":
    os.environ.setdefault("PYTHONDONTWRITEBYTECODE", "1")
    sys.exit(main())
