"""packaging/helm/tidegate: what it renders is safe, fits together, and its policy is accepted.

Needs python3 with PyYAML. The chart is rendered by `helm` ($HELM, or on the PATH); without it only
the files that are no templates are looked at, and the last line says so. With $TIDEGATE_BIN each
policy that is rendered goes through `tidegate check`. Exit codes: 0 all is well, 1 it is not, 78 what was
looked at is well, but a part was left out.
"""

import base64
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
CHART = ROOT / "packaging/helm/tidegate"
HELM = os.environ.get("HELM") or shutil.which("helm")
BINARY = os.environ.get("TIDEGATE_BIN")
PART = 78

POLICY = {
    "upstreams": {"openai": {"url": "https://api.openai.com", "key": "file:/run/secrets/tidegate/openai"}},
    "server": {"memory": "256MiB"},
    "policies": [{"name": "everyone", "limits": {"requests": "600/min"}}],
}
SIDECAR = {"mode": "sidecar", "agent": {"image": "registry.example/agent:1"}}
MONITORED = {"podMonitor": {"enabled": True}, "prometheusRule": {"enabled": True}, "grafanaDashboard": {"enabled": True}}

# what may be installed, and the kinds that come of it
GOOD = {
    "as it is": ({}, "ConfigMap Deployment PodDisruptionBudget Secret Service"),
    "everything": (
        {
            "policy": POLICY,
            "keys": {"secret": "tidegate-keys"},
            "state": {"enabled": True, "storageClass": "fast"},
            "networkPolicy": {"enabled": True, "adminFrom": [{"namespaceSelector": {}}], "proxyFrom": [{"podSelector": {}}]},
            "serviceAccount": {"name": "tidegate"},
            "env": [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}],
            "volumes": [{"name": "ca", "configMap": {"name": "ca"}}],
            "volumeMounts": [{"name": "ca", "mountPath": "/etc/ca", "readOnly": True}],
            "podLabels": {"team": "growth"},
            "workers": 2,
            "log": {"level": "debug"},
            **MONITORED,
        },
        "ConfigMap ConfigMap Deployment NetworkPolicy PersistentVolumeClaim PodDisruptionBudget PodMonitor PrometheusRule Secret Service",
    ),
    "a claim that is there": (
        {"state": {"enabled": True, "existingClaim": "old"}},
        "ConfigMap Deployment PodDisruptionBudget Secret Service",
    ),
    "replicas": ({"replicas": 3, "rolloutOnChange": False, "ipv6": True}, "ConfigMap Deployment PodDisruptionBudget Secret Service"),
    "a service monitor": (
        {"serviceMonitor": {"enabled": True}},
        "ConfigMap Deployment PodDisruptionBudget Secret Service Service ServiceMonitor",
    ),
    "sidecar": (
        {**SIDECAR, "policy": POLICY, "keys": {"secret": "tidegate-keys"}, "state": {"enabled": True}, **MONITORED},
        "ConfigMap ConfigMap Deployment PodMonitor PrometheusRule Secret",
    ),
    "sidecar, shut off": ({**SIDECAR, "networkPolicy": {"enabled": True}}, "ConfigMap Deployment NetworkPolicy Secret"),
    "a token of one's own": (
        {"admin": {"secret": "mine", "key": "word", "actions": True}},
        "ConfigMap Deployment PodDisruptionBudget Service",
    ),
    "sidecar of a job": ({**SIDECAR, "agent": {**SIDECAR["agent"], "kind": "Job"}}, "ConfigMap Job Secret"),
}

# what may not, and a word of the reason
BAD = {
    "a word that is not known": ({"polcy": {}}, "polcy"),
    "a mode that is not known": ({"mode": "daemon"}, "mode"),
    "two processes on one directory": ({"replicas": 2, "state": {"enabled": True}}, "one directory has one process"),
    "a drain that the pod does not know of": ({"policy": {"server": {"drain": {"timeout": "1h"}}}}, "say `drain` instead"),
    "an admin that the probes do not find": ({"policy": {"admin": "127.0.0.1:9"}}, "say `ports.admin` and `admin` instead"),
    "a sidecar of nothing": ({"mode": "sidecar"}, "agent.image"),
    "one port for both": ({"ports": {"proxy": 8081}}, "are the same"),
    "two monitors": ({"podMonitor": {"enabled": True}, "serviceMonitor": {"enabled": True}}, "take one"),
    "a monitor of no service": ({**SIDECAR, "serviceMonitor": {"enabled": True}}, "take podMonitor"),
}


def template(values: dict) -> subprocess.CompletedProcess:
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(values, file)
        file.flush()
        command = [HELM, "template", "test", CHART, "--namespace", "agents", "-f", file.name]
        return subprocess.run(command, text=True, capture_output=True)


def seconds(text: str) -> int:
    return int(re.fullmatch(r"(\d+)s", text)[1])


