//! What was found, as data with versions, and the pages made of it.
//!
//! Pages need nothing but themselves: no font, no network, and no script that they would not work without. They can be read on a
//! phone and in the dark, and they begin with the verdict.

mod html;
mod machine;
mod results;

use std::path::Path;

pub use html::page;
pub use machine::machine;
pub use results::*;

impl Report {
    /// Writes `results.json` and `index.html` into a folder.
    ///
    /// # Errors
    /// They cannot be written.
    pub fn save(&self, dir: &Path) -> std::io::Result<()> {
        std::fs::create_dir_all(dir)?;
        std::fs::write(dir.join("results.json"), serde_json::to_string_pretty(self)?)?;
        std::fs::write(dir.join("index.html"), page(self))
    }
}

#[cfg(test)]
mod tests;
