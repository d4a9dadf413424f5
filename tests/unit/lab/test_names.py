"""What places are called and how they are found."""

from __future__ import annotations

from ipaddress import IPv4Address
from pathlib import Path

import pytest

from pylb.control.paths import LabPaths
from pylb.lab import names
from pylb.lab.errors import LabError
from tests.unit.lab.policies import pod, policy


@pytest.mark.parametrize("good", ["pylb", "a", "lab2", "my_lab.x"])
def test_a_lab_name_that_is_fine(good: str) -> None:
    names.check_lab_name(good)


@pytest.mark.parametrize("bad", ["", "my-lab", "Lab", "a/b", "..", ".", "_x", "x" * 33, "a\n"])
def test_a_lab_name_that_is_not(bad: str) -> None:
    with pytest.raises(LabError, match="lab name"):
        names.check_lab_name(bad)


def test_every_part_of_a_lab_is_a_place() -> None:
    found = names.places("lab", policy(pods=[pod("web-1"), pod("db", "shop", hostname="main")]))
    assert list(found) == ["router", "client", "node1", "node2", "internet", "web-1", "shop.db"]
    assert found["shop.db"].namespace == "lab-shop.db"
    assert found["shop.db"].hostname == "main"
    assert found["web-1"].folder == LabPaths("lab").workload("default.web-1")
    assert found["node1"].folder == LabPaths("lab").node("node1").root


@pytest.mark.parametrize("name", ["node1", "client", "router", "internet"])
def test_two_places_of_one_name_are_an_error(name: str) -> None:
    with pytest.raises(LabError, match=f"Pod default/{name}: the name '{name}' is taken"):
        names.places("lab", policy(pods=[pod(name)]))


@pytest.mark.parametrize(
    ("where", "namespace"),
    [
        ("web-1", "lab-web-1"),
        ("default/web-1", "lab-web-1"),
        ("default.web-1", "lab-web-1"),
        ("shop/db", "lab-shop.db"),
        ("shop.db", "lab-shop.db"),
        ("node1", "lab-node1"),
        ("client", "lab-client"),
    ],
)
def test_a_place_is_found_in_all_its_spellings(
    where: str, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYLB_RUN", str(tmp_path))
    places = names.places("lab", policy(pods=[pod("web-1"), pod("db", "shop")]))
    for place in places.values():
        place.folder.mkdir(parents=True)
        (place.folder / "hostname").write_text(f"{place.hostname}\n")
    known = [place.namespace for place in places.values()]
    found = names.find("lab", where, known)
    assert found.namespace == namespace
    assert found == places[found.name]


def test_a_place_that_is_not_there_is_told_with_those_that_are() -> None:
    with pytest.raises(LabError, match=r"has no 'nope': expected one of a, b"):
        names.find("lab", "nope", ["lab-b", "lab-a"])


@pytest.mark.parametrize("place", ["web-1", "shop.db", "fifteen-letters"])
def test_a_link_is_called_like_the_place_it_leads_to(place: str) -> None:
    assert names.link_name(place) == place


@pytest.mark.parametrize("place", ["eth0", "cni0", "pylb0", "lo", "all", "7", "a" * 16])
def test_a_name_that_a_link_cannot_have_is_shortened_and_keyed(place: str) -> None:
    name = names.link_name(place)
    assert name != place
    assert len(name) <= 15
    assert name == names.link_name(place)
    assert name != names.link_name(place + "x")


def test_macs_are_local_unicast_and_follow_from_the_address() -> None:
    address = IPv4Address("10.244.1.2")
    assert names.mac(names.POD_MAC, address) == "0a:58:0a:f4:01:02"
    kinds = (names.POD_MAC, names.POD_PORT_MAC, names.UNDERLAY_MAC, names.UNDERLAY_PORT_MAC)
    assert len({names.mac(kind, address) for kind in kinds}) == 4
    for kind in kinds:
        assert (kind >> 8) & 3 == 2
