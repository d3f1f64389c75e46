//! Which machine this is, as far as it matters to who reads a result.

use std::collections::BTreeMap;

/// Kernel, distribution, processor and memory of this machine, by name; what cannot be found out is left out.
#[must_use]
pub fn machine() -> BTreeMap<String, String> {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let model = read("/proc/cpuinfo").and_then(|text| field(&text, "model name", ':'));
    let memory = read("/proc/meminfo").and_then(|text| field(&text, "MemTotal", ':')).and_then(|text| gibibytes(&text));
    let system = read("/etc/os-release").and_then(|text| field(&text, "PRETTY_NAME", '='));
    let kernel = read("/proc/sys/kernel/osrelease").map(|text| text.trim().to_owned());
    let rows = [
        ("kernel", kernel),
        ("system", system.map(|name| name.trim_matches('"').to_owned())),
        ("processor", model),
        ("processors", Some(cpus.to_string())),
        ("architecture", Some(std::env::consts::ARCH.to_owned())),
        ("memory", memory),
    ];
    rows.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

/// The value of the first line of that name.
fn field(text: &str, name: &str, separator: char) -> Option<String> {
    text.lines()
        .filter_map(|line| line.split_once(separator))
        .find(|(its, _)| its.trim() == name)
        .map(|(_, value)| value.trim().to_owned())
        .filter(|value| !value.is_empty())
}

/// `24672340 kB` as `23.5 GiB`.
fn gibibytes(text: &str) -> Option<String> {
    let kibibytes: f64 = text.strip_suffix("kB")?.trim().parse().ok()?;
    Some(format!("{:.1} GiB", kibibytes / 1_048_576.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_proc_files_are_found_by_their_whole_name() {
        let text = "cpu model\t: no\nmodel name\t: Some CPU @ 2.0 GHz\nmodel name\t: another\nflags\t:\n";
        assert_eq!(field(text, "model name", ':').as_deref(), Some("Some CPU @ 2.0 GHz"));
        assert_eq!(field(text, "model", ':'), None);
        assert_eq!(field(text, "flags", ':'), None);
        assert_eq!(gibibytes("24672340 kB").as_deref(), Some("23.5 GiB"));
        assert_eq!(gibibytes("a lot"), None);
    }

    #[test]
    fn a_machine_has_an_architecture_and_processors() {
        let machine = machine();
        assert_eq!(machine["architecture"], std::env::consts::ARCH);
        assert!(machine["processors"].parse::<usize>().unwrap() >= 1);
    }
}
