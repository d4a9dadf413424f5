"""`pylb create`, `run`, `expose`, `patch`, `scale`: what is sent and what is said."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from pylb.cli.main import main
from pylb.control.http import HttpError, Request
from pylb.policy.errors import Problem

from .conftest import Lab

WEB: dict[str, Any] = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "web", "namespace": "default", "labels": {"tier": "front"}},
    "spec": {
        "replicas": 2,
        "selector": {"matchLabels": {"app": "web"}},
        "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {
                "containers": [
                    {
                        "name": "c",
                        "image": "nginx",
                        "ports": [
                            {"containerPort": 80},
                            {"containerPort": 53},
                            {"containerPort": 53, "protocol": "UDP"},
                        ],
                    }
                ]
            },
        },
    },
}
POD: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "alone", "namespace": "default"},
    "spec": {"containers": [{"name": "c", "image": "pause"}]},
}
SERVICE: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "web", "namespace": "default"},
    "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "protocol": "TCP"}]},
}


class Cluster:
    """A controller that has some objects, and takes whatever it is sent."""

    def __init__(self, lab: Lab) -> None:
        self.objects = [WEB, POD]
        self.exists = False
        self.action = "patched"
        self.warnings: list[str] = []
        self.sent: list[tuple[str, Any]] = []
        lab.controller(
            {
                "GET /objects": self._objects,
                "POST /create": self._create,
                "POST /patch": self._patch,
                "POST /delete": self._delete,
            }
        )

    @property
    def last(self) -> Any:
        """The object that was sent to be created last."""
        path, body = self.sent[-1]
        assert path == "/create"
        return body["objects"][0]["body"]

    def _objects(self, request: Request) -> Any:
        kind, namespace = request.query["kind"], request.query.get("namespace", "default")
        spaces = {None, namespace}
        return {
            "objects": [
                o
                for o in self.objects
                if o["kind"] == kind and o["metadata"].get("namespace", "default") in spaces
            ]
        }

    def _create(self, request: Request) -> Any:
        self.sent.append(("/create", request.body))
        bodies = [each["body"] for each in request.body["objects"]]
        if not self.exists:
            self.objects += bodies
        action = "exists" if self.exists else "created"
        return {"results": [_result(b, action) for b in bodies], "warnings": self.warnings}

    def _patch(self, request: Request) -> Any:
        self.sent.append(("/patch", request.body))
        ref = request.body["ref"]
        known = [(o["kind"], o["metadata"]["name"]) for o in self.objects]
        action = self.action if (ref["kind"], ref["name"]) in known else "not found"
        return {"results": [{**ref, "action": action}], "warnings": self.warnings}

    def _delete(self, request: Request) -> Any:
        self.sent.append(("/delete", request.body))
        return {"results": [{**ref, "action": "deleted"} for ref in request.body["refs"]]}


def _result(body: Any, action: str) -> dict[str, str]:
    name, namespace = body["metadata"]["name"], body["metadata"].get("namespace", "default")
    return {"kind": body["kind"], "namespace": namespace, "name": name, "action": action}


@pytest.fixture
def cluster(lab: Lab) -> Cluster:
    return Cluster(lab)


def test_create_deployment(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    image = "registry.k8s.io/echoserver:1.10"
    command = ["create", "deployment", "source-ip-app", f"--image={image}"]
    assert main([*command, "--replicas=2", "--port=8080"]) == 0
    assert capsys.readouterr() == ("deployment.apps/source-ip-app created\n", "")
    # What `kubectl create deployment --dry-run=client` shows, less its empty fields.
    assert cluster.last == {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "source-ip-app", "labels": {"app": "source-ip-app"}},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app": "source-ip-app"}},
            "template": {
                "metadata": {"labels": {"app": "source-ip-app"}},
                "spec": {
                    "containers": [
                        {"name": "echoserver", "image": image, "ports": [{"containerPort": 8080}]}
                    ]
                },
            },
        },
    }
    idle = ["create", "deploy", "idle", "--image", "a/busy_box:1.28", "-n", "shop"]
    assert main([*idle, "--", "sleep", "--", "9"]) == 0
    assert cluster.last["metadata"]["namespace"] == "shop"
    assert cluster.last["spec"]["template"]["spec"]["containers"] == [
        {"name": "busy-box", "image": "a/busy_box:1.28", "command": ["sleep", "--", "9"]}
    ]
    two = ["create", "deployment", "two", "--image=a", "--image=b"]
    assert main(two) == 0
    assert main([*two, "--", "sleep"]) == 2


def test_an_object_of_the_command_line_has_no_file(cluster: Cluster) -> None:
    """Errors then begin with the object."""
    assert main(["create", "deployment", "web", "--image=nginx"]) == 0
    assert cluster.sent[-1][1]["objects"][0]["file"] == ""
    assert str(Problem("", 0, "Service default/web", "spec.ports", "expected at least one")) == (
        "Service default/web: spec.ports: expected at least one"
    )


def test_create_says_what_is_there_already(
    cluster: Cluster, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    cluster.exists = True
    assert main(["create", "deployment", "web", "--image=nginx"]) == 1
    assert capsys.readouterr() == (
        "",
        'Error from server (AlreadyExists): deployments.apps "web" already exists\n',
    )
    manifest = tmp_path / "web.yaml"
    manifest.write_text(yaml.safe_dump_all([SERVICE, POD]))
    assert main(["create", "-f", str(manifest)]) == 1
    assert capsys.readouterr().err.splitlines() == [
        'Error from server (AlreadyExists): services "web" already exists',
        'Error from server (AlreadyExists): pods "alone" already exists',
    ]
    cluster.exists, cluster.warnings = False, ["web.yaml: spec.x is not acted on"]
    assert main(["create", "-f", str(manifest)]) == 0
    assert capsys.readouterr() == (
        "service/web created\npod/alone created\n",
        "Warning: web.yaml: spec.x is not acted on\n",
    )
    assert main(["create"]) == 2
    assert main(["create", "-f", str(manifest), "deployment", "x", "--image=y"]) == 2


def test_a_lab_that_is_named_before_the_kind_counts(
    lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["create", "--lab", "other", "deployment", "x", "--image=nginx"]) == 1
    assert "no lab called 'other' is up" in capsys.readouterr().err


def test_dry_runs(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    """No lab needs to be up for them."""
    command = ["create", "deployment", "web", "--image=nginx", "--dry-run=client"]
    assert main(command) == 0
    assert capsys.readouterr().out == "deployment.apps/web created (dry run)\n"
    assert main([*command, "-o", "yaml"]) == 0
    out = capsys.readouterr().out
    assert yaml.safe_load(out)["metadata"]["name"] == "web"
    assert "&" not in out, "labels stand twice, and are written out twice as kubectl does"
    assert main([*command, "-o", "jsonpath={.spec.replicas}"]) == 0
    assert capsys.readouterr().out == "1"
    assert main(["run", "web", "--image=nginx", "--dry-run", "-o", "name"]) == 0
    assert capsys.readouterr().out == "pod/web\n"


def test_dry_runs_of_changes(
    cluster: Cluster, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """They look at what is there, and send nothing."""
    cluster.objects.append(SERVICE)
    command = ["patch", "svc", "web", "--dry-run=client", "-p"]
    assert main([*command, "spec: {type: NodePort}"]) == 0
    assert capsys.readouterr().out == "service/web patched (dry run)\n"
    assert main([*command, "spec: {type: NodePort}", "-o", "jsonpath={.spec.type}"]) == 0
    assert capsys.readouterr().out == "NodePort"
    assert main([*command, "spec: {selector: {app: web}}"]) == 0
    assert capsys.readouterr().out == "service/web patched (no change) (dry run)\n"
    assert main([*command, "kind: Pod"]) == 1
    assert capsys.readouterr().err.startswith("pylb: the patch: ")
    assert main(["patch", "svc", "nope", "--dry-run=client", "-p", "{}"]) == 1
    assert capsys.readouterr().err == 'Error from server (NotFound): services "nope" not found\n'
    assert main(["scale", "deploy/web", "--replicas=2", "--dry-run=client"]) == 0
    assert capsys.readouterr().out == "deployment.apps/web scaled (dry run)\n"
    manifest = tmp_path / "more.yaml"
    more = {**SERVICE, "metadata": {"name": "more"}}
    manifest.write_text(yaml.safe_dump_all([SERVICE, more]))
    assert main(["create", "-f", str(manifest), "--dry-run=client"]) == 0
    assert capsys.readouterr().out == (
        "service/web created (dry run)\nservice/more created (dry run)\n"
    )
    assert main(["apply", "-f", str(manifest), "--dry-run=client"]) == 0
    assert capsys.readouterr().out == (
        "service/web configured (dry run)\nservice/more created (dry run)\n"
    )
    assert main(["delete", "-f", str(manifest), "--dry-run=client"]) == 1
    assert capsys.readouterr() == (
        'service "web" deleted (dry run)\n',
        'Error from server (NotFound): services "more" not found\n',
    )
    assert main(["delete", "deploy", "--all", "--dry-run=client"]) == 0
    assert capsys.readouterr().out == 'deployment.apps "web" deleted (dry run)\n'
    assert cluster.sent == []


def test_a_manifest_of_nothing(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    for verb in ("apply", "create"):
        assert main([verb, "-f", "/dev/null"]) == 1
        assert capsys.readouterr() == ("", f"pylb: no objects passed to {verb}\n")
    assert main(["delete", "-f", "/dev/null"]) == 0
    assert capsys.readouterr() == ("", "No resources found\n")
    assert cluster.sent == []


def test_run(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "x", "--image=nginx", "--port=80", "--env=A=1=2", "--env=B="]) == 0
    assert capsys.readouterr().out == "pod/x created\n"
    assert cluster.last == {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "x", "labels": {"run": "x"}},
        "spec": {
            "containers": [
                {
                    "name": "x",
                    "image": "nginx",
                    "env": [{"name": "A", "value": "1=2"}, {"name": "B", "value": ""}],
                    "ports": [{"containerPort": 80}],
                }
            ]
        },
    }
    labels = ["--labels=app=web,tier=front", "-l", "x=y", "--annotations", "a=b"]
    rest = ["--restart=Never", "--", "sleep", "5"]
    assert main(["run", "y", "--image=busybox", *labels, *rest]) == 0
    assert cluster.last["metadata"] == {
        "name": "y",
        "labels": {"app": "web", "tier": "front", "x": "y"},
        "annotations": {"a": "b"},
    }
    assert cluster.last["spec"] == {
        "containers": [{"name": "y", "image": "busybox", "args": ["sleep", "5"]}],
        "restartPolicy": "Never",
    }
    assert main(["run", "z", "--image=busybox", "--command", "--", "sleep", "5"]) == 0
    assert cluster.last["spec"]["containers"][0]["command"] == ["sleep", "5"]
    overrides = '{"spec": {"nodeName": "node1"}}'
    assert main(["run", "on", "--image=nginx", "--overrides", overrides]) == 0
    assert cluster.last["spec"]["nodeName"] == "node1"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--labels=x"], "--labels 'x': expected KEY=VALUE"),
        (["--overrides=x"], "--overrides: not JSON"),
        (["--overrides=[]"], "--overrides: expected a mapping"),
        (["--rm"], "--rm goes with -i or -t"),
        (["-it", "-o", "yaml"], "-o goes with neither -i nor -t"),
    ],
)
def test_a_run_that_cannot_be(
    lab: Lab, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert main(["run", "x", "--image=nginx", *options]) == 2
    assert capsys.readouterr().err.startswith(f"pylb: {message}")


def test_run_attached(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command runs in the pod, which stays meanwhile, and the pod goes with it."""
    from pylb.lab import lifetime, names

    ran: list[list[str]] = []

    def call(argv: list[str]) -> int:
        ran.append(argv)
        return 3 if len(ran) == 1 else -2

    place = names.Place("busybox", "pylb-busybox", Path("/nowhere"), "busybox")
    monkeypatch.setattr(lifetime, "find_place", lambda lab, where: place)
    monkeypatch.setattr(subprocess, "call", call)
    command = ["run", "busybox", "--image=busybox:1.28", "-it", "--rm", "--restart=Never"]
    assert main([*command, "--", "wget", "-qO-", "http://web/"]) == 3
    assert capsys.readouterr() == ("", 'pod "busybox" deleted\n')
    assert ran[0][-4:] == ["--", "wget", "-qO-", "http://web/"]
    (path, created), (last, deleted) = cluster.sent
    assert (path, last) == ("/create", "/delete")
    container = created["objects"][0]["body"]["spec"]["containers"][0]
    assert container["command"] == ["sleep", "infinity"]
    ref = {"kind": "Pod", "namespace": "default", "name": "busybox"}
    assert deleted == {"refs": [ref]}
    assert main(["run", "b", "--image=busybox", "-i"]) == 130
    assert ran[1][-2:] == ["--", "sh"]
    assert cluster.sent[-1][0] == "/create"
    cluster.exists = True
    assert main(command) == 1
    assert len(ran) == 2


