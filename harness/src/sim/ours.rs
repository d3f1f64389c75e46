//! Our engine as one process of a simulated host uses it: its life, and its operations.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use diskcache_core::chance::SeededChance;
use diskcache_core::clock::Clock;
use diskcache_core::format::Number;
use diskcache_core::mount;
use diskcache_core::{Cache, Error, ErrorKind, KeyRef, Options, ProfileOverride, Put, Setting};

use super::sched::{Sched, Task};
use super::vfs::{Gate, SimVfs};
use super::watch::{Watch, Watched};
use crate::drive::rng::Rng;
use crate::drive::{Drive, DriveHandle, Profile};
use crate::history::{Answer, KILLED, Op, Outcome, Read};
use crate::scenario::Scenario;

/// Where the cache is on the drive.
pub(super) const ROOM: &str = "/cache";
/// The wall clock of all hosts when a run begins, in seconds since 1970.
const EPOCH: f64 = 1.8e9;

/// One life of a process.
pub(super) struct Life {
    pub(super) cache: Cache,
    pub(super) gate: Arc<Gate>,
    pub(super) name: String,
    watch: Arc<Watch>,
}

/// Who a process is.
#[derive(Clone)]
pub(super) struct Who {
    pub(super) task: Task,
    pub(super) host: usize,
    pub(super) name: String,
    /// It goes on no sooner than this.
    pub(super) paused_until: Arc<AtomicU64>,
    /// When it was killed last.
    pub(super) died_at: Arc<AtomicU64>,
}

/// Microseconds since 1970 by a host's wall clock, at a time of the drive in nanoseconds.
pub(super) fn wall_us(drive: &mut Drive, host: usize, now_ns: u64) -> u64 {
    let offset_ns = drive.clock_offset(host);
    ((EPOCH + now_ns as f64 / 1e9 + offset_ns as f64 / 1e9) * 1e6) as u64
}

/// A host's clocks as a process reads them. One that is dead waits by itself: nobody else's time passes.
struct ProcessClock {
    drive: Arc<Mutex<Drive>>,
    sched: Arc<Sched>,
    who: Who,
    gate: Arc<Gate>,
    alone_ns: AtomicU64,
}

impl std::fmt::Debug for ProcessClock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ProcessClock({})", self.who.name)
    }
}

impl Clock for ProcessClock {
    fn wall(&self) -> f64 {
        let mut drive = self.drive.lock().unwrap_or_else(PoisonError::into_inner);
        let now = drive.now();
        wall_us(&mut drive, self.who.host, now) as f64 / 1e6
    }

    fn boot(&self) -> Duration {
        Duration::from_nanos(self.sched.now() + self.alone_ns.load(Ordering::SeqCst))
    }

    fn sleep(&self, span: Duration) {
        let ns = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        if self.gate.is_dead() {
            self.alone_ns.fetch_add(ns, Ordering::SeqCst);
        } else {
            self.sched.wait_until(self.who.task, self.sched.now().saturating_add(ns));
        }
    }
}

/// What the engine makes of such a mount.
fn judged(drive: &Profile) -> mount::Profile {
    let line = format!("1 0 0:1 / / rw - {} drive rw", drive.fs_type);
    // An override is an environment variable's, and none is asked for.
    mount::detect_in(&line, Path::new(ROOM), None, None, None).expect("a mount is judged by its line")
}

fn options(scenario: &Scenario, chance: SeededChance, read_only: bool) -> Options {
    let setting = |name: &str, value| (name.to_owned(), value);
    let tuning = &scenario.tuning;
    Options {
        timeout: Duration::from_millis(tuning.timeout_ms),
        profile: Some(ProfileOverride::Shared),
        drive: Some(judged(&scenario.drive_profile().unwrap_or_default())),
        settings: if read_only {
            Vec::new()
        } else {
            // Nothing may leave by itself: what is missing was lost.
            vec![
                setting("cull_limit", Setting::Int(0)),
                setting("size_limit", Setting::Int(1 << 40)),
                setting("eviction_policy", Setting::Text("none".into())),
            ]
        },
        read_only,
        delta_entries_max: 64,
        // Checkpoints and folds come often, so that everything happens beside them.
        checkpoint_commits: tuning.checkpoint_commits,
        fold_commits: tuning.fold_commits,
        grace: Duration::from_millis(tuning.grace_ms),
        // Threads of the engine's own would decide which request meets which fault.
        readers: 1,
        chance: Arc::new(chance),
        ..Options::default()
    }
}

