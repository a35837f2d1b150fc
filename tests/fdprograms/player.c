/*
 * Runs fd programs as real processes and threads. Every thread of every process connects to the driver (player.py),
 * then executes its commands one at a time, and acknowledges each. The first process, the root, only starts a new
 * process for each program.
 *
 *     player NAME        NAME: of the driver's abstract socket
 *
 * The connections have fds of 500 and above, and are close-on-exec. A vfork child runs in its parent's memory and on
 * its parent's stack, and changes only its own locals there.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#define CONTROL_FDS 500

/* _Op in player.py, which does not use the last two. */
enum op {
    START,
    PIPE2,
    PIPE,
    DUP,
    DUP2,
    DUP3,
    FCNTL,
    IOCTL,
    CLOSE,
    CLOSE_RANGE,
    FORK,
    VFORK,
    EXEC,
    EXEC_FAIL,
    EXIT,
    THREAD,
    THREAD_EXIT,
    READ,
    WRITE,
    FORK_FILES,
    UNSHARE,
};

enum kind { HELLO, READING, DONE };

struct command {
    int32_t op, a, b, c;
};

struct answer {
    int32_t kind, result, pid, tid;
};

static char *name, *path; /* not /proc/self/exe, which is gone once the main thread has exited */

static void say(int control, int kind, long result)
{
    struct answer answer = {kind, result < 0 ? -errno : result, getpid(), syscall(SYS_gettid)};
    if (send(control, &answer, sizeof(answer), MSG_NOSIGNAL) != sizeof(answer))
        _exit(1);
}

static int connect_driver(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t length = strlen(name);
    memcpy(address.sun_path + 1, name, length);
    int low = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int control = fcntl(low, F_DUPFD_CLOEXEC, CONTROL_FDS);
    close(low);
    if (control < 0 ||
        connect(control, (struct sockaddr *)&address, offsetof(struct sockaddr_un, sun_path) + 1 + length))
        _exit(1);
    say(control, HELLO, 0);
    return control;
}

static void run(int control);

static void *thread_main(void *unused)
{
    (void)unused;
    run(connect_driver());
    return 0;
}

/* In a new process: replaces the connections of its parent by one of its own. */
static __attribute__((noreturn)) void child_main(int keeps_table)
{
    if (!keeps_table)
        syscall(SYS_close_range, CONTROL_FDS, ~0U, 0);
    run(connect_driver());
    _exit(0);
}

static __attribute__((noinline)) long vfork_and_run(void)
{
    long pid = vfork();
    if (pid == 0)
        child_main(0);
    return pid;
}

static long start_thread(void)
{
    pthread_attr_t attributes;
    pthread_t thread;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 65536);
    errno = pthread_create(&thread, &attributes, thread_main, 0);
    return errno ? -1 : 0;
}

static void null_streams(void)
{
    int null = open("/dev/null", O_RDWR);
    for (int fd = 0; fd <= 2; fd++)
        dup2(null, fd);
    close_range(3, CONTROL_FDS - 1, 0);
}

static void run(int control)
{
    struct command it;
    char buffer[64] = {0};
    while (recv(control, &it, sizeof(it), MSG_WAITALL) == sizeof(it)) {
        int fds[2] = {0, 0};
        long result = 0;
        switch (it.op) {
        case START:
        case FORK:
            result = fork();
            if (!result) {
                if (it.op == START)
                    null_streams();
                child_main(0);
            }
            break;
        case PIPE2:
        case PIPE:
            result = it.op == PIPE ? syscall(SYS_pipe, fds) : syscall(SYS_pipe2, fds, it.a);
            if (!result)
                result = fds[0] | fds[1] << 16;
            break;
        case DUP:
            result = syscall(SYS_dup, it.a);
            break;
        case DUP2:
            result = syscall(SYS_dup2, it.a, it.b);
            break;
        case DUP3:
            result = syscall(SYS_dup3, it.a, it.b, it.c);
            break;
        case FCNTL:
            result = syscall(SYS_fcntl, it.a, it.b, it.c);
            break;
        case IOCTL:
            result = syscall(SYS_ioctl, it.a, it.b ? FIOCLEX : FIONCLEX);
            break;
        case CLOSE:
            result = syscall(SYS_close, it.a);
            break;
        case CLOSE_RANGE:
            result = syscall(SYS_close_range, it.a, it.b, it.c);
            break;
        case VFORK:
            result = vfork_and_run();
            break;
        case EXEC:
        case EXEC_FAIL: {
            char *argv[] = {path, name, 0};
            char *envp[] = {0};
            result = syscall(SYS_execve, it.op == EXEC ? path : "/nowhere", argv, envp);
            break;
        }
        case EXIT:
            syscall(SYS_exit_group, 0);
            break;
        case THREAD:
            result = start_thread();
            break;
        case THREAD_EXIT:
            close(control);
            syscall(SYS_exit, 0);
            break;
        case READ:
            say(control, READING, 0);
            result = syscall(SYS_read, it.a, buffer, sizeof(buffer));
            break;
        case WRITE:
            result = syscall(SYS_write, it.a, buffer, 4);
            break;
        case FORK_FILES:
            result = syscall(SYS_clone, CLONE_FILES | SIGCHLD, 0, 0, 0, 0);
            if (!result)
                child_main(1);
            break;
        case UNSHARE:
            result = syscall(SYS_unshare, CLONE_FILES);
            break;
        }
        say(control, DONE, result);
    }
    /* The driver has exited. */
    syscall(SYS_exit_group, 0);
}

int main(int argc, char **argv)
{
    if (argc != 2)
        return 2;
    path = argv[0];
    name = argv[1];
    struct rlimit limit = {4096, 4096};
    setrlimit(RLIMIT_NOFILE, &limit);
    signal(SIGCHLD, SIG_IGN); /* children are reaped automatically */
    signal(SIGPIPE, SIG_IGN);
    run(connect_driver());
}
