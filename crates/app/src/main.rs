//! `waypost`: every role in one binary. This file is the plot; each command has its own.

mod cli;
mod config;
mod dev;
mod dev_registry;
mod files;
mod health;
mod keys;
#[cfg(feature = "stack")]
mod stack;
mod token;

use std::process::ExitCode;

use clap::Parser as _;
use cli::{Cli, Command, ConfigCommand};
use config::Config;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(code) => code,
        Err(error) => {
            screen(&format!("error: {error:#}"), true);
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let config = Config::load(&cli.config, std::env::vars(), &cli.flags)?;
    match cli.command {
        Command::Dev(args) => {
            log("warn", &config)?;
            dev::run(&args)
        }
        Command::Token(args) => token::run(&args),
        Command::Health { ready } => health::health(&config, ready),
        Command::Config { what: ConfigCommand::Print } => {
            screen(config::DEFAULT.trim_end(), false);
            Ok(ExitCode::SUCCESS)
        }
        Command::Config { what: ConfigCommand::Check } => {
            for warning in config.warnings() {
                screen(&format!("warning: {warning}"), false);
            }
            screen("the settings are good", false);
            Ok(ExitCode::SUCCESS)
        }
        #[cfg(feature = "stack")]
        Command::Serve(args) => {
            log(&config.log.filter, &config)?;
            for warning in config.warnings() {
                tracing::warn!("{warning}");
            }
            stack::serve(&config, &args)
        }
        #[cfg(feature = "stack")]
        Command::Init(args) => {
            log(&config.log.filter, &config)?;
            stack::init(&config, &args)
        }
        #[cfg(feature = "stack")]
        Command::Doctor => {
            log("error", &config)?;
            stack::doctor(&config)
        }
        #[cfg(feature = "stack")]
        Command::Backup(args) => {
            log("error", &config)?;
            stack::backup(&config, &args)
        }
        #[cfg(feature = "stack")]
        Command::Restore(args) => {
            log("error", &config)?;
            stack::restore(&config, &args)
        }
        #[cfg(feature = "stack")]
        Command::Refold(args) => {
            log("error", &config)?;
            Ok(stack::refold(&config, &args))
        }
        #[cfg(feature = "stack")]
        Command::Repair(args) => {
            log("error", &config)?;
            stack::repair(&config, &args)
        }
        #[cfg(feature = "stack")]
        Command::Skip { what } => {
            log("error", &config)?;
            stack::skip(&config, &what)
        }
        #[cfg(feature = "stack")]
        Command::Bench(args) => {
            log("error", &config)?;
            stack::bench(&config, &args)
        }
        #[cfg(feature = "stack")]
        Command::Engine { what: cli::EngineCommand::Activate { number, who } } => {
            log(&config.log.filter, &config)?;
            stack::engine::activate(&config, number, &cli::who(who.as_deref()))
        }
        #[cfg(feature = "stack")]
        Command::RedisAcl(args) => stack::redis_acl(&config, &args),
        #[cfg(feature = "stack")]
        Command::Registry { listen } => {
            log(&config.log.filter, &config)?;
            stack::registry(&listen)
        }
        #[cfg(not(feature = "stack"))]
        Command::Serve(_)
        | Command::Init(_)
        | Command::Doctor
        | Command::Engine { .. }
        | Command::Bench(_)
        | Command::RedisAcl(_)
        | Command::Backup(_)
        | Command::Restore(_)
        | Command::Refold(_)
        | Command::Repair(_)
        | Command::Skip { .. }
        | Command::Registry { .. } => {
            anyhow::bail!("this binary was built without Kafka and Redis: build it with the feature `stack` (the default)")
        }
    }
}

fn log(filter: &str, config: &Config) -> anyhow::Result<()> {
    let format = if config.log.format == "json" { waypost_telemetry::Format::Json } else { waypost_telemetry::Format::Text };
    Ok(waypost_telemetry::init(filter, format)?)
}

/// The one place that writes to the terminal outside of logs. A reader that has gone is no error of ours.
fn screen(text: &str, trouble: bool) {
    use std::io::Write as _;
    let written = if trouble { writeln!(std::io::stderr(), "{text}") } else { writeln!(std::io::stdout(), "{text}") };
    written.unwrap_or_default();
}
