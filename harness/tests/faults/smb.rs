//! Faults of SMB, and of SFTP where they are its own.

use harness::drive::handle::OpenFlags;
use harness::drive::locks::{LockKind, Range};
use harness::drive::{Drive, Errno, Fail, Kind, ROOT};

use crate::Case;
use crate::stage::{ALL, Stage, get, names, put, rw, try_put};

pub(crate) fn case(id: &str) -> Option<Case> {
    Some(match id {
        "S1" => share_conflict,
        "S2" => delete_pending,
        "S3" => rename_open_file,
        "S4" => lease_break,
        "S6" | "F4" => lost_session,
        "S7" => mandatory_lock,
        "S8" | "Y10" => colliding_names,
        "S11" | "Y7" => third_party,
        "F1" => rename_refused,
        "F2" => rename_in_steps,
        "F8" => prefix_left,
        _ => return None,
    })
}

fn share_conflict(stage: &Stage) {
    put(&stage.a, "f", b"data");
    stage.plan(|fault| fault.count = 0);
    assert_eq!(get(&stage.a, "f").unwrap(), b"data", "nobody has it open");
    let fd = stage.b.open("f", OpenFlags::reading(), 0).unwrap();
    assert_eq!(get(&stage.a, "f"), Err(Errno::EBUSY));
    stage.b.close(fd).unwrap();
    assert_eq!(get(&stage.a, "f").unwrap(), b"data");
}

fn delete_pending(stage: &Stage) {
    put(&stage.a, "f", b"data");
    let fd = stage.b.open("f", OpenFlags::reading(), 0).unwrap();
    stage.plan(|_| {});
    assert_eq!(stage.a.unlink("f"), Ok(()));
    assert_eq!(try_put(&stage.a, "f", b"new"), Err(Errno::EBUSY), "the name is taken until it is closed");
    assert_eq!(stage.b.read_at(fd, 0, 9).unwrap(), b"data");
    stage.b.close(fd).unwrap();
    put(&stage.a, "f", b"new");
    assert_eq!(get(&stage.c, "f").unwrap(), b"new");
}

fn rename_open_file(stage: &Stage) {
    put(&stage.a, "f", b"old");
    put(&stage.a, "g", b"new");
    stage.plan(|fault| fault.count = 0);
    let fd = stage.b.open("f", OpenFlags::reading(), 0).unwrap();
    assert_eq!(stage.a.rename("g", "f"), Err(Errno::EACCES), "over it");
    assert_eq!(stage.a.rename("f", "h"), Err(Errno::EACCES), "of it");
    stage.b.close(fd).unwrap();
    assert_eq!(get(&stage.c, "f").unwrap(), b"old", "intact");
    assert_eq!(stage.a.rename("g", "f"), Ok(()));
}

fn lease_break(stage: &Stage) {
    put(&stage.a, "f", b"old");
    let fd = stage.b.open("f", rw(), 0).unwrap();
    stage.b.write_at(fd, 0, b"new").unwrap();
    stage.plan(|fault| (fault.host, fault.delay_ms) = (Some("host-a".into()), 500));
    let took = stage.takes(|| assert_eq!(get(&stage.a, "f").unwrap(), b"new", "written back for it"));
    assert!(took >= 500, "{took}");
}

fn lost_session(stage: &Stage) {
    put(&stage.a, "f", b"old");
    let fd = stage.a.open("f", rw(), 0).unwrap();
    stage.a.try_lock(fd, 1, ALL, LockKind::Exclusive).unwrap();
    stage.a.write_at(fd, 0, b"new").unwrap();
    stage.plan(|fault| fault.op = vec![Kind::Statfs]);
    let dead = if stage.id == "F4" { Errno::EIO } else { Errno::EBADF };
    assert_eq!(stage.a.statfs().map(drop), Err(dead), "what was in flight fails");
    assert_eq!(stage.a.read_at(fd, 0, 3), Err(dead));
    assert_eq!(stage.a.fsync(fd), Err(dead));
    let other = stage.b.open("f", rw(), 0).unwrap();
    assert_eq!(stage.b.try_lock(other, 1, ALL, LockKind::Exclusive), Ok(()), "locks are gone");
    if stage.id == "S6" {
        assert_eq!(get(&stage.c, "f").unwrap(), b"old", "what waited to be written is lost");
    }
    put(&stage.a, "f", b"again");
    assert_eq!(get(&stage.a, "f").unwrap(), b"again", "a new open is well");
    // A request that was on its way.
    stage.plan(|fault| fault.op = vec![Kind::Link]);
    assert_eq!(stage.a.link("f", "g"), Err(dead));
    assert_eq!(get(&stage.c, "g").is_ok(), !stage.is_before());
}

