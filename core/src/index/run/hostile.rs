//! Files whose checksums are right although no writer wrote them: whatever they say, nothing panics, hangs or reads far.

use super::head::block_sum;
use super::{BLOCK_LEN, HEAD_FIXED_LEN, RunBuilder, RunFile, Source};
use crate::format::entry::{Entry, EntryRef};
use crate::format::wire::{Reader, checksum};
use crate::format::{KeyRef, Number, ValueMeta};
use crate::index::order::Order;
use proptest::prelude::*;

const SEED: u64 = 77;

fn file(rows: u64) -> Vec<u8> {
    let names: Vec<String> = (0..rows).map(|n| format!("key {n}")).collect();
    let mut sorted: Vec<(u64, &str, u64)> = (0..).zip(&names).map(|(n, name)| (KeyRef::text(name).hash(), name.as_str(), n)).collect();
    sorted.sort_unstable();
    let mut builder = RunBuilder::new(SEED, sorted.len());
    for (hash, name, n) in sorted {
        let value = ValueMeta::number(Number::Int(1));
        let entry = Entry { tombstone: n % 7 == 0, value, rowid: n, store_time: (n % 5) as f64, ..Entry::tombstone(n) };
        builder.push(hash, &EntryRef { key: KeyRef::text(name), tag: Some(KeyRef::text("t")), entry });
    }
    builder.finish(0, u64::MAX).bytes
}

/// Makes all checksums of the head and the tables right again.
fn sign(bytes: &mut [u8]) -> (usize, u64) {
    let word = |bytes: &[u8], at: usize| Reader::new(&bytes[at..]).u32().expect("within the head") as usize;
    let (head_len, start, end) = (word(bytes, 12), word(bytes, 48), word(bytes, 52));
    let head_len = head_len.clamp(HEAD_FIXED_LEN + 8, 4096);
    if let Some(tables) = bytes.get(start..end) {
        let sums: Vec<u32> = tables.chunks(BLOCK_LEN).enumerate().map(|(n, block)| block_sum(block, n, SEED)).collect();
        for (n, sum) in sums.iter().enumerate().take((head_len - HEAD_FIXED_LEN - 8) / 4) {
            bytes[HEAD_FIXED_LEN + n * 4..][..4].copy_from_slice(&sum.to_le_bytes());
        }
    }
    let sum = checksum(&bytes[..head_len - 8], SEED);
    bytes[head_len - 8..head_len].copy_from_slice(&sum.to_le_bytes());
    (head_len, sum)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, ..ProptestConfig::default() })]

    #[test]
    fn a_signed_file_of_nonsense_makes_no_panic(
        rows in 1..120_u64,
        in_head in proptest::collection::vec((16..HEAD_FIXED_LEN, any::<u8>()), 0..3),
        in_tables in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..40),
    ) {
        let mut bytes = file(rows);
        let tables = 4096..bytes.len() - Reader::new(&bytes[12..]).u32().expect("within the head") as usize;
        for (at, byte) in &in_tables {
            bytes[tables.start + at.index(tables.len())] = *byte;
        }
        for (at, byte) in &in_head {
            bytes[*at] = *byte;
        }
        let (head_len, sum) = sign(&mut bytes);
        let file_len = Reader::new(&bytes[16..]).u64().expect("within the head");
        let Ok(file) = RunFile::open(Source::Memory(bytes.into()), head_len, file_len, sum, SEED) else { return Ok(()) };
        let (low, high) = file.head().range();
        for n in 0..rows + 10 {
            let name = format!("key {n}");
            let key = KeyRef::text(&name);
            if (low..=high).contains(&key.hash()) {
                if let Ok(Some(found)) = file.find(key.hash(), key) {
                    prop_assert!(EntryRef::key_of(&found).is_some_and(|k| k.same(&key)), "another key's entry");
                }
                let _ = file.may_hold(key.hash());
            }
            let _ = file.first_row(key.hash());
        }
        for row in 0..file.head().rows().min(200) {
            let _ = (file.hash(row), file.offset(row));
        }
        for order in Order::ALL {
            let _ = file.seek(order, |e| e.entry.rowid > rows / 2);
            for i in 0..file.order_len(order).min(200) {
                let _ = file.ordered(order, i).and_then(|offset| file.entry(offset).map(drop));
            }
            let _ = file.rebuild(order);
        }
    }
}
