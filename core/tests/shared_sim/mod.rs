//! A deterministic simulation: processes on several hosts run the real shared log over a simulated server, interleaved, failed,
//! killed and restarted by a seed; then what they were told is held against what is in the log.
//!
//! Checked: what was acknowledged is in the log exactly once, at the position it was told; what is unknown at most once; what
//! failed for certain, never; every state is the log replayed to its position, and nothing else; a read shows all that was
//! acknowledged or shown before it began (where a look is exact); records of one commit are seen together; a conditional commit
//! counts only where it was decided; every call ends by its deadline; and when the weather is calm again, all agree and go on.

#![expect(unreachable_pub, reason = "a test binary exports nothing; `pub` says what its own files may use")]

mod checks;
mod host;
mod sched;
mod server;

pub use server::Mutation;

use crate::shared_support::{MARKER, Process, body_of, within};
use checks::{Ledger, Outcome};
use diskcache_core::chance::Chance;
use diskcache_core::clock::{Clock, Deadline};
use diskcache_core::format::BodyBuilder;
use diskcache_core::log::{Log, Look, Published, SharedLog, SharedOptions};
use diskcache_core::{Error, ErrorKind};
use host::{HostVfs, Incarnation, Killed, World};
use sched::{Dice, Scheduler, SimClock};
use server::Server;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

const GRACE: Duration = Duration::from_secs(20);
const TIMEOUT: Duration = Duration::from_secs(30);
/// What one request may take beyond the deadline (an outage on a hard mount).
const SLACK: Duration = Duration::from_secs(3);

/// Random numbers that a seed fixes.
#[derive(Debug)]
struct SeededChance(Mutex<Dice>);

impl Chance for SeededChance {
    fn next(&self) -> io::Result<u128> {
        let mut dice = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok((u128::from(dice.roll()) << 64) | u128::from(dice.roll()))
    }
}

/// One whole run.
pub struct Run {
    world: Arc<World>,
    chance: Arc<SeededChance>,
    ledger: Mutex<Ledger>,
    seed: u64,
    processes: usize,
    mutation: Mutation,
}

/// Runs one seed; returns a fingerprint of the run, or what was violated.
pub fn run(seed: u64, mutation: Mutation) -> Result<(u64, u64, u64), String> {
    let mut dice = Dice::new(seed);
    let processes = 2 + dice.below(3) as usize;
    let look = if dice.chance(300) { Look::Reopen } else { Look::Statx };
    let scheduler = Arc::new(Scheduler::new(dice.roll(), processes));
    let server = Server::new(Dice::new(dice.roll()), mutation, processes);
    let world = Arc::new(World { scheduler, server: Mutex::new(server), look, grace: GRACE });
    let chance = Arc::new(SeededChance(Mutex::new(Dice::new(dice.roll()))));
    let run = Run { world, chance, ledger: Mutex::new(Ledger::new(look == Look::Statx)), seed, processes, mutation };
    std::thread::scope(|scope| {
        for me in 0..processes {
            let run = &run;
            std::thread::Builder::new().stack_size(512 << 10).spawn_scoped(scope, move || run.process(me)).expect("a thread");
        }
    });
    let fingerprint = run.world.scheduler.fingerprint();
    let server = run.world.server();
    run.ledger.lock().unwrap_or_else(PoisonError::into_inner).verdict(&server).map(|()| fingerprint)
}

impl Run {
    /// The life of one process: born again each time that it is killed, until its work is done.
    fn process(&self, me: usize) {
        self.world.scheduler.begin(me);
        let mut dice = Dice::new(self.seed ^ (me as u64 + 1).wrapping_mul(0xabcd_ef01));
        let mut left = 6 + dice.below(14);
        for life in 0..20 {
            let calm = life == 19;
            let ended = catch_unwind(AssertUnwindSafe(|| self.live(me, life, &mut dice, &mut left, calm)));
            match ended {
                Ok(()) => break,
                Err(end) if end.is::<Killed>() => self.note(|ledger| ledger.killed(me)),
                Err(panic) => {
                    let text = panic.downcast_ref::<String>().cloned().or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
                    self.note(|ledger| ledger.violated(format!("process {me} panicked: {}", text.unwrap_or_default())));
                    break;
                }
            }
        }
        self.world.scheduler.done(me);
    }

    fn note<T>(&self, f: impl FnOnce(&mut Ledger) -> T) -> T {
        f(&mut self.ledger.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn live(&self, me: usize, life: u64, dice: &mut Dice, left: &mut u64, calm: bool) {
        let host = if self.processes > 2 { me % 2 } else { me };
        let incarnation = Arc::new(Incarnation {
            world: Arc::clone(&self.world),
            me,
            host,
            dead: AtomicBool::new(false),
            paused: AtomicBool::new(false),
        });
        let clock = SimClock { scheduler: Arc::clone(&self.world.scheduler), me };
        let worker = Worker { run: self, me, life, incarnation, clock };
        let mut process = worker.open();
        self.world.server().calm = calm;
        while *left > 0 {
            *left -= 1;
            worker.act(&mut process, dice, *left);
        }
        // Its last word, in calm weather: everybody can read all and go on.
        if self.note(|ledger| ledger.finishes(me, self.processes)) {
            self.world.server().calm = true;
            worker.last_word(&mut process);
        }
    }
}

/// One incarnation at work.
struct Worker<'a> {
    run: &'a Run,
    me: usize,
    life: u64,
    incarnation: Arc<Incarnation>,
    clock: SimClock,
}

/// A process and the handle by which it collects (its own, so that a mutation can give it another grace).
struct Member {
    process: Process,
    collector: SharedLog,
    covered: u64,
}

impl Worker<'_> {
    fn options(&self, grace: Duration) -> SharedOptions {
        let chance: Arc<dyn Chance> = Arc::<SeededChance>::clone(&self.run.chance);
        let absence = Duration::from_secs(3);
        SharedOptions { look: self.run.world.look, grace, absence, readers: 1, chance, ..SharedOptions::default() }
    }

