//! Talking to a mounted drive: a unix socket on which each line is a JSON command and each answer a JSON line.
//!
//! `{"do":"restart","loss":"all"}`, `{"do":"cut","host":"host-a","ms":500}`, `{"do":"stats"}`, ...; [`Command`] is the whole list.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::drive::{Drive, Fault, FaultCount, Happened, HostId, Loss};

/// A command.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub enum Command {
    /// Answer, if you are there.
    Ping,
    /// Add a fault.
    Fault {
        /// As in a plan.
        fault: Box<Fault>,
    },
    /// End every fault, cut and shortage.
    Heal,
    /// Restart the server: `nothing`, `some` or `all` of what is not stable is lost.
    Restart {
        /// What is lost.
        loss: String,
    },
    /// Cut a host off.
    Cut {
        /// Which.
        host: String,
        /// For how long; without, until `heal`.
        ms: Option<u64>,
    },
    /// The server forgets a host's locks.
    ExpireLease {
        /// Whose.
        host: String,
    },
    /// A host grants locks by itself from now on.
    LocalLocks {
        /// Which.
        host: String,
    },
    /// Leave so much free space; without, all of the drive.
    Space {
        /// Bytes.
        free: Option<u64>,
    },
    /// A host loses power.
    Crash {
        /// Which.
        host: String,
    },
    /// It is back.
    Boot {
        /// Which.
        host: String,
    },
    /// Counts of round trips and faults.
    Stats,
    /// The log of faults.
    Log,
    /// Unmount and end.
    Quit,
}

/// Counts so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    /// Round trips by host and kind.
    pub trips: BTreeMap<String, BTreeMap<String, u64>>,
    /// LOOKUPs spared before a LINK, by host.
    pub lookup_before_link: BTreeMap<String, u64>,
    /// Faults by name.
    pub faults: BTreeMap<String, FaultCount>,
    /// Faults by name, and by the kind of request that they met.
    #[serde(default)]
    pub faults_by_op: BTreeMap<String, BTreeMap<String, FaultCount>>,
    /// Each fault of the plan, in its order.
    #[serde(default)]
    pub planned: Vec<PlannedCount>,
    /// Bytes that a restart could lose.
    pub unstable_bytes: usize,
    /// The drive's clock, in microseconds.
    #[serde(default)]
    pub now_us: u64,
}

/// A fault of the plan and what became of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlannedCount {
    /// The fault as planned.
    pub fault: Fault,
    /// What became of it.
    pub count: FaultCount,
}

impl Stats {
    /// Numbers of the faults that the plan requires and that no client ever could see.
    #[must_use]
    pub fn unobserved(&self) -> Vec<String> {
        let unseen = |it: &&PlannedCount| it.fault.required && it.count.observable == 0;
        self.planned.iter().filter(unseen).map(|it| it.fault.name.clone()).collect()
    }
}

/// An answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// Why it was not done.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub error: Option<String>,
    /// What it did, in words.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub done: Option<String>,
    /// For `stats`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub stats: Option<Stats>,
    /// For `log`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub log: Option<Vec<Happened>>,
}

fn host(drive: &Drive, name: &str) -> Result<HostId, String> {
    drive.host(name).ok_or_else(|| format!("there is no host {name}; there are {}", drive.host_names().join(", ")))
}

fn loss(name: &str) -> Result<Loss, String> {
    match name {
        "nothing" => Ok(Loss::Nothing),
        "some" => Ok(Loss::Some),
        "all" => Ok(Loss::All),
        other => Err(format!("a restart loses nothing, some or all, not {other:?}")),
    }
}

/// Counts of a drive.
#[must_use]
pub fn stats(drive: &Drive) -> Stats {
    let mut stats = Stats {
        faults: drive.fault_counts(),
        planned: drive.planned_faults().into_iter().map(|(fault, count)| PlannedCount { fault, count }).collect(),
        unstable_bytes: drive.unstable_bytes(),
        now_us: drive.now() / 1000,
        ..Stats::default()
    };
    for (fault, kind, count) in drive.fault_counts_by_op() {
        stats.faults_by_op.entry(fault.to_owned()).or_default().insert(kind.name().to_owned(), count);
    }
    for (id, name) in drive.host_names().into_iter().enumerate() {
        let trips = drive.trips(id);
        stats.lookup_before_link.insert(name.clone(), trips.lookup_before_link);
        let made = trips.made.iter().map(|(kind, count)| (kind.name().to_owned(), *count)).collect();
        stats.trips.insert(name, made);
    }
    stats
}

