"""Where `connect` looks, in which order, and what it says when it finds nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from contract_server import ContractServer

import rootbound as rb
from rootbound.discovery import find_endpoint, is_loopback

pytestmark = pytest.mark.usefixtures("clean_env")


@pytest.fixture
def jupyter():
    """A server as Jupyter hosts it: below base_url and /rootbound, with Jupyter's token."""
    with ContractServer(prefix="/a%40b/rootbound".replace("%40", "@"), token="jt") as running:
        running.state.scheme = "token"
        yield running


def write_jpserver(tmp_path, server, *, pid=None, root=None, token="jt", name=None):
    pid = os.getpid() if pid is None else pid
    info = {
        "url": server.url.removesuffix("rootbound"),
        "token": token,
        "pid": pid,
        "root_dir": str(root or tmp_path / "work"),
    }
    path = tmp_path / "runtime" / f"jpserver-{name or pid}.json"
    path.write_text(json.dumps(info))
    return path


def write_stack(home, url, token):
    for name in ("run", "secrets"):
        (home / name).mkdir(exist_ok=True)
    (home / "run" / "stack.json").write_text(json.dumps({"version": 1, "url": url}))
    (home / "secrets" / "headless.token").write_text(token + "\n")


def test_nothing_found_says_what_was_tried_and_the_way_out(clean_env):
    with pytest.raises(rb.DiscoveryError) as caught:
        rb.connect()
    message = str(caught.value)
    assert "\n" not in message
    for part in ("ROOTBOUND_URL", "JupyterHub", "runtime", str(clean_env / "home"), "rootbound up"):
        assert part in message


def test_argument_for_a_headless_stack(server):
    with rb.connect(server.url + "/", server.token) as client:
        assert client.endpoint.kind == "headless"
        assert client.me().username == "ada"


@pytest.mark.parametrize("suffix", ["", "/", "/rootbound"])
def test_argument_for_a_jupyter_server(jupyter, suffix):
    url = jupyter.url.removesuffix("/rootbound") + suffix
    with rb.connect(url, "jt") as client:
        assert client.endpoint.kind == "jupyter"
        assert client.me().name == "Ada"


def test_argument_errors(server):
    with pytest.raises(rb.AuthenticationError, match="refused the token"):
        rb.connect(server.url, "wrong")
    with pytest.raises(rb.AuthenticationError, match="needs a token"):
        rb.connect(server.url)
    with pytest.raises(rb.DiscoveryError, match="without a url"):
        rb.connect(token="x")
    with pytest.raises(rb.DiscoveryError, match="not an http"):
        rb.connect("ftp://x", "y")
    with pytest.raises(rb.DiscoveryError, match=r"Nothing answers.*refused"):
        rb.connect("http://127.0.0.1:1", "y")
    with pytest.raises(rb.DiscoveryError, match="no Rootbound at this address"):
        rb.connect(server.url + "/elsewhere/rootbound", server.token)


def test_secret_is_not_in_reprs(server):
    with rb.connect(server.url, server.token) as client:
        shown = repr(client) + repr(client.endpoint) + client._repr_html_()
    assert server.token not in shown


def test_environment_comes_before_jupyter_and_stack(server, jupyter, clean_env, monkeypatch):
    write_jpserver(clean_env, jupyter)
    write_stack(clean_env / "home", jupyter.url, "jt")
    monkeypatch.setenv("ROOTBOUND_URL", server.url)
    monkeypatch.setenv("ROOTBOUND_TOKEN", server.token)
    assert find_endpoint().url == server.url


def test_argument_comes_before_environment(server, monkeypatch):
    monkeypatch.setenv("ROOTBOUND_URL", "http://127.0.0.1:1")
    assert find_endpoint(server.url, server.token).url == server.url


@pytest.mark.parametrize("variable", ["JUPYTERHUB_SERVICE_URL", "JUPYTERHUB_PUBLIC_URL"])
def test_jupyterhub(jupyter, monkeypatch, variable):
    monkeypatch.setenv("JUPYTERHUB_SERVICE_PREFIX", "/a@b/")
    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", "jt")
    monkeypatch.setenv(variable, f"http://0.0.0.0:{jupyter.port}/a@b/")
    endpoint = find_endpoint()
    assert (endpoint.url, endpoint.source) == (jupyter.url, "JupyterHub")


