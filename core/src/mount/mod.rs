//! What drive is this: its type and options from the kernel's list of mounts, and what follows for the protocol.
//!
//! [`detect`] looks and touches nothing; [`probe()`] tries, once, in a folder of its own, what no type tells. What is not known is
//! taken for the weaker: an unknown type is a network drive, an unknown FUSE program answers looks from a cache.
//!
//! The environment variable `DISKCACHE_RS_PROFILE` decides instead: `local`, `shared` or `object`, or `shared:statx` or
//! `shared:reopen` to say how to look afresh, too.

mod mountinfo;
mod probe;
mod table;

pub use probe::{Probe, probe};

use crate::vfs::{OpenMode, OsVfs, Vfs};
use mountinfo::Mount;
use rustix::fs::{AtFlags, CWD, StatxFlags};
use std::io;
use std::path::{Path, PathBuf};

/// Names the environment variable that overrides [`Profile::kind`].
pub const PROFILE_VARIABLE: &str = "DISKCACHE_RS_PROFILE";

/// How a drive can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// One kernel sees it: shared memory and kernel locks hold.
    Local,
    /// Several hosts may write: complete files, named by `link`; never mapped.
    Shared,
    /// Names are not exclusive here: one process may write, any may read.
    ObjectMount,
}

/// How to learn whether another host wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Look {
    /// Ask the server for the attributes of an open file.
    Statx,
    /// Open the file again: this client answers for open ones from its cache.
    Reopen,
}

/// What is known of a drive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// How it can be used.
    pub kind: Kind,
    /// How to look afresh.
    pub look: Look,
    /// Its type as the kernel names it (`ext4`, `nfs4`, `fuse.sshfs`).
    pub name: String,
    /// Where it is mounted, if the kernel says.
    pub mount_point: Option<PathBuf>,
    /// Whether it is mounted read-only.
    pub read_only: bool,
    /// What weakens it, for people to read.
    pub warnings: Vec<String>,
}

impl Profile {
    /// Whether this host's client takes leases on files that it opens, which others must wait for (SMB; see [`crate::vfs::InTurns`]).
    #[must_use]
    pub fn has_leases(&self) -> bool {
        self.kind == Kind::Shared && matches!(self.name.as_str(), "cifs" | "smb3" | "smbfs")
    }

    /// Takes in what was tried: a network drive without a sound `link` is only good for one writer.
    #[must_use]
    pub fn with_probe(mut self, probe: &Probe) -> Self {
        if self.kind == Kind::Shared && !(probe.link_works && probe.link_refuses_existing) {
            self.kind = Kind::ObjectMount;
            self.warnings.push(if probe.link_works {
                format!("{}: a second file was given a name that existed; only one process may write here", self.name)
            } else {
                format!("{}: files cannot be given a second name; only one process may write here", self.name)
            });
        }
        if !probe.fsync_works {
            self.warnings.push(format!("{}: files cannot be flushed; what was acknowledged may be lost with the server", self.name));
        }
        self
    }
}

/// Finds out what drive a path is on. The path need not exist yet.
///
/// # Errors
/// When no directory above the path can be looked at, or `InvalidInput` for a bad override.
pub fn detect(path: &Path) -> io::Result<Profile> {
    let path = existing(path)?;
    let id = mount_id(&path);
    // Without /proc the drive's magic number still says much.
    let mounts = read_mounts().unwrap_or_default();
    let magic = rustix::fs::statfs(&path).ok().and_then(|statfs| table::name_of_magic(statfs.f_type));
    let forced = std::env::var_os(PROFILE_VARIABLE);
    let forced = forced.as_ref().map(|value| value.to_string_lossy());
    detect_in(&mounts, &path, id, magic, forced.as_deref())
}

/// Returns the options of the mount that a path is on, as the kernel lists them; none where it does not.
///
/// # Errors
/// When no directory above the path can be looked at.
pub fn options(path: &Path) -> io::Result<Vec<String>> {
    let path = existing(path)?;
    let mounts = read_mounts().unwrap_or_default();
    Ok(mountinfo::find(&mounts, &path, mount_id(&path)).map(|mount| mount.options).unwrap_or_default())
}

/// As [`detect`], for a path without symbolic links: from the text of `/proc/self/mountinfo`, the path's mount id and the type that
/// the drive's magic number names, as far as they are known, and the override.
///
/// # Errors
/// `InvalidInput` for an override that is none.
pub fn detect_in(mounts: &str, path: &Path, id: Option<u64>, magic: Option<&str>, forced: Option<&str>) -> io::Result<Profile> {
    let mount = mountinfo::find(mounts, path, id);
    let mut profile = match (&mount, magic) {
        (Some(mount), magic) => table::judge(mount, magic),
        (None, Some(magic)) => table::judge(&Mount { fs_type: magic.to_owned(), ..Mount::default() }, None),
        (None, None) => table::judge(&Mount { fs_type: "unknown".to_owned(), ..Mount::default() }, None),
    };
    profile.warnings.extend(table::sync_folder(path));
    if let Some(forced) = forced.filter(|value| !value.is_empty()) {
        force(&mut profile, forced)?;
    }
    Ok(profile)
}

fn mount_id(path: &Path) -> Option<u64> {
    rustix::fs::statx(CWD, path, AtFlags::empty(), StatxFlags::MNT_ID)
        .ok()
        .filter(|statx| StatxFlags::from_bits_retain(statx.stx_mask).contains(StatxFlags::MNT_ID))
        .map(|statx| statx.stx_mnt_id)
}

fn force(profile: &mut Profile, forced: &str) -> io::Result<()> {
    let (kind, look) = match forced {
        "local" => (Kind::Local, profile.look),
        "shared" => (Kind::Shared, profile.look),
        "shared:statx" => (Kind::Shared, Look::Statx),
        "shared:reopen" => (Kind::Shared, Look::Reopen),
        "object" => (Kind::ObjectMount, profile.look),
        _ => {
            let message = format!("{PROFILE_VARIABLE} is `{forced}`, which is none of local, shared, shared:statx, shared:reopen, object");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
    };
    if kind == Kind::Local && profile.kind != Kind::Local {
        profile.warnings.push(format!("{} is used as a local disk because {PROFILE_VARIABLE} says so", profile.name));
    }
    (profile.kind, profile.look) = (kind, look);
    Ok(())
}

/// Resolves the nearest directory above that exists.
fn existing(path: &Path) -> io::Result<PathBuf> {
    let path = std::path::absolute(path)?;
    let mut failed = None;
    for above in path.ancestors() {
        match above.canonicalize() {
            Ok(resolved) => return Ok(resolved),
            Err(error) if error.kind() == io::ErrorKind::NotFound => failed = Some(error),
            Err(error) => return Err(error),
        }
    }
    Err(failed.unwrap_or_else(|| io::ErrorKind::NotFound.into()))
}

fn read_mounts() -> io::Result<String> {
    let file = OsVfs.open(Path::new("/proc/self/mountinfo"), OpenMode::Read)?;
    let mut text = Vec::new();
    let mut buf = vec![0; 64 << 10];
    loop {
        match file.read_at(&mut buf, text.len() as u64)? {
            0 => return Ok(String::from_utf8_lossy(&text).into_owned()),
            n => text.extend_from_slice(&buf[..n]),
        }
    }
}

#[cfg(test)]
mod tests;
