"""`pylb get`, apply, delete and lab status."""

from __future__ import annotations

import json
import re
import socket
from pathlib import Path
from typing import Any

import pytest
import yaml

from pylb.cli import apply, common
from pylb.cli.kinds import KINDS
from pylb.cli.main import main
from pylb.cli.object_tables import human_duration
from pylb.cli.selector import selector
from pylb.control.http import HttpError, Request

from .conftest import Lab
from .objects import SERVICE, objects


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
        "NAME   READY   UP-TO-DATE   AVAILABLE   AGE   CONTAINERS   IMAGES   SELECTOR\n"
        "web    2/3     3            2           60s   c            nginx    app=web\n"
    )
    assert main(["get", "rs"]) == 0
    assert capsys.readouterr().out == (
        "NAME   DESIRED   CURRENT   READY   AGE\nidle   1         1         0       60s\n"
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
    assert main(["get", word, "--all-namespaces"]) == 0
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
        "pod/web-1",
        "service/web",
        "deployment.apps/web",
        "replicaset.apps/idle",
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


def test_labels_as_columns(cluster: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["get", "pods", "-L", "app,x.io/zone", "-L", "tier", "--show-labels"]) == 0
    assert capsys.readouterr().out == (
        "NAME    READY   STATUS    RESTARTS   AGE   LABELS    APP   ZONE   TIER\n"
        "web-1   1/1     Running   2          5h    app=web   web\n"
        "db      0/1     Running   2          5h    <none>\n"
    )


def test_sorted(cluster: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    def names(*words: str) -> list[str]:
        assert main(["get", *words, "-o", "jsonpath={.items[*].metadata.name}"]) == 0
        return capsys.readouterr().out.split()

    assert names("pods", "-A", "--sort-by=.metadata.name") == ["db", "web-1", "x"]
    assert names("pods", "-A", "--sort-by={.metadata.namespace}") == ["web-1", "db", "x"]
    # What does not have the field comes first, and the others as they came.
    assert names("pods", "-A", "--sort-by={.metadata.labels.app}") == ["db", "web-1", "x"]
    assert main(["get", "pods", "--sort-by={.metadata.name}", "--no-headers"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["db", "web-1"]
    assert main(["get", "pods", "--sort-by={.nope}"]) == 1
    assert capsys.readouterr() == (
        "",
        'pylb: couldn\'t find any field with path "{.nope}" in the list of objects\n',
    )
    assert main(["get", "pods", "-n", "empty", "--sort-by={.nope}"]) == 0
    assert main(["get", "pods", "--sort-by={.kind[0]}"]) == 1
    assert main(["get", "svc", "--sort-by=.spec.ports[0].port"]) == 0
    with pytest.raises(SystemExit):
        main(["get", "pods", "--sort-by={.a"])


def test_numbers_in_names_are_sorted_as_numbers(
    lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    numbers = {"web-10": 10, "web-9": 9, "app": None, "2": 9.5}
    pods = [{"metadata": {"name": name}, "n": number} for name, number in numbers.items()]
    lab.controller({"GET /objects": {"objects": pods}})
    assert main(["get", "pods", "--sort-by=.metadata.name", "-o", "name"]) == 0
    assert capsys.readouterr().out.split() == [
        f"pod/{name}" for name in ("2", "app", "web-9", "web-10")
    ]
    assert main(["get", "pods", "--sort-by=.n", "-o", "name"]) == 0
    assert capsys.readouterr().out.split() == ["pod/app", "pod/web-9", "pod/2", "pod/web-10"]


def test_kinds_with_names(cluster: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["get", "pod/web-1", "svc/web", "pod/nope", "-o", "name"]) == 1
    assert capsys.readouterr() == (
        "pod/web-1\nservice/web\n",
        'Error from server (NotFound): pods "nope" not found\n',
    )
    for wrong in (["pod/web-1", "web"], ["pods,svc", "web"], ["all/web"], ["pod/"]):
        assert main(["get", *wrong]) == 2
    assert main(["get", "deployments.apps", "-o", "name"]) == 0


def test_templates(cluster: Lab, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["get", "svc", "web", "-o", "jsonpath={.spec.ports[0].nodePort}"]) == 0
    assert capsys.readouterr().out == "30080"
    assert main(["get", "pods", "-A", "-o", "jsonpath={.items[*].metadata.name}"]) == 0
    assert capsys.readouterr().out == "web-1 db x"
    file = tmp_path / "template"
    file.write_text('{range .items[*]}{.metadata.name}{"\\n"}{end}\n')
    assert main(["get", "pods", "-o", f"jsonpath-file={file}"]) == 0
    assert capsys.readouterr().out == "web-1\ndb\n"
    columns = "custom-columns=POD:.metadata.name,APP:metadata.labels.app,IP:{.status.podIP}"
    assert main(["get", "pods", "-o", columns]) == 0
    assert capsys.readouterr().out == (
        "POD     APP      IP\nweb-1   web      10.244.1.2\ndb      <none>   10.244.1.2\n"
    )
    assert main(["get", "pods", "-o", "jsonpath={.items[9]}"]) == 1
    assert capsys.readouterr().err == "pylb: -o jsonpath: [9]: the list has 2 elements\n"
    assert main(["get", "pods", "-o", "custom-columns=X:.kind[0]"]) == 1
    assert capsys.readouterr().err.startswith("pylb: -o custom-columns: web-1: [0]: 'Pod' is not")


@pytest.mark.parametrize(
    ("format_", "message"),
    [
        ("xml", "expected one of wide, json, yaml, name, jsonpath=TEMPLATE"),
        ("json=x", "expected one of wide, json"),
        ("jsonpath", "expected one of wide, json"),
        ("jsonpath={.a", "a { is not closed"),
        ("jsonpath-file=/nowhere", "/nowhere: No such file"),
        ("custom-columns=NAME", "expected TITLE:PATH"),
        ("custom-columns=NAME:{.a", "is not part of a path"),
    ],
)
def test_formats_that_are_none(
    capsys: pytest.CaptureFixture[str], format_: str, message: str
) -> None:
    with pytest.raises(SystemExit) as end:
        main(["get", "pods", "-o", format_])
    assert end.value.code == 2
    assert message in capsys.readouterr().err


def test_what_is_not_there(cluster: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["get", "pod", "web-1", "nope"]) == 1
    out, err = capsys.readouterr()
    assert "web-1" in out
    assert err == 'Error from server (NotFound): pods "nope" not found\n'
    assert main(["get", "pods", "-n", "empty"]) == 0
    assert capsys.readouterr() == ("", "No resources found in empty namespace.\n")
    assert main(["get", "nodes", "-l", "no=such"]) == 0
    assert capsys.readouterr() == ("", "No resources found\n"), "nodes are in no namespace"
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
    for mixed in (["svc", "web", "svc/x"], ["svc/web", "x"]):
        for command in ("get", "delete"):
            assert main([command, *mixed]) == 2
            assert "KIND/NAME everywhere or nowhere" in capsys.readouterr().err
    assert main(["delete", "pod/a", "svc/b"]) == 0
    assert capsys.readouterr().out == 'pod "a" deleted\nservice "b" deleted\n'
    assert main(["delete", "svc", "nope", "--ignore-not-found"]) == 0
    capsys.readouterr()
    assert main(["delete", "all", "nope"]) == 1
    assert capsys.readouterr().err.splitlines() == [
        f'Error from server (NotFound): {kind} "nope" not found'
        for kind in ("pods", "services", "deployments.apps", "replicasets.apps")
    ]
    refs = lab.requests[-1].body["refs"]
    assert [(ref["kind"], ref["namespace"]) for ref in refs] == [
        ("Pod", "default"),
        ("Service", "default"),
        ("Deployment", "default"),
        ("ReplicaSet", "default"),
    ]
    for wrong in (["delete"], ["delete", "svc"], ["delete", "svc", "x", "-f", "y"]):
        assert main(wrong) == 2


def test_delete_by_label(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    def delete(request: Request) -> Any:
        return {"results": [{**ref, "action": "deleted"} for ref in request.body["refs"]]}

    lab.controller({"GET /objects": objects, "POST /delete": delete})
    assert main(["delete", "pods,svc", "-l", "app=web", "-A"]) == 0
    assert capsys.readouterr().out == 'pod "web-1" deleted\npod "x" deleted\n'
    assert main(["delete", "all", "--all"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        'pod "web-1" deleted',
        'pod "db" deleted',
        'service "web" deleted',
        'deployment.apps "web" deleted',
        'replicaset.apps "idle" deleted',
    ]
    asked = len(lab.requests)
    assert main(["delete", "pods", "-l", "app=nope"]) == 0
    assert capsys.readouterr() == ("", "No resources found\n")
    assert len(lab.requests) == asked + 1
    for wrong in (
        ["pod", "x", "-l", "a=b"],
        ["pod/x", "--all"],
        ["-l", "a=b"],
        ["-f", "x", "--all"],
        ["pod", "x", "-A"],
        ["pods", "-l", "a b"],
    ):
        assert main(["delete", *wrong]) == 2, wrong


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
