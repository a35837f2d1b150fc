/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The end of a spawn, and who is left that keeps it from ending. */

/* ---- the end of a spawn ---- */

/* id: the spawn's when it was found. Another CPU can end it meanwhile, and another spawn can get the place. */
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
    /* A parent that waits in poll reads only at the end. User space knows whether it has waited. */
    u64 kept = spawn->releases ? spawn->last[below(spawn->releases - 1, MAX_RELEASES)].ns : 0;
    return spawn->read_ended >= began + threshold || (spawn->held && kept >= spawn->own_released + threshold);
}

INLINE struct comm_stats *stats_of(struct comm *comm)
{
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
    if (stats)
        stats->used = bpf_ktime_get_ns();
    return stats;
}

INLINE void observe(struct histogram *histogram, u64 ns)
{
    u64 bucket = 0;
    /* Sign bits instead of comparisons: 22 branches would make 22 paths for the verifier to walk. */
    LOOP
    for (int b = 0; b < BUCKETS - 1; b++)
        bucket += (((u64)BUCKET_0_NS << b) - ns) >> 63;
    if (bucket < BUCKETS)
        __sync_fetch_and_add(&histogram->buckets[bucket], 1);
    __sync_fetch_and_add(&histogram->sum_ns, ns);
}

/* What to do with a spawn after an event. Each program calls settle in one place, so that its code exists once in each. */
#define GO_ON   0
#define CHECK   1 /* the read has ended, or the own child has let go: are both known? */
#define SEND    2 /* everything is known */
#define DROP    3 /* it was another use of a pipe */
#define EXPOSED 4 /* added to these: one more exposure, of a spawn whose exposures were counted before */

/* The outcome of a spawn whose read has ended and whose own child has let go. */
INLINE u32 outcome_of(struct spawn *spawn)
{
    if (spawn->read_ended && spawn->own_how == HOW_EXEC)
        return OUTCOME_OK;
    if (spawn->read_ended && spawn->exec_error)
        return OUTCOME_EXEC_FAILED;
    return OUTCOME_ABANDONED;
}

INLINE void add_up(struct spawn *spawn, struct comm_stats *stats, u32 outcome)
{
    LOOP
    for (int cause = 0; cause < EXPOSURES; cause++)
        __sync_fetch_and_add(&stats->exposures[cause], spawn->exposures[cause]);
    u64 *ended = outcome == OUTCOME_OK            ? &stats->ok
                 : outcome == OUTCOME_EXEC_FAILED ? &stats->exec_failed
                                                  : &stats->abandoned;
    __sync_fetch_and_add(ended, 1);
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
        __sync_fetch_and_add(&spawn->known, 1); /* a barrier: the other half can come on another CPU just now */
        verdict = GO_ON;
        if (*(volatile u8 *)&spawn->ended && *(volatile u64 *)&spawn->own_released &&
            *(volatile u64 *)&spawn->id == id && once(id, ONCE_FINISHED)) {
            outcome = outcome_of(spawn);
            finishes = outcome != OUTCOME_ABANDONED || spawn->cloexec;
            verdict = finishes ? SEND : DROP; /* what never was close-on-exec and served no exec is some other pipe */
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
                spawn->own_released = spawn->read_ended; /* an exec is seen after its closes */
            add_up(spawn, stats, outcome);
        }
    }
    if (finishes) {
        *(volatile u8 *)&spawn->outcome = outcome;
        __sync_fetch_and_add(&spawn->known, 1); /* a barrier: foreign_released writes settled, and reads outcome */
#ifdef BTF
        /* The exec of a foreign holder is seen after its closes, so wait for it. (User space frees spawns that wait too
         * long.) */
        if (spawn->held && spawn->eof && !*(volatile u8 *)&spawn->settled)
            return;
#endif
    }
    if (verdict == SEND && *(volatile u64 *)&spawn->id == id && once(id, ONCE_SENT)) {
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
 * The number of copies of the write end beyond the parent's and those (mine) that are about to go. All copies made by fork,
 * dup or SCM_RIGHTS share one struct file, whose count is right at once. Opening /proc/PID/fd makes another struct file; the
 * pipe counts those in writers, after a short while.
 */
INLINE u32 others(struct spawn *spawn, u32 mine)
{
    u64 file = spawn->file;
    if (kernel_u64(file + OFF_FILE_PRIVATE) != spawn->key)
        return 0; /* freed and reused */
    s64 left = (s64)kernel_u64(file + OFF_FILE_COUNT) - FILE_COUNT_ONE + 1 - (s64)mine;
    u64 closing = spawn->parent_closed && !spawn->reading && bpf_ktime_get_ns() - spawn->parent_closed < CLOSING_NS;
    if (!spawn->ended) { /* (otherwise the parent may have exited, and its table may belong to another process) */
        struct fds parents;
        struct copies kept;
        fds_at(spawn->files, &parents);
        count_copies(&parents, spawn, 0, ~0U, &kept);
        left -= kept.inside;
        closing &= differ(kept.inside, 0) ^ 1;
    }
    left -= closing; /* the copy is no longer in the parent's table, but may still be counted */
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
        spawn->read_ended = ns; /* the parent gave up waiting */
    }
    spawn->reading = 0;
    *(volatile u8 *)&spawn->ended = 1;
    return CHECK;
}
