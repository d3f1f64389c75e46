//! A simulated network drive: one server, any number of client hosts, and the network between them.
//!
//! The drive is pure: it does no I/O and starts no threads, and its only sources of chance and time are a seed and a clock
//! that the caller moves ([`Clock::Virtual`]) or that reads the machine's ([`Clock::Wall`]). The same calls with the same
//! seed in virtual time give the same answers, bit for bit.
//!
//! * [`server`]: what is on the drive, volatile and durable, and its restarts.
//! * `client`, `names`: what a host caches (pages, attributes, names, also absent ones, listings), close-to-open, when it
//!   writes back, and so what a process on that host sees. Modelled on the Linux NFSv4.2 client.
//! * [`faults`]: what goes wrong between them.
//! * [`handle`]: the drive as a Rust API with paths and descriptors. The FUSE front (`crate::fuse`) is the other front.
//!
//! Round trips are counted as that client would make them, by [`rpc::Kind`]. A LOOKUP that the real client would have
//! spared is taken back out of the count when the next call shows it: Linux opens, creates, links, makes folders and renames
//! onto a name without asking first (the kernel passes `LOOKUP_OPEN`, `LOOKUP_EXCL` or `LOOKUP_RENAME_TARGET` to the file system,
//! which FUSE does not pass on). Those spared before a LINK are kept in a column of their own,
//! so that a total with them can be given too.

pub mod catalogue;
mod client;
pub mod errno;
pub mod faults;
pub mod handle;
pub mod locks;
mod names;
mod pages;
pub mod profile;
pub mod rng;
pub mod rpc;
pub mod server;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

pub use catalogue::Phase;
pub use client::{Flushed, OpenMode, Opened};
pub use errno::Errno;
pub use faults::{Apply, Fault, FaultCount, Happened, Plan, Stage};
pub use handle::DriveHandle;
pub use names::Purpose;
pub use profile::Profile;
pub use rpc::{Attr, Ino, Kind, ROOT};
pub use server::{Loss, Restarted};

use catalogue::Act;
use client::CachedFile;
use faults::injector::Meeting;
use faults::{Fired, Injector};
use locks::LockTable;
use names::CachedDir;
use rng::Rng;
use rpc::{Reply, Rpc};
use server::Server;

/// Faults of requests that are played so far.
fn is_played(act: Act) -> bool {
    matches!(act, Act::Delay | Act::Withhold | Act::Redo | Act::Duplicate | Act::Fail | Act::FailWrite | Act::Stale | Act::Flip)
}

/// The number of a host.
pub type HostId = usize;

/// Why a call did not succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fail {
    /// It failed.
    Errno(Errno),
    /// The server does not answer: nothing was done by this step; make the same call again.
    Stall,
}

impl From<Errno> for Fail {
    fn from(errno: Errno) -> Fail {
        Fail::Errno(errno)
    }
}

/// The answer of a call on the drive.
pub type Outcome<T> = Result<T, Fail>;

/// Where time comes from.
#[derive(Clone, Copy, Debug)]
pub enum Clock {
    /// Nanoseconds since the drive began; moves only by delays and by [`Drive::advance`].
    Virtual(u64),
    /// The machine's clock since this moment.
    Wall(Instant),
}

/// Round trips, by kind and those spared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trips {
    /// Made, as the real client would.
    pub made: BTreeMap<Kind, u64>,
    /// LOOKUPs spared before a LINK.
    pub lookup_before_link: u64,
}

impl Trips {
    /// All that were made.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.made.values().sum()
    }

    /// What was made since an earlier count.
    #[must_use]
    pub fn since(&self, earlier: &Trips) -> Trips {
        let less = |kind: &Kind| earlier.made.get(kind).copied().unwrap_or(0);
        let made = self.made.iter().map(|(kind, n)| (*kind, n - less(kind))).filter(|(_, n)| *n > 0).collect();
        Trips { made, lookup_before_link: self.lookup_before_link - earlier.lookup_before_link }
    }
}

