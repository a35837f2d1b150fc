/* What bcc's prelude asks of a kernel tree; a program of tracepoints needs nothing else of it. */
#define CONFIG_BPF_SYSCALL 1
