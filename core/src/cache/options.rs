//! How a cache is opened, and the settings that are stored with it.

use crate::cache::companion::Companion;
use crate::chance::{Chance, OsChance};
use crate::error::{Error, ErrorKind, Result};
use crate::format::Codec;
use crate::format::wire::{Malformed, Reader, Writer};
use crate::mount;
use crate::sync::Arc;
use std::collections::BTreeMap;
use std::time::Duration;

/// What an acknowledgement promises on a local disk. (On a network drive it is always durable.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// Survives the death of any process; after a power loss the cache is a prefix of its history, never damaged.
    #[default]
    Process,
    /// Synced before it is acknowledged; threads that wait at once share one sync.
    Host,
}

/// Overrides what the drive looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProfileOverride {
    /// A local disk.
    Local,
    /// A network drive with a sound `link`.
    Shared,
}

/// How a cache is opened.
#[derive(Debug, Clone)]
pub struct Options {
    /// How long a call may wait before it fails (default 60 s). On a network drive opening has two seconds at least.
    pub timeout: Duration,
    /// What an acknowledgement promises on a local disk.
    pub durability: Durability,
    /// Reads may answer from what was replayed at most this long ago without looking at the drive (shared mode; default: exact).
    pub max_staleness: Option<Duration>,
    /// Takes the drive for something else than what it looks like. A cache that exists keeps its mode.
    pub profile: Option<ProfileOverride>,
    /// What drive it is, where the caller knows (default: what the kernel says).
    pub drive: Option<mount::Profile>,
    /// Never writes.
    pub read_only: bool,
    /// Settings to store with the cache (those not named keep what is stored, or the default).
    pub settings: Vec<(String, Setting)>,
    /// Entries that a process keeps in memory before one of them writes an index run (default 16,384).
    pub delta_entries_max: usize,
    /// Commits of a shared log behind the newest checkpoint before a process makes one (default 256): newcomers and those that were cut off
    /// read so many one by one.
    pub checkpoint_commits: u64,
    /// Commits of a shared log that are folded at a time (default 1024).
    pub fold_commits: u64,
    /// Bytes of a local log behind the newest checkpoint before a process makes one (default 32 MiB; at most a 32nd of `size_limit`): what
    /// opening replays at most, and what cannot be folded yet.
    pub tail_len_max: u64,
    /// Bytes of garbage that are not worth a fold, whatever lives (default 8 MiB: one segment of the log; at most a 64th of `size_limit`).
    pub garbage_len_min: u64,
    /// How long names that may still be read are kept on network drives (default 600 s).
    pub grace: Duration,
    /// How many threads read commits when many are to be caught up with (shared mode; default 8, 1: none but the caller's).
    pub readers: usize,
    /// Where random numbers come from (default: the system's).
    pub chance: Arc<dyn Chance>,
    /// Who keeps something beside values, and is told when they are gone.
    pub companion: Option<Arc<dyn Companion>>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(60),
            durability: Durability::Process,
            max_staleness: None,
            profile: None,
            drive: None,
            read_only: false,
            settings: Vec::new(),
            delta_entries_max: 16 << 10,
            checkpoint_commits: 256,
            fold_commits: 1024,
            tail_len_max: 32 << 20,
            garbage_len_min: 8 << 20,
            grace: Duration::from_secs(600),
            readers: 8,
            chance: Arc::new(OsChance),
            companion: None,
        }
    }
}

/// The value of a setting.
#[derive(Debug, Clone, PartialEq)]
pub enum Setting {
    /// Nothing.
    Null,
    /// A truth value.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A float.
    Float(f64),
    /// Text.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
}

