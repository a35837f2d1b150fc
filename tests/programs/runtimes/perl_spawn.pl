#!/usr/bin/perl
# perl_spawn.pl [--count 3] [--program /bin/true] [--by open|backticks|system]
#
# Perl's own errpipe. Backticks and system() do not return the child's pid. system() waits for the child
# first, then reads.
use strict;
use warnings;
no warnings 'exec';
use Getopt::Long;
use Time::HiRes qw(clock_gettime CLOCK_MONOTONIC);

my ($count, $program, $by) = (3, '/bin/true', 'open');
GetOptions('count=i' => \$count, 'program=s' => \$program, 'by=s' => \$by) or exit 2;

sub emit { syswrite STDOUT, "$_[0]\n" }

for (1 .. $count) {
    my ($child, $output, $failed);
    my $start = clock_gettime(CLOCK_MONOTONIC);
    if ($by eq 'open') {
        $child = open($output, '-|', $program, 'x');
        $failed = !$child;
    }
    elsif ($by eq 'backticks') {
        my $said = `$program x`;
        $failed = !defined $said;
    }
    else {
        $failed = system($program, 'x') == -1;
    }
    my $seconds = clock_gettime(CLOCK_MONOTONIC) - $start;
    emit(sprintf '{"kind": "spawn", "pid": %d, "child": %s, "seconds": %.9f, "failed": %s}',
        $$, $child || 'null', $seconds, $failed ? 'true' : 'false');
    close $output if $child;
}
emit("{\"kind\": \"done\", \"spawns\": $count}");
