//! How fast engines could have been.

use super::{CREATED, environment};
use crate::bench::{BENCH_VERSION, BenchEngine, BenchId, BenchReport, BenchRow, BenchTarget, Curve, Resource, TailRow};

fn engine(name: &str, title: &str, version: &str, setup: &str) -> BenchEngine {
    BenchEngine {
        name: name.to_owned(),
        title: title.to_owned(),
        version: version.to_owned(),
        ours: name == "ours",
        setup: setup.to_owned(),
    }
}

fn id(group: &str, operation: &str, value_bytes: Option<u64>) -> BenchId {
    BenchId { group: group.to_owned(), operation: operation.to_owned(), value_bytes, durability: "none".to_owned(), ..BenchId::default() }
}

/// Short figures, which JSON gives back as they are.
fn short(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// Rounds around a median, always the same ones.
fn row(id: BenchId, engine: &str, median: f64, unit: &str) -> BenchRow {
    let rounds = (0..12_u32).map(|round| short(median * (1.0 + f64::from(round * 7 % 12) / 60.0 - 5.5 / 60.0))).collect();
    BenchRow {
        criterion: (engine == "ours" && unit == "us").then(|| "criterion/report/index.html".to_owned()),
        id,
        engine: engine.to_owned(),
        rounds,
        unit: unit.to_owned(),
        succeeded: 120_000,
        failed: 0,
    }
}

fn rows() -> Vec<BenchRow> {
    let figures = [
        ("get hit", Some(128), [0.45, 5.1, 0.81]),
        ("get miss", Some(128), [0.31, 6.4, 0.7]),
        ("set new", Some(128), [1.1, 46.0, 1.2]),
        ("delete", Some(128), [0.9, 34.0, 1.1]),
        ("get hit", Some(65_536), [9.5, 21.0, 10.1]),
        ("set new", Some(65_536), [28.0, 155.0, 41.0]),
        ("set new", Some(1_048_576), [412.0, 2010.0, 730.0]),
        ("iterate, a key", None, [0.4, 2.5, 0.2]),
    ];
    let mut rows = Vec::new();
    for (operation, size, medians) in figures {
        for (engine, median) in ["ours", "diskcache", "lmdb"].into_iter().zip(medians) {
            rows.push(row(id("python", operation, size), engine, median, "us"));
        }
    }
    let mixed = BenchId { workers: Some(4), ..id("processes", "90 % get, 9 % set, 1 % delete", Some(128)) };
    rows.push(row(mixed.clone(), "ours", 883_000.0, "1/s"));
    rows.push(row(mixed, "diskcache", 74_200.0, "1/s"));
    // What failed must not look like a speed.
    rows.push(BenchRow { failed: 7, ..row(id("python", "incr", None), "lmdb", 0.5, "us") });
    rows.push(row(id("python", "incr", None), "ours", 0.8, "us"));
    rows
}

fn tails() -> Vec<TailRow> {
    let row = |engine: &str, operation: &str, scale: f64| TailRow {
        mix: "90 % get, 9 % set, 1 % delete; Zipf".to_owned(),
        workers_are: "processes".to_owned(),
        workers: 8,
        engine: engine.to_owned(),
        operation: operation.to_owned(),
        count: 900_000,
        miss: 12_345,
        median_us: scale,
        p90_us: scale * 2.0,
        p99_us: short(scale * 9.0),
        p999_us: scale * 70.0,
        max_us: scale * 4000.0,
        total_s: short(scale * 1.4),
    };
    vec![row("ours", "get", 0.6), row("ours", "set", 4.1), row("diskcache", "get", 12.0), row("diskcache", "set", 110.0)]
}

fn curves() -> Vec<Curve> {
    let sizes = [0.001, 0.01, 0.05, 0.1, 0.5];
    let curve = |trace: &str, policy: &str, hits: [f64; 5]| Curve {
        trace: trace.to_owned(),
        policy: policy.to_owned(),
        points: sizes.into_iter().zip(hits.map(short)).collect(),
    };
    let mut curves = Vec::new();
    for (trace, loss) in [("Zipf 0.9, drifting", 0.0), ("Zipf with scans", 0.11)] {
        curves.push(curve(trace, "optimum", [0.21, 0.42, 0.6, 0.69, 0.9]));
        curves.push(curve(trace, "least-recently-used", [0.08 - loss / 2.0, 0.27 - loss, 0.46 - loss, 0.57 - loss, 0.85]));
        curves.push(curve(trace, "least-frequently-used", [0.15, 0.33, 0.5, 0.6, 0.85]));
    }
    curves
}

/// The whole.
pub(crate) fn report() -> BenchReport {
    let target = |id: BenchId, against: &str, at_least: f64| BenchTarget { id, against: against.to_owned(), at_least };
    BenchReport {
        kind: "bench".to_owned(),
        version: BENCH_VERSION,
        created: CREATED.to_owned(),
        command: "./ci/bench --rounds 12".to_owned(),
        environment: environment(),
        method: vec![
            "python-diskcache and py-lmdb run in the same interpreter, the loop is Python's, and an empty loop is taken off.".to_owned(),
        ],
        engines: vec![
            engine("ours", "DiskCache RS", "0.1.0", "default settings"),
            engine("diskcache", "python-diskcache", "5.6.3", "default settings (WAL, synchronous = NORMAL)"),
            engine("lmdb", "py-lmdb", "1.7.5", "sync=False"),
        ],
        rows: rows(),
        targets: vec![
            target(id("python", "get hit", Some(128)), "diskcache", 15.0),
            target(id("python", "set new", Some(128)), "diskcache", 25.0),
            target(id("python", "set new", Some(128)), "lmdb", 1.0),
            target(id("python", "incr", None), "lmdb", 1.0),
        ],
        tails: tails(),
        resources: vec![
            Resource {
                group: "memory".to_owned(),
                what: "a second process that only reads ten million entries".to_owned(),
                engine: "ours".to_owned(),
                value: 21.0 * 1_048_576.0,
                unit: "B".to_owned(),
                limit: Some(200.0 * 1_048_576.0),
            },
            Resource {
                group: "disk".to_owned(),
                what: "after ten million overwrites, times the live bytes".to_owned(),
                engine: "ours".to_owned(),
                value: 2.6,
                unit: "x".to_owned(),
                limit: Some(2.2),
            },
        ],
        curves: curves(),
        criterion: Some("criterion/report/index.html".to_owned()),
    }
}

/// The same machine some days before: one operation was slower then, and one faster.
pub(crate) fn baseline() -> BenchReport {
    let mut old = report();
    "2025-12-20T09:00:00Z".clone_into(&mut old.created);
    for row in old.rows.iter_mut().filter(|row| row.engine == "ours" && row.id.value_bytes == Some(128)) {
        let factor = match row.id.operation.as_str() {
            "get hit" => 1.6,
            "delete" => 0.7,
            _ => 1.01,
        };
        row.rounds.iter_mut().for_each(|it| *it = short(*it * factor));
    }
    old
}
