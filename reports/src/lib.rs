//! What was found, as data with versions, and the pages made of it.
//!
//! There are three kinds: what the harness found ([`Report`]), what real mounts do ([`mounts::MountReport`]) and how fast engines are
//! ([`bench::BenchReport`]). Each is JSON whose schema is written beside it.
//!
//! Pages need nothing but themselves: no font, no network, and no script that they would not work without. They can be read on a
//! phone and in the dark, and they begin with the verdict.

pub mod bench;
mod junit;
mod machine;
pub mod mounts;
mod page;
mod results;
mod wording;
mod write;

pub use machine::machine;
pub use results::*;
pub use wording::{Headline, Mood, headline};
pub use write::{Kind, render_bench, render_mounts, render_results, schema};

#[cfg(test)]
mod sample;
#[cfg(test)]
mod tests;
