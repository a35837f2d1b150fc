/* Plays random plays, several at once, and records the truth.
 *
 *     player STAGES CGROUP
 *
 * Reads lines "PLAYS TRUTHS" from standard input: a file of struct play, and a file for as many struct truth. Answers
 * each with a line. CGROUP: a folder of cgroup2, below which parents are frozen; without one, "-".
 *
 * A play has a parent, whose threads have the roles 0 to THREADS - 1, and processes with the other roles, which can be
 * parents, too. Each role does its list of acts at given times. A process that calls exec continues its list in the new
 * program. For each act, a process records the time before and after, and which pipes it has write ends of then. Another
 * process, the director, kills, stops and freezes, and records when a process has ended; it never has a copy.
 *
 * Threads create pipes while others fork, and a child of vfork shares the memory of its parent. SLOW, a macro, is the name
 * of threads some of whose tracepoints troupe.py delays. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PIPES     4
#define THREADS   4
#define ROLES     16
#define ACTS      14
#define LOG       16
#define HALTS     6
#define LAST_FD   40
#define SCENE_FD  100
#define BELL_FD   101
#define SOCKET_FD 102
#define LATEST_NS 4000000000ULL

/* tests/theatre/play.py has the same numbers. */
enum kind {
    END,
    PIPE,      /* pipe a */
    FORK,      /* role a */
    READ,      /* pipe a, until its end-of-file; b: waits in poll (gevent) */
    CLOSE,     /* all copies of pipe a */
    DUP,       /* one more copy of pipe a */
    DUP_OVER,  /* another file over each copy of pipe a */
    KEEP,      /* pipe a: its copies are not close-on-exec from now on */
    EXEC,      /* this program again */
    EXEC_FAIL, /* a program that does not exist */
    COMPLAIN,  /* write to pipe a, as an own child whose exec has failed */
    SEND,      /* pipe a, to role b */
    RECEIVE,
    REOPEN, /* pipe a, through the /proc/PID/fd of role b */
    GETFD,  /* pipe a, of role b */
    VFORK,  /* role a */
    BORN,   /* the first entry of a log */
    /* Of the director: */
    KILL, /* role a */
    STOP,
    CONTINUE,
    FREEZE,
    THAW,
};

struct act {
    uint32_t at;              /* microseconds since the beginning of the play */
    uint8_t kind, a, b, slow; /* slow: its tracepoint is delayed (troupe.py) */
};

struct play {
    uint32_t number;
    uint32_t strangers; /* roles that are forked before the parent, as bits */
    struct act acts[ROLES][ACTS];
    struct act director[ACTS];
};

/* An act that a process did. after: 0 if it did not return from it. */
struct entry {
    uint64_t before, after;
    uint8_t kind, has; /* has: the pipes whose write ends it has after it, as bits */
    uint8_t unused[6];
};

struct role {
    int32_t pid;
    uint32_t entries;
    uint64_t killed, ended; /* before the director killed it; when the director knew that it had ended */
    int32_t fds[PIPES];     /* one copy of each pipe, -1: none */
    struct entry log[LOG];
};

struct pipe {
    uint64_t inode;
    uint64_t made; /* before it was made */
    uint64_t closed_before, closed_after, read_before, read_after;
    int32_t read_fd, write_fd;
    int32_t tid;
    int32_t maker; /* the role of the process */
};

/* The parent was stopped or frozen, from before that until it was certain to run again. */
struct halt {
    uint64_t before, stopped, continues, after;
};

struct truth {
    uint32_t number;
    uint32_t was_cut; /* the play did not end in time */
    uint64_t began;
    struct pipe pipes[PIPES];
    struct role roles[ROLES];
    struct halt halts[HALTS];
};

struct scene {
    struct play play;
    struct truth truth;
    pid_t director;
};

static struct scene *scene;
static pthread_mutex_t making = PTHREAD_MUTEX_INITIALIZER;

static void die(const char *what)
{
    perror(what);
    _exit(1);
}

static uint64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000ULL + t.tv_nsec;
}

static void sleep_until(uint64_t when)
{
    struct timespec t = {.tv_sec = when / 1000000000, .tv_nsec = when % 1000000000};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR)
        ;
}

