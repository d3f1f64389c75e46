//! The `harness` program. Everything it does is in the library, where tests reach it.

fn main() -> std::process::ExitCode {
    harness::cli::main()
}
