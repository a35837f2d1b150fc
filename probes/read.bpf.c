/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The parent's read. */

#ifdef PIPE_READ
/* At the pipe's own function, whose arguments are a struct kiocb and a struct iov_iter. Reads of anything else, which
 * most are, cost nothing. */
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
    u32 key = process_id();
    struct process *row = row_of(key);
    if (!row)
        return 0;
#ifdef PIPE_READ
    struct spawn *spawn = spawn_read(args);
#else
    u32 fd = ARGUMENT(0, fd), end = END_OTHER;
    struct spawn *spawn = row->read_filter[fd % FD_FILTER] ? spawn_with(row, key, fd, &end) : 0;
    if (end != END_READ)
        return 0;
    spawn = again(spawn, spawn ? spawn->index : NONE);
#endif
    if (!spawn || spawn->pid != key || !spawn->own_pid || !spawn->parent_closed || spawn->ended)
        return 0;
    u32 tid = thread_id();
    struct reader reader = {.id = spawn->id, .place = spawn->index};
    start_reading(key, tid, &reader);
    u64 now = bpf_ktime_get_ns();
    spawn->reading = 1; /* its close has finished: others relies on that */
    spawn->elsewhere = 0;
    u32 first = !spawn->read_began;
    if (first) {
        spawn->read_began = now;
        spawn->read_tid = tid;
    }
    if (!spawn->own_released) { /* the parent waits for its exec */
        u32 child = spawn->own_pid;
        struct process *own = row_of(child);
        if (own)
            own->expected = EXPECTED;
        return 0;
    }
#ifdef BTF
    if (spawn->own_how == HOW_EXEC) {
        /* Counted again: the earlier count may have been taken during a close. It stays when a foreign process has released
         * a copy, and when a signal or the freezer has interrupted the read: the copies that blocked it can be gone. */
        spawn->held &= !first | (spawn->releases != 0);
        u32 in_doubt;
        watch(spawn, others(spawn, 0, &in_doubt));
    }
#endif
    if (spawn->held)
        notify(args, RECORD_WAITING, SETTING_WAITING);
    return 0;
}

LEAVE(read)
{
    u32 key = process_id();
    if (!may_be_reading(key))
        return 0;
    u32 tid = thread_id();
    struct reader *found = readers.lookup(&tid);
    if (!found)
        return 0;
    /* After a signal the thread restarts the read, unless the signal kills it. This counts as one read. */
    long result = READ_RESULT;
    if (found->interrupted)
        return 0;
    if (result <= -ERESTARTSYS && result >= -ERESTART_RESTARTBLOCK) {
        found->interrupted = 1;
        return 0;
    }
    u64 id = found->id;
    struct spawn *spawn = spawn_at(found->place);
    stop_reading(key, tid);
    if (!spawn || spawn->id != id)
        return 0;
    if (result == -EAGAIN) { /* the thread waits in poll, select or epoll */
        spawn->elsewhere = 1;
        return 0;
    }
    spawn->reading = 0;
    if (result < 0 || spawn->ended) /* ended: another thread closed the read end meanwhile */
        return 0;
    u32 verdict = GO_ON;
    if (result > 0 && spawn->own_released && spawn->own_how == HOW_EXEC && is_data_of_another(spawn)) {
        verdict = DROP; /* data that the own child did not write: not an errpipe */
    } else {
        spawn->read_ended = bpf_ktime_get_ns();
        spawn->unread = 0;
        if (!result) { /* otherwise the errno of a failed exec, or data of Java's helper: another read may follow */
            spawn->eof = 1;
            *(volatile u8 *)&spawn->ended = 1;
            verdict = CHECK;
        }
    }
    settle(args, spawn, id, verdict);
    return 0;
}
