"""The client's verbs, paging, retries, errors and waiting."""

from __future__ import annotations

import asyncio
import inspect
import socket
import subprocess
import sys
import threading

import pytest
from contract_server import problem
from starlette.responses import JSONResponse, PlainTextResponse

import rootbound as rb
from rootbound import (
    _flows,
    aio,
    aio_machines,
    aio_objects,
    aio_schedules,
    machines,
    objects,
    schedules,
)
from rootbound import client as sync
from rootbound.discovery import Endpoint


@pytest.fixture
def project(server, client):
    server.state.project(name="Demo")
    return client.projects.list()[0]


def requests(server, method):
    return [path for verb, path, _ in server.state.requests if verb == method]


def test_the_whole_way_from_root_to_review(server, client, tmp_path):
    root = client.roots.add(tmp_path)
    assert client.roots.enable(root.id, False).is_enabled is False
    project = client.projects.create("P", tmp_path, test_cmd="pytest", config={"max_parallel": 2})
    assert project.config == {"max_parallel": 2, "test_cmd": "pytest"}
    assert project.repo_path == str(tmp_path)
    first = project.create_task("First", role="QA")
    second = project.create_task("Second", dependencies=[first])
    assert second.dependencies == (first.id,)
    attempt = first.start(reference_paths=[tmp_path / "docs"])
    assert attempt.raw["reference_paths"] == [str(tmp_path / "docs")]
    assert attempt.is_live
    assert attempt.raw["surprise"] == {"from": "a newer server"}
    with pytest.raises(rb.ConflictError) as caught:
        attempt.approve()
    assert caught.value.code == "not-in-review"
    server.state.status(server.state.attempts[attempt.id], "REVIEW")
    assert attempt.refresh().approve().status == "SUCCESS"
    assert [item.number for item in first.attempts()] == [1]
    assert first.refresh().latest_attempt.is_terminal
    for go_on in (attempt.retry, attempt.request_changes):
        with pytest.raises(rb.ConflictError) as caught:
            go_on("better", version=first.version + 1)
        assert caught.value.code == "version-conflict"
        with pytest.raises(rb.ConflictError) as caught:
            go_on("better", version=first.version, status="REVIEW")
        assert caught.value.code == "attempt-moved"
    with pytest.raises(rb.ConflictError):
        attempt.bring_up_to_date(status="REVIEW")
    assert attempt.retry("better", version=first.version, status="SUCCESS").number == 2
    client.roots.remove(root.id)
    assert client.roots.list() == []
    project.delete()
    with pytest.raises(rb.NotFoundError):
        project.refresh()


def test_problems_become_errors(server, client, project):
    with pytest.raises(rb.InvalidRequestError) as caught:
        client.roots.add("/")
    assert caught.value.code == "root-is-filesystem-root"
    assert str(caught.value) == "The whole disk cannot be a root."
    task = server.state.task(project.raw, blocked_by=["other"])
    with pytest.raises(rb.ConflictError, match="waits for another"):
        client.task(task["id"]).start()
    changed = client.task(server.state.task(project.raw, version=3)["id"])
    with pytest.raises(rb.ConflictError, match="changed this task meanwhile"):
        changed.start(version=2)
    attempt = changed.start(version=changed.version)
    for move in (attempt.approve, attempt.reject, attempt.cancel):
        with pytest.raises(rb.ConflictError) as caught:
            move(version=2)
        assert caught.value.code == "version-conflict"
    assert attempt.cancel(version=3).status == "FAILED"
    server.state.fail = [problem(403, "forbidden", "Not you.", needs="admin")]
    with pytest.raises(rb.PermissionDeniedError) as caught:
        client.me()
    assert caught.value.as_problem()["needs"] == "admin"
    server.state.fail = [PlainTextResponse("<html>", status_code=500)]
    with pytest.raises(rb.ServerError, match="HTTP status 500"):
        client.me()
    server.state.fail = [PlainTextResponse("<html>login</html>")]
    with pytest.raises(rb.ServerError, match="is it Rootbound"):
        client.me()
    server.state.fail = [JSONResponse([1])]
    with pytest.raises(rb.ServerError, match="sent list where a Me is due"):
        client.me()
    server.state.fail = [JSONResponse({"name": "no username"})]
    with pytest.raises(rb.ServerError, match="incomplete Me"):
        client.me()


