/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Follows every errpipe on the host: who created it, who releases its write end, and how long its reader waits.
 * probes/README.md explains the design; read it first. This file declares the maps and what every other file uses.
 * loader.py compiles it and the files of the subjects as one text.
 *
 * Compile-time names that loader.py defines:
 *   MAX_SPAWNS, MAX_PROCESSES, MAX_THREADS, MAX_COMMS, MAX_STACKS: sizes of the maps
 *   LRU_RESERVE  entries that each LRU map has in addition
 *   UNROLL       the verifier accepts no loops; never together with BTF
 *   BTF          the kernel's own tables are read, at the offsets OFF_* and with FILE_COUNT_ONE (features.py)
 *   GROUP_DEAD   sched_process_exit has the field group_dead, which marks a process's last thread
 *   FENTRY       programs are attached to the functions of the system calls, not to their tracepoints; OFF_ARGUMENT_0
 *                to OFF_ARGUMENT_3 are the offsets of the arguments in the saved registers
 *   PIPE_READ    with FENTRY: the programs of read are attached to the pipe's own function (OFF_KIOCB_FILE)
 *   HAVE_*       the kernel has the tracepoints of that system call
 *   TARGETS      only pipes created by processes in the map targets are followed
 *   EVERY        every spawn is sent to user space, not only the long ones
 *   STACKS       the user stack of each fork that gives a foreign process a copy is kept
 * A test defines FAULT_SHIFTED_ARGUMENTS: the argument of pipe is read from the wrong place.
 */
#include "errpipe.h"

#define INLINE static inline __attribute__((always_inline))

#define CLONE_FILES           0x400
#define CLONE_VFORK           0x4000
#define CLONE_THREAD          0x10000
#define F_DUPFD               0
#define F_DUPFD_CLOEXEC       1030
#define CLOSE_RANGE_UNSHARE   (1 << 1)
#define CLOSE_RANGE_CLOEXEC   (1 << 2)
#define FMODE_WRITE           2
#define AF_UNIX               1
#define SOCK_SEQPACKET        5
#define SOCK_TYPE_MASK        0xf
#define EAGAIN                11
#define EEXIST                17
#define ERESTARTSYS           512 /* include/linux/errno.h: 512 to 516 never reach user space */
#define ERESTART_RESTARTBLOCK 516

#define IDLE_NS      1000000000  /* 1 s: an older pipe that serves no spawn can lose its place to a new one */
#define FORGOTTEN_NS 60000000000 /* 60 s: an older spawn whose parent is not in a read can lose it, too */
#define CLOSING_NS   50000       /* 50 us: a close that began longer ago has finished */
#define NOTICE_NS    20000000    /* 20 ms: minimum time between two notices of a kind (_SOONEST_NS in tracer.py) */

/* A program is named after its tracepoint; loader.py attaches it. (Programs declared with bcc's own macro are attached
 * by bcc, and one failure fails them all.) */
#define PROBE(category, event) int event(struct tracepoint__##category##__##event *args)

/*
 * Entry and exit of a system call: at its tracepoint, or (FENTRY) at the kernel function that implements it, which
 * costs less. That function has one argument, the saved registers.
 */
#ifdef FENTRY
#define ENTER(call)           int sys_enter_##call(u64 *args)
#define LEAVE(call)           int sys_exit_##call(u64 *args)
#define ARGUMENT(place, name) (*(u64 *)(args[0] + OFF_ARGUMENT_##place))
#define RESULT                ((s64)args[1])
#else
#define ENTER(call)           PROBE(syscalls, sys_enter_##call)
#define LEAVE(call)           PROBE(syscalls, sys_exit_##call)
#define ARGUMENT(place, name) ((u64)args->name)
#define RESULT                (args->ret)
#endif

/* A loop with few iterations. Unrolling it would triple the code to compile. */
#ifdef UNROLL
#define LOOP      _Pragma("unroll")
#define MAX_TRIES 8
#else
#define LOOP      _Pragma("clang loop unroll(disable)")
#define MAX_TRIES 32 /* places that take_place tries */
#endif

#define NONE      (~0U) /* no place */
#define LATER     (~1U) /* no place yet: call again */
#define MAX_STEPS 64    /* places per run of a program; a tail call continues (at most 33 times) */

/* State of a thread between the enter and the exit of a system call, or between two programs. */
struct call {
    u64 arg;   /* pipe: address of the two fds; dup: the spawn's id; dup2, dup3: the old fd */
    u64 ns;    /* pipe: when the call began */
    u32 place; /* dup: the spawn's */
    s32 fd;    /* dup: the new fd; close, dup2, dup3: the fd that is closed */
    u32 is_socket;
    u32 is_read_end; /* dup: of the read end */
};

/* A thread in a read of an errpipe. */
struct reader {
    u64 id;
    u32 place;
    u32 interrupted; /* by a signal: the thread restarts the read, or dies */
};

/* Progress of an event that concerns many spawns of one process. Programs work on it in its map, because the verifier
 * assumes nothing about numbers from a map (see opaque). No padding: before 6.3 the verifier rejects a structure on the
 * stack that is not fully initialised. */
