//! Asking the writer for something that is a function of the transaction, and waiting for what it answers.

use tokio::sync::oneshot;

use super::error::Fault;
use super::state::Tx;
use super::writer::{Inbox, Work};
use crate::error::{Error, ErrorKind, Result};

/// A function to be called within a transaction.
struct Call<T, F> {
    run: F,
    value: Option<T>,
    reply: oneshot::Sender<Result<T>>,
}

impl<T: Send, F: FnMut(&mut Tx<'_>) -> Result<T, Fault> + Send> Work for Call<T, F> {
    fn weight(&self) -> usize {
        256
    }

    fn run(&mut self, tx: &mut Tx<'_>) -> Result<(), Fault> {
        self.value = Some((self.run)(tx)?);
        Ok(())
    }

    fn answer(self: Box<Self>, outcome: Result<()>) {
        let value = self.value;
        let _ = self.reply.send(outcome.and_then(|()| value.ok_or_else(ended)));
    }
}

/// Has a function called within a transaction.
pub(super) async fn call<T: Send + 'static>(inbox: &Inbox, run: impl FnMut(&mut Tx<'_>) -> Result<T, Fault> + Send + 'static) -> Result<T> {
    let (reply, answer) = oneshot::channel();
    inbox.push(Box::new(Call { run, value: None, reply })).map_err(|_| closed())?;
    answer.await.map_err(|_| ended())?
}

pub(super) fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the sqlite broker is closed")
}

/// The thread ended between the question and the answer.
pub(super) fn ended() -> Error {
    Error::new(ErrorKind::Unknown, "the sqlite broker ended before it answered")
}
