//! What the tests of the shared log have in common: operations that are told apart by name, and a replay that writes them down.
#![expect(unreachable_pub, reason = "a test binary exports nothing; `pub` says what its own files may use")]

use diskcache_core::clock::{Clock, Deadline};
use diskcache_core::format::marker::Mode;
use diskcache_core::format::{BodyBuilder, Marker, Record};
use diskcache_core::log::{Commit, Cursor, Log, Progress, Proposal, Published, Replay, SharedLog};
use diskcache_core::{Error, Result};
use std::time::Duration;

pub const MARKER: Marker = Marker { mode: Mode::Shared, id: 0x0123_4567_89ab_cdef, created: 1.0e9 };

/// A state that is nothing but the names of the operations, in order; a checkpoint is the same as bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    pub names: Vec<String>,
    pub damaged: Vec<(u64, u64)>,
    /// The checkpoint commit that was adopted last, and up to where it covers the log. One that covers less is not adopted.
    pub checkpoint: u64,
    pub covered: u64,
}

impl Replay for Names {
    fn commit(&mut self, commit: &Commit<'_>) {
        if !commit.counts() {
            return;
        }
        for (record, _) in commit.body.records() {
            match record {
                Record::Setting(name, _) => self.names.push(name.to_owned()),
                Record::Checkpoint(payload) => {
                    let covered = decode_checkpoint(payload).0.position;
                    if covered > self.covered {
                        (self.checkpoint, self.covered) = (commit.position, covered);
                    }
                }
                _ => {}
            }
        }
    }

    fn damaged(&mut self, position: u64, next: u64, _why: &Error) {
        self.damaged.push((position, next));
    }
}

/// One process: a handle, how far it has replayed, and its state.
#[derive(Debug)]
pub struct Process {
    pub log: SharedLog,
    pub cursor: Cursor,
    pub state: Names,
}

impl Process {
    pub fn new(log: SharedLog) -> Self {
        Self { log, cursor: Cursor::default(), state: Names::default() }
    }

    pub fn start(&mut self, deadline: Deadline) -> Result<()> {
        let start = self.log.start(deadline)?;
        (self.cursor, self.state) = match start.checkpoint {
            Some(payload) => {
                let (cursor, names) = decode_checkpoint(&payload);
                (cursor, Names { checkpoint: start.at, covered: cursor.position, ..names })
            }
            None => (Cursor { position: start.at, chain: 0 }, Names::default()),
        };
        Ok(())
    }

    /// Catches up, starting again where the log was collected.
    pub fn catch_up(&mut self, deadline: Deadline) -> Result<()> {
        while self.log.catch_up(&mut self.cursor, &mut self.state, deadline)? == Progress::Gone {
            self.start(deadline)?;
        }
        Ok(())
    }

    pub fn publish_body(&mut self, body: &BodyBuilder, decided_on: Option<u64>, deadline: Deadline) -> Result<Published> {
        let proposal = Proposal { body, decided_on, durable: true, quiet: false, checkpoint: self.state.checkpoint };
        self.log.publish(&mut self.cursor, proposal, &mut self.state, deadline)
    }

    /// Publishes the state as a checkpoint.
    pub fn checkpoint(&mut self, deadline: Deadline) -> Result<Published> {
        let mut body = BodyBuilder::default();
        let payload = encode_checkpoint(self.cursor, &self.state);
        body.push(&Record::Checkpoint(&payload));
        self.publish_body(&body, None, deadline)
    }
}

pub fn body_of(names: &[&str]) -> BodyBuilder {
    let mut body = BodyBuilder::default();
    for name in names {
        body.push(&Record::Setting(name, b"some bytes that a value might have"));
    }
    body
}

pub fn encode_checkpoint(cursor: Cursor, state: &Names) -> Vec<u8> {
    format!("{}\n{}\n{}", cursor.position, cursor.chain, state.names.join("\n")).into_bytes()
}

pub fn decode_checkpoint(payload: &[u8]) -> (Cursor, Names) {
    let text = std::str::from_utf8(payload).expect("a checkpoint of ours is text");
    let mut lines = text.split('\n').filter(|line| !line.is_empty());
    let mut number = || lines.next().and_then(|line| line.parse().ok()).expect("a checkpoint of ours begins with its cursor");
    let cursor = Cursor { position: number(), chain: number() };
    let names = lines.map(str::to_owned).collect();
    (cursor, Names { names, ..Names::default() })
}

pub fn within(clock: &dyn Clock, seconds: u64) -> Deadline {
    Deadline::after(clock, Duration::from_secs(seconds))
}