static struct role *role_of(int number) { return &scene->truth.roles[number]; }

/* Names the current thread. */
static void be_slow(int slow) { prctl(PR_SET_NAME, slow ? SLOW : "player"); }

/* ---- the copies of a process ---- */

/* The pipe with this inode, -1: none. */
static int known_pipe(ino_t inode)
{
    for (int number = 0; number < PIPES; number++)
        if (__atomic_load_n(&scene->truth.pipes[number].inode, __ATOMIC_ACQUIRE) == inode)
            return number;
    return -1;
}

/* The pipe that a thread of role 0 creates at this moment, one at a time, -1: none. Its inode is not known yet, and a child
 * can have a copy. (The other processes have one thread.) */
static int new_pipe(void)
{
    for (int number = 0; number < PIPES; number++) {
        struct pipe *pipe = &scene->truth.pipes[number];
        if (__atomic_load_n(&pipe->made, __ATOMIC_ACQUIRE) && !pipe->maker &&
            !__atomic_load_n(&pipe->inode, __ATOMIC_ACQUIRE))
            return number;
    }
    return -1;
}

/* The pipe whose write end this fd of the current process is, -1: none. */
static int pipe_at(int fd)
{
    struct stat status;
    if (fstat(fd, &status) || !S_ISFIFO(status.st_mode) || (fcntl(fd, F_GETFL) & O_ACCMODE) != O_WRONLY)
        return -1;
    for (int tries = 0; tries < 2; tries++) { /* twice: its creation can end meanwhile */
        int known = known_pipe(status.st_ino);
        if (known >= 0)
            return known;
        int made = new_pipe();
        if (made >= 0 && known_pipe(status.st_ino) < 0)
            return made;
    }
    return -1;
}

static uint8_t look_at_fds(struct role *role)
{
    uint8_t has = 0;
    int fds[PIPES];
    memset(fds, -1, sizeof fds);
    for (int fd = 3; fd <= LAST_FD; fd++) {
        int number = pipe_at(fd);
        if (number < 0)
            continue;
        has |= 1 << number;
        fds[number] = fd;
    }
    memcpy(role->fds, fds, sizeof fds);
    return has;
}

static struct entry *begin(struct role *role, int kind)
{
    if (role->entries >= LOG)
        die("a log is full");
    struct entry *entry = &role->log[role->entries];
    *entry = (struct entry){.kind = kind, .before = now()};
    __atomic_store_n(&role->entries, role->entries + 1, __ATOMIC_RELEASE);
    return entry;
}

static void finish(struct role *role, struct entry *entry)
{
    entry->has = look_at_fds(role);
    __atomic_store_n(&entry->after, now(), __ATOMIC_RELEASE);
}

static void for_each_copy(int number, void (*does)(int))
{
    for (int fd = 3; fd <= LAST_FD; fd++)
        if (pipe_at(fd) == number)
            does(fd);
}

static int copy_of(int number)
{
    for (int fd = 3; fd <= LAST_FD; fd++)
        if (pipe_at(fd) == number)
            return fd;
    return -1;
}

static void close_it(int fd) { close(fd); }
static void keep_it(int fd) { fcntl(fd, F_SETFD, 0); }
static void dup_over_it(int fd) { dup3(0, fd, O_CLOEXEC); }

/* ---- passing copies ---- */

static socklen_t address_of(int role, struct sockaddr_un *address)
{
    memset(address, 0, sizeof *address);
    address->sun_family = AF_UNIX;
    return offsetof(struct sockaddr_un, sun_path) + 1 +
           sprintf(address->sun_path + 1, "theatre-%d-%d", scene->director, role);
}

static void open_socket(int role)
{
    struct sockaddr_un address;
    socklen_t length = address_of(role, &address);
    int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, length))
        die("bind");
    struct timeval patience = {.tv_usec = 300000};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    dup3(fd, SOCKET_FD, O_CLOEXEC);
    close(fd);
}

