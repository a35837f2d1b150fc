/*
 * Creates foreign holders in any dynamically linked runtime, by LD_PRELOAD.
 *
 * After every pipe, pipe2 and SEQPACKET socketpair another native thread forks a worker before the call
 * returns, so the errpipe, whichever of them it is, has a foreign holder. Calls that bypass libc (Go) or
 * use its internal functions (popen) are not intercepted: there the thread forks continuously.
 *
 *     FOREIGN_FORK=fork    the worker does not exec, and lives for FOREIGN_FORK_MS (300)
 *     FOREIGN_FORK=exec    the worker calls exec of sleep for that time: keeps only what is not close-on-exec
 *     FOREIGN_FORK=loop    as fork, but a new worker every half millisecond
 *     FOREIGN_FORK_PIDS    file to which each worker's pid is appended, one per line
 *
 * Only the process that was started with LD_PRELOAD does this. Its children do not inherit the variable, and
 * pipes that they create before their exec (as a fork handler of libuv does) get no worker.
 *
 *     gcc -O2 -shared -fPIC -pthread -Wall -Wextra -o foreign_fork.so foreign_fork.c -ldl
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static int each_pipe, execs;
static pid_t self;
static long live_ms = 300;
static const char *pids;
static char seconds[32];

static void note(pid_t pid)
{
    char line[32];
    int file = pids ? open(pids, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666) : -1;
    if (file < 0)
        return;
    if (write(file, line, snprintf(line, sizeof line, "%d\n", (int)pid)) < 0)
        perror("foreign_fork");
    close(file);
}

/* fork() without the runtime's fork handlers, which do not expect this child. */
static void *fork_worker(void *unused)
{
    pid_t pid = _Fork();
    if (pid == 0) {
        if (execs) {
            execl("/bin/sleep", "sleep", seconds, (char *)NULL);
            _exit(127);
        }
        struct timespec left = {live_ms / 1000, live_ms % 1000 * 1000000};
        while (nanosleep(&left, &left) && errno == EINTR)
            ;
        _exit(0);
    }
    note(pid);
    return unused;
}

static void *fork_loop(void *unused)
{
    for (;;) {
        fork_worker(NULL);
        usleep(500);
    }
    return unused;
}

/* The runtime's signals, SIGCHLD above all, are for its own threads. */
static pthread_t in_thread(void *(*run)(void *))
{
    pthread_t thread = 0;
    sigset_t all, before;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    if (pthread_create(&thread, NULL, run, NULL))
        abort();
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return thread;
}

__attribute__((constructor)) static void begin(void)
{
    const char *how = getenv("FOREIGN_FORK"), *ms = getenv("FOREIGN_FORK_MS");

    self = getpid();
    unsetenv("LD_PRELOAD");
    if (!how)
        return;
    pids = getenv("FOREIGN_FORK_PIDS");
    if (pids)
        pids = strdup(pids);
    if (ms)
        live_ms = atol(ms);
    snprintf(seconds, sizeof seconds, "%ld.%03ld", live_ms / 1000, live_ms % 1000);
    execs = !strcmp(how, "exec");
    each_pipe = execs || !strcmp(how, "fork");
    if (!strcmp(how, "loop"))
        in_thread(fork_loop);
}

static int made(int result)
{
    int error = errno;

    if (!result && each_pipe && getpid() == self)
        pthread_join(in_thread(fork_worker), NULL);
    errno = error;
    return result;
}

int pipe(int fds[2])
{
    int (*real)(int *) = (int (*)(int *))dlsym(RTLD_NEXT, "pipe");
    return made(real(fds));
}

int pipe2(int fds[2], int flags)
{
    int (*real)(int *, int) = (int (*)(int *, int))dlsym(RTLD_NEXT, "pipe2");
    return made(real(fds, flags));
}

int socketpair(int domain, int type, int protocol, int fds[2])
{
    int (*real)(int, int, int, int *) = (int (*)(int, int, int, int *))dlsym(RTLD_NEXT, "socketpair");
    int result = real(domain, type, protocol, fds);
    return (type & 0xf) == SOCK_SEQPACKET ? made(result) : result;
}
