//! Merges runs in small steps.
//!
//! Runs of a tier are of like size. When a tier has [`FAN_OUT`] of them they are merged into one of the next tier, a stretch of
//! hashes at a time: a step reads about [`STEP_ROWS`] rows whatever the size of the merge (a few times as many where most are dead),
//! and its result is a new list of runs. Small merges go first, so a large one never keeps the number of runs from being small.
//!
//! What a step made counts as long as the runs that it read are unchanged in the list; newer runs may have come on top.

use super::files::RunFiles;
use super::levels::{Levels, Part, Run, Slice};
use super::run::{Fault, ROWS_MAX, RunBuilder, RunFile};
use crate::error::Result;
use crate::format::Key;
use crate::format::entry::EntryRef;
use crate::format::wire::Malformed;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;

/// So many runs of a tier are merged into one.
pub const FAN_OUT: usize = 4;
/// About so many rows are read by one step.
pub const STEP_ROWS: usize = 8192;
/// Where fewer than one of so many rows that a step reads lives, it reads on, so that what is left is not scattered over many small files; up to
/// [`READ_ON_MAX`] times as many.
const LIVE_SHARE: usize = 4;
const READ_ON_MAX: usize = 8;

/// A step that should be made.
#[derive(Debug, Clone)]
pub struct MergeStep {
    /// The inputs, newest first.
    inputs: Vec<Run>,
    /// What they are merged into, if something is.
    output: Option<Run>,
    /// Where to go on.
    cursor: u64,
    /// No older run exists.
    bottom: bool,
    /// Rows to read.
    rows: usize,
}

/// A step that was made; see [`Levels::apply`].
#[derive(Debug, Clone)]
pub struct StepResult {
    /// The file to be stored before the new levels are published, if there is anything to store.
    pub file: Option<(u64, Vec<u8>)>,
    /// How many entries could not be read, where that was found by this step.
    pub lost: u64,
    before: Vec<Run>,
    after: Vec<Run>,
    bottom: bool,
}

/// The runs that a step read are not in the list any more, or not as they were.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conflict;

impl Levels {
    /// Returns the step to be made next, if any is due.
    #[must_use]
    pub fn plan(&self) -> Option<MergeStep> {
        let (group, _) = self.groups().into_iter().min_by_key(|(group, started)| (self.runs[group.start].tier, !*started))?;
        let bottom = group.end == self.runs.len();
        let mut inputs = self.runs[group].to_vec();
        let output = inputs.pop_if(|last| matches!(last.part, Part::Output(_)));
        let cursor = match &output {
            Some(Run { part: Part::Output(below), .. }) => *below,
            _ => 0,
        };
        Some(MergeStep { inputs, output, cursor, bottom, rows: STEP_ROWS })
    }

    /// Returns the first step of merging all runs into one, whatever is due; [`Self::plan`] goes on with it. `None` if there are less than two
    /// or a merge is under way.
    #[must_use]
    pub fn plan_whole(&self) -> Option<MergeStep> {
        let is_free = self.runs.len() > 1 && self.runs.iter().all(|run| run.part == Part::Whole);
        is_free.then(|| MergeStep { inputs: self.runs.to_vec(), output: None, cursor: 0, bottom: true, rows: STEP_ROWS })
    }

    /// Returns how many rows are still to be read by the merges that are due: the pace at which steps should be made is that of
    /// this many rows in the time of a flush.
    #[must_use]
    pub fn debt(&self) -> u64 {
        let groups = self.groups();
        let inputs = groups.iter().flat_map(|(group, _)| &self.runs[group.clone()]).filter(|r| !matches!(r.part, Part::Output(_)));
        inputs.map(Run::rows).sum()
    }

    /// Returns the groups of runs that are being merged (`true`) or should be.
    fn groups(&self) -> Vec<(Range<usize>, bool)> {
        let mut groups = Vec::new();
        let mut start = 0;
        while start < self.runs.len() {
            let whole = self.runs[start].part == Part::Whole;
            let len = self.runs[start..].iter().take_while(|r| (r.part == Part::Whole) == whole).count();
            if whole {
                self.due(start..start + len, &mut groups);
                start += len;
            } else {
                let inputs = self.runs[start..].iter().take_while(|r| r.part == Part::Input).count();
                groups.push((start..start + inputs + 1, true));
                start += inputs + 1;
            }
        }
        groups
    }

