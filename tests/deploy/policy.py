"""What must hold of every set of manifests, beyond their schema.

Each policy is a function of an `Overlay` that yields what is wrong; nothing yielded is well.
POLICIES has them all. What the server is comes from the server (facts.py), never from a list in
here.
"""

import functools
import json
import re
import tomllib

import facts
import yaml

DEPLOY = facts.ROOT / "server" / "deploy"
PROBES = ("startupProbe", "livenessProbe", "readinessProbe")
# What a stop of a node may take besides its drain: archive 5 s, traces 2 s.
STOP_BESIDE_DRAIN = 7
# Seconds that a first answer may take at least: a start after a crash with a large index to
# rebuild.
START_AT_LEAST = 300
# What docs/operations.md says that a server needs, and the least of any container.
SERVER_MEMORY, LEAST_MEMORY = 400 << 20, 64 << 20
UNITS = {"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "m": 1e-3, "": 1}


class Overlay:
    """The objects of one overlay, and what is asked of them again and again."""

    def __init__(self, name, docs, servers):
        self.name, self.docs, self.servers = name, docs, servers

    def of(self, *kinds):
        return [doc for doc in self.docs if doc["kind"] in kinds]

    def named(self, kind, name):
        return next((doc for doc in self.of(kind) if doc["metadata"]["name"] == name), None)

    def workloads(self):
        """Whatever makes pods: (object, its pod template)."""
        for doc in self.of("StatefulSet", "Deployment", "Job"):
            yield doc, doc["spec"]["template"]
        for doc in self.of("CronJob"):
            yield doc, doc["spec"]["jobTemplate"]["spec"]["template"]

    def containers(self):
        """(where, object, pod template, container, whether it runs on)."""
        for doc, pod in self.workloads():
            lasts = doc["kind"] in ("StatefulSet", "Deployment")
            for each in pod["spec"].get("initContainers", []) + pod["spec"]["containers"]:
                where = f"{doc['kind']} {doc['metadata']['name']}/{each['name']}"
                yield where, doc, pod, each, lasts

    def settings(self, pod):
        """The text of the settings file that a pod mounts."""
        for volume in pod["spec"].get("volumes", []):
            found = self.named("ConfigMap", volume.get("configMap", {}).get("name"))
            if found and "daybook.toml" in found["data"]:
                return found["data"]["daybook.toml"]
        return ""


def labels_fit(selector, labels):
    """Whether a label selector takes in these labels."""
    for key, value in selector.get("matchLabels", {}).items():
        if labels.get(key) != value:
            return False
    for rule in selector.get("matchExpressions", []):
        assert rule["operator"] == "In", "write the others when they are used"
        if labels.get(rule["key"]) not in rule["values"]:
            return False
    return True


def quantity(text):
    number, unit = re.fullmatch(r"([0-9.]+)([A-Za-z]*)", str(text)).groups()
    return float(number) * UNITS[unit]


def command_of(container):
    """The words of a command line that name the command: `query serve`."""
    words = []
    for word in container.get("args", []):
        if word not in facts.subcommands(tuple(words)):
            break
        words.append(word)
    return tuple(words)


def environment(container):
    return {each["name"]: each.get("value") for each in container.get("env", [])}


def secure(container):
    """Whether its server speaks TLS: by files, or by certificates that it has issued."""
    env = environment(container).keys()
    return {"DAYBOOK_TLS_CERT", "DAYBOOK_TLS_KEY"} <= env or "DAYBOOK_TLS_VAULT_PKI" in env


def setting(overlay, pod, command, name):
    table = tomllib.loads(overlay.settings(pod))
    for word in command:
        table = table.get(word, {})
    return table.get(name)


def seconds(text):
    return int(re.fullmatch(r"(\d+)s", text)[1])


def limited(overlay):
    """Every container says what it needs and what it may take."""
    for where, _, _, container, _ in overlay.containers():
        for kind in ("requests", "limits"):
            given = container.get("resources", {}).get(kind, {})
            for what in ("cpu", "memory", "ephemeral-storage"):
                if what not in given:
                    yield f"{where} has no {what} in its {kind}"
        memory = container.get("resources", {}).get("requests", {}).get("memory", "0")
        least = SERVER_MEMORY if command_of(container) == ("serve",) else LEAST_MEMORY
        if quantity(memory) < least:
            yield f"{where} asks for {memory} of memory, less than it needs"


def guaranteed(overlay):
    """In production the store's requests are its limits: it is the last to be evicted."""
    for where, _, _, container, _ in overlay.containers():
        if overlay.name != "dev" and command_of(container) == ("serve",):
            if container["resources"]["requests"] != container["resources"]["limits"]:
                yield f"{where} has other limits than requests"


def confined(overlay):
    """No root, no capability, nothing writable, nothing of the node's, no token."""
    for where, _, pod, container, _ in overlay.containers():
        spec = pod["spec"]
        whole, own = spec.get("securityContext", {}), container.get("securityContext", {})
        if whole.get("runAsNonRoot") is not True or not whole.get("runAsUser"):
            yield f"{where} may run as root"
        if whole.get("seccompProfile", {}).get("type") != "RuntimeDefault":
            yield f"{where} may call whatever the kernel has"
        if own.get("allowPrivilegeEscalation") is not False or own.get("privileged"):
            yield f"{where} may gain rights"
        if own.get("readOnlyRootFilesystem") is not True:
            yield f"{where} may write to its image"
        if own.get("capabilities") != {"drop": ["ALL"]}:
            yield f"{where} has capabilities"
        if "runAsUser" in own or "seccompProfile" in own:
            yield f"{where} takes back what its pod says"
        if any(spec.get(each) for each in ("hostNetwork", "hostPID", "hostIPC")):
            yield f"{where} sees the node"
        if any("hostPath" in volume for volume in spec.get("volumes", [])):
            yield f"{where} sees the node's files"
        if spec.get("automountServiceAccountToken") is not False:
            yield f"{where} has a token of the cluster's"
        if spec.get("serviceAccountName", "default") == "default":
            yield f"{where} shares the namespace's identity"


def restricted(overlay):
    """The namespace admits nothing less confined."""
    for doc in overlay.of("Namespace"):
        if doc["metadata"]["labels"].get("pod-security.kubernetes.io/enforce") != "restricted":
            yield f"Namespace {doc['metadata']['name']} admits any pod"
    if not overlay.of("Namespace"):
        yield "there is no Namespace"


def probed(overlay):
    """What runs on has three probes, at paths that the server has, by its protocol."""
    for where, _, _, container, lasts in overlay.containers():
        if not lasts:
            continue
        server = overlay.servers.get(command_of(container))
        if server is None:
            yield f"{where}: nobody knows what `{container.get('args')}` answers"
            continue
        ports = {port["name"] for port in container["ports"]}
        scheme = "HTTPS" if secure(container) else "HTTP"
        for kind in PROBES:
            probe = container.get(kind, {}).get("httpGet")
            if probe is None:
                yield f"{where} has no {kind}"
                continue
            wanted = "/health/ready" if kind == "readinessProbe" else "/health/live"
            if probe["path"] != wanted:
                yield f"{where} has {kind} at {probe['path']}, not {wanted}"
            if not server.has(probe["path"]):
                yield f"{where} has {kind} at {probe['path']}, which the server has not"
            if probe["port"] not in ports:
                yield f"{where} has {kind} at port {probe['port']}, which it has not"
            if probe.get("scheme", "HTTP") != scheme:
                yield f"{where} has {kind} by {probe.get('scheme', 'HTTP')}, not {scheme}"


def patient(overlay):
    """A start has time to recover, and a restart is the last thing to try."""
    for where, _, _, container, _ in overlay.containers():
        if command_of(container) != ("serve",):
            continue
        start, live = (container.get(each, {}) for each in PROBES[:2])
        if start.get("periodSeconds", 10) * start.get("failureThreshold", 3) < START_AT_LEAST:
            yield f"{where} is given up before it may have recovered"
        if live.get("periodSeconds", 10) * live.get("failureThreshold", 3) < 30:
            yield f"{where} is restarted for a pause of less than 30 s"


def understood(overlay):
    """Commands, flags, variables and settings are those of the server."""
    for where, _, pod, container, _ in overlay.containers():
        command = command_of(container)
        if not command:
            yield f"{where} runs no command of daybook: {container.get('args')}"
            continue
        known = facts.flags(command)
        for word in container["args"][len(command) :]:
            if word.startswith("--") and word.split("=")[0] not in known:
                yield f"{where}: daybook {' '.join(command)} has no {word.split('=')[0]}"
        # Commands are also run in a pod by hand; `health` stands for them.
        names = facts.variables(command) | facts.variables(("health",))
        documented = (facts.ROOT / "docs" / "backup.md").read_text()
        used = {name for arg in container["args"] for name in re.findall(r"\$\((\w+)\)", arg)}
        for name in environment(container):
            if name not in names and name not in used and f"`{name}`" not in documented:
                yield f"{where}: daybook {' '.join(command)} knows no {name}"
        for name in used - environment(container).keys():
            yield f"{where}: $({name}) is not set"
        if not overlay.settings(pod):
            continue
        # What comes from Secrets is a database's address, as far as settings are concerned.
        env = {k: v or "postgres://host/database" for k, v in environment(container).items()}
        env.pop("DAYBOOK_SETTINGS", None)
        fault = facts.settings_fault(overlay.settings(pod), command, env)
        if fault:
            yield f"{where}: its settings: {fault}"


def protected(overlay):
    """Only the overlay for a look is without protection."""
    for where, _, _, container, _ in overlay.containers():
        env, command = environment(container), command_of(container)
        if command not in (("serve",), ("query", "serve")):
            continue
        if overlay.name != "dev" and "DAYBOOK_INSECURE" in env:
            yield f"{where} is not protected"
        if "DAYBOOK_INSECURE" not in env and not secure(container):
            yield f"{where} says neither how it is protected nor that it is not: it will not start"


def reachable(overlay):
    """Ports are those that are listened on, Services find them, and a policy names each."""
    policies = overlay.of("NetworkPolicy")
    everything = [each for each in policies if each["spec"]["podSelector"] == {}]
    if not any({"Ingress", "Egress"} <= set(each["spec"]["policyTypes"]) for each in everything):
        yield "nothing denies what no policy names"
    for where, _doc, pod, container, lasts in overlay.containers():
        if not lasts:
            continue
        labels = pod["metadata"]["labels"]
        listen = setting(overlay, pod, command_of(container), "listen")
        port = int(listen.rsplit(":")[1]) if listen else None
        for each in container["ports"]:
            if each["containerPort"] != port:
                yield f"{where} has port {each['containerPort']}, and listens on {listen}"
            named = {each["name"], each["containerPort"]}
            if not any(lets_in(policy, labels, named) for policy in policies):
                yield f"{where}: no policy lets anybody come to port {each['name']}"
            served = [service for service in overlay.of("Service") if finds(service, labels, named)]
            if not served:
                yield f"{where}: no Service finds port {each['name']}"
    for service in overlay.of("Service"):
        pods = [pod["metadata"]["labels"] for _, pod in overlay.workloads()]
        if not any(labels_fit({"matchLabels": service["spec"]["selector"]}, each) for each in pods):
            yield f"Service {service['metadata']['name']} finds no pod"


def lets_in(policy, labels, named):
    spec = policy["spec"]
    return labels_fit(spec["podSelector"], labels) and any(
        port["port"] in named and rule.get("from")
        for rule in spec.get("ingress", [])
        for port in rule.get("ports", [])
    )


def finds(service, labels, named):
    spec = service["spec"]
    ports = {port["targetPort"] for port in spec["ports"]}
    return labels_fit({"matchLabels": spec["selector"]}, labels) and bool(ports & named)


def allowed_out(overlay):
    """Whoever calls the server or a database is allowed to."""
    policies = overlay.of("NetworkPolicy")
    for where, _, pod, container, _ in overlay.containers():
        labels, wanted = pod["metadata"]["labels"], set()
        url = environment(container).get("DAYBOOK_URL") or ""
        if url and "//localhost" not in url:
            wanted.add(2113)
            if labels.get("daybook-client") != "true":
                yield f"{where} calls the server, and has not the label that lets it in"
            host = url.split("//")[1].split(":")[0]
            if not overlay.named("Service", host):
                yield f"{where} calls {host}, and there is no such Service"
        if {"DAYBOOK_POSTGRES", "DAYBOOK_READ_MODELS"} & environment(container).keys():
            wanted.add(5432)
        if "DAYBOOK_VAULT_URL" in environment(container):
            wanted.add(8200)
        if any("$(BACKUP_URL)" in word for word in container["args"]):
            wanted.add(443)
        for port in wanted | {53}:
            if not any(lets_out(policy, labels, port) for policy in policies):
                yield f"{where}: no policy lets it go to port {port}"


def lets_out(policy, labels, port):
    spec = policy["spec"]
    return labels_fit(spec["podSelector"], labels) and any(
        each["port"] == port and rule.get("to")
        for rule in spec.get("egress", [])
        for each in rule.get("ports", [])
    )


def graceful(overlay):
    """A stop has the time that a drain may take."""
    for where, _, pod, container, lasts in overlay.containers():
        if not lasts:
            continue
        command = command_of(container)
        drain = seconds(setting(overlay, pod, command, "drain-timeout") or "10s")
        before = (
            container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        )
        if "exec" in container.get("lifecycle", {}).get("preStop", {}):
            yield f"{where} runs a program before its stop, and has none"
        needs = before + drain + STOP_BESIDE_DRAIN
        grace = pod["spec"].get("terminationGracePeriodSeconds", 30)
        if grace <= needs:
            yield f"{where} is killed after {grace} s, and may need {needs} s"


def pinned(overlay):
    """Images are of a version, the same everywhere."""
    images = {container["image"] for _, _, _, container, _ in overlay.containers()}
    for image in images:
        tag = re.search(r":([\w.-]+)$", image)
        if "@sha256:" not in image and (not tag or tag[1] == "latest"):
            yield f"{image} may be another one tomorrow"
    if len(images) != 1:
        yield f"there are several images: {sorted(images)}"


def budgeted(overlay):
    """Each workload may be disrupted, and only so far."""
    for doc, pod in overlay.workloads():
        if doc["kind"] in ("CronJob", "Job"):
            continue
        name, labels = doc["metadata"]["name"], pod["metadata"]["labels"]
        found = [
            each["spec"]
            for each in overlay.of("PodDisruptionBudget")
            if labels_fit(each["spec"]["selector"], labels)
        ]
        if len(found) != 1:
            yield f"{doc['kind']} {name} has {len(found)} disruption budgets, not one"
            continue
        scaler = scaler_of(overlay, doc)
        least = scaler["spec"]["minReplicas"] if scaler else doc["spec"].get("replicas", 1)
        if found[0].get("minAvailable", 0) >= least or found[0].get("maxUnavailable", 1) < 1:
            yield f"{doc['kind']} {name}: no node of its can ever be drained"


def scaler_of(overlay, doc):
    wanted = (doc["kind"], doc["metadata"]["name"])
    for each in overlay.of("HorizontalPodAutoscaler"):
        target = each["spec"]["scaleTargetRef"]
        if (target["kind"], target["name"]) == wanted:
            return each
    return None


def one_writer(overlay):
    """A log has one writer, and its volume outlives it."""
    for where, doc, pod, container, _ in overlay.containers():
        if command_of(container) != ("serve",):
            continue
        spec = doc["spec"]
        if doc["kind"] != "StatefulSet" or spec["replicas"] != 1 or scaler_of(overlay, doc):
            yield f"{where}: a log has one writer"
        keeps = spec.get("persistentVolumeClaimRetentionPolicy", {})
        if keeps.get("whenDeleted") != "Retain" or keeps.get("whenScaled") != "Retain":
            yield f"{where}: its volume may go with it"
        mounts = {each["name"]: each["mountPath"] for each in container["volumeMounts"]}
        claims = {each["metadata"]["name"]: each["spec"] for each in spec["volumeClaimTemplates"]}
        data = setting(overlay, pod, ("serve",), "data")
        beneath = [name for name in claims if data.startswith(mounts.get(name, "?") + "/")]
        if not beneath:
            yield f"{where}: {data} is not below the root of a volume"
        for name in beneath:
            modes = set(claims[name]["accessModes"])
            if not modes <= {"ReadWriteOncePod", "ReadWriteOnce"}:
                yield f"{where}: its volume may be written by others"
            if overlay.name != "dev" and modes != {"ReadWriteOncePod"}:
                yield f"{where}: another pod of its node may write its volume"


def scaled(overlay):
    """Autoscalers scale what is stateless, by numbers that exist."""
    adapter = yaml.safe_load(
        (DEPLOY / "kubernetes/components/query/adapter-rules.yaml").read_text()
    )["rules"]["custom"]
    provided = {rule["name"]["as"]: rule for rule in adapter}
    for each in overlay.of("HorizontalPodAutoscaler"):
        name, target = each["metadata"]["name"], each["spec"]["scaleTargetRef"]
        found = overlay.named(target["kind"], target["name"])
        if not found or found["kind"] != "Deployment":
            yield f"HorizontalPodAutoscaler {name} scales no Deployment of ours"
            continue
        if "replicas" in found["spec"]:
            yield f"Deployment {target['name']} has replicas, which undoes what its autoscaler did"
        server = overlay.servers[command_of(found["spec"]["template"]["spec"]["containers"][0])]
        kinds = set()
        for metric in each["spec"]["metrics"]:
            kinds.add(metric.get("resource", metric.get("pods", {}).get("metric", {})).get("name"))
            if metric["type"] != "Pods":
                continue
            rule = provided.get(metric["pods"]["metric"]["name"])
            if not rule:
                yield f"HorizontalPodAutoscaler {name}: no adapter rule makes its metric"
                continue
            for used in re.findall(r"daybook_\w+(?={)", rule["seriesQuery"]):
                if used not in server.metrics:
                    yield f"adapter rule: {used} is not in /metrics"
        if kinds != {"cpu", "memory", "http_requests_per_second"}:
            yield f"HorizontalPodAutoscaler {name} scales by {sorted(map(str, kinds))}"


def resolved(overlay):
    """What is referred to is there, or is in the list of what an installation brings along."""
    guide = (facts.ROOT / "docs" / "kubernetes.md").read_text()

    def secret(where, name, keys):
        for key in keys:
            if not re.search(rf"(?m)^\| `{re.escape(name)}` \|.*`{re.escape(key)}`", guide):
                yield f"{where}: Secret {name} with {key} is not in docs/kubernetes.md"

    for where, _, pod, container, _ in overlay.containers():
        for each in container.get("env", []):
            given = each.get("valueFrom", {}).get("secretKeyRef")
            if given:
                yield from secret(where, given["name"], [given["key"]])
        volumes = {volume["name"]: volume for volume in pod["spec"].get("volumes", [])}
        for mount in container.get("volumeMounts", []):
            volume = volumes.get(mount["name"])
            if volume is None:
                claims = [
                    doc for doc in overlay.of("StatefulSet") if doc["spec"]["template"] is pod
                ]
                named = [
                    c["metadata"]["name"]
                    for doc in claims
                    for c in doc["spec"]["volumeClaimTemplates"]
                ]
                if mount["name"] not in named:
                    yield f"{where} mounts {mount['name']}, which its pod has not"
                continue
            claim = volume.get("persistentVolumeClaim", {}).get("claimName")
            if claim and claim not in claims_of(overlay):
                yield f"{where} mounts {claim}, which no StatefulSet makes"
            if mount.get("readOnly") is not True and not claim:
                yield f"{where} mounts {mount['name']} so that it can be written"
            if "subPath" in mount:
                yield f"{where} mounts {mount['name']} by subPath, which is never renewed"
            if "configMap" in volume:
                name = volume["configMap"]["name"]
                if not overlay.named("ConfigMap", name) and f"| `{name}` |" not in guide:
                    yield f"{where}: there is no ConfigMap {name}"
            if "secret" in volume:
                here = mount["mountPath"] + "/"
                used = {
                    v[len(here) :]
                    for v in environment(container).values()
                    if v and v.startswith(here)
                }
                yield from secret(where, volume["secret"]["secretName"], used)
    for doc, pod in overlay.workloads():
        name = doc["metadata"]["name"]
        if not overlay.named("ServiceAccount", pod["spec"]["serviceAccountName"]):
            yield f"{doc['kind']} {name}: there is no such ServiceAccount"
        priority = pod["spec"].get("priorityClassName")
        if priority and not overlay.named("PriorityClass", priority):
            yield f"{doc['kind']} {name}: there is no PriorityClass {priority}"
        if doc["kind"] == "StatefulSet":
            service = overlay.named("Service", doc["spec"]["serviceName"])
            if not service or service["spec"].get("clusterIP") != "None":
                yield f"{doc['kind']} {name}: its Service is not headless"


def claims_of(overlay):
    """The names of the volumes that StatefulSets make for their first pods."""
    for doc in overlay.of("StatefulSet"):
        for claim in doc["spec"]["volumeClaimTemplates"]:
            yield f"{claim['metadata']['name']}-{doc['metadata']['name']}-0"


def scraped(overlay):
    """A monitor finds one Service each, and speaks as the server does."""
    for monitor in overlay.of("ServiceMonitor"):
        name, spec = monitor["metadata"]["name"], monitor["spec"]
        found = [
            service
            for service in overlay.of("Service")
            if labels_fit(spec["selector"], service["metadata"]["labels"])
        ]
        if len(found) != 1:
            yield f"ServiceMonitor {name} finds {len(found)} Services: nothing, or everything twice"
            continue
        service = found[0]
        job = service["metadata"]["labels"].get(spec.get("jobLabel"))
        if job != name:
            yield f"ServiceMonitor {name}: its job is called {job}, and rules look for {name}"
        for endpoint in spec["endpoints"]:
            if endpoint["port"] not in {port["name"] for port in service["spec"]["ports"]}:
                yield f"ServiceMonitor {name}: there is no port {endpoint['port']}"
            for where, _, pod, container, _ in overlay.containers():
                if not labels_fit(
                    {"matchLabels": service["spec"]["selector"]}, pod["metadata"]["labels"]
                ):
                    continue
                encrypted = secure(container)
                if (endpoint.get("scheme") == "https") != encrypted:
                    yield f"ServiceMonitor {name} speaks another protocol than {where}"
                if encrypted and not (
                    endpoint.get("basicAuth") or endpoint["tlsConfig"].get("keySecret")
                ):
                    yield f"ServiceMonitor {name} says not who it is"
                if not overlay.servers[command_of(container)].has(endpoint["path"]):
                    yield f"ServiceMonitor {name}: {where} has no {endpoint['path']}"


def watched(overlay):
    """Rules are those of server/deploy/prometheus, and ask for numbers that the server has."""
    node = overlay.servers[("serve",)].metrics | overlay.servers[("query", "serve")].metrics
    # What is on the page only where it is in use stands in the list of metrics.
    node |= set(re.findall(r"`(daybook_\w+)", (facts.ROOT / "docs/operations.md").read_text()))
    rules = [rule for doc in overlay.of("PrometheusRule") for rule in rules_of(doc["spec"])]
    recorded = {rule["record"] for rule in rules if "record" in rule}
    for rule in rules:
        name = rule.get("alert", rule.get("record"))
        for used in re.findall(r"(?<![\w:])(?:daybook|process)_[a-z0-9_]+", rule["expr"]):
            if used not in node:
                yield f"rule {name}: {used} is not in /metrics"
        for used in re.findall(r"\binstance:[\w:]+", rule["expr"]):
            if used not in recorded:
                yield f"rule {name}: nothing records {used}"
        if "alert" in rule:
            page, _, anchor = rule["annotations"]["runbook"].partition("#")
            heading = rf"(?im)^#+ {re.escape(anchor)}$"
            if not re.search(heading, (facts.ROOT / page).read_text()):
                yield f"rule {name}: {page} says nothing of it"
    for file in ("recording", "alerts"):
        doc = overlay.named("PrometheusRule", f"daybook-{file}")
        if overlay.name != "dev" and (
            not doc
            or doc["spec"] != yaml.safe_load((DEPLOY / f"prometheus/{file}.yml").read_text())
        ):
            yield f"PrometheusRule daybook-{file} is not prometheus/{file}.yml"


def rules_of(spec):
    return [rule for group in spec["groups"] for rule in group["rules"]]


def shown(overlay):
    """Dashboards are the files that Grafana reads anywhere."""
    if overlay.name == "dev":
        return
    found = {}
    for doc in overlay.of("ConfigMap"):
        if doc["metadata"].get("labels", {}).get("grafana_dashboard") == "1":
            found |= doc["data"]
            if len(json.dumps(doc)) > 250_000:
                yield f"ConfigMap {doc['metadata']['name']} is too large for kubectl apply"
    wanted = {file.name: file.read_text() for file in DEPLOY.glob("grafana/*.json")}
    for name in sorted(found.keys() ^ wanted.keys()):
        yield f"dashboard {name} is not on both sides"
    for name in sorted(found.keys() & wanted.keys()):
        if found[name] != wanted[name]:
            yield f"dashboard {name} is not grafana/{name}"


def verified(overlay):
    """A backup is verified before any older one is removed, and never taken twice at a time."""
    if overlay.name == "dev":
        return
    jobs = [doc for doc in overlay.of("CronJob")]
    for doc in jobs:
        spec = doc["spec"]["jobTemplate"]["spec"]["template"]["spec"]
        steps = [command_of(each) for each in spec["initContainers"]]
        steps += [command_of(each) for each in spec["containers"]]
        if steps != [("backup",), ("backup", "verify"), ("backup", "prune")]:
            yield f"CronJob {doc['metadata']['name']} does {steps}"
        if doc["spec"].get("concurrencyPolicy") != "Forbid":
            yield f"CronJob {doc['metadata']['name']} may run twice at a time"
    if not jobs:
        yield "nothing takes backups"


POLICIES = {
    each.__name__: each
    for each in (
        limited,
        guaranteed,
        confined,
        restricted,
        probed,
        patient,
        understood,
        protected,
        reachable,
        allowed_out,
        graceful,
        pinned,
        budgeted,
        one_writer,
        scaled,
        resolved,
        scraped,
        watched,
        shown,
        verified,
    )
}


@functools.cache
def about(name):
    """What a policy says of itself."""
    return POLICIES[name].__doc__.splitlines()[0].rstrip(".")
