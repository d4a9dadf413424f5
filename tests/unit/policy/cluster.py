"""A small good cluster in YAML, and ways to spoil it."""

from __future__ import annotations

import textwrap
from pathlib import Path

from pylb.policy.errors import ManifestError
from pylb.policy.objects import RawObject, read
from pylb.policy.store import Store

GOOD = """
apiVersion: v1
kind: Node
metadata: {name: node1, labels: {zone: a}}
spec: {podCIDR: 10.244.1.0/24}
status: {addresses: [{type: InternalIP, address: 192.168.50.11}]}
---
apiVersion: v1
kind: Node
metadata: {name: node2}
spec: {podCIDR: 10.244.2.0/24}
status: {addresses: [{type: Hostname, address: node2}, {type: InternalIP, address: 192.168.50.12}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web-1, labels: {app: web}}
spec:
  nodeName: node1
  containers: [{name: c, image: nginx, ports: [{name: http, containerPort: 8080}]}]
---
apiVersion: v1
kind: Pod
metadata: {name: web-2, labels: {app: web}}
spec:
  nodeName: node2
  containers: [{name: c, image: nginx, ports: [{name: http, containerPort: 9090}]}]
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {app: web}
  ports: [{port: 80, targetPort: http}]
"""


def objects(*texts: str, folder: Path) -> list[RawObject]:
    """Write each text to a file of its own and read them all."""
    paths = []
    for i, text in enumerate(texts):
        path = folder / f"f{i}.yaml"
        path.write_text(textwrap.dedent(text))
        paths.append(path)
    return read(paths)


def store(*texts: str, folder: Path) -> Store:
    return Store.empty().apply(objects(*texts, folder=folder))


def problems(*texts: str, folder: Path) -> list[str]:
    """What is said of bad manifests, the folder's name cut off."""
    try:
        store(*texts, folder=folder)
    except ManifestError as error:
        return [str(p).replace(f"{folder}/", "") for p in error.problems]
    return []
