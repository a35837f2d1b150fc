/*
 * Natural stalls at a high rate, in native threads: no interpreter lock orders the steps.
 *
 * The main thread spawns as the runtimes do: pipe2(O_CLOEXEC), vfork + execve(/bin/true), close the
 * write end, read until EOF. Other threads fork workers that do not exec; one that was forked
 * between the pipe2 and the close holds the errpipe until it exits. The touched heap makes fork
 * slow, as in a real server: the fd table is copied early in it. With more than one forking thread,
 * an errpipe may have several foreign holders at a time.
 *
 * Prints JSON lines as the other programs do, but only at the end; "seconds" is the duration of the read.
 *
 *     gcc -O2 -pthread -Wall -Wextra -o native_storm native_storm.c
 *     ./native_storm [--count 500] [--live-ms 8] [--gap-us 0] [--heap-mb 200] [--forkers 2]
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/rseq.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct spawn {
    pid_t child;
    double start, seconds;
};

struct worker {
    pid_t pid;
    double start, end;
};

struct forker {
    pthread_t thread;
    struct worker *workers;
    size_t count, room;
};

static long count = 500, live_ms = 8, gap_us = 0, heap_mb = 200, forkers = 2;
static atomic_int stop;

static void die(const char *what)
{
    fprintf(stderr, "native_storm: %s: %s\n", what, strerror(errno));
    exit(1);
}

static double monotonic(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void sleep_us(long us)
{
    struct timespec left = {us / 1000000, us % 1000000 * 1000};
    while (nanosleep(&left, &left) && errno == EINTR)
        ;
}

static void *fork_loop(void *argument)
{
    struct forker *own = argument;
    while (!stop) {
        if (own->count == own->room) {
            own->room = own->room ? 2 * own->room : 1024;
            own->workers = realloc(own->workers, own->room * sizeof *own->workers);
            if (!own->workers)
                die("realloc");
        }
        struct worker *worker = &own->workers[own->count++];
        worker->start = monotonic();
        worker->pid = fork();
        if (worker->pid < 0)
            die("fork");
        if (worker->pid == 0) {
            sleep_us(live_ms * 1000);
            _exit(0);
        }
        if (waitpid(worker->pid, NULL, 0) < 0)
            die("waitpid");
        worker->end = monotonic();
        if (gap_us)
            sleep_us(gap_us);
    }
    return NULL;
}

static void spawn_once(struct spawn *spawn)
{
    static char *const argv[] = {"/bin/true", NULL};
    int ends[2];
    char byte;
    long got;

    if (pipe2(ends, O_CLOEXEC))
        die("pipe2");
    pid_t child = vfork();
    if (child < 0)
        die("vfork");
    if (child == 0) {
        execve(argv[0], argv, environ);
        _exit(127);
    }
    close(ends[1]);
    spawn->child = child;
    spawn->start = monotonic();
    do /* not read(): a cancellation point writes to the thread's own, copied memory */
        got = syscall(SYS_read, ends[0], &byte, 1);
    while (got > 0 || (got < 0 && errno == EINTR));
    spawn->seconds = monotonic() - spawn->start;
    close(ends[0]);
    if (waitpid(child, NULL, 0) < 0)
        die("waitpid");
}

/*
 * A fork write-protects the parent's pages, and the next write to one waits while another thread's
 * fork copies the address space: milliseconds that would count as time in read. The spawner's
 * stack and results are not copied, so that they stay writable; no worker needs them. The kernel
 * writes to the thread's rseq area whenever it schedules it, so rseq is disabled if possible.
 */
static struct spawn *spawner_memory(char *frame)
{
    size_t page = sysconf(_SC_PAGESIZE), stack = 16 * page;
    char *top = (char *)((uintptr_t)frame & ~(page - 1)) + page;
    struct spawn *spawns = mmap(NULL, (count + 1) * sizeof *spawns, PROT_READ | PROT_WRITE,
                                MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (spawns == MAP_FAILED || madvise(spawns, (count + 1) * sizeof *spawns, MADV_DONTFORK))
        die("mmap");
    volatile char touched[15 * page];
    for (size_t at = 0; at < sizeof touched; at += page)
        touched[at] = 0;
    if (madvise(top - stack, stack, MADV_DONTFORK))
        die("madvise");
    syscall(SYS_rseq, (char *)__builtin_thread_pointer() + __rseq_offset, sizeof(struct rseq), RSEQ_FLAG_UNREGISTER,
            RSEQ_SIG);
    return spawns;
}

static void options(int argc, char **argv)
{
    static const struct option known[] = {
        {"count", required_argument, NULL, 'c'},   {"live-ms", required_argument, NULL, 'l'},
        {"gap-us", required_argument, NULL, 'g'},  {"heap-mb", required_argument, NULL, 'h'},
        {"forkers", required_argument, NULL, 'f'}, {0},
    };
    int option;
    while ((option = getopt_long(argc, argv, "", known, NULL)) != -1) {
        long value = optarg ? atol(optarg) : 0;
        switch (option) {
        case 'c':
            count = value;
            break;
        case 'l':
            live_ms = value;
            break;
        case 'g':
            gap_us = value;
            break;
        case 'h':
            heap_mb = value;
            break;
        case 'f':
            forkers = value;
            break;
        default:
            exit(2);
        }
    }
}

int main(int argc, char **argv)
{
    options(argc, argv);
    struct spawn *spawns = spawner_memory(__builtin_frame_address(0));
    size_t heap_size = (size_t)heap_mb << 20;
    volatile char *heap = malloc(heap_size + 1);
    struct forker *others = calloc(forkers, sizeof *others);
    if (!heap || !others)
        die("malloc");
    for (size_t at = 0; at < heap_size; at += 4096)
        heap[at] = 1;

    for (long at = 0; at < forkers; at++)
        if (pthread_create(&others[at].thread, NULL, fork_loop, &others[at]))
            die("pthread_create");
    for (long at = 0; at < count; at++)
        spawn_once(&spawns[at]);
    stop = 1;
    for (long at = 0; at < forkers; at++)
        pthread_join(others[at].thread, NULL);

    int pid = getpid(), tid = syscall(SYS_gettid);
    for (long at = 0; at < count; at++)
        printf("{\"kind\": \"spawn\", \"pid\": %d, \"tid\": %d, \"child\": %d, "
               "\"seconds\": %.9f, \"start\": %.9f}\n",
               pid, tid, spawns[at].child, spawns[at].seconds, spawns[at].start);
    for (long other = 0; other < forkers; other++)
        for (size_t at = 0; at < others[other].count; at++) {
            struct worker *worker = &others[other].workers[at];
            printf("{\"kind\": \"worker\", \"pid\": %d, \"start\": %.9f, \"end\": %.9f}\n", worker->pid, worker->start,
                   worker->end);
        }
    printf("{\"kind\": \"done\", \"spawns\": %ld}\n", count);
    return 0;
}
