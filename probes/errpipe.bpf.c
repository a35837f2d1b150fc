/*
 * Follows every errpipe on the host: who made it, who holds its write end, how long its reader waits.
 *
 * Compiled by bcc. loader.py defines SLOTS, the map sizes, and where the feature probes found them:
 *   UNROLL      the verifier takes no loops (before 5.3, commit 2589726d12a1)
 *   BTF         offsets of kernel structures are known (OFF_* below), so copies are checked, not assumed
 *   GROUP_DEAD  sched_process_exit says when the last thread is gone (5.18 and later)
 *   FENTRY      programs are attached to the functions of the system calls, not to their tracepoints
 *   PIPE_READ   with that: the read's are attached to the pipe's own function
 * and for one run: TARGETS (only pipes made by processes in the map targets count),
 * EVERY (every spawn and every foreign release is sent, not only those of a stall) and
 * STACKS (the user stack of each fork that gives a foreign process a copy is kept, MAX_STACKS of them).
 */
#include "errpipe.h"

#define CLONE_FILES 0x400
#define CLONE_VFORK 0x4000
#define CLONE_THREAD 0x10000
#define O_CLOEXEC 02000000
#define F_DUPFD 0
#define F_SETFD 2
#define F_DUPFD_CLOEXEC 1030
#define FD_CLOEXEC 1
#define CLOSE_RANGE_UNSHARE (1 << 1)
#define CLOSE_RANGE_CLOEXEC (1 << 2)
#define FMODE_WRITE 2
#define AF_UNIX 1
#define SOCK_SEQPACKET 5
#define SOCK_TYPE_MASK 0xf
#define ERESTARTSYS 512 /* include/linux/errno.h: 512 to 516 never reach user space */
#define ERESTART_RESTARTBLOCK 516
/* An empty table is kept this long after its last use: deleting it at once would race with another
 * thread that is just filling a slot. */
#define TABLE_IDLE_NS 100000000

/* A program is named after its tracepoint; loader.py attaches it. (bcc attaches what is named by its own macro
 * by itself, all or nothing.) */
#define PROBE(category, event) int event(struct tracepoint__##category##__##event *args)

/*
 * The enter and the exit of a system call: at the tracepoint, or at the function that the kernel has for it, which
 * costs processes that have nothing to do with us a tenth of it. That function has one argument, the saved
 * registers; loader.py knows which of them is which argument. A program there cannot tail-call one that is
 * attached elsewhere, so what is a program of its own otherwise (SHARED) is part of it.
 */
#ifdef FENTRY
#define ENTER(call) int sys_enter_##call(u64 *args)
#define LEAVE(call) int sys_exit_##call(u64 *args)
#define ARGUMENT(place, name) (*(u64 *)(args[0] + OFF_ARGUMENT_##place))
#define RESULT ((s64)args[1])
#define SHARED static inline __attribute__((always_inline))
#else
#define ENTER(call) PROBE(syscalls, sys_enter_##call)
#define LEAVE(call) PROBE(syscalls, sys_exit_##call)
#define ARGUMENT(place, name) ((u64)args->name)
#define RESULT (args->ret)
#define SHARED
#endif

#ifdef UNROLL
#define EACH_SLOT(i) _Pragma("unroll") for (int i = 0; i < SLOTS; i++)
#else
#define EACH_SLOT(i) _Pragma("clang loop unroll(disable)") for (int i = 0; i < SLOTS; i++)
#endif

/* What a thread is in the middle of: a system call between its enter and its exit, or a release_next. */
struct call {
    u64 ns;
    u64 arg; /* pipe: address of the two fds; dup: the spawn's id */
    s32 fd;  /* dup2, dup3: the fd that is replaced, -1: none */
    u32 flags;
    s32 result; /* of the system call */
    u32 how; /* release_next: the event that ends copies, the fds it covers, the next slot to look at;
              * pipe: whether it is a socketpair */
    u32 first;
    u32 last;
    u32 cursor;
    u32 unused; /* no padding: before 6.3 the verifier refuses a structure on the stack that is not all set */
};

/*
 * A child of vfork that got a copy of an errpipe from a thread that has none of its own to fork for: Go moves a
 * goroutine to another thread between pipe2 and fork. The spawn adopts it when the parent closes its write end
 * and nobody else was forked for that errpipe.
 */
struct stray {
    u32 pid;
    s32 exec_error;
    u64 forked;
    u64 released; /* 0: not yet; then the rest says how */
    u64 copies;
    u32 how;
    u32 flags; /* SLOT_* */
    u32 cloexec;
    u32 unused;
    char comm[COMM_LEN];
};

/* A child of a vfork that is not for an errpipe (posix_spawn): its parent is blocked until it execs or exits. */
struct vforked {
    u64 ns;
    struct comm comm; /* of the parent */
};

BPF_TABLE("lru_hash", u64, struct spawn, spawns, MAX_SPAWNS);
BPF_TABLE("lru_hash", u32, struct table, tables, MAX_TABLES);
BPF_TABLE("lru_hash", u32, u64, made, MAX_THREADS); /* thread: the last pipe it made */
BPF_TABLE("lru_hash", u32, u64, reading, MAX_THREADS); /* thread: the spawn whose errpipe it reads */
BPF_TABLE("lru_hash", u32, struct call, calls, MAX_THREADS);
BPF_TABLE("lru_hash", u32, struct vforked, vforks, MAX_THREADS);
BPF_TABLE("lru_hash", u64, u8, finished, 1024); /* spawns that have been taken to their end */
BPF_TABLE("lru_hash", u64, struct stray, strays, 1024); /* spawn: a child that may be its own */
BPF_HASH(programs, struct comm, struct program, MAX_PROGRAMS);
BPF_PROG_ARRAY(shared, SHARED_PROGRAMS); /* one copy of what several probes go on to do */
BPF_PROG_ARRAY(again, 1); /* FENTRY: sys_enter_close_range goes on to itself */
/* How many tables there are for processes whose pids end alike: 0 spares a system call of a process that has nothing to
 * do with us the look-up in a hash. (A table that its map had no room for stays counted: slower, not wrong.) */
BPF_ARRAY(hints, u32, HINTS);
BPF_ARRAY(counters, u64, COUNTERS);
BPF_ARRAY(settings, u64, SETTINGS);
BPF_ARRAY(zero_table, struct table, 1);
BPF_ARRAY(zero_spawn, struct spawn, 1);
BPF_ARRAY(zero_program, struct program, 1);
BPF_PERF_OUTPUT(records);
BPF_TABLE("lru_hash", u32, u8, sharing, 1024); /* processes that have not one fd table of their own */
#ifdef TARGETS
BPF_HASH(targets, u32, u8, 16384);
#endif
#ifdef STACKS
BPF_TABLE("stacktrace", int, struct stack, stacks, MAX_STACKS);
#endif

static inline __attribute__((always_inline)) void count(int which)
{
    u64 *value = counters.lookup(&which);
    if (value)
        __sync_fetch_and_add(value, 1);
}

