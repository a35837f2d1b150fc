/* The steps of Go's spawns, each by any thread, because its scheduler moves goroutines between threads.
 *
 *     goroutines STEP...     STEP: THREAD ACTION SPAWN, as in: 0p0 1f0 0p1 0f1 1c0 0c1
 *
 * p creates an errpipe, f starts true by posix_spawn (also a vfork), c closes the write end and reads. Prints the
 * child of each spawn. */
#include "play.h"
#include <spawn.h>

#define SPAWNS 8

extern char **environ;

static int pipes[SPAWNS][2];
static pid_t children[SPAWNS];

struct thread {
    sem_t begin, done;
    char action;
    int spawn;
};

static void act(char action, int spawn)
{
    static char *const command[] = {"true", NULL};
    char byte;
    if (action == 'p' && pipe2(pipes[spawn], O_CLOEXEC))
        die("pipe2");
    if (action == 'f' && posix_spawnp(&children[spawn], command[0], NULL, NULL, command, environ))
        die("posix_spawnp");
    if (action == 'c') {
        close(pipes[spawn][1]);
        if (read(pipes[spawn][0], &byte, 1))
            die("read");
        close(pipes[spawn][0]);
        printf("{\"kind\": \"spawn\", \"pid\": %d, \"child\": %d}\n", getpid(), children[spawn]);
    }
}

static void *run(void *data)
{
    struct thread *thread = data;
    for (;;) {
        await(&thread->begin);
        act(thread->action, thread->spawn);
        sem_post(&thread->done);
    }
    return NULL;
}

int main(int count, char **steps)
{
    static struct thread threads[SPAWNS];
    for (int n = 0; n < SPAWNS; n++) {
        pthread_t id;
        sem_init(&threads[n].begin, 0, 0);
        sem_init(&threads[n].done, 0, 0);
        if (pthread_create(&id, NULL, run, &threads[n]))
            die("pthread_create");
    }
    for (int n = 1; n < count; n++) {
        struct thread *thread = &threads[steps[n][0] - '0'];
        thread->action = steps[n][1];
        thread->spawn = steps[n][2] - '0';
        sem_post(&thread->begin);
        await(&thread->done);
    }
    while (wait(NULL) > 0)
        ;
    return 0;
}
