"""The pods of overlays/prod, run as a kubelet would, as far as one machine can.

    pods.py FILE        the rendered manifests

Each container runs the real server by the manifest's own arguments, environment, user and mounts: a
root file system that holds the binary and its libraries alone and cannot be written, Secrets and
ConfigMaps laid out and renewed as a kubelet does it, a volume with lost+found, no rights. Probes,
scrapes, backups and stops are those that the manifests describe. What is not: seccomp profiles,
limits of memory and processors, network policies, the scheduler.

To be run in a network namespace of its own, as root. DAYBOOK_BIN is the server, SCRATCH a
directory, POSTGRES the directory of PostgreSQL's programs. The last line says how many checks
passed and failed.
"""

import base64
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import manifests
import policy
import yaml
from facts import PATIENCE, eventually
from manifests import check

BIN, SCRATCH, POSTGRES = (os.environ[name] for name in ("DAYBOOK_BIN", "SCRATCH", "POSTGRES"))
SCRATCH = Path(SCRATCH)
# Seconds until a renewed certificate is served: the server looks every ten.
RENEWAL = 30
# Where the image keeps its only program.
PROGRAM = "/usr/local/bin/daybook"
PASSWORDS = {
    name: base64.b32encode(os.urandom(15)).decode() for name in ("admin", "backup", "prometheus")
}
UNVERIFIED = ssl._create_unverified_context()


def libraries():
    said = subprocess.run(["ldd", BIN], capture_output=True, text=True, check=True).stdout
    return [Path(path) for path in re.findall(r"(/\S+) \(0x", said)]


class Directory:
    """A ConfigMap or Secret on disk, as a kubelet writes it: renewed whole, by a rename."""

    def __init__(self, path, group):
        self.path, self.group, self.version = path, group, 0
        path.mkdir(parents=True)

    def write(self, files, mode):
        self.version += 1
        inner = self.path / f"..{self.version}"
        inner.mkdir()
        for name, text in files.items():
            file = inner / name
            file.write_text(text)
            os.chown(file, 0, self.group)
            file.chmod(mode)
            link = self.path / name
            if not link.is_symlink():
                link.symlink_to(f"..data/{name}")
        fresh = self.path / "..data_tmp"
        fresh.symlink_to(inner.name)
        fresh.rename(self.path / "..data")


