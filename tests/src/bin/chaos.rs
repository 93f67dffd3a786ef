//! `make chaos`: faults on a real Kafka and a real Redis, then the oracle. Exit code 0 only where nothing is wrong.

use std::process::ExitCode;

use waypost_tests::chaos::{run::run, settings::Settings, story::say};

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let settings = match Settings::from_environment() {
        Ok(settings) => settings,
        Err(error) => {
            say(&format!("chaos: {error:#}"));
            return ExitCode::from(2);
        }
    };
    // Children end with this process, however it ends; on ^C at once.
    let ran = tokio::select! {
        ran = run(settings) => ran,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
    };
    match ran {
        Ok(outcome) if outcome.is_good() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            say(&format!("chaos: the run says nothing: {error:#}"));
            ExitCode::from(2)
        }
    }
}
