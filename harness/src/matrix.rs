//! Runs scenarios, engines and seeds against each other, several runs at the same time, on one of the two fronts.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use reports::{EngineInfo, FaultInfo, Report, RunInfo, ScenarioInfo, TripRow, Verdict};

use crate::check::Wrong;
use crate::describe;
pub use crate::describe::{damage, describe, verdict};
use crate::drive::catalogue;
use crate::engine::Engine;
use crate::evidence;
use crate::replay::Replay;
use crate::runner::{self, Bench, Run};
use crate::scenario::{Front, Scenario};
use crate::sim;

/// What is to be run.
#[derive(Clone, Debug)]
pub struct Matrix {
    /// Rows.
    pub scenarios: Vec<Scenario>,
    /// Columns.
    pub engines: Vec<Engine>,
    /// Each cell once for each.
    pub seeds: Vec<u64>,
    /// Runs at the same time.
    pub jobs: usize,
    /// Each run twice; they must be the same.
    pub twice: bool,
    /// Folder for what each run leaves.
    pub out: PathBuf,
}

/// What runs one cell: the front, and what it needs.
#[derive(Clone, Copy, Debug)]
pub enum Stage<'b> {
    /// In process.
    Sim,
    /// On mounts.
    Fuse(&'b Bench),
}

impl Stage<'_> {
    /// Which front it is.
    #[must_use]
    pub fn front(&self) -> Front {
        match self {
            Stage::Sim => Front::Sim,
            Stage::Fuse(_) => Front::Fuse,
        }
    }

    /// Plays one cell.
    ///
    /// # Errors
    /// It could not be run: nothing is known then.
    pub fn play(&self, scenario: &Scenario, engine: &Engine, seed: u64) -> Result<Run, String> {
        match self {
            Stage::Fuse(bench) => runner::play(bench, scenario, engine, seed),
            Stage::Sim if engine.ours => sim::play(scenario, seed).map(Run::from),
            Stage::Sim => Err(format!("{} is no part of this program: play it with --front fuse", engine.title)),
        }
    }
}

fn estimate(scenario: &Scenario, front: Front) -> f64 {
    match front {
        Front::Sim => 0.3,
        Front::Fuse => scenario.seconds + 2.5,
    }
}

/// Plays one cell, and again if each is to be played twice.
fn play(stage: Stage<'_>, matrix: &Matrix, scenario: &Scenario, engine: &Engine, seed: u64) -> RunInfo {
    let run = stage.play(scenario, engine, seed);
    let mut info = describe(scenario, engine, seed, stage.front(), &run);
    if matrix.twice
        && let Ok(first) = &run
        && let Ok(second) = stage.play(scenario, engine, seed)
        && first.marks != second.marks
    {
        info.verdict = info.verdict.max(Verdict::Unknown);
        info.error = Some(format!("two runs of the same seed differ: {:x?} and {:x?}", first.marks, second.marks));
    }
    if let Ok(run) = &run {
        keep(stage.front(), matrix, scenario, engine, seed, run, &mut info);
    }
    info
}

/// Leaves a run in its folder, where it can be explained: on mounts each, since none can be had again as it was; in process those in which
/// something is wrong.
fn keep(front: Front, matrix: &Matrix, scenario: &Scenario, engine: &Engine, seed: u64, run: &Run, info: &mut RunInfo) {
    if front == Front::Sim && info.verdict == Verdict::Sound {
        return;
    }
    let dir = runner::run_dir(&matrix.out, &scenario.name, &engine.name, seed);
    let plan = Replay { engine_command: engine.command.clone(), ..Replay::new(&engine.name, seed, front, scenario.clone()) };
    if let Err(why) = evidence::save(&dir, &plan.seen(run), run) {
        info.error.get_or_insert(why);
        return;
    }
    let file = dir.join(evidence::PLAN);
    if let Some(plan) = &mut info.plan {
        plan.file = file.strip_prefix(&matrix.out).ok().map(|file| file.display().to_string());
    }
    if !scenario.is_built_in() {
        info.replay = format!("./ci/validate replay {}", describe::quoted(&file.display().to_string()));
    }
}

