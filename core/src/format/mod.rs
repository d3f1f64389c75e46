//! Bytes on disk and what they mean. Pure: no I/O, no clock, no lock.
//!
//! All integers are little-endian; checksums are XXH3-64. Untrusted bytes become a type once, here; what exists as a type has
//! been checked. Golden-bytes tests (`tests/golden.rs`) pin what follows.
#![doc = include_str!("../../FORMAT.md")]

pub mod body;
pub mod commit;
pub mod entry;
pub mod frame;
pub mod key;
pub mod marker;
pub mod value;
pub mod wire;

pub use body::{Body, BodyBuilder, Record, RecordValue};
pub use commit::{COMMIT_HEADER_LEN, CommitHeader, CommitTerms, encode_commit, parse_commit};
pub use entry::Entry;
pub use key::{Key, KeyClass, KeyRef, KeyShape};
pub use marker::Marker;
pub use value::{Codec, Number, Place, ValueKind, ValueMeta};

/// The version of everything on disk. A cache of another one is refused and left untouched.
pub const FORMAT_VERSION: u32 = 2;
/// Longest key, in encoded bytes.
pub const KEY_LEN_MAX: usize = 8 << 20;
/// Longest name of a queue, in bytes: its keys are longer by a hyphen and 15 digits.
pub const PREFIX_LEN_MAX: usize = KEY_LEN_MAX - 16;
/// Longest tag, in encoded bytes.
pub const TAG_LEN_MAX: usize = 1 << 16;
/// Longest body of one commit, in bytes; large values that do not fit go into blobs.
pub const BODY_LEN_MAX: usize = 256 << 20;
/// Longest body whose values lie one right after the other, in bytes. In a longer one each begins at a multiple of [`SLOT_LEN`].
pub const PLAIN_BODY_LEN_MAX: usize = 8 << 20;
/// What the offsets of values in a longer body are multiples of, in bytes: so they fit into an address of the shared log.
pub const SLOT_LEN: usize = 32;
