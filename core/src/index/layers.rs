//! Deltas over runs, newest first: what a key is now.

use super::delta::{Delta, Row};
use super::files::RunFiles;
use super::levels::{Levels, Run, Slice};
use super::run::{Fault, Hit};
use crate::error::{Error, Result};
use crate::format::KeyRef;
use crate::format::entry::EntryRef;
use crate::format::entry::OwnedEntry;
use crate::format::wire::Malformed;

/// The layers of an index.
#[derive(Debug, Clone, Copy)]
pub struct Layers<'a> {
    /// Deltas, newest first (a transaction's over the main one).
    pub deltas: &'a [&'a Delta],
    /// The runs below them.
    pub levels: &'a Levels,
    /// Their files.
    pub files: &'a RunFiles,
}

/// A live entry, not copied where that can be avoided.
#[derive(Debug, Clone)]
pub enum Found<'a> {
    /// In a delta.
    Delta(Row<'a>),
    /// In a run.
    Run(Hit<'a>),
}

impl Found<'_> {
    /// Borrows it.
    #[must_use]
    #[inline]
    pub fn as_ref(&self) -> EntryRef<'_> {
        match self {
            Self::Delta(e) => e.as_ref(),
            Self::Run(hit) => hit.as_ref(),
        }
    }

    /// Copies it.
    #[must_use]
    pub fn to_owned(&self) -> OwnedEntry {
        self.as_ref().to_owned()
    }
}

/// What is known of a key.
#[derive(Debug)]
pub enum Lookup<'a> {
    /// It has this entry.
    Found(Found<'a>),
    /// It has none.
    Missing,
    /// The bytes that would tell are damaged.
    Damaged(Error),
}

/// What newer layers say of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shadow {
    /// Nothing: the older entry holds.
    None,
    /// It was changed since.
    Shadowed,
    /// The bytes that would tell are damaged.
    Unknown,
}

impl<'a> Layers<'a> {
    /// Looks a key up. The expiry is the caller's to judge.
    ///
    /// # Errors
    /// If the drive fails.
    #[inline]
    pub fn lookup(&self, hash: u64, key: KeyRef<'_>) -> Result<Lookup<'a>> {
        for delta in self.deltas {
            if let Some(row) = delta.get(hash, key) {
                return Ok(if row.is_tombstone() { Lookup::Missing } else { Lookup::Found(Found::Delta(row)) });
            }
        }
        self.lookup_runs(hash, key)
    }

    /// Looks a key up in the runs alone.
    ///
    /// # Errors
    /// If the drive fails.
    #[inline]
    pub fn lookup_runs(&self, hash: u64, key: KeyRef<'_>) -> Result<Lookup<'a>> {
        for run in self.levels.runs.iter() {
            let Some(slice) = run.slice(hash) else { continue };
            let fault = match self.files.file(slice).and_then(|file| file.find(hash, key)) {
                Ok(Some(encoded)) => match Hit::decode(encoded) {
                    Ok(hit) if hit.as_ref().entry.tombstone => return Ok(Lookup::Missing),
                    Ok(hit) => return Ok(Lookup::Found(Found::Run(hit))),
                    Err(fault) => fault,
                },
                Ok(None) if slice.lost => Fault::Damaged(Malformed::Short),
                Ok(None) => continue,
                Err(fault) => fault,
            };
            return self.faulty(slice, fault);
        }
        Ok(Lookup::Missing)
    }

    #[cold]
    fn faulty(&self, slice: &Slice, fault: Fault) -> Result<Lookup<'a>> {
        let drive = matches!(fault, Fault::Io(_));
        let error = self.files.error(slice.file, fault);
        if drive { Err(error) } else { Ok(Lookup::Damaged(error)) }
    }

    /// Returns whether any run may say something of a key with this hash: if not, deleting it needs no tombstone. Where the drive
    /// does not answer it may.
    #[must_use]
    pub fn runs_may_hold(&self, hash: u64) -> bool {
        may_hold(self.files, &self.levels.runs, hash)
    }

    /// Returns what the first `deltas` deltas and the first `runs` runs say of a key.
    pub(super) fn shadow(&self, deltas: usize, runs: usize, hash: u64, key: KeyRef<'_>) -> Result<Shadow> {
        if self.deltas.iter().take(deltas).any(|delta| delta.hides(hash, key)) {
            return Ok(Shadow::Shadowed);
        }
        for run in self.levels.runs.iter().take(runs) {
            let Some(slice) = run.slice(hash) else { continue };
            match self.files.file(slice).and_then(|file| file.find(hash, key)) {
                Ok(Some(_)) => return Ok(Shadow::Shadowed),
                Ok(None) if slice.lost => return Ok(Shadow::Unknown),
                Ok(None) => {}
                Err(fault @ Fault::Io(_)) => return Err(self.files.error(slice.file, fault)),
                Err(_) => return Ok(Shadow::Unknown),
            }
        }
        Ok(Shadow::None)
    }
}

/// Returns whether one of the runs may say something of a key with this hash.
pub(super) fn may_hold(files: &RunFiles, runs: &[Run], hash: u64) -> bool {
    runs.iter()
        .filter_map(|run| run.slice(hash))
        .any(|slice| slice.lost || files.file(slice).and_then(|file| file.may_hold(hash)).unwrap_or(true))
}
