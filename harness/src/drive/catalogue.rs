//! Every fault that the drive can play: its number, its name, what it means, and what a client may still rely on.
//!
//! A remote operation has six phases ([`Phase`]). Most faults happen at one of them, and several can happen at any; the
//! rest are stale entries of a host's caches. The letters of [`Entry::keeps`] say what is left while the fault may strike:
//!
//! * `D` bytes whose fsync *and* close returned OK survive
//! * `O` another host sees them after its next open
//! * `A` rename replaces atomically
//! * `L` a lock excludes other hosts
//! * `X` the outcome that was returned is the true one
//! * `T` every call ends within a bounded time
//!
//! The integrity of bytes is never a drive's promise: checksums are the client's.

use Act::*;
use Phase::*;
use serde::{Deserialize, Serialize};

use super::rpc::Kind;
use super::rpc::Kind as K;

/// Where on its way a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Phase {
    /// Issued on the host; nothing has left it.
    P1,
    /// The request is in flight.
    P2,
    /// The server has applied it, in volatile memory.
    P3,
    /// It is stable at the server.
    P4,
    /// The reply is in flight.
    P5,
    /// The reply has arrived.
    P6,
}

/// Every phase, in order.
pub const PHASES: &[Phase] = &[P1, P2, P3, P4, P5, P6];

/// How a fault works. Several faults of the catalogue are one mechanism on another kind of drive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is explained by the faults that use it")]
pub enum Act {
    Absent,
    AppendBlindly,
    Arrive,
    BelieveAttributes,
    BelieveListing,
    BelieveName,
    BelieveOnOpen,
    BreakLease,
    Burst,
    ConflictCopy,
    Cut,
    Delay,
    DeletePending,
    DisturbListing,
    DropLease,
    Duplicate,
    Fail,
    FailWrite,
    FalseStable,
    Flip,
    FoldNames,
    ForeignTime,
    Grace,
    HideUntilClose,
    Interrupt,
    KeepValidator,
    Kill,
    LocalLock,
    LoseConnection,
    LoseSession,
    LoseUpload,
    LoseWrite,
    MandatoryLock,
    Misplace,
    MixVersions,
    Orphan,
    Pause,
    Placeholder,
    PowerCut,
    Prefix,
    Redo,
    RefuseExisting,
    RefuseOpenElsewhere,
    RefuseRenameOfOpen,
    RenameInSteps,
    ReplaceExisting,
    Restart,
    Return,
    RollBack,
    ShowPrefix,
    SillyRename,
    SkewClock,
    SplitWrite,
    Stale,
    ThirdParty,
    TornRename,
    UnlinkElsewhere,
    Unsupported,
    Withhold,
}

impl Act {
    /// It happens on the host, before a request is made: calls that are cut short, caches that are believed for too long.
    #[must_use]
    pub fn is_of_the_host(self) -> bool {
        matches!(
            self,
            AppendBlindly
                | BelieveAttributes
                | BelieveListing
                | BelieveName
                | BelieveOnOpen
                | DisturbListing
                | Interrupt
                | LocalLock
                | MandatoryLock
                | SillyRename
        )
    }
}

/// One fault of the catalogue.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Its number: the family's letter and a count.
    pub id: &'static str,
    /// Its name, for people.
    pub name: &'static str,
    /// What happens, in a sentence.
    pub meaning: &'static str,
    /// Which of the guarantees D O A L X T remain.
    pub keeps: &'static str,
    /// How it works.
    pub act: Act,
    /// The requests on which it makes sense; empty for all.
    pub ops: &'static [Kind],
    /// The phases at which it can happen; the first is the usual one.
    pub phases: &'static [Phase],
}

/// Faults of one kind of drive, or of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Family {
    /// The letter of its numbers.
    pub letter: char,
    /// What kind of drive.
    pub title: &'static str,
}

/// The families, in the order of the catalogue.
pub const FAMILIES: &[Family] = &[
    Family { letter: 'U', title: "every drive" },
    Family { letter: 'N', title: "NFS" },
    Family { letter: 'S', title: "SMB" },
    Family { letter: 'F', title: "SFTP" },
    Family { letter: 'O', title: "object store behind a mount" },
    Family { letter: 'Y', title: "synchronised folder" },
];

