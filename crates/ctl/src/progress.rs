//! What takes long says so, to people: one line on standard error while it lasts, gone when it ends.

use std::{
    io::{IsTerminal as _, Write as _},
    time::Duration,
};

use tokio::time::{MissedTickBehavior, interval};

/// What is done sooner says nothing, and later this often.
const EVERY: Duration = Duration::from_secs(1);

/// Waits for `work`, and says how long it has lasted where somebody sees it.
pub(crate) async fn during<T>(doing: &str, work: impl Future<Output = T>) -> T {
    if !std::io::stderr().is_terminal() {
        return work.await;
    }
    watched(doing, work, |text| {
        let mut terminal = std::io::stderr();
        // A terminal that has gone ends this by a signal.
        terminal.write_all(text.as_bytes()).and_then(|()| terminal.flush()).unwrap_or_default();
    })
    .await
}

async fn watched<T>(doing: &str, work: impl Future<Output = T>, mut say: impl FnMut(&str)) -> T {
    let mut work = std::pin::pin!(work);
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut seconds = 0_u64;
    loop {
        tokio::select! {
            biased;
            done = &mut work => {
                if seconds > 1 {
                    say("\r\u{1b}[K");
                }
                return done;
            }
            _ = ticks.tick() => {
                if seconds > 0 {
                    say(&format!("\r{doing} … {seconds} s\u{1b}[K"));
                }
                seconds += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_what_lasts_is_told_and_nothing_of_it_stays() {
        let mut said = Vec::new();
        assert_eq!(watched("applying", async { 1 }, |text| said.push(text.to_owned())).await, 1);
        assert_eq!(said, [""; 0]);
        watched("applying", tokio::time::sleep(Duration::from_millis(2_500)), |text| said.push(text.to_owned())).await;
        assert_eq!(said, ["\rapplying … 1 s\u{1b}[K", "\rapplying … 2 s\u{1b}[K", "\r\u{1b}[K"]);
    }
}
