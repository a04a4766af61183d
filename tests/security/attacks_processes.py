# ruff: noqa: E501
"""Reading secrets, reaching other processes, and the kernel's own interfaces."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

from tests.security.attack_model import (
    DEAD,
    TOLD,
    VICTIM,
    Attack,
    Effect,
    Evidence,
    changed,
    denied,
    killed,
    refused,
    said,
    shown,
)

_read = partial(Attack, category="Secrets", effect=TOLD, twice=True)
_process = partial(Attack, category="Other processes")
_kernel = partial(Attack, category="Kernel interfaces")
SSH = "home/.ssh/id_ed25519"
R_SSH = denied("READ", SSH)
RAN = said("RAN", "the call is carried out")
NO = refused("EPERM", "ENOSYS")
_DISKS = ("/dev/vda", "/dev/sda", "/dev/nvme0n1", "/dev/loop0", "/dev/mem", "/dev/kmsg")


def _opens(path: str) -> bool:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        return bool(os.read(fd, 8192))
    except OSError:
        return False
    finally:
        os.close(fd)


# A device of the machine that this user can read; an ordinary one can read none.
DISK = next((path for path in _DISKS if Path(path).exists() and _opens(path)), "/dev/kmsg")
# What makes a file a disk; some machines have none, and there the kernel's log stands for it.
LOOP = next(
    (path for path in ("/dev/loop-control", "/dev/loop0") if Path(path).exists()), "/dev/kmsg"
)
NEW_SPACES = (
    "sys_call('unshare', 0x10020000)\nlibc.mount(None, b'/', None, ctypes.c_ulong(0x44000), None)\n"
)


def _of_victim(tail: str) -> Evidence:
    return denied("READ", lambda world: f"/proc/{world.victim_process.pid}/{tail}")


def _taken(what: str) -> Effect:
    return Effect(f"another program's {what} is gone", lambda world: not world.shared(what))


def _call(name: str, code: str, words: str, *, root_only: bool = False) -> Attack:
    """A call that must not reach the kernel: any other answer than a refusal says that it did."""
    body = f"""
try:
    {code}
except OSError as error:
    if error.errno in (errno.EPERM, errno.ENOSYS):
        raise
print('RAN')
"""
    return _kernel(
        name=name, code=body, effect=Effect(words, RAN.happened), evidence=NO, root_only=root_only
    )


# fmt: off
READS = [
    _read(name="read_ssh_key", code="print(open(A['home'] + '/.ssh/id_ed25519').read())", evidence=R_SSH),
    _read(name="read_state", code="print(open(A['state'] + '/secrets/django.key').read())", evidence=denied("READ", "state/secrets/django.key")),
    _read(name="read_other_worktree", code="print(open('../a2/other').read())", evidence=denied("READ", "state/worktrees/a2/other")),
    _read(name="read_by_symlink", code="os.symlink(A['home'] + '/.ssh', 's'); print(open('s/id_ed25519').read())", evidence=R_SSH),
    _read(name="read_by_proc_root", code="print(open('/proc/self/root' + A['home'] + '/.ssh/id_ed25519').read())", evidence=R_SSH),
    _read(name="read_by_o_path", code="fd = os.open(A['home'] + '/.ssh/id_ed25519', os.O_PATH); print(open(f'/proc/self/fd/{fd}').read())", evidence=R_SSH),
    _read(name="read_by_folder_fd", code="fd = os.open(A['home'] + '/.ssh', os.O_PATH); print(os.read(os.open('id_ed25519', os.O_RDONLY, dir_fd=fd), 99))", evidence=R_SSH),
    _read(name="read_by_chdir", code="os.chdir(A['home'] + '/.ssh'); print(open('id_ed25519').read())", evidence=R_SSH),
    _read(name="read_by_cwd_link", code="os.symlink('/proc/self/cwd', 'c'); os.chdir(A['home'] + '/.ssh'); print(open(tree + '/c/id_ed25519').read())", evidence=R_SSH),
    _read(name="read_by_fd_link", code="fd = os.open(A['home'] + '/.ssh', os.O_PATH); os.symlink(f'/proc/self/fd/{fd}', 'f'); print(open('f/id_ed25519').read())", evidence=R_SSH),
    _read(name="read_by_odd_proc_name", code="os.chdir(A['home'] + '/.ssh'); print(open('/usr/../proc/self/cwd/id_ed25519').read())", evidence=R_SSH),
    _read(name="read_through_system_folder", code="print(open('/usr/share/../../' + A['home'] + '/.ssh/id_ed25519').read())", evidence=R_SSH),
    _read(name="read_by_hard_link", code="os.link(A['home'] + '/.ssh/id_ed25519', 'h'); print(open('h').read())", evidence=denied("WRITE", SSH)),
    _read(name="read_by_rename", code="os.rename(A['home'] + '/.ssh/id_ed25519', 'h'); print(open('h').read())", evidence=denied("DELETE", SSH)),
    _read(name="read_for_writing", code="print(os.read(os.open(A['home'] + '/.ssh/id_ed25519', os.O_RDWR), 99))", evidence=denied("WRITE", SSH)),
    _read(name="list_ssh_folder", code="print('id_ed25519' in os.listdir(A['home'] + '/.ssh') and 'the-secret-text')", evidence=denied("READ", "home/.ssh")),
    _read(name="read_path_changed_in_memory", code="""
