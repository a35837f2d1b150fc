# SPDX-License-Identifier: Apache-2.0
"""The command line of trace-popen: its arguments, one run, its outputs."""
