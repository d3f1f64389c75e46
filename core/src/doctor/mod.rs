//! Looks a drive over for people: what it is, what it does, what holds between two hosts that share it, and what to do about each
//! thing that is not as it should be.
//!
//! Everything is tried, and nothing believed because of a drive's name. All happens in one new folder, which is removed again.

mod advice;
mod alone;
mod between;
mod cost;

use crate::chance::{Chance, OsChance};
use crate::clock::{Clock, OsClock};
use crate::mount::{self, Kind, Look, Profile};
use crate::vfs::{OpenMode, OsVfs, Vfs};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// As it should be.
    Good,
    /// Worth knowing: slower, less fresh, or bad for other programs.
    Note,
    /// Something will hurt.
    Warning,
    /// A cache cannot be shared here.
    Unsound,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad.
    pub severity: Severity,
    /// What was looked at.
    pub what: String,
    /// What was found.
    pub found: String,
    /// What to do about it; empty when nothing.
    pub advice: String,
}

/// What may be done on the drive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Several hosts may share a cache (or, on a local disk, several processes).
    Sound,
    /// The same, but something weakens it.
    Weakened,
    /// One host may write, at one time.
    OneHost,
    /// No cache can be kept here.
    Unusable,
}

impl Verdict {
    /// In words.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Sound => "sound",
            Self::Weakened => "sound, but weakened",
            Self::OneHost => "one host only",
            Self::Unusable => "unusable",
        }
    }

    /// For scripts: 0 sound, 1 weakened, 2 one host only, 3 unusable.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        self as u8
    }
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Examination {
    /// The directory.
    pub dir: PathBuf,
    /// The other mount of the share.
    pub peer: Option<PathBuf>,
    /// What the engine takes the drive for, after trying it.
    pub profile: Profile,
    /// The mount's options.
    pub options: Vec<String>,
    /// Everything that was looked at.
    pub findings: Vec<Finding>,
}

/// Examines the drive that `dir`, an existing directory, is on; with `peer`, another mount of the same share, also what holds
/// between the two. Blocks as long as the drive does: a caller that cannot wait asks in a thread of its own.
///
/// # Errors
/// When the directory cannot be looked at. What the drive then refuses is a finding.
pub fn examine(dir: &Path, peer: Option<&Path>) -> io::Result<Examination> {
    let profile = mount::detect(dir)?;
    OsVfs.read_dir(dir)?;
    let options = mount::options(dir)?;
    let mut examination = Examination { dir: dir.to_owned(), peer: peer.map(Path::to_owned), profile, options, findings: Vec::new() };
    examination.look_at_type();
    let tools = Tools { vfs: &OsVfs, clock: &OsClock, chance: &OsChance };
    match mount::probe(tools.vfs, tools.clock, tools.chance, dir) {
        Err(error) => examination.add(Severity::Unsound, "writing", format!("refused: {error}"), advice::of_error(&error)),
        Ok(probe) => {
            if let Err(error) = examination.try_out(&tools, &probe) {
                let found = format!("the drive failed on the way: {error}");
                examination.add(Severity::Warning, "looking further", found, advice::of_error(&error));
            }
        }
    }
    examination.findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    Ok(examination)
}

/// What touches the world.
struct Tools<'a> {
    vfs: &'a dyn Vfs,
    clock: &'a dyn Clock,
    chance: &'a dyn Chance,
}

impl Examination {
    fn add(&mut self, severity: Severity, what: &str, found: impl Into<String>, advice: &str) {
        self.findings.push(Finding { severity, what: what.to_owned(), found: found.into(), advice: advice.to_owned() });
    }

