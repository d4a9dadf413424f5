"""Every kind of bad manifest gets a sentence that says where and what was expected."""

from __future__ import annotations

from pathlib import Path

import pytest

from pylb.policy.errors import ManifestError
from pylb.policy.objects import Ref, read
from pylb.policy.store import read_all
from tests.unit.policy.cluster import GOOD, objects, problems, store


def service(name: str = "s", **spec: object) -> str:
    fields = {"ports": [{"port": 80}], **spec}
    return f"apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {fields}\n"


def node(name: str, cidr: str, ip: str) -> str:
    return (
        f"apiVersion: v1\nkind: Node\nmetadata: {{name: {name}}}\nspec: {{podCIDR: {cidr}}}\n"
        f"status: {{addresses: [{{type: InternalIP, address: {ip}}}]}}\n"
    )


def pod(name: str, **spec: object) -> str:
    fields = {"nodeName": "node1", "containers": [{"name": "c", "image": "pause"}], **spec}
    return f"apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {fields}\n"


def with_ip(text: str, ip: str) -> str:
    return f"{text}status: {{podIP: {ip}}}\n"


PORT = {"port": "80", "protocol": "TCP"}
ADDRESS = {"addressMatcher": {"ip": "10.10.10.10", "toPorts": [PORT]}}


def redirect(frontend: object, to: object = (), name: str = "r") -> str:
    backend = {
        "localEndpointSelector": {"matchLabels": {"app": "web"}},
        "toPorts": list(to) or [PORT],  # type: ignore[call-overload]
    }
    spec = {"redirectFrontend": frontend, "redirectBackend": backend}
    about = f"kind: CiliumLocalRedirectPolicy\nmetadata: {{name: {name}}}\n"
    return f"apiVersion: cilium.io/v2\n{about}spec: {spec}\n"


def pool(addresses: list[str]) -> str:
    about = "apiVersion: metallb.io/v1beta1\nkind: IPAddressPool\nmetadata: {name: p}\n"
    return f"{about}spec: {{addresses: {addresses}}}\n"


