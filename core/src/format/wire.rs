//! Reading little-endian fields out of untrusted bytes without a panic, and writing them.

use super::FORMAT_VERSION;
use crate::mutants::{self, Mutant};

/// Why bytes were refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Malformed {
    /// They end before the field does.
    Short,
    /// The checksum differs.
    Checksum,
    /// The magic number is not ours.
    Magic,
    /// A field has a value that no writer of this version writes.
    Field(&'static str),
    /// Another version wrote them.
    Version(u32),
}

/// Returns what to do about a cache that another format version wrote.
#[must_use]
pub fn advice_on(version: u32) -> String {
    if version > FORMAT_VERSION {
        format!("made by a newer version (format {version}; this one reads format {FORMAT_VERSION}); upgrade to open it")
    } else {
        format!("made by an earlier version (format {version}; this one reads format {FORMAT_VERSION}); remove it or choose another folder")
    }
}

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Short => f.write_str("bytes end too early"),
            Self::Checksum => f.write_str("checksum differs"),
            Self::Magic => f.write_str("not a file of this kind"),
            Self::Field(name) => write!(f, "field `{name}` has an impossible value"),
            Self::Version(v) => write!(f, "written by format version {v}"),
        }
    }
}

/// A cursor over untrusted bytes.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Starts at the first byte.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Returns how many bytes were taken.
    #[must_use]
    pub const fn position(&self) -> usize {
        self.at
    }

    /// Returns whether all were taken.
    #[must_use]
    pub const fn is_at_end(&self) -> bool {
        self.at >= self.bytes.len()
    }

    /// Takes `len` bytes.
    ///
    /// # Errors
    /// [`Malformed::Short`].
    #[inline]
    pub fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let end = self.at.checked_add(len).ok_or(Malformed::Short)?;
        let taken = self.bytes.get(self.at..end).ok_or(Malformed::Short)?;
        self.at = end;
        Ok(taken)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let rest = self.bytes.get(self.at..).ok_or(Malformed::Short)?;
        let out = rest.first_chunk::<N>().ok_or(Malformed::Short)?;
        self.at += N;
        Ok(*out)
    }

    /// Takes one byte.
    ///
    /// # Errors
    /// [`Malformed::Short`].
    #[inline]
    pub fn u8(&mut self) -> Result<u8, Malformed> {
        self.array::<1>().map(|[b]| b)
    }

    /// Takes a 16-bit integer.
    ///
    /// # Errors
    /// [`Malformed::Short`].
    #[inline]
    pub fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_le_bytes)
    }

    /// Takes a 32-bit integer.
    ///
    /// # Errors
    /// [`Malformed::Short`].
    #[inline]
    pub fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_le_bytes)
    }

    /// Takes a 64-bit integer.
    ///
    /// # Errors
    /// [`Malformed::Short`].
    #[inline]
    pub fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_le_bytes)
    }

    /// Takes a 64-bit float.
    ///
    /// # Errors
    /// [`Malformed::Short`].
    #[inline]
    pub fn f64(&mut self) -> Result<f64, Malformed> {
        self.u64().map(f64::from_bits)
    }
}

/// Appends fields to a growing buffer.
pub trait Writer {
    /// Appends one byte.
    fn put_u8(&mut self, value: u8);
    /// Appends a 16-bit integer.
    fn put_u16(&mut self, value: u16);
    /// Appends a 32-bit integer.
    fn put_u32(&mut self, value: u32);
    /// Appends a 64-bit integer.
    fn put_u64(&mut self, value: u64);
    /// Appends a 64-bit float.
    fn put_f64(&mut self, value: f64);
}

impl Writer for Vec<u8> {
    #[inline]
    fn put_u8(&mut self, value: u8) {
        self.push(value);
    }
    #[inline]
    fn put_u16(&mut self, value: u16) {
        self.extend_from_slice(&value.to_le_bytes());
    }
    #[inline]
    fn put_u32(&mut self, value: u32) {
        self.extend_from_slice(&value.to_le_bytes());
    }
    #[inline]
    fn put_u64(&mut self, value: u64) {
        self.extend_from_slice(&value.to_le_bytes());
    }
    #[inline]
    fn put_f64(&mut self, value: f64) {
        self.put_u64(value.to_bits());
    }
}

/// Checksums `bytes`, bound to `seed`.
#[must_use]
#[inline]
pub fn checksum(bytes: &[u8], seed: u64) -> u64 {
    twox_hash::XxHash3_64::oneshot_with_seed(seed, bytes)
}

/// Returns whether the bytes of a value are those that were stored.
#[must_use]
#[inline]
pub(crate) fn is_value(bytes: &[u8], seed: u64, sum: u64) -> bool {
    checksum(bytes, seed) == sum || mutants::is(Mutant::SkipChecksum)
}
