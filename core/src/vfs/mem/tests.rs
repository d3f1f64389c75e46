use super::*;
use std::sync::atomic::Ordering;

const A: &str = "/a";

fn p(path: &str) -> &Path {
    Path::new(path)
}

fn put(vfs: &MemVfs, path: &str, bytes: &[u8]) -> Arc<dyn VfsFile> {
    let file = vfs.open(p(path), OpenMode::Create).unwrap();
    file.write_all_at(bytes, 0).unwrap();
    file
}

fn get(vfs: &MemVfs, path: &str) -> Option<Vec<u8>> {
    let file = vfs.open(p(path), OpenMode::Read).ok()?;
    let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
    file.read_exact_at(&mut bytes, 0).unwrap();
    Some(bytes)
}

fn code<T: std::fmt::Debug>(result: io::Result<T>) -> i32 {
    result.unwrap_err().raw_os_error().unwrap()
}

/// A file whose bytes and name are durable.
fn settled(vfs: &MemVfs, path: &str, bytes: &[u8]) -> Arc<dyn VfsFile> {
    let file = put(vfs, path, bytes);
    file.sync().unwrap();
    vfs.sync_dir(p("/")).unwrap();
    file
}

/// Whether the outcome is seen for some seeds and not for others.
fn varies(vfs: &MemVfs, what: &str, mut outcome: impl FnMut(&MemVfs) -> bool) {
    let seen = (0..300).filter(|&seed| outcome(&vfs.crash(seed))).count();
    assert!(seen > 10 && seen < 290, "{what}: {seen} of 300 seeds");
}

#[test]
fn it_answers_as_the_operating_system_does() {
    let dir = tempfile::tempdir().unwrap();
    let mem = MemVfs::new();
    let run = |vfs: &dyn Vfs, root: &Path| -> Vec<String> {
        let at = |name: &str| root.join(name);
        let show = |what: &str, result: io::Result<String>| match result {
            Ok(value) => format!("{what}: {value}"),
            Err(error) => format!("{what}: errno {:?}", error.raw_os_error()),
        };
        let unit = |what: &str, result: io::Result<()>| show(what, result.map(|()| "ok".into()));
        let open = |name: &str, mode| vfs.open(&at(name), mode).map(|_| "open".to_owned());
        let mut log = vec![
            show("read what is not there", open("a", OpenMode::Read)),
            show("create", open("a", OpenMode::Create)),
            show("create new over it", open("a", OpenMode::CreateNew)),
            unit("mkdir", vfs.create_dir(&at("d"))),
            unit("mkdir again", vfs.create_dir(&at("d"))),
            unit("mkdir below nothing", vfs.create_dir(&at("x/y"))),
            unit("mkdir below a file", vfs.create_dir(&at("a/y"))),
            unit("link", vfs.link(&at("a"), &at("d/b"))),
            unit("link again", vfs.link(&at("a"), &at("d/b"))),
            unit("link nothing", vfs.link(&at("q"), &at("d/c"))),
            unit("link a directory", vfs.link(&at("d"), &at("e"))),
            show("links", vfs.stat(&at("a")).map(|stat| format!("{} {}", stat.links, stat.is_dir))),
            unit("rmdir full", vfs.remove_dir(&at("d"))),
            unit("rmdir a file", vfs.remove_dir(&at("a"))),
            unit("unlink a directory", vfs.unlink(&at("d")).map_err(|_| io::Error::from_raw_os_error(1))),
            unit("unlink nothing", vfs.unlink(&at("q"))),
            unit("rename onto itself by another name", vfs.rename(&at("a"), &at("d/b"))),
            unit("rename a file onto a directory", vfs.rename(&at("a"), &at("d"))),
            unit("rename a directory onto a file", vfs.rename(&at("d"), &at("a"))),
            unit("rename into itself", vfs.rename(&at("d"), &at("d/e"))),
            unit("unlink", vfs.unlink(&at("a"))),
            unit("rename", vfs.rename(&at("d/b"), &at("c"))),
            unit("rename nothing", vfs.rename(&at("d/b"), &at("c"))),
            unit("mkdir f", vfs.create_dir(&at("f"))),
            unit("rename onto an empty directory", vfs.rename(&at("d"), &at("f"))),
            unit("rmdir", vfs.remove_dir(&at("f"))),
        ];
        let mut names = vfs.read_dir(root).unwrap();
        names.sort();
        log.push(format!("{names:?}"));
        let file = vfs.open(&at("c"), OpenMode::Read).unwrap();
        log.push(unit("write to what is open to read", file.write_all_at(b"x", 0)));
        log.push(show("map too long", file.map(1, false).map(|_| String::new())));
        log
    };
    let os: Vec<String> = run(&crate::vfs::OsVfs, dir.path());
    assert_eq!(run(&mem, p("/")), os);
}

