/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Follows every errpipe on the host: who made it, who lets go of its write end, how long its reader waits.
 * probes/README.md explains how; read it first. This file has the maps. The files of each subject follow it, and all are
 * compiled as one text.
 *
 * Compiled by bcc. loader.py defines the sizes of the maps (MAX_*) and what the kernel has (features.py):
 *   UNROLL       the verifier takes no loops; never with BTF
 *   BTF          offsets of kernel structures are known (OFF_*), so the kernel's own tables are read
 *   GROUP_DEAD   sched_process_exit says which thread is the last
 *   FENTRY       programs are attached to the functions of the system calls, not to their tracepoints
 *   PIPE_READ    with FENTRY: the read's programs are attached to the pipe's own function
 *   HAVE_*       the kernel has the tracepoints of that system call
 * and for one run: TARGETS (only pipes made by processes in the map targets count), EVERY (every spawn is sent, not only
 * the long ones) and STACKS (the user stack of each fork that gives a foreign process a copy is kept).
 */
#include "errpipe.h"

#define INLINE static inline __attribute__((always_inline))

#define CLONE_FILES 0x400
#define CLONE_VFORK 0x4000
#define CLONE_THREAD 0x10000
#define F_DUPFD 0
#define F_DUPFD_CLOEXEC 1030
#define CLOSE_RANGE_UNSHARE (1 << 1)
#define CLOSE_RANGE_CLOEXEC (1 << 2)
#define FMODE_WRITE 2
#define AF_UNIX 1
#define SOCK_SEQPACKET 5
#define SOCK_TYPE_MASK 0xf
#define EAGAIN 11
#define EEXIST 17
#define ERESTARTSYS 512 /* include/linux/errno.h: 512 to 516 never reach user space */
#define ERESTART_RESTARTBLOCK 516

#define IDLE_NS 1000000000 /* an older pipe that serves no spawn can lose its place to a new one */
#define FORGOTTEN_NS 60000000000 /* so can a spawn whose pipe nobody has read for this long */
#define CLOSING_NS 50000  /* by then a close that has begun is done */
#define NOTICE_NS 20000000 /* notices to user space are at least this far apart */

/* A program is named after its tracepoint; loader.py attaches it. (bcc attaches what is named by its own macro
 * by itself, all or nothing.) */
#define PROBE(category, event) int event(struct tracepoint__##category##__##event *args)

/*
 * The enter and the exit of a system call: at the tracepoint, or at the function that the kernel has for it, which
 * costs processes that have nothing to do with us a tenth of it. That function has one argument, the saved registers;
 * loader.py knows which of them is which argument.
 */
#ifdef FENTRY
#define ENTER(call) int sys_enter_##call(u64 *args)
#define LEAVE(call) int sys_exit_##call(u64 *args)
#define ARGUMENT(place, name) (*(u64 *)(args[0] + OFF_ARGUMENT_##place))
#define RESULT ((s64)args[1])
#else
#define ENTER(call) PROBE(syscalls, sys_enter_##call)
#define LEAVE(call) PROBE(syscalls, sys_exit_##call)
#define ARGUMENT(place, name) ((u64)args->name)
#define RESULT (args->ret)
#endif

/* A loop of a few rounds. Unrolling it would triple the code to compile. */
#ifdef UNROLL
#define LOOP _Pragma("unroll")
#define MAX_TRIES 8
#else
#define LOOP _Pragma("clang loop unroll(disable)")
#define MAX_TRIES 32 /* places that are looked at for a free one */
#endif

#define NONE (~0U)  /* no place */
#define LATER (~1U) /* no place yet: go on */
#define MAX_STEPS 64 /* places that one run of a program looks at; a tail call goes on (33 times at most) */

/* State of a thread between the enter and the exit of a system call, or between two programs. */
struct call {
    u64 arg;   /* pipe: address of the two fds; dup: the spawn's id; dup2, dup3: the fd that is copied */
    u32 place; /* dup: the spawn's */
    s32 fd;    /* dup: the copy's number; close, dup2, dup3: what is closed */
    u32 is_socket;
    u32 is_read_end; /* dup */
};

/* A thread that reads an errpipe. */
struct reader {
    u64 id;
    u32 place;
    u32 interrupted; /* by a signal: it reads on, or dies */
};

