//! Keys and tags: what makes two the same, and in which order they come.
//!
//! Identity and order are those of the SQLite columns of python-diskcache: numbers by value (`1` is `1.0`), then text by its
//! UTF-8 bytes, then bytes, where pickled ones come before plain ones of the same content. A number's *shape* (integer, float,
//! negative zero) is kept so that it can be given back as it came, but is no part of its identity.
//!
//! ```text
//! key    := class(u8) shape(u8) bytes
//! number := sortable-f64(8, big-endian) residual(2, big-endian, biased by 0x8000)
//! ```
//! The residual is the integer minus the nearest float, so all 64-bit integers are told apart; comparing the ten bytes compares the
//! numbers.

use super::wire::{Malformed, checksum};
use std::cmp::Ordering;

/// What kind of key it is; also the coarse order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum KeyClass {
    /// A 64-bit integer or a float.
    Number = 1,
    /// UTF-8 text.
    Text = 2,
    /// Bytes made by a serializer (a pickle).
    Opaque = 3,
    /// Plain bytes.
    Bytes = 4,
}

/// How a number was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum KeyShape {
    /// An integer, or no number at all.
    Plain = 0,
    /// A float.
    Float = 1,
    /// The float -0.0.
    NegativeZero = 2,
}

/// A borrowed key.
#[derive(Debug, Clone, Copy)]
pub struct KeyRef<'a> {
    /// Its kind.
    pub class: KeyClass,
    /// How it was given.
    pub shape: KeyShape,
    /// Its encoded bytes.
    pub bytes: &'a [u8],
}

/// An owned key.
#[derive(Debug, Clone)]
pub struct Key {
    /// Its kind.
    pub class: KeyClass,
    /// How it was given.
    pub shape: KeyShape,
    /// Its encoded bytes.
    pub bytes: Box<[u8]>,
}

/// A number key, encoded on the stack.
#[derive(Debug, Clone, Copy)]
pub struct NumberKey {
    shape: KeyShape,
    bytes: [u8; 10],
}

impl NumberKey {
    /// Encodes an integer.
    #[must_use]
    #[inline]
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "the residual holds what is lost: at most 512")]
    pub fn int(value: i64) -> Self {
        let nearest = value as f64;
        let residual = (i128::from(value) - nearest as i128) as i16;
        Self { shape: KeyShape::Plain, bytes: encode_number(nearest, residual) }
    }

    /// Encodes a float; NaN is equal to itself and above all others.
    #[must_use]
    #[inline]
    pub fn float(value: f64) -> Self {
        let shape = if value == 0.0 && value.is_sign_negative() { KeyShape::NegativeZero } else { KeyShape::Float };
        let value = if value == 0.0 {
            0.0
        } else if value.is_nan() {
            f64::NAN
        } else {
            value
        };
        Self { shape, bytes: encode_number(value, 0) }
    }

    /// Borrows it as a key.
    #[must_use]
    #[inline]
    pub const fn as_ref(&self) -> KeyRef<'_> {
        KeyRef { class: KeyClass::Number, shape: self.shape, bytes: &self.bytes }
    }
}

#[inline]
fn encode_number(value: f64, residual: i16) -> [u8; 10] {
    let bits = value.to_bits();
    let sortable = if bits >> 63 == 0 { bits | 1 << 63 } else { !bits };
    let biased = residual.cast_unsigned() ^ 0x8000;
    let mut out = [0; 10];
    for (i, byte) in out.iter_mut().enumerate() {
        *byte = if i < 8 { (sortable >> (56 - 8 * i)) as u8 } else { (biased >> (72 - 8 * i)) as u8 };
    }
    out
}

/// What a number key stands for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum NumberValue {
    /// It was given as an integer.
    Int(i64),
    /// It was given as a float.
    Float(f64),
}

impl<'a> KeyRef<'a> {
    /// A text key.
    #[must_use]
    #[inline]
    pub const fn text(text: &'a str) -> Self {
        Self { class: KeyClass::Text, shape: KeyShape::Plain, bytes: text.as_bytes() }
    }

    /// A key of plain bytes.
    #[must_use]
    #[inline]
    pub const fn bytes(bytes: &'a [u8]) -> Self {
        Self { class: KeyClass::Bytes, shape: KeyShape::Plain, bytes }
    }

    /// A key that a serializer made.
    #[must_use]
    #[inline]
    pub const fn opaque(bytes: &'a [u8]) -> Self {
        Self { class: KeyClass::Opaque, shape: KeyShape::Plain, bytes }
    }

    /// Returns the 64-bit hash that places it in the index.
    #[must_use]
    #[inline]
    pub fn hash(&self) -> u64 {
        checksum(self.bytes, self.class as u64)
    }

    /// Returns whether both are the same key (shape apart).
    #[must_use]
    #[inline]
    pub fn same(&self, other: &KeyRef<'_>) -> bool {
        self.class as u8 == other.class as u8 && self.bytes == other.bytes
    }

    /// Compares in key order.
    #[must_use]
    pub fn order(&self, other: &KeyRef<'_>) -> Ordering {
        (self.rank(), self.bytes, self.class as u8).cmp(&(other.rank(), other.bytes, other.class as u8))
    }

