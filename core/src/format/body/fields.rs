//! The fields of records, written and read.

use super::{Cause, Item, Record};
use crate::format::value::{Number, Place};
use crate::format::wire::{Malformed, Reader, Writer};
use crate::format::{KEY_LEN_MAX, KeyRef, PREFIX_LEN_MAX, TAG_LEN_MAX};

pub(super) fn put_record<'a>(out: &mut Vec<u8>, record: &Record<'a>) -> Option<&'a [u8]> {
    match record {
        Record::Set(key, item) | Record::Add(key, item) => {
            out.put_u8(if matches!(record, Record::Set(..)) { 1 } else { 2 });
            put_key(out, *key);
            return put_item(out, item);
        }
        Record::Push { prefix, front, item } => {
            out.put_u8(3);
            put_prefix(out, *prefix);
            out.put_u8(u8::from(*front));
            return put_item(out, item);
        }
        Record::Incr { key, delta, default, now } => {
            out.put_u8(4);
            put_key(out, *key);
            put_number(out, *delta);
            out.put_u8(u8::from(default.is_some()));
            if let Some(number) = default {
                put_number(out, *number);
            }
            out.put_f64(*now);
        }
        Record::Touch { key, expire, now } => {
            out.put_u8(5);
            put_key(out, *key);
            out.put_f64(*expire);
            out.put_f64(*now);
        }
        Record::Delete { key, now } => {
            out.put_u8(6);
            put_key(out, *key);
            out.put_f64(*now);
        }
        Record::Pull { prefix, front, now } => {
            out.put_u8(7);
            put_prefix(out, *prefix);
            out.put_u8(u8::from(*front));
            out.put_f64(*now);
        }
        _ => put_rare_record(out, record),
    }
    None
}

fn put_rare_record(out: &mut Vec<u8>, record: &Record<'_>) {
    match record {
        Record::Remove(cause, list) => {
            out.put_u8(8);
            out.put_u8(*cause as u8);
            list.put(out);
        }
        Record::Clear => out.put_u8(9),
        Record::Setting(name, bytes) => {
            out.put_u8(10);
            put_bytes(out, name.as_bytes());
            put_bytes(out, bytes);
        }
        Record::Accessed(list) => {
            out.put_u8(11);
            list.put(out);
        }
        Record::Statistics { hits, misses, reset } => {
            out.put_u8(12);
            out.put_u64(*hits);
            out.put_u64(*misses);
            out.put_u8(u8::from(*reset));
        }
        Record::Hold { owner, ms } => {
            out.put_u8(13);
            out.extend_from_slice(&owner.to_le_bytes());
            out.put_u32(*ms);
        }
        Record::Release { owner } => {
            out.put_u8(14);
            out.extend_from_slice(&owner.to_le_bytes());
        }
        Record::Checkpoint(bytes) => {
            out.put_u8(15);
            put_bytes(out, bytes);
        }
        Record::Fold(bytes) => {
            out.put_u8(16);
            put_bytes(out, bytes);
        }
        Record::Levels(bytes) => {
            out.put_u8(17);
            put_bytes(out, bytes);
        }
        _ => unreachable!("put_record writes the others"),
    }
}

#[inline]
fn put_item<'a>(out: &mut Vec<u8>, item: &Item<'a>) -> Option<&'a [u8]> {
    out.put_f64(item.now);
    out.put_f64(item.expire);
    match item.tag {
        Some(tag) => put_key(out, tag),
        None => out.put_u8(0),
    }
    item.value.meta.put(out);
    if matches!(item.value.meta.place, Place::Log) {
        assert_eq!(item.value.meta.len, item.value.bytes.len() as u64, "a value's length is that of its bytes");
        return Some(item.value.bytes);
    }
    None
}

pub(super) fn put_len(out: &mut Vec<u8>, len: usize) {
    out.put_u32(u32::try_from(len).expect("a body is far shorter than 4 GiB"));
}

