"""Every kind of bad Service gets a sentence that says where and what was expected.

What is bad Kubernetes' own validation says, on a cluster that has only IPv4; what it takes,
though nothing comes of it, is a warning.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.policy.cluster import GOOD, problems, store
from tests.unit.policy.manifests import service


def annotated(addresses: str, name: str = "s", **spec: object) -> str:
    """A load balancer that asks for addresses as MetalLB's users do."""
    about = f"{{name: {name}, annotations: {{metallb.io/loadBalancerIPs: '{addresses}'}}}}"
    return service(name, type="LoadBalancer", **spec).replace(f"{{name: {name}}}", about)


ANNOTATION = 'metadata.annotations["metallb.io/loadBalancerIPs"]'

BAD = {
    "a port that is no number": (
        service(ports=[{"port": "x"}]),
        "f1.yaml: document 1: Service default/s: spec.ports[0].port: "
        "expected a number from 1 to 65535, got 'x'",
    ),
    "no ports": (
        service(ports=[]),
        "f1.yaml: document 1: Service default/s: spec.ports: expected at least one port",
    ),
    "two ports without names": (
        service(ports=[{"port": 80, "name": "a"}, {"port": 81}]),
        "f1.yaml: document 1: Service default/s: spec.ports[1].name: "
        "is required when a Service has several ports",
    ),
    "a port twice": (
        service(ports=[{"port": 80, "name": "a"}, {"port": 80, "name": "b"}]),
        "f1.yaml: document 1: Service default/s: spec.ports[1].port: 80/TCP is there twice",
    ),
    "an unknown protocol": (
        service(ports=[{"port": 80, "protocol": "tcp"}]),
        "f1.yaml: document 1: Service default/s: spec.ports[0].protocol: "
        "expected one of TCP, UDP, SCTP, got 'tcp'",
    ),
    "an unknown type": (
        service(type="Cluster"),
        "f1.yaml: document 1: Service default/s: spec.type: expected one of ClusterIP, NodePort, "
        "LoadBalancer, ExternalName, got 'Cluster'",
    ),
    "a node port on a ClusterIP Service": (
        service(ports=[{"port": 80, "nodePort": 30000}]),
        "f1.yaml: document 1: Service default/s: spec.ports[0].nodePort: "
        "may only be set for a Service of type NodePort or LoadBalancer",
    ),
    "a node port out of range": (
        service(type="NodePort", ports=[{"port": 80, "nodePort": 80}]),
        "f1.yaml: document 1: Service default/s: spec.ports[0].nodePort: "
        "expected a number from 30000 to 32767, got 80",
    ),
    "Local on a ClusterIP Service": (
        service(externalTrafficPolicy="Local"),
        "f1.yaml: document 1: Service default/s: spec.externalTrafficPolicy: "
        "may not be set for a Service of type ClusterIP without externalIPs",
    ),
    "a node port that is another's health check port": (
        service("a", type="LoadBalancer", externalTrafficPolicy="Local", healthCheckNodePort=30001)
        + "---\n"
        + service("b", type="NodePort", ports=[{"port": 81, "nodePort": 30001}]),
        "f1.yaml: document 2: Service default/b: spec.ports[0].nodePort: "
        "30001 is Service default/a's already",
    ),
    "a health check port without policy Local": (
        service(type="LoadBalancer", healthCheckNodePort=30001),
        "f1.yaml: document 1: Service default/s: spec.healthCheckNodePort: "
        "may only be set for a Service of type LoadBalancer with externalTrafficPolicy Local",
    ),
    "a health check port out of range": (
        service(type="LoadBalancer", externalTrafficPolicy="Local", healthCheckNodePort=80),
        "f1.yaml: document 1: Service default/s: spec.healthCheckNodePort: "
        "expected a number from 30000 to 32767, got 80",
    ),
    "source ranges on a NodePort Service": (
        service(type="NodePort", loadBalancerSourceRanges=["10.0.0.0/8"]),
        "f1.yaml: document 1: Service default/s: spec.loadBalancerSourceRanges: "
        "may only be set for a Service of type LoadBalancer",
    ),
    "a source range that is none": (
        service(type="LoadBalancer", loadBalancerSourceRanges=["10.0.0.0/40"]),
        "f1.yaml: document 1: Service default/s: spec.loadBalancerSourceRanges[0]: "
        "expected an IPv4 prefix such as 10.0.0.0/8, got '10.0.0.0/40'",
    ),
    "a source range without a length": (
        service(type="LoadBalancer", loadBalancerSourceRanges=["10.0.0.1"]),
        "f1.yaml: document 1: Service default/s: spec.loadBalancerSourceRanges[0]: "
        "expected an IPv4 prefix such as 10.0.0.0/8, got '10.0.0.1'",
    ),
    "a source range with a netmask": (
        service(type="LoadBalancer", loadBalancerSourceRanges=["10.0.0.0/255.0.0.0"]),
        "f1.yaml: document 1: Service default/s: spec.loadBalancerSourceRanges[0]: "
        "expected an IPv4 prefix such as 10.0.0.0/8, got '10.0.0.0/255.0.0.0'",
    ),
    "node ports allocated for a Service that has none": (
        service(allocateLoadBalancerNodePorts=False),
        "f1.yaml: document 1: Service default/s: spec.allocateLoadBalancerNodePorts: "
        "may only be set for a Service of type LoadBalancer",
    ),
    "an affinity timeout of 0": (
        service(
            sessionAffinity="ClientIP", sessionAffinityConfig={"clientIP": {"timeoutSeconds": 0}}
        ),
        "f1.yaml: document 1: Service default/s: "
        "spec.sessionAffinityConfig.clientIP.timeoutSeconds: "
        "expected a number from 1 to 86400, got 0",
    ),
    "an affinity timeout above a day": (
        service(
            sessionAffinity="ClientIP",
            sessionAffinityConfig={"clientIP": {"timeoutSeconds": 86401}},
        ),
        "f1.yaml: document 1: Service default/s: "
        "spec.sessionAffinityConfig.clientIP.timeoutSeconds: "
        "expected a number from 1 to 86400, got 86401",
    ),
    "an unknown affinity": (
        service(sessionAffinity="Cookie"),
        "f1.yaml: document 1: Service default/s: spec.sessionAffinity: "
        "expected one of None, ClientIP, got 'Cookie'",
    ),
    "an unknown distribution of traffic": (
        service(trafficDistribution="Near"),
        "f1.yaml: document 1: Service default/s: spec.trafficDistribution: "
        "expected one of PreferClose, PreferSameZone, PreferSameNode, got 'Near'",
    ),
    "a headless NodePort Service": (
        service(type="NodePort", clusterIP="None"),
        "f1.yaml: document 1: Service default/s: spec.clusterIP: "
        "may not be None for a Service of type NodePort",
    ),
    "an ExternalName without a name": (
        service(type="ExternalName"),
        "f1.yaml: document 1: Service default/s: spec.externalName: is required",
    ),
    "a name for a Service that is not external": (
        service(externalName="example.com"),
        "f1.yaml: document 1: Service default/s: spec.externalName: "
        "may not be set for a Service of type ClusterIP",
    ),
    "a target port that is neither number nor name": (
        service(ports=[{"port": 80, "targetPort": "8080"}]),
        "f1.yaml: document 1: Service default/s: spec.ports[0].targetPort: "
        "expected a port number, or a name of at most 15 of a-z, 0-9 and - with a letter in it, "
        "got '8080'",
    ),
    "an external IP on loopback": (
        service(externalIPs=["127.0.0.1"]),
        "f1.yaml: document 1: Service default/s: spec.externalIPs[0]: may not be loopback: "
        "127.0.0.1",
    ),
    "an external IP that is a pod's": (
        service(externalIPs=["10.244.2.9"]),
        "f1.yaml: document 1: Service default/s: spec.externalIPs: "
        "10.244.2.9 is in podCIDR 10.244.2.0/24 of node node2",
    ),
    "an external IP that is the router's": (
        service(externalIPs=["192.168.50.254"]),
        "f1.yaml: document 1: Service default/s: spec.externalIPs: 192.168.50.254 is the router's",
    ),
    "an external IP of two Services": (
        service("a", externalIPs=["192.0.2.1"]) + "---\n" + service("b", externalIPs=["192.0.2.1"]),
        "f1.yaml: document 2: Service default/b: spec.externalIPs: "
        "192.0.2.1:80/TCP is Service default/a's already",
    ),
    "a balancer's address in the service CIDR": (
        service(type="LoadBalancer", loadBalancerIP="10.96.3.3"),
        "f1.yaml: document 1: Service default/s: spec.loadBalancerIP: "
        "10.96.3.3 is in the service CIDR 10.96.0.0/12",
    ),
    "a balancer's address that was given out in the service CIDR": (
        service(type="LoadBalancer", loadBalancerIP="192.0.2.1")
        + "status: {loadBalancer: {ingress: [{ip: 10.96.3.3}]}}\n",
        "f1.yaml: document 1: Service default/s: status.loadBalancer: "
        "10.96.3.3 is in the service CIDR 10.96.0.0/12",
    ),
    "a balancer's address that is none": (
        service(type="LoadBalancer", loadBalancerIP="192.0.2"),
        "f1.yaml: document 1: Service default/s: spec.loadBalancerIP: "
        "expected an IPv4 address, got '192.0.2'",
    ),
    "a balancer's address on loopback": (
        service(type="LoadBalancer", loadBalancerIP="127.0.0.9"),
        "f1.yaml: document 1: Service default/s: spec.loadBalancerIP: "
        "may not be loopback: 127.0.0.9",
    ),
    "a balancer's address of two Services": (
        service("a", type="LoadBalancer", loadBalancerIP="192.0.2.1")
        + "---\n"
        + service("b", type="LoadBalancer", loadBalancerIP="192.0.2.1"),
        "f1.yaml: document 2: Service default/b: spec.loadBalancerIP: "
        "192.0.2.1:80/TCP is Service default/a's already",
    ),
    # Regression: such addresses went unchecked, and others were said to be the status's.
    "a balancer's address in an annotation on loopback": (
        annotated("127.0.0.5,192.0.2.1"),
        f"f1.yaml: document 1: Service default/s: {ANNOTATION}: may not be loopback: 127.0.0.5",
    ),
    "a balancer's address in an annotation that is none": (
        annotated("192.0.2.1,x"),
        f"f1.yaml: document 1: Service default/s: {ANNOTATION}: expected an IPv4 address, got 'x'",
    ),
    "a balancer's address in an annotation and the service CIDR": (
        annotated("10.96.3.3"),
        f"f1.yaml: document 1: Service default/s: {ANNOTATION}: "
        "10.96.3.3 is in the service CIDR 10.96.0.0/12",
    ),
    "a balancer's address beside a proxy's that was given out": (
        service(type="LoadBalancer", loadBalancerIP="10.96.3.3")
        + "status: {loadBalancer: {ingress: [{ip: 192.0.2.1, ipMode: Proxy}]}}\n",
        "f1.yaml: document 1: Service default/s: spec.loadBalancerIP: "
        "10.96.3.3 is in the service CIDR 10.96.0.0/12",
    ),
    "a Service whose name begins with a digit": (
        service("1st"),
        "f1.yaml: document 1: Service default/1st: metadata.name: expected a DNS label that "
        "begins with a letter (a-z, 0-9, -; at most 63), got '1st'",
    ),
    "two ports of one name": (
        service(ports=[{"port": 80, "name": "a"}, {"port": 81, "name": "a"}]),
        "f1.yaml: document 1: Service default/s: spec.ports[1].name: 'a' is there twice",
    ),
    "a node port twice in one Service": (
        service(
            type="NodePort",
            ports=[
                {"port": 80, "name": "a", "nodePort": 30001},
                {"port": 81, "name": "b", "nodePort": 30001},
            ],
        ),
        "f1.yaml: document 1: Service default/s: spec.ports[1].nodePort: "
        "30001 is Service default/s's already",
    ),
    "a target port of -1": (
        service(ports=[{"port": 80, "targetPort": -1}]),
        "f1.yaml: document 1: Service default/s: spec.ports[0].targetPort: "
        "expected a number from 1 to 65535, got -1",
    ),
    "a policy in small letters": (
        service(type="NodePort", externalTrafficPolicy="local"),
        "f1.yaml: document 1: Service default/s: spec.externalTrafficPolicy: "
        "expected one of Cluster, Local, got 'local'",
    ),
    "an internal policy in small letters": (
        service(internalTrafficPolicy="local"),
        "f1.yaml: document 1: Service default/s: spec.internalTrafficPolicy: "
        "expected one of Cluster, Local, got 'local'",
    ),
    "Local on a Service that is a name": (
        service(type="ExternalName", externalName="x.example", externalTrafficPolicy="Local"),
        "f1.yaml: document 1: Service default/s: spec.externalTrafficPolicy: "
        "may not be set for a Service of type ExternalName",
    ),
    "affinity for a Service that is a name": (
        service(type="ExternalName", externalName="x.example", sessionAffinity="ClientIP"),
        "f1.yaml: document 1: Service default/s: spec.sessionAffinity: "
        "may not be ClientIP for a Service of type ExternalName",
    ),
    "an unknown scheduler of a Service": (
        service().replace("{name: s}", "{name: s, annotations: {pylb.io/scheduler: best}}"),
        "f1.yaml: document 1: Service default/s: "
        """metadata.annotations["pylb.io/scheduler"]: """
        "expected one of random, rr, wrr, lc, wlc, sh, mh, got 'best'",
    ),
    "an IPv6 Service": (
        service(ipFamilies=["IPv6"]),
        "f1.yaml: document 1: Service default/s: spec.ipFamilies: "
        "expected IPv4, for the cluster has no other, got IPv6",
    ),
    "a Service that needs both families": (
        service(ipFamilyPolicy="RequireDualStack"),
        "f1.yaml: document 1: Service default/s: spec.ipFamilyPolicy: "
        "may not be RequireDualStack: the cluster has only IPv4",
    ),
    "two cluster IPs": (
        service(clusterIP="10.96.0.8", clusterIPs=["10.96.0.8", "fd00::1"]),
        "f1.yaml: document 1: Service default/s: spec.clusterIPs: "
        "expected one, for the cluster has only IPv4, got 2",
    ),
    "cluster IPs that disagree": (
        service(clusterIP="10.96.0.7", clusterIPs=["10.96.0.8"]),
        "f1.yaml: document 1: Service default/s: spec.clusterIPs: "
        "its first entry must be clusterIP, 10.96.0.7",
    ),
    "an external IP that is nobody's ever": (
        service(externalIPs=["0.0.0.0"]),
        "f1.yaml: document 1: Service default/s: spec.externalIPs[0]: "
        "may not be unspecified: 0.0.0.0",
    ),
    "a link-local external IP": (
        service(externalIPs=["169.254.1.1"]),
        "f1.yaml: document 1: Service default/s: spec.externalIPs[0]: "
        "may not be link-local: 169.254.1.1",
    ),
    "a cluster IP that is none": (
        service(clusterIP="10.96.0"),
        "f1.yaml: document 1: Service default/s: spec.clusterIP: "
        "expected an IPv4 address, got '10.96.0'",
    ),
    "a cluster IP outside the service CIDR": (
        service(clusterIP="10.1.0.1"),
        "f1.yaml: document 1: Service default/s: spec.clusterIP: "
        "10.1.0.1 is outside the service CIDR 10.96.0.0/12",
    ),
    "two Services with one IP": (
        service("a", clusterIP="10.96.0.9") + "---\n" + service("b", clusterIP="10.96.0.9"),
        "f1.yaml: document 2: Service default/b: spec.clusterIP: "
        "10.96.0.9 is Service default/a's already",
    ),
    "two Services with one node port": (
        service("a", type="NodePort", ports=[{"port": 80, "nodePort": 30001}])
        + "---\n"
        + service("b", type="NodePort", ports=[{"port": 81, "nodePort": 30001}]),
        "f1.yaml: document 2: Service default/b: spec.ports[0].nodePort: "
        "30001 is Service default/a's already",
    ),
}


