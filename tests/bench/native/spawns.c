/*
 * Spawns /bin/true in a loop, by errpipe and fork or vfork, or by posix_spawn.
 *
 *     spawns HOW THREADS SECONDS [RATE [DELAY_US [NAMES]]]
 *
 * RATE: spawns a second in all, 0: as many as possible. DELAY_US: how long the child waits before
 * its exec. NAMES: number of names (comm) that the process takes in turn. Prints one JSON object:
 * spawns, rate, and cpu_us: CPU time of a spawn with its child, less sensitive to other load.
 */
#include "spawn.h"
#include <pthread.h>
#include <sys/resource.h>

static const char *how;
static long threads, delay_us, names;
static int comm; /* of the process, writable by any thread */
static double seconds, rate, began;

__attribute__((noinline)) static void by_vfork(void)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC))
        die("pipe2");
    pid_t child = vfork();
    if (child == 0)
        exec_true(delay_us);
    finish_spawn(ends, child);
}

static void by_fork(void)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC))
        die("pipe2");
    pid_t child = fork();
    if (child == 0)
        exec_true(delay_us);
    finish_spawn(ends, child);
}

static void by_posix_spawn(void)
{
    pid_t child;
    if (posix_spawn(&child, true_argv[0], NULL, NULL, true_argv, environ))
        die("posix_spawn");
    if (waitpid(child, NULL, 0) < 0)
        die("waitpid");
}

static void *spawner(void *number)
{
    void (*once)(void) = !strcmp(how, "fork") ? by_fork : !strcmp(how, "vfork") ? by_vfork : by_posix_spawn;
    double interval = rate > 0 ? threads / rate : 0, end = began + seconds;
    double next = began + interval * (long)number / threads;
    long count = 0;

    for (;; count++, next += interval) {
        if (rate > 0)
            sleep_until(next < end ? next : end);
        if (now() >= end)
            return (void *)count;
        if (names) {
            char name[32];
            if (write(comm, name, snprintf(name, sizeof name, "bench-%ld", count % names)) < 0)
                die("comm");
        }
        once();
    }
}

static double cpu_us(int whose)
{
    struct rusage used;
    getrusage(whose, &used);
    return (used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1e6 + used.ru_utime.tv_usec + used.ru_stime.tv_usec;
}

int main(int argc, char **argv)
{
    if (argc < 4 || argc > 7)
        return 2;
    how = argv[1];
    threads = atol(argv[2]);
    seconds = atof(argv[3]);
    rate = argc > 4 ? atof(argv[4]) : 0;
    delay_us = argc > 5 ? atol(argv[5]) : 0;
    names = argc > 6 ? atol(argv[6]) : 0;

    comm = open("/proc/self/comm", O_WRONLY | O_CLOEXEC);
    pthread_t *others = calloc(threads, sizeof *others);
    long spawns = 0;
    began = now();
    for (long number = 0; number < threads; number++)
        if (pthread_create(&others[number], NULL, spawner, (void *)number))
            die("pthread_create");
    for (long number = 0; number < threads; number++) {
        void *count;
        pthread_join(others[number], &count);
        spawns += (long)count;
    }
    printf("{\"spawns\": %ld, \"rate\": %.3f, \"cpu_us\": %.3f}\n", spawns, spawns / (now() - began),
           (cpu_us(RUSAGE_SELF) + cpu_us(RUSAGE_CHILDREN)) / (spawns ? spawns : 1));
}
