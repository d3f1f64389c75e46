//! Whatever is damaged costs what was in it, and nothing else: every file of a cache is cut, flipped, zeroed, emptied and removed, one at a
//! time, and the cache is opened, read, checked, repaired, written to and opened again.
//!
//! What may go wrong with an answer is a miss. The one exception is a commit whose records themselves are unreadable and that no index
//! run has yet: nobody can know which keys it changed, so it counts as never made, and its keys have what they had before.
//!
//! `DAMAGE_SEED=<n> cargo test -p diskcache-core --test damage` repeats a run; `DAMAGE_CASE=<text>` runs only the cases that contain it.
#![expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test: helpers panic, and damage real files")]

use diskcache_core::clock::ManualClock;
use diskcache_core::format::Number;
use diskcache_core::verify::ProblemKind;
use diskcache_core::vfs::OsVfs;
use diskcache_core::{Cache, KeyRef, Options, ProfileOverride, Put, PutData, Setting};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

const BOOT: u64 = 7;
const KEYS: u32 = 160;

/// A pseudo-random sequence (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }
}

fn seed() -> u64 {
    std::env::var("DAMAGE_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(1)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Harm {
    Truncate(u64),
    Flip(u64),
    Zero(u64),
    Remove,
}

/// What a key has (or `None`) and what it once had.
#[derive(Default)]
struct History {
    now: Option<Vec<u8>>,
    before: Vec<Option<Vec<u8>>>,
}

/// A cache as it was built, and what must be in it.
struct Built {
    dir: tempfile::TempDir,
    mode: ProfileOverride,
    model: BTreeMap<String, History>,
    /// Everything that was ever committed is still in the log.
    whole_log: bool,
}

/// In memory where that can be had: nothing here is about power.
fn temp_dir() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

fn options(mode: ProfileOverride) -> Options {
    let settings = vec![("disk_min_file_size".to_owned(), Setting::Int(6000)), ("cull_limit".to_owned(), Setting::Int(0))];
    Options { profile: Some(mode), delta_entries_max: 64, garbage_len_min: 64 << 10, settings, ..Options::default() }
}

fn open(dir: &Path, mode: ProfileOverride) -> Cache {
    try_open(dir, mode).unwrap_or_else(|e| panic!("opening fails: {e}"))
}

fn try_open(dir: &Path, mode: ProfileOverride) -> diskcache_core::Result<Cache> {
    Cache::open_on(Arc::new(OsVfs), Arc::new(ManualClock::default()), dir, options(mode), BOOT)
}

fn value(key: u32, round: u32) -> Vec<u8> {
    let len = match key % 12 {
        0 => 7000,
        n @ 1..=4 => 600 * n as usize,
        n => 40 + n as usize,
    };
    format!("{key}/{round};").into_bytes().into_iter().cycle().take(len).collect()
}

impl Built {
    fn new(mode: ProfileOverride, rounds: u32) -> Self {
        let dir = temp_dir();
        let mut model: BTreeMap<String, History> = BTreeMap::new();
        let cache = open(dir.path(), mode);
        for round in 0..rounds {
            // Rounds after the first change a part, so that old and new runs hold live entries.
            for key in (0..KEYS).filter(|key| round == 0 || key % rounds >= round || key % 12 == round) {
                let name = format!("key {key}");
                let history = model.entry(name.clone()).or_default();
                let had = history.now.take();
                if round > 0 && key % 17 == 0 {
                    cache.delete(KeyRef::text(&name)).unwrap();
                } else {
                    let bytes = value(key, round);
                    cache.set(KeyRef::text(&name), Put::bytes(&bytes)).unwrap();
                    history.now = Some(bytes);
                }
                history.before.push(had);
            }
        }
        cache.close().unwrap();
        let folded = fs::read_dir(dir.path().join("fold")).is_ok_and(|d| d.count() > 0);
        Self { dir, mode, model, whole_log: !folded }
    }

    /// Returns all files, by their path in the cache.
    fn files(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        for entry in fs::read_dir(self.dir.path()).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_file() {
                files.push(entry.file_name().into());
            } else {
                let names = fs::read_dir(entry.path()).unwrap().map(|e| PathBuf::from(entry.file_name()).join(e.unwrap().file_name()));
                files.extend(names);
            }
        }
        files.sort();
        files
    }

    /// Makes a copy; files that nobody changes share their bytes with it.
    fn copy(&self, harmed: &Path) -> tempfile::TempDir {
        let copy = temp_dir();
        for file in self.files() {
            let (from, to) = (self.dir.path().join(&file), copy.path().join(&file));
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            let changes = matches!(file.components().next().unwrap().as_os_str().to_str(), Some("seg" | "tail" | "maintain" | "bell"));
            if changes || file == harmed {
                fs::copy(from, to).unwrap();
            } else {
                fs::hard_link(from, to).unwrap();
            }
        }
        for dir in ["seg", "run", "fold", "blob", "log", "stage"] {
            if self.dir.path().join(dir).is_dir() {
                fs::create_dir_all(copy.path().join(dir)).unwrap();
            }
        }
        copy
    }
}

