//! `harness mount`: a drive in a process of its own, mounted for its hosts, and how the harness starts and ends one.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Process, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::control::{self, Answer, Client, Command, Stats};
use crate::drive::{Clock, Drive, Happened, Plan, Profile};
use crate::fuse::mount::{TakeDown, mount_all};

/// What to mount.
#[derive(Clone, Debug)]
pub struct MountOptions {
    /// Where; hosts are folders in it.
    pub dir: PathBuf,
    /// What kind of drive.
    pub profile: Profile,
    /// The hosts' names.
    pub hosts: Vec<String>,
    /// Faults from the start.
    pub plan: Plan,
    /// Seed of its chance.
    pub seed: u64,
    /// Socket to control it by.
    pub control: PathBuf,
    /// End when standard input ends, so that the drive never outlives whoever started it.
    pub until_stdin_ends: bool,
    /// A mount with a request that hangs for so long is cut.
    pub longest: Duration,
}

/// The hosts' names for a number of them: `host-a`, `host-b`, ...
#[must_use]
pub fn host_names(count: usize) -> Vec<String> {
    (0..count.min(26)).map(|number| format!("host-{}", char::from(b'a' + number as u8))).collect()
}

/// The control socket of a drive that is mounted at a place, unless it was given another.
#[must_use]
pub fn control_socket(dir: &Path) -> PathBuf {
    let mut name = dir.as_os_str().to_owned();
    name.push(".control");
    name.into()
}

/// Mounts, serves until told to quit, unmounts.
///
/// # Errors
/// Says why the drive could not be mounted.
pub fn run(options: &MountOptions) -> Result<(), String> {
    let names: Vec<&str> = options.hosts.iter().map(String::as_str).collect();
    let mut drive = Drive::new(options.profile.clone(), &names, options.seed, Clock::Wall(Instant::now()));
    for fault in &options.plan.faults {
        drive.add_fault(fault.clone())?;
    }
    let socket = &options.control;
    if control::Client::connect(socket, Duration::from_secs(1)).is_ok() {
        return Err(format!("a drive answers at {} already; `harness unmount` takes it down", socket.display()));
    }
    // That of a drive that was killed.
    let _ = std::fs::remove_file(socket);
    let drive = Arc::new(Mutex::new(drive));
    let mounted = mount_all(&drive, &options.dir, options.longest).map_err(|err| err.to_string())?;
    let (end, ended) = mpsc::channel::<()>();
    let quit = {
        let end = end.clone();
        move || {
            // Nobody listens any more: it is ending already.
            let _ = end.send(());
        }
    };
    control::serve(socket, &drive, quit).map_err(|err| format!("cannot make the control socket {}: {err}", socket.display()))?;
    if options.until_stdin_ends {
        std::thread::spawn(move || {
            let mut rest = Vec::new();
            // Any end of it counts.
            let _ = std::io::stdin().read_to_end(&mut rest);
            let _ = end.send(());
        });
    }
    println!("READY {}", options.control.display());
    while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(Duration::from_millis(250)) {
        drive.lock().unwrap_or_else(PoisonError::into_inner).tick();
    }
    mounted.unmount();
    // A socket that is gone already is as good.
    let _ = std::fs::remove_file(&options.control);
    Ok(())
}

/// A drive that runs in a child process. Dropping it takes the mounts down, whatever state they are in.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    client: Client,
    dir: PathBuf,
    _take_down: TakeDown,
}

impl Daemon {
    /// Starts this program as a drive and waits until it is mounted.
    ///
    /// # Errors
    /// Says why there is no drive.
    pub fn start(program: &Path, dir: &Path, profile: &Profile, hosts: &[String], plan: &Plan, seed: u64) -> Result<Daemon, String> {
        let write = |name: &str, text: String| {
            let path = dir.join(name);
            std::fs::write(&path, text).map(|()| path).map_err(|err| format!("cannot write {name}: {err}"))
        };
        let profile = write("profile.toml", toml::to_string(profile).map_err(|err| err.to_string())?)?;
        let plan = write("plan.toml", toml::to_string(plan).map_err(|err| err.to_string())?)?;
        let mounts = dir.join("m");
        let points = hosts.iter().map(|host| mounts.join(host)).collect();
        let control = dir.join("control");
        let mut child = Process::new(program)
            .arg("mount")
            .arg(&mounts)
            .args(["--until-stdin-ends", "--host-names", &hosts.join(","), "--seed", &seed.to_string()])
            .arg("--profile")
            .arg(profile)
            .arg("--faults")
            .arg(plan)
            .arg("--control")
            .arg(&control)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|err| format!("cannot start {}: {err}", program.display()))?;
        let take_down = TakeDown::new(points);
        let ready = wait_until_ready(&mut child);
        match ready.and_then(|()| Client::connect(&control, Duration::from_secs(10)).map_err(|err| err.to_string())) {
            Ok(client) => Ok(Daemon { child, client, dir: mounts, _take_down: take_down }),
            Err(why) => {
                end(&mut child);
                Err(format!("the drive did not start: {why}"))
            }
        }
    }

    /// Where a host's mount is.
    #[must_use]
    pub fn mount(&self, host: &str) -> PathBuf {
        self.dir.join(host)
    }

    /// Sends it a command.
    ///
    /// # Errors
    /// It refuses or does not answer.
    pub fn send(&mut self, command: &Command) -> Result<Answer, String> {
        self.client.send(command)
    }

    /// Its counts.
    ///
    /// # Errors
    /// It does not answer.
    pub fn stats(&mut self) -> Result<Stats, String> {
        Ok(self.send(&Command::Stats)?.stats.unwrap_or_default())
    }

    /// What became of its faults, one by one.
    ///
    /// # Errors
    /// It does not answer.
    pub fn log(&mut self) -> Result<Vec<Happened>, String> {
        Ok(self.send(&Command::Log)?.log.unwrap_or_default())
    }
}

fn wait_until_ready(child: &mut Child) -> Result<(), String> {
    let out = child.stdout.take().ok_or("no output to read")?;
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        let mut lines = BufReader::new(out).lines();
        let _ = tell.send(lines.next().and_then(Result::ok));
        // Keep reading, so that it never blocks on a full pipe.
        lines.for_each(drop);
    });
    match told.recv_timeout(Duration::from_secs(20)) {
        Ok(Some(line)) if line.starts_with("READY") => Ok(()),
        Ok(Some(line)) => Err(line),
        Ok(None) => Err("it ended at once".to_owned()),
        Err(_) => Err("it did not mount within 20 seconds".to_owned()),
    }
}

/// Ends a child: asks by closing its input, then by force.
fn end(child: &mut Child) {
    drop(child.stdin.take());
    let deadline = Instant::now() + Duration::from_secs(3);
    while Instant::now() < deadline {
        if !matches!(child.try_wait(), Ok(None)) {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let _ = child.kill();
    let _ = child.wait();
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.client.send(&Command::Quit);
        end(&mut self.child);
    }
}