impl Setting {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Null => out.put_u8(0),
            Self::Bool(b) => out.extend_from_slice(&[1, u8::from(*b)]),
            Self::Int(i) => {
                out.put_u8(2);
                out.put_u64(i.cast_unsigned());
            }
            Self::Float(f) => {
                out.put_u8(3);
                out.put_f64(*f);
            }
            Self::Text(text) => {
                out.put_u8(4);
                out.extend_from_slice(text.as_bytes());
            }
            Self::Bytes(bytes) => {
                out.put_u8(5);
                out.extend_from_slice(bytes);
            }
        }
        out
    }

    pub(crate) fn parse(bytes: &[u8]) -> std::result::Result<Self, Malformed> {
        let mut r = Reader::new(bytes);
        Ok(match r.u8()? {
            0 => Self::Null,
            1 => Self::Bool(r.u8()? != 0),
            2 => Self::Int(r.u64()?.cast_signed()),
            3 => Self::Float(r.f64()?),
            4 => Self::Text(String::from_utf8(bytes[1..].to_vec()).map_err(|_| Malformed::Field("setting"))?),
            5 => Self::Bytes(bytes[1..].to_vec()),
            _ => return Err(Malformed::Field("setting")),
        })
    }
}

/// How entries are chosen when the cache is over its size limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EvictionPolicy {
    /// None is.
    None,
    /// Those stored longest ago.
    #[default]
    LeastRecentlyStored,
    /// Those read longest ago.
    LeastRecentlyUsed,
    /// Those read least often.
    LeastFrequentlyUsed,
    /// Those that expire soonest.
    TimeToLive,
    /// Those of least worth by age, reads and time left.
    Combined,
    /// SIEVE: in insertion order, those not read since the hand last passed.
    Sieve,
}

impl EvictionPolicy {
    const NAMES: [(&'static str, Self); 7] = [
        ("none", Self::None),
        ("least-recently-stored", Self::LeastRecentlyStored),
        ("least-recently-used", Self::LeastRecentlyUsed),
        ("least-frequently-used", Self::LeastFrequentlyUsed),
        ("time-to-live", Self::TimeToLive),
        ("combined", Self::Combined),
        ("sieve", Self::Sieve),
    ];

    /// Returns the policy of a name.
    ///
    /// # Errors
    /// `Invalid`, with the names that exist.
    pub fn named(name: &str) -> Result<Self> {
        Self::NAMES.iter().find(|(n, _)| *n == name).map(|(_, policy)| *policy).ok_or_else(|| {
            let names: Vec<&str> = Self::NAMES.iter().map(|(n, _)| *n).collect();
            Error::new(ErrorKind::Invalid, format!("no eviction policy `{name}`; there are {}", names.join(", ")))
        })
    }

    /// Returns its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, policy)| *policy == self).map_or("none", |(name, _)| name)
    }

    /// Returns whether reads must be noted for it.
    #[must_use]
    pub const fn needs_accesses(self) -> bool {
        matches!(self, Self::LeastRecentlyUsed | Self::LeastFrequentlyUsed | Self::Combined | Self::Sieve)
    }
}

/// The settings that the engine itself obeys, decoded once.
#[derive(Debug, Clone, PartialEq)]
pub struct Tuning {
    /// Bytes that the cache may take on disk (`size_limit`, default 1 GiB).
    pub size_limit: u64,
    /// Entries that one write evicts at most (`cull_limit`, default 10; 0 for none). From 10 on a write of a large value evicts as many small ones
    /// as it takes the place of, and the thread beside the writes evicts as well.
    pub cull_limit: u64,
    /// How they are chosen (`eviction_policy`).
    pub policy: EvictionPolicy,
    /// Whether hits and misses are counted (`statistics`).
    pub statistics: bool,
    /// Values from this length on get a file of their own (`disk_min_file_size`).
    pub blob_len_min: u64,
    /// How values are compressed (`compression`).
    pub codec: Codec,
    /// How large garbage may be in relation to live bytes, in hundredths (`garbage_percent`, default 50).
    pub garbage_percent: u64,
}

/// `disk_min_file_size` where it is not set: below it a value is one append; above it copying values when segments are folded costs more
/// than a file does (see `benches`).
pub const BLOB_LEN_MIN_DEFAULT: u64 = 256 << 10;

/// `cull_limit` where it is not set. Who sets less wants no write to evict more.
const CULL_LIMIT_DEFAULT: u64 = 10;

impl Default for Tuning {
    fn default() -> Self {
        Self {
            size_limit: 1 << 30,
            cull_limit: CULL_LIMIT_DEFAULT,
            policy: EvictionPolicy::default(),
            statistics: false,
            blob_len_min: BLOB_LEN_MIN_DEFAULT,
            codec: Codec::None,
            garbage_percent: 50,
        }
    }
}

