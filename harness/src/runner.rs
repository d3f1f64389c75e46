//! Plays a scenario with an engine: mounts the drive, starts the workers, lets things go wrong, reads everything back,
//! and hands the history to the checks.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::check::{self, Violation};
use crate::control::{Command, Stats};
use crate::daemon::{Daemon, host_names};
use crate::drive::rng::Rng;
use crate::drive::{Happened, Plan, Stage};
use crate::engine::{Engine, KILLED_BY_SIGNAL, Python, Worker};
use crate::evidence;
use crate::history::{self, Answer, Call, KILLED, Op, Outcome, Read};
use crate::scenario::{Action, Blow, Front, Scenario};
use crate::workload::{Generator, Workload};

/// The host that only reads back at the end, so that its caches are empty.
const FRESH: &str = "host-fresh";
const LAST_DEADLINE: Duration = Duration::from_secs(12);
/// How long an engine may wait in them, in seconds: for longer than what a killed process left holds others up.
const LAST_TIMEOUT_S: u64 = 10;

/// What a run needs besides its scenario.
#[derive(Clone, Debug)]
pub struct Bench {
    /// This program, which is also the drive.
    pub program: PathBuf,
    /// How workers are started.
    pub python: Python,
    /// Where histories and logs go.
    pub out: PathBuf,
}

/// What came of one run.
#[derive(Clone, Debug)]
pub struct Run {
    /// All calls.
    pub calls: Vec<Call>,
    /// What is wrong with them.
    pub violations: Vec<Violation>,
    /// Required faults that nobody could notice.
    pub unobserved: Vec<String>,
    /// Counts of the drive.
    pub stats: Stats,
    /// Hash of the history, next random number and clock: the same for the same seed, in virtual time.
    pub marks: Option<(u64, u64, u64)>,
    /// How long it took.
    pub seconds: f64,
    /// Files that an engine's check called left over.
    pub leftovers: u64,
    /// When the workers began, in microseconds of the history's time.
    pub began_us: u64,
    /// Faults as they happened, in the history's time.
    pub faults: Vec<Happened>,
}

/// One process of the workload: its worker, and what the outside may do to it.
struct Seat {
    host: String,
    /// Its number on that host.
    number: usize,
    dir: PathBuf,
    pid: AtomicU64,
    /// How often it was started.
    lives: AtomicU64,
    /// Operations of a script that its lives have taken.
    taken: AtomicUsize,
    /// A kill by the scenario is under way: its death is no crash, and it must not start again before this is over.
    struck: AtomicBool,
    hold: AtomicBool,
}

struct Play<'b> {
    bench: &'b Bench,
    scenario: &'b Scenario,
    engine: &'b Engine,
    began: Instant,
    /// Microseconds since 1970 when it began.
    began_wall: u64,
    calls: Mutex<Vec<Call>>,
    stop: AtomicBool,
    log: PathBuf,
    rng: Mutex<Rng>,
    /// What this engine can do of the scenario's workload.
    workload: Workload,
    /// When the workers began, after `began`.
    work_began: OnceLock<Instant>,
}

fn guard<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The folder of one run's files.
#[must_use]
pub fn run_dir(out: &Path, scenario: &str, engine: &str, seed: u64) -> PathBuf {
    out.join(format!("{scenario}.{engine}.{seed}"))
}

