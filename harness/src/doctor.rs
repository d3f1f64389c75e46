//! What the engine's doctor says of a drive, with a bound on how long it may take, and in the form of the report of mounts.

use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::time::Duration;

use diskcache_core::doctor::{self, Examination};
use reports::mounts::{DoctorFinding, MountInfo, Severity};

/// Examines a drive. A server that does not answer blocks whoever asks, so a thread asks, and is left behind.
///
/// # Errors
/// The directory cannot be looked at, or the drive did not answer for so long.
pub fn examine(dir: &Path, peer: Option<&Path>, longest: Duration) -> Result<Examination, String> {
    let (tell, answer) = channel();
    let (asked, other): (PathBuf, Option<PathBuf>) = (dir.to_owned(), peer.map(Path::to_owned));
    std::thread::spawn(move || {
        // Nobody listens any more if it took too long.
        let _ = tell.send(doctor::examine(&asked, other.as_deref()));
    });
    match answer.recv_timeout(longest) {
        Ok(Ok(examination)) => Ok(examination),
        Ok(Err(error)) => Err(format!("{}: {error}", dir.display())),
        Err(_) => Err(format!(
            "{} did not answer within {} s: the server is away or very slow, or the mount hangs; see `dmesg` and the server, or mount it anew",
            dir.display(),
            longest.as_secs()
        )),
    }
}

/// The examination as the report of mounts has it.
#[must_use]
pub fn describe(name: &str, hosts: usize, examination: &Examination) -> MountInfo {
    let severity = |severity| match severity {
        doctor::Severity::Good => Severity::Good,
        doctor::Severity::Note => Severity::Note,
        doctor::Severity::Warning => Severity::Warning,
        doctor::Severity::Unsound => Severity::Unsound,
    };
    let finding = |it: &doctor::Finding| DoctorFinding {
        severity: severity(it.severity),
        what: it.what.clone(),
        found: it.found.clone(),
        advice: it.advice.clone(),
    };
    let verdict = examination.verdict();
    let point = examination.profile.mount_point.as_ref().map(|point| format!(" mounted at {}", point.display())).unwrap_or_default();
    MountInfo {
        name: name.to_owned(),
        title: format!("{}{point}", examination.profile.name),
        options: examination.options.join(","),
        hosts: u32::try_from(hosts).unwrap_or(u32::MAX),
        doctor: verdict.words().to_owned(),
        findings: examination.findings.iter().map(finding).collect(),
        refuses: (verdict >= doctor::Verdict::OneHost)
            .then(|| format!("{}: a cache cannot be shared here by several hosts", verdict.words())),
        ..MountInfo::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drive_that_does_not_answer_is_told_in_time() {
        let dir = tempfile::tempdir().unwrap();
        let error = examine(dir.path(), None, Duration::ZERO).unwrap_err();
        assert!(error.contains("did not answer within 0 s"), "{error}");
        let found = examine(dir.path(), None, Duration::from_secs(60)).unwrap();
        let info = describe("disk", 1, &found);
        assert_eq!(info.refuses, None);
        assert!(info.findings.iter().any(|finding| finding.what == "link" && finding.severity == Severity::Good), "{info:?}");
    }
}
