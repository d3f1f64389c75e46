//! Reading commit files: one, or many at once, from memory if they are recent.

use super::retry::{gave_up, is_gone};
use super::{SharedLog, damaged};
use crate::clock::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::format::wire::{Malformed, advice_on, checksum};
use crate::format::{BODY_LEN_MAX, COMMIT_HEADER_LEN, CommitHeader, parse_commit};
use crate::log::Bytes;
use crate::log::address::place_in_file;
use crate::sync::{Arc, AtomicUsize, Ordering, lock};
use crate::vfs::{self, OpenMode, VfsFile};
use std::collections::{HashMap, VecDeque};
use std::io;
use std::time::Duration;

/// What most commits fit into: read with one request.
const FIRST_READ: usize = 64 << 10;
/// Up to where a commit is read from its start for a value in it.
const WHOLE_READ_MAX: usize = 1 << 20;
/// Once so many bytes were read at once, no further commit is begun before they are replayed.
const HELD_BYTES_MAX: usize = 32 << 20;
/// What makes another thread worth its start.
const COMMITS_A_THREAD: usize = 8;
/// How often, and over what span, the same wrong bytes must come past the host's caches before a commit counts as damaged. Bits that flip on the
/// way are other ones each time.
const SAME_READS: u32 = 4;
const SAME_SPAN: Duration = Duration::from_secs(1);
/// Commits whose wrong bytes are remembered.
const SUSPECTS_MAX: usize = 4096;
/// How long one file may answer nothing but the same error, while the drive answers otherwise, before it counts as damaged. (Much
/// shorter would be wrong: a soft mount answers EIO for a while, and a CIFS client EINVAL for a second where it has not yet really
/// closed a file's other name.)
const ERROR_BELIEVED_AFTER: Duration = Duration::from_secs(10);
const ERROR_TRIES: u32 = 8;
const EIO: i32 = 5;
const EISDIR: i32 = 21;
const EINVAL: i32 = 22;

/// Why one look at a commit file did not give its bytes.
#[derive(Debug)]
pub(super) enum Unread {
    /// The name is not there, as far as this look tells.
    Missing,
    /// Something is there that is not a commit of this cache; what tells its bytes from others.
    Malformed(Malformed, u64),
    /// The drive failed.
    Failed(io::Error),
}

/// What a commit file turned out to be, after it was given time.
#[derive(Debug)]
pub(super) enum Fetched {
    /// A commit, whole and checked.
    Whole(Arc<[u8]>),
    /// Not there, also after a while.
    Absent,
    /// Not a commit of this cache.
    Damaged(Error),
}

/// Wrong bytes of a commit: since when they are the same, and how often they were since, past the caches.
#[derive(Debug)]
struct Suspect {
    sum: u64,
    since: Duration,
    same: u32,
}

/// Commits that were read wrongly. What one read gave is believed only if it stays so: see [`SAME_READS`].
#[derive(Debug, Default)]
pub(super) struct Suspects(HashMap<u64, Suspect>);

impl Suspects {
    /// Takes note of wrong bytes; returns whether they are believed.
    fn note(&mut self, n: u64, sum: u64, past_caches: bool, now: Duration) -> bool {
        if self.0.len() >= SUSPECTS_MAX {
            self.0.clear();
        }
        let suspect = self.0.entry(n).or_insert(Suspect { sum, since: now, same: 0 });
        if suspect.sum != sum {
            *suspect = Suspect { sum, since: now, same: 0 };
        }
        suspect.same += u32::from(past_caches);
        suspect.same >= SAME_READS && now.saturating_sub(suspect.since) >= SAME_SPAN
    }

    fn clear(&mut self, n: u64) {
        if !self.0.is_empty() {
            self.0.remove(&n);
        }
    }
}

/// The same error from one file, again and again.
#[derive(Debug, Default)]
struct Streak {
    errno: i32,
    count: u32,
    since: Duration,
}

impl Streak {
    /// Counts one more; returns whether it has gone on for long.
    fn is_long(&mut self, errno: i32, waited: Duration) -> bool {
        if self.errno != errno {
            *self = Self { errno, count: 0, since: waited };
        }
        self.count += 1;
        self.count >= ERROR_TRIES && waited.saturating_sub(self.since) >= ERROR_BELIEVED_AFTER
    }
}

/// Looks at a missing name before the drive is made to forget what it remembers of absent names.
const MISSES_BEFORE_REFRESH: u32 = 3;

