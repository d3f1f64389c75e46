//! What one host can find out.

use super::{Examination, Folder, Severity, Tools, read, write};
use crate::mount::Probe;
use crate::vfs::OpenMode;
use rustix::fs::{Mode, OFlags};
use std::io;
use std::path::Path;

/// Less room than this and the first large values meet the end of it.
const ROOM_MIN: u64 = 256 << 20;
const NAMES_MIN: u64 = 10_000;

pub(super) fn examine(examination: &mut Examination, tools: &Tools<'_>, folder: &Folder<'_>, probe: &Probe) -> io::Result<()> {
    let vfs = tools.vfs;
    let good = |holds: bool, bad: Severity| if holds { Severity::Good } else { bad };
    let link = match (probe.link_works, probe.link_refuses_existing) {
        (true, true) => "works, and refuses a name that exists",
        (true, false) => "gave a second file a name that existed",
        _ => "does not work",
    };
    let shared = "write from one host at a time; to share, put the cache on NFS, SMB, Lustre, GlusterFS or sshfs";
    let sound = probe.link_works && probe.link_refuses_existing;
    examination.add(good(sound, Severity::Unsound), "link", link, if sound { "" } else { shared });
    let flush = if probe.fsync_works { "works, and so does closing" } else { "fails" };
    examination.add(good(probe.fsync_works, Severity::Warning), "fsync", flush, "");
    let deleted =
        if probe.delete_while_open { "a file that is deleted can be read on by who has it open" } else { "deleted files are gone at once" };
    examination.add(good(probe.delete_while_open, Severity::Note), "delete while open", deleted, "");

    let path = folder.path("exclusive");
    write(vfs, &path, b"first")?;
    let refused = vfs.open(&path, OpenMode::CreateNew).is_err() && read(vfs, &path)? == b"first";
    let found = if refused { "refuses a name that exists" } else { "gave a name that existed to a second creator, or emptied its file" };
    examination.add(good(refused, Severity::Note), "exclusive create", found, "");

    match appended(&folder.path("append")) {
        Ok(true) => examination.add(Severity::Good, "append", "two descriptors of one host append whole records", ""),
        Ok(false) => {
            examination.add(Severity::Note, "append", "two descriptors of one host write over each other (this cache never appends)", "")
        }
        Err(error) => examination.add(Severity::Note, "append", format!("refused: {error} (this cache never appends)"), ""),
    }

    let absent = folder.path("absent");
    let was_absent = vfs.stat(&absent).is_err();
    write(vfs, &absent, b"there")?;
    let seen = was_absent && read(vfs, &absent).is_ok_and(|bytes| bytes == b"there");
    let found =
        if seen { "a name is there at once after it was absent, on this host" } else { "a name stays absent on the host that made it" };
    examination.add(good(seen, Severity::Warning), "absent names", found, "");

    let folded = vfs.stat(&folder.path("ABSENT")).is_ok();
    let found = if folded { "names that differ only in case are one (this cache's never do)" } else { "names that differ in case differ" };
    examination.add(good(!folded, Severity::Note), "case", found, "");
    room(examination, probe);
    Ok(())
}

fn room(examination: &mut Examination, probe: &Probe) {
    let mib = |bytes: u64| bytes >> 20;
    let found = format!("{} MiB free of {}", mib(probe.space.free), mib(probe.space.total));
    let (severity, advice) = match probe.space.free {
        free if free < ROOM_MIN => (Severity::Warning, "make room, or give the cache a `size_limit` below it"),
        _ => (Severity::Good, ""),
    };
    examination.add(severity, "space", found, advice);
    let Ok(names) = rustix::fs::statvfs(&examination.dir) else { return };
    // Many network drives tell no number of inodes.
    if names.f_files > 0 {
        let few = names.f_favail < NAMES_MIN;
        let found = format!("{} of {} inodes free", names.f_favail, names.f_files);
        let severity = if few { Severity::Warning } else { Severity::Good };
        examination.add(severity, "inodes", found, if few { "make room for files: a shared cache keeps some thousands" } else { "" });
    }
}

/// Appends from two descriptors in turns, and returns whether all is there. Appending is nothing that the engine does, so its
/// files know nothing of it.
fn appended(path: &Path) -> io::Result<bool> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND | OFlags::CLOEXEC;
    let open = || rustix::fs::open(path, flags, Mode::from_raw_mode(0o600));
    let (one, two) = (open()?, open()?);
    let mut expected = Vec::new();
    for n in 0..10u8 {
        let record = [b'a' + n; 7];
        rustix::io::write(if n % 2 == 0 { &one } else { &two }, &record)?;
        expected.extend_from_slice(&record);
    }
    drop((one, two));
    let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut buf = [0; 128];
    let n = rustix::io::read(&file, &mut buf)?;
    Ok(buf[..n] == *expected)
}
