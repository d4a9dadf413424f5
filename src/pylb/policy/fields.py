"""Reading the fields of one object, so that all its problems come at once.

A `Reader` stands at one mapping of the object and knows its path.  Every read
gives a usable value, also when it notes a problem, so that reading can go on.
What was not read by the time of `done` is named in a warning.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from ipaddress import AddressValueError, IPv4Address, IPv4Network, NetmaskValueError
from typing import Any

from pylb.policy.errors import Problem
from pylb.policy.objects import RawObject

UNASSIGNED = IPv4Address(0)
"""Stands for an address that is still to be assigned."""

METADATA = (
    "name",
    "namespace",
    "creationTimestamp",
    "uid",
    "resourceVersion",
    "generation",
    "managedFields",
    "ownerReferences",
    "selfLink",
    "finalizers",
    "generateName",
)
"""Fields of ``metadata`` that change nothing."""

_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_DNS_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")


class Notes:
    """The problems and warnings of one object."""

    def __init__(self, of: RawObject) -> None:
        self.of = of
        self.problems: list[Problem] = []
        self.warnings: list[str] = []

    def wrong(self, field: str, message: str) -> None:
        """Note a problem."""
        self.problems.append(self.of.problem(field, message))

    def warn(self, field: str, message: str) -> None:
        """Note a warning, worded as a problem is."""
        self.warnings.append(str(self.of.problem(field, message)))


class Reader:
    """One mapping of an object and the path to it."""

    def __init__(self, value: Any, notes: Notes, path: str = "") -> None:
        self.path = path
        self.notes = notes
        self._seen: set[str] = set()
        self._map: Mapping[str, Any] = {}
        if isinstance(value, Mapping):
            self._map = value
        elif value is not None:
            notes.wrong(path, f"expected a mapping, got {show(value)}")

    def __contains__(self, key: str) -> bool:
        return self._map.get(key) is not None

    def at(self, key: str) -> str:
        """The path of one of its fields."""
        return f"{self.path}.{key}" if self.path else key

    def wrong(self, key: str, message: str) -> None:
        """Note a problem of one of its fields."""
        self.notes.wrong(self.at(key), message)

    def raw(self, key: str) -> Any:
        """The value as it stands, None when it is not there."""
        self._seen.add(key)
        return self._map.get(key)

    def under(self, key: str) -> Reader:
        """The mapping at ``key``, an empty one when it is not there."""
        return Reader(self.raw(key), self.notes, self.at(key))

    def each(self, key: str) -> Iterator[Reader]:
        """The mappings of a list."""
        for i, value in enumerate(self.list(key)):
            yield Reader(value, self.notes, f"{self.at(key)}[{i}]")

    def list(self, key: str) -> list[Any]:
        """A list, empty when it is not there."""
        value = self.raw(key)
        if value is None:
            return []
        if not isinstance(value, list):
            self.wrong(key, f"expected a list, got {show(value)}")
            return []
        return value

    def text(self, key: str, default: str = "", *, required: bool = False) -> str:
        """Text; an empty one counts as absent."""
        value = self.raw(key)
        if value is None or value == "":
            if required:
                self.wrong(key, "is required")
            return default
        if not isinstance(value, str):
            self.wrong(key, f"expected text, got {show(value)}")
            return default
        return value

    def name(self, key: str, default: str = "", *, required: bool = False) -> str:
        """A DNS-1123 label."""
        value = self.text(key, default, required=required)
        if value and value != default and not _DNS_LABEL.fullmatch(value):
            self.wrong(key, f"expected a DNS label (a-z, 0-9, -; at most 63), got {value!r}")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of texts."""
        values = self.list(key)
        for i, value in enumerate(values):
            if not isinstance(value, str):
                self.notes.wrong(f"{self.at(key)}[{i}]", f"expected text, got {show(value)}")
        return tuple(str(value) for value in values)

    def labels(self, key: str) -> dict[str, str]:
        """A mapping of text to text."""
        value = self.raw(key)
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            self.wrong(key, f"expected a mapping of text to text, got {show(value)}")
            return {}
        for k, v in value.items():
            if not isinstance(k, str) or not isinstance(v, str):
                self.wrong(key, f"expected text to text, got {show(k)}: {show(v)}")
        return {str(k): str(v) for k, v in value.items()}

    def flag(self, key: str, default: bool = False) -> bool:
        """True or false."""
        value = self.raw(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            self.wrong(key, f"expected true or false, got {show(value)}")
            return default
        return value

    def number(
        self, key: str, low: int, high: int, default: int = 0, *, required: bool = False
    ) -> int:
        """A whole number from ``low`` to ``high`` inclusive."""
        value = self.raw(key)
        if value is None:
            if required:
                self.wrong(key, f"is required: a number from {low} to {high}")
            return default
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            self.wrong(key, f"expected a number from {low} to {high}, got {show(value)}")
            return default
        return value

    def port(self, key: str, *, required: bool = False) -> int:
        """A port number; 0 when absent or wrong."""
        return self.number(key, 1, 65535, required=required)

    def choice(self, key: str, known: tuple[str, ...], default: str) -> str:
        """One of some words."""
        value = self.text(key, default)
        if value not in known:
            self.wrong(key, f"expected one of {', '.join(known)}, got {value!r}")
            return default
        return value

    def address(self, key: str, *, required: bool = False) -> IPv4Address:
        """An IPv4 address; UNASSIGNED when absent or wrong."""
        value = self.text(key, required=required)
        return self.as_address(key, value) if value else UNASSIGNED

    def as_address(self, key: str, value: str) -> IPv4Address:
        """``value`` as an address; UNASSIGNED, with a problem, when it is none."""
        try:
            address = IPv4Address(value)
        except AddressValueError:
            self.wrong(key, f"expected an IPv4 address, got {value!r}")
            return UNASSIGNED
        if address == UNASSIGNED:
            self.wrong(key, f"may not be unspecified: {address}")
        return address

    def network(self, key: str, *, required: bool = False) -> IPv4Network | None:
        """An IPv4 prefix without host bits."""
        value = self.text(key, required=required)
        if not value:
            return None
        try:
            return IPv4Network(value)
        except (AddressValueError, NetmaskValueError, ValueError):
            self.wrong(key, f"expected an IPv4 prefix such as 10.244.1.0/24, got {value!r}")
            return None

    def done(self, *harmless: str) -> None:
        """Warn of every field that was not read and is not among the ``harmless``."""
        for key in self._map:
            if key not in self._seen and key not in harmless:
                self.notes.warn(self.at(str(key)), "is not acted on")


def metadata(top: Reader) -> tuple[dict[str, str], dict[str, str], Reader]:
    """An object's labels and annotations, and the reader of what else its metadata says."""
    reader = top.under("metadata")
    return reader.labels("labels"), reader.labels("annotations"), reader


def is_dns_subdomain(name: str) -> bool:
    """An object's name: DNS-1123 subdomain, at most 253 characters."""
    return len(name) <= 253 and _DNS_SUBDOMAIN.fullmatch(name) is not None


def show(value: Any) -> str:
    """A value as an error quotes it, cut off where it is long."""
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
