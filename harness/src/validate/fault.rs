//! What goes wrong while the workers work.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// One kind of trouble: a row of the report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// None, so that engine and harness are known to be sound together.
    None,
    /// All processes are killed, and start again.
    Kill,
    /// The processes of the first host are stopped for a while.
    Pause,
    /// The last host's clock is an hour ahead.
    Clock,
    /// Calls have a twentieth of a second.
    Deadline,
    /// Something happens to the server, or to the network before it; the hook knows what.
    Server(String),
}

/// Those that need nobody's help.
pub const CLIENT: [Fault; 5] = [Fault::None, Fault::Kill, Fault::Pause, Fault::Clock, Fault::Deadline];

impl Fault {
    /// Its name on the command line.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Fault::None => "none",
            Fault::Kill => "kill",
            Fault::Pause => "pause",
            Fault::Clock => "clock",
            Fault::Deadline => "deadline",
            Fault::Server(name) => name,
        }
    }

    /// In a table.
    #[must_use]
    pub fn title(&self) -> String {
        match self {
            Fault::None => "nothing goes wrong".to_owned(),
            Fault::Kill => "processes are killed".to_owned(),
            Fault::Pause => "a host's processes are stopped for a while".to_owned(),
            Fault::Clock => "a host's clock is an hour ahead".to_owned(),
            Fault::Deadline => "calls have 50 ms".to_owned(),
            Fault::Server(name) => format!("server fault {name}"),
        }
    }

    /// For somebody who never saw it.
    #[must_use]
    pub fn story(&self) -> String {
        match self {
            Fault::None => "Processes on all hosts work on one cache, with all operations mixed.",
            Fault::Kill => "kill -9 of every process on every host, in rounds, each at any moment; they start again at once.",
            Fault::Pause => "SIGSTOP to all processes of one host, in the middle of whatever they do, and SIGCONT after a while.",
            Fault::Clock => "The wall clock of one host's processes is an hour ahead of the others'.",
            Fault::Deadline => "The caches' timeout is so short that calls give up in the middle of what they do.",
            Fault::Server(_) => {
                "The hook causes it and ends it. Meanwhile every call must end by its deadline, with a typed error or a right answer; \
                 afterwards the same processes must work again by themselves, and nothing that was acknowledged may be gone."
            }
        }
        .to_owned()
    }

    /// Whether calls may fail.
    #[must_use]
    pub fn excuses_errors(&self) -> bool {
        matches!(self, Fault::Deadline | Fault::Server(_))
    }
}

/// A command that causes the server's faults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// Run by `sh -c`, with `on NAME` or `off NAME` behind it.
    pub command: String,
}

impl Hook {
    const LONGEST: Duration = Duration::from_secs(90);

    /// Begins or ends a fault, and waits until that is done.
    ///
    /// # Errors
    /// It failed, or took longer than a minute and a half.
    pub fn call(&self, what: &str, fault: &str) -> Result<(), String> {
        let said = |why: &str| format!("the hook `{} {what} {fault}` {why}", self.command);
        let mut child = Command::new("sh")
            .arg("-c")
            .arg(format!("{} \"$@\"", self.command))
            .args(["hook", what, fault])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .map_err(|err| said(&format!("cannot be run: {err}")))?;
        let until = Instant::now() + Self::LONGEST;
        loop {
            match child.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(status)) => return Err(said(&format!("failed: {status}"))),
                Ok(None) if Instant::now() < until => std::thread::sleep(Duration::from_millis(20)),
                Ok(None) => {
                    // It may be dead by now.
                    let _ = child.kill();
                    return Err(said("does not end"));
                }
                Err(err) => return Err(said(&format!("cannot be waited for: {err}"))),
            }
        }
    }
}

/// The library that shows a process another wall clock (Debian's `faketime`), where it is installed.
#[must_use]
pub fn fake_clock() -> Option<PathBuf> {
    let places = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib", "/usr/local/lib"];
    places.iter().map(|place| PathBuf::from(place).join("faketime/libfaketimeMT.so.1")).find(|path| path.exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hook_gets_what_happens_and_its_name_and_its_failure_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("said");
        let hook = Hook { command: format!("echo >>'{}'", file.display()) };
        hook.call("on", "stop").unwrap();
        hook.call("off", "stop").unwrap();
        assert_eq!(std::fs::read_to_string(file).unwrap(), "on stop\noff stop\n");
        let error = Hook { command: "false".to_owned() }.call("on", "stop").unwrap_err();
        assert!(error.contains("`false on stop` failed"), "{error}");
    }
}
