//! Values as callers give and get them.

use crate::blob::{BlobReader, Blobs};
use crate::codec;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Codec, Key, KeyRef, Number, ValueKind, ValueMeta};
use crate::index::Row;
use crate::log::Bytes;
use std::borrow::Cow;
use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::path::Path;

/// A stored value: checked bytes, a number, or a file to read from.
#[derive(Debug, Clone)]
pub struct Value {
    meta: ValueMeta,
    data: Data,
}

#[derive(Debug, Clone)]
enum Data {
    Inline,
    Bytes(Bytes),
    Blob(BlobReader),
}

impl Value {
    pub(crate) const fn inline(meta: ValueMeta) -> Self {
        Self { meta, data: Data::Inline }
    }

    /// Wraps stored bytes whose checksum was found right.
    pub(crate) const fn checked(meta: ValueMeta, bytes: Bytes) -> Self {
        Self { meta, data: Data::Bytes(bytes) }
    }

    /// Copies a value whose bytes are kept in memory, where they were checked.
    pub(crate) fn kept(row: Row<'_>) -> Option<Self> {
        let (_, bytes) = row.value()?;
        Some(Self { meta: row.as_ref().entry.value, data: Data::Bytes(Bytes::from(bytes)) })
    }

    /// Returns the stored bytes, if they are in memory.
    pub(crate) fn in_memory(&self) -> Option<&[u8]> {
        match &self.data {
            Data::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    pub(crate) fn blob(meta: ValueMeta, blobs: &Blobs, id: u64) -> Result<Self> {
        Ok(Self { meta, data: Data::Blob(blobs.open(id, meta.len, meta.sum)?) })
    }

    /// Returns the stored bytes of a value in the log.
    pub(crate) fn stored(self) -> Option<Bytes> {
        match self.data {
            Data::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// Returns what the bytes mean.
    #[must_use]
    #[inline]
    pub const fn kind(&self) -> ValueKind {
        self.meta.kind
    }

    /// Returns the number, if it is one.
    #[must_use]
    #[inline]
    pub const fn as_number(&self) -> Option<Number> {
        self.meta.as_number()
    }

    /// Returns the bits of an inline value (a number or a truth value), if it is one.
    #[must_use]
    #[inline]
    pub const fn bits(&self) -> Option<u64> {
        match self.meta.place {
            crate::format::Place::Inline(bits) => Some(bits),
            _ => None,
        }
    }

    /// Returns how many bytes the value has once decompressed.
    ///
    /// # Errors
    /// `Damaged`, `Io`.
    #[inline]
    pub fn len(&self) -> Result<u64> {
        match (&self.data, self.meta.codec) {
            (Data::Inline, _) => Ok(0),
            (Data::Bytes(bytes), codec) => codec::raw_len(codec, bytes),
            (Data::Blob(blob), Codec::None) => Ok(blob.len()),
            (Data::Blob(_), _) => self.bytes().map(|b| b.len() as u64),
        }
    }

    /// Returns whether it has no bytes.
    ///
    /// # Errors
    /// As [`Self::len`].
    pub fn is_empty(&self) -> Result<bool> {
        self.len().map(|len| len == 0)
    }

    /// Returns whether reading it needs no file: [`Self::bytes`] then does no I/O.
    #[must_use]
    #[inline]
    pub const fn is_in_memory(&self) -> bool {
        !matches!(self.data, Data::Blob(_))
    }

    /// Returns the file that holds exactly this value's bytes, and their length, if there is one: a large value that is not compressed.
    #[must_use]
    pub fn file(&self) -> Option<(&Path, u64)> {
        match (&self.data, self.meta.codec) {
            (Data::Blob(blob), Codec::None) => Some((blob.path(), blob.len())),
            _ => None,
        }
    }

    /// Returns the decompressed bytes.
    ///
    /// # Errors
    /// `Damaged` if they are not what was stored, `Io`.
    #[inline]
    pub fn bytes(&self) -> Result<Cow<'_, [u8]>> {
        match &self.data {
            Data::Inline => Ok(Cow::Borrowed(&[])),
            Data::Bytes(bytes) => codec::decode(self.meta.codec, bytes),
            Data::Blob(blob) => {
                let len = usize::try_from(blob.len()).map_err(|_| Error::new(ErrorKind::Invalid, "the value does not fit into memory"))?;
                let mut stored = vec![0; len];
                blob.read_whole(&mut stored)?;
                Ok(match self.meta.codec {
                    Codec::None => Cow::Owned(stored),
                    codec => Cow::Owned(codec::decode(codec, &stored)?.into_owned()),
                })
            }
        }
    }

    /// Reads an uncompressed value of a file into `buf`, which must have its length; saves one copy over [`Self::bytes`].
    /// Returns whether it did.
    ///
    /// # Errors
    /// As [`Self::bytes`].
    pub fn read_blob_into(&self, buf: &mut [u8]) -> Result<bool> {
        match (&self.data, self.meta.codec) {
            (Data::Blob(blob), Codec::None) if blob.len() == buf.len() as u64 => blob.read_whole(buf).map(|()| true),
            _ => Ok(false),
        }
    }

    /// Returns a reader of the decompressed bytes; a large value is not held in memory.
    ///
    /// # Errors
    /// As [`Self::bytes`].
    pub fn reader(&self) -> Result<ValueReader> {
        match (&self.data, self.meta.codec) {
            (Data::Blob(blob), Codec::None) => Ok(ValueReader(Reader::Blob(blob.clone()))),
            _ => Ok(ValueReader(Reader::Memory(Cursor::new(self.bytes()?.into_owned())))),
        }
    }
}

/// Reads a value like a file.
#[derive(Debug)]
pub struct ValueReader(Reader);

#[derive(Debug)]
enum Reader {
    Memory(Cursor<Vec<u8>>),
    Blob(BlobReader),
}

impl Read for ValueReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match &mut self.0 {
            Reader::Memory(r) => r.read(buf),
            Reader::Blob(r) => r.read(buf),
        }
    }
}

impl Seek for ValueReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        match &mut self.0 {
            Reader::Memory(r) => r.seek(to),
            Reader::Blob(r) => r.seek(to),
        }
    }
}

