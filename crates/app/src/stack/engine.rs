//! `waypost engine activate`: a later engine for every partition, once every process has it.

use std::{process::ExitCode, sync::Arc, time::Duration};

use anyhow::Context as _;
use waypost_control::{Act, Audit, Line, activate_engine, check_engine};
use waypost_runtime::{host::SystemClock, install, ports::Clock as _, progress::Directory};

use super::{block_on, log};
use crate::{config::Config, screen};

/// Every process says once a second what it has.
const LISTEN: Duration = Duration::from_secs(3);

/// Listens to who runs, and activates where nothing stands in the way.
pub(crate) fn activate(config: &Config, number: u32, by: &str) -> anyhow::Result<ExitCode> {
    block_on(async {
        let (log, prefix) = (log(config)?, &config.install.prefix);
        let layout = install::load_install(&*log, prefix).await?.layout();
        let directory = Directory::follow(log.clone(), prefix);
        tokio::time::sleep(LISTEN).await;
        let now = SystemClock.now();
        check_engine(&directory, layout, number, now).context("nothing was activated")?;
        let audit = Audit::new(Arc::clone(&log), Arc::new(SystemClock), prefix);
        audit.write(Line::new(by, Act::EngineActivate, format!("engines/{number}"))).await?;
        activate_engine(&log, prefix, layout, number, now).await?;
        screen(&format!("engine {number} is activated; each partition changes where its log says so"), false);
        Ok(ExitCode::SUCCESS)
    })
}
