//! What was called, what was answered, and when: the only thing that verdicts rest on.
//!
//! A history is written as NDJSON, two lines a call in order of time: `invoke`, then `ok` (answered), `fail` (surely without
//! effect) or `info` (an error, a time-out or a kill: it may have taken effect, now or at any later time). A call that was never
//! answered has no second line.

use std::io::Write;

use serde::{Deserialize, Serialize};

/// What was asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
#[expect(missing_docs, reason = "named as the worker's commands and their arguments")]
pub enum Op {
    Open,
    Set { key: String, seq: u64, size: u64 },
    Add { key: String, seq: u64, size: u64 },
    Get { key: String },
    Pop { key: String },
    Delete { key: String },
    Incr { key: String, delta: i64 },
    ReadCounter { key: String },
    Push { queue: String, seq: u64, size: u64 },
    Pull { queue: String },
    Batch { keys: Vec<String>, seq: u64, size: u64 },
    GetBatch { keys: Vec<String> },
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
    /// How.
    pub outcome: Outcome,
    /// Whether it belongs to the reading back at the end, with nothing wrong any more.
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

#[derive(Serialize)]
struct Line<'c> {
    t: u64,
    #[serde(rename = "type")]
    kind: &'static str,
    host: &'c str,
    process: &'c str,
    #[serde(flatten)]
    op: &'c Op,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<&'c Outcome>,
    last: bool,
}

/// Writes a history.
///
/// # Errors
/// As the writer.
pub fn write(calls: &[Call], out: &mut impl Write) -> std::io::Result<()> {
    let mut lines = Vec::with_capacity(calls.len() * 2);
    for call in calls {
        let line = |t, kind, outcome| Line { t, kind, host: &call.host, process: &call.process, op: &call.op, outcome, last: call.last };
        lines.push(line(call.start, "invoke", None));
        let kind = match call.outcome {
            Outcome::Ok(_) => "ok",
            Outcome::Fail(_) => "fail",
            Outcome::Info(_) | Outcome::Crashed(_) => "info",
            Outcome::Hung => continue,
        };
        lines.push(line(call.end, kind, Some(&call.outcome)));
    }
    lines.sort_by_key(|line| line.t);
    for line in lines {
        serde_json::to_writer(&mut *out, &line)?;
        out.write_all(b"\n")?;
    }
    Ok(())
}

/// A number that two histories share exactly when they are the same, calls, answers and times.
#[must_use]
pub fn hash(calls: &[Call]) -> u64 {
    let mut text = Vec::new();
    // Writing to memory does not fail.
    let _ = write(calls, &mut text);
    xxhash_rust::xxh3::xxh3_64(&text)
}
