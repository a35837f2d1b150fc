/*
 * Duration of system calls in a process that starts no program, pinned to a CPU: before it creates a pipe, and after.
 *
 * Batches of the calls alternate for SECONDS. Prints one JSON object: for each call the median batch, in nanoseconds of
 * CPU time per call. Time of other processes on that CPU does not count.
 *
 *     calls CPU SECONDS
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define BATCH       500 /* less than a pipe holds */
#define MAX_BATCHES 100000
#define NO_FD       999

static int zero, fifo, ends[2];

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

static void read_fifo_batch(void)
{
    char byte;
    for (int i = 0; i < BATCH; i++)
        syscall(SYS_read, fifo, &byte, 1);
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

struct kind {
    const char *name;
    void (*batch)(void);
};

static const struct kind before[] = {
    {"getppid", getppid_batch},     {"close", close_batch}, {"read /dev/zero", read_zero_batch},
    {"read FIFO", read_fifo_batch}, {"fcntl", fcntl_batch}, {"dup + close", dup_close_batch},
};

static const struct kind after[] = {
    {"close, has a pipe", close_batch},
    {"read its pipe", read_pipe_batch},
    {"fcntl, has a pipe", fcntl_batch},
};

#define BEFORE (int)(sizeof before / sizeof *before)
#define AFTER  (int)(sizeof after / sizeof *after)

static int compare(const void *a, const void *b)
{
    double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

static void measure(const struct kind *kinds, int number, double seconds)
{
    static double taken[BEFORE][MAX_BATCHES];
    static char bytes[BATCH];
    int batches = 0;
    double end = now_ns(CLOCK_MONOTONIC) + seconds * 1e9;

    for (; now_ns(CLOCK_MONOTONIC) < end && batches < MAX_BATCHES; batches++)
        for (int kind = 0; kind < number; kind++) {
            if (kinds[kind].batch == read_fifo_batch && write(fifo, bytes, BATCH) != BATCH)
                die("write");
            if (kinds[kind].batch == read_pipe_batch && write(ends[1], bytes, BATCH) != BATCH)
                die("write");
            double began = now_ns(CLOCK_THREAD_CPUTIME_ID);
            kinds[kind].batch();
            taken[kind][batches] = (now_ns(CLOCK_THREAD_CPUTIME_ID) - began) / BATCH;
        }
    for (int kind = 0; kind < number; kind++) {
        qsort(taken[kind], batches, sizeof(double), compare);
        printf("%s\"%s\": %.2f", kinds == before && !kind ? "{" : ", ", kinds[kind].name, taken[kind][batches / 2]);
    }
}

int main(int argc, char **argv)
{
    char name[] = "/tmp/calls-XXXXXX";
    cpu_set_t cpus;

    if (argc != 3)
        return 2;
    CPU_ZERO(&cpus);
    CPU_SET(atoi(argv[1]), &cpus);
    if (sched_setaffinity(0, sizeof cpus, &cpus))
        die("sched_setaffinity");
    zero = open("/dev/zero", O_RDONLY);
    if (zero < 0 || !mkdtemp(name) || chdir(name) || mkfifo("fifo", 0600))
        die("set-up");
    fifo = open("fifo", O_RDWR);
    if (fifo < 0 || unlink("fifo") || rmdir(name))
        die("fifo");
    measure(before, BEFORE, atof(argv[2]) * BEFORE / (BEFORE + AFTER));
    if (pipe(ends))
        die("pipe");
    measure(after, AFTER, atof(argv[2]) * AFTER / (BEFORE + AFTER));
    puts("}");
}
