use std::sync::Arc;

use abe_events::{Incoming, event};

#[event(topic = "a")]
#[derive(Clone)]
pub struct A;

#[event(topic = "b")]
pub struct B;

#[event]
pub enum Any {
    A(A),
    B(Arc<B>),
}

fn main() {
    assert_eq!(Any::contracts().len(), 2);
}
