"""The stack as an ordinary user, when the tests themselves run as root."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

UID = GID = 65534

SCRIPT = """
import os, sys
from pathlib import Path
import psycopg
from rootbound_server_ext.stack import api, secrets
from rootbound_server_ext.stack.postgres import PostgresServer
from rootbound_server_ext.stack.redis import RedisServer
home = Path(sys.argv[1])
assert os.getuid() != 0
secrets.ensure_secrets(home)
server = PostgresServer(home)
with server.running() as url, RedisServer(home).running():
    assert server.run_as is None
    psycopg.connect(url, password=secrets.read_secret(home, "postgres.password")).close()
info = api.start(home, guard_argv=[sys.argv[2]], timeout_s=60)
assert info.ready
assert api.down(home)
print("fine")
"""

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")


@pytest.fixture
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="rb-user-"))
    os.chown(path, UID, GID)
    yield path
    shutil.rmtree(path)


# Root's interpreter may lie where nobody else can go. In a mount namespace of its own that private
# folder shows the interpreter alone; nobody's permissions are changed.
IN_NAMESPACE = """
set -eu
mkdir "$1/python"
mount --bind "$2" "$1/python"
if [ -n "$3" ]; then
    mount -t tmpfs -o mode=755 tmpfs "$3"
    mkdir -p "$2"
    mount --bind "$1/python" "$2"
fi
shift 3
exec setpriv --reuid "$1" --regid "$1" --clear-groups -- "$2" -P "$3" "$4" "$5"
"""


def private_ancestor(path: str) -> str:
    hidden = [one for one in Path(path).parents if not one.stat().st_mode & 0o001]
    return str(hidden[-1]) if hidden else ""


def test_servers_and_guard_as_an_ordinary_user(folder: Path) -> None:
    if subprocess.run(["unshare", "--mount", "true"], check=False).returncode != 0:
        pytest.skip("mount namespaces are not allowed here")
    if private_ancestor(sys.prefix + "/lib"):
        pytest.skip("the packages lie in a folder that only root can enter")
    script = folder / "script.py"
    script.write_text(SCRIPT)
    standin = Path(__file__).with_name("standin_services.py")
    mounts = (folder, sys.base_prefix, private_ancestor(sys.base_prefix))
    command = (str(UID), sys.executable, script, folder / "home", standin)
    result = subprocess.run(
        ["unshare", "--mount", "sh", "-c", IN_NAMESPACE, "sh", *mounts, *command],
        env={"PATH": os.environ["PATH"], "HOME": str(folder)},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.stdout == "fine\n", result.stderr
