//! The way of a request: from the host through the network to the server and back, with whatever the plan has for it.
//!
//! A request that must wait is *staged*: the call stalls, others go on meanwhile, and when the same call is made again after
//! its time, the request is carried out (it was on its way) or its answer is delivered (that was on its way).

use super::catalogue::{Act, Phase};
use super::faults::Fired;
use super::faults::injector::Meeting;
use super::locks::{Owner, Range};
use super::rpc::{Ino, Kind, Reply, Rpc};
use super::server::Loss;
use super::{Drive, Errno, Fail, HostId, Outcome};

/// A delay of at least this much can be seen by a client.
const NOTICED_NS: u64 = 1_000_000;

/// What happens to the process that made a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blow {
    /// It is killed.
    Kill,
    /// It is stopped for so many nanoseconds.
    Pause(u64),
}

/// What a host cannot do for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Partition {
    pub(super) until: u64,
    pub(super) requests: bool,
    pub(super) replies: bool,
}

/// What is left to do of a request that waits.
#[derive(Clone, Debug)]
pub(super) enum Rest {
    /// Carry it out.
    Serve,
    /// Deliver this answer.
    Deliver(Outcome<Reply>),
    /// Carry these out, then deliver the answer to the last of them.
    Finish(Vec<Rpc>),
    /// Carry this removal out, and say that it was a rename.
    RemoveOld(Rpc),
    /// Give a file that has no name this name, and say that it was renamed.
    Attach(Ino, Ino, String),
}

/// A request on its way.
#[derive(Clone, Debug)]
pub(super) struct Staged {
    caller: u64,
    rpc: Rpc,
    due: u64,
    rest: Rest,
}

/// What the server does later by itself.
#[derive(Clone, Debug)]
pub(super) enum Later {
    /// Carries out a request of a host that was on its way for long.
    Serve(HostId, Rpc),
    /// Restarts.
    Restart(Loss),
    /// A removed file is back.
    BringBack(Ino, String, Box<super::server::Node>, usize),
}

impl Drive {
    /// One round trip, with whatever the plan has for it.
    pub(super) fn call(&mut self, host: HostId, rpc: Rpc) -> Outcome<Reply> {
        let now = self.now();
        self.injector.set_now(now);
        self.happen_due();
        self.reach(host)?;
        self.server.set_now(now);
        if let Some(at) = self.hosts[host].staged.iter().position(|it| it.caller == self.caller && it.rpc == rpc) {
            return self.resume(host, at);
        }
        let kind = rpc.kind();
        if let Some(answer) = self.hindered(host, &rpc, kind) {
            return answer;
        }
        if let Some(answer) = self.answered_before(host, &rpc) {
            return answer;
        }
        if self.is_refused_again(host, &rpc) {
            return Err(Errno::ESTALE.into());
        }
        *self.hosts[host].trips.made.entry(kind).or_default() += 1;
        self.delay_ns += self.profile.rtt_us * 1000;
        if !self.injector.is_armed() {
            return self.serve(host, &rpc);
        }
        let step = matches!(kind, Kind::Lookup | Kind::Getattr | Kind::Access).then(|| rpc.clone());
        let answer = match self.meet(host, &rpc) {
            None => self.serve(host, &rpc),
            Some(fired) => self.play(host, rpc, &fired),
        };
        if let Some(step) = step {
            self.remember_step(host, step, &answer);
        }
        answer
    }

    /// Whether the present call waits for a request of its own: what it learned on the way there still counts for it.
    pub(super) fn is_resuming(&self, host: HostId) -> bool {
        self.caller != 0 && self.hosts[host].staged.iter().any(|staged| staged.caller == self.caller)
    }

    fn answered_before(&self, host: HostId, rpc: &Rpc) -> Option<Outcome<Reply>> {
        if !self.is_resuming(host) || self.hosts[host].trail.0 != self.caller {
            return None;
        }
        self.hosts[host].trail.1.iter().find(|(step, _)| step == rpc).map(|(_, answer)| answer.clone())
    }

    fn remember_step(&mut self, host: HostId, step: Rpc, answer: &Outcome<Reply>) {
        let caller = self.caller;
        let trail = &mut self.hosts[host].trail;
        if trail.0 != caller {
            *trail = (caller, Vec::new());
        }
        trail.1.push((step, answer.clone()));
    }

    /// Whether a request of the host gets through.
    pub(super) fn reach(&mut self, host: HostId) -> Outcome<()> {
        let now = self.now();
        match self.hosts[host].down_until {
            Some(until) if now < until => return Err(Errno::EIO.into()),
            _ => self.hosts[host].down_until = None,
        }
        match self.hosts[host].cut {
            Some(cut) if now < cut.until && cut.requests => {
                self.injector.meet("U7");
                Err(Fail::Stall)
            }
            Some(cut) if now < cut.until => Ok(()),
            _ => {
                self.hosts[host].cut = None;
                Ok(())
            }
        }
    }

