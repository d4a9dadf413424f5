"""Manifests as tests write them: the objects of one sentence each, as YAML."""

from __future__ import annotations


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
