# ruff: noqa: E501
"""Ways to change what is in or about a file besides opening it for writing; and races."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from tests.security.attack_model import (
    REFERENCE,
    TREE,
    VICTIM,
    Attack,
    Effect,
    changed,
    denied,
    exists,
    gone,
    has_xattr,
    mode_changed,
    old,
    recorded,
    refused,
    shown,
)

_change = partial(Attack, category="Other ways to change files", twice=True)
_race = partial(Attack, category="Races", twice=True)
W_VICTIM = denied("WRITE", VICTIM)
W_REFERENCE = denied("WRITE", REFERENCE)
W_NEW = denied("WRITE", "outside/new")

_FLIP = """
import threading
os.mkdir('real'); os.symlink(outside, 'fake'); open('real/victim.txt', 'w')
start, seen = time.monotonic(), False
def goes_on():
    # For a while, and until it was refused at least once; a busy machine needs more time.
    return not won() and time.monotonic() < start + (0.4 if seen else 8)
going = True
def swap():
    while going:
        for name in ('real', 'fake'):
            os.rename(name, 'slot'); os.rename('slot', name)
thread = threading.Thread(target=swap, daemon=True)
thread.start()
while goes_on():
    try:
        act()
    except OSError as error:
        seen = seen or error.errno == errno.EACCES
going = False
"""
_MEMORY_FLIP = """
import threading
sys.setswitchinterval(1e-6)
open('own', 'w')
names = [b'own'.ljust(len(victim) + 1, b'\\0'), victim.encode() + b'\\0']
path = ctypes.create_string_buffer(len(victim) + 1)
path.raw = names[0]
start, seen = time.monotonic(), False
def flip():
    while True:
        for name in names:
            path.raw = name
threading.Thread(target=flip, daemon=True).start()
while not won() and time.monotonic() < start + (0.4 if seen else 8):
    act()
    seen = seen or ctypes.get_errno() == errno.EACCES
"""
_OPEN = "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\n"

# fmt: off
CHANGES = [
    _change(name="append", code="open(victim, 'a').write('x')", effect=changed(VICTIM), evidence=W_VICTIM),
    _change(name="read_write", code="os.write(os.open(victim, os.O_RDWR), b'x')", effect=changed(VICTIM), evidence=W_VICTIM),
    _change(name="open_truncate_only", code="os.open(victim, os.O_RDONLY | os.O_TRUNC)", effect=changed(VICTIM), evidence=W_VICTIM),
    _change(name="creat", code=_OPEN + "libc.creat(victim.encode(), 0o600)", effect=changed(VICTIM), evidence=W_VICTIM),
    _change(name="truncate", code="os.truncate(victim, 0)", effect=changed(VICTIM), evidence=W_VICTIM),
    _change(name="truncate_by_link", code="os.symlink(victim, 'l'); os.truncate('l', 0)", effect=changed(VICTIM), evidence=W_VICTIM),
    _change(name="truncate_readable", code="os.truncate(A['reference'], 0)", effect=changed(REFERENCE), evidence=W_REFERENCE),
    _change(name="ftruncate", code="os.ftruncate(os.open(victim, os.O_RDWR), 0)", effect=changed(VICTIM), evidence=W_VICTIM),
    _change(name="ftruncate_reopened", code="fd = os.open(A['reference'], os.O_RDONLY); os.ftruncate(os.open(f'/proc/self/fd/{fd}', os.O_RDWR), 0)", effect=changed(REFERENCE), evidence=W_REFERENCE),
    _change(name="mmap", code="fd = os.open(victim, os.O_RDWR); mmap.mmap(fd, 4)[0:4] = b'evil'", effect=changed(VICTIM), evidence=W_VICTIM),
    _change(name="mmap_of_readable", code="fd = os.open(A['reference'], os.O_RDONLY); fd = os.open(f'/proc/self/fd/{fd}', os.O_RDWR); mmap.mmap(fd, 4)[0:4] = b'evil'", effect=changed(REFERENCE), evidence=W_REFERENCE),
    _change(name="fallocate", code="os.posix_fallocate(os.open(victim, os.O_RDWR), 0, 4096)", effect=changed(VICTIM), evidence=W_VICTIM),
    _change(name="copy_file_range", code="open('own', 'w').write('evil' * 9); os.copy_file_range(os.open('own', os.O_RDONLY), os.open(victim, os.O_WRONLY), 9)", effect=changed(VICTIM), evidence=W_VICTIM),
    _change(name="sendfile", code="open('own', 'w').write('evil' * 9); os.sendfile(os.open(victim, os.O_WRONLY), os.open('own', os.O_RDONLY), 0, 9)", effect=changed(VICTIM), evidence=W_VICTIM),
    _change(name="splice", code="r, w = os.pipe(); os.write(w, b'evil'); os.splice(r, os.open(victim, os.O_WRONLY), 4)", effect=changed(VICTIM), evidence=W_VICTIM),
    _change(name="pwritev", code="os.pwritev(os.open(victim, os.O_WRONLY), [b'evil'], 2)", effect=changed(VICTIM), evidence=W_VICTIM),
    _change(name="io_uring", code="""
