/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Who holds these pipes: a BPF iterator over every open file of the host ("task_file", since Linux 5.8).
 *
 * Compiled with the other files in one run of clang. The kernel calls open_files once for each open file when user
 * space reads the iterator's fd; openfiles.py puts the pipes into the map, reads, and parses the records. Without kernel
 * types (BTF) there are no iterators, and this file is empty.
 */
#ifdef BTF

#define MAX_ASKED 4096 /* as _MOST in openfiles.py */

/* The pipes to look for, by the address of struct pipe_inode_info; the value means nothing. */
BPF_HASH(asked, u64, u32, MAX_ASKED);

/* One open copy of a write end; openfiles.py mirrors it. */
struct copy {
    u64 pipe;
    u32 tgid; /* as the host numbers processes, whatever the holder's own pid namespace */
    u32 tid;
    u32 fd;
    u32 unused;
};

/* Declared here as not every bcc has it. Helper 127 of linux/bpf.h: appends to what user space reads. */
static long (*seq_write)(void *seq, const void *data, u32 size) = (void *)127;

/*
 * The four words are struct bpf_iter__task_file: meta, task, fd, file. The kernel calls once more after the last file,
 * without a task and a file. The verifier knows what the words point to, so plain loads read the structures, as long
 * as they begin at one of these words.
 */
int open_files(u64 *ctx)
{
    u64 task = ctx[1], file = ctx[3];
    if (!task || !file)
        return 0;
    if (!(*(u32 *)(file + OFF_FILE_MODE) & FMODE_WRITE))
        return 0;
    u64 pipe = *(u64 *)(file + OFF_FILE_PRIVATE);
    if (!asked.lookup(&pipe))
        return 0;
    struct copy copy = {
        .pipe = pipe,
        .tgid = *(u32 *)(task + OFF_TASK_TGID),
        .tid = *(u32 *)(task + OFF_TASK_PID),
        .fd = (u32)ctx[2],
    };
    /* Where the buffer is full the kernel drops the record, and calls again for the same file in the next read. */
    seq_write(*(void **)ctx[0], &copy, sizeof(copy)); /* the first member of struct bpf_iter_meta */
    return 0;
}

#endif
