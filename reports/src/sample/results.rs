//! What a harness could have found.

use std::collections::BTreeMap;

use super::{CREATED, engines, environment};
use crate::{
    CallCount, CallEnd, Damage, EventKind, FaultInfo, FaultRow, Finding, MutantRow, PlanInfo, PlanSize, Report, RunInfo, ScenarioInfo,
    Timeline, TimelineCall, TimelineEvent, TripRow, VERSION, Verdict,
};

fn scenario(name: &str, title: &str, faults: &[&str], source: &str, story: &str) -> ScenarioInfo {
    ScenarioInfo {
        name: name.to_owned(),
        title: title.to_owned(),
        source: source.to_owned(),
        story: story.to_owned(),
        faults: faults.iter().map(|&name| name.to_owned()).collect(),
        profile: "nfs4".to_owned(),
        hosts: 2,
        procs: 2,
    }
}

fn scenarios() -> Vec<ScenarioInfo> {
    vec![
        scenario("two-hosts", "Two hosts, nothing goes wrong", &[], "python-diskcache #345", "Two hosts write and read the same keys."),
        scenario(
            "lost-replies",
            "Replies are lost",
            &["N7"],
            "link(2), BUGS: the reply of a link that was made is lost",
            "The server does what it was asked, the reply is lost, and the host asks again: it hears that the name exists, though it made it.",
        ),
        scenario(
            "server-restart",
            "The server restarts",
            &["N12", "N20"],
            "nfs(5), close-to-open",
            "The server loses what was not stable, and its locks; the hosts reclaim them, or are too late.",
        ),
        scenario(
            "mixed",
            "Everything at once",
            &["N7", "N9", "N12", "N14", "N16", "U5", "U7"],
            "a bad day: a soft mount, a full drive, restarts, kills",
            "Two hosts; lost replies, soft errors, late write errors, stale handles, restarts, partitions and kills, each now and then.",
        ),
        scenario(
            "late-write-error",
            "A write fails after it was answered",
            &["N14"],
            "fsync(2), errors are told once",
            "Errors come at close.",
        ),
    ]
}

fn faults() -> Vec<FaultInfo> {
    let rows = [
        ("N7", "repeated request", "the reply is lost and the server carries the request out again"),
        ("N9", "soft timeout", "an error is answered; the request took effect, or not, or later"),
        ("N12", "power cut", "server and host lose what was not synced"),
        ("N14", "late write error", "the write is accepted, its flush fails, and the error is told once"),
        ("N16", "stale handle", "every operation on a handle fails (ESTALE)"),
        ("N20", "lost lease", "locks are lost with the lease and granted elsewhere"),
        ("U5", "kill", "a process is killed at any instruction"),
        ("U7", "partition", "host and server are cut off from each other"),
    ];
    let info = |(name, title, meaning): (&str, &str, &str)| FaultInfo {
        name: name.to_owned(),
        title: title.to_owned(),
        meaning: meaning.to_owned(),
    };
    rows.into_iter().map(info).collect()
}

fn replay(scenario: &str, engine: &str, seed: u64) -> String {
    format!("./ci/validate replay --scenario {scenario} --engine {engine} --seed {seed}")
}

fn run(scenario: &str, engine: &str, seed: u64, verdict: Verdict) -> RunInfo {
    RunInfo {
        scenario: scenario.to_owned(),
        engine: engine.to_owned(),
        seed,
        verdict,
        answered: 2514 + seed,
        unanswered: 3,
        by_host: BTreeMap::from([("host-a".to_owned(), 1300 + seed), ("host-b".to_owned(), 1214)]),
        seconds: 5.25,
        replay: replay(scenario, engine, seed),
        front: if engine == "ours" { "process" } else { "fuse" }.to_owned(),
        hash: (engine == "ours").then(|| format!("{:016x}", 0x5eed_0000_0000_0000_u64 + seed)),
        ..RunInfo::default()
    }
}

fn damage(what: &str, count: u64, example: &str) -> Damage {
    Damage { what: what.to_owned(), count, examples: vec![example.to_owned()] }
}

fn fault(name: &str, operation: &str, [planned, fired, observable]: [u64; 3], required: bool) -> FaultRow {
    FaultRow { name: name.to_owned(), operation: operation.to_owned(), planned, fired, observable, required }
}

fn call(process: &str, text: &str, answer: &str, times: (u64, Option<u64>), end: CallEnd) -> TimelineCall {
    TimelineCall {
        host: process.split('.').next().unwrap_or_default().to_owned(),
        process: process.to_owned(),
        call: text.to_owned(),
        answer: answer.to_owned(),
        end,
        start_us: times.0,
        end_us: times.1,
        ..TimelineCall::default()
    }
}

