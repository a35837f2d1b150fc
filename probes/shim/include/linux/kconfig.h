/* This folder has what bcc's prelude includes from a kernel tree; these programs need nothing else. */
#define CONFIG_BPF_SYSCALL 1
