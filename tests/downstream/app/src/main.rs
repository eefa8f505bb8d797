//! Prints what is registered in this binary.
#![forbid(unsafe_code)]
#![deny(warnings)]

#[cfg(feature = "link")]
bus::link!(orders);

#[bus::event(topic = "tick", crate = bus)]
struct Tick;

#[bus::subscribe(name = "app.tick", crate = bus)]
fn tick(_tick: &Tick) {}

fn main() {
    for handler in bus::__private::linked_handlers() {
        println!("handler {}", handler.spec.name);
    }
    for event in bus::__private::linked_events() {
        println!("event {} v{}", event.topic, event.version);
    }
    for link in bus::__private::linked_crates() {
        println!("link {}", link.crates.join(" "));
    }
    assert_eq!(bus::handlers![tick].len(), 1);
}
