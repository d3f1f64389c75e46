//! Operations one by one, as a script in a scenario: a line each.
//!
//! `120 host-a.0 set key=key/3 seq=1 size=128` says that 120 ms after the workers began the first process of host-a sets a key. The
//! words after the process are a worker's command and its arguments; a list is written with commas.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::history::{Call, Op};

/// One operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Step {
    /// When, in milliseconds after the workers began. A process that is late does it at once.
    pub at_ms: u64,
    /// On which host.
    pub host: String,
    /// By which process there, from 0.
    pub process: usize,
    /// What.
    pub op: Op,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}.{} {}", self.at_ms, self.host, self.process, self.op.name())?;
        let Ok(Value::Object(arguments)) = serde_json::to_value(&self.op) else { return Ok(()) };
        for (name, value) in arguments.iter().filter(|(name, _)| *name != "op") {
            match value {
                Value::Array(all) => {
                    let words: Vec<&str> = all.iter().filter_map(Value::as_str).collect();
                    write!(f, " {name}={}", words.join(","))?;
                }
                Value::String(text) => write!(f, " {name}={text}")?,
                other => write!(f, " {name}={other}")?,
            }
        }
        Ok(())
    }
}

impl FromStr for Step {
    type Err = String;

    fn from_str(line: &str) -> Result<Step, String> {
        let wrong = |why: &str| format!("{line:?} is no step of a script (`120 host-a.0 set key=key/3 seq=1 size=128`): {why}");
        let mut words = line.split_whitespace();
        let at_ms = words.next().and_then(|word| word.parse().ok()).ok_or_else(|| wrong("no time in milliseconds"))?;
        let who = words.next().and_then(|word| word.rsplit_once('.'));
        let (host, process) = who.and_then(|(host, number)| Some((host, number.parse().ok()?))).ok_or_else(|| wrong("no process"))?;
        let name = words.next().ok_or_else(|| wrong("no operation"))?;
        let mut arguments = Map::from_iter([("op".to_owned(), Value::from(name))]);
        for word in words {
            let (name, text) = word.split_once('=').ok_or_else(|| wrong(&format!("{word:?} is no argument")))?;
            let value = match name {
                "keys" => Value::from(text.split(',').collect::<Vec<_>>()),
                "key" | "queue" => Value::from(text),
                _ => Value::from(text.parse::<i64>().map_err(|_| wrong(&format!("{text:?} is no number")))?),
            };
            arguments.insert(name.to_owned(), value);
        }
        let op: Op = serde_json::from_value(Value::Object(arguments)).map_err(|err| wrong(&err.to_string()))?;
        if op.subject().is_none() {
            return Err(wrong("a script has no such operation"));
        }
        Ok(Step { at_ms, host: host.to_owned(), process, op })
    }
}

impl From<Step> for String {
    fn from(step: Step) -> String {
        step.to_string()
    }
}

impl TryFrom<String> for Step {
    type Error = String;

    fn try_from(line: String) -> Result<Step, String> {
        line.parse()
    }
}

/// What the processes of a run did, as a script. `began_us` is when the workers began, by the history's clock. What is written is
/// numbered anew: lives of a process that have the same numbers may become one.
#[must_use]
pub fn of_history(calls: &[Call], began_us: u64) -> Vec<Step> {
    let step = |(number, call): (usize, &Call)| {
        let mut name = call.process.strip_prefix(&call.host)?.strip_prefix('.')?.split('.');
        let process = name.next()?.parse().ok()?;
        let at_ms = call.start.saturating_sub(began_us) / 1000;
        let mut op = call.op.clone();
        if let Op::Set { seq, .. } | Op::Add { seq, .. } | Op::Push { seq, .. } | Op::Batch { seq, .. } = &mut op {
            *seq = number as u64 + 1;
        }
        Some(Step { at_ms, host: call.host.clone(), process, op })
    };
    calls.iter().filter(|call| !call.last && call.op.subject().is_some()).enumerate().filter_map(step).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_read_as_it_was_written() {
        let keys = vec!["batch/0/0".to_owned(), "batch/0/1".to_owned()];
        let all = [
            Op::Set { key: "key/3".into(), seq: 1, size: 128, ttl_ms: Some(50) },
            Op::Incr { key: "count/0".into(), delta: -2 },
            Op::GetBatch { keys },
            Op::Pull { queue: "queue0".into() },
        ];
        for op in all {
            let step = Step { at_ms: 120, host: "host-a".into(), process: 1, op };
            assert_eq!(step.to_string().parse(), Ok(step));
        }
        assert_eq!("5 host-b.0 get key=k".parse::<Step>().unwrap().to_string(), "5 host-b.0 get key=k");
    }

    #[test]
    fn what_is_no_step_is_refused_with_a_reason() {
        for (line, why) in [
            ("host-a.0 get key=k", "no time"),
            ("5 host-a get key=k", "no process"),
            ("5 host-a.0", "no operation"),
            ("5 host-a.0 fly key=k", "fly"),
            ("5 host-a.0 get", "key"),
            ("5 host-a.0 incr key=k delta=much", "no number"),
            ("5 host-a.0 close", "no such operation"),
        ] {
            let said = line.parse::<Step>().unwrap_err();
            assert!(said.contains(why), "{line}: {said}");
        }
    }
}