#[test]
fn synced_bytes_under_a_synced_name_survive_every_crash() {
    let vfs = MemVfs::new();
    let bytes: Vec<u8> = (0..5000_u32).map(|i| i as u8).collect();
    let file = settled(&vfs, A, &bytes);
    // Work on the file goes on past the synced bytes, and on other files.
    file.write_all_at(&[9; 3000], 5000).unwrap();
    let other = put(&vfs, "/b", b"other");
    other.sync().unwrap();
    vfs.rename(p("/b"), p("/c")).unwrap();
    for seed in 0..1000 {
        let after = vfs.crash(seed);
        let found = get(&after, A).unwrap_or_else(|| panic!("seed {seed}: the name is gone"));
        assert!(found.len() >= 5000 && found[..5000] == bytes, "seed {seed}: the synced bytes changed");
        assert!(found[5000..].iter().all(|b| [0, 9].contains(b)), "seed {seed}: bytes that nobody wrote");
    }
}

#[test]
fn unsynced_writes_are_lost_kept_torn_or_out_of_order() {
    let vfs = MemVfs::new();
    let file = settled(&vfs, A, &[0; 2048]);
    file.write_all_at(&[1; 1024], 0).unwrap();
    file.write_all_at(&[2; 1024], 1024).unwrap();
    let sectors = |after: &MemVfs| -> Vec<u8> {
        let bytes = get(after, A).unwrap();
        assert!(bytes.chunks(512).all(|sector| sector.iter().all(|b| *b == sector[0])), "torn inside a sector");
        bytes.chunks(512).map(|sector| sector[0]).collect()
    };
    varies(&vfs, "lost", |after| sectors(after) == [0, 0, 0, 0]);
    varies(&vfs, "kept", |after| sectors(after) == [1, 1, 2, 2]);
    varies(&vfs, "torn", |after| sectors(after)[..2].iter().sum::<u8>() == 1);
    varies(&vfs, "out of order", |after| sectors(after)[2..].contains(&2) && sectors(after)[..2].contains(&0));
    for seed in 0..100 {
        assert_eq!(sectors(&vfs.crash(seed)), sectors(&vfs.crash(seed)), "seed {seed} is not deterministic");
    }
}

#[test]
fn a_sector_that_was_written_twice_may_hold_either_but_nothing_else() {
    let vfs = MemVfs::new();
    let file = settled(&vfs, A, &[0; 512]);
    file.write_all_at(&[1; 512], 0).unwrap();
    file.write_all_at(&[2; 512], 0).unwrap();
    let mut seen = [0; 3];
    for seed in 0..500 {
        seen[usize::from(get(&vfs.crash(seed), A).unwrap()[0])] += 1;
    }
    assert!(seen.iter().all(|n| *n > 10), "{seen:?}");
}

#[test]
fn an_unsynced_length_may_be_kept_without_the_bytes() {
    let vfs = MemVfs::new();
    let file = settled(&vfs, A, b"");
    file.write_all_at(&[7; 1024], 0).unwrap();
    varies(&vfs, "length without bytes", |after| get(after, A).unwrap().len() == 1024 && get(after, A).unwrap()[..512] == [0; 512]);
    varies(&vfs, "neither", |after| get(after, A).unwrap().is_empty());
}

