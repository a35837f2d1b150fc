#!/usr/bin/ruby
# ruby_spawn.rb [--count 3] [--program /bin/true] [--threads 1]: Process.spawn, each thread count times.
require 'json'

def option(name, otherwise)
  at = ARGV.index(name)
  at ? ARGV[at + 1] : otherwise
end

def emit(**fields)
  $stdout.syswrite(JSON.generate(fields) + "\n")
end

def spawn(program)
  start = Process.clock_gettime(Process::CLOCK_MONOTONIC)
  begin
    child = Process.spawn([program, program])
  rescue SystemCallError
    child = nil
  end
  seconds = Process.clock_gettime(Process::CLOCK_MONOTONIC) - start
  emit(kind: 'spawn', pid: Process.pid, child: child, seconds: seconds, failed: child.nil?)
  Process.wait(child) if child
end

count = option('--count', '3').to_i
program = option('--program', '/bin/true')
threads = Array.new(option('--threads', '1').to_i) do
  Thread.new { count.times { spawn(program) } }
end
threads.each(&:join)
emit(kind: 'done', spawns: count * threads.size)