    const fn rank(&self) -> u8 {
        match self.class {
            KeyClass::Number => 0,
            KeyClass::Text => 1,
            KeyClass::Opaque | KeyClass::Bytes => 2,
        }
    }

    /// Copies it.
    #[must_use]
    pub fn to_owned(&self) -> Key {
        Key { class: self.class, shape: self.shape, bytes: self.bytes.into() }
    }

    /// Returns the number that it stands for, if it is one.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "only integers that fitted were encoded as such")]
    pub fn number(&self) -> Option<NumberValue> {
        if self.class != KeyClass::Number || self.bytes.len() != 10 {
            return None;
        }
        let sortable = self.bytes[..8].iter().fold(0_u64, |acc, b| acc << 8 | u64::from(*b));
        let bits = if sortable >> 63 == 1 { sortable & !(1 << 63) } else { !sortable };
        let residual = ((u16::from(self.bytes[8]) << 8 | u16::from(self.bytes[9])) ^ 0x8000).cast_signed();
        Some(match self.shape {
            KeyShape::Plain => NumberValue::Int((f64::from_bits(bits) as i128 + i128::from(residual)) as i64),
            KeyShape::Float => NumberValue::Float(f64::from_bits(bits)),
            KeyShape::NegativeZero => NumberValue::Float(-0.0),
        })
    }

    /// Returns the class and shape as one byte for the disk.
    #[must_use]
    #[inline]
    pub const fn tag_byte(&self) -> u8 {
        self.class as u8 | (self.shape as u8) << 4
    }

    /// Reads what [`Self::tag_byte`] wrote.
    ///
    /// # Errors
    /// [`Malformed::Field`] for a class or shape that does not exist.
    #[inline]
    pub const fn from_tag_byte(tag: u8, bytes: &'a [u8]) -> Result<Self, Malformed> {
        let class = match tag & 15 {
            1 => KeyClass::Number,
            2 => KeyClass::Text,
            3 => KeyClass::Opaque,
            4 => KeyClass::Bytes,
            _ => return Err(Malformed::Field("key class")),
        };
        let shape = match tag >> 4 {
            0 => KeyShape::Plain,
            1 => KeyShape::Float,
            2 => KeyShape::NegativeZero,
            _ => return Err(Malformed::Field("key shape")),
        };
        Ok(Self { class, shape, bytes })
    }
}

impl Key {
    /// Borrows it.
    #[must_use]
    #[inline]
    pub fn as_ref(&self) -> KeyRef<'_> {
        KeyRef { class: self.class, shape: self.shape, bytes: &self.bytes }
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.as_ref().same(&other.as_ref())
    }
}

impl Eq for Key {}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_ref().order(&other.as_ref())
    }
}

impl std::hash::Hash for Key {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        state.write_u64(self.as_ref().hash());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_numbers_are_one_key_and_text_is_none_of_them() {
        assert!(NumberKey::int(1).as_ref().same(&NumberKey::float(1.0).as_ref()));
        assert!(NumberKey::float(0.0).as_ref().same(&NumberKey::float(-0.0).as_ref()));
        assert!(!NumberKey::int(1).as_ref().same(&KeyRef::text("1")));
        assert!(!KeyRef::bytes(b"a").same(&KeyRef::text("a")));
        assert!(!KeyRef::bytes(b"a").same(&KeyRef::opaque(b"a")));
    }

    #[test]
    fn integers_and_floats_come_in_numeric_order_and_are_given_back_as_they_came() {
        let big = 1_i64 << 53;
        let ints = [i64::MIN, i64::MIN + 1, -big - 1, -big, -1, 0, 1, 255, 256, big, big + 1, big + 2, i64::MAX - 1, i64::MAX];
        for pair in ints.windows(2) {
            assert_eq!(NumberKey::int(pair[0]).as_ref().order(&NumberKey::int(pair[1]).as_ref()), Ordering::Less, "{pair:?}");
        }
        for i in ints {
            assert_eq!(NumberKey::int(i).as_ref().number(), Some(NumberValue::Int(i)));
        }
        for f in [f64::NEG_INFINITY, -1.5, -0.0, 0.0, 2.25, 1e300, f64::INFINITY] {
            let back = NumberKey::float(f);
            let Some(NumberValue::Float(g)) = back.as_ref().number() else { panic!("{f} came back as no float") };
            assert_eq!(f.to_bits(), g.to_bits());
        }
        let half = NumberKey::float(0.5);
        assert_eq!(NumberKey::int(0).as_ref().order(&half.as_ref()), Ordering::Less);
        assert_eq!(NumberKey::int(1).as_ref().order(&half.as_ref()), Ordering::Greater);
        assert_eq!(NumberKey::int(big + 1).as_ref().order(&NumberKey::float(9_007_199_254_740_992.0).as_ref()), Ordering::Greater);
    }

    #[test]
    fn classes_come_in_the_order_numbers_text_bytes_with_pickles_first() {
        let number = NumberKey::int(5);
        let order =
            [number.as_ref(), KeyRef::text("a"), KeyRef::text("b"), KeyRef::opaque(b"a"), KeyRef::bytes(b"a"), KeyRef::opaque(b"a\0")];
        for pair in order.windows(2) {
            assert_eq!(pair[0].order(&pair[1]), Ordering::Less, "{pair:?}");
        }
    }
}