/// The bytes of recent commit files, oldest out first.
#[derive(Debug)]
pub(super) struct Recent {
    files: HashMap<u64, Arc<[u8]>>,
    order: VecDeque<u64>,
    bytes: usize,
    bytes_max: usize,
}

impl Recent {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { files: HashMap::new(), order: VecDeque::new(), bytes: 0, bytes_max }
    }

    fn insert(&mut self, n: u64, file: &Arc<[u8]>) {
        if file.len() > self.bytes_max {
            return;
        }
        if self.files.insert(n, Arc::clone(file)).is_none() {
            self.order.push_back(n);
            self.bytes += file.len();
        }
        while self.bytes > self.bytes_max
            && let Some(oldest) = self.order.pop_front()
        {
            self.bytes -= self.files.remove(&oldest).map_or(0, |file| file.len());
        }
    }
}

impl SharedLog {
    /// Looks at commit `n` once.
    pub(super) fn fetch_once(&self, n: u64) -> std::result::Result<Arc<[u8]>, Unread> {
        let file = self.vfs.open(&self.commit_path(n), OpenMode::Read).map_err(unread)?;
        let bytes = self.read_file(&*file)?;
        match parse_commit(&bytes, &self.marker) {
            Ok(_) => Ok(bytes.into()),
            Err(why) => Err(Unread::Malformed(why, checksum(&bytes, bytes.len() as u64))),
        }
    }

    /// The same, or the bytes that were read a moment ago.
    pub(super) fn fetch_recent(&self, n: u64) -> std::result::Result<Arc<[u8]>, Unread> {
        self.recent_file(n).map_or_else(|| self.fetch_once(n), Ok)
    }

    fn recent_file(&self, n: u64) -> Option<Arc<[u8]>> {
        lock(&self.recent).files.get(&n).map(Arc::clone)
    }

    /// Drops what is kept: it may be of names that were won falsely.
    pub(super) fn forget_recent(&self) {
        let mut recent = lock(&self.recent);
        *recent = Recent::new(recent.bytes_max);
    }

    fn read_file(&self, file: &dyn VfsFile) -> std::result::Result<Vec<u8>, Unread> {
        let mut buf = vec![0; FIRST_READ];
        let mut have = read_some(file, &mut buf, 0, COMMIT_HEADER_LEN)?;
        let Ok(header) = CommitHeader::parse(&buf[..have], &self.marker) else {
            buf.truncate(have);
            return Ok(buf);
        };
        let len = header.file_len();
        if len >= buf.len() {
            buf.resize(len + 1, 0); // One more, to see that it ends there.
        }
        have = read_some(file, &mut buf, have, len)?;
        buf.truncate(have);
        Ok(buf)
    }

    /// Looks at commit `n`, which should exist, until it is clear what is there.
    ///
    /// # Errors
    /// `Timeout` if the drive fails until the deadline; `Incompatible` if another version wrote it.
    pub(super) fn fetch(&self, n: u64, deadline: Deadline) -> Result<Fetched> {
        let path = self.commit_path(n);
        let mut backoff = self.backoff(deadline);
        let (mut past_caches, mut misses, mut streak) = (false, 0, Streak::default());
        loop {
            let cause = match vfs::afresh::within(past_caches, || self.fetch_once(n)) {
                Ok(bytes) => {
                    lock(&self.suspects).clear(n);
                    return Ok(Fetched::Whole(bytes));
                }
                Err(Unread::Malformed(why, sum)) => {
                    if lock(&self.suspects).note(n, sum, past_caches, self.clock.boot()) {
                        return match why {
                            Malformed::Version(version) => Err(other_version(version).at(&path)),
                            why => Ok(Fetched::Damaged(damaged(format!("not a commit of this cache ({why})"), &path))),
                        };
                    }
                    past_caches = true;
                    io::Error::other(why.to_string())
                }
                Err(Unread::Missing) if backoff.waited() >= self.options.absence => return Ok(Fetched::Absent),
                Err(Unread::Missing) => {
                    streak = Streak::default();
                    misses += 1;
                    if misses % MISSES_BEFORE_REFRESH == 0 {
                        self.refresh_names();
                    }
                    io::ErrorKind::NotFound.into()
                }
                Err(Unread::Failed(e)) => {
                    if self.is_believed(&e, &mut streak, backoff.waited(), deadline) {
                        return Ok(Fetched::Damaged(damaged("cannot be read", &path).caused_by(e)));
                    }
                    e
                }
            };
            if !backoff.pause() {
                return Err(gave_up("read", &path, cause));
            }
        }
    }