/// What a process needs to live.
pub(super) struct Machine<'m> {
    pub(super) scenario: &'m Scenario,
    pub(super) drive: &'m Arc<Mutex<Drive>>,
    pub(super) sched: &'m Arc<Sched>,
}

impl Machine<'_> {
    /// Opens the cache in a new process. The gate is where it can be killed.
    pub(super) fn open(&self, who: &Who, gate: &Arc<Gate>, seed: u64, read_only: bool) -> (Result<Life, String>, Outcome) {
        let killer = {
            let (sched, gate, died_at) = (Arc::clone(self.sched), Arc::clone(gate), Arc::clone(&who.died_at));
            Arc::new(move || {
                died_at.store(sched.now(), Ordering::SeqCst);
                gate.die();
            })
        };
        let handle = {
            let (sched, gate, who) = (Arc::clone(self.sched), Arc::clone(gate), who.clone());
            let waiter = Arc::new(move || {
                sched.step(who.task, who.paused_until.load(Ordering::SeqCst));
                !gate.is_dead()
            });
            DriveHandle::new(Arc::clone(self.drive), who.host)
                .with_waiter(waiter)
                .with_killer(killer)
                .with_witness(Arc::new(super::vfs::meet))
        };
        let watch = Arc::new(Watch::default());
        let sim = SimVfs { drive: handle, gate: Arc::clone(gate) };
        let vfs = Arc::new(Watched { inner: Arc::new(sim), watch: Arc::clone(&watch) });
        let (sched, alone_ns) = (Arc::clone(self.sched), AtomicU64::new(0));
        let drive = Arc::clone(self.drive);
        let clock = Arc::new(ProcessClock { drive, sched, who: who.clone(), gate: Arc::clone(gate), alone_ns });
        let options = options(self.scenario, SeededChance::new(seed), read_only);
        match catch_unwind(AssertUnwindSafe(|| Cache::open_on(vfs, clock, Path::new(ROOM), options, 1))) {
            Ok(Ok(cache)) => (Ok(Life { cache, gate: Arc::clone(gate), name: who.name.clone(), watch }), Outcome::Ok(Answer::Done(true))),
            Ok(Err(error)) => (Err(error.to_string()), failure(&error, gate, &watch)),
            Err(panic) => (Err("it panicked".to_owned()), Outcome::Crashed(said(&*panic))),
        }
    }
}

/// What a panic said.
fn said(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    format!("it panicked: {}", text.unwrap_or("it did not say why"))
}

/// The beginning of the text of an error whose errno nobody gave the engine.
pub(super) const INVENTED: &str = "errno from nowhere";

fn failure(error: &Error, gate: &Gate, watch: &Watch) -> Outcome {
    if gate.is_dead() {
        return Outcome::Info(KILLED.to_owned());
    }
    let mut text = error.to_string();
    if let Some(errno) = watch.invents(error) {
        text = format!("{INVENTED} ({errno}): {text}");
    }
    if error.kind().is_certain() { Outcome::Fail(text) } else { Outcome::Info(text) }
}

