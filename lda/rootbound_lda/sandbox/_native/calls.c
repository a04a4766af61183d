/* The calls: opens, names and attributes of plain files beneath the roots. */
#include "fast.h"

#include <linux/openat2.h>
#include <sched.h>
#include <time.h>

#ifndef AT_EMPTY_PATH
#define AT_EMPTY_PATH 0x1000
#endif
#define NO_FD (-1)
#define O_TMPFILE_BIT 020000000

struct settings settings;

/* One path of a call: where it starts, and what its folder and it itself really are. */
struct place {
    int base;              /* the folder that a relative path starts from */
    bool kept;             /* whether it stays open after the call */
    int parent;            /* the folder that the last component is in */
    char *last;
    int root;
    char text[PATH_BYTES]; /* as the caller has it */
    char real[FULL_BYTES];
};

static struct place first = {.base = AT_FDCWD, .parent = NO_FD};
static struct place second = {.base = AT_FDCWD, .parent = NO_FD};

void answer(const struct call *call, int64_t value, int error)
{
    struct seccomp_notif_resp response = {.id = call->id, .val = value, .error = -error};
    /* A caller that was killed meanwhile needs no answer. */
    (void)ioctl(settings.listener, SECCOMP_IOCTL_NOTIF_SEND, &response);
}

void let_run(const struct call *call)
{
    struct seccomp_notif_resp response = {
        .id = call->id, .flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE};
    (void)ioctl(settings.listener, SECCOMP_IOCTL_NOTIF_SEND, &response);
}

static bool still_waits(const struct call *call)
{
    uint64_t id = call->id;
    return !ioctl(settings.listener, SECCOMP_IOCTL_NOTIF_ID_VALID, &id);
}

static enum outcome fail(const struct call *call, int error)
{
    answer(call, 0, error);
    return DONE;
}

/* The kernel's refusals are recorded, which the brokers do: they try once more and see the same. */
static enum outcome failed(const struct call *call, int error)
{
    if (error == EACCES || error == EPERM || error == EROFS)
        return LEFT;
    return fail(call, error);
}

/* Handing over a descriptor wakes the caller as the scheduler likes: on an idle processor that
 * costs several times the rest of the call. After such a hand-over the next ones keep the caller
 * here. It gets its processors back before it leaves the kernel, so no program sees the change. */
#define SLOW_NS 10000u
#define KEPT_HERE 16
static unsigned keep_here;

static int add_fd(const struct call *call, int fd, int flags, uint32_t how)
{
    struct seccomp_notif_addfd add = {
        .id = call->id, .flags = how, .srcfd = (uint32_t)fd,
        .newfd_flags = (uint32_t)(flags & O_CLOEXEC)};
    return ioctl(settings.listener, SECCOMP_IOCTL_NOTIF_ADDFD, &add);
}

static bool give_here(const struct call *call, int fd, int flags)
{
    cpu_set_t own, here;
    int cpu = sched_getcpu();
    CPU_ZERO(&here);
    if (cpu < 0 || cpu >= CPU_SETSIZE || sched_getaffinity(call->tid, sizeof own, &own) ||
        !CPU_ISSET(cpu, &own))
        return false;
    CPU_SET(cpu, &here);
    if (sched_setaffinity(call->tid, sizeof here, &here))
        return false;
    int number = add_fd(call, fd, flags, 0), error = errno;
    (void)sched_setaffinity(call->tid, sizeof own, &own);
    if (number >= 0)
        answer(call, number, 0);
    else if (error != ENOENT)
        answer(call, 0, error);
    return true;
}

static void give(const struct call *call, int fd, int flags)
{
    if (!keep_here || !give_here(call, fd, flags)) {
        uint64_t start = now_ns(CLOCK_MONOTONIC);
        if (add_fd(call, fd, flags, SECCOMP_ADDFD_FLAG_SEND) < 0 && errno != ENOENT)
            answer(call, 0, errno);
        if (settings.wakes_here && now_ns(CLOCK_MONOTONIC) - start > SLOW_NS)
            keep_here = KEPT_HERE;
    } else {
        keep_here--;
    }
    close(fd);
}

