//! rust_spawn [--count 3] [--program /bin/true] [--threads 1] [--by plain|pre_exec|output]:
//! std::process::Command, each thread count times.
//!
//! plain is a posix_spawn without an errpipe; with pre_exec the errpipe is a SEQPACKET socketpair.
//! output() waits for end-of-file of a data pipe, which is not an errpipe.
use std::env;
use std::os::unix::process::CommandExt;
use std::process::{self, Command, Stdio};
use std::thread;
use std::time::Instant;

fn option(name: &str, otherwise: &str) -> String {
    env::args().skip_while(|word| word != name).nth(1).unwrap_or_else(|| otherwise.to_string())
}

fn spawn(program: &str, by: &str) {
    let mut command = Command::new(program);
    if by == "pre_exec" {
        unsafe { command.pre_exec(|| Ok(())) };
    }
    if by == "output" {
        command.stdout(Stdio::piped());
    }
    let start = Instant::now();
    let child = command.spawn();
    let mut seconds = start.elapsed().as_secs_f64();
    let (pid, failed) = match child {
        Ok(mut child) => {
            let pid = child.id().to_string();
            if by == "output" {
                child.wait_with_output().expect("output");
                seconds = start.elapsed().as_secs_f64();
            } else {
                child.wait().expect("wait");
            }
            (pid, false)
        }
        Err(_) => ("null".to_string(), true),
    };
    println!(
        "{{\"kind\": \"spawn\", \"pid\": {}, \"child\": {}, \"seconds\": {:.9}, \"failed\": {}}}",
        process::id(), pid, seconds, failed
    );
}

fn main() {
    let count: u32 = option("--count", "3").parse().expect("a number");
    let threads: u32 = option("--threads", "1").parse().expect("a number");
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                for _ in 0..count {
                    spawn(&option("--program", "/bin/true"), &option("--by", "plain"));
                }
            });
        }
    });
    println!("{{\"kind\": \"done\", \"spawns\": {}}}", count * threads);
}
