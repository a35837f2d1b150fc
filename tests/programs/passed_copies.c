/* Many stalls at once by one process that was given its copies over a socket, so that no probe has seen it get them.
 *
 *     passed_copies PROCESSES THREADS SECONDS
 *
 * Every thread of every process creates an errpipe, forks a child that calls exec, passes its write end to the holder and
 * reads. Prints the pid of the holder when it has all copies; it exits after that many seconds. */
#include "play.h"
#include <sys/prctl.h>
#include <sys/socket.h>

static int passing[2];
/* One at a time: a child inherits no pipe of another thread. */
static pthread_mutex_t starting = PTHREAD_MUTEX_INITIALIZER;

union control {
    struct cmsghdr header;
    char bytes[CMSG_SPACE(sizeof(int))];
};

static void pass(int fd)
{
    char byte = 0;
    union control control = {0};
    struct iovec part = {&byte, 1};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
    control.header =
        (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof(fd)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
    memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
    if (sendmsg(passing[1], &message, 0) != 1)
        die("sendmsg");
}

static void receive(void)
{
    char byte;
    union control control;
    struct iovec part = {&byte, 1};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
    if (recvmsg(passing[0], &message, 0) != 1)
        die("recvmsg");
}

static void *stall(void *unused)
{
    int ends[2];
    char byte;
    pthread_mutex_lock(&starting);
    if (pipe2(ends, O_CLOEXEC))
        die("pipe2");
    fork_true();
    pass(ends[1]);
    close(ends[1]);
    pthread_mutex_unlock(&starting);
    while (read(ends[0], &byte, 1) < 0 && errno == EINTR)
        ;
    return unused;
}

int main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    int processes = atoi(argv[1]), threads = atoi(argv[2]), seconds = atoi(argv[3]);
    pthread_t started[threads];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, passing))
        die("socketpair");
    pid_t holder = fork();
    if (holder == 0) {
        prctl(PR_SET_NAME, "receiver");
        for (int copy = 0; copy < processes * threads; copy++)
            receive();
        printf("%d\n", getpid());
        fflush(stdout);
        sleep(seconds);
        _exit(0);
    }
    for (int process = 0; process < processes; process++) {
        if (fork() == 0) {
            close(passing[0]);
            for (int thread = 0; thread < threads; thread++)
                if (pthread_create(&started[thread], NULL, stall, NULL))
                    die("pthread_create");
            for (int thread = 0; thread < threads; thread++)
                pthread_join(started[thread], NULL);
            _exit(0);
        }
    }
    close(passing[0]);
    close(passing[1]);
    while (wait(NULL) > 0)
        ;
    return 0;
}
