//! The drive as real mounts: file system calls work, SQLite runs clean in both its modes, hosts see each other as on NFS,
//! and nothing hangs when the drive dies. Skipped, with the reason, where there can be no mounts.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use harness::control;
use harness::daemon::{Daemon, host_names};
use harness::drive::{Fault, Plan, Profile};
use harness::fuse::mount::can_mount;

struct Drive {
    daemon: Daemon,
    _dir: tempfile::TempDir,
}

fn drive(profile: &Profile) -> Option<Drive> {
    if let Err(why) = can_mount() {
        eprintln!("SKIPPED: {why}");
        return None;
    }
    let dir = tempfile::Builder::new().prefix("harness-").tempdir().expect("a folder");
    let program = PathBuf::from(env!("CARGO_BIN_EXE_harness"));
    let daemon = Daemon::start(&program, dir.path(), profile, &host_names(2), &Plan::default(), 1).expect("a drive");
    Some(Drive { daemon, _dir: dir })
}

impl Drive {
    fn a(&self, name: &str) -> PathBuf {
        self.daemon.mount("host-a").join(name)
    }

    fn b(&self, name: &str) -> PathBuf {
        self.daemon.mount("host-b").join(name)
    }
}

fn errno<T>(result: std::io::Result<T>) -> Option<i32> {
    result.err().and_then(|err| err.raw_os_error())
}

#[test]
fn file_system_calls_do_what_they_say() {
    let Some(drive) = drive(&Profile::nfs4()) else { return };
    fs::create_dir(drive.a("d")).unwrap();
    let mut file = OpenOptions::new().read(true).write(true).create_new(true).open(drive.a("d/f")).unwrap();
    assert_eq!(errno(OpenOptions::new().write(true).create_new(true).open(drive.a("d/f"))), Some(libc::EEXIST));
    file.write_all(b"hello world").unwrap();
    file.sync_all().unwrap();
    file.seek(SeekFrom::Start(6)).unwrap();
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "world");
    file.set_len(5).unwrap();
    assert_eq!(file.metadata().unwrap().len(), 5);
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, 100).unwrap();
    assert_eq!(file.metadata().unwrap().len(), 100);
    fs::hard_link(drive.a("d/f"), drive.a("d/g")).unwrap();
    assert_eq!(errno(fs::hard_link(drive.a("d/f"), drive.a("d/g"))), Some(libc::EEXIST));
    assert_eq!(fs::metadata(drive.a("d/g")).unwrap().nlink(), 2);
    fs::rename(drive.a("d/g"), drive.a("d/h")).unwrap();
    let mut names: Vec<_> = fs::read_dir(drive.a("d")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["f", "h"]);
    assert_eq!(errno(fs::remove_dir(drive.a("d"))), Some(libc::ENOTEMPTY));
    assert_eq!(fs::read(drive.b("d/h")).unwrap().len(), 100, "the other host sees it");
    fs::remove_file(drive.a("d/f")).unwrap();
    fs::remove_file(drive.a("d/h")).unwrap();
    fs::remove_dir(drive.a("d")).unwrap();
    assert!(rustix::fs::statvfs(drive.a("")).unwrap().f_bfree > 0);
}

#[test]
fn appends_of_one_host_follow_each_other() {
    let Some(drive) = drive(&Profile::nfs4()) else { return };
    let open = || OpenOptions::new().append(true).create(true).open(drive.a("log")).unwrap();
    let (mut one, mut two) = (open(), open());
    for number in 0..50u8 {
        one.write_all(&[number]).unwrap();
        two.write_all(&[number]).unwrap();
    }
    drop((one, two));
    assert_eq!(fs::read(drive.b("log")).unwrap(), (0..50u8).flat_map(|number| [number, number]).collect::<Vec<_>>());
}

#[test]
fn a_large_file_survives_the_way_there_and_back() {
    let Some(drive) = drive(&Profile::nfs4()) else { return };
    let data: Vec<u8> = (0..5_000_000u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    fs::write(drive.a("large"), &data).unwrap();
    assert!(fs::read(drive.b("large")).unwrap() == data);
    let file = File::open(drive.b("large")).unwrap();
    let mut part = [0; 1000];
    file.read_exact_at(&mut part, 4_321_000).unwrap();
    assert_eq!(part[..], data[4_321_000..4_322_000]);
}

const SQLITE: &str = r#"
import sqlite3, sys, threading, multiprocessing
path, mode = sys.argv[1:]
def work(number):
    db = sqlite3.connect(path, timeout=60, isolation_level=None)
    for step in range(60):
        db.execute('BEGIN IMMEDIATE')
        db.execute('UPDATE counter SET n = n + 1')
        db.execute('INSERT INTO items VALUES (?, ?)', (number, 'x' * (step * 40)))
        db.execute('COMMIT')
    db.close()
if __name__ == '__main__':
    db = sqlite3.connect(path, timeout=60, isolation_level=None)
    found = db.execute(f'PRAGMA journal_mode = {mode}').fetchone()[0]
    assert found == mode, found
    db.execute('PRAGMA mmap_size = 67108864')
    db.execute('CREATE TABLE counter (n INTEGER)')
    db.execute('INSERT INTO counter VALUES (0)')
    db.execute('CREATE TABLE items (who INTEGER, what TEXT)')
    db.close()
    context = multiprocessing.get_context('spawn')
    workers = [context.Process(target=work, args=(number,)) for number in range(3)]
    [worker.start() for worker in workers]
    [worker.join() for worker in workers]
    assert [worker.exitcode for worker in workers] == [0, 0, 0], [worker.exitcode for worker in workers]
    db = sqlite3.connect(path, timeout=60)
    assert db.execute('SELECT n FROM counter').fetchone() == (180,)
    assert db.execute('SELECT count(*), sum(length(what)) FROM items').fetchone() == (180, 3 * sum(s * 40 for s in range(60)))
    assert db.execute('PRAGMA integrity_check').fetchall() == [('ok',)]
    print('clean')
"#;

fn sqlite(mode: &str, profile: &Profile) {
    let Some(drive) = drive(profile) else { return };
    let dir = tempfile::tempdir().expect("a folder");
    let script = dir.path().join("sqlite.py");
    fs::write(&script, SQLITE).expect("a script");
    let out = Command::new("timeout").args(["120", "python3"]).arg(&script).arg(drive.a("db")).arg(mode).output().expect("python3");
    let said = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success() && said.contains("clean"), "{said}");
}

