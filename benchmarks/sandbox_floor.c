/* What a supervisor costs that does nothing: each open of the command is asked about, and at once
 * either left to the kernel or answered with a descriptor that was there before. It is the floor
 * under any supervisor by seccomp user notification. Usage: floor PROGRAM ARGUMENTS... */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef SECCOMP_IOCTL_NOTIF_SET_FLAGS
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS _IOW('!', 4, uint64_t)
#endif
#define SYNC_WAKE_UP 1ul
#define FAILED 125

static void become(int channel, char **argv)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof filter / sizeof *filter, filter};
    char go;
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    int fd = (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
                          SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
    if (fd < 0 || write(channel, &fd, sizeof fd) != sizeof fd || read(channel, &go, 1) != 1)
        _exit(FAILED);
    close(fd);
    execvp(argv[0], argv);
    _exit(FAILED);
}

static void answer(int listener, int ready)
{
    struct seccomp_notif call;
    memset(&call, 0, sizeof call);
    if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &call))
        return;
    if (call.data.args[2] & O_ACCMODE) {
        struct seccomp_notif_addfd add = {
            .id = call.id, .flags = SECCOMP_ADDFD_FLAG_SEND, .srcfd = (uint32_t)ready,
            .newfd_flags = O_CLOEXEC};
        (void)ioctl(listener, SECCOMP_IOCTL_NOTIF_ADDFD, &add);
    } else {
        struct seccomp_notif_resp let = {
            .id = call.id, .flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE};
        (void)ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &let);
    }
}

int main(int argc, char **argv)
{
    int pair[2], number, status;
    if (argc < 2 || socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
        return FAILED;
    pid_t child = fork();
    if (!child)
        become(pair[1], argv + 1);
    close(pair[1]);
    if (child < 0 || read(pair[0], &number, sizeof number) != sizeof number)
        return FAILED;
    int process = (int)syscall(SYS_pidfd_open, child, 0);
    int listener = (int)syscall(SYS_pidfd_getfd, process, number, 0);
    int ready = open("/dev/null", O_WRONLY | O_CLOEXEC);
    if (listener < 0 || ready < 0 || write(pair[0], "!", 1) != 1)
        return FAILED;
    (void)ioctl(listener, SECCOMP_IOCTL_NOTIF_SET_FLAGS, SYNC_WAKE_UP);
    struct pollfd both[] = {{.fd = listener, .events = POLLIN}, {.fd = process, .events = POLLIN}};
    for (;;) {
        if (poll(both, 2, -1) < 0 && errno != EINTR)
            return FAILED;
        if (both[1].revents)
            break;
        if (both[0].revents & POLLIN)
            answer(listener, ready);
    }
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : FAILED;
}
