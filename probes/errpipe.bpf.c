/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Follows every errpipe on the host: who made it, who lets go of its write end, how long its reader waits.
 * probes/README.md explains how; read it first.
 *
 * Compiled by bcc. loader.py defines the sizes of the maps (MAX_*) and what the feature probes found:
 *   UNROLL       the verifier takes no loops (before 5.3, commit 2589726d12a1); never with BTF
 *   BTF          offsets of kernel structures are known (OFF_*), so the kernel's own tables are read
 *   GROUP_DEAD   sched_process_exit says when the last thread is gone
 *   FENTRY       programs are attached to the functions of the system calls, not to their tracepoints
 *   PIPE_READ    with FENTRY: the read's programs are attached to the pipe's own function
 *   HAVE_*       the kernel has that system call
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

#define IDLE_NS 1000000000 /* a pipe that is older and serves no spawn gives its place to another one */
#define FORGOTTEN_NS 60000000000 /* a spawn that nobody reads for so long, too */
#define CLOSING_NS 50000  /* a close is done after so long */
#define NOTICE_NS 20000000 /* notices to user space are at least this far apart */

/* A program is named after its tracepoint; loader.py attaches it. (bcc attaches what is named by its own macro
 * by itself, all or nothing.) */
#define PROBE(category, event) int event(struct tracepoint__##category##__##event *args)

/*
 * The enter and the exit of a system call: at the tracepoint, or at the function that the kernel has for it, which
 * costs processes that have nothing to do with us a tenth of it. That function has one argument, the saved registers;
 * loader.py knows which of them is which argument. A program there cannot tail-call one that is attached elsewhere, so
 * what is a program of its own otherwise (SHARED) is part of it.
 */
#ifdef FENTRY
#define ENTER(call) int sys_enter_##call(u64 *args)
#define LEAVE(call) int sys_exit_##call(u64 *args)
#define ARGUMENT(place, name) (*(u64 *)(args[0] + OFF_ARGUMENT_##place))
#define RESULT ((s64)args[1])
#define SHARED INLINE
#else
#define ENTER(call) PROBE(syscalls, sys_enter_##call)
#define LEAVE(call) PROBE(syscalls, sys_exit_##call)
#define ARGUMENT(place, name) ((u64)args->name)
#define RESULT (args->ret)
#define SHARED
#endif

#define NONE (~0U)  /* no place */
#define LATER (~1U) /* no place yet: go on */
#define STEPS 64 /* places that one run of a program looks at; a tail call goes on (33 times at most) */

