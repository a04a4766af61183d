"""Audit entries: encoding of paths, hashes, the chain."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime

import pytest

from rootbound_lda.audit import (
    GENESIS_HASH,
    AuditRecord,
    MemorySink,
    encode_entry,
    encode_path,
    entry_hash,
    make_entry,
    verify_chain,
)


def test_plain_path_stays() -> None:
    assert encode_path("/tmp/ä".encode()) == ("/tmp/ä", {})


def test_bytes_that_are_not_text_are_escaped() -> None:
    assert encode_path(b"/tmp/\xff\x00x") == ("/tmp/\\xff\\x00x", {})


@pytest.mark.parametrize(("length", "cut"), [(1024, False), (1025, True), (4000, True)])
def test_long_path_is_cut_and_hashed(length: int, cut: bool) -> None:
    raw = b"/" + b"a" * (length - 1)
    text, detail = encode_path(raw)
    if not cut:
        assert (text, detail) == (raw.decode(), {})
        return
    assert text == raw.decode()[:900] + "…sha256:" + hashlib.sha256(raw).hexdigest()
    assert detail == {"path_length": length}


def test_hash_is_of_canonical_json_after_the_previous_hash() -> None:
    entry = {"seq": 1, "path": "ä", "detail": {"b": 1, "a": None}, "hash": "ignored"}
    body = '{"detail":{"a":null,"b":1},"path":"\\u00e4","seq":1}'
    assert json.loads(body) == {key: entry[key] for key in ("seq", "path", "detail")}
    expected = hashlib.sha256(f"{GENESIS_HASH}\n{body}".encode()).hexdigest()
    assert entry_hash(GENESIS_HASH, entry) == expected


@pytest.mark.parametrize(
    "value",
    ["plain", "ä🌱", 'back\\slash "quote"', "\x7f\x00\x01\n", "\ud800", 1, -1, True, None, 1e16,
     0.1, 1e-7, ["a", {"b": "\udcff"}], {"z": 1, "a": [None, 2.5]}, 2**60],
)  # fmt: skip
def test_both_encoders_hash_the_same(value: object) -> None:
    record = AuditRecord("READ", "ALLOWED", "/p", "tool", {"k": value, "a": "x"}, datetime.now(UTC))
    body, digest = encode_entry(record, seq=7, prev=GENESIS_HASH)
    assert json.loads(body) == make_entry(record, seq=7, prev=GENESIS_HASH)
    assert json.loads(body)["hash"] == digest == entry_hash(GENESIS_HASH, json.loads(body))


def _chain(count: int) -> list[dict[str, object]]:
    sink = MemorySink()
    for number in range(count):
        sink.record(AuditRecord("READ", "ALLOWED", f"/p/{number}", "tool", {"n": number}))
    return sink.entries


def test_chain_holds_and_each_kind_of_damage_shows() -> None:
    entries = _chain(5)
    assert verify_chain(entries) is None
    assert verify_chain(entries[2:], prev=str(entries[1]["hash"]), first_seq=3) is None
    assert verify_chain([*entries[:2], {**entries[2], "path": "/q"}, *entries[3:]]) == 3
    assert verify_chain([*entries[:1], *entries[2:]]) == 2
    assert verify_chain([entries[1], entries[0]]) == 1
    assert verify_chain(entries[1:]) == 1


def test_timestamp_is_utc_with_z() -> None:
    sink = MemorySink()
    sink.record(
        AuditRecord("WRITE", "DENIED", "/x", "kernel", {}, datetime(2026, 1, 2, tzinfo=UTC))
    )
    assert sink.entries[0]["timestamp"] == "2026-01-02T00:00:00.000000Z"
