//! What is under test, and the worker processes that drive it.
//!
//! A worker is a process of its own that takes JSON commands and gives JSON answers (`harness/WORKERS.md`); it is used through pipes, has
//! a deadline for each call, and can be killed at any moment. `harness/workers/worker.py` drives any Python module with
//! python-diskcache's `Cache`; other engines bring a worker of their own.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use serde_json::{Value, json};

use crate::history::{Answer, Op, Outcome, Read};

/// The worker program, which is written to a temporary place when it is needed.
pub const WORKER: &str = include_str!("../workers/worker.py");
/// The engine that comes with it, as a module beside it.
const NAIVE: &str = include_str!("../workers/naive.py");
/// What a worker may take to introduce itself.
const HELLO: Duration = Duration::from_secs(30);

/// A cache under test.
#[derive(Clone, Debug, PartialEq)]
pub struct Engine {
    /// Its name on the command line.
    pub name: String,
    /// In a report.
    pub title: String,
    /// The Python module with its `Cache`; empty where it has a worker of its own.
    pub module: String,
    /// The shell command that starts its own worker.
    pub command: Option<String>,
    /// What its `Cache` is opened with.
    pub options: Value,
    /// Environment of its processes: a FUSE mount does not say that NFS stands behind it.
    pub env: &'static [(&'static str, &'static str)],
    /// Whether it is ours, which must have no violation.
    pub ours: bool,
    /// Whether it comes with this program rather than with Python's packages.
    pub bundled: bool,
    /// What it can be asked, by the names of the protocol; nothing while that is not known: everything.
    pub operations: Option<BTreeSet<String>>,
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
    let engine = |name: &str, title: &str, module: &str, options: Value| Engine {
        name: name.to_owned(),
        title: title.to_owned(),
        module: module.to_owned(),
        command: None,
        options,
        env: &[],
        ours: false,
        bundled: false,
        operations: None,
    };
    let rollback = json!({"timeout": 5, "sqlite_journal_mode": "delete"});
    vec![
        Engine {
            env: &[("DISKCACHE_RS_PROFILE", "shared:statx")],
            ours: true,
            ..engine("ours", "DiskCache RS", "diskcache_rs", keep(json!({"timeout": 5})))
        },
        engine("diskcache", "python-diskcache 5.6.3", "diskcache", keep(json!({"timeout": 5}))),
        engine("diskcache-delete", "python-diskcache 5.6.3, rollback journal", "diskcache", keep(rollback)),
        Engine { bundled: true, ..engine("naive", "files and rename, home-made", "naive", json!({})) },
    ]
}

/// An engine by its name.
#[must_use]
pub fn named(name: &str) -> Option<Engine> {
    engines().into_iter().find(|engine| engine.name == name)
}

impl Engine {
    /// One that has a worker of its own, which a shell command starts. Its name comes from the worker, see [`Engine::introduce`].
    #[must_use]
    pub fn of_command(command: &str) -> Engine {
        Engine {
            name: slug(command.rsplit('/').next().unwrap_or(command)),
            title: command.to_owned(),
            module: String::new(),
            command: Some(command.to_owned()),
            options: json!({}),
            env: &[],
            ours: false,
            bundled: false,
            operations: None,
        }
    }

    /// The same with another timeout, in seconds, if it has one.
    #[must_use]
    pub fn with_timeout(&self, seconds: u64) -> Engine {
        let mut engine = self.clone();
        if let Some(timeout) = engine.options.get_mut("timeout") {
            *timeout = json!(seconds);
        }
        engine
    }

    /// Starts a worker. `name` becomes the writer's name in its values.
    ///
    /// # Errors
    /// The process cannot be started.
    pub fn worker(&self, python: &Python, name: &str, log: &Path) -> Result<Worker, String> {
        let Some(text) = &self.command else { return Worker::start(python, name, self.env, log) };
        let mut command = Command::new("sh");
        // The worker takes the shell's place, so that a kill meets it.
        command.args(["-c", &format!("exec {text}")]);
        Worker::spawn(command, name, log)
    }

