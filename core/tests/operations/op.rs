//! The operations, made of small numbers so that any bytes are some sequence of them and a smaller number is a simpler operation.

use super::reference::{Content, Name};

/// One step: which operation, on what, with what.
pub(crate) type Word = (u8, u8, u16);

#[derive(Debug, Clone)]
pub(crate) enum Op {
    Set(Name, Content, Option<f64>, Option<String>),
    Add(Name, Content, Option<f64>, Option<String>),
    Get(Name),
    Contains(Name),
    Incr(Name, i64, Option<i64>),
    Touch(Name, Option<f64>),
    Delete(Name),
    Pop(Name),
    Push(Option<&'static str>, bool, Content, Option<f64>, Option<String>),
    Pull(Option<&'static str>, bool),
    Peek(Option<&'static str>, bool),
    PeekItem(bool),
    Expire,
    Evict(String),
    Cull,
    Clear,
    Begin,
    Commit,
    Rollback,
    Reopen { close: bool },
    Advance(u64),
    Compare,
}

const WEIGHTS: [(u8, u16); 22] = [
    (0, 60),
    (1, 24),
    (2, 22),
    (3, 4),
    (4, 16),
    (5, 12),
    (6, 22),
    (7, 14),
    (8, 16),
    (9, 12),
    (10, 6),
    (11, 5),
    (12, 3),
    (13, 5),
    (14, 2),
    (15, 1),
    (16, 6),
    (17, 8),
    (18, 3),
    (19, 4),
    (20, 8),
    (21, 3),
];

/// Returns the operation of a word. `expiring` keys may expire; others never do unless `all_expire`.
pub(crate) fn op((kind, a, b): Word, big: bool, all_expire: bool) -> Op {
    let total: u16 = WEIGHTS.iter().map(|(_, weight)| weight).sum();
    let mut at = u16::from(kind) * total / 256;
    let which = WEIGHTS
        .iter()
        .find(|(_, weight)| {
            at < *weight || {
                at -= weight;
                false
            }
        })
        .map_or(0, |(which, _)| *which);
    let name = name(a >> 1);
    let may_expire = all_expire || matches!(name, Name::Text(_));
    let expire = [None, None, None, Some(0.5), Some(5.0), Some(60.0), Some(1000.0), Some(0.0)][usize::from(b >> 8 & 7)];
    let expire = expire.filter(|_| may_expire);
    let tag = (b >> 11 & 3 == 3).then(|| format!("t{}", b >> 13 & 1));
    let content = content(b, big);
    let front = b & 1 == 1;
    let prefix = (b & 2 == 2).then_some("q");
    let queue_expire = expire.filter(|_| all_expire);
    match which {
        0 => Op::Set(name, content, expire, tag),
        1 => Op::Get(name),
        2 => Op::Add(name, content, expire, tag),
        3 => Op::Contains(name),
        4 => Op::Incr(name, i64::from(b) - 300, (b & 8 == 0).then_some(i64::from(b & 7))),
        5 => Op::Touch(name, expire),
        6 => Op::Delete(name),
        7 => Op::Pop(name),
        8 => Op::Push(prefix, a & 2 == 2, content, queue_expire, tag),
        9 => Op::Pull(prefix, front),
        10 => Op::Peek(prefix, front),
        11 => Op::PeekItem(front),
        12 => Op::Expire,
        13 => Op::Evict(format!("t{}", b & 1)),
        14 => Op::Cull,
        15 => Op::Clear,
        16 => Op::Begin,
        17 => Op::Commit,
        18 => Op::Rollback,
        19 => Op::Reopen { close: front },
        20 => Op::Advance([1, 900, 5_000, 70_000, 700_000][usize::from(b % 5)]),
        _ => Op::Compare,
    }
}

fn name(a: u8) -> Name {
    match a % 64 {
        n @ 0..8 => Name::Int(i64::from(n)),
        n @ 8..48 => Name::Text(format!("k{n}")),
        n => Name::Bytes(vec![n, 0, n]),
    }
}

fn content(b: u16, big: bool) -> Content {
    let len = usize::from(b >> 3);
    let fill = |len: usize| (0..len).map(|i| b'a' + u8::try_from((i * i + len) % 23).expect("below 23")).collect::<Vec<u8>>();
    match b % 8 {
        0..=2 => Content::Int(i64::from(b)),
        3 | 4 => Content::Text(String::from_utf8(fill(len % 200)).expect("letters")),
        5 | 6 => Content::Bytes(fill(len % 700)),
        _ => Content::Bytes(fill(if big { 9_000 + len * 2 } else { 1_500 })),
    }
}
