//! Opening and making caches: `CACHE`, its copy, and what else may be in the directory.

use crate::blob::Blobs;
use crate::cache::accesses::Accesses;
use crate::cache::engine::Engine;
use crate::cache::group::Group;
use crate::cache::maintain::Maintenance;
use crate::cache::options::{Durability, Options, ProfileOverride, Setting, Tuning};
use crate::cache::state::State;
use crate::cache::worker::Worker;
use crate::chance::{self, Chance};
use crate::clock::{Clock, Deadline};
use crate::compaction::FoldFiles;
use crate::error::{Error, ErrorKind, Result};
use crate::format::marker::{MARKER_LEN, Mode};
use crate::format::wire::{Malformed, advice_on};
use crate::format::{BodyBuilder, Marker, Record};
use crate::index::{Access, Doorkeeper, RunFiles, VfsRunDir};
use crate::log::local::{LocalLog, LocalOptions};
use crate::log::shared::{SharedLog, SharedOptions};
use crate::log::{Cursor, Log};
use crate::mount::{self, Kind, Profile};
use crate::sync::{AtomicBool, AtomicU64, Mutex, RwLock, read};
use crate::vfs::bounded::{self, BoundedVfs};
use crate::vfs::{InTurns, OpenMode, Vfs};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// The marker and its copy: either says what the directory is.
pub(crate) const MARKERS: [&str; 2] = ["CACHE", "CACHE.copy"];
/// Everything that a cache keeps in its directory.
pub(crate) const NAMES: [&str; 10] = ["CACHE", "CACHE.copy", "tail", "maintain", "seg", "run", "fold", "blob", "stage", "log"];
const BELL: &str = "bell";
/// What opening may take, however short the timeout is: a busy machine is not a dead drive.
const OPEN_TIME: Duration = Duration::from_secs(2);
/// How long a marker is tried that may be open under its other name: a closed file stays open for a second on SMB drives.
const OTHER_NAME_PATIENCE: Duration = Duration::from_secs(3);
const OTHER_NAME_PAUSE: Duration = Duration::from_millis(20);

/// How an engine reaches its drive.
#[derive(Debug)]
pub(crate) struct Doors {
    vfs: Arc<dyn Vfs>,
    /// The same without bounds: a forked child bounds it anew.
    pub(crate) unbounded: Arc<dyn Vfs>,
    pub(crate) patience: Patience,
    pub(crate) is_bounded: bool,
}

/// What is done about a drive that does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    /// Calls to one that is not local end by their deadline.
    Bounded,
    /// The file system that was given sees to that itself.
    AsGiven,
}

/// Opens the cache in `dir`, and makes it if there is none.
pub(crate) fn open(
    unbounded: Arc<dyn Vfs>,
    clock: Arc<dyn Clock>,
    dir: &Path,
    options: Options,
    boot: u64,
    patience: Patience,
) -> Result<Engine> {
    for (name, value) in &options.settings {
        Tuning::check(name, value)?;
    }
    let time = if patience == Patience::Bounded { options.timeout.max(OPEN_TIME) } else { options.timeout };
    let deadline = Deadline::after(&*clock, time);
    let drive = match (&options.drive, patience) {
        (Some(known), _) => Ok(known.clone()),
        (None, Patience::Bounded) => {
            let dir = dir.to_owned();
            bounded::call(Arc::clone(&clock), time, move || mount::detect(&dir))
        }
        (None, Patience::AsGiven) => mount::detect(dir),
    };
    let drive = drive.map_err(|e| Error::io("find out what drive holds", dir, e))?;
    let unbounded = if drive.has_leases() { Arc::new(InTurns::new(unbounded, Arc::clone(&clock), dir)) } else { unbounded };
    let is_shared = drive.kind != Kind::Local || options.profile == Some(ProfileOverride::Shared);
    let is_bounded = patience == Patience::Bounded && is_shared;
    let vfs: Arc<dyn Vfs> =
        if is_bounded { Arc::new(BoundedVfs::new(Arc::clone(&unbounded), Arc::clone(&clock), time)) } else { Arc::clone(&unbounded) };
    let _until = is_bounded.then(|| bounded::until(deadline));
    let marker = match read_marker(&*vfs, &*clock, dir)? {
        Some(marker) => marker,
        None => create(&vfs, &clock, dir, &options, &drive, deadline)?,
    };
    check_mode(&marker, &options, drive.kind, dir)?;
    let doors = Doors { vfs, unbounded, patience, is_bounded };
    let engine = build(doors, clock, dir, options, marker, &drive, boot, deadline)?;
    store_settings(&engine, deadline)?;
    Ok(engine)
}

