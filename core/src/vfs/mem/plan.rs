//! What shall go wrong, and when: faults by step, the crash point, and the count of steps.

use std::collections::BTreeMap;
use std::io;

/// One kind of call through the door.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "each is the method of its name")]
pub enum Step {
    Open,
    Link,
    Rename,
    Unlink,
    CreateDir,
    RemoveDir,
    ReadDir,
    Stat,
    SyncDir,
    Space,
    Read,
    Write,
    Len,
    LenFresh,
    SetLen,
    Allocate,
    Sync,
    Close,
    TryLock,
    Lock,
    Unlock,
    Map,
}

/// Whether a failed step took effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It did nothing. (A failed sync or close loses what was written since the last sync, as a failed write-back does: this host
    /// goes on reading the bytes, the next sync succeeds, and a crash shows that they were never kept.)
    None,
    /// It was done; only the answer is an error (a lost reply).
    Done,
}

/// A failure to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// Which calls fail.
    pub step: Step,
    /// The how-manieth of them from now on, counted from 1.
    pub nth: u64,
    /// Every later one, too.
    pub lasting: bool,
    /// What the caller gets.
    pub errno: i32,
    /// What was done all the same.
    pub effect: Effect,
}

/// The faults that were asked for and the steps that were made.
#[derive(Debug, Default)]
pub(super) struct Plan {
    faults: Vec<Fault>,
    steps: u64,
    counts: BTreeMap<Step, u64>,
    /// The step that is not made any more.
    pub(super) freeze_at: Option<u64>,
    /// The step at which the process that makes it dies.
    pub(super) kill_at: Option<u64>,
}

impl Plan {
    pub(super) fn add(&mut self, fault: Fault) {
        self.faults.push(fault);
    }

    pub(super) fn clear(&mut self) {
        self.faults.clear();
    }

    pub(super) const fn steps(&self) -> u64 {
        self.steps
    }

    pub(super) const fn counts(&self) -> &BTreeMap<Step, u64> {
        &self.counts
    }

    /// Counts a step. Returns whether it is the crash point, or else the fault that strikes it.
    pub(super) fn advance(&mut self, step: Step) -> Strike {
        self.steps += 1;
        *self.counts.entry(step).or_default() += 1;
        if self.freeze_at == Some(self.steps) {
            return Strike::Freeze;
        }
        if self.kill_at == Some(self.steps) {
            return Strike::Kill;
        }
        let mut strike = Strike::Nothing;
        self.faults.retain_mut(|fault| {
            if fault.step != step {
                return true;
            }
            fault.nth = fault.nth.saturating_sub(1);
            if fault.nth > 0 {
                return true;
            }
            strike = Strike::Fault(fault.errno, fault.effect);
            fault.lasting
        });
        strike
    }
}

/// What befalls a step.
#[derive(Debug, Clone, Copy)]
pub(super) enum Strike {
    Nothing,
    Fault(i32, Effect),
    Freeze,
    Kill,
}

/// Shortens errno constants to errors.
pub(super) fn errno(code: i32) -> io::Error {
    io::Error::from_raw_os_error(code)
}