bool real_path(int fd, char *target)
{
    char name[16];
    snprintf(name, sizeof name, "%d", fd);
    ssize_t length = readlinkat(settings.own_fds, name, target, PATH_BYTES);
    if (length <= 0 || length >= PATH_BYTES)
        return false;
    target[length] = 0;
    return target[0] == '/' && strncmp(target, "/memfd:", 7) != 0;
}

static void let_go(struct place *place)
{
    if (place->parent != NO_FD && place->parent != place->base)
        close(place->parent);
    place->parent = NO_FD;
    if (place->base != AT_FDCWD && !place->kept)
        close(place->base);
    place->base = AT_FDCWD;
    place->kept = false;
}

/* Take the caller's path, and the folder that it starts from; false for what is not plain. */
static bool take_path(const struct call *call, int dir, uint64_t address, struct place *place)
{
    if (caller_string(call->tid, address, place->text) <= 0)
        return false;
    const char *text = place->text;
    if (text[0] == '/')
        /* There these names mean the caller's own process; and twice a slash hides the name. */
        return strncmp(text, "/proc/", 6) && strncmp(text, "/dev/", 5) && text[1] != '/';
    int base = dir == AT_FDCWD ? caller_folder(call->tid, &place->kept)
                               : caller_fd(call->tid, dir);
    if (base < 0)
        return false;
    place->base = base;
    return true;
}

/* Open beneath the start, but never through a link of /proc: it would lead to our own things. */
static int open_from(int base, const char *path, int flags)
{
    struct open_how how = {.flags = (uint64_t)(flags | O_CLOEXEC),
                           .resolve = RESOLVE_NO_MAGICLINKS};
    return (int)syscall(SYS_openat2, base, path, &how, sizeof how);
}

/* Pin the folder of the path, and find out what the path really is; false leaves the call. */
static bool pin_folder(const struct call *call, struct place *place)
{
    char *slash = strrchr(place->text, '/');
    place->last = slash ? slash + 1 : place->text;
    if (!place->last[0] || !strcmp(place->last, ".") || !strcmp(place->last, ".."))
        return false;
    if (slash) {
        char kept = slash[1];
        slash[1] = 0;
        place->parent = open_from(place->base, place->text, O_PATH | O_DIRECTORY);
        slash[1] = kept;
        if (place->parent < 0) {
            place->parent = NO_FD;
            return false;
        }
    } else {
        place->parent = place->base;
    }
    if (!still_waits(call) || !real_path(place->parent, place->real))
        return false;
    size_t length = strlen(place->real), last = strlen(place->last);
    if (length + last + 2 > FULL_BYTES)
        return false;
    if (place->real[length - 1] != '/')
        place->real[length++] = '/';
    memcpy(place->real + length, place->last, last + 1);
    place->root = root_of(place->real);
    return true;
}

/* Both of it, beneath a root. */
static bool pin_parent(const struct call *call, int dir, uint64_t address, struct place *place)
{
    return take_path(call, dir, address, place) && pin_folder(call, place) && place->root >= 0;
}

static mode_t unmasked(const struct call *call, uint64_t mode)
{
    return (mode_t)mode & ~caller_mask(call->tid);
}

/* -- opening ---------------------------------------------------------------------------------- */

static enum outcome open_to_read(const struct call *call, int dir, uint64_t address, int flags)
{
    if (!take_path(call, dir, address, &first))
        return LEFT;
    int fd = open_from(first.base, first.text, O_PATH | (flags & O_NOFOLLOW));
    if (fd < 0) {
        if (errno != ENOENT && errno != ENOTDIR)
            return LEFT;
        let_run(call);
        return DONE;
    }
    bool plain = still_waits(call) && real_path(fd, first.real);
    /* Which file it is was settled above; the mode is all that is asked here. */
    bool readable = plain && !syscall(SYS_faccessat2, fd, "", R_OK, AT_EMPTY_PATH);
    close(fd);
    if (!readable || !strncmp(first.real, "/proc/", 6))
        return LEFT;
    bool inside = inside_root(first.real);
    if (settings.leave_reads || (!inside && !is_folded(first.real)))
        return LEFT;
    if (!inside && settings.fold)
        ring_fold(call, first.real);
    else
        ring_put(call, OP_READ, false, first.real, NULL);
    let_run(call);
    return DONE;
}

