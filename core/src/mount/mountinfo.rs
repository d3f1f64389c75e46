//! Reads the kernel's list of mounts (`/proc/self/mountinfo`): one line a mount,
//! `id parent major:minor root mount-point options [optional fields] - type source super-options`, where space, tab, newline,
//! `#` and backslash in names are written as three octal digits after a backslash.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// A mount.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Mount {
    pub(super) id: u64,
    pub(super) mount_point: PathBuf,
    pub(super) fs_type: String,
    pub(super) source: String,
    /// Of the mount and of the drive.
    pub(super) options: Vec<String>,
}

impl Mount {
    pub(super) fn has(&self, option: &str) -> bool {
        self.options.iter().any(|o| o == option)
    }

    /// Returns the value of `name=value`.
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        self.options.iter().find_map(|o| o.strip_prefix(name)?.strip_prefix('='))
    }
}

/// Finds the mount that a path without symbolic links is on: by its id if that is known and listed, else the longest mount point
/// above the path, of equal ones the last (it hides the others).
pub(super) fn find(text: &str, path: &Path, id: Option<u64>) -> Option<Mount> {
    let mut best: Option<Mount> = None;
    for mount in text.lines().filter_map(parse) {
        if Some(mount.id) == id {
            return Some(mount);
        }
        let depth = |mount: &Mount| mount.mount_point.components().count();
        if path.starts_with(&mount.mount_point) && best.as_ref().is_none_or(|best| depth(&mount) >= depth(best)) {
            best = Some(mount);
        }
    }
    best
}

fn parse(line: &str) -> Option<Mount> {
    let mut fields = line.split(' ');
    let id = fields.next()?.parse().ok()?;
    let mount_point = fields.nth(3)?;
    let options = fields.next()?;
    // The optional fields end with a lone hyphen.
    fields.find(|field| *field == "-")?;
    let (fs_type, source, super_options) = (fields.next()?, fields.next()?, fields.next().unwrap_or(""));
    Some(Mount {
        id,
        mount_point: PathBuf::from(unescape(mount_point)),
        fs_type: unescape(fs_type).to_string_lossy().into_owned(),
        source: unescape(source).to_string_lossy().into_owned(),
        options: options.split(',').chain(super_options.split(',')).filter(|o| !o.is_empty()).map(str::to_owned).collect(),
    })
}

fn unescape(field: &str) -> OsString {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let [byte, tail @ ..] = rest {
        rest = tail;
        match tail {
            [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', tail @ ..] if *byte == b'\\' => {
                out.push((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'));
                rest = tail;
            }
            _ => out.push(*byte),
        }
    }
    OsString::from_vec(out)
}
