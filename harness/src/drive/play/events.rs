//! Faults of the server, the network, a host or a process: at a request's phase, or at a time.

use super::super::net::{Blow, Rest};
use super::super::rpc::{Reply, Rpc};
use super::super::server::Loss;
use super::super::{Drive, Errno, Fail, HostId, Outcome};
use crate::drive::catalogue::{Act, Phase};
use crate::drive::faults::{Apply, Fired};

impl Act {
    /// It happens to more than the request that it meets.
    pub(super) fn is_event(self) -> bool {
        matches!(
            self,
            Act::RollBack
                | Act::Kill
                | Act::Pause
                | Act::Cut
                | Act::Restart
                | Act::PowerCut
                | Act::DropLease
                | Act::Grace
                | Act::SkewClock
                | Act::LoseSession
                | Act::LoseConnection
                | Act::Burst
        )
    }
}

fn loss(fired: &Fired, usual: Loss) -> Loss {
    match fired.fault.loss.as_deref() {
        Some("nothing") => Loss::Nothing,
        Some("some") => Loss::Some,
        Some("all") => Loss::All,
        _ => usual,
    }
}

impl Drive {
    /// An event before or after a request is carried out, as its phase says.
    pub(super) fn happen_around(&mut self, host: HostId, rpc: Rpc, fired: &Fired) -> Outcome<Reply> {
        if fired.is_before() && fired.fault.applies(fired.entry) != Apply::Before {
            self.happen(host, Some(&rpc), fired);
            return self.after_event(host, rpc, fired, None);
        }
        let answer = self.serve(host, &rpc);
        if fired.phase == Phase::P4
            && let Some(ino) = rpc.handle()
        {
            self.server.stabilize(ino);
        }
        self.happen(host, Some(&rpc), fired);
        self.after_event(host, rpc, fired, Some(answer))
    }

    /// What becomes of the request itself; `done` is its answer when it was carried out before.
    fn after_event(&mut self, host: HostId, rpc: Rpc, fired: &Fired, done: Option<Outcome<Reply>>) -> Outcome<Reply> {
        let now = self.now();
        match fired.entry.act {
            // The host's kernel gets an answer all the same; the process does not.
            Act::Kill => done.unwrap_or(Err(Errno::EINTR.into())),
            Act::Pause if done.is_none() => self.stage(host, rpc, now + fired.delay_ns, Rest::Serve),
            Act::Cut => {
                let until = self.hosts[host].cut.map_or(now, |cut| cut.until);
                let rest = done.map_or(Rest::Serve, Rest::Deliver);
                self.stage(host, rpc, until, rest)
            }
            Act::PowerCut => Err(Errno::EIO.into()),
            Act::LoseConnection | Act::Burst => Err(Errno::EIO.into()),
            Act::LoseSession => Err(Errno::EBADF.into()),
            Act::Grace if done.is_none() => Err(match fired.fault.errno.as_deref().and_then(Errno::from_name) {
                Some(errno) => Fail::Errno(errno),
                None => Fail::Stall,
            }),
            Act::DropLease if self.is_dead_to(host, &rpc) => Err(Drive::errno(fired, Errno::EIO).into()),
            _ => done.unwrap_or_else(|| self.serve(host, &rpc)),
        }
    }

    fn is_dead_to(&self, host: HostId, rpc: &Rpc) -> bool {
        let mut handles = self.hosts[host].handles.values().filter(|handle| Some(handle.ino) == rpc.handle()).peekable();
        handles.peek().is_some() && handles.all(|handle| handle.dead.is_some())
    }

    /// An event at its time, to the host of the plan or to all.
    pub(in crate::drive) fn happen_to_all(&mut self, fired: &Fired) {
        let wanted = fired.fault.host.as_deref().and_then(|name| self.host(name));
        let server = matches!(fired.entry.act, Act::RollBack | Act::Restart | Act::Grace);
        let hosts = match wanted {
            Some(host) => host..host + 1,
            None if server => 0..1,
            None => 0..self.hosts.len(),
        };
        for host in hosts {
            self.happen(host, None, fired);
        }
    }

    fn happen(&mut self, host: HostId, rpc: Option<&Rpc>, fired: &Fired) {
        let until = if fired.delay_ns == 0 { u64::MAX } else { self.now().saturating_add(fired.delay_ns) };
        let seen = match fired.entry.act {
            Act::Kill => {
                self.blow = Some(Blow::Kill);
                true
            }
            Act::Pause => {
                self.blow = Some(Blow::Pause(fired.delay_ns));
                true
            }
            Act::Cut => {
                self.hosts[host].cut = Some(Drive::partition(fired.phase, until));
                true
            }
            Act::Restart => {
                let done = self.restart(loss(fired, Loss::All));
                done.writes_lost > 0 || done.locks_lost > 0
            }
            Act::PowerCut => {
                self.restart(loss(fired, Loss::Some));
                self.crash(host);
                self.hosts[host].down_until = Some(until);
                true
            }
            Act::DropLease => self.drop_lease(host, fired),
            Act::Grace => {
                let errno = fired.fault.errno.as_deref().and_then(Errno::from_name);
                self.grace = Some((until, errno, fired.plan));
                matches!(rpc, Some(Rpc::Lock { .. } | Rpc::Open { .. } | Rpc::OpenHandle { .. })) && fired.is_before()
            }
            Act::SkewClock => {
                self.skew_clock(host, fired.fault.offset_ms, fired.fault.drift_ppm);
                self.hosts[host].clock_fault = Some(fired.plan);
                false
            }
            Act::LoseSession => self.lose_session(host, Errno::EBADF) || rpc.is_some(),
            Act::LoseConnection => self.lose_session(host, Errno::EIO) || rpc.is_some(),
            Act::Burst => {
                self.hosts[host].burst = Some((until, fired.plan));
                rpc.is_some()
            }
            _ => self.roll_back(fired) > 0,
        };
        if seen {
            self.injector.observed(fired.plan);
        }
    }

    /// N20: the server forgets the host's locks; the holder goes on, or its descriptors answer an error.
    fn drop_lease(&mut self, host: HostId, fired: &Fired) -> bool {
        let locked: Vec<_> = self.hosts[host].handles.values().map(|handle| handle.ino).collect();
        let locked: Vec<_> = locked.into_iter().filter(|&ino| self.server.locks.host_holds(ino, host)).collect();
        let lost = self.server.expire_lease(host);
        if let Some(errno) = fired.fault.errno.as_deref().and_then(Errno::from_name) {
            self.kill_handles(host, errno, |ino| locked.contains(&ino));
        }
        lost > 0
    }

    /// S6, F4: every descriptor of the host is dead, its locks are gone, and so is what it had not written.
    fn lose_session(&mut self, host: HostId, errno: Errno) -> bool {
        let dead = self.kill_handles(host, errno, |_| true);
        let unsaved = self.hosts[host].files.values().any(super::super::client::CachedFile::has_unsaved);
        self.hosts[host].files.values_mut().for_each(super::super::client::CachedFile::forget);
        let locks = self.server.expire_lease(host);
        dead > 0 || unsaved || locks > 0
    }

    fn roll_back(&mut self, fired: &Fired) -> usize {
        let Some(image) = self.images.get(&fired.plan).cloned() else { return 0 };
        self.server.roll_back(&image, fired.fault.path.as_deref())
    }
}
