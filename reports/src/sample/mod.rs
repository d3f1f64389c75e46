//! Made-up results that show every state a page has. They are kept as files in `samples/`, which the pages in a browser are checked with;
//! a test holds the two together.

pub(crate) mod bench;
pub(crate) mod mounts;
pub(crate) mod results;

use std::collections::BTreeMap;

use crate::EngineInfo;

/// When all of them were made.
pub(crate) const CREATED: &str = "2026-01-01T12:00:00Z";

pub(crate) fn engines() -> Vec<EngineInfo> {
    let engine = |name: &str, title: &str, version: &str| EngineInfo {
        name: name.to_owned(),
        title: title.to_owned(),
        version: version.to_owned(),
        ours: name == "ours",
    };
    vec![
        engine("ours", "DiskCache RS", "0.1.0"),
        engine("diskcache", "python-diskcache, WAL", "5.6.3"),
        engine("diskcache-delete", "python-diskcache, rollback journal", "5.6.3"),
        engine("naive", "Files, written and renamed", ""),
    ]
}

pub(crate) fn environment() -> BTreeMap<String, String> {
    let rows = [
        ("kernel", "6.1.0-40-amd64"),
        ("system", "Debian GNU/Linux 12 (bookworm)"),
        ("processor", "Some Processor @ 2.60 GHz"),
        ("processors", "2"),
        ("architecture", "x86_64"),
        ("memory", "23.5 GiB"),
        ("drive", "simulated, in FUSE mounts of one daemon; profile nfs4"),
    ];
    rows.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}
