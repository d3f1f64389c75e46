use super::*;
use crate::chance::OsChance;
use crate::clock::{Clock, ManualClock, OsClock};
use crate::vfs::mem::{Effect, Fault, MemVfs, Step};
use crate::vfs::{Space, Stat, VfsFile};
use std::sync::Arc;
use std::time::Duration;

/// A host with one of each.
const MOUNTS: &str = "\
21 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw,errors=remount-ro
22 21 0:5 / /proc rw,nosuid - proc proc rw
30 21 0:40 / /net/home rw,relatime shared:7 master:2 - nfs4 srv:/home rw,vers=4.2,hard,proto=tcp,local_lock=none
31 21 0:41 / /net/soft rw,relatime - nfs srv:/x ro,vers=3,soft,nocto,acregmax=3600,nolock
32 21 0:42 / /net/with\\040space\\134x rw - cifs //srv/share rw,vers=3.0,cache=strict,soft,nostrictsync
33 21 0:43 / /net/ssh rw,nosuid - fuse.sshfs me@srv:/ rw,user_id=0
34 21 0:44 / /net/gluster rw - fuse.glusterfs srv:/vol rw
35 21 0:45 / /net/s3 rw - fuse mountpoint-s3 rw
36 21 0:46 / /net/dav rw - fuse https://dav.example/x rw
37 21 0:47 / /net/rclone rw - fuse.rclone remote:x rw
38 21 0:48 / /net/odd rw - fuse.mystery x rw
39 21 0:49 / /net/lustre rw - lustre mgs:/x rw,localflock
40 21 0:50 / /net/new rw - quantumfs x rw
41 21 254:1 /srv/data /home/bind rw,relatime shared:1 - ext4 /dev/vda1 rw
42 30 0:51 / /net/home/local rw - xfs /dev/vdb rw,nobarrier
43 21 0:52 / /stack rw - ext4 /dev/vdc rw
44 43 0:53 / /stack rw - nfs4 srv:/stack rw
45 21 0:54 / /vm rw - virtiofs tag rw
46 21 0:55 / /plan9 rw - 9p hostshare rw,cache=loose
";

fn at(path: &str) -> Profile {
    detect_in(MOUNTS, Path::new(path), None, None, None).unwrap()
}

#[test]
fn each_type_of_drive_has_its_profile() {
    let cases = [
        ("/var/cache", Kind::Local, Look::Statx, "ext4"),
        ("/net/home/me/cache", Kind::Shared, Look::Statx, "nfs4"),
        ("/net/soft/x", Kind::Shared, Look::Statx, "nfs"),
        ("/net/with space\\x/y", Kind::Shared, Look::Statx, "cifs"),
        ("/net/ssh", Kind::Shared, Look::Reopen, "fuse.sshfs"),
        ("/net/gluster/a", Kind::Shared, Look::Reopen, "fuse.glusterfs"),
        ("/net/s3/a", Kind::ObjectMount, Look::Reopen, "fuse"),
        ("/net/dav/a", Kind::ObjectMount, Look::Reopen, "fuse"),
        ("/net/rclone/a", Kind::ObjectMount, Look::Reopen, "fuse.rclone"),
        ("/net/odd/a", Kind::Shared, Look::Reopen, "fuse.mystery"),
        ("/net/lustre/a", Kind::Shared, Look::Statx, "lustre"),
        ("/net/new/a", Kind::Shared, Look::Reopen, "quantumfs"),
        ("/home/bind/a", Kind::Local, Look::Statx, "ext4"),
        ("/net/home/local/a", Kind::Local, Look::Statx, "xfs"),
        ("/stack/a", Kind::Shared, Look::Statx, "nfs4"),
        ("/vm/a", Kind::Shared, Look::Reopen, "virtiofs"),
        ("/plan9", Kind::Shared, Look::Reopen, "9p"),
        // Not below the mount point of a similar name.
        ("/net/homestead", Kind::Local, Look::Statx, "ext4"),
    ];
    for (path, kind, look, name) in cases {
        let profile = at(path);
        assert_eq!((profile.kind, profile.look, profile.name.as_str()), (kind, look, name), "{path}");
    }
    assert_eq!(at("/net/home/local/a").mount_point.unwrap(), Path::new("/net/home/local"));
}

#[test]
fn every_object_mount_is_one_by_its_subtype_and_by_its_source() {
    for name in ["s3fs", "rclone", "mountpoint-s3", "davfs2", "smbnetfs", "goofys", "gcsfuse", "blobfuse2", "geesefs", "onedriver"] {
        for line in [format!("1 0 0:1 / / rw - fuse.{name} x rw"), format!("1 0 0:1 / / rw - fuse {name} rw")] {
            assert_eq!(detect_in(&line, Path::new("/c"), None, None, None).unwrap().kind, Kind::ObjectMount, "{line}");
        }
    }
    // A disk that is called so is none.
    let disk = detect_in("1 0 0:1 / /rclone rw - ext4 /dev/s3fs rw", Path::new("/rclone/c"), None, None, None).unwrap();
    assert_eq!(disk.kind, Kind::Local);
}

