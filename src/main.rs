//! The `tidegate` binary: everything is in the library.

/// Glibc wastes half of what a connection takes, on tokio's parts that are aligned to 128 bytes, and keeps what a storm has
/// left behind. See docs/performance.md.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    tidegate::cli::main()
}
