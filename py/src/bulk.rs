//! Many keys in one call: `get_many`, `set_many`, `delete_many`, `pop_many`, and the ends of queues.
//!
//! A batch is one commit of the engine.

use crate::base::CacheBase;
use crate::cache::{Cache, Change, Changed};
use crate::key::{self, KeyBuf};
use crate::read;
use crate::value::{self, Data, Plain};
use diskcache_core::Result;
use diskcache_core::format::KeyRef;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::ops::Range;

/// How many values are looked up at once: each may hold a file open until it is read.
const LOOKUPS: usize = 256;
/// What one of several commits holds.
const BATCH_LEN: usize = 4 << 20;
const BATCH_COUNT: usize = 4096;

/// What all values of a batch have: `(expire, tag, retry)`.
pub(crate) type Shared<'py> = (Option<f64>, Option<Bound<'py, PyAny>>, bool);

fn encoded<'a, 'py: 'a>(
    cache: &CacheBase,
    keys: impl IntoIterator<Item = &'a Bound<'py, PyAny>, IntoIter: ExactSizeIterator>,
) -> PyResult<Vec<KeyBuf<'a, 'py>>> {
    let keys = keys.into_iter();
    // A collect of results does not know how many there will be.
    let mut all = Vec::with_capacity(keys.len());
    for key in keys {
        all.push(key::encode(cache, key)?);
    }
    Ok(all)
}

/// Returns what there is of many keys.
pub(crate) fn get_many<'py>(cache: &CacheBase, py: Python<'py>, keys: &[Bound<'py, PyAny>], retry: bool) -> PyResult<Bound<'py, PyDict>> {
    let found = PyDict::new(py);
    for keys in keys.chunks(LOOKUPS) {
        let bufs = encoded(cache, keys)?;
        let names: Vec<KeyRef<'_>> = bufs.iter().map(KeyBuf::as_ref).collect();
        let values = cache.call(py, retry, |engine| engine.get_many(&names))?;
        for ((key, buf), value) in keys.iter().zip(&bufs).zip(values) {
            let Some(value) = value else { continue };
            // Gone when it was read: replaced meanwhile, or damaged.
            let object = match read::hide_io(cache, py, value::decode(cache, py, &value, false))? {
                Some(object) => Some(object),
                None => read::get_at(cache, py, buf, false, retry)?,
            };
            if let Some(object) = object {
                found.set_item(key, object)?;
            }
        }
    }
    Ok(found)
}

/// Stores the items of a dict, or pairs, as one commit or as few as hold them.
pub(crate) fn set_many<'py>(
    cache: &CacheBase,
    py: Python<'py>,
    items: &Bound<'py, PyAny>,
    (expire, tag, retry): &Shared<'py>,
    whole: bool,
) -> PyResult<()> {
    let pairs = pairs(items)?;
    let tag = key::tag(tag.as_ref())?;
    let tag = tag.as_ref().map(KeyBuf::as_ref);
    let keys = encoded(cache, pairs.iter().map(|(key, _)| key))?;
    let data = in_memory(cache, py, pairs.iter().map(|(key, value)| (value, Some(key))))?;
    let rows: Vec<(KeyRef<'_>, Plain<'_>)> = keys.iter().map(KeyBuf::as_ref).zip(data.iter().map(Data::plain)).collect();
    let lens = rows.iter().map(|(key, plain)| key.bytes.len() + plain.len());
    let (len_max, count_max) = if whole { (usize::MAX, usize::MAX) } else { (BATCH_LEN, BATCH_COUNT) };
    for range in batches(lens, len_max, count_max) {
        let rows = &rows[range.clone()];
        let changes = || rows.iter().filter_map(|(key, plain)| Some(Change::Set(*key, plain.in_memory(*expire, tag)?)));
        let written = write_many(cache, py, *retry, changes);
        // What comes after a part that failed is not stored either.
        let data = if written.is_ok() { &data[range] } else { &data[range.start..] };
        cache.stored(py, data, written)?;
    }
    Ok(())
}

fn pairs<'py>(items: &Bound<'py, PyAny>) -> PyResult<Vec<(Bound<'py, PyAny>, Bound<'py, PyAny>)>> {
    match items.cast_exact::<PyDict>() {
        Ok(items) => Ok(items.iter().collect()),
        Err(_) => items.extract(),
    }
}

/// Adds many to an end of a queue.
pub(crate) fn push_many<'py>(
    cache: &CacheBase,
    py: Python<'py>,
    values: &[Bound<'py, PyAny>],
    (prefix, front): (Option<&str>, bool),
    (expire, tag, retry): &Shared<'py>,
) -> PyResult<()> {
    let tag = key::tag(tag.as_ref())?;
    let tag = tag.as_ref().map(KeyBuf::as_ref);
    let data = in_memory(cache, py, values.iter().map(|value| (value, None)))?;
    let rows: Vec<Plain<'_>> = data.iter().map(Data::plain).collect();
    for range in batches(rows.iter().map(|plain| plain.len()), BATCH_LEN, BATCH_COUNT) {
        let rows = &rows[range.clone()];
        let changes = || rows.iter().filter_map(|plain| Some(Change::Push { prefix, front, put: plain.in_memory(*expire, tag)? }));
        let written = write_many(cache, py, *retry, changes);
        let data = if written.is_ok() { &data[range] } else { &data[range.start..] };
        cache.stored(py, data, written)?;
    }
    Ok(())
}

