//! Engines with a worker of their own: the one that WORKERS.md shows, and the same with a fault that must be found.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use harness::fuse::mount::can_mount;

const SCENARIO: &str = r#"
name = "short"
title = "One host, nothing wrong, for a moment"
source = "none"
story = "Two processes of one host."
hosts = 1
procs = 2
seconds = 1.5
faulty = false

[workload]
keys = 20
sizes = [40, 300]
"#;

/// The worker of the document.
fn example() -> String {
    let text = include_str!("../../WORKERS.md");
    let (_, rest) = text.split_once("```python\n").unwrap();
    rest.split_once("```").unwrap().0.to_owned()
}

fn play(dir: &Path, worker: &str, engine: &str) -> Output {
    fs::write(dir.join("my worker.py"), worker).unwrap();
    fs::write(dir.join("short.toml"), SCENARIO).unwrap();
    let out = Command::new("timeout")
        .args(["60", env!("CARGO_BIN_EXE_harness"), "run"])
        .arg(dir.join("short.toml"))
        .args(["--engine-command", engine, "--no-roundtrips", "--out"])
        .arg(dir.join("out"))
        .current_dir(dir)
        .output()
        .unwrap();
    eprintln!("{}", String::from_utf8_lossy(&out.stderr));
    out
}

#[test]
fn the_worker_of_the_document_is_an_engine_and_one_that_loses_values_is_found_out() {
    if let Err(why) = can_mount() {
        eprintln!("SKIPPED: {why}");
        return;
    }
    let dir = tempfile::Builder::new().prefix("harness-").tempdir().unwrap();
    let command = "python3 'my worker.py'";
    let out = play(dir.path(), &example(), command);
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(out.status.success() && said.contains("1 of 1 runs sound"), "{said}");
    let results: serde_json::Value = serde_json::from_slice(&fs::read(dir.path().join("out/results.json")).unwrap()).unwrap();
    assert_eq!(results["engines"][0]["title"], "json files", "it is called as it says");
    let run = &results["runs"][0];
    assert!(run["operations"]["set"]["answered"].as_u64().unwrap() > 20, "it worked: {run}");
    assert!(run["operations"].get("incr").is_none(), "what it cannot do is not asked of it");

    let forgets = example().replace("os.replace(temporary", "if ask['seq'] % 5:\n            os.replace(temporary");
    assert_ne!(forgets, example());
    let out = play(dir.path(), &forgets, command);
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(said.contains("DAMAGED"), "{said}");
    let line = said.lines().find_map(|line| line.split_once("again: ./ci/validate ")).unwrap().1;
    let plan = line.strip_prefix("replay ").unwrap();
    let out = Command::new("timeout")
        .args(["60", env!("CARGO_BIN_EXE_harness"), "replay", plan, "--out", "again"])
        .current_dir(dir.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    assert_eq!(out.status.code(), Some(1), "it is damaged again: {said}");
    let out = Command::new(env!("CARGO_BIN_EXE_harness")).args(["explain", "again/short.json-files.1"]).current_dir(dir.path()).output();
    let said = String::from_utf8_lossy(&out.unwrap().stdout).into_owned();
    assert!(said.contains("stale read") && said.contains("observed") && said.contains("See it again"), "{said}");
}

#[test]
fn a_worker_that_ends_or_does_not_start_is_told_from_an_engine_that_is_damaged() {
    if let Err(why) = can_mount() {
        eprintln!("SKIPPED: {why}");
        return;
    }
    let dir = tempfile::Builder::new().prefix("harness-").tempdir().unwrap();
    let out = play(dir.path(), "", "python3 nowhere.py");
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(2), "{said}");
    assert!(said.contains("is not there") && said.contains("its log says why"), "{said}");
    let refuses = example().replace("os.makedirs(folder, exist_ok=True)", "raise PermissionError('never')");
    let out = play(dir.path(), &refuses, "python3 'my worker.py'");
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    assert_eq!(out.status.code(), Some(2), "nothing is known about an engine that makes no cache: {said}");
    assert!(said.contains("not run") && said.contains("never"), "{said}");
}