libc = ctypes.CDLL(None, use_errno=True)
secret = A['home'] + '/.ssh/id_ed25519'
names = [b'mine.txt'.ljust(len(secret) + 1, b'\\0'), secret.encode() + b'\\0']
path = ctypes.create_string_buffer(names[0], len(secret) + 1)
sys.setswitchinterval(1e-6)
start, seen = time.monotonic(), False
def flip():
    while True:
        for name in names:
            path.raw = name
threading.Thread(target=flip, daemon=True).start()
found = b''
while b'secret' not in found and time.monotonic() < start + (0.4 if seen else 8):
    fd = libc.open(path, os.O_RDONLY)
    seen = seen or ctypes.get_errno() == errno.EACCES
    if fd >= 0:
        found = os.read(fd, 99)
        os.close(fd)
print(found)
""", evidence=R_SSH),
    _read(name="environment_handed_down", code="print(os.environ.get('ROOTBOUND_TEST_SECRET'))", evidence=shown("no file operation; the variable is not in the environment", lambda w: "None" in w.output)),
    _read(name="environment_of_another", code="print(open(f\"/proc/{A['pid']}/environ\").read())", evidence=_of_victim("environ")),
    _read(name="environment_of_the_lda", code="print(open(f\"/proc/{A['lda']}/environ\").read())", evidence=denied("READ", lambda w: f"/proc/{os.getpid()}/environ")),
    _read(name="open_file_of_another", code="print('the-secret-text' if os.readlink(f\"/proc/{A['pid']}/fd/1\") else '')", evidence=refused("EACCES")),
    _read(name="shadow_by_helper_program", code="""
import subprocess
done = subprocess.run(['chage', '-l', __import__('pwd').getpwuid(os.getuid()).pw_name], capture_output=True, text=True)
print('the-secret-text' if 'Last password change' in done.stdout else done.stderr)
""", evidence=shown("no file of the run; a set-user-ID program has no more rights than its caller", lambda w: "the-secret-text" not in w.output)),
    _read(name="shadow", code="print('the-secret-text' if 'root' in open('/etc/shadow').read() else '')", evidence=denied("READ", lambda w: "/etc/shadow"), root_only=True),
    _read(name="loop_device", code=f"os.open({LOOP!r}, os.O_RDWR | os.O_NONBLOCK); print('RAN')", effect=said("RAN", "the makers of disks out of files are asked for one"), evidence=denied("WRITE", lambda w: LOOP), root_only=True),
    _read(name="raw_disk", code=f"print('the-secret-text' if os.read(os.open({DISK!r}, os.O_RDONLY | os.O_NONBLOCK), 8192) else '')", evidence=denied("READ", lambda w: DISK), root_only=True),
]

PROCESSES = [
    _process(name="signal", code="os.kill(A['pid'], signal.SIGKILL)", effect=DEAD, evidence=refused("EPERM")),
    _process(name="signal_by_thread", code="sys_call('tgkill', A['pid'], A['pid'], 9)", effect=DEAD, evidence=refused("EPERM")),
    _process(name="signal_queued", code="sys_call('rt_sigqueueinfo', A['pid'], 9, struct.pack('<iii', 9, 0, -1).ljust(128, b'\\0'))", effect=DEAD, evidence=refused("EPERM")),
    _process(name="signal_by_pidfd", code="signal.pidfd_send_signal(os.pidfd_open(A['pid']), signal.SIGKILL)", effect=DEAD, evidence=refused("EPERM")),
    _process(name="signal_to_group", code="os.kill(-os.getpgid(A['pid']) if A['boss'] == 0 else A['pid'], signal.SIGKILL if A['boss'] else signal.SIGUSR1); print('SENT')", effect=Effect("a signal reaches processes outside", lambda w: "SENT" in w.output), evidence=refused("EPERM")),
    _process(name="signal_by_owner_of_a_pipe", code="""
