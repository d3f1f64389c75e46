//! Two hosts (and a third that caches nothing) on the kind of drive that a fault belongs to.

use std::sync::{Arc, Mutex};

use harness::drive::catalogue::{Entry, Phase};
use harness::drive::handle::OpenFlags;
use harness::drive::locks::Range;
use harness::drive::{Clock, Drive, DriveHandle, Errno, Fault, Profile};

pub(crate) const SECOND: u64 = 1_000_000_000;
pub(crate) const ALL: Range = Range { start: 0, end: u64::MAX };

pub(crate) struct Stage {
    pub(crate) id: &'static str,
    pub(crate) phase: Phase,
    pub(crate) a: DriveHandle,
    pub(crate) b: DriveHandle,
    pub(crate) c: DriveHandle,
}

/// A drive on which the fault is not there by nature.
fn profile(letter: char) -> Profile {
    let name = match letter {
        'S' => "smb3",
        'F' => "sftp",
        'O' => "object",
        'Y' => "sync",
        _ => "nfs4",
    };
    let profile = Profile::named(name).unwrap();
    Profile { nature: Vec::new(), mandatory_locks: false, local_locks: false, time_step_ns: 1, ..profile }
}

impl Stage {
    pub(crate) fn new(entry: &'static Entry, phase: Phase) -> Stage {
        let profile = profile(entry.id.chars().next().unwrap());
        let drive = Arc::new(Mutex::new(Drive::new(profile, &["host-a", "host-b", "host-c"], 7, Clock::Virtual(0))));
        let host = |number| DriveHandle::new(Arc::clone(&drive), number);
        Stage { id: entry.id, phase, a: host(0), b: host(1), c: host(2) }
    }

    /// Plans the fault, by its name, at the phase of the stage; required.
    pub(crate) fn plan(&self, change: impl FnOnce(&mut Fault)) {
        let name = harness::drive::catalogue::find(self.id).unwrap().name;
        let mut fault = Fault { phase: Some(self.phase), required: true, ..Fault::named(name) };
        change(&mut fault);
        self.a.drive().add_fault(fault).unwrap();
    }

    /// Lets time pass, in seconds.
    pub(crate) fn pass(&self, seconds: u64) {
        self.a.drive().advance(seconds * SECOND);
    }

    /// How long something takes, in milliseconds.
    pub(crate) fn takes(&self, act: impl FnOnce()) -> u64 {
        let began = self.a.drive().now();
        act();
        (self.a.drive().now() - began) / 1_000_000
    }

    /// Whether the request had not been carried out when the fault struck.
    pub(crate) fn is_before(&self) -> bool {
        self.phase <= Phase::P2
    }
}

pub(crate) fn rw() -> OpenFlags {
    OpenFlags { read: true, write: true, create: true, ..OpenFlags::default() }
}

pub(crate) fn try_put(host: &DriveHandle, path: &str, data: &[u8]) -> Result<(), Errno> {
    let fd = host.open(path, rw(), 0o644)?;
    let written = host.write_at(fd, 0, data).and_then(|_| host.fsync(fd));
    let closed = host.close(fd);
    written.and(closed)
}

pub(crate) fn put(host: &DriveHandle, path: &str, data: &[u8]) {
    try_put(host, path, data).unwrap();
}

pub(crate) fn get(host: &DriveHandle, path: &str) -> Result<Vec<u8>, Errno> {
    let fd = host.open(path, OpenFlags::reading(), 0)?;
    let data = host.read_at(fd, 0, 1 << 20);
    host.close(fd)?;
    data
}

pub(crate) fn names(host: &DriveHandle, dir: &str) -> Vec<String> {
    host.readdir(dir).unwrap().into_iter().map(|entry| entry.name).collect()
}

pub(crate) fn ino(host: &DriveHandle, path: &str) -> u64 {
    host.stat(path).unwrap().ino
}
