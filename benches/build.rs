//! Lets the benchmarks find the library of the interpreter that they were linked with, wherever that is installed.

fn main() {
    pyo3_build_config::add_libpython_rpath_link_args();
}
