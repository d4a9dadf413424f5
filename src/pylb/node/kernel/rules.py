"""Handing rulesets to the kernel with nft and iptables-restore, whole or not at all."""

from __future__ import annotations

import shutil
import subprocess
from typing import Protocol

from pylb.dataplane.kernel import iptables, nft
from pylb.dataplane.kernel.names import TABLE, Options
from pylb.node.errors import NodeError
from pylb.plan.tables import Delta, Plan


class Rules(Protocol):
    """A way to make the kernel obey a plan.  All raise `NodeError` with what the tool said."""

    def load(self, plan: Plan) -> None:
        """Make the rules those of ``plan``, whatever they were."""
        ...

    def change(self, plan: Plan, delta: Delta) -> None:
        """Change the rules of ``plan`` by ``delta``."""
        ...

    def clean(self) -> list[str]:
        """Remove the rules; gives each change in words."""
        ...


class Nftables:
    """The ruleset of `pylb.dataplane.kernel.nft`; each step is one transaction."""

    def __init__(self, options: Options = Options()) -> None:  # noqa: B008
        self._options = options

    def load(self, plan: Plan) -> None:
        """See `Rules.load`."""
        _nft(nft.ruleset(plan, self._options))

    def change(self, plan: Plan, delta: Delta) -> None:
        """See `Rules.change`."""
        script = nft.change(plan, delta, self._options)
        if script:
            _nft(script)

    def clean(self) -> list[str]:
        """See `Rules.clean`."""
        if shutil.which("nft") is None or f"table ip {TABLE}\n" not in _run(
            ["nft", "list", "tables"]
        ):
            return []
        _nft(f"delete table ip {TABLE}\n")
        return [f"removed nftables table {TABLE}"]


class Iptables:
    """The chains of `pylb.dataplane.kernel.iptables`: whole tables first, then what differs.

    Each table is replaced in one step, the two of them one after the other.
    """

    def __init__(self, options: Options = Options()) -> None:  # noqa: B008
        self._options = options

    def load(self, plan: Plan) -> None:
        """See `Rules.load`; rules of others are kept."""
        _restore(iptables.ruleset(plan, self._options, _run(["iptables-save"])))

    def change(self, plan: Plan, delta: Delta) -> None:
        """See `Rules.change`."""
        if delta.replace is not None:
            self.load(delta.replace)
            return
        script = iptables.change(plan, delta, self._options)
        if script:
            _restore(script, "--noflush")

    def clean(self) -> list[str]:
        """See `Rules.clean`."""
        if shutil.which("iptables-save") is None:
            return []
        script = iptables.removal(_run(["iptables-save"]))
        if not script:
            return []
        _restore(script)
        return ["removed the iptables chains KUBE-*"]


def check(dataplane: str) -> None:
    """Raise `NodeError` when the tool that ``dataplane`` is loaded with is not installed."""
    tool = "iptables-restore" if dataplane == "kernel-iptables" else "nft"
    if shutil.which(tool) is None:
        package = "iptables" if tool.startswith("iptables") else "nftables"
        raise NodeError(f"dataplane {dataplane} needs {tool}: install the package {package}")


def _nft(script: str) -> None:
    _run(["nft", "-f", "-"], script)


def _restore(script: str, *options: str) -> None:
    _run(["iptables-restore", "-w", *options], script)


def _run(argv: list[str], stdin: str | None = None) -> str:
    try:
        done = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise NodeError(f"{argv[0]} is not installed") from None
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise NodeError(f"{argv[0]} refused the rules: {said[0] if said else done.returncode}")
    return done.stdout
