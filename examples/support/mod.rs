//! What all examples share: a program that ends by itself must know when.

use std::time::Duration;

use abe_events::Runtime;

/// Waits until every message has ended: handled, filtered, skipped or dead, and none is due later.
///
/// A service needs nothing of the kind: it runs until `runtime.stopped().await` says that it was told to stop.
pub(crate) async fn settled(runtime: &Runtime) {
    while runtime.monitor().total().pending > 0 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
