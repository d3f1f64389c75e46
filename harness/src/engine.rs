//! What is under test, and the worker processes that drive it.
//!
//! A worker is a process of its own (`harness/workers/worker.py`) that takes JSON commands and gives JSON answers; it is used
//! through pipes, has a deadline for each call, and can be killed at any moment.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use serde_json::{Value, json};

use crate::history::{Answer, Op, Outcome, Read};

/// The worker program, which is written to a temporary place when it is needed.
pub const WORKER: &str = include_str!("../workers/worker.py");

/// A cache under test.
#[derive(Clone, Debug, PartialEq)]
pub struct Engine {
    /// Its name on the command line.
    pub name: &'static str,
    /// In a report.
    pub title: &'static str,
    /// The Python module with its `Cache`.
    pub module: &'static str,
    /// What its `Cache` is opened with.
    pub options: Value,
    /// Environment of its processes: a FUSE mount does not say that NFS stands behind it.
    pub env: &'static [(&'static str, &'static str)],
    /// Whether it is ours, which must have no violation.
    pub ours: bool,
}

/// All engines.
#[must_use]
pub fn engines() -> Vec<Engine> {
    // Nothing may leave by itself: what is missing was lost.
    let keep = |mut options: Value| {
        if let Value::Object(map) = &mut options {
            map.insert("size_limit".to_owned(), json!(1u64 << 40));
            map.insert("cull_limit".to_owned(), json!(0));
            map.insert("eviction_policy".to_owned(), json!("none"));
        }
        options
    };
    vec![
        Engine {
            name: "ours",
            title: "DiskCache RS",
            module: "diskcache_rs",
            options: keep(json!({"timeout": 5})),
            env: &[("DISKCACHE_RS_PROFILE", "shared:statx")],
            ours: true,
        },
        Engine {
            name: "diskcache",
            title: "python-diskcache 5.6.3",
            module: "diskcache",
            options: keep(json!({"timeout": 5})),
            env: &[],
            ours: false,
        },
        Engine {
            name: "diskcache-delete",
            title: "python-diskcache 5.6.3, rollback journal",
            module: "diskcache",
            options: keep(json!({"timeout": 5, "sqlite_journal_mode": "delete"})),
            env: &[],
            ours: false,
        },
    ]
}

/// An engine by its name.
#[must_use]
pub fn named(name: &str) -> Option<Engine> {
    engines().into_iter().find(|engine| engine.name == name)
}

/// Where Python is, and the worker program for it.
#[derive(Clone, Debug)]
pub struct Python {
    /// The interpreter.
    pub interpreter: PathBuf,
    /// The worker program.
    pub worker: PathBuf,
}

impl Python {
    /// Whether a module can be imported; says why not.
    ///
    /// # Errors
    /// The last line that the interpreter said.
    pub fn has(&self, module: &str) -> Result<String, String> {
        let code = format!("import {module} as m; print(getattr(m, '__version__', 'unknown'))");
        let out = Command::new(&self.interpreter)
            .args(["-c", &code])
            .output()
            .map_err(|err| format!("cannot run {}: {err}", self.interpreter.display()))?;
        if out.status.success() {
            return Ok(String::from_utf8_lossy(&out.stdout).trim().to_owned());
        }
        Err(String::from_utf8_lossy(&out.stderr).trim().lines().last().unwrap_or("it failed in silence").to_owned())
    }
}

/// A running worker.
#[derive(Debug)]
pub struct Worker {
    child: Child,
    input: ChildStdin,
    answers: Receiver<String>,
    name: String,
    number: u64,
    lost: bool,
}

