//! Mounting a drive's hosts, and taking the mounts down whatever state they are in.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use fuser::{BackgroundSession, Config, MountOption};

use super::ops::{HostFs, Shared};
use super::pump::Pump;
use crate::drive::Drive;

/// Threads that answer requests of one mount, and those that finish the ones put aside.
const SESSION_THREADS: usize = 4;
const PUMP_THREADS: usize = 12;

/// Why there is no mount.
#[derive(Debug)]
pub struct MountError(pub String);

impl fmt::Display for MountError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for MountError {}

/// Mounts of a drive, in this process.
pub struct Mounted {
    sessions: Vec<(PathBuf, BackgroundSession)>,
    watchdog: Option<Watchdog>,
}

/// Whether this machine can mount at all, and if not, why.
///
/// # Errors
/// Says what is missing.
pub fn can_mount() -> Result<(), MountError> {
    if !Path::new("/dev/fuse").exists() {
        return Err(MountError("there is no /dev/fuse on this machine".to_owned()));
    }
    if !rustix::process::geteuid().is_root() {
        return Err(MountError("mounting needs root".to_owned()));
    }
    Ok(())
}

/// Mounts every host of a drive at `dir/<host>`. A mount with a request that hangs for `longest` is cut.
///
/// # Errors
/// A mount failed, or what is at its place afterwards is not a mount.
pub fn mount_all(drive: &Arc<Mutex<Drive>>, dir: &Path, longest: Duration) -> Result<Mounted, MountError> {
    can_mount()?;
    let pump = Pump::start(PUMP_THREADS).map_err(|err| MountError(format!("no threads: {err}")))?;
    let names = drive.lock().unwrap_or_else(PoisonError::into_inner).host_names();
    let mut mounted = Mounted { sessions: Vec::new(), watchdog: None };
    let mut watched = Vec::new();
    for (host, name) in names.iter().enumerate() {
        let point = dir.join(name);
        let fail = |what: &str, err: io::Error| MountError(format!("{what} {}: {err}", point.display()));
        std::fs::create_dir_all(&point).map_err(|err| fail("cannot make", err))?;
        let fs = HostFs::new(Arc::clone(drive), host, Arc::clone(&pump));
        let shared = fs.shared();
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName(format!("simdrive-{name}")), MountOption::Subtype("simdrive".to_owned())];
        config.n_threads = Some(SESSION_THREADS);
        config.clone_fd = true;
        let session = fuser::spawn_mount(fs, &point, &config).map_err(|err| fail("cannot mount", err))?;
        shared.set_notifier(session.notifier());
        watched.push((point.clone(), shared));
        mounted.sessions.push((point.clone(), session));
        if connection(&point).is_none() {
            return Err(MountError(format!("{} is not a mount although mounting succeeded", point.display())));
        }
    }
    let watchdog = Watchdog::start(watched, longest).map_err(|err| MountError(format!("no watchdog: {err}")))?;
    mounted.watchdog = Some(watchdog);
    Ok(mounted)
}

impl Mounted {
    /// Takes the mounts down and waits for their sessions to end.
    pub fn unmount(self) {
        // It keeps the file systems alive, which the sessions wait for.
        drop(self.watchdog);
        for (point, session) in self.sessions {
            // What is still open keeps the session alive; the connection is cut then.
            if session.umount_and_join().is_err() {
                take_down(&point);
            }
        }
    }
}

/// The number of the FUSE connection that is mounted at a place.
#[must_use]
pub fn connection(point: &Path) -> Option<u32> {
    let wanted = point.to_str()?;
    // Not stat(2): it hangs on a mount whose daemon is dead.
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ');
        let device = fields.nth(2)?;
        let place = fields.nth(1)?;
        (unescaped(place).to_str() == Some(wanted) && line.contains(" simdrive-")).then(|| device.split_once(':')?.1.parse().ok())?
    })
}

/// The mounts of simulated drives in a folder.
#[must_use]
pub fn mounts_under(dir: &Path) -> Vec<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let drives = mounts.lines().filter(|line| line.contains(" simdrive-"));
    let points = drives.filter_map(|line| line.split(' ').nth(4)).map(unescaped);
    points.filter(|point| point.parent() == Some(dir)).collect()
}

/// A path as mountinfo writes it: blanks and backslashes are octal there.
fn unescaped(text: &str) -> PathBuf {
    let plain = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    plain.iter().fold(text.to_owned(), |text, (code, plain)| text.replace(code, plain)).into()
}

/// Takes a mount down by force: cuts its connection, so that every caller gets an error, and detaches it.
pub fn take_down(point: &Path) {
    if let Some(connection) = connection(point) {
        abort(connection);
    }
    for _ in 0..8 {
        if connection(point).is_none() {
            return;
        }
        // A lazy unmount always succeeds on what is mounted; nothing more can be done where it does not.
        let _ = Command::new("umount").arg("-l").arg(point).output();
    }
}

/// Ends a FUSE connection: every request that hangs returns `ECONNABORTED`.
pub fn abort(connection: u32) {
    const CONTROL: &str = "/sys/fs/fuse/connections";
    if std::fs::read_dir(CONTROL).map_or(true, |mut entries| entries.next().is_none()) {
        let _ = Command::new("mount").args(["-t", "fusectl", "none", CONTROL]).output();
    }
    // Gone already: as wanted.
    let _ = std::fs::write(format!("{CONTROL}/{connection}/abort"), "1");
}

/// Mounts of another process that must not outlive this value: they are taken down by force when it is dropped.
#[derive(Debug)]
pub struct TakeDown {
    points: Vec<PathBuf>,
}

impl TakeDown {
    /// Watches over mount points.
    #[must_use]
    pub fn new(points: Vec<PathBuf>) -> TakeDown {
        TakeDown { points }
    }
}

impl Drop for TakeDown {
    fn drop(&mut self) {
        for point in &self.points {
            take_down(point);
        }
    }
}

/// Cuts a mount's connection when one of its requests has hung for longer than a limit, so that no program hangs for ever.
///
/// It runs beside the sessions and needs neither them nor the drive to be well.
pub(super) struct Watchdog {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watchdog {
    pub(super) fn start(watched: Vec<(PathBuf, Arc<Shared>)>, limit: Duration) -> io::Result<Watchdog> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let work = move || {
            while !stopped.load(Ordering::Relaxed) {
                for (point, shared) in &watched {
                    if shared.oldest().is_some_and(|age| age > limit)
                        && let Some(connection) = connection(point)
                    {
                        eprintln!("a request on {} hung for {limit:?}: its connection is cut", point.display());
                        abort(connection);
                    }
                }
                std::thread::sleep(Duration::from_millis(100));
            }
        };
        let thread = std::thread::Builder::new().name("watchdog".to_owned()).spawn(work)?;
        Ok(Watchdog { stop, thread: Some(thread) })
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It only sleeps and looks.
            let _ = thread.join();
        }
    }
}