/// Carries a command out on a drive.
///
/// # Errors
/// Says what is wrong with it.
pub fn carry_out(drive: &mut Drive, command: Command) -> Result<Answer, String> {
    let mut answer = Answer::default();
    match command {
        Command::Ping | Command::Quit => {}
        Command::Fault { fault } => {
            drive.add_fault(*fault)?;
            // One whose time is now happens now.
            drive.tick();
        }
        Command::Heal => drive.heal(),
        Command::Restart { loss: lost } => {
            let done = drive.restart(loss(&lost)?);
            answer.done = Some(format!("{} writes and {} locks lost", done.writes_lost, done.locks_lost));
        }
        Command::Cut { host: name, ms } => drive.cut(host(drive, &name)?, ms),
        Command::ExpireLease { host: name } => {
            answer.done = Some(format!("{} locks lost", drive.expire_lease(host(drive, &name)?)));
        }
        Command::LocalLocks { host: name } => drive.make_locks_local(host(drive, &name)?),
        Command::Space { free } => drive.limit_space(free),
        Command::Crash { host: name } => drive.crash(host(drive, &name)?),
        Command::Boot { host: name } => drive.boot(host(drive, &name)?),
        Command::Stats => answer.stats = Some(stats(drive)),
        Command::Log => answer.log = Some(drive.fault_log()),
    }
    Ok(answer)
}

fn lock(drive: &Mutex<Drive>) -> MutexGuard<'_, Drive> {
    drive.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Listens until it is told to quit.
///
/// # Errors
/// The socket cannot be made.
pub fn serve(socket: &Path, drive: &Arc<Mutex<Drive>>, quit: impl Fn() + Send + Sync + 'static) -> std::io::Result<()> {
    let listener = UnixListener::bind(socket)?;
    let (drive, quit) = (Arc::clone(drive), Arc::new(quit));
    std::thread::Builder::new().name("control".to_owned()).spawn(move || {
        for stream in listener.incoming().flatten() {
            let (drive, quit) = (Arc::clone(&drive), Arc::clone(&quit));
            std::thread::spawn(move || {
                // A client that went away needs no answer.
                let _ = converse(stream, &drive, &*quit);
            });
        }
    })?;
    Ok(())
}

fn converse(stream: UnixStream, drive: &Mutex<Drive>, quit: &(impl Fn() + ?Sized)) -> std::io::Result<()> {
    let mut out = stream.try_clone()?;
    for line in BufReader::new(stream).lines() {
        let command: Result<Command, String> = serde_json::from_str(&line?).map_err(|err| err.to_string());
        let quitting = command == Ok(Command::Quit);
        let answer = command
            .and_then(|command| carry_out(&mut lock(drive), command))
            .unwrap_or_else(|error| Answer { error: Some(error), ..Answer::default() });
        let mut text = serde_json::to_string(&answer)?;
        text.push('\n');
        out.write_all(text.as_bytes())?;
        if quitting {
            quit();
            break;
        }
    }
    Ok(())
}

/// The other end.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<UnixStream>,
}

impl Client {
    /// Connects; every answer must come within the time given.
    ///
    /// # Errors
    /// Nobody listens.
    pub fn connect(socket: &Path, patience: Duration) -> std::io::Result<Client> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(patience))?;
        Ok(Client { stream: BufReader::new(stream) })
    }

    /// Sends a command and waits for its answer.
    ///
    /// # Errors
    /// The drive refuses, or does not answer.
    pub fn send(&mut self, command: &Command) -> Result<Answer, String> {
        let mut text = serde_json::to_string(command).map_err(|err| err.to_string())?;
        text.push('\n');
        self.stream.get_mut().write_all(text.as_bytes()).map_err(|err| format!("the drive is gone: {err}"))?;
        let mut line = String::new();
        self.stream.read_line(&mut line).map_err(|err| format!("the drive does not answer: {err}"))?;
        let answer: Answer = serde_json::from_str(&line).map_err(|err| format!("the drive is gone: {err}"))?;
        match answer.error {
            Some(error) => Err(error),
            None => Ok(answer),
        }
    }
}
