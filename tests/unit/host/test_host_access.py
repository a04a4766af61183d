"""Who is let in: identity, authorizer, XSRF, origin; always problems, never a redirect."""

import json

import pytest
from jupyter_server.auth import Authorizer, IdentityProvider, User

from rootbound_server_ext.host.http import ApiHandler
from rootbound_server_ext.host.resources import action_of, resource_of
from rootbound_server_ext.host.stack_handler import StackHandler
from rootbound_server_ext.host.websocket import SocketHandler

PATHS = [("rootbound", "api", "stranger"), ("rootbound", "stack")]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("open_server", [True, False])
async def test_no_identity_is_403_and_never_a_redirect(
    jp_serverapp, refused, seen, path, method, open_server
):
    # `allow_unauthenticated_access` is true by default: Jupyter itself would let everybody in.
    jp_serverapp.web_app.settings["allow_unauthenticated_access"] = open_server
    code, problem, _ = await refused(
        *path,
        method=method,
        body="{}" if method == "POST" else None,
        headers={"Authorization": "", "Accept": "text/html"},
    )
    assert (code, problem["code"]) == (403, "unauthenticated")
    assert (await seen(lambda s: True)).get("last") != "/api/stranger"


async def test_large_body_without_identity_still_gets_its_answer(refused):
    code, problem, _ = await refused(
        "rootbound", "api", "digest", method="POST", body=b"z" * 5_000_000,
        headers={"Authorization": "token wrong", "Cookie": "_xsrf=a", "X-XSRFToken": "a"},
    )  # fmt: skip
    assert (code, problem["code"]) == (403, "unauthenticated")


async def test_client_that_waits_for_100_is_refused_before_its_body(raw):
    client = await raw(
        "POST", "rootbound/api/a/../b", ["Content-Length: 1000000", "Expect: 100-continue"]
    )
    assert "400 Bad Request" in await client.head()


class Recorder(Authorizer):
    asked: list = []
    allowed = True

    def is_authorized(self, handler, user, action, resource):
        self.asked.append((action, resource))
        return self.allowed or not resource.startswith("rootbound:")


@pytest.fixture
def authorizer(jp_serverapp):
    recorder = Recorder(parent=jp_serverapp)
    recorder.asked = []
    jp_serverapp.web_app.settings["authorizer"] = recorder
    return recorder


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "api/projects/", ("read", "rootbound:projects")),
        ("POST", "api/projects/1/tasks/", ("write", "rootbound:tasks")),
        ("POST", "api/tasks/1/attempts/", ("write", "rootbound:attempts")),
        ("GET", "api/audit/logs/", ("read", "rootbound:audit")),
        ("PATCH", "api/agents/1/", ("write", "rootbound:agents")),
        ("DELETE", "api/local-access/roots/1/", ("write", "rootbound:local-access")),
        ("GET", "api/me/", ("read", "rootbound:api")),
        ("GET", "stack", ("read", "rootbound:stack")),
        ("POST", "stack", ("write", "rootbound:stack")),
        ("GET", "stack/logs/lda", ("read", "rootbound:stack")),
    ],
)
async def test_authorizer_is_asked(jp_fetch, authorizer, method, path, expected):
    body = "{}" if method in ("POST", "PATCH") else None
    await jp_fetch("rootbound", *path.split("/"), method=method, body=body)
    assert authorizer.asked == [expected]


def test_resource_names_cannot_be_dodged_by_encoding():
    assert resource_of("/api/%61udit/logs/") == "rootbound:audit"
    assert resource_of("/api/tasks/1%2Fattempts/") == "rootbound:attempts"
    assert resource_of("/ws/attempts/1/") == "rootbound:attempts"
    assert action_of("WEBSOCKET") == action_of("BREW") == "execute"


async def test_authorizer_refuses(refused, authorizer):
    authorizer.allowed = False
    code, problem, _ = await refused("rootbound", "api", "projects")
    assert (code, problem["code"]) == (403, "forbidden")
    assert "rootbound:projects" in problem["detail"]