impl Life {
    /// Makes one call.
    pub(super) fn call(&self, op: &Op) -> Outcome {
        match catch_unwind(AssertUnwindSafe(|| attempt(&self.cache, &self.name, op))) {
            // A process that died on the way never told anybody.
            Ok(Ok(_)) if self.gate.is_dead() => Outcome::Info(KILLED.to_owned()),
            Ok(Ok(answer)) => Outcome::Ok(answer),
            Ok(Err(error)) => failure(&error, &self.gate, &self.watch),
            Err(panic) => Outcome::Crashed(said(&*panic)),
        }
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
    // A length that is none of ours must not make us build it.
    let (Ok(seq), Some(size)) = (seq.parse(), size.parse().ok().filter(|size| *size <= bytes.len() as u64)) else {
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

/// What a call took away, and whose bytes may be gone: then it was taken all the same.
fn taken(key: &str, hit: Option<diskcache_core::Hit>) -> Result<Read, Error> {
    read(key, hit.as_ref().map(|hit| &hit.value)).map_err(|error| error.with_kind(ErrorKind::OutcomeUnknown))
}

fn attempt(cache: &Cache, name: &str, op: &Op) -> Result<Answer, Error> {
    let value = |key: &str, seq: u64, size: u64| build(key, name, seq, size);
    let seconds = |ttl_ms: Option<u64>| ttl_ms.map(|ms| ms as f64 / 1e3);
    Ok(match op {
        Op::Set { key, seq, size, ttl_ms } => {
            cache.set(KeyRef::text(key), Put { expire: seconds(*ttl_ms), ..Put::bytes(&value(key, *seq, *size)) })?;
            Answer::Done(true)
        }
        Op::Add { key, seq, size, ttl_ms } => {
            Answer::Done(cache.add(KeyRef::text(key), Put { expire: seconds(*ttl_ms), ..Put::bytes(&value(key, *seq, *size)) })?)
        }
        Op::Touch { key, ttl_ms } => Answer::Done(cache.touch(KeyRef::text(key), seconds(*ttl_ms))?),
        Op::Get { key } => Answer::Read(read(key, cache.get(KeyRef::text(key))?.as_ref())?),
        Op::Pop { key } => Answer::Read(taken(key, cache.pop(KeyRef::text(key))?)?),
        Op::Delete { key } => Answer::Done(cache.delete(KeyRef::text(key))?),
        Op::Incr { key, delta } => {
            Answer::Number(cache.incr(KeyRef::text(key), Number::Int(*delta), Some(Number::Int(0)))?.and_then(integer))
        }
        Op::ReadCounter { key } => Answer::Number(cache.get(KeyRef::text(key))?.and_then(|value| value.bits()).map(u64::cast_signed)),
        Op::Push { queue, seq, size } => {
            cache.push(Some(queue), false, Put::bytes(&value(queue, *seq, *size)))?;
            Answer::Done(true)
        }
        Op::Pull { queue } => Answer::Read(taken(queue, cache.pull(Some(queue), true)?)?),
        Op::Batch { keys, seq, size } => {
            in_transaction(cache, || keys.iter().try_for_each(|key| cache.set(KeyRef::text(key), Put::bytes(&value(key, *seq, *size)))))?;
            Answer::Done(true)
        }
        Op::GetBatch { keys } => {
            Answer::Reads(in_transaction(cache, || keys.iter().map(|key| read(key, cache.get(KeyRef::text(key))?.as_ref())).collect())?)
        }
        Op::Check => Answer::Findings(findings(&cache.check(false)?)),
        Op::Count => Answer::Number(i64::try_from(cache.len()?).ok()),
        Op::Close => {
            cache.close()?;
            Answer::Done(true)
        }
        Op::Open => Answer::Done(true),
    })
}

/// What a check found, in the words of the checks of histories.
pub(super) fn findings(report: &diskcache_core::verify::Report) -> Vec<String> {
    let word = |problem: &diskcache_core::verify::Problem| match problem.kind {
        diskcache_core::verify::ProblemKind::Leftover => "leftover",
        _ => "damaged",
    };
    let problems = report.problems.iter().map(|problem| format!("{}: {} {}", word(problem), problem.path.display(), problem.what));
    let lost = (report.commits_lost_ever > report.commits_lost)
        .then(|| format!("damaged: {} commits could not be read since the cache was made", report.commits_lost_ever));
    problems.chain(lost).collect()
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