fn harm(path: &Path, harm: Harm) {
    let mut bytes = fs::read(path).unwrap();
    match harm {
        Harm::Remove => return fs::remove_file(path).unwrap(),
        Harm::Truncate(len) => bytes.truncate(usize::try_from(len).unwrap()),
        Harm::Flip(at) => bytes[usize::try_from(at).unwrap()] ^= 0xa5,
        Harm::Zero(from) => bytes.iter_mut().skip(usize::try_from(from).unwrap()).take(4096).for_each(|b| *b = 0),
    }
    fs::write(path, bytes).unwrap();
}

/// Returns the damages to try on a file of `len` bytes.
fn harms(file: &Path, len: u64, random: &mut Random) -> Vec<Harm> {
    let mut all = vec![Harm::Remove, Harm::Truncate(0)];
    if file == Path::new("tail") {
        // The words of the page.
        all.extend((0..24).chain(64..88).step_by(5).map(Harm::Flip));
    }
    if file.to_str().is_some_and(|name| name.starts_with("CACHE")) {
        // The version among them.
        all.extend((0..12).chain(12..len).step_by(9).map(Harm::Flip));
    }
    if len > 0 {
        all.extend([Harm::Truncate(len / 2), Harm::Truncate(len - 1), Harm::Flip(0), Harm::Flip(len / 2), Harm::Flip(len - 1)]);
        all.extend([Harm::Flip(random.below(len)), Harm::Flip(random.below(len.min(200)))]);
        all.extend([Harm::Zero(0), Harm::Zero(random.below(len) / 4096 * 4096)]);
    }
    all
}

/// What reading everything came to.
#[derive(Debug, Default, PartialEq, Eq, Clone)]
struct Tally {
    right: usize,
    missed: usize,
    /// Answered with an older value, or a deleted key with the one it had.
    older: usize,
    answers: Vec<Option<Vec<u8>>>,
}

fn read_all(cache: &Cache, built: &Built, what: &str) -> Tally {
    let mut tally = Tally::default();
    for (key, history) in &built.model {
        let got = cache.get(KeyRef::text(key)).unwrap_or_else(|e| panic!("{what}: get {key}: {e}"));
        let got = got.and_then(|value| value.bytes().ok().map(|b| b.into_owned()));
        if got == history.now {
            tally.right += 1;
        } else if got.is_none() {
            tally.missed += 1;
        } else {
            assert!(history.before.contains(&got), "{what}: {key} has a value that it never had");
            tally.older += 1;
        }
        tally.answers.push(got);
    }
    tally
}

/// Returns how many entries a damage may cost, and how many commits may count as never made.
fn bound(built: &Built, file: &Path, harm: Harm, len: u64, fixed: bool) -> (u64, u64) {
    let all = u64::from(KEYS);
    let lost_bytes = match harm {
        Harm::Remove => len,
        Harm::Truncate(to) => len - to,
        Harm::Flip(_) => 1,
        Harm::Zero(from) => 4096.min(len - from),
    };
    match file.components().next().unwrap().as_os_str().to_str().unwrap() {
        "blob" | "log" => (1, u64::from(file.starts_with("log"))),
        // The shortest frame has more than 64 bytes.
        "seg" if matches!(harm, Harm::Flip(0..64)) => (0, 0),
        "seg" if matches!(harm, Harm::Flip(_)) => (1, 1),
        "seg" => (lost_bytes / 64 + 2, lost_bytes / 64 + 2),
        "run" if fixed && built.whole_log => (0, 0),
        "fold" if matches!(harm, Harm::Flip(_)) => (1, 0),
        "run" | "fold" => (all, 0),
        // Until somebody writes or checks, newcomers see the cache as it was when the bell was so long.
        "bell" if !fixed => (all, all),
        _ => (0, 0),
    }
}

