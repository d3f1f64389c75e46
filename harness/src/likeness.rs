//! The simulated drive against a real one: both are asked the same by the engine's doctor, and the answers are put side by side.

use std::path::Path;
use std::time::Duration;

use reports::mounts::{Difference, Likeness, MountInfo};

use crate::daemon::{Daemon, host_names};
use crate::doctor;
use crate::drive::{Plan, Profile};

/// The kinds of real drives, and the simulated profile that stands for each.
pub const PROFILES: &[(&str, &str)] = &[
    ("nfs4", "nfs4"),
    ("nfs4-soft", "nfs4"),
    ("nfs3", "nfs3"),
    ("nfs3-nolock", "nfs3"),
    ("cifs", "smb3"),
    ("cifs-nobrl", "smb3"),
    ("sshfs", "sftp"),
    ("glusterfs", "gluster"),
    ("glusterfs-replica", "gluster"),
    ("rclone", "object"),
    ("s3fs", "object"),
    ("smbnetfs", "object"),
];

/// What the doctor looks at that is the drive's behaviour, and not its size, its speed or what it is called.
const PROBES: &[&str] = &[
    "link",
    "fsync",
    "delete while open",
    "exclusive create",
    "append",
    "absent names",
    "case",
    "link between hosts",
    "exclusive create between hosts",
    "looks between hosts",
    "absent names between hosts",
    "locks between hosts",
    "delete between hosts",
];

/// Differences that are meant: real drives (`nfs*` are all whose name begins so), probe, and why.
const SIMPLIFIED: &[(&str, &str, &str)] = &[
    (
        "*",
        "looks between hosts",
        "FUSE does not tell an open file's own attributes from those asked of the server, so the simulated drive asks its server for both; what \
         is answered from a cache is played by faults (`stale-cache`, `old-attributes`, `old-stat`) and by what is opened or looked up by name",
    ),
    (
        "nfs3-nolock",
        "locks between hosts",
        "the profile is of a mount with locks; `local_locks` makes each host grant its own, as `nolock` does",
    ),
    (
        "nfs*",
        "delete between hosts",
        "the simulated server forgets a removed file at once, as a real one does after a restart; a Linux server keeps what it has open for a while",
    ),
    (
        "cifs*",
        "locks between hosts",
        "FUSE answers a lock that another has as every file system does (EAGAIN); the SMB client says EACCES for the same",
    ),
    ("sshfs", "absent names between hosts", "the simulated host keeps absent names as long as others; sshfs keeps none, which is kinder"),
    (
        "glusterfs*",
        "absent names between hosts",
        "the simulated host keeps absent names for a second, as others; GlusterFS keeps none, which is kinder",
    ),
    ("s3fs", "absent names between hosts", "the profile keeps absent names for a second, as rclone and mountpoint-s3 do; s3fs keeps none"),
    (
        "rclone",
        "exclusive create between hosts",
        "the simulated file is visible when it is closed, so one of two racers may see the other's; rclone uploads it later, and both win",
    ),
    (
        "rclone",
        "delete while open",
        "the profile is of s3fs, which reads on from its copy; rclone's is gone with the file. Nobody may rely on either on an object store",
    ),
    (
        "smbnetfs",
        "append",
        "smbnetfs cannot open a file twice to append, and fails everything for a while after; the simulated store is kinder to other programs here",
    ),
    (
        "s3fs",
        "exclusive create between hosts",
        "the simulated file is visible when it is closed, so one of two racers may see the other's; s3fs shows it later, and both win",
    ),
    ("s3fs", "delete between hosts", "what reading a removed object says differs between programs (EIO or ESTALE); nobody may rely on it"),
];

/// Whether a row of [`SIMPLIFIED`] is about a drive.
fn is_about(pattern: &str, name: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == name, |start| name.starts_with(start))
}

/// Asks the simulated drive of a profile what a real one was asked, and puts the answers side by side.
///
/// # Errors
/// The simulated drive cannot be mounted or does not answer.
pub fn compare(program: &Path, real: &MountInfo, profile: &str) -> Result<Vec<Difference>, String> {
    let profile = Profile::named(profile).ok_or_else(|| format!("there is no profile {profile:?}"))?;
    let temp = tempfile::Builder::new().prefix("harness-").tempdir().map_err(|err| format!("no temporary folder: {err}"))?;
    let hosts = host_names(2);
    let daemon = Daemon::start(program, temp.path(), &profile, &hosts, &Plan::default(), 1)?;
    let examination = doctor::examine(&daemon.mount(&hosts[0]), Some(&daemon.mount(&hosts[1])), Duration::from_secs(120))?;
    Ok(side_by_side(real, &doctor::describe(&profile.name, 2, &examination), &profile.name))
}

