"""kubernetes.yaml and its patch for GPUs: names meet, probes ask what there is, and the command runs."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from deploy.files import (
    CONTAINER,
    DEFAULTS,
    GPU_CONTAINER,
    GPU_POD,
    KUBERNETES,
    POD,
    README,
    ROOT,
    free_port,
    health_check,
    parsed,
    stages,
)
from serving.shop import make_recommender

from llmrec.serving.keys import new_key

PROBES = {kind: CONTAINER[f"{kind}Probe"] for kind in ("startup", "readiness", "liveness")}
both = pytest.mark.parametrize("container", [CONTAINER, GPU_CONTAINER], ids=["cpu", "gpu"])


def by_name(parts: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {part["name"]: part for part in parts}


def test_ports_lead_to_the_server() -> None:
    (port,) = CONTAINER["ports"]
    assert port["containerPort"] == DEFAULTS.port
    targets = {probe["httpGet"]["port"] for probe in PROBES.values()}
    targets.add(KUBERNETES["Service"]["spec"]["ports"][0]["targetPort"])
    targets.add(KUBERNETES["NetworkPolicy"]["spec"]["ingress"][0]["ports"][0]["port"])
    assert targets == {port["name"]}
    notes = KUBERNETES["Deployment"]["spec"]["template"]["metadata"]["annotations"]
    assert notes["prometheus.io/port"] == str(DEFAULTS.port)


def test_labels_meet() -> None:
    deployment, budget, policy = (KUBERNETES[k]["spec"] for k in ("Deployment", "PodDisruptionBudget", "NetworkPolicy"))
    selectors = [
        KUBERNETES["Service"]["spec"]["selector"],
        *(
            selector["matchLabels"]
            for selector in (
                deployment["selector"],
                budget["selector"],
                policy["podSelector"],
                POD["topologySpreadConstraints"][0]["labelSelector"],
            )
        ),
    ]
    assert all(selector == deployment["template"]["metadata"]["labels"] for selector in selectors)
    assert 0 < budget["minAvailable"] < deployment["replicas"]
    assert deployment["strategy"]["rollingUpdate"]["maxUnavailable"] == 0


@both
def test_there_is_time_to_finish_what_was_accepted(container: dict[str, Any]) -> None:
    before = CONTAINER["lifecycle"]["preStop"]["sleep"]["seconds"]
    grace = parsed(["serve", *container["args"]]).grace_s
    assert grace * 1000 >= DEFAULTS.timeout_ms, "a request may take as long"
    assert POD["terminationGracePeriodSeconds"] >= before + grace + 5


def test_only_a_dead_engine_gets_a_pod_killed() -> None:
    paths = {kind: probe["httpGet"]["path"] for kind, probe in PROBES.items()}
    assert paths == {"startup": "/ready", "readiness": "/ready", "liveness": "/health"}
    assert all(probe["timeoutSeconds"] <= probe["periodSeconds"] for probe in PROBES.values())


def test_a_pod_may_do_little() -> None:
    context, user = POD["securityContext"], int(stages("Dockerfile.cpu")[-1].last("USER").split(":")[0])
    assert (context["runAsNonRoot"], context["runAsUser"], context["fsGroup"]) == (True, user, user)
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert POD["automountServiceAccountToken"] is False
    assert CONTAINER["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    policy = KUBERNETES["NetworkPolicy"]["spec"]
    assert (policy["policyTypes"], policy["egress"]) == (["Ingress", "Egress"], [])
    assert "Secret" not in KUBERNETES, "a file in Git is no place for one"


def test_resources_are_limited_and_torch_knows() -> None:
    for kind in ("requests", "limits"):
        assert set(CONTAINER["resources"][kind]) == {"cpu", "memory"}
        assert set(GPU_CONTAINER["resources"][kind]) == {"cpu", "memory", "nvidia.com/gpu"}
    threads = by_name(CONTAINER["env"])["OMP_NUM_THREADS"]
    assert threads["valueFrom"] == {"resourceFieldRef": {"resource": "limits.cpu"}}


@both
def test_files_are_where_the_command_looks(container: dict[str, Any]) -> None:
    chosen = parsed(["serve", *container["args"]])
    volumes = by_name(POD["volumes"])
    mounts = {Path(mount["mountPath"]): mount for mount in CONTAINER["volumeMounts"]}
    assert {mount["name"] for mount in mounts.values()} == set(volumes)
    models, keys = mounts[chosen.model.parent], mounts[chosen.api_keys.parent]
    assert models["readOnly"]
    assert keys["readOnly"]
    claim = volumes[models["name"]]["persistentVolumeClaim"]["claimName"]
    assert claim == KUBERNETES["PersistentVolumeClaim"]["metadata"]["name"]
    secret = volumes[keys["name"]]["secret"]["secretName"]
    assert f"create secret generic {secret} --from-file={chosen.api_keys.name}=" in README
    assert chosen.admin_keys is None, "a change would reach one Pod of several"
    assert "emptyDir" in volumes[mounts[Path("/tmp")]["name"]]


def test_the_patch_changes_what_is_there() -> None:
    assert GPU_CONTAINER["name"] == CONTAINER["name"]
    cpu, gpu = (vars(parsed(["serve", *one["args"]])) for one in (CONTAINER, GPU_CONTAINER))
    assert {name for name in cpu if cpu[name] != gpu[name]} == {"engine"}
    added = set(by_name(GPU_POD["volumes"])) - set(by_name(POD["volumes"]))
    assert added == {mount["name"] for mount in GPU_CONTAINER["volumeMounts"]}


def test_the_command_serves_until_it_is_told_to_stop(tmp_path: Path) -> None:
    """The real arguments, with paths and addresses of this machine, as a process of its own."""
    make_recommender().save_pretrained(tmp_path / "shop")
    key, line = new_key("test")
    (tmp_path / "api_keys").write_text(f"{line}\n")
    port = free_port()
    words = " ".join(CONTAINER["args"])
    for there, here in (("/models", tmp_path), ("/etc/llmrec/keys", tmp_path), ("0.0.0.0", "127.0.0.1"), (8000, port)):
        assert str(there) in words
        words = words.replace(str(there), str(here))
    with subprocess.Popen(
        [sys.executable, "-m", "llmrec", "serve", *words.split()], env=environment(tmp_path), cwd=tmp_path
    ) as process:
        try:
            wait_for(port, process)
            assert health_check("Dockerfile.cpu", port) == 0
            assert {get(port, probe["httpGet"]["path"]) for probe in PROBES.values()} == {200}
            scraped = KUBERNETES["Deployment"]["spec"]["template"]["metadata"]["annotations"]["prometheus.io/path"]
            assert (get(port, scraped), get(port, scraped, key)) == (401, 200)
            assert get(port, "/admin/catalog", key) == 404
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=60) == 0
            assert health_check("Dockerfile.cpu", port) == 1
        finally:
            process.kill()


def environment(home: Path) -> dict[str, str]:
    """The image's, and what this machine needs to find Python and the checkout."""
    image = dict(word.split("=") for word in shlex.split(stages("Dockerfile.cpu")[-1].last("ENV")))
    return {**image, "PATH": os.environ["PATH"], "HOME": str(home), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    """Ask as the startup probe does, and give up when it would."""
    for _ in range(PROBES["startup"]["failureThreshold"] * PROBES["startup"]["periodSeconds"] * 10):
        assert process.poll() is None, "the server has ended"
        try:
            if get(port, PROBES["startup"]["httpGet"]["path"]) == 200:
                return
        except ConnectionRefusedError:
            time.sleep(0.1)
    pytest.fail("the server did not start in the time of its probe")


def get(port: int, path: str, key: str | None = None) -> int:
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path, headers={} if key is None else {"Authorization": f"Bearer {key}"})
        return connection.getresponse().status
    finally:
        connection.close()