class Pod:
    """One pod: its files, and its containers as processes."""

    def __init__(self, name, template, overlay, secrets, claims=()):
        self.name, self.spec, self.directories = name, template["spec"], {}
        self.secrets, self.root = secrets, SCRATCH / name / "root"
        self.user = self.spec["securityContext"]["runAsUser"]
        self.group = self.spec["securityContext"]["runAsGroup"]
        self.lay_image()
        for volume in self.spec.get("volumes", []):
            self.lay(volume, overlay)
        for claim in claims:
            path = SCRATCH / "volumes" / claim
            if not path.exists():
                (path / "lost+found").mkdir(parents=True, mode=0o700)
                # What fsGroup does to a fresh volume.
                os.chown(path, 0, self.spec["securityContext"]["fsGroup"])
                path.chmod(0o2775)
            self.directories[claim] = path

    def lay_image(self):
        """What the image holds: the program and its libraries."""
        for path in ["proc", "dev", "etc", "backups", str(Path(PROGRAM).parent)[1:]]:
            (self.root / path).mkdir(parents=True, exist_ok=True)
        Path(self.root, PROGRAM[1:]).touch()
        for library in libraries():
            target = Path(f"{self.root}{library}")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(library, target)
        # The cluster's names.
        (self.root / "etc/hosts").write_text(
            "127.0.0.1 localhost daybook daybook-query daybook.daybook.svc\n"
        )
        for each in self.spec.get("initContainers", []) + self.spec["containers"]:
            for mount in each.get("volumeMounts", []):
                (self.root / mount["mountPath"][1:]).mkdir(parents=True, exist_ok=True)

    def lay(self, volume, overlay):
        if "persistentVolumeClaim" in volume:
            # data-daybook-0 is the first pod's `data`.
            claim = volume["persistentVolumeClaim"]["claimName"].split("-")[0]
            self.directories[volume["name"]] = SCRATCH / "volumes" / claim
            return
        directory = Directory(SCRATCH / self.name / "volumes" / volume["name"], self.group)
        if "configMap" in volume:
            found = overlay.named("ConfigMap", volume["configMap"]["name"])
            directory.write(found["data"], volume["configMap"].get("defaultMode", 0o644))
        else:
            files = self.secrets[volume["secret"]["secretName"]]
            items = volume["secret"].get("items") or [{"key": key, "path": key} for key in files]
            files = {item["path"]: files[item["key"]] for item in items}
            directory.write(files, volume["secret"].get("defaultMode", 0o644))
        self.directories[volume["name"]] = directory.path
        setattr(self, f"volume_{volume['name']}", directory)

    def environment(self, container):
        env = {}
        for each in container.get("env", []):
            reference = each.get("valueFrom", {}).get("secretKeyRef")
            if not reference:
                env[each["name"]] = each["value"]
            elif reference["key"] in self.secrets[reference["name"]]:
                env[each["name"]] = self.secrets[reference["name"]][reference["key"]]
            elif not reference.get("optional"):
                sys.exit(f"{self.name}: there is no {reference}")
        return env

    def command(self, container, arguments):
        env = self.environment(container)
        arguments = [re.sub(r"\$\((\w+)\)", lambda m: env[m[1]], each) for each in arguments]
        line = ["setpriv", f"--reuid={self.user}", f"--regid={self.group}", "--clear-groups"]
        line += [
            "bwrap",
            "--die-with-parent",
            "--unshare-user",
            "--unshare-ipc",
            "--cap-drop",
            "ALL",
        ]
        line += ["--ro-bind", str(self.root), "/", "--ro-bind", BIN, PROGRAM]
        line += ["--ro-bind", "/proc", "/proc", "--dev", "/dev", "--chdir", "/"]
        line += ["--bind", str(SCRATCH / "backups"), "/backups"]
        for mount in container.get("volumeMounts", []):
            how = "--ro-bind" if mount.get("readOnly") else "--bind"
            line += [how, str(self.directories[mount["name"]]), mount["mountPath"]]
        line += ["--clearenv"]
        for name, value in env.items():
            line += ["--setenv", name, value]
        return [*line, "--", PROGRAM, *arguments]

    def container(self, name):
        every = self.spec.get("initContainers", []) + self.spec["containers"]
        return next(each for each in every if each["name"] == name)

    def start(self, name):
        container = self.container(name)
        log = (SCRATCH / f"{self.name}-{name}.log").open("ab")
        line = self.command(container, container["args"])
        return Running(self, container, subprocess.Popen(line, stdout=log, stderr=log))

    def run(self, name, *arguments, stdin=""):
        """Runs a container to its end, or a command in it as `kubectl exec` does."""
        container = self.container(name)
        line = self.command(container, arguments or container["args"])
        ran = subprocess.run(line, input=stdin, capture_output=True, text=True, timeout=PATIENCE)
        return ran.returncode, ran.stdout + ran.stderr


