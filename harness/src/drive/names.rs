//! What a host does with names: lookups, listings, and the operations that give and take names.
//!
//! A name, present or absent, is believed as long as the folder's change attribute is believed not to have moved; the
//! folder's attributes are believed for a time (N3, N4). An operation of the host's own keeps the folder's cache when the server
//! says that the folder had not changed before it, and voids it otherwise. A name that is about to be opened, created, linked or
//! renamed onto is not asked for first.

use std::collections::BTreeMap;

use super::client::{OpenMode, Opened};
use super::errno::Errno;
use super::rpc::{Attr, Create, DirChange, Entry, Ino, Kind, Reply, Rpc};
use super::{Drive, Fail, HostId, Outcome};

/// What the call that follows a lookup showed it to have been for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To open or create the name.
    Open,
    /// To link it.
    Link,
    /// To make a folder, or to rename onto it.
    Other,
}

/// A host's knowledge of one folder.
#[derive(Clone, Debug)]
pub(super) struct CachedDir {
    attr: Attr,
    until: u64,
    ttl: u64,
    /// Grows whenever somebody else changed the folder; names known before are then asked for again.
    generation: u64,
    names: BTreeMap<String, (Option<Ino>, u64)>,
    listing: Option<(u64, Vec<Entry>)>,
    access: bool,
}

impl CachedDir {
    pub(super) fn forget_target(&mut self, ino: Ino) {
        self.names.retain(|_, (target, _)| *target != Some(ino));
    }
}

impl Drive {
    fn dir(&mut self, host: HostId, dir: Ino) -> Result<&mut CachedDir, Errno> {
        self.hosts[host].dirs.get_mut(&dir).ok_or(Errno::ESTALE)
    }

    fn learn_dir(&mut self, host: HostId, attr: Attr) {
        let now = self.now();
        let (min, max) = (self.profile.dir_min_ms * 1_000_000, self.profile.dir_max_ms * 1_000_000);
        let caches = self.profile.caches;
        let dir = self.hosts[host].dirs.entry(attr.ino).or_insert_with(|| CachedDir {
            attr,
            until: 0,
            ttl: 0,
            generation: 0,
            names: BTreeMap::new(),
            listing: None,
            access: false,
        });
        if dir.attr.change == attr.change {
            dir.ttl = (dir.ttl * 2).clamp(min, max);
        } else {
            dir.ttl = min;
            dir.generation += 1;
            dir.access = false;
        }
        dir.attr = attr;
        dir.until = if caches { now + dir.ttl } else { 0 };
        if !caches {
            dir.generation += 1;
        }
    }

    /// A folder's attributes, from the cache where they are believed.
    ///
    /// # Errors
    /// It is gone, or a fault.
    pub fn dir_attr(&mut self, host: HostId, dir: Ino) -> Outcome<Attr> {
        let now = self.now();
        if let Some(known) = self.hosts[host].dirs.get(&dir)
            && now < known.until
        {
            return Ok(known.attr);
        }
        match self.call(host, Rpc::Getattr { ino: dir })? {
            Reply::Attr(attr) if attr.dir => {
                self.learn_dir(host, attr);
                Ok(attr)
            }
            Reply::Attr(_) => Err(Errno::ENOTDIR.into()),
            _ => Err(Errno::EIO.into()),
        }
    }

    /// What walking through a folder costs: its attributes, and the right to search it, where they are not believed.
    fn walk(&mut self, host: HostId, dir: Ino) -> Outcome<()> {
        self.dir_attr(host, dir)?;
        if !self.dir(host, dir)?.access {
            if self.profile.caches {
                self.call(host, Rpc::Access { ino: dir })?;
            }
            self.dir(host, dir)?.access = true;
        }
        Ok(())
    }

    fn known_name(&self, host: HostId, dir: Ino, name: &str) -> Option<Option<Ino>> {
        let known = self.hosts[host].dirs.get(&dir)?;
        let (target, generation) = known.names.get(name)?;
        (*generation == known.generation).then_some(*target)
    }