def look_at_pod(spec: dict, values: dict) -> None:
    sidecar = values.get("mode") == "sidecar"
    containers = spec["initContainers"] if sidecar else spec["containers"]
    (container,) = [one for one in containers if one["name"] == "tidegate"]
    assert container.get("restartPolicy") == ("Always" if sidecar else None), "a plain init container never lets the pod start"

    security = container["securityContext"]
    assert security["runAsNonRoot"] and security["readOnlyRootFilesystem"] and not security["allowPrivilegeEscalation"]
    assert security["capabilities"]["drop"] == ["ALL"] and security["seccompProfile"]["type"] == "RuntimeDefault"
    assert f"USER {security['runAsUser']}:" in (ROOT / "packaging/Containerfile").read_text(), "not the image's user"
    assert spec["securityContext"]["fsGroup"] == security["runAsGroup"], "cannot read the Secret"
    assert spec["automountServiceAccountToken"] is False

    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    for probe, wanted in [("startupProbe", "/readyz"), ("readinessProbe", "/readyz"), ("livenessProbe", "/livez")]:
        get = container[probe]["httpGet"]
        assert (get["path"], get["port"]) == (wanted, "admin"), probe
    env = {one["name"]: one.get("value") for one in container["env"]}
    pod_ip = "[$(POD_IP)]" if values.get("ipv6") else "$(POD_IP)"
    assert env["TIDEGATE_ADMIN"] == f"{pod_ip}:{ports['admin']}", "probes ask another port"
    token = next(one["valueFrom"]["secretKeyRef"] for one in container["env"] if one["name"] == "TIDEGATE_ADMIN_TOKEN")
    wanted = values.get("admin", {})
    assert token == {"name": wanted.get("secret", "test-tidegate-admin"), "key": wanted.get("key", "token")}
    assert list(env).index("POD_IP") < list(env).index("TIDEGATE_ADMIN"), "a variable can use those before it"

    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
    assert mounts.keys() == volumes.keys(), "a mount without a volume, or a volume without a mount"
    assert not any("subPath" in mount for mount in mounts.values()), "never sees a change"
    assert env["TIDEGATE_CONFIG"] == mounts["tidegate-policy"]["mountPath"] + "/config.yaml"
    assert ("tidegate-keys" in volumes) == ("keys" in values)
    assert ("tidegate-state" in volumes) == ("state" in values)
    if sidecar:
        (agent,) = spec["containers"]
        base = {one["name"]: one["value"] for one in agent["env"]}
        assert base["OPENAI_BASE_URL"] == f"http://127.0.0.1:{ports['proxy']}/v1"
        assert base["ANTHROPIC_BASE_URL"] == f"http://127.0.0.1:{ports['proxy']}"


def look_at_policy(policy: dict, spec: dict, values: dict) -> None:
    sidecar = values.get("mode") == "sidecar"
    any_host = "[::]" if values.get("ipv6") else "0.0.0.0"
    assert policy["listen"] == ("127.0.0.1" if sidecar else any_host) + ":8080"
    drain = policy["server"]["drain"]
    spent = seconds(drain["delay"]) + seconds(drain["timeout"])
    assert spent < spec["terminationGracePeriodSeconds"], "killed in the drain"
    assert not sidecar or seconds(drain["delay"]) == 0
    if "policy" in values:
        assert policy["server"]["memory"] == POLICY["server"]["memory"] and policy["upstreams"] == POLICY["upstreams"]
    if "state" in values:
        assert policy["state"] == {"dir": "/var/lib/tidegate"}
    acts = values.get("admin", {}).get("actions", False)
    assert policy.get("admin") == ({"at": "127.0.0.1:8081", "actions": "on"} if acts else None)
    if not BINARY:
        return
    with tempfile.TemporaryDirectory() as directory:
        # the secret's file, which the policy names by the path it has in the pod
        (pathlib.Path(directory) / "openai").write_text("not a key\n")
        file = pathlib.Path(directory) / "config.yaml"
        text = yaml.safe_dump(policy).replace("/run/secrets/tidegate", directory).replace("/var/lib/tidegate", directory + "/state")
        file.write_text(text)
        check = subprocess.run([BINARY, "check", "-c", file], text=True, capture_output=True)
        assert check.returncode == 0, check.stderr


