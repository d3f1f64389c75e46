//! `harness likeness`: the simulated drive against a real one.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use reports::mounts::MountReport;

use crate::likeness;

/// Ask a simulated drive what a real one was asked (by `harness validate`), and say where they differ
///
/// DIR holds the report of a real mount; the comparison is added to it. Ends with 1 when they differ in what is not a documented
/// simplification. Needs FUSE, as all mounts of the simulated drive.
#[derive(Debug, Args)]
pub(super) struct LikenessArgs {
    /// Folder of the report of a real mount
    dir: PathBuf,
    /// The simulated drive's profile [default: the one that stands for the mount's name]
    #[arg(long)]
    profile: Option<String>,
}

impl LikenessArgs {
    pub(super) fn run(&self) -> Result<ExitCode, String> {
        crate::fuse::mount::can_mount().map_err(|err| format!("the drive cannot be mounted: {err}"))?;
        let path = self.dir.join("results.json");
        let text = std::fs::read_to_string(&path).map_err(|err| format!("cannot read {}: {err}", path.display()))?;
        let mut report: MountReport = serde_json::from_str(&text).map_err(|err| format!("{}: {err}", path.display()))?;
        let program = std::env::current_exe().map_err(|err| format!("where is this program? {err}"))?;
        report.differences.clear();
        for mount in &report.mounts {
            let known = likeness::PROFILES.iter().find(|(name, _)| *name == mount.name).map(|(_, profile)| (*profile).to_owned());
            let profile = self.profile.clone().or(known).ok_or_else(|| format!("which profile stands for {}? (--profile)", mount.name))?;
            println!("{} against the simulated {profile}:", mount.name);
            let differences = likeness::compare(&program, mount, &profile)?;
            print!("{}", likeness::table(&differences));
            report.differences.extend(differences);
        }
        report.save(&self.dir).map_err(|err| format!("cannot write the report: {err}"))?;
        let differs = report.differences.iter().any(|it| it.likeness == reports::mounts::Likeness::Bug);
        Ok(ExitCode::from(u8::from(differs)))
    }
}