fn try_case(built: &Built, file: &Path, damage: Harm, what: &str) {
    let copy = built.copy(file);
    let path = copy.path().join(file);
    let len = fs::metadata(&path).unwrap().len();
    harm(&path, damage);
    let cache = open(copy.path(), built.mode);
    let before = read_all(&cache, built, what);
    let (lost_max, older_max) = bound(built, file, damage, len, false);
    let lost = (before.missed + before.older) as u64;
    assert!(
        lost <= lost_max && before.older as u64 <= older_max,
        "{what}: {} missed, {} older, {:?}",
        before.missed,
        before.older,
        cache.check(false)
    );
    if before.missed > 0 && older_max == 0 && !file.starts_with("blob") {
        assert!(cache.damaged_reads().unwrap() > 0, "{what}: misses by damage are counted");
    }

    let found = cache.check(false).unwrap();
    let again = read_all(&cache, built, what);
    assert_eq!(before.answers, again.answers, "{what}: checking changes nothing");
    assert!(lost == 0 || !found.problems.is_empty(), "{what}: {lost} lost and nothing reported");
    let fixed = cache.check(true).unwrap();
    for kind in [ProblemKind::Marker, ProblemKind::Log, ProblemKind::Index, ProblemKind::Fold, ProblemKind::Value] {
        assert!(fixed.count(kind) > 0 || found.count(kind) == 0, "{what}: {found:?} but with fix {fixed:?}");
    }
    assert!(fixed.problems.iter().all(|p| p.fixed || p.kind == ProblemKind::Log), "{what}: {:?}", fixed.problems);
    let after = read_all(&cache, built, what);
    let (lost_max, older_max) = bound(built, file, damage, len, true);
    let lost = (after.missed + after.older) as u64;
    assert!(
        lost <= lost_max && after.older as u64 <= older_max,
        "{what}: fixed: {} missed, {} older: {fixed:?}",
        after.missed,
        after.older
    );
    let clean = cache.check(true).unwrap();
    assert!(clean.problems.is_empty(), "{what}: a second check is clean: {:?} after {:?}", clean.problems, fixed.problems);
    assert_eq!(cache.len().unwrap(), after.answers.iter().flatten().count() as u64, "{what}: the count is right");

    cache.set(KeyRef::text("new"), Put::text("value")).unwrap();
    let reopened = open(copy.path(), built.mode);
    for handle in [&cache, &reopened] {
        assert_eq!(read_all(handle, built, what).answers, after.answers, "{what}: all agree");
        assert_eq!(handle.get(KeyRef::text("new")).unwrap().unwrap().bytes().unwrap().as_ref(), b"value", "{what}");
    }
    cache.close().unwrap();
    reopened.close().unwrap();
    assert_eq!(read_all(&open(copy.path(), built.mode), built, what).answers, after.answers, "{what}: and again");
}

/// Of very many files of a kind, tries some.
fn choose(files: Vec<PathBuf>, random: &mut Random) -> Vec<PathBuf> {
    let mut kinds: BTreeMap<PathBuf, Vec<PathBuf>> = BTreeMap::new();
    for file in files {
        kinds.entry(file.parent().unwrap().to_owned()).or_default().push(file);
    }
    let mut chosen = Vec::new();
    for (dir, mut files) in kinds {
        let max = if dir.as_os_str().is_empty() { usize::MAX } else { 2 };
        while files.len() > max {
            // The first and the last stay.
            files.remove(1 + usize::try_from(random.below(files.len() as u64 - 2)).unwrap());
        }
        chosen.append(&mut files);
    }
    chosen
}

