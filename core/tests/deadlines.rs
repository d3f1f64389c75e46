//! A drive that stopped answers to no call, and no signal ends that. The calls end all the same.
#![cfg(target_os = "linux")]
#![expect(clippy::disallowed_methods, reason = "a test: what it measures is the real time, and its drive's fault is made of real files")]

use diskcache_core::{Cache, ErrorKind, KeyRef, Options, ProfileOverride, Put};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const TIMEOUT: Duration = Duration::from_secs(1);
/// What a loaded machine may add; opening has two seconds at least.
const SLACK: Duration = Duration::from_secs(3);

fn open(dir: &Path) -> Cache {
    let options = Options { profile: Some(ProfileOverride::Shared), timeout: TIMEOUT, ..Options::default() };
    Cache::open(dir, options).expect("a cache")
}

fn newest_commit(dir: &Path) -> u64 {
    let names = std::fs::read_dir(dir.join("log")).expect("a shared cache");
    names.filter_map(|name| u64::from_str_radix(name.ok()?.file_name().to_str()?, 16).ok()).max().expect("a commit")
}

/// Puts something in the place of a file that holds whoever opens it to read, as a dead server does. Returns its path.
fn hold(path: PathBuf) -> PathBuf {
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0).expect("a new name");
    path
}

/// Lets go of whom [`hold`] holds, and removes it.
fn let_go(path: &Path) {
    let writer = rustix::fs::open(path, rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::NONBLOCK, rustix::fs::Mode::empty());
    std::fs::remove_file(path).expect("it is there");
    drop(writer);
}

#[test]
fn a_call_that_the_kernel_holds_ends_by_its_deadline_and_the_cache_works_again_afterwards() {
    let dir = tempfile::tempdir().unwrap();
    let cache = open(dir.path());
    cache.set(KeyRef::text("before"), Put::bytes(b"1")).unwrap();
    let next = hold(dir.path().join(format!("log/{:012x}", newest_commit(dir.path()) + 1)));
    for _ in 0..2 {
        let start = Instant::now();
        let error = cache.set(KeyRef::text("held"), Put::bytes(b"2")).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::OutcomeUnknown | ErrorKind::Timeout), "{error}");
        assert!(error.to_string().contains("log/"), "it says where: {error}");
        let took = start.elapsed();
        assert!(took >= TIMEOUT / 2 && took < TIMEOUT + SLACK, "{took:?}");
    }
    // What needs none of it is answered.
    assert!(cache.get(KeyRef::text("before")).unwrap().is_some());
    let_go(&next);
    cache.set(KeyRef::text("after"), Put::bytes(b"3")).unwrap();
    assert!(cache.get(KeyRef::text("after")).unwrap().is_some());
    let start = Instant::now();
    cache.close().unwrap();
    assert!(start.elapsed() < TIMEOUT + SLACK);
}

#[test]
fn opening_a_cache_ends_by_its_deadline_where_the_kernel_holds_it() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    let (marker, kept) = (dir.path().join("CACHE"), dir.path().join("kept"));
    std::fs::rename(&marker, &kept).unwrap();
    hold(marker.clone());
    let start = Instant::now();
    let options = Options { profile: Some(ProfileOverride::Shared), timeout: TIMEOUT, ..Options::default() };
    let error = Cache::open(dir.path(), options).unwrap_err();
    assert!(start.elapsed() < TIMEOUT + SLACK, "{:?}: {error}", start.elapsed());
    let_go(&marker);
    std::fs::rename(&kept, &marker).unwrap();
    open(dir.path()).set(KeyRef::text("after"), Put::bytes(b"1")).unwrap();
}

/// `FanoutCache` gives a call ten milliseconds unless it is told otherwise. A round trip that takes longer is no dead drive.
#[test]
fn a_timeout_that_is_shorter_than_a_round_trip_neither_keeps_a_cache_from_being_opened_nor_read() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path()).set(KeyRef::text("key"), Put::bytes(b"1")).unwrap();
    let options = Options { profile: Some(ProfileOverride::Shared), timeout: Duration::from_nanos(1), ..Options::default() };
    let cache = Cache::open(dir.path(), options).unwrap();
    for _ in 0..50 {
        assert!(cache.get(KeyRef::text("key")).unwrap().is_some());
    }
}