static inline __attribute__((always_inline)) u32 thread_id(void)
{
    return (u32)bpf_get_current_pid_tgid();
}

/* The key of the current task's file descriptor table. */
static inline __attribute__((always_inline)) u32 table_key(void)
{
    return bpf_get_current_pid_tgid() >> 32;
}

static inline __attribute__((always_inline)) u32 *hint_of(u32 key)
{
    int which = key % HINTS;
    return hints.lookup(&which);
}

static inline __attribute__((always_inline)) void change_hint(u32 key, int by)
{
    u32 *hint = hint_of(key);
    if (hint)
        __sync_fetch_and_add(hint, by);
}

/* False when the process surely has no table. */
static inline __attribute__((always_inline)) int may_have_table(u32 key)
{
    u32 *hint = hint_of(key);
    return hint && *hint;
}

static inline __attribute__((always_inline)) struct table *table_of(u32 key)
{
    return may_have_table(key) ? tables.lookup(&key) : 0;
}

/* ---- the kernel's own structures ---- */

static inline __attribute__((always_inline)) u64 kernel_u64(u64 address)
{
    u64 value = 0;
    bpf_probe_read_kernel(&value, sizeof(value), (void *)address);
    return value;
}

#ifdef BTF
struct fds {
    u64 files;
    u64 cloexec;
    u32 size;
};

static inline __attribute__((always_inline)) void fds_of(u64 task, struct fds *fds)
{
    u64 table = kernel_u64(kernel_u64(task + OFF_TASK_FILES) + OFF_FILES_FDT);
    fds->files = kernel_u64(table + OFF_FDT_FD);
    fds->cloexec = kernel_u64(table + OFF_FDT_CLOEXEC);
    fds->size = (u32)kernel_u64(table + OFF_FDT_MAX);
}

static inline __attribute__((always_inline)) u64 file_at(struct fds *fds, u32 fd)
{
    return fd < fds->size ? kernel_u64(fds->files + 8ULL * fd) : 0;
}

static inline __attribute__((always_inline)) int is_write_end(u64 file, u64 pipe)
{
    return file && kernel_u64(file + OFF_FILE_PRIVATE) == pipe &&
           (kernel_u64(file + OFF_FILE_MODE) & FMODE_WRITE);
}

static inline __attribute__((always_inline)) int cloexec_at(struct fds *fds, u32 fd)
{
    return (kernel_u64(fds->cloexec + fd / 64 * 8) >> (fd % 64)) & 1;
}
#endif

/* ---- records ---- */

static inline __attribute__((always_inline)) void send(void *ctx, void *record, u32 size)
{
    if (records.perf_submit(ctx, record, size) < 0)
        count(RECORDS_LOST);
}

static inline __attribute__((always_inline)) u64 stall_began(struct spawn *spawn)
{
    if (!spawn->own_released || !spawn->read_began)
        return 0;
    return spawn->own_released > spawn->read_began ? spawn->own_released : spawn->read_began;
}

/* Is a stall that lasts until ns worth telling? */
static inline __attribute__((always_inline)) int is_long(struct spawn *spawn, u64 ns)
{
    int which = SETTING_THRESHOLD_NS;
    u64 *threshold = settings.lookup(&which);
    u64 began = stall_began(spawn);
    return threshold && began && ns >= began + *threshold;
}

/* ---- slots ---- */

/*
 * The index that a loop found. To the verifier it is just any number then, as a helper wrote it: it walks what
 * follows once, and not once for each slot. (In memory of the thread's own: at the functions of system calls,
 * a program can be preempted by another one on its CPU.)
 */
static inline __attribute__((always_inline)) u32 any_of(u32 index)
{
    u32 found = SLOTS;
    bpf_probe_read_kernel(&found, sizeof(found), &index);
    return found;
}

/* Does the table hold copies by this slot (or did, for a parent)? */
static inline __attribute__((always_inline)) int is_used(struct slot *slot)
{
    return slot->id && !(slot->flags & SLOT_LET_GO);
}

static inline __attribute__((always_inline)) int is_open(struct slot *slot, int k)
{
    return slot->fds[k] >= 0 && !(slot->flags & SLOT_CLOSED(k));
}

static inline __attribute__((always_inline)) int has_open(struct slot *slot, s32 fd)
{
    return (slot->fds[0] == fd && is_open(slot, 0)) || (slot->fds[1] == fd && is_open(slot, 1)) ||
           (slot->fds[2] == fd && is_open(slot, 2));
}

/* Ends the copies with fds in a range. True when that was the holder's last. */
static inline __attribute__((always_inline)) int end_copies(struct slot *slot, u32 first, u32 last)
{
    int ended = 0, left = 0;
#pragma unroll
    for (int k = 0; k < COPIES; k++) {
        if (!is_open(slot, k))
            continue;
        if ((u32)slot->fds[k] < first || (u32)slot->fds[k] > last) {
            left = 1;
            continue;
        }
        ended = 1;
        if (slot->flags & SLOT_PARENT)
            slot->flags |= SLOT_CLOSED(k);
        else
            slot->fds[k] = -1;
    }
    return ended && !left;
}

/* One slot. RHEL 7's verifier wants the mask, which clang leaves out where it knows the index to be small enough, and
 * forgets the bounds of a number that is put on the stack, but not a pointer. So clang is told that the index can
 * be anything, and that the pointer has nothing to do with it. */
static inline __attribute__((always_inline)) struct slot *slot_at(struct table *table, u32 index)
{
    _Static_assert((SLOTS & (SLOTS - 1)) == 0, "a power of two");
    asm volatile("" : "+r"(index));
    struct slot *slot = &table->slots[index & (SLOTS - 1)];
    asm volatile("" : "+r"(slot));
    return slot;
}

/* False when no slot has that fd, which is what most system calls of a process with pipes are about. */
static inline __attribute__((always_inline)) int may_have(struct table *table, u32 fd)
{
    return table->marks[fd % MARKS];
}

/* The slot of which fd is an open copy of the write end (or reads: the read end), SLOTS: none. */
static inline __attribute__((always_inline)) u32 slot_with(struct table *table, s32 fd, int reads)
{
    if (!may_have(table, fd))
        return SLOTS;
    u32 at = SLOTS;
    EACH_SLOT(i) {
        struct slot *slot = &table->slots[i];
        if (is_used(slot) && (has_open(slot, fd) || (reads && slot->read_fd == fd)))
            at = i;
    }
    return any_of(at);
}

/* The slot of a spawn, SLOTS: none. */
static inline __attribute__((always_inline)) u32 slot_of(struct table *table, u64 id)
{
    u32 at = SLOTS;
    EACH_SLOT(i) {
        if (table->slots[i].id == id)
            at = i;
    }
    return any_of(at);
}

/* Whether a table has no slot in use. Volatile: read anew, as what was learned of an id by an earlier branch makes
 * paths for the verifier to walk. */
static inline __attribute__((always_inline)) int is_empty(struct table *table)
{
    u64 used = 0;
    EACH_SLOT(i)
        used |= *(volatile u64 *)&table->slots[i].id;
    return !used;
}

