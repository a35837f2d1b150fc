/* Maps and records of errpipe.bpf.c. records.py mirrors every structure here; the loader compares sizes. */
#ifndef ERRPIPE_H
#define ERRPIPE_H

#define COMM_LEN 16

/* Copies of one write end that one table can hold and follow: two dups are room enough for what programs do. */
#define COPIES 3

/* What one file descriptor table has of one errpipe. */
struct slot {
    u64 id;          /* the spawn; 0: the slot is free */
    s32 read_fd;     /* kept for the parent only; -1: none */
    s32 fds[COPIES]; /* of the write end; -1: none */
    u32 flags;       /* SLOT_* */
    u32 claim;       /* the thread that is about to fill the slot */
};

#define SLOT_CLOEXEC(k) (1 << (k))     /* fds[k] is close-on-exec */
#define SLOT_CLOSED(k)  (1 << (3 + (k))) /* the parent closed fds[k]; kept, as a fork under way may have copied it */
#define SLOT_PARENT     (1 << 8)  /* the table is the parent's */
#define SLOT_OWN        (1 << 9)  /* the table is the own child's */
#define SLOT_DESCENDANT (1 << 10) /* the table is that of a process forked by the own child */
#define SLOT_EXECED     (1 << 11) /* a copy survived an exec: it was not close-on-exec */
#define SLOT_UNSURE     (1 << 12) /* inherited according to the parent's table, not seen in the child's */
#define SLOT_LET_GO     (1 << 13) /* released before any exec; kept to see whether an exec follows */

/* Frames of a user stack that are kept: the fork is the innermost. */
#define STACK_DEPTH 32

struct stack {
    u64 ip[STACK_DEPTH]; /* innermost first, 0: no more */
};

#define MARKS 64

/* The tracked pipe ends of one file descriptor table; the key is the process (tgid). */
struct table {
    u64 born;    /* when the process was forked with these copies, 0: it made the pipes itself */
    u64 touched; /* when a slot was last filled */
    u32 forker;  /* thread that forked the process */
    u32 parent;  /* process of that thread */
    u32 stack;   /* of that thread, in user space, at the fork: 1 + its id in the map stacks, 0: none (STACKS) */
    u32 unused;
    u8 marks[MARKS]; /* 1 at fd % MARKS: a slot has, or had, that fd (bytes: threads set them at the same time) */
    struct slot slots[SLOTS];
};

/* How a holder's last copy ended. */
#define HOW_CLOSE 1
#define HOW_EXEC  2
#define HOW_EXIT  3

#define LEFT_UNKNOWN (~0ULL)

#define HINTS 16384

#define RECORD_SPAWN   1
#define RECORD_RELEASE 2
#define RECORD_EXECED  3 /* as RECORD_RELEASE: the holder of an earlier release has execed now */

/* The end of a holder's last copy. */
struct release {
    u32 kind;
    u32 how;
    u64 id;
    u64 ns;
    u64 acquired;
    u32 pid;
    u32 tid;
    u32 parent;
    u32 forker;
    s32 fd;
    u32 flags; /* SLOT_* */
    u64 left;  /* copies that the kernel still counted besides this one, LEFT_UNKNOWN: not to be had */
    u32 stack; /* as in the table */
    u32 unused;
    char comm[COMM_LEN];
};

/* One life of an errpipe. Times are CLOCK_MONOTONIC nanoseconds, 0: not yet. */
struct spawn {
    u32 kind; /* RECORD_SPAWN */
    /* Facts are bytes of their own, as parent and children set them on different CPUs at once. */
    u8 cloexec;   /* the own child's copy was close-on-exec at the fork */
    u8 reading;   /* a read is blocked now */
    u8 eof;       /* a read returned end-of-file */
    u8 ended;     /* end-of-file, or the parent let go of the read end */
    u8 read_cut;  /* the parent died in the read */
    u8 held;      /* at the own child's release the kernel still counted a copy */
    u8 copy_lost; /* a copy found no free slot */
    u8 outcome;   /* OUTCOME_*, 0: not finished */
    u32 known;    /* of the read's end and the own child's: 2 when both have come */
    u8 is_socket; /* one end of a socketpair does the write end's duty (Rust with pre_exec) */
    u8 killed;    /* the signal that ended the own child before any exec, 0: none, or not to be had (no BTF) */
    u8 unused[2];
    u64 id;
    u64 file;  /* struct file * of the write end, 0: unknown (no BTF) */
    u64 pipe;  /* struct pipe_inode_info *, likewise */
    u64 inode; /* of the pipe, as in /proc/PID/fd, 0: unknown (no BTF) */
    u64 created;
    u64 forked;
    u64 parent_closed;
    u64 read_began;
    u64 own_released;
    u64 read_ended;
    u32 pid; /* the spawner: process and thread */
    u32 tid;
    u32 own_pid;
    u32 read_tid;
    s32 read_fd;
    s32 write_fd;
    s32 exec_error; /* errno of the own child's last failed exec */
    u32 own_how;    /* HOW_* */
    u32 foreign;       /* foreign holders now */
    u32 foreign_total; /* and ever */
    char comm[COMM_LEN];
    char own_comm[COMM_LEN];
    struct release last; /* the latest release by a foreign holder; kind 0: none */
};

#define OUTCOME_OK          1
#define OUTCOME_EXEC_FAILED 2
#define OUTCOME_ABANDONED   3

/* Durations: bucket b counts those of at most 64 us * 2^b; 22 buckets: up to 134 s; the last is the rest. */
#define BUCKETS 23
#define BUCKET_0_NS 64000

struct histogram {
    u64 buckets[BUCKETS];
    u64 sum_ns;
};

struct comm {
    char text[COMM_LEN];
};

/* What is aggregated for each comm of a parent. */
struct program {
    u64 ok;
    u64 exec_failed;
    u64 abandoned;
    struct histogram spawn; /* errpipe created to read ended */
    struct histogram exec;  /* fork to the own child's release */
    struct histogram vfork; /* without an errpipe: the parent blocked in vfork */
};

enum counter {
    SLOTS_OVERFLOWED,
    RECORDS_LOST,
    PROGRAMS_FULL,
    TABLES_SHARED,
    UPDATES_FAILED,
    SPAWNS_ADDED,
    SPAWNS_DELETED,
    TABLES_ADDED,
    TABLES_DELETED,
    STACKS_LOST,
    COUNTERS
};

enum shared_program {
    RELEASE_NEXT,
    PIPE_MADE,
    DUP_MADE,
    SHARED_PROGRAMS
};

enum setting {
    SETTING_THRESHOLD_NS, /* stalls of at least this are sent to user space */
    SETTING_ENABLED, /* 0 until every probe is attached: until a pipe is seen, there is nothing to follow */
    SETTING_SELF,    /* the tracer's own process, whose pipes are nobody's business */
    SETTINGS
};

#endif
