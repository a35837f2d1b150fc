/*
 * c_spawn [--count 3] [--program /bin/true] [--by posix_spawn|popen|system]: of glibc, which have no errpipe.
 *
 * popen's time includes reading its output to the end: a data pipe, which a foreign holder also keeps open.
 *
 *     gcc -O2 -Wall -Wextra -o c_spawn c_spawn.c
 */
#define _GNU_SOURCE
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const char *option(int argc, char **argv, const char *name, const char *otherwise)
{
    for (int at = 1; at + 1 < argc; at++)
        if (!strcmp(argv[at], name))
            return argv[at + 1];
    return otherwise;
}

static double monotonic(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
    int count = atoi(option(argc, argv, "--count", "3"));
    const char *program = option(argc, argv, "--program", "/bin/true");
    const char *by = option(argc, argv, "--by", "posix_spawn");
    char *const arguments[] = {(char *)program, NULL};

    for (int at = 0; at < count; at++) {
        pid_t child = 0;
        int failed = 0;
        double start = monotonic();
        if (!strcmp(by, "posix_spawn")) {
            failed = posix_spawn(&child, program, NULL, NULL, arguments, environ) != 0;
        } else if (!strcmp(by, "popen")) {
            char buffer[256];
            FILE *output = popen(program, "r");
            while (output && fread(buffer, 1, sizeof buffer, output) > 0)
                ;
            failed = !output || pclose(output) != 0;
        } else {
            failed = system(program) != 0;
        }
        double seconds = monotonic() - start;
        if (child && !failed)
            waitpid(child, NULL, 0);
        printf("{\"kind\": \"spawn\", \"pid\": %d, \"child\": ", (int)getpid());
        printf(child && !failed ? "%d" : "null", (int)child);
        printf(", \"seconds\": %.9f, \"failed\": %s}\n", seconds, failed ? "true" : "false");
        fflush(stdout);
    }
    printf("{\"kind\": \"done\", \"spawns\": %d}\n", count);
    return 0;
}
