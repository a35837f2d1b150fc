"""What trace-popen does: arguments, one run, its outputs."""