    fn set_name(&mut self, host: HostId, dir: Ino, name: &str, target: Option<Ino>) {
        if !self.profile.caches {
            return;
        }
        if let Some(known) = self.hosts[host].dirs.get_mut(&dir) {
            let generation = known.generation;
            known.names.insert(name.to_owned(), (target, generation));
        }
    }

    /// Takes the server's word on what an operation of ours did to a folder.
    fn changed(&mut self, host: HostId, dir: Ino, change: DirChange) {
        let now = self.now();
        if let Some(known) = self.hosts[host].dirs.get_mut(&dir) {
            known.listing = None;
            if known.attr.change == change.before {
                known.until = now + known.ttl;
            } else {
                known.generation += 1;
                known.until = 0;
            }
            known.attr.change = change.after;
        }
        if !self.profile.caches
            && let Some(known) = self.hosts[host].dirs.get_mut(&dir)
        {
            known.until = 0;
        }
    }

    /// Resolves a name. The flag says whether the server was asked with a LOOKUP.
    ///
    /// # Errors
    /// `ENOENT`, also from the cache; a fault.
    pub fn lookup(&mut self, host: HostId, dir: Ino, name: &str) -> Outcome<(Attr, bool)> {
        self.walk(host, dir)?;
        match self.known_name(host, dir, name) {
            Some(None) => return Err(Errno::ENOENT.into()),
            Some(Some(ino)) => {
                if let Some(attr) = self.known_attr(host, ino) {
                    return Ok((attr, false));
                }
            }
            None => {}
        }
        match self.call(host, Rpc::Lookup { dir, name: name.to_owned() }) {
            Ok(Reply::Named { attr, .. }) => {
                self.learn_any(host, attr);
                self.set_name(host, dir, name, Some(attr.ino));
                Ok((self.known_attr(host, attr.ino).unwrap_or(attr), true))
            }
            Ok(_) => Err(Errno::EIO.into()),
            Err(fail) => {
                if fail == Fail::Errno(Errno::ENOENT) {
                    self.set_name(host, dir, name, None);
                }
                Err(fail)
            }
        }
    }

    /// Whether a lookup that failed was answered from the cache (false: the server was asked).
    #[must_use]
    pub fn knows_absent(&self, host: HostId, dir: Ino, name: &str) -> bool {
        self.known_name(host, dir, name) == Some(None)
    }

    /// The LOOKUP just made would have been spared by the real client.
    pub fn spare_lookup(&mut self, host: HostId, purpose: Purpose) {
        let trips = &mut self.hosts[host].trips;
        if let Some(count) = trips.made.get_mut(&Kind::Lookup) {
            *count = count.saturating_sub(1);
        }
        if purpose == Purpose::Link {
            trips.lookup_before_link += 1;
        }
    }

    fn known_attr(&self, host: HostId, ino: Ino) -> Option<Attr> {
        let host = &self.hosts[host];
        host.dirs.get(&ino).map(|dir| dir.attr).or_else(|| host.files.get(&ino).map(super::CachedFile::seen))
    }

    fn learn_any(&mut self, host: HostId, attr: Attr) {
        if attr.dir {
            self.learn_dir(host, attr);
        } else {
            self.learn(host, attr, false);
        }
    }

    /// Opens a name, creating it where asked to. The flag says whether it was created.
    ///
    /// # Errors
    /// As open(2); `ENOENT` also from the cache; a fault.
    pub fn open_name(&mut self, host: HostId, dir: Ino, name: &str, create: Option<Create>, mode: OpenMode) -> Outcome<(Opened, bool)> {
        self.walk(host, dir)?;
        if create.is_none() && self.known_name(host, dir, name) == Some(None) {
            return Err(Errno::ENOENT.into());
        }
        match self.call(host, Rpc::Open { dir, name: name.to_owned(), create }) {
            Ok(Reply::Opened { attr, created, dir: change }) => {
                if created {
                    self.changed(host, dir, change);
                }
                if attr.dir {
                    self.learn_dir(host, attr);
                }
                self.set_name(host, dir, name, Some(attr.ino));
                Ok((self.opened(host, attr, mode)?, created))
            }
            Ok(_) => Err(Errno::EIO.into()),
            Err(fail) => {
                if fail == Fail::Errno(Errno::ENOENT) {
                    self.set_name(host, dir, name, None);
                } else if let Ok(known) = self.dir(host, dir) {
                    known.names.remove(name);
                }
                Err(fail)
            }
        }
    }