    /// What may be done here.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let has = |severity| self.findings.iter().any(|finding| finding.severity == severity);
        if self.findings.iter().any(|finding| finding.what == "writing" && finding.severity == Severity::Unsound) {
            Verdict::Unusable
        } else if has(Severity::Unsound) || self.profile.kind == Kind::ObjectMount {
            Verdict::OneHost
        } else if has(Severity::Warning) {
            Verdict::Weakened
        } else {
            Verdict::Sound
        }
    }

    fn look_at_type(&mut self) {
        let place = self.profile.mount_point.as_ref().map(|point| format!(" mounted at {}", point.display())).unwrap_or_default();
        let options = if self.options.is_empty() { String::new() } else { format!(" ({})", self.options.join(",")) };
        self.add(Severity::Good, "type", format!("{}{place}{options}", self.profile.name), "");
        for warning in self.profile.warnings.clone() {
            let severity = if self.profile.kind == Kind::ObjectMount { Severity::Unsound } else { Severity::Warning };
            let advice = advice::of_warning(&warning);
            self.add(severity, "mount", warning, advice);
        }
        if self.options.iter().any(|option| option == "nolock" || option == "local_lock=all") {
            let found = "locks are granted by each host for itself (`nolock`); this cache needs none, SQLite and others do";
            self.add(Severity::Note, "locks", found, "for other programs on this share: mount without `nolock`");
        }
        if self.options.iter().any(|option| option == "nobrl") {
            let found = "byte-range locks are not sent to the server (`nobrl`); this cache needs none, SQLite and others do";
            self.add(Severity::Note, "locks", found, "for other programs on this share: mount without `nobrl`");
        }
        if self.profile.has_leases() && !self.options.iter().any(|option| option == "nolease") {
            let found =
                "this client takes a lease on each file that it opens, and other hosts that open the file wait until it is given back";
            let advice = "where several hosts write at once: mount with `nolease` (a Samba server may let a host wait 5 to 9 s for a lease at times)";
            self.add(Severity::Note, "leases", found, advice);
        }
        if self.profile.read_only {
            self.add(Severity::Warning, "mount", "mounted read-only: caches here can be read only", "mount it `rw` to write");
        }
    }

    fn try_out(&mut self, tools: &Tools<'_>, probe: &mount::Probe) -> io::Result<()> {
        let before = self.profile.warnings.len();
        self.profile = self.profile.clone().with_probe(probe);
        for warning in self.profile.warnings.split_off(before) {
            let severity = if self.profile.kind == Kind::ObjectMount { Severity::Unsound } else { Severity::Warning };
            let advice = advice::of_warning(&warning);
            self.add(severity, "mount", warning, advice);
        }
        self.look_at_profile();
        let name = format!("diskcache-doctor-{:016x}", tools.chance.next()? >> 64);
        let folder = Folder::create(tools, &self.dir, &name)?;
        alone::examine(self, tools, &folder, probe)?;
        cost::measure(self, tools, &folder)?;
        if let Some(peer) = self.peer.clone() {
            between::examine(self, tools, &folder, &peer.join(&name))?;
        }
        Ok(())
    }

    fn look_at_profile(&mut self) {
        let found = match (self.profile.kind, self.profile.look) {
            (Kind::Local, _) => "one kernel sees it: processes share memory and kernel locks (local mode)",
            (Kind::Shared, Look::Statx) => "several hosts see it: commits are files named by link, and looks ask the server (shared mode)",
            (Kind::Shared, Look::Reopen) => {
                "several hosts see it: commits are files named by link; looks are answered from the client's cache, so reads may be as \
                 old as that allows, while everything that writes is exact (shared mode)"
            }
            (Kind::ObjectMount, _) => "two hosts can be given the same name, or none: it cannot be shared for writing",
        };
        self.add(Severity::Good, "used as", found, "");
    }
}

impl fmt::Display for Examination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}", self.dir.display(), self.verdict().words())?;
        for finding in &self.findings {
            let mark = match finding.severity {
                Severity::Good => "  ok     ",
                Severity::Note => "  note   ",
                Severity::Warning => "! WEAK   ",
                Severity::Unsound => "! UNSOUND",
            };
            writeln!(f, "{mark} {}: {}", finding.what, finding.found)?;
            if !finding.advice.is_empty() {
                writeln!(f, "            -> {}", finding.advice)?;
            }
        }
        Ok(())
    }
}

/// A folder of our own; dropping removes it as far as the drive lets it.
struct Folder<'a> {
    vfs: &'a dyn Vfs,
    path: PathBuf,
}

impl<'a> Folder<'a> {
    fn create(tools: &Tools<'a>, dir: &Path, name: &str) -> io::Result<Self> {
        let path = dir.join(name);
        tools.vfs.create_dir(&path)?;
        Ok(Self { vfs: tools.vfs, path })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

impl Drop for Folder<'_> {
    fn drop(&mut self) {
        for name in self.vfs.read_dir(&self.path).unwrap_or_default() {
            let path = self.path(&name);
            if self.vfs.unlink(&path).is_err() {
                for inner in self.vfs.read_dir(&path).unwrap_or_default() {
                    let _ = self.vfs.unlink(&path.join(inner));
                }
                let _ = self.vfs.remove_dir(&path);
            }
        }
        let _ = self.vfs.remove_dir(&self.path);
    }
}

/// Writes a new file, durably.
fn write(vfs: &dyn Vfs, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let file = vfs.open(path, OpenMode::CreateNew)?;
    file.write_all_at(bytes, 0)?;
    file.sync()?;
    file.close()
}

/// Reads a whole small file.
fn read(vfs: &dyn Vfs, path: &Path) -> io::Result<Vec<u8>> {
    let file = vfs.open(path, OpenMode::Read)?;
    let mut buf = vec![0; 4096];
    let n = file.read_at(&mut buf, 0)?;
    buf.truncate(n);
    Ok(buf)
}

#[cfg(test)]
mod tests;
