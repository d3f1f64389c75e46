//! One cell: workers on every host, one kind of trouble, a look at everything by all hosts, and the verdict.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::judge::{self, Times};
use super::place::Folder;
use super::{Fault, Outcomes, Place, Plan};
use crate::check::{self, Violation, Wrong};
use crate::drive::rng::Rng;
use crate::engine::{self, Engine, Python, Worker};
use crate::history::{self, Answer, Call, Op, Outcome, Read};
use crate::workload::{Generator, Workload};

/// A call without an answer for so much longer than its timeout hangs; its process is given up.
const HANGS: Duration = Duration::from_secs(15);
/// What opening and reading back may take, with nothing wrong any more.
const LAST_DEADLINE: Duration = Duration::from_secs(60);
/// And the timeout of the caches then.
const LAST_TIMEOUT: f64 = 20.0;
/// How long after a fault all processes must have written again. NFS servers let nobody in for ten seconds after a restart, and
/// a client that was refused waits before it asks again.
const RECOVERY: Duration = Duration::from_secs(40);
/// How long after the last kill every host must have written again: a transaction that was killed holds others for 5 s, and processes
/// take a while to start.
const AFTER_KILL: Duration = Duration::from_secs(9);
/// How long it is waited for that all processes have opened the cache, with nothing wrong yet. Those that have not by then are
/// judged as they are: without progress.
const ALL_OPEN: Duration = Duration::from_secs(30);

fn guard<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A process and all that it started, itself last.
fn family(pid: u32) -> Vec<u32> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let mut all: Vec<u32> = children.split_whitespace().filter_map(|word| word.parse().ok()).flat_map(family).collect();
    all.push(pid);
    all
}

/// A signal to a worker, which may have been started by others that only wait for it.
fn signal(pid: u64, signal: rustix::process::Signal) {
    for pid in u32::try_from(pid).ok().filter(|pid| *pid > 0).map(family).unwrap_or_default() {
        if let Some(pid) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) {
            // It may be dead already.
            let _ = rustix::process::kill_process(pid, signal);
        }
    }
}

/// One process of the workload, through its lives.
struct Seat {
    host: String,
    python: Python,
    dir: PathBuf,
    pid: AtomicU64,
    /// A kill by us is under way: its death is no crash.
    struck: AtomicBool,
    /// The name of the life that opened the cache.
    open: Mutex<Option<String>>,
    /// Processes that wait, with everything imported: what is judged is the engine, not how long an interpreter takes to start.
    spares: Mutex<Vec<Worker>>,
}

struct Play<'p> {
    plan: &'p Plan,
    engine: Engine,
    deadline: Duration,
    began: Instant,
    calls: Mutex<Vec<Call>>,
    stop: AtomicBool,
    lives: AtomicU64,
    log: PathBuf,
    workload: Workload,
}

/// Plays one cell; logs go to `out`.
pub(super) fn play(plan: &Plan, fault: &Fault, engine: &Engine, out: &Path) -> Result<Outcomes, String> {
    let started = Instant::now();
    let temp = tempfile::Builder::new().prefix("harness-").tempdir().map_err(|err| format!("no temporary folder: {err}"))?;
    let worker = engine::write_worker(temp.path())?;
    let folder = Folder::create(&plan.places[0])?;
    let timeout = plan.timeout_in(fault).as_secs_f64();
    let play = Play {
        plan,
        engine: on_real_drive(engine, timeout),
        deadline: Duration::from_secs_f64(timeout) + HANGS,
        began: Instant::now(),
        calls: Mutex::new(Vec::new()),
        stop: AtomicBool::new(false),
        lives: AtomicU64::new(0),
        log: out.join("workers.log"),
        workload: workload(),
    };
    let mut seats = Vec::new();
    for (number, place) in plan.places.iter().enumerate() {
        let env = environment(fault, number + 1 == plan.places.len())?;
        let python = place.python(&plan.python, &engine.module, &worker, temp.path(), &env)?;
        let seat = || Arc::new(Seat::new(place, python.clone(), folder.seen_by(place).join("cache")));
        seats.extend(std::iter::repeat_with(seat).take(plan.procs));
    }
    let lives = if *fault == Fault::Kill { plan.kills + 1 } else { 1 };
    for seat in (0..lives).flat_map(|_| &seats) {
        let worker = play.new_worker(&seat.host, &seat.python)?;
        guard(&seat.spares).push(worker);
    }
    play.create(&seats[0])?;
    let mut times = Times::default();
    let mut survivors = Vec::new();
    std::thread::scope(|scope| {
        for (number, seat) in seats.iter().enumerate() {
            let rng = Rng::new(plan.seed).fork(number as u64 + 10);
            let play = &play;
            scope.spawn(move || play.work(seat, &rng));
        }
        let done = play.trouble(fault, &seats, &mut times, &mut survivors);
        play.stop.store(true, Ordering::SeqCst);
        done
    })?;
    let mut lookers: Vec<(Python, &Place)> = Vec::new();
    for place in plan.places.iter().chain(&plan.cold) {
        lookers.push((place.python(&plan.python, &engine.module, &worker, temp.path(), &[])?, place));
    }
    for (number, (python, place)) in lookers.iter().enumerate() {
        play.look(python, place, &folder.seen_by(place).join("cache"), number + 1 == lookers.len())?;
    }
    Ok(play.verdict(fault, engine, &times, &survivors, started))
}