fn event(kind: EventKind, name: &str, text: &str, at_us: u64, host: Option<&str>) -> TimelineEvent {
    TimelineEvent { at_us, kind, name: name.to_owned(), text: text.to_owned(), host: host.map(str::to_owned), ..TimelineEvent::default() }
}

fn timeline() -> Timeline {
    let mut calls = vec![
        call("host-a.1", "set key/3 = 17", "ok", (1_200_000, Some(1_204_100)), CallEnd::Ok),
        call("host-b.2", "get key/3", "value 17 of host-a.1", (1_260_000, Some(1_260_900)), CallEnd::Ok),
        call("host-a.1", "set key/3 = 18", "ok", (1_410_000, Some(1_431_000)), CallEnd::Ok),
        call("host-a.3", "delete key/3", "OSError: EIO", (1_425_000, Some(1_440_000)), CallEnd::Info),
        call("host-b.2", "incr counter/1", "Locked: nothing was done", (1_433_000, Some(1_434_000)), CallEnd::Fail),
        call("host-b.4", "set key/3 = 5", "", (1_600_000, None), CallEnd::Hung),
        call("host-b.2", "get key/3", "value 17 of host-a.1", (62_000_000, Some(62_003_000)), CallEnd::Ok),
    ];
    calls[2].faults = vec!["N7".to_owned()];
    calls[6].wrong = true;
    let mut cut = event(EventKind::Partition, "U7", "host-b is cut off", 1_590_000, Some("host-b"));
    cut.until_us = Some(61_000_000);
    let mut kill = event(EventKind::Kill, "U5", "killed", 1_450_000, Some("host-a"));
    kill.process = Some("host-a.3".to_owned());
    Timeline {
        subject: "key/3".to_owned(),
        virtual_time: true,
        calls,
        events: vec![
            event(EventKind::Fault, "N7", "the reply of WRITE cache.db-wal is lost", 1_415_000, Some("host-a")),
            kill,
            event(EventKind::Restart, "N12", "the server restarts; 12 kB that were not stable are lost", 1_500_000, None),
            cut,
            event(EventKind::Heal, "", "everything works again", 61_500_000, None),
        ],
        left_out: 2507,
    }
}

fn plan() -> PlanInfo {
    let text = "[[fault]]\nname = \"N7\"\nhost = \"host-a\"\nop = [\"WRITE\"]\nskip = 40\ncount = 1\n\n[[event]]\nat_ms = 1500\n\
                action = { do = \"restart\", loss = \"all\" }\n";
    PlanInfo {
        text: text.to_owned(),
        file: Some("plans/mixed.diskcache.1.toml".to_owned()),
        size: PlanSize { hosts: 2, operations: 14, faults: 2 },
        before: Some(PlanSize { hosts: 2, operations: 2514, faults: 9 }),
    }
}

/// A run with everything that a failure can say of itself.
fn detailed() -> RunInfo {
    RunInfo {
        damage: vec![
            damage(
                "acknowledged data lost",
                17,
                "key/3: host-b.2 on host-b read value 17 of host-a.1, but value 18 was acknowledged 60,569 ms before",
            ),
            damage("database malformed", 1, "check by host-fresh.9: database disk image is malformed <page 14>"),
            damage("hung", 2, "set by host-b.4 on host-b: no answer after 12 s"),
        ],
        findings: vec![
            Finding {
                what: "acknowledged data lost".to_owned(),
                subject: "key/3".to_owned(),
                expected: "value 18 of host-a.1, acknowledged at 1.431 s, or nothing (the delete by host-a.3 is uncertain)".to_owned(),
                observed: "value 17 of host-a.1, which value 18 had replaced".to_owned(),
                host: "host-b".to_owned(),
                process: "host-b.2".to_owned(),
                at_us: Some(62_003_000),
            },
            Finding {
                what: "hung".to_owned(),
                subject: "set key/3 = 5".to_owned(),
                expected: "an answer or an error within 12 s".to_owned(),
                observed: "nothing, ever".to_owned(),
                host: "host-b".to_owned(),
                process: "host-b.4".to_owned(),
                at_us: Some(1_600_000),
            },
            Finding {
                what: "hung".to_owned(),
                observed: "get key/9 by host-b.4 on host-b: no answer after 12 s".to_owned(),
                process: "host-b.4".to_owned(),
                ..Finding::default()
            },
        ],
        faults: vec![
            fault("N7", "", [1, 9, 8], true),
            fault("N7", "WRITE", [1, 7, 6], false),
            fault("N7", "LINK", [1, 2, 2], false),
            fault("N9", "", [1, 3, 0], true),
            fault("N9", "LOCK", [1, 3, 0], false),
            fault("N12", "", [2, 2, 1], false),
            fault("U5", "", [4, 4, 4], false),
            fault("U7", "", [2, 2, 2], false),
        ],
        operations: BTreeMap::from([
            ("get".to_owned(), CallCount { answered: 1730, failed: 0, open: 1 }),
            ("set".to_owned(), CallCount { answered: 610, failed: 4, open: 2 }),
            ("incr".to_owned(), CallCount { answered: 175, failed: 1, open: 0 }),
        ]),
        plan: Some(plan()),
        timeline: Some(timeline()),
        ..run("mixed", "diskcache", 1, Verdict::Damaged)
    }
}

