"""What is normalised is what is random, and no more."""

from __future__ import annotations

import pytest

from tests.walkthroughs.normal import normalised


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (
            "tcp      6 118 TIME_WAIT src=10.244.1.2 dst=10.96.0.20 sport=40844 dport=80",
            "tcp      6 9 TIME_WAIT src=10.244.1.2 dst=10.96.0.20 sport=60999 dport=80",
        ),
        (
            " [UPDATE] udp      17 30 src=10.1.0.2 sport=33768 dport=61234",
            " [UPDATE] udp      17 29 src=10.1.0.2 sport=33769 dport=65534",
        ),
        ("icmp     1 28 src=10.1.0.2 id=16281", "icmp     1 30 src=10.1.0.2 id=3"),
        (
            "14:53:53.726801 IP 10.0.0.1.40076 > 10.0.0.2.80: Flags [S], seq 1010073821, win 1",
            "04:00:00.000001 IP 10.0.0.1.50076 > 10.0.0.2.80: Flags [S], seq 2010073821, win 1",
        ),
        ("10.0.0.9 - - [21/Nov/2026:14:53:53 +0000]", "10.0.0.9 - - [01/Dec/2026:01:02:03 +0000]"),
        (
            "NAME   AGE   IP\nweb    7s    10.0.0.1",
            "NAME   AGE     IP\nweb    1m59s   10.0.0.1",
        ),
        ("user-agent=curl/7.88.1", "user-agent=curl/8.14.0"),
        ("node1   Ready   3s   pylb-0.1.0", "node1   Ready   4s   pylb-0.2"),
        ("node2   drop_no_local_endpoint   1", "node2   drop_no_local_endpoint   12"),
        ("lladdr 02:50:c0:a8:32:0b", "lladdr 02:50:c0:a8:32:0c"),
    ],
)
def test_what_is_random_is_equal(one: str, other: str) -> None:
    assert normalised(one) == normalised(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("client_address=10.244.1.2", "client_address=10.244.1.0"),
        ("tcp 6 118 TIME_WAIT src=10.0.0.1 sport=40844", "tcp 6 118 SYN_SENT src=10.0.0.1 sport=1"),
        ("src=10.0.0.1 sport=8080 dport=30080", "src=10.0.0.1 sport=8080 dport=30081"),
        ("http://192.168.50.11:30080/", "http://192.168.50.11:30081/"),
        ("drop_no_local_endpoint   1", "drop_no_local_endpoint   0"),
        ("drop_no_local_endpoint   1", "drop_no_endpoint   1"),
        ("10.0.0.1.40076 > 10.0.0.2.80: Flags [S]", "10.0.0.1.40076 > 10.0.0.2.80: Flags [R]"),
    ],
)
def test_what_is_not_random_is_not(one: str, other: str) -> None:
    assert normalised(one) != normalised(other)
