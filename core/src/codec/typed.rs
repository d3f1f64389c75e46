//! Typed values over serde: JSON (readable, from any language) and postcard (compact).
//!
//! There is no bincode: it is unmaintained (RUSTSEC-2025-0141).

use crate::error::{Error, ErrorKind, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// How typed values become bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// JSON text.
    Json,
    /// Postcard: a compact binary form whose types must be known to the reader.
    Postcard,
}

impl Encoding {
    /// Turns a value into bytes.
    ///
    /// # Errors
    /// `Invalid` if the value cannot be expressed.
    pub fn encode<T: Serialize>(self, value: &T) -> Result<Vec<u8>> {
        let failed = |e: &dyn std::fmt::Display| Error::new(ErrorKind::Invalid, format!("cannot encode the value: {e}"));
        match self {
            Self::Json => serde_json::to_vec(value).map_err(|e| failed(&e)),
            Self::Postcard => postcard::to_stdvec(value).map_err(|e| failed(&e)),
        }
    }

    /// Turns bytes into a value.
    ///
    /// # Errors
    /// `WrongType` if the bytes are none of this type.
    pub fn decode<T: DeserializeOwned>(self, bytes: &[u8]) -> Result<T> {
        let failed = |e: &dyn std::fmt::Display| Error::new(ErrorKind::WrongType, format!("the stored value is of another type: {e}"));
        match self {
            Self::Json => serde_json::from_slice(bytes).map_err(|e| failed(&e)),
            Self::Postcard => postcard::from_bytes(bytes).map_err(|e| failed(&e)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typed_values_come_back_and_other_types_are_refused() {
        let value = (7_u32, "text".to_owned(), vec![1.5_f64]);
        for encoding in [Encoding::Json, Encoding::Postcard] {
            let bytes = encoding.encode(&value).unwrap();
            assert_eq!(encoding.decode::<(u32, String, Vec<f64>)>(&bytes).unwrap(), value);
            let wrong = encoding.decode::<(String, String)>(&bytes[..2]);
            assert_eq!(wrong.unwrap_err().kind(), ErrorKind::WrongType);
        }
    }
}
