/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The end of a spawn, and the count of the copies that delay it. */

/* ---- the end of a spawn ---- */

/* id: of the spawn when it was found. Meanwhile another CPU can have ended it, and given the place to another spawn. */
INLINE void free_spawn(struct spawn *spawn, u64 id)
{
    u64 key = spawn->key, other = spawn->other_key;
    u32 place = spawn->index;
#ifdef BTF
    u32 pid = spawn->pid;
#endif
    if (!id || *(volatile u64 *)&spawn->id != id || !once(id, ONCE_FREED))
        return;
    struct places *list = watchlist();
    if (list && spawn->listed)
        clear_place(list, place);
#ifdef BTF
    struct process *row = processes.lookup(&pid);
    if (row)
        clear_place(&row->may_hold, place);
#endif
    u32 *found = pipes.lookup(&key);
    if (found && *found == place)
        pipes.delete(&key);
    found = other ? pipes.lookup(&other) : 0;
    if (found && *found == place)
        pipes.delete(&other);
    *(volatile u64 *)&spawn->id = 0;
    u64 *owner = places.lookup(&place);
    if (owner && *owner == id) /* user space frees one that has ended, too */
        places.delete(&place); /* last: now another thread can take the place */
}

/* Wakes user space, at most once in NOTICE_NS for each kind, because a wake-up costs much more than a record: a context
 * switch. User space looks again NOTICE_NS after a notice, and finds what happened since then. (If the buffer has no
 * room for a notice, user space has not read the earlier ones yet and will look anyway.) */
INLINE void notify(void *ctx, u32 kind, int which)
{
    struct notice notice = {.kind = kind};
    u64 now = bpf_ktime_get_ns();
    u64 *sent = settings.lookup(&which);
    if (!sent || now - *sent <= NOTICE_NS)
        return;
    *sent = now;
    notices.perf_submit(ctx, &notice, sizeof(notice));
}

INLINE void send(void *ctx, struct spawn *spawn)
{
    if (records.perf_submit(ctx, spawn, sizeof(*spawn)) < 0)
        count(RECORDS_LOST);
    notify(ctx, RECORD_SENT, SETTING_SENT);
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
    /* A parent that waits in poll reads only at the end. User space finds out whether it was waiting. */
    u64 kept = spawn->releases ? spawn->last[below(spawn->releases - 1, MAX_RELEASES)].ns : 0;
    return spawn->read_ended >= began + threshold || (spawn->held && kept >= spawn->own_released + threshold);
}

#ifdef UNROLL
INLINE struct comm_stats *stats_at(struct comm *comm)
{
    u32 *place = comm_places.lookup(comm);
    int at = place ? *place : -1;
    return comm_stats.lookup(&at);
}

/* Gives a comm a place. */
INLINE void add_comm(struct comm *comm)
{
    int zero = 0;
    u32 *next = next_comm.lookup(&zero);
    if (!next)
        return;
    LOOP
    for (int n = 0; n < MAX_TRIES; n++) {
        u32 place = opaque(*next) % MAX_COMMS;
        u8 one = 1;
        *next = place + 1;
        if (comm_taken.insert(&place, &one) == 0) {
            if (comm_places.insert(comm, &place))
                comm_taken.delete(&place); /* another CPU was faster, or the map is full */
            return;
        }
    }
}
#endif

INLINE struct comm_stats *stats_of(struct comm *comm)
{
#ifdef UNROLL
    struct comm_stats *stats = stats_at(comm);
    if (!stats) {
        add_comm(comm);
        stats = stats_at(comm);
    }
    if (!stats) {
        int last = MAX_COMMS;
        count(COMM_STATS_FULL);
        stats = comm_stats.lookup(&last);
    }
#else
    struct comm_stats *stats = comm_stats.lookup(comm);
    if (!stats) {
        int zero = 0;
        struct comm_stats *fresh = zero_comm_stats.lookup(&zero);
        if (!fresh)
            return 0;
        comm_stats.insert(comm, fresh);
        stats = comm_stats.lookup(comm);
    }
    if (!stats) {
        count(COMM_STATS_FULL);
        struct comm other = {.text = "~other"};
        stats = comm_stats.lookup(&other);
    }
#endif
    if (stats)
        stats->used = bpf_ktime_get_ns();
    return stats;
}

