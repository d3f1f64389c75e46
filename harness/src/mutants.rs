//! The engine broken on purpose, each time in one way: a check that does not notice is worth nothing.
//!
//! The ways are in the engine (`diskcache_core::mutants`), where the cargo feature `mutants` brings them in; without it there are none.

/// Does something with the engine broken in a way. The way is the whole program's: one at a time.
///
/// # Errors
/// There is no such way, or this program was built without them.
pub fn with<T>(name: Option<&str>, act: impl FnOnce() -> T) -> Result<T, String> {
    match name {
        None => Ok(act()),
        Some(name) => Err(format!("this program has no broken engines, so none called {name}: build it with --features mutants")),
    }
}
