"""pylb: a userspace NAT and L4 load-balancer dataplane that shows how packets move.

Kubernetes objects (`pylb.policy`) compile to per-node tables (`pylb.plan`), and
the plan drives a dataplane (`pylb.dataplane`).  docs/architecture.md is the map.
"""

__version__ = "0.1.0"