static void send_copy(int fd, int role)
{
    struct sockaddr_un address;
    char byte = 0, control[CMSG_SPACE(sizeof fd)] = {0};
    struct iovec data = {&byte, 1};
    struct msghdr message = {.msg_name = &address,
                             .msg_namelen = address_of(role, &address),
                             .msg_iov = &data,
                             .msg_iovlen = 1,
                             .msg_control = control,
                             .msg_controllen = sizeof control};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(header), &fd, sizeof fd);
    int sender = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    sendmsg(sender, &message, MSG_DONTWAIT);
    close(sender);
}

static void receive_copy(void)
{
    char byte, control[64];
    struct iovec data = {&byte, 1};
    struct msghdr message = {
        .msg_iov = &data, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    recvmsg(SOCKET_FD, &message, MSG_CMSG_CLOEXEC);
}

/* The pid of a role that has a copy of the pipe, and the copy's fd; 0: it has none. */
static pid_t source(int role, int number, int *fd)
{
    *fd = role < THREADS ? scene->truth.pipes[number].write_fd : role_of(role)->fds[number];
    return *fd > 2 ? role_of(role < THREADS ? 0 : role)->pid : 0;
}

static void take_copy(int kind, int number, int role)
{
    int fd = -1, theirs;
    pid_t pid = source(role, number, &theirs);
    if (!pid)
        return;
    if (kind == REOPEN) {
        char path[64];
        snprintf(path, sizeof path, "/proc/%d/fd/%d", pid, theirs);
        fd = open(path, O_WRONLY | O_CLOEXEC | O_NONBLOCK);
    } else {
        int process = syscall(SYS_pidfd_open, pid, 0);
        fd = process < 0 ? -1 : syscall(SYS_pidfd_getfd, process, theirs, 0);
        close(process);
    }
    if (fd >= 0 && pipe_at(fd) < 0) /* at its fd there is another file by now */
        close(fd);
}

/* ---- the parent of an own child ---- */

static void make_pipe(int number, int maker)
{
    struct pipe *pipe = &scene->truth.pipes[number];
    struct stat status;
    int fds[2];
    pipe->maker = maker;
    __atomic_store_n(&pipe->made, now(), __ATOMIC_RELEASE);
    if (pipe2(fds, O_CLOEXEC) || fstat(fds[1], &status))
        die("pipe2");
    pipe->read_fd = fds[0];
    pipe->write_fd = fds[1];
    pipe->tid = gettid();
    __atomic_store_n(&pipe->inode, status.st_ino, __ATOMIC_RELEASE);
}

static void read_pipe(struct pipe *pipe, int polls)
{
    char bytes[64];
    ssize_t length;
    struct pollfd polled = {.fd = pipe->read_fd, .events = POLLIN};
    if (polls)
        fcntl(pipe->read_fd, F_SETFL, O_NONBLOCK);
    pipe->read_before = now();
    for (;;) {
        length = read(pipe->read_fd, bytes, sizeof bytes);
        if (length < 0 && errno == EAGAIN)
            poll(&polled, 1, -1);
        else if (length == 0 || (length < 0 && errno != EINTR))
            break;
    }
    if (length < 0)
        die("read");
    pipe->read_after = now();
    close(pipe->read_fd);
}

static void close_pipe(struct pipe *pipe)
{
    pipe->closed_before = now();
    close(pipe->write_fd);
    pipe->closed_after = now();
    pipe->write_fd = -1;
}

/* ---- acts ---- */

static __attribute__((noreturn)) void be_process(int number, uint32_t next);

static void fork_role(int number, int shares_memory)
{
    role_of(number)->log[0].before = now();
    pid_t pid = shares_memory ? vfork() : _Fork();
    if (pid == 0)
        be_process(number, 0);
    if (pid < 0)
        die("fork");
}

/* slow: by a link whose name becomes that of the process before its tracepoint. */
static void exec_again(int number, uint32_t next, int slow)
{
    char words[3][16], program[256] = "/proc/self/exe";
    if (slow) {
        ssize_t length = readlink("/proc/self/exe", program, sizeof program - sizeof SLOW);
        program[length < 0 ? 0 : length] = 0;
        char *name = strrchr(program, '/');
        strcpy(name ? name + 1 : program, SLOW);
    }
    snprintf(words[0], sizeof words[0], "role-%d", number);
    snprintf(words[1], sizeof words[1], "%d", number);
    snprintf(words[2], sizeof words[2], "%u", next);
    char *argv[] = {words[0], "continue", words[1], words[2], NULL};
    execve(program, argv, (char *[]){NULL});
    die(program);
}

/* What processes do, and the threads of the parent, which have role 0. */
static void act(struct act *it, int role)
{
    struct pipe *pipe = &scene->truth.pipes[it->a % PIPES];
    switch (it->kind) {
    case PIPE:
        make_pipe(it->a, role);
        break;
    case READ:
        read_pipe(pipe, it->b);
        break;
    case FORK:
        fork_role(it->a, 0);
        break;
    case VFORK:
        fork_role(it->a, 1);
        break;
    case CLOSE:
        if (pipe->made && pipe->maker == role && pipe->write_fd >= 0)
            close_pipe(pipe);
        else
            for_each_copy(it->a, close_it);
        break;
    case DUP:
        fcntl(copy_of(it->a), F_DUPFD_CLOEXEC, 3);
        break;
    case DUP_OVER:
        for_each_copy(it->a, dup_over_it);
        break;
    case KEEP:
        for_each_copy(it->a, keep_it);
        break;
    case EXEC_FAIL: {
        char *none[] = {NULL};
        execve("/nowhere", none, none);
        break;
    }
    case COMPLAIN:
        if (write(copy_of(it->a), "OSError:2:", 10) < 0)
            break; /* nobody reads it any more */
        break;
    case SEND:
        send_copy(copy_of(it->a), it->b);
        break;
    case RECEIVE:
        receive_copy();
        break;
    case REOPEN:
    case GETFD:
        take_copy(it->kind, it->a, it->b);
        break;
    }
}

/* Registers the current process, or continues after an exec, with the act number next; then exits. */
static __attribute__((noreturn)) void be_process(int number, uint32_t next)
{
    struct role *role = role_of(number);
    struct act *acts = scene->play.acts[number];
    be_slow(0);
    if (next == 0) {
        for (int k = 0; k < ACTS; k++)
            if (acts[k].kind == RECEIVE) {
                open_socket(number);
                break;
            }
        role->pid = getpid();
        role->log[0].kind = BORN;
        role->entries = 1;
        uint64_t one = 1;
        if (write(BELL_FD, &one, sizeof one) < 0)
            die("write");
    }
    finish(role, &role->log[role->entries - 1]);
    for (; next < ACTS && acts[next].kind != END; next++) {
        sleep_until(scene->truth.began + acts[next].at * 1000ULL);
        struct entry *entry = begin(role, acts[next].kind);
        be_slow(acts[next].slow);
        if (acts[next].kind == EXEC)
            exec_again(number, next + 1, acts[next].slow);
        act(&acts[next], number);
        be_slow(0);
        finish(role, entry);
    }
    if (next < ACTS) {
        sleep_until(scene->truth.began + acts[next].at * 1000ULL);
        be_slow(acts[next].slow);
    }
    begin(role, END);
    _exit(0);
}

/* ---- the parent ---- */

static void *be_thread(void *acts)
{
    for (struct act *it = acts; it < (struct act *)acts + ACTS && it->kind != END; it++) {
        sleep_until(scene->truth.began + it->at * 1000ULL);
        struct pipe *pipe = &scene->truth.pipes[it->a % PIPES];
        be_slow(it->slow);
        if (it->kind == SEND)
            send_copy(pipe->write_fd, it->b);
        else if (it->kind == PIPE) {
            pthread_mutex_lock(&making);
            act(it, 0);
            pthread_mutex_unlock(&making);
        } else
            act(it, 0);
        be_slow(0);
    }
    return NULL;
}

static __attribute__((noreturn)) void be_parent(void)
{
    struct role *role = role_of(0);
    pthread_t threads[THREADS];
    role->pid = getpid();
    uint64_t one = 1;
    if (write(BELL_FD, &one, sizeof one) < 0)
        die("write");
    for (int number = 0; number < THREADS; number++)
        if (pthread_create(&threads[number], NULL, be_thread, scene->play.acts[number]))
            die("pthread_create");
    for (int number = 0; number < THREADS; number++)
        pthread_join(threads[number], NULL);
    _exit(0);
}

/* ---- the director ---- */

static void write_file(const char *folder, const char *name, const char *text)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, text, strlen(text)) < 0)
        die(path);
    close(fd);
}

