# ruff: noqa: E501
"""git as a weapon: what a repository names must not run when the LDA calls git on it.

A trap is a program that leaves a mark. It is planted in the repository before the worktree is made
(by whoever the repository came from), or in the worktree by a command of a run; then the LDA's own
code commits, cleans, shows, rebases, merges and discards. Without enforcement the plain git command
line does the same work.
"""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rootbound_lda import branches, diffs, worktrees
from rootbound_lda.audit import MemorySink
from rootbound_lda.git import GitError
from rootbound_lda.merging import MergePlan, MergeRefused, merge
from rootbound_lda.policy import build_policy
from rootbound_lda.sandbox import Sandbox, base_env
from tests.security.attack_world import PYTHON

CATEGORY = "git as a weapon"
LINES = [f"line {number}\n" for number in range(20)]
_HELPERS = """
import os, subprocess, sys
P = eval(sys.argv[1])
top, tree, trap, base = P["top"], P["tree"], P["trap"], P["base"]
def git(*argv, cwd=None):
    return subprocess.run(["git", "-c", "protocol.file.allow=always", *argv], cwd=cwd or top, capture_output=True, text=True, check=True).stdout.strip()
def config(*pairs):
    for key, value in zip(pairs[::2], pairs[1::2]):
        git("config", key, value)
def hook(name, folder=None):
    folder = folder or top + "/.git/hooks"
    os.makedirs(folder, exist_ok=True)
    with open(f"{folder}/{name}", "w") as file:
        file.write(f"#!/bin/sh\\nexec {trap}\\n")
    os.chmod(f"{folder}/{name}", 0o755)
def attributes(text):
    os.makedirs(top + "/.git/info", exist_ok=True)
    open(top + "/.git/info/attributes", "w").write(text)
"""


@dataclass(frozen=True)
class GitAttack:
    """One trap.

    Parameters
    ----------
    name, words
        Unique name; what is planted, for the table.
    plant
        Python source that plants it.
    stage
        Whether it comes with the repository, or is written by the install command, or by a later
        command of the run.
    first
        Source that readies the repository for a trap that a command plants.
    denied
        Path, relative to the worktree, that the audit must show as WRITE DENIED.
    env
        Variables that the LDA itself was started with.
    mark
        What shows that the trap ran, if it is not the mark of the trap's program.
    """

    name: str
    words: str
    plant: str
    stage: Literal["repository", "install", "run"] = "repository"
    first: str = ""
    denied: str | None = None
    env: Callable[[dict[str, str]], dict[str, str]] | None = None
    mark: str = "ran"
    category: str = CATEGORY
    root_only: bool = False
    twice: bool = False

    @property
    def effect_words(self) -> str:
        return "the trap runs as the user" if self.mark == "ran" else f"`{self.mark}` appears"

    @property
    def evidence_words(self) -> str:
        if self.denied:
            return f"WRITE DENIED `{self.denied}`; the repository's configuration is unchanged"
        return "no file operation of the run; the repository's configuration is unchanged"


