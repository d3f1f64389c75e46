//! Turns a delta into the files of a new run.

use super::delta::Delta;
use super::run::{Built, ROWS_MAX, RunBuilder};
use crate::format::entry::EntryRef;

/// Builds the files of a run that holds what `delta` does, tombstones only where `needed` says that an older run may hold a key
/// with that hash. No file if there is nothing to write. The caller stores each under a new id, turns them into slices
/// ([`Slice::of`](super::Slice::of)), pushes these onto the levels, publishes the new levels, and clears the delta.
#[must_use]
pub fn flush(delta: &Delta, seed: u64, needed: impl Fn(u64) -> bool) -> Vec<Built> {
    flush_in_parts(delta, seed, ROWS_MAX, needed)
}

/// As [`flush()`], with at most about `rows_max` rows in a file.
#[must_use]
pub fn flush_in_parts(delta: &Delta, seed: u64, rows_max: usize, needed: impl Fn(u64) -> bool) -> Vec<Built> {
    let mut rows: Vec<(u64, EntryRef<'_>)> = delta.iter().filter(|(hash, e)| !e.entry.tombstone || needed(*hash)).collect();
    rows.sort_unstable_by(|(a, x), (b, y)| a.cmp(b).then_with(|| x.key.order(&y.key)));
    let mut built = Vec::new();
    let mut low = 0;
    let mut builder = RunBuilder::new(seed, rows.len());
    let mut last = 0;
    for (n, (hash, e)) in rows.iter().enumerate() {
        // All entries of a hash stay in one file.
        if (builder.is_full(e.encoded_len()) || builder.len() >= rows_max) && *hash != last {
            let full = std::mem::replace(&mut builder, RunBuilder::new(seed, rows.len() - n));
            built.push(full.finish(low, hash - 1));
            low = *hash;
        }
        builder.push(*hash, e);
        last = *hash;
    }
    if !builder.is_empty() {
        built.push(builder.finish(low, u64::MAX));
    }
    built
}