/* Progress of an event that concerns many spawns of one process. It stays in its map while a program works on it, as the
 * verifier assumes nothing about numbers that come from a map (see opaque). No padding: before 6.3 the
 * verifier refuses a structure on the stack that is not all set. */
struct walk {
    u64 ns;
    u32 how; /* HOW_*, HOW_FORK */
    u32 first; /* close_range: the numbers */
    u32 last;
    u32 from;  /* the next place to look at */
    u32 child; /* fork */
    u32 seen;
    u32 clean; /* exec: no write end of a followed pipe is open any more */
    u32 unused;
    char comm[COMM_LEN]; /* of the process, or of its thread */
};

#define HOW_FORK 4

/* A child of a vfork that is not for an errpipe (posix_spawn): its parent is blocked until it execs or exits. */
struct vforked {
    u64 ns;
    struct comm comm; /* of the parent */
};

/* How a stray ended. */
struct stray_end {
    u64 born;
    u64 ns;
    u32 how;
    s32 exec_error;
    u32 killed;
    u32 unused;
    char comm[COMM_LEN];
};

BPF_ARRAY(spawns, struct spawn, MAX_SPAWNS);
BPF_TABLE("hash", u32, u64, places, MAX_SPAWNS); /* the places in spawns that are taken, by which id */
BPF_TABLE("lru_hash", u64, u32, pipes, MAX_SPAWNS * 2); /* a pipe's key: the place of its spawn */
BPF_TABLE("lru_hash", u32, struct process, processes, MAX_PROCESSES);
BPF_TABLE("lru_hash", u32, struct pending, made, MAX_THREADS);
BPF_TABLE("lru_hash", u32, struct reader, readers, MAX_THREADS);
BPF_TABLE("lru_hash", u32, struct call, calls, MAX_THREADS);
BPF_TABLE("lru_hash", u32, struct walk, walks, MAX_THREADS / 2); /* for as long as a program runs */
BPF_TABLE("lru_hash", u32, struct vforked, vforks, MAX_THREADS);
BPF_TABLE("lru_hash", u64, u8, done, 4096); /* what happens once to each spawn: see once */
BPF_TABLE("lru_hash", u32, struct stray_end, stray_ends, 1024);
BPF_TABLE("lru_hash", u32, u64, execs, 1024); /* processes that called exec after they had let go by close: when */
BPF_TABLE("lru_hash", u32, u8, sharing, 1024); /* processes that have not one fd table of their own */
BPF_HASH(comm_stats, struct comm, struct comm_stats, MAX_COMMS);
BPF_ARRAY(watched, struct places, 1); /* spawns that somebody foreign may be stalling */
/* Targets of tail calls. The kernel requires that all programs of one map are attached alike. */
BPF_PROG_ARRAY(shared, SHARED_PROGRAMS);
BPF_PROG_ARRAY(at_enter, ENTER_PROGRAMS);
BPF_PROG_ARRAY(at_exit, EXIT_PROGRAMS);
BPF_PROG_ARRAY(range_again, 1); /* FENTRY: sys_enter_close_range goes on to itself */
BPF_PROG_ARRAY(fork_again, 1);  /* task_newtask likewise */
/* Indexed by the low bits of the process id: the number of rows in processes, plus READER times the number of threads in
 * readers. 0 saves an uninvolved process the hash look-up. (A row that was evicted stays counted, which costs time only.) */
#define READER 0x10000
BPF_ARRAY(hints, u32, HINTS);
BPF_ARRAY(counters, u64, COUNTERS);
BPF_ARRAY(settings, u64, SETTINGS);
BPF_ARRAY(next_place, u32, 1);
BPF_ARRAY(zero_process, struct process, 1);
BPF_ARRAY(zero_comm_stats, struct comm_stats, 1);
BPF_PERF_OUTPUT(records);
#ifdef TARGETS
BPF_HASH(targets, u32, u8, 16384);
#endif
#ifdef STACKS
BPF_TABLE("stacktrace", int, struct stack, stacks, MAX_STACKS);
#endif

/* ---- small things ---- */

/* bpf_probe_read, by its number. Where bcc sees its name, or those of its successors, it reads all of /proc/kallsyms:
 * a tenth of the time that compiling takes. */
static long (*const read_memory)(void *to, u32 size, const void *from) = (void *)4;

INLINE void count(int which)
{
    u64 *value = counters.lookup(&which);
    if (value)
        __sync_fetch_and_add(value, 1);
}