#[test]
fn shortening_may_be_undone_but_never_mixes_what_was_cut_into_new_bytes() {
    let vfs = MemVfs::new();
    let file = settled(&vfs, A, &[1; 1024]);
    file.set_len(512).unwrap();
    file.set_len(1024).unwrap();
    let outcomes: std::collections::BTreeSet<Vec<u8>> = (0..300).map(|seed| get(&vfs.crash(seed), A).unwrap()).collect();
    for bytes in &outcomes {
        assert_eq!(bytes[..512], [1; 512]);
        assert!(bytes[512..].iter().all(|b| *b == 1) || bytes[512..].iter().all(|b| *b == 0));
    }
    assert!(outcomes.len() >= 3, "{}", outcomes.len());
}

#[test]
fn names_survive_by_sync_dir_alone() {
    let vfs = MemVfs::new();
    put(&vfs, A, b"x").sync().unwrap();
    varies(&vfs, "a created name", |after| get(after, A).is_some());
    vfs.sync_dir(p("/")).unwrap();
    assert!((0..300).all(|seed| get(&vfs.crash(seed), A).is_some()));
    vfs.link(p(A), p("/b")).unwrap();
    varies(&vfs, "a link", |after| get(after, "/b").is_some());
    vfs.unlink(p(A)).unwrap();
    varies(&vfs, "an unlink", |after| get(after, A).is_none());
    varies(&vfs, "the unlink without the link: both names lost", |after| after.stat(p(A)).is_ok() || after.stat(p("/b")).is_ok());
}

#[test]
fn an_unsynced_rename_is_lost_or_kept_but_never_seen_half() {
    let vfs = MemVfs::new();
    settled(&vfs, A, b"new");
    settled(&vfs, "/b", b"old");
    vfs.rename(p(A), p("/b")).unwrap();
    varies(&vfs, "the rename", |after| get(after, "/b").unwrap() == b"new");
    for seed in 0..300 {
        let after = vfs.crash(seed);
        let (a, b) = (get(&after, A), get(&after, "/b").unwrap());
        assert_eq!(a.is_none(), b == b"new", "seed {seed}");
    }
}

#[test]
fn syncing_a_file_keeps_its_name_only_where_the_option_says_so() {
    let vfs = MemVfs::with(MemOptions { sync_keeps_name: true });
    put(&vfs, A, b"x").sync().unwrap();
    put(&vfs, "/b", b"x");
    assert!((0..300).all(|seed| get(&vfs.crash(seed), A).is_some()));
    varies(&vfs, "the other name", |after| get(after, "/b").is_some());
}

#[test]
fn a_lost_directory_takes_its_files_along() {
    let vfs = MemVfs::new();
    vfs.create_dir(p("/d")).unwrap();
    put(&vfs, "/d/x", b"x").sync().unwrap();
    vfs.sync_dir(p("/d")).unwrap();
    varies(&vfs, "the directory", |after| after.stat(p("/d")).is_ok());
    for seed in 0..300 {
        let after = vfs.crash(seed);
        assert_eq!(after.stat(p("/d")).is_ok(), after.stat(p("/d/x")).is_ok(), "seed {seed}");
    }
}

