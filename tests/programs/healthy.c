/* Healthy programs in C that wait in a read for a second or two by design: none of them stalls.
 *
 *     healthy NAME     one of the table at the end */
#include "play.h"
#include <spawn.h>

extern char **environ;

static const double seconds = 1.5;
static char *const true_command[] = {"true", NULL}, *const say_command[] = {"printf", "hello", NULL},
                   *const slow_command[] = {"sh", "-c", "cat; sleep 1.5; echo done", NULL},
                   *const sleep_command[] = {"sleep", "1.5", NULL};

static void make_pipe(int ends[2], int flags)
{
    if (pipe2(ends, flags))
        die("pipe2");
}

static void run(char *const command[])
{
    execvp(command[0], command);
    _exit(127);
}

static pid_t spawn(char *const command[], posix_spawn_file_actions_t *actions)
{
    pid_t child;
    if (posix_spawnp(&child, command[0], actions, NULL, command, environ))
        die("posix_spawnp");
    return child;
}

static void read_to_the_end(int fd)
{
    char bytes[100];
    while (read(fd, bytes, sizeof bytes) > 0)
        ;
}

static void reap(void)
{
    while (wait(NULL) > 0)
        ;
}

/* A worker that does not exec, and writes one byte after a while. */
static void fork_writer(int fd)
{
    if (fork() == 0) {
        rest(seconds);
        _exit(write(fd, "x", 1) != 1);
    }
}

/* a | b, with b's output read: both pipes are created first, and the parent's ends closed last. */
static void pipeline(int by_fork)
{
    int first[2], second[2];
    make_pipe(first, O_CLOEXEC);
    make_pipe(second, O_CLOEXEC);
    if (by_fork) {
        if (fork() == 0) {
            dup2(first[1], 1);
            run(say_command);
        }
        if (fork() == 0) {
            dup2(first[0], 0);
            dup2(second[1], 1);
            run(slow_command);
        }
    } else {
        posix_spawn_file_actions_t a, b;
        posix_spawn_file_actions_init(&a);
        posix_spawn_file_actions_adddup2(&a, first[1], 1);
        posix_spawn_file_actions_init(&b);
        posix_spawn_file_actions_adddup2(&b, first[0], 0);
        posix_spawn_file_actions_adddup2(&b, second[1], 1);
        spawn(say_command, &a);
        spawn(slow_command, &b);
    }
    close(first[0]);
    close(first[1]);
    close(second[1]);
    read_to_the_end(second[0]);
}

static void pipeline_by_posix_spawn(void) { pipeline(0); }

static void pipeline_by_fork(void) { pipeline(1); }

/* The same, but a writes nothing and the last stage is started first. */
static void pipeline_backwards(void)
{
    int first[2], second[2];
    make_pipe(second, O_CLOEXEC);
    make_pipe(first, O_CLOEXEC);
    if (fork() == 0) {
        dup2(first[0], 0);
        dup2(second[1], 1);
        run(slow_command);
    }
    if (fork() == 0) {
        dup2(first[1], 1);
        run(true_command);
    }
    close(first[0]);
    close(first[1]);
    close(second[1]);
    read_to_the_end(second[0]);
}

/* A launcher waits for its daemon's "ready"; the intermediate process exits. */
static void launch(int flags)
{
    int ready[2];
    char byte;
    make_pipe(ready, flags);
    pid_t middle = fork();
    if (middle == 0) {
        setsid();
        if (fork() == 0) {
            close(ready[0]);
            rest(seconds);
            _exit(write(ready[1], "x", 1) != 1);
        }
        _exit(0);
    }
    close(ready[1]);
    waitpid(middle, NULL, 0);
    if (read(ready[0], &byte, 1) != 1)
        die("read");
}

static void daemon_readiness(void) { launch(0); }

static void daemon_readiness_close_on_exec(void) { launch(O_CLOEXEC); }

/* The daemon closes its end when it is ready, and writes nothing. */
static void daemon_readiness_by_eof(void)
{
    int ready[2];
    make_pipe(ready, O_CLOEXEC);
    pid_t middle = fork();
    if (middle == 0) {
        if (fork() == 0) {
            rest(seconds);
            close(ready[1]);
            rest(0.2);
        }
        _exit(0);
    }
    close(ready[1]);
    waitpid(middle, NULL, 0);
    read_to_the_end(ready[0]);
}

/* A worker's pipe, older than a program that is started without a pipe. */
static void worker_after_system(void)
{
    int answer[2];
    make_pipe(answer, O_CLOEXEC);
    if (system("true"))
        die("system");
    fork_writer(answer[1]);
    close(answer[1]);
    read_to_the_end(answer[0]);
}

static void worker_after_vfork(void)
{
    int answer[2];
    make_pipe(answer, O_CLOEXEC);
    if (vfork() == 0)
        run(true_command);
    fork_writer(answer[1]);
    close(answer[1]);
    read_to_the_end(answer[0]);
}

static void worker_after_fork(void)
{
    int answer[2];
    make_pipe(answer, O_CLOEXEC);
    if (fork() == 0)
        run(true_command);
    fork_writer(answer[1]);
    close(answer[1]);
    read_to_the_end(answer[0]);
}

