//! Faults of object stores behind a mount, and of synchronised folders.

use harness::drive::handle::OpenFlags;
use harness::drive::{Apply, Drive, Errno, Fail, Kind, ROOT};

use crate::Case;
use crate::stage::{Stage, get, names, put, rw, try_put};

pub(crate) fn case(id: &str) -> Option<Case> {
    Some(match id {
        "O1" => visible_at_close,
        "O2" => lost_upload,
        "O3" => unsupported_call,
        "O4" => torn_rename,
        "O5" => last_writer_wins,
        "O7" => mixed_versions,
        "O8" => error_burst,
        "O9" => conflict_with_itself,
        "O11" => orphan_parts,
        "Y1" => conflicted_copy,
        "Y2" | "Y8" => late_arrival,
        "Y3" => visible_prefix,
        "Y4" => absent_window,
        "Y5" => returned_name,
        "Y6" => placeholder,
        "Y9" => foreign_mtime,
        "Y11" => crate::universal::rolled_back,
        _ => return None,
    })
}

fn visible_at_close(stage: &Stage) {
    stage.plan(|fault| fault.count = 0);
    let fd = stage.a.open("f", rw(), 0o644).unwrap();
    stage.a.write_at(fd, 0, b"whole").unwrap();
    assert_eq!((stage.b.stat("f"), names(&stage.b, "/")), (Err(Errno::ENOENT), vec![]));
    assert_eq!(stage.a.stat("f").unwrap().size, 5, "its own host sees it");
    stage.a.close(fd).unwrap();
    assert_eq!(get(&stage.c, "f").unwrap(), b"whole");
}

fn lost_upload(stage: &Stage) {
    stage.plan(|_| {});
    put(&stage.a, "f", b"uploaded?");
    stage.pass(100);
    assert_eq!(get(&stage.a, "f").unwrap(), b"uploaded?", "its own view is normal");
    assert_eq!(get(&stage.b, "f").unwrap(), b"", "and nobody else ever sees it");
}

fn unsupported_call(stage: &Stage) {
    put(&stage.a, "f", b"old");
    stage.plan(|fault| fault.count = 0);
    let fd = stage.a.open("f", rw(), 0).unwrap();
    assert_eq!(stage.a.rename("f", "g"), Err(Errno::EOPNOTSUPP));
    assert_eq!(stage.a.link("f", "g"), Err(Errno::EOPNOTSUPP));
    assert_eq!(stage.a.try_lock(fd, 1, crate::stage::ALL, harness::drive::locks::LockKind::Shared), Err(Errno::EOPNOTSUPP));
    assert_eq!(stage.a.truncate(fd, 0), Err(Errno::EOPNOTSUPP));
    assert_eq!(try_put(&stage.a, "f", b"new"), Err(Errno::EOPNOTSUPP), "an overwrite");
    put(&stage.a, "h", b"new");
    assert_eq!((get(&stage.b, "f").unwrap(), get(&stage.b, "h").unwrap()), (b"old".to_vec(), b"new".to_vec()));
}

fn torn_rename(stage: &Stage) {
    for (apply, there) in [(Apply::Phase, vec!["f", "temp"]), (Apply::Later, vec![])] {
        put(&stage.a, "temp", b"new");
        stage.plan(|fault| (fault.apply, fault.delay_ms) = (apply, 1_000));
        let host = stage.a.host();
        let rename = |drive: &mut Drive, caller| {
            drive.begin(caller);
            drive.rename(host, (ROOT, "temp"), (ROOT, "f"))
        };
        assert_eq!(rename(&mut stage.a.drive(), 3), Err(Fail::Stall));
        assert_eq!(names(&stage.b, "/"), there, "between its steps, and after a crash there");
        stage.pass(2);
        assert_eq!(rename(&mut stage.a.drive(), 3), Ok(()));
        stage.pass(100);
        assert_eq!((names(&stage.b, "/"), get(&stage.b, "f").unwrap()), (vec!["f".to_owned()], b"new".to_vec()));
        stage.a.unlink("f").unwrap();
        stage.pass(100);
    }
    put(&stage.a, "temp", b"new");
    stage.plan(|_| {});
    stage.a.drive().begin(4);
    assert_eq!(stage.a.drive().rename(0, (ROOT, "temp"), (ROOT, "f")), Err(Fail::Stall));
    stage.a.drive().crash(0);
    stage.pass(100);
    assert_eq!(names(&stage.b, "/"), ["f", "temp"], "a crash leaves both");
}