struct walk {
    u64 ns;
    u32 how;   /* HOW_*, HOW_FORK */
    u32 from;  /* the next place */
    u32 child; /* fork: its process id */
    u32 seen;  /* result of glance */
    u32 clean; /* exec: no write end of a followed pipe is open any more */
    u32 unused;
    char comm[COMM_LEN]; /* of the current process */
};

#define HOW_FORK 4

/* A child of a vfork without an errpipe (posix_spawn): its parent is blocked until it calls exec or exits. */
struct vforked {
    u64 ns;
    struct comm comm; /* of the parent */
};

/* How a stray (struct stray) ended. */
struct stray_end {
    u64 born;
    u64 ns;
    u32 how;
    s32 exec_error;
    u32 killed;
    u32 unused;
    char comm[COMM_LEN];
};

/* Each CPU reserves up to 128 free entries of an LRU map; before 6.17 the others run out of them, and evict what is in
 * use. */
#define LRU(key, value, name, size) BPF_TABLE("lru_hash", key, value, name, (size) + LRU_RESERVE)

BPF_ARRAY(spawns, struct spawn, MAX_SPAWNS);
BPF_TABLE("hash", u32, u64, places, MAX_SPAWNS);    /* the occupied places in spawns: the id of the spawn */
LRU(u64, u32, pipes, MAX_SPAWNS * 2);               /* by a spawn's key and other_key: its place */
LRU(u32, struct process, processes, MAX_PROCESSES); /* by process id */
LRU(u32, struct pending, made, MAX_THREADS);        /* this and the next three: by thread id */
LRU(u32, struct reader, readers, MAX_THREADS);
LRU(u32, struct call, calls, MAX_THREADS);
LRU(u32, struct walk, walks, MAX_THREADS / 2); /* while the event is handled */
LRU(u32, struct vforked, vforks, MAX_THREADS); /* by the child's process id */
LRU(u64, u8, done, 4096);                      /* see once */
LRU(u32, struct stray_end, stray_ends, 1024);
LRU(u32, u64, execs, 1024);  /* after a release by close: when the process called exec, 0: not yet */
LRU(u32, u8, sharing, 1024); /* processes without exactly one fd table of their own */
#ifdef UNROLL
/* Before 4.18 (commit d71962f3e627) a value is inserted from the stack, for which these are too large. */
BPF_ARRAY(comm_stats, struct comm_stats, MAX_COMMS + 1); /* the last one is for ~other */
BPF_HASH(comm_places, struct comm, u32, MAX_COMMS);      /* the place of a comm there */
BPF_HASH(comm_taken, u32, u8, MAX_COMMS);                /* the occupied places */
BPF_ARRAY(next_comm, u32, 1);
#else
BPF_HASH(comm_stats, struct comm, struct comm_stats, MAX_COMMS);
#endif
BPF_ARRAY(watched, struct places, 1); /* spawns whose parent a foreign process may be stalling */
/* Targets of tail calls. The kernel requires that all programs of one map are attached alike. */
BPF_PROG_ARRAY(shared, SHARED_PROGRAMS);
BPF_PROG_ARRAY(at_enter, ENTER_PROGRAMS);
BPF_PROG_ARRAY(at_exit, EXIT_PROGRAMS);
BPF_PROG_ARRAY(newtask_rest, 1); /* BTF: task_newtask, which continues with itself */
/* FENTRY: copies of let_go_next and pipe_made for functions of another type (_COPIES in loader.py). */
BPF_PROG_ARRAY(range_rest, SHARED_PROGRAMS);
BPF_PROG_ARRAY(socketpair_rest, EXIT_PROGRAMS);
/* pid_filter: by the low bits of a process id, the number of rows in processes, plus READER times the number of threads in
 * readers. With 0 an uninvolved process needs no hash look-up. (An evicted row stays counted, which costs time only.) */
#define READER 0x10000
BPF_ARRAY(pid_filter, u32, PID_FILTER);
BPF_ARRAY(counters, u64, COUNTERS);
BPF_ARRAY(settings, u64, SETTINGS);
BPF_ARRAY(next_place, u32, 1);
#ifndef UNROLL
BPF_ARRAY(zero_process, struct process, 1);
BPF_ARRAY(zero_comm_stats, struct comm_stats, 1);
#endif
BPF_PERF_OUTPUT(records); /* wakes user space only when it is half full */
BPF_PERF_OUTPUT(notices); /* wakes it at once */
#ifdef TARGETS
BPF_HASH(targets, u32, u8, 16384);
#endif
#ifdef STACKS
BPF_TABLE("stacktrace", int, struct stack, stacks, MAX_STACKS);
#endif

/* ---- small things ---- */

/* bpf_probe_read, by its number. If bcc sees its name, or that of a successor, it reads all of /proc/kallsyms, which
 * takes a tenth of the compile time. */
static long (*const read_memory)(void *to, u32 size, const void *from) = (void *)4;

INLINE void count_by(int which, s64 by)
{
    u64 *value = counters.lookup(&which);
    if (value)
        __sync_fetch_and_add(value, by);
}

INLINE void count(int which) { count_by(which, 1); }

