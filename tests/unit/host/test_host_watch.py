"""The stack as the host sees it: not ready, started, adopted, failed, restarted, stopped."""

import asyncio
import json
import os
import subprocess
import sys
import threading

import pytest
from tornado.httpclient import HTTPClientError

from rootbound import paths
from rootbound_server_ext.stack.errors import StackError
from rootbound_server_ext.stack.state import ServiceInfo, StackInfo

KEY = "ab" * 32


class Stack:
    """Stands in for the guard: what it would start is the real backend of these tests."""

    def __init__(self, backend):
        self.backend = backend
        self.running = False
        self.calls = []
        self.go_on = threading.Event()
        self.error = None
        self.hangs = None
        self.backend_state = "ready"

    def info(self):
        services = {
            "backend": ServiceInfo(state=self.backend_state, pid=1),
            "worker": ServiceInfo(state="ready", pid=2),
        }
        return StackInfo("http://127.0.0.1:1", str(self.backend.path), 1, "", "", services)

    def start(self, home, *, stop_with_pid, timeout_s, progress):
        self.calls.append(stop_with_pid)
        progress("PostgreSQL is starting.")
        assert self.go_on.wait(20)
        if self.error is not None:
            raise self.error
        if not self.backend.accepts():
            self.backend.start()
        self.running = True
        return self.info()

    def restart(self, home, service):
        self.calls.append(service)
        if service not in self.info().services:
            raise StackError(f"There is no service {service!r}.", service=service)
        return self.info()

    def status(self, home):
        if self.hangs is not None:
            raise self.hangs
        return self.info() if self.running else None


@pytest.fixture
def backend_path():
    return ""


@pytest.fixture
def stack(app, own_backend):
    double = Stack(own_backend)
    app.host.watch._api = double
    yield double
    double.go_on.set()


async def state(jp_fetch, **kwargs):
    return json.loads((await jp_fetch("rootbound", "stack", **kwargs)).body)


async def until_ready(jp_fetch):
    async with asyncio.timeout(20):
        while (await state(jp_fetch))["state"] != "ready":
            await asyncio.sleep(0.02)


async def test_503_with_retry_after_until_ready_and_started_once(jp_fetch, refused, stack, caplog):
    assert (await state(jp_fetch))["state"] == "stopped"
    assert stack.calls == []  # looking does not start it
    for _ in range(2):
        code, problem, headers = await refused("rootbound", "api", "me")
        assert (code, problem["code"]) == (503, "stack-starting")
        assert int(headers["Retry-After"]) >= 1
    described = await state(jp_fetch)
    assert described["state"] == "starting"
    assert described["message"] == "PostgreSQL is starting."
    stack.go_on.set()
    await until_ready(jp_fetch)
    assert stack.calls == [None]
    assert [r for r in caplog.records if r.levelname == "ERROR"] == []
    assert (await jp_fetch("rootbound", "api", "me")).code == 200
    services = (await state(jp_fetch))["services"]
    assert services["backend"] == {"state": "ready", "address": None, "pid": 1}


async def test_websocket_before_readiness_is_503(jp_ws_fetch, stack):
    with pytest.raises(HTTPClientError) as caught:
        await jp_ws_fetch("rootbound", "ws", "echo")
    assert caught.value.code == 503
    assert caught.value.response.headers["Retry-After"]


async def test_first_request_to_a_running_stack_succeeds_at_once(jp_fetch, stack):
    stack.go_on.set()
    assert (await jp_fetch("rootbound", "api", "me")).code == 200


async def test_upload_before_readiness_gets_its_answer(refused, stack):
    code, _, _ = await refused("rootbound", "api", "x", method="POST", body=b"z" * 3_000_000)
    assert code == 503


async def test_post_starts_the_stack(jp_fetch, stack):
    response = await jp_fetch("rootbound", "stack", method="POST", body="")
    assert response.code == 202
    assert json.loads(response.body)["state"] == "starting"
    stack.go_on.set()
    await until_ready(jp_fetch)
    assert stack.calls == [None]


async def test_post_restarts_one_service(jp_fetch, refused, stack, jp_root_dir):
    stack.go_on.set()
    await jp_fetch("rootbound", "api", "me")
    body = json.dumps({"restart": "worker"})
    response = await jp_fetch("rootbound", "stack", method="POST", body=body)
    assert response.code == 202
    answer = json.loads(response.body)
    assert answer["state"] == "ready"
    assert answer["files_root"] == str(jp_root_dir.resolve())
    assert stack.calls == [None, "worker"]
    for wrong, status in (('{"restart": "nothing"}', 409), ('{"restart": 7}', 400), ("{", 400)):
        code, problem, _ = await refused("rootbound", "stack", method="POST", body=wrong)
        assert code == status, problem
    assert stack.calls == [None, "worker", "nothing"]


