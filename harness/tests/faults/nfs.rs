//! Faults of NFS.

use harness::drive::catalogue::Phase;
use harness::drive::handle::OpenFlags;
use harness::drive::locks::LockKind;
use harness::drive::{Drive, Errno, Fail, Kind, Loss, ROOT};

use crate::Case;
use crate::stage::{ALL, SECOND, Stage, get, ino, names, put, rw, try_put};

pub(crate) fn case(id: &str) -> Option<Case> {
    Some(match id {
        "N1" | "F6" | "O6" => stale_cache,
        "N2" => unasked_open,
        "N3" => stale_name,
        "N4" | "S9" => stale_listing,
        "N5" | "N6" | "N26" | "S5" => late,
        "N7" => repeated_request,
        "N8" => late_duplicate,
        "N9" => soft_timeout,
        "N10" => withheld_reply,
        "N11" => server_restart,
        "N12" => power_cut,
        "N13" | "S10" | "F3" => lying_server,
        "N14" | "F5" => late_write_error,
        "N15" => drive_full,
        "N16" => stale_handle,
        "N17" => silly_rename,
        "N18" => removed_elsewhere,
        "N19" => split_write,
        "N20" => lost_lease,
        "N21" | "F7" | "O10" | "Y12" => local_locks,
        "N22" => grace_period,
        "N23" => append_collision,
        "N24" => clock_skew,
        "N25" => unchanged_validator,
        _ => return None,
    })
}

fn stale_cache(stage: &Stage) {
    put(&stage.a, "f", b"old");
    stage.plan(|fault| fault.count = 0);
    let fd = stage.b.open("f", OpenFlags::reading(), 0).unwrap();
    assert_eq!(stage.b.read_at(fd, 0, 9).unwrap(), b"old");
    put(&stage.a, "f", b"new");
    stage.pass(100);
    assert_eq!(stage.b.read_at(fd, 0, 9).unwrap(), b"old", "its time is over long since");
    stage.a.drive().heal();
    assert_eq!(stage.b.read_at(fd, 0, 9).unwrap(), b"new");
}

fn unasked_open(stage: &Stage) {
    put(&stage.a, "f", b"old");
    assert_eq!(get(&stage.b, "f").unwrap(), b"old");
    stage.plan(|fault| fault.count = 0);
    put(&stage.a, "f", b"new");
    assert_eq!(get(&stage.b, "f").unwrap(), b"old", "opened without asking");
    stage.pass(100);
    assert_eq!(get(&stage.b, "f").unwrap(), b"new", "after its time it asks");
}

fn stale_name(stage: &Stage) {
    put(&stage.a, "f", b"old");
    assert_eq!((stage.b.stat("g"), get(&stage.b, "f").unwrap()), (Err(Errno::ENOENT), b"old".to_vec()));
    stage.plan(|fault| fault.count = 0);
    put(&stage.a, "g", b"there");
    put(&stage.a, "other", b"new");
    let kept = stage.a.open("f", OpenFlags::reading(), 0).unwrap();
    stage.a.link("f", "still").unwrap();
    stage.a.rename("other", "f").unwrap();
    stage.pass(100);
    assert_eq!(stage.b.stat("g"), Err(Errno::ENOENT), "an absent name");
    assert_eq!(get(&stage.b, "f").unwrap(), b"old", "a replaced one resolves to the old file");
    stage.a.close(kept).unwrap();
    stage.a.drive().heal();
    assert_eq!(get(&stage.b, "g").unwrap(), b"there");
}

fn stale_listing(stage: &Stage) {
    for name in ["one", "two", "three"] {
        put(&stage.a, name, b"");
    }
    if stage.phase == Phase::P3 {
        stage.plan(|_| {});
        let seen = names(&stage.b, "/");
        assert!(seen.len() == 2 || seen.len() == 4, "one is skipped or comes twice: {seen:?}");
        return;
    }
    assert_eq!(names(&stage.b, "/").len(), 3);
    stage.plan(|fault| fault.count = 0);
    put(&stage.a, "four", b"");
    stage.pass(100);
    assert_eq!(names(&stage.b, "/").len(), 3, "an old one");
    stage.a.drive().heal();
    assert_eq!(names(&stage.b, "/").len(), 4);
}