    /// Asks a worker who it is; returns its version, and notes what it can be asked.
    ///
    /// # Errors
    /// It does not start, or its engine is not installed.
    pub fn introduce(&mut self, python: &Python, log: &Path) -> Result<String, String> {
        let mut worker = self.worker(python, "hello", log)?;
        let said = worker.hello(&self.module).map_err(|why| format!("{} is not there: {why}", self.name))?;
        let words = |name: &str| said.get(name).and_then(Value::as_str).map(str::to_owned);
        if self.command.is_some() {
            if let Some(name) = words("name") {
                (self.name, self.title) = (slug(&name), name);
            }
            if named(&self.name).is_some() {
                self.name = format!("{}-worker", self.name);
            }
        }
        let operations = said.get("operations").and_then(Value::as_array);
        self.operations = operations.map(|all| all.iter().filter_map(Value::as_str).map(str::to_owned).collect());
        Ok(words("version").unwrap_or_else(|| "unknown".to_owned()))
    }

    /// Whether it can be asked to do something.
    #[must_use]
    pub fn can(&self, operation: &str) -> bool {
        self.operations.as_ref().is_none_or(|known| known.contains(operation))
    }
}

/// A name that is one word of a shell and of a path.
fn slug(text: &str) -> String {
    let plain: String = text.to_lowercase().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let words: Vec<&str> = plain.split('-').filter(|word| !word.is_empty()).collect();
    if words.is_empty() { "engine".to_owned() } else { words.join("-") }
}

/// Writes the worker program, and the engine that comes with it, into a folder; returns the program.
///
/// # Errors
/// They cannot be written.
pub fn write_worker(dir: &Path) -> Result<PathBuf, String> {
    let write = |name: &str, text: &str| {
        let path = dir.join(name);
        std::fs::write(&path, text).map_err(|err| format!("cannot write {}: {err}", path.display())).map(|()| path)
    };
    write("naive.py", NAIVE)?;
    write("worker.py", WORKER)
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
        let mut command = Command::new(&python.interpreter);
        command.arg(&python.worker).envs(env.iter().copied());
        Worker::spawn(command, name, log)
    }

    fn spawn(mut command: Command, name: &str, log: &Path) -> Result<Worker, String> {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(log);
        let file = file.map_err(|err| format!("cannot write {}: {err}", log.display()))?;
        let mut child = command
            .env("PYTHONUNBUFFERED", "1")
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(file)
            .spawn()
            .map_err(|err| format!("cannot start {}: {err}", command.get_program().display()))?;
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

    /// Asks who it is; a worker that does not know the question says nothing of itself.
    fn hello(&mut self, module: &str) -> Result<Value, String> {
        let mut command = json!({"op": "hello", "id": 0});
        if !module.is_empty() {
            command["module"] = json!(module);
        }
        let line = self.ask(&command, HELLO).map_err(|end| match end {
            Outcome::Hung => format!("it says nothing for {} s", HELLO.as_secs()),
            Outcome::Crashed(how) => format!("{how}; its log says why"),
            other => format!("{other:?}"),
        })?;
        let answer: Value = serde_json::from_str(&line).map_err(|_| format!("not an answer: {line:.80}"))?;
        match answer.get("error").and_then(Value::as_str) {
            Some(error) if !module.is_empty() => {
                Err(format!("{error}: {}", answer.get("message").and_then(Value::as_str).unwrap_or_default()))
            }
            Some(_) => Ok(Value::Null),
            None => Ok(answer["ok"].clone()),
        }
    }

    /// Opens the engine's cache in a folder.
    pub fn open(&mut self, engine: &Engine, dir: &Path, deadline: Duration) -> Outcome {
        let mut command = json!({"op": "open", "dir": dir});
        if engine.command.is_none() {
            (command["module"], command["options"]) = (json!(engine.module), engine.options.clone());
        }
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
        self.ask(&command, deadline).map_or_else(|end| end, |line| parse(&line, op))
    }

    /// Sends a line and waits for the next one; without, how it ended.
    fn ask(&mut self, command: &Value, deadline: Duration) -> Result<String, Outcome> {
        let answer = match self.input.write_all(format!("{command}\n").as_bytes()) {
            Ok(()) => self.answers.recv_timeout(deadline),
            Err(_) => Err(RecvTimeoutError::Disconnected),
        };
        answer.map_err(|end| {
            self.lost = true;
            match end {
                RecvTimeoutError::Timeout => Outcome::Hung,
                RecvTimeoutError::Disconnected => Outcome::Crashed(self.epitaph()),
            }
        })
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

/// How a worker ended that got SIGKILL.
pub(crate) const KILLED_BY_SIGNAL: &str = "killed by SIGKILL";

fn describe(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match status.signal() {
        Some(signal) if signal == libc::SIGKILL => KILLED_BY_SIGNAL.to_owned(),
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
