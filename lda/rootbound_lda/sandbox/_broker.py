"""The file calls of a confined process tree, carried out by the supervisor.

Every change is made here, on a pinned descriptor, after its real path was compared with the
writable roots; the caller gets the result, so the record is exact and no path is looked up twice.
Only the loop's thread changes names in the tree, so nothing it checked can move before it acts.

Opens for reading and execs are decided by the kernel (Landlock); the record of an allowed one is
predicted, unless reads are strict: then they are carried out here too. Reads of the system's own
files (interpreters, libraries, /etc, /proc) are counted, a row for each folder and second.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping

from rootbound_lda.sandbox import _sys
from rootbound_lda.sandbox._attributes import AttributeBroker
from rootbound_lda.sandbox._boundary import Boundary, RefusedError
from rootbound_lda.sandbox._names import NameBroker
from rootbound_lda.sandbox._notify import Call, Handler, Listener
from rootbound_lda.sandbox._opens import OpenBroker
from rootbound_lda.sandbox._records import Recorder


class FileBroker(OpenBroker, NameBroker, AttributeBroker):
    """Answers all file calls; the parameters are those of `PathBroker`.

    With `strict_reads`, reads of regular files and folders are carried out here too.
    """

    def __init__(
        self,
        listener: Listener,
        boundary: Boundary,
        recorder: Recorder,
        shm: str | None,
        *,
        strict_reads: bool = False,
    ) -> None:
        super().__init__(listener, boundary, recorder, shm)
        self._strict = strict_reads
        self.handlers: Mapping[str, Handler] = {
            "open": lambda c: self.open(c, _sys.AT_FDCWD, 0, c.int32(1), c.args[2]),
            "creat": lambda c: self.open(
                c, _sys.AT_FDCWD, 0, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, c.args[1]
            ),
            "openat": lambda c: self.open(c, c.int32(0), 1, c.int32(2), c.args[3]),
            "execve": lambda c: self.execute(c, _sys.AT_FDCWD, 0, 0),
            "execveat": lambda c: self.execute(c, c.int32(0), 1, c.int32(4)),
            "truncate": self.truncate,
            "ftruncate": self.truncate_open,
            "unlink": lambda c: self.remove(c, _sys.AT_FDCWD, 0, folder=False),
            "rmdir": lambda c: self.remove(c, _sys.AT_FDCWD, 0, folder=True),
            "unlinkat": lambda c: self.remove(
                c, c.int32(0), 1, folder=bool(c.args[2] & _sys.AT_REMOVEDIR)
            ),
            "rename": lambda c: self.rename(c, _sys.AT_FDCWD, 0, _sys.AT_FDCWD, 1, 0),
            "renameat": lambda c: self.rename(c, c.int32(0), 1, c.int32(2), 3, 0),
            "renameat2": lambda c: self.rename(
                c, c.int32(0), 1, c.int32(2), 3, c.args[4] & 0xFFFFFFFF
            ),
            "mkdir": lambda c: self.mkdir(c, _sys.AT_FDCWD, 0, c.args[1]),
            "mkdirat": lambda c: self.mkdir(c, c.int32(0), 1, c.args[2]),
            "mknod": lambda c: self.mknod(c, _sys.AT_FDCWD, 0, c.args[1]),
            "mknodat": lambda c: self.mknod(c, c.int32(0), 1, c.args[2]),
            "link": lambda c: self.link(c, _sys.AT_FDCWD, 0, _sys.AT_FDCWD, 1, 0),
            "linkat": lambda c: self.link(c, c.int32(0), 1, c.int32(2), 3, c.int32(4)),
            "symlink": lambda c: self.symlink(c, _sys.AT_FDCWD, 1),
            "symlinkat": lambda c: self.symlink(c, c.int32(1), 2),
            "chmod": lambda c: self.chmod(c, self._at(c, _sys.AT_FDCWD, 0, 0), c.args[1]),
            "fchmod": lambda c: self.chmod(c, self._of_fd(c), c.args[1]),
            "fchmodat": lambda c: self.chmod(c, self._at(c, c.int32(0), 1, 0), c.args[2]),
            "fchmodat2": lambda c: self.chmod(c, self._at(c, c.int32(0), 1, c.int32(3)), c.args[2]),
            "chown": lambda c: self.chown(c, self._at(c, _sys.AT_FDCWD, 0, 0), 1),
            "lchown": lambda c: self.chown(
                c, self._at(c, _sys.AT_FDCWD, 0, _sys.AT_SYMLINK_NOFOLLOW), 1
            ),
            "fchown": lambda c: self.chown(c, self._of_fd(c), 1),
            "fchownat": lambda c: self.chown(c, self._at(c, c.int32(0), 1, c.int32(4)), 2),
            "utime": lambda c: self.utime(
                c, lambda: self._at(c, _sys.AT_FDCWD, 0, 0), self.times(c, 1, "s")
            ),
            "utimes": lambda c: self.utime(
                c, lambda: self._at(c, _sys.AT_FDCWD, 0, 0), self.times(c, 1, "us")
            ),
            "futimesat": lambda c: self.utime(
                c, lambda: self._at(c, c.int32(0), 1, 0), self.times(c, 2, "us")
            ),
            "utimensat": lambda c: self.utime(
                c, lambda: self._at(c, c.int32(0), 1, c.int32(3)), self.times(c, 2, "ns")
            ),
            "setxattr": lambda c: self.set_xattr(c, self._at(c, _sys.AT_FDCWD, 0, 0)),
            "lsetxattr": lambda c: self.set_xattr(
                c, self._at(c, _sys.AT_FDCWD, 0, _sys.AT_SYMLINK_NOFOLLOW)
            ),
            "fsetxattr": lambda c: self.set_xattr(c, self._of_fd(c)),
            "removexattr": lambda c: self.remove_xattr(c, self._at(c, _sys.AT_FDCWD, 0, 0)),
            "lremovexattr": lambda c: self.remove_xattr(
                c, self._at(c, _sys.AT_FDCWD, 0, _sys.AT_SYMLINK_NOFOLLOW)
            ),
            "fremovexattr": lambda c: self.remove_xattr(c, self._of_fd(c)),
        }

    def handle(self, handler: Handler, call: Call) -> None:
        """Run one handler; a refusal is recorded and answered.

        Raises
        ------
        OSError
            For the caller: the operation itself failed.
        """
        self._asked = b""
        try:
            handler(call)
        except RefusedError as refused:
            self._record(call, refused.operation, "DENIED", refused.path, errno.EACCES)
            self._listener.answer(call, error=errno.EACCES)
        except OSError as error:
            self._note_refusal(call, error.errno or errno.EIO)
            raise