class Running:
    """A container that runs on."""

    def __init__(self, pod, container, process):
        self.pod, self.container, self.process = pod, container, process

    def probe(self, kind):
        """What a kubelet gets: the status, 0 for no answer in time."""
        probe = self.container[kind]
        get, ports = (
            probe["httpGet"],
            {p["name"]: p["containerPort"] for p in self.container["ports"]},
        )
        url = f"{get.get('scheme', 'HTTP').lower()}://127.0.0.1:{ports[get['port']]}{get['path']}"
        return fetch(url, UNVERIFIED, timeout=probe["timeoutSeconds"])[0]

    def well(self, kind):
        if self.process.poll() is not None:
            log = SCRATCH / f"{self.pod.name}-{self.container['name']}.log"
            sys.exit(
                f"{self.pod.name} ended with {self.process.returncode}:\n{log.read_text()[-3000:]}"
            )
        return 200 <= self.probe(kind) < 400

    def started(self):
        for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
            eventually(f"{self.pod.name}: {kind}", lambda: self.well(kind))
        return self

    @property
    def pid(self):
        """The server's: the sandbox that we started waits for it."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return int(children.split()[0])

    def status(self, field):
        text = Path(f"/proc/{self.pid}/status").read_text()
        return re.search(rf"(?m)^{field}:\s*(.*)$", text)[1].split()[0]

    def stop(self):
        """The exit code after SIGTERM, and the seconds it took."""
        began = time.monotonic()
        os.kill(self.pid, signal.SIGTERM)
        grace = self.pod.spec["terminationGracePeriodSeconds"]
        try:
            return self.process.wait(grace), time.monotonic() - began
        except subprocess.TimeoutExpired:
            self.kill()
            return None, grace

    def kill(self):
        os.kill(self.pid, signal.SIGKILL)
        self.process.wait()


def fetch(url, context=None, headers=(), timeout=10):
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
    )
    request = urllib.request.Request(url, headers=dict(headers))
    try:
        with opener.open(request, timeout=timeout) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as answer:
        return answer.code, answer.read().decode()
    except OSError:
        return 0, ""


def certificates(name):
    """What cert-manager would put into the Secret, from an authority of its own."""
    directory = SCRATCH / "certificates" / name
    line = [BIN, "certs", "dev", "--dir", str(directory)]
    for host in ("daybook", "daybook-query", "daybook.daybook.svc", "localhost"):
        line += ["--host", host]
    subprocess.run(line, check=True, capture_output=True)
    files = {"tls.crt": "server.crt", "tls.key": "server.key", "ca.crt": "ca.crt"}
    return {key: (directory / file).read_text() for key, file in files.items()}


def caller():
    """How a caller of fronts connects: whom it believes, and what it shows."""
    made = SCRATCH / "certificates" / "fronts"
    context = ssl.create_default_context(cafile=made / "ca.crt")
    context.load_cert_chain(made / "client.crt", made / "client.key")
    return context


def postgres():
    """A PostgreSQL with a database for the read models, and two users, of whom one only reads."""
    data = SCRATCH / "postgres"
    data.mkdir()
    shutil.chown(data, "postgres", "postgres")

    def as_postgres(*line, **more):
        run = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", *line]
        return subprocess.run(run, check=True, capture_output=True, text=True, cwd="/", **more)

    as_postgres(f"{POSTGRES}/initdb", "--auth=trust", "--pgdata", str(data))
    options = f"-c listen_addresses=127.0.0.1 -c unix_socket_directories={data} -c fsync=off"
    as_postgres(f"{POSTGRES}/pg_ctl", "start", "-w", f"-D{data}", f"-l{data}/log", f"-o{options}")

    def sql(text, user="postgres", database="postgres"):
        psql = [f"{POSTGRES}/psql", "-h127.0.0.1", f"-U{user}", "-v", "ON_ERROR_STOP=1", database]
        return as_postgres(*psql, input=text)

    sql("CREATE USER daybook; CREATE USER front; CREATE DATABASE daybook OWNER daybook;")
    return data, sql


def grants():
    """The SQL that docs/read-side.md gives to fronts."""
    text = (policy.facts.ROOT / "docs/read-side.md").read_text()
    return next(block for block in re.findall(r"(?s)```sql\n(.*?)```", text) if "GRANT" in block)


def serial(host):
    """The certificate that is served now."""
    with socket.create_connection(("127.0.0.1", 2113), timeout=10) as plain:
        with UNVERIFIED.wrap_socket(plain, server_hostname=host) as secure:
            return secure.getpeercert(binary_form=True)


def scrape(monitor, secrets):
    """What Prometheus gets, by what a ServiceMonitor says."""
    endpoint = monitor["spec"]["endpoints"][0]
    reference = endpoint["tlsConfig"]["ca"]["secret"]
    context = ssl.create_default_context(cadata=secrets[reference["name"]][reference["key"]])
    said = [
        secrets[endpoint["basicAuth"][k]["name"]][endpoint["basicAuth"][k]["key"]]
        for k in ("username", "password")
    ]
    proof = base64.b64encode(":".join(said).encode()).decode()
    # By name, because this client knows no serverName apart from its target; the kubelet's DNS is
    # /etc/hosts.
    host = endpoint["tlsConfig"]["serverName"]
    with socket.create_connection(("127.0.0.1", 2113), timeout=10) as plain:
        with context.wrap_socket(plain, server_hostname=host) as secure:
            head = [f"GET {endpoint['path']} HTTP/1.1", "Host: x", "Connection: close"]
            head += [f"Authorization: Basic {proof}", "", ""]
            secure.sendall("\r\n".join(head).encode())
            answer = b""
            while chunk := secure.recv(65536):
                answer += chunk
    return answer.decode()


def main():
    docs = list(yaml.safe_load_all(Path(sys.argv[1]).read_text()))
    overlay = policy.Overlay("prod", docs, {})
    (SCRATCH / "backups").mkdir()
    data, sql = postgres()
    secrets = {
        "daybook-tls": certificates("first"),
        "daybook-query-tls": certificates("fronts"),
        "daybook-admin": {"password": PASSWORDS["admin"]},
        "daybook-postgres": {
            "url": "postgres://daybook@127.0.0.1/daybook?sslmode=disable",
            "query-url": "postgres://front@127.0.0.1/daybook?sslmode=disable",
        },
        "daybook-backup": {"password": PASSWORDS["backup"], "url": "/backups"},
        "daybook-monitoring": {"username": "prometheus", "password": PASSWORDS["prometheus"]},
    }
    os.chown(SCRATCH / "backups", 65532, 65532)
    try:
        play(overlay, secrets, sql)
    finally:
        stop = [f"{POSTGRES}/pg_ctl", "stop", "-mimmediate", f"-D{data}"]
        subprocess.run(
            ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", *stop],
            cwd="/",
            capture_output=True,
        )
    print(f"{manifests.passed} passed, {manifests.failed} failed")
    return 1 if manifests.failed else 0


def play(overlay, secrets, sql):
    pod = Pod(
        "store",
        overlay.named("StatefulSet", "daybook")["spec"]["template"],
        overlay,
        secrets,
        ["data"],
    )
    store = pod.start("daybook").started()
    check("pods: the store starts on a fresh volume, and its three probes succeed", [])
    wrong = [] if store.status("Uid") == "65532" else [f"user {store.status('Uid')}"]
    wrong += [
        f"{field} {store.status(field)}"
        for field in ("CapEff", "CapPrm")
        if int(store.status(field), 16)
    ]
    wrong += [] if store.status("NoNewPrivs") == "1" else ["may gain rights"]
    check("pods: it has no rights", wrong)
    users(pod, store)
    store_works(pod)
    front_reads(overlay, secrets, sql)
    monitored(overlay, secrets)
    backed_up(overlay, secrets, pod)
    renewed(pod, secrets)
    code, took = store.stop()
    check(
        "pods: SIGTERM drains, well before the grace period",
        [] if code == 0 else [f"{code} after {took:.0f} s"],
    )
    store = pod.start("daybook").started()
    code, said = pod.run("daybook", *as_admin(["read", "orders-1"]))
    check(
        "pods: the next one finds what was appended",
        [] if code == 0 and "OrderPlaced" in said else [said],
    )
    store.kill()
    pod.start("daybook").started().stop()
    check("pods: one that was killed is followed by one that recovers", [])
    restored(overlay, secrets, pod)


def as_admin(words):
    """A command as docs/kubernetes.md says to run it in the pod."""
    return [
        *words[:1],
        "--user",
        "admin",
        "--password-file",
        "/etc/daybook-admin/password",
        *words[1:],
    ]


def users(pod, store):
    # Just after the very first start the administrator may not be there yet.
    eventually("the administrator", lambda: pod.run("daybook", *as_admin(["users"]))[0] == 0)
    wrong = []
    for login, group in (("prometheus", "$monitor"), ("backup", "$admins")):
        line = as_admin(["users", "create", login, "--group", group])
        code, said = pod.run("daybook", *line, stdin=PASSWORDS[login])
        wrong += [said] if code else []
    check("pods: users are made by the commands of the guide", wrong)
    status = fetch("https://127.0.0.1:2113/metrics", UNVERIFIED)[0]
    check("pods: nobody gets numbers without a name", [] if status == 401 else [str(status)])
    code, said = pod.run("daybook", "health")
    check("pods: daybook health answers in the pod", [] if code == 0 else [said])


def store_works(pod):
    wrong = []
    line = as_admin(["append", "orders-1", "OrderPlaced", '{"n": 1}'])
    line_open = as_admin(
        ["accounts", "open", "--type", "checking", "--currency", "USD", "--deposit", "100"]
    )
    for each in (line, line_open):
        code, said = pod.run("daybook", *each)
        wrong += [said] if code else []
    check("pods: it takes events and money", wrong)


def front_reads(overlay, secrets, sql):
    sql(grants(), "daybook", "daybook")
    sql("GRANT SELECT ON ALL TABLES IN SCHEMA daybook TO front;", "daybook", "daybook")
    template = overlay.named("Deployment", "daybook-query")["spec"]["template"]
    front = Pod("front", template, overlay, secrets).start("query").started()
    url = "https://localhost:2114/v1/accounts"
    status, body = fetch(url, caller())
    found = status == 200 and len(json.loads(body)["accounts"]) == 1
    check("pods: a query front is ready, and lists what the store took", [] if found else [body])
    status = fetch(url, UNVERIFIED)[0]
    check(
        "pods: it lists nothing for callers without a certificate",
        [] if status == 401 else [status],
    )
    status, page = fetch("https://localhost:2114/metrics", caller())
    check(
        "pods: it shows its numbers to those with one",
        [] if "daybook_postgres_connections" in page else [page],
    )
    code, took = front.stop()
    check(
        "pods: a front stops in its grace period",
        [] if code == 0 else [f"{code} after {took:.0f} s"],
    )


def monitored(overlay, secrets):
    page = scrape(overlay.named("ServiceMonitor", "daybook"), secrets)
    well = page.startswith("HTTP/1.1 200") and "daybook_ready 1" in page
    check(
        "pods: Prometheus scrapes as its monitor says: by the authority, the name, the user",
        [] if well else [page[:300]],
    )


def backed_up(overlay, secrets, pod):
    job = overlay.named("CronJob", "daybook-backup")["spec"]["jobTemplate"]["spec"]["template"]
    for attempt in ("first", "second"):
        backup = Pod(f"backup-{attempt}", job, overlay, secrets)
        for step in ("backup", "verify", "prune"):
            code, said = backup.run(step)
            check(f"pods: the {attempt} backup job: {step}", [] if code == 0 else [said])
    manifests_kept = list((SCRATCH / "backups/backups").glob("*.json"))
    check("pods: the repository has a backup", [] if manifests_kept else ["nothing"])
    # The steps can fail: one byte of each object is another.
    pieces = {
        path: path.read_bytes()
        for path in (SCRATCH / "backups/segments").rglob("*-*")
        if path.is_file()
    }
    for path, whole in pieces.items():
        path.write_bytes(whole[:100] + bytes([whole[100] ^ 1]) + whole[101:])
    code, said = Pod("backup-damaged", job, overlay, secrets).run("verify")
    check("pods: the job notices a damaged backup", [] if code == 1 else [f"{code}: {said}"])
    for path, whole in pieces.items():
        path.write_bytes(whole)


def restored(overlay, secrets, pod):
    """A stopped server's volume takes a backup, and a server that is told so serves it."""
    job = Pod(
        "restore", overlay.named("Job", "daybook-restore")["spec"]["template"], overlay, secrets
    )
    for step in ("restore", "verify"):
        code, said = job.run(step)
        check(f"pods: the restore job: {step}", [] if code == 0 else [said])
    settings = overlay.settings({"spec": pod.spec}).replace("/data/store", "/data/restored")
    pod.volume_settings.write({"daybook.toml": settings}, 0o644)
    store = pod.start("daybook").started()
    code, said = pod.run("daybook", *as_admin(["read", "orders-1"]))
    check(
        "pods: what was restored is served", [] if code == 0 and "OrderPlaced" in said else [said]
    )
    store.stop()


def renewed(pod, secrets):
    before = serial("daybook")
    secrets["daybook-tls"] = certificates("second")
    pod.volume_tls.write(secrets["daybook-tls"], 0o440)
    until = time.monotonic() + RENEWAL
    while serial("daybook") == before and time.monotonic() < until:
        time.sleep(0.2)
    context = ssl.create_default_context(cadata=secrets["daybook-tls"]["ca.crt"])
    with socket.create_connection(("127.0.0.1", 2113)) as plain:
        with context.wrap_socket(plain, server_hostname="daybook"):
            check("pods: a renewed certificate is served without a restart", [])


if __name__ == "__main__":
    sys.exit(main())
