//! Records' lists of keys: packed, so that a commit's bytes are borrowed and nothing is allocated in replay.

use super::fields::{put_key, put_len, take_key};
use crate::format::KeyRef;
use crate::format::wire::{Malformed, Reader, Writer};

macro_rules! packed_list {
    ($name:ident, $doc:literal, $item:ty, $parse:expr) => {
        #[doc = $doc]
        #[derive(Debug, Clone, Copy)]
        pub struct $name<'a> {
            bytes: &'a [u8],
            count: u32,
        }

        impl<'a> $name<'a> {
            /// Returns how many there are.
            #[must_use]
            pub const fn len(&self) -> usize {
                self.count as usize
            }

            /// Returns whether there are none.
            #[must_use]
            pub const fn is_empty(&self) -> bool {
                self.count == 0
            }

            /// Walks them.
            pub fn iter(&self) -> impl Iterator<Item = $item> + 'a {
                let mut reader = Reader::new(self.bytes);
                let parse = $parse;
                (0..self.count).map_while(move |_| parse(&mut reader).ok())
            }

            pub(super) fn parse(r: &mut Reader<'a>) -> Result<Self, Malformed> {
                let (count, len) = (r.u32()?, r.u32()? as usize);
                let list = Self { bytes: r.take(len)?, count };
                let mut inner = Reader::new(list.bytes);
                let parse = $parse;
                for _ in 0..count {
                    parse(&mut inner)?;
                }
                if inner.is_at_end() { Ok(list) } else { Err(Malformed::Field("list")) }
            }

            pub(super) fn put(&self, out: &mut Vec<u8>) {
                out.put_u32(self.count);
                put_len(out, self.bytes.len());
                out.extend_from_slice(self.bytes);
            }
        }
    };
}

packed_list!(Versions, "Keys with the version that each was chosen by: `key version(u64)` each.", (KeyRef<'a>, u64), |r: &mut Reader<
    'a,
>| {
    Ok::<_, Malformed>((take_key(r)?, r.u64()?))
});
packed_list!(Accesses, "Keys with how often (u32) and when last (f64) each was read.", (KeyRef<'a>, u32, f64), |r: &mut Reader<'a>| {
    Ok::<_, Malformed>((take_key(r)?, r.u32()?, r.f64()?))
});

/// Collects what a [`Versions`] list borrows.
#[derive(Debug, Clone, Default)]
pub struct VersionsBuilder {
    bytes: Vec<u8>,
    count: u32,
}

impl VersionsBuilder {
    /// Returns how many bytes it takes in a record.
    #[must_use]
    pub const fn bytes_len(&self) -> usize {
        self.bytes.len()
    }

    /// Adds one.
    pub fn push(&mut self, key: KeyRef<'_>, version: u64) {
        put_key(&mut self.bytes, key);
        self.bytes.put_u64(version);
        self.count += 1;
    }

    /// Borrows the list.
    #[must_use]
    pub fn list(&self) -> Versions<'_> {
        Versions { bytes: &self.bytes, count: self.count }
    }
}

/// Collects what an [`Accesses`] list borrows.
#[derive(Debug, Clone, Default)]
pub struct AccessesBuilder {
    bytes: Vec<u8>,
    count: u32,
}

impl AccessesBuilder {
    /// Returns how many bytes it takes in a record.
    #[must_use]
    pub const fn bytes_len(&self) -> usize {
        self.bytes.len()
    }

    /// Adds one.
    pub fn push(&mut self, key: KeyRef<'_>, count: u32, last: f64) {
        put_key(&mut self.bytes, key);
        self.bytes.put_u32(count);
        self.bytes.put_f64(last);
        self.count += 1;
    }

    /// Borrows the list.
    #[must_use]
    pub fn list(&self) -> Accesses<'_> {
        Accesses { bytes: &self.bytes, count: self.count }
    }
}