/// Encodes values; those that are files are read.
fn in_memory<'a, 'py: 'a>(
    cache: &CacheBase,
    py: Python<'py>,
    values: impl ExactSizeIterator<Item = (&'a Bound<'py, PyAny>, Option<&'a Bound<'py, PyAny>>)>,
) -> PyResult<Vec<Data<'a, 'py>>> {
    let mut all = Vec::with_capacity(values.len());
    for (value, key) in values {
        let data = value::encode(cache, value, false, key).and_then(|data| match data {
            Data::Reader(reader) => reader.into_memory(),
            data => Ok(data),
        });
        match data {
            Ok(data) => all.push(data),
            Err(error) => {
                cache.give_up(py, &all)?;
                return Err(error);
            }
        }
    }
    Ok(all)
}

/// Makes the changes as one commit.
fn write_many<'d, I: Iterator<Item = Change<'d>>>(
    cache: &CacheBase,
    py: Python<'_>,
    retry: bool,
    changes: impl Fn() -> I + Sync,
) -> PyResult<Vec<Changed>> {
    cache.call(py, retry, |engine| engine.write_many(&mut changes().collect::<Vec<_>>()))
}

/// Cuts a sequence into ranges of at most `len_max` bytes (unless one item is longer) and `count_max` items.
fn batches(lens: impl Iterator<Item = usize>, len_max: usize, count_max: usize) -> Vec<Range<usize>> {
    let mut ranges: Vec<Range<usize>> = Vec::new();
    let mut total = 0;
    for (at, len) in lens.enumerate() {
        total += len;
        match ranges.last_mut() {
            Some(last) if total <= len_max && last.len() < count_max => last.end = at + 1,
            _ => {
                ranges.push(at..at + 1);
                total = len;
            }
        }
    }
    ranges
}

/// Removes many keys and returns how many were there.
pub(crate) fn delete_many(cache: &CacheBase, py: Python<'_>, keys: &[Bound<'_, PyAny>], retry: bool) -> PyResult<usize> {
    let bufs = encoded(cache, keys)?;
    let names: Vec<KeyRef<'_>> = bufs.iter().map(KeyBuf::as_ref).collect();
    let changed = cache.tidied(py, write_many(cache, py, retry, || names.iter().map(|name| Change::Delete(*name))))?;
    Ok(changed.iter().filter(|changed| matches!(changed, Changed::Deleted(true))).count())
}

/// Removes many keys and returns what they had.
pub(crate) fn pop_many<'py>(cache: &CacheBase, py: Python<'py>, keys: &[Bound<'py, PyAny>], retry: bool) -> PyResult<Bound<'py, PyDict>> {
    let bufs = encoded(cache, keys)?;
    let names: Vec<KeyRef<'_>> = bufs.iter().map(KeyBuf::as_ref).collect();
    let changed = write_many(cache, py, retry, || names.iter().map(|name| Change::Pop(*name)))?;
    let found = PyDict::new(py);
    for (key, changed) in keys.iter().zip(changed) {
        let Changed::Popped(Some(hit)) = changed else { continue };
        if let Some(value) = read::hide_io(cache, py, value::decode(cache, py, &hit.value, false))? {
            found.set_item(key, value)?;
        }
    }
    cache.tidied(py, Ok(found))
}

/// Adds to an end of the queue None and takes from the other end what is more than `maxlen` then.
pub(crate) fn append(cache: &CacheBase, py: Python<'_>, value: &Bound<'_, PyAny>, front: bool, maxlen: u64) -> PyResult<()> {
    let data = in_memory(cache, py, std::iter::once((value, None)))?;
    let plain = data[0].plain();
    let verb = |engine: &Cache| -> Result<()> {
        plain.put(None, None, |put| engine.push(None, front, put))?;
        while engine.len()? > maxlen && engine.pull(None, !front)?.is_some() {}
        Ok(())
    };
    cache.stored(py, &data, cache.transacted(py, true, verb))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_cut_where_the_next_item_would_be_too_much() {
        assert_eq!(batches([].into_iter(), 10, 10), []);
        assert_eq!(batches([4, 6, 1, 20, 1, 1].into_iter(), 10, 10), [0..2, 2..3, 3..4, 4..6]);
        assert_eq!(batches([0; 5].into_iter(), 10, 2), [0..2, 2..4, 4..5]);
    }
}
