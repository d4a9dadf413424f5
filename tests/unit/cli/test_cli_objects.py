"""`pylb get`, apply, delete, service list, lab status and logs."""

from __future__ import annotations

import json
import re
import socket
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any

import pytest
import yaml

from pylb.cli import apply, common, get
from pylb.cli.kinds import KINDS
from pylb.cli.main import main
from pylb.cli.object_tables import human_duration
from pylb.cli.selector import selector
from pylb.control.http import HttpError, Request

from .conftest import Lab

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Clock(datetime):
    """Always `NOW`: ages do not depend on how long the tests have been running."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Clock:
        return cls.fromtimestamp(NOW.timestamp(), tz)


def ago(seconds: int) -> str:
    return (NOW - timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def pod(name: str, namespace: str = "default", ready: bool = True, **labels: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": labels,
            "creationTimestamp": ago(3600 * 5),
        },
        "spec": {"nodeName": "node1", "containers": [{"name": "c"}]},
        "status": {
            "phase": "Running",
            "podIP": "10.244.1.2",
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
            "containerStatuses": [{"name": "c", "ready": ready, "restartCount": 2}],
        },
    }


NODE = {
    "apiVersion": "v1",
    "kind": "Node",
    "metadata": {"name": "node1", "creationTimestamp": ago(86400 * 3 + 7200)},
    "spec": {"podCIDR": "10.244.1.0/24"},
    "status": {
        "addresses": [{"type": "InternalIP", "address": "192.168.0.1"}],
        "conditions": [{"type": "Ready", "status": "True"}],
        "nodeInfo": {"kubeletVersion": "pylb-0.1.0"},
    },
}

SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "web", "namespace": "default"},
    "spec": {
        "type": "NodePort",
        "clusterIP": "10.96.0.10",
        "selector": {"app": "web"},
        "ports": [
            {"port": 80, "protocol": "TCP", "nodePort": 30080},
            {"port": 53, "protocol": "UDP"},
        ],
    },
}

SLICE = {
    "apiVersion": "discovery.k8s.io/v1",
    "kind": "EndpointSlice",
    "addressType": "IPv4",
    "metadata": {"name": "web-abc", "namespace": "default", "creationTimestamp": ago(30)},
    "ports": [{"port": 8080}, {"port": 53}],
    "endpoints": [{"addresses": [f"10.244.1.{n}"]} for n in range(2, 7)],
}

OBJECTS = {
    "Node": [NODE],
    "Pod": [pod("web-1", app="web"), pod("db", ready=False), pod("x", "shop", app="web")],
    "Service": [SERVICE],
    "EndpointSlice": [SLICE],
    "Endpoints": [
        {
            "kind": "Endpoints",
            "metadata": {"name": "db", "namespace": "default"},
            "subsets": [
                {"addresses": [{"ip": "10.9.0.1"}, {"ip": "10.9.0.2"}], "ports": [{"port": 5432}]}
            ],
        }
    ],
    "Deployment": [
        {
            "kind": "Deployment",
            "metadata": {"name": "web", "namespace": "default", "creationTimestamp": ago(60)},
            "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}}},
        }
    ],
    "ReplicaSet": [],
    "Lab": [
        {
            "kind": "Lab",
            "metadata": {"name": "lab", "creationTimestamp": ago(60)},
            "spec": {
                "overlay": {"type": "udp"},
                "underlay": {"subnet": "192.168.0.0/24"},
                "serviceCIDR": "10.96.0.0/12",
            },
        }
    ],
}


def objects(request: Request) -> dict[str, Any]:
    found = OBJECTS[request.query["kind"]]
    namespace = request.query.get("namespace")
    if namespace is not None:
        found = [o for o in found if o["metadata"]["namespace"] == namespace]
    return {"objects": found}


@pytest.fixture
def cluster(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Lab:
    monkeypatch.setattr(get, "datetime", Clock)
    lab.controller({"GET /objects": objects})
    return lab


def test_pods(cluster: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["get", "pods"]) == 0
    assert capsys.readouterr().out == (
        "NAME    READY   STATUS    RESTARTS   AGE\n"
        "web-1   1/1     Running   2          5h\n"
        "db      0/1     Running   2          5h\n"
    )
    assert main(["get", "po", "web-1", "-o", "wide"]) == 0
    assert capsys.readouterr().out == (
        "NAME    READY   STATUS    RESTARTS   AGE   IP           NODE\n"
        "web-1   1/1     Running   2          5h    10.244.1.2   node1\n"
    )
    assert main(["get", "pods", "-A", "-l", "app=web", "--no-headers"]) == 0
    assert [line.split()[:2] for line in capsys.readouterr().out.splitlines()] == [
        ["default", "web-1"],
        ["shop", "x"],
    ]


def test_nodes_services_slices(cluster: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["get", "no", "-o", "wide"]) == 0
    assert capsys.readouterr().out == (
        "NAME    STATUS   ROLES    AGE    VERSION      INTERNAL-IP   POD-CIDR\n"
        "node1   Ready    <none>   3d2h   pylb-0.1.0   192.168.0.1   10.244.1.0/24\n"
    )
    assert main(["get", "svc", "-o", "wide"]) == 0
    assert capsys.readouterr().out == (
        "NAME   TYPE       CLUSTER-IP   EXTERNAL-IP   PORT(S)               AGE         SELECTOR\n"
        "web    NodePort   10.96.0.10   <none>        80:30080/TCP,53/UDP   <unknown>   app=web\n"
    )
    assert main(["get", "eps"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["NAME", "ADDRESSTYPE", "PORTS", "ENDPOINTS", "AGE"]
    assert lines[1].startswith(
        "web-abc   IPv4          8080,53   10.244.1.2,10.244.1.3,10.244.1.4 + 2 more...   30s"
    )


def test_the_other_kinds(cluster: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["get", "ep"]) == 0
    assert capsys.readouterr().out == (
        "NAME   ENDPOINTS                     AGE\ndb     10.9.0.1:5432,10.9.0.2:5432   <unknown>\n"
    )
    assert main(["get", "deploy", "-o", "wide"]) == 0
    assert capsys.readouterr().out == (
        "NAME   DESIRED   AGE   SELECTOR\nweb    3         60s   app=web\n"
    )
    assert main(["get", "labs"]) == 0
    assert capsys.readouterr().out == (
        "NAME   OVERLAY   UNDERLAY         SERVICE-CIDR   AGE\n"
        "lab    udp       192.168.0.0/24   10.96.0.0/12   60s\n"
    )


@pytest.mark.parametrize("word", ["all", *(kind.plural for kind in KINDS)])
def test_whatever_get_knows_delete_knows(
    cluster: Lab, capsys: pytest.CaptureFixture[str], word: str
) -> None:
    assert main(["get", word]) == 0
    capsys.readouterr()
    assert main(["delete", word]) == 2
    assert "expected a NAME" in capsys.readouterr().err


def test_a_controller_that_hangs_is_one_sentence(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A stopped controller's socket still takes connections, and nothing ever comes."""
    monkeypatch.setattr(common, "READ", 0.05)
    lab.paths.root.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as stopped:
        stopped.bind(str(lab.paths.api))
        stopped.listen()
        for command in (["get", "pods"], ["lab", "status"], ["logs", "-l", "app=web"]):
            assert main(command) == 1
            assert capsys.readouterr().err == (
                f"pylb: the controller of lab 'pylb' at {lab.paths.api} did not answer "
                "within 0.05 s\n"
            )


