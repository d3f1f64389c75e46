//! What kind of drive it is: which caches its clients keep and for how long, how they lock, what it does by nature, and which
//! errors and guarantees it has. The built-in kinds are TOML files in `harness/profiles`; another file does as well.

use serde::{Deserialize, Serialize};

use super::errno::Errno;
use super::faults::{Fault, plan};

/// A drive's kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Profile {
    /// Its name.
    pub name: String,
    /// For people.
    pub title: String,
    /// What it does, in a sentence.
    pub about: String,
    /// What the kernel calls such a mount.
    pub fs_type: String,
    /// The letter of its faults' numbers: by it stale answers are counted.
    pub family: char,
    /// Which of the guarantees D O A L X T it gives while nothing fails (see the catalogue of faults).
    pub keeps: String,
    /// The errors that its callers meet.
    pub errors: Vec<String>,
    /// Whether hosts keep files' pages and attributes.
    pub pages: bool,
    /// Whether they keep names, also absent ones.
    pub names: bool,
    /// Whether they keep listings.
    pub listings: bool,
    /// Whether writes wait on the host until fsync, close, a lock, or a timer.
    pub write_behind: bool,
    /// Whether fsync does anything. (The kernel answers OK for a FUSE program that has none; what it wrote is there once it is closed.)
    pub syncs: bool,
    /// Whether what was written is stable once it is closed, locked, linked or renamed, as on NFS. Elsewhere only fsync makes it so.
    pub stable_close: bool,
    /// How long a file's attributes are believed at first; doubled while they do not change.
    pub attr_min_ms: u64,
    /// How long at most.
    pub attr_max_ms: u64,
    /// The same for a folder's, by which its names (also the absent ones) and listings are believed.
    pub dir_min_ms: u64,
    /// How long at most.
    pub dir_max_ms: u64,
    /// Locks are granted by each host for itself (`nolock`, `local_lock=all`).
    pub local_locks: bool,
    /// Reading or writing what another host has locked fails.
    pub mandatory_locks: bool,
    /// A file removed while open on its host is renamed to `.nfsXXXX` until it is closed.
    pub silly_rename: bool,
    /// A file removed while open on any host lives on without a name until it is closed everywhere.
    pub keep_unlinked: bool,
    /// Largest READ and WRITE.
    pub io_bytes: usize,
    /// A host writes back by itself what has been dirty for this long.
    pub writeback_ms: u64,
    /// What a round trip takes (in virtual time always; in real time too, when not 0).
    pub rtt_us: u64,
    /// Size of the drive.
    pub capacity_mib: u64,
    /// Times of files are rounded down to this.
    pub time_step_ns: u64,
    /// What it does by nature: faults that strike whatever the plan, and that healing does not end.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nature: Vec<Fault>,
}

impl Default for Profile {
    fn default() -> Profile {
        Profile {
            name: String::new(),
            title: String::new(),
            about: String::new(),
            fs_type: "nfs4".to_owned(),
            family: 'N',
            keeps: "DOAL".to_owned(),
            errors: Vec::new(),
            pages: true,
            names: true,
            listings: true,
            write_behind: true,
            syncs: true,
            stable_close: true,
            attr_min_ms: 3_000,
            attr_max_ms: 60_000,
            dir_min_ms: 30_000,
            dir_max_ms: 60_000,
            local_locks: false,
            mandatory_locks: false,
            silly_rename: true,
            keep_unlinked: false,
            io_bytes: 1 << 20,
            writeback_ms: 30_000,
            rtt_us: 0,
            capacity_mib: 1024,
            time_step_ns: 1,
            nature: Vec::new(),
        }
    }
}

macro_rules! built_in {
    ($($file:literal),* $(,)?) => {
        const BUILT_IN: &[(&str, &str)] = &[$(($file, include_str!(concat!("../../profiles/", $file, ".toml")))),*];
    };
}

built_in!("local", "nfs3", "nfs4", "smb3", "sftp", "gluster", "fuse", "object", "sync");

impl Profile {
    /// A Linux NFSv4.2 client with default mount options, without delegations.
    ///
    /// # Panics
    /// Never: the tests read every profile that is built in.
    #[must_use]
    pub fn nfs4() -> Profile {
        Profile::named("nfs4").unwrap_or_default()
    }

    /// Strict and coherent, as processes of one machine see a local disk.
    #[must_use]
    pub fn local() -> Profile {
        Profile::named("local").unwrap_or_default()
    }

    /// A built-in profile.
    #[must_use]
    pub fn named(name: &str) -> Option<Profile> {
        let (_, text) = BUILT_IN.iter().find(|(file, _)| *file == name)?;
        Profile::parse(text).ok()
    }

    /// The names of those that are built in.
    pub fn names() -> impl Iterator<Item = &'static str> {
        BUILT_IN.iter().map(|(file, _)| *file)
    }

    /// The fault that a lock counts as which a host granted by itself although another has it.
    #[must_use]
    pub fn local_lock_fault(&self) -> &'static str {
        match self.family {
            'F' => "F7",
            'O' => "O10",
            'Y' => "Y12",
            _ => "N21",
        }
    }

    /// Reads a profile.
    ///
    /// # Errors
    /// Says what is wrong, and on which line.
    pub fn parse(text: &str) -> Result<Profile, String> {
        let profile: Profile = plan::read(text)?;
        if profile.keeps.chars().any(|letter| !"DOALXT".contains(letter)) {
            return Err(format!("keeps = {:?}: the guarantees are D, O, A, L, X and T", profile.keeps));
        }
        if !"UNSFOY".contains(profile.family) {
            return Err(format!("family = {:?}: the families are U, N, S, F, O and Y", profile.family));
        }
        match profile.errors.iter().find(|name| Errno::from_name(name).is_none()) {
            Some(name) => Err(format!("errors: there is no {name:?}")),
            None => Ok(profile),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_profile_says_what_it_is() {
        for name in Profile::names() {
            let text = BUILT_IN.iter().find(|(file, _)| *file == name).map(|(_, text)| *text).unwrap();
            let profile = Profile::parse(text).unwrap_or_else(|err| panic!("{name}.toml: {err}"));
            assert_eq!(profile.name, name);
            assert!(!profile.title.is_empty() && !profile.about.is_empty() && !profile.errors.is_empty(), "{name}");
            assert!(profile.nature.iter().all(|fault| fault.count == 0), "{name}: what is nature does not end");
            let again = Profile::parse(&toml::to_string(&profile).unwrap()).unwrap();
            assert_eq!(again, profile, "{name} is written as it is read");
        }
    }

    #[test]
    fn what_is_wrong_with_a_profile_is_said_with_its_line() {
        let said = Profile::parse("name = \"x\"\npagse = true\n").unwrap_err();
        assert!(said.contains("line 2") && said.contains("pagse"), "{said}");
        assert!(Profile::parse("keeps = \"DZ\"\n").is_err());
        assert!(Profile::parse("errors = [\"EWHAT\"]\n").is_err());
    }
}
