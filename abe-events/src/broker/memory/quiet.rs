//! Tells when queues have run empty, without polling.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// Who waits for quiet, and how they learn of it.
#[derive(Debug, Default)]
pub(super) struct Quiet {
    watchers: AtomicUsize,
    notify: Notify,
}

impl Quiet {
    /// Something has just become empty.
    pub(super) fn tell(&self) {
        if self.watchers.load(Ordering::SeqCst) > 0 {
            self.notify.notify_waiters();
        }
    }

    /// Waits until `look` answers something; it is asked again whenever something became empty.
    pub(super) async fn until<T>(&self, mut look: impl FnMut() -> Option<T>) -> T {
        struct Watching<'a>(&'a AtomicUsize);
        impl Drop for Watching<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::SeqCst);
            }
        }
        self.watchers.fetch_add(1, Ordering::SeqCst);
        let _watching = Watching(&self.watchers);
        loop {
            let mut told = std::pin::pin!(self.notify.notified());
            told.as_mut().enable();
            if let Some(answer) = look() {
                return answer;
            }
            told.await;
        }
    }
}