/* What a thread is in the middle of between the enter and the exit of a system call, or two programs. */
struct call {
    u64 arg;   /* pipe: address of the two fds; dup: the spawn's id */
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

/* An event that concerns many spawns of one process: where it goes on. No padding: before 6.3 the verifier refuses a
 * structure on the stack that is not all set. */
struct walk {
    u64 ns;
    u32 how; /* HOW_*, HOW_FORK */
    u32 first; /* close_range: the numbers */
    u32 last;
    u32 from;  /* the next place to look at */
    u32 child; /* fork */
    u32 unused;
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
BPF_TABLE("lru_hash", u32, struct walk, walks, MAX_THREADS);
BPF_TABLE("lru_hash", u32, struct vforked, vforks, MAX_THREADS);
BPF_TABLE("lru_hash", u64, u8, done, 4096); /* what happens once to each spawn: see once */
BPF_TABLE("lru_hash", u32, struct stray_end, stray_ends, 1024);
BPF_TABLE("lru_hash", u32, u64, execs, 1024); /* processes that called exec after they had let go by close: when */
BPF_TABLE("lru_hash", u32, u8, sharing, 1024); /* processes that have not one fd table of their own */
BPF_HASH(programs, struct comm, struct program, MAX_PROGRAMS);
BPF_ARRAY(watched, struct places, 1); /* spawns that somebody foreign may be stalling */
BPF_PROG_ARRAY(shared, SHARED_PROGRAMS);
BPF_PROG_ARRAY(range_again, 1); /* FENTRY: sys_enter_close_range goes on to itself */
BPF_PROG_ARRAY(fork_again, 1);  /* task_newtask likewise */
/* How many rows there are in processes for process ids that end alike: 0 spares a system call of a process that has
 * nothing to do with us the look-up in a hash. (A row that its map had no room for stays counted: slower, not wrong.) */
BPF_ARRAY(hints, u32, HINTS);
BPF_ARRAY(counters, u64, COUNTERS);
BPF_ARRAY(settings, u64, SETTINGS);
BPF_ARRAY(next_place, u32, 1);
BPF_ARRAY(zero_process, struct process, 1);
BPF_ARRAY(zero_program, struct program, 1);
BPF_PERF_OUTPUT(records);
#ifdef TARGETS
BPF_HASH(targets, u32, u8, 16384);
#endif
#ifdef STACKS
BPF_TABLE("stacktrace", int, struct stack, stacks, MAX_STACKS);
#endif

/* ---- small things ---- */

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

/* A number of which the verifier knows nothing, as a helper wrote it: it walks what follows once, and not once for each
 * value. (In memory of the thread's own: at the functions of system calls, a program can be preempted by another one
 * on its CPU.) */
INLINE u32 opaque(u32 number)
{
    u32 copy = 0;
    bpf_probe_read_kernel(&copy, sizeof(copy), &number);
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

/* An index below a power of two. clang leaves the mask out where it knows the index to be small enough, and the
 * verifier misses it then: so clang is told that the index can be anything. */
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

/* 0 when the process has no row for sure. */
INLINE int may_have_row(u32 key)
{
    u32 *hint = hint_of(key);
    return hint && *hint;
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

/* What happens once to a spawn, whichever CPUs find at the same moment that it is due: a map's insertion is atomic. */
#define ONCE_FINISHED 0
#define ONCE_TOLD     1
#define ONCE_FREED    2
#define ONCE_WATCHED  3

INLINE int once(u64 id, u32 what)
{
    u64 key = id << 2 | what;
    u8 one = 1;
    /* An insertion can fail for another reason, when the other CPU is at it (-ENOMEM, -EBUSY): it is tried again. */
#pragma unroll
    for (int n = 0; n < 3; n++) {
        int result = done.insert(&key, &one);
        if (!result || result == -EEXIST)
            return !result;
    }
    return 1;
}

/* ---- the kernel's own structures ---- */

INLINE u64 kernel_u64(u64 address)
{
    u64 value = 0;
    bpf_probe_read_kernel(&value, sizeof(value), (void *)address);
    return value;
}

#ifdef BTF
/* A file descriptor table. */
struct fds {
    u64 files;
    u64 cloexec;
    u32 size;
};

INLINE void fds_at(u64 files_struct, struct fds *fds)
{
    u64 table = kernel_u64(files_struct + OFF_FILES_FDT);
    fds->files = kernel_u64(table + OFF_FDT_FD);
    fds->cloexec = kernel_u64(table + OFF_FDT_CLOEXEC);
    fds->size = (u32)kernel_u64(table + OFF_FDT_MAX);
}

INLINE void fds_of(u64 task, struct fds *fds) { fds_at(kernel_u64(task + OFF_TASK_FILES), fds); }

INLINE u64 file_at(struct fds *fds, u32 fd)
{
    return fd < fds->size ? kernel_u64(fds->files + 8ULL * fd) : 0;
}

/* 1: the file, that is the write end's, is the write end's still; it can have been freed and used again. */
INLINE u64 is_there(struct spawn *spawn)
{
    u64 file = spawn->file;
    return (differ(kernel_u64(file + OFF_FILE_PRIVATE), spawn->key) ^ 1) & differ(file, 0);
}

/* 1: the table has a copy of the write end at that number (-1: no number), provided that is_there. */
INLINE u64 has_at(struct fds *fds, struct spawn *spawn, s32 fd)
{
    u64 number = (u32)fd;
    u64 file = kernel_u64(fds->files + 8 * number);
    return (differ(file, spawn->file) ^ 1) & less(number, fds->size);
}

INLINE int cloexec_at(struct fds *fds, u32 fd)
{
    return (kernel_u64(fds->cloexec + fd / 64 * 8) >> (fd % 64)) & 1;
}

/* How many copies of the write end a table has; inside and outside a range of numbers, and the first of them. */
struct copies {
    u32 inside;
    u32 outside;
    s32 fd;       /* the first inside, -1: none */
    s32 other_fd; /* the first outside */
    u32 standard; /* one of them is a standard stream */
};

INLINE void count_copies(struct fds *fds, struct spawn *spawn, u32 first, u32 last, struct copies *found)
{
    u64 there = is_there(spawn), inside = 0, outside = 0, standard = 0;
    s64 fd = -1, other_fd = -1;
#pragma unroll
    for (int k = NUMBERS - 1; k >= 0; k--) {
        u64 number = (u32)spawn->fds[k], has = there & has_at(fds, spawn, number);
        u64 in = (less(number, first) ^ 1) & (less(last, number) ^ 1) & has, out = in ^ has;
        standard += has & less(number, 3);
        inside += in;
        outside += out;
        fd ^= (fd ^ number) & -in;
        other_fd ^= (other_fd ^ number) & -out;
    }
    found->inside = inside;
    found->outside = outside;
    found->standard = standard;
    found->fd = fd;
    found->other_fd = other_fd;
}

/* *fd: the number of a copy. */
INLINE int holds(struct fds *fds, struct spawn *spawn, u32 *fd)
{
    u64 held = 0, at = 0;
#pragma unroll
    for (int k = NUMBERS - 1; k >= 0; k--) {
        u64 number = (u32)spawn->fds[k], has = has_at(fds, spawn, number);
        at ^= (at ^ number) & -has;
        held |= has;
    }
    *fd = at;
    return held & is_there(spawn);
}
#endif

/* The name of the current task's process. That of its thread can be anything: Python 3.14 names them. */
INLINE void process_comm(char *comm)
{
#ifdef BTF
    u64 leader = kernel_u64(bpf_get_current_task() + OFF_TASK_LEADER);
    bpf_probe_read_kernel(comm, COMM_LEN, (void *)(leader + OFF_TASK_COMM));
#else
    bpf_get_current_comm(comm, COMM_LEN);
#endif
}

/* ---- sets of places ---- */

INLINE void set_place(struct places *set, u32 place)
{
    u32 word = below(place / 64, WORDS);
    ((u8 *)set->used)[word] = 1;
    if (!(set->words[word] >> (place % 64) & 1))
        __sync_fetch_and_add(&set->words[word], 1ULL << (place % 64));
}

INLINE void clear_place(struct places *set, u32 place)
{
    u32 word = below(place / 64, WORDS);
    if (set->words[word] >> (place % 64) & 1)
        __sync_fetch_and_add(&set->words[word], -(1ULL << (place % 64)));
}

INLINE u32 lowest_bit(u64 word)
{
    u32 bit = 0;
    word &= -word;
    bit += differ(word & 0xffffffff00000000ULL, 0) << 5;
    bit += differ(word & 0xffff0000ffff0000ULL, 0) << 4;
    bit += differ(word & 0xff00ff00ff00ff00ULL, 0) << 3;
    bit += differ(word & 0xf0f0f0f0f0f0f0f0ULL, 0) << 2;
    bit += differ(word & 0xccccccccccccccccULL, 0) << 1;
    bit += differ(word & 0xaaaaaaaaaaaaaaaaULL, 0);
    return bit;
}

/* The next place in a set, NONE at its end, or LATER; from is where to go on. */
INLINE u32 next_in(struct places *set, u32 *from)
{
    u32 at = *from;
    if (at >= MAX_SPAWNS)
        return NONE;
    u32 word = below(at / 64, WORDS);
    if (at % (GROUP_WORDS * 64) == 0 && !set->used[below(word / GROUP_WORDS, USED / 8)]) {
        *from = opaque(at + GROUP_WORDS * 64);
        return LATER;
    }
    u64 rest = set->words[word] >> (at % 64);
    if (!rest) {
        *from = opaque((at | 63) + 1);
        return LATER;
    }
    u32 place = at + lowest_bit(rest);
    *from = opaque(place + 1);
    return place;
}

INLINE struct places *watchlist(void)
{
    int zero = 0;
    return watched.lookup(&zero);
}

/* ---- the end of a spawn ---- */

/* id: what it had when it was found. Another CPU can end it meanwhile, and its place be another one's then. */
INLINE void free_spawn(struct spawn *spawn, u64 id)
{
    u64 key = spawn->key, other = spawn->other_key;
    u32 place = spawn->index, pid = spawn->pid;
    if (!id || *(volatile u64 *)&spawn->id != id || !once(id, ONCE_FREED))
        return;
    struct places *list = watchlist();
    if (list && spawn->listed)
        clear_place(list, place);
    struct process *row = processes.lookup(&pid);
    if (row)
        clear_place(&row->may_hold, place);
    u32 *found = pipes.lookup(&key);
    if (found && *found == place)
        pipes.delete(&key);
    found = other ? pipes.lookup(&other) : 0;
    if (found && *found == place)
        pipes.delete(&other);
    *(volatile u64 *)&spawn->id = 0;
    u64 *owner = places.lookup(&place);
    if (owner && *owner == id) /* user space frees one that has ended, too */
        places.delete(&place); /* last: from here on another thread can take the place */
}

INLINE void send(void *ctx, void *record, u32 size)
{
    if (records.perf_submit(ctx, record, size) < 0)
        count(RECORDS_LOST);
}

INLINE u64 stall_began(struct spawn *spawn)
{
    if (!spawn->own_released || !spawn->read_began)
        return 0;
    return spawn->own_released > spawn->read_began ? spawn->own_released : spawn->read_began;
}

INLINE int is_long(struct spawn *spawn)
{
    u64 began = stall_began(spawn);
    u64 threshold = setting(SETTING_THRESHOLD_NS);
    if (!began)
        return 0;
    /* A parent that waits in poll reads when all is over: user space knows whether it has waited. */
    u64 kept = spawn->releases ? spawn->last[below(spawn->releases - 1, RELEASES)].ns : 0;
    return spawn->read_ended >= began + threshold || (spawn->held && kept >= spawn->own_released + threshold);
}

INLINE struct program *program_of(struct comm *comm)
{
    struct program *program = programs.lookup(comm);
    if (!program) {
        int zero = 0;
        struct program *fresh = zero_program.lookup(&zero);
        if (!fresh)
            return 0;
        programs.insert(comm, fresh);
        program = programs.lookup(comm);
    }
    if (!program) {
        count(PROGRAMS_FULL);
        struct comm other = {.text = "~other"};
        program = programs.lookup(&other);
    }
    if (program)
        program->used = bpf_ktime_get_ns();
    return program;
}

INLINE void observe(struct histogram *histogram, u64 ns)
{
    u64 bucket = 0;
    /* Sign bits instead of comparisons: 22 branches would make 22 paths for the verifier to walk. */
#pragma unroll
    for (int b = 0; b < BUCKETS - 1; b++)
        bucket += (((u64)BUCKET_0_NS << b) - ns) >> 63;
    if (bucket < BUCKETS)
        __sync_fetch_and_add(&histogram->buckets[bucket], 1);
    __sync_fetch_and_add(&histogram->sum_ns, ns);
}

/* What is to be done with a spawn after an event. Each program comes to one place where it is done (settle), so that the
 * code for it is there once. */
#define GO_ON   0
#define CHECK   1 /* one of the two is known now: the end of the read, or what became of the own child */
#define TELL    2 /* everything is known */
#define DROP    3 /* it was another use of a pipe */
#define EXPOSED 4 /* added to these: one more exposure, of a spawn whose exposures were counted before */

/* How a spawn ended of which both are known. */
INLINE u32 outcome_of(struct spawn *spawn)
{
    if (spawn->read_ended && spawn->own_how == HOW_EXEC)
        return OUTCOME_OK;
    if (spawn->read_ended && spawn->exec_error)
        return OUTCOME_EXEC_FAILED;
    return OUTCOME_ABANDONED;
}

INLINE void add_up(struct spawn *spawn, struct program *program, u32 outcome)
{
#pragma unroll
    for (int cause = 0; cause < EXPOSURES; cause++)
        __sync_fetch_and_add(&program->exposures[cause], spawn->exposures[cause]);
    u64 *ended = outcome == OUTCOME_OK            ? &program->ok
                 : outcome == OUTCOME_EXEC_FAILED ? &program->exec_failed
                                                  : &program->abandoned;
    __sync_fetch_and_add(ended, 1);
    if (outcome == OUTCOME_ABANDONED)
        return;
    observe(&program->spawn, spawn->read_ended - spawn->created);
    observe(&program->exec, spawn->own_released - spawn->forked);
    if (!spawn->held && is_long(spawn))
        __sync_fetch_and_add(&program->late_wakeups, 1);
}

/* id: as in free_spawn. */
INLINE void settle(void *ctx, struct spawn *spawn, u64 id, u32 verdict)
{
    u32 finishes = 0, outcome = OUTCOME_ABANDONED, exposed = verdict & EXPOSED;
    verdict &= EXPOSED - 1;
    if (verdict == CHECK) {
        __sync_fetch_and_add(&spawn->known, 1); /* a barrier: the other half can come on another CPU just now */
        verdict = GO_ON;
        if (*(volatile u8 *)&spawn->ended && *(volatile u64 *)&spawn->own_released &&
            *(volatile u64 *)&spawn->id == id && once(id, ONCE_FINISHED)) {
            outcome = outcome_of(spawn);
            finishes = outcome != OUTCOME_ABANDONED || spawn->cloexec;
            verdict = finishes ? TELL : DROP; /* what never was close-on-exec and served no exec is some other pipe */
        }
    }
    if (finishes || exposed) {
        struct comm comm = {};
        __builtin_memcpy(comm.text, spawn->comm, COMM_LEN);
        struct program *program = program_of(&comm);
        if (program && exposed) {
            __sync_fetch_and_add(&program->exposures[below(spawn->exposed, EXPOSURES)], 1);
        } else if (program) {
            if (spawn->own_released > spawn->read_ended && spawn->eof)
                spawn->own_released = spawn->read_ended; /* an exec is seen after its closes */
            add_up(spawn, program, outcome);
        }
    }
    if (finishes) {
        *(volatile u8 *)&spawn->outcome = outcome;
        __sync_fetch_and_add(&spawn->known, 1); /* a barrier: foreign_released writes settled, and reads outcome */
#ifdef BTF
        /* The exec of a foreign holder is seen after its closes: it is waited for. (User space looks after those that
         * wait for long.) */
        if (spawn->held && spawn->eof && !*(volatile u8 *)&spawn->settled)
            return;
#endif
    }
    if (verdict == TELL && *(volatile u64 *)&spawn->id == id && once(id, ONCE_TOLD)) {
#ifndef EVERY
        if ((spawn->outcome != OUTCOME_ABANDONED || spawn->killed) && is_long(spawn))
#endif
            send(ctx, spawn, sizeof(*spawn));
        verdict = DROP;
    }
    if (verdict == DROP)
        free_spawn(spawn, id);
}

/* ---- who is left? ---- */

#ifdef BTF
/*
 * Copies of the write end that the kernel counts beyond those of the parent and so many (mine) that are about to go.
 * All copies that were made by fork, dup or SCM_RIGHTS share one struct file, whose count is right at once. A pipe that
 * was opened anew (/proc/PID/fd) has another one; the pipe counts those in writers, after a short while.
 */
INLINE u32 others(struct spawn *spawn, u32 mine)
{
    u64 file = spawn->file;
    if (kernel_u64(file + OFF_FILE_PRIVATE) != spawn->key)
        return 0; /* it is gone, and was used again */
    struct fds parents;
    struct copies kept;
    fds_at(spawn->files, &parents);
    count_copies(&parents, spawn, 0, ~0U, &kept);
    kept.inside *= differ(spawn->ended, 0) ^ 1; /* the parent may be gone, and its table another process's */
    s64 left = (s64)kernel_u64(file + OFF_FILE_COUNT) - FILE_COUNT_ONE + 1 - (s64)mine - kept.inside;
    /* The parent is in its close just now: its number is free, and its copy may be counted still. */
    if (!kept.inside && spawn->parent_closed && !spawn->reading &&
        bpf_ktime_get_ns() - spawn->parent_closed < CLOSING_NS)
        left -= 1;
    if (left < 0)
        left = 0;
    if (!spawn->is_socket) {
        u32 writers = (u32)kernel_u64(spawn->key + OFF_PIPE_WRITERS);
        if (writers > 1 && writers < 1 << 20)
            left += writers - 1;
    }
    return left;
}
#endif

/* Asked when the own child has let go, when the parent has, and when it begins to read: is anybody left? */
INLINE void watch(struct spawn *spawn, u32 left)
{
    struct places *list = watchlist();
    if (!list || !left)
        return;
    spawn->held = 1;
    if (once(spawn->id, ONCE_WATCHED)) {
        spawn->listed = 1;
        set_place(list, spawn->index);
    }
}

/* The parent lets go of the read end: by close, exec, or its own exit. */
INLINE u32 read_end_released(struct spawn *spawn, u32 how, u64 ns)
{
    if (spawn->ended)
        return GO_ON;
    if (!spawn->own_pid || (!spawn->read_began && !spawn->parent_closed))
        return DROP; /* never forked for, or let go of before the write end: no errpipe */
    if (spawn->reading && how == HOW_EXIT) {
        spawn->read_ended = ns;
        spawn->read_cut = 1;
    } else if (spawn->is_socket) {
        spawn->read_ended = ns;
        spawn->eof = 1;
    } else if (spawn->reading && spawn->elsewhere) {
        spawn->read_ended = ns; /* it gave up waiting */
    }
    spawn->reading = 0;
    *(volatile u8 *)&spawn->ended = 1;
    return CHECK;
}

/* ---- a process lets go of its last copy of a write end ---- */

INLINE int is_own(struct spawn *spawn, struct process *row, u32 key)
{
    return *(volatile u32 *)&spawn->own_pid == key && spawn->forked == row->born && !spawn->own_released;
}

/* A spawn gets an own child; if it had another one before, that one was something else. */
INLINE void start_own(struct spawn *spawn, u64 forked, u32 cloexec)
{
    spawn->own_released = 0;
    spawn->own_how = 0;
    spawn->cloexec = cloexec;
    spawn->exec_error = 0;
    spawn->killed = 0;
    spawn->heir = 0;
    spawn->heir_released = 0;
    /* So is who held a copy meanwhile. (An exit that was seen before the first one can still close its copy late.) */
    spawn->held = spawn->settled = 0;
    spawn->releases *= differ(spawn->own_pid, 0) ^ 1;
    __builtin_memset(spawn->exposures, 0, sizeof(spawn->exposures));
    spawn->forked = forked;
}

INLINE u32 killed_by(u32 how)
{
#ifdef BTF
    if (how == HOW_EXIT)
        return kernel_u64(bpf_get_current_task() + OFF_TASK_EXIT_CODE) & 0x7f;
#endif
    return 0;
}

/* 1: something is in the pipe that the parent has not read. (Java's helper sends a sign of life before its second exec.) */
INLINE u32 has_unread(struct spawn *spawn)
{
#ifdef BTF
    u32 head = kernel_u64(spawn->key + OFF_PIPE_HEAD), tail = 0;
#ifdef OFF_PIPE_TAIL
    tail = kernel_u64(spawn->key + OFF_PIPE_TAIL);
#endif
    return !spawn->is_socket && head != tail;
#else
    return 1; /* not known */
#endif
}

#ifdef BTF
/* A foreign process does, while the spawn is watched. left: the copies of others. */
INLINE u32 foreign_released(struct process *row, u32 key, struct spawn *spawn, s32 fd, u32 how, u64 ns, u32 left)
{
    u64 execed = differ(row->execed, 0), expected = row->expected & 1, descends = 0;
#pragma unroll
    for (int k = 0; k < ANCESTORS; k++)
        descends |= differ(row->parent[k], spawn->own_pid) ^ 1;
    descends &= differ(spawn->own_pid, 0) & (less(row->born, spawn->forked) ^ 1);
    u64 late_exec = expected | ((differ(how, HOW_EXEC) ^ 1) & (execed ^ 1));
    u32 cause = EXPOSED_LEAKED * (execed & (late_exec ^ 1)) | EXPOSED_LATE_EXEC * late_exec | EXPOSED_OWN_DESCENDANT * descends;
    struct release *release = &spawn->last[below(spawn->releases, RELEASES)];
    __sync_fetch_and_add(&spawn->releases, 1);
    release->ns = ns;
    release->acquired = row->born;
    release->pid = key;
    release->parent = row->parent[0];
    release->forker = row->forker;
    release->fd = fd;
    release->how = how;
    release->flags = RELEASE_EXECED * execed | RELEASE_DESCENDANT * descends | RELEASE_EXPECTED * expected;
    if (left && !spawn->own_released)
        left -= 1; /* the own child's */
    release->left = left;
    release->stack = row->stack;
    bpf_get_current_comm(&release->comm, COMM_LEN);
    if (how == HOW_CLOSE && !row->execed) { /* does an exec follow? */
        u64 not_yet = 0;
        execs.update(&key, &not_yet);
    }
    spawn->exposed = cause;
    *(volatile u8 *)&spawn->settled = spawn->held && !left;
    __sync_fetch_and_add(&spawn->known, 1); /* a barrier, see settle */
    if (!*(volatile u8 *)&spawn->outcome) {
        spawn->exposures[below(cause, EXPOSURES)] += spawn->held;
        return GO_ON;
    }
    return (left ? GO_ON : TELL) | EXPOSED;
}
#endif

#ifdef BTF
/* A stray calls exec, or exits: which of the spawns is its own, the parent's close shows later. */
INLINE void end_stray(struct process *row, u32 key, u32 how, u64 ns)
{
    u32 killed = killed_by(how);
    if (!row->strays || (how != HOW_EXEC && !row->exec_error && !killed))
        return;
    row->strays = 0;
    struct stray_end end = {.born = row->born, .ns = ns, .how = how, .killed = killed};
    if (how != HOW_EXEC)
        end.exec_error = row->exec_error;
    process_comm(end.comm);
    stray_ends.update(&key, &end);
}

INLINE u64 is_stray(struct spawn *spawn, struct process *row, u32 key)
{
    return (differ(spawn->stray.pid, key) | differ(spawn->stray.forked, row->born)) ^ 1;
}

/* The parent closes its write end: the stray is the own child, unless it has ended without an exec. */
INLINE void adopt(struct spawn *spawn)
{
    u32 pid = spawn->stray.pid;
    start_own(spawn, spawn->stray.forked, 1);
    *(volatile u32 *)&spawn->own_pid = pid;
    /* A barrier: its exec can be seen on another CPU just now, which writes stray_ends first and reads own_pid then. */
    __sync_fetch_and_add(&spawn->known, 1);
    struct stray_end *end = stray_ends.lookup(&pid);
    if (end && end->born == spawn->forked) {
        spawn->own_how = end->how;
        spawn->exec_error = end->exec_error;
        spawn->killed = end->killed;
        spawn->unread = has_unread(spawn);
        __builtin_memcpy(spawn->own_comm, end->comm, COMM_LEN);
        *(volatile u64 *)&spawn->own_released = end->ns;
    } else if (!processes.lookup(&pid)) {
        *(volatile u32 *)&spawn->own_pid = 0;
    }
}
#endif

/*
 * The current process does; mine: its copies that are still open. An own child that closes its copy, or exits, without an
 * exec has ended a spawn if an exec failed before, or a signal kills it. If it has forked on and its child has a copy,
 * that one is the own child from now on (GLib forks twice). What remains is another use of a pipe: a worker's result, a
 * daemon that is ready.
 */
INLINE u32 released(struct process *row, u32 key, struct spawn *spawn, s32 fd, u32 how, u64 ns, u32 mine)
{
    u32 parent = spawn->pid == key, own = !parent && is_own(spawn, row, key), verdict = GO_ON;
    if (parent) {
#ifdef BTF
        u32 tid = thread_id();
        if (spawn->stray.pid && (!spawn->own_pid || spawn->tid != tid)) {
            if (spawn->doubtful && spawn->stray.forker != tid)
                return DROP; /* no fact says which of the children the pipe was made for */
            adopt(spawn);
        }
#endif
        *(volatile u64 *)&spawn->parent_closed = ns;
        if (spawn->is_socket && spawn->own_pid) {
            spawn->read_tid = thread_id();
            spawn->read_began = ns;
            spawn->reading = 1;
        }
        mine = 0; /* they are counted among the parent's */
    } else if (row->shared) { /* another thread, or another process, may keep what this one lets go of */
        spawn->copy_lost = 1;
        return GO_ON;
    } else {
        clear_place(&row->may_hold, spawn->index);
#ifdef BTF
        if (how == HOW_CLOSE && is_stray(spawn, row, key))
            spawn->stray.pid = 0; /* it never went to exec with it */
#endif
    }
    if (own) {
        u32 heir = spawn->heir, failed = row->exec_error || killed_by(how);
        if (how != HOW_EXEC && !failed && !row->execed && heir) {
            struct process *next = processes.lookup(&heir);
            spawn->heir = 0;
            if (spawn->heir_released || next) {
                if (next && !spawn->heir_released)
                    spawn->forked = next->born;
                *(volatile u32 *)&spawn->own_pid = heir;
                if (!spawn->heir_released)
                    return GO_ON;
                how = HOW_EXEC;
            }
        }
        if (!failed && (how == HOW_CLOSE || (how == HOW_EXIT && (row->execed || spawn->is_socket))))
            return DROP;
        spawn->own_how = how;
        spawn->exec_error = how == HOW_EXEC ? 0 : row->exec_error;
        spawn->killed = killed_by(how);
        spawn->unread = has_unread(spawn);
        *(volatile u64 *)&spawn->own_released = ns;
        verdict = CHECK;
    }
#ifdef BTF
    if (spawn->heir == key) {
        if (how != HOW_EXEC) {
            spawn->heir = 0;
        } else if (!spawn->heir_released) {
            process_comm(spawn->own_comm);
            spawn->heir_released = ns;
        }
    }
    if (!spawn->own_released && how != HOW_EXIT)
        return verdict;
    u32 left = others(spawn, mine);
    if (!parent && !own) {
        if (!spawn->held && how != HOW_EXIT)
            return GO_ON;
        return foreign_released(row, key, spawn, fd, how, ns, left);
    }
#else
    u32 left = LEFT_UNKNOWN;
#endif
    if (spawn->own_released && !spawn->ended)
        watch(spawn, left);
    return verdict;
}

#ifdef BTF
/* ---- an event that concerns many spawns of the current process ---- */

/* struct process.kept, bits: a copy survived the exec; so did one of a spawn whose parent waits for this process. */
#define KEPT          1
#define KEPT_EXPECTED 2

/* 1: the spawner's thread has forked the process after the own child: what is no errpipe, it can have been made for this
 * one. (Go's next spawn has copies, too, which are close-on-exec.) */
INLINE u64 handed_on(struct process *row, struct spawn *spawn)
{
    return (differ(row->forker, spawn->tid) ^ 1) & less(spawn->forked, row->born) & differ(spawn->own_pid, 0);
}

/* What close_range, exec or exit does to one spawn. */
INLINE u32 let_go_of(struct process *row, u32 key, struct spawn *spawn, struct walk *walk, struct copies *copies)
{
    u32 how = walk->how;
    u32 last = copies->inside && !copies->outside; /* close_range, exit: its last copy goes */
    if (spawn->pid == key) {
        /* After an exec the read end is of no use to the new program. */
        if (!less((u32)spawn->read_fd, walk->first) && !less(walk->last, (u32)spawn->read_fd))
            return read_end_released(spawn, how, walk->ns);
        if (!last)
            return GO_ON;
    } else if (how == HOW_EXEC) {
        if (copies->standard)
            return DROP; /* a standard stream of a new program: a data pipe */
        if (is_own(spawn, row, key))
            process_comm(spawn->own_comm);
        if (copies->inside) {
            if (handed_on(row, spawn))
                return DROP;
            row->kept |= spawn->reading && is_own(spawn, row, key) ? KEPT_EXPECTED : KEPT;
            return GO_ON;
        }
    } else if (!last) {
        return GO_ON;
    }
    return released(row, key, spawn, copies->fd, how, walk->ns, copies->inside);
}

/* What a glance at a spawn says that the current process may hold. */
#define NOTHING   0 /* nothing happens to it, or nobody waits for what goes */
#define A_RELEASE 1 /* a foreign holder of a watched spawn lets go of its last copy: there can be a thousand at once */
#define MORE      2 /* look closer */
#define IS_IDLE   3 /* a pipe of its own that serves no spawn: it goes with the process */

/* Without a branch: a program looks at many spawns in a loop. */
INLINE u64 glance(struct process *row, u32 key, struct spawn *spawn, struct walk *walk, struct copies *copies)
{
    u64 foreign = differ(spawn->pid, key) & (differ(spawn->own_pid, key) | differ(spawn->forked, row->born));
    u64 stale = foreign & (less(spawn->created, row->born) ^ 1); /* the place is used again: it never came here */
    u64 plain = foreign & differ(spawn->heir, key) & (differ(row->shared, 0) ^ 1) & (stale ^ 1);
    u64 any = differ(copies->inside, 0), outside = differ(copies->outside, 0), held = differ(spawn->held, 0);
    u64 exec = differ(walk->how, HOW_EXEC) ^ 1;
    u64 goes = plain & ((exec & (any ^ 1)) | ((exec ^ 1) & any & (outside ^ 1)));
    u64 keeps = plain & ((exec & any & (differ(copies->standard, 0) ^ 1)) | ((exec ^ 1) & ((any ^ 1) | outside)));
    u64 handed = exec & keeps & handed_on(row, spawn);
    row->kept |= exec & keeps;
    spawn->doubtful |= exec & keeps & (differ(spawn->own_pid, 0) ^ 1);
    u64 no_stray = is_stray(spawn, row, key) & ((exec & keeps) | (goes & (differ(walk->how, HOW_CLOSE) ^ 1)));
    spawn->stray.pid *= no_stray ^ 1;
    if (stale | goes)
        clear_place(&row->may_hold, spawn->index);
    /* What an exit closes stays open for a while, in which the spawn can become one that is watched. */
    u64 counts = held | (differ(walk->how, HOW_EXIT) ^ 1);
    u64 idle = (differ(spawn->pid, key) ^ 1) & (differ(spawn->own_pid, 0) ^ 1) & differ(walk->how, HOW_CLOSE);
    return (goes & counts) * A_RELEASE | (((stale | goes | keeps) ^ 1) | handed) * MORE | idle * IS_IDLE;
}

/* Looks at the next places of the current process, up to one that is at its end, or needs a closer look. 1: go on. */
INLINE int let_go(void *ctx, struct walk *walk)
{
    u32 key = process_id(), verdict = GO_ON;
    struct process *row = processes.lookup(&key);
    struct spawn *spawn = 0;
    u64 id = 0;
    if (!row)
        return 0;
    struct fds fds;
    struct copies copies;
    fds_of(bpf_get_current_task(), &fds);
#pragma clang loop unroll(disable)
    for (int n = 0; n < STEPS; n++) {
        u32 place = next_in(&row->may_hold, &walk->from);
        if (place == NONE)
            goto end;
        spawn = place == LATER ? 0 : spawn_at(place);
        id = spawn ? *(volatile u64 *)&spawn->id : 0;
        if (!id)
            continue;
        count_copies(&fds, spawn, walk->first, walk->last, &copies);
        u32 seen = opaque(glance(row, key, spawn, walk, &copies));
        if (seen == MORE)
            goto closer;
        if (seen == IS_IDLE)
            free_spawn(spawn, id);
        if (seen == A_RELEASE) {
            u32 left = others(spawn, copies.inside);
            verdict = foreign_released(row, key, spawn, copies.fd, walk->how, walk->ns, left);
            if (verdict)
                goto act;
        }
    }
    return 1;
closer:
    verdict = let_go_of(row, key, spawn, walk, &copies);
act:
    settle(ctx, spawn, id, opaque(verdict));
    return 1;
end:
    if (walk->how == HOW_EXIT || (walk->how == HOW_EXEC && !row->kept)) {
        delete_row(key);
    } else if (walk->how == HOW_EXEC) {
        row->execed = walk->ns;
        row->expected &= row->kept / KEPT_EXPECTED; /* by a parent that waits for another exec (Java's helper) */
        row->kept = row->exec_error = 0; /* the error was that of an earlier place in PATH */
    }
    return 0;
}

#else
/* Without kernel types: what an exec or an exit does to the next spawn whose own child the current process is. */
INLINE int let_go(void *ctx, struct walk *walk)
{
    u32 key = process_id();
    struct process *row = processes.lookup(&key);
    if (!row)
        return 0;
    if (walk->from >= PENDING) {
        delete_row(key);
        return 0;
    }
    u32 place = row->own[below(walk->from, PENDING)];
    struct spawn *spawn = place ? spawn_at(place - 1) : 0;
    walk->from += 1;
    if (spawn && spawn->id && is_own(spawn, row, key)) {
        if (walk->how == HOW_EXEC)
            process_comm(spawn->own_comm);
        settle(ctx, spawn, spawn->id, released(row, key, spawn, spawn->fds[0], walk->how, walk->ns, 1));
    }
    return 1;
}
#endif

INLINE int go_on(struct walk *walk)
{
    u32 tid = thread_id();
    return walks.update(&tid, walk) == 0;
}

/* The rest of what begin_let_go began. */
int let_go_next(void *ctx)
{
    u32 tid = thread_id();
    struct walk *found = walks.lookup(&tid);
    if (!found)
        return 0;
    struct walk walk = *found;
    walks.delete(&tid);
    if (let_go(ctx, &walk) && go_on(&walk)) {
        shared.call(ctx, LET_GO_NEXT);
        count(WALKS_CUT);
    }
    return 0;
}

/* ---- one file descriptor ---- */

/* 0: the process has no end of a followed pipe at that number, as most system calls of one with pipes are about. */
INLINE int may_have(struct process *row, u32 fd) { return row->marks[fd % MARKS]; }

#define END_OTHER 0 /* none, or one that was opened anew */
#define END_WRITE 1
#define END_READ  2

/* The spawn that has an end of its pipe at that number of the current process, and which end. */
INLINE struct spawn *spawn_with(struct process *row, u32 key, s32 fd, u32 *end)
{
    struct spawn *spawn = 0;
    *end = END_OTHER;
#ifdef BTF
    struct fds fds;
    fds_of(bpf_get_current_task(), &fds);
    u64 file = file_at(&fds, fd);
    u64 pipe = file ? kernel_u64(file + OFF_FILE_PRIVATE) : 0;
    u32 *place = pipe ? pipes.lookup(&pipe) : 0;
    spawn = place ? spawn_at(*place) : 0;
    if (!spawn || !spawn->id || (spawn->key != pipe && spawn->other_key != pipe))
        return 0;
    if (file == spawn->file)
        *end = END_WRITE;
    else if (!(kernel_u64(file + OFF_FILE_MODE) & FMODE_WRITE) || spawn->other_key == pipe)
        *end = END_READ;
#else
    u64 pipe = (u64)key << 32 | (u32)fd;
    u32 *place = pipes.lookup(&pipe);
    spawn = place ? spawn_at(*place) : 0;
    if (!spawn || !spawn->id || spawn->pid != key) {
        spawn = 0;
#pragma unroll
        for (int k = 0; k < PENDING; k++) {
            struct spawn *own = row->own[k] ? spawn_at(row->own[k] - 1) : 0;
            if (own && own->id && own->own_pid == key && own->fds[0] == fd)
                spawn = own;
        }
        if (!spawn)
            return 0;
    }
    *end = spawn->fds[0] == fd ? END_WRITE : spawn->pid == key && spawn->read_fd == fd ? END_READ : END_OTHER;
#endif
    return spawn;
}

/* What is open at that number is about to be closed, or another file to be put over it. */
INLINE u32 close_fd(struct process *row, u32 key, struct spawn *spawn, s32 fd, u32 end)
{
    u64 ns = bpf_ktime_get_ns();
    if (end == END_READ)
        return spawn->pid == key && spawn->read_fd == fd ? read_end_released(spawn, HOW_CLOSE, ns) : GO_ON;
    if (end != END_WRITE)
        return GO_ON;
#ifdef BTF
    struct fds fds;
    struct copies copies;
    fds_of(bpf_get_current_task(), &fds);
    count_copies(&fds, spawn, fd, fd, &copies);
    if (copies.outside) { /* it has another one */
        if (spawn->pid == key && spawn->fds[0] == fd && !spawn->own_pid) {
            /* It moved it before its fork: that is its number. */
#pragma unroll
            for (int k = 1; k < NUMBERS; k++) {
                if (spawn->fds[k] == copies.other_fd)
                    spawn->fds[k] = fd;
            }
            spawn->fds[0] = copies.other_fd;
        }
        return GO_ON;
    }
    if (!copies.inside)
        spawn->copy_lost = 1; /* a number that is not followed */
#endif
    return released(row, key, spawn, fd, HOW_CLOSE, ns, 1);
}

/* The thread closes the number in its call. */
SHARED int closing(void *ctx)
{
    u32 tid = thread_id(), key = process_id(), end;
    struct process *row = row_of(key);
    struct call *call = row ? calls.lookup(&tid) : 0;
    if (!call)
        return 0;
    s32 fd = call->fd;
    calls.delete(&tid);
    struct spawn *spawn = spawn_with(row, key, fd, &end);
    u64 id = spawn ? *(volatile u64 *)&spawn->id : 0;
    if (id)
        settle(ctx, spawn, id, opaque(close_fd(row, key, spawn, fd, end)));
    return 0;
}

INLINE int go_on_closing(void *ctx, u32 tid, struct call *call)
{
    calls.update(&tid, call);
#ifdef FENTRY
    return closing(ctx);
#else
    shared.call(ctx, CLOSING);
    return 0;
#endif
}

ENTER(close)
{
    u32 key = process_id(), fd = ARGUMENT(0, fd), end;
    struct process *row = row_of(key);
    if (!row || !may_have(row, fd) || !spawn_with(row, key, fd, &end))
        return 0;
    struct call call = {.fd = fd};
    return go_on_closing(args, thread_id(), &call);
}

/* ---- pipes are made ---- */

INLINE int enter_pipe(u64 fds, u32 is_socket)
{
#ifdef FAULT_SHIFTED_ARGUMENTS /* for the test of the self-test: as if the fields lay 8 bytes further */
    fds += 1;
#endif
    u32 tid = thread_id(), key = process_id();
    if (!setting(SETTING_ENABLED) || setting(SETTING_SELF) == key)
        return 0;
#ifdef TARGETS
    if (!targets.lookup(&key))
        return 0;
#endif
    struct call call = {.arg = fds, .is_socket = is_socket};
    calls.update(&tid, &call);
    return 0;
}

/* Takes a place for a spawn: a free one, or that of a pipe that nobody has forked for; NONE: all are in use. */
INLINE u32 take_place(u64 id, u64 now)
{
    int zero = 0;
    u32 *next = next_place.lookup(&zero), at = NONE;
    if (!next)
        return NONE;
#ifdef UNROLL
#pragma unroll
    for (int n = 0; n < 8; n++) {
#else
#pragma clang loop unroll(disable)
    for (int n = 0; n < 32; n++) {
#endif
        __sync_fetch_and_add(next, 1);
        u32 place = opaque(*next + 131 * n * n) & (MAX_SPAWNS - 1); /* out of a row of pipes that stay */
        if (places.insert(&place, &id) == 0)
            return place;
        struct spawn *spawn = spawn_at(place);
        /* One that has ended waits for a release that does not come: user space has looked at it meanwhile. */
        if (spawn && spawn->id && now > spawn->created + IDLE_NS &&
            (!spawn->parent_closed || (spawn->ended && now > spawn->read_ended + IDLE_NS) ||
             (!spawn->reading && now > spawn->created + FORGOTTEN_NS)))
            at = place;
    }
    struct spawn *idle = at == NONE ? 0 : spawn_at(at);
    if (!idle)
        return NONE;
    if (!idle->ended)
        count(PIPES_FORGOTTEN);
    free_spawn(idle, idle->id);
    u32 place = opaque(at);
    return places.insert(&place, &id) == 0 ? place : NONE;
}

/* Remembers the thread's latest pipe. One that the thread made four pipes ago and never forked for is no errpipe. */
INLINE void remember_pipe(u32 tid, u64 id, u32 place)
{
    struct pending *pending = made.lookup(&tid);
    if (!pending) {
        struct pending fresh = {.ids = {id}, .places = {place}, .next = 1};
        made.update(&tid, &fresh);
        return;
    }
    u32 at = below(pending->next, PENDING);
    u64 old = pending->ids[at];
    struct spawn *spawn = old ? spawn_at(pending->places[at]) : 0;
    if (spawn && spawn->id == old && !spawn->own_pid && !spawn->stray.pid)
        free_spawn(spawn, old);
    pending->ids[at] = id;
    pending->places[at] = place;
    pending->next = at + 1;
}

/* The thread's pipe, pipe2 or socketpair has returned well. */
SHARED int pipe_made(void *ctx)
{
    u32 tid = thread_id(), key = process_id();
    struct call *call = calls.lookup(&tid);
    if (!call)
        return 0;
    s32 fds[2] = {-1, -1};
    u32 is_socket = call->is_socket;
    int unread = bpf_probe_read_user(fds, sizeof(fds), (void *)call->arg);
    calls.delete(&tid);
    if (unread) { /* its page has just been moved, or taken away by another thread */
        count(UPDATES_FAILED);
        return 0;
    }
    struct process *row = row_for(key);
    if (!row)
        return 0;
    u64 now = bpf_ktime_get_ns();
    u64 id = now << 8 | (bpf_get_smp_processor_id() & 0xff); /* one CPU makes one pipe a nanosecond */
    id &= ~0ULL >> 2; /* room for what once adds */
    u32 place = take_place(id, now);
    struct spawn *spawn = place == NONE ? 0 : spawn_at(place);
    if (!spawn) {
        count(SPAWNS_REFUSED);
        return 0;
    }
    __builtin_memset(spawn, 0, sizeof(*spawn));
    spawn->kind = RECORD_SPAWN;
    spawn->index = place;
    spawn->created = now;
    spawn->pid = key;
    spawn->tid = tid;
    spawn->read_fd = fds[0];
    spawn->fds[0] = fds[1];
    spawn->fds[1] = spawn->fds[2] = spawn->fds[3] = -1;
    spawn->is_socket = is_socket;
    spawn->copy_lost = row->shared || sharing.lookup(&key) != 0;
    process_comm(spawn->comm);
#ifdef BTF
    struct fds open;
    u64 files = kernel_u64(bpf_get_current_task() + OFF_TASK_FILES);
    fds_at(files, &open);
    u64 file = file_at(&open, fds[1]);
    spawn->file = file;
    spawn->files = files;
    spawn->key = kernel_u64(file + OFF_FILE_PRIVATE);
    spawn->inode = kernel_u64(kernel_u64(file + OFF_FILE_INODE) + OFF_INODE_NUMBER);
    if (is_socket)
        spawn->other_key = kernel_u64(file_at(&open, fds[0]) + OFF_FILE_PRIVATE);
#else
    spawn->key = (u64)key << 32 | (u32)fds[1];
    spawn->other_key = (u64)key << 32 | (u32)fds[0];
#endif
    u64 pipe = spawn->key, other = spawn->other_key;
    *(volatile u64 *)&spawn->id = id;
    pipes.update(&pipe, &place);
    if (other)
        pipes.update(&other, &place);
    row->marks[(u32)fds[0] % MARKS] = 1;
    row->marks[(u32)fds[1] % MARKS] = 1;
    set_place(&row->may_hold, place);
    remember_pipe(tid, id, place);
    return 0;
}

INLINE int pipe_returned(void *ctx, long result)
{
    u32 tid = thread_id();
    if (!calls.lookup(&tid))
        return 0;
    if (result < 0) {
        calls.delete(&tid);
        return 0;
    }
#ifdef FENTRY
    return pipe_made(ctx);
#else
    shared.call(ctx, PIPE_MADE);
    return 0;
#endif
}

ENTER(pipe2) { return enter_pipe(ARGUMENT(0, fildes), 0); }
LEAVE(pipe2) { return pipe_returned(args, RESULT); }
#ifdef HAVE_PIPE
ENTER(pipe) { return enter_pipe(ARGUMENT(0, fildes), 0); }
LEAVE(pipe) { return pipe_returned(args, RESULT); }
#endif

/*
 * Rust's Command with pre_exec waits in recvfrom on one end of such a pair. The other end does what a write end does.
 * Tracing recvfrom would cost every server on the host; between the parent's two closes there is nothing else than that
 * wait.
 */
ENTER(socketpair)
{
    u32 family = ARGUMENT(0, family), type = ARGUMENT(1, type);
    if (family != AF_UNIX || (type & SOCK_TYPE_MASK) != SOCK_SEQPACKET)
        return 0;
    return enter_pipe(ARGUMENT(3, usockvec), 1);
}
LEAVE(socketpair) { return pipe_returned(args, RESULT); }

/* ---- copies are made ---- */

/* A copy is made at another number of the current process. */
INLINE u32 learn_number(struct process *row, u32 key, struct spawn *spawn, s32 fd)
{
    int known = 0;
#pragma unroll
    for (int k = 0; k < NUMBERS; k++) {
        if (!known && (spawn->fds[k] == fd || spawn->fds[k] < 0)) {
            spawn->fds[k] = fd;
            known = 1;
        }
    }
    if (!known) {
        spawn->copy_lost = 1;
        count(NUMBERS_OVERFLOWED);
    }
    row->marks[(u32)fd % MARKS] = 1;
    return fd <= 2 && spawn->pid != key ? DROP : GO_ON; /* a standard stream of a child: a data pipe */
}

/* A dup of old_fd to a free number, that only the result tells. */
INLINE int enter_dup(s32 old_fd)
{
    u32 tid = thread_id(), key = process_id(), end;
    struct process *row = row_of(key);
    struct spawn *spawn = row && may_have(row, old_fd) ? spawn_with(row, key, old_fd, &end) : 0;
    if (spawn && end != END_OTHER) {
        struct call call = {.arg = spawn->id, .place = spawn->index, .is_read_end = end == END_READ};
        calls.update(&tid, &call);
    }
    return 0;
}

/* The thread's dup or fcntl has returned well. */
SHARED int dup_made(void *ctx)
{
    u32 tid = thread_id(), key = process_id();
    struct process *row = row_of(key);
    struct call *call = row ? calls.lookup(&tid) : 0;
    if (!call)
        return 0;
    u64 id = call->arg;
    s32 fd = call->fd;
    struct spawn *spawn = spawn_at(call->place);
    if (call->is_read_end) { /* a read of that is seen, too */
        row->marks[(u32)fd % MARKS] = 1;
        spawn = 0;
    }
    calls.delete(&tid);
    if (spawn && spawn->id == id && learn_number(row, key, spawn, fd) == DROP)
        free_spawn(spawn, id);
    return 0;
}

INLINE int dup_returned(void *ctx, long result)
{
    u32 tid = thread_id();
    struct call *call = may_have_row(process_id()) ? calls.lookup(&tid) : 0;
    if (!call)
        return 0;
    call->fd = result;
    if (result < 0) {
        calls.delete(&tid);
        return 0;
    }
#ifdef FENTRY
    return dup_made(ctx);
#else
    shared.call(ctx, DUP_MADE);
    return 0;
#endif
}

/* A dup of old_fd is about to be put over fd: what is open there is closed. */
INLINE int enter_dup_over(void *ctx, s32 old_fd, s32 fd)
{
    u32 key = process_id(), end, other_end;
    struct process *row = row_of(key);
    if (!row || old_fd == fd || fd < 0 || (!may_have(row, old_fd) && !may_have(row, fd)))
        return 0;
    struct spawn *copied = spawn_with(row, key, old_fd, &end);
    struct spawn *closed = spawn_with(row, key, fd, &other_end);
    if (copied && copied == closed && end == other_end)
        return 0;
#ifdef BTF
    struct fds fds;
    fds_of(bpf_get_current_task(), &fds);
    if (closed && !file_at(&fds, old_fd))
        return 0; /* it fails */
#endif
    if (copied && end == END_READ)
        row->marks[(u32)fd % MARKS] = 1;
    if (copied && end == END_WRITE && learn_number(row, key, copied, fd) == DROP)
        free_spawn(copied, copied->id);
    if (!closed)
        return 0;
    struct call call = {.fd = fd};
    return go_on_closing(ctx, thread_id(), &call);
}

ENTER(dup) { return enter_dup(ARGUMENT(0, fildes)); }
LEAVE(dup) { return dup_returned(args, RESULT); }
#ifdef HAVE_DUP2
ENTER(dup2) { return enter_dup_over(args, ARGUMENT(0, oldfd), ARGUMENT(1, newfd)); }
#endif
ENTER(dup3) { return enter_dup_over(args, ARGUMENT(0, oldfd), ARGUMENT(1, newfd)); }
ENTER(fcntl)
{
    u32 command = ARGUMENT(1, cmd);
    return command == F_DUPFD || command == F_DUPFD_CLOEXEC ? enter_dup(ARGUMENT(0, fd)) : 0;
}
LEAVE(fcntl) { return dup_returned(args, RESULT); }

/* ---- one table for each process is what is followed ---- */

/* Called when a process's threads stop sharing one table, or share it with another process: from here on nothing that
 * this process lets go of is certain. */
INLINE void lose_table(u32 key)
{
    u8 one = 1;
    sharing.update(&key, &one);
    struct process *row = row_of(key);
    if (row) {
        row->shared = 1;
        count(TABLES_SHARED);
    }
}

/* The current thread goes on with a copy of its table, if anybody else uses that. */
INLINE void unshare_files(u32 key)
{
#ifdef BTF
    if ((u32)kernel_u64(kernel_u64(bpf_get_current_task() + OFF_TASK_FILES) + OFF_FILES_COUNT) <= 1)
        return;
#endif
    lose_table(key);
}

ENTER(unshare)
{
    if (ARGUMENT(0, unshare_flags) & CLONE_FILES)
        unshare_files(process_id());
    return 0;
}

#ifdef HAVE_CLOSE_RANGE
ENTER(close_range)
{
    u32 key = process_id(), tid = thread_id();
    u32 first = ARGUMENT(0, fd), last = ARGUMENT(1, max_fd), flags = ARGUMENT(2, flags);
    struct process *row = row_of(key);
    if (!row || first > last || (flags & ~(CLOSE_RANGE_CLOEXEC | CLOSE_RANGE_UNSHARE)))
        return 0;
    if (flags & CLOSE_RANGE_UNSHARE)
        unshare_files(key);
#ifdef BTF
    if (flags & CLOSE_RANGE_CLOEXEC) /* the table says so at the exec */
        return 0;
    struct walk walk = {.how = HOW_CLOSE, .first = first, .last = last};
#ifdef FENTRY
    struct walk *begun = walks.lookup(&tid);
    if (begun) {
        walk = *begun;
        walks.delete(&tid);
    } else {
        walk.ns = bpf_ktime_get_ns();
    }
    if (let_go(args, &walk) && go_on(&walk)) {
        range_again.call(args, 0);
        count(WALKS_CUT);
    }
#else
    walk.ns = bpf_ktime_get_ns();
    if (go_on(&walk))
        shared.call(args, LET_GO_NEXT);
#endif
#endif
    return 0;
}
#endif

/* ---- fork ---- */

#ifdef STACKS
/* Where the current thread is in user space: what a row keeps. A stack that is there already is shared; the place of
 * another one is not taken (no BPF_F_REUSE_STACKID), so that an id stays what it was. */
INLINE u32 user_stack(void *ctx)
{
    int id = stacks.get_stackid(ctx, BPF_F_USER_STACK);
    if (id >= 0)
        return id + 1;
    count(STACKS_LOST);
    return 0;
}
#endif

/* The child is the own child of a spawn. */
INLINE void assign_own(struct spawn *spawn, u32 child, u64 now, u32 cloexec, u32 vfork)
{
    start_own(spawn, now, cloexec);
    spawn->stray.pid *= vfork; /* Go's own children are of vfork */
    spawn->doubtful = 0;
    process_comm(spawn->own_comm);
    *(volatile u32 *)&spawn->own_pid = child;
}

INLINE void fill_row(struct process *to, struct process *from, u32 key, u32 tid, u64 now, u32 vfork)
{
    to->born = now;
    to->execed = 0;
    to->forker = tid;
    to->parent[0] = key;
    __builtin_memcpy(&to->parent[1], &from->parent[0], sizeof(u32) * (ANCESTORS - 1));
    to->stack = 0;
    to->expected = vfork;
    to->shared = 0;
    to->is_own = to->kept = to->foreign = to->exec_error = to->strays = 0;
    __builtin_memcpy(to->marks, from->marks, MARKS);
}

#ifdef BTF
/* Whether a pipe can have been made for the next child of its thread, too. Go's threads start the next program before the
 * last one's goroutine has closed its write end, by vfork. Others hand the pipe on to the later child: fork shows that at
 * once, vfork at the exec (handed_on). */
INLINE u64 is_for(struct spawn *spawn, u32 vfork)
{
    return (differ(spawn->own_pid, 0) ^ 1) | (vfork ^ 1);
}

/* The child is the own child of what its forker has made lately, and has a copy of. (First, so that no number of other
 * pipes is in the way.) */
INLINE void inherit_own(struct process *copy, struct fds *fds, u32 tid, u32 child, u64 now, u32 vfork)
{
    struct pending *pending = made.lookup(&tid);
    if (!pending)
        return;
#pragma clang loop unroll(disable)
    for (int k = 0; k < PENDING; k++) {
        u32 at = below(k, PENDING), fd;
        struct spawn *spawn = spawn_at(pending->places[at]);
        if (!spawn || !spawn->id || spawn->id != pending->ids[at] || spawn->ended || !holds(fds, spawn, &fd) ||
            !is_for(spawn, vfork))
            continue;
        set_place(&copy->may_hold, spawn->index);
        /* Again: the end of another spawn, whose pipe had the same address before, can have deleted it just when the pipe
         * was made (free_spawn looks, and then deletes). */
        u64 pipe = spawn->key;
        u32 place = spawn->index;
        pipes.update(&pipe, &place);
        copy->kept = copy->is_own = 1;
        assign_own(spawn, child, now, cloexec_at(fds, fd), vfork);
    }
}

/*
 * Looks at the next spawns that the forking process may hold: which of them has the child? Its table was copied before,
 * and has not been used yet: it is the exact snapshot. 1: there are more; *own: it is the own child of one.
 */
INLINE int inherit(void *ctx, struct walk *walk, struct fds *fds, u32 vfork, int *own)
{
    u32 key = process_id(), tid = thread_id(), child = walk->child;
    struct process *row = processes.lookup(&key), *copy = row ? row_for(child) : 0;
    if (!row || !copy)
        return 0;
    if (!walk->from) {
        fill_row(copy, row, key, tid, walk->ns, vfork);
        inherit_own(copy, fds, tid, child, walk->ns, vfork);
    }
#pragma clang loop unroll(disable)
    for (int n = 0; n < STEPS; n++) {
        u32 place = next_in(&row->may_hold, &walk->from);
        if (place == NONE)
            goto end;
        struct spawn *spawn = place == LATER ? 0 : spawn_at(place);
        if (!spawn || !spawn->id || spawn->outcome) /* the pipe of one that is over can be another one by now */
            continue;
        /* (When the read has ended, the thread may go on with another pipe at the same addresses.) */
        u64 mine = (differ(spawn->pid, key) | differ(spawn->ended, 0)) ^ 1;
        u64 spawner = mine & (differ(spawn->tid, tid) ^ 1) & is_for(spawn, vfork);
        u32 fd;
        if (!(holds(fds, spawn, &fd) & (mine | less(spawn->created, row->born))))
            continue; /* the place can be used again: then it never came here */
        set_place(&copy->may_hold, place);
        copy->kept = 1;
        copy->is_own |= spawner;
        copy->foreign |= spawner ^ 1;
        spawn->copy_lost |= row->shared;
        if (spawner & (differ(spawn->own_pid, child) ^ 1) & (differ(spawn->forked, walk->ns) ^ 1))
            continue; /* by inherit_own */
        u64 strays = mine & (spawner ^ 1) & (differ(spawn->own_pid, 0) ^ 1);
        spawn->doubtful |= strays & (vfork ^ 1);
        if (spawner) {
            assign_own(spawn, child, walk->ns, cloexec_at(fds, fd), vfork);
        } else if (strays & vfork & (differ(spawn->stray.pid, 0) ^ 1)) {
            spawn->stray.forked = walk->ns;
            spawn->stray.forker = tid;
            *(volatile u32 *)&spawn->stray.pid = child;
            copy->strays = 1;
        } else if (!(differ(spawn->own_pid, key) | differ(spawn->forked, row->born))) {
            spawn->heir = child; /* its own child has forked on */
            spawn->heir_released = 0;
        }
    }
    return 1;
end:
#ifdef STACKS
    if (copy->foreign)
        copy->stack = user_stack(ctx);
#endif
    *own = copy->is_own;
    if (!copy->kept)
        delete_row(child);
    copy->kept = 0;
    return 0;
}
#else
/* Without kernel types: the child is the own child of what its forker has made and not forked for. */
INLINE int inherit(void *ctx, u32 child, u64 flags)
{
    u32 key = process_id(), tid = thread_id();
    struct process *row = row_of(key), *copy = row ? row_for(child) : 0;
    u64 now = bpf_ktime_get_ns();
    if (!copy)
        return 0;
    fill_row(copy, row, key, tid, now, !!(flags & CLONE_VFORK));
#ifdef STACKS
    copy->stack = user_stack(ctx);
#endif
    struct pending *pending = made.lookup(&tid);
    if (!pending)
        return 0;
#pragma unroll
    for (int k = 0; k < PENDING; k++) {
        struct spawn *spawn = pending->ids[k] ? spawn_at(pending->places[k]) : 0;
        if (!spawn || spawn->id != pending->ids[k] || spawn->parent_closed)
            continue;
        assign_own(spawn, child, now, 1, 0); /* whether it is close-on-exec is not known */
        copy->own[k] = pending->places[k] + 1;
        copy->is_own = 1;
    }
    return copy->is_own;
}
#endif

/* ---- spawns without an errpipe ---- */

INLINE void vfork_began(u32 child)
{
    u32 key = process_id();
    if (setting(SETTING_SELF) == key)
        return;
#ifdef TARGETS
    if (!targets.lookup(&key))
        return;
#endif
    struct vforked vforked = {.ns = bpf_ktime_get_ns()};
    process_comm(vforked.comm.text);
    vforks.update(&child, &vforked);
}

/* A process calls exec or exits. */
INLINE void vfork_ended(u32 child)
{
    struct vforked *found = vforks.lookup(&child);
    if (!found)
        return;
    struct vforked vforked = *found;
    vforks.delete(&child);
    struct program *program = program_of(&vforked.comm);
    if (program)
        observe(&program->vfork, bpf_ktime_get_ns() - vforked.ns);
}

#ifdef BTF
int task_newtask(struct bpf_raw_tracepoint_args *ctx)
{
    u64 task = ctx->args[0], flags = ctx->args[1];
    if (flags & CLONE_THREAD)
        return 0;
    u32 child = (u32)kernel_u64(task + OFF_TASK_TGID);
#else
PROBE(task, task_newtask)
{
    void *context = args;
    u64 flags = args->clone_flags;
    if (flags & CLONE_THREAD)
        return 0;
    u32 child = args->pid;
#endif
    u32 key = process_id(), tid = thread_id();
    int own = 0;
#ifdef TARGETS
    if (targets.lookup(&key)) {
        u8 one = 1;
        targets.update(&child, &one);
    }
#endif
    if (flags & CLONE_FILES) {
        lose_table(child);
        lose_table(key);
#ifdef BTF
    } else if (may_have_row(key)) {
        struct walk *begun = walks.lookup(&tid), walk = {.how = HOW_FORK, .child = child};
        if (begun) {
            walk = *begun;
            walks.delete(&tid);
        } else {
            walk.ns = bpf_ktime_get_ns();
        }
        struct fds fds;
        fds_of(task, &fds);
        if (inherit(ctx, &walk, &fds, !!(flags & CLONE_VFORK), &own) && go_on(&walk)) {
            fork_again.call(ctx, 0);
            count(WALKS_CUT);
            struct process *copy = processes.lookup(&child);
            if (copy) /* what else it has is not known */
                copy->shared = 1;
        }
#else
    } else {
        own = inherit(context, child, flags);
#endif
    }
    if (!own && flags & CLONE_VFORK)
        vfork_began(child);
    return 0;
}

/* ---- exec and exit ---- */

INLINE int exec_failed(long result)
{
    u32 key = process_id();
    struct process *row = result < 0 ? row_of(key) : 0;
    if (!row)
        return 0;
    row->expected = 1;
    row->exec_error = -result;
    return 0;
}

#ifdef HAVE_EXECVE
LEAVE(execve) { return exec_failed(RESULT); }
#endif
#ifdef HAVE_EXECVEAT
LEAVE(execveat) { return exec_failed(RESULT); }
#endif

/* The process lets go of what it held by an exec (of its close-on-exec copies, which are closed already) or by its exit
 * (of all, which happens later). */
INLINE void begin_let_go(void *ctx, u32 key, u32 how)
{
    struct process *row = row_of(key);
    if (!row)
        return;
    struct walk walk = {.ns = bpf_ktime_get_ns(), .how = how, .last = ~0U};
#ifdef BTF
    end_stray(row, key, how, walk.ns);
#endif
    if (go_on(&walk))
        shared.call(ctx, LET_GO_NEXT);
}

PROBE(sched, sched_process_exec)
{
    u32 key = process_id();
    if (may_have_row(key)) {
        u64 *released = execs.lookup(&key);
        if (released && !*released)
            *released = bpf_ktime_get_ns();
    }
    sharing.delete(&key); /* an exec ends the sharing */
    vfork_ended(key);
    begin_let_go(args, key, HOW_EXEC);
    return 0;
}

/* Fires before the task's files are closed. */
PROBE(sched, sched_process_exit)
{
    u32 key = process_id(), tid = thread_id();
    if (may_have_row(key)) {
        made.delete(&tid);
        calls.delete(&tid);
        readers.delete(&tid);
    }
#if defined(GROUP_DEAD)
    if (!args->group_dead)
        return 0;
#elif defined(BTF)
    u64 signal = kernel_u64(bpf_get_current_task() + OFF_TASK_SIGNAL);
    if ((u32)kernel_u64(signal + OFF_SIGNAL_LIVE))
        return 0;
#else
    if (key != tid)
        return 0;
#endif
#ifdef TARGETS
    targets.delete(&key);
#endif
    sharing.delete(&key);
    vfork_ended(key);
    begin_let_go(args, key, HOW_EXIT);
    return 0;
}

/* ---- the read ---- */

#ifdef PIPE_READ
/* At the pipe's own function, of a struct kiocb and a struct iov_iter: what is no pipe, as most that is read, costs
 * nothing. */
#define READ_RESULT ((s64)args[2])

INLINE struct spawn *spawn_read(u64 *args)
{
    u64 pipe = kernel_u64(*(u64 *)(args[0] + OFF_KIOCB_FILE) + OFF_FILE_PRIVATE);
    u32 *place = pipes.lookup(&pipe);
    struct spawn *spawn = place ? spawn_at(*place) : 0;
    return spawn && spawn->id && spawn->key == pipe ? spawn : 0;
}
#else
#define READ_RESULT RESULT
#endif

ENTER(read)
{
    u32 key = process_id(), tid = thread_id();
    struct process *row = row_of(key);
    if (!row)
        return 0;
#ifdef PIPE_READ
    struct spawn *spawn = spawn_read(args);
#else
    u32 fd = ARGUMENT(0, fd), end = END_OTHER;
    struct spawn *spawn = may_have(row, fd) ? spawn_with(row, key, fd, &end) : 0;
    if (end != END_READ)
        return 0;
#endif
    if (!spawn || spawn->pid != key || !spawn->own_pid || !spawn->parent_closed || spawn->ended)
        return 0;
    struct reader reader = {.id = spawn->id, .place = spawn->index};
    readers.update(&tid, &reader);
    u64 now = bpf_ktime_get_ns();
    spawn->reading = 1; /* its close is over: watch counts on that */
    spawn->elsewhere = 0;
    if (!spawn->read_began) {
        spawn->read_began = now;
        spawn->read_tid = tid;
    }
    if (!spawn->own_released) { /* that child is on its way to an exec */
        u32 child = spawn->own_pid;
        struct process *own = row_of(child);
        if (own)
            own->expected = 1;
        return 0;
    }
#ifdef BTF
    if (spawn->own_how == HOW_EXEC && !spawn->releases) {
        spawn->held = 0; /* asked anew: what was counted before can have been in the middle of a close */
        watch(spawn, others(spawn, 0));
    }
#endif
    if (!spawn->held)
        return 0;
    int which = SETTING_NOTICED;
    u64 *noticed = settings.lookup(&which);
    if (noticed && now - *noticed > NOTICE_NS) {
        *noticed = now;
        struct notice notice = {.kind = RECORD_WAITING, .index = spawn->index, .id = spawn->id};
        send(args, &notice, sizeof(notice));
    }
    return 0;
}

LEAVE(read)
{
    u32 tid = thread_id(), key = process_id();
    struct reader *found = may_have_row(key) ? readers.lookup(&tid) : 0;
    if (!found)
        return 0;
    /* After a signal, the thread reads again, unless it dies of it. To us it is one read. */
    long result = READ_RESULT;
    if (found->interrupted)
        return 0;
    if (result <= -ERESTARTSYS && result >= -ERESTART_RESTARTBLOCK) {
        found->interrupted = 1;
        return 0;
    }
    u64 id = found->id;
    struct spawn *spawn = spawn_at(found->place);
    readers.delete(&tid);
    if (!spawn || spawn->id != id)
        return 0;
    if (result == -EAGAIN) { /* it waits on, in poll, select or epoll */
        spawn->elsewhere = 1;
        return 0;
    }
    spawn->reading = 0;
    if (result < 0 || spawn->ended) /* ended: another thread closed the read end under it */
        return 0;
    u32 verdict = GO_ON;
    if (result > 0 && spawn->own_released && spawn->own_how == HOW_EXEC && !spawn->unread) {
        verdict = DROP; /* data from somebody else than the own child: another kind of pipe */
    } else {
        spawn->read_ended = bpf_ktime_get_ns();
        spawn->unread = 0;
        if (!result) { /* otherwise the child's error, or a sign of life of Java's helper: another read may follow */
            spawn->eof = 1;
            *(volatile u8 *)&spawn->ended = 1;
            verdict = CHECK;
        }
    }
    settle(args, spawn, id, verdict);
    return 0;
}
