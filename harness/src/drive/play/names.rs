//! Faults of names: renames in steps, names that others do not see yet or that come back, copies of what conflicts, names
//! that are taken for one.

use super::super::net::{Later, Rest};
use super::super::rpc::{Create, DirChange, Ino, Reply, Rpc};
use super::super::server::Veil;
use super::super::{Drive, Errno, HostId, Outcome};
use super::{given_name, is_exclusive};
use crate::drive::catalogue::Act;
use crate::drive::faults::{Apply, Fired};

/// Names that Windows keeps for devices.
const RESERVED: &[&str] = &["con", "prn", "aux", "nul", "com1", "com2", "com3", "com4", "lpt1", "lpt2", "lpt3"];

impl Act {
    pub(super) fn is_of_names(self) -> bool {
        matches!(
            self,
            Act::RenameInSteps
                | Act::TornRename
                | Act::ReplaceExisting
                | Act::HideUntilClose
                | Act::Arrive
                | Act::Absent
                | Act::Return
                | Act::FoldNames
                | Act::ConflictCopy
                | Act::DeletePending
                | Act::BreakLease
        )
    }
}

/// What Windows makes of a name: case does not count, nor do dots and spaces at its end.
fn fold(name: &str) -> String {
    name.trim_end_matches(['.', ' ']).to_lowercase()
}

fn with_name(rpc: &Rpc, new: &str) -> Rpc {
    let mut rpc = rpc.clone();
    match &mut rpc {
        Rpc::Open { name, .. }
        | Rpc::Mkdir { name, .. }
        | Rpc::Link { name, .. }
        | Rpc::Lookup { name, .. }
        | Rpc::Remove { name, .. }
        | Rpc::Rename { to_name: name, .. } => new.clone_into(name),
        _ => {}
    }
    rpc
}

/// The folder and name that a request is about.
fn named(rpc: &Rpc) -> Option<(Ino, &str)> {
    match rpc {
        Rpc::Open { dir, name, .. } | Rpc::Lookup { dir, name } | Rpc::Remove { dir, name } => Some((*dir, name)),
        other => given_name(other),
    }
}

impl Drive {
    pub(super) fn play_names(&mut self, host: HostId, rpc: Rpc, fired: &Fired) -> Outcome<Reply> {
        match fired.entry.act {
            Act::RenameInSteps => self.rename_in_steps(host, rpc, fired),
            Act::TornRename => self.torn_rename(host, rpc, fired),
            Act::ReplaceExisting => self.replace_existing(host, &rpc, fired),
            Act::HideUntilClose => self.hide(host, &rpc, u64::MAX, true, fired),
            Act::Arrive => self.arrive(host, &rpc, fired),
            Act::Absent => self.absent(host, &rpc, fired),
            Act::Return => self.come_back(host, &rpc, fired),
            Act::FoldNames => match self.folded(&rpc) {
                Some(Some(other)) => {
                    self.injector.observed(fired.plan);
                    self.serve(host, &with_name(&rpc, &other))
                }
                Some(None) => self.refuse(fired, Errno::EINVAL),
                None => self.serve(host, &rpc),
            },
            Act::ConflictCopy => self.conflict_copy(host, &rpc, fired),
            Act::DeletePending => {
                let Rpc::Remove { dir, name } = &rpc else { return self.serve(host, &rpc) };
                let change = self.attr_of(*dir)?.change;
                self.server.remove_at_close(*dir, name, fired.plan);
                Ok(Reply::Removed { dir: DirChange { before: change, after: change } })
            }
            _ => self.break_lease(host, &rpc, fired),
        }
    }

    /// The answer to a rename that has been made in another way.
    pub(in crate::drive) fn renamed(&self, rpc: &Rpc) -> Outcome<Reply> {
        let Rpc::Rename { dir, to_dir, .. } = rpc else { return Err(Errno::EIO.into()) };
        let change = |dir: Ino| -> Outcome<DirChange> {
            let change = self.attr_of(dir)?.change;
            // Others changed it, as far as this host knows: it asks again.
            Ok(DirChange { before: change.wrapping_sub(1), after: change })
        };
        Ok(Reply::Renamed { from: change(*dir)?, to: change(*to_dir)? })
    }

