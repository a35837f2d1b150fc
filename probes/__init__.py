# SPDX-License-Identifier: Apache-2.0
"""The kernel side: the state machine in eBPF, and the code that loads, tests and reads it."""