@pytest.mark.parametrize(("text", "sentence"), BAD.values(), ids=BAD)
def test_a_bad_service_is_told_by_file_document_object_and_field(
    text: str, sentence: str, tmp_path: Path
) -> None:
    assert problems(GOOD, text, folder=tmp_path) == [sentence]


def test_a_node_port_out_of_range_is_told_with_what_else_is_wrong(tmp_path: Path) -> None:
    ports = [{"port": 80, "nodePort": 29999}, {"port": 81, "nodePort": 32768}]
    found = problems(GOOD, service(type="NodePort", ports=ports), folder=tmp_path)
    assert [line.split(": ", 3)[-1] for line in found] == [
        "spec.ports[0].nodePort: expected a number from 30000 to 32767, got 29999",
        "spec.ports[1].nodePort: expected a number from 30000 to 32767, got 32768",
        "spec.ports[0].name: is required when a Service has several ports",
        "spec.ports[1].name: is required when a Service has several ports",
    ]


def test_an_affinity_timeout_without_affinity_is_a_warning(tmp_path: Path) -> None:
    text = service(sessionAffinityConfig={"clientIP": {"timeoutSeconds": 7}})
    (warning,) = store(GOOD, text, folder=tmp_path).warnings
    assert warning.endswith(
        "Service default/s: spec.sessionAffinityConfig: is not acted on: sessionAffinity is None"
    )


