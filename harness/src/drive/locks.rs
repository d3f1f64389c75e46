//! A table of advisory byte-range locks: what `fcntl(F_SETLK)` and `flock` rest on.
//!
//! Linux NFS carries `flock` as a lock of the whole file in the same table, and so does this drive. A lock belongs to an
//! owner (a host and a number that the host chose); one owner's locks never conflict, and a new one replaces, splits or
//! extends what it had there.

use std::collections::BTreeMap;

use super::rpc::Ino;

/// Who holds a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner {
    /// The client host, by its number.
    pub host: usize,
    /// The owner on that host.
    pub id: u64,
    /// A process number there, for `F_GETLK`.
    pub pid: u32,
}

impl Owner {
    fn same(self, other: Owner) -> bool {
        self.host == other.host && self.id == other.id
    }
}

/// Bytes `start..=end`; `end` is `u64::MAX` for "to the end of the file, however long".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Range {
    /// First byte.
    pub start: u64,
    /// Last byte, inclusive.
    pub end: u64,
}

impl Range {
    fn overlaps(self, other: Range) -> bool {
        self.start <= other.end && other.start <= self.end
    }
}

/// Shared or exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LockKind {
    /// Many readers.
    Shared,
    /// One writer.
    Exclusive,
}

#[derive(Clone, Debug)]
struct Held {
    owner: Owner,
    range: Range,
    kind: LockKind,
}

/// All locks that one server (or, where locks are local, one host) has granted.
#[derive(Clone, Debug, Default)]
pub struct LockTable {
    files: BTreeMap<Ino, Vec<Held>>,
}

impl LockTable {
    /// The first lock that stands in the way, if one does.
    #[must_use]
    pub fn conflict(&self, ino: Ino, owner: Owner, range: Range, kind: LockKind) -> Option<(Owner, Range, LockKind)> {
        self.files
            .get(&ino)?
            .iter()
            .find(|held| {
                !held.owner.same(owner) && held.range.overlaps(range) && (held.kind == LockKind::Exclusive || kind == LockKind::Exclusive)
            })
            .map(|held| (held.owner, held.range, held.kind))
    }

    /// Grants a lock, or says no.
    pub fn lock(&mut self, ino: Ino, owner: Owner, range: Range, kind: LockKind) -> bool {
        if self.conflict(ino, owner, range, kind).is_some() {
            return false;
        }
        self.unlock(ino, owner, range);
        self.files.entry(ino).or_default().push(Held { owner, range, kind });
        true
    }

    /// Gives up an owner's locks in a range; a lock that reaches beyond it keeps the rest.
    pub fn unlock(&mut self, ino: Ino, owner: Owner, range: Range) {
        let Some(held) = self.files.get_mut(&ino) else { return };
        let mut kept = Vec::with_capacity(held.len() + 1);
        for lock in held.drain(..) {
            if !lock.owner.same(owner) || !lock.range.overlaps(range) {
                kept.push(lock);
                continue;
            }
            if lock.range.start < range.start {
                let head = Range { start: lock.range.start, end: range.start - 1 };
                kept.push(Held { range: head, ..lock.clone() });
            }
            if lock.range.end > range.end {
                let tail = Range { start: range.end + 1, end: lock.range.end };
                kept.push(Held { range: tail, ..lock });
            }
        }
        if kept.is_empty() {
            self.files.remove(&ino);
        } else {
            *held = kept;
        }
    }

    /// Whether an owner holds anything on a file.
    #[must_use]
    pub fn holds(&self, ino: Ino, owner: Owner) -> bool {
        self.files.get(&ino).is_some_and(|held| held.iter().any(|lock| lock.owner.same(owner)))
    }

    /// Whether anybody on a host holds anything on a file.
    #[must_use]
    pub fn host_holds(&self, ino: Ino, host: usize) -> bool {
        self.files.get(&ino).is_some_and(|held| held.iter().any(|lock| lock.owner.host == host))
    }

    /// Forgets every lock of a host (`None`: of all) and says how many there were.
    pub fn forget(&mut self, host: Option<usize>) -> usize {
        let mut lost = 0;
        for held in self.files.values_mut() {
            let before = held.len();
            held.retain(|lock| host.is_some_and(|host| lock.owner.host != host));
            lost += before - held.len();
        }
        self.files.retain(|_, held| !held.is_empty());
        lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Owner = Owner { host: 0, id: 1, pid: 1 };
    const B: Owner = Owner { host: 1, id: 1, pid: 2 };

    fn range(start: u64, end: u64) -> Range {
        Range { start, end }
    }

    #[test]
    fn exclusive_excludes_and_shared_shares() {
        let mut table = LockTable::default();
        assert!(table.lock(5, A, range(0, 9), LockKind::Shared));
        assert!(table.lock(5, B, range(5, 5), LockKind::Shared));
        assert!(!table.lock(5, B, range(0, 0), LockKind::Exclusive));
        assert!(table.lock(5, B, range(10, 10), LockKind::Exclusive));
        assert!(!table.lock(5, A, range(0, 20), LockKind::Shared));
        assert!(table.lock(6, B, range(0, u64::MAX), LockKind::Exclusive), "another file is another matter");
    }

    #[test]
    fn unlocking_the_middle_leaves_both_ends() {
        let mut table = LockTable::default();
        assert!(table.lock(5, A, range(0, 99), LockKind::Exclusive));
        table.unlock(5, A, range(40, 59));
        assert!(table.lock(5, B, range(40, 59), LockKind::Exclusive));
        assert!(!table.lock(5, B, range(39, 39), LockKind::Shared));
        assert!(!table.lock(5, B, range(60, 60), LockKind::Shared));
    }

    #[test]
    fn an_owner_converts_its_own_lock() {
        let mut table = LockTable::default();
        assert!(table.lock(5, A, range(0, 9), LockKind::Exclusive));
        assert!(table.lock(5, A, range(0, 9), LockKind::Shared));
        assert!(table.lock(5, B, range(0, 9), LockKind::Shared));
        assert!(!table.lock(5, A, range(0, 9), LockKind::Exclusive));
    }

    #[test]
    fn forgetting_a_host_frees_only_its_locks() {
        let mut table = LockTable::default();
        assert!(table.lock(5, A, range(0, 0), LockKind::Exclusive));
        assert!(table.lock(5, B, range(1, 1), LockKind::Exclusive));
        assert_eq!(table.forget(Some(0)), 1);
        assert!(!table.host_holds(5, 0));
        assert!(table.holds(5, B));
        assert_eq!(table.forget(None), 1);
    }
}