#[test]
fn sqlite_in_wal_mode_runs_clean_on_one_host() {
    sqlite("wal", &Profile::nfs4());
}

#[test]
fn sqlite_with_a_rollback_journal_runs_clean_on_one_host() {
    sqlite("delete", &Profile::nfs4());
}

#[test]
fn sqlite_in_wal_mode_runs_clean_on_the_strict_profile() {
    sqlite("wal", &Profile::local());
}

#[test]
fn flock_and_fcntl_locks_exclude_across_hosts_and_end_with_their_process() {
    let Some(drive) = drive(&Profile::nfs4()) else { return };
    fs::write(drive.a("lock"), b"").unwrap();
    let (a, b) = (File::options().write(true).open(drive.a("lock")).unwrap(), File::options().write(true).open(drive.b("lock")).unwrap());
    a.lock().unwrap();
    assert!(b.try_lock().is_err(), "flock excludes the other host");
    drop(a);
    // The kernel does not wait for the release of a file.
    let free = (0..200).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(10));
        b.try_lock().is_ok()
    });
    assert!(free, "and ends with its descriptor");
    b.unlock().unwrap();
    let hold =
        "import fcntl, sys, time; f = open(sys.argv[1], 'w'); fcntl.lockf(f, fcntl.LOCK_EX); print('held', flush=True); time.sleep(60)";
    let mut holder = Command::new("python3").args(["-c", hold]).arg(drive.a("lock")).stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut said = [0; 5];
    holder.stdout.as_mut().unwrap().read_exact(&mut said).unwrap();
    let take = "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB)";
    let taken = |path: &Path| Command::new("python3").args(["-c", take]).arg(path).output().unwrap().status.success();
    assert!(!taken(&drive.b("lock")), "fcntl excludes the other host");
    holder.kill().unwrap();
    holder.wait().unwrap();
    assert!(taken(&drive.b("lock")), "and ends with a killed process");
}

#[test]
fn a_mapped_file_is_shared_on_its_host_and_reaches_the_other_after_msync_and_close() {
    let Some(drive) = drive(&Profile::nfs4()) else { return };
    fs::write(drive.a("map"), vec![0; 8192]).unwrap();
    let script = "import mmap, sys, os
one = mmap.mmap(os.open(sys.argv[1], os.O_RDWR), 8192)
two = mmap.mmap(os.open(sys.argv[1], os.O_RDWR), 8192)
one[5000:5004] = b'data'
assert two[5000:5004] == b'data'
one.flush()
";
    let out = Command::new("timeout").args(["30", "python3", "-c", script]).arg(drive.a("map")).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    assert_eq!(&fs::read(drive.b("map")).unwrap()[5000..5004], b"data");
}

#[test]
fn a_fault_added_over_the_socket_meets_real_calls() {
    let Some(mut drive) = drive(&Profile::nfs4()) else { return };
    let fault = Box::new(Fault { count: 0, host: Some("host-a".into()), ..Fault::named("N7") });
    fs::write(drive.a("f"), b"x").unwrap();
    drive.daemon.send(&control::Command::Fault { fault }).unwrap();
    assert_eq!(errno(fs::hard_link(drive.a("f"), drive.a("g"))), Some(libc::EEXIST), "though it was free");
    fs::hard_link(drive.b("f"), drive.b("h")).expect("the other host is well");
    assert_eq!(drive.daemon.stats().unwrap().faults["N7"].observable, 1);
    assert!(drive.daemon.send(&control::Command::Fault { fault: Box::default() }).is_err());
}

#[test]
fn nothing_hangs_when_the_drive_withholds_answers_or_dies() {
    let Some(mut drive) = drive(&Profile::nfs4()) else { return };
    fs::write(drive.a("f"), b"x").unwrap();
    drive.daemon.send(&control::Command::Cut { host: "host-b".into(), ms: None }).unwrap();
    let path = drive.b("f");
    let caller = std::thread::spawn(move || fs::read(path));
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert!(!caller.is_finished(), "cut off: it waits");
    let points = [drive.daemon.mount("host-a"), drive.daemon.mount("host-b")];
    let began = std::time::Instant::now();
    drop(drive);
    assert!(caller.join().unwrap().is_err(), "an error, not a hang");
    assert!(began.elapsed().as_secs() < 20);
    assert!(points.iter().all(|point| harness::fuse::mount::connection(point).is_none()), "and no mount is left");
}
