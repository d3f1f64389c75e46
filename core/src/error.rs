//! What went wrong, on which path, and what the caller should do about it.
//!
//! [`ErrorKind`] is prescriptive: each kind says what to do next. The message names the operation and the path.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What every fallible function of this crate returns.
pub type Result<T> = std::result::Result<T, Error>;

/// What the caller should do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The deadline passed and nothing took effect: try again, or raise the timeout.
    Timeout,
    /// The deadline passed (or the view was too old) while a write was under way: it may or may not have taken effect.
    /// Read back before trying again.
    OutcomeUnknown,
    /// The drive answered with an error and nothing took effect: look at the drive (space, rights, connection).
    Io,
    /// A newer format, another kind of folder, or a cache of another mode: nothing was touched. Open it as the message says.
    Incompatible,
    /// This drive or this open mode does not allow what was asked (read-only, no sound `link`): the message says why.
    Refused,
    /// The stored value is not of the type that the operation needs (`incr` on text).
    WrongType,
    /// An argument is out of range (key too long, negative limit): fix the call.
    Invalid,
    /// A transaction lost its hold and nothing of it took effect: run it again.
    Conflict,
    /// Bytes on disk are damaged where the operation cannot go on without them: run `check(fix=True)`.
    Damaged,
    /// The cache was closed.
    Closed,
}

impl ErrorKind {
    /// Returns whether it is certain that the failed operation did not take effect.
    #[must_use]
    pub const fn is_certain(self) -> bool {
        !matches!(self, Self::OutcomeUnknown)
    }
}

/// An error: its kind, what was being done, on which path, and the cause.
#[derive(Debug, Clone)]
pub struct Error {
    kind: ErrorKind,
    what: String,
    path: Option<PathBuf>,
    source: Option<Arc<io::Error>>,
}

impl Error {
    /// Makes an error of `kind` that says `what`, without path or cause.
    pub fn new(kind: ErrorKind, what: impl Into<String>) -> Self {
        Self { kind, what: what.into(), path: None, source: None }
    }

    /// Makes an [`ErrorKind::Io`] error: "failed to `operation` `path`: cause".
    pub fn io(operation: &str, path: &Path, source: io::Error) -> Self {
        Self { kind: ErrorKind::Io, what: format!("failed to {operation}"), path: Some(path.to_owned()), source: Some(Arc::new(source)) }
    }

    /// Names the path.
    #[must_use]
    pub fn at(mut self, path: &Path) -> Self {
        self.path = Some(path.to_owned());
        self
    }

    /// Adds the cause.
    #[must_use]
    pub fn caused_by(mut self, source: io::Error) -> Self {
        self.source = Some(Arc::new(source));
        self
    }

    /// Returns the same error under another kind.
    #[must_use]
    pub fn with_kind(mut self, kind: ErrorKind) -> Self {
        self.kind = kind;
        self
    }

    /// Returns what the caller should do.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Returns the path that the operation was about, if any.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Returns the operating system's error number, if the cause has one.
    #[must_use]
    pub fn raw_os_error(&self) -> Option<i32> {
        self.source.as_ref().and_then(|e| e.raw_os_error())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if let Some(path) = &self.path {
            write!(f, " `{}`", path.display())?;
        }
        if let Some(source) = &self.source {
            write!(f, ": {source}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|e| &**e as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_names_operation_path_and_cause() {
        let error = Error::io("publish", Path::new("/c/log/7"), io::Error::from_raw_os_error(28));
        let text = error.to_string();
        assert!(text.starts_with("failed to publish `/c/log/7`: "), "{text}");
        assert_eq!(error.raw_os_error(), Some(28));
        assert_eq!(error.kind(), ErrorKind::Io);
    }
}
