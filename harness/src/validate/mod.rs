//! Real mounts, given by path: our engine and others work on them from several hosts while clients and servers fail, and the same
//! checks judge the history as on the simulated drive.
//!
//! Nothing outside of one new folder on the drive is touched, and that folder is removed at the end, whatever happens.

mod fault;
mod judge;
mod place;
mod play;

use std::path::PathBuf;
use std::time::Duration;

use reports::mounts::{MountInfo, MountReport, MountRun, Promise};
use reports::{EngineInfo, Verdict};

use crate::check::{Violation, Wrong};
use crate::engine::Engine;
use crate::history::{Call, Op, Outcome};
use crate::matrix;

pub use fault::{CLIENT, Fault, Hook, fake_clock};
pub use place::{Folder, Place, same_share};

/// What is to be done.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What the drive is called in the report.
    pub name: String,
    /// The hosts that work: a mount of the share each.
    pub places: Vec<Place>,
    /// Hosts that only look at the end, with nothing in their caches.
    pub cold: Vec<Place>,
    /// Python that workers run with.
    pub python: PathBuf,
    /// Processes on each host.
    pub procs: usize,
    /// How long each cell works.
    pub seconds: f64,
    /// How often all processes are killed in the cell `kill`.
    pub kills: u32,
    /// How long a fault lasts.
    pub fault_seconds: f64,
    /// What a call may take (the caches' `timeout`).
    pub timeout: Duration,
    /// Seed of the operations.
    pub seed: u64,
    /// Causes the server's faults.
    pub hook: Option<Hook>,
    /// Folder for histories and the report.
    pub out: PathBuf,
    /// The command that runs this again, before its options.
    pub again: String,
}

/// What came of one cell.
#[derive(Clone, Debug)]
pub struct Outcomes {
    /// All calls.
    pub calls: Vec<Call>,
    /// What is wrong with them.
    pub violations: Vec<Violation>,
    /// How long it took.
    pub seconds: f64,
    /// How long after the fault's end the last process worked again.
    pub recovered_after: Option<f64>,
}

impl Plan {
    /// How long a cell takes, about.
    #[must_use]
    pub fn estimate(&self, fault: &Fault) -> f64 {
        let around = 4.0;
        match fault {
            Fault::Server(_) => self.seconds.max(6.0) + self.fault_seconds + around,
            _ => self.seconds + around,
        }
    }

    /// The command that plays one cell again.
    #[must_use]
    pub fn replay(&self, fault: &Fault, engine: &Engine) -> String {
        format!("{} --faults {} --engines {} --seconds {} --seed {}", self.again, fault.name(), engine.name, self.seconds, self.seed)
    }

    /// Plays one cell, in a new folder on the drive.
    ///
    /// # Errors
    /// Something that is not the engine's fault was in the way: nothing is known about it then.
    pub fn play(&self, fault: &Fault, engine: &Engine) -> Result<Outcomes, String> {
        let dir = self.out.join(format!("{}.{}", fault.name(), engine.name));
        std::fs::create_dir_all(&dir).map_err(|err| format!("cannot make {}: {err}", dir.display()))?;
        let outcomes = play::play(self, fault, engine, &dir)?;
        let mut text = Vec::new();
        let path = dir.join("history.ndjson");
        crate::history::write(&outcomes.calls, &mut text)
            .and_then(|()| std::fs::write(&path, text))
            .map_err(|err| format!("cannot write {}: {err}", path.display()))?;
        Ok(outcomes)
    }