/// The engine as it is: the drive says itself what it is.
fn on_real_drive(engine: &Engine, timeout: f64) -> Engine {
    let mut engine = engine.clone();
    engine.env = &[];
    if let Value::Object(map) = &mut engine.options {
        map.insert("timeout".to_owned(), json!(timeout));
    }
    engine
}

fn environment(fault: &Fault, last: bool) -> Result<Vec<String>, String> {
    if *fault != Fault::Clock || !last {
        return Ok(Vec::new());
    }
    let library = super::fake_clock().ok_or("no libfaketime (Debian: faketime) to show a process another clock")?;
    Ok(vec![format!("LD_PRELOAD={}", library.display()), "FAKETIME=+3600s".to_owned(), "FAKETIME_DONT_FAKE_MONOTONIC=1".to_owned()])
}

/// Everything, with some values that are larger than a page and a few that are larger than what engines keep in their index.
fn workload() -> Workload {
    let mut sizes = vec![40, 128, 128, 128, 128, 128, 128, 128, 1000, 1000, 1000, 5000, 5000, 5000];
    sizes.push(70_000);
    Workload { sizes, ..Workload::default() }
}

impl Seat {
    fn new(place: &Place, python: Python, dir: PathBuf) -> Seat {
        Seat {
            host: place.host.clone(),
            python,
            dir,
            pid: AtomicU64::new(0),
            struck: AtomicBool::new(false),
            open: Mutex::new(None),
            spares: Mutex::new(Vec::new()),
        }
    }

    fn strike(&self) {
        self.struck.store(true, Ordering::SeqCst);
        signal(self.pid.load(Ordering::SeqCst), rustix::process::Signal::KILL);
    }
}

