"""Two users, two machines, two backends, three workers: what each sees, what each loss costs."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from tests.integration.deploy.deploy_support import Deployment, Person, running_deployment
from tests.support.environment import wait_for
from tests.support.live import fix_calculator

# `CLAIM_S` of the attempts' `handover`, and the period of its sweep in the settings, in seconds.
CLAIM_S, SWEEP_S = 60, 10
World = tuple[Deployment, Person, Person]


@pytest.fixture(scope="module")
def world(postgres_server: str) -> Iterator[World]:
    with (
        tempfile.TemporaryDirectory(prefix="rb-far-") as folder,
        running_deployment(Path(folder), postgres_server) as found,
    ):
        yield found


def ids(person: Person, path: str) -> set[str]:
    return {str(row["id"]) for row in person.call("GET", path)["results"]}


def events(person: Person, attempt_id: str) -> list[int]:
    page = person.call("GET", f"/api/attempts/{attempt_id}/events/?after=0&limit=1000")
    return [row["seq"] for row in page["results"]]


def test_a_hub_token_is_its_user_and_nothing_else_is(world: World) -> None:
    deployment, ada, bob = world
    assert ada.call("GET", "/api/me/")["username"] == "ada"
    assert bob.call("GET", "/api/me/")["username"] == "bob"

    def made(scopes: list[str]) -> httpx.Response:
        token = httpx.post(
            f"{deployment.hub_url}/users/ada/tokens",
            headers={"Authorization": f"token {ada.token}"}, json={"scopes": scopes},
        ).json()["token"]  # fmt: skip
        headers = {"Authorization": f"Bearer {token}"}
        return ada.api.get("/api/me/", headers=headers)

    assert made(["access:servers!user"]).json()["username"] == "ada"
    narrow = made(["read:users:activity!user"])
    assert narrow.status_code == 401
    assert "made for something else" in narrow.json()["detail"]
    unknown = ada.api.get("/api/me/", headers={"Authorization": "Bearer nonsense"})
    assert unknown.status_code == 401
    assert unknown.json()["detail"].startswith("JupyterHub does not know this token")


def test_nobody_sees_what_is_anothers(world: World) -> None:
    deployment, ada, bob = world
    deployment.replay.turns = fix_calculator()
    mine = bob.start("Bob's repair")
    bob.wait(mine, "REVIEW")
    task = bob.attempt(mine)["task"]
    for path in (
        f"/api/machines/{bob.machine['id']}/",
        f"/api/projects/{bob.project['id']}/",
        f"/api/projects/{bob.project['id']}/tasks/",
        f"/api/tasks/{task}/",
        f"/api/attempts/{mine}/",
        f"/api/attempts/{mine}/events/?after=0",
        f"/api/attempts/{mine}/diff/",
        f"/api/attempts/{mine}/artifacts/",
        f"/api/attempts/{mine}/gates/",
    ):
        bob.call("GET", path)
        ada.call("GET", path, expect=404)
    for verb, body in (("cancel", {}), ("approve", {}), ("messages", {"text": "x"})):
        ada.call("POST", f"/api/attempts/{mine}/{verb}/", body, expect=404)
    ada.call("POST", f"/api/machines/{bob.machine['id']}/token/", expect=404)
    ada.call("DELETE", f"/api/machines/{bob.machine['id']}/", expect=404)
    for path in ("/api/projects/", "/api/machines/", "/api/audit/logs/", "/api/agents/"):
        seen = ids(bob, path)
        assert seen
        assert not seen & ids(ada, path)

    # A path of Bob's is on no machine of Ada's, so no LDA is even asked.
    for path, body in (
        ("/api/local-access/roots/", {"path": str(bob.files)}),
        ("/api/projects/", {"name": "x", "repo_path": bob.project["repo_path"]}),
    ):
        refused = ada.call("POST", path, body, expect=422)
        assert refused["code"] == "root-owned-by-no-machine"

    port = deployment.ports[0]
    headers = {"Authorization": f"Bearer {ada.token}"}
    for path in (f"attempts/{mine}", f"projects/{bob.project['id']}"):
        url = f"ws://127.0.0.1:{port}/ws/{path}/"
        with connect(url, additional_headers=headers) as socket, pytest.raises(ConnectionClosed):
            socket.recv(timeout=10)
        assert socket.close_code == 4404
    # Nor does a user's token, or somebody else's LDA with a copied one, hold a machine.
    stolen = (bob.home / "secrets/machine.token").read_text()
    for token in (ada.token, stolen, stolen[:-60] + "x" * 60):
        with pytest.raises(InvalidStatus) as refusal:
            connect(
                f"ws://127.0.0.1:{port}/ws/machine/",
                additional_headers={
                    "Authorization": f"Bearer {token}",
                    "X-Rootbound-Lda": "00000000-0000-4000-8000-000000000000:boot",
                },
            )
        assert refusal.value.response.status_code == 403


def test_the_panels_of_a_users_machine_reach_the_server(world: World) -> None:
    deployment, ada, bob = world
    server, jupyter = deployment.jupyter(ada, 0)
    with jupyter:
        described = jupyter.get("/rootbound/stack").json()
        url = f"http://127.0.0.1:{deployment.ports[0]}"
        assert described["state"] == "ready"
        assert described["message"] == f"Connected to {url} as ada."
        assert jupyter.get("/rootbound/api/me/").json()["username"] == "ada"
        stranger = httpx.get(f"{jupyter.base_url}/rootbound/api/me/", trust_env=False)
        assert stranger.status_code == 403
        seen = {row["id"] for row in jupyter.get("/rootbound/api/projects/").json()["results"]}
        assert seen == ids(ada, "/api/projects/")
        tasks = f"/rootbound/api/projects/{ada.project['id']}/tasks/"
        made = jupyter.post(tasks, json={"title": "From the panel", "agent_role": "BACKEND"})
        assert made.status_code == 201, made.text
        for project, wanted in ((ada.project, "snapshot"), (bob.project, "")):
            with connect(
                f"ws://127.0.0.1:{jupyter.base_url.port}/rootbound/ws/projects/{project['id']}/",
                additional_headers={"Authorization": "token of-jupyter"},
            ) as socket:
                if wanted:
                    assert json.loads(socket.recv(timeout=10))["type"] == wanted
                    continue
                with pytest.raises(ConnectionClosed):
                    socket.recv(timeout=10)
            assert socket.close_code == 4404
        refused = jupyter.get("/rootbound/stack/logs/backend")
        assert refused.status_code == 404
        assert "kept where the services run" in refused.json()["detail"]

        # A confined kernel: the LDA beside this Jupyter starts it, on the server's word.
        made = jupyter.post("/api/kernels", json={"name": "python3-rooted", "path": "app"})
        assert made.status_code == 201, made.text
        kernel, repo = made.json()["id"], Path(ada.project["repo_path"])
        code = "import rootbound as rb; print([one.name for one in rb.connect().projects.list()])"
        said = deployment.run_cell(jupyter, kernel, f"open('night.txt', 'w').close(); {code}")
        assert said == f"[{ada.project['name']!r}]\n"
        said = deployment.run_cell(jupyter, kernel, f"open({str(bob.files / 'x')!r}, 'w')")
        assert f"{bob.files} is in no root that this kernel may write to ({repo})" in said
        (session,) = ada.call("GET", "/api/kernels/")["results"]
        assert session["cwd"] == str(repo)
        assert bob.call("GET", "/api/kernels/")["results"] == []
        denied = f"/api/audit/logs/?run={session['id']}&result=DENIED&path_prefix={bob.files}"
        wait_for(lambda: ada.call("GET", denied)["results"], within_s=15, what="the denial")
        assert jupyter.delete(f"/api/kernels/{kernel}").status_code == 204
        assert (repo / "night.txt").exists() and not (bob.files / "x").exists()
        (repo / "night.txt").unlink()

        deployment.processes["backend0"].kill()
        gone = jupyter.get("/rootbound/api/me/")
        assert gone.status_code == 503
        assert gone.json()["detail"] == f"The backend at {url} does not answer; ask again."
        assert jupyter.get("/rootbound/stack").json()["state"] == "failed"
        deployment.backend(0)
        wait_for(lambda: jupyter.get("/rootbound/api/me/").status_code == 200, within_s=60)
    server.end()
    log = server.text()
    assert ada.token not in log
    assert "Traceback" not in log
    assert "no stack" not in log and not (ada.home / "postgres").exists()


def test_losing_a_worker_and_a_backend_in_the_middle_costs_nothing(world: World) -> None:
    deployment, ada, bob = world
    deployment.replay.turns = fix_calculator(delay_s=0.7)
    started = [(who, who.start(f"{who.name} {n}")) for n in range(2) for who in (ada, bob)]
    deployment.processes["worker0"].kill()
    # What the lost worker was handing over is free when its claim ends; the next sweep takes it.
    for who, attempt in started:
        who.wait(attempt, "RUNNING", "GATES", "REVIEW", within_s=CLAIM_S + SWEEP_S + 30)
    # Whichever backend the machines are connected to, it goes; clients ask the other.
    for number, other in ((0, 1), (1, 0)):
        for who in (ada, bob):
            who.api.base_url = f"http://127.0.0.1:{deployment.ports[other]}"
        deployment.processes[f"backend{number}"].kill()
        for who in (ada, bob):
            wait_for(lambda who=who: deployment.is_connected(who), within_s=30)
            who.call("GET", "/api/local-access/status/")
        if number == 0:
            deployment.backend(0)
            health = f"http://127.0.0.1:{deployment.ports[0]}/api/health/"
            wait_for(lambda url=health: _ok(url), within_s=60, what=health)
    for who, attempt in started:
        ended = who.wait(attempt)
        assert ended["status"] == "REVIEW", ended
        numbers = events(who, attempt)
        assert numbers == list(range(1, len(numbers) + 1))
    deployment.backend(1)
    # What the lost one would have done, the others did.
    shares = [deployment.processes[f"worker{n}"].text().count(" received") for n in (1, 2)]
    assert min(shares) > 0


def _ok(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def test_losing_a_machine_is_its_users_affair_only(world: World) -> None:
    deployment, ada, bob = world
    deployment.replay.turns = fix_calculator(delay_s=0.7)
    lost, other = ada.start("On a machine that dies"), bob.start("On one that does not")
    ada.wait(lost, "RUNNING")
    assert ada.lda is not None
    ada.lda.kill()
    wait_for(lambda: not deployment.is_connected(ada), within_s=20, what="the loss is seen")
    folder = str(ada.files / "app")
    gone = ada.call("POST", "/api/local-access/roots/", {"path": folder}, expect=503)
    assert gone["code"] == "lda-unreachable"
    assert "your machine ada's laptop does not answer (it is not connected)" in gone["detail"]
    queued = ada.start("Waits for the machine")
    assert bob.wait(other)["status"] == "REVIEW"
    ada.lda.start()
    wait_for(lambda: deployment.is_connected(ada), within_s=30, what="it is back")
    # The run went on from its journal, or ended with a reason; never for ever.
    ended = ada.wait(lost)
    assert ended["status"] == "REVIEW" or ended["failure"] == "LDA_LOST", ended
    assert ada.wait(queued)["status"] == "REVIEW"


def test_a_renewed_token_shuts_the_old_one_out(world: World) -> None:
    deployment, ada, _ = world
    renewed = ada.call("POST", f"/api/machines/{ada.machine['id']}/token/")
    assert renewed["token"] not in json.dumps(ada.call("GET", "/api/machines/"))
    wait_for(lambda: not deployment.is_connected(ada), within_s=20, what="shut out")
    assert ada.lda is not None
    wait_for(lambda: "does not let this machine in" in ada.lda.text(), within_s=20)
    ada.lda.end()
    deployment.connect_machine(ada, renewed["token"])
    wait_for(lambda: deployment.is_connected(ada), within_s=30, what="in again")


def test_results_come_from_the_machine_that_has_them(world: World) -> None:
    deployment, ada, _ = world
    deployment.replay.turns = fix_calculator()
    attempt = ada.start("Ada's repair")
    ada.wait(attempt, "REVIEW")
    assert not (deployment.folder / "server" / "artifacts" / attempt).exists()
    files = ada.call("GET", f"/api/attempts/{attempt}/artifacts/")["results"]
    test_log = next(one for one in files if one["name"].startswith("test-"))
    whole = ada.api.get(f"/api/attempts/{attempt}/artifacts/{test_log['name']}/")
    on_disk = ada.home / "artifacts" / attempt / test_log["name"]
    assert whole.content == on_disk.read_bytes()
    part = ada.api.get(whole.url.path, headers={"Range": "bytes=2-5"})
    assert (part.status_code, part.content) == (206, whole.content[2:6])
    assert "return a + b" in json.dumps(ada.call("GET", f"/api/attempts/{attempt}/diff/"))
    ada.call("POST", f"/api/attempts/{attempt}/approve/", {})
    ada.wait(attempt, "SUCCESS")
    assert "return a + b" in (ada.files / "app" / "calculator.py").read_text()


def test_nothing_that_a_machine_writes_down_holds_its_token(world: World) -> None:
    deployment, ada, bob = world
    logs = "".join(process.text() for process in deployment.processes.values())
    for person in (ada, bob):
        secret = (person.home / "secrets/machine.token").read_text().split(".")[2]
        assert secret not in logs
        assert person.token not in logs
