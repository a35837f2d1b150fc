"""The kernel side: the state machine in eBPF, and what loads, proves and reads it."""
