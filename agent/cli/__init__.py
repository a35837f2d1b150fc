"""The command line of trace-popen: its arguments, one run, its outputs."""