    /// Makes this host ask the server again for names that it remembers as absent (they may be remembered for a minute, see nfs(5)): a
    /// host that changes a folder itself learns with the answer that others have changed it too.
    fn refresh_names(&self) {
        if self.options.read_only {
            return;
        }
        let Ok(nonce) = self.options.chance.next() else { return };
        let path = self.log_dir().join(format!("look-{nonce:032x}"));
        // Whether it works out or not: what counts is that the server was asked. A reader without rights waits for the cache instead.
        if let Ok(file) = self.vfs.open(&path, OpenMode::CreateNew) {
            drop(file);
            drop(self.vfs.unlink(&path));
        }
    }

    /// Whether an error is about this one file, and not about the drive.
    fn is_believed(&self, e: &io::Error, streak: &mut Streak, waited: Duration, deadline: Deadline) -> bool {
        match e.raw_os_error() {
            Some(EISDIR) => true,
            Some(errno @ (EIO | EINVAL)) => streak.is_long(errno, waited) && self.look(deadline).is_ok(),
            _ => {
                *streak = Streak::default();
                false
            }
        }
    }

    /// Notes wrong bytes that the first look at several commits gave, so that waiting for one of them is waiting for all.
    fn note_suspects(&self, first: u64, looked: &[std::result::Result<Arc<[u8]>, Unread>]) {
        for (n, looked) in (first..).zip(looked) {
            if let Err(Unread::Malformed(_, sum)) = looked {
                lock(&self.suspects).note(n, *sum, false, self.clock.boot());
            }
        }
    }

    /// Looks once at each of `count` commits from `first` on, with several threads if that pays. Fewer may come back.
    pub(super) fn fetch_many(&self, first: u64, count: usize) -> Vec<std::result::Result<Arc<[u8]>, Unread>> {
        let looked = self.look_at_many(first, count);
        self.note_suspects(first, &looked);
        looked
    }

    fn look_at_many(&self, first: u64, count: usize) -> Vec<std::result::Result<Arc<[u8]>, Unread>> {
        let threads = self.options.readers.min(count / COMMITS_A_THREAD);
        let held = AtomicUsize::new(0);
        let fetch = |n: u64| {
            let looked = self.fetch_recent(n);
            held.fetch_add(looked.as_ref().map_or(0, |file| file.len()), Ordering::Relaxed);
            looked
        };
        let has_room = |n: &u64| *n == first || held.load(Ordering::Relaxed) < HELD_BYTES_MAX;
        if threads < 2 {
            let mut all = Vec::with_capacity(count);
            for n in (first..first + count as u64).take_while(has_room) {
                all.push(fetch(n));
                if all.last().is_some_and(std::result::Result::is_err) {
                    break;
                }
            }
            return all;
        }
        let each = count.div_ceil(threads);
        let deadline = vfs::bounded::current();
        std::thread::scope(|scope| {
            let parts: Vec<_> = (0..count)
                .step_by(each)
                .map(|from| {
                    let numbers = first + from as u64..first + (from + each).min(count) as u64;
                    let wanted = (numbers.end - numbers.start) as usize;
                    let part = || {
                        let _until = deadline.map(vfs::bounded::until);
                        numbers.take_while(has_room).map(fetch).collect::<Vec<_>>()
                    };
                    (wanted, scope.spawn(part))
                })
                .collect();
            let mut all = Vec::with_capacity(count);
            let mut whole = true;
            for (wanted, part) in parts {
                let part = part.join().unwrap_or_default();
                // They go on where the last one ended: what lies behind a gap is read again.
                if whole {
                    whole = part.len() == wanted;
                    all.extend(part);
                }
            }
            all
        })
    }

    /// Keeps the bytes of a commit that was replayed.
    pub(super) fn keep(&self, n: u64, bytes: &Arc<[u8]>) {
        lock(&self.recent).insert(n, bytes);
    }

