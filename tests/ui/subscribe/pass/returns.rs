use abe_events::{Batch, BatchOutcome, BoxError, Error, Outcome, event, subscribe};

#[event(topic = "a")]
#[derive(Clone)]
pub struct A;

#[event(topic = "b")]
pub struct B;

#[subscribe]
async fn outcome(_a: &A) -> Outcome {
    Outcome::ack()
}

#[subscribe]
async fn each(_a: Batch<A>) -> Result<BatchOutcome, BoxError> {
    Ok(BatchOutcome::others(Outcome::ack()))
}

#[subscribe]
async fn one(_a: &A) -> B {
    B
}

#[subscribe]
async fn two(_a: &A) -> Result<(A, B), String> {
    Ok((A, B))
}

#[subscribe]
async fn maybe(_a: &A) -> Result<Option<B>, Error> {
    Ok(None)
}

#[subscribe]
fn many(_a: &A) -> Vec<B> {
    Vec::new()
}

fn main() {}
