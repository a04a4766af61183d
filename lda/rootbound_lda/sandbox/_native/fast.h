/* The hot loop of a supervisor: the commonest file calls, answered without Python.
 *
 * It decides exactly as the brokers in Python do, which are the reference. Whatever is not plain
 * (other calls, paths through /proc or /dev, refusals, special files) is left to them untouched:
 * a handler returns LEFT before it has changed or recorded anything.
 *
 * All memory is static and bounded; what the child hands in is copied once and then checked.
 */
#ifndef ROOTBOUND_FAST_H
#define ROOTBOUND_FAST_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/seccomp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

#define PATH_BYTES 4096
/* "/proc/<tid>/fd/<n>/" before a path, or "/" and a name of at most 255 bytes after one. */
#define FULL_BYTES (PATH_BYTES + 320)
/* More than any record takes. */
#define RECORD_BYTES (48 + PATH_BYTES + 2 * FULL_BYTES)

enum operation { OP_READ = 0, OP_WRITE = 1, OP_DELETE = 2, OP_SKIP = 255 };
enum outcome { DONE, LEFT };

struct call {
    uint64_t id;
    pid_t tid;
    int nr;
    uint64_t args[6];
};

/* ring.c: records for the LDA, in memory shared with it */
bool ring_open(int fd);
bool ring_has_room(void);
void ring_put(const struct call *call, enum operation op, bool exact, const char *path,
              const char *path2);
void ring_fold(const struct call *call, const char *path);
void ring_flush_folds(bool all);
bool ring_folds_pending(void);
uint64_t ring_head(void);

/* caller.c: what is known of the calling thread */
struct caller {
    pid_t tgid;
    uint16_t program_length;
    char program[PATH_BYTES];
};
/* What a call that the kernel runs by itself can change. */
enum change { CHANGES_MASK, CHANGES_FOLDER, CHANGES_PROGRAM, CHANGES };
const struct caller *caller_of(pid_t tid);
mode_t caller_mask(pid_t tid);
int caller_folder(pid_t tid, bool *kept);
int caller_fd(pid_t tid, int number);
void callers_forget(void);
void caller_changes(pid_t tid, enum change change);
void caller_seen(pid_t tid);
ssize_t caller_read(pid_t tid, uint64_t address, void *target, size_t length);
int caller_string(pid_t tid, uint64_t address, char *target);

/* bounds.c: the policy */
bool bounds_add_root(const char *path, size_t length, bool guarded, int pin);
bool bounds_add_protected(const char *path, size_t length);
bool bounds_add_folded(const char *path, size_t length);
void bounds_clear(void);
int root_of(const char *real);
bool stands(int root);
bool inside_root(const char *real);
bool is_folded(const char *real);
bool holds_protected(const char *real);

/* calls.c: the calls themselves */
struct settings {
    int listener;
    int own_fds;           /* /proc/self/fd: a name in it is found faster than by a whole path */
    bool wakes_here;       /* whether answers wake callers on this processor, from 6.6 on */
    bool leave_reads;      /* reads of the user's files are carried out, by the brokers */
    bool fold;             /* reads of the system's files are counted, not listed */
};
extern struct settings settings;
void answer(const struct call *call, int64_t value, int error);
void let_run(const struct call *call);
enum outcome handle(const struct call *call);
bool real_path(int fd, char *target);

uint64_t now_ns(int clock);

#endif