@pytest.mark.parametrize("task_id", ["../me", "..", "", "a/b", "a?b", "a%2Fb"])
def test_ids_cannot_change_the_route(server, client, task_id):
    with pytest.raises(rb.InvalidRequestError, match="not an id"):
        client.task(task_id)
    assert server.state.requests == []


def test_a_service_that_starts_is_waited_for(server, client):
    busy = {"status_code": 503, "headers": {"Retry-After": "0.05"}}
    server.state.fail = [JSONResponse({}, **busy), JSONResponse({}, **busy)]
    assert client.me().username == "ada"
    server.state.fail = [JSONResponse({"detail": "Starting."}, **busy) for _ in range(9)]
    with pytest.raises(rb.ServerError, match=r"Starting\."):
        client.me()


def test_a_write_is_safe_to_repeat(server, client, project):
    busy = JSONResponse({}, status_code=503, headers={"Retry-After": "0"})
    server.state.fail = [busy]
    project.create_task("Once")
    assert len(project.tasks()) == 1
    assert len(server.state.keys) == 1


def test_refused_and_silent_servers_give_one_sentence(endpoint):
    dead = sync.Client(Endpoint("http://127.0.0.1:1", "t", "headless", "a test"))
    with pytest.raises(rb.ConnectionFailedError) as caught:
        dead.me()
    assert "rootbound up" in str(caught.value)
    assert "\n" not in str(caught.value)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"http://127.0.0.1:{mute.getsockname()[1]}"
        slow = sync.Client(Endpoint(url, "t", "headless", "a test"), timeout=0.2)
        with pytest.raises(rb.ConnectionFailedError, match="did not answer in time"):
            slow.me()


def test_lists_follow_their_cursors(server, client, project):
    server.state.page_limit = 3
    for number in range(8):
        server.state.task(project.raw, title=str(number))
    assert [task.title for task in project.tasks()] == [str(number) for number in range(8)]


def test_audit_pages_by_itself(server, client):
    server.state.audited(7)
    server.state.audited(2, result="DENIED", attempt="a1", path="/etc/passwd")
    assert [entry.seq for entry in client.audit(page_size=4)] == list(range(1, 10))
    assert [entry.seq for entry in client.audit(page_size=4, limit=5)] == [1, 2, 3, 4, 5]
    sizes = [q["limit"] for _, path, q in server.state.requests if path == "audit/logs/"]
    assert sizes == ["4", "4", "4", "4", "1"]
    assert len(list(client.audit(result="DENIED", path_prefix="/etc"))) == 2
    assert list(client.audit(limit=0)) == []
    summary = client.audit_summary()
    assert (summary.count(), summary.count("WRITE", "DENIED"), summary.count("READ")) == (9, 2, 0)