    /// F2: the target goes first.
    fn rename_in_steps(&mut self, host: HostId, rpc: Rpc, fired: &Fired) -> Outcome<Reply> {
        let Rpc::Rename { to_dir, to_name, .. } = &rpc else { return self.serve(host, &rpc) };
        self.serve(host, &Rpc::Remove { dir: *to_dir, name: to_name.clone() })?;
        self.injector.observed(fired.plan);
        let due = self.now() + fired.delay_ns;
        let rest = Rest::Finish(vec![rpc.clone()]);
        self.stage(host, rpc, due, rest)
    }

    /// O4: a copy, and later the removal of the old name; or first the removal, and later the copy.
    fn torn_rename(&mut self, host: HostId, rpc: Rpc, fired: &Fired) -> Outcome<Reply> {
        let Rpc::Rename { dir, name, to_dir, to_name } = &rpc else { return self.serve(host, &rpc) };
        let Some(ino) = self.server.target(*dir, name) else { return self.serve(host, &rpc) };
        if self.server.target(*to_dir, to_name).is_some() {
            self.serve(host, &Rpc::Remove { dir: *to_dir, name: to_name.clone() })?;
        }
        self.injector.observed(fired.plan);
        let due = self.now() + fired.delay_ns;
        if fired.fault.apply == Apply::Later {
            self.server.detach(*dir, name);
            let rest = Rest::Attach(ino, *to_dir, to_name.clone());
            return self.stage(host, rpc, due, rest);
        }
        self.serve(host, &Rpc::Link { ino, dir: *to_dir, name: to_name.clone() })?;
        let removal = Rpc::Remove { dir: *dir, name: name.clone() };
        self.stage(host, rpc, due, Rest::RemoveOld(removal))
    }

    /// O5: the one that was there is replaced, and nobody is told.
    fn replace_existing(&mut self, host: HostId, rpc: &Rpc, fired: &Fired) -> Outcome<Reply> {
        let Some((dir, name)) = given_name(rpc) else { return self.serve(host, rpc) };
        let there = self.server.target(dir, name);
        self.injector.observed(fired.plan);
        match (rpc, there) {
            (Rpc::Mkdir { .. }, Some(ino)) => {
                let change = self.attr_of(dir)?.change;
                Ok(Reply::Named { attr: self.attr_of(ino)?, dir: DirChange { before: change, after: change } })
            }
            (Rpc::Link { ino, .. }, Some(there)) if *ino == there => self.serve(host, rpc),
            _ => {
                self.serve(host, &Rpc::Remove { dir, name: name.to_owned() })?;
                self.serve(host, rpc)
            }
        }
    }

    /// A name that only its host sees.
    fn hide(&mut self, host: HostId, rpc: &Rpc, until: u64, until_close: bool, fired: &Fired) -> Outcome<Reply> {
        let answer = self.serve(host, rpc)?;
        if let Some((dir, name)) = given_name(rpc) {
            self.server.veil(dir, name, Veil { owner: host, until, until_close, fault: fired.plan });
        }
        Ok(answer)
    }

    /// Y2, Y8: others see a new name, or new content, later.
    fn arrive(&mut self, host: HostId, rpc: &Rpc, fired: &Fired) -> Outcome<Reply> {
        let wait = if fired.entry.id == "Y2" { self.rng.below(fired.delay_ns) + 1 } else { fired.delay_ns };
        let until = self.now().saturating_add(wait);
        if let Rpc::Write { ino, .. } | Rpc::Setattr { ino, .. } = rpc {
            let before = self.server.content(*ino).map(<[u8]>::to_vec);
            let answer = self.serve(host, rpc)?;
            if let Some(before) = before.filter(|_| !self.server.is_shadowed(*ino)) {
                self.server.shadow(*ino, host, until, before, fired.plan);
            }
            return Ok(answer);
        }
        self.hide(host, rpc, until, false, fired)
    }

    /// Y4: others do not see the name while it is replaced.
    fn absent(&mut self, host: HostId, rpc: &Rpc, fired: &Fired) -> Outcome<Reply> {
        let until = self.now() + fired.delay_ns;
        if let Rpc::Write { ino, .. } = rpc {
            let answer = self.serve(host, rpc)?;
            if let Some((dir, name)) = self.server.place(*ino) {
                self.server.veil(dir, &name, Veil { owner: host, until, until_close: false, fault: fired.plan });
            }
            return Ok(answer);
        }
        self.hide(host, rpc, until, false, fired)
    }

