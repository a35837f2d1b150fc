/*
 * Causes stalls of cause `forked` at a steady rate: a process that another thread forks right
 * before the spawner's own fork holds the errpipe for a while and does not exec.
 *
 *     stalls SECONDS RATE LIVE_MS
 */
#include "spawn.h"
#include <pthread.h>
#include <semaphore.h>

static sem_t wanted, forked;
static long live_ms;
static pid_t holder;

static void *forker(void *unused)
{
    (void)unused;
    for (;;) {
        sem_wait(&wanted);
        holder = fork();
        if (holder < 0)
            die("fork");
        if (holder == 0) {
            usleep(live_ms * 1000);
            _exit(0);
        }
        sem_post(&forked);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    pthread_t other;
    long count = 0;

    if (argc != 4)
        return 2;
    double began = now(), end = began + atof(argv[1]), rate = atof(argv[2]);
    live_ms = atol(argv[3]);
    if (sem_init(&wanted, 0, 0) || sem_init(&forked, 0, 0) || pthread_create(&other, NULL, forker, NULL))
        die("pthread_create");
    for (; began + count / rate < end; count++) {
        int ends[2];
        sleep_until(began + count / rate);
        if (pipe2(ends, O_CLOEXEC))
            die("pipe2");
        sem_post(&wanted);
        sem_wait(&forked);
        pid_t child = fork();
        if (child == 0)
            exec_true(0);
        finish_spawn(ends, child);
        waitpid(holder, NULL, 0);
    }
    printf("{\"stalls\": %ld, \"rate\": %.3f}\n", count, count / (now() - began));
}
