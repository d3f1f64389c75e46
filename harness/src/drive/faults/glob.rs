//! Patterns of paths.

/// Whether a path matches a pattern: `?` is one character and `*` any number of them within a folder; `**` crosses folders.
#[must_use]
pub fn glob(pattern: &str, path: &str) -> bool {
    fn matches(pattern: &[u8], path: &[u8]) -> bool {
        match pattern {
            [] => path.is_empty(),
            [b'*', b'*', rest @ ..] => {
                let rest = rest.strip_prefix(b"/").filter(|_| path.is_empty() || !path.starts_with(b"/")).unwrap_or(rest);
                (0..=path.len()).any(|skip| matches(rest, &path[skip..]))
            }
            [b'*', rest @ ..] => {
                let within = path.iter().position(|&byte| byte == b'/').unwrap_or(path.len());
                (0..=within).any(|skip| matches(rest, &path[skip..]))
            }
            [b'?', rest @ ..] => path.first().is_some_and(|&byte| byte != b'/') && matches(rest, &path[1..]),
            [byte, rest @ ..] => path.first() == Some(byte) && matches(rest, &path[1..]),
        }
    }
    matches(pattern.as_bytes(), path.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_stay_within_folders_unless_doubled() {
        assert!(glob("*/cache.db*", "dc/cache.db-wal"));
        assert!(!glob("*.db", "dc/cache.db"));
        assert!(glob("**/log/*", "dc/log/17"));
        assert!(glob("**/log/*", "log/17"));
        assert!(glob("**", "a/b/c"));
        assert!(!glob("log/?", "log/17"));
    }
}
