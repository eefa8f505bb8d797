//! Prints what is registered in this binary, and holds a build without SQLite to naming what it lacks.
#![forbid(unsafe_code)]
#![deny(warnings)]

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

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
    names_the_feature_it_lacks();
}

/// Only here is the library built without the feature: its own tests and examples have it.
fn names_the_feature_it_lacks() {
    let builder = bus::Runtime::builder().config(bus::config::Config::default()).url("sqlite://hunter2.db");
    // The URL is judged before anything is waited for.
    let mut start = pin!(builder.start());
    let Poll::Ready(Err(error)) = start.as_mut().poll(&mut Context::from_waker(Waker::noop())) else { panic!("it started") };
    let text = error.to_string();
    assert!(text.contains("feature `sqlite`") && !text.contains("hunter2"), "{text}");
}