impl Play<'_> {
    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn new_worker(&self, host: &str, python: &Python) -> Result<Worker, String> {
        let life = self.lives.fetch_add(1, Ordering::SeqCst);
        Worker::start(python, &format!("{host}.{life}"), self.engine.env, &self.log)
    }

    fn record(&self, host: &str, worker: &Worker, op: Op, start: u64, outcome: Outcome, last: bool) {
        let (host, process, end) = (host.to_owned(), worker.name().to_owned(), self.now());
        let wall_end = history::wall_now();
        let wall = (wall_end.saturating_sub(end - start), wall_end);
        let call = Call { host, process, op, start, end, wall, outcome, faults: Vec::new(), last };
        guard(&self.calls).push(call);
    }

    /// Makes the cache before anything goes wrong: several programs may not agree on its settings otherwise.
    fn create(&self, seat: &Seat) -> Result<(), String> {
        let mut worker = self.new_worker(&seat.host, &seat.python)?;
        match worker.open(&on_real_drive(&self.engine, LAST_TIMEOUT), &seat.dir, LAST_DEADLINE) {
            Outcome::Ok(_) => {}
            Outcome::Fail(why) | Outcome::Info(why) => return Err(format!("{} makes no cache here: {why}", self.engine.name)),
            other => return Err(format!("{} makes no cache here: {other:?}", self.engine.name)),
        }
        worker.call(&Op::Close, LAST_DEADLINE);
        Ok(())
    }

    fn work(&self, seat: &Seat, rng: &Rng) {
        let mut life = 0;
        while !self.stop.load(Ordering::SeqCst) {
            life += 1;
            if self.live(seat, rng.fork(life)).is_err() {
                // Something is wrong with this machine or this engine; not so fast again.
                std::thread::sleep(Duration::from_millis(200));
            }
        }
    }

    fn live(&self, seat: &Seat, rng: Rng) -> Result<(), String> {
        let spare = guard(&seat.spares).pop();
        let mut worker = spare.map_or_else(|| self.new_worker(&seat.host, &seat.python), Ok)?;
        seat.struck.store(false, Ordering::SeqCst);
        seat.pid.store(worker.pid().into(), Ordering::SeqCst);
        let start = self.now();
        let outcome = worker.open(&self.engine, &seat.dir, self.deadline);
        let opened = matches!(outcome, Outcome::Ok(_));
        self.note(seat, &worker, Op::Open, start, outcome);
        *guard(&seat.open) = opened.then(|| worker.name().to_owned());
        let mut generator = Generator::new(&self.workload, rng);
        while opened && !worker.is_lost() && !self.stop.load(Ordering::SeqCst) {
            let op = generator.next_op();
            let start = self.now();
            let outcome = worker.call(&op, self.deadline);
            let failed = !matches!(outcome, Outcome::Ok(_));
            self.note(seat, &worker, op, start, outcome);
            if failed {
                // An engine that refuses everything must not fill the history.
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        *guard(&seat.open) = None;
        if !worker.is_lost() && opened {
            let start = self.now();
            let outcome = worker.call(&Op::Close, self.deadline);
            self.note(seat, &worker, Op::Close, start, outcome);
        }
        seat.pid.store(0, Ordering::SeqCst);
        signal(worker.pid().into(), rustix::process::Signal::KILL);
        if opened { Ok(()) } else { Err("it did not open".to_owned()) }
    }

    fn note(&self, seat: &Seat, worker: &Worker, op: Op, start: u64, outcome: Outcome) {
        let outcome = match outcome {
            Outcome::Crashed(_) if seat.struck.load(Ordering::SeqCst) => Outcome::Info("killed".to_owned()),
            other => other,
        };
        self.record(&seat.host, worker, op, start, outcome, false);
    }

    /// Lets happen what is to happen, until the cell's time is over. `survivors` are the processes that had the cache open before a
    /// server's fault.
    fn trouble(&self, fault: &Fault, seats: &[Arc<Seat>], times: &mut Times, survivors: &mut Vec<(String, String)>) -> Result<(), String> {
        self.all_open(seats);
        let (began, from) = (Instant::now(), self.now());
        let until = began + Duration::from_secs_f64(self.plan.seconds);
        match fault {
            Fault::None | Fault::Clock | Fault::Deadline => {}
            Fault::Kill => {
                for round in 0..self.plan.kills {
                    let part = f64::from(round + 1) / f64::from(self.plan.kills + 1);
                    sleep_until(began + Duration::from_secs_f64(self.plan.seconds * part));
                    let mut rng = Rng::new(self.plan.seed).fork(1000 + u64::from(round));
                    for seat in seats {
                        std::thread::sleep(Duration::from_millis(rng.below(200)));
                        seat.strike();
                    }
                }
                // A killed transaction keeps others waiting, and those that start anew count from when they see it.
                let healed = self.now();
                sleep_until(until.max(Instant::now() + AFTER_KILL));
                times.work = Some(((healed, self.now()), 1));
            }
            Fault::Pause => {
                sleep_until(began + Duration::from_secs_f64(self.plan.seconds * 0.3));
                let host = seats[0].host.clone();
                let to_all =
                    |what| seats.iter().filter(|seat| seat.host == host).for_each(|seat| signal(seat.pid.load(Ordering::SeqCst), what));
                let from = self.now();
                to_all(rustix::process::Signal::STOP);
                std::thread::sleep(Duration::from_secs_f64(self.plan.fault_seconds.min(self.plan.seconds / 2.0)));
                to_all(rustix::process::Signal::CONT);
                times.paused = Some((host, from, self.now()));
            }
            Fault::Server(name) => self.server_fault(name, seats, times, survivors)?,
        }
        sleep_until(until);
        if matches!(fault, Fault::None | Fault::Clock) {
            times.work = Some(((from, self.now()), 3));
        }
        Ok(())
    }

    /// Waits for everybody to be at work: the cell's time begins then.
    fn all_open(&self, seats: &[Arc<Seat>]) {
        let patience = Instant::now() + ALL_OPEN;
        while seats.iter().any(|seat| guard(&seat.open).is_none()) && Instant::now() < patience {
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn server_fault(
        &self,
        name: &str,
        seats: &[Arc<Seat>],
        times: &mut Times,
        survivors: &mut Vec<(String, String)>,
    ) -> Result<(), String> {
        let hook = self.plan.hook.as_ref().ok_or("there is no hook (--on-fault) to cause it")?;
        std::thread::sleep(Duration::from_secs(2));
        survivors.extend(seats.iter().filter_map(|seat| Some((seat.host.clone(), guard(&seat.open).clone()?))));
        let from = self.now();
        hook.call("on", name)?;
        std::thread::sleep(Duration::from_secs_f64(self.plan.fault_seconds));
        hook.call("off", name)?;
        times.fault = Some((from, self.now()));
        let fault = (from, self.now());
        let patience = Instant::now() + RECOVERY;
        while Instant::now() < patience {
            std::thread::sleep(Duration::from_millis(100));
            if judge::recoveries(&guard(&self.calls), survivors, fault).iter().all(|(_, after)| after.is_some()) {
                break;
            }
        }
        std::thread::sleep(Duration::from_secs(2));
        Ok(())
    }

    /// Reads everything back, in a new process. The last to look takes out what is in queues.
    fn look(&self, python: &Python, place: &Place, dir: &Path, drain: bool) -> Result<(), String> {
        let mut worker = self.new_worker(&place.host, python)?;
        let start = self.now();
        let outcome = worker.open(&on_real_drive(&self.engine, LAST_TIMEOUT), dir, LAST_DEADLINE);
        let opened = matches!(outcome, Outcome::Ok(_));
        self.record(&place.host, &worker, Op::Open, start, outcome, true);
        if opened {
            let keys = self.workload.plain_keys().into_iter().chain(self.once_keys());
            let gets = keys.map(|key| Op::Get { key });
            let counters = self.workload.counter_keys().into_iter().map(|key| Op::ReadCounter { key });
            let batches = self.workload.batch_groups().into_iter().map(|keys| Op::GetBatch { keys });
            for op in gets.chain(counters).chain(batches).chain([Op::Check]) {
                if self.ask(&mut worker, &place.host, op).is_none() && worker.is_lost() {
                    break;
                }
            }
            if drain {
                self.drain(&mut worker, &place.host);
            }
            if !worker.is_lost() {
                self.ask(&mut worker, &place.host, Op::Close);
            }
        }
        signal(worker.pid().into(), rustix::process::Signal::KILL);
        Ok(())
    }

    fn ask(&self, worker: &mut Worker, host: &str, op: Op) -> Option<Answer> {
        let start = self.now();
        let outcome = worker.call(&op, LAST_DEADLINE);
        let answer = match &outcome {
            Outcome::Ok(answer) => Some(answer.clone()),
            _ => None,
        };
        self.record(host, worker, op, start, outcome, true);
        answer
    }

    fn once_keys(&self) -> Vec<String> {
        let calls = guard(&self.calls);
        let added = calls.iter().filter_map(|call| match &call.op {
            Op::Add { key, .. } => Some(key.clone()),
            _ => None,
        });
        let mut keys: Vec<String> = added.collect();
        keys.sort();
        keys.dedup();
        keys.truncate(200);
        keys
    }

    fn drain(&self, worker: &mut Worker, host: &str) {
        for queue in self.workload.queue_names() {
            for _ in 0..100_000 {
                let answer = self.ask(worker, host, Op::Pull { queue: queue.clone() });
                if worker.is_lost() || !matches!(answer, Some(Answer::Read(Read::Value { .. } | Read::Damage(_)))) {
                    break;
                }
            }
        }
    }

    fn verdict(self, fault: &Fault, engine: &Engine, times: &Times, survivors: &[(String, String)], started: Instant) -> Outcomes {
        let mut calls = self.calls.into_inner().unwrap_or_else(PoisonError::into_inner);
        calls.sort_by_key(|call| call.start);
        let hosts: Vec<String> = self.plan.places.iter().map(|place| place.host.clone()).collect();
        let mut violations = check::check(&calls, &check::Rules { hosts: hosts.clone(), ..check::Rules::default() });
        let timeout = self.deadline.saturating_sub(HANGS);
        violations.extend(judge::late(&calls, timeout, fault.excuses_errors(), times));
        // Others say "database is locked" where they like; that is their promise.
        if engine.ours {
            violations.extend(judge::errors(&calls, fault.excuses_errors(), times));
        }
        if let Some((span, parts)) = times.work.filter(|_| engine.ours) {
            violations.extend(judge::starved(&calls, &hosts, span, parts));
        }
        let mut recovered_after = None;
        if let Some(span) = times.fault {
            let recoveries = judge::recoveries(&calls, survivors, span);
            recovered_after = recoveries.iter().filter_map(|(_, after)| *after).max_by(f64::total_cmp);
            for (process, after) in &recoveries {
                if after.is_none() {
                    let detail = format!("{process} did not write again within {} s after the fault", RECOVERY.as_secs());
                    violations.push(Violation::of_run(Wrong::NoProgress, detail));
                }
            }
        }
        Outcomes { calls, violations, seconds: started.elapsed().as_secs_f64(), recovered_after }
    }
}

fn sleep_until(moment: Instant) {
    std::thread::sleep(moment.saturating_duration_since(Instant::now()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_reaches_what_the_started_process_started() {
        let mut child = std::process::Command::new("sh").args(["-c", "sleep 60; true"]).spawn().unwrap();
        while family(child.id()).len() < 2 {
            std::thread::sleep(Duration::from_millis(5));
        }
        let all = family(child.id());
        signal(child.id().into(), rustix::process::Signal::KILL);
        child.wait().unwrap();
        let gone = |pid: &u32| std::fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |text| text.contains(") Z "));
        while !all.iter().all(gone) {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
