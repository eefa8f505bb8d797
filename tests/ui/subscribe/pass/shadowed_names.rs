// Names of the prelude, of the standard library and of our own mean something else here.
#![allow(dead_code, non_camel_case_types)]

use abe_events::{event, subscribe};

struct Option;
struct Vec;
struct Box;
struct Result;
enum Some {}
enum Ok {}
mod std {}
mod core {}
const resolver: u8 = 1;
const message: u8 = 1;
const meta: u8 = 1;

#[event(topic = "tick", key = 0)]
#[derive(Clone)]
pub struct Tick(u8);

#[event]
pub enum Any {
    Tick(Tick),
}

#[subscribe(filter = |tick| tick.0 > resolver + message + meta, idempotent(key = |tick| tick.0))]
async fn handle(_tick: &Tick, _context: abe_events::Context) -> ::core::result::Result<(), ::std::string::String> {
    ::core::result::Result::Ok(())
}

fn main() {}
