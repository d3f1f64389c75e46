//! Addresses: what names a byte of a commit for ever, also after the commit was folded.
//!
//! In a local log an address is the byte's offset in the log. In a shared one it is `number << 24 | code`. The code of a byte of a commit's
//! file is its offset, as far as the values of a body lie one right after the other (8 MiB); behind that they lie in slots of 32 bytes, and
//! the codes count slots. Addresses ascend with the bytes that they name.

use crate::format::{BODY_LEN_MAX, COMMIT_HEADER_LEN, PLAIN_BODY_LEN_MAX, SLOT_LEN};

/// Bits of an address that a shared commit's codes take.
pub const ADDR_OFFSET_BITS: u32 = 24;
/// Offsets in a commit's file up to this one are their own codes.
const EXACT: u64 = (COMMIT_HEADER_LEN + PLAIN_BODY_LEN_MAX) as u64;
const CODE_MASK: u64 = (1 << ADDR_OFFSET_BITS) - 1;

const _: () = assert!(
    EXACT + ((BODY_LEN_MAX - PLAIN_BODY_LEN_MAX) / SLOT_LEN) as u64 <= CODE_MASK && PLAIN_BODY_LEN_MAX.is_multiple_of(SLOT_LEN),
    "every value of a commit file has an address"
);

/// Where the body of a commit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyAt {
    /// In a local log, from this position on.
    Local(u64),
    /// In the file of a shared log's commit of this number.
    Shared(u64),
}

impl BodyAt {
    /// Returns the address of what lies `offset` bytes behind the body's start.
    #[must_use]
    #[inline]
    pub const fn address(self, offset: usize) -> u64 {
        match self {
            Self::Local(position) => position + offset as u64,
            Self::Shared(number) => {
                let offset = (COMMIT_HEADER_LEN + offset) as u64;
                let code = if offset <= EXACT { offset } else { EXACT + (offset - EXACT) / SLOT_LEN as u64 };
                number << ADDR_OFFSET_BITS | code
            }
        }
    }
}

/// Returns the commit's number and the offset in its file that an address of a shared log stands for.
#[must_use]
pub(super) const fn place_in_file(address: u64) -> (u64, u64) {
    let code = address & CODE_MASK;
    let offset = if code <= EXACT { code } else { EXACT + (code - EXACT) * SLOT_LEN as u64 };
    (address >> ADDR_OFFSET_BITS, offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_leads_back_to_its_byte_and_ascends_with_it() {
        let near = (0..2000).map(|i| PLAIN_BODY_LEN_MAX - 1000 + i).filter(|o| *o <= PLAIN_BODY_LEN_MAX || o.is_multiple_of(SLOT_LEN));
        let far = (0..1000).map(|i| BODY_LEN_MAX - i * SLOT_LEN).rev();
        let mut last = 0;
        for offset in [0, 8, 90].into_iter().chain(near).chain(far) {
            let address = BodyAt::Shared(7).address(offset);
            assert_eq!(place_in_file(address), (7, (COMMIT_HEADER_LEN + offset) as u64));
            assert!(address > last && address < 8 << ADDR_OFFSET_BITS, "offset {offset}");
            last = address;
        }
        assert_eq!(BodyAt::Shared(7).address(2), 7 << 24 | 90, "in a short commit the code is the offset in the file");
        assert_eq!(BodyAt::Local(100).address(10 << 20), 100 + (10 << 20));
    }
}
