//! The program: pages of results that other programs wrote.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

/// Make pages of results, and compare results
#[derive(Debug, Parser)]
#[command(version, about, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Write the pages of a file of results into a folder
    ///
    /// The file says what it is about: what the harness found, what real mounts do, or how fast engines are. Several files about mounts
    /// become one report. Also writes results.json with its JSON schema, and junit.xml.
    Render {
        /// Results, as JSON
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// The folder
        #[arg(long)]
        out: PathBuf,
        /// Earlier results about speed, to be compared with
        #[arg(long, value_name = "FILE")]
        against: Option<PathBuf>,
    },
    /// Name what became slower or faster beyond noise; ends with 1 when anything became slower
    Compare {
        /// Earlier results about speed
        baseline: PathBuf,
        /// The new ones
        new: PathBuf,
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
    Results,
    /// What real mounts do
    Mounts,
    /// How fast engines are
    Bench,
}

fn run(command: Task) -> std::io::Result<ExitCode> {
    match command {
        Task::Render { files, out, against } => {
            reports::render(&files, &out, against.as_deref())?;
            println!("Report: {}", out.join("index.html").display());
            Ok(ExitCode::SUCCESS)
        }
        Task::Compare { baseline, new } => {
            let (text, slower) = reports::compare(&baseline, &new)?;
            print!("{text}");
            Ok(ExitCode::from(u8::from(slower > 0)))
        }
        Task::Schema { kind } => {
            let kind = match kind {
                SchemaKind::Results => reports::Kind::Results,
                SchemaKind::Mounts => reports::Kind::Mounts,
                SchemaKind::Bench => reports::Kind::Bench,
            };
            print!("{}", reports::schema(kind));
            Ok(ExitCode::SUCCESS)
        }
    }
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