const CHANGES: &[Kind] = &[K::Write, K::Create, K::Link, K::Rename, K::Remove, K::Open, K::Setattr, K::Allocate];
const NAMES: &[Kind] = &[K::Link, K::Remove, K::Rename, K::Create, K::Open];
const NEW_NAMES: &[Kind] = &[K::Open, K::Create, K::Link];
const HANDLES: &[Kind] = &[K::Read, K::Write, K::Getattr, K::Commit, K::Lock];
const STABLE: &[Kind] = &[K::Commit, K::Write];
/// Phases of a request that the server refuses: it is not applied at any of them.
pub(super) const REFUSED: &[Phase] = &[P3, P1, P2];
const EVENT: &[Phase] = &[P2, P1, P3, P4, P5, P6];
const AFTER: &[Phase] = &[P5, P1, P2, P3, P4, P6];
const SERVER: &[Phase] = &[P3];
const HOST: &[Phase] = &[P1];
const FLIGHT: &[Phase] = &[P2];

macro_rules! catalogue {
    ($($id:ident $name:literal $keeps:literal $act:ident $ops:expr, $phases:expr, $meaning:literal;)*) => {
        /// Every fault, in the order of the catalogue.
        pub const CATALOGUE: &[Entry] = &[$(Entry {
            id: stringify!($id), name: $name, meaning: $meaning, keeps: $keeps, act: $act, ops: $ops, phases: $phases,
        }),*];
    };
}