# fmt: off
GIT_ATTACKS = [
    *(GitAttack(f"hook_{name.replace('-', '_')}", f"hook `{name}`", f"hook({name!r})") for name in (
        "pre-commit", "commit-msg", "post-checkout", "post-merge", "reference-transaction", "post-index-change", "pre-rebase", "post-rewrite")),
    GitAttack("hooks_path", "`core.hooksPath`", "hook('post-commit', base + '/hooks'); config('core.hooksPath', base + '/hooks')"),
    GitAttack("file_system_monitor", "`core.fsmonitor`", "config('core.fsmonitor', trap)"),
    GitAttack("clean_filter", "`filter.*.clean` and attributes", "config('filter.evil.clean', trap); attributes('* filter=evil')"),
    GitAttack("smudge_filter", "`filter.*.smudge` and attributes", "config('filter.evil.smudge', trap); attributes('* filter=evil')"),
    GitAttack("process_filter", "`filter.*.process` and attributes", "config('filter.evil.process', trap); attributes('* filter=evil')"),
    GitAttack("external_diff", "`diff.external`", "config('diff.external', trap)"),
    GitAttack("diff_driver", "`diff.*.command` and attributes", "config('diff.evil.command', trap); attributes('* diff=evil')"),
    GitAttack("text_conversion", "`diff.*.textconv` and attributes", "config('diff.evil.textconv', trap); attributes('* diff=evil')"),
    GitAttack("merge_driver", "`merge.*.driver` and attributes", "config('merge.evil.driver', trap + ' %A'); attributes('* merge=evil')"),
    GitAttack("default_merge_driver", "`merge.default`", "config('merge.evil.driver', trap + ' %A', 'merge.default', 'evil')"),
    GitAttack("included_file", "`include.path`", "open(base + '/more', 'w').write(f'[core]\\n\\tfsmonitor = {trap}\\n'); config('include.path', base + '/more')"),
    GitAttack("file_included_on_condition", "`includeIf.gitdir`", "open(base + '/more', 'w').write(f'[diff]\\n\\texternal = {trap}\\n'); config('includeIf.gitdir:/**.path', base + '/more')"),
    GitAttack("worktree_configuration", "`extensions.worktreeConfig`", "config('extensions.worktreeConfig', 'true'); git('config', '--worktree', 'diff.external', trap)"),
    GitAttack("signing_program", "`gpg.program`", "config('gpg.program', trap, 'commit.gpgSign', 'true')"),
    GitAttack("editor", "`core.editor`", "config('core.editor', trap, 'sequence.editor', trap)"),
    GitAttack("pager", "`core.pager`", "config('core.pager', trap, 'pager.diff', 'true', 'pager.log', 'true')"),
    GitAttack("credential_helper", "`credential.helper`", "config('credential.helper', '!' + trap)"),
    GitAttack("ssh_command", "`core.sshCommand`", "config('core.sshCommand', trap, 'remote.origin.url', 'ssh://localhost/x', 'remote.origin.fetch', '+refs/heads/*:refs/remotes/origin/*')"),
    GitAttack("transport", "a remote that is a command", "config('protocol.ext.allow', 'always', 'remote.origin.url', 'ext::' + trap, 'remote.origin.fetch', '+refs/heads/*:refs/remotes/origin/*')"),
    GitAttack("missing_object_by_transport", "a partial clone whose remote is a command", """
blob = git('rev-parse', 'HEAD:lazy.txt')
os.unlink(f'{top}/.git/objects/{blob[:2]}/{blob[2:]}')
config('core.repositoryFormatVersion', '1', 'extensions.partialClone', 'origin', 'remote.origin.promisor', 'true',
       'protocol.ext.allow', 'always', 'remote.origin.url', 'ext::' + trap)
"""),
    GitAttack("missing_object_by_upload_pack", "a partial clone whose remote's program is a trap", """
blob = git('rev-parse', 'HEAD:lazy.txt')
os.unlink(f'{top}/.git/objects/{blob[:2]}/{blob[2:]}')
config('core.repositoryFormatVersion', '1', 'extensions.partialClone', 'origin', 'remote.origin.promisor', 'true',
       'protocol.file.allow', 'always', 'remote.origin.url', 'file://' + top, 'remote.origin.uploadpack', trap)
"""),
    GitAttack("submodule_address", "a submodule whose address is a command", """
git('config', '--global', 'protocol.ext.allow', 'always'); config('submodule.sub.url', 'ext::' + trap, 'submodule.sub.active', 'true')
open(top + '/.gitmodules', 'w').write('[submodule "sub"]\\n\\tpath = sub\\n\\turl = ext::x\\n')
git('update-index', '--add', '--cacheinfo', '160000,' + git('rev-parse', 'HEAD') + ',sub')
git('add', '.gitmodules'); git('commit', '-q', '-m', 'submodule')
"""),
    GitAttack("submodule_of_its_own_mind", "the configuration of a checked-out submodule", """
git('init', '-q', base + '/inner'); git('commit', '-q', '--allow-empty', '-m', 'x', cwd=base + '/inner')
git('submodule', '-q', 'add', base + '/inner', 'sub')
git('config', '-f', '.gitmodules', 'submodule.sub.ignore', 'none')
git('add', '-A'); git('commit', '-q', '-m', 'submodule')
git('config', 'core.fsmonitor', trap, cwd=top + '/sub')
"""),
    GitAttack("work_tree_elsewhere", "`core.worktree`", "os.makedirs(base + '/elsewhere'); config('core.worktree', base + '/elsewhere')", mark="elsewhere/a.txt"),
    GitAttack("attributes_file", "`core.attributesFile`", "open(base + '/attr', 'w').write('* filter=evil\\n'); config('core.attributesFile', base + '/attr', 'filter.evil.clean', trap)"),
    GitAttack("rewritten_git_file", "a `.git` file that leads to another repository", """
evil = os.environ['TMPDIR'] + '/evil'
git('init', '-q', evil, cwd='/')
git('config', 'core.fsmonitor', trap, cwd=evil)
open(tree + '/.git', 'w').write(f'gitdir: {evil}/.git\\n')
""", stage="run", denied=".git"),
    GitAttack("nested_repository", "a repository inside of the worktree", """
os.mkdir(tree + '/nested')
try:
    git('init', '-q', cwd=tree + '/nested')
    open(tree + '/nested/f', 'w').close(); git('add', 'f', cwd=tree + '/nested')
    git('-c', 'user.name=x', '-c', 'user.email=x', 'commit', '-q', '-m', 'x', cwd=tree + '/nested')
    git('config', 'core.fsmonitor', trap, cwd=tree + '/nested')
except subprocess.CalledProcessError as error:
    print(error.stderr)
""", stage="run", denied="nested/.git"),
    GitAttack("attributes_of_the_worktree", "`.gitattributes` that names a filter of the user's", "open(tree + '/.gitattributes', 'w').write('* filter=evil\\n')", stage="run", first="config('filter.evil.clean', trap)"),
    GitAttack("attributes_that_convert", "`.gitattributes` that names a text conversion of the user's", "open(tree + '/.gitattributes', 'w').write('* diff=evil\\n')", stage="run", first="config('diff.evil.textconv', trap)"),
    GitAttack("attributes_that_merge", "`.gitattributes` that names a merge driver of the user's", "open(tree + '/.gitattributes', 'w').write('* merge=evil\\n')", stage="run", first="config('merge.evil.driver', trap + ' %A')"),
    GitAttack("configuration_of_the_repository", "`core.fsmonitor` written by a command", "open(top + '/.git/config', 'a').write(f'[core]\\n\\tfsmonitor = {trap}\\n')", stage="run", denied="../../../proj/repo/.git/config"),
    GitAttack("bare_repository_in_disguise", "a folder that git takes for a repository", """
bare = tree + '/disguise'
os.makedirs(bare + '/objects'); os.makedirs(bare + '/refs')
open(bare + '/HEAD', 'w').write('ref: refs/heads/main\\n')
open(bare + '/config', 'w').write(f'[core]\\n\\trepositoryformatversion = 0\\n\\tbare = false\\n\\tworktree = ..\\n\\tfsmonitor = {trap}\\n')
""", stage="run"),
    GitAttack("program_named_git", "a program `git` in the worktree, and `.` in the user's PATH", "open(tree + '/git', 'w').write(f'#!/bin/sh\\nexec {trap}\\n'); os.chmod(tree + '/git', 0o755)", stage="run",
              env=lambda env: {**env, "PATH": f".:{env['PATH']}"}),
    GitAttack("variables_of_git", "`GIT_EXTERNAL_DIFF` and `GIT_CONFIG_*` in the LDA's environment", "", env=lambda env: {
        **env, "GIT_EXTERNAL_DIFF": env["TRAP"], "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "core.fsmonitor",
        "GIT_CONFIG_VALUE_0": env["TRAP"], "GIT_SSH_COMMAND": env["TRAP"], "GIT_EDITOR": env["TRAP"]}),
    GitAttack("ignored_by_a_line_break", "a file name whose second line ignores everything", "open(tree + '/x\\n*', 'w')", stage="install", mark="left-out"),
]
# fmt: on