fn runs() -> Vec<RunInfo> {
    let with = |mut run: RunInfo, what: Vec<Damage>| {
        run.damage = what;
        run
    };
    let mut runs: Vec<RunInfo> = (1..=3).map(|seed| run("two-hosts", "ours", seed, Verdict::Sound)).collect();
    for scenario in ["lost-replies", "server-restart", "mixed", "late-write-error"] {
        runs.extend(
            (1..=3).map(|seed| RunInfo {
                faults: vec![fault("N7", "LINK", [1, 21, 20], true)],
                ..run(scenario, "ours", seed, Verdict::Sound)
            }),
        );
    }
    let stale = damage("stale read", 4, "key/7: host-a.1 on host-a read nothing, but value 3 was acknowledged 12 ms before");
    runs.push(with(run("two-hosts", "diskcache", 1, Verdict::Damaged), vec![stale.clone()]));
    runs.push(RunInfo { faults: vec![fault("N7", "WRITE", [1, 12, 9], true)], ..run("lost-replies", "diskcache", 1, Verdict::Sound) });
    let unknown = "the search for an order gave up after 30 s; no violation was found before";
    runs.push(RunInfo { error: Some(unknown.to_owned()), ..run("server-restart", "diskcache", 1, Verdict::Unknown) });
    runs.push(detailed());
    let torn = damage(
        "torn or foreign value",
        1,
        "key/1: host-b.2 on host-b read 4096 bytes, of which <script>alert(1)</script> & the rest are zero",
    );
    runs.push(with(run("late-write-error", "diskcache", 1, Verdict::Damaged), vec![torn, stale]));
    runs.push(run("two-hosts", "diskcache-delete", 1, Verdict::Sound));
    let refused = "a worker could not be started: No module named 'diskcache'";
    runs.push(RunInfo {
        error: Some(refused.to_owned()),
        answered: 0,
        unanswered: 0,
        by_host: BTreeMap::new(),
        ..run("lost-replies", "diskcache-delete", 1, Verdict::NotRun)
    });
    runs.push(with(
        run("mixed", "diskcache-delete", 1, Verdict::Damaged),
        vec![damage("hung", 1, "get by host-a.1 on host-a: no answer after 12 s")],
    ));
    runs
}

fn mutants() -> Vec<MutantRow> {
    let row = |name: &str, title: &str, by: &[&str]| MutantRow {
        name: name.to_owned(),
        title: title.to_owned(),
        caught_by: by.iter().map(|&name| name.to_owned()).collect(),
        replay: format!("./ci/validate mutants --only {name}"),
    };
    vec![
        row("skip-fsync", "acknowledges without fsync", &["server-restart", "mixed"]),
        row("no-checksum", "believes every byte", &["late-write-error"]),
        row("retry-fsync", "tries a failed fsync again", &[]),
    ]
}

fn trips() -> Vec<TripRow> {
    let row = |engine: &str, operation: &str, trips: f64, limit: Option<f64>| TripRow {
        engine: engine.to_owned(),
        operation: operation.to_owned(),
        trips,
        with_lookups: if operation == "set, 128 B" { trips + 1.0 } else { trips },
        kinds: BTreeMap::from([("GETATTR".to_owned(), 1.0), ("WRITE".to_owned(), trips - 1.0)]),
        limit,
    };
    vec![
        row("ours", "set, 128 B", 5.0, Some(8.0)),
        row("diskcache", "set, 128 B", 15.0, None),
        row("ours", "get, hit", 1.0, Some(1.0)),
        row("diskcache", "get, hit", 4.0, None),
        row("ours", "open", 31.0, Some(25.0)),
    ]
}

/// The whole.
pub(crate) fn report() -> Report {
    Report {
        version: VERSION,
        created: CREATED.to_owned(),
        command: "./ci/validate run --all --seeds 3".to_owned(),
        environment: environment(),
        engines: engines(),
        scenarios: scenarios(),
        runs: runs(),
        trips: trips(),
        faults: faults(),
        mutants: mutants(),
    }
}