    /// What else is the matter for a while: a grace period, a burst of errors, a file that somebody holds.
    fn hindered(&mut self, host: HostId, rpc: &Rpc, kind: Kind) -> Option<Outcome<Reply>> {
        let now = self.now();
        if let Some((until, errno, plan)) = self.grace {
            if now >= until {
                self.grace = None;
            } else if matches!(kind, Kind::Lock | Kind::Open) {
                self.injector.observed(plan);
                return Some(Err(errno.map_or(Fail::Stall, Fail::Errno)));
            }
        }
        if let Some((until, plan)) = self.hosts[host].burst {
            if now >= until {
                self.hosts[host].burst = None;
            } else {
                self.injector.observed(plan);
                if self.rng.chance(0.5) {
                    return Some(Err(Errno::EIO.into()));
                }
                self.delay_ns += 100 * NOTICED_NS;
            }
        }
        if !self.held.is_empty() && matches!(kind, Kind::Open | Kind::Remove | Kind::Rename) {
            let path = self.path_of(rpc);
            if self.held.get(&path).is_some_and(|&until| now < until) {
                return Some(Err(Errno::EBUSY.into()));
            }
            self.held.retain(|_, until| now < *until);
        }
        None
    }

    /// The same call is made again: is its request, or its answer, there by now?
    fn resume(&mut self, host: HostId, at: usize) -> Outcome<Reply> {
        if self.now() < self.hosts[host].staged[at].due {
            return Err(Fail::Stall);
        }
        let staged = self.hosts[host].staged.remove(at);
        match staged.rest {
            Rest::Serve => self.serve(host, &staged.rpc),
            Rest::Deliver(answer) => answer,
            Rest::Finish(rest) => {
                let mut last = Err(Errno::EIO.into());
                for rpc in rest {
                    last = self.serve(host, &rpc);
                }
                last
            }
            Rest::RemoveOld(removal) => {
                self.serve(host, &removal)?;
                self.renamed(&staged.rpc)
            }
            Rest::Attach(ino, dir, name) => {
                self.server.attach(dir, &name, ino);
                self.renamed(&staged.rpc)
            }
        }
    }

    /// Puts a request aside until a time.
    pub(super) fn stage(&mut self, host: HostId, rpc: Rpc, due: u64, rest: Rest) -> Outcome<Reply> {
        self.hosts[host].staged.push(Staged { caller: self.caller, rpc, due, rest });
        Err(Fail::Stall)
    }

    /// What waits goes on at once.
    pub(super) fn release_staged(&mut self) {
        for host in &mut self.hosts {
            host.staged.iter_mut().for_each(|staged| staged.due = 0);
        }
    }

    /// The delays of a request, and the first other fault that meets it.
    fn meet(&mut self, host: HostId, rpc: &Rpc) -> Option<Fired> {
        let name = self.hosts[host].name.clone();
        let path = self.path_of(rpc);
        let at = Meeting { now_ns: self.now(), host: &name, kind: rpc.kind(), path: &path };
        let mut other = None;
        for (plan, entry) in self.injector.candidates(&at, |act| !act.is_of_the_host()) {
            let is_delay = entry.act == Act::Delay;
            if other.is_some() && !is_delay || !self.holds(host, entry, rpc) {
                continue;
            }
            if entry.act == Act::RollBack && self.injector.is_new(plan) {
                // What it is rolled back to is the drive as the first request found it that is let pass.
                self.images.insert(plan, self.server.image());
            }
            let Some(fired) = self.injector.fire(plan, &at) else { continue };
            if is_delay && !fired.is_before() {
                self.slow_down(rpc, &fired);
            } else if other.is_none() {
                other = Some(fired);
            }
        }
        other
    }

    /// Lets an answer take longer.
    fn slow_down(&mut self, rpc: &Rpc, fired: &Fired) {
        let bytes = match rpc {
            Rpc::Write { data, .. } => data.len(),
            Rpc::Read { len, .. } => *len,
            _ => 100,
        };
        let transfer = (bytes as u64 * 1_000_000_000).checked_div(fired.fault.bandwidth).unwrap_or(0);
        let delay = fired.delay_ns + transfer;
        self.delay_ns += delay;
        if delay >= NOTICED_NS {
            self.injector.observed(fired.plan);
        }
    }

    /// A fault of the host itself, before anything leaves it; the condition is the caller's.
    pub(super) fn meet_on_host(&mut self, host: HostId, kind: Kind, ino: Ino, acts: &[Act]) -> Option<Fired> {
        if !self.is_planned(acts) {
            return None;
        }
        let path = self.server.path(ino).to_owned();
        self.meet_path_on_host(host, kind, &path, acts)
    }

