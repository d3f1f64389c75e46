//! One test for each thing that the drive promises, and one for each fault's meaning.

use std::sync::{Arc, Mutex};

use super::handle::OpenFlags;
use super::locks::{LockKind, Range};
use super::*;

const SECOND: u64 = 1_000_000_000;
const ALL: Range = Range { start: 0, end: u64::MAX };

fn drive_of(profile: Profile, seed: u64) -> (Arc<Mutex<Drive>>, DriveHandle, DriveHandle) {
    let drive = Arc::new(Mutex::new(Drive::new(profile, &["a", "b"], seed, Clock::Virtual(0))));
    let (a, b) = (DriveHandle::new(Arc::clone(&drive), 0), DriveHandle::new(Arc::clone(&drive), 1));
    (drive, a, b)
}

fn nfs() -> (DriveHandle, DriveHandle) {
    let (_, a, b) = drive_of(Profile::nfs4(), 7);
    (a, b)
}

fn rw() -> OpenFlags {
    OpenFlags { read: true, write: true, create: true, ..OpenFlags::default() }
}

fn put(host: &DriveHandle, path: &str, data: &[u8]) {
    let fd = host.open(path, rw(), 0o644).unwrap();
    host.write_at(fd, 0, data).unwrap();
    host.fsync(fd).unwrap();
    host.close(fd).unwrap();
}

fn get(host: &DriveHandle, path: &str) -> Result<Vec<u8>, Errno> {
    let fd = host.open(path, OpenFlags::reading(), 0)?;
    let data = host.read_at(fd, 0, 1 << 20);
    host.close(fd)?;
    data
}

fn fault(name: &str) -> Fault {
    Fault { name: name.into(), ..Fault::default() }
}

fn trips(host: &DriveHandle, act: impl FnOnce()) -> Vec<(Kind, u64)> {
    let id = host.host();
    let before = host.drive().trips(id);
    act();
    host.drive().trips(id).since(&before).made.into_iter().collect()
}

#[test]
fn a_closed_file_is_seen_by_the_next_open_elsewhere() {
    let (a, b) = nfs();
    put(&a, "f", b"one");
    assert_eq!(get(&b, "f").unwrap(), b"one");
    put(&a, "f", b"two!");
    assert_eq!(get(&b, "f").unwrap(), b"two!");
}

#[test]
fn n1_a_held_descriptor_reads_old_bytes_until_its_attributes_expire() {
    let (a, b) = nfs();
    put(&a, "f", b"old");
    let held = b.open("f", OpenFlags::reading(), 0).unwrap();
    assert_eq!(b.read_at(held, 0, 9).unwrap(), b"old");
    put(&a, "f", b"new");
    assert_eq!(b.read_at(held, 0, 9).unwrap(), b"old", "from its own page cache");
    b.drive().advance(61 * SECOND);
    assert_eq!(b.read_at(held, 0, 9).unwrap(), b"new");
}

#[test]
fn a_fresh_look_at_a_held_descriptor_is_one_round_trip_and_exact() {
    let (a, b) = nfs();
    put(&a, "f", b"old");
    let held = b.open("f", OpenFlags::reading(), 0).unwrap();
    put(&a, "f", b"longer");
    assert_eq!(b.fstat(held, false).unwrap().size, 3, "from its attribute cache");
    let made = trips(&b, || assert_eq!(b.fstat(held, true).unwrap().size, 6));
    assert_eq!(made, [(Kind::Getattr, 1)]);
}

#[test]
fn n3_an_absent_name_stays_absent_until_the_folder_expires_but_can_be_linked_over() {
    let (a, b) = nfs();
    a.mkdir("d", 0o755).unwrap();
    put(&a, "d/mine", b"x");
    put(&b, "d/own", b"y");
    assert_eq!(b.stat("d/name"), Err(Errno::ENOENT));
    a.link("d/mine", "d/name").unwrap();
    assert_eq!(b.stat("d/name"), Err(Errno::ENOENT), "cached");
    assert_eq!(b.open("d/name", OpenFlags::reading(), 0), Err(Errno::ENOENT), "also for open");
    assert_eq!(b.link("d/own", "d/name"), Err(Errno::EEXIST), "the server decides");
    b.drive().advance(61 * SECOND);
    assert_eq!(get(&b, "d/name").unwrap(), b"x");
}

