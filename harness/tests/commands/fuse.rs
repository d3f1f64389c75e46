use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use harness::fuse::mount::{can_mount, mounts_under, take_down};

/// A drive that is mounted by the command, in a folder of its own.
struct Mounted {
    dir: PathBuf,
    _temp: tempfile::TempDir,
}

fn harness(args: &[&str]) -> Output {
    // No command of these tests takes half as long; one that hangs must not hang the test.
    Command::new("timeout").arg("60").arg(env!("CARGO_BIN_EXE_harness")).args(args).output().unwrap()
}

fn text(out: &Output) -> String {
    String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr)
}

fn mount(args: &[&str], plan: &str) -> Option<Mounted> {
    if let Err(why) = can_mount() {
        eprintln!("SKIPPED: {why}");
        return None;
    }
    let temp = tempfile::Builder::new().prefix("harness-").tempdir().unwrap();
    let dir = temp.path().join("my drive");
    let file = temp.path().join("plan.toml");
    fs::write(&file, plan).unwrap();
    let out = harness(&[&["mount", dir.to_str().unwrap(), "--faults", file.to_str().unwrap()], args].concat());
    assert!(out.status.success(), "{}", text(&out));
    Some(Mounted { dir, _temp: temp })
}

impl Mounted {
    fn at(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn run(&self, command: &str, args: &[&str]) -> Output {
        harness(&[&[command, self.dir.to_str().unwrap()], args].concat())
    }

    fn inject(&self, args: &[&str]) {
        let out = self.run("inject", args);
        assert!(out.status.success(), "{}", text(&out));
    }

    fn stats(&self) -> String {
        let out = self.run("stats", &[]);
        assert!(out.status.success(), "{}", text(&out));
        text(&out)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let asked = self.run("unmount", &[]);
        for point in mounts_under(&self.dir) {
            eprintln!("{} was left mounted: {}", point.display(), text(&asked));
            take_down(&point);
        }
    }
}

/// The counts of a line of `harness stats`.
fn counts(stats: &str, id: &str) -> Vec<u64> {
    let line = stats.lines().find(|line| line.split(' ').next() == Some(id)).unwrap_or_default();
    line.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

fn python(script: &str, path: &Path) -> Output {
    Command::new("timeout").args(["30", "python3", "-c", script]).arg(path).output().unwrap()
}

#[test]
fn a_drive_is_mounted_in_the_background_with_a_plan_counted_and_unmounted() {
    let plan = "[[fault]]\nid = \"N7\"\nhost = \"host-c\"\nop = \"LINK\"\ncount = 0\nrequired = true\n";
    let Some(drive) = mount(&["--profile", "nfs4", "--hosts", "3"], plan) else { return };
    fs::write(drive.at("host-a/f"), b"from a").unwrap();
    assert_eq!(fs::read(drive.at("host-b/f")).unwrap(), b"from a");
    fs::hard_link(drive.at("host-b/f"), drive.at("host-b/g")).unwrap();
    let refused = fs::hard_link(drive.at("host-c/f"), drive.at("host-c/h")).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::EEXIST), "the plan of the file is at work");
    let stats = drive.stats();
    assert_eq!(counts(&stats, "LINK"), [0, 1, 1], "{stats}");
    assert_eq!(counts(&stats, "N7"), [1, 1, 1, 1], "{stats}");
    let again = harness(&["mount", drive.dir.to_str().unwrap()]);
    assert!(!again.status.success() && text(&again).contains("already"), "{}", text(&again));
    assert_eq!(fs::read(drive.at("host-a/f")).unwrap(), b"from a", "and that did no harm");
    let out = drive.run("unmount", &[]);
    assert!(out.status.success(), "{}", text(&out));
    assert!(mounts_under(&drive.dir).is_empty() && !drive.dir.exists());
    let out = drive.run("stats", &[]);
    assert!(!out.status.success() && text(&out).contains("is it mounted?"), "{}", text(&out));
}

#[test]
fn faults_are_injected_into_a_live_mount_and_healed() {
    let Some(drive) = mount(&[], "") else { return };
    let (file, link) = (drive.at("host-a/f"), drive.at("host-a/g"));
    fs::write(&file, b"x").unwrap();
    drive.inject(&["soft-timeout", "--op", "link", "--errno", "ETIMEDOUT", "--phase", "P3", "--count", "0"]);
    assert_eq!(fs::hard_link(&file, &link).unwrap_err().raw_os_error(), Some(libc::ETIMEDOUT));
    assert!(link.exists(), "though it was done");
    drive.inject(&["--heal"]);
    fs::hard_link(&file, drive.at("host-a/h")).unwrap();
    drive.inject(&["server-restart", "--now"]);
    assert_eq!(counts(&drive.stats(), "N11")[..3], [1, 1, 1], "at once, without a request");
    for (args, word) in [
        (vec!["N99"], "there is no fault"),
        (vec!["N7", "--op", "LNIK"], "there is no request"),
        (vec!["N7", "--phase", "P1"], "does not happen at P1"),
        (vec!["N7", "--now"], "meets a request"),
        (vec!["N9", "--host", "host-z"], "there is no host"),
        (vec![], "which fault?"),
    ] {
        let out = drive.run("inject", &args);
        assert!(!out.status.success() && text(&out).contains(word), "{args:?}: {}", text(&out));
    }
}