    /// The same for a path.
    pub(super) fn meet_path_on_host(&mut self, host: HostId, kind: Kind, path: &str, acts: &[Act]) -> Option<Fired> {
        if !self.is_planned(acts) {
            return None;
        }
        let name = self.hosts[host].name.clone();
        let at = Meeting { now_ns: self.now(), host: &name, kind, path };
        let found = self.injector.candidates(&at, |act| acts.contains(&act));
        found.into_iter().find_map(|(plan, _)| self.injector.fire(plan, &at))
    }

    /// Whether a fault is planned that works in one of these ways.
    pub(super) fn is_planned(&self, acts: &[Act]) -> bool {
        self.injector.any(|act| acts.contains(&act))
    }

    /// The server carries a request out.
    pub(super) fn serve(&mut self, host: HostId, rpc: &Rpc) -> Outcome<Reply> {
        self.server.set_now(self.now());
        self.server.set_viewer(host);
        let answer = match self.diverted(host, rpc) {
            Some(diverted) => self.server.apply(&diverted),
            None => self.server.apply(rpc),
        };
        if matches!(answer, Err(Errno::ENOSPC)) {
            self.injector.note("N15", true);
        }
        for plan in self.server.take_shown() {
            self.injector.observed(plan);
        }
        answer.map_err(Fail::Errno)
    }

    /// Requests on a file of which this host has a conflicted copy go there.
    fn diverted(&self, host: HostId, rpc: &Rpc) -> Option<Rpc> {
        if self.copies.is_empty() {
            return None;
        }
        let to = *self.copies.get(&(host, rpc.handle()?))?;
        Some(match rpc.clone() {
            Rpc::Write { offset, data, stable, .. } => Rpc::Write { ino: to, offset, data, stable },
            Rpc::Commit { .. } => Rpc::Commit { ino: to },
            Rpc::Setattr { size, mode, mtime, .. } => Rpc::Setattr { ino: to, size, mode, mtime },
            other => other,
        })
    }

    /// What the server does by itself when its time has come, and the faults that need no request.
    pub(super) fn happen_due(&mut self) {
        let now = self.now();
        while let Some(fired) = self.injector.due(now) {
            self.happen_to_all(&fired);
        }
        if self.late.is_empty() {
            return;
        }
        self.server.set_now(now);
        let (mut due, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut self.late).into_iter().partition(|late| late.0 <= now);
        self.late = rest;
        due.sort_by_key(|late| late.0);
        for (_, later) in due {
            match later {
                Later::Serve(host, rpc) => {
                    self.server.set_viewer(host);
                    // Nobody waits for the answer.
                    let _ = self.server.apply(&rpc);
                }
                Later::Restart(loss) => drop(self.restart(loss)),
                Later::BringBack(dir, name, node, plan) => {
                    if self.server.bring_back(dir, &name, *node) {
                        self.injector.observed(plan);
                    }
                }
            }
        }
    }

    /// The path that a request is about.
    pub(super) fn path_of(&self, rpc: &Rpc) -> String {
        match rpc {
            Rpc::Lookup { dir, name }
            | Rpc::Open { dir, name, .. }
            | Rpc::Mkdir { dir, name, .. }
            | Rpc::Link { dir, name, .. }
            | Rpc::Remove { dir, name }
            | Rpc::Rmdir { dir, name } => self.server.child_path(*dir, name),
            Rpc::Rename { to_dir, to_name, .. } => self.server.child_path(*to_dir, to_name),
            Rpc::Access { ino } | Rpc::Close { ino } | Rpc::OpenHandle { ino } | Rpc::Readdir { dir: ino } => {
                self.server.path(*ino).to_owned()
            }
            Rpc::Statfs => String::new(),
            _ => rpc.handle().map(|ino| self.server.path(ino).to_owned()).unwrap_or_default(),
        }
    }

    /// Whether a lock of another host covers a range.
    pub(super) fn is_locked_elsewhere(&self, host: HostId, ino: Ino, range: Range) -> bool {
        let nobody = Owner { host, id: u64::MAX, pid: 0 };
        let kind = super::locks::LockKind::Shared;
        self.server.locks.conflict(ino, nobody, range, kind).is_some_and(|(owner, _, _)| owner.host != host)
    }

    /// Which side of the request's way a phase is on, for faults that cut it.
    pub(super) fn partition(phase: Phase, until: u64) -> Partition {
        Partition { until, requests: phase <= Phase::P2, replies: phase == Phase::P1 || phase > Phase::P2 }
    }
}
