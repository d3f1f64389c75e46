//! Frames and segment headers of a local log.
//!
//! ```text
//! segment := magic(8) version(u32) zero(u32) start(u64) capacity(u64) checkpoint(u64) seed-check(u64) sum(u64) zero(8) frames
//! frame   := len(u32) flags(u32) position(u64) previous(u64) sum(u64) [decided-on(u64), if flags bit 0] body
//! ```
//! `len` counts header and body, and the next frame starts at the next multiple of 8. `previous` is the `sum` of the frame before, so
//! that leftovers of a killed process never pass for what follows. `sum` is the XXH3-64 of the body's head, seeded with the XXH3-64
//! of the frame's other fields, which is seeded with the cache's seed; its highest bit is cleared. A frame with flags bit 1 seals a segment
//! (its sum has the highest bit set): the next frame is the first of the segment that starts right after it.

use super::body::head_sum;
use super::wire::{Malformed, Reader, Writer, checksum};
use super::{Body, BodyBuilder, FORMAT_VERSION};

/// Bytes of a frame before its body (without `decided-on`).
pub const FRAME_HEADER_LEN: usize = 32;
/// Bytes of a segment before its first frame.
pub const SEGMENT_HEADER_LEN: usize = 64;
const SEGMENT_MAGIC: &[u8; 8] = b"DCRSseg\n";
const DECIDED: u32 = 1;
const SEAL: u32 = 2;
const SEAL_BIT: u64 = 1 << 63;

/// Returns whether a checksum chain ends with a seal.
#[must_use]
#[inline]
pub const fn is_sealed(chain: u64) -> bool {
    chain & SEAL_BIT != 0
}

/// Returns the position after a frame of `len` bytes at `position`.
#[must_use]
#[inline]
pub const fn after(position: u64, len: usize) -> u64 {
    position + (len as u64).next_multiple_of(8)
}

/// What a segment says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentHeader {
    /// The position of its first frame.
    pub start: u64,
    /// Bytes for frames.
    pub capacity: u64,
    /// Position of the newest durable checkpoint when it was made (0: none).
    pub checkpoint: u64,
}

impl SegmentHeader {
    /// Encodes it.
    #[must_use]
    pub fn encode(&self, seed: u64) -> Vec<u8> {
        let mut out = Vec::with_capacity(SEGMENT_HEADER_LEN);
        out.extend_from_slice(SEGMENT_MAGIC);
        out.put_u32(FORMAT_VERSION);
        out.put_u32(0);
        for word in [self.start, self.capacity, self.checkpoint, checksum(b"segment", seed)] {
            out.put_u64(word);
        }
        let sum = checksum(&out, seed);
        out.put_u64(sum);
        out.put_u64(0);
        out
    }

    /// Reads it.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn parse(bytes: &[u8], seed: u64) -> Result<Self, Malformed> {
        let mut r = Reader::new(bytes);
        if r.take(8)? != SEGMENT_MAGIC {
            return Err(Malformed::Magic);
        }
        let version = r.u32()?;
        r.u32()?;
        let header = Self { start: r.u64()?, capacity: r.u64()?, checkpoint: r.u64()? };
        r.u64()?;
        let covered = r.position();
        if r.u64()? != checksum(&bytes[..covered], seed) {
            return Err(Malformed::Checksum);
        }
        if version == FORMAT_VERSION { Ok(header) } else { Err(Malformed::Version(version)) }
    }
}

/// A frame whose checksum was found right.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    /// Where it is.
    pub position: u64,
    /// The checksum of the frame before it.
    pub previous: u64,
    /// Its checksum.
    pub sum: u64,
    /// Its records, or `None` if it seals the segment.
    pub body: Option<Body<'a>>,
    /// See `log::Commit::decided_on`.
    pub decided_on: Option<u64>,
    /// Offset of the body from the frame's start.
    pub body_offset: usize,
    /// Its length, without padding.
    pub len: usize,
}

/// Returns how long the frame of `body` is, without padding.
#[must_use]
pub fn frame_len(body: &BodyBuilder, decided: bool) -> usize {
    FRAME_HEADER_LEN + if decided { 8 } else { 0 } + body.len()
}

fn header_of(len: usize, flags: u32, position: u64, previous: u64) -> [u8; 24] {
    let mut header = [0; 24];
    header[..4].copy_from_slice(&u32::try_from(len).expect("a frame is far shorter than 4 GiB").to_le_bytes());
    header[4..8].copy_from_slice(&flags.to_le_bytes());
    header[8..16].copy_from_slice(&position.to_le_bytes());
    header[16..].copy_from_slice(&previous.to_le_bytes());
    header
}

fn seed_of(header: &[u8], decided_on: Option<u64>, seed: u64) -> u64 {
    checksum(header, seed ^ decided_on.map_or(0, |d| d.wrapping_add(1)))
}

/// A frame's encoded header: what comes before the body.
#[derive(Debug, Clone, Copy)]
pub struct Header {
    bytes: [u8; FRAME_HEADER_LEN + 8],
    len: usize,
}

