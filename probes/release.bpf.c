/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A process releases its copies: by close, close_range, exec or exit. */

/* ---- a process releases its last copy of a write end ---- */

INLINE int is_own(struct spawn *spawn, struct process *row, u32 key)
{
    return *(volatile u32 *)&spawn->own_pid == key && spawn->forked == row->born && !spawn->own_released;
}

/* Resets what is known of the own child: the spawn gets a new one. */
INLINE void start_own(struct spawn *spawn, u64 forked, u32 cloexec)
{
    spawn->own_released = 0;
    spawn->own_how = 0;
    spawn->cloexec = cloexec;
    spawn->exec_error = 0;
    spawn->killed = 0;
    spawn->heir = 0;
    spawn->heir_released = 0;
    /* Forget the foreign holders so far. (Before the first own child the only releases are exits, and an exiting
     * process can close its files late: they count.) */
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

/* Where the pipe's ring has room for the next write: it moves with each write, except one that fits behind unread data. */
INLINE u32 write_position(struct spawn *spawn)
{
#ifndef BTF
    return 0;
#elif defined(OFF_PIPE_HEAD)
    return kernel_u64(spawn->key + OFF_PIPE_HEAD);
#else
    u32 first = kernel_u64(spawn->key + OFF_PIPE_CURBUF), used = kernel_u64(spawn->key + OFF_PIPE_NRBUFS);
    return (first + used) & ((u32)kernel_u64(spawn->key + OFF_PIPE_BUFFERS) - 1);
#endif
}

/* 1: the pipe has data that the parent has not read. */
INLINE u32 has_unread(struct spawn *spawn)
{
#ifndef BTF
    return 1; /* unknown */
#elif defined(OFF_PIPE_HEAD)
    return (u32)kernel_u64(spawn->key + OFF_PIPE_HEAD) != (u32)kernel_u64(spawn->key + OFF_PIPE_TAIL);
#else
    return (u32)kernel_u64(spawn->key + OFF_PIPE_NRBUFS) != 0;
#endif
}

/* Called when the own child releases its copy. Its own data may not have been read yet (Java's helper sends a message
 * before its second exec), or it has been, by a read whose exit comes later. */
INLINE void note_data(struct spawn *spawn)
{
    if (spawn->is_socket)
        return;
    spawn->written = write_position(spawn);
    spawn->unread = has_unread(spawn) | spawn->reading;
}

/* 1: a read after that returned data that the own child cannot have written. */
INLINE u32 is_data_of_another(struct spawn *spawn) { return !spawn->unread || write_position(spawn) != spawn->written; }

#ifdef BTF
/* Records the release of a foreign holder. left: copies that other foreign processes have. Returns a verdict. */
INLINE u32 foreign_released(struct process *row, u32 key, struct spawn *spawn, s32 fd, u32 how, u64 ns, u32 left,
                            const char *comm)
{
    u64 execed = differ(row->execed, 0), descends = 0;
    u64 expected = (row->expected | (row->expected / EXPECTED_LATER & (differ(how, HOW_CLOSE) ^ 1))) & EXPECTED;
    LOOP
    for (int k = 0; k < MAX_ANCESTORS; k++)
        descends |= differ(row->parent[k], spawn->own_pid) ^ 1;
    descends &= differ(spawn->own_pid, 0) & (less(row->born, spawn->forked) ^ 1);
    /* (One that closes its copy before any exec is on its way there: nearly always a child that closes all its fds.) */
    u64 late_exec = expected | (differ(how, HOW_EXIT) & (execed ^ 1));
    u32 cause =
        EXPOSED_LEAKED * (execed & (late_exec ^ 1)) | EXPOSED_LATE_EXEC * late_exec | EXPOSED_OWN_DESCENDANT * descends;
    struct release *release = &spawn->last[below(spawn->releases, MAX_RELEASES)];
    __sync_fetch_and_add(&spawn->releases, 1);
    release->ns = ns;
    release->acquired = row->born;
    release->pid = key;
    release->parent = row->parent[0];
    release->forker = row->forker;
    if (fd < 0 && spawn->fds[1] < 0) /* it is closed, and there is only one fd at which it can have been */
        fd = spawn->fds[0];
    release->fd = fd;
    release->how = how;
    release->flags = RELEASE_EXECED * execed | RELEASE_DESCENDANT * descends | RELEASE_EXPECTED * expected;
    left -= differ(left, 0) & differ(spawn->own_pid, 0) & (differ(spawn->own_released, 0) ^ 1); /* the own child's */
    release->left = left;
    release->stack = row->stack;
    __builtin_memcpy(release->comm, comm, COMM_LEN);
    if (how == HOW_CLOSE && !row->execed) { /* user space looks there whether an exec follows */
        u64 not_yet = 0;
        execs.update(&key, &not_yet);
    }
    spawn->exposed = cause;
    *(volatile u8 *)&spawn->settled = spawn->held && !left;
    __sync_fetch_and_add(&spawn->known, 1); /* a barrier, see settle */
    u32 is_over = *(volatile u8 *)&spawn->outcome;
    spawn->exposures[below(cause, EXPOSURES)] += spawn->held;
    if (!is_over)
        return GO_ON;
    return (left ? GO_ON : SEND) | EXPOSED;
}

/* A stray calls exec or exits. The parent's close decides later whether it is the own child. */
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

/* The parent closes its write end: makes the stray the own child, unless it has exited without an exec. */
INLINE void adopt(struct spawn *spawn)
{
    u32 pid = spawn->stray.pid;
    start_own(spawn, spawn->stray.forked, 1);
    *(volatile u32 *)&spawn->own_pid = pid;
    struct process *row = processes.lookup(&pid);
    if (row)
        *(volatile u8 *)&row->is_plain = 0;
    /* A barrier: another CPU that handles its exec now writes stray_ends before it reads own_pid and is_plain. */
    __sync_fetch_and_add(&spawn->known, 1);
    struct stray_end *end = stray_ends.lookup(&pid);
    if (end && end->born == spawn->forked) {
        spawn->own_how = end->how;
        spawn->exec_error = end->exec_error;
        spawn->killed = end->killed;
        note_data(spawn);
        __builtin_memcpy(spawn->own_comm, end->comm, COMM_LEN);
        *(volatile u64 *)&spawn->own_released = end->ns;
    } else if (!processes.lookup(&pid)) {
        *(volatile u32 *)&spawn->own_pid = 0;
    }
}
#endif

/*
 * The current process releases its last copy; mine: its copies that the kernel still counts. Returns a verdict.
 *
 * An own child that closes its copy or exits without an exec ends the spawn if an exec has failed or a signal kills it.
 * If it has forked and that child (the heir) has a copy, the heir becomes the own child (GLib forks twice). Otherwise a
 * close, or an exit after an exec, shows that the pipe is not an errpipe (a worker's result,
 * or a daemon's report that it is ready), and an exit without an exec abandons the spawn.
 */
INLINE u32 released(struct process *row, u32 key, struct spawn *spawn, s32 fd, u32 how, u64 ns, u32 mine)
{
    u32 parent = spawn->pid == key, own = !parent && is_own(spawn, row, key), verdict = GO_ON;
    if (parent) {
#ifdef BTF
        u32 tid = thread_id();
        if (spawn->stray.pid && (!spawn->own_pid || spawn->tid != tid)) {
            if (spawn->doubtful && spawn->stray.forker != tid)
                return DROP; /* nothing shows for which child the pipe was created */
            adopt(spawn);
        }
#endif
        *(volatile u64 *)&spawn->parent_closed = ns;
        row->read_filter[(u32)spawn->read_fd % FD_FILTER] = 1;
        if (spawn->is_socket && spawn->own_pid) {
            spawn->read_tid = thread_id();
            spawn->read_began = ns;
            spawn->reading = 1;
        }
        mine = 0; /* others subtracts the parent's copies anyway */
    } else {
        if (row->shared) { /* another thread or process may still have the copy */
            spawn->copy_lost = 1;
            if (how == HOW_CLOSE)
                return GO_ON;
            mine = 0;
        }
#ifdef BTF
        clear_place(&row->may_hold, spawn->index);
        if (how == HOW_CLOSE) {
            row->closing = ns; /* the kernel can preempt it: a look can still find the copy */
            if (is_stray(spawn, row, key))
                spawn->stray.pid = 0; /* it closed the copy before any exec */
        }
#endif
    }
    if (own) {
        u32 heir = spawn->heir, killed = killed_by(how), failed = row->exec_error || killed;
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
        spawn->killed = killed;
        note_data(spawn);
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
    u32 in_doubt, left = others(spawn, mine, &in_doubt);
    if (!parent && !own) {
        if (!spawn->held && how != HOW_EXIT)
            return GO_ON;
        char comm[COMM_LEN];
        process_comm(comm);
        return foreign_released(row, key, spawn, fd, how, ns, left, comm);
    }
    /* In doubt, it is watched: a parent that reads counts again (ENTER(read)), and one that polls does not. */
    left += in_doubt;
#else
    u32 left = LEFT_UNKNOWN;
#endif
    if (spawn->own_released && !spawn->ended)
        watch(spawn, left);
    return verdict;
}

#ifdef BTF
/* ---- an event that concerns many spawns of the current process ---- */

/* The current process has called exec and keeps no copy. Leaves in its set the spawns that this concerns: its own, and
 * those that are watched. Most children hold a copy of every spawn in flight, and few of these are watched. */
INLINE void narrow(struct process *row)
{
    struct places *list = watchlist();
    if (!list || row->shared || !*(volatile u8 *)&row->is_plain)
        return;
    LOOP
    for (int k = 0; k < MAX_PENDING; k++) {
        u32 at = below(k, MAX_PENDING), place = row->own[at];
        if (place && !has_place(&row->may_hold, place - 1)) /* it has released that copy */
            row->own[at] = 0;
    }
    LOOP
    for (u32 n = 0; n < WORDS; n++) {
        u32 word = below(n, WORDS);
        u64 rest = row->may_hold.words[word] & list->words[word];
        row->may_hold.words[word] = rest;
        ((u8 *)row->may_hold.used)[word] = differ(rest, 0);
    }
    LOOP
    for (int k = 0; k < MAX_PENDING; k++) {
        u32 place = row->own[below(k, MAX_PENDING)];
        if (place)
            set_place(&row->may_hold, place - 1);
    }
}

/* Bits of struct process.kept at an exec: a copy survived it; of its own errpipe; and the parent is reading that. */
#define KEPT          1
#define KEPT_OWN      2
#define KEPT_EXPECTED 4

/* 1: the spawner forked this process after the own child. If the process keeps a copy past its exec, the pipe was
 * created for it. (Go's next child has copies too, but close-on-exec ones.) */
INLINE u64 handed_on(struct process *row, struct spawn *spawn)
{
    return (differ(row->forker, spawn->tid) ^ 1) & less(spawn->forked, row->born) & differ(spawn->own_pid, 0);
}

/* What close_range, exec or exit has done to one spawn; the exit has not yet closed its files. Returns a verdict. */
INLINE u32 let_go_of(struct process *row, u32 key, struct spawn *spawn, struct walk *walk, struct fds *fds,
                     struct copies *copies)
{
    u32 how = walk->how;
    if (spawn->pid == key) {
        /* (An exec counts as a release of the read end: the new program does not know of it.) */
        if (how != HOW_CLOSE || !is_end(fds, spawn, spawn->read_fd))
            return read_end_released(spawn, how, walk->ns);
        if (copies->inside || spawn->parent_closed)
            return GO_ON;
    } else if (how == HOW_EXEC) {
        if (copies->standard)
            return DROP; /* a standard stream of a new program: a data pipe */
        if (is_own(spawn, row, key))
            process_comm(spawn->own_comm);
        if (copies->inside) {
            if (handed_on(row, spawn))
                return DROP;
            u32 own = is_own(spawn, row, key);
            row->kept |= KEPT | own * KEPT_OWN | (own & spawn->reading) * KEPT_EXPECTED;
            return GO_ON;
        }
    } else if (!copies->inside == (how == HOW_EXIT)) {
        return GO_ON; /* it still has a copy, or had none */
    }
    return released(row, key, spawn, copies->fd, how, walk->ns, copies->inside);
}

/* Results of a glance at a spawn that the current process may hold. */
#define NOTHING   0 /* nothing to do */
#define A_RELEASE 1 /* a foreign holder of a watched spawn releases its last copy; an event can have a thousand */
#define MORE      2 /* call let_go_of */
#define IS_IDLE   3 /* the process's own pipe, which serves no spawn and ends with the process */

/* Has no branches, because it runs in a loop over many spawns. */
INLINE u64 glance(struct process *row, u32 key, struct spawn *spawn, struct walk *walk, struct copies *copies)
{
    u64 foreign = differ(spawn->pid, key) & (differ(spawn->own_pid, key) | differ(spawn->forked, row->born));
    u64 stale = foreign & (less(spawn->created, row->born) ^ 1); /* the bit is an earlier spawn's */
    u64 plain = foreign & differ(spawn->heir, key) & (differ(row->shared, 0) ^ 1) & (stale ^ 1);
    u64 any = differ(copies->inside, 0), held = differ(spawn->held, 0);
    u64 exec = differ(walk->how, HOW_EXEC) ^ 1, exits = differ(walk->how, HOW_EXIT) ^ 1;
    u64 goes = plain & (any ^ exits ^ 1);
    u64 keeps = plain & (any ^ exits) & ((exec & differ(copies->standard, 0)) ^ 1);
    u64 handed = exec & keeps & handed_on(row, spawn);
    row->kept |= exec & keeps;
    spawn->doubtful |= exec & keeps & (differ(spawn->own_pid, 0) ^ 1);
    u64 no_stray = is_stray(spawn, row, key) & ((exec & keeps) | (goes & (differ(walk->how, HOW_CLOSE) ^ 1)));
    spawn->stray.pid *= no_stray ^ 1;
    if (stale | goes)
        clear_place(&row->may_hold, spawn->index);
    /* The files of an exiting process stay open for a while, during which the spawn can become watched. */
    u64 counts = held | exits;
    u64 idle = (differ(spawn->pid, key) ^ 1) & (differ(spawn->own_pid, 0) ^ 1) & differ(walk->how, HOW_CLOSE);
    return (goes & counts) * A_RELEASE | (((stale | goes | keeps) ^ 1) | handed) * MORE | idle * IS_IDLE;
}

/* Handles the next places of the current process, up to the first that needs more than a glance. 1: call again. */
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
    LOOP
    for (int n = 0; n < MAX_STEPS; n++) {
        u32 place = next_in(&row->may_hold, &walk->from);
        if (place == NONE)
            goto end;
        spawn = place == LATER ? 0 : spawn_at(place);
        id = spawn ? *(volatile u64 *)&spawn->id : 0;
        if (!id)
            continue;
        if (walk->clean)
            copies.inside = copies.outside = copies.standard = 0, copies.fd = copies.other_fd = -1;
        else
            count_copies(&fds, spawn, 0, ~0U, &copies);
        *(volatile u32 *)&walk->seen = glance(row, key, spawn, walk, &copies);
        u32 seen = *(volatile u32 *)&walk->seen;
        if (seen == MORE)
            goto closer;
        if (seen == IS_IDLE)
            free_spawn(spawn, id);
        if (seen == A_RELEASE) {
            u32 in_doubt, left = others(spawn, copies.inside, &in_doubt);
            verdict = foreign_released(row, key, spawn, copies.fd, walk->how, walk->ns, left, walk->comm);
            if (verdict)
                goto act;
        }
    }
    return 1;
closer:
    verdict = let_go_of(row, key, spawn, walk, &fds, &copies);
act:
    settle(ctx, spawn, id, opaque(verdict));
    return 1;
end:
    if (walk->how == HOW_EXIT || (walk->how == HOW_EXEC && !row->kept)) {
        delete_row(key);
    } else if (walk->how == HOW_EXEC) {
        row->execed = walk->ns;
        /* KEPT_EXPECTED: its parent waits for one more exec (Java's helper). */
        row->expected &= EXPECTED * (row->kept / KEPT_EXPECTED);
        row->expected |= row->kept & KEPT_OWN ? EXPECTED_LATER : 0;
        row->kept = row->exec_error = 0; /* the failed exec was an attempt at another entry of PATH */
        row->shared &= COPIES_UNKNOWN;   /* exec gives the process an fd table of its own */
    }
    return 0;
}

#else
/* Without BTF: what an exec or exit does to the next spawn whose own child the current process is. 1: call again. */
INLINE int let_go(void *ctx, struct walk *walk)
{
    u32 key = process_id();
    struct process *row = processes.lookup(&key);
    if (!row)
        return 0;
    if (walk->from >= MAX_PENDING) {
        delete_row(key);
        return 0;
    }
    u32 place = row->own[below(walk->from, MAX_PENDING)];
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

INLINE struct walk *begin_walk(u32 tid, struct walk *walk)
{
    walks.update(&tid, walk);
    return walks.lookup(&tid);
}

/* Tail-called: continues what begin_let_go or close_range has begun. */
int let_go_next(void *ctx)
{
    u32 tid = thread_id();
    struct walk *walk = walks.lookup(&tid);
    if (walk && let_go(ctx, walk)) {
        shared.call(ctx, LET_GO_NEXT);
        count(WALKS_CUT);
    }
    walks.delete(&tid);
    return 0;
}

/* ---- a single fd ---- */

/* 0: the process has no end of a followed pipe at that fd, as in most system calls. */
INLINE int may_have(struct process *row, u32 fd) { return row->fd_filter[fd % FD_FILTER]; }

#define END_OTHER 0 /* none, or a write end reopened through /proc */
#define END_WRITE 1
#define END_READ  2

/* The spawn whose pipe the current process has at that fd, and which end of it. */
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
    u32 *found = pipes.lookup(&pipe);
    u32 place = found ? *found : NONE;
    spawn = spawn_at(place);
    if (!spawn || !spawn->id || spawn->pid != key) {
        place = NONE;
        LOOP
        for (int k = 0; k < MAX_PENDING; k++) {
            struct spawn *own = spawn_at(row->own[k] - 1); /* 0: none */
            if (own && own->id && own->own_pid == key && own->fds[0] == fd)
                place = row->own[k] - 1;
        }
    }
    spawn = spawn_at(place);
    if (!spawn)
        return 0;
    *end = spawn->fds[0] == fd ? END_WRITE : spawn->pid == key && spawn->read_fd == fd ? END_READ : END_OTHER;
#endif
    return spawn;
}

/* A spawn that is used after a decision. Before 4.16 (commit cc2b14d51053) the verifier forgets a null pointer that clang
 * keeps on the stack, and takes it for a number: there the spawn is looked up again. */
INLINE struct spawn *again(struct spawn *spawn, u32 place)
{
#ifdef UNROLL
    return spawn_at(place);
#else
    return spawn;
#endif
}

/* The fd is about to be closed or replaced. Returns a verdict. */
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
    if (copies.outside) { /* the process has another copy */
        if (spawn->pid == key && spawn->fds[0] == fd && !spawn->own_pid) {
            /* The parent moved the write end before its fork: the new fd is the first one from now on. */
            LOOP
            for (int k = 1; k < MAX_NUMBERS; k++) {
                if (spawn->fds[k] == copies.other_fd)
                    spawn->fds[k] = fd;
            }
            spawn->fds[0] = copies.other_fd;
        }
        return GO_ON;
    }
    if (!copies.inside)
        spawn->copy_lost = 1; /* a copy at an fd that is not followed */
#endif
    return released(row, key, spawn, fd, HOW_CLOSE, ns, 1);
}

/* Tail-called: the thread closes the fd in its struct call. */
int closing(void *ctx)
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

ENTER(close)
{
    u32 key = process_id(), fd = ARGUMENT(0, fd), end;
    struct process *row = row_of(key);
    if (!row || !may_have(row, fd) || !spawn_with(row, key, fd, &end))
        return 0;
    u32 tid = thread_id();
    struct call call = {.fd = fd};
    calls.update(&tid, &call);
    at_enter.call(args, CLOSING);
    return 0;
}