fn late(stage: &Stage) {
    put(&stage.a, "f", b"old");
    stage.plan(|fault| (fault.op, fault.delay_ms) = (vec![Kind::Link], 700));
    assert!(stage.takes(|| stage.a.link("f", "g").unwrap()) >= 700);
    assert_eq!(get(&stage.b, "g").unwrap(), b"old", "and nothing else");
}

fn repeated_request(stage: &Stage) {
    put(&stage.a, "f", b"x");
    stage.plan(|fault| fault.count = 0);
    assert_eq!(stage.a.link("f", "g"), Err(Errno::EEXIST));
    assert_eq!(stage.a.mkdir("d", 0o755), Err(Errno::EEXIST));
    assert_eq!(stage.a.rename("f", "h"), Err(Errno::ENOENT));
    assert_eq!(stage.a.unlink("h"), Err(Errno::ENOENT));
    assert_eq!(names(&stage.b, "/"), ["d", "g"], "though all of it was done");
}

fn late_duplicate(stage: &Stage) {
    stage.plan(|fault| (fault.op, fault.delay_ms) = (vec![Kind::Write], 500));
    put(&stage.a, "f", b"old");
    put(&stage.a, "f", b"new");
    assert_eq!(get(&stage.b, "f").unwrap(), b"new");
    stage.pass(1);
    assert_eq!(get(&stage.c, "f").unwrap(), b"old", "an old write came again");
}

fn soft_timeout(stage: &Stage) {
    put(&stage.a, "f", b"x");
    stage.plan(|fault| fault.op = vec![Kind::Link]);
    assert_eq!(stage.a.link("f", "g"), Err(Errno::EIO));
    assert_eq!(get(&stage.b, "g").is_ok(), !stage.is_before(), "done or not, as the phase says");
    stage.plan(|fault| {
        (fault.op, fault.apply, fault.delay_ms) = (vec![Kind::Link], harness::drive::Apply::Later, 500);
        fault.errno = Some("ETIMEDOUT".into());
    });
    assert_eq!(stage.a.link("f", "h"), Err(Errno::ETIMEDOUT));
    assert_eq!(stage.c.stat("h"), Err(Errno::ENOENT));
    stage.pass(100);
    assert_eq!(get(&stage.c, "h").unwrap(), b"x", "or later");
}

fn withheld_reply(stage: &Stage) {
    put(&stage.a, "f", b"x");
    let (source, host) = (ino(&stage.a, "f"), stage.a.host());
    stage.plan(|fault| fault.op = vec![Kind::Link]);
    let link = |drive: &mut Drive| {
        drive.begin(5);
        drive.link(host, source, ROOT, "g").map(drop)
    };
    assert_eq!(link(&mut stage.a.drive()), Err(Fail::Stall));
    stage.pass(3600);
    assert_eq!(link(&mut stage.a.drive()), Err(Fail::Stall), "for as long as it likes");
    assert_eq!(get(&stage.b, "g").is_ok(), stage.phase == Phase::P5);
    stage.a.drive().heal();
    assert_eq!(link(&mut stage.a.drive()), Ok(()), "until it is healed");
}

/// A lock and unstable bytes: what a restart takes.
fn unstable(stage: &Stage) -> u64 {
    put(&stage.a, "safe", b"kept");
    put(&stage.a, "lock", b"");
    let lock = stage.a.open("lock", rw(), 0).unwrap();
    stage.a.try_lock(lock, 1, ALL, LockKind::Exclusive).unwrap();
    let fd = stage.a.open("f", rw(), 0o644).unwrap();
    stage.a.write_at(fd, 0, b"first").unwrap();
    stage.a.write_at(fd, 9000, b"second").unwrap();
    fd
}