def test_expose(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--name=clusterip", "--port=80", "--target-port=8080"]
    assert main(["expose", "deployment", "web", *options]) == 0
    assert capsys.readouterr() == ("service/clusterip exposed\n", "")
    assert cluster.last == {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "clusterip", "labels": {"tier": "front"}},
        "spec": {
            "selector": {"app": "web"},
            "ports": [{"port": 80, "protocol": "TCP", "targetPort": 8080}],
        },
    }
    outside = ["--type=LoadBalancer", "--load-balancer-ip=1.2.3.4", "--session-affinity=ClientIP"]
    more = ["--external-ip=5.6.7.8", "--labels=a=b", "--selector=c=d", "--target-port=http"]
    assert main(["expose", "deploy/web", "--name=all", "--port=1", *outside, *more]) == 0
    assert cluster.last["metadata"]["labels"] == {"a": "b"}
    assert cluster.last["spec"] == {
        "selector": {"c": "d"},
        "ports": [{"port": 1, "protocol": "TCP", "targetPort": "http"}],
        "type": "LoadBalancer",
        "externalIPs": ["5.6.7.8"],
        "loadBalancerIP": "1.2.3.4",
        "sessionAffinity": "ClientIP",
    }


def test_what_is_exposed_says_its_ports(cluster: Cluster) -> None:
    assert main(["expose", "deployment", "web"]) == 0
    assert cluster.last["spec"]["ports"] == [
        {"name": "port-1", "port": 80, "protocol": "TCP", "targetPort": 80},
        {"name": "port-2", "port": 53, "protocol": "TCP", "targetPort": 53},
        {"name": "port-3", "port": 53, "protocol": "UDP", "targetPort": 53},
    ]
    assert main(["expose", "svc", "web", "--name=again"]) == 0
    assert [port["port"] for port in cluster.last["spec"]["ports"]] == [80, 53, 53]
    assert main(["expose", "deploy", "web", "--name=dns", "--port=53"]) == 0
    assert [p["protocol"] for p in cluster.last["spec"]["ports"]] == ["TCP", "UDP"]
    assert main(["expose", "deploy", "web", "--name=u", "--port=53", "--protocol=udp"]) == 0
    assert cluster.last["spec"]["ports"] == [{"port": 53, "protocol": "UDP", "targetPort": 53}]
    assert main(["expose", "deploy", "web", "--name=two", "--port=1,2"]) == 0
    assert [port["name"] for port in cluster.last["spec"]["ports"]] == ["port-1", "port-2"]


