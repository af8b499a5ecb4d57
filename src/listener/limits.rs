//! Who may come in: the instance's limit holds accept back, a listener's limits accept and close.

use super::settings::Settings;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::logic::close_reason::CloseReason;

/// The limits of one listener; shared by the workers.
#[derive(Debug)]
pub struct Gate {
    instance: Arc<Semaphore>,
    connections: AtomicU32,
    connections_max: u32,
    addresses: Mutex<HashMap<IpAddr, u32>>,
    per_address_max: Option<u32>,
}

impl Gate {
    /// `instance` is the limit that all listeners share.
    pub fn new(settings: &Settings, instance: Arc<Semaphore>) -> Arc<Self> {
        Arc::new(Self {
            instance,
            connections: AtomicU32::new(0),
            connections_max: settings.max_connections.unwrap_or(u32::MAX),
            addresses: Mutex::default(),
            per_address_max: settings.max_connections_per_address,
        })
    }

    /// Waits for room in the instance: while there is none, clients wait in the kernel's queue. Cancel-safe.
    pub(super) async fn room(&self) -> OwnedSemaphorePermit {
        Arc::clone(&self.instance)
            .acquire_owned()
            .await
            .expect("the semaphore is never closed")
    }

    /// Lets an accepted connection in, or says which limit it breaks.
    pub(super) fn admit(
        self: &Arc<Self>,
        client: IpAddr,
        room: OwnedSemaphorePermit,
    ) -> Result<Pass, CloseReason> {
        if self.connections.fetch_add(1, Relaxed) >= self.connections_max {
            self.connections.fetch_sub(1, Relaxed);
            return Err(CloseReason::ConnectionLimit);
        }
        let mut pass = Pass {
            gate: Arc::clone(self),
            client: None,
            _room: room,
        };
        if let Some(max) = self.per_address_max {
            let mut addresses = self.addresses();
            let count = addresses.entry(client).or_insert(0);
            if *count >= max {
                return Err(CloseReason::AddressLimit);
            }
            *count += 1;
            drop(addresses);
            pass.client = Some(client);
        }
        Ok(pass)
    }

    fn addresses(&self) -> MutexGuard<'_, HashMap<IpAddr, u32>> {
        self.addresses
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// One admitted connection; its drop makes room.
#[derive(Debug)]
pub(super) struct Pass {
    gate: Arc<Gate>,
    /// Counted per address.
    client: Option<IpAddr>,
    _room: OwnedSemaphorePermit,
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.gate.connections.fetch_sub(1, Relaxed);
        if let Some(client) = self.client
            && let Entry::Occupied(mut entry) = self.gate.addresses().entry(client)
        {
            *entry.get_mut() -= 1;
            // The table holds addresses that are connected now: it cannot outgrow the connection limit.
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(connections: Option<u32>, per_address: Option<u32>) -> Arc<Gate> {
        Arc::new(Gate {
            instance: Arc::new(Semaphore::new(10)),
            connections: AtomicU32::new(0),
            connections_max: connections.unwrap_or(u32::MAX),
            addresses: Mutex::default(),
            per_address_max: per_address,
        })
    }

    fn admit(gate: &Arc<Gate>, client: &str) -> Result<Pass, CloseReason> {
        let room = Arc::clone(&gate.instance).try_acquire_owned().unwrap();
        gate.admit(client.parse().unwrap(), room)
    }

    #[test]
    fn limits_are_per_listener_and_per_address_and_a_close_makes_room() {
        let gate = gate(Some(3), Some(2));
        let first = admit(&gate, "127.0.0.1").unwrap();
        let _second = admit(&gate, "127.0.0.1").unwrap();
        assert_eq!(
            admit(&gate, "127.0.0.1").unwrap_err(),
            CloseReason::AddressLimit
        );
        let _third = admit(&gate, "127.0.0.2").unwrap();
        assert_eq!(
            admit(&gate, "127.0.0.3").unwrap_err(),
            CloseReason::ConnectionLimit
        );
        drop(first);
        let _fourth = admit(&gate, "127.0.0.1").unwrap();
        assert_eq!(gate.instance.available_permits(), 7);
    }

    #[test]
    fn addresses_that_left_are_forgotten() {
        let gate = gate(None, Some(1));
        for last in 1..=100 {
            drop(admit(&gate, &format!("127.0.0.{last}")).unwrap());
        }
        assert!(gate.addresses().is_empty());
        assert_eq!(gate.connections.load(Relaxed), 0);
    }
}