    /// What a cell says in the report.
    #[must_use]
    pub fn describe(&self, fault: &Fault, engine: &Engine, outcomes: &Result<Outcomes, String>) -> MountRun {
        let mut run = MountRun {
            mount: self.name.clone(),
            workload: format!("all operations, {} processes on each of {} hosts", self.procs, self.places.len()),
            fault: fault.title(),
            engine: engine.name.clone(),
            replay: self.replay(fault, engine),
            evidence: Some(format!("{}.{}", fault.name(), engine.name)),
            ..MountRun::default()
        };
        let outcomes = match outcomes {
            Ok(outcomes) => outcomes,
            Err(why) => {
                run.error = Some(why.clone());
                return run;
            }
        };
        run.verdict = if outcomes.violations.is_empty() { Verdict::Sound } else { Verdict::Damaged };
        run.promises = promises(outcomes);
        for call in outcomes.calls.iter().filter(|call| !call.last) {
            match call.outcome {
                Outcome::Ok(_) => run.answered += 1,
                Outcome::Fail(_) | Outcome::Info(_) => run.failed += 1,
                Outcome::Crashed(_) | Outcome::Hung => run.open += 1,
            }
            if call.answer().is_some() && !matches!(call.op, Op::Open | Op::Close | Op::Get { .. } | Op::GetBatch { .. }) {
                *run.writes_by_host.entry(call.host.clone()).or_default() += 1;
            }
        }
        let longest = outcomes.calls.iter().filter(|call| !call.last && call.answer().is_some()).map(|call| call.end - call.start).max();
        run.longest_s = longest.map(|longest| longest as f64 / 1e6);
        run.deadline_s = Some(self.timeout_in(fault).as_secs_f64());
        run.recovered_s = outcomes.recovered_after;
        run.seconds = outcomes.seconds;
        run
    }

    /// What a call may take in a cell.
    #[must_use]
    pub fn timeout_in(&self, fault: &Fault) -> Duration {
        match fault {
            Fault::Deadline => Duration::from_millis(50),
            // Shorter than the fault, so that calls meet their deadlines in it.
            Fault::Server(_) => self.timeout.min(Duration::from_secs_f64((self.fault_seconds * 2.0 / 3.0).max(1.0))),
            _ => self.timeout,
        }
    }

    /// The report of all cells.
    #[must_use]
    pub fn report(&self, engines: &[(Engine, String)], runs: Vec<MountRun>, mount: MountInfo) -> MountReport {
        let engine = |(engine, version): &(Engine, String)| EngineInfo {
            name: engine.name.clone(),
            title: engine.title.clone(),
            version: version.clone(),
            ours: engine.ours,
        };
        MountReport {
            engines: engines.iter().map(engine).collect(),
            mounts: vec![mount],
            runs,
            ..MountReport::new(&matrix::now(), &std::env::args().collect::<Vec<_>>().join(" "))
        }
    }
}

/// Everything that a run promises, and how often each was broken.
fn promises(outcomes: &Outcomes) -> Vec<Promise> {
    const ALL: [(Wrong, &str); 11] = [
        (Wrong::Lost, "no acknowledged write is lost"),
        (Wrong::Torn, "no value is torn, mixed or another key's"),
        (Wrong::Stale, "no read returns what was overwritten before it began"),
        (Wrong::Counter, "counters are exact"),
        (Wrong::Twice, "nothing takes effect twice"),
        (Wrong::Half, "a batch is seen whole"),
        (Wrong::Hung, "every call ends by its deadline"),
        (Wrong::Crashed, "no process crashes"),
        (Wrong::Unreadable, "it opens and works where nothing is wrong, and its errors are those that callers expect"),
        (Wrong::Malformed, "its own check finds no damage"),
        (Wrong::NoProgress, "every host gets on, and every process works again by itself after a fault"),
    ];
    let promise = |(wrong, words): &(Wrong, &str)| {
        let mine: Vec<&Violation> = outcomes.violations.iter().filter(|it| it.wrong == *wrong).collect();
        Promise {
            promise: (*words).to_owned(),
            broken: mine.len() as u64,
            examples: mine.iter().take(3).map(|it| it.detail.clone()).collect(),
            note: String::new(),
        }
    };
    ALL.iter().map(promise).collect()
}
