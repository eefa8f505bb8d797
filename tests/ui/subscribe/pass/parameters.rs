use std::sync::Arc;

use abe_events::{Batch, Context, Headers, Message, Result, State, event, subscribe};

#[event(topic = "order")]
#[derive(Clone)]
pub struct Order;

pub struct Pool;

type Alias = Batch<Order>;

#[subscribe]
async fn by_value(_order: Order) {}

#[subscribe]
async fn by_reference(_order: &Order, _context: &Context) {}

#[subscribe]
async fn shared(_order: Arc<Order>, State(_pool): State<Pool>) {}

#[subscribe]
async fn shared_and_lent(_order: &Arc<Order>, _pool: &Pool) {}

#[subscribe]
async fn batch(_orders: Batch<Order>, _none: Option<State<u8>>, _headers: Headers) {}

#[subscribe]
async fn batch_lent(orders: &Alias) -> Result<()> {
    for _order in orders {}
    Ok(())
}

#[subscribe(topic = "order.>")]
async fn raw(_message: Message) {}

#[subscribe(topics = ["*", "a.*.b"])]
async fn raw_batch(_messages: Batch<Message>) {}

#[subscribe]
fn sync(_order: &Order, Pool: &Pool, mut context: Context) {
    context = context.clone();
    drop(context);
}

#[subscribe(blocking)]
fn blocks(_order: Order, _pool: &Pool) {}

fn main() {}