    /// Returns bytes of a commit by address. Whoever asks checks them: they carry a checksum of their own.
    pub(super) fn read_value(&self, addr: u64, len: u64, deadline: Deadline) -> Result<Bytes> {
        let (n, offset) = place_in_file(addr);
        let path = self.commit_path(n);
        let too_short = || damaged("bytes are missing from the commit", &path);
        let offset = usize::try_from(offset).map_err(|_| too_short())?;
        let len = usize::try_from(len).ok().filter(|len| *len <= BODY_LEN_MAX).ok_or_else(too_short)?;
        if let Some(file) = self.recent_file(n).filter(|_| !vfs::is_afresh()) {
            return Bytes::part(&file, offset, len).ok_or_else(too_short);
        }
        let (mut backoff, mut streak) = (self.backoff(deadline), Streak::default());
        loop {
            let e = match self.read_part(n, offset, len) {
                Ok(bytes) => return Ok(bytes),
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Err(too_short()),
                Err(e) if is_gone(&e) && backoff.waited() >= self.options.absence => return Err(damaged("the commit is gone", &path)),
                Err(e) => e,
            };
            if self.is_believed(&e, &mut streak, backoff.waited(), deadline) {
                return Err(damaged("cannot be read", &path).caused_by(e));
            }
            if !backoff.pause() {
                return Err(gave_up("read", &path, e));
            }
        }
    }

    /// Reads a part of a commit file; with a small one all of it, and keeps it: others of its values are likely to be asked for.
    /// The commit need not be whole any more: a value has a checksum of its own.
    fn read_part(&self, n: u64, offset: usize, len: usize) -> io::Result<Bytes> {
        let file = self.vfs.open(&self.commit_path(n), OpenMode::Read)?;
        if offset + len > WHOLE_READ_MAX {
            let mut part = vec![0; len];
            file.read_exact_at(&mut part, offset as u64)?;
            return Ok(part.into());
        }
        // One more than the value's end: a commit of one large value ends there, and is then seen to be whole.
        let mut start = vec![0; FIRST_READ.max(offset + len + 1)];
        let mut have = 0;
        while have < offset + len {
            match file.read_at(&mut start[have..], have as u64)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                more => have += more,
            }
        }
        start.truncate(have);
        let start: Arc<[u8]> = start.into();
        if parse_commit(&start, &self.marker).is_ok() {
            self.keep(n, &start);
        }
        Bytes::part(&start, offset, len).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}

/// Fills `buf` from `have` on until at least `want` bytes are there, or the file ends. Returns how many there are.
fn read_some(file: &dyn VfsFile, buf: &mut [u8], mut have: usize, want: usize) -> std::result::Result<usize, Unread> {
    while have < want {
        match file.read_at(&mut buf[have..], have as u64).map_err(unread)? {
            0 => break,
            more => have += more,
        }
    }
    Ok(have)
}

fn unread(e: io::Error) -> Unread {
    if is_gone(&e) { Unread::Missing } else { Unread::Failed(e) }
}

fn other_version(version: u32) -> Error {
    Error::new(ErrorKind::Incompatible, advice_on(version))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_believed_only_if_it_is_the_only_answer_for_long() {
        let mut streak = Streak::default();
        let s = Duration::from_secs;
        assert!((0..20).all(|_| !streak.is_long(EIO, s(3))), "often, but not for long");
        assert!(streak.is_long(EIO, s(13)));
        assert!((0..7).all(|i| !streak.is_long(EINVAL, s(20 + 2 * i))), "for long, but not often");
        assert!(streak.is_long(EINVAL, s(34)));
        assert!(!streak.is_long(EIO, s(60)), "another error begins anew");
    }

    #[test]
    fn wrong_bytes_are_believed_only_if_the_same_come_past_the_caches_for_a_while() {
        let ms = Duration::from_millis;
        let mut suspects = Suspects::default();
        assert!((0..20).all(|i| !suspects.note(5, 1, false, ms(i * 100))), "what a cache gives proves nothing");
        assert!((0..20).all(|i| !suspects.note(6, i, true, ms(i * 100))), "other bits each time: the way is bad, not the file");
        assert!((0..3).all(|_| !suspects.note(7, 1, true, ms(0))) && !suspects.note(7, 1, true, ms(999)));
        assert!(suspects.note(7, 1, true, ms(1000)));
        suspects.clear(7);
        assert!(!suspects.note(7, 1, true, ms(2000)));
    }

    #[test]
    fn recent_commits_are_kept_within_their_bound_and_the_oldest_go_first() {
        let mut recent = Recent::new(100);
        let file: Arc<[u8]> = vec![0; 30].into();
        for n in 0..5 {
            recent.insert(n, &file);
            assert!(recent.bytes <= 100 && recent.files.len() == recent.order.len());
        }
        assert!(recent.files.contains_key(&4) && !recent.files.contains_key(&1));
        recent.insert(9, &vec![0; 101].into());
        assert!(!recent.files.contains_key(&9));
    }
}