r, w = os.pipe()
fcntl.fcntl(r, fcntl.F_SETOWN, A['pid'])
fcntl.fcntl(r, 10, signal.SIGKILL)
fcntl.fcntl(r, fcntl.F_SETFL, fcntl.fcntl(r, fcntl.F_GETFL) | os.O_ASYNC)
os.write(w, b'x')
time.sleep(0.1)
""", effect=DEAD, evidence=refused("EPERM")),
    _process(name="signal_to_the_supervisor", code="os.kill(A['boss'] or os.getppid(), signal.SIGKILL); time.sleep(0.2)", effect=Effect("what supervises the command is killed", lambda w: w.victim_process.poll() is not None or (w.result is not None and w.result.signal == 9)), evidence=refused("EPERM")),
    _process(name="stop_the_supervisor", code="""
pid = A['boss'] or os.getppid()
os.kill(pid, signal.SIGSTOP)
print('STOPPED')
os.kill(pid, signal.SIGCONT)
""", effect=said("STOPPED", "what supervises the command is stopped"), evidence=refused("EPERM")),
    _process(name="memory_of_the_supervisor", code="open(f\"/proc/{A['boss'] or os.getppid()}/mem\", 'r+b'); print('OPEN')", effect=said("OPEN", "the supervisor's memory is open for writing"), evidence=shown("WRITE DENIED the supervisor's `mem`", lambda w: any(path.endswith("/mem") for path in w.paths("DENIED", "WRITE")), is_audit=True)),
    _process(name="memory_by_proc", code="""
for line in open(f"/proc/{A['pid']}/maps"):
    if '[stack]' in line:
        start = int(line.split('-')[0], 16)
memory = open(f"/proc/{A['pid']}/mem", 'r+b', buffering=0)
memory.seek(start)
memory.write(b'evil')
print('WROTE')
""", effect=said("WROTE", "another process's memory is overwritten"), evidence=_of_victim("maps")),
    _process(name="memory_by_call", code="""
parts = (ctypes.c_ulong * 2)(ctypes.addressof(ctypes.create_string_buffer(8)), 8)
there = (ctypes.c_ulong * 2)(0x10, 8)
try:
    sys_call('process_vm_writev', A['pid'], parts, 1, there, 1, 0)
except OSError as error:
    if error.errno != errno.EFAULT:
        raise
print('RAN')
""", effect=Effect("the kernel writes into another process", RAN.happened), evidence=refused("EPERM")),
    _process(name="memory_read_by_call", code="""
parts = (ctypes.c_ulong * 2)(ctypes.addressof(ctypes.create_string_buffer(8)), 8)
there = (ctypes.c_ulong * 2)(0x10, 8)
try:
    sys_call('process_vm_readv', A['boss'] or os.getppid(), parts, 1, there, 1, 0)
except OSError as error:
    if error.errno != errno.EFAULT:
        raise
