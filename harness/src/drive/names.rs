//! What a host does with names: lookups, listings, and the operations that give and take names.
//!
//! A name, present or absent, is believed as long as the folder's change attribute is believed not to have moved; the
//! folder's attributes are believed for a time (N3, N4). An operation of the host's own keeps the folder's cache when the server
//! says that the folder had not changed before it, and voids it otherwise. A name that is about to be opened, created, linked or
//! renamed onto is not asked for first.

use std::collections::BTreeMap;

use super::catalogue::Act;
use super::client::{OpenMode, Opened};
use super::errno::Errno;
use super::play::Belief;
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
        let rules = self.hosts[host].rules;
        let caches = rules.names || rules.listings;
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
        let resuming = self.is_resuming(host);
        if let Some(known) = self.hosts[host].dirs.get(&dir) {
            let attr = known.attr;
            if now < known.until || resuming && (known.until > 0 || known.access) {
                return Ok(attr);
            }
            if known.listing.is_some() && self.believes(host, Belief::Listing, Kind::Readdir, dir) {
                let stale = attr.version != self.server.version(dir);
                self.answered_from_cache(host, Belief::Listing, stale);
                return Ok(attr);
            }
        }
        self.ask_dir(host, dir)
    }

    /// A folder's attributes for what is about to be answered from it: a name or a listing that may be believed beyond its time.
    fn believed_dir(&mut self, host: HostId, dir: Ino, belief: Belief, kind: Kind, name: &str) -> Outcome<()> {
        let rules = self.hosts[host].rules;
        let caches = if belief == Belief::Name { rules.names } else { rules.listings };
        let now = self.now();
        if let Some(known) = self.hosts[host].dirs.get(&dir)
            && caches
            && now >= known.until
            && known.access
        {
            let there = if belief == Belief::Name { self.known_name(host, dir, name).is_some() } else { known.listing.is_some() };
            let path = if name.is_empty() { self.server.path(dir).to_owned() } else { self.server.child_path(dir, name) };
            if there && self.believes_path(host, belief, kind, &path) {
                return Ok(());
            }
        }
        self.walk(host, dir)
    }

    fn ask_dir(&mut self, host: HostId, dir: Ino) -> Outcome<Attr> {
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
            if self.hosts[host].rules.names {
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

    /// What a host knows of a name: nothing, that it is absent, or its file.
    pub(super) fn known_target(&self, host: HostId, dir: Ino, name: &str) -> Option<Ino> {
        self.known_name(host, dir, name).flatten()
    }

    /// A name was answered from the cache.
    fn name_from_cache(&mut self, host: HostId, dir: Ino, name: &str, answer: Option<Ino>) {
        let stale = self.server.target(dir, name) != answer;
        self.answered_from_cache(host, Belief::Name, stale);
    }

    fn set_name(&mut self, host: HostId, dir: Ino, name: &str, target: Option<Ino>) {
        if !self.hosts[host].rules.names {
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
        let rules = self.hosts[host].rules;
        if !(rules.names || rules.listings)
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
        self.believed_dir(host, dir, Belief::Name, Kind::Lookup, name)?;
        match self.known_name(host, dir, name) {
            Some(None) => {
                self.name_from_cache(host, dir, name, None);
                return Err(Errno::ENOENT.into());
            }
            Some(Some(ino)) => {
                if let Some(attr) = self.known_attr(host, ino) {
                    self.name_from_cache(host, dir, name, Some(ino));
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
        let path = self.server.child_path(dir, name);
        self.interrupt(host, Kind::Open, &path, 0)?;
        if create.is_none() {
            self.believed_dir(host, dir, Belief::Name, Kind::Open, name)?;
            match self.known_name(host, dir, name) {
                Some(None) => {
                    self.name_from_cache(host, dir, name, None);
                    return Err(Errno::ENOENT.into());
                }
                Some(Some(ino)) => {
                    if let Some(opened) = self.open_unasked(host, dir, name, ino, mode)? {
                        return Ok((opened, false));
                    }
                }
                None => {}
            }
        } else {
            self.walk(host, dir)?;
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
            Err(Fail::Stall) => Err(Fail::Stall),
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

    /// N2, and N3 with a name that has another file by now: an open that is answered from the cache.
    fn open_unasked(&mut self, host: HostId, dir: Ino, name: &str, ino: Ino, mode: OpenMode) -> Outcome<Option<Opened>> {
        let believed = self.hosts[host].believed.is_some();
        if !believed && !self.is_planned(&[Act::BelieveOnOpen]) {
            return Ok(None);
        }
        let now = self.now();
        let known = self.hosts[host].files.get(&ino).filter(|file| believed || file.is_believed(now));
        let Some(attr) = known.map(super::CachedFile::attr) else { return Ok(None) };
        if !believed {
            let path = self.server.child_path(dir, name);
            let Some(fired) = self.meet_path_on_host(host, Kind::Open, &path, &[Act::BelieveOnOpen]) else { return Ok(None) };
            self.hosts[host].believed = Some(fired.plan);
        }
        let stale = self.server.target(dir, name) != Some(ino) || self.server.version(ino) != attr.version;
        self.answered_from_cache(host, Belief::Name, stale);
        self.opened(host, attr, mode).map(Some)
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
        self.flush(host, ino, self.profile.stable_close)?;
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
            Err(Fail::Stall) => Err(Fail::Stall),
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
        if attr.nlink == 1 && self.is_open(host, attr.ino) && self.renames_open_files(host, attr.ino) {
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
            Err(Fail::Stall) => Err(Fail::Stall),
            Err(fail) => {
                if let Ok(known) = self.dir(host, dir) {
                    known.names.remove(name);
                }
                Err(fail)
            }
        }
    }

    /// Whether a removed open file is renamed on this host: by the drive's nature, or by a fault (N17).
    fn renames_open_files(&mut self, host: HostId, ino: Ino) -> bool {
        if self.is_planned(&[Act::DeletePending]) {
            return false;
        }
        match self.meet_on_host(host, Kind::Remove, ino, &[Act::SillyRename]) {
            Some(fired) => {
                self.injector.observed(fired.plan);
                true
            }
            None => self.hosts[host].rules.silly_rename,
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
            self.flush(host, moved.ino, self.profile.stable_close)?;
        }
        if let Some(Some(target)) = self.known_name(host, to.0, to.1)
            && target != moved.ino
            && self.is_open(host, target)
            && self.known_attr(host, target).is_some_and(|attr| attr.nlink == 1)
            && self.renames_open_files(host, target)
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
            Err(Fail::Stall) => Err(Fail::Stall),
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
        self.believed_dir(host, dir, Belief::Listing, Kind::Readdir, "")?;
        let known = self.dir(host, dir)?;
        if let Some((generation, entries)) = &known.listing
            && *generation == known.generation
        {
            let entries = entries.clone();
            let there = self.server.names(dir);
            let stale = !entries.iter().map(|entry| &entry.name).eq(there.iter());
            self.answered_from_cache(host, Belief::Listing, stale);
            return Ok(entries);
        }
        match self.call(host, Rpc::Readdir { dir })? {
            Reply::Listing { mut entries, attr } => {
                self.learn_dir(host, attr);
                if self.hosts[host].rules.listings {
                    let known = self.dir(host, dir)?;
                    known.listing = Some((known.generation, entries.clone()));
                }
                self.disturb_listing(host, dir, &mut entries);
                Ok(entries)
            }
            _ => Err(Errno::EIO.into()),
        }
    }

    /// N4 at the server: the folder changes between two pieces of its listing, and an entry is skipped, or comes twice.
    fn disturb_listing(&mut self, host: HostId, dir: Ino, entries: &mut Vec<Entry>) {
        if entries.is_empty() {
            return;
        }
        let Some(fired) = self.meet_on_host(host, Kind::Readdir, dir, &[Act::DisturbListing]) else { return };
        let at = self.rng.below(entries.len() as u64) as usize;
        if self.rng.chance(0.5) {
            entries.remove(at);
        } else {
            entries.insert(at, entries[at].clone());
        }
        self.injector.observed(fired.plan);
    }
}
