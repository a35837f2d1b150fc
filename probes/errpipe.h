/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Maps and records of errpipe.bpf.c. records.py mirrors the structures that user space reads. */
#ifndef ERRPIPE_H
#define ERRPIPE_H

#define COMM_LEN 16

/* Fds at which the copies of one write end are looked for, in every process: the one that pipe() returned, and those
 * that dup, dup2, dup3 and fcntl added. */
#define MAX_NUMBERS 4

/* Releases that a spawn keeps: the latest ones. */
#define MAX_RELEASES 4

/* Ancestors that a row in processes keeps, the parent first. */
#define MAX_ANCESTORS 4

/* Pipes of a thread that can become the errpipe of its next fork: the latest ones. */
#define MAX_PENDING 4

/* Bytes in fd_filter and read_filter of struct process. */
#define FD_FILTER 64

/* How a process released its last copy. */
#define HOW_CLOSE 1
#define HOW_EXEC  2
#define HOW_EXIT  3

/* Flags of process.expected. EXPECTED: it is about to call exec, as its parent waits for that in vfork or on an errpipe, or an
 * exec has failed. EXPECTED_LATER: its own errpipe has survived its exec. If it closes other copies before its parent begins
 * to read, it is on its way to another exec (Java's helper). */
#define EXPECTED       1
#define EXPECTED_LATER 2

/* Flags of process.shared. TABLE_SHARED: its threads have more than one fd table, or another process has the same table.
 * COPIES_UNKNOWN: its fork concerned too many spawns. */
#define TABLE_SHARED   1
#define COPIES_UNKNOWN 2

/* Flags of a release. */
#define RELEASE_EXECED     1 /* the holder had called exec since its fork: its copy was not close-on-exec */
#define RELEASE_DESCENDANT 2 /* the holder descends from the own child */
#define RELEASE_EXPECTED   4 /* the holder was about to call exec: its parent waited for that, or an exec had failed */

#define LEFT_UNKNOWN (~0U)

/* Entries of the map pid_filter. */
#define PID_FILTER 16384

#define RECORD_SPAWN   1
#define RECORD_WAITING 2 /* a struct notice: a read begins while a foreign process holds the write end */
#define RECORD_SENT    3 /* a struct notice: there are records of spawns */

/* A foreign holder has released its last copy. */
struct release {
    u64 ns;
    u64 acquired; /* when the holder was forked */
    u32 pid;
    u32 parent; /* process that forked the holder */
    u32 forker; /* thread that did */
    s32 fd;
    u32 how;   /* HOW_* */
    u32 flags; /* RELEASE_* */
    u32 left;  /* copies that other foreign processes still had, by the kernel's count; or LEFT_UNKNOWN */
    u32 stack; /* the forker's user stack at the fork: 1 + its id in the map stacks, 0: none (STACKS) */
    char comm[COMM_LEN];
};

/* Index into exposures: the causes that the kernel side can distinguish. (OWN_DESCENDANT has the bits of all others, as
 * foreign_released combines them without a branch.) */
enum exposure { EXPOSED_FORKED, EXPOSED_LEAKED, EXPOSED_LATE_EXEC, EXPOSED_OWN_DESCENDANT, EXPOSURES };

/* The stray of a spawn: the first vfork child that got a copy from a thread other than the one that created the pipe.
 * Go moves a goroutine to another thread between pipe2 and vfork; then this is the own child. The close of the parent
 * decides (see adopt). */
struct stray {
    u64 forked;
    u32 pid;    /* 0: none */
    u32 forker; /* thread of the parent */
};

