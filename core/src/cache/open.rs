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
use crate::format::wire::Malformed;
use crate::format::{BodyBuilder, Marker, Record};
use crate::index::{Access, Doorkeeper, RunFiles, VfsRunDir};
use crate::log::local::{LocalLog, LocalOptions};
use crate::log::shared::{SharedLog, SharedOptions};
use crate::log::{Cursor, Log};
use crate::mount::{self, Kind, Profile};
use crate::sync::{AtomicBool, AtomicU64, Mutex, RwLock, read};
use crate::vfs::bounded::{self, BoundedVfs};
use crate::vfs::{OpenMode, Vfs};
use std::io;
use std::path::Path;
use std::sync::Arc;

/// The marker and its copy: either says what the directory is.
pub(crate) const MARKERS: [&str; 2] = ["CACHE", "CACHE.copy"];
/// Everything that a cache keeps in its directory.
pub(crate) const NAMES: [&str; 10] = ["CACHE", "CACHE.copy", "tail", "maintain", "seg", "run", "fold", "blob", "stage", "log"];
const BELL: &str = "bell";

/// Bits of an address that make a usage bucket: 1 MiB of a local log, 64 commits of a shared one.
const fn bucket_bits(mode: Mode) -> u32 {
    match mode {
        Mode::Local => 20,
        Mode::Shared => crate::log::ADDR_OFFSET_BITS + 6,
    }
}

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
    let deadline = Deadline::after(&*clock, options.timeout);
    for (name, value) in &options.settings {
        Tuning::check(name, value)?;
    }
    let _until = (patience == Patience::Bounded).then(|| bounded::until(deadline));
    let drive = match (&options.drive, patience) {
        (Some(known), _) => Ok(known.clone()),
        (None, Patience::Bounded) => {
            let dir = dir.to_owned();
            bounded::call(Arc::clone(&clock), options.timeout, move || mount::detect(&dir))
        }
        (None, Patience::AsGiven) => mount::detect(dir),
    };
    let drive = drive.map_err(|e| Error::io("find out what drive holds", dir, e))?;
    let is_shared = drive.kind != Kind::Local || options.profile == Some(ProfileOverride::Shared);
    let is_bounded = patience == Patience::Bounded && is_shared;
    let vfs: Arc<dyn Vfs> = if is_bounded {
        Arc::new(BoundedVfs::new(Arc::clone(&unbounded), Arc::clone(&clock), options.timeout))
    } else {
        Arc::clone(&unbounded)
    };
    let marker = match read_marker(&*vfs, dir)? {
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
pub(crate) fn read_marker(vfs: &dyn Vfs, dir: &Path) -> Result<Option<Marker>> {
    let (mut damage, mut newer) = (None, None);
    for name in MARKERS {
        let path = dir.join(name);
        let mut bytes = vec![0; MARKER_LEN];
        let read = vfs.open(&path, OpenMode::Read).and_then(|file| {
            let n = file.read_at(&mut bytes, 0)?;
            bytes.truncate(n);
            Ok(())
        });
        match read {
            Ok(()) => {}
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => continue,
            Err(e) => return Err(Error::io("read", &path, e)),
        }
        match Marker::parse(&bytes) {
            Ok(marker) => return Ok(Some(marker)),
            // Only if the other one does not say otherwise: it may be damage.
            Err(Malformed::Version(version)) => newer = Some(version),
            Err(why) => damage = Some((why, path)),
        }
    }
    if let Some(version) = newer {
        let what = format!("the cache was made by a newer version (format {version}); upgrade to open it. Nothing was touched:");
        return Err(Error::new(ErrorKind::Incompatible, what).at(dir));
    }
    if let Some((why, path)) = damage {
        return Err(
            Error::new(ErrorKind::Incompatible, format!("{why}; this is no cache that can be opened. Nothing was touched:")).at(&path)
        );
    }
    refuse_foreign_folder(vfs, dir).map(|()| None)
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
    publish_marker(&**vfs, dir, &marker)?;
    // Whoever was first has named the cache; everybody reads what is there.
    read_marker(&**vfs, dir)?.ok_or_else(|| Error::new(ErrorKind::Io, "the drive does not show the cache that was just made in").at(dir))
}

fn shared_options(options: &Options, drive: &Profile) -> SharedOptions {
    SharedOptions {
        look: drive.look,
        grace: options.grace,
        readers: options.readers,
        chance: Arc::clone(&options.chance),
        // A local disk (tests, one host) needs its directories synced; on a network drive the server sees to names.
        sync_names: drive.kind == Kind::Local,
        defuse_leases: drive.name == "cifs" || drive.name == "smb3",
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

fn publish_marker(vfs: &dyn Vfs, dir: &Path, marker: &Marker) -> Result<()> {
    let staged = dir.join(format!("CACHE.{:032x}", marker.id));
    crate::compaction::fold::write_new(vfs, dir, &staged, &marker.encode())?;
    // The copy is linked second: only the first name decides which of two new caches counts.
    let first = vfs.link(&staged, &dir.join(MARKERS[0]));
    if read_marker_of(vfs, &dir.join(MARKERS[0])) == Some(*marker) {
        // A copy that cannot be made is missing, no more: the marker itself is there.
        vfs.link(&staged, &dir.join(MARKERS[1])).or(Ok::<(), io::Error>(())).map_err(|e| Error::io("link", dir, e))?;
    } else if let Err(e) = first
        && e.kind() != io::ErrorKind::AlreadyExists
        && read_marker_of(vfs, &dir.join(MARKERS[0])).is_none()
    {
        return Err(Error::io("name the new cache in", dir, e));
    }
    vfs.unlink(&staged).or(Ok::<(), io::Error>(())).map_err(|e| Error::io("tidy", dir, e))?;
    vfs.sync_dir(dir).map_err(|e| Error::io("sync", dir, e))
}

/// Puts a whole marker in the place of a damaged or missing one. The other one tells everybody meanwhile what the cache is.
pub(crate) fn rewrite_marker(vfs: &dyn Vfs, chance: &dyn Chance, dir: &Path, name: &str, marker: &Marker) -> Result<()> {
    let (staged, path) = (dir.join(format!("CACHE.{:032x}", chance::wide(chance)?)), dir.join(name));
    crate::compaction::fold::write_new(vfs, dir, &staged, &marker.encode())?;
    match vfs.unlink(&path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(Error::io("remove", &path, e)),
        _ => {}
    }
    let linked = vfs.link(&staged, &path);
    vfs.unlink(&staged).or(Ok::<(), io::Error>(())).map_err(|e| Error::io("tidy", dir, e))?;
    if read_marker_of(vfs, &path) != Some(*marker) {
        return linked.map_err(|e| Error::io("name", &path, e));
    }
    vfs.sync_dir(dir).map_err(|e| Error::io("sync", dir, e))
}

pub(crate) fn read_marker_of(vfs: &dyn Vfs, path: &Path) -> Option<Marker> {
    let mut bytes = [0; MARKER_LEN];
    vfs.open(path, OpenMode::Read).ok()?.read_exact_at(&mut bytes, 0).ok()?;
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
    let bits = bucket_bits(marker.mode);
    let engine = Engine {
        folds: FoldFiles::new(Arc::clone(&vfs), dir, seed, is_local),
        blobs: Blobs::new(Arc::clone(&vfs), dir, seed, Arc::clone(&options.chance), durable_blobs, sync_names),
        sync_names,
        dir: dir.to_owned(),
        me,
        state: RwLock::new(State::empty(Arc::clone(&files), bits, 0)),
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
    engine.commit(&body, deadline).map(drop)
}
