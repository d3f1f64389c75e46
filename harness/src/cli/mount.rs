//! `harness mount`: a simulated drive for any program at all.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::read_toml;
use crate::daemon::{self, MountOptions};
use crate::drive::{Plan, Profile};

/// Mount a simulated network drive: DIR/host-a, DIR/host-b, ... are its client hosts, for any program at all
///
/// Stays in the foreground and prints READY with its control socket. Commands on the socket are JSON lines, for
/// example {"do":"restart","loss":"all"} or {"do":"stats"}.
#[derive(Debug, Args)]
pub(super) struct MountArgs {
    /// Where to mount; the hosts' folders are made in it
    dir: PathBuf,
    /// nfs4, local, or a TOML file of a profile
    #[arg(long, default_value = "nfs4")]
    profile: String,
    /// How many hosts
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=26))]
    hosts: u8,
    /// Their names instead, separated by commas
    #[arg(long, value_delimiter = ',')]
    host_names: Vec<String>,
    /// A TOML file of faults ([[fault]] name = "N9", host, op, path, count, ...)
    #[arg(long, value_name = "PLAN")]
    faults: Option<PathBuf>,
    /// Seed of everything that is left to chance
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Control socket [default: DIR.control]
    #[arg(long)]
    control: Option<PathBuf>,
    /// Unmount and end when standard input ends
    #[arg(long)]
    until_stdin_ends: bool,
    /// Cut a mount when one of its requests hangs for so many seconds
    #[arg(long, default_value_t = 120)]
    longest: u64,
}

impl MountArgs {
    pub(super) fn run(self) -> Result<ExitCode, String> {
        let hosts = if self.host_names.is_empty() { daemon::host_names(self.hosts.into()) } else { self.host_names };
        let control = self.control.unwrap_or_else(|| self.dir.with_extension("control"));
        let plan = match &self.faults {
            None => Plan::default(),
            Some(path) => read_toml(path)?,
        };
        let profile = match Profile::named(&self.profile) {
            Some(profile) => profile,
            None => read_toml(self.profile.as_ref())?,
        };
        daemon::run(&MountOptions {
            dir: self.dir,
            profile,
            hosts,
            plan,
            seed: self.seed,
            control,
            until_stdin_ends: self.until_stdin_ends,
            longest: Duration::from_secs(self.longest),
        })?;
        Ok(ExitCode::SUCCESS)
    }
}
