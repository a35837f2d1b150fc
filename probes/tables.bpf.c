/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Reading the kernel's own structures, and sets of places. */

/* ---- the kernel's own structures ---- */

INLINE u64 kernel_u64(u64 address)
{
    u64 value = 0;
    read_memory(&value, sizeof(value), (void *)address);
    return value;
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

INLINE u64 file_at(struct fds *fds, u32 fd) { return fd < fds->size ? kernel_u64(fds->files + 8ULL * fd) : 0; }

/* 1: spawn->file is still the write end. 0: it has been freed, and perhaps reused. */
INLINE u64 is_there(struct spawn *spawn)
{
    u64 file = spawn->file;
    return (differ(kernel_u64(file + OFF_FILE_PRIVATE), spawn->key) ^ 1) & differ(file, 0);
}

/* 1: the table has an end of the pipe, or of the socketpair, at that fd. */
INLINE u32 is_end(struct fds *fds, struct spawn *spawn, u32 fd)
{
    u64 pipe = kernel_u64(file_at(fds, fd) + OFF_FILE_PRIVATE);
    return pipe && (pipe == spawn->key || pipe == spawn->other_key);
}

/* 1: the table has a copy of the write end at that fd (-1: none). Only valid if is_there. */
INLINE u64 has_at(struct fds *fds, struct spawn *spawn, s32 fd)
{
    u64 number = (u32)fd;
    u64 file = kernel_u64(fds->files + 8 * number);
    return (differ(file, spawn->file) ^ 1) & less(number, fds->size);
}

INLINE int cloexec_at(struct fds *fds, u32 fd) { return (kernel_u64(fds->cloexec + fd / 64 * 8) >> (fd % 64)) & 1; }

/* Copies of a write end that an fd table has, inside and outside a range of fds. */
struct copies {
    u32 inside;
    u32 outside;
    s32 fd;       /* one inside, -1: none */
    s32 other_fd; /* one outside, -1: none */
    u32 standard; /* how many of all are standard streams */
};

INLINE void count_copies(struct fds *fds, struct spawn *spawn, u32 first, u32 last, struct copies *found)
{
    u64 there = is_there(spawn), inside = 0, outside = 0, standard = 0;
    s64 fd = -1, other_fd = -1;
    LOOP
    for (int k = MAX_NUMBERS - 1; k >= 0; k--) {
        if (spawn->fds[k] < 0) /* most spawns have one fd */
            continue;
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

/* 1: the table has a copy of the write end; *fd: one of its fds. */
INLINE int holds(struct fds *fds, struct spawn *spawn, u32 *fd)
{
    u64 held = 0, at = 0;
#pragma unroll /* as a loop inside the loop of inherit, it would take the verifier three times as long */
    for (int k = MAX_NUMBERS - 1; k >= 0; k--) {
        if (spawn->fds[k] < 0) /* most spawns have one fd */
            continue;
        u64 number = (u32)spawn->fds[k], has = has_at(fds, spawn, number);
        at ^= (at ^ number) & -has;
        held |= has;
    }
    *fd = at;
    return held && is_there(spawn);
}

#define MAX_CLEAN_FDS 8

/* 1: the current process has few open files, none of them the write end of a followed pipe: as usual after an exec. */
INLINE u32 is_clean(void)
{
    u64 table = kernel_u64(kernel_u64(bpf_get_current_task() + OFF_TASK_FILES) + OFF_FILES_FDT);
    u64 files = kernel_u64(table + OFF_FDT_FD), open = kernel_u64(table + OFF_FDT_OPEN);
    u32 size = (u32)kernel_u64(table + OFF_FDT_MAX);
    u64 rest = kernel_u64(open);
    if (size > 1024)
        return 0;
    LOOP
    for (u32 n = 1; n < 16; n++) {
        if (n * 64 < size && kernel_u64(open + 8 * n))
            return 0;
    }
    LOOP
    for (int n = 0; n < MAX_CLEAN_FDS; n++) {
        if (!rest)
            return 1;
        u64 file = kernel_u64(files + 8ULL * lowest_bit(rest));
        u64 pipe = kernel_u64(file + OFF_FILE_PRIVATE);
        rest &= rest - 1;
        if (pipes.lookup(&pipe) && kernel_u64(file + OFF_FILE_MODE) & FMODE_WRITE)
            return 0;
    }
    return 0;
}
#endif

/* The comm of the current process. (A thread's can be another: Python 3.14 names its threads.) */
INLINE void process_comm(char *comm)
{
#ifdef BTF
    u64 leader = kernel_u64(bpf_get_current_task() + OFF_TASK_LEADER);
    read_memory(comm, COMM_LEN, (void *)(leader + OFF_TASK_COMM));
#else
    bpf_get_current_comm(comm, COMM_LEN);
#endif
}

/* ---- sets of places ---- */

INLINE u32 has_place(struct places *set, u32 place) { return set->words[below(place / 64, WORDS)] >> (place % 64) & 1; }

INLINE void set_place(struct places *set, u32 place)
{
    INDEX word = below(place / 64, WORDS);
    ((u8 *)set->used)[word] = 1;
    if (!has_place(set, place))
        __sync_fetch_and_add(&set->words[word], 1ULL << (place % 64));
}

INLINE void clear_place(struct places *set, u32 place)
{
    INDEX word = below(place / 64, WORDS);
    if (has_place(set, place))
        __sync_fetch_and_add(&set->words[word], -(1ULL << (place % 64)));
}

/* The next place in a set; NONE: there are no more; LATER: call again. *from is the position, kept in a map. */
INLINE u32 next_in(struct places *set, volatile u32 *from)
{
    u32 at = *from;
    if (at >= MAX_SPAWNS)
        return NONE;
    u32 word = below(at / 64, WORDS);
    if (at % (GROUP_WORDS * 64) == 0 && !set->used[below(word / GROUP_WORDS, USED / 8)]) {
        *from = at + GROUP_WORDS * 64;
        return LATER;
    }
    u64 rest = set->words[word] >> (at % 64);
    if (!rest) {
        *from = (at | 63) + 1;
        return LATER;
    }
    u32 place = at + lowest_bit(rest);
    *from = place + 1;
    return place;
}

INLINE struct places *watchlist(void)
{
    int zero = 0;
    return watched.lookup(&zero);
}
