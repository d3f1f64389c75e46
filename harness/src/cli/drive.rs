//! `harness inject`, `harness stats` and `harness faults`: a mounted drive, and what it can play.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::control::{Client, Command, Stats};
use crate::daemon::control_socket;
use crate::drive::catalogue::{self, CATALOGUE, Entry, FAMILIES, Phase};
use crate::drive::{Apply, Fault, Kind, Plan, Profile};

fn client(dir: &Path) -> Result<Client, String> {
    let dir = std::path::absolute(dir).map_err(|err| format!("{}: {err}", dir.display()))?;
    let socket = control_socket(&dir);
    Client::connect(&socket, Duration::from_secs(10))
        .map_err(|err| format!("no drive answers at {} ({err}); is it mounted? `harness mount {}`", socket.display(), dir.display()))
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum WhenApplied {
    Never,
    Before,
    Later,
}

/// Add a fault to a mounted drive, or heal it
///
/// Examples:
///   harness inject /tmp/drive N7 --host host-a --op LINK --count 3
///   harness inject /tmp/drive server-restart --now --loss some
///   harness inject /tmp/drive --plan plan.toml
///   harness inject /tmp/drive --heal
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct InjectArgs {
    /// Where the drive is mounted
    dir: PathBuf,
    /// The fault's number or name (see `harness faults`)
    fault: Option<String>,
    /// Only this host
    #[arg(long)]
    host: Option<String>,
    /// Only these requests, separated by commas (WRITE, COMMIT, LINK, ...)
    #[arg(long, value_delimiter = ',')]
    op: Vec<String>,
    /// Only paths that match; * stays within a folder, ** does not
    #[arg(long)]
    path: Option<String>,
    /// At which phase of the request, P1 to P6
    #[arg(long)]
    phase: Option<String>,
    /// Let so many matches pass first
    #[arg(long, default_value_t = 0)]
    skip: u64,
    /// Fire at most so often; 0 for ever
    #[arg(long, default_value_t = 1)]
    count: u64,
    /// Fire with this probability
    #[arg(long, default_value_t = 1.0)]
    probability: f64,
    /// How long it takes or lasts
    #[arg(long, default_value_t = 0)]
    delay_ms: u64,
    /// And up to so much more
    #[arg(long, default_value_t = 0)]
    jitter_ms: u64,
    /// The error, where the fault leaves a choice
    #[arg(long)]
    errno: Option<String>,
    /// Whether a request that gets an error takes effect
    #[arg(long)]
    apply: Option<WhenApplied>,
    /// What a restart loses: nothing, some or all
    #[arg(long)]
    loss: Option<String>,
    /// By how much a clock is off, milliseconds
    #[arg(long, default_value_t = 0, allow_negative_numbers = true)]
    offset_ms: i64,
    /// Happen at once, without a request: for faults of the server, the network or a host
    #[arg(long)]
    now: bool,
    /// Add the faults of a plan's file instead
    #[arg(long, conflicts_with = "fault")]
    plan: Option<PathBuf>,
    /// End every fault, cut and shortage, before anything is added
    #[arg(long)]
    heal: bool,
}

impl InjectArgs {
    fn one(&self, name: &str) -> Result<Fault, String> {
        let kind = |name: &String| {
            let known: Vec<&str> = Kind::ALL.iter().map(|kind| kind.name()).collect();
            Kind::named(&name.to_uppercase()).ok_or_else(|| format!("there is no request {name:?}; there are {}", known.join(", ")))
        };
        let phase = |name: &String| {
            let all = catalogue::PHASES;
            all.iter()
                .copied()
                .find(|phase: &Phase| format!("{phase:?}") == *name)
                .ok_or_else(|| format!("the phases are P1 to P6, not {name:?}"))
        };
        let fault = Fault {
            name: name.to_owned(),
            host: self.host.clone(),
            op: self.op.iter().map(kind).collect::<Result<_, _>>()?,
            path: self.path.clone(),
            phase: self.phase.as_ref().map(phase).transpose()?,
            skip: self.skip,
            count: self.count,
            probability: self.probability,
            at_ms: self.now.then_some(0),
            delay_ms: self.delay_ms,
            jitter_ms: self.jitter_ms,
            errno: self.errno.clone(),
            apply: match self.apply {
                None => Apply::Phase,
                Some(WhenApplied::Never) => Apply::Never,
                Some(WhenApplied::Before) => Apply::Before,
                Some(WhenApplied::Later) => Apply::Later,
            },
            loss: self.loss.clone(),
            offset_ms: self.offset_ms,
            ..Fault::default()
        };
        let entry = fault.check()?;
        Ok(Fault { name: entry.id.to_owned(), ..fault })
    }

    pub(super) fn run(&self) -> Result<ExitCode, String> {
        let faults = match (&self.fault, &self.plan) {
            (Some(name), _) => vec![self.one(name)?],
            (None, Some(path)) => {
                let text = std::fs::read_to_string(path).map_err(|err| format!("cannot read {}: {err}", path.display()))?;
                Plan::parse(&text).map_err(|err| format!("{}: {err}", path.display()))?.faults
            }
            (None, None) if self.heal => Vec::new(),
            (None, None) => return Err("which fault? `harness faults` lists them; --plan takes a file, --heal ends all".to_owned()),
        };
        let mut client = client(&self.dir)?;
        if self.heal {
            client.send(&Command::Heal)?;
        }
        for fault in faults {
            client.send(&Command::Fault { fault: Box::new(fault) })?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Count the requests and faults of a mounted drive so far
#[derive(Debug, Args)]
pub(super) struct StatsArgs {
    /// Where the drive is mounted
    dir: PathBuf,
    /// As JSON
    #[arg(long)]
    json: bool,
    /// Print the log of faults too: when each was planned, fired and observable
    #[arg(long)]
    log: bool,
}

impl StatsArgs {
    pub(super) fn run(&self) -> Result<ExitCode, String> {
        let mut client = client(&self.dir)?;
        let stats = client.send(&Command::Stats)?.stats.unwrap_or_default();
        if self.json {
            println!("{}", serde_json::to_string_pretty(&stats).map_err(|err| err.to_string())?);
        } else {
            print!("{}", table(&stats));
        }
        if self.log {
            for line in client.send(&Command::Log)?.log.unwrap_or_default() {
                println!("{}", serde_json::to_string(&line).map_err(|err| err.to_string())?);
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Requests by kind and host, then faults by number.
fn table(stats: &Stats) -> String {
    let kinds: BTreeSet<&String> = stats.trips.values().flat_map(|trips| trips.keys()).collect();
    let mut text = format!("{:<10}", "requests");
    for host in stats.trips.keys() {
        text += &format!(" {host:>10}");
    }
    text.push('\n');
    for kind in kinds {
        text += &format!("{kind:<10}");
        for trips in stats.trips.values() {
            text += &format!(" {:>10}", trips.get(kind).copied().unwrap_or(0));
        }
        text.push('\n');
    }
    if !stats.faults.is_empty() {
        text += &format!("\n{:<4} {:<24} {:>8} {:>8} {:>8} {:>10}\n", "", "faults", "planned", "matched", "fired", "observable");
    }
    for (id, count) in &stats.faults {
        let name = catalogue::find(id).map_or("", |entry| entry.name);
        text += &format!("{id:<4} {name:<24} {:>8} {:>8} {:>8} {:>10}\n", count.planned, count.matched, count.fired, count.observable);
    }
    text
}

/// List every fault that a drive can play, and the kinds of drive
///
/// The letters after a fault say what a client may still rely on: D bytes whose fsync and close returned OK survive, O another host
/// sees them after its next open, A rename replaces atomically, L a lock excludes other hosts, X the outcome returned is the true one,
/// T every call ends in bounded time.
#[derive(Debug, Args)]
pub(super) struct FaultsArgs {
    /// Only this one, by number or name, in detail
    fault: Option<String>,
    /// As a table for a Markdown file
    #[arg(long)]
    markdown: bool,
}

impl FaultsArgs {
    pub(super) fn run(&self) -> Result<ExitCode, String> {
        if let Some(name) = &self.fault {
            let entry = catalogue::find(name).ok_or_else(|| format!("there is no fault {name:?}"))?;
            print!("{}", detail(entry));
            return Ok(ExitCode::SUCCESS);
        }
        if self.markdown {
            print!("{}", markdown());
            return Ok(ExitCode::SUCCESS);
        }
        for family in FAMILIES {
            println!("{}:", family.title);
            for entry in CATALOGUE.iter().filter(|entry| entry.id.starts_with(family.letter)) {
                let keeps = if entry.keeps.is_empty() { "-" } else { entry.keeps };
                println!("  {:<4} {:<22} {keeps:<7} {}", entry.id, entry.name, entry.meaning);
            }
        }
        println!("kinds of drive:");
        for profile in Profile::names().filter_map(Profile::named) {
            println!("  {:<27} {:<7} {}", profile.name, profile.keeps, profile.title);
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn detail(entry: &Entry) -> String {
    let kinds: Vec<&str> = entry.ops.iter().map(|kind| kind.name()).collect();
    let phases: Vec<String> = entry.phases.iter().map(|phase| format!("{phase:?}")).collect();
    let mut text = format!("{} {}\n{}\n", entry.id, entry.name, entry.meaning);
    text += &format!("still holds: {}\n", if entry.keeps.is_empty() { "nothing" } else { entry.keeps });
    text += &format!("requests:    {}\n", if kinds.is_empty() { "all".to_owned() } else { kinds.join(" ") });
    text += &format!("phases:      {} (usually {})\n", phases.join(" "), phases[0]);
    if entry.usual_ms() > 0 {
        text += &format!("delay_ms:    {} where the plan gives none\n", entry.usual_ms());
    }
    if entry.is_event() {
        text += "             may happen at a time, without a request (at_ms, every_ms)\n";
    }
    text
}

/// The catalogue as a table.
fn markdown() -> String {
    let mut text = String::from("| | name | still holds | phases | what happens |\n|---|---|---|---|---|\n");
    for entry in CATALOGUE {
        let keeps = if entry.keeps.is_empty() { "–" } else { entry.keeps };
        let phases: Vec<String> = entry.phases.iter().map(|phase| format!("{phase:?}")).collect();
        text += &format!("| {} | `{}` | {keeps} | {} | {} |\n", entry.id, entry.name, phases.join(" "), entry.meaning);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_catalogue_in_the_readme_is_the_one_that_is_played() {
        let readme = include_str!("../../README.md");
        assert!(readme.contains(&markdown()), "`harness faults --markdown` prints the table that belongs there");
        for name in Profile::names() {
            assert!(readme.contains(&format!("`{name}`")), "{name} is described");
        }
    }

    #[test]
    fn every_fault_can_be_described() {
        for entry in CATALOGUE {
            assert!(detail(entry).contains(entry.name));
        }
    }
}
