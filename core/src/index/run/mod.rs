//! A run file: entries sorted by the hash of their key, with a table to find one and an array for each order.
//!
//! ```text
//! file     := head pad tables entries head          -- the second head is a copy, for when the first is damaged
//! head     := magic(8 "DcRun\r\n\x1a") version(u32) head-len(u32) file-len(u64) low(u64) high(u64) rows(u32) home(u32)
//!             tables-start(u32) tables-end(u32) entries-end(u32) sections(u32 = 12) section{12} block-sum(u32){blocks} sum(u64)
//! section  := offset(u32) count(u32)                -- offsets from the start of the file, multiples of 8
//! tables   := filter slots hashes offsets order{8}         -- in that order; an order that equals an earlier one shares its section
//! filter   := u64{home / 8 + 1}
//! slots    := (tag(u32) offset(u32)){count}         -- offset 0: free; 1: a lost entry
//! hashes   := u64{rows}                             -- ascending
//! offsets  := u32{rows}                             -- of the entry with the hash at the same index; 1: a lost entry
//! order    := u32{count}                            -- offsets of entries, in the order; tombstones and lost entries apart
//! entries  := entry*                                -- see `format::entry`; each carries its own checksum
//! ```
//!
//! **Lookup.** The home slot of a hash is `floor(((hash - low) << z) * m / 2^64)` with `z` the leading zeros of `high - low` and
//! `m = floor(home * 2^64 / (((high - low) << z) + 1))`. A hash's slot is the first free one from there on; there is no wrapping
//! (slots follow past `home` as needed), and a search ends at a free slot. `tag` is the hash's low half. Hashes ascend, so the
//! slots of a file are in hash order too. Before the slots are read the filter is: in its word number `home slot / 8` each hash
//! of the file has the bits set whose numbers are the hash's lowest four groups of six bits, so that a miss mostly ends there.
//!
//! **Trust.** `sum` is the XXH3-64 of the head before it, seeded with the cache's seed, and the log says which sum a file has;
//! `tables-start` is the first multiple of 4096 past the head, and each 4096 bytes of the tables (the last block may be shorter)
//! have a block-sum: the low half of their XXH3-64, seeded with the cache's seed plus the block's number. A block is checked
//! before it is first used (at each load from a network drive), so opening costs the head alone. Damage costs the damaged
//! entries only: what slots say can be found in hashes and offsets and the other way round, and orders can be made anew.
//!
//! A **lost entry** is what a merge keeps of one whose bytes it could not read: its hash, which says that nobody knows what
//! became of the key, so that no older entry is taken for the newest.

mod encode;
mod file;
mod head;
#[cfg(test)]
mod hostile;
mod source;

pub use encode::{Built, RunBuilder};
pub use file::{Hit, RunFile};
pub use head::Head;
pub use source::{Fault, Piece, Source};

/// Bytes of the tables that share one checksum.
pub const BLOCK_LEN: usize = 4096;
/// Most rows of one file.
pub const ROWS_MAX: usize = 16384;
/// A file that has grown to this many bytes of entries takes no more.
pub const ENTRIES_LEN_MAX: usize = 4 << 20;

const MAGIC: &[u8; 8] = b"DcRun\r\n\x1a";
const SECTIONS: usize = 4 + super::order::Order::COUNT;
const FILTER: usize = 0;
const SLOTS: usize = 1;
const HASHES: usize = 2;
const OFFSETS: usize = 3;
const ORDERS: usize = 4;
const HEAD_FIXED_LEN: usize = 64 + SECTIONS * 8;
/// In place of an entry's offset: the slot is free.
const FREE: u32 = 0;
/// In place of an entry's offset: the entry is lost.
const LOST: u32 = 1;

/// Returns the bits that a hash has set in its word of the filter.
#[inline]
const fn filter_bits(hash: u64) -> u64 {
    1 << (hash & 63) | 1 << (hash >> 6 & 63) | 1 << (hash >> 12 & 63) | 1 << (hash >> 18 & 63)
}

/// Returns the number of a slot's word in the filter.
#[inline]
const fn filter_word(slot: u32) -> u32 {
    slot / 8
}