def look_at(text: str, values: dict, kinds: str) -> dict:
    documents = [one for one in yaml.safe_load_all(text) if one]
    assert sorted(one["kind"] for one in documents) == kinds.split(), sorted(one["kind"] for one in documents)
    of = {}
    for one in documents:
        of.setdefault(one["kind"], one)
        labels = one["metadata"]["labels"]
        assert (labels["app.kubernetes.io/name"], labels["app.kubernetes.io/instance"]) == ("tidegate", "test")
    if "Secret" in of:
        assert len(base64.b64decode(of["Secret"]["data"]["token"])) == 43, "a token that could be guessed"
    for kind in ("PodMonitor", "ServiceMonitor"):
        if kind in of:
            spec = of[kind]["spec"]
            (endpoint,) = spec.get("podMetricsEndpoints") or spec["endpoints"]
            assert endpoint["authorization"]["credentials"]["key"] == "token", "scraped without a proof"
    workload = of.get("Deployment") or of["Job"]
    pod = workload["spec"]["template"]
    spec = pod["spec"]
    config = next(one for one in documents if one["kind"] == "ConfigMap" and "config.yaml" in one["data"])
    look_at_pod(spec, values)
    look_at_policy(yaml.safe_load(config["data"]["config.yaml"]), spec, values)
    assert ("checksum/policy" in pod["metadata"]["annotations"]) == values.get("rolloutOnChange", True)
    names = {volume["name"]: volume for volume in spec["volumes"]}
    assert names["tidegate-policy"]["configMap"]["name"] == config["metadata"]["name"]

    selectors = []
    for kind in ("Deployment", "PodDisruptionBudget", "PodMonitor"):
        if kind in of:
            selectors.append(of[kind]["spec"]["selector"]["matchLabels"])
    if "Service" in of:
        selectors += [one["spec"]["selector"] for one in documents if one["kind"] == "Service"]
        assert of["Service"]["spec"]["ports"][0]["targetPort"] == "proxy"
    if "NetworkPolicy" in of:
        selectors.append(of["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"])
    assert all(one.items() <= pod["metadata"]["labels"].items() for one in selectors), "it selects another pod"
    if "ServiceMonitor" in of:
        admin = next(one for one in documents if one["kind"] == "Service" and one["spec"].get("clusterIP") == "None")
        assert of["ServiceMonitor"]["spec"]["selector"]["matchLabels"].items() <= admin["metadata"]["labels"].items()
    if "PersistentVolumeClaim" in of:
        claim = names["tidegate-state"]["persistentVolumeClaim"]["claimName"]
        assert claim == of["PersistentVolumeClaim"]["metadata"]["name"]
        assert workload["spec"]["strategy"] == {"type": "Recreate"}, "two processes on one directory"
    if "PrometheusRule" in of:
        assert of["PrometheusRule"]["spec"] == yaml.safe_load((ROOT / "packaging/prometheus/alerts.yaml").read_text())
        board = next(one for one in documents if "tidegate.json" in one.get("data", {}))
        assert json.loads(board["data"]["tidegate.json"]) == json.loads((ROOT / "packaging/grafana/tidegate.json").read_text())
    return pod["metadata"]["annotations"]


def schema_fits(schema: dict, values: dict, at: str = "") -> None:
    """Every value has its place in the schema, and the schema has no place without a value."""
    known = schema.get("properties", {})
    if schema.get("additionalProperties") is False:
        beyond = {"global", "enabled"} if not at else set()
        assert known.keys() - beyond == values.keys(), f"{at or 'top'}: {sorted((known.keys() - beyond) ^ values.keys())}"
    for name, below in known.items():
        if isinstance(values.get(name), dict):
            schema_fits(below, values[name], f"{at}.{name}")


def main() -> int:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    version = re.search(r'^version = "(.*)"', (ROOT / "Cargo.toml").read_text(), re.M)[1]
    assert chart["appVersion"] == version, "the chart installs another version"
    schema = json.loads((CHART / "values.schema.json").read_text())
    schema_fits(schema, yaml.safe_load((CHART / "values.yaml").read_text()))
    for link in (CHART / "files").iterdir():
        assert link.resolve().is_file() and link.resolve().is_relative_to(ROOT), f"{link} leads nowhere"
        # a copy without links leaves the name of a file where its text should be
        assert link.is_symlink() or len(link.read_text().splitlines()) > 1, f"{link} is the text of a link"
    if not HELM:
        print("helm: values, schema and files fit together\nNOT TESTED: the chart's templates, for there is no helm here")
        return PART

    lint = subprocess.run([HELM, "lint", "--strict", CHART], text=True, capture_output=True)
    assert lint.returncode == 0, lint.stdout + lint.stderr
    for name, (values, kinds) in GOOD.items():
        done = template(values)
        assert done.returncode == 0, f"{name}: {done.stderr}"
        try:
            look_at(done.stdout, values, kinds)
        except AssertionError as why:
            print(f"helm: {name}: {why}")
            raise
    for name, (values, word) in BAD.items():
        done = template(values)
        assert done.returncode != 0 and word in done.stderr, f"{name}: {done.stderr or 'it was rendered'}"
    sums = set()
    for policy in ({}, {"telemetry": {"level": "debug"}}):
        sums.add(look_at(template({"policy": policy}).stdout, {}, GOOD["as it is"][1])["checksum/policy"])
    assert len(sums) == 2, "a change of the policy starts no new pod"
    print(f"helm: {len(GOOD)} sets of values rendered, {len(BAD)} refused")
    if not BINARY:
        print("NOT TESTED: the policies that were rendered, for $TIDEGATE_BIN names no binary")
    return 0 if BINARY else PART


if __name__ == "__main__":
    sys.exit(main())
