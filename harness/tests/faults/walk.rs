//! Random walks over drives of every kind with faults of the whole catalogue armed: nothing panics, nothing hangs, and a walk is the
//! same each time.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use harness::drive::catalogue::CATALOGUE;
use harness::drive::handle::OpenFlags;
use harness::drive::locks::LockKind;
use harness::drive::rng::Rng;
use harness::drive::{Clock, Drive, DriveHandle, Fault, FaultCount, Loss, Profile};

use crate::stage::{ALL, SECOND, get, rw};

/// What a walk comes to: its answers as one number, the clock, the requests, the counts of faults, and what would be drawn next.
type Marks = (u64, u64, u64, Vec<(String, FaultCount)>, u64);

fn plan(drive: &mut Drive, rng: &mut Rng) {
    for entry in CATALOGUE {
        // A few at a time, or they are in each other's way.
        if !rng.chance(0.2) {
            continue;
        }
        let phase = entry.phases[rng.below(entry.phases.len() as u64) as usize];
        let fault = Fault {
            phase: Some(phase),
            probability: 0.15,
            count: 0,
            delay_ms: 1 + rng.below(300),
            jitter_ms: rng.below(50),
            offset_ms: rng.below(2_000) as i64 - 1_000,
            skip: rng.below(3),
            ..Fault::named(entry.id)
        };
        drive.add_fault(fault).unwrap();
        if entry.is_event() {
            let fault = Fault { at_ms: Some(rng.below(60_000)), every_ms: Some(40_000), count: 0, delay_ms: 200, ..Fault::named(entry.id) };
            drive.add_fault(fault).unwrap();
        }
    }
}

fn step(host: &DriveHandle, rng: &mut Rng, held: &mut Vec<u64>) -> String {
    let mut path = || format!("{}f{}", ["", "d/", "D/"][rng.below(3) as usize], rng.below(6));
    let (one, two) = (path(), path());
    match rng.below(16) {
        0 => format!("{:?}", host.link(&one, &two)),
        1 => format!("{:?}", host.unlink(&one)),
        2 => format!("{:?}", host.rename(&one, &two)),
        3 => format!("{:?}", get(host, &one)),
        4 => format!("{:?}", host.readdir("/")),
        5 => format!("{:?} {:?}", host.mkdir("d", 0o755), host.stat(&one)),
        6 => format!("{:?}", host.drive().restart(Loss::Some)),
        7 => format!("{:?}", host.statfs()),
        8 => {
            let fd = host.open(&one, OpenFlags::creating(), 0o644);
            format!("{:?}", fd.map(|fd| host.close(fd)))
        }
        9 => {
            let fd = host.open(&one, rw(), 0o644);
            format!("{:?}", fd.map(|fd| (host.try_lock(fd, 1, ALL, LockKind::Exclusive), host.unlock(fd, 1, ALL), host.close(fd))))
        }
        // Descriptors that stay open while the other host works.
        10 | 11 => {
            let append = rng.chance(0.3);
            let fd = host.open(&one, OpenFlags { append, ..rw() }, 0o644);
            held.extend(fd);
            let closed = (held.len() > 4).then(|| host.close(held.remove(0)));
            format!("{fd:?} {closed:?}")
        }
        12 | 13 => {
            let at = rng.below(9000);
            let (data, kind) = (vec![rng.below(256) as u8; 1 + rng.below(9000) as usize], LockKind::Exclusive);
            let used = held.iter().map(|&fd| (host.read_at(fd, at, 50), host.try_lock(fd, 1, ALL, kind), host.write_at(fd, at, &data)));
            format!("{:?}", used.collect::<Vec<_>>())
        }
        _ => {
            let append = rng.chance(0.3);
            let fd = host.open(&one, OpenFlags { append, ..rw() }, 0o644);
            let (at, data) = (rng.below(9000), vec![rng.below(256) as u8; 1 + rng.below(9000) as usize]);
            let written = fd.map(|fd| (host.write_at(fd, at, &data), host.read_at(fd, at, 50), host.fsync(fd), host.close(fd)));
            format!("{written:?}")
        }
    }
}