fn server_restart(stage: &Stage) {
    let fd = unstable(stage);
    stage.plan(|fault| (fault.op, fault.skip) = (vec![Kind::Write], 1));
    stage.a.fsync(fd).unwrap();
    stage.a.close(fd).unwrap();
    let data = get(&stage.b, "f").unwrap();
    assert_eq!((&data[..5], &data[9000..]), (&b"first"[..], &b"second"[..]), "a living client sends it again");
    let other = stage.b.open("lock", rw(), 0).unwrap();
    assert_eq!(stage.b.try_lock(other, 1, ALL, LockKind::Exclusive), Ok(()), "locks are gone");
}

fn power_cut(stage: &Stage) {
    let fd = unstable(stage);
    stage.plan(|fault| {
        (fault.op, fault.skip, fault.delay_ms) = (vec![Kind::Write], 1, 2_000);
        fault.loss = Some("all".into());
    });
    assert!(stage.a.fsync(fd).is_err(), "the host is gone");
    assert_eq!(get(&stage.b, "safe").unwrap(), b"kept", "what was synced is there");
    let left = get(&stage.b, "f").unwrap().len();
    assert_eq!(left == 9006, stage.phase == Phase::P4, "what was not stable is not all there: {left}");
    assert_eq!(stage.a.stat("safe"), Err(Errno::EIO));
    stage.pass(3);
    assert_eq!(get(&stage.a, "safe").unwrap(), b"kept", "it is back");
}

fn lying_server(stage: &Stage) {
    stage.plan(|fault| fault.count = 0);
    put(&stage.a, "f", b"told that it is safe");
    assert_eq!(get(&stage.b, "f").unwrap(), b"told that it is safe");
    assert!(stage.a.drive().restart(Loss::All).writes_lost > 0);
    assert_eq!(get(&stage.c, "f").unwrap(), b"");
    // By itself, after a time.
    stage.a.drive().heal();
    stage.plan(|fault| fault.delay_ms = 500);
    put(&stage.a, "g", b"as well");
    stage.pass(1);
    assert_eq!(get(&stage.c, "g").unwrap(), b"");
}

fn late_write_error(stage: &Stage) {
    put(&stage.a, "f", b"old");
    let fd = stage.a.open("f", rw(), 0).unwrap();
    stage.a.read_at(fd, 0, 3).unwrap();
    let behind = stage.id == "N14";
    stage.plan(|fault| fault.op = vec![Kind::Write]);
    assert_eq!(stage.a.write_at(fd, 0, b"new"), Ok(3), "accepted");
    assert_eq!(stage.a.fsync(fd), Err(Errno::EIO), "told");
    assert_eq!(stage.a.fsync(fd), Ok(()), "once");
    if behind {
        assert_eq!(stage.a.read_at(fd, 0, 3).unwrap(), b"new", "and still read here");
    }
    assert_eq!(get(&stage.b, "f").unwrap(), b"old", "though the server never got it");
}

fn drive_full(stage: &Stage) {
    put(&stage.a, "f", b"kept");
    stage.plan(|fault| fault.op = vec![Kind::Write]);
    assert_eq!(try_put(&stage.a, "g", &[1; 9000]), Err(Errno::ENOSPC), "at fsync or close");
    stage.plan(|fault| (fault.op, fault.errno) = (vec![Kind::Link], Some("EDQUOT".into())));
    assert_eq!(stage.a.link("f", "h"), Err(Errno::EDQUOT));
    put(&stage.a, "g", &[2; 9000]);
    assert_eq!(get(&stage.b, "g").unwrap(), [2; 9000], "then there is space again");
}