    /// Adds the groups that should be merged among runs that are not.
    fn due(&self, stretch: Range<usize>, groups: &mut Vec<(Range<usize>, bool)>) {
        let mut start = stretch.start;
        while start < stretch.end {
            let tier = self.runs[start].tier;
            let len = self.runs[start..stretch.end].iter().take_while(|r| r.tier == tier).count();
            if len >= FAN_OUT {
                groups.push((start..start + len, false));
            }
            start += len;
        }
    }

    /// Returns the list after a step.
    ///
    /// # Errors
    /// [`Conflict`] if the runs that it read have changed.
    pub fn apply(&self, step: &StepResult) -> std::result::Result<Self, Conflict> {
        let len = step.before.len();
        let mut at = (0..=self.runs.len().saturating_sub(len)).filter(|i| self.runs[*i..].starts_with(&step.before));
        let start = at.next().ok_or(Conflict)?;
        if len == 0 || (step.bottom && start + len != self.runs.len()) {
            return Err(Conflict);
        }
        let mut runs = self.runs[..start].to_vec();
        // Tiers never fall with age, whatever a merge left over.
        let least = runs.iter().map(|r| r.tier).max().unwrap_or(0);
        runs.extend(step.after.iter().cloned().map(|mut run| {
            if run.part == Part::Whole {
                run.tier = run.tier.max(least);
            }
            run
        }));
        runs.extend_from_slice(&self.runs[start + len..]);
        let merged = Self::of(runs);
        merged.inherit(self, None);
        Ok(merged)
    }
}

/// Returns the tier of a run by its size.
fn tier_of(rows: u64) -> u8 {
    (0..).find(|tier| *tier >= 20 || rows < (2 * ROWS_MAX as u64) << (2 * tier)).unwrap_or(20)
}

impl MergeStep {
    /// Makes it read about `rows` rows instead of [`STEP_ROWS`] (a few times as many where most are dead).
    #[must_use]
    pub const fn limited_to(mut self, rows: usize) -> Self {
        self.rows = if rows == 0 { 1 } else { rows };
        self
    }

    /// Makes the step. If something is to be stored it is for the file `id`, which must be new. Entries that can't be read are
    /// lost: their hashes are kept, so that no older entry is taken for them. A file that can't be read at all is an error,
    /// unless `lossy` allows to lose what older runs say of all its hashes.
    ///
    /// # Errors
    /// If the drive fails, or `Damaged`.
    pub fn execute(&self, files: &RunFiles, id: u64, lossy: bool) -> Result<StepResult> {
        let mut merge = Merge { files, lossy, from: self.cursor, end: u64::MAX, lost_from: None, lost: 0 };
        let mut cursors = Vec::new();
        for (age, run) in self.inputs.iter().enumerate() {
            cursors.push(merge.start(run, age)?);
        }
        // What is older than a lost stretch is not known to hold.
        cursors.truncate(merge.lost_from.map_or(usize::MAX, |age| age + 1));
        let (builder, next) = merge.rows(&mut cursors, self.bottom, self.rows)?;
        let high = next.map_or(u64::MAX, |next| next - 1);
        let mut output = self.output.as_ref().map_or(Vec::new(), |run| run.slices.to_vec());
        let lost_here = merge.lost_from.is_some() && !self.bottom;
        let mut file = None;
        if !builder.is_empty() {
            let built = builder.finish(self.cursor, high);
            output.push(Slice { lost: lost_here, ..Slice::of(id, &built) });
            file = Some((id, built.bytes));
        } else if lost_here {
            output.push(Slice::gone(self.cursor, high));
        }
        let before: Vec<Run> = self.inputs.iter().chain(&self.output).cloned().collect();
        Ok(StepResult { file, lost: merge.lost, before, after: self.after(output, next), bottom: self.bottom })
    }