catalogue! {
    U1 "bit-flip" "DOALXT" Flip &[K::Read], &[P5, P4], "one bit is flipped, in the answer to a read (P5) or at rest (P4)";
    U2 "misplaced-bytes" "DOALXT" Misplace &[K::Read, K::Write], &[P5, P3], "well-formed bytes come from another file or offset (reads), or go there (writes)";
    U3 "lost-write" "" LoseWrite &[K::Write], SERVER, "a write is acknowledged and never made";
    U4 "rolled-back" "" RollBack &[], EVENT, "a file (with `path`) or the whole tree is again what it was when the fault was planned, or at its first match where it skips some";
    U5 "kill" "DA" Kill &[], EVENT, "the process that made the request is killed";
    U6 "pause" "DA" Pause &[], EVENT, "that process is stopped for `delay_ms`, past every timer, and goes on";
    U7 "partition" "DA" Cut &[], &[P1, P2, P3, P4, P5, P6], "the host is cut off for `delay_ms` (0: until healed): both ways at P1, requests only at P2, replies only from P3 on";
    U8 "slow-network" "DOALX" Delay &[], AFTER, "requests take `delay_ms` longer, up to `jitter_ms` more, and the time of their bytes at `bandwidth` bytes a second";
    U9 "interrupted-call" "DOALXT" Interrupt &[K::Open, K::Read, K::Write, K::Lock], HOST, "a call is cut short: a short read or write, or an errno such as EINTR, EMFILE, ENOMEM";
    U10 "refused-midway" "D" Fail CHANGES, REFUSED, "changes are refused midway: EROFS, or EACCES by `errno`";
    N1 "stale-cache" "DOAL" BelieveAttributes &[K::Read, K::Getattr], HOST, "a host answers from its pages and attributes beyond their time";
    N2 "unasked-open" "DA" BelieveOnOpen &[K::Open], HOST, "open believes the cache and does not ask the server";
    N3 "stale-name" "DA" BelieveName &[K::Lookup, K::Open], HOST, "a name, present or absent, is answered from the cache; a replaced one resolves to the old file";
    N4 "stale-listing" "DA" BelieveListing &[K::Readdir], &[P1, P3], "a listing is an old one (P1), or entries are skipped or repeated in it (P3)";
    N5 "lost-request" "DOALX" Delay &[], FLIGHT, "the request is lost and sent again after `delay_ms`";
    N6 "lost-reply" "DOALX" Delay &[], &[P5], "the reply is lost; sent again after `delay_ms`, the request is answered from the server's replay cache";
    N7 "repeated-request" "DAT" Redo &[K::Link, K::Remove, K::Rename, K::Create], &[P5], "the reply is lost and the server carries the request out again: it reports a failure although it was done";
    N8 "late-duplicate" "D" Duplicate &[K::Write, K::Setattr], FLIGHT, "a copy of the request is applied `delay_ms` later, over what is newer";
    N9 "soft-timeout" "D" Fail &[], BEFORE_OR_AFTER, "an error after retries, EIO or by `errno`; the request is applied never (P1, P2), before (P3 to P6), or as `apply` says";
    N10 "withheld-reply" "DOALX" Withhold &[], &[P5, P2], "the answer is withheld for `delay_ms` (0: until healed)";
    N11 "server-restart" "DOA" Restart &[], EVENT, "the server restarts, drops what was not stable (`loss`), has a new verifier and no locks; living clients send again";
    N12 "power-cut" "DA" PowerCut &[], EVENT, "the server restarts and the host is gone too, for `delay_ms`: any part of what was not stable is lost (`loss`)";
    N13 "lying-server" "" FalseStable STABLE, &[P4], "stability is acknowledged and not kept across the next restart, which comes after `delay_ms` (0: not by itself)";
    N14 "late-write-error" "D" FailWrite STABLE, &[P3, P2], "a write is accepted, its write-back fails, and the error is told once, at the next fsync or close; the host goes on reading it";
    N15 "drive-full" "D" FailWrite &[K::Write, K::Create, K::Link, K::Allocate], &[P3, P2], "as N14 with ENOSPC (or EDQUOT by `errno`); then there is space again";
    N16 "stale-handle" "D" Stale &[K::Read, K::Write, K::Getattr, K::Commit, K::Lock, K::Open], REFUSED, "the file's handle is refused for ever (ESTALE); at an open twice, since the kernel tries once more";
    N17 "silly-rename" "DOA" SillyRename &[K::Remove, K::Rename], HOST, "a file removed while open on its host becomes .nfsXXXX until it is closed, and for ever when the host dies";
    N18 "removed-elsewhere" "DOA" UnlinkElsewhere HANDLES, &[P2, P1], "another host has removed the open file: what is cached is served, everything else is ESTALE";
    N19 "split-write" "A" SplitWrite &[K::Write], &[P3, P2], "a write is split (`bytes` each), some parts are there at once and the others after `delay_ms`; holes read as zeros";
    N20 "lost-lease" "DA" DropLease &[], EVENT, "the server forgets the host's locks; the old holder goes on, or gets `errno` on its handles";
    N21 "local-locks" "DA" LocalLock &[K::Lock, K::Lockt], HOST, "each host grants locks for itself";
    N22 "grace-period" "DOALX" Grace &[K::Lock, K::Open], EVENT, "new locks and opens wait for `delay_ms`, or are refused with `errno`";
    N23 "append-collision" "A" AppendBlindly &[K::Write], HOST, "an append goes to the end as the host remembers it, over another host's";
    N24 "clock-skew" "DOAL" SkewClock &[], EVENT, "the host's clock steps by `offset_ms` and drifts by `drift_ppm`; times of files stay the server's, rounded";
    N25 "unchanged-validator" "DA" KeepValidator &[K::Write, K::Setattr], SERVER, "content changes and the validator that caches go by does not";
    N26 "try-again-later" "DOALX" Delay &[], &[P2, P3], "the server asks to be asked again: the request is applied after `delay_ms`";
    S1 "share-conflict" "DOA" RefuseOpenElsewhere &[K::Open], REFUSED, "an open is refused (EBUSY) while another host has the file open";
    S2 "delete-pending" "DA" DeletePending &[K::Remove], SERVER, "a removed name is unusable (EBUSY) until the last handle on the file closes";
    S3 "rename-open-file" "D" RefuseRenameOfOpen &[K::Rename], REFUSED, "a rename of or over an open file is refused (EACCES)";
    S4 "lease-break" "DOALX" BreakLease &[K::Open], FLIGHT, "an open of what another host has open waits `delay_ms` while that host writes back and forgets its cache";
    S5 "resumed-session" "DOALX" Delay &[], &[P2, P5], "the connection breaks and is back after `delay_ms`, with handles and locks";
    S6 "lost-session" "D" LoseSession &[], EVENT, "the connection breaks: the host's handles are dead (EBADF), its locks gone, its unwritten data lost";
    S7 "mandatory-lock" "DOAL" MandatoryLock &[K::Read, K::Write], HOST, "reads and writes in a range that another host has locked fail (EACCES)";
    S8 "colliding-names" "D" FoldNames &[K::Open, K::Create, K::Link, K::Rename, K::Lookup, K::Remove], SERVER, "names that differ in case, trailing dots or spaces are one; CON, NUL and the like are refused";
    S9 "cached-listing" "DA" BelieveListing &[K::Readdir], &[P1, P3], "as N4, on SMB";
    S10 "unstable-flush" "" FalseStable STABLE, &[P4], "as N13: a flush is acknowledged without stability";
    S11 "third-party-open" "DOA" ThirdParty &[K::Open, K::Remove, K::Rename], REFUSED, "a program elsewhere (a virus scanner) holds the file for a random time up to `delay_ms`: EBUSY";
    F1 "rename-refused" "D" RefuseExisting &[K::Rename], REFUSED, "a rename onto an existing name fails (EPERM); the old file is intact";
    F2 "rename-in-steps" "D" RenameInSteps &[K::Rename], &[P3], "a rename removes the target first: for `delay_ms` the name is absent, and a crash leaves only the temporary one";
    F3 "empty-fsync" "OALXT" FalseStable STABLE, &[P4], "fsync returns OK and does nothing; a restart comes after `delay_ms` (0: not by itself)";
    F4 "lost-connection" "D" LoseConnection &[], &[P2, P1, P3, P4, P5, P6], "all handles of the host answer EIO from now on; what was in flight was done (P3 to P6) or not (P1, P2)";
    F5 "late-error" "D" FailWrite STABLE, &[P3, P2], "as N14, on SFTP";
    F6 "old-attributes" "DA" BelieveAttributes &[K::Read, K::Getattr, K::Lookup, K::Readdir, K::Open], HOST, "attributes and listings are up to 20 seconds old";
    F7 "locks-per-host" "DA" LocalLock &[K::Lock, K::Lockt], HOST, "as N21, on SFTP";
    F8 "prefix-left" "D" Prefix &[K::Write], &[P3], "the transfer breaks off: a prefix of the bytes is there, and the write fails";
    O1 "visible-at-close" "DOA" HideUntilClose &[K::Open], SERVER, "a new file is invisible to other hosts until it is synced or closed, and then whole";
    O2 "lost-upload" "ALXT" LoseUpload &[K::Write], FLIGHT, "close returns OK, the upload fails later, and the host's own view stays as if it had not";
    O3 "unsupported-call" "DOXT" Unsupported &[K::Rename, K::Link, K::Lock, K::Setattr, K::Write], REFUSED, "rename, link and lock, and writes into what was closed before, give an error (EOPNOTSUPP)";
    O4 "torn-rename" "DOLXT" TornRename &[K::Rename], &[P3], "a rename is a copy and a removal, `delay_ms` apart: a crash between them leaves both names, or neither (`apply = \"later\"`)";
    O5 "last-writer-wins" "DOAXT" ReplaceExisting NEW_NAMES, SERVER, "an exclusive creation of what exists succeeds and replaces it: both writers were told OK";
    O6 "old-stat" "D" BelieveAttributes &[K::Getattr, K::Lookup, K::Open, K::Read], HOST, "attributes and absent names are believed beyond their time";
    O7 "mixed-versions" "DOALXT" MixVersions &[K::Read], &[P3], "a read mixes the file's versions before and after a change, or fails with `errno`";
    O8 "error-burst" "DOALX" Burst &[], REFUSED, "for `delay_ms` requests fail with EIO or are slow";
    O9 "conflict-with-itself" "DOALT" Redo NEW_NAMES, &[P5], "an exclusive creation is sent again and loses to itself (EEXIST)";
    O10 "no-real-locks" "DA" LocalLock &[K::Lock, K::Lockt], HOST, "as N21, on an object store";
    O11 "orphan-parts" "DOALXT" Orphan &[K::Write], SERVER, "an upload is given up midway and made again: its first parts keep their space for ever";
    Y1 "conflicted-copy" "DOAXT" ConflictCopy &[K::Write, K::Open, K::Link, K::Rename], SERVER, "a change on top of an unseen one goes to a second name, \"conflicted copy\"";
    Y2 "arrival-order" "D" Arrive NAMES, SERVER, "new names arrive at other hosts in any order, within `delay_ms`";
    Y3 "visible-prefix" "DOALXT" ShowPrefix &[K::Write], SERVER, "other hosts see only a prefix of the file for `delay_ms`";
    Y4 "absent-window" "DOLXT" Absent &[K::Rename, K::Write, K::Link], SERVER, "other hosts do not see the name for `delay_ms` while it is replaced";
    Y5 "returned-name" "DA" Return &[K::Remove], SERVER, "a removed name is back after `delay_ms`";
    Y6 "placeholder" "DOALX" Placeholder &[K::Read], &[P3], "stat is well, but reading hangs for `delay_ms`, or fails (EIO, or `errno`) where that is 0";
    Y7 "scanner-open" "DOA" ThirdParty &[K::Open, K::Remove, K::Rename], REFUSED, "as S11, on a synchronised folder";
    Y8 "slow-sync" "DALXT" Arrive &[K::Open, K::Create, K::Link, K::Rename, K::Write, K::Setattr], SERVER, "changes arrive at other hosts after `delay_ms`: minutes to days";
    Y9 "foreign-mtime" "DOALXT" ForeignTime &[K::Write, K::Open, K::Setattr], SERVER, "times of files are another machine's: `offset_ms` off, in whole seconds";
    Y10 "colliding-names-sync" "D" FoldNames &[K::Open, K::Create, K::Link, K::Rename, K::Lookup, K::Remove], SERVER, "as S8, on a synchronised folder";
    Y11 "restored-version" "" RollBack &[], EVENT, "as U4: an older version comes back";
    Y12 "locks-not-synced" "DA" LocalLock &[K::Lock, K::Lockt], HOST, "as N21, on a synchronised folder";
}

