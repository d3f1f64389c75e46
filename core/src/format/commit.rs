//! A commit file of the shared log: what one commit asked, complete before it gets its name and never changed after.
//!
//! ```text
//! commit := "DCRSCMT\n" version(u32) zero(u32) id(16) nonce(16) checkpoint(u64) decided_on(u64) body-len(u64)
//!           head-sum(u64) header-sum(u64) body
//! ```
//! `id` is that of the cache. `nonce` is random, a different one for every file ever staged: who finds it under a name knows whose
//! file won that name. `checkpoint` is the position of the newest checkpoint commit that the writer had replayed (0 if none).
//! `decided_on` is the only position at which the commit counts, or `u64::MAX` if it counts anywhere. `head-sum` is that of
//! [`head_sum`], `header-sum` covers the header before it; both are seeded with the cache's seed. The file ends where the body ends.
//! A commit does not know its own position: it is written before its place in the log is known.

use super::body::head_sum;
use super::marker::Marker;
use super::wire::{Malformed, Reader, Writer, checksum};
use super::{BODY_LEN_MAX, Body, BodyBuilder, FORMAT_VERSION};

const MAGIC: &[u8; 8] = b"DCRSCMT\n";
const ANYWHERE: u64 = u64::MAX;
/// Length of the header, and so the offset of the body in the file.
pub const COMMIT_HEADER_LEN: usize = 88;
const SUMMED_LEN: usize = COMMIT_HEADER_LEN - 8;

/// What a commit file says before its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommitHeader {
    /// Told apart from every other commit by this.
    pub nonce: u128,
    /// The position of the newest checkpoint commit that its writer knew, or 0.
    pub checkpoint: u64,
    /// The only position at which it counts, if there is one.
    pub decided_on: Option<u64>,
    /// Length of the body.
    pub body_len: usize,
    /// Checksum of the body's head.
    pub head_sum: u64,
}

/// What a commit says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommitTerms {
    /// See [`CommitHeader::nonce`].
    pub nonce: u128,
    /// See [`CommitHeader::checkpoint`].
    pub checkpoint: u64,
    /// See [`CommitHeader::decided_on`].
    pub decided_on: Option<u64>,
}

/// Encodes a whole commit file.
///
/// # Panics
/// If the body is longer than [`BODY_LEN_MAX`]: the log has checked it.
#[must_use]
pub fn encode_commit(marker: &Marker, terms: &CommitTerms, body: &BodyBuilder) -> Vec<u8> {
    assert!(body.len() <= BODY_LEN_MAX, "the log has checked the body's length");
    let mut bytes = Vec::with_capacity(COMMIT_HEADER_LEN + body.len());
    bytes.resize(COMMIT_HEADER_LEN, 0);
    body.write_to(&mut bytes);
    let sum = head_sum(&bytes[COMMIT_HEADER_LEN..], marker.seed()).expect("a built body has a head");
    let mut header = Vec::with_capacity(COMMIT_HEADER_LEN);
    header.extend_from_slice(MAGIC);
    header.put_u32(FORMAT_VERSION);
    header.put_u32(0);
    header.extend_from_slice(&marker.id.to_le_bytes());
    header.extend_from_slice(&terms.nonce.to_le_bytes());
    header.put_u64(terms.checkpoint);
    header.put_u64(terms.decided_on.unwrap_or(ANYWHERE));
    header.put_u64(body.len() as u64);
    header.put_u64(sum);
    let header_sum = checksum(&header, marker.seed());
    header.put_u64(header_sum);
    bytes[..COMMIT_HEADER_LEN].copy_from_slice(&header);
    bytes
}

/// Returns whether a header is one of this version whose version field alone was damaged.
fn is_patched(bytes: &[u8], seed: u64) -> bool {
    let Some((summed, rest)) = bytes.split_at_checked(SUMMED_LEN) else { return false };
    let mut summed = summed.to_vec();
    summed[MAGIC.len()..MAGIC.len() + 4].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
    Reader::new(rest).u64().is_ok_and(|sum| sum == checksum(&summed, seed))
}

