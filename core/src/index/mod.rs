//! The index: a delta in memory over immutable sorted runs on disk.
//!
//! Every process replays the log into its own [`Delta`]. When that is full, one of them writes it as the files of a new run
//! ([`flush()`]) and a log record publishes the new list of runs ([`Levels`]). Runs are merged in small steps ([`MergeStep`]), each of
//! which makes a new list too. [`Layers`] looks keys up and walks orders over all of them; the newest entry of a key counts, and
//! a tombstone says that it is gone.
//!
//! Nothing here knows the log, the clock or threads. Bytes on disk are never trusted: what is damaged is said to be, and never
//! answers for something else.

pub mod delta;
mod doorkeeper;
pub mod files;
pub mod flush;
pub mod layers;
pub mod levels;
pub mod mend;
pub mod merge;
pub mod order;
pub mod pager;
mod recent;
pub mod run;
mod starts;
pub mod walk;

pub use delta::{Delta, Row};
pub use doorkeeper::Doorkeeper;
pub use files::{Access, RunDir, RunFiles, VfsRunDir, file_name};
pub use flush::flush;
pub use layers::{Found, Layers, Lookup};
pub use levels::{Levels, Run, Slice};
pub use mend::{Mended, Wrong};
pub use merge::{Conflict, FAN_OUT, MergeStep, STEP_ROWS, StepResult};
pub use order::{Direction, Order, Position, Span};
pub use run::{Built, Fault, Hit};
pub use walk::{Walk, Walker};

/// Locks a mutex; a panic of another holder does not poison the index for everybody else. (The index has no schedule of its own
/// worth exploring, so it keeps to `std`'s locks.)
fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
