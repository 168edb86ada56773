"""packaging/kubernetes.yaml: its policy passes `tidegate check`, and its parts fit together."""

import os
import pathlib
import subprocess
import sys
import tempfile

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]


def main() -> int:
    documents = list(yaml.safe_load_all((ROOT / "packaging/kubernetes.yaml").read_text()))
    config_map, pod = documents
    assert (config_map["kind"], pod["kind"]) == ("ConfigMap", "Pod")
    spec = pod["spec"]
    (sidecar,) = spec["initContainers"]
    assert sidecar["restartPolicy"] == "Always", "a plain init container never lets the pod start"

    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    mounts = {mount["name"]: mount for mount in sidecar["volumeMounts"]}
    assert mounts.keys() <= volumes.keys(), "a mount of a volume that is not there"
    assert not any("subPath" in mount for mount in mounts.values()), "never sees a change"
    assert volumes["policy"]["configMap"]["name"] == config_map["metadata"]["name"]

    command, flag, path = sidecar["args"]
    assert (command, flag) == ("run", "-c")
    assert path == mounts["policy"]["mountPath"] + "/config.yaml"

    ports = {port["name"] for port in sidecar["ports"]}
    for probe, wanted in [("startupProbe", "/readyz"), ("readinessProbe", "/readyz"), ("livenessProbe", "/livez")]:
        get = sidecar[probe]["httpGet"]
        assert get["path"] == wanted and get["port"] in ports, probe
    admin = next(v["value"] for v in sidecar["env"] if v["name"] == "TIDEGATE_ADMIN")
    token = next(v["valueFrom"]["secretKeyRef"] for v in sidecar["env"] if v["name"] == "TIDEGATE_ADMIN_TOKEN")
    assert token["key"] and not token.get("optional"), "beyond loopback nothing is served without a token"
    assert admin.endswith(f":{sidecar['ports'][0]['containerPort']}"), "probes ask another port"

    security = sidecar["securityContext"]
    assert security["runAsNonRoot"] and security["readOnlyRootFilesystem"]
    assert security["capabilities"]["drop"] == ["ALL"] and not security["allowPrivilegeEscalation"]
    assert f"USER {security['runAsUser']}:" in (ROOT / "packaging/Containerfile").read_text()

    policy = config_map["data"]["config.yaml"]
    drain = yaml.safe_load(policy)["server"]["drain"]["timeout"]
    assert int(drain.removesuffix("s")) < spec["terminationGracePeriodSeconds"], "killed in the drain"

    with tempfile.TemporaryDirectory() as directory:
        # the secret's file, which the policy names by the path it has in the pod
        secret = pathlib.Path(directory) / "openai"
        secret.write_text("not a key\n")
        place = mounts["keys"]["mountPath"]
        file = pathlib.Path(directory) / "config.yaml"
        file.write_text(policy.replace(place, directory))
        check = subprocess.run([os.environ["TIDEGATE_BIN"], "check", "-c", file], text=True, capture_output=True)
    print(check.stdout, check.stderr, sep="", end="")
    print("kubernetes.yaml:", "ok" if check.returncode == 0 else "its policy is refused")
    return check.returncode


if __name__ == "__main__":
    sys.exit(main())
