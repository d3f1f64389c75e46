//! Which type of drive is what, and which options weaken it.

use super::mountinfo::Mount;
use super::{Kind, Look, Profile};
use std::path::Path;

/// One kernel alone writes these. (`overlay` and `ecryptfs` lie on another drive, which for all practical mounts is local.)
const LOCAL: &[&str] = &[
    "adfs",
    "affs",
    "apfs",
    "bcachefs",
    "befs",
    "btrfs",
    "cramfs",
    "devtmpfs",
    "ecryptfs",
    "erofs",
    "exfat",
    "ext2",
    "ext3",
    "ext4",
    "f2fs",
    "fuse.exfat",
    "fuse.fuse-overlayfs",
    "fuse.lxcfs",
    "fuse.ntfs-3g",
    "fuseblk",
    "hfs",
    "hfsplus",
    "hugetlbfs",
    "iso9660",
    "jffs2",
    "jfs",
    "minix",
    "msdos",
    "nilfs2",
    "ntfs",
    "ntfs3",
    "overlay",
    "ramfs",
    "reiser4",
    "reiserfs",
    "rootfs",
    "squashfs",
    "tmpfs",
    "ubifs",
    "udf",
    "ufs",
    "vfat",
    "xfs",
    "zfs",
    "zonefs",
];

/// The server answers for the attributes of an open file when it is asked to.
const SHARED_STATX: &[&str] =
    &["beegfs", "ceph", "cifs", "gfs2", "gpfs", "lustre", "nfs", "nfs4", "ocfs2", "panfs", "smb3", "smbfs", "wekafs"];

/// Looks are answered from the client's cache. (What is in no list is taken for one of these.)
const SHARED_REOPEN: &[&str] = &[
    "9p",
    "afs",
    "coda",
    "drvfs",
    "fakeowner",
    "fuse.ceph-fuse",
    "fuse.glusterfs",
    "fuse.grpcfuse",
    "fuse.juicefs",
    "fuse.lizardfs",
    "fuse.mfs",
    "fuse.sshfs",
    "fuse.vmhgfs-fuse",
    "orangefs",
    "prl_fs",
    "pvfs2",
    "vboxsf",
    "virtiofs",
    "vmhgfs",
];

/// Neither `link` nor the renaming of folders is exclusive. These are parts of the FUSE type's or the source's name.
const OBJECT: &[&str] = &[
    "alluxio",
    "blobfuse",
    "cosfs",
    "curlftpfs",
    "davfs",
    "dropbox",
    "gcsfuse",
    "geesefs",
    "gocryptfs-reverse",
    "goofys",
    "google-drive",
    "gvfsd",
    "hdfs",
    "httpfs",
    "insync",
    "jmtpfs",
    "mountpoint-s3",
    "obsfs",
    "onedrive",
    "ossfs",
    "pcloud",
    "rclone",
    "riofs",
    "s3backer",
    "s3fs",
    "s3ql",
    "simple-mtpfs",
    "smbnetfs",
    "tigrisfs",
    "yas3fs",
];

/// Folders that a program copies to and from other hosts behind everybody's back.
const SYNC_FOLDERS: &[&str] = &["dropbox", "google drive", "googledrive", "icloud drive", "nextcloud", "onedrive", "owncloud", "syncthing"];

/// Judges a mount. `magic` is the type that the drive's magic number names, if it is a known one: when it is a network drive, the
/// list of mounts is not believed that it is none.
pub(super) fn judge(mount: &Mount, magic: Option<&str>) -> Profile {
    let (mut kind, mut look) = kind_of(&mount.fs_type, &mount.source);
    let mut name = mount.fs_type.as_str();
    if let (Kind::Local, Some(magic)) = (kind, magic)
        && SHARED_STATX.contains(&magic)
    {
        (kind, look) = kind_of(magic, "");
        name = magic;
    }
    let mut warnings = weak_options(name, mount);
    if kind == Kind::ObjectMount {
        warnings.push(format!("{name}: two hosts can be given the same name here; only one process may write"));
    } else if kind == Kind::Shared && !SHARED_STATX.contains(&name) && !SHARED_REOPEN.contains(&name) {
        warnings.push(format!("{name}: a drive of a type that is not known, taken for a network drive"));
    }
    Profile {
        kind,
        look,
        name: name.to_owned(),
        mount_point: Some(mount.mount_point.clone()).filter(|point| !point.as_os_str().is_empty()),
        read_only: mount.has("ro"),
        warnings,
    }
}

fn kind_of(fs_type: &str, source: &str) -> (Kind, Look) {
    if LOCAL.contains(&fs_type) {
        return (Kind::Local, Look::Statx);
    }
    if SHARED_STATX.contains(&fs_type) {
        return (Kind::Shared, Look::Statx);
    }
    if fs_type == "davfs" || is_object_mount(fs_type, source) {
        return (Kind::ObjectMount, Look::Reopen);
    }
    (Kind::Shared, Look::Reopen)
}

