//! The engine without Python.

use crate::python::share;
use crate::{Failed, Operation, Subject};
use diskcache_core::cache::Change;
use diskcache_core::{Cache, Durability, KeyOrder, KeyRef, Number, Options, Put, Setting};
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Items that one bulk store has at most.
const BULK: u64 = 1000;
/// Bytes of values that are made ahead at a time.
const AHEAD: u64 = 64 << 20;
const COUNTERS: u64 = 100;
/// Keys that one step of a walk returns.
const PAGE: usize = 1000;

/// An open cache with values of one size.
#[derive(Debug)]
pub struct RustCache {
    cache: Cache,
    directory: PathBuf,
    options: Options,
    value: Vec<u8>,
    entries: u64,
    fresh: u64,
    random: u64,
}

impl RustCache {
    /// Opens and fills a cache. With `synced` each write is synced before it is acknowledged.
    ///
    /// # Errors
    /// What the engine says.
    pub fn open(directory: &Path, size: usize, entries: u64, synced: bool) -> Result<Self, Failed> {
        let options = Options {
            durability: if synced { Durability::Host } else { Durability::Process },
            settings: vec![("size_limit".to_owned(), Setting::Int(1 << 40))],
            ..Options::default()
        };
        std::fs::create_dir_all(directory).map_err(failed)?;
        let cache = Cache::open(directory, options.clone()).map_err(failed)?;
        let value = (0..size).map(|i| u8::try_from(i * 131 % 251).unwrap_or(0)).collect();
        let made = Self { cache, directory: directory.to_owned(), options, value, entries, fresh: 100_000_000, random: 1 };
        let step = made.bulk_len();
        let mut first = 0;
        while first < entries {
            let last = (first + step).min(entries);
            made.store_many(&(first..last).map(key).collect::<Vec<_>>())?;
            first = last;
        }
        Ok(made)
    }

    /// Values that one commit holds.
    fn bulk_len(&self) -> u64 {
        BULK.min((8 << 20) / self.value.len() as u64).max(1)
    }

    /// A number below the number of entries: xorshift (G. Marsaglia, Xorshift RNGs, Journal of Statistical Software 8, 2003).
    fn any(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % self.entries
    }

    fn existing(&mut self, times: u64) -> Vec<String> {
        (0..times).map(|_| key(self.any())).collect()
    }

    fn unused(&mut self, times: u64) -> Vec<String> {
        self.fresh += times;
        (self.fresh - times..self.fresh).map(key).collect()
    }