fn stale_handle(stage: &Stage) {
    put(&stage.a, "f", b"data");
    let fd = stage.a.open("f", rw(), 0).unwrap();
    stage.plan(|fault| fault.op = vec![Kind::Getattr]);
    assert_eq!(stage.a.fstat(fd, true), Err(Errno::ESTALE));
    assert_eq!(stage.a.read_at(fd, 0, 4), Err(Errno::ESTALE));
    assert_eq!(stage.a.close(fd), Err(Errno::ESTALE));
    assert_eq!(get(&stage.a, "f").unwrap(), b"data", "the path is well");
    stage.plan(|fault| fault.op = vec![Kind::Open]);
    assert_eq!(stage.a.open("f", OpenFlags::reading(), 0), Err(Errno::ESTALE), "at an open twice, for the kernel tries again");
    assert_eq!(get(&stage.a, "f").unwrap(), b"data");
}

fn silly_rename(stage: &Stage) {
    put(&stage.a, "f", b"data");
    let fd = stage.a.open("f", OpenFlags::reading(), 0).unwrap();
    stage.plan(|_| {});
    stage.a.unlink("f").unwrap();
    assert!(names(&stage.b, "/")[0].starts_with(".nfs"));
    assert_eq!(stage.a.read_at(fd, 0, 9).unwrap(), b"data");
    stage.a.drive().crash(0);
    stage.a.drive().boot(0);
    stage.pass(100);
    assert!(names(&stage.b, "/")[0].starts_with(".nfs"), "an orphan when the host dies");
}

fn removed_elsewhere(stage: &Stage) {
    put(&stage.a, "f", &[7; 300_000]);
    let fd = stage.b.open("f", OpenFlags::reading(), 0).unwrap();
    assert_eq!(stage.b.read_at(fd, 0, 10).unwrap(), [7; 10]);
    stage.plan(|fault| (fault.host, fault.op) = (Some("host-b".into()), vec![Kind::Read]));
    assert_eq!(stage.b.read_at(fd, 200_000, 10), Err(Errno::ESTALE), "not cached");
    assert_eq!(stage.b.read_at(fd, 0, 10).unwrap(), [7; 10], "cached");
}

fn split_write(stage: &Stage) {
    put(&stage.a, "f", b"");
    let fd = stage.a.open("f", rw(), 0).unwrap();
    stage.a.write_at(fd, 0, &[7; 20_000]).unwrap();
    stage.plan(|fault| (fault.op, fault.delay_ms) = (vec![Kind::Write], 1_000));
    let host = stage.a.host();
    let sync = |drive: &mut Drive| {
        drive.begin(9);
        drive.fsync(host, fd)
    };
    assert_eq!(sync(&mut stage.a.drive()), Err(Fail::Stall));
    let seen = get(&stage.b, "f").unwrap();
    assert_eq!(seen.len(), 20_000, "the last part is there");
    assert!(seen.iter().step_by(4096).any(|&byte| byte == 0), "and a hole reads as zeros");
    stage.pass(2);
    assert_eq!(sync(&mut stage.a.drive()), Ok(()));
    assert_eq!(get(&stage.c, "f").unwrap(), [7; 20_000]);
}

fn lost_lease(stage: &Stage) {
    put(&stage.a, "f", b"data");
    let (fa, fb) = (stage.a.open("f", rw(), 0).unwrap(), stage.b.open("f", rw(), 0).unwrap());
    stage.a.try_lock(fa, 1, ALL, LockKind::Exclusive).unwrap();
    assert_eq!(stage.b.try_lock(fb, 1, ALL, LockKind::Exclusive), Err(Errno::EAGAIN));
    stage.plan(|fault| (fault.host, fault.op) = (Some("host-a".into()), vec![Kind::Getattr]));
    stage.a.fstat(fa, true).unwrap();
    assert_eq!(stage.b.try_lock(fb, 1, ALL, LockKind::Exclusive), Ok(()));
    assert_eq!(stage.a.write_at(fa, 0, b"more"), Ok(4), "the old holder goes on");
    stage.b.unlock(fb, 1, ALL).unwrap();
    stage.a.try_lock(fa, 1, ALL, LockKind::Exclusive).unwrap();
    stage.plan(|fault| {
        (fault.host, fault.op) = (Some("host-a".into()), vec![Kind::Getattr]);
        fault.errno = Some("EIO".into());
    });
    let _ = stage.a.fstat(fa, true);
    assert_eq!(stage.a.write_at(fa, 0, b"more"), Err(Errno::EIO), "or is told");
}

