//! What the engine's doctor says of a drive.

use crate::released::released;
use diskcache_core::doctor::{self, Severity};
use pyo3::prelude::*;
use std::path::PathBuf;

/// What was looked at: how bad, what, what was found, what to do.
type Row = (&'static str, String, String, String);

/// Examines the drive that a directory is on; with `peer`, another mount of the same share, also what holds between the two.
///
/// Returns the exit code for scripts, the verdict in words, the text for people, and a row (how bad, what, found, advice) for each
/// thing that was looked at.
///
/// # Errors
/// `OSError` when the directory cannot be looked at.
#[pyfunction]
#[pyo3(signature = (directory, peer=None))]
pub(crate) fn examine_drive(py: Python<'_>, directory: PathBuf, peer: Option<PathBuf>) -> PyResult<(u8, &'static str, String, Vec<Row>)> {
    let examination = released(py, || doctor::examine(&directory, peer.as_deref()))?;
    let word = |severity| match severity {
        Severity::Good => "good",
        Severity::Note => "note",
        Severity::Warning => "warning",
        Severity::Unsound => "unsound",
    };
    let verdict = examination.verdict();
    let text = examination.to_string();
    let rows = examination.findings.into_iter().map(|it| (word(it.severity), it.what, it.found, it.advice)).collect();
    Ok((verdict.exit_code(), verdict.words(), text, rows))
}
