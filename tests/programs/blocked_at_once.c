/* Threads of one process, all blocked on their errpipes at once by one worker.
 *
 *     blocked_at_once THREADS SECONDS
 *
 * Every thread creates its errpipe; then a worker is forked; then every thread forks a child that calls exec at once,
 * and reads. When all threads are in their read and all children have ended, the worker lives for SECONDS. Prints the
 * worker and each spawn; "start" is the start of the read, and "seconds" its duration. */
#include "play.h"
#include <stdatomic.h>
#include <sys/prctl.h>
#include <sys/resource.h>

struct spawn {
    pthread_t thread;
    int ends[2];
    pid_t tid, child;
    double start, seconds;
};

static pthread_barrier_t made, go;
static atomic_int reading;

static void *run(void *data)
{
    struct spawn *spawn = data;
    char byte;
    if (pipe2(spawn->ends, O_CLOEXEC))
        die("pipe2");
    spawn->tid = gettid();
    pthread_barrier_wait(&made);
    pthread_barrier_wait(&go);
    pid_t child = fork_true();
    spawn->child = child;
    close(spawn->ends[1]);
    spawn->start = now();
    reading++;
    while (read(spawn->ends[0], &byte, 1) < 0 && errno == EINTR)
        ;
    spawn->seconds = now() - spawn->start;
    close(spawn->ends[0]);
    return NULL;
}

static void stay_until(void *end)
{
    prctl(PR_SET_NAME, "worker");
    await(end);
}

int main(int argc, char **argv)
{
    int threads = argc > 2 ? atoi(argv[1]) : 0;
    double seconds = argc > 2 ? atof(argv[2]) : 0;
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    if (threads < 1 || setrlimit(RLIMIT_NOFILE, &files) || (long)files.rlim_cur < 2 * threads + 20)
        die("more threads than there may be files");
    struct spawn *spawns = calloc(threads, sizeof *spawns);
    sem_t *end = shared(sizeof *end);
    sem_init(end, 1, 0);
    pthread_barrier_init(&made, NULL, threads + 1);
    pthread_barrier_init(&go, NULL, threads + 1);
    pthread_attr_t small;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 64 << 10);
    for (int i = 0; i < threads; i++)
        if (pthread_create(&spawns[i].thread, &small, run, &spawns[i]))
            die("pthread_create");
    pthread_barrier_wait(&made);
    pid_t worker = fork_beside(stay_until, end);
    pthread_barrier_wait(&go);
    while (reading < threads)
        rest(0.001);
    for (int i = 0; i < threads; i++)
        await_end(spawns[i].child);
    rest(seconds);
    sem_post(end);
    for (int i = 0; i < threads; i++)
        pthread_join(spawns[i].thread, NULL);
    printf("{\"kind\": \"worker\", \"pid\": %d}\n", worker);
    for (int i = 0; i < threads; i++)
        printf("{\"kind\": \"spawn\", \"pid\": %d, \"tid\": %d, \"child\": %d, \"worker\": %d, \"start\": %.6f, "
               "\"seconds\": %.6f}\n",
               getpid(), spawns[i].tid, spawns[i].child, worker, spawns[i].start, spawns[i].seconds);
    printf("{\"kind\": \"done\", \"spawns\": %d}\n", threads);
    return 0;
}