def test_what_is_empty_is_left_open(tmp_path: Path) -> None:
    empty = dict.fromkeys(
        ("type", "clusterIP", "loadBalancerIP", "externalTrafficPolicy", "sessionAffinity"), ""
    )
    port = {"port": 80, "targetPort": "", "protocol": "", "name": ""}
    text = service(ports=[port], internalTrafficPolicy="", **empty)
    made = store(GOOD, text, folder=tmp_path)
    plain = store(GOOD, service(), folder=tmp_path)
    assert made.policy.services["default", "s"] == plain.policy.services["default", "s"]


def test_a_port_of_0_is_left_open(tmp_path: Path) -> None:
    text = service(type="NodePort", ports=[{"port": 80, "targetPort": 0, "nodePort": 0}])
    port = store(GOOD, text, folder=tmp_path).policy.services["default", "s"].ports[0]
    assert (port.target_port, port.node_port) == (80, 30000)


WARNED = {
    "a target port name that no pod has": (
        service(selector={"app": "web"}, ports=[{"port": 80, "targetPort": "nope"}]),
        "spec.ports[0].targetPort: no selected pod has a TCP port of the name 'nope'",
    ),
    "a target port name of another protocol": (
        service(
            selector={"app": "web"},
            ports=[{"port": 80, "targetPort": "http", "protocol": "UDP"}],
        ),
        "spec.ports[0].targetPort: no selected pod has a UDP port of the name 'http'",
    ),
    "a balancer's address of a Service that is no balancer": (
        service(loadBalancerIP="192.0.2.1"),
        "spec.loadBalancerIP: is not acted on: only a Service of type LoadBalancer has one",
    ),
    "a balancer's address in an annotation too": (
        annotated("192.0.2.1", loadBalancerIP="192.0.2.2"),
        f"{ANNOTATION}: is not acted on: spec.loadBalancerIP is set",
    ),
    "external IPs of a headless Service": (
        service(clusterIP="None", externalIPs=["192.0.2.1"]),
        "spec.externalIPs: is not acted on: a Service without a cluster IP has no addresses",
    ),
}


@pytest.mark.parametrize(("text", "sentence"), WARNED.values(), ids=WARNED)
def test_what_kubernetes_takes_and_nothing_comes_of_is_a_warning(
    text: str, sentence: str, tmp_path: Path
) -> None:
    warnings = [
        w.partition("Service default/s: ")[2] for w in store(GOOD, text, folder=tmp_path).warnings
    ]
    assert warnings == [sentence]


def test_a_target_port_name_that_no_pod_has_makes_no_endpoint(tmp_path: Path) -> None:
    text = service(selector={"app": "web"}, ports=[{"port": 80, "targetPort": "nope"}])
    slices = store(GOOD, text, folder=tmp_path).policy.slices[("default", "s")]
    assert [each.ports for each in slices] == [()]