#[test]
fn mapped_stores_are_seen_at_once_survive_a_sync_and_tear_by_sectors_without() {
    let vfs = MemVfs::new();
    let file = settled(&vfs, A, &[0; 8192]);
    let map = file.map(8192, true).unwrap();
    let short = vfs.process().open(p(A), OpenMode::Read).unwrap().map(4096, false).unwrap();
    map.write(512, &[5; 512]);
    assert_eq!(short.bytes(512, 512), Some(&[5; 512][..]));
    map.word(0).store(77, Ordering::Release);
    assert_eq!(short.word(0).load(Ordering::Acquire), 77);
    file.sync().unwrap();
    map.write(4096, &[6; 1024]);
    for seed in 0..300 {
        let bytes = get(&vfs.crash(seed), A).unwrap();
        assert!(bytes[512..1024] == [5; 512] && bytes[..8] == 77_u64.to_le_bytes(), "seed {seed}");
    }
    varies(&vfs, "a torn store", |after| get(after, A).unwrap()[4096..5120].chunks(512).filter(|s| s[0] == 6).count() == 1);
    assert_eq!(code(file.map(0, false).map_err(|_| errno(libc::EINVAL))), libc::EINVAL);
    // Growing a mapped file does not move what is mapped.
    file.allocate(1 << 20).unwrap();
    let long = file.map(1 << 20, false).unwrap();
    map.write(100, b"still");
    assert_eq!(long.bytes(100, 5), Some(&b"still"[..]));
}

#[test]
fn a_lock_excludes_other_open_files_until_unlock_close_drop_or_death() {
    let vfs = MemVfs::new();
    let a = put(&vfs, A, b"");
    let process = vfs.process();
    let b = process.open(p(A), OpenMode::Read).unwrap();
    assert!(a.try_lock().unwrap() && a.try_lock().unwrap());
    assert!(!b.try_lock().unwrap());
    b.unlock().unwrap();
    assert!(!b.try_lock().unwrap(), "another's unlock changes nothing");
    a.unlock().unwrap();
    assert!(b.try_lock().unwrap());
    process.kill();
    assert!(a.try_lock().unwrap());
    assert_eq!(code(b.try_lock()), libc::EIO);
    a.close().unwrap();
    assert_eq!(code(a.try_lock()), libc::EBADF);
    assert_eq!(code(a.close()), libc::EBADF);
    let c = vfs.open(p(A), OpenMode::Read).unwrap();
    assert!(c.try_lock().unwrap());
    drop(c);
    assert!(vfs.open(p(A), OpenMode::Read).unwrap().try_lock().unwrap());
}

#[test]
fn waiting_for_a_lock_ends_by_release_and_by_the_waiters_death() {
    let vfs = MemVfs::new();
    let a = put(&vfs, A, b"");
    a.lock().unwrap();
    let doomed = vfs.process();
    std::thread::scope(|scope| {
        let lucky = scope.spawn(|| vfs.open(p(A), OpenMode::Read).unwrap().lock());
        let dead = scope.spawn(|| doomed.open(p(A), OpenMode::Read).unwrap().lock());
        while vfs.counts().get(&Step::Lock) != Some(&3) {
            std::thread::yield_now();
        }
        doomed.kill();
        assert_eq!(code(dead.join().unwrap()), libc::EIO);
        assert!(!lucky.is_finished());
        drop(a);
        lucky.join().unwrap().unwrap();
    });
}

#[test]
fn a_killed_process_leaves_what_it_wrote_and_can_do_nothing_more() {
    let vfs = MemVfs::new();
    let process = vfs.process();
    let file = put(&process, A, b"written");
    process.kill();
    assert_eq!(code(file.write_all_at(b"more", 0)), libc::EIO);
    assert_eq!(code(process.stat(p(A))), libc::EIO);
    assert_eq!(get(&vfs, A).unwrap(), b"written");
}

#[test]
fn the_nth_step_of_a_kind_fails_once_or_for_ever_with_or_without_effect() {
    let vfs = MemVfs::new();
    let file = put(&vfs, A, b"");
    let fault = Fault { step: Step::Write, nth: 2, lasting: false, errno: libc::EIO, effect: Effect::None };
    vfs.fail(fault);
    file.write_all_at(b"1", 0).unwrap();
    assert_eq!(code(file.write_all_at(b"2", 1)), libc::EIO);
    file.write_all_at(b"3", 2).unwrap();
    assert_eq!(get(&vfs, A).unwrap(), b"1\x003");
    vfs.fail(Fault { step: Step::Link, nth: 1, lasting: true, errno: libc::ETIMEDOUT, effect: Effect::Done });
    assert_eq!(code(vfs.link(p(A), p("/b"))), libc::ETIMEDOUT);
    assert_eq!(code(vfs.link(p(A), p("/b"))), libc::EEXIST, "its own error comes first");
    assert_eq!(code(vfs.link(p(A), p("/c"))), libc::ETIMEDOUT);
    assert!(vfs.stat(p("/c")).is_ok());
    vfs.heal();
    vfs.link(p(A), p("/d")).unwrap();
}

