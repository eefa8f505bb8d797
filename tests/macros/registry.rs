//! Registration: what the attributes leave in the binary.

use abe_events::__private::{linked_events, linked_handlers};

#[test]
fn what_is_declared_is_linked_and_sorted() {
    let events: Vec<_> = linked_events().iter().map(|event| (event.topic, event.version)).collect();
    assert!(events.is_sorted() && events.contains(&("order.created", 1)) && events.contains(&("order.created", 3)));
    let handlers: Vec<_> = linked_handlers().iter().map(|handler| handler.spec.name).collect();
    assert!(handlers.is_sorted() && handlers.contains(&"billing") && handlers.contains(&"macros::handlers::lends"));
}