def test_what_cannot_be_exposed(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    for command, status, message in (
        (["deploy", "nope", "--port=1"], 1, "Error from server (NotFound): deployments.apps"),
        (["pod", "alone", "--port=1"], 1, "pylb: pod 'alone' selects no pods: give a --selector"),
        (["pod", "alone", "--selector=a=b"], 1, "pylb: pod 'alone' declares no port: give a --po"),
        (["node", "node1", "--port=1"], 2, "pylb: nodes cannot be exposed: expected one of deplo"),
        (["deploy", "--port=1"], 2, "pylb: expected one KIND NAME, or KIND/NAME"),
        (["deploy", "web", "--port=x"], 2, "pylb: --port 'x': expected numbers"),
    ):
        assert main(["expose", *command]) == status
        out, err = capsys.readouterr()
        assert (out, err[: len(message)]) == ("", message)
    cluster.exists = True
    assert main(["expose", "deploy", "web", "--port=1"]) == 1
    assert capsys.readouterr().err == (
        'Error from server (AlreadyExists): services "web" already exists\n'
    )


def test_patch(cluster: Cluster, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    cluster.objects.append(SERVICE)
    patch = {"spec": {"externalTrafficPolicy": "Local"}}
    assert main(["patch", "svc", "web", "-p", json.dumps(patch)]) == 0
    assert capsys.readouterr().out == "service/web patched\n"
    ref = {"kind": "Service", "namespace": "default", "name": "web"}
    wanted = {"ref": ref, "patch": patch, "type": "strategic"}
    assert cluster.sent[-1] == ("/patch", wanted)
    assert main(["patch", "svc/web", "--type=merge", "-p", "spec: {type: NodePort}"]) == 0
    assert cluster.sent[-1][1]["patch"] == {"spec": {"type": "NodePort"}}
    capsys.readouterr()
    file = tmp_path / "patch.yaml"
    file.write_text("- {op: remove, path: /spec/selector}\n")
    cluster.action, cluster.warnings = "unchanged", ["patch: it is of no use"]
    options = ["--type=json", "--patch-file", str(file)]
    assert main(["patch", "service", "web", *options]) == 0
    assert capsys.readouterr() == (
        "service/web patched (no change)\n",
        "Warning: patch: it is of no use\n",
    )
    assert main(["patch", "svc", "web", "-p", "{}", "-o", "jsonpath={.spec.ports[0].port}"]) == 0
    assert capsys.readouterr().out == "80"
    assert main(["patch", "node", "node9", "-p", "{}", "-n", "shop"]) == 1
    assert capsys.readouterr().err.endswith('(NotFound): nodes "node9" not found\n')
    assert cluster.sent[-1][1]["ref"]["namespace"] == ""
    assert main(["patch", "svc", "web", "-p", "{"]) == 2
    assert capsys.readouterr().err.startswith("pylb: -p: line 1: neither JSON nor YAML: ")
    assert main(["patch", "svc", "web", "-p", "type: [}"]) == 2
    assert capsys.readouterr().err.startswith("pylb: -p: line 1: neither JSON nor YAML: ")
    assert main(["patch", "svc", "web", "-p", "Local"]) == 2
    assert capsys.readouterr().err == "pylb: -p: expected a mapping or a list, got 'Local'\n"
    assert main(["patch", "svc", "-p", "{}"]) == 2
    assert main(["patch", "svc", "web", "--patch-file", str(tmp_path / "none")]) == 1


def test_a_patch_that_is_refused(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    def refuse(request: Request) -> Any:
        raise HttpError(422, "the patch: kind cannot be changed")

    lab.controller({"POST /patch": refuse})
    assert main(["patch", "svc", "web", "-p", '{"kind": "Pod"}']) == 1
    assert capsys.readouterr().err == "pylb: the patch: kind cannot be changed\n"


def test_scale(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["scale", "deployment", "web", "--replicas=3"]) == 0
    assert capsys.readouterr().out == "deployment.apps/web scaled\n"
    ref = {"kind": "Deployment", "namespace": "default", "name": "web"}
    wanted = {"ref": ref, "patch": {"spec": {"replicas": 3}}, "type": "merge"}
    assert cluster.sent[-1] == ("/patch", wanted)
    cluster.action = "unchanged"
    assert main(["scale", "deploy/web", "--replicas=2", "--current-replicas=2"]) == 0
    assert capsys.readouterr().out == "deployment.apps/web scaled\n"
    assert main(["scale", "deploy/web", "rs/nope", "--replicas=2"]) == 1
    assert capsys.readouterr() == (
        "deployment.apps/web scaled\n",
        'Error from server (NotFound): replicasets.apps "nope" not found\n',
    )
    assert main(["scale", "deploy/web", "--replicas=0", "--current-replicas=5"]) == 1
    assert capsys.readouterr().err == (
        "pylb: deployment.apps 'web': expected 5 replicas, there are 2\n"
    )
    asked = len(cluster.sent)
    assert main(["scale", "deploy/web", "--replicas=-1"]) == 2
    assert capsys.readouterr().err == "pylb: --replicas -1: expected 0 or more\n"
    assert len(cluster.sent) == asked
    assert main(["scale", "pod", "alone", "--replicas=2"]) == 2
    assert main(["scale", "deploy", "--replicas=2"]) == 2