/* Open what is pinned for writing; closes it. */
static enum outcome reopen(const struct call *call, int pinned, int flags)
{
    struct stat facts;
    int fd = NO_FD, error = EACCES;
    if (!fstat(pinned, &facts) && S_ISREG(facts.st_mode) && still_waits(call) &&
        real_path(pinned, first.real) && root_of(first.real) >= 0) {
        char name[16];
        snprintf(name, sizeof name, "%d", pinned);
        fd = openat(settings.own_fds, name,
                    (flags & ~(O_CREAT | O_EXCL | O_NOFOLLOW)) | O_CLOEXEC | O_NOCTTY);
        error = errno;
    }
    close(pinned);
    if (fd < 0)
        return failed(call, error);
    ring_put(call, OP_WRITE, true, first.real, NULL);
    give(call, fd, flags);
    return DONE;
}

static enum outcome open_to_write(const struct call *call, int dir, uint64_t address, int flags,
                                  uint64_t mode)
{
    if ((flags & O_TMPFILE_BIT) || !take_path(call, dir, address, &first))
        return LEFT;
    bool exclusive = (flags & O_CREAT) && (flags & O_EXCL);
    if (!exclusive) {
        int pinned = open_from(first.base, first.text, O_PATH | (flags & O_NOFOLLOW));
        if (pinned >= 0)
            return reopen(call, pinned, flags);
        if (errno != ENOENT || !(flags & O_CREAT))
            return LEFT;
    }
    if (!pin_folder(call, &first) || first.root < 0)
        return LEFT;
    /* A run has no use for programs that lend their owner's rights: 01777. */
    int fd = openat(first.parent, first.last, flags | O_EXCL | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY,
                    unmasked(call, mode & 01777));
    if (fd < 0)
        return errno == EEXIST && !exclusive ? LEFT : failed(call, errno);
    ring_put(call, OP_WRITE, true, first.real, NULL);
    give(call, fd, flags);
    return DONE;
}

static enum outcome open_call(const struct call *call, int dir, uint64_t address, uint64_t raw,
                              uint64_t mode)
{
    int flags = (int)(uint32_t)raw;
    if (flags & O_PATH)
        return LEFT;
    if (flags & (O_CREAT | O_TRUNC | O_ACCMODE | O_TMPFILE_BIT))
        return open_to_write(call, dir, address, flags, mode);
    return open_to_read(call, dir, address, flags);
}

/* -- names ------------------------------------------------------------------------------------ */

static enum outcome change_done(const struct call *call, int result, enum operation op,
                                const char *path, const char *path2)
{
    if (result)
        return failed(call, errno);
    ring_put(call, op, true, path, path2);
    answer(call, 0, 0);
    return DONE;
}

static enum outcome remove_call(const struct call *call, int dir, uint64_t address, bool folder)
{
    if (!pin_parent(call, dir, address, &first))
        return LEFT;
    return change_done(call, unlinkat(first.parent, first.last, folder ? AT_REMOVEDIR : 0),
                       OP_DELETE, first.real, NULL);
}

static enum outcome mkdir_call(const struct call *call, int dir, uint64_t address, uint64_t mode)
{
    if (!pin_parent(call, dir, address, &first))
        return LEFT;
    return change_done(call, mkdirat(first.parent, first.last, unmasked(call, mode & 01777)),
                       OP_WRITE, first.real, NULL);
}