#[test]
fn n4_a_listing_is_from_the_cache_while_the_folder_is_believed() {
    let (a, b) = nfs();
    put(&a, "one", b"");
    let names = |host: &DriveHandle| host.readdir("/").unwrap().into_iter().map(|entry| entry.name).collect::<Vec<_>>();
    assert_eq!(names(&b), ["one"]);
    put(&a, "two", b"");
    assert_eq!(names(&b), ["one"]);
    b.drive().advance(61 * SECOND);
    assert_eq!(names(&b), ["one", "two"]);
}

#[test]
fn two_hosts_that_write_one_page_write_over_each_other() {
    let (a, b) = nfs();
    put(&a, "f", &[0; 4096]);
    let (fa, fb) = (a.open("f", rw(), 0).unwrap(), b.open("f", rw(), 0).unwrap());
    assert_eq!((a.read_at(fa, 0, 1).unwrap(), b.read_at(fb, 0, 1).unwrap()), (vec![0], vec![0]));
    a.write_at(fa, 0, b"AAAA").unwrap();
    b.write_at(fb, 2048, b"BBBB").unwrap();
    a.fsync(fa).unwrap();
    b.fsync(fb).unwrap();
    a.close(fa).unwrap();
    b.close(fb).unwrap();
    let data = get(&a, "f").unwrap();
    assert_eq!((&data[..4], &data[2048..2052]), (&[0; 4][..], &b"BBBB"[..]), "whole pages are written back");
}

#[test]
fn under_a_byte_range_lock_only_the_bytes_written_go_back() {
    let (a, b) = nfs();
    put(&a, "f", &[0; 4096]);
    let (fa, fb) = (a.open("f", rw(), 0).unwrap(), b.open("f", rw(), 0).unwrap());
    for (host, fd, at, text) in [(&a, fa, 0, b"AAAA"), (&b, fb, 2048, b"BBBB")] {
        let range = Range { start: at, end: at + 3 };
        host.try_lock(fd, 1, range, LockKind::Exclusive).unwrap();
        host.read_at(fd, 0, 1).unwrap();
        host.write_at(fd, at, text).unwrap();
        host.unlock(fd, 1, range).unwrap();
    }
    let data = get(&a, "f").unwrap();
    assert_eq!((&data[..4], &data[2048..2052]), (&b"AAAA"[..], &b"BBBB"[..]));
}

#[test]
fn taking_a_lock_throws_cached_pages_away() {
    let (a, b) = nfs();
    put(&a, "f", b"old");
    let held = b.open("f", rw(), 0).unwrap();
    assert_eq!(b.read_at(held, 0, 9).unwrap(), b"old");
    put(&a, "f", b"new");
    b.try_lock(held, 1, ALL, LockKind::Shared).unwrap();
    assert_eq!(b.read_at(held, 0, 9).unwrap(), b"new");
    let other = a.open("f", rw(), 0).unwrap();
    assert_eq!(a.try_lock(other, 1, ALL, LockKind::Exclusive), Err(Errno::EAGAIN));
}

#[test]
fn a_commit_by_link_costs_what_a_linux_client_would_pay() {
    let (a, b) = nfs();
    a.mkdir("stage", 0o755).unwrap();
    a.mkdir("log", 0o755).unwrap();
    put(&a, "stage/warm", b"x");
    a.link("stage/warm", "log/0").unwrap();
    let made = trips(&a, || {
        put(&a, "stage/x", &[1; 300]);
        a.link("stage/x", "log/1").unwrap();
    });
    assert_eq!(made, [(Kind::Close, 1), (Kind::Link, 1), (Kind::Open, 1), (Kind::Write, 1)]);
    get(&b, "log/0").unwrap();
    let made = trips(&b, || assert_eq!(get(&b, "log/1").unwrap(), [1; 300]));
    assert_eq!(made, [(Kind::Close, 1), (Kind::Open, 1), (Kind::Read, 1)]);
}

