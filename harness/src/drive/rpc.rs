//! What travels between a client host and the server.
//!
//! A request is plain data, so that a fault can hold it back, apply it later, or apply it a second time: those are
//! properties of the network, and neither the client nor the server knows about them.

use serde::{Deserialize, Serialize};

use super::locks::{LockKind, Owner, Range};

/// A file's number on the server. Never reused.
pub type Ino = u64;

/// The root folder's number.
pub const ROOT: Ino = 1;

/// The kinds of round trip that are counted, named as in the NFSv4.2 specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[expect(missing_docs, reason = "the names are the protocol's own")]
pub enum Kind {
    Access,
    Allocate,
    Close,
    Commit,
    Create,
    Getattr,
    Link,
    Lock,
    Lockt,
    Locku,
    Lookup,
    Open,
    Read,
    Readdir,
    Remove,
    Rename,
    Setattr,
    Statfs,
    Write,
}

impl Kind {
    /// All of them, in the order of their names.
    pub const ALL: &[Kind] = &[
        Kind::Access,
        Kind::Allocate,
        Kind::Close,
        Kind::Commit,
        Kind::Create,
        Kind::Getattr,
        Kind::Link,
        Kind::Lock,
        Kind::Lockt,
        Kind::Locku,
        Kind::Lookup,
        Kind::Open,
        Kind::Read,
        Kind::Readdir,
        Kind::Remove,
        Kind::Rename,
        Kind::Setattr,
        Kind::Statfs,
        Kind::Write,
    ];

    /// The kind of a name.
    #[must_use]
    pub fn named(name: &str) -> Option<Kind> {
        Kind::ALL.iter().copied().find(|kind| kind.name() == name)
    }

    /// The name in plans, logs and tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::Access => "ACCESS",
            Kind::Allocate => "ALLOCATE",
            Kind::Close => "CLOSE",
            Kind::Commit => "COMMIT",
            Kind::Create => "CREATE",
            Kind::Getattr => "GETATTR",
            Kind::Link => "LINK",
            Kind::Lock => "LOCK",
            Kind::Lockt => "LOCKT",
            Kind::Locku => "LOCKU",
            Kind::Lookup => "LOOKUP",
            Kind::Open => "OPEN",
            Kind::Read => "READ",
            Kind::Readdir => "READDIR",
            Kind::Remove => "REMOVE",
            Kind::Rename => "RENAME",
            Kind::Setattr => "SETATTR",
            Kind::Statfs => "STATFS",
            Kind::Write => "WRITE",
        }
    }
}

/// A file's attributes, as the server tells them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attr {
    /// Its number.
    pub ino: Ino,
    /// Whether it is a folder.
    pub dir: bool,
    /// Length in bytes.
    pub size: u64,
    /// Permission bits.
    pub mode: u32,
    /// How many names it has.
    pub nlink: u32,
    /// The change attribute: grows with every change of content or attributes.
    pub change: u64,
    /// Grows with every change, also where the change attribute does not. No host may go by it: it is how the drive itself
    /// knows that an answer is stale.
    pub version: u64,
    /// Time of the last change of content, nanoseconds since the epoch, by the server's clock.
    pub mtime: u64,
    /// Time of the last change of anything, likewise.
    pub ctime: u64,
}

/// The change attribute of a folder before and after an operation on its names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirChange {
    /// Before.
    pub before: u64,
    /// After.
    pub after: u64,
}

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "fields are named as the arguments of the calls that they carry")]
pub enum Rpc {
    Access { ino: Ino },
    Allocate { ino: Ino, end: u64 },
    Close { ino: Ino },
    Commit { ino: Ino },
    Getattr { ino: Ino },
    Link { ino: Ino, dir: Ino, name: String },
    Lock { ino: Ino, owner: Owner, range: Range, kind: LockKind },
    Lockt { ino: Ino, owner: Owner, range: Range, kind: LockKind },
    Locku { ino: Ino, owner: Owner, range: Range },
    Lookup { dir: Ino, name: String },
    Mkdir { dir: Ino, name: String, mode: u32 },
    Open { dir: Ino, name: String, create: Option<Create> },
    OpenHandle { ino: Ino },
    Read { ino: Ino, offset: u64, len: usize },
    Readdir { dir: Ino },
    Remove { dir: Ino, name: String },
    Rename { dir: Ino, name: String, to_dir: Ino, to_name: String },
    Rmdir { dir: Ino, name: String },
    Setattr { ino: Ino, size: Option<u64>, mode: Option<u32>, mtime: Option<u64> },
    Statfs,
    Write { ino: Ino, offset: u64, data: Vec<u8>, stable: bool },
}

/// How an open may create.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Create {
    /// Fail when the name exists.
    pub exclusive: bool,
    /// Permission bits of a new file.
    pub mode: u32,
}

impl Rpc {
    /// What it counts as.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Rpc::Access { .. } => Kind::Access,
            Rpc::Allocate { .. } => Kind::Allocate,
            Rpc::Close { .. } => Kind::Close,
            Rpc::Commit { .. } => Kind::Commit,
            Rpc::Getattr { .. } => Kind::Getattr,
            Rpc::Link { .. } => Kind::Link,
            Rpc::Lock { .. } => Kind::Lock,
            Rpc::Lockt { .. } => Kind::Lockt,
            Rpc::Locku { .. } => Kind::Locku,
            Rpc::Lookup { .. } => Kind::Lookup,
            Rpc::Mkdir { .. } => Kind::Create,
            Rpc::Open { .. } | Rpc::OpenHandle { .. } => Kind::Open,
            Rpc::Read { .. } => Kind::Read,
            Rpc::Readdir { .. } => Kind::Readdir,
            Rpc::Remove { .. } | Rpc::Rmdir { .. } => Kind::Remove,
            Rpc::Rename { .. } => Kind::Rename,
            Rpc::Setattr { .. } => Kind::Setattr,
            Rpc::Statfs => Kind::Statfs,
            Rpc::Write { .. } => Kind::Write,
        }
    }

    /// The file whose handle it carries, where it carries one of a file.
    #[must_use]
    pub fn handle(&self) -> Option<Ino> {
        match *self {
            Rpc::Allocate { ino, .. }
            | Rpc::Commit { ino }
            | Rpc::Getattr { ino }
            | Rpc::Lock { ino, .. }
            | Rpc::Lockt { ino, .. }
            | Rpc::Locku { ino, .. }
            | Rpc::Read { ino, .. }
            | Rpc::Setattr { ino, .. }
            | Rpc::Write { ino, .. } => Some(ino),
            _ => None,
        }
    }
}

/// One entry of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name in the folder.
    pub name: String,
    /// Its number.
    pub ino: Ino,
    /// Whether it is a folder.
    pub dir: bool,
}

/// Space on the drive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// All of it, in bytes.
    pub total: u64,
    /// What is left.
    pub free: u64,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "fields are named as the results that they carry")]
pub enum Reply {
    Done,
    Attr(Attr),
    Named { attr: Attr, dir: DirChange },
    Opened { attr: Attr, created: bool, dir: DirChange },
    Removed { dir: DirChange },
    Renamed { from: DirChange, to: DirChange },
    Data { bytes: Vec<u8>, attr: Attr },
    Written { attr: Attr, verifier: u64 },
    Committed { verifier: u64 },
    Listing { entries: Vec<Entry>, attr: Attr },
    Holder(Option<(Owner, Range, LockKind)>),
    Space(Space),
}