def lab(spec: object) -> str:
    return f"apiVersion: pylb.io/v1alpha1\nkind: Lab\nspec: {spec}\n"


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
    "a pool inside another": (
        pool(["192.0.2.0/24"]) + "---\n" + pool(["192.0.2.9/32"]).replace("name: p", "name: q"),
        "f1.yaml: document 2: IPAddressPool default/q: spec.addresses: "
        "192.0.2.9-192.0.2.9 overlaps 192.0.2.0-192.0.2.255 of pool 'p'",
    ),
    "a pool that repeats itself": (
        pool(["192.0.2.0-192.0.2.9", "192.0.2.9-192.0.2.19"]),
        "f1.yaml: document 1: IPAddressPool default/p: spec.addresses: "
        "192.0.2.9-192.0.2.19 overlaps 192.0.2.0-192.0.2.9 of pool 'p'",
    ),
    "a pool of cluster IPs": (
        pool(["10.96.7.0/24"]),
        "f1.yaml: document 1: IPAddressPool default/p: spec.addresses: "
        "10.96.7.0-10.96.7.255 overlaps the service CIDR 10.96.0.0/12",
    ),
    "a pool of pods' addresses": (
        lab({"addressPools": [{"name": "a", "addresses": ["10.244.2.128/25"]}]}),
        "f1.yaml: document 1: Lab lab: spec.addressPools[0].addresses: "
        "10.244.2.128-10.244.2.255 overlaps podCIDR 10.244.2.0/24 of Node node2",
    ),
    "two pools of one name": (
        pool(["192.0.2.0/25"])
        + "---\n"
        + pool(["192.0.2.128/25"]).replace("name: p", "name: p, namespace: other"),
        "f1.yaml: document 2: IPAddressPool other/p: metadata.name: there is a pool 'p' already",
    ),
    "two redirections of one Service": (
        redirect({"serviceMatcher": {"serviceName": "web", "namespace": "default"}})
        + "---\n"
        + redirect({"serviceMatcher": {"serviceName": "web", "namespace": "default"}}, name="r2"),
        "f1.yaml: document 2: CiliumLocalRedirectPolicy default/r2: "
        "spec.redirectFrontend.serviceMatcher: "
        "is redirected by CiliumLocalRedirectPolicy default/r already",
    ),
    "a pool of nothing": (
        pool([]),
        "f1.yaml: document 1: IPAddressPool default/p: spec.addresses: expected at least one range",
    ),
    "a pool whose range ends before it begins": (
        pool(["192.0.2.9-192.0.2.1"]),
        "f1.yaml: document 1: IPAddressPool default/p: spec.addresses[0]: expected a range such "
        "as 10.0.0.0/24 or 10.0.0.10-10.0.0.20, got '192.0.2.9-192.0.2.1'",
    ),
    "a redirection of nothing": (
        redirect({}),
        "f1.yaml: document 1: CiliumLocalRedirectPolicy default/r: spec.redirectFrontend: "
        "expected addressMatcher or serviceMatcher",
    ),
    "a redirection of both": (
        redirect(ADDRESS | {"serviceMatcher": {"serviceName": "web", "namespace": "default"}}),
        "f1.yaml: document 1: CiliumLocalRedirectPolicy default/r: spec.redirectFrontend: "
        "addressMatcher and serviceMatcher may not both be set",
    ),
    "a redirection of a Service elsewhere": (
        redirect({"serviceMatcher": {"serviceName": "web", "namespace": "kube-system"}}),
        "f1.yaml: document 1: CiliumLocalRedirectPolicy default/r: "
        "spec.redirectFrontend.serviceMatcher.namespace: expected the policy's own, default",
    ),
    "a redirected port as a number": (
        redirect({"addressMatcher": {"ip": "10.10.10.10", "toPorts": [{**PORT, "port": 80}]}}),
        "f1.yaml: document 1: CiliumLocalRedirectPolicy default/r: "
        "spec.redirectFrontend.addressMatcher.toPorts[0].port: "
        'expected a port number as text, such as "8080", got 80',
    ),
    "several redirected ports without names": (
        redirect(
            {"addressMatcher": {"ip": "10.10.10.10", "toPorts": [PORT | {"name": "a"}, PORT]}},
            to=[PORT | {"name": "a"}],
        ),
        "f1.yaml: document 1: CiliumLocalRedirectPolicy default/r: "
        "spec.redirectFrontend.addressMatcher.toPorts[1].name: is required",
    ),
    "a redirection to another protocol": (
        redirect(ADDRESS, to=[PORT | {"protocol": "UDP"}]),
        "f1.yaml: document 1: CiliumLocalRedirectPolicy default/r: "
        "spec.redirectBackend.toPorts[0].protocol: expected the frontend's, TCP, got UDP",
    ),
    "an address redirected twice": (
        redirect(ADDRESS) + "---\n" + redirect(ADDRESS, name="r2"),
        "f1.yaml: document 2: CiliumLocalRedirectPolicy default/r2: "
        "spec.redirectFrontend.addressMatcher: "
        "10.10.10.10:80/TCP is CiliumLocalRedirectPolicy default/r's already",
    ),
    "a Service's address redirected": (
        service(clusterIP="10.96.0.9")
        + "---\n"
        + redirect({"addressMatcher": {"ip": "10.96.0.9", "toPorts": [PORT]}}),
        "f1.yaml: document 2: CiliumLocalRedirectPolicy default/r: "
        "spec.redirectFrontend.addressMatcher: 10.96.0.9:80/TCP is Service default/s's already",
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
    "a podCIDR that overlaps another": (
        node("node3", "10.244.1.128/25", "192.168.50.13"),
        "f1.yaml: document 1: Node node3: spec.podCIDR: "
        "10.244.1.128/25 overlaps 10.244.1.0/24 of Node node1",
    ),
    "a podCIDR that overlaps the underlay": (
        node("node3", "192.168.50.128/25", "192.168.50.13"),
        "f1.yaml: document 1: Node node3: spec.podCIDR: "
        "192.168.50.128/25 overlaps the underlay 192.168.50.0/24",
    ),
    "a podCIDR with host bits": (
        node("node3", "10.244.3.1/24", "192.168.50.13"),
        "f1.yaml: document 1: Node node3: spec.podCIDR: "
        "expected an IPv4 prefix such as 10.244.1.0/24, got '10.244.3.1/24'",
    ),
    "a podCIDR without room": (
        node("node3", "10.244.3.0/31", "192.168.50.13"),
        "f1.yaml: document 1: Node node3: spec.podCIDR: "
        "10.244.3.0/31 is too small: expected a prefix of at most 30 bits",
    ),
    "two nodes with one address": (
        node("node3", "10.244.3.0/24", "192.168.50.11"),
        "f1.yaml: document 1: Node node3: status.addresses: 192.168.50.11 is Node node1's already",
    ),
    "a node with the router's address": (
        node("node3", "10.244.3.0/24", "192.168.50.254"),
        "f1.yaml: document 1: Node node3: status.addresses: 192.168.50.254 is the router's already",
    ),
    "nodes that share no /24": (
        node("node3", "10.244.3.0/24", "192.168.51.13"),
        "<lab>: Lab: spec.underlay.subnet: no /24 holds every InternalIP "
        "(192.168.50.11, 192.168.50.12, 192.168.51.13): give one in a Lab document",
    ),
    "an unknown node": (
        pod("p", nodeName="node9"),
        "f1.yaml: document 1: Pod default/p: spec.nodeName: "
        "there is no node 'node9' (there are: node1, node2)",
    ),
    "a nodeSelector that nothing matches": (
        pod("p", nodeName="", nodeSelector={"zone": "z"}),
        "f1.yaml: document 1: Pod default/p: spec.nodeSelector: no node has the labels zone=z",
    ),
    "a pod IP outside its CIDR": (
        with_ip(pod("p"), "10.244.2.9"),
        "f1.yaml: document 1: Pod default/p: status.podIP: "
        "10.244.2.9 is outside podCIDR 10.244.1.0/24 of node node1",
    ),
    "a pod with the bridge's address": (
        with_ip(pod("p"), "10.244.1.1"),
        "f1.yaml: document 1: Pod default/p: status.podIP: "
        "10.244.1.1 is reserved: .0 is the tunnel end, .1 the bridge",
    ),
    "two pods with one IP": (
        with_ip(pod("p"), "10.244.1.9") + "---\n" + with_ip(pod("q"), "10.244.1.9"),
        "f1.yaml: document 2: Pod default/q: status.podIP: 10.244.1.9 is Pod default/p's already",
    ),
    "a pod named like a node": (
        pod("node1"),
        "f1.yaml: document 1: Pod default/node1: metadata.name: 'node1' is the name of a node",
    ),
    "a pod named client": (
        pod("client"),
        "f1.yaml: document 1: Pod default/client: metadata.name: "
        "'client' is the name of the lab's own",
    ),
    "a pod with a bad name": (
        pod("No_Name"),
        "f1.yaml: document 1: Pod default/No_Name: metadata.name: "
        "expected a DNS name (a-z, 0-9, -, .), got 'No_Name'",
    ),
    "a pod on the host's network": (
        pod("p", hostNetwork=True),
        "f1.yaml: document 1: Pod default/p: spec.hostNetwork: "
        "is not supported: the pod needs a network namespace of its own",
    ),
    "a pod without containers": (
        pod("p", containers=[]),
        "f1.yaml: document 1: Pod default/p: spec.containers: expected at least one container",
    ),
    "an unknown scheduler": (
        lab({"scheduler": "fast"}),
        "f1.yaml: document 1: Lab lab: spec.scheduler: "
        "expected one of random, rr, wrr, lc, wlc, sh, mh, got 'fast'",
    ),
    "a Maglev table whose size is no prime": (
        lab({"maglevTableSize": 65536}),
        "f1.yaml: document 1: Lab lab: spec.maglevTableSize: "
        "expected a prime, such as 65537, got 65536",
    ),
    "a weight that is none": (
        pod("p").replace("{name: p}", "{name: p, annotations: {pylb.io/weight: heavy}}"),
        "f1.yaml: document 1: Pod default/p: "
        """metadata.annotations["pylb.io/weight"]: """
        "expected a number from 0 to 65535, got 'heavy'",
    ),
    "an unknown overlay": (
        lab({"overlay": {"type": "gre"}}),
        "f1.yaml: document 1: Lab lab: spec.overlay.type: "
        "expected one of vxlan, udp, host-gw, got 'gre'",
    ),
    "a client outside the underlay": (
        lab({"underlay": {"client": "10.0.0.1"}}),
        "f1.yaml: document 1: Lab lab: spec.underlay.client: "
        "10.0.0.1 is outside the underlay 192.168.50.0/24",
    ),
    "the wrong API version": (
        "apiVersion: v2\nkind: Service\nmetadata: {name: s}\n",
        "f1.yaml: document 1: Service default/s: apiVersion: expected v1, got 'v2'",
    ),
    "no kind": (
        "apiVersion: v1\nmetadata: {name: s}\n",
        "f1.yaml: document 1: kind: expected the object's kind, such as Service",
    ),
    "no name": (
        "apiVersion: v1\nkind: Service\n",
        "f1.yaml: document 1: Service: metadata.name: expected the object's name",
    ),
    "not an object": (
        "just text\n",
        "f1.yaml: document 1: expected a Kubernetes object, got text",
    ),
    "not YAML": (
        "kind: [\n",
        "f1.yaml: line 2: not YAML: did not find expected node content",
    ),
    "a key that is there twice": (
        "kind: Service\nkind: Pod\n",
        "f1.yaml: line 2: not YAML: the key 'kind' is there twice",
    ),
    "an object that is there already": (
        pod("web-1"),
        "f1.yaml: document 1: Pod default/web-1: is there twice; "
        "it stands in f0.yaml, document 3 already",
    ),
    "an endpoint on loopback": (
        "apiVersion: v1\nkind: Endpoints\nmetadata: {name: ext}\n"
        "subsets: [{addresses: [{ip: 127.0.0.1}], ports: [{port: 80}]}]\n---\n" + service("ext"),
        "f1.yaml: document 1: Endpoints default/ext: endpoints: "
        "127.0.0.1 is not the address of an endpoint",
    ),
    "a slice of no Service": (
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: x}\n"
        "addressType: IPv4\nendpoints: []\nports: []\n",
        "f1.yaml: document 1: EndpointSlice default/x: "
        'metadata.labels["kubernetes.io/service-name"]: is required: the Service\'s name',
    ),
}


