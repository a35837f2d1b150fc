#!/usr/bin/tclsh
# tcl_spawn.tcl [--count 3] [--program /bin/true]: open "|program". It sets close-on-exec on its errpipe late.
array set option {--count 3 --program /bin/true}
array set option $argv

for {set n 0} {$n < $option(--count)} {incr n} {
    set child null
    set start [clock microseconds]
    set failed [catch {open "|[list $option(--program)]"} channel]
    set seconds [expr {([clock microseconds] - $start) / 1e6}]
    if {!$failed} {
        set child [pid $channel]
    }
    puts [format {{"kind": "spawn", "pid": %d, "child": %s, "seconds": %f, "failed": %s}} \
        [pid] $child $seconds [expr {$failed ? "true" : "false"}]]
    flush stdout
    if {!$failed} {
        close $channel
    }
}
puts "{\"kind\": \"done\", \"spawns\": $option(--count)}"
