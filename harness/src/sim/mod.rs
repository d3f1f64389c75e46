//! The engine in this process, on the simulated drive, in virtual time: thousands of operations of several processes on
//! several hosts, interleaved at their I/O steps, with faults, kills, power cuts and restarts, from one seed.
//!
//! The record is judged by the same checks as that of real processes. An error that the engine calls certain counts as one:
//! should the operation have taken effect, it is caught.

mod vfs;

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use diskcache_core::chance::SeededChance;
use diskcache_core::format::Number;
use diskcache_core::{Cache, Error, KeyRef, Options, ProfileOverride, Put, Setting};

use crate::check::{self, Violation};
use crate::control::{self, Stats};
use crate::daemon::host_names;
use crate::drive::rng::Rng;
use crate::drive::{Apply, Clock, Drive, DriveHandle, Fault, Loss, Profile};
use crate::history::{Answer, Call, Op, Outcome, Read};
use crate::workload::{Generator, Workload};
use vfs::{Gate, SimClock, SimVfs, between_steps};

/// A call that takes longer than this, in virtual time, hung.
const LONGEST_US: u64 = 60_000_000;
const TIMEOUT: Duration = Duration::from_secs(10);
const ROOM: &str = "/cache";
/// How deep operations may interrupt each other.
const DEPTH: usize = 3;

/// What to simulate.
#[derive(Clone, Debug)]
pub struct Sim {
    /// Hosts.
    pub hosts: usize,
    /// Processes on each.
    pub procs: usize,
    /// Operations in all.
    pub ops: u64,
    /// Whether anything goes wrong.
    pub faults: bool,
    /// What the processes do.
    pub workload: Workload,
}