INLINE void observe(struct histogram *histogram, u64 ns)
{
    u64 bucket = 0;
    /* Sign bits instead of comparisons, as 22 branches are 22 paths for the verifier. */
    LOOP
    for (int b = 0; b < BUCKETS - 1; b++)
        bucket += (((u64)BUCKET_0_NS << b) - ns) >> 63;
#ifdef UNROLL /* clang knows that it is small enough, and before 4.14 the verifier does not */
    bucket = below(bucket, BUCKETS);
#endif
    if (bucket < BUCKETS)
        __sync_fetch_and_add(&histogram->buckets[bucket], 1);
    __sync_fetch_and_add(&histogram->sum_ns, ns);
}

/* Verdicts: what settle has to do with a spawn after an event. Each program calls settle in one place, to contain its
 * code once. */
#define GO_ON   0
#define CHECK   1 /* the read has ended, or the own child has released its copy: finish the spawn if both have */
#define SEND    2 /* everything is known: send a record if the wait was long, and free the place */
#define DROP    3 /* not an errpipe: free the place */
#define EXPOSED 4 /* flag: one more exposure of a spawn whose exposures have been added up */

/* The outcome of a spawn that has ended and whose own child has released its copy. */
INLINE u32 outcome_of(struct spawn *spawn)
{
    if (spawn->read_ended && spawn->own_how == HOW_EXEC)
        return OUTCOME_OK;
    if (spawn->read_ended && spawn->exec_error)
        return OUTCOME_EXEC_FAILED;
    return OUTCOME_ABANDONED;
}

/* 1: the own child has exited and never called exec: more likely a worker with a pipe for its result, whose copies in
 * other processes are no race. */
INLINE u32 never_tried_to_exec(struct spawn *spawn)
{
    return spawn->own_how == HOW_EXIT && !spawn->exec_error && !spawn->killed;
}

/* Adds a finished spawn to the statistics of its comm. */
INLINE void add_up(struct spawn *spawn, struct comm_stats *stats, u32 outcome)
{
    LOOP
    for (int cause = 0; cause < EXPOSURES; cause++)
        __sync_fetch_and_add(&stats->exposures[cause], spawn->exposures[cause]);
    /* An index: of a choice between members, clang can keep an offset on the stack, where the verifier forgets it before
     * 5.3 (commit f7cf25b2026d). */
    __sync_fetch_and_add(&stats->outcomes[below(outcome - OUTCOME_OK, OUTCOMES)], 1);
    if (outcome == OUTCOME_ABANDONED)
        return;
    observe(&stats->spawn, spawn->read_ended - spawn->created);
    observe(&stats->exec, spawn->own_released - spawn->forked);
    if (!spawn->held && is_long(spawn))
        __sync_fetch_and_add(&stats->late_wakeups, 1);
}

/* id: as in free_spawn. */
INLINE void settle(void *ctx, struct spawn *spawn, u64 id, u32 verdict)
{
    u32 finishes = 0, outcome = OUTCOME_ABANDONED, exposed = verdict & EXPOSED;
    verdict &= EXPOSED - 1;
    if (verdict == CHECK) {
        __sync_fetch_and_add(&spawn->known, 1); /* a barrier: another CPU may be setting the other half */
        verdict = GO_ON;
        if (*(volatile u8 *)&spawn->ended && *(volatile u64 *)&spawn->own_released &&
            *(volatile u64 *)&spawn->id == id && once(id, ONCE_FINISHED)) {
            outcome = outcome_of(spawn);
            finishes = outcome != OUTCOME_ABANDONED || spawn->cloexec;
            verdict = finishes ? SEND : DROP; /* neither close-on-exec nor followed by an exec: not an errpipe */
            if (never_tried_to_exec(spawn)) {
                spawn->held = 0;
                __builtin_memset(spawn->exposures, 0, sizeof(spawn->exposures));
            }
        }
    }
    if (finishes || exposed) {
        struct comm comm = {};
        __builtin_memcpy(comm.text, spawn->comm, COMM_LEN);
        struct comm_stats *stats = stats_of(&comm);
        if (stats && exposed) {
            __sync_fetch_and_add(&stats->exposures[below(spawn->exposed, EXPOSURES)], 1);
        } else if (stats) {
            if (spawn->own_released > spawn->read_ended && spawn->eof)
                spawn->own_released = spawn->read_ended; /* the tracepoint of an exec comes after its closes */
            add_up(spawn, stats, outcome);
        }
    }
    if (finishes) {
        *(volatile u8 *)&spawn->outcome = outcome;
        __sync_fetch_and_add(&spawn->known, 1); /* a barrier: foreign_released writes settled, and reads outcome */
#ifdef BTF
        /* The last release may be an exec, whose tracepoint comes after its closes: wait for it. (User space frees
         * spawns that wait too long.) */
        if (spawn->held && spawn->eof && !*(volatile u8 *)&spawn->settled)
            return;
#endif
    }
    if (verdict == SEND && *(volatile u64 *)&spawn->id == id && once(id, ONCE_SENT)) {
#ifndef EVERY
        if ((spawn->outcome != OUTCOME_ABANDONED || spawn->killed) && is_long(spawn))
#endif
            send(ctx, spawn);
        verdict = DROP;
    }
    if (verdict == DROP)
        free_spawn(spawn, id);
}