fn mandatory_lock(stage: &Stage) {
    put(&stage.a, "f", &[7; 100]);
    let (fa, fb) = (stage.a.open("f", rw(), 0).unwrap(), stage.b.open("f", rw(), 0).unwrap());
    stage.b.try_lock(fb, 1, Range { start: 10, end: 19 }, LockKind::Exclusive).unwrap();
    stage.plan(|fault| fault.count = 0);
    assert_eq!(stage.a.read_at(fa, 15, 1), Err(Errno::EACCES));
    assert_eq!(stage.a.write_at(fa, 5, &[1; 10]), Err(Errno::EACCES));
    assert_eq!(stage.a.read_at(fa, 20, 5).unwrap(), [7; 5], "beside it");
    assert_eq!(stage.b.read_at(fb, 10, 5).unwrap(), [7; 5], "the holder");
}

fn colliding_names(stage: &Stage) {
    put(&stage.a, "Foo", b"first");
    stage.plan(|fault| fault.count = 0);
    put(&stage.a, "foo", b"second");
    assert_eq!(names(&stage.b, "/"), ["Foo"], "one file");
    assert_eq!(get(&stage.b, "Foo").unwrap(), b"second");
    put(&stage.a, "bar. ", b"x");
    assert_eq!(get(&stage.c, "bar").unwrap(), b"x");
    assert_eq!(try_put(&stage.a, "NUL.txt", b"x"), Err(Errno::EINVAL));
}

fn third_party(stage: &Stage) {
    put(&stage.a, "f", b"data");
    stage.plan(|fault| (fault.op, fault.delay_ms) = (vec![Kind::Open], 1_000));
    assert_eq!(get(&stage.a, "f"), Err(Errno::EBUSY));
    let waited = stage.takes(|| {
        while stage.a.unlink("f") == Err(Errno::EBUSY) {
            stage.a.drive().advance(10_000_000);
        }
    });
    assert!(waited <= 1_010, "for a random short time: {waited} ms");
}

fn rename_refused(stage: &Stage) {
    put(&stage.a, "f", b"old");
    put(&stage.a, "g", b"new");
    stage.plan(|fault| fault.count = 0);
    assert_eq!(stage.a.rename("g", "f"), Err(Errno::EPERM));
    assert_eq!(get(&stage.b, "f").unwrap(), b"old");
    assert_eq!(stage.a.rename("g", "h"), Ok(()), "onto a free name it is well");
}

fn rename_in_steps(stage: &Stage) {
    put(&stage.a, "f", b"old");
    put(&stage.a, "temp", b"new");
    stage.plan(|fault| (fault.delay_ms, fault.count) = (1_000, 0));
    let host = stage.a.host();
    let rename = |drive: &mut Drive, caller| {
        drive.begin(caller);
        drive.rename(host, (ROOT, "temp"), (ROOT, "f"))
    };
    assert_eq!(rename(&mut stage.a.drive(), 3), Err(Fail::Stall));
    assert_eq!(stage.b.stat("f"), Err(Errno::ENOENT), "the name is absent meanwhile");
    stage.pass(2);
    assert_eq!(rename(&mut stage.a.drive(), 3), Ok(()));
    assert_eq!(get(&stage.c, "f").unwrap(), b"new");
    put(&stage.a, "temp", b"newer");
    assert_eq!(rename(&mut stage.a.drive(), 4), Err(Fail::Stall));
    stage.a.drive().crash(0);
    stage.pass(60);
    assert_eq!(names(&stage.c, "/"), ["temp"], "a crash leaves only the temporary one");
}

fn prefix_left(stage: &Stage) {
    stage.plan(|_| {});
    assert_eq!(try_put(&stage.a, "f", b"abcdef"), Err(Errno::EIO));
    assert_eq!(get(&stage.b, "f").unwrap(), b"abc");
}