/// A client host.
#[derive(Debug)]
struct Host {
    name: String,
    files: BTreeMap<Ino, CachedFile>,
    dirs: BTreeMap<Ino, CachedDir>,
    handles: BTreeMap<u64, client::Handle>,
    locks: LockTable,
    down: bool,
    cut_until: Option<u64>,
    trips: Trips,
    /// Files renamed away because they were removed while open, with the folder and name they have now.
    silly: BTreeMap<Ino, (Ino, String)>,
}

/// The drive.
#[derive(Debug)]
pub struct Drive {
    profile: Profile,
    clock: Clock,
    server: Server,
    hosts: Vec<Host>,
    injector: Injector,
    rng: Rng,
    next_handle: u64,
    /// Requests that the network will deliver later.
    late: Vec<(u64, Rpc)>,
    /// What the present call must wait for in all.
    delay_ns: u64,
    local_locks: BTreeSet<HostId>,
}

impl Drive {
    /// A drive with nothing on it.
    #[must_use]
    pub fn new(profile: Profile, hosts: &[&str], seed: u64, clock: Clock) -> Drive {
        let rng = Rng::new(seed);
        let hosts: Vec<Host> = hosts.iter().map(|name| Host::new(name)).collect();
        let local_locks = if profile.local_locks { (0..hosts.len()).collect() } else { BTreeSet::new() };
        Drive {
            server: Server::new(profile.capacity_mib << 20),
            injector: Injector::new(rng.fork(1)),
            rng: rng.fork(2),
            hosts,
            profile,
            clock,
            next_handle: 1,
            late: Vec::new(),
            delay_ns: 0,
            local_locks,
        }
    }

