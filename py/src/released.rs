//! Work without the interpreter: released before, taken again after, and not any more once the program ends.
//!
//! Before Python 3.14, a daemon thread that asks for the interpreter while that is finalized is ended on the spot, by unwinding its stack.
//! Rust frames do not let that pass: the whole process is aborted. So `atexit` says that the program ends ([`end`]); a thread that
//! comes back from the engine later rests for ever instead, as Python 3.14 has it, and those that are on their way are waited for.

use pyo3::prelude::*;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How long the end of the program waits for threads on their way: they wait for nothing but the interpreter.
const PATIENCE: Duration = Duration::from_secs(2);

/// The thread that ends the program; 0 before.
static ENDED_BY: AtomicU64 = AtomicU64::new(0);
/// How many threads ask for the interpreter, or are about to.
static RETURNING: AtomicUsize = AtomicUsize::new(0);

/// Calls `work` with the interpreter released.
pub(crate) fn released<T: Send>(py: Python<'_>, work: impl FnOnce() -> T + Send) -> T {
    let done = py.detach(|| {
        let done = work();
        // Counted first and looked after: either the end of the program sees the count, or this thread sees the end.
        RETURNING.fetch_add(1, Ordering::SeqCst);
        if is_over() {
            RETURNING.fetch_sub(1, Ordering::SeqCst);
            rest();
        }
        done
    });
    RETURNING.fetch_sub(1, Ordering::SeqCst);
    done
}

/// Returns whether the program ends, and not by this thread.
pub(crate) fn is_over() -> bool {
    let by = ENDED_BY.load(Ordering::SeqCst);
    by != 0 && by != me()
}

fn rest() -> ! {
    loop {
        std::thread::park();
    }
}

/// Says that this thread ends the program, and waits for those that are on their way to the interpreter.
#[pyfunction]
#[pyo3(name = "_end")]
pub(crate) fn end(py: Python<'_>) {
    ENDED_BY.store(me(), Ordering::SeqCst);
    py.detach(|| {
        let begun = Instant::now();
        while RETURNING.load(Ordering::SeqCst) > 0 && begun.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(1));
        }
    });
}

/// Says that this process is a forked child: it has none of its parent's other threads.
#[pyfunction]
#[pyo3(name = "_forked")]
pub(crate) fn forked() {
    RETURNING.store(0, Ordering::SeqCst);
}

/// Returns a number of this thread that no other has.
fn me() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    thread_local! {
        static ME: u64 = NEXT.fetch_add(1, Ordering::Relaxed);
    }
    // A thread whose locals are gone already is none that Python knows.
    ME.try_with(|me| *me).unwrap_or(u64::MAX)
}