#[test]
fn a_failed_sync_loses_the_bytes_although_the_next_one_succeeds() {
    for step in [Step::Sync, Step::Close] {
        let vfs = MemVfs::new();
        let file = settled(&vfs, A, b"old");
        file.write_all_at(b"new", 0).unwrap();
        vfs.fail(Fault { step, nth: 1, lasting: false, errno: libc::ENOSPC, effect: Effect::None });
        assert_eq!(code(if step == Step::Sync { file.sync() } else { file.close() }), libc::ENOSPC);
        let file = vfs.open(p(A), OpenMode::ReadWrite).unwrap();
        file.sync().unwrap();
        assert_eq!(get(&vfs, A).unwrap(), b"new", "this host goes on reading it");
        assert!((0..100).all(|seed| get(&vfs.crash(seed), A).unwrap() == b"old"), "{step:?}");
    }
}

#[test]
fn a_full_disk_takes_what_fits_and_gives_space_back_on_removal() {
    let vfs = MemVfs::new();
    let ballast = put(&vfs, "/ballast", &[0; 1000]);
    vfs.set_free(Some(600));
    let file = put(&vfs, A, &[1; 500]);
    assert_eq!(code(file.write_all_at(&[2; 200], 500)), libc::ENOSPC);
    assert_eq!(file.len().unwrap(), 600, "a short write comes first");
    assert_eq!(code(file.allocate(4096)), libc::ENOSPC);
    file.write_all_at(&[3; 600], 0).unwrap();
    assert_eq!(vfs.space(p("/")).unwrap(), Space { free: 0, total: 1600 });
    vfs.unlink(p("/ballast")).unwrap();
    assert_eq!(code(file.write_all_at(&[2; 200], 600)), libc::ENOSPC, "the removed file is still open");
    ballast.close().unwrap();
    file.write_all_at(&[2; 200], 600).unwrap();
}

#[test]
fn after_the_crash_point_nothing_changes_whoever_calls() {
    let work = |vfs: &MemVfs| -> io::Result<()> {
        vfs.create_dir(p("/d"))?;
        for name in ["/d/a", "/d/b", "/d/c"] {
            let file = vfs.open(p(name), OpenMode::CreateNew)?;
            file.write_all_at(name.as_bytes(), 0)?;
            file.sync()?;
            file.close()?;
            vfs.sync_dir(p("/d"))?;
            vfs.sync_dir(p("/"))?;
        }
        Ok(())
    };
    let whole = MemVfs::new();
    work(&whole).unwrap();
    assert_eq!(whole.steps(), 1 + 3 * 6);
    for step in 1..=whole.steps() {
        let vfs = MemVfs::new();
        vfs.freeze_at(step);
        assert_eq!(code(work(&vfs)), libc::EIO, "step {step}");
        assert!(vfs.is_frozen());
        assert_eq!(code(vfs.process().create_dir(p("/late"))), libc::EIO, "step {step}: another process goes on");
        for seed in 0..20 {
            let after = vfs.crash(seed);
            assert!(after.stat(p("/late")).is_err());
            // Whatever was finished is there.
            for done in 0..step.saturating_sub(2) / 6 {
                let name = ["/d/a", "/d/b", "/d/c"][usize::try_from(done).unwrap()];
                assert_eq!(get(&after, name).as_deref(), Some(name.as_bytes()), "step {step}, seed {seed}");
            }
        }
    }
}