#[test]
fn what_was_read_once_is_read_again_for_nothing() {
    let (a, _) = nfs();
    put(&a, "f", &[5; 10_000]);
    let fd = a.open("f", OpenFlags::reading(), 0).unwrap();
    a.read_at(fd, 0, 10_000).unwrap();
    assert_eq!(trips(&a, || assert_eq!(a.read_at(fd, 4000, 100).unwrap(), [5; 100])), []);
}

#[test]
fn several_writes_are_committed_and_one_is_written_stable() {
    let (a, _) = nfs();
    let fd = a.open("f", rw(), 0o644).unwrap();
    a.write_at(fd, 0, &[1; 100]).unwrap();
    assert_eq!(trips(&a, || a.fsync(fd).unwrap()), [(Kind::Write, 1)]);
    a.write_at(fd, 0, &[2; 10]).unwrap();
    a.write_at(fd, 50_000, &[2; 10]).unwrap();
    assert_eq!(trips(&a, || a.fsync(fd).unwrap()), [(Kind::Commit, 1), (Kind::Write, 2)]);
}

#[test]
fn the_strict_profile_shows_every_host_everything_at_once() {
    let (_, a, b) = drive_of(Profile::local(), 7);
    put(&a, "f", b"old");
    let held = b.open("f", OpenFlags::reading(), 0).unwrap();
    assert_eq!(b.read_at(held, 0, 9).unwrap(), b"old");
    assert_eq!(b.stat("g"), Err(Errno::ENOENT));
    put(&a, "f", b"new");
    put(&a, "g", b"there");
    assert_eq!((b.read_at(held, 0, 9).unwrap(), b.stat("g").unwrap().size), (b"new".to_vec(), 5));
}

#[test]
fn n5_n10_u8_delay_and_nothing_else() {
    for name in ["N5", "N6", "N10", "U8"] {
        let (a, b) = nfs();
        a.drive().add_fault(Fault { op: vec![Kind::Write], delay_ms: 700, ..fault(name) }).unwrap();
        let began = a.drive().now();
        put(&a, "f", b"x");
        assert!(a.drive().now() - began >= 700_000_000, "{name}");
        assert_eq!(get(&b, "f").unwrap(), b"x");
        assert_eq!(a.drive().fault_counts()[name], FaultCount { planned: 1, matched: 1, fired: 1, observable: 1 });
    }
}

#[test]
fn n7_a_lost_reply_reports_failure_of_what_was_done() {
    let (a, b) = nfs();
    put(&a, "f", b"x");
    a.drive().add_fault(Fault { count: 0, ..fault("N7") }).unwrap();
    assert_eq!(a.link("f", "g"), Err(Errno::EEXIST));
    assert_eq!(a.mkdir("d", 0o755), Err(Errno::EEXIST));
    assert_eq!(a.rename("f", "h"), Err(Errno::ENOENT));
    assert_eq!(a.unlink("h"), Err(Errno::ENOENT));
    a.drive().heal();
    assert_eq!(get(&b, "g").unwrap(), b"x");
    assert_eq!(b.readdir("/").unwrap().iter().map(|entry| entry.name.as_str()).collect::<Vec<_>>(), ["d", "g"]);
}

#[test]
fn n8_an_old_write_comes_again_over_a_newer_one() {
    let (a, b) = nfs();
    a.drive().add_fault(Fault { op: vec![Kind::Write], delay_ms: 500, ..fault("N8") }).unwrap();
    put(&a, "f", b"old");
    put(&a, "f", b"new");
    assert_eq!(get(&b, "f").unwrap(), b"new");
    b.drive().advance(SECOND);
    b.drive().advance(61 * SECOND);
    assert_eq!(get(&b, "f").unwrap(), b"old");
}

#[test]
fn n9_an_error_says_nothing_of_whether_it_was_done() {
    for (apply, at_once, later) in [(Apply::Never, false, false), (Apply::Before, true, true), (Apply::Later, false, true)] {
        let (a, b) = nfs();
        put(&a, "f", b"x");
        a.drive().add_fault(Fault { op: vec![Kind::Link], apply, delay_ms: 500, ..fault("N9") }).unwrap();
        assert_eq!(a.link("f", "g"), Err(Errno::EIO));
        assert_eq!(get(&b, "g").is_ok(), at_once, "{apply:?}");
        b.drive().advance(61 * SECOND);
        assert_eq!(get(&b, "g").is_ok(), later, "{apply:?}");
    }
}

