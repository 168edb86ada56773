//! The binary: everything is in the library.
use std::process::ExitCode;

/// musl's own allocator takes one lock for all threads. On glibc another one was measured and wins
/// nothing for its memory (benches/README.md).
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    tidegate::cli::main()
}