/// Reads `CACHE`, or its copy where it is damaged or missing. `None`: there is no cache yet, and one may be made.
pub(crate) fn read_marker(vfs: &dyn Vfs, clock: &dyn Clock, dir: &Path) -> Result<Option<Marker>> {
    let (mut damage, mut other) = (None, None);
    for name in MARKERS {
        let path = dir.join(name);
        let bytes = match read_start(vfs, clock, &path) {
            Ok(bytes) => bytes,
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => continue,
            Err(e) => return Err(Error::io("read", &path, e)),
        };
        match Marker::parse(&bytes) {
            Ok(marker) => return Ok(Some(marker)),
            // Only if the other one does not say otherwise: it may be damage.
            Err(Malformed::Version(version)) => other = Some(version),
            Err(why) => damage = Some((why, path)),
        }
    }
    if let Some(version) = other {
        let what = format!("the cache was {}. Nothing was touched:", advice_on(version));
        return Err(Error::new(ErrorKind::Incompatible, what).at(dir));
    }
    if let Some((why, path)) = damage {
        return Err(
            Error::new(ErrorKind::Incompatible, format!("{why}; this is no cache that can be opened. Nothing was touched:")).at(&path)
        );
    }
    refuse_foreign_folder(vfs, dir).map(|()| None)
}

/// Reads what should be a marker. A CIFS client answers EINVAL where it has the file open by its other name, as long as it puts off closing
/// that (older caches have one file under both names). It is waited for no longer than the call that asks may take.
fn read_start(vfs: &dyn Vfs, clock: &dyn Clock, path: &Path) -> io::Result<Vec<u8>> {
    let call = bounded::current().unwrap_or(Deadline::NEVER);
    let patience = Deadline::after(clock, OTHER_NAME_PATIENCE).min(call);
    loop {
        let mut bytes = vec![0; MARKER_LEN];
        let read = vfs.open(path, OpenMode::Read).and_then(|file| file.read_at(&mut bytes, 0));
        match read {
            Err(e) if e.kind() == io::ErrorKind::InvalidInput && !patience.passed(clock) => clock.sleep(OTHER_NAME_PAUSE),
            Err(e) if e.kind() == io::ErrorKind::InvalidInput && call.passed(clock) => return Err(rustix::io::Errno::TIMEDOUT.into()),
            read => {
                bytes.truncate(read?);
                return Ok(bytes);
            }
        }
    }
}

/// Refuses a directory with something else in it: a cache is made in an empty or a new one.
fn refuse_foreign_folder(vfs: &dyn Vfs, dir: &Path) -> Result<()> {
    let names = match vfs.read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(Error::io("open a cache in", dir, e)),
        Ok(names) => names,
    };
    let foreign = |name: &&String| {
        let ours = NAMES.contains(&name.as_str()) || *name == BELL || name.starts_with("CACHE.");
        !ours && !name.starts_with('.') && *name != "lost+found"
    };
    match names.iter().find(foreign) {
        None => Ok(()),
        Some(name) if name.starts_with("cache.db") => {
            let what = "this is a cache of python-diskcache (it has a `cache.db`); choose an empty directory. Nothing was touched:";
            Err(Error::new(ErrorKind::Incompatible, what).at(dir))
        }
        Some(name) => {
            let what = format!("the directory is no cache and not empty (it has `{name}`); choose an empty one. Nothing was touched:");
            Err(Error::new(ErrorKind::Incompatible, what).at(dir))
        }
    }
}