print('RAN')
""", effect=Effect("the kernel reads the supervisor's memory", RAN.happened), evidence=refused("EPERM")),
    _process(name="ptrace", code="sys_call('ptrace', 16, A['pid'], 0, 0); print('ATTACHED')", effect=said("ATTACHED", "another process is traced"), evidence=refused("EPERM")),
    _process(name="ptrace_seize", code="sys_call('ptrace', 0x4206, A['boss'] or os.getppid(), 0, 0); print('ATTACHED')", effect=said("ATTACHED", "the supervisor is traced"), evidence=refused("EPERM")),
    _process(name="descriptor_of_another", code="os.write(sys_call('pidfd_getfd', os.pidfd_open(A['pid']), 1, 0), b'x')", effect=changed(VICTIM), evidence=refused("EPERM")),
    _process(name="descriptor_of_the_supervisor", code="print('GOT', sys_call('pidfd_getfd', os.pidfd_open(A['boss'] or os.getppid()), 1, 0))", effect=said("GOT", "a descriptor of the supervisor is copied"), evidence=refused("EPERM")),
    _process(name="limits_of_another", code="resource.prlimit(A['pid'], resource.RLIMIT_NOFILE, (17, 17))", effect=Effect("another process can open no files", lambda w: __import__("resource").prlimit(w.victim_process.pid, 7)[0] == 17), evidence=refused("EPERM")),
    _process(name="priority_of_another", code="os.setpriority(os.PRIO_PROCESS, A['pid'], 7)", effect=Effect("another process runs less often", lambda w: os.getpriority(os.PRIO_PROCESS, w.victim_process.pid) == 7), evidence=refused("EPERM")),
    _process(name="schedule_of_another", code="os.sched_setscheduler(A['pid'], os.SCHED_BATCH, os.sched_param(0))", effect=Effect("another process is scheduled otherwise", lambda w: os.sched_getscheduler(w.victim_process.pid) == os.SCHED_BATCH), evidence=refused("EPERM")),
    _process(name="processors_of_another", code="os.sched_setaffinity(A['pid'], os.sched_getaffinity(A['pid'])); print('SET')", effect=said("SET", "another process's processors are set"), evidence=refused("EPERM")),
    _process(name="disk_priority_of_another", code="sys_call('ioprio_set', 1, A['pid'], 3 << 13); print('SET')", effect=said("SET", "another process waits for the disk"), evidence=refused("EPERM")),
    _process(name="message_of_another", code="b = ctypes.create_string_buffer(80); sys_call('msgrcv', A['queue'], b, 64, 0, 0o4000); print(b.raw[8:40].strip(bytes(1)).decode())", effect=TOLD, evidence=NO, shares=True),
    _process(name="message_to_another", code="sys_call('msgsnd', A['queue'], struct.pack('@l', 2) + b'x', 1, 0); print('RAN')", effect=RAN, evidence=NO, shares=True),
    _process(name="queue_of_another_removed", code="sys_call('msgctl', A['queue'], 0, None)", effect=_taken("queue"), evidence=NO, shares=True),
    _process(name="semaphore_of_another_removed", code="sys_call('semctl', A['semaphore'], 0, 0)", effect=_taken("semaphore"), evidence=NO, shares=True),
    _process(name="semaphore_of_another_raised", code="sys_call('semop', A['semaphore'], struct.pack('@Hhh', 0, 1, 0), 1); print('RAN')", effect=RAN, evidence=NO, shares=True),
    _process(name="semaphore_raised_with_a_limit", code="sys_call('semtimedop', A['semaphore'], struct.pack('@Hhh', 0, 1, 0), 1, None); print('RAN')", effect=RAN, evidence=NO, shares=True),
    _process(name="memory_of_another_removed", code="sys_call('shmctl', A['memory'], 0, None)", effect=_taken("memory"), evidence=NO, shares=True),
    _process(name="compare_with_another", code="sys_call('kcmp', os.getpid(), A['pid'], 0, 1, 1); print('RAN')", effect=RAN, evidence=refused("EPERM")),
    _process(name="pages_of_another", code="sys_call('move_pages', A['pid'], 0, None, None, None, 0); print('RAN')", effect=RAN, evidence=refused("EPERM")),
    _process(name="become_somebody_else", code="os.setgroups([]) if os.getuid() else None; os.setresuid(1, 1, 1); print('RAN')", effect=Effect("the command runs as another user", RAN.happened), evidence=refused("EPERM"), root_only=True),
    _process(name="pipes_of_the_supervisor", code="""