#[test]
fn mapped_stores_after_the_crash_point_do_not_reach_the_disk() {
    let vfs = MemVfs::new();
    let file = settled(&vfs, A, &[0; 4096]);
    let map = file.map(4096, true).unwrap();
    map.write(0, &[1; 512]);
    vfs.freeze_at(vfs.steps() + 1);
    assert_eq!(code(file.sync()), libc::EIO);
    map.write(512, &[2; 512]);
    varies(&vfs, "the store before", |after| get(after, A).unwrap()[..512] == [1; 512]);
    assert!((0..300).all(|seed| get(&vfs.crash(seed), A).unwrap()[512..1024] == [0; 512]));
}

#[test]
fn a_removed_file_is_read_on_by_who_has_it_open() {
    let vfs = MemVfs::new();
    let file = put(&vfs, A, b"still here");
    vfs.unlink(p(A)).unwrap();
    // So many that the host looks for files without a name.
    for i in 0..1000 {
        let name = format!("/{i}");
        put(&vfs, &name, b"x");
        vfs.unlink(p(&name)).unwrap();
        vfs.sync_dir(p("/")).unwrap();
    }
    let mut buf = [0; 10];
    file.read_exact_at(&mut buf, 0).unwrap();
    assert_eq!(&buf, b"still here");
    assert!(vfs.state().tree.nodes.len() < 400, "removed files are kept: {}", vfs.state().tree.nodes.len());
}

#[test]
fn a_large_reserved_and_mapped_file_keeps_its_few_bytes_across_holes() {
    let vfs = MemVfs::new();
    let file = settled(&vfs, A, b"head");
    file.allocate(4 << 20).unwrap();
    let map = file.map(4 << 20, true).unwrap();
    map.write(3 << 20, b"middle");
    map.write((4 << 20) - 4, b"tail");
    file.sync().unwrap();
    let bytes = get(&vfs.crash(1), A).unwrap();
    assert_eq!((&bytes[..4], &bytes[3 << 20..][..6], &bytes[(4 << 20) - 4..]), (&b"head"[..], &b"middle"[..], &b"tail"[..]));
    assert_eq!(bytes.iter().filter(|byte| **byte != 0).count(), 14);
}

/// The file after each change since the last sync, the synced one first.
struct History(Vec<Vec<u8>>);

impl History {
    fn check(&self, found: &[u8], what: &str) {
        assert!(self.0.iter().any(|image| image.len() == found.len()), "{what}: a length that the file never had: {}", found.len());
        for (i, sector) in found.chunks(512).enumerate() {
            let was = |image: &Vec<u8>| {
                let mut then = image.get(i * 512..).unwrap_or(&[]).iter().copied().chain(std::iter::repeat(0));
                sector.iter().all(|byte| then.next() == Some(*byte))
            };
            assert!(self.0.iter().any(was), "{what}: sector {i} holds what it never held");
        }
    }
}

#[test]
fn every_crash_leaves_in_each_sector_what_it_held_at_some_moment_since_the_sync() {
    for seed in 0..300 {
        let mut rng = crash::Rng::new(seed);
        let vfs = MemVfs::new();
        let file = settled(&vfs, A, b"");
        let mut history = History(vec![Vec::new()]);
        for step in 0..20_u8 {
            let (offset, len) = (rng.next() % 3000, rng.next() % 2000);
            match rng.next() % 6 {
                0 => file.set_len(offset).unwrap(),
                1 => {
                    file.sync().unwrap();
                    history.0.clear();
                }
                2 => file.allocate(len.max(1)).unwrap(),
                _ => file.write_all_at(&vec![step + 1; usize::try_from(len).unwrap()], offset).unwrap(),
            }
            history.0.push(get(&vfs, A).unwrap());
            for crash in 0..4 {
                let found = get(&vfs.crash(crash), A).unwrap();
                history.check(&found, &format!("seed {seed}, step {step}, crash seed {crash}"));
            }
        }
    }
}