    /// Opens a file by its number, without its name.
    ///
    /// # Errors
    /// `ESTALE` when it is gone; a fault.
    pub fn open_handle(&mut self, host: HostId, ino: Ino, mode: OpenMode) -> Outcome<Opened> {
        match self.call(host, Rpc::OpenHandle { ino }) {
            Ok(Reply::Attr(attr)) => self.opened(host, attr, mode),
            Ok(_) => Err(Errno::EIO.into()),
            Err(fail) => {
                if fail == Fail::Errno(Errno::ESTALE) {
                    self.forget_file(host, ino);
                }
                Err(fail)
            }
        }
    }

    /// Makes a folder.
    ///
    /// # Errors
    /// As mkdir(2), or a fault.
    pub fn mkdir(&mut self, host: HostId, dir: Ino, name: &str, mode: u32) -> Outcome<Attr> {
        self.walk(host, dir)?;
        self.give_name(host, dir, name, Rpc::Mkdir { dir, name: name.to_owned(), mode }, |drive, attr| {
            drive.learn_dir(host, attr);
        })
    }

    /// Gives a file another name.
    ///
    /// # Errors
    /// As link(2), or a fault.
    pub fn link(&mut self, host: HostId, ino: Ino, dir: Ino, name: &str) -> Outcome<Attr> {
        self.walk(host, dir)?;
        // Linux writes a file back before it links it.
        self.flush(host, ino, true)?;
        self.give_name(host, dir, name, Rpc::Link { ino, dir, name: name.to_owned() }, |drive, attr| {
            drive.learn(host, attr, true);
        })
    }

    fn give_name(&mut self, host: HostId, dir: Ino, name: &str, rpc: Rpc, learn: impl FnOnce(&mut Drive, Attr)) -> Outcome<Attr> {
        match self.call(host, rpc) {
            Ok(Reply::Named { attr, dir: change }) => {
                self.changed(host, dir, change);
                learn(self, attr);
                self.set_name(host, dir, name, Some(attr.ino));
                Ok(attr)
            }
            Ok(_) => Err(Errno::EIO.into()),
            Err(fail) => {
                // Nothing is known of the name now.
                if let Ok(known) = self.dir(host, dir) {
                    known.names.remove(name);
                }
                Err(fail)
            }
        }
    }

    /// Takes a file's name away. A file that this host has open, and that has no other name, is renamed instead and removed
    /// when it is closed (N17).
    ///
    /// # Errors
    /// As unlink(2), or a fault.
    pub fn unlink(&mut self, host: HostId, dir: Ino, name: &str) -> Outcome<()> {
        let (attr, _) = self.lookup(host, dir, name)?;
        if attr.dir {
            return Err(Errno::EISDIR.into());
        }
        if self.profile.caches && attr.nlink == 1 && self.is_open(host, attr.ino) {
            return self.silly_rename(host, dir, name, attr.ino);
        }
        let answer = self.call(host, Rpc::Remove { dir, name: name.to_owned() });
        self.took_name(host, dir, name, answer)?;
        if attr.nlink == 1 && !self.is_open(host, attr.ino) {
            self.hosts[host].files.remove(&attr.ino);
        }
        Ok(())
    }

