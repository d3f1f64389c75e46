//! The storage engine of DiskCache RS.
//!
//! A cache is one ordered log of commits; its state is that log replayed, and everything else (index, checkpoints, eviction
//! order) is derived from it. On a local disk many processes append to shared segments; on a network drive every commit is a
//! complete file that `link(2)` gives its place in the order. `FORMAT.md` beside this crate is the on-disk format.

pub mod blob;
pub mod cache;
pub mod chance;
pub mod clock;
pub mod codec;
mod compaction;
pub mod doctor;
pub mod error;
mod eviction;
pub mod fork;
pub mod format;
pub mod index;
pub mod log;
pub mod mount;
#[doc(hidden)]
pub mod mutants;
#[doc(hidden)]
pub mod probe;
mod publish;
pub mod sync;
pub mod verify;
pub mod vfs;

pub use cache::{
    Attempt, Cache, Companion, Durability, EvictionPolicy, Hit, KeyOrder, Keys, Options, ProfileOverride, Put, PutData, Setting, Value,
    ValueReader,
};
pub use error::{Error, ErrorKind, Result};
pub use format::{Key, KeyRef, Number, ValueKind, key::NumberKey, key::NumberValue};
