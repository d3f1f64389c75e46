//! Compression of values. Pure: bytes in, bytes out.
//!
//! A compressed value starts with its raw length (8 bytes, little-endian), which bounds what decompression may allocate.

#[cfg(feature = "typed")]
pub mod typed;

use crate::error::{Error, ErrorKind, Result};
use crate::format::Codec;
use std::borrow::Cow;

/// Values shorter than this are stored as they are: nothing would be won.
const COMPRESS_LEN_MIN: usize = 64;
const RAW_LEN: usize = 8;

/// Compresses `raw`, or returns it as it is if that would not make it shorter.
///
/// # Errors
/// `Refused` for a codec that this build does not have.
pub fn encode(codec: Codec, raw: &[u8]) -> Result<(Codec, Cow<'_, [u8]>)> {
    if raw.len() < COMPRESS_LEN_MIN {
        return Ok((Codec::None, Cow::Borrowed(raw)));
    }
    let mut out = (raw.len() as u64).to_le_bytes().to_vec();
    match codec {
        Codec::None => return Ok((Codec::None, Cow::Borrowed(raw))),
        Codec::Lz4 => out.extend_from_slice(&lz4_flex::block::compress(raw)),
        Codec::Zstd => out.extend_from_slice(&zstd_encode(raw)?),
    }
    if out.len() < raw.len() { Ok((codec, Cow::Owned(out))) } else { Ok((Codec::None, Cow::Borrowed(raw))) }
}

/// Returns how long the value is once decompressed.
///
/// # Errors
/// `Damaged` if the stored bytes are too short.
pub fn raw_len(codec: Codec, stored: &[u8]) -> Result<u64> {
    match codec {
        Codec::None => Ok(stored.len() as u64),
        _ => split(stored).map(|(len, _)| len),
    }
}

/// Decompresses.
///
/// # Errors
/// `Damaged` if the bytes are no compressed value, `Refused` for a codec that this build does not have.
pub fn decode(codec: Codec, stored: &[u8]) -> Result<Cow<'_, [u8]>> {
    match codec {
        Codec::None => Ok(Cow::Borrowed(stored)),
        Codec::Lz4 => {
            let (len, packed) = split(stored)?;
            // LZ4 cannot expand more than 255 times, so a longer claim is a lie and must not be allocated.
            let len = usize::try_from(len).ok().filter(|len| *len / 255 <= packed.len()).ok_or_else(|| damaged("raw length"))?;
            let raw = lz4_flex::block::decompress(packed, len).map_err(|e| damaged(&e.to_string()))?;
            if raw.len() == len { Ok(Cow::Owned(raw)) } else { Err(damaged("raw length")) }
        }
        Codec::Zstd => {
            let (len, packed) = split(stored)?;
            zstd_decode(packed, len).map(Cow::Owned)
        }
    }
}

fn split(stored: &[u8]) -> Result<(u64, &[u8])> {
    let (head, packed) = stored.split_first_chunk::<RAW_LEN>().ok_or_else(|| damaged("too short"))?;
    Ok((u64::from_le_bytes(*head), packed))
}

fn damaged(what: &str) -> Error {
    Error::new(ErrorKind::Damaged, format!("a compressed value is damaged: {what}"))
}

#[cfg(feature = "zstd")]
fn zstd_encode(raw: &[u8]) -> Result<Vec<u8>> {
    zstd::bulk::compress(raw, 3).map_err(|e| Error::new(ErrorKind::Io, "failed to compress a value").caused_by(e))
}

#[cfg(feature = "zstd")]
fn zstd_decode(packed: &[u8], len: u64) -> Result<Vec<u8>> {
    use std::io::Read;
    let mut raw = Vec::new();
    let decoder = zstd::Decoder::new(packed).map_err(|e| damaged(&e.to_string()))?;
    // Read no more than claimed plus one byte: a bomb is found without being unpacked.
    decoder.take(len.saturating_add(1)).read_to_end(&mut raw).map_err(|e| damaged(&e.to_string()))?;
    if raw.len() as u64 == len { Ok(raw) } else { Err(damaged("raw length")) }
}

#[cfg(not(feature = "zstd"))]
fn zstd_encode(_raw: &[u8]) -> Result<Vec<u8>> {
    Err(no_zstd())
}

#[cfg(not(feature = "zstd"))]
fn zstd_decode(_packed: &[u8], _len: u64) -> Result<Vec<u8>> {
    Err(no_zstd())
}

#[cfg(not(feature = "zstd"))]
fn no_zstd() -> Error {
    Error::new(ErrorKind::Refused, "this build has no zstd (cargo feature `zstd`)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_compressed_comes_back_and_no_prefix_or_false_length_does() {
        let raw = b"abcabcabcabc".repeat(100);
        let (codec, stored) = encode(Codec::Lz4, &raw).unwrap();
        assert_eq!(codec, Codec::Lz4);
        assert!(stored.len() < raw.len() / 4);
        assert_eq!(decode(codec, &stored).unwrap(), raw);
        assert_eq!(raw_len(codec, &stored).unwrap(), raw.len() as u64);
        for len in 0..stored.len() {
            assert!(decode(codec, &stored[..len]).is_err(), "{len}");
        }
        let mut bomb = stored.into_owned();
        bomb[..8].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(decode(codec, &bomb).is_err());
    }

    #[test]
    fn what_does_not_get_shorter_is_stored_as_it_is() {
        assert_eq!(encode(Codec::Lz4, b"short").unwrap().0, Codec::None);
        let noise: Vec<u8> = (0..250_u32).flat_map(|i| crate::format::wire::checksum(&i.to_le_bytes(), 0).to_le_bytes()).collect();
        assert_eq!(encode(Codec::Lz4, &noise).unwrap().0, Codec::None);
    }
}