/*
 * Finds a free slot and claims it for the current thread, who is to look whether the claim still stands before
 * it fills the slot: two threads of a process can make pipes at the same moment, and old kernels have no atomic
 * compare-and-swap. For the same reason each begins to search at a place of its own, given by its fd.
 */
static inline __attribute__((always_inline)) struct slot *claim_slot(struct table *table, u32 begin)
{
    u32 at = SLOTS;
    EACH_SLOT(i) {
        u32 place = (begin + i) % SLOTS;
        if (at == SLOTS && !table->slots[place].id)
            at = place;
    }
    u32 index = any_of(at);
    if (index >= SLOTS) {
        count(SLOTS_OVERFLOWED);
        return 0;
    }
    struct slot *slot = slot_at(table, index);
    slot->claim = thread_id();
    return slot;
}

static inline __attribute__((always_inline)) struct table *table_for(u32 key)
{
    struct table *table = tables.lookup(&key);
    if (table)
        return table;
    int zero = 0;
    struct table *fresh = zero_table.lookup(&zero);
    if (!fresh)
        return 0;
    change_hint(key, 1); /* first: another thread looks for what is there already */
    /* Two threads can come here at once: the second must not wipe what the first has filled. */
    if (tables.insert(&key, fresh) == 0)
        count(TABLES_ADDED);
    else
        change_hint(key, -1);
    table = tables.lookup(&key);
    if (!table)
        count(UPDATES_FAILED);
    return table;
}

static inline __attribute__((always_inline)) void delete_table(u32 key)
{
    if (tables.delete(&key) != 0)
        return;
    change_hint(key, -1);
    count(TABLES_DELETED);
}

static inline __attribute__((always_inline)) void delete_spawn(u64 id)
{
    if (spawns.delete(&id) == 0)
        count(SPAWNS_DELETED);
}

/* Frees the slots of a spawn in one table. */
static inline __attribute__((always_inline)) void forget(struct table *table, u64 id)
{
    EACH_SLOT(i) {
        if (table->slots[i].id == id)
            table->slots[i].id = 0;
    }
}

/*
 * Not every thread of a process has the same fd table, or one that no other process has. Tables are followed by
 * process, so of the spawns in this one nothing is certain any more, nor of those to come.
 */
static inline __attribute__((always_inline)) void lose_table(struct table *table, u32 key)
{
    u8 one = 1;
    sharing.update(&key, &one);
    if (!table)
        return;
    count(TABLES_SHARED);
    EACH_SLOT(i) {
        u64 id = table->slots[i].id;
        struct spawn *spawn = id ? spawns.lookup(&id) : 0;
        if (spawn)
            spawn->copy_lost = 1;
    }
}

/* The current thread goes on with a copy of its fd table, if anybody else uses that. */
static inline __attribute__((always_inline)) void unshare_files(struct table *table, u32 key)
{
#ifdef BTF
    if ((u32)kernel_u64(kernel_u64(bpf_get_current_task() + OFF_TASK_FILES) + OFF_FILES_COUNT) <= 1)
        return;
#endif
    lose_table(table, key);
}

/* ---- the end of a spawn ---- */

static inline __attribute__((always_inline)) void observe(struct histogram *histogram, u64 ns)
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

static inline __attribute__((always_inline)) struct program *program_of(struct comm *comm)
{
    struct program *program = programs.lookup(comm);
    if (program)
        return program;
    int zero = 0;
    struct program *fresh = zero_program.lookup(&zero);
    if (!fresh)
        return 0;
    programs.insert(comm, fresh);
    program = programs.lookup(comm);
    if (program)
        return program;
    count(PROGRAMS_FULL);
    struct comm other = {.text = "~other"};
    return programs.lookup(&other);
}

/*
 * Ends a spawn of which both are known: the end of the read, and what became of the own child.
 * Late releases of foreign holders (an exec is seen after its closes) still find the spawn in the map.
 */
static inline __attribute__((always_inline)) void finish(void *ctx, struct spawn *spawn)
{
    u8 outcome = OUTCOME_ABANDONED;
    if (spawn->read_ended && spawn->own_how == HOW_EXEC)
        outcome = OUTCOME_OK;
    else if (spawn->read_ended && spawn->own_how != HOW_EXEC && spawn->exec_error)
        outcome = OUTCOME_EXEC_FAILED;
    u64 id = spawn->id;
    /* A pipe that was never close-on-exec and served no exec is some other pipe. */
    if (outcome != OUTCOME_ABANDONED || spawn->cloexec) {
        struct comm comm = {};
        __builtin_memcpy(comm.text, spawn->comm, COMM_LEN);
        struct program *program = program_of(&comm);
        spawn->outcome = outcome;
        if (spawn->own_released > spawn->read_ended && spawn->eof)
            spawn->own_released = spawn->read_ended;
        if (program) {
            if (outcome == OUTCOME_OK)
                __sync_fetch_and_add(&program->ok, 1);
            else if (outcome == OUTCOME_EXEC_FAILED)
                __sync_fetch_and_add(&program->exec_failed, 1);
            else
                __sync_fetch_and_add(&program->abandoned, 1);
            if (outcome != OUTCOME_ABANDONED) {
                observe(&program->spawn, spawn->read_ended - spawn->created);
                observe(&program->exec, spawn->own_released - spawn->forked);
            }
        }
#ifdef EVERY
        send(ctx, spawn, sizeof(*spawn));
#else
        if ((outcome != OUTCOME_ABANDONED || spawn->killed) && is_long(spawn, spawn->read_ended))
            send(ctx, spawn, sizeof(*spawn));
#endif
    }
    if (!spawn->foreign || !spawn->eof)
        delete_spawn(id);
}

/*
 * Called once for the end of the read and once for the end of the own child, which often come at the same
 * moment on two CPUs. Both may then see 2; a map's insertion, which is atomic, lets one of them through.
 */
static inline __attribute__((always_inline)) void finish_when_both(void *ctx, struct spawn *spawn)
{
    u64 id = spawn->id;
    u8 one = 1;
    __sync_fetch_and_add(&spawn->known, 1);
    if (*(volatile u32 *)&spawn->known >= 2 && finished.insert(&id, &one) == 0)
        finish(ctx, spawn);
}

/* True when this is an end that a spawn has. */
static inline __attribute__((always_inline)) int own_released(struct spawn *spawn, u64 id, u32 flags,
                                                              u32 how, u64 ns, u64 copies)
{
    /* The own child let go without an exec, or kept a copy through it: another use of a pipe. (After a failed
     * exec Perl closes before it exits, and Java's helper has execed once before.) A socketpair is often for
     * talking to the child's children: Chromium's crashpad. */
    if (!spawn->exec_error &&
        (how == HOW_CLOSE || (how == HOW_EXIT && (flags & SLOT_EXECED || spawn->is_socket)))) {
        delete_spawn(id);
        return 0;
    }
    spawn->own_released = ns;
    spawn->own_how = how;
#ifdef BTF
    if (how == HOW_EXIT) /* of the current task (a stray's, which has exited before, is not known) */
        spawn->killed = kernel_u64(bpf_get_current_task() + OFF_TASK_EXIT_CODE) & 0x7f;
#endif
    u64 parents = spawn->parent_closed ? 0 : 1; /* it is about to close its own */
    if (copies != LEFT_UNKNOWN && copies > parents && !spawn->ended)
        spawn->held = 1;
    return 1;
}

