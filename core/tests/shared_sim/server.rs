//! The server of the simulated drive, what each host remembers of its names, and the weather that a seed draws.
//!
//! Names change at once and durably, as on an NFS server. Bytes are volatile until they are synced: a restart forgets the others.
//! A request may fail before it is applied, may be applied although its answer is an error, or may be applied later.

use super::sched::Dice;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

pub const EIO: i32 = 5;
pub const ENOENT: i32 = 2;
pub const EEXIST: i32 = 17;
pub const EINVAL: i32 = 22;
pub const ETIMEDOUT: i32 = 110;
pub const ESTALE: i32 = 116;

pub fn errno<T>(code: i32) -> io::Result<T> {
    Err(io::Error::from_raw_os_error(code))
}

/// A rule of the protocol, or of the drive, that is broken on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutation {
    /// None.
    Sound,
    /// A sync says yes and does nothing.
    NoSync,
    /// Publishing replaces a name that exists.
    Replace,
    /// The ring says yes and sometimes does nothing.
    NoRing,
    /// A name that was won is believed however old the view is.
    NoPredecessor,
    /// A link says yes and sometimes does nothing.
    LyingLink,
    /// Collecting does not wait for a checkpoint to cover what goes.
    CollectTooMuch,
}

/// What goes wrong, how often (per mille of the requests). Each run draws which of them happen at all.
#[derive(Debug, Clone, Copy, Default)]
pub struct Weather {
    pub fail_before: u64,
    pub fail_after: u64,
    pub fail_late: u64,
    pub fail_sync: u64,
    pub restart: u64,
    pub stale_handles: u64,
    pub outage: u64,
    pub hard: bool,
    pub crash: u64,
    pub pause: u64,
    /// How long a host believes what it knows of names, in microseconds.
    pub names_believed: u64,
}

impl Weather {
    pub fn draw(dice: &mut Dice) -> Self {
        let mut some = |most: u64| if dice.chance(500) { 1 + dice.below(most) } else { 0 };
        Self {
            fail_before: some(60),
            fail_after: some(60),
            fail_late: some(60),
            fail_sync: some(60),
            restart: some(20),
            stale_handles: some(10),
            outage: some(5),
            hard: some(1) == 1,
            crash: some(15),
            pause: some(8),
            names_believed: some(1_000_000),
        }
    }
}

#[derive(Debug, Clone, Default)]
pub struct Inode {
    pub data: Vec<u8>,
    pub stable: Vec<u8>,
    pub links: u32,
}

/// A request that was given up by its host and is still under way.
#[derive(Debug, Clone)]
enum Flying {
    Link { inode: u64, to: PathBuf },
    Unlink(PathBuf),
}

/// What happens to one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Done,
    Before,
    After,
    Late,
}

#[derive(Debug)]
pub struct Server {
    pub dice: Dice,
    pub weather: Weather,
    pub mutation: Mutation,
    pub inodes: BTreeMap<u64, Inode>,
    names: BTreeMap<PathBuf, u64>,
    dirs: BTreeSet<PathBuf>,
    flying: Vec<Flying>,
    /// The inode that was first given each name in `log/`: the true log.
    pub history: BTreeMap<PathBuf, u64>,
    /// Open files from before this count are stale.
    pub handles_epoch: u64,
    pub down_until: u64,
    /// What each host believes of names: the inode or its absence, and until when.
    believed: Vec<BTreeMap<PathBuf, (Option<u64>, u64)>>,
    /// Bad weather is over.
    pub calm: bool,
}

impl Server {
    pub fn new(mut dice: Dice, mutation: Mutation, hosts: usize) -> Self {
        let mut weather = Weather::draw(&mut dice);
        match mutation {
            Mutation::NoSync => weather.restart = 20,
            Mutation::NoPredecessor => weather.pause = 15,
            _ => {}
        }
        Self {
            dice,
            weather,
            mutation,
            inodes: BTreeMap::new(),
            names: BTreeMap::new(),
            dirs: BTreeSet::from([PathBuf::from("/c")]),
            flying: Vec::new(),
            history: BTreeMap::new(),
            handles_epoch: 0,
            down_until: 0,
            believed: vec![BTreeMap::new(); hosts],
            calm: true,
        }
    }

