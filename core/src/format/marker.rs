//! `CACHE`, the file that says that a directory is a cache, of which format, which id and which mode. Written and linked once.
//!
//! ```text
//! marker := "DiskCacheRS\n" version(u32) mode(u8) zero(7) id(16) created(f64) sum(u64)
//! ```

use super::FORMAT_VERSION;
use super::wire::{Malformed, Reader, Writer, checksum};

const MAGIC: &[u8; 12] = b"DiskCacheRS\n";
/// Its length in bytes.
pub const MARKER_LEN: usize = 56;

/// How commits are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Mode {
    /// One kernel, a local disk: appended under a host-local lock.
    Local = 1,
    /// Several hosts: a file each, named by `link`.
    Shared = 2,
}

/// What `CACHE` says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Marker {
    /// How commits are made.
    pub mode: Mode,
    /// Random, and part of every checksum: another cache's bytes are never taken for this one's.
    pub id: u128,
    /// When it was made, in seconds since 1970.
    pub created: f64,
}

impl Marker {
    /// Returns the seed of this cache's checksums.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "both halves are used")]
    pub const fn seed(&self) -> u64 {
        (self.id as u64) ^ ((self.id >> 64) as u64)
    }

    /// Encodes it.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(MARKER_LEN);
        out.extend_from_slice(MAGIC);
        out.put_u32(FORMAT_VERSION);
        out.extend_from_slice(&[self.mode as u8, 0, 0, 0, 0, 0, 0, 0]);
        out.extend_from_slice(&self.id.to_le_bytes());
        out.put_f64(self.created);
        let sum = checksum(&out, 0);
        out.put_u64(sum);
        out
    }

    /// Reads it. Another version is told apart from damage, also when its length differs.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(bytes);
        if r.take(MAGIC.len())? != MAGIC {
            return Err(Malformed::Magic);
        }
        let version = r.u32()?;
        if version > FORMAT_VERSION {
            return Err(Malformed::Version(version));
        }
        let body = bytes.get(..MARKER_LEN - 8).ok_or(Malformed::Short)?;
        let mode = r.u8()?;
        r.take(7)?;
        let mut id = [0; 16];
        id.copy_from_slice(r.take(16)?);
        let created = r.f64()?;
        if r.u64()? != checksum(body, 0) {
            return Err(Malformed::Checksum);
        }
        if version != FORMAT_VERSION {
            return Err(Malformed::Version(version));
        }
        let mode = match mode {
            1 => Mode::Local,
            2 => Mode::Shared,
            _ => return Err(Malformed::Field("mode")),
        };
        Ok(Self { mode, id: u128::from_le_bytes(id), created })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_marker_keeps_its_bytes_and_another_version_is_told_apart() {
        let marker = Marker { mode: Mode::Shared, id: 5, created: 1.0 };
        let bytes = marker.encode();
        assert_eq!(bytes.len(), MARKER_LEN);
        assert_eq!(bytes[..17], *b"DiskCacheRS\n\x02\0\0\0\x02", "format changed: raise FORMAT_VERSION");
        assert_eq!(Marker::parse(&bytes), Ok(marker));
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Marker::parse(&bad).is_err(), "bit {bit} slipped through");
        }
        for other in [FORMAT_VERSION - 1, FORMAT_VERSION + 1] {
            let mut bytes = bytes.clone();
            bytes[12..16].copy_from_slice(&other.to_le_bytes());
            let sum = checksum(&bytes[..MARKER_LEN - 8], 0);
            bytes[MARKER_LEN - 8..].copy_from_slice(&sum.to_le_bytes());
            assert_eq!(Marker::parse(&bytes), Err(Malformed::Version(other)));
        }
        assert!(Marker::parse(b"").is_err());
    }
}
