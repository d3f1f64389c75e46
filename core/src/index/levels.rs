//! The list of runs: which files hold which hashes, newest run first. A value: changing it makes another one.
//!
//! ```text
//! levels := version(u8 = 1) runs(u16) run{runs}
//! run    := part(u8: 0 whole, 1 input, 2 output) tier(u8) below(u64; output only) slices(u32) slice{slices}
//! slice  := flags(u8, bit 0 = lost) file(u64) low(u64) high(u64) rows(u32) file-len(u64) head-len(u32) sum(u64)
//! ```
//! The slices of a run ascend and do not overlap; hashes between them have no entry there. While runs are being merged they are
//! *inputs*, next to each other, and the run right after them (older) is the *output*: it holds what was merged, all hashes below
//! `below`, and the inputs' slices are cut to start there. So every hash is in inputs or output, never in both.
//!
//! A slice that is *lost* covers hashes of which some entries are gone for good (its file may be missing altogether, then its id is
//! 0): who does not find a key there does not know whether it had a newer entry than those in older runs.

use super::delta::Delta;
use super::files::Opened;
use super::run::{Built, RunFile};
use super::starts::Starts;
use crate::format::wire::{Malformed, Reader, Writer};
use std::sync::Arc;
use std::sync::OnceLock;

/// Most runs that a list can have; merging keeps them far fewer.
const RUNS_MAX: usize = 1024;

/// A part of a run: the entries of one file within a range of hashes.
#[derive(Debug, Clone)]
pub struct Slice {
    /// The file's id, or [`Self::NO_FILE`].
    pub file: u64,
    /// Lowest hash.
    pub low: u64,
    /// Highest hash.
    pub high: u64,
    /// Rows of the file.
    pub rows: u32,
    /// Length of the file.
    pub file_len: u64,
    /// Length of the file's head.
    pub head_len: u32,
    /// Checksum of the file's head.
    pub sum: u64,
    /// Some of its entries are gone for good.
    pub lost: bool,
    pub(super) opened: OnceLock<Opened>,
}

impl PartialEq for Slice {
    fn eq(&self, other: &Self) -> bool {
        let all = |s: &Self| (s.file, s.low, s.high, s.rows, s.file_len, s.head_len, s.sum, s.lost);
        all(self) == all(other)
    }
}

impl Eq for Slice {}

impl Slice {
    /// The id that no file has.
    pub const NO_FILE: u64 = 0;

    /// Names a file that was built.
    ///
    /// # Panics
    /// If the id is [`Self::NO_FILE`].
    #[must_use]
    pub fn of(file: u64, built: &Built) -> Self {
        assert_ne!(file, Self::NO_FILE, "file ids start at 1");
        let (low, high) = built.head.range();
        let head_len = u32::try_from(built.head.encoded_len()).expect("a few thousand bytes");
        let (rows, file_len, sum) = (built.head.rows(), built.head.file_len(), built.head.sum());
        Self { file, low, high, rows, file_len, head_len, sum, lost: false, opened: OnceLock::new() }
    }

    /// A slice that is lost altogether.
    #[must_use]
    pub const fn gone(low: u64, high: u64) -> Self {
        Self { file: Self::NO_FILE, low, high, rows: 0, file_len: 0, head_len: 0, sum: 0, lost: true, opened: OnceLock::new() }
    }

    #[inline]
    pub(super) const fn covers(&self, hash: u64) -> bool {
        self.low <= hash && hash <= self.high
    }

    /// Returns whether all of the file's hashes are in the slice.
    #[inline]
    pub(super) fn is_whole(&self, file: &RunFile) -> bool {
        file.head().range() == (self.low, self.high)
    }
}

/// What a run is in a merge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Nothing.
    Whole,
    /// It is merged into the next output.
    Input,
    /// It is what the inputs before it are merged into; done are all hashes below this.
    Output(u64),
}

/// A sorted run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    pub(super) slices: Arc<[Slice]>,
    pub(super) part: Part,
    /// How often its entries were merged, about: runs of a tier are of like size.
    pub(super) tier: u8,
}

impl Run {
    /// Returns its slices.
    #[must_use]
    pub fn slices(&self) -> &[Slice] {
        &self.slices
    }

    /// Returns how many rows its files have.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.slices.iter().map(|s| u64::from(s.rows)).sum()
    }

    /// Returns the slice that covers a hash. Slices are about of equal width, so the first guess is mostly right.
    #[inline]
    pub(super) fn slice(&self, hash: u64) -> Option<&Slice> {
        let guess = ((u128::from(hash) * self.slices.len() as u128) >> 64) as usize;
        let guessed = self.slices.get(guess)?;
        if guessed.covers(hash) {
            return Some(guessed);
        }
        let near = if hash < guessed.low { guess.wrapping_sub(1) } else { guess + 1 };
        if let Some(found) = self.slices.get(near).filter(|s| s.covers(hash)) {
            return Some(found);
        }
        let at = self.slices.partition_point(|s| s.high < hash);
        self.slices.get(at).filter(|s| s.covers(hash))
    }
}

/// The runs of an index, newest first.
#[derive(Debug, Clone, Default)]
pub struct Levels {
    pub(super) runs: Arc<Vec<Run>>,
    /// Where walks over these runs may start; no part of the value.
    pub(super) starts: Starts,
}

impl PartialEq for Levels {
    fn eq(&self, other: &Self) -> bool {
        self.runs == other.runs
    }
}

impl Eq for Levels {}

impl Levels {
    pub(super) fn of(runs: Vec<Run>) -> Self {
        Self { runs: Arc::new(runs), starts: Starts::default() }
    }