/// A found entry.
#[derive(Debug, Clone)]
pub struct Hit {
    /// Its key.
    pub key: Key,
    /// Its value.
    pub value: Value,
    /// When it expires, in seconds since 1970.
    pub expire: Option<f64>,
    /// Its tag.
    pub tag: Option<Key>,
}

/// Where a value to be stored comes from.
pub enum PutData<'a> {
    /// Bytes.
    Bytes(&'a [u8]),
    /// An inline value: the bits of an `Int`, `Float`, `Bool`, or 0 for `Null`.
    Bits(u64),
    /// A stream; it is not held in memory.
    Reader(&'a mut dyn Read),
}

impl std::fmt::Debug for PutData<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Bytes(bytes) => write!(f, "Bytes({})", bytes.len()),
            Self::Bits(bits) => write!(f, "Bits({bits})"),
            Self::Reader(_) => f.write_str("Reader"),
        }
    }
}

/// A value to be stored.
#[derive(Debug)]
pub struct Put<'a> {
    /// What it means.
    pub kind: ValueKind,
    /// Where it comes from.
    pub data: PutData<'a>,
    /// Seconds from now until it expires.
    pub expire: Option<f64>,
    /// Its tag.
    pub tag: Option<KeyRef<'a>>,
}

impl<'a> Put<'a> {
    /// Plain bytes that never expire.
    #[must_use]
    pub const fn bytes(bytes: &'a [u8]) -> Self {
        Self { kind: ValueKind::Bytes, data: PutData::Bytes(bytes), expire: None, tag: None }
    }

    /// Text that never expires.
    #[must_use]
    pub const fn text(text: &'a str) -> Self {
        Self { kind: ValueKind::Text, data: PutData::Bytes(text.as_bytes()), expire: None, tag: None }
    }

    /// A number that never expires.
    #[must_use]
    pub const fn number(number: Number) -> Self {
        let meta = ValueMeta::number(number);
        let bits = match number {
            Number::Int(i) => i.cast_unsigned(),
            Number::Float(f) => f.to_bits(),
        };
        Self { kind: meta.kind, data: PutData::Bits(bits), expire: None, tag: None }
    }

    /// Lets it expire `seconds` from now.
    #[must_use]
    pub const fn expiring(mut self, seconds: f64) -> Self {
        self.expire = Some(seconds);
        self
    }

    /// Gives it a tag.
    #[must_use]
    pub const fn tagged(mut self, tag: KeyRef<'a>) -> Self {
        self.tag = Some(tag);
        self
    }
}