fn last_writer_wins(stage: &Stage) {
    stage.plan(|fault| fault.count = 0);
    for (host, data) in [(&stage.a, b"first!"), (&stage.b, b"second")] {
        let fd = host.open("f", OpenFlags::creating(), 0o644).unwrap();
        host.write_at(fd, 0, data).unwrap();
        host.close(fd).unwrap();
    }
    assert_eq!(get(&stage.c, "f").unwrap(), b"second", "both were told OK");
    put(&stage.a, "g", b"third!");
    assert_eq!(stage.a.link("g", "f"), Ok(()));
    assert_eq!((stage.a.mkdir("d", 0o755), stage.b.mkdir("d", 0o755)), (Ok(()), Ok(())));
}

fn mixed_versions(stage: &Stage) {
    put(&stage.a, "warm", b"");
    stage.plan(|fault| fault.path = Some("f".into()));
    put(&stage.a, "f", b"aaaaaaaa");
    put(&stage.a, "f", b"bbbbbbbb");
    assert_eq!(get(&stage.b, "f").unwrap(), b"aaaabbbb");
    assert_eq!(get(&stage.c, "f").unwrap(), b"bbbbbbbb");
    stage.plan(|fault| (fault.path, fault.errno) = (Some("f".into()), Some("EIO".into())));
    put(&stage.a, "f", b"cccccccc");
    assert_eq!(get(&stage.b, "f"), Err(Errno::EIO), "or an error");
}

fn error_burst(stage: &Stage) {
    put(&stage.a, "f", b"x");
    stage.plan(|fault| fault.delay_ms = 2_000);
    let (mut failed, mut slow) = (0, 0);
    for _ in 0..30 {
        let mut answer = Ok(Vec::new());
        let took = stage.takes(|| answer = get(&stage.a, "f"));
        failed += u32::from(answer == Err(Errno::EIO));
        slow += u32::from(answer.is_ok() && took >= 100);
    }
    assert!(failed > 0 && slow > 0, "{failed} failed, {slow} slow");
    stage.pass(3);
    assert_eq!(get(&stage.a, "f").unwrap(), b"x", "it passes");
}

fn conflict_with_itself(stage: &Stage) {
    stage.plan(|fault| fault.count = 0);
    assert_eq!(stage.a.open("f", OpenFlags::creating(), 0o644), Err(Errno::EEXIST), "though nobody had it");
    assert_eq!(stage.a.mkdir("d", 0o755), Err(Errno::EEXIST));
    assert_eq!(names(&stage.b, "/"), ["d", "f"]);
}

fn orphan_parts(stage: &Stage) {
    let free = stage.a.statfs().unwrap().free;
    stage.plan(|_| {});
    put(&stage.a, "f", &[1; 100_000]);
    assert_eq!(get(&stage.b, "f").unwrap(), [1; 100_000], "all is well");
    stage.a.unlink("f").unwrap();
    assert!(stage.a.statfs().unwrap().free < free, "but for space that nobody gives back");
}

fn conflicted_copy(stage: &Stage) {
    put(&stage.a, "f", b"base!!");
    let fd = stage.b.open("f", rw(), 0).unwrap();
    assert_eq!(stage.b.read_at(fd, 0, 9).unwrap(), b"base!!");
    stage.plan(|fault| (fault.count, fault.host) = (0, Some("host-b".into())));
    put(&stage.a, "f", b"of a!!");
    stage.b.write_at(fd, 0, b"of b!!").unwrap();
    stage.b.close(fd).unwrap();
    let both = names(&stage.c, "/");
    assert_eq!(both, ["f", "f (conflicted copy of host-b)"]);
    assert_eq!((get(&stage.c, &both[0]).unwrap(), get(&stage.c, &both[1]).unwrap()), (b"of a!!".to_vec(), b"of b!!".to_vec()));
    // Two creations of one name.
    let create = |host: &harness::drive::DriveHandle| host.open("g", OpenFlags::creating(), 0o644).and_then(|fd| host.close(fd));
    assert_eq!((create(&stage.a), create(&stage.b)), (Ok(()), Ok(())));
    assert_eq!(names(&stage.c, "/").len(), 4);
}