static void await_frozen(const char *folder, char wanted)
{
    char path[256], text[128];
    snprintf(path, sizeof path, "%s/cgroup.events", folder);
    for (int tries = 0; tries < 400; tries++) {
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t length = read(fd, text, sizeof text - 1);
        close(fd);
        text[length < 0 ? 0 : length] = 0;
        char *found = strstr(text, "frozen ");
        if (found && found[7] == wanted)
            return;
        usleep(500);
    }
}

static void direct(struct act *it, pid_t parent, const char *cgroup, struct halt *halt)
{
    struct role *role = role_of(it->a % ROLES);
    switch (it->kind) {
    case KILL:
        if (role->pid && !role->ended) {
            role->killed = now();
            kill(role->pid, SIGKILL);
        }
        break;
    case STOP:
    case FREEZE:
        halt->before = now();
        if (it->kind == STOP) {
            siginfo_t info;
            kill(parent, SIGSTOP);
            waitid(P_PID, parent, &info, WSTOPPED | WEXITED | WNOWAIT);
        } else {
            write_file(cgroup, "cgroup.freeze", "1");
            await_frozen(cgroup, '1');
        }
        halt->stopped = now();
        break;
    case CONTINUE:
    case THAW:
        halt->continues = now();
        if (it->kind == CONTINUE)
            kill(parent, SIGCONT);
        else
            write_file(cgroup, "cgroup.freeze", "0");
        halt->after = now();
        break;
    }
}