#[test]
fn what_weakens_a_drive_is_named_and_nothing_else() {
    let has = |path: &str, option: &str| at(path).warnings.iter().any(|warning| warning.contains(option));
    assert!(has("/net/soft/x", "`nocto`") && has("/net/soft/x", "`soft`") && has("/net/soft/x", "`acregmax=3600`"));
    assert!(!has("/net/soft/x", "nolock"), "locks are not used there");
    assert!(has("/net/with space\\x", "`nostrictsync`") && !has("/net/with space\\x", "soft"));
    assert!(has("/net/home/local", "`nobarrier`") && has("/plan9", "`cache=loose`") && has("/net/lustre", "`localflock`"));
    assert!(has("/net/odd", "not known") && has("/net/rclone", "only one process"));
    assert!(has("/data/OneDrive - Work/cache", "copied between hosts") && !has("/data/dropbox-cache", "copied"));
    for good in ["/var", "/net/home", "/net/gluster", "/net/ssh", "/home/bind"] {
        assert_eq!(at(good).warnings, Vec::<String>::new(), "{good}");
    }
    assert!(at("/net/soft").read_only && !at("/net/home").read_only);
}

#[test]
fn the_mount_id_decides_where_mount_points_deceive() {
    // Something was mounted over /stack later: the path, opened before, is still on the first.
    let profile = detect_in(MOUNTS, Path::new("/stack/a"), Some(43), None, None).unwrap();
    assert_eq!(profile.kind, Kind::Local);
    let unlisted = detect_in(MOUNTS, Path::new("/stack/a"), Some(999), None, None).unwrap();
    assert_eq!(unlisted.kind, Kind::Shared);
}

#[test]
fn the_magic_number_fills_in_and_reveals_a_network_drive() {
    let unseen = detect_in("", Path::new("/x"), None, table::name_of_magic(0xef53), None).unwrap();
    assert_eq!((unseen.kind, unseen.name.as_str()), (Kind::Local, "ext4"));
    let nothing = detect_in("garbage\n1 2", Path::new("/x"), None, None, None).unwrap();
    assert_eq!((nothing.kind, nothing.look), (Kind::Shared, Look::Reopen));
    let revealed = detect_in(MOUNTS, Path::new("/var"), None, Some("nfs"), None).unwrap();
    assert_eq!((revealed.kind, revealed.look, revealed.name.as_str()), (Kind::Shared, Look::Statx, "nfs"));
    assert_eq!(table::name_of_magic(i64::from(0xff53_4d42_u32.cast_signed())), Some("cifs"));
}

#[test]
fn an_override_decides_and_a_wrong_one_is_refused() {
    let forced = |path: &str, value: &str| detect_in(MOUNTS, Path::new(path), None, None, Some(value));
    let shared = forced("/var", "shared").unwrap();
    assert_eq!((shared.kind, shared.look), (Kind::Shared, Look::Statx));
    assert_eq!(forced("/net/odd", "shared:statx").unwrap().look, Look::Statx);
    assert_eq!(forced("/var", "shared:reopen").unwrap().look, Look::Reopen);
    assert_eq!(forced("/var", "object").unwrap().kind, Kind::ObjectMount);
    let local = forced("/net/home", "local").unwrap();
    assert!(local.kind == Kind::Local && local.warnings[0].contains(PROFILE_VARIABLE));
    assert_eq!(forced("/var", "").unwrap().kind, Kind::Local);
    assert_eq!(forced("/var", "nfs").unwrap_err().kind(), io::ErrorKind::InvalidInput);
}

#[test]
fn this_machine_is_detected_through_links_and_before_the_folder_exists() {
    let dir = tempfile::tempdir().unwrap();
    let here = detect(dir.path()).unwrap();
    assert!(here.mount_point.as_ref().is_some_and(|point| dir.path().canonicalize().unwrap().starts_with(point)), "{here:?}");
    assert_eq!(detect(&dir.path().join("not/yet/there")).unwrap(), here);
    let link = dir.path().join("proc");
    std::os::unix::fs::symlink("/proc", &link).unwrap();
    assert_eq!(detect(&link.join("self")).unwrap().name, "proc");
}

/// Looks take as long as told; links do as told.
#[derive(Debug)]
struct Odd {
    inner: MemVfs,
    replaces: bool,
}

