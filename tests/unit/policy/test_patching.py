"""Patches in Kubernetes' three forms; the strategic results are what kubectl 1.32 makes."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylb.policy.patching import FORMS, PatchError, difference, json_patch, merge, patched

SERVICE: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "web"},
    "spec": {
        "selector": {"app": "web"},
        "ports": [{"port": 80, "targetPort": 8080, "name": "a"}, {"port": 81, "name": "b"}],
        "externalIPs": ["1.1.1.1", "2.2.2.2"],
    },
}
DEPLOYMENT: dict[str, Any] = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "web"},
    "spec": {
        "replicas": 1,
        "template": {
            "spec": {
                "containers": [
                    {"name": "nginx", "image": "nginx", "ports": [{"containerPort": 80}]}
                ]
            }
        },
    },
}


def spec(patch: Any, form: str = "strategic", body: dict[str, Any] = SERVICE) -> Any:
    before = copy.deepcopy(body)
    after = patched(body, patch, form)["spec"]
    assert body == before
    return after


def test_lists_with_a_key_are_merged_by_it_in_kubectls_order() -> None:
    ports = [{"port": 80, "nodePort": 30080}, {"port": 90, "name": "c"}]
    after = spec({"spec": {"ports": ports, "type": "NodePort"}})
    assert after["type"] == "NodePort"
    assert after["ports"] == [
        {"port": 80, "targetPort": 8080, "name": "a", "nodePort": 30080},
        {"port": 90, "name": "c"},
        {"port": 81, "name": "b"},
    ]
    after = spec({"spec": {"ports": [{"port": 90}, {"port": 81, "targetPort": 9}]}})
    assert [port["port"] for port in after["ports"]] == [90, 80, 81]


def test_other_lists_are_replaced() -> None:
    assert spec({"spec": {"externalIPs": ["3.3.3.3"]}})["externalIPs"] == ["3.3.3.3"]
    assert spec({"spec": {"ports": [{"port": 1}]}}, "merge")["ports"] == [{"port": 1}]


def test_directives() -> None:
    assert spec({"spec": {"ports": [{"port": 80, "$patch": "delete"}]}})["ports"] == [
        {"port": 81, "name": "b"}
    ]
    assert spec({"spec": {"ports": [{"$patch": "replace"}, {"port": 9}]}})["ports"] == [{"port": 9}]
    assert spec({"spec": {"selector": {"$patch": "replace", "x": "y"}}})["selector"] == {"x": "y"}
    assert spec({"spec": {"selector": {"$patch": "delete"}}})["selector"] == {}
    assert spec({"spec": {"selector": {"app": None, "x": "y"}}})["selector"] == {"x": "y"}


def test_lists_inside_lists() -> None:
    container = {
        "name": "nginx",
        "env": [{"name": "X", "value": "1"}],
        "ports": [{"containerPort": 81}, {"containerPort": 80, "name": "http"}],
    }
    pod = {"nodeSelector": {"a": "b"}, "containers": [container]}
    after = spec({"spec": {"replicas": 3, "template": {"spec": pod}}}, body=DEPLOYMENT)
    assert after["replicas"] == 3
    assert after["template"]["spec"] == {
        "nodeSelector": {"a": "b"},
        "containers": [
            {
                "name": "nginx",
                "image": "nginx",
                "env": [{"name": "X", "value": "1"}],
                "ports": [{"containerPort": 81}, {"containerPort": 80, "name": "http"}],
            }
        ],
    }


def test_json_patches() -> None:
    operations = [
        {"op": "test", "path": "/kind", "value": "Service"},
        {"op": "replace", "path": "/spec/ports/0/port", "value": 99},
        {"op": "add", "path": "/spec/ports/-", "value": {"port": 1}},
        {"op": "add", "path": "/spec/ports/0", "value": {"port": 2}},
        {"op": "remove", "path": "/spec/externalIPs/0"},
        {"op": "copy", "from": "/spec/selector", "path": "/spec/copied"},
        {"op": "move", "from": "/spec/selector/app", "path": "/spec/selector/a~1~0b"},
    ]
    after = spec(operations, "json")
    assert [port["port"] for port in after["ports"]] == [2, 99, 81, 1]
    assert after["externalIPs"] == ["2.2.2.2"]
    assert after["copied"] == {"app": "web"}
    assert after["selector"] == {"a/~b": "web"}
    assert json_patch({"a": 1}, [{"op": "replace", "path": "", "value": {"b": 2}}]) == {"b": 2}


@pytest.mark.parametrize(
    ("form", "patch", "message"),
    [
        ("strategic", [], "expected a mapping"),
        ("merge", "x", "expected a mapping"),
        ("json", {}, "expected a list of operations"),
        ("json", ["x"], "operation 0: expected a mapping with op and path"),
        ("json", [{"op": "drop", "path": "/a"}], "op 'drop': expected add"),
        ("json", [{"op": "add", "path": "/a"}], "its value is missing"),
        ("json", [{"op": "add", "path": "a", "value": 1}], "expected a pointer such as"),
        ("json", [{"op": "remove", "path": "/spec/nope"}], "there is no /spec/nope"),
        ("json", [{"op": "remove", "path": "/kind/x"}], "there is no /kind/x"),
        ("json", [{"op": "add", "path": "/kind/x", "value": 1}], "there is no /kind to add to"),
        ("json", [{"op": "remove", "path": "/spec/ports/7"}], "'7' is no index from 0 to 1"),
        ("json", [{"op": "remove", "path": "/spec/ports/-"}], "'-' is no index from 0 to 1"),
        ("json", [{"op": "test", "path": "/kind", "value": "X"}], "it is 'Service'"),
        ("json", [{"op": "remove", "path": ""}], "it leaves no object"),
        ("strategic", {"spec": {"ports": [{"name": "x"}]}}, "each element with its port"),
        ("strategic", {"spec": {"$patch": "wipe"}}, "expected merge, replace or delete"),
        ("strategic", {"$retainKeys": []}, "only $patch is known"),
        ("merge", {"metadata": {"name": "x"}}, "metadata.name cannot be changed"),
        ("merge", {"metadata": {"namespace": "x"}}, "metadata.namespace cannot be changed"),
        ("merge", {"kind": "Pod"}, "kind cannot be changed"),
    ],
)
def test_patches_that_cannot_be(form: str, patch: Any, message: str) -> None:
    body = copy.deepcopy(SERVICE)
    with pytest.raises(PatchError) as found:
        patched(body, patch, form)
    assert message in str(found.value)
    assert body == SERVICE


def test_a_custom_resource_knows_no_strategic_patch() -> None:
    lab = {"apiVersion": "pylb.io/v1alpha1", "kind": "Lab", "metadata": {"name": "lab"}}
    with pytest.raises(PatchError, match="a Lab knows no strategic patch: expected merge or json"):
        patched(lab, {}, "strategic")
    assert patched(lab, {"spec": {"scheduler": "rr"}}, "merge")["spec"] == {"scheduler": "rr"}


EXPOSED: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "web"},
    "spec": {
        "type": "LoadBalancer",
        "externalTrafficPolicy": "Local",
        "healthCheckNodePort": 32000,
        "allocateLoadBalancerNodePorts": True,
        "clusterIP": "10.96.0.9",
        "ports": [{"port": 80, "nodePort": 30080}, {"port": 81, "nodePort": 30081}],
    },
}


@pytest.mark.parametrize("form", [form for form in FORMS if form != "json"])
def test_a_service_loses_what_its_new_type_may_not_have(form: str) -> None:
    after = spec({"spec": {"type": "ClusterIP"}}, form, EXPOSED)
    assert after == {
        "type": "ClusterIP",
        "clusterIP": "10.96.0.9",
        "ports": [{"port": 80}, {"port": 81}],
    }
    after = spec({"spec": {"type": "NodePort"}}, form, EXPOSED)
    assert after["ports"] == EXPOSED["spec"]["ports"]
    assert after["externalTrafficPolicy"] == "Local"
    assert "healthCheckNodePort" not in after
    after = spec({"spec": {"externalTrafficPolicy": "Cluster"}}, form, EXPOSED)
    assert "healthCheckNodePort" not in after
    assert after["allocateLoadBalancerNodePorts"] is True
    after = spec({"spec": {"type": "ExternalName", "externalName": "x"}}, form, EXPOSED)
    assert "clusterIP" not in after


def test_a_service_without_affinity_loses_its_timeout() -> None:
    config = {"clientIP": {"timeoutSeconds": 60}}
    body = {**EXPOSED, "spec": {"sessionAffinity": "ClientIP", "sessionAffinityConfig": config}}
    assert spec({"spec": {"sessionAffinity": "None"}}, body=body) == {"sessionAffinity": "None"}


def test_what_the_patch_itself_sets_is_not_dropped() -> None:
    """It is then for validation to say that it may not be."""
    patch = {"spec": {"type": "ClusterIP", "ports": [{"port": 80, "nodePort": 31000}]}}
    after = spec(patch, body=EXPOSED)
    assert after["ports"] == [{"port": 80, "nodePort": 31000}, {"port": 81}]


_VALUES = st.recursive(
    st.integers(0, 2) | st.text("ab", max_size=1) | st.booleans(),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
    ),
    max_leaves=6,
)
_DOCUMENTS = st.dictionaries(st.sampled_from("abc"), _VALUES, max_size=3)


@given(_DOCUMENTS, _DOCUMENTS)
def test_the_difference_is_the_patch(before: dict[str, Any], after: dict[str, Any]) -> None:
    assert merge(before, difference(before, after)) == after
    assert difference(after, after) == {}
