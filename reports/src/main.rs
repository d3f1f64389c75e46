//! The program: pages of results that other programs wrote.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Make pages of results
///
/// Ends with 2 when a file cannot be read or a page cannot be written.
#[derive(Debug, Parser)]
#[command(version, about, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Task,
}

#[derive(Debug, Args)]
struct Out {
    /// The folder for index.html, results.json and its JSON schema
    #[arg(long)]
    out: PathBuf,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// What the harness found: a page, one for each failure, and junit.xml
    Harness {
        /// The results, as JSON
        file: PathBuf,
        #[command(flatten)]
        out: Out,
    },
    /// What real mounts do: one page of all files, and junit.xml
    Mounts {
        /// The results, as JSON; each mount may have written a file of its own
        #[arg(required = true)]
        files: Vec<PathBuf>,
        #[command(flatten)]
        out: Out,
    },
    /// How fast engines are; beside a baseline, ends with 1 when something became slower beyond noise
    Bench {
        /// The results, as JSON
        file: PathBuf,
        /// Earlier results, to be compared with
        #[arg(long, value_name = "FILE")]
        against: Option<PathBuf>,
        #[command(flatten)]
        out: Out,
    },
    /// Print the JSON schema of a kind of results
    Schema {
        /// Which
        kind: SchemaKind,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum SchemaKind {
    /// What the harness found
    Harness,
    /// What real mounts do
    Mounts,
    /// How fast engines are
    Bench,
}

fn run(command: Task) -> std::io::Result<ExitCode> {
    let mut slower = 0;
    let out = match command {
        Task::Harness { file, out } => {
            reports::render_results(&file, &out.out)?;
            out.out
        }
        Task::Mounts { files, out } => {
            reports::render_mounts(&files, &out.out)?;
            out.out
        }
        Task::Bench { file, against, out } => {
            let (changes, count) = reports::render_bench(&file, against.as_deref(), &out.out)?;
            print!("{changes}");
            slower = count;
            out.out
        }
        Task::Schema { kind } => {
            let kind = match kind {
                SchemaKind::Harness => reports::Kind::Results,
                SchemaKind::Mounts => reports::Kind::Mounts,
                SchemaKind::Bench => reports::Kind::Bench,
            };
            print!("{}", reports::schema(kind));
            return Ok(ExitCode::SUCCESS);
        }
    };
    println!("Report: {}", out.join("index.html").display());
    Ok(ExitCode::from(u8::from(slower > 0)))
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(code) => code,
        Err(why) => {
            eprintln!("reports: {why}");
            ExitCode::from(2)
        }
    }
}
