//! What each fault does to the request that it meets.
//!
//! `holds` is a fault's condition (a rename can only be refused *onto an existing name* where there is one); `play` is its effect.
//! A fault is marked observable when a client could see it: an error, another answer, a delay, bytes that are lost.

mod data;
mod events;
mod host;
mod names;

pub(super) use host::Belief;

use super::catalogue::{Act, Entry};
use super::faults::{Apply, Fired};
use super::net::{Later, Rest};
use super::rpc::{Create, Ino, Reply, Rpc};
use super::{Drive, Errno, Fail, HostId, Outcome};

/// The folder and name that a request gives to something.
fn given_name(rpc: &Rpc) -> Option<(Ino, &str)> {
    match rpc {
        Rpc::Open { dir, name, create: Some(_) } | Rpc::Mkdir { dir, name, .. } | Rpc::Link { dir, name, .. } => Some((*dir, name)),
        Rpc::Rename { to_dir, to_name, .. } => Some((*to_dir, to_name)),
        _ => None,
    }
}

fn is_exclusive(rpc: &Rpc) -> bool {
    matches!(rpc, Rpc::Open { create: Some(Create { exclusive: true, .. }), .. } | Rpc::Mkdir { .. } | Rpc::Link { .. })
}

impl Drive {
    /// What has the name that a request gives, whoever may see it.
    fn target_of(&self, rpc: &Rpc) -> Option<Ino> {
        let (dir, name) = given_name(rpc)?;
        self.server.target(dir, name)
    }

    /// The file that a request opens, removes or renames away.
    fn subject_of(&self, rpc: &Rpc) -> Option<Ino> {
        match rpc {
            Rpc::Open { dir, name, .. } | Rpc::Remove { dir, name } | Rpc::Rename { dir, name, .. } => self.server.target(*dir, name),
            Rpc::OpenHandle { ino } => Some(*ino),
            _ => None,
        }
    }

    /// A fault's condition beyond what the plan says.
    pub(super) fn holds(&self, host: HostId, entry: &Entry, rpc: &Rpc) -> bool {
        let target = self.target_of(rpc);
        let is_file = |ino: Ino| self.server.is_dir(ino) == Some(false);
        let creates = given_name(rpc).is_some() && target.is_none();
        match entry.act {
            Act::Fail if entry.id == "U10" => !matches!(rpc, Rpc::Open { create: None, .. } | Rpc::OpenHandle { .. }),
            Act::Redo if entry.id == "O9" => is_exclusive(rpc) && target.is_none(),
            Act::Redo => !matches!(rpc, Rpc::Open { create: None, .. } | Rpc::OpenHandle { .. }),
            Act::RefuseExisting | Act::RenameInSteps => target.is_some() && target != self.subject_of(rpc),
            Act::TornRename => self.subject_of(rpc).is_some_and(is_file),
            Act::RefuseOpenElsewhere => self.subject_of(rpc).is_some_and(|ino| self.server.is_open_elsewhere(host, ino)),
            Act::BreakLease => self.subject_of(rpc).is_some_and(|ino| self.server.is_open_elsewhere(host, ino)),
            Act::RefuseRenameOfOpen => [self.subject_of(rpc), target].into_iter().flatten().any(|ino| self.server.is_open(ino)),
            Act::DeletePending => self.subject_of(rpc).is_some_and(|ino| self.server.is_open(ino)),
            Act::ThirdParty => self.subject_of(rpc).is_some(),
            Act::ReplaceExisting => is_exclusive(rpc) && target.is_some(),
            Act::HideUntilClose => creates,
            Act::Arrive => creates || matches!(rpc, Rpc::Write { .. } | Rpc::Setattr { .. } | Rpc::Rename { .. }) && entry.id == "Y8",
            Act::Absent => match rpc {
                Rpc::Write { ino, .. } => self.server.is_sealed(*ino),
                Rpc::Rename { .. } => target.is_some(),
                _ => false,
            },
            Act::Return => self.subject_of(rpc).is_some_and(is_file),
            Act::FoldNames => self.folded(rpc).is_some(),
            Act::ConflictCopy => self.conflicts(host, rpc),
            Act::FalseStable => matches!(rpc, Rpc::Commit { .. } | Rpc::Write { stable: true, .. }),
            Act::Unsupported => match rpc {
                Rpc::Write { ino, .. } => self.server.is_sealed(*ino),
                Rpc::Setattr { size, .. } => size.is_some(),
                _ => true,
            },
            Act::MixVersions => matches!(rpc, Rpc::Read { ino, .. } if self.server.previous(*ino).is_some()),
            Act::SplitWrite | Act::Prefix => matches!(rpc, Rpc::Write { data, .. } if data.len() > 1),
            Act::UnlinkElsewhere => rpc.handle().is_some_and(is_file),
            _ => true,
        }
    }