impl Vfs for Odd {
    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        if self.replaces {
            let _ = self.inner.unlink(to);
        }
        self.inner.link(from, to)
    }
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn VfsFile>> {
        self.inner.open(path, mode)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.rename(from, to)
    }
    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.inner.unlink(path)
    }
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.inner.create_dir(path)
    }
    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.inner.remove_dir(path)
    }
    fn read_dir(&self, path: &Path) -> io::Result<Vec<String>> {
        self.inner.read_dir(path)
    }
    fn stat(&self, path: &Path) -> io::Result<Stat> {
        self.inner.stat(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.inner.sync_dir(path)
    }
    fn space(&self, path: &Path) -> io::Result<Space> {
        self.inner.space(path)
    }
}

/// A clock that moves by itself.
#[derive(Debug)]
struct Ticking(ManualClock);

impl Clock for Ticking {
    fn wall(&self) -> f64 {
        self.0.wall()
    }
    fn boot(&self) -> Duration {
        self.0.advance(Duration::from_micros(250));
        self.0.boot()
    }
    fn sleep(&self, span: Duration) {
        self.0.sleep(span);
    }
}

#[test]
fn a_sound_drive_passes_and_nothing_stays_behind() {
    let dir = tempfile::tempdir().unwrap();
    let probed = probe(&OsVfs, &OsClock, &OsChance, dir.path()).unwrap();
    assert!(probed.link_works && probed.link_refuses_existing && probed.fsync_works && probed.delete_while_open, "{probed:?}");
    assert_eq!(OsVfs.read_dir(dir.path()).unwrap(), Vec::<String>::new());
    let mem = MemVfs::new();
    mem.set_free(Some(1000));
    let probed = probe(&mem, &Ticking(ManualClock::default()), &OsChance, Path::new("/")).unwrap();
    assert_eq!((probed.latency_us, probed.space.free), (250, 1000));
    assert_eq!(mem.read_dir(Path::new("/")).unwrap(), Vec::<String>::new());
    let shared = at("/net/home").with_probe(&probed);
    assert_eq!((shared.kind, shared.warnings.len()), (Kind::Shared, 0));
}

#[test]
fn links_that_fail_or_replace_make_an_object_mount() {
    let mem = MemVfs::new();
    mem.fail(Fault { step: Step::Link, nth: 1, lasting: true, errno: libc::EPERM, effect: Effect::None });
    let none = probe(&mem, &OsClock, &OsChance, Path::new("/")).unwrap();
    assert!(!none.link_works && !none.link_refuses_existing && none.delete_while_open);
    assert_eq!(at("/net/odd").with_probe(&none).kind, Kind::ObjectMount);
    assert_eq!(at("/var").with_probe(&none).kind, Kind::Local, "a local disk needs none");
    let replacing = probe(&Odd { inner: MemVfs::new(), replaces: true }, &OsClock, &OsChance, Path::new("/")).unwrap();
    assert!(replacing.link_works && !replacing.link_refuses_existing);
    assert_eq!(at("/net/odd").with_probe(&replacing).kind, Kind::ObjectMount);
    // A link that was made although it reported an error counts: only the outcome does.
    let mem = MemVfs::new();
    mem.fail(Fault { step: Step::Link, nth: 1, lasting: false, errno: libc::EEXIST, effect: Effect::Done });
    let lost_reply = probe(&mem, &OsClock, &OsChance, Path::new("/")).unwrap();
    assert!(lost_reply.link_works && lost_reply.link_refuses_existing);
}

#[test]
fn a_client_that_keeps_a_closed_file_open_for_a_second_is_waited_for() {
    let mem = MemVfs::new();
    let mut fault = Fault { step: Step::Open, nth: 3, lasting: false, errno: libc::EINVAL, effect: Effect::None };
    for _ in 0..5 {
        mem.fail(fault);
        fault.nth += 1;
    }
    let clock = ManualClock::default();
    let probed = probe(&mem, &clock, &OsChance, Path::new("/")).unwrap();
    assert!(probed.link_works && clock.boot() > Duration::from_millis(100));
    fault.nth = 3;
    fault.lasting = true;
    mem.fail(fault);
    assert!(probe(&mem, &clock, &OsChance, Path::new("/")).is_err(), "but not for ever");
}

#[test]
fn a_drive_that_does_not_flush_is_warned_of_and_a_read_only_one_is_an_error() {
    let mem = MemVfs::new();
    mem.fail(Fault { step: Step::Sync, nth: 1, lasting: true, errno: libc::ENOSYS, effect: Effect::None });
    let probed = probe(&mem, &OsClock, &OsChance, Path::new("/")).unwrap();
    assert!(!probed.fsync_works);
    assert!(at("/net/home").with_probe(&probed).warnings[0].contains("flushed"));
    mem.heal();
    mem.fail(Fault { step: Step::CreateDir, nth: 2, lasting: true, errno: libc::EROFS, effect: Effect::None });
    assert_eq!(probe(&mem, &OsClock, &OsChance, Path::new("/")).unwrap_err().raw_os_error(), Some(libc::EROFS));
    assert_eq!(mem.read_dir(Path::new("/")).unwrap(), Vec::<String>::new(), "what was made before the error is removed");
}
