//! What holds between two hosts: two mounts of one share, each with a client's caches of its own.

use super::{Examination, Folder, Severity, Tools, read, write};
use crate::clock::Deadline;
use crate::mount::{Kind, Look};
use crate::vfs::{OpenMode, Vfs};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

const RACES: u32 = 20;
const LOOKS: u64 = 10;
const PATIENCE: Duration = Duration::from_secs(65);
/// How long it is waited for a name that the other host has looked for in vain.
const ABSENT_PATIENCE: Duration = Duration::from_secs(5);
/// How long it is waited for a name that was just given.
const NAME_PATIENCE: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(20);

pub(super) fn examine(examination: &mut Examination, tools: &Tools<'_>, folder: &Folder<'_>, peer: &Path) -> io::Result<()> {
    let vfs = tools.vfs;
    write(vfs, &folder.path("here"), b"here")?;
    let patience = Deadline::after(tools.clock, PATIENCE);
    while read(vfs, &peer.join("here")).ok().as_deref() != Some(b"here") {
        if patience.passed(tools.clock) {
            let found =
                format!("what is written here is not seen as {}: this is another share, or nothing is mounted there", peer.display());
            examination.add(Severity::Warning, "the other mount", found, "give two mounts of one share");
            return Ok(());
        }
        tools.clock.sleep(PAUSE);
    }
    let (one, two) = (folder.path.clone(), peer.to_owned());
    races(examination, tools, &one, &two)?;
    freshness(examination, vfs, &one, &two)?;
    absent(examination, tools, &one, &two)?;
    locks(examination, vfs, &one, &two)?;
    deleted(examination, vfs, &one, &two)
}

/// Two hosts give a name at once, by link and by exclusive creation: who was told that it won?
fn races(examination: &mut Examination, tools: &Tools<'_>, one: &Path, two: &Path) -> io::Result<()> {
    let vfs = tools.vfs;
    let (mut linked, mut created) = ([0u32; 3], [0u32; 3]);
    let mut torn = 0;
    for n in 0..RACES {
        let hosts = [(one, b"one"), (two, b"two")];
        for (dir, content) in hosts {
            write(vfs, &dir.join(format!("stage-{}-{n}", content[0])), content)?;
        }
        let by_link = |dir: &Path, me: u8| vfs.link(&dir.join(format!("stage-{me}-{n}")), &dir.join(format!("link-{n}"))).is_ok();
        let by_create = |dir: &Path| vfs.open(&dir.join(format!("create-{n}")), OpenMode::CreateNew).is_ok();
        let both = |act: &(dyn Fn(&Path, u8) -> bool + Sync)| {
            std::thread::scope(|scope| {
                let other = scope.spawn(|| act(two, b't'));
                let mine = act(one, b'o');
                usize::from(mine) + usize::from(other.join().unwrap_or(false))
            })
        };
        linked[both(&by_link)] += 1;
        created[both(&|dir, _| by_create(dir))] += 1;
        let seen = read_patiently(tools, &one.join(format!("link-{n}"))).unwrap_or_default();
        torn += u32::from(seen != b"one" && seen != b"two");
    }
    // No winner is no harm: the name is read before anything is believed. A lost reply does the same.
    let sound = linked[2] == 0 && torn == 0;
    let found =
        format!("raced {RACES} times for a name: one winner {}x, none {}x, both {}x, unreadable {torn}x", linked[1], linked[0], linked[2]);
    let shared = "write from one host at a time; to share, put the cache on NFS, SMB, Lustre, GlusterFS or sshfs";
    examination.add(if sound { Severity::Good } else { Severity::Unsound }, "link between hosts", found, if sound { "" } else { shared });
    let found = format!("raced {RACES} times for a name: one winner {}x, none {}x, both {}x", created[1], created[0], created[2]);
    let (severity, note) = match (created[2], examination.profile.kind) {
        (0, _) => (Severity::Good, ""),
        (_, Kind::ObjectMount) => (Severity::Unsound, "nothing that creates files to exclude others can work here"),
        _ => (Severity::Note, "this cache does not rest on it; lock files of other programs do not work here"),
    };
    examination.add(severity, "exclusive create between hosts", found, note);
    Ok(())
}

/// A CIFS client keeps a closed file open for about a second, and meanwhile answers EINVAL to who opens it by its other name.
fn read_patiently(tools: &Tools<'_>, path: &Path) -> io::Result<Vec<u8>> {
    let patience = Deadline::after(tools.clock, NAME_PATIENCE);
    loop {
        match read(tools.vfs, path) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) && !patience.passed(tools.clock) => tools.clock.sleep(PAUSE),
            answer => return answer,
        }
    }
}

