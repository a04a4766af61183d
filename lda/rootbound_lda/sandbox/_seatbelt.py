"""The Seatbelt profile of a run, for macOS's `sandbox-exec`.

Made from the same policy as everything else. Nobody has run it yet: the probe therefore reports
that nothing is enforced on macOS, and no command runs there. It is kept so that whoever has such a
machine can try it; the rules follow Apple's own profiles in /System/Library/Sandbox/Profiles.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from rootbound_lda.policy import Policy

PROGRAM = "/usr/bin/sandbox-exec"

# What every program needs to start: the loader, locale and time zone data, the user's name.
_SERVICES = (
    "com.apple.system.opendirectoryd.libinfo", "com.apple.system.opendirectoryd.membership",
    "com.apple.system.logger", "com.apple.system.notification_center",
)  # fmt: skip
_RESOLVER = "/private/var/run/mDNSResponder"
_GIT = r"/[.][gG][iI][tT](/|$)"
"""The last component may be a file, as in a worktree; HFS+ and APFS ignore case."""


def command(policy: Policy, argv: Sequence[str], *, network: bool) -> list[str]:
    """Return the command that runs another one under the profile of a policy.

    Parameters
    ----------
    policy
        The run's policy.
    argv
        Program and arguments.
    network
        Whether TCP and UDP outwards are possible; never to this machine itself.
    """
    return [PROGRAM, "-p", profile(policy, network=network), *argv]


def profile(policy: Policy, *, network: bool) -> str:
    """Return the profile of a policy; of several rules that fit, the last one counts.

    Raises
    ------
    ValueError
        If a path cannot be written in a profile.
    """
    return "\n".join(_rules(policy, network)) + "\n"


def _rules(policy: Policy, network: bool) -> Iterator[str]:
    roots = tuple(dict.fromkeys((*policy.writable, policy.private_home, policy.private_tmp)))
    yield "(version 1)"
    yield "(deny default)"
    yield "(allow process-fork)"
    yield "(allow signal (target same-sandbox))"
    yield "(allow process-info* (target same-sandbox))"
    yield "(allow sysctl-read)"
    yield "(allow file-read-metadata)"
    yield _rule("allow mach-lookup", (f"(global-name {_quoted(name)})" for name in _SERVICES))
    yield _rule("allow file-read* process-exec*", _subpaths((*policy.readable, *roots)))
    if policy.listable:
        yield _rule("allow file-read-data", (f"(literal {_quoted(p)})" for p in policy.listable))
    yield _rule("allow file-read* file-write-data", (
        f"(literal {_quoted(path)})" for path in policy.devices))  # fmt: skip
    yield _rule("allow file-write*", _subpaths(roots))
    yield _rule("deny file-write*", (
        f'(require-all (subpath {_quoted(root)}) (regex #"{_GIT}"))'
        for root in policy.writable))  # fmt: skip
    if policy.protected:
        yield _rule("deny file-write*", _subpaths(policy.protected))
    # A root itself stays where it is, and set-user-id programs are not made.
    yield _rule("deny file-write-unlink", (f"(literal {_quoted(root)})" for root in roots))
    yield "(deny file-write-setugid)"
    if policy.secrets:
        # The run's own folders lie in the state folder, which is one of them.
        spared = " ".join(f"(require-not (subpath {_quoted(root)}))" for root in roots)
        yield _rule("deny file-read* file-write*", (
            f"(require-all (subpath {_quoted(secret)}) {spared})"
            for secret in policy.secrets))  # fmt: skip
    covered = [secret for secret, _ in policy.covers]
    if covered:
        yield _rule("deny file-read*", (f"(literal {_quoted(path)})" for path in covered))
    if network:
        yield '(allow network-outbound (remote ip "*:*"))'
        yield f"(allow network-outbound (literal {_quoted(_RESOLVER)}))"
        yield '(deny network-outbound (remote ip "localhost:*"))'


def _rule(head: str, filters: Iterable[str]) -> str:
    return f"({head}" + "".join(f"\n  {one}" for one in filters) + ")"


def _subpaths(paths: Iterable[Path]) -> Iterator[str]:
    for path in dict.fromkeys(paths):
        yield f"(subpath {_quoted(path)})"


def _quoted(path: Path | str) -> str:
    text = str(path)
    if any(ord(letter) < 32 or letter == "\x7f" for letter in text):
        raise ValueError("a path with control characters cannot be written in a profile")
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
