//! The bytes of everything on disk that is public, built from fixed inputs. (Manifests and folds are pinned beside their code.)
//!
//! When one of these fails, caches that exist could no longer be read: raise `FORMAT_VERSION`, say in `FORMAT.md` what changed, and
//! keep reading the old version or refuse it.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail like the test")]

use diskcache_core::NumberKey;
use diskcache_core::format::body::{AccessesBuilder, Cause, Item, RecordValue, VersionsBuilder};
use diskcache_core::format::entry::EntryRef;
use diskcache_core::format::frame::{self, SegmentHeader};
use diskcache_core::format::marker::Mode;
use diskcache_core::format::wire::checksum;
use diskcache_core::format::{
    BodyBuilder, Codec, CommitTerms, Entry, FORMAT_VERSION, KeyRef, Marker, Number, Place, Record, ValueKind, ValueMeta, encode_commit,
};
use diskcache_core::index::{Delta, Levels, Slice, flush};
use diskcache_core::log::BodyAt;
use std::fmt::Write;

const MARKER: Marker = Marker { mode: Mode::Shared, id: 0x0011_2233_4455_6677_8899_aabb_ccdd_eeff, created: 1.5e9 };

fn pin(what: &str, bytes: &[u8], golden: &str) {
    let hex = bytes.iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").unwrap();
        hex
    });
    assert_eq!(hex, golden, "the bytes of {what} changed: raise FORMAT_VERSION (now {FORMAT_VERSION}), and see FORMAT.md");
}

fn item<'a>(meta: ValueMeta, bytes: &'a [u8], tag: Option<KeyRef<'a>>) -> Item<'a> {
    Item { value: RecordValue { meta, bytes }, tag, expire: f64::INFINITY, now: 2.0 }
}

fn in_log(bytes: &[u8]) -> ValueMeta {
    ValueMeta {
        kind: ValueKind::Bytes,
        codec: Codec::None,
        place: Place::Log,
        len: bytes.len() as u64,
        sum: checksum(bytes, MARKER.seed()),
    }
}

#[test]
fn the_marker() {
    pin(
        "the shared marker",
        &MARKER.encode(),
        "4469736b436163686552530a020000000200000000000000ffeeddccbbaa99887766554433221100000000c00b5ad6417eb4389de01b8845",
    );
    pin(
        "the local marker",
        &Marker { mode: Mode::Local, ..MARKER }.encode(),
        "4469736b436163686552530a020000000100000000000000ffeeddccbbaa99887766554433221100000000c00b5ad6414ba3b310c0ee33a4",
    );
}

#[test]
fn keys() {
    for (number, golden) in [
        (0, "80000000000000008000"),
        (1, "bff00000000000008000"),
        (-1, "400fffffffffffff8000"),
        (i64::MAX, "c3e00000000000007fff"),
        (i64::MIN, "3c1fffffffffffff8000"),
    ] {
        pin(&format!("the key {number}"), NumberKey::int(number).as_ref().bytes, golden);
    }
    for (number, golden) in [
        (0.5, "bfe00000000000008000"),
        (-2.0, "3fffffffffffffff8000"),
        (f64::INFINITY, "fff00000000000008000"),
        (f64::NAN, "fff80000000000008000"),
    ] {
        pin(&format!("the key {number}"), NumberKey::float(number).as_ref().bytes, golden);
    }
    let float = NumberKey::float(-0.0);
    let tags: Vec<u8> = [KeyRef::text(""), KeyRef::bytes(b""), KeyRef::opaque(b""), NumberKey::int(0).as_ref(), float.as_ref()]
        .iter()
        .map(KeyRef::tag_byte)
        .collect();
    pin("class and shape of keys", &tags, "0204030121");
    pin("the hash of a key", &KeyRef::text("key").hash().to_le_bytes(), "d1d165283d1989da");
}