static void worker_after_popen(void)
{
    int answer[2];
    make_pipe(answer, O_CLOEXEC);
    FILE *output = popen("echo", "re");
    fork_writer(answer[1]);
    close(answer[1]);
    read_to_the_end(answer[0]);
    pclose(output);
}

/* End-of-file means that the last of several programs has ended: all of them have the pipe on purpose. */
static void end_of_all_programs(void)
{
    int alive[2];
    make_pipe(alive, 0);
    if (fork() == 0)
        run(true_command);
    for (int i = 0; i < 2; i++)
        if (fork() == 0)
            run(sleep_command);
    close(alive[1]);
    read_to_the_end(alive[0]);
}

/* The same, but it is close-on-exec in the first: the parent waits only for the others. */
static void end_of_some_programs(void)
{
    int alive[2];
    make_pipe(alive, O_CLOEXEC);
    if (fork() == 0)
        run(true_command);
    for (int i = 0; i < 2; i++)
        if (fork() == 0) {
            fcntl(alive[1], F_SETFD, 0);
            run(sleep_command);
        }
    close(alive[1]);
    read_to_the_end(alive[0]);
}

/* The child's copy moves to another fd, and survives the exec there. */
static void status_fd(void)
{
    static char *const command[] = {"sh", "-c", "sleep 1.5; echo done >&9", NULL};
    int status[2];
    make_pipe(status, O_CLOEXEC);
    if (fork() == 0) {
        dup2(status[1], 9);
        run(command);
    }
    close(status[1]);
    read_to_the_end(status[0]);
}

/* The second program receives it, at the same fd or another one. */
static void hand_on(int number)
{
    int answer[2];
    posix_spawn_file_actions_t actions;
    make_pipe(answer, O_CLOEXEC);
    spawn(true_command, NULL);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, answer[1], number < 0 ? answer[1] : number);
    spawn(sleep_command, &actions);
    close(answer[1]);
    read_to_the_end(answer[0]);
}

static void handed_on_at_the_same_number(void) { hand_on(-1); }

static void handed_on_at_another_number(void) { hand_on(9); }

/* The child's standard error, which its own children have too. */
static void error_output(void)
{
    static char *const command[] = {"sh", "-c", "sleep 1.5 & sleep 0.2; wait", NULL};
    int errors[2];
    make_pipe(errors, O_CLOEXEC);
    if (fork() == 0) {
        dup2(errors[1], 2);
        run(command);
    }
    close(errors[1]);
    read_to_the_end(errors[0]);
}

/* Both streams of a program: the pipe that was created last is its input. */
static void both_streams(void)
{
    static char *const command[] = {"sh", "-c", "sleep 1.5; cat", NULL};
    int input[2], output[2];
    make_pipe(output, O_CLOEXEC);
    make_pipe(input, O_CLOEXEC);
    if (fork() == 0) {
        dup2(input[0], 0);
        dup2(output[1], 1);
        run(command);
    }
    close(input[0]);
    close(output[1]);
    if (write(input[1], "x", 1) != 1)
        die("write");
    close(input[1]);
    read_to_the_end(output[0]);
}

static void *call_system(void *unused)
{
    if (system("true"))
        die("system");
    return unused;
}

/* While the worker runs, another thread starts a program, before the parent closes its end. */
static void system_of_another_thread(void)
{
    int answer[2];
    pthread_t other;
    make_pipe(answer, O_CLOEXEC);
    fork_writer(answer[1]);
    if (pthread_create(&other, NULL, call_system, NULL) || pthread_join(other, NULL))
        die("pthread");
    close(answer[1]);
    read_to_the_end(answer[0]);
}

static const struct {
    const char *name;
    void (*plays)(void);
} cases[] = {
    {"pipeline_by_posix_spawn", pipeline_by_posix_spawn},
    {"pipeline_by_fork", pipeline_by_fork},
    {"pipeline_backwards", pipeline_backwards},
    {"daemon_readiness", daemon_readiness},
    {"daemon_readiness_close_on_exec", daemon_readiness_close_on_exec},
    {"daemon_readiness_by_eof", daemon_readiness_by_eof},
    {"worker_after_system", worker_after_system},
    {"worker_after_vfork", worker_after_vfork},
    {"worker_after_fork", worker_after_fork},
    {"worker_after_popen", worker_after_popen},
    {"end_of_all_programs", end_of_all_programs},
    {"end_of_some_programs", end_of_some_programs},
    {"status_fd", status_fd},
    {"handed_on_at_the_same_number", handed_on_at_the_same_number},
    {"handed_on_at_another_number", handed_on_at_another_number},
    {"error_output", error_output},
    {"both_streams", both_streams},
    {"system_of_another_thread", system_of_another_thread},
};

int main(int argc, char **argv)
{
    for (size_t i = 0; argc > 1 && i < sizeof cases / sizeof *cases; i++)
        if (!strcmp(argv[1], cases[i].name)) {
            cases[i].plays();
            reap();
            return 0;
        }
    return 2;
}
