//! What is asked when nothing is wrong any more: that the cache opens, also after a recovery that was killed on its way, and again
//! after a repair; that everything acknowledged is there, on every host; that a read-only cache writes nothing; that no file
//! stays that nobody needs, and the size that is accounted is that of the files.

use std::sync::Arc;
use std::time::Duration;

use diskcache_core::{KeyRef, Put};

use super::ours::{Life, ROOM, findings};
use super::vfs::Gate;
use super::{World, guard};
use crate::check::{Violation, Wrong};
use crate::drive::rng::Rng;
use crate::drive::{DriveHandle, Kind};
use crate::history::{Answer, Op, Outcome, Read};

/// Recoveries that are killed, each at a step of its own.
const KILLED_RECOVERIES: u64 = 3;
/// No recovery has more steps before its first answer.
const STEPS_MAX: u64 = 120;
/// Keys that were added once that are read back.
const ONCE_MAX: usize = 100;
/// How often it is swept at least and at most, each time a whole grace later: what many killed processes left goes little by little.
const SWEEPS: u64 = 3;
const SWEEPS_MAX: u64 = 16;
/// The least time that the engine watches a file before it counts as left behind.
const WATCHED: Duration = Duration::from_secs(61);
/// What the accounted size may be off by: it counts values, and not the headers and the garbage of the newest commits.
const SIZE_SLACK: u64 = 512 << 10;

