// go_spawn [--count 3] [--program /bin/true] [--threads 1]: os/exec, each thread count times.
package main

import "C" // linked with libc, so that foreign_fork.c can be preloaded
import (
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"sync"
	"time"
)

func emit(fields map[string]any) {
	line, _ := json.Marshal(fields)
	os.Stdout.Write(append(line, '\n'))
}

func spawn(program string) {
	command := exec.Command(program)
	start := time.Now()
	failure := command.Start()
	seconds := time.Since(start).Seconds()
	fields := map[string]any{
		"kind": "spawn", "pid": os.Getpid(), "child": nil, "seconds": seconds, "failed": failure != nil}
	if failure == nil {
		fields["child"] = command.Process.Pid
		command.Wait()
	}
	emit(fields)
}

func main() {
	count := flag.Int("count", 3, "spawns")
	program := flag.String("program", "/bin/true", "what to start")
	threads := flag.Int("threads", 1, "goroutines")
	flag.Parse()
	var running sync.WaitGroup
	for n := 0; n < *threads; n++ {
		running.Add(1)
		go func() {
			for n := 0; n < *count; n++ {
				spawn(*program)
			}
			running.Done()
		}()
	}
	running.Wait()
	emit(map[string]any{"kind": "done", "spawns": *count * *threads})
}
