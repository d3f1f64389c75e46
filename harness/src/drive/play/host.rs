//! Faults of a host itself: calls that are cut short, caches that are believed for too long, and what stale answers count as.

use super::super::errno::Errno;
use super::super::locks::Range;
use super::super::rpc::{Ino, Kind};
use super::super::{Drive, HostId};
use crate::drive::catalogue::Act;

/// What a host believes although it should ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::drive) enum Belief {
    /// A file's pages and attributes.
    Content,
    /// A name, present or absent.
    Name,
    /// A listing.
    Listing,
}

impl Belief {
    /// The fault that a stale answer counts as, by the kind of drive.
    fn fault(self, family: char) -> &'static str {
        match (family, self) {
            ('F', _) => "F6",
            ('O', _) => "O6",
            ('S', Belief::Listing) => "S9",
            (_, Belief::Content) => "N1",
            (_, Belief::Name) => "N3",
            (_, Belief::Listing) => "N4",
        }
    }

    fn acts(self) -> &'static [Act] {
        match self {
            Belief::Content => &[Act::BelieveAttributes],
            Belief::Name => &[Act::BelieveName, Act::BelieveAttributes],
            Belief::Listing => &[Act::BelieveListing, Act::BelieveAttributes],
        }
    }
}

impl Drive {
    /// U9: an error instead of the call, or only so many of its bytes.
    pub(in crate::drive) fn interrupt(&mut self, host: HostId, kind: Kind, path: &str, len: usize) -> Result<usize, Errno> {
        if !self.is_planned(&[Act::Interrupt]) {
            return Ok(len);
        }
        let name = self.hosts[host].name.clone();
        let at = crate::drive::faults::injector::Meeting { now_ns: self.now(), host: &name, kind, path };
        for (plan, _) in self.injector.candidates(&at, |act| act == Act::Interrupt) {
            if matches!(kind, Kind::Read | Kind::Write) && len < 2 {
                continue;
            }
            let Some(fired) = self.injector.fire(plan, &at) else { continue };
            self.injector.observed(fired.plan);
            let usual = match kind {
                Kind::Open => Some(Errno::EMFILE),
                Kind::Lock => Some(Errno::EINTR),
                _ => None,
            };
            return match fired.fault.errno.as_deref().and_then(Errno::from_name).or(usual) {
                Some(errno) => Err(errno),
                None => Ok(len / 2),
            };
        }
        Ok(len)
    }

    /// S7: whether a lock of another host forbids reading or writing in a range.
    pub(in crate::drive) fn forbid(&mut self, host: HostId, kind: Kind, ino: Ino, offset: u64, len: usize) -> Result<(), Errno> {
        if len == 0 || !(self.profile.mandatory_locks || self.is_planned(&[Act::MandatoryLock])) {
            return Ok(());
        }
        let range = Range { start: offset, end: offset.saturating_add(len as u64 - 1) };
        if !self.is_locked_elsewhere(host, ino, range) {
            return Ok(());
        }
        if let Some(fired) = self.meet_on_host(host, kind, ino, &[Act::MandatoryLock]) {
            self.injector.observed(fired.plan);
            return Err(Drive::errno(&fired, Errno::EACCES));
        }
        if self.profile.mandatory_locks {
            self.injector.note("S7", true);
            return Err(Errno::EACCES);
        }
        Ok(())
    }

    /// Whether the host goes on believing what it should ask for; remembers which fault is to blame.
    pub(in crate::drive) fn believes(&mut self, host: HostId, belief: Belief, kind: Kind, ino: Ino) -> bool {
        if !self.is_planned(belief.acts()) {
            return false;
        }
        let path = self.server.path(ino).to_owned();
        self.believes_path(host, belief, kind, &path)
    }

    pub(in crate::drive) fn believes_path(&mut self, host: HostId, belief: Belief, kind: Kind, path: &str) -> bool {
        match self.meet_path_on_host(host, kind, path, belief.acts()) {
            Some(fired) => {
                self.hosts[host].believed = Some(fired.plan);
                true
            }
            None => false,
        }
    }

    /// An answer came from the cache: counts it where the server would have said something else.
    pub(in crate::drive) fn answered_from_cache(&mut self, host: HostId, belief: Belief, stale: bool) {
        let believed = self.hosts[host].believed.take();
        match believed {
            Some(plan) if stale => self.injector.observed(plan),
            None if stale => {
                let fault = belief.fault(self.profile.family);
                self.injector.note(fault, true);
                self.injector.meet(fault);
            }
            _ => {}
        }
    }
}
