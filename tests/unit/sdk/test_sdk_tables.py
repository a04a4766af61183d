"""Lists, events and audit entries as tables; versions that fit; events that are read fast."""

from __future__ import annotations

import sys

import pytest
from starlette.responses import JSONResponse

import rootbound as rb
from rootbound.aio import AsyncClient
from rootbound.client import Client
from rootbound.discovery import Endpoint, version_refusal
from rootbound.models import Event, Model
from rootbound.tables import Listing

arro3 = pytest.importorskip("arro3.core")


def test_lists_are_tables_and_page_by_themselves(server, client):
    server.state.page_limit = 2
    for number in range(5):
        server.state.project(name=f"P{number}")
    before = len(server.state.requests)
    first = next(iter(client.projects))
    assert first.name == "P0"
    assert len(server.state.requests) == before + 1, "only the page that is needed"
    assert [project.name for project in client.projects] == [f"P{n}" for n in range(5)]
    projects = client.projects.list()
    assert list(projects.df()["name"]) == [f"P{n}" for n in range(5)]
    table = arro3.Table(projects)
    assert table.num_rows == 5
    assert str(table.schema.field("created_at").type).startswith("arro3.core.DataType<Timestamp")
    assert "P4" in projects._repr_html_()
    assert list(client.roots.list().df().columns)[:2] == ["id", "path"], "empty, with columns"
    assert arro3.Table(client.roots.list()).num_rows == 0


def test_events_and_audit_are_tables(server, client):
    raw = server.state.attempt(server.state.task(server.state.project()), events=3)
    server.state.audited(3)
    events = client.attempt(raw["id"]).events()
    assert next(events).seq == 1
    assert list(events.df()["seq"]) == [2, 3]
    assert arro3.Table(client.attempt(raw["id"]).events())["seq"].to_pylist() == [1, 2, 3]
    assert arro3.Table(client.audit())["path"].to_pylist() == ["/repo/1", "/repo/2", "/repo/3"]


@pytest.mark.asyncio
async def test_async_lists_page_by_themselves(server, endpoint):
    server.state.page_limit = 2
    for number in range(3):
        server.state.project(name=f"P{number}")
    raw = server.state.attempt(server.state.task(server.state.project()), events=3)
    async with AsyncClient(endpoint) as client:
        assert [one.name async for one in client.projects][:3] == ["P0", "P1", "P2"]
        events = (await client.attempt(raw["id"])).events()
        assert (await anext(events)).seq == 1
        assert list((await events.df())["seq"]) == [2, 3]


def test_without_arro3_the_way_out_is_named(client, monkeypatch):
    monkeypatch.setitem(sys.modules, "arro3", None)
    with pytest.raises(rb.MissingDependencyError, match="pip install arro3-core"):
        arro3.Table(Listing(rb.Root))


@pytest.mark.parametrize(
    "raw",
    [
        {"seq": 1, "type": "LOG", "payload": {"kind": "text"}, "timestamp": "2026-11-22T12:00:00Z"},
        {"seq": 2, "type": "STATUS", "payload": None, "timestamp": None, "later": 1},
    ],
)
def test_a_fast_event_is_the_same_event(raw):
    slow = Model.from_json.__func__(Event, raw)
    assert Event.from_json(raw) == slow
    assert Event.from_json(raw).raw is raw
    with pytest.raises(AttributeError):
        Event.from_json(raw).seq = 5


@pytest.mark.parametrize("raw", [{}, {"seq": 1, "type": "LOG", "timestamp": "soon"}, [], None])
def test_unreadable_events_are_a_server_error(raw):
    with pytest.raises(rb.ServerError):
        Event.from_json(raw)


@pytest.mark.parametrize(
    ("server", "client", "fits"),
    [
        ("0.1.9", "0.1.0", True),
        ("0.2.0", "0.1.0", False),
        ("1.0.0", "0.1.0", False),
        ("1.7.0", "1.2.3", True),
        ("2.0.0", "1.9.0", False),
        ("", "1.0.0", True),
    ],
)
def test_versions_that_fit(server, client, fits):
    refusal = version_refusal(server, client)
    assert (refusal is None) is fits
    if refusal:
        assert f"it runs Rootbound {server}" in refusal
        assert "pip install" in refusal


def test_a_server_of_another_version_is_refused_in_one_sentence(server, clean_env, monkeypatch):
    me = {"username": "ada", "name": "Ada", "version": "9.1.0"}
    monkeypatch.setattr(server, "route", lambda *_: JSONResponse(me))
    with pytest.raises(rb.DiscoveryError, match=r"it runs Rootbound 9\.1\.0 .*pip install"):
        rb.connect(server.url, server.token)


def test_an_expired_token_is_refused_in_one_sentence(server, clean_env):
    with pytest.raises(rb.AuthenticationError, match="may have expired, and `rootbound token`"):
        rb.connect(server.url, "old")
    late = Client(Endpoint(server.url, "old", "headless", "a test"))
    with late, pytest.raises(rb.AuthenticationError):
        late.me()