    fn put(&self) -> Put<'_> {
        Put::bytes(&self.value)
    }

    fn store_many(&self, keys: &[String]) -> Result<(), Failed> {
        let mut changes: Vec<Change<'_>> = keys.iter().map(|key| Change::Set(KeyRef::text(key), self.put())).collect();
        let done = self.cache.write_many(&mut changes).map_err(failed)?.len();
        expect(done == keys.len(), "bulk set")
    }

    fn remove(&self, keys: &[String]) -> Result<(), Failed> {
        keys.iter().try_for_each(|key| expect(self.cache.delete(KeyRef::text(key)).map_err(failed)?, "delete"))
    }

    fn get(&self, keys: &[String], there: bool) -> Result<Duration, Failed> {
        let begun = Instant::now();
        for key in keys {
            let found = self.cache.get(KeyRef::text(key)).map_err(failed)?;
            // As Python does, the bytes are copied out.
            let bytes = found.map(|value| value.bytes().map(|bytes| bytes.to_vec())).transpose().map_err(failed)?;
            expect(std::hint::black_box(bytes).is_some() == there, "get")?;
        }
        Ok(begun.elapsed())
    }

    fn set(&self, keys: &[String]) -> Result<Duration, Failed> {
        let begun = Instant::now();
        for key in keys {
            self.cache.set(KeyRef::text(key), self.put()).map_err(failed)?;
        }
        Ok(begun.elapsed())
    }

    fn delete(&mut self, times: u64) -> Result<Duration, Failed> {
        let keys = self.unused(times);
        for part in keys.chunks(usize::try_from(self.bulk_len()).unwrap_or(1)) {
            self.store_many(part)?;
        }
        let begun = Instant::now();
        self.remove(&keys)?;
        Ok(begun.elapsed())
    }

    fn incr(&self, times: u64) -> Result<Duration, Failed> {
        let keys: Vec<String> = (0..times.min(COUNTERS)).map(|number| key(900_000_000 + number)).collect();
        let begun = Instant::now();
        for key in keys.iter().cycle().take(usize::try_from(times).unwrap_or(usize::MAX)) {
            let sum = self.cache.incr(KeyRef::text(key), Number::Int(1), Some(Number::Int(0))).map_err(failed)?;
            expect(sum.is_some(), "incr")?;
        }
        Ok(begun.elapsed())
    }

    /// Pushes, then pulls the same: one of the two is what is timed.
    fn queue(&self, operation: Operation, times: u64) -> Result<Duration, Failed> {
        let begun = Instant::now();
        for _ in 0..times {
            self.cache.push(None, false, self.put()).map_err(failed)?;
        }
        let pushed = begun.elapsed();
        let begun = Instant::now();
        for _ in 0..times {
            expect(self.cache.pull(None, true).map_err(failed)?.is_some(), "pull")?;
        }
        Ok(if operation == Operation::Push { pushed } else { begun.elapsed() })
    }

    fn iterate(&self) -> Result<(Duration, u64), Failed> {
        let begun = Instant::now();
        let (mut walk, mut found) = (self.cache.keys(KeyOrder::Insertion, false), 0);
        loop {
            let page = self.cache.next_keys(&mut walk, PAGE).map_err(failed)?.len() as u64;
            found += page;
            if page == 0 {
                break;
            }
        }
        let took = begun.elapsed();
        expect(found >= self.entries, "iterate")?;
        Ok((took, found))
    }

    fn bulk(&mut self) -> Result<(Duration, u64), Failed> {
        let many = self.bulk_len();
        let keys = self.unused(many);
        let begun = Instant::now();
        self.store_many(&keys)?;
        let took = begun.elapsed();
        self.remove(&keys)?;
        Ok((took, many))
    }

    fn reopen(&mut self) -> Result<Duration, Failed> {
        self.cache.close().map_err(failed)?;
        let key = key(self.any());
        let begun = Instant::now();
        self.cache = Cache::open(&self.directory, self.options.clone()).map_err(failed)?;
        expect(self.cache.get(KeyRef::text(&key)).map_err(failed)?.is_some(), "open and get")?;
        Ok(begun.elapsed())
    }

    /// One part of a measurement: what it took, and how often the operation was done.
    fn part(&mut self, operation: Operation, times: u64) -> Result<(Duration, u64), Failed> {
        let took = match operation {
            Operation::GetHit => {
                let keys = self.existing(times);
                self.get(&keys, true)?
            }
            Operation::GetMiss => {
                let keys = self.unused(times);
                self.get(&keys, false)?
            }
            Operation::SetNew => {
                let keys = self.unused(times);
                let took = self.set(&keys)?;
                self.remove(&keys)?;
                took
            }
            Operation::Overwrite => {
                let keys = self.existing(times);
                self.set(&keys)?
            }
            Operation::Delete => self.delete(times)?,
            Operation::Incr => self.incr(times)?,
            Operation::Push | Operation::Pull => self.queue(operation, times)?,
            Operation::Iterate => return self.iterate(),
            Operation::Bulk => return self.bulk(),
            Operation::Open => return Ok((self.reopen()?, 1)),
        };
        Ok((took, times))
    }
}

impl Subject for RustCache {
    fn time(&mut self, operation: Operation, times: u64) -> Result<Duration, Failed> {
        let step = (AHEAD / self.value.len() as u64).clamp(16, 20_000);
        let (mut took, mut done) = (Duration::ZERO, 0);
        while done < times {
            let (more, ran) = self.part(operation, step.min(times - done))?;
            took += more;
            done += ran;
        }
        Ok(share(took, times, done))
    }
}

fn key(number: u64) -> String {
    format!("key-{number:08}")
}

fn expect(done: bool, what: &str) -> Result<(), Failed> {
    if done { Ok(()) } else { Err(Failed(format!("the engine: a {what} did not do what it was asked for"))) }
}

fn failed(error: impl Display) -> Failed {
    Failed(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_is_measured_on_the_engine_and_none_fails() {
        let folder = tempfile::tempdir().unwrap();
        let mut subject = RustCache::open(&folder.path().join("cache"), 200, 50, false).unwrap();
        for operation in Operation::AT_EVERY_SIZE.into_iter().chain([Operation::Open]) {
            let took = subject.time(operation, 120).unwrap_or_else(|e| panic!("{operation}: {e}"));
            assert!(took > Duration::ZERO, "{operation}");
        }
    }
}
