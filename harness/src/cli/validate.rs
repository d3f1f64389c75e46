//! `harness validate`: real mounts, given by path.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use reports::Verdict;
use reports::mounts::{MountInfo, MountReport, MountRun};

use super::engines;
use crate::doctor;
use crate::engine::{Engine, Python};
use crate::validate::{self, Fault, Hook, Place, Plan};

/// Let caches work on real mounts, given by path, while processes and the server fail; check every promise
///
/// DIR is a folder on the share as one host sees it; several are several hosts, for example two mounts of the share by clients with
/// caches of their own. Everything happens in a new folder in the first DIR, which is removed at the end.
///
/// Without --faults, every trouble that a client can have is played: none, kill, pause, clock (needs libfaketime) and deadline.
/// What only a server can have is caused by a command of yours: --on-fault 'CMD' --server-faults stop,full runs
/// `CMD on stop`, and some seconds later `CMD off stop`. Meanwhile every call must end by its deadline, and afterwards the same
/// processes must work again without anybody's help.
///
/// Writes OUT/index.html, OUT/results.json, OUT/junit.xml, and the history of each run. Ends with 0 when our engine kept every
/// promise, with 1 when it did not, and with 2 when something could not be run.
#[derive(Debug, Args)]
pub(super) struct ValidateArgs {
    /// The share as each host sees it
    #[arg(value_name = "DIR")]
    dirs: Vec<PathBuf>,
    /// The share as hosts see it that only look at the end, with nothing in their caches
    #[arg(long, value_name = "DIR")]
    cold: Vec<PathBuf>,
    /// The command that runs another one in a host (`nsenter -t 123 -n`): the first is for the first DIR, and so on, cold ones last
    #[arg(long, value_name = "PREFIX")]
    enter: Vec<String>,
    /// What the drive is called in the report
    #[arg(long, default_value = "mount")]
    name: String,
    /// none, kill, pause, clock, deadline, or names of --server-faults [default: all that can be caused]
    #[arg(long, value_delimiter = ',')]
    faults: Vec<String>,
    /// Command that causes faults of the server: it gets `on NAME` or `off NAME`
    #[arg(long, value_name = "CMD")]
    on_fault: Option<String>,
    /// The faults that it can cause
    #[arg(long, value_delimiter = ',', value_name = "NAMES", requires = "on_fault")]
    server_faults: Vec<String>,
    /// ours, diskcache, diskcache-delete, or all; others than ours are only compared in --compare-faults
    #[arg(long, value_delimiter = ',', default_value = "ours")]
    engines: Vec<String>,
    /// The faults in which other engines than ours are played, too
    #[arg(long, value_delimiter = ',', default_value = "none,kill")]
    compare_faults: Vec<String>,
    /// Processes on each host
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=32))]
    procs: u8,
    /// Seconds of work of each run
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Rounds of kill -9
    #[arg(long, default_value_t = 3)]
    kills: u32,
    /// Seconds that a fault lasts
    #[arg(long, default_value_t = 6.0)]
    fault_seconds: f64,
    /// Seconds that a call may take (the caches' timeout). A killed transaction's hold goes on for 5 s, so less makes calls fail
    /// after kills; during faults of the server it is less than the fault takes, so that calls meet their deadlines
    #[arg(long, default_value_t = 10.0)]
    timeout: f64,
    /// Seed of the operations
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Python with the engines installed
    #[arg(long, default_value = "python3")]
    python: PathBuf,
    /// Folder for histories, logs and the report
    #[arg(long, default_value = "target/reports/validate")]
    out: PathBuf,
    /// The command that sets the drive up and runs this again, for the report [default: this one]
    #[arg(long, value_name = "CMD")]
    again: Option<String>,
}

impl ValidateArgs {
    pub(super) fn run(&self) -> Result<ExitCode, String> {
        let plan = self.plan()?;
        let faults = self.faults()?;
        let versions = self.versions(&plan)?;
        let all: Vec<&Place> = plan.places.iter().chain(&plan.cold).collect();
        validate::same_share(&all)?;
        let peer = plan.places.get(1).map(|place| place.dir.as_path());
        let examination = doctor::examine(&plan.places[0].dir, peer, Duration::from_secs(180))?;
        println!("{examination}");
        let mount = doctor::describe(&plan.name, plan.places.len(), &examination);
        let runs = self.play(&plan, &faults, &versions, &mount)?;
        let mut report = plan.report(&versions, runs, mount);
        note_refusal(&mut report);
        save(&report, &plan.out)
    }

