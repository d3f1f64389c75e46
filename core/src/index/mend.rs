//! Finds what is damaged in the files of runs, and puts files of what can still be read in their place.
//!
//! A file that lost entries is never simply left out: what older runs say of its hashes may be older than what was lost. So the rows that
//! cannot be read stay as lost ones, and where not even their hashes are known the slice is marked as lost, unless nothing older exists.

use super::files::RunFiles;
use super::levels::{Levels, Run, Slice};
use super::order::Order;
use super::run::{Built, Fault, RunBuilder, RunFile};
use crate::error::{Error, Result};
use crate::format::wire::Malformed;

/// A slice whose file is not what was written.
#[derive(Debug)]
pub struct Wrong {
    /// The file.
    pub file: u64,
    /// What is wrong.
    pub error: Error,
    run: usize,
    slice: usize,
}

/// A list of runs without damaged files.
#[derive(Debug)]
pub struct Mended {
    /// The list.
    pub levels: Levels,
    /// The files to be stored before it is published.
    pub files: Vec<(u64, Vec<u8>)>,
}

impl Levels {
    /// Reads every file and returns those that are damaged. What was given up as lost before is not damage any more.
    ///
    /// # Errors
    /// If the drive fails.
    pub fn verify(&self, files: &RunFiles) -> Result<Vec<Wrong>> {
        let mut wrong = Vec::new();
        for (n, run) in self.runs.iter().enumerate() {
            for (m, slice) in run.slices.iter().enumerate().filter(|(_, s)| s.file != Slice::NO_FILE) {
                match files.file(slice).and_then(verify_file) {
                    Ok(()) => {}
                    Err(fault @ Fault::Io(_)) => return Err(files.error(slice.file, fault)),
                    Err(fault) => wrong.push(Wrong { file: slice.file, error: files.error(slice.file, fault), run: n, slice: m }),
                }
            }
        }
        Ok(wrong)
    }

    /// Returns the list with new files, named by `new_id`, in place of those that [`Self::verify`] found.
    ///
    /// # Errors
    /// If the drive fails, or what `new_id` says.
    pub fn mend(&self, files: &RunFiles, wrong: &[Wrong], mut new_id: impl FnMut() -> Result<u64>) -> Result<Mended> {
        let mut runs = self.runs.to_vec();
        let mut built_files = Vec::new();
        for (n, run) in runs.iter_mut().enumerate() {
            if !wrong.iter().any(|w| w.run == n) {
                continue;
            }
            let mut slices = Vec::new();
            for (m, slice) in run.slices.iter().enumerate() {
                if !wrong.iter().any(|w| (w.run, w.slice) == (n, m)) {
                    slices.push(slice.clone());
                    continue;
                }
                let bottom = !self.runs[n + 1..].iter().any(|older| overlaps(older, slice));
                let (built, lost) = salvage(files, slice, bottom)?;
                match built {
                    Some(built) => {
                        let id = new_id()?;
                        slices.push(Slice { lost, ..Slice::of(id, &built) });
                        built_files.push((id, built.bytes));
                    }
                    None if lost => slices.push(Slice::gone(slice.low, slice.high)),
                    None => {}
                }
            }
            run.slices = slices.into();
        }
        Ok(Mended { levels: Self::of(runs), files: built_files })
    }
}

fn overlaps(run: &Run, slice: &Slice) -> bool {
    run.slices.iter().any(|s| s.low <= slice.high && slice.low <= s.high)
}

/// Reads everything in a file.
fn verify_file(file: &RunFile) -> std::result::Result<(), Fault> {
    file.check_bytes()?;
    let mut known = 0;
    for row in 0..file.head().rows() {
        let hash = file.hash(row)?;
        if let Some(offset) = file.offset(row)? {
            let same = file.with_entry(offset, |e, _| e.key.hash() == hash)?;
            if !same {
                return Err(Malformed::Field("hash").into());
            }
            known += 1;
        }
    }
    for order in Order::ALL {
        for i in 0..file.order_len(order).min(known) {
            file.ordered(order, i)?;
        }
    }
    Ok(())
}

/// Builds a file of the rows of a slice that can be read. Returns it, and whether more was lost than what its rows say.
fn salvage(files: &RunFiles, slice: &Slice, bottom: bool) -> Result<(Option<Built>, bool)> {
    let fail = |fault| files.error(slice.file, fault);
    let file = match files.file(slice) {
        Ok(file) => file,
        Err(fault @ Fault::Io(_)) => return Err(fail(fault)),
        Err(_) => return Ok((None, !bottom)),
    };
    let mut rows = Vec::new();
    let mut lost = slice.lost && !bottom;
    for row in 0..file.head().rows() {
        let hash = match file.hash(row) {
            Ok(hash) if slice.covers(hash) => hash,
            Ok(_) => continue,
            Err(fault @ Fault::Io(_)) => return Err(fail(fault)),
            Err(_) => {
                lost |= !bottom;
                continue;
            }
        };
        let read = file.offset(row).and_then(|offset| match offset {
            Some(offset) => file.with_entry(offset, |e, bytes| (e.key.hash() == hash).then(|| bytes.to_vec())),
            None => Ok(None),
        });
        match read {
            Err(fault @ Fault::Io(_)) => return Err(fail(fault)),
            Ok(Some(bytes)) => rows.push((hash, Some(bytes))),
            _ if bottom => {}
            _ => rows.push((hash, None)),
        }
    }
    if rows.is_empty() {
        return Ok((None, lost));
    }
    rows.sort_by_key(|(hash, _)| *hash);
    let mut builder = RunBuilder::new(files.seed(), rows.len());
    for (hash, bytes) in &rows {
        match bytes.as_deref().and_then(|b| crate::format::entry::EntryRef::parse(b, files.seed()).ok().map(|(e, _)| (e, b))) {
            Some((e, bytes)) => builder.push_encoded(*hash, &e, bytes),
            None => builder.push_lost(*hash),
        }
    }
    Ok((Some(builder.finish(slice.low, slice.high)), lost))
}