/* The spawn's stray has turned out to be its own child, and had let go before. Of the two that may find that
 * out at the same moment, the one that deletes the stray goes on. True when this is an end that a spawn has. */
static inline __attribute__((always_inline)) int stray_released(struct spawn *spawn, u64 id,
                                                                struct stray *stray)
{
    if (strays.delete(&id) != 0)
        return 0;
    __builtin_memcpy(spawn->own_comm, stray->comm, COMM_LEN);
    return own_released(spawn, id, stray->flags, stray->how, stray->released, stray->copies);
}

/* Is it the own child's slot? An adopted child's does not say so, and once that has let go, another process can
 * get its pid. */
static inline __attribute__((always_inline)) int is_own(u32 flags, struct spawn *spawn, u32 key)
{
    return flags & SLOT_OWN || (*(volatile u32 *)&spawn->own_pid == key && !spawn->own_released);
}

/* The parent closes its write end and has not forked for this errpipe, as far as was seen: its stray was the own
 * child. True when this is an end that a spawn has. */
static inline __attribute__((always_inline)) int adopt_stray(struct spawn *spawn, u64 id)
{
    struct stray *stray = strays.lookup(&id);
    if (!stray)
        return 0;
    spawn->forked = stray->forked;
    spawn->cloexec = stray->cloexec;
    spawn->exec_error = stray->exec_error;
    __sync_fetch_and_add(&spawn->foreign_total, -1);
    if (spawn->last.pid == stray->pid)
        spawn->last.kind = 0;
    *(volatile u32 *)&spawn->own_pid = stray->pid; /* from here on its release is the own child's */
    return *(volatile u64 *)&stray->released ? stray_released(spawn, id, stray) : 0;
}

/* True when this is an end that a spawn has: its stray's. */
static inline __attribute__((always_inline)) int foreign_released(void *ctx, struct spawn *spawn,
                                                                  struct table *table, u32 key,
                                                                  struct slot *slot, s32 fd, u32 how,
                                                                  u64 ns, u64 copies)
{
    struct release release = {.kind = RECORD_RELEASE};
    release.how = how;
    release.id = slot->id;
    release.ns = ns;
    release.acquired = table->born;
    release.pid = key;
    release.tid = thread_id();
    release.parent = table->parent;
    release.forker = table->forker;
    release.fd = fd;
    release.flags = slot->flags;
    release.left = copies;
#ifdef STACKS
    release.stack = table->stack;
#endif
    bpf_get_current_comm(&release.comm, sizeof(release.comm));
    __sync_fetch_and_add(&spawn->foreign, -1);
    spawn->last = release;
#ifdef EVERY
    int told = 1;
#else
    int told = is_long(spawn, ns);
#endif
    if (told)
        send(ctx, &release, sizeof(release));
    /* Python's close_fds lets go just before the exec: whether one follows decides the cause. */
    u32 flags = slot->flags;
    if (told && how == HOW_CLOSE && !(flags & SLOT_EXECED))
        slot->flags |= SLOT_LET_GO;
    else
        slot->id = 0;
    if (spawn->outcome && !spawn->foreign)
        delete_spawn(release.id);
    struct stray *stray = strays.lookup(&release.id);
    if (!stray || stray->pid != key)
        return 0;
    stray->how = how;
    stray->flags = flags;
    stray->copies = copies;
    __builtin_memcpy(stray->comm, release.comm, COMM_LEN);
    *(volatile u64 *)&stray->released = ns;
    return is_own(flags, spawn, key) ? stray_released(spawn, release.id, stray) : 0;
}

/* The parent let go of the read end: by close, exec, or its own exit.
 * True when this is an end that a spawn has. */
static inline __attribute__((always_inline)) int read_end_released(struct spawn *spawn, u64 id, u32 how,
                                                                   u64 ns)
{
    if (!spawn->own_pid || (!spawn->read_began && !spawn->parent_closed)) {
        delete_spawn(id); /* never forked for, or let go before the write end: no errpipe */
        return 0;
    }
    if (spawn->reading && how == HOW_EXIT) {
        spawn->read_ended = ns;
        spawn->read_cut = 1;
    } else if (spawn->is_socket) {
        spawn->read_ended = ns;
        spawn->eof = 1;
    }
    spawn->reading = 0;
    spawn->ended = 1;
    return 1;
}

/*
 * Copies of a pipe's write end that exist besides the one just released, or LEFT_UNKNOWN.
 * All of them share one struct file. Its count is right at once, while the pipe's own (writers) lags behind:
 * the last copy's end is put off until the process returns to user mode.
 */
static inline __attribute__((always_inline)) u64 other_copies(struct spawn *spawn, int still_open)
{
#ifdef BTF
    if (is_write_end(spawn->file, spawn->pipe)) {
        s64 others = kernel_u64(spawn->file + OFF_FILE_COUNT) - FILE_COUNT_ONE;
        if (!still_open)
            others += 1;
        return others < 0 ? 0 : others; /* below: the last one is gone */
    }
#endif
    return LEFT_UNKNOWN;
}

/* A table's last copy of the write end is gone, or (read) its read end; fd is the number it had. */
static inline __attribute__((always_inline)) void released(void *ctx, struct table *table, u32 key,
                                                           struct slot *slot, int read, s32 fd, u32 how,
                                                           u64 ns, int still_open)
{
    u64 id = slot->id;
    u32 flags = slot->flags;
    int came = 0;
    struct spawn *spawn = spawns.lookup(&id);
    int own = spawn && is_own(flags, spawn, key);
    if (read || !spawn || own)
        slot->id = 0;
    if (!spawn)
        return;
    if (read) {
        came = read_end_released(spawn, id, how, ns);
    } else if (flags & SLOT_PARENT) {
        if (!spawn->own_pid)
            came = adopt_stray(spawn, id);
        spawn->parent_closed = ns;
        if (spawn->is_socket && spawn->own_pid) {
            spawn->read_tid = thread_id();
            spawn->reading = 1;
            spawn->read_began = ns;
        }
    } else {
        u64 copies = other_copies(spawn, still_open);
        if (own && !(flags & SLOT_OWN))
            __sync_fetch_and_add(&spawn->foreign, -1); /* adopted */
        if (own)
            came = own_released(spawn, id, flags, how, ns, copies);
        else
            came = foreign_released(ctx, spawn, table, key, slot, fd, how, ns, copies);
    }
    if (came)
        finish_when_both(ctx, spawn);
}

