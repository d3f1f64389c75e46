//! What to do about what was found.

use std::io;

/// About a warning of the mount table, by the option that it names.
pub(super) fn of_warning(warning: &str) -> &'static str {
    const ADVICE: &[(&str, &str)] = &[
        ("`nocto`", "mount without `nocto`"),
        ("`soft", "mount `hard`; calls of this cache end by their own `timeout` also there"),
        ("`actimeo", "mount with a smaller `actimeo` (60 s is the default's most)"),
        ("`acregmax", "mount with a smaller `acregmax` (60 s is the default)"),
        ("`acdirmax", "mount with a smaller `acdirmax` (60 s is the default)"),
        ("`vers=2`", "mount with `vers=4.2`, or `vers=3`"),
        ("`nostrictsync`", "mount without `nostrictsync`"),
        ("`cache=", "mount with `cache=strict` (SMB) or `cache=none` (9p)"),
        ("`volatile`", "do not keep what must survive a power failure on a volatile overlay"),
        ("barrier", "mount without `nobarrier`, unless the disk's cache has a battery"),
        ("copied between hosts", "put the cache into a folder that no program copies, or use it on one host only"),
        ("one process may write", "write from one host at a time; to share, put the cache on NFS, SMB, Lustre, GlusterFS or sshfs"),
        ("second name", "write from one host at a time; to share, put the cache on NFS, SMB, Lustre, GlusterFS or sshfs"),
        ("name that existed", "write from one host at a time; to share, put the cache on NFS, SMB, Lustre, GlusterFS or sshfs"),
        ("flushed", "use a drive that can flush, or do not count on what was stored surviving the server"),
        ("not known", "run this with a second mount of the share (DIR2), and `harness validate`, before you trust it"),
    ];
    ADVICE.iter().find(|(option, _)| warning.contains(option)).map_or("", |(_, advice)| advice)
}

/// About an error of the drive.
pub(super) fn of_error(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::ENOSPC | libc::EDQUOT) => "make room on the drive",
        Some(libc::EACCES | libc::EPERM) => "give this user the right to write here",
        Some(libc::EROFS) => "mount it `rw`; a cache on it can be read as it is",
        Some(libc::ESTALE) => "mount it anew: the server does not know this mount any more",
        Some(libc::ENOTCONN | libc::EIO | libc::EHOSTDOWN | libc::ETIMEDOUT) => "see whether the server is up, and mount it anew",
        _ => "see what the drive's manual says of this error",
    }
}
