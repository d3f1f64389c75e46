//! Python binding of DiskCache RS: the native module `diskcache_rs._native`.
//!
//! It converts, calls the engine and converts back; what the cache means is in `diskcache-core`, and what is rarely called is
//! Python, in `python/diskcache_rs`. The hot methods try the engine with the interpreter held, since a local hit is shorter than
//! a release of it; whatever could wait is called again with the interpreter released.

mod base;
mod beside;
mod bulk;
mod disk;
mod doctor;
mod engine;
mod error;
mod fanout;
mod file;
mod key;
mod limit;
mod read;
mod released;
mod settings;
mod value;
mod walk;
mod write;

use diskcache_core::cache;
use pyo3::prelude::*;

/// The native part of diskcache_rs; use `diskcache_rs` instead.
#[pymodule(name = "_native", gil_used = false)]
mod native {
    #[pymodule_export]
    use super::base::CacheBase;
    #[pymodule_export]
    use super::doctor::examine_drive;
    #[pymodule_export]
    use super::fanout::FanoutBase;
    #[pymodule_export]
    use super::file::ValueFile;
    #[pymodule_export]
    use super::released::{end, forked};

    use pyo3::prelude::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("DEBUG_BUILD", cfg!(debug_assertions))?;
        module.add("VERSION", env!("CARGO_PKG_VERSION"))?;
        module.add("MIN_FILE_SIZE", crate::cache::BLOB_LEN_MIN_DEFAULT)
    }
}
