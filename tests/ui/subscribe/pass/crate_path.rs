mod facade {
    pub use abe_events as events;
}

#[facade::events::event(topic = "a", crate = crate::facade::events)]
pub struct A;

#[facade::events::subscribe(crate = crate::facade::events)]
async fn handle(_a: &A, _context: &facade::events::Context) {}

#[facade::events::subscribe(blocking, idempotent(key = |_| 1), crate = crate::facade::events)]
fn blocks(_a: &A) {}

fn main() {
    assert_eq!(facade::events::handlers![handle, blocks].len(), 2);
}
