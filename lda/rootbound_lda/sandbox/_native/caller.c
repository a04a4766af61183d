/* What is known of the calling thread: its process, program, umask, folder and memory. */
#include "fast.h"

#include <stdlib.h>
#include <sys/uio.h>
#include <time.h>

#define CALLERS 64
#define CHANGING 16
/* PIDFD_THREAD, from 6.9 on: descriptors belong to a thread, as it need not share them. */
#define PIDFD_OF_THREAD O_EXCL
/* A number can be taken by another thread once its owner died, but never this soon. */
#define FRESH_NS 50000000u

/* What is remembered of a thread, each part when it is first asked for. */
struct memory {
    struct caller caller; /* its program has a length once it is known */
    pid_t tid;
    uint64_t stamp;
    bool has_mask;
    mode_t mask;
    int folder; /* its current one, -1 if not known */
    int pidfd;  /* -1 if not known */
};

/* Threads that were allowed to change something and have not come back since: until they do,
 * nobody knows whether the change has happened, so nothing of that kind is remembered. */
struct changing {
    pid_t tids[CHANGING];
    unsigned count;
    bool always;
};

static struct memory memories[CALLERS];
static struct changing changing[CHANGES];

static void forget(struct memory *memory)
{
    if (memory->tid && memory->folder >= 0)
        close(memory->folder);
    if (memory->tid && memory->pidfd >= 0)
        close(memory->pidfd);
    memory->tid = 0;
}

/* Some thread is about to change what is remembered. */
void callers_forget(void)
{
    for (unsigned index = 0; index < CALLERS; index++)
        forget(&memories[index]);
}

static struct memory *memory_of(pid_t tid)
{
    struct memory *memory = &memories[(unsigned)tid % CALLERS];
    if (memory->tid == tid)
        return memory;
    forget(memory);
    memory->tid = tid;
    memory->stamp = now_ns(CLOCK_MONOTONIC_COARSE);
    memory->has_mask = false;
    memory->folder = -1;
    memory->pidfd = -1;
    memory->caller.program_length = 0;
    return memory;
}

static bool unsure(enum change change)
{
    return changing[change].count || changing[change].always;
}

static unsigned long field(const char *text, const char *name, int base, unsigned long otherwise)
{
    const char *found = strstr(text, name);
    return found ? strtoul(found + strlen(name), NULL, base) : otherwise;
}

static void read_status(struct memory *memory)
{
    char name[32], text[2048];
    ssize_t length = -1;
    snprintf(name, sizeof name, "/proc/%d/status", (int)memory->tid);
    int fd = open(name, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        length = read(fd, text, sizeof text - 1);
        close(fd);
    }
    text[length > 0 ? length : 0] = 0;
    /* A thread that is gone takes no rights along: the strictest umask. */
    memory->mask = (mode_t)field(text, "\nUmask:\t", 8, 0777) & 0777;
    memory->has_mask = true;
    memory->caller.tgid = (pid_t)field(text, "\nTgid:\t", 10, (unsigned long)memory->tid);
}

const struct caller *caller_of(pid_t tid)
{
    struct memory *memory = memory_of(tid);
    struct caller *caller = &memory->caller;
    if (caller->program_length && !unsure(CHANGES_PROGRAM))
        return caller;
    if (!memory->has_mask)
        read_status(memory);
    char name[32];
    snprintf(name, sizeof name, "/proc/%d/exe", (int)tid);
    ssize_t length = readlink(name, caller->program, sizeof caller->program);
    if (length <= 0) {
        caller->program[0] = '?';
        length = 1;
    }
    caller->program_length = (uint16_t)length;
    return caller;
}

mode_t caller_mask(pid_t tid)
{
    struct memory *memory = memory_of(tid);
    if (!memory->has_mask || unsure(CHANGES_MASK))
        read_status(memory);
    return memory->mask;
}

/* Pin the thread's current folder; `kept` tells whether the descriptor stays ours. */
int caller_folder(pid_t tid, bool *kept)
{
    struct memory *memory = memory_of(tid);
    *kept = !unsure(CHANGES_FOLDER);
    if (*kept && memory->folder >= 0)
        return memory->folder;
    char name[32];
    snprintf(name, sizeof name, "/proc/%d/cwd", (int)tid);
    int folder = open(name, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (*kept)
        memory->folder = folder;
    return folder;
}

/* Duplicate a descriptor of the thread's, or pin the folder it stands for; -1 if neither works. */
int caller_fd(pid_t tid, int number)
{
    struct memory *memory = memory_of(tid);
    if (memory->pidfd < 0)
        memory->pidfd = (int)syscall(SYS_pidfd_open, tid, PIDFD_OF_THREAD);
    if (memory->pidfd >= 0)
        return (int)syscall(SYS_pidfd_getfd, memory->pidfd, number, 0);
    char name[48];
    snprintf(name, sizeof name, "/proc/%d/fd/%d", (int)tid, number);
    return open(name, O_PATH | O_CLOEXEC);
}

void caller_changes(pid_t tid, enum change change)
{
    struct changing *these = &changing[change];
    callers_forget();
    for (unsigned index = 0; index < these->count; index++)
        if (these->tids[index] == tid)
            return;
    if (these->count == CHANGING) {
        /* Those that are gone never come back. */
        unsigned left = 0;
        for (unsigned index = 0; index < these->count; index++) {
            char name[32];
            snprintf(name, sizeof name, "/proc/%d", (int)these->tids[index]);
            if (!access(name, F_OK))
                these->tids[left++] = these->tids[index];
        }
        these->count = left;
    }
    if (these->count == CHANGING)
        these->always = true;
    else
        these->tids[these->count++] = tid;
}

/* Begin a call. What is remembered is refreshed here alone: a call that is under way uses it.
 * A thread that asks again has finished what it was allowed before. */
void caller_seen(pid_t tid)
{
    struct memory *memory = memory_of(tid);
    if (now_ns(CLOCK_MONOTONIC_COARSE) - memory->stamp >= FRESH_NS)
        forget(memory);
    for (unsigned change = 0; change < CHANGES; change++) {
        struct changing *these = &changing[change];
        for (unsigned index = 0; index < these->count; index++)
            if (these->tids[index] == tid) {
                these->tids[index] = these->tids[--these->count];
                callers_forget();
                break;
            }
    }
}

ssize_t caller_read(pid_t tid, uint64_t address, void *target, size_t length)
{
    struct iovec here = {target, length};
    struct iovec there = {(void *)(uintptr_t)address, length};
    return process_vm_readv(tid, &here, 1, &there, 1, 0);
}

/* Copy a string of at most PATH_BYTES - 1 bytes; returns its length or -errno. */
int caller_string(pid_t tid, uint64_t address, char *target)
{
    size_t length = 0;
    while (length < PATH_BYTES) {
        /* Never across a page border in one step: the next page may not exist. */
        size_t part = 4096 - (size_t)(address & 4095);
        size_t wanted = length ? part : (part < 256 ? part : 256);
        if (wanted > PATH_BYTES - length)
            wanted = PATH_BYTES - length;
        ssize_t got = caller_read(tid, address, target + length, wanted);
        if (got <= 0)
            return -EFAULT;
        char *end = memchr(target + length, 0, (size_t)got);
        if (end)
            return (int)(end - target);
        length += (size_t)got;
        address += (uint64_t)got;
    }
    return -ENAMETOOLONG;
}
