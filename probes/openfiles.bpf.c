/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Finds the holders of pipes: a BPF iterator over every open file of the host ("task_file", since Linux 5.8).
 *
 * The kernel calls open_files for each open file when user space reads the iterator's fd. openfiles.py puts the pipes
 * into the map, reads, and parses the records. Without BTF there are no iterators, and this file is empty.
 */
#ifdef BTF

#define MAX_ASKED 4096 /* _MAX_ASKED in openfiles.py */

/* The inodes of the pipes to look for, by the address of struct pipe_inode_info: once a pipe has gone, another one can get
 * its address. */
BPF_HASH(asked, u64, u64, MAX_ASKED);

/* An open copy of a write end; mirrored by _COPY in openfiles.py. */
struct copy {
    u64 pipe;
    u32 tgid; /* in the host's pid namespace */
    u32 tid;
    u32 fd;
    u32 unused;
};

/* bpf_seq_write, helper 127 of linux/bpf.h, which not every bcc declares: appends to what user space reads. */
static long (*seq_write)(void *seq, const void *data, u32 size) = (void *)127;

/*
 * ctx is struct bpf_iter__task_file as words: meta, task, fd, file. After the last file the kernel calls once more,
 * without task and file. The verifier knows the types of these pointers, so plain loads from them are allowed.
 */
int open_files(u64 *ctx)
{
    u64 task = ctx[1], file = ctx[3];
    if (!task || !file)
        return 0;
    if (!(*(u32 *)(file + OFF_FILE_MODE) & FMODE_WRITE))
        return 0;
    u64 pipe = *(u64 *)(file + OFF_FILE_PRIVATE);
    u64 *inode = asked.lookup(&pipe);
    if (!inode || *inode != *(u64 *)(*(u64 *)(file + OFF_FILE_INODE) + OFF_INODE_NUMBER))
        return 0;
    struct copy copy = {
        .pipe = pipe,
        .tgid = *(u32 *)(task + OFF_TASK_TGID),
        .tid = *(u32 *)(task + OFF_TASK_PID),
        .fd = (u32)ctx[2],
    };
    /* If the buffer is full, the kernel discards the record and calls again for the same file at the next read. */
    seq_write(*(void **)ctx[0], &copy, sizeof(copy)); /* the first member of struct bpf_iter_meta */
    return 0;
}

#endif