    fn open(&self) -> Member {
        let forever = Duration::from_secs(1_000_000_000);
        let grace = if self.run.mutation == Mutation::NoPredecessor { forever } else { GRACE };
        let open = |grace| {
            let (vfs, clock) = (Arc::new(HostVfs(Arc::clone(&self.incarnation))), Arc::new(self.clock.clone()));
            SharedLog::open(vfs, clock, Path::new("/c"), MARKER, self.options(grace))
        };
        if self.life == 0 {
            let (vfs, clock) = (Arc::new(HostVfs(Arc::clone(&self.incarnation))), Arc::new(self.clock.clone()));
            self.call("create", || SharedLog::create(vfs, clock, Path::new("/c"), MARKER, self.options(GRACE), self.deadline())).ok();
        }
        let mut member = Member { process: Process::new(open(grace)), collector: open(GRACE), covered: 0 };
        self.call("start", || member.process.start(self.deadline())).ok();
        member
    }

    fn deadline(&self) -> Deadline {
        within(&self.clock, TIMEOUT.as_secs())
    }

    /// Calls, and checks that the call ends by its deadline.
    fn call<T>(&self, what: &str, call: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
        let began = self.clock.boot();
        let answer = call();
        let took = self.clock.boot() - began;
        if took > TIMEOUT + SLACK && !self.incarnation.paused.swap(false, Ordering::Relaxed) {
            self.run.note(|ledger| ledger.violated(format!("process {}: {what} took {took:?}", self.me)));
        }
        if let Err(e) = &answer
            && !matches!(e.kind(), ErrorKind::Timeout | ErrorKind::OutcomeUnknown | ErrorKind::Io)
        {
            self.run.note(|ledger| ledger.violated(format!("process {}: {what} failed oddly: {e}", self.me)));
        }
        answer
    }

    fn act(&self, member: &mut Member, dice: &mut Dice, nth: u64) {
        match dice.below(100) {
            0..55 => self.set(member, nth, 1, false),
            55..62 => self.set(member, nth, 2, false),
            62..70 => self.set(member, nth, 1, true),
            70..88 => self.read(member),
            88..94 => self.checkpoint(member),
            _ => self.clock.sleep(Duration::from_millis(1 + dice.below(12_000))),
        }
        member.collector.collect(0, member.covered);
    }

    fn set(&self, member: &mut Member, nth: u64, count: usize, conditional: bool) {
        let names: Vec<String> = (0..count).map(|i| format!("{}.{}.{nth}.{i}", self.me, self.life)).collect();
        let body = body_of(&names.iter().map(String::as_str).collect::<Vec<_>>());
        let decided_on = conditional.then_some(member.process.cursor.position);
        let outcome = self.publish(member, &names, &body, decided_on);
        self.run.note(|ledger| {
            let shown = member.process.cursor.position;
            ledger.concluded(self.me, outcome, shown, &member.process.state);
        });
    }

    fn publish(&self, member: &mut Member, names: &[String], body: &BodyBuilder, decided_on: Option<u64>) -> Outcome {
        self.run.note(|ledger| ledger.began(self.me, names));
        loop {
            match self.call("publish", || member.process.publish_body(body, decided_on, self.deadline())) {
                Ok(Published::At(n)) if decided_on.is_none_or(|position| position == n) => return Outcome::Acknowledged(n),
                Ok(Published::At(_)) => return Outcome::Void,
                Ok(Published::Held) => unreachable!("nothing replayed here holds anybody"),
                Ok(Published::Behind) => {
                    if self.call("start", || member.process.start(self.deadline())).is_err() || decided_on.is_some() {
                        return Outcome::Failed;
                    }
                }
                Err(e) if e.kind() == ErrorKind::OutcomeUnknown => return Outcome::Unknown,
                Err(_) => return Outcome::Failed,
            }
        }
    }

    fn read(&self, member: &mut Member) {
        let before = self.run.note(|ledger| ledger.read_begins());
        if self.call("catch up", || member.process.catch_up(self.deadline())).is_ok() {
            let (cursor, state) = (member.process.cursor, &member.process.state);
            self.run.note(|ledger| ledger.read_ends(self.me, &before, cursor.position, state));
        }
    }

    /// Publishes a checkpoint; what the adopted one covers may be collected.
    fn checkpoint(&self, member: &mut Member) {
        let published = self.call("checkpoint", || member.process.checkpoint(self.deadline()));
        if matches!(published, Ok(Published::At(_))) {
            let too_much = if self.run.mutation == Mutation::CollectTooMuch { 4 } else { 0 };
            member.covered = member.process.state.covered + too_much;
        }
    }

    fn last_word(&self, member: &mut Member) {
        self.clock.sleep(Duration::from_secs(5));
        for what in ["settles", "and all is well"] {
            if let Err(e) = member.process.catch_up(self.deadline()) {
                self.run.note(|ledger| ledger.violated(format!("in calm weather: {e}")));
            }
            self.set(member, if what == "settles" { 1_000_000 } else { 1_000_001 }, 1, false);
        }
        self.read(member);
        self.run.note(|ledger| ledger.went_on(self.me));
    }
}
