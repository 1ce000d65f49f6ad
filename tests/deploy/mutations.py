"""Mistakes in manifests, and the policy that must notice each: the tests of policy.py."""


class Editor:
    """Finds what is to be changed in a list of objects."""

    def __init__(self, docs):
        self.docs = docs

    def get(self, kind, name):
        return next(
            doc for doc in self.docs if doc["kind"] == kind and doc["metadata"]["name"] == name
        )

    def drop(self, kind, name):
        self.docs.remove(self.get(kind, name))

    @property
    def store(self):
        return self.get("StatefulSet", "daybook")["spec"]

    @property
    def front(self):
        return self.get("Deployment", "daybook-query")["spec"]

    @property
    def job(self):
        return self.get("CronJob", "daybook-backup")["spec"]["jobTemplate"]["spec"]["template"][
            "spec"
        ]

    @property
    def server(self):
        return self.store["template"]["spec"]["containers"][0]

    @property
    def query(self):
        return self.front["template"]["spec"]["containers"][0]

    def settings(self):
        for doc in self.docs:
            if doc["kind"] == "ConfigMap" and "daybook.toml" in doc["data"]:
                return doc["data"]
        raise KeyError("daybook.toml")

    def variable(self, container, name):
        return next(each for each in container["env"] if each["name"] == name)

    def rule(self, name):
        for doc in self.docs:
            if doc["kind"] == "PrometheusRule":
                for group in doc["spec"]["groups"]:
                    for rule in group["rules"]:
                        if name in (rule.get("alert"), rule.get("record")):
                            return rule
        raise KeyError(name)


def put(of, value, *path):
    """Sets what is at the end of a path."""

    def change(editor):
        here = of(editor)
        for step in path[:-1]:
            here = here[step]
        here[path[-1]] = value

    return change


def drop(of, *path):
    """Removes what is at the end of a path."""

    def change(editor):
        here = of(editor)
        for step in path[:-1]:
            here = here[step]
        del here[path[-1]]

    return change


def swap(of, key, old, new):
    """Replaces a part of a text."""

    def change(editor):
        here = of(editor)
        assert old in here[key], old
        here[key] = here[key].replace(old, new)

    return change


def server(editor):
    return editor.server


def query(editor):
    return editor.query


def store(editor):
    return editor.store


def pod(editor):
    return editor.store["template"]["spec"]


def mount(editor):
    return next(each for each in editor.server["volumeMounts"] if each["name"] == "tls")


def job(editor):
    return editor.job


def settings(editor):
    return editor.settings()


def spec(kind, name):
    return lambda editor: editor.get(kind, name)["spec"]


def without(kind, name):
    return lambda editor: editor.drop(kind, name)


def more_env(name, value, of=server):
    return lambda editor: of(editor)["env"].append({"name": name, "value": value})


