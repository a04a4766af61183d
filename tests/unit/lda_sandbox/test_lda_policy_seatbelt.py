"""The text of the Seatbelt profile; what it does on macOS nobody has tried yet."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from rootbound_lda.policy import Policy
from rootbound_lda.sandbox import _seatbelt


def _rule(text: str, head: str) -> str:
    """Return the one rule with this head."""
    found = [rule for rule in text.split("\n(") if rule.startswith((head + "\n", head + ")"))]
    assert len(found) == 1, (head, found)
    return found[0]


def test_everything_is_denied_that_is_not_allowed(policy: Policy) -> None:
    lines = _seatbelt.profile(policy, network=False).splitlines()
    assert lines[:2] == ["(version 1)", "(deny default)"]
    assert not [line for line in lines if line.startswith("(allow default")]
    assert not [line for line in lines if "network-" in line]


def test_what_is_written_and_read_is_the_policys(policy: Policy) -> None:
    text = _seatbelt.profile(policy, network=False)
    writable = _rule(text, "allow file-write*")
    roots = {str(path) for path in (*policy.writable, policy.private_home, policy.private_tmp)}
    assert {line.split('"')[1] for line in writable.splitlines()[1:]} == roots
    readable = _rule(text, "allow file-read* process-exec*")
    expected = roots | {str(path) for path in policy.readable}
    assert {line.split('"')[1] for line in readable.splitlines()[1:]} == expected


def test_git_and_secrets_come_last_and_so_win(policy: Policy) -> None:
    text = _seatbelt.profile(policy, network=False)
    allowed = text.index("(allow file-write*")
    git = text.index("(regex #")
    assert allowed < git
    assert r'(regex #"/[.][gG][iI][tT](/|$)")' in text
    denied = _rule(text, "deny file-read* file-write*")
    assert allowed < text.index(denied)
    for secret in policy.secrets:
        assert f'(subpath "{secret}")' in denied
    # The worktree lies in the state folder and stays open.
    assert f'(require-not (subpath "{policy.worktree}"))' in denied
    for path in policy.protected:
        assert text.rindex(f'(subpath "{path}")') > allowed


def test_the_network_never_leads_back_to_this_machine(policy: Policy) -> None:
    text = _seatbelt.profile(policy, network=True)
    outwards = text.index('(allow network-outbound (remote ip "*:*"))')
    assert text.index('(deny network-outbound (remote ip "localhost:*"))') > outwards
    assert "network-inbound" not in text
    assert "network-bind" not in text


def test_a_path_cannot_end_its_own_string(policy: Policy) -> None:
    evil = Path('/data/"))(allow default)(deny file-read* (subpath "\\')
    text = _seatbelt.profile(dataclasses.replace(policy, readable=(evil,)), network=False)
    assert '(subpath "/data/\\"))(allow default)(deny file-read* (subpath \\"\\\\")' in text
    with pytest.raises(ValueError, match="control characters"):
        _seatbelt.profile(dataclasses.replace(policy, readable=(Path("/a\nb"),)), network=False)


def test_the_command_is_wrapped(policy: Policy) -> None:
    argv = _seatbelt.command(policy, ["make", "test"], network=False)
    assert argv[:2] == ["/usr/bin/sandbox-exec", "-p"]
    assert argv[3:] == ["make", "test"]