#[test]
fn n11_a_living_client_sends_again_what_a_restart_lost() {
    let (a, b) = nfs();
    let fd = a.open("f", rw(), 0o644).unwrap();
    a.write_at(fd, 0, b"first").unwrap();
    a.write_at(fd, 9000, b"second").unwrap();
    a.fstat(fd, false).unwrap();
    assert!(a.drive().unstable_bytes() > 0, "written back, not committed");
    assert_eq!(a.drive().restart(Loss::All).writes_lost, 2);
    a.fsync(fd).unwrap();
    a.close(fd).unwrap();
    let data = get(&b, "f").unwrap();
    assert_eq!((&data[..5], &data[9000..]), (&b"first"[..], &b"second"[..]));
    assert_eq!(a.drive().fault_counts()["N11"].observable, 1);
}

#[test]
fn n12_a_restart_and_a_dead_client_lose_what_was_not_stable_and_only_that() {
    let (a, b) = nfs();
    put(&a, "safe", b"kept");
    let fd = a.open("f", rw(), 0o644).unwrap();
    a.write_at(fd, 0, b"first").unwrap();
    a.write_at(fd, 9000, b"second").unwrap();
    a.fstat(fd, false).unwrap();
    a.drive().crash(0);
    assert_eq!(a.read_at(fd, 0, 5), Err(Errno::ESTALE), "its descriptors are dead");
    a.drive().restart(Loss::All);
    assert_eq!(get(&b, "f").unwrap(), b"");
    assert_eq!(get(&b, "safe").unwrap(), b"kept");
    assert_eq!(a.stat("safe"), Err(Errno::EIO), "it is away");
    a.drive().boot(0);
    assert_eq!(get(&a, "safe").unwrap(), b"kept");
}

#[test]
fn n12_some_of_the_unstable_writes_may_survive() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..20 {
        let (_, a, b) = drive_of(Profile::nfs4(), seed);
        let fd = a.open("f", rw(), 0o644).unwrap();
        a.write_at(fd, 0, b"x").unwrap();
        a.write_at(fd, 9000, b"y").unwrap();
        a.fstat(fd, false).unwrap();
        a.drive().crash(0);
        a.drive().restart(Loss::Some);
        let data = get(&b, "f").unwrap();
        seen.insert((data.first() == Some(&b'x'), data.len() == 9001));
    }
    assert_eq!(seen.len(), 4, "each of the four outcomes: {seen:?}");
}

#[test]
fn n14_a_late_write_error_is_told_once_and_the_bytes_stay_readable_here() {
    let (a, b) = nfs();
    put(&a, "f", b"old");
    let fd = a.open("f", rw(), 0).unwrap();
    a.read_at(fd, 0, 3).unwrap();
    a.drive().add_fault(fault("N14")).unwrap();
    assert_eq!(a.write_at(fd, 0, b"new"), Ok(3), "accepted");
    assert_eq!(a.fsync(fd), Err(Errno::EIO), "told");
    assert_eq!(a.fsync(fd), Ok(()), "once");
    assert_eq!(a.read_at(fd, 0, 3).unwrap(), b"new", "and still read here");
    assert_eq!(get(&b, "f").unwrap(), b"old", "though the server never got it");
}

#[test]
fn n15_a_full_drive_is_told_at_fsync_or_close_and_has_room_again_later() {
    let (a, b) = nfs();
    put(&a, "f", b"kept");
    a.drive().limit_space(Some(0));
    let fd = a.open("g", rw(), 0o644).unwrap();
    assert_eq!(a.write_at(fd, 0, &[1; 9000]), Ok(9000), "accepted");
    assert_eq!(a.close(fd), Err(Errno::ENOSPC));
    assert_eq!(get(&b, "f").unwrap(), b"kept");
    assert_eq!(a.statfs().unwrap().free, 0);
    a.drive().limit_space(None);
    put(&a, "g", &[2; 9000]);
    assert_eq!(get(&b, "g").unwrap(), [2; 9000]);
}

