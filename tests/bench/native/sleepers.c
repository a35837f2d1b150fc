/*
 * Idle processes, each with some open pipes; they end with this one, which ends at end-of-file of
 * its standard input.
 *
 *     sleepers PROCESSES PIPES
 */
#include "spawn.h"
#include <signal.h>
#include <sys/prctl.h>

int main(int argc, char **argv)
{
    char byte;
    int ends[2];

    if (argc != 3)
        return 2;
    for (long process = atol(argv[1]); process > 0; process--) {
        pid_t child = fork();
        if (child < 0)
            die("fork");
        if (child == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            for (long pipes = atol(argv[2]); pipes > 0; pipes--)
                if (pipe(ends))
                    die("pipe");
            for (;;)
                pause();
        }
    }
    puts("ready");
    fflush(stdout);
    return read(0, &byte, 1) < 0;
}
