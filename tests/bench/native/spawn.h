/* One spawn as the runtimes do it, shared by the programs here. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static char *const true_argv[] = {"/bin/true", NULL};

static inline void die(const char *what)
{
    perror(what);
    exit(1);
}

static inline double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static inline void sleep_until(double when)
{
    struct timespec t = {.tv_sec = (time_t)when, .tv_nsec = (long)((when - (time_t)when) * 1e9)};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR)
        ;
}

static inline void exec_true(long delay_us)
{
    if (delay_us)
        usleep(delay_us);
    execve(true_argv[0], true_argv, environ);
    _exit(127);
}

/* The rest of a spawn, once the child is there: the parent's close, the read, the wait. */
static inline void finish_spawn(int ends[2], pid_t child)
{
    char byte;

    if (child < 0)
        die("fork");
    close(ends[1]);
    while (read(ends[0], &byte, 1) < 0 && errno == EINTR)
        ;
    close(ends[0]);
    if (waitpid(child, NULL, 0) < 0)
        die("waitpid");
}
