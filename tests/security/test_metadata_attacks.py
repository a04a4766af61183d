"""Addresses at which a cloud hands out the machine's credentials, by all their spellings."""

from __future__ import annotations

import errno
import socket
from typing import Any

import pytest

from rootbound_lda.sandbox._net import NetBroker

REFUSED = (
    "169.254.169.254", "169.254.170.2", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::a9fe:a9fe", "2002:a9fe:a9fe::1", "fe80::a9fe:a9fe", "fd00:ec2::254",
    "fd00:ec2::23", "fd20:ce::254", "fd00:c1::a9fe:a9fe", "100.100.100.200",
    "::ffff:100.100.100.200", "168.63.129.16", "64:ff9b::a83f:8110", "192.0.0.192",
    "64:ff9b::7f00:1", "2002:7f00:1::",
)  # fmt: skip
ALLOWED = ("192.0.2.1", "2001:db8::1", "64:ff9b::c000:201", "100.100.100.201", "fd00:ec3::254")


def test_no_cloud_tells_a_run_its_credentials() -> None:
    nobody: Any = None
    broker = NetBroker(nobody, ["168.63.129.16"])

    def check(host: str, port: int = 80) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        broker._check(socket.SOCK_STREAM, (family, host, port, 0, 0))

    for host in REFUSED:
        with pytest.raises(PermissionError) as refused:
            check(host)
        assert refused.value.errno == errno.EACCES, host
    for host in ALLOWED:
        check(host)
    check("168.63.129.16", 53)  # Azure's name server