    /// Y5: what was removed is there again.
    fn come_back(&mut self, host: HostId, rpc: &Rpc, fired: &Fired) -> Outcome<Reply> {
        let Rpc::Remove { dir, name } = rpc else { return self.serve(host, rpc) };
        let kept = self.server.target(*dir, name).and_then(|ino| self.server.copy(ino));
        let answer = self.serve(host, rpc)?;
        if let Some(node) = kept {
            let due = self.now() + fired.delay_ns;
            self.late.push((due, Later::BringBack(*dir, name.clone(), Box::new(node), fired.plan)));
        }
        Ok(answer)
    }

    /// S8: the name that a request's name is taken for, if it is taken for another; `Some(None)` where it is refused.
    pub(super) fn folded(&self, rpc: &Rpc) -> Option<Option<String>> {
        let (dir, name) = named(rpc)?;
        let folded = fold(name);
        let stem = folded.split('.').next().unwrap_or(&folded);
        if RESERVED.contains(&stem) {
            return Some(None);
        }
        let names = self.server.names(dir);
        if names.iter().any(|there| there == name) {
            return None;
        }
        let same = names.into_iter().find(|there| fold(there) == folded);
        let trimmed = name.trim_end_matches(['.', ' ']);
        match same {
            Some(same) => Some(Some(same)),
            None if trimmed != name && !trimmed.is_empty() && given_name(rpc).is_some() => Some(Some(trimmed.to_owned())),
            None => None,
        }
    }

    /// Whether a change is made on top of one that this host has not seen.
    pub(super) fn conflicts(&self, host: HostId, rpc: &Rpc) -> bool {
        match rpc {
            Rpc::Write { ino, .. } => {
                let known = self.hosts[host].files.get(ino).map(super::super::client::CachedFile::version);
                !self.copies.contains_key(&(host, *ino)) && known.is_some_and(|known| known != self.server.version(*ino))
            }
            _ => {
                let unseen = given_name(rpc).is_some_and(|(dir, name)| self.known_target(host, dir, name).is_none());
                self.target_of(rpc).is_some() && unseen && (is_exclusive(rpc) || matches!(rpc, Rpc::Rename { .. }))
            }
        }
    }

    /// Y1: the change goes to a copy with a name of its own.
    fn conflict_copy(&mut self, host: HostId, rpc: &Rpc, fired: &Fired) -> Outcome<Reply> {
        self.injector.observed(fired.plan);
        let copy_name = |name: &str, host: &str| format!("{name} (conflicted copy of {host})");
        let of = self.hosts[host].name.clone();
        let Rpc::Write { ino, offset, data, stable } = rpc else {
            let Some((_, name)) = given_name(rpc) else { return self.serve(host, rpc) };
            let named = copy_name(name, &of);
            return self.serve(host, &with_name(rpc, &named));
        };
        let Some((dir, name)) = self.server.place(*ino) else { return self.serve(host, rpc) };
        let create = Some(Create { exclusive: false, mode: 0o644 });
        let Reply::Opened { attr, .. } = self.serve(host, &Rpc::Open { dir, name: copy_name(&name, &of), create })? else {
            return Err(Errno::EIO.into());
        };
        let whole = self.server.content(*ino).map(<[u8]>::to_vec).unwrap_or_default();
        self.serve(host, &Rpc::Write { ino: attr.ino, offset: 0, data: whole, stable: true })?;
        self.copies.insert((host, *ino), attr.ino);
        let answer = self.serve(host, &Rpc::Write { ino: attr.ino, offset: *offset, data: data.clone(), stable: *stable })?;
        match answer {
            Reply::Written { attr, verifier } => Ok(Reply::Written { attr: super::super::Attr { ino: *ino, ..attr }, verifier }),
            other => Ok(other),
        }
    }

    /// S4: whoever has it open writes back and forgets; the one that opens waits.
    fn break_lease(&mut self, host: HostId, rpc: &Rpc, fired: &Fired) -> Outcome<Reply> {
        if let Some(ino) = self.subject_of(rpc) {
            for other in (0..self.hosts.len()).filter(|&other| other != host) {
                // A host that cannot write back now loses its lease all the same.
                let _ = self.flush(other, ino, self.profile.stable_close);
                if let Some(file) = self.hosts[other].files.get_mut(&ino) {
                    file.forget();
                }
            }
        }
        self.delay_ns += fired.delay_ns;
        self.injector.observed(fired.plan);
        self.serve(host, rpc)
    }
}
