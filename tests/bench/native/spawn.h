/* One spawn as the runtimes do it, shared by these programs. */
#include "../../programs/play.h"
#include <spawn.h>

static char *const true_argv[] = {"/bin/true", NULL};

static inline void exec_true(long delay_us)
{
    if (delay_us)
        usleep(delay_us);
    execve(true_argv[0], true_argv, environ);
    _exit(127);
}

/* The rest of a spawn, after the fork: the parent's close, the read, the wait. */
static inline void finish_spawn(int ends[2], pid_t child)
{
    char byte;

    if (child < 0)
        die("fork");
    close(ends[1]);
    while (read(ends[0], &byte, 1) < 0 && errno == EINTR)
        ;
    close(ends[0]);
    if (waitpid(child, NULL, 0) < 0)
        die("waitpid");
}