static int needs_cgroup(struct play *play)
{
    for (int k = 0; k < ACTS; k++)
        if (play->director[k].kind == FREEZE)
            return 1;
    return 0;
}

static pid_t fork_parent(const char *cgroup)
{
    pid_t pid = _Fork();
    if (pid == 0) {
        if (needs_cgroup(&scene->play))
            write_file(cgroup, "cgroup.procs", "0");
        be_parent();
    }
    if (pid < 0)
        die("fork");
    return pid;
}

/* Plays the play in the scene. */
static void run_play(const char *cgroup)
{
    struct truth *truth = &scene->truth;
    int pidfds[ROLES], halts = 0, next = 0, cut = 0;
    memset(pidfds, -1, sizeof pidfds);
    scene->director = getpid();
    truth->number = scene->play.number;
    truth->began = now() + 3000000;
    uint64_t latest = truth->began + LATEST_NS;
    for (int number = THREADS; number < ROLES; number++)
        if (scene->play.strangers >> number & 1)
            fork_role(number, 0);
    pid_t parent = fork_parent(cgroup);
    role_of(0)->pid = parent; /* as it does itself, maybe later */
    for (;;) {
        struct pollfd polled[ROLES + 1] = {{.fd = BELL_FD, .events = POLLIN}};
        int who[ROLES + 1], count = 1, left = 0;
        for (int number = 0; number < ROLES; number++) {
            struct role *role = role_of(number);
            if (!role->pid || role->ended)
                continue;
            if (pidfds[number] < 0)
                pidfds[number] = syscall(SYS_pidfd_open, role->pid, 0);
            if (pidfds[number] < 0)
                role->ended = now(); /* it has ended and was reaped: only after its parent had ended */
            else
                who[count] = number, polled[count++] = (struct pollfd){.fd = pidfds[number], .events = POLLIN};
            left += !role->ended;
        }
        struct act *it = next < ACTS ? &scene->play.director[next] : NULL;
        if (it && it->kind == END)
            it = NULL;
        if (!left && !it)
            break;
        uint64_t due = it ? truth->began + it->at * 1000ULL : latest, time = now();
        if (time < due) {
            struct timespec rest = {.tv_sec = (due - time) / 1000000000, .tv_nsec = (due - time) % 1000000000};
            if (ppoll(polled, count, &rest, NULL) > 0) {
                uint64_t rings;
                if (polled[0].revents && read(BELL_FD, &rings, sizeof rings) < 0)
                    die("read");
                time = now();
                for (int k = 1; k < count; k++)
                    if (polled[k].revents)
                        role_of(who[k])->ended = time;
            }
        } else if (it) {
            direct(it, parent, cgroup, &truth->halts[halts]);
            halts += it->kind == CONTINUE || it->kind == THAW;
            next++;
        } else {
            if (cut++ > 2)
                die("a play does not end");
            truth->was_cut = 1;
            for (int number = 0; number < ROLES; number++)
                if (role_of(number)->pid && !role_of(number)->ended)
                    kill(role_of(number)->pid, SIGKILL);
            latest = now() + 200000000;
        }
    }
    while (waitpid(-1, NULL, 0) > 0)
        ;
    for (int number = 0; number < ROLES; number++) {
        if (pidfds[number] >= 0)
            close(pidfds[number]);
        if (role_of(number)->pid && !role_of(number)->ended)
            role_of(number)->ended = now(); /* it had not written its pid yet when all others had ended */
    }
}

