//! Faults of every drive.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use harness::drive::catalogue::Phase;
use harness::drive::handle::OpenFlags;
use harness::drive::locks::LockKind;
use harness::drive::{Errno, Kind};

use crate::Case;
use crate::stage::{ALL, Stage, get, names, put, rw, try_put};

pub(crate) fn case(id: &str) -> Option<Case> {
    Some(match id {
        "U1" => flipped_bit,
        "U2" => misplaced_bytes,
        "U3" => lost_write,
        "U4" => rolled_back,
        "U5" => killed,
        "U6" => paused,
        "U7" => cut_off,
        "U8" => slow,
        "U9" => interrupted,
        "U10" => refused,
        _ => return None,
    })
}

fn flipped_bit(stage: &Stage) {
    put(&stage.a, "f", &[0; 1000]);
    stage.plan(|fault| fault.path = Some("f".into()));
    let ones = |data: Vec<u8>| data.iter().map(|byte| byte.count_ones()).sum::<u32>();
    assert_eq!(ones(get(&stage.b, "f").unwrap()), 1);
    // On its way only this reader is told; at rest everybody is.
    assert_eq!(ones(get(&stage.c, "f").unwrap()), u32::from(stage.phase == Phase::P4));
}

fn misplaced_bytes(stage: &Stage) {
    put(&stage.a, "f", &[b'f'; 100]);
    put(&stage.a, "g", &[b'g'; 100]);
    stage.plan(|fault| {
        fault.path = Some("f".into());
        fault.op = vec![if stage.phase == Phase::P5 { Kind::Read } else { Kind::Write }];
    });
    if stage.phase == Phase::P5 {
        assert_eq!(get(&stage.b, "f").unwrap(), [b'g'; 100], "well formed, and another file's");
        assert_eq!(get(&stage.c, "f").unwrap(), [b'f'; 100]);
    } else {
        put(&stage.a, "f", &[b'n'; 100]);
        assert_eq!((get(&stage.b, "f").unwrap(), get(&stage.b, "g").unwrap()), (vec![b'f'; 100], vec![b'n'; 100]));
    }
}

fn lost_write(stage: &Stage) {
    put(&stage.a, "f", b"old");
    stage.plan(|_| {});
    put(&stage.a, "f", b"new");
    assert_eq!(get(&stage.b, "f").unwrap(), b"old", "acknowledged, and never made");
}

pub(crate) fn rolled_back(stage: &Stage) {
    put(&stage.a, "f", b"old");
    // The image is of the first folder's making, which is let pass.
    stage.plan(|fault| (fault.op, fault.skip) = (vec![Kind::Create], 1));
    stage.a.mkdir("first", 0o755).unwrap();
    put(&stage.a, "f", b"newer");
    put(&stage.a, "g", b"later");
    // Where it is rolled back after the second folder was made, that is gone too.
    let _ = stage.a.mkdir("second", 0o755);
    assert_eq!(get(&stage.c, "f").unwrap(), b"old");
    assert_eq!(names(&stage.c, "/"), if stage.is_before() { vec!["f", "second"] } else { vec!["f"] });
    // One file alone.
    put(&stage.c, "h", b"old");
    stage.a.drive().heal();
    stage.plan(|fault| (fault.path, fault.op, fault.skip) = (Some("h".into()), vec![Kind::Setattr], 1));
    let fd = stage.c.open("h", rw(), 0).unwrap();
    stage.c.truncate(fd, 1).unwrap();
    put(&stage.c, "i", b"stays");
    stage.c.truncate(fd, 2).unwrap();
    stage.c.close(fd).unwrap();
    stage.pass(100);
    assert_eq!(get(&stage.b, "h").unwrap(), if stage.is_before() { b"ol".to_vec() } else { b"old".to_vec() });
    assert_eq!(get(&stage.b, "i").unwrap(), b"stays");
}

fn killed(stage: &Stage) {
    put(&stage.a, "f", b"old");
    stage.plan(|fault| fault.op = vec![Kind::Link]);
    let dead = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&dead);
    let victim = stage.a.clone().with_killer(Arc::new(move || flag.store(true, Ordering::SeqCst)));
    assert_eq!(victim.link("f", "g"), Err(Errno::EINTR));
    assert!(dead.load(Ordering::SeqCst), "it is told of its death");
    assert_eq!(get(&stage.b, "g").is_ok(), !stage.is_before(), "and the request was carried out or not, as the phase says");
}

