/* Many spawns in flight at once, in several processes.
 *
 *     in_flight PROCESSES THREADS
 *
 * Every thread of every process creates an errpipe and calls vfork. When all children exist, they call exec. Prints the
 * number of spawns whose read has ended. */
#include "play.h"
#include <stdatomic.h>

static atomic_int *forked, *ended;
static sem_t *go;
static int all, threads;

static void *run(void *unused)
{
    int ends[2];
    char byte;
    if (pipe2(ends, O_CLOEXEC))
        die("pipe2");
    pid_t child = vfork();
    if (child == 0) {
        if (++*forked == all)
            sem_post(go);
        await(go);
        sem_post(go);
        execl("/bin/true", "true", NULL);
        _exit(127);
    }
    if (child < 0)
        die("vfork");
    close(ends[1]);
    while (read(ends[0], &byte, 1) < 0 && errno == EINTR)
        ;
    ++*ended;
    close(ends[0]);
    if (waitpid(child, NULL, 0) != child)
        die("waitpid");
    return unused;
}

static void run_threads(void)
{
    pthread_t *ids = calloc(threads, sizeof *ids);
    pthread_attr_t small;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 64 << 10);
    for (int i = 0; i < threads; i++)
        if (pthread_create(&ids[i], &small, run, NULL))
            die("pthread_create");
    for (int i = 0; i < threads; i++)
        pthread_join(ids[i], NULL);
}

int main(int argc, char **argv)
{
    int processes = argc > 2 ? atoi(argv[1]) : 0;
    threads = argc > 2 ? atoi(argv[2]) : 0;
    if (processes < 1 || threads < 1)
        die("usage: in_flight PROCESSES THREADS");
    all = processes * threads;
    forked = shared(sizeof *forked);
    ended = shared(sizeof *ended);
    go = shared(sizeof *go);
    sem_init(go, 1, 0);
    for (int i = 0; i < processes; i++) {
        pid_t child = fork();
        if (child < 0)
            die("fork");
        if (child == 0) {
            run_threads();
            _exit(0);
        }
    }
    while (wait(NULL) > 0 || errno == EINTR)
        ;
    printf("%d\n", *ended);
    return 0;
}
