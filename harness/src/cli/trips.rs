//! `harness roundtrips`: what each operation costs on the drive.

use std::process::ExitCode;

use clap::Args;

use super::{BenchArgs, engines, introduce, temp};
use crate::trips;

/// Count the round trips of each operation on the nfs4 drive
///
/// Ends with 1 when one of ours exceeds its limit.
#[derive(Debug, Args)]
pub(super) struct TripsArgs {
    #[command(flatten)]
    bench: BenchArgs,
    /// ours, diskcache, diskcache-delete, naive, or all
    #[arg(long, value_delimiter = ',', default_value = "all")]
    engines: Vec<String>,
}

impl TripsArgs {
    pub(super) fn run(&self) -> Result<ExitCode, String> {
        let temp = temp()?;
        let bench = self.bench.bench(temp.path())?;
        let mut engines = engines(&self.engines)?;
        introduce(&bench, &mut engines)?;
        let rows = trips::measure_all(&bench, &engines)?;
        print!("{}", trips::table(&rows));
        Ok(ExitCode::from(u8::from(trips::too_many(&rows))))
    }
}
