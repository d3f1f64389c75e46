//! The first front: our engine in this process, on the simulated drive, in virtual time. One seed decides everything, and the same
//! seed gives the same history, bit for bit.
//!
//! * [`sched`]: who goes on. Processes are threads that take turns at their I/O steps, each with a time of its own.
//! * [`vfs`]: the drive as core's file system, and the gate at which a process dies.
//! * [`ours`]: the engine's life and calls; [`watch`]: what the drive told it.
//! * [`finish`]: what is asked when nothing is wrong any more.
//!
//! An error that the engine calls certain counts as one: should the operation have taken effect, it is caught.

mod finish;
mod ours;
mod sched;
mod vfs;
mod watch;

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::check::{self, Violation, Wrong};
use crate::control::{self, Command, Stats};
use crate::daemon::host_names;
use crate::drive::rng::Rng;
use crate::drive::{Clock, Drive, Happened, Loss, Stage};
use crate::history::{Call, KILLED, Op, Outcome};
use crate::scenario::{Action, Blow, Event, Front, Scenario};
use crate::workload::Generator;
use ours::{Machine, Who};
use sched::{Leave, Sched};
use vfs::{Gate, between_steps};

const MS: u64 = 1_000_000;
/// How long a killed process stays away, and a host without power.
const RESTART_MS: u64 = 20;
const POWER_MS: u64 = 150;
/// Operations of each process once nothing is wrong any more.
const HEALED_OPS: u64 = 3;

/// What came of it.
#[derive(Clone, Debug)]
pub struct Simulated {
    /// All calls.
    pub calls: Vec<Call>,
    /// What is wrong.
    pub violations: Vec<Violation>,
    /// Required faults that nobody could notice.
    pub unobserved: Vec<String>,
    /// Counts of the drive.
    pub stats: Stats,
    /// The history as one number.
    pub hash: u64,
    /// What would have been drawn next: two runs that drew differently on the way differ here.
    pub next_random: u64,
    /// The drive's clock at the end, in nanoseconds.
    pub clock: u64,
    /// How long it took, by the machine's clock.
    pub seconds: f64,
    /// When the workers began, in microseconds of the history's time.
    pub began_us: u64,
    /// Faults as they happened, in the same time.
    pub faults: Vec<Happened>,
}

/// One process of the workload as its host and misfortune see it.
struct Seat {
    host: usize,
    gate: Mutex<Arc<Gate>>,
    paused_until: Arc<AtomicU64>,
    /// When it was killed last.
    died_at: Arc<AtomicU64>,
    /// It starts again no sooner than this.
    back_at: AtomicU64,
    /// Operations of a script that its lives have taken.
    taken: AtomicUsize,
}

/// What all threads of a run share.
struct World<'s> {
    scenario: &'s Scenario,
    drive: Arc<Mutex<Drive>>,
    sched: Arc<Sched>,
    hosts: Vec<String>,
    seats: Vec<Seat>,
    root: Rng,
    healed: AtomicBool,
    calls: Mutex<Vec<Call>>,
    /// What is wrong with files rather than with calls.
    found: Mutex<Vec<Violation>>,
}

fn guard<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Plays a scenario with our engine.
///
/// # Errors
/// Says what is wrong with the scenario: it names a host or a fault that is not there.
pub fn play(scenario: &Scenario, seed: u64) -> Result<Simulated, String> {
    let took = Instant::now();
    let mut hosts = host_names(scenario.hosts);
    hosts.push("host-fresh".to_owned());
    let names: Vec<&str> = hosts.iter().map(String::as_str).collect();
    let profile = scenario.sim_profile()?;
    let root = Rng::new(seed);
    let jitter_us = profile.rtt_us;
    let mut drive = Drive::new(profile, &names, seed, Clock::Virtual(0));
    for host in &scenario.local_locks {
        let host = drive.host(host).ok_or_else(|| format!("there is no host {host}"))?;
        drive.make_locks_local(host);
    }
    let drive = Arc::new(Mutex::new(drive));
    let tasks = scenario.hosts * scenario.procs + 1;
    let sched = Arc::new(Sched::new(Arc::clone(&drive), tasks, jitter_us, root.fork(2)));
    let seat = |number: usize| Seat {
        host: number / scenario.procs,
        gate: Mutex::new(Gate::new()),
        paused_until: Arc::new(AtomicU64::new(0)),
        died_at: Arc::new(AtomicU64::new(0)),
        back_at: AtomicU64::new(0),
        taken: AtomicUsize::new(0),
    };
    let seats = (0..scenario.hosts * scenario.procs).map(seat).collect();
    let world = World {
        scenario,
        drive,
        sched,
        hosts,
        seats,
        root: root.clone(),
        healed: AtomicBool::new(false),
        calls: Mutex::default(),
        found: Mutex::default(),
    };
    let (next_random, began) = world.run()?;
    let mut done = world.judge(next_random);
    done.began_us = began / 1000;
    done.seconds = took.elapsed().as_secs_f64();
    Ok(done)
}