impl World<'_> {
    pub(super) fn finish(&self, rng: &mut Rng) {
        let fresh = self.hosts.len() - 1;
        for number in 0..KILLED_RECOVERIES {
            self.kill_recovery(number, rng);
        }
        let ops = self.questions();
        for host in 0..=fresh {
            self.read_back(host, &format!("{}.last", self.hosts[host]), &ops, rng);
        }
        self.mend(fresh, rng);
        if let Some(life) = self.read_back(fresh, &format!("{}.again", self.hosts[fresh]), &ops, rng) {
            self.drain(fresh, &life);
        }
        self.only_read(0, &ops, rng);
        self.sweep(fresh, rng);
    }

    /// Opens in a process that dies at some step of it.
    fn kill_recovery(&self, number: u64, rng: &mut Rng) {
        let host = (number % self.scenario.hosts as u64) as usize;
        let gate = Gate::new();
        gate.die_after(rng.below(STEPS_MAX));
        let who = self.who(host, format!("{}.dying{number}", self.hosts[host]));
        let start = self.sched.now();
        let (life, outcome) = self.machine().open(&who, &gate, rng.next_u64(), false);
        let mut calls = vec![self.call(host, &who.name, Op::Open, start, outcome, !gate.is_dead())];
        if let Ok(life) = life {
            while !gate.is_dead() && calls.len() < 100 {
                let (start, op) = (self.sched.now(), Op::Incr { key: "count/0".to_owned(), delta: 1 });
                let outcome = life.call(&op);
                calls.push(self.call(host, &who.name, op, start, outcome, !gate.is_dead()));
            }
        }
        guard(&self.calls).extend(calls);
    }

    /// Everything that is read back.
    fn questions(&self) -> Vec<Op> {
        let workload = &self.scenario.workload;
        let mut once: Vec<String> = guard(&self.calls)
            .iter()
            .filter_map(|call| match &call.op {
                Op::Add { key, .. } => Some(key.clone()),
                _ => None,
            })
            .collect();
        once.sort();
        once.dedup();
        once.truncate(ONCE_MAX);
        let mut keys = workload.plain_keys();
        once.retain(|key| !keys.contains(key));
        keys.extend(once);
        let gets = keys.into_iter().map(|key| Op::Get { key });
        let counters = workload.counter_keys().into_iter().map(|key| Op::ReadCounter { key });
        let batches = workload.batch_groups().into_iter().map(|keys| Op::GetBatch { keys });
        gets.chain(counters).chain(batches).chain([Op::Check]).collect()
    }

    fn start(&self, host: usize, name: &str, read_only: bool, rng: &mut Rng) -> Option<Life> {
        let who = self.who(host, name.to_owned());
        let start = self.sched.now();
        let (life, outcome) = self.machine().open(&who, &Gate::new(), rng.next_u64(), read_only);
        guard(&self.calls).push(self.call(host, name, Op::Open, start, outcome, true));
        life.ok()
    }

    fn ask(&self, host: usize, life: &Life, op: &Op) -> Outcome {
        let start = self.sched.now();
        let outcome = life.call(op);
        guard(&self.calls).push(self.call(host, &life.name, op.clone(), start, outcome.clone(), true));
        outcome
    }

    fn read_back(&self, host: usize, name: &str, ops: &[Op], rng: &mut Rng) -> Option<Life> {
        let life = self.start(host, name, false, rng)?;
        for op in ops {
            self.ask(host, &life, op);
        }
        Some(life)
    }

    /// A repair where there is nothing to repair.
    fn mend(&self, host: usize, rng: &mut Rng) {
        let Some(life) = self.start(host, &format!("{}.mender", self.hosts[host]), false, rng) else { return };
        let start = self.sched.now();
        let outcome = match life.cache.check(true) {
            Ok(report) => Outcome::Ok(Answer::Findings(findings(&report))),
            Err(error) => Outcome::Info(error.to_string()),
        };
        guard(&self.calls).push(self.call(host, &life.name, Op::Check, start, outcome, true));
    }

    fn drain(&self, host: usize, life: &Life) {
        for queue in self.scenario.workload.queue_names() {
            for _ in 0..100_000 {
                match self.ask(host, life, &Op::Pull { queue: queue.clone() }) {
                    Outcome::Ok(Answer::Read(Read::Value { .. } | Read::Damage(_))) => {}
                    _ => break,
                }
            }
        }
    }

    /// A cache that is opened read-only answers the same and changes nothing on the drive.
    fn only_read(&self, host: usize, ops: &[Op], rng: &mut Rng) {
        let writes = || {
            let trips = guard(&self.drive).trips(host);
            let kinds = [Kind::Write, Kind::Create, Kind::Link, Kind::Rename, Kind::Remove, Kind::Setattr, Kind::Allocate];
            kinds.iter().map(|kind| trips.made.get(kind).copied().unwrap_or(0)).sum::<u64>()
        };
        let before = writes();
        let Some(life) = self.start(host, &format!("{}.reader", self.hosts[host]), true, rng) else { return };
        for op in ops.iter().filter(|op| matches!(op, Op::Get { .. } | Op::ReadCounter { .. })) {
            self.ask(host, &life, op);
        }
        drop(life);
        let made = writes() - before;
        if made > 0 {
            self.found(Wrong::Wrote, format!("a cache opened read-only on {} made {made} changes on the drive", self.hosts[host]));
        }
    }

    fn found(&self, wrong: Wrong, detail: String) {
        guard(&self.found).push(Violation { at: self.sched.now() / 1000, ..Violation::of_run(wrong, detail) });
    }

    /// Lets clean-up have its time, and looks at what is left on the drive.
    fn sweep(&self, host: usize, rng: &mut Rng) {
        let Some(life) = self.start(host, &format!("{}.sweeper", self.hosts[host]), false, rng) else { return };
        let grace = Duration::from_millis(self.scenario.tuning.grace_ms).max(WATCHED);
        let more = self.scenario.tuning.fold_commits + self.scenario.tuning.checkpoint_commits;
        let mut left = Vec::new();
        for sweep in 0..SWEEPS_MAX {
            let few = |folder, most| self.names(host, folder).len() as u64 <= most;
            // The last commits stay until there are enough for a fold.
            if sweep >= SWEEPS && few("stage", more) && few("log", 4 * more) {
                break;
            }
            for number in 0..more {
                if let Err(error) = life.cache.set(KeyRef::text("swept"), Put::bytes(&number.to_le_bytes())) {
                    return self.found(Wrong::Unreadable, format!("a set with nothing wrong any more: {error}"));
                }
            }
            self.sched.wait_until(0, self.sched.now() + u64::try_from(grace.as_nanos()).unwrap_or(u64::MAX));
            match life.cache.check(true) {
                Ok(report) => {
                    left = report.problems.iter().filter(|problem| !problem.fixed).map(|it| it.path.display().to_string()).collect()
                }
                Err(error) => return self.found(Wrong::Unreadable, format!("a repair with nothing wrong any more: {error}")),
            }
        }
        let volume = life.cache.volume();
        drop(life);
        // On SMB a name goes when the last who has the file open closes it, and that may have been the sweeper.
        let handle = DriveHandle::new(Arc::clone(&self.drive), host);
        left.retain(|path: &String| handle.stat(path).is_ok());
        if !left.is_empty() {
            self.found(Wrong::Leaked, format!("a repair cannot remove {}", left.join(", ")));
        }
        self.look_at_files(host, volume.unwrap_or(0));
    }

    /// The files in a folder of the cache.
    fn names(&self, host: usize, folder: &str) -> Vec<(String, u64)> {
        let handle = DriveHandle::new(Arc::clone(&self.drive), host);
        let path = format!("{ROOM}/{folder}");
        let entries = handle.readdir(path.trim_end_matches('/')).unwrap_or_default();
        let files = entries.into_iter().filter(|entry| !entry.dir);
        files.map(|entry| (entry.name.clone(), handle.stat(&format!("{path}/{}", entry.name)).map_or(0, |attr| attr.size))).collect()
    }

    /// Compares the drive with what the cache says of itself. (The sweeper's own staged names went when it closed.)
    fn look_at_files(&self, host: usize, volume: u64) {
        let (mut real, mut strays, mut parts) = (0, Vec::new(), Vec::new());
        for folder in ["", "stage", "log", "run", "fold", "blob"] {
            let files = self.names(host, folder);
            if !folder.is_empty() && !files.is_empty() {
                parts.push(format!("{folder} {} in {} files", files.iter().map(|(_, len)| len).sum::<u64>(), files.len()));
            }
            for (name, len) in files {
                if matches!(folder, "log" | "run" | "fold" | "blob") {
                    real += len;
                }
                if folder == "stage" || name.starts_with(".nfs") {
                    strays.push(format!("{folder}/{name}"));
                }
            }
        }
        if !strays.is_empty() {
            let some = strays.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
            self.found(Wrong::Leaked, format!("{} files are left behind after every grace, among them {some}", strays.len()));
        }
        if real.abs_diff(volume) > SIZE_SLACK + real.max(volume) / 5 {
            let parts = parts.join(", ");
            self.found(Wrong::Size, format!("the files have {real} bytes ({parts}), and {volume} are accounted"));
        }
    }
}
