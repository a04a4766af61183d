"""The sdist and the wheel: built, complete, installable without Node."""

import os
import subprocess
import tarfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
PACKAGES = ("rootbound", "rootbound_server_ext", "rootbound_backend", "rootbound_lda")
BUNDLES = ("task_board", "attempt_stream", "audit_table", "diff_view", "stack_status")


def test_wheel_holds_the_packages_and_the_built_front_end(distribution: Path) -> None:
    (wheel,) = distribution.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    for package in PACKAGES:
        assert f"{package}/__init__.py" in names
        assert f"{package}/py.typed" in names
    for bundle in BUNDLES:
        assert f"rootbound/static/{bundle}.js" in names
    shared = [name for name in names if ".data/data/" in name]
    assert any(n.endswith("labextensions/@rootbound/lab/package.json") for n in shared)
    assert any(n.endswith("jupyter_server_config.d/rootbound_server_ext.json") for n in shared)
    # nbdime's own extensions stay off until somebody turns them on.
    assert any(n.endswith("labconfig/page_config.d/rootbound.json") for n in shared)
    assert not [n for n in names if "node_modules" in n or n.startswith("tests/")]


def test_sdist_is_small_and_needs_no_node(distribution: Path) -> None:
    (sdist,) = distribution.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = archive.getnames()
    assert any(n.endswith("labextension/package.json") for n in names)
    assert not [n for n in names if "node_modules" in n]
    assert sdist.stat().st_size < 5_000_000


def test_wheel_in_an_empty_venv_is_enabled_without_manual_steps(wheel_venv: Path) -> None:
    """Both Jupyter lists name the extension, with Node absent from PATH."""
    env = {"PATH": f"{wheel_venv}/bin:/usr/bin:/bin", "HOME": os.environ["HOME"]}
    for arguments, line in (
        (["server", "extension", "list"], "rootbound_server_ext"),
        (["labextension", "list"], "@rootbound/lab"),
    ):
        done = subprocess.run(
            [str(wheel_venv / "bin/jupyter"), *arguments],
            env=env, capture_output=True, text=True, check=True, timeout=120,
        )  # fmt: skip
        output = done.stdout + done.stderr
        (found,) = [row for row in output.splitlines() if line in row and "OK" in row]
        assert "0.1.0" in found


def test_base_install_is_the_sdk_only(wheel_venv: Path) -> None:
    """The metadata keeps the server's dependencies in the extra."""
    from importlib.metadata import distributions

    site = next((wheel_venv / "lib").glob("python3*/site-packages"))
    (found,) = [d for d in distributions(path=[str(site)]) if d.name == "rootbound"]
    base = [r for r in found.requires or [] if "extra ==" not in r]
    assert {r.split(">")[0].split("<")[0] for r in base} == {
        "anywidget", "argcomplete", "httpx", "ipywidgets", "platformdirs", "tqdm", "websockets",
    }  # fmt: skip
