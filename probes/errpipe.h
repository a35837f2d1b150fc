/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Maps and records of errpipe.bpf.c. records.py mirrors every structure here. */
#ifndef ERRPIPE_H
#define ERRPIPE_H

#define COMM_LEN 16

/* File descriptor numbers that copies of one write end are looked for at, in every process: the one that pipe() gave,
 * and those that dup, dup2, dup3 and fcntl made of it. */
#define MAX_NUMBERS 4

/* Releases that a spawn remembers: the latest ones. */
#define MAX_RELEASES 4

/* Ancestors that a process remembers, its parent first. */
#define MAX_ANCESTORS 4

/* Pipes of a thread that wait for its fork: the latest ones. */
#define MAX_PENDING 4

#define MARKS 64

/* How a holder's last copy ended. */
#define HOW_CLOSE 1
#define HOW_EXEC  2
#define HOW_EXIT  3

/* In a release. */
#define RELEASE_EXECED     1 /* the holder had called exec since its fork: its copy was not close-on-exec */
#define RELEASE_DESCENDANT 2 /* the holder descends from the own child */
#define RELEASE_EXPECTED   4 /* the holder was on its way to an exec: somebody waited for it, or it had tried */

#define LEFT_UNKNOWN (~0U)

#define HINTS 16384

#define RECORD_SPAWN   1
#define RECORD_WAITING 2 /* a struct notice: a read begins while somebody foreign holds the write end */

/* The end of a foreign holder's last copy. */
struct release {
    u64 ns;
    u64 acquired; /* the holder's fork */
    u32 pid;
    u32 parent; /* process that forked the holder */
    u32 forker; /* thread of that process */
    s32 fd;
    u32 how;   /* HOW_* */
    u32 flags; /* RELEASE_* */
    u32 left;  /* copies in other foreign processes that the kernel still counted, LEFT_UNKNOWN: unknown */
    u32 stack; /* of the forker, in user space, at the fork: 1 + its id in the map stacks, 0: none (STACKS) */
    char comm[COMM_LEN];
};

/* The place in exposures of each cause that the kernel side can tell. (A descendant's is the bits of all.) */
enum exposure {
    EXPOSED_FORKED,
    EXPOSED_LEAKED,
    EXPOSED_LATE_EXEC,
    EXPOSED_OWN_DESCENDANT,
    EXPOSURES
};

/* The first child of vfork that got a copy from a thread that had not made the pipe. Go moves a goroutine to another
 * thread between pipe2 and fork: then this is the own child, which the parent's close shows. */
struct stray {
    u64 forked;
    u32 pid;    /* 0: none */
    u32 forker; /* thread of the parent */
};

/* One life of an errpipe (or of a pipe that may turn out to be one). Times are CLOCK_MONOTONIC nanoseconds, 0: not yet. */
struct spawn {
    u32 kind;  /* RECORD_SPAWN */
    u32 index; /* its place in the map */
    u64 id;    /* 0: the place is free */
    u64 key;   /* struct pipe_inode_info * of the pipe; struct socket * of a pair's write end; without kernel types: the
                * parent's process id and the write end's number */
    u64 other_key; /* the read end's key where it has one of its own, otherwise 0 */
    u64 file;      /* struct file * of the write end, 0: unknown (no kernel types) */
    u64 files;     /* struct files_struct * of the parent, likewise */
    u64 inode;     /* of the pipe, as in /proc/PID/fd, likewise */
    u64 created;
    u64 forked;
    u64 parent_closed;
    u64 read_began;
    u64 own_released;
    u64 read_ended;
    u64 heir_released; /* the heir let go by an exec */
    u32 pid;           /* the spawner: process and thread */
    u32 tid;
    u32 own_pid;
    u32 read_tid;
    u32 heir; /* the latest child of the own child that got a copy: takes its place if it exits without an exec */
    s32 read_fd;
    s32 fds[MAX_NUMBERS]; /* the write end's numbers, -1: none */
    s32 exec_error;   /* errno of the own child's last failed exec */
    u32 own_how;      /* HOW_* */
    u32 known;        /* counts facts: adding to it orders what two CPUs write and read */
    u32 releases;     /* by foreign holders, since the spawn is watched, and their exits before that */
    /* Facts are bytes of their own, as parent and children set them on different CPUs at once. */
    u8 cloexec;   /* the own child's copy was close-on-exec at the fork */
    u8 reading;   /* the parent waits on the read end now */
    u8 elsewhere; /* ... in poll, select or epoll: a read gave EAGAIN */
    u8 eof;       /* a read returned end-of-file */
    u8 ended;     /* end-of-file, or the parent let go of the read end */
    u8 read_cut;  /* the parent died in the read */
    u8 held;      /* watched: the kernel counted a foreign copy when the own child had let go, or the parent */
    u8 copy_lost; /* a copy exists that the kernel side cannot follow */
    u8 outcome;   /* OUTCOME_*, 0: not finished */
    u8 is_socket; /* one end of a socketpair does the write end's duty (Rust with pre_exec) */
    u8 killed;    /* the signal that ended the own child before any exec, 0: none, or unknown (no kernel types) */
    u8 doubtful;  /* no own child yet, and a plain fork gave a copy to another child, or an exec left one in it */
    u8 settled;   /* the latest release left nobody */
    u8 listed;    /* in the list of watched spawns */
    u8 exposed;   /* the cause of the latest release, see enum exposure */
    u8 unread;    /* when the own child had let go, something was in the pipe */
    u16 exposures[EXPOSURES]; /* foreign releases by cause, see enum exposure */
    char comm[COMM_LEN];      /* of the parent's process */
    char own_comm[COMM_LEN];
    struct stray stray;
    struct release last[MAX_RELEASES]; /* the latest ones; the one numbered n is at n % MAX_RELEASES */
};