/// Makes a cache: everything that it needs first, the name that says so last.
fn create(
    vfs: &Arc<dyn Vfs>,
    clock: &Arc<dyn Clock>,
    dir: &Path,
    options: &Options,
    drive: &Profile,
    deadline: Deadline,
) -> Result<Marker> {
    if options.read_only {
        return Err(Error::new(ErrorKind::Refused, "there is no cache to be read in").at(dir));
    }
    let mode = match (options.profile, drive.kind) {
        (Some(ProfileOverride::Local), _) | (None, Kind::Local) => Mode::Local,
        (Some(ProfileOverride::Shared), _) | (None, Kind::Shared) => Mode::Shared,
        (None, Kind::ObjectMount) => {
            let what = "this drive can neither link a file nor refuse a name that exists, so several hosts cannot share a cache on it; use a local \
                        directory, or a drive like NFS, SMB or sshfs:";
            return Err(Error::new(ErrorKind::Refused, what).at(dir));
        }
    };
    create_dirs(&**vfs, dir)?;
    let marker = Marker { mode, id: chance::wide(&*options.chance)?, created: clock.wall() };
    match mode {
        Mode::Local => LocalLog::prepare(&**vfs, dir)?,
        Mode::Shared => {
            let options = shared_options(options, drive);
            SharedLog::create(Arc::clone(vfs), Arc::clone(clock), dir, marker, options, deadline)?;
        }
    }
    publish_marker(&**vfs, &**clock, &*options.chance, dir, &marker)?;
    // Whoever was first has named the cache; everybody reads what is there.
    read_marker(&**vfs, &**clock, dir)?
        .ok_or_else(|| Error::new(ErrorKind::Io, "the drive does not show the cache that was just made in").at(dir))
}

fn shared_options(options: &Options, drive: &Profile) -> SharedOptions {
    SharedOptions {
        look: drive.look,
        grace: options.grace,
        readers: options.readers,
        chance: Arc::clone(&options.chance),
        // A local disk (tests, one host) needs its directories synced; on a network drive the server sees to names.
        sync_names: drive.kind == Kind::Local,
        read_only: options.read_only,
        ..SharedOptions::default()
    }
}

fn create_dirs(vfs: &dyn Vfs, dir: &Path) -> Result<()> {
    match vfs.create_dir(dir) {
        Ok(()) => sync_parent(vfs, dir),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
        Err(e) if e.kind() == io::ErrorKind::NotFound && dir.parent().is_some_and(|p| p != dir) => {
            create_dirs(vfs, dir.parent().unwrap_or(dir))?;
            match vfs.create_dir(dir) {
                Ok(()) => sync_parent(vfs, dir),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(Error::io("create", dir, e)),
            }
        }
        Err(e) => return Err(Error::io("create", dir, e)),
    }
    Ok(())
}

/// Makes a new directory's name durable: what is acknowledged in it must not vanish with it.
fn sync_parent(vfs: &dyn Vfs, dir: &Path) {
    if let Some(parent) = dir.parent() {
        // A directory that others own may not be readable, and then cannot be synced by us.
        drop(vfs.sync_dir(if parent.as_os_str().is_empty() { Path::new(".") } else { parent }));
    }
}

fn publish_marker(vfs: &dyn Vfs, clock: &dyn Clock, chance: &dyn Chance, dir: &Path, marker: &Marker) -> Result<()> {
    let first = name_marker(vfs, chance, dir, MARKERS[0], marker, false)?;
    match read_marker_of(vfs, clock, &dir.join(MARKERS[0])) {
        // The copy is made second: only the first name decides which of two new caches counts. One that cannot be made is missing, no more.
        Some(there) if there == *marker => drop(name_marker(vfs, chance, dir, MARKERS[1], marker, false)),
        None if first.as_ref().is_err_and(|e| e.kind() != io::ErrorKind::AlreadyExists) => {
            return first.map_err(|e| Error::io("name the new cache in", dir, e));
        }
        _ => {}
    }
    vfs.sync_dir(dir).map_err(|e| Error::io("sync", dir, e))
}

/// Writes a marker and gives it a name; returns what the drive said to that. Each name has a file of its own: what damages one leaves the
/// other.
fn name_marker(vfs: &dyn Vfs, chance: &dyn Chance, dir: &Path, name: &str, marker: &Marker, replaces: bool) -> Result<io::Result<()>> {
    let (staged, path) = (dir.join(format!("CACHE.{:032x}", chance::wide(chance)?)), dir.join(name));
    crate::compaction::fold::write_new(vfs, dir, &staged, &marker.encode())?;
    if replaces
        && let Err(e) = vfs.unlink(&path)
        && e.kind() != io::ErrorKind::NotFound
    {
        return Err(Error::io("remove", &path, e));
    }
    let linked = vfs.link(&staged, &path);
    // A staged marker that stays is one that nobody reads.
    drop(vfs.unlink(&staged));
    Ok(linked)
}