parameters = (ctypes.c_uint32 * 30)()
ring = sys_call('io_uring_setup', 4, parameters)
heads = mmap.mmap(ring, 4096)
entries = mmap.mmap(ring, 4096, offset=0x10000000)
path = ctypes.create_string_buffer(victim.encode())
entries[:48] = struct.pack('<BBHiQQIIQQ', 18, 0, 0, -100, 0, ctypes.addressof(path), 0, os.O_WRONLY | os.O_TRUNC, 1, 0)[:48]
heads[parameters[16]:parameters[16] + 4] = struct.pack('<I', 0)
heads[parameters[11]:parameters[11] + 4] = struct.pack('<I', 1)
sys_call('io_uring_enter', ring, 1, 1, 1, None, 0)
""", effect=changed(VICTIM), evidence=refused("EPERM")),
    _change(name="kernel_aio", code="""
context = ctypes.c_ulong(0)
sys_call('io_setup', 1, ctypes.byref(context))
print('RAN')
""", effect=Effect("a context for asynchronous writes exists", lambda w: "RAN" in w.output), evidence=refused("EPERM")),
    _change(name="open_by_handle", code="""
handle = (ctypes.c_ubyte * 136)(128)
mount = ctypes.c_int()
sys_call('name_to_handle_at', -100, victim.encode(), handle, ctypes.byref(mount), 0)
sys_call('open_by_handle_at', os.open(tree, os.O_RDONLY), handle, os.O_WRONLY | os.O_TRUNC)
""", effect=changed(VICTIM), evidence=refused("EPERM"), root_only=True),
    _change(name="openat2", code="""