INLINE u64 setting(int which)
{
    u64 *value = settings.lookup(&which);
    return value ? *value : 0;
}

INLINE u32 thread_id(void) { return (u32)bpf_get_current_pid_tgid(); }
INLINE u32 process_id(void) { return bpf_get_current_pid_tgid() >> 32; }

/* Returns the number unchanged. The verifier assumes nothing about a number that a helper has written, so it walks the
 * code that follows once, not once for each value. (On the stack, not per CPU: with FENTRY another program can preempt
 * this one.) */
INLINE u32 opaque(u32 number)
{
    u32 copy = 0;
    read_memory(&copy, sizeof(copy), &number);
    return copy;
}

/* Comparisons without a branch; 1: true. Each branch doubles the paths that the verifier walks, which is too many in a
 * loop over spawns. (clang turns what it recognises as a comparison into a branch; HIDE keeps it from that.) */
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

/* An index below size, a constant. clang drops a check if it knows that the index is small enough, and may check another
 * register than the one that is used; the verifier needs this one. A mask is no branch. */
INLINE u64 below(u32 index, u32 size)
{
    u64 at = index;
    HIDE(at);
    if (!(size & (size - 1)))
        return at & (size - 1);
#ifdef UNROLL /* before 4.14 (commit 92b31a9af73b) no other unsigned comparison */
    asm volatile("if %0 > %1 goto +1\ngoto +1\n%0 = 0" : "+r"(at) : "i"(size - 1));
#else
    asm volatile("if %0 < %1 goto +1\n%0 = 0" : "+r"(at) : "i"(size));
#endif
    return at;
}

/* The type of an index. Before 4.14 (commit f1174f77b50c) the verifier forgets the limit of a number cut to 32 bits. */
#ifdef UNROLL
#define INDEX u64
#else
#define INDEX u32
#endif

INLINE u32 *pid_filter_entry(u32 key)
{
    int which = key % PID_FILTER;
    return pid_filter.lookup(&which);
}

INLINE void change_pid_filter(u32 key, int by)
{
    u32 *entry = pid_filter_entry(key);
    if (entry)
        __sync_fetch_and_add(entry, by);
}

/* 0: the process has no row in processes. 1: it may have one. */
INLINE int may_have_row(u32 key)
{
    u32 *entry = pid_filter_entry(key);
    return entry && *entry % READER;
}

/* 0: no thread of the process is in readers. 1: one may be. */
INLINE int may_be_reading(u32 key)
{
    u32 *entry = pid_filter_entry(key);
    return entry && *entry / READER;
}

INLINE void start_reading(u32 key, u32 tid, struct reader *reader)
{
    change_pid_filter(key, READER); /* first: LEAVE(read) looks up a reader only if it is counted */
    int result = readers.insert(&tid, reader);
    if (result && (readers.update(&tid, reader) || result == -EEXIST))
        change_pid_filter(key, -READER);
}

INLINE void stop_reading(u32 key, u32 tid)
{
    if (readers.delete(&tid) == 0)
        change_pid_filter(key, -READER);
}

INLINE struct process *row_of(u32 key) { return may_have_row(key) ? processes.lookup(&key) : 0; }

INLINE struct process *row_for(u32 key)
{
    struct process *row = processes.lookup(&key);
    if (row)
        return row;
#ifdef UNROLL
    struct process empty = {}, *fresh = &empty;
#else
    int zero = 0;
    struct process *fresh = zero_process.lookup(&zero);
    if (!fresh)
        return 0;
#endif
    change_pid_filter(key, 1); /* first: another thread may look the row up as soon as it exists */
    /* insert, not update: another thread may have inserted the row meanwhile, and filled it. */
    if (processes.insert(&key, fresh) == 0)
        count(PROCESSES_ADDED);
    else
        change_pid_filter(key, -1);
    row = processes.lookup(&key);
    if (!row)
        count(UPDATES_FAILED);
    return row;
}

INLINE void delete_row(u32 key)
{
    count(PROCESSES_DELETED); /* before the deletion: a row that is gone and not counted looks like an evicted one */
    if (processes.delete(&key) == 0)
        change_pid_filter(key, -1);
    else
        count_by(PROCESSES_DELETED, -1);
}

INLINE struct spawn *spawn_at(u32 place)
{
    int index = place;
    return spawns.lookup(&index);
}

/* What happens only once to a spawn, even if two CPUs reach it at the same moment. */
#define ONCE_FINISHED 0
#define ONCE_SENT     1
#define ONCE_FREED    2
#define ONCE_WATCHED  3

/* 1: the caller is the first, and has to do it. Map insertion is atomic. */
INLINE int once(u64 id, u32 what)
{
    u64 key = id << 2 | what;
    u8 one = 1;
    s64 result = 0;
    /* Insertion also fails while another CPU inserts (-ENOMEM, -EBUSY), so it is retried. */
    LOOP
    for (int n = 0; n < 3; n++) {
        result = done.insert(&key, &one);
        HIDE(result); /* clang 19 would test two copies of it, which the verifier takes for two numbers */
        if (!result || result == -EEXIST)
            break;
    }
    return result != -EEXIST;
}