fn walk(profile: &str, seed: u64) -> Marks {
    let profile = Profile { rtt_us: 200, ..Profile::named(profile).unwrap() };
    let drive = Arc::new(Mutex::new(Drive::new(profile, &["host-a", "host-b"], seed, Clock::Virtual(0))));
    let hosts = [DriveHandle::new(Arc::clone(&drive), 0), DriveHandle::new(Arc::clone(&drive), 1)];
    let mut rng = Rng::new(seed ^ 99);
    plan(&mut drive.lock().unwrap(), &mut rng);
    let mut answers = String::new();
    let mut held = [Vec::new(), Vec::new()];
    for _ in 0..80 {
        let host = &hosts[rng.below(2) as usize];
        let began = drive.lock().unwrap().now();
        answers += &step(host, &mut rng, &mut held[host.host()]);
        let mut drive = drive.lock().unwrap();
        // A partition without an end is waited for until the caller's patience is over: ten minutes a call.
        assert!(drive.now() - began <= 20 * 660 * SECOND, "seed {seed}: a step took {} s", (drive.now() - began) / SECOND);
        drive.advance(rng.below(SECOND));
        drive.tick();
    }
    let mut drive = drive.lock().unwrap();
    drive.heal();
    let requests = drive.trips(0).total() + drive.trips(1).total();
    (xxhash_rust::xxh3::xxh3_64(answers.as_bytes()), drive.now(), requests, drive.fault_counts().into_iter().collect(), rng.next_u64())
}

#[test]
fn a_walk_under_every_fault_is_the_same_each_time_on_every_kind_of_drive() {
    let mut seen = BTreeSet::new();
    for name in Profile::names() {
        let walks: Vec<Marks> = (1..=60)
            .map(|seed| {
                let once = walk(name, seed);
                assert_eq!(once, walk(name, seed), "{name}, seed {seed}");
                once
            })
            .collect();
        assert_ne!(walks[0].0, walks[1].0, "{name}: another seed is another walk");
        let counts = walks.into_iter().flat_map(|walk| walk.3);
        seen.extend(counts.filter(|(_, count)| count.observable > 0).map(|(id, _)| id));
    }
    assert!(seen.len() >= 20, "faults are met on such walks: {seen:?}");
}

#[test]
fn a_drive_that_is_healed_is_well_again() {
    for name in Profile::names() {
        let drive = Arc::new(Mutex::new(Drive::new(Profile::named(name).unwrap(), &["host-a", "host-b"], 5, Clock::Virtual(0))));
        let hosts = [DriveHandle::new(Arc::clone(&drive), 0), DriveHandle::new(Arc::clone(&drive), 1)];
        let mut rng = Rng::new(5);
        let mut held = [Vec::new(), Vec::new()];
        plan(&mut drive.lock().unwrap(), &mut rng);
        for at in 0..600 {
            // Whatever it answers.
            let _ = step(&hosts[at % 2], &mut rng, &mut held[at % 2]);
        }
        drive.lock().unwrap().heal();
        // What was under way arrives, hosts that lost power are back, caches expire.
        drive.lock().unwrap().advance(200_000 * SECOND);
        for (number, host) in hosts.iter().enumerate() {
            let path = format!("fresh-{number}");
            let fd = host.open(&path, OpenFlags::creating(), 0o644).unwrap_or_else(|err| panic!("{name}: {err}"));
            host.write_at(fd, 0, b"after all").unwrap();
            host.fsync(fd).unwrap();
            host.close(fd).unwrap();
            drive.lock().unwrap().advance(100 * SECOND);
            assert_eq!(get(&hosts[1 - number], &path).unwrap(), b"after all", "{name}: the other host sees it");
        }
    }
}