async def test_end_of_a_services_log(jp_fetch, refused, stack, key_home):
    (key_home / "logs").mkdir(exist_ok=True)
    (key_home / "logs/worker.log").write_text("one\ntwo\nthree\n")
    answer = await jp_fetch("rootbound", "stack", "logs", "worker", params={"lines": "2"})
    assert json.loads(answer.body) == {"service": "worker", "text": "two\nthree"}
    empty = await jp_fetch("rootbound", "stack", "logs", "lda")
    assert json.loads(empty.body)["text"] == ""
    code, problem, _ = await refused("rootbound", "stack", "logs", "passwd")
    assert (code, problem["code"]) == (404, "not-found")
    for lines in ("0", "-1", "9999", "x"):
        code, _, _ = await refused("rootbound", "stack", "logs", "lda", params={"lines": lines})
        assert code == 400
    assert stack.calls == []


async def test_failure_is_told_and_not_retried_at_once(jp_fetch, refused, stack):
    stack.error = StackError("PostgreSQL did not start: the disk is full; make room.")
    stack.go_on.set()
    code, problem, headers = await refused("rootbound", "api", "me")
    assert (code, problem["code"]) == (503, "stack-failed")
    assert problem["detail"] == "PostgreSQL did not start: the disk is full; make room."
    assert int(headers["Retry-After"]) > 1
    await refused("rootbound", "api", "me")
    assert len(stack.calls) == 1
    assert (await state(jp_fetch))["state"] == "failed"
    stack.error = None
    await jp_fetch("rootbound", "stack", method="POST", body="")  # a person may ask at once
    await until_ready(jp_fetch)


async def test_unexpected_failure_does_not_tell_internals(refused, stack):
    stack.error = RuntimeError("secret path")
    stack.go_on.set()
    code, problem, _ = await refused("rootbound", "api", "me")
    assert (code, problem["code"]) == (503, "stack-failed")
    assert "secret" not in problem["detail"]


async def test_backend_restart_needs_no_restart_of_jupyter(jp_fetch, refused, stack, own_backend):
    stack.go_on.set()
    first = json.loads((await jp_fetch("rootbound", "api", "me")).body)["pid"]
    own_backend.kill()
    code, problem, headers = await refused("rootbound", "api", "me")
    assert (code, problem["code"]) == (503, "backend-unreachable")
    assert headers["Retry-After"] == "1"
    await until_ready(jp_fetch)
    second = json.loads((await jp_fetch("rootbound", "api", "me")).body)["pid"]
    assert first != second


async def test_stack_stopped_on_purpose_stays_so_until_somebody_starts_it(
    jp_fetch, refused, stack, own_backend, key_home
):
    stack.go_on.set()
    await jp_fetch("rootbound", "api", "me")
    paths.run_dir(key_home).mkdir(exist_ok=True)
    paths.stopped_file(key_home).touch()  # as `rootbound down` does before anything ends
    stack.running = False
    own_backend.kill()
    for _ in range(3):  # open panels ask on
        code, problem, _ = await refused("rootbound", "api", "me")
        assert (code, problem["code"]) == (503, "stack-stopped")
    assert stack.calls == [None]
    # `rootbound up` in another shell: the panels find it again.
    own_backend.start()
    stack.running = True
    paths.stopped_file(key_home).unlink()
    assert (await jp_fetch("rootbound", "api", "me")).code == 200
    assert stack.calls == [None, None]  # which adopts the one that runs
    # Whoever starts it here wants it again, whatever was before.
    paths.stopped_file(key_home).touch()
    stack.running = False
    own_backend.kill()
    await refused("rootbound", "api", "me")
    await jp_fetch("rootbound", "stack", method="POST", body="{}")
    await until_ready(jp_fetch)
    assert (await jp_fetch("rootbound", "api", "me")).code == 200
    assert stack.calls == [None, None, None]


async def test_stack_that_moved_its_socket_is_followed(jp_fetch, refused, stack, own_backend):
    stack.go_on.set()
    await jp_fetch("rootbound", "api", "me")
    own_backend.kill()
    own_backend.path = own_backend.path.with_name("c.sock")
    await refused("rootbound", "api", "me")
    await until_ready(jp_fetch)
    assert (await jp_fetch("rootbound", "api", "me")).code == 200


async def test_websocket_is_told_to_come_back_when_the_backend_dies(
    jp_fetch, jp_ws_fetch, stack, own_backend
):
    stack.go_on.set()
    await jp_fetch("rootbound", "api", "me")
    socket = await jp_ws_fetch("rootbound", "ws", "echo")
    own_backend.kill()
    assert await socket.read_message() is None
    assert socket.close_code == 1012


@pytest.mark.parametrize("framing", [{"length": "1"}, {}])
async def test_answer_broken_off_does_not_look_whole(raw, jp_fetch, stack, framing):
    stack.go_on.set()
    await jp_fetch("rootbound", "api", "me")
    query = "?length=1" if framing else ""
    client = await raw("GET", f"rootbound/api/truncated{query}")
    await client.head()
    await client.reader.readuntil(b"part")
    await jp_fetch("rootbound", "api", "open", params={"gate": "truncate"})
    rest = await client.reader.read()
    assert b"0\r\n\r\n" not in rest