/* The life of an errpipe, or of a pipe that may become one. Times are CLOCK_MONOTONIC nanoseconds, 0: not yet. */
struct spawn {
    u32 kind;  /* RECORD_SPAWN */
    u32 index; /* its place in the map */
    u64 id;    /* 0: the place is free */
    u64 key;   /* struct pipe_inode_info * of the pipe; struct socket * of a socketpair's write end; without BTF: the
                * parent's process id and the write end's fd */
    u64 other_key; /* the read end's key if that is another one, otherwise 0 */
    u64 file;      /* struct file * of the write end, 0: unknown (without BTF) */
    u64 files;     /* struct files_struct * of the parent, likewise */
    u64 inode;     /* number of the pipe as in /proc/PID/fd, likewise */
    u64 created;
    u64 forked;
    u64 parent_closed;
    u64 read_began;
    u64 own_released;
    u64 read_ended;
    u64 heir_released; /* when the heir released its copy by exec */
    u32 pid;           /* the parent */
    u32 tid;           /* the spawner: the thread that created the pipe */
    u32 own_pid;
    u32 read_tid;
    u32 heir; /* the latest child of the own child with a copy: becomes the own child if that one never calls exec */
    s32 read_fd;
    s32 fds[MAX_NUMBERS]; /* of the write end, -1: none */
    s32 exec_error;       /* errno of the own child's last failed exec */
    u32 own_how;          /* HOW_* */
    u32 known;            /* only ever added to: that is a memory barrier between two CPUs */
    u32 releases;         /* by foreign holders: all since the spawn is watched, and exits before that */
    u32 written;          /* position of writes in the pipe's ring when the own child released its copy */
    u32 unused;
    /* One byte per fact, because parent and children set them on different CPUs at the same time. */
    u8 cloexec;   /* the own child's copy was close-on-exec at the fork */
    u8 reading;   /* the parent is waiting on the read end */
    u8 elsewhere; /* ... in poll, select or epoll: a read returned EAGAIN */
    u8 eof;       /* a read returned end-of-file */
    u8 ended;     /* end-of-file, or the parent released the read end */
    u8 read_cut;  /* the parent exited in the read */
    u8 held; /* watched: after the own child's release, or the parent's, the kernel counted a copy that may be foreign */
    u8 copy_lost; /* a copy exists that the kernel side cannot follow */
    u8 outcome;   /* OUTCOME_*, 0: not finished */
    u8 is_socket; /* a socketpair, one end of which serves as the write end (Rust with pre_exec) */
    u8 killed;    /* the signal that ended the own child before any exec, 0: none, or unknown (without BTF) */
    u8 doubtful;  /* no own child yet, and another thread's plain fork made a copy, or one survived a child's exec */
    u8 settled;   /* the latest release left no foreign copy */
    u8 listed;    /* in the map watched */
    u8 exposed;   /* the cause of the latest release, see enum exposure */
    u8 unread;    /* the own child released its copy while the pipe had data, or the parent was in a read */
    u16 exposures[EXPOSURES]; /* foreign releases by cause, see enum exposure */
    char comm[COMM_LEN];      /* of the parent's process */
    char own_comm[COMM_LEN];
    struct stray stray;
    struct release last[MAX_RELEASES]; /* release number n is at n % MAX_RELEASES */
};

/* Wakes user space, which looks at the watched spawns (RECORD_WAITING) or reads records (RECORD_SENT). */
struct notice {
    u32 kind; /* RECORD_WAITING, RECORD_SENT */
    u32 unused;
};

#define OUTCOME_OK          1
#define OUTCOME_EXEC_FAILED 2
#define OUTCOME_ABANDONED   3
#define OUTCOMES            3

/* A set of places in the map spawns. */
#define WORDS       (MAX_SPAWNS / 64)
#define GROUP_WORDS 8 /* words that next_in skips at once if none of their bits was ever set */
#define USED        (WORDS < GROUP_WORDS ? GROUP_WORDS : WORDS)

struct places {
    u64 used[USED / 8]; /* used as bytes, so that two CPUs can set two of them; 1: a bit was set in that word */
    u64 words[WORDS];
};

