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
mod net;
mod pages;
mod play;
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
pub use net::Blow;
pub use profile::Profile;
pub use rpc::{Attr, Ino, Kind, ROOT};
pub use server::{Loss, Restarted};

use catalogue::Act;
use client::CachedFile;
use faults::Injector;
use locks::LockTable;
use names::CachedDir;
use net::{Later, Partition, Staged};
use rng::Rng;
use rpc::Rpc;
use server::{Image, Server};

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
    /// What it caches at all.
    rules: Rules,
    /// It has no power until then.
    down_until: Option<u64>,
    cut: Option<Partition>,
    /// Requests fail or are slow until then, by this fault.
    burst: Option<(u64, usize)>,
    clock: HostClock,
    /// The fault that changed its clock and was not seen yet.
    clock_fault: Option<usize>,
    /// The fault by which it believes what it is about to answer.
    believed: Option<usize>,
    /// An open that is to be refused a second time.
    refuse_again: Option<Rpc>,
    staged: Vec<Staged>,
    /// The steps that the call with this number has made, with their answers.
    trail: (u64, Vec<(Rpc, Outcome<rpc::Reply>)>),
    trips: Trips,
    /// Files renamed away because they were removed while open, with the folder and name they have now.
    silly: BTreeMap<Ino, (Ino, String)>,
}

/// What a host caches at all. At first as the profile says; planning a fault of a cache gives a host that cache.
#[derive(Clone, Copy, Debug)]
struct Rules {
    pages: bool,
    names: bool,
    listings: bool,
    silly_rename: bool,
}

/// A host's clock, against the drive's.
#[derive(Clone, Copy, Debug, Default)]
struct HostClock {
    offset_ns: i64,
    drift_ppm: i64,
    since_ns: u64,
}

impl HostClock {
    fn offset_ns(self, now_ns: u64) -> i64 {
        let passed = i128::from(now_ns.saturating_sub(self.since_ns));
        let drifted = passed * i128::from(self.drift_ppm) / 1_000_000;
        i64::try_from(i128::from(self.offset_ns) + drifted).unwrap_or(i64::MAX)
    }
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
    /// What the network delivers and the server does later.
    late: Vec<(u64, Later)>,
    /// Who makes the present call, so that the same call is known when it is made again.
    caller: u64,
    callers: u64,
    /// What happens to the process that made the present call.
    blow: Option<Blow>,
    /// New locks and opens wait until then, or get an error.
    grace: Option<(u64, Option<Errno>, usize)>,
    /// Paths that somebody elsewhere holds, until when.
    held: BTreeMap<String, u64>,
    /// Conflicted copies: where a host's changes of a file go.
    copies: BTreeMap<(HostId, Ino), Ino>,
    /// What a fault rolls the drive back to, by its place in the plan.
    images: BTreeMap<usize, Image>,
    /// What the present call must wait for in all.
    delay_ns: u64,
    local_locks: BTreeSet<HostId>,
}

impl Drive {
    /// A drive with nothing on it.
    #[must_use]
    pub fn new(profile: Profile, hosts: &[&str], seed: u64, clock: Clock) -> Drive {
        let rng = Rng::new(seed);
        let hosts: Vec<Host> = hosts.iter().map(|name| Host::new(name, &profile)).collect();
        let local_locks = if profile.local_locks { (0..hosts.len()).collect() } else { BTreeSet::new() };
        let mut server = Server::new(profile.capacity_mib << 20);
        server.set_nature(profile.time_step_ns, profile.keep_unlinked);
        let nature = profile.nature.clone();
        let mut drive = Drive {
            server,
            injector: Injector::new(rng.fork(1)),
            rng: rng.fork(2),
            hosts,
            profile,
            clock,
            next_handle: 1,
            late: Vec::new(),
            caller: 0,
            callers: 0,
            blow: None,
            grace: None,
            held: BTreeMap::new(),
            copies: BTreeMap::new(),
            images: BTreeMap::new(),
            delay_ns: 0,
            local_locks,
        };
        for fault in nature {
            // A profile was checked when it was read; one made in code that is wrong has no such nature.
            let _ = drive.plan(fault, true);
        }
        drive
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
        self.happen_due();
    }

    /// A number for a caller that has none.
    pub fn new_caller(&mut self) -> u64 {
        self.callers += 1;
        self.callers
    }

    /// Who makes the next call: the same number when the same call is made again after a stall.
    pub fn begin(&mut self, caller: u64) {
        self.caller = caller;
        self.injector.take_met();
    }

    /// What happens to the process that made the last call, if anything does.
    pub fn take_blow(&mut self) -> Option<Blow> {
        self.blow.take()
    }

