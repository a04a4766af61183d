"""A confined kernel's way to a backend on another machine: what others could read or pretend."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import ssl
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from rootbound_lda.backends import Backends
from rootbound_lda.kernel_relay import Relay
from rootbound_lda.kernels import KernelHost

pytestmark = pytest.mark.asyncio
TOKEN = b"Authorization: Bearer the-kernels-token\r\n\r\n"


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """Make a certificate for an address, signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder().subject_name(subject).issuer_name(subject)
        .public_key(key.public_key()).serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(name))]), False
        )
        .add_extension(x509.BasicConstraints(True, None), True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    chain, secret = folder / f"{name}.pem", folder / f"{name}.key"
    chain.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )  # fmt: skip
    return chain, secret


async def said_through(folder: Path, base_url: str) -> bytes:
    """Send the token through a relay; return what comes back."""
    async with Relay(folder / "backend", base_url):
        reader, writer = await asyncio.open_unix_connection(str(folder / "backend"))
        writer.write(TOKEN)
        async with asyncio.timeout(20):
            try:
                answer = await reader.read(100)
            except ConnectionError:
                answer = b""
        writer.close()
    return answer


async def test_a_kernels_token_goes_to_the_backend_alone_and_encrypted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: dict[str, bytes] = {}

    def hear(name: str) -> Any:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            heard[name] = heard.get(name, b"") + await reader.read(100)
            writer.write(b"heard")
            await writer.drain()
            writer.close()

        return serve

    ours, theirs = certificate(tmp_path, "127.0.0.1"), certificate(tmp_path, "192.0.2.1")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "known.pem"))
    (tmp_path / "known.pem").write_bytes(ours[0].read_bytes() + theirs[0].read_bytes())
    ports = {}
    for name, pair in (("ours", ours), ("other name", theirs), ("plain", None)):
        context = None
        if pair is not None:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(*pair)
        server = await asyncio.start_server(hear(name), "127.0.0.1", 0, ssl=context)
        ports[name] = server.sockets[0].getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="rb-r-") as folder:
        for name, answer in (("ours", b"heard"), ("other name", b""), ("plain", b"")):
            address = f"https://127.0.0.1:{ports[name]}"
            assert await said_through(Path(folder), address) == answer, name
    assert heard["ours"] == TOKEN
    assert b"the-kernels-token" not in heard.get("other name", b"") + heard.get("plain", b"")

    # Whatever a request calls the backend, it is the one that this machine is connected to.
    request: Any = SimpleNamespace(ingest=SimpleNamespace(base_url="http://127.0.0.1:8000"))
    host = KernelHost.__new__(KernelHost)
    for backends, wanted in (
        (Backends(["https://rootbound.example.org"]), "https://rootbound.example.org"),
        (None, "http://127.0.0.1:8000"),
    ):
        services: Any = SimpleNamespace(backends=backends)
        host._services = services
        assert host._backend_of(request) == wanted
