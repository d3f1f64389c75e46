//! Trying again: how long to wait, which errors are worth it, and what to say when the time is over.

use super::SharedLog;
use crate::chance::Chance;
use crate::clock::{Clock, Deadline};
use crate::error::{Error, ErrorKind, Result};
use std::io;
use std::path::Path;
use std::time::Duration;

const PAUSE_FIRST: Duration = Duration::from_millis(2);
const PAUSE_MAX: Duration = Duration::from_millis(250);
/// How often an error that trying again hardly mends is tried again (a virus scanner's EACCES passes).
const REFUSALS_MAX: u32 = 3;
const EDQUOT: i32 = 122;
const ESTALE: i32 = 116;

/// Waits that double, jittered so that hosts that failed together do not come back together.
#[derive(Debug)]
pub(super) struct Backoff<'a> {
    clock: &'a dyn Clock,
    chance: &'a dyn Chance,
    deadline: Deadline,
    waited: Duration,
    next: Duration,
    tries: u32,
}

impl<'a> Backoff<'a> {
    pub(super) fn new(clock: &'a dyn Clock, chance: &'a dyn Chance, deadline: Deadline) -> Self {
        Self { clock, chance, deadline, waited: Duration::ZERO, next: PAUSE_FIRST, tries: 0 }
    }

    /// Waits before the next try; `false` if the deadline has passed, or would while waiting.
    pub(super) fn pause(&mut self) -> bool {
        self.tries += 1;
        let Some(left) = self.deadline.left(self.clock) else { return false };
        let half = self.next / 2;
        let dice = self.chance.next().unwrap_or(0) % 1024;
        let jitter = half * u32::try_from(dice).unwrap_or(0) / 1024;
        self.next = (self.next * 2).min(PAUSE_MAX);
        let pause = (half + jitter).min(left);
        self.clock.sleep(pause);
        self.waited += pause;
        !self.deadline.passed(self.clock)
    }

    /// Returns how often it has waited.
    pub(super) const fn tries(&self) -> u32 {
        self.tries
    }

    /// Returns how long it has waited in all. Unlike the time that has passed, this says how often the drive was asked: a process
    /// that was stopped for an hour has not looked for an hour.
    pub(super) const fn waited(&self) -> Duration {
        self.waited
    }
}

/// The drive refuses for a reason that waiting does not change by itself.
pub(super) fn is_refusal(e: &io::Error) -> bool {
    use io::ErrorKind as K;
    matches!(e.kind(), K::PermissionDenied | K::ReadOnlyFilesystem | K::StorageFull | K::InvalidFilename | K::FileTooLarge)
        || e.raw_os_error() == Some(EDQUOT)
}

/// The name, or the file behind it, is not there (as far as this look tells).
pub(super) fn is_gone(e: &io::Error) -> bool {
    e.kind() == io::ErrorKind::NotFound || e.raw_os_error() == Some(ESTALE)
}

/// "Nothing took effect, the time is over" or "the drive refused", by the cause.
pub(super) fn gave_up(what: &str, path: &Path, cause: io::Error) -> Error {
    let kind = if is_refusal(&cause) { ErrorKind::Io } else { ErrorKind::Timeout };
    Error::io(what, path, cause).with_kind(kind)
}

impl SharedLog {
    pub(super) fn backoff(&self, deadline: Deadline) -> Backoff<'_> {
        Backoff::new(&*self.clock, &*self.options.chance, deadline)
    }

    /// Tries until it succeeds, the drive refuses repeatedly, or the deadline passes.
    pub(super) fn until<T>(&self, deadline: Deadline, what: &str, path: &Path, mut attempt: impl FnMut() -> io::Result<T>) -> Result<T> {
        let mut backoff = self.backoff(deadline);
        loop {
            match attempt() {
                Ok(done) => return Ok(done),
                Err(e) if is_refusal(&e) && backoff.tries() >= REFUSALS_MAX => return Err(gave_up(what, path, e)),
                Err(e) => {
                    if !backoff.pause() {
                        return Err(gave_up(what, path, e));
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chance::OsChance;
    use crate::clock::ManualClock;

    #[test]
    fn pauses_grow_to_a_bound_and_never_outlast_the_deadline() {
        let clock = ManualClock::default();
        let deadline = Deadline::after(&clock, Duration::from_secs(3));
        let mut backoff = Backoff::new(&clock, &OsChance, deadline);
        let (mut before, mut longest) = (clock.boot(), Duration::ZERO);
        while backoff.pause() {
            longest = longest.max(clock.boot() - before);
            before = clock.boot();
        }
        assert!(longest > PAUSE_MAX / 2 && longest <= PAUSE_MAX, "{longest:?}");
        assert!(backoff.waited().abs_diff(Duration::from_secs(3)) < Duration::from_millis(1), "{:?}", backoff.waited());
        assert!(backoff.tries() < 40, "{}", backoff.tries());
    }

    #[test]
    fn a_full_drive_is_a_refusal_and_a_dead_one_is_not() {
        for errno in [28, 122, 30, 13, 1] {
            assert!(is_refusal(&io::Error::from_raw_os_error(errno)), "{errno}");
        }
        for errno in [5, 11, 107, 110, 116, 2, 22] {
            assert!(!is_refusal(&io::Error::from_raw_os_error(errno)), "{errno}");
        }
    }
}