    /// Returns what stands in the place of the group.
    fn after(&self, output: Vec<Slice>, next: Option<u64>) -> Vec<Run> {
        let tier = self.inputs[0].tier;
        let Some(next) = next else {
            let mut run = Run { slices: output.into(), part: Part::Whole, tier };
            run.tier = tier_of(run.rows());
            return if run.slices.is_empty() { Vec::new() } else { vec![run] };
        };
        let cut = |run: &Run| {
            let left = run.slices.iter().filter(|s| s.high >= next);
            let slices = left.map(|s| Slice { low: s.low.max(next), ..s.clone() }).collect();
            Run { slices, part: Part::Input, tier: run.tier }
        };
        let output = Run { slices: output.into(), part: Part::Output(next), tier };
        self.inputs.iter().map(cut).chain(std::iter::once(output)).collect()
    }
}

/// One step under way.
struct Merge<'a> {
    files: &'a RunFiles,
    lossy: bool,
    /// The first hash of this step.
    from: u64,
    /// The last hash of this step: whether older runs are known to hold is the same for all its hashes.
    end: u64,
    /// The newest run that is lost from `from` to `end`.
    lost_from: Option<usize>,
    lost: u64,
}

/// A place in a run.
struct Cursor<'a> {
    slices: &'a [Slice],
    file: Option<&'a RunFile>,
    row: u32,
    /// The hash before: they ascend.
    last: u64,
}