def test_all_and_names(cluster: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["get", "all"]) == 0
    tables = capsys.readouterr().out.split("\n\n")
    assert [t.splitlines()[1].split()[0] for t in tables] == [
        "node/node1",
        "pod/web-1",
        "service/web",
    ]
    assert main(["get", "pods,eps", "-o", "name"]) == 0
    assert capsys.readouterr().out.split() == [
        "pod/web-1",
        "pod/db",
        "endpointslice.discovery.k8s.io/web-abc",
    ]


def test_documents(cluster: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["get", "svc", "web", "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == SERVICE
    assert main(["get", "svc", "web", "-o", "yaml"]) == 0
    assert yaml.safe_load(capsys.readouterr().out) == SERVICE
    assert main(["get", "svc", "-o", "yaml"]) == 0
    assert yaml.safe_load(capsys.readouterr().out) == {
        "apiVersion": "v1",
        "kind": "List",
        "items": [SERVICE],
    }


def test_what_is_not_there(cluster: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["get", "pod", "web-1", "nope"]) == 1
    out, err = capsys.readouterr()
    assert "web-1" in out
    assert err == 'Error from server (NotFound): pods "nope" not found\n'
    assert main(["get", "pods", "-n", "empty"]) == 0
    assert capsys.readouterr() == ("", "No resources found in empty namespace\n")
    assert main(["get", "secrets"]) == 2
    assert capsys.readouterr().err.startswith("pylb: 'secrets' is no kind of object: expected one")
    assert main(["get", "pods", "-l", "a b"]) == 2
    assert capsys.readouterr().err.startswith("pylb: -l: 'a b' is no label selector")


def test_a_controller_that_is_gone(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["get", "pods"]) == 1
    assert capsys.readouterr().err == (
        "pylb: no lab called 'pylb' is up: start one with `pylb lab up`\n"
    )
    lab.paths.root.mkdir(parents=True)
    assert main(["get", "pods"]) == 1
    assert capsys.readouterr().err == (
        f"pylb: no controller of lab 'pylb' answers at {lab.paths.api}: is it running?\n"
    )


class Raw:
    """What `pylb.policy.objects.read` gives, as far as the command line looks."""

    def __init__(self, kind: str, name: str) -> None:
        self.file, self.document, self.kind, self.namespace, self.name = "f", 1, kind, "", name
        self.body = {"kind": kind, "metadata": {"name": name}}


@pytest.fixture
def manifests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apply, "read_manifests", lambda files: [Raw("Service", f) for f in files])


@pytest.mark.usefixtures("manifests")
def test_apply(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    result = {"kind": "Service", "namespace": "default", "name": "web", "action": "created"}
    lab.controller({"POST /apply": {"results": [result], "warnings": ["f: spec.x is ignored"]}})
    assert main(["apply", "-f", "web"]) == 0
    assert capsys.readouterr() == ("service/web created\n", "Warning: f: spec.x is ignored\n")
    sent = {"file": "f", "document": 1, "body": Raw("Service", "web").body}
    assert lab.requests[-1].body == {"objects": [sent]}


@pytest.mark.usefixtures("manifests")
def test_every_problem_of_a_manifest_is_a_line(
    lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(request: Request) -> Any:
        raise HttpError(422, "not applied", ["f: Service web: spec.ports: expected", "f: other"])

    lab.controller({"POST /apply": refuse})
    assert main(["apply", "-f", "web"]) == 1
    assert capsys.readouterr() == (
        "",
        "pylb: f: Service web: spec.ports: expected\npylb: f: other\n",
    )


def test_of_several_kinds_one_is_enough(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    def delete(request: Request) -> Any:
        refs = request.body["refs"]
        return {
            "results": [
                {**r, "action": "deleted" if r["kind"] == "Pod" else "not found"} for r in refs
            ]
        }

    lab.controller({"POST /delete": delete})
    assert main(["delete", "all", "web"]) == 0
    assert capsys.readouterr() == ('pod "web" deleted\n', "")
    assert main(["delete", "pods,svc", "web"]) == 0


@pytest.mark.usefixtures("manifests")
def test_delete(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    def delete(request: Request) -> Any:
        refs = request.body["refs"]
        gone = [{**r, "action": "notfound" if r["name"] == "nope" else "deleted"} for r in refs]
        return {"results": gone}

    lab.controller({"POST /delete": delete})
    assert main(["delete", "-f", "web"]) == 0
    assert capsys.readouterr().out == 'service "web" deleted\n'
    assert main(["delete", "svc", "web", "nope", "-n", "shop"]) == 1
    assert capsys.readouterr() == (
        'service "web" deleted\n',
        'Error from server (NotFound): services "nope" not found\n',
    )
    assert lab.requests[-1].body["refs"][0] == {
        "kind": "Service",
        "namespace": "shop",
        "name": "web",
    }
    assert main(["delete", "pod/a", "svc/b"]) == 0
    assert capsys.readouterr().out == 'pod "a" deleted\nservice "b" deleted\n'
    assert main(["delete", "svc", "nope", "--ignore-not-found"]) == 0
    capsys.readouterr()
    assert main(["delete", "all", "nope"]) == 1
    assert capsys.readouterr().err.splitlines() == [
        f'Error from server (NotFound): {kind} "nope" not found'
        for kind in ("nodes", "pods", "services")
    ]
    refs = lab.requests[-1].body["refs"]
    assert [(ref["kind"], ref["namespace"]) for ref in refs] == [
        ("Node", ""),
        ("Pod", "default"),
        ("Service", "default"),
    ]
    for wrong in (["delete"], ["delete", "svc"], ["delete", "svc", "x", "-f", "y"]):
        assert main(wrong) == 2


PLAN = {
    "frontends": [
        {
            "address": "10.96.0.10",
            "port": 80,
            "protocol": 6,
            "kind": "CLUSTER_IP",
            "service": "default/web:http",
            "backends": [
                {"address": "10.244.1.2", "port": 8080, "state": "ACTIVE"},
                {"address": "10.244.2.2", "port": 8080, "state": "DRAINING"},
            ],
        },
        {
            "address": "192.168.0.1",
            "port": 30053,
            "protocol": 17,
            "kind": "NODE_PORT",
            "service": "default/dns",
            "backends": [],
        },
    ]
}


def test_service_list(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    lab.daemon("node1", {"GET /plan": PLAN})
    assert main(["service", "list"]) == 0
    assert capsys.readouterr().out == (
        "ID   Frontend                Service Type   Backend\n"
        "1    10.96.0.10:80/TCP       ClusterIP      1 => 10.244.1.2:8080/TCP (active)\n"
        "                                            2 => 10.244.2.2:8080/TCP (draining)\n"
        "2    192.168.0.1:30053/UDP   NodePort\n"
    )
    assert main(["service", "list", "-o", "json"]) == 0
    (document,) = json.loads(capsys.readouterr().out)
    assert document["node"] == "node1"
    assert document["services"][1] == {
        "id": 2,
        "frontend": "192.168.0.1:30053/UDP",
        "type": "NodePort",
        "service": "default/dns",
        "backends": [],
    }
    assert main(["service", "list", "-o", "yaml"]) == 0
    assert yaml.safe_load(capsys.readouterr().out) == [document]


def test_lab_status(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    node = {"name": "node1", "ip": "192.168.0.1", "podCIDR": "10.244.1.0/24"}
    place = {"node": "node1", "ip": "10.244.1.2"}
    status = {
        "lab": "pylb",
        "dataplane": "python",
        "overlay": "vxlan",
        "generation": 3,
        "nodes": [
            {**node, "generation": 3, "daemon": "running", "pid": 42},
            {**node, "name": "node2", "generation": 2, "daemon": "down", "pid": None},
        ],
        "pods": [
            {**place, "namespace": "default", "name": "a", "ready": True, "restarts": 0},
            {**place, "namespace": "shop", "name": "b", "ready": False, "restarts": 2},
        ],
    }
    lab.controller({"GET /status": status})
    assert main(["lab", "status"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(
        "lab pylb: dataplane python, overlay vxlan, generation 3, 1 of 2 pods ready\n\nNODE "
    )
    assert [line.split() for line in out.splitlines()[3:]] == [
        ["node1", "192.168.0.1", "10.244.1.0/24", "running", "42", "3"],
        ["node2", "192.168.0.1", "10.244.1.0/24", "down", "<none>", "2"],
        [],
        ["NAME", "NODE", "IP", "READY", "RESTARTS"],
        ["a", "node1", "10.244.1.2", "yes", "0"],
        ["shop/b", "node1", "10.244.1.2", "no", "2"],
    ]
    assert main(["lab", "status", "-o", "yaml"]) == 0
    assert yaml.safe_load(capsys.readouterr().out) == status
    assert main(["lab", "status", "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == status


def write_log(lab: Lab, name: str, text: str) -> Path:
    log = lab.paths.workload(name) / "log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text(text)
    return log


def test_logs(cluster: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    write_log(cluster, "default.web-1", "one\ntwo\nthree")
    write_log(cluster, "internet", "hello\n")
    assert main(["logs", "web-1"]) == 0
    assert capsys.readouterr().out == "one\ntwo\nthree"
    assert main(["logs", "web-1", "--tail", "2"]) == 0
    assert capsys.readouterr().out == "two\nthree"
    assert main(["logs", "web-1", "--tail", "0"]) == 0
    assert capsys.readouterr().out == ""
    assert main(["logs", "internet"]) == 0
    assert capsys.readouterr().out == "hello\n"
    assert main(["logs", "-l", "app=web", "--prefix"]) == 0
    assert capsys.readouterr().out == "[pod/web-1] one\n[pod/web-1] two\n[pod/web-1] three"
    assert main(["logs", "nope"]) == 1
    assert capsys.readouterr().err == (
        "pylb: lab 'pylb' has no pod 'nope' in namespace 'default'\n"
    )
    assert main(["logs", "-l", "app=nope"]) == 1
    assert main(["logs"]) == 2
    assert main(["logs", "../../etc"]) == 1


def test_following_a_log(cluster: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    from pylb.cli.logs import Reader

    log = write_log(cluster, "default.web-1", "old\nnew\n")
    reader = Reader(log, "")
    reader.start(1)
    assert capsys.readouterr().out == "new\n"
    assert not reader.forward()
    with log.open("a") as more:
        more.write("a\nb")
    assert reader.forward()
    with log.open("a") as more:
        more.write("c\n")
    assert reader.forward()
    assert capsys.readouterr().out == "a\nbc\n"
    log.unlink()
    assert not reader.forward()
    write_log(cluster, "default.web-1", "again\n")
    assert reader.forward()
    assert capsys.readouterr().out == "again\n"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0s"),
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (150, "2m30s"),
        (3600, "60m"),
        (3 * 3600, "3h"),
        (5 * 3600 + 720, "5h12m"),
        (9 * 3600 + 720, "9h"),
        (49 * 3600, "2d1h"),
        (30 * 86400, "30d"),
        (800 * 86400, "2y70d"),
    ],
)
def test_ages(seconds: int, text: str) -> None:
    assert human_duration(seconds) == text


@pytest.mark.parametrize(
    ("text", "yes"),
    [
        ("", True),
        ("a=b", True),
        ("a==b,c!=x", True),
        ("a!=b", False),
        ("a", True),
        ("!a", False),
        ("!z,z!=1", True),
        ("a in (x, b),c notin (q)", True),
        ("a notin (b)", False),
        ("k8s.io/x-y=1", False),
    ],
)
def test_selectors(text: str, yes: bool) -> None:
    assert selector(text)({"a": "b", "c": "d"}) is yes


@pytest.mark.parametrize("text", ["a b", "=b", "a in b", "a=b=c"])
def test_wrong_selectors(text: str) -> None:
    with pytest.raises(ValueError, match=re.escape("is no label selector")):
        selector(text)