    /// Takes over what walks found out about the list before this one: how far nothing lives. `flushed` is the delta that came
    /// on top since, if one did. Without it walks are as right, but pass over what is dead once more.
    pub fn inherit(&self, before: &Self, flushed: Option<&Delta>) {
        self.starts.inherit(&before.starts, flushed);
    }

    /// Returns whether there is no run.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Returns the runs, newest first.
    #[must_use]
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// Returns how many rows the files have, shadowed ones and tombstones included.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.runs.iter().map(Run::rows).sum()
    }

    /// Returns how long the files are together.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.runs.iter().flat_map(|r| r.slices.iter()).map(|s| s.file_len).sum()
    }

    /// Returns the ids of the files that are needed. One that is being merged may come more than once.
    pub fn files(&self) -> impl Iterator<Item = u64> {
        self.runs.iter().flat_map(|r| r.slices.iter()).map(|s| s.file).filter(|f| *f != Slice::NO_FILE)
    }

    /// Returns whether entries of some slice are given up as lost.
    #[must_use]
    pub fn has_lost(&self) -> bool {
        self.runs.iter().flat_map(|r| r.slices.iter()).any(|s| s.lost)
    }

    /// Puts a new run on top; see [`flush`](super::flush()).
    #[must_use]
    pub fn push(&self, slices: Vec<Slice>) -> Self {
        if slices.is_empty() {
            return self.clone();
        }
        let run = Run { slices: slices.into(), part: Part::Whole, tier: 0 };
        Self::of(std::iter::once(run).chain(self.runs.iter().cloned()).collect())
    }

    /// Returns whether this is `before`, perhaps with one run on top: what a flush makes of it.
    #[must_use]
    pub fn is_flush_of(&self, before: &Self) -> bool {
        let more = self.runs.len().saturating_sub(before.runs.len());
        more <= 1 && self.runs[more..] == before.runs[..]
    }

    /// Appends the encoded list.
    ///
    /// # Panics
    /// With more runs or slices than can be counted; merging keeps them few.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put_u8(1);
        out.put_u16(u16::try_from(self.runs.len()).expect("few runs"));
        for run in self.runs.iter() {
            let (part, below) = match run.part {
                Part::Whole => (0, None),
                Part::Input => (1, None),
                Part::Output(below) => (2, Some(below)),
            };
            out.put_u8(part);
            out.put_u8(run.tier);
            if let Some(below) = below {
                out.put_u64(below);
            }
            out.put_u32(u32::try_from(run.slices.len()).expect("few slices"));
            for s in run.slices.iter() {
                out.put_u8(u8::from(s.lost));
                for word in [s.file, s.low, s.high] {
                    out.put_u64(word);
                }
                out.put_u32(s.rows);
                out.put_u64(s.file_len);
                out.put_u32(s.head_len);
                out.put_u64(s.sum);
            }
        }
    }

    /// Reads a list off the start of what `r` has left.
    ///
    /// # Errors
    /// [`Malformed`] for bytes that no writer writes.
    pub fn parse(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let version = r.u8()?;
        if version != 1 {
            return Err(Malformed::Version(version.into()));
        }
        let count = r.u16()? as usize;
        if count > RUNS_MAX {
            return Err(Malformed::Field("runs"));
        }
        let runs = (0..count).map(|_| parse_run(r)).collect::<Result<Vec<_>, _>>()?;
        check_merges(&runs)?;
        Ok(Self::of(runs))
    }
}

fn parse_run(r: &mut Reader<'_>) -> Result<Run, Malformed> {
    let (part, tier) = (r.u8()?, r.u8()?);
    let part = match part {
        0 => Part::Whole,
        1 => Part::Input,
        2 => Part::Output(r.u64()?),
        _ => return Err(Malformed::Field("part")),
    };
    let count = r.u32()?;
    let mut slices: Vec<Slice> = Vec::new();
    for _ in 0..count {
        let slice = parse_slice(r)?;
        if slices.last().is_some_and(|last| last.high >= slice.low) {
            return Err(Malformed::Field("slices"));
        }
        slices.push(slice);
    }
    Ok(Run { slices: slices.into(), part, tier })
}

fn parse_slice(r: &mut Reader<'_>) -> Result<Slice, Malformed> {
    let flags = r.u8()?;
    let (file, low, high) = (r.u64()?, r.u64()?, r.u64()?);
    let (rows, file_len, head_len, sum) = (r.u32()?, r.u64()?, r.u32()?, r.u64()?);
    let lost = flags & 1 == 1;
    if flags > 1 || low > high || u64::from(head_len) > file_len || (file == Slice::NO_FILE && !lost) {
        return Err(Malformed::Field("slice"));
    }
    Ok(Slice { file, low, high, rows, file_len, head_len, sum, lost, opened: OnceLock::new() })
}

/// Checks that inputs stand before an output, and that they hold none of its hashes.
fn check_merges(runs: &[Run]) -> Result<(), Malformed> {
    let mut inputs: &[Run] = &[];
    for (i, run) in runs.iter().enumerate() {
        match run.part {
            Part::Input => inputs = &runs[i - inputs.len()..=i],
            Part::Output(below) => {
                let done = run.slices.last().is_none_or(|last| last.high < below);
                let cut = inputs.iter().all(|input| input.slices.first().is_none_or(|first| first.low >= below));
                if !done || !cut || inputs.is_empty() {
                    return Err(Malformed::Field("merge"));
                }
                inputs = &[];
            }
            Part::Whole if !inputs.is_empty() => return Err(Malformed::Field("merge")),
            Part::Whole => {}
        }
    }
    if inputs.is_empty() { Ok(()) } else { Err(Malformed::Field("merge")) }
}