fn paused(stage: &Stage) {
    put(&stage.a, "f", b"old");
    stage.plan(|fault| (fault.op, fault.delay_ms) = (vec![Kind::Link], 90_000));
    assert!(stage.takes(|| stage.a.link("f", "g").unwrap()) >= 90_000, "past every timer");
    assert_eq!(get(&stage.b, "g").unwrap(), b"old");
}

fn cut_off(stage: &Stage) {
    put(&stage.a, "f", b"old");
    stage.plan(|fault| (fault.op, fault.delay_ms) = (vec![Kind::Link], 3_000));
    // Step by step: the call stalls, and the other host sees whether it was carried out.
    let (source, host) = (stage.a.stat("f").unwrap().ino, stage.a.host());
    stage.a.drive().begin(77);
    let first = stage.a.drive().link(host, source, harness::drive::ROOT, "g");
    assert_eq!(first, Err(harness::drive::Fail::Stall));
    let arrived = get(&stage.b, "g").is_ok();
    assert_eq!(arrived, !stage.is_before(), "requests are lost at P1 and P2, replies from P3 on");
    stage.pass(4);
    stage.a.drive().begin(77);
    assert!(stage.a.drive().link(host, source, harness::drive::ROOT, "g").is_ok(), "carried out once, whichever was lost");
}

fn slow(stage: &Stage) {
    stage.plan(|fault| (fault.op, fault.delay_ms, fault.jitter_ms) = (vec![Kind::Write], 300, 100));
    let took = stage.takes(|| put(&stage.a, "f", b"x"));
    assert!((300..=420).contains(&took), "{took} ms");
    assert_eq!(get(&stage.b, "f").unwrap(), b"x");
    // A megabyte at a megabyte a second.
    stage.a.drive().heal();
    if !stage.is_before() {
        stage.plan(|fault| (fault.op, fault.bandwidth) = (vec![Kind::Write], 1 << 20));
        let took = stage.takes(|| put(&stage.a, "large", &[1; 1 << 20]));
        assert!((900..=1100).contains(&took), "{took} ms");
    }
}

fn interrupted(stage: &Stage) {
    put(&stage.a, "f", &[7; 1000]);
    let fd = stage.a.open("f", rw(), 0).unwrap();
    stage.plan(|fault| fault.op = vec![Kind::Read]);
    assert_eq!(stage.a.read_at(fd, 0, 1000).unwrap().len(), 500, "a short read");
    assert_eq!(stage.a.read_at(fd, 0, 1000).unwrap().len(), 1000);
    stage.plan(|fault| fault.op = vec![Kind::Write]);
    assert_eq!(stage.a.write_at(fd, 0, &[8; 100]), Ok(50), "a short write");
    for (errno, name) in [(Errno::EINTR, "EINTR"), (Errno::ENOMEM, "ENOMEM")] {
        stage.plan(|fault| (fault.op, fault.errno) = (vec![Kind::Read], Some(name.into())));
        assert_eq!(stage.a.read_at(fd, 0, 10), Err(errno));
    }
    stage.plan(|fault| fault.op = vec![Kind::Open]);
    assert_eq!(stage.a.open("f", OpenFlags::reading(), 0), Err(Errno::EMFILE));
    stage.plan(|fault| fault.op = vec![Kind::Lock]);
    assert_eq!(stage.a.try_lock(fd, 1, ALL, LockKind::Shared), Err(Errno::EINTR));
    stage.a.close(fd).unwrap();
}

fn refused(stage: &Stage) {
    put(&stage.a, "f", b"old");
    stage.plan(|fault| fault.count = 0);
    assert_eq!(stage.a.link("f", "g"), Err(Errno::EROFS));
    assert_eq!(stage.a.unlink("f"), Err(Errno::EROFS));
    assert_eq!(try_put(&stage.a, "f", b"new"), Err(Errno::EROFS));
    assert_eq!(get(&stage.b, "f").unwrap(), b"old", "and reading goes on");
    stage.a.drive().heal();
    stage.plan(|fault| fault.errno = Some("EACCES".into()));
    assert_eq!(stage.a.link("f", "g"), Err(Errno::EACCES));
}
