//! How fast engines could have been.

use std::collections::BTreeMap;

use serde_json::json;

use crate::bench::{BENCH_VERSION, BenchReport, BenchRow, Curves, Fact, Latency, Ratio};

/// Short figures, which JSON gives back as they are.
fn short(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

fn row(group: &str, operation: &str, size_bytes: u64, engine: &str, median: f64, unit: &str) -> BenchRow {
    BenchRow {
        group: group.to_owned(),
        operation: operation.to_owned(),
        size_bytes,
        engine: engine.to_owned(),
        unit: unit.to_owned(),
        median,
        low: short(median * 0.93),
        high: short(median * 1.09),
        samples: 12,
        ratio_to: BTreeMap::new(),
        criterion: (engine == "diskcache_rs" && unit == "ns").then(|| "criterion/report/index.html".to_owned()),
    }
}

/// The rows of all engines for one operation, with ratios in the first.
fn beside(group: &str, operation: &str, size_bytes: u64, unit: &str, medians: [f64; 3]) -> Vec<BenchRow> {
    let engines = ["diskcache_rs", "diskcache", "lmdb"];
    let mut rows: Vec<BenchRow> =
        engines.into_iter().zip(medians).map(|(engine, median)| row(group, operation, size_bytes, engine, median, unit)).collect();
    for at in 1..engines.len() {
        let ratio = if unit == "ns" { medians[at] / medians[0] } else { medians[0] / medians[at] };
        let ratio = Ratio { ratio: short(ratio), ci_low: short(ratio * 0.96), ci_high: short(ratio * 1.03) };
        rows[0].ratio_to.insert(engines[at].to_owned(), ratio);
    }
    rows
}

fn rows() -> Vec<BenchRow> {
    let one = "one process";
    let mut rows = [
        beside(one, "get hit", 128, "ns", [450.0, 5100.0, 810.0]),
        beside(one, "get miss", 128, "ns", [310.0, 6400.0, 700.0]),
        beside(one, "set new", 128, "ns", [1100.0, 46_000.0, 1200.0]),
        beside(one, "delete", 128, "ns", [900.0, 34_000.0, 1100.0]),
        beside(one, "set new", 65_536, "ns", [28_000.0, 155_000.0, 41_000.0]),
        beside(one, "iterate", 128, "ns", [400.0, 2500.0, 200.0]),
        beside("one process, every write synced", "set new", 128, "ns", [410_000.0, 900_000.0, 430_000.0]),
        beside("4 processes, 90/9/1, uniform keys", "all", 128, "/s", [883_000.0, 74_200.0, 910_000.0]),
        beside("8 processes, 50/50, zipf keys", "all", 128, "/s", [402_000.0, 21_000.0, 250_000.0]),
    ]
    .concat();
    rows.push(row("room on the disk", "a live byte", 4096, "diskcache_rs", 1.12, "B"));
    rows.push(row("room on the disk", "a live byte", 4096, "diskcache", 1.31, "B"));
    rows
}

fn latency(engine: &str, action: &str, scale: f64) -> Latency {
    Latency {
        group: "8 processes, 50/50, zipf keys".to_owned(),
        engine: engine.to_owned(),
        action: action.to_owned(),
        count: 900_000.0,
        miss: 12_345.0,
        median: scale,
        p90: scale * 2.0,
        p99: short(scale * 9.0),
        p99_9: scale * 70.0,
        p99_99: (action == "set").then_some(scale * 400.0),
        max: scale * 4000.0,
        total: short(scale * 1.4),
    }
}

fn curve(title: &str, loss: f64) -> Curves {
    let points = |hits: [f64; 5]| [0.001, 0.01, 0.05, 0.1, 0.5].into_iter().zip(hits.map(short)).collect();
    Curves {
        title: title.to_owned(),
        x: "size limit, as a share of all values".to_owned(),
        y: "hits a request".to_owned(),
        series: BTreeMap::from([
            ("optimum".to_owned(), points([0.21, 0.42, 0.6, 0.69, 0.9])),
            ("least-recently-used".to_owned(), points([0.08 - loss / 2.0, 0.27 - loss, 0.46 - loss, 0.57 - loss, 0.85])),
            ("least-frequently-used".to_owned(), points([0.15, 0.33, 0.5, 0.6, 0.85])),
        ]),
    }
}

fn fact(name: &str, value: f64, unit: &str, bar: Option<f64>, at_most: bool) -> Fact {
    let mut fact = Fact { name: name.to_owned(), value, unit: unit.to_owned(), bar, at_most, met: None };
    fact.met = fact.is_met();
    fact
}

/// The whole.
pub(crate) fn report() -> BenchReport {
    let environment = json!({
        "command": "./ci/bench all",
        "kernel": "6.1.0-40-amd64",
        "cpu": "Some Processor @ 2.60 GHz",
        "cores": 2,
        "memory_mb": 24672,
        "file_system": "ext4",
        "python": "3.11.2",
        "versions": { "diskcache_rs": "0.1.0", "diskcache": "5.6.3", "lmdb": "1.7.5" },
    });
    BenchReport {
        kind: "bench".to_owned(),
        version: BENCH_VERSION,
        started: 1_767_268_800.0,
        seconds: 1180.5,
        environment: serde_json::from_value(environment).unwrap(),
        ours: "diskcache_rs".to_owned(),
        rows: rows(),
        latencies: vec![
            latency("diskcache_rs", "get", 0.6),
            latency("diskcache_rs", "set", 4.1),
            latency("diskcache", "get", 12.0),
            latency("diskcache", "set", 110.0),
        ],
        curves: vec![curve("Hit ratio: Zipf, drifting", 0.0), curve("Hit ratio: Zipf with scans", 0.11)],
        facts: vec![
            fact("get hit, 128 bytes: times as fast as diskcache", 11.33, "x", Some(15.0), false),
            fact("set new, 128 bytes: times as fast as diskcache", 41.8, "x", Some(25.0), false),
            fact("1,000,000 entries: anonymous memory of a reader", 21.0, "MB", Some(200.0), true),
            fact("1,000,000 entries: overwrite, all once", 2.4, "s", None, false),
        ],
        void: vec!["incr, 128 bytes, rocksdict: 7 of 5000 failed".to_owned()],
        criterion_index: Some("criterion/report/index.html".to_owned()),
    }
}

/// The same machine some days before, when it was a tenth slower: `delete` was faster then, and `get hit` slower.
pub(crate) fn baseline() -> BenchReport {
    let mut old = report();
    old.started -= 1_000_000.0;
    for row in &mut old.rows {
        let mut factor = if row.unit == "/s" { 1.0 / 1.1 } else { 1.1 };
        if row.engine == "diskcache_rs" && row.operation == "get hit" {
            factor *= 1.6;
        } else if row.engine == "diskcache_rs" && row.operation == "delete" {
            factor *= 0.7;
        }
        for figure in [&mut row.median, &mut row.low, &mut row.high] {
            *figure = short(*figure * factor);
        }
    }
    old
}