impl std::ops::Deref for Header {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// Returns a frame's header (with `decided-on`) and its checksum; the body's parts follow it.
#[must_use]
#[inline]
pub fn encode_header(body: &BodyBuilder, position: u64, previous: u64, decided_on: Option<u64>, seed: u64) -> (Header, u64) {
    let flags = if decided_on.is_some() { DECIDED } else { 0 };
    let fields = header_of(frame_len(body, decided_on.is_some()), flags, position, previous);
    let sum = body.head_sum(seed_of(&fields, decided_on, seed)) & !SEAL_BIT;
    let mut header = Header { bytes: [0; FRAME_HEADER_LEN + 8], len: FRAME_HEADER_LEN };
    header.bytes[..fields.len()].copy_from_slice(&fields);
    header.bytes[fields.len()..FRAME_HEADER_LEN].copy_from_slice(&sum.to_le_bytes());
    if let Some(position) = decided_on {
        header.bytes[FRAME_HEADER_LEN..].copy_from_slice(&position.to_le_bytes());
        header.len += 8;
    }
    (header, sum)
}

/// Returns the frame that seals a segment, and its checksum.
#[must_use]
pub fn encode_seal(position: u64, previous: u64, seed: u64) -> (Vec<u8>, u64) {
    let header = header_of(FRAME_HEADER_LEN, SEAL, position, previous);
    let sum = seed_of(&header, None, seed) | SEAL_BIT;
    let mut out = header.to_vec();
    out.put_u64(sum);
    (out, sum)
}

/// Returns the length that a frame at the start of `bytes` claims, or `None` if it cannot be one.
#[must_use]
#[inline]
pub fn claimed_len(bytes: &[u8]) -> Option<usize> {
    let len = Reader::new(bytes).u32().ok()? as usize;
    (FRAME_HEADER_LEN..=bytes.len()).contains(&len).then_some(len)
}

impl<'a> Frame<'a> {
    /// Reads the frame at the start of `bytes`, which must be at `position`.
    ///
    /// # Errors
    /// [`Malformed`] unless a writer of this cache wrote exactly this for this position.
    pub fn parse(bytes: &'a [u8], position: u64, seed: u64) -> Result<Self, Malformed> {
        let len = claimed_len(bytes).ok_or(Malformed::Short)?;
        let bytes = &bytes[..len];
        let mut r = Reader::new(bytes);
        r.u32()?;
        let flags = r.u32()?;
        if r.u64()? != position {
            return Err(Malformed::Field("position"));
        }
        let previous = r.u64()?;
        let sum = r.u64()?;
        let header = &bytes[..24];
        if flags & SEAL != 0 {
            if sum != seed_of(header, None, seed) | SEAL_BIT {
                return Err(Malformed::Checksum);
            }
            return Ok(Self { position, previous, sum, body: None, decided_on: None, body_offset: len, len });
        }
        let decided_on = if flags & DECIDED != 0 { Some(r.u64()?) } else { None };
        let body_offset = r.position();
        let body = &bytes[body_offset..];
        if sum != head_sum(body, seed_of(header, decided_on, seed))? & !SEAL_BIT {
            return Err(Malformed::Checksum);
        }
        Ok(Self { position, previous, sum, body: Some(Body::parse(body)?), decided_on, body_offset, len })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Record;

    #[test]
    fn a_frame_is_read_back_only_at_its_own_position_in_its_own_cache() {
        let mut body = BodyBuilder::default();
        body.push(&Record::Clear);
        for decided_on in [None, Some(640)] {
            let (header, sum) = encode_header(&body, 640, 7, decided_on, 9);
            let mut bytes = header.to_vec();
            body.write_to(&mut bytes);
            assert_eq!(bytes.len(), frame_len(&body, decided_on.is_some()));
            let frame = Frame::parse(&bytes, 640, 9).unwrap();
            assert_eq!((frame.sum, frame.previous, frame.decided_on, frame.len), (sum, 7, decided_on, bytes.len()));
            assert!(Frame::parse(&bytes, 648, 9).is_err() && Frame::parse(&bytes, 640, 8).is_err());
            for bit in 0..bytes.len() * 8 {
                let mut bad = bytes.clone();
                bad[bit / 8] ^= 1 << (bit % 8);
                assert!(Frame::parse(&bad, 640, 9).is_err(), "bit {bit} slipped through");
            }
        }
    }

    #[test]
    fn a_seal_and_a_segment_header_are_read_back_and_no_flipped_bit_passes() {
        let (seal, sum) = encode_seal(64, 3, 9);
        let frame = Frame::parse(&seal, 64, 9).unwrap();
        assert!(frame.body.is_none() && frame.sum == sum && frame.previous == 3);
        let header = SegmentHeader { start: 5, capacity: 6, checkpoint: 7 };
        let bytes = header.encode(9);
        assert_eq!(bytes.len(), SEGMENT_HEADER_LEN);
        assert_eq!(bytes[..12], *b"DCRSseg\n\x02\0\0\0", "format changed: raise FORMAT_VERSION");
        assert_eq!(SegmentHeader::parse(&bytes, 9), Ok(header));
        for bit in 0..(SEGMENT_HEADER_LEN - 8) * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(SegmentHeader::parse(&bad, 9).is_err(), "bit {bit} slipped through");
        }
    }
}
