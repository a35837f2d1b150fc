/* GLib's g_spawn_async with defaults: an errpipe, a second pipe for the pid, and an intermediate child.
 *
 * A pthread_atfork handler makes another thread fork a worker when GLib is about to fork. Needs GLib's library, not
 * its headers. Prints the spawn. */
#include "play.h"

extern int g_spawn_async(const char *folder, char **arguments, char **environment, int flags, void (*setup)(void *),
                         void *with, pid_t *child, void **error);

static pid_t worker;
static double hold = 1.6;

static void fork_worker_once(void)
{
    if (!worker)
        worker = fork_beside(keep, &hold);
}

/* With a setup function GLib forks; without one it may use posix_spawn. */
static void nothing(void *unused) { (void)unused; }

int main(int argc, char **argv)
{
    char *arguments[] = {"/bin/true", NULL};
    pid_t child = 0;
    if (argc > 1)
        hold = atof(argv[1]);
    pthread_atfork(fork_worker_once, NULL, NULL);
    double began = now();
    if (!g_spawn_async(NULL, arguments, NULL, 0, nothing, NULL, &child, NULL))
        die("g_spawn_async");
    double seconds = now() - began;
    printf("{\"kind\": \"spawn\", \"pid\": %d, \"tid\": %d, \"child\": %d, \"worker\": %d, \"start\": %.6f, "
           "\"seconds\": %.6f, \"slow\": 0}\n",
           getpid(), gettid(), child, worker, began, seconds);
    fflush(stdout);
    while (wait(NULL) > 0)
        ;
    return 0;
}
