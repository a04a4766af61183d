"""What is wrong in a project or a profile is said when it is saved, by field."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.django_db


def test_the_branch_that_work_is_merged_into_can_be_named(client, lda):
    lda.answer(
        "POST", "/repos/validate", 200, {"canonical_path": "/srv/a", "default_branch": "dev"}
    )
    body = {"name": "A", "repo_path": "/srv/a"}
    made = client.post("/api/projects/", {**body, "default_branch": "dev"}).json()
    assert made["default_branch"] == "dev"
    lda.answer("POST", "/repos/validate", 200, {"canonical_path": "/srv/a", "default_branch": "x"})
    changed = client.patch(f"/api/projects/{made['id']}/", {"default_branch": "x"}).json()
    assert (changed["default_branch"], changed["repo_path"]) == ("x", "/srv/a")
    asked = [(one["path"], one["branch"]) for one in lda.bodies("/repos/validate")]
    assert asked == [("/srv/a", "dev"), ("/srv/a", "x")]
    lda.problem("POST", "/repos/validate", 422, "base-unknown")
    refused = client.patch(f"/api/projects/{made['id']}/", {"default_branch": "none"})
    assert (refused.status_code, refused.json()["code"]) == (422, "base-unknown")
    lda.answer("POST", "/repos/branches", 200, {"checked_out": "dev", "branches": ["dev", "x"]})
    offered = client.get("/api/repository/", {"path": "/srv/a"})
    assert offered.json() == {"checked_out": "dev", "branches": ["dev", "x"]}
    assert list(client.get("/api/repository/").json()["errors"]) == ["path"]
    lda.problem("POST", "/repos/branches", 422, "repo-outside-roots")
    assert client.get("/api/repository/", {"path": "/etc"}).status_code == 422
    for name in ("max_parallel_by_role", "max_parallel_by_provider"):
        bad = client.patch(f"/api/projects/{made['id']}/", {"config": {name: {"CEO": 1}}})
        assert bad.status_code == 400
        assert bad.json()["detail"].startswith(f"config.{name}: There is no 'CEO'; there are ")


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"price": "cheap"}, "settings.price"),
        ({"price": {"input": -1, "output": 2}}, "settings.price.input"),
        ({"price": {"input": 1}}, "settings.price.output"),
        ({"temperature": "hot"}, "settings.temperature"),
        ({"context_window": "big"}, "settings.context_window"),
        ({"thinking": "perhaps"}, "settings.thinking"),
        ({"temprature": 1}, "settings.temprature"),
        ({"key_name": "PATH"}, "settings.key_name"),
        ({"replay": "perhaps"}, "settings.replay"),
        (["x"], "settings"),
    ],
)
def test_settings_that_no_run_could_use_are_refused_at_once(client, settings, field):
    body = {"name": "B", "provider": "GLM", "role": "QA", "settings": settings}
    answer = client.post("/api/agents/", body)
    assert answer.status_code == 400, answer.content
    assert answer.json()["detail"].startswith(f"{field}: ")
    good = {"price": {"input": 0.6, "output": 2.2}, "temperature": 0.7, "context_window": 128_000,
            "thinking": False, "key_name": "TEAM_API_KEY"}  # fmt: skip
    made = client.post("/api/agents/", {**body, "settings": good})
    assert (made.status_code, made.json()["settings"]) == (201, good)


def test_another_provider_brings_its_model(client):
    body = {"name": "B", "provider": "GLM", "role": "QA", "model": "glm-7"}
    address = f"/api/agents/{client.post('/api/agents/', body).json()['id']}/"
    other = client.patch(address, {"provider": "GEMINI"}).json()
    assert (other["provider"], other["model"]) == ("GEMINI", "gemini-2.5-flash")
    named = client.patch(address, {"provider": "GLM", "model": "glm-9"}).json()
    assert (named["provider"], named["model"]) == ("GLM", "glm-9")
    assert client.patch(address, {"provider": "GLM", "name": "C"}).json()["model"] == "glm-9"
