//! Told that there is more, on a connection of its own. Only a hint: whoever hears nothing looks now and then.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use tokio_util::sync::CancellationToken;

use super::Shared;

/// The pause before the next try to listen.
const PAUSE: Duration = Duration::from_secs(1);

/// After so long without a word it is listened anew: a connection may be dead without anybody saying so.
const SILENCE: Duration = Duration::from_secs(30);

/// Listens until the end.
pub(super) async fn listen(shared: Arc<Shared>, closing: CancellationToken) {
    let listening = async {
        loop {
            let _ = listen_once(&shared).await;
            tokio::time::sleep(PAUSE).await;
        }
    };
    tokio::select! {
        () = closing.cancelled() => {}
        () = listening => {}
    }
}

async fn listen_once(shared: &Shared) -> Option<()> {
    let server = &shared.server;
    let mut connection = tokio::time::timeout(server.timeout, server.client.get_async_pubsub()).await.ok()?.ok()?;
    tokio::time::timeout(server.timeout, connection.subscribe(shared.names.more())).await.ok()?.ok()?;
    // What was said before is looked for.
    shared.lives.wake_all();
    let mut words = connection.on_message();
    while let Ok(Some(word)) = tokio::time::timeout(SILENCE, words.next()).await {
        shared.lives.wake(&String::from_utf8_lossy(word.get_payload_bytes()));
    }
    Some(())
}
