//! `harness doctor`: what a drive is and does.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use crate::doctor;

/// Say what drive DIR is on, what it does, and what to do about each thing that a cache would suffer from
///
/// With DIR2, another mount of the same share (by another host, or at least another client of this one), also what holds between
/// hosts: who wins a name, how fresh each way of looking is, locks, absent names. All is tried in one new folder, which is removed.
///
/// Ends with 0 when caches can be shared, with 1 when they can and something weakens it, with 2 when only one host may write, with 3
/// when no cache can be kept there, and with 4 when it could not be found out.
#[derive(Debug, Args)]
pub(super) struct DoctorArgs {
    /// A folder on the drive
    dir: PathBuf,
    /// The same folder through another mount
    dir2: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// What the drive is called in it
    #[arg(long, default_value = "mount")]
    name: String,
    /// Seconds that the drive may take for all of it
    #[arg(long, default_value_t = 180)]
    timeout: u64,
}

impl DoctorArgs {
    pub(super) fn run(&self) -> Result<ExitCode, String> {
        let hosts = 1 + usize::from(self.dir2.is_some());
        let examination = match doctor::examine(&self.dir, self.dir2.as_deref(), Duration::from_secs(self.timeout)) {
            Ok(examination) => examination,
            Err(why) => {
                eprintln!("harness: {why}");
                return Ok(ExitCode::from(4));
            }
        };
        if self.json {
            let info = doctor::describe(&self.name, hosts, &examination);
            println!("{}", serde_json::to_string_pretty(&info).map_err(|err| err.to_string())?);
        } else {
            print!("{examination}");
        }
        Ok(ExitCode::from(examination.verdict().exit_code()))
    }
}