/// FUSE programs without a subtype show only in the source.
fn is_object_mount(fs_type: &str, source: &str) -> bool {
    let Some(subtype) = fs_type.strip_prefix("fuse") else { return false };
    let subtype = subtype.to_ascii_lowercase();
    let source = source.to_ascii_lowercase();
    if subtype.is_empty() && (source.starts_with("http://") || source.starts_with("https://")) {
        return true;
    }
    OBJECT.iter().any(|name| subtype.contains(name) || (subtype.is_empty() && source.contains(name)))
}

fn weak_options(name: &str, mount: &Mount) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut warn = |option: &str, why: &str| warnings.push(format!("{name}: mounted with `{option}`: {why}"));
    match name {
        "nfs" | "nfs4" => {
            if mount.has("nocto") {
                warn("nocto", "opening a file does not ask the server, so recovery may read what is old");
            }
            if let Some(option) = ["soft", "softerr"].into_iter().find(|option| mount.has(option)) {
                warn(option, "a slow server turns into errors whose outcome is unknown");
            }
            for option in ["actimeo", "acregmax", "acdirmax"] {
                if let Some(value) = mount.value(option).and_then(|value| value.parse::<u64>().ok()).filter(|seconds| *seconds > 60) {
                    warn(&format!("{option}={value}"), "names that other hosts made may stay unseen that long after a failure");
                }
            }
            if mount.value("vers").is_some_and(|version| version.starts_with('2')) {
                warn("vers=2", "exclusive names and flushes are not reliable; use version 3 or 4");
            }
        }
        "cifs" | "smb3" | "smbfs" => {
            if mount.has("nostrictsync") {
                warn("nostrictsync", "a flush does not reach the server's disk");
            }
            if mount.value("cache") == Some("loose") {
                warn("cache=loose", "this host goes on reading what other hosts have changed");
            }
        }
        "9p" => {
            if let Some(value) = mount.value("cache").filter(|value| ["loose", "fscache", "mmap"].contains(value)) {
                warn(&format!("cache={value}"), "this host goes on reading what other hosts have changed");
            }
        }
        "lustre" if mount.has("localflock") => warn("localflock", "locks hold on one host only (this cache does not need them)"),
        "overlay" if mount.has("volatile") => warn("volatile", "flushes do nothing, so a power failure may lose what was acknowledged"),
        "ext3" | "ext4" | "xfs" | "btrfs" => {
            if let Some(option) = ["nobarrier", "barrier=0"].into_iter().find(|option| mount.has(option)) {
                warn(option, "a power failure may lose what was flushed");
            }
        }
        _ => {}
    }
    warnings
}

/// Warns of a folder that looks like one that is copied between hosts.
pub(super) fn sync_folder(path: &Path) -> Option<String> {
    let name = path.components().map(|part| part.as_os_str().to_string_lossy().to_ascii_lowercase()).find(|part| {
        // "OneDrive - Company", "Dropbox (Personal)", but not "dropbox-cache".
        SYNC_FOLDERS.iter().any(|folder| part.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with(' ')))
    })?;
    Some(format!("the folder `{name}` looks like one that is copied between hosts: use the cache on one of them only"))
}

/// Returns the type that a drive's magic number stands for.
pub(super) const fn name_of_magic(magic: i64) -> Option<&'static str> {
    // Some systems widen the number with its sign.
    Some(match magic & 0xffff_ffff {
        0x0000_6969 => "nfs",
        0xff53_4d42 | 0xfe53_4d42 => "cifs",
        0x0000_517b => "smbfs",
        0x0bd0_0bd0 => "lustre",
        0x4750_4653 => "gpfs",
        0x00c3_6400 => "ceph",
        0x1983_0326 => "beegfs",
        0xaad7_aaea => "panfs",
        0x0116_1970 => "gfs2",
        0x7461_636f => "ocfs2",
        0x0102_1997 => "9p",
        0x5346_414f => "afs",
        0x7375_7245 => "coda",
        0x2003_0528 => "orangefs",
        0x6573_5546 => "fuse",
        0x0000_ef53 => "ext4",
        0x5846_5342 => "xfs",
        0x9123_683e => "btrfs",
        0x0102_1994 => "tmpfs",
        0x2fc1_2fc1 => "zfs",
        0x794c_7630 => "overlay",
        0xf2f5_2010 => "f2fs",
        0xca45_1a4e => "bcachefs",
        0x8584_58f6 => "ramfs",
        0x7366_746e => "ntfs3",
        0x5346_544e => "ntfs",
        0x2011_bab0 => "exfat",
        0x0000_4d44 => "vfat",
        0x0000_f15f => "ecryptfs",
        _ => return None,
    })
}
