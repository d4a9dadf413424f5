"""Where LoadBalancer addresses come from: MetalLB's IPAddressPool, and the Lab's own pools."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv4Network, NetmaskValueError

from pylb.policy.fields import METADATA, Reader, show
from pylb.policy.model import Service
from pylb.policy.objects import RawObject
from pylb.policy.selectors import Selector, read_selector

POOL = ("metallb.io/address-pool", "metallb.universe.tf/address-pool")
"""The annotation of a Service that names its pool, and what it was called before."""
ADDRESSES = ("metallb.io/loadBalancerIPs", "metallb.universe.tf/loadBalancerIPs")
"""The annotation of a Service that asks for addresses, comma-separated."""

Range = tuple[int, int]


@dataclass(frozen=True, slots=True)
class AddressPool:
    """Addresses to give to Services of type LoadBalancer.

    ``ranges`` are inclusive.  ``automatic``: also to Services that do not name
    the pool.  ``for_namespaces`` and ``for_services`` restrict who may have one;
    such a pool is asked before others, lower ``priority`` first.
    """

    name: str
    ranges: tuple[Range, ...]
    automatic: bool = True
    avoids_ends: bool = False
    priority: int = 0
    for_namespaces: frozenset[str] = frozenset()
    for_services: tuple[Selector, ...] = ()

    def __contains__(self, address: IPv4Address) -> bool:
        return any(low <= int(address) <= high for low, high in self.ranges) and not (
            self.avoids_ends and int(address) & 0xFF in (0, 255)
        )

    def addresses(self) -> Iterator[IPv4Address]:
        """All of them, in the order in which they are given out."""
        for low, high in self.ranges:
            for number in range(low, high + 1):
                address = IPv4Address(number)
                if address in self:
                    yield address

    @property
    def restricted(self) -> bool:
        """Only some Services may have an address of it."""
        return bool(self.for_namespaces or self.for_services)

    def admits(self, service: Service) -> bool:
        """True when the Service may have an address of it."""
        if self.for_namespaces and service.namespace not in self.for_namespaces:
            return False
        return not self.for_services or any(s.matches(service.labels) for s in self.for_services)


def read_pool(raw: RawObject, top: Reader) -> tuple[AddressPool, ...]:
    """A ``metallb.io/v1beta1`` IPAddressPool."""
    top.under("metadata").done(*METADATA, "labels", "annotations")
    spec = top.under("spec")
    ranges = read_ranges(spec)
    automatic = spec.flag("autoAssign", True)
    avoids = spec.flag("avoidBuggyIPs", False)
    allocation = spec.under("serviceAllocation")
    priority = allocation.number("priority", 0, 1 << 31)
    namespaces = frozenset(allocation.texts("namespaces"))
    services = tuple(read_selector(entry) for entry in allocation.each("serviceSelectors"))
    allocation.done()
    spec.done()
    top.done("status")
    return (AddressPool(raw.name, ranges, automatic, avoids, priority, namespaces, services),)


def read_ranges(spec: Reader) -> tuple[Range, ...]:
    """``addresses``: prefixes and FIRST-LAST, of which IPv6 ones are left out with a warning."""
    found = []
    texts = spec.texts("addresses")
    if not texts:
        spec.wrong("addresses", "expected at least one range")
    for i, text in enumerate(texts):
        at = f"addresses[{i}]"
        if ":" in text:
            spec.notes.warn(spec.at(at), "is not acted on: only IPv4 addresses are")
            continue
        made = _range(text)
        if made is None:
            expected = "10.0.0.0/24 or 10.0.0.10-10.0.0.20"
            spec.wrong(at, f"expected a range such as {expected}, got {show(text)}")
        else:
            found.append(made)
    return tuple(found)


def pool_of_lab(name: str, texts: Iterable[str]) -> AddressPool:
    """A pool of the Lab document, whose ranges have been read before."""
    return AddressPool(name, tuple(made for text in texts if (made := _range(text))))


def _range(text: str) -> Range | None:
    try:
        if "-" in text:
            first, _, last = text.partition("-")
            low, high = int(IPv4Address(first.strip())), int(IPv4Address(last.strip()))
            return (low, high) if low <= high else None
        # MetalLB takes host bits, and cuts them off.
        network = IPv4Network(text, strict=False)
        return int(network.network_address), int(network.broadcast_address)
    except (AddressValueError, NetmaskValueError, ValueError):
        return None


def pools_for(service: Service, pools: Mapping[str, AddressPool]) -> list[AddressPool]:
    """The pools that a Service may have an address from, in the order to be asked.

    One that it names by annotation and no other; else those that are made for
    it, then those for everyone, by name.
    """
    named = annotation(service, POOL)
    if named:
        pool = pools.get(named)
        return [pool] if pool is not None and pool.admits(service) else []
    fitting: Iterable[AddressPool] = (
        pool for pool in pools.values() if pool.automatic and pool.admits(service)
    )
    # MetalLB counts priority 0 as the last.
    return sorted(fitting, key=lambda p: (not p.restricted, p.priority == 0, p.priority, p.name))


def annotation(service: Service, names: tuple[str, ...]) -> str:
    """The first of some annotations that is set, "" for none."""
    return next((service.annotations[n] for n in names if service.annotations.get(n)), "")