#[test]
fn n16_a_stale_handle_is_dead_for_ever_and_the_path_is_well() {
    let (a, _) = nfs();
    put(&a, "f", b"data");
    let fd = a.open("f", rw(), 0).unwrap();
    a.drive().add_fault(Fault { op: vec![Kind::Getattr], ..fault("N16") }).unwrap();
    assert_eq!(a.fstat(fd, true), Err(Errno::ESTALE));
    assert_eq!(a.read_at(fd, 0, 4), Err(Errno::ESTALE));
    assert_eq!(a.write_at(fd, 0, b"x"), Err(Errno::ESTALE));
    assert_eq!(a.close(fd), Err(Errno::ESTALE));
    assert_eq!(get(&a, "f").unwrap(), b"data");
}

#[test]
fn n17_n18_a_removed_file_lives_on_where_it_is_open_and_is_stale_elsewhere() {
    let (a, b) = nfs();
    put(&a, "f", b"data");
    let (fa, fb) = (a.open("f", OpenFlags::reading(), 0).unwrap(), b.open("f", OpenFlags::reading(), 0).unwrap());
    a.unlink("f").unwrap();
    assert_eq!(a.read_at(fa, 0, 4).unwrap(), b"data");
    assert!(a.readdir("/").unwrap()[0].name.starts_with(".nfs"));
    a.close(fa).unwrap();
    assert_eq!(a.readdir("/").unwrap(), []);
    assert_eq!(b.read_at(fb, 0, 4), Err(Errno::ESTALE), "not cached, and gone");
}

#[test]
fn n20_a_lock_that_the_server_forgot_is_given_to_another_while_the_holder_goes_on() {
    let (a, b) = nfs();
    put(&a, "f", b"data");
    let (fa, fb) = (a.open("f", rw(), 0).unwrap(), b.open("f", rw(), 0).unwrap());
    a.try_lock(fa, 1, ALL, LockKind::Exclusive).unwrap();
    assert_eq!(b.try_lock(fb, 1, ALL, LockKind::Exclusive), Err(Errno::EAGAIN));
    assert_eq!(a.drive().expire_lease(0), 1);
    assert_eq!(b.try_lock(fb, 1, ALL, LockKind::Exclusive), Ok(()));
    assert_eq!(a.write_at(fa, 0, b"more"), Ok(4));
}

#[test]
fn n21_local_locks_exclude_only_on_their_own_host() {
    let (a, b) = nfs();
    put(&a, "f", b"data");
    a.drive().make_locks_local(0);
    a.drive().make_locks_local(1);
    let (fa, fb) = (a.open("f", rw(), 0).unwrap(), b.open("f", rw(), 0).unwrap());
    a.try_lock(fa, 1, ALL, LockKind::Exclusive).unwrap();
    assert_eq!(a.try_lock(fa, 2, ALL, LockKind::Exclusive), Err(Errno::EAGAIN));
    assert_eq!(b.try_lock(fb, 1, ALL, LockKind::Exclusive), Ok(()), "granted to both");
    assert_eq!(a.drive().fault_counts()["N21"].observable, 1);
}

#[test]
fn u1_a_flipped_bit_is_one_bit() {
    let (a, b) = nfs();
    put(&a, "f", &[0; 1000]);
    b.drive().add_fault(fault("U1")).unwrap();
    let data = get(&b, "f").unwrap();
    assert_eq!(data.iter().map(|byte| byte.count_ones()).sum::<u32>(), 1);
}

#[test]
fn u7_a_cut_host_waits_and_loses_nothing() {
    let (a, b) = nfs();
    put(&a, "f", b"data");
    a.drive().cut(1, Some(3000));
    let began = b.drive().now();
    assert_eq!(get(&b, "f").unwrap(), b"data");
    assert!(b.drive().now() - began >= 2 * SECOND);
    b.drive().cut(1, None);
    assert_eq!(get(&b, "f"), Err(Errno::ETIMEDOUT), "for ever is too long");
}