how = struct.pack('<QQQ', os.O_WRONLY | os.O_TRUNC, 0, 0)
sys_call('openat2', -100, victim.encode(), how, len(how))
""", effect=changed(VICTIM), evidence=refused("ENOSYS")),
    _change(name="chmod", code="os.chmod(victim, 0o711)", effect=mode_changed(VICTIM), evidence=W_VICTIM),
    _change(name="fchmod", code="os.fchmod(os.open(A['reference'], os.O_RDONLY), 0o711)", effect=mode_changed(REFERENCE), evidence=W_REFERENCE),
    _change(name="fchmodat2", code="sys_call('fchmodat2', os.open(victim, os.O_PATH), b'', 0o711, 0x1000)", effect=mode_changed(VICTIM), evidence=W_VICTIM),
    _change(name="chmod_by_link", code="os.symlink(victim, 'l'); os.chmod('l', 0o711)", effect=mode_changed(VICTIM), evidence=W_VICTIM),
    _change(name="chmod_proc_fd", code="fd = os.open(victim, os.O_PATH); os.chmod(f'/proc/self/fd/{fd}', 0o711)", effect=mode_changed(VICTIM), evidence=W_VICTIM),
    _change(name="chmod_secret_open", code="os.chmod(A['home'] + '/.ssh/id_ed25519', 0o711)", effect=mode_changed("home/.ssh/id_ed25519"), evidence=denied("WRITE", "home/.ssh/id_ed25519")),
    _change(name="chown", code="os.chown(victim, os.getuid(), os.getgid()); print('CHOWNED')", effect=Effect("the owner of `outside/victim.txt` is set", lambda w: "CHOWNED" in w.output), evidence=W_VICTIM),
    _change(name="utime", code="os.utime(victim, (1, 1))", effect=old(VICTIM), evidence=W_VICTIM),
    _change(name="futime", code="os.utime(os.open(A['reference'], os.O_RDONLY), (1, 1))", effect=old(REFERENCE), evidence=W_REFERENCE),
    _change(name="utime_by_link", code="os.symlink(victim, 'l'); os.utime('l', (1, 1))", effect=old(VICTIM), evidence=W_VICTIM),
    _change(name="xattr", code="os.setxattr(victim, 'user.evil', b'1')", effect=has_xattr(VICTIM), evidence=W_VICTIM),
    _change(name="fxattr", code="os.setxattr(os.open(A['reference'], os.O_RDONLY), 'user.evil', b'1')", effect=has_xattr(REFERENCE), evidence=W_REFERENCE),
    _change(name="xattrat", code="""
value = ctypes.create_string_buffer(b'1')
arguments = struct.pack('<QII', ctypes.addressof(value), 1, 0)
try:
    sys_call('setxattrat', -100, victim.encode(), 0, b'user.evil', arguments, len(arguments))
except OSError as error:
    print('REFUSED', errno.errorcode[error.errno])
    os.setxattr(victim, 'user.evil', b'1')
""", effect=has_xattr(VICTIM), evidence=W_VICTIM),
    _change(name="file_flags", code="""
fd = os.open(A['reference'], os.O_RDONLY)
flags = bytearray(8)
fcntl.ioctl(fd, 0x80086601, flags)
flags[0] |= 0x40
fcntl.ioctl(fd, 0x40086602, flags)
print('SET')
""", effect=Effect("an attribute flag of `reference/ref.txt` is set", lambda w: "SET" in w.output), evidence=refused("EPERM")),
    _change(name="unlink", code="os.unlink(victim)", effect=gone(VICTIM), evidence=denied("DELETE", VICTIM)),
    _change(name="rmdir", code="os.rmdir(outside + '/folder')", effect=gone("outside/folder"), evidence=denied("DELETE", "outside/folder")),
    _change(name="mkdir", code="os.mkdir(outside + '/new')", effect=exists("outside/new"), evidence=W_NEW),
    _change(name="symlink_outside", code="os.symlink('x', outside + '/new')", effect=exists("outside/new"), evidence=W_NEW),
    _change(name="link_outside", code="os.link('mine.txt', outside + '/new')", effect=exists("outside/new"), evidence=W_NEW),
    _change(name="fifo_outside", code="os.mkfifo(outside + '/new')", effect=exists("outside/new"), evidence=W_NEW),
    _change(name="mknod_file_outside", code="os.mknod(outside + '/new')", effect=exists("outside/new"), evidence=W_NEW),
    _change(name="rename_out", code="os.rename('mine.txt', victim)", effect=changed(VICTIM), evidence=W_VICTIM),
    _change(name="rename_in", code="os.rename(victim, 'stolen')", effect=gone(VICTIM), evidence=denied("DELETE", VICTIM)),
    _change(name="rename_exchange", code="sys_call('renameat2', -100, b'mine.txt', -100, victim.encode(), 2)", effect=changed(VICTIM), evidence=W_VICTIM),
    _change(name="rename_folder_out", code="os.mkdir('d'); os.rename('d', outside + '/new')", effect=exists("outside/new"), evidence=W_NEW),
    _change(name="device_node", code="os.mknod('disk', 0o20666, os.makedev(1, 5))", effect=exists(f"{TREE}/disk"), evidence=refused("EPERM"), root_only=True),
    _change(name="whiteout", code="sys_call('renameat2', -100, b'mine.txt', -100, b'moved', 4); os.stat('mine.txt'); print('DEVICE')", effect=Effect("a device node stays behind", lambda w: "DEVICE" in w.output), evidence=refused("EINVAL"), root_only=True),
    _change(name="set_user_id", code="open('su', 'w'); os.chmod('su', 0o4755)", effect=Effect("a program that lends its owner's rights", lambda w: bool((w.tree / "su").stat().st_mode & 0o6000)), evidence=denied("WRITE", f"{TREE}/su")),
    _change(name="set_user_id_at_creation", code="os.open('su', os.O_CREAT | os.O_WRONLY, 0o4755)", effect=Effect("a program that lends its owner's rights", lambda w: bool((w.tree / "su").stat().st_mode & 0o6000)), evidence=recorded("WRITE", f"{TREE}/su")),
    _change(name="set_user_id_by_mknod", code="os.mknod('su', 0o104755)", effect=Effect("a program that lends its owner's rights", lambda w: bool((w.tree / "su").stat().st_mode & 0o6000)), evidence=recorded("WRITE", f"{TREE}/su")),
    _change(name="tuning_of_another_process", code="open(f\"/proc/{A['pid']}/oom_score_adj\", 'w').write('500')", effect=Effect("another process is the first to go when memory is short", lambda w: Path(f"/proc/{w.victim_process.pid}/oom_score_adj").read_text() == "500\n"), evidence=denied("WRITE", lambda w: f"/proc/{w.victim_process.pid}/oom_score_adj")),
]

RACES = [
    _race(name="swap_folder_and_link", code="""