static enum outcome rename_call(const struct call *call, int old_dir, uint64_t old_address,
                                int new_dir, uint64_t new_address, uint64_t raw)
{
    unsigned flags = (unsigned)raw;
    if ((flags & ~1u) /* RENAME_NOREPLACE */ || !pin_parent(call, old_dir, old_address, &first) ||
        !pin_parent(call, new_dir, new_address, &second) || first.root != second.root ||
        holds_protected(first.real))
        return LEFT;
    if (syscall(SYS_renameat2, first.parent, first.last, second.parent, second.last, flags))
        return failed(call, errno);
    ring_put(call, OP_DELETE, true, first.real, second.real);
    ring_put(call, OP_WRITE, true, second.real, first.real);
    answer(call, 0, 0);
    return DONE;
}

static enum outcome link_call(const struct call *call, int old_dir, uint64_t old_address,
                              int new_dir, uint64_t new_address)
{
    if (!take_path(call, old_dir, old_address, &first))
        return LEFT;
    int source = open_from(first.base, first.text, O_PATH | O_NOFOLLOW);
    if (source < 0)
        return LEFT;
    enum outcome outcome = LEFT;
    if (still_waits(call) && real_path(source, first.real) && root_of(first.real) >= 0 &&
        pin_parent(call, new_dir, new_address, &second)) {
        char name[32];
        snprintf(name, sizeof name, "/proc/self/fd/%d", source);
        outcome = change_done(
            call, linkat(AT_FDCWD, name, second.parent, second.last, AT_SYMLINK_FOLLOW), OP_WRITE,
            second.real, first.real);
    }
    close(source);
    return outcome;
}

static enum outcome symlink_call(const struct call *call, uint64_t target, int dir,
                                 uint64_t address)
{
    if (caller_string(call->tid, target, second.text) <= 0 ||
        !pin_parent(call, dir, address, &first))
        return LEFT;
    return change_done(call, symlinkat(second.text, first.parent, first.last), OP_WRITE,
                       first.real, second.text);
}

/* -- attributes ------------------------------------------------------------------------------- */

/* Pin what a path or, without one, a descriptor stands for; NO_FD if it is not plain. */
static int pin_target(const struct call *call, int dir, uint64_t address, bool nofollow)
{
    int fd;
    if (address) {
        if (!take_path(call, dir, address, &first))
            return NO_FD;
        fd = open_from(first.base, first.text, O_PATH | (nofollow ? O_NOFOLLOW : 0));
    } else {
        fd = caller_fd(call->tid, dir);
    }
    struct stat facts;
    if (fd >= 0 && still_waits(call) && real_path(fd, first.real) && stands(root_of(first.real)) &&
        !fstat(fd, &facts) && (S_ISREG(facts.st_mode) || S_ISDIR(facts.st_mode)))
        return fd;
    if (fd >= 0)
        close(fd);
    return NO_FD;
}

static enum outcome chmod_call(const struct call *call, int dir, uint64_t address, uint64_t mode)
{
    /* Whoever makes a program that lends its owner's rights is refused, by the brokers. */
    int fd = mode & 06000 ? NO_FD : pin_target(call, dir, address, false);
    if (fd == NO_FD)
        return LEFT;
    char name[16];
    snprintf(name, sizeof name, "%d", fd);
    enum outcome outcome =
        change_done(call, fchmodat(settings.own_fds, name, (mode_t)mode & 07777, 0), OP_WRITE,
                    first.real, NULL);
    close(fd);
    return outcome;
}

static enum outcome chown_call(const struct call *call, int dir, uint64_t address, uint64_t uid,
                               uint64_t gid, bool nofollow)
{
    int fd = pin_target(call, dir, address, nofollow);
    if (fd == NO_FD)
        return LEFT;
    enum outcome outcome =
        change_done(call, fchownat(fd, "", (uid_t)uid, (gid_t)gid, AT_EMPTY_PATH), OP_WRITE,
                    first.real, NULL);
    close(fd);
    return outcome;
}

static enum outcome times_call(const struct call *call, int dir, uint64_t address, uint64_t times,
                               bool nofollow)
{
    struct timespec both[2];
    if (times && caller_read(call->tid, times, both, sizeof both) != (ssize_t)sizeof both)
        return LEFT;
    int fd = pin_target(call, dir, address, nofollow);
    if (fd == NO_FD)
        return LEFT;
    char name[16];
    snprintf(name, sizeof name, "%d", fd);
    enum outcome outcome =
        change_done(call, utimensat(settings.own_fds, name, times ? both : NULL, 0), OP_WRITE,
                    first.real, NULL);
    close(fd);
    return outcome;
}

