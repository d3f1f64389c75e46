//! One process on one host of the simulated drive: the door to files that the code under test gets.
//!
//! Every call is a turn (see `sched`). A process may be killed at any of them: the call then unwinds to the top of the process,
//! and whatever is dropped on the way finds the drive dead.

use super::sched::Scheduler;
use super::server::{EEXIST, EINVAL, EIO, ENOENT, ESTALE, ETIMEDOUT, Fate, Mutation, Server, errno};
use diskcache_core::log::Look;
use diskcache_core::vfs::{Map, OpenMode, Space, Stat, Vfs, VfsFile};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The end of a killed process.
#[derive(Debug)]
pub struct Killed;

#[derive(Debug)]
pub struct World {
    pub scheduler: Arc<Scheduler>,
    pub server: Mutex<Server>,
    pub look: Look,
    pub grace: Duration,
}

impl World {
    pub fn server(&self) -> MutexGuard<'_, Server> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One incarnation of a process.
#[derive(Debug)]
pub struct Incarnation {
    pub world: Arc<World>,
    pub me: usize,
    pub host: usize,
    pub dead: AtomicBool,
    /// It was stopped for long, so that its deadlines mean nothing.
    pub paused: AtomicBool,
}

/// The door.
#[derive(Debug, Clone)]
pub struct HostVfs(pub Arc<Incarnation>);

#[derive(Debug)]
struct SimFile {
    process: Arc<Incarnation>,
    inode: u64,
    is_bell: bool,
    epoch: u64,
    len_at_open: u64,
    dirty: Mutex<Vec<(u64, Vec<u8>)>>,
    closed: AtomicBool,
}

impl Incarnation {
    /// One turn: others may run, the drive may change, this process may end here.
    fn turn(&self) -> io::Result<(MutexGuard<'_, Server>, u64)> {
        if self.dead.load(Ordering::Relaxed) {
            return errno(EIO);
        }
        self.world.scheduler.step(self.me);
        let mut now = self.world.scheduler.micros();
        let mut server = self.world.server();
        server.between(now);
        if !server.calm {
            let w = server.weather;
            if server.dice.chance(w.crash) {
                drop(server);
                self.dead.store(true, Ordering::Relaxed);
                std::panic::resume_unwind(Box::new(Killed));
            }
            let pause = server.dice.chance(w.pause).then(|| self.world.grace * (1 + server.dice.below(3) as u32) / 2);
            if let Some(span) = pause {
                drop(server);
                self.paused.store(true, Ordering::Relaxed);
                self.world.scheduler.sleep(self.me, span);
                now = self.world.scheduler.micros();
                server = self.world.server();
            }
            if now < server.down_until {
                if !server.weather.hard {
                    return errno(if server.dice.chance(500) { EIO } else { ETIMEDOUT });
                }
                let until = server.down_until;
                drop(server);
                self.world.scheduler.sleep(self.me, Duration::from_micros(until - now));
                now = self.world.scheduler.micros();
                server = self.world.server();
            }
        }
        Ok((server, now))
    }
}

fn any(server: &mut Server, codes: &[i32]) -> io::Error {
    let pick = server.dice.below(codes.len() as u64) as usize;
    io::Error::from_raw_os_error(codes[pick])
}

impl Vfs for HostVfs {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn VfsFile>> {
        let (mut server, now) = self.0.turn()?;
        let fate = server.fate(false);
        if fate == Fate::Before {
            return Err(any(&mut server, &[EIO, ETIMEDOUT, EINVAL, ESTALE]));
        }
        let host = self.0.host;
        let inode = match mode {
            OpenMode::CreateNew => {
                server.forget(host, path);
                server.create(path)?
            }
            OpenMode::Create | OpenMode::CreateWrite => match server.create(path) {
                Ok(inode) => {
                    server.forget(host, path);
                    inode
                }
                Err(_) => server.lookup(host, path, now).map_or_else(|| errno(EIO), Ok)?,
            },
            OpenMode::Read | OpenMode::ReadWrite | OpenMode::Write => server.lookup(host, path, now).map_or_else(|| errno(ENOENT), Ok)?,
        };
        if fate == Fate::After {
            return Err(any(&mut server, if mode == OpenMode::CreateNew { &[EEXIST, EIO] } else { &[EIO] }));
        }
        let len_at_open = server.inodes[&inode].data.len() as u64;
        Ok(Arc::new(SimFile {
            process: Arc::clone(&self.0),
            inode,
            is_bell: path.ends_with("bell"),
            epoch: server.handles_epoch,
            len_at_open,
            dirty: Mutex::default(),
            closed: AtomicBool::new(false),
        }))
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (mut server, now) = self.0.turn()?;
        let host = self.0.host;
        let Some(inode) = server.lookup(host, from, now) else { return errno(ENOENT) };
        server.forget(host, to);
        match server.fate(true) {
            Fate::Done => server.link(inode, to),
            Fate::Before => Err(any(&mut server, &[EIO, ETIMEDOUT, ENOENT])),
            Fate::After => {
                let done = server.link(inode, to);
                done.and_then(|()| Err(any(&mut server, &[EEXIST, EIO, ETIMEDOUT, 1])))
            }
            Fate::Late => {
                server.link_later(inode, to);
                Err(any(&mut server, &[EIO, ETIMEDOUT]))
            }
        }
    }