/// Runs everything; `tell` hears of each run as it ends.
pub fn run(stage: Stage<'_>, matrix: &Matrix, tell: impl Fn(&RunInfo) + Sync) -> Vec<RunInfo> {
    let mut todo = VecDeque::new();
    for seed in &matrix.seeds {
        for scenario in matrix.scenarios.iter().filter(|scenario| scenario.fronts.contains(&stage.front())) {
            todo.extend(matrix.engines.iter().map(|engine| (scenario, engine, *seed)));
        }
    }
    let total: f64 = todo.iter().map(|(scenario, _, _)| estimate(scenario, stage.front())).sum();
    let bar = ProgressBar::new(todo.len() as u64);
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} runs, {elapsed} of about {msg}: {prefix}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.set_message(format!("{:.0} s", total / matrix.jobs.max(1) as f64));
    bar.enable_steady_tick(Duration::from_millis(500));
    let (todo, done) = (Mutex::new(todo), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..matrix.jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let next = todo.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                    let Some((scenario, engine, seed)) = next else { break };
                    bar.set_prefix(format!("{} with {}", scenario.name, engine.name));
                    let info = play(stage, matrix, scenario, engine, seed);
                    bar.suspend(|| tell(&info));
                    bar.inc(1);
                    done.lock().unwrap_or_else(PoisonError::into_inner).push(info);
                }
            });
        }
    });
    bar.finish_and_clear();
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    let row = |name: &str| matrix.scenarios.iter().position(|scenario| scenario.name == name);
    let column = |name: &str| matrix.engines.iter().position(|engine| engine.name == name);
    done.sort_by_key(|info| (row(&info.scenario), column(&info.engine), info.seed));
    done
}

/// One line on a run.
#[must_use]
pub fn line(info: &RunInfo) -> String {
    let verdict = match info.verdict {
        Verdict::Sound => "sound  ",
        Verdict::Damaged => "DAMAGED",
        Verdict::Unknown => "UNKNOWN",
        Verdict::NotRun => "not run",
    };
    let damage: Vec<String> = info.damage.iter().map(|it| format!("{} {}x", it.what, it.count)).collect();
    let mut tail = info.error.iter().cloned().chain(damage).collect::<Vec<_>>().join(", ");
    if info.verdict != Verdict::Sound {
        tail += &format!("\n         again: {}", info.replay);
    }
    format!(
        "{verdict}  {:<26} {:<17} seed {:<3} {:>6} calls  {:>4} without an answer  {tail}",
        info.scenario, info.engine, info.seed, info.answered, info.unanswered
    )
}

/// Whether a kind of wrong is harm: data lost or wrong, a process that died or hung. An error without a cause and a host that waited are
/// damage, too, but cost nobody anything yet.
#[must_use]
pub fn is_harm(wrong: Wrong) -> bool {
    use Wrong::{Counter, Crashed, Expired, Half, Hung, Lost, Malformed, Order, Silent, Stale, Torn, Twice, Unreadable};
    matches!(wrong, Lost | Torn | Stale | Expired | Counter | Twice | Half | Order | Silent | Hung | Crashed | Unreadable | Malformed)
}

/// Whether a run did harm.
#[must_use]
pub fn is_harmed(info: &RunInfo) -> bool {
    info.damage.iter().any(|damage| Wrong::ALL.into_iter().any(|wrong| is_harm(wrong) && wrong.title() == damage.what))
}

/// In how many scenarios at least one engine that is not ours was harmed.
#[must_use]
pub fn harmed(report: &Report) -> usize {
    let ours = |name: &str| report.engines.iter().any(|engine| engine.ours && engine.name == name);
    let scenarios: BTreeSet<&str> =
        report.runs.iter().filter(|run| !ours(&run.engine) && is_harmed(run)).map(|run| run.scenario.as_str()).collect();
    scenarios.len()
}

/// How many runs say nothing of what they are for, and how many more came to no verdict on an engine that is not ours, which is a finding as good as
/// another: a drive that it cannot be judged on.
#[must_use]
pub fn unjudged(report: &Report) -> (usize, usize) {
    let ours = |run: &RunInfo| report.engines.iter().any(|engine| engine.ours && engine.name == run.engine);
    let mine = |run: &&RunInfo| run.verdict == Verdict::NotRun || (run.verdict == Verdict::Unknown && ours(run));
    let others = |run: &&RunInfo| run.verdict == Verdict::Unknown && !ours(run);
    (report.runs.iter().filter(mine).count(), report.runs.iter().filter(others).count())
}

/// A line for each engine.
#[must_use]
pub fn summary(report: &Report) -> String {
    let line = |engine: &EngineInfo| {
        let (damaged, played) = report.damaged(&engine.name);
        let harmed: BTreeSet<&str> =
            report.runs.iter().filter(|run| run.engine == engine.name && is_harmed(run)).map(|run| run.scenario.as_str()).collect();
        let harmed = harmed.len();
        format!("{:<42} damaged in {damaged} of {played} scenarios, with harm to data or processes in {harmed}\n", engine.title)
    };
    report.engines.iter().map(line).collect()
}