fn late_arrival(stage: &Stage) {
    put(&stage.a, "base", b"old");
    stage.plan(|fault| (fault.host, fault.count, fault.delay_ms) = (Some("host-a".into()), 0, 30_000));
    for name in ["f0", "f1", "f2", "f3", "f4"] {
        put(&stage.a, name, b"new");
    }
    put(&stage.a, "base", b"new");
    assert_eq!(get(&stage.a, "f0").unwrap(), b"new", "its own host sees it");
    let all = |seen: Vec<String>| seen.iter().filter(|name| name.starts_with('f')).cloned().collect::<Vec<_>>();
    assert!(all(names(&stage.b, "/")).len() < 5, "the others do not see all");
    if stage.id == "Y8" {
        assert_eq!((all(names(&stage.b, "/")).len(), get(&stage.b, "base").unwrap()), (0, b"old".to_vec()));
    } else {
        let seen = (0..30).any(|_| {
            stage.pass(1);
            let seen = all(names(&stage.b, "/"));
            seen.iter().enumerate().any(|(at, name)| *name != format!("f{at}"))
        });
        assert!(seen, "and they come in another order");
    }
    stage.pass(31);
    assert_eq!((all(names(&stage.c, "/")).len(), get(&stage.c, "base").unwrap()), (5, b"new".to_vec()));
}

fn visible_prefix(stage: &Stage) {
    stage.plan(|fault| fault.delay_ms = 1_000);
    put(&stage.a, "f", b"abcdef");
    assert_eq!((get(&stage.b, "f").unwrap(), stage.b.stat("f").unwrap().size), (b"abc".to_vec(), 3));
    stage.pass(2);
    assert_eq!(get(&stage.b, "f").unwrap(), b"abcdef");
}

fn absent_window(stage: &Stage) {
    put(&stage.a, "f", b"old");
    put(&stage.a, "g", b"new");
    stage.plan(|fault| (fault.delay_ms, fault.op) = (1_000, vec![Kind::Rename]));
    stage.a.rename("g", "f").unwrap();
    assert_eq!(stage.b.stat("f"), Err(Errno::ENOENT));
    stage.pass(2);
    assert_eq!(get(&stage.b, "f").unwrap(), b"new");
}

fn returned_name(stage: &Stage) {
    put(&stage.a, "f", b"data");
    stage.plan(|fault| fault.delay_ms = 1_000);
    stage.a.unlink("f").unwrap();
    assert_eq!(stage.b.stat("f"), Err(Errno::ENOENT));
    stage.pass(2);
    assert_eq!(get(&stage.b, "f").unwrap(), b"data");
}

fn placeholder(stage: &Stage) {
    put(&stage.a, "f", b"data");
    stage.plan(|fault| fault.host = Some("host-b".into()));
    assert_eq!((stage.b.stat("f").unwrap().size, get(&stage.b, "f")), (4, Err(Errno::EIO)), "stat is well, reading is not");
    stage.plan(|fault| (fault.host, fault.delay_ms) = (Some("host-b".into()), 5_000));
    assert!(stage.takes(|| assert_eq!(get(&stage.b, "f").unwrap(), b"data")) >= 5_000, "or hangs");
}

fn foreign_mtime(stage: &Stage) {
    put(&stage.a, "early", b"x");
    let early = stage.a.stat("early").unwrap().mtime;
    stage.pass(10);
    stage.plan(|fault| (fault.count, fault.offset_ms) = (0, -60_000));
    put(&stage.a, "late", b"y");
    let late = stage.b.stat("late").unwrap().mtime;
    assert!(late < early && late.is_multiple_of(1_000_000_000), "the later one is older, in whole seconds: {early} {late}");
}
