//! Tries on a drive what no type tells. Everything happens in a new folder with a name that nobody else has, and is removed
//! afterwards; what cannot be removed (a drive that keeps deleted files for a while) stays as `probe-<random>` and does no harm.

use crate::chance::Chance;
use crate::clock::{Clock, Deadline};
use crate::vfs::{OpenMode, Space, Vfs};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

const CONTENT: &[u8] = b"first";
const OTHER: &[u8] = b"second";
const LOOKS: usize = 5;
const PATIENCE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(50);

/// What a drive did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    /// A complete file could be given a second name in another folder.
    pub link_works: bool,
    /// And a name that existed was refused, and still named the first file.
    pub link_refuses_existing: bool,
    /// Flushing and closing succeeded.
    pub fsync_works: bool,
    /// A deleted file was read on by who had it open.
    pub delete_while_open: bool,
    /// The median time of a look at the server, in microseconds.
    pub latency_us: u64,
    /// The drive's space.
    pub space: Space,
}

/// Tries a drive out in the directory `dir`, which exists.
///
/// # Errors
/// When no folder or file can be made or written there (a read-only or full drive), or randomness is not to be had.
pub fn probe(vfs: &dyn Vfs, clock: &dyn Clock, chance: &dyn Chance, dir: &Path) -> io::Result<Probe> {
    let name = format!("{:024x}", chance.next()? >> 32);
    let space = vfs.space(dir)?;
    let folder = Folder::create(vfs, dir.join(format!("probe-{name}")))?;
    let (first, second, name) = (folder.path("a/1"), folder.path("a/2"), folder.path("b/n"));
    let flushed_first = write(vfs, &first, CONTENT)?;
    let flushed_second = write(vfs, &second, OTHER)?;
    // The errno of a link proves nothing; what the name names does.
    let linked = vfs.link(&first, &name);
    let link_works = reads(vfs, clock, &name, CONTENT);
    let refused = vfs.link(&second, &name).is_err();
    let link_refuses_existing = link_works && refused && reads(vfs, clock, &name, CONTENT);
    let open = vfs.open(if linked.is_ok() { &name } else { &first }, OpenMode::Read)?;
    let mut spans = Vec::with_capacity(LOOKS);
    for _ in 0..LOOKS {
        let start = clock.boot();
        open.len_fresh()?;
        spans.push(clock.boot().saturating_sub(start));
    }
    spans.sort_unstable();
    folder.empty();
    let mut buf = [0; CONTENT.len()];
    let delete_while_open = open.read_exact_at(&mut buf, 0).is_ok() && buf == CONTENT;
    // Before the folder goes: some drives keep the file under another name until then.
    let _ = open.close();
    drop(folder);
    Ok(Probe {
        link_works,
        link_refuses_existing,
        fsync_works: flushed_first && flushed_second,
        delete_while_open,
        latency_us: u64::try_from(spans[LOOKS / 2].as_micros()).unwrap_or(u64::MAX),
        space,
    })
}

/// Writes a file and returns whether it could be flushed, and closed without an error.
fn write(vfs: &dyn Vfs, path: &Path, bytes: &[u8]) -> io::Result<bool> {
    let file = vfs.open(path, OpenMode::CreateNew)?;
    file.write_all_at(bytes, 0)?;
    let synced = file.sync();
    let closed = file.close();
    Ok(synced.is_ok() && closed.is_ok())
}

/// Returns whether a name names the expected content. A CIFS client keeps a closed file open for about a second, and meanwhile
/// answers EINVAL to who opens it by its other name.
fn reads(vfs: &dyn Vfs, clock: &dyn Clock, path: &Path, expected: &[u8]) -> bool {
    let patience = Deadline::after(clock, PATIENCE);
    loop {
        let mut buf = [0; 16];
        match vfs.open(path, OpenMode::Read).and_then(|file| file.read_at(&mut buf, 0)) {
            Ok(n) => return buf[..n] == *expected,
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) && !patience.passed(clock) => clock.sleep(PAUSE),
            Err(_) => return false,
        }
    }
}

/// The folder of this probe; dropping removes it as far as the drive lets it.
struct Folder<'a> {
    vfs: &'a dyn Vfs,
    path: PathBuf,
}

impl<'a> Folder<'a> {
    fn create(vfs: &'a dyn Vfs, path: PathBuf) -> io::Result<Self> {
        vfs.create_dir(&path)?;
        let folder = Self { vfs, path };
        vfs.create_dir(&folder.path("a"))?;
        vfs.create_dir(&folder.path("b"))?;
        Ok(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    fn empty(&self) {
        for name in ["b/n", "a/2", "a/1"] {
            let _ = self.vfs.unlink(&self.path(name));
        }
    }
}

impl Drop for Folder<'_> {
    fn drop(&mut self) {
        self.empty();
        for name in ["b", "a"] {
            let _ = self.vfs.remove_dir(&self.path(name));
        }
        let _ = self.vfs.remove_dir(&self.path);
    }
}
