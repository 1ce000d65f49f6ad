//! The `daybook` command; see [`daybook::cli`].

use std::process::ExitCode;

/// Buffers are made by one thread and let go by another all day long; the system's allocator
/// takes locks for that.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    daybook::cli::main()
}