INLINE u64 setting(int which)
{
    u64 *value = settings.lookup(&which);
    return value ? *value : 0;
}

INLINE u32 thread_id(void) { return (u32)bpf_get_current_pid_tgid(); }
INLINE u32 process_id(void) { return bpf_get_current_pid_tgid() >> 32; }

/* Returns the number unchanged. The verifier assumes nothing about it, as a helper has written it, so it walks what follows
 * once and not once for each value. (On the stack, not per CPU: at a function, another program can preempt this one.) */
INLINE u32 opaque(u32 number)
{
    u32 copy = 0;
    read_memory(&copy, sizeof(copy), &number);
    return copy;
}

/* Comparisons without a branch, 1: true. Each branch doubles the paths that the verifier walks, which a loop over many
 * spawns cannot afford. (clang makes branches of what it recognises as a comparison, so it must not see the whole.) */
#define HIDE(number) asm volatile("" : "+r"(number))

INLINE u64 differ(u64 one, u64 other)
{
    u64 bits = one ^ other;
    HIDE(bits);
    u64 negative = -bits;
    HIDE(negative);
    return (bits | negative) >> 63;
}

INLINE u64 less(u64 one, u64 other) /* both below 2^63 */
{
    u64 difference = one - other;
    HIDE(difference);
    return difference >> 63;
}

/* An index below a power of two. clang drops the mask where it knows that the index is small enough, but the
 * verifier needs it, so the index is hidden from clang. */
INLINE u32 below(u32 index, u32 size)
{
    HIDE(index);
    return index & (size - 1);
}

INLINE u32 *hint_of(u32 key)
{
    int which = key % HINTS;
    return hints.lookup(&which);
}

INLINE void change_hint(u32 key, int by)
{
    u32 *hint = hint_of(key);
    if (hint)
        __sync_fetch_and_add(hint, by);
}

/* 0: the process certainly has no row. */
INLINE int may_have_row(u32 key)
{
    u32 *hint = hint_of(key);
    return hint && *hint % READER;
}

/* 0: certainly no thread of the process is in readers. */
INLINE int may_be_reading(u32 key)
{
    u32 *hint = hint_of(key);
    return hint && *hint / READER;
}

INLINE void start_reading(u32 key, u32 tid, struct reader *reader)
{
    change_hint(key, READER); /* first: the end of the read is looked for only if this counts it */
    int result = readers.insert(&tid, reader);
    if (result && (readers.update(&tid, reader) || result == -EEXIST))
        change_hint(key, -READER);
}

INLINE void stop_reading(u32 key, u32 tid)
{
    if (readers.delete(&tid) == 0)
        change_hint(key, -READER);
}

INLINE struct process *row_of(u32 key) { return may_have_row(key) ? processes.lookup(&key) : 0; }

INLINE struct process *row_for(u32 key)
{
    struct process *row = processes.lookup(&key);
    if (row)
        return row;
    int zero = 0;
    struct process *fresh = zero_process.lookup(&zero);
    if (!fresh)
        return 0;
    change_hint(key, 1); /* first: another thread looks for what is there already */
    /* Two threads can be here at once: the second must not wipe what the first has filled. */
    if (processes.insert(&key, fresh) == 0)
        count(PROCESSES_ADDED);
    else
        change_hint(key, -1);
    row = processes.lookup(&key);
    if (!row)
        count(UPDATES_FAILED);
    return row;
}

INLINE void delete_row(u32 key)
{
    if (processes.delete(&key) != 0)
        return;
    change_hint(key, -1);
    count(PROCESSES_DELETED);
}

INLINE struct spawn *spawn_at(u32 place)
{
    int index = below(place, MAX_SPAWNS);
    return spawns.lookup(&index);
}

/* Things that happen once to a spawn, even if two CPUs find them due at the same moment: map insertion is atomic. */
#define ONCE_FINISHED 0
#define ONCE_SENT     1
#define ONCE_FREED    2
#define ONCE_WATCHED  3

INLINE int once(u64 id, u32 what)
{
    u64 key = id << 2 | what;
    u8 one = 1;
    /* Insertion can also fail because another CPU is inserting (-ENOMEM, -EBUSY), so try again. */
    LOOP
    for (int n = 0; n < 3; n++) {
        int result = done.insert(&key, &one);
        if (!result || result == -EEXIST)
            return !result;
    }
    return 1;
}
