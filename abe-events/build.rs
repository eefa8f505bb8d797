//! Nothing to build: `links = "abe-events"` needs a build script to be legal.
//!
//! Two versions of this package in one binary would each own a registry, and half of the handlers
//! would be missing without a word. Cargo refuses a graph in which two packages share a `links` key.
fn main() {
    println!("cargo::rerun-if-changed=build.rs");
}
