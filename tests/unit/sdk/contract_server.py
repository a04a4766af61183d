"""A small real HTTP and WebSocket server that keeps Rootbound's contracts, with faults on demand.

It holds its state in plain attributes, which tests read and write.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
import uuid

import uvicorn
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.websockets import WebSocketDisconnect

NOW = "2026-11-22T12:00:00Z"
TERMINAL = {"SUCCESS", "FAILED"}


def problem(status, code, detail, **extras):
    body = {"type": f"https://rootbound.dev/problems/{code}", "title": code, "status": status}
    return JSONResponse(
        {**body, "detail": detail, "code": code, **extras},
        status_code=status,
        media_type="application/problem+json",
    )


class State:
    def __init__(self, token="secret"):
        self.token = token
        self.scheme = "bearer"
        self.projects, self.tasks, self.attempts, self.events = {}, {}, {}, {}
        self.decompositions, self.roots, self.agents, self.audit = {}, {}, {}, []
        self.costs = []
        self.requests = []
        self.keys = {}
        self.acks = []
        self.fail = []  # responses to give instead, oldest first
        self.cut_after = []  # per WebSocket connection: cut it after so many events
        self.skip = set()  # seqs that the socket loses once
        self.ws_status = None  # refuse WebSockets with this HTTP status
        self.ws_connections = 0
        self.gone = set()  # attempts whose sockets are closed as those of deleted ones
        self.plan_polls = 0
        self.page_limit = 1000

    def project(self, name="Demo", **fields):
        raw = {
            "id": str(uuid.uuid4()),
            "name": name,
            "repo_path": "/repo",
            "default_branch": "main",
            "config": {},
            "created_at": NOW,
            "task_counts": {},
            **fields,
        }
        self.projects[raw["id"]] = raw
        return raw

    def task(self, project, title="A task", **fields):
        raw = {
            "id": str(uuid.uuid4()),
            "project": project["id"],
            "title": title,
            "description": "",
            "status": "TODO",
            "priority": 0,
            "agent_role": "BACKEND",
            "dependencies": [],
            "blocked_by": [],
            "assigned_agent_id": None,
            "auto_start": False,
            "version": 1,
            "created_at": NOW,
            "latest_attempt": None,
            **fields,
        }
        self.tasks[raw["id"]] = raw
        return raw

    def attempt(self, task, events=0, status="RUNNING", **fields):
        number = 1 + sum(item["task"] == task["id"] for item in self.attempts.values())
        raw = {
            "id": str(uuid.uuid4()),
            "task": task["id"],
            "task_title": task["title"],
            "project": task["project"],
            "number": number,
            "status": status,
            "branch_name": "attempt/x",
            "base_commit": "a" * 40,
            "head_commit": None,
            "started_at": NOW,
            "completed_at": None,
            "exit_code": None,
            "failure": None,
            "failure_message": None,
            "agent": {"name": "dev", "provider": "GLM", "model": "glm-7", "is_replay": True},
            "usage": {},
            "last_seq": 0,
            "denied_count": 0,
            "created_at": NOW,
            "gates": [],
            "surprise": {"from": "a newer server"},
            **fields,
        }
        self.attempts[raw["id"]] = raw
        self.events[raw["id"]] = []
        for number in range(events):
            self.log(raw, f"line {number + 1}")
        task["latest_attempt"] = raw
        return raw

    def add(self, attempt, kind, payload):
        events = self.events[attempt["id"]]
        seq = len(events) + 1
        events.append({"seq": seq, "timestamp": NOW, "type": kind, "payload": payload})
        attempt["last_seq"] = seq

    def log(self, attempt, text):
        self.add(attempt, "LOG", {"kind": "text", "step": 1, "delta": text})

    def status(self, attempt, status, **fields):
        self.add(attempt, "STATUS", {"status": status})
        attempt.update({"status": status, **fields})

    def audited(self, count, **fields):
        for _ in range(count):
            seq = len(self.audit) + 1
            entry = {"id": seq, "run_id": "run", "attempt": None, "seq": seq, "timestamp": NOW}
            entry |= {"operation": "WRITE", "result": "ALLOWED", "path": f"/repo/{seq}"}
            self.audit.append({**entry, "source": "tool", "detail": {}, **fields})


class ContractServer:
    """Runs the server in a thread: ``with ContractServer() as server``."""

    def __init__(self, prefix="", token="secret"):
        self.state = State(token)
        self.prefix = prefix
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}{prefix}"
        self.token = token

    def __enter__(self):
        routes = [
            Route("/api/{rest:path}", self.api, methods=["GET", "POST", "PATCH", "DELETE"]),
            WebSocketRoute("/ws/attempts/{id}/", self.ws_attempt),
            WebSocketRoute("/ws/projects/{id}/", self.ws_project),
        ]
        app = Starlette(routes=[Mount(self.prefix, routes=routes)] if self.prefix else routes)
        config = uvicorn.Config(app, log_level="critical", lifespan="off", ws="websockets-sansio")
        self._server = uvicorn.Server(config)
        self._server.install_signal_handlers = lambda: None
        run = {"sockets": [self._socket]}
        self._thread = threading.Thread(target=self._server.run, kwargs=run, daemon=True)
        self._thread.start()
        deadline = time.monotonic() + 10
        while not self._server.started and time.monotonic() < deadline:
            time.sleep(0.005)
        return self

    @property
    def is_alive(self):
        return self._thread.is_alive() and not self._server.should_exit

    def __exit__(self, *_):
        self._server.should_exit = self._server.force_exit = True
        self._thread.join(10)
        with contextlib.suppress(OSError):
            self._socket.close()

    def allowed(self, headers):
        return headers.get("authorization", "").lower() == f"{self.state.scheme} {self.state.token}"

    async def api(self, request):
        state, rest = self.state, request.path_params["rest"]
        state.requests.append((request.method, rest, dict(request.query_params)))
        if rest == "health/" and not self.allowed(request.headers):
            return JSONResponse({"status": "ok"})
        if not self.allowed(request.headers):
            return problem(401, "unauthenticated", "Sign in.")
        if state.fail:
            return state.fail.pop(0)
        body = await request.json() if await request.body() else {}
        key = request.headers.get("idempotency-key")
        if key and key in state.keys:
            return state.keys[key]
        answer = self.route(request.method, rest.strip("/").split("/"), body, request.query_params)
        if key:
            state.keys[key] = answer
        return answer

    def route(self, method, parts, body, query):
        state = self.state
        match method, parts:
            case "GET", ["me"]:
                return JSONResponse({"username": "ada", "name": "Ada", "later": 1})
            case "GET", ["health"]:
                return JSONResponse({"status": "ok", "services": {"lda": {"state": "ready"}}})
            case "GET", ["local-access", "status"]:
                lda = {"reachable": True, "version": "1", "sandbox": {"tier": "A", "missing": []}}
                return JSONResponse({"lda": lda, "roots": list(state.roots.values())})
            case "GET", ["costs"]:
                days = {"since": query.get("since", ""), "until": ""}
                return JSONResponse({**days, "results": state.costs})
            case "GET", ["audit", "timeline"]:
                return JSONResponse({"bucket_s": 1, "buckets": []})
            case "GET", ["audit", "tree"]:
                return JSONResponse({"path": query["path"], "children": [], "truncated": False})
            case "GET", ["audit", "verify"]:
                found = {"ok": True, "runs": 1, "entries": 5, "retained_away": 0, "findings": []}
                return JSONResponse({**found, "next": None})
            case "GET", ["audit", "summary"]:
                return JSONResponse({"counts": self.counts(query)})
            case "GET", ["audit", "logs"]:
                return self.listed([row for row in state.audit if self.fits(row, query)], query)
            case "GET", ["attempts", _, "events"]:
                return self.stored(parts[1], query)
            case "GET", ["attempts", _, "diff"]:
                patch = "@@ -1 +1 @@\n-old\n+new <b>"
                file = {"path": "a.py", "old_path": None, "status": "modified", "additions": 1}
                file |= {"deletions": 1, "binary": False, "patch": patch, "truncated": False}
                stats = {"files": 1, "additions": 1, "deletions": 1}
                return JSONResponse({"base": "a", "head": "b", "files": [file], "stats": stats})
            case "GET", ["attempts", _, "gates"]:
                return JSONResponse({"results": state.attempts[parts[1]]["gates"], "next": None})
            case "POST", ["attempts", _, verb]:
                return self.act(parts[1], verb, body)
            case "POST", ["tasks", _, "attempts"]:
                task = state.tasks[parts[1]]
                if body.pop("version", task["version"]) != task["version"]:
                    return problem(409, "version-conflict", "Somebody changed this task meanwhile.")
                if task["blocked_by"]:
                    return problem(409, "dependencies-open", "It waits for another task.")
                return JSONResponse(state.attempt(task, status="QUEUED", **body), status_code=201)
            case "POST", ["projects", _, "decompositions"]:
                raw = {"id": str(uuid.uuid4()), "project": parts[1], "status": "PENDING"}
                raw |= {"user_prompt": body["prompt"], "auto": body["auto_approve"]}
                state.decompositions[raw["id"]] = raw
                return JSONResponse(raw, status_code=202)
            case _, ["decompositions", *_]:
                return self.decomposition(parts)
            case (("GET" | "POST"), ["local-access", "roots"]):
                return self.collection(method, state.roots, body, query, "root")
            case (("GET" | "POST"), ["projects" | "tasks" as kind, owner, child]):
                known = {"tasks": state.tasks, "attempts": state.attempts}
                field = kind.removesuffix("s")
                if method == "POST":
                    return JSONResponse(state.task({"id": owner}, **body), status_code=201)
                rows = [row for row in known[child].values() if row[field] == owner]
                return self.listed(rows, query)
            case (("GET" | "POST"), ["projects" | "agents" as kind]):
                return self.collection(method, getattr(state, kind), body, query, kind[:-1])
            case _, ["local-access", "roots", item]:
                return self.member(method, state.roots, item, body)
            case _, ["projects" | "tasks" | "attempts" | "agents" as kind, item]:
                return self.member(method, getattr(state, kind), item, body)
        return problem(404, "not-found", "There is nothing here.")

    def collection(self, method, rows, body, query, kind):
        if method == "GET":
            return self.listed(list(rows.values()), query)
        if kind == "project":
            return JSONResponse(self.state.project(**body), status_code=201)
        raw = {"id": str(uuid.uuid4()), "is_enabled": True, **body}
        if kind == "root" and body["path"] == "/":
            return problem(422, "root-is-filesystem-root", "The whole disk cannot be a root.")
        rows[raw["id"]] = raw
        return JSONResponse(raw, status_code=201)

    def member(self, method, rows, item, body):
        if item not in rows:
            return problem(404, "not-found", "It does not exist.")
        if method == "DELETE":
            del rows[item]
            return Response(status_code=204)
        if method == "PATCH":
            rows[item].update(body)
        return JSONResponse(rows[item])

    def act(self, attempt_id, verb, body):
        attempt = self.state.attempts[attempt_id]
        version = self.state.tasks[attempt["task"]]["version"]
        if body.get("version", version) != version:
            return problem(409, "version-conflict", "Somebody changed this task meanwhile.")
        if body.get("status", attempt["status"]) != attempt["status"]:
            return problem(409, "attempt-moved", "It is not as you saw it.")
        if verb in ("retry", "request-changes", "update"):
            task = self.state.tasks[attempt["task"]]
            return JSONResponse(self.state.attempt(task, status="QUEUED"), status_code=201)
        if verb == "approve" and attempt["status"] != "REVIEW":
            return problem(409, "not-in-review", "It does not wait for a review.")
        status = {"approve": "SUCCESS", "reject": "FAILED", "cancel": "FAILED"}[verb]
        self.state.status(attempt, status, failure_message=body.get("reason"))
        return JSONResponse(attempt)

    def decomposition(self, parts):
        raw = self.state.decompositions[parts[1]]
        self.state.plan_polls += 1
        tasks = [{"key": "a", "title": "<i>First</i>", "role": "QA", "depends_on": []}]
        if parts[2:] == ["approve"]:
            raw["status"] = "APPROVED"
            raw["tasks_created"] = [self.state.task({"id": raw["project"]})["id"]]
        elif raw["user_prompt"] == "impossible":
            raw.update(status="FAILED", failure="PROVIDER_QUOTA", failure_message="No quota left.")
        elif self.state.plan_polls > 1 and raw["status"] == "PENDING":
            raw.update(status="READY", plan={"summary": "Do it", "tasks": tasks})
        elif raw["auto"] and raw["status"] == "READY":
            raw["status"] = "APPROVED"
        return JSONResponse(raw)

    def fits(self, row, query):
        named = ("attempt", "operation", "result")
        return all(query.get(name) in (None, row[name]) for name in named) and row[
            "path"
        ].startswith(query.get("path_prefix", ""))

    def counts(self, query):
        counts = {}
        for row in self.state.audit:
            if self.fits(row, query):
                pair = (row["operation"], row["result"])
                counts[pair] = counts.get(pair, 0) + 1
        return [{"operation": o, "result": r, "count": n} for (o, r), n in counts.items()]

    def listed(self, rows, query):
        start = int(query.get("cursor") or 0)
        size = min(int(query.get("limit") or 100), self.state.page_limit)
        more = start + size < len(rows)
        answer = {"results": rows[start : start + size], "next": None}
        return JSONResponse(answer | ({"next": str(start + size)} if more else {}))

    def stored(self, attempt_id, query):
        if attempt_id not in self.state.events:
            return problem(404, "not-found", "It does not exist.")
        after, limit = int(query.get("after", 0)), int(query.get("limit", 100))
        first = {"first_seq": 1, "last_seq": len(self.state.events[attempt_id])}
        if "before" in query:
            rows = self.state.events[attempt_id][: int(query["before"]) - 1]
            rows = [row for row in rows if query.get("q", "") in str(row["payload"])]
            return JSONResponse({"results": rows[-limit:], "next": None, "previous": None, **first})
        rows = self.state.events[attempt_id][after : after + limit]
        return JSONResponse({"results": rows, "next": rows[-1]["seq"] if rows else None, **first})

    async def admitted(self, ws, known):
        self.state.ws_connections += 1
        if self.state.ws_status or not self.allowed(ws.headers):
            await ws.send_denial_response(Response(status_code=self.state.ws_status or 403))
            return False
        await ws.accept()
        if ws.path_params["id"] not in known:
            await ws.close(4404)
            return False
        return True

    async def ws_attempt(self, ws):
        state = self.state
        if not await self.admitted(ws, state.attempts):
            return
        attempt = state.attempts[ws.path_params["id"]]
        cut = state.cut_after.pop(0) if state.cut_after else None
        sent = int(ws.query_params.get("after", 0))
        reader = asyncio.create_task(self.read_acks(ws, state))
        hello = {"type": "hello", "last_seq": attempt["last_seq"], "status": attempt["status"]}
        with contextlib.suppress(WebSocketDisconnect, RuntimeError):
            await ws.send_json(hello)
            while not reader.done():
                is_over = attempt["status"] in TERMINAL
                rows = state.events[attempt["id"]][sent : sent + 7]
                if cut is not None:
                    rows, cut = rows[:cut], cut - len(rows)
                if rows:
                    sent = rows[-1]["seq"]
                    kept = [row for row in rows if row["seq"] not in state.skip]
                    state.skip -= {row["seq"] for row in rows}
                    # One event too many, twice: a reader must drop what it has.
                    kept = state.events[attempt["id"]][max(rows[0]["seq"] - 2, 0) :][:1] + kept
                    await ws.send_json({"type": "events", "events": kept})
                elif is_over and sent >= attempt["last_seq"]:
                    end = {"type": "end", "status": attempt["status"], "last_seq": sent}
                    await ws.send_json(end)
                    await ws.close(1000)
                if attempt["id"] in state.gone:
                    await ws.close(4404)
                    break
                if cut is not None and cut <= 0:
                    await ws.close(1012)
                    break
                await asyncio.sleep(0.005)
        reader.cancel()

    async def read_acks(self, ws, state):
        with contextlib.suppress(WebSocketDisconnect, RuntimeError):
            while True:
                state.acks.append((await ws.receive_json())["seq"])

    async def ws_project(self, ws):
        if not await self.admitted(ws, self.state.projects):
            return
        state, project, seen = self.state, ws.path_params["id"], None
        reader = asyncio.create_task(self.read_acks(ws, state))
        with contextlib.suppress(WebSocketDisconnect, RuntimeError):
            while not reader.done():
                tasks = {t["id"]: dict(t) for t in state.tasks.values()}
                tasks = {i: t for i, t in tasks.items() if t["project"] == project}
                if seen is None:
                    await ws.send_json({"type": "snapshot", "tasks": list(tasks.values())})
                else:
                    for task_id, task in tasks.items():
                        if seen.get(task_id) != task:
                            await ws.send_json({"type": "task", "task": task})
                    for task_id in seen.keys() - tasks.keys():
                        await ws.send_json({"type": "task_deleted", "id": task_id})
                seen = tasks
                await asyncio.sleep(0.01)
        reader.cancel()