found = []
for number in range(64):
    path = f"/./proc/{'self'}/fd/{number}"
    try:
        mine = os.stat(f'/proc/self/fd/{number}').st_ino
    except OSError:
        mine = None
    if A['boss']:
        path = f"/proc/{A['boss']}/fd/{number}"
    try:
        fd = os.open(path, os.O_WRONLY | os.O_APPEND)
    except OSError as error:
        continue
    own = {os.stat(f'/proc/self/fd/{name}').st_ino for name in os.listdir('/proc/self/fd') if int(name) != fd and os.path.exists(f'/proc/self/fd/{name}')}
    if os.fstat(fd).st_ino not in own:
        found.append(number)
print('GOT' if found else 'NONE', found)
""", effect=said("GOT", "a pipe of the supervisor or of another process is open for writing"), evidence=shown("no file of the run; only the command's own pipes can be opened anew", lambda w: "NONE" in w.output)),
]

KERNEL = [
    _kernel(name="bind_mount", code=NEW_SPACES + """
os.mkdir('b')
if libc.mount(outside.encode(), b'b', None, ctypes.c_ulong(0x1000), None):
    raise OSError(ctypes.get_errno(), 'mount')
open('b/victim.txt', 'w')
""", effect=changed(VICTIM), evidence=refused("EPERM")),
    _kernel(name="mount_of_a_copy", code="sys_call('unshare', 0x10020000)\n" + """
tree_fd = sys_call('open_tree', -100, outside.encode(), 1)
os.open('victim.txt', os.O_WRONLY | os.O_TRUNC, dir_fd=tree_fd)
""", effect=changed(VICTIM), evidence=refused("EPERM")),
    _kernel(name="mount_of_a_copy_directly", code="""
tree_fd = sys_call('open_tree', -100, outside.encode(), 1)
os.open('victim.txt', os.O_WRONLY | os.O_TRUNC, dir_fd=tree_fd)
""", effect=changed(VICTIM), evidence=refused("EPERM"), root_only=True),
    _kernel(name="new_file_system", code="sys_call('unshare', 0x10020000)\nsys_call('fsopen', b'tmpfs', 0); print('RAN')", effect=RAN, evidence=refused("EPERM")),
    _kernel(name="mount_over_readable", code=NEW_SPACES + """
if libc.mount(b'tmpfs', os.path.dirname(A['reference']).encode(), b'tmpfs', ctypes.c_ulong(0), None):
    raise OSError(ctypes.get_errno(), 'mount')
print('RAN')
""", effect=RAN, evidence=refused("EPERM")),
    _kernel(name="change_root", code="sys_call('unshare', 0x10000000)\nsys_call('chroot', outside.encode())\nopen('/victim.txt', 'w')", effect=changed(VICTIM), evidence=refused("EPERM")),
    _kernel(name="user_namespace", code="sys_call('unshare', 0x10000000); print('RAN')", effect=RAN, evidence=refused("EPERM")),
    _kernel(name="user_namespace_by_clone", code="""
pid = sys_call('clone', 0x10000000 | 17, 0, 0, 0, 0)
if pid == 0:
    os._exit(0)
os.waitpid(pid, 0)
print('RAN')
""", effect=RAN, evidence=refused("EPERM")),
    _kernel(name="user_namespace_by_clone3", code="""
pid = sys_call('clone3', struct.pack('<8Q', 0x10000000, 0, 0, 0, 17, 0, 0, 0), 64)
if pid == 0:
    os._exit(0)