/* Whether flags of an *at call are among those that are handled here. */
static bool plain_flags(uint64_t flags)
{
    return !((uint32_t)flags & ~(uint32_t)AT_SYMLINK_NOFOLLOW);
}

static enum outcome dispatch(const struct call *call)
{
    const uint64_t *a = call->args;
    int dir = (int)(uint32_t)a[0];
    bool nofollow;
    switch (call->nr) {
    case SYS_openat:
        return open_call(call, dir, a[1], a[2], a[3]);
    case SYS_mkdirat:
        return mkdir_call(call, dir, a[1], a[2]);
    case SYS_unlinkat:
        return remove_call(call, dir, a[1], a[2] & AT_REMOVEDIR);
    case SYS_renameat:
        return rename_call(call, dir, a[1], (int)(uint32_t)a[2], a[3], 0);
    case SYS_renameat2:
        return rename_call(call, dir, a[1], (int)(uint32_t)a[2], a[3], a[4]);
    case SYS_linkat:
        return (uint32_t)a[4] ? LEFT : link_call(call, dir, a[1], (int)(uint32_t)a[2], a[3]);
    case SYS_symlinkat:
        return symlink_call(call, a[0], (int)(uint32_t)a[1], a[2]);
    case SYS_fchmod:
        return chmod_call(call, dir, 0, a[1]);
    case SYS_fchmodat:
        return a[1] ? chmod_call(call, dir, a[1], a[2]) : LEFT;
    case SYS_fchown:
        return chown_call(call, dir, 0, a[1], a[2], false);
    case SYS_fchownat:
        nofollow = a[4] & AT_SYMLINK_NOFOLLOW;
        return a[1] && plain_flags(a[4]) ? chown_call(call, dir, a[1], a[2], a[3], nofollow) : LEFT;
    case SYS_utimensat:
        nofollow = a[3] & AT_SYMLINK_NOFOLLOW;
        return plain_flags(a[3]) ? times_call(call, dir, a[1], a[2], nofollow) : LEFT;
    case SYS_umask:
        caller_changes(call->tid, CHANGES_MASK);
        let_run(call);
        return DONE;
    case SYS_chdir:
    case SYS_fchdir:
        caller_changes(call->tid, CHANGES_FOLDER);
        let_run(call);
        return DONE;
    case SYS_execve:
    case SYS_execveat:
        caller_changes(call->tid, CHANGES_PROGRAM);
        return LEFT;
#ifdef SYS_open
    case SYS_open:
        return open_call(call, AT_FDCWD, a[0], a[1], a[2]);
    case SYS_creat:
        return open_call(call, AT_FDCWD, a[0], O_CREAT | O_WRONLY | O_TRUNC, a[1]);
    case SYS_mkdir:
        return mkdir_call(call, AT_FDCWD, a[0], a[1]);
    case SYS_rmdir:
        return remove_call(call, AT_FDCWD, a[0], true);
    case SYS_unlink:
        return remove_call(call, AT_FDCWD, a[0], false);
    case SYS_rename:
        return rename_call(call, AT_FDCWD, a[0], AT_FDCWD, a[1], 0);
    case SYS_link:
        return link_call(call, AT_FDCWD, a[0], AT_FDCWD, a[1]);
    case SYS_symlink:
        return symlink_call(call, a[0], AT_FDCWD, a[1]);
    case SYS_chmod:
        return a[0] ? chmod_call(call, AT_FDCWD, a[0], a[1]) : LEFT;
    case SYS_chown:
        return a[0] ? chown_call(call, AT_FDCWD, a[0], a[1], a[2], false) : LEFT;
#endif
    default:
        return LEFT;
    }
}

enum outcome handle(const struct call *call)
{
    caller_seen(call->tid);
    enum outcome outcome = dispatch(call);
    let_go(&first);
    let_go(&second);
    return outcome;
}