def test_df_without_pandas(server, client, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(rb.MissingDependencyError, match="pip install pandas"):
        client.audit().df()


def test_df_with_pandas(server, client):
    pytest.importorskip("pandas")
    server.state.audited(3)
    frame = client.audit().df()
    assert list(frame["path"]) == ["/repo/1", "/repo/2", "/repo/3"]


def test_wait(server, client, project, capsys):
    raw = server.state.attempt(server.state.task(project.raw), events=3)
    attempt = client.attempt(raw["id"])
    with pytest.raises(rb.WaitTimeoutError, match="goes on"):
        attempt.wait(timeout=0.05, progress=False)
    timer = threading.Timer(0.3, server.state.status, (raw, "REVIEW"))
    timer.start()
    assert attempt.wait(timeout=10).status == "REVIEW"
    assert "attempt 1: REVIEW" in capsys.readouterr().err


def test_ctrl_c_while_waiting_detaches(server, client, project, monkeypatch):
    raw = server.state.attempt(server.state.task(project.raw))

    def interrupted(*_args):
        raise KeyboardInterrupt

    attempt = client.attempt(raw["id"])
    monkeypatch.setattr(client._transport, "_perform", interrupted)
    with pytest.raises(rb.DetachedInterrupt, match="goes on by itself"):
        attempt.wait(progress=False)
    assert requests(server, "POST") == []


def test_plan(server, project):
    plan = project.plan("Make it work", timeout=10)
    assert plan.status == "READY"
    assert plan.approve().tasks()[0].project == project.id
    server.state.plan_polls = 0
    assert project.plan("x", auto_approve=True, timeout=10).status == "APPROVED"
    assert project.plan("x", wait=False).status == "PENDING"
    with pytest.raises(rb.RootboundError, match="No quota left") as caught:
        project.plan("impossible")
    assert caught.value.code == "PROVIDER_QUOTA"


def test_waiting_outlasts_a_restart(server, client, project, monkeypatch):
    raw = server.state.attempt(server.state.task(project.raw))
    attempt = client.attempt(raw["id"])
    real, calls = client._transport._perform, []

    def flaky(step):
        calls.append(step)
        if len(calls) in (2, 3, 4, 5, 6):
            return real(type(step)("GET", "http://127.0.0.1:1/", {}, {}, None))
        server.state.status(raw, "SUCCESS")
        return real(step)

    monkeypatch.setattr(_flows, "_FIRST_PAUSE_S", 0.01)
    raw["status"] = "RUNNING"
    monkeypatch.setattr(client._transport, "_perform", flaky)
    assert attempt.wait(timeout=10, progress=False).status == "SUCCESS"


def test_diff_and_gates(server, client, project):
    gate = {"name": "test", "commit": "c" * 40, "command": "pytest", "exit_code": 0}
    raw = server.state.attempt(server.state.task(project.raw), gates=[gate])
    attempt = client.attempt(raw["id"])
    assert attempt.gates()[0].passed
    assert attempt.gate_list == attempt.gates()
    assert attempt.diff().files[0].path == "a.py"
    assert "+new" in attempt.diff().patch


@pytest.mark.asyncio
async def test_async_client(server, endpoint, tmp_path):
    server.state.audited(5)
    async with aio.AsyncClient(endpoint) as client:
        project = await client.projects.create("P", tmp_path)
        task = await project.create_task("T")
        with pytest.raises(rb.ConflictError, match="meanwhile"):
            await task.start(version=task.version + 1)
        attempt = await task.start(version=task.version)
        raw = server.state.attempts[attempt.id]
        waiting = asyncio.create_task(attempt.wait(timeout=10, progress=False))
        await asyncio.sleep(0)
        server.state.status(raw, "REVIEW")
        assert (await waiting).status == "REVIEW"
        assert (await attempt.approve()).status == "SUCCESS"
        assert [entry.seq async for entry in client.audit(page_size=2)] == [1, 2, 3, 4, 5]
        assert (await project.plan("x", timeout=10)).status == "READY"
        with pytest.raises(rb.NotFoundError):
            await client.task("nope")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (sync.Client, aio.AsyncClient),
        (sync.Projects, aio.AsyncProjects),
        (sync.Roots, aio.AsyncRoots),
        (sync.Agents, aio.AsyncAgents),
        (schedules.Schedules, aio_schedules.AsyncSchedules),
        (machines.Machines, aio_machines.AsyncMachines),
        (objects.Project, aio_objects.AsyncProject),
        (objects.Task, aio_objects.AsyncTask),
        (objects.Attempt, aio_objects.AsyncAttempt),
        (objects.Decomposition, aio_objects.AsyncDecomposition),
    ],
)
def test_both_clients_have_one_surface(one, other):
    def surface(cls):
        return {
            name: list(inspect.signature(value).parameters)
            for name, value in inspect.getmembers(cls, inspect.isfunction)
            if not name.startswith("_")
        }

    assert surface(one) == surface(other)


def test_import_is_light():
    code = (
        "import sys, rootbound; rootbound.__version__; dir(rootbound);"
        "heavy = {'ipywidgets','anywidget','pandas','httpx','IPython','websockets','tqdm'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_resolves():
    for name in rb.__all__:
        assert getattr(rb, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = rb.nothing