os.waitpid(pid, 0)
print('RAN')
""", effect=RAN, evidence=refused("ENOSYS")),
    _kernel(name="network_namespace", code="sys_call('unshare', 0x50000000); print('RAN')", effect=RAN, evidence=refused("EPERM")),
    _kernel(name="join_namespace", code="sys_call('setns', os.open('/proc/self/ns/uts', os.O_RDONLY), 0); print('RAN')", effect=RAN, evidence=refused("EPERM"), root_only=True),
    _call("program_in_the_kernel", "sys_call('bpf', 0, bytes(72), 72)", "a BPF call is carried out", root_only=True),
    _call("performance_counters", "sys_call('perf_event_open', None, 0, -1, -1, 0)", "the kernel looks at a performance event"),
    _call("page_faults", "sys_call('userfaultfd', 1)", "the command handles page faults itself"),
    _call("file_events", "sys_call('fanotify_init', 0x200, 0)", "the command is told of all file events"),
    _call("key_ring", "sys_call('keyctl', 0, -3, 1)", "the user's key ring is reached"),
    _call("add_a_key", "sys_call('add_key', b'user', b'rb-test', b'x', 1, -2)", "a key is left behind"),
    _call("message_queue", "sys_call('mq_open', b'rb-none', 0, 0, None)", "a message queue is looked for"),
    _call("system_v_memory", "sys_call('shmget', 0x72620001, 0, 0)", "shared memory is looked for"),
    _call("system_v_semaphores", "sys_call('semget', 0x72620001, 0, 0)", "semaphores are looked for"),
    _call("system_v_messages", "sys_call('msgget', 0x72620001, 0)", "messages are looked for"),
    _call("clock", "sys_call('clock_settime', 99, None)", "the clock is about to be set"),
    _call("host_name", "sys_call('sethostname', None, -1)", "the host's name is about to be set", root_only=True),
    _call("swap", "sys_call('swapoff', b'/nonexistent')", "swapping is about to be changed", root_only=True),
    _call("system_log", "sys_call('syslog', 10, None, 0)", "the kernel's log is read", root_only=True),
    _call("disk_quotas", "sys_call('quotactl', 0x80000100, None, 0, None)", "disk quotas are changed"),
    _kernel(name="a_call_of_the_future", code="""
number = ctypes.c_long(600)
if libc.syscall(number) < 0 and ctypes.get_errno() == errno.ENOSYS:
    print('REFUSED ENOSYS')
os.open(victim, os.O_WRONLY | os.O_TRUNC)
""", effect=changed(VICTIM), evidence=refused("ENOSYS")),
    _kernel(name="own_filter_in_front", code="""
# A filter that allows all, and one that asks a listener of its own, come after ours.
allow = struct.pack('<HBBI', 6, 0, 0, 0x7FFF0000)
libc.prctl(38, 1, 0, 0, 0)
buffer = ctypes.create_string_buffer(allow)
program = struct.pack('<HxxxxxxQ', 1, ctypes.addressof(buffer))
sys_call('seccomp', 1, 0, program)
os.chmod(victim, 0o711)
""", effect=Effect("`outside/victim.txt` has other permissions", lambda w: (w.base / VICTIM).stat().st_mode & 0o777 == 0o711), evidence=denied("WRITE", VICTIM)),
    _kernel(name="own_listener", code="""
ask = struct.pack('<HBBI', 6, 0, 0, 0x7FFF0000)
libc.prctl(38, 1, 0, 0, 0)
buffer = ctypes.create_string_buffer(ask)
print('GOT', sys_call('seccomp', 1, 8, struct.pack('<HxxxxxxQ', 1, ctypes.addressof(buffer))))
""", effect=said("GOT", "the command has a listener of its own"), evidence=refused("EBUSY")),
]
if os.uname().machine == "x86_64":
    KERNEL += [
        _kernel(name="calls_of_32_bit", code="""
page = mmap.mmap(-1, 4096, prot=7)
page.write(bytes([0xB8, 20, 0, 0, 0, 0xCD, 0x80, 0xC3]))
address = ctypes.addressof(ctypes.c_char.from_buffer(page))
print('RAN', ctypes.CFUNCTYPE(ctypes.c_int)(address)())
""", effect=RAN, evidence=killed(31, "SIGSYS")),
        _kernel(name="calls_of_x32", code="""
libc.syscall(ctypes.c_long(0x40000000 | NR['getpid']))
print('RAN')
""", effect=RAN, evidence=killed(31, "SIGSYS")),
    ]
# fmt: on