def test_parent_server_wins(server, jupyter, clean_env, monkeypatch):
    with ContractServer(prefix="/rootbound", token="other") as other:
        other.state.scheme = "token"
        # Both fit the folder; the process that started this kernel is the one meant.
        parent = os.getppid()
        write_jpserver(clean_env, other, token="other")
        write_jpserver(clean_env, jupyter, pid=parent)
        monkeypatch.setenv("JPY_PARENT_PID", str(parent))
        assert find_endpoint().url == jupyter.url


def test_server_of_this_folder_nearest_first(jupyter, clean_env):
    with ContractServer(prefix="/rootbound", token="other") as other:
        other.state.scheme = "token"
        write_jpserver(clean_env, other, token="other", root=clean_env, name="outer")
        write_jpserver(clean_env, jupyter, name="inner")
        assert find_endpoint().url == jupyter.url


def test_ambiguity_is_refused_with_a_list(jupyter, clean_env):
    with ContractServer(prefix="/rootbound", token="other") as other:
        other.state.scheme = "token"
        write_jpserver(clean_env, other, token="other", name="one")
        write_jpserver(clean_env, jupyter, name="two")
        with pytest.raises(rb.DiscoveryError) as caught:
            rb.connect()
    assert jupyter.url in str(caught.value)
    assert other.url in str(caught.value)
    assert "url=" in str(caught.value)
    assert "other" not in str(caught.value).split()


def test_only_servers_that_answer_count(server, jupyter, clean_env):
    finished = subprocess.Popen([sys.executable, "-c", ""])
    finished.wait()
    write_jpserver(clean_env, jupyter, name="good")
    write_jpserver(clean_env, server, name="no-rootbound")
    write_jpserver(clean_env, server, pid=finished.pid)
    (clean_env / "runtime" / "jpserver-half.json").write_text('{"url": "http://')
    (clean_env / "runtime" / "jpserver-sock.json").write_text(
        json.dumps({"url": "http+unix://x", "pid": os.getpid(), "root_dir": "/"})
    )
    assert find_endpoint().url == jupyter.url


def test_a_dead_servers_port_is_never_sent_the_token(server, clean_env):
    finished = subprocess.Popen([sys.executable, "-c", ""])
    finished.wait()
    write_jpserver(clean_env, server, pid=finished.pid)
    with pytest.raises(rb.DiscoveryError):
        rb.connect()
    assert server.state.requests == []


def test_server_of_another_folder_falls_through_to_the_stack(server, jupyter, clean_env):
    write_jpserver(clean_env, jupyter, root=clean_env / "home")
    with pytest.raises(rb.DiscoveryError, match="for another folder"):
        find_endpoint()
    write_stack(clean_env / "home", server.url, server.token)
    assert find_endpoint().url == server.url


def test_headless_token_is_read_again_when_refused(server, clean_env):
    home = clean_env / "home"
    write_stack(home, server.url, server.token)
    with rb.connect() as client:
        server.state.token = "renewed"
        with pytest.raises(rb.AuthenticationError):
            client.me()
        write_stack(home, server.url, "renewed")
        assert client.me().username == "ada"


def test_headless_address_is_read_again_when_dead(server, clean_env):
    home = clean_env / "home"
    with ContractServer(token=server.token) as first:
        write_stack(home, first.url, first.token)
        client = rb.connect()
    with pytest.raises(rb.ConnectionFailedError, match="rootbound up"):
        client.me()
    write_stack(home, server.url, server.token)
    assert client.me().username == "ada"


def test_home_argument_is_the_only_place(server, clean_env, monkeypatch):
    monkeypatch.setenv("ROOTBOUND_URL", "http://127.0.0.1:1")
    write_stack(clean_env / "home", server.url, server.token)
    assert find_endpoint(home=clean_env / "home").url == server.url
    with pytest.raises(rb.DiscoveryError, match="no headless stack in"):
        find_endpoint(home=clean_env / "work")


def test_without_jupyter_core(clean_env, monkeypatch):
    monkeypatch.delenv("JUPYTER_RUNTIME_DIR")
    monkeypatch.setitem(sys.modules, "jupyter_core.paths", None)
    with pytest.raises(rb.DiscoveryError, match="jupyter_core is not installed"):
        rb.connect()


def test_proxies_are_not_asked_for_loopback(server, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with rb.connect(server.url, server.token) as client:
        assert client.me().username == "ada"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://localhost:1", True),
        ("http://[::1]:1", True),
        ("http://127.8.0.1", True),
        ("https://hub.example", False),
        ("http://127.0.0.1.example", False),
    ],
)
def test_is_loopback(url, expected):
    assert is_loopback(url) is expected