impl<'a> Merge<'a> {
    /// Returns the file of a slice, or `None` if all of it is lost.
    fn open(&self, slice: &'a Slice) -> Result<Option<&'a RunFile>> {
        if slice.file == Slice::NO_FILE {
            return Ok(None);
        }
        let file = self.files.file(slice).and_then(|file| {
            if self.lossy {
                check_hashes(file)?;
            }
            Ok(file)
        });
        match file {
            Ok(file) => Ok(Some(file)),
            Err(Fault::Damaged(_) | Fault::Gone(_)) if self.lossy => Ok(None),
            Err(fault) => Err(self.files.error(slice.file, fault)),
        }
    }

    /// Places a cursor in a run.
    fn start(&mut self, run: &'a Run, age: usize) -> Result<Cursor<'a>> {
        let at = run.slices.partition_point(|s| s.high < self.from);
        let mut cursor = Cursor { slices: &run.slices[at..], file: None, row: 0, last: self.from };
        let Some(slice) = cursor.slices.first().filter(|s| s.covers(self.from)) else { return Ok(cursor) };
        let file = self.open(slice)?;
        if slice.lost || file.is_none() {
            self.lost_from = Some(self.lost_from.map_or(age, |other| other.min(age)));
            self.end = self.end.min(slice.high);
            if !slice.lost {
                self.lost += u64::from(slice.rows);
            }
        }
        match file {
            Some(file) => self.enter(&mut cursor, file)?,
            None => cursor.slices = &[],
        }
        Ok(cursor)
    }

    fn enter(&self, cursor: &mut Cursor<'a>, file: &'a RunFile) -> Result<()> {
        let slice = &cursor.slices[0];
        let low = slice.low.max(self.from);
        cursor.row = file.first_row(low).map_err(|fault| self.files.error(slice.file, fault))?;
        cursor.last = low;
        cursor.file = Some(file);
        Ok(())
    }

    /// Moves a cursor to the next row that is in the run, if it is not on one, and returns its hash. Stops before a slice that
    /// is lost.
    fn settle(&mut self, cursor: &mut Cursor<'a>) -> Result<Option<u64>> {
        loop {
            let Some(slice) = cursor.slices.first() else { return Ok(None) };
            if let Some(file) = cursor.file {
                if cursor.row < file.head().rows() {
                    let hash = file.hash(cursor.row).map_err(|fault| self.files.error(slice.file, fault))?;
                    if hash < cursor.last {
                        return Err(self.files.error(slice.file, Malformed::Field("hash").into()));
                    }
                    cursor.last = hash;
                    if hash <= slice.high {
                        return Ok(Some(hash));
                    }
                }
                cursor.slices = &cursor.slices[1..];
                cursor.file = None;
                continue;
            }
            match self.open(slice)? {
                Some(file) if !slice.lost => self.enter(cursor, file)?,
                _ => {
                    self.end = self.end.min(slice.low - 1);
                    cursor.slices = &[];
                }
            }
        }
    }

    /// Merges rows until the step has done enough. Returns them, and the hash to go on with.
    fn rows(&mut self, cursors: &mut [Cursor<'a>], bottom: bool, limit: usize) -> Result<(RunBuilder, Option<u64>)> {
        let mut heap = BinaryHeap::with_capacity(cursors.len());
        for (age, cursor) in cursors.iter_mut().enumerate() {
            heap.extend(self.settle(cursor)?.map(|hash| Reverse((hash, age))));
        }
        let mut builder = RunBuilder::new(self.files.seed(), limit);
        let mut group = Group::default();
        let mut read = 0;
        while let Some(&Reverse((hash, age))) = heap.peek() {
            if hash > self.end {
                break;
            }
            let is_enough = read >= limit && (builder.len() >= limit / LIVE_SHARE || read >= limit * READ_ON_MAX);
            if group.is_new(hash) && (is_enough || builder.is_full(1)) {
                return Ok((builder, Some(hash)));
            }
            heap.pop();
            read += 1;
            let cursor = &mut cursors[age];
            let (slice, file, row) = (&cursor.slices[0], cursor.file, cursor.row);
            cursor.row += 1;
            heap.extend(self.settle(cursor)?.map(|hash| Reverse((hash, age))));
            let more = heap.peek().is_some_and(|Reverse((next, _))| *next == hash);
            let file = file.expect("a settled cursor has a file");
            let kept = group.add(file, row, (hash, age), more, |e, encoded| {
                if !(bottom && e.entry.tombstone) {
                    builder.push_encoded(hash, e, encoded);
                }
            });
            match kept {
                Ok(lost) => self.lost += u64::from(lost),
                Err(fault) => return Err(self.files.error(slice.file, fault)),
            }
            if !more && group.lost_at.is_some() && !bottom {
                builder.push_lost(hash);
            }
        }
        Ok((builder, self.end.checked_add(1)))
    }
}

/// Checks that the hash of every row is known, and that they ascend.
fn check_hashes(file: &RunFile) -> std::result::Result<(), Fault> {
    let mut last = file.head().range().0;
    for row in 0..file.head().rows() {
        let hash = file.hash(row)?;
        if hash < last {
            return Err(Malformed::Field("hash").into());
        }
        last = hash;
    }
    Ok(())
}

/// The rows of one hash: almost always versions of one key, newest first.
#[derive(Debug, Default)]
struct Group {
    hash: Option<u64>,
    seen: Vec<Key>,
    /// The age of a run in which an entry with this hash is lost: nothing older is known to hold.
    lost_at: Option<usize>,
}

impl Group {
    fn is_new(&self, hash: u64) -> bool {
        self.hash != Some(hash)
    }

    /// Takes the next row and hands it to `keep` if it is the newest of its key. Returns whether it turned out to be lost.
    fn add(
        &mut self,
        file: &RunFile,
        row: u32,
        (hash, age): (u64, usize),
        more: bool,
        keep: impl FnOnce(&EntryRef<'_>, &[u8]),
    ) -> std::result::Result<bool, Fault> {
        if self.is_new(hash) {
            self.hash = Some(hash);
            self.seen.clear();
            self.lost_at = None;
        }
        if self.lost_at.is_some_and(|lost_at| age > lost_at) {
            return Ok(false);
        }
        let read = match file.offset(row) {
            Ok(Some(offset)) => file.with_entry(offset, |e, encoded| {
                if self.seen.iter().any(|key| key.as_ref().same(&e.key)) {
                    return;
                }
                if more {
                    self.seen.push(e.key.to_owned());
                }
                keep(e, encoded);
            }),
            Ok(None) => {
                self.lost_at = Some(age);
                return Ok(false);
            }
            Err(fault) => Err(fault),
        };
        match read {
            Err(Fault::Damaged(_)) => {
                self.lost_at = Some(age);
                Ok(true)
            }
            other => other.map(|()| false),
        }
    }
}
