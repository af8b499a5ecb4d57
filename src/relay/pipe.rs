//! Bulk transfer between two plain sockets: the kernel moves references to pages through a pipe, and nobody copies bytes.
//!
//! Half of the CPU of copying them, and less (docs/performance.md). Small messages gain nothing: two system calls become two
//! others, and a pipe is two file descriptors. So a direction gets one after some full reads in a row, and gives it back when
//! its source has nothing more; a worker has a few for all of its connections, and who finds none copies on.

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use std::cell::RefCell;
use std::io;
use std::os::fd::OwnedFd;
use std::task::{Context, Poll, ready};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// What a pipe takes; as much is kept for a peer that is slow. 256 KiB costs 60 % more CPU. It is what the kernel gives without
/// privileges (`fs.pipe-max-size`), to 64 pipes of a user (`fs.pipe-user-pages-soft`); the others are not worth their calls.
pub(super) const CAPACITY: usize = 1024 * 1024;

/// Pipes of an instance, lent and waiting. Their descriptors come out of the 256 that `max_connections` leaves to others.
pub(super) const PIPES_MAX: usize = 64;

/// Pipes of one worker.
pub(super) const WORKER_PIPES_MAX: usize = 16;

#[derive(Default)]
struct Stock {
    waiting: Vec<(OwnedFd, OwnedFd)>,
    lent: usize,
    /// The system gives no more, or does not splice: not asked again.
    refused: bool,
}

thread_local! {
    static STOCK: RefCell<Stock> = RefCell::default();
}

/// A pipe that is lent to one direction of one connection.
#[derive(Debug)]
pub(super) struct Pipe {
    /// `None` only inside of the drop.
    ends: Option<(OwnedFd, OwnedFd)>,
    inside: usize,
}

impl Pipe {
    /// `None`: all are lent, or the system has no more.
    pub(super) fn lend(max: usize) -> Option<Self> {
        STOCK.with_borrow_mut(|stock| {
            if stock.lent >= max {
                return None;
            }
            let ends = match stock.waiting.pop() {
                Some(ends) => ends,
                None if stock.refused => return None,
                None => open().inspect_err(|_| stock.refused = true).ok()?,
            };
            stock.lent += 1;
            Some(Self {
                ends: Some(ends),
                inside: 0,
            })
        })
    }

    /// Bytes that the target has not taken.
    pub(super) const fn inside(&self) -> usize {
        self.inside
    }

    /// Ready when nothing is inside.
    pub(super) fn poll_drain(
        &mut self,
        cx: &mut Context<'_>,
        target: &TcpStream,
    ) -> Poll<io::Result<()>> {
        let Some((read_end, _)) = &self.ends else {
            return Poll::Ready(Ok(()));
        };
        while self.inside > 0 {
            ready!(target.poll_write_ready(cx))?;
            let moved = target.try_io(Interest::WRITABLE, || {
                Ok(splice(read_end, None, target, None, self.inside, flags())?)
            });
            match moved {
                // Never seen; the loop must end all the same.
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(moved) => self.inside -= moved,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Fills an empty pipe from `source` and says with how much. `None`: nothing that can be spliced, and only a read tells
    /// whether that is the end, nothing yet, or something else (urgent data, a sandbox without splice).
    pub(super) fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        source: &TcpStream,
    ) -> Poll<io::Result<Option<usize>>> {
        debug_assert_eq!(
            self.inside, 0,
            "a full pipe and an empty source look the same"
        );
        let Some((_, write_end)) = &self.ends else {
            return Poll::Pending;
        };
        ready!(source.poll_read_ready(cx))?;
        // "Nothing" must not clear the readiness: the read that follows does.
        let moved = source.try_io(Interest::READABLE, || {
            match splice(source, None, write_end, None, CAPACITY, flags()) {
                Ok(0) | Err(Errno::AGAIN) => Ok(None),
                Ok(moved) => Ok(Some(moved)),
                Err(Errno::NOSYS | Errno::PERM | Errno::INVAL | Errno::OPNOTSUPP) => {
                    refuse();
                    Ok(None)
                }
                Err(error) => Err(error.into()),
            }
        });
        match moved {
            Ok(moved) => {
                self.inside = moved.unwrap_or(0);
                Poll::Ready(Ok(moved))
            }
            // Somebody has cleared the readiness since we looked.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Ready(Ok(None)),
            Err(error) => Poll::Ready(Err(error)),
        }
    }
}

/// Never again on this thread.
fn refuse() {
    STOCK.with_borrow_mut(|stock| {
        stock.refused = true;
        stock.waiting.clear();
    });
}

impl Drop for Pipe {
    fn drop(&mut self) {
        // The thread may be at its end, and its stock gone.
        let _gone = STOCK.try_with(|stock| {
            let mut stock = stock.borrow_mut();
            stock.lent = stock.lent.saturating_sub(1);
            // With bytes inside, whose connection has broken, it is closed.
            if self.inside == 0 && !stock.refused {
                stock.waiting.extend(self.ends.take());
            }
        });
    }
}

fn open() -> io::Result<(OwnedFd, OwnedFd)> {
    let ends = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
    fcntl_setpipe_size(&ends.1, CAPACITY)?;
    Ok(ends)
}

fn flags() -> SpliceFlags {
    SpliceFlags::MOVE | SpliceFlags::NONBLOCK
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_has_a_few_and_an_empty_one_is_lent_again() {
        std::thread::spawn(|| {
            let mut all: Vec<_> = std::iter::from_fn(|| Pipe::lend(5)).collect();
            assert_eq!(all.len(), 5);
            all.pop();
            let again = Pipe::lend(5);
            assert!(again.is_some());
            assert!(Pipe::lend(5).is_none());
            // One that something is in belongs to nobody else.
            let mut last = all.pop().unwrap();
            last.inside = 1;
            drop(last);
            assert_eq!(STOCK.with_borrow(|stock| stock.waiting.len()), 0);
            drop((all, again));
            assert_eq!(STOCK.with_borrow(|stock| stock.lent), 0);
            assert_eq!(STOCK.with_borrow(|stock| stock.waiting.len()), 4);
            refuse();
            assert!(Pipe::lend(5).is_none());
        })
        .join()
        .unwrap();
    }
}
