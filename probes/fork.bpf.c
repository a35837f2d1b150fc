/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Processes: shared fd tables, fork, exec and exit. */

/* ---- processes that share an fd table, or have several ---- */

/* Called when the threads of a process stop sharing one fd table, or share it with another process: from here on
 * nothing about its copies is certain. */
INLINE void lose_table(u32 key)
{
    u8 one = 1;
    sharing.update(&key, &one);
    struct process *row = row_of(key);
    if (row) {
        row->shared |= TABLE_SHARED;
        count(TABLES_SHARED);
    }
}

/* The current thread gets an fd table of its own, if another thread or process uses the table. */
INLINE void unshare_files(u32 key)
{
#ifdef BTF
    if ((u32)kernel_u64(kernel_u64(bpf_get_current_task() + OFF_TASK_FILES) + OFF_FILES_COUNT) <= 1)
        return;
#endif
    lose_table(key);
}

#ifdef HAVE_UNSHARE
ENTER(unshare)
{
    if (ARGUMENT(0, unshare_flags) & CLONE_FILES)
        unshare_files(process_id());
    return 0;
}
#endif

#ifdef HAVE_CLOSE_RANGE
ENTER(close_range)
{
    u32 first = ARGUMENT(0, fd), last = ARGUMENT(1, max_fd), flags = ARGUMENT(2, flags);
    if (first <= last && flags & CLOSE_RANGE_UNSHARE && !(flags & ~(CLOSE_RANGE_CLOEXEC | CLOSE_RANGE_UNSHARE)))
        unshare_files(process_id());
    return 0;
}

/* At its exit, because the kernel can suspend the thread between two fds: until then other CPUs count its copies. */
LEAVE(close_range)
{
#ifdef BTF
    u32 tid = thread_id();
    if (RESULT < 0 || !row_of(process_id()))
        return 0;
    struct walk walk = {.ns = bpf_ktime_get_ns(), .how = HOW_CLOSE};
    process_comm(walk.comm);
    if (begin_walk(tid, &walk))
#ifdef FENTRY
        range_rest.call(args, LET_GO_NEXT);
#else
        shared.call(args, LET_GO_NEXT);
#endif
#endif
    return 0;
}
#endif

/* ---- fork ---- */

#ifdef STACKS
/* The current thread's user stack, as in struct process. Equal stacks share an id, which is never reused for another
 * stack (no BPF_F_REUSE_STACKID). */
INLINE u32 user_stack(void *ctx)
{
    int id = stacks.get_stackid(ctx, BPF_F_USER_STACK);
    if (id >= 0)
        return id + 1;
    count(STACKS_LOST);
    return 0;
}
#endif

/* Makes the child the own child of a spawn. */
INLINE void assign_own(struct spawn *spawn, u32 child, u64 now, u32 cloexec, u32 vfork)
{
    start_own(spawn, now, cloexec);
    spawn->stray.pid *= vfork; /* strays are for Go, which uses vfork */
    spawn->doubtful = 0;
    process_comm(spawn->own_comm);
    *(volatile u32 *)&spawn->own_pid = child;
}

INLINE void fill_row(struct process *to, struct process *from, u32 key, u32 tid, u64 now, u32 vfork)
{
    to->born = now;
    to->execed = to->forking = to->closing = 0;
    to->forker = tid;
    to->parent[0] = key;
    __builtin_memcpy(&to->parent[1], &from->parent[0], sizeof(u32) * (MAX_ANCESTORS - 1));
    to->stack = 0;
    to->expected = EXPECTED * vfork;
    to->shared = 0;
    to->is_own = to->kept = to->foreign = to->exec_error = to->strays = 0;
    to->is_plain = 1;
    __builtin_memcpy(to->fd_filter, from->fd_filter, FD_FILTER);
    __builtin_memset(to->read_filter, 0, FD_FILTER);
    __builtin_memset(to->own, 0, sizeof(to->own));
}

#ifdef BTF
/* 1: the pipe can be for the thread's new child. A Go thread starts the next process (by vfork) before the goroutine of
 * the last one has closed its write end, so a later vfork does not count. Other runtimes do create a pipe for a later
 * child: a fork shows this at once, a vfork at the exec (handed_on). */
INLINE u64 is_for(struct spawn *spawn, u32 vfork) { return (differ(spawn->own_pid, 0) ^ 1) | (vfork ^ 1); }

/* Makes the child the own child of the latest pipes of its forker, if it has a copy. (Before inherit looks at the
 * rest, so that the number of other pipes does not matter.) */
INLINE void inherit_own(struct process *copy, struct fds *fds, u32 tid, u32 child, u64 now, u32 vfork)
{
    struct pending *pending = made.lookup(&tid);
    if (!pending)
        return;
    LOOP
    for (int k = 0; k < MAX_PENDING; k++) {
        u32 at = below(k, MAX_PENDING), fd;
        struct spawn *spawn = spawn_at(pending->places[at]);
        if (!spawn || !spawn->id || spawn->id != pending->ids[at] || spawn->ended || !holds(fds, spawn, &fd) ||
            !is_for(spawn, vfork))
            continue;
        set_place(&copy->may_hold, spawn->index);
        /* Repeated: the end of an earlier spawn whose pipe had the same address may have deleted the entry after this
         * pipe was created (free_spawn looks, and then deletes). */
        u64 pipe = spawn->key;
        u32 place = spawn->index;
        pipes.update(&pipe, &place);
        copy->kept = copy->is_own = 1;
        copy->own[at] = place + 1;
        assign_own(spawn, child, now, cloexec_at(fds, fd), vfork);
    }
}