@pytest.mark.parametrize("path", ["api/../secret", "api/%2e%2e/secret", "api/x/%2E/y"])
async def test_dot_segments_are_refused(raw, path):
    client = await raw("GET", f"rootbound/{path}", ["Connection: close"])
    assert "400 Bad Request" in await client.head()


async def test_foreign_host_is_refused(refused):
    code, problem, _ = await refused("rootbound", "api", "me", headers={"Host": "evil.example"})
    assert (code, problem["code"]) == (403, "foreign-host")


def browser(jar, **more):
    return {"Authorization": "", "Cookie": "; ".join(f"{k}={v}" for k, v in jar.items()), **more}


async def login(jp_serverapp, http_server_client, jp_base_url):
    token = jp_serverapp.identity_provider.token
    jar = {}
    for path in ("login", f"api/me?token={token}"):
        response = await http_server_client.fetch(
            jp_base_url + path, follow_redirects=False, raise_error=False,
            headers={"Cookie": "; ".join(f"{k}={v}" for k, v in jar.items())},
        )  # fmt: skip
        for line in response.headers.get_list("Set-Cookie"):
            name, _, value = line.split(";")[0].partition("=")
            jar[name] = value
    return jar


async def test_cookie_writes_need_the_xsrf_token(
    jp_serverapp, http_server_client, jp_base_url, jp_fetch, refused
):
    jar = await login(jp_serverapp, http_server_client, jp_base_url)
    assert "_xsrf" in jar
    response = await jp_fetch("rootbound", "api", "me", headers=browser(jar))
    assert response.code == 200
    code, problem, _ = await refused(
        "rootbound", "api", "projects", method="POST", body="{}", headers=browser(jar)
    )
    assert code == 403
    assert "_xsrf" in problem["detail"]
    response = await jp_fetch(
        "rootbound", "api", "projects", method="POST", body="{}",
        headers=browser(jar, **{"X-XSRFToken": jar["_xsrf"]}),
    )  # fmt: skip
    assert response.code == 200


async def test_token_writes_need_no_xsrf_token(jp_fetch):
    assert (await jp_fetch("rootbound", "api", "x", method="POST", body="{}")).code == 200


async def test_cookie_request_from_another_site_is_refused(
    jp_serverapp, http_server_client, jp_base_url, refused
):
    jar = await login(jp_serverapp, http_server_client, jp_base_url)
    code, problem, _ = await refused(
        "rootbound", "api", "me", headers=browser(jar, Origin="http://evil.example")
    )
    assert (code, problem["code"]) == (403, "foreign-origin")


class HubLike(IdentityProvider):
    """A provider of another package, which knows real people."""

    def get_user(self, handler):
        return User(username="ada", name="Ada", display_name="Ada L.")


async def test_other_providers_name_their_users(jp_serverapp, jp_fetch):
    import jwt

    provider = HubLike(parent=jp_serverapp, token="x")
    jp_serverapp.web_app.settings["identity_provider"] = provider
    described = json.loads((await jp_fetch("rootbound", "api", "me")).body)
    (token,) = [v for k, v in described["headers"] if k == "x-rootbound-identity"]
    claims = jwt.decode(token, options={"verify_signature": False})
    assert (claims["sub"], claims["name"]) == ("ada", "Ada L.")


async def test_preflight_tells_nothing_of_the_backend(jp_fetch):
    response = await jp_fetch(
        "rootbound", "api", "projects", method="OPTIONS", headers={"Authorization": ""}
    )
    assert response.body == b""
    assert "GET" in response.headers["Access-Control-Allow-Methods"]


def test_every_route_declares_its_authentication(jp_serverapp):
    # The check that Jupyter makes of extensions when unauthenticated access is switched off.
    for handler in (ApiHandler, SocketHandler, StackHandler):
        assert jp_serverapp.web_app._check_handler_auth("x", handler) == []
