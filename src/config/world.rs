//! What a configuration may depend on besides its own text: files, the environment, the host name.
//!
//! A parameter instead of `std::env` and `std::fs`, so that tests are hermetic and a reload can be tried on files that
//! do not exist yet.

use std::io::{self, Read};
use std::path::Path;

/// The largest file that is read, in bytes. A bundle of several hundred CA certificates fits four times; a device file or
/// a log that was named by mistake does not fill the memory.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Everything outside of the configuration file that its meaning depends on.
pub trait World {
    /// The value of an environment variable; `None` when it is not set or not UTF-8.
    fn variable(&self, name: &str) -> Option<String>;

    /// The content of a file.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// The name of this host, the default of `instance.name`.
    fn host_name(&self) -> String;
}

/// The real one.
#[derive(Clone, Copy, Debug, Default)]
pub struct System;

impl World for System {
    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        std::fs::File::open(path)?
            .take(FILE_BYTES_MAX + 1)
            .read_to_end(&mut content)?;
        if content.len() as u64 > FILE_BYTES_MAX {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                "larger than 1 MiB",
            ));
        }
        Ok(content)
    }

    fn host_name(&self) -> String {
        rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned()
    }
}
