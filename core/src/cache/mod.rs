//! The façade: what a cache can do.
//!
//! A [`Cache`] is a cheap handle, shared by threads, that goes on working in a forked child. Calls are grouped as `read` (look-ups), `write`
//! (changes), `walk` (ordered walks, expiry, eviction), `transact`; underneath are the `engine` (log and state of this process), the `state`
//! and what records do to it (`apply`), and `maintain` (checkpoints, merges, folds), which a `worker` does beside the writes.

mod accesses;
mod apply;
mod check;
mod companion;
mod engine;
mod group;
mod handle;
mod leftovers;
mod maintain;
pub(crate) mod manifest;
mod open;
mod options;
mod read;
mod repair;
mod state;
mod transact;
mod value;
mod walk;
mod worker;
pub(crate) mod write;

pub use companion::Companion;
pub use handle::Cache;
pub use options::{BLOB_LEN_MIN_DEFAULT, Durability, EvictionPolicy, Options, ProfileOverride, Setting, Tuning};
pub use read::Got;
pub use value::{Hit, Put, PutData, Value, ValueReader};
pub use walk::{KeyOrder, Keys};
pub use write::{Change, Changed};

/// What a call that must not wait came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt<T> {
    /// It was done.
    Done(T),
    /// It would have waited, and nothing was done: call the waiting one.
    WouldBlock,
}