/// Plays a scenario.
///
/// # Errors
/// The drive, a worker or a file could not be had: nothing is known about the engine then.
pub fn play(bench: &Bench, scenario: &Scenario, engine: &Engine, seed: u64) -> Result<Run, String> {
    let started = Instant::now();
    let workload = scenario.workload.for_engine(engine);
    if workload.mix.values().sum::<u64>() == 0 {
        return Err(format!("{} can do nothing of what {} asks for", engine.title, scenario.name));
    }
    let dir = run_dir(&bench.out, &scenario.name, &engine.name, seed);
    std::fs::create_dir_all(&dir).map_err(|err| format!("cannot make {}: {err}", dir.display()))?;
    let temp = tempfile::Builder::new().prefix("harness-").tempdir().map_err(|err| format!("no temporary folder: {err}"))?;
    let hosts = host_names(scenario.hosts);
    let all: Vec<String> = hosts.iter().cloned().chain([FRESH.to_owned()]).collect();
    let mut daemon = Daemon::start(&bench.program, temp.path(), &scenario.drive_profile()?, &all, &Plan::default(), seed)?;
    for host in &scenario.local_locks {
        daemon.send(&Command::LocalLocks { host: host.clone() })?;
    }
    let play = Play {
        bench,
        scenario,
        engine,
        began: Instant::now(),
        began_wall: history::wall_now(),
        calls: Mutex::new(Vec::new()),
        stop: AtomicBool::new(false),
        log: dir.join("workers.log"),
        rng: Mutex::new(Rng::new(seed).fork(1)),
        workload,
        work_began: OnceLock::new(),
    };
    let seats: Vec<Arc<Seat>> = hosts
        .iter()
        .flat_map(|host| (0..scenario.procs).map(move |number| (host, number)))
        .map(|(host, number)| Arc::new(Seat::new(host, number, &daemon.mount(host).join("cache"))))
        .collect();
    play.create(&seats[0])?;
    let up_ms = daemon.stats()?.now_us / 1000;
    let work_began = *play.work_began.get_or_init(Instant::now);
    for fault in &scenario.faults {
        daemon.send(&Command::Fault { fault: Box::new(shifted(fault, up_ms)) })?;
    }
    std::thread::scope(|scope| -> Result<(), String> {
        for (number, seat) in seats.iter().enumerate() {
            let rng = Rng::new(seed).fork(number as u64 + 10);
            let play = &play;
            scope.spawn(move || play.work(seat, rng));
        }
        let mended = play.misfortunes(&mut daemon, &seats);
        play.stop.store(true, Ordering::SeqCst);
        mended
    })?;
    daemon.send(&Command::Heal)?;
    play.read_back(&hosts, &daemon)?;
    let stats = daemon.stats()?;
    let faults = happened(daemon.log()?, play.now(), stats.now_us);
    drop(daemon);
    let began_us = u64::try_from((work_began - play.began).as_micros()).unwrap_or(0);
    let mut calls = play.calls.into_inner().unwrap_or_else(PoisonError::into_inner);
    calls.sort_by_key(|call| call.start);
    meet(&mut calls, &faults);
    let violations = check::check(&calls, &scenario.real_rules(&hosts));
    let unobserved = scenario.unobserved(&stats, Front::Fuse);
    evidence::save_calls(&dir, &calls)?;
    let leftovers = leftovers(&calls);
    let seconds = started.elapsed().as_secs_f64();
    Ok(Run { calls, violations, unobserved, stats, marks: None, seconds, leftovers, began_us, faults })
}

/// A fault's window counts from when the workers began; the drive has been up for longer.
fn shifted(fault: &crate::drive::Fault, up_ms: u64) -> crate::drive::Fault {
    let mut fault = fault.clone();
    fault.from_ms = fault.from_ms.saturating_add(up_ms);
    fault.until_ms = fault.until_ms.saturating_add(up_ms);
    fault.at_ms = fault.at_ms.map(|at| at.saturating_add(up_ms));
    fault
}

/// The drive's log in the time of the history, whose clock showed `now_us` when the drive's showed `drive_us`.
fn happened(log: Vec<Happened>, now_us: u64, drive_us: u64) -> Vec<Happened> {
    let shift = |mut it: Happened| {
        it.at_us = (it.at_us + now_us).saturating_sub(drive_us);
        it
    };
    log.into_iter().filter(|it| it.stage != Stage::Planned).map(shift).collect()
}

/// Notes with each call the faults that met requests of its host meanwhile: the drive does not know processes.
fn meet(calls: &mut [Call], faults: &[Happened]) {
    let fired: Vec<&Happened> = faults.iter().filter(|it| it.stage == Stage::Fired && !it.host.is_empty()).collect();
    for call in calls {
        let from = fired.partition_point(|it| it.at_us < call.start);
        let meanwhile = fired[from..].iter().take_while(|it| it.at_us <= call.end);
        call.faults = meanwhile.filter(|it| it.host == call.host).map(|it| it.id.clone()).collect();
        call.faults.sort();
        call.faults.dedup();
    }
}

