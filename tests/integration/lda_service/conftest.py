"""An LDA process of its own for the tests of its service, and of its tiers."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.integration.lda.lda_support import Lda, receiver, repo, stub, wait_for

__all__ = ["receiver", "repo", "stub"]

# The only way to mask what the kernel offers: another program round the LDA's own.
MASKED = """
import sys
from rootbound_lda.sandbox import _bubblewrap, _landlock
kernel, abi, wall = _landlock.abi(), int(sys.argv[1]), sys.argv[2] == "wall"
_landlock.abi = lambda: min(kernel, abi)
if not wall:
    _bubblewrap.find = lambda: None
from rootbound_lda.__main__ import main
sys.exit(main())
"""


class MaskedLda(Lda):
    """An LDA that is told that the kernel has less than it has."""

    mask: tuple[int, bool] = (99, True)

    def start(self) -> None:
        """Start it with the mask."""
        address = self.home / "run" / "lda.json"
        address.unlink(missing_ok=True)
        abi, wall = self.mask
        with (self.home / "lda.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", MASKED, str(abi), "wall" if wall else "none"],
                env={**os.environ, **self.env},
                stdout=log,
                stderr=log,
            )
        self.await_address(address)

    def await_address(self, address: Path) -> None:
        """Wait until it has said where it listens."""
        import json

        assert self.process is not None
        wait_for(lambda: address.exists() or self.process.poll() is not None, "lda.json")
        assert self.process.poll() is None, (self.home / "lda.log").read_text()
        self.facts = json.loads(address.read_text())


def make(kind: type[Lda], folder: Path) -> Lda:
    """Make a state folder with a key for an LDA."""
    key = Ed25519PrivateKey.generate()
    home, user = folder / "state", folder / "user"
    (home / "secrets").mkdir(parents=True, mode=0o700)
    user.mkdir()
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    (home / "secrets" / "lda_verify.pem").write_bytes(public)
    env = {"ROOTBOUND_HOME": str(home), "ROOTBOUND_LDA_PORT": "18700", "HOME": str(user)}
    return kind(home, key, env)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lda]:
    """A whole LDA."""
    lda = make(Lda, tmp_path_factory.mktemp("service"))
    lda.start()
    yield lda
    lda.stop()


@pytest.fixture
def masked(tmp_path: Path) -> Iterator[Callable[[int, bool], MaskedLda]]:
    """Start an LDA that sees only a Landlock ABI, and bubblewrap or not."""
    started: list[MaskedLda] = []

    def start(abi: int, wall: bool) -> MaskedLda:
        lda = make(MaskedLda, tmp_path / f"masked{len(started)}")
        assert isinstance(lda, MaskedLda)
        lda.mask = (abi, wall)
        lda.start()
        started.append(lda)
        return lda

    yield start
    for lda in started:
        lda.stop()
