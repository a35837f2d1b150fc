/* One spawn with an innocent holder, which releases its copy early, and a guilty process behind the rest of the wait.
 *
 *     blame HOW [OWN_SECONDS] [SECONDS]
 *
 * The innocent process is forked by another thread; it releases its copy OWN_SECONDS after the own child has ended. The
 * guilty one is older than the errpipe, takes a copy and keeps it for SECONDS; or it stops the parent. HOW:
 *   reopen      it opens the pipe again through /proc/PID/fd
 *   getfd       pidfd_getfd
 *   socket      it receives a copy
 *   in-flight   the same, but the copy remains in the socket: no process has it
 *   late-*      one of these after the own child's exec; otherwise it happens before its fork
 *   int80       getfd, and the innocent process closes its copy by a 32-bit system call, and lives on
 *   stop        no copy: it stops the parent before the innocent process releases its copy
 * Prints the spawn: "seconds" is how long the read took, "own_seconds" how much of it the innocent one had a copy. */
#include "play.h"
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

struct scene {
    sem_t take, taken, began, over; /* guilty: take; parent: taken; both: the own child has ended; end */
    pid_t parent;
    int write_end;
    double let_go;
};

static struct scene *scene;
static const char *how;
static double own_seconds = 0.8, all_seconds = 2.4;
static int sockets[2], is_late;

static long close_by_int80(int fd)
{
    long result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(6L), "b"((long)fd) : "memory", "r8", "r9", "r10", "r11");
    return result;
}

static void be_innocent(void *unused)
{
    (void)unused;
    prctl(PR_SET_NAME, "innocent");
    await(&scene->began);
    rest(own_seconds);
    scene->let_go = now();
    if (!strcmp(how, "int80")) {
        if (close_by_int80(scene->write_end))
            _exit(1);
        await(&scene->over);
    }
}

static void send_copy(int fd)
{
    char byte = 0, control[CMSG_SPACE(sizeof fd)] = {0};
    struct iovec data = {&byte, 1};
    struct msghdr message = {
        .msg_iov = &data, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(header), &fd, sizeof fd);
    if (sendmsg(sockets[1], &message, 0) != 1)
        die("sendmsg");
}

static void receive_copy(void)
{
    char byte, control[64];
    struct iovec data = {&byte, 1};
    struct msghdr message = {
        .msg_iov = &data, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    if (recvmsg(sockets[0], &message, 0) != 1)
        die("recvmsg");
}

static void be_guilty(void)
{
    prctl(PR_SET_NAME, "guilty");
    close(sockets[1]);
    await(&scene->take);
    if (!strcmp(how, "reopen")) {
        char path[64];
        snprintf(path, sizeof path, "/proc/%d/fd/%d", scene->parent, scene->write_end);
        if (open(path, O_WRONLY | O_CLOEXEC) < 0)
            die(path);
    } else if (!strcmp(how, "getfd") || !strcmp(how, "int80")) {
        int parent = syscall(SYS_pidfd_open, scene->parent, 0);
        if (syscall(SYS_pidfd_getfd, parent, scene->write_end, 0) < 0)
            die("pidfd_getfd");
        close(parent);
    } else if (!strcmp(how, "socket")) {
        receive_copy();
    }
    sem_post(&scene->taken);
    await(&scene->began);
    if (!strcmp(how, "stop")) {
        rest(own_seconds / 2);
        kill(scene->parent, SIGSTOP);
        rest(all_seconds - own_seconds / 2);
        kill(scene->parent, SIGCONT);
    } else {
        rest(all_seconds);
    }
    _exit(0); /* a copy in flight is released with the last end of its socket */
}

static void let_guilty_take(void)
{
    if (!strcmp(how, "socket") || !strcmp(how, "in-flight"))
        send_copy(scene->write_end);
    close(sockets[1]);
    sem_post(&scene->take);
    await(&scene->taken);
}

/* Notifies both when the own child has ended, which is after its exec. */
static void *tell(void *child)
{
    await_end(*(pid_t *)child);
    sem_post(&scene->began);
    sem_post(&scene->began);
    return NULL;
}

int main(int argc, char **argv)
{
    if (argc < 2)
        return 2;
    is_late = !strncmp(argv[1], "late-", 5);
    how = argv[1] + (is_late ? 5 : 0);
    if (argc > 2)
        own_seconds = atof(argv[2]);
    if (argc > 3)
        all_seconds = atof(argv[3]);
    scene = shared(sizeof *scene);
    scene->parent = getpid();
    sem_t *semaphores[] = {&scene->take, &scene->taken, &scene->began, &scene->over};
    for (int i = 0; i < 4; i++)
        sem_init(semaphores[i], 1, 0);
    if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, sockets))
        die("socketpair");
    pid_t guilty = fork();
    if (guilty == 0)
        be_guilty();
    close(sockets[0]);
    int ends[2];
    char byte;
    if (guilty < 0 || pipe2(ends, O_CLOEXEC))
        die("pipe2");
    scene->write_end = ends[1];
    pid_t innocent = fork_beside(be_innocent, NULL);
    if (!is_late)
        let_guilty_take();
    pid_t child = fork_true();
    if (is_late) {
        await_end(child);
        let_guilty_take();
    }
    close(ends[1]);
    pthread_t teller;
    if (pthread_create(&teller, NULL, tell, &child))
        die("pthread_create");
    double began = now();
    while (read(ends[0], &byte, 1) < 0 && errno == EINTR)
        ;
    double seconds = now() - began;
    sem_post(&scene->over);
    pthread_join(teller, NULL);
    printf("{\"kind\": \"spawn\", \"pid\": %d, \"tid\": %d, \"child\": %d, \"innocent\": %d, \"guilty\": %d, "
           "\"start\": %.6f, \"seconds\": %.6f, \"own_seconds\": %.6f}\n",
           getpid(), gettid(), child, innocent, guilty, began, seconds, scene->let_go - began);
    fflush(stdout);
    while (wait(NULL) > 0)
        ;
    return 0;
}