/* A process that may hold copies of write ends: its row in the map processes. */
struct process {
    u64 born;                  /* when it was forked with these copies, 0: it created its pipes itself */
    u64 execed;                /* its last successful exec, 0: none since its fork */
    u64 forking;               /* when it may last have forked, 0: never since it was forked */
    u64 closing;               /* when it last began to close a copy that it had inherited, 0: never */
    u32 parent[MAX_ANCESTORS]; /* process ids, the parent first, 0: unknown */
    u32 forker;                /* thread that forked it */
    u32 stack;                 /* as in a release */
    u8 expected;               /* EXPECTED, EXPECTED_LATER */
    u8 shared;                 /* TABLE_SHARED, COPIES_UNKNOWN, 0: its copies are certain */
    u8 is_own;                 /* the own child of a spawn, at its fork */
    u8 kept;                   /* during an event: a copy was found (at an exec: KEPT_*) */
    u8 foreign;                /* at its fork, it got a copy of an errpipe that is not for it */
    u8 exec_error;             /* errno of its last failed exec */
    u8 strays;                 /* it is the stray of a spawn, see struct stray */
    u8 is_plain;               /* of every spawn in may_hold that is not in own, it has nothing but a copy */
    /* Filters, by fd % FD_FILTER. fd_filter: 1 if it has, or had, an end of a followed pipe at that fd. read_filter: 1 if a
     * read of it can also be the wait for an own child: the write end is closed, or it is a copy. */
    u8 fd_filter[FD_FILTER];
    u8 read_filter[FD_FILTER];
#ifndef UNROLL
    struct places may_hold; /* set: it may have a copy; its fd table decides */
#endif
    u32 own[MAX_PENDING]; /* 1 + the places of the spawns whose own child it is, 0: none */
};

/* The latest pipes that a thread created. */
struct pending {
    u64 ids[MAX_PENDING];
    u32 places[MAX_PENDING];
    u32 next;
    u32 unused;
};

/* Frames kept of a user stack. The innermost is the fork. */
#define MAX_STACK_DEPTH 32

struct stack {
    u64 ip[MAX_STACK_DEPTH]; /* innermost first, 0: no more */
};

/* Bucket b counts durations up to 64 us * 2^b, inclusive; the last of the first 22 ends at 134 s. One more has the
 * rest. */
#define BUCKETS     23
#define BUCKET_0_NS 64000

struct histogram {
    u64 buckets[BUCKETS];
    u64 sum_ns;
};

struct comm {
    char text[COMM_LEN];
};

/* Aggregated for each comm of a parent. */
struct comm_stats {
    u64 outcomes[OUTCOMES]; /* from OUTCOME_OK on */
    u64 late_wakeups;       /* long reads while the kernel counted no foreign copy */
    u64 used;               /* when it last changed */
    u64 exposures[EXPOSURES];
    struct histogram spawn; /* creation of the errpipe to end of the read */
    struct histogram exec;  /* fork to release by the own child */
    struct histogram vfork; /* spawns without an errpipe: time that the parent was blocked in vfork */
};

enum counter {
    SPAWNS_REFUSED,     /* pipes that are not followed, because there was no place */
    PIPES_FORGOTTEN,    /* pipes, mostly idle, that lost their place to another */
    NUMBERS_OVERFLOWED, /* copies at more fds than are followed */
    WALKS_CUT,          /* events that concerned more spawns than one event can handle */
    RECORDS_LOST,       /* records for which the perf buffer had no room */
    COMM_STATS_FULL,    /* look-ups that ended at ~other, because the map comm_stats was full */
    TABLES_SHARED,      /* processes with a row that began to share an fd table, or have several */
    UPDATES_FAILED,     /* pipes and processes that a map refused, or whose fds could not be read */
    PROCESSES_ADDED,    /* rows in processes */
    PROCESSES_DELETED,
    STACKS_LOST, /* stacks of forks for which the map stacks had no room */
    COUNTERS
};

/* Indices into the maps of tail calls; loader.py fills them in this order. */
enum shared_program { LET_GO_NEXT, SHARED_PROGRAMS };
enum enter_program { DUP_OVER, CLOSING, ENTER_PROGRAMS };
enum exit_program { PIPE_MADE, DUP_MADE, EXIT_PROGRAMS };

enum setting {
    SETTING_THRESHOLD_NS, /* stalls of at least this duration are sent to user space */
    SETTING_ENABLED,      /* 0: new pipes are not followed (until every probe is attached) */
    SETTING_SELF,         /* process id of the tracer, whose pipes are not followed */
    SETTING_WAITING,      /* when the last notice of this kind was sent; set by the kernel side */
    SETTING_SENT,         /* likewise */
    SETTINGS
};

#endif
