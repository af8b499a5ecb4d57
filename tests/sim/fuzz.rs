//! Random faults on a small tier, every invariant after every event, agreement at the end.

use crate::world::{Behaviour, Setup, World};
use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

/// Seeds that CI runs.
const SEEDS: u64 = 256;

/// Things that are done in one run.
const STEPS: u32 = 40;

/// One thing that is done to the tier.
#[derive(Clone, Copy, Debug)]
enum Action {
    Connect(u32),
    Close(u32),
    Behave(usize, Behaviour),
    Drain {
        said_by: usize,
        endpoint: usize,
        drain: bool,
    },
    Partition(usize),
    Heal,
    Kill(usize),
    Stop(usize),
    Start(usize),
    Lose(f64),
    Flap {
        at: usize,
        endpoint: usize,
        present: bool,
    },
    SetWallClock {
        of: usize,
        ahead_ms: i64,
    },
}

fn action(world: &mut World) -> Action {
    let instance = world.rng.usize(..world.instances.len());
    let endpoint = world.rng.usize(..world.behaviours.len());
    let rng = &mut world.rng;
    match rng.u32(..100) {
        0..30 => Action::Connect(rng.u32(1..60)),
        30..48 => Action::Close(rng.u32(1..40)),
        48..60 => {
            let behaviours = [
                Behaviour::Healthy,
                Behaviour::Healthy,
                Behaviour::Dead,
                Behaviour::Silent,
                Behaviour::Full,
                Behaviour::Evacuating,
            ];
            Action::Behave(endpoint, behaviours[rng.usize(..behaviours.len())])
        }
        60..67 => Action::Drain {
            said_by: instance,
            endpoint,
            drain: rng.bool(),
        },
        67..72 => Action::Partition(instance),
        72..77 => Action::Heal,
        77..80 => Action::Kill(instance),
        80..82 => Action::Stop(instance),
        82..87 => Action::Start(instance),
        87..91 => Action::Lose(if rng.bool() { 0.0 } else { rng.f64() * 0.5 }),
        91..97 => Action::Flap {
            at: instance,
            endpoint,
            present: rng.bool(),
        },
        _ => Action::SetWallClock {
            of: instance,
            ahead_ms: rng.i64(-600_000..600_000),
        },
    }
}

fn act(world: &mut World, action: Action) {
    match action {
        Action::Connect(count) => (0..count).for_each(|_| world.connect_anywhere()),
        Action::Close(count) => (0..count).for_each(|_| world.close_one()),
        Action::Behave(endpoint, behaviour) => world.behave(endpoint, behaviour),
        Action::Drain {
            said_by,
            endpoint,
            drain,
        } => world.drain(said_by, endpoint, drain),
        Action::Partition(instance) => world.partition(&[instance]),
        Action::Heal => world.heal(),
        Action::Kill(instance) => world.kill(instance),
        Action::Stop(instance) => world.stop(instance),
        Action::Start(instance) if world.instances[instance].process.is_none() => {
            world.start(instance);
        }
        Action::Start(_) => {}
        Action::Lose(share) => world.network.loss = share,
        Action::Flap {
            at,
            endpoint,
            present,
        } => world.answer_with(at, endpoint, present),
        Action::SetWallClock { of, ahead_ms } => {
            world.instances[of].clock.wall_ahead_ms = ahead_ms;
        }
    }
    world.check();
}

/// The settings of a run, from its seed.
fn setup(seed: u64) -> Setup {
    let mut rng = fastrand::Rng::with_seed(seed ^ 0x7469_6465);
    let mut setup = Setup::new(rng.usize(1..=5), rng.usize(1..=6), seed);
    setup.strict = true;
    setup.connack_timeout = Duration::from_secs(rng.u64(1..=5));
    setup.picker.join_rate = [0, 20, 1000][rng.usize(..3)];
    setup.picker.pending_max = [1, 8, 64, 64][rng.usize(..4)];
    setup
}

fn run(seed: u64, log: &mut String) -> World {
    let mut world = World::new(setup(seed));
    for _ in 0..STEPS {
        let action = action(&mut world);
        writeln!(log, "{:>10.6} {action:?}", world.now.as_secs_f64()).expect("a string takes all");
        act(&mut world, action);
        let pause = world.random_us(0..250_000);
        world.run_for(pause);
    }
    writeln!(log, "{:>10.6} settle", world.now.as_secs_f64()).expect("a string takes all");
    world.settle();
    world.check_agreement();
    world
}

fn number(variable: &str) -> Option<u64> {
    let value = std::env::var(variable).ok()?;
    Some(value.parse().expect("TIDEGATE_SIM_* are numbers"))
}

#[test]
fn random_faults_break_no_invariant() {
    let seeds = match number("TIDEGATE_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("TIDEGATE_SIM_SEEDS").unwrap_or(SEEDS),
    };
    let many = seeds.end - seeds.start >= SEEDS;
    let (mut failed, mut refused, mut events) = (0, 0, 0);
    for seed in seeds {
        let mut log = String::new();
        match catch_unwind(AssertUnwindSafe(|| run(seed, &mut log))) {
            Ok(world) => {
                failed += world.clients.failed;
                refused += world.clients.refused;
                events += world.events;
            }
            Err(cause) => {
                println!("{log}");
                println!("seed {seed} failed; replay it with:");
                println!("TIDEGATE_SIM_SEED={seed} cargo test --test sim random_faults");
                resume_unwind(cause);
            }
        }
    }
    println!("{events} events, {failed} failed connects, {refused} clients sent away");
    // Otherwise the faults do nothing.
    assert!(!many || failed > 5000, "{failed} failed connects");
    assert!(!many || refused > 1000, "{refused} clients sent away");
}

#[test]
fn a_seed_is_a_run() {
    for seed in [3, 4] {
        let events = || {
            let mut world = World::new(setup(seed));
            for _ in 0..20 {
                let action = action(&mut world);
                act(&mut world, action);
                let pause = world.random_us(0..250_000);
                world.run_for(pause);
            }
            (world.events, world.now, world.clients.totals)
        };
        assert_eq!(events(), events(), "seed {seed}");
    }
}
