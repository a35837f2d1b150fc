/* Common parts of the C programs: clocks, a page shared by their processes, and a fork by another thread.
 *
 * Processes communicate through memory and semaphores, so a program has no pipes except those of its case. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

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

/* Sleeps on after signals. */
static inline void sleep_until(double when)
{
    struct timespec t = {.tv_sec = (time_t)when, .tv_nsec = (long)((when - (time_t)when) * 1e9)};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR)
        ;
}

static inline void rest(double seconds)
{
    sleep_until(now() + seconds);
}

/* Forks a child that calls exec at once. */
static inline pid_t fork_true(void)
{
    pid_t child = fork();
    if (child == 0) {
        execl("/bin/true", "true", NULL);
        _exit(127);
    }
    if (child < 0)
        die("fork");
    return child;
}

/* Memory that is shared with all processes forked later. */
static inline void *shared(size_t size)
{
    void *page = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED)
        die("mmap");
    return page;
}

static inline void await(sem_t *semaphore)
{
    while (sem_wait(semaphore))
        if (errno != EINTR)
            die("sem_wait");
}

/* Returns when a child has ended, without reaping it: its exec, if any, is then complete. */
static inline void await_end(pid_t child)
{
    siginfo_t info;
    while (waitid(P_PID, child, &info, WEXITED | WNOWAIT))
        if (errno != EINTR)
            die("waitid");
}

struct beside {
    void (*does)(void *);
    void *with;
    pid_t pid;
};

static inline void *fork_beside_thread(void *data)
{
    struct beside *beside = data;
    beside->pid = _Fork(); /* runs no handlers of pthread_atfork */
    if (beside->pid == 0) {
        beside->does(beside->with);
        _exit(0);
    }
    return NULL;
}

/* Makes another thread fork a process that calls a function and exits; returns its pid. */
static inline pid_t fork_beside(void (*does)(void *), void *with)
{
    struct beside beside = {.does = does, .with = with};
    pthread_t thread;
    if (pthread_create(&thread, NULL, fork_beside_thread, &beside) || pthread_join(thread, NULL) || beside.pid < 0)
        die("fork beside");
    return beside.pid;
}

/* A worker for fork_beside: keeps its fds for some time. */
static inline void keep(void *seconds)
{
    rest(*(double *)seconds);
}