/*
 * Handles the next spawns that the forking process may hold, and finds those whose write end the child has inherited.
 * The child's table has been copied and not been used yet, so it is an exact snapshot. 1: there are more. *own: the
 * child is the own child of a spawn.
 */
INLINE int inherit(void *ctx, struct walk *walk, struct fds *fds, u32 vfork, int *own)
{
    u32 key = process_id(), tid = thread_id(), child = walk->child;
    struct process *row = processes.lookup(&key), *copy = row ? row_for(child) : 0;
    if (!row || !copy)
        return 0;
    if (!walk->from) {
        row->forking = walk->ns;
        fill_row(copy, row, key, tid, walk->ns, vfork);
        inherit_own(copy, fds, tid, child, walk->ns, vfork);
    }
    LOOP
    for (int n = 0; n < MAX_STEPS; n++) {
        u32 place = next_in(&row->may_hold, &walk->from);
        if (place == NONE)
            goto end;
        struct spawn *spawn = place == LATER ? 0 : spawn_at(place);
        if (!spawn || !spawn->id || spawn->outcome) /* over: another pipe can be at its address by now */
            continue;
        /* (Once it has ended, its thread may have another pipe at the same address.) */
        u64 mine = (differ(spawn->pid, key) | differ(spawn->ended, 0)) ^ 1;
        u64 given = (differ(spawn->own_pid, child) | differ(spawn->forked, walk->ns)) ^ 1; /* by inherit_own */
        u64 spawner = mine & (differ(spawn->tid, tid) ^ 1) & (given | is_for(spawn, vfork));
        u32 fd = 0;
        /* Another thread can have created the pipe after the kernel copied the table. A pipe of an ancestor must also be older
         * than the process, or the bit is left over from an earlier spawn. */
        if (!given && !(holds(fds, spawn, &fd) & (mine | less(spawn->created, row->born))))
            continue;
        set_place(&copy->may_hold, place);
        copy->kept = 1;
        copy->is_own |= spawner;
        copy->foreign |= spawner ^ 1;
        spawn->copy_lost |= row->shared;
        if (given)
            continue;
        copy->is_plain &= spawner ^ 1;
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
            spawn->heir = child; /* a child of the own child */
            spawn->heir_released = 0;
            copy->is_plain = 0;
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
/* Without BTF: the child is the own child of the forker's latest pipes whose write end is open. 1: it is one. */
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
    LOOP
    for (int k = 0; k < MAX_PENDING; k++) {
        struct spawn *spawn = pending->ids[k] ? spawn_at(pending->places[k]) : 0;
        if (!spawn || spawn->id != pending->ids[k] || spawn->parent_closed)
            continue;
        assign_own(spawn, child, now, 1, 0); /* assumed to be close-on-exec */
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

/* The process has called exec, or exits. */
INLINE void vfork_ended(u32 child)
{
    struct vforked *found = vforks.lookup(&child);
    if (!found)
        return;
    struct vforked vforked = *found;
    vforks.delete(&child);
    struct comm_stats *stats = stats_of(&vforked.comm);
    if (stats)
        observe(&stats->vfork, bpf_ktime_get_ns() - vforked.ns);
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
        struct walk *walk = walks.lookup(&tid);
        if (!walk || walk->how != HOW_FORK || walk->child != child) {
            struct walk fresh = {.ns = bpf_ktime_get_ns(), .how = HOW_FORK, .child = child};
            walk = begin_walk(tid, &fresh);
        }
        struct fds fds;
        fds_of(task, &fds);
        if (walk && inherit(ctx, walk, &fds, !!(flags & CLONE_VFORK), &own)) {
            newtask_rest.call(ctx, 0);
            count(WALKS_CUT);
            struct process *copy = processes.lookup(&child);
            if (copy)
                copy->shared = COPIES_UNKNOWN;
        }
        walks.delete(&tid);
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
    row->expected = EXPECTED;
    row->exec_error = -result;
    return 0;
}

#ifdef HAVE_EXECVE
LEAVE(execve) { return exec_failed(RESULT); }
#endif
#ifdef HAVE_EXECVEAT
LEAVE(execveat) { return exec_failed(RESULT); }
#endif

/* Begins the walk over the copies that the process releases: at an exec the close-on-exec ones, which are already
 * closed; at its exit all, which will be closed after this. */
INLINE void begin_let_go(void *ctx, u32 key, u32 how)
{
    struct process *row = row_of(key);
    if (!row)
        return;
    u32 tid = thread_id();
    struct walk walk = {.ns = bpf_ktime_get_ns(), .how = how};
    process_comm(walk.comm);
#ifdef BTF
    end_stray(row, key, how, walk.ns);
    walk.clean = how == HOW_EXEC && is_clean();
    if (walk.clean)
        narrow(row);
#endif
    if (begin_walk(tid, &walk))
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

/* Runs before the task's files are closed. */
PROBE(sched, sched_process_exit)
{
    u32 key = process_id(), tid = thread_id();
    if (may_have_row(key)) {
        made.delete(&tid);
        calls.delete(&tid);
        stop_reading(key, tid);
    }
#if defined(GROUP_DEAD)
    if (!args->group_dead)
        return 0;
#elif defined(BTF) /* two threads that exit at the same time may both read 0 */
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