    /// Plays a fault that fired on a request.
    pub(super) fn play(&mut self, host: HostId, rpc: Rpc, fired: &Fired) -> Outcome<Reply> {
        match fired.entry.act {
            Act::Delay => self.delay_on_the_way(host, rpc, fired),
            Act::Withhold => self.withhold(host, rpc, fired),
            Act::Redo => self.redo(host, &rpc, fired),
            Act::Duplicate => {
                let due = self.now() + fired.delay_ns.max(1);
                self.late.push((due, Later::Serve(host, rpc.clone())));
                self.injector.observed(fired.plan);
                self.serve(host, &rpc)
            }
            Act::Fail => self.fail(host, rpc, fired),
            Act::FailWrite => {
                let usual = if fired.entry.id == "N15" { Errno::ENOSPC } else { Errno::EIO };
                self.refuse(fired, usual)
            }
            Act::RefuseExisting => self.refuse(fired, Errno::EPERM),
            Act::RefuseOpenElsewhere => self.refuse(fired, Errno::EBUSY),
            Act::RefuseRenameOfOpen => self.refuse(fired, Errno::EACCES),
            Act::Unsupported => self.refuse(fired, Errno::EOPNOTSUPP),
            Act::ThirdParty => {
                let until = self.now() + self.rng.below(fired.delay_ns) + 1;
                let path = self.path_of(&rpc);
                self.held.insert(path, until);
                self.refuse(fired, Errno::EBUSY)
            }
            Act::Stale => self.go_stale(host, &rpc, fired),
            Act::UnlinkElsewhere => {
                if let Some(ino) = rpc.handle() {
                    self.server.destroy(ino);
                    self.injector.observed(fired.plan);
                }
                self.serve(host, &rpc)
            }
            act if act.is_event() => self.happen_around(host, rpc, fired),
            act if act.is_of_names() => self.play_names(host, rpc, fired),
            _ => self.play_data(host, rpc, fired),
        }
    }

    /// The error that the plan wants, or the usual one.
    fn errno(fired: &Fired, usual: Errno) -> Errno {
        fired.fault.errno.as_deref().and_then(Errno::from_name).unwrap_or(usual)
    }

    fn refuse(&mut self, fired: &Fired, usual: Errno) -> Outcome<Reply> {
        self.injector.observed(fired.plan);
        Err(Drive::errno(fired, usual).into())
    }

    fn fail(&mut self, host: HostId, rpc: Rpc, fired: &Fired) -> Outcome<Reply> {
        match fired.fault.applies(fired.entry) {
            // The host never learns what came of it.
            Apply::Before => drop(self.serve(host, &rpc)),
            Apply::Later => {
                let due = self.now() + fired.delay_ns.max(1);
                self.late.push((due, Later::Serve(host, rpc)));
            }
            Apply::Never | Apply::Phase => {}
        }
        if fired.fault.apply != Apply::Later {
            self.delay_ns += fired.delay_ns;
        }
        self.refuse(fired, if fired.entry.id == "U10" { Errno::EROFS } else { Errno::EIO })
    }

    /// A request that was lost on its way, or is asked for again: it arrives later.
    fn delay_on_the_way(&mut self, host: HostId, rpc: Rpc, fired: &Fired) -> Outcome<Reply> {
        if fired.delay_ns == 0 {
            return self.serve(host, &rpc);
        }
        self.injector.observed(fired.plan);
        let due = self.now() + fired.delay_ns;
        self.stage(host, rpc, due, Rest::Serve)
    }

    fn withhold(&mut self, host: HostId, rpc: Rpc, fired: &Fired) -> Outcome<Reply> {
        self.injector.observed(fired.plan);
        let due = if fired.delay_ns == 0 { u64::MAX } else { self.now() + fired.delay_ns };
        let rest = if fired.is_before() { Rest::Serve } else { Rest::Deliver(self.serve(host, &rpc)) };
        self.stage(host, rpc, due, rest)
    }

    fn redo(&mut self, host: HostId, rpc: &Rpc, fired: &Fired) -> Outcome<Reply> {
        self.delay_ns += fired.delay_ns;
        let first = self.serve(host, rpc);
        let second = self.serve(host, rpc);
        if first.is_ok() != second.is_ok() {
            self.injector.observed(fired.plan);
        }
        second
    }

    /// N16: the file's handle is refused from now on: every descriptor of the host is dead, its cache is void.
    fn go_stale(&mut self, host: HostId, rpc: &Rpc, fired: &Fired) -> Outcome<Reply> {
        self.injector.observed(fired.plan);
        let Some(ino) = rpc.handle() else {
            // An open, by name or by number: the kernel tries once more, and is refused once more.
            self.hosts[host].refuse_again = Some(rpc.clone());
            return Err(Errno::ESTALE.into());
        };
        self.kill_handles(host, Errno::ESTALE, |handle| handle == ino);
        if let Some(file) = self.hosts[host].files.get_mut(&ino) {
            file.forget();
        }
        for dir in self.hosts[host].dirs.values_mut() {
            dir.forget_target(ino);
        }
        Err(Errno::ESTALE.into())
    }

    /// Descriptors of a host on some files are dead from now on.
    fn kill_handles(&mut self, host: HostId, errno: Errno, of: impl Fn(Ino) -> bool) -> usize {
        let mut dead = Vec::new();
        for handle in self.hosts[host].handles.values_mut().filter(|handle| handle.dead.is_none() && of(handle.ino)) {
            handle.dead = Some(errno);
            dead.push(handle.ino);
        }
        for ino in &dead {
            self.server.set_open(host, *ino, false);
        }
        dead.len()
    }

    /// The same open again, after it was refused with `ESTALE`.
    pub(super) fn is_refused_again(&mut self, host: HostId, rpc: &Rpc) -> bool {
        let again = self.hosts[host].refuse_again.as_ref() == Some(rpc);
        if again {
            self.hosts[host].refuse_again = None;
        }
        again
    }

    /// The reply to a request that was made only to know what it would be.
    fn attr_of(&self, ino: Ino) -> Outcome<super::Attr> {
        self.server.attributes(ino).map_err(Fail::Errno)
    }
}