async def test_backend_that_dies_over_a_write_is_502_and_not_repeated(jp_fetch, refused, stack):
    stack.go_on.set()
    await jp_fetch("rootbound", "api", "me")
    code, problem, _ = await refused("rootbound", "api", "die", method="POST", body="{}")
    assert (code, problem["code"]) == (502, "backend-lost")


async def test_stopping_is_bounded_and_cancels_the_start(jp_fetch, refused, stack, app):
    await refused("rootbound", "api", "me")
    async with asyncio.timeout(5):
        await app.stop_extension()
    await app.stop_extension()  # twice is harmless


class TestOff:
    @pytest.fixture
    def extension_config(self):
        return {"autostart": "off"}

    async def test_nothing_is_started_but_a_running_stack_is_used(self, jp_fetch, refused, stack):
        code, problem, _ = await refused("rootbound", "api", "me")
        assert (code, problem["code"]) == (503, "stack-stopped")
        assert "rootbound up" in problem["detail"]
        stack.running = True  # somebody else started it
        assert (await state(jp_fetch))["state"] == "ready"
        assert (await jp_fetch("rootbound", "api", "me")).code == 200
        assert stack.calls == []

    async def test_stack_that_is_still_starting_is_not_used_yet(self, jp_fetch, refused, stack):
        stack.running = True
        stack.backend_state = "starting"
        code, problem, _ = await refused("rootbound", "api", "me")
        assert (code, problem["code"]) == (503, "stack-starting")
        described = await state(jp_fetch)
        assert described["message"] == "In the stack, backend is starting."

    async def test_guard_that_hangs_is_told(self, jp_fetch, refused, stack):
        stack.hangs = StackError("The guard did not answer in time; `rootbound down` stops it.")
        code, problem, _ = await refused("rootbound", "api", "me")
        assert (code, problem["code"]) == (503, "stack-failed")
        assert "rootbound down" in problem["detail"]
        assert (await state(jp_fetch))["state"] == "failed"
        stack.hangs = None
        stack.running = True
        assert (await jp_fetch("rootbound", "api", "me")).code == 200


class TestStart:
    @pytest.fixture
    def extension_config(self):
        return {"autostart": "start", "stop_with_jupyter": True}

    async def test_started_with_the_server_and_bound_to_it(self, jp_serverapp, app, stack):
        await app._start_jupyter_server_extension(jp_serverapp)
        assert app.host.watch.state == "starting"
        stack.go_on.set()
        await asyncio.wait({app.host.watch._task})
        assert stack.calls == [os.getpid()]


class TestGivenSocket:
    @pytest.fixture
    def backend_path(self, own_backend):
        return str(own_backend.path)

    async def test_configured_backend(self, jp_fetch, refused, own_backend):
        assert (await state(jp_fetch))["state"] == "ready"
        own_backend.kill()
        described = await state(jp_fetch)
        assert described["state"] == "failed"
        assert str(own_backend.path) in described["message"]
        code, _, headers = await refused("rootbound", "api", "me")
        assert (code, headers["Retry-After"]) == (503, "1")
        own_backend.start()
        assert (await jp_fetch("rootbound", "api", "me")).code == 200

    async def test_keys_that_are_not_there_yet(self, jp_fetch, refused, key_home):
        key = key_home / "secrets/identity.key"
        key.unlink()
        code, problem, _ = await refused("rootbound", "api", "me")
        assert (code, problem["code"]) == (503, "stack-starting")
        key.write_text("cd" * 32)
        import jwt

        described = json.loads((await jp_fetch("rootbound", "api", "me")).body)
        (token,) = [v for k, v in described["headers"] if k == "x-rootbound-identity"]
        assert jwt.decode(token, "cd" * 32, algorithms=["HS256"], audience="rootbound-backend")


def test_slow_start_does_not_keep_jupyter_from_ending():
    code = (
        "import asyncio, time\n"
        "from rootbound_server_ext.host.watch import _off_loop\n"
        "async def main():\n"
        "    task = asyncio.create_task(_off_loop(lambda: time.sleep(60)))\n"
        "    await asyncio.sleep(0.1)\n"
        "    task.cancel()\n"
        "asyncio.run(main())\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=20)


def test_import_is_light():
    code = (
        "import sys, time, jupyter_server.serverapp\n"
        "started = time.perf_counter()\n"
        "import rootbound_server_ext as ext\n"
        "ext._jupyter_server_extension_points()\n"
        "took = time.perf_counter() - started\n"
        "heavy = {'aiohttp', 'jwt', 'django', 'rootbound_backend', 'rootbound_lda', 'celery'}\n"
        "print(took, sorted(heavy & set(sys.modules)))\n"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split(maxsplit=1)
    assert out[1].strip() == "[]"
    assert float(out[0]) < 1.0  # 0.02 s on an idle machine


def test_extension_says_who_it_is():
    import rootbound_server_ext as ext

    (point,) = ext._jupyter_server_extension_points()
    assert point["module"] == "rootbound_server_ext"
    assert ext.__version__ == "0.1.0"
    assert ext._jupyter_labextension_paths() == [{"src": "labextension", "dest": "@rootbound/lab"}]