/// The report of a matrix.
#[must_use]
pub fn report(matrix: &Matrix, versions: &BTreeMap<String, String>, runs: Vec<RunInfo>, trips: Vec<TripRow>, front: Front) -> Report {
    let engines = matrix.engines.iter().map(|engine| EngineInfo {
        name: engine.name.clone(),
        title: engine.title.clone(),
        version: versions.get(&engine.name).cloned().unwrap_or_default(),
        ours: engine.ours,
    });
    let scenarios = matrix.scenarios.iter().map(|scenario| ScenarioInfo {
        name: scenario.name.clone(),
        title: scenario.title.clone(),
        source: scenario.source.clone(),
        story: scenario.story.clone(),
        faults: scenario.fault_names(),
        profile: scenario.profile.clone(),
        hosts: u32::try_from(scenario.hosts).unwrap_or(u32::MAX),
        procs: u32::try_from(scenario.procs).unwrap_or(u32::MAX),
    });
    Report {
        version: reports::VERSION,
        created: now(),
        command: std::env::args().collect::<Vec<_>>().join(" "),
        environment: environment(front),
        engines: engines.collect(),
        scenarios: scenarios.collect(),
        faults: faults(&matrix.scenarios, &runs),
        runs,
        trips,
        ..Report::default()
    }
}

/// What the faults of some scenarios and runs are.
fn faults(scenarios: &[Scenario], runs: &[RunInfo]) -> Vec<FaultInfo> {
    let planned: BTreeSet<String> = scenarios.iter().flat_map(Scenario::fault_names).collect();
    let met = |id: &str| planned.contains(id) || runs.iter().any(|run| run.faults.iter().any(|row| row.name == id));
    let info = |entry: &catalogue::Entry| FaultInfo {
        name: entry.id.to_owned(),
        title: entry.name.replace('-', " "),
        meaning: entry.meaning.replace('`', ""),
    };
    catalogue::CATALOGUE.iter().filter(|entry| met(entry.id)).map(info).collect()
}

pub(crate) fn now() -> String {
    let seconds = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", rest / 3600, rest / 60 % 60, rest % 60)
}

/// The date of a number of days since 1970-01-01, in the Gregorian calendar.
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, day) = (shifted / 146_097, shifted % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    let moon = (5 * of_year + 2) / 153;
    let month = if moon < 10 { moon + 3 } else { moon - 9 };
    (year + era * 400 + u64::from(month <= 2), month, of_year - (153 * moon + 2) / 5 + 1)
}

fn environment(front: Front) -> BTreeMap<String, String> {
    let mut environment = reports::machine();
    environment.insert("harness".to_owned(), env!("CARGO_PKG_VERSION").to_owned());
    let drive = match front {
        Front::Sim => "simulated, in process and in virtual time",
        Front::Fuse => "simulated, in FUSE mounts of one daemon",
    };
    environment.insert("drive".to_owned(), drive.to_owned());
    environment
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn harm_is_told_from_damage_that_cost_nobody_anything() {
        let run = |wrong: Wrong| {
            let what = wrong.title().to_owned();
            RunInfo { damage: vec![reports::Damage { what, count: 1, examples: Vec::new() }], ..RunInfo::default() }
        };
        assert!(is_harmed(&run(Wrong::Lost)) && is_harmed(&run(Wrong::Malformed)) && is_harmed(&run(Wrong::Hung)));
        assert!(!is_harmed(&run(Wrong::NoProgress)) && !is_harmed(&run(Wrong::Groundless)) && !is_harmed(&RunInfo::default()));
    }

    /// The main job ended as if it could not be run because one of python-diskcache's runs could not be judged.
    #[test]
    fn no_verdict_on_another_engine_is_no_failure_and_none_on_ours_is() {
        let engine = |name: &str, ours| EngineInfo { name: name.to_owned(), ours, ..EngineInfo::default() };
        let report = |engine_of_run: &str, verdict| Report {
            engines: vec![engine("ours", true), engine("diskcache", false)],
            runs: vec![RunInfo { engine: engine_of_run.to_owned(), verdict, ..RunInfo::default() }],
            ..Report::default()
        };
        assert_eq!(unjudged(&report("ours", Verdict::Unknown)), (1, 0));
        assert_eq!(unjudged(&report("diskcache", Verdict::Unknown)), (0, 1));
        assert_eq!(unjudged(&report("diskcache", Verdict::NotRun)), (1, 0));
        assert_eq!(unjudged(&report("diskcache", Verdict::Damaged)), (0, 0));
    }

    #[test]
    fn dates_are_right_across_leap_years() {
        assert_eq!(civil(0), (1970, 1, 1));
        assert_eq!(civil(11_016), (2000, 2, 29));
        assert_eq!(civil(20_454), (2026, 1, 1));
        assert_eq!(civil(47_540), (2100, 2, 28));
        assert_eq!(civil(47_541), (2100, 3, 1));
    }
}