    fn plan(&self) -> Result<Plan, String> {
        if self.dirs.is_empty() {
            return Err("which folder? (see harness validate --help)".to_owned());
        }
        let count = self.dirs.len() + self.cold.len();
        if !self.enter.is_empty() && self.enter.len() != count {
            return Err(format!("--enter is given {} times for {count} folders", self.enter.len()));
        }
        let place = |(number, dir): (usize, &PathBuf)| -> Result<Place, String> {
            let dir = dir.canonicalize().map_err(|err| format!("{}: {err}", dir.display()))?;
            let enter = self.enter.get(number).map(|words| words.split_whitespace().map(str::to_owned).collect()).unwrap_or_default();
            Ok(Place { host: format!("host-{}", char::from(b'a' + u8::try_from(number % 26).unwrap_or(0))), dir, enter })
        };
        let mut places = self.dirs.iter().chain(&self.cold).enumerate().map(place).collect::<Result<Vec<_>, _>>()?;
        let cold = places.split_off(self.dirs.len());
        let dirs: Vec<String> = self.dirs.iter().map(|dir| dir.display().to_string()).collect();
        let hook = self.on_fault.as_ref().map(|cmd| format!(" --on-fault '{cmd}' --server-faults {}", self.server_faults.join(",")));
        let again = || format!("harness validate {}{}", dirs.join(" "), hook.unwrap_or_default());
        let absolute = |path: &PathBuf| std::path::absolute(path).map_err(|err| format!("{}: {err}", path.display()));
        let python = if self.python.components().count() > 1 { absolute(&self.python)? } else { self.python.clone() };
        if !(self.seconds > 0.0 && self.timeout > 0.0 && self.fault_seconds >= 0.0) {
            return Err("seconds are more than 0".to_owned());
        }
        Ok(Plan {
            name: self.name.clone(),
            places,
            cold,
            python,
            procs: usize::from(self.procs),
            seconds: self.seconds,
            kills: self.kills,
            fault_seconds: self.fault_seconds,
            timeout: Duration::from_secs_f64(self.timeout),
            seed: self.seed,
            hook: self.on_fault.clone().map(|command| Hook { command }),
            out: absolute(&self.out)?,
            again: self.again.clone().unwrap_or_else(again),
        })
    }

    fn faults(&self) -> Result<Vec<Fault>, String> {
        let known = |name: &String| -> Result<Fault, String> {
            let client = validate::CLIENT.iter().find(|fault| fault.name() == name).cloned();
            let server = || self.server_faults.contains(name).then(|| Fault::Server(name.clone()));
            client
                .or_else(server)
                .ok_or_else(|| format!("there is no fault {name:?}: none, kill, pause, clock, deadline, or one of --server-faults"))
        };
        if !self.faults.is_empty() {
            return self.faults.iter().map(known).collect();
        }
        let mut faults = validate::CLIENT.to_vec();
        if validate::fake_clock().is_none() {
            eprintln!("harness: `clock` is left out: no libfaketime (Debian: faketime) to show a process another clock");
            faults.retain(|fault| *fault != Fault::Clock);
        }
        faults.extend(self.server_faults.iter().cloned().map(Fault::Server));
        Ok(faults)
    }

    /// The engines with their versions; those that cannot be imported are refused.
    fn versions(&self, plan: &Plan) -> Result<Vec<(Engine, String)>, String> {
        let python = Python { interpreter: plan.python.clone(), worker: PathBuf::new() };
        let version = |engine: Engine| match python.has(&engine.module) {
            Ok(version) => Ok((engine, version)),
            Err(why) => Err(format!("{} is not there: {why} (pip install {})", engine.name, engine.module.replace('_', "-"))),
        };
        let installed: Vec<Engine> = engines(&self.engines)?.into_iter().filter(|engine| !engine.bundled).collect();
        if installed.is_empty() {
            return Err("these engines are only played on the simulated drive".to_owned());
        }
        installed.into_iter().map(version).collect()
    }