#[test]
fn a_plan_that_is_wrong_is_refused_with_its_line() {
    let temp = tempfile::tempdir().unwrap();
    let plan = temp.path().join("plan.toml");
    fs::write(&plan, "[[fault]]\nid = \"N7\"\n\n[[fault]]\nid = \"N9\"\nphsae = \"P3\"\n").unwrap();
    let dir = temp.path().join("drive");
    let out = harness(&["mount", dir.to_str().unwrap(), "--faults", plan.to_str().unwrap()]);
    assert!(!out.status.success() && text(&out).contains("line 6") && text(&out).contains("phsae"), "{}", text(&out));
    let out = harness(&["mount", dir.to_str().unwrap(), "--profile", "nfs5"]);
    assert!(!out.status.success() && text(&out).contains("nfs4"), "{}", text(&out));
}

#[test]
fn a_process_is_killed_at_its_request_and_the_others_go_on() {
    let Some(drive) = mount(&[], "") else { return };
    fs::write(drive.at("host-a/f"), b"x").unwrap();
    for (phase, done) in [("P2", false), ("P4", true)] {
        let name = drive.at(&format!("host-a/{phase}"));
        drive.inject(&["kill", "--op", "LINK", "--phase", phase, "--host", "host-a"]);
        let script = "import os, sys; os.link(os.path.dirname(sys.argv[1]) + '/f', sys.argv[1]); print('alive')";
        let out = Command::new("python3").args(["-c", script]).arg(&name).output().unwrap();
        assert_eq!(out.status.signal(), Some(libc::SIGKILL), "{phase}: {}", text(&out));
        assert_eq!(fs::metadata(drive.at(&format!("host-b/{phase}"))).is_ok(), done, "{phase}");
    }
    assert_eq!(fs::read(drive.at("host-a/f")).unwrap(), b"x");
}

#[test]
fn a_process_is_paused_past_its_timers_and_goes_on() {
    let Some(drive) = mount(&[], "") else { return };
    fs::write(drive.at("host-a/f"), b"x").unwrap();
    drive.inject(&["pause", "--op", "LINK", "--delay-ms", "700", "--phase", "P5"]);
    let script = "import os, sys, time
began = time.monotonic()
os.link(sys.argv[1], sys.argv[1] + '2')
time.sleep(0)
print(time.monotonic() - began)";
    let out = python(script, &drive.at("host-a/f"));
    let took: f64 = text(&out).trim().parse().unwrap();
    assert!(took >= 0.65, "{took}");
}

#[test]
fn short_reads_and_interrupted_calls_reach_a_program() {
    let Some(drive) = mount(&[], "") else { return };
    fs::write(drive.at("host-a/f"), vec![7; 1000]).unwrap();
    drive.inject(&["interrupted-call", "--op", "READ"]);
    drive.inject(&["interrupted-call", "--op", "WRITE"]);
    drive.inject(&["interrupted-call", "--op", "OPEN", "--errno", "EMFILE", "--path", "g"]);
    let script = "import os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
assert len(os.pread(fd, 1000, 0)) == 500
assert len(os.pread(fd, 1000, 0)) == 1000
assert os.pwrite(fd, b'x' * 100, 0) == 50
try:
    os.open(sys.argv[1][:-1] + 'g', os.O_RDWR | os.O_CREAT)
except OSError as error:
    assert error.errno == 24, error
else:
    raise SystemExit('opened')";
    let out = python(script, &drive.at("host-a/f"));
    assert!(out.status.success(), "{}", text(&out));
}

#[test]
fn a_mount_whose_request_hangs_is_cut_by_the_watchdog() {
    let Some(drive) = mount(&["--longest", "1"], "") else { return };
    fs::write(drive.at("host-a/f"), b"x").unwrap();
    drive.inject(&["withheld-reply", "--host", "host-a", "--op", "OPEN"]);
    let began = Instant::now();
    let error = fs::read(drive.at("host-a/f")).unwrap_err();
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    let errno = error.raw_os_error().unwrap();
    assert!([libc::ECONNABORTED, libc::ENOTCONN].contains(&errno), "{error}");
    assert_eq!(fs::read(drive.at("host-b/f")).unwrap(), b"x", "the other host is well");
}

#[test]
fn every_profile_mounts_and_two_hosts_share_a_file() {
    for profile in harness::drive::Profile::names() {
        let Some(drive) = mount(&["--profile", profile], "") else { return };
        fs::write(drive.at("host-a/f"), b"shared").unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        let seen = loop {
            match fs::read(drive.at("host-b/f")) {
                Ok(bytes) if bytes == b"shared" => break true,
                _ if Instant::now() > deadline => break false,
                _ => std::thread::sleep(Duration::from_millis(50)),
            }
        };
        assert!(seen, "{profile}");
    }
}
