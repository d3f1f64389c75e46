//! What kind of drive it is: which caches its clients keep, for how long, and how they lock.

use serde::{Deserialize, Serialize};

/// A drive's kind. The built-in ones are `nfs4` and `local`; fields can be overridden in a scenario.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Profile {
    /// Its name.
    pub name: String,
    /// Whether hosts cache at all. Without, every request goes to the server: one strict, coherent drive.
    pub caches: bool,
    /// How long a file's attributes are believed at first; doubled while they do not change.
    pub attr_min_ms: u64,
    /// How long at most.
    pub attr_max_ms: u64,
    /// The same for a folder's, by which its names (also the absent ones) and listings are believed.
    pub dir_min_ms: u64,
    /// How long at most.
    pub dir_max_ms: u64,
    /// Locks are granted by each host for itself (`nolock`, `local_lock=all`).
    pub local_locks: bool,
    /// Largest READ and WRITE.
    pub io_bytes: usize,
    /// A host writes back by itself what has been dirty for this long.
    pub writeback_ms: u64,
    /// What a round trip takes (in virtual time always; in real time too, when not 0).
    pub rtt_us: u64,
    /// Size of the drive.
    pub capacity_mib: u64,
}

impl Default for Profile {
    fn default() -> Profile {
        Profile::nfs4()
    }
}

impl Profile {
    /// A Linux NFSv4.2 client with default mount options, without delegations.
    #[must_use]
    pub fn nfs4() -> Profile {
        Profile {
            name: "nfs4".to_owned(),
            caches: true,
            attr_min_ms: 3_000,
            attr_max_ms: 60_000,
            dir_min_ms: 30_000,
            dir_max_ms: 60_000,
            local_locks: false,
            io_bytes: 1 << 20,
            writeback_ms: 30_000,
            rtt_us: 0,
            capacity_mib: 1024,
        }
    }

    /// Strict and coherent, as processes of one machine see a local disk.
    #[must_use]
    pub fn local() -> Profile {
        Profile { name: "local".to_owned(), caches: false, ..Profile::nfs4() }
    }

    /// A built-in profile.
    #[must_use]
    pub fn named(name: &str) -> Option<Profile> {
        match name {
            "nfs4" => Some(Profile::nfs4()),
            "local" => Some(Profile::local()),
            _ => None,
        }
    }
}