/// What the server still has of a file that was written and closed, and perhaps synced before, after it lost power.
fn left_after_a_power_cut(profile: &str, synced: bool) -> Vec<u8> {
    let (_, a, b) = drive_of(Profile::named(profile).unwrap(), 7);
    let fd = a.open("f", rw(), 0o644).unwrap();
    a.write_at(fd, 0, b"data").unwrap();
    if synced {
        a.fsync(fd).unwrap();
    }
    a.close(fd).unwrap();
    a.link("f", "g").unwrap();
    a.drive().restart(Loss::All);
    get(&b, "g").unwrap()
}

#[test]
fn a_close_makes_stable_on_nfs_and_elsewhere_only_fsync_does() {
    for profile in ["nfs3", "nfs4", "fuse"] {
        assert_eq!(left_after_a_power_cut(profile, false), b"data", "{profile}");
    }
    for profile in ["local", "smb3", "sftp", "gluster"] {
        assert_eq!(left_after_a_power_cut(profile, false), b"", "{profile}");
        assert_eq!(left_after_a_power_cut(profile, true), b"data", "{profile}");
    }
}

#[test]
fn where_there_is_no_fsync_only_close_says_that_a_write_failed() {
    let (drive, a, b) = drive_of(Profile::named("fuse").unwrap(), 7);
    drive.lock().unwrap().add_fault(fault("N14")).unwrap();
    let fd = a.open("f", rw(), 0o644).unwrap();
    a.write_at(fd, 0, b"data").unwrap();
    assert_eq!(a.fsync(fd), Ok(()), "as the kernel answers for a program that has none");
    assert_eq!(get(&b, "f").unwrap(), b"", "nothing has left the host");
    assert_eq!(a.close(fd), Err(Errno::EIO));
    assert_eq!(get(&b, "f").unwrap(), b"");
}

#[test]
fn u10_a_refused_change_changes_nothing() {
    let (a, b) = nfs();
    put(&a, "f", b"data");
    a.drive().add_fault(Fault { count: 0, errno: Some("EACCES".into()), ..fault("U10") }).unwrap();
    assert_eq!(a.link("f", "g"), Err(Errno::EACCES));
    assert_eq!(a.unlink("f"), Err(Errno::EACCES));
    assert_eq!(get(&b, "f").unwrap(), b"data");
}

/// A random walk over the drive by two hosts, under faults; its answers as one number.
fn walk(seed: u64) -> (u64, u64, u64) {
    let (drive, a, b) = drive_of(Profile { rtt_us: 200, ..Profile::nfs4() }, seed);
    for (name, probability) in [("N7", 0.05), ("N9", 0.02), ("N14", 0.02), ("N16", 0.01), ("U8", 0.1), ("N8", 0.02)] {
        let wanted = Fault { probability, count: 0, delay_ms: 5, jitter_ms: 50, ..fault(name) };
        drive.lock().unwrap().add_fault(wanted).unwrap();
    }
    let mut rng = rng::Rng::new(seed ^ 99);
    let mut answers = String::new();
    for _ in 0..3000 {
        let host = if rng.chance(0.5) { &a } else { &b };
        let (one, two) = (format!("f{}", rng.below(6)), format!("f{}", rng.below(6)));
        let answer = match rng.below(7) {
            0 => format!("{:?}", host.link(&one, &two)),
            1 => format!("{:?}", host.unlink(&one)),
            2 => format!("{:?}", host.rename(&one, &two)),
            3 => format!("{:?}", get(host, &one)),
            4 => format!("{:?}", host.readdir("/")),
            5 => format!("{:?}", host.drive().restart(Loss::Some)),
            _ => {
                let fd = host.open(&one, rw(), 0o644);
                let written = fd.map(|fd| (host.write_at(fd, rng.below(9000), &[rng.below(256) as u8; 50]), host.close(fd)));
                format!("{written:?}")
            }
        };
        answers.push_str(&answer);
        host.drive().advance(rng.below(SECOND));
    }
    let drive = drive.lock().unwrap();
    (xxhash_rust::xxh3::xxh3_64(answers.as_bytes()), drive.now(), drive.trips(0).total())
}

#[test]
fn the_same_seed_gives_the_same_answers_the_same_clock_and_the_same_counts() {
    for seed in 0..5 {
        assert_eq!(walk(seed), walk(seed), "seed {seed}");
    }
    assert_ne!(walk(1).0, walk(2).0, "and another seed others");
}