impl CommitHeader {
    /// Reads the header at the start of `bytes` and checks it. Another version is told apart from damage.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn parse(bytes: &[u8], marker: &Marker) -> Result<Self, Malformed> {
        let mut r = Reader::new(bytes);
        if r.take(MAGIC.len())? != MAGIC {
            return Err(Malformed::Magic);
        }
        let version = r.u32()?;
        if version > FORMAT_VERSION && !is_patched(bytes, marker.seed()) {
            return Err(Malformed::Version(version));
        }
        let summed = bytes.get(..SUMMED_LEN).ok_or(Malformed::Short)?;
        if Reader::new(bytes.get(SUMMED_LEN..).ok_or(Malformed::Short)?).u64()? != checksum(summed, marker.seed()) {
            return Err(Malformed::Checksum);
        }
        if version != FORMAT_VERSION {
            return Err(Malformed::Version(version));
        }
        if r.u32()? != 0 {
            return Err(Malformed::Field("version"));
        }
        if take_u128(&mut r)? != marker.id {
            return Err(Malformed::Field("cache id"));
        }
        let nonce = take_u128(&mut r)?;
        let checkpoint = r.u64()?;
        let decided_on = Some(r.u64()?).filter(|&position| position != ANYWHERE);
        let body_len = usize::try_from(r.u64()?).ok().filter(|&len| len <= BODY_LEN_MAX).ok_or(Malformed::Field("body length"))?;
        Ok(Self { nonce, checkpoint, decided_on, body_len, head_sum: r.u64()? })
    }

    /// Returns the length of the whole file.
    #[must_use]
    pub const fn file_len(&self) -> usize {
        COMMIT_HEADER_LEN + self.body_len
    }
}

/// Reads a whole commit file and checks all but its values.
///
/// # Errors
/// [`Malformed`] if it is not exactly one commit of this cache.
pub fn parse_commit<'a>(bytes: &'a [u8], marker: &Marker) -> Result<(CommitHeader, Body<'a>), Malformed> {
    let header = CommitHeader::parse(bytes, marker)?;
    let body = bytes.get(COMMIT_HEADER_LEN..).filter(|body| body.len() == header.body_len).ok_or(Malformed::Short)?;
    if head_sum(body, marker.seed())? != header.head_sum {
        return Err(Malformed::Checksum);
    }
    Ok((header, Body::parse(body)?))
}

fn take_u128(r: &mut Reader<'_>) -> Result<u128, Malformed> {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(r.take(16)?);
    Ok(u128::from_le_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::marker::Mode;
    use crate::format::{KeyRef, Record};

    const MARKER: Marker = Marker { mode: Mode::Shared, id: 0x0102, created: 1.0 };
    const TERMS: CommitTerms = CommitTerms { nonce: 0xabcd, checkpoint: 7, decided_on: Some(9) };

    fn sample() -> Vec<u8> {
        let mut body = BodyBuilder::default();
        body.push(&Record::Delete { key: KeyRef::text("k"), now: 1.0 });
        encode_commit(&MARKER, &TERMS, &body)
    }

    #[test]
    fn a_commit_keeps_its_bytes() {
        let bytes = sample();
        let mut golden = Vec::new();
        golden.extend_from_slice(b"DCRSCMT\n\x02\0\0\0\0\0\0\0");
        golden.extend_from_slice(b"\x02\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
        golden.extend_from_slice(b"\xcd\xab\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
        golden.extend_from_slice(b"\x07\0\0\0\0\0\0\0\x09\0\0\0\0\0\0\0\x17\0\0\0\0\0\0\0");
        golden.extend_from_slice(&0xead7_22fe_28ec_9d72_u64.to_le_bytes());
        golden.extend_from_slice(&0xcd12_a687_b3f0_63a2_u64.to_le_bytes());
        golden.extend_from_slice(b"\x0f\0\0\0\x01\0\0\0\x06\x02\x01\0\0\0k\0\0\0\0\0\0\xf0\x3f");
        assert_eq!(bytes, golden, "format changed: raise FORMAT_VERSION");
    }

    #[test]
    fn a_commit_is_read_back_as_it_was_written() {
        let bytes = sample();
        let (header, body) = parse_commit(&bytes, &MARKER).unwrap();
        assert_eq!((header.nonce, header.checkpoint, header.decided_on), (TERMS.nonce, 7, Some(9)));
        assert_eq!(header.file_len(), bytes.len());
        assert_eq!(body.count(), 1);
        let anywhere = encode_commit(&MARKER, &CommitTerms { decided_on: None, ..TERMS }, &BodyBuilder::default());
        assert_eq!(parse_commit(&anywhere, &MARKER).unwrap().0.decided_on, None);
    }

    #[test]
    fn no_flipped_bit_no_other_length_and_no_other_cache_passes() {
        let bytes = sample();
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(parse_commit(&bad, &MARKER).is_err(), "bit {bit} slipped through");
        }
        for len in 0..bytes.len() {
            assert!(parse_commit(&bytes[..len], &MARKER).is_err(), "a prefix of {len} bytes passed");
        }
        let mut longer = bytes.clone();
        longer.push(0);
        assert!(parse_commit(&longer, &MARKER).is_err());
        assert!(parse_commit(&bytes, &Marker { id: 3, ..MARKER }).is_err());
        let mut newer = bytes;
        newer[8] = 3;
        assert_eq!(CommitHeader::parse(&newer, &MARKER), Err(Malformed::Checksum), "all but the version is of this one: damage");
        newer[12] = 1;
        assert_eq!(CommitHeader::parse(&newer, &MARKER), Err(Malformed::Version(3)));
    }
}
