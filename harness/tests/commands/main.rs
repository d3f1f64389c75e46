//! The commands that mount a drive in the background, add faults to it, count and unmount, as a person uses them.
#![expect(clippy::unwrap_used, reason = "a test: its helpers panic")]

mod fuse;
mod fuse_engines;
