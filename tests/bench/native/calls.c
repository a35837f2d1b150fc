/*
 * How long system calls take in a process that has nothing to do with spawning, pinned to a CPU.
 *
 * Batches of each call take turns until the time is over; one JSON object with the median batch of
 * each, nanoseconds of CPU time a call: what else runs on the CPU does not count.
 *
 *     calls CPU SECONDS
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define BATCH 500 /* less than a pipe holds */
#define MOST_BATCHES 100000
#define NO_FD 999

static int zero, ends[2];

static double now_ns(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return t.tv_sec * 1e9 + t.tv_nsec;
}

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static void getppid_batch(void)
{
    for (int i = 0; i < BATCH; i++)
        syscall(SYS_getppid);
}

static void close_batch(void)
{
    for (int i = 0; i < BATCH; i++)
        syscall(SYS_close, NO_FD);
}

static void read_zero_batch(void)
{
    char byte;
    for (int i = 0; i < BATCH; i++)
        syscall(SYS_read, zero, &byte, 1);
}

static void read_pipe_batch(void)
{
    char byte;
    for (int i = 0; i < BATCH; i++)
        syscall(SYS_read, ends[0], &byte, 1);
}

static void fcntl_batch(void)
{
    for (int i = 0; i < BATCH; i++)
        syscall(SYS_fcntl, zero, F_GETFL);
}

static void dup_close_batch(void)
{
    for (int i = 0; i < BATCH; i++)
        syscall(SYS_close, syscall(SYS_dup, zero));
}

static const struct {
    const char *name;
    void (*batch)(void);
} kinds[] = {
    {"getppid", getppid_batch},     {"close", close_batch}, {"read /dev/zero", read_zero_batch},
    {"read pipe", read_pipe_batch}, {"fcntl", fcntl_batch}, {"dup + close", dup_close_batch},
};
#define KINDS (sizeof kinds / sizeof *kinds)

static int compare(const void *a, const void *b)
{
    double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

int main(int argc, char **argv)
{
    static double taken[KINDS][MOST_BATCHES];
    static char bytes[BATCH];
    cpu_set_t cpus;
    int batches = 0;

    if (argc != 3)
        return 2;
    CPU_ZERO(&cpus);
    CPU_SET(atoi(argv[1]), &cpus);
    if (sched_setaffinity(0, sizeof cpus, &cpus))
        die("sched_setaffinity");
    zero = open("/dev/zero", O_RDONLY);
    if (zero < 0 || pipe(ends))
        die("open");
    double end = now_ns(CLOCK_MONOTONIC) + atof(argv[2]) * 1e9;
    for (; now_ns(CLOCK_MONOTONIC) < end && batches < MOST_BATCHES; batches++)
        for (size_t kind = 0; kind < KINDS; kind++) {
            if (kinds[kind].batch == read_pipe_batch && write(ends[1], bytes, BATCH) != BATCH)
                die("write");
            double began = now_ns(CLOCK_THREAD_CPUTIME_ID);
            kinds[kind].batch();
            taken[kind][batches] = (now_ns(CLOCK_THREAD_CPUTIME_ID) - began) / BATCH;
        }
    for (size_t kind = 0; kind < KINDS; kind++) {
        qsort(taken[kind], batches, sizeof(double), compare);
        printf("%s\"%s\": %.2f", kind ? ", " : "{", kinds[kind].name, taken[kind][batches / 2]);
    }
    puts("}");
}
