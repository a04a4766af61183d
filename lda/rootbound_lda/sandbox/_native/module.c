/* The Python module: set up once a process, then wait for calls. */
#define Py_LIMITED_API 0x030B0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "fast.h"

#include <poll.h>
#include <sys/socket.h>
#include <time.h>

#ifndef SECCOMP_IOCTL_NOTIF_SET_FLAGS
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS _IOW('!', 4, uint64_t)
#endif
#define SYNC_WAKE_UP 1ul
/* Longest time, in milliseconds, that the LDA does not know of a record. */
#define TELL_MS 2

enum event { CONTROL = 1, ENDED = 2, FULL = 3 };

static int control = -1, child = -1;
static uint64_t told;
static uint64_t told_at;
static bool listening;

static bool add_all(PyObject *paths, bool (*add)(const char *, size_t))
{
    Py_ssize_t count = PySequence_Size(paths);
    for (Py_ssize_t index = 0; index < count; index++) {
        PyObject *path = PySequence_GetItem(paths, index);
        char *bytes;
        Py_ssize_t length;
        if (!path)
            return false;
        bool added = !PyBytes_AsStringAndSize(path, &bytes, &length) && add(bytes, (size_t)length);
        Py_DECREF(path);
        if (!added)
            return false;
    }
    return count >= 0;
}

/* Each root is (path, whether .git is carved out of it, its pinned descriptor). */
static bool add_roots(PyObject *roots)
{
    Py_ssize_t count = PySequence_Size(roots);
    for (Py_ssize_t index = 0; index < count; index++) {
        PyObject *root = PySequence_GetItem(roots, index);
        const char *path;
        Py_ssize_t length;
        int guarded, pin;
        if (!root)
            return false;
        bool added = PyArg_ParseTuple(root, "y#pi", &path, &length, &guarded, &pin) &&
                     bounds_add_root(path, (size_t)length, guarded, pin);
        Py_DECREF(root);
        if (!added)
            return false;
    }
    return count >= 0;
}

static PyObject *setup(PyObject *self, PyObject *args)
{
    (void)self;
    PyObject *roots, *protected_paths, *folded;
    int ring, leave_reads, fold;
    if (!PyArg_ParseTuple(args, "iiiiOOOpp", &settings.listener, &control, &child, &ring,
                          &roots, &protected_paths, &folded, &leave_reads, &fold))
        return NULL;
    settings.leave_reads = leave_reads;
    settings.fold = fold;
    bounds_clear();
    callers_forget();
    if (!add_roots(roots) || !add_all(protected_paths, bounds_add_protected) ||
        !add_all(folded, bounds_add_folded)) {
        if (!PyErr_Occurred())
            PyErr_NoMemory();
        return NULL;
    }
    if (!ring_open(ring)) {
        PyErr_SetString(PyExc_OSError, "the ring of records cannot be mapped");
        return NULL;
    }
    settings.own_fds = open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (settings.own_fds < 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    settings.wakes_here =
        !ioctl(settings.listener, SECCOMP_IOCTL_NOTIF_SET_FLAGS, SYNC_WAKE_UP);
    told = ring_head();
    told_at = 0;
    listening = true;
    Py_RETURN_NONE;
}

/* Tell the LDA that there are records, but not more often than every few milliseconds. */
static bool tell(bool now)
{
    if (ring_head() == told)
        return false;
    uint64_t time = now_ns(CLOCK_MONOTONIC);
    if (!now && time - told_at < TELL_MS * 1000000u)
        return true;
    /* A full socket is full of such messages: one of them will do. */
    if (send(control, "R\n", 2, MSG_DONTWAIT | MSG_NOSIGNAL) == 2 || errno == EAGAIN) {
        told = ring_head();
        told_at = time;
    }
    return false;
}

/* Answer calls until there is something for Python: 0 and a question, or an event. */
static int work(struct seccomp_notif *question)
{
    struct pollfd all[] = {
        {.fd = listening ? settings.listener : -1, .events = POLLIN},
        {.fd = control, .events = POLLIN},
        {.fd = child, .events = POLLIN},
    };
    for (;;) {
        if (!ring_has_room())
            return FULL;
        bool untold = tell(false);
        int wait = untold ? TELL_MS : ring_folds_pending() ? 1000 : -1;
        int count = poll(all, 3, wait);
        if (count < 0) {
            if (errno == EINTR)
                continue;
            return -1;
        }
        if (!count) {
            ring_flush_folds(!untold);
            tell(true);
            continue;
        }
        if (all[1].revents)
            return CONTROL;
        /* Before the calls: others of the tree may go on for ever. */
        if (all[2].revents)
            return ENDED;
        if (all[0].revents & POLLIN) {
            memset(question, 0, sizeof *question);
            if (ioctl(settings.listener, SECCOMP_IOCTL_NOTIF_RECV, question)) {
                if (errno == ENOENT || errno == EINTR)
                    continue;
                return -1;
            }
            struct call call = {.id = question->id, .tid = (pid_t)question->pid,
                                .nr = question->data.nr};
            for (int index = 0; index < 6; index++)
                call.args[index] = question->data.args[index];
            if (handle(&call) == LEFT)
                return 0;
            continue;
        }
        if (all[0].revents) {
            listening = false;
            all[0].fd = -1;
        }
    }
}

static PyObject *serve(PyObject *self, PyObject *unused)
{
    (void)self, (void)unused;
    struct seccomp_notif question;
    int event;
    Py_BEGIN_ALLOW_THREADS
    event = work(&question);
    Py_END_ALLOW_THREADS
    if (event < 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    if (event)
        return PyLong_FromLong(event);
    return PyBytes_FromStringAndSize((const char *)&question, sizeof question);
}

static PyObject *flush(PyObject *self, PyObject *unused)
{
    (void)self, (void)unused;
    ring_flush_folds(true);
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"setup", setup, METH_VARARGS, "Take over the listener of this process's command."},
    {"serve", serve, METH_NOARGS, "Answer calls until one, or an event, is for Python."},
    {"flush", flush, METH_NOARGS, "Write out the counted rows."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_fast", "The hot loop of a supervisor, in C.", -1, methods,
    NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__fast(void);
PyMODINIT_FUNC PyInit__fast(void)
{
    return PyModule_Create(&definition);
}