    /// Takes the server's answer to a removal.
    pub(super) fn took_name(&mut self, host: HostId, dir: Ino, name: &str, answer: Outcome<Reply>) -> Outcome<()> {
        match answer {
            Ok(Reply::Removed { dir: change }) => {
                self.changed(host, dir, change);
                self.set_name(host, dir, name, None);
                Ok(())
            }
            Ok(_) => Err(Errno::EIO.into()),
            Err(fail) => {
                if let Ok(known) = self.dir(host, dir) {
                    known.names.remove(name);
                }
                Err(fail)
            }
        }
    }

    fn silly_rename(&mut self, host: HostId, dir: Ino, name: &str, ino: Ino) -> Outcome<()> {
        let hidden = format!(".nfs{ino:016x}{host:08x}");
        self.rename_as_told(host, (dir, name), (dir, &hidden))?;
        self.hosts[host].silly.insert(ino, (dir, hidden));
        self.injector.note("N17", true);
        Ok(())
    }

    /// Takes a folder's name away.
    ///
    /// # Errors
    /// As rmdir(2), or a fault.
    pub fn rmdir(&mut self, host: HostId, dir: Ino, name: &str) -> Outcome<()> {
        let (attr, _) = self.lookup(host, dir, name)?;
        let answer = self.call(host, Rpc::Rmdir { dir, name: name.to_owned() });
        self.took_name(host, dir, name, answer)?;
        self.hosts[host].dirs.remove(&attr.ino);
        Ok(())
    }

    /// Renames, replacing what has the new name.
    ///
    /// # Errors
    /// As rename(2), or a fault.
    pub fn rename(&mut self, host: HostId, from: (Ino, &str), to: (Ino, &str)) -> Outcome<()> {
        let (moved, _) = self.lookup(host, from.0, from.1)?;
        self.walk(host, to.0)?;
        if !moved.dir {
            self.flush(host, moved.ino, true)?;
        }
        if let Some(Some(target)) = self.known_name(host, to.0, to.1)
            && target != moved.ino
            && self.is_open(host, target)
            && self.known_attr(host, target).is_some_and(|attr| attr.nlink == 1)
        {
            self.silly_rename(host, to.0, to.1, target)?;
        }
        self.rename_as_told(host, from, to)?;
        self.set_name(host, to.0, to.1, Some(moved.ino));
        Ok(())
    }

    fn rename_as_told(&mut self, host: HostId, from: (Ino, &str), to: (Ino, &str)) -> Outcome<()> {
        let rpc = Rpc::Rename { dir: from.0, name: from.1.to_owned(), to_dir: to.0, to_name: to.1.to_owned() };
        match self.call(host, rpc) {
            Ok(Reply::Renamed { from: left, to: entered }) => {
                self.changed(host, from.0, left);
                if from.0 != to.0 {
                    self.changed(host, to.0, entered);
                }
                self.set_name(host, from.0, from.1, None);
                if let Ok(known) = self.dir(host, to.0) {
                    known.names.remove(to.1);
                }
                Ok(())
            }
            Ok(_) => Err(Errno::EIO.into()),
            Err(fail) => {
                for (dir, name) in [from, to] {
                    if let Ok(known) = self.dir(host, dir) {
                        known.names.remove(name);
                    }
                }
                Err(fail)
            }
        }
    }

    /// A folder's listing, from the cache while the folder is believed unchanged (N4).
    ///
    /// # Errors
    /// As readdir(3), or a fault.
    pub fn readdir(&mut self, host: HostId, dir: Ino) -> Outcome<Vec<Entry>> {
        self.walk(host, dir)?;
        let known = self.dir(host, dir)?;
        if let Some((generation, entries)) = &known.listing
            && *generation == known.generation
        {
            return Ok(entries.clone());
        }
        match self.call(host, Rpc::Readdir { dir })? {
            Reply::Listing { entries, attr } => {
                self.learn_dir(host, attr);
                let known = self.dir(host, dir)?;
                known.listing = Some((known.generation, entries.clone()));
                Ok(entries)
            }
            _ => Err(Errno::EIO.into()),
        }
    }
}