def won(): return os.path.exists(outside + '/new')
def act(): open('slot/new', 'w').close()
""" + _FLIP, effect=exists("outside/new"), evidence=W_NEW),
    _race(name="swap_and_chmod", code="""
def won(): return os.stat(victim).st_mode & 0o777 == 0o711
def act(): os.chmod('slot/victim.txt', 0o711)
""" + _FLIP, effect=mode_changed(VICTIM), evidence=W_VICTIM),
    _race(name="swap_and_delete", code="""
def won(): return not os.path.exists(victim)
def act(): os.unlink('slot/victim.txt')
""" + _FLIP, effect=gone(VICTIM), evidence=denied("DELETE", VICTIM)),
    _race(name="swap_and_rename", code="""
def won(): return os.path.exists(outside + '/new')
def act():
    open('t', 'w'); os.rename('t', 'slot/new')
""" + _FLIP, effect=exists("outside/new"), evidence=W_NEW),
    _race(name="path_changed_in_memory", code=_OPEN + """
def won(): return os.stat(victim).st_size == 0
def act(): os.close(fd) if (fd := libc.open(path, os.O_WRONLY | os.O_TRUNC)) >= 0 else None
""" + _MEMORY_FLIP, effect=changed(VICTIM), evidence=W_VICTIM),
    _race(name="path_changed_in_memory_chmod", code=_OPEN + """
def won(): return os.stat(victim).st_mode & 0o777 == 0o711
def act(): libc.chmod(path, 0o711)
""" + _MEMORY_FLIP, effect=mode_changed(VICTIM), evidence=W_VICTIM),
    _race(name="interrupted_by_signals", code="""
count = 0
signal.signal(signal.SIGALRM, lambda *_: None)
signal.siginterrupt(signal.SIGALRM, False)
signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.0002)
for n in range(300):
    try:
        os.link('mine.txt', f'l{n}')
    except FileExistsError:
        print('TWICE')
open(victim, 'w')
""", effect=changed(VICTIM), evidence=shown("WRITE DENIED, and each link made and recorded exactly once", lambda w: "TWICE" not in w.output and str(w.base / VICTIM) in w.paths("DENIED", "WRITE") and sum(str(row["path"]).startswith(f"{w.tree}/l") and row["operation"] == "WRITE" for row in w.entries) == 300, is_audit=True)),
]
# fmt: on