impl From<crate::sim::Simulated> for Run {
    fn from(done: crate::sim::Simulated) -> Run {
        Run {
            leftovers: leftovers(&done.calls),
            marks: Some((done.hash, done.next_random, done.clock)),
            calls: done.calls,
            violations: done.violations,
            unobserved: done.unobserved,
            stats: done.stats,
            seconds: done.seconds,
            began_us: done.began_us,
            faults: done.faults,
        }
    }
}

fn leftovers(calls: &[Call]) -> u64 {
    let findings = calls.iter().rev().find_map(|call| match call.answer() {
        Some(Answer::Findings(findings)) => Some(findings.len() as u64),
        _ => None,
    });
    findings.unwrap_or(0)
}

impl Seat {
    fn new(host: &str, number: usize, dir: &Path) -> Seat {
        Seat {
            host: host.to_owned(),
            number,
            dir: dir.to_owned(),
            pid: AtomicU64::new(0),
            lives: AtomicU64::new(0),
            taken: AtomicUsize::new(0),
            struck: AtomicBool::new(false),
            hold: AtomicBool::new(false),
        }
    }

    fn pid(&self) -> Option<rustix::process::Pid> {
        i32::try_from(self.pid.load(Ordering::SeqCst)).ok().and_then(rustix::process::Pid::from_raw)
    }