fn every_file_in_every_way(mode: ProfileOverride, rounds: u32) {
    let built = Built::new(mode, rounds);
    let well = open(built.dir.path(), mode).check(false).unwrap();
    assert!(well.problems.is_empty() && well.unknown.is_empty(), "nothing is wrong before: {well:?}");
    assert_eq!(built.whole_log, rounds < 12, "folded after many rounds");
    let mut random = Random(seed());
    let only = std::env::var("DAMAGE_CASE").unwrap_or_default();
    let mut failures = Vec::new();
    for file in choose(built.files(), &mut random) {
        let len = fs::metadata(built.dir.path().join(&file)).unwrap().len();
        for damage in harms(&file, len, &mut random) {
            let what = format!("{mode:?}, {rounds} rounds: {damage:?} of {} ({len} bytes)", file.display());
            if !what.contains(&only) {
                continue;
            }
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| try_case(&built, &file, damage, &what)));
            if let Err(panic) = result {
                let text = panic.downcast_ref::<String>().cloned().or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
                failures.push(format!("{what}\n    {}", text.unwrap_or_default()));
            }
        }
    }
    assert!(
        failures.is_empty(),
        "{} cases failed; repeat with DAMAGE_SEED={} cargo test -p diskcache-core --test damage\n{}",
        failures.len(),
        seed(),
        failures.join("\n")
    );
}

#[test]
fn damage_of_a_young_local_cache_costs_what_was_hit() {
    every_file_in_every_way(ProfileOverride::Local, 2);
}

#[test]
fn damage_of_a_folded_local_cache_costs_what_was_hit() {
    every_file_in_every_way(ProfileOverride::Local, 16);
}

#[test]
fn damage_of_a_shared_cache_costs_what_was_hit() {
    every_file_in_every_way(ProfileOverride::Shared, 3);
}

#[test]
fn what_killed_processes_left_is_found_and_removed_and_nothing_else_is() {
    let built = Built::new(ProfileOverride::Local, 2);
    let dir = built.dir.path();
    let files = built.files();
    let left = ["run/00000000000000aa", "fold/00000000000000ab", "blob/00000000000000ac", "CACHE.0123456789abcdef0123456789abcdef"];
    let others = ["notes.txt", "run/notes", "blob/00000000000000AC", "CACHE.old"];
    fs::create_dir_all(dir.join("fold")).unwrap();
    for name in left.iter().chain(&others) {
        fs::write(dir.join(name), b"left").unwrap();
    }
    let cache = open(dir, built.mode);
    let found = cache.check(false).unwrap();
    assert_eq!((found.count(ProblemKind::Leftover), found.problems.len()), (left.len(), left.len()), "{found:?}");
    assert_eq!(found.unknown, [dir.join("CACHE.old")]);
    assert_eq!(cache.check(true).unwrap().count(ProblemKind::Leftover), left.len());
    assert_eq!(cache.check(true).unwrap().problems, []);
    assert!(left.iter().all(|name| !dir.join(name).exists()) && others.iter().all(|name| dir.join(name).exists()));
    assert!(files.iter().all(|file| dir.join(file).exists()), "everything that is named stays");
    assert_eq!(read_all(&cache, &built, "leftovers").right, built.model.len());
}

#[test]
fn on_a_network_drive_leftovers_go_only_after_the_grace() {
    let built = Built::new(ProfileOverride::Shared, 2);
    let dir = built.dir.path();
    let left = ["run/00000000000000aa", "blob/00000000000000ac", "probe-0123456789abcdef01234567/a"];
    fs::create_dir(dir.join("probe-0123456789abcdef01234567")).unwrap();
    for name in left {
        fs::write(dir.join(name), b"left").unwrap();
    }
    let clock = ManualClock::default();
    let cache = Cache::open_on(Arc::new(OsVfs), Arc::new(clock.clone()), dir, options(built.mode), BOOT).unwrap();
    let young = cache.check(true).unwrap();
    assert!(young.problems.is_empty() && young.unnamed >= 3, "another host may be about to name them: {young:?}");
    clock.advance(Duration::from_secs(601));
    assert_eq!(cache.check(true).unwrap().count(ProblemKind::Leftover) as u64, young.unnamed);
    assert!(left.iter().all(|name| !dir.join(name).exists()));
    assert_eq!(read_all(&cache, &built, "leftovers").right, built.model.len());
}

/// A value whose source checks and repairs the cache while it is written.
struct Checking<'a> {
    cache: &'a Cache,
    left: usize,
}

impl std::io::Read for Checking<'_> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let report = self.cache.check(true).unwrap();
        assert_eq!(report.problems, [], "with {} bytes to go", self.left);
        let n = buf.len().min(self.left).min(50_000);
        buf[..n].fill(b'v');
        self.left -= n;
        Ok(n)
    }
}