impl World<'_> {
    /// Everything from the first file to the last answer; returns what would be drawn next, and when the workers began.
    fn run(&self) -> Result<(u64, u64), String> {
        let mut rng = self.root.fork(1);
        self.create()?;
        let began = self.sched.now();
        for fault in &self.scenario.faults {
            let mut fault = fault.clone();
            fault.from_ms = fault.from_ms.saturating_add(began / MS);
            fault.until_ms = fault.until_ms.saturating_add(began / MS);
            fault.at_ms = fault.at_ms.map(|at| at.saturating_add(began / MS));
            guard(&self.drive).add_fault(fault)?;
        }
        let end = began + (self.scenario.seconds * 1e9) as u64;
        std::thread::scope(|scope| -> Result<(), String> {
            for number in 0..self.seats.len() {
                scope.spawn(move || {
                    let _leave = Leave(&self.sched);
                    self.sched.enter(number + 1);
                    self.work(number, end);
                });
            }
            let struck = self.misfortunes(began, end, &mut rng);
            self.heal();
            self.sched.leave();
            struck
        })?;
        self.finish(&mut rng);
        Ok((rng.next_u64(), began))
    }

    fn judge(self, next_random: u64) -> Simulated {
        let mut calls = self.calls.into_inner().unwrap_or_else(PoisonError::into_inner);
        calls.sort_by(|a, b| (a.start, &a.process, a.end).cmp(&(b.start, &b.process, b.end)));
        let rules = self.scenario.rules(&self.hosts[..self.scenario.hosts]);
        let mut violations = check::check(&calls, &rules);
        violations.extend(invented(&calls));
        violations.extend(self.found.into_inner().unwrap_or_else(PoisonError::into_inner));
        let drive = guard(&self.drive);
        let stats = control::stats(&drive);
        let unobserved = self.scenario.unobserved(&stats, Front::Sim);
        let hash = crate::history::hash(&calls);
        let faults = drive.fault_log().into_iter().filter(|it| it.stage != Stage::Planned).collect();
        Simulated { calls, violations, unobserved, stats, hash, next_random, clock: drive.now(), seconds: 0.0, began_us: 0, faults }
    }

    fn machine(&self) -> Machine<'_> {
        Machine { scenario: self.scenario, drive: &self.drive, sched: &self.sched }
    }

    /// A process of the end, which nothing happens to.
    fn who(&self, host: usize, name: String) -> Who {
        Who { task: 0, host, name, paused_until: Arc::default(), died_at: Arc::default() }
    }

    fn wall(&self, host: usize, now: u64) -> u64 {
        ours::wall_us(&mut guard(&self.drive), host, now)
    }

    fn call(&self, host: usize, process: &str, op: Op, start: u64, outcome: Outcome, last: bool) -> Call {
        let end = self.sched.now();
        Call {
            host: self.hosts[host].clone(),
            process: process.to_owned(),
            op,
            start: start / 1000,
            end: end / 1000,
            wall: (self.wall(host, start), self.wall(host, end)),
            outcome,
            faults: vfs::take_met(),
            last,
        }
    }

    /// Makes the cache before anything goes wrong.
    fn create(&self) -> Result<(), String> {
        drop(vfs::take_met()); // of the run before it on this thread
        let who = self.who(0, format!("{}.maker", self.hosts[0]));
        let (life, _) = self.machine().open(&who, &Gate::new(), self.root.fork(3).next_u64(), false);
        life.map(drop).map_err(|why| format!("our engine cannot make a cache on the drive: {why}"))
    }

    /// One process of the workload, through all its lives.
    fn work(&self, number: usize, end: u64) {
        let (task, seat) = (number + 1, &self.seats[number]);
        let mut rng = self.root.fork(100 + number as u64);
        let mut calls = Vec::new();
        let mut life = 0;
        while self.sched.now() < end || !self.healed.load(Ordering::SeqCst) {
            life += 1;
            let name = format!("{}.{}.{life}", self.hosts[seat.host], number % self.scenario.procs);
            let who = Who { task, host: seat.host, name, paused_until: Arc::clone(&seat.paused_until), died_at: Arc::clone(&seat.died_at) };
            self.live(&who, seat, &mut rng, end, &mut calls);
            if self.sched.now() >= end && self.healed.load(Ordering::SeqCst) {
                break;
            }
            // Whoever died without being killed (it could not open) does not try again at once.
            let back = seat.back_at.load(Ordering::SeqCst).max(self.sched.now() + RESTART_MS * MS);
            self.sched.wait_until(task, back);
        }
        guard(&self.calls).extend(calls);
    }

    /// One life: opens, works until it is killed or the time is over, goes on a little when nothing is wrong any more, closes.
    fn live(&self, who: &Who, seat: &Seat, rng: &mut Rng, end: u64, calls: &mut Vec<Call>) {
        let gate = Gate::new();
        *guard(&seat.gate) = Arc::clone(&gate);
        let outer = between_steps(Some(self.between(who, seat, &gate)));
        let start = self.sched.now();
        let (life, outcome) = self.machine().open(who, &gate, rng.next_u64(), false);
        let last = start >= end && self.healed.load(Ordering::SeqCst);
        self.note(who, seat, &gate, Op::Open, start, outcome, last, calls);
        let (process, taken) = ((who.task - 1) % self.scenario.procs, seat.taken.load(Ordering::SeqCst));
        let began = end - (self.scenario.seconds * 1e9) as u64;
        let mut generator = Generator::of_process(&self.scenario.workload, rng.fork(1), &self.hosts[who.host], process, taken);
        if let Ok(life) = &life {
            let mut left = HEALED_OPS;
            while left > 0 && !gate.is_dead() {
                let healed = self.healed.load(Ordering::SeqCst);
                let Some((op, at_ms)) = generator.next_turn() else {
                    // Its script is over: it stays, as whoever has a cache open does.
                    if healed {
                        break;
                    }
                    self.sched.step(who.task, self.sched.now() + MS);
                    continue;
                };
                if at_ms > 0 && began + at_ms * MS > self.sched.now() {
                    self.sched.wait_until(who.task, began + at_ms * MS);
                }
                if gate.is_dead() {
                    break;
                }
                seat.taken.fetch_add(1, Ordering::SeqCst);
                left -= u64::from(healed);
                let start = self.sched.now();
                let outcome = life.call(&op);
                self.note(who, seat, &gate, op, start, outcome, healed, calls);
                self.sched.step(who.task, start + 1 + generator.pause_ms() * MS);
            }
        }
        if let Ok(life) = life {
            if !gate.is_dead() {
                let (start, last) = (self.sched.now(), self.healed.load(Ordering::SeqCst));
                let outcome = life.call(&Op::Close);
                self.note(who, seat, &gate, Op::Close, start, outcome, last, calls);
            }
            drop(life);
        }
        between_steps(outer);
    }

    /// What happens between the I/O steps of a process: others go on.
    fn between(&self, who: &Who, seat: &Seat, gate: &Arc<Gate>) -> Box<dyn FnMut()> {
        let (sched, gate, task, paused_until) = (Arc::clone(&self.sched), Arc::clone(gate), who.task, Arc::clone(&seat.paused_until));
        Box::new(move || {
            if !gate.is_dead() {
                sched.step(task, paused_until.load(Ordering::SeqCst));
            }
        })
    }

    #[expect(clippy::too_many_arguments, reason = "a call has as many parts")]
    fn note(&self, who: &Who, seat: &Seat, gate: &Gate, op: Op, start: u64, outcome: Outcome, last: bool, calls: &mut Vec<Call>) {
        let mut call = self.call(who.host, &who.name, op, start, outcome, last);
        if gate.is_dead() {
            // Its last call ended with it.
            let died = seat.died_at.load(Ordering::SeqCst).max(start);
            (call.end, call.wall.1, call.last) = (died / 1000, self.wall(who.host, died), false);
            call.outcome = Outcome::Info(KILLED.to_owned());
        }
        calls.push(call);
    }

    /// Lets the scenario's events happen until its time is over.
    fn misfortunes(&self, began: u64, end: u64, rng: &mut Rng) -> Result<(), String> {
        let mut due: Vec<(u64, &Event)> = self.scenario.events.iter().map(|event| (began + event.at_ms * MS, event)).collect();
        let mut boots: Vec<(u64, usize)> = Vec::new();
        loop {
            let boot = boots.iter().map(|(when, _)| *when).min().unwrap_or(u64::MAX);
            let next = due.iter().map(|(when, _)| *when).min().unwrap_or(u64::MAX).min(boot);
            if next >= end {
                break;
            }
            self.sched.wait_until(0, next);
            boots.retain(|&(when, host)| {
                if when <= next {
                    guard(&self.drive).boot(host);
                }
                when > next
            });
            for (when, event) in due.iter_mut().filter(|(when, _)| *when <= next) {
                self.strike(&event.action, rng, &mut boots)?;
                *when = event.every_ms.map_or(u64::MAX, |every| *when + every * MS);
            }
        }
        self.sched.wait_until(0, end);
        boots.iter().for_each(|&(_, host)| guard(&self.drive).boot(host));
        Ok(())
    }

    fn host(&self, name: &str) -> Result<usize, String> {
        self.hosts.iter().position(|host| host == name).ok_or_else(|| format!("there is no host {name}"))
    }

    fn strike(&self, action: &Action, rng: &mut Rng, boots: &mut Vec<(u64, usize)>) -> Result<(), String> {
        let now = self.sched.now();
        match action {
            Action::Drive(command) => control::carry_out(&mut guard(&self.drive), Command::clone(command)).map(drop),
            Action::Blow(Blow::Kill { host }) => {
                let host = host.as_deref().map(|name| self.host(name)).transpose()?;
                self.seats.iter().filter(|seat| host.is_none_or(|host| seat.host == host)).for_each(|seat| seat.kill(now, now));
                Ok(())
            }
            Action::Blow(Blow::KillOne) => {
                self.seats[rng.below(self.seats.len() as u64) as usize].kill(now, now);
                Ok(())
            }
            Action::Blow(Blow::Pause { host, ms }) => {
                let host = self.host(host)?;
                let until = now + ms * MS;
                self.seats.iter().filter(|seat| seat.host == host).for_each(|seat| seat.paused_until.store(until, Ordering::SeqCst));
                Ok(())
            }
            Action::Blow(Blow::PauseOne { ms }) => {
                let seat = &self.seats[rng.below(self.seats.len() as u64) as usize];
                seat.paused_until.store(now + ms * MS, Ordering::SeqCst);
                Ok(())
            }
            Action::Blow(Blow::PowerCut { host }) => self.power_cut(self.host(host)?, None, boots),
            Action::Blow(Blow::PowerCutAll { host, loss }) => {
                let loss = if loss == "all" { Loss::All } else { Loss::Some };
                self.power_cut(self.host(host)?, Some(loss), boots)
            }
        }
    }

    /// The host goes first, so that nothing of what its dying processes do reaches the server.
    fn power_cut(&self, host: usize, loss: Option<Loss>, boots: &mut Vec<(u64, usize)>) -> Result<(), String> {
        let now = self.sched.now();
        let mut drive = guard(&self.drive);
        drive.crash(host);
        if let Some(loss) = loss {
            drive.restart(loss);
        }
        drop(drive);
        let back = now + POWER_MS * MS;
        self.seats.iter().filter(|seat| seat.host == host).for_each(|seat| seat.kill(now, back));
        boots.push((back, host));
        Ok(())
    }

    /// From now on nothing is wrong.
    fn heal(&self) {
        guard(&self.drive).heal();
        self.seats.iter().for_each(|seat| seat.paused_until.store(0, Ordering::SeqCst));
        self.healed.store(true, Ordering::SeqCst);
    }
}

impl Seat {
    /// Its process dies at its next step.
    fn kill(&self, now: u64, back: u64) {
        let gate = guard(&self.gate);
        if !gate.is_dead() {
            gate.die();
            self.died_at.store(now, Ordering::SeqCst);
        }
        self.back_at.store(back, Ordering::SeqCst);
        self.paused_until.store(0, Ordering::SeqCst);
    }
}

/// Errors whose errno the drive gave nobody.
fn invented(calls: &[Call]) -> Vec<Violation> {
    let wrong = |call: &Call| match &call.outcome {
        Outcome::Fail(error) | Outcome::Info(error) if error.starts_with(ours::INVENTED) => {
            let detail = format!("{} by {} on {}: {error}", call.op.name(), call.process, call.host);
            let subject = call.op.subject().unwrap_or_default().to_owned();
            Some(Violation { subject, at: call.end, ..Violation::of_run(Wrong::Groundless, detail) })
        }
        _ => None,
    };
    calls.iter().filter_map(wrong).collect()
}

#[cfg(test)]
mod tests;