/// Phases of an error whose request may have been applied.
const BEFORE_OR_AFTER: &[Phase] = &[P2, P1, P3, P4, P5, P6];

/// The fault of a number (`N9`) or a name (`soft-timeout`).
#[must_use]
pub fn find(id_or_name: &str) -> Option<&'static Entry> {
    CATALOGUE.iter().find(|entry| entry.id == id_or_name || entry.name == id_or_name)
}

impl Entry {
    /// How it works at a phase.
    #[must_use]
    pub fn act_at(&self, phase: Phase) -> Act {
        if self.act == BelieveListing && phase == P3 { DisturbListing } else { self.act }
    }

    /// Whether it happens without a request when the plan gives a time (`at_ms`) for it.
    #[must_use]
    pub fn is_event(&self) -> bool {
        matches!(self.act, RollBack | Cut | Restart | PowerCut | DropLease | Grace | SkewClock | LoseSession | LoseConnection | Burst)
    }

    /// How long it lasts when the plan gives no `delay_ms`. Where this is 0, a plan without one means what the fault's meaning says.
    #[must_use]
    pub fn usual_ms(&self) -> u64 {
        match self.act {
            Delay if self.id == "U8" => 0,
            Delay | BreakLease | SplitWrite | RenameInSteps | TornRename | Absent | Burst => 200,
            Duplicate | Pause | Grace | Return | PowerCut => 500,
            ThirdParty | ShowPrefix => 1_000,
            Arrive if self.id == "Y8" => 60_000,
            Arrive => 1_000,
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_catalogue_has_every_fault_of_every_family_once() {
        let ids: Vec<&str> = CATALOGUE.iter().map(|entry| entry.id).collect();
        let wanted: Vec<String> = [('U', 10), ('N', 26), ('S', 11), ('F', 8), ('O', 11), ('Y', 12)]
            .into_iter()
            .flat_map(|(letter, count)| (1..=count).map(move |number| format!("{letter}{number}")))
            .collect();
        assert_eq!(ids, wanted);
        let names: BTreeSet<&str> = CATALOGUE.iter().map(|entry| entry.name).collect();
        assert_eq!(names.len(), CATALOGUE.len(), "names are unique");
        assert!(CATALOGUE.iter().all(|entry| find(entry.name).is_some_and(|found| found.id == entry.id)));
    }

    #[test]
    fn guarantees_are_letters_in_order_and_phases_are_given_once() {
        for entry in CATALOGUE {
            let kept: String = "DOALXT".chars().filter(|letter| entry.keeps.contains(*letter)).collect();
            assert_eq!(kept, entry.keeps, "{}", entry.id);
            let phases: BTreeSet<Phase> = entry.phases.iter().copied().collect();
            assert!(!phases.is_empty() && phases.len() == entry.phases.len(), "{}", entry.id);
        }
    }
}
