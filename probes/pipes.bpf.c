/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The creation of pipes, and of copies of their ends. */

/* ---- creation ---- */

INLINE int enter_pipe(u64 fds, u32 is_socket)
{
#ifdef FAULT_SHIFTED_ARGUMENTS /* for a test of the self-test */
    fds += 1;
#endif
    u32 tid = thread_id(), key = process_id();
    if (!setting(SETTING_ENABLED) || setting(SETTING_SELF) == key)
        return 0;
#ifdef TARGETS
    if (!targets.lookup(&key))
        return 0;
#endif
    struct call call = {.arg = fds, .ns = bpf_ktime_get_ns(), .is_socket = is_socket};
    calls.update(&tid, &call);
    return 0;
}

/* Takes a free place for a spawn, or that of an idle pipe. NONE: it found neither. */
INLINE u32 take_place(u64 id, u64 now)
{
    int zero = 0;
    u32 *next = next_place.lookup(&zero), at = NONE;
    if (!next)
        return NONE;
    LOOP
    for (int n = 0; n < MAX_TRIES; n++) {
        __sync_fetch_and_add(next, 1);
        u32 place = opaque(*next + 131 * n * n) % MAX_SPAWNS; /* skips long runs of occupied places */
        if (places.insert(&place, &id) == 0)
            return place;
        struct spawn *spawn = spawn_at(place);
        /* One that has ended waits for a release that does not come. User space has seen it by now. */
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

/* Remembers the thread's latest pipe. After MAX_PENDING more pipes, one without a child is not an errpipe. */
INLINE void remember_pipe(u32 tid, u64 id, u32 place)
{
    struct pending *pending = made.lookup(&tid);
    if (!pending) {
        struct pending fresh = {.ids = {id}, .places = {place}, .next = 1};
        made.update(&tid, &fresh);
        return;
    }
    u32 at = below(pending->next, MAX_PENDING);
    u64 old = pending->ids[at];
    struct spawn *spawn = old ? spawn_at(pending->places[at]) : 0;
    if (spawn && spawn->id == old && !spawn->own_pid && !spawn->stray.pid)
        free_spawn(spawn, old);
    pending->ids[at] = id;
    pending->places[at] = place;
    pending->next = at + 1;
}

/* The thread's pipe, pipe2 or socketpair has succeeded. */
INLINE int follow_pipe(void)
{
    u32 tid = thread_id(), key = process_id();
    struct call *call = calls.lookup(&tid);
    if (!call)
        return 0;
    s32 fds[2] = {-1, -1};
    u32 is_socket = call->is_socket;
#ifdef BTF
    u32 fresh = !processes.lookup(&key);
    u64 began = call->ns;
#endif
    int unread = read_memory(fds, sizeof(fds), (void *)call->arg);
    calls.delete(&tid);
    if (unread) { /* the page is being moved, or another thread has unmapped it */
        count(UPDATES_FAILED);
        return 0;
    }
    struct process *row = row_for(key);
    if (!row)
        return 0;
    u64 now = bpf_ktime_get_ns();
    u64 id = now << 8 | (bpf_get_smp_processor_id() & 0xff); /* unique: a CPU creates at most one pipe per nanosecond */
    id &= ~0ULL >> 2;                                        /* room for the two bits that once adds */
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
    if (fresh)
        row->forking = now; /* its forks so far are not known */
    /* Another thread may have forked since the kernel made the pipe: that child's copy is not known. (A search for holders can
     * raise the count for a moment, too.) */
    if ((s64)kernel_u64(file + OFF_FILE_COUNT) != FILE_COUNT_ONE && row->forking > began)
        spawn->copy_lost = 1;
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
    row->fd_filter[(u32)fds[0] % FD_FILTER] = 1;
    row->fd_filter[(u32)fds[1] % FD_FILTER] = 1;
    row->is_plain = 0;
#ifdef BTF
    set_place(&row->may_hold, place);
#endif
    remember_pipe(tid, id, place);
    return 0;
}

int pipe_made(void *ctx) { return follow_pipe(); }

/* 1: it has succeeded, and its pipe has to be followed. */
INLINE int pipe_returned(long result)
{
    u32 tid = thread_id();
    if (!calls.lookup(&tid))
        return 0;
    if (result < 0)
        calls.delete(&tid);
    return result >= 0;
}

INLINE int leave_pipe(void *ctx, long result)
{
    if (pipe_returned(result))
        at_exit.call(ctx, PIPE_MADE);
    return 0;
}

ENTER(pipe2) { return enter_pipe(ARGUMENT(0, fildes), 0); }
LEAVE(pipe2) { return leave_pipe(args, RESULT); }
#ifdef HAVE_PIPE
ENTER(pipe) { return enter_pipe(ARGUMENT(0, fildes), 0); }
LEAVE(pipe) { return leave_pipe(args, RESULT); }
#endif

#ifdef HAVE_SOCKETPAIR
/*
 * Rust's Command with pre_exec waits in recvfrom on one end of such a pair; the other end serves as the write end.
 * Tracing recvfrom would slow down every server on the host, so the time between the parent's two closes counts as the
 * wait.
 */
ENTER(socketpair)
{
    u32 family = ARGUMENT(0, family), type = ARGUMENT(1, type);
    if (family != AF_UNIX || (type & SOCK_TYPE_MASK) != SOCK_SEQPACKET)
        return 0;
    return enter_pipe(ARGUMENT(3, usockvec), 1);
}
#ifdef FENTRY
LEAVE(socketpair)
{
    if (pipe_returned(RESULT))
        socketpair_rest.call(args, PIPE_MADE);
    return 0;
}
#else
LEAVE(socketpair) { return leave_pipe(args, RESULT); }
#endif
#endif

/* ---- copies ---- */

/* The current process gets a copy at another fd. Returns a verdict. */
INLINE u32 learn_number(struct process *row, u32 key, struct spawn *spawn, s32 fd)
{
    int known = 0;
    LOOP
    for (int k = 0; k < MAX_NUMBERS; k++) {
        if (!known && (spawn->fds[k] == fd || spawn->fds[k] < 0)) {
            spawn->fds[k] = fd;
            known = 1;
        }
    }
    if (!known) {
        spawn->copy_lost = 1;
        count(NUMBERS_OVERFLOWED);
    }
    row->fd_filter[(u32)fd % FD_FILTER] = 1;
    return fd <= 2 && spawn->pid != key ? DROP : GO_ON; /* a standard stream of a child: a data pipe */
}

/* A dup of old_fd to a free fd, known from the result. */
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

/* Tail-called: the thread's dup or fcntl has succeeded. */
int dup_made(void *ctx)
{
    u32 tid = thread_id(), key = process_id();
    struct process *row = row_of(key);
    struct call *call = row ? calls.lookup(&tid) : 0;
    if (!call)
        return 0;
    u64 id = call->arg;
    s32 fd = call->fd;
    struct spawn *spawn = spawn_at(call->place);
    if (call->is_read_end) { /* a read of the new fd counts too */
        row->fd_filter[(u32)fd % FD_FILTER] = row->read_filter[(u32)fd % FD_FILTER] = 1;
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
    at_exit.call(ctx, DUP_MADE);
    return 0;
}

/* Tail-called: dup2 or dup3 is about to put a copy at the fd in the thread's struct call, and close what is there. */
int dup_over(void *ctx)
{
    u32 tid = thread_id(), key = process_id(), end, other_end;
    struct process *row = row_of(key);
    struct call *call = row ? calls.lookup(&tid) : 0;
    if (!call)
        return 0;
    s32 old_fd = call->arg, fd = call->fd;
    struct spawn *copied = spawn_with(row, key, old_fd, &end);
    u32 place = copied ? copied->index : NONE;
    struct spawn *closed = spawn_with(row, key, fd, &other_end);
    int nothing = copied && copied == closed && end == other_end;
#ifdef BTF
    struct fds fds;
    fds_of(bpf_get_current_task(), &fds);
    nothing |= closed && !file_at(&fds, old_fd); /* the call will fail */
#endif
    if (!nothing && copied && end == END_READ)
        row->fd_filter[(u32)fd % FD_FILTER] = row->read_filter[(u32)fd % FD_FILTER] = 1;
    if (!nothing && copied && end == END_WRITE) {
        copied = again(copied, place);
        if (copied && learn_number(row, key, copied, fd) == DROP)
            free_spawn(copied, copied->id);
    }
    if (!nothing && closed)
        at_enter.call(ctx, CLOSING);
    calls.delete(&tid);
    return 0;
}

INLINE int enter_dup_over(void *ctx, s32 old_fd, s32 fd)
{
    u32 tid = thread_id(), key = process_id();
    struct process *row = row_of(key);
    if (!row || old_fd == fd || fd < 0 || (!may_have(row, old_fd) && !may_have(row, fd)))
        return 0;
    struct call call = {.arg = old_fd, .fd = fd};
    calls.update(&tid, &call);
    at_enter.call(ctx, DUP_OVER);
    return 0;
}

#ifdef HAVE_DUP
ENTER(dup) { return enter_dup(ARGUMENT(0, fildes)); }
LEAVE(dup) { return dup_returned(args, RESULT); }
ENTER(dup3) { return enter_dup_over(args, ARGUMENT(0, oldfd), ARGUMENT(1, newfd)); }
ENTER(fcntl)
{
    u32 command = ARGUMENT(1, cmd);
    return command == F_DUPFD || command == F_DUPFD_CLOEXEC ? enter_dup(ARGUMENT(0, fd)) : 0;
}
LEAVE(fcntl) { return dup_returned(args, RESULT); }
#endif
#ifdef HAVE_DUP2
ENTER(dup2) { return enter_dup_over(args, ARGUMENT(0, oldfd), ARGUMENT(1, newfd)); }
#endif