@pytest.mark.parametrize(("text", "sentence"), BAD.values(), ids=BAD)
def test_a_bad_manifest_is_told_by_file_document_object_and_field(
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


def test_the_good_cluster_is_good(tmp_path: Path) -> None:
    assert problems(GOOD, folder=tmp_path) == []
    assert store(GOOD, folder=tmp_path).warnings == ()


def test_all_problems_of_all_files_come_at_once(tmp_path: Path) -> None:
    bad = service(ports=[{"port": 0}], clusterIP="x") + "---\n" + pod("p", hostNetwork=True)
    found = problems(GOOD, bad, service("t", type="x"), folder=tmp_path)
    assert len(found) == 4
    assert [line.split(":")[0] for line in found] == ["f1.yaml", "f1.yaml", "f1.yaml", "f2.yaml"]


def test_one_kind_of_problem_does_not_hide_another(tmp_path: Path) -> None:
    """An object that cannot be read, a field that is wrong, and two that contradict each other."""
    mixed = service("a", clusterIP="10.96.0.9") + "---\n" + service("b", clusterIP="10.96.0.9")
    found = problems(GOOD, mixed, service("t", type="x"), folder=tmp_path)
    assert [line.split(": ")[-1] for line in found] == [
        "expected one of ClusterIP, NodePort, LoadBalancer, ExternalName, got 'x'",
        "10.96.0.9 is Service default/a's already",
    ]
    (tmp_path / "g0.yaml").write_text("kind: Pod\n")
    (tmp_path / "g1.yaml").write_text(service("t", type="x"))
    with pytest.raises(ManifestError) as error:
        read_all([tmp_path / "g0.yaml", tmp_path / "g1.yaml"])
    assert len(error.value.problems) == 2


def test_a_podcidr_can_be_used_up(tmp_path: Path) -> None:
    small = node("small", "10.244.3.0/30", "192.168.50.13")
    pods = [pod(name, nodeName="small") for name in ("a", "b")]
    assert problems(GOOD, small, *pods, folder=tmp_path) == [
        "f3.yaml: document 1: Pod default/b: spec.nodeName: "
        "podCIDR 10.244.3.0/30 of node small has no free address left"
    ]


def test_a_store_needs_a_node(tmp_path: Path) -> None:
    assert problems(service(), folder=tmp_path) == ["<policy>: expected at least one Node"]


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"none\.yaml: cannot be read: No such file"):
        read([tmp_path / "none.yaml"])