    /// Nanoseconds since the drive began.
    #[must_use]
    pub fn now(&self) -> u64 {
        match self.clock {
            Clock::Virtual(now) => now,
            Clock::Wall(start) => u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX),
        }
    }

    /// Lets virtual time pass.
    pub fn advance(&mut self, ns: u64) {
        if let Clock::Virtual(now) = &mut self.clock {
            *now += ns;
        }
        self.deliver_late();
    }

    /// Sets virtual time, back too: for a scheduler that gives each process a time of its own and lets the one that is least far go on.
    pub fn set_now(&mut self, ns: u64) {
        if let Clock::Virtual(now) = &mut self.clock {
            *now = ns;
        }
    }

    /// What the calls since the last asking must be delayed by. In virtual time it has passed already.
    pub fn take_delay(&mut self) -> u64 {
        let delay = std::mem::take(&mut self.delay_ns);
        match self.clock {
            Clock::Virtual(_) => {
                self.advance(delay);
                0
            }
            Clock::Wall(_) => delay,
        }
    }

    /// The number of a host's name.
    #[must_use]
    pub fn host(&self, name: &str) -> Option<HostId> {
        self.hosts.iter().position(|host| host.name == name)
    }

    /// The hosts' names in order.
    #[must_use]
    pub fn host_names(&self) -> Vec<String> {
        self.hosts.iter().map(|host| host.name.clone()).collect()
    }

    /// Round trips of a host so far.
    #[must_use]
    pub fn trips(&self, host: HostId) -> Trips {
        self.hosts[host].trips.clone()
    }

    /// Adds a fault.
    ///
    /// # Errors
    /// It names something unknown.
    pub fn add_fault(&mut self, fault: Fault) -> Result<(), String> {
        let entry = fault.check()?;
        if !is_played(entry.act) || fault.at_ms.is_some() {
            return Err(format!("the drive cannot play {} ({}) in this way yet", entry.id, entry.name));
        }
        self.injector.add(fault, false).map(drop)
    }

    /// Each fault of the plan, in its order, and what became of it.
    #[must_use]
    pub fn planned_faults(&self) -> Vec<(Fault, FaultCount)> {
        self.injector.planned()
    }

    /// The faults that a plan requires and that no client ever could see: a run with one of them shows nothing.
    #[must_use]
    pub fn unobserved(&self) -> Vec<Fault> {
        let unseen = |(fault, count): (Fault, FaultCount)| (fault.required && count.observable == 0).then_some(fault);
        self.injector.planned().into_iter().filter_map(unseen).collect()
    }

    /// The log of faults: planned, fired and observable, the newest lines of it.
    #[must_use]
    pub fn fault_log(&self) -> Vec<Happened> {
        self.injector.log()
    }

    /// From now on nothing goes wrong: faults, cuts and a full drive end. Locks that are local stay so.
    pub fn heal(&mut self) {
        self.injector.clear();
        self.server.set_capacity(self.profile.capacity_mib << 20);
        for host in &mut self.hosts {
            host.cut_until = None;
        }
    }

    /// Faults so far, by name.
    #[must_use]
    pub fn fault_counts(&self) -> BTreeMap<String, FaultCount> {
        self.injector.counts()
    }

    /// N11, N12: the server restarts. Content that was not stable is lost as `loss` says; locks are gone (N20).
    pub fn restart(&mut self, loss: Loss) -> Restarted {
        let done = self.server.restart(loss, &mut self.rng);
        self.injector.note("N12", done.writes_lost > 0);
        if done.locks_lost > 0 {
            self.injector.note("N20", true);
        }
        done
    }

    /// U7: a host has no connection for so long (`None`: until [`Drive::heal`]).
    pub fn cut(&mut self, host: HostId, ms: Option<u64>) {
        let until = ms.map_or(u64::MAX, |ms| self.now() + ms * 1_000_000);
        self.hosts[host].cut_until = Some(until);
        self.injector.note("U7", true);
    }

    /// N20: the server forgets a host's locks, as when its lease ran out; the host goes on. Says how many there were.
    pub fn expire_lease(&mut self, host: HostId) -> usize {
        let lost = self.server.expire_lease(host);
        self.injector.note("N20", lost > 0);
        lost
    }

    /// N21: a host grants locks by itself from now on.
    pub fn make_locks_local(&mut self, host: HostId) {
        self.local_locks.insert(host);
    }

    /// N15: leaves so much free space (`None`: the drive's own size).
    pub fn limit_space(&mut self, free: Option<u64>) {
        let space = self.server.space();
        let capacity = free.map_or(self.profile.capacity_mib << 20, |free| space.total - space.free + free);
        self.server.set_capacity(capacity);
    }

    /// The host loses power: what it had not written is gone, every descriptor is dead, and it stays away until
    /// [`Drive::boot`]. Its locks go with its lease.
    pub fn crash(&mut self, host: HostId) {
        let dirty = self.hosts[host].files.values().any(|file| file.has_unsaved());
        let crashed = &mut self.hosts[host];
        crashed.files.clear();
        crashed.dirs.clear();
        crashed.silly.clear();
        crashed.locks = LockTable::default();
        crashed.down = true;
        for handle in crashed.handles.values_mut() {
            handle.stale = true;
        }
        self.server.expire_lease(host);
        self.injector.note("crash", dirty);
    }

    /// A crashed host is back, with empty caches.
    pub fn boot(&mut self, host: HostId) {
        self.hosts[host].down = false;
    }

    /// Bytes on the server that a restart could lose.
    #[must_use]
    pub fn unstable_bytes(&self) -> usize {
        self.server.unstable_bytes()
    }

    /// One round trip, with whatever the plan has for it.
    fn call(&mut self, host: HostId, rpc: Rpc) -> Outcome<Reply> {
        if self.hosts[host].down {
            return Err(Errno::EIO.into());
        }
        let now = self.now();
        match self.hosts[host].cut_until {
            Some(until) if now < until => return Err(Fail::Stall),
            _ => self.hosts[host].cut_until = None,
        }
        self.deliver_late();
        self.server.set_now(now);
        let kind = rpc.kind();
        *self.hosts[host].trips.made.entry(kind).or_default() += 1;
        self.delay_ns += self.profile.rtt_us * 1000;
        let path = self.path_of(&rpc);
        self.injector.set_now(now);
        // An open that creates nothing is no change, whatever is planned for changes.
        let changes = !matches!(rpc, Rpc::Open { create: None, .. } | Rpc::OpenHandle { .. });
        let Some(fired) = self.meet(now, host, kind, &path, changes) else {
            return self.serve(&rpc);
        };
        self.delay_ns += fired.delay_ns;
        self.play(host, rpc, &fired)
    }

    /// The first planned fault that meets a request.
    fn meet(&mut self, now_ns: u64, host: HostId, kind: Kind, path: &str, changes: bool) -> Option<Fired> {
        let name = self.hosts[host].name.clone();
        let at = Meeting { now_ns, host: &name, kind, path };
        let found = self.injector.candidates(&at, |entry| changes || entry.id != "U10");
        found.into_iter().find_map(|(plan, _)| self.injector.fire(plan, &at))
    }

    fn play(&mut self, host: HostId, rpc: Rpc, fired: &Fired) -> Outcome<Reply> {
        let now = self.now();
        match fired.entry.act {
            Act::Redo => {
                let first = self.serve(&rpc);
                let second = self.serve(&rpc);
                if first.is_ok() != second.is_ok() {
                    self.injector.observed(fired.plan);
                }
                second
            }
            Act::Duplicate => {
                self.late.push((now + fired.delay_ns.max(1), rpc.clone()));
                self.delay_ns -= fired.delay_ns;
                self.injector.observed(fired.plan);
                self.serve(&rpc)
            }
            Act::Fail | Act::FailWrite => {
                self.injector.observed(fired.plan);
                let usual = match fired.entry.id {
                    "N15" => Errno::ENOSPC,
                    "U10" => Errno::EROFS,
                    _ => Errno::EIO,
                };
                let errno = fired.fault.errno.as_deref().and_then(Errno::from_name).unwrap_or(usual);
                match fired.fault.applies(fired.entry) {
                    _ if fired.entry.act == Act::FailWrite => {}
                    // The host never learns what came of it.
                    Apply::Before => drop(self.serve(&rpc)),
                    Apply::Later => {
                        self.late.push((now + fired.delay_ns.max(1), rpc));
                        self.delay_ns -= fired.delay_ns;
                    }
                    Apply::Never | Apply::Phase => {}
                }
                Err(errno.into())
            }
            Act::Stale => self.go_stale(host, &rpc, fired.plan),
            Act::Flip => {
                let mut reply = self.serve(&rpc);
                if let Ok(Reply::Data { bytes, .. }) = &mut reply
                    && !bytes.is_empty()
                {
                    let bit = self.rng.below(bytes.len() as u64 * 8);
                    bytes[(bit / 8) as usize] ^= 1 << (bit % 8);
                    self.injector.observed(fired.plan);
                }
                reply
            }
            _ => {
                if fired.delay_ns > 0 {
                    self.injector.observed(fired.plan);
                }
                self.serve(&rpc)
            }
        }
    }

    fn serve(&mut self, rpc: &Rpc) -> Outcome<Reply> {
        let answer = self.server.apply(rpc);
        if matches!(answer, Err(Errno::ENOSPC)) {
            self.injector.note("N15", true);
        }
        answer.map_err(Fail::Errno)
    }

    /// N16: the file's handle is refused from now on: every descriptor of the host is dead, its cache is void.
    fn go_stale(&mut self, host: HostId, rpc: &Rpc, plan: usize) -> Outcome<Reply> {
        let Some(ino) = rpc.handle() else { return self.serve(rpc) };
        self.injector.observed(plan);
        let host = &mut self.hosts[host];
        for handle in host.handles.values_mut().filter(|handle| handle.ino == ino) {
            handle.stale = true;
        }
        if let Some(file) = host.files.get_mut(&ino) {
            file.forget();
        }
        for dir in host.dirs.values_mut() {
            dir.forget_target(ino);
        }
        Err(Errno::ESTALE.into())
    }

    fn path_of(&self, rpc: &Rpc) -> String {
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

    fn deliver_late(&mut self) {
        if self.late.is_empty() {
            return;
        }
        let now = self.now();
        self.server.set_now(now);
        let mut due: Vec<(u64, Rpc)> = Vec::new();
        self.late.retain(|late| {
            if late.0 <= now {
                due.push(late.clone());
            }
            late.0 > now
        });
        due.sort_by_key(|late| late.0);
        for (_, rpc) in due {
            // Nobody waits for the answer.
            let _ = self.server.apply(&rpc);
        }
    }
}

impl Host {
    fn new(name: &str) -> Host {
        Host {
            name: name.to_owned(),
            files: BTreeMap::new(),
            dirs: BTreeMap::new(),
            handles: BTreeMap::new(),
            locks: LockTable::default(),
            down: false,
            cut_until: None,
            trips: Trips::default(),
            silly: BTreeMap::new(),
        }
    }
}