/// Puts a whole marker in the place of a damaged or missing one. The other one tells everybody meanwhile what the cache is.
pub(crate) fn rewrite_marker(vfs: &dyn Vfs, clock: &dyn Clock, chance: &dyn Chance, dir: &Path, name: &str, marker: &Marker) -> Result<()> {
    let (path, named) = (dir.join(name), name_marker(vfs, chance, dir, name, marker, true)?);
    if read_marker_of(vfs, clock, &path) != Some(*marker) {
        return named.map_err(|e| Error::io("name", &path, e));
    }
    vfs.sync_dir(dir).map_err(|e| Error::io("sync", dir, e))
}

pub(crate) fn read_marker_of(vfs: &dyn Vfs, clock: &dyn Clock, path: &Path) -> Option<Marker> {
    let bytes = read_start(vfs, clock, path).ok()?;
    Marker::parse(&bytes).ok()
}

fn check_mode(marker: &Marker, options: &Options, drive: Kind, dir: &Path) -> Result<()> {
    if marker.mode == Mode::Local && drive != Kind::Local && options.profile != Some(ProfileOverride::Local) {
        let what = "this cache was made on a local disk and is now seen through a network drive, where its host could be writing to it; open it on \
                    that host, or copy its entries into a new cache on the drive:";
        return Err(Error::new(ErrorKind::Incompatible, what).at(dir));
    }
    if marker.mode == Mode::Shared && drive == Kind::ObjectMount && !options.read_only && options.profile != Some(ProfileOverride::Shared) {
        let what = "this drive has no sound `link`: the cache can be read (read-only), not written:";
        return Err(Error::new(ErrorKind::Refused, what).at(dir));
    }
    Ok(())
}

#[expect(clippy::too_many_arguments, reason = "the parts of one value, each of its own kind")]
fn build(
    doors: Doors,
    clock: Arc<dyn Clock>,
    dir: &Path,
    options: Options,
    marker: Marker,
    drive: &Profile,
    boot: u64,
    deadline: Deadline,
) -> Result<Engine> {
    let seed = marker.seed();
    let is_local = marker.mode == Mode::Local;
    let vfs = Arc::clone(&doors.vfs);
    let (log, local): (Arc<dyn Log>, _) = if is_local {
        let local = LocalOptions { boot, read_only: options.read_only };
        let log = Arc::new(LocalLog::open(Arc::clone(&vfs), Arc::clone(&clock), dir, &marker, &local, deadline)?);
        (Arc::clone(&log) as _, Some(log))
    } else {
        let shared = shared_options(&options, drive);
        (Arc::new(SharedLog::open(Arc::clone(&vfs), Arc::clone(&clock), dir, marker, shared)) as _, None)
    };
    let run_dir = Arc::new(VfsRunDir::new(Arc::clone(&vfs), dir.join("run")));
    let files = Arc::new(RunFiles::new(run_dir, if is_local { Access::Mapped } else { Access::PAGED }, seed));
    let me = chance::wide(&*options.chance)?;
    let durable_blobs = !is_local || options.durability == Durability::Host;
    // On a network drive the server sees to names; a local disk wants its directories synced, also under a shared log.
    let sync_names = is_local || drive.kind == Kind::Local;
    let engine = Engine {
        folds: FoldFiles::new(Arc::clone(&vfs), dir, seed, is_local),
        blobs: Blobs::new(Arc::clone(&vfs), dir, seed, Arc::clone(&options.chance), durable_blobs, sync_names),
        sync_names,
        dir: dir.to_owned(),
        me,
        state: RwLock::new(State::empty(Arc::clone(&files), 0)),
        vfs,
        doors,
        clock,
        marker,
        options,
        boot,
        log,
        local,
        cursor: Mutex::new(Cursor::default()),
        replayed: crate::publish::Replayed::default(),
        looked: AtomicU64::new(0),
        files,
        hits: AtomicU64::new(0),
        misses: AtomicU64::new(0),
        damaged: AtomicU64::new(0),
        accesses: Accesses::default(),
        doorkeeper: Doorkeeper::default(),
        group: Group::default(),
        maintenance: Maintenance::default(),
        worker: Worker::default(),
        transaction: crate::cache::transact::Transactions::default(),
        closed: AtomicBool::new(false),
    };
    let mut cursor = engine.lock_cursor(deadline)?;
    engine.reload(&mut cursor, deadline)?;
    if let (Some(local), false) = (&engine.local, engine.options.read_only) {
        let broken = read(&engine.state).damaged_commits > 0;
        if local.mend_end(*cursor, broken, deadline)? {
            engine.reload(&mut cursor, deadline)?;
        }
    }
    engine.note_look();
    engine.limit_segments();
    drop(cursor);
    Ok(engine)
}

