//! Bytes of a value: a slice of a mapped segment or of memory, kept alive by a count.

use crate::vfs::Map;
use std::ops::Deref;
use std::sync::Arc;

/// Shared, immutable bytes.
#[derive(Debug, Clone)]
pub struct Bytes(Inner);

#[derive(Debug, Clone)]
enum Inner {
    Mapped { map: Arc<Map>, offset: usize, len: usize },
    Heap { bytes: Arc<[u8]>, offset: usize, len: usize },
}

impl Bytes {
    /// A slice of a mapping, or `None` if it is not all mapped.
    #[must_use]
    pub fn mapped(map: &Arc<Map>, offset: usize, len: usize) -> Option<Self> {
        map.bytes(offset, len)?;
        Some(Self(Inner::Mapped { map: Arc::clone(map), offset, len }))
    }

    /// A slice of shared memory, or `None` if it is out of range.
    #[must_use]
    pub fn part(bytes: &Arc<[u8]>, offset: usize, len: usize) -> Option<Self> {
        bytes.get(offset..offset.checked_add(len)?)?;
        Some(Self(Inner::Heap { bytes: Arc::clone(bytes), offset, len }))
    }
}

impl From<&[u8]> for Bytes {
    fn from(bytes: &[u8]) -> Self {
        Self(Inner::Heap { bytes: bytes.into(), offset: 0, len: bytes.len() })
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        let len = bytes.len();
        Self(Inner::Heap { bytes: bytes.into(), offset: 0, len })
    }
}

impl Deref for Bytes {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match &self.0 {
            Inner::Mapped { map, offset, len } => map.bytes(*offset, *len).unwrap_or(&[]),
            Inner::Heap { bytes, offset, len } => bytes.get(*offset..offset + len).unwrap_or(&[]),
        }
    }
}