impl Default for Sim {
    fn default() -> Sim {
        let workload = Workload { keys: 20, sizes: vec![20, 100, 3000], ..Workload::default() };
        Sim { hosts: 2, procs: 2, ops: 2000, faults: true, workload }
    }
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Simulated {
    /// All calls.
    pub calls: Vec<Call>,
    /// What is wrong.
    pub violations: Vec<Violation>,
    /// Counts of the drive.
    pub stats: Stats,
    /// The history as one number.
    pub hash: u64,
    /// What would have been drawn next: two runs that drew differently on the way differ here.
    pub next_random: u64,
    /// The drive's clock at the end, in nanoseconds.
    pub clock: u64,
}

struct Life {
    cache: Cache,
    gate: Arc<Gate>,
    name: String,
}

struct Seat {
    host: usize,
    generator: Generator,
    life: Option<Life>,
    busy: bool,
}

struct World {
    drive: Arc<Mutex<Drive>>,
    hosts: Vec<String>,
    seats: Vec<Seat>,
    calls: Vec<Call>,
    rng: Rng,
    lives: u64,
    depth: usize,
    faults: bool,
    done: u64,
}

type Shared = Rc<RefCell<World>>;

/// Simulates from a seed.
#[must_use]
pub fn simulate(sim: &Sim, seed: u64) -> Simulated {
    let mut hosts = host_names(sim.hosts);
    hosts.push("host-fresh".to_owned());
    let names: Vec<&str> = hosts.iter().map(String::as_str).collect();
    let profile = Profile { rtt_us: 300, ..Profile::nfs4() };
    let drive = Arc::new(Mutex::new(Drive::new(profile, &names, seed, Clock::Virtual(0))));
    let root = Rng::new(seed);
    let seat = |number: usize| Seat {
        host: number / sim.procs,
        generator: Generator::new(&sim.workload, root.fork(100 + number as u64)),
        life: None,
        busy: false,
    };
    let world = World {
        seats: (0..sim.hosts * sim.procs).map(seat).collect(),
        calls: Vec::new(),
        rng: root.fork(1),
        lives: 0,
        depth: 0,
        faults: false,
        done: 0,
        drive,
        hosts,
    };
    let world = Rc::new(RefCell::new(world));
    start(&world, 0);
    if sim.faults {
        arm(&world);
    }
    while world.borrow().done < sim.ops {
        turn(&world);
    }
    world.borrow_mut().faults = false;
    lock(&world).heal();
    finish(&world, sim);
    let mut world = world.borrow_mut();
    let mut calls = std::mem::take(&mut world.calls);
    calls.sort_by_key(|call| call.start);
    let working = &world.hosts[..sim.hosts];
    let mut violations = check::check(&calls, working);
    for call in calls.iter().filter(|call| call.end - call.start > LONGEST_US) {
        let detail = format!("{} by {} took {} s of the drive's time", call.op.name(), call.process, (call.end - call.start) / 1_000_000);
        violations.push(Violation { wrong: check::Wrong::Hung, detail });
    }
    let stats = control::stats(&world.drive.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    let hash = crate::history::hash(&calls);
    let clock = world.drive.lock().unwrap_or_else(std::sync::PoisonError::into_inner).now();
    Simulated { calls, violations, stats, hash, next_random: world.rng.next_u64(), clock }
}

fn lock(world: &Shared) -> LockedDrive {
    LockedDrive(Arc::clone(&world.borrow().drive))
}

/// The drive, for one call: no borrow of the world is held meanwhile.
struct LockedDrive(Arc<Mutex<Drive>>);

impl LockedDrive {
    fn with<T>(&self, act: impl FnOnce(&mut Drive) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    fn heal(&self) {
        self.with(Drive::heal);
    }
}

fn now(world: &Shared) -> u64 {
    lock(world).with(|drive| drive.now()) / 1000
}

/// Faults of requests; those of processes and of the server come in [`misfortune`].
fn arm(world: &Shared) {
    let fault = |name: &str, probability| Fault { name: name.into(), probability, count: 0, ..Fault::default() };
    let plan = [
        fault("N7", 0.05),
        fault("N14", 0.004),
        fault("N16", 0.001),
        Fault { apply: Apply::Before, ..fault("N9", 0.002) },
        Fault { apply: Apply::Never, ..fault("N9", 0.002) },
        Fault { apply: Apply::Later, delay_ms: 400, jitter_ms: 3000, ..fault("N9", 0.001) },
        Fault { delay_ms: 20, jitter_ms: 300, ..fault("U8", 0.005) },
    ];
    for fault in plan {
        // All of them are known to the drive.
        let _ = lock(world).with(|drive| drive.add_fault(fault));
    }
    world.borrow_mut().faults = true;
}

/// One operation of a process that is free, and perhaps a misfortune.
fn turn(world: &Shared) {
    let free: Vec<usize> = {
        let world = world.borrow();
        (0..world.seats.len()).filter(|&seat| !world.seats[seat].busy).collect()
    };
    if free.is_empty() {
        return;
    }
    let seat = {
        let mut world = world.borrow_mut();
        free[world.rng.below(free.len() as u64) as usize]
    };
    if world.borrow().faults {
        misfortune(world, seat);
    }
    if world.borrow().seats[seat].life.is_none() {
        start(world, seat);
        return;
    }
    work(world, seat);
}

/// What happens to processes, hosts and the server.
fn misfortune(world: &Shared, seat: usize) {
    let (dice, steps, ms, host) = {
        let mut world = world.borrow_mut();
        (world.rng.below(1000), world.rng.below(30), world.rng.below(1500), world.seats[seat].host)
    };
    match dice {
        0..=7 => {
            if let Some(life) = &world.borrow().seats[seat].life {
                life.gate.die_after(steps);
            }
        }
        8..=9 => lock(world).with(|drive| {
            drive.restart(Loss::Some);
        }),
        10..=12 => lock(world).with(|drive| drive.cut(host, Some(ms))),
        13 => lock(world).with(|drive| {
            drive.expire_lease(host);
        }),
        // A host that loses power takes its processes with it; only when none of them is at work, so that none can go on.
        14 if world.borrow().seats.iter().all(|it| it.host != host || !it.busy) => {
            lock(world).with(|drive| drive.crash(host));
            let dead: Vec<Life> = {
                let mut world = world.borrow_mut();
                world.seats.iter_mut().filter(|it| it.host == host).filter_map(|it| it.life.take()).collect()
            };
            dead.iter().for_each(|life| life.gate.die());
            drop(dead);
            lock(world).with(|drive| drive.boot(host));
        }
        _ => {}
    }
}

fn options(chance: SeededChance) -> Options {
    let setting = |name: &str, value| (name.to_owned(), value);
    Options {
        timeout: TIMEOUT,
        profile: Some(ProfileOverride::Shared),
        settings: vec![
            setting("cull_limit", Setting::Int(0)),
            setting("size_limit", Setting::Int(1 << 40)),
            setting("eviction_policy", Setting::Text("none".into())),
        ],
        delta_entries_max: 64,
        // Checkpoints and folds come often, so that everything happens beside them.
        checkpoint_commits: 24,
        fold_commits: 40,
        // Threads of the engine's own would decide which request meets which fault.
        readers: 1,
        chance: Arc::new(chance),
        ..Options::default()
    }
}

fn open(world: &Shared, host: usize) -> (String, Arc<Gate>, Result<Cache, Error>) {
    let (drive, name, chance) = {
        let mut world = world.borrow_mut();
        world.lives += 1;
        let chance = SeededChance::new(world.rng.next_u64());
        (DriveHandle::new(Arc::clone(&world.drive), host), format!("{}.{}", world.hosts[host], world.lives), chance)
    };
    let gate = Gate::new();
    let vfs = Arc::new(SimVfs { drive: drive.clone(), gate: Arc::clone(&gate) });
    let cache = Cache::open_on(vfs, Arc::new(SimClock { drive, gate: Arc::clone(&gate) }), Path::new(ROOM), options(chance), 1);
    (name, gate, cache)
}

/// Starts a process. Until it is open nobody interrupts it.
fn start(world: &Shared, seat: usize) {
    let host = world.borrow().seats[seat].host;
    let began = now(world);
    let (name, gate, cache) = open(world, host);
    let outcome = match &cache {
        Ok(_) => Outcome::Ok(Answer::Done(true)),
        Err(error) => failure(error, &gate),
    };
    record(world, host, &name, Op::Open, began, outcome, false);
    let mut world = world.borrow_mut();
    world.done += 1;
    world.seats[seat].life = cache.ok().map(|cache| Life { cache, gate, name });
}

/// One operation of a process; others may come in between at each I/O step.
fn work(world: &Shared, seat: usize) {
    let (life, op, host) = {
        let mut world = world.borrow_mut();
        let seat = &mut world.seats[seat];
        let Some(life) = seat.life.take() else { return };
        seat.busy = true;
        (life, seat.generator.next_op(), seat.host)
    };
    world.borrow_mut().depth += 1;
    let outer = between_steps(Some(interruptions(world)));
    let began = now(world);
    let outcome = carry_out(&life, &op);
    between_steps(outer);
    record(world, host, &life.name, op, began, outcome, false);
    let dead = life.gate.is_dead();
    {
        let mut world = world.borrow_mut();
        world.depth -= 1;
        world.done += 1;
        world.seats[seat].busy = false;
    }
    if dead {
        drop(life);
    } else {
        world.borrow_mut().seats[seat].life = Some(life);
    }
}

fn interruptions(world: &Shared) -> Box<dyn FnMut()> {
    let world = Rc::clone(world);
    Box::new(move || {
        let come = {
            let mut world = world.borrow_mut();
            let come = world.rng.chance(0.15);
            come && world.depth < DEPTH
        };
        if come {
            turn(&world);
        }
    })
}

fn record(world: &Shared, host: usize, process: &str, op: Op, start: u64, outcome: Outcome, last: bool) {
    let end = now(world);
    let mut world = world.borrow_mut();
    let host = world.hosts[host].clone();
    world.calls.push(Call { host, process: process.to_owned(), op, start, end, outcome, last });
}

fn failure(error: &Error, gate: &Gate) -> Outcome {
    if gate.is_dead() {
        Outcome::Info("killed".to_owned())
    } else if error.kind().is_certain() {
        Outcome::Fail(error.to_string())
    } else {
        Outcome::Info(error.to_string())
    }
}

/// A value that says what it is.
fn build(key: &str, writer: &str, seq: u64, size: u64) -> Vec<u8> {
    let tag = format!("{key}|{writer}|{seq}|{size}|");
    let mut rng = Rng::new(xxhash_rust::xxh3::xxh3_64(tag.as_bytes()));
    let mut value = tag.into_bytes();
    let end = value.len() + size as usize;
    while value.len() < end {
        value.extend_from_slice(&rng.next_u64().to_le_bytes());
    }
    value.truncate(end);
    value
}

fn inspect(key: &str, bytes: &[u8]) -> Read {
    let mut fields = bytes.splitn(5, |&byte| byte == b'|');
    let mut field = || fields.next().and_then(|field| std::str::from_utf8(field).ok());
    let (Some(found), Some(writer), Some(seq), Some(size)) = (field(), field(), field(), field()) else {
        return Read::Damage(format!("{} bytes that nobody wrote", bytes.len()));
    };
    let (Ok(seq), Ok(size)) = (seq.parse(), size.parse()) else {
        return Read::Damage(format!("{} bytes that nobody wrote", bytes.len()));
    };
    if found != key || build(found, writer, seq, size) != bytes {
        return Read::Damage(format!("{} bytes, said to be {found} {seq} of {writer}", bytes.len()));
    }
    Read::Value { writer: writer.to_owned(), seq }
}

fn read(key: &str, value: Option<&diskcache_core::Value>) -> Result<Read, Error> {
    value.map_or(Ok(Read::Miss), |value| Ok(inspect(key, &value.bytes()?)))
}

fn carry_out(life: &Life, op: &Op) -> Outcome {
    match attempt(&life.cache, &life.name, op) {
        // A process that died on the way never told anybody.
        Ok(_) if life.gate.is_dead() => Outcome::Info("killed".to_owned()),
        Ok(answer) => Outcome::Ok(answer),
        Err(error) => failure(&error, &life.gate),
    }
}

fn attempt(cache: &Cache, name: &str, op: &Op) -> Result<Answer, Error> {
    let value = |key: &str, seq: u64, size: u64| build(key, name, seq, size);
    Ok(match op {
        Op::Set { key, seq, size } => {
            cache.set(KeyRef::text(key), Put::bytes(&value(key, *seq, *size)))?;
            Answer::Done(true)
        }
        Op::Add { key, seq, size } => Answer::Done(cache.add(KeyRef::text(key), Put::bytes(&value(key, *seq, *size)))?),
        Op::Get { key } => Answer::Read(read(key, cache.get(KeyRef::text(key))?.as_ref())?),
        Op::Pop { key } => Answer::Read(read(key, cache.pop(KeyRef::text(key))?.as_ref().map(|hit| &hit.value))?),
        Op::Delete { key } => Answer::Done(cache.delete(KeyRef::text(key))?),
        Op::Incr { key, delta } => {
            Answer::Number(cache.incr(KeyRef::text(key), Number::Int(*delta), Some(Number::Int(0)))?.and_then(integer))
        }
        Op::ReadCounter { key } => Answer::Number(cache.get(KeyRef::text(key))?.and_then(|value| value.bits()).map(u64::cast_signed)),
        Op::Push { queue, seq, size } => {
            cache.push(Some(queue), false, Put::bytes(&value(queue, *seq, *size)))?;
            Answer::Done(true)
        }
        Op::Pull { queue } => Answer::Read(read(queue, cache.pull(Some(queue), true)?.as_ref().map(|hit| &hit.value))?),
        Op::Batch { keys, seq, size } => {
            in_transaction(cache, || keys.iter().try_for_each(|key| cache.set(KeyRef::text(key), Put::bytes(&value(key, *seq, *size)))))?;
            Answer::Done(true)
        }
        Op::GetBatch { keys } => {
            Answer::Reads(in_transaction(cache, || keys.iter().map(|key| read(key, cache.get(KeyRef::text(key))?.as_ref())).collect())?)
        }
        Op::Open | Op::Check | Op::Count | Op::Close => Answer::Done(true),
    })
}

fn integer(number: Number) -> Option<i64> {
    match number {
        Number::Int(value) => Some(value),
        Number::Float(_) => None,
    }
}

fn in_transaction<T>(cache: &Cache, body: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    cache.transact_begin(None)?;
    match body() {
        Ok(value) => {
            cache.transact_commit()?;
            Ok(value)
        }
        Err(error) => {
            // The first error is the one that matters.
            let _ = cache.transact_rollback();
            Err(error)
        }
    }
}

/// Reads everything back on each host and on one that was never there.
fn finish(world: &Shared, sim: &Sim) {
    world.borrow_mut().seats.clear();
    let added = {
        let world = world.borrow();
        let mut keys: Vec<String> =
            world.calls.iter().filter_map(|call| if let Op::Add { key, .. } = &call.op { Some(key.clone()) } else { None }).collect();
        keys.sort();
        keys.dedup();
        keys
    };
    let gets = sim.workload.plain_keys().into_iter().chain(added).map(|key| Op::Get { key });
    let counters = sim.workload.counter_keys().into_iter().map(|key| Op::ReadCounter { key });
    let batches = sim.workload.batch_groups().into_iter().map(|keys| Op::GetBatch { keys });
    let ops: Vec<Op> = gets.chain(counters).chain(batches).collect();
    for host in 0..=sim.hosts {
        let began = now(world);
        let (name, gate, cache) = open(world, host);
        let outcome = cache.as_ref().map_or_else(|error| failure(error, &gate), |_| Outcome::Ok(Answer::Done(true)));
        record(world, host, &name, Op::Open, began, outcome, true);
        let Ok(cache) = cache else { continue };
        let life = Life { cache, gate, name };
        let ask = |op: &Op| {
            let began = now(world);
            let outcome = carry_out(&life, op);
            let more = matches!(&outcome, Outcome::Ok(Answer::Read(read)) if *read != Read::Miss);
            record(world, host, &life.name, op.clone(), began, outcome, true);
            more
        };
        for op in &ops {
            ask(op);
        }
        if host == sim.hosts {
            for queue in sim.workload.queue_names() {
                while ask(&Op::Pull { queue: queue.clone() }) {}
            }
        }
    }
}

#[cfg(test)]
mod tests;