/// Stores the settings that the caller gave and that are not stored so already.
fn store_settings(engine: &Engine, deadline: Deadline) -> Result<()> {
    let mut body = BodyBuilder::default();
    for (name, value) in &engine.options.settings {
        if read(&engine.state).settings.get(name) != Some(value) {
            body.push(&Record::Setting(name, &Setting::encode(value)));
        }
    }
    if body.is_empty() || engine.options.read_only {
        return Ok(());
    }
    let mut settings = read(&engine.state).settings.clone();
    settings.extend(engine.options.settings.iter().cloned());
    engine.limit_segments_for(&Tuning::of(&settings));
    engine.commit(&body, deadline).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chance::OsChance;
    use crate::clock::ManualClock;
    use crate::vfs::MemVfs;
    use crate::vfs::mem::{Effect, Fault, Step};

    const MARKER: Marker = Marker { mode: Mode::Shared, id: 7, created: 1.0 };

    /// The copy was a second name of the marker's file once: what damaged the one damaged the other, and a CIFS client cannot open a
    /// file by one name while it has it open by another.
    #[test]
    fn the_marker_and_its_copy_are_two_files() {
        let (vfs, dir) = (MemVfs::new(), Path::new("/"));
        publish_marker(&vfs, &ManualClock::default(), &OsChance, dir, &MARKER).unwrap();
        let stat = |name: &str| vfs.stat(&dir.join(name)).unwrap();
        assert_eq!(MARKERS.map(|name| stat(name).links), [1, 1]);
        assert_ne!(stat(MARKERS[0]).inode, stat(MARKERS[1]).inode);
        assert_eq!(vfs.read_dir(dir).unwrap().len(), 2, "nothing staged stays");
        // Whoever comes second takes what is there, and adds nothing.
        publish_marker(&vfs, &ManualClock::default(), &OsChance, dir, &Marker { id: 8, ..MARKER }).unwrap();
        assert_eq!(read_marker(&vfs, &ManualClock::default(), dir).unwrap(), Some(MARKER));
        assert_eq!(vfs.read_dir(dir).unwrap().len(), 2);
    }

    /// `check` said "damaged or missing" of a marker that this host had open by its other name.
    #[test]
    fn a_marker_that_is_still_open_by_its_other_name_is_waited_for_and_not_for_ever() {
        let (vfs, clock, path) = (MemVfs::new(), ManualClock::default(), Path::new("/CACHE"));
        publish_marker(&vfs, &clock, &OsChance, Path::new("/"), &MARKER).unwrap();
        let mut fault = Fault { step: Step::Open, nth: 1, lasting: false, errno: libc::EINVAL, effect: Effect::None };
        for _ in 0..10 {
            vfs.fail(fault);
            fault.nth += 1;
        }
        assert_eq!(read_marker_of(&vfs, &clock, path), Some(MARKER));
        assert!(clock.boot() >= OTHER_NAME_PAUSE * 10);
        vfs.fail(Fault { nth: 1, lasting: true, ..fault });
        assert_eq!(read_marker_of(&vfs, &clock, path), None);
        assert!(clock.boot() < OTHER_NAME_PATIENCE * 2);

        // Opening a cache with a timeout of a twentieth of a second took seven seconds: each read of a marker was patient by itself.
        let (begun, call) = (clock.boot(), Duration::from_millis(50));
        let _until = bounded::until(Deadline::after(&clock, call));
        let error = read_marker(&vfs, &clock, Path::new("/")).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ETIMEDOUT), "{error}");
        assert!(clock.boot() - begun <= call + OTHER_NAME_PAUSE);
    }
}
