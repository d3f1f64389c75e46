//! What a stored value is and where it lies.

use super::wire::{Malformed, Reader, Writer};

/// What the stored bytes mean to the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ValueKind {
    /// Plain bytes.
    Bytes = 1,
    /// UTF-8 text.
    Text = 2,
    /// A 64-bit integer.
    Int = 3,
    /// A float.
    Float = 4,
    /// Nothing (`None`).
    Null = 5,
    /// A truth value.
    Bool = 6,
    /// Bytes made by a serializer (a pickle).
    Opaque = 7,
    /// Bytes in a form that only the application knows (1).
    Custom1 = 8,
    /// Bytes in a form that only the application knows (2).
    Custom2 = 9,
}

impl ValueKind {
    const fn parse(byte: u8) -> Result<Self, Malformed> {
        Ok(match byte {
            1 => Self::Bytes,
            2 => Self::Text,
            3 => Self::Int,
            4 => Self::Float,
            5 => Self::Null,
            6 => Self::Bool,
            7 => Self::Opaque,
            8 => Self::Custom1,
            9 => Self::Custom2,
            _ => return Err(Malformed::Field("value kind")),
        })
    }
}

/// How the stored bytes are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Codec {
    /// Not at all.
    None = 0,
    /// LZ4 block, after the raw length (8 bytes).
    Lz4 = 1,
    /// Zstandard frame, after the raw length (8 bytes).
    Zstd = 2,
}

impl Codec {
    const fn parse(byte: u8) -> Result<Self, Malformed> {
        Ok(match byte {
            0 => Self::None,
            1 => Self::Lz4,
            2 => Self::Zstd,
            _ => return Err(Malformed::Field("codec")),
        })
    }
}

/// No value is longer than this.
const LEN_MAX: u64 = 1 << 48;

/// Where the stored bytes lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Place {
    /// Here: the bits of an integer, a float or a truth value.
    Inline(u64),
    /// In the log, at the entry's address.
    Log,
    /// In a file of its own, `blob/<id>`.
    Blob(u64),
}

/// A number that can be counted with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Number {
    /// An integer.
    Int(i64),
    /// A float.
    Float(f64),
}

/// Everything about a stored value but its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ValueMeta {
    /// What the bytes mean.
    pub kind: ValueKind,
    /// How they are compressed.
    pub codec: Codec,
    /// Where they lie.
    pub place: Place,
    /// How many bytes are stored (0 for inline values).
    pub len: u64,
    /// Checksum of the stored bytes, seeded with the cache's seed (0 for inline values).
    pub sum: u64,
}

impl ValueMeta {
    /// A number, stored inline.
    #[must_use]
    #[inline]
    pub const fn number(number: Number) -> Self {
        let (kind, bits) = match number {
            Number::Int(i) => (ValueKind::Int, i.cast_unsigned()),
            Number::Float(f) => (ValueKind::Float, f.to_bits()),
        };
        Self::inline(kind, bits)
    }

    /// A value that is stored in the index itself.
    #[must_use]
    #[inline]
    pub const fn inline(kind: ValueKind, bits: u64) -> Self {
        Self { kind, codec: Codec::None, place: Place::Inline(bits), len: 0, sum: 0 }
    }

    /// Returns the number, if it is one.
    #[must_use]
    #[inline]
    pub const fn as_number(&self) -> Option<Number> {
        match (self.kind, self.place) {
            (ValueKind::Int, Place::Inline(bits)) => Some(Number::Int(bits.cast_signed())),
            (ValueKind::Float, Place::Inline(bits)) => Some(Number::Float(f64::from_bits(bits))),
            _ => None,
        }
    }

    /// Bytes that [`Self::put`] writes.
    pub const ENCODED_LEN: usize = 27;

    /// Appends it: kind, codec, place (1 byte each), bits, len, sum (8 bytes each).
    #[inline]
    pub fn put(&self, out: &mut Vec<u8>) {
        let (place, bits) = match self.place {
            Place::Inline(bits) => (0, bits),
            Place::Log => (1, 0),
            Place::Blob(id) => (2, id),
        };
        out.extend_from_slice(&[self.kind as u8, self.codec as u8, place]);
        out.put_u64(bits);
        out.put_u64(self.len);
        out.put_u64(self.sum);
    }

    /// Reads what [`Self::put`] wrote.
    ///
    /// # Errors
    /// [`Malformed`] for bytes that no writer writes.
    #[inline]
    pub fn parse(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let kind = ValueKind::parse(reader.u8()?)?;
        let codec = Codec::parse(reader.u8()?)?;
        let place = reader.u8()?;
        let bits = reader.u64()?;
        let place = match place {
            0 => Place::Inline(bits),
            1 => Place::Log,
            2 => Place::Blob(bits),
            _ => return Err(Malformed::Field("place")),
        };
        let (len, sum) = (reader.u64()?, reader.u64()?);
        if len > LEN_MAX || (matches!(place, Place::Inline(_)) && len != 0) {
            return Err(Malformed::Field("value length"));
        }
        Ok(Self { kind, codec, place, len, sum })
    }
}
