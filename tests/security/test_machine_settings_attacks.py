"""Passwords in the settings of the whole machine: an index in `/etc/pip.conf`, npm's, git's."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rootbound_lda.audit import MemorySink
from rootbound_lda.kernel_policy import build_kernel_policy
from rootbound_lda.policy import Policy, build_policy
from rootbound_lda.sandbox import Sandbox, base_env, probe

MARKER = "hunter2-of-the-machine"
# What is in each file of the machine: with a password, and as it is mostly.
CLOSED = {
    "/etc/pip.conf": f"[global]\nindex-url = https://ada:{MARKER}@pypi.example.org/simple\n",
    "/etc/xdg/pip/pip.conf": f"[global]\nproxy = http://ada:{MARKER}@proxy.example.org:3128\n",
    "/etc/npmrc": f"//npm.example.org/:_authToken={MARKER}\nregistry=https://npm.example.org/\n",
    "/etc/gitconfig": f"[http]\n\textraHeader = Authorization: Basic {MARKER}\n",
    "/etc/curlrc": f'user = "ada:{MARKER}"\n',
    "/etc/environment": f"REGISTRY_TOKEN={MARKER}\n",
    "/etc/apt/auth.conf.d/shop.conf": f"machine shop.example.org login ada password {MARKER}\n",
    "/etc/conda/.condarc": f"channels:\n  - https://ada:{MARKER}@conda.example.org/main\n",
    "/usr/local/etc/npmrc": f"_auth = {MARKER}\n",
}
OPEN = {
    "/etc/uv/uv.toml": 'index-url = "https://pypi.example.org/simple"\n',
    "/etc/wgetrc": "# password = none\nhttps_proxy = http://proxy.example.org:3128\n",
    "/etc/yarnrc": 'registry "https://${USER}:${TOKEN}@npm.example.org"\n',
}
READ = (
    "import json, sys\n"
    "for name in json.loads(sys.argv[1]):\n"
    "    try:\n"
    "        print(name, open(name).read().replace(chr(10), ' '))\n"
    "    except OSError as error:\n"
    "        print(name, type(error).__name__)\n"
)


def test_passwords_of_the_machine_are_closed_to_runs_and_kernels(tmp_path: Path) -> None:
    # In a mount namespace of its own, with settings that this machine does not have.
    command = ["unshare", "--mount"]
    if os.geteuid():
        command += ["--user", "--map-root-user"]
    if shutil.which("unshare") is None or subprocess.run([*command, "true"]).returncode:
        pytest.skip("this machine grants no mount namespace")
    for part in ("home", "state/runs/1", "state/kernels/1", "state/run/k", "proj/repo/.git",
                 "state/worktrees/1"):  # fmt: skip
        (tmp_path / part).mkdir(parents=True)
    env = {**os.environ, "HOME": str(tmp_path / "home"), "PYTHONPATH": os.pathsep.join(sys.path)}
    for name in ("XDG_CONFIG_DIRS", "PIP_CONFIG_FILE", "NPM_CONFIG_USERCONFIG"):
        env.pop(name, None)
    done = subprocess.run(
        [*command, sys.executable, __file__, str(tmp_path)], env=env, capture_output=True,
        text=True, timeout=120, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert set(found) == {"run auto", "run off", "kernel auto", "kernel off"}
    for who, (output, denied) in found.items():
        assert MARKER not in output, (who, output)
        for path in CLOSED:
            assert f"{path} PermissionError" in output, (who, path)
            assert path in denied, (who, path, "is not on record")
        for path, text in OPEN.items():
            assert f"{path} {text.replace(chr(10), ' ')}" in output, (who, path)
        # git and pip go on; where packages come from is known, and the password is not.
        assert "GIT 0" in output, (who, output)
        assert "LS 0" in output, (who, output)
    pip = (tmp_path / "state/runs/1/home/.config/pip/pip.conf").read_text()
    assert "index-url = https://pypi.example.org/simple" in pip
    assert "proxy = http://proxy.example.org:3128" in pip
    npm = (tmp_path / "state/runs/1/home/.npmrc").read_text()
    assert "registry=https://npm.example.org/" in npm
    assert MARKER not in pip + npm


# -- in the namespace ------------------------------------------------------------------------------


def dress_up(base: Path) -> None:
    """Give this namespace an `/etc` of its own."""
    for folder in ("/etc", "/usr/local/etc"):
        copy = base / folder.replace("/", "_")
        subprocess.run(["cp", "-a", f"{folder}/.", copy], check=False, stderr=subprocess.DEVNULL)
        for path, text in {**CLOSED, **OPEN}.items():
            if path.startswith(f"{folder}/"):
                file = copy / path.removeprefix(f"{folder}/")
                file.parent.mkdir(parents=True, exist_ok=True)
                file.unlink(missing_ok=True)
                file.write_text(text)
        subprocess.run(["mount", "--bind", copy, folder], check=True)


async def reads(policy: Policy, bubblewrap: str) -> tuple[str, list[str]]:
    sink = MemorySink()
    sandbox = Sandbox(wall=(await probe(bubblewrap=bubblewrap)).wall)
    await sandbox.start()
    runner = sandbox.runner(policy, sink)
    said = ""
    try:
        names = json.dumps([*CLOSED, *OPEN])
        shell = (
            'cat /etc/pip.conf; git config --list; echo "GIT $?"; ls /usr/local/etc; echo "LS $?"'
        )
        for argv in ([sys.executable, "-I", "-S", "-c", READ, names], ["sh", "-c", shell]):
            result = await runner.run(
                argv, cwd=policy.private_home, env=base_env(policy), network=False, timeout_s=60
            )
            said += result.output.decode()
    finally:
        await runner.close()
        await sandbox.stop()
    return said, [str(row["path"]) for row in sink.entries if row["result"] == "DENIED"]


async def attack(base: Path) -> dict[str, Any]:
    from rootbound_lda.downloads import lay_configuration
    from rootbound_lda.pins import GRANTED

    state, proj = base / "state", base / "proj"
    GRANTED.grant(proj)
    found: dict[str, Any] = {}
    run = build_policy(
        run_id="1", worktree=state / "worktrees/1", repo_path=proj / "repo",
        git_common_dir=proj / "repo/.git", private_dir=state / "runs/1", state_dir=state,
        writable_roots=[str(proj)], readable_paths=[], network={}, limits={},
    )  # fmt: skip
    lay_configuration(run.private_home)
    kernel = build_kernel_policy(
        session_id="1", private_dir=state / "kernels/1", sockets=state / "run/k", state_dir=state,
        writable_roots=[str(proj)], readable_paths=[], programs=[sys.executable], shared=None,
        network=False, loopback=False, terminals=False, limits={},
    )  # fmt: skip
    for name, policy in (("run", run), ("kernel", kernel)):
        for bubblewrap in ("auto", "off"):
            found[f"{name} {bubblewrap}"] = await reads(policy, bubblewrap)
    return found


if __name__ == "__main__":
    dress_up(Path(sys.argv[1]))
    print(json.dumps(asyncio.run(attack(Path(sys.argv[1])))))