/* A stage plays every nth play. */
static __attribute__((noreturn)) void be_stage(int first, int stages, const char *plays, const char *truths,
                                               const char *cgroup)
{
    char folder[128];
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    snprintf(folder, sizeof folder, "%s/stage-%d", cgroup, first);
    int has_cgroup = strcmp(cgroup, "-") != 0;
    if (has_cgroup && mkdir(folder, 0755) && errno != EEXIST)
        die(folder);
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (dup2(null, 0) < 0 || dup2(null, 1) < 0)
        die("/dev/null");
    signal(SIGPIPE, SIG_IGN);
    int in = open(plays, O_RDONLY | O_CLOEXEC), out = open(truths, O_WRONLY | O_CLOEXEC);
    int memory = memfd_create("scene", 0), bell = eventfd(0, 0);
    if (in < 0 || out < 0 || memory < 0 || bell < 0 || ftruncate(memory, sizeof *scene))
        die("files");
    dup2(memory, SCENE_FD);
    dup2(bell, BELL_FD);
    dup3(in, SOCKET_FD + 1, O_CLOEXEC);
    dup3(out, SOCKET_FD + 2, O_CLOEXEC);
    close_range(3, SCENE_FD - 1, 0);
    scene = mmap(NULL, sizeof *scene, PROT_READ | PROT_WRITE, MAP_SHARED, SCENE_FD, 0);
    if (scene == MAP_FAILED)
        die("mmap");
    for (int number = first;; number += stages) {
        memset(scene, 0, sizeof *scene);
        if (pread(SOCKET_FD + 1, &scene->play, sizeof scene->play, (off_t)number * sizeof scene->play) <= 0)
            break;
        run_play(folder);
        if (pwrite(SOCKET_FD + 2, &scene->truth, sizeof scene->truth, (off_t)number * sizeof scene->truth) < 0)
            die("write");
    }
    if (has_cgroup)
        rmdir(folder);
    _exit(0);
}

int main(int argc, char **argv)
{
    if (argc == 4 && !strcmp(argv[1], "continue")) {
        scene = mmap(NULL, sizeof *scene, PROT_READ | PROT_WRITE, MAP_SHARED, SCENE_FD, 0);
        if (scene == MAP_FAILED)
            die("mmap");
        be_process(atoi(argv[2]), atoi(argv[3]));
    }
    if (argc != 3)
        return 2;
    int stages = atoi(argv[1]);
    char line[512], plays[200], truths[200];
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    while (fgets(line, sizeof line, stdin) && sscanf(line, "%199s %199s", plays, truths) == 2) {
        for (int number = 0; number < stages; number++)
            if (fork() == 0)
                be_stage(number, stages, plays, truths, argv[2]);
        int status, failed = 0;
        while (wait(&status) > 0)
            failed |= status;
        printf("%s\n", failed ? "failed" : "done");
        fflush(stdout);
    }
    return 0;
}