    /// SIGKILL to its worker, if it has one.
    fn strike(&self) {
        self.hold.store(true, Ordering::SeqCst);
        self.struck.store(true, Ordering::SeqCst);
        if let Some(pid) = self.pid() {
            // It may be dead already.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
}

impl Play<'_> {
    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Milliseconds since the workers began.
    fn worked_ms(&self) -> u64 {
        self.work_began.get().map_or(0, |began| u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    fn deadline(&self) -> Duration {
        Duration::from_secs_f64(self.scenario.deadline_s)
    }

    fn new_worker(&self, name: &str) -> Result<Worker, String> {
        self.engine.worker(&self.bench.python, name, &self.log)
    }

    fn record(&self, host: &str, process: &str, op: Op, start: u64, outcome: Outcome, last: bool) {
        let (end, host, process) = (self.now(), host.to_owned(), process.to_owned());
        let wall = |time: u64| self.began_wall + time;
        let call = Call { host, process, op, start, end, wall: (wall(start), wall(end)), outcome, faults: Vec::new(), last };
        guard(&self.calls).push(call);
    }

    /// Makes the cache, before anything goes wrong: several programs may not agree on its settings otherwise.
    fn create(&self, seat: &Seat) -> Result<(), String> {
        let mut worker = self.new_worker(&format!("{}.maker", seat.host))?;
        match worker.open(self.engine, &seat.dir, LAST_DEADLINE) {
            Outcome::Ok(_) => {}
            other => return Err(format!("{} cannot make a cache on the drive: {other:?}", self.engine.name)),
        }
        worker.call(&Op::Close, LAST_DEADLINE);
        Ok(())
    }

    /// One process of the workload, through all its lives.
    fn work(&self, seat: &Seat, rng: Rng) {
        let mut life = 0;
        while !self.stop.load(Ordering::SeqCst) {
            if seat.hold.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(5));
                continue;
            }
            life += 1;
            if self.live(seat, rng.fork(life)).is_err() {
                // Something is wrong with this machine or this engine; not so fast again.
                std::thread::sleep(Duration::from_millis(200));
            }
        }
    }

    fn live(&self, seat: &Seat, rng: Rng) -> Result<(), String> {
        let number = seat.lives.fetch_add(1, Ordering::SeqCst) + 1;
        let mut worker = self.new_worker(&format!("{}.{}.{number}", seat.host, seat.number))?;
        seat.struck.store(false, Ordering::SeqCst);
        seat.pid.store(worker.pid().into(), Ordering::SeqCst);
        let start = self.now();
        let outcome = worker.open(self.engine, &seat.dir, self.deadline());
        let opened = matches!(outcome, Outcome::Ok(_));
        self.note(seat, &worker, Op::Open, start, outcome);
        let mut generator = Generator::of_process(&self.workload, rng, &seat.host, seat.number, seat.taken.load(Ordering::SeqCst));
        while opened && !worker.is_lost() && !self.stop.load(Ordering::SeqCst) {
            // After its script's end it stays, as whoever has a cache open does.
            let turn = generator.next_turn();
            if !self.rest(seat, turn.as_ref().map_or(u64::MAX, |(_, at_ms)| *at_ms)) {
                if seat.struck.load(Ordering::SeqCst) {
                    worker.kill();
                }
                break;
            }
            let Some((op, _)) = turn else { break };
            seat.taken.fetch_add(1, Ordering::SeqCst);
            let start = self.now();
            let outcome = worker.call(&op, self.deadline());
            self.note(seat, &worker, op, start, outcome);
            if generator.pause_ms() > 0 {
                std::thread::sleep(Duration::from_millis(generator.pause_ms()));
            }
        }
        seat.pid.store(0, Ordering::SeqCst);
        if !worker.is_lost() && opened {
            let start = self.now();
            let outcome = worker.call(&Op::Close, self.deadline());
            self.note(seat, &worker, Op::Close, start, outcome);
        }
        if opened { Ok(()) } else { Err("it did not open".to_owned()) }
    }

    /// Waits until an operation is due; not, if its process is killed meanwhile or the time is over.
    fn rest(&self, seat: &Seat, at_ms: u64) -> bool {
        while self.worked_ms() < at_ms {
            if self.stop.load(Ordering::SeqCst) || seat.struck.load(Ordering::SeqCst) {
                return false;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        true
    }

    fn note(&self, seat: &Seat, worker: &Worker, op: Op, start: u64, outcome: Outcome) {
        let outcome = match outcome {
            Outcome::Crashed(_) if seat.struck.load(Ordering::SeqCst) => Outcome::Info(KILLED.to_owned()),
            // The drive does it itself at the requests that the plan names.
            Outcome::Crashed(how)
                if how == KILLED_BY_SIGNAL && self.scenario.faults.iter().any(|fault| ["U5", "kill"].contains(&fault.name.as_str())) =>
            {
                Outcome::Info(KILLED.to_owned())
            }
            other => other,
        };
        self.record(&seat.host, worker.name(), op, start, outcome, false);
    }

    /// Lets the scenario's events happen until its time is over.
    fn misfortunes(&self, daemon: &mut Daemon, seats: &[Arc<Seat>]) -> Result<(), String> {
        let began = Instant::now();
        let length = Duration::from_secs_f64(self.scenario.seconds);
        let mut due: Vec<(Duration, usize)> =
            self.scenario.events.iter().enumerate().map(|(at, event)| (Duration::from_millis(event.at_ms), at)).collect();
        while began.elapsed() < length {
            let now = began.elapsed();
            for (when, at) in &mut due {
                if *when > now {
                    continue;
                }
                let event = &self.scenario.events[*at];
                self.strike(&event.action, daemon, seats)?;
                *when = event.every_ms.map_or(Duration::MAX, |every| *when + Duration::from_millis(every));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    fn strike(&self, action: &Action, daemon: &mut Daemon, seats: &[Arc<Seat>]) -> Result<(), String> {
        let of = |host: &str| seats.iter().filter(|seat| seat.host == host).cloned().collect::<Vec<_>>();
        match action {
            Action::Drive(command) => daemon.send(command).map(drop),
            Action::Blow(Blow::Kill { host }) => {
                let struck = host.as_deref().map_or_else(|| seats.to_vec(), of);
                struck.iter().for_each(|seat| seat.strike());
                struck.iter().for_each(|seat| seat.hold.store(false, Ordering::SeqCst));
                Ok(())
            }
            Action::Blow(Blow::KillOne) => {
                let seat = &seats[self.dice(seats.len())];
                seat.strike();
                seat.hold.store(false, Ordering::SeqCst);
                Ok(())
            }
            Action::Blow(Blow::Pause { host, ms }) => {
                self.pause(&of(host), *ms);
                Ok(())
            }
            Action::Blow(Blow::PauseOne { ms }) => {
                self.pause(&seats[self.dice(seats.len())..][..1], *ms);
                Ok(())
            }
            Action::Blow(Blow::PowerCut { host }) => self.power_cut(host, None, daemon, &of(host)),
            Action::Blow(Blow::PowerCutAll { host, loss }) => self.power_cut(host, Some(loss), daemon, &of(host)),
        }
    }

    fn dice(&self, below: usize) -> usize {
        guard(&self.rng).below(below as u64) as usize
    }

    /// SIGSTOP, and SIGCONT after a while.
    fn pause(&self, seats: &[Arc<Seat>], ms: u64) {
        let pids: Vec<_> = seats.iter().filter_map(|seat| seat.pid()).collect();
        for pid in &pids {
            // It may be dead already.
            let _ = rustix::process::kill_process(*pid, rustix::process::Signal::STOP);
        }
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(ms));
            for pid in pids {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::CONT);
            }
        });
    }

    /// The host goes first, so that nothing of what its dying processes do reaches the server.
    fn power_cut(&self, host: &str, loss: Option<&str>, daemon: &mut Daemon, seats: &[Arc<Seat>]) -> Result<(), String> {
        daemon.send(&Command::Crash { host: host.to_owned() })?;
        seats.iter().for_each(|seat| seat.strike());
        if let Some(loss) = loss {
            daemon.send(&Command::Restart { loss: loss.to_owned() })?;
        }
        std::thread::sleep(Duration::from_millis(150));
        daemon.send(&Command::Boot { host: host.to_owned() })?;
        seats.iter().for_each(|seat| seat.hold.store(false, Ordering::SeqCst));
        Ok(())
    }

    /// Reads everything back, in a new process on each host and on one that was never there.
    fn read_back(&self, hosts: &[String], daemon: &Daemon) -> Result<(), String> {
        let workload = &self.workload;
        let once = self.once_keys();
        let check = self.engine.can("check").then_some(Op::Check);
        let engine = self.engine.with_timeout(LAST_TIMEOUT_S);
        for host in hosts.iter().map(String::as_str).chain([FRESH]) {
            let mut worker = self.new_worker(&format!("{host}.end"))?;
            let dir = daemon.mount(host).join("cache");
            let start = self.now();
            let outcome = worker.open(&engine, &dir, LAST_DEADLINE);
            let opened = matches!(outcome, Outcome::Ok(_));
            self.record(host, worker.name(), Op::Open, start, outcome, true);
            if !opened {
                continue;
            }
            let keys = workload.plain_keys().into_iter().chain(once.iter().cloned());
            let gets = keys.map(|key| Op::Get { key });
            let counters = workload.counter_keys().into_iter().map(|key| Op::ReadCounter { key });
            let batches = workload.batch_groups().into_iter().map(|keys| Op::GetBatch { keys });
            for op in gets.chain(counters).chain(batches).chain(check.clone()) {
                if self.ask(&mut worker, host, op).is_none() && worker.is_lost() {
                    break;
                }
            }
            if host == FRESH {
                self.drain(&mut worker);
            }
            if !worker.is_lost() {
                self.ask(&mut worker, host, Op::Close);
            }
        }
        Ok(())
    }

    fn ask(&self, worker: &mut Worker, host: &str, op: Op) -> Option<Answer> {
        let start = self.now();
        let outcome = worker.call(&op, LAST_DEADLINE);
        let answer = match &outcome {
            Outcome::Ok(answer) => Some(answer.clone()),
            _ => None,
        };
        self.record(host, worker.name(), op, start, outcome, true);
        answer
    }

    fn once_keys(&self) -> Vec<String> {
        let calls = guard(&self.calls);
        let mut keys: Vec<String> = calls
            .iter()
            .filter_map(|call| match &call.op {
                Op::Add { key, .. } => Some(key.clone()),
                _ => None,
            })
            .collect();
        keys.sort();
        keys.dedup();
        keys.truncate(200);
        keys
    }

    fn drain(&self, worker: &mut Worker) {
        for queue in self.workload.queue_names() {
            let mut left = 100_000;
            while left > 0 && !worker.is_lost() {
                left -= 1;
                let answer = self.ask(worker, FRESH, Op::Pull { queue: queue.clone() });
                if !matches!(answer, Some(Answer::Read(Read::Value { .. } | Read::Damage(_)))) {
                    break;
                }
            }
        }
    }
}

/// Counts of calls by how they ended, for tables.
#[must_use]
pub fn tally(calls: &[Call]) -> BTreeMap<String, (u64, u64)> {
    let mut tally: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for call in calls.iter().filter(|call| !call.last) {
        let count = tally.entry(call.op.name().to_owned()).or_default();
        if call.answer().is_some() {
            count.0 += 1;
        } else {
            count.1 += 1;
        }
    }
    tally
}