fn side_by_side(real: &MountInfo, simulated: &MountInfo, profile: &str) -> Vec<Difference> {
    let answer = |mount: &MountInfo, probe: &str| mount.findings.iter().find(|it| it.what == probe).map(|it| it.found.clone());
    let row = |probe: &&str| {
        let (ours, theirs) = (answer(real, probe), answer(simulated, probe));
        let meant = SIMPLIFIED.iter().find(|(mount, what, _)| is_about(mount, &real.name) && what == probe);
        let likeness = match (&ours, &theirs) {
            (Some(ours), Some(theirs)) if alike(ours, theirs) => Likeness::Same,
            (None, _) | (_, None) => Likeness::NotAsked,
            _ if meant.is_some() => Likeness::Simplified,
            _ => Likeness::Bug,
        };
        Difference {
            mount: real.name.clone(),
            profile: profile.to_owned(),
            probe: (*probe).to_owned(),
            real: ours.unwrap_or_default(),
            simulated: theirs.unwrap_or_default(),
            likeness,
            reason: meant.filter(|_| likeness == Likeness::Simplified).map(|(_, _, why)| (*why).to_owned()).unwrap_or_default(),
        }
    };
    PROBES.iter().map(row).collect()
}

/// Whether two answers say the same. Times are alike within a factor of three, or when both are too short to tell.
fn alike(one: &str, two: &str) -> bool {
    let parts = |text: &str| -> (String, Vec<f64>) {
        let is_time = |word: &str| word.contains('.') && word.parse::<f64>().is_ok();
        let words = |times: bool| text.split(' ').filter(move |word| is_time(word) == times).map(str::to_owned);
        (words(false).collect::<Vec<_>>().join(" "), words(true).filter_map(|word| word.parse().ok()).collect())
    };
    let ((words, times), (other_words, other_times)) = (parts(one), parts(two));
    let near = |(a, b): (&f64, &f64)| (*a < 0.3 && *b < 0.3) || (a / b < 3.0 && b / a < 3.0);
    words == other_words && times.len() == other_times.len() && times.iter().zip(&other_times).all(near)
}

/// The differences as a table.
#[must_use]
pub fn table(differences: &[Difference]) -> String {
    let mut out = String::new();
    for it in differences {
        let word = match it.likeness {
            Likeness::Same => "same",
            Likeness::Simplified => "simplified",
            Likeness::Bug => "DIFFERS",
            Likeness::NotAsked => "not asked",
        };
        out.push_str(&format!("{word:<11}{}\n", it.probe));
        if matches!(it.likeness, Likeness::Bug | Likeness::Simplified) {
            out.push_str(&format!("           real:      {}\n           simulated: {}\n", it.real, it.simulated));
            if !it.reason.is_empty() {
                out.push_str(&format!("           {}\n", it.reason));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use reports::mounts::DoctorFinding;

    use super::*;

    fn mount(name: &str, found: &[(&str, &str)]) -> MountInfo {
        let finding =
            |(what, found): &(&str, &str)| DoctorFinding { what: (*what).to_owned(), found: (*found).to_owned(), ..Default::default() };
        MountInfo { name: name.to_owned(), findings: found.iter().map(finding).collect(), ..MountInfo::default() }
    }

    #[test]
    fn another_answer_is_a_difference_another_time_of_the_same_order_is_none() {
        assert!(alike("seen there after 1.01 s", "seen there after 0.99 s"));
        assert!(alike("seen there after 0.00 s", "seen there after 0.02 s"));
        assert!(!alike("seen there after 1.01 s", "seen there after 0.01 s"));
        assert!(!alike("fresh 10 of 10", "fresh 0 of 10"));
    }

    #[test]
    fn each_probe_has_a_row_and_only_what_is_meant_is_excused() {
        let real = mount("nfs3-nolock", &[("link", "works"), ("locks between hosts", "both"), ("append", "mixed")]);
        let simulated = mount("nfs3", &[("link", "works"), ("locks between hosts", "one"), ("append", "whole")]);
        let rows = side_by_side(&real, &simulated, "nfs3");
        assert_eq!(rows.len(), PROBES.len());
        let of = |probe: &str| rows.iter().find(|row| row.probe == probe).unwrap().likeness;
        assert_eq!((of("link"), of("append")), (Likeness::Same, Likeness::Bug));
        assert_eq!((of("locks between hosts"), of("fsync")), (Likeness::Simplified, Likeness::NotAsked));
        assert!(is_about("nfs*", "nfs4-soft") && is_about("*", "x") && is_about("s3fs", "s3fs") && !is_about("nfs4", "nfs4-soft"));
    }

    #[test]
    fn every_profile_that_stands_for_a_real_drive_exists() {
        assert!(PROFILES.iter().all(|(_, profile)| Profile::named(profile).is_some()));
    }
}
