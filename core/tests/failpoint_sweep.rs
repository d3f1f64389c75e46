//! Each I/O step of the engine, on its first, fourth, sixteenth and fortieth call: fails once, fails for ever, kills the process, or takes long.
//! A process (this test, run again with the failpoint in its environment) works on a cache and says what it is about to do and what came of it.
//! Afterwards the cache is opened without failpoints: what was acknowledged is there, what certainly failed had no effect, nothing is torn or
//! counted twice, nothing is damaged or left over after a check, and it can be written to.
//!
//! `DISKCACHE_SWEEP_STEP` plays one step alone, by its name.
#![cfg(feature = "failpoints")]
#![expect(clippy::unwrap_used, reason = "a test: its helpers panic")]

use diskcache_core::clock::{Clock, OsClock};
use diskcache_core::verify::ProblemKind;
use diskcache_core::{Cache, Error, KeyRef, Number, Options, ProfileOverride, Put, Setting};
use fail::FailScenario;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

const STEPS: [&str; 23] = [
    "open",
    "link",
    "rename",
    "unlink",
    "create_dir",
    "read_dir",
    "stat",
    "sync_dir",
    "space",
    "remove_dir",
    "read",
    "write",
    "len",
    "len_fresh",
    "set_len",
    "allocate",
    "give_back",
    "sync",
    "try_lock",
    "lock",
    "unlock",
    "map",
    "close",
];
const CALLS: [u32; 4] = [1, 4, 16, 40];
const DIR_VARIABLE: &str = "DISKCACHE_SWEEP_DIR";
const OPERATIONS: u64 = 60;
/// So many where a step fails for ever: most wait until their deadlines then.
const OPERATIONS_WAITING: u64 = 24;
const OPERATIONS_VARIABLE: &str = "DISKCACHE_SWEEP_OPERATIONS";
const KEYS: u64 = 8;
/// What a process may take besides its deadlines: the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(60);

fn options(mode: ProfileOverride) -> Options {
    let settings = [("disk_min_file_size", 20_000), ("cull_limit", 0)];
    Options {
        profile: Some(mode),
        timeout: Duration::from_millis(100),
        delta_entries_max: 16,
        checkpoint_commits: 12,
        fold_commits: 16,
        settings: settings.map(|(name, value)| (name.to_owned(), Setting::Int(value))).to_vec(),
        ..Options::default()
    }
}

/// The only value of an operation.
fn value(number: u64) -> Vec<u8> {
    let len = if number.is_multiple_of(7) { 30_000 } else { 300 };
    format!("{number};").bytes().cycle().take(len).collect()
}

/// Returns which operation's value these bytes are, all of them.
fn author(bytes: &[u8]) -> u64 {
    let number = std::str::from_utf8(bytes).ok().and_then(|text| text.split(';').next()?.parse().ok()).expect("somebody's value");
    assert!(bytes == value(number), "the value of {number} is torn");
    number
}

fn name_of(number: u64) -> &'static str {
    match number % 12 {
        1 | 6 => "incr",
        2 | 9 => "push",
        5 => "pull",
        4 => "delete",
        7 => "transact",
        11 => "read",
        _ => "set",
    }
}

mod worker {
    use super::*;

    fn tell(line: &str) {
        let mut out = std::io::stdout().lock();
        out.write_all(line.as_bytes()).and_then(|()| out.flush()).unwrap();
    }

    pub(super) fn run(dir: &Path, mode: ProfileOverride) {
        let _scenario = FailScenario::setup();
        let cache = (0..3).find_map(|_| Cache::open(dir, options(mode)).map_err(|error| tell(&format!("\n@O {error}\n"))).ok());
        let Some(cache) = cache else { return };
        let operations = std::env::var(OPERATIONS_VARIABLE).unwrap().parse().unwrap();
        for number in 1..=operations {
            tell(&format!("\n@B {number}\n"));
            let answer = operate(&cache, number);
            let answer = answer.unwrap_or_else(|error| if error.kind().is_certain() { "failed" } else { "unknown" }.to_owned());
            tell(&format!("\n@A {number} {answer}\n"));
        }
        let closed = cache.close();
        tell(&format!("\n@C {closed:?}\n"));
    }