static inline __attribute__((always_inline)) void set_cloexec(struct slot *slot, u32 first, u32 last,
                                                              int on)
{
#pragma unroll
    for (int k = 0; k < COPIES; k++) {
        if (!is_open(slot, k) || (u32)slot->fds[k] < first || (u32)slot->fds[k] > last)
            continue;
        if (on)
            slot->flags |= SLOT_CLOEXEC(k);
        else
            slot->flags &= ~SLOT_CLOEXEC(k);
    }
}

/* The copy or the read end at fd is closed, at ns (0: now). still_open: in a moment. */
static inline __attribute__((always_inline)) void end_fd(void *ctx, struct table *table, u32 key, s32 fd,
                                                         u64 ns, int still_open)
{
    u32 index = slot_with(table, fd, 1);
    if (index >= SLOTS)
        return;
    struct slot *slot = slot_at(table, index);
    int read = slot->read_fd == fd;
    if (read || end_copies(slot, fd, fd))
        released(ctx, table, key, slot, read, fd, HOW_CLOSE, ns ? ns : bpf_ktime_get_ns(), still_open);
}

/* ---- pipes come ---- */

SHARED int pipe_made(void *ctx);
SHARED int dup_made(void *ctx);

/* Goes on to a shared program when the thread has something to finish. */
static inline __attribute__((always_inline)) int call_returned(void *ctx, long result, int program)
{
    u32 tid = thread_id();
    struct call *call = calls.lookup(&tid);
    if (!call)
        return 0;
    call->result = result;
    if (result < 0) {
        calls.delete(&tid);
        return 0;
    }
#ifdef FENTRY
    return program == PIPE_MADE ? pipe_made(ctx) : dup_made(ctx);
#else
    shared.call(ctx, program);
    return 0;
#endif
}

static inline __attribute__((always_inline)) int enter_pipe(u64 fds, u32 flags, u32 is_socket)
{
#ifdef FAULT_SHIFTED_ARGUMENTS /* for the test of the self-test: as if the fields lay 8 bytes further */
    fds = flags;
#endif
    u32 tid = thread_id(), key = table_key();
    int which = SETTING_ENABLED;
    u64 *enabled = settings.lookup(&which);
    which = SETTING_SELF;
    u64 *self = settings.lookup(&which);
    if (!enabled || !*enabled || !self || *self == key)
        return 0;
#ifdef TARGETS
    if (!targets.lookup(&key))
        return 0;
#endif
    struct call call = {.arg = fds, .flags = flags, .how = is_socket};
    calls.update(&tid, &call);
    return 0;
}

/* The thread's pipe or pipe2 has returned well. */
SHARED int pipe_made(void *ctx)
{
    u32 tid = thread_id(), key = table_key();
    struct call *call = calls.lookup(&tid);
    if (!call)
        return 0;
    s32 fds[2] = {-1, -1};
    u32 is_socket = call->how;
    u32 cloexec = call->flags & O_CLOEXEC ? SLOT_CLOEXEC(0) : 0;
    int unread = bpf_probe_read_user(fds, sizeof(fds), (void *)call->arg);
    calls.delete(&tid);
    if (unread) { /* its page has just been moved, or taken away by another thread */
        count(UPDATES_FAILED);
        return 0;
    }
    struct table *table = table_for(key);
    if (!table)
        return 0;
    u64 *previous = made.lookup(&tid);
    if (previous) {
        u64 id = *previous;
        struct spawn *spawn = spawns.lookup(&id);
        if (spawn && !spawn->own_pid) { /* made another pipe before its fork: not the errpipe */
            forget(table, id);
            delete_spawn(id);
        }
    }
    u64 now = bpf_ktime_get_ns();
    u64 id = now << 8 | (bpf_get_smp_processor_id() & 0xff); /* one CPU makes one pipe a nanosecond */
    table->touched = now;
    struct slot *slot = claim_slot(table, fds[1]);
    if (!slot)
        return 0;
    int zero = 0;
    struct spawn *fresh = zero_spawn.lookup(&zero);
    if (!fresh)
        return 0;
    spawns.update(&id, fresh);
    struct spawn *spawn = spawns.lookup(&id);
    if (!spawn) {
        count(UPDATES_FAILED);
        return 0;
    }
    count(SPAWNS_ADDED);
    spawn->kind = RECORD_SPAWN;
    spawn->id = id;
    spawn->created = now;
    spawn->pid = key;
    spawn->tid = tid;
    spawn->read_fd = fds[0];
    spawn->write_fd = fds[1];
    spawn->is_socket = is_socket;
    spawn->copy_lost = sharing.lookup(&key) != 0;
    bpf_get_current_comm(&spawn->comm, sizeof(spawn->comm));
#ifdef BTF
    struct fds open;
    fds_of(bpf_get_current_task(), &open);
    u64 file = file_at(&open, fds[1]);
    spawn->file = file;
    spawn->pipe = kernel_u64(file + OFF_FILE_PRIVATE);
    spawn->inode = kernel_u64(kernel_u64(file + OFF_FILE_INODE) + OFF_INODE_NUMBER);
#endif
    volatile struct slot *claimed = slot;
    if (claimed->claim != tid || claimed->id) {
        slot = claim_slot(table, fds[1] + SLOTS / 2);
        if (!slot) {
            delete_spawn(id);
            return 0;
        }
    }
    slot->flags = SLOT_PARENT | cloexec;
    slot->read_fd = fds[0];
    slot->fds[0] = fds[1];
    slot->fds[1] = slot->fds[2] = -1;
    table->marks[(u32)fds[0] % MARKS] = 1;
    table->marks[(u32)fds[1] % MARKS] = 1;
    slot->id = id;
    made.update(&tid, &id);
    return 0;
}

ENTER(pipe2) { return enter_pipe(ARGUMENT(0, fildes), ARGUMENT(1, flags), 0); }
LEAVE(pipe2) { return call_returned(args, RESULT, PIPE_MADE); }
#ifdef HAVE_PIPE
ENTER(pipe) { return enter_pipe(ARGUMENT(0, fildes), 0, 0); }
LEAVE(pipe) { return call_returned(args, RESULT, PIPE_MADE); }
#endif

/*
 * Rust's Command with pre_exec waits in recvfrom on one end of such a pair. The other end does what a write
 * end does. Tracing recvfrom would cost every server on the host; between the parent's two closes there is
 * nothing else than that wait.
 */
ENTER(socketpair)
{
    u32 family = ARGUMENT(0, family), type = ARGUMENT(1, type);
    if (family != AF_UNIX || (type & SOCK_TYPE_MASK) != SOCK_SEQPACKET)
        return 0;
    return enter_pipe(ARGUMENT(3, usockvec), type, 1);
}
LEAVE(socketpair) { return call_returned(args, RESULT, PIPE_MADE); }

/* ---- copies come and go ---- */

/*
 * An event that can end many copies (close_range, exec, exit): the slots are taken one by one,
 * each in a program run of its own. As a loop, the verifier would walk the paths of all slots' ends.
 */
