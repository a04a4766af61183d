/* Records in a ring that is shared with the LDA; the layout is that of _ring.py. */
#include "fast.h"

#include <sys/mman.h>
#include <time.h>

#define HEADER 64
#define FOLDS 64
#define FOLDER_BYTES 1024

struct record {
    uint32_t size;
    uint8_t op;
    uint8_t flags;
    uint16_t nr;
    uint64_t time;
    uint32_t pid;
    uint32_t tid;
    int32_t error;
    uint32_t count;
    uint16_t program;
    uint16_t path;
    uint16_t path2;
    uint16_t folded;
};
_Static_assert(sizeof(struct record) == 40, "the layout is fixed");

enum { DENIED = 1, EXACT = 2, HAS_PATH2 = 4 };

struct fold {
    struct record first;
    uint16_t folder_length;
    char folder[FOLDER_BYTES];
    char program[PATH_BYTES];
};

static uint64_t *head, *tail;
static unsigned char *data;
static uint64_t size;
static struct fold folds[FOLDS];
static unsigned fold_count;
static uint64_t fold_second;

uint64_t now_ns(int clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

bool ring_open(int fd)
{
    struct stat facts;
    if (fstat(fd, &facts) || facts.st_size < HEADER + 4 * RECORD_BYTES)
        return false;
    void *map = mmap(NULL, (size_t)facts.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED)
        return false;
    head = map;
    tail = head + 1;
    data = (unsigned char *)map + HEADER;
    size = ((uint64_t)facts.st_size - HEADER) & ~7ull;
    fold_count = 0;
    return true;
}

uint64_t ring_head(void)
{
    return *head;
}

static uint64_t room(void)
{
    uint64_t used = *head - __atomic_load_n(tail, __ATOMIC_ACQUIRE);
    return used > size ? 0 : size - used;
}

bool ring_has_room(void)
{
    /* Two records of one call, the folds that a new second turns out, and what wrapping wastes. */
    return room() > (uint64_t)FOLDS * (FOLDER_BYTES + 256) + 4 * RECORD_BYTES;
}

static void put(struct record *record, const char *program, const char *path, const char *path2)
{
    uint64_t length = sizeof *record + record->program + record->path + record->path2;
    uint64_t place = *head % size, after = *head;
    record->size = (uint32_t)((length + 7) & ~7ull);
    if (size - place < record->size) {
        struct record skip = {.size = (uint32_t)(size - place), .op = OP_SKIP};
        memcpy(data + place, &skip, 8);
        after += size - place;
        place = 0;
    }
    unsigned char *target = data + place;
    memcpy(target, record, sizeof *record);
    target += sizeof *record;
    memcpy(target, program, record->program);
    target += record->program;
    memcpy(target, path, record->path);
    target += record->path;
    if (record->path2)
        memcpy(target, path2, record->path2);
    __atomic_store_n(head, after + record->size, __ATOMIC_RELEASE);
}

static struct record begin(const struct call *call, enum operation op, const struct caller *caller)
{
    struct record record = {
        .op = (uint8_t)op, .nr = (uint16_t)call->nr, .time = now_ns(CLOCK_REALTIME),
        .pid = (uint32_t)caller->tgid, .tid = (uint32_t)call->tid, .count = 1,
        .program = caller->program_length,
    };
    return record;
}

void ring_put(const struct call *call, enum operation op, bool exact, const char *path,
              const char *path2)
{
    const struct caller *caller = caller_of(call->tid);
    struct record record = begin(call, op, caller);
    record.flags = (uint8_t)((exact ? EXACT : 0) | (path2 ? HAS_PATH2 : 0));
    record.path = (uint16_t)strnlen(path, FULL_BYTES);
    record.path2 = path2 ? (uint16_t)strnlen(path2, FULL_BYTES) : 0;
    put(&record, caller->program, path, path2);
}

/* Count a read of a file of the system, in the row of its folder and the current second. */
void ring_fold(const struct call *call, const char *path)
{
    const char *slash = strrchr(path, '/');
    size_t length = slash && slash != path ? (size_t)(slash - path) : 1;
    if (!strncmp(path, "/proc/", 6))
        length = 5;
    ring_flush_folds(false);
    if (length >= FOLDER_BYTES) {
        ring_put(call, OP_READ, false, path, NULL);
        return;
    }
    for (unsigned index = 0; index < fold_count; index++) {
        struct fold *fold = &folds[index];
        if (fold->folder_length == length && !memcmp(fold->folder, path, length)) {
            fold->first.count++;
            return;
        }
    }
    if (fold_count == FOLDS)
        ring_flush_folds(true);
    const struct caller *caller = caller_of(call->tid);
    struct fold *fold = &folds[fold_count++];
    fold->first = begin(call, OP_READ, caller);
    fold->first.path = (uint16_t)length;
    fold->first.folded = 1;
    fold->folder_length = (uint16_t)length;
    memcpy(fold->folder, path, length);
    if (fold->first.program > 128)
        fold->first.program = 128;
    memcpy(fold->program, caller->program, fold->first.program);
    fold_second = fold->first.time / 1000000000u;
}

bool ring_folds_pending(void)
{
    return fold_count > 0;
}

/* Write out the counted rows: all of them, or those of a second that is over. */
void ring_flush_folds(bool all)
{
    if (!fold_count || (!all && now_ns(CLOCK_REALTIME) / 1000000000u == fold_second))
        return;
    unsigned count = fold_count;
    fold_count = 0;
    for (unsigned index = 0; index < count; index++)
        put(&folds[index].first, folds[index].program, folds[index].folder, NULL);
}