    fn operate(cache: &Cache, number: u64) -> Result<String, Error> {
        let content = value(number);
        let key = format!("k{}", number % KEYS);
        match name_of(number) {
            "set" => cache.set(KeyRef::text(&key), Put::bytes(&content))?,
            "delete" => drop(cache.delete(KeyRef::text(&key))?),
            "incr" => drop(cache.incr(KeyRef::text("n"), Number::Int(1), Some(Number::Int(0)))?),
            "push" => drop(cache.push(Some("q"), false, Put::bytes(&content))?),
            "pull" => {
                if let Some(hit) = cache.pull(Some("q"), true)? {
                    return Ok(author(&hit.value.bytes()?).to_string());
                }
            }
            "transact" => {
                cache.transact_begin(None)?;
                let both = ["a", "b"].iter().try_for_each(|key| cache.set(KeyRef::text(key), Put::bytes(&content)));
                if both.is_err() {
                    cache.transact_rollback()?;
                    both?;
                }
                cache.transact_commit()?;
            }
            _ => {
                if let Some(found) = cache.get(KeyRef::text(&key))? {
                    author(&found.bytes()?);
                }
            }
        }
        Ok("done".to_owned())
    }
}

/// What came of an operation, as the worker said; `None`: it did not say.
type Told = BTreeMap<u64, Option<String>>;

fn told(out: &Output) -> Told {
    let mut told = Told::new();
    for line in String::from_utf8_lossy(&out.stdout).lines() {
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["@B", number] => drop(told.insert(number.parse().unwrap(), None)),
            ["@A", number, answer] => drop(told.insert(number.parse().unwrap(), Some(answer.to_owned()))),
            _ => {}
        }
    }
    told
}

/// Returns what may be there after writes of which some are in doubt: each that may have been the last to take effect.
fn possible(told: &Told, concerns: impl Fn(u64) -> bool) -> BTreeSet<Option<u64>> {
    let mut possible = BTreeSet::from([None]);
    for (number, answer) in told.iter().filter(|(number, _)| concerns(**number)) {
        let left = (name_of(*number) != "delete").then_some(*number);
        match answer.as_deref() {
            Some("failed") => {}
            None | Some("unknown") => drop(possible.insert(left)),
            Some(_) => possible = BTreeSet::from([left]),
        }
    }
    possible
}

fn check(at: &str, dir: &Path, mode: ProfileOverride, told: &Told) {
    let cache = Cache::open(dir, Options { timeout: Duration::from_secs(20), ..options(mode) }).unwrap_or_else(|e| panic!("{at}: {e}"));
    let holds = |key: &str| {
        let found = cache.get(KeyRef::text(key)).unwrap_or_else(|error| panic!("{at}: {key}: {error}"));
        found.map(|found| author(&found.bytes().unwrap_or_else(|error| panic!("{at}: {key} cannot be read: {error}"))))
    };
    for key in 0..KEYS {
        let possible = possible(told, |number| number % KEYS == key && ["set", "delete"].contains(&name_of(number)));
        let found = holds(&format!("k{key}"));
        assert!(possible.contains(&found), "{at}: k{key} holds {found:?}, not one of {possible:?}");
    }
    let both = possible(told, |number| name_of(number) == "transact");
    let (a, b) = (holds("a"), holds("b"));
    assert!(a == b && both.contains(&a), "{at}: a transaction left {a:?} and {b:?}, not one of {both:?}");
    let all = |name: &'static str, sure: bool| {
        let counts = move |answer: &Option<String>| match answer.as_deref() {
            Some("failed") => false,
            None | Some("unknown") => !sure,
            Some(_) => true,
        };
        told.iter().filter(move |(number, answer)| name_of(**number) == name && counts(answer)).map(|(number, answer)| (*number, answer))
    };
    let sum = cache.get(KeyRef::text("n")).unwrap().and_then(|value| value.as_number());
    let sum = match sum {
        None => 0,
        Some(Number::Int(sum)) => usize::try_from(sum).unwrap(),
        other => panic!("{at}: the counter is {other:?}"),
    };
    let (least, most) = (all("incr", true).count(), all("incr", false).count());
    assert!(least <= sum && sum <= most, "{at}: the counter says {sum}, but {least} were acknowledged and {most} tried");

    let mut out: Vec<u64> = all("pull", true).filter_map(|(_, answer)| answer.as_ref()?.parse().ok()).collect();
    while let Some(hit) = cache.pull(Some("q"), true).unwrap() {
        out.push(author(&hit.value.bytes().unwrap()));
    }
    let once: BTreeSet<u64> = out.iter().copied().collect();
    assert_eq!(once.len(), out.len(), "{at}: an item came out twice: {out:?}");
    let tried: BTreeSet<u64> = all("push", false).map(|(number, _)| number).collect();
    assert!(once.is_subset(&tried), "{at}: nobody pushed some of {once:?}");
    let missing = all("push", true).filter(|(number, _)| !once.contains(number)).count();
    let doubtful = all("pull", false).count() - all("pull", true).count();
    assert!(missing <= doubtful, "{at}: {missing} items are lost, and {doubtful} may have been taken by calls that failed");

    let problems = cache.check(true).unwrap().problems;
    // Who dies or fails while it makes a cache may leave it without the copy of its marker.
    let harmless = [ProblemKind::Leftover, ProblemKind::Marker];
    assert!(problems.iter().all(|problem| harmless.contains(&problem.kind)), "{at}: {problems:#?}");
    let report = cache.check(false).unwrap();
    assert!(report.problems.is_empty() && report.commits_lost == 0 && report.unknown.is_empty(), "{at}: {report:#?}");
    assert_eq!(cache.damaged_reads().unwrap(), 0, "{at}");
    cache.set(KeyRef::text("after"), Put::bytes(&value(1))).unwrap();
    assert_eq!(holds("after"), Some(1), "{at}");
}

