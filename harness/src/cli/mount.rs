//! `harness mount` and `harness unmount`: a simulated drive under any program at all.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use clap::Args;

use crate::control::{self, Client};
use crate::daemon::{self, MountOptions, control_socket};
use crate::drive::{Plan, Profile};
use crate::fuse::mount::{mounts_under, take_down};

/// How long mounting, or unmounting in good order, may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Mount a simulated network drive: DIR/host-a, DIR/host-b, ... are its client hosts, for any program at all
///
/// Runs in the background until `harness unmount DIR`. Hosts cache as their kind of drive does, so what one writes the
/// other may see later, or never. `harness inject DIR` adds faults, `harness stats DIR` counts requests and faults.
///
/// Example:
///   harness mount --profile nfs4 --hosts 3 --faults plan.toml /tmp/drive
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct MountArgs {
    /// Where to mount; the hosts' folders are made in it
    dir: PathBuf,
    /// local, nfs3, nfs4, smb3, sftp, gluster, object, sync, or a TOML file of a profile
    #[arg(long, default_value = "nfs4")]
    profile: String,
    /// How many hosts
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=26))]
    hosts: u8,
    /// Their names instead, separated by commas
    #[arg(long, value_delimiter = ',')]
    host_names: Vec<String>,
    /// A TOML file of faults: [[fault]] id = "N9", host, op, path, phase, skip, count, ...
    #[arg(long, value_name = "PLAN")]
    faults: Option<PathBuf>,
    /// Seed of everything that is left to chance
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Control socket [default: DIR.control]
    #[arg(long)]
    control: Option<PathBuf>,
    /// Stay in the foreground and print READY when mounted
    #[arg(long)]
    foreground: bool,
    /// Unmount and end when standard input ends; stays in the foreground
    #[arg(long)]
    until_stdin_ends: bool,
    /// Cut a mount when one of its requests hangs for so many seconds
    #[arg(long, default_value_t = 120)]
    longest: u64,
    /// Leave the session of whoever started it (what the background process is started with)
    #[arg(long, hide = true)]
    detach: bool,
}

impl MountArgs {
    pub(super) fn run(self) -> Result<ExitCode, String> {
        let dir = std::path::absolute(&self.dir).map_err(|err| format!("{}: {err}", self.dir.display()))?;
        let hosts = if self.host_names.is_empty() { daemon::host_names(self.hosts.into()) } else { self.host_names };
        let control = self.control.unwrap_or_else(|| control_socket(&dir));
        let plan = match &self.faults {
            None => Plan::default(),
            Some(path) => read(path, Plan::parse)?,
        };
        let profile = match Profile::named(&self.profile) {
            Some(profile) => profile,
            None if Path::new(&self.profile).extension().is_some_and(|ext| ext == "toml") => read(self.profile.as_ref(), Profile::parse)?,
            None => {
                let known: Vec<&str> = Profile::names().collect();
                return Err(format!(
                    "there is no profile {:?}; there are {}, or a file that ends in .toml",
                    self.profile,
                    known.join(", ")
                ));
            }
        };
        if !self.foreground && !self.until_stdin_ends {
            return in_background(&dir, &hosts);
        }
        if self.detach {
            rustix::process::setsid().map_err(|err| format!("cannot leave the session: {err}"))?;
        }
        let (until_stdin_ends, longest) = (self.until_stdin_ends, Duration::from_secs(self.longest));
        daemon::run(&MountOptions { dir, profile, hosts, plan, seed: self.seed, control, until_stdin_ends, longest })?;
        Ok(ExitCode::SUCCESS)
    }
}

fn read<T>(path: &Path, parse: impl FnOnce(&str) -> Result<T, String>) -> Result<T, String> {
    let text = std::fs::read_to_string(path).map_err(|err| format!("cannot read {}: {err}", path.display()))?;
    parse(&text).map_err(|err| format!("{}: {err}", path.display()))
}

/// Starts this program again, on its own, and waits until it has mounted.
fn in_background(dir: &Path, hosts: &[String]) -> Result<ExitCode, String> {
    let program = std::env::current_exe().map_err(|err| format!("where is this program? {err}"))?;
    let log = log_file(dir);
    std::fs::create_dir_all(dir).map_err(|err| format!("cannot make {}: {err}", dir.display()))?;
    let errors = File::create(&log).map_err(|err| format!("cannot make {}: {err}", log.display()))?;
    let mut child = Command::new(program)
        .args(std::env::args_os().skip(1))
        .args(["--foreground", "--detach"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(errors)
        .spawn()
        .map_err(|err| format!("cannot start the drive: {err}"))?;
    let out = child.stdout.take().ok_or("no output to read")?;
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        let line = BufReader::new(out).lines().next().and_then(Result::ok);
        // Nobody waits any more: it took too long.
        let _ = tell.send(line);
    });
    match told.recv_timeout(PATIENCE) {
        Ok(Some(line)) if line.starts_with("READY") => {}
        Ok(_) => {
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            return Err(format!("the drive did not start: {}", said.trim().trim_start_matches("harness: ")));
        }
        Err(_) => {
            // It was not mounted in time, and shall not be mounted later.
            let _ = child.kill();
            return Err(format!("the drive was not mounted within {PATIENCE:?}; see {}", log.display()));
        }
    }
    for host in hosts {
        println!("{}", dir.join(host).display());
    }
    println!("mounted; `harness unmount {}` takes it down", dir.display());
    Ok(ExitCode::SUCCESS)
}

fn log_file(dir: &Path) -> PathBuf {
    let mut name = dir.as_os_str().to_owned();
    name.push(".log");
    name.into()
}

/// Take a drive down that `harness mount` mounted, whatever state it is in
///
/// Programs that still use it get errors. What was on the drive is gone.
#[derive(Debug, Args)]
pub(super) struct UnmountArgs {
    /// Where it is mounted
    dir: PathBuf,
}

impl UnmountArgs {
    pub(super) fn run(&self) -> Result<ExitCode, String> {
        let dir = std::path::absolute(&self.dir).map_err(|err| format!("{}: {err}", self.dir.display()))?;
        let socket = control_socket(&dir);
        let points = mounts_under(&dir);
        let asked = Client::connect(&socket, Duration::from_secs(2)).is_ok_and(|mut client| client.send(&control::Command::Quit).is_ok());
        if !asked && points.is_empty() {
            return Err(format!("nothing is mounted at {}", dir.display()));
        }
        let deadline = Instant::now() + Duration::from_secs(3);
        while asked && Instant::now() < deadline && (socket.exists() || !mounts_under(&dir).is_empty()) {
            std::thread::sleep(Duration::from_millis(20));
        }
        mounts_under(&dir).iter().for_each(|point| take_down(point));
        let left = mounts_under(&dir);
        if !left.is_empty() {
            return Err(format!("{} cannot be unmounted; `umount -l` says why", left[0].display()));
        }
        for point in points {
            // Its folder was made for it; one with something in it stays.
            let _ = std::fs::remove_dir(point);
        }
        for file in [socket, log_file(&dir)] {
            // Gone already, or never there.
            let _ = std::fs::remove_file(file);
        }
        let _ = std::fs::remove_dir(&dir);
        Ok(ExitCode::SUCCESS)
    }
}