def test_a_folder_without_manifests(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"no file in it ends in \.yaml, \.yml, \.json"):
        read([tmp_path])


def test_a_bad_apply_leaves_the_store_as_it_was(tmp_path: Path) -> None:
    good = store(GOOD, folder=tmp_path)
    before = good.policy
    with pytest.raises(ManifestError):
        good.apply(objects(service("s", clusterIP="10.1.0.1"), folder=tmp_path))
    assert good.policy is before


def test_deleting_what_is_not_there(tmp_path: Path) -> None:
    good = store(GOOD, folder=tmp_path)
    with pytest.raises(ManifestError, match="Pod default/none: there is no such object"):
        good.delete([Ref("Pod", "default", "none")])


def test_a_node_that_pods_need_cannot_be_deleted(tmp_path: Path) -> None:
    good = store(GOOD, folder=tmp_path)
    with pytest.raises(ManifestError, match="there is no node 'node2'"):
        good.delete([Ref("Node", "", "node2")])


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


def test_one_bad_object_among_good_ones_changes_nothing(tmp_path: Path) -> None:
    before = store(GOOD, folder=tmp_path)
    policy = before.policy
    good, bad = service("good"), service("bad", externalTrafficPolicy="Local")
    for text in (f"{good}---\n{bad}", f"{bad}---\n{good}"):
        with pytest.raises(ManifestError):
            before.apply(objects(text, folder=tmp_path))
    assert before.policy is policy
    assert before.policy == store(GOOD, folder=tmp_path).policy
