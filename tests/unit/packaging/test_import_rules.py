"""Which package may import which: the rules of docs/contributing.md."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
FORBIDDEN = {
    "lda/rootbound_lda": {"django", "rest_framework", "rootbound", "rootbound_backend",
                          "rootbound_server_ext"},
    "backend/rootbound_backend": {"rootbound_lda", "rootbound", "rootbound_server_ext"},
    "server_ext/rootbound_server_ext": {"django", "rest_framework", "rootbound_backend",
                                        "rootbound_lda"},
    "widgets/rootbound": {"django", "rest_framework", "rootbound_backend", "rootbound_lda"},
}  # fmt: skip


def imported_roots(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.split(".")[0]


@pytest.mark.parametrize("package", sorted(FORBIDDEN))
def test_package_imports_only_what_it_may(package: str) -> None:
    files = sorted((ROOT / package).rglob("*.py"))
    assert files, f"{package} holds no Python file"
    broken = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in files
        for name in imported_roots(path.read_text())
        if name in FORBIDDEN[package]
    ]
    assert not broken


def test_the_sdk_imports_nothing_heavy() -> None:
    """Widgets and server parts load when they are used, not with `import rootbound`."""
    import subprocess
    import sys

    code = (
        "import sys, rootbound;"
        "print([m for m in ('anywidget','ipywidgets','pandas','django','jupyter_server','IPython')"
        " if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("suffix", ["py", "ts", "tsx"])
def test_no_source_file_is_overlong(suffix: str) -> None:
    """No file over 500 lines: a longer one holds two things."""
    folders = ["lda", "backend", "server_ext", "widgets", "tests", "benchmarks"]
    long = {
        str(path.relative_to(ROOT)): count
        for folder in folders
        for path in (ROOT / folder).rglob(f"*.{suffix}")
        if "node_modules" not in path.parts and "migrations" not in path.parts
        if (count := len(path.read_text().splitlines())) > 500
    }
    assert not long