fn local_locks(stage: &Stage) {
    put(&stage.a, "f", b"data");
    let (fa, fb) = (stage.a.open("f", rw(), 0).unwrap(), stage.b.open("f", rw(), 0).unwrap());
    stage.plan(|fault| fault.count = 0);
    stage.a.try_lock(fa, 1, ALL, LockKind::Exclusive).unwrap();
    assert_eq!(stage.a.try_lock(fa, 2, ALL, LockKind::Exclusive), Err(Errno::EAGAIN), "one host");
    assert_eq!(stage.b.try_lock(fb, 1, ALL, LockKind::Exclusive), Ok(()), "granted to both");
}

fn grace_period(stage: &Stage) {
    put(&stage.a, "f", b"data");
    let fd = stage.a.open("f", rw(), 0).unwrap();
    stage.plan(|fault| (fault.op, fault.delay_ms) = (vec![Kind::Lock], 2_000));
    let took = stage.takes(|| {
        stage.a.try_lock(fd, 1, ALL, LockKind::Shared).unwrap();
        stage.a.try_lock(fd, 2, ALL, LockKind::Shared).unwrap();
    });
    assert!(took >= 2_000, "{took}");
    stage.plan(|fault| (fault.op, fault.errno) = (vec![Kind::Lock], Some("EAGAIN".into())));
    let refused = (0..2).any(|owner| stage.a.try_lock(fd, 3 + owner, ALL, LockKind::Shared) == Err(Errno::EAGAIN));
    assert!(refused, "or is refused");
}

fn append_collision(stage: &Stage) {
    put(&stage.a, "f", b"");
    let append = harness::drive::handle::OpenFlags { append: true, ..rw() };
    let (fa, fb) = (stage.a.open("f", append, 0).unwrap(), stage.b.open("f", append, 0).unwrap());
    stage.plan(|fault| fault.host = Some("host-b".into()));
    stage.a.write_at(fa, 0, b"aaaa").unwrap();
    stage.a.fsync(fa).unwrap();
    stage.b.write_at(fb, 0, b"bb").unwrap();
    stage.b.fsync(fb).unwrap();
    assert_eq!(get(&stage.c, "f").unwrap(), b"bbaa", "both picked the same offset");
}

fn clock_skew(stage: &Stage) {
    put(&stage.a, "f", b"data");
    stage.plan(|fault| {
        (fault.host, fault.op) = (Some("host-a".into()), vec![Kind::Link]);
        (fault.offset_ms, fault.drift_ppm) = (-5_000, 1_000);
    });
    stage.a.link("f", "g").unwrap();
    let before = stage.a.drive().clock_offset(0);
    stage.pass(1_000);
    let drifted = stage.a.drive().clock_offset(0) - before;
    assert_eq!((before, drifted), (-5 * SECOND as i64, SECOND as i64), "a step, and a millisecond a second");
    assert_eq!(stage.b.drive().clock_offset(1), 0, "the other host's is right");
}

fn unchanged_validator(stage: &Stage) {
    put(&stage.a, "f", b"old");
    assert_eq!(get(&stage.b, "f").unwrap(), b"old");
    stage.plan(|fault| (fault.host, fault.op) = (Some("host-a".into()), vec![Kind::Write]));
    put(&stage.a, "f", b"new");
    assert_eq!(get(&stage.b, "f").unwrap(), b"old", "it asked, and was told that nothing had changed");
    assert_eq!(get(&stage.c, "f").unwrap(), b"new");
}
