//! The port `Clock` on virtual time.

use async_trait::async_trait;
use waypost_runtime::ports::Clock;
use waypost_types::Timestamp;

use crate::VirtualClock;

#[async_trait]
impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        Self::now(self)
    }

    async fn sleep_until(&self, instant: Timestamp) {
        let mut time = self.watch();
        // the sender lives in `self`
        if time.wait_for(|now| *now >= instant).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