impl Worker {
    /// Starts one. `name` becomes the writer's name in its values.
    ///
    /// # Errors
    /// The process cannot be started.
    pub fn start(python: &Python, name: &str, env: &[(&str, &str)], log: &Path) -> Result<Worker, String> {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(log).map_err(|err| format!("no log: {err}"))?;
        let mut child = Command::new(&python.interpreter)
            .arg(&python.worker)
            .envs(env.iter().copied())
            .env("PYTHONUNBUFFERED", "1")
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .map_err(|err| format!("cannot start {}: {err}", python.interpreter.display()))?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("a worker without pipes".to_owned());
        };
        let (tell, answers) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if tell.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Worker { child, input, answers, name: name.to_owned(), number: 0, lost: false })
    }

    /// The name in its values.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process number.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Opens the engine's cache in a folder.
    pub fn open(&mut self, engine: &Engine, dir: &Path, deadline: Duration) -> Outcome {
        let command = json!({"op": "open", "dir": dir, "module": engine.module, "options": engine.options});
        self.exchange(command, &Op::Open, deadline)
    }

    /// Makes one call and waits for its end.
    pub fn call(&mut self, op: &Op, deadline: Duration) -> Outcome {
        let Ok(mut command) = serde_json::to_value(op) else { return Outcome::Fail("not JSON".to_owned()) };
        if let Value::Object(map) = &mut command
            && map.contains_key("seq")
        {
            map.insert("writer".to_owned(), json!(self.name));
        }
        self.exchange(command, op, deadline)
    }

    fn exchange(&mut self, mut command: Value, op: &Op, deadline: Duration) -> Outcome {
        self.number += 1;
        if let Value::Object(map) = &mut command {
            map.insert("id".to_owned(), json!(self.number));
        }
        let mut line = command.to_string();
        line.push('\n');
        if self.input.write_all(line.as_bytes()).is_err() {
            self.lost = true;
            return Outcome::Crashed(self.epitaph());
        }
        match self.answers.recv_timeout(deadline) {
            Ok(line) => parse(&line, op),
            Err(RecvTimeoutError::Timeout) => {
                self.lost = true;
                Outcome::Hung
            }
            Err(RecvTimeoutError::Disconnected) => {
                self.lost = true;
                Outcome::Crashed(self.epitaph())
            }
        }
    }

    /// Whether it can be used no more.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.lost
    }

    fn epitaph(&mut self) -> String {
        for _ in 0..50 {
            if let Ok(Some(status)) = self.child.try_wait() {
                return describe(status);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        "it closed its output".to_owned()
    }

    /// SIGKILL. Does not wait: a process that hangs in the kernel cannot be waited for.
    pub fn kill(&mut self) {
        self.lost = true;
        // Dead already: as wanted.
        let _ = self.child.kill();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        for _ in 0..20 {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn describe(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match status.signal() {
        Some(signal) if signal == libc::SIGBUS => "killed by SIGBUS".to_owned(),
        Some(signal) if signal == libc::SIGSEGV => "killed by SIGSEGV".to_owned(),
        Some(signal) if signal == libc::SIGABRT => "killed by SIGABRT".to_owned(),
        Some(signal) => format!("killed by signal {signal}"),
        None => format!("it ended with {status}"),
    }
}

fn read(value: &Value) -> Read {
    if let Some(damage) = value.get("damage").and_then(Value::as_str) {
        return Read::Damage(damage.to_owned());
    }
    match (value.get("hit").and_then(Value::as_bool), value.get("writer").and_then(Value::as_str), value.get("seq")) {
        (Some(false), ..) => Read::Miss,
        (Some(true), Some(writer), Some(seq)) => Read::Value { writer: writer.to_owned(), seq: seq.as_u64().unwrap_or(u64::MAX) },
        _ => Read::Damage(format!("the worker said {value}")),
    }
}

/// What a worker's line means as the answer of an operation.
fn parse(line: &str, op: &Op) -> Outcome {
    let Ok(answer) = serde_json::from_str::<Value>(line) else {
        return Outcome::Info(format!("not an answer: {line:.80}"));
    };
    if let Some(error) = answer.get("error").and_then(Value::as_str) {
        let text = format!("{error}: {}", answer.get("message").and_then(Value::as_str).unwrap_or(""));
        let certain = answer.get("certain").and_then(Value::as_bool).unwrap_or(false);
        return if certain { Outcome::Fail(text) } else { Outcome::Info(text) };
    }
    let ok = &answer["ok"];
    Outcome::Ok(match op {
        Op::Get { .. } | Op::Pop { .. } | Op::Pull { .. } => Answer::Read(read(ok)),
        Op::GetBatch { .. } => Answer::Reads(ok.as_array().map(|all| all.iter().map(read).collect()).unwrap_or_default()),
        Op::ReadCounter { .. } if ok.is_object() => Answer::Read(read(ok)),
        Op::Incr { .. } | Op::ReadCounter { .. } | Op::Count => Answer::Number(ok.as_i64()),
        Op::Check => {
            Answer::Findings(ok.as_array().map(|all| all.iter().filter_map(Value::as_str).map(str::to_owned).collect()).unwrap_or_default())
        }
        _ => Answer::Done(ok.as_bool().unwrap_or(false)),
    })
}
