use super::*;

fn examination(dir: &Path, peer: Option<&Path>) -> Examination {
    examine(dir, peer).unwrap()
}

fn severity(examination: &Examination, what: &str) -> Option<Severity> {
    examination.findings.iter().filter(|finding| finding.what == what).map(|finding| finding.severity).max()
}

#[test]
fn a_local_disk_is_sound_and_nothing_is_left_on_it() {
    let dir = tempfile::tempdir().unwrap();
    let found = examination(dir.path(), Some(dir.path()));
    assert_eq!(severity(&found, "link"), Some(Severity::Good), "{found}");
    assert_eq!(severity(&found, "link between hosts"), Some(Severity::Good), "{found}");
    assert_eq!(severity(&found, "looks between hosts"), Some(Severity::Good), "{found}");
    assert_eq!(severity(&found, "locks between hosts"), Some(Severity::Good), "{found}");
    assert!(found.verdict() <= Verdict::Weakened, "{found}"); // its space may be short
    assert_eq!(OsVfs.read_dir(dir.path()).unwrap(), Vec::<String>::new());
}

#[test]
fn a_directory_that_is_not_there_is_an_error_and_no_finding() {
    let dir = tempfile::tempdir().unwrap();
    assert!(examine(&dir.path().join("gone"), None).is_err());
}

#[test]
fn a_directory_that_nobody_may_write_to_is_unusable_and_the_reason_is_said() {
    // Root may write anywhere but here.
    let found = examination(Path::new("/proc"), None);
    assert_eq!(found.verdict(), Verdict::Unusable, "{found}");
    assert_eq!(severity(&found, "writing"), Some(Severity::Unsound));
}

#[test]
fn each_weakness_has_an_advice_and_the_worst_comes_first() {
    let dir = tempfile::tempdir().unwrap();
    let mut found = examination(dir.path(), None);
    found.findings.clear();
    found.profile.kind = Kind::Shared;
    found.profile.warnings = vec!["nfs4: mounted with `nocto`: x".to_owned(), "nfs4: mounted with `soft`: x".to_owned()];
    found.options = vec!["nolock".to_owned()];
    found.look_at_type();
    assert_eq!(found.verdict(), Verdict::Weakened);
    assert!(found.findings.iter().filter(|it| it.severity == Severity::Warning).all(|it| it.advice.starts_with("mount ")), "{found}");
    assert_eq!(severity(&found, "locks"), Some(Severity::Note));
    assert_eq!(severity(&found, "leases"), None);
    found.profile.name = "cifs".to_owned();
    found.look_at_type();
    assert!(found.findings.iter().any(|it| it.what == "leases" && it.advice.contains("`nolease`")), "{found}");
    found.profile.kind = Kind::ObjectMount;
    found.look_at_type();
    assert_eq!(found.verdict(), Verdict::OneHost);
    assert!(found.to_string().contains("one host only"));
}