/// What a step does from a call on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    FailOnce,
    FailForever,
    Kill,
    Delay,
}

impl Action {
    fn failpoint(self, step: &str, call: u32) -> String {
        let then = match self {
            Self::FailOnce => "1*return(5)->off",
            Self::FailForever => "return(5)",
            Self::Kill => "return(kill)",
            Self::Delay => "1*sleep(100)->off",
        };
        let before = if call > 1 { format!("{}*off->", call - 1) } else { String::new() };
        format!("vfs::{step}={before}{then}")
    }
}

/// Plays an action at each step. Returns the steps that a kill was met at.
fn sweep(test: &str, mode: ProfileOverride, action: Action) -> BTreeSet<&'static str> {
    if let Some(dir) = std::env::var_os(DIR_VARIABLE) {
        worker::run(Path::new(&dir), mode);
        std::process::exit(0);
    }
    let only = std::env::var("DISKCACHE_SWEEP_STEP").ok();
    let mut met = BTreeSet::new();
    for step in STEPS.into_iter().filter(|step| only.as_deref().is_none_or(|only| only == *step)) {
        // A step that fails for ever makes many calls wait until their deadlines.
        let (calls, operations) = if action == Action::FailForever { (&CALLS[..2], OPERATIONS_WAITING) } else { (&CALLS[..], OPERATIONS) };
        for call in calls {
            let failpoint = action.failpoint(step, *call);
            let at = format!(
                "{failpoint}: DISKCACHE_SWEEP_STEP={step} cargo test -p diskcache-core --features failpoints --test failpoint_sweep {test}"
            );
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("cache");
            let begun = OsClock.boot();
            let out = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", test, "--nocapture"])
                .env(DIR_VARIABLE, &path)
                .env("FAILPOINTS", &failpoint)
                .env(OPERATIONS_VARIABLE, operations.to_string())
                .output()
                .unwrap();
            let took = OsClock.boot() - begun;
            let killed = out.status.signal() == Some(9);
            if killed {
                met.insert(step);
            }
            let errors = String::from_utf8_lossy(&out.stderr);
            assert!(out.status.success() || (killed && action == Action::Kill), "{at}: {} {errors}", out.status);
            assert!(took < PATIENCE, "{at}: {operations} operations took {took:?}");
            check(&at, &path, mode, &told(&out));
        }
    }
    met
}

/// Steps that this much work does not come to, in either mode.
const UNMET_LOCAL: [&str; 6] = ["give_back", "len_fresh", "lock", "rename", "set_len", "space"];
const UNMET_SHARED: [&str; 9] = ["allocate", "give_back", "lock", "map", "remove_dir", "rename", "set_len", "space", "unlock"];

#[test]
fn local_steps_that_fail_once() {
    sweep("local_steps_that_fail_once", ProfileOverride::Local, Action::FailOnce);
}

#[test]
fn local_steps_that_fail_for_ever() {
    sweep("local_steps_that_fail_for_ever", ProfileOverride::Local, Action::FailForever);
}

#[test]
fn local_steps_that_take_long() {
    sweep("local_steps_that_take_long", ProfileOverride::Local, Action::Delay);
}

#[test]
fn local_steps_at_which_the_process_is_killed() {
    let met = sweep("local_steps_at_which_the_process_is_killed", ProfileOverride::Local, Action::Kill);
    assert_eq!(met, STEPS.into_iter().filter(|step| !UNMET_LOCAL.contains(step)).collect(), "the steps that were met");
}

#[test]
fn shared_steps_that_fail_once() {
    sweep("shared_steps_that_fail_once", ProfileOverride::Shared, Action::FailOnce);
}

#[test]
fn shared_steps_that_fail_for_ever() {
    sweep("shared_steps_that_fail_for_ever", ProfileOverride::Shared, Action::FailForever);
}

#[test]
fn shared_steps_that_take_long() {
    sweep("shared_steps_that_take_long", ProfileOverride::Shared, Action::Delay);
}

#[test]
fn shared_steps_at_which_the_process_is_killed() {
    let met = sweep("shared_steps_at_which_the_process_is_killed", ProfileOverride::Shared, Action::Kill);
    assert_eq!(met, STEPS.into_iter().filter(|step| !UNMET_SHARED.contains(step)).collect(), "the steps that were met");
}