    fn play(&self, plan: &Plan, faults: &[Fault], engines: &[(Engine, String)], mount: &MountInfo) -> Result<Vec<MountRun>, String> {
        let wanted = |fault: &Fault, engine: &Engine| engine.ours || self.compare_faults.iter().any(|name| name == fault.name());
        let mut cells: Vec<(&Fault, &Engine)> = faults
            .iter()
            .flat_map(|fault| engines.iter().map(move |(engine, _)| (fault, engine)))
            .filter(|(fault, engine)| wanted(fault, engine))
            .collect();
        // What others do is only shown, and may take its time.
        cells.sort_by_key(|(_, engine)| !engine.ours);
        let total: f64 = cells.iter().map(|(fault, _)| plan.estimate(fault)).sum();
        let bar = ProgressBar::new(cells.len() as u64);
        let style = ProgressStyle::with_template("{bar:30} {pos}/{len} runs, {elapsed} of about {msg}: {prefix}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_message(format!("{total:.0} s"));
        bar.enable_steady_tick(Duration::from_millis(500));
        let mut runs = Vec::new();
        for (number, (fault, engine)) in cells.iter().enumerate() {
            bar.set_prefix(format!("{} with {}", fault.name(), engine.name));
            let outcomes = plan.play(fault, engine);
            let run = plan.describe(fault, engine, &outcomes);
            bar.suspend(|| print(&run, fault, engine.ours));
            bar.inc(1);
            runs.push(run);
            // What is known so far survives whoever ends this run, and what is missing is said.
            let ended = Err("not played: it was ended before".to_owned());
            let missing = cells[number + 1..].iter().map(|(fault, engine)| plan.describe(fault, engine, &ended));
            let so_far = plan.report(engines, runs.iter().cloned().chain(missing).collect(), mount.clone());
            so_far.save(&plan.out).map_err(|err| format!("cannot write the report: {err}"))?;
        }
        bar.finish_and_clear();
        Ok(runs)
    }
}

/// One line on a run, and what is wrong with it.
fn print(run: &MountRun, fault: &Fault, in_detail: bool) {
    let verdict = match run.verdict {
        Verdict::Sound => "sound",
        Verdict::Damaged => "DAMAGED",
        Verdict::Unknown => "UNKNOWN",
        Verdict::NotRun => "not run",
    };
    let broken: Vec<String> =
        run.promises.iter().filter(|it| it.broken > 0).map(|it| format!("{}x broken: {}", it.broken, it.promise)).collect();
    let again = run.recovered_s.map(|seconds| format!("all work again after {seconds:.1} s; ")).unwrap_or_default();
    let longest = run.longest_s.map(|seconds| format!("longest {seconds:.2} s; ")).unwrap_or_default();
    let hosts: Vec<String> = run.writes_by_host.iter().map(|(host, count)| format!("{host} {count}")).collect();
    let tail = run.error.clone().unwrap_or_else(|| broken.join(", "));
    println!(
        "{verdict:<8} {:<10} {:<10} {:<17} {:>6} answered {:>4} not ({} writes); {longest}{again}{tail}",
        run.mount,
        fault.name(),
        run.engine,
        run.answered,
        run.failed + run.open,
        hosts.join(", ")
    );
    for promise in run.promises.iter().filter(|_| in_detail) {
        promise.examples.iter().for_each(|example| println!("    {}: {example}", promise.promise));
    }
}

/// Where the drive lets nobody share a cache, it is right that the engine refuses: then its own words stand for the doctor's.
fn note_refusal(report: &mut MountReport) {
    let said = report.runs.iter().filter_map(|run| run.error.as_ref()).find(|error| error.contains("RefusedError")).cloned();
    for mount in report.mounts.iter_mut().filter(|mount| mount.refuses.is_some()) {
        if let Some(said) = &said {
            println!("refused, as it should be: {said}");
            mount.refuses = Some(said.clone());
        }
    }
}

/// Whether a run could not begin because the engine rightly refuses the drive.
fn rightly_refused(report: &MountReport, run: &MountRun) -> bool {
    let refuses = report.mounts.iter().any(|mount| mount.name == run.mount && mount.refuses.is_some());
    refuses && run.error.as_ref().is_some_and(|error| error.contains("RefusedError"))
}

fn save(report: &MountReport, out: &std::path::Path) -> Result<ExitCode, String> {
    report.save(out).map_err(|err| format!("cannot write the report: {err}"))?;
    println!();
    for engine in &report.engines {
        let of = |verdict: Verdict| report.runs.iter().filter(|run| run.engine == engine.name && run.verdict == verdict).count();
        println!(
            "{:<42} {} runs sound, {} damaged, {} not run",
            engine.title,
            of(Verdict::Sound),
            of(Verdict::Damaged),
            of(Verdict::NotRun)
        );
    }
    println!("Report: {}", out.join("index.html").display());
    let ours: Vec<&MountRun> =
        report.runs.iter().filter(|run| report.engines.iter().any(|engine| engine.ours && engine.name == run.engine)).collect();
    let (refused, ours): (Vec<&MountRun>, Vec<&MountRun>) = ours.into_iter().partition(|run| rightly_refused(report, run));
    let count = |verdict: Verdict| ours.iter().filter(|run| run.verdict == verdict).count();
    let (passed, failed, skipped) =
        (count(Verdict::Sound) + refused.len(), count(Verdict::Damaged) + count(Verdict::Unknown), count(Verdict::NotRun));
    println!("checks: {passed} passed, {failed} failed, {skipped} skipped");
    Ok(match (count(Verdict::Damaged), skipped + count(Verdict::Unknown)) {
        (0, 0) => ExitCode::SUCCESS,
        (0, _) => ExitCode::from(2),
        _ => ExitCode::from(1),
    })
}
