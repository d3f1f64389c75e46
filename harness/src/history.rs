//! What was called, what was answered, and when: the only thing that verdicts rest on.
//!
//! A history is written as NDJSON, two lines a call in order of time: `invoke`, then `ok` (answered), `fail` (surely without
//! effect) or `info` (an error, a time-out or a kill: it may have taken effect, now or at any later time). A call that was never
//! answered has no second line: it stays open for ever, as `info` does.
//!
//! `t` is microseconds of the run's own time (virtual in process), `wall` microseconds since 1970 by the clock of the host that
//! called, which may be wrong. The second line names the faults that met the caller's requests meanwhile.

use std::collections::HashMap;
use std::io::{BufRead, Write};

use serde::{Deserialize, Serialize};

/// What was asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
#[expect(missing_docs, reason = "named as the worker's commands and their arguments")]
pub enum Op {
    Open,
    Set {
        key: String,
        seq: u64,
        size: u64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ttl_ms: Option<u64>,
    },
    Add {
        key: String,
        seq: u64,
        size: u64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ttl_ms: Option<u64>,
    },
    Touch {
        key: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ttl_ms: Option<u64>,
    },
    Get {
        key: String,
    },
    Pop {
        key: String,
    },
    Delete {
        key: String,
    },
    Incr {
        key: String,
        delta: i64,
    },
    ReadCounter {
        key: String,
    },
    Push {
        queue: String,
        seq: u64,
        size: u64,
    },
    Pull {
        queue: String,
    },
    Batch {
        keys: Vec<String>,
        seq: u64,
        size: u64,
    },
    GetBatch {
        keys: Vec<String>,
    },
    Check,
    Count,
    Close,
}

impl Op {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Op::Open => "open",
            Op::Set { .. } => "set",
            Op::Add { .. } => "add",
            Op::Touch { .. } => "touch",
            Op::Get { .. } => "get",
            Op::Pop { .. } => "pop",
            Op::Delete { .. } => "delete",
            Op::Incr { .. } => "incr",
            Op::ReadCounter { .. } => "read_counter",
            Op::Push { .. } => "push",
            Op::Pull { .. } => "pull",
            Op::Batch { .. } => "batch",
            Op::GetBatch { .. } => "get_batch",
            Op::Check => "check",
            Op::Count => "count",
            Op::Close => "close",
        }
    }

    /// What it is about: calls on different subjects do not depend on each other. A batch is one subject, named by its first key.
    #[must_use]
    pub fn subject(&self) -> Option<&str> {
        match self {
            Op::Set { key, .. }
            | Op::Add { key, .. }
            | Op::Touch { key, .. }
            | Op::Get { key }
            | Op::Pop { key }
            | Op::Delete { key }
            | Op::Incr { key, .. }
            | Op::ReadCounter { key } => Some(key),
            Op::Push { queue, .. } | Op::Pull { queue } => Some(queue),
            Op::Batch { keys, .. } | Op::GetBatch { keys } => keys.first().map(String::as_str),
            Op::Open | Op::Check | Op::Count | Op::Close => None,
        }
    }
}

/// What was read under a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Read {
    /// Nothing.
    Miss,
    /// A sound value, by the writer's own name and number.
    Value {
        /// Who wrote it.
        writer: String,
        /// Its number.
        seq: u64,
    },
    /// Bytes that are no sound value of this key.
    Damage(String),
}

/// What was answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// Done, or (where the operation may decline) not.
    Done(bool),
    /// What was read.
    Read(Read),
    /// What was read under each key.
    Reads(Vec<Read>),
    /// A counter, or nothing.
    Number(Option<i64>),
    /// What a check found.
    Findings(Vec<String>),
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Answered.
    Ok(Answer),
    /// An error that says that nothing was done.
    Fail(String),
    /// An error, or the process was killed: it may have taken effect.
    Info(String),
    /// The process died by itself.
    Crashed(String),
    /// No answer by the deadline.
    Hung,
}

/// What the history says of a process that was killed on purpose in the middle of a call.
pub const KILLED: &str = "killed";

/// One call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// Which host.
    pub host: String,
    /// Which process there; one life of it.
    pub process: String,
    /// What.
    pub op: Op,
    /// Microseconds since the run began.
    pub start: u64,
    /// When it ended.
    pub end: u64,
    /// Microseconds since 1970 by the host's own clock, when it began and when it ended.
    pub wall: (u64, u64),
    /// How.
    pub outcome: Outcome,
    /// The faults that met the process's requests meanwhile, by their names in the plan.
    pub faults: Vec<String>,
    /// Whether it belongs to the time at the end, with nothing wrong any more.
    pub last: bool,
}

impl Call {
    /// The answer, where there is one.
    #[must_use]
    pub fn answer(&self) -> Option<&Answer> {
        match &self.outcome {
            Outcome::Ok(answer) => Some(answer),
            _ => None,
        }
    }

    /// Whether it may have taken effect without anybody being told.
    #[must_use]
    pub fn is_ambiguous(&self) -> bool {
        matches!(self.outcome, Outcome::Info(_) | Outcome::Crashed(_) | Outcome::Hung)
    }

    /// When its effect can have been there at the latest: an ambiguous one may still come.
    #[must_use]
    pub fn effect_end(&self) -> u64 {
        if self.is_ambiguous() { u64::MAX } else { self.end }
    }
}

