/* One spawn beside a worker that holds its errpipe, in the way of some runtime.
 *
 *     errpipe_ways [--order DED] [--move parent|child] [--start fork|vfork|double] [--wait read|poll|epoll|select|
 *                  poll-first|thread] [--slow SECONDS] [--hold SECONDS]
 *
 * order: the order in which the pipes are created: E the errpipe, D a data pipe (standard output, input and error, in
 * turn). move: the process that moves the errpipe's write end to another fd: the parent before its fork, the child (to
 * 3, where it sets close-on-exec again) before its exec. start: `double` has an intermediate child, which exits. wait:
 * how the parent waits for end-of-file; all but `read`, `thread` and `poll-first` after a read that returned EAGAIN;
 * `thread` reads in another thread. slow: the own child waits SECONDS before its exec. hold: how long the worker
 * lives. Prints the spawn; "seconds" is from the start of the wait to the end-of-file. */
#include "play.h"
#include <getopt.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/select.h>

static const char *order = "E", *move = "", *start = "fork", *way = "read";
static double slow, hold = 1.6;
static int errpipe[2], data[3][2], data_pipes;
static pid_t *grandchild;

static int is(const char *option, const char *value) { return !strcmp(option, value); }

static void make_pipes(void)
{
    for (const char *which = order; *which; which++) {
        int *ends = *which == 'E' ? errpipe : data[data_pipes++];
        if (pipe2(ends, O_CLOEXEC))
            die("pipe2");
    }
    if (is(move, "parent")) {
        int moved = fcntl(errpipe[1], F_DUPFD_CLOEXEC, 50);
        if (moved < 0 || close(errpipe[1]))
            die("move");
        errpipe[1] = moved;
    }
}

static void run_child(void)
{
    static const int ends[] = {1, 0, 1}, fds[] = {1, 0, 2};
    for (int i = 0; i < data_pipes; i++)
        dup2(data[i][ends[i]], fds[i]);
    if (is(move, "child")) {
        dup2(errpipe[1], 3);
        fcntl(3, F_SETFD, FD_CLOEXEC);
        close_range(4, ~0U, 0);
        errpipe[1] = 3;
    }
    if (slow)
        rest(slow);
    execl("/bin/true", "true", NULL);
    if (write(errpipe[1], &errno, sizeof errno) < 0)
        _exit(126);
    _exit(127);
}

/* Returns the own child, the process that calls exec. */
static pid_t start_child(void)
{
    pid_t child = is(start, "vfork") ? vfork() : fork();
    if (child < 0)
        die("fork");
    if (child > 0) {
        if (!is(start, "double"))
            return child;
        if (waitpid(child, NULL, 0) < 0)
            die("waitpid");
        return *grandchild;
    }
    if (is(start, "double")) {
        pid_t own = fork();
        if (own) {
            *grandchild = own;
            _exit(own < 0);
        }
    }
    run_child();
    return -1;
}

static void wait_once(void)
{
    struct pollfd poller = {.fd = errpipe[0], .events = POLLIN};
    if (is(way, "select")) {
        fd_set readable;
        FD_ZERO(&readable);
        FD_SET(errpipe[0], &readable);
        select(errpipe[0] + 1, &readable, NULL, NULL, NULL);
    } else if (is(way, "epoll")) { /* an event loop with other work ten times a second */
        struct epoll_event event = {.events = EPOLLIN};
        int loop = epoll_create1(EPOLL_CLOEXEC);
        if (loop < 0 || epoll_ctl(loop, EPOLL_CTL_ADD, errpipe[0], &event))
            die("epoll");
        while (epoll_wait(loop, &event, 1, 100) == 0)
            ;
        close(loop);
    } else {
        poll(&poller, 1, -1);
    }
}

static void *await_eof(void *unused)
{
    int number;
    if (is(way, "read") || is(way, "thread")) {
        while (read(errpipe[0], &number, sizeof number) < 0 && errno == EINTR)
            ;
        return unused;
    }
    fcntl(errpipe[0], F_SETFL, O_NONBLOCK);
    if (!is(way, "poll-first") && (read(errpipe[0], &number, sizeof number) != -1 || errno != EAGAIN))
        die("the first read had no EAGAIN");
    do
        wait_once();
    while (read(errpipe[0], &number, sizeof number) < 0 && (errno == EAGAIN || errno == EINTR));
    return unused;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"order", 1, NULL, 'o'}, {"move", 1, NULL, 'm'}, {"start", 1, NULL, 's'},
                                            {"wait", 1, NULL, 'w'},  {"slow", 1, NULL, 'l'}, {"hold", 1, NULL, 'h'},
                                            {NULL, 0, NULL, 0}};
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;)
        switch (option) {
        case 'o':
            order = optarg;
            break;
        case 'm':
            move = optarg;
            break;
        case 's':
            start = optarg;
            break;
        case 'w':
            way = optarg;
            break;
        case 'l':
            slow = atof(optarg);
            break;
        case 'h':
            hold = atof(optarg);
            break;
        default:
            return 2;
        }
    grandchild = shared(sizeof *grandchild);
    make_pipes();
    pid_t worker = fork_beside(keep, &hold);
    pid_t child = start_child();
    close(errpipe[1]);
    static const int not_ours[] = {1, 0, 1};
    for (int i = 0; i < data_pipes; i++)
        close(data[i][not_ours[i]]);
    double began = now();
    pthread_t reader;
    if (!is(way, "thread"))
        await_eof(NULL);
    else if (pthread_create(&reader, NULL, await_eof, NULL) || pthread_join(reader, NULL))
        die("pthread");
    double seconds = now() - began;
    char byte;
    for (int i = 0; i < data_pipes; i++)
        if (not_ours[i] == 1 && read(data[i][0], &byte, 1) > 0)
            die("data");
    printf("{\"kind\": \"spawn\", \"pid\": %d, \"tid\": %d, \"child\": %d, \"worker\": %d, \"start\": %.6f, "
           "\"seconds\": %.6f, \"slow\": %.3f}\n",
           getpid(), gettid(), child, worker, began, seconds, slow);
    fflush(stdout);
    while (wait(NULL) > 0)
        ;
    return 0;
}