static inline __attribute__((always_inline)) void begin_release(u32 how, u32 first, u32 last)
{
    u32 tid = thread_id();
    struct call call = {.ns = bpf_ktime_get_ns(), .how = how, .first = first, .last = last};
    calls.update(&tid, &call);
}

/* Ends the copies of one slot that do not survive an exec. True when that was the holder's last. */
static inline __attribute__((always_inline)) int exec_copies(void *ctx, struct slot *slot, u32 key,
                                                             u64 now)
{
    u64 id = slot->id;
    if (slot->flags & SLOT_LET_GO) {
        struct release execed = {.kind = RECORD_EXECED, .id = id, .ns = now, .pid = key};
        bpf_get_current_comm(&execed.comm, sizeof(execed.comm));
        send(ctx, &execed, sizeof(execed));
        slot->id = 0;
        return 0;
    }
    int left = 0, standard = 0;
    struct spawn *spawn = spawns.lookup(&id);
    if (!spawn) {
        slot->id = 0;
        return 0;
    }
#ifdef BTF
    struct fds fds;
    fds_of(bpf_get_current_task(), &fds);
#endif
#pragma unroll
    for (int k = 0; k < COPIES; k++) {
        if (!is_open(slot, k))
            continue;
#ifdef BTF
        if (!is_write_end(file_at(&fds, slot->fds[k]), spawn->pipe)) {
#else
        if (slot->flags & SLOT_CLOEXEC(k)) {
#endif
            slot->fds[k] = -1;
            continue;
        }
        left = 1;
        if (slot->fds[k] <= 2)
            standard = 1;
    }
    if (is_own(slot->flags, spawn, key)) {
        bpf_get_current_comm(&spawn->own_comm, sizeof(spawn->own_comm));
        spawn->exec_error = 0; /* of an earlier place in PATH */
        if (standard) { /* a standard stream of the new program: a data pipe */
            slot->id = 0;
            delete_spawn(id);
            return 0;
        }
    }
    if (left)
        slot->flags |= SLOT_EXECED;
    return !left;
}

/* Takes the next slot. False when there was none. */
static inline __attribute__((always_inline)) int release_slot(void *ctx)
{
    u32 tid = thread_id(), key = table_key();
    struct call *call = calls.lookup(&tid);
    struct table *table = tables.lookup(&key);
    if (!call || !table)
        return 0;
    u32 at = SLOTS;
    EACH_SLOT(i) {
        if (i >= call->cursor && table->slots[i].id && at == SLOTS)
            at = i;
    }
    u32 how = call->how, first = call->first, last = call->last, next = any_of(at);
    u64 now = call->ns;
    if (next >= SLOTS) {
        calls.delete(&tid);
        if (how == HOW_EXIT || (how == HOW_EXEC && is_empty(table)))
            delete_table(key);
        return 0;
    }
    call->cursor = next + 1;
    struct slot *slot = slot_at(table, next);
    s32 fd = slot->fds[0];
    /* After an exec an errpipe's read end is of no use to the new program. */
    int read = slot->read_fd >= 0 && (u32)slot->read_fd >= first && (u32)slot->read_fd <= last;
    int ended = 0;
    if (how == HOW_EXEC)
        ended = exec_copies(ctx, slot, key, now);
    else if (is_used(slot))
        ended = end_copies(slot, first, last);
    if (ended || (read && is_used(slot)))
        released(ctx, table, key, slot, read, fd, how, now, how != HOW_EXEC);
    return 1;
}

int release_next(void *ctx)
{
    if (release_slot(ctx))
        shared.call(ctx, RELEASE_NEXT);
    return 0;
}

ENTER(close)
{
    u32 key = table_key();
    struct table *table = table_of(key);
    if (!table)
        return 0;
    end_fd(args, table, key, ARGUMENT(0, fd), 0, 1);
    if (is_empty(table) && bpf_ktime_get_ns() - table->touched > TABLE_IDLE_NS)
        delete_table(key);
    return 0;
}

#ifdef HAVE_CLOSE_RANGE
ENTER(close_range)
{
    u32 key = table_key(), first = ARGUMENT(0, fd), last = ARGUMENT(1, max_fd), flags = ARGUMENT(2, flags);
    struct table *table = table_of(key);
    if (!table || first > last || (flags & ~(CLOSE_RANGE_CLOEXEC | CLOSE_RANGE_UNSHARE)))
        return 0;
#ifdef FENTRY
    u32 tid = thread_id();
    struct call *begun = calls.lookup(&tid);
    if (begun && begun->how == HOW_CLOSE && begun->first == first && begun->last == last) {
        if (release_slot(args))
            again.call(args, 0);
        return 0;
    }
#endif
    if (flags & CLOSE_RANGE_UNSHARE)
        unshare_files(table, key);
    if (!(flags & CLOSE_RANGE_CLOEXEC)) {
        begin_release(HOW_CLOSE, first, last);
#ifdef FENTRY
        again.call(args, 0);
#else
        shared.call(args, RELEASE_NEXT);
#endif
        return 0;
    }
    EACH_SLOT(i) {
        if (is_used(&table->slots[i]))
            set_cloexec(&table->slots[i], first, last, 1);
    }
    return 0;
}
#endif

/* The spawn of which fd is an open copy of the write end, 0: none. */
static inline __attribute__((always_inline)) u64 spawn_of(struct table *table, s32 fd)
{
    u32 index = slot_with(table, fd, 0);
    return index < SLOTS ? slot_at(table, index)->id : 0;
}

/* Remembers a dup of old_fd; replaced is the fd that it is put over (-1: a free one). */
static inline __attribute__((always_inline)) int enter_dup(s32 old_fd, s32 replaced, u32 cloexec)
{
    u32 tid = thread_id(), key = table_key();
    struct table *table = table_of(key);
    if (!table || old_fd == replaced)
        return 0;
    u64 id = spawn_of(table, old_fd);
    if (!id && replaced < 0)
        return 0;
    struct call call = {.ns = bpf_ktime_get_ns(), .arg = id, .fd = replaced, .flags = cloexec};
    calls.update(&tid, &call);
    return 0;
}

/* Adds a copy to the slot of a spawn. The own child that makes a standard stream of it (standard) proves that
 * it is a data pipe. */
static inline __attribute__((always_inline)) void add_copy(struct table *table, u32 key, u64 id, s32 fd,
                                                           u32 cloexec, int standard)
{
    struct spawn *spawn = spawns.lookup(&id);
    u32 index = slot_of(table, id);
    if (!spawn || index >= SLOTS)
        return;
    struct slot *slot = slot_at(table, index);
    if (standard && is_own(slot->flags, spawn, key)) {
        slot->id = 0;
        delete_spawn(id);
        return;
    }
    int added = 0;
#pragma unroll
    for (int k = 0; k < COPIES; k++) {
        if (slot->fds[k] == fd && !is_open(slot, k))
            slot->fds[k] = -1; /* the number of a copy that the parent closed is in use again */
        if (added || is_open(slot, k))
            continue;
        slot->fds[k] = fd;
        slot->flags &= ~(SLOT_CLOEXEC(k) | SLOT_CLOSED(k));
        if (cloexec)
            slot->flags |= SLOT_CLOEXEC(k);
        added = 1;
        table->marks[(u32)fd % MARKS] = 1;
    }
    if (!added) {
        spawn->copy_lost = 1;
        count(SLOTS_OVERFLOWED);
    }
}

/* The thread's dup, dup2, dup3 or fcntl has returned well. */
SHARED int dup_made(void *ctx)
{
    u32 tid = thread_id(), key = table_key();
    struct call *remembered = calls.lookup(&tid);
    if (!remembered)
        return 0;
    struct call call = *remembered;
    calls.delete(&tid);
    struct table *table = tables.lookup(&key);
    if (!table)
        return 0;
    if (call.fd >= 0)
        end_fd(ctx, table, key, call.fd, call.ns, 0); /* another file was put over it */
    if (call.arg)
        add_copy(table, key, call.arg, call.result, call.flags, call.fd >= 0 && call.fd <= 2);
    return 0;
}

/* Only a thread of a process with a table has something to finish. */
static inline __attribute__((always_inline)) int dup_returned(void *ctx, long result)
{
    return may_have_table(table_key()) ? call_returned(ctx, result, DUP_MADE) : 0;
}

ENTER(dup) { return enter_dup(ARGUMENT(0, fildes), -1, 0); }
LEAVE(dup) { return dup_returned(args, RESULT); }
#ifdef HAVE_DUP2
ENTER(dup2) { return enter_dup(ARGUMENT(0, oldfd), ARGUMENT(1, newfd), 0); }
LEAVE(dup2) { return dup_returned(args, RESULT); }
#endif
ENTER(dup3) { return enter_dup(ARGUMENT(0, oldfd), ARGUMENT(1, newfd), ARGUMENT(2, flags) & O_CLOEXEC); }
LEAVE(dup3) { return dup_returned(args, RESULT); }

ENTER(fcntl)
{
    u32 fd = ARGUMENT(0, fd), command = ARGUMENT(1, cmd), key;
    if (command == F_DUPFD || command == F_DUPFD_CLOEXEC)
        return enter_dup(fd, -1, command == F_DUPFD_CLOEXEC);
    if (command != F_SETFD)
        return 0;
    key = table_key();
    struct table *table = table_of(key);
    if (!table || !may_have(table, fd))
        return 0;
    EACH_SLOT(i) {
        if (is_used(&table->slots[i]))
            set_cloexec(&table->slots[i], fd, fd, ARGUMENT(2, arg) & FD_CLOEXEC);
    }
    return 0;
}
LEAVE(fcntl) { return dup_returned(args, RESULT); }

/* ---- fork: the child's table is a copy ---- */

#ifdef STACKS
/* Where the current thread is in user space: what struct table keeps. A stack that is there already is shared;
 * the place of another one is not taken (no BPF_F_REUSE_STACKID), so that an id stays what it was. */
static inline __attribute__((always_inline)) u32 user_stack(void *ctx)
{
    int id = stacks.get_stackid(ctx, BPF_F_USER_STACK);
    if (id >= 0)
        return id + 1;
    count(STACKS_LOST);
    return 0;
}
#endif

/* True when the child is the own child of a spawn. */
static inline __attribute__((always_inline)) int inherit(void *ctx, u32 child, u64 child_task,
                                                         u64 clone_flags)
{
    u32 tid = thread_id(), key = table_key();
    struct table *table = tables.lookup(&key);
    if (clone_flags & CLONE_FILES) {
        lose_table(0, child);
        lose_table(table, key);
        return 0;
    }
    if (!table)
        return 0;
    u64 now = bpf_ktime_get_ns(), candidate = 0;
    u64 *last_made = made.lookup(&tid);
    if (last_made)
        candidate = *last_made;
    /* Of vfork only: a worker that is forked while another thread is between pipe and fork is no stray. */
    struct spawn *candidates = candidate ? spawns.lookup(&candidate) : 0;
    u64 may_stray = candidates && !candidates->own_pid ? 0 : clone_flags & CLONE_VFORK;
    struct table *copy = table_for(child);
    if (!copy)
        return 0;
    copy->born = now;
    copy->touched = 0;
    copy->parent = key;
    copy->forker = tid;
#ifdef BTF
    struct fds fds;
    fds_of(child_task, &fds);
#endif
    EACH_SLOT(i) {
        struct slot *slot = &table->slots[i];
        /* Volatile: in memory the verifier does not follow these values, so its paths meet again. */
        volatile struct slot *to = &copy->slots[i];
        u64 id = slot->id;
        if (!is_used(slot))
            continue;
        struct spawn *spawn = spawns.lookup(&id);
        if (!spawn) {
            slot->id = 0;
            continue;
        }
        to->flags = slot->flags & SLOT_UNSURE;
        to->read_fd = 0; /* counts the copies found */
#pragma unroll
        for (int k = 0; k < COPIES; k++) {
            s32 fd = slot->fds[k];
            to->fds[k] = -1;
            if (fd < 0)
                continue;
#ifdef BTF
            /* The child's table was copied earlier, and has not been used yet: it is the exact snapshot. */
            if (!is_write_end(file_at(&fds, fd), spawn->pipe))
                continue;
            if (cloexec_at(&fds, fd))
                to->flags |= SLOT_CLOEXEC(k);
#else
            to->flags |= slot->flags & SLOT_CLOEXEC(k);
            if (slot->flags & SLOT_CLOSED(k))
                to->flags |= SLOT_UNSURE;
#endif
            to->fds[k] = fd;
            to->read_fd += 1;
        }
        if (!to->read_fd)
            continue;
        to->read_fd = -1;
        if ((slot->flags & SLOT_PARENT) && !spawn->own_pid && candidate == id) {
            spawn->own_pid = child;
            spawn->forked = now;
            if (to->flags & (SLOT_CLOEXEC(0) | SLOT_CLOEXEC(1) | SLOT_CLOEXEC(2)))
                spawn->cloexec = 1;
            bpf_get_current_comm(&spawn->own_comm, sizeof(spawn->own_comm));
            to->flags |= SLOT_OWN;
        } else {
            if (slot->flags & (SLOT_OWN | SLOT_DESCENDANT))
                to->flags |= SLOT_DESCENDANT;
            if (may_stray && (slot->flags & SLOT_PARENT) && !spawn->own_pid) {
                struct stray stray = {.pid = child, .forked = now};
                stray.cloexec = (to->flags & (SLOT_CLOEXEC(0) | SLOT_CLOEXEC(1) | SLOT_CLOEXEC(2))) != 0;
                strays.insert(&id, &stray);
            }
            __sync_fetch_and_add(&spawn->foreign, 1);
            __sync_fetch_and_add(&spawn->foreign_total, 1);
#ifdef STACKS
            *(volatile u32 *)&copy->stack = 1; /* wanted: captured below, once */
#endif
        }
        to->id = id;
        copy->touched = now;
    }
    __builtin_memcpy(copy->marks, table->marks, MARKS); /* after the slots: another thread sets a mark first */
#ifdef STACKS
    if (*(volatile u32 *)&copy->stack)
        copy->stack = user_stack(ctx);
#endif
    if (!*(volatile u64 *)&copy->touched)
        delete_table(child);
    candidates = candidate ? spawns.lookup(&candidate) : 0;
    return candidates && candidates->own_pid == child;
}

/* ---- spawns without an errpipe ---- */

static inline __attribute__((always_inline)) void vfork_began(u32 child)
{
    int which = SETTING_SELF;
    u64 *self = settings.lookup(&which);
    u32 key = table_key();
    if (!self || *self == key)
        return;
#ifdef TARGETS
    if (!targets.lookup(&key))
        return;
#endif
    struct vforked vforked = {.ns = bpf_ktime_get_ns()};
    bpf_get_current_comm(&vforked.comm, sizeof(vforked.comm));
    vforks.update(&child, &vforked);
}

/* A process execs or exits. */
static inline __attribute__((always_inline)) void vfork_ended(u32 child)
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
    void *context = ctx;
    u64 task = ctx->args[0], flags = ctx->args[1];
    if (flags & CLONE_THREAD)
        return 0;
    u32 child = (u32)kernel_u64(task + OFF_TASK_TGID);
#else
PROBE(task, task_newtask)
{
    void *context = args;
    u64 task = 0, flags = args->clone_flags;
    if (flags & CLONE_THREAD)
        return 0;
    u32 child = args->pid;
#endif
#ifdef TARGETS
    u32 parent = table_key();
    if (targets.lookup(&parent)) {
        u8 one = 1;
        targets.update(&child, &one);
    }
#endif
    if (!inherit(context, child, task, flags) && flags & CLONE_VFORK)
        vfork_began(child);
    return 0;
}

ENTER(unshare)
{
    u32 key = table_key();
    if (ARGUMENT(0, unshare_flags) & CLONE_FILES)
        unshare_files(tables.lookup(&key), key);
    return 0;
}

/* ---- exec and exit ---- */

static inline __attribute__((always_inline)) int exec_failed(long result)
{
    u32 key = table_key();
    struct table *table = result < 0 ? tables.lookup(&key) : 0;
    if (!table)
        return 0;
    EACH_SLOT(i) {
        struct slot *slot = &table->slots[i];
        u64 id = slot->id;
        if (!id || (slot->flags & SLOT_PARENT))
            continue;
        struct spawn *spawn = spawns.lookup(&id);
        if (spawn && is_own(slot->flags, spawn, key))
            spawn->exec_error = -result;
        struct stray *stray = strays.lookup(&id);
        if (stray && stray->pid == key)
            stray->exec_error = -result;
    }
    return 0;
}

#ifdef HAVE_EXECVE
LEAVE(execve) { return exec_failed(RESULT); }
#endif
#ifdef HAVE_EXECVEAT
LEAVE(execveat) { return exec_failed(RESULT); }
#endif

/* The close-on-exec copies have been closed already. */
PROBE(sched, sched_process_exec)
{
    u32 key = table_key();
    sharing.delete(&key); /* an exec ends the sharing */
    vfork_ended(key);
    if (!tables.lookup(&key))
        return 0;
    begin_release(HOW_EXEC, 0, ~0U);
    shared.call(args, RELEASE_NEXT);
    return 0;
}

/* Fires before the task's files are closed. */
PROBE(sched, sched_process_exit)
{
    u32 key = table_key(), tid = thread_id();
    made.delete(&tid);
    reading.delete(&tid);
    calls.delete(&tid);
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
    if (!tables.lookup(&key))
        return 0;
    begin_release(HOW_EXIT, 0, ~0U);
    shared.call(args, RELEASE_NEXT);
    return 0;
}

/* ---- the read ---- */

#ifdef PIPE_READ
/* At the pipe's own function, of a struct kiocb and a struct iov_iter: what is no pipe, as most that is read, costs
 * nothing. */
#define READ_PIPE kernel_u64(*(u64 *)(args[0] + OFF_KIOCB_FILE) + OFF_FILE_PRIVATE)
#define READ_RESULT ((s64)args[2])

/* The spawn whose errpipe is that one, by its struct pipe_inode_info; 0: none. */
static inline __attribute__((always_inline)) u64 read_of_pipe(struct table *table, u64 pipe)
{
    u64 found = 0;
    EACH_SLOT(i) {
        struct slot *slot = &table->slots[i];
        u64 id = is_used(slot) && slot->read_fd >= 0 ? slot->id : 0;
        struct spawn *spawn = id ? spawns.lookup(&id) : 0;
        if (spawn && spawn->pipe == pipe)
            found = id;
    }
    return found;
}
#else
#define READ_RESULT RESULT

/* The spawn whose errpipe has its read end at that fd, 0: none. */
static inline __attribute__((always_inline)) u64 read_of_fd(struct table *table, s32 fd)
{
    u64 found = 0;
    if (!may_have(table, fd))
        return 0;
    EACH_SLOT(i) {
        struct slot *slot = &table->slots[i];
        if (is_used(slot) && slot->read_fd == fd)
            found = slot->id;
    }
    return found;
}
#endif

ENTER(read)
{
    struct table *table = table_of(table_key());
    if (!table)
        return 0;
#ifdef PIPE_READ
    u64 id = read_of_pipe(table, READ_PIPE);
#else
    u64 id = read_of_fd(table, ARGUMENT(0, fd));
#endif
    struct spawn *spawn = id ? spawns.lookup(&id) : 0;
    if (!spawn || !spawn->own_pid || !spawn->parent_closed)
        return 0;
    u32 tid = thread_id();
    reading.update(&tid, &id);
    spawn->reading = 1;
    if (!spawn->read_began) {
        spawn->read_began = bpf_ktime_get_ns();
        spawn->read_tid = tid;
    }
    return 0;
}

LEAVE(read)
{
    u32 tid = thread_id(), key = table_key();
    u64 *found = may_have_table(key) ? reading.lookup(&tid) : 0;
    if (!found)
        return 0;
    u64 id = *found;
    reading.delete(&tid);
    struct spawn *spawn = spawns.lookup(&id);
    if (!spawn)
        return 0;
    /* A signal: the thread reads again, unless it dies of it. To us it is one read. */
    long result = READ_RESULT;
    if (result <= -ERESTARTSYS && result >= -ERESTART_RESTARTBLOCK)
        return 0;
    spawn->reading = 0;
    if (result < 0 || spawn->ended) /* ended: another thread closed the read end under it */
        return 0;
    spawn->read_ended = bpf_ktime_get_ns();
    if (result > 0) /* the child's error; some runtimes read on to the end-of-file */
        return 0;
    spawn->eof = 1;
    spawn->ended = 1;
    struct table *table = tables.lookup(&key);
    if (table)
        forget(table, id);
    finish_when_both(args, spawn);
    return 0;
}
