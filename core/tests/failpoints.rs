//! Every step of the real file system can be made to fail by its name (feature `failpoints`; without it there is nothing here).
#![cfg(feature = "failpoints")]

use diskcache_core::vfs::{OpenMode, OsVfs, Vfs};
use fail::FailScenario;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;

fn code<T>(result: io::Result<T>) -> Option<i32> {
    result.err().and_then(|error| error.raw_os_error())
}

#[test]
fn each_step_fails_by_its_name_and_does_nothing_then() {
    let scenario = FailScenario::setup();
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let file = OsVfs.open(&at("a"), OpenMode::CreateNew).unwrap();
    file.write_all_at(&[1; 4096], 0).unwrap();
    let mut buf = [0; 1];
    let mut tried = 0;
    let mut fails = |step: &str, act: &mut dyn FnMut() -> io::Result<()>| {
        fail::cfg(format!("vfs::{step}"), "1*return(28)->1*return->off").unwrap();
        assert_eq!(code(act()), Some(28), "{step}");
        assert_eq!(code(act()), Some(5), "{step}");
        assert_eq!(code(act()), None, "{step} works again, as if nothing had been done");
        tried += 1;
    };
    fails("open", &mut || OsVfs.open(&at("b"), OpenMode::CreateNew).map(drop));
    fails("link", &mut || OsVfs.link(&at("a"), &at("c")));
    fails("rename", &mut || OsVfs.rename(&at("c"), &at("d")));
    fails("unlink", &mut || OsVfs.unlink(&at("d")));
    fails("create_dir", &mut || OsVfs.create_dir(&at("e")));
    fails("read_dir", &mut || OsVfs.read_dir(&at("e")).map(drop));
    fails("stat", &mut || OsVfs.stat(&at("e")).map(drop));
    fails("sync_dir", &mut || OsVfs.sync_dir(&at("e")));
    fails("space", &mut || OsVfs.space(&at("e")).map(drop));
    fails("remove_dir", &mut || OsVfs.remove_dir(&at("e")));
    fails("read", &mut || file.read_at(&mut buf, 0).map(drop));
    fails("write", &mut || file.write_all_at(b"x", 0));
    fails("len", &mut || file.len().map(drop));
    fails("len_fresh", &mut || file.len_fresh().map(drop));
    fails("set_len", &mut || file.set_len(5000));
    fails("allocate", &mut || file.allocate(8192));
    fails("give_back", &mut || file.give_back(4096));
    fails("sync", &mut || file.sync());
    fails("try_lock", &mut || file.try_lock().map(drop));
    fails("lock", &mut || file.lock());
    fails("unlock", &mut || file.unlock());
    fails("map", &mut || file.map(4096, false).map(drop));
    fails("close", &mut || file.close());
    assert_eq!(tried, 23, "one for each method of the two traits");
    scenario.teardown();
}

#[test]
fn a_step_can_end_the_process_as_kill_or_exit_do() {
    // The test runs itself again with the failpoint in its environment.
    if std::env::var_os("FAILPOINTS").is_some() {
        let _scenario = FailScenario::setup();
        let _ = OsVfs.stat(Path::new("/"));
        std::process::exit(0);
    }
    let run = |action: &str| {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "a_step_can_end_the_process_as_kill_or_exit_do"]).env("FAILPOINTS", format!("vfs::stat={action}"));
        child.stdout(std::process::Stdio::null()).status().unwrap()
    };
    assert_eq!(run("return(kill)").signal(), Some(9));
    assert_eq!(run("return(exit 7)").code(), Some(7));
    assert_eq!(run("off").code(), Some(0));
}