/* ---- copies that are left ---- */

#ifdef BTF
/*
 * The number of copies of the write end other than the parent's, and other than those (mine) that are about to be
 * closed. All copies made by fork, dup or SCM_RIGHTS share one struct file, whose count is exact at any time. Opening
 * /proc/PID/fd makes another struct file; the pipe counts these in writers, which lags a little. in_doubt: 1 if one more is
 * either the parent's, in a close that has just begun, or another process's.
 */
INLINE u32 others(struct spawn *spawn, u32 mine, u32 *in_doubt)
{
    *in_doubt = 0;
    u64 file = spawn->file;
    u32 writers = spawn->is_socket ? 0 : (u32)kernel_u64(spawn->key + OFF_PIPE_WRITERS);
    writers *= writers < 1 << 20;                          /* otherwise the pipe is gone, too */
    if (kernel_u64(file + OFF_FILE_PRIVATE) != spawn->key) /* freed and reused */
        return spawn->ended ? 0 : writers;
    s64 left = (s64)kernel_u64(file + OFF_FILE_COUNT) - FILE_COUNT_ONE + 1 - (s64)mine;
    u64 closing = spawn->parent_closed && !spawn->reading && bpf_ktime_get_ns() - spawn->parent_closed < CLOSING_NS;
    /* Not after its end: the parent may have exited, and its table may be another process's. A parent that reads has
     * closed its copy. (But for a socketpair, whose close counts as the beginning of the read.) */
    if (!spawn->ended && (!spawn->reading || spawn->is_socket)) {
        struct fds parents;
        struct copies kept;
        fds_at(spawn->files, &parents);
        count_copies(&parents, spawn, 0, ~0U, &kept);
        left -= kept.inside;
        closing &= differ(kept.inside, 0) ^ 1;
    }
    closing *= left > 0;
    left -= closing; /* close has removed the copy from the parent's table, and may not have lowered the count yet */
    *in_doubt = closing;
    if (left < 0)
        left = 0;
    if (writers > 1)
        left += writers - 1;
    return left;
}
#endif

/* Marks the spawn as watched if copies are left. Called when the own child or the parent has released its copy, and
 * when the parent begins to read. */
INLINE void watch(struct spawn *spawn, u32 left)
{
    struct places *list = watchlist();
    if (!list || !left)
        return;
    if (once(spawn->id, ONCE_WATCHED)) {
        spawn->listed = 1;
        set_place(list, spawn->index);
    }
    spawn->held = 1; /* last: narrow relies on the list */
}

/* The parent releases the read end, by close, exec or exit. Returns a verdict. */
INLINE u32 read_end_released(struct spawn *spawn, u32 how, u64 ns)
{
    if (spawn->ended)
        return GO_ON;
    if (!spawn->own_pid || (!spawn->read_began && !spawn->parent_closed))
        return DROP; /* no child, or released before the write end: not an errpipe */
    if (spawn->reading && how == HOW_EXIT) {
        spawn->read_ended = ns;
        spawn->read_cut = 1;
    } else if (spawn->is_socket) {
        spawn->read_ended = ns;
        spawn->eof = 1;
    } else if (spawn->reading && spawn->elsewhere) {
        spawn->read_ended = ns; /* the parent has given up waiting in poll */
    }
    spawn->reading = 0;
    *(volatile u8 *)&spawn->ended = 1;
    return CHECK;
}
