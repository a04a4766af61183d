"""What goes wrong at the edges: the whole sentence that a user reads, in Python and in a shell."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest
from contract_server import ContractServer, problem
from starlette.responses import JSONResponse

import rootbound as rb
from rootbound import __version__, cli

NAME_ONE = (
    "Start Rootbound with `rootbound up`, or name a server: ROOTBOUND_URL and ROOTBOUND_TOKEN, or "
    "url= and token= in Python."
)
NOTEBOOK = Path(__file__).parents[3] / "notebooks/batch.ipynb"


@pytest.fixture
def shell(clean_env, capsys):
    """Run a command that fails; return all it says, which is one line and no traceback."""

    def run(*argv):
        assert cli.main([str(word) for word in argv]) == 1
        printed = capsys.readouterr()
        assert (printed.out, printed.err.count("\n")) == ("", 1), printed
        return printed.err.removesuffix("\n")

    return run


def test_no_server(clean_env, shell):
    with pytest.raises(rb.DiscoveryError) as caught:
        rb.connect()
    assert str(caught.value) == (
        "No Rootbound server was found: ROOTBOUND_URL is not set; no JupyterHub variables; "
        f"no running Jupyter server in {clean_env / 'runtime'}; "
        f"no headless stack in {clean_env / 'home'}. {NAME_ONE}"
    )
    assert shell("project", "list") == (
        f"No Rootbound server was found: no headless stack in {clean_env / 'home'}. {NAME_ONE}"
    )


def test_several_servers(clean_env):
    described = []
    with ContractServer("/rootbound") as one, ContractServer("/rootbound") as two:
        for name, server in (("1", one), ("2", two)):
            server.state.scheme = "token"
            info = {"url": server.url.removesuffix("rootbound"), "token": server.token,
                    "pid": os.getpid(), "root_dir": str(clean_env / "work")}  # fmt: skip
            (clean_env / "runtime" / f"jpserver-{name}.json").write_text(json.dumps(info))
            described.append(f"{server.url} (folder {clean_env / 'work'}, pid {os.getpid()})")
        with pytest.raises(rb.DiscoveryError) as caught:
            rb.connect()
    assert str(caught.value) == (
        f"2 Jupyter servers run Rootbound for {clean_env / 'work'}: {described[0]}; "
        f"{described[1]}. Choose one with rootbound.connect(url=..., token=...); "
        "`jupyter server list` shows their tokens."
    )


@pytest.fixture
def named(server, clean_env, monkeypatch):
    monkeypatch.setenv("ROOTBOUND_URL", server.url)
    monkeypatch.setenv("ROOTBOUND_TOKEN", server.token)
    return server


def test_a_token_that_is_not_taken(named, shell, monkeypatch):
    monkeypatch.setenv("ROOTBOUND_TOKEN", "old")
    sentence = (
        f"The server at {named.url} (from ROOTBOUND_URL) refused the token; it may have expired, "
        "and `rootbound token` prints a new one."
    )
    with pytest.raises(rb.AuthenticationError) as caught:
        rb.connect()
    assert str(caught.value) == shell("project", "list") == sentence
    with (
        ContractServer("/rootbound") as jupyter,
        pytest.raises(rb.AuthenticationError, match=r"and `jupyter server list` shows the"),
    ):
        rb.connect(jupyter.url, "old")


@pytest.mark.parametrize("says_so_to_strangers", [False, True])
def test_a_server_of_another_version(named, shell, monkeypatch, says_so_to_strangers):
    def route(_method, parts, *_):
        told = says_so_to_strangers or parts == ["me"]
        return JSONResponse({"username": "ada", **({"version": "9.1.0"} if told else {})})

    monkeypatch.setattr(named, "route", route)
    series = ".".join(__version__.split(".")[:2])
    sentence = (
        f"{named.url} (from ROOTBOUND_URL) cannot be used: it runs Rootbound 9.1.0 and this SDK is "
        f"{__version__}, which speaks with {series}.* only; run `pip install 'rootbound==9.*'` "
        f"here, or bring the server to {series}.*."
    )
    with pytest.raises(rb.DiscoveryError) as caught:
        rb.connect()
    assert str(caught.value) == shell("task", "list") == sentence


def test_deleted_while_it_is_followed(named):
    raw = named.state.attempt(named.state.task(named.state.project()), events=3)
    attempt = rb.connect().attempt(raw["id"])
    followed = []
    with pytest.raises(rb.NotFoundError) as caught:
        for event in attempt.events(follow=True):
            followed.append(event.seq)
            if event.seq == 3:
                named.state.gone.add(raw["id"])
    assert followed == [1, 2, 3]
    assert str(caught.value) == (
        f"Attempt {raw['id']} does not exist: it was deleted, perhaps with its project, or is not "
        "yours."
    )


def test_deleted_while_it_is_waited_for(named):
    raw = named.state.attempt(named.state.task(named.state.project()))
    attempt = rb.connect().attempt(raw["id"])
    threading.Timer(0.3, named.state.attempts.clear).start()
    with pytest.raises(rb.NotFoundError) as caught:
        attempt.wait(progress=False)
    assert str(caught.value) == (
        "Attempt 1 was deleted while it was waited for, perhaps with its project."
    )


def test_a_kernel_that_cannot_be_confined_or_is_none(named, shell, monkeypatch, tmp_path):
    refused = "This machine enforces tier F only. Landlock is missing."
    real = named.route

    def route(method, parts, *rest):
        if parts == ["kernels"]:
            return problem(409, "policy-unenforceable", refused)
        return real(method, parts, *rest)

    monkeypatch.setattr(named, "route", route)
    out = tmp_path / "out.ipynb"
    assert shell("batch", "run", NOTEBOOK, "-o", out, "--kernel", "python3") == refused
    assert shell("batch", "run", NOTEBOOK, "-o", out, "--kernel", "cobol") == (
        "There is no kernel 'cobol'; `jupyter kernelspec list` shows those there are."
    )


def test_a_file_that_cannot_be_written(named, shell, clean_env):
    (clean_env / "work" / "file").touch()
    folder = clean_env / "work" / "file" / "folder"
    said = shell("batch", "run", NOTEBOOK, "-o", folder / "out.ipynb")
    assert said == f"Not a directory: {folder}."


def test_a_cell_shows_the_line_and_the_sentence(clean_env, monkeypatch):
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    monkeypatch.setenv("IPYTHONDIR", str(clean_env / "home"))
    shown = []
    shell = InteractiveShell(config=Config({"HistoryManager": {"enabled": False}}))
    shell._showtraceback = lambda kind, error, lines: shown.extend(lines)
    shell.run_cell("import rootbound as rb\nrb.connect('ftp://x', 'y')")
    InteractiveShell.clear_instance()
    assert shown == [
        "Line 2: rb.connect('ftp://x', 'y')",
        "DiscoveryError: 'ftp://x' is not an http:// or https:// address.",
    ]