# (policy, overlay, what is wrong, the mistake)
TABLE = [
    ("limited", "dev", "no limit of memory", drop(server, "resources", "limits", "memory")),
    (
        "limited",
        "prod",
        "a step of a job without requests",
        drop(job, "initContainers", 1, "resources"),
    ),
    ("limited", "dev", "too little memory", put(server, "64Mi", "resources", "requests", "memory")),
    ("guaranteed", "prod", "a burstable store", put(server, "1", "resources", "requests", "cpu")),
    ("confined", "dev", "root", put(pod, 0, "securityContext", "runAsUser")),
    ("confined", "dev", "no word on root", drop(pod, "securityContext", "runAsNonRoot")),
    ("confined", "dev", "no seccomp", drop(pod, "securityContext", "seccompProfile")),
    (
        "confined",
        "prod",
        "a writable image",
        put(query, False, "securityContext", "readOnlyRootFilesystem"),
    ),
    (
        "confined",
        "prod",
        "a capability in a job",
        put(
            job,
            {"drop": ["ALL"], "add": ["NET_ADMIN"]},
            "containers",
            0,
            "securityContext",
            "capabilities",
        ),
    ),
    ("confined", "dev", "the node's network", put(pod, True, "hostNetwork")),
    ("confined", "dev", "a token", put(pod, True, "automountServiceAccountToken")),
    (
        "restricted",
        "prod",
        "a namespace for anything",
        put(
            lambda editor: editor.get("Namespace", "daybook")["metadata"]["labels"],
            "privileged",
            "pod-security.kubernetes.io/enforce",
        ),
    ),
    ("probed", "dev", "no probe", drop(server, "startupProbe")),
    (
        "probed",
        "dev",
        "a path that is not there",
        put(server, "/healthz", "livenessProbe", "httpGet", "path"),
    ),
    (
        "probed",
        "dev",
        "restarts by readiness",
        put(server, "/health/ready", "livenessProbe", "httpGet", "path"),
    ),
    ("probed", "dev", "another port", put(server, "http", "readinessProbe", "httpGet", "port")),
    ("probed", "prod", "no TLS in a probe", drop(server, "readinessProbe", "httpGet", "scheme")),
    ("patient", "dev", "a short start", put(server, 3, "startupProbe", "failureThreshold")),
    (
        "understood",
        "dev",
        "a flag of chance",
        lambda editor: editor.server["args"].append("--turbo"),
    ),
    (
        "understood",
        "prod",
        "a flag of another command",
        swap(lambda editor: editor.job["containers"][0]["args"], -1, "--delete", "--to=x"),
    ),
    ("understood", "dev", "a variable that nobody reads", more_env("DAYBOOK_DATADIR", "/data")),
    ("understood", "prod", "a variable of another command", more_env("DAYBOOK_DATA", "/x", query)),
    ("understood", "dev", "a command that is not there", put(server, ["server"], "args")),
    (
        "understood",
        "dev",
        "a setting that is not there",
        swap(settings, "daybook.toml", "drain-timeout", "drain"),
    ),
    (
        "understood",
        "prod",
        "a setting that makes no sense",
        swap(settings, "daybook.toml", '"15s"', '"soon"'),
    ),
    (
        "understood",
        "prod",
        "a reference to nothing",
        lambda editor: editor.job["initContainers"][0]["env"].remove(
            editor.variable(editor.job["initContainers"][0], "BACKUP_URL")
        ),
    ),
    ("protected", "prod", "an open front", more_env("DAYBOOK_INSECURE", "true", query)),
    (
        "protected",
        "prod-vault",
        "no certificate",
        lambda editor: editor.server["env"].remove(
            editor.variable(editor.server, "DAYBOOK_TLS_VAULT_PKI")
        ),
    ),
    ("allowed_out", "prod-vault", "no way to Vault", without("NetworkPolicy", "vault")),
    ("protected", "prod", "an open store", more_env("DAYBOOK_INSECURE", "true")),
    (
        "protected",
        "dev",
        "neither open nor protected",
        lambda editor: editor.server["env"].remove(
            editor.variable(editor.server, "DAYBOOK_INSECURE")
        ),
    ),
    ("reachable", "dev", "nothing denied", without("NetworkPolicy", "deny-all")),
    ("reachable", "dev", "nobody let in", without("NetworkPolicy", "clients")),
    (
        "reachable",
        "dev",
        "another port listened on",
        swap(settings, "daybook.toml", ":2113", ":2112"),
    ),
    (
        "reachable",
        "dev",
        "a Service of nothing",
        put(spec("Service", "daybook"), "dayboook", "selector", "app.kubernetes.io/name"),
    ),
    (
        "reachable",
        "prod",
        "callers of fronts not let in",
        lambda editor: [
            editor.drop("NetworkPolicy", each) for each in ("query-callers", "prometheus")
        ],
    ),
    ("allowed_out", "prod", "no names", without("NetworkPolicy", "dns")),
    ("allowed_out", "prod", "no database", without("NetworkPolicy", "postgres")),
    ("allowed_out", "prod", "no object store", without("NetworkPolicy", "backup-store")),
    (
        "allowed_out",
        "prod",
        "a job without its label",
        lambda editor: editor.get("CronJob", "daybook-backup")["spec"]["jobTemplate"]["spec"][
            "template"
        ]["metadata"]["labels"].pop("daybook-client"),
    ),
    (
        "allowed_out",
        "prod",
        "a server that is not there",
        put(
            lambda editor: editor.variable(editor.job["initContainers"][0], "DAYBOOK_URL"),
            "https://store:2113",
            "value",
        ),
    ),
    ("graceful", "dev", "a short grace", put(pod, 30, "terminationGracePeriodSeconds")),
    ("graceful", "prod", "a long drain", swap(settings, "daybook.toml", '"15s"', '"60s"')),
    (
        "graceful",
        "prod",
        "a shell before the stop",
        put(query, {"exec": {"command": ["sleep", "5"]}}, "lifecycle", "preStop"),
    ),
    ("pinned", "dev", "latest", put(server, "daybook:latest", "image")),
    ("pinned", "prod", "two versions", put(query, "registry.example/daybook:0.0.9", "image")),
    ("budgeted", "dev", "no budget", without("PodDisruptionBudget", "daybook")),
    (
        "budgeted",
        "dev",
        "a budget that forbids every drain",
        lambda editor: editor.get("PodDisruptionBudget", "daybook").update(
            spec={"minAvailable": 1, "selector": editor.store["selector"]}
        ),
    ),
    (
        "budgeted",
        "prod",
        "as many fronts as there are at least",
        put(spec("PodDisruptionBudget", "daybook-query"), 3, "minAvailable"),
    ),
    ("one_writer", "dev", "two of them", put(store, 2, "replicas")),
    (
        "one_writer",
        "prod",
        "an autoscaled store",
        put(
            spec("HorizontalPodAutoscaler", "daybook-query"),
            {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "daybook"},
            "scaleTargetRef",
        ),
    ),
    (
        "one_writer",
        "dev",
        "a volume that is deleted",
        put(store, "Delete", "persistentVolumeClaimRetentionPolicy", "whenScaled"),
    ),
    (
        "one_writer",
        "dev",
        "the root of a volume",
        swap(settings, "daybook.toml", "/data/store", "/data"),
    ),
    (
        "one_writer",
        "dev",
        "data in the image",
        swap(settings, "daybook.toml", "/data/store", "/store"),
    ),
    (
        "one_writer",
        "prod",
        "a shared volume",
        put(store, ["ReadWriteMany"], "volumeClaimTemplates", 0, "spec", "accessModes"),
    ),
    ("scaled", "prod", "a fixed number", put(lambda editor: editor.front, 3, "replicas")),
    (
        "scaled",
        "prod",
        "a metric that nobody makes",
        put(
            spec("HorizontalPodAutoscaler", "daybook-query"),
            "requests",
            "metrics",
            2,
            "pods",
            "metric",
            "name",
        ),
    ),
    (
        "scaled",
        "prod",
        "no memory",
        drop(spec("HorizontalPodAutoscaler", "daybook-query"), "metrics", 1),
    ),
    (
        "resolved",
        "prod",
        "a Secret that is not documented",
        put(
            lambda editor: editor.variable(editor.query, "DAYBOOK_POSTGRES")["valueFrom"][
                "secretKeyRef"
            ],
            "password",
            "key",
        ),
    ),
    (
        "resolved",
        "prod",
        "a file that its Secret has not",
        put(
            lambda editor: editor.variable(editor.server, "DAYBOOK_TLS_KEY"),
            "/etc/daybook-tls/server.key",
            "value",
        ),
    ),
    ("resolved", "prod", "a certificate that is never renewed", put(mount, "tls.crt", "subPath")),
    (
        "resolved",
        "dev",
        "settings that are not there",
        put(pod, "none", "volumes", 0, "configMap", "name"),
    ),
    ("resolved", "dev", "an identity that is not there", without("ServiceAccount", "daybook")),
    ("resolved", "prod", "a priority that is not there", without("PriorityClass", "daybook-store")),
    ("resolved", "dev", "no headless Service", put(store, "daybook", "serviceName")),
    (
        "scraped",
        "prod",
        "scraped twice",
        put(
            lambda editor: editor.get("Service", "daybook")["metadata"]["labels"],
            "scraped",
            "metrics",
        ),
    ),
    (
        "scraped",
        "prod",
        "no TLS",
        put(spec("ServiceMonitor", "daybook"), "http", "endpoints", 0, "scheme"),
    ),
    (
        "scraped",
        "prod",
        "nobody",
        drop(spec("ServiceMonitor", "daybook"), "endpoints", 0, "basicAuth"),
    ),
    ("scraped", "prod", "another job", drop(spec("ServiceMonitor", "daybook"), "jobLabel")),
    (
        "scraped",
        "prod",
        "another path",
        put(spec("ServiceMonitor", "daybook-query"), "/prometheus", "endpoints", 0, "path"),
    ),
    (
        "watched",
        "prod",
        "a metric that is not there",
        put(lambda editor: editor.rule("DaybookAbsent"), "absent(daybook_is_up)", "expr"),
    ),
    (
        "watched",
        "prod",
        "an alert without a page",
        put(
            lambda editor: editor.rule("DaybookAbsent")["annotations"],
            "docs/kubernetes.md#daybookgone",
            "runbook",
        ),
    ),
    (
        "resolved",
        "prod",
        "a volume of nobody",
        put(
            spec("Job", "daybook-restore"),
            "data-daybook-1",
            "template",
            "spec",
            "volumes",
            0,
            "persistentVolumeClaim",
            "claimName",
        ),
    ),
    (
        "watched",
        "prod",
        "a rule that was changed here",
        put(lambda editor: editor.rule("DaybookDown"), "5m", "for"),
    ),
    ("watched", "prod", "rules left out", without("PrometheusRule", "daybook-recording")),
    ("shown", "prod", "a dashboard left out", without("ConfigMap", "daybook-dashboard-ledger")),
    (
        "shown",
        "prod",
        "a dashboard that was changed here",
        swap(
            lambda editor: editor.get("ConfigMap", "daybook-dashboard-ledger")["data"],
            "ledger.json",
            "daybook_",
            "daybuch_",
        ),
    ),
    (
        "verified",
        "prod",
        "backups that nobody verifies",
        lambda editor: editor.job["initContainers"].pop(1),
    ),
    (
        "verified",
        "prod",
        "two at a time",
        put(spec("CronJob", "daybook-backup"), "Allow", "concurrencyPolicy"),
    ),
]
