#![no_main]
//! See `targets::commit`.

#[allow(dead_code, reason = "each binary uses one of the targets")]
#[path = "../../core/tests/targets/mod.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::commit(data));