impl Tuning {
    /// Returns how many bytes of garbage may lie beside so many live ones: the set fraction of them, or `least` if that is more.
    pub(crate) fn garbage_max(&self, live: u64, least: u64) -> u64 {
        (live.saturating_mul(self.garbage_percent) / 100).max(least.min(self.size_limit / 64))
    }

    /// Returns whether eviction may go beyond `cull_limit` to keep the size limit.
    pub(crate) const fn evicts_freely(&self) -> bool {
        self.cull_limit >= CULL_LIMIT_DEFAULT
    }

    /// Decodes the settings that matter; one that makes no sense is taken for its default.
    pub(crate) fn of(settings: &BTreeMap<String, Setting>) -> Self {
        let mut tuning = Self::default();
        let number = |name: &str, default: u64| match settings.get(name) {
            Some(Setting::Int(i)) => u64::try_from(*i).unwrap_or(default),
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a limit: it saturates")]
            Some(Setting::Float(f)) if *f >= 0.0 => *f as u64,
            Some(Setting::Bool(b)) => u64::from(*b),
            _ => default,
        };
        tuning.size_limit = number("size_limit", tuning.size_limit);
        tuning.cull_limit = number("cull_limit", tuning.cull_limit);
        tuning.statistics = number("statistics", 0) != 0;
        tuning.blob_len_min = number("disk_min_file_size", tuning.blob_len_min).min(8 << 20);
        tuning.garbage_percent = number("garbage_percent", tuning.garbage_percent).clamp(5, 1000);
        if let Some(Setting::Text(name)) = settings.get("eviction_policy") {
            tuning.policy = EvictionPolicy::named(name).unwrap_or_default();
        }
        if let Some(Setting::Text(name)) = settings.get("compression") {
            tuning.codec = codec_named(name).unwrap_or(Codec::None);
        }
        tuning
    }

    /// Checks a setting before it is stored.
    pub(crate) fn check(name: &str, value: &Setting) -> Result<()> {
        match (name, value) {
            ("eviction_policy", Setting::Text(policy)) => EvictionPolicy::named(policy).map(drop),
            ("compression", Setting::Null) => Ok(()),
            ("compression", Setting::Text(codec)) => codec_named(codec).map(drop),
            ("size_limit" | "cull_limit" | "disk_min_file_size" | "garbage_percent", Setting::Int(i)) if *i < 0 => {
                Err(Error::new(ErrorKind::Invalid, format!("the setting `{name}` cannot be negative: {i}")))
            }
            ("eviction_policy" | "compression", other) => {
                Err(Error::new(ErrorKind::Invalid, format!("the setting `{name}` is a name, not {other:?}")))
            }
            _ => Ok(()),
        }
    }
}

fn codec_named(name: &str) -> Result<Codec> {
    match name {
        "none" => Ok(Codec::None),
        "lz4" => Ok(Codec::Lz4),
        "zstd" if cfg!(feature = "zstd") => Ok(Codec::Zstd),
        "zstd" => Err(Error::new(ErrorKind::Refused, "this build has no zstd (cargo feature `zstd`)")),
        _ => Err(Error::new(ErrorKind::Invalid, format!("no compression `{name}`; there are none, lz4, zstd"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_come_back_as_they_were_stored() {
        for setting in [
            Setting::Null,
            Setting::Bool(true),
            Setting::Int(-5),
            Setting::Float(1.5),
            Setting::Text("é".into()),
            Setting::Bytes(vec![0, 1]),
        ] {
            assert_eq!(Setting::parse(&setting.encode()), Ok(setting));
        }
        assert!(Setting::parse(b"").is_err() && Setting::parse(b"\x09").is_err());
    }

    #[test]
    fn every_policy_has_a_name_and_an_unknown_one_is_refused_with_the_list() {
        for (name, policy) in EvictionPolicy::NAMES {
            assert_eq!(EvictionPolicy::named(name).unwrap(), policy);
            assert_eq!(policy.name(), name);
        }
        assert!(EvictionPolicy::named("x").unwrap_err().to_string().contains("least-recently-used"));
        assert!(Tuning::check("size_limit", &Setting::Int(-1)).is_err());
    }
}
