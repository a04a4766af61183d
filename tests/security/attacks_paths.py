# ruff: noqa: E501
"""Ways to name a file outside, and ways at git's own files inside."""

from __future__ import annotations

from functools import partial

from tests.security.attack_model import (
    REFERENCE,
    TREE,
    VICTIM,
    Attack,
    Effect,
    appended,
    changed,
    denied,
    exists,
    gone,
    mode_changed,
    recorded,
    shown,
)

_path = partial(Attack, category="Paths", twice=True)
_git = partial(Attack, category="git's own files", twice=True)
W_VICTIM = denied("WRITE", VICTIM)
W_NEW = denied("WRITE", "outside/new")
NESTED = f"{TREE}/vendor/.git/config"
GIT_FILE = f"{TREE}/.git"


def _of_victim(tail: str):
    return lambda world: f"/proc/{world.victim_process.pid}/{tail}"


# fmt: off
PATHS = [
    _path(name="dotdot", code="open('../../../outside/victim.txt', 'w')", effect=changed(VICTIM), evidence=W_VICTIM),
    _path(name="dotdot_through_missing", code="os.mkdir('x'); open('x/../../../../outside/victim.txt', 'w')", effect=changed(VICTIM), evidence=W_VICTIM),
    _path(name="dotdot_through_file_system_root", code="open('../' * 60 + victim[1:], 'w')", effect=changed(VICTIM), evidence=W_VICTIM),
    _path(name="absolute", code="open(victim, 'w')", effect=changed(VICTIM), evidence=W_VICTIM),
    _path(name="double_slash", code="open('//' + victim + '', 'w')", effect=changed(VICTIM), evidence=W_VICTIM),
    _path(name="dots_and_slashes", code="open('/.//./' + victim.replace('/', '/.//'), 'w')", effect=changed(VICTIM), evidence=W_VICTIM),
    _path(name="prefix_sibling", code="os.mkdir(tree + 'x')", effect=exists(TREE + "x"), evidence=denied("WRITE", TREE + "x")),
    _path(name="create", code="open(outside + '/new', 'w')", effect=exists("outside/new"), evidence=W_NEW),
    _path(name="create_read_only", code="os.open(outside + '/new', os.O_RDONLY | os.O_CREAT)", effect=exists("outside/new"), evidence=W_NEW),
    _path(name="shell_redirect", code="os.system('echo x > ' + victim)", effect=changed(VICTIM), evidence=W_VICTIM),
    _path(name="chdir", code="os.chdir(outside); open('victim.txt', 'w')", effect=changed(VICTIM), evidence=W_VICTIM),
    _path(name="symlink_file", code="os.symlink(victim, 'l'); open('l', 'w')", effect=changed(VICTIM), evidence=W_VICTIM),
    _path(name="symlink_dangling", code="os.symlink(outside + '/new', 'l'); open('l', 'w')", effect=exists("outside/new"), evidence=W_NEW),
    _path(name="symlink_folder", code="os.symlink(outside, 'd'); open('d/new', 'w')", effect=exists("outside/new"), evidence=W_NEW),
    _path(name="symlink_relative", code="os.symlink('../../../outside', 'd'); open('d/new', 'w')", effect=exists("outside/new"), evidence=W_NEW),
    _path(name="symlink_chain", code="""
os.symlink(outside, 'l0')
for n in range(30):
    os.symlink(f'l{n}', f'l{n + 1}')
open('l30/new', 'w')
""", effect=exists("outside/new"), evidence=W_NEW),
    _path(name="symlink_trailing_slash", code="os.symlink(outside + '/folder', 'd'); os.rename('d/../folder', outside + '/moved')", effect=gone("outside/folder"), evidence=denied("DELETE", "outside/folder")),
    _path(name="hard_link", code="os.link(victim, 'h'); open('h', 'w')", effect=changed(VICTIM), evidence=W_VICTIM),
    _path(name="hard_link_by_fd", code="""
fd = os.open(victim, os.O_PATH)
sys_call('linkat', -100, f'/proc/self/fd/{fd}'.encode(), -100, b'h', 0x400)
open('h', 'w')
""", effect=changed(VICTIM), evidence=W_VICTIM),
    _path(name="hard_link_to_readable", code="os.link(A['reference'], 'h'); open('h', 'w')", effect=changed(REFERENCE), evidence=denied("WRITE", REFERENCE)),
    _path(name="proc_self_root", code="open('/proc/self/root' + victim, 'w')", effect=changed(VICTIM), evidence=W_VICTIM),
    _path(name="proc_thread_self_root", code="open('/proc/thread-self/root' + victim, 'w')", effect=changed(VICTIM), evidence=W_VICTIM),
    _path(name="proc_self_cwd", code="open('/proc/self/cwd/../../../outside/victim.txt', 'w')", effect=changed(VICTIM), evidence=W_VICTIM),
    _path(name="proc_self_fd", code="fd = os.open(A['reference'], os.O_RDONLY); open(f'/proc/self/fd/{fd}', 'w')", effect=changed(REFERENCE), evidence=denied("WRITE", REFERENCE)),
    _path(name="proc_pid_fd", code="fd = os.open(A['reference'], os.O_RDONLY); open(f'/proc/{os.getpid()}/fd/{fd}', 'w')", effect=changed(REFERENCE), evidence=denied("WRITE", REFERENCE)),
    _path(name="proc_fd_by_symlink", code="""
fd = os.open(A['reference'], os.O_RDONLY)
os.symlink(f'/proc/self/fd/{fd}', 'l')
open('l', 'w')
""", effect=changed(REFERENCE), evidence=denied("WRITE", REFERENCE)),
    _path(name="dev_fd", code="fd = os.open(A['reference'], os.O_RDONLY); open(f'/dev/fd/{fd}', 'w')", effect=changed(REFERENCE), evidence=denied("WRITE", REFERENCE)),
    _path(name="dev_stdin", code="os.dup2(os.open(A['reference'], os.O_RDONLY), 0); open('/dev/stdin', 'w')", effect=changed(REFERENCE), evidence=denied("WRITE", REFERENCE)),
    _path(name="proc_cwd_by_symlink", code="os.symlink('/proc/self/cwd', 'c'); os.chdir(outside); open(tree + '/c/victim.txt', 'w')", effect=changed(VICTIM), evidence=W_VICTIM),
    _path(name="proc_fd_folder_by_symlink", code="""
fd = os.open(outside, os.O_PATH)
os.symlink(f'/proc/self/fd/{fd}', 'd')
open('d/victim.txt', 'w')
""", effect=changed(VICTIM), evidence=W_VICTIM),
    _path(name="proc_fd_written_oddly", code="fd = os.open(A['reference'], os.O_RDONLY); open(f'/./proc/self/fd/{fd}', 'w')", effect=changed(REFERENCE), evidence=denied("WRITE", REFERENCE)),
    _path(name="fd_of_another_process", code="open(f\"/proc/{A['pid']}/fd/1\", 'w')", effect=changed(VICTIM), evidence=denied("WRITE", _of_victim("fd/1"))),
    _path(name="cwd_of_another_process", code="open(f\"/proc/{A['pid']}/cwd/victim.txt\", 'w')", effect=changed(VICTIM), evidence=denied("WRITE", _of_victim("cwd/victim.txt"))),
    _path(name="root_of_another_process", code="open(f\"/proc/{A['pid']}/root{victim}\", 'w')", effect=changed(VICTIM), evidence=denied("WRITE", lambda w: f"/proc/{w.victim_process.pid}/root{w.base / VICTIM}")),
    _path(name="delete_by_cwd_of_another", code="os.unlink(f\"/proc/{A['pid']}/cwd/victim.txt\")", effect=gone(VICTIM), evidence=denied("DELETE", _of_victim("cwd/victim.txt"))),
    _path(name="chmod_by_fd_of_another", code="os.chmod(f\"/proc/{A['pid']}/fd/1\", 0o711)", effect=mode_changed(VICTIM), evidence=denied("WRITE", _of_victim("fd/1"))),
    _path(name="o_path_fd", code="fd = os.open(victim, os.O_PATH); open(f'/proc/self/fd/{fd}', 'w')", effect=changed(VICTIM), evidence=W_VICTIM),
    _path(name="folder_fd", code="fd = os.open(outside, os.O_PATH); os.open('victim.txt', os.O_WRONLY | os.O_TRUNC, dir_fd=fd)", effect=changed(VICTIM), evidence=W_VICTIM),
    _path(name="folder_fd_dotdot", code="fd = os.open('vendor', os.O_PATH); os.open('../../../../outside/victim.txt', os.O_WRONLY | os.O_TRUNC, dir_fd=fd)", effect=changed(VICTIM), evidence=W_VICTIM),
    _path(name="folder_fd_unlink", code="os.unlink('victim.txt', dir_fd=os.open(outside, os.O_PATH))", effect=gone(VICTIM), evidence=denied("DELETE", VICTIM)),
    _path(name="fchdir", code="os.fchdir(os.open(outside, os.O_PATH)); open('victim.txt', 'w')", effect=changed(VICTIM), evidence=W_VICTIM),
    _path(name="deleted_cwd", code="os.mkdir('x'); os.chdir('x'); os.rmdir('../x'); open(victim, 'w')", effect=changed(VICTIM), evidence=W_VICTIM),
    _path(name="tmpfile_outside", code="fd = os.open(outside, os.O_TMPFILE | os.O_WRONLY); os.link(f'/proc/self/fd/{fd}', 'new', dst_dir_fd=os.open(outside, os.O_PATH), follow_symlinks=True)", effect=exists("outside/new"), evidence=denied("WRITE", "outside")),
    _path(name="tmpfile_linked_out", code="fd = os.open('.', os.O_TMPFILE | os.O_WRONLY); sys_call('linkat', -100, f'/proc/self/fd/{fd}'.encode(), -100, f'{outside}/new'.encode(), 0x400)", effect=exists("outside/new"), evidence=W_NEW),
    _path(name="shared_memory_folder", code="""
name = '/dev/shm/rb-' + str(A['pid'])
open(name, 'w')
""", effect=Effect("a file for all to see in `/dev/shm`", lambda w: _take_away(f"/dev/shm/rb-{w.victim_process.pid}")),
        evidence=shown("WRITE ALLOWED in the run's own folder", lambda w: any(f"/tmp/.shm/rb-{w.victim_process.pid}" in path for path in w.paths("ALLOWED", "WRITE")), is_audit=True)),
    _path(name="user_checkout", code="open(A['repo'] + '/planted', 'w')", effect=exists("proj/repo/planted"), evidence=denied("WRITE", "proj/repo/planted")),
    _path(name="own_journal", code="open(os.environ['TMPDIR'] + '/../journal.jsonl', 'w')", effect=changed("state/runs/a1/journal.jsonl"), evidence=denied("WRITE", "state/runs/a1/journal.jsonl")),
    _path(name="root_folder_renamed", code="os.rename(tree, tree + '-gone'); os.rename(tree + '-gone', tree); print('MOVED')", effect=Effect("the root itself is moved", lambda w: "MOVED" in w.output), evidence=denied("WRITE", TREE + "-gone")),
    _path(name="private_folder_replaced", code="t = os.environ['TMPDIR']; os.rename(t, t + '2'); os.symlink(outside, t)", effect=Effect("the private folder leads outside", lambda w: (w.base / "state/runs/a1/tmp").is_symlink()), evidence=denied("WRITE", "state/runs/a1/tmp2")),
]