    /// What may happen between two requests.
    pub fn between(&mut self, now: u64) {
        for flight in std::mem::take(&mut self.flying) {
            if self.dice.chance(60) || self.calm {
                self.land(flight);
            } else {
                self.flying.push(flight);
            }
        }
        if self.calm {
            return;
        }
        if self.dice.chance(self.weather.restart) {
            self.restart();
        }
        if self.dice.chance(self.weather.stale_handles) {
            self.handles_epoch += 1;
        }
        if self.down_until < now && self.dice.chance(self.weather.outage) {
            self.down_until = now + self.dice.below(2_000_000);
        }
    }

    pub fn restart(&mut self) {
        for inode in self.inodes.values_mut() {
            inode.data.clone_from(&inode.stable);
        }
    }

    fn land(&mut self, flight: Flying) {
        match flight {
            Flying::Link { inode, to } => drop(self.link(inode, &to)),
            Flying::Unlink(path) => drop(self.unlink(&path)),
        }
    }

    pub fn fate(&mut self, has_late: bool) -> Fate {
        if self.calm {
            return Fate::Done;
        }
        let w = self.weather;
        if self.dice.chance(w.fail_before) {
            Fate::Before
        } else if self.dice.chance(w.fail_after) {
            Fate::After
        } else if has_late && self.dice.chance(w.fail_late) {
            Fate::Late
        } else {
            Fate::Done
        }
    }

    pub fn link_later(&mut self, inode: u64, to: &Path) {
        self.flying.push(Flying::Link { inode, to: to.to_owned() });
    }

    pub fn unlink_later(&mut self, path: &Path) {
        self.flying.push(Flying::Unlink(path.to_owned()));
    }

    /// Looks a name up as `host` does: what it remembers is believed for a while, an absence as well as an inode.
    pub fn lookup(&mut self, host: usize, path: &Path, now: u64) -> Option<u64> {
        if let Some(&(inode, until)) = self.believed[host].get(path)
            && now < until
            && inode.is_none_or(|inode| self.inodes.get(&inode).is_some_and(|inode| inode.links > 0))
        {
            return inode;
        }
        let inode = self.names.get(path).copied();
        let until = now + self.dice.below(self.weather.names_believed + 1);
        self.believed[host].insert(path.to_owned(), (inode, until));
        inode
    }

    pub fn forget(&mut self, host: usize, path: &Path) {
        self.believed[host].remove(path);
    }

    pub fn create(&mut self, path: &Path) -> io::Result<u64> {
        if self.names.contains_key(path) {
            return errno(EEXIST);
        }
        if path.parent().is_none_or(|dir| !self.dirs.contains(dir)) {
            return errno(ENOENT);
        }
        let id = self.inodes.len() as u64 + 1;
        self.inodes.insert(id, Inode { links: 1, ..Inode::default() });
        self.names.insert(path.to_owned(), id);
        Ok(id)
    }

    pub fn link(&mut self, inode: u64, to: &Path) -> io::Result<()> {
        if self.mutation == Mutation::LyingLink && self.dice.chance(100) {
            return Ok(());
        }
        if self.inodes.get(&inode).is_none_or(|inode| inode.links == 0) {
            return errno(ESTALE);
        }
        if self.names.contains_key(to) && self.mutation != Mutation::Replace {
            return errno(EEXIST);
        }
        if let Some(before) = self.names.insert(to.to_owned(), inode) {
            self.drop_link(before);
            self.history.insert(to.to_owned(), inode);
        }
        self.inodes.entry(inode).or_default().links += 1;
        self.history.entry(to.to_owned()).or_insert(inode);
        Ok(())
    }

    pub fn unlink(&mut self, path: &Path) -> io::Result<()> {
        let Some(inode) = self.names.remove(path) else { return errno(ENOENT) };
        self.drop_link(inode);
        Ok(())
    }

    fn drop_link(&mut self, inode: u64) {
        if let Some(inode) = self.inodes.get_mut(&inode) {
            inode.links -= 1;
        }
    }

    pub fn create_dir(&mut self, path: &Path) -> io::Result<()> {
        if self.dirs.insert(path.to_owned()) { Ok(()) } else { errno(EEXIST) }
    }

    pub fn is_dir(&self, path: &Path) -> bool {
        self.dirs.contains(path)
    }

    pub fn read_dir(&self, dir: &Path) -> io::Result<Vec<String>> {
        if !self.is_dir(dir) {
            return errno(ENOENT);
        }
        let names = self.names.keys().filter(|path| path.parent() == Some(dir));
        Ok(names.filter_map(|path| path.file_name()?.to_str().map(str::to_owned)).collect())
    }
}
