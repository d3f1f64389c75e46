//! The drive as mounts: one folder a host, for any program at all.
//!
//! The kernel is told to believe nothing: all time-outs are zero and files are opened with `DIRECT_IO`, so that every look
//! reaches the simulated client cache of that host, which decides what is stale. Memory maps are the exception (a page
//! fault cannot be answered otherwise): the kernel of each mount keeps mapped pages, as an NFS client's does, and is told to
//! write them back and forget them when NFS would: around remote locks, and at an open that finds the file changed.
//!
//! A request that must wait (latency, a partition, a lock that is taken) is put aside and does not hold up others.

pub mod mount;
mod ops;
mod pump;

pub use mount::{MountError, Mounted, mount_all};
