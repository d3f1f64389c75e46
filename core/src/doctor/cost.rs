//! What the primitives cost: time, and on NFS the requests that the kernel counted.

use super::{Examination, Folder, Severity, Tools, write};
use crate::vfs::{OpenMode, Vfs};
use std::io;
use std::path::Path;
use std::time::Duration;

const TIMES: u32 = 12;
/// From here on a round trip is slow for a cache.
const SLOW: Duration = Duration::from_millis(20);

pub(super) fn measure(examination: &mut Examination, tools: &Tools<'_>, folder: &Folder<'_>) -> io::Result<()> {
    let vfs = tools.vfs;
    let (whole, named) = (|n: u32| folder.path(&format!("cost-{n}")), |n: u32| folder.path(&format!("named-{n}")));
    let mount = examination.profile.mount_point.clone();
    let mut rows = Vec::new();
    let mut time = |what: &str, act: &dyn Fn(u32) -> io::Result<()>| -> io::Result<Duration> {
        let before = requests(vfs, mount.as_deref());
        let mut spans = Vec::new();
        for n in 0..TIMES {
            let start = tools.clock.boot();
            act(n)?;
            spans.push(tools.clock.boot().saturating_sub(start));
        }
        spans.sort_unstable();
        let median = spans[spans.len() / 2];
        let trips = before.zip(requests(vfs, mount.as_deref())).map(|(before, after)| (after - before) as f64 / f64::from(TIMES));
        let trips = trips.map(|trips| format!(", {trips:.1} requests")).unwrap_or_default();
        rows.push((what.to_owned(), format!("{} us{trips}", median.as_micros())));
        Ok(median)
    };
    time("cost of a new file, flushed", &|n| write(vfs, &whole(n), &[b'c'; 128]))?;
    // A drive without links has said so already.
    let _ = time("cost of a link", &|n| vfs.link(&whole(n), &named(n)));
    time("cost of opening and reading", &|n| super::read(vfs, &whole(n)).map(drop))?;
    let open = vfs.open(&whole(0), OpenMode::Read)?;
    let look = time("cost of a look at the server", &|_| open.len_fresh().map(drop))?;
    time("cost of a stat", &|n| vfs.stat(&whole(n)).map(drop))?;
    time("cost of a listing", &|_| vfs.read_dir(&folder.path).map(drop))?;
    open.close()?;
    time("cost of a removal", &|n| vfs.unlink(&whole(n)))?;
    for (what, found) in rows {
        examination.add(Severity::Good, &what, found, "");
    }
    if look > SLOW {
        let found = format!("a look takes {} ms, and every exact read is one", look.as_millis());
        examination.add(Severity::Note, "latency", found, "open caches with `max_staleness=SECONDS` where reads may be that old");
    }
    Ok(())
}

/// How many requests the NFS client has sent for a mount.
fn requests(vfs: &dyn Vfs, mount: Option<&Path>) -> Option<u64> {
    let wanted = format!(" mounted on {} with fstype nfs", mount?.display());
    let file = vfs.open(Path::new("/proc/self/mountstats"), OpenMode::Read).ok()?;
    let mut text = Vec::new();
    let mut buf = vec![0; 64 << 10];
    loop {
        match file.read_at(&mut buf, text.len() as u64).ok()? {
            0 => break,
            n => text.extend_from_slice(&buf[..n]),
        }
    }
    count(&String::from_utf8_lossy(&text), &wanted)
}

fn count(text: &str, wanted: &str) -> Option<u64> {
    let mut lines =
        text.lines().skip_while(|line| !line.contains(wanted)).skip(1).take_while(|line| !line.starts_with("device ")).peekable();
    lines.peek()?;
    let operation = |line: &str| -> Option<u64> {
        let (name, numbers) = line.trim().split_once(": ")?;
        let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
        is_name.then(|| numbers.split(' ').next()?.parse().ok()).flatten()
    };
    Some(lines.filter_map(operation).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_of_one_mount_are_counted_and_bytes_and_transports_are_not() {
        let text = "device a mounted on / with fstype ext4\ndevice s:/ mounted on /n with fstype nfs4 statvers=1.1\n\tbytes:\t9 9\n\
                    \txprt:\ttcp 1 1\n\tper-op statistics\n\t        NULL: 1 1 0\n\t        OPEN_NOATTR: 3 3 0 1\n\
                    device s:/ mounted on /m with fstype nfs4\n\t        READ: 7 7\n";
        assert_eq!(count(text, " mounted on /n with fstype nfs"), Some(4));
        assert_eq!(count(text, " mounted on /m with fstype nfs"), Some(7));
        assert_eq!(count(text, " mounted on / with fstype nfs"), None);
    }
}