#[test]
fn a_value_that_is_being_written_is_nobodys_leftover() {
    for mode in [ProfileOverride::Local, ProfileOverride::Shared] {
        let dir = temp_dir();
        let (writer, checker) = (open(dir.path(), mode), open(dir.path(), mode));
        let mut source = Checking { cache: &checker, left: 200_000 };
        let put = Put { data: PutData::Reader(&mut source), ..Put::bytes(&[]) };
        writer.set(KeyRef::text("large"), put).unwrap();
        assert_eq!(checker.get(KeyRef::text("large")).unwrap().unwrap().bytes().unwrap().as_ref(), vec![b'v'; 200_000]);
    }
}

#[test]
fn a_damaged_index_is_repaired_along_the_way_of_writes() {
    let built = Built::new(ProfileOverride::Local, 2);
    let dir = built.dir.path();
    for file in built.files().iter().filter(|file| file.starts_with("run")) {
        fs::write(dir.join(file), b"").unwrap();
    }
    let cache = open(dir, built.mode);
    let before = read_all(&cache, &built, "damaged");
    assert!(before.missed > 0 && before.older == 0 && cache.damaged_reads().unwrap() as usize >= before.missed);
    cache.set(KeyRef::text("new"), Put::text("value")).unwrap();
    assert_eq!(read_all(&cache, &built, "repaired").right, built.model.len());
    assert_eq!(cache.check(false).unwrap().problems, []);
}

/// Who cannot read a commit says so in the log, by a checkpoint without it, before it answers anything: so nobody goes on with a state of its own.
#[test]
fn hosts_that_saw_a_commit_and_hosts_that_could_not_agree_before_the_latter_answer() {
    for sighted_first in [true, false] {
        let dir = temp_dir();
        let mode = ProfileOverride::Shared;
        let saw = open(dir.path(), mode);
        saw.set(KeyRef::text("a"), Put::text("old")).unwrap();
        saw.set(KeyRef::text("a"), Put::text("new")).unwrap();
        let mut names: Vec<PathBuf> = fs::read_dir(dir.path().join("log")).unwrap().map(|e| e.unwrap().path()).collect();
        names.sort();
        fs::write(names.last().unwrap(), b"damaged").unwrap();
        let blind = open(dir.path(), mode);
        let text = |cache: &Cache| cache.get(KeyRef::text("a")).unwrap().map(|v| v.bytes().unwrap().into_owned());
        let count = |cache: &Cache| cache.incr(KeyRef::text("n"), Number::Int(1), Some(Number::Int(0))).unwrap();
        let both = if sighted_first { [&saw, &blind] } else { [&blind, &saw] };
        let answers = [text(both[0]), text(both[1]), text(&open(dir.path(), mode))];
        assert!(answers.iter().all(|a| a.as_deref() == Some(b"old")), "sighted first: {sighted_first}: {answers:?}");
        let counts = [count(both[0]), count(both[1]), count(both[0])];
        assert_eq!(counts, [1, 2, 3].map(|n| Some(Number::Int(n))), "sighted first: {sighted_first}");
        let report = both[0].check(true).unwrap();
        assert_eq!(report.commits_lost, 0, "a checkpoint tells all what the commit came to: {report:?}");
        assert_eq!(report.commits_lost_ever, 1, "and that it was lost is not forgotten: {report:?}");
    }
}

/// Writers that were killed at once may each have published a commit, and a hold before it, that nobody was told of.
#[test]
fn commits_that_nobody_was_told_of_are_no_damage_and_a_bell_that_is_much_too_short_is() {
    let dir = temp_dir();
    let cache = open(dir.path(), ProfileOverride::Shared);
    for n in 0..40 {
        cache.set(KeyRef::text(&n.to_string()), Put::bytes(b"value")).unwrap();
    }
    let bell = dir.path().join("bell");
    for (missing, is_damage) in [(1, false), (2, false), (7, false), (9, true), (30, true)] {
        let whole = std::fs::read(&bell).unwrap();
        std::fs::write(&bell, &whole[..whole.len() - missing]).unwrap();
        let report = cache.check(true).unwrap();
        assert_eq!(report.count(ProblemKind::Log) > 0, is_damage, "{missing} bytes less: {report:?}");
        assert!(std::fs::read(&bell).unwrap().len() >= whole.len(), "{missing} bytes less: it is put right");
    }
}