#[test]
fn each_record() {
    let key = KeyRef::text("k");
    let mut versions = VersionsBuilder::default();
    versions.push(key, 9);
    let mut accesses = AccessesBuilder::default();
    accesses.push(key, 3, 4.0);
    let blob = ValueMeta { kind: ValueKind::Text, codec: Codec::Lz4, place: Place::Blob(0xb10b), len: 70_000, sum: 1 };
    let int = ValueMeta::number(Number::Int(-2));
    let records: [(&str, Record<'_>, &str); 19] = [
        (
            "set",
            Record::Set(key, item(in_log(b"value"), b"value", None)),
            "33000000010000000102010000006b0000000000000040000000000000f07f000100010000000000000000050000000000000054c7be5daf9f4a2b76616c7565",
        ),
        (
            "set with a blob and a tag",
            Record::Set(key, item(blob, b"", Some(KeyRef::text("t")))),
            "38000000010000000102010000006b0000000000000040000000000000f07f0201000000740201020bb100000000000070110100000000000100000000000000",
        ),
        (
            "add",
            Record::Add(key, item(int, b"", None)),
            "33000000010000000202010000006b0000000000000040000000000000f07f00030000feffffffffffffff00000000000000000000000000000000",
        ),
        (
            "push",
            Record::Push { prefix: Some("q"), front: true, item: item(int, b"", None) },
            "340000000100000003010100000071010000000000000040000000000000f07f00030000feffffffffffffff00000000000000000000000000000000",
        ),
        (
            "push without a prefix",
            Record::Push { prefix: None, front: false, item: item(int, b"", None) },
            "3300000001000000030000000000000000000000000040000000000000f07f00030000feffffffffffffff00000000000000000000000000000000",
        ),
        (
            "incr",
            Record::Incr { key, delta: Number::Int(1), default: Some(Number::Float(0.5)), now: 1.0 },
            "22000000010000000402010000006b0001000000000000000101000000000000e03f000000000000f03f",
        ),
        (
            "incr without a default",
            Record::Incr { key, delta: Number::Int(1), default: None, now: 1.0 },
            "19000000010000000402010000006b00010000000000000000000000000000f03f",
        ),
        ("touch", Record::Touch { key, expire: 5.0, now: 1.0 }, "17000000010000000502010000006b0000000000001440000000000000f03f"),
        ("delete", Record::Delete { key, now: 1.0 }, "0f000000010000000602010000006b000000000000f03f"),
        ("pull", Record::Pull { prefix: Some("q"), front: false, now: 1.0 }, "10000000010000000701010000007100000000000000f03f"),
        ("remove", Record::Remove(Cause::Evict, versions.list()), "18000000010000000803010000000e00000002010000006b0900000000000000"),
        ("clear", Record::Clear, "010000000100000009"),
        ("setting", Record::Setting("name", b"\x02\x05\0\0\0\0\0\0\0"), "16000000010000000a040000006e616d6509000000020500000000000000"),
        ("accessed", Record::Accessed(accesses.list()), "1b000000010000000b010000001200000002010000006b030000000000000000001040"),
        ("statistics", Record::Statistics { hits: 1, misses: 2, reset: true }, "12000000010000000c0100000000000000020000000000000001"),
        ("hold", Record::Hold { owner: 7, ms: 5_000 }, "15000000010000000d0700000000000000000000000000000088130000"),
        ("release", Record::Release { owner: 7 }, "11000000010000000e07000000000000000000000000000000"),
        ("checkpoint", Record::Checkpoint(b"manifest"), "0d000000010000000f080000006d616e6966657374"),
        ("fold", Record::Fold(b"note"), "090000000100000010040000006e6f7465"),
    ];
    for (name, record, golden) in records {
        let mut body = BodyBuilder::default();
        body.push(&record);
        let mut bytes = Vec::new();
        body.write_to(&mut bytes);
        pin(name, &bytes, golden);
    }
}

#[test]
fn a_body_of_several_records() {
    let key = KeyRef::text("k");
    let mut body = BodyBuilder::default();
    body.push(&Record::Levels(b"levels"));
    body.push(&Record::Set(key, item(in_log(b"one"), b"one", None)));
    body.push(&Record::Set(key, item(in_log(b"two"), b"two", None)));
    let mut bytes = Vec::new();
    body.write_to(&mut bytes);
    pin(
        "a body of three records",
        &bytes,
        "710000000300000011060000006c6576656c730102010000006b0000000000000040000000000000f07f000100010000000000000000030000000000000013e5b7f17ede01dd0102010000006b0000000000000040000000000000f07f000100010000000000000000030000000000000024ce171a0653dfa06f6e6574776f",
    );
}

fn body() -> BodyBuilder {
    let mut body = BodyBuilder::default();
    body.push(&Record::Set(KeyRef::text("k"), item(in_log(b"value"), b"value", None)));
    body
}

#[test]
fn a_segment_of_a_local_log() {
    let seed = MARKER.seed();
    let mut segment = SegmentHeader { start: 64, capacity: 4096, checkpoint: 128 }.encode(seed);
    let (header, sum) = frame::encode_header(&body(), 64, 0, None, seed);
    segment.extend_from_slice(&header);
    body().write_to(&mut segment);
    pin(
        "a segment with its first frame",
        &segment,
        "444352537365670a020000000000000040000000000000000010000000000000800000000000000014d5f20cc10ec8ea437fd3ba7ee1e6b400000000000000006000000000000000400000000000000000000000000000003266a35670ca7e5a33000000010000000102010000006b0000000000000040000000000000f07f000100010000000000000000050000000000000054c7be5daf9f4a2b76616c7565",
    );
    let (header, sum) = frame::encode_header(&body(), 192, sum, Some(192), seed);
    let mut decided = header.to_vec();
    body().write_to(&mut decided);
    pin(
        "a frame that was decided on a state",
        &decided,
        "6800000001000000c0000000000000003266a35670ca7e5aecc19493fcc73c7ac00000000000000033000000010000000102010000006b0000000000000040000000000000f07f000100010000000000000000050000000000000054c7be5daf9f4a2b76616c7565",
    );
    pin("a seal", &frame::encode_seal(320, sum, seed).0, "20000000020000004001000000000000ecc19493fcc73c7a4e870fbc1125ebba");
}

#[test]
fn a_commit_of_a_shared_log() {
    for (decided_on, golden) in [
        (
            None,
            "44435253434d540a0200000000000000ffeeddccbbaa99887766554433221100030000000000000000000000000000000200000000000000ffffffffffffffff40000000000000004dc925702e8724e5ddb80c35af5e3b7b33000000010000000102010000006b0000000000000040000000000000f07f000100010000000000000000050000000000000054c7be5daf9f4a2b76616c7565",
        ),
        (
            Some(5),
            "44435253434d540a0200000000000000ffeeddccbbaa99887766554433221100030000000000000000000000000000000200000000000000050000000000000040000000000000004dc925702e8724e5e38305d05ae199d333000000010000000102010000006b0000000000000040000000000000f07f000100010000000000000000050000000000000054c7be5daf9f4a2b76616c7565",
        ),
    ] {
        pin("a commit file", &encode_commit(&MARKER, &CommitTerms { nonce: 3, checkpoint: 2, decided_on }, &body()), golden);
    }
}

/// A body of more than 8 MiB: what lies where, and the addresses that a shared log gives its values.
#[test]
fn a_long_body() {
    let values = [vec![1; 3], vec![2; 6 << 20], Vec::new(), vec![3; 33], vec![4; 3 << 20]];
    let mut body = BodyBuilder::default();
    for (name, value) in ["a", "b", "c", "d", "e"].into_iter().zip(&values) {
        body.push(&Record::Set(KeyRef::text(name), item(in_log(value), value, None)));
    }
    let mut bytes = Vec::new();
    body.write_to(&mut bytes);
    pin("a long body", &[bytes.len() as u64, checksum(&bytes, 0)].map(u64::to_le_bytes).concat(), "800190000000000077350179371a2963");
    let offsets: Vec<u8> = body.as_body().records().flat_map(|(_, offset)| (offset as u32).to_le_bytes()).collect();
    pin("the offsets of its values", &offsets, "2001000040010000400160004001600080016000");
    let far = [0, 8 << 20, (8 << 20) + 32, 256 << 20].map(|offset| BodyAt::Shared(1).address(offset).to_le_bytes());
    pin("addresses in a shared log", &far.concat(), "5800000100000000580080010000000059008001000000005800fc0100000000");
}

fn entries() -> [(KeyRef<'static>, Option<KeyRef<'static>>, Entry); 3] {
    let entry = Entry {
        tombstone: false,
        value: in_log(b"value"),
        rowid: 1,
        version: 2,
        addr: 3,
        store_time: 4.0,
        access_time: 5.0,
        expire_time: 6.0,
        access_count: 7,
    };
    let number = Entry { value: ValueMeta::number(Number::Float(0.5)), rowid: 2, expire_time: f64::INFINITY, ..entry };
    [
        (KeyRef::text("one"), Some(KeyRef::text("tag")), entry),
        (KeyRef::bytes(b"two"), None, number),
        (KeyRef::text("three"), None, Entry::tombstone(9)),
    ]
}

#[test]
fn entries_runs_and_their_list() {
    let seed = MARKER.seed();
    let mut delta = Delta::new();
    let mut bytes = Vec::new();
    for (key, tag, entry) in entries() {
        let entry = EntryRef { key, tag, entry };
        entry.put(&mut bytes, seed);
        delta.put(key.hash(), entry);
    }
    pin(
        "three entries",
        &bytes,
        "20dfe49c0300000003000202000100010000000000000000050000000000000054c7be5daf9f4a2b010000000000000002000000000000000300000000000000000000000000104000000000000014400000000000001840070000006f6e6574616758fa234d030000000000040000040000000000000000e03f0000000000000000000000000000000002000000000000000200000000000000030000000000000000000000000010400000000000001440000000000000f07f0700000074776f15fc1b3205000000000002000105000000000000000000000000000000000000000000000000000000000000000000000900000000000000000000000000000000000000000000000000000000000000000000000000f07f000000007468726565",
    );
    let built = flush(&delta, seed, |_| true);
    assert_eq!(built.len(), 1);
    let run = &built[0].bytes;
    // Mostly padding: its head is pinned, and the checksum of the whole.
    pin(
        "a run's head",
        &run[..built[0].head.encoded_len()],
        "446352756e0d0a1a02000000ac0000003e120000000000000000000000000000ffffffffffffffff03000000050000000010000070100000921100000c000000001000000100000008100000060000003810000003000000501000000300000060100000020000006010000002000000601000000200000060100000020000006010000002000000681000000100000068100000010000006010000002000000c153ce6999554a8ae665b536",
    );
    pin(
        "length and checksum of a run",
        &[run.len() as u64, checksum(run, 0)].map(u64::to_le_bytes).concat(),
        "3e120000000000006b3261de971a486a",
    );
    let mut levels = Vec::new();
    Levels::default().push(vec![Slice::of(0x1d, &built[0])]).encode(&mut levels);
    pin(
        "a list of runs",
        &levels,
        "010100000001000000001d000000000000000000000000000000ffffffffffffffff030000003e12000000000000ac00000099554a8ae665b536",
    );
}