/// One host appends and flushes; what does each way of looking show the other?
fn freshness(examination: &mut Examination, vfs: &dyn Vfs, one: &Path, two: &Path) -> io::Result<()> {
    let mut fresh = [0u64; 3];
    let names = ["asking the server (statx)", "opening anew", "an open file's own attributes"];
    for (way, fresh) in fresh.iter_mut().enumerate() {
        let name = format!("fresh-{way}");
        let writer = vfs.open(&one.join(&name), OpenMode::CreateNew)?;
        writer.write_all_at(b"0", 0)?;
        writer.sync()?;
        let mut reader = vfs.open(&two.join(&name), OpenMode::Read)?;
        for n in 1..=LOOKS {
            writer.write_all_at(b"1", n)?;
            writer.sync()?;
            let len = match way {
                0 => reader.len_fresh(),
                1 => {
                    reader = vfs.open(&two.join(&name), OpenMode::Read)?;
                    reader.len()
                }
                _ => reader.len(),
            };
            *fresh += u64::from(len.is_ok_and(|len| len == n + 1));
        }
    }
    let found: Vec<String> = names.iter().zip(fresh).map(|(name, fresh)| format!("{name} {fresh} of {LOOKS}")).collect();
    let found = format!("fresh after the other host's flush: {}", found.join(", "));
    let way = usize::from(examination.profile.look == Look::Reopen);
    let (severity, advice) = match (fresh[way] == LOOKS, examination.profile.look) {
        (true, _) => (Severity::Good, ""),
        // Said already of such drives; writes are exact all the same.
        (false, Look::Reopen) => {
            (Severity::Note, "reads of what other hosts have just written may be about a second old; writes are exact")
        }
        (false, Look::Statx) => {
            (Severity::Warning, "set DISKCACHE_RS_PROFILE=shared:reopen, and expect reads to be as old as the client's caches")
        }
    };
    examination.add(severity, "looks between hosts", found, advice);
    Ok(())
}

/// How long a name that was looked for in vain stays absent after the other host has made it.
fn absent(examination: &mut Examination, tools: &Tools<'_>, one: &Path, two: &Path) -> io::Result<()> {
    let (here, there) = (one.join("late"), two.join("late"));
    let _ = tools.vfs.stat(&there);
    write(tools.vfs, &here, b"late")?;
    let start = tools.clock.boot();
    let patience = Deadline::after(tools.clock, ABSENT_PATIENCE);
    while tools.vfs.open(&there, OpenMode::Read).is_err() && !patience.passed(tools.clock) {
        tools.clock.sleep(PAUSE);
    }
    let span = tools.clock.boot().saturating_sub(start);
    let found = if patience.passed(tools.clock) {
        format!("a name that the other host had looked for is still absent there after {} s", ABSENT_PATIENCE.as_secs())
    } else {
        format!("a name that the other host had looked for is seen there after {:.2} s", span.as_secs_f64())
    };
    // Every client does it, and the engine looks for no name before it exists.
    examination.add(Severity::Good, "absent names between hosts", found, "");
    Ok(())
}

fn locks(examination: &mut Examination, vfs: &dyn Vfs, one: &Path, two: &Path) -> io::Result<()> {
    write(vfs, &one.join("lock"), b"lock")?;
    let open = |dir: &Path| vfs.open(&PathBuf::from(dir).join("lock"), OpenMode::ReadWrite);
    let (mine, other) = (open(one)?, open(two)?);
    let (severity, found) = match (mine.try_lock(), other.try_lock()) {
        // CIFS says EACCES where others say that it would have to wait.
        (Ok(true), Err(error)) if error.raw_os_error() == Some(libc::EACCES) => {
            (Severity::Good, "a lock (flock) of one host excludes the other, which is told EACCES".to_owned())
        }
        (Ok(true), Ok(false)) => (Severity::Good, "a lock (flock) of one host excludes the other".to_owned()),
        (Ok(true), Ok(true)) => {
            (Severity::Note, "a lock (flock) is granted to both hosts (this cache needs none; SQLite and others do)".to_owned())
        }
        (Err(error), _) | (_, Err(error)) => (Severity::Note, format!("locks are refused: {error} (this cache needs none)")),
        (Ok(false), _) => (Severity::Note, "a lock that nobody holds is not granted (this cache needs none)".to_owned()),
    };
    examination.add(severity, "locks between hosts", found, "");
    let _ = (mine.unlock(), other.unlock());
    Ok(())
}

/// One host removes what the other has open.
fn deleted(examination: &mut Examination, vfs: &dyn Vfs, one: &Path, two: &Path) -> io::Result<()> {
    write(vfs, &one.join("doomed"), b"doomed")?;
    let open = vfs.open(&two.join("doomed"), OpenMode::Read)?;
    let (severity, found) = match vfs.unlink(&one.join("doomed")) {
        Err(error) => (Severity::Note, format!("what another host has open cannot be removed ({error}); it is tried again later")),
        Ok(()) => match open.read_exact_at(&mut [0; 6], 0) {
            Ok(()) => (Severity::Good, "what another host has open can be removed, and is read on there".to_owned()),
            Err(error) => (Severity::Good, format!("what another host has open can be removed; reading on there says: {error}")),
        },
    };
    examination.add(severity, "delete between hosts", found, "");
    Ok(())
}