GIT_FILES = [
    _git(name="git_file", code="open('.git', 'a').write('x')", effect=appended(GIT_FILE), evidence=denied("WRITE", GIT_FILE)),
    _git(name="git_file_unlink", code="os.unlink('.git')", effect=gone(GIT_FILE), evidence=denied("DELETE", GIT_FILE)),
    _git(name="git_file_replace", code="open('g', 'w'); os.rename('g', '.git')", effect=appended(GIT_FILE), evidence=denied("WRITE", GIT_FILE)),
    _git(name="git_file_hard_link", code="os.link('.git', 'g'); open('g', 'a').write('x')", effect=appended(GIT_FILE), evidence=denied("WRITE", GIT_FILE)),
    _git(name="git_file_link_by_fd", code="fd = os.open('.git', os.O_RDONLY); sys_call('linkat', -100, f'/proc/self/fd/{fd}'.encode(), -100, b'g', 0x400); open('g', 'a').write('x')", effect=appended(GIT_FILE), evidence=denied("WRITE", GIT_FILE)),
    _git(name="git_file_reopened", code="fd = os.open('.git', os.O_RDONLY); open(f'/proc/self/fd/{fd}', 'a').write('x')", effect=appended(GIT_FILE), evidence=denied("WRITE", GIT_FILE)),
    _git(name="git_common_config", code="open(A['repo'] + '/.git/config', 'w')", effect=changed("proj/repo/.git/config"), evidence=denied("WRITE", "proj/repo/.git/config")),
    _git(name="git_common_hook", code="open(A['repo'] + '/.git/hooks/post-merge', 'w')", effect=exists("proj/repo/.git/hooks/post-merge"), evidence=denied("WRITE", "proj/repo/.git/hooks/post-merge")),
    _git(name="git_common_alternates", code="os.makedirs(A['repo'] + '/.git/objects/info'); open(A['repo'] + '/.git/objects/info/alternates', 'w')", effect=exists("proj/repo/.git/objects/info/alternates"), evidence=denied("WRITE", "proj/repo/.git/objects")),
    _git(name="git_nested_config", code="open('vendor/.git/config', 'w')", effect=changed(NESTED), evidence=denied("WRITE", NESTED)),
    _git(name="git_nested_hook", code="open('vendor/.git/hooks/pre-commit', 'w')", effect=exists(f"{TREE}/vendor/.git/hooks/pre-commit"), evidence=denied("WRITE", f"{TREE}/vendor/.git/hooks/pre-commit")),
    _git(name="git_nested_rename", code="os.rename('vendor/.git', 'vendor/g'); open('vendor/g/config', 'w')", effect=gone(f"{TREE}/vendor/.git"), evidence=denied("DELETE", f"{TREE}/vendor/.git")),
    _git(name="git_nested_hooks_moved_out", code="os.rename('vendor/.git/hooks', 'hooks')", effect=gone(f"{TREE}/vendor/.git/hooks"), evidence=denied("DELETE", f"{TREE}/vendor/.git/hooks")),
    _git(name="git_parent_rename", code="os.rename('vendor', 'v2'); open('v2/.git/config', 'w')", effect=Effect("the nested configuration has other content", lambda w: any(p.read_text() != "original" for p in w.tree.glob("*/.git/config"))), evidence=denied("WRITE", f"{TREE}/v2/.git/config")),
    _git(name="git_exchange", code="os.mkdir('e'); sys_call('renameat2', -100, b'vendor/.git', -100, b'e', 2)", effect=Effect("the nested `.git` is another folder", lambda w: not (w.tree / "vendor/.git/config").exists()), evidence=denied("WRITE", f"{TREE}/vendor/.git")),
    _git(name="git_exchange_of_parents", code="""
os.makedirs('e/.git2'); sys_call('renameat2', -100, b'vendor', -100, b'e', 2)
open('e/.git/config', 'w')
""", effect=Effect("the nested configuration has other content", lambda w: any(p.read_text() != "original" for p in w.tree.glob("*/.git/config"))), evidence=denied("WRITE", f"{TREE}/e/.git/config")),
    _git(name="git_by_symlink", code="os.symlink('vendor/.git', 's'); open('s/config', 'w')", effect=changed(NESTED), evidence=denied("WRITE", NESTED)),
    _git(name="git_by_folder_fd", code="fd = os.open('vendor/.git', os.O_PATH); os.open('config', os.O_WRONLY | os.O_TRUNC, dir_fd=fd)", effect=changed(NESTED), evidence=denied("WRITE", NESTED)),
    _git(name="git_by_cwd", code="os.chdir('vendor/.git'); open('config', 'w')", effect=changed(NESTED), evidence=denied("WRITE", NESTED)),
    _git(name="git_chmod", code="os.chmod('vendor/.git/config', 0o711)", effect=mode_changed(NESTED), evidence=denied("WRITE", NESTED)),
    _git(name="git_planted", code="os.mkdir('sub'); os.mkdir('sub/.git')", effect=exists(f"{TREE}/sub/.git"), evidence=denied("WRITE", f"{TREE}/sub/.git")),
    _git(name="git_planted_file", code="os.mkdir('sub'); open('sub/.git', 'w').write('gitdir: /tmp')", effect=exists(f"{TREE}/sub/.git"), evidence=denied("WRITE", f"{TREE}/sub/.git")),
    _git(name="git_planted_symlink", code="os.mkdir('sub'); os.symlink(os.environ['TMPDIR'], 'sub/.git')", effect=exists(f"{TREE}/sub/.git"), evidence=denied("WRITE", f"{TREE}/sub/.git")),
    _git(name="git_planted_in_capitals", code="os.mkdir('sub'); os.mkdir('sub/.GIT')", effect=exists(f"{TREE}/sub/.GIT"), evidence=denied("WRITE", f"{TREE}/sub/.GIT")),
    _git(name="git_renamed_into_place", code="os.mkdir('g'); os.mkdir('sub'); os.rename('g', 'sub/.git')", effect=exists(f"{TREE}/sub/.git"), evidence=denied("WRITE", f"{TREE}/sub/.git")),
    _git(name="git_moved_in", code="t = os.environ['TMPDIR'] + '/x'; os.makedirs(t + '/.git'); os.rename(t, 'sub')", effect=exists(f"{TREE}/sub/.git"), evidence=recorded("WRITE", "state/runs/a1/tmp/x/.git")),
]
# fmt: on


def _take_away(path: str) -> bool:
    import os

    try:
        os.unlink(path)
    except FileNotFoundError:
        return False
    return True