/// Microseconds since 1970 by this machine's clock.
#[must_use]
pub fn wall_now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}

/// One line of a written history.
#[derive(Serialize, Deserialize)]
struct Line {
    t: u64,
    wall: u64,
    /// Tells the two lines of one call from those of others.
    call: usize,
    #[serde(rename = "type")]
    kind: String,
    host: String,
    process: String,
    #[serde(flatten)]
    op: Op,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    outcome: Option<Outcome>,
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    faults: Vec<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    last: bool,
}

fn kind(outcome: &Outcome) -> Option<&'static str> {
    match outcome {
        Outcome::Ok(_) => Some("ok"),
        Outcome::Fail(_) => Some("fail"),
        Outcome::Info(_) | Outcome::Crashed(_) => Some("info"),
        Outcome::Hung => None,
    }
}

/// Writes a history.
///
/// # Errors
/// As the writer.
pub fn write(calls: &[Call], out: &mut impl Write) -> std::io::Result<()> {
    let mut order: Vec<(u64, usize, bool)> = Vec::with_capacity(calls.len() * 2);
    for (at, call) in calls.iter().enumerate() {
        order.push((call.start, at, false));
        if kind(&call.outcome).is_some() {
            order.push((call.end, at, true));
        }
    }
    order.sort_by_key(|&(t, at, ends)| (t, ends, at));
    for (t, at, ends) in order {
        let call = &calls[at];
        let line = Line {
            t,
            wall: if ends { call.wall.1 } else { call.wall.0 },
            call: at,
            kind: if ends { kind(&call.outcome).unwrap_or_default() } else { "invoke" }.to_owned(),
            host: call.host.clone(),
            process: call.process.clone(),
            op: call.op.clone(),
            outcome: ends.then(|| call.outcome.clone()),
            faults: if ends { call.faults.clone() } else { Vec::new() },
            last: call.last,
        };
        serde_json::to_writer(&mut *out, &line)?;
        out.write_all(b"\n")?;
    }
    Ok(())
}

/// Reads a history. A call without a second line hung until the last line's time.
///
/// # Errors
/// Says which line is none of a history.
pub fn read(input: impl BufRead) -> Result<Vec<Call>, String> {
    let mut calls: Vec<Call> = Vec::new();
    let mut places: HashMap<usize, usize> = HashMap::new();
    let (mut newest, mut open) = (0, Vec::new());
    for (number, line) in input.lines().enumerate() {
        let line = line.map_err(|err| err.to_string())?;
        let line: Line = serde_json::from_str(&line).map_err(|err| format!("line {}: {err}", number + 1))?;
        newest = newest.max(line.t);
        if line.kind == "invoke" {
            places.insert(line.call, calls.len());
            open.push(true);
            calls.push(Call {
                host: line.host,
                process: line.process,
                op: line.op,
                start: line.t,
                end: line.t,
                wall: (line.wall, line.wall),
                outcome: Outcome::Hung,
                faults: Vec::new(),
                last: line.last,
            });
            continue;
        }
        let (Some(&at), Some(outcome)) = (places.get(&line.call), line.outcome) else {
            return Err(format!("line {}: the end of a call that did not begin", number + 1));
        };
        open[at] = false;
        let call = &mut calls[at];
        (call.end, call.wall.1, call.outcome, call.faults) = (line.t, line.wall, outcome, line.faults);
    }
    for (call, open) in calls.iter_mut().zip(open) {
        if open {
            call.end = newest;
        }
    }
    Ok(calls)
}

/// A number that two histories share exactly when they are the same, calls, answers and times.
#[must_use]
pub fn hash(calls: &[Call]) -> u64 {
    let mut text = Vec::new();
    // Writing to memory does not fail.
    let _ = write(calls, &mut text);
    xxhash_rust::xxh3::xxh3_64(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_that_is_written_is_read_as_it_was() {
        let call = |start, end, outcome| Call {
            host: "host-a".into(),
            process: "host-a.1".into(),
            op: Op::Set { key: "k".into(), seq: 1, size: 9, ttl_ms: Some(50) },
            start,
            end,
            wall: (1_000_000 + start, 1_000_000 + end),
            outcome,
            faults: vec!["N7".into()],
            last: false,
        };
        let mut calls = vec![
            call(5, 9, Outcome::Ok(Answer::Done(true))),
            call(9, 12, Outcome::Fail("full".into())),
            call(10, 40, Outcome::Info(KILLED.into())),
        ];
        let mut text = Vec::new();
        write(&calls, &mut text).unwrap();
        assert_eq!(read(&text[..]).unwrap(), calls);
        calls.push(Call { faults: Vec::new(), ..call(20, 40, Outcome::Hung) });
        text.clear();
        write(&calls, &mut text).unwrap();
        assert_eq!(text.iter().filter(|&&byte| byte == b'\n').count(), 7, "a call that hangs has one line");
        let hung = read(&text[..]).unwrap().pop().unwrap();
        assert_eq!((hung.outcome, hung.end), (Outcome::Hung, 40));
    }

    #[test]
    fn what_is_no_history_is_refused_with_its_line() {
        assert!(read(&b"{}\n"[..]).unwrap_err().starts_with("line 1"));
    }
}
