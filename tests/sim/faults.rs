//! What is done to the tier.

use crate::instance::endpoint;
use crate::world::{Behaviour, Event, World};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tidegate::logic::push_schedule::Push;
use tidegate::logic::record::Phase;

/// A client waits 10 s at most, and comes back within 5 s; twice, as it may have been sent to a silent endpoint.
const SETTLING_MAX: Duration = Duration::from_secs(60);

impl World {
    /// Starts the process of an instance.
    pub(crate) fn start(&mut self, index: usize) {
        let (setup, now) = (&self.setup, self.now);
        self.instances[index].start(setup, now, &mut self.rng);
        self.resolve(index);
        if self.setup.peers {
            let start = self.instances[index].starts;
            let delay = self.random_us(0..20_000);
            self.after(
                delay,
                Event::Round {
                    instance: index,
                    start,
                },
            );
        }
        self.follow(index);
    }

    /// Kills an instance. Its clients come back.
    pub(crate) fn kill(&mut self, index: usize) {
        let Some(process) = self.instances[index].process.take() else {
            return;
        };
        for _ in process.waiting {
            self.clients.away -= 1;
            self.come_back();
        }
        for at in self
            .clients
            .among(|connection| connection.instance == index)
        {
            self.clients.remove(at);
            self.come_back();
        }
    }

    /// Stops an instance: it says goodbye. Its clients come back.
    pub(crate) fn stop(&mut self, index: usize) {
        let Some((process, now)) = self.process(index) else {
            return;
        };
        process.speech.phase = Phase::Gone;
        let drains = Arc::clone(process.table.drains());
        let facts = process.facts(now);
        let goodbye = process.speech.push(Push::All, facts, &drains, now);
        let targets = process.push_targets();
        if let Some(update) = goodbye.map(Rc::new) {
            for to in targets {
                let update = Rc::clone(&update);
                self.send(index, to, Event::Update { to, update });
            }
        }
        self.kill(index);
    }

    /// An endpoint behaves otherwise from now on. A dead one loses its connections, within a few milliseconds.
    pub(crate) fn behave(&mut self, index: usize, behaviour: Behaviour) {
        self.behaviours[index] = behaviour;
        if behaviour != Behaviour::Dead {
            return;
        }
        for at in self
            .clients
            .among(|connection| connection.endpoint == index)
        {
            if let Some(serial) = self.serial(at) {
                let delay = self.random_us(0..5000);
                let close = Event::Close {
                    connection: at,
                    serial,
                };
                self.after(delay, close);
            }
        }
    }

    /// Instances named here do not hear the others, and are not heard.
    pub(crate) fn partition(&mut self, apart: &[usize]) {
        let sides = (0..self.instances.len()).map(|index| u8::from(apart.contains(&index)));
        self.network.sides = sides.collect();
    }

    pub(crate) fn heal(&mut self) {
        self.network.sides.clear();
    }

    /// DNS on one instance answers with or without an endpoint from now on.
    pub(crate) fn answer_with(&mut self, instance: usize, index: usize, present: bool) {
        let resolved = &mut self.instances[instance].resolved;
        if present {
            resolved.insert(index);
        } else if resolved.len() > 1 {
            resolved.remove(&index);
        }
        self.resolve(instance);
    }

    /// An operator's word, said on one instance.
    pub(crate) fn drain(&mut self, instance: usize, index: usize, drain: bool) {
        let wall_ms = self.instances[instance].clock.wall_ms(self.now);
        if let Some((process, now)) = self.process(instance) {
            process.say_drain(endpoint(index), drain, wall_ms, now);
        }
        self.read_view(instance);
    }

    /// Nothing is broken any more, everything runs; waits until all have heard of it.
    pub(crate) fn settle(&mut self) {
        self.heal();
        self.network.loss = 0.0;
        for index in 0..self.behaviours.len() {
            self.behave(index, Behaviour::Healthy);
        }
        for index in 0..self.instances.len() {
            self.instances[index].resolved = (0..self.setup.endpoints).collect();
            if self.instances[index].process.is_none() {
                self.start(index);
            } else {
                self.resolve(index);
            }
        }
        // Over the longest detection of a death, so that all hear the operator.
        self.run_for(Duration::from_secs(3));
        for index in 0..self.setup.endpoints {
            self.drain(0, index, false);
        }
        let end = self.now + SETTLING_MAX;
        while self.clients.away > 0 && self.now < end {
            self.run_for(Duration::from_millis(100));
        }
        // Repairs and rounds of gossip.
        self.run_for(Duration::from_secs(2));
    }
}