    fn rename(&self, _from: &Path, _to: &Path) -> io::Result<()> {
        errno(EINVAL)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        let (mut server, _) = self.0.turn()?;
        let host = self.0.host;
        server.forget(host, path);
        match server.fate(true) {
            Fate::Done => server.unlink(path),
            Fate::Before => errno(EIO),
            Fate::After => {
                server.unlink(path)?;
                errno(ENOENT)
            }
            Fate::Late => {
                server.unlink_later(path);
                errno(EIO)
            }
        }
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.0.turn()?.0.create_dir(path)
    }

    fn remove_dir(&self, _path: &Path) -> io::Result<()> {
        errno(EINVAL)
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<String>> {
        let (mut server, _) = self.0.turn()?;
        if server.fate(false) == Fate::Done { server.read_dir(path) } else { errno(EIO) }
    }

    fn stat(&self, path: &Path) -> io::Result<Stat> {
        let (mut server, now) = self.0.turn()?;
        if server.is_dir(path) {
            return Ok(Stat { len: 0, links: 2, is_dir: true, inode: 0 });
        }
        let Some(inode) = server.lookup(self.0.host, path, now) else { return errno(ENOENT) };
        let found = &server.inodes[&inode];
        Ok(Stat { len: found.data.len() as u64, links: u64::from(found.links), is_dir: false, inode })
    }

    fn sync_dir(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    fn space(&self, _path: &Path) -> io::Result<Space> {
        Ok(Space { free: 1 << 40, total: 1 << 40 })
    }
}

impl SimFile {
    fn turn(&self) -> io::Result<MutexGuard<'_, Server>> {
        let (server, _) = self.process.turn()?;
        if self.closed.load(Ordering::Relaxed) {
            return errno(9);
        }
        if self.epoch < server.handles_epoch { errno(ESTALE) } else { Ok(server) }
    }

    /// Sends what was written to the server.
    fn flush(&self, server: &mut Server) {
        let is_lost = self.is_bell && server.mutation == Mutation::NoRing && server.dice.chance(500);
        let dirty = std::mem::take(&mut *self.dirty.lock().unwrap_or_else(PoisonError::into_inner));
        let data = &mut server.inodes.get_mut(&self.inode).expect("inodes stay").data;
        for (offset, bytes) in dirty.into_iter().filter(|_| !is_lost) {
            let (from, to) = (offset as usize, offset as usize + bytes.len());
            if data.len() < to {
                data.resize(to, 0);
            }
            data[from..to].copy_from_slice(&bytes);
        }
    }
}

impl VfsFile for SimFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut server = self.turn()?;
        if server.fate(false) != Fate::Done {
            return errno(EIO);
        }
        let data = &server.inodes[&self.inode].data;
        let data = &data[..data.len().min(self.len_at_open as usize)];
        let part = data.get(offset as usize..).unwrap_or(&[]);
        let len = part.len().min(buf.len());
        buf[..len].copy_from_slice(&part[..len]);
        Ok(len)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let server = self.turn()?;
        self.dirty.lock().unwrap_or_else(PoisonError::into_inner).push((offset, bytes.to_vec()));
        drop(server);
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        self.turn().map(|_| self.len_at_open)
    }

    fn len_fresh(&self) -> io::Result<u64> {
        let mut server = self.turn()?;
        if server.fate(false) != Fate::Done {
            return errno(EIO);
        }
        let now = server.inodes[&self.inode].data.len() as u64;
        Ok(if self.process.world.look == Look::Statx { now } else { self.len_at_open })
    }

    fn set_len(&self, _len: u64) -> io::Result<()> {
        errno(EINVAL)
    }

    fn allocate(&self, _len: u64) -> io::Result<()> {
        errno(EINVAL)
    }

    fn sync(&self) -> io::Result<()> {
        let mut server = self.turn()?;
        let fails = server.weather.fail_sync;
        if !server.calm && server.dice.chance(fails) {
            self.dirty.lock().unwrap_or_else(PoisonError::into_inner).clear(); // Told once; the bytes never get there.
            return errno(EIO);
        }
        self.flush(&mut server);
        if server.mutation != Mutation::NoSync || self.is_bell {
            let inode = server.inodes.get_mut(&self.inode).expect("inodes stay");
            inode.stable.clone_from(&inode.data);
        }
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        let mut server = self.turn()?;
        self.closed.store(true, Ordering::Relaxed);
        self.flush(&mut server);
        let fails = server.weather.fail_sync;
        if !server.calm && server.dice.chance(fails) { errno(EIO) } else { Ok(()) }
    }

    fn try_lock(&self) -> io::Result<bool> {
        Ok(true)
    }

    fn lock(&self) -> io::Result<()> {
        Ok(())
    }

    fn unlock(&self) -> io::Result<()> {
        Ok(())
    }

    fn map(&self, _len: usize, _writable: bool) -> io::Result<Arc<Map>> {
        errno(EINVAL)
    }

    fn raw_fd(&self) -> Option<i32> {
        None
    }
}