@dataclass
class Scene:
    """A repository, a trap, and what came of it."""

    base: Path
    attack: GitAttack

    @property
    def top(self) -> Path:
        return self.base / "proj" / "repo"

    @property
    def tree(self) -> Path:
        return self.base / "state" / "worktrees" / "a1"

    @property
    def trap(self) -> Path:
        return self.base / "readable" / "trap.sh"

    def git(self, *argv: str, cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
        done = subprocess.run(
            ["git", *argv], cwd=cwd or self.top, env=env or self.env(), capture_output=True,
            text=True, check=False, stdin=subprocess.DEVNULL, timeout=20,
        )  # fmt: skip
        return done.stdout.strip()

    def env(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        return {
            **kept,
            "HOME": str(self.base / "home"),
            "TMPDIR": str(self.base / "state/runs/a1/tmp"),
            "GIT_TERMINAL_PROMPT": "0",
        }

    def make(self) -> None:
        for part in ("home", "proj/repo", "readable", "state/worktrees", "state/runs/a1/tmp"):
            (self.base / part).mkdir(parents=True)
        # The mark is made with no program but the shell, and only outside of a sandbox.
        self.trap.write_text(f"#!/bin/sh\n: > {self.base}/ran\n")
        self.trap.chmod(0o755)
        (self.base / "home" / ".gitconfig").write_text("[user]\n\tname = Ada\n\temail = a@b.org\n")
        self.git("init", "-q", "-b", "main")
        (self.top / "a.txt").write_text("".join(LINES))
        (self.top / "lazy.txt").write_text("fetched when needed\n")
        self.git("add", "-A")
        self.git("commit", "-q", "-m", "first")

    def program(self, code: str) -> list[str]:
        places = {"top": str(self.top), "tree": str(self.tree), "trap": str(self.trap),
                  "base": str(self.base)}  # fmt: skip
        return [PYTHON, "-I", "-S", "-c", _HELPERS + code, repr(places)]

    def plant(self, code: str) -> None:
        done = subprocess.run(
            self.program(code), cwd=self.base, env=self.env(), capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        if done.returncode:
            raise AssertionError(f"the trap could not be planted: {done.stderr}")

    def settings(self) -> dict[str, bytes]:
        """Return what must not change: the repository's configuration, hooks and attributes."""
        folder = self.top / ".git"
        files = [folder / "config", *folder.glob("hooks/*"), *folder.glob("info/*")]
        return {str(file): file.read_bytes() for file in files}

    def happened(self, head: str | None) -> bool:
        if self.attack.mark == "left-out":
            return head is not None and "b.txt" not in self.git(
                "ls-tree", "--name-only", head
            ).split("\n")
        return (self.base / self.attack.mark).exists()


async def run_confined(scene: Scene, sandbox: Sandbox) -> dict[str, Any]:
    """Let the LDA's own code do all its git work on a repository with a trap."""
    attack = scene.attack
    os.environ["HOME"] = str(scene.base / "home")
    scene.make()
    scene.plant(attack.plant if attack.stage == "repository" else attack.first)
    (scene.base / "ran").unlink(missing_ok=True)
    before, kept = scene.settings(), dict(os.environ)
    if attack.env is not None:
        os.environ.update(attack.env({**kept, "TRAP": str(scene.trap)}))
    sink = MemorySink()
    said: list[str] = []
    head: str | None = None
    try:
        head = await _everything(scene, sandbox, sink, said)
    except (GitError, MergeRefused, worktrees.RepoRefused) as error:
        said.append(f"{type(error).__name__}: {error}")
    finally:
        os.environ.clear()
        os.environ.update(kept)
    rows = [f"{row['operation']} {row['result']} {row['path']}" for row in sink.entries]
    shown = scene.settings() == before
    if attack.denied:
        wanted = os.path.normpath(scene.tree / attack.denied)
        shown = shown and f"WRITE DENIED {wanted}" in rows
    happened = scene.happened(head)
    return {"happened": happened, "shown": shown, "output": "\n".join(said), "rows": rows}


async def _everything(
    scene: Scene, sandbox: Sandbox, sink: MemorySink, said: list[str]
) -> str | None:
    repo = await worktrees.open_repository(str(scene.top))
    base = await worktrees.resolve_base(repo, "main", None)
    excludes = scene.base / "state" / "exclude"
    made = await worktrees.add_worktree(
        repo, scene.tree, attempt_id="a1", base=base, excludes=excludes
    )
    if scene.attack.stage == "install":
        await _plant_confined(scene, sandbox, sink, said)
    await worktrees.exclude_untracked(made)
    await worktrees.restore_tracked(made)
    if scene.attack.stage == "run":
        await _plant_confined(scene, sandbox, sink, said)
    (scene.tree / "a.txt").write_text("".join(["LINE 0\n", *LINES[1:]]))
    (scene.tree / "b.txt").write_text("new\n")
    head = await worktrees.commit_all(made, "work\n")
    if head is None:
        return None
    await worktrees.clean(made)
    await diffs.diff(made.git, made.base_commit, head)
    # Meanwhile the user commits too, so that there is something to rebase and to merge.
    (scene.top / "c.txt").write_text("the user's\n")
    (scene.top / "a.txt").write_text("".join([*LINES, "line 20\n"]))
    harmless = ("-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=", "-c", "commit.gpgSign=0")
    off = ("filter.evil.clean=", "filter.evil.process=", "core.worktree=")
    options = [part for option in off for part in ("-c", option)]
    scene.git(*harmless, *options, "add", "a.txt", "c.txt")
    scene.git(*harmless, *options, "commit", "-q", "-m", "theirs")
    try:
        tip = await repo.git.commit_of("refs/heads/main")
        await branches.merge_with_conflicts(made, tip or head)
        await made.git.run("merge", "--abort", ok=(0, 128))
        await branches.rebase(made, made.base_commit, tip or head)
        head = await made.git.commit_of("HEAD") or head
        await merge(repo, MergePlan("attempt/a1", head, "main", "Do it", "a1", None))
    except (GitError, MergeRefused) as error:
        said.append(f"{type(error).__name__}: {error}")
    await worktrees.discard(repo.git, made.path, attempt_id="a1", branch="attempt/a1")
    return head


async def _plant_confined(
    scene: Scene, sandbox: Sandbox, sink: MemorySink, said: list[str]
) -> None:
    policy = build_policy(
        run_id="r1", worktree=scene.tree, repo_path=scene.top,
        git_common_dir=scene.top / ".git", private_dir=scene.base / "state/runs/a1",
        state_dir=scene.base / "state", writable_roots=[str(scene.base / "proj")],
        readable_paths=[str(scene.base / "readable")], network={}, limits={},
    )  # fmt: skip
    result = await sandbox.runner(policy, sink).run(
        scene.program(scene.attack.plant), cwd=scene.tree, env=base_env(policy), network=False,
        timeout_s=20,
    )  # fmt: skip
    said.append(result.output.decode("utf-8", "replace"))


def run_plainly(scene: Scene) -> dict[str, Any]:
    """Do the same work with the plain git command line."""
    attack = scene.attack
    scene.make()
    if attack.stage == "repository":
        scene.plant(attack.plant)
    else:
        scene.plant(attack.first)
    (scene.base / "ran").unlink(missing_ok=True)
    env = scene.env()
    if attack.env is not None:
        env = attack.env({**env, "TRAP": str(scene.trap)})
    plain = shutil.which("git") or "git"

    def git(*argv: str, cwd: Path | None = None, stdin: str = "") -> str:
        # As a shell finds it: a relative folder in PATH is one below where it runs.
        program = "git" if attack.name == "program_named_git" else plain
        done = subprocess.run(
            ["sh", "-c", 'exec "$0" "$@"', program, *argv], cwd=cwd or scene.top, env=env,
            capture_output=True, text=True, check=False, input=stdin, timeout=20,
        )  # fmt: skip
        return done.stdout.strip()

    tree = scene.tree
    git("worktree", "add", "-q", "-b", "attempt/a1", str(tree), "main")
    tree.mkdir(parents=True, exist_ok=True)
    if attack.stage == "install":
        scene.plant(attack.plant)
    listed = git("ls-files", "--others", "-z", cwd=tree).split("\0")
    (scene.base / "exclude").write_text("".join(f"/{name}\n" for name in listed if name))
    if attack.stage == "run":
        scene.plant(attack.plant)
    (tree / "a.txt").write_text("".join(["LINE 0\n", *LINES[1:]]))
    (tree / "b.txt").write_text("new\n")
    git("status", cwd=tree)
    ignore = f"core.excludesFile={scene.base / 'exclude'}"
    git("-c", ignore, "add", "-A", cwd=tree)
    git("status", cwd=tree)
    git("commit", "-m", "work", cwd=tree)
    head = git("rev-parse", "HEAD", cwd=tree)
    git("diff", "HEAD~1", "HEAD", cwd=tree)
    if attack.name == "pager":
        _with_terminal([plain, "log"], tree, env)
    git("credential", "fill", stdin="protocol=http\nhost=localhost\n\n")
    git("fetch", "origin")
    git("submodule", "update", "--init")
    if (tree / "disguise").exists():
        git("-C", str(tree / "disguise"), "status")
    (scene.top / "a.txt").write_text("".join([*LINES, "line 20\n"]))
    (scene.top / "c.txt").write_text("the user's\n")
    git("add", "a.txt", "c.txt")
    git("commit")
    git("commit", "-m", "theirs")
    git("reset", "--hard", "-q")
    git("merge", "--no-commit", "--no-ff", "main", cwd=tree)
    git("merge", "--abort", cwd=tree)
    git("merge", "--no-ff", "--no-edit", "attempt/a1")
    git("rebase", "main~1", cwd=tree)
    return {"happened": scene.happened(head), "shown": False, "output": "", "rows": []}


def _with_terminal(argv: list[str], cwd: Path, env: dict[str, str]) -> None:
    """Run a program whose output is a terminal, as only then git uses a pager."""
    ours, theirs = pty.openpty()
    try:
        subprocess.run(argv, cwd=cwd, env={**env, "TERM": "xterm"}, stdin=subprocess.DEVNULL,
                       stdout=theirs, stderr=theirs, timeout=20, check=False)  # fmt: skip
    finally:
        os.close(ours)
        os.close(theirs)
