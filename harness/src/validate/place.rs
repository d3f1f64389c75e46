//! Where hosts are: a folder of the share each, and how a process gets into that host.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::engine::Python;

/// How long a drive that fails may take to work again before a run begins: smbnetfs refuses everything for a quarter of a minute after a
/// call that it cannot do.
const AFTER_FAILURE: Duration = Duration::from_secs(40);

/// One host's view of the share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The host's name in histories.
    pub host: String,
    /// Its mount of the share, or a folder on it.
    pub dir: PathBuf,
    /// The command that runs another one in that host (`nsenter ...`); empty where this is the host.
    pub enter: Vec<String>,
}

impl Place {
    /// Writes a program that starts Python in that host, with `module` imported already, and returns it as the interpreter. `env`
    /// are `NAME=VALUE`.
    ///
    /// # Errors
    /// The program cannot be written.
    pub fn python(&self, interpreter: &Path, module: &str, worker: &Path, temp: &Path, env: &[String]) -> Result<Python, String> {
        let path = temp.join(format!("python-{}", self.host));
        let quoted = |words: &mut dyn Iterator<Item = String>| words.map(|word| quote(&word)).collect::<Vec<_>>().join(" ");
        let words = quoted(&mut self.enter.iter().cloned().chain(["env".to_owned()]).chain(env.iter().cloned()));
        let code = format!("import {module}, runpy, sys; del sys.argv[0]; runpy.run_path(sys.argv[0], run_name='__main__')");
        let text = format!("#!/bin/sh\nexec {words} {} -c {} \"$@\"\n", quote(&interpreter.display().to_string()), quote(&code));
        std::fs::write(&path, text)
            .and_then(|()| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)))
            .map_err(|err| format!("cannot write {}: {err}", path.display()))?;
        Ok(Python { interpreter: path, worker: worker.to_owned() })
    }
}

fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// A new folder on the drive, which goes with this.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    name: String,
}

impl Folder {
    /// Makes a folder that nobody else has, on the first host's mount.
    ///
    /// # Errors
    /// The drive does not let us.
    pub fn create(place: &Place) -> Result<Folder, String> {
        let name = crate::validate::place::unique()?;
        let path = place.dir.join(&name);
        let until = Instant::now() + AFTER_FAILURE;
        loop {
            match std::fs::create_dir(&path) {
                Ok(()) => return Ok(Folder { path, name }),
                Err(err) if err.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) && Instant::now() < until => {
                    std::thread::sleep(Duration::from_millis(500));
                }
                Err(err) => return Err(format!("cannot make a folder on the drive, {}: {err}", path.display())),
            }
        }
    }

    /// The folder as another host sees it.
    #[must_use]
    pub fn seen_by(&self, place: &Place) -> PathBuf {
        place.dir.join(&self.name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A drive that keeps deleted files for a while refuses at first.
        for _ in 0..20 {
            match std::fs::remove_dir_all(&self.path) {
                Err(err) if err.kind() != std::io::ErrorKind::NotFound => std::thread::sleep(Duration::from_millis(250)),
                _ => return,
            }
        }
        eprintln!("harness: could not remove {}; please do", self.path.display());
    }
}

/// A name that nobody has used on the drive.
pub(crate) fn unique() -> Result<String, String> {
    let mut bytes = [0; 8];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut file| std::io::Read::read_exact(&mut file, &mut bytes))
        .map_err(|err| format!("no random numbers: {err}"))?;
    Ok(format!("diskcache-rs-validate-{}", bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()))
}

/// Makes sure that all hosts see one share: a mount that failed leaves its empty folder, and everything would pass there.
///
/// # Errors
/// They do not, or the drive lets nobody write.
pub fn same_share(places: &[&Place]) -> Result<(), String> {
    let Some((first, others)) = places.split_first() else { return Err("no folder was given".to_owned()) };
    let folder = Folder::create(first)?;
    let path = folder.seen_by(first).join("seen");
    std::fs::File::create_new(&path)
        .and_then(|mut file| file.write_all(first.host.as_bytes()).and_then(|()| file.sync_all()))
        .map_err(|err| format!("cannot write {}: {err}", path.display()))?;
    for other in others {
        // A folder's listing may be believed for a minute by a client that has just read it.
        let until = Instant::now() + Duration::from_secs(65);
        let path = folder.seen_by(other).join("seen");
        while std::fs::read(&path).ok().as_deref() != Some(first.host.as_bytes()) {
            if Instant::now() > until {
                let (one, two) = (first.dir.display(), other.dir.display());
                return Err(format!("{one} and {two} are not the same share: what is written to the first is not seen in the second"));
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(dir: &Path) -> Place {
        Place { host: "a".to_owned(), dir: dir.to_owned(), enter: Vec::new() }
    }

    #[test]
    fn nothing_is_left_on_the_drive() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::create(&place(dir.path())).unwrap();
        std::fs::write(folder.seen_by(&place(dir.path())).join("x"), b"x").unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        drop(folder);
        same_share(&[&place(dir.path()), &place(dir.path())]).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn python_is_started_through_the_hosts_command_with_its_environment() {
        let dir = tempfile::tempdir().unwrap();
        let mut place = place(dir.path());
        place.enter = vec!["env".to_owned(), "ENTERED=it's in".to_owned()];
        let worker = dir.path().join("worker.py");
        std::fs::write(&worker, "import os, sys; print(os.environ['ENTERED'], os.environ['MORE'], 'json' in sys.modules)").unwrap();
        let python = place.python(Path::new("python3"), "json", &worker, dir.path(), &["MORE=1".to_owned()]).unwrap();
        let out = std::process::Command::new(&python.interpreter).arg(&worker).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&out.stdout), "it's in 1 True\n", "{}", String::from_utf8_lossy(&out.stderr));
    }
}