/* Tells user space that it is worth looking at the spawns that are watched. */
struct notice {
    u32 kind; /* RECORD_WAITING */
    u32 index;
    u64 id;
};

#define OUTCOME_OK          1
#define OUTCOME_EXEC_FAILED 2
#define OUTCOME_ABANDONED   3

/* A set of places in the map spawns. */
#define WORDS (MAX_SPAWNS / 64)
#define GROUP_WORDS 8 /* words that are skipped at once when nothing was ever set in them */
#define USED (WORDS < GROUP_WORDS ? GROUP_WORDS : WORDS)

struct places {
    u64 used[USED / 8]; /* bytes, as two CPUs can set them at once; 1: a bit was set in that word */
    u64 words[WORDS];
};

/* A process that may hold copies of write ends. A bit that is set means "may": the file descriptor table decides. */
struct process {
    u64 born;   /* when it was forked with these copies, 0: it made its pipes itself */
    u64 execed; /* when it last called exec with success, 0: not since its fork */
    u32 parent[MAX_ANCESTORS]; /* process ids, the nearest first, 0: unknown */
    u32 forker;            /* thread that forked it */
    u32 stack;             /* as in a release */
    u8 expected; /* somebody waits for its exec: the parent's read of an errpipe, or vfork; or it has tried to exec */
    u8 shared;   /* its threads have more than one file descriptor table, or other processes have the same */
    u8 is_own;   /* the own child of a spawn, at its fork */
    u8 kept;     /* while an event is worked on: a copy was found (at an exec: KEPT_*) */
    u8 foreign;  /* at its fork, it got a copy of somebody else's errpipe */
    u8 exec_error; /* errno of its last failed exec */
    u8 strays; /* it is the stray of a spawn */
    u8 unused;
    u8 marks[MARKS]; /* 1 at fd % MARKS: it has, or had, an end of a followed pipe at that fd */
    u8 reads[MARKS]; /* ... and a read of it can be the wait for an own child: its write end is closed, or it is a dup */
    struct places may_hold;
    u32 own[MAX_PENDING]; /* without kernel types: 1 + the places of the spawns whose own child it is */
};

/* The latest pipes that a thread made. */
struct pending {
    u64 ids[MAX_PENDING];
    u32 places[MAX_PENDING];
    u32 next;
    u32 unused;
};

/* Frames of a user stack that are kept: the fork is the innermost. */
#define MAX_STACK_DEPTH 32

struct stack {
    u64 ip[MAX_STACK_DEPTH]; /* innermost first, 0: no more */
};

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
struct comm_stats {
    u64 ok;
    u64 exec_failed;
    u64 abandoned;
    u64 late_wakeups; /* long reads while the kernel counted no foreign copy */
    u64 used;         /* when it was last looked up */
    u64 exposures[EXPOSURES];
    struct histogram spawn; /* errpipe created to read ended */
    struct histogram exec;  /* fork to the own child's release */
    struct histogram vfork; /* without an errpipe: the parent blocked in vfork */
};

enum counter {
    SPAWNS_REFUSED,   /* pipes for which there was no place: not followed */
    PIPES_FORGOTTEN,  /* idle pipes that made room for others */
    NUMBERS_OVERFLOWED, /* copies at more numbers than are followed */
    WALKS_CUT,        /* events with more spawns than one event can handle */
    RECORDS_LOST,
    COMM_STATS_FULL,
    TABLES_SHARED,
    UPDATES_FAILED,
    PROCESSES_ADDED,
    PROCESSES_DELETED,
    STACKS_LOST,
    COUNTERS
};

enum shared_program { LET_GO_NEXT, SHARED_PROGRAMS };
enum enter_program { DUP_OVER, CLOSING, ENTER_PROGRAMS };
enum exit_program { PIPE_MADE, DUP_MADE, EXIT_PROGRAMS };

enum setting {
    SETTING_THRESHOLD_NS, /* stalls of at least this are sent to user space */
    SETTING_ENABLED, /* 0 until every probe is attached: until a pipe is seen, there is nothing to follow */
    SETTING_SELF,    /* the tracer's own process, whose pipes are not followed */
    SETTING_NOTICED, /* when the last notice was sent */
    SETTINGS
};

#endif