pub(super) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_len(out, bytes.len());
    out.extend_from_slice(bytes);
}

/// Appends a key: class and shape (u8), length (u32), bytes.
#[inline]
pub(crate) fn put_key(out: &mut Vec<u8>, key: KeyRef<'_>) {
    out.put_u8(key.tag_byte());
    put_bytes(out, key.bytes);
}

fn put_prefix(out: &mut Vec<u8>, prefix: Option<&str>) {
    out.put_u8(u8::from(prefix.is_some()));
    put_bytes(out, prefix.unwrap_or("").as_bytes());
}

fn put_number(out: &mut Vec<u8>, number: Number) {
    match number {
        Number::Int(i) => {
            out.put_u8(0);
            out.put_u64(i.cast_unsigned());
        }
        Number::Float(f) => {
            out.put_u8(1);
            out.put_f64(f);
        }
    }
}

pub(super) fn take_bytes<'a>(r: &mut Reader<'a>) -> Result<&'a [u8], Malformed> {
    let len = r.u32()? as usize;
    r.take(len)
}

pub(super) fn take_text<'a>(r: &mut Reader<'a>) -> Result<&'a str, Malformed> {
    std::str::from_utf8(take_bytes(r)?).map_err(|_| Malformed::Field("text"))
}

fn key_of<'a>(tag_byte: u8, r: &mut Reader<'a>) -> Result<KeyRef<'a>, Malformed> {
    let bytes = take_bytes(r)?;
    let key = KeyRef::from_tag_byte(tag_byte, bytes)?;
    if bytes.len() > KEY_LEN_MAX { Err(Malformed::Field("key length")) } else { Ok(key) }
}

/// Reads what [`put_key`] wrote.
#[inline]
pub(crate) fn take_key<'a>(r: &mut Reader<'a>) -> Result<KeyRef<'a>, Malformed> {
    let tag_byte = r.u8()?;
    key_of(tag_byte, r)
}

pub(super) fn take_optional_key<'a>(r: &mut Reader<'a>) -> Result<Option<KeyRef<'a>>, Malformed> {
    match r.u8()? {
        0 => Ok(None),
        tag_byte => match key_of(tag_byte, r)? {
            key if key.bytes.len() < TAG_LEN_MAX => Ok(Some(key)),
            _ => Err(Malformed::Field("tag length")),
        },
    }
}

pub(super) fn take_prefix<'a>(r: &mut Reader<'a>) -> Result<Option<&'a str>, Malformed> {
    let present = take_bool(r)?;
    let text = take_text(r)?;
    if text.len() > PREFIX_LEN_MAX { Err(Malformed::Field("queue name length")) } else { Ok(present.then_some(text)) }
}

pub(super) fn take_bool(r: &mut Reader<'_>) -> Result<bool, Malformed> {
    match r.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Malformed::Field("truth value")),
    }
}

pub(super) fn take_number(r: &mut Reader<'_>) -> Result<Number, Malformed> {
    match r.u8()? {
        0 => Ok(Number::Int(r.u64()?.cast_signed())),
        1 => Ok(Number::Float(r.f64()?)),
        _ => Err(Malformed::Field("number")),
    }
}

pub(super) fn take_optional_number(r: &mut Reader<'_>) -> Result<Option<Number>, Malformed> {
    if take_bool(r)? { take_number(r).map(Some) } else { Ok(None) }
}

pub(super) fn take_cause(r: &mut Reader<'_>) -> Result<Cause, Malformed> {
    Ok(match r.u8()? {
        1 => Cause::Cull,
        2 => Cause::Expire,
        3 => Cause::Evict,
        4 => Cause::Clear,
        5 => Cause::Damage,
        _ => return Err(Malformed::Field("cause")),
    })
}

pub(super) fn take_u128(r: &mut Reader<'_>) -> Result<u128, Malformed> {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(r.take(16)?);
    Ok(u128::from_le_bytes(bytes))
}
