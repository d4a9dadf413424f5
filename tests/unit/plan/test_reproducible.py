"""The same policy gives the same plan, down to the order of its tables, in every process.

Regression: the policies that redirect addresses went through a set of their names.  Its
order follows the process's hash seed, so two daemons had the same frontends in different
orders, and a test that took every 61st of them met others each time.
"""

from __future__ import annotations

import os
import subprocess
import sys

_PRINT = """
from hashlib import sha256
from pylb.bench import mixed
from pylb.dataplane.kernel import iptables, nft
from pylb.plan.compile import compile, update
from pylb.policy import objects
from pylb.policy.store import Store, change

store = Store.empty().apply(objects.from_bodies(mixed.bodies(400, image="pause")))
after = store.apply(objects.from_bodies(mixed.bodies(440, image="pause")))
plan = compile(store.policy, "node1")
delta = update(plan, change(store, after))
texts = {
    "policy": repr(store.policy),
    "plan": repr(plan),
    "plan file": plan.to_bytes().decode(),
    "delta": repr(delta),
    "nft": nft.ruleset(plan),
    "nft change": nft.change(plan, delta),
    "iptables": iptables.ruleset(plan),
}
for name, text in texts.items():
    print(name, len(text), sha256(text.encode()).hexdigest())
"""


def test_no_table_s_order_depends_on_the_process() -> None:
    printed = {
        subprocess.run(
            [sys.executable, "-c", _PRINT],
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        ).stdout
        for seed in range(3)
    }
    assert len(printed) == 1, printed
