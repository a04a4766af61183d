/* What is known of the calling thread: its process, program, umask and memory. */
#include "fast.h"

#include <stdlib.h>
#include <sys/uio.h>
#include <time.h>

#define CALLERS 64
#define PENDING 16
/* A number can be taken by another thread once its owner died, but never this soon. */
#define FRESH_NS 50000000u

static struct caller callers[CALLERS];
/* Threads that were allowed to change their umask and have not come back since: until they do,
 * nobody knows whether the change has happened, so no umask is remembered. */
static pid_t pending[PENDING];
static unsigned pending_count;
static bool never_remember;

static unsigned long field(const char *text, const char *name, int base, unsigned long otherwise)
{
    const char *found = strstr(text, name);
    return found ? strtoul(found + strlen(name), NULL, base) : otherwise;
}

static void read_status(struct caller *caller)
{
    char name[32], text[2048];
    ssize_t length = -1;
    snprintf(name, sizeof name, "/proc/%d/status", (int)caller->tid);
    int fd = open(name, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        length = read(fd, text, sizeof text - 1);
        close(fd);
    }
    text[length > 0 ? length : 0] = 0;
    /* A thread that is gone takes no rights along: the strictest umask. */
    caller->mask = (mode_t)field(text, "\nUmask:\t", 8, 0777) & 0777;
    caller->tgid = (pid_t)field(text, "\nTgid:\t", 10, (unsigned long)caller->tid);
}

const struct caller *caller_of(pid_t tid)
{
    struct caller *caller = &callers[(unsigned)tid % CALLERS];
    uint64_t now = now_ns(CLOCK_MONOTONIC_COARSE);
    bool known = caller->tid == tid && now - caller->stamp < FRESH_NS;
    if (known && !pending_count && !never_remember)
        return caller;
    caller->tid = tid;
    caller->stamp = now;
    read_status(caller);
    if (!known) {
        char name[32];
        snprintf(name, sizeof name, "/proc/%d/exe", (int)tid);
        ssize_t length = readlink(name, caller->program, sizeof caller->program);
        if (length < 0) {
            caller->program[0] = '?';
            length = 1;
        }
        caller->program_length = (uint16_t)length;
    }
    return caller;
}

/* Some thread is about to execute another program. */
void callers_forget(void)
{
    for (unsigned index = 0; index < CALLERS; index++)
        callers[index].tid = 0;
}

void caller_changes_mask(pid_t tid)
{
    callers_forget();
    for (unsigned index = 0; index < pending_count; index++)
        if (pending[index] == tid)
            return;
    if (pending_count == PENDING) {
        /* Those that are gone never come back. */
        unsigned left = 0;
        for (unsigned index = 0; index < pending_count; index++) {
            char name[32];
            snprintf(name, sizeof name, "/proc/%d", (int)pending[index]);
            if (!access(name, F_OK))
                pending[left++] = pending[index];
        }
        pending_count = left;
    }
    if (pending_count == PENDING)
        never_remember = true;
    else
        pending[pending_count++] = tid;
}

/* A thread that asks again has finished what it was allowed before. */
void caller_seen(pid_t tid)
{
    for (unsigned index = 0; index < pending_count; index++)
        if (pending[index] == tid) {
            pending[index] = pending[--pending_count];
            callers_forget();
            return;
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
