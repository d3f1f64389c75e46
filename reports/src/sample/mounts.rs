//! What mounts could have done.

use std::collections::BTreeMap;

use super::{CREATED, engines, environment};
use crate::Verdict;
use crate::mounts::{
    Difference, DoctorFinding, Likeness, MOUNTS_VERSION, MountInfo, MountReport, MountRun, MountSpeed, MountTrips, Promise, Severity,
};

fn finding(severity: Severity, what: &str, found: &str, advice: &str) -> DoctorFinding {
    DoctorFinding { severity, what: what.to_owned(), found: found.to_owned(), advice: advice.to_owned() }
}

fn mounts() -> Vec<MountInfo> {
    let mount = |name: &str, title: &str, options: &str, doctor: &str| MountInfo {
        name: name.to_owned(),
        title: title.to_owned(),
        options: options.to_owned(),
        hosts: 2,
        doctor: doctor.to_owned(),
        ..MountInfo::default()
    };
    let link = || finding(Severity::Good, "link refuses a name that exists", "refused 100 of 100 times, from both hosts", "");
    vec![
        MountInfo {
            findings: vec![link(), finding(Severity::Note, "absent names", "the other host sees a new name after up to 30 s", "")],
            ..mount("nfs4", "NFSv4.2, kernel client", "nfs4 rw,vers=4.2,hard,timeo=600", "sound")
        },
        MountInfo {
            findings: vec![
                link(),
                finding(
                    Severity::Warning,
                    "locks between hosts",
                    "both hosts hold the same lock",
                    "mount without `nolock` if other programs need locks",
                ),
            ],
            ..mount("nfs3-nolock", "NFSv3 without locks", "nfs rw,vers=3,nolock", "sound for this cache")
        },
        MountInfo {
            findings: vec![finding(
                Severity::Unsound,
                "exclusive creation",
                "both hosts made the same name in 32 of 100 tries",
                "use this drive from one host only",
            )],
            refuses: Some("the drive has no sound `link`".to_owned()),
            ..mount("smbnetfs", "SMB through smbnetfs", "fuse.smbnetfs rw", "one host only")
        },
        MountInfo {
            left_out: Some("no glusterfs on this machine: ./ci/setup --mounts installs it".to_owned()),
            ..mount("glusterfs", "GlusterFS, FUSE client", "fuse.glusterfs", "")
        },
    ]
}

fn run(mount: &str, engine: &str, fault: &str, verdict: Verdict, broken: u64) -> MountRun {
    MountRun {
        mount: mount.to_owned(),
        workload: "torture".to_owned(),
        fault: fault.to_owned(),
        engine: engine.to_owned(),
        verdict,
        promises: vec![
            Promise {
                promise: "no acknowledged write is lost at the end".to_owned(),
                broken,
                examples: if broken > 0 { vec!["fresh host: shared/3 = hA.2.1184".to_owned()] } else { Vec::new() },
                note: "8,214 writes, 64 keys".to_owned(),
            },
            Promise { promise: "incr is exact".to_owned(), note: "912 done, 3 unknown".to_owned(), ..Promise::default() },
        ],
        answered: 21_594,
        failed: 12,
        open: u64::from(broken > 0),
        writes_by_host: BTreeMap::from([("hA".to_owned(), 7782), ("hB".to_owned(), 7785)]),
        longest_s: Some(if fault.is_empty() { 0.4 } else { 10.4 }),
        deadline_s: Some(10.0),
        recovered_s: (!fault.is_empty()).then_some(1.8),
        seconds: 20.0,
        replay: format!("./ci/mounts/{mount} --engine {engine}"),
        evidence: (broken > 0).then(|| format!("{mount}-{engine}.tar.gz")),
        ..MountRun::default()
    }
}

fn runs() -> Vec<MountRun> {
    vec![
        run("nfs4", "ours", "", Verdict::Sound, 0),
        run("nfs4", "ours", "server killed and restarted", Verdict::Sound, 0),
        run("nfs4", "diskcache", "", Verdict::Damaged, 211),
        run("nfs4", "diskcache-delete", "", Verdict::Sound, 0),
        run("nfs3-nolock", "ours", "", Verdict::Sound, 0),
        run("nfs3-nolock", "diskcache", "", Verdict::Damaged, 3),
        MountRun {
            error: Some("the export could not be made: exportfs ended with 1".to_owned()),
            promises: Vec::new(),
            ..run("nfs3-nolock", "diskcache-delete", "share full", Verdict::NotRun, 0)
        },
    ]
}

fn trips() -> Vec<MountTrips> {
    let row = |engine: &str, operation: &str, trips: f64, limit: Option<f64>| MountTrips {
        mount: "nfs4".to_owned(),
        engine: engine.to_owned(),
        operation: operation.to_owned(),
        trips,
        kinds: BTreeMap::from([("GETATTR".to_owned(), 1.0), ("WRITE".to_owned(), trips - 1.0)]),
        limit,
    };
    vec![
        row("ours", "set, 128 B", 6.2, Some(8.0)),
        row("diskcache-delete", "set, 128 B", 15.0, None),
        row("ours", "open", 36.0, Some(25.0)),
        row("diskcache-delete", "open", 6.0, None),
    ]
}

fn differences() -> Vec<Difference> {
    let row = |probe: &str, real: &str, simulated: &str, likeness: Likeness, reason: &str| Difference {
        mount: "nfs4".to_owned(),
        profile: "nfs4".to_owned(),
        probe: probe.to_owned(),
        real: real.to_owned(),
        simulated: simulated.to_owned(),
        likeness,
        reason: reason.to_owned(),
    };
    vec![
        row("link onto a name that exists", "EEXIST", "EEXIST", Likeness::Same, ""),
        row("an absent name, made by the other host", "seen after 29 s", "seen after 30 s", Likeness::Simplified, "timers do not adapt"),
        row("write to a full share", "accepted, ENOSPC at close", "ENOSPC at write", Likeness::Bug, ""),
        row("append from both hosts", "100 of 200 kept", "", Likeness::NotAsked, "the profile has no append"),
    ]
}

/// The whole.
pub(crate) fn report() -> MountReport {
    MountReport {
        kind: "mounts".to_owned(),
        version: MOUNTS_VERSION,
        created: CREATED.to_owned(),
        command: "./ci/mounts/all".to_owned(),
        environment: environment(),
        engines: engines().into_iter().filter(|engine| engine.name != "naive").collect(),
        mounts: mounts(),
        runs: runs(),
        trips: trips(),
        speeds: vec![
            MountSpeed {
                mount: "nfs4".to_owned(),
                engine: "ours".to_owned(),
                what: "commits a second, two hosts writing".to_owned(),
                value: 474.0,
                low: 431.0,
                high: 490.0,
                unit: "1/s".to_owned(),
                target: Some(300.0),
            },
            MountSpeed {
                mount: "nfs4".to_owned(),
                engine: "ours".to_owned(),
                what: "sets of 8 threads, times those of one".to_owned(),
                value: 3.06,
                low: 2.9,
                high: 3.2,
                unit: "1/s".to_owned(),
                target: Some(4.0),
            },
        ],
        differences: differences(),
    }
}
