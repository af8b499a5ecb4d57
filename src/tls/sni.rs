//! The server name of the handshake that is running on this thread.
//!
//! rustls' unbuffered connection has no accessor for SNI. It asks the certificate resolver, synchronously, in the call
//! that processes the `ClientHello`: what the resolver leaves here is taken by the stream right after that call.

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::cell::RefCell;
use std::sync::Arc;

thread_local! {
    static LAST: RefCell<Option<Box<str>>> = const { RefCell::new(None) };
}

/// Takes the name that the last `ClientHello` on this thread asked for.
pub(super) fn take() -> Option<Box<str>> {
    LAST.with(|last| last.borrow_mut().take())
}

/// Answers every name with one certificate and notes the name.
#[derive(Debug)]
pub(super) struct NotingResolver {
    key: Arc<CertifiedKey>,
}

impl NotingResolver {
    pub(super) const fn new(key: Arc<CertifiedKey>) -> Self {
        Self { key }
    }
}

impl ResolvesServerCert for NotingResolver {
    fn resolve(&self, client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        LAST.with(|last| *last.borrow_mut() = client_hello.server_name().map(Box::from));
        Some(Arc::clone(&self.key))
    }
}