    /// The faults that the requests of the last call met, by their numbers, and those by which it was answered from a stale cache.
    pub fn take_met(&mut self) -> Vec<&'static str> {
        self.injector.take_met()
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
        self.plan(fault, false)
    }

    fn plan(&mut self, fault: Fault, natural: bool) -> Result<(), String> {
        let entry = fault.check()?;
        if let Some(name) = &fault.host
            && self.host(name).is_none()
        {
            return Err(format!("{} ({}): there is no host {name:?}; there are {}", entry.id, entry.name, self.host_names().join(", ")));
        }
        for host in self.hosts.iter_mut().filter(|host| fault.host.as_ref().is_none_or(|name| *name == host.name)) {
            let everything = matches!(entry.id, "F6" | "O6");
            host.rules.pages |= matches!(entry.act, Act::BelieveAttributes | Act::BelieveOnOpen | Act::LoseUpload);
            host.rules.names |= matches!(entry.act, Act::BelieveName | Act::BelieveOnOpen) || everything;
            host.rules.listings |= entry.act == Act::BelieveListing || everything;
        }
        if entry.act == Act::MixVersions {
            self.server.keep_previous();
        }
        let plan = self.injector.add(fault, natural)?;
        if entry.act == Act::RollBack {
            self.images.insert(plan, self.server.image());
        }
        Ok(())
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
        self.grace = None;
        self.held.clear();
        for host in &mut self.hosts {
            host.cut = None;
            host.burst = None;
            host.clock = HostClock::default();
        }
        self.release_staged();
    }

    /// Faults so far, by name.
    #[must_use]
    pub fn fault_counts(&self) -> BTreeMap<String, FaultCount> {
        self.injector.counts()
    }

    /// Faults so far, by name and by the kind of request that they met.
    #[must_use]
    pub fn fault_counts_by_op(&self) -> Vec<(&'static str, Kind, FaultCount)> {
        self.injector.counts_by_op()
    }

    /// N11, N12: the server restarts. Content that was not stable is lost as `loss` says; locks are gone (N20).
    pub fn restart(&mut self, loss: Loss) -> Restarted {
        let log = self.server.restart(loss, &mut self.rng);
        for plan in log.lies {
            self.injector.observed(plan);
        }
        let done = log.done;
        self.injector.note("N12", done.writes_lost > 0);
        if done.locks_lost > 0 {
            self.injector.note("N20", true);
        }
        done
    }

    /// U7: a host has no connection for so long (`None`: until [`Drive::heal`]).
    pub fn cut(&mut self, host: HostId, ms: Option<u64>) {
        let until = ms.map_or(u64::MAX, |ms| self.now() + ms * 1_000_000);
        self.hosts[host].cut = Some(Partition { until, requests: true, replies: true });
        self.injector.note("U7", true);
    }

    /// N20: the server forgets a host's locks, as when its lease ran out; the host goes on. Says how many there were.
    pub fn expire_lease(&mut self, host: HostId) -> usize {
        let lost = self.server.expire_lease(host);
        self.injector.note("N20", lost > 0);
        lost
    }

    /// N24: a host's clock steps, and from now on drifts, against the drive's.
    pub fn skew_clock(&mut self, host: HostId, step_ms: i64, drift_ppm: i64) {
        let now = self.now();
        let clock = &mut self.hosts[host].clock;
        let offset_ns = clock.offset_ns(now).saturating_add(step_ms.saturating_mul(1_000_000));
        *clock = HostClock { offset_ns, drift_ppm, since_ns: now };
    }

    /// By how much a host's clock is ahead of the drive's, in nanoseconds. The host has looked at it now.
    pub fn clock_offset(&mut self, host: HostId) -> i64 {
        let offset = self.hosts[host].clock.offset_ns(self.now());
        if offset != 0
            && let Some(plan) = self.hosts[host].clock_fault.take()
        {
            self.injector.observed(plan);
        }
        offset
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
        crashed.down_until = Some(u64::MAX);
        crashed.staged.clear();
        for handle in crashed.handles.values_mut() {
            handle.dead = Some(Errno::ESTALE);
        }
        self.server.close_all(host);
        self.server.expire_lease(host);
        self.injector.note("crash", dirty);
    }

    /// A crashed host is back, with empty caches.
    pub fn boot(&mut self, host: HostId) {
        self.hosts[host].down_until = None;
    }

    /// Bytes on the server that a restart could lose.
    #[must_use]
    pub fn unstable_bytes(&self) -> usize {
        self.server.unstable_bytes()
    }
}

impl Host {
    fn new(name: &str, profile: &Profile) -> Host {
        Host {
            name: name.to_owned(),
            files: BTreeMap::new(),
            dirs: BTreeMap::new(),
            handles: BTreeMap::new(),
            locks: LockTable::default(),
            rules: Rules { pages: profile.pages, names: profile.names, listings: profile.listings, silly_rename: profile.silly_rename },
            down_until: None,
            cut: None,
            burst: None,
            clock: HostClock::default(),
            clock_fault: None,
            believed: None,
            refuse_again: None,
            staged: Vec::new(),
            trail: (0, Vec::new()),
            trips: Trips::default(),
            silly: BTreeMap::new(),
        }
    }
}
